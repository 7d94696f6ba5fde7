//! Other people's servers and the official Python client: what a client sees through the gateway is what it sees without.
//!
//! The same script talks to each server twice directly and once through the gateway. Messages are compared as the bytes
//! that came over the wire, before any SDK read them. What the gateway adds is taken away first, and it is this alone:
//! the receipt in a result's `_meta`, `capabilities` cut down to what it governs, and an answer to a call that the client
//! cancelled. Times, and only times, are masked, and only in messages of the tools that tell them.
//! Not covered: what a server starts itself (it may ask this client nothing), and tools that the server never listed:
//! the gateway denies them.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "helpers of tests fail the test")]

#[path = "third_party/decided.rs"]
mod decided;
#[path = "third_party/lab.rs"]
mod lab;
#[path = "third_party/postgres.rs"]
mod postgres;
mod support;

use std::collections::BTreeMap;

use countersign_model::Body;
use countersign_model::record::Status;
use lab::{Lab, Peer, Transcript, World};
use serde_json::Value;
use serde_json::value::RawValue;
use support::{Installation, Setup};

/// What the scripts ask for besides tools: one word for each of what the gateway passes on.
const BESIDE: [&str; 4] = ["resources", "prompts", "completion", "logging"];
/// The same words, each with its capability and with the notifications that then may come.
const KINDS: [(&str, &str, &[&str]); 4] = [
    ("resources", "resources", &["notifications/resources/updated", "notifications/resources/list_changed"]),
    ("prompts", "prompts", &["notifications/prompts/list_changed"]),
    ("completion", "completions", &[]),
    ("logging", "logging", &["notifications/message"]),
];

/// Permits whatever comes: nothing is bound, so every call is opaque.
const PERMIT_OPAQUE: &str = r#"
@id("opaque-runs")
permit (principal, action in Action::"call", resource)
when { context.opaque };
"#;

