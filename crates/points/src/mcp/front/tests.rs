//! The door: who is let in, what is refused before anything reaches the upstream, and what an agent gets to see.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use countersign_gate::call::{Answer, Call};
use countersign_gate::{StateKey, TicketState};
use countersign_model::action::Point;
use countersign_model::id::{AgentId, RunId, SessionId, TenantId, TicketId, ToolName, UpstreamId};
use countersign_model::record::{CLAIM_BYTES_MAX, Claimed, Status};
use countersign_model::unit::TimeMs;
use countersign_model::{Caller, Digest, Narrowed, Principal, Reason, ReasonCode};
use countersign_receipt::{Receipt, ReceiptProof, Role, TlogProof};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use crate::Governor;
use crate::mcp::client::{Client, Raw};
use crate::mcp::config::{EraChoice, FrontConfig, Limits, UpstreamLimits};
use crate::mcp::execute::testing::{Seen, TestLeave};
use crate::mcp::execute::{Reply, Upstream};
use crate::mcp::front::{Server, Work};

/// Tokens are agents' names; `expired` has expired. Tools `deny`, `park` and `unrecorded` say what becomes of them.
/// Which agent was refused, and why.
type Refused = (Option<String>, ReasonCode);
/// Tool, arguments, meta, and whether the tool is listed.
type Called = (String, Vec<u8>, Vec<u8>, bool);
/// Which leaf a call went on with, and the answers.
type WentOn = (Option<u64>, String);

#[derive(Clone, Default)]
struct Scripted {
    refused: Arc<Mutex<Vec<Refused>>>,
    calls: Arc<Mutex<Vec<Called>>>,
    claims: Arc<Mutex<Vec<Claimed>>>,
    /// Towards which upstream each call was.
    upstreams: Arc<Mutex<Vec<String>>>,
    /// Holds an action of this tool between its effect and its outcome, until it is let go.
    held: Arc<Mutex<Option<(String, CancellationToken)>>>,
    /// The leave of the action that is held.
    leave: Arc<Mutex<Option<TestLeave>>>,
    /// Actions that are denied besides, by their tool and a part of their arguments.
    denied: Arc<Mutex<Vec<(String, String)>>>,
    /// What looked wrong in the tool of each call.
    flagged: Arc<Mutex<Vec<Option<String>>>>,
    /// Agents whose tokens were revoked.
    gone: Arc<Mutex<Vec<String>>>,
    /// Actions that are decided once the token is cancelled, by a part of their arguments.
    slow: Arc<Mutex<Vec<(String, CancellationToken)>>>,
    /// How actions ended: arguments, status, note.
    outcomes: Arc<Mutex<Vec<(String, Status, String)>>>,
    /// Whether permits ask for redaction.
    redacts: Arc<AtomicBool>,
    killed: CancellationToken,
    /// Tools that wait for a human.
    parked: Arc<Mutex<Vec<String>>>,
    /// What each call went on with: the leaf, and the answers.
    rounds: Arc<Mutex<Vec<WentOn>>>,
    /// Calls that may still go on, by the leaves of their intents.
    open: Arc<Mutex<std::collections::BTreeSet<u64>>>,
    /// How the one ticket stands; it waits where nothing is said.
    ticket: Arc<Mutex<Option<TicketState>>>,
    changed: Arc<tokio::sync::Notify>,
    /// Added to the clock, in milliseconds.
    later: Arc<Mutex<u64>>,
}

mod bridged;
mod events;
mod kept;
mod modern;
mod parked;
mod questions;
mod rounds;
mod script;
mod several;
mod streams;

fn receipt() -> Receipt {
    Receipt { log: "test".to_owned(), proofs: Vec::new() }
}

/// The receipt of a call that ran; of one that asks it names the intent.
fn intent(index: u64, status: Status) -> Receipt {
    if status != Status::InputRequired {
        return receipt();
    }
    let proof = TlogProof { extra: None, index, path: Vec::new(), checkpoint: String::new() };
    Receipt { proofs: vec![ReceiptProof { role: Role::Intent, leaf: Vec::new(), proof }], ..receipt() }
}

impl Scripted {
    /// What a human says, or time does, to the one ticket.
    fn say(&self, state: TicketState) {
        *self.ticket.lock().unwrap() = Some(state);
        self.changed.notify_waiters();
    }

    /// Whether this call uses the consent.
    fn redeem(&self, tool: &str) -> bool {
        let is_gated = tool == "park" || self.parked.lock().unwrap().iter().any(|gated| gated == tool);
        let mut ticket = self.ticket.lock().unwrap();
        let is_redeemed = is_gated && matches!(*ticket, Some(TicketState::Consented { .. }));
        if is_redeemed {
            *ticket = Some(TicketState::Redeemed);
        }
        is_redeemed
    }
}

