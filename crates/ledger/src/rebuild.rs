//! Whoever folds the records: what a start-up asks of it, from the first record or from a snapshot.
//!
//! A start-up tries the newest snapshot, then the older one, then all that is kept: from the first record, or, where the log
//! was pruned, from its base. Each try tells the folder where it begins. Whatever is wrong with a try that began at a snapshot
//! ends that try and nothing else: only a read of all that is kept can refuse a start. It must not know what a state says.

use std::collections::BTreeMap;
use std::sync::Mutex;

use crate::base::{self, Base, Loaded};
use crate::error::{FrameFault, OpenError};
use crate::read::{ReadError, StoredRecord, stored_record};
use crate::recover::{self, Anchor, Scan, VisitError};
use crate::segment::{self, Record};
use crate::snapshot::{self, Snapshot};
use crate::store::Store;

/// Rebuilds a state from the records of a log that is being opened.
///
/// It may see records of a log that is refused at the end; what it built is to be thrown away then.
pub trait Rebuild {
    /// Whether it can go on from a snapshot at all.
    fn takes_snapshots(&self) -> bool;
    /// Forgets everything: what comes next is the first record of the log.
    fn restart(&mut self);
    /// Forgets everything and goes on from a state that it once handed in, with the first record behind it next.
    ///
    /// # Errors
    /// Why it cannot: then an older snapshot is tried, or the whole log.
    fn resume(&mut self, resumed: &Resumed<'_>) -> Result<(), VisitError>;
    /// Forgets everything and goes on from the base of a pruned log. A state that a later version hands in must be read by
    /// that of every later one.
    ///
    /// # Errors
    /// Why it cannot: then there is no start, unless what was pruned is still there.
    fn rebase(&mut self, base: &Resumed<'_>) -> Result<(), VisitError>;
    /// Takes a record in.
    ///
    /// # Errors
    /// Why the log cannot be what it seems.
    fn visit(&mut self, record: Record<'_>) -> Result<(), VisitError>;
    /// The log has ended, and all of it that was read holds.
    ///
    /// # Errors
    /// That no record committed to the state that it went on from.
    fn finish(&mut self) -> Result<(), VisitError>;
}

/// A snapshot to go on from.
pub struct Resumed<'a> {
    /// How many records the state is made of.
    pub size: u64,
    /// The state, as it was handed in. Not to be believed before a record commits to it.
    pub state: &'a [u8],
    /// Records that were kept of those that were pruned.
    carried: &'a [StoredRecord],
    store: &'a Store,
    positions: Mutex<BTreeMap<u64, (u64, u64)>>,
}

impl Resumed<'_> {
    /// A record below the snapshot. Its checksum was checked, and nothing else: compare its leaf hash.
    ///
    /// # Errors
    /// [`ReadError`] if it cannot be read.
    pub fn record(&self, index: u64) -> Result<StoredRecord, ReadError> {
        if index >= self.size {
            return Err(ReadError::OutOfRange { index, size: self.size });
        }
        match self.carried.iter().find(|stored| stored.index == index) {
            Some(stored) => Ok(stored.clone()),
            None => stored_record(self.store, index, &self.positions),
        }
    }
}

/// A function that only wants the records: it reads the whole log.
pub(crate) struct Whole<'a>(pub(crate) &'a mut dyn FnMut(Record<'_>) -> Result<(), VisitError>);

impl Rebuild for Whole<'_> {
    fn takes_snapshots(&self) -> bool {
        false
    }

    fn restart(&mut self) {}

    fn resume(&mut self, _: &Resumed<'_>) -> Result<(), VisitError> {
        Err(VisitError::new("only the whole log will do"))
    }

    fn rebase(&mut self, _: &Resumed<'_>) -> Result<(), VisitError> {
        Ok(())
    }

    fn visit(&mut self, record: Record<'_>) -> Result<(), VisitError> {
        (self.0)(record)
    }

    fn finish(&mut self) -> Result<(), VisitError> {
        Ok(())
    }
}

/// What is needed to read a log.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a> {
    pub(crate) store: &'a Store,
    pub(crate) keys: &'a countersign_receipt::KeyChain,
    pub(crate) anchors: &'a [Anchor],
}

