//! Leaves that were just committed, on their way from the writer to the publisher, so that it need not read and hash them
//! again.
//!
//! Bounded in bytes: what finds no room is not kept, and the publisher reads it back from the segments as it does after a
//! restart. Only what is durable comes here. It must not know tiles or files.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use countersign_receipt::Hash;

/// How many bytes of leaves are kept: what a fast writer commits between two publications.
const KEPT_BYTES: usize = 32 << 20;

/// One committed batch.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) first: u64,
    /// Leaves with their hashes, in order.
    pub(crate) leaves: Vec<(Vec<u8>, Hash)>,
}

#[derive(Debug, Default)]
struct Kept {
    batches: VecDeque<Batch>,
    bytes: usize,
}

/// Batches in the order of the log, perhaps with gaps.
#[derive(Debug, Default)]
pub(crate) struct Fresh(Mutex<Kept>);

impl Batch {
    fn bytes(&self) -> usize {
        self.leaves.iter().map(|(leaf, _)| leaf.capacity() + size_of::<(Vec<u8>, Hash)>()).sum()
    }
}

impl Fresh {
    pub(crate) fn put(&self, batch: Batch) {
        let bytes = batch.bytes();
        let mut kept = self.kept();
        if kept.bytes + bytes <= KEPT_BYTES {
            kept.bytes += bytes;
            kept.batches.push_back(batch);
        }
    }

    /// The batch that starts at record `first`, if it was kept; what lies before it is forgotten.
    pub(crate) fn take(&self, first: u64) -> Option<Batch> {
        let mut kept = self.kept();
        while kept.batches.front().is_some_and(|batch| batch.first <= first) {
            let batch = kept.batches.pop_front()?;
            kept.bytes = kept.bytes.saturating_sub(batch.bytes());
            if batch.first == first {
                return Some(batch);
            }
        }
        None
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
