//! Who is told of a parked call in which form, and what exactly is said.

use countersign_effects::json::{Limits, Node, parse};
use serde_json::{Value, json};

use super::*;

fn node(text: &str) -> Node {
    parse(text.as_bytes(), &Limits::default()).unwrap()
}

fn approvals() -> Approvals {
    Approvals::new("https://approve.example/tickets/{ticket}").unwrap()
}

#[test]
fn the_form_follows_from_what_the_client_declared() {
    let modern = |capabilities: &str| Declared::modern(Some(&node(capabilities)));
    let legacy = |capabilities: &str, params: &str| {
        Declared::legacy(Some(&node(capabilities)), Some(&node(params)), params.as_bytes())
    };
    let both = approvals();
    let check = |declared: Declared, method: &str, expected: [Form; 2]| {
        assert_eq!(
            [declared.form(method, Some(&both)), declared.form(method, None)],
            expected,
            "{declared:?} {method}"
        );
    };
    let (task, url) = (r#""extensions":{"io.modelcontextprotocol/tasks":{}}"#, r#""elicitation":{"form":{},"url":{}}"#);
    let modern_task = [Form::Task { is_modern: true }; 2];
    check(modern(&format!("{{{task}}}")), "tools/call", modern_task);
    check(modern(&format!("{{{task},{url}}}")), "tools/call", modern_task);
    check(modern(&format!("{{{task},{url}}}")), "resources/read", [Form::InputRequired, Form::Ticket]);
    check(modern(&format!("{{{task}}}")), "resources/read", [Form::Ticket; 2]);
    check(modern(&format!("{{{url}}}")), "tools/call", [Form::InputRequired, Form::Ticket]);
    // Where the protocol lets no server ask, nothing is asked.
    check(modern(&format!("{{{url}}}")), "completion/complete", [Form::Ticket; 2]);
    // Form mode is no way to consent, and neither is a word of another shape.
    for none in ["{}", r#"{"elicitation":{}}"#, r#"{"elicitation":{"form":{}}}"#, r#"{"elicitation":{"url":true}}"#] {
        check(modern(none), "tools/call", [Form::Ticket; 2]);
        check(legacy(none, "{}"), "tools/call", [Form::Ticket; 2]);
    }
    check(Declared::modern(None), "tools/call", [Form::Ticket; 2]);
    let asked = legacy("{}", r#"{"name":"x","task":{"ttl":60000}}"#);
    assert_eq!(asked.ttl_ms(), Some(60_000));
    check(asked, "tools/call", [Form::Task { is_modern: false }; 2]);
    check(asked, "prompts/get", [Form::Ticket; 2]);
    check(legacy(&format!("{{{url}}}"), "{}"), "tools/call", [Form::UrlRequired, Form::Ticket]);
    // A legacy capability of tasks says nothing: such a client asks with each call. Nor does the modern extension there.
    check(legacy(&format!("{{\"tasks\":{{}},{task}}}"), "{}"), "tools/call", [Form::Ticket; 2]);
    // And a modern client's `task` member is nothing that a modern client has.
    check(modern("{\"tasks\":{}}"), "tools/call", [Form::Ticket; 2]);
}

#[test]
fn an_address_of_a_page_is_checked_and_a_ticket_stays_in_its_place() {
    let page = |url: &str, ticket: &str| Approvals::new(url).unwrap().page(&ticket.parse().unwrap());
    assert_eq!(page("https://a.example/t/{ticket}?x=1", "t-7k2"), "https://a.example/t/t-7k2?x=1");
    assert_eq!(page("https://a.example/{ticket}", "../x?y#z&%"), "https://a.example/%2E%2E%2Fx%3Fy%23z%26%25");
    assert_eq!(page("http://127.0.0.1:8080/{ticket}", "t"), "http://127.0.0.1:8080/t");
    for wrong in [
        "https://a.example/",
        "https://a.example/{ticket}/{ticket}",
        "http://a.example/{ticket}",
        "ftp://a.example/{ticket}",
        "https://{ticket}.example/",
        "https://a.example{ticket}/",
        "https://user@a.example/{ticket}",
        "javascript:alert('{ticket}')",
        "/{ticket}",
        "",
    ] {
        assert!(Approvals::new(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn what_is_asked_is_one_page_and_no_form() {
    let (ticket, gates) = ("t-1".parse().unwrap(), ["two eyes".to_owned()]);
    let waiting = Waiting { ticket: &ticket, gates: &gates };
    let message = "This call waits for a human's consent (two eyes), ticket t-1. Nothing has happened. Open the page to look \
                   at it; opening it is no consent.";
    let url = "https://approve.example/tickets/t-1";
    let raw = input_required(&waiting, &approvals(), "cs1.x", &[("countersign/receipt", "null")]);
    let expected = json!({
        "resultType": "input_required",
        "inputRequests": { APPROVAL: {
            "method": "elicitation/create", "params": { "mode": "url", "url": url, "message": message },
        } },
        "requestState": "cs1.x",
        "_meta": { "countersign/receipt": null },
    });
    assert_eq!(serde_json::from_slice::<Value>(&raw).unwrap(), expected);
    let (code, said, data) = url_required(&waiting, &approvals(), &[("countersign", r#"{"verdict":"pending"}"#)]);
    assert_eq!((code, said.as_str()), (-32042, message));
    let expected = json!({
        "elicitations": [{ "mode": "url", "elicitationId": "t-1", "url": url, "message": message }],
        "countersign": { "verdict": "pending" },
    });
    assert_eq!(serde_json::from_str::<Value>(&data).unwrap(), expected);
    assert_eq!(elicitation_complete(&ticket), r#"{"elicitationId":"t-1"}"#);
}
