//! Start-up: reads the whole log on the normal path, judges its end, and refuses what was rolled back or damaged.
//!
//! A broken end is cut only above everything that is known to have been confirmed (invariant 12); below it nothing is
//! touched. Frames that are whole but above the mark were written and never acknowledged: they are kept, and synced
//! before they count. It must not know what records say; it hands them to the visitor. It does not append the gap record
//! after a cut: the caller does, because only the caller knows records.

use std::path::PathBuf;
use std::sync::Arc;

use countersign_receipt::merkle::{TreeHead, consistency_proof, empty_root, verify_consistency};
use countersign_receipt::{Checkpoint, KeyChain, Note};

use crate::disk::{Mode, read_file};
use crate::error::{FrameFault, OpenError};
use crate::publish::matches;
use crate::read::PublishedHashes;
use crate::rebuild::Source;
use crate::segment::{self, Found, Frame, Record, SegmentReader};
use crate::snapshot::Origin;
use crate::store::Store;
use crate::tile::Tiler;
use crate::tree::Edge;

/// What the visitor may answer to stop.
#[derive(Debug)]
pub struct VisitError(String);

impl std::fmt::Display for VisitError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl<E: std::error::Error> From<E> for VisitError {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

impl VisitError {
    /// Stops the start-up with this reason.
    pub fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }
}

/// An end of the log that was cut off: bytes of a batch that was never acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// The segment.
    pub segment: PathBuf,
    /// Where it was cut, in bytes.
    pub at: u64,
    /// How many bytes were cut, set-aside zeros included.
    pub bytes: u64,
    /// What was wrong with them.
    pub fault: FrameFault,
}

/// What start-up found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    /// The tree with which service goes on.
    pub head: TreeHead,
    /// The first record that was read: that of a snapshot's edge, or 0. What lies below was not verified.
    pub from: u64,
    /// Whole records above the confirmed mark: durable now, but perhaps never acknowledged.
    pub unconfirmed: u64,
    /// If an end was cut: append a gap record.
    pub cut: Option<Cut>,
    /// Whether published tiles were missing or wrong and are written again.
    pub repairs_tiles: bool,
}

/// A size and root that someone has seen.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Anchor {
    pub(crate) witness: &'static str,
    pub(crate) head: TreeHead,
}

/// What the scan leaves behind for service.
pub(crate) struct Scan {
    pub(crate) head: TreeHead,
    /// The first record that was read.
    pub(crate) from: u64,
    pub(crate) tiler: Tiler,
    /// From where tiles have to be written, if not from the end.
    pub(crate) repair_from: Option<Tiler>,
    /// The last frame's checkpoint.
    pub(crate) note: Option<Arc<str>>,
    /// The last segment: first index and end of its last frame.
    pub(crate) last: Option<(u64, u64)>,
    pub(crate) cut: Option<Cut>,
}

struct Scanner<'a> {
    visit: &'a mut dyn FnMut(Record<'_>) -> Result<(), VisitError>,
    store: &'a Store,
    keys: &'a KeyChain,
    anchors: &'a [Anchor],
    confirmed: u64,
    met: Vec<bool>,
    scan: Scan,
}

