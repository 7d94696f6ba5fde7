//! The words in which a task is told to end, and for how long it is watched over.

use super::*;
use crate::mcp::execute::outbound::reading;
use crate::mcp::wire::Frame;

/// What a task is told with that an upstream hands out with this result, and how long it is kept.
fn check(result: &str, era: Era, expected: Option<(&str, u64)>) {
    let frame = format!(r#"{{"jsonrpc":"2.0","id":1,"result":{result}}}"#);
    let reply = Reply::of(Frame::read(frame.into(), &reading(usize::MAX)).unwrap()).unwrap();
    let task = Task::of(&reply).map(|task| {
        let params = task.cancellation(era).params.unwrap();
        (String::from_utf8(params.to_vec()).unwrap(), task.kept.as_secs())
    });
    let found = task.as_ref().map(|(params, kept)| (params.as_str(), *kept));
    match (found, expected) {
        (Some((params, kept)), Some((end, wanted))) => {
            assert!(params.ends_with(end) && kept == wanted, "{params} {kept}");
        }
        (found, expected) => assert_eq!(found, expected),
    }
}

#[test]
fn a_task_is_told_in_its_upstreams_words() {
    let day = 24 * 60 * 60;
    check(r#"{"content":[]}"#, Era::Legacy, None);
    check(r#"{"task":{"status":"working"}}"#, Era::Legacy, None);
    check(r#"{"task":{"taskId":"a\"b","ttl":5000}}"#, Era::Legacy, Some((r#"{"taskId":"a\"b"}"#, 5)));
    check(r#"{"task":{"taskId":"t","ttl":null}}"#, Era::Legacy, Some((r#"{"taskId":"t"}"#, day)));
    let modern = |ttl: &str| format!(r#"{{"resultType":"task","taskId":"t","status":"working","ttlMs":{ttl}}}"#);
    let end = r#""io.modelcontextprotocol/tasks":{}}},"io.modelcontextprotocol/clientInfo":"#;
    for (ttl, kept) in [("7000", 7), ("99999999999", day), ("1.5", day), ("-1", day)] {
        check(&modern(ttl), Era::Modern, Some((r#","taskId":"t"}"#, kept)));
    }
    let reply = Reply::made("result", modern("1").as_bytes()).unwrap();
    let params = Task::of(&reply).unwrap().cancellation(Era::Modern).params.unwrap();
    assert!(String::from_utf8_lossy(&params).contains(end), "{params:?}");
}
