//! The witness's decision as a table: every status of the specification, and that nothing but the truth is cosigned.

#![expect(clippy::cast_possible_truncation, reason = "the numbers of these tests are small")]

use ed25519_dalek::{Signer as _, SigningKey};
use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::*;
use crate::merkle::{HashReader, consistency_proof, leaf_hash, node_hash, root};

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

fn tree(seed: &str, size: u64) -> Tree {
    Tree((0..size).map(|index| leaf_hash(format!("{seed}{index}").as_bytes())).collect())
}

fn head(seed: &str, size: u64) -> TreeHead {
    TreeHead { size, root: root(&tree(seed, size), size).unwrap() }
}

fn signer(of: u8) -> (SigningKey, VerifierKey) {
    let signing = SigningKey::from_bytes(&[of; 32]);
    let key = VerifierKey::new("log", signing.verifying_key().as_bytes()).unwrap();
    (signing, key)
}

fn note_of(text: &str, by: u8) -> String {
    let (signing, key) = signer(by);
    Note::render(text, &key, &signing.sign(text.as_bytes()).to_bytes())
}

fn note(seed: &str, size: u64) -> String {
    let TreeHead { size, root } = head(seed, size);
    note_of(&Checkpoint { origin: "log".into(), size, root }.signed_body(), 1)
}

fn path(seed: &str, old: u64, new: u64) -> Vec<Hash> {
    consistency_proof(&tree(seed, new), old, new).unwrap()
}

/// What is known, what is sent, what comes back: status, size of a 409, and why.
fn check(known: Option<TreeHead>, body: &str, expected: Expect) {
    let keys = [LogKey::new(signer(1).1)];
    let known = known.map(|head| Known { head, signer: signer(1).1 });
    let said = Submission::parse(body.as_bytes())
        .and_then(|submission| decide(&submission, &keys, known.as_ref()))
        .map_or_else(
            |refusal| match refusal.known_size() {
                Some(size) => format!("{} [{size}] {refusal}", refusal.status()),
                None => format!("{} {refusal}", refusal.status()),
            },
            |accepted| format!("200 {}", accepted.checkpoint.size),
        );
    expected.assert_eq(&said);
}

#[test]
fn what_is_cosigned() {
    check(None, &submission(0, &[], &note("a", 5)), expect!["200 5"]);
    check(None, &submission(0, &[], &note("a", 0)), expect!["200 0"]);
    check(Some(head("a", 3)), &submission(3, &path("a", 3, 7), &note("a", 7)), expect!["200 7"]);
    check(Some(head("a", 7)), &submission(7, &[], &note("a", 7)), expect!["200 7"]);
    check(Some(head("a", 0)), &submission(0, &[], &note("a", 1)), expect!["200 1"]);
    // Lines of strangers are ignored, and extension lines are the log's own affair.
    let stranger = format!("{}— other AAAAAAA=\n", note("a", 5));
    check(None, &submission(0, &[], &stranger), expect!["200 5"]);
    let extended =
        format!("{}extension\n", Checkpoint { origin: "log".into(), size: 5, root: head("a", 5).root }.signed_body());
    check(None, &submission(0, &[], &note_of(&extended, 1)), expect!["200 5"]);
}

#[test]
fn what_is_kept_holds_no_line_of_strangers() {
    let stranger = format!("{}— other AAAAAAA=\n", note("a", 5));
    let submitted = Submission::parse(submission(0, &[], &stranger).as_bytes()).unwrap();
    assert_eq!(decide(&submitted, &[LogKey::new(signer(1).1)], None).unwrap().note, note("a", 5));
}

