//! Offline verification: the whole ledger by its operator, or the public folder by an auditor.
//!
//! Everything is recomputed from the records: checksums, leaf hashes, every root, every signature, the mark, every
//! published tile. The first thing that does not hold is named with its file, offset and record. Memory stays flat. It
//! must not repair anything and takes no lock, so run it on a closed ledger or a copy. Payloads are covered by the
//! checksum only, which anybody can make anew: their commitments are inside the leaves, which this crate does not read,
//! so whoever can read them hands in a check ([`walk_records`]).

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use countersign_receipt::keys::MAX_KEYS_BYTES;
use countersign_receipt::merkle::{TreeHead, empty_root};
use countersign_receipt::note::MAX_NOTE_BYTES;
use countersign_receipt::{ChainError, Checkpoint, CheckpointError, Hash, KeyChain, MAX_LEAF_BYTES, VerifierKey};

use crate::base::{self, Base, Loaded};
use crate::disk::{Disk, read_file};
use crate::error::{FrameFault, OpenError};
use crate::keys;
use crate::mark::Mark;
use crate::prune;
use crate::rebuild::{self, Rebuild, Source};
use crate::recover::{self, VisitError, judge};
use crate::segment::{self, Found, Record, SegmentReader};
use crate::signer::load_verifier;
use crate::store::Store;
use crate::tile::{PublicFile, Tiler, entries_path, hash_path, split_entries};
use crate::tree::{Edge, TILE_HEIGHT, TILE_WIDTH, Tile};

mod digest;

pub use self::digest::RecordCheck;
use self::digest::{Crew, Digested, Piece, Work};

/// How much of a segment is read at a time, in bytes; a larger frame is read whole.
const PIECE_BYTES: usize = 1 << 20;

/// What is wrong with a published file that is not there.
const MISSING: &str = "is missing";

/// Whoever can read records, to see every one of a log that is walked.
pub struct Readers<'a> {
    /// Judges the base of a log that was pruned, before any record.
    pub begin: &'a mut dyn FnMut(&Base) -> Result<(), VisitError>,
    /// Judges a record; on several threads and in no order.
    pub check: RecordCheck<'a>,
    /// Takes the records in, in order, each once the frame that it lies in holds.
    pub visit: &'a mut Visit<'a>,
}

/// Takes a record in; an error ends the walk.
pub type Visit<'a> = dyn FnMut(Record<'_>) -> Result<(), VisitError> + 'a;

/// What was found to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// The first record that was verified: 0, or where a pruned log begins.
    pub from: u64,
    /// The whole log.
    pub head: TreeHead,
    /// The confirmed mark; for an auditor, the published checkpoint.
    pub confirmed: u64,
    /// The size of the published checkpoint. None if there is none, as where a process ended before its first: then no
    /// file of the public folder was missed, and only full tiles and bundles that are there were compared. Say so.
    pub published: Option<u64>,
}

