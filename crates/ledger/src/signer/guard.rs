//! What a signer refuses: the high-water, and the one statement that may be open.
//!
//! In a process of its own the guard keeps both in files, and wants a proof that a tree extends the confirmed one, so
//! that no client whatever can make it sign a fork of what was confirmed. The high-water is written before a
//! confirmation is answered, so the signer's own crash never loses it. It is synced only when the signer is idle and
//! once a second: a power loss can set it back by that much. That is safe against accidents, because the ledger synced
//! the same tree before it confirmed it and will not ask for another; whoever rules the ledger's user *and* cuts the
//! power could have the last second signed twice. It must not know sockets. It does not cover who may ask (`server`).

use std::io;

use countersign_receipt::merkle::{TreeHead, empty_root, verify_consistency};
use countersign_receipt::{Checkpoint, Hash, Rotation, VerifierKey, cose};

use super::{PrivateKeys, unavailable};
use crate::disk::{Access, read_file, replace_file};
use crate::error::{OpenError, SignError};
use crate::mark::Mark;
use crate::store::Store;

/// The largest `stated` file, in bytes.
const STATED_BYTES_MAX: u64 = 4096;

/// A key that is named in a statement and not in force yet.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stated {
    first: u64,
    key: String,
}

/// The files of a signer in a process of its own.
struct Files {
    store: Store,
    mark: Mark,
}

/// Keys, and the memory of what they signed.
pub(crate) struct Guard {
    keys: Box<dyn PrivateKeys>,
    confirmed: TreeHead,
    /// Signed in this life, and shown to extend what was confirmed then.
    signed: Option<TreeHead>,
    stated: Option<Stated>,
    files: Option<Files>,
    /// The high-water could not be written: what it says is unknown, so nothing is signed by this process any more.
    is_broken: bool,
}

impl Guard {
    /// A guard that forgets with the process and asks for no proof.
    pub(crate) fn in_memory(keys: Box<dyn PrivateKeys>) -> Self {
        let confirmed = TreeHead { size: 0, root: empty_root() };
        Self { keys, confirmed, signed: None, stated: None, files: None, is_broken: false }
    }

