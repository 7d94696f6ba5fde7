//! The kill switch: the epoch, the count of effects in flight, and the bound between them.
//!
//! An effect enters under the same lock under which a kill raises the epoch, so there is no moment
//! in which a killed caller can begin. [`KillSwitch::kill`] returns only when every effect in its
//! scope has left or its transport has been cut. It uses no async runtime, no ledger and no policy:
//! it works while those are dead. What it does not cover: bytes already in a kernel's socket buffer,
//! and what the upstream does with what it has already read; those effects are recorded `unknown`.

mod file;
pub mod plane;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use countersign_kernel::kill::KillState;
use countersign_model::Principal;
use countersign_model::record::KillScope;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::file::KillFile;
pub use self::file::KillFileError;
use crate::permit::{Cut, Stop};

/// How long a kill waits for effects to end by themselves before it cuts their transports.
pub const DRAIN_MS: u64 = 1_000;
/// How long a kill waits after cutting.
pub const CUT_MS: u64 = 1_000;
/// How many past kills are remembered to tell whether a permit minted before them is stale.
const RECENT_MAX: usize = 64;

/// One effect in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct EffectId(u64);

/// The switch. One for the whole process.
pub struct KillSwitch {
    inner: Mutex<Inner>,
    /// Signalled whenever an effect leaves.
    left: Condvar,
    /// The epoch, for who waits with nothing in flight. Sending needs no runtime.
    epochs: watch::Sender<u64>,
    file: KillFile,
}

struct Inner {
    state: KillState,
    recent: VecDeque<(u64, KillScope)>,
    next: u64,
    effects: BTreeMap<EffectId, InFlight>,
}

struct InFlight {
    principal: Principal,
    killed: CancellationToken,
    cut: Cut,
}

/// What a kill did, known when it is acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KillAck {
    /// What it covers.
    pub scope: KillScope,
    /// The epoch that began with it.
    pub epoch: u64,
    /// Effects that were in flight in its scope.
    pub cancelled: u64,
    /// Of those, how many had their transport cut by force.
    pub cut: u64,
    /// Milliseconds from the order to here.
    pub took_ms: u64,
    /// Why the state could not be saved, if it could not: the kill holds, but not over a restart.
    pub unsaved: Option<String>,
}

impl KillSwitch {
    /// Opens the switch with the state of its own file.
    ///
    /// # Errors
    /// Refuses a file that is there and cannot be read; a damaged file is taken as "everything is killed".
    pub fn open(path: &Path) -> Result<Self, KillFileError> {
        let file = KillFile::new(path);
        let state = file.read()?;
        let epochs = watch::Sender::new(state.epoch);
        Ok(Self {
            inner: Mutex::new(Inner { state, recent: VecDeque::new(), next: 0, effects: BTreeMap::new() }),
            left: Condvar::new(),
            epochs,
            file,
        })
    }

    /// The state as it is now.
    #[must_use]
    pub fn state(&self) -> KillState {
        self.lock().state.clone()
    }

