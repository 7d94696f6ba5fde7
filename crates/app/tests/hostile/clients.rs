//! Clients that play foul, most of them with a good token.

use std::time::Duration;

use super::support::human::Human;
use super::support::log::Entry;
use super::support::{Installation, Setup};
use super::wire::{Answer, Talk, request, send};

/// More refusals in one second than this are counted in one record; the kit looks for each.
const PACE: Duration = Duration::from_millis(45);

const HOUR_MS: u64 = 3_600_000;

/// What a hostile client has to work with.
struct Ground {
    authority: String,
    /// A good token, and a protocol session of it.
    token: String,
    session: String,
    /// A good token of another agent, and its session.
    other: String,
    other_session: String,
    /// Tokens that open nothing.
    revoked: String,
    expired: String,
    foreign: String,
}

/// One attempt, how it is answered, and the reason on record; none where there was nothing to refuse.
struct Case {
    what: &'static str,
    send: fn(&Ground) -> Vec<u8>,
    status: u16,
    reason: Option<&'static str>,
}

const fn case(what: &'static str, send: fn(&Ground) -> Vec<u8>, status: u16, reason: &'static str) -> Case {
    Case { what, send, status, reason: Some(reason) }
}

const CALL: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"put","arguments":{"id":"x"}}}"#;

impl Ground {
    fn headers(&self) -> Vec<String> {
        vec![
            format!("host: {}", self.authority),
            "accept: application/json, text/event-stream".to_owned(),
            "content-type: application/json".to_owned(),
            format!("authorization: Bearer {}", self.token),
            format!("mcp-session-id: {}", self.session),
            "mcp-protocol-version: 2025-11-25".to_owned(),
        ]
    }

    /// An honest request, but for its body.
    fn post(&self, body: &[u8]) -> Vec<u8> {
        request("POST /mcp", &self.headers(), body)
    }

    /// An honest call, but for one header: replaced, or where `value` is empty left out.
    fn without(&self, name: &str, value: &str) -> Vec<u8> {
        let mut headers = self.headers();
        headers.retain(|header| !header.starts_with(&format!("{name}:")));
        if !value.is_empty() {
            headers.push(format!("{name}: {value}"));
        }
        request("POST /mcp", &headers, CALL.as_bytes())
    }

    /// An honest call with one header more.
    fn with(&self, header: String) -> Vec<u8> {
        let mut headers = self.headers();
        headers.push(header);
        request("POST /mcp", &headers, CALL.as_bytes())
    }
}

fn call(params: &str) -> Vec<u8> {
    format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{params}}}"#).into_bytes()
}

