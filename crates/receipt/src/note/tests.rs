//! The signed-note format against a golden note of the first key of RFC 8032 section 7.1.

use ed25519_dalek::{Signer as _, SigningKey};
use expect_test::{Expect, expect};

use super::*;

/// Secret key of RFC 8032 section 7.1, test 1.
const SECRET: [u8; 32] = [
    0x9d, 0x61, 0xb1, 0x9d, 0xef, 0xfd, 0x5a, 0x60, 0xba, 0x84, 0x4a, 0xf4, 0x92, 0xec, 0x2c, 0xc4, 0x44, 0x49, 0xc5,
    0x69, 0x7b, 0x32, 0x69, 0x19, 0x70, 0x3b, 0xac, 0x03, 0x1c, 0xae, 0x7f, 0x60,
];

fn pair(name: &str) -> (SigningKey, VerifierKey) {
    let signing = SigningKey::from_bytes(&SECRET);
    let key = VerifierKey::new(name, signing.verifying_key().as_bytes()).unwrap();
    (signing, key)
}

fn signed(text: &str) -> (String, VerifierKey) {
    let (signing, key) = pair("example.com/log");
    let signature = signing.sign(text.as_bytes()).to_bytes();
    (Note::render(text, &key, &signature), key)
}

/// Parses and verifies with the key of [`pair`].
fn check(note: &str, expected: Expect) {
    let (_, key) = pair("example.com/log");
    let result = Note::parse(note).and_then(|note| note.verify(&key));
    expected.assert_eq(&result.map_or_else(|error| error.to_string(), |()| "verifies".to_owned()));
}

#[test]
fn golden() {
    let (note, key) = signed("hello\n\nworld\n");
    expect!["example.com/log+cc714670+AddamAGCsQq31Uv+08lkBzoO4XLz2qYjJa8CGmj3B1Ea"].assert_eq(&key.to_string());
    expect![[r#"
        hello

        world

        — example.com/log zHFGcEbhkFPzHXKim1Gtp9wTyCJyjmxsbGHEYsA4LvyYI3rIWCQ/rS1pt8jRqqLJOQGu8ie8Oy2T+FzHnNVx5Q2B3Ac=
    "#]]
    .assert_eq(&note);
    assert_eq!(Note::parse(&note).unwrap().text(), "hello\n\nworld\n");
    check(&note, expect!["verifies"]);
}

#[test]
fn notes_that_are_refused() {
    let (note, _) = signed("text\n");
    let (_, line) = note.rsplit_once("\n\n").unwrap();
    check("", expect!["note has no text, blank line and signature lines, each ended by a newline"]);
    check("text\n", expect!["note has no text, blank line and signature lines, each ended by a newline"]);
    check(note.trim_end(), expect!["note has no text, blank line and signature lines, each ended by a newline"]);
    check(&format!("\n\n{line}"), expect!["note has no text, blank line and signature lines, each ended by a newline"]);
    check(&note.replace("text", "te\txt"), expect!["note holds control character `0x09` at byte `2`"]);
    check(&note.replace('\n', "\r\n"), expect!["note holds control character `0x0d` at byte `4`"]);
    check(&note.replace("text", "test"), expect!["signature of `example.com/log` is wrong"]);
    check(
        &note.replace("— ", "- "),
        expect![
            "signature line `- example.com/log zHFGcNSEwW2ZYB+egrqYmKIXEqkur8jxw7FVDkAxyYlqW+48b948CuJ/MNXG5vzzGPRsUiClhZ9R+ShnCFysk7mE3As=` is not `— <name> <base64>`"
        ],
    );
    check(&format!("{note}{}", line.repeat(16)), expect!["note has more than 16 signatures"]);
    check(&"x".repeat(70_000), expect!["note of `70000` bytes is larger than 65536"]);
    check("text\n\n— other AAAAAAA=\n", expect!["note is not signed by `example.com/log`"]);
    check("text\n\n— example.com/log zHFGcAAA\n", expect!["signature of `example.com/log` is wrong"]);
    check("text\n\n— other AAAAAAA\n", expect!["signature line `— other AAAAAAA` is not `— <name> <base64>`"]);
    check("text\n\n— other AAAA\n", expect!["signature line `— other AAAA` is not `— <name> <base64>`"]);
}

#[test]
fn unknown_signatures_are_ignored_and_a_bad_known_one_is_not() {
    let (note, _) = signed("text\n");
    check(&format!("{note}— other AAAAAAA=\n"), expect!["verifies"]);
    check(&note.replace("\n\n", "\n\n— example.com/log AAAAAAA=\n"), expect!["verifies"]);
    check(&format!("{note}— example.com/log zHFGcAAA\n"), expect!["signature of `example.com/log` is wrong"]);
}

#[test]
fn every_changed_byte_of_a_note_is_refused() {
    let (note, _) = signed("example.com/log\n5\nAAAA\n");
    let (_, key) = pair("example.com/log");
    for at in 0..note.len() {
        for bit in 0..8 {
            let mut bytes = note.clone().into_bytes();
            bytes[at] ^= 1 << bit;
            let Ok(text) = String::from_utf8(bytes) else { continue };
            assert!(Note::parse(&text).and_then(|note| note.verify(&key)).is_err(), "byte {at} bit {bit}: {text}");
        }
    }
}

#[test]
fn keys_that_are_refused() {
    let check = |text: &str, expected: Expect| {
        expected.assert_eq(&VerifierKey::parse(text).map_or_else(|error| error.to_string(), |key| key.to_string()));
    };
    let (_, key) = pair("n");
    let text = key.to_string();
    let data = text.rsplit_once('+').unwrap().1;
    check(&text, expect!["n+fda12f92+AddamAGCsQq31Uv+08lkBzoO4XLz2qYjJa8CGmj3B1Ea"]);
    check("", expect!["verifier key `` is not `<name>+<hash>+<base64>`"]);
    check(&format!("n+00000000+{data}"), expect!["verifier key algorithm `211` is not Ed25519"]);
    check(&text.to_uppercase(), expect!["verifier key algorithm `0` is not Ed25519"]);
    check(&format!("a b+00000000+{data}"), expect!["verifier key algorithm `211` is not Ed25519"]);
    check("n+00000000+AgAA", expect!["verifier key algorithm `2` is not Ed25519"]);
    check("n+00000000+AQAA", expect!["verifier key `n+00000000+AQAA` is not `<name>+<hash>+<base64>`"]);
    let weak = VerifierKey::new("n", &[0; 32]);
    expect!["verifier key of `n` is not a valid Ed25519 public key"].assert_eq(&weak.unwrap_err().to_string());
}
