//! Walking a ledger with everything that only who reads records can judge: payloads, and the base of a pruned log.
//!
//! The tree proves that the records which are kept are the log's; that what was pruned led to the state they go on from is
//! said by a record among them. It must not know what a command does with what is walked.

use std::sync::{Mutex, PoisonError};

use countersign_kernel::image::image_digest;
use countersign_kernel::{Begin, Kernel};
use countersign_ledger::verify::{self, Readers, Report, Visit, WalkError};
use countersign_ledger::{Base, Store, Vault, VisitError};
use countersign_model::unit::LeafIndex;
use countersign_model::{Body, Digest, Record};
use countersign_receipt::VerifierKey;
use countersign_receipt::merkle::leaf_hash;

use crate::payloads::Payloads;

/// What a command wants of a walk.
pub(crate) struct Walker<'a> {
    /// Opens payloads, to compare them with what their leaves commit to.
    pub(crate) vault: Option<&'a Vault>,
    /// Takes what a pruned log begins with.
    pub(crate) begin: &'a mut dyn FnMut(&Base) -> Result<(), VisitError>,
    /// Takes the records in, in order.
    pub(crate) visit: &'a mut Visit<'a>,
}

/// Walks a ledger. `progress` hears of bytes done and bytes in all.
///
/// # Errors
/// [`WalkError`]: the first thing that does not hold.
pub(crate) fn walk(
    store: &Store,
    key: Option<&VerifierKey>,
    walker: Walker<'_>,
    progress: impl FnMut(u64, u64),
) -> Result<Report, WalkError> {
    let Walker { vault, begin, visit } = walker;
    let begun = Begun::default();
    let payloads = Payloads::new(vault);
    let check = |stored: countersign_ledger::Record<'_>| {
        let record = payloads.check(stored)?;
        begun.see(stored.index, &record);
        Ok(())
    };
    let mut begin = |base: &Base| {
        begun.begin(base).map_err(VisitError::new)?;
        for stored in &base.carried {
            let checked = payloads.check_carried(stored.as_record());
            checked.map_err(|what| VisitError::new(format!("record `{}`: {what}", stored.index)))?;
        }
        begin(base)
    };
    let report = verify::walk_records(store, key, Readers { begin: &mut begin, check: &check, visit }, progress)?;
    let minimum = report.from;
    begun.finish().map_err(|reason| WalkError::Base { path: store.base(minimum), minimum, reason })?;
    payloads.finish().map_err(|(index, reason)| WalkError::Visitor { index, reason })?;
    Ok(report)
}

/// Walks a ledger only to see whether it holds.
///
/// # Errors
/// As [`walk`].
pub(crate) fn check(store: &Store) -> Result<Report, WalkError> {
    walk(store, None, Walker { vault: None, begin: &mut |_| Ok(()), visit: &mut |_| Ok(()) }, |_, _| {})
}

/// Holds what a log begins with to the record that commits to it. Records come in any order.
#[derive(Default)]
struct Begun {
    base: Mutex<Option<Begin>>,
    /// The last pruning on record, and where it stands.
    recorded: Mutex<Option<(u64, Begin)>>,
}

impl Begun {
    fn begin(&self, base: &Base) -> Result<(), String> {
        let mut pointed = Kernel::leaves_of_image(&base.state).map_err(|error| error.to_string())?;
        for stored in &base.carried {
            let hash = Digest(*leaf_hash(&stored.leaf).as_bytes());
            if pointed.remove(&LeafIndex(stored.index)) != Some(hash) {
                return Err(format!("record `{}` in it is not one that its state points to", stored.index));
            }
        }
        if let Some((leaf, _)) = pointed.first_key_value() {
            return Err(format!("record `{leaf}`, to which its state points, is missing in it"));
        }
        let begin = Begin { minimum: LeafIndex(base.minimum), state: image_digest(&base.state) };
        *self.base.lock().unwrap_or_else(PoisonError::into_inner) = Some(begin);
        Ok(())
    }

    fn see(&self, index: u64, record: &Record) {
        let Body::Pruned(pruned) = &record.body else { return };
        let begin = Begin { minimum: pruned.minimum, state: pruned.state };
        let mut recorded = self.recorded.lock().unwrap_or_else(PoisonError::into_inner);
        if recorded.is_none_or(|(last, _)| last < index) {
            *recorded = Some((index, begin));
        }
    }

    fn finish(&self) -> Result<(), String> {
        let base = *self.base.lock().unwrap_or_else(PoisonError::into_inner);
        let recorded = *self.recorded.lock().unwrap_or_else(PoisonError::into_inner);
        let recorded = recorded.map(|(_, begin)| begin);
        // A log that still begins with its first record needs no word for it, whatever was ordered.
        match base {
            Some(base) if recorded != Some(base) => Err("no record of the log commits to it".to_owned()),
            _ => Ok(()),
        }
    }
}
