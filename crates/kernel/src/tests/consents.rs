//! Proposals, consents and grants.

use countersign_model::command::Deed;
use countersign_model::facts::Effect;
use countersign_model::id::TicketId;
use countersign_model::preview::{preview, preview_hash};
use countersign_model::record::{KillScope, Status};
use countersign_model::{Body, Digest, Record};

use super::fixture::*;
use crate::{BudgetScope, Event, Limits};

const MINUTE_MS: u64 = 60_000;

fn deletion(arguments: &str) -> countersign_model::Action {
    action(&shop(), Effect::Destructive, arguments)
}

/// A rig with one durable proposal.
fn parked() -> (Rig, TicketId) {
    let mut rig = Rig::with_humans(vec![rule(BudgetScope::Run, 1)]);
    let record = rig.call(&shop(), deletion("{}"));
    assert_eq!(words(&record), "proposal approval_required");
    let ticket = ticket(&record);
    (rig, ticket)
}

fn granted() -> (Rig, TicketId) {
    let (mut rig, ticket) = parked();
    assert!(rig.consent(&ticket, ("ana", "ana"), true), "{:?}", rig.refusals);
    (rig, ticket)
}

#[test]
fn a_proposal_says_what_was_proposed_and_holds_no_budget() {
    let (rig, ticket) = parked();
    let pending = rig.kernel.proposal(&ticket).unwrap();
    assert_eq!(pending.action(), deletion("{}"));
    assert_eq!(pending.proposal.preview, preview_hash(&preview(&deletion("{}"))));
    assert_eq!(pending.expires, START.saturating_add_ms(15 * MINUTE_MS));
    assert_eq!(counters(&rig.kernel).len(), 0);
    assert!(ticket.as_str().starts_with("t-") && ticket.as_str().len() == 12);
}

#[test]
fn consent_lets_the_identical_retry_run_once() {
    let (mut rig, ticket) = granted();
    let record = rig.call(&shop(), deletion("{}"));
    assert_eq!(words(&record), "intent grant_redeemed");
    assert_eq!(attempt(&record).ticket.as_ref(), Some(&ticket));
    assert!(attempt(&record).inputs.granted);
    // Read alone, the record says no more than its grant did: at its end it is worth nothing.
    let mut late = attempt(&record).clone();
    late.inputs.standing.grant.as_mut().unwrap().expires = record.at;
    let judged = crate::judge::judge(&late, record.at);
    assert!(!matches!(judged, crate::judge::Judgement::Allow { .. }), "{judged:?}");
    rig.end(attempt(&record).reserved_at, Status::NotStarted);
    assert_eq!(words(&rig.call(&shop(), deletion("{}"))), "proposal approval_required");
}

#[test]
fn two_retries_at_once_redeem_it_once() {
    let mut rig = Rig::with_humans(vec![]);
    let record = rig.call(&shop(), deletion("{}"));
    assert!(rig.consent(&ticket(&record), ("ana", "ana"), true));
    let (first, a) = *rig.propose(&shop(), deletion("{}")).unwrap_err();
    let (second, b) = *rig.propose(&shop(), deletion("{}")).unwrap_err();
    assert_eq!(words(&rig.answer(first, a)), "intent grant_redeemed");
    assert_eq!(words(&rig.answer(second, b)), "proposal approval_required");
}

#[test]
fn a_changed_call_is_another_call() {
    let changes: [fn(&mut countersign_model::Action); 4] = [
        |a| a.arguments = b"{\"x\":1}".to_vec(),
        |a| a.meta = b"{}".to_vec(),
        |a| a.manifest = Digest([8; 32]),
        |a| a.tool = "purge".parse().unwrap(),
    ];
    for change in changes {
        let (mut rig, ticket) = granted();
        let mut other = deletion("{}");
        change(&mut other);
        let record = rig.call(&shop(), other);
        assert_eq!(words(&record), "proposal approval_required");
        assert_ne!(attempt(&record).ticket, Some(ticket));
    }
    // Another run of the same agent cannot use it either, but another session of the run can.
    let (mut rig, _) = granted();
    let other = caller("shop", "s-1", "r-9");
    let record = rig.call(&other, action(&other, Effect::Destructive, "{}"));
    assert_eq!(words(&record), "proposal approval_required");
    let other = caller("shop", "s-2", "r-1");
    let record = rig.call(&other, action(&other, Effect::Destructive, "{}"));
    assert_eq!(words(&record), "intent grant_redeemed");
}

#[test]
fn the_same_call_waits_under_the_same_ticket() {
    let (mut rig, ticket) = parked();
    let record = rig.call(&shop(), deletion("{}"));
    assert_eq!(words(&record), "waiting waiting");
    assert_eq!(attempt(&record).ticket.as_ref(), Some(&ticket));
    assert_eq!(counters(&rig.kernel).len(), 0);
    rig.step(Event::Killed { scope: KillScope::All, epoch: 1, cancelled: 0, took_ms: 0 });
    assert_eq!(words(&rig.call(&shop(), deletion("{}"))), "denial killed");
}

