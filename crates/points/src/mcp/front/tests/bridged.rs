//! A client of one era before an upstream of the other: the same door, the same decisions, the same record.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use super::modern::{events, headers, params, posted, request, stream};
use super::questions::until;
use super::{World, body, call, script, status};
use crate::mcp::config::{EraChoice, FrontConfig, Limits, UpstreamConfig, UpstreamLimits, Url};
use crate::mcp::execute::Upstream;
use crate::mcp::execute::testing::server::{self, Asked, Script, Step, reply};
use crate::mcp::execute::testing::{Seen, id};

async fn world(era: EraChoice) -> World {
    let config = FrontConfig::new("127.0.0.1:0".parse().unwrap());
    World::behind(config, vec![script::upstream("crm", era).await]).await
}

/// What a modern client must never read, and what an upstream of that era must never miss.
const VERSION: &str = "io.modelcontextprotocol/protocolVersion";

#[tokio::test]
async fn a_modern_client_is_served_by_a_legacy_upstream() {
    let world = world(EraChoice::Legacy).await;
    let found = body(&world.modern("alice", "server/discover", None, "").await)["result"].clone();
    assert_eq!(
        (&found["supportedVersions"], &found["cacheScope"], &found["instructions"]),
        (&json!(["2026-07-28", "2025-11-25"]), &"private".into(), &"be crm".into())
    );
    assert_eq!(found["_meta"]["io.modelcontextprotocol/serverInfo"]["name"], "crm");
    let capabilities = &found["capabilities"];
    assert!(capabilities.get("tasks").is_none() && capabilities.get("extensions") == Some(&json!({})), "{found}");

    let listed = world.modern("alice", "tools/list", None, "").await;
    let whole = r#"{"resultType":"complete","ttlMs":0,"cacheScope":"private","tools":[{"name":"echo" ,"inputSchema""#;
    assert!(listed.contains(whole), "{listed}");
    assert!(!listed.contains(r#""name":"resources/read""#) && !listed.contains("mcp-session-id"));

    let named = headers("tools/call", Some("echo")) + "Mcp-Param-Region: eu\r\n";
    let asked = params(r#""name":"echo","arguments":{"region":"eu", "n": 1e2}"#);
    let called = world.post("alice", &named, &request("tools/call", &asked)).await;
    assert!(called.contains(r#""got":{"region":"eu","n":100.0}"#), "{called}");
    let called = body(&called)["result"].clone();
    assert_eq!(
        (&called["resultType"], &called["_meta"]["countersign/receipt"]["log"]),
        (&"complete".into(), &"test".into())
    );
    let sent = world.seen.with(r#""tools/call""#);
    assert!(
        sent[0].contains(r#""params":{"name":"echo","arguments":{"region":"eu", "n": 1e2},"_meta":{}}"#),
        "{sent:?}"
    );
    let calls = world.governor.calls.lock().unwrap().clone();
    assert_eq!(
        (calls[0].0.as_str(), &calls[0].1[..], calls[0].3),
        ("echo", &br#"{"region":"eu", "n": 1e2}"#[..], true)
    );
    // Headers are compared with what the legacy upstream listed, too.
    let refused = world.post("alice", &headers("tools/call", Some("echo")), &request("tools/call", &asked)).await;
    assert_eq!(body(&refused)["error"]["code"], -32020);

    let read = body(&world.modern("alice", "resources/read", Some("mem://1"), r#""uri":"mem://1""#).await);
    assert_eq!((&read["result"]["ttlMs"], &read["result"]["cacheScope"]), (&0.into(), &"private".into()));
    let none = world.modern("alice", "resources/read", Some("mem://none"), r#""uri":"mem://none""#).await;
    assert_eq!(body(&none)["error"]["code"], -32602, "as this era spells it");
    let task = body(&world.modern("alice", "tools/call", Some("task"), r#""name":"task","task":{"ttl":1}"#).await);
    assert_eq!(task["result"]["resultType"], "complete");
    assert!(world.seen.with(r#""ttl":1"#).is_empty(), "it is not told of tasks: {:?}", world.seen.all());
    assert!(world.seen.with(VERSION).is_empty() && world.seen.with("server/discover").is_empty());
}

/// What it could be asked with a handshake it could not be asked here.
#[tokio::test]
async fn a_client_that_answers_questions_is_sent_to_the_handshake() {
    let world = world(EraChoice::Legacy).await;
    let look = ("server/discover", "");
    for (capabilities, refused) in
        [(r#"{"sampling":{}}"#, true), (r#"{"elicitation":{}}"#, true), (r#"{"extensions":{}}"#, false)]
    {
        let found = world.able("alice", capabilities, look, "").await;
        assert_eq!(found["error"]["code"] == -32022, refused, "{capabilities}: {found}");
        let supported = found["error"]["data"]["supported"].as_array().map_or(0, Vec::len);
        assert_eq!(supported, if refused { 4 } else { 0 });
    }
    let called = world.able("alice", r#"{"sampling":{}}"#, ("tools/call", "fail"), "").await;
    assert!(called.get("error").is_none_or(|error| error["code"] != -32022), "who does not look is served: {called}");
}

#[tokio::test]
async fn a_modern_client_hears_the_log_it_asked_for_and_is_asked_nothing() {
    let world = world(EraChoice::Legacy).await;
    let log = |level: Option<&str>| {
        let level = level.map(|level| format!(r#","io.modelcontextprotocol/logLevel":"{level}"}}"#));
        params(r#""name":"log""#).replacen("}}", &format!("}}{}", level.as_deref().unwrap_or("}")), 1)
    };
    for (level, hears) in [(None, false), (Some("info"), true), (Some("debug"), true), (Some("error"), false)] {
        let text = log(level);
        assert!(serde_json::from_str::<Value>(&text).is_ok(), "{text}");
        let answer = world.post("alice", &headers("tools/call", Some("log")), &request("tools/call", &text)).await;
        assert_eq!(answer.contains("notifications/message"), hears, "{level:?}: {answer}");
        assert!(answer.contains(r#""resultType":"complete""#));
    }
    let answer = body(&world.modern("alice", "tools/call", Some("elicit"), r#""name":"elicit""#).await);
    let said = &answer["result"]["said"];
    assert_eq!(said["code"], -32601, "{answer}");
    assert!(said["message"].as_str().unwrap().contains("without a handshake"), "{said}");
}

#[tokio::test]
async fn a_modern_stream_follows_a_legacy_upstream() {
    let world = world(EraChoice::Legacy).await;
    world.governor.denied.lock().unwrap().push(("resources/subscribe".to_owned(), "mem://secret".to_owned()));
    let wanted = r#""notifications":{"toolsListChanged":true,"promptsListChanged":true,"resourceSubscriptions":["mem://1","mem://secret"]}"#;
    let asked = request("subscriptions/listen", &params(wanted));
    let text = posted(&world, "alice", &headers("subscriptions/listen", None), &asked);
    let (mut open, heard) = stream(&world, "alice", &text, |heard| heard.contains("acknowledged")).await;
    assert_eq!(
        events(&heard)[0]["params"]["notifications"],
        json!({ "toolsListChanged": true, "resourceSubscriptions": ["mem://1"] }),
        "what is offered, and allowed"
    );
    assert_eq!(world.seen.with("resources/subscribe").len(), 1);
    assert!(world.seen.with("secret").is_empty());
    // The upstream tells of a prompt list and of the resource: the first was not offered.
    world.modern("alice", "tools/call", Some("changed"), r#""name":"changed""#).await;
    let heard = until(&mut open, "resources/updated").await;
    let last = events(&heard).pop().unwrap();
    assert_eq!(
        last["params"],
        json!({ "uri": "mem://1", "_meta": { "io.modelcontextprotocol/subscriptionId": "m1" } })
    );
    assert!(!heard.contains("prompts/list_changed"));
    drop(open);
    world.seen.wait("resources/unsubscribe").await;
}

#[tokio::test]
async fn a_legacy_client_is_served_by_a_modern_upstream() {
    let world = world(EraChoice::Modern).await;
    let opened = body(&world.post("alice", "", &super::INITIALIZE.replace("2025-11-25", "2025-03-26")).await);
    let result = &opened["result"];
    assert_eq!(
        (&result["protocolVersion"], &result["serverInfo"]["name"], &result["instructions"]),
        (&"2025-03-26".into(), &"crm".into(), &"be crm".into())
    );
    assert!(result["capabilities"].get("tasks").is_none() && result.get("resultType").is_none(), "{opened}");
    let session = world.open_with("alice", r#"{"roots":{"listChanged":true},"tasks":{}}"#).await;
    let ask = async |method: &str, params: &str| {
        let text = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#);
        world.post("alice", &session, &text).await
    };
    let listed = ask("tools/list", "{}").await;
    assert!(listed.contains(r#""result":{"tools":[{"name":"echo" ,"inputSchema""#), "{listed}");
    let called = ask("tools/call", r#"{"name":"echo","arguments":{"region":"eu","n": 1e2},"task":{}}"#).await;
    assert!(body(&called)["result"].get("resultType").is_none(), "{called}");
    let sent = world.seen.with(r#""tools/call""#);
    assert!(sent[0].contains(r#""arguments":{"region":"eu","n": 1e2}}"#), "as it came, and no task: {sent:?}");
    let sent: Value = serde_json::from_str(&sent[0]).unwrap();
    assert_eq!(
        sent["params"]["_meta"],
        json!({
            VERSION: "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": { "roots": { "listChanged": true } },
            "io.modelcontextprotocol/clientInfo": { "name": "c", "version": "1" },
        })
    );
    let calls = world.governor.calls.lock().unwrap().clone();
    assert_eq!((&calls[0].1[..], calls[0].3), (&br#"{"region":"eu","n": 1e2}"#[..], true));

    assert_eq!(body(&ask("logging/setLevel", r#"{"level":"loud"}"#).await)["error"]["code"], -32602);
    assert_eq!(body(&ask("logging/setLevel", r#"{"level":"warning"}"#).await)["result"], json!({}));
    assert!(ask("tools/call", r#"{"name":"log"}"#).await.contains("notifications/message"));
    let sent: Value = serde_json::from_str(&world.seen.with(r#""log""#)[0]).unwrap();
    assert_eq!(sent["params"]["_meta"]["io.modelcontextprotocol/logLevel"], "warning");
    assert_eq!(body(&ask("ping", "{}").await)["result"], json!({}));
    let task = body(&ask("tools/call", r#"{"name":"task"}"#).await);
    assert_eq!(task["error"]["code"], -32603, "what it was not told of, it cannot follow: {task}");
    for method in ["logging/setLevel", "roots/list_changed", "\"initialize\""] {
        assert!(world.seen.with(method).is_empty(), "{method}");
    }
}

#[tokio::test]
async fn a_legacy_session_hears_of_what_it_is_subscribed_to() {
    let world = world(EraChoice::Modern).await;
    let session = world.open("alice").await;
    let head = world.head("GET", &format!("Authorization: Bearer alice\r\nAccept: text/event-stream\r\n{session}\r\n"));
    let (mut open, heard) = stream(&world, "alice", &head, |heard| heard.contains("tools/list_changed")).await;
    assert!(!heard.contains("acknowledged") && !heard.contains("subscriptionId"), "{heard}");
    let ask = async |method: &str, uri: &str| {
        let text = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{{"uri":"{uri}"}}}}"#);
        body(&world.post("alice", &session, &text).await)
    };
    world.governor.denied.lock().unwrap().push(("resources/subscribe".to_owned(), "mem://secret".to_owned()));
    assert_eq!(ask("resources/subscribe", "mem://secret").await["error"]["code"], -32012);
    let answer = ask("resources/subscribe", "mem://1").await;
    assert!(answer["result"].is_object(), "{answer}");
    let heard = until(&mut open, "resources/updated").await;
    assert!(heard.contains(r#""uri":"mem://1""#) && heard.contains(r#""k":1"#), "{heard}");
    let streams = streams_of_client(&world);
    assert_eq!(streams.len(), 2, "{streams:?}");
    assert!(streams[1].contains(r#"{"toolsListChanged":true,"resourceSubscriptions":["mem://1"]}"#), "{streams:?}");
    assert!(!streams.concat().contains("secret"));
    // The first stream ends once the second is there.
    world.seen.wait("notifications/cancelled").await;
    assert_eq!(ask("resources/unsubscribe", "mem://1").await["result"], json!({}));
    for _ in 0..500 {
        if streams_of_client(&world).len() == 3 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(!streams_of_client(&world)[2].contains("mem://1"));
    let calls = world.governor.calls.lock().unwrap().clone();
    let tools: Vec<&str> = calls.iter().map(|(tool, ..)| tool.as_str()).collect();
    assert_eq!(tools, ["resources/subscribe", "resources/subscribe"], "each is an action");
}

/// The streams that were opened in the client's name; the gateway has one of its own.
fn streams_of_client(world: &World) -> Vec<String> {
    let all = world.seen.with("subscriptions/listen");
    all.into_iter().filter(|line| line.contains(r#"{"name":"c","version":"1"}"#)).collect()
}

const ELICITS: &str = r#"{"elicitation":{}}"#;

#[tokio::test]
async fn what_a_modern_upstream_asks_for_is_asked_of_a_legacy_client() {
    let world = world(EraChoice::Modern).await;
    let session = world.open_with("alice", ELICITS).await;
    let (mut open, question) = world.asked(&session, "who").await;
    assert_eq!(
        (&question["method"], &question["params"]["message"]),
        (&"elicitation/create".into(), &"your name?".into())
    );
    let accept = r#""result":{"action":"accept","content":{"name" : "a"}}"#;
    assert_eq!(status(&world.answer("bob", &session, &question["id"], accept).await), "404");
    assert_eq!(world.seen.with(r#""who""#).len(), 1, "nothing goes on before there is an answer");
    assert_eq!(status(&world.answer("alice", &session, &question["id"], accept).await), "202");
    let rest = until(&mut open, "countersign/receipt").await;
    assert!(rest.contains(r#""got":{"#) && !rest.contains("input_required"), "{rest}");
    let rounds = world.seen.with(r#""who""#);
    assert_eq!(rounds.len(), 2);
    let next = r#""params":{"inputResponses":{"k1":{"action":"accept","content":{"name" : "a"}}},"requestState":"st","#;
    assert!(rounds[1].contains(next) && rounds[1].contains(r#""name":"who","arguments":{}"#), "{}", rounds[1]);
    let calls = world.governor.calls.lock().unwrap().clone();
    let tools: Vec<&str> = calls.iter().map(|(tool, ..)| tool.as_str()).collect();
    assert_eq!(tools, ["who", "elicitation/create"], "one action, and its question");
}

#[tokio::test]
async fn a_question_that_is_not_answered_ends_the_call() {
    let world = world(EraChoice::Modern).await;
    let check = async |capabilities: &str, says: &str| {
        let session = world.open_with("alice", capabilities).await;
        let answer = world.post("alice", &session, &call("1", "who")).await;
        let error = answer.split_once(r#""error":"#).unwrap_or_else(|| panic!("{answer}")).1.to_owned();
        assert!(error.contains("-32603") && error.contains(says), "{answer}");
    };
    // Never offered, so never asked.
    check("{}", "this client offers no such method").await;
    world.governor.denied.lock().unwrap().push(("elicitation/create".to_owned(), String::new()));
    check(ELICITS, "the policy here does not allow this question").await;
    let rounds = world.seen.with(r#""who""#);
    assert!(rounds.iter().all(|line| !line.contains("inputResponses")), "{rounds:?}");
}

#[tokio::test]
async fn both_eras_of_clients_see_several_upstreams_of_both_eras_as_one() {
    let upstreams =
        vec![script::upstream("files", EraChoice::Legacy).await, script::upstream("crm", EraChoice::Modern).await];
    let world = World::behind(FrontConfig::new("127.0.0.1:0".parse().unwrap()), upstreams).await;
    let found = body(&world.modern("alice", "server/discover", None, "").await);
    assert_eq!(found["result"]["instructions"], "# crm\n\nbe crm\n\n# files\n\nbe files");
    let opened = body(&world.post("alice", "", super::INITIALIZE).await);
    assert_eq!(opened["result"]["instructions"], "# crm\n\nbe crm\n\n# files\n\nbe files");
    let session = world.open("alice").await;
    let names = |answer: &Value| -> Vec<String> {
        let tools = answer["result"]["tools"].as_array().unwrap();
        tools.iter().map(|tool| tool["name"].as_str().unwrap().to_owned()).collect()
    };
    let wanted = ["crm__echo", "crm__crm-only", "files__echo", "files__files-only"];
    assert_eq!(names(&body(&world.modern("alice", "tools/list", None, "").await)), wanted);
    let listed = world.post("alice", &session, r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#).await;
    assert_eq!(names(&body(&listed)), wanted);
    for tool in ["crm__link", "files__link"] {
        let modern = body(&world.modern("alice", "tools/call", Some(tool), &format!(r#""name":"{tool}""#)).await);
        let legacy = body(&world.post("alice", &session, &call("1", tool)).await);
        let uri = format!("{}+mem://1", tool.split_once("__").unwrap().0);
        assert_eq!(
            (&modern["result"]["content"][0]["uri"], &legacy["result"]["content"][0]["uri"]),
            (&uri.as_str().into(), &uri.as_str().into())
        );
    }
}

/// An upstream over HTTP that has sessions only, and tells each call which it is in.
fn sessions() -> Script {
    let opened = AtomicU32::new(0);
    Arc::new(move |asked: &Asked| match asked.method().as_str() {
        "initialize" => {
            let head = format!("200 OK\r\nMcp-Session-Id: s-{}", opened.fetch_add(1, Ordering::Relaxed));
            let hello = asked.result(r#"{"protocolVersion":"2025-06-18","capabilities":{"tools":{}},"serverInfo":{"name":"h","version":"1"}}"#);
            vec![Step::Write(reply(&head, "application/json", &hello))]
        }
        "tools/list" => asked.json(r#"{"tools":[{"name":"where"}]}"#),
        "tools/call" => {
            let session = asked.header("mcp-session-id").unwrap_or_default();
            asked.json(&format!(r#"{{"content":[],"session":"{session}"}}"#))
        }
        "" if asked.is("get") => vec![Step::Write(reply("405 Method Not Allowed", "text/plain", ""))],
        "" => vec![Step::Write(reply("200 OK", "text/plain", ""))],
        method if method.starts_with("notifications/") => vec![Step::Write(reply("202 Accepted", "text/plain", ""))],
        _ => vec![Step::Write(reply("400 Bad Request", "text/plain", "no session"))],
    })
}

/// A world before such an upstream.
async fn lodged(limits: Limits) -> (World, server::Seen) {
    let (address, seen) = server::serve(sessions()).await;
    let url = Url::new(&format!("http://{address}/mcp")).unwrap();
    let within = UpstreamLimits { call_timeout: Duration::from_secs(5), ..UpstreamLimits::default() };
    let upstream = Upstream::connect(UpstreamConfig::http(id(), url, None).with_limits(within)).await.unwrap();
    let config = FrontConfig::new("127.0.0.1:0".parse().unwrap()).with_limits(limits);
    (World::behind(config, vec![(upstream, Seen::default())]).await, seen)
}

/// In which session a caller's call is.
async fn whose(world: &World, token: &str) -> String {
    let answer = world.modern(token, "tools/call", Some("where"), r#""name":"where""#).await;
    body(&answer)["result"]["session"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
}

#[tokio::test]
async fn there_are_as_many_sessions_as_may_be_and_the_oldest_makes_room() {
    let (world, seen) = lodged(Limits { sessions_max: 1, ..Limits::default() }).await;
    let alice = whose(&world, "alice").await;
    assert_eq!(whose(&world, "alice").await, alice);
    let bob = whose(&world, "bob").await;
    seen.wait("delete", 1).await;
    assert_eq!(seen.with("delete")[0].header("mcp-session-id"), Some(alice.clone()), "the one used longest ago");
    assert_eq!(whose(&world, "bob").await, bob);
    assert_ne!(whose(&world, "alice").await, alice);
}

#[tokio::test]
async fn each_principal_has_a_session_of_its_own_that_ends_when_it_is_not_used() {
    let (world, seen) = lodged(Limits { lodging_idle: Duration::from_millis(300), ..Limits::default() }).await;
    let (alice, bob) = (whose(&world, "alice").await, whose(&world, "bob").await);
    assert_ne!(alice, bob, "nothing of one principal's session is another's");
    assert_eq!((whose(&world, "alice").await, whose(&world, "bob").await), (alice.clone(), bob));
    assert!(
        seen.with("\"initialize\"").iter().all(|asked| asked.body.contains(r#""capabilities":{}"#)),
        "nothing is offered"
    );
    seen.wait("delete", 2).await;
    assert_ne!(whose(&world, "alice").await, alice, "what ended is opened anew");
}
