//! COSE Receipts: the same proof of one leaf in CBOR, RFC 9942 with its structure RFC9162_SHA256 (section 5.2).
//!
//! A receipt is a tagged `COSE_Sign1` (RFC 9052): algorithm, key and structure in the protected header, one inclusion
//! proof in the unprotected one, and the root as detached payload. It must not know what the leaf says. It does not cover
//! consistency proofs, several proofs in one receipt, or header parameters that are not ours: those are refused.
//!
//! Two header parameters are this project's own, under text labels, which other verifiers pass over:
//! - `countersign/tree-size`, protected. The payload of RFC 9942 is the root alone, so nothing signs the size that stands
//!   in the proof, and without the size the index of a leaf is not fixed either: a leaf and path that prove index 4 of 5
//!   also prove index 1 of 2. With the size signed, a path proves one index only.
//! - `countersign/leaf`, unprotected: the leaf itself, so that one file is enough. The proof authenticates it.

use minicbor::data::Type;
use minicbor::{Decoder, Encoder};

use crate::MAX_LEAF_BYTES;
use crate::checkpoint::{Checkpoint, shortened};
use crate::keys::KeyChain;
use crate::merkle::{Hash, MerkleError, TreeHead, leaf_hash, root_of_inclusion};
use crate::note::VerifierKey;
use crate::proof::MAX_PATH;

#[cfg(test)]
mod tests;

/// The largest COSE Receipt that is read, in bytes: a leaf, a path and headers, with room to spare.
pub const MAX_COSE_BYTES: usize = 128 * 1024;
/// The protected header parameter with the size of the tree whose root is signed.
pub const TREE_SIZE_LABEL: &str = "countersign/tree-size";
/// The unprotected header parameter with the leaf.
pub const LEAF_LABEL: &str = "countersign/leaf";

const TAG_SIGN1: u64 = 18;
const ALG: i64 = 1;
const EDDSA: i64 = -8;
const KID: i64 = 4;
const VDS: i64 = 395;
const RFC9162_SHA256: i64 = 1;
const VDP: i64 = 396;
const INCLUSION: i64 = -1;

/// Why a COSE Receipt was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CoseError {
    /// More than [`MAX_COSE_BYTES`].
    #[error("COSE receipt of `{found}` bytes is larger than {MAX_COSE_BYTES}")]
    TooLarge {
        /// Its size.
        found: usize,
    },
    /// Not CBOR of the right shape. Header parameters that are not known, critical ones too, are refused here.
    #[error("COSE receipt is not well-formed: {what}")]
    Shape {
        /// What was expected and is not there.
        what: &'static str,
    },
    /// A second spelling: a long number, keys in another order, an indefinite length, trailing bytes.
    #[error("COSE receipt is not in its one encoding")]
    NotCanonical,
    /// Signed by another key, or claimed to be.
    #[error("COSE receipt is of key `{found}`, not of `{expected}`")]
    Key {
        /// What the receipt says.
        found: String,
        /// The key that was asked about.
        expected: String,
    },
    /// The size that is signed is not the proof's.
    #[error("COSE receipt is signed for a tree of `{signed}` leaves, its proof is of `{found}`")]
    Size {
        /// The size in the protected header.
        signed: u64,
        /// The size in the proof.
        found: u64,
    },
    /// The tree is older than the key that is trusted, and keys can be followed forward only.
    #[error("COSE receipt is of a tree of `{size}` leaves, from before the trusted key")]
    BeforeTrusted {
        /// The size in the proof.
        size: u64,
    },
    /// The path does not fit index and size.
    #[error("inclusion: {0}")]
    Inclusion(#[from] MerkleError),
    /// The key did not sign the root to which leaf and path lead.
    #[error("signature of `{name}` is wrong: it is not over the root `{root}` to which leaf and path lead")]
    Signature {
        /// The key's name.
        name: String,
        /// That root.
        root: Hash,
    },
}

/// The proof of one leaf as a COSE Receipt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CoseReceipt {
    /// Which key signed: [`key_id`].
    pub kid: Vec<u8>,
    /// The size of the tree that was signed.
    pub signed_size: u64,
    /// The size of the tree that the proof is in.
    pub size: u64,
    /// The leaf's index.
    pub index: u64,
    /// The hashes from the leaf's sibling upward. None in a tree of one leaf, which the RFC's grammar (one or more) leaves
    /// out and its algorithm does not.
    pub path: Vec<Hash>,
    /// The leaf.
    pub leaf: Vec<u8>,
    /// The log's signature over [`to_be_signed`].
    pub signature: [u8; 64],
}

