//! What a child process is held to: the program and files that were pinned, and limits of what it may take.
//!
//! It reads what the configuration says and looks at no file: the check is made at every start of the child.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use super::raw;

/// What stands before a SHA-256 in hexadecimal.
pub(crate) const ALGORITHM: &str = "sha256:";

/// What a child process is held to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Guards {
    /// The SHA-256 of its program.
    pub(crate) program: Option<[u8; 32]>,
    /// Files besides, with their SHA-256: the script or package that the program runs.
    pub(crate) files: BTreeMap<PathBuf, [u8; 32]>,
    /// What it may take.
    pub(crate) limits: ChildLimits,
}

/// What a child process may take; whatever is not said has the gateway's own limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ChildLimits {
    /// Bytes of memory of its own.
    pub(crate) memory_bytes: Option<u64>,
    /// Open files and sockets.
    pub(crate) open_files: Option<u64>,
    /// Seconds of processor time.
    pub(crate) cpu_seconds: Option<u64>,
    /// Processes and threads of the gateway's user, all together.
    pub(crate) processes: Option<u64>,
}

impl ChildLimits {
    /// Each limit by the word that `countersign child` knows it by.
    pub(crate) fn words(&self) -> Vec<(&'static str, u64)> {
        let all = [
            ("--memory", self.memory_bytes),
            ("--open-files", self.open_files),
            ("--cpu-seconds", self.cpu_seconds),
            ("--processes", self.processes),
        ];
        all.into_iter().filter_map(|(word, value)| Some((word, value?))).collect()
    }
}

/// The guards of an upstream that is a child process.
pub(super) fn checked(upstream: &raw::Upstream, folder: &Path) -> Result<Guards> {
    let guards = Guards {
        program: upstream.pin.as_deref().map(|pin| digest(pin).context("in `pin`")).transpose()?,
        files: upstream
            .pin_files
            .iter()
            .map(|(file, pin)| {
                Ok((folder.join(file), digest(pin).with_context(|| format!("in `pin_files` of `{file}`"))?))
            })
            .collect::<Result<_>>()?,
        limits: upstream.limits.as_ref().map(limits).transpose()?.unwrap_or_default(),
    };
    if upstream.command.is_none() && guards != Guards::default() {
        bail!(
            "`pin`, `pin_files` and `limits` are for a `command`; what a `url` offers is pinned by `countersign tools accept`"
        );
    }
    Ok(guards)
}

fn digest(text: &str) -> Result<[u8; 32]> {
    let bytes = text.strip_prefix(ALGORITHM).and_then(crate::token_file::unhex);
    bytes.and_then(|bytes| bytes.try_into().ok()).with_context(|| {
        format!("`{text}` is no pin; write `{ALGORITHM}` and the 64 digits that `sha256sum FILE` prints")
    })
}

fn limits(raw: &raw::ChildLimits) -> Result<ChildLimits> {
    let memory_bytes = raw.memory.as_deref().map(bytes).transpose().context("in `limits: memory`")?;
    let limits = ChildLimits {
        memory_bytes,
        open_files: raw.open_files,
        cpu_seconds: raw.cpu_seconds,
        processes: raw.processes,
    };
    match limits.words().into_iter().find(|(_, value)| *value == 0) {
        Some((word, _)) => {
            bail!("`limits` gives `{}` of nothing; leave it out for no limit", word.trim_start_matches('-'))
        }
        None => Ok(limits),
    }
}

fn bytes(text: &str) -> Result<u64> {
    let explain = || format!("`{text}` is no size; write a number and KiB, MiB or GiB, such as `512MiB`");
    let (number, unit) = [("KiB", 1_u64 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)]
        .into_iter()
        .find_map(|(unit, bytes)| Some((text.strip_suffix(unit)?, bytes)))
        .with_context(explain)?;
    let number: u64 = number.trim().parse().with_context(explain)?;
    number.checked_mul(unit).with_context(explain)
}
