//! Recovery, and that the same events give the same commands.

use countersign_model::facts::Effect;
use countersign_model::payload::{Commitment, Salt};
use countersign_model::record::{Outcome, Status};
use countersign_model::{Body, Seq, TimeMs};

use super::fixture::*;
use crate::{BudgetScope, Event};

fn outcomes(rig: &Rig) -> Vec<Outcome> {
    rig.log
        .iter()
        .filter_map(|leaf| match &leaf.record.body {
            Body::Outcome(outcome) => Some(outcome.clone()),
            _ => None,
        })
        .collect()
}

#[test]
fn an_intent_without_an_outcome_becomes_unknown_with_its_charge() {
    let mut rig = Rig::new(vec![rule(BudgetScope::Run, 5)]);
    let done = rig.call(&shop(), action(&shop(), Effect::Read, "1"));
    rig.end(attempt(&done).reserved_at, Status::Done);
    let lost = rig.call(&shop(), action(&shop(), Effect::Read, "2"));
    let undecided = rig.propose(&shop(), action(&shop(), Effect::Read, "3"));
    assert!(undecided.is_err());
    assert_eq!(counters(&rig.kernel)["calls of run r-1"], (1, 2));
    rig.restart();
    let last = outcomes(&rig).pop().unwrap();
    assert_eq!((last.action, last.status, last.charged), (attempt(&lost).reserved_at, Status::Unknown, 1));
    assert_eq!(counters(&rig.kernel)["calls of run r-1"], (2, 0));
    rig.restart();
    assert_eq!(outcomes(&rig).len(), 2, "it is settled once");
}

#[test]
fn what_surely_did_not_start_is_free_and_everything_else_is_not() {
    for (status, spent) in [(Status::Done, 1), (Status::Failed, 1), (Status::Unknown, 1), (Status::NotStarted, 0)] {
        let mut rig = Rig::new(vec![rule(BudgetScope::Session, 5)]);
        let call = attempt(&rig.call(&shop(), action(&shop(), Effect::Read, "1"))).reserved_at;
        rig.end(call, status);
        let counted = counters(&rig.kernel).get("calls of session s-1").copied().unwrap_or_default();
        assert_eq!(counted, (spent, 0));
        // A second end of the same call settles nothing.
        rig.end(call, Status::Done);
        assert_eq!(outcomes(&rig).len(), 1);
    }
}

#[test]
fn cost_and_undo_handle_are_on_record() {
    let mut rig = Rig::new(vec![]);
    let call = attempt(&rig.call(&shop(), action(&shop(), Effect::Read, "1"))).reserved_at;
    let handle = Commitment::to(&Salt([7; 32]), b"DELETE FROM orders WHERE id = 4");
    let Event::Ended { status, result, rows, bytes_sent, duration_ms, note, .. } = ended(call, Status::Done) else {
        panic!()
    };
    let (cost_microusd, undo) = (Some(1_250), Some(handle));
    rig.step(Event::Ended { call, status, result, rows, bytes_sent, duration_ms, note, cost_microusd, undo });
    let last = outcomes(&rig).pop().unwrap();
    assert_eq!((last.cost_microusd, last.undo), (Some(1_250), Some(handle)));
}

#[test]
fn an_effect_cannot_end_before_its_intent_is_durable() {
    let mut rig = Rig::new(vec![rule(BudgetScope::Session, 5)]);
    let (call, evaluation) = *rig.propose(&shop(), action(&shop(), Effect::Read, "1")).unwrap_err();
    rig.step(Event::Evaluated { call, evaluation });
    rig.step(ended(call, Status::NotStarted));
    assert_eq!(counters(&rig.kernel)["calls of session s-1"], (0, 1));
    assert!(outcomes(&rig).is_empty());
}

#[test]
fn sequence_numbers_and_time_go_on_after_recovery() {
    let mut rig = Rig::new(vec![]);
    rig.now = START.saturating_add_ms(5_000);
    rig.call(&shop(), action(&shop(), Effect::Read, "1"));
    rig.now = TimeMs(1);
    rig.restart();
    let seqs: Vec<Seq> = rig.log.iter().map(|leaf| leaf.record.seq).collect();
    assert!(seqs.is_sorted_by(|a, b| a < b), "{seqs:?}");
    assert_eq!(rig.kernel.now(), START.saturating_add_ms(5_000));
}

#[test]
fn a_proposal_waits_on_over_a_restart_and_not_without_its_payload() {
    let mut rig = Rig::with_humans(vec![]);
    let wanted = action(&shop(), Effect::Destructive, "{}");
    let ticket = ticket(&rig.call(&shop(), wanted.clone()));
    rig.restart();
    assert_eq!(words(&rig.call(&shop(), wanted.clone())), "waiting waiting");
    assert!(rig.consent(&ticket, ("ana", "ana"), true), "{:?}", rig.refusals);
    rig.restart();
    assert_eq!(words(&rig.call(&shop(), wanted)), "intent grant_redeemed");

    let mut erased = rig.log.clone();
    for leaf in &mut erased {
        leaf.payload = None;
    }
    let kernel = refolded(rig.kernel.settings().clone(), &erased);
    assert_eq!(kernel.pending().count(), 0);
}

#[test]
fn a_payload_that_is_not_the_records_is_no_payload() {
    let mut rig = Rig::with_humans(vec![]);
    rig.call(&shop(), action(&shop(), Effect::Destructive, "{}"));
    let mut forged = rig.log.clone();
    for payload in forged.iter_mut().filter_map(|leaf| leaf.payload.as_mut()) {
        payload.arguments = b"{\"all\":true}".to_vec();
    }
    assert_eq!(refolded(rig.kernel.settings().clone(), &rig.log).pending().count(), 1);
    assert_eq!(refolded(rig.kernel.settings().clone(), &forged).pending().count(), 0);
}

#[test]
fn the_same_events_give_the_same_commands() {
    let run = || {
        let mut rig = Rig::with_humans(vec![rule(BudgetScope::Run, 3)]);
        let ticket = ticket(&rig.call(&shop(), action(&shop(), Effect::Destructive, "{}")));
        rig.consent(&ticket, ("ana", "ana"), true);
        for effect in [Effect::Destructive, Effect::Read, Effect::Opaque, Effect::Write, Effect::Write] {
            rig.call(&shop(), action(&shop(), effect, "{}"));
        }
        rig.step(Event::Stopped);
        let leaves: Vec<_> =
            rig.log.iter().map(|leaf| (leaf.record.to_leaf().unwrap(), leaf.payload.clone())).collect();
        leaves
    };
    assert_eq!(run(), run());
}

#[test]
fn a_start_trusts_no_forged_refund() {
    let read = || action(&shop(), Effect::Read, "1");
    let ran = |change: fn(&mut Outcome)| {
        let mut rig = Rig::new(vec![rule(BudgetScope::Run, 1)]);
        let call = attempt(&rig.call(&shop(), read())).reserved_at;
        rig.end(call, Status::Done);
        let Body::Outcome(outcome) = &mut rig.log.last_mut().unwrap().record.body else { panic!() };
        change(outcome);
        rig.restart();
        words(&rig.call(&shop(), read()))
    };
    for change in [
        (|_| ()) as fn(&mut Outcome),
        |outcome| outcome.charged = 0,
        |outcome| {
            outcome.status = Status::NotStarted;
            outcome.charged = 0;
            outcome.intent.0 += 1;
        },
    ] {
        assert_eq!(ran(change), "denial budget_exhausted");
    }
}
