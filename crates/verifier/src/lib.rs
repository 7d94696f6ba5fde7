//! The verdict on one receipt: are its leaves in the log, are they records, and are they what the receipt says they are?
//!
//! Both encodings of a receipt come in here, for the command line and, built to WebAssembly, for a page without a server;
//! so both say the same. It is pure. It must not know files, terminals or how the log is stored. It does not cover whole
//! ledgers (`ledger::verify` does), payloads, and whether the key is the right one: that is for whoever brings it.

use std::fmt::Write as _;

use countersign_model::record::Attempt;
use countersign_model::{Body, Record};
use countersign_receipt::merkle::leaf_hash;
use countersign_receipt::{
    CoseError, CoseReceipt, Hash, KeyChain, Receipt, ReceiptError, Role, VerifierKey, VerifyError,
};
use serde_json::{Value, json};

#[cfg(target_arch = "wasm32")]
pub mod abi;

/// The first byte of every COSE Receipt of ours, and of no text: CBOR's tag 18.
const COSE_FIRST_BYTE: u8 = 0xd2;

/// Which encoding a receipt came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// JSON with C2SP tlog-proofs.
    Tlog,
    /// RFC 9942.
    Cose,
}

impl Form {
    /// The word for it in results.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tlog => "tlog-proof",
            Self::Cose => "cose",
        }
    }
}

/// What a receipt proves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The encoding.
    pub form: Form,
    /// The log's origin.
    pub log: String,
    /// The records, in the receipt's order; at least one.
    pub records: Vec<Proved>,
}

/// One record that is in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proved {
    /// Its index.
    pub index: u64,
    /// What the receipt says that it is to the call; a COSE Receipt says nothing.
    pub role: Option<Role>,
    /// The hash of its leaf.
    pub leaf_hash: Hash,
    /// The size of the tree that proves it.
    pub size: u64,
    /// The record itself.
    pub record: Record,
}

/// Why there is no good verdict.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// Neither encoding: this is no text.
    #[error("no receipt: neither text nor a COSE receipt")]
    NoText,
    /// Not a receipt in JSON.
    #[error("no receipt: {0}")]
    Json(#[from] ReceiptError),
    /// Not a COSE Receipt of ours.
    #[error("no receipt: {0}")]
    CoseForm(CoseError),
    /// It does not hold.
    #[error("{0}")]
    Proof(#[from] VerifyError),
    /// It does not hold.
    #[error("{0}")]
    Cose(CoseError),
    /// The leaf is in the log and is no record of a version that this program knows.
    #[error("record `{index}`: {why}")]
    Record {
        /// Its index.
        index: u64,
        /// What is wrong with it.
        why: String,
    },
    /// The role is not part of what the log signed: the record itself says what it is.
    #[error("record `{index}` is a `{kind}`, not what the receipt says")]
    Role {
        /// Its index.
        index: u64,
        /// What it is.
        kind: &'static str,
    },
}

/// Judges one receipt, in either encoding, by the log's keys.
///
/// # Errors
/// [`Refusal`]: the first thing that does not hold.
pub fn judge(receipt: &[u8], keys: &KeyChain) -> Result<Verdict, Refusal> {
    if receipt.first() == Some(&COSE_FIRST_BYTE) {
        return judge_cose(receipt, keys);
    }
    let receipt = Receipt::parse(std::str::from_utf8(receipt).map_err(|_| Refusal::NoText)?)?;
    let verified = receipt.verify_with(keys)?;
    let mut records = Vec::new();
    for (proof, leaf) in receipt.proofs.iter().zip(&verified.leaves) {
        let record = decoded(&proof.leaf, leaf.index)?;
        if !is_role_of(leaf.role, &record) {
            return Err(Refusal::Role { index: leaf.index, kind: record.body.kind() });
        }
        let (index, leaf_hash, size) = (leaf.index, leaf.leaf_hash, leaf.checkpoint.size);
        records.push(Proved { index, role: Some(leaf.role), leaf_hash, size, record });
    }
    Ok(Verdict { form: Form::Tlog, log: verified.origin, records })
}

fn judge_cose(receipt: &[u8], keys: &KeyChain) -> Result<Verdict, Refusal> {
    let receipt = CoseReceipt::parse(receipt).map_err(Refusal::CoseForm)?;
    let tree = receipt.verify_with(keys).map_err(Refusal::Cose)?;
    let index = receipt.index;
    let record = decoded(&receipt.leaf, index)?;
    let proved = Proved { index, role: None, leaf_hash: leaf_hash(&receipt.leaf), size: tree.size, record };
    Ok(Verdict { form: Form::Cose, log: tree.origin, records: vec![proved] })
}

/// As [`judge`], with everything as text: the key as `<name>+<hash>+<base64>`, the log's list of keys as `log.keys` holds it
/// or nothing, the answer as one JSON object, whose `verified` is true only if all holds.
#[must_use]
pub fn judge_to_json(receipt: &[u8], key: &str, keys: &str) -> String {
    let refused = |error: String| json!({"verified": false, "error": error});
    let verdict = match chain(key, keys) {
        Err(error) => refused(error),
        Ok(keys) => judge(receipt, &keys).map_or_else(|error| refused(error.to_string()), |verdict| shown(&verdict)),
    };
    verdict.to_string()
}

/// The keys that follow from the trusted one. What was pasted may have lost the line's end, or have got more of them.
fn chain(key: &str, keys: &str) -> Result<KeyChain, String> {
    let key = VerifierKey::parse(key.trim()).map_err(|error| error.to_string())?;
    let keys = keys.trim();
    if keys.is_empty() {
        return Ok(KeyChain::of(key));
    }
    KeyChain::parse(key, &format!("{keys}\n")).map_err(|error| format!("the list of keys: {error}"))
}

fn shown(verdict: &Verdict) -> Value {
    let records: Vec<_> = verdict
        .records
        .iter()
        .map(|proved| {
            json!({
                "index": proved.index, "size": proved.size, "kind": proved.record.body.kind(),
                "at_ms": proved.record.at.0, "leaf_hash": proved.leaf_hash.to_hex(), "about": about(&proved.record),
            })
        })
        .collect();
    json!({"verified": true, "form": verdict.form.as_str(), "log": verdict.log, "records": records})
}

/// One line for people. The program that shows it must show it as text.
fn about(record: &Record) -> String {
    match &record.body {
        Body::Outcome(outcome) => format!("of intent {}, after {} ms", outcome.intent.0, outcome.duration_ms),
        Body::Refused(refused) => format!("{} x{}", refused.reason.code.as_str(), refused.count),
        body => body.attempt().map_or_else(String::new, attempted),
    }
}

fn attempted(attempt: &Attempt) -> String {
    let mut line = format!(
        "{}: {} of {} on {}: {}",
        attempt.principal.agent,
        attempt.tool,
        attempt.upstream,
        attempt.environment,
        attempt.verdict.as_str()
    );
    for reason in &attempt.reasons {
        let _ = write!(line, ", {}", reason.code.as_str());
    }
    line
}

fn decoded(leaf: &[u8], index: u64) -> Result<Record, Refusal> {
    Record::from_leaf(leaf).map_err(|error| Refusal::Record { index, why: error.to_string() })
}

fn is_role_of(role: Role, record: &Record) -> bool {
    match role {
        Role::Intent => matches!(record.body, Body::Intent(_)),
        Role::Outcome => matches!(record.body, Body::Outcome(_)),
        Role::Decision => {
            matches!(record.body, Body::Denial(_) | Body::Proposal(_) | Body::Waiting(_) | Body::Refused(_))
        }
    }
}