/// The first thing that does not hold.
#[derive(Debug, thiserror::Error)]
pub enum WalkError {
    /// A file could not be read.
    #[error("`{}` could not be read: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The verifier key is missing or malformed.
    #[error(transparent)]
    Key(#[from] OpenError),
    /// The list of the log's keys does not hold.
    #[error("list of keys `{}`: {source}", path.display())]
    Keys {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: ChainError,
    },
    /// A frame, or bytes where a frame should be.
    #[error("segment `{}`, byte {offset}, record `{index}`: {fault}", path.display())]
    Frame {
        /// The segment.
        path: PathBuf,
        /// Where the frame starts, in bytes.
        offset: u64,
        /// The first record that does not hold.
        index: u64,
        /// What is wrong.
        fault: FrameFault,
    },
    /// The log is pruned, and what it begins with does not hold.
    #[error("the log is kept from record `{minimum}` on, and its base `{}` does not hold: {reason}", path.display())]
    Base {
        /// The file.
        path: PathBuf,
        /// The first record that is kept.
        minimum: u64,
        /// What is wrong.
        reason: String,
    },
    /// A record whose leaf is the log's, but that does not hold for another reason: its payload is not what the leaf
    /// commits to.
    #[error("segment `{}`, record `{index}`: {what}", path.display())]
    Record {
        /// The segment.
        path: PathBuf,
        /// The record.
        index: u64,
        /// What is wrong, in the words of who checked.
        what: String,
    },
    /// The mark is missing or damaged, or has seen another log.
    #[error("confirmed mark `{}` {what}", path.display())]
    Mark {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The published checkpoint is malformed or not the log's.
    #[error("published checkpoint `{}`: {source}", path.display())]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: CheckpointError,
    },
    /// The published checkpoint is of another tree than the records.
    #[error("published checkpoint `{}` is of `{seen}` records with root `{signed}`, the log has `{found}`", path.display())]
    Fork {
        /// The file.
        path: PathBuf,
        /// Its size.
        seen: u64,
        /// Its root.
        signed: Hash,
        /// The size of the log.
        found: u64,
    },
    /// A published tile or bundle is missing, malformed or not the records'.
    #[error("published file `{}` {what}, from record `{index}`", path.display())]
    Public {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: &'static str,
        /// The first record that it covers wrongly.
        index: u64,
    },
    /// Whoever reads the records gave up.
    #[error("record `{index}` was not accepted: {reason}")]
    Visitor {
        /// The record.
        index: u64,
        /// Why.
        reason: String,
    },
}

/// Verifies a whole ledger, or all that is kept of a pruned one. `key` is the key to trust; without one the ledger's own
/// `log.vkey` is. That a record commits to the base of a pruned log only who reads records can tell ([`walk_records`]).
///
/// `progress` hears of bytes done and bytes in all. Uses all cores where the log is large.
///
/// # Errors
/// [`WalkError`]: the first thing that does not hold.
pub fn walk(store: &Store, key: Option<&VerifierKey>, progress: impl FnMut(u64, u64)) -> Result<Report, WalkError> {
    walk_records(store, key, Readers { begin: &mut |_| Ok(()), check: &|_| Ok(()), visit: &mut |_| Ok(()) }, progress)
}

/// As [`walk`], and asks others about every record.
///
/// # Errors
/// As [`walk`]; [`WalkError::Record`] for the first record that was refused, [`WalkError::Visitor`] where the visitor stopped.
pub fn walk_records(
    store: &Store,
    key: Option<&VerifierKey>,
    readers: Readers<'_>,
    mut progress: impl FnMut(u64, u64),
) -> Result<Report, WalkError> {
    let Readers { begin, check, visit } = readers;
    let trusted = trusted(store, key)?;
    let keys = key_list(store.disk(), &store.keys(), trusted)?;
    let loaded = begun(store, begin)?;
    let origin = loaded.as_ref().map(|loaded| (loaded.origin.tiler.clone(), loaded.head));
    let (tiler, start) = origin.unwrap_or((Tiler::default(), TreeHead { size: 0, root: empty_root() }));
    let mut firsts = segment::list(store).map_err(at(&store.segments()))?;
    firsts.retain(|first| *first >= start.size);
    let mut total = 0;
    for first in &firsts {
        let path = store.segment(*first);
        total += SegmentReader::open(store, *first).and_then(|reader| reader.size()).map_err(at(&path))?;
    }
    let published = checkpoint(store.disk(), &store.checkpoint(), &keys)?;
    public_keys(store, &keys, published.as_ref())?;
    let mark = mark(store)?;
    let work = Work::new(&keys, check);
    thread::scope(|scope| {
        let crew = Crew::start(scope, &work, total);
        // The older of both slots may be of a tree that is pruned; the newer one never is.
        let seen = Seen { mark: [false, mark.iter().skip(1).any(|older| older.size < start.size)], published: false };
        let (head, from) = (None, start.size);
        let (keys, work, crew) = (&keys, &work, &crew);
        let mut walk = Walk { store, keys, work, crew, published, mark, seen, tiler, head, from, visit };
        walk.boundary(&start)?;
        let mut done = 0;
        for first in &firsts {
            done += walk.segment(*first, |bytes| progress(done + bytes, total))?;
        }
        walk.finish()
    })
}

/// Reads a ledger as a start-up would, from the newest snapshot that `rebuild` takes, and changes nothing: checksums and
/// roots from there on, the last signature of every segment, the mark and the published checkpoint. What lies below
/// the snapshot, and tiles, are not looked at; [`walk`] does. Gives where it began and the whole log's head.
///
/// # Errors
/// [`OpenError`], as a start-up would say it.
pub fn resume(
    store: &Store,
    key: Option<&VerifierKey>,
    rebuild: &mut dyn Rebuild,
) -> Result<(u64, TreeHead), OpenError> {
    let trusted = trusted(store, key)?;
    let keys = keys::follow(store, trusted)?;
    let refused = |state| OpenError::Mark { path: store.mark(), state };
    let marked = Mark::read(&store.mark_file())
        .map_err(OpenError::io("read", store.mark()))?
        .ok_or_else(|| refused("damaged"))?;
    let anchors = recover::anchors(store, &keys, marked)?;
    let scan = rebuild::scan(Source { store, keys: &keys, anchors: &anchors }, rebuild)?;
    // As for [`walk`]: older keys count only because a tree that the trusted one vouches for extends theirs.
    if !keys.trusts(scan.head.size) {
        let seen = keys.last_first().saturating_sub(1);
        return Err(OpenError::Rollback { found: scan.head.size, witness: "the list of keys", seen });
    }
    Ok((scan.from, scan.head))
}

/// Verifies a folder of C2SP tlog-tiles by itself: the checkpoint's signature, every entry and every tile.
///
/// A folder may be pruned: then it begins with the first bundle that it has, and tiles of higher levels lead there.
///
/// `progress` hears of records done and records in all.
///
/// # Errors
/// [`WalkError`]: the first thing that does not hold.
pub fn walk_public(
    disk: &dyn Disk,
    public: &Path,
    key: &VerifierKey,
    mut progress: impl FnMut(u64, u64),
) -> Result<Report, WalkError> {
    let path = public.join("checkpoint");
    let keys = key_list(disk, &public.join("log.keys"), key.clone())?;
    let Some(checkpoint) = checkpoint(disk, &path, &keys)? else {
        return Err(WalkError::Io { path, source: io::ErrorKind::NotFound.into() });
    };
    let mut tiler = public_begin(disk, public, &checkpoint)?;
    let from = tiler.size();
    while tiler.size() < checkpoint.size {
        let start = tiler.size();
        let width = (checkpoint.size - start).min(TILE_WIDTH);
        let path = public.join(entries_path(start / TILE_WIDTH, width));
        let limit = width * (MAX_LEAF_BYTES as u64 + 2);
        let bundle = read_file(disk, &path, limit).map_err(at(&path))?;
        let wrong = |what| WalkError::Public { path: path.clone(), what, index: start };
        let entries = split_entries(&bundle).ok_or_else(|| wrong("is not a list of entries"))?;
        if entries.len() as u64 != width {
            return Err(wrong("has the wrong number of entries"));
        }
        let mut full = Vec::new();
        entries.iter().for_each(|entry| tiler.push(entry, &mut full));
        full.iter().try_for_each(|file| compare(disk, public, file, start))?;
        progress(tiler.size(), checkpoint.size);
    }
    let start = checkpoint.size - checkpoint.size % TILE_WIDTH;
    tiler.partial().iter().try_for_each(|file| compare(disk, public, file, start))?;
    let head = tiler.edge.head().ok();
    if head != Some(checkpoint.head()) {
        let Checkpoint { size, root, .. } = checkpoint;
        return Err(WalkError::Fork { path, seen: size, signed: root, found: size });
    }
    Ok(Report { from, head: checkpoint.head(), confirmed: checkpoint.size, published: Some(checkpoint.size) })
}

/// Which of the sizes that the log must pass through were passed, with the right root.
#[derive(Default)]
struct Seen {
    /// The newest and the one before it.
    mark: [bool; 2],
    published: bool,
}

struct Walk<'a> {
    store: &'a Store,
    keys: &'a KeyChain,
    work: &'a Work<'a>,
    crew: &'a Crew<'a>,
    published: Option<Checkpoint>,
    mark: [TreeHead; 2],
    seen: Seen,
    tiler: Tiler,
    head: Option<TreeHead>,
    from: u64,
    visit: &'a mut Visit<'a>,
}

