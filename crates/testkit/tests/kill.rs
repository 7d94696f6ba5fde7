//! The kill switch against what could hold it up: an evaluation that hangs, a full disk, and a crowd in flight.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests fail the test")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use countersign_gate::call::Answer;
use countersign_gate::kill::{KillAck, KillSwitch};
use countersign_model::action::Point;
use countersign_model::command::Deed;
use countersign_model::record::{KillScope, Status};
use countersign_model::{Body, ReasonCode};
use countersign_testkit::policy::HeldPolicy;
use countersign_testkit::upstream::Script;
use countersign_testkit::world::{CHANGE, READ, Rules, World, arguments, id};
use tokio::task::JoinHandle;

const CROWD: usize = 200;

fn is_denied_for(answer: &Answer<Vec<u8>>, code: ReasonCode) -> bool {
    matches!(answer, Answer::Denied { reasons, .. } if reasons[0].code == code)
}

fn statuses(world: &World) -> Vec<Status> {
    let status = |body: &Body| match body {
        Body::Outcome(outcome) => Some(outcome.status),
        _ => None,
    };
    world.records().iter().filter_map(|stored| status(&stored.record.body)).collect()
}

/// A crowd that was killed in flight, a moment later.
struct Killed {
    world: World,
    calls: Vec<JoinHandle<Answer<Vec<u8>>>>,
    ack: KillAck,
    at: Instant,
    in_flight: usize,
}

