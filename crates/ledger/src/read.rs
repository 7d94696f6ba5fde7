//! Reading: a record by its index, the tail, and proofs of old records at the current size.
//!
//! Reads see confirmed records only. Hashes come from the edge in memory, from published tiles, or, where publication
//! lags, from the segments; every proof is checked before it is handed out, so a damaged tile cannot make a wrong one.
//! It must not know what records say. It does not cover queries by content: that is the index's work.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use countersign_receipt::merkle::{
    self, BuildError, MerkleError, TreeHead, consistency_proof, inclusion_proof, leaf_hash, verify_consistency,
    verify_inclusion,
};
use countersign_receipt::{CoseReceipt, Hash, HashReader, TlogProof, cose};

use crate::disk::{Disk, read_file};
use crate::error::SignError;
use crate::segment::{self, Found, Frame, Record, SegmentReader};
use crate::shared::{Confirmed, Shared};
use crate::signer::History;
use crate::store::Store;
use crate::tile::hash_path;
use crate::tree::{BatchTiles, Edge, TILE_WIDTH, Tile, place};

/// How many tiles and how many frame positions are kept.
const CACHED: usize = 256;
/// How often a COSE Receipt is begun anew because the log grew meanwhile.
const COSE_TRIES: u32 = 16;
/// Every how many frames a position is kept.
const STRIDE: usize = 64;

/// Why something could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// There is no such record or size.
    #[error("record `{index}` is not in a log of `{size}` records")]
    OutOfRange {
        /// What was asked for.
        index: u64,
        /// The confirmed size.
        size: u64,
    },
    /// It is not kept any more.
    #[error(
        "record `{index}` is pruned: the log is kept from record `{minimum}` on; receipts that were given out still verify"
    )]
    Pruned {
        /// What was asked for.
        index: u64,
        /// The first record that is kept.
        minimum: u64,
    },
    /// The disk said no, or holds something else than what was confirmed.
    #[error("log could not be read: {0}")]
    Io(#[from] io::Error),
    /// The signer would not sign a receipt.
    #[error("receipt could not be signed: {0}")]
    Sign(#[from] SignError),
    /// Stored hashes do not lead to the confirmed root.
    #[error("tiles do not lead to the confirmed root: {0}; run a verification of the ledger")]
    Tiles(MerkleError),
}

/// A record that was read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRecord {
    /// Its index in the log.
    pub index: u64,
    /// The leaf.
    pub leaf: Vec<u8>,
    /// What was stored beside it.
    pub payload: Option<Vec<u8>>,
}

impl StoredRecord {
    /// The same, borrowed.
    #[must_use]
    pub fn as_record(&self) -> Record<'_> {
        Record { index: self.index, leaf: &self.leaf, payload: self.payload.as_deref() }
    }
}

/// The proof that the current tree extends an older one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consistency {
    /// The older tree.
    pub old: TreeHead,
    /// The current tree.
    pub new: TreeHead,
    /// The path between them.
    pub path: Vec<Hash>,
    /// The signed checkpoint of the current tree.
    pub checkpoint: String,
}

/// Small caches, cleared when full.
#[derive(Default)]
pub(crate) struct Caches {
    tiles: Mutex<BTreeMap<(u8, u64), Arc<Tile>>>,
    positions: Mutex<BTreeMap<u64, (u64, u64)>>,
}

/// Walks frames in order, across segments.
pub(crate) struct FrameCursor {
    store: Store,
    reader: Option<SegmentReader>,
    next: u64,
}

impl FrameCursor {
    /// Starts at the frame that begins with record `next`.
    pub(crate) fn new(store: &Store, next: u64) -> Self {
        Self { store: store.clone(), reader: None, next }
    }

    /// Starts where `reader` stands: before the frame that begins with record `next`.
    pub(crate) fn at(store: &Store, reader: SegmentReader, next: u64) -> Self {
        Self { store: store.clone(), reader: Some(reader), next }
    }

    /// Reads the frame that starts with record `first`, which the caller knows to be confirmed; best in order.
    pub(crate) fn frame_of(&mut self, first: u64) -> io::Result<Frame> {
        if self.next != first {
            *self = Self::new(&self.store, first);
        }
        self.next_frame()
    }

