//! Receipts: round trip, strict JSON, and each way to be wrong by name.

#![expect(clippy::cast_possible_truncation, reason = "the numbers of these tests are small")]

use ed25519_dalek::{Signer as _, SigningKey};
use expect_test::{Expect, expect};

use super::*;
use crate::merkle::{HashReader, inclusion_proof, root};
use crate::note::Note;

struct Tree(Vec<Hash>);

impl HashReader for Tree {
    type Error = ();

    fn hash(&self, level: u8, index: u64) -> Result<Hash, ()> {
        match level.checked_sub(1) {
            None => self.0.get(index as usize).copied().ok_or(()),
            Some(below) => {
                Ok(crate::merkle::node_hash(&self.hash(below, 2 * index)?, &self.hash(below, 2 * index + 1)?))
            }
        }
    }
}

fn key() -> (SigningKey, VerifierKey) {
    let signing = SigningKey::from_bytes(&[9; 32]);
    let key = VerifierKey::new("log", signing.verifying_key().as_bytes()).unwrap();
    (signing, key)
}

fn proof_in(leaves: &[&str], role: Role, index: u64) -> ReceiptProof {
    let (signing, key) = key();
    let tree = Tree(leaves.iter().map(|leaf| leaf_hash(leaf.as_bytes())).collect());
    let size = leaves.len() as u64;
    let body = Checkpoint { origin: "log".into(), size, root: root(&tree, size).unwrap() }.signed_body();
    let checkpoint = Note::render(&body, &key, &signing.sign(body.as_bytes()).to_bytes());
    let path = inclusion_proof(&tree, index, size).unwrap();
    let proof = TlogProof { extra: None, index, path, checkpoint };
    ReceiptProof { role, leaf: leaves[index as usize].as_bytes().to_vec(), proof }
}

fn receipt() -> Receipt {
    let proofs =
        vec![proof_in(&["a", "b", "c"], Role::Intent, 1), proof_in(&["a", "b", "c", "d", "e"], Role::Outcome, 3)];
    Receipt { log: "log".into(), proofs }
}

fn check(receipt: &Receipt, expected: Expect) {
    let result = receipt.verify(&key().1);
    let shown = result.map(|verified| verified.leaves.iter().map(|leaf| leaf.index).collect::<Vec<_>>());
    expected.assert_eq(&shown.map_or_else(|error| error.to_string(), |indexes| format!("{indexes:?}")));
}

/// The JSON form as serde writes it.
fn as_serde(receipt: &Receipt) -> String {
    let proofs = receipt.proofs.iter().map(|proof| WireProof {
        role: proof.role,
        leaf: STANDARD.encode(&proof.leaf),
        proof: proof.proof.to_string(),
    });
    let wire = Wire { countersign_receipt: VERSION, log: receipt.log.clone(), proofs: proofs.collect() };
    serde_json::to_string(&wire).unwrap()
}

proptest::proptest! {
    #[test]
    fn what_is_written_by_hand_is_what_serde_writes(
        log in ".*", checkpoint in "(?s).*", leaf in proptest::collection::vec(proptest::num::u8::ANY, 0..80), proofs in 0..3_usize
    ) {
        let mut one = proof_in(&["a", "b", "c"], Role::Decision, 2);
        (one.leaf, one.proof.checkpoint) = (leaf, checkpoint);
        let receipt = Receipt { log, proofs: vec![one; proofs] };
        proptest::prop_assert_eq!(receipt.to_json().unwrap(), as_serde(&receipt));
    }
}

#[test]
fn texts_of_every_kind_are_escaped_as_serde_does() {
    for text in ["", "\n", "a\n\nb\n", "\"", "back\\slash", "\r\n", "\u{0}\u{1f}\u{7f}", "\u{2028}é😀", "tab\t"] {
        let receipt = Receipt { log: text.to_owned(), ..receipt() };
        assert_eq!(receipt.to_json().unwrap(), as_serde(&receipt), "{text:?}");
    }
}

