//! Headers and bodies that say the same, and every way in which they do not.

use countersign_effects::json::{Limits, Node, parse};
use proptest::prelude::*;

use super::{Annotation, Meta, Mirrors, annotations, compare, compare_params, decoded, encoded, params};

fn read(text: &str) -> Node {
    parse(text.as_bytes(), &Limits::default()).unwrap()
}

#[test]
fn values_are_encoded_as_the_specification_shows() {
    for (text, value) in [
        ("us-west1", "us-west1"),
        ("", ""),
        ("two words", "two words"),
        ("Hello, 世界", "=?base64?SGVsbG8sIOS4lueVjA==?="),
        (" padded ", "=?base64?IHBhZGRlZCA=?="),
        ("line1\nline2", "=?base64?bGluZTEKbGluZTI=?="),
        ("=?base64?literal?=", "=?base64?PT9iYXNlNjQ/bGl0ZXJhbD89?="),
    ] {
        assert_eq!(encoded(text), value);
        assert_eq!(decoded(value).unwrap(), text);
    }
    // Without both marks it is what it says.
    for value in ["SGVsbG8=", "=?base64?SGVsbG8=", "SGVsbG8=?=", "=?BASE64?SGVsbG8=?="] {
        assert_eq!(decoded(value).unwrap(), value);
    }
    for value in ["=?base64?SGVsbG8?=", "=?base64?SGVs!!!bG8=?=", "=?base64?/w==?=", "=?base64?SGVsbG8==?="] {
        assert!(decoded(value).is_err(), "{value}");
    }
}

fn mirrors<'a>(method: Option<&'a str>, name: Option<&'a str>) -> Mirrors<'a> {
    Mirrors { version: None, method, name, params: Vec::new() }
}

