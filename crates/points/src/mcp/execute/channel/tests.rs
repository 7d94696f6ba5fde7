//! Channels over a pipe that clients share: who hears what, both eras, and what hostile upstreams may not do.

mod late;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use countersign_model::id::ToolName;
use countersign_model::record::Status;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Answered, Channel, ClientHello, Said};
use crate::mcp::config::{EraChoice, QuestionKind, UpstreamConfig, UpstreamLimits};
use crate::mcp::execute::outbound::Outbound;
use crate::mcp::execute::supervise::{self, Opened};
use crate::mcp::execute::testing::server::until;
use crate::mcp::execute::testing::{Seen, TestLeave, config, pipe};
use crate::mcp::execute::{Executor, LinkError, Upstream};
use crate::mcp::wire::Era;

/// The far end of a pipe: a test writes whatever it wants, whenever it wants.
#[derive(Clone)]
struct Far {
    seen: Seen,
    say: mpsc::Sender<String>,
}

impl Far {
    async fn say(&self, message: &Value) {
        self.say.send(message.to_string()).await.unwrap();
    }

    /// The line with `part`, as it came.
    async fn heard(&self, part: &str) -> Value {
        self.seen.wait(part).await;
        serde_json::from_str(&self.seen.with(part)[0]).unwrap()
    }
}

fn limits() -> UpstreamLimits {
    UpstreamLimits {
        call_timeout: Duration::from_secs(5),
        exchange_timeout: Duration::from_secs(5),
        probe_timeout: Duration::from_millis(100),
        ..UpstreamLimits::default()
    }
}

/// A server that shakes hands, lists one tool, and answers nothing else but by the test's word.
async fn raised(config: UpstreamConfig, modern: bool) -> (Upstream, Far) {
    let (upstream, seen) = (Upstream::idle(config), Seen::default());
    let (pipe, far) = pipe(64 * 1024, &seen, &upstream);
    let (say, mut said) = mpsc::channel::<String>(64);
    let (reader, mut writer) = tokio::io::split(far);
    let lines = Arc::clone(&seen.lines);
    let own = say.clone();
    tokio::spawn(async move {
        let mut reader = BufReader::new(reader).lines();
        while let Ok(Some(line)) = reader.next_line().await {
            let message: Value = serde_json::from_str(&line).unwrap();
            lines.lock().unwrap().push(line);
            if let Some(answer) = greeting(&message, modern) {
                own.send(answer).await.unwrap();
            }
        }
    });
    tokio::spawn(async move {
        while let Some(line) = said.recv().await {
            if writer.write_all(format!("{line}\n").as_bytes()).await.is_err() {
                return;
            }
        }
    });
    let raised = supervise::greet(&upstream.shared, &upstream.shared.config, Opened::Pipe(pipe)).await;
    (upstream.up(raised).unwrap(), Far { seen, say })
}

fn greeting(message: &Value, modern: bool) -> Option<String> {
    let result = |result: Value| Some(json!({"jsonrpc": "2.0", "id": message["id"], "result": result}).to_string());
    let tools = json!({"listChanged": true});
    match message["method"].as_str()? {
        "initialize" => result(json!({"protocolVersion": "2025-11-25", "capabilities": {"tools": tools}})),
        "server/discover" if modern => result(json!({
            "resultType": "complete", "supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}},
        })),
        "server/discover" => {
            Some(json!({"jsonrpc": "2.0", "id": message["id"], "error": {"code": -32601, "message": "no"}}).to_string())
        }
        "tools/list" => result(json!({"tools": [{"name": "echo"}]})),
        "resources/unsubscribe" | "logging/setLevel" => result(json!({})),
        _ => None,
    }
}

async fn legacy() -> (Upstream, Far) {
    raised(config(limits()), false).await
}

fn hello() -> ClientHello {
    ClientHello { version: "2025-11-25".to_owned(), capabilities: Bytes::new(), client: Bytes::new(), owner: None }
}

