//! What a session hears outside of its requests, methods besides tools, and the socket.

use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use super::{World, body, call, script, status};
use crate::mcp::config::{EraChoice, FrontConfig, Limits};
use crate::mcp::front::outbox::{EVENTS_MAX, Outbox};

async fn world() -> World {
    let config = FrontConfig::new("127.0.0.1:0".parse().unwrap());
    World::behind(config, vec![script::upstream("crm", EraChoice::Legacy).await]).await
}

async fn listen(world: &World, session: &str, more: &str, part: &str) -> (TcpStream, String) {
    let get =
        world.head("GET", &format!("Authorization: Bearer alice\r\nAccept: text/event-stream\r\n{session}{more}\r\n"));
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    stream.write_all(get.as_bytes()).await.unwrap();
    let (mut heard, mut chunk) = (String::new(), [0; 4096]);
    while !heard.contains(part) {
        let read = tokio::time::timeout(Duration::from_secs(5), stream.read(&mut chunk)).await;
        let count = read.unwrap_or_else(|_| panic!("no {part}: {heard}")).unwrap();
        assert!(count > 0, "{heard}");
        heard.push_str(std::str::from_utf8(&chunk[..count]).unwrap());
    }
    (stream, heard)
}

#[tokio::test]
async fn a_lost_stream_goes_on_where_it_was() {
    let world = world().await;
    let session = world.open("alice").await;
    let subscribe = r#"{"jsonrpc":"2.0","id":9,"method":"resources/subscribe","params":{"uri":"mem://1"}}"#;
    assert_eq!(
        body(&world.post("alice", &session, subscribe).await)["result"]["_meta"]["countersign/receipt"]["log"],
        "test"
    );
    // Nobody listens, and it is not lost.
    world.post("alice", &session, &call("1", "changed")).await;
    let (stream, heard) = listen(&world, &session, "", "resources/updated").await;
    assert!(heard.contains("retry: ") && heard.contains("id: 1\n") && heard.contains("id: 2\n"), "{heard}");
    drop(stream);
    let (stream, heard) = listen(&world, &session, "Last-Event-ID: 1\r\n", "resources/updated").await;
    assert!(!heard.contains("id: 1\n") && heard.contains("id: 2\n"), "{heard}");
    drop(stream);
    for (id, expected) in [("x", "400"), ("-1", "400")] {
        let get = world.head(
            "GET",
            &format!(
                "Authorization: Bearer alice\r\nAccept: text/event-stream\r\n{session}Last-Event-ID: {id}\r\n\r\n"
            ),
        );
        assert_eq!(status(&world.raw(&get).await), expected, "{id}");
    }
}

#[tokio::test]
async fn a_stream_ends_with_the_token_that_opened_it() {
    let world = world().await;
    let session = world.open("alice").await;
    let (mut stream, _) = listen(&world, &session, "", "retry: ").await;
    world.governor.gone.lock().unwrap().push("alice".to_owned());
    // Everybody is told of this.
    let bob = world.open("bob").await;
    world.post("bob", &bob, &call("1", "changed")).await;
    let mut rest = String::new();
    tokio::time::timeout(Duration::from_secs(5), stream.read_to_string(&mut rest)).await.unwrap().unwrap();
    assert!(!rest.contains("list_changed"), "{rest}");
}

#[tokio::test]
async fn what_is_on_no_list_or_anothers_is_not_passed_on() {
    let world = world().await;
    let session = world.open("alice").await;
    let answer = world.post("alice", &session, &call("1", "noise")).await;
    let events: Vec<&str> = answer.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
    assert_eq!(events.len(), 2, "{answer}");
    assert!(events[0].contains("last"));
    // Whose task it is hears of it.
    world.post("alice", &session, &call("2", "task")).await;
    let answer = world.post("alice", &session, &call("3", "noise")).await;
    assert_eq!(answer.matches("notifications/").count(), 2, "{answer}");
    assert!(answer.contains("notifications/tasks/status"));
}

