//! What an agent gets to read where the upstream's answer is not there.

use countersign_effects::json::Node;
use countersign_gate::call::Answer;
use countersign_model::record::Status;
use countersign_model::{Reason, ReasonCode};
use serde_json::Value;

use super::list::Page;
use super::{Form, Schema, answer, shown_detail};
use crate::mcp::methods::Listing;
use crate::mcp::wire::{Era, Frame, Id, Message, Outcome};

fn id() -> Id {
    let frame = Frame::read(br#"{"jsonrpc":"2.0","id":"\u0061","method":"m"}"#.as_slice().into(), &Default::default());
    match frame.unwrap().message() {
        Message::Request { id, .. } => id.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_lost_answer_says_whether_it_may_have_happened() {
    for (status, code, word, part) in [
        (Status::NotStarted, -32010, "not_started", "nothing was sent"),
        (Status::Unknown, -32011, "unknown", "may have happened"),
        (Status::Done, -32011, "done", "Do not repeat it"),
        (Status::Failed, -32603, "failed", "refused"),
    ] {
        let lost = Answer::Ran { status, reply: None, note: Some("the \"note\"".to_owned()), receipt: None };
        let form = Form { era: Era::Legacy, tool: Some(Schema::Free), prefix: None, task: None };
        let bytes = answer(&id(), lost, form);
        assert!(bytes.starts_with(br#"{"jsonrpc":"2.0","id":"\u0061","#), "the id as it was spelled");
        let frame: Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(frame["error"]["code"], code);
        assert_eq!(frame["error"]["data"]["countersign"]["status"], word);
        assert_eq!(frame["error"]["data"]["countersign/unrecorded"], true);
        let message = frame["error"]["message"].as_str().unwrap();
        assert!(message.contains(part) && message.contains("the \"note\""), "{message}");
    }
}

#[test]
fn details_that_concern_others_are_not_shown() {
    use ReasonCode as Code;
    for code in Code::ALL {
        let open = matches!(code, Code::BudgetExhausted | Code::CodeFreeze | Code::Malformed | Code::Oversize);
        assert_eq!(shown_detail(&Reason::because(*code, "detail")).is_some(), open, "{code:?}");
    }
}

#[test]
fn a_listing_loses_what_may_not_be_called_and_nothing_else() {
    let check = |result: &str, expected: &str| {
        let text = format!(r#"{{"jsonrpc":"2.0","id":1, "result":{result}}}"#);
        let frame = Frame::read(text.clone().into_bytes().into(), &Default::default()).unwrap();
        let Message::Response { outcome: Outcome::Result(node), .. } = frame.message() else { panic!("{text}") };
        let page = Page { input: frame.bytes(), result: node };
        let keeps = |item: &Node| {
            let name = item.get("name").and_then(Node::as_str).unwrap_or("no");
            !name.is_empty() && !name.starts_with("no")
        };
        let listed = page.alone(Listing::Tools, &keeps);
        assert_eq!(String::from_utf8(listed).unwrap(), expected);
    };
    let all = r#"{ "nextCursor":"c", "tools" : [ {"name":"a", "x":1e2} , {"name":"b"}],"_meta":{}}"#;
    check(all, all);
    check(
        r#"{ "tools" : [ {"name":"no1"}, {"name":"a", "x":[1e2,"]"]} ,{"name":"no2"},  {"b":{}, "name":"\u0062"}], "nextCursor":"c"}"#,
        r#"{ "tools" : [{"name":"a", "x":[1e2,"]"]},{"b":{}, "name":"\u0062"}], "nextCursor":"c"}"#,
    );
    check(r#"{"tools":[{"name":"n\u006f"}]}"#, r#"{"tools":[]}"#);
    // What no call could name is not shown; what is no listing stays what it is.
    check(r#"{"tools":[{},{"name":7},{"name":""},3,{"name":"a"}]}"#, r#"{"tools":[{"name":"a"}]}"#);
    check(r#"{"tools":{"name":"no"}}"#, r#"{"tools":[]}"#);
    check(r#"{"other":1}"#, r#"{"other":1}"#);
}
