//! Payloads: what a leaf only commits to, and the salted commitments themselves.
//!
//! A leaf lives for ever, a payload can be erased: so a leaf holds salted hashes and the payload, kept
//! beside the tree, holds what was hashed and the salts. Without its salt a commitment to a guessable
//! value says nothing. Arguments are committed to field by field: [`crate::fields`] has the layout.
//! Encryption of payloads at rest is the ledger's affair.

use minicbor::{Decode, Encode};

use crate::action::{Action, Continues, Redacted, input_digest};
use crate::encoding::{DecodeError, EncodeError, from_canonical, to_canonical};
use crate::id::Digest;
use crate::record::Attempt;
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
    /// `SHA-256(salt ‖ bytes)`; of arguments, the root of [`crate::fields`].
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
    /// Salt of the arguments' commitment; every field's own is derived from it.
    #[n(2)]
    pub arguments_salt: Salt,
    /// The canonical arguments, with a marker in place of every secret that was found.
    #[cbor(n(3), with = "minicbor::bytes")]
    pub arguments: Vec<u8>,
    /// The canonical allow-listed `_meta`, likewise.
    #[cbor(n(4), with = "minicbor::bytes")]
    pub meta: Vec<u8>,
    /// What the client answers to the question of an earlier call; absent where the call begins one.
    #[n(5)]
    pub input: Option<InputPayload>,
}

/// What a leaf commits to of a client's answers. They are one text here: fields of them are not disclosed one by one.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct InputPayload {
    /// Salt of the commitment.
    #[n(0)]
    pub salt: Salt,
    /// The digest of the true answers: what makes two of them the same.
    #[n(1)]
    pub digest: Digest,
    /// The canonical answers, with a marker in place of every secret that was found.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub json: Vec<u8>,
}

impl InputPayload {
    /// The payload of these answers. Its salt follows from the one of the arguments, as those of fields do.
    #[must_use]
    pub fn of(continues: &Continues, arguments_salt: &Salt) -> Self {
        let salt = Salt(Digest::of("countersign input salt v1", &[&arguments_salt.0]).0);
        Self { salt, digest: continues.digest, json: continues.input.clone() }
    }

    /// What the leaf commits to.
    #[must_use]
    pub fn commitment(&self) -> Commitment {
        Commitment::to(&self.salt, &[self.digest.0.as_slice(), &self.json].concat())
    }
}

/// What an outcome's leaf commits to. The result itself is kept only where configuration asks for it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct OutcomePayload {
    /// Salt of the result's commitment.
    #[n(0)]
    pub result_salt: Salt,
    /// The handle with which the effect can be undone, where there is one.
    #[n(1)]
    pub undo: Option<UndoPayload>,
}

/// What an outcome's commitment to an undo handle opens to.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct UndoPayload {
    /// Salt of the commitment.
    #[n(0)]
    pub salt: Salt,
    /// The handle.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub handle: Vec<u8>,
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

    /// Whether this is the payload that `attempt` commits to, in every part.
    #[must_use]
    pub fn opens(&self, attempt: &Attempt) -> bool {
        self.opens_arguments(attempt) && self.opens_digest(attempt) && self.opens_input(attempt)
    }

    /// Whether the client's answers are those that `attempt` commits to, or there are none on either side. Where secrets
    /// were redacted in them, their digest cannot be computed from what is left.
    #[must_use]
    pub fn opens_input(&self, attempt: &Attempt) -> bool {
        match (&attempt.continues, &self.input) {
            (None, None) => true,
            (Some(continued), Some(input)) => {
                let is_redacted = continued.redactions > 0;
                continued.input == input.commitment() && (is_redacted || input.digest == input_digest(&input.json))
            }
            _ => false,
        }
    }

    /// Whether arguments and `_meta` are those that `attempt` commits to.
    #[must_use]
    pub fn opens_arguments(&self, attempt: &Attempt) -> bool {
        attempt.arguments == Commitment::to_fields(&self.arguments_salt, &self.arguments, &self.meta)
    }

    /// Whether the digest is the one that `attempt` commits to, and that of the action. Where secrets were
    /// redacted it cannot be computed from what is left; then the commitment is all there is to check.
    #[must_use]
    pub fn opens_digest(&self, attempt: &Attempt) -> bool {
        attempt.digest.opens(&self.digest_salt, &self.digest.0) && self.action(attempt).digest() == self.digest
    }

    /// The action that `attempt` and this payload speak of, as it is on record.
    #[must_use]
    pub fn action(&self, attempt: &Attempt) -> Action {
        let redactions = &attempt.redactions;
        Action {
            principal: attempt.principal.clone(),
            point: attempt.point,
            upstream: attempt.upstream.clone(),
            tool: attempt.tool.clone(),
            manifest: attempt.manifest,
            target: attempt.target.clone(),
            environment: attempt.environment.clone(),
            arguments: self.arguments.clone(),
            meta: self.meta.clone(),
            facts: attempt.facts.clone(),
            claimed: attempt.claimed.clone(),
            redacted: (redactions.total > 0).then(|| Redacted { digest: self.digest, places: redactions.clone() }),
            continues: attempt.continues.as_ref().zip(self.input.as_ref()).map(|(continued, input)| Continues {
                intent: continued.intent,
                input: input.json.clone(),
                digest: input.digest,
                redactions: continued.redactions,
            }),
            flagged: attempt.inputs.standing.flagged.clone(),
        }
    }
}
