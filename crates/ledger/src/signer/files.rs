//! Private keys in files: `log.key`, and `next.key` while the key is being changed.
//!
//! It must not know what is signed. The old key's file is replaced by the new one and its bytes are overwritten; what a
//! disk keeps of overwritten blocks, or a backup of the file, is beyond it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use countersign_receipt::{KeyError, VerifierKey};

use super::{PrivateKeys, load_verifier, unavailable};
use crate::disk::{Access, DiskFile, Mode, read_file, replace_file};
use crate::error::{OpenError, SignError};
use crate::mark::Mark;
use crate::store::Store;

/// More than any Ed25519 key in PKCS#8.
const KEY_BYTES_MAX: u64 = 4096;

/// Keys in files of a folder.
pub struct FileKeys {
    store: Store,
    current: Mutex<Arc<Pair>>,
}

struct Pair {
    private: Ed25519KeyPair,
    public: VerifierKey,
}

/// Makes a key for log `origin`: its public part, and itself in PKCS#8.
pub(crate) fn generate(origin: &str) -> Result<(VerifierKey, Vec<u8>), SignError> {
    let failed = |error: &dyn std::fmt::Display| unavailable("no key could be generated", error);
    let private = Ed25519KeyPair::generate().map_err(|error| failed(&error))?;
    let der = private.to_pkcs8().map_err(|error| failed(&error))?.as_ref().to_vec();
    Ok((verifier(&private, origin).map_err(|error| failed(&error))?, der))
}

impl FileKeys {
    /// Reads `log.key` in the store's folder; the log's name is that of `log.vkey`.
    ///
    /// # Errors
    /// [`OpenError`] if a file is missing or is no key, or the key in force lies in a token.
    pub fn load(store: &Store) -> Result<Self, OpenError> {
        if is_in_token(store)? {
            let reason = "the key in force lies in a PKCS#11 token: start the signer with its `--pkcs11-…` flags";
            return Err(OpenError::Signer(reason.to_owned()));
        }
        Self::read(store)
    }

    /// As [`FileKeys::load`] where the caller knows that the key in force lies in no token.
    pub(super) fn read(store: &Store) -> Result<Self, OpenError> {
        let path = store.key();
        let bytes = read_file(store.disk(), &path, KEY_BYTES_MAX).map_err(OpenError::io("read", &path))?;
        let origin = load_verifier(store)?;
        let bad = |reason: String| OpenError::Key { path, reason };
        let pair = decode(&bytes, origin.name()).map_err(bad)?;
        Ok(Self { store: store.clone(), current: Mutex::new(Arc::new(pair)) })
    }

    fn current(&self) -> Arc<Pair> {
        Arc::clone(&self.current.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn read_next(&self) -> Result<Option<Pair>, SignError> {
        let bytes = match read_file(self.store.disk(), &self.store.next_key(), KEY_BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unavailable("`next.key` could not be read", &error)),
        };
        let pair = decode(&bytes, self.current().public.name());
        Ok(Some(pair.map_err(|error| unavailable("`next.key`", &error))?))
    }

    /// The file of the old key is another one after this; only the descriptor still leads to it. The next key is
    /// copied and not renamed: at no moment does its only name depend on an unsynced directory.
    fn replace(&self) -> io::Result<()> {
        let disk = self.store.disk();
        let old = disk.open(&self.store.key(), Mode::Edit)?;
        let der = read_file(disk, &self.store.next_key(), KEY_BYTES_MAX)?;
        replace_file(disk, &self.store.key(), &der, Access::Private)?;
        disk.sync_dir(self.store.dir())?;
        overwrite(old.as_ref());
        // The name that is left behind is of the key in force, and counts for nothing.
        if let Err(error) = disk.remove(&self.store.next_key()) {
            tracing::debug!(%error, "`next.key` stays behind");
        }
        Ok(())
    }
}

impl PrivateKeys for FileKeys {
    fn verifier_key(&self) -> VerifierKey {
        self.current().public.clone()
    }

    fn sign(&self, message: &[u8]) -> Result<[u8; 64], SignError> {
        let failed = |what: &str| SignError::Unavailable(what.to_owned());
        let signature = self.current().private.try_sign(message).map_err(|_| failed("signing failed"))?;
        signature.as_ref().try_into().map_err(|_| failed("signature has the wrong length"))
    }

    fn next(&self) -> Result<VerifierKey, SignError> {
        let current = self.current();
        if let Some(pair) = self.read_next()?.filter(|pair| pair.public != current.public) {
            return Ok(pair.public);
        }
        let (public, der) = generate(current.public.name())?;
        let disk = self.store.disk();
        replace_file(disk, &self.store.next_key(), &der, Access::Private)
            .and_then(|()| disk.sync_dir(self.store.dir()))
            .map_err(|error| unavailable("`next.key` could not be written", &error))?;
        Ok(public)
    }

