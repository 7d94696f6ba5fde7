//! Bytes on the wire of MCP: a frame reads as its parts, our members go into a result and nothing else changes, and
//! neither event streams nor lines depend on how they are cut. The last byte also chooses the cuts and a limit.
//! Not covered here: what a method means (`crates/points/tests`).
#![no_main]

use bytes::Bytes;
use countersign_effects::json::{Limits, parse};
use countersign_points::mcp::wire::line::{self, LineDecoder};
use countersign_points::mcp::wire::sse::{self, Event, SseDecoder};
use countersign_points::mcp::wire::{Frame, Message, Outcome, response_frame, splice};
use libfuzzer_sys::fuzz_target;

const RECEIPT: &str = "countersign/receipt";

fuzz_target!(|bytes: &[u8]| {
    frame(bytes);
    let seed = bytes.last().copied().unwrap_or_default();
    for bytes_max in [usize::from(seed), 1 << 20] {
        events(bytes, seed, bytes_max);
        lines(bytes, seed, bytes_max);
    }
});

/// What is read can be sent on: in an event, on a line, and back to where its answer is awaited.
fn frame(bytes: &[u8]) {
    let limits = Limits::default();
    spliced(bytes);
    let Ok(frame) = Frame::read(Bytes::copy_from_slice(bytes), &limits) else { return };
    assert_eq!(&frame.bytes()[..], bytes);
    let events = SseDecoder::new(usize::MAX).push(&sse::encode(bytes)).expect("no limit");
    let [event] = events.as_slice() else { panic!("one event became {events:?}") };
    let again = Frame::read(event.data.clone().into(), &limits).expect("an event holds the same message");
    assert!(alike(&frame, &again));
    let lines = LineDecoder::new(usize::MAX).push(&line::encode(bytes)).expect("no limit");
    let [one] = lines.as_slice() else { panic!("one line became {lines:?}") };
    let again = Frame::read(one.clone(), &limits).expect("a line holds the same message");
    assert!(alike(&frame, &again));
    if let Message::Response { id: Some(id), outcome: Outcome::Result(result) } = frame.message() {
        let answer = response_frame(id, "result", &frame.raw(result));
        let again = Frame::read(answer.into(), &limits).expect("an answer of ours is a message");
        let Message::Response { id: Some(again_id), outcome: Outcome::Result(again_result) } = again.message() else {
            panic!("a response became {:?}", again.message());
        };
        assert_eq!((id, frame.raw(result)), (again_id, again.raw(again_result)));
    }
}

/// Whether both say the same, wherever their parts lie.
fn alike(one: &Frame, other: &Frame) -> bool {
    match (one.message(), other.message()) {
        (Message::Request { id, method, .. }, Message::Request { id: other_id, method: other, .. }) => {
            (id.raw(), method) == (other_id.raw(), other)
        }
        (Message::Notification { method, .. }, Message::Notification { method: other, .. }) => method == other,
        (Message::Response { id, .. }, Message::Response { id: other, .. }) => id == other,
        _ => false,
    }
}

/// With our members put in, a value is read as the same value, with ours and no forged one; taking out what was put in
/// gives back its bytes, unless something had to be overwritten.
fn spliced(bytes: &[u8]) {
    let limits = Limits::default();
    let Ok(node) = parse(bytes, &limits) else { return };
    let own = format!("\"{RECEIPT}\":{{\"r\":[1]}}");
    let Some(out) = splice::with_meta(bytes, &node, &[(RECEIPT, "{\"r\":[1]}")]) else {
        assert!(node.as_object().is_none());
        return;
    };
    let Ok(read) = parse(&out, &limits) else {
        // A value at the very limits has no room for anything.
        assert!(parse(&out, &Limits { bytes_max: usize::MAX, depth_max: 1 << 16, nodes_max: usize::MAX }).is_ok());
        return;
    };
    let meta = read.get("_meta").and_then(|meta| meta.as_object()).expect("there is a `_meta`");
    for (name, value) in meta.iter().filter(|(name, _)| name.starts_with(splice::OURS)) {
        let wanted: &[u8] = if name == RECEIPT { b"{\"r\":[1]}" } else { b"null" };
        assert_eq!(value.raw(&out), wanted, "{name}");
    }
    assert!(meta.iter().any(|(name, _)| name == RECEIPT));
    let before = node.get("_meta");
    let overwritten = before.is_some_and(|meta| match meta.as_object() {
        Some(members) => members.iter().any(|(name, _)| name.starts_with(splice::OURS)),
        None => true,
    });
    if !overwritten {
        let whole = format!("\"_meta\":{{{own}}}");
        let cuts = [format!("{whole},"), whole, format!("{own},"), own];
        let kept = node.raw(bytes);
        assert!(cuts.iter().any(|cut| without(&out, cut.as_bytes()).as_deref() == Some(kept)), "{out:?}");
    }
}

/// `bytes` without the first `cut`.
fn without(bytes: &[u8], cut: &[u8]) -> Option<Vec<u8>> {
    let at = bytes.windows(cut.len()).position(|window| window == cut)?;
    Some([&bytes[..at], &bytes[at + cut.len()..]].concat())
}

/// Pieces of 1 to 16 bytes, chosen by `seed`.
fn pieces(bytes: &[u8], seed: u8) -> Vec<&[u8]> {
    let (mut rest, mut state, mut pieces) = (bytes, u32::from(seed), Vec::new());
    while !rest.is_empty() {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let (piece, after) = rest.split_at(rest.len().min(1 + (state >> 28) as usize));
        pieces.push(piece);
        rest = after;
    }
    pieces
}

fn events(bytes: &[u8], seed: u8, bytes_max: usize) {
    let wanted = SseDecoder::new(bytes_max).push(bytes);
    let mut decoder = SseDecoder::new(bytes_max);
    let mut events: Vec<Event> = Vec::new();
    for piece in pieces(bytes, seed) {
        match decoder.push(piece) {
            Ok(more) => events.extend(more),
            Err(error) => return assert_eq!(wanted, Err(error)),
        }
    }
    assert!(events.iter().all(|event| event.data.len() <= bytes_max));
    assert_eq!(wanted, Ok(events));
}

fn lines(bytes: &[u8], seed: u8, bytes_max: usize) {
    let wanted = LineDecoder::new(bytes_max).push(bytes);
    let mut decoder = LineDecoder::new(bytes_max);
    let mut lines = Vec::new();
    for piece in pieces(bytes, seed) {
        match decoder.push(piece) {
            Ok(more) => lines.extend(more),
            Err(error) => return assert_eq!(wanted, Err(error)),
        }
    }
    assert!(lines.iter().all(|line| line.len() <= bytes_max && !line.contains(&b'\n')));
    assert_eq!(wanted, Ok(lines));
}
