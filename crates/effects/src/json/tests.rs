use expect_test::{Expect, expect};

use super::{Limits, canonical, parse};

fn check(text: &str, expected: &Expect) {
    let shown = match parse(text.as_bytes(), &Limits::default()) {
        Ok(node) => String::from_utf8(canonical(&node, text.as_bytes())).unwrap(),
        Err(error) => format!("{}: {error}", error.reason().as_str()),
    };
    expected.assert_eq(&shown);
}

#[test]
fn what_is_accepted_and_what_is_refused() {
    check(
        r#" { "b" : [ 1 , -0 , 1e400 , 12345678901234567890 ] , "a\/" : "\u00e9\n\u0001\ud83d\ude00" } "#,
        &expect![[r#"{"a/":"é\n\u0001😀","b":[1,-0,1e400,12345678901234567890]}"#]],
    );
    check(r#"{"a":1,"\u0061":2}"#, &expect!["malformed: duplicate key `a` at byte 7"]);
    check("{\"a\":1,\"k\u{202e}\":1,\"k\u{202e}\":2}", &expect![[r"malformed: duplicate key `k\u{202e}` at byte 16"]]);
    check(r#""\ud800""#, &expect!["malformed: lone surrogate at byte 1"]);
    check(r#""\ud800\u0041""#, &expect!["malformed: lone surrogate at byte 1"]);
    check(r#""\udc00\ud800""#, &expect!["malformed: lone surrogate at byte 1"]);
    check("\"a\tb\"", &expect!["malformed: control character in a string at byte 2"]);
    check("\u{feff}1", &expect!["malformed: byte order mark at byte 0"]);
    check("01", &expect!["malformed: invalid number at byte 1"]);
    check("1.", &expect!["malformed: invalid number at byte 2"]);
    check("+1", &expect!["malformed: unexpected byte 0x2b, expected a value at byte 0"]);
    check("NaN", &expect!["malformed: unexpected byte 0x4e, expected a value at byte 0"]);
    check("nul", &expect!["malformed: unexpected end at byte 3"]);
    check("[1,]", &expect!["malformed: unexpected byte 0x5d, expected a value at byte 3"]);
    check("1 1", &expect!["malformed: trailing bytes at byte 2"]);
    check("", &expect!["malformed: unexpected end at byte 0"]);
}

#[test]
fn limits_are_exact_and_have_their_reason() {
    let limits = Limits { bytes_max: 12, depth_max: 2, nodes_max: 3 };
    let shown = |text: &str| match parse(text.as_bytes(), &limits) {
        Ok(_) => "ok".to_owned(),
        Err(error) => format!("{}: {error}", error.reason().as_str()),
    };
    expect!["ok"].assert_eq(&shown("[[1]]       "));
    expect!["oversize: json text over 12 bytes at byte 12"].assert_eq(&shown("[[1]]        "));
    expect!["malformed: nesting over 2 levels at byte 2"].assert_eq(&shown("[[[]]]"));
    expect!["malformed: more than 3 values at byte 5"].assert_eq(&shown("[1,2,3]"));
}

/// However deep a caller's limit, a bomb costs no stack.
#[test]
fn a_depth_bomb_is_refused_before_the_stack_is() {
    let limits = Limits { depth_max: usize::MAX, ..Limits::default() };
    for open in ["[", "{\"a\":", "[{\"a\":["] {
        assert!(parse(open.repeat(100_000).as_bytes(), &limits).is_err());
    }
    let fits = "[".repeat(super::DEPTH_CEILING) + &"]".repeat(super::DEPTH_CEILING);
    assert!(parse(fits.as_bytes(), &limits).is_ok());
}

/// A pairwise search for duplicates would take minutes here.
#[test]
fn many_keys_are_not_quadratic_and_the_duplicate_is_found() {
    let members: Vec<String> = (0..90_000).map(|place| format!("\"k{place}\":0")).collect();
    let text = format!("{{{}}}", members.join(","));
    assert!(parse(text.as_bytes(), &Limits::default()).is_ok());
    let twice = format!("{{{},\"k77\":1,\"k5\":1}}", members.join(","));
    let error = parse(twice.as_bytes(), &Limits::default()).unwrap_err();
    assert_eq!(error.offset, text.len(), "the first that comes twice is named");
    expect!["duplicate key `k77`"].assert_eq(&error.what.to_string());
}

#[test]
fn spans_give_the_bytes_back() {
    let text = br#" {"a" : [ 1.0 , {"b": "\u0041"} ], "c":null} "#;
    let node = parse(text, &Limits::default()).unwrap();
    assert_eq!(node.raw(text), text.trim_ascii());
    let items = node.get("a").unwrap();
    assert_eq!(items.raw(text), br#"[ 1.0 , {"b": "\u0041"} ]"#);
    let [number, object] = items.as_array().unwrap() else { panic!("two items") };
    assert_eq!(number.as_number(text), Some("1.0"));
    assert_eq!(number.as_u64(text), None);
    assert_eq!(object.get("b").unwrap().raw(text), br#""\u0041""#);
    assert_eq!(object.get("b").unwrap().as_str(), Some("A"));
    assert!(node.get("c").unwrap().is_null());
    assert!(node.get("d").is_none());
}
