//! Whether a payload is the one that its record commits to.
//!
//! The tree covers leaves only, and whoever can write the files can make a frame's checksum anew; the commitment inside the
//! leaf is what a changed payload breaks. It must not know where payloads lie. It does not cover results of actions: they
//! are not kept, so the salt of their commitment opens nothing here.

use countersign_ledger::{Record as Stored, Vault};
use countersign_model::encoding::from_canonical;
use countersign_model::payload::{ActionPayload, OutcomePayload};
use countersign_model::record::Outcome;
use countersign_model::{Body, Record};

/// Checks one stored record and gives it. Without a vault its payload stays closed, and only the leaf is read.
///
/// # Errors
/// What is wrong with it, for people.
pub(crate) fn check(vault: Option<&Vault>, stored: Stored<'_>) -> Result<Record, String> {
    let opened = match (vault, stored.payload) {
        (Some(vault), Some(sealed)) => vault.unseal(sealed, stored.leaf).map_err(|error| error.to_string())?,
        _ => None,
    };
    opens(stored.leaf, opened.as_deref())
}

/// Whether the leaf commits to the payload. One that is not there is no fault: it may have been erased.
fn opens(leaf: &[u8], payload: Option<&[u8]>) -> Result<Record, String> {
    let record = Record::from_leaf(leaf).map_err(|error| format!("the leaf is no record: {error}"))?;
    let Some(payload) = payload else { return Ok(record) };
    let unread = |error| format!("the payload cannot be read: {error}");
    let opens = match &record.body {
        Body::Outcome(outcome) => opens_outcome(outcome, &from_canonical(payload).map_err(unread)?),
        body => match body.attempt() {
            Some(attempt) => ActionPayload::decode(payload).map_err(unread)?.opens(attempt),
            None => false,
        },
    };
    if opens { Ok(record) } else { Err("the payload is not the one that the leaf commits to".to_owned()) }
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