    /// Reads the next frame, which the caller knows to be confirmed.
    pub(crate) fn next_frame(&mut self) -> io::Result<Frame> {
        if self.reader.is_none() {
            let positions = Mutex::default();
            self.reader = Some(seek(&self.store, self.next, &positions)?.0);
        }
        for _ in 0..2 {
            let Some(reader) = &mut self.reader else { break };
            match reader.next(self.next)? {
                Found::Frame(frame) => {
                    self.next = frame.next_index();
                    return Ok(frame);
                }
                Found::End => self.reader = Some(SegmentReader::open(&self.store, self.next)?),
                Found::Fault(fault) => return Err(damaged(&format!("record `{}`: {fault}", self.next))),
            }
        }
        Err(damaged(&format!("record `{}` is missing", self.next)))
    }
}

/// A reader that stands before the frame with record `index`, and the first record of that frame.
pub(crate) fn seek(
    store: &Store,
    index: u64,
    cache: &Mutex<BTreeMap<u64, (u64, u64)>>,
) -> io::Result<(SegmentReader, u64)> {
    let missing = || damaged(&format!("record `{index}` is missing"));
    let firsts = segment::list(store)?;
    let first = firsts.into_iter().rev().find(|first| *first <= index).ok_or_else(missing)?;
    let mut reader = SegmentReader::open(store, first)?;
    let mut positions = cache.lock().unwrap_or_else(PoisonError::into_inner);
    let mut at = first;
    if let Some((known, (segment, offset))) = positions.range(..=index).next_back()
        && *segment == first
    {
        (at, reader.offset) = (*known, *offset);
    }
    for step in 0.. {
        let offset = reader.offset;
        if step % STRIDE == STRIDE - 1 {
            if positions.len() >= CACHED * STRIDE {
                positions.clear();
            }
            positions.insert(at, (first, offset));
        }
        let Some(header) = reader.skip()? else {
            // Nothing follows yet: the next frame of a live segment starts here.
            return if at == index { Ok((reader, at)) } else { Err(missing()) };
        };
        at = header.first + u64::from(header.count);
        if at > index {
            reader.offset = offset;
            return Ok((reader, header.first));
        }
    }
    Err(missing())
}

/// A record that is known to be confirmed.
pub(crate) fn stored_record(
    store: &Store,
    index: u64,
    positions: &Mutex<BTreeMap<u64, (u64, u64)>>,
) -> Result<StoredRecord, ReadError> {
    let (mut reader, first) = seek(store, index, positions)?;
    let Found::Frame(frame) = reader.next(first)? else {
        return Err(damaged(&format!("record `{index}` cannot be read")).into());
    };
    let found = frame.records().find(|record| record.index == index).map(stored);
    found.ok_or_else(|| damaged(&format!("record `{index}` is missing")).into())
}

/// Hashes of full tiles as they lie in the public folder, and of an edge. Whoever reads them has to check them.
pub(crate) struct PublishedHashes<'a> {
    pub(crate) disk: &'a dyn Disk,
    pub(crate) public: &'a Path,
    pub(crate) edge: &'a Edge,
}

impl HashReader for PublishedHashes<'_> {
    type Error = io::Error;

    fn hash(&self, level: u8, index: u64) -> io::Result<Hash> {
        if let Ok(hash) = self.edge.hash(level, index) {
            return Ok(hash);
        }
        let (tile_level, number, row, at) = place(level, index);
        let path = self.public.join(hash_path(tile_level, number, TILE_WIDTH));
        let bytes = read_file(self.disk, &path, 32 * TILE_WIDTH)?;
        let tile = Tile::from_bytes(&bytes).filter(|_| bytes.len() as u64 == 32 * TILE_WIDTH);
        tile.and_then(|tile| tile.hash(row, at)).ok_or_else(|| damaged("a tile is too short"))
    }
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

impl Shared {
    fn is_kept(&self, index: u64) -> Result<(), ReadError> {
        let minimum = self.minimum();
        if index < minimum { Err(ReadError::Pruned { index, minimum }) } else { Ok(()) }
    }

    pub(crate) fn record(&self, index: u64) -> Result<StoredRecord, ReadError> {
        let size = self.confirmed().head.size;
        if index >= size {
            return Err(ReadError::OutOfRange { index, size });
        }
        self.is_kept(index)?;
        stored_record(&self.store, index, &self.caches.positions)
    }

    pub(crate) fn prove(&self, index: u64) -> Result<TlogProof, ReadError> {
        let confirmed = self.confirmed();
        let path = self.path(&confirmed, index)?;
        Ok(TlogProof { extra: None, index, path, checkpoint: confirmed.note.to_string() })
    }

