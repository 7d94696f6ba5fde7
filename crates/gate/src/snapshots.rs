//! Snapshots of the kernel's state: taken of a fold that follows the log, never of the kernel that decides.
//!
//! A second kernel takes in what is durable, behind the ledger's writer. So a snapshot is exactly the fold of the first so
//! many records, the pipeline is not held up for it, and nothing that is not on disk can be in it. It costs the reading
//! of every record once more, on a thread of its own. The file comes first and the record that commits to it second; a
//! file without its record counts for nothing. Where anything fails there is no snapshot, a warning, and a longer start.

use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::time::Duration;

use countersign_kernel::image::{RestoreError, image_digest};
use countersign_kernel::replay::Leaf;
use countersign_kernel::{Begin, Event, Kernel, Settings};
use countersign_ledger::{Follower, Ledger, Rebuild, Resumed, SnapshotError, Vault, VisitError};
use countersign_model::payload::ActionPayload;
use countersign_model::unit::LeafIndex;
use countersign_model::{Body, Digest, Record, TimeMs};
use countersign_receipt::merkle::leaf_hash;

use crate::Gate;

/// How long a snapshot waits until the public folder has caught up.
const FLUSH: Duration = Duration::from_secs(2);

/// When snapshots are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotRules {
    /// After so many records: about how many a start-up reads at most.
    pub every_records: u64,
    /// At an orderly stop, if there have been at least so many records since the last one.
    pub at_stop_records: u64,
}

impl Default for SnapshotRules {
    fn default() -> Self {
        Self { every_records: 50_000, at_stop_records: 1_000 }
    }
}

/// What follows the log.
pub(crate) struct Snapshots {
    rules: SnapshotRules,
    /// Absent once following has failed: then there are no more snapshots in this process.
    shadow: Mutex<Option<Shadow>>,
}

struct Shadow {
    follower: Follower,
    kernel: Kernel,
    vault: Arc<Vault>,
    /// The size of the last snapshot, or where this process began.
    last: u64,
}

impl Snapshots {
    /// Follows `ledger`, of which `kernel` is the fold so far; it was resumed at `last`.
    pub(crate) fn new(rules: SnapshotRules, ledger: &Ledger, (kernel, last): (Kernel, u64), vault: Arc<Vault>) -> Self {
        let shadow = ledger.follower().map(|follower| Shadow { follower, kernel, vault, last });
        Self { rules, shadow: Mutex::new(shadow) }
    }
}

impl Shadow {
    /// Takes in what has become durable, up to `limit` records.
    fn follow(&mut self, limit: u64) -> Result<bool, countersign_ledger::ReadError> {
        let Self { follower, kernel, vault, .. } = self;
        follower.advance(limit, &mut |stored| fold(kernel, vault, stored).map(drop))
    }

    fn since(&self) -> u64 {
        self.follower.size().saturating_sub(self.last)
    }
}

impl Gate {
    /// Starts what [`Gate::snapshot_if_due`] does on a thread that may block; where one is at it already, does nothing.
    pub(crate) fn follow_in_background(&self) {
        let gate = self.clone();
        tokio::task::spawn_blocking(move || gate.snapshot_if_due());
    }

    /// Takes in what has become durable and takes a snapshot if one is due. Says whether it took one. Blocks.
    pub fn snapshot_if_due(&self) -> bool {
        let mut shadow = match self.0.snapshots.shadow.try_lock() {
            Ok(shadow) => shadow,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return false,
        };
        self.follow(&mut shadow, self.0.snapshots.rules.every_records)
    }

    /// Calls `work` while nothing follows the log, and what follows it is past record `size`.
    pub(crate) fn followed_past<T>(&self, size: u64, work: impl FnOnce() -> T) -> T {
        let mut shadow = self.0.snapshots.shadow.lock().unwrap_or_else(PoisonError::into_inner);
        let behind = shadow.as_mut().filter(|following| following.follower.size() < size);
        if let Some(Err(error)) = behind.map(|following| following.follow(u64::MAX)) {
            tracing::warn!(%error, "the log cannot be followed: no more snapshots until a restart");
            *shadow = None;
        }
        work()
    }

