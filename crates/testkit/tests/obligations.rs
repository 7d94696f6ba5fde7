//! What a verdict obliges to, from the record to the effect: kept, or nothing begins.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use countersign_gate::call::{Answer, Execute, Executed};
use countersign_gate::permit::{Aftermath, Permit, Stop};
use countersign_model::record::{KillScope, Status};
use countersign_model::verdict::Obligation;
use countersign_model::{Body, ReasonCode, Verdict};
use countersign_testkit::upstream::Script;
use countersign_testkit::world::{CHANGE, READ, Rules, World, arguments};

/// Reads run under one obligation; changes run without.
fn world(obligation: &str) -> World {
    let policy = format!(
        r#"
@id("all") permit (principal, action in Action::"call", resource);
@id("obliged") {obligation}
permit (principal, action in Action::"call", resource) when {{ context.effect == "read" }};
"#
    );
    World::under(Rules { policy, ..Rules::default() })
}

fn outcomes(world: &World) -> Vec<Status> {
    let outcome = |body: &Body| match body {
        Body::Outcome(outcome) => Some(outcome.status),
        _ => None,
    };
    world.records().iter().filter_map(|stored| outcome(&stored.record.body)).collect()
}

fn last_verdict(world: &World) -> Verdict {
    world.records().iter().rev().find_map(|stored| stored.record.body.attempt().map(|a| a.verdict.clone())).unwrap()
}

#[test]
fn what_nothing_can_enforce_denies_before_anything_ran() {
    for obligation in [r#"@obligation("max_rows") @value("10")"#, r#"@obligation("undo")"#, r#"@obligation("sandbox")"#]
    {
        let world = world(obligation);
        match world.call(READ) {
            Answer::Denied { reasons, receipt } => {
                assert_eq!(reasons[0].code, ReasonCode::Unsupported, "{obligation}");
                assert!(receipt.is_some(), "it is on record");
            }
            other => panic!("{obligation}: {other:?}"),
        }
        assert!(world.stage.upstream.effects().is_empty());
        assert_eq!(outcomes(&world), [Status::NotStarted]);
        assert!(matches!(world.call(CHANGE), Answer::Ran { .. }), "what it does not cover runs");
    }
}

#[test]
fn an_effect_that_takes_too_long_is_stopped_and_its_outcome_unknown() {
    let world = world(r#"@obligation("timeout") @value("1s")"#);
    assert!(matches!(world.call(READ), Answer::Ran { status: Status::Done, .. }), "what is quick is not touched");
    world.stage.upstream.plays(Script::Slow);
    match world.call(READ) {
        Answer::Ran { status: Status::Unknown, reply: None, note: Some(note), receipt: Some(_) } => {
            assert!(note.contains("time was over"), "{note}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(outcomes(&world), [Status::Done, Status::Unknown]);
}

/// Ends at once, and gives what it leaves behind.
#[derive(Default)]
struct Leaves(std::sync::Mutex<Option<Aftermath>>);

impl Execute for Leaves {
    type Reply = ();

    async fn execute(&self, permit: Permit) -> Executed<()> {
        *self.0.lock().unwrap() = Some(permit.aftermath());
        Executed {
            status: Status::Unknown,
            result: Vec::new(),
            rows: None,
            bytes_sent: 0,
            cost_microusd: None,
            undo: None,
            note: None,
            redacted: false,
            reply: None,
        }
    }
}

/// What a read leaves behind.
fn left_behind(world: &World) -> Aftermath {
    let leaves = std::sync::Arc::new(Leaves::default());
    let (gate, call) = (world.gate.clone(), world.framed("query", &arguments(READ)));
    world.stage.runtime.block_on(gate.govern(call, leaves.clone()));
    leaves.0.lock().unwrap().take().unwrap()
}

#[test]
fn what_is_left_behind_ends_with_the_time_or_a_kill_and_not_before() {
    let timed = world(r#"@obligation("timeout") @value("1s")"#);
    let left = left_behind(&timed);
    assert_eq!(timed.stage.runtime.block_on(left.over()), Stop::Late);

    let world = world(r#"@obligation("notify") @value("ops")"#);
    let (left, other) = (left_behind(&world), left_behind(&world));
    let runtime = &world.stage.runtime;
    let soon = std::time::Duration::from_millis(50);
    assert!(runtime.block_on(async { tokio::time::timeout(soon, left.over()).await }).is_err(), "nobody is killed");
    world.gate.switch().kill(&KillScope::All);
    assert_eq!(runtime.block_on(other.over()), Stop::Killed);
}

#[test]
fn of_two_times_the_shorter_counts() {
    let two = r#"@obligation("timeout") @value("1h")
permit (principal, action in Action::"call", resource);
@id("shorter") @obligation("timeout") @value("1s")"#;
    let world = world(two);
    world.stage.upstream.plays(Script::Slow);
    assert!(matches!(world.call(READ), Answer::Ran { status: Status::Unknown, .. }));
}

#[test]
fn a_reply_that_nobody_redacted_goes_to_nobody() {
    let world = world(r#"@obligation("redact")"#);
    match world.call(READ) {
        Answer::Ran { status: Status::Done, reply: None, note: Some(note), receipt: Some(_) } => {
            assert!(note.contains("withheld"), "{note}");
        }
        other => panic!("{other:?}"),
    }
    let executor = world.stage.upstream.call(arguments(READ).as_bytes()).redacting();
    let call = world.framed("query", &arguments(READ));
    let gate = world.gate.clone();
    let answer = world.stage.runtime.block_on(gate.govern(call, std::sync::Arc::new(executor)));
    assert!(matches!(answer, Answer::Ran { status: Status::Done, reply: Some(_), .. }), "{answer:?}");
    assert!(
        matches!(world.call(CHANGE), Answer::Ran { reply: Some(_), .. }),
        "where nothing demands it, nothing is withheld"
    );
}

#[test]
fn who_is_to_be_told_is_on_record_and_holds_nothing_up() {
    let world = world(r#"@obligation("notify") @value("ops")"#);
    assert!(matches!(world.call(READ), Answer::Ran { status: Status::Done, reply: Some(_), .. }));
    let expected = Verdict::Modify { obligations: vec![Obligation::Notify { channel: "ops".to_owned() }] };
    assert_eq!(last_verdict(&world), expected);
}
