//! The vault: payloads are sealed before they are appended, under keys that can be destroyed.
//!
//! A key belongs to one scope (a run, or a subject that the operator's binding names), and to one life of the process, so
//! a counter is a nonce that never comes twice. Keys lie in one file of fixed slots; a key's id is its slot's number, and
//! to erase is to overwrite slots with zeros and to sync. Keys are made ahead, many with one sync, so that the first
//! action of a run costs no sync of its own. What was made ahead and is not known to be used after a restart is never
//! used. A payload under a run *and* a subject needs both keys: destroying either erases it.
//!
//! Which keys a scope has is nowhere but in the sealed payloads: each names its keys and, by a keyed hash, its scopes. It
//! is durable in the very write that makes the payload durable, so no crash can part the two; erasing costs one reading
//! of the log for that. Memory is bounded: the scopes that were active last.
//!
//! It must not know what a payload or a record says, and who may erase. It does not cover copies of the key file, file
//! systems that keep old blocks, and the keyed hashes, which stay.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hmac;
use countersign_model::Digest;
use countersign_model::id::RunId;
use countersign_model::record::VaultScope;

use crate::error::OpenError;
use crate::store::Store;

mod active;
mod header;
mod keys;

#[cfg(test)]
mod tests;

pub use header::{Header, OVERHEAD_BYTES, Tag};

use active::{ActiveKey, ActiveKeys};
use keys::KeyFile;

/// A key seals at most this many payloads; then its scope gets another.
const PAYLOADS_MAX: u64 = 1 << 32;

/// A key of the vault.
type Key = [u8; 32];

/// Why a payload could not be sealed or read, or a key not be destroyed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VaultError {
    /// No key is left that was made ahead: call [`Vault::refill`] where a thread may block, and try again.
    #[error("no key is at hand")]
    NoSpare,
    /// The scope was closed with [`Vault::close`].
    #[error("what lies under this run or subject is about to be erased: try again")]
    Closed,
    /// The key file could not be read or written.
    #[error("{operation} of `{}` failed: {reason}", path.display())]
    Io {
        /// What failed.
        operation: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the operating system said.
        reason: String,
        /// Whether the disk was full: then nothing was written.
        is_full: bool,
    },
    /// A write or sync of the key file failed before; it is not trusted until the process starts anew.
    #[error("the key file is not trusted after a failed write or sync: restart the gateway")]
    Stopped,
    /// The bytes are no sealed payload.
    #[error("the payload is not sealed by this vault")]
    NotSealed,
    /// The payload names a key that the key file never had.
    #[error("the key file has no key `{0}`: restore the newest copy of `vault/keys`")]
    NoKey(u64),
    /// Payload, record and key do not belong together.
    #[error("the payload does not open under its key: the payload, its record or the key file was changed")]
    Damaged,
    /// Cryptography or randomness failed.
    #[error("the payload could not be sealed")]
    Crypto,
}

/// Whose payload is sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scopes {
    /// The run.
    pub run: RunId,
    /// The subject by [`Vault::subject`], where the binding names one.
    pub subject: Option<Digest>,
}

/// The vault of one ledger.
pub struct Vault {
    secret: hmac::Key,
    file: KeyFile,
    active: ActiveKeys,
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Vault({})", self.file.path.display())
    }
}

impl Vault {
    /// Makes an empty vault in the ledger's directory and syncs it.
    pub(crate) fn create(store: &Store) -> Result<(), OpenError> {
        KeyFile::create(store)
    }

    /// Opens the vault. Nothing is written until [`Vault::refill`].
    ///
    /// # Errors
    /// [`OpenError`] if the key file is missing or not one.
    pub fn open(store: &Store) -> Result<Self, OpenError> {
        let (file, secret) = KeyFile::open(store)?;
        Ok(Self { secret: hmac::Key::new(hmac::HMAC_SHA256, &secret), file, active: ActiveKeys::default() })
    }

    /// The keyed hash of a subject's name: it stands for the subject wherever it is recorded.
    #[must_use]
    pub fn subject(&self, name: &[u8]) -> Digest {
        self.keyed(b"countersign subject v1\n", name)
    }

