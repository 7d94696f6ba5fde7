//! What a chain of keys accepts, and that nothing forged gets into one.

use ed25519_dalek::{Signer as _, SigningKey};

use super::*;
use crate::merkle::leaf_hash;

fn pair(seed: u8) -> (SigningKey, VerifierKey) {
    let key = SigningKey::from_bytes(&[seed; 32]);
    let public = VerifierKey::new("example.com/log", key.verifying_key().as_bytes()).unwrap();
    (key, public)
}

fn signed(by: u8, text: &str) -> String {
    let (key, public) = pair(by);
    Note::render(text, &public, &key.sign(text.as_bytes()).to_bytes())
}

/// The statement by key `old` that key `new` signs from `first` on.
fn statement(old: u8, new: u8, first: u64) -> String {
    signed(old, &Rotation { first, old: pair(old).1, new: pair(new).1 }.text())
}

fn checkpoint(by: u8, size: u64) -> String {
    signed(by, &Checkpoint { origin: "example.com/log".into(), size, root: leaf_hash(b"x") }.signed_body())
}

fn file(notes: &[String]) -> String {
    notes.join("\n")
}

#[test]
fn each_size_has_one_key() {
    let text = file(&[statement(1, 2, 10), statement(2, 3, 20)]);
    let chain = KeyChain::parse(pair(1).1, &text).unwrap();
    assert_eq!((chain.to_string(), chain.rotations()), (text, 2));
    for (size, by) in [(0, 1), (9, 1), (10, 2), (19, 2), (20, 3), (u64::MAX >> 1, 3)] {
        for signer in 1..4 {
            let opened = chain.open(&checkpoint(signer, size.min(1 << 60)));
            assert_eq!(opened.is_ok(), signer == by, "size {size} signed by {signer}: {opened:?}");
        }
    }
    assert_eq!(chain.newest(), &pair(3).1);
}

#[test]
fn trust_goes_forward_only() {
    let text = file(&[statement(1, 2, 10), statement(2, 3, 20)]);
    let chain = KeyChain::parse(pair(2).1, &text).unwrap();
    chain.open(&checkpoint(2, 10)).unwrap();
    chain.open(&checkpoint(3, 20)).unwrap();
    let early = chain.open(&checkpoint(1, 9)).unwrap_err();
    assert_eq!(early, CheckpointError::BeforeTrusted { size: 9, first: 10 });
    chain.open_covered(&checkpoint(1, 9)).unwrap();
}

#[test]
fn without_the_list_a_new_keys_checkpoint_is_refused_and_the_remedy_named() {
    let error = KeyChain::of(pair(1).1).open(&checkpoint(2, 10)).unwrap_err();
    assert!(error.to_string().contains("log.keys"), "{error}");
}

#[test]
fn what_does_not_follow_is_refused() {
    let good = statement(1, 2, 10);
    let rotation = |old: u8, new: u8, first| Rotation { first, old: pair(old).1, new: pair(new).1 }.text();
    let other = VerifierKey::new("other", pair(2).1.public()).unwrap();
    let foreign = Rotation { first: 5, old: pair(1).1, new: other }.text();
    let check = |what: &str, text: String| {
        let found = KeyChain::parse(pair(1).1, &text);
        assert!(found.is_err(), "{what}: {found:?}");
    };
    check("signed by the new key", signed(2, &rotation(1, 2, 10)));
    check("signed by a third key", signed(3, &rotation(1, 2, 10)));
    check("changed after signing", good.replace("\n10\n", "\n11\n"));
    check("not by the key in force", file(&[good.clone(), statement(3, 4, 20)]));
    check("two statements by one key", file(&[good.clone(), statement(1, 3, 20)]));
    check("a key comes back", file(&[good.clone(), statement(2, 1, 20)]));
    check("back in time", file(&[good.clone(), statement(2, 3, 10)]));
    check("from the start", statement(1, 2, 0));
    check("a key follows itself", signed(1, &rotation(1, 1, 10)));
    check("another log's key", signed(1, &foreign));
    check("a chain of strangers", statement(5, 6, 10));
    check("the first statement is gone", statement(2, 3, 20));
    check("a checkpoint", checkpoint(1, 10));
    check("no empty line between", format!("{good}{}", statement(2, 3, 20)));
    check("two empty lines between", format!("{good}\n\n{}", statement(2, 3, 20)));
    check("cut short", good[..good.len() - 1].to_owned());
    check("too long", "x".repeat(MAX_KEYS_BYTES + 1));
    for cut in 1..good.len() {
        if good.is_char_boundary(cut) {
            check("cut", good[..cut].to_owned());
        }
    }
}

#[test]
fn a_statement_is_no_checkpoint() {
    let note = Note::parse(&statement(1, 2, 10)).unwrap();
    assert!(Checkpoint::parse(note.text()).is_err());
    assert!(VerifierKey::new(HEADER, pair(1).1.public()).is_err());
}