    fn promote(&self, key: &VerifierKey) -> Result<(), SignError> {
        if self.current().public == *key {
            return Ok(());
        }
        let next = self.read_next()?.filter(|next| next.public == *key);
        let next = next.ok_or_else(|| SignError::Rotation(format!("`{key}` is not the next key")))?;
        self.replace().map_err(|error| unavailable("`log.key` could not be replaced", &error))?;
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(next);
        Ok(())
    }

    fn forget_next(&self) -> Result<(), SignError> {
        let disk = self.store.disk();
        match disk.remove(&self.store.next_key()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed
                .and_then(|()| disk.sync_dir(self.store.dir()))
                .map_err(|error| unavailable("`next.key` could not be removed", &error)),
        }
    }
}

fn overwrite(key: &dyn DiskFile) {
    let written = key.size().and_then(|size| {
        let length = usize::try_from(size.min(KEY_BYTES_MAX)).unwrap_or(0);
        key.write_at(0, &vec![0; length])?;
        key.sync_data()
    });
    if let Err(error) = written {
        tracing::warn!(%error, "the old key's bytes could not be overwritten; its file is removed");
    }
}

/// Overwrites and removes both files, for a signer whose key lies in a token; done twice it does nothing. What says that it
/// lies there is made durable first.
#[cfg(feature = "pkcs11")]
pub(super) fn destroy(store: &Store) -> io::Result<()> {
    let disk = store.disk();
    for path in [store.key(), store.next_key()] {
        match disk.open(&path, Mode::Edit) {
            Ok(old) => {
                disk.sync_dir(store.dir())?;
                overwrite(old.as_ref());
                disk.remove(&path)?;
                disk.sync_dir(store.dir())?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Whether `token.keys` names a key in force. Known without the feature too: an old `log.key` must not sign again.
fn is_in_token(store: &Store) -> Result<bool, OpenError> {
    let path = store.token_notes();
    match read_file(store.disk(), &path, KEY_BYTES_MAX * 2) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).lines().any(|line| line.starts_with("in-force "))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(OpenError::io("read", &path)(error)),
    }
}

fn decode(der: &[u8], origin: &str) -> Result<Pair, String> {
    let private = Ed25519KeyPair::from_pkcs8(der).map_err(|_| "not an Ed25519 key in PKCS#8".to_owned())?;
    let public = verifier(&private, origin).map_err(|error| error.to_string())?;
    Ok(Pair { private, public })
}

fn verifier(pair: &Ed25519KeyPair, origin: &str) -> Result<VerifierKey, KeyError> {
    let point = || KeyError::Point { name: origin.to_owned() };
    VerifierKey::new(origin, pair.public_key().as_ref().try_into().map_err(|_| point())?)
}

/// Moves the key of the ledger in `from` into the new signer's folder `to`, with the high-water that the ledger's mark
/// gives. The ledger's copy is removed last.
///
/// # Errors
/// [`OpenError`]; [`OpenError::Exists`] if `to` holds a key already.
pub fn take_key(from: &Store, to: &Store) -> Result<VerifierKey, OpenError> {
    let io = |operation: &'static str, path: &Path| OpenError::io(operation, PathBuf::from(path));
    let disk = to.disk();
    disk.create_dir(to.dir(), Access::Private).map_err(io("creation", to.dir()))?;
    let names = disk.list(to.dir()).map_err(io("list", to.dir()))?;
    if names.iter().any(|name| name == "log.key" || name == "token.keys") {
        return Err(OpenError::Exists { dir: to.dir().to_path_buf() });
    }
    let _lock = crate::take_lock(from)?;
    let key = FileKeys::load(from)?.verifier_key();
    if *crate::keys::load(from)?.newest() != key || crate::keys::is_pending(from) {
        let reason = "the ledger's key is being changed: open it once with `countersign up`".to_owned();
        return Err(OpenError::Key { path: from.key(), reason });
    }
    let head = Mark::read(&from.mark_file()).map_err(io("read", &from.mark()))?;
    let head = head.ok_or(OpenError::Mark { path: from.mark(), state: "damaged" })?;
    Mark::create(&to.high_water(), &head).map_err(io("creation", &to.high_water().path()))?;
    let der = read_file(from.disk(), &from.key(), KEY_BYTES_MAX).map_err(io("read", &from.key()))?;
    super::save(to, &key, &der)?;
    from.disk().remove(&from.key()).map_err(io("removal", &from.key()))?;
    from.disk().sync_dir(from.dir()).map_err(io("sync", from.dir()))?;
    Ok(key)
}
