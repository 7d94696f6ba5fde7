//! A client's pipe on one side, a scripted gateway on the other: what goes in, what comes out, and what is never mixed.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, DuplexStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{Bridge, BridgeError, Place};
use crate::mcp::config::Url;

/// One request as the gateway saw it.
#[derive(Clone, Debug)]
struct Seen {
    verb: String,
    head: String,
    body: String,
}

impl Seen {
    fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
    }

    fn message(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }

    fn method(&self) -> String {
        self.message()["method"].as_str().unwrap_or_default().to_owned()
    }
}

/// What the gateway answers.
enum Say {
    Json(u16, &'static str, String),
    Events(Vec<&'static str>),
    /// Events, and then the stream stays open until the client closes it.
    Endless(Vec<&'static str>),
    After(Duration, String),
}

fn ok(body: impl Into<String>) -> Say {
    Say::Json(200, "", body.into())
}

fn accepted() -> Say {
    Say::Json(202, "", String::new())
}

type Script = dyn Fn(&Seen) -> Say + Send + Sync;

struct Gateway {
    address: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    closed: Arc<Mutex<u32>>,
}

impl Gateway {
    async fn new(script: impl Fn(&Seen) -> Say + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (seen, closed) = (Arc::default(), Arc::default());
        let gateway = Self { address, seen: Arc::clone(&seen), closed: Arc::clone(&closed) };
        let script: Arc<Script> = Arc::new(script);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&script), Arc::clone(&seen), Arc::clone(&closed)));
            }
        });
        gateway
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    async fn until(&self, what: impl Fn(&Self) -> bool) {
        for _ in 0..1_000 {
            if what(self) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("waited in vain: {:#?}", self.seen());
    }
}

async fn serve(stream: TcpStream, script: Arc<Script>, seen: Arc<Mutex<Vec<Seen>>>, closed: Arc<Mutex<u32>>) {
    let mut stream = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if stream.read_line(&mut head).await.unwrap_or(0) == 0 {
                return;
            }
        }
        let head = head.replace("\r\n", "\n");
        let mut request = Seen { verb: head.split(' ').next().unwrap().to_owned(), head, body: String::new() };
        let mut body = vec![0; request.header("content-length").map_or(0, |length| length.parse().unwrap())];
        stream.read_exact(&mut body).await.unwrap();
        request.body = String::from_utf8(body).unwrap();
        seen.lock().unwrap().push(request.clone());
        let said = script(&request);
        let events = |parts: &[&str]| {
            format!("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n{}", parts.concat())
        };
        match said {
            Say::Json(status, extra, body) => {
                let text = format!("HTTP/1.1 {status} X\r\n{extra}content-length: {}\r\n\r\n{body}", body.len());
                stream.write_all(text.as_bytes()).await.unwrap();
            }
            Say::After(pause, body) => {
                tokio::time::sleep(pause).await;
                let text = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
                let _ = stream.write_all(text.as_bytes()).await;
            }
            Say::Events(parts) => {
                stream.write_all(events(&parts).as_bytes()).await.unwrap();
                return;
            }
            Say::Endless(parts) => {
                stream.write_all(events(&parts).as_bytes()).await.unwrap();
                let _ = stream.read(&mut [0; 1]).await;
                *closed.lock().unwrap() += 1;
                return;
            }
        }
    }
}

/// The client's side of a running bridge.
struct Client {
    input: Option<DuplexStream>,
    output: BufReader<DuplexStream>,
    ended: JoinHandle<Result<(), BridgeError>>,
    stop: CancellationToken,
}

impl Client {
    fn of(gateway: &Gateway) -> Self {
        Self::at(&format!("http://{}/mcp", gateway.address))
    }