impl Governor<Work> for Scripted {
    fn identify(&self, token: &str) -> Result<Caller, Reason> {
        match token {
            "alice" | "bob" => Ok(Caller {
                principal: Principal {
                    tenant: TenantId::new("t").unwrap(),
                    agent: AgentId::new(token).unwrap(),
                    session: SessionId::new(token).unwrap(),
                    run: RunId::new(token).unwrap(),
                    depth: 0,
                },
                expires: TimeMs(u64::MAX),
                narrowed: None,
            }),
            // Alice's token, narrowed.
            "alice-less" => {
                let narrowed = Narrowed { blocks: vec![Digest([1; 32])], ..Narrowed::default() };
                Ok(Caller { narrowed: Some(narrowed), ..Governor::<Work>::identify(self, "alice")? })
            }
            "expired" => Err(Reason::plain(ReasonCode::TokenExpired)),
            _ => Err(Reason::plain(ReasonCode::TokenInvalid)),
        }
    }

    fn stands(&self, caller: &Caller) -> bool {
        !self.gone.lock().unwrap().contains(&caller.principal.agent.to_string())
    }

    async fn killed(&self, _: &Caller) {
        self.killed.cancelled().await;
    }

    fn lists(&self, caller: &Caller, upstream: &UpstreamId, (tool, _): (&ToolName, Digest)) -> bool {
        assert!(["crm", "files"].contains(&upstream.as_str()));
        !(caller.principal.agent.as_str() == "bob" && ["second-page", "resources/read"].contains(&tool.as_str()))
    }

    async fn govern(&self, call: Call, executor: Arc<Work>) -> Answer<Reply> {
        let tool = call.tool.as_str().to_owned();
        let continues = call.continues.map(|continues| continues.intent.0);
        self.rounds.lock().unwrap().push((continues, String::from_utf8_lossy(&call.input).into_owned()));
        if continues.is_some_and(|leaf| !self.open.lock().unwrap().remove(&leaf)) {
            let reason = Reason::plain(ReasonCode::ContinuationInvalid);
            return Answer::Denied { reasons: vec![reason], receipt: Some(receipt()) };
        }
        self.upstreams.lock().unwrap().push(call.upstream.to_string());
        self.claims.lock().unwrap().push(call.claimed);
        self.flagged.lock().unwrap().push(call.flagged);
        let arguments = String::from_utf8_lossy(&call.arguments).into_owned();
        let is_denied = self.denied.lock().unwrap().iter().any(|(of, part)| *of == tool && arguments.contains(part));
        self.calls.lock().unwrap().push((tool.clone(), call.arguments, call.meta, call.manifest.is_some()));
        let slow = self.slow.lock().unwrap().iter().find(|(part, _)| arguments.contains(part)).cloned();
        if let Some((_, decided)) = slow {
            decided.cancelled().await;
        }
        let is_redeemed = self.redeem(&tool);
        let is_parked = !is_redeemed && self.parked.lock().unwrap().contains(&tool);
        let secret = Reason::because(ReasonCode::PolicyForbid, "policy secret-7 forbids");
        let budget = Reason::because(ReasonCode::BudgetExhausted, "calls per hour: 10 of 10");
        match tool.as_str() {
            _ if is_denied => Answer::Denied { reasons: vec![secret], receipt: Some(receipt()) },
            "deny" => Answer::Denied { reasons: vec![secret, budget], receipt: Some(receipt()) },
            _ if is_parked || (!is_redeemed && ["park", "typed"].contains(&tool.as_str())) => Answer::Parked {
                ticket: TicketId::new("T-1").unwrap(),
                expires: TimeMs(1_000),
                gates: vec!["two eyes".to_owned()],
                repeated: false,
                receipt: receipt(),
            },
            _ => {
                let (killed, redacts) = (self.killed.clone(), self.redacts.load(Ordering::Relaxed));
                let mut leave = TestLeave { upstream: call.upstream, killed, redacts, ..TestLeave::new(call.cancel) };
                let held = self.held.lock().unwrap().clone().filter(|(held, _)| *held == tool);
                if held.is_some() {
                    // Its own, so that the client's streams go on and a test sees what comes.
                    leave.killed = CancellationToken::new();
                    *self.leave.lock().unwrap() = Some(leave.clone());
                }
                let executed = executor.carry_out(leave).await;
                if let Some((_, release)) = held {
                    release.cancelled().await;
                }
                let note = executed.note.clone().unwrap_or_default();
                self.outcomes.lock().unwrap().push((arguments, executed.status, note));
                let leaf = self.calls.lock().unwrap().len() as u64;
                let receipt = (tool != "unrecorded").then(|| intent(leaf, executed.status));
                if executed.status == Status::InputRequired {
                    self.open.lock().unwrap().insert(leaf);
                }
                Answer::Ran { status: executed.status, reply: executed.reply, note: executed.note, receipt }
            }
        }
    }

    fn ticket(&self, caller: &Caller, ticket: &TicketId) -> TicketState {
        if caller.principal.agent.as_str() != "alice" || ticket.as_str() != "T-1" {
            return TicketState::Unknown;
        }
        let waits = TicketState::Waiting { expires: TimeMs(1_800_000_900_000), gates: Vec::new() };
        self.ticket.lock().unwrap().clone().unwrap_or(waits)
    }

