//! The kill discipline and the bookkeeping of ids, against a scripted upstream over a pipe of known size.

use std::time::Duration;

use bytes::Bytes;
use countersign_gate::call::Executed;
use countersign_model::Digest;
use countersign_model::id::ToolName;
use countersign_model::record::Status;
use serde_json::Value;
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::outbound::{Outbound, Progress};
use super::testing::{Seen, TestLeave, action, pipe};
use super::{Executor, Kind, Reply, Upstream};
use crate::mcp::config::UpstreamLimits;
use crate::mcp::wire::Era;

fn limits() -> UpstreamLimits {
    UpstreamLimits {
        call_timeout: Duration::from_secs(5),
        exchange_timeout: Duration::from_secs(5),
        backoff_min: Duration::from_millis(10),
        ..UpstreamLimits::default()
    }
}

fn executor(upstream: &Upstream, tool: &str) -> Executor {
    let params = format!(r#"{{ "name" : "{tool}", "arguments":{{"a":1.50}} }}"#);
    action(upstream, params.into(), None)
}

fn leave() -> TestLeave {
    TestLeave::new(CancellationToken::new())
}

async fn run(upstream: &Upstream, tool: &str) -> Executed<Reply> {
    executor(upstream, tool).carry_out(leave()).await
}

/// The number of holders of a leave that is not in flight any more: the test's own.
fn is_over(leave: &TestLeave) -> bool {
    std::sync::Arc::strong_count(&leave.alive) == 1
}

#[tokio::test]
async fn the_handshake_lists_every_page_and_hashes_raw_definitions() {
    let (upstream, seen) = Upstream::scripted(limits()).await.unwrap();
    let names: Vec<String> = upstream.manifests().iter().map(|(name, _)| name.to_string()).collect();
    assert_eq!(names, ["echo", "second-page", "typed"]);
    let raw = br#"{"name":"echo" , "inputSchema":{"type":"object"},"unknown":1e2}"#;
    let echo = ToolName::new("echo").unwrap();
    assert_eq!(upstream.manifest(&echo), Some(Digest::of("countersign tool v1", &[raw])));
    assert!(upstream.listed(&ToolName::new("typed").unwrap()).unwrap().output_schema);
    assert_eq!(upstream.manifest(&ToolName::new("other").unwrap()), None);
    let handshake = upstream.hello(Era::Legacy).unwrap();
    assert_eq!(handshake.version(), "2025-06-18");
    assert_eq!(
        std::str::from_utf8(&handshake.governed()).unwrap(),
        r#"{"protocolVersion":"2025-06-18","capabilities":{"tools":{"listChanged":true}},"serverInfo":{"name":"s","version":"1"},"future": 1.50}"#
    );
    assert!(seen.all()[0].contains(r#""capabilities":{}"#));
    assert!(seen.all()[1].contains("notifications/initialized"));
}

#[tokio::test]
async fn parameters_and_results_pass_byte_for_byte() {
    let (upstream, seen) = Upstream::scripted(limits()).await.unwrap();
    let done = run(&upstream, "echo").await;
    assert_eq!((done.status, done.note), (Status::Done, None));
    assert_eq!(done.result, br#"{"content":[], "n": 1e2,"args":{"a":1.5}}"#);
    let sent = seen.with("tools/call");
    assert!(sent[0].ends_with(r#""params":{ "name" : "echo", "arguments":{"a":1.50} }}"#), "{sent:?}");
    assert_eq!(done.bytes_sent, sent[0].len() as u64 + 1);
}

#[tokio::test]
async fn an_answer_says_how_it_ended() {
    let (upstream, _) = Upstream::scripted(limits()).await.unwrap();
    for (tool, status, replied) in [
        ("echo", Status::Done, true),
        ("fail", Status::Failed, true),
        ("tool_error", Status::Failed, true),
        ("scalar", Status::Unknown, true),
    ] {
        let ended = run(&upstream, tool).await;
        assert_eq!((ended.status, ended.reply.is_some()), (status, replied), "{tool}");
    }
}

#[tokio::test]
async fn a_leave_that_is_stopped_sends_nothing() {
    let (upstream, seen) = Upstream::scripted(limits()).await.unwrap();
    for killed in [true, false] {
        let leave = leave();
        if killed {
            leave.killed.cancel()
        } else {
            leave.cancel.cancel()
        }
        let ended = executor(&upstream, "echo").carry_out(leave).await;
        assert_eq!((ended.status, ended.bytes_sent), (Status::NotStarted, 0));
    }
    assert!(seen.with("tools/call").is_empty());
}

#[tokio::test]
async fn a_kill_in_flight_tells_the_upstream_once_and_then_nothing() {
    let (upstream, seen) = Upstream::scripted(limits()).await.unwrap();
    let leave = leave();
    let calling = tokio::spawn({
        let (executor, leave) = (executor(&upstream, "silent"), leave.clone());
        async move { executor.carry_out(leave).await }
    });
    seen.wait("silent").await;
    leave.killed.cancel();
    let ended = calling.await.unwrap();
    assert_eq!((ended.status, ended.note.as_deref()), (Status::Unknown, Some("stopped by the kill switch")));
    seen.wait("notifications/cancelled").await;
    let count = seen.all().len();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(seen.all().len(), count, "no byte after the effect is over");
    assert_eq!(seen.with("notifications/cancelled").len(), 1);
    assert!(is_over(&leave));
    assert!(!seen.killed.is_cancelled(), "the pipe is whole, so the child lives");
    assert_eq!(run(&upstream, "echo").await.status, Status::Done);
}

#[tokio::test]
async fn a_line_that_is_cut_half_way_kills_the_child() {
    let (upstream, seen) = (Upstream::unopened(limits()), Seen::default());
    let (pipe, mut far) = pipe(16, &seen, &upstream);
    let leave = leave();
    let calling = tokio::spawn({
        let (pipe, leave) = (pipe.clone(), leave.clone());
        async move { pipe.call(leave, (&Outbound::plain("tools/call", Some(Bytes::from_static(b"{}"))), 1)).await }
    });
    while !leave.has_begun() {
        tokio::task::yield_now().await;
    }
    let waiting = tokio::spawn({
        let (pipe, other) = (pipe.clone(), self::leave());
        async move { pipe.call(other, (&Outbound::plain("tools/call", None), 1)).await }
    });
    tokio::time::sleep(Duration::from_millis(20)).await;
    leave.killed.cancel();
    let ended = calling.await.unwrap();
    assert_eq!((ended.status, ended.bytes_sent), (Status::Unknown, 16));
    assert!(seen.killed.is_cancelled());
    assert_eq!(waiting.await.unwrap().status, Status::NotStarted);
    let mut arrived = vec![0; 64];
    let count = far.read(&mut arrived).await.unwrap();
    assert_eq!(count, 16, "nothing after the cut");
}

#[tokio::test]
async fn a_queued_call_gives_up_its_place_without_a_byte() {
    let (upstream, seen) = (Upstream::unopened(limits()), Seen::default());
    let (pipe, _far) = pipe(16, &seen, &upstream);
    let first = leave();
    let holding = tokio::spawn({
        let (pipe, first) = (pipe.clone(), first.clone());
        async move { pipe.call(first, (&Outbound::plain("tools/call", None), 1)).await }
    });
    while !first.has_begun() {
        tokio::task::yield_now().await;
    }
    let queued = leave();
    let waiting = tokio::spawn({
        let (pipe, queued) = (pipe.clone(), queued.clone());
        async move { pipe.call(queued, (&Outbound::plain("tools/call", None), 1)).await }
    });
    tokio::time::sleep(Duration::from_millis(20)).await;
    queued.cancel.cancel();
    assert_eq!(waiting.await.unwrap().status, Status::NotStarted);
    assert!(!queued.has_begun());
    first.killed.cancel();
    holding.await.unwrap();
}

#[tokio::test]
async fn a_cut_ends_the_call_and_the_child() {
    let (upstream, seen) = Upstream::scripted(limits()).await.unwrap();
    let leave = leave();
    let calling = tokio::spawn({
        let (executor, leave) = (executor(&upstream, "silent"), leave.clone());
        async move { executor.carry_out(leave).await }
    });
    seen.wait("silent").await;
    leave.cut_now();
    assert_eq!(calling.await.unwrap().status, Status::Unknown);
    assert!(seen.killed.is_cancelled());
    let after = run(&upstream, "echo").await;
    assert_eq!(after.status, Status::NotStarted, "{:?}", after.note);
}

#[tokio::test]
async fn a_late_answer_is_dropped_and_ids_are_never_used_again() {
    let quick = UpstreamLimits { call_timeout: Duration::from_millis(100), ..limits() };
    let (upstream, seen) = Upstream::scripted(quick).await.unwrap();
    let late = run(&upstream, "hold").await;
    assert_eq!(late.status, Status::Unknown);
    seen.release.cancel();
    let done = run(&upstream, "echo").await;
    assert_eq!(done.status, Status::Done, "the late answer went to nobody");
    let mut ids: Vec<i64> = seen
        .all()
        .iter()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["id"].as_i64())
        .collect();
    let count = ids.len();
    ids.dedup();
    assert_eq!(ids.len(), count);
}

#[tokio::test]
async fn progress_comes_back_under_the_clients_token() {
    let (upstream, seen) = Upstream::scripted(limits()).await.unwrap();
    let params = r#"{"name":"progress","_meta":{"progressToken": "tok\u0065n" ,"k":1}}"#;
    let start = params.find(r#""tok"#).unwrap();
    let token = r#""tok\u0065n""#;
    let (events, mut received) = mpsc::channel(8);
    let progress = Progress::new(start..start + token.len(), token.into(), events);
    let executor = action(&upstream, params.into(), Some(progress));
    assert_eq!(executor.carry_out(leave()).await.status, Status::Done);
    let sent = &seen.with("tools/call")[0];
    assert!(!sent.contains("tok\\u0065n") && sent.contains(r#" ,"k":1}"#), "{sent}");
    for step in [1, 2] {
        let event = received.recv().await.unwrap();
        let expected = format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progress":{step}.0,"progressToken":{token},"x": 1}}}}"#
        );
        assert_eq!(std::str::from_utf8(&event).unwrap(), expected);
    }
}

#[tokio::test]
async fn a_full_progress_queue_does_not_hold_up_the_upstream() {
    let (upstream, _) = Upstream::scripted(limits()).await.unwrap();
    let (events, _received) = mpsc::channel(1);
    let params = r#"{"name":"progress","_meta":{"progressToken":7}}"#;
    let start = params.find('7').unwrap();
    let progress = Progress::new(start..start + 1, "7".into(), events);
    let executor = action(&upstream, params.into(), Some(progress));
    assert_eq!(executor.carry_out(leave()).await.status, Status::Done);
}

#[tokio::test]
async fn the_upstreams_own_requests_are_answered_or_refused() {
    let (upstream, seen) = Upstream::scripted(limits()).await.unwrap();
    assert_eq!(run(&upstream, "asks").await.status, Status::Done);
    seen.wait("q2").await;
    assert_eq!(seen.with("q1"), [r#"{"jsonrpc":"2.0","id":"q1","result":{}}"#]);
    assert!(seen.with("q2")[0].contains("-32601"));
}

#[tokio::test]
async fn a_changed_listing_is_listed_again_before_clients_hear_of_it() {
    let (upstream, seen) = Upstream::scripted(limits()).await.unwrap();
    let mut changes = upstream.changes();
    let before = seen.with("tools/list").len();
    run(&upstream, "changed").await;
    let frame = changes.recv().await.unwrap();
    assert_eq!(&frame[..], br#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#);
    assert_eq!(seen.with("\"tools/list\"").len(), before + 2);
}

#[tokio::test]
async fn too_many_in_flight_start_nothing() {
    let few = UpstreamLimits { in_flight_max: 1, ..limits() };
    let (upstream, seen) = Upstream::scripted(few).await.unwrap();
    let leave = leave();
    let calling = tokio::spawn({
        let (executor, leave) = (executor(&upstream, "silent"), leave.clone());
        async move { executor.carry_out(leave).await }
    });
    seen.wait("silent").await;
    assert_eq!(run(&upstream, "echo").await.status, Status::NotStarted);
    leave.cancel.cancel();
    assert_eq!(calling.await.unwrap().note.as_deref(), Some("cancelled by the caller"));
}

/// The record commits to what the upstream said; the agent gets it without secrets, and no word meanwhile.
#[tokio::test]
async fn under_redaction_no_secret_passes() {
    let (upstream, _seen) = Upstream::scripted(limits()).await.unwrap();
    let leave = || TestLeave { redacts: true, ..leave() };
    let secret = "AKIAIOSFODNN7EXAMPLE";
    let params = r#"{"name":"progress","_meta":{"progressToken":7}}"#;
    let start = params.find('7').unwrap();
    let (events, mut received) = mpsc::channel(8);
    let progress = Progress::new(start..start + 1, "7".into(), events);
    let ended = action(&upstream, params.into(), Some(progress)).carry_out(leave()).await;
    assert_eq!((ended.status, ended.redacted), (Status::Done, true));
    assert!(received.try_recv().is_err(), "what an upstream says meanwhile is not redacted, so it is not handed on");
    let params = format!(r#"{{"name":"echo","arguments":{{"key":"is {secret}"}}}}"#);
    let ended = action(&upstream, params.into(), None).carry_out(leave()).await;
    let reply = ended.reply.unwrap();
    assert!(String::from_utf8_lossy(&ended.result).contains(secret), "{:?}", ended.result);
    let shown = String::from_utf8(reply.raw().to_vec()).unwrap();
    assert!(shown.contains("[redacted:aws-access-key]") && !shown.contains(secret), "{shown}");
    assert_eq!(reply.frame().bytes().windows(secret.len()).filter(|part| *part == secret.as_bytes()).count(), 0);
    // A task's result would come past it.
    let task = action(&upstream, r#"{"name":"echo","task":{}}"#.into(), None).carry_out(leave()).await;
    assert_eq!((task.status, task.reply.is_none()), (Status::NotStarted, true));
    let task = executor(&upstream, "task").carry_out(leave()).await;
    assert_eq!((task.status, task.reply.is_none()), (Status::Unknown, true), "{task:?}");
    let plain = executor(&upstream, "echo").carry_out(leave()).await;
    assert_eq!(plain.reply.unwrap().raw(), plain.result, "what holds no secret passes byte for byte");
}

/// The task ids that the upstream was told to end.
async fn told_to_end(seen: &Seen, count: usize) -> Vec<String> {
    let told = || seen.with("tasks/cancel");
    let _ = tokio::time::timeout(Duration::from_secs(20), async {
        while told().len() < count {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let id = |message: &String| serde_json::from_str::<Value>(message).unwrap()["params"]["taskId"].clone();
    told().iter().map(|message| id(message).as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_kill_tells_the_upstream_of_the_tasks_that_go_on() {
    let (upstream, seen) = Upstream::scripted(limits()).await.unwrap();
    let (covered, other) = (leave(), leave());
    for leave in [&covered, &other] {
        let task = executor(&upstream, "task").carry_out(leave.clone()).await;
        assert!(task.reply.is_some_and(|reply| reply.kind() == Kind::Task));
        assert_eq!(executor(&upstream, "echo").carry_out(leave.clone()).await.status, Status::Done);
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(seen.with("tasks/cancel").is_empty(), "nobody is killed");
    covered.killed.cancel();
    assert_eq!(told_to_end(&seen, 1).await, ["t1"]);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(seen.with("tasks/cancel").len(), 1, "of the task of who is killed, once, and of nothing else");
}

#[tokio::test]
async fn a_task_that_nobody_is_handed_is_told_to_end() {
    let (upstream, seen) = Upstream::scripted(limits()).await.unwrap();
    let task = executor(&upstream, "task").carry_out(TestLeave { redacts: true, ..leave() }).await;
    assert!(task.reply.is_none());
    assert_eq!(told_to_end(&seen, 1).await, ["t1"]);
}

#[tokio::test]
async fn what_cannot_be_watched_over_is_told_to_end() {
    let (upstream, seen) = Upstream::scripted(limits()).await.unwrap();
    let places = upstream.watching();
    let all = places.acquire_many(u32::try_from(super::aftermath::WATCHED_MAX).unwrap()).await.unwrap();
    executor(&upstream, "task").carry_out(leave()).await;
    assert_eq!(told_to_end(&seen, 1).await, ["t1"]);
    drop(all);
    executor(&upstream, "task").carry_out(leave()).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(seen.with("tasks/cancel").len(), 1);
    executor(&upstream, "endless_task").carry_out(leave()).await;
    assert_eq!(told_to_end(&seen, 2).await[1].len(), 100_000);
}

#[tokio::test]
async fn a_permit_of_another_upstream_opens_nothing() {
    let (upstream, seen) = Upstream::scripted(limits()).await.unwrap();
    let mut leave = leave();
    leave.upstream = countersign_model::id::UpstreamId::new("other").unwrap();
    let ended = executor(&upstream, "echo").carry_out(leave).await;
    assert_eq!(ended.status, Status::NotStarted);
    assert!(seen.with("tools/call").is_empty());
}

#[tokio::test]
async fn a_child_that_does_not_start_is_an_error() {
    let error = Upstream::connect(super::testing::config(limits())).await.unwrap_err();
    assert!(error.to_string().contains("/nonexistent/mcp-server"), "{error}");
}

#[test]
fn the_token_in_a_frame_is_the_requests_own_id() {
    let (events, _received) = mpsc::channel(1);
    let progress = Progress { token: "\"x\"".into(), span: 26..29, is_muted: false, events };
    let params = Bytes::from_static(br#"{"_meta":{"progressToken":"x"}}"#);
    let outbound = Outbound { progress: Some(progress), ..Outbound::plain("tools/call", Some(params)) };
    let frame = String::from_utf8(outbound.frame(41)).unwrap();
    assert_eq!(frame, r#"{"jsonrpc":"2.0","id":41,"method":"tools/call","params":{"_meta":{"progressToken":41}}}"#);
}

#[tokio::test]
async fn the_effect_lives_until_the_upstream_was_told() {
    let (upstream, seen) = (Upstream::unopened(limits()), Seen::default());
    let line = b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\"}\n";
    for reads in [true, false] {
        // The call fills the buffer, so that the cancellation cannot be written before someone reads.
        let (pipe, mut far) = pipe(line.len(), &seen, &upstream);
        let leave = leave();
        let calling = tokio::spawn({
            let (pipe, leave) = (pipe.clone(), leave.clone());
            async move { pipe.call(leave, (&Outbound::plain("tools/call", None), 1)).await }
        });
        while !leave.has_begun() {
            tokio::task::yield_now().await;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        leave.killed.cancel();
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(!is_over(&leave), "the kill is not acknowledged yet");
        let mut arrived = Vec::new();
        if reads {
            while !arrived.ends_with(b"}\n") || arrived.len() == line.len() {
                far.read_buf(&mut arrived).await.unwrap();
            }
            assert!(arrived.starts_with(line));
            let text = String::from_utf8(arrived).unwrap();
            assert!(text.contains(r#"{"requestId":1,"reason":"stopped by the kill switch"}"#), "{text}");
        }
        let ended = tokio::time::timeout(Duration::from_millis(500), calling).await.expect("bounded").unwrap();
        assert_eq!((ended.status, ended.bytes_sent), (Status::Unknown, line.len() as u64));
        assert!(is_over(&leave));
    }
}
