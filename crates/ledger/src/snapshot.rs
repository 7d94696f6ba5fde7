//! Snapshots: what a start-up needs to go on from the middle of the log instead of reading it from its first record.
//!
//! A file holds the tree's edge, the begun bundle of entries, the place of the next frame and the state of whoever folds
//! the records. None of it is believed: the edge has to lead to the roots that the frames after it have signed, the bundle
//! to the edge, the place to the next frame, and a record in those frames has to commit to the state, which the folder
//! of records checks ([`crate::Rebuild::finish`]). So a file that was swapped, torn or bent costs time and nothing else.
//! It must not know what a state says. It does not cover when to write one.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use countersign_receipt::merkle::{TreeHead, leaf_hash};

use crate::disk::{Access, Mode, read_file, replace_file};
use crate::read::ReadError;
use crate::recover::VisitError;
use crate::segment::{Found, Record, SegmentReader};
use crate::shared::Shared;
use crate::store::Store;
use crate::tile::{Tiler, entries_path, hash_path, split_entries};
use crate::tree::{Edge, TILE_WIDTH, Tile};

#[cfg(test)]
mod tests;

/// The largest file of a snapshot, in bytes.
pub const MAX_SNAPSHOT_BYTES: u64 = 512 << 20;
/// How many snapshots are kept.
pub const SNAPSHOTS_KEPT: usize = 2;

const MAGIC: [u8; 4] = *b"CSS1";

/// Why a snapshot was not written.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The public folder is behind: its tiles could not be trusted to be whole. Try again later.
    #[error("the public folder stands at `{published}`, the snapshot at `{size}`")]
    Unpublished {
        /// The size of the published checkpoint.
        published: u64,
        /// The snapshot's.
        size: u64,
    },
    /// The state is too large.
    #[error("a snapshot of `{bytes}` bytes is over {MAX_SNAPSHOT_BYTES}")]
    TooLarge {
        /// How large.
        bytes: u64,
    },
    /// The disk said no.
    #[error("`{}` could not be written: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

/// Where a scan begins.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    pub(crate) tiler: Tiler,
    /// The segment of the next frame, by its first record.
    pub(crate) segment: u64,
    /// Where the next frame begins in it, in bytes.
    pub(crate) offset: u64,
}

/// A snapshot as it lies in its file.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    pub(crate) origin: Origin,
    pub(crate) head: TreeHead,
    pub(crate) state: Vec<u8>,
}

/// The sizes of the snapshots that there are, newest first.
pub(crate) fn list(store: &Store) -> io::Result<Vec<u64>> {
    let names = match store.disk().list(&store.snapshots()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        names => names?,
    };
    Ok(numbered(&names, ".snap"))
}

/// The numbers that stand in names of 20 digits with this ending, largest first.
pub(crate) fn numbered(names: &[String], ending: &str) -> Vec<u64> {
    let number = |name: &String| {
        let digits = name.strip_suffix(ending)?;
        (digits.len() == 20).then(|| digits.parse().ok()).flatten()
    };
    let mut numbers: Vec<u64> = names.iter().filter_map(number).collect();
    numbers.sort_unstable_by(|a, b| b.cmp(a));
    numbers
}

/// Reads the snapshot of `size` records.
///
/// # Errors
/// What is wrong with it, for people.
pub(crate) fn load(store: &Store, size: u64) -> Result<Snapshot, String> {
    let bytes = read_file(store.disk(), &store.snapshot(size), MAX_SNAPSHOT_BYTES).map_err(|e| e.to_string())?;
    let (origin, head, [state]) = decode(MAGIC, &bytes).ok_or("it is torn or damaged")?;
    if head.size != size {
        return Err(format!("it is of `{}` records", head.size));
    }
    Ok(Snapshot { origin, head, state })
}

/// Removes every snapshot, durably. The next start-up reads the whole log.
///
/// # Errors
/// As the disk says; some may be gone then.
pub fn delete_snapshots(store: &Store) -> io::Result<()> {
    retain(store, 0)
}

fn retain(store: &Store, count: usize) -> io::Result<()> {
    remove(store, list(store)?.into_iter().skip(count).collect())
}