    /// The snapshot of an orderly stop.
    pub(crate) fn snapshot_at_stop(&self) {
        let mut shadow = self.0.snapshots.shadow.lock().unwrap_or_else(PoisonError::into_inner);
        let since = shadow.as_ref().map_or(0, |shadow| self.ledger().head().size.saturating_sub(shadow.last));
        let SnapshotRules { every_records, at_stop_records } = self.0.snapshots.rules;
        // Far behind, all tiles below would have to be synced first: an orderly stop does not wait for that.
        let is_near = since < every_records.saturating_mul(2);
        if is_near && since >= at_stop_records {
            self.follow(&mut shadow, since);
        }
    }

    fn follow(&self, shadow: &mut Option<Shadow>, due: u64) -> bool {
        let Some(following) = shadow else { return false };
        loop {
            let left = due.saturating_sub(following.since()).max(1);
            let is_all = match following.follow(left) {
                Ok(is_all) => is_all,
                Err(error) => {
                    tracing::warn!(%error, "the log cannot be followed: no more snapshots until a restart");
                    *shadow = None;
                    return false;
                }
            };
            if following.since() >= due {
                return self.take_snapshot(following);
            }
            if is_all {
                return false;
            }
        }
    }

    fn take_snapshot(&self, shadow: &mut Shadow) -> bool {
        let size = shadow.follower.size();
        let image = match shadow.kernel.image() {
            Ok(image) => image,
            Err(error) => {
                tracing::warn!(%error, "no snapshot");
                shadow.last = size;
                return false;
            }
        };
        let mut saved = shadow.follower.save(&image);
        if matches!(saved, Err(SnapshotError::Unpublished { .. })) && self.ledger().flush(FLUSH) == Ok(true) {
            saved = shadow.follower.save(&image);
        }
        match saved {
            Ok(()) => {}
            // The public folder is far behind: try again later.
            Err(SnapshotError::Unpublished { .. }) => return false,
            Err(error) => {
                tracing::warn!(%error, "no snapshot; the next start-up takes longer");
                shadow.last = size;
                return false;
            }
        }
        shadow.last = size;
        let step = self.step(Event::Snapshot { size, state: image_digest(&image) });
        for recording in step.others {
            if let Err(error) = recording.pending.wait() {
                // The record says nothing about the state, so nothing is out of step; the file alone counts for nothing.
                tracing::warn!(%error, "a snapshot did not come on record");
                return false;
            }
        }
        if let Err(error) = shadow.follower.retire() {
            tracing::warn!(%error, "old snapshots stay behind");
        }
        true
    }
}

/// Refolds a kernel from a ledger that is being opened.
pub(crate) struct Refold {
    settings: Settings,
    vault: Arc<Vault>,
    pub(crate) kernel: Kernel,
    /// The snapshot that it went on from, and whether a record has committed to it.
    resumed: Option<(u64, Digest, bool)>,
    /// The base that it went on from.
    begun: Option<Begin>,
}

impl Refold {
    pub(crate) fn new(settings: Settings, vault: Arc<Vault>) -> Self {
        Self { kernel: Kernel::new(settings.clone()), settings, vault, resumed: None, begun: None }
    }

    /// The size of the snapshot or base that it went on from.
    pub(crate) fn resumed_at(&self) -> u64 {
        let begun = self.begun.map_or(0, |begin| begin.minimum.0);
        self.resumed.map_or(begun, |(size, ..)| size)
    }
}

impl Rebuild for Refold {
    fn takes_snapshots(&self) -> bool {
        true
    }

    fn restart(&mut self) {
        self.kernel = Kernel::new(self.settings.clone());
        (self.resumed, self.begun) = (None, None);
    }

    fn resume(&mut self, resumed: &Resumed<'_>) -> Result<(), VisitError> {
        let mut read = |leaf: LeafIndex| folded(&self.vault, resumed.record(leaf.0).ok()?.as_record()).ok();
        let kernel: Result<_, RestoreError> = Kernel::restore(self.settings.clone(), resumed.state, &mut read);
        self.kernel = kernel?;
        (self.resumed, self.begun) = (Some((resumed.size, image_digest(resumed.state), false)), None);
        Ok(())
    }

