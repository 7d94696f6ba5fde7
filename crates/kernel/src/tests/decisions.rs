//! The decision table, and what may come between reservation and decision.

use countersign_model::command::Deed;
use countersign_model::encoding::Bounded;
use countersign_model::facts::{Effect, SqlFacts};
use countersign_model::id::{LeaseName, SessionId};
use countersign_model::record::{KillScope, Status};
use countersign_model::{Body, Caller, Narrowed, TimeMs, Verdict};
use expect_test::{Expect, expect};

use super::fixture::*;
use crate::policy::EvaluationRequest;
use crate::replay::{Found, replay};
use crate::{BudgetScope, Command, Event, Limits};

fn killed(scope: KillScope) -> Event {
    Event::Killed { scope, epoch: 1, cancelled: 0, took_ms: 1 }
}

fn freeze(rig: &mut Rig) {
    let until = rig.now.saturating_add_ms(HOUR_MS);
    assert!(rig.order("ana", Deed::Freeze { environment: "production".parse().unwrap(), until }));
}

/// Prepares, proposes `effect` as `shop`, and compares decision and detail.
fn check(prepare: impl FnOnce(&mut Rig), effect: Effect, expected: Expect) {
    let mut rig = Rig::with_humans(vec![rule(BudgetScope::Run, 2)]);
    prepare(&mut rig);
    let record = rig.call(&shop(), action(&shop(), effect, "{}"));
    let detail = attempt(&record).reasons[0].detail.clone().unwrap_or_default();
    let policies = attempt(&record).reasons[0].policies.items.join(" ");
    expected.assert_eq(&format!("{} | {detail} | {policies}", words(&record)));
}

#[test]
fn the_decision_table() {
    check(|_| {}, Effect::Read, expect!["intent policy_permit |  | reads"]);
    check(|_| {}, Effect::Write, expect!["intent policy_permit |  | changes"]);
    check(|_| {}, Effect::Destructive, expect!["proposal approval_required |  | deletes"]);
    check(|_| {}, Effect::Spend, expect!["denial policy_forbid |  | no-spend"]);
    check(|_| {}, Effect::Opaque, expect!["denial no_permit |  | "]);
}

#[test]
fn what_denies_before_policy() {
    check(|rig| rig.now = TimeMs(START.0 + 8 * HOUR_MS), Effect::Read, expect!["denial token_expired |  | "]);
    check(
        |rig| assert!(rig.order("ana", Deed::RevokeToken { session: SessionId::new("s-1").unwrap() })),
        Effect::Read,
        expect!["denial token_invalid | the token was revoked | "],
    );
    check(|rig| drop(rig.step(killed(KillScope::All))), Effect::Read, expect!["denial killed | kill epoch 1 | "]);
    let agent = KillScope::Agent("shop".parse().unwrap());
    check(|rig| drop(rig.step(killed(agent))), Effect::Read, expect!["denial killed | kill epoch 1 | "]);
    let run = KillScope::Run("r-1".parse().unwrap());
    check(|rig| drop(rig.step(killed(run))), Effect::Read, expect!["denial killed | kill epoch 1 | "]);
    let other = KillScope::Run("r-2".parse().unwrap());
    check(|rig| drop(rig.step(killed(other))), Effect::Read, expect!["intent policy_permit |  | reads"]);
    check(freeze, Effect::Write, expect!["denial code_freeze | production is frozen until 1800003600000 ms | "]);
    check(freeze, Effect::Opaque, expect!["denial code_freeze | production is frozen until 1800003600000 ms | "]);
    check(freeze, Effect::Read, expect!["intent policy_permit |  | reads"]);
    check(
        |rig| {
            rig.call(&shop(), action(&shop(), Effect::Read, "1"));
            rig.call(&shop(), action(&shop(), Effect::Read, "2"));
        },
        Effect::Read,
        expect!["denial budget_exhausted | calls of run r-1: 0 spent and 2 in flight of 2 | "],
    );
}

