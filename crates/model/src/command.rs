//! Commands that need a human's signature, and the exact bytes that are signed.
//!
//! A kill needs none, for stopping must be easy; it is not here. A command carries a challenge
//! that the gateway gave out once, so a signature cannot be replayed. This module does not
//! verify signatures: `kernel` does.

use minicbor::{Decode, Encode};

use crate::encoding::{EncodeError, to_canonical};
use crate::id::{AgentId, Digest, Environment, HoldName, HumanId, LeaseName, RunId, SessionId};
use crate::record::{KillScope, VaultScope};
use crate::unit::{LeafIndex, TimeMs};

/// What a human commands.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(flat)]
pub enum Deed {
    /// Lift a kill.
    #[n(0)]
    Resume {
        /// Exactly the scope that was killed.
        #[n(0)]
        scope: KillScope,
    },
    /// Let nothing but reads run in an environment until a time.
    #[n(1)]
    Freeze {
        /// Where.
        #[n(0)]
        environment: Environment,
        /// Until when.
        #[n(1)]
        until: TimeMs,
    },
    /// End a freeze early.
    #[n(2)]
    Thaw {
        /// Where.
        #[n(0)]
        environment: Environment,
    },
    /// Enrol a human, who can then sign.
    #[n(3)]
    Enrol {
        /// Who.
        #[n(0)]
        human: HumanId,
        /// The Ed25519 public key.
        #[cbor(n(1), with = "minicbor::bytes")]
        key: [u8; 32],
    },
    /// Issue a token to an agent.
    #[n(4)]
    IssueToken {
        /// For whom.
        #[n(0)]
        agent: AgentId,
        /// The run it is for, if it is for one.
        #[n(1)]
        run: Option<RunId>,
        /// How long it is good for, in milliseconds.
        #[n(2)]
        ttl_ms: u64,
    },
    /// Revoke a token.
    #[n(5)]
    RevokeToken {
        /// Its session id.
        #[n(0)]
        session: SessionId,
    },
    /// Lend a session an elevated right until a time.
    #[n(6)]
    Lease {
        /// Which session.
        #[n(0)]
        session: SessionId,
        /// Which right.
        #[n(1)]
        name: LeaseName,
        /// Until when.
        #[n(2)]
        until: TimeMs,
    },
    /// Accept this configuration and policy as what is in force.
    #[n(7)]
    Activate {
        /// Hash of the configuration file.
        #[n(0)]
        configuration: Digest,
        /// Hash of the policy bundle.
        #[n(1)]
        policy: Digest,
        /// Counts up with every activation, so that an old one cannot come back.
        #[n(2)]
        serial: u64,
        /// What a human was shown of how this policy is wider than the one in force, and consented to: the digest of both
        /// policies' hashes and of every line. Absent where it was proven not to be wider, where nothing was in force, and
        /// in acceptances of versions that did not compare.
        #[n(3)]
        widening: Option<Digest>,
    },
    /// The clock is right: leases that a jump suspended hold again.
    #[n(8)]
    ConfirmClock,
    /// Destroy the keys of payloads.
    #[n(9)]
    Erase {
        /// Whose.
        #[n(0)]
        scope: VaultScope,
    },
    /// Keep payloads and records, whatever retention says, until it is released.
    #[n(10)]
    Hold {
        /// The hold's name.
        #[n(0)]
        name: HoldName,
        /// Whose; everything if absent.
        #[n(1)]
        scope: Option<VaultScope>,
    },
    /// End a hold.
    #[n(11)]
    Release {
        /// The hold's name.
        #[n(0)]
        name: HoldName,
    },
    /// Stop keeping records below an index.
    #[n(12)]
    Prune {
        /// The first record to keep.
        #[n(0)]
        minimum: LeafIndex,
    },
    /// Change the log's key.
    #[n(13)]
    RotateKey {
        /// The new verifier key, in the C2SP form.
        #[n(0)]
        key: String,
    },
    /// Revoke one narrowing of a token, and all that was narrowed from it. The token it was made from lives.
    #[n(14)]
    RevokeBlock {
        /// The block's id: the hash of its Biscuit revocation id.
        #[n(0)]
        block: Digest,
    },
}

/// A command as it is signed.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Command {
    /// The log that it is for: its origin.
    #[n(0)]
    pub log: String,
    /// The challenge that the gateway gave out; zero for activations, which carry a serial.
    #[n(1)]
    pub challenge: Digest,
    /// Who signs.
    #[n(2)]
    pub human: HumanId,
    /// What.
    #[n(3)]
    pub deed: Deed,
}

/// A command with its signature.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Signed {
    /// The command.
    #[n(0)]
    pub command: Command,
    /// Ed25519 over [`Command::message`].
    #[cbor(n(1), with = "minicbor::bytes")]
    pub signature: Vec<u8>,
}

impl Command {
    /// The bytes to sign.
    ///
    /// # Errors
    /// Only if the encoder fails, which is a bug.
    pub fn message(&self) -> Result<Vec<u8>, EncodeError> {
        let mut message = b"countersign command v1\n".to_vec();
        message.extend(to_canonical(self)?);
        Ok(message)
    }
}

/// The bytes that a human signs to consent to, or refuse, the proposal whose RFC 6962 leaf hash is `proposal`.
#[must_use]
pub fn consent_message(log: &str, proposal: &Digest, human: &HumanId, approved: bool) -> Vec<u8> {
    let word = if approved { "approve" } else { "deny" };
    format!("countersign consent v1\n{log}\n{}\n{human}\n{word}\n", proposal.hex()).into_bytes()
}
