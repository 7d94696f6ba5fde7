//! Receipts: the leaves of one action with their proofs, in one JSON text that anyone can keep and check offline.
//!
//! It checks that the leaves are in the log, in the order that their roles demand. It must not know what a leaf says:
//! whether the outcome belongs to the intent is in the leaves and is the caller's to compare. It does not cover payloads.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::MAX_LEAF_BYTES;
use crate::checkpoint::{Checkpoint, shortened};
use crate::keys::KeyChain;
use crate::merkle::{Hash, leaf_hash};
use crate::note::VerifierKey;
use crate::proof::{ProofError, TlogProof};

#[cfg(test)]
mod tests;

/// The largest receipt that is read, in bytes.
pub const MAX_RECEIPT_BYTES: usize = 4 * 1024 * 1024;
/// The most proofs in a receipt.
pub const MAX_PROOFS: usize = 16;

const VERSION: u32 = 1;
/// What most receipts take, in bytes.
const USUAL_BYTES: usize = 4_096;

/// What a leaf is to the action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Written before the effect.
    Intent,
    /// Written after it.
    Outcome,
    /// Anything else that was decided of it: a denial, a proposal, a consent.
    Decision,
}

/// One leaf with its proof.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiptProof {
    /// What the leaf is to the action.
    pub role: Role,
    /// The leaf's bytes.
    pub leaf: Vec<u8>,
    /// The proof that it is in the log.
    pub proof: TlogProof,
}

/// The proof that an action's records are in one log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The log's origin.
    pub log: String,
    /// The leaves; at least one.
    pub proofs: Vec<ReceiptProof>,
}

/// Why a receipt could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReceiptError {
    /// More than [`MAX_RECEIPT_BYTES`].
    #[error("receipt of `{found}` bytes is larger than {MAX_RECEIPT_BYTES}")]
    TooLarge {
        /// Its size.
        found: usize,
    },
    /// Not JSON of the right shape; unknown and repeated keys are refused.
    #[error("receipt is not well-formed: {0}")]
    Json(#[from] serde_json::Error),
    /// A version that this program does not know.
    #[error("receipt version `{found}` is not {VERSION}")]
    Version {
        /// The version found.
        found: u32,
    },
    /// None, or more than [`MAX_PROOFS`].
    #[error("receipt has `{found}` proofs; 1 to {MAX_PROOFS} are allowed")]
    Count {
        /// How many.
        found: usize,
    },
    /// A leaf is not base64 of 1 to 65,535 bytes.
    #[error("leaf of proof `{at}` is not base64 of 1 to {MAX_LEAF_BYTES} bytes")]
    Leaf {
        /// Which proof, from 0.
        at: usize,
    },
    /// A proof is malformed.
    #[error("proof `{at}`: {source}")]
    Proof {
        /// Which proof, from 0.
        at: usize,
        /// What is wrong with it.
        source: ProofError,
    },
}

/// What exactly failed in a receipt that could be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// There is nothing to check.
    #[error("receipt has no proofs")]
    Empty,
    /// The receipt is of another log than the key's.
    #[error("receipt is of log `{found}`, the key is of `{expected}`")]
    Log {
        /// What the receipt says.
        found: String,
        /// The key's name.
        expected: String,
    },
    /// A proof does not hold.
    #[error("proof `{at}` ({role:?}): {source}")]
    Proof {
        /// Which proof, from 0.
        at: usize,
        /// Its role.
        role: Role,
        /// What does not hold.
        source: ProofError,
    },
    /// An outcome that is not after its intent.
    #[error("outcome leaf `{outcome}` is not after intent leaf `{intent}`")]
    Order {
        /// The last intent's index.
        intent: u64,
        /// The outcome's index.
        outcome: u64,
    },
    /// Two signed roots for one size: the log is forked, and the receipt proves it.
    #[error("log signed two roots for size `{size}`: `{first}` and `{second}`")]
    Forked {
        /// The size.
        size: u64,
        /// One root.
        first: Hash,
        /// The other.
        second: Hash,
    },
}

/// What a receipt proves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// The log's origin.
    pub origin: String,
    /// One for each proof, in the receipt's order.
    pub leaves: Vec<VerifiedLeaf>,
}

/// What one proof of a receipt proves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedLeaf {
    /// What the leaf is to the action.
    pub role: Role,
    /// Its index in the log.
    pub index: u64,
    /// Its hash.
    pub leaf_hash: Hash,
    /// The checkpoint that covers it.
    pub checkpoint: Checkpoint,
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(Serialize))]
#[serde(deny_unknown_fields)]
struct Wire {
    countersign_receipt: u32,
    log: String,
    proofs: Vec<WireProof>,
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(Serialize))]
#[serde(deny_unknown_fields)]
struct WireProof {
    role: Role,
    leaf: String,
    proof: String,
}

