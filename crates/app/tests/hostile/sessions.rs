//! Clients that come back with what is no longer theirs, use an id twice at once, or take their time.

use std::time::Duration;

use super::support::gateway::Gateway;
use super::support::{Installation, Setup, until};
use super::wire::{Answer, Talk, drip, send};

const CALL: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"put","arguments":{"id":"x"}}}"#;
const HOLD: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"hold","arguments":{"id":"h"}}}"#;

struct Ground {
    at: Installation,
    gateway: Gateway,
    authority: String,
}

impl Ground {
    async fn new() -> Self {
        let at = Installation::new(&Setup::lab());
        let gateway = at.up().await;
        let authority = authority(&gateway);
        Self { at, gateway, authority }
    }

    fn talk(&self) -> Talk {
        Talk::open(&self.authority, self.at.token().trim(), ("/mcp", "{}"))
    }
}

fn authority(gateway: &Gateway) -> String {
    gateway.url.strip_prefix("http://").unwrap().strip_suffix("/mcp").unwrap().to_owned()
}

fn reasons(at: &Installation) -> Vec<String> {
    let records = at.records();
    let refused = records.iter().map(|entry| entry.reason()).filter(|it| !it.is_empty() && *it != "policy_permit");
    refused.map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_over_opens_nothing() {
    let ground = Ground::new().await;
    let talk = ground.talk();
    let once = tokio::task::spawn_blocking(move || {
        assert_eq!(send(&talk.authority, &talk.post(CALL.as_bytes())).status, 200);
        assert_eq!(send(&talk.authority, &talk.bare("DELETE")).status, 204);
        for again in [talk.post(CALL.as_bytes()), talk.bare("GET"), talk.bare("DELETE")] {
            assert_eq!(send(&talk.authority, &again).status, 404, "{}", String::from_utf8_lossy(&again));
        }
        talk
    });
    let mut talk = once.await.unwrap();
    let Ground { at, gateway, .. } = ground;
    gateway.stop().await;
    // Another gateway over the same record knows no session of the one before it.
    let gateway = at.up().await;
    talk.authority = authority(&gateway);
    let again = tokio::task::spawn_blocking(move || send(&talk.authority, &talk.post(CALL.as_bytes())).status);
    assert_eq!(again.await.unwrap(), 404);
    gateway.stop().await;
    assert_eq!(at.effects(), ["put x"]);
    assert_eq!(reasons(&at), ["malformed"; 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_does_not_outlive_its_token() {
    let ground = Ground::new().await;
    let issued = ground.at.owner(&["token", "issue", "alpha"]);
    let word = |name: &str| issued[name].as_str().unwrap().trim().to_owned();
    let talk = Talk::open(&ground.authority, &word("token"), ("/mcp", "{}"));
    let before = talk.clone();
    let before = tokio::task::spawn_blocking(move || send(&before.authority, &before.post(CALL.as_bytes())).status);
    assert_eq!(before.await.unwrap(), 200);
    let (listening, own) = (talk.clone(), ground.talk());
    let listening = tokio::task::spawn_blocking(move || send(&listening.authority, &listening.bare("GET")));
    ground.at.owner(&["token", "revoke", &word("session")]);
    tokio::task::spawn_blocking(move || {
        for again in [talk.post(CALL.as_bytes()), talk.bare("GET"), talk.bare("DELETE")] {
            assert_eq!(send(&talk.authority, &again).status, 401, "{}", String::from_utf8_lossy(&again));
        }
    })
    .await
    .unwrap();
    // What was open before says nothing of what comes after: with the next call the upstream says that its tools changed.
    ground.at.write("world/tools.json", "[]");
    let called = tokio::task::spawn_blocking(move || send(&own.authority, &own.post(CALL.as_bytes())).status);
    assert_eq!(called.await.unwrap(), 200);
    let heard = listening.await.unwrap();
    assert_eq!(heard.status, 200);
    assert!(!heard.text.contains("list_changed"), "{}", heard.text);
    ground.gateway.stop().await;
    assert_eq!(ground.at.effects(), ["put x", "put x"]);
    assert_eq!(reasons(&ground.at), ["token_invalid"; 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_that_is_in_flight_is_not_taken_twice() {
    let ground = Ground::new().await;
    let (talk, other) = (ground.talk(), ground.talk());
    let effects = ground.at.path("world/effects");
    tokio::task::spawn_blocking(move || {
        let first = talk.clone();
        let first = std::thread::spawn(move || send(&first.authority, &first.post(HOLD.as_bytes())));
        let lines = || std::fs::read_to_string(&effects).unwrap_or_default().lines().count();
        until("the first has begun", &mut || lines() == 1);
        let Answer { status, text } = send(&talk.authority, &talk.post(CALL.as_bytes()));
        assert_eq!(status, 400, "{text}");
        assert_eq!(
            send(&other.authority, &other.post(CALL.as_bytes())).status,
            200,
            "another session's ids are its own"
        );
        // A stranger's cancellation ends nothing of this one.
        let cancel = br#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#;
        assert_eq!(send(&other.authority, &other.post(cancel)).status, 202);
        assert_eq!(send(&talk.authority, &talk.post(CALL.as_bytes())).status, 400, "it still is in flight");
        assert_eq!(send(&talk.authority, &talk.post(cancel)).status, 202);
        assert_eq!(first.join().unwrap().status, 200);
        assert_eq!(send(&talk.authority, &talk.post(CALL.as_bytes())).status, 200, "and now it is free");
    })
    .await
    .unwrap();
    ground.gateway.stop().await;
    assert_eq!(ground.at.effects(), ["hold h", "put x", "put x"]);
    assert_eq!(reasons(&ground.at), ["malformed"; 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_takes_its_time_keeps_nobody_waiting() {
    let ground = Ground::new().await;
    let talk = ground.talk();
    tokio::task::spawn_blocking(move || {
        let whole = talk.post(CALL.as_bytes());
        let at = whole.windows(4).position(|part| part == b"\r\n\r\n").unwrap();
        let mut slow = Vec::new();
        for _ in 0..20 {
            let (authority, head) = (talk.authority.clone(), whole[..at].to_vec());
            // The head alone would take minutes.
            slow.push(std::thread::spawn(move || drip(&authority, (b"", &head), Duration::from_millis(400))));
        }
        for _ in 0..5 {
            assert_eq!(send(&talk.authority, &talk.post(CALL.as_bytes())).status, 200, "others are served meanwhile");
        }
        // The head at once, and then the body a byte at a time.
        let (head, body) = whole.split_at(at + 4);
        let body = drip(&talk.authority, (head, body), Duration::from_millis(250));
        assert_eq!(body.status, 408, "{}", body.text);
        for ended in slow {
            let ended = ended.join().unwrap();
            assert!(![200, 202].contains(&ended.status), "{}", ended.text);
        }
    })
    .await
    .unwrap();
    ground.gateway.stop().await;
    assert_eq!(ground.at.effects(), ["put x"; 5]);
    assert_eq!(reasons(&ground.at), ["malformed"], "a body that did not come is on record");
}
