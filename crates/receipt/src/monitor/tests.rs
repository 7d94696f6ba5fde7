//! Comparing two views: what convicts, what does not, and that the evidence stands by itself.

#![expect(clippy::cast_possible_truncation, reason = "the numbers of these tests are small")]

use ed25519_dalek::{Signer as _, SigningKey};
use expect_test::{Expect, expect};

use super::*;
use crate::merkle::{leaf_hash, node_hash, root};
use crate::note::Note;

struct Tree(Vec<Hash>);

impl HashReader for Tree {
    type Error = ();

    fn hash(&self, level: u8, index: u64) -> Result<Hash, ()> {
        match level.checked_sub(1) {
            None => self.0.get(index as usize).copied().ok_or(()),
            Some(below) => Ok(node_hash(&self.hash(below, 2 * index)?, &self.hash(below, 2 * index + 1)?)),
        }
    }
}

/// `fork` leaves differ from some index on: a log that went two ways there.
fn tree(fork: u64, size: u64) -> Tree {
    let leaf = |index| if index < fork { format!("{index}") } else { format!("other {index}") };
    Tree((0..size).map(|index| leaf_hash(leaf(index).as_bytes())).collect())
}

fn head(fork: u64, size: u64) -> TreeHead {
    TreeHead { size, root: root(&tree(fork, size), size).unwrap() }
}

fn key() -> (SigningKey, VerifierKey) {
    let signing = SigningKey::from_bytes(&[3; 32]);
    let key = VerifierKey::new("log", signing.verifying_key().as_bytes()).unwrap();
    (signing, key)
}

fn note(fork: u64, size: u64) -> String {
    let (signing, key) = key();
    let TreeHead { size, root } = head(fork, size);
    let body = Checkpoint { origin: "log".into(), size, root }.signed_body();
    Note::render(&body, &key, &signing.sign(body.as_bytes()).to_bytes())
}

const NONE: u64 = u64::MAX;

fn evidence(shows: Misbehaviour, first: String, second: String, fork: Option<Fork>) -> Evidence {
    Evidence { key: key().1, shows, first, second, fork }
}

fn check(evidence: &Evidence, expected: Expect) {
    let again = Evidence::parse(&evidence.to_json().unwrap()).unwrap();
    assert_eq!(again, *evidence);
    expected.assert_eq(&again.verify().map_or_else(|error| error.to_string(), |shows| shows.as_str().to_owned()));
}

#[test]
fn two_roots_at_one_size() {
    assert_eq!(compare(&head(NONE, 7), &head(5, 7)), Compared::TwoRoots);
    assert_eq!(compare(&head(NONE, 7), &head(7, 7)), Compared::Same);
    check(&evidence(Misbehaviour::SplitView, note(NONE, 7), note(5, 7), None), expect!["split view"]);
    check(
        &evidence(Misbehaviour::SplitView, note(NONE, 7), note(NONE, 7), None),
        expect!["the two checkpoints do not show a split view: their sizes and roots do not contradict"],
    );
}

#[test]
fn the_tiles_show_the_way_or_another_root() {
    for new in 1..40 {
        for old in 0..new {
            let walked = walk(&tree(NONE, new), &head(NONE, old), &head(NONE, new)).unwrap();
            assert_eq!(walked, Walked::Extends, "{old} to {new}");
            for fork in 0..old {
                let Walked::Forks(shown) = walk(&tree(NONE, new), &head(fork, old), &head(NONE, new)).unwrap() else {
                    panic!("{old} to {new}, fork at {fork}");
                };
                let (first, second) = (note(fork, old), note(NONE, new));
                let found = evidence(Misbehaviour::SplitView, first, second, Some(shown));
                assert!(found.verify().is_ok(), "{old} to {new}, fork at {fork}");
            }
        }
    }
}

#[test]
fn tiles_of_another_tree_show_nothing() {
    let error = walk(&tree(3, 9), &head(NONE, 5), &head(NONE, 9)).unwrap_err();
    assert!(matches!(error, WalkError::Tiles { size: 9, .. }), "{error}");
    assert!(matches!(walk(&tree(NONE, 6), &head(NONE, 5), &head(NONE, 9)), Err(WalkError::Read(()))));
}

#[test]
fn evidence_cannot_be_made_up() {
    let Walked::Forks(fork) = walk(&tree(NONE, 9), &head(2, 5), &head(NONE, 9)).unwrap() else { panic!("forks") };
    let good = evidence(Misbehaviour::SplitView, note(2, 5), note(NONE, 9), Some(fork.clone()));
    check(&good, expect!["split view"]);
    // The order in which the two are given does not matter.
    check(&Evidence { first: good.second.clone(), second: good.first.clone(), ..good.clone() }, expect!["split view"]);
    let innocent = Evidence { first: note(NONE, 5), ..good.clone() };
    check(
        &innocent,
        expect!["the two checkpoints do not show a split view: the fork has the root that it should have"],
    );
    let made_up = Fork { root: head(1, 5).root, ..fork };
    check(
        &Evidence { fork: Some(made_up), first: note(NONE, 5), ..good.clone() },
        expect![
            "the two checkpoints do not show a split view: the path leads to another root than `L197w8CvRhbJDHhM3LgeGj/qbJ1qcKCcwjVhWW9KqR0=`"
        ],
    );
    let forged = Evidence { first: good.first.replace("log\n5", "log\n6"), ..good.clone() };
    check(&forged, expect!["checkpoint of the evidence: signature of `log` is wrong"]);
    let rollback = evidence(Misbehaviour::Rollback, note(NONE, 9), note(NONE, 5), None);
    check(&rollback, expect!["rollback"]);
    let growth = Evidence { first: rollback.second.clone(), second: rollback.first.clone(), ..rollback };
    check(&growth, expect!["the two checkpoints do not show a rollback: their sizes and roots do not contradict"]);
}

#[test]
fn json_is_strict() {
    let text = evidence(Misbehaviour::SplitView, note(NONE, 7), note(5, 7), None).to_json().unwrap();
    assert!(Evidence::parse(&text.replacen('{', "{\"more\": 1,", 1)).is_err());
    assert!(Evidence::parse(&text.replace("_evidence\": 1", "_evidence\": 2")).is_err());
    assert!(Evidence::parse(&text.replace("split_view", "theft")).is_err());
}
