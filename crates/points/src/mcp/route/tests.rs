//! Prefixes, cursors and renames: back and forth, and nothing else touched.

use countersign_effects::json::{Limits, parse};
use countersign_model::id::UpstreamId;
use proptest::prelude::*;

use super::cursor::{self, More};
use super::is_prefix;
use super::name::Named;
use super::rename::{Prefixing, without_prefix};
use crate::mcp::methods::Listing;
use crate::mcp::wire::splice;

fn id(text: &str) -> UpstreamId {
    UpstreamId::new(text).unwrap()
}

#[test]
fn only_what_cannot_be_read_two_ways_is_a_prefix() {
    for (text, may) in [
        ("crm", true),
        ("CRM-2", true),
        ("a_b", false),
        ("a+b", false),
        ("a.b", false),
        (&"a".repeat(32), true),
        (&"a".repeat(33), false),
    ] {
        assert_eq!(is_prefix(&id(text)), may, "{text}");
    }
}

proptest! {
    #[test]
    fn a_prefix_is_found_again_whatever_the_name(prefix in "[A-Za-z0-9-]{1,32}", name in ".{0,40}") {
        for kind in [Named::Name, Named::Uri] {
            let whole = format!("{}{name}", kind.prefix(&id(&prefix)));
            prop_assert_eq!(kind.split(&whole), Some((prefix.as_str(), name.as_str())));
        }
    }

    #[test]
    fn a_cursor_is_read_as_it_was_written(more in proptest::collection::btree_map(".{1,10}", ".{0,40}", 1..4)) {
        let text = cursor::written(&more).unwrap();
        prop_assert_eq!(cursor::read(&text), Some(more));
    }

    #[test]
    fn bytes_that_are_no_cursor_are_none(text in any::<String>()) {
        if let Some(more) = cursor::read(&text) {
            prop_assert_eq!(cursor::written(&more), Some(text));
        }
    }

    #[test]
    fn what_is_taken_out_was_put_in(name in ".{0,40}") {
        let upstream = id("crm");
        let whole = format!("{}{name}", Named::Name.prefix(&upstream));
        let text = format!(r#"{{"a": 1e2,"name" : {}, "z":[ ]}}"#, crate::mcp::wire::quoted(&whole));
        let node = parse(text.as_bytes(), &Limits::default()).unwrap();
        let named = node.get("name").unwrap();
        let edit = without_prefix(named, text.as_bytes(), &name).unwrap();
        let out = splice::edited(text.as_bytes(), &node.span, &[edit]);
        let read = parse(&out, &Limits::default()).unwrap();
        prop_assert_eq!(read.get("name").unwrap().as_str(), Some(name.as_str()));
        let back = Prefixing::of(&upstream).item(Listing::Tools, &read).edits();
        prop_assert_eq!(splice::edited(&out, &read.span, &back), text.as_bytes());
    }
}

#[test]
fn nothing_of_no_upstream_is_a_cursor() {
    assert_eq!(cursor::written(&More::new()), None);
    for text in ["", "e30", "bnVsbA", "eyJhIjoiYiJ9==", "eyJhIjoiYiJ9\n", "\u{e9}"] {
        assert_eq!(cursor::read(text), None, "{text}");
    }
    assert!(cursor::read("eyJhIjoiYiJ9").is_some());
}

#[test]
fn an_escaped_prefix_is_taken_out_too() {
    let text = r#"{"name":"\u0063rm__a\"b"}"#;
    let node = parse(text.as_bytes(), &Limits::default()).unwrap();
    let edit = without_prefix(node.get("name").unwrap(), text.as_bytes(), "a\"b").unwrap();
    assert_eq!(splice::edited(text.as_bytes(), &node.span, &[edit]), br#"{"name":"a\"b"}"#);
}

fn renamed(
    text: &str,
    edits: impl FnOnce(Prefixing<'_>, &countersign_effects::json::Node) -> Vec<splice::Edit>,
) -> String {
    let node = parse(text.as_bytes(), &Limits::default()).unwrap();
    let upstream = id("crm");
    let edits = edits(Prefixing::of(&upstream), &node);
    String::from_utf8(splice::edited(text.as_bytes(), &node.span, &edits)).unwrap()
}

#[test]
fn every_declared_place_gets_its_prefix_and_no_other() {
    let check = |text: &str, wanted: &str| {
        assert_eq!(renamed(text, |prefixing, node| prefixing.result(node).edits()), wanted);
    };
    check(
        r#"{ "content":[{"type":"text","text":"uri"},{"type":"resource_link" ,"uri":"file:///a","name":"n"},{"type":"resource","resource":{"uri":"file:///b","text":"t"}}], "structuredContent":{"uri":"x"} }"#,
        r#"{ "content":[{"type":"text","text":"uri"},{"type":"resource_link" ,"uri":"crm+file:///a","name":"n"},{"type":"resource","resource":{"uri":"crm+file:///b","text":"t"}}], "structuredContent":{"uri":"x"} }"#,
    );
    check(r#"{"contents":[{"uri":"a:b","text":"uri"}]}"#, r#"{"contents":[{"uri":"crm+a:b","text":"uri"}]}"#);
    check(
        r#"{"messages":[{"role":"user","content":{"type":"resource_link","uri":"u"}},{"content":[{"type":"resource","resource":{"uri":"v"}}]}]}"#,
        r#"{"messages":[{"role":"user","content":{"type":"resource_link","uri":"crm+u"}},{"content":[{"type":"resource","resource":{"uri":"crm+v"}}]}]}"#,
    );
    check(r#"{"task":{"taskId":"t","ttl":1}}"#, r#"{"task":{"taskId":"crm__t","ttl":1}}"#);
    check(
        r#"{"taskId":"t","status":"completed","result":{"content":[{"type":"resource_link","uri":"u"}]}}"#,
        r#"{"taskId":"crm__t","status":"completed","result":{"content":[{"type":"resource_link","uri":"crm+u"}]}}"#,
    );
    check(
        r#"{"_meta":{"io.modelcontextprotocol/related-task":{"taskId":"t"}},"content":7,"messages":{"content":1}}"#,
        r#"{"_meta":{"io.modelcontextprotocol/related-task":{"taskId":"crm__t"}},"content":7,"messages":{"content":1}}"#,
    );
    let item = |listing: Listing, text: &str| renamed(text, |prefixing, node| prefixing.item(listing, node).edits());
    assert_eq!(
        item(Listing::Templates, r#"{"uriTemplate":"f:{x}","name":"n"}"#),
        r#"{"uriTemplate":"crm+f:{x}","name":"n"}"#
    );
    assert_eq!(item(Listing::Prompts, r#"{"name":"\u0061"}"#), r#"{"name":"crm__\u0061"}"#);
    assert_eq!(item(Listing::Tasks, r#"{"taskId":7}"#), r#"{"taskId":7}"#);
    let error = renamed(r#"{"code":-32002,"data":{"uri":"a"}}"#, |prefixing, node| prefixing.error(node).edits());
    assert_eq!(error, r#"{"code":-32002,"data":{"uri":"crm+a"}}"#);
    let said = renamed(r#"{"uri":"a","taskId":"b"}"#, |prefixing, node| {
        prefixing.notification("notifications/resources/updated", Some(node)).edits()
    });
    assert_eq!(said, r#"{"uri":"crm+a","taskId":"b"}"#);
}