    pub(crate) fn cose_receipt(&self, index: u64) -> Result<CoseReceipt, ReadError> {
        let leaf = self.record(index)?.leaf;
        // A commit may be confirmed between the two steps; the signer then refuses the smaller tree, and the next has it.
        let mut tries = COSE_TRIES;
        loop {
            tries -= 1;
            let confirmed = self.confirmed();
            let path = self.path(&confirmed, index)?;
            let TreeHead { size, .. } = confirmed.head;
            let key = confirmed.keys.key_at(size);
            if *key != self.signer.verifier_key() {
                let why = "the key was changed with the newest record; there are receipts again after the next one";
                return Err(SignError::Rotation(why.to_owned()).into());
            }
            let tiles = BatchTiles::of(confirmed.edge.clone());
            match self.signer.sign_receipt(&confirmed.head, &self.history(&tiles)) {
                Ok(signature) => {
                    let kid = cose::key_id(key);
                    return Ok(CoseReceipt { kid, signed_size: size, size, index, path, leaf, signature });
                }
                Err(SignError::Smaller { .. }) if tries > 0 => std::thread::sleep(Duration::from_millis(1)),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The checked path of a record in the confirmed tree.
    fn path(&self, confirmed: &Confirmed, index: u64) -> Result<Vec<Hash>, ReadError> {
        let TreeHead { size, root } = confirmed.head;
        if index >= size {
            return Err(ReadError::OutOfRange { index, size });
        }
        self.is_kept(index)?;
        let hashes = LogHashes { shared: self, confirmed };
        let path = inclusion_proof(&hashes, index, size).map_err(build_error)?;
        let leaf = hashes.hash(0, index)?;
        verify_inclusion(&leaf, index, size, &path, &root).map_err(|error| self.distrust(error))?;
        Ok(path)
    }

    pub(crate) fn consistency(&self, old: u64) -> Result<Consistency, ReadError> {
        let confirmed = self.confirmed();
        let new = confirmed.head;
        if old > new.size {
            return Err(ReadError::OutOfRange { index: old, size: new.size });
        }
        let hashes = LogHashes { shared: self, confirmed: &confirmed };
        // Smaller trees can still be proved where the hashes that are kept happen to do.
        let read = |error| match self.is_kept(old) {
            Err(pruned) if old > 0 => pruned,
            _ => build_error(error),
        };
        let old = TreeHead { size: old, root: merkle::root(&hashes, old).map_err(read)? };
        let path = consistency_proof(&hashes, old.size, new.size).map_err(read)?;
        verify_consistency(&old, &new, &path).map_err(|error| self.distrust(error))?;
        Ok(Consistency { old, new, path, checkpoint: confirmed.note.to_string() })
    }

    fn distrust(&self, error: MerkleError) -> ReadError {
        self.caches.tiles.lock().unwrap_or_else(PoisonError::into_inner).clear();
        ReadError::Tiles(error)
    }

    fn tile(&self, level: u8, number: u64) -> io::Result<Arc<Tile>> {
        let cached = self.caches.tiles.lock().unwrap_or_else(PoisonError::into_inner).get(&(level, number)).cloned();
        if let Some(tile) = cached {
            return Ok(tile);
        }
        let path = self.store.public().join(hash_path(level, number, TILE_WIDTH));
        let bytes = read_file(self.store.disk(), &path, 32 * TILE_WIDTH).ok();
        let published = bytes.filter(|bytes| bytes.len() as u64 == 32 * TILE_WIDTH);
        let tile = match published.and_then(|bytes| Tile::from_bytes(&bytes)) {
            Some(tile) => tile,
            None => self.tile_from_log(level, number)?,
        };
        let tile = Arc::new(tile);
        let mut tiles = self.caches.tiles.lock().unwrap_or_else(PoisonError::into_inner);
        if tiles.len() >= CACHED {
            tiles.clear();
        }
        tiles.insert((level, number), Arc::clone(&tile));
        Ok(tile)
    }

    /// A full tile that is not published yet.
    fn tile_from_log(&self, level: u8, number: u64) -> io::Result<Tile> {
        let mut tile = Tile::default();
        let start = number * TILE_WIDTH;
        let Some(below) = level.checked_sub(1) else {
            let (mut reader, mut next) = seek(&self.store, start, &self.caches.positions)?;
            let end = start + TILE_WIDTH;
            while next < end {
                let frame = match reader.next(next)? {
                    Found::Frame(frame) => frame,
                    Found::End => {
                        reader = SegmentReader::open(&self.store, next)?;
                        continue;
                    }
                    Found::Fault(fault) => return Err(damaged(&format!("record `{next}`: {fault}"))),
                };
                for record in frame.records().filter(|record| (start..end).contains(&record.index)) {
                    tile.push(leaf_hash(record.leaf));
                }
                next = frame.next_index();
            }
            return Ok(tile);
        };
        for child in start..start + TILE_WIDTH {
            let child = self.tile(below, child)?;
            let (left, right) = (child.hash(7, 0), child.hash(7, 1));
            let (Some(left), Some(right)) = (left, right) else { return Err(damaged("a tile is not full")) };
            tile.push(merkle::node_hash(&left, &right));
        }
        Ok(tile)
    }
}

/// The tree after a batch: hashes from the batch, and below it from tiles.
pub(crate) struct BatchHistory<'a> {
    shared: &'a Shared,
    tiles: &'a BatchTiles,
}

impl HashReader for BatchHistory<'_> {
    type Error = io::Error;

    fn hash(&self, level: u8, index: u64) -> io::Result<Hash> {
        if let Ok(hash) = self.tiles.hash(level, index) {
            return Ok(hash);
        }
        let (tile_level, number, row, at) = place(level, index);
        let tile = self.shared.tile(tile_level, number)?;
        tile.hash(row, at).ok_or_else(|| damaged("a tile is too short"))
    }
}

impl History for BatchHistory<'_> {
    fn since(&self, size: u64) -> Result<Vec<Hash>, SignError> {
        let proof = consistency_proof(self, size, self.tiles.edge.size());
        proof.map_err(|error| {
            let why = build_error(error);
            SignError::Unavailable(format!("no proof from size `{size}`: {why}"))
        })
    }
}

