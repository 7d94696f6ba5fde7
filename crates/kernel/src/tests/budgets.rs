//! Limits are exact, whatever happens in whatever order.

use std::collections::BTreeMap;

use countersign_model::facts::Effect;
use countersign_model::record::Status;
use countersign_model::{Caller, Seq};
use proptest::prelude::*;

use super::fixture::*;
use crate::replay::replay;
use crate::{BudgetRule, BudgetScope, Event};

fn rules() -> Vec<BudgetRule> {
    vec![
        rule(BudgetScope::Run, 4),
        rule(BudgetScope::Session, 3),
        rule(BudgetScope::Agent, 6),
        rule(BudgetScope::Tenant, 9),
        BudgetRule { window_ms: Some(60_000), ..rule(BudgetScope::Tenant, 5) },
        BudgetRule { agents: agents(&["guest"]), ..rule(BudgetScope::Agent, 2) },
    ]
}

fn callers() -> [Caller; 4] {
    [
        caller("shop", "s-1", "r-1"),
        caller("shop", "s-2", "r-1"),
        caller("shop", "s-3", "r-2"),
        caller("guest", "s-4", "r-3"),
    ]
}

#[derive(Clone, Debug)]
enum Move {
    Propose(usize, bool),
    Answer(usize),
    Abandon(usize),
    Append(usize, bool),
    End(usize, Status),
    Wait(u64),
    Restart,
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let status = prop_oneof![Just(Status::Done), Just(Status::Failed), Just(Status::NotStarted), Just(Status::Unknown)];
    let one = prop_oneof![
        8 => (0..4_usize, prop::bool::weighted(0.8)).prop_map(|(who, read)| Move::Propose(who, read)),
        6 => (0..8_usize).prop_map(Move::Answer),
        1 => (0..8_usize).prop_map(Move::Abandon),
        6 => (0..8_usize, prop::bool::weighted(0.9)).prop_map(|(which, ok)| Move::Append(which, ok)),
        4 => (0..8_usize, status).prop_map(|(which, status)| Move::End(which, status)),
        1 => (1..90_000_u64).prop_map(Move::Wait),
        1 => Just(Move::Restart),
    ];
    prop::collection::vec(one, 1..60)
}

/// What is under way: asked calls, decided calls whose record is not yet durable, and running ones.
#[derive(Default)]
struct Flight {
    asked: Vec<(Seq, countersign_model::record::Evaluation)>,
    undurable: Vec<(Seq, usize)>,
    running: Vec<Seq>,
}

fn take<T>(list: &mut Vec<T>, index: usize) -> Option<T> {
    (!list.is_empty()).then(|| list.remove(index % list.len()))
}

