//! The lab: pinned MCP servers, clients and verifiers that others wrote, against which the tests run.
//!
//! What is pinned, and why, stands in `crates/app/tests/lab/README.md`. Everything goes into one folder outside the
//! sources; nothing is installed for the whole machine except Python's `venv`, Git, Go, PostgreSQL, SoftHSM and cvc5 where
//! they are missing. Each part knows what it was made from: a change of one pin installs that part anew and no other.

pub(crate) mod conformance;
mod foreign;
mod node;
mod postgres;
mod softhsm;
mod solver;
mod witness;

use crate::{shell, workspace::Workspace};
use anyhow::{Context, Result, bail};
use std::{
    fs::{self, File},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

/// Tests find the lab through this variable; it also moves the lab when it is set before.
pub(crate) const VARIABLE: &str = "COUNTERSIGN_LAB";
/// Set to `1` it tells tests that there is no lab and that this is meant; without it they fail.
pub(crate) const LEFT_OUT: &str = "COUNTERSIGN_WITHOUT_LAB";

const PINS: &str = "crates/app/tests/lab";
/// One virtual environment each: servers and clients need one or the other major of the package `mcp`.
const ENVIRONMENTS: [&str; 3] = [MCP1, MCP2, node::ENVIRONMENT];
const MCP1: &str = "mcp1";
const MCP2: &str = "mcp2";
/// Those whose Python packages are pinned; [`foreign`] and [`witness`] install the last three.
const PINNED: [&str; 6] = [MCP1, MCP2, node::ENVIRONMENT, "tlog", "aics", "witness"];
/// Servers in Python: name and environment.
const PYTHON_SERVERS: [(&str, &str); 3] =
    [("mcp-server-git", MCP2), ("mcp-server-time", MCP2), ("mcp-server-sqlite", MCP1)];
/// Interpreters for the clients in Python: name and environment.
const PYTHONS: [(&str, &str); 2] = [("python-sdk", MCP1), ("python-sdk-2", MCP2)];
/// What [`foreign`] makes.
const VERIFIERS: [&str; 2] = ["go-tlog", "tlog-python"];
/// Raise it when this file lays the lab out differently.
const LAYOUT: u32 = 3;

pub(crate) fn command() -> Result<bool> {
    let root = Workspace::root()?;
    let lab = ensure(&root)?;
    println!("{VARIABLE}={}", lab.display());
    for program in all_programs() {
        println!("  bin/{program}");
    }
    Ok(true)
}

/// The lab's folder if it stands ready, without installing anything.
pub(crate) fn ready(root: &Path) -> Option<PathBuf> {
    let lab = place(root).ok()?;
    let stamp = stamp(root, &lab).ok()?;
    is_ready(&lab, &stamp).then_some(lab)
}

/// Installs what is missing and returns the lab's folder; quick when nothing is.
///
/// # Errors
/// When a program, a registry or the disk refuses, or a server does not answer the client.
pub(crate) fn ensure(root: &Path) -> Result<PathBuf> {
    let lab = place(root)?;
    fs::create_dir_all(&lab).with_context(|| format!("cannot make `{}`", lab.display()))?;
    let lock = File::create(lab.join("lock"))?;
    lock.lock().context("cannot lock the lab")?;
    system_packages()?;
    softhsm::install();
    solver::install();
    postgres::install();
    let stamp = stamp(root, &lab)?;
    if is_ready(&lab, &stamp) {
        return Ok(lab);
    }
    let pins = root.join(PINS);
    let _ = fs::remove_file(lab.join("stamp"));
    for name in ENVIRONMENTS {
        venv(Path::new("python3"), &lab, &pins, name)?;
    }
    remove_others(&lab)?;
    programs(&lab)?;
    node::install(&lab, &pins)?;
    foreign::install(root, &lab, &pins)?;
    witness::install(&lab, &pins)?;
    probe(&lab, &pins)?;
    fs::write(lab.join("stamp"), stamp)?;
    Ok(lab)
}

fn place(root: &Path) -> Result<PathBuf> {
    match std::env::var_os(VARIABLE) {
        Some(lab) if !lab.is_empty() => Ok(std::path::absolute(lab)?),
        _ => Ok(Workspace::read(root)?.target.join("lab")),
    }
}

/// All that the lab is made from. It is kept whole beside the lab and compared; a hash would say no more.
fn stamp(root: &Path, lab: &Path) -> Result<String> {
    let describe = "import sys; print(sys.executable, sys.version)";
    let python = shell::capture(Command::new("python3").args(["-c", describe]))?;
    let newer = foreign::python().map_or_else(|| "none".to_owned(), |python| python.display().to_string());
    let mut stamp = format!("layout {LAYOUT} in {}\n{python}{newer}\n", lab.display());
    let go = root.join(foreign::GO_PROGRAM);
    stamp.push_str(&fs::read_to_string(&go).with_context(|| format!("cannot read `{}`", go.display()))?);
    let names = PINNED.map(|name| format!("requirements-{name}.txt"));
    let others = ["package.json", "package-lock.json", "probe.py"];
    for name in names.iter().map(String::as_str).chain(others) {
        let text =
            fs::read_to_string(root.join(PINS).join(name)).with_context(|| format!("cannot read `{PINS}/{name}`"))?;
        stamp.push_str(&text);
    }
    Ok(stamp)
}

fn is_ready(lab: &Path, stamp: &str) -> bool {
    fs::read_to_string(lab.join("stamp")).is_ok_and(|found| found == stamp)
        && all_programs().all(|program| lab.join("bin").join(program).is_file())
}

fn all_programs() -> impl Iterator<Item = &'static str> {
    let python = PYTHON_SERVERS.iter().chain(&PYTHONS).map(|(name, _)| *name);
    python.chain(node::programs()).chain(VERIFIERS)
}

