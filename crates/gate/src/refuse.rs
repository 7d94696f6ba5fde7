//! Refusals: requests that never became an action are recorded too, but cannot fill a disk.
//!
//! The first few of a second get a record each; the rest of that second are counted and recorded
//! as one when the second is over, per point, caller and reason. An agent whose calls were denied, or parked again, too
//! often within a second is refused unasked for the rest of it, and that is counted too; so is an upstream whose
//! questions were, for they are not the agent's doing. It can only refuse: nothing here allows a call, holds a budget or
//! touches another agent. A second ends with the tick.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use countersign_kernel::Event;
use countersign_model::action::Point;
use countersign_model::id::{AgentId, TenantId, UpstreamId};
use countersign_model::method::QUESTIONS;
use countersign_model::{Body, Principal, Reason, ReasonCode};
use countersign_receipt::{ReceiptProof, Role};

use crate::Gate;
use crate::call::{Answer, Call};
use crate::catalog::recordable;
use crate::state::Recording;

/// Refusals of one second that get a record of their own.
const SINGLE_MAX: u64 = 32;
/// Kinds of refusals counted at a time; what is beyond is counted without naming the caller.
const KINDS_MAX: usize = 256;

/// Calls of one agent that may be denied, or parked again, within a second, each with a record of its own.
///
/// Calls that are being decided when the bound is met still get their records, so a second leaves at most this many and
/// those in flight.
pub const DENIALS_MAX: u64 = 64;
/// Those whose denials are counted at a time. Tokens name agents and the configuration upstreams, so only an operator can
/// make this many.
const SOURCES_MAX: usize = 4_096;

/// An agent's name means nothing outside of its tenant.
type Agent = (TenantId, AgentId);

/// Whose doing a call is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Source {
    Agent(Agent),
    /// It asks the client something; the agent only stands for the client.
    Upstream(UpstreamId),
}

impl Source {
    fn of(call: &Call) -> Self {
        if QUESTIONS.contains(&call.tool.as_str()) {
            return Self::Upstream(call.upstream.clone());
        }
        Self::Agent(agent(&call.caller.principal))
    }
}

type Kind = (Point, Option<Agent>, ReasonCode);

#[derive(Default)]
pub(crate) struct Refusals {
    inner: Mutex<Counted>,
}

#[derive(Default)]
struct Counted {
    singles: u64,
    kinds: BTreeMap<Kind, (Option<Principal>, Reason, u64)>,
    denials: BTreeMap<Source, u64>,
}

/// Refusals of one kind that were counted.
pub(crate) struct Alike {
    point: Point,
    principal: Option<Principal>,
    reason: Reason,
    count: u64,
}

impl Alike {
    pub(crate) fn event(&self) -> Event {
        let Self { point, principal, reason, count } = self;
        Event::Refused { point: *point, principal: principal.clone(), reason: reason.clone(), count: *count }
    }
}

fn agent(principal: &Principal) -> Agent {
    (principal.tenant.clone(), principal.agent.clone())
}

impl Counted {
    fn add(&mut self, alike: Alike) {
        let Alike { point, principal, reason, count } = alike;
        let is_known = |principal: &Principal| self.kinds.contains_key(&(point, Some(agent(principal)), reason.code));
        let named = principal.filter(|principal| self.kinds.len() < KINDS_MAX || is_known(principal));
        let kind = (point, named.as_ref().map(agent), reason.code);
        let counted = self.kinds.entry(kind).or_insert((named, reason, 0));
        counted.2 = counted.2.saturating_add(count);
    }
}

impl Refusals {
    /// Whether this one gets a record of its own; if not it has been counted.
    fn admit(&self, point: Point, principal: Option<&Principal>, reason: &Reason) -> bool {
        let mut inner = self.inner();
        if inner.singles < SINGLE_MAX {
            inner.singles += 1;
            return true;
        }
        inner.add(Alike { point, principal: principal.cloned(), reason: reason.clone(), count: 1 });
        false
    }

    /// Counts refusals that get no record of their own.
    fn count(&self, alike: Alike) {
        self.inner().add(alike);
    }