#[test]
fn what_a_token_was_narrowed_to_is_judged_at_every_call() {
    let check = |narrowed: Narrowed, effect, expected: &str| {
        let mut rig = Rig::with_humans(vec![]);
        let caller = Caller { narrowed: Some(narrowed.clone()), ..shop() };
        let record = rig.call(&caller, action(&caller, effect, "{}"));
        assert_eq!(words(&record), expected);
        assert_eq!(attempt(&record).inputs.standing.narrowed, Some(narrowed), "it is on record");
        for line in replay(&rig.log, rig.kernel.settings(), &rig.bundle).lines {
            assert_eq!(line.found, Found::Identical, "{line:?}");
        }
    };
    let tools = |name: &str| Narrowed { tools: Some([name.parse().unwrap()].into()), ..Narrowed::default() };
    let upstreams = |name: &str| Narrowed { upstreams: Some([name.parse().unwrap()].into()), ..Narrowed::default() };
    let reads = || Narrowed { read_only: true, ..Narrowed::default() };
    check(tools("query"), Effect::Write, "intent policy_permit");
    check(tools("look"), Effect::Read, "denial token_narrowed");
    check(upstreams("crm"), Effect::Write, "intent policy_permit");
    check(upstreams("mail"), Effect::Read, "denial token_narrowed");
    check(reads(), Effect::Read, "intent policy_permit");
    check(reads(), Effect::Write, "denial token_narrowed");
    check(reads(), Effect::Opaque, "denial token_narrowed");
    check(Narrowed::default(), Effect::Destructive, "proposal approval_required");
}

#[test]
fn the_first_reason_in_order_wins() {
    let all = |rig: &mut Rig| {
        freeze(rig);
        rig.step(killed(KillScope::All));
        assert!(rig.order("ana", Deed::RevokeToken { session: SessionId::new("s-1").unwrap() }));
    };
    check(all, Effect::Write, expect!["denial token_invalid | the token was revoked | "]);
}

#[test]
fn a_stranger_is_denied() {
    let mut rig = Rig::new(vec![]);
    let stranger = caller("mallory", "s-1", "r-1");
    let record = rig.call(&stranger, action(&stranger, Effect::Read, "{}"));
    assert_eq!(words(&record), "denial unknown_agent");
    let mut tenant = shop();
    tenant.principal.tenant = "globex".parse().unwrap();
    let record = rig.call(&tenant, action(&tenant, Effect::Read, "{}"));
    assert_eq!(words(&record), "denial unknown_agent");
    // An action in another's name.
    let record = rig.call(&shop(), action(&caller("guest", "s-1", "r-1"), Effect::Read, "{}"));
    assert_eq!(words(&record), "denial unknown_agent");
}

#[test]
fn calls_in_flight_are_bounded() {
    let mut settings = settings(vec![]);
    settings.limits = Limits { in_flight_max: 2, ..Limits::default() };
    let mut rig = Rig::with(settings);
    let first = rig.propose(&shop(), action(&shop(), Effect::Read, "1")).unwrap_err();
    let second = rig.call(&shop(), action(&shop(), Effect::Read, "2"));
    let third = rig.call(&shop(), action(&shop(), Effect::Read, "3"));
    assert_eq!(words(&third), "denial overloaded");
    rig.end(attempt(&second).reserved_at, Status::Done);
    assert!(is_intent(&rig.call(&shop(), action(&shop(), Effect::Read, "4"))));
    rig.step(Event::Abandoned { call: first.0 });
    assert!(is_intent(&rig.call(&shop(), action(&shop(), Effect::Read, "5"))));
}

/// Proposes a write, lets something happen, and only then tells policy's answer.
fn between(happens: impl FnOnce(&mut Rig), expected: &str) {
    let mut rig = Rig::with_humans(vec![rule(BudgetScope::Run, 1)]);
    let (call, evaluation) = *rig.propose(&shop(), action(&shop(), Effect::Write, "{}")).unwrap_err();
    assert!(evaluation.auto);
    happens(&mut rig);
    let record = rig.answer(call, evaluation);
    assert_eq!(words(&record), expected);
    let is_held = counters(&rig.kernel).contains_key("calls of run r-1");
    assert_eq!(is_held, is_intent(&record), "a denial releases what it held");
}

#[test]
fn what_happens_between_reservation_and_decision_counts() {
    between(|_| {}, "intent policy_permit");
    between(|rig| drop(rig.step(killed(KillScope::All))), "denial killed");
    between(freeze, "denial code_freeze");
    between(
        |rig| assert!(rig.order("ana", Deed::RevokeToken { session: SessionId::new("s-1").unwrap() })),
        "denial token_invalid",
    );
    between(|rig| rig.now = TimeMs(START.0 + 8 * HOUR_MS), "denial token_expired");
}

