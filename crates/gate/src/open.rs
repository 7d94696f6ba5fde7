//! Opening the gate: the ledger is read, the kernel refolded from it, and only then is there service.
//!
//! Recovery walks the normal path: every record goes through the kernel that would have made it, from the first one or
//! from a snapshot of the same fold.

use std::sync::{Arc, Mutex, OnceLock};

use countersign_kernel::identity::TokenKey;
use countersign_kernel::{Event, Settings};
use countersign_ledger::{AppendError, Ledger, OpenError, Recovered, Signer, Store, Vault, VaultError};
use countersign_model::record::Status;
use countersign_model::unit::Bytes;
use countersign_model::{Body, Record, TimeMs};

use crate::Gate;
use crate::catalog::{Catalog, DigestKey};
use crate::clock::{Clock, Entropy};
use crate::continuation::StateKey;
use crate::identity::Identities;
use crate::kill::{KillFileError, KillSwitch};
use crate::policies::{Evaluate, Policies, Reload};
use crate::prune::Pruning;
use crate::snapshots::{Refold, SnapshotRules, Snapshots};
use crate::state::Inner;
use crate::tick::Anchor;
use crate::ticket::Tickets;
use crate::witness::{Trouble, Witnesses, Witnessing};

/// What a gate is made of.
pub struct Parts {
    /// Where the ledger lies.
    pub store: Store,
    /// Its bounds.
    pub ledger: countersign_ledger::Config,
    /// Who signs it; the ledger's own key if nobody else does.
    pub signer: Option<Arc<dyn Signer>>,
    /// The kernel's settings.
    pub settings: Settings,
    /// When snapshots of its state are taken.
    pub snapshots: SnapshotRules,
    /// What answers questions of the policy that the settings name.
    pub policy: Arc<dyn Evaluate>,
    /// Where another policy comes from while the gate runs; without it a change needs a restart.
    pub reload: Option<Arc<dyn Reload>>,
    /// What the operator declared.
    pub catalog: Catalog,
    /// The kill switch, open already: it must work before and without the rest.
    pub switch: Arc<KillSwitch>,
    /// The root key of tokens.
    pub token_key: TokenKey,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
    /// How long an evaluation may take, in milliseconds; then it is a denial.
    pub evaluation_ms: u64,
    /// Who vouches for the log. Where there is anyone, opening needs a tokio runtime around it.
    pub witnesses: Witnessing,
}

