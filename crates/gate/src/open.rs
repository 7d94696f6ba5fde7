//! Opening the gate: the ledger is read, the kernel refolded from it, and only then is there service.
//!
//! Recovery walks the normal path: every record goes through the kernel that would have made it.

use std::sync::{Arc, Mutex};

use countersign_kernel::identity::TokenKey;
use countersign_kernel::{Event, Kernel, Settings};
use countersign_ledger::{AppendError, Ledger, OpenError, Recovered, Store, VisitError};
use countersign_model::payload::ActionPayload;
use countersign_model::unit::{Bytes, LeafIndex};
use countersign_model::{Digest, Record, TimeMs};
use countersign_receipt::merkle::leaf_hash;

use crate::Gate;
use crate::catalog::Catalog;
use crate::clock::{Clock, Entropy};
use crate::identity::Identities;
use crate::kill::{KillFileError, KillSwitch};
use crate::state::{Evaluate, Inner};
use crate::tick::Anchor;

/// What a gate is made of.
pub struct Parts {
    /// Where the ledger lies.
    pub store: Store,
    /// Its bounds.
    pub ledger: countersign_ledger::Config,
    /// The kernel's settings.
    pub settings: Settings,
    /// What answers questions of policy.
    pub policy: Arc<dyn Evaluate>,
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
    /// The start cannot be recorded.
    #[error("the start could not be recorded: {0}")]
    Unrecorded(#[from] AppendError),
}

/// Refolds a kernel from a ledger that is being opened.
struct Refold {
    kernel: Kernel,
}

impl Refold {
    fn visit(&mut self, stored: countersign_ledger::Record<'_>) -> Result<(), VisitError> {
        let record = Record::from_leaf(stored.leaf)
            .map_err(|error| VisitError::new(format!("record `{}`: {error}", stored.index)))?;
        // An erased payload is no error: what waited for it is gone, and fails closed.
        let payload = stored.payload.and_then(|bytes| ActionPayload::decode(bytes).ok());
        let event = Event::Recovered {
            leaf: LeafIndex(stored.index),
            leaf_hash: Digest(*leaf_hash(stored.leaf).as_bytes()),
            payload,
            record,
        };
        // Time is the record's own: the kernel takes the later of both.
        self.kernel.step(TimeMs(0), event);
        Ok(())
    }
}

impl Gate {
    /// Opens the ledger, refolds the kernel, records the start. Blocks: call it where a thread may.
    ///
    /// # Errors
    /// [`GateError`], with the remedy; then nothing is served.
    pub fn open(parts: Parts) -> Result<(Self, Recovered), GateError> {
        let mut refold = Refold { kernel: Kernel::new(parts.settings) };
        let (ledger, recovered) = Ledger::open(&parts.store, parts.ledger, &mut |record| refold.visit(record))?;
        parts.switch.merge(refold.kernel.kills())?;
        let anchor = Anchor { wall_ms: parts.clock.wall().0, monotonic_ms: parts.clock.monotonic_ms() };
        let gate = Self(Arc::new(Inner {
            kernel: Mutex::new(refold.kernel),
            ledger,
            policy: parts.policy,
            catalog: parts.catalog,
            switch: parts.switch,
            identities: Identities::new(parts.token_key),
            clock: parts.clock,
            entropy: parts.entropy,
            evaluation_ms: parts.evaluation_ms,
            refusals: Default::default(),
            stalled: Default::default(),
            challenges: Default::default(),
            ticks: Mutex::new(anchor),
        }));
        if let Err(error) = gate.record_start(&recovered) {
            // The ledger's threads and lock must not outlive a failed start.
            let _ = gate.ledger().close();
            return Err(error);
        }
        Ok((gate, recovered))
    }

    fn record_start(&self, recovered: &Recovered) -> Result<(), GateError> {
        let mut recordings = Vec::new();
        if let Some(cut) = &recovered.cut {
            let gap = Event::Gap { size: recovered.head.size, bytes: Bytes(cut.bytes) };
            recordings.extend(self.step(gap).others);
        }
        let started = Event::Started { kill: self.switch().state() };
        recordings.extend(self.step(started).others);
        for recording in recordings {
            recording.pending.wait()?;
        }
        Ok(())
    }

    /// Records the end and closes the ledger. Blocks: call it where a thread may.
    ///
    /// # Errors
    /// Where the ledger had failed.
    pub fn close(&self) -> Result<(), AppendError> {
        let mut stopped = Ok(());
        for event in self.counted_refusals().into_iter().chain([Event::Stopped]) {
            for recording in self.step(event).others {
                stopped = stopped.and(recording.pending.wait().map(drop));
            }
        }
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
