//! What a process says after a call that is over, and what one client asks of a process that others share.

use super::*;

fn ask(id: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": "elicitation/create", "params": {"message": "delete it?"}})
}

fn log(data: &str) -> Value {
    json!({"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": data}})
}

fn answer(id: &Value, result: &Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "result": result})
}

/// Gives a call up once the upstream has it; gives its id there.
async fn given_up(far: &Far, executor: Executor, part: &str) -> Value {
    let leave = TestLeave::new(CancellationToken::new());
    let running = tokio::spawn({
        let leave = leave.clone();
        async move { executor.carry_out(leave).await.status }
    });
    let id = far.heard(part).await["id"].clone();
    leave.cancel.cancel();
    assert_eq!(running.await.unwrap(), Status::Unknown);
    id
}

/// What is said now reaches nobody, and a question is refused.
async fn nobody_hears(far: &Far, word: &str, ears: &mut [&mut mpsc::Receiver<Said>]) {
    far.say(&log(word)).await;
    far.say(&ask(word)).await;
    assert_eq!(far.heard(&format!("\"{word}\"")).await["error"]["code"], -32601, "{word}");
    assert!(ears.iter_mut().all(|ears| ears.try_recv().is_err()), "{word}");
}

/// What is said now reaches this client.
async fn hears(far: &Far, word: &str, ears: &mut mpsc::Receiver<Said>) {
    far.say(&log(word)).await;
    assert_eq!(notification(ears).await["params"]["data"], word);
}

