//! The judgement: a pure function of one attempt, as its record holds it, and of the record's time.
//!
//! Nothing else is read, so every decision can be judged again from its own leaf (invariant 2). The order of
//! the questions is the order of the pipeline; the first that denies gives the reason. It asks only what the
//! inputs say and must not know how they were read.

use countersign_model::id::TicketId;
use countersign_model::record::{Accepted, AcceptedBy, Attempt, BUDGETS_MAX, BudgetReading, Evaluation, GrantReading};
use countersign_model::verdict::{GATES_MAX, Gate, OBLIGATIONS_MAX, Verdict};
use countersign_model::{Reason, ReasonCode, TimeMs};

use crate::continuation::objection;
use crate::parked::passes;

/// What follows from the inputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// Nothing denies it so far: policy must be asked.
    Ask,
    /// It may run, by policy alone or by the grant of a ticket.
    Allow { reason: Reason, ticket: Option<TicketId>, verdict: Verdict },
    /// It waits at these gates.
    Park { gates: Vec<Gate> },
    /// The same action waits already.
    Wait { ticket: TicketId, gates: Vec<Gate> },
    /// It may not run.
    Deny { reason: Reason },
}

/// Judges `attempt` by its inputs at the time `at`.
pub(crate) fn judge(attempt: &Attempt, at: TimeMs) -> Judgement {
    if let Some(reason) = before_policy(attempt, at) {
        return Judgement::Deny { reason };
    }
    match (&attempt.inputs.evaluation, &attempt.inputs.standing.waits_as) {
        (None, Some(waiting)) => Judgement::Wait { ticket: waiting.ticket.clone(), gates: waiting.gates.clone() },
        (None, None) => Judgement::Ask,
        (Some(evaluation), _) => by_policy(attempt, evaluation, at),
    }
}

/// What an attempt would have come to at the time `at`, with its own inputs, had policy answered `evaluation`.
///
/// For questions about the past: nothing that takes effect is decided here.
#[must_use]
pub fn in_hindsight(attempt: &Attempt, at: TimeMs, evaluation: Evaluation) -> (Verdict, Reason) {
    let mut asked = attempt.clone();
    asked.inputs.evaluation = Some(evaluation);
    match judge(&asked, at) {
        // Not with an answer at hand; a denial is the safe reading of "not".
        Judgement::Ask => (Verdict::Deny, Reason::plain(ReasonCode::Internal)),
        Judgement::Allow { reason, verdict, .. } => (verdict, reason),
        Judgement::Park { gates } => {
            let reason = Reason::by_policies(ReasonCode::Gate, policies(&gates));
            (Verdict::RequireApproval { gates }, reason)
        }
        Judgement::Wait { gates, .. } => (Verdict::RequireApproval { gates }, Reason::plain(ReasonCode::Waiting)),
        Judgement::Deny { reason } => (Verdict::Deny, reason),
    }
}

/// What policy alone says: no grant, no budget, no freeze, no kill.
#[must_use]
pub fn by_policy_alone(evaluation: &Evaluation) -> (Verdict, Reason) {
    if let Some(reason) = failed(evaluation) {
        return (Verdict::Deny, reason);
    }
    let determining = || evaluation.determining.items.iter().cloned();
    if evaluation.auto {
        return (allowed(evaluation), Reason::by_policies(ReasonCode::PolicyPermit, determining()));
    }
    if evaluation.ceiling {
        let reason = Reason::by_policies(ReasonCode::Gate, policies(&evaluation.gates));
        return (Verdict::RequireApproval { gates: evaluation.gates.clone() }, reason);
    }
    let code = if evaluation.determining.total == 0 { ReasonCode::NoPermit } else { ReasonCode::PolicyForbid };
    (Verdict::Deny, Reason::by_policies(code, determining()))
}

