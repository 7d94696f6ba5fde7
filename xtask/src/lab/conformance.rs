//! The part of the lab that judges the protocol: the official conformance suite, and the Node that it runs on.
//!
//! It is installed when it is asked for, apart from the rest, so that `cargo xtask conformance` needs nothing else of the
//! lab. Its pins lie in a folder of their own, for no server may come to share its packages.

use super::{PINS, node, place, venv};
use crate::shell;
use anyhow::{Context, Result};
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

const FOLDER: &str = "conformance";
const PACKAGE: &str = "node_modules/@modelcontextprotocol/conformance";

/// Where the suite lies.
#[derive(Clone, Debug)]
pub(crate) struct Suite {
    pub(crate) node: PathBuf,
    pub(crate) script: PathBuf,
    /// As the package says.
    pub(crate) version: String,
}

/// Installs the suite if it is not there as pinned.
///
/// # Errors
/// When a program, a registry or the disk refuses.
pub(crate) fn ensure(root: &Path) -> Result<Suite> {
    let lab = place(root)?;
    let folder = lab.join(FOLDER);
    fs::create_dir_all(&folder).with_context(|| format!("cannot make `{}`", folder.display()))?;
    let lock = File::create(lab.join("lock"))?;
    lock.lock().context("cannot lock the lab")?;
    let pins = root.join(PINS);
    let stamp = stamp(&pins)?;
    let is_ready = fs::read_to_string(folder.join("stamp")).is_ok_and(|found| found == stamp);
    venv(Path::new("python3"), &lab, &pins, node::ENVIRONMENT)?;
    let node = node::wheel(&lab)?;
    if !is_ready {
        install(&folder, &pins, &node)?;
        fs::write(folder.join("stamp"), stamp)?;
    }
    let package = folder.join(PACKAGE);
    let told = fs::read_to_string(package.join("package.json")).context("the suite is not where it should be")?;
    let told: serde_json::Value = serde_json::from_str(&told)?;
    let version = told.get("version").and_then(serde_json::Value::as_str).context("the suite has no version")?;
    Ok(Suite { node: node.join("bin/node"), script: package.join("dist/index.js"), version: version.to_owned() })
}

fn stamp(pins: &Path) -> Result<String> {
    ["package.json", "package-lock.json"]
        .iter()
        .map(|name| {
            let path = pins.join(FOLDER).join(name);
            fs::read_to_string(&path).with_context(|| format!("cannot read `{}`", path.display()))
        })
        .collect()
}

fn install(folder: &Path, pins: &Path, node: &Path) -> Result<()> {
    for name in ["package.json", "package-lock.json"] {
        fs::copy(pins.join(FOLDER).join(name), folder.join(name))?;
    }
    let mut npm = Command::new(node.join("bin/node"));
    npm.current_dir(folder).arg(node.join("lib/node_modules/npm/bin/npm-cli.js"));
    // What npm says goes where other progress goes: standard output is for tables.
    npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]).stdout(std::io::stderr());
    shell::run(&mut npm)
}