impl Receipt {
    /// Reads the JSON form.
    ///
    /// # Errors
    /// [`ReceiptError`], naming the part that is wrong.
    pub fn parse(text: &str) -> Result<Self, ReceiptError> {
        if text.len() > MAX_RECEIPT_BYTES {
            return Err(ReceiptError::TooLarge { found: text.len() });
        }
        let wire: Wire = serde_json::from_str(text)?;
        if wire.countersign_receipt != VERSION {
            return Err(ReceiptError::Version { found: wire.countersign_receipt });
        }
        if wire.proofs.is_empty() || wire.proofs.len() > MAX_PROOFS {
            return Err(ReceiptError::Count { found: wire.proofs.len() });
        }
        let proofs = wire.proofs.into_iter().enumerate().map(|(at, proof)| ReceiptProof::from_wire(at, &proof));
        Ok(Self { log: wire.log, proofs: proofs.collect::<Result<_, _>>()? })
    }

    /// The JSON form, on one line.
    ///
    /// # Errors
    /// [`ReceiptError::Json`] if the text cannot be written, which memory alone could cause.
    pub fn to_json(&self) -> Result<String, ReceiptError> {
        // By hand: one is made for every call, and nearly all of it is base64, which nothing has to escape.
        let mut json = String::with_capacity(USUAL_BYTES);
        json.push_str(r#"{"countersign_receipt":"#);
        json.push_str(&VERSION.to_string());
        json.push_str(r#","log":"#);
        quote(&self.log, &mut json)?;
        json.push_str(r#","proofs":["#);
        for (at, proof) in self.proofs.iter().enumerate() {
            json.push_str(if at == 0 { r#"{"role":"# } else { r#",{"role":"# });
            json.push_str(&serde_json::to_string(&proof.role)?);
            json.push_str(r#","leaf":""#);
            STANDARD.encode_string(&proof.leaf, &mut json);
            json.push_str(r#"","proof":"#);
            quote(&proof.proof.to_string(), &mut json)?;
            json.push('}');
        }
        json.push_str("]}");
        Ok(json)
    }

    /// Checks every proof against the log's key, that all are of one log, and that outcomes come after intents.
    ///
    /// # Errors
    /// [`VerifyError`], naming exactly what failed first.
    pub fn verify(&self, key: &VerifierKey) -> Result<Verified, VerifyError> {
        self.verify_with(&KeyChain::of(key.clone()))
    }

    /// As [`Receipt::verify`], for a log whose key was changed.
    ///
    /// # Errors
    /// [`VerifyError`], naming exactly what failed first.
    pub fn verify_with(&self, keys: &KeyChain) -> Result<Verified, VerifyError> {
        if self.proofs.is_empty() {
            return Err(VerifyError::Empty);
        }
        if self.log != keys.origin() {
            return Err(VerifyError::Log { found: shortened(&self.log), expected: keys.origin().to_owned() });
        }
        let mut leaves: Vec<VerifiedLeaf> = Vec::with_capacity(self.proofs.len());
        for (at, proof) in self.proofs.iter().enumerate() {
            let hash = leaf_hash(&proof.leaf);
            let failed = |source| VerifyError::Proof { at, role: proof.role, source };
            let checkpoint = proof.proof.verify_hash_with(&hash, keys).map_err(failed)?;
            let fork = leaves
                .iter()
                .find(|leaf| leaf.checkpoint.size == checkpoint.size && leaf.checkpoint.root != checkpoint.root);
            if let Some(other) = fork {
                let (first, second) = (other.checkpoint.root, checkpoint.root);
                return Err(VerifyError::Forked { size: checkpoint.size, first, second });
            }
            leaves.push(VerifiedLeaf { role: proof.role, index: proof.proof.index, leaf_hash: hash, checkpoint });
        }
        check_order(&leaves)?;
        Ok(Verified { origin: self.log.clone(), leaves })
    }
}

/// `text` as a JSON string. Of what has to be escaped, proofs have ends of lines alone.
fn quote(text: &str, json: &mut String) -> Result<(), ReceiptError> {
    let is_plain = |byte: u8| byte >= b' ' && byte != b'"' && byte != b'\\';
    if !text.bytes().all(|byte| is_plain(byte) || byte == b'\n') {
        json.push_str(&serde_json::to_string(text)?);
        return Ok(());
    }
    json.push('"');
    for (at, line) in text.split('\n').enumerate() {
        json.push_str(if at == 0 { "" } else { "\\n" });
        json.push_str(line);
    }
    json.push('"');
    Ok(())
}

impl ReceiptProof {
    fn from_wire(at: usize, wire: &WireProof) -> Result<Self, ReceiptError> {
        let leaf = STANDARD.decode(&wire.leaf).ok().filter(|leaf| (1..=MAX_LEAF_BYTES).contains(&leaf.len()));
        let leaf = leaf.ok_or(ReceiptError::Leaf { at })?;
        let proof = TlogProof::parse(&wire.proof).map_err(|source| ReceiptError::Proof { at, source })?;
        Ok(Self { role: wire.role, leaf, proof })
    }
}

fn check_order(leaves: &[VerifiedLeaf]) -> Result<(), VerifyError> {
    let of = |role: Role| leaves.iter().filter(move |leaf| leaf.role == role).map(|leaf| leaf.index);
    match (of(Role::Intent).max(), of(Role::Outcome).min()) {
        (Some(intent), Some(outcome)) if outcome <= intent => Err(VerifyError::Order { intent, outcome }),
        _ => Ok(()),
    }
}