    /// A guard with its memory in files of `store`.
    ///
    /// # Errors
    /// [`OpenError`] if the high-water is missing or damaged: without it a fork could be signed.
    pub(crate) fn open(store: &Store, keys: Box<dyn PrivateKeys>) -> Result<Self, OpenError> {
        let path = store.high_water().path();
        let refused = |state| OpenError::HighWater { path: path.clone(), state };
        let (mark, confirmed) = match Mark::open(&store.high_water()) {
            Ok(Some(found)) => found,
            Ok(None) => return Err(refused("damaged")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(refused("missing")),
            Err(error) => return Err(OpenError::io("read", &path)(error)),
        };
        let stated = read_stated(store).map_err(OpenError::io("read", store.stated()))?;
        // A crash between the change of the key and the removal of the statement.
        let done = stated.as_ref().is_some_and(|stated| stated.key == keys.verifier_key().to_string());
        let files = Some(Files { store: store.clone(), mark });
        let mut guard = Self { keys, confirmed, signed: None, stated, files, is_broken: false };
        if done {
            guard.forget_statement().map_err(|error| OpenError::Signer(error.to_string()))?;
        }
        Ok(guard)
    }

    pub(crate) fn verifier_key(&self) -> VerifierKey {
        self.keys.verifier_key()
    }

    pub(crate) fn confirmed(&self) -> TreeHead {
        self.confirmed
    }

    /// Signs a receipt at a tree that may be signed.
    pub(crate) fn sign_receipt(&self, head: &TreeHead, proof: &[Hash]) -> Result<[u8; 64], SignError> {
        self.extends(head, proof)?;
        self.keys.sign(&cose::to_be_signed(&self.keys.verifier_key(), head))
    }

    pub(crate) fn sign(&mut self, checkpoint: &Checkpoint, proof: &[Hash]) -> Result<[u8; 64], SignError> {
        let key = self.keys.verifier_key();
        if checkpoint.origin != key.name() {
            let (found, expected) = (checkpoint.origin.clone(), key.name().to_owned());
            return Err(SignError::Origin { found, expected });
        }
        let head = checkpoint.head();
        self.extends(&head, proof)?;
        // Asked to go on with the old key: the statement came to nothing, and the key that it names must never sign.
        if self.stated.as_ref().is_some_and(|stated| head.size >= stated.first) {
            self.forget_next()?;
        }
        let signature = self.keys.sign(checkpoint.signed_body().as_bytes())?;
        self.signed = Some(head);
        Ok(signature)
    }

    pub(crate) fn confirm(&mut self, head: &TreeHead, proof: &[Hash]) -> Result<(), SignError> {
        if *head == self.confirmed {
            return Ok(());
        }
        // The proof came with the request to sign, unless the signer was started anew in between.
        let shown = self.signed == Some(*head) && head.size > self.confirmed.size;
        if !shown {
            self.extends(head, proof)?;
        }
        if let Some(files) = &mut self.files {
            let written = files.mark.write(head);
            self.is_broken |= written.is_err();
            written.map_err(|error| unavailable("the high-water could not be written", &error))?;
        }
        self.confirmed = *head;
        Ok(())
    }

    fn extends(&self, head: &TreeHead, proof: &[Hash]) -> Result<(), SignError> {
        if self.is_broken {
            return Err(SignError::Unavailable("the high-water could not be written".to_owned()));
        }
        let confirmed = self.confirmed;
        if head.size < confirmed.size {
            return Err(SignError::Smaller { asked: head.size, confirmed: confirmed.size });
        }
        if head.size == confirmed.size && head.root != confirmed.root {
            return Err(SignError::SecondRoot { size: confirmed.size, asked: head.root, confirmed: confirmed.root });
        }
        if self.files.is_some() && verify_consistency(&confirmed, head, proof).is_err() {
            return Err(SignError::Forked { asked: head.size, confirmed: confirmed.size });
        }
        Ok(())
    }

    pub(crate) fn next_key(&mut self) -> Result<VerifierKey, SignError> {
        if let Some(stated) = &self.stated {
            let why = format!("a change of the key at size `{}` is not settled yet", stated.first);
            return Err(SignError::Rotation(why));
        }
        self.keys.next()
    }

    pub(crate) fn state(&mut self, rotation: &Rotation) -> Result<[u8; 64], SignError> {
        let refused = |why: &str| Err(SignError::Rotation(why.to_owned()));
        if rotation.old != self.keys.verifier_key() {
            return refused("the old key is not the one in force");
        }
        // The last tree of the old key is still to come.
        if rotation.first <= self.confirmed.size.saturating_add(1) {
            return refused("it would take effect at once");
        }
        if self.next_key()? != rotation.new {
            return refused("the new key is not the one that was made for this");
        }
        let stated = Stated { first: rotation.first, key: rotation.new.to_string() };
        if let Some(files) = &self.files {
            let text = format!("{}\n{}\n", stated.first, stated.key);
            let disk = files.store.disk();
            replace_file(disk, &files.store.stated(), text.as_bytes(), Access::Private)
                .and_then(|()| disk.sync_dir(files.store.dir()))
                .map_err(|error| unavailable("the statement could not be kept", &error))?;
        }
        self.stated = Some(stated);
        self.keys.sign(rotation.text().as_bytes())
    }

    pub(crate) fn adopt(&mut self, key: &VerifierKey, head: &TreeHead, proof: &[Hash]) -> Result<(), SignError> {
        if self.keys.verifier_key() != *key {
            let is_stated = match &self.stated {
                Some(stated) => stated.key == key.to_string() && head.size.checked_add(1) == Some(stated.first),
                // A local signer forgets with its process; the ledger's own files know.
                None => self.files.is_none(),
            };
            if !is_stated {
                return Err(SignError::Rotation(format!("`{key}` was not stated for the size after `{}`", head.size)));
            }
            self.confirm(head, proof)?;
            self.keys.promote(key)?;
        }
        // A power loss can leave the new key, which was synced, with an older high-water, which was not.
        if self.confirmed.size < head.size {
            self.confirm(head, proof)?;
        }
        self.forget_statement()
    }

    /// The key goes before its statement: what a crash leaves is a statement without a key, which puts nothing in force.
    pub(crate) fn forget_next(&mut self) -> Result<(), SignError> {
        self.keys.forget_next()?;
        self.forget_statement()
    }

    fn forget_statement(&mut self) -> Result<(), SignError> {
        self.stated = None;
        let Some(files) = &self.files else { return Ok(()) };
        match files.store.disk().remove(&files.store.stated()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(unavailable("the statement could not be removed", &error))
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.is_broken
    }

    /// Whether the high-water has changed since the last sync.
    pub(crate) fn is_synced(&self) -> bool {
        self.files.as_ref().is_none_or(|files| files.mark.is_synced())
    }

    pub(crate) fn sync(&mut self) -> io::Result<()> {
        self.files.as_mut().map_or(Ok(()), |files| files.mark.sync())
    }
}

fn read_stated(store: &Store) -> io::Result<Option<Stated>> {
    let bytes = match read_file(store.disk(), &store.stated(), STATED_BYTES_MAX) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let text = String::from_utf8_lossy(&bytes);
    let stated = text.strip_suffix('\n').and_then(|text| text.split_once('\n')).and_then(|(first, key)| {
        let first = first.parse().ok()?;
        Some(Stated { first, key: key.to_owned() })
    });
    stated.map(Some).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not a size and a key"))
}
