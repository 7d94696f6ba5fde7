//! Hands over to the benchmark program, built for release. It measures nothing itself.

use crate::{shell, workspace::Workspace};
use anyhow::Result;

/// The package whose binary measures; it prints the figures that the issues name.
const PACKAGE: &str = "countersign-bench";

pub(crate) fn command(args: &[&str]) -> Result<bool> {
    let root = Workspace::root()?;
    let status = shell::cargo(&root)
        .args(["run", "--release", "-p", PACKAGE, "--"])
        .args(args)
        .status()?;
    Ok(status.success())
}
