//! A secret goes to the upstream and nowhere else: not to the disk, not to an approver, not into an order of records.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail the test")]

use countersign_gate::Gate;
use countersign_gate::call::Answer;
use countersign_kernel::replay::{Leaf, replay};
use countersign_model::id::TicketId;
use countersign_model::preview::preview;
use countersign_model::record::{Attempt, Claimed, Status};
use countersign_model::unit::LeafIndex;
use countersign_model::{Body, Certainty, Digest};
use countersign_testkit::upstream::Script;
use countersign_testkit::world::{World, arguments};

const SECRET: &str = "hunter2-swordfish";
const CHANGE: &str = "UPDATE customers SET password = 'hunter2-swordfish' WHERE id = 1";
const CLEAN: &str = r#"{"sql":"UPDATE customers SET password = '[redacted:password]' WHERE id = 1"}"#;

fn ticket(answer: &Answer<Vec<u8>>) -> TicketId {
    match answer {
        Answer::Parked { ticket, .. } => ticket.clone(),
        other => panic!("{other:?}"),
    }
}

/// The secret is in no file, and in nothing that is read from them, whether or not they are encrypted.
fn assert_gone(world: &World, secret: &str) {
    assert_eq!(world.disk.holding(secret.as_bytes()), Vec::<std::path::PathBuf>::new());
    let holds = |bytes: &[u8]| bytes.windows(secret.len()).any(|at| at == secret.as_bytes());
    for stored in world.records() {
        let payload = stored.payload.map(|payload| payload.encode().unwrap()).unwrap_or_default();
        assert!(!holds(&stored.leaf) && !holds(&payload), "record {}", stored.index);
        assert!(!format!("{:?}", stored.record).contains(secret));
    }
}

fn attempts(world: &World, kind: &str) -> Vec<Attempt> {
    let records = world.records().into_iter().filter(|stored| stored.record.body.kind() == kind);
    records.map(|stored| stored.record.body.attempt().unwrap().clone()).collect()
}

fn assert_replays(world: &World) {
    let leaves: Vec<Leaf> = world
        .records()
        .into_iter()
        .map(|stored| Leaf {
            leaf: LeafIndex(stored.index),
            leaf_hash: Gate::leaf_hash(&stored.leaf),
            record: stored.record,
            payload: stored.payload,
        })
        .collect();
    let report = replay(&leaves, &world.stage.settings(), &world.stage.bundle);
    assert!(report.is_clean(), "{report:?}");
}

#[test]
fn a_secret_goes_upstream_and_nowhere_else() {
    let world = World::new();
    let parked = world.call(CHANGE);
    let waiting = world.gate.waiting_under(&ticket(&parked)).unwrap();
    let payload = waiting.proposal.payload.clone().unwrap();
    assert_eq!(String::from_utf8(payload.arguments.clone()).unwrap(), CLEAN);
    let Body::Proposal(proposal) = &waiting.proposal.record.body else { panic!() };
    assert!(payload.opens(&proposal.attempt));
    let shown = preview(&payload.action(&proposal.attempt));
    assert!(shown.contains("secrets not shown: 1 (password /sql)") && !shown.contains(SECRET), "{shown}");
    assert_eq!(proposal.attempt.facts.certainty, Certainty::Exact, "only data was replaced");

    // The next process knows it again, by the true bytes.
    let world = world.restart(world.disk.process_crash_image()).unwrap();
    assert!(matches!(world.call(CHANGE), Answer::Parked { repeated: true, .. }));
    world.approve(&ticket(&parked)).unwrap();
    let world = world.restart(world.disk.process_crash_image()).unwrap();
    assert!(matches!(world.call(CHANGE), Answer::Ran { status: Status::Done, .. }));
    assert!(matches!(world.call(CHANGE), Answer::Parked { repeated: false, .. }), "it runs once");
    assert_eq!(world.upstream().effects().len(), 1);
    assert_eq!(world.upstream().count_of(arguments(CHANGE).as_bytes()), 1, "the upstream got the true bytes");

    let intent = attempts(&world, "intent").pop().unwrap();
    assert_eq!(intent.redactions.items, ["password /sql"]);
    assert_gone(&world, SECRET);
    assert_replays(&world);
    world.gate.close().unwrap();
    assert_gone(&world.restart(world.disk.process_crash_image()).unwrap(), SECRET);
}

