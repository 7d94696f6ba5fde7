//! One leaf's proof in text: C2SP tlog-proof, with the signed checkpoint that it leads to.
//!
//! A proof is complete in itself: with the leaf and the log's public key it needs no server. It must not know what the
//! leaf says. `extra` is carried but authenticated by nothing, so nothing here reads it. Cosignatures travel with the checkpoint; how many are enough is the
//! reader's to say.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::checkpoint::{Checkpoint, CheckpointError, parse_decimal, shortened};
use crate::cosignature::{Cosigned, WitnessKey};
use crate::keys::KeyChain;
use crate::merkle::{Hash, MerkleError, leaf_hash, verify_inclusion};
use crate::note::{MAX_NOTE_BYTES, Note, NoteError, VerifierKey};

#[cfg(test)]
mod tests;

/// The first line of every proof.
pub const HEADER: &str = "c2sp.org/tlog-proof@v1";
/// A line of a path: the base64 of 32 bytes and its end.
const HASH_LINE_BYTES: usize = 45;
/// The most hashes in a path: sizes are below 2^63.
pub const MAX_PATH: usize = 63;
/// The largest `extra`, in bytes before base64.
pub const MAX_EXTRA_BYTES: usize = 64 * 1024;
/// The largest proof that is read, in bytes.
pub const MAX_PROOF_BYTES: usize = 256 * 1024;

/// Why a proof was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// More than [`MAX_PROOF_BYTES`].
    #[error("proof of `{found}` bytes is larger than {MAX_PROOF_BYTES}")]
    TooLarge {
        /// Its size.
        found: usize,
    },
    /// The first line is not [`HEADER`].
    #[error("proof starts with `{line}`, not with `{HEADER}`")]
    Header {
        /// The first line.
        line: String,
    },
    /// The `extra` line is not base64, or too long.
    #[error("extra line `{line}` is not base64 of at most {MAX_EXTRA_BYTES} bytes")]
    Extra {
        /// The line.
        line: String,
    },
    /// The index line is missing or not a decimal number.
    #[error("line `{line}` is not `index <number>`")]
    Index {
        /// The line.
        line: String,
    },
    /// A path line is not the base64 of a hash.
    #[error("path line `{line}` is not the base64 of 32 bytes")]
    Path {
        /// The line.
        line: String,
    },
    /// More than [`MAX_PATH`] hashes.
    #[error("proof has more than {MAX_PATH} hashes")]
    PathTooLong,
    /// The text ends before the checkpoint.
    #[error("proof ends before its checkpoint")]
    Truncated,
    /// The checkpoint is malformed or not signed by the log.
    #[error("checkpoint of the proof: {0}")]
    Checkpoint(#[from] CheckpointError),
    /// The path does not lead from the leaf to the checkpoint's root.
    #[error("inclusion: {0}")]
    Inclusion(#[from] MerkleError),
}

/// The proof that one leaf is in a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlogProof {
    /// Unauthenticated bytes that travel with the proof.
    pub extra: Option<Vec<u8>>,
    /// The leaf's index.
    pub index: u64,
    /// The hashes from the leaf's sibling upward.
    pub path: Vec<Hash>,
    /// The signed checkpoint, verbatim.
    pub checkpoint: String,
}

impl TlogProof {
    /// Reads the text form. The checkpoint is kept verbatim and judged by [`TlogProof::verify`].
    ///
    /// # Errors
    /// [`ProofError`], naming the line that is wrong.
    pub fn parse(text: &str) -> Result<Self, ProofError> {
        if text.len() > MAX_PROOF_BYTES {
            return Err(ProofError::TooLarge { found: text.len() });
        }
        let (first, mut rest) = text.split_once('\n').unwrap_or((text, ""));
        if first != HEADER {
            return Err(ProofError::Header { line: shortened(first) });
        }
        let mut next = || {
            let (line, after) = rest.split_once('\n')?;
            rest = after;
            Some(line)
        };
        let mut line = next().ok_or(ProofError::Truncated)?;
        let mut extra = None;
        if let Some(data) = line.strip_prefix("extra ") {
            let bytes = STANDARD.decode(data).ok().filter(|bytes| bytes.len() <= MAX_EXTRA_BYTES);
            extra = Some(bytes.ok_or_else(|| ProofError::Extra { line: shortened(line) })?);
            line = next().ok_or(ProofError::Truncated)?;
        }
        let index = line.strip_prefix("index ").and_then(parse_decimal);
        let index = index.ok_or_else(|| ProofError::Index { line: shortened(line) })?;
        let mut path = Vec::new();
        loop {
            let line = next().ok_or(ProofError::Truncated)?;
            if line.is_empty() {
                break;
            }
            if path.len() == MAX_PATH {
                return Err(ProofError::PathTooLong);
            }
            path.push(Hash::from_base64(line).ok_or_else(|| ProofError::Path { line: shortened(line) })?);
        }
        if rest.is_empty() {
            return Err(ProofError::Truncated);
        }
        if rest.len() > MAX_NOTE_BYTES {
            return Err(ProofError::TooLarge { found: text.len() });
        }
        Ok(Self { extra, index, path, checkpoint: rest.to_owned() })
    }

    /// Checks that `leaf` is in the log of `key`, and returns the checkpoint that says so.
    ///
    /// # Errors
    /// [`ProofError`], naming what does not hold.
    pub fn verify(&self, leaf: &[u8], key: &VerifierKey) -> Result<Checkpoint, ProofError> {
        self.verify_hash(&leaf_hash(leaf), key)
    }

    /// Checks that a witness cosigned the checkpoint of this proof. Says nothing of the proof itself.
    ///
    /// # Errors
    /// [`NoteError`] where it did not.
    pub fn cosigned_by(&self, key: &WitnessKey) -> Result<Cosigned, NoteError> {
        key.verify(&Note::parse(&self.checkpoint)?)
    }

    /// As [`TlogProof::verify`], for one who has only the leaf's hash.
    ///
    /// # Errors
    /// [`ProofError`], naming what does not hold.
    pub fn verify_hash(&self, leaf: &Hash, key: &VerifierKey) -> Result<Checkpoint, ProofError> {
        self.verify_hash_with(leaf, &KeyChain::of(key.clone()))
    }

    /// As [`TlogProof::verify_hash`], for a log whose key was changed.
    ///
    /// # Errors
    /// [`ProofError`], naming what does not hold.
    pub fn verify_hash_with(&self, leaf: &Hash, keys: &KeyChain) -> Result<Checkpoint, ProofError> {
        let checkpoint = keys.open(&self.checkpoint)?;
        verify_inclusion(leaf, self.index, checkpoint.size, &self.path, &checkpoint.root)?;
        Ok(checkpoint)
    }
}

impl fmt::Display for TlogProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{HEADER}")?;
        if let Some(extra) = &self.extra {
            writeln!(f, "extra {}", STANDARD.encode(extra))?;
        }
        writeln!(f, "index {}", self.index)?;
        // One text for all of them: a proof is made for every call.
        let mut path = String::with_capacity(self.path.len() * HASH_LINE_BYTES);
        for hash in &self.path {
            STANDARD.encode_string(hash.as_bytes(), &mut path);
            path.push('\n');
        }
        f.write_str(&path)?;
        f.write_str("\n")?;
        f.write_str(&self.checkpoint)
    }
}
