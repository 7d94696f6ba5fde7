//! Hands over to the benchmark program, built as a release is, beside the gateway that it starts. It measures nothing itself.

use crate::{shell, workspace::Workspace};
use anyhow::Result;
use std::process::Command;

/// The package whose binary measures; it prints the figures that the issues name.
const PACKAGE: &str = "countersign-bench";
/// What releases are built with.
const PROFILE: &str = "dist";
/// The package of the gateway; its binary ends up beside the other's, which looks for it there.
const GATEWAY: &str = "countersign-app";

pub(crate) fn command(args: &[&str]) -> Result<bool> {
    let root = Workspace::root()?;
    let mut build = shell::cargo(&root);
    build.args(["build", "--profile", PROFILE, "-p", PACKAGE]);
    // The ledger, policy and windows are measured inside the benchmark's own process.
    if !matches!(args.first(), Some(&"ledger" | &"policy" | &"windows")) {
        build.args(["-p", GATEWAY]);
    }
    if args.first() == Some(&"policy") {
        build.args(["--features", "countersign-bench/rego"]);
    }
    shell::run(&mut build)?;
    let folder = Workspace::read(&root)?.target.join(PROFILE);
    let status = Command::new(folder.join(PACKAGE)).args(args).current_dir(&root).status()?;
    Ok(status.success())
}