#[test]
fn what_is_refused_as_the_specification_says() {
    let good = submission(3, &path("a", 3, 7), &note("a", 7));
    // 404, 403.
    let foreign = note("a", 7).replace("log\n7", "other\n7");
    check(None, &submission(0, &[], &foreign), expect!["404 log `other` is not one that this witness knows"]);
    let text = Checkpoint { origin: "log".into(), size: 7, root: head("a", 7).root }.signed_body();
    check(
        None,
        &submission(0, &[], &note_of(&text, 2)),
        expect!["403 checkpoint is not signed by a known key of `log`"],
    );
    check(
        None,
        &submission(0, &[], &note("a", 7).replace("log\n7", "log\n8")),
        expect!["403 checkpoint is not signed by a known key of `log`"],
    );
    // 400.
    check(
        Some(head("a", 3)),
        &submission(8, &[], &note("a", 7)),
        expect!["400 submission is malformed: the proof starts at `8`, the checkpoint has only `7`"],
    );
    check(
        None,
        &good.replace("old 3", "old 03"),
        expect!["400 submission is malformed: line `old 03` is not `old <number>`"],
    );
    check(
        None,
        &good.replace("old 3", "Old 3"),
        expect!["400 submission is malformed: line `Old 3` is not `old <number>`"],
    );
    check(
        None,
        &good.replace("old 3\n", "old 3\nxx\n"),
        expect!["400 submission is malformed: line `xx` is not a hash in base64"],
    );
    check(None, "old 0\n", expect!["400 submission is malformed: it has no empty line"]);
    check(
        None,
        "old 0\n\nlog\n",
        expect![
            "400 submission is malformed: note has no text, blank line and signature lines, each ended by a newline"
        ],
    );
    let long = submission(3, &[head("a", 1).root; 64], &note("a", 7));
    check(Some(head("a", 3)), &long, expect!["400 submission is malformed: the proof has more than 63 lines"]);
    // 409 with the size.
    check(None, &good, expect!["409 [0] the last size cosigned here is `0`, the proof starts at `3`"]);
    check(Some(head("a", 9)), &good, expect!["409 [9] the last size cosigned here is `9`, the proof starts at `3`"]);
    check(
        Some(head("a", 7)),
        &submission(7, &[], &note("b", 7)),
        expect![
            "409 [7] a second root for size `7`: `b4nPCXrl7ZZVrAfJYrA1yw3germhBE1Nh6IkxcbID5M=`, and `X94E0q+rDcjTivWoEflok8dGFJodqrVFU9mvpyjeHfU=` was cosigned"
        ],
    );
    // 422.
    check(
        Some(head("b", 3)),
        &good,
        expect![
            "422 consistency proof does not hold: the path leads to another root than `jEWpbyzkHIMJOtkidkhg4YPffBVEof87Sp7Poy4nRtA=`"
        ],
    );
    check(
        Some(head("a", 3)),
        &submission(3, &[], &note("a", 7)),
        expect!["422 consistency proof does not hold: the path has the wrong length: `0` hashes"],
    );
    check(
        None,
        &submission(0, &path("a", 3, 7), &note("a", 7)),
        expect!["422 consistency proof does not hold: the path has the wrong length: `4` hashes"],
    );
    check(
        Some(head("a", 7)),
        &submission(7, &[head("a", 1).root], &note("a", 7)),
        expect!["422 consistency proof does not hold: the path has the wrong length: `1` hashes"],
    );
    let empty = Checkpoint { origin: "log".into(), size: 0, root: head("a", 1).root }.signed_body();
    check(
        None,
        &submission(0, &[], &note_of(&empty, 1)),
        expect!["422 consistency proof does not hold: an empty log has another root"],
    );
}

/// The tree of `size`, signed by these, after one of `old` that `last` had signed; the keys 1, 2 and 3 are the log's.
fn check_keys(keys: &[LogKey], last: (u64, u8), size: u64, by: &[u8], expected: &str) {
    let text = Checkpoint { origin: "log".into(), size, root: head("a", size).root }.signed_body();
    let lines = by.iter().map(|by| note_of(&text, *by).rsplit_once("\n\n").unwrap().1.to_owned());
    let note = format!("{text}\n{}", lines.collect::<String>());
    let known = Known { head: head("a", last.0), signer: signer(last.1).1 };
    let submitted = Submission::parse(submission(last.0, &path("a", last.0, size), &note).as_bytes()).unwrap();
    let said = match decide(&submitted, keys, Some(&known)) {
        Ok(accepted) => {
            assert!(Note::parse(&accepted.note).unwrap().verify(&accepted.signer).is_ok());
            let by = (1..=3).find(|by| signer(*by).1 == accepted.signer).unwrap();
            format!("200 by {by}")
        }
        Err(refusal) => {
            format!("{} {}", refusal.status(), refusal.to_string().split(" of ").next().unwrap_or_default())
        }
    };
    let id = |by: u8| signer(by).1.id_hex();
    assert_eq!(said, expected.replace("key 1", &format!("key {}", id(1))).replace("key 2", &format!("key {}", id(2))));
}