/// Why an attempt was denied whatever policy says, if it was.
#[must_use]
pub fn before_policy(attempt: &Attempt, at: TimeMs) -> Option<Reason> {
    let inputs = &attempt.inputs;
    let standing = &inputs.standing;
    if standing.abandoned {
        return Some(Reason::plain(ReasonCode::Abandoned));
    }
    if inputs.token_expires <= at {
        return Some(Reason::plain(ReasonCode::TokenExpired));
    }
    if standing.revoked {
        return Some(Reason::because(ReasonCode::TokenInvalid, "the token was revoked"));
    }
    if !standing.known {
        return Some(Reason::plain(ReasonCode::UnknownAgent));
    }
    let call = (&attempt.upstream, &attempt.tool);
    if let Some(why) =
        standing.narrowed.as_ref().and_then(|narrowed| narrowed.refuses(call, Some(attempt.facts.effect)))
    {
        return Some(Reason::because(ReasonCode::TokenNarrowed, &why));
    }
    if inputs.killed {
        let detail = format!("kill epoch {}", inputs.kill_epoch);
        return Some(Reason::because(ReasonCode::Killed, &detail));
    }
    if let Some(until) = inputs.frozen_until.filter(|_| !attempt.facts.effect.is_harmless()) {
        let detail = format!("{} is frozen until {until} ms", attempt.environment);
        return Some(Reason::because(ReasonCode::CodeFreeze, &detail));
    }
    if let Some(accepted) = standing.accepted.as_ref().filter(|accepted| accepted.manifest != Some(attempt.manifest)) {
        return Some(changed(accepted));
    }
    if let Some(why) = objection(attempt, at) {
        return Some(Reason::because(ReasonCode::ContinuationInvalid, why));
    }
    // What a human accepted by name was shown with everything that looks wrong in it.
    let is_accepted = standing.accepted.as_ref().is_some_and(|accepted| accepted.by == AcceptedBy::List);
    if let Some(signs) = standing.flagged.as_ref().filter(|_| !is_accepted) {
        return Some(Reason::because(ReasonCode::ToolFlagged, signs));
    }
    if standing.in_flight.count >= standing.in_flight.max {
        let detail = format!("{} calls are in flight", standing.in_flight.count);
        return Some(Reason::because(ReasonCode::Overloaded, &detail));
    }
    if inputs.budgets.len() > BUDGETS_MAX {
        let detail = format!("more than {BUDGETS_MAX} budgets apply to this call");
        return Some(Reason::because(ReasonCode::Internal, &detail));
    }
    // What goes on was charged when it began: it needs no room of its own, and none may be overdrawn.
    let wanted = u64::from(attempt.continues.is_none());
    inputs.budgets.iter().find(|b| !has_room(b, wanted)).map(exhausted)
}

/// Why the definition of a tool is not the one that may be called.
fn changed(accepted: &Accepted) -> Reason {
    let detail = match (accepted.by, accepted.manifest) {
        (AcceptedBy::List, Some(manifest)) => format!("its definition is not the accepted one, {}", manifest.short()),
        (AcceptedBy::List, None) => "the upstream has accepted tools, and this is none of them".to_owned(),
        (AcceptedBy::FirstUse, Some(manifest)) => {
            format!("its definition is not the one that ran first, {}", manifest.short())
        }
        (AcceptedBy::Method, _) => "its name is that of a method, which no tool may have".to_owned(),
        (AcceptedBy::FirstUse, None) => "too many tools ran for another to be remembered; accept it by name".to_owned(),
    };
    Reason::because(ReasonCode::ToolChanged, &detail)
}

/// Whether so many more calls fit. A sum that does not fit a number does not fit the cap either.
fn has_room(budget: &BudgetReading, wanted: u64) -> bool {
    budget
        .spent
        .checked_add(budget.reserved)
        .and_then(|used| used.checked_add(wanted))
        .is_some_and(|with_this| with_this <= budget.cap)
}

fn exhausted(budget: &BudgetReading) -> Reason {
    let BudgetReading { name, cap, spent, reserved } = budget;
    let detail = format!("{name}: {spent} spent and {reserved} in flight of {cap}");
    Reason::because(ReasonCode::BudgetExhausted, &detail)
}

