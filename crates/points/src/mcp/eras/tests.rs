//! Every envelope in the words of the other era, and that nothing else changes.

use bytes::Bytes;
use countersign_effects::json::{Limits, Node, parse};
use proptest::prelude::*;

use super::input::Asked;
use super::listen::{self, Wanted};
use super::request::{self, Speaker};
use super::{hello, result};
use crate::mcp::execute::Kind;
use crate::mcp::wire::log::Level;
use crate::mcp::wire::{Frame, splice};

fn read(text: &str) -> Node {
    parse(text.as_bytes(), &Limits::default()).unwrap()
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

const MODERN: &str = r#""io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{"sampling":{}},"io.modelcontextprotocol/clientInfo":{"name":"c"}"#;

fn speaker(level: Option<Level>) -> Speaker<'static> {
    Speaker { capabilities: br#"{"sampling":{}}"#, client: br#"{"name":"c"}"#, level }
}

#[test]
fn members_are_taken_out_with_one_comma_each() {
    for (input, wanted) in [
        ("{}", "{}"),
        (r#"{ "k" : 1e2 }"#, r#"{ "k" : 1e2 }"#),
        (r#"{ "x" : 1 }"#, "{}"),
        (r#"{ "x" : 1 , "y":[1,2] }"#, "{}"),
        (r#"{"x":{"x":1} , "k" : 1 }"#, r#"{ "k" : 1 }"#),
        (r#"{"x":1,"y":",", "k":1}"#, r#"{ "k":1}"#),
        (r#"{"k":1 , "x":2 }"#, r#"{"k":1 }"#),
        (r#"{"k":1,"x":2,"y":3,"l" : 4,"x2":5}"#, r#"{"k":1,"l" : 4,"x2":5}"#),
        (r#"{"\u0078":1,"k":1}"#, r#"{"k":1}"#),
        (r#"["x"]"#, r#"["x"]"#),
    ] {
        let node = read(input);
        let edits = splice::without(&node, input.as_bytes(), &|key| ["x", "y"].contains(&key));
        assert_eq!(text(splice::edited(input.as_bytes(), &node.span, &edits)), wanted, "{input}");
    }
}

#[test]
fn a_request_loses_what_only_one_era_says() {
    let check = |input: &str, wanted: &str, level: Option<&str>| {
        let said = request::to_legacy("tools/call", Some(&Bytes::copy_from_slice(input.as_bytes()))).unwrap();
        assert_eq!(said.params.as_deref(), Some(wanted.as_bytes()), "{input}");
        assert_eq!(said.level.map(Level::name), level, "{input}");
        if wanted.contains("progressToken") {
            assert_eq!(&wanted[said.token.unwrap()], r#""p""#, "{wanted}");
        }
    };
    check(
        &format!(r#"{{"name":"t","arguments":{{"n": 1e2}},"_meta":{{{MODERN}}}}}"#),
        r#"{"name":"t","arguments":{"n": 1e2},"_meta":{}}"#,
        None,
    );
    check(
        &format!(r#"{{"_meta":{{"progressToken" : "p",{MODERN},"a/b": 1.50}},"name":"t" }}"#),
        r#"{"_meta":{"progressToken" : "p","a/b": 1.50},"name":"t" }"#,
        None,
    );
    check(
        r#"{"task":{"ttl":1},"_meta":{"io.modelcontextprotocol/logLevel":"notice","progressToken":"p"}}"#,
        r#"{"_meta":{"progressToken":"p"}}"#,
        Some("notice"),
    );
    // Arguments are never looked into.
    check(
        r#"{"arguments":{"task":1,"_meta":{"io.modelcontextprotocol/logLevel":1}}}"#,
        r#"{"arguments":{"task":1,"_meta":{"io.modelcontextprotocol/logLevel":1}}}"#,
        None,
    );
    assert_eq!(request::to_legacy("ping", None).unwrap().params, None);
}

#[test]
fn a_request_says_for_itself_who_asks() {
    let check = |input: Option<&str>, level: Option<Level>, wanted: &str| {
        let input = input.map(|input| Bytes::copy_from_slice(input.as_bytes()));
        let said = request::to_modern("tools/call", input.as_ref(), &speaker(level)).unwrap();
        assert_eq!(said.params.as_deref().map(|raw| std::str::from_utf8(raw).unwrap()), Some(wanted), "{input:?}");
        if wanted.contains("progressToken") {
            assert_eq!(&wanted[said.token.unwrap()], "7", "{wanted}");
        }
    };
    check(None, None, &format!(r#"{{"_meta":{{{MODERN}}}}}"#));
    check(Some("{ }"), None, &format!(r#"{{"_meta":{{{MODERN}}} }}"#));
    let level = r#","io.modelcontextprotocol/logLevel":"debug""#;
    check(Some(r#"{ "name":"t"}"#), Level::named("debug"), &format!(r#"{{"_meta":{{{MODERN}{level}}}, "name":"t"}}"#));
    check(
        Some(r#"{"name":"t","_meta":{ "progressToken":7, "countersign/step":"s"}}"#),
        None,
        &format!(r#"{{"name":"t","_meta":{{{MODERN}, "progressToken":7, "countersign/step":"s"}}}}"#),
    );
    // What a client says of itself in one request does not stand against what it opened with.
    check(
        Some(r#"{"_meta":{"io.modelcontextprotocol/clientCapabilities":{"roots":{}}},"task":{}}"#),
        None,
        &format!(r#"{{"_meta":{{{MODERN}}}}}"#),
    );
    check(Some(r#"{"task":{},"k":1}"#), None, &format!(r#"{{"_meta":{{{MODERN}}},"k":1}}"#));
}

#[test]
fn what_has_no_words_in_the_other_era_is_refused() {
    let none = Bytes::from_static(b"{}");
    for method in ["tasks/get", "tasks/update", "tasks/list", "tasks/result"] {
        assert_eq!(request::to_legacy(method, Some(&none)).unwrap_err().code, -32601, "{method}");
        assert_eq!(request::to_modern(method, Some(&none), &speaker(None)).unwrap_err().code, -32601, "{method}");
    }
    for params in [
        r#"{"requestState":"s"}"#,
        r#"{"inputResponses":{}}"#,
        r#"{"_meta":{"io.modelcontextprotocol/logLevel":"loud"}}"#,
    ] {
        let params = Bytes::copy_from_slice(params.as_bytes());
        assert_eq!(request::to_legacy("tools/call", Some(&params)).unwrap_err().code, -32602);
    }
}

#[test]
fn results_gain_and_lose_what_one_era_has() {
    for (method, input, wanted) in [
        ("tools/call", "{}", r#"{"resultType":"complete"}"#),
        ("tools/call", r#"{ "content":[] }"#, r#"{"resultType":"complete", "content":[] }"#),
        ("tools/call", r#"{"resultType":"input_required","ttlMs":1}"#, r#"{"resultType":"complete","ttlMs":1}"#),
        ("tools/list", r#"{"tools":[]}"#, r#"{"resultType":"complete","ttlMs":0,"cacheScope":"private","tools":[]}"#),
        (
            "resources/read",
            r#"{"cacheScope":"public","contents":[]}"#,
            r#"{"resultType":"complete","ttlMs":0,"cacheScope":"private","contents":[]}"#,
        ),
        ("tools/call", "7", "7"),
    ] {
        assert_eq!(text(result::to_modern(method, input.as_bytes(), &read(input))), wanted, "{input}");
    }
    let legacy = |kind, input: &str| result::to_legacy((kind, "tools/call"), input.as_bytes(), &read(input));
    let input = r#"{"resultType":"complete","ttlMs":5,"tools": [1e2],"cacheScope":"public","_meta":{"ttlMs":1}}"#;
    assert_eq!(text(legacy(Kind::Complete, input).unwrap()), r#"{"tools": [1e2],"_meta":{"ttlMs":1}}"#);
    let server = r#""io.modelcontextprotocol/serverInfo":{"name":"s"}"#;
    for (meta, wanted) in [
        (format!("{{{server}}}"), r#"{"k":1}"#),
        (format!(r#"{{"a/b": 1,{server}}}"#), r#"{"k":1,"_meta":{"a/b": 1}}"#),
        ("{}".to_owned(), r#"{"k":1,"_meta":{}}"#),
        ("7".to_owned(), r#"{"k":1,"_meta":7}"#),
    ] {
        let input = format!(r#"{{"resultType":"complete","k":1,"_meta":{meta}}}"#);
        assert_eq!(text(legacy(Kind::Complete, &input).unwrap()), wanted, "{input}");
    }
    for kind in [Kind::InputRequired, Kind::Task, Kind::Other] {
        assert_eq!(legacy(kind, "{}").unwrap_err().code, -32603, "{kind:?}");
    }
}

#[test]
fn errors_keep_their_meaning() {
    for (input, wanted) in [
        (
            r#"{"code":-32002,"message":"no","data":{"uri":"mem://1"}}"#,
            r#"{"code":-32602,"message":"no","data":{"uri":"mem://1"}}"#,
        ),
        (r#"{"code":-5, "message":"no"}"#, r#"{"code":-5, "message":"no"}"#),
        (r#"{"message":"no"}"#, r#"{"message":"no"}"#),
        (
            r#"{"code":-32042,"message":"m","data":{"elicitations":[{"url":"https://x"}]}}"#,
            r#"{"code":-32603,"message":"the upstream wants a page to be opened first, which it can only ask in a session"}"#,
        ),
    ] {
        assert_eq!(text(result::error_to_modern(input.as_bytes(), &read(input))), wanted);
    }
}

#[test]
fn handshakes_say_the_same() {
    let old = r#"{"protocolVersion":"2025-06-18","capabilities":{"tasks":{},"tools":{"listChanged":true},"extensions":{"io.modelcontextprotocol/tasks":{},"x/y":{}}},"serverInfo":{"name":"s" ,"version":"1"},"instructions":"be\n"}"#;
    assert_eq!(
        text(hello::to_modern(old.as_bytes(), &read(old))),
        r#"{"resultType":"complete","supportedVersions":["2026-07-28","2025-06-18"],"capabilities":{"tools":{"listChanged":true},"extensions":{"x/y":{}}},"ttlMs":0,"cacheScope":"private","instructions":"be\n","_meta":{"io.modelcontextprotocol/serverInfo":{"name":"s" ,"version":"1"}}}"#
    );
    let new = r#"{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"_meta":{"io.modelcontextprotocol/serverInfo":{"name":"s"}},"instructions":"i"}"#;
    for (asked, agreed) in [("2024-11-05", "2024-11-05"), ("2099-01-01", "2025-11-25"), ("2026-07-28", "2025-11-25")] {
        assert_eq!(
            text(hello::to_legacy(new.as_bytes(), &read(new), (asked, "crm"))),
            format!(
                r#"{{"protocolVersion":"{agreed}","capabilities":{{"tools":{{}}}},"serverInfo":{{"name":"s"}},"instructions":"i"}}"#
            )
        );
    }
    for (offers, told) in [
        (r#"{"roots":{}, "tasks":{}}"#, r#"{"roots":{}}"#),
        (r#"{"extensions":{"io.modelcontextprotocol/tasks":{},"x/y":{}}}"#, r#"{"extensions":{"x/y":{}}}"#),
        ("", "{}"),
    ] {
        assert_eq!(hello::offered(offers.as_bytes()), told);
    }
    let bare = r#"{"supportedVersions":[],"capabilities":{}}"#;
    let found = text(hello::to_legacy(bare.as_bytes(), &read(bare), ("2025-11-25", "crm")));
    assert!(found.ends_with(r#""serverInfo":{"name":"crm","version":"0"}}"#), "{found}");
}

#[test]
fn a_stream_has_what_was_asked_for_and_is_offered() {
    let asked = r#"{"notifications":{"toolsListChanged":true,"promptsListChanged":false,"resourcesListChanged":true,"resourceSubscriptions":["mem://1"],"other":1}}"#;
    let wanted = Wanted::asked(Some(&Bytes::from_static(asked.as_bytes())));
    let check = |capabilities: &str, filter: &str| {
        let capabilities = read(capabilities);
        assert_eq!(wanted.offered(Some(&capabilities)).filter(), filter);
    };
    check(
        r#"{"tools":{"listChanged":true},"resources":{"listChanged":true,"subscribe":true}}"#,
        r#"{"resourcesListChanged":true,"toolsListChanged":true,"resourceSubscriptions":["mem://1"]}"#,
    );
    check(r#"{"tools":{"listChanged":false},"prompts":{"listChanged":true},"resources":{}}"#, "{}");
    assert!(wanted.offered(None).is_empty());
    let said = |method: &str, params: &str| {
        let text = format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{params}}}"#);
        Frame::read(text.into(), &Limits::default()).unwrap()
    };
    for (method, params, hears) in [
        ("notifications/tools/list_changed", "{}", true),
        ("notifications/prompts/list_changed", "{}", false),
        ("notifications/resources/updated", r#"{"uri":"mem://1/part"}"#, true),
        ("notifications/resources/updated", r#"{"uri":"mem://2"}"#, false),
        ("notifications/resources/updated", "{}", false),
        ("notifications/message", r#"{"level":"error"}"#, false),
    ] {
        assert_eq!(wanted.has(&said(method, params)), hears, "{method} {params}");
    }
    let id = r#""io.modelcontextprotocol/subscriptionId":4"#;
    for (params, wanted) in [
        (format!(r#"{{"uri":"mem://1","_meta":{{{id}}}}}"#), r#"{"uri":"mem://1"}"#),
        (format!(r#"{{"_meta":{{{id}}},"uri":"u"}}"#), r#"{"uri":"u"}"#),
        (format!(r#"{{"_meta":{{"k": 1,{id}}}}}"#), r#"{"_meta":{"k": 1}}"#),
        ("{}".to_owned(), "{}"),
    ] {
        let found = text(listen::to_legacy(&said("notifications/resources/updated", &params)));
        assert!(found.ends_with(&format!(r#""params":{wanted}}}"#)), "{found}");
    }
}

#[test]
fn questions_in_a_result_become_requests_and_their_answers_parameters() {
    let input = r#"{"inputRequests":{"who":{"method":"elicitation/create","params":{"message": "m"}},"where":{"method":"roots/list"}},"requestState":"s\u0031"}"#;
    let asked = Asked::read(input.as_bytes(), &read(input)).unwrap();
    assert_eq!(asked.questions[0].0, "who");
    assert_eq!(
        &asked.questions[0].1[..],
        br#"{"jsonrpc":"2.0","id":0,"method":"elicitation/create","params":{"message": "m"}}"#
    );
    assert_eq!(&asked.questions[1].1[..], br#"{"jsonrpc":"2.0","id":1,"method":"roots/list"}"#);
    let answers = [("who".to_owned(), Bytes::from_static(br#"{"action" : "accept"}"#))];
    for (params, rest) in [
        (r#"{"name":"t", "arguments":{}}"#, r#","name":"t", "arguments":{}}"#),
        (r#"{"inputResponses":{"old":1},"name":"t","requestState":"old"}"#, r#","name":"t"}"#),
        (r#"{"requestState":"old"}"#, "}"),
    ] {
        let next = asked.next(&Bytes::from_static(params.as_bytes()), &answers).unwrap();
        let wanted = format!(r#"{{"inputResponses":{{"who":{{"action" : "accept"}}}},"requestState":"s\u0031"{rest}"#);
        assert_eq!(std::str::from_utf8(&next).unwrap(), wanted);
        read(&wanted);
    }
    for wrong in [
        "{}",
        r#"{"inputRequests":{}}"#,
        r#"{"inputRequests":7,"requestState":"s"}"#,
        r#"{"inputRequests":{"k":{"params":{}}}}"#,
        r#"{"inputRequests":{"k":7}}"#,
    ] {
        assert!(Asked::read(wrong.as_bytes(), &read(wrong)).is_err(), "{wrong}");
    }
}

proptest! {
    /// What was put in comes out again, and nothing else was touched: forth and back is the identity.
    #[test]
    fn forth_and_back_is_the_same(
        name in "[a-z]{1,8}",
        number in any::<i64>(),
        extra in proptest::option::of("[a-z]{1,6}/[a-z]{1,6}"),
        space in "[ \n]{0,2}",
    ) {
        let meta = extra.map(|key| format!(r#","_meta":{{{space}"{key}":{number}e1}}"#)).unwrap_or_default();
        let input = format!(r#"{{{space}"name":"{name}",{space}"arguments":{{"n":{number}.50}}{meta}}}"#);
        let forth = request::to_modern("tools/call", Some(&Bytes::from(input.clone())), &speaker(None)).unwrap();
        let back = request::to_legacy("tools/call", forth.params.as_ref()).unwrap().params.unwrap();
        let back = std::str::from_utf8(&back).unwrap().replacen(r#""_meta":{},"#, "", 1);
        prop_assert_eq!(back, input);
    }

    #[test]
    fn a_result_forth_and_back_is_the_same(key in "[a-k]{1,8}", number in any::<i64>(), space in "[ \n]{0,2}") {
        let input = format!(r#"{{{space}"{key}":{number}e1,{space}"content":[]}}"#);
        let forth = result::to_modern("tools/list", input.as_bytes(), &read(&input));
        let forth = text(forth);
        let back = result::to_legacy((Kind::Complete, "tools/list"), forth.as_bytes(), &read(&forth)).unwrap();
        prop_assert_eq!(text(back), input);
    }
}
