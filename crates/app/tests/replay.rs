//! `replay` and `log unknown` through the real program: a clean log, another policy, a forged record, a snapshot, bad words.

#![expect(clippy::indexing_slicing, clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use countersign_ledger::vault::Scopes;
use countersign_ledger::{Config, Entry as NewEntry, Ledger, Store, Vault};
use countersign_model::Body;
use serde_json::{Value, json};
use support::agent::{Agent, End};
use support::forge::{Part, forge, reseal};
use support::log::copied;
use support::{AGENT, Installation, PROGRAM, Ran, Setup};

/// Fails unless the command ended with `code` and one object whose `error` holds all of `words`.
fn check(ran: &Ran, code: i32, words: &[&str]) {
    assert_eq!(ran.code, code, "{ran:?}");
    let error = ran.error();
    for word in words {
        assert!(error.contains(word), "`{word}` is not in: {error}");
    }
}

/// What `replay` says of a log in which nothing differs: it is clean if nothing is outdated either.
fn clean(at: &Installation, args: &[&str]) -> Value {
    let ran = at.run(&[&["replay"], args].concat());
    assert_eq!(ran.code, 0, "{ran:?}");
    let said = ran.json();
    assert_eq!((&said["clean"], &said["differs"]), (&json!(said["outdated"] == 0), &json!(0)), "{said}");
    assert_eq!(said["payloads"], "checked");
    assert_eq!(said["differing"], json!([]));
    said
}

