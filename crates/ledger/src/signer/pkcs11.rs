//! Private keys in a PKCS#11 token: made inside of it, marked as never to leave it, and only asked for signatures.
//!
//! Which key is in force is said by its public part in `token.keys`, a file that is replaced whole (`notes`), and never by
//! a label: two keys carry the label while the key is changed. Before a key is made its identifier is noted, so that
//! whatever a crash leaves in the token is found again, and nothing is destroyed that this signer did not make or was
//! told to use. A log moves into a token by a change of its key: while `token.keys` names none, `log.key` is in force. It
//! must not know what is signed. It does not cover what a token does with keys behind its own interface (backups, clones),
//! or an import: a key that was in a file would not become secret by it.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use countersign_receipt::VerifierKey;

use self::notes::{KeyId, Notes};
use self::token::{Fault, Token};
use super::{FileKeys, PrivateKeys, files, unavailable};
use crate::error::{OpenError, SignError};
use crate::store::Store;

pub(super) mod notes;
mod token;

/// Which keys of which token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenPlace {
    /// The PKCS#11 module, a shared library.
    pub module: PathBuf,
    /// The token's label; exactly one token may carry it.
    pub token: String,
    /// The label of this log's keys in the token; no other log's may carry it.
    pub key: String,
    /// Holds the user's PIN, and must be readable by its owner only.
    pub pin_file: PathBuf,
}

/// Keys in a token; the key in `log.key` as long as the first one in the token is not in force.
pub struct TokenKeys {
    store: Store,
    inner: Mutex<Inner>,
}

struct Inner {
    token: Token,
    current: Current,
}

enum Current {
    File(FileKeys),
    Token(VerifierKey),
}

impl Current {
    fn key(&self) -> VerifierKey {
        match self {
            Self::File(keys) => keys.verifier_key(),
            Self::Token(key) => key.clone(),
        }
    }

    fn in_token(&self) -> Option<&VerifierKey> {
        match self {
            Self::File(_) => None,
            Self::Token(key) => Some(key),
        }
    }
}

impl TokenKeys {
    /// Opens the token and finds the key in force, for the signer in `store`.
    ///
    /// # Errors
    /// [`OpenError::Signer`] if the module, the token or the key is not to be had, the PIN is refused or its file can be
    /// read by others; [`OpenError`] if a file is missing or is no key.
    pub fn load(store: &Store, place: TokenPlace) -> Result<Self, OpenError> {
        let refused = |fault: Fault| OpenError::Signer(fault.to_string());
        let notes = Notes::read(store).map_err(OpenError::io("read", store.token_notes()))?;
        let mut token = Token::new(place);
        let current = match &notes.in_force {
            Some(key) => {
                token.find(key).map_err(refused)?;
                Current::Token(key.clone())
            }
            None => {
                // Whatever is wrong with the token is to be heard now, and not at the first change of the key.
                token.reach().map_err(refused)?;
                Current::File(FileKeys::read(store)?)
            }
        };
        let keys = Self { store: store.clone(), inner: Mutex::new(Inner { token, current }) };
        if let Err(error) = keys.inner().retire(&keys.store, notes) {
            tracing::warn!(%error, "the old key is not destroyed yet");
        }
        Ok(keys)
    }

