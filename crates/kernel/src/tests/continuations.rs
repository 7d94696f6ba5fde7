//! Calls that were answered with a question and go on: charged once, continued once, by nobody else, and not for ever.

use countersign_model::command::Deed;
use countersign_model::facts::Effect;
use countersign_model::record::{CONTINUATION_MS, ContinuationReading, KillScope, Outcome, Status, VaultScope};
use countersign_model::{Action, Body, Caller, Digest, ReasonCode, Record};

use super::fixture::*;
use crate::continuation::{ROUNDS_MAX, WAITING_MAX};
use crate::replay::{Found, replay};
use crate::{BudgetScope, Event};

const INVALID: &str = "denial continuation_invalid";

/// Ends the intent at the end of the log with a question, and says its leaf.
fn asked(rig: &mut Rig, record: &Record) -> usize {
    assert!(is_intent(record), "{}", words(record));
    let call = attempt(record).reserved_at;
    let at = rig.log.iter().rposition(|leaf| leaf.record == *record).unwrap();
    rig.end(call, Status::InputRequired);
    at
}

/// A rig in which a read was answered with a question, with the leaf of its intent.
fn waiting(cap: u64) -> (Rig, usize) {
    let mut rig = Rig::with_humans(vec![rule(BudgetScope::Run, cap)]);
    let record = rig.call(&shop(), action(&shop(), Effect::Read, "{\"id\":1}"));
    let leaf = asked(&mut rig, &record);
    (rig, leaf)
}

fn go_on(rig: &mut Rig, leaf: usize, input: &str) -> Record {
    let action = rig.going_on(leaf, input);
    rig.call(&shop(), action)
}

fn outcome(rig: &Rig) -> Outcome {
    match &rig.log.last().unwrap().record.body {
        Body::Outcome(outcome) => outcome.clone(),
        other => panic!("no outcome: {other:?}"),
    }
}

/// Why the last record denied, for humans.
fn why(record: &Record) -> &str {
    attempt(record).reasons[0].detail.as_deref().unwrap()
}

fn all_identical(mut rig: Rig) {
    rig.step(Event::Stopped);
    for line in replay(&rig.log, rig.kernel.settings(), &rig.bundle).lines {
        assert_eq!(line.found, Found::Identical, "{line:?}");
    }
    let folded = refolded(rig.kernel.settings().clone(), &rig.log);
    assert_eq!(folded.state, rig.kernel.state);
}

#[test]
fn going_on_is_charged_once_even_where_the_limit_is_met() {
    let (mut rig, leaf) = waiting(1);
    let once = |rig: &Rig| assert_eq!(counters(&rig.kernel)["calls of run r-1"], (1, 0));
    once(&rig);
    assert_eq!(outcome(&rig).charged, 1);
    let record = go_on(&mut rig, leaf, "{\"name\":1}");
    assert_eq!(words(&record), "intent policy_permit");
    once(&rig);
    assert_eq!(rig.kernel.in_flight(), 1);
    rig.end(attempt(&record).reserved_at, Status::Done);
    assert_eq!(outcome(&rig).charged, 0);
    once(&rig);
    let next = rig.call(&shop(), action(&shop(), Effect::Read, "{\"id\":1}"));
    assert_eq!(words(&next), "denial budget_exhausted");
    all_identical(rig);
}

#[test]
fn a_call_goes_on_once() {
    let (mut rig, leaf) = waiting(9);
    let first = go_on(&mut rig, leaf, "1");
    assert_eq!(attempt(&first).continues.as_ref().unwrap().intent.0, leaf as u64);
    for input in ["1", "2"] {
        let again = go_on(&mut rig, leaf, input);
        assert_eq!(
            (words(&again).as_str(), why(&again)),
            (INVALID, "no call waits there to be continued, or not any more")
        );
    }
    rig.end(attempt(&first).reserved_at, Status::Done);
    assert_eq!(words(&go_on(&mut rig, leaf, "1")), INVALID);
    rig.restart();
    assert_eq!(words(&go_on(&mut rig, leaf, "1")), INVALID);
    all_identical(rig);
}