    fn at(url: &str) -> Self {
        let bridge = Bridge::new(Place::Url(Url::new(url).unwrap()), "secret\n").unwrap();
        let (input, theirs) = tokio::io::duplex(1 << 20);
        let (ours, output) = tokio::io::duplex(1 << 20);
        let stop = CancellationToken::new();
        let ended = tokio::spawn(bridge.run(theirs, ours, stop.clone()));
        Self { input: Some(input), output: BufReader::new(output), ended, stop }
    }

    async fn send(&mut self, line: &str) {
        self.input.as_mut().unwrap().write_all(format!("{line}\n").as_bytes()).await.unwrap();
    }

    async fn line(&mut self) -> String {
        let mut line = String::new();
        let read = self.output.read_line(&mut line);
        tokio::time::timeout(Duration::from_secs(20), read).await.expect("no line came").unwrap();
        assert!(line.ends_with('\n'), "a torn line: {line:?}");
        line.trim_end_matches('\n').to_owned()
    }

    async fn ask(&mut self, line: &str) -> String {
        self.send(line).await;
        self.line().await
    }

    /// Ends the input; what else comes out until the bridge ends.
    async fn end(mut self) -> String {
        drop(self.input.take());
        let mut rest = String::new();
        let read = self.output.read_to_string(&mut rest);
        tokio::time::timeout(Duration::from_secs(20), read).await.expect("it goes on").unwrap();
        self.ended.await.unwrap().unwrap();
        rest
    }
}

const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25"}}"#;
const WELCOME: &str = r#"{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2025-11-25","x":1e2}}"#;
const INITIALIZED: &str = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;

/// The answers of a gateway that opens the session `s-1` and offers no stream of its own.
fn legacy(request: &Seen) -> Option<Say> {
    match (request.verb.as_str(), request.method().as_str()) {
        ("POST", "initialize") => Some(Say::Json(200, "mcp-session-id: s-1\r\n", WELCOME.to_owned())),
        ("POST", method) if method.starts_with("notifications/") => Some(accepted()),
        ("GET", _) => Some(Say::Json(405, "", String::new())),
        ("DELETE", _) => Some(Say::Json(204, "", String::new())),
        _ => None,
    }
}

async fn opened(gateway: &Gateway) -> Client {
    let mut client = Client::of(gateway);
    assert_eq!(client.ask(INITIALIZE).await, WELCOME);
    client.send(INITIALIZED).await;
    client
}

#[tokio::test]
async fn a_session_is_kept_and_every_byte_passes() {
    let answer =
        r#"{ "result" : {"n":1.50,"big":123456789012345678901234567890,"u":"\u00e9é"} ,"jsonrpc":"2.0","id":7}"#;
    let spread = answer.replace(" : ", "\r\n:\n");
    let gateway = Gateway::new(move |request| legacy(request).unwrap_or_else(|| ok(spread.clone()))).await;
    let mut client = opened(&gateway).await;
    let asked = r#"{"jsonrpc":"2.0" , "method":"x/any","id":7,"params":{"n":1.0e0,"z":"\/"}}"#;
    assert_eq!(client.ask(asked).await, answer.replace(" : ", "  : "), "only line ends between tokens become spaces");
    assert_eq!(client.end().await, "");
    let seen = gateway.seen();
    let verbs: Vec<&str> = seen.iter().map(|request| request.verb.as_str()).collect();
    assert!(verbs.contains(&"GET") && verbs.last() == Some(&"DELETE"), "{verbs:?}");
    assert!(seen.iter().all(|request| request.header("authorization") == Some("Bearer secret")));
    assert_eq!(seen[0].header("mcp-session-id"), None);
    for request in &seen[1..] {
        let headers = (request.header("mcp-session-id"), request.header("mcp-protocol-version"));
        assert_eq!(headers, (Some("s-1"), Some("2025-11-25")), "{request:?}");
    }
    assert_eq!(seen.iter().find(|request| request.method() == "x/any").unwrap().body, asked);
}

