//! What the kernel is told and what it asks for.
//!
//! Every event that it takes gets the next sequence number. What needs randomness (salts, nonces,
//! session ids) comes in with the event. Durations and sizes name their unit.

use std::collections::BTreeSet;

use countersign_model::action::Point;
use countersign_model::command::Signed;
use countersign_model::id::{HumanId, SessionId, TicketId};
use countersign_model::payload::{ActionPayload, Commitment, Salt};
use countersign_model::record::{Evaluation, KillScope, Status, VaultScope};
use countersign_model::unit::{Bytes, LeafIndex, Rows};
use countersign_model::{Action, Caller, Digest, Principal, Reason, Record, Seq, TimeMs};

use crate::kill::KillState;
use crate::policy::EvaluationRequest;

/// The randomness of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Salts {
    /// Salt of the commitment to the action's digest.
    pub digest: Salt,
    /// Salt of the commitment to the arguments.
    pub arguments: Salt,
    /// Makes two proposals of the same action two leaves.
    pub nonce: Digest,
}

/// What happened.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "an event is taken apart at once, and none is kept")]
pub enum Event {
    /// Start-up: a record of the log, fed in log order before anything else. Gives no commands.
    Recovered {
        /// The record.
        record: Record,
        /// Its leaf.
        leaf: LeafIndex,
        /// Its RFC 6962 leaf hash.
        leaf_hash: Digest,
        /// Its payload; absent where it has none or it was erased. Without it a proposal cannot wait on.
        payload: Option<ActionPayload>,
    },
    /// The end of start-up. Records the start, kills that only the file knew, and an outcome `unknown`
    /// with its full charge for every intent that has none (invariant 7).
    Started {
        /// The state of the kill switch's own file.
        kill: KillState,
    },
    /// An agent proposes. Gives either [`Command::Evaluate`] or [`Command::Append`], with the call's id.
    Proposed {
        /// Who, as verified.
        caller: Caller,
        /// What. Its principal must be the caller's.
        action: Box<Action>,
        /// Randomness.
        salts: Salts,
    },
    /// Policy answered. Gives [`Command::Append`] with the decision; or [`Command::Evaluate`] once more, where another
    /// policy is in force by now than the one that was asked.
    Evaluated {
        /// The call.
        call: Seq,
        /// The answer.
        evaluation: Evaluation,
    },
    /// The caller went away before policy answered: its reservation is released and the call denied on record.
    Abandoned {
        /// The call.
        call: Seq,
    },
    /// The decision's record is durable. A proposal can be consented to only after this.
    Appended {
        /// The call.
        call: Seq,
        /// Where.
        leaf: LeafIndex,
        /// The RFC 6962 leaf hash: what consent signs.
        leaf_hash: Digest,
    },
    /// The decision's record is not known to be on disk. It must never run; its grant stays consumed, and a
    /// proposal no longer waits. An intent keeps its full charge unless its record is surely absent.
    AppendFailed {
        /// The call.
        call: Seq,
        /// Whether nothing of the record was written: the ledger refused it before it touched the disk.
        surely_absent: bool,
    },
    /// An effect ended. `NotStarted` releases the charge, everything else keeps it. Ignored before `Appended`.
    Ended {
        /// The call.
        call: Seq,
        /// How.
        status: Status,
        /// Commitment to the raw result.
        result: Option<Commitment>,
        /// Rows that were counted.
        rows: Option<Rows>,
        /// Bytes sent upstream.
        bytes_sent: Bytes,
        /// From permit to end.
        duration_ms: u64,
        /// Why it failed, or who cancelled it; clipped to 240 bytes.
        note: Option<String>,
        /// What it cost in millionths of a dollar, where the executor knows.
        cost_microusd: Option<u64>,
        /// Commitment to the handle with which the effect can be undone, where there is one.
        undo: Option<Commitment>,
    },
    /// A human answers a proposal. Gives [`Command::Append`] or [`Command::Refuse`].
    Consented {
        /// Which.
        ticket: TicketId,
        /// Who, as claimed: the signature proves it.
        human: HumanId,
        /// Yes or no.
        approved: bool,
        /// Ed25519 over [`countersign_model::command::consent_message`].
        signature: Vec<u8>,
    },
    /// The kill switch was thrown; it holds already, at the gate.
    Killed {
        /// What it covers.
        scope: KillScope,
        /// The epoch that began with it.
        epoch: u64,
        /// Effects in flight that were cancelled.
        cancelled: u64,
        /// From order to acknowledgement.
        took_ms: u64,
    },
    /// A human commands. The challenge was checked by the gate; the rest is checked here.
    /// Gives [`Command::Append`] or [`Command::Refuse`].
    Commanded {
        /// The command as it came.
        signed: Signed,
        /// For `IssueToken`: the new session's id.
        session: Option<SessionId>,
    },
    /// A request was refused before there was an action.
    Refused {
        /// Through which door.
        point: Point,
        /// Who, where that is known.
        principal: Option<Principal>,
        /// Why.
        reason: Reason,
        /// How many alike.
        count: u64,
    },
    /// The wall clock jumped forward, as the gate's monotonic clock shows: leases are suspended.
    ClockJumped {
        /// How far.
        by_ms: u64,
    },
    /// Recovery cut an unconfirmed tail.
    Gap {
        /// The size of the log after the cut.
        size: u64,
        /// How much was cut.
        bytes: Bytes,
    },
    /// The image of the state after the first `size` records is on disk; its digest goes on record.
    Snapshot {
        /// How many records.
        size: u64,
        /// [`crate::image::image_digest`].
        state: Digest,
    },
    /// A human's command to change the log's key is on record: the change itself is to be recorded.
    KeyRotated {
        /// The leaf of the command.
        command: LeafIndex,
    },
    /// The keys of a scope are destroyed, as a human ordered.
    Erased {
        /// Whose.
        scope: VaultScope,
        /// The leaf of the order.
        command: LeafIndex,
        /// How many keys.
        keys: u64,
        /// How many payloads lay under them.
        payloads: u64,
        /// Tickets of proposals among them.
        tickets: BTreeSet<TicketId>,
    },
    /// The state of the first `minimum` records is on disk and leads on without them, as a human ordered: from this
    /// record on they may be deleted.
    Pruned {
        /// The first record that is kept.
        minimum: LeafIndex,
        /// The time of the newest one that is not.
        newest: TimeMs,
        /// The leaf of the order.
        command: LeafIndex,
        /// [`crate::image::image_digest`].
        state: Digest,
    },
    /// Time passes.
    Tick,
    /// The gateway stops in an orderly way.
    Stopped,
}

/// What the kernel asks for. Commands are carried out in order, and records enter the log in that order.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "a step gives few of them, and each is taken apart at once")]
pub enum Command {
    /// Ask [`crate::policy::Bundle::evaluate`], outside of any lock, and answer with [`Event::Evaluated`].
    Evaluate {
        /// The call.
        call: Seq,
        /// The hash of the bundle to ask: no other one may answer.
        policy: Digest,
        /// The question.
        request: EvaluationRequest,
    },
    /// Make this durable.
    Append {
        /// The call that this record decides: tell [`Event::Appended`] or [`Event::AppendFailed`] for it.
        /// Absent for every other kind of record, outcomes too.
        call: Option<Seq>,
        /// The record. That of a change of the log's key has an empty statement: the ledger makes it when it writes.
        record: Record,
        /// What the record commits to.
        payload: Option<ActionPayload>,
    },
    /// The human's consent or command does not count.
    Refuse {
        /// Why.
        reason: Reason,
    },
}
