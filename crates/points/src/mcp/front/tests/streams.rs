//! Streams that stay open: under which permits, and that they end with a kill, with a token, and with nobody else's part.

use std::time::Duration;

use countersign_model::ReasonCode;
use countersign_model::record::Status;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::modern::{events, headers, params, posted, request, stream};
use super::{World, call, script, status};
use crate::mcp::config::{EraChoice, FrontConfig, Limits};
use crate::mcp::execute::testing::Seen;
use crate::mcp::execute::testing::server::until;

const LISTEN: &str = "subscriptions/listen";

fn limited(change: impl FnOnce(&mut Limits)) -> FrontConfig {
    let mut limits = Limits { keep_alive: Duration::from_millis(20), ..Limits::default() };
    change(&mut limits);
    FrontConfig::new("127.0.0.1:0".parse().unwrap()).with_limits(limits)
}

async fn world(change: impl FnOnce(&mut Limits)) -> World {
    World::behind(limited(change), vec![script::upstream("crm", EraChoice::Modern).await]).await
}

async fn two(change: impl FnOnce(&mut Limits)) -> (World, Seen) {
    let upstreams =
        vec![script::upstream("files", EraChoice::Modern).await, script::upstream("crm", EraChoice::Modern).await];
    let crm = upstreams[1].1.clone();
    (World::behind(limited(change), upstreams).await, crm)
}

