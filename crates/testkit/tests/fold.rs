//! Records of a real run, decided again from the log: the same verdicts, reasons and inputs, in the same order.
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "helpers of tests fail the test")]

use std::sync::Arc;

use countersign_gate::Gate;
use countersign_gate::call::Answer;
use countersign_kernel::replay::{Found, Leaf, Report, replay};
use countersign_model::command::Deed;
use countersign_model::id::TicketId;
use countersign_model::record::{Attempt, KillScope};
use countersign_model::unit::LeafIndex;
use countersign_model::{Body, ReasonCode};
use countersign_testkit::policy::HeldPolicy;
use countersign_testkit::world::{CHANGE, DROP, GATE_MS, READ, Rules, World, arguments, id};

fn leaves(world: &World) -> Vec<Leaf> {
    let leaf = |stored: countersign_gate::view::Stored| Leaf {
        leaf: LeafIndex(stored.index),
        leaf_hash: Gate::leaf_hash(&stored.leaf),
        record: stored.record,
        payload: stored.payload,
    };
    world.records().into_iter().map(leaf).collect()
}

fn replayed(world: &World, leaves: &[Leaf]) -> Report {
    replay(leaves, &world.stage.settings(), &world.stage.bundle)
}

fn assert_identical(report: &Report) {
    for line in &report.lines {
        assert_eq!(line.found, Found::Identical, "{line:?}");
    }
}

fn ticket(answer: &Answer<Vec<u8>>) -> TicketId {
    match answer {
        Answer::Parked { ticket, .. } => ticket.clone(),
        other => panic!("{other:?}"),
    }
}

/// The last process's log, after an orderly end.
fn closed(world: &World) -> World {
    world.gate.close().unwrap();
    world.restart(world.disk.process_crash_image()).unwrap()
}

/// A holds the last unit while policy thinks about it, B is denied for it, A is parked, C runs.
fn contended() -> World {
    let world = World::under(Rules::capped(1));
    let policy = HeldPolicy::new(world.stage.bundle.clone());
    let world = world.asking(Arc::new(policy.clone()));
    policy.hold(true);
    let a = world.begin(world.framed("query", &arguments(CHANGE)));
    policy.wait_for(1);
    let b = world.call(READ);
    assert!(matches!(&b, Answer::Denied { reasons, .. } if reasons[0].code == ReasonCode::BudgetExhausted), "{b:?}");
    policy.hold(false);
    let a = world.wait(a).unwrap();
    world.approve(&ticket(&a)).unwrap();
    assert!(matches!(world.call(READ), Answer::Ran { .. }), "what is parked holds nothing");
    assert!(matches!(world.call(CHANGE), Answer::Denied { .. }), "the limit is used up");
    world
}

/// Every kind of decision.
fn eventful() -> World {
    let world = World::under(Rules::capped(4));
    world.call(READ);
    world.call(DROP);
    let parked = world.call(CHANGE);
    world.call(CHANGE);
    world.approve(&ticket(&parked)).unwrap();
    world.call(CHANGE);
    let refused = world.call(CHANGE);
    world.answer(&ticket(&refused), false).unwrap();
    world.call(CHANGE);
    world.stage.clock.advance_ms(GATE_MS);
    world.call(CHANGE);
    world.stage.clock.advance_ms(GATE_MS);
    world.tick();
    let (_, other) = world.token_of("other");
    let ack = world.kill(&KillScope::Agent(id("coder")));
    world.record_kill(&ack);
    world.call(READ);
    let mut call = world.framed("query", &arguments(READ));
    call.caller = other;
    assert!(matches!(world.wait(world.begin(call)).unwrap(), Answer::Ran { .. }));
    world.command(Deed::Resume { scope: ack.scope }).unwrap();
    let until = world.gate.now().saturating_add_ms(60_000);
    world.command(Deed::Freeze { environment: id("production"), until }).unwrap();
    world.call(CHANGE);
    world.call(READ);
    world
}