impl Walk<'_> {
    /// Verifies one segment and returns its length.
    fn segment(&mut self, first: u64, mut progress: impl FnMut(u64)) -> Result<u64, WalkError> {
        let path = self.store.segment(first);
        let mut reader = SegmentReader::open(self.store, first).map_err(at(&path))?;
        if first != self.tiler.size() {
            let fault = FrameFault::Index { expected: self.tiler.size(), found: first };
            return Err(WalkError::Frame { path, offset: 0, index: self.tiler.size(), fault });
        }
        let mut underway = VecDeque::new();
        let mut is_more = true;
        while is_more || !underway.is_empty() {
            while is_more && underway.len() < self.crew.depth {
                let offset = reader.offset;
                let lengths = reader.skip_some(PIECE_BYTES).map_err(at(&path))?;
                is_more = !lengths.is_empty();
                if is_more {
                    let piece = Piece { file: Arc::clone(&reader.file), offset, lengths };
                    underway.push_back(self.crew.begin(piece));
                }
            }
            if let Some(piece) = underway.pop_front() {
                let digested = piece.wait().map_err(at(&path))?;
                let end = self.piece(&path, &digested)?;
                self.work.give_back(digested.bytes);
                progress(end);
            }
        }
        // Where no frame seems to start there must be nothing but zeros.
        let (offset, index) = (reader.offset, self.tiler.size());
        match reader.next(index).map_err(at(&path))? {
            Found::End => reader.size().map_err(at(&path)),
            Found::Fault(fault) => Err(WalkError::Frame { path, offset, index, fault }),
            Found::Frame(_) => {
                let source = io::Error::other("the file changed while it was read");
                Err(WalkError::Io { path, source })
            }
        }
    }

    /// Takes the frames of a piece in, in order, and returns the offset behind them.
    fn piece(&mut self, path: &Path, digested: &Digested) -> Result<u64, WalkError> {
        let mut offset = digested.offset;
        for checked in &digested.frames {
            let index = self.tiler.size();
            let wrong = |fault| WalkError::Frame { path: path.to_path_buf(), offset, index, fault };
            let checked = checked.as_ref().map_err(|fault| wrong(fault.clone()))?;
            if checked.shape.first != index {
                return Err(wrong(FrameFault::Index { expected: index, found: checked.shape.first }));
            }
            let bytes = digested.bytes.get(checked.at.clone()).unwrap_or_default();
            let mut full = Vec::new();
            let records = checked.shape.records(bytes).zip(&checked.hashes);
            records.for_each(|(record, hash)| self.tiler.push_hashed(record.leaf, *hash, &mut full));
            let head = self.tiler.edge.head().map_err(|_| wrong(FrameFault::Shape("no root")))?;
            judge(checked.shape.note(bytes), self.keys.origin(), &head).map_err(wrong)?;
            checked.signed.clone().map_err(|error| wrong(FrameFault::Checkpoint(error)))?;
            if let Some((index, what)) = &checked.refused {
                return Err(WalkError::Record { path: path.to_path_buf(), index: *index, what: what.clone() });
            }
            if self.published.as_ref().is_some_and(|published| head.size <= published.size) {
                full.iter().try_for_each(|file| compare(self.store.disk(), &self.store.public(), file, index))?;
            }
            if self.published.is_none() {
                let (disk, public) = (self.store.disk(), self.store.public());
                full.iter().try_for_each(|file| compare_found(disk, &public, file, index))?;
            }
            self.boundary(&head)?;
            for record in checked.shape.records(bytes) {
                let index = record.index;
                (self.visit)(record).map_err(|error| WalkError::Visitor { index, reason: error.to_string() })?;
            }
            offset += bytes.len() as u64;
        }
        Ok(offset)
    }

    fn boundary(&mut self, head: &TreeHead) -> Result<(), WalkError> {
        self.head = Some(*head);
        self.mark.iter().zip(&mut self.seen.mark).for_each(|(mark, seen)| *seen |= mark == head);
        if self.published.as_ref().is_some_and(|published| published.head() == *head) {
            self.seen.published = true;
            let public = self.store.public();
            let start = head.size - head.size % TILE_WIDTH;
            self.tiler.partial().iter().try_for_each(|file| compare(self.store.disk(), &public, file, start))?;
        }
        Ok(())
    }

    fn finish(self) -> Result<Report, WalkError> {
        let [mark, _] = self.mark;
        let head = self.head.unwrap_or(mark);
        // Older keys count only because a tree that the trusted one vouches for extends theirs.
        if !self.keys.trusts(head.size) {
            let what = format!("ends at `{}` records, before the trusted key signs", head.size);
            return Err(WalkError::Mark { path: self.store.mark(), what });
        }
        if let Some((mark, _)) = self.mark.iter().zip(self.seen.mark).find(|(_, seen)| !seen) {
            let what = format!("has seen `{}` records, the log of `{}` does not contain them", mark.size, head.size);
            return Err(WalkError::Mark { path: self.store.mark(), what });
        }
        if let Some(published) = self.published.as_ref().filter(|_| !self.seen.published) {
            let (seen, signed) = (published.size, published.root);
            return Err(WalkError::Fork { path: self.store.checkpoint(), seen, signed, found: head.size });
        }
        Ok(Report {
            from: self.from,
            head,
            confirmed: mark.size,
            published: self.published.map(|published| published.size),
        })
    }
}