/// Why there is no gate.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    /// The ledger cannot be opened.
    #[error(transparent)]
    Ledger(#[from] OpenError),
    /// The kill state cannot be kept.
    #[error(transparent)]
    Kill(#[from] KillFileError),
    /// A witness has seen another log than the one on this disk.
    #[error(
        "witness `{name}`: {trouble}: restore the newest copy of the ledger and find out who set it back; if records \
             are really lost, start a new ledger and keep this one, and the witness's state, as evidence"
    )]
    Witness {
        /// Its name in the configuration.
        name: String,
        /// What it has seen.
        trouble: Trouble,
    },
    /// The start cannot be recorded.
    #[error("the start could not be recorded: {0}")]
    Unrecorded(#[from] AppendError),
    /// No keys can be made for payloads.
    #[error("the vault cannot make keys: {0}")]
    Vault(#[from] VaultError),
    /// An erasure that was ordered cannot be finished.
    #[error("an erasure that is ordered on record cannot be finished: {0}")]
    Erasure(String),
    /// The log does not begin where its records say.
    #[error("{0}: restore the ledger's newest copy; nothing was changed")]
    Begin(String),
    /// What was pruned cannot be deleted.
    #[error("a pruning that is on record cannot be finished: {0}")]
    Pruning(String),
}

impl Gate {
    /// Opens the ledger, refolds the kernel, records the start. Blocks: call it where a thread may.
    ///
    /// # Errors
    /// [`GateError`], with the remedy; then nothing is served.
    pub fn open(parts: Parts) -> Result<(Self, Recovered), GateError> {
        let vault = Arc::new(Vault::open(&parts.store)?);
        let policies = Policies::new((parts.settings.policy, parts.policy), parts.reload);
        let mut refold = Refold::new(parts.settings, Arc::clone(&vault));
        let (ledger, recovered) = match parts.signer {
            Some(signer) => Ledger::resume_with(&parts.store, parts.ledger, signer, &mut refold)?,
            None => Ledger::resume(&parts.store, parts.ledger, &mut refold)?,
        };
        let witnesses = Arc::new(Witnesses::new(parts.witnesses, &ledger));
        // Before anything is recorded: a log that was set back must not grow again.
        if let Err(error) = witnesses.check(&ledger) {
            let _ = ledger.close();
            return Err(error);
        }
        let pruning = match Pruning::left(&refold.kernel, &ledger) {
            Ok(pruning) => pruning,
            Err(why) => {
                let _ = ledger.close();
                return Err(GateError::Begin(why));
            }
        };
        let resumed_at = refold.resumed_at();
        let kernel = refold.kernel;
        parts.switch.merge(kernel.kills())?;
        let snapshots = Snapshots::new(parts.snapshots, &ledger, (kernel.clone(), resumed_at), Arc::clone(&vault));
        let anchor = Anchor { wall_ms: parts.clock.wall().0, monotonic_ms: parts.clock.monotonic_ms() };
        let tickets = Tickets::of(&kernel);
        let gate = Self(Arc::new(Inner {
            kernel: Mutex::new(kernel),
            ledger,
            vault,
            erasing: Default::default(),
            reopened: Default::default(),
            policies,
            catalog: parts.catalog,
            switch: parts.switch,
            digest_key: DigestKey::of(&parts.token_key.to_bytes()),
            state_key: StateKey::of(&parts.token_key.to_bytes()),
            identities: Identities::new(parts.token_key),
            clock: parts.clock,
            entropy: parts.entropy,
            evaluation_ms: parts.evaluation_ms,
            refusals: Default::default(),
            tickets,
            stalled: Default::default(),
            challenges: Default::default(),
            next_key: Default::default(),
            ticks: Mutex::new(anchor),
            snapshots,
            unknown_at_start: OnceLock::new(),
            witnesses,
        }));
        if let Err(error) = gate.begin(&recovered, &pruning) {
            // The ledger's threads and lock must not outlive a failed start.
            let _ = gate.ledger().close();
            return Err(error);
        }
        gate.0.witnesses.start(gate.ledger());
        Ok((gate, recovered))
    }

    fn begin(&self, recovered: &Recovered, pruning: &Pruning) -> Result<(), GateError> {
        pruning.finish(self.ledger()).map_err(|error| GateError::Pruning(error.to_string()))?;
        self.vault().refill()?;
        self.record_start(recovered)?;
        self.finish_erasures().map_err(GateError::Erasure)
    }

    fn record_start(&self, recovered: &Recovered) -> Result<(), GateError> {
        let mut recordings = Vec::new();
        if let Some(cut) = &recovered.cut {
            let gap = Event::Gap { size: recovered.head.size, bytes: Bytes(cut.bytes) };
            recordings.extend(self.step(gap).others);
        }
        let started = Event::Started { kill: self.switch().state() };
        recordings.extend(self.step(started).others);
        let is_unknown =
            |record: &Record| matches!(&record.body, Body::Outcome(outcome) if outcome.status == Status::Unknown);
        let unknown = recordings.iter().filter(|recording| is_unknown(&recording.record)).count() as u64;
        for recording in recordings {
            recording.pending.wait()?;
        }
        // It is set once, here.
        let _ = self.0.unknown_at_start.set(unknown);
        Ok(())
    }

    /// How many intents were found without an outcome when the gate was opened: now on record as `unknown`.
    #[must_use]
    pub fn unknown_at_start(&self) -> u64 {
        self.0.unknown_at_start.get().copied().unwrap_or(0)
    }

    /// Records the end and closes the ledger. Blocks: call it where a thread may.
    ///
    /// # Errors
    /// Where the ledger had failed.
    pub fn close(&self) -> Result<(), AppendError> {
        let mut stopped = Ok(());
        let mut record = |event| {
            for recording in self.step(event).others {
                let recorded = recording.pending.wait().map(drop);
                stopped = stopped.clone().and(recorded);
            }
        };
        self.counted_refusals().into_iter().for_each(&mut record);
        self.snapshot_at_stop();
        record(Event::Stopped);
        self.0.witnesses.stop();
        // Whatever became of the record: threads end, the mark is synced and the lock is released.
        let closed = self.ledger().close();
        stopped.and(closed)
    }

    /// The kernel's time: never goes back.
    #[must_use]
    pub fn now(&self) -> TimeMs {
        self.kernel().now().max(self.clock().wall())
    }
}
