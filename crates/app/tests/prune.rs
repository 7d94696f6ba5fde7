//! Pruning through the command line: what is said before, what everything that reads the log says after.

#![expect(clippy::indexing_slicing, clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod support;

use countersign_ledger::{Config, Entry, Ledger, Store, load_verifier, verify};
use countersign_model::unit::Seq;
use countersign_model::{Body, Record};
use serde_json::{Value, json};
use support::agent::{Agent, End};
use support::log::copied;
use support::witness::{Place, configure};
use support::{AGENT, Installation, PASSPHRASE, Ran, Setup, until};

const PASS: [(&str, &str); 1] = [("passphrase for owner's key: ", PASSPHRASE)];

fn check(ran: &Ran, code: i32, words: &[&str]) {
    assert_eq!(ran.code, code, "{ran:?}");
    let error = ran.error();
    for word in words {
        assert!(error.contains(word), "`{word}` is not in: {error}");
    }
}

/// Appends records of no environment, each in a segment of its own, as a gateway with tiny segments would have.
fn cut_into_segments(at: &Installation, count: u64) {
    // Waiting for a record is not for a thread of the runtime.
    std::thread::scope(|scope| scope.spawn(|| append(at, count)).join().unwrap());
}

fn append(at: &Installation, count: u64) {
    let config = Config { segment_bytes: 1, chunk_bytes: 1, ..Config::default() };
    let mut last: Option<Record> = None;
    let (ledger, _) = Ledger::open(&Store::real(at.path("ledger")), config, &mut |stored| {
        last = Some(Record::from_leaf(stored.leaf)?);
        Ok(())
    })
    .unwrap();
    let last = last.unwrap();
    for seq in 1..=count {
        let record = Record { seq: Seq(last.seq.0 + seq), body: Body::Stopped, ..last.clone() };
        ledger.append(Entry::new(record.to_leaf().unwrap())).wait().unwrap();
    }
    ledger.close().unwrap();
}

fn installation(retention: &str) -> Installation {
    let at = Installation::new(&Setup::lab());
    let text = at.read("countersign.yaml");
    at.write("countersign.yaml", &format!("{text}retention: {retention}\n"));
    at.owner(&["policy", "activate"]);
    at
}

fn size(at: &Installation) -> u64 {
    at.run(&["log", "verify"]).json()["size"].as_u64().unwrap()
}

