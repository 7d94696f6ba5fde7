//! An attacker who can write the ledger's files and knows the format, but has no key: checksums are made anew.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::Installation;

const FRAME_HEADER: usize = 24;

/// What of a record is changed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Part {
    /// The leaf, which the tree covers.
    Leaf,
    /// What lies sealed beside it.
    Payload,
}

impl Installation {
    /// The ledger's only segment.
    pub(crate) fn segment(&self) -> PathBuf {
        self.path("ledger/segments/00000000000000000000.seg")
    }
}

/// Changes the last byte of one record's part and makes the frame's checksum anew.
pub(crate) fn forge(segment: &Path, index: u64, part: Part) {
    let mut bytes = fs::read(segment).unwrap();
    let (frame, part) = find(&bytes, index, part);
    bytes[part.end - 1] ^= 1;
    reseal(&mut bytes[frame]);
    fs::write(segment, bytes).unwrap();
}

/// Where the record's frame lies, and where its part does.
fn find(bytes: &[u8], index: u64, part: Part) -> (Range<usize>, Range<usize>) {
    let mut frame = 0;
    loop {
        assert!(bytes[frame..].starts_with(b"CSF1"), "no record {index}");
        let first = u64::from_le_bytes(bytes[frame + 8..frame + 16].try_into().unwrap());
        let mut at = frame + FRAME_HEADER;
        for found in first..first + word(bytes, frame + 16) as u64 {
            let leaf = usize::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]));
            let payload = Some(word(bytes, at + 2)).filter(|length| *length != u32::MAX as usize);
            at += 6;
            let end = at + leaf + payload.unwrap_or(0);
            if found == index {
                let part = match part {
                    Part::Leaf => at..at + leaf,
                    Part::Payload => {
                        at + leaf..at + leaf + payload.unwrap_or_else(|| panic!("record {index} has no payload"))
                    }
                };
                return (frame..frame + word(bytes, frame + 4), part);
            }
            at = end;
        }
        frame += word(bytes, frame + 4);
    }
}

fn word(bytes: &[u8], at: usize) -> usize {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize
}

/// Makes the checksum of a frame or of a snapshot, its last four bytes, anew.
pub(crate) fn reseal(bytes: &mut [u8]) {
    let (body, crc) = bytes.split_last_chunk_mut::<4>().unwrap();
    // CRC32C, bit by bit: a second opinion on what the ledger computes.
    let made = !body.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0x82F6_3B78 * (crc & 1)))
    });
    *crc = made.to_le_bytes();
}

const _: () = {
    let _ = (Installation::segment, forge, reseal, Part::Leaf, Part::Payload);
};