#[test]
fn a_call_that_was_denied_for_a_unit_held_by_another_is_denied_again() {
    let world = closed(&contended());
    let leaves = leaves(&world);
    let report = replayed(&world, &leaves);
    assert_identical(&report);
    let kinds: Vec<_> = report.lines.iter().map(|line| line.kind).collect();
    assert_eq!(kinds, ["commanded", "commanded", "denial", "proposal", "consent", "intent", "denial"]);
    let denial = leaves.iter().find_map(|leaf| match &leaf.record.body {
        Body::Denial(attempt) => Some(attempt.inputs.budgets[0].clone()),
        _ => None,
    });
    let reading = denial.unwrap();
    assert_eq!((reading.spent, reading.reserved, reading.cap), (0, 1, 1));
}

#[test]
fn every_kind_of_decision_is_made_again() {
    let world = closed(&eventful());
    let report = replayed(&world, &leaves(&world));
    assert_identical(&report);
    for kind in ["intent", "denial", "proposal", "waiting", "consent", "commanded"] {
        assert!(report.lines.iter().any(|line| line.kind == kind), "no {kind}: {report:?}");
    }
}

#[test]
fn an_expiry_that_a_full_disk_refused_is_written_later() {
    let world = World::new();
    world.call(CHANGE);
    world.stage.clock.advance_ms(GATE_MS);
    world.disk.set_capacity(Some(world.disk.used()));
    // The proposal is swept by the very call that finds the disk full.
    while matches!(world.call(DROP), Answer::Denied { receipt: Some(_), .. }) {}
    world.disk.set_capacity(None);
    world.tick();
    world.call(READ);
    let world = closed(&world);
    let leaves = leaves(&world);
    assert!(leaves.iter().any(|leaf| matches!(leaf.record.body, Body::Expired(_))), "the expiry is nowhere");
    assert_identical(&replayed(&world, &leaves));
}

/// The log of a process to whose calls of `sql` the disk was full for a while.
fn refused_for_a_while(sql: &str) -> World {
    let world = World::new();
    world.call(READ);
    world.disk.set_capacity(Some(world.disk.used()));
    assert!(matches!(world.call(sql), Answer::Denied { .. }));
    world.disk.set_capacity(None);
    world.tick();
    for sql in [READ, CHANGE, DROP] {
        world.call(sql);
    }
    closed(&world)
}

#[test]
fn a_log_with_denials_and_proposals_that_a_full_disk_refused_is_decided_again() {
    for sql in [CHANGE, DROP] {
        let world = refused_for_a_while(sql);
        assert_identical(&replayed(&world, &leaves(&world)));
    }
}

#[test]
fn a_log_with_an_intent_that_a_full_disk_refused_is_decided_again() {
    let world = refused_for_a_while(READ);
    assert_identical(&replayed(&world, &leaves(&world)));
}

#[test]
fn a_log_of_a_process_that_crashed_is_decided_again() {
    let world = eventful();
    let image = world.disk.process_crash_image();
    let world = world.restart(image).unwrap();
    assert_identical(&replayed(&world, &leaves(&world)));
}

/// The log with something changed in its first intent.
fn tampered(leaves: &[Leaf], change: fn(&mut Attempt)) -> Vec<Leaf> {
    let mut leaves = leaves.to_vec();
    let attempt = leaves.iter_mut().find_map(|leaf| match &mut leaf.record.body {
        Body::Intent(attempt) => Some(attempt),
        _ => None,
    });
    change(attempt.unwrap());
    leaves
}

#[test]
fn one_changed_input_is_found() {
    let world = closed(&contended());
    let leaves = leaves(&world);
    let found = |name: &str, change: fn(&mut Attempt)| {
        let report = replayed(&world, &tampered(&leaves, change));
        assert!(!report.is_clean(), "a changed `{name}` was not found: {report:?}");
    };
    found("spent", |attempt| attempt.inputs.budgets[0].spent += 1);
    found("reserved", |attempt| attempt.inputs.budgets[0].reserved += 1);
    found("cap", |attempt| attempt.inputs.budgets[0].cap += 1);
    found("kill epoch", |attempt| attempt.inputs.kill_epoch += 1);
    found("in flight", |attempt| attempt.inputs.standing.in_flight.count += 1);
    found("pending", |attempt| attempt.inputs.standing.pending.count += 1);
    found("policy's answer", |attempt| attempt.inputs.evaluation.as_mut().unwrap().determining = Default::default());
    found("facts", |attempt| attempt.facts.effect = countersign_model::Effect::Write);
    found("token", |attempt| attempt.inputs.token_expires = attempt.proposed_at);
}