fn by_policy(attempt: &Attempt, evaluation: &Evaluation, at: TimeMs) -> Judgement {
    match by_policy_alone(evaluation) {
        (Verdict::RequireApproval { .. }, _) => at_gates(attempt, evaluation, at),
        (Verdict::Deny | Verdict::Defer { .. }, reason) => Judgement::Deny { reason },
        (verdict, reason) => Judgement::Allow { reason, ticket: None, verdict },
    }
}

/// What an action that may run is told: obligations add to an allow, whether policy or a grant allowed it.
fn allowed(evaluation: &Evaluation) -> Verdict {
    match evaluation.obligations.as_slice() {
        [] => Verdict::Allow,
        obligations => Verdict::Modify { obligations: obligations.to_vec() },
    }
}

/// Why this answer cannot be used. An answer that contradicts itself is an error like any other.
fn failed(evaluation: &Evaluation) -> Option<Reason> {
    if evaluation.timed_out {
        return Some(Reason::plain(ReasonCode::EvaluationTimeout));
    }
    let error = |detail: &str| Some(Reason::because(ReasonCode::PolicyError, detail));
    if evaluation.errors.total > 0 {
        return error(evaluation.errors.items.first().map_or("no detail", String::as_str));
    }
    if evaluation.auto && !evaluation.ceiling {
        return error("the policy allows more without approval than with it");
    }
    if evaluation.ceiling && !evaluation.auto && evaluation.gates.is_empty() {
        return error("approval is required, but no gate fired");
    }
    if evaluation.gates.len() > GATES_MAX {
        return error("more gates fired than one decision can hold");
    }
    if evaluation.obligations.len() > OBLIGATIONS_MAX || !evaluation.obligations.is_sorted() {
        return error("obligations are too many or out of order");
    }
    None
}

fn at_gates(attempt: &Attempt, evaluation: &Evaluation, at: TimeMs) -> Judgement {
    let gates = evaluation.gates.as_slice();
    let standing = &attempt.inputs.standing;
    if let Some(grant) = standing.grant.as_ref().filter(|grant| covers(grant, gates, at)) {
        return Judgement::Allow {
            reason: Reason {
                detail: Some(format!("ticket {}", grant.ticket)),
                ..Reason::by_policies(ReasonCode::GrantRedeemed, policies(gates))
            },
            ticket: Some(grant.ticket.clone()),
            verdict: allowed(evaluation),
        };
    }
    let begun = standing.continuation.as_ref().and_then(|open| open.consent.as_ref());
    if let Some(consent) = begun.filter(|consent| covers(consent, gates, at)) {
        let reason = Reason {
            detail: Some(format!("ticket {}", consent.ticket)),
            ..Reason::by_policies(ReasonCode::Continued, policies(gates))
        };
        return Judgement::Allow { reason, ticket: None, verdict: allowed(evaluation) };
    }
    if let Some(waiting) = &standing.waits_as {
        return Judgement::Wait { ticket: waiting.ticket.clone(), gates: waiting.gates.clone() };
    }
    if let Some(human) = &standing.refused_by {
        let detail = format!("refused by {human}");
        return Judgement::Deny { reason: Reason::because(ReasonCode::ConsentDenied, &detail) };
    }
    for (within, whose) in [(standing.pending_of_agent, "of this agent"), (standing.pending, "in all")] {
        if within.count >= within.max {
            let detail = format!("{} proposals {whose} wait or are consented to", within.count);
            return Judgement::Deny { reason: Reason::because(ReasonCode::TooManyPending, &detail) };
        }
    }
    Judgement::Park { gates: gates.to_vec() }
}

/// Whether a grant passes every gate that fires now: one that its approvers saw, by enough of its approvers.
fn covers(grant: &GrantReading, gates: &[Gate], at: TimeMs) -> bool {
    grant.expires > at
        && gates.iter().all(|gate| grant.gates.contains(&gate.policy) && passes(gate, grant.humans.iter()))
}

/// The policies that carry `gates`.
pub(crate) fn policies(gates: &[Gate]) -> impl Iterator<Item = String> {
    gates.iter().map(|gate| gate.policy.to_string())
}
