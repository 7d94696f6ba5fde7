//! Calls that were answered with a question, and wait for the client's answers.
//!
//! A continuation is the same action going on: it is decided again on everything that is read then, and charged to nobody,
//! for the call that it continues has been. So it is bounded on every side: one continuation of each call, within
//! [`CONTINUATION_MS`], at most [`ROUNDS_MAX`] in a row, and [`WAITING_MAX`] that wait of one agent, oldest out first. A kill
//! or an erasure ends those that it covers for good. All that is kept here stands in leaves, and nothing of a payload does:
//! that the action is the same shows in two equal commitments. It must not know what was asked or answered.

use std::collections::BTreeMap;

use countersign_model::id::AgentId;
use countersign_model::payload::{ActionPayload, Commitment};
use countersign_model::record::{Attempt, CONTINUATION_MS, ContinuationReading, GrantReading};
use countersign_model::unit::LeafIndex;
use countersign_model::{Digest, Principal, TimeMs};
use minicbor::{Decode, Encode};

/// The most continuations of one charge.
pub(crate) const ROUNDS_MAX: u64 = 16;
/// The most calls of one agent that wait to be continued.
pub(crate) const WAITING_MAX: usize = 64;

/// What is known of a call that may come to wait to be continued, or does.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(crate) struct Continuable {
    #[n(0)]
    pub(crate) principal: Principal,
    #[n(1)]
    pub(crate) digest: Commitment,
    /// The start of time while the call runs.
    #[n(2)]
    pub(crate) until: TimeMs,
    /// How many continuations it is away from the call that was charged.
    #[n(3)]
    pub(crate) rounds: u64,
    /// The consent under which it was allowed.
    #[n(4)]
    pub(crate) consent: Option<GrantReading>,
}

impl Continuable {
    /// What an intent would leave behind if it were answered with a question.
    pub(crate) fn of(attempt: &Attempt) -> Self {
        let standing = &attempt.inputs.standing;
        let redeemed = standing.grant.as_ref().filter(|grant| attempt.ticket.as_ref() == Some(&grant.ticket));
        let before = standing.continuation.as_ref().filter(|_| attempt.continues.is_some());
        Self {
            principal: attempt.principal.clone(),
            digest: attempt.digest,
            until: TimeMs(0),
            rounds: before.map_or(0, |before| before.rounds.saturating_add(1)),
            consent: redeemed.or_else(|| before?.consent.as_ref()).cloned(),
        }
    }

    /// Whether the call was charged as another one.
    pub(crate) const fn is_continued(&self) -> bool {
        self.rounds > 0
    }

    fn reading(&self, held: Option<TimeMs>) -> ContinuationReading {
        let Self { principal, digest, until, rounds, consent } = self.clone();
        let until = held.map_or(until, |held| held.max(until));
        // It was used in its time; what bounds it now is the time of the continuation.
        let consent = consent.map(|consent| GrantReading { expires: until, ..consent });
        ContinuationReading { principal, digest, until, rounds, consent }
    }
}

/// Calls that wait to be continued, by the leaves of their intents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Continuables(BTreeMap<LeafIndex, Continuable>);

impl Continuables {
    /// From an image.
    pub(crate) const fn restore(waiting: BTreeMap<LeafIndex, Continuable>) -> Self {
        Self(waiting)
    }

    /// For an image.
    pub(crate) fn image(&self) -> BTreeMap<LeafIndex, Continuable> {
        self.0.clone()
    }

    /// What a decision reads of the call at `intent`, which a human holds open until `held`.
    pub(crate) fn reading(&self, intent: LeafIndex, held: Option<TimeMs>) -> Option<ContinuationReading> {
        self.0.get(&intent).map(|call| call.reading(held))
    }

    /// The call at `intent` was answered with a question.
    pub(crate) fn open(&mut self, intent: LeafIndex, call: Continuable, now: TimeMs) {
        if call.rounds >= ROUNDS_MAX {
            return;
        }
        let agent = call.principal.agent.clone();
        self.0.insert(intent, Continuable { until: now.saturating_add_ms(CONTINUATION_MS), ..call });
        self.bound(&agent);
    }

    fn bound(&mut self, agent: &AgentId) {
        let of_agent = || self.0.iter().filter(|(_, call)| call.principal.agent == *agent).map(|(leaf, _)| *leaf);
        if of_agent().count() > WAITING_MAX
            && let Some(oldest) = of_agent().next()
        {
            self.0.remove(&oldest);
        }
    }

    /// An intent goes on with the call at `intent`: nothing else can any more.
    pub(crate) fn take(&mut self, intent: LeafIndex) -> Option<Continuable> {
        self.0.remove(&intent)
    }

    /// The intent that went on with it surely never came to be.
    pub(crate) fn give_back(&mut self, intent: LeafIndex, call: Continuable) {
        self.0.insert(intent, call);
    }

    /// Drops those of whom this is true.
    pub(crate) fn drop_of(&mut self, is_over: impl Fn(&Principal) -> bool) {
        self.0.retain(|_, call| !is_over(&call.principal));
    }

    /// Time goes on. A call about whose continuation a human is asked, or has consented, waits as long as that does.
    pub(crate) fn pass(&mut self, now: TimeMs, held: impl Fn(LeafIndex) -> Option<TimeMs>) {
        self.0.retain(|leaf, call| call.until > now || held(*leaf).is_some_and(|until| until > now));
    }
}

/// Why an attempt continues nothing, for the record; none where it does, or does not say that it does.
pub(crate) fn objection(attempt: &Attempt, at: TimeMs) -> Option<&'static str> {
    attempt.continues.as_ref()?;
    let Some(open) = &attempt.inputs.standing.continuation else {
        return Some("no call waits there to be continued, or not any more");
    };
    if !is_same(&open.principal, &attempt.principal) {
        return Some("the call that waits there is another caller's");
    }
    if open.digest != attempt.digest {
        return Some("the call that waits there is another action");
    }
    if open.until <= at {
        return Some("the call that waited there has waited too long");
    }
    (open.rounds >= ROUNDS_MAX).then_some("the call was continued too often")
}

/// An attenuated token is the same session; how often it was attenuated, policy reads.
fn is_same(a: &Principal, b: &Principal) -> bool {
    let of = |who: &Principal| (who.tenant.clone(), who.agent.clone(), who.session.clone(), who.run.clone());
    of(a) == of(b)
}

/// What makes two continuations of one action the same: going on from the same call with the same answers. Consent to one
/// of them is none to another, for the approver has seen the answers.
pub(crate) fn sameness(attempt: &Attempt, payload: &ActionPayload) -> Option<(LeafIndex, Digest)> {
    Some((attempt.continues.as_ref()?.intent, payload.input.as_ref()?.digest))
}
