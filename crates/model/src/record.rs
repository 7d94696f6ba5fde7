//! Records: what the ledger's leaves say, in the order in which the kernel decided.
//!
//! A record is bounded by construction: ids and names are short, lists have caps, arguments and
//! digests lie in the payload and the leaf only commits to them. Every record of a decision
//! carries every input that the decision read, so it can be decided again from the record alone.

use minicbor::{Decode, Encode};

use crate::action::{Point, Principal};
use crate::encoding::{Bounded, DecodeError, EncodeError, from_canonical, to_leaf};
use crate::facts::Facts;
use crate::id::{AgentId, Digest, Environment, HumanId, RunId, SessionId, TargetId, TicketId, ToolName, UpstreamId};
use crate::payload::Commitment;
use crate::reason::Reason;
use crate::unit::{Bytes, LeafIndex, Rows, Seq, TimeMs};
use crate::verdict::Verdict;

mod inputs;

pub use inputs::{
    Accepted, AcceptedBy, BUDGETS_MAX, BudgetReading, ContinuationReading, Evaluation, GrantReading, History, Inputs,
    Recent, Standing, WaitReading, Within,
};

/// The version of the record format that this build writes.
pub const RECORD_VERSION: u32 = 1;

/// One leaf.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Record {
    /// [`RECORD_VERSION`].
    #[n(0)]
    pub version: u32,
    /// The kernel's sequence number of the event that made this record.
    #[n(1)]
    pub seq: Seq,
    /// The kernel's time of that event; never goes back.
    #[n(2)]
    pub at: TimeMs,
    /// What happened.
    #[n(3)]
    pub body: Body,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(flat)]