    async fn ticket_changed(&self, caller: &Caller, ticket: &TicketId, known: &TicketState) -> TicketState {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let state = self.ticket(caller, ticket);
            if state != *known {
                return state;
            }
            changed.await;
        }
    }

    fn now(&self) -> TimeMs {
        TimeMs(1_800_000_000_000 + *self.later.lock().unwrap())
    }

    fn state_key(&self) -> Option<StateKey> {
        Some(StateKey::new([7; 32]))
    }

    async fn refuse(&self, point: Point, principal: Option<Principal>, reason: Reason) {
        assert_eq!(point, Point::Mcp);
        let agent = principal.map(|principal| principal.agent.to_string());
        self.refused.lock().unwrap().push((agent, reason.code));
    }
}

struct World {
    governor: Scripted,
    seen: Seen,
    upstream: Upstream,
    address: std::net::SocketAddr,
    shutdown: CancellationToken,
    serving: tokio::task::JoinHandle<()>,
}

impl World {
    async fn new() -> Self {
        Self::with(FrontConfig::new("127.0.0.1:0".parse().unwrap())).await
    }

    async fn limited(change: impl FnOnce(&mut Limits)) -> Self {
        let mut limits = Limits::default();
        change(&mut limits);
        Self::with(FrontConfig::new("127.0.0.1:0".parse().unwrap()).with_limits(limits)).await
    }

    async fn with(config: FrontConfig) -> Self {
        let limits = UpstreamLimits { call_timeout: Duration::from_secs(5), ..UpstreamLimits::default() };
        Self::behind(config, vec![Upstream::scripted(limits).await.unwrap()]).await
    }

    /// A front over these upstreams; the world's own is the first of them.
    async fn behind(config: FrontConfig, upstreams: Vec<(Upstream, Seen)>) -> Self {
        let (upstream, seen) = upstreams.first().cloned().unwrap();
        let upstreams = upstreams.into_iter().map(|(upstream, _)| upstream).collect();
        let (governor, shutdown) = (Scripted::default(), CancellationToken::new());
        let server = Server::new(config, governor.clone(), upstreams);
        let listener = server.bind().await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(server.serve(listener, shutdown.clone()));
        Self { governor, seen, upstream, address, shutdown, serving }
    }

    async fn client(&self, token: &str) -> Client {
        Client::connect(&format!("http://{}/mcp", self.address), token).await.unwrap()
    }

    /// Sends raw bytes and reads to the end of the connection.
    async fn raw(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut answer));
        read.await.expect("the connection closes").unwrap();
        String::from_utf8(answer).unwrap()
    }

    fn head(&self, method: &str, more: &str) -> String {
        format!("{method} /mcp HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{more}", self.address)
    }

    /// A POST with the usual headers and `more`.
    async fn post(&self, token: &str, more: &str, body: &str) -> String {
        let head = self.head(
            "POST",
            &format!(
                "Authorization: Bearer {token}\r\nContent-Type: application/json\r\n\
             Accept: application/json, text/event-stream\r\nContent-Length: {}\r\n{more}\r\n",
                body.len()
            ),
        );
        self.raw(&format!("{head}{body}")).await
    }

    /// Opens a session and gives its header.
    async fn open(&self, token: &str) -> String {
        let answer = self.post(token, "", INITIALIZE).await;
        let line = answer.lines().find(|line| line.starts_with("mcp-session-id")).expect("a session");
        format!("{line}\r\n")
    }

    fn refused(&self) -> Vec<(Option<String>, ReasonCode)> {
        self.governor.refused.lock().unwrap().clone()
    }

    /// What a refusal must leave untouched.
    fn nothing_happened(&self) {
        assert!(self.seen.with("tools/call").is_empty());
        assert!(self.governor.calls.lock().unwrap().is_empty());
    }
}

const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":"i","method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"c","version":"1"}}}"#;

fn call(id: &str, tool: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"{tool}","arguments":{{}}}}}}"#)
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or_default()
}

fn body(answer: &str) -> Value {
    serde_json::from_str(answer.split_once("\r\n\r\n").expect("a body").1).unwrap()
}

