//! The key file: a header with the vault's secret, then slots of 32 bytes. Zeros are a key that is destroyed.
//!
//! A slot is written once with a key and synced before the key is used, and once more with zeros. After a failed write
//! or sync nothing more is written, because nobody knows what is on the disk; a full disk is no such failure, for space
//! is set aside before anything is written. It must not know whose a key is.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};

use super::active::ActiveKeys;
use super::{Key, VaultError, failed};
use crate::disk::{Access, DiskFile, Mode, read_range};
use crate::error::OpenError;
use crate::store::Store;

const MAGIC: [u8; 8] = *b"CSVAULT1";
const HEADER_BYTES: u64 = 64;
const SLOT_BYTES: u64 = 32;
/// How many keys are made with one sync.
const AHEAD: u64 = 64;

pub(super) struct KeyFile {
    pub(super) path: PathBuf,
    file: Box<dyn DiskFile>,
    writing: Mutex<Writing>,
}

struct Writing {
    /// The id of the next key to make.
    next: u64,
    is_stopped: bool,
}

impl KeyFile {
    pub(super) fn create(store: &Store) -> Result<(), OpenError> {
        let (dir, path) = (store.vault(), store.vault_keys());
        let disk = store.disk();
        disk.create_dir(&dir, Access::Private).map_err(OpenError::io("creation", &dir))?;
        let secret =
            random().map_err(|_| OpenError::Vault { path: path.clone(), reason: "no randomness to be had" })?;
        let mut header = [MAGIC.as_slice(), &secret].concat();
        let crc = crc32c::crc32c(&header);
        header.extend_from_slice(&crc.to_le_bytes());
        header.resize(64, 0);
        // A start of the ledger that was cut off is begun anew: no key can have been used yet.
        let file = disk.open(&path, Mode::Replace(Access::Private)).map_err(OpenError::io("creation", &path))?;
        file.write_at(0, &header).map_err(OpenError::io("write", &path))?;
        file.sync_data().map_err(OpenError::io("sync", &path))?;
        disk.sync_dir(&dir).map_err(OpenError::io("sync", &dir))
    }

    pub(super) fn open(store: &Store) -> Result<(Self, Key), OpenError> {
        let path = store.vault_keys();
        let file = store.disk().open(&path, Mode::Edit).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => OpenError::Vault { path: path.clone(), reason: "it is missing" },
            _ => OpenError::io("open", &path)(error),
        })?;
        let header = read_range(file.as_ref(), 0, HEADER_BYTES).map_err(OpenError::io("read", &path))?;
        let secret = secret(&header).ok_or(OpenError::Vault { path: path.clone(), reason: "its header is damaged" })?;
        let size = file.size().map_err(OpenError::io("read", &path))?;
        // Whatever was made ahead and perhaps never used stays behind; half a slot at the end does so too.
        let next = size.saturating_sub(HEADER_BYTES).div_ceil(SLOT_BYTES) + 1;
        Ok((Self { path, file, writing: Mutex::new(Writing { next, is_stopped: false }) }, secret))
    }

    /// `None` if it is destroyed.
    pub(super) fn key(&self, id: u64) -> Result<Option<Key>, VaultError> {
        let at = slot(id).ok_or(VaultError::NoKey(id))?;
        let bytes = read_range(self.file.as_ref(), at, SLOT_BYTES).map_err(failed("read", &self.path))?;
        let key: Key = bytes.try_into().map_err(|_| VaultError::NoKey(id))?;
        Ok((key != [0; 32]).then_some(key))
    }

    pub(super) fn make_ahead(&self, active: &ActiveKeys) -> Result<(), VaultError> {
        let mut writing = self.writing()?;
        if !active.is_low() {
            return Ok(());
        }
        let ids = writing.next..writing.next + AHEAD;
        let made = ids.clone().map(|id| Ok((id, random()?))).collect::<Result<Vec<(u64, Key)>, VaultError>>()?;
        let (Some(at), Some(end)) = (slot(ids.start), slot(ids.end)) else {
            return Err(VaultError::NoKey(ids.end));
        };
        let bytes: Vec<u8> = made.iter().flat_map(|(_, key)| *key).collect();
        let allocated = self.file.allocate(end).map_err(failed("allocation", &self.path));
        if let Err(error) = allocated {
            writing.is_stopped = !matches!(error, VaultError::Io { is_full: true, .. });
            return Err(error);
        }
        self.write_and_sync(&mut writing, &[(at, bytes)])?;
        writing.next = ids.end;
        active.add(made.into_iter());
        Ok(())
    }

    pub(super) fn destroy(&self, keys: &BTreeSet<u64>) -> Result<(), VaultError> {
        let mut writing = self.writing()?;
        let mut zeros = Vec::new();
        for id in keys {
            if self.key(*id)?.is_some() {
                zeros.push((slot(*id).ok_or(VaultError::NoKey(*id))?, vec![0; 32]));
            }
        }
        // Synced even if there is nothing left to write: the zeros that are there may never have been synced.
        self.write_and_sync(&mut writing, &zeros)
    }

    fn write_and_sync(&self, writing: &mut Writing, writes: &[(u64, Vec<u8>)]) -> Result<(), VaultError> {
        // Until the sync has returned nobody knows what is on the disk.
        writing.is_stopped = true;
        for (at, bytes) in writes {
            self.file.write_at(*at, bytes).map_err(failed("write", &self.path))?;
        }
        self.file.sync_data().map_err(failed("sync", &self.path))?;
        writing.is_stopped = false;
        Ok(())
    }

    fn writing(&self) -> Result<MutexGuard<'_, Writing>, VaultError> {
        let writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        if writing.is_stopped { Err(VaultError::Stopped) } else { Ok(writing) }
    }
}

/// Where the slot of a key lies; there is no key 0.
fn slot(id: u64) -> Option<u64> {
    id.checked_sub(1)?.checked_mul(SLOT_BYTES)?.checked_add(HEADER_BYTES)
}

fn secret(header: &[u8]) -> Option<Key> {
    let (checked, rest) = header.split_at_checked(44)?;
    let (body, crc) = checked.split_last_chunk::<4>()?;
    if crc32c::crc32c(body) != u32::from_le_bytes(*crc) || rest.iter().any(|byte| *byte != 0) {
        return None;
    }
    body.strip_prefix(&MAGIC)?.try_into().ok()
}

fn random() -> Result<Key, VaultError> {
    let mut key = [0; 32];
    SystemRandom::new().fill(&mut key).map_err(|_| VaultError::Crypto)?;
    // Zeros would read as a destroyed key.
    if key == [0; 32] { Err(VaultError::Crypto) } else { Ok(key) }
}