fn play(rig: &mut Rig, flight: &mut Flight, step: Move) {
    match step {
        Move::Propose(who, read) => {
            let caller = callers()[who].clone();
            let effect = if read { Effect::Read } else { Effect::Destructive };
            let arguments = rig.log.len().to_string();
            match rig.propose(&caller, action(&caller, effect, &arguments)) {
                Err(asked) => flight.asked.push(*asked),
                Ok(record) => assert!(!is_intent(&record)),
            }
        }
        Move::Answer(which) => {
            if let Some((call, evaluation)) = take(&mut flight.asked, which) {
                rig.step(Event::Evaluated { call, evaluation });
                flight.undurable.push((call, rig.log.len() - 1));
            }
        }
        Move::Abandon(which) => {
            if let Some((call, _)) = take(&mut flight.asked, which) {
                rig.step(Event::Abandoned { call });
            }
        }
        Move::Append(which, true) => {
            if let Some((call, at)) = take(&mut flight.undurable, which) {
                let leaf = rig.log[at].clone();
                rig.step(Event::Appended { call, leaf: leaf.leaf, leaf_hash: leaf.leaf_hash });
                if is_intent(&leaf.record) {
                    flight.running.push(call);
                }
            }
        }
        Move::Append(which, false) => {
            if let Some((call, _)) = take(&mut flight.undurable, which) {
                rig.step(Event::AppendFailed { call, surely_absent: false });
            }
        }
        Move::End(which, status) => {
            if let Some(call) = take(&mut flight.running, which) {
                rig.end(call, status);
            }
        }
        Move::Wait(ms) => rig.now = rig.now.saturating_add_ms(ms),
        Move::Restart => {
            *flight = Flight::default();
            rig.restart();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_interleaving_exceeds_a_cap(moves in moves()) {
        let mut rig = Rig::new(rules());
        let mut flight = Flight::default();
        for step in moves {
            play(&mut rig, &mut flight, step);
            for budget in rig.kernel.budgets() {
                prop_assert!(budget.spent + budget.reserved <= budget.cap, "{budget:?}");
            }
        }
        // Where nothing is under way, the log alone gives the same counters, lost intents included.
        while let Some((call, _)) = flight.asked.pop() {
            rig.step(Event::Abandoned { call });
        }
        rig.step(Event::Tick);
        let live: BTreeMap<_, _> = counters(&rig.kernel).into_iter().collect();
        let mut again = refolded(rig.kernel.settings().clone(), &rig.log);
        again.step(rig.now, Event::Tick);
        prop_assert_eq!(live, counters(&again));
    }

    #[test]
    fn every_decision_follows_from_the_log(moves in moves()) {
        let mut rig = Rig::new(rules());
        let mut flight = Flight::default();
        for step in moves {
            // A proposal that is on disk though its append failed is the one thing that replay cannot know.
            if !matches!(step, Move::Append(_, false)) {
                play(&mut rig, &mut flight, step);
            }
        }
        let report = replay(&rig.log, rig.kernel.settings(), &rig.bundle);
        for line in &report.lines {
            prop_assert_eq!(&line.found, &crate::replay::Found::Identical, "{:?}", line);
        }
    }
}

#[test]
fn each_scope_counts_what_it_says() {
    let check = |scope, first: &Caller, second: &Caller, expected: &str| {
        let mut rig = Rig::new(vec![rule(scope, 1)]);
        assert!(is_intent(&rig.call(first, action(first, Effect::Read, "1"))));
        assert_eq!(words(&rig.call(second, action(second, Effect::Read, "2"))), expected, "{scope:?}");
    };
    let [a, same_run, other_run, guest] = callers();
    check(BudgetScope::Session, &a, &same_run, "intent policy_permit");
    check(BudgetScope::Session, &a, &a, "denial budget_exhausted");
    check(BudgetScope::Run, &a, &same_run, "denial budget_exhausted");
    check(BudgetScope::Run, &a, &other_run, "intent policy_permit");
    check(BudgetScope::Agent, &a, &other_run, "denial budget_exhausted");
    check(BudgetScope::Agent, &a, &guest, "intent policy_permit");
    check(BudgetScope::Tenant, &a, &guest, "denial budget_exhausted");
}

#[test]
fn a_window_begins_anew_and_a_late_outcome_does_not_count_in_the_next() {
    let mut rig = Rig::new(vec![BudgetRule { window_ms: Some(60_000), ..rule(BudgetScope::Agent, 1) }]);
    let first = rig.call(&shop(), action(&shop(), Effect::Read, "1"));
    assert_eq!(words(&rig.call(&shop(), action(&shop(), Effect::Read, "2"))), "denial budget_exhausted");
    rig.now = rig.now.saturating_add_ms(60_000);
    rig.end(attempt(&first).reserved_at, Status::Done);
    assert!(is_intent(&rig.call(&shop(), action(&shop(), Effect::Read, "3"))));
    assert_eq!(words(&rig.call(&shop(), action(&shop(), Effect::Read, "4"))), "denial budget_exhausted");
}

#[test]
fn counters_go_with_the_token_and_not_before() {
    let mut rig = Rig::new(vec![rule(BudgetScope::Session, 1), rule(BudgetScope::Run, 2)]);
    let mut long = caller("shop", "s-2", "r-1");
    long.expires = long.expires.saturating_add_ms(HOUR_MS);
    let first = rig.call(&shop(), action(&shop(), Effect::Read, "1"));
    rig.call(&long, action(&long, Effect::Read, "2"));
    rig.now = shop().expires;
    rig.end(attempt(&first).reserved_at, Status::Done);
    assert_eq!(counters(&rig.kernel).len(), 2, "{:?}", counters(&rig.kernel));
    // The run lives on with its other session, and so does what it spent.
    assert_eq!(counters(&rig.kernel)["calls of run r-1"], (1, 1));
    rig.now = long.expires;
    rig.step(Event::Tick);
    assert_eq!(rig.kernel.budgets().len(), 0);
}

#[test]
fn a_cap_at_the_end_of_numbers_does_not_wrap() {
    let mut rig = Rig::new(vec![rule(BudgetScope::Run, u64::MAX), rule(BudgetScope::Session, 0)]);
    let record = rig.call(&shop(), action(&shop(), Effect::Read, "1"));
    assert_eq!(words(&record), "denial budget_exhausted");
    let mut forged = attempt(&record).clone();
    forged.inputs.budgets[0].spent = u64::MAX;
    forged.inputs.budgets.truncate(1);
    let judged = crate::judge::judge(&forged, START);
    assert!(matches!(judged, crate::judge::Judgement::Deny { .. }), "{judged:?}");
}

#[test]
fn more_budgets_than_a_record_holds_deny() {
    let mut rig = Rig::new(vec![rule(BudgetScope::Run, 9); 17]);
    assert_eq!(words(&rig.call(&shop(), action(&shop(), Effect::Read, "1"))), "denial internal");
}

/// A record that surely is not on disk leaves no trace; one that may be there keeps its hold.
#[test]
fn only_a_record_that_is_surely_absent_gives_its_hold_back() {
    for (surely_absent, held) in [(true, 0), (false, 1)] {
        let mut rig = Rig::new(rules());
        let caller = callers()[0].clone();
        let (call, evaluation) = *rig.propose(&caller, action(&caller, Effect::Read, "1")).unwrap_err();
        rig.step(Event::Evaluated { call, evaluation });
        rig.step(Event::AppendFailed { call, surely_absent });
        let counted: Vec<_> = rig.kernel.budgets().into_iter().map(|budget| (budget.spent, budget.reserved)).collect();
        assert!(!counted.is_empty() && counted.iter().all(|counted| *counted == (0, held)), "{counted:?}");
    }
}
