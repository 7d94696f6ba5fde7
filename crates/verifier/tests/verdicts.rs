//! One table of receipts, good and tampered, in both encodings: what the verdict says of each, and that the WebAssembly
//! module says the same, letter by letter. The module is built by `cargo xtask wasm`, which then runs this test with
//! `COUNTERSIGN_WASM` naming it and `COUNTERSIGN_NODE` the Node to run it in; elsewhere a notice is all there is.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests fail the test")]

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign_model::action::Point;
use countersign_model::record::{Outcome, Refused, Status};
use countersign_model::unit::{Bytes, LeafIndex, Seq, TimeMs};
use countersign_model::{Body, Reason, ReasonCode, Record};
use countersign_receipt::merkle::{TreeHead, leaf_hash, node_hash};
use countersign_receipt::{
    Checkpoint, CoseReceipt, Hash, Note, Receipt, ReceiptProof, Role, Rotation, TlogProof, VerifierKey, cose,
};
use countersign_verifier::judge_to_json;
use ed25519_dalek::{Signer as _, SigningKey};
use serde_json::{Value, json};

/// Two records: a refusal, and an outcome after it.
fn leaves() -> [Vec<u8>; 2] {
    let refused = Refused { point: Point::Mcp, principal: None, reason: Reason::plain(ReasonCode::ALL[0]), count: 3 };
    let outcome = Outcome {
        action: Seq(1),
        intent: LeafIndex(0),
        status: Status::Done,
        result: None,
        rows: None,
        bytes_sent: Bytes(1),
        duration_ms: 7,
        note: None,
        charged: 1,
        cost_microusd: None,
        undo: None,
    };
    [Body::Refused(refused), Body::Outcome(outcome)]
        .map(|body| Record { version: 1, seq: Seq(1), at: TimeMs(2), body }.to_leaf().unwrap())
}

fn signing() -> SigningKey {
    SigningKey::from_bytes(&[9; 32])
}

/// The key that the log has been changed to.
fn changed() -> SigningKey {
    SigningKey::from_bytes(&[8; 32])
}

fn key(name: &str) -> VerifierKey {
    key_of(&signing(), name)
}

fn key_of(signing: &SigningKey, name: &str) -> VerifierKey {
    VerifierKey::new(name, signing.verifying_key().as_bytes()).unwrap()
}

/// The statement that from size `first` on the changed key signs.
fn list(first: u64, by: &SigningKey) -> String {
    let rotation = Rotation { first, old: key("log"), new: key_of(&changed(), "log") };
    Note::render(&rotation.text(), &rotation.old, &by.sign(rotation.text().as_bytes()).to_bytes())
}

/// A receipt over `leaves` under these roles, signed as it should be.
fn receipt(leaves: &[Vec<u8>; 2], roles: [Role; 2]) -> Receipt {
    receipt_by(&signing(), leaves, roles)
}

fn receipt_by(signing: &SigningKey, leaves: &[Vec<u8>; 2], roles: [Role; 2]) -> Receipt {
    let hashes = [leaf_hash(&leaves[0]), leaf_hash(&leaves[1])];
    let body = Checkpoint { origin: "log".into(), size: 2, root: node_hash(&hashes[0], &hashes[1]) }.signed_body();
    let checkpoint = Note::render(&body, &key_of(signing, "log"), &signing.sign(body.as_bytes()).to_bytes());
    let proofs = (0..2).map(|at| ReceiptProof {
        role: roles[at],
        leaf: leaves[at].clone(),
        proof: TlogProof { extra: None, index: at as u64, path: vec![hashes[1 - at]], checkpoint: checkpoint.clone() },
    });
    Receipt { log: "log".into(), proofs: proofs.collect() }
}

fn cose_receipt(leaves: &[Vec<u8>; 2]) -> CoseReceipt {
    cose_receipt_by(&signing(), leaves)
}

