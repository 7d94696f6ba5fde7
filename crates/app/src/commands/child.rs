//! `child`: sets limits on itself and becomes the program. What it becomes, and all that starts, cannot lift them.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::{Context as _, Result};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::cli::Child;

/// Runs the command; comes back only where it fails.
pub(crate) fn run(child: &Child) -> Result<std::convert::Infallible> {
    // Of memory it is what the process keeps for itself that counts: runtimes reserve far more addresses than they use.
    let limits = [
        (Resource::Data, child.memory),
        (Resource::Nofile, child.open_files),
        (Resource::Cpu, child.cpu_seconds),
        (Resource::Nproc, child.processes),
    ];
    for (resource, value) in limits {
        if let Some(value) = value {
            limit(resource, value)?;
        }
    }
    let (program, arguments) = child.command.split_first().context("an empty command")?;
    let error = Command::new(program).args(arguments).exec();
    Err(error).with_context(|| format!("`{}` does not start", program.display()))
}

/// Lowers a limit; one that is lower already stays.
fn limit(resource: Resource, value: u64) -> Result<()> {
    let lowest = getrlimit(resource).maximum.map_or(value, |there| there.min(value));
    setrlimit(resource, Rlimit { current: Some(lowest), maximum: Some(lowest) })
        .with_context(|| format!("the limit {resource:?} cannot be set to {lowest}"))
}