/// Two at once are both asked about, and one of them goes on.
#[test]
fn two_at_once_are_one() {
    let (mut rig, leaf) = waiting(9);
    let (one, two) = (rig.going_on(leaf, "1"), rig.going_on(leaf, "2"));
    let (a, yes) = *rig.propose(&shop(), one).unwrap_err();
    let (b, also) = *rig.propose(&shop(), two).unwrap_err();
    assert_eq!(words(&rig.answer(b, also)), "intent policy_permit");
    assert_eq!(words(&rig.answer(a, yes)), INVALID);
    all_identical(rig);
}

#[test]
fn nobody_else_goes_on_with_it_and_no_other_action() {
    let (mut rig, leaf) = waiting(9);
    let mut check = |caller: &Caller, change: &dyn Fn(&mut Action), expected: &str| {
        let mut action = rig.going_on(leaf, "1");
        action.principal = caller.principal.clone();
        change(&mut action);
        let record = rig.call(caller, action);
        assert_eq!((words(&record).as_str(), why(&record)), (INVALID, expected));
    };
    let (whose, what) =
        ("the call that waits there is another caller's", "the call that waits there is another action");
    check(&caller("guest", "s-1", "r-1"), &|_| {}, whose);
    check(&caller("shop", "s-2", "r-1"), &|_| {}, whose);
    check(&caller("shop", "s-1", "r-2"), &|_| {}, whose);
    check(&shop(), &|action| action.arguments = b"{\"id\":2}".to_vec(), what);
    check(&shop(), &|action| action.meta = b"{}".to_vec(), what);
    check(&shop(), &|action| action.target = "lab".parse().unwrap(), what);
    // An attenuated token is the same session.
    let mut deeper = shop();
    deeper.principal.depth = 1;
    let mut action = rig.going_on(leaf, "1");
    action.principal = deeper.principal.clone();
    assert_eq!(words(&rig.call(&deeper, action)), "intent policy_permit");
    all_identical(rig);
}

/// Only an intent whose outcome asks leaves something to go on with, and only after it.
#[test]
fn only_what_asked_goes_on() {
    for status in [Status::Done, Status::Failed, Status::NotStarted, Status::Unknown] {
        let mut rig = Rig::new(vec![]);
        let record = rig.call(&shop(), action(&shop(), Effect::Read, "{}"));
        let leaf = rig.log.len() - 1;
        assert_eq!(words(&go_on(&mut rig, leaf, "1")), INVALID, "it runs still");
        rig.end(attempt(&record).reserved_at, status);
        assert_eq!(words(&go_on(&mut rig, leaf, "1")), INVALID, "{status:?}");
        all_identical(rig);
    }
    // A proposal and a denial are no intents.
    let mut rig = Rig::with_humans(vec![]);
    for effect in [Effect::Destructive, Effect::Spend] {
        rig.call(&shop(), action(&shop(), effect, "{}"));
        let leaf = rig.log.len() - 1;
        assert_eq!(words(&go_on(&mut rig, leaf, "1")), INVALID);
    }
    all_identical(rig);
}

#[test]
fn a_kill_ends_it_for_good() {
    let (mut rig, leaf) = waiting(9);
    rig.step(Event::Killed { scope: KillScope::Run("r-1".parse().unwrap()), epoch: 1, cancelled: 0, took_ms: 0 });
    assert_eq!(words(&go_on(&mut rig, leaf, "1")), "denial killed");
    assert!(rig.order("ana", Deed::Resume { scope: KillScope::Run("r-1".parse().unwrap()) }), "{:?}", rig.refusals);
    assert_eq!(words(&go_on(&mut rig, leaf, "1")), INVALID);
    all_identical(rig);
    // And what is answered under a kill leaves nothing behind.
    let mut rig = Rig::with_humans(vec![]);
    let record = rig.call(&shop(), action(&shop(), Effect::Read, "{}"));
    rig.step(Event::Killed { scope: KillScope::All, epoch: 1, cancelled: 0, took_ms: 0 });
    let leaf = rig.log.iter().position(|leaf| leaf.record == record).unwrap();
    rig.end(attempt(&record).reserved_at, Status::InputRequired);
    assert!(rig.order("ana", Deed::Resume { scope: KillScope::All }), "{:?}", rig.refusals);
    assert_eq!(words(&go_on(&mut rig, leaf, "1")), INVALID);
    // Another run's kill ends nothing of this one.
    let (mut rig, leaf) = waiting(9);
    rig.step(Event::Killed { scope: KillScope::Run("r-2".parse().unwrap()), epoch: 1, cancelled: 0, took_ms: 0 });
    assert_eq!(words(&go_on(&mut rig, leaf, "1")), "intent policy_permit");
}

