//! State that a client carries: no text opens but one that was made here, and what was made opens as it was.
//! The input is a text, and cut in three it is the parts of a state. Not covered: who may continue a call (`kernel`).
#![no_main]

use countersign_gate::StateKey;
use countersign_model::unit::{LeafIndex, TimeMs};
use countersign_model::{Digest, Principal};
use countersign_points::mcp::state::{Bound, PART_BYTES_MAX, State, open, request, seal};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let id = "x";
    let principal = Principal {
        tenant: id.parse().expect("id"),
        agent: id.parse().expect("id"),
        session: id.parse().expect("id"),
        run: id.parse().expect("id"),
        depth: 0,
    };
    let (upstream, tool) = (id.parse().expect("id"), id.parse().expect("id"));
    let (first, rest) = bytes.split_at(bytes.len() / 3);
    let (second, third) = rest.split_at(rest.len() / 2);
    let request = request((&tool, &Digest([0; 32])), first, second);
    let (key, bound) = (StateKey::new([3; 32]), Bound { principal: &principal, upstream: &upstream, request: &request });
    if let Ok(text) = std::str::from_utf8(bytes) {
        assert!(open(&key, &bound, text, TimeMs(0)).is_err(), "a forgery opens");
    }
    let part = |part: &[u8]| (!part.is_empty()).then(|| part.to_vec());
    let state = State {
        expires: TimeMs(1),
        continues: first.first().map(|byte| LeafIndex(u64::from(*byte))),
        ticket: std::str::from_utf8(first).ok().and_then(|text| text.parse().ok()),
        upstream: part(second),
        asked: std::str::from_utf8(first).map(|text| text.chars().take(9).map(String::from).collect()).unwrap_or_default(),
        answers: part(third),
        ahead: part(first),
    };
    match seal(&key, &bound, &state) {
        Ok(text) => assert_eq!(open(&key, &bound, &text, TimeMs(0)), Ok(state)),
        Err(_) => assert!([first, second, third].into_iter().any(|part| part.len() > PART_BYTES_MAX)),
    }
});