async fn open(upstream: &Upstream, era: Era) -> (Channel, mpsc::Receiver<Said>) {
    let (said, heard) = mpsc::channel(4);
    (upstream.open(era, &hello(), said).await.unwrap(), heard)
}

fn action(channel: &Channel, method: &'static str, params: &str) -> Executor {
    Executor::new(channel.clone(), Outbound::plain(method, Some(params.to_owned().into())))
}

/// Starts an action, and gives what a test needs to answer it.
async fn begun(far: &Far, executor: Executor, part: &str) -> (tokio::task::JoinHandle<Status>, Value) {
    let running =
        tokio::spawn(async move { executor.carry_out(TestLeave::new(CancellationToken::new())).await.status });
    (running, far.heard(part).await["id"].clone())
}

async fn notification(heard: &mut mpsc::Receiver<Said>) -> Value {
    match tokio::time::timeout(Duration::from_secs(5), heard.recv()).await.unwrap().unwrap() {
        Said::Notification(frame) => serde_json::from_slice(frame.bytes()).unwrap(),
        Said::Question(question) => panic!("{question:?}"),
    }
}

#[tokio::test]
async fn a_question_goes_to_the_one_client_with_requests_and_is_answered_once() {
    let (upstream, far) = legacy().await;
    let ((one, mut hears), (_two, mut other)) =
        (open(&upstream, Era::Legacy).await, open(&upstream, Era::Legacy).await);
    let ask = |id: &str| json!({"jsonrpc": "2.0", "id": id, "method": "roots/list", "n": 1.50});
    far.say(&ask("nobody")).await;
    assert_eq!(far.heard("nobody").await["error"]["code"], -32601, "nobody has a request in flight");
    let (running, id) = begun(&far, action(&one, "tools/call", r#"{"name":"echo"}"#), "\"echo\"").await;
    far.say(&ask("q")).await;
    let Some(Said::Question(question)) = hears.recv().await else { panic!("no question") };
    assert!(question.frame().bytes().windows(3).any(|part| part == b"\"q\""));
    far.say(&ask("q")).await;
    assert_eq!(far.heard("\"q\"").await["error"]["code"], -32600, "an id that waits is not used twice");
    question.answer(Answered::Result(Bytes::from_static(br#"{"roots" : []}"#)));
    until(|| far.seen.with("\"q\"").len() == 2, "the answer").await;
    assert_eq!(far.seen.with("\"q\"")[1], r#"{"jsonrpc":"2.0","id":"q","result":{"roots" : []}}"#);
    far.say(&ask("dropped")).await;
    drop(hears.recv().await);
    assert_eq!(far.heard("dropped").await["error"]["code"], -32603, "a question that nobody takes is refused");
    far.say(&json!({"jsonrpc": "2.0", "id": id, "result": {}})).await;
    assert_eq!(running.await.unwrap(), Status::Done);
    assert!(other.try_recv().is_err(), "the other client hears nothing of it");
}

#[tokio::test]
async fn what_could_be_anothers_goes_to_nobody() {
    let (upstream, far) = legacy().await;
    let ((one, mut hears), (two, mut other)) = (open(&upstream, Era::Legacy).await, open(&upstream, Era::Legacy).await);
    let log = |data: &str| json!({"jsonrpc": "2.0", "method": "notifications/message", "params": {"data": data}});
    far.say(&log("early")).await;
    // Read in order: once this is refused, that was read.
    far.say(&json!({"jsonrpc": "2.0", "id": "after", "method": "roots/list"})).await;
    far.heard("after").await;
    let (first, id) = begun(&far, action(&one, "tools/call", r#"{"name":"one"}"#), "\"one\"").await;
    far.say(&log("of one")).await;
    assert_eq!(notification(&mut hears).await["params"]["data"], "of one");
    let (second, other_id) = begun(&far, action(&two, "tools/call", r#"{"name":"two"}"#), "\"two\"").await;
    far.say(&log("of either")).await;
    far.say(&json!({"jsonrpc": "2.0", "id": "q", "method": "sampling/createMessage"})).await;
    assert_eq!(far.heard("\"q\"").await["error"]["code"], -32601);
    for (running, id) in [(first, id), (second, other_id)] {
        far.say(&json!({"jsonrpc": "2.0", "id": id, "result": {}})).await;
        running.await.unwrap();
    }
    far.say(&json!({"jsonrpc": "2.0", "method": "notifications/prompts/list_changed"})).await;
    for ears in [&mut hears, &mut other] {
        assert_eq!(notification(ears).await["method"], "notifications/prompts/list_changed", "a change is for all");
        assert!(ears.try_recv().is_err());
    }
}

#[tokio::test]
async fn a_question_on_a_request_goes_aside_and_a_full_client_is_not_waited_for() {
    let (upstream, far) = legacy().await;
    let (one, mut hears) = open(&upstream, Era::Legacy).await;
    let (aside, mut heard) = mpsc::channel(1);
    let request = Outbound { aside: Some(aside), ..Outbound::plain("tools/call", Some("{\"name\":\"echo\"}".into())) };
    let (running, id) = begun(&far, Executor::new(one, request), "\"echo\"").await;
    for id in ["q1", "q2"] {
        far.say(&json!({"jsonrpc": "2.0", "id": id, "method": "roots/list"})).await;
    }
    assert_eq!(far.heard("q2").await["error"]["code"], -32603, "its queue is full");
    assert!(matches!(heard.recv().await, Some(Said::Question(_))));
    far.say(&json!({"jsonrpc": "2.0", "id": id, "result": {}})).await;
    assert_eq!(running.await.unwrap(), Status::Done);
    assert!(hears.try_recv().is_err());
}

#[tokio::test]
async fn an_upstream_takes_a_question_back() {
    let (upstream, far) = legacy().await;
    let (one, mut hears) = open(&upstream, Era::Legacy).await;
    let (_running, _) = begun(&far, action(&one, "tools/call", r#"{"name":"echo"}"#), "\"echo\"").await;
    far.say(&json!({"jsonrpc": "2.0", "id": "q", "method": "roots/list"})).await;
    let Some(Said::Question(question)) = hears.recv().await else { panic!("no question") };
    far.say(&json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "q"}})).await;
    assert_eq!(notification(&mut hears).await["params"]["requestId"], "q", "the client hears of it");
    question.answer(Answered::Result(Bytes::from_static(b"{}")));
    one.notify(br#"{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}"#.to_vec()).await.unwrap();
    far.heard("roots/list_changed").await;
    assert!(far.seen.with("\"q\"").is_empty(), "its answer is not sent any more");
}

#[tokio::test]
async fn an_updated_resource_is_for_who_subscribed_and_one_leaving_does_not_end_it_for_others() {
    let (upstream, far) = legacy().await;
    let ((one, mut hears), (two, mut other)) = (open(&upstream, Era::Legacy).await, open(&upstream, Era::Legacy).await);
    let (third, mut stranger) = open(&upstream, Era::Legacy).await;
    for (at, channel) in [&one, &two].into_iter().enumerate() {
        let executor = action(channel, "resources/subscribe", r#"{"uri":"f:/é"}"#);
        let running =
            tokio::spawn(async move { executor.carry_out(TestLeave::new(CancellationToken::new())).await.status });
        until(|| far.seen.with("resources/subscribe").len() > at, "the subscription").await;
        let id = serde_json::from_str::<Value>(&far.seen.with("resources/subscribe")[at]).unwrap()["id"].clone();
        far.say(&json!({"jsonrpc": "2.0", "id": id, "result": {}})).await;
        assert_eq!(running.await.unwrap(), Status::Done);
    }
    let updated = json!({"jsonrpc": "2.0", "method": "notifications/resources/updated", "params": {"uri": "f:/é"}});
    far.say(&updated).await;
    for ears in [&mut hears, &mut other] {
        assert_eq!(notification(ears).await, updated);
    }
    let leave = Outbound::plain("resources/unsubscribe", Some(r#"{"uri":"f:/é"}"#.into()));
    assert_eq!(&one.exchange(&leave).await.unwrap().raw()[..], b"{}");
    assert!(far.seen.with("resources/unsubscribe").is_empty(), "another still listens over the same link");
    far.say(&updated).await;
    assert_eq!(notification(&mut other).await, updated);
    drop(two);
    far.heard("resources/unsubscribe").await;
    assert!(hears.try_recv().is_err() && stranger.try_recv().is_err());
    drop(third);
}

#[tokio::test]
async fn a_lost_link_ends_channels_with_subscriptions_only() {
    let (upstream, far) = legacy().await;
    let ((one, _hears), (two, _other)) = (open(&upstream, Era::Legacy).await, open(&upstream, Era::Legacy).await);
    let (running, id) = begun(&far, action(&one, "resources/subscribe", r#"{"uri":"f:/a"}"#), "f:/a").await;
    far.say(&json!({"jsonrpc": "2.0", "id": id, "result": {}})).await;
    running.await.unwrap();
    upstream.live().unwrap().close();
    one.closed().cancelled().await;
    assert!(!two.closed().is_cancelled());
    assert!(matches!(two.exchange(&Outbound::plain("prompts/list", None)).await, Err(LinkError::Gone)));
    let never = action(&two, "tools/call", "{}").carry_out(TestLeave::new(CancellationToken::new())).await;
    assert_eq!(never.status, Status::NotStarted);
    assert_eq!(upstream.eras(), crate::mcp::execute::Eras { legacy: false, modern: false });
}

#[tokio::test]
async fn a_clients_own_end_of_the_handshake_is_not_repeated() {
    let (upstream, far) = legacy().await;
    let (one, _hears) = open(&upstream, Era::Legacy).await;
    one.notify(br#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#.to_vec()).await.unwrap();
    one.notify(br#"{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}"#.to_vec()).await.unwrap();
    far.heard("roots/list_changed").await;
    assert_eq!(far.seen.with("notifications/initialized").len(), 1);
    assert!(one.notify(b"[]".to_vec()).await.is_err(), "what is no message is not passed");
}

#[tokio::test]
async fn questions_are_offered_where_the_configuration_says_so() {
    let asks = config(limits()).with_questions(&[QuestionKind::Roots, QuestionKind::Elicitation]);
    for (config, wanted) in [
        (config(limits()), json!({})),
        (asks, json!({"elicitation": {"form": {}, "url": {}}, "roots": {"listChanged": true}})),
    ] {
        let (_upstream, far) = raised(config, false).await;
        assert_eq!(far.heard("\"initialize\"").await["params"]["capabilities"], wanted);
    }
}

#[tokio::test]
async fn a_process_is_asked_for_the_modern_era_first_and_speaks_one() {
    for (choice, speaks, era) in [
        (EraChoice::Auto, true, Era::Modern),
        (EraChoice::Auto, false, Era::Legacy),
        (EraChoice::Modern, true, Era::Modern),
        (EraChoice::Legacy, true, Era::Legacy),
    ] {
        let (upstream, far) = raised(config(limits()).with_era(choice), speaks).await;
        assert_eq!(upstream.hello(era).unwrap().era(), era, "{choice:?}");
        let asked = !far.seen.with("server/discover").is_empty();
        assert_eq!(
            (asked, far.seen.with("\"initialize\"").is_empty()),
            (choice != EraChoice::Legacy, era == Era::Modern)
        );
        let other = if era == Era::Legacy { Era::Modern } else { Era::Legacy };
        let (said, _) = mpsc::channel(1);
        assert!(matches!(upstream.share(other, (said.clone(), None)), Err(LinkError::OtherEra)), "{choice:?}");
        let across = upstream.open(other, &hello(), said).await.unwrap();
        assert_eq!((across.hello().era(), upstream.hello(other).unwrap().era()), (other, other), "{choice:?}");
    }
}

#[tokio::test]
async fn a_silent_process_is_of_the_legacy_era_and_a_modern_one_that_is_not_is_an_error() {
    let mute = |line: &str| !line.contains("server/discover");
    let answered = Arc::new(Mutex::new(0));
    // `greeting` answers discovery with an error; here the line is not even seen.
    let (upstream, seen) = (Upstream::idle(config(limits()).with_era(EraChoice::Auto)), Seen::default());
    let (pipe, far) = pipe(64 * 1024, &seen, &upstream);
    let (reader, mut writer) = tokio::io::split(far);
    tokio::spawn(async move {
        let mut reader = BufReader::new(reader).lines();
        while let Ok(Some(line)) = reader.next_line().await {
            if mute(&line)
                && let Some(answer) = greeting(&serde_json::from_str(&line).unwrap(), false)
            {
                *answered.lock().unwrap() += 1;
                writer.write_all(format!("{answer}\n").as_bytes()).await.unwrap();
            }
        }
    });
    let live = supervise::greet(&upstream.shared, &upstream.shared.config, Opened::Pipe(pipe)).await.unwrap();
    assert!(live.legacy.is_some() && live.modern.is_none());
}

#[tokio::test]
async fn a_modern_pipe_carries_meta_as_it_came_and_listens_by_request() {
    let (upstream, far) = raised(config(limits()).with_era(EraChoice::Modern), true).await;
    let (one, mut hears) = open(&upstream, Era::Modern).await;
    assert_eq!(
        far.heard("server/discover").await["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"],
        "2026-07-28"
    );
    let params = r#"{"name":"echo","_meta":{"io.modelcontextprotocol/clientCapabilities":{ "x":1.50 }}}"#;
    let (running, id) = begun(&far, action(&one, "tools/call", params), "\"echo\"").await;
    assert!(far.seen.with("\"echo\"")[0].ends_with(&format!("{params}}}")));
    let (aside, mut events) = mpsc::channel(4);
    let request = Outbound { aside: Some(aside), ..Outbound::plain("subscriptions/listen", Some("{}".into())) };
    let ended = CancellationToken::new();
    let (two, _) = open(&upstream, Era::Modern).await;
    let listening = tokio::spawn({
        let ended = ended.clone();
        async move { two.listen(&request, &ended).await }
    });
    let listen = far.heard("subscriptions/listen").await["id"].clone();
    let tagged = |id: &Value, method: &str| {
        let meta = json!({"io.modelcontextprotocol/subscriptionId": id});
        json!({"jsonrpc": "2.0", "method": method, "params": {"_meta": meta}})
    };
    far.say(&tagged(&json!(4711), "notifications/tools/list_changed")).await;
    far.say(&tagged(&listen, "notifications/subscriptions/acknowledged")).await;
    assert_eq!(notification(&mut events).await["method"], "notifications/subscriptions/acknowledged");
    far.say(&json!({"jsonrpc": "2.0", "method": "notifications/message", "params": {"data": "log"}})).await;
    assert_eq!(notification(&mut hears).await["params"]["data"], "log", "a stream is no request in flight");
    far.say(&json!({"jsonrpc": "2.0", "id": "q", "method": "roots/list"})).await;
    assert_eq!(far.heard("\"q\"").await["error"]["code"], -32601, "a modern server asks by its results");
    far.say(&json!({"jsonrpc": "2.0", "id": id, "result": {}})).await;
    assert_eq!(running.await.unwrap(), Status::Done);
    ended.cancel();
    assert!(listening.await.unwrap().is_err());
    assert_eq!(far.heard("notifications/cancelled").await["params"]["requestId"], listen);
}

#[tokio::test]
async fn an_upstream_ends_a_stream_by_its_answer_or_by_taking_it_back() {
    let (upstream, far) = raised(config(limits()).with_era(EraChoice::Modern), true).await;
    let (one, _hears) = open(&upstream, Era::Modern).await;
    for (at, answers) in [true, false].into_iter().enumerate() {
        let listening = tokio::spawn({
            let one = one.clone();
            async move { one.listen(&Outbound::plain("subscriptions/listen", None), &CancellationToken::new()).await }
        });
        until(|| far.seen.with("subscriptions/listen").len() > at, "the stream").await;
        let id = serde_json::from_str::<Value>(&far.seen.with("subscriptions/listen")[at]).unwrap()["id"].clone();
        if answers {
            far.say(&json!({"jsonrpc": "2.0", "id": id, "result": {}})).await;
        } else {
            let params = json!({"requestId": id});
            far.say(&json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params})).await;
        }
        assert_eq!(listening.await.unwrap().is_ok(), answers);
    }
    assert!(far.seen.with("notifications/cancelled").is_empty(), "there is nothing to cancel");
}

/// An open stream is an effect in flight: a kill ends it, and its client's going is no failure.
#[tokio::test]
async fn a_stream_under_a_permit_ends_with_a_kill_and_is_done_when_its_client_goes() {
    let (upstream, far) = raised(config(limits()).with_era(EraChoice::Modern), true).await;
    let (one, _hears) = open(&upstream, Era::Modern).await;
    for (at, killed) in [true, false].into_iter().enumerate() {
        let leave = TestLeave::new(CancellationToken::new());
        let running = tokio::spawn({
            let (executor, leave) = (action(&one, "subscriptions/listen", "{}"), leave.clone());
            async move { executor.carry_out(leave).await }
        });
        until(|| far.seen.with("subscriptions/listen").len() > at, "the stream").await;
        if killed {
            leave.killed.cancel()
        } else {
            leave.cancel.cancel()
        }
        let ended = running.await.unwrap();
        assert_eq!(ended.status, if killed { Status::Unknown } else { Status::Done }, "{:?}", ended.note);
        until(|| far.seen.with("notifications/cancelled").len() > at, "the cancellation").await;
    }
}

#[tokio::test]
async fn streams_take_no_place_from_calls() {
    let few = UpstreamLimits { in_flight_max: 1, ..limits() };
    let (upstream, far) = raised(config(few).with_era(EraChoice::Modern), true).await;
    let (one, _hears) = open(&upstream, Era::Modern).await;
    let listening = tokio::spawn({
        let one = one.clone();
        async move { one.listen(&Outbound::plain("subscriptions/listen", None), &CancellationToken::new()).await }
    });
    far.heard("subscriptions/listen").await;
    let second = one.listen(&Outbound::plain("subscriptions/listen", None), &CancellationToken::new()).await;
    assert!(matches!(second, Err(LinkError::Busy)), "they are bounded themselves");
    let (running, id) = begun(&far, action(&one, "tools/call", r#"{"name":"echo"}"#), "\"echo\"").await;
    far.say(&json!({"jsonrpc": "2.0", "id": id, "result": {}})).await;
    assert_eq!(running.await.unwrap(), Status::Done);
    listening.abort();
}

#[tokio::test]
async fn channels_are_bounded_and_make_room_when_they_end() {
    let few = UpstreamLimits { sessions_max: 2, ..limits() };
    let (upstream, _far) = raised(config(few), false).await;
    let (one, _) = open(&upstream, Era::Legacy).await;
    let (_two, _) = open(&upstream, Era::Legacy).await;
    let (said, _) = mpsc::channel(1);
    assert!(matches!(upstream.open(Era::Legacy, &hello(), said).await, Err(LinkError::Full)));
    drop(one);
    for _ in 0..500 {
        let (said, _) = mpsc::channel(1);
        if upstream.open(Era::Legacy, &hello(), said).await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("no room was made");
}

#[tokio::test]
async fn a_tool_is_judged_as_its_client_was_shown_it() {
    let (upstream, _far) = legacy().await;
    let (one, _hears) = open(&upstream, Era::Legacy).await;
    let echo = ToolName::new("echo").unwrap();
    assert_eq!(one.listed(&echo), upstream.listed(&echo));
    let page = one.exchange(&Outbound::plain("tools/list", None)).await.unwrap();
    assert_eq!(super::super::listing::shown(&page).unwrap().get(&echo).cloned(), one.listed(&echo));
}
