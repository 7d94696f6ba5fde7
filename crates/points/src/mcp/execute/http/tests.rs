//! The HTTP link against a scripted server that records every byte: statuses, credentials, and the kill discipline.

mod eras;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use countersign_gate::credential::Credential;
use countersign_model::record::Status;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::mcp::config::{UpstreamConfig, UpstreamLimits, Url};
use crate::mcp::execute::outbound::Progress;
use crate::mcp::execute::testing::{TestLeave, action, id};
use crate::mcp::execute::{Executor, Upstream};

/// What arrived: the head and the body of every request, and how connections ended.
#[derive(Clone, Default)]
struct Seen {
    requests: Arc<Mutex<Vec<(String, String)>>>,
    broken: Arc<Mutex<u32>>,
}

impl Seen {
    fn with(&self, part: &str) -> Vec<(String, String)> {
        self.requests.lock().unwrap().iter().filter(|(_, body)| body.contains(part)).cloned().collect()
    }

    async fn wait(&self, part: &str) {
        for _ in 0..500 {
            if !self.with(part).is_empty() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("`{part}` never arrived");
    }
}

async fn server() -> (std::net::SocketAddr, Seen) {
    server_at("127.0.0.1:0").await
}

async fn server_at(place: &str) -> (std::net::SocketAddr, Seen) {
    let listener = TcpListener::bind(place).await.unwrap();
    let (address, seen) = (listener.local_addr().unwrap(), Seen::default());
    let shared = seen.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(connection(stream, shared.clone()));
        }
    });
    (address, seen)
}

async fn connection(mut stream: TcpStream, seen: Seen) {
    let mut buffer = Vec::new();
    while let Some((head, body)) = request(&mut stream, &mut buffer).await {
        seen.requests.lock().unwrap().push((head.clone(), body.clone()));
        match answer(&head, &body) {
            Some(answer) => {
                if stream.write_all(answer.as_bytes()).await.is_err() {
                    return;
                }
            }
            None => {
                // Never answered: wait for the client to close.
                let mut rest = [0; 16];
                let _ = stream.read(&mut rest).await;
                *seen.broken.lock().unwrap() += 1;
                return;
            }
        }
    }
}