#[test]
fn it_waits_for_a_time_and_not_longer() {
    let (mut rig, leaf) = waiting(9);
    rig.now = START.saturating_add_ms(CONTINUATION_MS - 1);
    let action = rig.going_on(leaf, "1");
    let (call, yes) = *rig.propose(&shop(), action).unwrap_err();
    // What is decided late is too late.
    rig.now = START.saturating_add_ms(CONTINUATION_MS);
    assert_eq!(words(&rig.answer(call, yes)), INVALID);
    assert_eq!(rig.kernel.state.continuables, Default::default());
    all_identical(rig);
    let (mut rig, leaf) = waiting(9);
    rig.now = START.saturating_add_ms(CONTINUATION_MS - 1);
    let record = go_on(&mut rig, leaf, "1");
    assert_eq!(words(&record), "intent policy_permit");
    // Read alone, the record allows no more than the call that waited did.
    let judged = |change: &dyn Fn(&mut ContinuationReading)| {
        let mut other = attempt(&record).clone();
        change(other.inputs.standing.continuation.as_mut().unwrap());
        crate::before_policy(&other, record.at).map(|reason| reason.code)
    };
    assert_eq!(judged(&|_| {}), None);
    assert_eq!(judged(&|open| open.until = record.at), Some(ReasonCode::ContinuationInvalid));
    assert_eq!(judged(&|open| open.rounds = ROUNDS_MAX), Some(ReasonCode::ContinuationInvalid));
}

#[test]
fn everything_is_asked_again() {
    let (mut rig, leaf) = waiting(9);
    let revoke = Deed::RevokeToken { session: "s-1".parse().unwrap() };
    assert!(rig.order("ana", revoke), "{:?}", rig.refusals);
    assert_eq!(words(&go_on(&mut rig, leaf, "1")), "denial token_invalid");
    // A write under a freeze that came in between.
    let mut rig = Rig::with_humans(vec![]);
    let record = rig.call(&shop(), action(&shop(), Effect::Write, "{}"));
    let leaf = asked(&mut rig, &record);
    let until = rig.now.saturating_add_ms(HOUR_MS);
    assert!(rig.order("ben", Deed::Freeze { environment: "production".parse().unwrap(), until }));
    assert_eq!(words(&go_on(&mut rig, leaf, "1")), "denial code_freeze");
    assert!(rig.order("ben", Deed::Thaw { environment: "production".parse().unwrap() }));
    // A denial uses nothing up. Policy's answer counts, whatever it was before.
    let action = rig.going_on(leaf, "1");
    let (call, mut answer) = *rig.propose(&shop(), action).unwrap_err();
    (answer.auto, answer.ceiling) = (false, false);
    assert_eq!(words(&rig.answer(call, answer)), "denial policy_forbid");
    assert_eq!(words(&go_on(&mut rig, leaf, "1")), "intent policy_permit");
}

#[test]
fn rounds_on_one_charge_are_bounded() {
    let (mut rig, mut leaf) = waiting(1);
    for _ in 0..ROUNDS_MAX {
        let record = go_on(&mut rig, leaf, "1");
        leaf = asked(&mut rig, &record);
    }
    assert_eq!(words(&go_on(&mut rig, leaf, "1")), INVALID);
    assert_eq!(counters(&rig.kernel)["calls of run r-1"], (1, 0));
    all_identical(rig);
}

#[test]
fn what_waits_is_bounded_by_agent_and_the_oldest_goes() {
    let mut rig = Rig::new(vec![]);
    let mut leaves = Vec::new();
    let (other, shop) = (caller("guest", "s-9", "r-9"), shop());
    for (who, id) in std::iter::once((&other, 0)).chain((0..=WAITING_MAX).map(|id| (&shop, id))) {
        let record = rig.call(who, action(who, Effect::Read, &format!("{{\"id\":{id}}}")));
        leaves.push(asked(&mut rig, &record));
    }
    assert_eq!(words(&go_on(&mut rig, leaves[1], "1")), INVALID);
    assert_eq!(words(&go_on(&mut rig, leaves[2], "1")), "intent policy_permit");
    let action = rig.going_on(leaves[0], "1");
    assert_eq!(words(&rig.call(&other, action)), "intent policy_permit");
}