impl Killed {
    /// A crowd in flight on an upstream that plays `script`, and one call on its way to its permit.
    fn crowd(script: Script) -> Self {
        let world = World::under(Rules::capped(1_000));
        world.upstream().plays(script);
        let mut calls: Vec<_> = (0..CROWD).map(|_| world.begin(world.framed("slow", r#"{"steps":9}"#))).collect();
        world.wait(async {
            while world.upstream().effects().len() < CROWD {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        calls.push(world.begin(world.framed("query", &arguments(READ))));
        let ack = world.kill(&KillScope::All);
        let (at, in_flight) = (Instant::now(), world.gate.status().in_flight);
        std::thread::sleep(Duration::from_millis(100));
        Self { world, calls, ack, at, in_flight }
    }

    /// How many writes came after the acknowledgement.
    fn late_writes(&self) -> usize {
        self.world.upstream().writes().iter().filter(|write| write.at > self.at).count()
    }

    /// How many calls were told that their outcome is not known.
    fn unknown(self) -> usize {
        let answers = self.calls.into_iter().map(|call| self.world.wait(call).unwrap());
        answers.filter(|answer| matches!(answer, Answer::Ran { status: Status::Unknown, .. })).count()
    }
}

#[test]
fn two_hundred_effects_in_flight_stop_and_not_a_byte_follows() {
    let killed = Killed::crowd(Script::Slow);
    let ack = killed.ack.clone();
    assert_eq!((killed.late_writes(), killed.in_flight), (0, 0));
    assert!(ack.cancelled >= CROWD as u64 && ack.cut == 0, "{ack:?}");
    assert!(ack.took_ms < 1_000, "{ack:?}");
    let world = &killed.world;
    assert!(world.record_kill(&ack));
    assert!(is_denied_for(&world.call(READ), ReasonCode::Killed));
    let on_record = world.records().iter().filter(|stored| matches!(stored.record.body, Body::Killed(_))).count();
    assert_eq!(on_record, 1);
    let unknown = killed.unknown();
    assert!(unknown >= CROWD, "{unknown} of {CROWD} are unknown");
}

#[test]
fn what_does_not_listen_is_cut_and_not_a_byte_follows() {
    let killed = Killed::crowd(Script::Stubborn);
    assert_eq!(killed.late_writes(), 0);
    assert!(killed.ack.cut >= CROWD as u64, "{:?}", killed.ack);
    assert!(killed.ack.took_ms < 2_500, "{:?}", killed.ack);
    assert!(killed.unknown() >= CROWD);
}

#[test]
fn an_upstream_that_writes_after_its_end_is_noticed_by_these_tests() {
    assert!(Killed::crowd(Script::WriteAfterStop).late_writes() > 0, "the bug was not noticed");
}

#[test]
fn an_evaluation_that_hangs_holds_up_neither_the_kill_nor_its_record() {
    let world = World::under(Rules { evaluation_ms: 3_000, ..Rules::default() });
    let policy = HeldPolicy::new(world.stage.bundle.clone());
    let world = world.asking(Arc::new(policy.clone()));
    policy.hold(true);
    let hanging = world.begin(world.framed("query", &arguments(CHANGE)));
    policy.wait_for(1);
    let ack = world.kill(&KillScope::All);
    assert!(world.record_kill(&ack));
    assert!(!hanging.is_finished(), "the kill waited for the evaluation: {ack:?}");
    let answer = world.wait(hanging).unwrap();
    assert!(is_denied_for(&answer, ReasonCode::Killed), "{answer:?}");
    assert_eq!(world.upstream().bytes_written(), 0);
    policy.hold(false);
    world.gate.close().unwrap();
}

/// Fills the disk with kills of nobody, until there is no room for one more.
fn fill(world: &World) {
    world.disk.set_capacity(Some(world.disk.used()));
    let nobody = KillScope::Run(id("r"));
    let ack = KillAck { scope: nobody, epoch: 1, cancelled: 0, cut: 0, took_ms: 0, unsaved: None };
    while world.record_kill(&ack) {}
}

#[test]
fn a_full_disk_does_not_stop_the_kill_and_the_record_follows() {
    let world = World::new();
    world.upstream().plays(Script::Slow);
    let slow = world.begin_slow();
    fill(&world);
    let ack = world.kill(&KillScope::All);
    let written = world.upstream().bytes_written();
    assert_eq!((ack.cancelled, ack.cut, ack.unsaved.as_deref()), (1, 0, None));
    let answer = world.wait(slow).unwrap();
    assert!(matches!(answer, Answer::Ran { status: Status::Unknown, receipt: Some(_), .. }), "{answer:?}");
    assert_eq!(statuses(&world), [Status::Unknown], "the outcome had its room");
    // The room that the slow call held is free again.
    fill(&world);
    assert!(!world.record_kill(&ack), "the disk is full");
    assert!(!matches!(world.call(READ), Answer::Ran { .. }));
    assert_eq!(world.upstream().bytes_written(), written);
    world.disk.set_capacity(None);
    world.tick();
    assert!(is_denied_for(&world.call(READ), ReasonCode::Killed));
    let is_ours = |body: &Body| matches!(body, Body::Killed(killed) if killed.scope == KillScope::All);
    assert!(world.records().iter().any(|stored| is_ours(&stored.record.body)), "the record follows");
    world.gate.close().unwrap();
    let next = world.restart(world.disk.process_crash_image()).unwrap();
    assert!(is_denied_for(&next.call(READ), ReasonCode::Killed));
}

#[test]
fn a_kill_that_is_recorded_late_does_not_come_back_after_it_was_lifted() {
    let world = World::new();
    let ack = world.kill(&KillScope::All);
    fill(&world);
    assert!(!world.record_kill(&ack));
    world.disk.set_capacity(None);
    world.command(Deed::Resume { scope: KillScope::All }).unwrap();
    world.tick();
    assert!(matches!(world.call(READ), Answer::Ran { status: Status::Done, .. }));
    world.gate.close().unwrap();
    let next = world.restart(world.disk.process_crash_image()).unwrap();
    let answer = next.call(READ);
    assert!(matches!(answer, Answer::Ran { status: Status::Done, .. }), "{answer:?}");
}

#[test]
fn a_lift_whose_record_is_late_holds_everywhere_once_it_is_written() {
    let world = World::new();
    let ack = world.kill(&KillScope::All);
    assert!(world.record_kill(&ack));
    fill(&world);
    assert!(world.command(Deed::Resume { scope: KillScope::All }).is_err());
    assert!(!matches!(world.call(READ), Answer::Ran { .. }), "nothing runs before the record is durable");
    world.disk.set_capacity(None);
    world.tick();
    let answer = world.call(READ);
    let again = world.command(Deed::Resume { scope: KillScope::All });
    let is_lifted = matches!(answer, Answer::Ran { status: Status::Done, .. });
    assert!(is_lifted || again.is_ok(), "neither lifted nor to be lifted: {answer:?}, {again:?}");
}

#[test]
fn more_late_records_than_are_held_keep_the_gate_closed_until_a_restart() {
    let world = World::new();
    let ack = world.kill(&KillScope::Run(id("r")));
    fill(&world);
    for _ in 0..1_030 {
        assert!(!world.record_kill(&ack));
    }
    world.disk.set_capacity(None);
    world.tick();
    let answer = world.call(READ);
    assert!(is_denied_for(&answer, ReasonCode::LedgerUnavailable), "records are lost for good: {answer:?}");
    drop(world.gate.close());
    let next = world.restart(world.disk.process_crash_image()).unwrap();
    assert!(matches!(next.call(READ), Answer::Ran { status: Status::Done, .. }));
}

#[test]
fn a_dead_ledger_does_not_stop_the_kill() {
    let world = World::new();
    world.upstream().plays(Script::Slow);
    let slow = world.begin_slow();
    world.disk.crash();
    let ack = world.kill(&KillScope::All);
    assert_eq!((ack.cancelled, ack.unsaved.as_deref()), (1, None));
    let written = world.upstream().bytes_written();
    assert!(!world.record_kill(&ack));
    let answer = world.wait(slow).unwrap();
    assert!(matches!(answer, Answer::Ran { status: Status::Unknown, receipt: None, .. }), "{answer:?}");
    assert!(!matches!(world.call(READ), Answer::Ran { .. }));
    assert_eq!(world.upstream().bytes_written(), written);
    drop(world.gate.close());
    let next = world.restart(world.disk.process_crash_image()).unwrap();
    assert!(is_denied_for(&next.call(READ), ReasonCode::Killed), "the kill's own file has it");
    assert_eq!(statuses(&next), [Status::Unknown]);
}

#[test]
fn a_kill_that_came_while_the_gateway_started_is_taken_over_and_recorded() {
    let world = World::new();
    KillSwitch::kill_stopped(&world.kill_file(), &KillScope::All).unwrap();
    world.wait(world.gate.adopt_kills()).unwrap();
    assert!(is_denied_for(&world.call(READ), ReasonCode::Killed));
    assert_eq!(world.upstream().bytes_written(), 0);
    let is_kill = |body: &Body| matches!(body, Body::Killed(_));
    let kills = |world: &World| world.records().iter().filter(|stored| is_kill(&stored.record.body)).count();
    assert_eq!(kills(&world), 1);
    world.wait(world.gate.adopt_kills()).unwrap();
    assert_eq!(kills(&world), 1, "it is recorded once");
}

#[test]
fn orders_that_no_human_signed_are_on_record_every_one_even_when_the_gate_closes() {
    const TRIES: u64 = 100;
    let world = World::new();
    let deed = Deed::Resume { scope: KillScope::All };
    for _ in 0..TRIES {
        assert!(world.forged(deed.clone()).is_err());
    }
    world.gate.close().unwrap();
    let next = world.restart(world.disk.process_crash_image()).unwrap();
    let count = |body: &Body| match body {
        Body::Refused(refused) if refused.point == Point::Admin => refused.count,
        _ => 0,
    };
    assert_eq!(next.records().iter().map(|stored| count(&stored.record.body)).sum::<u64>(), TRIES);
}

/// What stays open asks this again and again: the token was checked once.
#[test]
fn a_caller_that_was_let_in_stands_until_its_token_ends_or_is_revoked() {
    let world = World::new();
    let (_, revoked) = world.token_of("coder");
    assert!(world.gate.standing(&world.caller).is_ok() && world.gate.standing(&revoked).is_ok());
    world.command(Deed::RevokeToken { session: revoked.principal.session.clone() }).unwrap();
    assert_eq!(world.gate.standing(&revoked).unwrap_err().code, ReasonCode::TokenInvalid);
    assert!(world.gate.standing(&world.caller).is_ok(), "another token");
    let left = world.caller.expires.0 - world.gate.now().0;
    world.stage.clock.advance_ms(left - 1);
    assert!(world.gate.standing(&world.caller).is_ok());
    world.stage.clock.advance_ms(1);
    assert_eq!(world.gate.standing(&world.caller).unwrap_err().code, ReasonCode::TokenExpired);
}

#[test]
fn who_waits_hears_of_a_kill_that_covers_it_and_of_no_other() {
    let world = World::new();
    let gate = world.gate.clone();
    let principal = world.caller.principal.clone();
    let waiting = world.stage.runtime.spawn(async move { gate.killed(&principal).await });
    assert_eq!(world.kill(&KillScope::Agent(id("other"))).cancelled, 0);
    world.wait(async { tokio::time::sleep(Duration::from_millis(50)).await });
    assert!(!waiting.is_finished());
    assert_eq!(
        world.kill(&KillScope::Agent(world.caller.principal.agent.clone())).cancelled,
        0,
        "nothing was in flight"
    );
    world.wait(waiting).unwrap();
    // Whoever comes later hears of it at once.
    world.wait(world.gate.killed(&world.caller.principal));
}
