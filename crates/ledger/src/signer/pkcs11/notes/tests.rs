//! What `token.keys` may say.

use super::*;
use crate::signer::generate;

fn key() -> VerifierKey {
    generate("example.com/log").unwrap().0
}

#[test]
fn notes_are_read_as_they_were_written() {
    let (a, b, id) = (key(), key(), KeyId::random().unwrap());
    for notes in [
        Notes::default(),
        Notes { next: Some(id), ..Notes::default() },
        Notes { in_force: Some(a.clone()), ..Notes::default() },
        Notes { in_force: Some(a), next: Some(id), retired: Some(b) },
    ] {
        assert_eq!(Notes::parse(&notes.to_string()), Some(notes));
    }
}

#[test]
fn what_is_unclear_is_refused() {
    let (a, b, id) = (key(), key(), KeyId::random().unwrap());
    for lines in [
        format!("in-force {a}"),
        format!("in-force {a}\nin-force {b}\n"),
        format!("in-force {a}\nretired {a}\n"),
        format!("retired {a}\n"),
        format!("next {id}0\n"),
        format!("next {}\n", "A".repeat(32)),
        format!("next +{}\n", "0".repeat(31)),
        format!("in-force {a}\n\n"),
        format!("in force {a}\n"),
    ] {
        let text = format!("{HEADER}\n{lines}");
        assert_eq!(Notes::parse(&text), None, "{text}");
    }
    let headless = format!("in-force {a}\n");
    for text in ["", "\n", HEADER, &headless] {
        assert_eq!(Notes::parse(text), None, "{text}");
    }
}

#[test]
fn a_missing_file_says_nothing_and_an_empty_one_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::real(dir.path());
    assert_eq!(Notes::read(&store).unwrap(), Notes::default());
    std::fs::write(store.token_notes(), "").unwrap();
    assert!(Notes::read(&store).is_err());
}
