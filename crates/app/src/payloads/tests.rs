//! Payloads that open their records, and payloads that were changed.

use countersign_model::encoding::to_canonical;
use countersign_model::payload::{Commitment, OutcomePayload, Salt, UndoPayload};
use countersign_model::record::{Outcome, RECORD_VERSION, Status};
use countersign_model::unit::{Bytes, LeafIndex};
use countersign_model::{Body, Record, Seq, TimeMs};

use super::*;

fn outcome(undo: Option<Commitment>) -> Record {
    let body = Body::Outcome(Outcome {
        intent: LeafIndex(1),
        action: Seq(1),
        status: Status::Done,
        result: None,
        rows: None,
        bytes_sent: Bytes(0),
        duration_ms: 0,
        note: None,
        charged: 1,
        cost_microusd: None,
        undo,
    });
    Record { version: RECORD_VERSION, seq: Seq(2), at: TimeMs(3), body }
}

fn payload(handle: Option<&[u8]>) -> Vec<u8> {
    let undo = handle.map(|handle| UndoPayload { salt: Salt([4; 32]), handle: handle.to_vec() });
    to_canonical(&OutcomePayload { result_salt: Salt([5; 32]), undo }).unwrap()
}

#[test]
fn only_the_payload_that_was_committed_to_holds() {
    let undoable = outcome(Some(Commitment::to(&Salt([4; 32]), b"handle")));
    let plain = outcome(None);
    assert_eq!(opens(&undoable, &payload(Some(b"handle"))), Ok(()));
    assert_eq!(opens(&plain, &payload(None)), Ok(()));
    for (record, payload) in [
        (&undoable, payload(Some(b"handlf"))),
        (&undoable, payload(None)),
        (&plain, payload(Some(b"handle"))),
        (&plain, b"nonsense".to_vec()),
        (&Record { body: Body::Stopped, ..plain.clone() }, payload(None)),
    ] {
        assert!(opens(record, &payload).is_err(), "{record:?}");
    }
    assert!(Payloads::new(None).check(Stored { index: 0, leaf: b"no record", payload: None }).is_err());
}

#[test]
fn only_an_attempt_must_have_a_payload() {
    let stored = |record: &Record| {
        let leaf = record.to_leaf().unwrap();
        Payloads::new(None).check(Stored { index: 7, leaf: &leaf, payload: None }).map(drop)
    };
    let of = |body: Body| Record { body, ..outcome(None) };
    let attempt = crate::sample::call("query", "", "");
    for body in [Body::Intent(Box::new(attempt.clone())), Body::Denial(Box::new(attempt))] {
        assert!(stored(&of(body)).unwrap_err().contains("taken out"));
    }
    // A full disk or a seal that failed may have kept that of an outcome out: it must be recorded all the same.
    assert_eq!(stored(&outcome(None)), Ok(()));
    assert_eq!(stored(&of(Body::Stopped)), Ok(()));
}

#[test]
fn an_erasure_counts_from_its_order_on() {
    let scope = VaultScope::Run("r-1".parse().unwrap());
    let command = countersign_model::command::Command {
        log: "log".to_owned(),
        challenge: countersign_model::Digest([0; 32]),
        human: "ana".parse().unwrap(),
        deed: Deed::Erase { scope: scope.clone() },
    };
    let signed = countersign_model::command::Signed { command, signature: Vec::new() };
    let order = Body::Commanded(countersign_model::record::Commanded { signed, session: None });
    let (command, tickets) = (LeafIndex(1), Vec::new());
    let done = countersign_model::record::Erased { scope: scope.clone(), command, keys: 1, payloads: 1, tickets };
    for body in [order, Body::Erased(done)] {
        assert_eq!(erased(&Record { body, ..outcome(None) }), Some(&scope));
    }
    assert_eq!(erased(&outcome(None)), None);
}
