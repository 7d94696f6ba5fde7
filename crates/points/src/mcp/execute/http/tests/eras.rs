//! Both eras of an HTTP upstream, sessions of clients' own, streams that break, and what hostile servers may not do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use countersign_gate::credential::Credential;
use countersign_model::id::ToolName;
use countersign_model::record::Status;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::mcp::config::{EraChoice, UpstreamConfig, UpstreamLimits, Url};
use crate::mcp::execute::channel::{Answered, Channel, ClientHello, Said};
use crate::mcp::execute::outbound::Outbound;
use crate::mcp::execute::testing::server::{Asked, Script, Seen, Step, event, reply, serve, serve_unix, stream, until};
use crate::mcp::execute::testing::{TestLeave, id};
use crate::mcp::execute::{Executor, Kind, LinkError, Upstream};
use crate::mcp::wire::Era;

fn limits() -> UpstreamLimits {
    UpstreamLimits {
        line_bytes_max: 100_000,
        call_timeout: Duration::from_secs(5),
        exchange_timeout: Duration::from_secs(5),
        backoff_min: Duration::from_millis(10),
        ..UpstreamLimits::default()
    }
}

/// A server of both eras whose calls and own streams `script` answers.
fn dual(script: impl Fn(&Asked) -> Vec<Step> + Send + Sync + 'static) -> Script {
    let sessions = AtomicU32::new(0);
    Arc::new(move |asked| {
        let with = |head: &str, body: &str| {
            vec![Step::Write(reply(&format!("200 OK\r\n{head}"), "application/json", &asked.result(body)))]
        };
        match asked.method().as_str() {
            "initialize" => {
                let session = sessions.fetch_add(1, Ordering::Relaxed);
                let result = r#"{"protocolVersion":"2025-06-18","capabilities":{"tools":{}},"x": 1.50}"#;
                with(&format!("Mcp-Session-Id: s-{session}"), result)
            }
            "server/discover" => {
                asked.json(r#"{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{"listChanged":true}}}"#)
            }
            "tools/list" if asked.header("mcp-session-id").is_some_and(|session| session == "s-2") => {
                asked.json(r#"{"tools":[{"name":"own"}]}"#)
            }
            "tools/list" if asked.header("mcp-method").is_some() => {
                asked.json(r#"{"resultType":"complete","tools":[{"name":"echo","modern":1}]}"#)
            }
            "tools/list" => asked.json(r#"{"tools":[{"name":"echo"}]}"#),
            method if method.starts_with("notifications/") => {
                vec![Step::Write(reply("202 Accepted", "text/plain", ""))]
            }
            _ => script(asked),
        }
    })
}

/// Streams of sessions are not offered, and whatever else is asked is answered.
fn plain(asked: &Asked) -> Vec<Step> {
    match asked.method().as_str() {
        "" if asked.body.is_empty() => vec![Step::Write(reply("405 Method Not Allowed", "text/plain", ""))],
        "" => vec![Step::Write(reply("202 Accepted", "text/plain", ""))],
        "subscriptions/listen" => vec![stream(": hello\n\n"), Step::Hang],
        _ => asked.json(r#"{"ok":1.50}"#),
    }
}

async fn raised_under(script: Script, limits: UpstreamLimits, era: EraChoice) -> (Upstream, Seen) {
    let (address, seen) = serve(script).await;
    let url = Url::new(&format!("http://{address}/mcp")).unwrap();
    let config = UpstreamConfig::http(id(), url, Some(Credential::header("X-Key", "exchange")));
    (Upstream::connect(config.with_limits(limits).with_era(era)).await.unwrap(), seen)
}

async fn raised(script: impl Fn(&Asked) -> Vec<Step> + Send + Sync + 'static) -> (Upstream, Seen) {
    raised_under(dual(script), limits(), EraChoice::Auto).await
}

fn hello() -> ClientHello {
    ClientHello {
        version: "2025-03-26".to_owned(),
        capabilities: Bytes::from_static(br#"{"roots" : {}}"#),
        client: Bytes::from_static(br#"{"name":"a client"}"#),
        owner: None,
    }
}

async fn open(upstream: &Upstream, era: Era) -> (Channel, mpsc::Receiver<Said>) {
    let (said, heard) = mpsc::channel(8);
    (upstream.open(era, &hello(), said).await.unwrap(), heard)
}

fn call(channel: &Channel, tool: &str) -> Executor {
    call_with(channel, tool, None)
}

fn call_with(channel: &Channel, tool: &str, aside: Option<mpsc::Sender<Said>>) -> Executor {
    let params = format!(r#"{{"name":"{tool}","_meta":{{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}}"#);
    Executor::new(channel.clone(), Outbound { aside, ..Outbound::plain("tools/call", Some(params.into())) })
}

fn leave() -> TestLeave {
    let mut leave = TestLeave::new(CancellationToken::new());
    leave.credential = Some(Credential::header("X-Key", "action"));
    leave
}

async fn notification(heard: &mut mpsc::Receiver<Said>) -> Value {
    match tokio::time::timeout(Duration::from_secs(5), heard.recv()).await.unwrap().unwrap() {
        Said::Notification(frame) => serde_json::from_slice(frame.bytes()).unwrap(),
        Said::Question(question) => panic!("{question:?}"),
    }
}

#[tokio::test]
async fn both_eras_are_spoken_at_once_each_natively() {
    let (upstream, seen) = raised(plain).await;
    assert!(upstream.eras().legacy && upstream.eras().modern);
    let (old, _) = open(&upstream, Era::Legacy).await;
    let (new, _) = open(&upstream, Era::Modern).await;
    let opened = seen.with("a client").remove(0);
    assert!(
        opened.body.contains(
            r#""protocolVersion":"2025-03-26","capabilities":{"roots" : {}},"clientInfo":{"name":"a client"}"#
        )
    );
    assert_eq!(opened.header("mcp-session-id"), None);
    assert_eq!(&old.hello().raw()[..], br#"{"protocolVersion":"2025-06-18","capabilities":{"tools":{}},"x": 1.50}"#);
    assert_eq!(call(&old, "echo").carry_out(leave()).await.status, Status::Done);
    let sent = seen.with("\"echo\"").remove(0);
    assert_eq!(sent.header("mcp-session-id").as_deref(), Some("s-1"), "a session of its own, not the gateway's");
    assert_eq!(sent.header("mcp-protocol-version").as_deref(), Some("2025-06-18"));
    assert_eq!((sent.header("x-key").as_deref(), sent.header("mcp-method")), (Some("action"), None));
    let done = call(&new, "é").carry_out(leave()).await;
    assert_eq!((done.status, done.reply.unwrap().status()), (Status::Done, Some(200)));
    let sent = seen.with("\"é\"").remove(0);
    assert_eq!(sent.header("mcp-session-id"), None);
    assert_eq!(sent.header("mcp-protocol-version").as_deref(), Some("2026-07-28"));
    assert_eq!(sent.header("mcp-method").as_deref(), Some("tools/call"));
    assert_eq!(sent.header("mcp-name").as_deref(), Some("=?base64?w6k=?=".to_lowercase().as_str()));
    assert_eq!(sent.header("x-key").as_deref(), Some("action"));
}

#[tokio::test]
async fn a_tool_that_differs_between_eras_is_judged_as_it_was_shown() {
    let (upstream, seen) = raised(plain).await;
    let echo = ToolName::new("echo").unwrap();
    let ((old, _), (new, _)) = (open(&upstream, Era::Legacy).await, open(&upstream, Era::Modern).await);
    let manifest = |raw: &[u8]| Some(crate::mcp::execute::manifest(raw));
    assert_eq!(old.listed(&echo).map(|listed| listed.manifest), manifest(br#"{"name":"echo"}"#));
    assert_eq!(new.listed(&echo).map(|listed| listed.manifest), manifest(br#"{"name":"echo","modern":1}"#));
    // The next session is shown another tool than anybody else.
    let (odd, _) = open(&upstream, Era::Legacy).await;
    let own = ToolName::new("own").unwrap();
    assert_eq!(odd.listed(&own), None, "what was not shown is not judged by anything");
    odd.exchange(&Outbound::plain("tools/list", None)).await.unwrap();
    assert_eq!(odd.listed(&own).map(|listed| listed.manifest), manifest(br#"{"name":"own"}"#));
    assert_eq!((old.listed(&own), upstream.listed(&own)), (None, None), "it is that session's alone");
    let again = seen.with("tools/list").len();
    odd.exchange(&Outbound::plain("tools/list", None)).await.unwrap();
    assert_eq!(seen.with("tools/list").len(), again + 1, "what is known is not asked for again");
}

#[tokio::test]
async fn one_era_is_enough_and_a_choice_is_kept_to() {
    let no_modern: Script = {
        let dual = dual(plain);
        Arc::new(move |asked| match asked.method().as_str() {
            "server/discover" => vec![Step::Write(reply("400 Bad Request", "text/plain", "no session"))],
            _ => dual(asked),
        })
    };
    let no_legacy: Script = {
        let dual = dual(plain);
        Arc::new(move |asked| match asked.method().as_str() {
            "initialize" => vec![Step::Write(reply("400 Bad Request", "text/plain", ""))],
            _ => dual(asked),
        })
    };
    for (script, choice, eras) in [
        (no_modern.clone(), EraChoice::Auto, (true, false)),
        (no_legacy.clone(), EraChoice::Auto, (false, true)),
        (dual(plain), EraChoice::Legacy, (true, false)),
        (dual(plain), EraChoice::Modern, (false, true)),
    ] {
        let (upstream, _) = raised_under(script, limits(), choice).await;
        assert_eq!((upstream.eras().legacy, upstream.eras().modern), eras, "{choice:?}");
        for (era, speaks) in [(Era::Legacy, eras.0), (Era::Modern, eras.1)] {
            let (said, _) = mpsc::channel(1);
            let opened = upstream.open(era, &hello(), said.clone()).await.unwrap();
            assert_eq!(opened.hello().era(), era, "{choice:?}: whatever it speaks");
            if era == Era::Modern {
                let shared = upstream.share(era, (said, None));
                assert!(speaks == shared.is_ok() && (speaks || matches!(shared, Err(LinkError::OtherEra))));
            }
        }
    }
    for (script, choice) in [(no_modern, EraChoice::Modern), (no_legacy, EraChoice::Legacy)] {
        let (address, _) = serve(script).await;
        let url = Url::new(&format!("http://{address}/mcp")).unwrap();
        assert!(Upstream::connect(UpstreamConfig::http(id(), url, None).with_era(choice)).await.is_err());
    }
}

#[tokio::test]
async fn a_session_of_its_own_ends_with_its_channel() {
    let (upstream, seen) = raised(plain).await;
    for closes in [true, false] {
        let before = seen.with("delete /mcp").len();
        let (channel, _) = open(&upstream, Era::Legacy).await;
        let again = channel.clone();
        drop(channel);
        assert!(!again.closed().is_cancelled(), "one handle is enough");
        if closes {
            again.close()
        } else {
            drop(again)
        }
        seen.wait("delete /mcp", before + 1).await;
    }
    let kept = open(&upstream, Era::Legacy).await;
    upstream.close().await;
    assert_eq!(seen.with("delete /mcp").len(), 4, "the gateway's own and the one that was still open");
    assert!(kept.0.closed().is_cancelled());
    assert_eq!(call(&kept.0, "echo").carry_out(leave()).await.status, Status::NotStarted);
}

#[tokio::test]
async fn a_lost_session_ends_its_channel_and_nobody_elses() {
    let (upstream, seen) = raised(|asked| match asked.tool().as_str() {
        "gone" => vec![Step::Write(reply("404 Not Found", "text/plain", ""))],
        _ => plain(asked),
    })
    .await;
    let ((one, _), (two, _)) = (open(&upstream, Era::Legacy).await, open(&upstream, Era::Legacy).await);
    assert_eq!(call(&one, "gone").carry_out(leave()).await.status, Status::Failed);
    assert!(one.closed().is_cancelled());
    assert_eq!(call(&one, "echo").carry_out(leave()).await.status, Status::NotStarted);
    assert_eq!(call(&two, "echo").carry_out(leave()).await.status, Status::Done);
    assert!(upstream.eras().legacy, "the gateway's own session is another");
    drop((one, two));
    seen.wait("delete /mcp", 1).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(seen.with("delete /mcp").len(), 1, "what the upstream ended is not ended again");
}

#[tokio::test]
async fn sessions_are_bounded() {
    let few = UpstreamLimits { sessions_max: 1, ..limits() };
    let (upstream, _) = raised_under(dual(plain), few, EraChoice::Legacy).await;
    let (one, _) = open(&upstream, Era::Legacy).await;
    let (said, _) = mpsc::channel(1);
    assert!(matches!(upstream.open(Era::Legacy, &hello(), said).await, Err(LinkError::Full)));
    one.close();
    for _ in 0..500 {
        let (said, _) = mpsc::channel(1);
        if upstream.open(Era::Legacy, &hello(), said).await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("no room was made");
}

#[tokio::test]
async fn a_question_on_a_stream_is_answered_on_its_session_while_the_request_lives() {
    let release = CancellationToken::new();
    let held = release.clone();
    let (upstream, seen) = raised(move |asked| match asked.tool().as_str() {
        "ask" => vec![
            stream(&event(r#"{"jsonrpc":"2.0","id":"q","method":"elicitation/create","params":{"m": 1.50}}"#)),
            Step::Wait(held.clone()),
            Step::Write(event(&asked.result("{}"))),
            Step::Close,
        ],
        _ => plain(asked),
    })
    .await;
    let (channel, mut heard) = open(&upstream, Era::Legacy).await;
    let (aside, mut said) = mpsc::channel(4);
    let running = tokio::spawn({
        let executor = call_with(&channel, "ask", Some(aside));
        async move { executor.carry_out(leave()).await.status }
    });
    let Some(Said::Question(question)) = said.recv().await else { panic!("no question") };
    question.answer(Answered::Error(Bytes::from_static(br#"{"code":-1,"message":"no" }"#)));
    seen.wait(r#"{"jsonrpc":"2.0","id":"q","error":{"code":-1,"message":"no" }}"#, 1).await;
    let answer = seen.with(r#""id":"q","error""#).remove(0);
    assert_eq!(answer.header("mcp-session-id").as_deref(), Some("s-1"));
    assert_eq!(answer.header("x-key").as_deref(), Some("action"), "what the action's permit opens");
    release.cancel();
    assert_eq!(running.await.unwrap(), Status::Done);
    assert!(heard.try_recv().is_err(), "it belongs to the request");
}

#[tokio::test]
async fn a_killed_call_answers_no_question_any_more() {
    let (upstream, seen) = raised(move |asked| match asked.tool().as_str() {
        "ask" => vec![stream(&event(r#"{"jsonrpc":"2.0","id":"q","method":"roots/list"}"#)), Step::Hang],
        _ => plain(asked),
    })
    .await;
    let (channel, _) = open(&upstream, Era::Legacy).await;
    let (aside, mut said) = mpsc::channel(4);
    let leave = leave();
    let running = tokio::spawn({
        let (executor, leave) = (call_with(&channel, "ask", Some(aside)), leave.clone());
        async move { executor.carry_out(leave).await }
    });
    let Some(Said::Question(question)) = said.recv().await else { panic!("no question") };
    leave.killed.cancel();
    assert_eq!(running.await.unwrap().status, Status::Unknown);
    question.answer(Answered::Result(Bytes::from_static(b"{}")));
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(seen.with(r#""id":"q""#).is_empty(), "no byte after the effect is over");
    assert_eq!((seen.broken("ask"), seen.with("notifications/cancelled").len()), (1, 1));
}

/// In the modern era the closed stream is the word: no message follows it.
#[tokio::test]
async fn a_modern_call_is_cancelled_by_closing_its_stream() {
    let (upstream, seen) = raised(|asked| match asked.tool().as_str() {
        "silent" => vec![Step::Hang],
        "busy" => vec![stream(": busy\n\n"), Step::Hang],
        _ => plain(asked),
    })
    .await;
    let (channel, _) = open(&upstream, Era::Modern).await;
    for (tool, how) in [("silent", 0), ("busy", 0), ("silent", 1), ("busy", 2)] {
        let (leave, before) = (leave(), seen.broken(tool));
        let running = tokio::spawn({
            let (executor, leave) = (call(&channel, tool), leave.clone());
            async move { executor.carry_out(leave).await }
        });
        seen.wait(&format!("\"{tool}\""), before + 1).await;
        match how {
            0 => leave.killed.cancel(),
            1 => leave.cancel.cancel(),
            _ => std::thread::spawn({
                let leave = leave.clone();
                move || leave.cut_now()
            })
            .join()
            .unwrap(),
        }
        assert_eq!(running.await.unwrap().status, Status::Unknown, "{tool}");
        until(|| seen.broken(tool) == before + 1, "the end of the connection").await;
        assert_eq!(Arc::strong_count(&leave.alive), 1, "the effect is over");
    }
    assert!(seen.with("notifications/cancelled").is_empty());
    let stopped = leave();
    stopped.killed.cancel();
    assert_eq!(call(&channel, "never").carry_out(stopped).await.status, Status::NotStarted);
    assert!(seen.with("never").is_empty());
}

#[tokio::test]
async fn a_modern_stream_of_notifications_lives_until_its_client_goes() {
    let release = CancellationToken::new();
    let held = release.clone();
    let script = dual(move |asked| match asked.method().as_str() {
        "subscriptions/listen" if asked.body.contains("mine") => vec![
            stream(&event(r#"{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged"}"#)),
            Step::Write(": keep-alive\n\n".to_owned()),
            Step::Write(event(r#"{"jsonrpc":"2.0","id":"odd","method":"roots/list"}"#)),
            Step::Write(event(r#"{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"n":1.50}}"#)),
            Step::Wait(held.clone()),
            Step::Write(event(r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#)),
            Step::Hang,
        ],
        _ => plain(asked),
    });
    let quick = UpstreamLimits { exchange_timeout: Duration::from_secs(1), ..limits() };
    let (upstream, seen) = raised_under(script, quick, EraChoice::Auto).await;
    let (channel, _) = open(&upstream, Era::Modern).await;
    let (aside, mut said) = mpsc::channel(8);
    let ended = CancellationToken::new();
    let listening = tokio::spawn({
        let (channel, ended) = (channel.clone(), ended.clone());
        let request = Outbound {
            aside: Some(aside),
            ..Outbound::plain("subscriptions/listen", Some(r#"{"notifications":{"mine":1}}"#.into()))
        };
        async move { channel.listen(&request, &ended).await }
    });
    assert_eq!(notification(&mut said).await["method"], "notifications/subscriptions/acknowledged");
    assert_eq!(notification(&mut said).await["params"]["n"], 1.5, "what is asked there is no question to anybody");
    // A listening stream outlives every timeout of requests.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let listed = seen.with("mcp-method: tools/list").len();
    release.cancel();
    assert_eq!(notification(&mut said).await["method"], "notifications/tools/list_changed");
    seen.wait("mcp-method: tools/list", listed + 1).await;
    ended.cancel();
    assert!(matches!(listening.await.unwrap(), Err(LinkError::Gone)));
    until(|| seen.broken("mine") == 1, "the end of the connection").await;
    assert!(seen.with("notifications/cancelled").is_empty() && seen.with("odd").is_empty());
}

#[tokio::test]
async fn a_broken_stream_is_resumed_from_where_it_broke_and_nothing_is_sent_twice() {
    let (upstream, seen) = raised(|asked| match (asked.tool().as_str(), asked.header("last-event-id").as_deref()) {
        ("break", _) => vec![stream("id: e1\nretry: 20\ndata: \n\n"), Step::Close],
        (_, Some("e1")) => {
            vec![stream("id: e2\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\"}\n\n"), Step::Close]
        }
        // Ids count up from 1 over all sessions; the call's is the last that was used.
        (_, Some("e2")) => vec![stream(&event(r#"{"jsonrpc":"2.0","id":ID,"result":{"r":1}}"#)), Step::Hang],
        ("lost", _) => {
            vec![stream("data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\"}\n\n"), Step::Close]
        }
        _ => plain(asked),
    })
    .await;
    let (channel, mut heard) = open(&upstream, Era::Legacy).await;
    // The script cannot know the id: an answer under another one is nobody's, so that this call ends without one.
    let never = call(&channel, "break");
    let ended = tokio::time::timeout(Duration::from_millis(600), never.carry_out(leave())).await;
    assert!(ended.is_err(), "it waits on the resumed stream");
    assert_eq!(seen.with("\"break\"").len(), 1, "a resumption repeats no request");
    let resumed = seen.with("last-event-id").remove(0);
    assert_eq!(
        (resumed.header("last-event-id").as_deref(), resumed.header("x-key").as_deref()),
        (Some("e1"), Some("action"))
    );
    assert_eq!(resumed.header("mcp-session-id").as_deref(), Some("s-1"));
    assert_eq!(notification(&mut heard).await["method"], "notifications/message");
    let lost = call(&channel, "lost").carry_out(leave()).await;
    assert_eq!(lost.status, Status::Unknown, "without an id there is nothing to go on from");
}

/// The answer on a resumed stream is the answer, and a kill severs the connection that is in use then.
#[tokio::test]
async fn a_resumed_stream_brings_the_answer_and_is_under_the_same_kill() {
    let id = Arc::new(std::sync::Mutex::new(Value::Null));
    let shared = Arc::clone(&id);
    let (upstream, seen) =
        raised(move |asked| match (asked.tool().as_str(), asked.header("last-event-id").as_deref()) {
            (tool @ ("answered" | "killed"), _) => {
                *shared.lock().unwrap() = asked.id();
                vec![stream(&format!("id: {tool}\nretry: 1\ndata:\n\n")), Step::Close]
            }
            (_, Some("answered")) => {
                let answer = json!({"jsonrpc": "2.0", "id": *shared.lock().unwrap(), "result": {"r": 1}});
                vec![stream(&event(&answer.to_string())), Step::Close]
            }
            (_, Some("killed")) => vec![stream("id: killed\nretry: 1\ndata:\n\n"), Step::Hang],
            _ => plain(asked),
        })
        .await;
    let (channel, _) = open(&upstream, Era::Legacy).await;
    let done = call(&channel, "answered").carry_out(leave()).await;
    assert_eq!((done.status, done.result), (Status::Done, b"{\"r\":1}".to_vec()));
    for cuts in [false, true] {
        let (leave, before) = (leave(), seen.with("last-event-id: killed").len());
        let running = tokio::spawn({
            let (executor, leave) = (call(&channel, "killed"), leave.clone());
            async move { executor.carry_out(leave).await }
        });
        seen.wait("last-event-id: killed", before + 1).await;
        // A stream that was cut is not resumed once more: the call ends by itself.
        if cuts {
            leave.cut_now()
        } else {
            leave.killed.cancel()
        }
        assert_eq!(running.await.unwrap().status, Status::Unknown);
        until(|| seen.broken("last-event-id: killed") == before + 1, "the end of the connection").await;
        assert_eq!(seen.with("last-event-id: killed").len(), before + 1);
    }
}

#[tokio::test]
async fn a_session_waits_for_its_own_stream_although_that_broke_first() {
    let turns = AtomicU32::new(0);
    let (upstream, seen) = raised(move |asked| {
        let is_clients = asked.is("get ") && asked.header("mcp-session-id").as_deref() == Some("s-1");
        match is_clients && turns.fetch_add(1, Ordering::Relaxed) == 0 {
            true => vec![Step::Close],
            false if is_clients => vec![stream(": second\n\n"), Step::Hang],
            false => plain(asked),
        }
    })
    .await;
    let (channel, _heard) = open(&upstream, Era::Legacy).await;
    assert_eq!(seen.with("mcp-session-id: s-1").iter().filter(|asked| asked.is("get ")).count(), 2);
    channel.close();
}

#[tokio::test]
async fn a_sessions_own_stream_is_opened_again_from_its_last_event() {
    let turns = AtomicU32::new(0);
    let (upstream, seen) = raised(move |asked| {
        let is_clients = asked.is("get ") && asked.header("mcp-session-id").as_deref() == Some("s-1");
        match (is_clients, turns.load(Ordering::Relaxed)) {
            (true, 0) => {
                turns.store(1, Ordering::Relaxed);
                let first = r#"{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"a"}}"#;
                vec![stream(&format!("retry: 5\nid: 7\n{}", event(first))), Step::Close]
            }
            (true, 1) => {
                turns.store(2, Ordering::Relaxed);
                let question = r#"{"jsonrpc":"2.0","id":3,"method":"sampling/createMessage"}"#;
                vec![stream(&event(question)), Step::Close]
            }
            (true, _) => vec![stream(": third\n\n"), Step::Hang],
            _ => plain(asked),
        }
    })
    .await;
    let (channel, mut heard) = open(&upstream, Era::Legacy).await;
    assert_eq!(notification(&mut heard).await["params"]["uri"], "a");
    let Some(Said::Question(question)) = heard.recv().await else { panic!("no question") };
    assert_eq!(seen.with("last-event-id").remove(0).header("last-event-id").as_deref(), Some("7"));
    seen.wait("last-event-id: 7", 2).await;
    question.answer(Answered::Result(Bytes::from_static(b"{}")));
    seen.wait(r#"{"jsonrpc":"2.0","id":3,"result":{}}"#, 1).await;
    let answer = seen.with(r#""id":3,"result""#).remove(0);
    assert_eq!(answer.header("x-key").as_deref(), Some("exchange"), "it belongs to no action");
    channel.close();
    until(|| seen.broken("last-event-id: 7") == 1, "the end of the stream").await;
}

#[tokio::test]
async fn a_stream_that_says_the_session_is_over_ends_the_channel() {
    let (upstream, _) = raised(|asked| match asked.header("mcp-session-id").as_deref() {
        Some("s-1") if asked.is("get ") => vec![Step::Write(reply("404 Not Found", "text/plain", ""))],
        _ => plain(asked),
    })
    .await;
    let (channel, _) = open(&upstream, Era::Legacy).await;
    channel.closed().cancelled().await;
}

#[tokio::test]
async fn endless_and_oversize_streams_end_the_call_and_nothing_else() {
    let quick = UpstreamLimits { call_timeout: Duration::from_millis(300), ..limits() };
    let script = dual(|asked| match asked.tool().as_str() {
        "endless" => vec![stream(&": tick\n\n".repeat(100)), Step::Hang],
        "event" => vec![stream("data: "), Step::Write("x".repeat(200_000)), Step::Hang],
        "body" => vec![Step::Write(reply("200 OK", "application/json", &"x".repeat(200_000)))],
        "flood" => vec![
            stream(&event(r#"{"jsonrpc":"2.0","method":"notifications/message","params":{}}"#).repeat(1000)),
            Step::Write(event(&asked.result("{}"))),
            Step::Close,
        ],
        "questions" => vec![
            stream(
                &(0..200)
                    .map(|n| event(&format!(r#"{{"jsonrpc":"2.0","id":{n},"method":"roots/list"}}"#)))
                    .collect::<String>(),
            ),
            Step::Write(event(&asked.result("{}"))),
            Step::Close,
        ],
        _ => plain(asked),
    });
    let (upstream, seen) = raised_under(script, quick, EraChoice::Auto).await;
    for era in [Era::Legacy, Era::Modern] {
        let (channel, _heard) = open(&upstream, era).await;
        for (tool, status) in [
            ("endless", Status::Unknown),
            ("event", Status::Unknown),
            ("body", Status::Unknown),
            ("flood", Status::Done),
            ("questions", Status::Done),
            ("echo", Status::Done),
        ] {
            let ended = call(&channel, tool).carry_out(leave()).await;
            assert_eq!(ended.status, status, "{era:?} {tool}: {:?}", ended.note);
        }
    }
    assert!(seen.broken("endless") == 2, "the connection of a call that ended late is closed");
}

#[tokio::test]
async fn a_slow_upstream_does_not_slow_another() {
    let (slow, _) = raised(|asked| if asked.tool() == "silent" { vec![Step::Hang] } else { plain(asked) }).await;
    let (quick, _) = raised(plain).await;
    let ((one, _), (two, _)) = (open(&slow, Era::Modern).await, open(&quick, Era::Modern).await);
    let leave_slow = leave();
    let stuck: Vec<_> = (0..32)
        .map(|_| {
            let (executor, leave) = (call(&one, "silent"), leave_slow.clone());
            tokio::spawn(async move { executor.carry_out(leave).await.status })
        })
        .collect();
    for _ in 0..32 {
        assert_eq!(call(&two, "echo").carry_out(leave()).await.status, Status::Done);
    }
    assert!(stuck.iter().all(|task| !task.is_finished()));
    leave_slow.killed.cancel();
    for task in stuck {
        assert_eq!(task.await.unwrap(), Status::Unknown);
    }
}

#[tokio::test]
async fn results_say_which_kind_they_are() {
    let (upstream, _) = raised(|asked| match asked.tool().as_str() {
        "fail" => vec![Step::Write(reply(
            "404 Not Found",
            "application/json",
            &format!(r#"{{"jsonrpc":"2.0","id":{},"error":{{"code":-32601,"message":"m"}}}}"#, asked.id()),
        ))],
        "" => plain(asked),
        kind => asked.json(&format!(r#"{{"resultType":"{kind}"}}"#)),
    })
    .await;
    let (channel, _) = open(&upstream, Era::Modern).await;
    for (tool, kind, status, ended) in [
        ("complete", Kind::Complete, 200, Status::Done),
        ("input_required", Kind::InputRequired, 200, Status::InputRequired),
        ("task", Kind::Task, 200, Status::Unknown),
        ("future", Kind::Other, 200, Status::Done),
        ("fail", Kind::Other, 404, Status::Failed),
    ] {
        let executed = call(&channel, tool).carry_out(leave()).await;
        let reply = executed.reply.unwrap();
        assert_eq!((reply.kind(), reply.status(), executed.status), (kind, Some(status), ended), "{tool}");
    }
    assert!(upstream.eras().modern, "an error of the protocol is no sign of another era");
}

/// What one client brings about does not take the upstream from the others; what the upstream says itself does.
#[tokio::test]
async fn an_upstream_that_leaves_the_modern_era_is_asked_again() {
    let over = Arc::new(AtomicBool::new(false));
    let is_over = Arc::clone(&over);
    let bare = || vec![Step::Write(reply("405 Method Not Allowed", "text/html", ""))];
    let both = dual(move |asked| if asked.tool() == "gone" { bare() } else { plain(asked) });
    let script: Script = Arc::new(move |asked| match is_over.load(Ordering::Relaxed) {
        true if asked.header("mcp-method").is_some() => bare(),
        _ => both(asked),
    });
    let (upstream, seen) = raised_under(script, limits(), EraChoice::Auto).await;
    let (channel, _) = open(&upstream, Era::Modern).await;
    assert_eq!(call(&channel, "gone").carry_out(leave()).await.status, Status::Failed);
    seen.wait("server/discover", 2).await;
    assert_eq!(call(&channel, "echo").carry_out(leave()).await.status, Status::Done);
    assert_eq!(seen.with("\"initialize\"").len(), 1, "it was never down");
    over.store(true, Ordering::Relaxed);
    // The first question may still be under way.
    for _ in 0..1000 {
        call(&channel, "gone").carry_out(leave()).await;
        if !upstream.eras().modern && upstream.eras().legacy {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!((upstream.eras().legacy, upstream.eras().modern), (true, false));
    let ended = call(&channel, "echo").carry_out(leave()).await;
    assert_eq!(ended.status, Status::NotStarted, "{:?}", ended.note);
}

#[tokio::test]
async fn a_unix_socket_is_as_good_as_a_port_and_under_the_same_kill() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mcp.sock");
    let seen = serve_unix(&path, dual(|asked| if asked.tool() == "silent" { vec![Step::Hang] } else { plain(asked) }));
    let url = Url::new(&format!("unix:{}:/mcp?x=1", path.display())).unwrap();
    let upstream = Upstream::connect(UpstreamConfig::http(id(), url, None).with_limits(limits())).await.unwrap();
    for era in [Era::Legacy, Era::Modern] {
        let (channel, _) = open(&upstream, era).await;
        assert_eq!(call(&channel, "echo").carry_out(leave()).await.status, Status::Done);
        for cuts in [false, true] {
            let (leave, before) = (leave(), seen.broken("silent"));
            let running = tokio::spawn({
                let (executor, leave) = (call(&channel, "silent"), leave.clone());
                async move { executor.carry_out(leave).await }
            });
            seen.wait("silent", before + 1).await;
            if cuts {
                leave.cut_now()
            } else {
                leave.killed.cancel()
            }
            assert_eq!(running.await.unwrap().status, Status::Unknown);
            until(|| seen.broken("silent") == before + 1, "the end of the connection").await;
        }
    }
    assert!(seen.all().iter().all(|asked| asked.header("host").as_deref() == Some("localhost")));
    assert!(seen.with("\"echo\"").iter().all(|asked| asked.is("post /mcp?x=1 ")));
}

/// Whoever opens a session and goes away before it is open leaves none behind, at any step.
#[tokio::test]
async fn a_session_that_nobody_waits_for_any_more_is_ended() {
    let (upstream, seen) = raised(|asked| match asked.header("mcp-session-id").as_deref() {
        // The gateway's own session is offered no stream; a client's never hears whether it is.
        Some("s-0") => plain(asked),
        _ if asked.is("get ") => vec![Step::Hang],
        _ => plain(asked),
    })
    .await;
    let places = upstream.shared.sessions.available_permits();
    let opening = tokio::spawn({
        let upstream = upstream.clone();
        async move { open(&upstream, Era::Legacy).await }
    });
    until(|| seen.with("mcp-session-id: s-1").iter().any(|asked| asked.is("get ")), "its stream").await;
    opening.abort();
    until(
        || seen.with("delete ").iter().any(|asked| asked.header("mcp-session-id").as_deref() == Some("s-1")),
        "the end",
    )
    .await;
    until(|| seen.broken("get ") == 1, "the end of its stream").await;
    until(|| upstream.shared.sessions.available_permits() == places, "its place").await;
}

#[tokio::test]
async fn an_answer_that_is_over_is_not_sent_whichever_stream_it_came_up_on() {
    let asks = event(r#"{"jsonrpc":"2.0","id":"q","method":"roots/list"}"#);
    let own = asks.clone();
    let (upstream, seen) = raised(move |asked| match (asked.tool().as_str(), asked.is("get ")) {
        ("asks", _) => vec![stream(&asks), Step::Hang],
        (_, true) if asked.header("mcp-session-id").as_deref() == Some("s-1") => vec![stream(&own), Step::Hang],
        _ if asked.body.contains("slow") => vec![Step::Hang],
        _ => plain(asked),
    })
    .await;
    let (channel, mut heard) = open(&upstream, Era::Legacy).await;
    let (aside, mut said) = mpsc::channel(8);
    let _running = tokio::spawn({
        let executor = call_with(&channel, "asks", Some(aside));
        async move { executor.carry_out(leave()).await.status }
    });
    let taken = async |ears: &mut mpsc::Receiver<Said>| match ears.recv().await {
        Some(Said::Question(question)) => question,
        other => panic!("{other:?}"),
    };
    let answer = |word: &str| Answered::Result(format!(r#"{{"roots":["{word}"]}}"#).into());
    let over = CancellationToken::new();
    let giving = tokio::spawn(taken(&mut heard).await.deliver(answer("slow"), over.clone()));
    seen.wait("slow", 1).await;
    over.cancel();
    assert!(!giving.await.unwrap());
    until(|| seen.broken("slow") == 1, "the end of its connection").await;
    assert!(!taken(&mut said).await.deliver(answer("never"), over).await);
    assert!(seen.with("never").is_empty());
}