/// What a pruned ledger begins with, once `judge` has taken it; none where it begins with its first record.
fn begun(store: &Store, judge: &mut dyn FnMut(&Base) -> Result<(), VisitError>) -> Result<Option<Loaded>, WalkError> {
    let wrong = |(minimum, reason)| WalkError::Base { path: store.base(minimum), minimum, reason };
    let Some(loaded) = base::begin(store).map_err(wrong)? else { return Ok(None) };
    let minimum = loaded.head.size;
    judge(&loaded.base).map_err(|error| wrong((minimum, error.to_string())))?;
    kept_tiles(store.disk(), &store.public(), &loaded.origin.tiler.edge)?;
    Ok(Some(loaded))
}

fn kept_tiles(disk: &dyn Disk, public: &Path, edge: &Edge) -> Result<(), WalkError> {
    prune::for_kept_tiles(disk, public, edge, &mut |_| Ok(())).map_err(|(path, source)| WalkError::Io { path, source })
}

/// Where a public folder begins: with its first bundle, under the edge that tiles of higher levels make.
fn public_begin(disk: &dyn Disk, public: &Path, checkpoint: &Checkpoint) -> Result<Tiler, WalkError> {
    let first = prune::first_bundle(disk, public).map_err(at(public))?.unwrap_or(0);
    let start = first.saturating_mul(TILE_WIDTH);
    if start == 0 || start > checkpoint.size {
        return Ok(Tiler::default());
    }
    let mut tiles = vec![Tile::default()];
    for level in 1..Edge::levels_of(start) {
        let hashes = start >> (TILE_HEIGHT * level);
        let (number, count) = (hashes / TILE_WIDTH, hashes % TILE_WIDTH);
        let width = ((checkpoint.size >> (TILE_HEIGHT * level)) - number * TILE_WIDTH).min(TILE_WIDTH);
        let mut bytes = Vec::new();
        if count > 0 {
            let partial = public.join(hash_path(level, number, width));
            let full = public.join(hash_path(level, number, TILE_WIDTH));
            let read = read_file(disk, &partial, 32 * TILE_WIDTH);
            bytes = read.or_else(|_| read_file(disk, &full, 32 * TILE_WIDTH)).map_err(at(&partial))?;
        }
        bytes.truncate(usize::try_from(count * 32).unwrap_or(usize::MAX));
        tiles.push(Tile::from_bytes(&bytes).unwrap_or_default());
    }
    let wrong = || WalkError::Public {
        path: public.to_path_buf(),
        what: "has no tiles that lead to its first bundle",
        index: start,
    };
    let edge = Edge::restore(start, tiles).ok_or_else(wrong)?;
    kept_tiles(disk, public, &edge)?;
    Ok(Tiler::restore(edge, Vec::new()))
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> WalkError {
    let path = path.to_path_buf();
    move |source| WalkError::Io { path, source }
}

fn checkpoint(disk: &dyn Disk, path: &Path, keys: &KeyChain) -> Result<Option<Checkpoint>, WalkError> {
    let bytes = match read_file(disk, path, MAX_NOTE_BYTES as u64) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(at(path)(error)),
    };
    let opened = keys.open(&String::from_utf8_lossy(&bytes));
    Ok(Some(opened.map_err(|source| WalkError::Checkpoint { path: path.to_path_buf(), source })?))
}