    /// The epoch as it is now: a permit is minted under it.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.lock().state.epoch
    }

    /// How many effects are in flight.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.lock().effects.len()
    }

    /// Adds what the ledger knows to be killed, and what the file has come to know since it was read: neither alone
    /// can lift a kill, and an order that found no gateway yet wrote only the file.
    ///
    /// # Errors
    /// Where the file cannot be read or written; what was known holds all the same.
    pub fn merge(&self, recorded: &KillState) -> Result<(), KillFileError> {
        let mut inner = self.lock();
        inner.state.merge(recorded);
        self.file.exclusively(|file| {
            let known = file.read()?;
            inner.state.merge(&known);
            if known == inner.state { Ok(()) } else { file.write(&inner.state) }
        })
    }

    /// Kills in the file alone, where no gateway runs: it holds from the next start.
    ///
    /// # Errors
    /// Where the file cannot be read or written.
    pub fn kill_stopped(path: &Path, scope: &KillScope) -> Result<u64, KillFileError> {
        KillFile::new(path).exclusively(|file| {
            let mut state = file.read()?;
            let epoch = state.kill(scope.clone());
            file.write(&state)?;
            Ok(epoch)
        })
    }

    /// Stops everything in `scope`. Returns when nothing in it is in flight any more.
    pub fn kill(&self, scope: &KillScope) -> KillAck {
        let begun = Instant::now();
        let (epoch, cancelled, unsaved) = {
            let mut inner = self.lock();
            let epoch = inner.state.kill(scope.clone());
            self.epochs.send_replace(epoch);
            inner.recent.push_back((epoch, scope.clone()));
            while inner.recent.len() > RECENT_MAX {
                inner.recent.pop_front();
            }
            let tokens: Vec<_> = inner.in_scope(scope).map(|e| e.killed.clone()).collect();
            for token in &tokens {
                token.cancel();
            }
            let unsaved = self.file.write(&inner.state).err().map(|e| e.to_string());
            (epoch, tokens.len() as u64, unsaved)
        };
        let cut = self.drain(scope);
        KillAck {
            scope: scope.clone(),
            epoch,
            cancelled,
            cut,
            took_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
            unsaved,
        }
    }

    /// Lifts exactly `scope`, after a human's command for it is on record.
    ///
    /// # Errors
    /// Where the state cannot be saved: then nothing is lifted.
    pub(crate) fn lift(&self, scope: &KillScope) -> Result<(), KillFileError> {
        let mut inner = self.lock();
        let mut lifted = inner.state.clone();
        lifted.lift(scope);
        self.file.write(&lifted)?;
        inner.state = lifted;
        Ok(())
    }

    /// Checks and enters in one step.
    pub(crate) fn enter(
        &self,
        principal: &Principal,
        minted: u64,
        cut: Cut,
    ) -> Result<(EffectId, CancellationToken), Stop> {
        let mut inner = self.lock();
        if inner.state.covers(principal) || inner.killed_since(minted, principal) {
            return Err(Stop::Killed);
        }
        let id = EffectId(inner.next);
        inner.next = inner.next.saturating_add(1);
        let killed = CancellationToken::new();
        inner.effects.insert(id, InFlight { principal: principal.clone(), killed: killed.clone(), cut });
        Ok((id, killed))
    }

    /// Resolves once a kill covers the caller, or has covered it since the epoch `minted`.
    pub(crate) async fn killed(&self, principal: &Principal, minted: u64) {
        let mut epochs = self.epochs.subscribe();
        loop {
            {
                let inner = self.lock();
                if inner.state.covers(principal) || inner.killed_since(minted, principal) {
                    return;
                }
            }
            if epochs.changed().await.is_err() {
                return;
            }
        }
    }

    pub(crate) fn leave(&self, id: EffectId) {
        self.lock().effects.remove(&id);
        self.left.notify_all();
    }

    /// Waits until nothing in `scope` is in flight; cuts what stays. Returns how many were cut.
    fn drain(&self, scope: &KillScope) -> u64 {
        if self.wait_empty(scope, Duration::from_millis(DRAIN_MS)) {
            return 0;
        }
        let cuts: Vec<Cut> = self.lock().in_scope(scope).map(|e| e.cut.clone()).collect();
        for cut in &cuts {
            cut();
        }
        // A transport that is cut carries nothing more, whether or not its task has noticed yet.
        self.wait_empty(scope, Duration::from_millis(CUT_MS));
        cuts.len() as u64
    }

    fn wait_empty(&self, scope: &KillScope, bound: Duration) -> bool {
        let (inner, timeout) = self
            .left
            .wait_timeout_while(self.lock(), bound, |inner| inner.in_scope(scope).next().is_some())
            .unwrap_or_else(PoisonError::into_inner);
        drop(inner);
        !timeout.timed_out()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic elsewhere must not take the kill switch with it.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn in_scope<'a>(&'a self, scope: &'a KillScope) -> impl Iterator<Item = &'a InFlight> {
        self.effects.values().filter(move |effect| covers(scope, &effect.principal))
    }

    /// Whether a kill newer than `minted` covered the caller, even if it has been lifted again.
    fn killed_since(&self, minted: u64, principal: &Principal) -> bool {
        if self.state.epoch == minted {
            return false;
        }
        let forgotten = self.recent.front().is_none_or(|(oldest, _)| *oldest > minted.saturating_add(1));
        forgotten || self.recent.iter().any(|(epoch, scope)| *epoch > minted && covers(scope, principal))
    }
}

fn covers(scope: &KillScope, principal: &Principal) -> bool {
    match scope {
        KillScope::All => true,
        KillScope::Agent(agent) => *agent == principal.agent,
        KillScope::Run(run) => *run == principal.run,
    }
}

impl std::fmt::Debug for KillSwitch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KillSwitch(epoch {})", self.epoch())
    }
}