/// Removes the snapshots of less than `minimum` records, durably: what lies behind them is pruned.
pub(crate) fn remove_below(store: &Store, minimum: u64) -> io::Result<()> {
    remove(store, list(store)?.into_iter().filter(|size| *size < minimum).collect())
}

fn remove(store: &Store, old: Vec<u64>) -> io::Result<()> {
    if old.is_empty() {
        return Ok(());
    }
    old.iter().try_for_each(|size| store.disk().remove(&store.snapshot(*size)))?;
    store.disk().sync_dir(&store.snapshots())
}

/// A place in the log and what lies with it, as a file holds them.
pub(crate) fn encode(magic: [u8; 4], origin: &Origin, parts: &[&[u8]]) -> Vec<u8> {
    let mut bytes = magic.to_vec();
    for number in [origin.tiler.size(), origin.segment, origin.offset] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    let mut push = |part: &[u8]| {
        bytes.extend_from_slice(&(part.len() as u64).to_le_bytes());
        bytes.extend_from_slice(part);
    };
    origin.tiler.edge.rows().for_each(|row| push(&row));
    push(origin.tiler.bundle());
    parts.iter().for_each(|part| push(part));
    let crc = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes
}

/// What [`encode`] was given, with the head of the tree; none where anything is wrong with it.
pub(crate) fn decode<const N: usize>(magic: [u8; 4], bytes: &[u8]) -> Option<(Origin, TreeHead, [Vec<u8>; N])> {
    let (body, crc) = bytes.split_last_chunk::<4>()?;
    if crc32c::crc32c(body) != u32::from_le_bytes(*crc) {
        return None;
    }
    let mut rest = body.strip_prefix(&magic)?;
    let mut number = || -> Option<u64> {
        let (number, after) = rest.split_first_chunk::<8>()?;
        rest = after;
        Some(u64::from_le_bytes(*number))
    };
    let (size, segment, offset) = (number()?, number()?, number()?);
    let mut part = || -> Option<&[u8]> {
        let (length, after) = rest.split_first_chunk::<8>()?;
        let (part, after) = after.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
        rest = after;
        Some(part)
    };
    let mut rows = Vec::new();
    for _ in 0..Edge::levels_of(size) {
        rows.push(Tile::from_bytes(part()?)?);
    }
    let edge = Edge::restore(size, rows)?;
    let bundle = part()?.to_vec();
    let mut parts = [const { Vec::new() }; N];
    for one in &mut parts {
        *one = part()?.to_vec();
    }
    if !rest.is_empty() || !is_bundle_of(&bundle, &edge) {
        return None;
    }
    let head = edge.head().ok()?;
    Some((Origin { tiler: Tiler::restore(edge, bundle), segment, offset }, head, parts))
}

/// Whether the entries of the begun bundle are those whose hashes the edge holds.
fn is_bundle_of(bundle: &[u8], edge: &Edge) -> bool {
    let Some(entries) = split_entries(bundle) else { return false };
    let first = edge.size() - edge.size() % TILE_WIDTH;
    entries.len() as u64 == edge.size() % TILE_WIDTH
        && entries
            .iter()
            .zip(first..)
            .all(|(entry, index)| countersign_receipt::HashReader::hash(edge, 0, index) == Ok(leaf_hash(entry)))
}

/// Follows the confirmed log behind its writer, for whoever keeps a fold of it.
///
/// It reads back what is durable, frame by frame, so it never holds up an append, and where it stands is always a size
/// that was confirmed. After an error throw it away.
pub struct Follower {
    pub(crate) shared: Arc<Shared>,
    pub(crate) origin: Origin,
    reader: Option<SegmentReader>,
    /// Up to here the public folder is known to be on disk.
    synced: u64,
}

impl std::fmt::Debug for Follower {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Follower({})", self.size())
    }
}

impl Follower {
    pub(crate) fn new(shared: Arc<Shared>, origin: Origin, synced: u64) -> Self {
        Self { shared, origin, reader: None, synced }
    }

