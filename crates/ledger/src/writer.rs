//! The one writer: takes what waits, makes it one frame, syncs, moves the mark, answers.
//!
//! A batch is committed the moment the previous sync returned, but where records come faster than syncs and many calls are
//! open it waits a moment for theirs ([`Writer::gather`]): a commit costs the processor as much as many records do, and takes
//! it from the calls that would fill the next one. The order is the promise: space, write, sync, mark, signer's high-water,
//! then answers and publication. A failed write or sync stops the ledger until it is opened anew, because neither the
//! descriptor nor the tree in memory can be trusted after it. It must not know what
//! records say. It does not cover the queue (`shared`) and tiles (`publish`).

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

use countersign_receipt::merkle::TreeHead;
use countersign_receipt::{Checkpoint, Note};

use crate::append::{Acked, Batch, Job, OUTCOME_ROOM};
use crate::disk::{Access, DiskFile, Mode};
use crate::error::{AppendError, SignError};
use crate::fresh;
use crate::mark::Mark;
use crate::publish::Publisher;
use crate::rotate;
use crate::segment::{FRAME_OVERHEAD, FrameWriter};
use crate::shared::{Confirmed, Phase, Shared, State};
use crate::tree::{BatchTiles, Edge};

/// The most records in one frame.
const BATCH_RECORDS: usize = 4096;
/// A batch waits for more only while fewer than one in so many open calls have a record in it.
const GATHERED_PART: u64 = 4;
/// A frame takes no further record beyond this many bytes.
const BATCH_BYTES: u64 = 8 << 20;

/// The segment that is written.
pub(crate) struct Segment {
    pub(crate) file: Box<dyn DiskFile>,
    pub(crate) path: PathBuf,
    /// Where the next frame goes.
    pub(crate) offset: u64,
    /// Up to where space is set aside.
    pub(crate) allocated: u64,
}

/// The thread's own things. Nothing here is shared; after a failure nothing here is used again.
pub(crate) struct Writer {
    pub(crate) shared: Arc<Shared>,
    pub(crate) segment: Segment,
    pub(crate) mark: Mark,
    pub(crate) edge: Edge,
    pub(crate) frame: FrameWriter,
    /// A change of the key that is on record and not complete.
    pub(crate) rotating: Option<rotate::Committed>,
    /// Present in inline mode only.
    pub(crate) publisher: Option<Publisher>,
}

/// Why a batch was not committed.
pub(crate) enum Stop {
    /// Nothing was written; the ledger goes on.
    Refused(AppendError),
    /// The disk cannot be trusted.
    Failed(AppendError),
}

impl Writer {
    /// The thread: until closed or failed.
    pub(crate) fn run(mut self) {
        let result = self.serve();
        let mut state = self.shared.state();
        let mut left = VecDeque::new();
        if let Err(error) = result {
            tracing::error!(%error, "ledger stopped");
            state.phase = Phase::Failed(error.clone());
            left = std::mem::take(&mut state.waiting);
            state.waiting_bytes = 0;
        }
        state.busy = false;
        state.writer_done = true;
        let error = match &state.phase {
            Phase::Failed(error) => error.clone(),
            Phase::Open | Phase::Closing => AppendError::Closed,
        };
        drop(state);
        left.into_iter().for_each(|job| job.answer(Err(error.clone())));
        self.shared.news.notify_all();
        self.shared.settled.notify_all();
    }

    fn serve(&mut self) -> Result<(), AppendError> {
        while let Some(mut jobs) = self.take()? {
            match self.commit(&mut jobs) {
                Ok(answers) => {
                    jobs.into_iter().zip(answers).for_each(|(job, acked)| job.answer(Ok(acked)));
                    self.publish_inline();
                    self.gather();
                }
                Err(Stop::Refused(error)) => jobs.into_iter().for_each(|job| job.answer(Err(error.clone()))),
                Err(Stop::Failed(error)) => {
                    // The phase first: whoever sees the answer must not find the ledger still open.
                    self.shared.state().phase = Phase::Failed(error.clone());
                    jobs.into_iter().for_each(|job| job.answer(Err(error.clone())));
                    return Err(error);
                }
            }
        }
        self.finish()
    }