fn cose_receipt_by(signing: &SigningKey, leaves: &[Vec<u8>; 2]) -> CoseReceipt {
    let vkey = key_of(signing, "log");
    let other: Hash = leaf_hash(&leaves[0]);
    let head = TreeHead { size: 2, root: node_hash(&other, &leaf_hash(&leaves[1])) };
    let signature = signing.sign(&cose::to_be_signed(&vkey, &head)).to_bytes();
    let (kid, leaf) = (cose::key_id(&vkey), leaves[1].clone());
    CoseReceipt { kid, signed_size: 2, size: 2, index: 1, path: vec![other], leaf, signature }
}

struct Case {
    name: &'static str,
    receipt: Vec<u8>,
    key: String,
    /// What stands in the field for the log's list of keys.
    keys: String,
    /// A word of the verdict.
    says: &'static str,
}

fn table() -> Vec<Case> {
    let (good, roles, vkey) = (leaves(), [Role::Decision, Role::Outcome], key("log").to_string());
    let case = |name, receipt: Vec<u8>, says| Case { name, receipt, key: vkey.clone(), keys: String::new(), says };
    let json = |receipt: &Receipt| receipt.to_json().unwrap().into_bytes();
    let whole = receipt(&good, roles);
    let text = |change: &dyn Fn(&mut Receipt)| {
        let mut changed = receipt(&good, roles);
        change(&mut changed);
        json(&changed)
    };
    let cbor = |change: &dyn Fn(&mut CoseReceipt)| {
        let mut changed = cose_receipt(&good);
        change(&mut changed);
        changed.encode()
    };
    let garbage = [good[0].clone(), b"no record".to_vec()];
    let mut cases = vec![
        case("good", json(&whole), "\"verified\":true"),
        case("leaf", text(&|receipt| *receipt.proofs[1].leaf.last_mut().unwrap() ^= 1), "another root"),
        case("index", text(&|receipt| receipt.proofs[1].proof.index = 0), "another root"),
        case("path", text(&|receipt| receipt.proofs[0].proof.path.clear()), "wrong length"),
        case("log", text(&|receipt| receipt.log = "lag".into()), "receipt is of log"),
        case("role", json(&receipt(&good, [Role::Intent, Role::Outcome])), "not what the receipt says"),
        case("roles", json(&receipt(&good, [Role::Outcome, Role::Outcome])), "not what the receipt says"),
        case("order", json(&receipt(&good, [Role::Outcome, Role::Intent])), "is not after intent"),
        case("no record", json(&receipt(&garbage, roles)), "not a record"),
        case("empty", Vec::new(), "no receipt"),
        case("no text", vec![0xff; 9], "neither text nor"),
        case("json", b"{\"countersign_receipt\":1}".to_vec(), "no receipt"),
        case("cose", cbor(&|_| {}), "\"form\":\"cose\""),
        case("cose leaf", cbor(&|receipt| receipt.leaf[0] ^= 1), "signature of"),
        case("cose index", cbor(&|receipt| receipt.index = 0), "signature of"),
        case("cose size", cbor(&|receipt| receipt.size = 3), "signed for a tree"),
        case("cose key", cbor(&|receipt| receipt.kid.push(b'0')), "is of key"),
        case("cose signature", cbor(&|receipt| receipt.signature[63] ^= 1), "signature of"),
        case("cose shape", vec![0xd2], "not well-formed"),
    ];
    let mut signature = receipt(&good, roles);
    for proof in &mut signature.proofs {
        proof.proof.checkpoint = proof.proof.checkpoint.replace("\n2\n", "\n3\n");
    }
    cases.push(case("checkpoint", json(&signature), "is wrong"));
    for (name, key) in [("other key", key("other").to_string()), ("no key", "log+1".to_owned())] {
        let says = if name == "no key" { "verifier key" } else { "receipt is of log" };
        cases.push(Case { name, receipt: json(&whole), key, keys: String::new(), says });
    }
    cases.extend(changed_keys());
    cases
}

