//! The era without a handshake: what a request must say, in which order it is refused, and what comes back.

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{World, body, script, status};
use crate::mcp::config::{EraChoice, FrontConfig, Limits};

pub(super) const META: &str = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}"#;

async fn world(era: EraChoice) -> World {
    let config = FrontConfig::new("127.0.0.1:0".parse().unwrap());
    World::behind(config, vec![script::upstream("crm", era).await]).await
}

/// Parameters with the `_meta` that a request needs.
pub(super) fn params(more: &str) -> String {
    if more.is_empty() { format!("{{{META}}}") } else { format!("{{{more},{META}}}") }
}

pub(super) fn request(method: &str, params: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":"m\u0031","method":"{method}","params":{params}}}"#)
}

/// The headers of a request, and more.
pub(super) fn headers(method: &str, name: Option<&str>) -> String {
    let name = name.map(|name| format!("Mcp-Name: {name}\r\n")).unwrap_or_default();
    format!("MCP-Protocol-Version: 2026-07-28\r\nmcp-METHOD:  {method}\t\r\n{name}")
}

impl World {
    pub(super) async fn modern(&self, token: &str, method: &str, name: Option<&str>, more: &str) -> String {
        self.post(token, &headers(method, name), &request(method, &params(more))).await
    }
}

#[tokio::test]
async fn a_request_stands_alone() {
    let world = world(EraChoice::Modern).await;
    let found = body(&world.modern("alice", "server/discover", None, "").await);
    assert_eq!(found["id"], "m1");
    assert_eq!(found["result"]["supportedVersions"], json!(["2026-07-28"]), "what is not served is not promised");
    assert_eq!(found["result"]["cacheScope"], "private");
    let capabilities = found["result"]["capabilities"].as_object().unwrap();
    assert_eq!(capabilities["extensions"], json!({ "io.modelcontextprotocol/tasks": {} }));
    assert!(!capabilities.contains_key("experimental") && capabilities.contains_key("resources"));

    let listed = world.modern("alice", "tools/list", None, "").await;
    assert!(!listed.contains("mcp-session-id"));
    assert!(
        listed.contains(r#""resultType":"complete","ttlMs":5000,"cacheScope":"private","tools":[{"name":"echo" ,"#)
    );
    assert!(!listed.contains(r#""name":"resources/read""#), "a tool may not be named like a method");

    let called = world.modern("alice", "tools/call", Some("link"), r#""name":"link""#).await;
    assert_eq!((status(&called), &body(&called)["result"]["content"][0]["uri"]), ("200", &"mem://1".into()));
    assert_eq!(body(&called)["result"]["_meta"]["countersign/receipt"]["log"], "test");
    let sent = world.seen.with("tools/call");
    assert!(sent[0].contains(META), "`_meta` goes on as it came: {}", sent[0]);

    let denied = body(&world.modern("alice", "tools/call", Some("deny"), r#""name":"deny""#).await);
    assert_eq!((&denied["result"]["resultType"], &denied["result"]["isError"]), (&"complete".into(), &true.into()));
    let read = body(&world.modern("alice", "resources/read", Some("mem://1"), r#""uri":"mem://1""#).await);
    assert_eq!(read["result"]["cacheScope"], "private");
    let calls = world.governor.calls.lock().unwrap().clone();
    let (tool, arguments, _, known) = calls.last().unwrap();
    assert_eq!((tool.as_str(), &arguments[..], *known), ("resources/read", &br#"{"uri":"mem://1"}"#[..], true));
    assert!(world.refused().is_empty());
}

#[tokio::test]
async fn a_request_that_does_not_say_what_it_must_goes_nowhere() {
    let world = world(EraChoice::Modern).await;
    let good = headers("tools/call", Some("echo"));
    let call = r#""name":"echo","arguments":{}"#;
    let version = |version: &str| format!("{{{call},{}}}", META.replace("2026-07-28", version));
    let without = |method: &str, name: Option<&str>| {
        headers(method, name).replacen("MCP-Protocol-Version: 2026-07-28\r\n", "", 1)
    };
    let bare = r#"{"name":"echo","_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}"#;
    for (headers, params, http, code) in [
        (good.clone(), format!("{{{call}}}"), "400", -32602),
        (good.clone(), bare.to_owned(), "400", -32602),
        (good.clone(), version("2025-11-25"), "400", -32020),
        (good.replace("2026-07-28", "2025-11-25"), params(call), "400", -32020),
        (without("tools/call", Some("echo")), params(call), "400", -32020),
        (good.replace("2026-07-28", "2099-01-01"), version("2099-01-01"), "400", -32022),
        (good.replace("2026-07-28", "v999.0.0"), version("v999.0.0"), "400", -32022),
        (headers("tools/list", Some("echo")), params(call), "400", -32020),
        (headers("TOOLS/CALL", Some("echo")), params(call), "400", -32020),
        (headers("tools/call", Some("other")), params(call), "400", -32020),
        (headers("tools/call", None), params(call), "400", -32020),
        (headers("tools/call", Some("=?base64?ZWNobw?=")), params(call), "400", -32020),
        (format!("{good}Mcp-Name: echo\r\n"), params(call), "400", -32020),
        (format!("{good}Mcp-Method: tools/call\r\n"), params(call), "400", -32020),
        // A header for an argument that is not there, and one whose argument says other.
        (format!("{good}Mcp-Param-Region: eu\r\n"), params(call), "400", -32020),
        (good.clone(), params(r#""name":"echo","arguments":{"region":"eu"}"#), "400", -32020),
        (
            format!("{good}Mcp-Param-Region: us\r\n"),
            params(r#""name":"echo","arguments":{"region":"eu"}"#),
            "400",
            -32020,
        ),
        (good.clone(), params(r#""name":"echo","requestState":"forged""#), "400", -32602),
        (good.clone(), params(r#""name":"echo","inputResponses":7"#), "400", -32602),
    ] {
        let before = world.refused().len();
        let answer = world.post("alice", &headers, &request("tools/call", &params)).await;
        let found = (status(&answer), body(&answer)["error"]["code"].as_i64());
        assert_eq!(found, (http, Some(code)), "{headers} {params}: {answer}");
        assert_eq!(body(&answer)["id"], "m1");
        assert_eq!(world.refused().len(), before + 1, "it is on record: {headers} {params}");
    }
    let unknown = body(
        &world
            .post("alice", &good.replace("2026-07-28", "2099-01-01"), &request("tools/call", &version("2099-01-01")))
            .await,
    );
    assert_eq!(unknown["error"]["data"], json!({ "supported": ["2026-07-28"], "requested": "2099-01-01" }));
    world.nothing_happened();
}

#[tokio::test]
async fn arguments_travel_in_headers_made_anew() {
    let world = world(EraChoice::Modern).await;
    let good = headers("tools/call", Some("echo"));
    let asked = request("tools/call", &params(r#""name":"echo","arguments":{"region":"eu"}"#));
    let more = format!("{good}Mcp-Param-Region: =?base64?ZXU=?=\r\nMcp-Param-Unknown: x\r\n");
    assert_eq!(status(&world.post("alice", &more, &asked).await), "200");
    assert_eq!(world.seen.with("tools/call").len(), 1);
}

#[tokio::test]
async fn methods_of_the_other_era_are_not_found() {
    let world = world(EraChoice::Modern).await;
    for method in [
        "initialize",
        "ping",
        "logging/setLevel",
        "resources/subscribe",
        "tasks/list",
        "unknown/method",
        "sampling/createMessage",
    ] {
        let answer = world.modern("alice", method, None, r#""uri":"mem://1""#).await;
        assert_eq!((status(&answer), &body(&answer)["error"]["code"]), ("404", &(-32601).into()), "{method}");
    }
    let missing = world.modern("alice", "tools/call", Some("capability"), r#""name":"capability""#).await;
    assert_eq!((status(&missing), &body(&missing)["error"]["code"]), ("400", &(-32021).into()));
    let get = world.head(
        "GET",
        "Authorization: Bearer alice\r\nMCP-Protocol-Version: 2026-07-28\r\nAccept: text/event-stream\r\n\r\n",
    );
    assert_eq!(status(&world.raw(&get).await), "405");
}

/// What came on a stream of events.
pub(super) fn events(answer: &str) -> Vec<Value> {
    answer
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|data| serde_json::from_str(data).unwrap())
        .collect()
}

#[tokio::test]
async fn what_is_said_meanwhile_comes_on_the_requests_own_stream() {
    let world = world(EraChoice::Modern).await;
    let answer = world.modern("alice", "tools/call", Some("log"), r#""name":"log""#).await;
    assert!(answer.contains("content-type: text/event-stream") && answer.contains("x-accel-buffering: no"), "{answer}");
    assert!(answer.contains(r#""params":{"level":"info", "data":"d"}"#), "{answer}");
    let heard = events(&answer);
    assert_eq!((heard.len(), &heard[1]["id"]), (2, &"m1".into()));
}

/// Opens a stream and reads until `enough`.
pub(super) async fn stream(
    world: &World,
    token: &str,
    text: &str,
    enough: impl Fn(&str) -> bool,
) -> (TcpStream, String) {
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    let (mut heard, mut chunk) = (String::new(), [0; 4096]);
    while !enough(&heard) {
        let read = tokio::time::timeout(std::time::Duration::from_secs(5), stream.read(&mut chunk)).await;
        let count = read.unwrap_or_else(|_| panic!("{token}: {heard}")).unwrap();
        assert!(count > 0, "{token}: {heard}");
        heard.push_str(std::str::from_utf8(&chunk[..count]).unwrap());
    }
    (stream, heard)
}

pub(super) fn posted(world: &World, token: &str, headers: &str, body: &str) -> String {
    let head = world.head(
        "POST",
        &format!(
            "Authorization: Bearer {token}\r\nContent-Type: application/json\r\n{headers}Content-Length: {}\r\n\r\n",
            body.len()
        ),
    );
    format!("{head}{body}")
}

#[tokio::test]
async fn closing_the_stream_cancels_the_call() {
    let world = world(EraChoice::Modern).await;
    let asked = request("tools/call", &params(r#""name":"silent""#));
    let text = posted(&world, "alice", &headers("tools/call", Some("silent")), &asked);
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    world.seen.wait("silent").await;
    drop(stream);
    world.seen.wait("notifications/cancelled").await;
}

#[tokio::test]
async fn a_stream_of_changes_holds_what_was_asked_for_and_allowed() {
    let world = world(EraChoice::Modern).await;
    world.governor.denied.lock().unwrap().push(("resources/subscribe".to_owned(), "mem://secret".to_owned()));
    let wanted = r#""notifications":{"toolsListChanged":true,"promptsListChanged":false,"resourceSubscriptions":["mem://1","mem://secret"],"other":1}"#;
    let asked = request("subscriptions/listen", &params(wanted));
    let text = posted(&world, "alice", &headers("subscriptions/listen", None), &asked);
    let (stream, heard) = stream(&world, "alice", &text, |heard| heard.contains("resources/updated")).await;
    let heard = events(&heard);
    assert_eq!(heard[0]["method"], "notifications/subscriptions/acknowledged");
    assert_eq!(
        heard[0]["params"]["notifications"],
        json!({ "toolsListChanged": true, "resourceSubscriptions": ["mem://1"] })
    );
    let methods: Vec<&str> = heard.iter().map(|event| event["method"].as_str().unwrap()).collect();
    assert_eq!(methods[1..], ["notifications/tools/list_changed", "notifications/resources/updated"]);
    for event in &heard {
        assert_eq!(event["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"], "m1", "{event}");
    }
    assert_eq!(heard[2]["params"]["_meta"]["k"], 1, "the rest is the upstream's");
    let calls = world.governor.calls.lock().unwrap().clone();
    assert_eq!(calls.len(), 2);
    assert_eq!(calls[0].1, br#"{"uri":"mem://1"}"#);
    assert!(!world.seen.with("subscriptions/listen")[0].contains("secret"));
    drop(stream);
    world.seen.wait("notifications/cancelled").await;

    for wrong in [
        "",
        r#""notifications":7"#,
        r#""notifications":{"toolsListChanged":1}"#,
        r#""notifications":{"resourceSubscriptions":[7]}"#,
    ] {
        let answer = world.modern("alice", "subscriptions/listen", None, wrong).await;
        assert_eq!((status(&answer), &body(&answer)["error"]["code"]), ("400", &(-32602).into()), "{wrong}");
    }
}

#[tokio::test]
async fn a_stream_of_changes_ends_with_the_token_that_opened_it() {
    let limits = Limits { keep_alive: std::time::Duration::from_millis(20), ..Limits::default() };
    let config = FrontConfig::new("127.0.0.1:0".parse().unwrap()).with_limits(limits);
    let world = World::behind(config, vec![script::upstream("crm", EraChoice::Modern).await]).await;
    let asked = request("subscriptions/listen", &params(r#""notifications":{"toolsListChanged":true}"#));
    let text = posted(&world, "alice", &headers("subscriptions/listen", None), &asked);
    let (mut stream, _) = stream(&world, "alice", &text, |heard| heard.contains("tools/list_changed")).await;
    world.governor.gone.lock().unwrap().push("alice".to_owned());
    let mut rest = String::new();
    tokio::time::timeout(std::time::Duration::from_secs(5), stream.read_to_string(&mut rest)).await.unwrap().unwrap();
    world.seen.wait("notifications/cancelled").await;
}

/// A world whose client says this of itself.
struct Speaking(World, String);

impl Speaking {
    pub(super) async fn modern(&self, token: &str, method: &str, name: Option<&str>, more: &str) -> String {
        let text = request(method, &format!("{{{more},{}}}", self.1));
        self.0.post(token, &headers(method, name), &text).await
    }
}

#[tokio::test]
async fn a_task_is_its_owners_alone() {
    let world = world(EraChoice::Modern).await;
    let asked = r#""taskId":"t1""#;
    let silent = world.modern("alice", "tasks/get", Some("t1"), asked).await;
    assert_eq!((status(&silent), &body(&silent)["error"]["code"]), ("400", &(-32021).into()));
    let tasks = r#"{"extensions":{"io.modelcontextprotocol/tasks":{}}}"#;
    assert_eq!(body(&silent)["error"]["data"]["requiredCapabilities"].to_string(), tasks);
    let world = Speaking(world, META.replace(r#"clientCapabilities":{}"#, &format!(r#"clientCapabilities":{tasks}"#)));
    let before = world.modern("alice", "tasks/get", Some("t1"), asked).await;
    assert_eq!(body(&before)["error"]["code"], -32602, "nobody was handed it yet");
    world.modern("alice", "tools/call", Some("task"), r#""name":"task""#).await;
    let own = body(&world.modern("alice", "tasks/get", Some("t1"), asked).await);
    assert_eq!(own["result"]["taskId"], "t1");
    for method in ["tasks/get", "tasks/cancel", "tasks/update"] {
        let foreign = body(&world.modern("bob", method, Some("t1"), asked).await);
        assert_eq!(foreign["error"]["code"], -32602, "{method}");
    }
    assert_eq!(world.0.seen.with("\"tasks/").len(), 1);
    let update = body(&world.modern("alice", "tasks/update", Some("t1"), r#""taskId":"t1","inputResponses":{}"#).await);
    assert_eq!(update["result"]["status"], "working");
    assert_eq!(world.0.governor.calls.lock().unwrap().last().unwrap().0, "tasks/update", "an update is an action");
}
