//! What a pruned log begins with: the tree's edge and the folder's state behind the records that are gone.
//!
//! A file in the form of a snapshot, and believed as little: the edge has to lead to the roots that the frames after it have
//! signed, and a record in those frames has to commit to the state, which the folder of records checks
//! ([`crate::Rebuild::finish`]). Unlike a snapshot it cannot be made again, so a start without it is refused. It also
//! holds the few records before it that the state points to: proposals that waited then. It must not know what a
//! state says. It does not cover what is deleted for it, and when (`prune`).

use std::io;
use std::sync::Arc;

use countersign_receipt::Hash;
use countersign_receipt::HashReader as _;
use countersign_receipt::merkle::TreeHead;

use crate::disk::{Access, read_file, replace_file};
use crate::read::StoredRecord;
use crate::segment;
use crate::snapshot::{self, MAX_SNAPSHOT_BYTES, Origin, SnapshotError};
use crate::store::Store;

const MAGIC: [u8; 4] = *b"CSB1";
/// In place of a payload's length: there is none.
const NO_PAYLOAD: u64 = u64::MAX;

/// What a pruned log begins with, for whoever can read states and records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    /// The first record that is kept.
    pub minimum: u64,
    /// The state of everything before it, as it was handed in. Not to be believed before a record commits to it.
    pub state: Vec<u8>,
    /// Records before it that the state points to. Not to be believed before their leaf hashes are compared.
    pub carried: Vec<StoredRecord>,
    /// The roots of the complete subtrees over what is gone, largest first: enough to go on with a tree of one's own.
    pub subtrees: Vec<Hash>,
}

/// A base as it lies in its file.
#[derive(Debug, Clone)]
pub(crate) struct Loaded {
    pub(crate) origin: Origin,
    pub(crate) head: TreeHead,
    pub(crate) base: Arc<Base>,
}

/// The minimums of the bases that there are, newest first.
pub(crate) fn list(store: &Store) -> io::Result<Vec<u64>> {
    match store.disk().list(&store.bases()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        names => Ok(snapshot::numbered(&names?, ".base")),
    }
}

/// Reads the base of a log that begins at record `minimum`.
///
/// # Errors
/// What is wrong with it, for people.
pub(crate) fn load(store: &Store, minimum: u64) -> Result<Loaded, String> {
    let bytes = read_file(store.disk(), &store.base(minimum), MAX_SNAPSHOT_BYTES);
    let bytes = bytes.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => "it is missing".to_owned(),
        _ => error.to_string(),
    })?;
    let (origin, head, [state, carried]) = snapshot::decode(MAGIC, &bytes).ok_or("it is torn or damaged")?;
    if head.size != minimum {
        return Err(format!("it is of `{}` records", head.size));
    }
    if (origin.segment, origin.offset) != (minimum, 0) {
        return Err("it does not begin with a segment".to_owned());
    }
    let carried = split_records(&carried).ok_or("its records are damaged")?;
    let subtrees = subtrees(&origin).ok_or("its tree is not whole")?;
    let base = Arc::new(Base { minimum, state, carried, subtrees });
    Ok(Loaded { origin, head, base })
}

/// The base with which the segments that there are begin; none for a log that begins with its first record.
///
/// Where a deletion is not finished that is the newest base.
///
/// # Errors
/// Which minimum it is of, and what is wrong with it.
pub(crate) fn begin(store: &Store) -> Result<Option<Loaded>, (u64, String)> {
    let first = segment::list(store).map_err(|error| (0, error.to_string()))?.first().copied().unwrap_or(0);
    if first == 0 {
        return Ok(None);
    }
    let bases = list(store).map_err(|error| (first, error.to_string()))?;
    let minimum = if bases.contains(&first) { first } else { bases.first().copied().unwrap_or(first) };
    load(store, minimum).map(Some).map_err(|reason| (minimum, reason))
}

/// Writes a base durably.
///
/// # Errors
/// [`SnapshotError`]; the log is not affected.
pub(crate) fn save(
    store: &Store,
    origin: &Origin,
    state: &[u8],
    carried: &[StoredRecord],
) -> Result<(), SnapshotError> {
    let bytes = snapshot::encode(MAGIC, origin, &[state, &join_records(carried)]);
    if bytes.len() as u64 > MAX_SNAPSHOT_BYTES {
        return Err(SnapshotError::TooLarge { bytes: bytes.len() as u64 });
    }
    let path = store.base(origin.tiler.size());
    let write = || {
        store.disk().create_dir(&store.bases(), Access::Private)?;
        store.disk().sync_dir(store.dir())?;
        replace_file(store.disk(), &path, &bytes, Access::Private)?;
        store.disk().sync_dir(&store.bases())
    };
    write().map_err(|source| SnapshotError::Io { path: path.clone(), source })
}

/// Removes every base but that of `kept`, and what half was written, durably.
pub(crate) fn remove_others(store: &Store, kept: Option<u64>) -> io::Result<()> {
    let dir = store.bases();
    let names = match store.disk().list(&dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        names => names?,
    };
    let kept = kept.map(|minimum| store.base(minimum));
    let old: Vec<_> = names.iter().map(|name| dir.join(name)).filter(|path| Some(path) != kept.as_ref()).collect();
    if old.is_empty() {
        return Ok(());
    }
    old.iter().try_for_each(|path| store.disk().remove(path))?;
    store.disk().sync_dir(&dir)
}

fn subtrees(origin: &Origin) -> Option<Vec<Hash>> {
    let mut end = origin.tiler.size();
    let mut hashes = Vec::new();
    while end > 0 {
        let level = end.trailing_zeros();
        end -= 1 << level;
        hashes.push(origin.tiler.edge.hash(u8::try_from(level).ok()?, end >> level).ok()?);
    }
    hashes.reverse();
    Some(hashes)
}

fn join_records(records: &[StoredRecord]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for StoredRecord { index, leaf, payload } in records {
        let length = payload.as_ref().map_or(NO_PAYLOAD, |payload| payload.len() as u64);
        for number in [*index, leaf.len() as u64, length] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(leaf);
        bytes.extend_from_slice(payload.as_deref().unwrap_or_default());
    }
    bytes
}

fn split_records(bytes: &[u8]) -> Option<Vec<StoredRecord>> {
    let mut rest = bytes;
    let mut records = Vec::new();
    while !rest.is_empty() {
        let mut number = || -> Option<u64> {
            let (number, after) = rest.split_first_chunk::<8>()?;
            rest = after;
            Some(u64::from_le_bytes(*number))
        };
        let (index, leaf, payload) = (number()?, number()?, number()?);
        let mut take = |length: u64| -> Option<Vec<u8>> {
            let (part, after) = rest.split_at_checked(usize::try_from(length).ok()?)?;
            rest = after;
            Some(part.to_vec())
        };
        let leaf = take(leaf)?;
        let payload = if payload == NO_PAYLOAD { None } else { Some(take(payload)?) };
        records.push(StoredRecord { index, leaf, payload });
    }
    Some(records)
}
