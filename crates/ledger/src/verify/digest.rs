//! The part of a verification that needs no order: checksums, leaf hashes and signatures of whole frames, on all cores.
//!
//! Pieces of a segment go in, what they hold comes out, and who asked puts it in order. Memory is bounded by the pieces
//! under way. It must not know the tree, the mark and what is published.

use std::io;
use std::ops::Range;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, Scope};

use countersign_receipt::merkle::leaf_hash;
use countersign_receipt::{CheckpointError, Hash, KeyChain};

use crate::disk::DiskFile;
use crate::error::FrameFault;
use crate::segment::{Record, Shape};

/// A smaller log is verified on one thread: starting others would take longer.
const PARALLEL_BYTES: u64 = 1 << 20;
/// The most threads.
const THREADS_MAX: usize = 16;

/// What a caller wants to know of every record; an error names what is wrong with it. Called on several threads.
pub type RecordCheck<'a> = &'a (dyn Fn(Record<'_>) -> Result<(), String> + Sync);

/// Frames that follow on one another in a segment.
pub(super) struct Piece {
    pub(super) file: Arc<dyn DiskFile>,
    pub(super) offset: u64,
    pub(super) lengths: Vec<usize>,
}

/// What a piece holds.
pub(super) struct Digested {
    pub(super) offset: u64,
    pub(super) bytes: Vec<u8>,
    pub(super) frames: Vec<Result<Checked, FrameFault>>,
}

/// A frame whose checksum and shape are right.
pub(super) struct Checked {
    pub(super) shape: Shape,
    /// Where in the piece.
    pub(super) at: Range<usize>,
    /// Of the leaves.
    pub(super) hashes: Vec<Hash>,
    /// Whether the log signed the checkpoint.
    pub(super) signed: Result<(), CheckpointError>,
    /// The first record that the caller's check refused.
    pub(super) refused: Option<(u64, String)>,
}

type Answer = io::Result<Digested>;
type Task = (Piece, SyncSender<Answer>);

/// What is done with a piece, and memory to do it with.
pub(super) struct Work<'a> {
    keys: &'a KeyChain,
    check: RecordCheck<'a>,
    buffers: Mutex<Vec<Vec<u8>>>,
}

impl<'a> Work<'a> {
    pub(super) fn new(keys: &'a KeyChain, check: RecordCheck<'a>) -> Self {
        Self { keys, check, buffers: Mutex::default() }
    }

    /// Memory that is no longer needed.
    pub(super) fn give_back(&self, bytes: Vec<u8>) {
        self.buffers.lock().unwrap_or_else(PoisonError::into_inner).push(bytes);
    }

    fn digest(&self, piece: &Piece) -> Answer {
        let mut bytes = self.buffers.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
        bytes.resize(piece.lengths.iter().sum(), 0);
        let count = piece.file.read_at(piece.offset, &mut bytes)?;
        bytes.truncate(count);
        let mut at = 0;
        let mut frames = Vec::with_capacity(piece.lengths.len());
        for length in &piece.lengths {
            frames.push(self.frame(&bytes, at..at + length));
            at += length;
        }
        Ok(Digested { offset: piece.offset, bytes, frames })
    }

    fn frame(&self, bytes: &[u8], at: Range<usize>) -> Result<Checked, FrameFault> {
        let frame = bytes.get(at.clone()).unwrap_or_default();
        let shape = Shape::read(frame)?;
        let hashes = shape.records(frame).map(|record| leaf_hash(record.leaf)).collect();
        let signed = self.keys.open_covered(shape.note(frame)).map(drop);
        let refused = shape.records(frame).find_map(|record| {
            let index = record.index;
            (self.check)(record).err().map(|what| (index, what))
        });
        Ok(Checked { shape, at, hashes, signed, refused })
    }
}

/// The threads; they end with this value.
pub(super) struct Crew<'a> {
    work: &'a Work<'a>,
    tasks: Option<Sender<Task>>,
    /// How many pieces may be under way.
    pub(super) depth: usize,
}

impl<'a> Crew<'a> {
    /// As many threads as there are cores for a log of `bytes` bytes; none for a small one.
    pub(super) fn start<'scope>(scope: &'scope Scope<'scope, '_>, work: &'scope Work<'a>, bytes: u64) -> Self
    where
        'scope: 'a,
        'a: 'scope,
    {
        let cores = thread::available_parallelism().map_or(1, std::num::NonZero::get).min(THREADS_MAX);
        if bytes < PARALLEL_BYTES || cores < 2 {
            return Self { work, tasks: None, depth: 1 };
        }
        let (tasks, waiting) = channel::<Task>();
        let waiting = Arc::new(Mutex::new(waiting));
        for _ in 0..cores {
            let waiting = Arc::clone(&waiting);
            scope.spawn(move || {
                while let Some((piece, answer)) = next(&waiting) {
                    // Who asked may have found a fault and gone.
                    drop(answer.send(work.digest(&piece)));
                }
            });
        }
        Self { work, tasks: Some(tasks), depth: 2 * cores }
    }

    /// Begins a piece.
    pub(super) fn begin(&self, piece: Piece) -> Underway {
        let Some(tasks) = &self.tasks else {
            return Underway::Done(self.work.digest(&piece));
        };
        let (answer, receiver) = sync_channel(1);
        match tasks.send((piece, answer)) {
            Ok(()) => Underway::Elsewhere(receiver),
            Err(_) => Underway::Done(Err(gone())),
        }
    }
}

/// A piece on its way.
pub(super) enum Underway {
    Done(Answer),
    Elsewhere(Receiver<Answer>),
}

impl Underway {
    pub(super) fn wait(self) -> Answer {
        match self {
            Self::Done(answer) => answer,
            Self::Elsewhere(receiver) => receiver.recv().unwrap_or_else(|_| Err(gone())),
        }
    }
}

fn next(waiting: &Mutex<Receiver<Task>>) -> Option<Task> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
}

fn gone() -> io::Error {
    io::Error::other("a thread of the verification ended early")
}
