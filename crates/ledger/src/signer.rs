//! The signer of checkpoints: a trait, and the one that holds its key in this process.
//!
//! A signer is the second guard against a fork: it remembers the size and root that were confirmed and signs nothing
//! that contradicts them. Sizes that were signed but never confirmed may be signed anew. It must not know records. It
//! does not cover how a signer in a process of its own is spoken to (`remote`, `server`, `wire`).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use countersign_receipt::merkle::TreeHead;
use countersign_receipt::{Checkpoint, Hash, Rotation, VerifierKey};

use crate::disk::{Access, Mode, read_file};
use crate::error::{OpenError, SignError};
use crate::store::Store;

mod files;
mod guard;
#[cfg(feature = "pkcs11")]
mod pkcs11;
mod remote;
mod server;
#[cfg(test)]
mod tests;
mod wire;

pub(crate) use files::generate;
pub use files::{FileKeys, take_key};
pub(crate) use guard::Guard;
#[cfg(feature = "pkcs11")]
pub use pkcs11::{TokenKeys, TokenPlace};
pub use remote::RemoteSigner;
pub use server::{Peers, ServeError, SignerServer};

/// Proves that the tree at hand extends an older one.
pub trait History {
    /// The consistency proof from the tree of `size` records; empty for size 0 and for the tree itself.
    ///
    /// # Errors
    /// [`SignError::Unavailable`] if there was no such tree or its hashes cannot be read.
    fn since(&self, size: u64) -> Result<Vec<Hash>, SignError>;
}

/// Before the first record there is nothing to extend.
pub(crate) struct Beginning;

impl History for Beginning {
    fn since(&self, size: u64) -> Result<Vec<Hash>, SignError> {
        match size {
            0 => Ok(Vec::new()),
            _ => Err(SignError::Unavailable(format!("an empty log has no tree of `{size}` records"))),
        }
    }
}

/// Signs checkpoints of one log.
pub trait Signer: Send + Sync {
    /// The key that signs now; its name is the log's origin.
    fn verifier_key(&self) -> VerifierKey;
    /// Service begins with this tree, which is durable. A key that was made and not put in force is forgotten.
    ///
    /// # Errors
    /// As [`Signer::sign`].
    fn resume(&self, head: &TreeHead, history: &dyn History) -> Result<(), SignError>;
    /// Signs [`Checkpoint::signed_body`].
    ///
    /// # Errors
    /// [`SignError`] for a tree smaller than confirmed, a second root for a confirmed size, a tree that is not shown to
    /// extend the confirmed one, another log, or no signer.
    fn sign(&self, checkpoint: &Checkpoint, history: &dyn History) -> Result<[u8; 64], SignError>;
    /// Signs what a COSE Receipt at this tree is signed with: [`countersign_receipt::cose::to_be_signed`], which the
    /// signer itself builds, so that it never signs bytes of another's choosing. It can never be a checkpoint's text.
    ///
    /// # Errors
    /// As [`Signer::sign`].
    fn sign_receipt(&self, head: &TreeHead, history: &dyn History) -> Result<[u8; 64], SignError>;
    /// Remembers that the tree signed last is durable. Called only after the sync. It may be on its way when this
    /// returns, but is known before the next tree is signed.
    ///
    /// # Errors
    /// As [`Signer::sign`].
    fn confirm(&self, head: &TreeHead) -> Result<(), SignError>;
    /// Makes the key that may come next, or tells the one that was made.
    ///
    /// # Errors
    /// [`SignError`] if none can be made or kept.
    fn next_key(&self) -> Result<VerifierKey, SignError>;
    /// Signs the statement that the next key follows, with the key in force. A statement is made once for a key.
    ///
    /// # Errors
    /// [`SignError::Rotation`] if the keys are not these, or it would take effect below a confirmed size.
    fn state(&self, rotation: &Rotation) -> Result<[u8; 64], SignError>;
    /// Puts the stated key in force and destroys the old one; done twice it does nothing. `head` is the last tree of
    /// the old key and durable.
    ///
    /// # Errors
    /// [`SignError`] if that key was not stated for the size after `head`.
    fn adopt(&self, rotation: &Rotation, head: &TreeHead, history: &dyn History) -> Result<(), SignError>;
    /// Destroys a next key that was not put in force.
    ///
    /// # Errors
    /// [`SignError::Unavailable`] if it cannot be destroyed.
    fn forget_next(&self) -> Result<(), SignError>;
}

/// Private keys of one log, wherever they lie: the one in force and the one that may come next.
pub trait PrivateKeys: Send + Sync {
    /// The public part of the key in force.
    fn verifier_key(&self) -> VerifierKey;
    /// An Ed25519 signature by the key in force.
    ///
    /// # Errors
    /// [`SignError::Unavailable`].
    fn sign(&self, message: &[u8]) -> Result<[u8; 64], SignError>;
    /// Makes the next key durably, or finds it.
    ///
    /// # Errors
    /// [`SignError::Unavailable`].
    fn next(&self) -> Result<VerifierKey, SignError>;
    /// Puts the next key in force, durably, and destroys the old one. Nothing to do if `key` is in force.
    ///
    /// # Errors
    /// [`SignError::Rotation`] if `key` is not the next one, [`SignError::Unavailable`].
    fn promote(&self, key: &VerifierKey) -> Result<(), SignError>;
    /// Destroys the next key, if there is one.
    ///
    /// # Errors
    /// [`SignError::Unavailable`].
    fn forget_next(&self) -> Result<(), SignError>;
}

/// A signer in this process. It remembers what was confirmed as long as it lives; the ledger's mark outlives it.
pub struct LocalSigner(Mutex<Guard>);

