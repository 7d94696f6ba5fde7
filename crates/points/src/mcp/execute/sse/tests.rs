//! The transport of 2024-11-05 against a scripted server: its stream, its endpoint, and the kill discipline.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use countersign_gate::credential::Credential;
use countersign_model::record::Status;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::mcp::config::{UpstreamConfig, UpstreamLimits, Url};
use crate::mcp::execute::channel::{Answered, Channel, ClientHello, Said};
use crate::mcp::execute::outbound::Outbound;
use crate::mcp::execute::testing::server::{Asked, Script, Seen, Step, event, reply, serve, stream, until};
use crate::mcp::execute::testing::{TestLeave, id};
use crate::mcp::execute::{Executor, LinkError, Upstream};
use crate::mcp::wire::Era;

/// The streams that are open, by the number in their endpoint.
type Streams = Arc<Mutex<BTreeMap<String, mpsc::UnboundedSender<String>>>>;

fn server(endpoint: &'static str) -> (Script, Streams) {
    let streams = Streams::default();
    let open = Arc::clone(&streams);
    let script: Script = Arc::new(move |asked| {
        if asked.is("get ") {
            let (say, said) = mpsc::unbounded_channel();
            let mut open = open.lock().unwrap();
            let number = open.len().to_string();
            let endpoint = endpoint.replace("N", &number);
            open.insert(number, say);
            return vec![stream(&format!(": hi\n\nevent: endpoint\ndata: {endpoint}\n\n")), Step::Follow(said)];
        }
        let number = asked.head.split_once("?n=").unwrap().1.split(' ').next().unwrap().to_owned();
        let say = open.lock().unwrap()[&number].clone();
        let accepted = vec![Step::Write(reply("202 Accepted", "text/plain", "Accepted"))];
        match (asked.method().as_str(), asked.tool().as_str()) {
            _ if asked.id().is_null() || asked.body.contains("\"error\"") || asked.body.contains("roots\":[") => {}
            (_, "refused") => return vec![Step::Write(reply("403 Forbidden", "text/plain", ""))],
            (_, "broken") => return vec![Step::Write(reply("500 Internal Server Error", "text/plain", ""))],
            (_, "silent") => {}
            (_, "mute") => return vec![Step::Hang],
            (_, "first") => {
                say.send(event(&asked.result("{}"))).unwrap();
                return vec![Step::Hang];
            }
            (_, "over") => drop(open.lock().unwrap().remove(&number)),
            (_, "long") => say.send(format!("data: {}\n\n", "x".repeat(200_000))).unwrap(),
            (_, "asks") => {
                say.send(event(r#"{"jsonrpc":"2.0","id":"q","method":"roots/list"}"#)).unwrap();
            }
            _ => say.send(format!("event: message\n{}", event(&answer(asked)))).unwrap_or_default(),
        }
        accepted
    });
    (script, streams)
}

fn answer(asked: &Asked) -> String {
    match asked.method().as_str() {
        "initialize" => asked.result(r#"{"protocolVersion":"2024-11-05","capabilities":{"tools":{}}}"#),
        "tools/list" => asked.result(r#"{"tools":[{"name":"echo"}]}"#),
        _ => asked.result(r#"{"ok":1.50}"#),
    }
}

fn limits() -> UpstreamLimits {
    UpstreamLimits {
        line_bytes_max: 100_000,
        call_timeout: Duration::from_secs(5),
        connect_timeout: Duration::from_secs(5),
        backoff_min: Duration::from_millis(10),
        ..UpstreamLimits::default()
    }
}

async fn connected(endpoint: &'static str) -> (Result<Upstream, crate::mcp::UpstreamError>, Seen, Streams) {
    let (script, streams) = server(endpoint);
    let (address, seen) = serve(script).await;
    let url = Url::new(&format!("http://{address}/api/sse")).unwrap();
    let config = UpstreamConfig::sse(id(), url, Some(Credential::header("X-Key", "exchange"))).with_limits(limits());
    (Upstream::connect(config).await, seen, streams)
}

async fn raised() -> (Upstream, Seen, Streams) {
    let (upstream, seen, streams) = connected("/messages?n=N").await;
    (upstream.unwrap(), seen, streams)
}

async fn open(upstream: &Upstream) -> (Channel, mpsc::Receiver<Said>) {
    let hello = ClientHello {
        version: "2024-11-05".to_owned(),
        capabilities: Bytes::from_static(br#"{"roots":{}}"#),
        client: Bytes::new(),
        owner: None,
    };
    let (said, heard) = mpsc::channel(4);
    (upstream.open(Era::Legacy, &hello, said).await.unwrap(), heard)
}

fn call(channel: &Channel, tool: &str) -> Executor {
    let params = format!(r#"{{"name":"{tool}"}}"#);
    Executor::new(channel.clone(), Outbound::plain("tools/call", Some(params.into())))
}

fn leave() -> TestLeave {
    let mut leave = TestLeave::new(CancellationToken::new());
    leave.credential = Some(Credential::header("X-Key", "action"));
    leave
}

#[tokio::test]
async fn answers_come_on_the_stream_of_the_clients_own_session() {
    let (upstream, seen, _) = raised().await;
    assert_eq!(upstream.hello(Era::Legacy).unwrap().version(), "2024-11-05");
    let (channel, _) = open(&upstream).await;
    let done = call(&channel, "echo").carry_out(leave()).await;
    assert_eq!((done.status, done.result), (Status::Done, br#"{"ok":1.50}"#.to_vec()));
    let sent = seen.with("\"echo\"").remove(0);
    assert!(sent.is("post /messages?n=1 "), "{}", sent.head);
    assert_eq!(sent.header("x-key").as_deref(), Some("action"));
    assert!(seen.with("get ").iter().all(|asked| asked.header("x-key").as_deref() == Some("exchange")));
    assert!(seen.with(r#""roots":{}"#)[0].is("post /messages?n=1 "));
    for (tool, status) in [("refused", Status::Failed), ("broken", Status::Unknown), ("first", Status::Done)] {
        assert_eq!(call(&channel, tool).carry_out(leave()).await.status, status, "{tool}");
        assert_eq!(seen.with(&format!("\"{tool}\"")).len(), 1, "{tool} is sent once");
    }
    let listen = Outbound::plain("subscriptions/listen", None);
    assert!(matches!(channel.listen(&listen, &CancellationToken::new()).await, Err(LinkError::OtherEra)));
}

#[tokio::test]
async fn messages_go_to_the_origin_of_the_stream_only() {
    for (endpoint, path) in [
        ("/messages?n=N", "post /messages?n=0 "),
        ("messages?n=N", "post /api/messages?n=0 "),
        ("http://127.0.0.1:9/messages?n=N", ""),
        ("https://127.0.0.1/messages?n=N", ""),
        ("//evil.example/messages?n=N", ""),
        ("http://user@127.0.0.1/messages?n=N", ""),
        ("/a b?n=N", ""),
    ] {
        let (upstream, seen, _) = connected(endpoint).await;
        assert_eq!(upstream.is_ok(), !path.is_empty(), "{endpoint}: {upstream:?}");
        let posted = seen.with("\"initialize\"");
        assert_eq!(posted.first().map_or("", |asked| &asked.head[..path.len()]), path, "{endpoint}");
    }
}

#[tokio::test]
async fn a_kill_severs_the_connection_then_tells_the_upstream_then_nothing() {
    let (upstream, seen, _) = raised().await;
    for (at, tool) in ["silent", "mute"].into_iter().enumerate() {
        let (channel, _) = open(&upstream).await;
        let leave = leave();
        let running = tokio::spawn({
            let (executor, leave) = (call(&channel, tool), leave.clone());
            async move { executor.carry_out(leave).await }
        });
        seen.wait(&format!("\"{tool}\""), 1).await;
        leave.killed.cancel();
        let ended = running.await.unwrap();
        assert_eq!((ended.status, ended.note.as_deref()), (Status::Unknown, Some("stopped by the kill switch")));
        assert_eq!(seen.with("notifications/cancelled").len(), at + 1, "told before the effect was over");
        assert_eq!(seen.with("notifications/cancelled")[at].header("x-key").as_deref(), Some("action"));
        assert_eq!(Arc::strong_count(&leave.alive), 1);
        let count = seen.all().len();
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(seen.all().len(), count);
        assert_eq!(call(&channel, "echo").carry_out(self::leave()).await.status, Status::Done, "the session lives");
    }
    until(|| seen.broken("\"mute\"") == 1, "the end of the connection").await;
    let stopped = leave();
    stopped.killed.cancel();
    let (channel, _) = open(&upstream).await;
    assert_eq!(call(&channel, "never").carry_out(stopped).await.status, Status::NotStarted);
    assert!(seen.with("never").is_empty());
}

#[tokio::test]
async fn a_cut_ends_the_session_and_the_call() {
    let (upstream, seen, _) = raised().await;
    let ((channel, _), (other, _)) = (open(&upstream).await, open(&upstream).await);
    let leave = leave();
    let running = tokio::spawn({
        let (executor, leave) = (call(&channel, "silent"), leave.clone());
        async move { executor.carry_out(leave).await }
    });
    seen.wait("silent", 1).await;
    let cutting = leave.clone();
    std::thread::spawn(move || cutting.cut_now()).join().unwrap();
    assert_eq!(running.await.unwrap().status, Status::Unknown);
    channel.closed().cancelled().await;
    until(|| seen.broken("get ") == 1, "the end of its stream").await;
    assert_eq!(call(&channel, "echo").carry_out(self::leave()).await.status, Status::NotStarted);
    assert_eq!(call(&other, "echo").carry_out(self::leave()).await.status, Status::Done);
}

#[tokio::test]
async fn a_stream_that_ends_or_cannot_be_read_ends_the_session() {
    let (upstream, _, _) = raised().await;
    for tool in ["over", "long"] {
        let (channel, _) = open(&upstream).await;
        assert_eq!(call(&channel, tool).carry_out(leave()).await.status, Status::Unknown, "{tool}");
        channel.closed().cancelled().await;
    }
    let (channel, _) = open(&upstream).await;
    assert_eq!(call(&channel, "echo").carry_out(leave()).await.status, Status::Done);
}

#[tokio::test]
async fn the_gateways_own_stream_is_opened_again() {
    let (upstream, _, streams) = raised().await;
    streams.lock().unwrap().remove("0");
    until(|| !upstream.eras().legacy, "the loss").await;
    until(|| upstream.eras().legacy, "the upstream").await;
}

#[tokio::test]
async fn a_session_ends_with_its_channel() {
    let (upstream, seen, _) = raised().await;
    let (channel, _) = open(&upstream).await;
    drop(channel);
    until(|| seen.broken("get ") == 1, "the end of its stream").await;
    upstream.close().await;
    until(|| seen.broken("get ") == 2, "the end of the gateway's own").await;
}

#[tokio::test]
async fn a_question_is_for_the_client_of_the_session_and_is_answered_there() {
    let (upstream, seen, streams) = raised().await;
    let ((channel, mut heard), (_other, mut stranger)) = (open(&upstream).await, open(&upstream).await);
    let running = tokio::spawn({
        let executor = call(&channel, "asks");
        async move { executor.carry_out(leave()).await.status }
    });
    let Some(Said::Question(question)) = heard.recv().await else { panic!("no question") };
    question.answer(Answered::Result(Bytes::from_static(br#"{"roots":[]}"#)));
    seen.wait(r#"{"jsonrpc":"2.0","id":"q","result":{"roots":[]}}"#, 1).await;
    assert!(seen.with(r#""id":"q""#)[0].is("post /messages?n=1 "));
    // What comes on the session is for its client, whether or not requests are in flight.
    let updated = r#"{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"a"}}"#;
    streams.lock().unwrap()["1"].send(event(updated)).unwrap();
    let Some(Said::Notification(frame)) = heard.recv().await else { panic!("no notification") };
    assert_eq!(frame.bytes(), updated);
    // The gateway's own session answers for nobody.
    let ask = event(r#"{"jsonrpc":"2.0","id":"own","method":"roots/list"}"#);
    streams.lock().unwrap()["0"].send(ask).unwrap();
    seen.wait("-32601", 1).await;
    assert!(stranger.try_recv().is_err());
    channel.close();
    assert_eq!(running.await.unwrap(), Status::Unknown);
}

#[tokio::test]
async fn a_server_that_names_no_endpoint_is_given_up() {
    for steps in [0, 1, 2] {
        let script: Script = Arc::new(move |_| match steps {
            0 => vec![stream(": nothing\n\n"), Step::Hang],
            1 => vec![stream("event: endpoint\n"), Step::Close],
            _ => vec![Step::Write(reply("200 OK", "application/json", "{}"))],
        });
        let (address, _) = serve(script).await;
        let url = Url::new(&format!("http://{address}/sse")).unwrap();
        let quick = UpstreamLimits { connect_timeout: Duration::from_millis(100), ..limits() };
        let config = UpstreamConfig::sse(id(), url, None).with_limits(quick);
        assert!(Upstream::connect(config).await.is_err(), "{steps}");
    }
}

#[tokio::test]
async fn a_session_that_nobody_waits_for_any_more_is_ended() {
    let (script, _) = server("/messages?n=N");
    let mute: Script = Arc::new(move |asked| match asked.body.contains("\"roots\":{}") {
        true => vec![Step::Hang],
        false => script(asked),
    });
    let (address, seen) = serve(mute).await;
    let url = Url::new(&format!("http://{address}/api/sse")).unwrap();
    let quick = UpstreamLimits { exchange_timeout: Duration::from_millis(300), ..limits() };
    let upstream = Upstream::connect(UpstreamConfig::sse(id(), url, None).with_limits(quick)).await.unwrap();
    let places = upstream.shared.sessions.available_permits();
    let opening = tokio::spawn({
        let upstream = upstream.clone();
        async move { open(&upstream).await }
    });
    seen.wait("\"roots\":{}", 1).await;
    opening.abort();
    until(|| seen.broken("get ") == 1, "the end of its stream").await;
    until(|| upstream.shared.sessions.available_permits() == places, "its place").await;
}

#[tokio::test]
async fn an_answer_that_is_over_is_not_sent() {
    let (upstream, seen, _) = raised().await;
    let (channel, mut heard) = open(&upstream).await;
    let _running = tokio::spawn({
        let executor = call(&channel, "asks");
        async move { executor.carry_out(leave()).await.status }
    });
    let Some(Said::Question(question)) = heard.recv().await else { panic!("no question") };
    let over = CancellationToken::new();
    over.cancel();
    assert!(!question.deliver(Answered::Result(Bytes::from_static(br#"{"roots":[]}"#)), over).await);
    assert!(seen.with(r#""roots":[]"#).is_empty());
}