/// A rig in which a consented deletion was answered with a question.
fn consented() -> (Rig, usize) {
    let mut rig = Rig::with_humans(vec![]);
    let deletion = || action(&shop(), Effect::Destructive, "{}");
    let parked = rig.call(&shop(), deletion());
    assert!(rig.consent(&ticket(&parked), ("ana", "ana"), true));
    let record = rig.call(&shop(), deletion());
    assert_eq!(words(&record), "intent grant_redeemed");
    let leaf = asked(&mut rig, &record);
    (rig, leaf)
}

#[test]
fn the_consent_of_the_first_call_goes_on_with_it() {
    let (mut rig, leaf) = consented();
    let record = go_on(&mut rig, leaf, "1");
    assert_eq!(words(&record), "intent continued");
    assert_eq!(attempt(&record).ticket, None, "nothing is redeemed");
    let leaf = asked(&mut rig, &record);
    assert_eq!(words(&go_on(&mut rig, leaf, "2")), "intent continued", "and with the next round");
    // The action alone is a new one.
    let deletion = action(&shop(), Effect::Destructive, "{}");
    assert_eq!(words(&rig.call(&shop(), deletion)), "proposal approval_required");
    all_identical(rig);
}

/// A gate that the consent did not pass parks as usual, and going on waits as long as the human is asked.
#[test]
fn a_consent_that_covers_no_longer_parks() {
    let (mut rig, leaf) = consented();
    let park = |rig: &mut Rig, input: &str| {
        let action = rig.going_on(leaf, input);
        let (call, mut evaluation) = *rig.propose(&shop(), action).unwrap_err();
        let mut gate = evaluation.gates[0].clone();
        gate.policy = "stricter".parse().unwrap();
        gate.timeout_ms = 4 * CONTINUATION_MS;
        evaluation.gates = vec![gate];
        rig.answer(call, evaluation)
    };
    let record = park(&mut rig, "1");
    assert_eq!(words(&record), "proposal approval_required");
    assert_eq!(words(&go_on(&mut rig, leaf, "1")), "waiting waiting");
    rig.now = START.saturating_add_ms(2 * CONTINUATION_MS);
    assert!(rig.consent(&ticket(&record), ("ana", "ana"), true), "{:?}", rig.refusals);
    let granted = park(&mut rig, "1");
    assert_eq!(words(&granted), "intent grant_redeemed");
    assert_eq!(attempt(&granted).ticket, Some(ticket(&record)));
    assert_eq!(words(&go_on(&mut rig, leaf, "1")), INVALID);
}

/// An approver has seen the answers: consent to going on with some of them is none to others, nor to the action alone.
#[test]
fn consent_to_going_on_is_consent_to_its_answers() {
    let wanted = || Action { tool: "purge".parse().unwrap(), ..action(&shop(), Effect::Write, "{}") };
    let start = || {
        let mut rig = Rig::with_humans(vec![]);
        let (call, mut evaluation) = *rig.propose(&shop(), wanted()).unwrap_err();
        (evaluation.auto, evaluation.gates) = (true, Vec::new());
        let record = rig.answer(call, evaluation);
        let leaf = asked(&mut rig, &record);
        let parked = go_on(&mut rig, leaf, "\"A\"");
        assert_eq!(words(&parked), "proposal approval_required");
        for name in ["ana", "ben"] {
            assert!(rig.consent(&ticket(&parked), (name, name), true), "{:?}", rig.refusals);
        }
        (rig, leaf)
    };
    let (mut rig, leaf) = start();
    assert_eq!(words(&go_on(&mut rig, leaf, "\"A\"")), "intent grant_redeemed");
    let (mut rig, leaf) = start();
    assert_eq!(words(&go_on(&mut rig, leaf, "\"B\"")), "proposal approval_required");
    let (mut rig, _) = start();
    assert_eq!(words(&rig.call(&shop(), wanted())), "proposal approval_required");
    // Nor does a consent to the action alone let it go on with anything.
    let mut rig = Rig::with_humans(vec![]);
    let (call, mut evaluation) = *rig.propose(&shop(), wanted()).unwrap_err();
    (evaluation.auto, evaluation.gates) = (true, Vec::new());
    let record = rig.answer(call, evaluation);
    let leaf = asked(&mut rig, &record);
    let parked = rig.call(&shop(), wanted());
    for name in ["ana", "ben"] {
        assert!(rig.consent(&ticket(&parked), (name, name), true), "{:?}", rig.refusals);
    }
    assert_eq!(words(&go_on(&mut rig, leaf, "\"A\"")), "proposal approval_required");
}

