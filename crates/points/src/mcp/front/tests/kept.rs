//! Streams of requests that broke: their clients go on with them instead of calling again.

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::{World, call, script, status};
use crate::mcp::config::{EraChoice, FrontConfig};
use crate::mcp::front::kept::{Kept, STREAMS_MAX, named};
use crate::mcp::front::outbox::{BYTES_MAX, EVENTS_MAX};

const VERSION: &str = "MCP-Protocol-Version: 2025-11-25\r\n";

async fn world() -> World {
    let config = FrontConfig::new("127.0.0.1:0".parse().unwrap());
    World::behind(config, vec![script::upstream("crm", EraChoice::Legacy).await]).await
}

impl World {
    /// Goes on after an event.
    fn after(&self, session: &str, event: &str) -> String {
        let accept = "Authorization: Bearer alice\r\nAccept: text/event-stream\r\n";
        self.head("GET", &format!("{accept}{VERSION}{session}Last-Event-ID: {event}\r\n\r\n"))
    }
}

/// Ids and messages of a stream; an event without a message is one with its id alone.
fn events(text: &str) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    let mut id = String::new();
    for line in text.lines() {
        if let Some(named) = line.strip_prefix("id: ") {
            named.clone_into(&mut id);
        } else if let Some(data) = line.strip_prefix("data: ") {
            found.push((id.clone(), serde_json::from_str(data).unwrap_or_default()));
        }
    }
    found
}

async fn heard(stream: &mut TcpStream, part: &str) -> String {
    let (mut heard, mut chunk) = (String::new(), [0; 4096]);
    while !heard.contains(part) {
        let read = tokio::time::timeout(std::time::Duration::from_secs(5), stream.read(&mut chunk)).await;
        let count = read.unwrap_or_else(|_| panic!("no {part}: {heard}")).unwrap();
        assert!(count > 0, "{heard}");
        heard.push_str(std::str::from_utf8(&chunk[..count]).unwrap());
    }
    heard
}

#[tokio::test]
async fn what_was_said_on_a_stream_is_there_for_its_client_alone() {
    let world = world().await;
    let session = world.open("alice").await;
    let answer = world.post("alice", &format!("{VERSION}{session}"), &call("1", "log")).await;
    assert!(answer.contains("id: 1.0\nretry: 1000\ndata: \n\n"), "it opens with an id: {answer}");
    let said = events(&answer);
    let ids: Vec<&str> = said.iter().map(|(id, _)| id.as_str()).collect();
    assert_eq!(ids, ["1.0", "1.1", "1.2"]);
    assert_eq!((&said[1].1["method"], &said[2].1["id"]), (&json!("notifications/message"), &json!(1)));
    for (after, left) in [("1.0", &said[1..]), ("1.1", &said[2..]), ("1.2", &[])] {
        let again = world.raw(&world.after(&session, after)).await;
        assert_eq!((status(&again), events(&again)), ("200", left.to_vec()), "after {after}");
    }
    let other = world.open("alice").await;
    for (session, after, expected) in [
        (&session, "1.3", "400"),
        (&session, "2.0", "400"),
        (&session, "1.", "400"),
        (&session, ".1", "400"),
        (&other, "1.1", "400"),
    ] {
        assert_eq!(status(&world.raw(&world.after(session, after)).await), expected, "{after}");
    }
    let stranger = world.after(&session, "1.1").replace("alice", "bob");
    assert_eq!(status(&world.raw(&stranger).await), "404");
    assert_eq!(world.seen.with("tools/call").len(), 1);
}