#[tokio::test]
async fn a_session_from_handshake_to_end() {
    let world = World::new().await;
    let client = world.client("alice").await;
    assert_eq!(
        String::from_utf8_lossy(client.server()),
        r#"{"protocolVersion":"2025-06-18","capabilities":{"tools":{"listChanged":true},"prompts":{}},"serverInfo":{"name":"s","version":"1"},"future": 1.50}"#
    );
    let Raw::Result(page) = client.request("tools/list", Some(br#"{"cursor":"two"}"#)).await.unwrap() else { panic!() };
    assert_eq!(page, br#"{"tools":[{"name":"second-page","inputSchema":{}}]}"#);
    let bob = world.client("bob").await;
    let Raw::Result(page) = bob.request("tools/list", Some(br#"{"cursor":"two"}"#)).await.unwrap() else { panic!() };
    assert_eq!(page, br#"{"tools":[]}"#, "what bob may never call is not listed for bob");
    assert_eq!(client.request("ping", None).await.unwrap(), Raw::Result(b"{}".to_vec()));
    let Raw::Result(raw) = client.call_tool("echo", r#"{"a":1}"#).await.unwrap() else { panic!() };
    assert_eq!(
        String::from_utf8(raw).unwrap(),
        r#"{"_meta":{"countersign/receipt":{"countersign_receipt":1,"log":"test","proofs":[]}},"content":[], "n": 1e2,"args":{"a":1}}"#
    );
    let calls = world.governor.calls.lock().unwrap().clone();
    assert_eq!(calls, [("echo".to_owned(), br#"{"a":1}"#.to_vec(), Vec::new(), true)]);
    client.close().await.unwrap();
    assert!(world.refused().is_empty());
    world.shutdown.cancel();
    world.serving.await.unwrap();
}

#[tokio::test]
async fn an_agent_sees_codes_and_safe_sentences() {
    let world = World::new().await;
    let client = world.client("alice").await;
    let denied: Value = serde_json::from_slice(client.call_tool("deny", "{}").await.unwrap().bytes()).unwrap();
    assert_eq!(denied["isError"], true);
    let verdict = &denied["structuredContent"]["countersign"];
    assert_eq!((&verdict["verdict"], &verdict["reasons"][0]["code"]), (&"deny".into(), &"policy_forbid".into()));
    assert_eq!(verdict["reasons"][1]["detail"], "calls per hour: 10 of 10");
    assert!(!denied.to_string().contains("secret-7"));
    assert_eq!(denied["_meta"]["countersign/receipt"]["log"], "test");

    let parked: Value = serde_json::from_slice(client.call_tool("park", "{}").await.unwrap().bytes()).unwrap();
    assert_eq!(
        (&parked["isError"], &parked["structuredContent"]["countersign"]["ticket"]),
        (&false.into(), &"T-1".into())
    );
    assert!(parked["content"][0]["text"].as_str().unwrap().contains("T-1"));

    // A client checks structured content against a declared schema, so none is sent.
    let typed: Value = serde_json::from_slice(client.call_tool("typed", "{}").await.unwrap().bytes()).unwrap();
    assert_eq!((&typed["isError"], typed.get("structuredContent")), (&true.into(), None));
    assert_eq!(typed["_meta"]["countersign/verdict"]["verdict"], "pending");

    let unrecorded: Value =
        serde_json::from_slice(client.call_tool("unrecorded", "{}").await.unwrap().bytes()).unwrap();
    assert_eq!(unrecorded["_meta"]["countersign/unrecorded"], true);
    let forged: Value = serde_json::from_slice(client.call_tool("forge", "{}").await.unwrap().bytes()).unwrap();
    assert_eq!(forged["_meta"]["countersign/receipt"]["log"], "test");
    let error = client.call_tool("fail", "{}").await.unwrap();
    assert_eq!(error, Raw::Error(br#"{"code":-5,"message":"no","data":{"k":1}}"#.to_vec()));
}

#[tokio::test]
async fn without_a_token_nobody_comes_in() {
    let world = World::new().await;
    let bare =
        |more: &str| format!("{}Content-Type: application/json\r\nContent-Length: 0\r\n\r\n", world.head("POST", more));
    for (header, code) in [
        ("", "token_invalid"),
        ("Authorization: Basic YTpi\r\n", "token_invalid"),
        ("Authorization: Bearer \r\n", "token_invalid"),
        ("Authorization: Bearer nobody\r\n", "token_invalid"),
        ("Authorization: Bearer expired\r\n", "token_expired"),
    ] {
        let answer = world.raw(&bare(header)).await;
        assert_eq!(status(&answer), "401", "{header}");
        assert!(answer.contains("www-authenticate: Bearer"), "{answer}");
        assert_eq!(body(&answer)["code"], code);
        assert!(body(&answer)["remedy"].as_str().unwrap().contains("Authorization: Bearer"));
    }
    let two = world.raw(&bare("Authorization: Bearer alice\r\nAuthorization: Bearer bob\r\n")).await;
    assert_eq!(status(&two), "400");
    assert_eq!(world.refused().len(), 6);
    assert!(world.refused().iter().all(|(agent, _)| agent.is_none()));
    world.nothing_happened();
}

#[tokio::test]
async fn a_web_page_does_not_come_in_by_a_name_of_its_own() {
    let config = FrontConfig::new("127.0.0.1:0".parse().unwrap());
    let config = config.with_origins(&["https://console.example".to_owned()]).unwrap();
    let world = World::with(config.with_hosts(&["gate.internal".to_owned()]).unwrap()).await;
    let rest = "Authorization: Bearer alice\r\nAccept: */*\r\nContent-Type: application/json\r\nConnection: close\r\n";
    for (place, expected) in [
        ("Host: evil.example\r\n", "403"),
        ("Host: localhost.evil.example\r\n", "403"),
        ("Host: 127.0.0.1.evil.example:80\r\n", "403"),
        ("Host: localhost\r\nOrigin: https://evil.example\r\n", "403"),
        ("Host: localhost\r\nOrigin: null\r\n", "403"),
        ("Host: localhost\r\nOrigin: https://console.example\r\n", "200"),
        ("Host: [::1]:99\r\n", "200"),
        ("Host: GATE.internal:80\r\n", "200"),
    ] {
        let head = format!("POST /mcp HTTP/1.1\r\n{place}{rest}Content-Length: {}\r\n\r\n", INITIALIZE.len());
        assert_eq!(status(&world.raw(&format!("{head}{INITIALIZE}")).await), expected, "{place}");
    }
    let absolute = format!(
        "POST http://evil.example/mcp HTTP/1.1\r\nHost: localhost\r\n{rest}Content-Length: {}\r\n\r\n{INITIALIZE}",
        INITIALIZE.len()
    );
    assert_eq!(status(&world.raw(&absolute).await), "403");
}

#[tokio::test]
async fn a_session_id_opens_nothing_for_anyone_else() {
    let world = World::new().await;
    let session = world.open("alice").await;
    for (token, header, expected) in [
        ("alice", session.as_str(), "200"),
        ("bob", session.as_str(), "404"),
        ("alice", "Mcp-Session-Id: 00000000000000000000000000000000\r\n", "404"),
        ("alice", "Mcp-Session-Id: ../../etc\r\n", "404"),
        ("alice", "", "400"),
    ] {
        assert_eq!(status(&world.post(token, header, &call("1", "echo")).await), expected, "{token} {header}");
    }
    let cancel = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#;
    assert_eq!(status(&world.post("bob", &session, cancel).await), "404");
    let ended = world.raw(&format!("{}Authorization: Bearer bob\r\n{session}\r\n", world.head("DELETE", ""))).await;
    assert_eq!(status(&ended), "404");
    let ended = world.raw(&format!("{}Authorization: Bearer alice\r\n{session}\r\n", world.head("DELETE", ""))).await;
    assert_eq!(status(&ended), "204");
    assert_eq!(status(&world.post("alice", &session, &call("1", "echo")).await), "404");
    assert_eq!(world.governor.calls.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn malformed_messages_are_recorded_and_go_nowhere() {
    let world = World::new().await;
    let session = world.open("alice").await;
    for (body_text, code) in [
        ("{", -32700),
        ("[]", -32600),
        (r#"{"jsonrpc":"2.0","id":1,"id":1,"method":"ping"}"#, -32600),
        (r#"{"jsonrpc":"2.0","id":null,"method":"tools/call","params":{"name":"echo"}}"#, -32600),
        (r#"{"jsonrpc":"2.0","id":1,"method":"tools/call"}"#, -32602),
        (r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{}}"#, -32602),
        (r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a b"}}"#, -32602),
        (r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":[]}}"#, -32602),
        (r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","task":7}}"#, -32602),
        (r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","more":{}}}"#, -32602),
        (r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"resources/read"}}"#, -32602),
        (r#"{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"x","_meta":[]}}"#, -32602),
        (r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","_meta":7}}"#, -32602),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","_meta":{"progressToken":1.5}}}"#,
            -32602,
        ),
        (r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}"#, -32602),
        // Of the era without a handshake, and it does not say what it must.
        (r#"{"jsonrpc":"2.0","id":1,"method":"server/discover","params":{}}"#, -32602),
    ] {
        let before = world.refused().len();
        let answer = world.post("alice", &session, body_text).await;
        assert_eq!((status(&answer), &body(&answer)["error"]["code"]), ("400", &code.into()), "{body_text}");
        assert_eq!(world.refused().len(), before + 1, "{body_text}");
    }
    let unknown = r#"{"jsonrpc":"2.0","id":5,"method":"resources/write","params":{"uri":"x"}}"#;
    let answer = world.post("alice", &session, unknown).await;
    assert_eq!((status(&answer), &body(&answer)["error"]["code"]), ("200", &(-32601).into()));
    assert!(answer.contains("not governed by this version"));
    assert_eq!(world.refused().last().unwrap(), &(Some("alice".to_owned()), ReasonCode::Unsupported));
    let notification =
        r#"{"jsonrpc":"2.0","method":"notifications/roots/list_changed","x":"unjudged","params":{"y":0}}"#;
    assert_eq!(status(&world.post("alice", &session, notification).await), "202");
    assert!(world.seen.with("resources").is_empty());
    assert_eq!(world.seen.with("roots").len(), 1, "an upstream may know that the client's roots changed");
    assert!(world.seen.with("unjudged").is_empty(), "and hears it in our words");
    world.nothing_happened();
}

#[tokio::test]
async fn headers_say_what_is_wrong_with_them() {
    let world = World::new().await;
    let session = world.open("alice").await;
    let auth = "Authorization: Bearer alice\r\n";
    let ping = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    for (headers, expected) in [
        ("Content-Type: text/plain\r\n", "415"),
        ("", "415"),
        ("Content-Type: application/json\r\nAccept: text/html\r\n", "406"),
        ("Content-Type: application/json\r\nMCP-Protocol-Version: 1999-01-01\r\n", "400"),
        ("Content-Type: application/json\r\nMCP-Protocol-Version: 2026-07-28\r\n", "400"),
        ("Content-Type: application/json; charset=utf-8\r\nMCP-Protocol-Version: 2024-11-05\r\n", "200"),
    ] {
        let head = world.head("POST", &format!("{auth}{session}{headers}Content-Length: {}\r\n\r\n", ping.len()));
        assert_eq!(status(&world.raw(&format!("{head}{ping}")).await), expected, "{headers}");
    }
    let get = world.head("GET", &format!("{auth}{session}Accept: application/json\r\n\r\n"));
    assert_eq!(status(&world.raw(&get).await), "406");
    assert_eq!(status(&world.raw(&world.head("PUT", "\r\n")).await), "405");
    let other = "GET /other HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    assert_eq!(status(&world.raw(other).await), "404");
    let health = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    assert_eq!(status(&world.raw(health).await), "200");
}

#[tokio::test]
async fn large_and_slow_bodies_are_cut_off() {
    let world = World::limited(|limits| {
        limits.body_bytes_max = 1_000;
        limits.body_read_timeout = Duration::from_millis(200);
        limits.header_read_timeout = Duration::from_millis(300);
    })
    .await;
    let large = call("1", &"x".repeat(1_000));
    let answer = world.post("alice", "", &large).await;
    assert_eq!(status(&answer), "413");
    assert_eq!(world.refused().last().unwrap().1, ReasonCode::Oversize);
    let head = "Authorization: Bearer alice\r\nContent-Type: application/json\r\n";
    let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n7d0\r\n{}\r\n", "x".repeat(2_000));
    assert_eq!(status(&world.raw(&world.head("POST", &chunked)).await), "413");
    let slow = world.head("POST", &format!("{head}Content-Length: 50\r\n\r\n{{"));
    assert_eq!(status(&world.raw(&slow).await), "408");
    // Headers that never end: the connection closes.
    let half = world.raw("POST /mcp HTTP/1.1\r\nHost: loc").await;
    assert!(half.is_empty() || half.starts_with("HTTP/1.1 4"), "{half}");
    world.nothing_happened();
}

#[tokio::test]
async fn progress_comes_as_events_before_the_answer() {
    let world = World::new().await;
    let session = world.open("alice").await;
    let asked = r#"{"jsonrpc":"2.0","id":"p","method":"tools/call","params":{"name":"progress","_meta":{"progressToken":"mine"}}}"#;
    let answer = world.post("alice", &session, asked).await;
    assert!(answer.contains("content-type: text/event-stream"), "{answer}");
    let events: Vec<&str> = answer.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
    assert_eq!(events.len(), 3, "{answer}");
    assert!(events[0].contains(r#""progress":1.0,"progressToken":"mine","x": 1"#));
    assert!(events[1].contains(r#""progress":2.0"#));
    assert!(events[2].starts_with(r#"{"jsonrpc":"2.0","id":"p","result":{"_meta":{"countersign/receipt""#));
    assert!(!world.seen.with("tools/call")[0].contains("mine"));
}

#[tokio::test]
async fn a_cancellation_stops_the_callers_own_call() {
    let world = World::new().await;
    let session = world.open("alice").await;
    let asking = call(r#""c\u0031""#, "silent");
    let calling = world.post("alice", &session, &asking);
    let cancelling = async {
        world.seen.wait("silent").await;
        let again = world.post("alice", &session, &call(r#""c1""#, "echo")).await;
        assert_eq!(status(&again), "400", "the id is in flight");
        let other = world.open("alice").await;
        let cancel = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"c1"}}"#;
        assert_eq!(status(&world.post("alice", &other, cancel).await), "202");
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(world.seen.with("notifications/cancelled").is_empty(), "another session's id");
        assert_eq!(status(&world.post("alice", &session, cancel).await), "202");
    };
    let (answer, ()) = tokio::join!(calling, cancelling);
    let answer = body(&answer);
    assert_eq!(answer["id"], "c1");
    assert_eq!(answer["error"]["data"]["countersign"]["status"], "unknown");
    assert!(answer["error"]["message"].as_str().unwrap().contains("may have happened"));
    assert_eq!(world.seen.with("notifications/cancelled").len(), 1);
    assert_eq!(status(&world.post("alice", &session, &call(r#""c1""#, "echo")).await), "200");
}

#[tokio::test]
async fn a_client_that_goes_away_does_not_cancel() {
    let world = World::new().await;
    let session = world.open("alice").await;
    let body_text = call("1", "hold");
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    let head = world.head(
        "POST",
        &format!(
            "Authorization: Bearer alice\r\nContent-Type: application/json\r\n{session}Content-Length: {}\r\n\r\n",
            body_text.len()
        ),
    );
    stream.write_all(format!("{head}{body_text}").as_bytes()).await.unwrap();
    world.seen.wait("hold").await;
    drop(stream);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(world.seen.with("notifications/cancelled").is_empty());
    world.seen.release.cancel();
    // The id is free again only when the call has ended.
    for _ in 0..100 {
        if status(&world.post("alice", &session, &call("1", "echo")).await) == "200" {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the call never ended");
}

#[tokio::test]
async fn listeners_hear_of_changes_and_stay_alive() {
    let world = World::limited(|limits| {
        limits.keep_alive = Duration::from_millis(50);
        limits.streams_per_session_max = 1;
    })
    .await;
    let session = world.open("alice").await;
    let get = world.head("GET", &format!("Authorization: Bearer alice\r\nAccept: text/event-stream\r\n{session}\r\n"));
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    stream.write_all(get.as_bytes()).await.unwrap();
    let mut heard = String::new();
    let mut chunk = [0; 1024];
    while !heard.contains(": keep-alive") {
        let count = stream.read(&mut chunk).await.unwrap();
        heard.push_str(std::str::from_utf8(&chunk[..count]).unwrap());
    }
    assert_eq!(status(&world.raw(&get).await), "429");
    world.post("alice", &session, &call("1", "changed")).await;
    while !heard.contains("list_changed") {
        let count = stream.read(&mut chunk).await.unwrap();
        assert!(count > 0, "{heard}");
        heard.push_str(std::str::from_utf8(&chunk[..count]).unwrap());
    }
    world.raw(&world.head("DELETE", &format!("Authorization: Bearer alice\r\n{session}\r\n"))).await;
    let mut rest = Vec::new();
    tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut rest)).await.expect("it ends").unwrap();
}

#[tokio::test]
async fn a_caller_makes_room_for_itself_only() {
    let world = World::limited(|limits| {
        limits.sessions_max = 3;
        limits.sessions_per_caller_max = 2;
    })
    .await;
    let bob = world.open("bob").await;
    let first = world.open("alice").await;
    let second = world.open("alice").await;
    let ping = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    assert_eq!(status(&world.post("alice", &first, ping).await), "200");
    let third = world.open("alice").await;
    for (token, session, expected) in
        [("alice", &first, "200"), ("alice", &second, "404"), ("alice", &third, "200"), ("bob", &bob, "200")]
    {
        assert_eq!(status(&world.post(token, session, ping).await), expected);
    }
}

#[tokio::test]
async fn a_narrowed_token_opens_nothing_of_the_wider_one() {
    let config = FrontConfig::new("127.0.0.1:0".parse().unwrap());
    let world = World::behind(config, vec![script::upstream("crm", EraChoice::Legacy).await]).await;
    let ping = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    let (wide, narrow) = (world.open("alice").await, world.open("alice-less").await);
    for (token, session, expected) in [
        ("alice", &wide, "200"),
        ("alice", &narrow, "200"),
        ("alice-less", &narrow, "200"),
        ("alice-less", &wide, "404"),
    ] {
        assert_eq!(status(&world.post(token, session, ping).await), expected, "{token}");
    }
    world.post("alice", &wide, &call("1", "task")).await;
    let get = r#"{"jsonrpc":"2.0","id":2,"method":"tasks/get","params":{"taskId":"t1"}}"#;
    assert!(body(&world.post("alice", &wide, get).await)["result"].is_object());
    assert_eq!(body(&world.post("alice-less", &narrow, get).await)["error"]["code"], -32602);
    // An id that the upstream hands out once more, to somebody else, is nobody's.
    world.post("bob", &world.open("bob").await, &call("1", "task")).await;
    assert_eq!(body(&world.post("alice", &wide, get).await)["error"]["code"], -32602);
}

#[tokio::test]
async fn one_token_leaves_room_for_others() {
    let world = World::limited(|limits| limits.calls_per_caller_max = 1).await;
    let (session, other, bob) = (world.open("alice").await, world.open("alice").await, world.open("bob").await);
    let (held, echo) = (call("1", "hold"), call("1", "echo"));
    let more = async {
        world.seen.wait("hold").await;
        let full = body(&world.post("alice", &other, &echo).await);
        assert_eq!(full["result"]["_meta"]["countersign/verdict"]["reasons"][0]["code"], "overloaded");
        let (bobs, ()) = tokio::join!(world.post("bob", &bob, &echo), async { world.seen.release.cancel() });
        assert!(body(&bobs)["result"]["_meta"]["countersign/verdict"].is_null(), "{bobs}");
    };
    tokio::join!(world.post("alice", &session, &held), more);
    let again = world.post("alice", &other, &echo).await;
    assert!(body(&again)["result"]["_meta"]["countersign/verdict"].is_null(), "its place is free again: {again}");
}

#[tokio::test]
async fn sessions_that_nobody_can_use_or_does_make_room() {
    let world = World::limited(|limits| limits.sessions_max = 1).await;
    world.open("bob").await;
    let refused = world.post("alice", "", INITIALIZE).await;
    assert_eq!(status(&refused), "503", "bob's is his");
    world.governor.gone.lock().unwrap().push("bob".to_owned());
    world.open("alice").await;

    let world = World::limited(|limits| {
        limits.sessions_max = 1;
        limits.session_idle = std::time::Duration::ZERO;
    })
    .await;
    let left = world.open("bob").await;
    world.open("alice").await;
    assert_eq!(status(&world.post("bob", &left, r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#).await), "404");
}

#[tokio::test]
async fn too_many_calls_are_denied_and_recorded() {
    let world = World::limited(|limits| limits.calls_per_session_max = 1).await;
    let session = world.open("alice").await;
    let silent = call("1", "hold");
    let calling = world.post("alice", &session, &silent);
    let more = async {
        world.seen.wait("hold").await;
        let answer = body(&world.post("alice", &session, &call("2", "echo")).await);
        assert_eq!(answer["result"]["_meta"]["countersign/verdict"]["reasons"][0]["code"], "overloaded");
        world.seen.release.cancel();
    };
    tokio::join!(calling, more);
    assert_eq!(world.refused(), [(Some("alice".to_owned()), ReasonCode::Overloaded)]);
}

#[tokio::test]
async fn a_lost_upstream_is_said_to_be_lost() {
    let world = World::new().await;
    let client = world.client("alice").await;
    world.upstream.close().await;
    let Raw::Error(error) = client.call_tool("echo", "{}").await.unwrap() else { panic!() };
    let error: Value = serde_json::from_slice(&error).unwrap();
    assert_eq!(error["data"]["countersign"]["status"], "not_started");
    assert!(error["message"].as_str().unwrap().contains("nothing was sent"));
    assert!(world.seen.killed.is_cancelled());
    assert!(Client::connect(&format!("http://{}/mcp", world.address), "alice").await.is_err());
}

#[tokio::test]
async fn listed_members_of_meta_are_part_of_the_call() {
    let config = FrontConfig::new("127.0.0.1:0".parse().unwrap());
    let world = World::with(config.with_meta_allow(&["tenant".to_owned(), "a\"b".to_owned()])).await;
    let client = world.client("alice").await;
    let params = br#"{"name":"echo","_meta":{"tenant": {"z":1, "a":2},"other":true,"a\"b":null}}"#;
    client.request("tools/call", Some(params)).await.unwrap();
    let calls = world.governor.calls.lock().unwrap().clone();
    assert_eq!(calls[0].1, b"{}");
    assert_eq!(String::from_utf8(calls[0].2.clone()).unwrap(), r#"{"a\"b":null,"tenant":{"a":2,"z":1}}"#);
    assert!(world.seen.with(r#""other":true"#).len() == 1, "what is not listed passes");
}

#[tokio::test]
async fn claims_are_read_clipped_and_passed_on_unchanged() {
    let world = World::new().await;
    let client = world.client("alice").await;
    let long = "é".repeat(CLAIM_BYTES_MAX);
    let claimed = |trace: Option<&str>, step: Option<&str>, cause: Option<&str>| Claimed {
        trace: trace.map(str::to_owned),
        step: step.map(str::to_owned),
        cause: cause.map(str::to_owned),
    };
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let cases = [
        (
            format!(r#"{{"traceparent":"{parent}","countersign/step":"3","countersign/cause":"2"}}"#),
            claimed(Some(parent), Some("3"), Some("2")),
        ),
        (format!(r#"{{"countersign/step":"{long}"}}"#), claimed(None, long.get(..CLAIM_BYTES_MAX), None)),
        // Neither a number, nor null, nor an empty text is a claim, and none of them is an error.
        (r#"{"traceparent":7,"countersign/step":null,"countersign/cause":""}"#.to_owned(), Claimed::default()),
        (r#"{"countersign\/step":"esc\u0061ped"}"#.to_owned(), claimed(None, Some("escaped"), None)),
        ("{}".to_owned(), Claimed::default()),
    ];
    for (meta, want) in cases {
        let params = format!(r#"{{"name":"echo","_meta":{meta}}}"#);
        client.request("tools/call", Some(params.as_bytes())).await.unwrap();
        assert_eq!(world.governor.claims.lock().unwrap().pop(), Some(want), "{meta}");
        // What the client sent goes upstream as it was, claims too, and none of it is in the judged part.
        assert_eq!(world.seen.with(&format!(r#""_meta":{meta}"#)).len(), 1, "{meta}");
        assert!(world.governor.calls.lock().unwrap().pop().unwrap().2.is_empty());
    }
}
