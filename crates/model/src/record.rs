//! Records: what the ledger's leaves say, in the order in which the kernel decided.
//!
//! A record is bounded by construction: ids and names are short, lists have caps, arguments and
//! digests lie in the payload and the leaf only commits to them. Every record of a decision
//! carries every input that the decision read, so it can be decided again from the record alone.

use minicbor::{Decode, Encode};

use crate::action::{Point, Principal};
use crate::encoding::{Bounded, DecodeError, EncodeError, from_canonical, to_leaf};
use crate::facts::Facts;
use crate::id::{
    AgentId, Digest, Environment, HumanId, LeaseName, PolicyId, RunId, SessionId, TargetId, TicketId, ToolName,
    UpstreamId,
};
use crate::payload::Commitment;
use crate::reason::Reason;
use crate::unit::{Bytes, LeafIndex, Rows, Seq, TimeMs};
use crate::verdict::{Gate, Verdict};

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
    /// Commitment to the canonical arguments.
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
}

/// The most reasons of one verdict.
pub const REASONS_MAX: usize = 16;
/// The most budgets that one call is counted against.
pub const BUDGETS_MAX: usize = 16;

/// What a decision read besides the action itself.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Inputs {
    /// Hash of the policy bundle asked.
    #[n(0)]
    pub policy: Digest,
    /// Budgets as they stood before this call reserved; at most [`BUDGETS_MAX`].
    #[n(1)]
    pub budgets: Vec<BudgetReading>,
    /// Until when a freeze holds for the environment, if one does.
    #[n(2)]
    pub frozen_until: Option<TimeMs>,
    /// The kill epoch, and whether a kill covered the caller.
    #[n(3)]
    pub kill_epoch: u64,
    /// Whether a kill covered the caller.
    #[n(4)]
    pub killed: bool,
    /// Leases of the session in force, sorted; at most 16.
    #[n(5)]
    pub leases: Vec<LeaseName>,
    /// Whether an unused, unexpired grant for this digest was there.
    #[n(6)]
    pub granted: bool,
    /// When the caller's token ends.
    #[n(7)]
    pub token_expires: TimeMs,
    /// What the policy engine answered; absent where it was not asked.
    #[n(8)]
    pub evaluation: Option<Evaluation>,
    /// The standing of the caller and of the kernel's queues.
    #[n(9)]
    pub standing: Standing,
}

/// What a decision read about the caller and the kernel's own bounds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Standing {
    /// Whether the agent and its tenant are those of the configuration.
    #[n(0)]
    pub known: bool,
    /// Whether the session was revoked.
    #[n(1)]
    pub revoked: bool,
    /// Calls in flight before this one, and the bound on them.
    #[n(2)]
    pub in_flight: Within,
    /// Proposals of this agent that wait or were consented to, and the bound on them.
    #[n(3)]
    pub pending_of_agent: Within,
    /// All proposals that wait or were consented to, and the bound on them.
    #[n(4)]
    pub pending: Within,
    /// The proposal under which the same action already waits.
    #[n(5)]
    pub waits_as: Option<WaitReading>,
    /// Who refused the same action, while that refusal holds.
    #[n(6)]
    pub refused_by: Option<HumanId>,
    /// The grant for this digest, where there is one.
    #[n(7)]
    pub grant: Option<GrantReading>,
    /// Whether leases are suspended because the clock jumped.
    #[n(8)]
    pub clock_suspended: bool,
    /// Whether the caller went away before the decision.
    #[n(9)]
    pub abandoned: bool,
}

/// A count beside its bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Within {
    /// How many there were.
    #[n(0)]
    pub count: u64,
    /// How many there may be.
    #[n(1)]
    pub max: u64,
}

/// A grant as a decision read it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct GrantReading {
    /// The ticket of its proposal.
    #[n(0)]
    pub ticket: TicketId,
    /// Who consented, sorted.
    #[n(1)]
    pub humans: Vec<HumanId>,
    /// Until when it can be redeemed.
    #[n(2)]
    pub expires: TimeMs,
    /// The gates that they consented to pass, sorted.
    #[n(3)]
    pub gates: Vec<PolicyId>,
}

/// A waiting proposal as a decision read it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct WaitReading {
    /// Its ticket.
    #[n(0)]
    pub ticket: TicketId,
    /// The gates that it waits at.
    #[n(1)]
    pub gates: Vec<Gate>,
}

/// One budget as a decision read it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct BudgetReading {
    /// What is counted against what, for people: `calls of run r-1`.
    #[n(0)]
    pub name: String,
    /// The hard limit.
    #[n(1)]
    pub cap: u64,
    /// What is spent for good.
    #[n(2)]
    pub spent: u64,
    /// What is held for calls in flight.
    #[n(3)]
    pub reserved: u64,
}

/// What the policy engine answered to one question: the two layered sets.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Evaluation {
    /// Whether G+F allows.
    #[n(0)]
    pub ceiling: bool,
    /// Whether G+F+A allows.
    #[n(1)]
    pub auto: bool,
    /// Policies that determined the ceiling's answer, sorted.
    #[n(2)]
    pub determining: Bounded,
    /// Gates that fired, sorted.
    #[n(3)]
    pub gates: Vec<Gate>,
    /// Errors of evaluation, sorted; any error denies.
    #[n(4)]
    pub errors: Bounded,
    /// Whether the engine did not answer in time.
    #[n(5)]
    pub timed_out: bool,
}

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