    /// Whether the key in force lies in the token. Before the first change of the key it lies in `log.key`.
    #[must_use]
    pub fn is_in_token(&self) -> bool {
        self.inner().current.in_token().is_some()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// What is noted, if it names the key that is in use here. A failed write can leave either version on the disk.
    fn notes(&self, store: &Store) -> Result<Notes, SignError> {
        let notes = read(store)?;
        if notes.in_force.as_ref() != self.current.in_token() {
            let why = "`token.keys` names another key than the one in use: start the signer anew";
            return Err(SignError::Unavailable(why.to_owned()));
        }
        Ok(notes)
    }

    /// Destroys what is no longer in force. Done twice it does nothing. Notes that were read may be a dead process's last
    /// deed, and not durable: nothing is destroyed on their word before they are.
    fn retire(&mut self, store: &Store, mut notes: Notes) -> Result<Notes, SignError> {
        if notes.in_force.is_some() {
            files::destroy(store).map_err(|error| unavailable("the key in a file could not be destroyed", &error))?;
        }
        if let Some(old) = &notes.retired {
            sync(store)?;
            self.token.destroy_key(old)?;
            notes.retired = None;
            write(store, &notes)?;
        }
        Ok(notes)
    }

    /// The public part of the whole key with this identifier; what is half of a key counts for none.
    fn named(&mut self, id: &KeyId) -> Result<Option<VerifierKey>, SignError> {
        let origin = self.current.key();
        Ok(self.token.named(id, origin.name())?)
    }

    fn next(&mut self, store: &Store) -> Result<VerifierKey, SignError> {
        let notes = self.notes(store)?;
        let mut notes = self.retire(store, notes)?;
        let id = match notes.next {
            Some(id) => id,
            None => {
                let id = KeyId::random().map_err(|error| unavailable("no identifier could be made", &error))?;
                notes.next = Some(id);
                write(store, &notes)?;
                id
            }
        };
        if let Some(key) = self.named(&id)? {
            return Ok(key);
        }
        sync(store)?;
        self.token.destroy(&id)?;
        self.token.generate(&id)?;
        self.named(&id)?.ok_or_else(|| SignError::Unavailable("the token made a key and does not show it".to_owned()))
    }

    fn promote(&mut self, store: &Store, key: &VerifierKey) -> Result<(), SignError> {
        if self.current.key() == *key {
            return Ok(());
        }
        let noted = read(store)?;
        // An earlier attempt failed after it had replaced the file.
        if noted.in_force.as_ref() == Some(key) {
            self.token.find(key)?;
            sync(store)?;
            self.begin(store, key, noted);
            return Ok(());
        }
        let notes = self.notes(store)?;
        let next = match &notes.next {
            Some(id) => self.named(id)?,
            None => None,
        };
        if next.as_ref() != Some(key) {
            return match &self.current {
                // The change was begun before the signer had a token.
                Current::File(keys) => keys.promote(key),
                Current::Token(_) => Err(SignError::Rotation(format!("`{key}` is not the next key"))),
            };
        }
        let retired = self.current.in_token().cloned().or(notes.retired);
        let notes = Notes { in_force: Some(key.clone()), next: None, retired };
        write(store, &notes)?;
        self.begin(store, key, notes);
        Ok(())
    }

    /// Uses the key that is noted, durably, to be in force.
    fn begin(&mut self, store: &Store, key: &VerifierKey, notes: Notes) {
        self.current = Current::Token(key.clone());
        if let Err(error) = self.retire(store, notes) {
            tracing::warn!(%error, "the new key is in force; the old one is destroyed when the token allows it");
        }
    }

    fn forget_next(&mut self, store: &Store) -> Result<(), SignError> {
        let notes = self.notes(store)?;
        let mut notes = self.retire(store, notes)?;
        if let Current::File(keys) = &self.current {
            keys.forget_next()?;
        }
        let Some(id) = notes.next else { return Ok(()) };
        self.token.destroy(&id)?;
        notes.next = None;
        write(store, &notes)
    }
}

impl PrivateKeys for TokenKeys {
    fn verifier_key(&self) -> VerifierKey {
        self.inner().current.key()
    }

    fn sign(&self, message: &[u8]) -> Result<[u8; 64], SignError> {
        let Inner { token, current } = &mut *self.inner();
        match current {
            Current::File(keys) => keys.sign(message),
            Current::Token(key) => Ok(token.sign(key, message)?),
        }
    }

    fn next(&self) -> Result<VerifierKey, SignError> {
        self.inner().next(&self.store)
    }

    fn promote(&self, key: &VerifierKey) -> Result<(), SignError> {
        self.inner().promote(&self.store, key)
    }

    fn forget_next(&self) -> Result<(), SignError> {
        self.inner().forget_next(&self.store)
    }
}

fn read(store: &Store) -> Result<Notes, SignError> {
    Notes::read(store).map_err(|error| unavailable("`token.keys` could not be read", &error))
}

/// Makes durable what names the files have.
fn sync(store: &Store) -> Result<(), SignError> {
    store.disk().sync_dir(store.dir()).map_err(|error| unavailable("`token.keys` could not be synced", &error))
}

fn write(store: &Store, notes: &Notes) -> Result<(), SignError> {
    notes.write(store).map_err(|error| unavailable("`token.keys` could not be written", &error))
}
