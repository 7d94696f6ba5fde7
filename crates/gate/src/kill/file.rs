//! The kill state's own file: small, synced, readable by a person.
//!
//! Written to a temporary file, synced, renamed, and its folder synced. A file that is damaged or
//! cut short reads as "everything is killed": damage must not resume anything.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use countersign_kernel::kill::KillState;
use countersign_model::id::{AgentId, RunId};
use countersign_model::record::KillScope;

const TITLE: &str = "countersign kill v1";
const BYTES_MAX: u64 = 1 << 20;
const LOCK_TRIES: usize = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(5);

/// Why the file could not be used.
#[derive(Debug, thiserror::Error)]
#[error("the kill state `{path}` cannot be {deed}: {source}; check that the folder is there and writable")]
pub struct KillFileError {
    path: String,
    deed: &'static str,
    source: io::Error,
}

pub(super) struct KillFile {
    path: PathBuf,
}

impl KillFile {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    pub(super) fn read(&self) -> Result<KillState, KillFileError> {
        let length = match fs::metadata(&self.path) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(KillState::default()),
            Err(error) => return Err(self.error("read", error)),
        };
        if length > BYTES_MAX {
            return Ok(everything());
        }
        let bytes = fs::read(&self.path).map_err(|error| self.error("read", error))?;
        Ok(String::from_utf8(bytes).ok().and_then(|text| parse(&text)).unwrap_or_else(everything))
    }

    /// Runs `work` while no other process does the same. Who holds the lock for long does not hold up a kill:
    /// after a moment the work is done without it.
    pub(super) fn exclusively<T>(&self, work: impl FnOnce(&Self) -> T) -> T {
        let path = self.path.with_extension("lock");
        let lock = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path).ok();
        for _ in 0..LOCK_TRIES {
            if lock.as_ref().is_none_or(|lock| lock.try_lock().is_ok()) {
                break;
            }
            std::thread::sleep(LOCK_PAUSE);
        }
        let done = work(self);
        drop(lock);
        done
    }

    pub(super) fn write(&self, state: &KillState) -> Result<(), KillFileError> {
        self.replace(render(state).as_bytes()).map_err(|error| self.error("written", error))
    }

    fn replace(&self, bytes: &[u8]) -> io::Result<()> {
        let aside = self.path.with_extension("new");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&aside, &self.path)?;
        match self.path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => File::open(folder)?.sync_all(),
            _ => File::open(".")?.sync_all(),
        }
    }

    fn error(&self, deed: &'static str, source: io::Error) -> KillFileError {
        KillFileError { path: self.path.display().to_string(), deed, source }
    }
}

/// What a damaged file means.
fn everything() -> KillState {
    let mut state = KillState::default();
    state.kill(KillScope::All);
    state
}

pub(super) fn render(state: &KillState) -> String {
    let mut out = format!("{TITLE}\nepoch {}\n", state.epoch);
    for scope in &state.scopes {
        out.push_str(&super::plane::scope_words(scope));
        out.push('\n');
    }
    out.push_str("end\n");
    out
}

pub(super) fn parse(text: &str) -> Option<KillState> {
    let mut lines = text.strip_suffix("end\n")?.lines();
    if lines.next()? != TITLE {
        return None;
    }
    let epoch = lines.next()?.strip_prefix("epoch ")?.parse().ok()?;
    let mut state = KillState { epoch, ..KillState::default() };
    for line in lines {
        state.scopes.insert(parse_scope(line)?);
    }
    Some(state)
}

/// `all`, `agent NAME` or `run ID`.
pub(super) fn parse_scope(line: &str) -> Option<KillScope> {
    match line.split_once(' ') {
        None if line == "all" => Some(KillScope::All),
        Some(("agent", agent)) => AgentId::new(agent).ok().map(KillScope::Agent),
        Some(("run", run)) => RunId::new(run).ok().map(KillScope::Run),
        _ => None,
    }
}