/// Reads all segments, or those from an origin on.
pub(crate) fn scan(
    source: Source<'_>,
    origin: Option<Origin>,
    visit: &mut dyn FnMut(Record<'_>) -> Result<(), VisitError>,
) -> Result<Scan, OpenError> {
    let Source { store, keys, anchors } = source;
    let (segment, offset) = origin.as_ref().map_or((0, 0), |origin| (origin.segment, origin.offset));
    let tiler = origin.map_or_else(Tiler::default, |origin| origin.tiler);
    let mut scanner = Scanner {
        visit,
        store,
        keys,
        anchors,
        confirmed: anchors.iter().map(|anchor| anchor.head.size).max().unwrap_or(0),
        met: vec![false; anchors.len()],
        scan: Scan {
            head: TreeHead { size: 0, root: empty_root() },
            from: tiler.size(),
            tiler,
            repair_from: None,
            note: None,
            last: None,
            cut: None,
        },
    };
    scanner.begin()?;
    let mut firsts = segment::list(store).map_err(OpenError::io("list", store.segments()))?;
    firsts.retain(|first| *first >= segment);
    for (at, first) in firsts.iter().enumerate() {
        let place = if *first == segment { (*first, offset) } else { (*first, 0) };
        scanner.segment(place, at + 1 == firsts.len())?;
    }
    scanner.finish()
}

impl Scanner<'_> {
    /// The tree that the scan begins with. What has seen a smaller one has to be proved right by published tiles.
    fn begin(&mut self) -> Result<(), OpenError> {
        let edge = &self.scan.tiler.edge;
        self.scan.head = edge.head().map_err(|_| self.unreachable_root())?;
        for (anchor, met) in self.anchors.iter().zip(&mut self.met) {
            let is_below = anchor.head.size < self.scan.head.size;
            *met |= is_below && extends(self.store, edge, &anchor.head, &self.scan.head);
        }
        self.meet_anchors();
        Ok(())
    }

    /// Reads the segment that begins with record `first`, from a byte offset on.
    fn segment(&mut self, (first, from): (u64, u64), last: bool) -> Result<(), OpenError> {
        let path = self.store.segment(first);
        let io = |operation| OpenError::io(operation, path.clone());
        let mut reader = SegmentReader::open(self.store, first).map_err(io("open"))?;
        if from == 0 && first != self.size() {
            return Err(self.corrupt(&reader, FrameFault::Index { expected: self.size(), found: first }));
        }
        reader.offset = from;
        let start = self.scan.repair_from.is_none().then(|| self.scan.tiler.clone());
        let mut complete = true;
        let mut newest = None;
        loop {
            let offset = reader.offset;
            match reader.next(self.size()).map_err(io("read"))? {
                Found::Frame(frame) => {
                    complete &= self.frame(&frame).map_err(|error| error.at(self, &reader, offset))?;
                    newest = Some((frame, offset));
                }
                Found::End => break,
                Found::Fault(fault) => {
                    self.broken_end(&reader, last, fault)?;
                    break;
                }
            }
        }
        if let Some((frame, offset)) = newest {
            // One signature covers all before it, because every root was recomputed. Who trusts a later key alone
            // (`verify::resume`) looks at the end whether that key signed it.
            if let Err(error) = self.keys.open_covered(frame.note()) {
                return Err(FrameError::Fault(FrameFault::Checkpoint(error)).at(self, &reader, offset));
            }
            self.scan.note = Some(frame.note().into());
        }
        if !complete && let Some(start) = start {
            self.scan.repair_from = Some(start);
        }
        self.scan.last = Some((first, reader.offset));
        Ok(())
    }

    /// Takes one frame in; says whether its full tiles are published as they should be.
    fn frame(&mut self, frame: &Frame) -> Result<bool, FrameError> {
        let mut full = Vec::new();
        for record in frame.records() {
            self.scan.tiler.push(record.leaf, &mut full);
        }
        let head = self.scan.tiler.edge.head().map_err(|_| FrameError::Open(self.unreachable_root()))?;
        judge(frame.note(), self.keys.origin(), &head).map_err(FrameError::Fault)?;
        self.scan.head = head;
        self.meet_anchors();
        for record in frame.records() {
            let index = record.index;
            (self.visit)(record).map_err(|error| FrameError::Open(OpenError::Visitor { index, reason: error.0 }))?;
        }
        Ok(full.iter().all(|file| matches(self.store, file)))
    }

    fn meet_anchors(&mut self) {
        for (anchor, met) in self.anchors.iter().zip(&mut self.met) {
            *met |= anchor.head == self.scan.head;
        }
    }

    /// Cuts only what can be nothing but the last, never acknowledged write.
    fn broken_end(&mut self, reader: &SegmentReader, last: bool, fault: FrameFault) -> Result<(), OpenError> {
        let size = self.size();
        let io = |operation| OpenError::io(operation, reader.path.clone());
        let later = reader.later_frame(size).map_err(io("read"))?;
        // A frame is written only after the sync of the one before: a signed later one means damage, not a torn write.
        let followed = later.is_some_and(|frame| self.keys.open_covered(frame.note()).is_ok());
        if !last || size < self.confirmed || followed {
            return Err(self.corrupt(reader, fault));
        }
        let bytes = reader.size().map_err(io("read"))?.saturating_sub(reader.offset);
        self.scan.cut = Some(Cut { segment: reader.path.clone(), at: reader.offset, bytes, fault });
        Ok(())
    }

    fn corrupt(&self, reader: &SegmentReader, fault: FrameFault) -> OpenError {
        OpenError::Corrupt {
            path: reader.path.clone(),
            offset: reader.offset,
            index: self.size(),
            confirmed: self.confirmed,
            fault,
        }
    }

    fn size(&self) -> u64 {
        self.scan.tiler.size()
    }

    /// The edge lost a hash: a defect of this program.
    fn unreachable_root(&self) -> OpenError {
        OpenError::Corrupt {
            path: self.store.segments(),
            offset: 0,
            index: self.size(),
            confirmed: self.confirmed,
            fault: FrameFault::Shape("no root"),
        }
    }

    fn finish(self) -> Result<Scan, OpenError> {
        for (anchor, met) in self.anchors.iter().zip(&self.met) {
            if !met {
                let (witness, seen) = (anchor.witness, anchor.head.size);
                return Err(OpenError::Rollback { found: self.scan.head.size, witness, seen });
            }
        }
        Ok(self.scan)
    }
}