#[test]
fn consent_does_not_open_what_is_asked_again() {
    let kill =
        |rig: &mut Rig| drop(rig.step(Event::Killed { scope: KillScope::All, epoch: 1, cancelled: 0, took_ms: 0 }));
    let freeze = |rig: &mut Rig| {
        let until = rig.now.saturating_add_ms(HOUR_MS);
        assert!(rig.order("ben", Deed::Freeze { environment: "production".parse().unwrap(), until }));
    };
    let spend = |rig: &mut Rig| drop(rig.call(&shop(), action(&shop(), Effect::Read, "{}")));
    fn check(happens: impl Fn(&mut Rig), expected: &str) {
        let (mut rig, ticket) = granted();
        happens(&mut rig);
        assert_eq!(words(&rig.call(&shop(), deletion("{}"))), expected);
        assert!(rig.kernel.proposal(&ticket).unwrap().granted(), "a denied retry does not use up the grant");
    }
    check(kill, "denial killed");
    check(freeze, "denial code_freeze");
    check(spend, "denial budget_exhausted");
}

fn refused(rig: &mut Rig, ticket: &TicketId, who: (&str, &str), why: &str) {
    assert!(!rig.consent(ticket, who, true), "`{who:?}` was let in");
    let last = rig.refusals.last().unwrap();
    assert!(last.contains(why), "`{last}` does not say `{why}`");
}

#[test]
fn consents_that_do_not_count() {
    let (mut rig, ticket) = parked();
    refused(&mut rig, &ticket, ("ana", "mallory"), "the signature is not `ana`'s");
    refused(&mut rig, &ticket, ("mallory", "mallory"), "not enrolled");
    refused(&mut rig, &ticket, ("cleo", "cleo"), "no approver");
    refused(&mut rig, &TicketId::new("t-nothing").unwrap(), ("ana", "ana"), "nothing waits");
    // A signature over a refusal is none over an approval.
    let signed_no = {
        let mut other = rig.kernel.clone();
        std::mem::swap(&mut rig.kernel, &mut other);
        assert!(rig.consent(&ticket, ("ana", "ana"), false));
        let Body::Consent(consent) = rig.log.pop().unwrap().record.body else { panic!() };
        rig.kernel = other;
        consent.signature
    };
    rig.step(Event::Consented { ticket: ticket.clone(), human: human("ana"), approved: true, signature: signed_no });
    assert!(rig.refusals.last().unwrap().contains("the signature is not"));
    assert!(!rig.kernel.proposal(&ticket).unwrap().granted());
    assert!(rig.consent(&ticket, ("ben", "ben"), true));
    refused(&mut rig, &ticket, ("ana", "ana"), "nothing waits");
}

#[test]
fn a_consent_to_one_leaf_is_none_to_another() {
    let (mut rig, first) = parked();
    let second = ticket(&rig.call(&shop(), deletion("{\"other\":1}")));
    assert!(rig.consent(&first, ("ana", "ana"), true));
    let Body::Consent(consent) = rig.log.last().unwrap().record.body.clone() else { panic!() };
    let event = Event::Consented { ticket: second, human: human("ana"), approved: true, signature: consent.signature };
    rig.step(event);
    assert!(rig.refusals.last().unwrap().contains("the signature is not"));
}

#[test]
fn nobody_consents_to_what_is_not_on_disk() {
    let mut rig = Rig::with_humans(vec![]);
    let (call, evaluation) = *rig.propose(&shop(), deletion("{}")).unwrap_err();
    rig.step(Event::Evaluated { call, evaluation });
    let ticket = ticket(&rig.log.last().unwrap().record);
    refused(&mut rig, &ticket, ("ana", "ana"), "not yet on disk");
    rig.step(Event::AppendFailed { call, surely_absent: false });
    refused(&mut rig, &ticket, ("ana", "ana"), "nothing waits");
}

#[test]
fn a_quorum_counts_humans_once() {
    let mut rig = Rig::with_humans(vec![]);
    let mut wanted = action(&shop(), Effect::Write, "{}");
    wanted.tool = "purge".parse().unwrap();
    let ticket = ticket(&rig.call(&shop(), wanted.clone()));
    assert!(rig.consent(&ticket, ("cleo", "cleo"), true));
    assert!(!rig.kernel.proposal(&ticket).unwrap().granted());
    refused(&mut rig, &ticket, ("cleo", "cleo"), "already");
    assert_eq!(words(&rig.call(&shop(), wanted.clone())), "waiting waiting");
    assert!(rig.consent(&ticket, ("ana", "ana"), true));
    assert_eq!(words(&rig.call(&shop(), wanted)), "intent grant_redeemed");
}

