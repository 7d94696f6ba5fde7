//! Offline verification: the whole ledger by its operator, or the public folder by an auditor.
//!
//! Everything is recomputed from the records: checksums, leaf hashes, every root, every signature, the mark, every
//! published tile. The first thing that does not hold is named with its file, offset and record. Memory stays flat. It
//! must not repair anything and takes no lock, so run it on a closed ledger or a copy. It does not check payloads
//! beyond the checksum: their commitments are inside the leaves, which this crate does not read.

use std::io;
use std::path::{Path, PathBuf};

use countersign_receipt::keys::MAX_KEYS_BYTES;
use countersign_receipt::merkle::TreeHead;
use countersign_receipt::note::MAX_NOTE_BYTES;
use countersign_receipt::{ChainError, Checkpoint, CheckpointError, Hash, KeyChain, MAX_LEAF_BYTES, VerifierKey};

use crate::disk::{Disk, read_file};
use crate::error::{FrameFault, OpenError};
use crate::mark::Mark;
use crate::recover::judge;
use crate::segment::{self, Found, SegmentReader};
use crate::signer::load_verifier;
use crate::store::Store;
use crate::tile::{PublicFile, Tiler, entries_path, split_entries};
use crate::tree::TILE_WIDTH;

/// What was found to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// The whole log.
    pub head: TreeHead,
    /// The confirmed mark; for an auditor, the published checkpoint.
    pub confirmed: u64,
    /// The size of the published checkpoint, if there is one.
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
}

/// Verifies a whole ledger. `key` is the key to trust; without one the ledger's own `log.vkey` is.
///
/// `progress` hears of bytes done and bytes in all.
///
/// # Errors
/// [`WalkError`]: the first thing that does not hold.
pub fn walk(store: &Store, key: Option<&VerifierKey>, mut progress: impl FnMut(u64, u64)) -> Result<Report, WalkError> {
    let trusted = match key {
        Some(key) => key.clone(),
        None => load_verifier(store)?,
    };
    let keys = key_list(store.disk(), &store.keys(), trusted)?;
    let firsts = segment::list(store).map_err(at(&store.segments()))?;
    let mut total = 0;
    for first in &firsts {
        let path = store.segment(*first);
        total += SegmentReader::open(store, *first).and_then(|reader| reader.size()).map_err(at(&path))?;
    }
    let published = checkpoint(store.disk(), &store.checkpoint(), &keys)?;
    public_keys(store, &keys, published.as_ref())?;
    let mark = mark(store)?;
    let mut walk =
        Walk { store, keys: &keys, published, mark, seen: Seen::default(), tiler: Tiler::default(), head: None };
    walk.boundary(&TreeHead { size: 0, root: countersign_receipt::merkle::empty_root() })?;
    let mut done = 0;
    for first in &firsts {
        done += walk.segment(*first, |bytes| progress(done + bytes, total))?;
    }
    walk.finish()
}

/// Verifies a folder of C2SP tlog-tiles by itself: the checkpoint's signature, every entry and every tile.
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
    let mut tiler = Tiler::default();
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
    Ok(Report { head: checkpoint.head(), confirmed: checkpoint.size, published: Some(checkpoint.size) })
}

/// Which of the sizes that the log must pass through were passed, with the right root.
#[derive(Default)]
struct Seen {
    mark: bool,
    published: bool,
}

struct Walk<'a> {
    store: &'a Store,
    keys: &'a KeyChain,
    published: Option<Checkpoint>,
    mark: TreeHead,
    seen: Seen,
    tiler: Tiler,
    head: Option<TreeHead>,
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
        loop {
            let (offset, index) = (reader.offset, self.tiler.size());
            let wrong = |fault| WalkError::Frame { path: path.clone(), offset, index, fault };
            let frame = match reader.next(index).map_err(at(&path))? {
                Found::Frame(frame) => frame,
                Found::End => return reader.size().map_err(at(&path)),
                Found::Fault(fault) => return Err(wrong(fault)),
            };
            let mut full = Vec::new();
            frame.records().for_each(|record| self.tiler.push(record.leaf, &mut full));
            let head = self.tiler.edge.head().map_err(|_| wrong(FrameFault::Shape("no root")))?;
            judge(frame.note(), self.keys.origin(), &head).map_err(wrong)?;
            self.keys.open_covered(frame.note()).map_err(|error| wrong(FrameFault::Checkpoint(error)))?;
            if self.published.as_ref().is_some_and(|published| head.size <= published.size) {
                full.iter().try_for_each(|file| compare(self.store.disk(), &self.store.public(), file, index))?;
            }
            self.boundary(&head)?;
            progress(reader.offset);
        }
    }

    fn boundary(&mut self, head: &TreeHead) -> Result<(), WalkError> {
        self.head = Some(*head);
        self.seen.mark |= *head == self.mark;
        if self.published.as_ref().is_some_and(|published| published.head() == *head) {
            self.seen.published = true;
            let public = self.store.public();
            let start = head.size - head.size % TILE_WIDTH;
            self.tiler.partial().iter().try_for_each(|file| compare(self.store.disk(), &public, file, start))?;
        }
        Ok(())
    }

    fn finish(self) -> Result<Report, WalkError> {
        let head = self.head.unwrap_or(self.mark);
        // Older keys count only because a tree that the trusted one vouches for extends theirs.
        if !self.keys.trusts(head.size) {
            let what = format!("ends at `{}` records, before the trusted key signs", head.size);
            return Err(WalkError::Mark { path: self.store.mark(), what });
        }
        if !self.seen.mark {
            let what =
                format!("has seen `{}` records, the log of `{}` does not contain them", self.mark.size, head.size);
            return Err(WalkError::Mark { path: self.store.mark(), what });
        }
        if let Some(published) = self.published.as_ref().filter(|_| !self.seen.published) {
            let (seen, signed) = (published.size, published.root);
            return Err(WalkError::Fork { path: self.store.checkpoint(), seen, signed, found: head.size });
        }
        Ok(Report { head, confirmed: self.mark.size, published: self.published.map(|published| published.size) })
    }
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

/// The keys that follow from the trusted one; that one alone where there is no list.
fn key_list(disk: &dyn Disk, path: &Path, trusted: VerifierKey) -> Result<KeyChain, WalkError> {
    let text = match read_file(disk, path, MAX_KEYS_BYTES as u64) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(at(path)(error)),
    };
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

fn mark(store: &Store) -> Result<TreeHead, WalkError> {
    let wrong = |what: &str| WalkError::Mark { path: store.mark(), what: what.to_owned() };
    match Mark::read(&store.mark_file()) {
        Ok(head) => head.ok_or_else(|| wrong("is damaged")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(wrong("is missing")),
        Err(error) => Err(at(&store.mark())(error)),
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
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(WalkError::Public { path, what: "is missing", index })
        }
        Err(error) => Err(at(&path)(error)),
    }
}
