//! Disclosures: what is shown is proved, what is not shown is not there, and whatever is changed is named.

use countersign_model::action::{Point, Principal};
use countersign_model::encoding::Bounded;
use countersign_model::payload::Commitment;
use countersign_model::record::{Attempt, Inputs, Standing};
use countersign_model::unit::{Seq, TimeMs};
use countersign_model::{Body, Effect, Facts, Verdict};
use ed25519_dalek::{Signer as _, SigningKey};
use proptest::prelude::*;

use super::*;
use crate::merkle::node_hash;
use crate::note::Note;

const ARGUMENTS: &str = r#"{"amount":12,"iban":"DE00 1234","sql":"SELECT 1"}"#;

fn keys() -> (SigningKey, VerifierKey) {
    let signing = SigningKey::from_bytes(&[9; 32]);
    let key = VerifierKey::new("log", signing.verifying_key().as_bytes()).unwrap();
    (signing, key)
}

fn payload(arguments: &str) -> ActionPayload {
    ActionPayload {
        digest_salt: Salt([1; 32]),
        digest: Digest([2; 32]),
        arguments_salt: Salt([3; 32]),
        arguments: arguments.as_bytes().to_vec(),
        meta: b"{\"k\":1}".to_vec(),
        input: None,
    }
}

fn record(payload: &ActionPayload) -> Record {
    let inputs = Inputs {
        policy: Digest([4; 32]),
        budgets: Vec::new(),
        frozen_until: None,
        kill_epoch: 0,
        killed: false,
        leases: Vec::new(),
        granted: false,
        token_expires: TimeMs(9),
        evaluation: None,
        standing: Standing::default(),
        history: None,
    };
    let attempt = Attempt {
        reserved_at: Seq(1),
        proposed_at: TimeMs(2),
        principal: Principal {
            tenant: "acme".parse().unwrap(),
            agent: "coder".parse().unwrap(),
            session: "s-1".parse().unwrap(),
            run: "r-1".parse().unwrap(),
            depth: 0,
        },
        point: Point::Mcp,
        upstream: "crm".parse().unwrap(),
        tool: "query".parse().unwrap(),
        manifest: Digest([5; 32]),
        target: "crm".parse().unwrap(),
        environment: "production".parse().unwrap(),
        digest: Commitment::to(&payload.digest_salt, &payload.digest.0),
        arguments: Commitment::to_fields(&payload.arguments_salt, &payload.arguments, &payload.meta),
        facts: Facts::declared(Effect::Read),
        inputs,
        verdict: Verdict::Allow,
        reasons: Vec::new(),
        ticket: None,
        claimed: Default::default(),
        redactions: Bounded::default(),
        continues: None,
    };
    Record { version: 1, seq: Seq(2), at: TimeMs(3), body: Body::Intent(Box::new(attempt)) }
}

/// The proof that `leaf` is the second of two.
fn proof(leaf: &[u8]) -> TlogProof {
    let (signing, key) = keys();
    let sibling = leaf_hash(b"first");
    let root = node_hash(&sibling, &leaf_hash(leaf));
    let body = Checkpoint { origin: "log".into(), size: 2, root }.signed_body();
    let checkpoint = Note::render(&body, &key, &signing.sign(body.as_bytes()).to_bytes());
    TlogProof { extra: None, index: 1, path: vec![sibling], checkpoint }
}

fn made(arguments: &str, choice: Choice<'_>) -> Result<Disclosure, DiscloseError> {
    let payload = payload(arguments);
    let leaf = record(&payload).to_leaf().unwrap();
    Disclosure::make(("log", &leaf, proof(&leaf)), &payload, choice)
}

fn disclosure() -> Disclosure {
    made(ARGUMENTS, Choice::Members(&["sql".to_owned()])).unwrap()
}

fn refused(change: impl FnOnce(&mut Disclosure), expected: &str) {
    let mut changed = disclosure();
    change(&mut changed);
    let error = changed.verify(&keys().1).unwrap_err().to_string();
    assert!(error.contains(expected), "`{error}` does not say `{expected}`");
}

#[test]
fn one_field_is_proved_and_nothing_else_is_there() {
    let text = disclosure().to_json().unwrap();
    assert!(Disclosure::is_one(&text) && !Disclosure::is_one("{\"countersign_receipt\":1}"));
    let read = Disclosure::parse(&text).unwrap();
    assert_eq!(read, disclosure());
    let verified = read.verify(&keys().1).unwrap();
    assert_eq!((verified.index, verified.hidden, read.fields.len()), (1, 3, 1));
    assert_eq!(read.fields[0].value, "\"SELECT 1\"");
    // Neither the other names and values, nor a salt that opens them.
    let decoded: Vec<u8> = [text.as_bytes(), &read.leaf].concat();
    for hidden in ["iban", "DE00", "amount", "\"12\"", &STANDARD.encode([3; 32]), &STANDARD.encode([1; 32])] {
        assert!(!decoded.windows(hidden.len()).any(|at| at == hidden.as_bytes()), "{hidden}");
    }
    for salt in [[3; 32], [1; 32]] {
        assert!(!decoded.windows(32).any(|at| at == salt));
    }
}