    /// This call was denied, or parked again, on a record of its own.
    pub(crate) fn denied(&self, call: &Call) {
        let mut inner = self.inner();
        let source = Source::of(call);
        if inner.denials.len() < SOURCES_MAX || inner.denials.contains_key(&source) {
            let count = inner.denials.entry(source).or_default();
            *count = count.saturating_add(1);
        }
    }

    fn floods(&self, call: &Call) -> bool {
        let inner = self.inner();
        !inner.denials.is_empty() && inner.denials.get(&Source::of(call)).is_some_and(|count| *count > DENIALS_MAX)
    }

    /// The second is over: what was only counted in it.
    fn take(&self) -> Vec<Alike> {
        let mut inner = self.inner();
        inner.singles = 0;
        inner.denials.clear();
        std::mem::take(&mut inner.kinds)
            .into_iter()
            .map(|((point, _, _), (principal, reason, count))| Alike { point, principal, reason, count })
            .collect()
    }

    fn inner(&self) -> MutexGuard<'_, Counted> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Gate {
    /// Records a request that was refused before there was an action. Answers at once: nothing was to run.
    pub async fn refuse(&self, point: Point, principal: Option<Principal>, reason: Reason) {
        let reason = recordable(&reason);
        if self.0.refusals.admit(point, principal.as_ref(), &reason) {
            for recording in self.step_refusal(Event::Refused { point, principal, reason, count: 1 }) {
                // A refusal that cannot be recorded is still a refusal.
                let _ = recording.pending.await;
            }
        }
    }

    /// Refuses a call of a known caller; the answer carries a receipt where there is a record of its own.
    pub(crate) async fn refuse_call<R>(&self, call: &Call, reason: Reason) -> Answer<R> {
        let principal = Some(call.caller.principal.clone());
        let mut receipt = None;
        let recorded = recordable(&reason);
        if self.0.refusals.admit(call.point, principal.as_ref(), &recorded) {
            let event = Event::Refused { point: call.point, principal, reason: recorded, count: 1 };
            for Recording { leaf, pending, .. } in self.step_refusal(event) {
                if let Ok(committed) = pending.await {
                    let proof = ReceiptProof { role: Role::Decision, leaf, proof: committed.proof };
                    receipt = Some(self.receipt(vec![proof]));
                }
            }
        }
        Answer::Denied { reasons: vec![reason], receipt }
    }

    /// The refusal's own record. What ran out of time was swept by the same step, and must not be lost with it.
    fn step_refusal(&self, event: Event) -> Vec<Recording> {
        let is_refusal = |recording: &Recording| matches!(recording.record.body, Body::Refused(_));
        let (refusals, swept) = self.step(event).others.into_iter().partition(is_refusal);
        self.watch(swept);
        refusals
    }

    /// Refuses a call whose source was denied too often in this second: unasked, and only counted.
    pub(crate) fn refuse_flood<R>(&self, call: &Call) -> Option<Answer<R>> {
        if !self.0.refusals.floods(call) {
            return None;
        }
        let principal = Some(call.caller.principal.clone());
        let reason = Reason::plain(ReasonCode::TooManyDenials);
        let alike = Alike { point: call.point, principal, reason: reason.clone(), count: 1 };
        self.0.refusals.count(alike);
        Some(Answer::Denied { reasons: vec![reason], receipt: None })
    }

    /// Records what was only counted in the second that is over. What cannot be recorded goes on being counted: it
    /// changes no state, so it must not close the gate as a lost consent does.
    pub(crate) fn flush_refusals(&self) {
        for alike in self.0.refusals.take() {
            let recordings = self.step_refusal(alike.event());
            let gate = self.clone();
            tokio::spawn(async move {
                for recording in recordings {
                    if recording.pending.await.is_err() {
                        gate.0.refusals.count(alike);
                        return;
                    }
                }
            });
        }
    }

    /// What was only counted, as events; it is counted no more.
    pub(crate) fn counted_refusals(&self) -> Vec<Event> {
        self.0.refusals.take().iter().map(Alike::event).collect()
    }
}