#[test]
fn a_header_that_says_other_than_the_body_is_refused() {
    let call = read(r#"{"name":"a \u0062","arguments":{}}"#);
    let check = |method: Option<&str>, name: Option<&str>, body: &str, params: Option<&Node>, agrees: bool| {
        let compared = compare(&mirrors(method, name), body, params);
        assert_eq!(compared.is_ok(), agrees, "{method:?} {name:?} {body}: {compared:?}");
    };
    check(Some("tools/call"), Some("a b"), "tools/call", Some(&call), true);
    check(Some("tools/call"), Some("=?base64?YSBi?="), "tools/call", Some(&call), true);
    check(None, Some("a b"), "tools/call", Some(&call), false);
    check(Some("TOOLS/CALL"), Some("a b"), "tools/call", Some(&call), false);
    check(Some("tools/list"), Some("a b"), "tools/call", Some(&call), false);
    check(Some("tools/call"), None, "tools/call", Some(&call), false);
    check(Some("tools/call"), Some("a c"), "tools/call", Some(&call), false);
    check(Some("tools/call"), Some("A B"), "tools/call", Some(&call), false);
    check(Some("tools/call"), Some("=?base64?YSBi"), "tools/call", Some(&call), false);
    check(Some("tools/call"), Some("=?base64?!?="), "tools/call", Some(&call), false);
    let read_uri = read(r#"{"uri":"file:///x"}"#);
    check(Some("resources/read"), Some("file:///x"), "resources/read", Some(&read_uri), true);
    check(Some("resources/read"), Some("file:///y"), "resources/read", Some(&read_uri), false);
    let task = read(r#"{"taskId":"t1"}"#);
    check(Some("tasks/get"), Some("t1"), "tasks/get", Some(&task), true);
    check(Some("tasks/get"), None, "tasks/get", Some(&task), false);
    check(Some("tools/list"), None, "tools/list", None, true);
}

fn annotated(schema: &str) -> Result<Vec<(String, String)>, String> {
    let found = annotations(&read(schema))?;
    Ok(found.into_iter().map(|Annotation { header, path }| (header, path.join("."))).collect())
}

#[test]
fn annotations_are_found_along_properties_alone() {
    let schema = r#"{"type":"object","properties":{
        "region":{"type":"string","x-mcp-header":"Region"},
        "deep":{"type":"object","properties":{"n":{"type":"integer","x-mcp-header":"N"}}},
        "x-mcp-header":{"type":"string"},
        "plain":{"type":"string","default":{"x-mcp-header":"data"}}}}"#;
    let wanted = [("mcp-param-region", "region"), ("mcp-param-n", "deep.n")].map(|(h, p)| (h.to_owned(), p.to_owned()));
    assert_eq!(annotated(schema).unwrap(), wanted);
    assert_eq!(annotated("true").unwrap(), []);
    for (schema, why) in [
        (r#"{"x-mcp-header":"A"}"#, "root"),
        (r#"{"properties":{"a":{"type":"string","x-mcp-header":""}}}"#, "name"),
        (r#"{"properties":{"a":{"type":"string","x-mcp-header":"a b"}}}"#, "name"),
        (r#"{"properties":{"a":{"type":"string","x-mcp-header":"a\r\nX-Evil: 1"}}}"#, "name"),
        (r#"{"properties":{"a":{"type":"string","x-mcp-header":7}}}"#, "string"),
        (r#"{"properties":{"a":{"type":"number","x-mcp-header":"A"}}}"#, "integer"),
        (r#"{"properties":{"a":{"x-mcp-header":"A"}}}"#, "integer"),
        (
            r#"{"properties":{"a":{"type":"string","x-mcp-header":"A"},"b":{"type":"string","x-mcp-header":"a"}}}"#,
            "same header",
        ),
        (r#"{"items":{"properties":{"a":{"type":"string","x-mcp-header":"A"}}}}"#, "items"),
        (r#"{"anyOf":[{"properties":{"a":{"type":"string","x-mcp-header":"A"}}}]}"#, "anyOf"),
        (r#"{"$defs":{"d":{"properties":{"a":{"type":"string","x-mcp-header":"A"}}}}}"#, "defs"),
        (r#"{"properties":{"l":{"items":{"type":"string","x-mcp-header":"A"}}}}"#, "items"),
    ] {
        let refused = annotated(schema).expect_err(schema);
        assert!(refused.contains(why), "{schema}: {refused}");
    }
}

fn one(header: &str, path: &str) -> Vec<Annotation> {
    vec![Annotation { header: header.to_owned(), path: path.split('.').map(str::to_owned).collect() }]
}

#[test]
fn an_argument_and_its_header_go_together() {
    let check = |arguments: &str, header: Option<&str>, agrees: bool| {
        let node = read(arguments);
        let params = header.map(|value| ("mcp-param-a", value)).into_iter().collect();
        let found = Mirrors { params, ..Mirrors::default() };
        let compared = compare_params(&found, &one("mcp-param-a", "o.a"), (Some(&node), arguments.as_bytes()));
        assert_eq!(compared.is_ok(), agrees, "{arguments} {header:?}: {compared:?}");
    };
    check(r#"{"o":{"a":"x"}}"#, Some("x"), true);
    check(r#"{"o":{"a":"x"}}"#, Some("=?base64?eA==?="), true);
    check(r#"{"o":{"a":"x"}}"#, Some("y"), false);
    check(r#"{"o":{"a":"x"}}"#, None, false);
    check(r#"{"o":{"a":"x"}}"#, Some("=?base64?eA?="), false);
    check(r#"{"o":{"a":true}}"#, Some("true"), true);
    check(r#"{"o":{"a":true}}"#, Some("True"), false);
    for absent in [r#"{}"#, r#"{"o":{}}"#, r#"{"o":{"a":null}}"#, r#"{"o":7}"#, r#"{"o":{"a":[1]}}"#] {
        check(absent, None, true);
        check(absent, Some("x"), false);
    }
    for (value, header, agrees) in [
        ("42", "42", true),
        ("42", "42.0", true),
        ("42.00", "42", true),
        ("-7", "-7", true),
        ("42", "43", false),
        ("42", "42.5", false),
        ("42", "0x2a", false),
        ("42", "", false),
        ("9007199254740991", "9007199254740991", true),
        // Beyond what every reader takes for the same number.
        ("9007199254740993", "9007199254740993", false),
        ("42.5", "42.5", false),
    ] {
        check(&format!(r#"{{"o":{{"a":{value}}}}}"#), Some(header), agrees);
    }
    assert!(compare_params(&Mirrors::default(), &one("mcp-param-a", "a"), (None, b"")).is_ok());
}

#[test]
fn what_a_request_must_say_of_itself() {
    let version = r#""io.modelcontextprotocol/protocolVersion":"2026-07-28""#;
    let capabilities = r#""io.modelcontextprotocol/clientCapabilities":{}"#;
    for (params, agrees) in [
        (format!(r#"{{"_meta":{{{version},{capabilities}}}}}"#), true),
        (format!(r#"{{"_meta":{{{version},{capabilities},"io.modelcontextprotocol/clientInfo":{{}}}}}}"#), true),
        (format!(r#"{{"_meta":{{{version},{capabilities},"io.modelcontextprotocol/clientInfo":"me"}}}}"#), false),
        (format!(r#"{{"_meta":{{{version}}}}}"#), false),
        (format!(r#"{{"_meta":{{{capabilities}}}}}"#), false),
        (format!(r#"{{"_meta":{{{version},"io.modelcontextprotocol/clientCapabilities":[]}}}}"#), false),
        (format!(r#"{{"_meta":{{"io.modelcontextprotocol/protocolVersion":7,{capabilities}}}}}"#), false),
        ("{}".to_owned(), false),
        (r#"{"_meta":null}"#.to_owned(), false),
    ] {
        assert_eq!(Meta::read(Some(&read(&params))).is_ok(), agrees, "{params}");
    }
    assert!(Meta::read(None).is_err());
}

proptest! {
    #[test]
    fn every_text_survives_its_header(text in any::<String>()) {
        let value = encoded(&text);
        prop_assert!(value.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
        prop_assert_eq!(value.trim_matches([' ', '\t']), value.as_str());
        prop_assert_eq!(decoded(&value).unwrap(), text);
    }

    #[test]
    fn headers_made_from_arguments_agree_with_them(text in any::<String>(), number in -1_000_000_i64..1_000_000) {
        let arguments = serde_json::json!({ "t": text, "n": number, "b": number % 2 == 0 }).to_string();
        let node = read(&arguments);
        let mut wanted = one("mcp-param-t", "t");
        wanted.extend(one("mcp-param-n", "n"));
        wanted.extend(one("mcp-param-b", "b"));
        let made = params(&wanted, (Some(&node), arguments.as_bytes()));
        let found = Mirrors {
            params: made.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect(),
            ..Mirrors::default()
        };
        prop_assert_eq!(compare_params(&found, &wanted, (Some(&node), arguments.as_bytes())), Ok(()));
    }
}
