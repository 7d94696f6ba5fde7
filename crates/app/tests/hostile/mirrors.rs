//! Clients without a handshake whose headers say something else than their bodies: whoever routes by a header would have
//! let something through that the body is not.

use std::time::Duration;

use serde_json::{Value, json};

use super::support::{Installation, POLICY, Setup, python};
use super::wire::{Answer, request, send};

/// See `clients`.
const PACE: Duration = Duration::from_millis(45);
const VERSION: &str = "2026-07-28";

/// What is done to an honest request: headers that are taken away, headers that come instead, and its body.
struct Case {
    what: &'static str,
    without: &'static [&'static str],
    with: &'static [&'static str],
    body: fn() -> Value,
    code: i64,
}

fn meta(version: &str) -> Value {
    json!({ "io.modelcontextprotocol/protocolVersion": version, "io.modelcontextprotocol/clientCapabilities": {} })
}

fn call(arguments: Value) -> Value {
    let params = json!({ "name": "put", "arguments": arguments, "_meta": meta(VERSION) });
    json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params })
}

fn honest() -> Value {
    call(json!({ "id": "x" }))
}

const DIFFER: i64 = -32020;

const fn case(what: &'static str, without: &'static [&'static str], with: &'static [&'static str]) -> Case {
    Case { what, without, with, body: honest, code: DIFFER }
}

const CASES: &[Case] = &[
    case("no revision", &["mcp-protocol-version"], &[]),
    case("another revision", &["mcp-protocol-version"], &["mcp-protocol-version: 2025-11-25"]),
    case("a revision twice", &[], &["mcp-protocol-version: 2026-07-28"]),
    case("no method", &["mcp-method"], &[]),
    case("another method", &["mcp-method"], &["mcp-method: ping"]),
    case("a method in capitals", &["mcp-method"], &["mcp-method: TOOLS/CALL"]),
    case("a method twice", &[], &["mcp-method: tools/list"]),
    case("no name", &["mcp-name"], &[]),
    case("another name", &["mcp-name"], &["mcp-name: look"]),
    case("another name, encoded", &["mcp-name"], &["mcp-name: =?base64?bG9vaw==?="]),
    case("a name that is no base64", &["mcp-name"], &["mcp-name: =?base64?b?="]),
    case("a name twice", &[], &["mcp-name: put"]),
    case("no argument", &["mcp-param-id"], &[]),
    case("another argument", &["mcp-param-id"], &["mcp-param-id: y"]),
    case("another argument, encoded", &["mcp-param-id"], &["mcp-param-id: =?base64?eQ==?="]),
    case("an argument twice", &[], &["mcp-param-id: x"]),
    Case { what: "an argument that is not there", body: || call(json!({})), ..case("", &[], &[]) },
    Case { what: "an argument of another kind", body: || call(json!({ "id": ["x"] })), ..case("", &[], &[]) },
    Case {
        what: "a body of another revision",
        body: || {
            let mut body = honest();
            body["params"]["_meta"] = meta("2027-01-01");
            body
        },
        ..case("", &[], &[])
    },
    Case {
        what: "no capabilities",
        body: || {
            let mut body = honest();
            body["params"]["_meta"] = json!({ "io.modelcontextprotocol/protocolVersion": VERSION });
            body
        },
        code: -32602,
        ..case("", &[], &[])
    },
    Case {
        what: "a revision that nobody serves",
        without: &["mcp-protocol-version"],
        with: &["mcp-protocol-version: 2027-01-01"],
        body: || {
            let mut body = honest();
            body["params"]["_meta"] = meta("2027-01-01");
            body
        },
        code: -32022,
    },
];

struct Ground {
    authority: String,
    token: String,
}

impl Ground {
    fn send(&self, case: &Case) -> Answer {
        let mut headers = vec![
            format!("host: {}", self.authority),
            "accept: application/json, text/event-stream".to_owned(),
            "content-type: application/json".to_owned(),
            format!("authorization: Bearer {}", self.token),
            format!("mcp-protocol-version: {VERSION}"),
            "mcp-method: tools/call".to_owned(),
            "mcp-name: put".to_owned(),
            "mcp-param-id: x".to_owned(),
        ];
        headers.retain(|header| !case.without.iter().any(|name| header.starts_with(&format!("{name}:"))));
        headers.extend(case.with.iter().map(|&header| header.to_owned()));
        send(&self.authority, &request("POST /mcp", &headers, (case.body)().to_string().as_bytes()))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_that_the_body_does_not_bear_out_are_refused() {
    let script = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hostile/server.py");
    let setup = Setup::command(&[&python(), &script.display().to_string(), "world", "modern"]);
    let upstream = format!("{}\n    era: modern", setup.upstream);
    let tools = "{ put: { effect: outbound, arguments: { id: plain } } }".to_owned();
    let at = Installation::new(&Setup { upstream, tools, policy: POLICY.to_owned(), ..setup });
    let gateway = at.up().await;
    let authority = gateway.url.strip_prefix("http://").unwrap().strip_suffix("/mcp").unwrap().to_owned();
    let ground = Ground { authority, token: at.token().trim().to_owned() };
    let wrong = tokio::task::spawn_blocking(move || {
        let mut wrong = Vec::new();
        for case in CASES {
            let answer = ground.send(case);
            if (answer.status, answer.message()["error"]["code"].as_i64()) != (400, Some(case.code)) {
                wrong.push(format!("{}: {}", case.what, answer.text));
            }
            std::thread::sleep(PACE);
        }
        let runs = ground.send(&case("an honest one", &[], &[])).message();
        assert_eq!(runs["result"]["content"][0]["text"], "done", "{runs}");
        wrong
    });
    assert_eq!(wrong.await.unwrap(), Vec::<String>::new());
    gateway.stop().await;
    assert_eq!(at.effects(), ["put x"], "of all these only the honest one reached the upstream");
    let records = at.records();
    let refused = records.iter().filter(|entry| ["malformed", "unsupported"].contains(&entry.reason()));
    assert_eq!(refused.count(), CASES.len(), "each is on record");
}
