//! The signer of checkpoints: a trait, and the one that holds its key in this process.
//!
//! A signer is the second guard against a fork: it remembers the size and root that were confirmed and signs nothing
//! that contradicts them. Sizes that were signed but never confirmed may be signed anew. It must not know records. It
//! does not cover the signer in a process of its own, which implements the same trait.

use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use countersign_receipt::merkle::TreeHead;
use countersign_receipt::{Checkpoint, KeyError, VerifierKey, cose};

use crate::disk::{Access, Mode, read_file};
use crate::error::{OpenError, SignError};
use crate::store::Store;

#[cfg(test)]
mod tests;

/// Signs checkpoints of one log.
pub trait Signer: Send + Sync {
    /// The key that checks what is signed; its name is the log's origin.
    fn verifier_key(&self) -> &VerifierKey;
    /// Signs [`Checkpoint::signed_body`].
    ///
    /// # Errors
    /// [`SignError`] for a tree smaller than confirmed, a second root for a confirmed size, another log, or no signer.
    fn sign(&self, checkpoint: &Checkpoint) -> Result<[u8; 64], SignError>;
    /// Signs what a COSE Receipt at this tree is signed with: [`cose::to_be_signed`], which the signer itself builds, so
    /// that it never signs bytes of another's choosing. It can never be a checkpoint's text.
    ///
    /// # Errors
    /// As [`Signer::sign`].
    fn sign_receipt(&self, head: &TreeHead) -> Result<[u8; 64], SignError>;
    /// Remembers that this tree is durable. Called only after the sync.
    ///
    /// # Errors
    /// As [`Signer::sign`].
    fn confirm(&self, head: &TreeHead) -> Result<(), SignError>;
}

/// A signer whose key is a file of the ledger, read into this process.
pub struct LocalSigner {
    pair: Ed25519KeyPair,
    key: VerifierKey,
    confirmed: Mutex<Option<TreeHead>>,
}

impl LocalSigner {
    /// Makes a new key for log `origin` and returns it with its PKCS#8 form.
    ///
    /// # Errors
    /// [`OpenError::Key`] if no key can be made, [`OpenError::VerifierKey`] if the origin cannot be a key name.
    pub(crate) fn generate(store: &Store, origin: &str) -> Result<(Self, Vec<u8>), OpenError> {
        let failed = |_| OpenError::Key { path: store.key(), reason: "no key could be generated".to_owned() };
        let pair = Ed25519KeyPair::generate().map_err(failed)?;
        let der = pair.to_pkcs8().map_err(failed)?.as_ref().to_vec();
        let key = verifier(&pair, origin)?;
        Ok((Self { pair, key, confirmed: Mutex::new(None) }, der))
    }

    /// Reads the ledger's key.
    ///
    /// # Errors
    /// [`OpenError`] if a file is missing, or the two keys are not a pair.
    pub fn load(store: &Store) -> Result<Self, OpenError> {
        let path = store.key();
        let bytes = read_file(store.disk(), &path, 4096).map_err(OpenError::io("read", &path))?;
        let key = load_verifier(store)?;
        let bad = |reason: &str| OpenError::Key { path: store.key(), reason: reason.to_owned() };
        let pair = Ed25519KeyPair::from_pkcs8(&bytes).map_err(|_| bad("not an Ed25519 key in PKCS#8"))?;
        if verifier(&pair, key.name())? != key {
            return Err(bad("not the key of `log.vkey`"));
        }
        Ok(Self { pair, key, confirmed: Mutex::new(None) })
    }

    fn check(&self, head: &TreeHead) -> Result<(), SignError> {
        let confirmed = *self.confirmed.lock().unwrap_or_else(PoisonError::into_inner);
        match confirmed {
            Some(seen) if head.size < seen.size => Err(SignError::Smaller { asked: head.size, confirmed: seen.size }),
            Some(seen) if head.size == seen.size && head.root != seen.root => {
                Err(SignError::SecondRoot { size: seen.size, asked: head.root, confirmed: seen.root })
            }
            _ => Ok(()),
        }
    }
}

impl LocalSigner {
    fn sign_bytes(&self, bytes: &[u8]) -> Result<[u8; 64], SignError> {
        let unavailable = |why: &str| SignError::Unavailable(why.to_owned());
        let signature = self.pair.try_sign(bytes).map_err(|_| unavailable("signing failed"))?;
        signature.as_ref().try_into().map_err(|_| unavailable("signature has the wrong length"))
    }
}

impl std::fmt::Debug for LocalSigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LocalSigner({})", self.key)
    }
}

impl Signer for LocalSigner {
    fn verifier_key(&self) -> &VerifierKey {
        &self.key
    }

    fn sign(&self, checkpoint: &Checkpoint) -> Result<[u8; 64], SignError> {
        if checkpoint.origin != self.key.name() {
            let (found, expected) = (checkpoint.origin.clone(), self.key.name().to_owned());
            return Err(SignError::Origin { found, expected });
        }
        self.check(&checkpoint.head())?;
        self.sign_bytes(checkpoint.signed_body().as_bytes())
    }

    fn sign_receipt(&self, head: &TreeHead) -> Result<[u8; 64], SignError> {
        self.check(head)?;
        self.sign_bytes(&cose::to_be_signed(&self.key, head))
    }

    fn confirm(&self, head: &TreeHead) -> Result<(), SignError> {
        self.check(head)?;
        *self.confirmed.lock().unwrap_or_else(PoisonError::into_inner) = Some(*head);
        Ok(())
    }
}

/// Reads the ledger's public key.
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
pub(crate) fn save(store: &Store, signer: &LocalSigner, der: &[u8]) -> Result<(), OpenError> {
    let vkey = format!("{}\n", signer.key);
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

fn verifier(pair: &Ed25519KeyPair, origin: &str) -> Result<VerifierKey, KeyError> {
    let point = || KeyError::Point { name: origin.to_owned() };
    VerifierKey::new(origin, pair.public_key().as_ref().try_into().map_err(|_| point())?)
}

/// A signer for the ledger to share.
pub(crate) fn shared(signer: LocalSigner) -> Arc<dyn Signer> {
    Arc::new(signer)
}
