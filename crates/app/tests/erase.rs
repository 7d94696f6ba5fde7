//! Erasing and holding through the command line: who may, what is left, and what a wrong word is told.

#![expect(clippy::indexing_slicing, clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod support;

use serde_json::{Value, json};
use support::agent::{Agent, End};
use support::{AGENT, Installation, OWNER, PASSPHRASE, Ran, Setup, until};

const TOOLS: &str = r#"{
  put: { effect: outbound, arguments: { id: plain, text: plain }, subject: id },
  look: { effect: read, arguments: { id: plain, text: plain } },
  change: { effect: write, arguments: { id: plain, text: plain } } }"#;
const PASS: [(&str, &str); 1] = [("passphrase for owner's key: ", PASSPHRASE)];

/// An installation whose class of records may be erased, as `retention` says.
fn installation(retention: &str) -> Installation {
    let setup = Setup { tools: TOOLS.to_owned(), ..Setup::lab() };
    let at = Installation::new(&setup);
    let text = at.read("countersign.yaml");
    at.write("countersign.yaml", &format!("{text}retention: {retention}\n"));
    at.owner(&["policy", "activate"]);
    at
}

fn check(ran: &Ran, code: i32, words: &[&str]) {
    assert_eq!(ran.code, code, "{ran:?}");
    let error = ran.error();
    for word in words {
        assert!(error.contains(word), "`{word}` is not in: {error}");
    }
}

