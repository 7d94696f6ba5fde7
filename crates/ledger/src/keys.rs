//! The log's keys on disk, and the change from one to the next.
//!
//! `log.vkey` is the first key and stays as it was made; `log.keys` holds the statements that lead to the key in force
//! ([`countersign_receipt::keys`]). A change goes: the statement is signed; the file `rotation` notes it and the leaf
//! that carries it; the leaf is committed alone, under the old key; `log.keys` gets the statement; the signer puts the
//! new key in force and destroys the old one; `rotation` is removed. A crash before the leaf is durable undoes the
//! change, one after it completes it, so no size ever has two keys. It must not know what the leaf says: it compares
//! hashes. It does not cover publication (`publish` copies `log.keys`).

use std::io;
use std::path::Path;

use countersign_receipt::keys::{MAX_KEYS_BYTES, Rotation};
use countersign_receipt::merkle::TreeHead;
use countersign_receipt::{Hash, KeyChain, VerifierKey};

use crate::disk::{Access, Disk, read_file, replace_file};
use crate::error::{OpenError, SignError};
use crate::signer::{History, Signer, load_verifier};
use crate::store::Store;

/// A change of the key that was begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Begun {
    /// The signed statement.
    pub(crate) note: String,
    pub(crate) rotation: Rotation,
    /// The hash of the leaf that carries it.
    pub(crate) leaf: Hash,
}

impl Begun {
    /// The index of the leaf: it makes the last tree of the old key.
    pub(crate) fn index(&self) -> u64 {
        self.rotation.first.saturating_sub(2)
    }
}

/// The keys of the ledger in `store`, from its first one on.
pub(crate) fn load(store: &Store) -> Result<KeyChain, OpenError> {
    follow(store, load_verifier(store)?)
}

/// The keys that follow from a trusted one.
pub(crate) fn follow(store: &Store, trusted: VerifierKey) -> Result<KeyChain, OpenError> {
    let path = store.keys();
    let text = list(store.disk(), &path).map_err(OpenError::io("read", &path))?;
    KeyChain::parse(trusted, &text).map_err(|source| OpenError::Keys { path, source })
}

/// The text of a list of keys; empty where there is none, for then no key was ever changed.
pub(crate) fn list(disk: &dyn Disk, path: &Path) -> io::Result<String> {
    match read_file(disk, path, MAX_KEYS_BYTES as u64) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(error),
    }
}

/// Notes a change before its leaf is written.
pub(crate) fn begin(store: &Store, begun: &Begun) -> io::Result<()> {
    let text = format!("{}\n{}", begun.leaf, begun.note);
    replace_file(store.disk(), &store.rotation(), text.as_bytes(), Access::Private)?;
    store.disk().sync_dir(store.dir())
}

/// The change that was begun and not seen to its end.
pub(crate) fn begun(store: &Store) -> Result<Option<Begun>, OpenError> {
    let path = store.rotation();
    let bytes = match read_file(store.disk(), &path, MAX_KEYS_BYTES as u64) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(OpenError::io("read", &path)(error)),
    };
    let text = String::from_utf8_lossy(&bytes);
    let (leaf, note) = text.split_once('\n').unwrap_or_default();
    let rotation = Rotation::open(note, 0).map_err(|source| OpenError::Keys { path: path.clone(), source })?;
    let bad = || OpenError::io("read", &path)(io::Error::new(io::ErrorKind::InvalidData, "no leaf hash"));
    let leaf = Hash::from_base64(leaf).ok_or_else(bad)?;
    Ok(Some(Begun { note: note.to_owned(), rotation, leaf }))
}

/// Whether a change was begun.
pub(crate) fn is_pending(store: &Store) -> bool {
    store.disk().list(store.dir()).is_ok_and(|names| names.iter().any(|name| name == "rotation"))
}

/// Adds the statement to `log.keys`, durably, unless it is there.
pub(crate) fn append(store: &Store, chain: &mut KeyChain, note: &str) -> io::Result<()> {
    if chain.last_statement() == Some(note) {
        return Ok(());
    }
    let mut longer = chain.clone();
    longer.extend(note).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    replace_file(store.disk(), &store.keys(), longer.to_string().as_bytes(), Access::Public)?;
    store.disk().sync_dir(store.dir())?;
    *chain = longer;
    Ok(())
}

/// Why a change that is on record could not be completed yet.
#[derive(Debug)]
pub(crate) enum Unfinished {
    /// The disk said no.
    Disk(io::Error),
    /// The signer did.
    Signer(SignError),
}

/// Completes a change whose leaf is durable; `head` is the tree that the leaf makes. Done twice it does nothing.
pub(crate) fn finish(
    store: &Store,
    chain: &mut KeyChain,
    begun: &Begun,
    (signer, head, history): (&dyn Signer, &TreeHead, &dyn History),
) -> Result<(), Unfinished> {
    append(store, chain, &begun.note).map_err(Unfinished::Disk)?;
    signer.adopt(&begun.rotation, head, history).map_err(Unfinished::Signer)?;
    clear(store).map_err(Unfinished::Disk)
}

/// Forgets a change: it is complete, or its leaf never became durable.
pub(crate) fn clear(store: &Store) -> io::Result<()> {
    match store.disk().remove(&store.rotation()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.and_then(|()| store.disk().sync_dir(store.dir())),
    }
}