#[test]
fn an_older_key_gets_nothing_once_a_newer_one_was_cosigned() {
    let keys = [1, 2, 3].map(|by| LogKey::new(signer(by).1));
    check_keys(&keys, (3, 1), 5, &[1], "200 by 1");
    check_keys(&keys, (3, 1), 5, &[2], "200 by 2");
    check_keys(&keys, (3, 2), 5, &[2], "200 by 2");
    check_keys(&keys, (3, 2), 5, &[1], "403 key 1");
    check_keys(&keys, (3, 3), 5, &[2], "403 key 2");
    // Not for the same tree either: that would bring the older key back.
    check_keys(&keys, (3, 2), 3, &[1], "403 key 1");
    check_keys(&keys, (3, 2), 5, &[1, 2], "200 by 2");
    check_keys(&keys, (3, 1), 5, &[3, 1], "200 by 3");
    // Who signed last is not among the keys: nothing is known about the order.
    check_keys(&keys[..2], (3, 3), 5, &[2], "403 key 2");
}

#[test]
fn a_list_of_keys_says_which_size_is_whose() {
    let rotation = |first: u64, old: u8, new: u8| {
        let rotation = crate::keys::Rotation { first, old: signer(old).1, new: signer(new).1 };
        note_of(&rotation.text(), old)
    };
    let mut chain = KeyChain::of(signer(1).1);
    chain.extend(&rotation(4, 1, 2)).unwrap();
    chain.extend(&rotation(7, 2, 3)).unwrap();
    let keys = LogKey::of_chain(&chain);
    assert_eq!(
        keys.iter().map(|key| (key.from, key.until)).collect::<Vec<_>>(),
        [(0, Some(4)), (4, Some(7)), (7, None)]
    );
    check_keys(&keys, (2, 1), 3, &[1], "200 by 1");
    check_keys(&keys, (2, 1), 3, &[2], "403 key 2");
    // The thief comes before the owner's first tree under the new key.
    check_keys(&keys, (3, 1), 4, &[1], "403 key 1");
    check_keys(&keys, (3, 1), 6, &[2], "200 by 2");
    check_keys(&keys, (3, 1), 9, &[2], "403 key 2");
    check_keys(&keys, (3, 1), 9, &[3], "200 by 3");
}

#[test]
fn a_log_set_back_behind_its_change_of_keys_is_told_where_it_stands() {
    let keys = [1, 2].map(|by| LogKey::new(signer(by).1));
    let known = Known { head: head("a", 5), signer: signer(2).1 };
    let told = |old: u64, seed: &str, size: u64| {
        let body = submission(old, &path(seed, old, size), &note(seed, size));
        decide(&Submission::parse(body.as_bytes()).unwrap(), &keys, Some(&known)).unwrap_err().status()
    };
    assert_eq!(told(3, "a", 4), 409, "set back");
    assert_eq!(told(5, "b", 5), 409, "forked at that size");
    assert_eq!(told(5, "b", 7), 422, "forked and grown");
    assert_eq!(told(5, "a", 7), 403, "grown under the old key");
}

proptest! {
    /// Whatever is submitted in whatever order: what is cosigned of one log is a chain of trees, each extending the last.
    #[test]
    fn only_one_history_is_ever_cosigned(steps in prop::collection::vec((0..3_usize, 0..12_u64, 0..14_u64), 1..40)) {
        let seeds = ["a", "b", "c"];
        let keys = [LogKey::new(signer(1).1)];
        let mut known: Option<Known> = None;
        let mut chain: Vec<(usize, TreeHead)> = Vec::new();
        for (seed, old, new) in steps {
            let proof = if old <= new { path(seeds[seed], old, new) } else { Vec::new() };
            let body = submission(old, &proof, &note(seeds[seed], new));
            let submitted = Submission::parse(body.as_bytes()).unwrap();
            if let Ok(accepted) = decide(&submitted, &keys, known.as_ref()) {
                known = Some(Known { head: accepted.checkpoint.head(), signer: accepted.signer });
                chain.push((seed, accepted.checkpoint.head()));
            }
        }
        for pair in chain.windows(2) {
            prop_assert!(pair[0].1.size <= pair[1].1.size);
            // The three logs share no leaf, so only the empty tree is common to two of them.
            prop_assert!(pair[0].1.size == 0 || pair[0].0 == pair[1].0);
        }
    }
}