/// Receipts of a log whose key was changed; the name of a case that holds begins with `good`.
fn changed_keys() -> Vec<Case> {
    let (leaves, roles) = (leaves(), [Role::Decision, Role::Outcome]);
    let old = receipt(&leaves, roles).to_json().unwrap().into_bytes();
    let new = receipt_by(&changed(), &leaves, roles).to_json().unwrap().into_bytes();
    let cose = cose_receipt_by(&changed(), &leaves).encode();
    let (first, newest) = (key("log").to_string(), key_of(&changed(), "log").to_string());
    let stranger = key_of(&SigningKey::from_bytes(&[7; 32]), "log").to_string();
    let at_two = list(2, &signing());
    // What is pasted has lost its last line's end, or won some.
    let pasted = format!("\n  {}  \n\n", at_two.trim_end());
    let case = |name, receipt: &Vec<u8>, key: &String, keys: &str, says| Case {
        name,
        receipt: receipt.clone(),
        key: key.clone(),
        keys: keys.to_owned(),
        says,
    };
    let holds = "\"verified\":true";
    vec![
        case("good: the first key and the list", &new, &first, &at_two, holds),
        case("good: the list as it was pasted", &new, &first, &pasted, holds),
        case("good: the newest key and the list", &new, &newest, &at_two, holds),
        case("good: the newest key alone", &new, &newest, " \n", holds),
        case("good: from before the change", &old, &first, &list(3, &signing()), holds),
        case("good: in CBOR", &cose, &first, &at_two, holds),
        case("without the list", &new, &first, "", "not by key"),
        case("in CBOR without the list", &cose, &first, "", "is of key"),
        case("the old key after the change", &old, &first, &at_two, "not by key"),
        case("the new key before the change", &new, &first, &list(3, &signing()), "not by key"),
        case("from before the trusted key", &old, &newest, &list(3, &signing()), "before"),
        case(
            "a list that the old key did not sign",
            &new,
            &first,
            &list(2, &changed()),
            "the list of keys: key statement",
        ),
        case("a list of other keys", &new, &stranger, &at_two, "is not among the keys of this list"),
        case("no list", &new, &first, "nonsense", "the list of keys: "),
    ]
}

#[test]
fn every_verdict_is_the_one_expected() {
    for case in table() {
        let verdict = judge_to_json(&case.receipt, &case.key, &case.keys);
        let read: Value = serde_json::from_str(&verdict).unwrap();
        assert!(verdict.contains(case.says), "{}: {verdict}", case.name);
        assert_eq!(
            read["verified"] == true,
            case.name.starts_with("good") || case.name == "cose",
            "{}: {verdict}",
            case.name
        );
    }
    let good = judge_to_json(&table()[0].receipt, &table()[0].key, "");
    let read: Value = serde_json::from_str(&good).unwrap();
    assert_eq!(read["records"][1]["about"], "of intent 0, after 7 ms");
    assert_eq!((&read["records"][1]["kind"], &read["records"][1]["size"]), (&json!("outcome"), &json!(2)));
}

#[test]
fn the_module_says_what_this_build_says() {
    let Some(module) = std::env::var_os("COUNTERSIGN_WASM") else {
        println!("NOT RUN: no WebAssembly module is named; `cargo xtask wasm` builds it and runs this test");
        return;
    };
    let node = std::env::var_os("COUNTERSIGN_NODE").unwrap();
    let cases = table();
    let asked: Vec<_> = cases
        .iter()
        .map(|case| json!({"receipt": STANDARD.encode(&case.receipt), "key": case.key, "keys": case.keys}))
        .collect();
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut child = Command::new(node)
        .arg(here.join("tests/module.cjs"))
        .args([here.join("page/verifier.js").as_os_str(), &module])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(Value::from(asked).to_string().as_bytes()).unwrap();
    let ended = child.wait_with_output().unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    let answers: Vec<String> = serde_json::from_slice(&ended.stdout).unwrap();
    assert_eq!(answers.len(), cases.len());
    for (case, answer) in cases.iter().zip(&answers) {
        assert_eq!(answer, &judge_to_json(&case.receipt, &case.key, &case.keys), "{}", case.name);
    }
}