#[tokio::test]
async fn a_call_whose_connection_broke_is_answered_on_another_one() {
    let world = world().await;
    let hello = super::INITIALIZE.replace(r#""capabilities":{}"#, r#""capabilities":{"elicitation":{}}"#);
    let opened = world.post("alice", "", &hello).await;
    let session = opened.lines().find(|line| line.starts_with("mcp-session-id")).unwrap().to_owned() + "\r\n";
    for (number, resumed_before) in [(1, false), (2, true)] {
        let text = call("7", "elicit");
        let length = text.len();
        let accept = "Authorization: Bearer alice\r\nContent-Type: application/json\r\n";
        let head = world.head("POST", &format!("{accept}{VERSION}{session}Content-Length: {length}\r\n\r\n"));
        let mut stream = TcpStream::connect(world.address).await.unwrap();
        stream.write_all(format!("{head}{text}").as_bytes()).await.unwrap();
        let said = heard(&mut stream, "elicitation/create").await;
        let (_, question) = events(&said).pop().unwrap();
        drop(stream);
        let accept = json!({ "jsonrpc": "2.0", "id": question["id"], "result": { "action": "accept" } }).to_string();
        let (mut next, last) = (TcpStream::connect(world.address).await.unwrap(), format!("{number}.1"));
        if resumed_before {
            next.write_all(world.after(&session, &last).as_bytes()).await.unwrap();
            heard(&mut next, "text/event-stream").await;
        }
        assert_eq!(status(&world.post("alice", &session, &accept).await), "202");
        if !resumed_before {
            world.seen.wait("accept").await;
            next.write_all(world.after(&session, &last).as_bytes()).await.unwrap();
        }
        let rest = heard(&mut next, "countersign/receipt").await;
        let (id, answer) = events(&rest).pop().unwrap();
        assert_eq!((id, &answer["id"]), (format!("{number}.2"), &json!(7)), "{rest}");
        assert_eq!(world.seen.with("tools/call").len(), number, "it was called once");
    }
}

#[tokio::test]
async fn who_does_not_know_of_it_gets_plain_events() {
    let world = world().await;
    let session = world.open("alice").await;
    for version in ["", "MCP-Protocol-Version: 2025-06-18\r\n"] {
        let answer = world.post("alice", &format!("{version}{session}"), &call("1", "log")).await;
        assert!(!answer.contains("id: ") && answer.contains("data: {"), "{answer}");
    }
}

#[tokio::test]
async fn an_answer_in_one_piece_is_kept_too() {
    let world = world().await;
    let session = world.open("alice").await;
    let text = call("1", "echo");
    let accept = "Authorization: Bearer alice\r\nContent-Type: application/json\r\nAccept: text/event-stream\r\n";
    let length = text.len();
    let head = world.head("POST", &format!("{accept}{VERSION}{session}Content-Length: {length}\r\n\r\n"));
    let answer = world.raw(&format!("{head}{text}")).await;
    let said = events(&answer);
    assert_eq!((said[0].0.as_str(), said[1].0.as_str(), &said[1].1["id"]), ("1.0", "1.1", &json!(1)));
    let again = world.raw(&world.after(&session, "1.0")).await;
    assert_eq!(events(&again), said[1..]);
}

#[tokio::test]
async fn no_more_is_kept_than_may_be() {
    let kept = Kept::default();
    let (to, _body) = mpsc::channel(1);
    for number in 1..=STREAMS_MAX as u64 {
        assert_eq!(kept.open(Some(to.clone())).unwrap().0, number);
    }
    assert!(kept.open(None).is_none(), "streams that go on are not forgotten");
    kept.end(3);
    assert_eq!(kept.open(None).unwrap().0, STREAMS_MAX as u64 + 1);
    assert!(kept.resume((3, 0)).is_none(), "the one that had ended made room");

    for _ in 0..EVENTS_MAX + 2 {
        kept.push(1, b"data: x\n\n").unwrap();
    }
    assert!(kept.resume((1, 0)).is_none() && kept.resume((1, 1)).is_none(), "what is gone cannot be gone on with");
    assert_eq!(kept.resume((1, 2)).unwrap().recv().await.unwrap(), "id: 1.3\ndata: x\n\n");
    // One that is larger than all that is kept goes to whoever listens, and is not kept.
    let (event, live) = kept.push(2, &vec![b'x'; BYTES_MAX]).unwrap();
    assert!(live.is_some() && event.len() > BYTES_MAX);
    assert!(kept.resume((2, 0)).is_none() && kept.resume((2, 1)).is_some());
    let mut body = kept.resume((4, 0)).unwrap();
    let (event, live) = kept.push(4, b"data: y\n\n").unwrap();
    live.unwrap().to.send(event).await.unwrap();
    let mut other = kept.resume((4, 0)).unwrap();
    kept.end(4);
    assert_eq!((body.recv().await, body.recv().await), (Some(Bytes::from("id: 4.1\ndata: y\n\n")), None));
    assert_eq!((other.recv().await, other.recv().await), (Some(Bytes::from("id: 4.1\ndata: y\n\n")), None));
    assert_eq!(["1.2", "1", "1.2.3", "a.1", "."].map(named), [Some((1, 2)), None, None, None, None]);
}
