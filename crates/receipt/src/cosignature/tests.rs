//! Cosignatures: the example of the specification's form, every changed bit, foreign lines, and what no key is.

use ed25519_dalek::{Signer as _, SigningKey};
use expect_test::{Expect, expect};

use super::*;

const TEXT: &str = "example.com/log\n5\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n";

fn witness() -> (SigningKey, WitnessKey) {
    let signing = SigningKey::from_bytes(&[7; 32]);
    let key = WitnessKey::new("example.com/w1", signing.verifying_key().as_bytes()).unwrap();
    (signing, key)
}

fn line(time_s: u64) -> String {
    let (signing, key) = witness();
    key.line(time_s, &signing.sign(message(time_s, TEXT).as_bytes()).to_bytes())
}

fn check(note: &str, expected: Expect) {
    let said = Note::parse(note).and_then(|note| witness().1.verify(&note));
    expected.assert_eq(&said.map_or_else(|error| error.to_string(), |cosigned| cosigned.time_s.to_string()));
}

#[test]
fn golden() {
    expect!["cosignature/v1\ntime 1679315147\nexample.com/log\n5\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"]
        .assert_eq(&message(1_679_315_147, TEXT));
    let (_, key) = witness();
    expect!["example.com/w1+6dffb260+BOpKbGPinFIKvvVQexMuxfmVR3auvr57kkIe6mkURtIs"].assert_eq(&key.to_string());
    assert_eq!(WitnessKey::parse(&key.to_string()).unwrap(), key);
    check(&format!("{TEXT}\n{}", line(1_679_315_147)), expect!["1679315147"]);
}

#[test]
fn the_newest_counts_and_a_wrong_one_refuses_all() {
    let other = "— example.com/log AAAAAAA=\n";
    check(&format!("{TEXT}\n{other}{}{}", line(5), line(9)), expect!["9"]);
    check(&format!("{TEXT}\n{other}{}{}", line(9), line(5)), expect!["9"]);
    check(&format!("{TEXT}\n{other}"), expect!["note is not signed by `example.com/w1`"]);
    // The same bytes under another time: the time is signed.
    let (signing, key) = witness();
    let stolen = key.line(10, &signing.sign(message(9, TEXT).as_bytes()).to_bytes());
    check(&format!("{TEXT}\n{}{stolen}", line(9)), expect!["signature of `example.com/w1` is wrong"]);
    // A plain signature over the note, as a log would make it, is no cosignature.
    let plain = key.line(9, &signing.sign(TEXT.as_bytes()).to_bytes());
    check(&format!("{TEXT}\n{plain}"), expect!["signature of `example.com/w1` is wrong"]);
    check(&format!("{TEXT}\n{}", line(u64::MAX)), expect!["signature of `example.com/w1` is wrong"]);
}

#[test]
fn every_changed_bit_is_refused() {
    let note = format!("{TEXT}\n{}", line(1_679_315_147));
    let (_, key) = witness();
    for at in 0..note.len() {
        for bit in 0..8 {
            let mut bytes = note.clone().into_bytes();
            bytes[at] ^= 1 << bit;
            let Ok(text) = String::from_utf8(bytes) else { continue };
            assert!(Note::parse(&text).and_then(|note| key.verify(&note)).is_err(), "byte {at} bit {bit}: {text}");
        }
    }
}

#[test]
fn a_log_key_and_a_witness_key_are_two_things() {
    let (signing, key) = witness();
    let log = VerifierKey::new("example.com/w1", signing.verifying_key().as_bytes()).unwrap();
    assert_ne!(log.id(), key.id());
    expect!["verifier key algorithm `1` is not that of a witness (4, Ed25519 cosignatures)"]
        .assert_eq(&WitnessKey::parse(&log.to_string()).unwrap_err().to_string());
    expect!["verifier key algorithm `4` is not Ed25519"]
        .assert_eq(&VerifierKey::parse(&key.to_string()).unwrap_err().to_string());
    let post_quantum = format!("w+00000000+{}", "Bg".to_owned() + &"AA".repeat(20));
    expect!["verifier key `w+00000000+BgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA` is not `<name>+<hash>+<base64>`"]
        .assert_eq(&WitnessKey::parse(&post_quantum).unwrap_err().to_string());
}

#[test]
fn an_answer_is_read_and_cannot_change_the_text() {
    let (_, key) = witness();
    let accept = |answer: &str| key.accept(TEXT, answer).map(|cosigned| cosigned.line);
    assert_eq!(accept(&line(9)).unwrap(), line(9));
    assert_eq!(accept(&format!("— stranger AAAAAAA=\n{}", line(9))).unwrap(), line(9));
    assert!(accept("").is_err());
    assert!(accept("— stranger AAAAAAA=\n").is_err());
    // Text smuggled in front of the border.
    assert!(accept(&format!("more\n\n{}", line(9))).is_err());
}
