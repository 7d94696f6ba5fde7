//! Disclosures: some fields of one decided call, proved to be those that its leaf commits to, and no other field.
//!
//! One line of JSON, complete in itself: the leaf with its tlog-proof, the commitments of all fields, and salt, name and
//! value of those that are shown. Of the others it tells how many there are, not their names, values or lengths.
//! The layout of commitments is in [`countersign_model::fields`]. It reads of a leaf only what it commits to, and
//! hands the record to who asked. It does not cover results (they are not kept) and payloads that were erased.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign_model::fields::{COMMITMENTS_MAX, Field, FieldKind, commitments, fields, root};
use countersign_model::payload::{ActionPayload, Salt};
use countersign_model::{Digest, Record};
use serde::{Deserialize, Serialize};

use crate::MAX_LEAF_BYTES;
use crate::checkpoint::{Checkpoint, shortened};
use crate::keys::KeyChain;
use crate::merkle::leaf_hash;
use crate::note::VerifierKey;
use crate::proof::{ProofError, TlogProof};

#[cfg(test)]
mod tests;

/// The largest disclosure that is read, in bytes: a payload as large as a ledger keeps, escaped.
pub const MAX_DISCLOSURE_BYTES: usize = 32 * 1024 * 1024;

const VERSION: u32 = 1;
const KEY: &str = "countersign_disclosure";

/// One field with all that is needed to check it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShownField {
    /// What it is of the arguments.
    pub kind: FieldKind,
    /// Its key; empty where it is no member.
    pub name: String,
    /// Its canonical JSON text.
    pub value: String,
    /// Its own salt.
    pub salt: Salt,
}

/// Fields of one call with their proof.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disclosure {
    /// The log's origin.
    pub log: String,
    /// The leaf of the call's intent or decision.
    pub leaf: Vec<u8>,
    /// The proof that it is in the log.
    pub proof: TlogProof,
    /// The commitments of all fields, ascending.
    pub commitments: Vec<Digest>,
    /// The fields that are shown.
    pub fields: Vec<ShownField>,
}

/// Which fields are to be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice<'a> {
    /// The members of the arguments with these keys.
    Members(&'a [String]),
    /// Every field.
    All,
}

/// Why a disclosure cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DiscloseError {
    /// The leaf is no record of a decided call.
    #[error("this record is not the decision of a call, so it has no arguments")]
    NotACall,
    /// The payload is not the one that the leaf commits to.
    #[error("what lies beside this record is not what it commits to")]
    NotItsPayload,
    /// No member of the arguments has this key.
    #[error("the arguments have no field `{0}`; `log show` prints them")]
    NoField(String),
    /// The arguments are one field: no object, or one with too many members.
    #[error("the arguments are one field (not an object with 1 to 256 members); show them with --all")]
    OneField,
    /// Arguments that are no text, which a gateway never records.
    #[error("the field `{0}` is not UTF-8")]
    NotText(String),
}

