//! A call that was answered with a question goes on through the whole gate: once, by its caller, with answers on record.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "helpers of tests fail the test")]

use countersign_gate::call::{Answer, Call};
use countersign_gate::view::Stored;
use countersign_kernel::replay::{Found, Leaf, replay};
use countersign_model::record::{KillScope, Status};
use countersign_model::unit::LeafIndex;
use countersign_model::{Body, Caller, ReasonCode};
use countersign_testkit::upstream::Script;
use countersign_testkit::world::{READ, Rules, World, arguments};

/// A world in which a read was answered with a question, and the intent that can go on.
fn asked(world: &World) -> LeafIndex {
    world.upstream().plays(Script::Ask);
    let answer = world.call(READ);
    world.upstream().plays(Script::Answer);
    answer.continuable().unwrap_or_else(|| panic!("{answer:?}"))
}

fn go(world: &World, call: Call) -> String {
    match world.wait(world.begin(call)).unwrap() {
        Answer::Ran { status, .. } => format!("ran {status:?}"),
        Answer::Denied { reasons, .. } => format!("denied {}", reasons[0].code.as_str()),
        other => panic!("{other:?}"),
    }
}

fn last_attempt(world: &World) -> Stored {
    world.records().into_iter().rev().find(|stored| stored.record.body.attempt().is_some()).unwrap()
}

fn replayed(world: &World) {
    let leaves: Vec<Leaf> = world
        .records()
        .into_iter()
        .map(|Stored { index, leaf, record, payload }| Leaf {
            leaf_hash: countersign_gate::Gate::leaf_hash(&leaf),
            leaf: LeafIndex(index),
            record,
            payload,
        })
        .collect();
    for line in replay(&leaves, &world.stage.settings(), &world.stage.bundle).lines {
        assert_eq!(line.found, Found::Identical, "{line:?}");
    }
}

#[test]
fn it_goes_on_once_and_is_charged_once() {
    let world = World::under(Rules::capped(1));
    let intent = asked(&world);
    assert_eq!(go(&world, world.going_on(READ, intent)), "ran Done");
    let stored = last_attempt(&world);
    let attempt = stored.record.body.attempt().unwrap();
    assert_eq!(attempt.continues.as_ref().map(|continued| continued.intent), Some(intent));
    let payload = stored.payload.unwrap();
    assert!(payload.opens(attempt));
    assert_eq!(payload.input.unwrap().json, br#"{"name":{"action":"accept","content":{"name":"x"}}}"#);
    assert_eq!(go(&world, world.going_on(READ, intent)), "denied continuation_invalid");
    let spent: Vec<u64> = world.gate.budgets().iter().map(|budget| budget.spent + budget.reserved).collect();
    assert_eq!(spent, [1]);
    assert_eq!(world.upstream().count_of(arguments(READ).as_bytes()), 2);
    world.gate.close().unwrap();
    let next = world.restart(world.disk.process_crash_image()).unwrap();
    assert_eq!(go(&next, next.going_on(READ, intent)), "denied continuation_invalid");
    next.gate.close().unwrap();
    replayed(&next);
}

#[test]
fn it_survives_a_restart_and_ends_with_a_kill() {
    let world = World::new();
    let (first, second) = (asked(&world), asked(&world));
    world.gate.close().unwrap();
    let next = world.restart(world.disk.process_crash_image()).unwrap();
    assert_eq!(go(&next, next.going_on(READ, first)), "ran Done");
    let scope = KillScope::Agent(next.caller.principal.agent.clone());
    let ack = next.kill(&scope);
    assert!(next.record_kill(&ack));
    assert_eq!(go(&next, next.going_on(READ, second)), "denied killed");
    next.command(countersign_model::command::Deed::Resume { scope }).unwrap();
    assert_eq!(go(&next, next.going_on(READ, second)), "denied continuation_invalid");
}

#[test]
fn no_other_caller_and_no_other_call_goes_on_with_it() {
    let world = World::new();
    let intent = asked(&world);
    let as_other = |change: &dyn Fn(&mut Caller)| {
        let mut caller = world.caller.clone();
        change(&mut caller);
        Call { caller, ..world.going_on(READ, intent) }
    };
    let (_, other) = world.token_of("other");
    for call in [
        as_other(&|caller| *caller = other.clone()),
        as_other(&|caller| caller.principal.run = "r-2".parse().unwrap()),
        as_other(&|caller| caller.principal.session = "s-2".parse().unwrap()),
        world.going_on("SELECT 1", intent),
        world.going_on(READ, LeafIndex(0)),
        world.going_on(READ, LeafIndex(u64::MAX)),
    ] {
        assert_eq!(go(&world, call), "denied continuation_invalid");
    }
    // The same arguments, spelled otherwise, are the same call.
    let spelled = br#" {"sql" : "SELECT name FROM customers"} "#.to_vec();
    assert_eq!(go(&world, Call { arguments: spelled, ..world.going_on(READ, intent) }), "ran Done");
}

#[test]
fn answers_are_read_strictly_and_their_secrets_are_not_kept() {
    let world = World::new();
    let intent = asked(&world);
    let with = |input: &[u8]| Call { input: input.to_vec(), ..world.going_on(READ, intent) };
    assert_eq!(go(&world, with(br#"{"a":1,"a":2}"#)), "denied malformed");
    assert_eq!(go(&world, Call { continues: None, ..with(b"{}") }), "denied malformed");
    let secret = "AKIAIOSFODNN7EXAMPLE";
    let input = format!(r#"{{"key":{{"content":{{"aws_access_key_id":"{secret}"}}}}}}"#);
    assert_eq!(go(&world, with(input.as_bytes())), "ran Done");
    let stored = last_attempt(&world);
    let attempt = stored.record.body.attempt().unwrap();
    assert!(matches!(stored.record.body, Body::Intent(_)) && attempt.redactions.total == 0);
    assert_eq!(attempt.continues.as_ref().unwrap().redactions, 1);
    let payload = stored.payload.unwrap();
    assert!(payload.opens(attempt));
    let kept = String::from_utf8(payload.input.unwrap().json).unwrap();
    assert!(kept.contains("[redacted:") && !kept.contains(secret), "{kept}");
    world.gate.close().unwrap();
    replayed(&world);
}

#[test]
fn without_its_outcome_on_record_nothing_goes_on() {
    let world = World::new();
    world.upstream().plays(Script::Answer);
    let answer = world.call(READ);
    assert_eq!(answer.continuable(), None);
    let Answer::Ran { receipt: Some(receipt), status: Status::Done, .. } = answer else { panic!() };
    let intent = LeafIndex(receipt.proofs[0].proof.index);
    assert_eq!(
        go(&world, world.going_on(READ, intent)),
        format!("denied {}", ReasonCode::ContinuationInvalid.as_str())
    );
    let unrecorded: Answer<Vec<u8>> =
        Answer::Ran { status: Status::InputRequired, reply: None, note: None, receipt: None };
    assert_eq!(unrecorded.continuable(), None);
}