/// Whether published tiles prove that the tree `new`, whose edge this is, extends `old`.
fn extends(store: &Store, edge: &Edge, old: &TreeHead, new: &TreeHead) -> bool {
    let public = store.public();
    let hashes = PublishedHashes { disk: store.disk(), public: &public, edge };
    let proof = consistency_proof(&hashes, old.size, new.size);
    proof.is_ok_and(|path| verify_consistency(old, new, &path).is_ok())
}

enum FrameError {
    Fault(FrameFault),
    Open(OpenError),
}

impl FrameError {
    fn at(self, scanner: &Scanner<'_>, reader: &SegmentReader, offset: u64) -> OpenError {
        match self {
            Self::Open(error) => error,
            Self::Fault(fault) => OpenError::Corrupt {
                path: reader.path.clone(),
                offset,
                index: scanner.scan.head.size,
                confirmed: scanner.confirmed,
                fault,
            },
        }
    }
}

/// Checks that a frame's checkpoint is of this tree. Its signature is not checked here.
pub(crate) fn judge(note: &str, origin: &str, head: &TreeHead) -> Result<(), FrameFault> {
    let note = Note::parse(note).map_err(|error| FrameFault::Checkpoint(error.into()))?;
    let checkpoint = Checkpoint::parse(note.text()).map_err(FrameFault::Checkpoint)?;
    if checkpoint.origin != origin {
        let (found, expected) = (checkpoint.origin, origin.to_owned());
        return Err(FrameFault::Checkpoint(countersign_receipt::CheckpointError::Origin { found, expected }));
    }
    if checkpoint.size != head.size {
        return Err(FrameFault::Size { found: head.size, signed: checkpoint.size });
    }
    if checkpoint.root != head.root {
        return Err(FrameFault::Root { found: head.root, signed: checkpoint.root });
    }
    Ok(())
}

/// What is known to have been seen of the log: what the mark says, and what was published.
pub(crate) fn anchors(store: &Store, keys: &KeyChain, marked: TreeHead) -> Result<Vec<Anchor>, OpenError> {
    let mut anchors = vec![Anchor { witness: "the confirmed mark", head: marked }];
    anchors.extend(published(store, keys)?);
    Ok(anchors)
}

/// What the public folder has told the world; `None` if it has no checkpoint.
fn published(store: &Store, keys: &KeyChain) -> Result<Option<Anchor>, OpenError> {
    let path = store.checkpoint();
    let bytes = match read_file(store.disk(), &path, countersign_receipt::note::MAX_NOTE_BYTES as u64) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(OpenError::io("read", &path)(error)),
    };
    let opened = keys.open_covered(&String::from_utf8_lossy(&bytes));
    let checkpoint = opened.map_err(|source| OpenError::Checkpoint { path, source })?;
    Ok(Some(Anchor { witness: "the published checkpoint", head: checkpoint.head() }))
}

/// Makes what the scan accepted durable, and cuts what it cut.
pub(crate) fn settle(store: &Store, scan: &Scan) -> Result<(), OpenError> {
    if let Some((first, end)) = scan.last {
        let path = store.segment(first);
        let io = |operation| OpenError::io(operation, path.clone());
        let file = store.disk().open(&path, Mode::Edit).map_err(io("open"))?;
        if scan.cut.is_some() {
            file.truncate(end).map_err(io("truncation"))?;
        }
        file.sync_data().map_err(io("sync"))?;
    }
    // A process that ended while it created the ledger may have left names that only memory knows: the key's, for one.
    [store.segments(), store.dir().to_path_buf()]
        .iter()
        .try_for_each(|dir| store.disk().sync_dir(dir).map_err(OpenError::io("sync", dir)))
}