/// The `kid` of a log's key: its name and its hash, as in its text form, so that it names the log too.
#[must_use]
pub fn key_id(key: &VerifierKey) -> Vec<u8> {
    format!("{}+{:08x}", key.name(), u32::from_be_bytes(key.id())).into_bytes()
}

/// The bytes that the log's key signs for receipts at `head`: the `Sig_structure` of RFC 9052, section 4.4.
///
/// They can never be the text of a signed note, whose key is the same: they start with 0x84 (an array of four), which no
/// UTF-8 text starts with, and a note is UTF-8. So neither signature can be passed off as the other.
#[must_use]
pub fn to_be_signed(key: &VerifierKey, head: &TreeHead) -> Vec<u8> {
    sig_structure(&protected(&key_id(key), head.size), &head.root)
}

impl CoseReceipt {
    /// Reads the binary form. Nothing is known of signature and proof until [`CoseReceipt::verify`].
    ///
    /// # Errors
    /// [`CoseError`] for anything that [`CoseReceipt::encode`] would not have written.
    pub fn parse(bytes: &[u8]) -> Result<Self, CoseError> {
        if bytes.len() > MAX_COSE_BYTES {
            return Err(CoseError::TooLarge { found: bytes.len() });
        }
        let receipt = read(bytes).map_err(|what| CoseError::Shape { what: what.0 })?;
        if receipt.encode() != bytes {
            return Err(CoseError::NotCanonical);
        }
        Ok(receipt)
    }

    /// The one binary form: deterministic CBOR (RFC 8949, section 4.2.1).
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut proof = writer();
        let _ = proof.array(3).and_then(|e| e.u64(self.size)).and_then(|e| e.u64(self.index));
        let _ = proof.array(self.path.len() as u64);
        for hash in &self.path {
            let _ = proof.bytes(hash.as_bytes());
        }
        let mut out = writer();
        let _ = out.tag(minicbor::data::Tag::new(TAG_SIGN1)).and_then(|e| e.array(4));
        let _ = out.bytes(&protected(&self.kid, self.signed_size));
        let _ = out.map(2).and_then(|e| e.i64(VDP)).and_then(|e| e.map(1)).and_then(|e| e.i64(INCLUSION));
        let _ = out.array(1).and_then(|e| e.bytes(&proof.into_writer()));
        let _ = out.str(LEAF_LABEL).and_then(|e| e.bytes(&self.leaf));
        let _ = out.null().and_then(|e| e.bytes(&self.signature));
        out.into_writer()
    }

    /// As [`CoseReceipt::verify`], for a log whose key was changed: with the key of the receipt's size.
    ///
    /// # Errors
    /// [`CoseError`], naming what does not hold: a size before the trusted key's time, too.
    pub fn verify_with(&self, keys: &KeyChain) -> Result<Checkpoint, CoseError> {
        if !keys.trusts(self.size) {
            return Err(CoseError::BeforeTrusted { size: self.size });
        }
        self.verify(keys.key_at(self.size))
    }

    /// Checks that the leaf is in the log of `key`, and returns the tree that the key signed.
    ///
    /// # Errors
    /// [`CoseError`], naming what does not hold.
    pub fn verify(&self, key: &VerifierKey) -> Result<Checkpoint, CoseError> {
        let expected = key_id(key);
        if self.kid != expected {
            let shown = |bytes: &[u8]| shortened(&String::from_utf8_lossy(bytes));
            return Err(CoseError::Key { found: shown(&self.kid), expected: shown(&expected) });
        }
        if self.signed_size != self.size {
            return Err(CoseError::Size { signed: self.signed_size, found: self.size });
        }
        let root = root_of_inclusion(&leaf_hash(&self.leaf), self.index, self.size, &self.path)?;
        let head = TreeHead { size: self.size, root };
        if !key.accepts_bytes(&to_be_signed(key, &head), &self.signature) {
            return Err(CoseError::Signature { name: key.name().to_owned(), root });
        }
        Ok(Checkpoint { origin: key.name().to_owned(), size: head.size, root })
    }
}

/// Writing to memory cannot fail, so the results of the calls on it carry nothing.
fn writer() -> Encoder<Vec<u8>> {
    Encoder::new(Vec::new())
}

fn protected(kid: &[u8], size: u64) -> Vec<u8> {
    let mut out = writer();
    let _ = out.map(4).and_then(|e| e.i64(ALG)).and_then(|e| e.i64(EDDSA));
    let _ = out.i64(KID).and_then(|e| e.bytes(kid));
    let _ = out.i64(VDS).and_then(|e| e.i64(RFC9162_SHA256));
    let _ = out.str(TREE_SIZE_LABEL).and_then(|e| e.u64(size));
    out.into_writer()
}