    /// The mark that sealed payloads of a scope carry.
    #[must_use]
    pub fn tag(&self, scope: &VaultScope) -> Tag {
        match scope {
            VaultScope::Run(run) => Tag::of(&self.keyed(b"countersign run v1\n", run.as_str().as_bytes())),
            VaultScope::Subject(subject) => Tag::of(subject),
        }
    }

    fn keyed(&self, domain: &[u8], text: &[u8]) -> Digest {
        let mut context = hmac::Context::with_key(&self.secret);
        context.update(domain);
        context.update(text);
        let mut digest = [0; 32];
        digest.iter_mut().zip(context.sign().as_ref()).for_each(|(to, from)| *to = *from);
        Digest(digest)
    }

    /// What seals payloads of these scopes. No I/O. Keep it until what it sealed is durable or known to have failed:
    /// [`Vault::retire`] knows of a key that is not in the log yet only while somebody holds it.
    ///
    /// # Errors
    /// [`VaultError::NoSpare`] if a scope is new and no key is at hand, [`VaultError::Closed`] if one is closed.
    pub fn sealer(&self, scopes: &Scopes) -> Result<Sealer, VaultError> {
        let run_tag = self.tag(&VaultScope::Run(scopes.run.clone()));
        let subject_tag = scopes.subject.map(|subject| self.tag(&VaultScope::Subject(subject)));
        let run = self.active.key(run_tag)?;
        let subject = subject_tag.map(|tag| self.active.key(tag)).transpose()?;
        let header = Header {
            run_key: run.id,
            subject_key: subject.as_ref().map_or(0, |subject| subject.id),
            counter: 0,
            run: run_tag,
            subject: subject_tag.unwrap_or_default(),
        };
        let key = payload_key(&run.key, subject.as_ref().map(|subject| &subject.key))?;
        let deciding = [Some(&run), subject.as_ref()].into_iter().flatten().map(|key| Arc::clone(&key.deciding));
        Ok(Sealer { header, key, deciding: deciding.collect(), run, _subject: subject })
    }

    /// Whether few keys are left that were made ahead.
    #[must_use]
    pub fn is_low(&self) -> bool {
        self.active.is_low()
    }

    /// Makes keys ahead, where few are left. Blocks for one sync.
    ///
    /// # Errors
    /// [`VaultError::Io`]; after anything but a full disk the key file is not written any more.
    pub fn refill(&self) -> Result<(), VaultError> {
        self.file.make_ahead(&self.active)
    }

    /// Opens what lies beside `leaf`. `None`: it was erased.
    ///
    /// # Errors
    /// [`VaultError`] if it is anything but what was sealed for this leaf.
    pub fn unseal(&self, sealed: &[u8], leaf: &[u8]) -> Result<Option<Vec<u8>>, VaultError> {
        let (header, head, body) = Header::split(sealed).ok_or(VaultError::NotSealed)?;
        let Some(run) = self.file.key(header.run_key)? else {
            return Ok(None);
        };
        let subject = match header.subject_key {
            0 => None,
            id => match self.file.key(id)? {
                Some(key) => Some(key),
                None => return Ok(None),
            },
        };
        let key = payload_key(&run, subject.as_ref())?;
        let mut bytes = body.to_vec();
        let opened = key.open_in_place(nonce(header.counter), Aad::from(bound(head, leaf)), &mut bytes);
        let length = opened.map_err(|_| VaultError::Damaged)?.len();
        bytes.truncate(length);
        Ok(Some(bytes))
    }

    /// The marks of those of a sealed payload's scopes whose keys are destroyed. None if it can be opened.
    ///
    /// # Errors
    /// [`VaultError`] if it is no sealed payload, or names keys that never were.
    pub fn destroyed(&self, sealed: &[u8]) -> Result<Vec<Tag>, VaultError> {
        let header = Header::read(sealed).ok_or(VaultError::NotSealed)?;
        let mut gone = Vec::new();
        for (tag, key) in [(header.run, header.run_key), (header.subject, header.subject_key)] {
            // A subject's key 0 says that there is no subject.
            if key != 0 && self.file.key(key)?.is_none() {
                gone.push(tag);
            }
        }
        Ok(gone)
    }

