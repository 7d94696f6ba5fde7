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

fn verdict(record: &Record, payload: Option<&[u8]>) -> Result<(), String> {
    let leaf = record.to_leaf().unwrap();
    opens(&leaf, payload).map(drop)
}

#[test]
fn only_the_payload_that_was_committed_to_holds() {
    let undoable = outcome(Some(Commitment::to(&Salt([4; 32]), b"handle")));
    let plain = outcome(None);
    assert_eq!(verdict(&undoable, Some(&payload(Some(b"handle")))), Ok(()));
    assert_eq!(verdict(&plain, Some(&payload(None))), Ok(()));
    assert_eq!(verdict(&undoable, None), Ok(()), "what was erased is no fault");
    for (record, payload) in [
        (&undoable, payload(Some(b"handlf"))),
        (&undoable, payload(None)),
        (&plain, payload(Some(b"handle"))),
        (&plain, b"nonsense".to_vec()),
        (&Record { body: Body::Stopped, ..plain.clone() }, payload(None)),
    ] {
        assert!(verdict(record, Some(&payload)).is_err(), "{record:?}");
    }
    assert!(opens(b"no record", None).is_err());
}
