//! What may not happen on a channel across: a byte after a stop, a stream that is lost in silence, another's session.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use countersign_model::record::Status;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::mcp::config::{EraChoice, UpstreamLimits};
use crate::mcp::execute::channel::{Answered, Channel, ClientHello, Said};
use crate::mcp::execute::link::LinkError;
use crate::mcp::execute::outbound::Outbound;
use crate::mcp::execute::testing::{Seen, TestLeave, config};
use crate::mcp::execute::{Executor, Upstream};
use crate::mcp::wire::Era;

fn limits() -> UpstreamLimits {
    UpstreamLimits {
        call_timeout: Duration::from_secs(5),
        exchange_timeout: Duration::from_secs(5),
        backoff_max: Duration::from_millis(50),
        ..UpstreamLimits::default()
    }
}

fn result(message: &Value, raw: &str) -> Vec<String> {
    vec![format!(r#"{{"jsonrpc":"2.0","id":{},"result":{raw}}}"#, message["id"])]
}

const CAPABILITIES: &str = r#"{"tools":{},"resources":{"subscribe":true,"listChanged":true}}"#;

/// A modern upstream: `ask` asks a question until it is answered, `hang` asks once and answers nothing then, `again`
/// asks to be asked again, `deep` has a result of another kind.
fn modern(message: &Value) -> Vec<String> {
    let params = &message["params"];
    let asked = r#"{"resultType":"input_required","inputRequests":{"k":{"method":"roots/list"}},"requestState":"s"}"#;
    match (message["method"].as_str().unwrap_or_default(), params["name"].as_str().unwrap_or_default()) {
        ("server/discover", _) => result(
            message,
            &format!(r#"{{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{CAPABILITIES}}}"#),
        ),
        ("tools/list", _) => result(message, r#"{"resultType":"complete","tools":[{"name":"ask"}]}"#),
        ("tools/call", "ask" | "hang") if params["inputResponses"].is_null() => result(message, asked),
        ("tools/call", "ask") => result(message, r#"{"resultType":"complete","content":[]}"#),
        ("tools/call", "hang") => Vec::new(),
        ("tools/call", "again") => result(message, r#"{"resultType":"input_required","requestState":"s"}"#),
        ("tools/call", _) => result(message, r#"{"resultType":"odd"}"#),
        ("subscriptions/listen", _) => {
            let said = |method: &str, more: &str| {
                let id = &message["id"];
                format!(
                    r#"{{"jsonrpc":"2.0","method":"{method}","params":{{{more}"_meta":{{"io.modelcontextprotocol/subscriptionId":{id}}}}}}}"#
                )
            };
            let filter = &params["notifications"];
            let mut all =
                vec![said("notifications/subscriptions/acknowledged", &format!(r#""notifications":{filter},"#))];
            if filter["resourceSubscriptions"] == json!(["mem://over"]) {
                all.extend(result(message, r#"{"resultType":"complete"}"#));
            }
            all
        }
        _ => Vec::new(),
    }
}

async fn opened(era: EraChoice, play: fn(&Value) -> Vec<String>) -> (Upstream, Seen) {
    Upstream::played(config(limits()).with_era(era), play).await.unwrap()
}

async fn open(upstream: &Upstream, era: Era) -> (Channel, mpsc::Receiver<Said>) {
    let (said, heard) = mpsc::channel(4);
    let hello = ClientHello {
        version: "2025-11-25".to_owned(),
        capabilities: Bytes::from_static(br#"{"roots":{}}"#),
        client: Bytes::new(),
        owner: None,
    };
    (upstream.open(era, &hello, said).await.unwrap(), heard)
}

fn call(channel: &Channel, tool: &str, redacts: bool) -> (Executor, TestLeave) {
    let params = format!(r#"{{"name":"{tool}","arguments":{{}}}}"#);
    let executor = Executor::new(channel.clone(), Outbound::plain("tools/call", Some(params.into())));
    (executor, TestLeave { redacts, ..TestLeave::new(CancellationToken::new()) })
}

async fn question(heard: &mut mpsc::Receiver<Said>) -> crate::mcp::execute::channel::Question {
    match tokio::time::timeout(Duration::from_secs(5), heard.recv()).await.unwrap().unwrap() {
        Said::Question(question) => question,
        Said::Notification(frame) => panic!("{frame:?}"),
    }
}

#[tokio::test]
async fn rounds_are_one_effect_and_nothing_follows_a_stop() {
    let (upstream, seen) = opened(EraChoice::Modern, modern).await;
    let (channel, mut heard) = open(&upstream, Era::Legacy).await;
    for (redacts, stops) in [(false, false), (true, false), (false, true)] {
        let (executor, leave) = call(&channel, "ask", redacts);
        let before = seen.with("inputResponses").len();
        let running = tokio::spawn({
            let leave = leave.clone();
            async move { executor.carry_out(leave).await }
        });
        let question = question(&mut heard).await;
        assert!(question.frame().bytes().windows(10).any(|part| part == b"roots/list"));
        if stops {
            leave.killed.cancel();
        } else {
            question.answer(Answered::Result(Bytes::from_static(br#"{"roots":[]}"#)));
        }
        let executed = running.await.unwrap();
        let (status, rounds) = if stops { (Status::Unknown, 0) } else { (Status::Done, 1) };
        assert_eq!(executed.status, status, "{:?}", executed.note);
        assert_eq!(seen.with("inputResponses").len() - before, rounds);
        assert_eq!(std::sync::Arc::strong_count(&leave.alive), 1, "the effect is over");
        assert!(executed.bytes_sent > 0);
    }
}

#[tokio::test]
async fn a_cut_reaches_the_round_that_is_in_flight() {
    let (upstream, seen) = opened(EraChoice::Modern, modern).await;
    let (channel, mut heard) = open(&upstream, Era::Legacy).await;
    let (executor, leave) = call(&channel, "hang", false);
    let held = leave.clone();
    let running = tokio::spawn(async move { executor.carry_out(held).await });
    question(&mut heard).await.answer(Answered::Result(Bytes::from_static(b"{}")));
    seen.wait("inputResponses").await;
    leave.cut_now();
    assert_eq!(running.await.unwrap().status, Status::Unknown);
    assert!(seen.killed.is_cancelled(), "the pipe of the second round is the one that is cut");
}

#[tokio::test]
async fn rounds_end() {
    let (upstream, seen) = opened(EraChoice::Modern, modern).await;
    let (channel, mut heard) = open(&upstream, Era::Legacy).await;
    for (tool, says, rounds) in [("again", "again and again", 8), ("odd", "cannot be said", 1)] {
        let (executor, leave) = call(&channel, tool, false);
        let executed = executor.carry_out(leave).await;
        let reply = executed.reply.unwrap();
        assert_eq!(executed.status, Status::Failed);
        assert!(String::from_utf8_lossy(&reply.raw()).contains(says), "{reply:?}");
        assert_eq!(seen.with(&format!(r#""{tool}""#)).len(), rounds);
    }
    let (executor, leave) = call(&channel, "ask", false);
    let running = tokio::spawn(async move { executor.carry_out(leave).await });
    drop(question(&mut heard).await);
    let executed = running.await.unwrap();
    assert_eq!((executed.status, seen.with("inputResponses").len()), (Status::Failed, 0));
    assert_eq!(executed.note.as_deref(), Some("the client did not take the upstream's question"));
}

#[tokio::test]
async fn a_revision_that_was_refused_and_is_named_is_asked_for_once_more() {
    for (named, asked, era) in [("2026-07-28", 2, Era::Modern), ("2099-01-01", 1, Era::Legacy)] {
        let is_first = AtomicBool::new(true);
        let play = move |message: &Value| match message["method"].as_str() {
            Some("server/discover") if is_first.swap(false, Ordering::Relaxed) => {
                let id = &message["id"];
                vec![format!(
                    r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32022,"message":"no","data":{{"supported":["{named}"]}}}}}}"#
                )]
            }
            Some("initialize") => legacy(message),
            _ => modern(message),
        };
        let (upstream, seen) = Upstream::played(config(limits()).with_era(EraChoice::Auto), play).await.unwrap();
        assert_eq!(
            (upstream.eras().modern, seen.with("server/discover").len()),
            (era == Era::Modern, asked),
            "{named}"
        );
    }
}

fn subscribe(channel: &Channel, uri: &str) -> (Executor, TestLeave) {
    let params = json!({ "uri": uri }).to_string();
    let executor = Executor::new(channel.clone(), Outbound::plain("resources/subscribe", Some(params.into())));
    (executor, TestLeave::new(CancellationToken::new()))
}

#[tokio::test]
async fn a_stream_that_is_lost_with_subscriptions_ends_the_channel() {
    let (upstream, _) = opened(EraChoice::Modern, modern).await;
    let (channel, _heard) = open(&upstream, Era::Legacy).await;
    let (executor, leave) = subscribe(&channel, "mem://1");
    assert_eq!(executor.carry_out(leave).await.status, Status::Done);
    let (other, _also) = open(&upstream, Era::Legacy).await;
    let (executor, leave) = subscribe(&other, "mem://over");
    executor.carry_out(leave).await;
    tokio::time::timeout(Duration::from_secs(5), other.closed().cancelled()).await.unwrap();
    assert!(!channel.closed().is_cancelled(), "another's session stays");
    // A killed caller subscribes to nothing.
    let (executor, leave) = subscribe(&channel, "mem://2");
    leave.killed.cancel();
    assert_eq!(executor.carry_out(leave).await.status, Status::NotStarted);
}

fn legacy(message: &Value) -> Vec<String> {
    let params = &message["params"];
    match (message["method"].as_str().unwrap_or_default(), params["name"].as_str().unwrap_or_default()) {
        ("initialize", _) => result(
            message,
            &format!(r#"{{"protocolVersion":"2025-06-18","capabilities":{CAPABILITIES},"serverInfo":{{}}}}"#),
        ),
        ("tools/list", _) => result(message, r#"{"tools":[{"name":"ask"}]}"#),
        ("resources/subscribe", _) if params["uri"] == "mem://no" => Vec::from([format!(
            r#"{{"jsonrpc":"2.0","id":{},"error":{{"code":-32002,"message":"no"}}}}"#,
            message["id"]
        )]),
        ("resources/subscribe" | "resources/unsubscribe", _) => result(message, "{}"),
        // What it says means nothing in its era.
        ("tools/call", "ask") => result(message, r#"{"resultType":"input_required","content":[]}"#),
        _ => Vec::new(),
    }
}

#[tokio::test]
async fn a_legacy_upstream_cannot_say_what_its_era_has_no_words_for() {
    let (upstream, seen) = opened(EraChoice::Legacy, legacy).await;
    let (channel, _) = open(&upstream, Era::Modern).await;
    let (executor, leave) = call(&channel, "ask", false);
    let executed = executor.carry_out(leave).await;
    assert_eq!(executed.status, Status::Done, "nobody may go on with it");
    assert_eq!(&executed.reply.unwrap().raw()[..], br#"{"resultType":"complete","content":[]}"#);
    assert_eq!(executed.result, br#"{"resultType":"input_required","content":[]}"#, "the record has what it said");
    for (method, params) in [("tasks/get", r#"{"taskId":"t"}"#), ("tools/call", r#"{"name":"ask","requestState":"s"}"#)]
    {
        let request = Outbound::plain(method, Some(Bytes::from_static(params.as_bytes())));
        let reply = channel.exchange(&request).await.unwrap();
        assert!(String::from_utf8_lossy(&reply.raw()).contains("\"code\":-3260"), "{reply:?}");
        let executed =
            Executor::new(channel.clone(), request).carry_out(TestLeave::new(CancellationToken::new())).await;
        assert_eq!(executed.status, Status::NotStarted);
    }
    assert!(seen.with("requestState").is_empty() && seen.with("tasks/").is_empty());
}

fn listen(uris: &Value, aside: mpsc::Sender<Said>) -> Outbound {
    let params = json!({ "_meta": {}, "notifications": { "toolsListChanged": true, "resourceSubscriptions": uris } });
    Outbound { aside: Some(aside), ..Outbound::plain("subscriptions/listen", Some(params.to_string().into())) }
}

#[tokio::test]
async fn a_stream_takes_back_what_no_other_wants() {
    let (upstream, seen) = opened(EraChoice::Legacy, legacy).await;
    let (channel, _) = open(&upstream, Era::Modern).await;
    let begin = async |uris: Value| {
        let (aside, mut said) = mpsc::channel(4);
        let (channel, ended) = (channel.clone(), CancellationToken::new());
        let running = tokio::spawn({
            let ended = ended.clone();
            async move { channel.listen(&listen(&uris, aside), &ended).await }
        });
        let Some(Said::Notification(frame)) = said.recv().await else { panic!("nothing was said") };
        let said_first: Value = serde_json::from_slice(frame.bytes()).unwrap();
        (running, ended, said, said_first["params"]["notifications"].clone())
    };
    let (one, end_one, _said, agreed) = begin(json!(["mem://1", "mem://2", "mem://no"])).await;
    assert_eq!(agreed, json!({ "resourceSubscriptions": ["mem://1", "mem://2"] }), "what is offered, and agreed to");
    let (two, _end, also_said, _) = begin(json!(["mem://2"])).await;
    end_one.cancel();
    assert!(matches!(one.await.unwrap(), Err(LinkError::Gone)));
    assert_eq!(seen.with("resources/unsubscribe").len(), 1);
    assert!(seen.with("resources/unsubscribe")[0].contains("mem://1"));
    // A client that goes away without a word ends its stream as well.
    drop(also_said);
    assert!(two.await.unwrap().is_err());
    assert!(seen.with("resources/unsubscribe")[1].contains("mem://2"));
}

#[tokio::test]
async fn a_stream_under_a_permit_ends_with_it() {
    let (upstream, seen) = opened(EraChoice::Legacy, legacy).await;
    let (channel, _) = open(&upstream, Era::Modern).await;
    for (at, (kills, status)) in [(true, Status::Unknown), (false, Status::Done)].into_iter().enumerate() {
        let (aside, mut said) = mpsc::channel(4);
        let executor = Executor::new(channel.clone(), listen(&json!(["mem://1"]), aside));
        let leave = TestLeave::new(CancellationToken::new());
        let running = tokio::spawn({
            let leave = leave.clone();
            async move { executor.carry_out(leave).await }
        });
        assert!(matches!(said.recv().await, Some(Said::Notification(_))));
        if kills {
            leave.killed.cancel();
        } else {
            leave.cancel.cancel();
        }
        assert_eq!(running.await.unwrap().status, status);
        assert_eq!(std::sync::Arc::strong_count(&leave.alive), 1, "the effect is over");
        assert_eq!(seen.with("resources/unsubscribe").len(), at + 1);
    }
    let leave = TestLeave::new(CancellationToken::new());
    leave.killed.cancel();
    let (aside, _said) = mpsc::channel(4);
    let executed = Executor::new(channel.clone(), listen(&json!(["mem://1"]), aside)).carry_out(leave).await;
    assert_eq!((executed.status, seen.with("resources/subscribe").len()), (Status::NotStarted, 2));
}