    /// Lets nobody begin to seal for the scope, until it is retired or opened again. Who has a sealer goes on.
    pub fn close(&self, tag: Tag) {
        self.active.close(tag);
    }

    /// Lets the scope go on under the keys that it has.
    pub fn reopen(&self, tag: Tag) {
        self.active.reopen(tag);
    }

    /// Whether of every sealer of the scope the first record was answered or never will be: see [`Sealer::decided`].
    #[must_use]
    pub fn is_quiet(&self, tag: Tag) -> bool {
        self.active.is_quiet(tag)
    }

    /// Lets the scope go on under another key, even if it was closed; returns those that it had, which may not be in
    /// the log.
    pub fn retire(&self, tag: Tag) -> BTreeSet<u64> {
        self.active.retire(tag)
    }

    /// Destroys keys: overwrites their slots with zeros and syncs. Blocks. What is destroyed already is passed over.
    ///
    /// # Errors
    /// [`VaultError::Io`]: some may be destroyed and some not; try again after a restart.
    pub fn destroy(&self, keys: &BTreeSet<u64>) -> Result<(), VaultError> {
        self.file.destroy(keys)
    }
}

/// Seals the payloads of one call.
pub struct Sealer {
    header: Header,
    key: LessSafeKey,
    /// Held until the first record is answered.
    deciding: Vec<Arc<()>>,
    run: Arc<ActiveKey>,
    /// Held so that the key counts as in use.
    _subject: Option<Arc<ActiveKey>>,
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sealer(key {})", self.header.run_key)
    }
}

impl Sealer {
    /// The first record of the call is durable: whoever reads the log meets it. What else the call seals belongs to it.
    pub fn decided(&mut self) {
        self.deciding.clear();
    }

    /// Seals `payload` for `leaf`: [`OVERHEAD_BYTES`] longer than it was. No I/O.
    ///
    /// # Errors
    /// [`VaultError::Crypto`]: then there is nothing to append.
    pub fn seal(&self, payload: &[u8], leaf: &[u8]) -> Result<Vec<u8>, VaultError> {
        let counter = self.run.count.fetch_add(1, Ordering::Relaxed);
        // A scope gets another key long before; calls under way at that moment go on under this one.
        if counter >= 2 * PAYLOADS_MAX {
            return Err(VaultError::Crypto);
        }
        let head = Header { counter, ..self.header }.bytes();
        let mut body = payload.to_vec();
        self.key
            .seal_in_place_append_tag(nonce(counter), Aad::from(bound(&head, leaf)), &mut body)
            .map_err(|_| VaultError::Crypto)?;
        Ok([head.as_slice(), &body].concat())
    }
}

/// One key for the pair: both are needed to make it again.
fn payload_key(run: &Key, subject: Option<&Key>) -> Result<LessSafeKey, VaultError> {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, run));
    context.update(b"countersign payload v1\n");
    context.update(subject.map_or(&[][..], |key| key.as_slice()));
    let key = UnboundKey::new(&AES_256_GCM, context.sign().as_ref()).map_err(|_| VaultError::Crypto)?;
    Ok(LessSafeKey::new(key))
}

fn nonce(counter: u64) -> Nonce {
    let mut nonce = [0; NONCE_LEN];
    nonce.iter_mut().rev().zip(counter.to_le_bytes()).for_each(|(to, from)| *to = from);
    Nonce::assume_unique_for_key(nonce)
}

/// What is authenticated with a payload: its header, and the leaf that it lies beside.
fn bound(head: &[u8], leaf: &[u8]) -> Vec<u8> {
    [head, countersign_receipt::merkle::leaf_hash(leaf).as_bytes()].concat()
}

fn failed(operation: &'static str, path: &std::path::Path) -> impl FnOnce(io::Error) -> VaultError {
    let path = path.to_path_buf();
    move |error| VaultError::Io {
        operation,
        path,
        reason: error.to_string(),
        is_full: matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded),
    }
}