fn system_packages() -> Result<()> {
    let mut missing = Vec::new();
    if !shell::works(Command::new("python3").args(["-c", "import venv, ensurepip"])) {
        missing.extend(["python3", "python3-venv"]);
    }
    if !shell::works(Command::new("git").arg("--version")) {
        missing.push("git");
    }
    missing.extend(foreign::missing_packages());
    if missing.is_empty() {
        return Ok(());
    }
    apt(&missing).with_context(|| format!("the lab needs {}: install them by hand", missing.join(" ")))
}

fn apt(packages: &[&str]) -> Result<()> {
    println!("installing through apt-get: {}", packages.join(" "));
    let run = |args: &[&str]| {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").args(args);
        shell::run(&mut command)
    };
    run(&["update"])?;
    run(&[&["install", "-y", "--no-install-recommends"], packages].concat())
}

fn venv(python: &Path, lab: &Path, pins: &Path, name: &str) -> Result<()> {
    let folder = lab.join(format!("venv-{name}"));
    let requirements = pins.join(format!("requirements-{name}.txt"));
    let pinned =
        fs::read_to_string(&requirements).with_context(|| format!("cannot read `{}`", requirements.display()))?;
    let describe = "import sys; print(sys.executable, sys.version)";
    let made_from = shell::capture(Command::new(python).args(["-c", describe]))? + &pinned;
    part(&folder, &made_from, || {
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
        shell::run(pip.arg(&requirements))
    })
}

/// Environments of earlier layouts.
fn remove_others(lab: &Path) -> Result<()> {
    for entry in fs::read_dir(lab)? {
        let entry = entry?;
        let name = entry.file_name();
        let environment = name.to_str().and_then(|name| name.strip_prefix("venv-"));
        if environment.is_some_and(|environment| !PINNED.contains(&environment)) {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

/// Makes a folder anew, unless it was made at this place from the same before.
fn part(folder: &Path, made_from: &str, make: impl FnOnce() -> Result<()>) -> Result<()> {
    let made_from = format!("{}\n{made_from}", folder.display());
    let note = folder.join("made-from");
    if fs::read_to_string(&note).is_ok_and(|found| found == made_from) {
        return Ok(());
    }
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    make()?;
    Ok(fs::write(note, made_from)?)
}

/// One short script for each program, so that tests know neither interpreters nor versions. Each replaces itself
/// (`exec`): a signal sent to it reaches the server.
fn programs(lab: &Path) -> Result<()> {
    let bin = lab.join("bin");
    fs::create_dir_all(&bin)?;
    let within = |environment: &str, name: &str| lab.join(format!("venv-{environment}/bin/{name}"));
    for (name, environment) in PYTHON_SERVERS {
        // Through the interpreter: a path may be too long for the first line of a script.
        program(&bin.join(name), &[&within(environment, "python"), &within(environment, name)])?;
    }
    for (name, environment) in PYTHONS {
        program(&bin.join(name), &[&within(environment, "python")])?;
    }
    Ok(())
}

/// Makes a program that runs these words.
fn program(path: &Path, words: &[&Path]) -> Result<()> {
    fs::write(path, script(words)?)?;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o755))?)
}

fn script(words: &[&Path]) -> Result<String> {
    let mut line = String::from("#!/bin/sh\nexec");
    for word in words {
        let word = word.to_str().context("the lab's path is not UTF-8")?;
        if word.contains('\'') {
            bail!("the lab's path holds a quote: `{word}`");
        }
        line.push_str(&format!(" '{word}'"));
    }
    line.push_str(" \"$@\"\n");
    Ok(line)
}

/// One real session of the client with each server that needs no database server, before any test trusts the lab.
fn probe(lab: &Path, pins: &Path) -> Result<()> {
    let bin = lab.join("bin");
    let repository = lab.join("probe-repository");
    shell::run(Command::new("git").args(["init", "--quiet"]).arg(&repository))?;
    let database = lab.join("probe.sqlite");
    let sessions: [(&str, &[&Path]); 7] = [
        ("mcp-server-everything", &[Path::new("stdio")]),
        ("mcp-server-filesystem", &[lab]),
        ("mcp-server-memory", &[]),
        ("mcp-server-sequential-thinking", &[]),
        ("mcp-server-git", &[Path::new("--repository"), &repository]),
        ("mcp-server-time", &[]),
        ("mcp-server-sqlite", &[Path::new("--db-path"), &database]),
    ];
    for (server, args) in sessions {
        let mut client = Command::new(bin.join("python-sdk"));
        client.arg(pins.join("probe.py")).arg(bin.join(server)).args(args);
        let told = shell::capture(&mut client).with_context(|| format!("`{server}` does not answer"))?;
        println!("lab: {server}: {}", told.trim_end());
    }
    Ok(())
}