/// What every reader of the log says of one that begins with record `minimum`.
fn reads(at: &Installation, minimum: u64) {
    let verified = at.run(&["log", "verify"]).json();
    assert_eq!((&verified["verified"], &verified["from"]), (&json!(true), &json!(minimum)), "{verified}");
    let replayed = at.run(&["replay"]);
    assert_eq!(replayed.code, 0, "{replayed:?}");
    assert_eq!((&replayed.json()["clean"], &replayed.json()["from"]), (&json!(true), &json!(minimum)));
    assert_eq!(at.run(&["log", "unknown"]).json()["unknown"], json!([]));
    let tail = at.run(&["log", "tail", "-n", "1000"]).json();
    let records = tail["records"].as_array().unwrap();
    assert_eq!(records[0]["index"], json!(minimum));
    assert!(records.iter().any(|record| record["kind"] == "pruned"));
    let found = at.run(&["log", "query", "--kind", "intent"]).json();
    assert_eq!(found["covered"]["from"], json!(minimum), "{found}");
    let rows: Vec<&Value> = found["rows"].as_array().unwrap().iter().collect();
    assert!(!rows.is_empty() && rows.iter().all(|row| row["index"].as_u64().unwrap() >= minimum), "{rows:?}");
    assert_eq!(at.run(&["log", "export", "--format", "ocsf"]).code, 0);
    let last = minimum - 1;
    check(&at.run(&["log", "show", &last.to_string()]), 1, &["is pruned", &format!("from record `{minimum}` on")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_pruned_and_everything_that_reads_it_goes_on() {
    let at = installation(
        r#"[{ default: true, environments: [production], keep_days: 0, below_minimum: true, reason: "a test bench" }]"#,
    );
    let gateway = at.up().await;
    let agent = Agent::connect(&gateway.url, &at.issue(AGENT, Some("night"))).await;
    let receipt = agent.call("put", "carol").await.receipt.unwrap();
    at.write("receipt.json", &receipt);
    let ran = at.run(&["log", "prune", "--below", "5"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!((&ran.json()["nothing_to_prune"], &ran.json()["pruned"]), (&json!(true), &json!(0)));
    assert!(ran.json()["why"].as_str().unwrap().contains("the one that is written"));
    check(&at.run(&["log", "prune"]), 2, &["--below", "--older-than"]);
    check(&at.run(&["log", "prune", "--below", "5", "--older-than", "2d"]), 2, &["--below"]);
    check(&at.run(&["log", "prune", "--older-than", "soon"]), 2, &["soon"]);
    gateway.stop().await;

    cut_into_segments(&at, 12);
    let minimum = size(&at) - 3;
    copied(&at.path("ledger"), &at.path("unpruned"));
    let gateway = at.up().await;
    let agent = Agent::connect(&gateway.url, &at.token()).await;
    assert_eq!(agent.call("put", "dave").await.end, End::Ran("done".to_owned()));
    check(&at.run(&["log", "prune", "--below", &minimum.to_string()]), 1, &["terminal"]);
    at.owner(&["hold", "add", "case-7"]);
    check(&at.at_terminal(&["log", "prune", "--below", &minimum.to_string()], &PASS), 3, &["the hold `case-7`"]);
    at.owner(&["hold", "release", "case-7"]);
    let pruned = at.owner(&["log", "prune", "--below", &minimum.to_string()]);
    assert_eq!((&pruned["minimum"], &pruned["pruned"]), (&json!(minimum), &json!(minimum)), "{pruned}");
    assert_eq!(agent.call("put", "erin").await.end, End::Ran("done".to_owned()));
    reads(&at, minimum);
    check(&at.run(&["log", "receipt", "3"]), 1, &["is pruned"]);
    let path = at.path("receipt.json").display().to_string();
    assert_eq!(at.run(&["log", "verify", &path]).json()["verified"], true);
    let again = at.run(&["log", "prune", "--below", &minimum.to_string()]).json();
    assert_eq!(again["nothing_to_prune"], json!(true), "{again}");
    gateway.stop().await;

    reads(&at, minimum);
    // An index that has fallen behind what is kept is made again from there.
    std::fs::remove_file(at.path("index.sqlite")).ok();
    for name in std::fs::read_dir(at.root()).unwrap().map(|entry| entry.unwrap().path()) {
        let is_index = name.file_name().unwrap().to_string_lossy().starts_with("index");
        if is_index && name.is_file() {
            std::fs::remove_file(name).unwrap();
        }
    }
    reads(&at, minimum);
    let gateway = at.up().await;
    let agent = Agent::connect(&gateway.url, &at.token()).await;
    assert_eq!(agent.call("put", "frank").await.end, End::Ran("done".to_owned()));
    gateway.stop().await;
    let store = Store::real(at.path("ledger"));
    let key = load_verifier(&store).unwrap();
    verify::walk_public(store.disk(), &store.public(), &key, |_, _| {}).unwrap();

    // Somebody deletes the same segments of a log that was not pruned, and puts the same base there.
    let base = at.path(&format!("ledger/base/{minimum:020}.base"));
    std::fs::rename(at.path("ledger"), at.path("pruned")).unwrap();
    copied(&at.path("unpruned"), &at.path("ledger"));
    for segment in 0..minimum {
        std::fs::remove_file(at.path(&format!("ledger/segments/{segment:020}.seg"))).ok();
    }
    check(&at.run(&["log", "verify"]), 5, &["its base", "it is missing"]);
    copied(&at.path("pruned/base"), &at.path("ledger/base"));
    for command in [&["log", "verify"][..], &["replay"], &["log", "unknown"], &["log", "tail"]] {
        check(&at.run(command), 5, &["its base", "no record of the log commits to it"]);
    }
    // There is a snapshot, of an orderly stop; it makes no difference.
    check(&at.run(&["up"]), 1, &["no record"]);
    std::fs::remove_dir_all(at.path("ledger")).unwrap();
    std::fs::rename(at.path("pruned"), at.path("ledger")).unwrap();

    // What the log begins with is bent: it is named, and nothing starts.
    let mut bytes = std::fs::read(&base).unwrap();
    bytes[60] ^= 1;
    std::fs::write(&base, &bytes).unwrap();
    check(&at.run(&["log", "verify"]), 5, &["its base", "torn or damaged"]);
    check(&at.run(&["replay"]), 5, &["its base"]);
    check(&at.run(&["up"]), 1, &["its base", "torn or damaged"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn retention_keeps_records() {
    let at = installation("[]");
    cut_into_segments(&at, 5);
    let gateway = at.up().await;
    let refused = at.at_terminal(&["log", "prune", "--below", "6"], &PASS);
    check(&refused, 3, &["record `0` must be kept", "no environment", "for 183 more days"]);
    let none = at.run(&["log", "prune", "--older-than", "180d"]).json();
    assert_eq!(none["nothing_to_prune"], json!(true));
    gateway.stop().await;
    assert_eq!(at.run(&["log", "verify"]).json()["from"], json!(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_witness_that_has_not_seen_enough_keeps_records() {
    let setup = Setup::lab();
    let at = Installation::new(&setup);
    let place = Place::new();
    let witness = place.up(&at).await;
    let key = witness.key();
    witness.down().await;
    configure(&at, &setup, (&place.url(), &key), "2s");
    cut_into_segments(&at, 6);
    let gateway = at.up().await;
    let refused = at.at_terminal(&["log", "prune", "--below", "7"], &PASS);
    check(&refused, 3, &["the witness `w1` has cosigned `0` records"]);
    // Once it has, only retention is left to speak against it.
    let witness = place.up(&at).await;
    until("the witness has seen it", &mut || at.get("/status")["witnesses"][0]["cosigned"].as_u64().unwrap() > 7);
    check(&at.at_terminal(&["log", "prune", "--below", "7"], &PASS), 3, &["must be kept"]);
    gateway.stop().await;
    witness.down().await;
}
