//! Tables and properties of the wire: what is refused, what passes unchanged, and that chunking changes nothing.

use bytes::Bytes;
use countersign_effects::json::{self, Limits};
use proptest::prelude::*;

use super::envelope::{Frame, Key, Message};
use super::line::{self, LineDecoder};
use super::sse::{self, Event, SseDecoder};
use super::{Era, INVALID_REQUEST, PARSE_ERROR, splice};

fn read(text: &str) -> Result<Frame, super::FrameError> {
    Frame::read(Bytes::copy_from_slice(text.as_bytes()), &Limits::default())
}

fn refused(text: &str, code: i32) {
    match read(text) {
        Ok(frame) => panic!("`{text}` was read as {:?}", frame.message()),
        Err(error) => assert_eq!(error.code, code, "`{text}`: {error}"),
    }
}

/// What a parser that folds case, or ends a key at a NUL, would read in place of what was judged.
#[test]
fn members_that_could_be_read_as_others_are_refused() {
    let notice = r#"{"jsonrpc":"2.0","method":"notifications/roots/list_changed","params":{"x":1}"#;
    for member in ["METHOD", "Id", "PARAMS", "param\u{17f}", "result\0", "\0method", "Error", "JSONRPC"] {
        refused(&format!(r#"{notice},"{}":"tools/call"}}"#, member.replace('\0', "\\u0000")), INVALID_REQUEST);
    }
    for member in ["NAME", "taskID", "TASKID", "Arguments", "ta\u{17f}k", "tas\u{212a}", "_META", "Uri", "requeststate"]
    {
        refused(&format!(r#"{{"jsonrpc":"2.0","id":1,"method":"m","params":{{"{member}":"x"}}}}"#), INVALID_REQUEST);
    }
    // What is merely unknown passes, and what is inside of arguments is the tool's own.
    for params in [r#"{"names":1,"titel":2,"idx":3}"#, r#"{"arguments":{"Name":1,"NAME":2}}"#] {
        assert!(
            read(&format!(r#"{{"jsonrpc":"2.0","id":1,"method":"m","params":{params},"ids":1}}"#)).is_ok(),
            "{params}"
        );
    }
}

#[test]
fn a_stream_says_where_it_can_be_resumed() {
    for (stream, id, retry) in [
        ("data: a\n\n", None, None),
        ("id: 1\ndata: a\n\n", Some("1"), None),
        ("id: 1\ndata: a\n\nid: 2\nretry: 1500\ndata:\n\n", Some("2"), Some(1500)),
        ("id: 1\n\n", Some("1"), None),
        ("id: 1\ndata: a\n\nid: 2\n", Some("1"), None),
        ("id: 1\ndata: a\n\nid:\n\n", None, None),
        ("retry: 7\n\nretry: -1\n\nretry: x\n\n", None, Some(7)),
        ("retry: 99999999999999999999999\n\n", None, None),
    ] {
        let mut decoder = super::sse::SseDecoder::new(1000);
        for byte in stream.as_bytes() {
            decoder.push(&[*byte]).unwrap();
        }
        assert_eq!((decoder.last_id(), decoder.retry_ms()), (id, retry), "{stream:?}");
    }
}

#[test]
fn malformed_frames_are_refused() {
    for text in ["", " ", "{", "nul", "{\"jsonrpc\":\"2.0\"", "{\"jsonrpc\":\"2.0\",}", "\u{feff}{}", "{}{}"] {
        refused(text, PARSE_ERROR);
    }
    for text in [
        "[]",
        r#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#,
        "1",
        "null",
        "{}",
        r#"{"id":1,"method":"ping"}"#,
        r#"{"jsonrpc":"1.0","id":1,"method":"ping"}"#,
        r#"{"jsonrpc":2.0,"id":1,"method":"ping"}"#,
        r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#,
        r#"{"jsonrpc":"2.0","id":1.5,"method":"ping"}"#,
        r#"{"jsonrpc":"2.0","id":1.0,"method":"ping"}"#,
        r#"{"jsonrpc":"2.0","id":1e3,"method":"ping"}"#,
        r#"{"jsonrpc":"2.0","id":-0,"method":"ping"}"#,
        r#"{"jsonrpc":"2.0","id":true,"method":"ping"}"#,
        r#"{"jsonrpc":"2.0","id":{},"method":"ping"}"#,
        r#"{"jsonrpc":"2.0","id":[1],"method":"ping"}"#,
        r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}"#,
        r#"{"jsonrpc":"2.0","id":1,"\u0069d":2,"method":"ping"}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/call"}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"safe","name":"danger"}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":""}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":7}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":null}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":[]}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":null}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":"x"}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"ping","result":{}}"#,
        r#"{"jsonrpc":"2.0","id":1,"result":{},"error":{}}"#,
        r#"{"jsonrpc":"2.0","id":1,"error":"x"}"#,
        r#"{"jsonrpc":"2.0","id":null,"result":{}}"#,
        r#"{"jsonrpc":"2.0","result":{}}"#,
        r#"{"jsonrpc":"2.0","id":1}"#,
        r#"{"jsonrpc":"2.0","id":1,"params":{},"result":{}}"#,
    ] {
        refused(text, INVALID_REQUEST);
    }
    let long_id = format!(r#"{{"jsonrpc":"2.0","id":"{}","method":"ping"}}"#, "x".repeat(300));
    refused(&long_id, INVALID_REQUEST);
    let deep =
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"m","params":{{"a":{}{}}}}}"#, "[".repeat(70), "]".repeat(70));
    refused(&deep, PARSE_ERROR);
}

#[test]
fn ids_are_compared_by_value_and_sent_back_as_spelled() {
    for (raw, key) in [
        ("0", Key::Integer("0".to_owned())),
        ("-7", Key::Integer("-7".to_owned())),
        ("123456789012345678901234567890", Key::Integer("123456789012345678901234567890".to_owned())),
        (r#""a""#, Key::Text("a".to_owned())),
        (r#""\u0061""#, Key::Text("a".to_owned())),
        (r#""1""#, Key::Text("1".to_owned())),
    ] {
        let frame = read(&format!(r#"{{"jsonrpc":"2.0","id":{raw},"method":"ping"}}"#)).unwrap();
        let Message::Request { id, .. } = frame.message() else { panic!("{raw}") };
        assert_eq!((id.raw(), id.key()), (raw, &key));
    }
}

#[test]
fn the_modern_era_is_recognised() {
    let params = br#"{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}"#;
    let tagged = json::parse(params, &Limits::default()).unwrap();
    let plain = json::parse(br#"{"_meta":{}}"#, &Limits::default()).unwrap();
    assert_eq!(Era::of(None, "tools/call", Some(&tagged)), Era::Modern);
    assert_eq!(Era::of(None, "server/discover", None), Era::Modern);
    assert_eq!(Era::of(Some("2026-07-28"), "tools/list", None), Era::Modern);
    assert_eq!(Era::of(Some("2027-01-01"), "tools/list", None), Era::Modern);
    assert_eq!(Era::of(Some("2025-11-25"), "tools/call", Some(&plain)), Era::Legacy);
    assert_eq!(Era::of(Some("zzzz"), "tools/call", None), Era::Legacy);
    assert_eq!(Era::of(None, "initialize", None), Era::Legacy);
}

#[test]
fn every_request_of_ours_can_be_read() {
    let frame = super::request_frame(7, "tools/\"call", Some(br#"{"a": 1 }"#));
    let frame = Frame::read(frame.into(), &Limits::default()).unwrap();
    let Message::Request { id, method, params } = frame.message() else { panic!() };
    assert_eq!((id.as_u64(), method.as_str()), (Some(7), "tools/\"call"));
    assert_eq!(&frame.raw(params.as_ref().unwrap())[..], br#"{"a": 1 }"#);
}

fn spliced(input: &str, members: &[(&str, &str)]) -> String {
    let node = json::parse(input.as_bytes(), &Limits::default()).unwrap();
    String::from_utf8(splice::with_meta(input.as_bytes(), &node, members).unwrap()).unwrap()
}

#[test]
fn our_members_are_spliced_into_meta() {
    let receipt = [("countersign/receipt", "{\"r\":1}")];
    for (input, expected) in [
        ("{}", r#"{"_meta":{"countersign/receipt":{"r":1}}}"#),
        (r#"{ "a" : 1e2 }"#, r#"{"_meta":{"countersign/receipt":{"r":1}}, "a" : 1e2 }"#),
        (r#"{"_meta":{}}"#, r#"{"_meta":{"countersign/receipt":{"r":1}}}"#),
        (r#"{"_meta": { "x":1}}"#, r#"{"_meta": {"countersign/receipt":{"r":1}, "x":1}}"#),
        (r#"{"_meta":null}"#, r#"{"_meta":{"countersign/receipt":{"r":1}}}"#),
        (r#"{"_meta":{"countersign/receipt":"forged","y":2}}"#, r#"{"_meta":{"countersign/receipt":{"r":1},"y":2}}"#),
        (
            r#"{"_meta":{"\u0063ountersign/unrecorded":true}}"#,
            r#"{"_meta":{"countersign/receipt":{"r":1},"\u0063ountersign/unrecorded":null}}"#,
        ),
    ] {
        let text = spliced(input, &receipt);
        assert_eq!(text, expected);
        json::parse(text.as_bytes(), &Limits::default()).expect("one reading");
    }
    let array = json::parse(b"[1]", &Limits::default()).unwrap();
    assert_eq!(splice::with_meta(b"[1]", &array, &receipt), None);
}

fn json_text() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<i32>().prop_map(|number| number.to_string()),
        Just("1.50e+3".to_owned()),
        "[a-z\u{e9} ]{0,8}".prop_map(|text| super::quoted(&text)),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|items| format!("[ {}\n]", items.join(" ,"))),
            prop::collection::btree_map("[a-z]{1,4}|_meta", inner, 0..4).prop_map(|members| {
                let members: Vec<String> = members.iter().map(|(key, value)| format!("\"{key}\" : {value}")).collect();
                format!("{{{} }}", members.join(", "))
            }),
        ]
    })
}

/// Cuts `bytes` at the given places.
fn chunks<'a>(bytes: &'a [u8], cuts: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    at.extend([0, bytes.len()]);
    at.sort_unstable();
    at.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
}

proptest! {
    #[test]
    fn a_splice_without_what_was_put_in_is_the_original(text in json_text()) {
        let node = json::parse(text.as_bytes(), &Limits::default()).unwrap();
        let member = [("countersign/receipt", "\"R\"")];
        let own = r#""countersign/receipt":"R""#;
        if let Some(out) = splice::with_meta(text.as_bytes(), &node, &member) {
            let out = String::from_utf8(out).unwrap();
            json::parse(out.as_bytes(), &Limits::default()).unwrap();
            let whole = format!("\"_meta\":{{{own}}}");
            let candidates = [
                out.replacen(&format!("{whole},"), "", 1),
                out.replacen(&whole, "", 1),
                out.replacen(&format!("{own},"), "", 1),
                out.replacen(own, "", 1),
            ];
            let replaced = node.get("_meta").is_some_and(|meta| meta.as_object().is_none());
            prop_assert!(replaced || candidates.contains(&text.trim().to_owned()), "{} became {}", text, out);
        } else {
            prop_assert!(node.as_object().is_none());
        }
    }

    #[test]
    fn chunking_changes_no_event(
        stream in "(data|event|id|:|retry|x)?(: ?[a-z:\u{e9}]{0,6})?(\r\n|\n|\r){0,3}([ -~]{0,9}(\r\n|\n|\r){0,2}){0,8}",
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let whole = SseDecoder::new(1024).push(stream.as_bytes()).unwrap();
        let mut decoder = SseDecoder::new(1024);
        let mut parts = Vec::new();
        for chunk in chunks(stream.as_bytes(), &cuts) {
            parts.extend(decoder.push(chunk).unwrap());
        }
        prop_assert_eq!(whole, parts);
    }

    #[test]
    fn an_event_comes_back_as_it_went(text in json_text(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..5)) {
        let stream = [sse::KEEP_ALIVE, &sse::encode(text.as_bytes())].concat();
        let mut decoder = SseDecoder::new(4096);
        let mut events = Vec::new();
        for chunk in chunks(&stream, &cuts) {
            events.extend(decoder.push(chunk).unwrap());
        }
        let expected = Event { name: "message".to_owned(), data: text.into_bytes(), id: None };
        prop_assert_eq!(events, vec![expected]);
    }

    #[test]
    fn chunking_changes_no_line(stream in "([ -~]{0,9}\r?\n){0,6}[a-z]{0,5}", cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8)) {
        let whole = LineDecoder::new(64).push(stream.as_bytes()).unwrap();
        let mut decoder = LineDecoder::new(64);
        let mut parts = Vec::new();
        for chunk in chunks(stream.as_bytes(), &cuts) {
            parts.extend(decoder.push(chunk).unwrap());
        }
        prop_assert_eq!(whole, parts);
    }

    #[test]
    fn a_line_keeps_the_meaning(text in json_text()) {
        let line = line::encode(text.as_bytes());
        let lines = LineDecoder::new(4096).push(&line).unwrap();
        prop_assert_eq!(lines.len(), 1);
        let (before, after) = (json::parse(text.as_bytes(), &Limits::default()), json::parse(&lines[0], &Limits::default()));
        prop_assert_eq!(before.unwrap(), after.unwrap());
    }
}

#[test]
fn long_lines_and_events_are_refused() {
    assert!(LineDecoder::new(4).push(b"12345\n").is_err());
    assert!(LineDecoder::new(4).push(b"123456").is_err());
    assert_eq!(LineDecoder::new(4).push(b"1234\r\n").unwrap(), vec![Bytes::from_static(b"1234")]);
    assert!(SseDecoder::new(8).push(b"data: 123").is_err());
    assert!(SseDecoder::new(8).push(b"data: 1\ndata: 2").is_err());
    let mut decoder = SseDecoder::new(8);
    for _ in 0..100 {
        assert!(decoder.push(b": hello\n").unwrap().is_empty());
    }
}