/// The key to trust: the one that was given, or the ledger's own first one.
fn trusted(store: &Store, key: Option<&VerifierKey>) -> Result<VerifierKey, OpenError> {
    key.map_or_else(|| load_verifier(store), |key| Ok(key.clone()))
}

/// The keys that follow from the trusted one; that one alone where there is no list.
fn key_list(disk: &dyn Disk, path: &Path, trusted: VerifierKey) -> Result<KeyChain, WalkError> {
    let text = keys::list(disk, path).map_err(at(path))?;
    KeyChain::parse(trusted, &text).map_err(|source| WalkError::Keys { path: path.to_path_buf(), source })
}

/// Auditors must have the keys that they need for what was published.
fn public_keys(store: &Store, keys: &KeyChain, published: Option<&Checkpoint>) -> Result<(), WalkError> {
    let needed = published.is_some_and(|published| keys.key_at(published.size) == keys.newest());
    if keys.rotations() == 0 || !needed {
        return Ok(());
    }
    let path = store.public_keys();
    let found = read_file(store.disk(), &path, MAX_KEYS_BYTES as u64);
    match found {
        Ok(bytes) if bytes == keys.to_string().as_bytes() => Ok(()),
        Ok(_) => Err(WalkError::Public { path, what: "differs from the ledger's own list of keys", index: 0 }),
        Err(error) => Err(at(&path)(error)),
    }
}