#[test]
fn round_trip_and_verify() {
    let receipt = receipt();
    let text = receipt.to_json().unwrap();
    assert_eq!(Receipt::parse(&text).unwrap(), receipt);
    assert!(
        text.starts_with(
            r#"{"countersign_receipt":1,"log":"log","proofs":[{"role":"intent","leaf":"Yg==","proof":"c2sp"#
        )
    );
    check(&receipt, expect!["[1, 3]"]);
}

#[test]
fn what_fails_is_named() {
    let change = |edit: &dyn Fn(&mut Receipt)| {
        let mut changed = receipt();
        edit(&mut changed);
        changed
    };
    check(&change(&|receipt| receipt.proofs.clear()), expect!["receipt has no proofs"]);
    check(&change(&|receipt| receipt.log = "other".into()), expect!["receipt is of log `other`, the key is of `log`"]);
    check(
        &change(&|receipt| receipt.proofs[1].leaf[0] ^= 1),
        expect![
            "proof `1` (Outcome): inclusion: the path leads to another root than `/hSlQm+9cMD6c/UjQq/tDaC9I8SDhmLM9riKMHDq2Xs=`"
        ],
    );
    check(&change(&|receipt| receipt.proofs.swap(0, 1)), expect!["[3, 1]"]);
    check(&change(&|receipt| receipt.proofs[0].role = Role::Outcome), expect!["[1, 3]"]);
    let swapped = change(&|receipt| {
        receipt.proofs[0].role = Role::Outcome;
        receipt.proofs[1].role = Role::Intent;
    });
    check(&swapped, expect!["outcome leaf `1` is not after intent leaf `3`"]);
    let forked = change(&|receipt| receipt.proofs[0] = proof_in(&["x", "y", "z", "d", "e"], Role::Intent, 1));
    check(
        &forked,
        expect![
            "log signed two roots for size `5`: `NRgwRyDjRZLZ+USoTYExcWfjl4NRlokT2kTBY5kFd1k=` and `/hSlQm+9cMD6c/UjQq/tDaC9I8SDhmLM9riKMHDq2Xs=`"
        ],
    );
    let other = VerifierKey::new("log", SigningKey::from_bytes(&[8; 32]).verifying_key().as_bytes()).unwrap();
    expect!["proof `0` (Intent): checkpoint of the proof: note is signed by key 965f2c0b of `log`, not by key 70946fab: if the log's key was changed, the list of its keys (`log.keys`) leads from one to the other"]
        .assert_eq(&receipt().verify(&other).unwrap_err().to_string());
}

#[test]
fn json_is_strict() {
    let text = receipt().to_json().unwrap();
    let refuse = |text: &str, expected: Expect| {
        let error = Receipt::parse(text).unwrap_err().to_string();
        expected.assert_eq(&error);
    };
    refuse(&text.replace("_receipt\":1", "_receipt\":2"), expect!["receipt version `2` is not 1"]);
    refuse(
        &text.replacen("{\"count", "{\"extra\":1,\"count", 1),
        expect![
            "receipt is not well-formed: unknown field `extra`, expected one of `countersign_receipt`, `log`, `proofs` at line 1 column 8"
        ],
    );
    refuse(
        &text.replacen("\"log\":", "\"log\":\"log\",\"log\":", 1),
        expect!["receipt is not well-formed: duplicate field `log` at line 1 column 42"],
    );
    refuse(
        &text.replace("\"intent\"", "\"Intent\""),
        expect![
            "receipt is not well-formed: unknown variant `Intent`, expected one of `intent`, `outcome`, `decision` at line 1 column 63"
        ],
    );
    refuse(&text.replace("Yg==", "Yg="), expect!["leaf of proof `0` is not base64 of 1 to 65535 bytes"]);
    refuse(&text.replace("Yg==", ""), expect!["leaf of proof `0` is not base64 of 1 to 65535 bytes"]);
    refuse(&text.replace("index 1", "index x"), expect!["proof `0`: line `index x` is not `index <number>`"]);
    refuse(
        r#"{"countersign_receipt":1,"log":"log","proofs":[]}"#,
        expect!["receipt has `0` proofs; 1 to 16 are allowed"],
    );
    refuse(&format!("{text} x"), expect!["receipt is not well-formed: trailing characters at line 1 column 753"]);
}
