//! Whoever folds the records: what a start-up asks of it, from the first record or from a snapshot.
//!
//! A start-up tries the newest snapshot, then the older one, then the whole log; each try tells the folder where it begins.
//! Whatever is wrong with a try that began at a snapshot ends that try and nothing else: only the whole log can refuse a
//! start. It must not know what a state says.

use std::collections::BTreeMap;
use std::sync::Mutex;

use crate::error::OpenError;
use crate::read::{ReadError, StoredRecord, stored_record};
use crate::recover::{self, Anchor, Scan, VisitError};
use crate::segment::Record;
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
        stored_record(self.store, index, &self.positions)
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

/// Reads the log from the newest snapshot that holds, or from its first record. Changes nothing on the disk.
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
    rebuild.restart();
    let scan = recover::scan(source, None, &mut |record| rebuild.visit(record))?;
    let index = scan.head.size;
    rebuild.finish().map_err(|error| OpenError::Visitor { index, reason: error.to_string() })?;
    Ok(scan)
}

fn from_snapshot(source: Source<'_>, snapshot: Snapshot, rebuild: &mut dyn Rebuild) -> Result<Scan, String> {
    let Snapshot { origin, head, state } = snapshot;
    let resumed = Resumed { size: head.size, state: &state, store: source.store, positions: Mutex::default() };
    rebuild.resume(&resumed).map_err(|error| error.to_string())?;
    let scan = recover::scan(source, Some(origin), &mut |record| rebuild.visit(record));
    let scan = scan.map_err(|error| error.to_string())?;
    rebuild.finish().map_err(|error| error.to_string())?;
    Ok(scan)
}
