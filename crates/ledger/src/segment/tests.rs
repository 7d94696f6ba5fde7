//! Frames: round trip, and refusal of every changed bit.

use super::*;

fn frame() -> Vec<u8> {
    let mut writer = FrameWriter::default();
    writer.start(7);
    writer.record(b"leaf", None);
    writer.record(b"second", Some(b""));
    writer.record(b"third", Some(&[9; 1000]));
    writer.finish("the note\n").unwrap().to_vec()
}

#[test]
fn round_trip() {
    let frame = Frame::decode(frame()).unwrap();
    assert_eq!((frame.first, frame.next_index(), frame.note()), (7, 10, "the note\n"));
    let records: Vec<Record<'_>> = frame.records().collect();
    assert_eq!(records[0], Record { index: 7, leaf: b"leaf", payload: None });
    assert_eq!(records[1], Record { index: 8, leaf: b"second", payload: Some(b"") });
    assert_eq!(records[2], Record { index: 9, leaf: b"third", payload: Some(&[9; 1000]) });
}

#[test]
fn every_changed_bit_and_every_cut_is_refused() {
    let good = frame();
    for bit in 0..good.len() * 8 {
        let mut bytes = good.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(Frame::decode(bytes).is_err(), "bit {bit}");
    }
    for length in 0..good.len() {
        assert!(Frame::decode(good[..length].to_vec()).is_err(), "length {length}");
    }
}
