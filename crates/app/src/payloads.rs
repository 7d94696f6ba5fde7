//! Whether a payload is the one that its record commits to, and whether one that is gone was erased by order.
//!
//! The tree covers leaves only, and whoever can write the files can make a frame's checksum anew; the commitment inside the
//! leaf is what a changed payload breaks. Every attempt was written with a payload, and an erasure leaves the sealed
//! bytes where they are: so one that is not there was taken out. One whose key is destroyed must lie in a scope that the
//! log says was erased, or ordered to be: keys are destroyed between those two records.
//!
//! It must not know where payloads lie. It does not cover results of actions: they are not kept, so the salt of their
//! commitment opens nothing here. Nor the payload of an outcome that is not there: a full disk may have kept it out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use countersign_ledger::vault::Tag;
use countersign_ledger::{Record as Stored, Vault};
use countersign_model::command::Deed;
use countersign_model::encoding::from_canonical;
use countersign_model::payload::{ActionPayload, OutcomePayload};
use countersign_model::record::{Outcome, VaultScope};
use countersign_model::{Body, Record};

/// Checks the payloads of a log, in any order of its records. Without a vault they stay closed.
pub(crate) struct Payloads<'a> {
    vault: Option<&'a Vault>,
    scopes: Mutex<Scopes>,
}

/// By their marks.
#[derive(Default)]
struct Scopes {
    /// Whose keys are destroyed, with the first record that needs one.
    gone: BTreeMap<Tag, u64>,
    /// Which the log says were erased or ordered to be.
    erased: BTreeSet<Tag>,
}

impl<'a> Payloads<'a> {
    pub(crate) fn new(vault: Option<&'a Vault>) -> Self {
        Self { vault, scopes: Mutex::default() }
    }

    /// Checks one stored record and gives it.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    pub(crate) fn check(&self, stored: Stored<'_>) -> Result<Record, String> {
        let (record, gone) = self.judge(stored)?;
        let scopes = &mut self.scopes.lock().unwrap_or_else(PoisonError::into_inner);
        for tag in gone {
            let first = scopes.gone.entry(tag).or_insert(stored.index);
            *first = stored.index.min(*first);
        }
        scopes.erased.extend(self.vault.zip(erased(&record)).map(|(vault, scope)| vault.tag(scope)));
        Ok(record)
    }

    /// The same for a record that a pruned log still has of what lies below. That it was erased may be pruned.
    ///
    /// # Errors
    /// As [`Payloads::check`].
    pub(crate) fn check_carried(&self, stored: Stored<'_>) -> Result<(), String> {
        self.judge(stored).map(drop)
    }

    /// The log has ended.
    ///
    /// # Errors
    /// The first record whose key is destroyed without an erasure on record, and what is wrong, for people.
    pub(crate) fn finish(&self) -> Result<(), (u64, String)> {
        let scopes = self.scopes.lock().unwrap_or_else(PoisonError::into_inner);
        let unordered = scopes.gone.iter().filter(|(tag, _)| !scopes.erased.contains(tag)).map(|(_, first)| *first);
        match unordered.min() {
            Some(first) => {
                let why = "the key of its payload is destroyed, and no erasure of its run or subject is on record";
                Err((first, why.to_owned()))
            }
            None => Ok(()),
        }
    }

    /// The record, and the marks of the scopes whose keys it lacks.
    fn judge(&self, stored: Stored<'_>) -> Result<(Record, Vec<Tag>), String> {
        let record = Record::from_leaf(stored.leaf).map_err(|error| format!("the leaf is no record: {error}"))?;
        let Some(sealed) = stored.payload else {
            return match record.body.attempt() {
                Some(_) => Err("its payload was taken out; an erasure leaves the sealed bytes in place".to_owned()),
                None => Ok((record, Vec::new())),
            };
        };
        let Some(vault) = self.vault else { return Ok((record, Vec::new())) };
        let failed = |error: &dyn std::fmt::Display| error.to_string();
        match vault.unseal(sealed, stored.leaf).map_err(|error| failed(&error))? {
            Some(payload) => opens(&record, &payload).map(|()| (record, Vec::new())),
            None => Ok((record, vault.destroyed(sealed).map_err(|error| failed(&error))?)),
        }
    }
}

/// The scope whose keys may be gone because of this record.
fn erased(record: &Record) -> Option<&VaultScope> {
    match &record.body {
        Body::Erased(erased) => Some(&erased.scope),
        Body::Commanded(commanded) => match &commanded.signed.command.deed {
            Deed::Erase { scope } => Some(scope),
            _ => None,
        },
        _ => None,
    }
}

/// Whether the record commits to the payload.
fn opens(record: &Record, payload: &[u8]) -> Result<(), String> {
    let unread = |error| format!("the payload cannot be read: {error}");
    let opens = match &record.body {
        Body::Outcome(outcome) => opens_outcome(outcome, &from_canonical(payload).map_err(unread)?),
        body => match body.attempt() {
            Some(attempt) => ActionPayload::decode(payload).map_err(unread)?.opens(attempt),
            None => false,
        },
    };
    if opens { Ok(()) } else { Err("the payload is not the one that the leaf commits to".to_owned()) }
}

fn opens_outcome(outcome: &Outcome, payload: &OutcomePayload) -> bool {
    match (&outcome.undo, &payload.undo) {
        (None, None) => true,
        (Some(commitment), Some(undo)) => commitment.opens(&undo.salt, &undo.handle),
        (Some(_), None) | (None, Some(_)) => false,
    }
}

#[cfg(test)]
mod tests;
