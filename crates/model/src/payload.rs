//! Payloads: what a leaf only commits to, and the salted commitments themselves.
//!
//! A leaf lives for ever, a payload can be erased: so a leaf holds `SHA-256(salt ‖ field)` and the
//! payload, kept beside the tree, holds salt and field. Without its salt a commitment to a
//! guessable value says nothing. Encryption of payloads at rest is the ledger's affair.

use minicbor::{Decode, Encode};

use crate::encoding::{DecodeError, EncodeError, from_canonical, to_canonical};
use crate::id::Digest;
use crate::unit::Bytes;

/// A salt: 32 random bytes, handed in by whoever owns a source of randomness.
#[derive(Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(transparent)]
pub struct Salt(#[cbor(n(0), with = "minicbor::bytes")] pub [u8; 32]);

impl std::fmt::Debug for Salt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Salt(..)")
    }
}

/// A salted commitment to bytes that lie in the payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Commitment {
    /// `SHA-256(salt ‖ bytes)`.
    #[n(0)]
    pub hash: Digest,
    /// How many bytes are committed to.
    #[n(1)]
    pub bytes: Bytes,
}

impl Commitment {
    /// Commits to `bytes` under `salt`.
    #[must_use]
    pub fn to(salt: &Salt, bytes: &[u8]) -> Self {
        use sha2::{Digest as _, Sha256};
        let hash = Sha256::new().chain_update(salt.0).chain_update(bytes).finalize();
        Self { hash: Digest(hash.into()), bytes: Bytes(bytes.len() as u64) }
    }

    /// Whether `bytes` under `salt` are what was committed to.
    #[must_use]
    pub fn opens(&self, salt: &Salt, bytes: &[u8]) -> bool {
        *self == Self::to(salt, bytes)
    }
}

/// What a decision's leaf commits to.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct ActionPayload {
    /// Salt of the digest's commitment.
    #[n(0)]
    pub digest_salt: Salt,
    /// The action's digest.
    #[n(1)]
    pub digest: Digest,
    /// Salt of the arguments' commitment.
    #[n(2)]
    pub arguments_salt: Salt,
    /// The canonical arguments.
    #[cbor(n(3), with = "minicbor::bytes")]
    pub arguments: Vec<u8>,
    /// The canonical allow-listed `_meta`.
    #[cbor(n(4), with = "minicbor::bytes")]
    pub meta: Vec<u8>,
}

/// What an outcome's leaf commits to. The result itself is kept only where configuration asks for it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct OutcomePayload {
    /// Salt of the result's commitment.
    #[n(0)]
    pub result_salt: Salt,
}

impl ActionPayload {
    /// The payload's one encoding.
    ///
    /// # Errors
    /// Only if the encoder fails, which is a bug.
    pub fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        to_canonical(self)
    }

    /// Reads a payload.
    ///
    /// # Errors
    /// Refuses anything but the one encoding.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        from_canonical(bytes)
    }
}