#[test]
fn every_gate_wants_its_own_approvers() {
    let mut rig = Rig::with_humans(vec![]);
    let mut wanted = deletion("{}");
    wanted.tool = "purge".parse().unwrap();
    let record = rig.call(&shop(), wanted.clone());
    let ticket = ticket(&record);
    assert_eq!(rig.kernel.proposal(&ticket).unwrap().expires, START.saturating_add_ms(10 * MINUTE_MS));
    // Cleo and dan count at the gate without a list, not at the one of ana and ben.
    let enrol = Deed::Enrol { human: human("dan"), key: key("dan").verifying_key().to_bytes() };
    assert!(rig.order("ana", enrol));
    assert!(rig.consent(&ticket, ("cleo", "cleo"), true));
    assert!(rig.consent(&ticket, ("dan", "dan"), true));
    assert!(!rig.kernel.proposal(&ticket).unwrap().granted());
    assert!(rig.consent(&ticket, ("ben", "ben"), true));
    assert_eq!(words(&rig.call(&shop(), wanted)), "intent grant_redeemed");
}

#[test]
fn a_grant_that_no_longer_covers_its_gates_is_parked_anew() {
    let (mut rig, old) = granted();
    let (call, mut evaluation) = *rig.propose(&shop(), deletion("{}")).unwrap_err();
    let mut gate = evaluation.gates[0].clone();
    gate.policy = "stricter".parse().unwrap();
    gate.approvers.clear();
    evaluation.gates.push(gate);
    let record = rig.answer(call, evaluation);
    assert_eq!(words(&record), "proposal approval_required");
    assert_ne!(ticket(&record), old);
    assert!(rig.kernel.proposal(&old).is_none());
}

#[test]
fn a_refusal_holds_until_the_proposal_would_have_lapsed() {
    let (mut rig, ticket) = parked();
    assert!(rig.consent(&ticket, ("ben", "ben"), false));
    let record = rig.call(&shop(), deletion("{}"));
    assert_eq!(words(&record), "denial consent_denied");
    assert_eq!(attempt(&record).reasons[0].detail.as_deref(), Some("refused by ben"));
    rig.restart();
    assert_eq!(words(&rig.call(&shop(), deletion("{}"))), "denial consent_denied");
    rig.now = START.saturating_add_ms(15 * MINUTE_MS);
    assert_eq!(words(&rig.call(&shop(), deletion("{}"))), "proposal approval_required");
}

fn expiries(rig: &Rig) -> Vec<(TicketId, bool)> {
    let expired = |record: &Record| match &record.body {
        Body::Expired(expired) => Some((expired.ticket.clone(), expired.granted)),
        _ => None,
    };
    rig.log.iter().filter_map(|leaf| expired(&leaf.record)).collect()
}

#[test]
fn proposals_and_grants_lapse_on_record() {
    let (mut rig, ticket) = parked();
    rig.now = START.saturating_add_ms(15 * MINUTE_MS);
    rig.step(Event::Tick);
    assert_eq!(expiries(&rig), vec![(ticket.clone(), false)]);
    refused(&mut rig, &ticket, ("ana", "ana"), "nothing waits");

    let (mut rig, ticket) = granted();
    rig.now = START.saturating_add_ms(15 * MINUTE_MS);
    let record = rig.call(&shop(), deletion("{}"));
    assert_eq!(expiries(&rig), vec![(ticket, true)]);
    assert_eq!(words(&record), "proposal approval_required");
}

#[test]
fn a_grant_that_lapses_between_reservation_and_decision_is_not_redeemed() {
    let (mut rig, _) = granted();
    let (call, evaluation) = *rig.propose(&shop(), deletion("{}")).unwrap_err();
    rig.now = START.saturating_add_ms(15 * MINUTE_MS);
    assert_eq!(words(&rig.answer(call, evaluation)), "proposal approval_required");
}

#[test]
fn proposals_are_bounded_by_agent_and_in_all() {
    let mut settings = settings(vec![]);
    settings.limits = Limits { pending_per_agent_max: 2, pending_max: 2, ..Limits::default() };
    let mut rig = Rig::with(settings);
    for expected in ["proposal approval_required", "proposal approval_required", "denial too_many_pending"] {
        let arguments = rig.log.len().to_string();
        assert_eq!(words(&rig.call(&shop(), deletion(&arguments))), expected);
    }
    rig.now = START.saturating_add_ms(15 * MINUTE_MS);
    assert_eq!(words(&rig.call(&shop(), deletion("later"))), "proposal approval_required");
}

#[test]
fn a_lost_record_keeps_the_grant_consumed_and_the_charge() {
    let (mut rig, ticket) = granted();
    let (call, evaluation) = *rig.propose(&shop(), deletion("{}")).unwrap_err();
    rig.step(Event::Evaluated { call, evaluation });
    rig.step(Event::AppendFailed { call, surely_absent: false });
    assert!(rig.kernel.proposal(&ticket).is_none());
    rig.step(ended(call, Status::NotStarted));
    assert_eq!(counters(&rig.kernel)["calls of run r-1"], (0, 1));
    assert_eq!(rig.kernel.in_flight(), 0);
    assert_eq!(words(&rig.call(&shop(), deletion("{}"))), "denial budget_exhausted");
}
