//! Refusals: requests that never became an action are recorded too, but cannot fill a disk.
//!
//! The first few of a second get a record each; the rest of that second are counted and recorded
//! as one when the second is over, per point, caller and reason.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use countersign_kernel::Event;
use countersign_model::action::Point;
use countersign_model::id::AgentId;
use countersign_model::{Body, Principal, Reason, ReasonCode};
use countersign_receipt::{ReceiptProof, Role};

use crate::Gate;
use crate::call::{Answer, Call};
use crate::state::Recording;

/// Refusals of one second that get a record of their own.
const SINGLE_MAX: u64 = 32;
/// Kinds of refusals counted at a time; what is beyond is counted without naming the caller.
const KINDS_MAX: usize = 256;

type Kind = (Point, Option<AgentId>, ReasonCode);

#[derive(Default)]
pub(crate) struct Refusals {
    inner: Mutex<Counted>,
}

#[derive(Default)]
struct Counted {
    singles: u64,
    kinds: BTreeMap<Kind, (Option<Principal>, Reason, u64)>,
}

impl Refusals {
    /// Whether this one gets a record of its own; if not it has been counted.
    fn admit(&self, point: Point, principal: Option<&Principal>, reason: &Reason) -> bool {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.singles < SINGLE_MAX {
            inner.singles += 1;
            return true;
        }
        let known = principal.filter(|_| inner.kinds.len() < KINDS_MAX);
        let kind = (point, known.map(|p| p.agent.clone()), reason.code);
        let counted = inner.kinds.entry(kind).or_insert_with(|| (known.cloned(), reason.clone(), 0));
        counted.2 = counted.2.saturating_add(1);
        false
    }

    fn take(&self) -> Vec<(Point, Option<Principal>, Reason, u64)> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.singles = 0;
        std::mem::take(&mut inner.kinds)
            .into_iter()
            .map(|((point, _, _), (principal, reason, count))| (point, principal, reason, count))
            .collect()
    }
}

impl Gate {
    /// Records a request that was refused before there was an action. Answers at once: nothing was to run.
    pub async fn refuse(&self, point: Point, principal: Option<Principal>, reason: Reason) {
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
        if self.0.refusals.admit(call.point, principal.as_ref(), &reason) {
            let event = Event::Refused { point: call.point, principal, reason: reason.clone(), count: 1 };
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

    /// Records what was only counted in the second that is over.
    pub(crate) fn flush_refusals(&self) {
        for event in self.counted_refusals() {
            self.told(event);
        }
    }

    /// What was only counted, as events; it is counted no more.
    pub(crate) fn counted_refusals(&self) -> Vec<Event> {
        let counted = self.0.refusals.take().into_iter();
        counted.map(|(point, principal, reason, count)| Event::Refused { point, principal, reason, count }).collect()
    }
}