    /// The next batch, or `None` once closed and empty. Syncs the mark when there was nothing to do for a while.
    fn take(&mut self) -> Result<Option<Vec<Job>>, AppendError> {
        let shared = Arc::clone(&self.shared);
        let mut state = shared.state();
        state.busy = false;
        loop {
            if !state.waiting.is_empty() {
                break;
            }
            shared.settled.notify_all();
            if !matches!(state.phase, Phase::Open) {
                return Ok(None);
            }
            let idle = shared.config.idle_sync.filter(|_| !self.mark.is_synced());
            let Some(idle) = idle else {
                state = shared.work.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let (again, timeout) = shared.work.wait_timeout(state, idle).unwrap_or_else(PoisonError::into_inner);
            state = again;
            if timeout.timed_out() && state.waiting.is_empty() {
                drop(state);
                self.mark.sync().map_err(|error| failed("sync", &shared.store.mark(), &error))?;
                state = shared.state();
            }
        }
        state.busy = true;
        let mut jobs = Vec::new();
        let mut bytes = 0;
        while let Some(job) = state.waiting.front() {
            let room = job.entry.room();
            let is_alone = job.rotating.is_some();
            if jobs.len() == BATCH_RECORDS || (!jobs.is_empty() && (is_alone || bytes + room > BATCH_BYTES)) {
                break;
            }
            bytes += room;
            state.waiting_bytes = state.waiting_bytes.saturating_sub(room);
            jobs.extend(state.waiting.pop_front());
            if is_alone {
                break;
            }
        }
        Ok(Some(jobs))
    }

    /// Waits a moment for more records after a commit during which some came, where more are sure to.
    fn gather(&self) {
        let mut state = self.shared.state();
        let wanted = usize::try_from(self.shared.open_slots() / GATHERED_PART).unwrap_or(usize::MAX);
        let is_short = |state: &mut State| state.waiting.len() < wanted && matches!(state.phase, Phase::Open);
        // One record that came during a sync says nothing yet, and must not wait for others.
        if state.waiting.len() < 2 || !is_short(&mut state) {
            return;
        }
        state.wanted = wanted;
        let waited = self.shared.work.wait_timeout_while(state, self.shared.config.gather, is_short);
        waited.unwrap_or_else(PoisonError::into_inner).0.wanted = 0;
    }

    /// Makes the batch durable. On success there is one answer for each job that is left in `jobs`.
    fn commit(&mut self, jobs: &mut Vec<Job>) -> Result<Vec<Acked>, Stop> {
        self.finish_rotation()?;
        self.set_space_aside(jobs)?;
        if jobs.is_empty() {
            return Ok(Vec::new());
        }
        let begun = self.state(jobs)?;
        let first = self.edge.size();
        let defect = |what: String| Stop::Refused(AppendError::Signer(SignError::Unavailable(what)));
        let grown = BatchTiles::grow(&self.edge, jobs.iter().map(|job| job.leaf_hash));
        let (tiles, head) = grown.map_err(|missing| defect(missing.to_string()))?;
        let note: Arc<str> = match self.sign(&head, &tiles) {
            Ok(note) => note.into(),
            Err(stop) => {
                begun.iter().for_each(|_| self.abandon());
                return Err(stop);
            }
        };
        self.begin(begun.as_ref())?;
        self.frame.start(first);
        jobs.iter().for_each(|job| self.frame.record(&job.entry.leaf, job.entry.payload.as_deref()));
        let frame = self.frame.finish(&note).map_err(|fault| defect(fault.to_string()))?;
        let segment = &mut self.segment;
        segment.file.write_at(segment.offset, frame).map_err(|error| unwritten("write", &segment.path, &error))?;
        segment.file.sync_data().map_err(|error| stop("sync", &segment.path, &error))?;
        segment.offset += frame.len() as u64;
        self.mark.write(&head).map_err(|error| stop("write", &self.shared.store.mark(), &error))?;
        // Durable by now: not the error that says that nothing was written.
        let unconfirmed = |error: SignError| stop("confirmation", &self.shared.store.mark(), &io::Error::other(error));
        self.shared.signer.confirm(&head).map_err(unconfirmed)?;
        self.edge = tiles.edge.clone();
        let keys = Arc::clone(&self.shared.confirmed().keys);
        let confirmed = Confirmed { head, note: Arc::clone(&note), edge: self.edge.clone(), keys };
        let batch = Arc::new(Batch { tiles, note });
        let answers = jobs.iter().zip(first..).map(|(job, index)| Acked {
            index,
            leaf_hash: job.leaf_hash,
            payload_stored: job.payload_stored,
            batch: Arc::clone(&batch),
        });
        let answers = answers.collect();
        let leaves = jobs.iter_mut().map(|job| (std::mem::take(&mut job.entry.leaf), job.leaf_hash)).collect();
        self.shared.fresh.put(fresh::Batch { first, leaves });
        self.shared.state().confirmed = Arc::new(confirmed);
        self.committed(begun, head, &batch.tiles);
        self.shared.news.notify_one();
        self.shared.sizes.send_replace(head.size);
        Ok(answers)
    }

    fn sign(&self, head: &TreeHead, tiles: &BatchTiles) -> Result<String, Stop> {
        let keys = Arc::clone(&self.shared.confirmed().keys);
        let refused = |error| Stop::Refused(AppendError::Signer(error));
        let key = keys.key_at(head.size);
        // Never the wrong key's signature in a frame, whatever became of a change of the key.
        if self.shared.signer.verifier_key() != *key {
            return Err(refused(SignError::Unavailable(format!("the signer does not hold the key `{key}`"))));
        }
        let checkpoint = Checkpoint { origin: key.name().to_owned(), size: head.size, root: head.root };
        let signature = self.shared.signer.sign(&checkpoint, &self.shared.history(tiles)).map_err(refused)?;
        Ok(Note::render(&checkpoint.signed_body(), key, &signature))
    }

    /// Sees to it that the batch fits and that after it every open action still has room for its outcome (invariant 7).
    ///
    /// If the disk is full, everything but outcomes is answered and taken out: outcomes have their room already. Only
    /// what was never guaranteed, a payload above [`crate::OUTCOME_PAYLOAD_BYTES`], is left out then.
    fn set_space_aside(&mut self, jobs: &mut Vec<Job>) -> Result<(), Stop> {
        let batch = |jobs: &[Job]| FRAME_OVERHEAD + jobs.iter().map(|job| job.entry.room()).sum::<u64>();
        let held = jobs.iter().filter(|job| job.slot.is_some()).count() as u64;
        let open = self.shared.open_slots().saturating_sub(held) * OUTCOME_ROOM;
        if self.segment.offset >= self.shared.config.segment_bytes {
            self.rotate(batch(jobs) + open)?;
        }
        if self.grow(batch(jobs) + open)? {
            return Ok(());
        }
        let full = AppendError::DiskFull { path: self.segment.path.clone() };
        tracing::warn!(error = %full, "new records are refused");
        let (outcomes, others): (Vec<Job>, Vec<Job>) = jobs.drain(..).partition(|job| job.slot.is_some());
        others.into_iter().for_each(|job| job.answer(Err(full.clone())));
        *jobs = outcomes;
        for job in jobs.iter_mut() {
            job.payload_stored &= !job.entry.drop_optional_payload();
        }
        // An outcome whose intent was refused has no room of its own; it alone can fail here.
        if !jobs.is_empty() && !self.grow(batch(jobs))? {
            return Err(Stop::Refused(full));
        }
        Ok(())
    }

    /// Sets `need` bytes aside behind the offset; false if the disk is full.
    fn grow(&mut self, need: u64) -> Result<bool, Stop> {
        let segment = &mut self.segment;
        let end = segment.offset + need;
        if end <= segment.allocated {
            return Ok(true);
        }
        let length = end.next_multiple_of(self.shared.config.chunk_bytes.max(1));
        match segment.file.allocate(length) {
            Ok(()) => {
                segment.allocated = length;
                Ok(true)
            }
            Err(error) if is_full(&error) => Ok(false),
            Err(error) => Err(unwritten("allocation", &segment.path, &error)),
        }
    }

    /// Goes on in a new segment, once it has its space. If there is none, the old one may still have room.
    fn rotate(&mut self, need: u64) -> Result<(), Stop> {
        let store = self.shared.store.clone();
        let disk = store.disk();
        // From here on a broken frame in the old segment is damage, whatever else was lost.
        self.mark.sync().map_err(|error| stop("sync", &store.mark(), &error))?;
        let path = store.segment(self.edge.size());
        let allocated = need.next_multiple_of(self.shared.config.chunk_bytes.max(1));
        let made = disk.open(&path, Mode::Replace(Access::Private)).and_then(|file| {
            file.allocate(allocated)?;
            Ok(file)
        });
        let file = match made {
            Ok(file) => file,
            Err(error) if is_full(&error) => return discard(disk.remove(&path), &path),
            Err(error) => return Err(stop("creation", &path, &error)),
        };
        disk.sync_dir(&store.segments()).map_err(|error| stop("sync", &store.segments(), &error))?;
        let old = std::mem::replace(&mut self.segment, Segment { file, path, offset: 0, allocated });
        // Gives space back; zeros behind the last frame are fine too.
        if let Err(error) = old.file.truncate(old.offset) {
            tracing::warn!(%error, path = %old.path.display(), "segment keeps its spare space");
        }
        Ok(())
    }

    /// A clean close: the mark is durable and the segment ends with its last frame.
    fn finish(&mut self) -> Result<(), AppendError> {
        self.mark.sync().map_err(|error| failed("sync", &self.shared.store.mark(), &error))?;
        let segment = &self.segment;
        segment.file.truncate(segment.offset).map_err(|error| failed("truncation", &segment.path, &error))?;
        self.publish_inline();
        Ok(())
    }

    fn publish_inline(&mut self) {
        if let Some(publisher) = &mut self.publisher {
            let confirmed = self.shared.confirmed();
            let cosigned = self.shared.state().cosigned.clone();
            if let Err(error) = publisher.publish(&confirmed, cosigned.as_deref(), &self.shared.fresh) {
                tracing::warn!(%error, "checkpoint is not published yet");
            }
            self.shared.state().published = publisher.published();
        }
    }
}

fn discard(removed: io::Result<()>, path: &Path) -> Result<(), Stop> {
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(stop("removal", path, &error)),
        _ => Ok(()),
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

pub(crate) fn stop(operation: &'static str, path: &Path, error: &io::Error) -> Stop {
    Stop::Failed(failed(operation, path, error))
}

/// A write into space that no frame owns yet. On a read-only file system the frame is surely not whole, and the next one
/// goes to the same place; any other error leaves the file in doubt.
fn unwritten(operation: &'static str, path: &Path, error: &io::Error) -> Stop {
    match error.kind() {
        io::ErrorKind::ReadOnlyFilesystem => Stop::Refused(AppendError::ReadOnly { path: path.to_path_buf() }),
        _ => stop(operation, path, error),
    }
}

fn failed(operation: &'static str, path: &Path, error: &io::Error) -> AppendError {
    AppendError::Failed { operation, path: path.to_path_buf(), reason: error.to_string() }
}
