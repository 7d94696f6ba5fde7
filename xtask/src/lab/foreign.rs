//! The part of the lab that judges our log: verifiers that others wrote, from PyPI and from Debian.
//!
//! Go's packages come from Debian, because its own module proxy is not reached everywhere; they are built in the old way,
//! from a folder. aics-tlog needs Python 3.12: where there is none the lab says so, loudly, and leaves a note for the test.

use super::{program, venv};
use crate::shell;
use anyhow::{Context, Result};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

const GO_SOURCES: &str = "/usr/share/gocode";
/// Part of what the lab is made from, as the pins are.
pub(super) const GO_PROGRAM: &str = "crates/ledger/tests/foreign/main.go";
/// The program that may be missing, and the file that then stands for it.
const AICS: &str = "aics-python";
const NEWER: &str = "import sys, venv, ensurepip; assert sys.version_info >= (3, 12); print(sys.executable)";

/// Debian packages that are missing for Go's verifier.
pub(super) fn missing_packages() -> Vec<&'static str> {
    let mut missing = Vec::new();
    if !shell::works(Command::new("go").arg("version")) {
        missing.push("golang-go");
    }
    if !Path::new(GO_SOURCES).join("src/golang.org/x/mod/sumdb/tlog").is_dir() {
        missing.push("golang-golang-x-mod-dev");
    }
    missing
}

/// Which Python aics-tlog would run on; part of the stamp, so that a newer one is taken up when it comes.
pub(super) fn python() -> Option<PathBuf> {
    let mut candidates: Vec<PathBuf> = ["python3", "python3.14", "python3.13", "python3.12"].map(PathBuf::from).into();
    // pyenv keeps its interpreters here, and its commands answer only for the version that is switched on.
    let pyenv = std::env::var_os("PYENV_ROOT")
        .map(PathBuf::from)
        .or_else(|| Some(Path::new(&std::env::var_os("HOME")?).join(".pyenv")));
    let versions = pyenv.and_then(|folder| fs::read_dir(folder.join("versions")).ok());
    let mut installed: Vec<PathBuf> =
        versions.into_iter().flatten().flatten().map(|entry| entry.path().join("bin/python3")).collect();
    installed.sort();
    candidates.append(&mut installed);
    let found = candidates.iter().find_map(|python| shell::capture(Command::new(python).args(["-c", NEWER])).ok());
    found.map(|path| path.trim_end().into())
}

/// Installs all of them.
pub(super) fn install(root: &Path, lab: &Path, pins: &Path) -> Result<()> {
    let bin = lab.join("bin");
    fs::create_dir_all(&bin)?;
    venv(Path::new("python3"), lab, pins, "tlog")?;
    let mut programs = vec![("tlog-python", lab.join("venv-tlog/bin/python"))];
    let absent = bin.join(format!("{AICS}.absent"));
    let _ = fs::remove_file(&absent);
    match python() {
        Some(python) => {
            venv(&python, lab, pins, "aics")?;
            programs.push((AICS, lab.join("venv-aics/bin/python")));
        }
        None => {
            let why = "aics-tlog needs Python 3.12 or later, and there is none here";
            eprintln!("\n*** LEFT OUT OF THE LAB: {why}; the test of that verifier is skipped ***\n");
            fs::write(absent, why)?;
        }
    }
    for (name, python) in programs {
        program(&bin.join(name), &[&python])?;
    }
    let mut go = Command::new("go");
    go.env("GO111MODULE", "off").env("GOPATH", GO_SOURCES).env("GOCACHE", lab.join("go-cache")).env("GOFLAGS", "");
    go.args(["build", "-o"]).arg(bin.join("go-tlog")).arg(root.join(GO_PROGRAM));
    shell::run(&mut go).context("Go's verifier cannot be built")
}