fn sig_structure(protected: &[u8], root: &Hash) -> Vec<u8> {
    let mut out = writer();
    let _ = out.array(4).and_then(|e| e.str("Signature1")).and_then(|e| e.bytes(protected));
    let _ = out.bytes(&[]).and_then(|e| e.bytes(root.as_bytes()));
    out.into_writer()
}

/// What was expected and is not there.
struct Missing(&'static str);

/// Takes the parts out. That they stand in the one order and spelling is left to the comparison with what is written.
fn read(bytes: &[u8]) -> Result<CoseReceipt, Missing> {
    let mut input = Decoder::new(bytes);
    let tag = input.tag().map_err(|_| Missing("no tag 18 (COSE_Sign1)"))?;
    if tag.as_u64() != TAG_SIGN1 || !matches!(input.array(), Ok(Some(4))) {
        return Err(Missing("not a COSE_Sign1 of four parts"));
    }
    let header = input.bytes().map_err(|_| Missing("the protected header is no byte string"))?;
    let (kid, signed_size) = read_protected(header)?;
    let unprotected = Missing("the unprotected header is not one inclusion proof and the leaf");
    let Some((proof, leaf)) = read_unprotected(&mut input) else { return Err(unprotected) };
    if !matches!(input.datatype(), Ok(Type::Null)) || input.null().is_err() {
        return Err(Missing("the payload is not detached"));
    }
    let signature = input.bytes().ok().and_then(|bytes| bytes.try_into().ok());
    let signature = signature.ok_or(Missing("the signature is not 64 bytes"))?;
    if !(1..=MAX_LEAF_BYTES).contains(&leaf.len()) {
        return Err(Missing("the leaf is not 1 to 65535 bytes"));
    }
    let (size, index, path) =
        read_proof(proof).ok_or(Missing("the inclusion proof is not size, index and at most 63 hashes"))?;
    Ok(CoseReceipt { kid, signed_size, size, index, path, leaf: leaf.to_vec(), signature })
}

fn read_protected(bytes: &[u8]) -> Result<(Vec<u8>, u64), Missing> {
    let mut input = Decoder::new(bytes);
    let only = Missing("the protected header is not algorithm, key, structure and tree size, and nothing else");
    if !matches!(input.map(), Ok(Some(4))) {
        return Err(only);
    }
    if labelled(&mut input, ALG).and_then(|input| input.i64().ok()) != Some(EDDSA) {
        return Err(Missing("the algorithm is not EdDSA (-8)"));
    }
    let kid = labelled(&mut input, KID).and_then(|input| input.bytes().ok().map(<[u8]>::to_vec));
    if labelled(&mut input, VDS).and_then(|input| input.i64().ok()) != Some(RFC9162_SHA256) {
        return Err(Missing("the verifiable data structure is not RFC9162_SHA256 (1)"));
    }
    let size = (input.str().ok() == Some(TREE_SIZE_LABEL)).then(|| input.u64().ok()).flatten();
    let (Some(kid), Some(size)) = (kid, size) else { return Err(only) };
    Ok((kid, size))
}

/// The decoder, standing before the value of `label`, if that is the label that comes next.
fn labelled<'d, 'b>(input: &'d mut Decoder<'b>, label: i64) -> Option<&'d mut Decoder<'b>> {
    (input.i64().ok()? == label).then_some(input)
}

fn read_unprotected<'b>(input: &mut Decoder<'b>) -> Option<(&'b [u8], &'b [u8])> {
    let is_proofs = input.map().ok()? == Some(2) && input.i64().ok()? == VDP;
    let is_inclusion = input.map().ok()? == Some(1) && input.i64().ok()? == INCLUSION;
    let is_one = input.array().ok()? == Some(1);
    let proof = input.bytes().ok()?;
    let is_leaf = input.str().ok()? == LEAF_LABEL;
    let leaf = input.bytes().ok()?;
    (is_proofs && is_inclusion && is_one && is_leaf).then_some((proof, leaf))
}

fn read_proof(bytes: &[u8]) -> Option<(u64, u64, Vec<Hash>)> {
    let mut input = Decoder::new(bytes);
    if input.array().ok()? != Some(3) {
        return None;
    }
    let (size, index) = (input.u64().ok()?, input.u64().ok()?);
    let count = input.array().ok()?.filter(|count| *count <= MAX_PATH as u64)?;
    let path = (0..count).map(|_| Hash::from_slice(input.bytes().ok()?)).collect::<Option<Vec<_>>>()?;
    Some((size, index, path))
}