#[test]
fn consent_to_one_secret_is_none_to_another() {
    let world = World::new();
    let parked = world.call(CHANGE);
    world.approve(&ticket(&parked)).unwrap();
    let other = CHANGE.replace("hunter2", "hunter3");
    let asked = world.call(&other);
    assert!(matches!(asked, Answer::Parked { repeated: false, .. }), "{asked:?}");
    assert_ne!(ticket(&asked), ticket(&parked));
    assert!(world.upstream().effects().is_empty());
    // What an approver sees differs in the digest alone.
    let arguments: Vec<_> =
        world.records().into_iter().filter_map(|stored| stored.payload).map(|payload| payload.arguments).collect();
    assert_eq!(arguments, [CLEAN.as_bytes(), CLEAN.as_bytes()]);
}

/// The digest lies in the payload: it must not be a hash that a guess can be tried on.
#[test]
fn a_digest_does_not_confirm_a_guess() {
    let world = World::new();
    world.call(CHANGE);
    let proposal = attempts(&world, "proposal").pop().unwrap();
    let payload = world.records().into_iter().find_map(|stored| stored.payload).unwrap();
    let mut guess = payload.action(&proposal);
    assert_eq!(guess.digest(), payload.digest);
    guess.arguments = arguments(CHANGE).into_bytes();
    guess.redacted = None;
    assert_ne!(guess.digest(), payload.digest, "the right guess has another digest");
}

#[test]
fn what_an_upstream_or_an_error_quotes_is_cleaned() {
    let world = World::new();
    world.upstream().plays(Script::Quote);
    let read = "SELECT 'AKIAIOSFODNN7EXAMPLE' FROM customers";
    let Answer::Ran { note, .. } = world.call(read) else { panic!() };
    assert!(note.unwrap().contains("AKIAIOSFODNN7EXAMPLE"), "the caller is told as it is");
    let noted = world.records().into_iter().find_map(|stored| match stored.record.body {
        Body::Outcome(outcome) => outcome.note,
        _ => None,
    });
    assert!(noted.unwrap().contains("[redacted:aws-access-key]"));
    // A key twice: the refusal names it.
    let twice = r#"{"AKIAIOSFODNN7EXAMPLE":1,"AKIAIOSFODNN7EXAMPLE":2}"#;
    assert!(matches!(world.wait(world.begin(world.framed("query", twice))).unwrap(), Answer::Denied { .. }));
    // A table by such a name is a fact, a member by such a name is one that no binding declares.
    world.call("SELECT name FROM AKIAIOSFODNN7EXAMPLE");
    let strange = r#"{"AKIAIOSFODNN7EXAMPLE":1}"#;
    world.wait(world.begin(world.framed("query", strange))).unwrap();
    let mut claiming = world.framed("query", &arguments("SELECT 1"));
    claiming.claimed = Claimed { step: Some("AKIAIOSFODNN7EXAMPLE".to_owned()), ..Claimed::default() };
    claiming.meta = br#"{"k":"AKIAIOSFODNN7EXAMPLE"}"#.to_vec();
    world.wait(world.begin(claiming)).unwrap();
    let claimed = attempts(&world, "intent").pop().unwrap();
    assert_eq!(claimed.claimed.step.as_deref(), Some("[redacted:aws-access-key]"));
    assert_eq!(claimed.redactions.items, ["aws-access-key _meta/k"]);
    assert!(world.disk.holding(b"iosfodnn7").is_empty());
    assert_gone(&world, "AKIAIOSFODNN7EXAMPLE");
    assert_gone(&world, "IOSFODNN7");
    assert_replays(&world);
}

/// A claim is in no digest: with a secret in it or without, the call is the same.
#[test]
fn a_claim_changes_no_digest() {
    let world = World::new();
    let digest_with = |step: Option<&str>| {
        let mut call = world.framed("query", &arguments("SELECT 1"));
        call.claimed.step = step.map(str::to_owned);
        world.wait(world.begin(call)).unwrap();
        world.records().into_iter().filter_map(|stored| stored.payload).next_back().unwrap().digest
    };
    let digests: Vec<Digest> = [None, Some("AKIAIOSFODNN7EXAMPLE")].map(digest_with).to_vec();
    assert_eq!(digests.first(), digests.last());
}