async fn request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<(String, String)> {
    loop {
        let text = String::from_utf8_lossy(buffer).into_owned();
        if let Some((head, rest)) = text.split_once("\r\n\r\n") {
            let head = head.to_ascii_lowercase();
            let length =
                head.lines().find_map(|line| line.strip_prefix("content-length: ")).map_or(0, |n| n.parse().unwrap());
            if rest.len() >= length {
                let (head, body) = (head.clone(), rest[..length].to_owned());
                buffer.drain(..text.len() - rest.len() + length);
                return Some((head, body));
            }
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
}

fn reply(status: &str, kind: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nMcp-Session-Id: s-1\r\n\r\n{body}",
        body.len()
    )
}

fn answer(head: &str, body: &str) -> Option<String> {
    if head.starts_with("get ") || head.starts_with("delete ") {
        return Some(reply("405 Method Not Allowed", "text/plain", ""));
    }
    let message: Value = serde_json::from_str(body).unwrap();
    let id = &message["id"];
    let result = |raw: &str| format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{raw}}}"#);
    let json = |raw: &str| Some(reply("200 OK", "application/json", &result(raw)));
    match message["method"].as_str().unwrap_or_default() {
        "initialize" => json(r#"{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{}}"#),
        "tools/list" => json(r#"{"tools":[{"name":"echo"}]}"#),
        "tools/call" => match message["params"]["name"].as_str().unwrap() {
            "silent" => None,
            "refused" => Some(reply("403 Forbidden", "text/plain", "no")),
            "broken" => Some(reply("500 Internal Server Error", "text/html", "<p>")),
            "moved" => Some(reply("302 Found\r\nLocation: /elsewhere", "text/plain", "")),
            "rpc_error" => Some(reply(
                "400 Bad Request",
                "application/json",
                &format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":1,"message":"m"}}}}"#),
            )),
            "nothing" => Some(reply("202 Accepted", "text/plain", "")),
            "wrong_id" => Some(reply("200 OK", "application/json", r#"{"jsonrpc":"2.0","id":4711,"result":{}}"#)),
            "gone" => Some(reply("404 Not Found", "text/plain", "")),
            "long" => json(&format!("\"{}\"", "x".repeat(2_000_000))),
            "events" => {
                let token = &message["params"]["_meta"]["progressToken"];
                let progress = format!(
                    r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":{token},"progress":1}}}}"#
                );
                let other = r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":4711,"progress":1}}"#;
                let ask = r#"{"jsonrpc":"2.0","id":"q","method":"ping"}"#;
                let data = format!(
                    ": hi\r\n\r\ndata: {progress}\n\ndata: {other}\n\ndata: {ask}\n\ndata: nonsense\n\nevent: message\ndata: {}\n\n",
                    result("{\"e\":1}")
                );
                Some(reply("200 OK", "text/event-stream; charset=utf-8", &data))
            }
            _ => json("{\"ok\":1.50}"),
        },
        _ => Some(reply("202 Accepted", "text/plain", "")),
    }
}

async fn upstream() -> (Upstream, Seen) {
    let (address, seen) = server().await;
    let limits = UpstreamLimits {
        line_bytes_max: 1_000_000,
        call_timeout: Duration::from_secs(5),
        backoff_min: Duration::from_millis(10),
        ..UpstreamLimits::default()
    };
    let url = Url::new(&format!("http://{address}/mcp?x=1")).unwrap();
    let config = UpstreamConfig::http(id(), url, Some(Credential::header("X-Key", "exchange")));
    (Upstream::connect(config.with_limits(limits)).await.unwrap(), seen)
}

fn executor(upstream: &Upstream, tool: &str) -> Executor {
    action(upstream, format!(r#"{{"name": "{tool}"}}"#).into(), None)
}

fn leave() -> TestLeave {
    let mut leave = TestLeave::new(CancellationToken::new());
    leave.credential = Some(Credential::header("X-Key", "action"));
    leave
}

#[tokio::test]
async fn actions_carry_the_permits_credential_and_exchanges_their_own() {
    let (upstream, seen) = upstream().await;
    let done = executor(&upstream, "echo").carry_out(leave()).await;
    assert_eq!((done.status, done.result), (Status::Done, b"{\"ok\":1.50}".to_vec()));
    let (head, body) = seen.with("tools/call").remove(0);
    assert!(head.starts_with("post /mcp?x=1 http/1.1"));
    assert!(head.contains("x-key: action") && !head.contains("exchange"), "{head}");
    assert!(head.contains("mcp-session-id: s-1") && head.contains("mcp-protocol-version: 2025-11-25"), "{head}");
    assert!(body.contains(r#""params":{"name": "echo"}"#));
    assert!(seen.with("initialize")[0].0.contains("x-key: exchange"));
    let mut bare = leave();
    bare.credential = None;
    executor(&upstream, "second").carry_out(bare).await;
    assert!(!seen.with("second")[0].0.contains("x-key"), "no permit, no credential");
}

#[tokio::test]
async fn a_status_is_read_at_its_worst() {
    let (upstream, seen) = upstream().await;
    for (tool, status) in [
        ("refused", Status::Failed),
        ("moved", Status::Failed),
        ("rpc_error", Status::Failed),
        ("broken", Status::Unknown),
        ("nothing", Status::Unknown),
        ("wrong_id", Status::Unknown),
        ("long", Status::Unknown),
        ("echo", Status::Done),
    ] {
        let ended = executor(&upstream, tool).carry_out(leave()).await;
        assert_eq!(ended.status, status, "{tool}: {:?}", ended.note);
        assert_eq!(seen.with(&format!("\"{tool}\"")).len(), 1, "{tool} is sent once");
    }
}

#[tokio::test]
async fn events_bring_progress_and_the_answer() {
    let (upstream, seen) = upstream().await;
    let params = r#"{"name":"events","_meta":{"progressToken":"t"}}"#;
    let start = params.find("\"t\"").unwrap();
    let (events, mut received) = mpsc::channel(8);
    let progress = Progress::new(start..start + 3, Bytes::from_static(b"\"t\""), events);
    let executor = action(&upstream, params.into(), Some(progress));
    let done = executor.carry_out(leave()).await;
    assert_eq!((done.status, done.result), (Status::Done, b"{\"e\":1}".to_vec()));
    assert!(std::str::from_utf8(&received.recv().await.unwrap()).unwrap().contains(r#""progressToken":"t""#));
    assert!(received.try_recv().is_err(), "another request's progress is not ours");
    seen.wait(r#"{"jsonrpc":"2.0","id":"q","result":{}}"#).await;
}

#[tokio::test]
async fn a_kill_in_flight_closes_the_socket_then_tells_the_upstream_then_nothing() {
    let (upstream, seen) = upstream().await;
    let leave = leave();
    let calling = tokio::spawn({
        let (executor, leave) = (executor(&upstream, "silent"), leave.clone());
        async move { executor.carry_out(leave).await }
    });
    seen.wait("silent").await;
    leave.killed.cancel();
    let ended = calling.await.unwrap();
    assert_eq!((ended.status, ended.note.as_deref()), (Status::Unknown, Some("stopped by the kill switch")));
    assert_eq!(seen.with("notifications/cancelled").len(), 1, "told before the effect was over");
    assert!(seen.with("notifications/cancelled")[0].0.contains("x-key: action"));
    assert_eq!(*seen.broken.lock().unwrap(), 1, "the socket is closed");
    let count = seen.requests.lock().unwrap().len();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(seen.requests.lock().unwrap().len(), count);
}

#[tokio::test]
async fn a_cut_closes_the_socket_from_any_thread() {
    let (upstream, seen) = upstream().await;
    let leave = leave();
    let calling = tokio::spawn({
        let (executor, leave) = (executor(&upstream, "silent"), leave.clone());
        async move { executor.carry_out(leave).await }
    });
    seen.wait("silent").await;
    let cutting = leave.clone();
    std::thread::spawn(move || cutting.cut_now()).join().unwrap();
    assert_eq!(calling.await.unwrap().status, Status::Unknown);
}

#[tokio::test]
async fn a_stopped_leave_and_a_dead_server_send_nothing() {
    let (upstream, seen) = upstream().await;
    let stopped = leave();
    stopped.killed.cancel();
    assert_eq!(executor(&upstream, "echo").carry_out(stopped).await.status, Status::NotStarted);
    assert!(seen.with("tools/call").is_empty());
    let url = Url::new("http://127.0.0.1:9/").unwrap();
    assert!(Upstream::connect(UpstreamConfig::http(id(), url, None)).await.is_err());
}

#[tokio::test]
async fn a_server_that_is_down_at_first_is_served_once_it_is_up() {
    // A port that was free a moment ago.
    let place = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
    let limits = UpstreamLimits { backoff_min: Duration::from_millis(10), ..UpstreamLimits::default() };
    let url = Url::new(&format!("http://{place}/mcp")).unwrap();
    let (upstream, why) =
        Upstream::connect_or_wait(UpstreamConfig::http(id(), url, None).with_limits(limits)).await.unwrap();
    assert!(why.unwrap().to_string().contains("could not be reached"));
    assert!(!upstream.eras().any());
    let (_, seen) = server_at(&place).await;
    tokio::time::timeout(Duration::from_secs(20), async {
        while !upstream.eras().any() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("it is tried again");
    assert_eq!(executor(&upstream, "echo").carry_out(leave()).await.status, Status::Done);
    assert_eq!(seen.with("tools/call").len(), 1);
}

#[tokio::test]
async fn what_no_time_mends_is_not_waited_for() {
    // A server that answers, but is none of MCP.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Url::new(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut buffer = Vec::new();
                while request(&mut stream, &mut buffer).await.is_some() {
                    stream.write_all(reply("404 Not Found", "text/plain", "").as_bytes()).await.unwrap();
                }
            });
        }
    });
    let broken = Credential::header("X-Key", "two\nlines");
    for config in [
        UpstreamConfig::http(id(), url.clone(), None),
        UpstreamConfig::http(id(), url, Some(broken)),
        crate::mcp::execute::testing::config(UpstreamLimits::default()),
    ] {
        let error = Upstream::connect_or_wait(config).await.map(drop).unwrap_err();
        assert!(!error.source.may_pass() || error.to_string().contains("/nonexistent/mcp-server"), "{error}");
    }
}

#[tokio::test]
async fn a_lost_session_fails_the_call_and_is_opened_again() {
    let (upstream, seen) = upstream().await;
    let ended = executor(&upstream, "gone").carry_out(leave()).await;
    assert_eq!(ended.status, Status::Failed, "nothing is sent twice");
    for _ in 0..200 {
        if seen.with("initialize").iter().filter(|(_, body)| body.contains("protocolVersion")).count() == 2 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for _ in 0..200 {
        if executor(&upstream, "echo").carry_out(leave()).await.status == Status::Done {
            assert_eq!(seen.with("gone").len(), 1);
            upstream.close().await;
            assert!(seen.requests.lock().unwrap().iter().any(|(head, _)| head.starts_with("delete ")));
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the upstream never came back");
}
