//! tlog-proof text: round trip, strictness, and refusal of any change.

use ed25519_dalek::{Signer as _, SigningKey};
use expect_test::{Expect, expect};

use super::*;
use crate::merkle::node_hash;
use crate::note::Note;

fn proof() -> (TlogProof, VerifierKey) {
    let signing = SigningKey::from_bytes(&[7; 32]);
    let key = VerifierKey::new("example.com/log", signing.verifying_key().as_bytes()).unwrap();
    let left = leaf_hash(b"left");
    let checkpoint =
        Checkpoint { origin: "example.com/log".into(), size: 2, root: node_hash(&left, &leaf_hash(b"right")) };
    let body = checkpoint.signed_body();
    let note = Note::render(&body, &key, &signing.sign(body.as_bytes()).to_bytes());
    (TlogProof { extra: None, index: 1, path: vec![left], checkpoint: note }, key)
}

fn check(text: &str, expected: Expect) {
    let (_, key) = proof();
    let result = TlogProof::parse(text).and_then(|proof| {
        assert_eq!(proof.to_string(), text);
        proof.verify(b"right", &key)
    });
    expected.assert_eq(&result.map_or_else(|error| error.to_string(), |checkpoint| checkpoint.size.to_string()));
}

#[test]
fn parses_strictly() {
    let text = proof().0.to_string();
    let path = format!("{}\n", leaf_hash(b"left"));
    check(&text, expect!["2"]);
    check(&text.replace("index 1\n", "extra AAEC\nindex 1\n"), expect!["2"]);
    check(
        &text.replace("index 1\n", "extra ?\nindex 1\n"),
        expect!["extra line `extra ?` is not base64 of at most 65536 bytes"],
    );
    check(
        &text.replace("@v1", "@v2"),
        expect!["proof starts with `c2sp.org/tlog-proof@v2`, not with `c2sp.org/tlog-proof@v1`"],
    );
    check(&text.replace("index 1", "index 01"), expect!["line `index 01` is not `index <number>`"]);
    check(&text.replace("index 1", "Index 1"), expect!["line `Index 1` is not `index <number>`"]);
    check(
        &text.replace("index 1", "index 0"),
        expect!["inclusion: the path leads to another root than `GHTNKZxGol8psBHCaNxtTHOp1w5gHWjT4e7jWaUK5tw=`"],
    );
    check(&text.replace("index 1", "index 2"), expect!["inclusion: leaf `2` is not in a tree of `2` leaves"]);
    check(&text.replace(&path, ""), expect!["inclusion: the path has the wrong length: `0` hashes"]);
    check(&text.replace(&path, &path.repeat(2)), expect!["inclusion: the path has the wrong length: `2` hashes"]);
    check(&text.replace(&path, &path.repeat(64)), expect!["proof has more than 63 hashes"]);
    check(&text.replace(&path, "AAAA\n"), expect!["path line `AAAA` is not the base64 of 32 bytes"]);
    check(
        &text.replace('\n', "\r\n"),
        expect![[r#"proof starts with `c2sp.org/tlog-proof@v1\r`, not with `c2sp.org/tlog-proof@v1`"#]],
    );
    check("", expect!["proof starts with ``, not with `c2sp.org/tlog-proof@v1`"]);
    check("c2sp.org/tlog-proof@v1\nindex 1\n", expect!["proof ends before its checkpoint"]);
    check("c2sp.org/tlog-proof@v1\nindex 1\n\n", expect!["proof ends before its checkpoint"]);
    check(
        &text.replace("example.com/log\n2", "example.com/log\n3"),
        expect!["checkpoint of the proof: signature of `example.com/log` is wrong"],
    );
}

#[test]
fn every_changed_byte_is_refused() {
    let (proof, key) = proof();
    let text = proof.to_string();
    for at in 0..text.len() {
        for bit in 0..8 {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1 << bit;
            let Ok(changed) = String::from_utf8(bytes) else { continue };
            let result = TlogProof::parse(&changed).and_then(|proof| proof.verify(b"right", &key));
            assert!(result.is_err(), "byte {at} bit {bit}: {changed}");
        }
    }
    assert!(proof.verify(b"Right", &key).is_err());
}
