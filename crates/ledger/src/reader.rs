//! Reading a ledger from its files, beside a running gateway or with none: confirmed records only, no lock, no change.
//!
//! What lies above the mark is not looked at, so a writer's half-written frame is never met. Checksums are checked;
//! signatures and roots are not: who follows the log computes its root and compares it with [`Reader::head`], and
//! [`crate::verify`] checks everything. It must not know what records say.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use countersign_receipt::merkle::TreeHead;

use crate::base::{self, Base};
use crate::error::OpenError;
use crate::mark::Mark;
use crate::read::{FrameCursor, ReadError, StoredRecord, seek, stored};
use crate::segment::{self, Found, Record};
use crate::store::Store;

/// A ledger as its files show it.
pub struct Reader {
    store: Store,
    positions: Mutex<BTreeMap<u64, (u64, u64)>>,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Reader({})", self.store.dir().display())
    }
}

impl Reader {
    /// A reader of the ledger at `store`.
    #[must_use]
    pub fn new(store: &Store) -> Self {
        Self { store: store.clone(), positions: Mutex::default() }
    }

    /// Where the ledger lies.
    #[must_use]
    pub const fn store(&self) -> &Store {
        &self.store
    }

    /// The newest tree that was confirmed.
    ///
    /// # Errors
    /// [`OpenError`] where there is no ledger, or its mark is missing or damaged.
    pub fn head(&self) -> Result<TreeHead, OpenError> {
        let refused = |state| OpenError::Mark { path: self.store.mark(), state };
        // Both slots are written in turn: a second look finds the one that was whole.
        for _ in 0..2 {
            match Mark::read(&self.store.mark_file()) {
                Ok(Some(head)) => return Ok(head),
                Ok(None) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(refused("missing")),
                Err(error) => return Err(OpenError::io("read", self.store.mark())(error)),
            }
        }
        Err(refused("damaged"))
    }

    /// One record.
    ///
    /// # Errors
    /// [`ReadError`] if it is not confirmed or cannot be read.
    pub fn record(&self, index: u64) -> Result<StoredRecord, ReadError> {
        let size = self.size()?;
        if index >= size {
            return Err(ReadError::OutOfRange { index, size });
        }
        self.is_kept(index)?;
        let (mut reader, first) = seek(&self.store, index, &self.positions)?;
        let missing = || io::Error::new(io::ErrorKind::InvalidData, format!("record `{index}` cannot be read"));
        let Found::Frame(frame) = reader.next(first)? else {
            return Err(missing().into());
        };
        let found = frame.records().find(|record| record.index == index).map(stored);
        found.ok_or_else(|| missing().into())
    }

    /// Hands records from `from` up to, and without, `to` to `visit`, one frame in memory at a time. `visit` says
    /// whether it wants more.
    ///
    /// # Errors
    /// [`ReadError`] if a record is not confirmed or cannot be read.
    pub fn each(&self, from: u64, to: u64, visit: &mut dyn FnMut(Record<'_>) -> bool) -> Result<(), ReadError> {
        let size = self.size()?;
        if to > size {
            return Err(ReadError::OutOfRange { index: to, size });
        }
        if from >= to {
            return Ok(());
        }
        self.is_kept(from)?;
        let (reader, first) = seek(&self.store, from, &self.positions)?;
        let mut cursor = FrameCursor::at(&self.store, reader, first);
        let mut next = first;
        while next < to {
            let frame = cursor.next_frame()?;
            for record in frame.records().filter(|record| (from..to).contains(&record.index)) {
                if !visit(record) {
                    return Ok(());
                }
            }
            next = frame.next_index();
        }
        Ok(())
    }

    /// The first record that is kept.
    ///
    /// # Errors
    /// As the disk says.
    pub fn minimum(&self) -> Result<u64, ReadError> {
        Ok(segment::list(&self.store)?.first().copied().unwrap_or(0))
    }

    /// What a pruned log begins with; none for a log that begins with its first record.
    ///
    /// # Errors
    /// [`ReadError`] where it cannot be read.
    pub fn base(&self) -> Result<Option<Arc<Base>>, ReadError> {
        let damaged = |(minimum, what): (u64, String)| {
            let what = format!("base `{}`: {what}", self.store.base(minimum).display());
            ReadError::Io(io::Error::new(io::ErrorKind::InvalidData, what))
        };
        Ok(base::begin(&self.store).map_err(damaged)?.map(|loaded| loaded.base))
    }

    fn is_kept(&self, index: u64) -> Result<(), ReadError> {
        let minimum = self.minimum()?;
        if index < minimum { Err(ReadError::Pruned { index, minimum }) } else { Ok(()) }
    }

    fn size(&self) -> Result<u64, ReadError> {
        let head = self.head().map_err(|error| io::Error::other(error.to_string()))?;
        Ok(head.size)
    }
}