impl Shared {
    pub(crate) fn history<'a>(&'a self, tiles: &'a BatchTiles) -> BatchHistory<'a> {
        BatchHistory { shared: self, tiles }
    }
}

pub(crate) struct LogHashes<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) confirmed: &'a Confirmed,
}

impl HashReader for LogHashes<'_> {
    type Error = io::Error;

    fn hash(&self, level: u8, index: u64) -> io::Result<Hash> {
        if let Ok(hash) = self.confirmed.edge.hash(level, index) {
            return Ok(hash);
        }
        let (tile_level, number, row, at) = place(level, index);
        let tile = self.shared.tile(tile_level, number)?;
        tile.hash(row, at).ok_or_else(|| damaged("a tile is too short"))
    }
}

pub(crate) fn build_error(error: BuildError<io::Error>) -> ReadError {
    match error {
        BuildError::Impossible(error) => ReadError::Tiles(error),
        BuildError::Read(error) => ReadError::Io(error),
    }
}

pub(crate) fn stored(record: segment::Record<'_>) -> StoredRecord {
    let payload = record.payload.map(<[u8]>::to_vec);
    StoredRecord { index: record.index, leaf: record.leaf.to_vec(), payload }
}

/// Records from some index on. `None` means that nothing further is confirmed yet: ask again later.
///
/// An error ends it: it comes once, and after it there is only `None`. Begin another one at the record that is missing.
pub struct Tail {
    shared: Arc<Shared>,
    next: u64,
    cursor: Option<FrameCursor>,
    ready: VecDeque<StoredRecord>,
    /// The disk said no: where the cursor stands is not known any more.
    has_failed: bool,
}

impl Tail {
    pub(crate) fn new(shared: Arc<Shared>, from: u64) -> Self {
        Self { shared, next: from, cursor: None, ready: VecDeque::new(), has_failed: false }
    }

    fn fill(&mut self) -> io::Result<()> {
        let cursor = match &mut self.cursor {
            Some(cursor) => cursor,
            None => {
                let (reader, first) = seek(&self.shared.store, self.next, &self.shared.caches.positions)?;
                let store = self.shared.store.clone();
                self.cursor.insert(FrameCursor { store, reader: Some(reader), next: first })
            }
        };
        let frame = cursor.next_frame()?;
        self.ready.extend(frame.records().filter(|record| record.index >= self.next).map(stored));
        Ok(())
    }
}

impl Iterator for Tail {
    type Item = Result<StoredRecord, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ready.is_empty() {
            if self.has_failed || self.next >= self.shared.confirmed().head.size {
                return None;
            }
            if let Err(error) = self.shared.is_kept(self.next).and_then(|()| Ok(self.fill()?)) {
                self.has_failed = true;
                return Some(Err(error));
            }
        }
        let record = self.ready.pop_front()?;
        self.next = record.index + 1;
        Some(Ok(record))
    }
}
