//! Guards of child processes at work: pinned files compared at every start, limits set before the program begins, and
//! what becomes of upstreams on record and in a file that `tools list` reads.
//!
//! A process sets limits on itself and then becomes the program (`countersign child`). So they hold from its first
//! instruction on and for all that it starts, which limits set from outside after the start would not. Between the
//! comparison of a file and its execution whoever may write that file could exchange it: pin files that the gateway's user
//! cannot write. It must not know how an upstream is spoken to.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};
use countersign_gate::Gate;
use countersign_model::action::Point;
use countersign_model::id::UpstreamId;
use countersign_model::{Reason, ReasonCode};
use countersign_points::mcp::guard::{Check, Ear, Guard, Launcher, UpstreamState};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use crate::config::{ALGORITHM, Guards, Upstream};
use crate::context::wall;
use crate::layout::Layout;
use crate::token_file::hex;

const CHUNK_BYTES: usize = 64 * 1024;
/// Changes of state that wait to be told.
const STATES_QUEUE: usize = 256;

/// The guard of an upstream whose program is `program`.
pub(crate) fn guard(upstream: &Upstream, program: &Path, ear: Option<Ear>) -> Guard {
    Guard { check: check(&upstream.guards, program), launcher: launcher(&upstream.guards), ear }
}

/// Compares every pinned file; nothing is started where one is another.
fn check(guards: &Guards, program: &Path) -> Option<Check> {
    let own = guards.program.map(|pin| (program.to_owned(), pin));
    let pins: Vec<(PathBuf, [u8; 32])> = own.into_iter().chain(guards.files.clone()).collect();
    if pins.is_empty() {
        return None;
    }
    Some(Arc::new(move || pins.iter().try_for_each(|(path, pin)| compare(path, pin))))
}

fn compare(path: &Path, pin: &[u8; 32]) -> Result<(), String> {
    let found = digest(path).map_err(|error| format!("{error:#}"))?;
    if found == *pin {
        return Ok(());
    }
    Err(format!(
        "`{}` is {ALGORITHM}{}, and {ALGORITHM}{} is pinned; if that is meant, pin it and run `countersign policy activate`",
        path.display(),
        hex(&found),
        hex(pin)
    ))
}

/// The SHA-256 of a file.
pub(crate) fn digest(path: &Path) -> Result<[u8; 32]> {
    let cannot = || format!("cannot read the pinned file `{}`", path.display());
    let mut file = File::open(path).with_context(cannot)?;
    let mut hash = Sha256::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let count = file.read(&mut chunk).with_context(cannot)?;
        if count == 0 {
            return Ok(hash.finalize().into());
        }
        hash.update(chunk.get(..count).unwrap_or_default());
    }
}

/// How a child is started under limits: through this very program, whatever lies at its path by now.
fn launcher(guards: &Guards) -> Option<Launcher> {
    let words = guards.limits.words();
    if words.is_empty() {
        return None;
    }
    let limits = words.into_iter().map(|(word, value)| format!("{word}={value}"));
    let args = ["child".to_owned()].into_iter().chain(limits).chain(["--".to_owned()]).collect();
    Some(Launcher { program: "/proc/self/exe".into(), args })
}

/// The program of a command as the system would find it: a bare name is looked up in `PATH`.
pub(crate) fn found(program: PathBuf) -> PathBuf {
    if program.components().count() > 1 {
        return program;
    }
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&folders).map(|folder| folder.join(&program)).find(|path| path.is_file());
    found.unwrap_or(program)
}

/// What becomes of the upstreams of a running gateway.
pub(crate) struct States {
    told: mpsc::Sender<(UpstreamId, UpstreamState)>,
}

impl States {
    /// Follows states until all ears are gone: what was refused or given up goes on record, and all of it into a file.
    pub(crate) fn follow(gate: &Gate, layout: &Layout) -> Self {
        let (told, mut hears) = mpsc::channel(STATES_QUEUE);
        let (gate, path) = (gate.clone(), layout.upstreams());
        tokio::spawn(async move {
            let mut known: BTreeMap<UpstreamId, Value> = BTreeMap::new();
            while let Some((upstream, state)) = hears.recv().await {
                record(&gate, &upstream, &state).await;
                known.insert(upstream, described(&state));
                if let Err(error) = write(&path, &known) {
                    tracing::warn!("{error:#}");
                }
            }
        });
        Self { told }
    }

    /// The ear of one upstream. The same state twice in a row is told once.
    pub(crate) fn ear(&self, upstream: &UpstreamId) -> Ear {
        let (told, upstream) = (self.told.clone(), upstream.clone());
        let last = Mutex::new(None);
        Arc::new(move |state: UpstreamState| {
            let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
            if last.as_ref() != Some(&state) {
                *last = Some(state.clone());
                // A queue that is full holds later news of the same.
                let _ = told.try_send((upstream.clone(), state));
            }
        })
    }
}

/// Puts on record what a human has to look at.
pub(crate) async fn record(gate: &Gate, upstream: &UpstreamId, state: &UpstreamState) {
    let code = match state {
        UpstreamState::Refused { .. } => ReasonCode::UpstreamRefused,
        UpstreamState::GivenUp { .. } => ReasonCode::UpstreamUnavailable,
        UpstreamState::Up | UpstreamState::Down { .. } => return,
    };
    let why = state.why().unwrap_or("it ends whenever it is started");
    gate.refuse(Point::Mcp, None, Reason::because(code, &format!("upstream `{upstream}`: {why}"))).await;
}

fn described(state: &UpstreamState) -> Value {
    let failures = match state {
        UpstreamState::Down { failures, .. } | UpstreamState::GivenUp { failures, .. } => *failures,
        UpstreamState::Up | UpstreamState::Refused { .. } => 0,
    };
    json!({"state": state.as_str(), "since_ms": wall().0, "failures": failures, "why": state.why()})
}

fn write(path: &Path, known: &BTreeMap<UpstreamId, Value>) -> Result<()> {
    let states: BTreeMap<&str, &Value> = known.iter().map(|(upstream, state)| (upstream.as_str(), state)).collect();
    let aside = path.with_extension("new");
    std::fs::write(&aside, serde_json::to_string(&states)?)
        .and_then(|()| std::fs::rename(&aside, path))
        .with_context(|| format!("cannot write `{}`", path.display()))
}

/// The states that a running gateway told last, by upstream; none where none runs.
pub(crate) fn states(layout: &Layout) -> BTreeMap<String, Value> {
    let text = std::fs::read_to_string(layout.upstreams()).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}
