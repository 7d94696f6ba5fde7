//! The machine: what it is, how busy it is, and how fast its disk syncs at this moment.
//!
//! Facts that cannot be had are shown as unknown; they decide nothing.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::figures::median;

const PROBES: usize = 50;
const PROBE_BYTES: usize = 1_024;

/// Where something was measured.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Machine {
    /// Processors that may be used.
    pub(crate) cores: usize,
    /// Their model.
    pub(crate) processor: String,
    /// The kernel's release.
    pub(crate) kernel: String,
    /// The type of the file system that the ledger lies on.
    pub(crate) file_system: String,
    /// The commit that was measured, as far as git knows.
    pub(crate) commit: String,
}

impl Machine {
    /// The facts of this machine and of the file system below `folder`.
    pub(crate) fn look(folder: &Path) -> Self {
        let unknown = || "unknown".to_owned();
        Self {
            cores: std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
            processor: processor().unwrap_or_else(unknown),
            kernel: std::fs::read_to_string("/proc/sys/kernel/osrelease")
                .map_or_else(|_| unknown(), |text| text.trim().to_owned()),
            file_system: file_system(folder).unwrap_or_else(unknown),
            commit: commit().unwrap_or_else(unknown),
        }
    }
}

/// The one-minute load average.
pub(crate) fn load() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().and_then(|load| load.parse().ok()).unwrap_or(f64::NAN)
}

/// The median time of appending 1 KiB to a file in `folder` and syncing it, in milliseconds.
pub(crate) fn probe_ms(folder: &Path) -> Result<f64> {
    let path = folder.join("sync-probe");
    let mut file = File::create(&path).with_context(|| format!("cannot create `{}`", path.display()))?;
    let mut took = Vec::with_capacity(PROBES);
    for _ in 0..PROBES {
        let begun = Instant::now();
        file.write_all(&[0x5a; PROBE_BYTES])?;
        file.sync_data()?;
        took.push(begun.elapsed().as_secs_f64() * 1_000.0);
    }
    std::fs::remove_file(path)?;
    Ok(median(took))
}

fn processor() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// The file system with the longest mount point above `folder` (`proc(5)`, mountinfo).
fn file_system(folder: &Path) -> Option<String> {
    let folder = folder.canonicalize().ok()?;
    let text = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    let mounts = text.lines().filter_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let point = left.split(' ').nth(4)?;
        folder.starts_with(point).then(|| (point.len(), right.split(' ').next().unwrap_or_default().to_owned()))
    });
    mounts.max_by_key(|(length, _)| *length).map(|(_, kind)| kind)
}

fn commit() -> Option<String> {
    let git = |args: &[&str]| {
        let output = Command::new("git").args(args).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| text.trim().to_owned())
    };
    let hash = git(&["rev-parse", "--short=12", "HEAD"])?;
    let changed = git(&["status", "--porcelain"])?;
    Some(if changed.is_empty() { hash } else { format!("{hash} with uncommitted changes") })
}
