//! What a caller hands in and gets back: entries, slots, the promise of an answer and the answer.
//!
//! It must not know how a batch is written. It does not cover reading (`read`).

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use countersign_receipt::{Hash, MAX_LEAF_BYTES, TlogProof};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::error::AppendError;
use crate::rotate::Rotating;
use crate::segment::{FRAME_OVERHEAD, MAX_PAYLOAD_BYTES, RECORD_OVERHEAD};
use crate::tree::BatchTiles;

/// The largest leaf of an outcome, in bytes: what is set aside for one must be bounded.
pub const OUTCOME_LEAF_BYTES: usize = 8 * 1024;
/// The largest payload of an outcome that is sure to be stored, in bytes. A larger one is stored if there is room.
pub const OUTCOME_PAYLOAD_BYTES: usize = 24 * 1024;

/// The room that one open action holds: its outcome alone in a frame.
pub(crate) const OUTCOME_ROOM: u64 =
    OUTCOME_LEAF_BYTES as u64 + OUTCOME_PAYLOAD_BYTES as u64 + RECORD_OVERHEAD + FRAME_OVERHEAD;

/// One record to append.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What the tree covers: 1 to 65,535 bytes, never interpreted here.
    pub leaf: Vec<u8>,
    /// What is stored beside it, at most 16 MiB; the tree does not cover it.
    pub payload: Option<Vec<u8>>,
}

impl Entry {
    /// A record without a payload.
    #[must_use]
    pub fn new(leaf: impl Into<Vec<u8>>) -> Self {
        Self { leaf: leaf.into(), payload: None }
    }

    /// A record with a payload.
    #[must_use]
    pub fn with_payload(leaf: impl Into<Vec<u8>>, payload: impl Into<Vec<u8>>) -> Self {
        Self { leaf: leaf.into(), payload: Some(payload.into()) }
    }

    pub(crate) fn check(&self, leaf_limit: usize) -> Result<(), AppendError> {
        let leaf = self.leaf.len();
        if leaf == 0 || leaf > leaf_limit.min(MAX_LEAF_BYTES) {
            return Err(AppendError::Size { what: "leaf", found: leaf, limit: leaf_limit });
        }
        let payload = self.payload_len();
        if payload > MAX_PAYLOAD_BYTES {
            return Err(AppendError::Size { what: "payload", found: payload, limit: MAX_PAYLOAD_BYTES });
        }
        Ok(())
    }

    pub(crate) fn room(&self) -> u64 {
        RECORD_OVERHEAD + (self.leaf.len() + self.payload_len()) as u64
    }

    /// Drops a payload that is larger than what is set aside for an outcome. Returns whether it did.
    pub(crate) fn drop_optional_payload(&mut self) -> bool {
        let drops = self.payload_len() > OUTCOME_PAYLOAD_BYTES;
        if drops {
            self.payload = None;
        }
        drops
    }

    fn payload_len(&self) -> usize {
        self.payload.as_ref().map_or(0, Vec::len)
    }
}

/// The place of one open action: room for its outcome, from before its intent is written until it is used or dropped.
#[derive(Debug)]
pub struct Slot {
    pub(crate) _permit: OwnedSemaphorePermit,
}

/// A record that is durable, with the proof.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// Its index in the log.
    pub index: u64,
    /// The hash of its leaf.
    pub leaf_hash: Hash,
    /// The size of the tree that the proof is for.
    pub tree_size: u64,
    /// Complete in itself: path and signed checkpoint.
    pub proof: TlogProof,
    /// Whether the payload was stored. False only for an outcome with a payload above [`OUTCOME_PAYLOAD_BYTES`] on a
    /// full disk or with a full queue.
    pub payload_stored: bool,
}

/// What the writer sends: the proof is made by whoever waits, not on the writer's thread.
#[derive(Debug)]
pub(crate) struct Acked {
    pub(crate) index: u64,
    pub(crate) leaf_hash: Hash,
    pub(crate) payload_stored: bool,
    pub(crate) batch: Arc<Batch>,
}

/// What the records of one commit share.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) tiles: BatchTiles,
    pub(crate) note: Arc<str>,
}

impl Acked {
    fn prove(self) -> Result<Committed, AppendError> {
        let Self { index, leaf_hash, payload_stored, batch } = self;
        let tree_size = batch.tiles.edge.size();
        let path = batch.tiles.path(index).map_err(|_| AppendError::Unproved { index })?;
        let proof = TlogProof { extra: None, index, path, checkpoint: batch.note.to_string() };
        Ok(Committed { index, leaf_hash, tree_size, proof, payload_stored })
    }
}

/// The answer to an append, once it is durable. Await it, or [`Pending::wait`] on a thread that may block.
///
/// Dropping it does not take the record back.
#[derive(Debug)]
#[must_use = "a record counts only once it is committed"]
pub struct Pending(oneshot::Receiver<Result<Acked, AppendError>>);

impl Pending {
    pub(crate) fn new() -> (oneshot::Sender<Result<Acked, AppendError>>, Self) {
        let (sender, receiver) = oneshot::channel();
        (sender, Self(receiver))
    }

    pub(crate) fn refused(error: AppendError) -> Self {
        let (sender, pending) = Self::new();
        // The receiver is in our hand, so the send cannot fail.
        drop(sender.send(Err(error)));
        pending
    }

    /// Blocks until the record is durable.
    ///
    /// # Errors
    /// [`AppendError`]: the record must be treated as not written.
    pub fn wait(self) -> Result<Committed, AppendError> {
        self.0.blocking_recv().unwrap_or(Err(AppendError::Closed))?.prove()
    }
}

impl Future for Pending {
    type Output = Result<Committed, AppendError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = ready!(Pin::new(&mut self.0).poll(context));
        Poll::Ready(answer.unwrap_or(Err(AppendError::Closed)).and_then(Acked::prove))
    }
}

/// A record in the queue.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) entry: Entry,
    /// Of the leaf; made by whoever appends, so that the writer has less to do between two syncs.
    pub(crate) leaf_hash: Hash,
    pub(crate) slot: Option<Slot>,
    pub(crate) payload_stored: bool,
    /// Present in a record that changes the log's key: its leaf is made when it is written, in a batch of its own.
    pub(crate) rotating: Option<Rotating>,
    pub(crate) answer: oneshot::Sender<Result<Acked, AppendError>>,
}

impl Job {
    /// Answers and gives the slot back. Nobody may be waiting any more, and that is fine.
    pub(crate) fn answer(self, answer: Result<Acked, AppendError>) {
        drop(self.slot);
        drop(self.answer.send(answer));
    }
}
