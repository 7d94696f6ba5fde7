//! A full, a read-only and a slow disk below the gate: denials with a reason that says so, and full service by itself once
//! the fault clears.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail the test")]

use std::time::Duration;

use countersign_gate::call::Answer;
use countersign_model::ReasonCode;
use countersign_model::record::Status;
use countersign_testkit::disk::{FakeDisk, Fault};
use countersign_testkit::world::{DROP, READ, Rules, World, arguments, store};

fn runs(answer: &Answer<Vec<u8>>) -> bool {
    matches!(answer, Answer::Ran { status: Status::Done, receipt: Some(_), .. })
}

fn why(answer: &Answer<Vec<u8>>) -> (ReasonCode, String) {
    match answer {
        Answer::Denied { reasons, receipt: None } => {
            let reason = reasons.first().unwrap();
            (reason.code, reason.detail.clone().unwrap_or_default())
        }
        other => panic!("{other:?}"),
    }
}

/// Everything is denied for `code` while the fault is there, nothing reaches the upstream, and service returns.
fn check(begin: fn(&FakeDisk), end: fn(&FakeDisk), code: ReasonCode, says: &str) {
    let world = World::new();
    assert!(runs(&world.call(READ)));
    let effects = world.upstream().effects().len();
    begin(&world.disk);
    for _ in 0..3 {
        for sql in [READ, DROP] {
            let (found, detail) = why(&world.call(sql));
            assert_eq!(found, code, "{detail}");
            assert!(detail.contains(says), "{detail}");
        }
        world.tick();
    }
    assert_eq!(world.upstream().effects().len(), effects, "nothing runs that cannot be recorded");
    end(&world.disk);
    world.tick();
    assert!(runs(&world.call(READ)), "service returns without a restart");
    world.gate.close().unwrap();
    countersign_ledger::verify::walk(&store(&world.disk), None, |_, _| {}).unwrap();
}

#[test]
fn a_full_disk_denies_and_clears() {
    check(
        |disk| disk.set_capacity(Some(disk.used())),
        |disk| disk.set_capacity(None),
        ReasonCode::DiskFull,
        "no space left",
    );
}

#[test]
fn a_read_only_disk_denies_and_clears() {
    check(
        |disk| disk.set_read_only(true),
        |disk| disk.set_read_only(false),
        ReasonCode::LedgerUnavailable,
        "read-only",
    );
}

/// How many operations the disk has seen, once what is published behind the last answer is done with it.
fn ops_at_rest(world: &World) -> u64 {
    loop {
        let before = world.disk.ops();
        std::thread::sleep(Duration::from_millis(50));
        if world.disk.ops() == before {
            return before;
        }
    }
}

#[test]
fn an_error_of_a_sync_denies_until_a_restart_and_says_which_operation_failed() {
    let world = World::new();
    world.disk.fault_at(ops_at_rest(&world) + 2, Fault::Error);
    world.call(READ);
    let (code, detail) = why(&world.call(READ));
    assert_eq!(code, ReasonCode::LedgerUnavailable);
    assert!(detail.contains("ledger stopped: "), "{detail}");
    assert!(world.gate.close().is_err());
    let again = world.restart(world.disk.process_crash_image()).unwrap();
    assert!(runs(&again.call(READ)));
    again.gate.close().unwrap();
}

#[test]
fn a_slow_disk_denies_what_it_cannot_take_and_loses_nothing() {
    let mut rules = Rules::capped(1_000);
    rules.ledger.slots = 8;
    let world = World::under(rules);
    world.disk.set_sync_time(Duration::from_millis(200));
    let begun: Vec<_> = (0..64).map(|_| world.begin(world.framed("query", &arguments(READ)))).collect();
    let answers: Vec<_> = begun.into_iter().map(|call| world.wait(call).unwrap()).collect();
    let ran = answers.iter().filter(|answer| runs(answer)).count();
    for answer in answers.iter().filter(|answer| !runs(answer)) {
        let Answer::Denied { reasons, .. } = answer else { panic!("{answer:?}") };
        assert_eq!(reasons.first().unwrap().code, ReasonCode::Overloaded, "{reasons:?}");
    }
    assert!((8..64).contains(&ran), "{ran} ran");
    assert_eq!(world.upstream().effects().len(), ran);
    world.disk.set_sync_time(Duration::ZERO);
    world.tick();
    assert!(runs(&world.call(READ)));
    world.gate.close().unwrap();
    countersign_ledger::verify::walk(&store(&world.disk), None, |_, _| {}).unwrap();
}
