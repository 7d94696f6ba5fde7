//! Questions of upstreams: only to who offers to answer, only where policy allows, answered once, by the one asked.

use countersign_model::ReasonCode;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::{World, body, call, script, status};
use crate::mcp::config::{EraChoice, FrontConfig, Limits};

async fn world(change: impl FnOnce(&mut Limits)) -> World {
    let mut limits = Limits::default();
    change(&mut limits);
    let config = FrontConfig::new("127.0.0.1:0".parse().unwrap()).with_limits(limits);
    World::behind(config, vec![script::upstream("crm", EraChoice::Legacy).await]).await
}

impl World {
    /// A session of a client with these capabilities.
    pub(super) async fn open_with(&self, token: &str, capabilities: &str) -> String {
        let hello = super::INITIALIZE.replace(r#""capabilities":{}"#, &format!(r#""capabilities":{capabilities}"#));
        let answer = self.post(token, "", &hello).await;
        let line = answer.lines().find(|line| line.starts_with("mcp-session-id")).expect("a session");
        format!("{line}\r\n")
    }

    /// Sends a request and reads its stream until the question is there.
    pub(super) async fn asked(&self, session: &str, tool: &str) -> (TcpStream, Value) {
        let text = call("1", tool);
        let head = self.head(
            "POST",
            &format!(
                "Authorization: Bearer alice\r\nContent-Type: application/json\r\n{session}Content-Length: {}\r\n\r\n",
                text.len()
            ),
        );
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(format!("{head}{text}").as_bytes()).await.unwrap();
        let heard = until(&mut stream, "\n\n").await;
        let data = heard.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
        (stream, serde_json::from_str(data).unwrap())
    }

    pub(super) async fn answer(&self, token: &str, session: &str, id: &Value, outcome: &str) -> String {
        let text = format!(r#"{{"jsonrpc":"2.0","id":{id},{outcome}}}"#);
        self.post(token, session, &text).await
    }
}

pub(super) async fn until(stream: &mut TcpStream, part: &str) -> String {
    let (mut heard, mut chunk) = (String::new(), [0; 4096]);
    // What stands in headers is no part of it.
    let body = |heard: &str| match heard.split_once("\r\n\r\n") {
        Some((head, rest)) if head.starts_with("HTTP/") => rest.to_owned(),
        _ if heard.starts_with("HTTP/") => String::new(),
        _ => heard.to_owned(),
    };
    while !body(&heard).contains(part) {
        let read = tokio::time::timeout(std::time::Duration::from_secs(5), stream.read(&mut chunk)).await;
        let count = read.unwrap_or_else(|_| panic!("{heard}")).unwrap();
        assert!(count > 0, "{heard}");
        heard.push_str(std::str::from_utf8(&chunk[..count]).unwrap());
    }
    heard
}

const ELICITS: &str = r#"{"elicitation":{},"tasks":{"cancel":{}}}"#;

#[tokio::test]
async fn a_question_is_an_action_and_its_answer_goes_back() {
    let world = world(|_| ()).await;
    let session = world.open_with("alice", ELICITS).await;
    let (mut stream, question) = world.asked(&session, "elicit").await;
    assert_eq!(
        (&question["method"], &question["params"]["message"]),
        (&"elicitation/create".into(), &"your name?".into())
    );
    assert_ne!(question["id"], "q-7", "its id is ours");
    let calls = world.governor.calls.lock().unwrap().clone();
    assert_eq!(calls[1].0, "elicitation/create");
    assert_eq!(calls[1].1, br#"{"message":"your name?","requestedSchema":{}}"#, "judged without `_meta`");

    // Another session's client, and another caller's, answer nothing; neither does a made-up id.
    let other = world.open_with("alice", ELICITS).await;
    let accept = r#""result":{"action":"accept","content":{"name":"a"}, "n":1e2}"#;
    assert_eq!(status(&world.answer("alice", &other, &question["id"], accept).await), "400");
    assert_eq!(status(&world.answer("bob", &session, &question["id"], accept).await), "404");
    assert_eq!(status(&world.answer("alice", &session, &99.into(), accept).await), "400");
    assert_eq!(status(&world.answer("alice", &session, &"q-7".into(), accept).await), "400");
    assert!(world.seen.with(r#""id":"q-7""#).is_empty());

    assert_eq!(status(&world.answer("alice", &session, &question["id"], accept).await), "202");
    let rest = until(&mut stream, "countersign/receipt").await;
    assert!(rest.contains(r#""action":"accept""#), "{rest}");
    let back = world.seen.with(r#""id":"q-7""#);
    assert_eq!(back.len(), 1);
    assert!(back[0].contains(r#"{"action":"accept","content":{"name":"a"}, "n":1e2}"#), "byte for byte: {}", back[0]);
    // Once is enough: a second answer is too late.
    assert_eq!(status(&world.answer("alice", &session, &question["id"], accept).await), "202");
    assert_eq!(world.seen.with(r#""id":"q-7""#).len(), 1);
}

/// What the upstream was told instead of an answer.
async fn refused(world: &World, session: &str, tool: &str) -> Value {
    let answer = world.post("alice", session, &call("1", tool)).await;
    body(&answer)["result"]["said"].clone()
}

#[tokio::test]
async fn who_does_not_offer_to_answer_is_not_asked() {
    let world = world(|_| ()).await;
    for (capabilities, tool) in [
        ("{}", "elicit"),
        (r#"{"elicitation":{}}"#, "sample"),
        (r#"{"elicitation":{"url":{}}}"#, "elicit"),
        (r#"{"elicitation":{"form":{}}}"#, "url"),
        (r#"{"elicitation":{}}"#, "url"),
        (r#"{"elicitation":7}"#, "elicit"),
        // No question that passes, whatever the client offers.
        (r#"{"tasks":{"get":{}}}"#, "odd"),
    ] {
        let session = world.open_with("alice", capabilities).await;
        let before = world.refused().len();
        let said = refused(&world, &session, tool).await;
        assert_eq!(said["code"], -32601, "{capabilities} {tool}: {said}");
        assert_eq!(world.refused().len(), before + 1, "{capabilities} {tool}");
        assert_eq!(world.refused().last().unwrap().1, ReasonCode::Unsupported);
    }
    let all = world.governor.calls.lock().unwrap().clone();
    assert!(all.iter().all(|(tool, ..)| !tool.contains('/')), "no question was decided on: {all:?}");
}

#[tokio::test]
async fn a_denied_question_never_reaches_the_client() {
    let world = world(|_| ()).await;
    world.governor.denied.lock().unwrap().push(("sampling/createMessage".to_owned(), String::new()));
    let session = world.open_with("alice", r#"{"sampling":{}}"#).await;
    let answer = world.post("alice", &session, &call("1", "sample")).await;
    assert!(!answer.contains("sampling/createMessage"), "{answer}");
    assert_eq!(body(&answer)["result"]["said"]["code"], -32012);
    assert!(!answer.contains("secret-7"));
}

#[tokio::test]
async fn an_unanswered_question_ends() {
    let world = world(|limits| limits.question_timeout = std::time::Duration::from_millis(100)).await;
    let session = world.open_with("alice", ELICITS).await;
    let (mut stream, question) = world.asked(&session, "elicit").await;
    let rest = until(&mut stream, "countersign/receipt").await;
    assert!(rest.contains("notifications/cancelled") && rest.contains("the client gave no answer"), "{rest}");
    let late = world.answer("alice", &session, &question["id"], r#""result":{}"#).await;
    assert_eq!(status(&late), "202", "too late is no fault of the client's");
}

#[tokio::test]
async fn a_client_may_open_its_stream_after_the_call() {
    let world = std::sync::Arc::new(world(|_| ()).await);
    let session = world.open_with("alice", ELICITS).await;
    // It takes no events in the answer to a call, so it hears questions on the session's stream alone.
    let (text, auth) = (call("1", "elicit"), "Authorization: Bearer alice\r\n");
    let head = format!("{auth}Content-Type: application/json\r\nAccept: application/json\r\n{session}");
    let head = world.head("POST", &format!("{head}Content-Length: {}\r\n\r\n", text.len()));
    let calling = tokio::spawn({
        let world = std::sync::Arc::clone(&world);
        async move { world.raw(&format!("{head}{text}")).await }
    });
    while world.governor.calls.lock().unwrap().len() < 2 {
        tokio::task::yield_now().await;
    }
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    let head = world.head("GET", &format!("{auth}Accept: text/event-stream\r\n{session}\r\n"));
    stream.write_all(head.as_bytes()).await.unwrap();
    let heard = until(&mut stream, "elicitation/create").await;
    let data = heard.lines().find_map(|line| line.strip_prefix("data: ").filter(|data| !data.is_empty())).unwrap();
    let question: Value = serde_json::from_str(data).unwrap();
    world.answer("alice", &session, &question["id"], r#""result":{"action":"decline"}"#).await;
    assert!(calling.await.unwrap().contains(r#""action":"decline""#));
}

/// The permit is for handing the question over and its answer back: what is sent is sent before the effect is over.
#[tokio::test]
async fn an_answer_is_with_the_upstream_before_its_permit_is_gone_or_never() {
    for killed in [false, true] {
        let world = world(|_| ()).await;
        let release = CancellationToken::new();
        *world.governor.held.lock().unwrap() = Some(("elicitation/create".to_owned(), release.clone()));
        let session = world.open_with("alice", ELICITS).await;
        let (mut stream, question) = world.asked(&session, "elicit").await;
        let leave = world.governor.leave.lock().unwrap().clone().unwrap();
        if killed {
            leave.killed.cancel();
            let told = until(&mut stream, "notifications/cancelled").await;
            assert!(told.contains("stopped by the kill switch"), "{told}");
        }
        world.answer("alice", &session, &question["id"], r#""result":{"action":"accept"}"#).await;
        if killed {
            release.cancel();
            let rest = until(&mut stream, "countersign/receipt").await;
            assert!(rest.contains("the client gave no answer"), "{rest}");
            assert!(world.seen.with(r#""action":"accept""#).is_empty());
        } else {
            // The outcome is not on record yet.
            world.seen.wait(r#""action":"accept""#).await;
            release.cancel();
            until(&mut stream, "countersign/receipt").await;
        }
    }
}

#[tokio::test]
async fn a_question_that_nobody_can_hear_is_refused_at_once() {
    let world = world(|_| ()).await;
    let session = world.open_with("alice", ELICITS).await;
    // A stream of the session is open, and the call takes no events in its answer.
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    let auth = "Authorization: Bearer alice\r\n";
    let head = world.head("GET", &format!("{auth}Accept: text/event-stream\r\n{session}\r\n"));
    stream.write_all(head.as_bytes()).await.unwrap();
    until(&mut stream, "retry").await;
    let text = call("1", "elicit-long");
    let head = format!("{auth}Content-Type: application/json\r\nAccept: application/json\r\n{session}");
    let head = world.head("POST", &format!("{head}Content-Length: {}\r\n\r\n", text.len()));
    let answer = world.raw(&format!("{head}{text}")).await;
    assert_eq!(body(&answer)["result"]["said"]["message"], "the client gave no answer", "{answer}");
}