/// A closed log of calls that ran, of one that waited for a human, and of one that was denied.
async fn lived() -> Installation {
    let mut setup = Setup::lab();
    setup.budgets.push("{ scope: run, calls: 4 }".to_owned());
    let at = Installation::new(&setup);
    let gateway = at.up().await;
    let agent = Agent::connect(&gateway.url, &at.token()).await;
    for id in ["one", "two"] {
        assert_eq!(agent.call("put", id).await.end, End::Ran("done".to_owned()));
    }
    let ticket = agent.call("change", "three").await.ticket();
    at.approve(&ticket);
    for (tool, id) in [("change", "three"), ("look", "four")] {
        assert_eq!(agent.call(tool, id).await.end, End::Ran("done".to_owned()));
    }
    assert_eq!(agent.call("put", "five").await.denied(), "budget_exhausted");
    gateway.stop().await;
    at
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_replayed_under_its_own_policy_under_another_and_elsewhere() {
    let at = lived().await;
    let said = clean(&at, &[]);
    // Four intents, a proposal, a denial, the consent and the acceptance of the policy; before that, what `init` enrolled
    // and accepted, and the token that it issued under another configuration.
    assert_eq!((&said["identical"], &said["outdated"], &said["erased"]), (&json!(10), &json!(1), &json!(0)), "{said}");
    let lifetime = &said["lifetimes"][1];
    for same in ["same_version", "same_configuration", "same_policy"] {
        assert_eq!(lifetime[same], true, "{same}: {said}");
    }
    let verified = at.run(&["log", "verify"]).json();
    assert_eq!((&said["size"], &said["root"]), (&verified["size"], &verified["root"]));
    let config = format!("--config={}", at.path("countersign.yaml").display());
    let people = support::run(&[&config, "replay"]);
    assert!(
        people.code == 0
            && people
                .stdout
                .contains("1 outdated: not judged again, the rest does not differ: 10 identical, 0 different"),
        "{people:?}"
    );

    // From a record on, only what stands there is counted.
    let last = at.records().iter().rfind(|entry| entry.record.body.attempt().is_some()).unwrap().index;
    let of_last = clean(&at, &["--from", &last.to_string()]);
    assert_eq!((&of_last["identical"], &of_last["clean"]), (&json!(1), &json!(true)));
    let people = support::run(&[&config, "replay", "--from", &last.to_string()]);
    assert!(people.stdout.contains("clean: 1 identical, 0 different"), "{people:?}");
    assert_eq!(clean(&at, &["--from", "0"])["identical"], 10);
    // There is no snapshot in so short a log: all of it is read.
    assert_eq!(clean(&at, &["--from-snapshot"])["from"], 0);

    let old = tempfile::tempdir().unwrap();
    for file in ["countersign.yaml", "policy.cedar", "keys"] {
        let (from, to) = (at.path(file), old.path().join(file));
        if from.is_dir() { copied(&from, &to) } else { fs::copy(from, to).map(drop).unwrap() }
    }
    let policy = at.read("policy.cedar");
    at.write("policy.cedar", &format!("{policy}\n@id(\"nothing-is-put\")\nforbid (principal, action, resource) when {{ context.tool == \"put\" }};\n"));
    let said = clean(&at, &[]);
    assert_eq!((&said["identical"], &said["outdated"]), (&json!(3), &json!(8)), "{said}");
    let lifetime = &said["lifetimes"][1];
    assert_eq!((&lifetime["same_policy"], &lifetime["same_version"]), (&json!(false), &json!(true)), "{said}");
    let (config, ledger) = (old.path().join("countersign.yaml"), at.path("ledger"));
    let config = format!("--config={}", config.display());
    let older = support::run(&["--json", &config, "replay", "--ledger", &ledger.display().to_string()]);
    assert_eq!((older.code, &older.json()["identical"]), (0, &json!(10)), "{older:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_payload_and_a_decision_that_does_not_follow_are_named() {
    let at = lived().await;
    let records = at.records();
    let good = fs::read(at.segment()).unwrap();
    let attempts: Vec<_> = records.iter().filter(|entry| entry.record.body.attempt().is_some()).collect();
    for entry in &attempts {
        forge(&at.segment(), entry.index, Part::Payload);
        let named = format!("record `{}`", entry.index);
        check(&at.run(&["replay"]), 5, &[&named, "payload"]);
        check(&at.run(&["replay", "--from-snapshot"]), 5, &[&named]);
        fs::write(at.segment(), &good).unwrap();
    }
    let outcome = records.iter().find(|entry| matches!(entry.record.body, Body::Outcome(_))).unwrap();
    for (index, part) in [(outcome.index, Part::Payload), (attempts[0].index, Part::Leaf)] {
        forge(&at.segment(), index, part);
        check(&at.run(&["replay"]), 5, &[&format!("record `{index}`")]);
        fs::write(at.segment(), &good).unwrap();
    }
    clean(&at, &[]);

    // Whoever has the log's key can sign what was never decided; it does not follow all the same.
    let denial = attempts.iter().find(|entry| matches!(entry.record.body, Body::Denial(_))).unwrap();
    let Body::Denial(denied) = denial.record.body.clone() else { unreachable!() };
    let mut signed = denial.record.clone();
    signed.seq.0 = records.last().unwrap().record.seq.0 + 2;
    signed.body = Body::Intent(denied);
    let store = Store::real(at.path("ledger"));
    let vault = Vault::open(&store).unwrap();
    vault.refill().unwrap();
    let scopes = Scopes { run: "r-1".parse().unwrap(), subject: None };
    let (ledger, _) = Ledger::open(&store, Config::default(), &mut |_| Ok(())).unwrap();
    let (leaf, stored) = (signed.to_leaf().unwrap(), ledger.record(denial.index).unwrap());
    let payload = vault.unseal(&stored.payload.unwrap(), &stored.leaf).unwrap().unwrap();
    let sealed = vault.sealer(&scopes).unwrap().seal(&payload, &leaf).unwrap();
    let pending = ledger.append(NewEntry::with_payload(leaf, sealed));
    let added = tokio::task::block_in_place(|| pending.wait()).unwrap().index;
    ledger.close().unwrap();
    assert_eq!(at.run(&["log", "verify"]).code, 0, "its signature is right");
    let ran = at.run(&["replay"]);
    let said = ran.json();
    assert_eq!((ran.code, &said["clean"], &said["differs"]), (5, &json!(false), &json!(1)), "{ran:?}");
    let named = &said["differing"][0];
    assert_eq!((&named["leaf"], &named["kind"]), (&json!(added), &json!("intent")), "{said}");
    assert!(named["what"].to_string().contains("judged kind"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_is_begun_at_only_if_the_log_commits_to_it() {
    let at = Installation::new(&Setup::lab());
    let gateway = at.up().await;
    let agent = Agent::connect(&gateway.url, &at.token()).await;
    // An orderly stop takes a snapshot after a thousand records: two a call.
    for call in 0..510 {
        agent.call("look", &call.to_string()).await;
    }
    gateway.stop().await;
    let whole = clean(&at, &[]);
    assert_eq!(whole["from"], 0);
    let said = clean(&at, &["--from-snapshot"]);
    let (from, size) = (said["from"].as_u64().unwrap(), said["size"].as_u64().unwrap());
    assert!(from > 1_000 && from < size, "{said}");
    assert_eq!((&said["root"], &said["outdated"]), (&whole["root"], &json!(0)));
    assert_eq!(clean(&at, &["--from", &from.to_string()])["from"], from, "the newest at or below it");
    let above = clean(&at, &["--from", &(from - 1).to_string()]);
    assert_eq!((&above["from"], &above["identical"]), (&json!(0), &said["identical"]), "one below, all is read");

    // A state that no record of the log commits to, with a checksum that is right.
    let snapshot = only_file(&at.path("ledger/snapshots"));
    let mut bytes = fs::read(&snapshot).unwrap();
    let word = bytes.windows(AGENT.len()).rposition(|word| word == AGENT.as_bytes()).unwrap();
    bytes[word] = b'b';
    reseal(&mut bytes);
    fs::write(&snapshot, bytes).unwrap();
    let ran = at.run(&["replay", "--from-snapshot"]);
    assert_eq!((ran.code, &ran.json()["from"]), (0, &json!(0)), "{ran:?}");
    assert_eq!(ran.json()["identical"], whole["identical"]);
    assert!(ran.stderr.contains("no record of the log commits to it"), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_begins_at_snapshots_from_before_and_after_a_change_of_the_key() {
    let at = Installation::new(&Setup::lab());
    let calls = async |count: u32, rotates: bool| {
        let gateway = at.up().await;
        let agent = Agent::connect(&gateway.url, &at.token()).await;
        let key = rotates.then(|| at.owner(&["log", "rotate-key"])["key"].as_str().unwrap().to_owned());
        for call in 0..count {
            assert_eq!(agent.call("look", &call.to_string()).await.end, End::Ran("done".to_owned()));
        }
        gateway.stop().await;
        key
    };
    let from = || clean(&at, &["--from-snapshot"])["from"].as_u64().unwrap();
    calls(510, false).await;
    let before = from();
    assert!(before > 1_000);
    calls(3, true).await;
    assert_eq!(from(), before, "records under both keys lie behind it");
    calls(510, false).await;
    let after = from();
    assert!(after > before + 1_000, "{after}");
    let last = calls(3, true).await;
    let said = clean(&at, &["--from-snapshot"]);
    assert_eq!(said["from"], after);
    // The first key leads to the newest by the list; the newest vouches for what the older ones signed.
    let first = at.path("ledger/log.vkey").display().to_string();
    for key in [first.as_str(), last.as_deref().unwrap()] {
        assert_eq!(clean(&at, &["--from-snapshot", "--key", key]), said);
    }
    let whole = clean(&at, &["--key", &first]);
    assert_eq!((&said["root"], &said["size"]), (&whole["root"], &whole["size"]));
}

fn only_file(folder: &Path) -> PathBuf {
    let files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files[0].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn replay_refuses_bad_words_with_the_input_named() {
    let at = lived().await;
    let size = at.run(&["log", "verify"]).json()["size"].to_string();
    check(&at.run(&["replay", "--from", "9", "--from-snapshot"]), 2, &["--from", "--from-snapshot"]);
    check(&at.run(&["replay", "--from", "nine"]), 2, &["nine", "--from"]);
    check(&at.run(&["replay", "--from", &size]), 2, &[&size, "is not in a log of"]);
    check(&at.run(&["replay", "--key", "nonsense"]), 2, &["`nonsense`", "neither a file nor a verifier key"]);
    let nowhere = at.path("nowhere").display().to_string();
    check(&at.run(&["replay", "--ledger", &nowhere]), 1, &["no ledger", &nowhere]);
    check(&at.run(&["replay", "--ledger", &nowhere, "--from-snapshot"]), 1, &["no ledger", &nowhere]);
    let foreign = Installation::new(&Setup::lab()).read("ledger/log.vkey");
    check(&at.run(&["replay", "--key", foreign.trim()]), 5, &["is not signed by"]);
    at.write("policy.cedar", "permit (");
    check(&at.run(&["replay"]), 2, &["policy.cedar"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_outcomes_are_listed_beside_the_gateway_and_without_it() {
    let at = Installation::new(&Setup::lab());
    let gateway = at.up().await;
    let agent = Agent::connect(&gateway.url, &at.token()).await;
    assert_eq!(agent.call("put", "one").await.end, End::Ran("done".to_owned()));
    assert_eq!(at.run(&["log", "unknown"]).json(), json!({"unknown": []}));
    let held = tokio::spawn(async move { agent.try_call("hold", "two").await.is_ok() });
    support::until("the upstream has begun", &mut || at.effects().iter().any(|effect| effect == "hold two"));
    let config = format!("--config={}", at.path("countersign.yaml").display());
    let people = support::run(&[&config, "log", "unknown"]);
    assert!(people.stdout.contains("no outcome on record, or still in flight: lab/hold"), "{people:?}");
    gateway.crash().await;
    assert!(!held.await.unwrap(), "nobody answered");
    // No outcome is on record before the next start, and nothing writes one now.
    let open = at.run(&["log", "unknown"]).json();
    let unended = &open["unknown"][0];
    assert_eq!((&unended["outcome"], &unended["recorded_ms"]), (&Value::Null, &Value::Null), "{open}");
    assert_eq!((&unended["tool"], &unended["pruned"]), (&json!("hold"), &json!(false)), "{open}");
    let people = support::run(&[&config, "log", "unknown"]);
    assert!(people.stdout.contains("no outcome on record: lab/hold"), "{people:?}");
    let gateway = at.up().await;
    assert_eq!(gateway.said["unknown"], 1);
    let beside = at.run(&["log", "unknown"]);
    assert_eq!(beside.code, 0, "{beside:?}");
    gateway.stop().await;
    let said = at.run(&["log", "unknown"]).json();
    assert_eq!(said, beside.json());
    let unknown = &said["unknown"][0];
    assert_eq!(said["unknown"].as_array().unwrap().len(), 1, "{said}");
    assert_eq!((&unknown["agent"], &unknown["tool"]), (&json!(AGENT), &json!("hold")), "{said}");
    assert_eq!((&unknown["target"], &unknown["environment"]), (&json!("lab"), &json!("production")));
    let records = at.records();
    let intent = records.iter().find(|entry| entry.id() == "two").unwrap().index;
    assert_eq!(unknown["intent"], intent);
    let outcome = records.iter().find(|entry| entry.index == unknown["outcome"]).unwrap();
    assert!(matches!(&outcome.record.body, Body::Outcome(outcome) if outcome.intent.0 == intent));
    let people = support::run(&[&config, "log", "unknown"]);
    assert!(people.stdout.contains("1 unknown") && people.stdout.contains("lab/hold"), "{people:?}");

    let good = fs::read(at.segment()).unwrap();
    forge(&at.segment(), intent, Part::Leaf);
    check(&at.run(&["log", "unknown"]), 5, &[&format!("record `{intent}`")]);
    fs::write(at.segment(), good).unwrap();
    fs::remove_dir_all(at.path("ledger")).unwrap();
    check(&at.run(&["log", "unknown"]), 1, &["no ledger", "countersign init"]);
}

const _: &str = PROGRAM;