#[tokio::test]
async fn answers_come_when_they_come_and_no_line_is_mixed_with_another() {
    let gateway = Gateway::new(|request| {
        legacy(request).unwrap_or_else(|| {
            let id = request.message()["id"].as_u64().unwrap();
            let filling = "x".repeat(usize::try_from(id).unwrap() * 2_000);
            let answer = json!({"jsonrpc": "2.0", "id": id, "result": {"filling": filling}}).to_string();
            Say::After(Duration::from_millis(200 - id * 2), answer)
        })
    })
    .await;
    let mut client = opened(&gateway).await;
    for id in 1..=80 {
        client.send(&format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call"}}"#)).await;
    }
    let rest = client.end().await;
    let mut ids: Vec<u64> =
        rest.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["id"].as_u64().unwrap()).collect();
    assert!(!ids.is_sorted(), "the gateway answered them in turn, so this tested nothing");
    ids.sort_unstable();
    assert_eq!(ids, (1..=80).collect::<Vec<u64>>(), "what was in flight when the input ended is waited for");
}

#[tokio::test]
async fn streams_become_lines_and_questions_are_answered() {
    let gateway = Gateway::new(|request| match (request.verb.as_str(), request.method().as_str()) {
        ("GET", _) if request.header("last-event-id").is_none() => {
            Say::Events(vec!["id: e-1\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/first\"}\n\n"])
        }
        ("GET", _) => Say::Endless(vec!["data: {\"jsonrpc\":\"2.0\",\"id\":\"q\",\"method\":\"roots/list\"}\n\n"]),
        ("POST", "tools/call") => Say::Events(vec![
            ": keep-alive\n\n",
            "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\"}\n\n",
            "data: no message\n\n",
            "event: message\ndata: {\"jsonrpc\":\"2.0\",\ndata: \"id\":1,\"result\":{}}\n\n",
        ]),
        ("POST", "") => accepted(),
        _ => legacy(request).unwrap(),
    })
    .await;
    let mut client = opened(&gateway).await;
    assert_eq!(client.line().await, r#"{"jsonrpc":"2.0","method":"notifications/first"}"#);
    // The stream ended; it is listened to again from where it was.
    assert_eq!(client.line().await, r#"{"jsonrpc":"2.0","id":"q","method":"roots/list"}"#);
    assert_eq!(gateway.seen().iter().rfind(|one| one.verb == "GET").unwrap().header("last-event-id"), Some("e-1"));
    let answer = r#"{"jsonrpc":"2.0","id":"q","result":{"roots":[]}}"#;
    client.send(answer).await;
    gateway.until(|gateway| gateway.seen().iter().any(|request| request.body == answer)).await;
    client.send(r#"{"jsonrpc":"2.0","id":1,"method":"tools/call"}"#).await;
    assert_eq!(client.line().await, r#"{"jsonrpc":"2.0","method":"notifications/progress"}"#);
    assert_eq!(client.line().await, r#"{"jsonrpc":"2.0", "id":1,"result":{}}"#);
    assert_eq!(client.end().await, "");
    gateway.until(|gateway| *gateway.closed.lock().unwrap() == 1).await;
}

fn modern(id: u64, method: &str, params: &str) -> String {
    let meta = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}"#;
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{{{meta}{params}}}}}"#)
}

#[tokio::test]
async fn modern_messages_mirror_their_headers() {
    let tools = json!([{"name": "sql", "inputSchema": {"properties": {
        "region": {"type": "string", "x-mcp-header": "Region"}, "n": {"type": "integer", "x-mcp-header": "N"},
        "off": {"type": "boolean", "x-mcp-header": "Off"}, "in": {"properties": {"deep": {"x-mcp-header": "Deep"}}},
        "list": {"items": {"properties": {"no": {"x-mcp-header": "No"}}}}}}}]);
    let gateway = Gateway::new(move |request| {
        let id = &request.message()["id"];
        ok(json!({"jsonrpc": "2.0", "id": id, "result": {"tools": tools}}).to_string())
    })
    .await;
    let mut client = Client::of(&gateway);
    let headers = |gateway: &Gateway| {
        let last = gateway.seen().pop().unwrap();
        let names = ["version", "method", "name", "region", "n", "off", "deep", "no"];
        let full = |name: &str| match name {
            "version" => "mcp-protocol-version".to_owned(),
            "method" | "name" => format!("mcp-{name}"),
            other => format!("mcp-param-{other}"),
        };
        let found = names.map(|name| last.header(&full(name)).unwrap_or("-").to_owned());
        assert_eq!(last.header("mcp-session-id"), None);
        found.join(" ")
    };
    let checks = [
        ("server/discover", "", "2026-07-28 server/discover - - - - - -"),
        ("prompts/get", r#","name":"plain name""#, "2026-07-28 prompts/get plain name - - - - -"),
        ("resources/read", r#","uri":"file:///é""#, "2026-07-28 resources/read =?base64?ZmlsZTovLy/DqQ==?= - - - - -"),
        (
            "resources/read",
            r#","uri":"=?base64?x?=""#,
            "2026-07-28 resources/read =?base64?PT9iYXNlNjQ/eD89?= - - - - -",
        ),
        (
            "tools/call",
            r#","name":" sql","arguments":{"region":"eu"}"#,
            "2026-07-28 tools/call =?base64?IHNxbA==?= - - - - -",
        ),
        ("tools/list", "", "2026-07-28 tools/list - - - - - -"),
        ("tasks/get", r#","taskId":"t-1""#, "2026-07-28 tasks/get t-1 - - - - -"),
        (
            "tools/call",
            r#","name":"sql","arguments":{"region":"us west","n":-7,"off":true,"in":{"deep":"d"},"list":[{"no":1}]}"#,
            "2026-07-28 tools/call sql us west -7 true d -",
        ),
        ("tools/call", r#","name":"sql","arguments":{"region":null,"n":{}}"#, "2026-07-28 tools/call sql - - - - -"),
    ];
    for (at, (method, params, expected)) in checks.into_iter().enumerate() {
        let asked = modern(at as u64, method, params);
        client.ask(&asked).await;
        assert_eq!(headers(&gateway), expected, "{asked}");
    }
    client.end().await;
    assert!(gateway.seen().iter().all(|request| request.verb == "POST"), "no session, no stream");
}

#[tokio::test]
async fn a_modern_cancellation_closes_the_stream_and_a_legacy_one_is_posted() {
    let gateway = Gateway::new(|request| match request.method().as_str() {
        "tools/call" if request.header("mcp-method").is_some() => {
            Say::Endless(vec!["data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\"}\n\n"])
        }
        "tools/call" => Say::After(Duration::from_millis(300), r#"{"jsonrpc":"2.0","id":2,"result":{}}"#.to_owned()),
        "subscriptions/listen" => {
            Say::Endless(vec!["data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/ack\"}\n\n"])
        }
        _ => legacy(request).unwrap(),
    })
    .await;
    let mut client = opened(&gateway).await;
    client.ask(&modern(1, "tools/call", "")).await;
    client.send(r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#).await;
    gateway.until(|gateway| *gateway.closed.lock().unwrap() == 1).await;
    client.send(r#"{"jsonrpc":"2.0","id":2,"method":"tools/call"}"#).await;
    let cancel = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":2}}"#;
    client.send(cancel).await;
    assert_eq!(client.line().await, r#"{"jsonrpc":"2.0","id":2,"result":{}}"#, "the cancelled one has no answer");
    let cancels = gateway.seen().iter().filter(|request| request.method() == "notifications/cancelled").count();
    assert_eq!((cancels, gateway.seen().iter().any(|request| request.body == cancel)), (1, true));
    // A stream that only its client ends does not keep a bridge whose client has gone.
    client.ask(&modern(3, "subscriptions/listen", "")).await;
    assert_eq!(client.end().await, "");
    gateway.until(|gateway| *gateway.closed.lock().unwrap() == 2).await;
}

#[tokio::test]
async fn refusals_become_errors_under_the_requests_id() {
    let gateway = Gateway::new(|request| {
        legacy(request).unwrap_or_else(|| {
            let null = r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"too large"}}"#;
            match request.method().as_str() {
                "a" => Say::Json(401, "", r#"{"message":"The token has expired."}"#.to_owned()),
                "b" => Say::Json(500, "", "<html>".to_owned()),
                "c" => Say::Json(413, "", null.to_owned()),
                "d" => Say::Json(
                    404,
                    "",
                    r#"{"jsonrpc":"2.0","id":"d","error":{"code":-32601,"message":"no"}}"#.to_owned(),
                ),
                "e" => ok("not json"),
                "f" => Say::Events(vec!["data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\"}\n\n"]),
                "g" => ok(r#"{"jsonrpc":"2.0","id":"other","result":{}}"#),
                "h" => Say::Json(503, "", null.to_owned()),
                _ => Say::Json(400, "", null.to_owned()),
            }
        })
    })
    .await;
    let mut client = opened(&gateway).await;
    let unknown = json!({"countersign": {"status": "unknown"}});
    let not_started = json!({"countersign": {"status": "not_started"}});
    for (method, code, data, text) in [
        ("a", -32010, &not_started, "The token has expired.); nothing was done: put a good one"),
        ("b", -32011, &unknown, "HTTP status 500 (<html>): it may have happened"),
        ("c", -32600, &Value::Null, "too large"),
        ("d", -32601, &Value::Null, "no"),
        ("e", -32011, &unknown, "cannot be read"),
        ("f", -32011, &unknown, "broke before the answer"),
        ("g", -32011, &unknown, "cannot be read"),
        ("h", -32010, &not_started, "HTTP status 503 (too large); nothing was done"),
    ] {
        client.send(&format!(r#"{{"jsonrpc":"2.0","id":"{method}","method":"{method}"}}"#)).await;
        let mut line = client.line().await;
        if method == "f" {
            assert!(line.contains("progress"), "{line}");
            line = client.line().await;
        }
        let answer: Value = serde_json::from_str(&line).unwrap();
        let error = &answer["error"];
        assert_eq!(
            (&answer["id"], error["code"].as_i64(), &error["data"]),
            (&json!(method), Some(code), data),
            "{line}"
        );
        assert!(error["message"].as_str().unwrap().contains(text), "{line}");
    }
    // What is no message reaches the gateway as it is, and the client hears what was wrong with it.
    for bad in [r#"[{"jsonrpc":"2.0","id":1,"method":"x"}]"#, "{no json", r#"{"jsonrpc":"2.0","id":1.5,"method":"x"}"#]
    {
        let line = client.ask(bad).await;
        assert!(line.contains(r#""id":null"#) && line.contains("too large"), "{line}");
        assert!(gateway.seen().iter().any(|request| request.body == bad));
    }
    client.end().await;
}

#[tokio::test]
async fn a_gateway_that_is_down_is_said_so_and_nothing_was_sent() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let mut client = Client::at(&format!("http://{free}/mcp"));
    let answer: Value = serde_json::from_str(&client.ask(INITIALIZE).await).unwrap();
    assert_eq!((&answer["id"], &answer["error"]["code"]), (&json!(0), &json!(-32010)));
    assert!(answer["error"]["message"].as_str().unwrap().contains("start it with `countersign up`"), "{answer}");
    assert_eq!(client.end().await, "");
}

#[tokio::test]
async fn a_stream_that_broke_is_taken_up_where_it_was() {
    let gateway = Gateway::new(|request| match (request.verb.as_str(), request.header("last-event-id")) {
        ("GET", Some("e-2")) => Say::Events(vec!["data: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}\n\n"]),
        ("POST", _) if request.method() == "tools/call" => {
            Say::Events(vec!["id: e-1\ndata:\n\n", "id: e-2\ndata:\n\n"])
        }
        _ => legacy(request).unwrap(),
    })
    .await;
    let mut client = opened(&gateway).await;
    let answer = client.ask(r#"{"jsonrpc":"2.0","id":1,"method":"tools/call"}"#).await;
    assert_eq!(answer, r#"{"jsonrpc":"2.0","id":1,"result":{}}"#);
    client.end().await;
    let calls = gateway.seen().iter().filter(|request| request.method() == "tools/call").count();
    assert_eq!(calls, 1, "a call is never sent again");
}

#[tokio::test]
async fn a_forgotten_session_is_opened_anew_and_the_refused_call_is_not_repeated() {
    let sessions = Mutex::new(0_u32);
    let gateway = Gateway::new(move |request| match request.method().as_str() {
        "initialize" => {
            let mut sessions = sessions.lock().unwrap();
            *sessions += 1;
            let header = if *sessions == 1 { "mcp-session-id: s-1\r\n" } else { "mcp-session-id: s-2\r\n" };
            Say::Json(200, header, WELCOME.to_owned())
        }
        "tools/call" if request.header("mcp-session-id") == Some("s-1") => {
            Say::Json(404, "", r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"gone"}}"#.to_owned())
        }
        "tools/call" => ok(r#"{"jsonrpc":"2.0","id":2,"result":{}}"#),
        _ => legacy(request).unwrap(),
    })
    .await;
    let mut client = opened(&gateway).await;
    let refused = client.ask(r#"{"jsonrpc":"2.0","id":1,"method":"tools/call"}"#).await;
    assert!(refused.contains("nothing was done; a new one was opened: send it again"), "{refused}");
    let answer = client.ask(r#"{"jsonrpc":"2.0","id":2,"method":"tools/call"}"#).await;
    assert_eq!(answer, r#"{"jsonrpc":"2.0","id":2,"result":{}}"#);
    client.end().await;
    let methods: Vec<String> = gateway.seen().iter().filter(|one| one.verb == "POST").map(Seen::method).collect();
    let hello = ["initialize", "notifications/initialized", "tools/call"];
    assert_eq!(methods, [hello, hello].concat());
}

#[tokio::test]
async fn a_stop_ends_it_whoever_still_waits() {
    let gateway = Gateway::new(|request| match request.method().as_str() {
        "tools/call" => Say::Endless(vec![": nothing\n\n"]),
        _ => legacy(request).unwrap(),
    })
    .await;
    let mut client = opened(&gateway).await;
    client.send(r#"{"jsonrpc":"2.0","id":1,"method":"tools/call"}"#).await;
    gateway.until(|gateway| gateway.seen().iter().any(|request| request.method() == "tools/call")).await;
    client.stop.cancel();
    let ended = tokio::time::timeout(Duration::from_secs(20), client.ended).await.expect("it goes on");
    ended.unwrap().unwrap();
    assert_eq!(gateway.seen().last().unwrap().verb, "DELETE");
}

#[tokio::test]
async fn a_token_does_not_travel_in_the_clear() {
    for (url, is_private) in [
        ("http://127.0.0.1:1/mcp", true),
        ("http://localhost/mcp", true),
        ("http://[::1]:1/mcp", true),
        ("https://gateway.example/mcp", true),
        ("http://gateway.example/mcp", false),
        ("http://127.0.0.1.example/mcp", false),
    ] {
        let made = Bridge::new(Place::Url(Url::new(url).unwrap()), "secret");
        assert_eq!(made.is_ok(), is_private, "{url}: {made:?}");
    }
    let place = Place::Url(Url::new("http://127.0.0.1:1/mcp").unwrap());
    assert!(matches!(Bridge::new(place, "two\nlines"), Err(BridgeError::Token)));
}