    fn rebase(&mut self, base: &Resumed<'_>) -> Result<(), VisitError> {
        let mut read = |leaf: LeafIndex| folded(&self.vault, base.record(leaf.0).ok()?.as_record()).ok();
        let kernel: Result<_, RestoreError> = Kernel::restore_base(self.settings.clone(), base.state, &mut read);
        self.kernel = kernel?;
        let begin = Begin { minimum: LeafIndex(base.size), state: image_digest(base.state) };
        (self.resumed, self.begun) = (None, Some(begin));
        Ok(())
    }

    fn visit(&mut self, stored: countersign_ledger::Record<'_>) -> Result<(), VisitError> {
        let found = fold(&mut self.kernel, &self.vault, stored)?;
        if let (Some((size, digest, is_recorded)), Some(found)) = (&mut self.resumed, found) {
            *is_recorded |= found.size == *size && found.state == *digest;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), VisitError> {
        let is_uncommitted = matches!(self.resumed, Some((_, _, false)));
        // The last pruning counts: it is the one whose minimum the log begins with.
        if is_uncommitted || (self.begun.is_some() && self.kernel.pruned() != self.begun) {
            return Err(VisitError::new("no record of the log commits to it"));
        }
        Ok(())
    }
}

/// Takes one record in; says what it commits to, if it is of a snapshot.
fn fold(
    kernel: &mut Kernel,
    vault: &Vault,
    stored: countersign_ledger::Record<'_>,
) -> Result<Option<countersign_model::record::Snapshot>, VisitError> {
    let leaf = folded(vault, stored)?;
    let snapshot = match &leaf.record.body {
        Body::Snapshot(snapshot) => Some(snapshot.clone()),
        _ => None,
    };
    take_in(kernel, leaf);
    Ok(snapshot)
}

/// Takes one leaf in. Time is the record's own: the kernel takes the later of both.
pub(crate) fn take_in(kernel: &mut Kernel, leaf: Leaf) {
    let Leaf { record, leaf, leaf_hash, payload } = leaf;
    kernel.step(TimeMs(0), Event::Recovered { record, leaf, leaf_hash, payload });
}

/// A stored record, read as far as a fold needs it: no fold reads the payload of anything but a proposal. An erased one is no
/// error: what waited for it is gone, and fails closed. Nor does one that cannot be read keep everything else from starting.
pub(crate) fn folded(vault: &Vault, stored: countersign_ledger::Record<'_>) -> Result<Leaf, VisitError> {
    let mut leaf = leaf_of(None, stored)?;
    if let (Body::Proposal(_), Some(sealed)) = (&leaf.record.body, stored.payload) {
        leaf.payload = opened(vault, sealed, stored.leaf).unwrap_or_else(|error| {
            tracing::error!(%error, record = stored.index, "a proposal cannot be shown any more, and waits no longer");
            None
        });
    }
    Ok(leaf)
}

/// A stored record, read whole. Without a vault, or where the payload was erased, there is none.
///
/// # Errors
/// Where the leaf is no record of this version, or the payload is not what was sealed.
pub fn leaf_of(vault: Option<&Vault>, stored: countersign_ledger::Record<'_>) -> Result<Leaf, VisitError> {
    let wrong = |error: &dyn std::fmt::Display| VisitError::new(format!("record `{}`: {error}", stored.index));
    let record = Record::from_leaf(stored.leaf).map_err(|error| wrong(&error))?;
    let payload = match (vault, stored.payload) {
        (Some(vault), Some(sealed)) if record.body.attempt().is_some() => {
            opened(vault, sealed, stored.leaf).map_err(|error| wrong(&error))?
        }
        _ => None,
    };
    let leaf_hash = Digest(*leaf_hash(stored.leaf).as_bytes());
    Ok(Leaf { leaf: LeafIndex(stored.index), leaf_hash, payload, record })
}

fn opened(vault: &Vault, sealed: &[u8], leaf: &[u8]) -> Result<Option<ActionPayload>, VisitError> {
    let Some(bytes) = vault.unseal(sealed, leaf)? else { return Ok(None) };
    Ok(Some(ActionPayload::decode(&bytes)?))
}