#[tokio::test]
async fn a_client_that_goes_before_its_answer_leaves_no_id_behind() {
    let world = world().await;
    let session = world.open("alice").await;
    for _ in 0..3 {
        let text = call("1", "echo");
        let head = world.head(
            "POST",
            &format!(
                "Authorization: Bearer alice\r\nContent-Type: application/json\r\n{session}Content-Length: {}\r\n\r\n",
                text.len()
            ),
        );
        let mut stream = TcpStream::connect(world.address).await.unwrap();
        stream.write_all(format!("{head}{text}").as_bytes()).await.unwrap();
        drop(stream);
    }
    for _ in 0..100 {
        if status(&world.post("alice", &session, &call("1", "echo")).await) == "200" {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the id is never free again");
}

#[tokio::test]
async fn one_stream_gets_each_event_and_what_is_oldest_is_forgotten() {
    let outbox = Outbox::default();
    assert!(!outbox.is_heard());
    for n in 0..EVENTS_MAX + 3 {
        outbox.push(Bytes::from(n.to_string()));
    }
    let mut first = outbox.listen(None);
    assert_eq!(outbox.next(&mut first).await, (4, Bytes::from("3")));
    // The newest stream hears; the older one is quiet until it is alone again.
    let mut second = outbox.listen(Some(u64::MAX));
    outbox.push(Bytes::from("new"));
    assert_eq!(outbox.next(&mut second).await.1, "new");
    let quiet = tokio::time::timeout(Duration::from_millis(20), outbox.next(&mut first)).await;
    assert!(quiet.is_err());
    outbox.leave(&second);
    assert_eq!(outbox.next(&mut first).await.0, 5);
    assert!(!outbox.push(Bytes::from(vec![b'x'; crate::mcp::front::outbox::BYTES_MAX + 1])));
    assert_eq!(outbox.next(&mut first).await.0, 6, "what is larger than all that is kept takes no place from others");
}

#[tokio::test]
async fn methods_besides_tools_pass_as_actions_or_exchanges() {
    let world = world().await;
    let session = world.open("alice").await;
    let ask = async |token: &str, session: &str, method: &str, params: &str| {
        let text = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#);
        body(&world.post(token, session, &text).await)
    };
    let got = ask("alice", &session, "prompts/get", r#"{"name":"greet","arguments":{"a":"b"},"_meta":{"x":1}}"#).await;
    assert_eq!(got["result"]["got"]["_meta"]["x"], 1, "`_meta` goes on, unjudged");
    let calls = world.governor.calls.lock().unwrap().clone();
    assert_eq!(calls[0].0, "prompts/get");
    assert_eq!(calls[0].1, br#"{"name":"greet","arguments":{"a":"b"}}"#);

    world.governor.denied.lock().unwrap().push(("resources/read".to_owned(), "secret".to_owned()));
    let denied = ask("alice", &session, "resources/read", r#"{"uri":"mem://secret"}"#).await;
    assert_eq!(
        (&denied["error"]["code"], &denied["error"]["data"]["countersign"]["verdict"]),
        (&(-32012).into(), &"deny".into())
    );
    assert!(!denied.to_string().contains("secret-7"));
    assert!(world.seen.with("resources/read").is_empty());

    for (method, params) in
        [("logging/setLevel", r#"{"level":"debug"}"#), ("resources/unsubscribe", r#"{"uri":"mem://1"}"#)]
    {
        assert_eq!(ask("alice", &session, method, params).await["result"], json!({}), "{method}");
    }
    let resources = ask("alice", &session, "resources/list", "{}").await;
    assert_eq!(resources["result"]["resources"][0]["uri"], "mem://1");
    let bob = world.open("bob").await;
    let hidden = ask("bob", &bob, "resources/list", "{}").await;
    assert_eq!(hidden["result"], json!({ "resources": [], "nextCursor": "more" }), "who may never read sees none");
    let prompts = ask("bob", &bob, "prompts/list", "{}").await;
    assert_eq!(prompts["result"]["prompts"][0]["name"], "greet");
    assert_eq!(world.governor.calls.lock().unwrap().len(), 2, "exchanges are not decided on");
    let parked = ask("alice", &session, "tools/call", r#"{"name":"park"}"#).await;
    assert_eq!(parked["result"]["structuredContent"]["countersign"]["verdict"], "pending");
}

#[tokio::test]
async fn a_method_passes_as_an_action_where_it_is_listed() {
    let config = FrontConfig::new("127.0.0.1:0".parse().unwrap())
        .with_methods(&["com.example/do".to_owned(), "tasks/list of others".to_owned()]);
    let world = World::behind(config, vec![script::upstream("crm", EraChoice::Legacy).await]).await;
    let session = world.open("alice").await;
    world.governor.denied.lock().unwrap().push(("com.example/do".to_owned(), String::new()));
    let text = r#"{"jsonrpc":"2.0","id":1,"method":"com.example/do","params":{"a":1}}"#;
    let answer = body(&world.post("alice", &session, text).await);
    assert_eq!(answer["error"]["code"], -32012, "{answer}");
    assert_eq!(world.governor.calls.lock().unwrap()[0].0, "com.example/do");
    let text = r#"{"jsonrpc":"2.0","id":1,"method":"com.example/other","params":{}}"#;
    assert_eq!(body(&world.post("alice", &session, text).await)["error"]["code"], -32601);
}

#[tokio::test]
async fn an_extension_is_heard_of_where_it_is_listed_and_its_upstream_is_alone() {
    let own = json!({ "io.modelcontextprotocol/tasks": {}, "com.example/own": {} });
    let known = json!({ "io.modelcontextprotocol/tasks": {} });
    let listed = ["com.example/own".to_owned()];
    for (extensions, others, expected) in [(&listed[..], 0, &own), (&[], 0, &known), (&listed[..], 1, &known)] {
        let config = FrontConfig::new("127.0.0.1:0".parse().unwrap()).with_extensions(extensions);
        let mut upstreams = vec![script::upstream("crm", EraChoice::Legacy).await];
        if others > 0 {
            upstreams.push(script::upstream("files", EraChoice::Legacy).await);
        }
        let world = World::behind(config, upstreams).await;
        let opened = body(&world.post("alice", "", super::INITIALIZE).await);
        assert_eq!(&opened["result"]["capabilities"]["extensions"], expected, "{extensions:?}, {others}");
    }
}

#[tokio::test]
async fn a_socket_lets_in_tokens_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("front.sock");
    let config = FrontConfig::new("127.0.0.1:0".parse().unwrap()).with_socket(path.clone());
    let world = World::behind(config, vec![script::upstream("crm", EraChoice::Legacy).await]).await;
    let ask = async |authorization: &str| {
        let mut stream = UnixStream::connect(&path).await.unwrap();
        let text = super::INITIALIZE;
        let head = format!(
            "POST /mcp HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{authorization}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{text}",
            text.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    assert_eq!(status(&ask("").await), "401");
    assert_eq!(status(&ask("Authorization: Bearer alice\r\n").await), "200");
    // A second gateway does not take the socket away.
    let second = crate::mcp::front::Server::new(
        FrontConfig::new("127.0.0.1:0".parse().unwrap()).with_socket(path.clone()),
        world.governor.clone(),
        vec![world.upstream.clone()],
    );
    assert!(second.bind().await.is_err());
    world.shutdown.cancel();
    world.serving.await.unwrap();
    assert!(!path.exists());
}

#[tokio::test]
async fn a_client_that_waits_and_gave_a_token_hears_that_it_waits() {
    let limits = Limits { keep_alive: Duration::from_millis(30), ..Limits::default() };
    let config = FrontConfig::new("127.0.0.1:0".parse().unwrap()).with_limits(limits);
    let world = World::behind(config, vec![script::upstream("crm", EraChoice::Legacy).await]).await;
    let session = world.open("alice").await;
    for (id, meta, enough) in [(1, r#","_meta":{"progressToken":"p \"1\""}"#, "-0.99609375"), (2, "", ":")] {
        let text = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"silent"{meta}}}}}"#);
        let head = world.head(
            "POST",
            &format!(
                "Authorization: Bearer alice\r\nContent-Type: application/json\r\n{session}Content-Length: {}\r\n\r\n",
                text.len()
            ),
        );
        let mut stream = TcpStream::connect(world.address).await.unwrap();
        stream.write_all(format!("{head}{text}").as_bytes()).await.unwrap();
        let heard = super::questions::until(&mut stream, enough).await;
        let first = r#"{"progressToken":"p \"1\"","progress":-0.9990234375,"message":"still waiting"}"#;
        assert_eq!(heard.contains(first), !meta.is_empty(), "{heard}");
        assert_eq!(heard.contains("notifications/progress"), !meta.is_empty(), "{heard}");
    }
}
