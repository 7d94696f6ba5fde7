//! Sealing what is recorded and opening what was: the gate's side of the vault.
//!
//! Which keys a call needs is settled before the kernel's lock is taken; under the lock there is only arithmetic. A
//! payload that cannot be sealed is not written in the clear: its record is refused. It must not know how keys lie on
//! disk, and does not cover their destruction (`erase`).

use std::time::Duration;

use countersign_kernel::Retention;
use countersign_ledger::{Entry, Scopes, Sealer, StoredRecord, Vault, VaultError};
use countersign_model::id::RunId;
use countersign_model::payload::ActionPayload;
use countersign_model::{Digest, Reason, ReasonCode};

use crate::Gate;

/// How long a call waits at most while an erasure of its run or subject is put on record.
const CLOSED_MAX: Duration = Duration::from_secs(30);

impl Gate {
    /// What seals the payloads of a call. Makes keys, off this thread, where none is left.
    pub(crate) async fn sealer(&self, run: &RunId, subject: Option<&[u8]>) -> Result<Sealer, Reason> {
        let vault = self.vault();
        let scopes = Scopes { run: run.clone(), subject: subject.map(|name| vault.subject(name)) };
        let mut sealer = self.open_sealer(&scopes).await;
        if matches!(sealer, Err(VaultError::NoSpare)) {
            self.make_keys().await.map_err(|error| why_unsealed(&error))?;
            sealer = self.open_sealer(&scopes).await;
        } else if vault.is_low() {
            let gate = self.clone();
            tokio::spawn(async move {
                // The call that finds none left says what is wrong.
                let _ = gate.make_keys().await;
            });
        }
        sealer.map_err(|error| why_unsealed(&error))
    }

    /// The vault's sealer, as soon as none of the scopes is closed.
    async fn open_sealer(&self, scopes: &Scopes) -> Result<Sealer, VaultError> {
        let opened = async {
            loop {
                // Before the vault is asked, so that no opening is missed in between.
                let reopened = self.0.reopened.notified();
                match self.vault().sealer(scopes) {
                    Err(VaultError::Closed) => reopened.await,
                    sealer => return sealer,
                }
            }
        };
        tokio::time::timeout(CLOSED_MAX, opened).await.unwrap_or(Err(VaultError::Closed))
    }

    async fn make_keys(&self) -> Result<(), VaultError> {
        let gate = self.clone();
        let made = tokio::task::spawn_blocking(move || gate.vault().refill()).await;
        made.unwrap_or(Err(VaultError::Crypto))
    }

    /// The keyed hash that stands for a subject's name in orders and records.
    #[must_use]
    pub fn subject(&self, name: &str) -> Digest {
        self.vault().subject(name.as_bytes())
    }

    pub(crate) fn vault(&self) -> &Vault {
        &self.0.vault
    }

    pub(crate) fn retention(&self) -> &Retention {
        &self.catalog().retention
    }
}

/// The entry of a record with its payload, sealed. Where it cannot be sealed the entry is empty, and the ledger refuses
/// an empty leaf: fail closed.
pub(crate) fn sealed_entry(sealer: Option<&Sealer>, leaf: &[u8], payload: Option<&ActionPayload>) -> Entry {
    let Some(payload) = payload else {
        return Entry::new(leaf);
    };
    let sealed = sealer.zip(payload.encode().ok()).and_then(|(sealer, bytes)| sealer.seal(&bytes, leaf).ok());
    sealed.map_or_else(|| Entry::new(Vec::new()), |sealed| Entry::with_payload(leaf, sealed))
}

/// What lies beside a stored record; `None` where nothing does or it was erased.
///
/// # Errors
/// [`VaultError`] where the payload, its leaf or its key was changed or is missing.
pub fn payload_of(vault: &Vault, stored: &StoredRecord) -> Result<Option<Vec<u8>>, VaultError> {
    match &stored.payload {
        Some(sealed) => vault.unseal(sealed, &stored.leaf),
        None => Ok(None),
    }
}

fn why_unsealed(error: &VaultError) -> Reason {
    let code = match error {
        VaultError::Io { is_full: true, .. } => ReasonCode::DiskFull,
        VaultError::NoSpare | VaultError::Closed => ReasonCode::Overloaded,
        _ => ReasonCode::LedgerUnavailable,
    };
    Reason::because(code, &error.to_string())
}
