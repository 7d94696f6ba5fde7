//! What begins and ends a task, and what is remembered.

use bytes::Bytes;
use countersign_effects::json::Limits;
use serde_json::{Value, json};

use super::{LATE_MAX, Late, Whose, task};
use crate::mcp::wire::Frame;

fn frame(mut message: Value) -> Frame {
    message["jsonrpc"] = json!("2.0");
    Frame::read(Bytes::from(message.to_string()), &Limits::default()).unwrap()
}

fn whose(member: u64) -> Whose {
    Whose { member, owner: None }
}

#[test]
fn a_task_begins_with_what_hands_it_out_and_ends_with_a_last_status() {
    for (message, expected) in [
        (json!({"id": 1, "result": {"task": {"taskId": "t", "status": "working"}}}), Some(("t", false))),
        (json!({"id": 1, "result": {"resultType": "task", "taskId": "t", "status": "working"}}), Some(("t", false))),
        (json!({"id": 1, "result": {"resultType": "task", "taskId": "t", "status": "failed"}}), Some(("t", true))),
        (json!({"id": 1, "result": {"taskId": "t", "status": "completed"}}), Some(("t", true))),
        (json!({"id": 1, "result": {"taskId": "t", "status": "input_required"}}), None),
        (json!({"id": 1, "result": {"content": [], "taskId": "t"}}), None),
        (json!({"id": 1, "error": {"taskId": "t", "status": "completed"}}), None),
        (json!({"method": "notifications/tasks", "params": {"taskId": "t", "status": "cancelled"}}), Some(("t", true))),
        (json!({"method": "notifications/tasks/status", "params": {"taskId": "t", "status": "working"}}), None),
        (json!({"method": "notifications/message", "params": {"taskId": "t", "status": "completed"}}), None),
    ] {
        let text = message.to_string();
        assert_eq!(task(frame(message).message()), expected, "{text}");
    }
}

#[test]
fn what_is_not_remembered_is_not_forgotten() {
    let mut late = Late::default();
    for id in 0..LATE_MAX as u64 {
        late.gave_up(id, whose(1));
    }
    assert!(!late.is_full() && late.all().count() == LATE_MAX);
    late.gave_up(u64::MAX, whose(2));
    (0..LATE_MAX as u64).for_each(|id| drop(late.answered(id)));
    assert!(late.is_full() && late.all().count() == 0, "it was more than could be kept");
    let long = json!({"id": 1, "result": {"task": {"taskId": "t".repeat(600)}}});
    let mut late = Late::default();
    late.note(frame(long).message(), Some(&whose(1)));
    assert!(late.is_full());
}

#[test]
fn only_a_principal_that_has_both_hears_of_both() {
    let of = |member, owner: Option<&str>| Whose { member, owner: owner.map(Into::into) };
    assert!(of(1, None).is_one(&of(1, None)));
    assert!(of(1, Some("a")).is_one(&of(2, Some("a"))));
    assert!(!of(1, Some("a")).is_one(&of(2, Some("b"))));
    assert!(!of(1, None).is_one(&of(2, None)), "whose several share is nobody's");
}
