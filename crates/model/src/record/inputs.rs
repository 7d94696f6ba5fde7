//! Everything that a decision read besides the action itself, so that it can be made again from its record.
//!
//! It must not know how a decision follows from it: `kernel` does.

use minicbor::{Decode, Encode};

use crate::action::Principal;
use crate::encoding::Bounded;
use crate::id::{Digest, HumanId, LeaseName, PolicyId, TicketId};
use crate::narrowed::Narrowed;
use crate::payload::Commitment;
use crate::unit::TimeMs;
use crate::verdict::{Gate, Obligation};

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
    /// What the agent did before; absent in records of versions that did not read it.
    #[n(10)]
    pub history: Option<History>,
}

/// What the kernel knows of the agent's earlier calls. Only calls that were allowed count.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct History {
    /// Hosts and recipients' domains of this call that the agent never named before, sorted.
    #[n(0)]
    pub new_hosts: Vec<String>,
    /// The tool that this run called last, as `UPSTREAM/TOOL`.
    #[n(1)]
    pub previous: Option<String>,
    /// Whether the agent never called this tool right after that one.
    #[n(2)]
    pub new_pair: bool,
    /// The agent's calls on the same target.
    #[n(3)]
    pub calls: Recent,
    /// Those that were no reads.
    #[n(4)]
    pub changes: Recent,
    /// How many changes of this tool on this target stand in a row within 10 minutes, each larger than the one
    /// before, this one included where it is larger. Zero where the call says no count.
    #[n(5)]
    pub growing: u64,
    /// The count that the last change of this tool on this target asked for.
    #[n(6)]
    pub previous_count: Option<u64>,
    /// Whole minutes since the oldest lease in force began; absent where none is.
    #[n(7)]
    pub lease_minutes: Option<u64>,
    /// Labels of all results that this run has had, sorted.
    #[n(8)]
    pub labels: Vec<String>,
}

/// Calls within windows that end now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Recent {
    /// In the last minute.
    #[n(0)]
    pub minute: u64,
    /// In the last ten minutes.
    #[n(1)]
    pub ten_minutes: u64,
    /// In the last hour.
    #[n(2)]
    pub hour: u64,
    /// In the last day.
    #[n(3)]
    pub day: u64,
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
    /// Which definition of the tool may be called; absent where any may, and in records of versions that did not ask.
    #[n(10)]
    pub accepted: Option<Accepted>,
    /// The call that this one says that it continues, while that one waits for it; absent where it says none, and where
    /// nothing waits there or not any more.
    #[n(11)]
    pub continuation: Option<ContinuationReading>,
    /// To what the token was narrowed; absent where it was not, and in records of versions that did not read it.
    #[n(12)]
    pub narrowed: Option<Narrowed>,
    /// What looks wrong in the tool's definition; absent where nothing does.
    #[n(13)]
    pub flagged: Option<String>,
}

/// A call that waits to be continued, as a decision read it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct ContinuationReading {
    /// Whose it was.
    #[n(0)]
    pub principal: Principal,
    /// Its commitment to its digest. Who continues it commits under the same salt, so that the two can be compared.
    #[n(1)]
    pub digest: Commitment,
    /// Until when it can be continued.
    #[n(2)]
    pub until: TimeMs,
    /// How many continuations it is away from the call that was charged.
    #[n(3)]
    pub rounds: u64,
    /// The consent under which that call ran, where it needed one.
    #[n(4)]
    pub consent: Option<GrantReading>,
}

/// Which definition of a tool may be called, as a decision read it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Accepted {
    /// Who says so.
    #[n(0)]
    pub by: AcceptedBy,
    /// The hash of the definition; none where no definition of this tool may be called.
    #[n(1)]
    pub manifest: Option<Digest>,
}

/// What makes a definition the accepted one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum AcceptedBy {
    /// The list that a human accepted.
    #[n(0)]
    List,
    /// It was the first that ran.
    #[n(1)]
    FirstUse,
    /// It is a method, which no upstream defines: [`crate::method`].
    #[n(2)]
    Method,
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
    /// What must hold if it runs, sorted: they never grant, they only add.
    #[n(6)]
    pub obligations: Vec<Obligation>,
    /// Policies that demand them, sorted.
    #[n(7)]
    pub obliging: Bounded,
}

impl Evaluation {
    /// The answer where nothing could be asked, with the errors: it allows nothing.
    #[must_use]
    pub fn unanswered(errors: impl IntoIterator<Item = String>) -> Self {
        Self {
            ceiling: false,
            auto: false,
            determining: Bounded::default(),
            gates: Vec::new(),
            errors: Bounded::new(errors),
            timed_out: false,
            obligations: Vec::new(),
            obliging: Bounded::default(),
        }
    }
}