/// A request for a stream about the tools and these resources.
fn listen(world: &World, uris: &[&str]) -> String {
    let wanted = json!({ "toolsListChanged": true, "resourceSubscriptions": uris });
    let asked = request(LISTEN, &params(&format!(r#""notifications":{wanted}"#)));
    posted(world, "alice", &headers(LISTEN, None), &asked)
}

/// Reads to the end of a stream, and gives its events after those in `heard`.
async fn rest(mut stream: TcpStream, mut heard: String) -> Vec<Value> {
    let mut more = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut more)).await;
    read.expect("it ends").unwrap();
    heard.push_str(&String::from_utf8(more).unwrap());
    events(&heard)
}

impl World {
    /// How so many actions ended, by a part of their arguments.
    async fn outcomes(&self, count: usize) -> Vec<(String, Status, String)> {
        until(|| self.governor.outcomes.lock().unwrap().len() >= count, "the outcomes").await;
        let mut all = self.governor.outcomes.lock().unwrap().clone();
        all.sort_by(|one, other| one.0.cmp(&other.0));
        assert_eq!(all.len(), count);
        all
    }

    async fn statuses(&self, count: usize) -> Vec<Status> {
        self.outcomes(count).await.into_iter().map(|(_, status, _)| status).collect()
    }
}

#[tokio::test]
async fn what_was_allowed_before_a_kill_is_not_followed_after_it() {
    let world = world(|_| ()).await;
    let decided = CancellationToken::new();
    world.governor.slow.lock().unwrap().push(("mem://2".to_owned(), decided.clone()));
    let text = listen(&world, &["mem://1", "mem://2"]);
    let mut client = TcpStream::connect(world.address).await.unwrap();
    client.write_all(text.as_bytes()).await.unwrap();
    until(|| world.governor.calls.lock().unwrap().len() == 2, "both decisions").await;
    world.governor.killed.cancel();
    decided.cancel();
    assert_eq!(world.statuses(2).await, [Status::NotStarted; 2]);
    let heard = rest(client, String::new()).await;
    assert_eq!((heard.len(), &heard[0]["error"]["code"]), (1, &(-32012).into()), "{heard:?}");
    assert!(world.seen.with("mem://").is_empty(), "nothing was sent");
}

#[tokio::test]
async fn a_client_that_leaves_early_has_followed_nothing() {
    let world = world(|_| ()).await;
    let decided = CancellationToken::new();
    world.governor.slow.lock().unwrap().push(("mem://2".to_owned(), decided.clone()));
    let mut client = TcpStream::connect(world.address).await.unwrap();
    client.write_all(listen(&world, &["mem://1", "mem://2"]).as_bytes()).await.unwrap();
    until(|| world.governor.calls.lock().unwrap().len() == 2, "both decisions").await;
    // A comment shows that the gateway has begun to answer: from then on it sees that the client goes.
    let mut chunk = [0; 1024];
    assert!(client.read(&mut chunk).await.unwrap() > 0);
    drop(client);
    tokio::time::sleep(Duration::from_millis(50)).await;
    decided.cancel();
    assert_eq!(world.statuses(2).await, [Status::NotStarted; 2]);
    assert!(world.seen.with("mem://").is_empty());
}

#[tokio::test]
async fn a_stream_is_in_flight_until_a_kill_or_its_client_ends_it() {
    for (killed, expected) in [(true, Status::Unknown), (false, Status::Done)] {
        let world = world(|_| ()).await;
        let text = listen(&world, &["mem://1", "mem://1", "mem://unknown"]);
        let (client, heard) = stream(&world, "alice", &text, |heard| heard.contains("resources/updated")).await;
        assert_eq!(events(&heard)[0]["params"]["notifications"]["resourceSubscriptions"], json!(["mem://1"]));
        assert!(world.governor.outcomes.lock().unwrap().is_empty(), "it is open");
        if killed {
            world.governor.killed.cancel();
            let last = rest(client, heard).await.pop().unwrap();
            assert_eq!((&last["id"], &last["error"]["code"]), (&"m1".into(), &(-32012).into()));
        } else {
            drop(client);
        }
        let outcomes = world.outcomes(2).await;
        assert_eq!((outcomes[0].0.contains("mem://1"), outcomes[0].1), (true, expected), "{outcomes:?}");
        assert_eq!(outcomes[1].1, Status::Failed, "the upstream did not agree to it: {outcomes:?}");
        world.seen.wait("notifications/cancelled").await;
    }
}

#[tokio::test]
async fn how_a_stream_ended_is_recorded_as_it_was() {
    for (uri, expected) in
        [("mem://mute", Status::Unknown), ("mem://refused", Status::Failed), ("mem://over", Status::Done)]
    {
        let world = world(|limits| limits.acknowledge_timeout = Duration::from_millis(100)).await;
        let mut client = TcpStream::connect(world.address).await.unwrap();
        client.write_all(listen(&world, &[uri]).as_bytes()).await.unwrap();
        let heard = rest(client, String::new()).await;
        let last = heard.last().unwrap();
        assert_eq!(last["id"], "m1", "{uri}: {heard:?}");
        assert!(heard.iter().all(|event| event["params"]["early"].is_null()), "{uri}: {heard:?}");
        assert_eq!(last["result"].is_object(), expected == Status::Done, "{uri}: {heard:?}");
        assert_eq!(world.statuses(1).await, [expected], "{uri}");
    }
}

#[tokio::test]
async fn a_part_that_ends_ends_no_other() {
    let (world, crm) = two(|limits| limits.acknowledge_timeout = Duration::from_millis(500)).await;
    // One that never acknowledges is left out.
    let text = listen(&world, &["crm+mem://mute", "files+mem://1"]);
    let (client, heard) = stream(&world, "alice", &text, |heard| heard.contains("resources/updated")).await;
    let first = events(&heard)[0].clone();
    assert_eq!(first["params"]["notifications"]["resourceSubscriptions"], json!(["files+mem://1"]), "{heard}");
    crm.wait("notifications/cancelled").await;
    drop(client);
    world.statuses(2).await;

    // One that ends is said to have changed, and the other goes on.
    let released = CancellationToken::new();
    world.governor.slow.lock().unwrap().push(("mem://2".to_owned(), released.clone()));
    let text = listen(&world, &["crm+mem://over", "files+mem://1"]);
    let ended = |heard: &str| heard.matches("crm+mem://over").count() == 3;
    let (client, heard) = stream(&world, "alice", &text, ended).await;
    let all = events(&heard);
    let told = all.last().unwrap();
    assert_eq!(
        (&told["method"], &told["params"]["uri"]),
        (&"notifications/resources/updated".into(), &"crm+mem://over".into())
    );
    assert_eq!(told["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"], "m1");
    assert!(all.iter().all(|event| event["id"].is_null()), "it is open: {heard}");
    assert_eq!(world.statuses(3).await.iter().filter(|status| **status == Status::Done).count(), 2);
    world.governor.killed.cancel();
    assert_eq!(rest(client, heard).await.last().unwrap()["error"]["code"], -32012);
}

#[tokio::test]
async fn a_part_acknowledges_for_itself_alone_and_once() {
    let (world, crm) = two(|_| ()).await;
    let decided = CancellationToken::new();
    world.governor.slow.lock().unwrap().push(("mem://1".to_owned(), decided.clone()));
    let mut client = TcpStream::connect(world.address).await.unwrap();
    client.write_all(listen(&world, &["crm+mem://twice", "files+mem://1"]).as_bytes()).await.unwrap();
    crm.wait("mem://twice").await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    decided.cancel();
    let (mut heard, mut chunk) = (String::new(), [0; 4096]);
    while !heard.contains("files+mem://1\",") {
        let count = client.read(&mut chunk).await.unwrap();
        heard.push_str(std::str::from_utf8(&chunk[..count]).unwrap());
    }
    let agreed = &events(&heard)[0]["params"]["notifications"]["resourceSubscriptions"];
    assert_eq!(agreed.as_array().unwrap().len(), 2, "both, and not one of them twice: {heard}");
    assert_eq!(heard.matches("acknowledged").count(), 1, "{heard}");
    assert!(
        heard.contains("crm+mem://twice\",") && !heard.contains("early"),
        "what came before it is not passed on: {heard}"
    );
}

/// A client that goes while it is being told something leaves nothing behind at the upstream.
#[tokio::test]
async fn an_upstream_is_told_whenever_a_client_goes() {
    let world = world(|_| ()).await;
    let text = listen(&world, &["mem://flood"]);
    let (client, _) = stream(&world, "alice", &text, |heard| heard.contains("acknowledged")).await;
    drop(client);
    world.seen.wait("notifications/cancelled").await;
    assert_eq!(world.statuses(1).await, [Status::Done]);
}

#[tokio::test]
async fn streams_end_with_their_token() {
    let world = world(|_| ()).await;
    let (client, heard) = stream(&world, "alice", &listen(&world, &[]), |heard| heard.contains("acknowledged")).await;
    world.governor.gone.lock().unwrap().push("alice".to_owned());
    let last = rest(client, heard).await.pop().unwrap();
    assert_eq!(last["error"]["message"], crate::mcp::front::SPENT);
    world.seen.wait("notifications/cancelled").await;
}

#[tokio::test]
async fn what_a_session_hears_ends_with_its_token_and_with_a_kill() {
    for killed in [true, false] {
        let world = World::behind(limited(|_| ()), vec![script::upstream("crm", EraChoice::Legacy).await]).await;
        let session = world.open("alice").await;
        let get =
            world.head("GET", &format!("Authorization: Bearer alice\r\nAccept: text/event-stream\r\n{session}\r\n"));
        let (client, heard) = stream(&world, "alice", &get, |heard| heard.contains("keep-alive")).await;
        if killed {
            world.governor.killed.cancel();
        } else {
            world.governor.gone.lock().unwrap().push("alice".to_owned());
        }
        rest(client, heard).await;
        // Nobody brings the token again; whoever was killed may be let go.
        let again = if killed { "200" } else { "404" };
        let ping = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
        for _ in 0..100 {
            if status(&world.post("alice", &session, ping).await) == again {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(status(&world.post("alice", &session, &call("2", "echo")).await), again);
    }
}

#[tokio::test]
async fn progress_tokens_of_clients_stay_here_and_secrets_too() {
    let world = world(|_| ()).await;
    world.governor.redacts.store(true, std::sync::atomic::Ordering::Relaxed);
    let text = listen(&world, &["mem://secret-in-it"]);
    let (before, after) = text.split_once(r#""_meta":{"#).unwrap();
    let text = format!(r#"{before}"_meta":{{"progressToken":"mine",{after}"#);
    let text = text.replacen(
        &format!(
            "Content-Length: {}",
            text.split("\r\n\r\n").nth(1).unwrap().len() - r#""progressToken":"mine","#.len()
        ),
        &format!("Content-Length: {}", text.split("\r\n\r\n").nth(1).unwrap().len()),
        1,
    );
    let (_client, heard) = stream(&world, "alice", &text, |heard| heard.contains("redacted:")).await;
    assert!(!heard.contains("AIOSFODNN7EXAMPLE"), "{heard}");
    let sent = &world.seen.with("mem://")[0];
    assert!(sent.contains("progressToken") && !sent.contains("mine"), "{sent}");
}

#[tokio::test]
async fn resources_are_followed_within_bounds() {
    let world = world(|limits| limits.followed_per_caller_max = 2).await;
    let (first, _) =
        stream(&world, "alice", &listen(&world, &["mem://1", "mem://2"]), |heard| heard.contains("acknowledged")).await;
    assert_eq!(status(&world.raw(&listen(&world, &["mem://3"])).await), "429");
    assert_eq!(world.refused().last().unwrap().1, ReasonCode::Overloaded);
    assert_eq!(world.governor.calls.lock().unwrap().len(), 2, "it was not asked about");
    // What names no resource needs no place.
    let (_none, _) = stream(&world, "alice", &listen(&world, &[]), |heard| heard.contains("acknowledged")).await;
    drop(first);
    world.statuses(2).await;
    for _ in 0..100 {
        let mut client = TcpStream::connect(world.address).await.unwrap();
        client.write_all(listen(&world, &["mem://3"]).as_bytes()).await.unwrap();
        let mut chunk = [0; 1024];
        let count = client.read(&mut chunk).await.unwrap();
        if chunk[..count].starts_with(b"HTTP/1.1 200") {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("no room was made");
}
