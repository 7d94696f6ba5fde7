//! What a point hands to the pipeline and what it gets back.
//!
//! These types carry no protocol: a point frames bytes into a [`Call`] and turns the [`Answer`]
//! into its protocol's own form. Identity comes in as a verified [`Caller`], never as a claim.

use std::future::Future;

use countersign_model::action::Point;
use countersign_model::id::{TicketId, ToolName, UpstreamId};
use countersign_model::record::{Claimed, Status};
use countersign_model::unit::{LeafIndex, Rows, TimeMs};
use countersign_model::{Caller, Digest, Reason};
use countersign_receipt::Role;
use countersign_receipt::receipt::Receipt;
use tokio_util::sync::CancellationToken;

use crate::permit::Permit;

/// One call as a point framed it. The bytes are raw: the pipeline parses them itself.
#[derive(Debug)]
pub struct Call {
    /// Who calls, from [`crate::Gate::identify`].
    pub caller: Caller,
    /// Through which door.
    pub point: Point,
    /// Towards which upstream of the configuration.
    pub upstream: UpstreamId,
    /// The tool's name, as the caller spelled it.
    pub tool: ToolName,
    /// SHA-256 of the tool's definition as the upstream listed it; `None` where it is not listed.
    pub manifest: Option<Digest>,
    /// What looks wrong in that definition, in a few words of our own; `None` where nothing does. It is held back then,
    /// until a human has accepted the very definition by name.
    pub flagged: Option<String>,
    /// The raw JSON of the arguments; `{}` where the caller sent none.
    pub arguments: Vec<u8>,
    /// The raw JSON of the allow-listed part of `_meta`; empty where nothing is listed.
    pub meta: Vec<u8>,
    /// Cancelled by the point when the caller cancels. A caller that only goes away does not cancel.
    pub cancel: CancellationToken,
    /// Where the caller says that the call belongs. Recorded, and never decided on.
    pub claimed: Claimed,
    /// Which earlier call it goes on with, from state that the point authenticated. The kernel judges whether it may.
    pub continues: Option<Continuation>,
    /// The raw JSON of the client's answers to that call's question; empty where there are none. Recorded and committed to,
    /// and no part of the digest: it is the same action that goes on.
    pub input: Vec<u8>,
}

/// An earlier call of the same caller, with the same digest, that was answered with [`Status::InputRequired`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Continuation {
    /// The leaf of its intent: [`Answer::continuable`] said it.
    pub intent: LeafIndex,
}

/// The one thing that a point does after it was allowed: carry the action out.
pub trait Execute: Send + Sync + 'static {
    /// What the point wants back, e.g. the upstream's raw answer.
    type Reply: Send + 'static;

    /// Carries out the action that `permit` stands for. The permit is consumed: one permit, one effect.
    /// Must end soon after [`crate::permit::Effect::stopped`] resolves.
    fn execute(&self, permit: Permit) -> impl Future<Output = Executed<Self::Reply>> + Send;
}

/// How carrying out an action ended.
#[derive(Debug)]
pub struct Executed<R> {
    /// How it ended. Whoever is in doubt says [`Status::Unknown`].
    pub status: Status,
    /// The raw result, for the record's commitment; empty where there is none.
    pub result: Vec<u8>,
    /// Rows touched, where the executor counted them.
    pub rows: Option<Rows>,
    /// Bytes of the action that went upstream.
    pub bytes_sent: u64,
    /// Why it failed or was cancelled.
    pub note: Option<String>,
    /// What it cost in millionths of a dollar, where the executor knows.
    pub cost_microusd: Option<u64>,
    /// The handle with which the effect can be undone, for the record's commitment; `None` where there is none.
    pub undo: Option<Vec<u8>>,
    /// Whether secrets in `reply` were replaced. Without it nothing is passed on where policy demands it.
    pub redacted: bool,
    /// What the point needs for its answer; `None` where there is nothing to pass on.
    pub reply: Option<R>,
}

/// What became of a call.
#[derive(Debug)]
pub enum Answer<R> {
    /// It ran.
    Ran {
        /// How it ended.
        status: Status,
        /// What the executor passed on.
        reply: Option<R>,
        /// What the executor noted.
        note: Option<String>,
        /// Proof of intent and outcome; `None` where the outcome could not be recorded
        /// ("done, unrecorded", never "denied").
        receipt: Option<Receipt>,
    },
    /// It waits for consent.
    Parked {
        /// The handle for humans.
        ticket: TicketId,
        /// When the proposal lapses.
        expires: TimeMs,
        /// Names of the gates, for the caller.
        gates: Vec<String>,
        /// Whether this ticket was already waiting.
        repeated: bool,
        /// Proof of the record.
        receipt: Receipt,
    },
    /// It may not run, and nothing did.
    Denied {
        /// Why, most important first; never empty.
        reasons: Vec<Reason>,
        /// Proof of the record; `None` where it could not be written.
        receipt: Option<Receipt>,
    },
}

impl<R> Answer<R> {
    /// The intent with which the same call can go on once it has the client's answers; none where it did not ask, or where
    /// its outcome is not on record: then it cannot go on.
    #[must_use]
    pub fn continuable(&self) -> Option<LeafIndex> {
        let Self::Ran { status: Status::InputRequired, receipt: Some(receipt), .. } = self else { return None };
        let intent = receipt.proofs.iter().find(|proof| proof.role == Role::Intent)?;
        Some(LeafIndex(intent.proof.index))
    }
}