#[tokio::test(flavor = "multi_thread")]
async fn everything_server_looks_the_same_through_the_gateway() {
    let Some(lab) = Lab::find() else { return };
    same_through_the_gateway(&lab, &World::everything(&lab), &["get-resource-reference", "resources/read"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn filesystem_server_looks_the_same_through_the_gateway() {
    let Some(lab) = Lab::find() else { return };
    same_through_the_gateway(&lab, &World::filesystem(&lab), &["get_file_info"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn git_server_looks_the_same_through_the_gateway() {
    let Some(lab) = Lab::find() else { return };
    same_through_the_gateway(&lab, &World::git(&lab).in_era("legacy"), &[]).await;
}

/// The server speaks both eras and is one process, which is asked for the newest first: so this client is before another
/// era than its own.
#[tokio::test(flavor = "multi_thread")]
async fn git_server_looks_the_same_in_the_words_of_another_era() {
    let Some(lab) = Lab::find() else { return };
    same_through_the_gateway(&lab, &World::git(&lab).in_era("modern"), &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_server_looks_the_same_through_the_gateway() {
    let Some(lab) = Lab::find() else { return };
    same_through_the_gateway(&lab, &World::memory(&lab), &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sequential_thinking_server_looks_the_same_through_the_gateway() {
    let Some(lab) = Lab::find() else { return };
    same_through_the_gateway(&lab, &World::sequential_thinking(&lab), &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn time_server_looks_the_same_through_the_gateway() {
    let Some(lab) = Lab::find() else { return };
    // What it converts is a time of this day, which may end between two runs.
    let world = World::time(&lab).in_era("legacy");
    same_through_the_gateway(&lab, &world, &["get_current_time", "convert_time"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn time_server_looks_the_same_in_the_words_of_another_era() {
    let Some(lab) = Lab::find() else { return };
    let world = World::time(&lab).in_era("modern");
    same_through_the_gateway(&lab, &world, &["get_current_time", "convert_time"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn git_server_looks_the_same_to_the_client_of_both_eras() {
    let Some(lab) = Lab::find() else { return };
    same_through_the_gateway(&lab, &World::git(&lab).of_both_eras(), &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn time_server_looks_the_same_to_the_client_of_both_eras() {
    let Some(lab) = Lab::find() else { return };
    let world = World::time(&lab).of_both_eras();
    same_through_the_gateway(&lab, &world, &["get_current_time", "convert_time"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_server_looks_the_same_through_the_gateway() {
    let Some(lab) = Lab::find() else { return };
    same_through_the_gateway(&lab, &World::sqlite(&lab), &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_server_before_a_real_database_looks_the_same_through_the_gateway() {
    let Some(lab) = Lab::find() else { return };
    let cluster = postgres::Cluster::start();
    same_through_the_gateway(&lab, &World::postgres(&lab, &cluster.url), &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_server_over_http_looks_the_same_through_the_gateway() {
    let Some(lab) = Lab::find() else { return };
    let server = lab.serve_everything();
    let world = World::everything(&lab);
    let direct = Peer::Http { url: server.url.clone(), token: "none".to_owned() };
    let (first, second) = (lab.drive(&world, &direct), lab.drive(&world, &direct));
    let at = Installation::new(&permitting(Setup::url(&server.url)));
    compare_with_gateway(&lab, &world, at, [first, second], &["get-resource-reference", "resources/read"]).await;
}

/// Two direct runs over standard input and output, and one through the gateway. `timed` are the tools whose answers
/// hold times.
async fn same_through_the_gateway(lab: &Lab, world: &World, timed: &[&str]) {
    let command: Vec<&str> = world.command.iter().map(String::as_str).collect();
    let mut setup = permitting(Setup::command(&command));
    let era = world.era.map(|era| format!("\n    era: {era}")).unwrap_or_default();
    setup.upstream = format!("{}{era}\n    env: {}", setup.upstream, serde_json::to_string(&world.env).unwrap());
    let at = Installation::new(&setup);
    let direct = Peer::Stdio { cwd: at.root().to_owned() };
    let runs = [lab.drive(world, &direct), lab.drive(world, &direct)];
    compare_with_gateway(lab, world, at, runs, timed).await;
}

fn permitting(setup: Setup) -> Setup {
    Setup { tools: "{}".to_owned(), policy: PERMIT_OPAQUE.to_owned(), ..setup }
}

async fn compare_with_gateway(lab: &Lab, world: &World, at: Installation, direct: [Transcript; 2], timed: &[&str]) {
    world.make();
    let gateway = at.up().await;
    let governed = lab.drive_made(world, &Peer::Http { url: gateway.url.clone(), token: at.token() });
    gateway.stop().await;
    let [first, second] = direct;
    let varying = varying(&first, &second, timed);
    let compared = Compared { varying, direct: first, governed, across: world.is_across() };
    let receipts = compared.check();
    recorded(&at, &compared.governed, &receipts);
}

/// The ids of the calls of `timed`: no others may differ between two direct runs, and they only in times. Two runs within
/// one tick of the clock do not differ at all, and say nothing of a third.
fn varying(first: &Transcript, second: &Transcript, timed: &[&str]) -> Vec<u64> {
    let (a, b) = (first.by_request(), second.by_request());
    assert_eq!(first.asked(), second.asked());
    assert!(a.keys().eq(b.keys()), "two direct runs answer the same requests");
    let tool = |id: u64| first.call(id).and_then(|call| call["tool"].as_str());
    for id in a.iter().filter(|(id, messages)| b[id] != **messages).map(|(id, _)| id) {
        assert!(
            tool(*id).is_some_and(|tool| timed.contains(&tool)),
            "`{:?}` differs between two direct runs",
            tool(*id)
        );
        let masked = |messages: &[String]| messages.iter().map(|text| masked(text)).collect::<Vec<_>>();
        assert_eq!(masked(&a[id]), masked(&b[id]), "two direct runs differ in more than times");
    }
    a.keys().copied().filter(|id| tool(*id).is_some_and(|tool| timed.contains(&tool))).collect()
}

struct Compared {
    direct: Transcript,
    governed: Transcript,
    varying: Vec<u64>,
    /// Whether the gateway speaks another era to the server than the client to the gateway.
    across: bool,
}

/// A response, its members as they were spelled.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Response<'a> {
    jsonrpc: &'a str,
    id: u64,
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

impl Compared {
    /// Fails where the client saw anything else; gives the receipts.
    fn check(&self) -> Vec<String> {
        let (direct, governed) = (&self.direct, &self.governed);
        assert_eq!(direct.asked(), governed.asked(), "the script asks the same");
        assert_eq!(direct.listed, governed.listed);
        assert_eq!(direct.progress, governed.progress, "what the callback for progress was told");
        assert_eq!(direct.pings, governed.pings);
        let (mut wanted, seen) = (direct.by_request(), governed.by_request());
        let mut receipts = Vec::new();
        for (id, messages) in &seen {
            let call = governed.call(*id);
            if call.is_some_and(|call| call["status"] == "cancelled") {
                assert_eq!(wanted.remove(id), None, "a server does not answer what was cancelled");
                receipts.push(cancelled(messages));
                continue;
            }
            let wanted = wanted.remove(id).unwrap_or_else(|| panic!("no server answers this: {messages:?}"));
            assert_eq!(wanted.len(), messages.len(), "as many messages: {wanted:?} {messages:?}");
            for (wanted, seen) in wanted.iter().zip(messages) {
                receipts.extend(self.same(*id, wanted, seen));
            }
        }
        assert_eq!(wanted, BTreeMap::new(), "all that a server answers comes through");
        let mut may_come = vec!["notifications/tools/list_changed"];
        may_come.extend(KINDS.iter().flat_map(|(_, _, notifications)| *notifications));
        let others = governed.others();
        assert!(others.iter().all(|method| may_come.contains(&method.as_str())), "{others:?}");
        receipts
    }

    /// Compares one message of a request; gives its receipt, if it is the answer to a call.
    fn same(&self, id: u64, wanted: &str, seen: &str) -> Option<String> {
        let mask = |text: &str| if self.varying.contains(&id) { masked(text) } else { text.to_owned() };
        let (Ok(wanted), Ok(seen)) = (serde_json::from_str(wanted), serde_json::from_str(seen)) else {
            assert_eq!(wanted, seen, "progress, byte for byte");
            return None;
        };
        let (wanted, seen): (Response<'_>, Response<'_>) = (wanted, seen);
        assert_eq!((wanted.jsonrpc, wanted.id), (seen.jsonrpc, seen.id));
        let text = |raw: Option<&RawValue>| raw.map(|raw| raw.get().to_owned());
        assert_eq!(text(wanted.error), text(seen.error), "errors pass as they are");
        let (wanted, seen) = (text(wanted.result)?, text(seen.result).unwrap());
        // A listing and whatever else is no action.
        if self.governed.call(id).is_none() && !seen.contains("\"countersign/receipt\":") {
            let opens = self.governed.opening() == Some(id);
            let wanted = if opens { governed_capabilities(&wanted) } else { wanted };
            assert!(self.equal(&mask(&wanted), &mask(&seen)), "{wanted}\nbecame\n{seen}");
            return None;
        }
        let (receipt, candidates) = without_receipt(&seen);
        let wanted = mask(&wanted);
        assert!(candidates.iter().any(|text| self.equal(&mask(text), &wanted)), "{wanted}\nbecame\n{seen}");
        Some(receipt)
    }

    /// Byte for byte; across eras member for member, for this server does not write both in the same order.
    fn equal(&self, one: &str, other: &str) -> bool {
        let read = |text: &str| serde_json::from_str::<Value>(text).ok();
        one == other || (self.across && read(one).is_some_and(|one| read(other) == Some(one)))
    }
}

/// The answer to a cancelled call: an HTTP request must end, so the gateway says that nobody knows how it went.
fn cancelled(messages: &[String]) -> String {
    assert_eq!(messages.len(), 1);
    let answer: Value = serde_json::from_str(&messages[0]).unwrap();
    let error = &answer["error"];
    assert_eq!(
        (error["code"].as_i64(), error["data"]["countersign"]["status"].as_str()),
        (Some(-32011), Some("unknown"))
    );
    error["data"]["countersign/receipt"].to_string()
}

/// The result of `initialize` with the capabilities that the gateway governs, every other byte as it was.
fn governed_capabilities(result: &str) -> String {
    let governed: Vec<&str> =
        ["tools", "tasks"].into_iter().chain(KINDS.iter().map(|(_, capability, _)| *capability)).collect();
    with_capabilities(result, &governed)
}

fn with_capabilities(result: &str, wanted: &[&str]) -> String {
    let members: BTreeMap<&str, &RawValue> = serde_json::from_str(result).unwrap();
    let all = members["capabilities"].get();
    let capabilities: BTreeMap<&str, &RawValue> = serde_json::from_str(all).unwrap();
    if capabilities.keys().all(|name| wanted.contains(name)) {
        return result.to_owned();
    }
    let kept = capabilities.iter().filter(|(name, _)| wanted.contains(name));
    let kept: Vec<String> = kept.map(|(name, value)| format!("\"{name}\":{}", value.get())).collect();
    result.replacen(all, &format!("{{{}}}", kept.join(",")), 1)
}

/// The receipt, and what the result may have been before it was put in.
fn without_receipt(result: &str) -> (String, [String; 4]) {
    let members: BTreeMap<&str, &RawValue> = serde_json::from_str(result).unwrap();
    let meta: BTreeMap<&str, &RawValue> = serde_json::from_str(members["_meta"].get()).unwrap();
    let receipt = meta["countersign/receipt"].get();
    let own = format!("\"countersign/receipt\":{receipt}");
    let whole = format!("\"_meta\":{{{own}}}");
    let cuts = [format!("{whole},"), whole, format!("{own},"), own];
    (receipt.to_owned(), cuts.map(|cut| result.replacen(&cut, "", 1)))
}

/// Times of day, with the date and the half of the day beside them, in the three forms that these servers write:
/// `Sat Nov 21 2026 11:50:34`, `2026-11-21T11:50:34` and `1:50:21 PM`; and names of days.
fn masked(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((at, length)) = time_of_day(rest) {
        out.push_str(without_date(&rest[..at]));
        out.push_str("<time>");
        rest = &rest[at + length..];
        rest = rest.strip_prefix(" AM").or_else(|| rest.strip_prefix(" PM")).unwrap_or(rest);
    }
    out.push_str(rest);
    DAYS.iter().fold(out, |out, day| out.replace(day, "<day>"))
}

const DAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
const DATES: [&str; 2] = ["Sat Nov 21 2026 ", "2026-11-21T"];

/// Where the first `h:mm:ss` stands.
fn time_of_day(text: &str) -> Option<(usize, usize)> {
    let shape = |from: usize, length: usize| {
        let time = text.as_bytes().get(from..from + length)?;
        let fits = time.iter().rev().enumerate().all(|(at, byte)| match at {
            2 | 5 => *byte == b':',
            _ => byte.is_ascii_digit(),
        });
        fits.then_some((from, length))
    };
    (0..text.len()).find_map(|from| shape(from, 8).or_else(|| shape(from, 7)))
}

fn without_date(before: &str) -> &str {
    let shaped = |date: &str| {
        let at = before.len().checked_sub(date.len()).filter(|at| before.is_char_boundary(*at))?;
        let alike = before[at..].bytes().zip(date.bytes()).all(|(byte, like)| match like {
            b' ' | b'-' | b'T' => byte == like,
            b'0'..=b'9' => byte.is_ascii_digit(),
            _ => byte.is_ascii_alphabetic(),
        });
        alike.then(|| &before[..at])
    };
    DATES.iter().find_map(|date| shaped(date)).unwrap_or(before)
}

/// The log verifies; each call has one intent and one outcome, with the arguments that were sent; so has its receipt.
fn recorded(at: &Installation, run: &Transcript, receipts: &[String]) {
    let verified = at.run(&["log", "verify"]);
    assert_eq!((verified.code, &verified.json()["verified"]), (0, &Value::Bool(true)), "{verified:?}");
    let (mut sent, mut intents, mut outcomes) = (run.sent(), Vec::new(), BTreeMap::new());
    for entry in at.records() {
        match &entry.record.body {
            Body::Intent(attempt) => {
                intents.push((entry.index, attempt.tool.to_string(), lab::canonical(&entry.arguments)))
            }
            Body::Outcome(outcome) => {
                let twice = outcomes.insert(outcome.intent.0, outcome.status);
                assert_eq!(twice, None, "two outcomes of one intent");
            }
            Body::Denial(_) | Body::Proposal(_) | Body::Waiting(_) | Body::Refused(_) => {
                panic!("not everything was permitted: {:?}", entry.record)
            }
            _ => {}
        }
    }
    let mut decided: Vec<_> = intents
        .iter()
        .map(|(index, tool, arguments)| {
            let status = match outcomes.remove(index) {
                Some(Status::Done) => "done",
                Some(Status::Failed) => "failed",
                Some(Status::Unknown) => "cancelled",
                other => panic!("{tool}: {other:?}"),
            };
            (tool.clone(), arguments.clone(), status.to_owned())
        })
        .collect();
    assert_eq!(outcomes, BTreeMap::new(), "outcomes without an intent");
    sent.sort();
    decided.sort();
    assert_eq!(sent, decided);
    assert_eq!(receipts.len(), sent.len() - run.errors(), "a receipt for each call, but errors pass as they are");
    for receipt in receipts {
        let kinds: Vec<_> = at.verified(receipt).iter().map(|record| record.body.kind()).collect();
        assert_eq!(kinds, ["intent", "outcome"]);
    }
}

#[test]
fn only_times_are_masked() {
    let text = r#"{"a":"Sat Nov 21 2026 11:50:34 GMT+0000","b":"at 1:05:21 PM","c":"12:34 1:2:3 2026"}"#;
    assert_eq!(masked(text), r#"{"a":"<time> GMT+0000","b":"at <time>","c":"12:34 1:2:3 2026"}"#);
    assert_eq!(masked("é Sat Nov 21 2026 hm 11:50:34"), "é Sat Nov 21 2026 hm <time>");
    assert_eq!(masked("x2026-11-21T11:50:34+01:00, Sunday, 2026-11-21"), "x<time>+01:00, <day>, 2026-11-21");
}

#[test]
fn what_the_gateway_adds_is_told_apart() {
    let (receipt, candidates) = without_receipt(r#"{"_meta":{"countersign/receipt":{"a":1}}, "content":[]}"#);
    assert_eq!((receipt.as_str(), candidates[0].as_str()), (r#"{"a":1}"#, r#"{ "content":[]}"#));
    let (_, candidates) = without_receipt(r#"{"_meta":{"countersign/receipt":null,"x":1}}"#);
    assert_eq!(candidates[2], r#"{"_meta":{"x":1}}"#);
    let hello = r#"{"capabilities":{"logging":{},"tools":{"listChanged":true}},"x":1e2}"#;
    let governed = with_capabilities(hello, &["tools"]);
    assert_eq!(governed, r#"{"capabilities":{"tools":{"listChanged":true}},"x":1e2}"#);
    assert_eq!(with_capabilities(hello, &["tools", "prompts", "logging"]), hello);
}

/// One call whose answer was `wanted` directly and `seen` through the gateway.
fn compared(wanted: &str, seen: &str) -> Vec<String> {
    let run = |answer: &str| {
        let received = format!(r#"{{"jsonrpc":"2.0","id":1,"result":{answer}}}"#);
        let calls = serde_json::json!([{"id": 1, "tool": "t", "arguments": {}, "status": "done"}]);
        let run = serde_json::json!({"received": [received], "calls": calls, "progress": [], "listed": [], "pings": 0});
        serde_json::from_value(run).unwrap()
    };
    Compared { direct: run(wanted), governed: run(seen), varying: Vec::new(), across: false }.check()
}

#[test]
fn a_receipt_is_all_that_may_be_added() {
    assert_eq!(compared(r#"{"a": 1e2}"#, r#"{"_meta":{"countersign/receipt":{}},"a": 1e2}"#), ["{}"]);
}

#[test]
#[should_panic(expected = "became")]
fn a_number_that_is_spelled_anew_is_seen() {
    compared(r#"{"a": 1e2}"#, r#"{"_meta":{"countersign/receipt":{}},"a": 100}"#);
}