#[test]
fn errors_of_policy_deny() {
    let answer = |change: fn(&mut countersign_model::record::Evaluation)| {
        let mut rig = Rig::new(vec![rule(BudgetScope::Run, 1)]);
        let (call, mut evaluation) = *rig.propose(&shop(), action(&shop(), Effect::Read, "{}")).unwrap_err();
        change(&mut evaluation);
        let record = rig.answer(call, evaluation);
        assert!(counters(&rig.kernel).values().all(|(_, reserved)| *reserved == 0));
        words(&record)
    };
    assert_eq!(answer(|e| e.errors = Bounded::new(["overflow".to_owned()])), "denial policy_error");
    assert_eq!(answer(|e| e.timed_out = true), "denial evaluation_timeout");
    assert_eq!(answer(|e| e.ceiling = false), "denial policy_error");
    assert_eq!(answer(|e| e.auto = false), "denial policy_error");
}

#[test]
fn a_late_second_answer_is_ignored() {
    let mut rig = Rig::new(vec![]);
    let (call, evaluation) = *rig.propose(&shop(), action(&shop(), Effect::Read, "{}")).unwrap_err();
    rig.step(Event::Abandoned { call });
    assert_eq!(words(&rig.log.last().unwrap().record), "denial abandoned");
    let commands = rig.step(Event::Evaluated { call, evaluation });
    assert_eq!(commands, vec![]);
}

#[test]
fn the_question_can_be_rebuilt_from_the_record() {
    let mut rig = Rig::with_humans(vec![]);
    rig.call(&shop(), action(&shop(), Effect::Read, "warm"));
    let until = rig.now.saturating_add_ms(HOUR_MS);
    let lease =
        Deed::Lease { session: SessionId::new("s-1").unwrap(), name: LeaseName::new("outbound").unwrap(), until };
    assert!(rig.order("ana", lease));
    let mut wanted = action(&shop(), Effect::Outbound, "{}");
    wanted.facts.sql = Some(SqlFacts { statements: 2, kinds: vec!["select".to_owned()], ..SqlFacts::default() });
    let salts = rig.salts();
    let event = Event::Proposed { caller: shop(), action: Box::new(wanted), salts };
    let Some(Command::Evaluate { call, request, .. }) = rig.step(event).pop() else { panic!() };
    rig.now = rig.now.saturating_add_ms(2 * HOUR_MS);
    let evaluation = rig.bundle.evaluate(&request);
    let record = rig.answer(call, evaluation.clone());
    assert_eq!(words(&record), "intent policy_permit");
    assert_eq!(EvaluationRequest::from_attempt(attempt(&record), &request.arguments), request);
    assert_eq!(attempt(&record).inputs.evaluation, Some(evaluation));
}

#[test]
fn time_does_not_go_back() {
    let mut rig = Rig::new(vec![]);
    rig.now = START.saturating_add_ms(1_000);
    rig.call(&shop(), action(&shop(), Effect::Read, "1"));
    rig.now = START;
    let record = rig.call(&shop(), action(&shop(), Effect::Read, "2"));
    assert_eq!(record.at, START.saturating_add_ms(1_000));
}

#[test]
fn facts_that_do_not_fit_a_record_deny() {
    let mut rig = Rig::new(vec![rule(BudgetScope::Run, 1)]);
    let mut wanted = action(&shop(), Effect::Read, "{}");
    let names = |n: usize| (0..n).map(|i| format!("{i:0128}")).collect::<Vec<_>>();
    wanted.facts.sql = Some(SqlFacts { tables: names(300), functions: names(300), ..SqlFacts::default() });
    let record = rig.call(&shop(), wanted);
    assert_eq!(words(&record), "denial record_too_long");
    assert_eq!(attempt(&record).verdict, Verdict::Deny);
    assert_eq!(counters(&rig.kernel).len(), 0);
}

#[test]
fn a_second_identical_call_meets_the_proposal_that_the_first_just_made() {
    let mut rig = Rig::new(vec![rule(BudgetScope::Run, 9)]);
    let wanted = action(&shop(), Effect::Destructive, "{}");
    let (first, answer) = *rig.propose(&shop(), wanted.clone()).unwrap_err();
    let (second, again) = *rig.propose(&shop(), wanted).unwrap_err();
    let parked = rig.answer(first, answer);
    let waits = rig.answer(second, again);
    assert_eq!(words(&waits), "waiting waiting");
    assert_eq!(ticket(&waits), ticket(&parked));
    assert_eq!(counters(&rig.kernel).len(), 0, "neither holds a budget while it waits");
    assert_eq!(rig.log.iter().filter(|l| matches!(l.record.body, Body::Proposal(_))).count(), 1);
}