    /// How many records it has handed over.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.origin.tiler.size()
    }

    /// Hands over confirmed records in whole frames until `limit` of them are reached; says whether that was all.
    ///
    /// # Errors
    /// As the disk says, or why the visitor stopped.
    pub fn advance(
        &mut self,
        limit: u64,
        visit: &mut dyn FnMut(Record<'_>) -> Result<(), VisitError>,
    ) -> Result<bool, ReadError> {
        let head = self.shared.confirmed().head.size;
        let until = self.size().saturating_add(limit).min(head);
        while self.size() < until {
            self.frame(visit)?;
        }
        Ok(self.size() == head)
    }

    fn frame(&mut self, visit: &mut dyn FnMut(Record<'_>) -> Result<(), VisitError>) -> Result<(), ReadError> {
        let damaged = |what: String| ReadError::Io(io::Error::new(io::ErrorKind::InvalidData, what));
        let next = self.size();
        let store = self.shared.store.clone();
        for _ in 0..2 {
            let reader = match &mut self.reader {
                Some(reader) => reader,
                None => {
                    let mut reader = SegmentReader::open(&store, self.origin.segment)?;
                    reader.offset = self.origin.offset;
                    self.reader.insert(reader)
                }
            };
            match reader.next(next)? {
                Found::Frame(frame) => {
                    self.origin.offset = reader.offset;
                    for record in frame.records() {
                        self.origin.tiler.push(record.leaf, &mut Vec::new());
                        let index = record.index;
                        visit(record).map_err(|error| damaged(format!("record `{index}`: {error}")))?;
                    }
                    return Ok(());
                }
                Found::End => {
                    (self.origin.segment, self.origin.offset) = (next, 0);
                    self.reader = None;
                }
                Found::Fault(fault) => return Err(damaged(format!("record `{next}`: {fault}"))),
            }
        }
        Err(damaged(format!("record `{next}` is missing")))
    }

    /// Writes a snapshot of `state`, which is the fold of all records handed over so far.
    ///
    /// It counts at a start-up only if a later record commits to the state. Tiles below it are made durable first, for no
    /// later start-up compares them.
    ///
    /// # Errors
    /// [`SnapshotError`]; the log is not affected, and another try may succeed.
    pub fn save(&mut self, state: &[u8]) -> Result<(), SnapshotError> {
        let size = self.size();
        let published = self.shared.state().published;
        if published < size {
            return Err(SnapshotError::Unpublished { published, size });
        }
        let store = &self.shared.store;
        let path = store.snapshot(size);
        let bytes = encode(MAGIC, &self.origin, &[state]);
        if bytes.len() as u64 > MAX_SNAPSHOT_BYTES {
            return Err(SnapshotError::TooLarge { bytes: bytes.len() as u64 });
        }
        let write = || {
            sync_public(store, self.synced, size)?;
            store.disk().create_dir(&store.snapshots(), Access::Private)?;
            store.disk().sync_dir(store.dir())?;
            replace_file(store.disk(), &path, &bytes, Access::Private)?;
            store.disk().sync_dir(&store.snapshots())
        };
        write().map_err(|source| SnapshotError::Io { path: path.clone(), source })?;
        self.synced = size - size % TILE_WIDTH;
        Ok(())
    }

    /// Removes all but the newest [`SNAPSHOTS_KEPT`]: call it once the newest is on record.
    ///
    /// # Errors
    /// As the disk says.
    pub fn retire(&self) -> io::Result<()> {
        retain(&self.shared.store, SNAPSHOTS_KEPT)
    }
}

/// Makes full tiles and bundles durable that lie between two sizes.
fn sync_public(store: &Store, from: u64, to: u64) -> io::Result<()> {
    let disk = store.disk();
    let public = store.public();
    let mut dirs = BTreeSet::new();
    let mut sync = |name: String| {
        let path = public.join(name);
        disk.open(&path, Mode::Read)?.sync_data()?;
        dirs.extend(path.ancestors().skip(1).take_while(|dir| dir.starts_with(&public)).map(Path::to_path_buf));
        Ok::<(), io::Error>(())
    };
    (from / TILE_WIDTH..to / TILE_WIDTH).try_for_each(|number| sync(entries_path(number, TILE_WIDTH)))?;
    let (mut low, mut high) = (from, to);
    for level in 0..Edge::levels_of(to) {
        (low, high) = (low / TILE_WIDTH, high / TILE_WIDTH);
        (low..high).try_for_each(|number| sync(hash_path(level, number, TILE_WIDTH)))?;
    }
    dirs.iter().try_for_each(|dir| disk.sync_dir(dir))
}