#[test]
fn all_fields_can_be_shown() {
    let all = made(ARGUMENTS, Choice::All).unwrap();
    assert_eq!((all.fields.len(), all.verify(&keys().1).unwrap().hidden), (4, 0));
    let whole = made("[1,2]", Choice::All).unwrap();
    assert_eq!((whole.fields[0].kind, whole.fields[0].value.as_str()), (FieldKind::Whole, "[1,2]"));
    assert!(whole.verify(&keys().1).is_ok());
}

#[test]
fn what_cannot_be_shown_is_said() {
    let ask = |arguments, name: &str| made(arguments, Choice::Members(&[name.to_owned()])).unwrap_err();
    assert_eq!(ask(ARGUMENTS, "password"), DiscloseError::NoField("password".into()));
    assert_eq!(ask("[1]", "0"), DiscloseError::OneField);
    let leaf = record(&payload(ARGUMENTS)).to_leaf().unwrap();
    let other = Disclosure::make(("log", &leaf, proof(&leaf)), &payload("{}"), Choice::All).unwrap_err();
    assert_eq!(other, DiscloseError::NotItsPayload);
    let stopped = Record { body: Body::Stopped, ..record(&payload(ARGUMENTS)) }.to_leaf().unwrap();
    let none = Disclosure::make(("log", &stopped, proof(&stopped)), &payload(ARGUMENTS), Choice::All).unwrap_err();
    assert_eq!(none, DiscloseError::NotACall);
}

#[test]
fn what_was_changed_is_named() {
    let field = "field `sql` is not what the leaf commits to";
    refused(|d| d.fields[0].value = "\"SELECT 2\"".into(), field);
    refused(|d| d.fields[0].salt.0[0] ^= 1, field);
    refused(|d| d.fields[0].name = "sq".into(), "field `sq` is not what");
    refused(|d| d.fields[0].kind = FieldKind::Meta, field);
    refused(|d| d.fields.clear(), "shows no field");
    refused(|d| d.fields.push(d.fields[0].clone()), "shown twice");
    refused(|d| d.commitments[0].0[31] ^= 1, "commits to other fields");
    refused(|d| d.commitments.truncate(3), "commits to other fields");
    refused(|d| d.commitments.push(Digest([255; 32])), "commits to other fields");
    refused(|d| d.commitments.swap(0, 1), "ascending");
    refused(|d| d.commitments.insert(1, d.commitments[0]), "ascending");
    refused(|d| d.log = "other".into(), "is of log `other`");
    refused(|d| d.proof.index = 0, "proof: inclusion");
    refused(|d| d.leaf[40] ^= 1, "proof: inclusion");
    refused(
        |d| {
            d.leaf = Record { body: Body::Stopped, ..record(&payload(ARGUMENTS)) }.to_leaf().unwrap();
            d.proof = proof(&d.leaf);
        },
        "not the record of a decided call",
    );
    // A field of another call, whole with its own salt and commitment.
    let other = made(r#"{"sql":"DROP TABLE x"}"#, Choice::All).unwrap();
    refused(|d| d.fields = other.fields.clone(), "field");
    refused(
        |d| (d.fields, d.commitments) = (other.fields.clone(), other.commitments.clone()),
        "commits to other fields",
    );
}

#[test]
fn json_is_strict() {
    let text = disclosure().to_json().unwrap();
    let refuse = |text: String, expected: &str| {
        let error = Disclosure::parse(&text).unwrap_err().to_string();
        assert!(error.contains(expected), "`{error}` does not say `{expected}`");
    };
    refuse(text.replace("disclosure\":1", "disclosure\":2"), "version `2`");
    refuse(text.replacen("\"log\":", "\"more\":1,\"log\":", 1), "unknown field `more`");
    refuse(text.replacen("\"log\":", "\"log\":\"x\",\"log\":", 1), "duplicate field `log`");
    refuse(text.replace("\"member\"", "\"membre\""), "`membre` is not one of");
    refuse(text.replacen("\"salt\":\"", "\"salt\":\"A", 1), "base64 of 32 bytes");
    refuse(text.replacen("\"leaf\":\"", "\"leaf\":\"*", 1), "leaf is not base64");
    refuse(text.replace("index 1", "index x"), "proof: line");
    refuse(format!("{text} x"), "trailing");
}

proptest! {
    /// Whatever single byte of the file is changed, what is then accepted still says the same.
    #[test]
    fn no_changed_byte_changes_what_is_proved(at in any::<prop::sample::Index>(), to in 0x20_u8..0x7f) {
        let text = disclosure().to_json().unwrap();
        let mut bytes = text.clone().into_bytes();
        let at = at.index(bytes.len());
        bytes[at] = to;
        // The dash of a signed note has three bytes: changed, it is no text any more.
        let Ok(text) = String::from_utf8(bytes) else { return Ok(()) };
        let Ok(read) = Disclosure::parse(&text) else { return Ok(()) };
        if let Ok(verified) = read.verify(&keys().1) {
            prop_assert_eq!((&read.fields, &read.leaf), (&disclosure().fields, &disclosure().leaf));
            prop_assert_eq!(verified.hidden, 3);
        }
    }
}
