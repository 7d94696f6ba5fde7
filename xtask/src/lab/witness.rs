//! The part of the lab that witnesses our log: aics-witness, which others wrote, from PyPI.
//!
//! It needs Python 3.12. Where there is none the lab says so, loudly; the test that uses it then fails unless
//! `COUNTERSIGN_WITHOUT_WITNESS=1` says that this is meant.

use super::{foreign::python, script};
use crate::shell;
use anyhow::Result;
use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command};

/// Its packages, pinned.
pub(super) const PINNED: &str = "requirements-witness.txt";
const PROGRAM: &str = "aics-witness";

/// Installs it, or says why not.
pub(super) fn install(lab: &Path, pins: &Path) -> Result<()> {
    let path = lab.join("bin").join(PROGRAM);
    let _ = fs::remove_file(&path);
    let Some(python) = python() else {
        eprintln!(
            "\n*** LEFT OUT OF THE LAB: {PROGRAM} needs Python 3.12 or later, and there is none here. Install one and run \
             this again; else its test fails unless COUNTERSIGN_WITHOUT_WITNESS=1 is set ***\n"
        );
        return Ok(());
    };
    let folder = lab.join("venv-witness");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    shell::run(Command::new(python).args(["-m", "venv"]).arg(&folder))?;
    let mut pip = Command::new(folder.join("bin/python"));
    pip.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-input",
        "--disable-pip-version-check",
        "--require-hashes",
        "-r",
    ]);
    shell::run(pip.arg(pins.join(PINNED)))?;
    fs::write(&path, script(&[&folder.join("bin").join(PROGRAM)])?)?;
    Ok(fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?)
}
