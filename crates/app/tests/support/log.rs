//! The record, read back from a copy of the ledger, and receipts, checked with the library.

use std::fs;
use std::path::Path;

use countersign_ledger::{Config, Ledger, Store, Vault};
use countersign_model::payload::ActionPayload;
use countersign_model::{Body, Record};
use countersign_receipt::{Receipt, VerifierKey};
use serde_json::Value;

use super::Installation;

/// One record with what lies beside it.
pub(crate) struct Entry {
    /// Its index in the log.
    pub(crate) index: u64,
    /// What it says.
    pub(crate) record: Record,
    /// The arguments of a decided call.
    pub(crate) arguments: Value,
}

impl Entry {
    /// The argument `id` of a decided call.
    pub(crate) fn id(&self) -> &str {
        self.arguments["id"].as_str().unwrap_or_default()
    }

    /// The first reason code of a decided call or of a refusal.
    pub(crate) fn reason(&self) -> &str {
        match &self.record.body {
            Body::Refused(refused) => refused.reason.code.as_str(),
            body => body.attempt().and_then(|attempt| attempt.reasons.first()).map_or("", |r| r.code.as_str()),
        }
    }
}

impl Installation {
    /// Every record in order. No gateway may run, for a copy of a live ledger may be torn.
    pub(crate) fn records(&self) -> Vec<Entry> {
        let copy = tempfile::tempdir().unwrap();
        let ledger = copy.path().join("ledger");
        copied(&self.path("ledger"), &ledger);
        let mut entries = Vec::new();
        let vault = Vault::open(&Store::real(&ledger)).unwrap();
        let (opened, _) = Ledger::open(&Store::real(&ledger), Config::default(), &mut |stored| {
            let payload = stored.payload.and_then(|sealed| vault.unseal(sealed, stored.leaf).unwrap());
            let payload = payload.and_then(|bytes| ActionPayload::decode(&bytes).ok());
            let arguments = payload.and_then(|payload| serde_json::from_slice(&payload.arguments).ok());
            let record = Record::from_leaf(stored.leaf).unwrap();
            entries.push(Entry { index: stored.index, record, arguments: arguments.unwrap_or_default() });
            Ok(())
        })
        .unwrap();
        opened.close().unwrap();
        entries
    }

    /// Fails unless `receipt` verifies against the log's key; gives its leaves.
    pub(crate) fn verified(&self, receipt: &str) -> Vec<Record> {
        let key = VerifierKey::parse(self.read("ledger/log.vkey").trim()).unwrap();
        let receipt = Receipt::parse(receipt).unwrap();
        receipt.verify(&key).unwrap();
        receipt.proofs.iter().map(|proof| Record::from_leaf(&proof.leaf).unwrap()).collect()
    }
}

/// Copies a folder with all that is in it.
pub(crate) fn copied(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type().unwrap().is_dir() {
            copied(&from, &to);
        } else {
            fs::copy(from, to).unwrap();
        }
    }
}

const _: () = {
    let _ = (Installation::records, Installation::verified, copied, Entry::id, Entry::reason);
    let _ = |entry: Entry| (entry.index, entry.record, entry.arguments);
};