impl LocalSigner {
    /// Signs with these keys.
    #[must_use]
    pub fn new(keys: Box<dyn PrivateKeys>) -> Self {
        Self(Mutex::new(Guard::in_memory(keys)))
    }

    /// Signs with the ledger's own `log.key`.
    ///
    /// # Errors
    /// [`OpenError`] if a file is missing or is no key.
    pub fn load(store: &Store) -> Result<Self, OpenError> {
        Ok(Self::new(Box::new(FileKeys::load(store)?)))
    }

    fn guard(&self) -> MutexGuard<'_, Guard> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for LocalSigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LocalSigner({})", self.verifier_key())
    }
}

impl Signer for LocalSigner {
    fn verifier_key(&self) -> VerifierKey {
        self.guard().verifier_key()
    }

    fn resume(&self, head: &TreeHead, _: &dyn History) -> Result<(), SignError> {
        let mut guard = self.guard();
        guard.confirm(head, &[])?;
        guard.forget_next()
    }

    fn sign_receipt(&self, head: &TreeHead, _: &dyn History) -> Result<[u8; 64], SignError> {
        self.guard().sign_receipt(head, &[])
    }

    // Whoever could ask this signer for a fork could as well read its key: a proof would add nothing here.
    fn sign(&self, checkpoint: &Checkpoint, _: &dyn History) -> Result<[u8; 64], SignError> {
        self.guard().sign(checkpoint, &[])
    }

    fn confirm(&self, head: &TreeHead) -> Result<(), SignError> {
        self.guard().confirm(head, &[])
    }

    fn next_key(&self) -> Result<VerifierKey, SignError> {
        self.guard().next_key()
    }

    fn state(&self, rotation: &Rotation) -> Result<[u8; 64], SignError> {
        self.guard().state(rotation)
    }

    fn adopt(&self, rotation: &Rotation, head: &TreeHead, _: &dyn History) -> Result<(), SignError> {
        self.guard().adopt(&rotation.new, head, &[])
    }

    fn forget_next(&self) -> Result<(), SignError> {
        self.guard().forget_next()
    }
}

/// No signer at all: opens a ledger for reading where the key is out of reach. Everything that would sign is refused.
#[derive(Debug)]
pub struct ReadOnly(VerifierKey);

impl ReadOnly {
    /// For the ledger in `store`.
    ///
    /// # Errors
    /// [`OpenError`] if its list of keys is not valid.
    pub fn load(store: &Store) -> Result<Self, OpenError> {
        Ok(Self(crate::keys::load(store)?.newest().clone()))
    }
}

fn read_only<T>() -> Result<T, SignError> {
    Err(SignError::Unavailable("the ledger is open for reading only".to_owned()))
}

impl Signer for ReadOnly {
    fn verifier_key(&self) -> VerifierKey {
        self.0.clone()
    }

    fn resume(&self, _: &TreeHead, _: &dyn History) -> Result<(), SignError> {
        Ok(())
    }

    fn sign(&self, _: &Checkpoint, _: &dyn History) -> Result<[u8; 64], SignError> {
        read_only()
    }

    fn sign_receipt(&self, _: &TreeHead, _: &dyn History) -> Result<[u8; 64], SignError> {
        read_only()
    }

    fn confirm(&self, _: &TreeHead) -> Result<(), SignError> {
        read_only()
    }

    fn next_key(&self) -> Result<VerifierKey, SignError> {
        read_only()
    }

    fn state(&self, _: &Rotation) -> Result<[u8; 64], SignError> {
        read_only()
    }

    fn adopt(&self, _: &Rotation, _: &TreeHead, _: &dyn History) -> Result<(), SignError> {
        read_only()
    }

    fn forget_next(&self) -> Result<(), SignError> {
        Ok(())
    }
}

/// Reads the ledger's first public key: the one that auditors were given.
///
/// # Errors
/// [`OpenError`] if the file is missing or malformed.
pub fn load_verifier(store: &Store) -> Result<VerifierKey, OpenError> {
    let path = store.verifier();
    let bytes = read_file(store.disk(), &path, 4096).map_err(OpenError::io("read", &path))?;
    let text = String::from_utf8_lossy(&bytes);
    Ok(VerifierKey::parse(text.strip_suffix('\n').unwrap_or(&text))?)
}

/// Writes the key pair of a new ledger. The private key comes last: it makes the directory a ledger.
pub(crate) fn save(store: &Store, key: &VerifierKey, der: &[u8]) -> Result<(), OpenError> {
    let vkey = format!("{key}\n");
    for (path, bytes, access) in
        [(store.verifier(), vkey.as_bytes(), Access::Public), (store.key(), der, Access::Private)]
    {
        let temporary = path.with_extension("tmp");
        let file = store.disk().open(&temporary, Mode::Replace(access)).map_err(OpenError::io("create", &temporary))?;
        file.write_at(0, bytes).map_err(OpenError::io("write", &temporary))?;
        file.sync_data().map_err(OpenError::io("sync", &temporary))?;
        store.disk().rename(&temporary, &path).map_err(OpenError::io("rename", &path))?;
        store.disk().sync_dir(store.dir()).map_err(OpenError::io("sync", store.dir()))?;
    }
    Ok(())
}

/// A signer for the ledger to share.
pub(crate) fn shared(signer: LocalSigner) -> Arc<dyn Signer> {
    Arc::new(signer)
}

fn unavailable(what: &str, error: &dyn std::fmt::Display) -> SignError {
    SignError::Unavailable(format!("{what}: {error}"))
}