fn mark(store: &Store) -> Result<[TreeHead; 2], WalkError> {
    let wrong = |what: &str| WalkError::Mark { path: store.mark(), what: what.to_owned() };
    match Mark::judge(&store.mark_file()) {
        Ok(heads) => heads.ok_or_else(|| wrong("is damaged")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(wrong("is missing")),
        Err(error) => Err(at(&store.mark())(error)),
    }
}

/// The same where nothing vouches for the file being there: a process may end between its tiles and its first checkpoint.
fn compare_found(disk: &dyn Disk, public: &Path, file: &PublicFile, index: u64) -> Result<(), WalkError> {
    match compare(disk, public, file, index) {
        Err(WalkError::Public { what: MISSING, .. }) => Ok(()),
        compared => compared,
    }
}

fn compare(disk: &dyn Disk, public: &Path, file: &PublicFile, index: u64) -> Result<(), WalkError> {
    let path = public.join(&file.path);
    match read_file(disk, &path, file.bytes.len() as u64) {
        Ok(bytes) if bytes == file.bytes => Ok(()),
        Ok(_) => Err(WalkError::Public { path, what: "differs from the records", index }),
        Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
            Err(WalkError::Public { path, what: "is too long", index })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(WalkError::Public { path, what: MISSING, index }),
        Err(error) => Err(at(&path)(error)),
    }
}