/// Why a disclosure could not be read.
#[derive(Debug, thiserror::Error)]
pub enum DisclosureError {
    /// More than [`MAX_DISCLOSURE_BYTES`].
    #[error("disclosure of `{found}` bytes is larger than {MAX_DISCLOSURE_BYTES}")]
    TooLarge {
        /// Its size.
        found: usize,
    },
    /// Not JSON of the right shape; unknown and repeated keys are refused.
    #[error("disclosure is not well-formed: {0}")]
    Json(#[from] serde_json::Error),
    /// A version that this program does not know.
    #[error("disclosure version `{found}` is not {VERSION}")]
    Version {
        /// The version found.
        found: u32,
    },
    /// The leaf is not base64 of 1 to 65,535 bytes.
    #[error("leaf is not base64 of 1 to {MAX_LEAF_BYTES} bytes")]
    Leaf,
    /// The proof is malformed.
    #[error("proof: {0}")]
    Proof(#[from] ProofError),
    /// None, or more than there can be.
    #[error("disclosure has `{found}` commitments; 1 to {COMMITMENTS_MAX} are allowed")]
    Count {
        /// How many.
        found: usize,
    },
    /// A commitment or a salt that is not the base64 of 32 bytes.
    #[error("`{text}` is not the base64 of 32 bytes")]
    Hash {
        /// What it is.
        text: String,
    },
    /// A kind of field that this program does not know.
    #[error("field `{name}`: `{kind}` is not one of member, whole and meta")]
    Kind {
        /// The field.
        name: String,
        /// What it says to be.
        kind: String,
    },
}

/// What exactly failed in a disclosure that could be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DisclosureVerifyError {
    /// It is of another log than the key's.
    #[error("disclosure is of log `{found}`, the key is of `{expected}`")]
    Log {
        /// What it says.
        found: String,
        /// The key's name.
        expected: String,
    },
    /// The proof does not hold.
    #[error("proof: {0}")]
    Proof(#[from] ProofError),
    /// The leaf is no record, or not the record of a decided call.
    #[error("leaf is not the record of a decided call")]
    NotACall,
    /// Commitments out of order or twice.
    #[error("commitments are not in ascending order")]
    Order,
    /// The commitments are not those of the leaf.
    #[error("the leaf commits to other fields: `{expected}`, not `{found}`")]
    Root {
        /// What the leaf says.
        expected: Digest,
        /// What the commitments come to.
        found: Digest,
    },
    /// A field that is not committed to: its salt, kind, name or value was changed.
    #[error("field `{name}` is not what the leaf commits to")]
    Field {
        /// Its name.
        name: String,
    },
    /// One field twice.
    #[error("field `{name}` is shown twice")]
    Twice {
        /// Its name.
        name: String,
    },
    /// Nothing is shown.
    #[error("disclosure shows no field")]
    Empty,
}

/// What a disclosure proves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedDisclosure {
    /// The log's origin.
    pub origin: String,
    /// The index of the leaf.
    pub index: u64,
    /// The checkpoint that covers it.
    pub checkpoint: Checkpoint,
    /// The record.
    pub record: Record,
    /// How many fields there are that are not shown.
    pub hidden: usize,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    countersign_disclosure: u32,
    log: String,
    leaf: String,
    proof: String,
    commitments: Vec<String>,
    fields: Vec<WireField>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireField {
    kind: String,
    name: String,
    value: String,
    salt: String,
}

impl Disclosure {
    /// Whether a text says of itself that it is a disclosure, so that it is not taken for a receipt.
    #[must_use]
    pub fn is_one(text: &str) -> bool {
        text.trim_start().strip_prefix('{').is_some_and(|rest| rest.trim_start().starts_with(&format!("\"{KEY}\"")))
    }

    /// Shows fields of the call whose leaf and proof these are.
    ///
    /// # Errors
    /// [`DiscloseError`], with the field that it is about.
    pub fn make(
        (log, leaf, proof): (&str, &[u8], TlogProof),
        payload: &ActionPayload,
        choice: Choice<'_>,
    ) -> Result<Self, DiscloseError> {
        let record = Record::from_leaf(leaf).map_err(|_| DiscloseError::NotACall)?;
        let attempt = record.body.attempt().ok_or(DiscloseError::NotACall)?;
        if !payload.opens_arguments(attempt) {
            return Err(DiscloseError::NotItsPayload);
        }
        let all = fields(&payload.arguments, &payload.meta);
        let shown = match choice {
            Choice::All => all.iter().collect(),
            Choice::Members(names) => chosen(&all, names)?,
        };
        Ok(Self {
            log: log.to_owned(),
            leaf: leaf.to_vec(),
            proof,
            commitments: commitments(&payload.arguments_salt, &all),
            fields: shown.into_iter().map(|field| shown_field(field, payload)).collect::<Result<_, _>>()?,
        })
    }

    /// Reads the JSON form.
    ///
    /// # Errors
    /// [`DisclosureError`], naming the part that is wrong.
    pub fn parse(text: &str) -> Result<Self, DisclosureError> {
        if text.len() > MAX_DISCLOSURE_BYTES {
            return Err(DisclosureError::TooLarge { found: text.len() });
        }
        let wire: Wire = serde_json::from_str(text)?;
        if wire.countersign_disclosure != VERSION {
            return Err(DisclosureError::Version { found: wire.countersign_disclosure });
        }
        let found = wire.commitments.len();
        if found == 0 || found > COMMITMENTS_MAX || wire.fields.len() > found {
            return Err(DisclosureError::Count { found });
        }
        let leaf = STANDARD.decode(&wire.leaf).ok().filter(|leaf| (1..=MAX_LEAF_BYTES).contains(&leaf.len()));
        Ok(Self {
            log: wire.log,
            leaf: leaf.ok_or(DisclosureError::Leaf)?,
            proof: TlogProof::parse(&wire.proof)?,
            commitments: wire.commitments.iter().map(|text| hash(text).map(Digest)).collect::<Result<_, _>>()?,
            fields: wire.fields.into_iter().map(ShownField::from_wire).collect::<Result<_, _>>()?,
        })
    }

    /// The JSON form, on one line.
    ///
    /// # Errors
    /// [`DisclosureError::Json`] if the text cannot be written, which memory alone could cause.
    pub fn to_json(&self) -> Result<String, DisclosureError> {
        let fields = self.fields.iter().map(|field| WireField {
            kind: field.kind.as_str().to_owned(),
            name: field.name.clone(),
            value: field.value.clone(),
            salt: STANDARD.encode(field.salt.0),
        });
        let wire = Wire {
            countersign_disclosure: VERSION,
            log: self.log.clone(),
            leaf: STANDARD.encode(&self.leaf),
            proof: self.proof.to_string(),
            commitments: self.commitments.iter().map(|commitment| STANDARD.encode(commitment.0)).collect(),
            fields: fields.collect(),
        };
        Ok(serde_json::to_string(&wire)?)
    }

    /// Checks everything: the proof against the log's key, the commitments against the leaf, every field against the
    /// commitments.
    ///
    /// # Errors
    /// [`DisclosureVerifyError`], naming exactly what failed first.
    pub fn verify(&self, key: &VerifierKey) -> Result<VerifiedDisclosure, DisclosureVerifyError> {
        self.verify_with(&KeyChain::of(key.clone()))
    }

    /// As [`Disclosure::verify`], for a log whose key was changed.
    ///
    /// # Errors
    /// [`DisclosureVerifyError`], naming exactly what failed first.
    pub fn verify_with(&self, keys: &KeyChain) -> Result<VerifiedDisclosure, DisclosureVerifyError> {
        if self.log != keys.origin() {
            let found = shortened(&self.log);
            return Err(DisclosureVerifyError::Log { found, expected: keys.origin().to_owned() });
        }
        let checkpoint = self.proof.verify_hash_with(&leaf_hash(&self.leaf), keys)?;
        let record = Record::from_leaf(&self.leaf).map_err(|_| DisclosureVerifyError::NotACall)?;
        let attempt = record.body.attempt().ok_or(DisclosureVerifyError::NotACall)?;
        if !self.commitments.is_sorted_by(|a, b| a < b) {
            return Err(DisclosureVerifyError::Order);
        }
        let (found, expected) = (root(&self.commitments), attempt.arguments.hash);
        if found != expected {
            return Err(DisclosureVerifyError::Root { expected, found });
        }
        let mut shown = BTreeSet::new();
        for field in &self.fields {
            let name = || shortened(&field.name);
            let commitment = field.as_field().commitment(&field.salt);
            if self.commitments.binary_search(&commitment).is_err() {
                return Err(DisclosureVerifyError::Field { name: name() });
            }
            if !shown.insert(commitment) {
                return Err(DisclosureVerifyError::Twice { name: name() });
            }
        }
        if shown.is_empty() {
            return Err(DisclosureVerifyError::Empty);
        }
        let hidden = self.commitments.len().saturating_sub(shown.len());
        Ok(VerifiedDisclosure { origin: self.log.clone(), index: self.proof.index, checkpoint, record, hidden })
    }
}

impl ShownField {
    fn as_field(&self) -> Field<'_> {
        Field { kind: self.kind, name: self.name.clone(), value: self.value.as_bytes() }
    }

    fn from_wire(wire: WireField) -> Result<Self, DisclosureError> {
        let WireField { kind, name, value, salt } = wire;
        let unknown = |_| DisclosureError::Kind { name: shortened(&name), kind: shortened(&kind) };
        let kind = kind.parse().map_err(unknown)?;
        Ok(Self { kind, salt: Salt(hash(&salt)?), name, value })
    }
}

fn hash(text: &str) -> Result<[u8; 32], DisclosureError> {
    let bytes = STANDARD.decode(text).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    bytes.ok_or_else(|| DisclosureError::Hash { text: shortened(text) })
}

fn chosen<'a, 'f>(all: &'a [Field<'f>], names: &[String]) -> Result<Vec<&'a Field<'f>>, DiscloseError> {
    if all.iter().any(|field| field.kind == FieldKind::Whole) {
        return Err(DiscloseError::OneField);
    }
    let asked: BTreeSet<&String> = names.iter().collect();
    let member = |name: &&String| {
        let found = all.iter().find(|field| field.kind == FieldKind::Member && field.name == **name);
        found.ok_or_else(|| DiscloseError::NoField(shortened(name)))
    };
    asked.iter().map(member).collect()
}

fn shown_field(field: &Field<'_>, payload: &ActionPayload) -> Result<ShownField, DiscloseError> {
    let value = std::str::from_utf8(field.value).map_err(|_| DiscloseError::NotText(shortened(&field.name)))?;
    let salt = field.salt(&payload.arguments_salt);
    Ok(ShownField { kind: field.kind, name: field.name.clone(), value: value.to_owned(), salt })
}
