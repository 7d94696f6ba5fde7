//! The record asked through the real program: beside a running gateway, after it ended, and with bad questions.

#![expect(clippy::indexing_slicing, clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod support;

use serde_json::{Value, json};
use support::agent::{Agent, End};
use support::{AGENT, Installation, Setup};

/// Fails unless the command ended with `code` and one object whose `error` holds all of `words`.
fn check(at: &Installation, args: &[&str], code: i32, words: &[&str]) {
    let ran = at.run(args);
    assert_eq!(ran.code, code, "{ran:?}");
    let error = ran.error();
    for word in words {
        assert!(error.contains(word), "`{word}` is not in: {error}");
    }
}

fn rows(at: &Installation, args: &[&str]) -> Vec<Value> {
    let ran = at.run(&[&["log", "query"], args].concat());
    assert_eq!(ran.code, 0, "{ran:?}");
    let said = ran.json();
    assert_eq!(said["covered"]["root"].as_str().map(str::len), Some(44), "{said}");
    said["rows"].as_array().unwrap().clone()
}

fn tools(rows: &[Value]) -> Vec<&str> {
    rows.iter().map(|row| row["tool"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_record_answers_beside_the_gateway_and_without_it() {
    let at = Installation::new(&Setup::lab());
    let config = at.read("countersign.yaml");
    at.write("countersign.yaml", &format!("{config}index: {{ full_text: true }}\n"));
    at.owner(&["policy", "activate"]);
    let gateway = at.up().await;
    let token = at.issue(AGENT, Some("7"));
    let agent = Agent::connect(&gateway.url, &token).await;
    let params = json!({
        "name": "look", "arguments": {"id": "xylophone"},
        "_meta": {"countersign/step": "1", "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
    });
    agent.client.request("tools/call", Some(params.to_string().as_bytes())).await.unwrap();
    let ticket = agent.call("change", "2").await.ticket();
    at.approve(&ticket);
    assert!(matches!(agent.call("change", "2").await.end, End::Ran(_)));
    let asked = |at: &Installation| {
        assert_eq!(tools(&rows(at, &["--run", "7"])), ["look", "change", "change"]);
        assert_eq!(tools(&rows(at, &["--text", "xylophone", "--since", "1d"])), ["look"]);
        assert_eq!(tools(&rows(at, &["--approver", "owner", "--verdict", "allow", "--status", "done"])), ["change"]);
        assert_eq!(rows(at, &["--verdict", "require_approval"])[0]["ticket"], ticket.as_str());
        assert!(rows(at, &["--until", "1d"]).is_empty());
        assert!(rows(at, &["--host", "example.com"]).is_empty());
        let top = at.run(&["log", "query", "--top", "tools", "--by", "calls"]).json();
        assert_eq!(top["lines"], json!([{"name": "change", "amount": 2}, {"name": "look", "amount": 1}]));
        let shown = at.run(&["log", "show", "--run", "7"]).json();
        assert_eq!(shown["timeline"][0]["deed"], "issue token");
        let first = &shown["timeline"][1];
        assert_eq!((&first["claimed"]["step"], &first["children"][0]["status"]), (&json!("1"), &json!("done")));
        let parked: Vec<_> = shown["timeline"][2]["children"].as_array().unwrap().iter().map(|c| &c["kind"]).collect();
        assert_eq!(parked, ["consent", "intent"]);
        let spans = at.run(&["log", "export", "--format", "otel"]).stdout;
        assert_eq!(spans.lines().count(), 3, "{spans}");
        assert!(spans.contains("0af7651916cd43dd8448eb211c80319c"), "{spans}");
        spans.lines().for_each(|line| drop(serde_json::from_str::<Value>(line).unwrap()));
    };
    asked(&at);
    // Each row can be proved.
    let leaf = rows(&at, &["--tool", "look"])[0]["index"].to_string();
    let receipt = at.path("look.json").display().to_string();
    assert_eq!(at.run(&["log", "receipt", &leaf, "--out", &receipt]).code, 0);
    assert_eq!(at.run(&["log", "verify", &receipt]).code, 0);
    gateway.stop().await;
    asked(&at);
    // The index can be thrown away at any time.
    std::fs::remove_file(at.path("index.sqlite")).unwrap();
    asked(&at);
    assert_eq!(at.run(&["log", "show", "0"]).json()["kind"], "started", "a number is a record, and no run");
    bad_questions(&at);
}

fn bad_questions(at: &Installation) {
    check(at, &["log", "query", "--verdict", "no"], 2, &["`no` is no verdict", "allow, require_approval, deny"]);
    check(at, &["log", "query", "--reason", "no"], 2, &["`no` is no reason", "code_freeze"]);
    check(at, &["log", "query", "--since", "noon"], 2, &["`noon` is no time", "2h"]);
    check(at, &["log", "query", "--top", "cats"], 2, &["`cats`", "tools, agents, runs"]);
    check(at, &["log", "query", "--top", "tools", "--by", "size"], 2, &["`size` is no measure", "denials"]);
    check(at, &["log", "query", "--by", "calls"], 2, &["--top"]);
    check(at, &["log", "query", "--limit", "0"], 2, &["--limit"]);
    check(at, &["log", "show", "r-none"], 1, &["no record of run `r-none`", "--top runs"]);
    check(at, &["log", "show", "no such"], 2, &["run id", "record's index"]);
    check(at, &["log", "export", "--format", "xml"], 2, &["`xml` is no format", "ocsf, otel, parquet"]);
    parquet(at);
    let taken = at.path("countersign.yaml").display().to_string();
    check(at, &["log", "export", "--format", "ocsf", "--out", &taken], 1, &["countersign.yaml", "not overwritten"]);
    // Without the setting nothing readable is left, and the question is refused.
    let config = at.read("countersign.yaml");
    at.write("countersign.yaml", &config.replace("full_text: true", "full_text: false"));
    check(at, &["log", "query", "--text", "xylophone"], 1, &["not indexed", "full_text: true"]);
    let bytes = std::fs::read(at.path("index.sqlite")).unwrap();
    assert!(!bytes.windows(9).any(|window| window == b"xylophone"), "text is left in the index");
}

/// A feature of the build: there it writes a file, elsewhere it says which feature is missing.
fn parquet(at: &Installation) {
    let file = at.path("calls.parquet");
    let name = file.display().to_string();
    let args = ["log", "export", "--format", "parquet", "--out", &name];
    if !cfg!(feature = "parquet") {
        check(at, &args, 2, &["without Parquet", "`cargo build --features parquet`"]);
        assert!(!file.exists());
        return;
    }
    check(at, &args[..4], 2, &["is no text", "--out"]);
    let said = at.run(&args).json();
    assert_eq!(said["lines"].as_u64(), Some(at.run(&["log", "query"]).json()["rows"].as_array().unwrap().len() as u64));
    let bytes = std::fs::read(&file).unwrap();
    assert!(bytes.starts_with(b"PAR1") && bytes.ends_with(b"PAR1"));
    check(at, &args, 1, &["calls.parquet", "not overwritten"]);
}