/// The arguments of the decisions on record, as `log show` prints them: `null` where they were erased.
fn arguments(at: &Installation) -> Vec<Value> {
    let tail = at.run(&["log", "tail", "-n", "100"]).json();
    let records = tail["records"].as_array().unwrap().iter();
    let decided = records.filter(|record| ["intent", "proposal"].contains(&record["kind"].as_str().unwrap()));
    let shown = |record: &Value| at.run(&["log", "show", &record["index"].to_string()]).json()["arguments"].clone();
    decided.map(shown).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_and_a_subject_are_erased_and_receipts_still_verify() {
    let at = installation("[{ environments: [production], erasable: true }]");
    let gateway = at.up().await;
    let night = at.issue(AGENT, Some("night"));
    let agent = Agent::connect(&gateway.url, &night).await;
    let other = Agent::connect(&gateway.url, &at.token()).await;
    let receipt = agent.call("put", "carol").await.receipt.unwrap();
    at.write("receipt.json", &receipt);
    let ticket = agent.call("change", "one").await.ticket();
    assert_eq!(other.call("put", "carol").await.end, End::Ran("done".to_owned()));
    assert_eq!(other.call("put", "dave").await.end, End::Ran("done".to_owned()));
    let carol = || json!(r#"{"id":"carol"}"#);
    assert_eq!(arguments(&at), [carol(), json!(r#"{"id":"one"}"#), carol(), json!(r#"{"id":"dave"}"#)]);

    check(&at.run(&["erase"]), 2, &["--run", "--subject"]);
    check(&at.run(&["erase", "--run", "a", "--subject", "b"]), 2, &["--run", "--subject"]);
    check(&at.run(&["erase", "--run", "night"]), 1, &["terminal"]);
    let held = at.owner(&["hold", "add", "case-7", "--run", "night"]);
    assert!(held["leaf"].is_u64(), "{held}");
    check(&at.at_terminal(&["hold", "add", "case-7"], &PASS), 3, &["there is a hold `case-7` already"]);
    let listed = at.run(&["hold", "list"]).json();
    assert_eq!((&listed["holds"][0]["run"], &listed["holds"][0]["human"]), (&json!("night"), &json!(OWNER)));
    check(&at.at_terminal(&["erase", "--run", "night"], &PASS), 3, &["the hold `case-7` covers it"]);
    check(&at.at_terminal(&["erase", "--subject", "carol"], &PASS), 3, &["also covered by the hold `case-7`"]);
    at.owner(&["hold", "release", "case-7"]);
    check(&at.at_terminal(&["hold", "release", "case-7"], &PASS), 3, &["there is no hold `case-7`"]);

    let erased = at.owner(&["erase", "--subject", "carol"]);
    assert_eq!((&erased["keys"], &erased["payloads"]), (&json!(1), &json!(4)));
    let erased = at.owner(&["erase", "--run", "night"]);
    assert_eq!((&erased["keys"], &erased["payloads"]), (&json!(1), &json!(3)));
    let left = [Value::Null, Value::Null, Value::Null, json!(r#"{"id":"dave"}"#)];
    assert_eq!(arguments(&at), left);
    check(&at.run(&["approvals", "show", &ticket]), 1, &["nothing waits under"]);
    let path = at.path("receipt.json").display().to_string();
    assert_eq!(at.run(&["log", "verify", &path]).json()["verified"], true);

    gateway.stop().await;
    assert_eq!(arguments(&at), left, "read without a gateway");
    assert_eq!(at.run(&["log", "verify"]).json()["verified"], true);
    let gateway = at.up().await;
    assert_eq!(arguments(&at), left, "after a restart");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn retention_forbids_what_its_class_does_not_allow() {
    let at = installation("[{ environments: [staging], erasable: true }]");
    let gateway = at.up().await;
    let agent = Agent::connect(&gateway.url, &at.issue(AGENT, Some("night"))).await;
    assert_eq!(agent.call("look", "carol").await.end, End::Ran("done".to_owned()));
    let refused = at.at_terminal(&["erase", "--run", "night"], &PASS);
    check(&refused, 3, &["must stay readable", "`production`", "183 more days", "`erasable`"]);
    assert_eq!(arguments(&at), [json!(r#"{"id":"carol"}"#)]);
    gateway.stop().await;
}

#[test]
fn a_wrong_class_of_retention_is_named() {
    let at = installation("[]");
    let good = at.read("countersign.yaml");
    let wrong = |to: &str, words: &[&str]| {
        at.write("countersign.yaml", &good.replace("retention: []", &format!("retention: [{to}]")));
        check(&at.run(&["policy", "check"]), 2, words);
    };
    wrong("{ environments: [] }", &["names no `environments`"]);
    wrong("{ environments: [a, a] }", &["`a` twice"]);
    wrong("{ default: true }, { default: true }", &["two classes with `default: true`"]);
    wrong(
        "{ environments: [a], keep_days: 30 }",
        &["`keep_days: 30`", "183 days", "`below_minimum: true`", "`reason`"],
    );
    wrong("{ environments: [a], keep_days: 30, below_minimum: true }", &["needs a `reason`"]);
    wrong("{ environments: [a], keep_days: 400, below_minimum: true, reason: x }", &["is not below the minimum"]);
    wrong("{ environments: [a], keep_weeks: 3 }", &["keep_weeks"]);
    let fine = "retention: [{ environments: [a], keep_days: 30, below_minimum: true, reason: a test bench }]";
    at.write("countersign.yaml", &good.replace("retention: []", fine));
    assert_eq!(at.run(&["policy", "check"]).code, 0);
    at.write("countersign.yaml", &good.replace("subject: id", "subject: who"));
    check(&at.run(&["policy", "check"]), 2, &["`subject: who`", "not among the tool's `arguments`"]);
}

/// The files of the index that hold a word, the write-ahead log with them.
fn indexed(at: &Installation, word: &str) -> Vec<String> {
    let ends = ["", "-wal", "-shm"].map(|end| format!("index.sqlite{end}"));
    let holds = |name: &String| {
        let bytes = std::fs::read(at.path(name)).unwrap_or_default();
        bytes.windows(word.len()).any(|window| window == word.as_bytes())
    };
    ends.into_iter().filter(holds).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn erased_arguments_leave_the_index_of_the_running_gateway() {
    let at = installation("[{ environments: [production], erasable: true }]\nindex: { full_text: true }");
    let gateway = at.up().await;
    for (run, word) in [("night", "xylophone"), ("day", "zeppelin")] {
        let agent = Agent::connect(&gateway.url, &at.issue(AGENT, Some(run))).await;
        assert!(matches!(agent.call("look", word).await.end, End::Ran(_)));
        until("the call is indexed", &mut || !indexed(&at, word).is_empty());
    }
    at.owner(&["erase", "--run", "night"]);
    until("the text is gone", &mut || indexed(&at, "xylophone").is_empty());
    assert!(!indexed(&at, "zeppelin").is_empty(), "the other run's text stays");
    let found = at.run(&["log", "query", "--text", "zeppelin"]).json();
    assert_eq!(found["rows"][0]["tool"], "look", "{found}");
    gateway.stop().await;
}
