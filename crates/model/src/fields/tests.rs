//! Laws of the fields: nothing is lost, nothing is said twice, and the layout is what it is written to be.

use proptest::prelude::*;
use sha2::{Digest as _, Sha256};

use super::*;

const SALT: Salt = Salt([7; 32]);

/// The names and values of `text`, or `whole`.
fn check(text: &str, expected: &str) {
    let shown: Vec<String> = fields(text.as_bytes(), b"")
        .iter()
        .map(|field| match field.kind {
            FieldKind::Member => format!("{:?}={}", field.name, std::str::from_utf8(field.value).unwrap()),
            kind => kind.as_str().to_owned(),
        })
        .collect();
    assert_eq!(shown.join(" "), expected, "of {text}");
}

#[test]
fn canonical_objects_are_taken_apart() {
    check(r#"{"a":1}"#, r#""a"=1"#);
    check(r#"{"a":1,"b":[1,{"c":"},"}]}"#, r#""a"=1 "b"=[1,{"c":"},"}]"#);
    check(r#"{"":"\"}","b":{}}"#, r#"""="\"}" "b"={}"#);
    check(r#"{"\n\u0001\"\\":null}"#, r#""\n\u{1}\"\\"=null"#);
    check(r#"{"sql":"SELECT 1","ü":true}"#, r#""sql"="SELECT 1" "ü"=true"#);
}

#[test]
fn everything_else_is_one_field() {
    let all = [
        "",
        "{}",
        "[1,2]",
        "1",
        "\"{\"",
        "{",
        "{\"a\"",
        "{\"a\":",
        "{\"a\":}",
        "{\"a\":1",
        "{\"a\":1}x",
        "{\"a\":1,}",
        // Other spellings than the one: white space, order, keys twice, escapes.
        " {\"a\":1}",
        "{ \"a\":1}",
        "{\"a\" :1}",
        "{\"b\":1,\"a\":1}",
        "{\"a\":1,\"a\":2}",
        r#"{"\u0061":1}"#,
        r#"{"\u000a":1}"#,
        r#"{"\u001F":1}"#,
        r#"{"\/":1}"#,
        "{\"\n\":1}",
        "{\"a\":]}",
    ];
    for text in all {
        check(text, "whole");
    }
    assert_eq!(fields(b"{\"\xff\":1}", b"").first().unwrap().kind, FieldKind::Whole);
}

#[test]
fn what_has_too_many_members_is_one_field() {
    let object = |count: usize| {
        let members: Vec<String> = (0..count).map(|n| format!("\"{n:04}\":0")).collect();
        format!("{{{}}}", members.join(","))
    };
    assert_eq!(fields(object(FIELDS_MAX).as_bytes(), b"m").len(), COMMITMENTS_MAX);
    check(&object(FIELDS_MAX + 1), "whole");
}

/// Pins the layout: the hashes as the page for auditors describes them, made here from nothing but SHA-256.
#[test]
fn the_layout_is_as_documented() {
    fn h(domain: &str, parts: &[&[u8]]) -> [u8; 32] {
        let mut input = Vec::new();
        for part in std::iter::once(domain.as_bytes()).chain(parts.iter().copied()) {
            input.extend_from_slice(&u64::try_from(part.len()).unwrap().to_be_bytes());
            input.extend_from_slice(part);
        }
        Sha256::digest(input).into()
    }
    let field = |kind: &str, name: &str, value: &str| {
        let salt = h("countersign field salt v1", &[&SALT.0, kind.as_bytes(), name.as_bytes()]);
        h("countersign field v1", &[&salt, kind.as_bytes(), name.as_bytes(), value.as_bytes()])
    };
    let mut all = [field("member", "a", "1"), field("member", "b\n", r#""x""#), field("meta", "", r#"{"k":1}"#)];
    all.sort_unstable();
    let [a, b, c] = &all;
    let expected = h("countersign fields v1", &[a, b, c]);
    let commitment = Commitment::to_fields(&SALT, br#"{"a":1,"b\n":"x"}"#, br#"{"k":1}"#);
    assert_eq!((commitment.hash.0, commitment.bytes), (expected, Bytes(24)));
    // And one value, so that another implementation can compare.
    assert_eq!(
        Commitment::to_fields(&SALT, br#"{"sql":"SELECT 1"}"#, b"").hash.hex(),
        "09fcf65357ee218c88b8ffa906663c38b8e3950ee21adbbe940b503bb13d5fcc"
    );
}

/// Objects, and texts that are nearly objects.
fn text() -> impl Strategy<Value = Vec<u8>> {
    let name = prop_oneof!["[a-c]{0,2}", Just("\\n".to_owned()), Just("ü".to_owned())];
    let value = prop_oneof![
        Just("1"),
        Just("11"),
        Just("\"\""),
        Just("\"a\\\"\""),
        Just("[]"),
        Just("[1,2]"),
        Just("{\"a\":1}"),
        Just("]"),
    ];
    let members = proptest::collection::vec((name, value), 0..5);
    prop_oneof![
        members.prop_map(|members| {
            let members: Vec<String> = members.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
            format!("{{{}}}", members.join(",")).into_bytes()
        }),
        "[\\[\\]{}\",:a1\\\\]{0,12}".prop_map(String::into_bytes),
        proptest::collection::vec(any::<u8>(), 0..24),
    ]
}

fn quoted(name: &str) -> String {
    let mut out = String::from("\"");
    for c in name.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\u{c}' => out.push_str("\\f"),
            '\r' => out.push_str("\\r"),
            c if u32::from(c) < 0x20 => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

proptest! {
    /// Nothing is lost: the fields give back the very bytes.
    #[test]
    fn the_fields_are_the_text(text in text()) {
        let fields = fields(&text, b"");
        if fields.iter().all(|field| field.kind == FieldKind::Member) {
            let mut again = Vec::new();
            for field in &fields {
                again.extend_from_slice(if again.is_empty() { b"{" } else { b"," });
                again.extend_from_slice(quoted(&field.name).as_bytes());
                again.push(b':');
                again.extend_from_slice(field.value);
            }
            again.push(b'}');
            prop_assert_eq!(again, text);
        } else {
            prop_assert_eq!(fields.len(), 1);
            prop_assert_eq!(fields[0].value, &text[..]);
        }
    }

    /// It opens for the same bytes and for no others: one changed, one removed, one more, another salt, other `_meta`.
    #[test]
    fn it_opens_for_the_same_alone(text in text(), other in text(), at in any::<prop::sample::Index>(), flip in 1_u8..) {
        let commitment = Commitment::to_fields(&SALT, &text, b"");
        prop_assert_eq!(commitment, Commitment::to_fields(&SALT, &text.clone(), b""));
        prop_assert_eq!(commitment.hash == Commitment::to_fields(&SALT, &other, b"").hash, text == other);
        prop_assert_ne!(commitment.hash, Commitment::to_fields(&Salt([8; 32]), &text, b"").hash);
        prop_assert_ne!(commitment.hash, Commitment::to_fields(&SALT, &text, b"{}").hash);
        if !text.is_empty() {
            let mut changed = text.clone();
            changed[at.index(text.len())] ^= flip;
            prop_assert_ne!(commitment.hash, Commitment::to_fields(&SALT, &changed, b"").hash);
            changed.remove(at.index(text.len()));
            prop_assert_ne!(commitment.hash, Commitment::to_fields(&SALT, &changed, b"").hash);
        }
    }

    /// A field's commitment says which field it is: no other kind, name, value or salt has it.
    #[test]
    fn a_field_has_its_own_commitment(a in ("[ab]{0,3}", "[ab]{0,3}"), b in ("[ab]{0,3}", "[ab]{0,3}")) {
        let field = |kind, (name, value): &'_ (String, String)| {
            let field = Field { kind, name: name.clone(), value: value.as_bytes() };
            (field.salt(&SALT), field.commitment(&SALT), field.commitment(&field.salt(&SALT)))
        };
        let (one, two) = (field(FieldKind::Member, &a), field(FieldKind::Member, &b));
        prop_assert_eq!(one.0 == two.0, a.0 == b.0);
        prop_assert_eq!(one.1 == two.1, a == b);
        let other = field(FieldKind::Whole, &a);
        prop_assert!(one.0 != other.0 && one.1 != other.1 && one.2 != one.1);
    }
}