const FRAMES: &[Case] = &[
    case("a batch", |at| at.post(format!("[{CALL},{CALL}]").as_bytes()), 400, "malformed"),
    case("two messages in one body", |at| at.post(format!("{CALL}{CALL}").as_bytes()), 400, "malformed"),
    case(
        "a name that comes twice",
        |at| at.post(&call(r#"{"name":"look","name":"put","arguments":{}}"#)),
        400,
        "malformed",
    ),
    case(
        "a name that comes twice, once escaped",
        |at| at.post(&call(r#"{"name":"look","n\u0061me":"put","arguments":{}}"#)),
        400,
        "malformed",
    ),
    case(
        "an argument that comes twice",
        |at| at.post(&call(r#"{"name":"put","arguments":{"id":"a","id":"b"}}"#)),
        400,
        "malformed",
    ),
    case(
        "a method that comes twice",
        |at| at.post(&CALL.replace("\"id\":1", "\"method\":\"ping\",\"id\":1").into_bytes()),
        400,
        "malformed",
    ),
    case("no id", |at| at.post(&CALL.replace("\"id\":1,", "").into_bytes()), 400, "malformed"),
    case("an id that is null", |at| at.post(&CALL.replace("\"id\":1", "\"id\":null").into_bytes()), 400, "malformed"),
    case("an id with a fraction", |at| at.post(&CALL.replace("\"id\":1", "\"id\":1.5").into_bytes()), 400, "malformed"),
    case(
        "an id that is an object",
        |at| at.post(&CALL.replace("\"id\":1", "\"id\":{}").into_bytes()),
        400,
        "malformed",
    ),
    case(
        "an id that comes twice",
        |at| at.post(&CALL.replace("\"id\":1", "\"id\":1,\"id\":2").into_bytes()),
        400,
        "malformed",
    ),
    case(
        "a response and a request in one",
        |at| at.post(&CALL.replace("\"id\":1", "\"result\":{},\"id\":1").into_bytes()),
        400,
        "malformed",
    ),
    case("half a message", |at| at.post(CALL.split_at(60).0.as_bytes()), 400, "malformed"),
    case(
        "bytes that are no text",
        |at| at.post(&call("{\"name\":\"put\",\"arguments\":{\"id\":\"\u{1}\"}}")),
        400,
        "malformed",
    ),
    case(
        "bytes that are no UTF-8",
        |at| at.post(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"\xff\xfe\"}"),
        400,
        "malformed",
    ),
    case("half a surrogate", |at| at.post(&call(r#"{"name":"put","arguments":{"id":"\ud800"}}"#)), 400, "malformed"),
    case(
        "a very deep argument",
        |at| {
            at.post(&call(&format!(
                "{{\"name\":\"put\",\"arguments\":{{\"id\":{}1{}}}}}",
                "[".repeat(99),
                "]".repeat(99)
            )))
        },
        400,
        "malformed",
    ),
    case(
        "a parameter that nobody judges",
        |at| at.post(&call(r#"{"name":"put","arguments":{},"also":"this"}"#)),
        400,
        "malformed",
    ),
    case("arguments that are no object", |at| at.post(&call(r#"{"name":"put","arguments":["id"]}"#)), 400, "malformed"),
    case(
        "a progress token with a fraction",
        |at| at.post(&call(r#"{"name":"put","arguments":{},"_meta":{"progressToken":0.5}}"#)),
        400,
        "malformed",
    ),
];

const HEADS: &[Case] = &[
    case("no token", |at| at.without("authorization", ""), 401, "token_invalid"),
    case(
        "a token in the address",
        |at| {
            let mut headers = at.headers();
            headers.retain(|header| !header.starts_with("authorization"));
            request(&format!("POST /mcp?access_token={}", at.token), &headers, CALL.as_bytes())
        },
        401,
        "token_invalid",
    ),
    case(
        "a token of another gateway",
        |at| at.without("authorization", &format!("Bearer {}", at.foreign)),
        401,
        "token_invalid",
    ),
    case(
        "a token that was cut",
        |at| at.without("authorization", &format!("Bearer {}", at.token.split_at(40).0)),
        401,
        "token_invalid",
    ),
    case(
        "a token that was revoked",
        |at| at.without("authorization", &format!("Bearer {}", at.revoked)),
        401,
        "token_invalid",
    ),
    case(
        "a token that has expired",
        |at| at.without("authorization", &format!("Bearer {}", at.expired)),
        401,
        "token_expired",
    ),
    case("another scheme", |at| at.without("authorization", &format!("Basic {}", at.token)), 401, "token_invalid"),
    case("two tokens", |at| at.with(format!("authorization: Bearer {}", at.other)), 400, "malformed"),
    case("a forged session", |at| at.without("mcp-session-id", &"0".repeat(32)), 404, "malformed"),
    case("somebody else's session", |at| at.without("mcp-session-id", &at.other_session), 404, "malformed"),
    case("a session that the client chose", |at| at.without("mcp-session-id", "mine"), 404, "malformed"),
    case("no session", |at| at.without("mcp-session-id", ""), 400, "malformed"),
    case("two sessions", |at| at.with(format!("mcp-session-id: {}", at.other_session)), 400, "malformed"),
    case("a host of its own (DNS rebinding)", |at| at.without("host", "attacker.example"), 403, "malformed"),
    case("a web page of its own", |at| at.with("origin: https://attacker.example".to_owned()), 403, "malformed"),
    case("the origin `null`", |at| at.with("origin: null".to_owned()), 403, "malformed"),
    case("a form instead of JSON", |at| at.without("content-type", "text/plain"), 415, "malformed"),
    case("a revision that never was", |at| at.without("mcp-protocol-version", "2024-13-45"), 400, "malformed"),
    case(
        "a body that says that it is huge",
        |at| {
            let text = String::from_utf8(at.post(b"")).unwrap();
            text.replace("content-length: 0", "content-length: 99999999999").into_bytes()
        },
        413,
        "oversize",
    ),
    case(
        "a body that is huge and does not say so",
        |at| {
            let text = String::from_utf8(at.post(b"")).unwrap();
            let head = text.replace("content-length: 0", "transfer-encoding: chunked");
            let chunk = vec![b' '; 5 << 20];
            [head.as_bytes(), format!("{:x}\r\n", chunk.len()).as_bytes(), &chunk, b"\r\n0\r\n\r\n"].concat()
        },
        413,
        "oversize",
    ),
    Case {
        what: "two lengths (request smuggling)",
        send: |at| {
            String::from_utf8(at.post(CALL.as_bytes()))
                .unwrap()
                .replace("connection:", "content-length: 4\r\nconnection:")
                .into_bytes()
        },
        status: 400,
        reason: None,
    },
    Case {
        what: "the admin plane at the agents' door",
        send: |at| request("POST /approvals/t-1", &at.headers(), b"{}"),
        status: 404,
        reason: None,
    },
    Case {
        what: "a path out of the endpoint",
        send: |at| request("POST /mcp/../kill", &at.headers(), CALL.as_bytes()),
        status: 404,
        reason: None,
    },
];

/// What was not answered as it should be.
fn try_all(cases: &[Case], ground: &Ground) -> Vec<String> {
    let mut wrong = Vec::new();
    for Case { what, send: of, status, .. } in cases {
        let Answer { status: found, text } = send(&ground.authority, &of(ground));
        if found != *status || text.contains("\"done\"") {
            wrong.push(format!("{what}: expected {status}: {text}"));
        }
        std::thread::sleep(PACE);
    }
    wrong
}

/// Every case has its record, in the order of the cases.
fn on_record(cases: &[Case], entries: &[Entry]) {
    let mut refused = entries.iter().map(Entry::reason).filter(|reason| !reason.is_empty());
    for Case { what, reason, .. } in cases {
        let Some(reason) = reason else { continue };
        assert_eq!(refused.next(), Some(*reason), "{what}");
    }
    assert_eq!(refused.next(), None, "more was refused than was tried");
}

async fn refused(cases: &'static [Case]) {
    let elsewhere = Installation::new(&Setup::lab());
    let at = Installation::new(&Setup { agents: vec!["beta".to_owned()], ..Setup::lab() });
    let gateway = at.up().await;
    let authority = gateway.url.strip_prefix("http://").unwrap().strip_suffix("/mcp").unwrap().to_owned();
    let owner = Human::owner(&at);
    let token = at.token().trim().to_owned();
    let other = owner.issue(&at, "beta", None, HOUR_MS);
    let expired = owner.issue(&at, "beta", None, 1);
    let issued = at.owner(&["token", "issue", "beta"]);
    at.owner(&["token", "revoke", issued["session"].as_str().unwrap()]);
    let revoked = issued["token"].as_str().unwrap().trim().to_owned();
    let session = |token: &str| Talk::open(&authority, token, ("/mcp", "{}")).session;
    let ground = Ground {
        session: session(&token),
        other_session: session(&other),
        revoked,
        expired,
        foreign: elsewhere.token().trim().to_owned(),
        authority: authority.clone(),
        token,
        other,
    };
    let wrong = tokio::task::spawn_blocking(move || try_all(cases, &ground)).await.unwrap();
    gateway.stop().await;
    assert_eq!(wrong, Vec::<String>::new());
    assert_eq!(at.effects(), Vec::<String>::new(), "something reached the upstream");
    on_record(cases, &at.records());
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_two_readers_could_read_differently_are_refused() {
    refused(FRAMES).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_claim_what_they_are_not_are_refused() {
    refused(HEADS).await;
}
