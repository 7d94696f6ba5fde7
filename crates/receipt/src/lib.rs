//! What an auditor runs: the Merkle tree, signed notes, checkpoints, proofs and receipts, all checked offline.
//!
//! The crate is pure: it computes on bytes that it is given and builds to WebAssembly. It must not know how the log is
//! stored, who wrote a leaf or what a leaf says: a leaf is opaque bytes here, but for the commitments that `disclosure`
//! opens. It does not cover making signatures (the ledger's signer and witness do), or reading files.
//!
//! Formats: RFC 6962 section 2.1 (tree), C2SP signed-note 1.0.0, tlog-checkpoint 1.0.0, tlog-cosignature 1.0.1 (Ed25519),
//! tlog-witness 1.0.0, tlog-proof, and RFC 9942 (COSE Receipts) as a second encoding of a proof.

pub mod checkpoint;
pub mod cose;
pub mod cosignature;
pub mod disclosure;
pub mod keys;
pub mod merkle;
pub mod monitor;
pub mod note;
pub mod proof;
pub mod receipt;
pub mod witness;

pub use checkpoint::{Checkpoint, CheckpointError};
pub use cose::{CoseError, CoseReceipt};
pub use cosignature::WitnessKey;
pub use disclosure::{Choice, Disclosure, VerifiedDisclosure};
pub use keys::{ChainError, KeyChain, Rotation};
pub use merkle::{Frontier, Hash, HashReader};
pub use note::{KeyError, Note, NoteError, VerifierKey};
pub use proof::{ProofError, TlogProof};
pub use receipt::{Receipt, ReceiptError, ReceiptProof, Role, Verified, VerifiedLeaf, VerifyError};

/// The largest leaf, in bytes: tlog-tiles prefixes an entry with a `u16` length.
pub const MAX_LEAF_BYTES: usize = 65_535;