#[test]
fn it_survives_a_restart_and_an_unknown_end_charges_nothing_more() {
    let (mut rig, leaf) = waiting(1);
    rig.restart();
    let record = go_on(&mut rig, leaf, "1");
    assert_eq!(words(&record), "intent policy_permit");
    rig.restart();
    assert_eq!((outcome(&rig).status, outcome(&rig).charged), (Status::Unknown, 0));
    assert_eq!(counters(&rig.kernel)["calls of run r-1"], (1, 0));
    // What it was charged is judged by replay.
    let Body::Outcome(last) = &mut rig.log.last_mut().unwrap().record.body else { panic!() };
    last.charged = 1;
    let report = replay(&rig.log, rig.kernel.settings(), &rig.bundle);
    assert!(report.lines.iter().any(|line| matches!(line.found, Found::Differs { .. })), "{report:?}");
}

#[test]
fn an_intent_that_never_was_gives_it_back() {
    let (mut rig, leaf) = waiting(9);
    let before = rig.kernel.state.continuables.clone();
    for surely_absent in [true, false] {
        let action = rig.going_on(leaf, "1");
        let (call, evaluation) = *rig.propose(&shop(), action).unwrap_err();
        rig.step(Event::Evaluated { call, evaluation });
        assert_ne!(rig.kernel.state.continuables, before);
        rig.step(Event::AppendFailed { call, surely_absent });
        assert_eq!(rig.kernel.state.continuables == before, surely_absent);
    }
    assert_eq!(words(&go_on(&mut rig, leaf, "1")), INVALID);
}

/// The record commits to the answers, beside a digest that they have no part in.
#[test]
fn the_intent_commits_to_the_answers() {
    let (mut rig, leaf) = waiting(9);
    let record = go_on(&mut rig, leaf, "{\"name\":\"x\"}");
    let payload = rig.log.iter().rev().find_map(|leaf| leaf.payload.clone()).unwrap();
    let before = rig.log[leaf].payload.clone().unwrap();
    assert_eq!((payload.digest, attempt(&record).digest), (before.digest, attempt(&rig.log[leaf].record).digest));
    assert!(payload.opens(attempt(&record)));
    let bent = |change: &dyn Fn(&mut countersign_model::payload::InputPayload)| {
        let mut payload = payload.clone();
        change(payload.input.as_mut().unwrap());
        payload.opens(attempt(&record))
    };
    assert!(bent(&|_| {}));
    assert!(!bent(&|input| input.json = b"{}".to_vec()));
    assert!(!bent(&|input| input.digest = Digest([0; 32])));
    assert!(!bent(&|input| input.salt.0[0] ^= 1));
    assert!(!countersign_model::payload::ActionPayload { input: None, ..payload.clone() }.opens(attempt(&record)));
    assert!(
        countersign_model::preview::preview(&payload.action(attempt(&record))).contains("answers: {\"name\":\"x\"}")
    );
}

#[test]
fn an_erasure_ends_what_waits_in_its_run() {
    let (mut rig, leaf) = waiting(9);
    let scope = VaultScope::Run("r-1".parse().unwrap());
    assert!(rig.order("ana", Deed::Erase { scope: scope.clone() }), "{:?}", rig.refusals);
    rig.step(Event::Erased {
        scope,
        command: countersign_model::unit::LeafIndex(rig.log.len() as u64 - 1),
        keys: 1,
        payloads: 1,
        tickets: Default::default(),
    });
    assert_eq!(words(&go_on(&mut rig, leaf, "1")), INVALID);
}