/// Reads the log from the newest snapshot that holds, or all that is kept of it. Changes nothing on the disk.
pub(crate) fn scan(source: Source<'_>, rebuild: &mut dyn Rebuild) -> Result<Scan, OpenError> {
    let store = source.store;
    if rebuild.takes_snapshots() {
        let sizes = snapshot::list(store).unwrap_or_else(|error| {
            tracing::warn!(%error, "snapshots cannot be listed");
            Vec::new()
        });
        for size in sizes {
            match snapshot::load(store, size).and_then(|snapshot| from_snapshot(source, snapshot, rebuild)) {
                Ok(scan) => return Ok(scan),
                Err(reason) => tracing::warn!(size, reason, "this snapshot is not used; start-up takes longer"),
            }
        }
    }
    let first = segment::list(store).map_err(OpenError::io("list", store.segments()))?.first().copied();
    let bases = base::list(store).map_err(OpenError::io("list", store.bases()))?;
    let mut refused = None;
    for minimum in bases {
        match from_base(source, minimum, rebuild) {
            Ok(scan) => return Ok(scan),
            // The base at which the segments begin is the one that is missed, whatever came of others.
            Err(error) if refused.is_none() || Some(minimum) == first => refused = Some(error),
            Err(_) => {}
        }
    }
    match (first.filter(|first| *first > 0), refused) {
        (None, refused) => {
            if let Some(error) = refused {
                tracing::warn!(%error, "a base is not used: nothing was pruned for it yet");
            }
            whole(source, rebuild)
        }
        (Some(_), Some(error)) => Err(error),
        (Some(minimum), None) => {
            let reason = "it is missing".to_owned();
            Err(OpenError::Base { path: store.base(minimum), minimum, reason })
        }
    }
}

fn whole(source: Source<'_>, rebuild: &mut dyn Rebuild) -> Result<Scan, OpenError> {
    rebuild.restart();
    let scan = recover::scan(source, None, &mut |record| rebuild.visit(record))?;
    let index = scan.head.size;
    rebuild.finish().map_err(|error| OpenError::Visitor { index, reason: error.to_string() })?;
    Ok(scan)
}

fn from_base(source: Source<'_>, minimum: u64, rebuild: &mut dyn Rebuild) -> Result<Scan, OpenError> {
    let store = source.store;
    let refused = |reason: String| OpenError::Base { path: store.base(minimum), minimum, reason };
    let Loaded { origin, base, .. } = base::load(store, minimum).map_err(refused)?;
    let Base { state, carried, .. } = base.as_ref();
    let resumed = Resumed { size: minimum, state, carried, store, positions: Mutex::default() };
    rebuild.rebase(&resumed).map_err(|error| refused(error.to_string()))?;
    let scan =
        recover::scan(source, Some(origin), &mut |record| rebuild.visit(record)).map_err(|error| match error {
            OpenError::Corrupt {
                index, fault: fault @ (FrameFault::Root { .. } | FrameFault::Size { .. }), ..
            } if index == minimum => refused(format!("its tree is not the one that the log goes on from: {fault}")),
            error => error,
        })?;
    rebuild.finish().map_err(|error| refused(error.to_string()))?;
    Ok(scan)
}

fn from_snapshot(source: Source<'_>, snapshot: Snapshot, rebuild: &mut dyn Rebuild) -> Result<Scan, String> {
    let Snapshot { origin, head, state } = snapshot;
    // What waited when the log was pruned may wait still. A base that is bent is noticed by the hash of what it gives.
    let base = base::begin(source.store).ok().flatten();
    let carried = base.as_ref().map_or(&[][..], |loaded| &loaded.base.carried);
    let resumed = Resumed { size: head.size, state: &state, carried, store: source.store, positions: Mutex::default() };
    rebuild.resume(&resumed).map_err(|error| error.to_string())?;
    let scan = recover::scan(source, Some(origin), &mut |record| rebuild.visit(record));
    let scan = scan.map_err(|error| error.to_string())?;
    rebuild.finish().map_err(|error| error.to_string())?;
    Ok(scan)
}