pub enum Body {
    /// The gateway started.
    #[n(0)]
    Started(#[n(0)] Box<Started>),
    /// The gateway stopped in an orderly way.
    #[n(1)]
    Stopped,
    /// An action was allowed: it may run from here on. Consumes its grant.
    #[n(2)]
    Intent(#[n(0)] Box<Attempt>),
    /// What became of an intent.
    #[n(3)]
    Outcome(#[n(0)] Outcome),
    /// An action was denied.
    #[n(4)]
    Denial(#[n(0)] Box<Attempt>),
    /// An action was parked: consent signs this leaf.
    #[n(5)]
    Proposal(#[n(0)] Box<Proposal>),
    /// The same action came again while it waits.
    #[n(6)]
    Waiting(#[n(0)] Box<Attempt>),
    /// A human consented to, or refused, a proposal.
    #[n(7)]
    Consent(#[n(0)] Consent),
    /// A proposal or a grant ran out of time.
    #[n(8)]
    Expired(#[n(0)] Expired),
    /// The kill switch was thrown.
    #[n(9)]
    Killed(#[n(0)] Killed),
    /// A human's signed command took effect.
    #[n(10)]
    Commanded(#[n(0)] Commanded),
    /// A request was refused before there was an action: no identity, no readable frame.
    #[n(11)]
    Refused(#[n(0)] Refused),
    /// Recovery cut an unconfirmed tail.
    #[n(12)]
    Gap(#[n(0)] Gap),
    /// The wall clock jumped forward; leases are suspended.
    #[n(13)]
    ClockJump(#[n(0)] ClockJump),
    /// Payloads were erased: their keys are destroyed.
    #[n(14)]
    Erased(#[n(0)] Erased),
    /// Records below an index are no longer kept here.
    #[n(15)]
    Pruned(#[n(0)] Pruned),
    /// The kernel's state after a number of records, for a start-up that need not read them all.
    #[n(16)]
    Snapshot(#[n(0)] Snapshot),
    /// The log's key was changed; from the next commit on the new one signs.
    #[n(17)]
    KeyRotated(#[n(0)] KeyRotated),
}

/// The gateway started.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Started {
    /// The version of Countersign, which is also the kernel's version.
    #[n(0)]
    pub version: String,
    /// Hash of the configuration in force.
    #[n(1)]
    pub configuration: Digest,
    /// Hash of the policy bundle in force.
    #[n(2)]
    pub policy: Digest,
    /// The kill epoch read from its own file.
    #[n(3)]
    pub kill_epoch: u64,
    /// `separated` or `same_user`: which promise holds (invariant 8).
    #[n(4)]
    pub profile: String,
    /// Budgets in force, one text a budget.
    #[n(5)]
    pub budgets: Bounded,
}

/// One decided call: who, what, on which inputs, with which verdict.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Attempt {
    /// The kernel's sequence number at which budgets were reserved; the id of this call.
    #[n(0)]
    pub reserved_at: Seq,
    /// When the call was proposed, on the kernel's clock.
    #[n(1)]
    pub proposed_at: TimeMs,
    /// Who proposed.
    #[n(2)]
    pub principal: Principal,
    /// Through which door.
    #[n(3)]
    pub point: Point,
    /// Towards which upstream.
    #[n(4)]
    pub upstream: UpstreamId,
    /// Which tool.
    #[n(5)]
    pub tool: ToolName,
    /// Hash of the tool's definition.
    #[n(6)]
    pub manifest: Digest,
    /// What it changes.
    #[n(7)]
    pub target: TargetId,
    /// Where.
    #[n(8)]
    pub environment: Environment,
    /// Commitment to the action's digest.
    #[n(9)]
    pub digest: Commitment,
    /// Commitment to the canonical arguments and `_meta`, field by field: [`crate::fields`].
    #[n(10)]
    pub arguments: Commitment,
    /// What the parsers knew.
    #[n(11)]
    pub facts: Facts,
    /// Everything else that the decision read.
    #[n(12)]
    pub inputs: Inputs,
    /// The verdict.
    #[n(13)]
    pub verdict: Verdict,
    /// Why, most important first; at most [`REASONS_MAX`].
    #[n(14)]
    pub reasons: Vec<Reason>,
    /// The ticket under which the action waits, or whose grant this intent consumed.
    #[n(15)]
    pub ticket: Option<TicketId>,
    /// Where the caller says that the call belongs. No decision reads it.
    #[n(16)]
    pub claimed: Claimed,
    /// Redactions in what lies in the payload: rule and place, sorted.
    #[n(17)]
    pub redactions: Bounded,
    /// Which earlier call it says that it continues; absent where it begins one.
    #[n(18)]
    pub continues: Option<Continued>,
}

/// The call that another one says that it continues: one that ran and was answered with a question. Whether it does is
/// judged.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Continued {
    /// The leaf of that call's intent.
    #[n(0)]
    pub intent: LeafIndex,
    /// Commitment to what the client answers, and to its digest: [`crate::payload::InputPayload`].
    #[n(1)]
    pub input: Commitment,
    /// How many secrets were redacted in these answers.
    #[n(2)]
    pub redactions: u64,
}

/// How long a call that was answered with a question can be continued, in milliseconds from its outcome.
pub const CONTINUATION_MS: u64 = 15 * 60_000;

/// Where a caller says that its call belongs: claims that nothing is decided on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Claimed {
    /// The W3C trace context, `traceparent`; at most [`CLAIM_BYTES_MAX`] bytes, as all of these.
    #[n(0)]
    pub trace: Option<String>,
    /// The step of the run.
    #[n(1)]
    pub step: Option<String>,
    /// The step that this one follows from.
    #[n(2)]
    pub cause: Option<String>,
}

/// The longest claim in bytes; what is longer is clipped.
pub const CLAIM_BYTES_MAX: usize = 128;

/// The most reasons of one verdict.
pub const REASONS_MAX: usize = 16;
/// A parked action.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Proposal {
    /// The call that was parked; its ticket names this proposal.
    #[n(0)]
    pub attempt: Attempt,
    /// When the proposal lapses.
    #[n(1)]
    pub expires: TimeMs,
    /// SHA-256 of the preview that approvers are shown.
    #[n(2)]
    pub preview: Digest,
    /// 32 random bytes, so that no two proposals have the same leaf.
    #[n(3)]
    pub nonce: Digest,
}

/// How an effect ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum Status {
    /// The upstream answered with a result.
    #[n(0)]
    Done,
    /// The upstream answered with an error, or with a result that says so.
    #[n(1)]
    Failed,
    /// Cancelled before the first byte went upstream: nothing happened.
    #[n(2)]
    NotStarted,
    /// Cancelled or lost after bytes went upstream: what happened is not known.
    #[n(3)]
    Unknown,
    /// The upstream answered with a question: the same call can go on, once, with the client's answers.
    #[n(4)]
    InputRequired,
}

/// What became of an intent.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Outcome {
    /// The call: its sequence number at reservation.
    #[n(0)]
    pub action: Seq,
    /// The leaf of its intent.
    #[n(1)]
    pub intent: LeafIndex,
    /// How it ended.
    #[n(2)]
    pub status: Status,
    /// Commitment to the raw result, where there is one.
    #[n(3)]
    pub result: Option<Commitment>,
    /// Rows that the effect touched, where the executor counted them.
    #[n(4)]
    pub rows: Option<Rows>,
    /// Bytes sent upstream.
    #[n(5)]
    pub bytes_sent: Bytes,
    /// Milliseconds from permit to end.
    #[n(6)]
    pub duration_ms: u64,
    /// Why it failed, or who cancelled it; at most 240 bytes.
    #[n(7)]
    pub note: Option<String>,
    /// Units charged for good in every budget of the call.
    #[n(8)]
    pub charged: u64,
    /// What it cost in millionths of a dollar, where the executor knows.
    #[n(9)]
    pub cost_microusd: Option<u64>,
    /// Commitment to the handle with which the effect can be undone, where there is one.
    #[n(10)]
    pub undo: Option<Commitment>,
}

/// A human's answer to a proposal.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Consent {
    /// The proposal's ticket.
    #[n(0)]
    pub ticket: TicketId,
    /// The proposal's RFC 6962 leaf hash: what was signed.
    #[n(1)]
    pub proposal: Digest,
    /// The proposal's leaf.
    #[n(2)]
    pub leaf: LeafIndex,
    /// Who.
    #[n(3)]
    pub human: HumanId,
    /// Yes or no.
    #[n(4)]
    pub approved: bool,
    /// Ed25519 over [`crate::command::consent_message`].
    #[cbor(n(5), with = "minicbor::bytes")]
    pub signature: Vec<u8>,
    /// Until when the grant can be redeemed; absent for a refusal or while the quorum is not met.
    #[n(6)]
    pub grant_expires: Option<TimeMs>,
    /// The key that the signature was checked with.
    #[cbor(n(7), with = "minicbor::bytes")]
    pub key: [u8; 32],
}

/// A proposal or grant that ran out of time.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Expired {
    /// Its ticket.
    #[n(0)]
    pub ticket: TicketId,
    /// Whether consent had been given and not been used.
    #[n(1)]
    pub granted: bool,
}

/// What a kill covers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(flat)]
pub enum KillScope {
    /// Everything.
    #[n(0)]
    All,
    /// One agent, all its runs and sessions.
    #[n(1)]
    Agent(#[n(0)] AgentId),
    /// One run.
    #[n(2)]
    Run(#[n(0)] RunId),
}

/// The kill switch was thrown.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Killed {
    /// What it covers.
    #[n(0)]
    pub scope: KillScope,
    /// The epoch that began with it.
    #[n(1)]
    pub epoch: u64,
    /// Effects in flight that were cancelled.
    #[n(2)]
    pub cancelled: u64,
    /// Milliseconds from the order to the acknowledgement.
    #[n(3)]
    pub took_ms: u64,
}

/// A human's signed command took effect.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Commanded {
    /// The command with its signature, as it came.
    #[n(0)]
    pub signed: crate::command::Signed,
    /// For an issued token: its session id, so that the record names it without holding it.
    #[n(1)]
    pub session: Option<SessionId>,
}

/// A request that never became an action.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Refused {
    /// Through which door.
    #[n(0)]
    pub point: Point,
    /// Who, where that was known.
    #[n(1)]
    pub principal: Option<Principal>,
    /// Why.
    #[n(2)]
    pub reason: Reason,
    /// How many alike this record stands for.
    #[n(3)]
    pub count: u64,
}

/// Recovery cut an unconfirmed tail.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Gap {
    /// The size of the log after the cut.
    #[n(0)]
    pub size: u64,
    /// How many bytes were cut.
    #[n(1)]
    pub bytes: Bytes,
}

/// The wall clock jumped forward.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct ClockJump {
    /// How far, in milliseconds.
    #[n(0)]
    pub by_ms: u64,
}

/// Payloads were erased. The records, their commitments and every proof stay.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Erased {
    /// Whose.
    #[n(0)]
    pub scope: VaultScope,
    /// The leaf of the human's command.
    #[n(1)]
    pub command: LeafIndex,
    /// How many keys were destroyed.
    #[n(2)]
    pub keys: u64,
    /// How many payloads can no longer be read.
    #[n(3)]
    pub payloads: u64,
    /// Proposals and grants that fell with them: nobody can be shown any more what they were.
    #[n(4)]
    pub tickets: Vec<TicketId>,
}

/// Whose payloads lie under one key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(flat)]
pub enum VaultScope {
    /// Those of a run.
    #[n(0)]
    Run(#[n(0)] RunId),
    /// Those of a person or thing, by the vault's keyed hash of its name: the name itself is in no leaf.
    #[n(1)]
    Subject(#[n(0)] Digest),
}

/// Records below an index are no longer kept here; proofs of what is kept still hold.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Pruned {
    /// The first record that is kept.
    #[n(0)]
    pub minimum: LeafIndex,
    /// The time of the newest record that is not.
    #[n(1)]
    pub newest: TimeMs,
    /// The leaf of the human's command.
    #[n(2)]
    pub command: LeafIndex,
    /// The digest of the kernel's state after the first `minimum` records: whoever starts from there is held to it.
    #[n(3)]
    pub state: Digest,
}

/// The kernel's state after the first `size` records.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Snapshot {
    /// How many records it is made of.
    #[n(0)]
    pub size: u64,
    /// The digest of the state's one encoding.
    #[n(1)]
    pub state: Digest,
}

/// The log's key was changed.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct KeyRotated {
    /// The statement, signed by the old key: a C2SP signed note that names the new one.
    #[n(0)]
    pub statement: String,
    /// The leaf of the human's command.
    #[n(1)]
    pub command: LeafIndex,
}

impl Record {
    /// The leaf.
    ///
    /// # Errors
    /// Refuses a record over the leaf's bound.
    pub fn to_leaf(&self) -> Result<Vec<u8>, EncodeError> {
        to_leaf(self)
    }

    /// Reads a leaf.
    ///
    /// # Errors
    /// Refuses anything but the one encoding of a record.
    pub fn from_leaf(leaf: &[u8]) -> Result<Self, DecodeError> {
        from_canonical(leaf)
    }
}

impl Body {
    /// The word for this kind of record.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Started(_) => "started",
            Self::Stopped => "stopped",
            Self::Intent(_) => "intent",
            Self::Outcome(_) => "outcome",
            Self::Denial(_) => "denial",
            Self::Proposal(_) => "proposal",
            Self::Waiting(_) => "waiting",
            Self::Consent(_) => "consent",
            Self::Expired(_) => "expired",
            Self::Killed(_) => "killed",
            Self::Commanded(_) => "commanded",
            Self::Refused(_) => "refused",
            Self::Gap(_) => "gap",
            Self::ClockJump(_) => "clock_jump",
            Self::Erased(_) => "erased",
            Self::Pruned(_) => "pruned",
            Self::Snapshot(_) => "snapshot",
            Self::KeyRotated(_) => "key_rotated",
        }
    }

    /// The decided call, for the kinds that hold one.
    #[must_use]
    pub fn attempt(&self) -> Option<&Attempt> {
        match self {
            Self::Intent(attempt) | Self::Denial(attempt) | Self::Waiting(attempt) => Some(attempt),
            Self::Proposal(proposal) => Some(&proposal.attempt),
            _ => None,
        }
    }
}