#[tokio::test]
async fn what_comes_late_of_one_clients_call_is_not_anothers() {
    let (upstream, far) = legacy().await;
    let ((one, mut hers), (two, mut his)) = (open(&upstream, Era::Legacy).await, open(&upstream, Era::Legacy).await);
    let late = given_up(&far, action(&one, "tools/call", r#"{"name":"one"}"#), "\"one\"").await;
    let (running, id) = begun(&far, action(&two, "tools/call", r#"{"name":"two"}"#), "\"two\"").await;
    nobody_hears(&far, "either", &mut [&mut hers, &mut his]).await;
    // Even when its client is gone, it is nobody else's.
    drop((one, hers));
    nobody_hears(&far, "gone", &mut [&mut his]).await;
    far.say(&answer(&late, &json!({}))).await;
    hears(&far, "after", &mut his).await;
    far.say(&answer(&id, &json!({}))).await;
    assert_eq!(running.await.unwrap(), Status::Done);
}

/// An exchange that timed out and one that was stopped by a full stop are no different.
#[tokio::test]
async fn an_exchange_that_timed_out_is_not_over_for_the_upstream() {
    let quick = UpstreamLimits { exchange_timeout: Duration::from_millis(100), ..limits() };
    let (upstream, far) = raised(config(quick), false).await;
    let ((one, mut hers), (two, mut his)) = (open(&upstream, Era::Legacy).await, open(&upstream, Era::Legacy).await);
    let asked = one.exchange(&Outbound::plain("tasks/result", Some(r#"{"taskId":"t"}"#.into()))).await;
    assert!(matches!(asked, Err(LinkError::Timeout)));
    let (_running, _) = begun(&far, action(&two, "tools/call", r#"{"name":"two"}"#), "\"two\"").await;
    nobody_hears(&far, "either", &mut [&mut hers, &mut his]).await;
}

#[tokio::test]
async fn a_task_goes_on_until_it_says_that_it_has_ended() {
    let related = json!({"io.modelcontextprotocol/related-task": {"taskId": "t"}});
    for (word, end) in [
        ("status", json!({"method": "notifications/tasks/status", "params": {"taskId": "t", "status": "completed"}})),
        ("get", json!({"result": {"taskId": "t", "status": "cancelled"}})),
        ("result", json!({"result": {"content": [], "_meta": related}})),
    ] {
        let (upstream, far) = legacy().await;
        let ((one, mut hers), (two, mut his)) =
            (open(&upstream, Era::Legacy).await, open(&upstream, Era::Legacy).await);
        let (running, id) = begun(&far, action(&one, "tools/call", r#"{"name":"one"}"#), "\"one\"").await;
        far.say(&answer(&id, &json!({"task": {"taskId": "t", "status": "working"}}))).await;
        assert_eq!(running.await.unwrap(), Status::Unknown);
        // With nothing else in flight it is its client's.
        hears(&far, "of the task", &mut hers).await;
        let (_running, _) = begun(&far, action(&two, "tools/call", r#"{"name":"two"}"#), "\"two\"").await;
        nobody_hears(&far, "either", &mut [&mut hers, &mut his]).await;
        let mut end = end.clone();
        end["jsonrpc"] = json!("2.0");
        if end["method"].is_null() {
            let asking = tokio::spawn({
                let one = one.clone();
                async move { one.exchange(&Outbound::plain("tasks/get", Some(r#"{"taskId":"t"}"#.into()))).await }
            });
            end["id"] = far.heard("tasks/get").await["id"].clone();
            far.say(&end).await;
            asking.await.unwrap().unwrap();
        } else {
            far.say(&end).await;
        }
        hears(&far, word, &mut his).await;
    }
}

#[tokio::test]
async fn on_a_modern_pipe_what_comes_late_is_in_no_other_requests_stream() {
    let (upstream, far) = raised(config(limits()).with_era(EraChoice::Modern), true).await;
    let (one, mut hears) = open(&upstream, Era::Modern).await;
    let late = given_up(&far, action(&one, "tools/call", r#"{"name":"one"}"#), "\"one\"").await;
    let (aside, mut events) = mpsc::channel(4);
    let request = Outbound { aside: Some(aside), ..Outbound::plain("tools/call", Some(r#"{"name":"two"}"#.into())) };
    let (_running, _) = begun(&far, Executor::new(one.clone(), request), "\"two\"").await;
    far.say(&log("of the first")).await;
    assert_eq!(notification(&mut hears).await["params"]["data"], "of the first");
    far.say(&answer(&late, &json!({}))).await;
    far.say(&log("of the second")).await;
    assert_eq!(notification(&mut events).await["params"]["data"], "of the second");
    assert!(hears.try_recv().is_err());
}

#[tokio::test]
async fn one_client_does_not_turn_off_the_log_of_another() {
    let (upstream, far) = legacy().await;
    let ((one, mut hers), (two, mut his)) = (open(&upstream, Era::Legacy).await, open(&upstream, Era::Legacy).await);
    let set = async |channel: &Channel, level: &str| {
        let params = json!({ "level": level }).to_string();
        channel.exchange(&Outbound::plain("logging/setLevel", Some(params.into()))).await
    };
    let levels = || -> Vec<String> {
        let told = far.seen.with("logging/setLevel");
        told.iter().map(|line| serde_json::from_str::<Value>(line).unwrap()["params"]["level"].to_string()).collect()
    };
    let say = async |level: &str| {
        let params = json!({"level": level, "data": level});
        far.say(&json!({"jsonrpc": "2.0", "method": "notifications/message", "params": params})).await;
    };
    assert_eq!(&set(&two, "emergency").await.unwrap().raw()[..], b"{}");
    assert_eq!(levels(), ["\"info\""], "a process is never told to say less");
    let (running, id) = begun(&far, action(&one, "tools/call", r#"{"name":"one"}"#), "\"one\"").await;
    say("info").await;
    assert_eq!(notification(&mut hers).await["params"]["data"], "info");
    set(&one, "debug").await.unwrap();
    set(&one, "debug").await.unwrap();
    assert_eq!(levels(), ["\"info\"", "\"debug\""], "what is known is not said again");
    say("debug").await;
    assert_eq!(notification(&mut hers).await["params"]["data"], "debug");
    far.say(&answer(&id, &json!({}))).await;
    running.await.unwrap();
    let (_running, _) = begun(&far, action(&two, "tools/call", r#"{"name":"two"}"#), "\"two\"").await;
    for level in ["debug", "error", "emergency"] {
        say(level).await;
    }
    assert_eq!(notification(&mut his).await["params"]["data"], "emergency", "each client hears what it asked for");
    let wrong = set(&two, "loud").await.unwrap();
    assert!(String::from_utf8_lossy(wrong.frame().bytes()).contains("-32602"));
    assert_eq!(levels().len(), 2);
}

#[tokio::test]
async fn a_notification_that_holds_much_is_nobodys() {
    let (upstream, far) = legacy().await;
    let (one, mut heard) = open(&upstream, Era::Legacy).await;
    let (_running, _) = begun(&far, action(&one, "tools/call", r#"{"name":"echo"}"#), "\"echo\"").await;
    let changed =
        |params: Value| json!({"jsonrpc": "2.0", "method": "notifications/prompts/list_changed", "params": params});
    far.say(&changed(json!({ "all": vec![json!({"": 0}); 10_000] }))).await;
    far.say(&changed(json!({ "all": "x".repeat(300_000) }))).await;
    far.say(&changed(json!({ "all": "last" }))).await;
    assert_eq!(notification(&mut heard).await["params"]["all"], "last");
    let mut many = ask("many");
    many["params"]["all"] = json!(vec![json!({"": 0}); 10_000]);
    far.say(&many).await;
    assert_eq!(far.heard("\"many\"").await["error"]["code"], -32600, "a question neither");
    // What waits at once holds no more than one answer may.
    for id in ["first", "second"] {
        let mut large = ask(id);
        large["params"]["all"] = json!("x".repeat(9 * 1024 * 1024));
        far.say(&large).await;
    }
    assert_eq!(far.heard("\"second\"").await["error"]["code"], -32603);
    assert!(matches!(heard.recv().await, Some(Said::Question(_))));
}
