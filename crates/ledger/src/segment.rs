//! Segment files: how a group commit lies on disk, and how it is found again.
//!
//! A frame is one group commit: magic, total length, first index, record count, note length, the records (leaf length,
//! payload length, leaf, payload), the signed checkpoint of the tree after it, and a CRC32C over all of that, integers
//! little-endian. Segments are set aside in chunks of zeros, so zeros to the end of the file are a clean end. It must
//! not know what leaf and payload say. It does not judge whether a broken tail may be cut (`recover` does).

use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use crate::disk::{DiskFile, Mode, read_range};
use crate::error::FrameFault;
use crate::store::Store;

#[cfg(test)]
mod tests;

/// The largest payload, in bytes.
pub const MAX_PAYLOAD_BYTES: usize = 16 * 1024 * 1024;
/// Room for a frame's header, checkpoint and checksum, in bytes; a checkpoint of ours is under 1 KiB.
pub(crate) const FRAME_OVERHEAD: u64 = 2 * 1024;
/// A record's two lengths, in bytes.
pub(crate) const RECORD_OVERHEAD: u64 = 6;

pub(crate) const MAGIC: [u8; 4] = *b"CSF1";
const HEADER_BYTES: usize = 24;
const CRC_BYTES: usize = 4;
/// Two lengths and one byte of leaf.
const MIN_RECORD_BYTES: usize = 7;
const MAX_FRAME_BYTES: u32 = 40 * 1024 * 1024;
const NO_PAYLOAD: u32 = u32::MAX;

/// One record as it lies in a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its index in the log.
    pub index: u64,
    /// The leaf: what the tree covers.
    pub leaf: &'a [u8],
    /// What is stored beside it, outside the tree.
    pub payload: Option<&'a [u8]>,
}

/// Builds a frame in a buffer that is used again.
#[derive(Debug, Default)]
pub(crate) struct FrameWriter {
    bytes: Vec<u8>,
    count: u32,
}

impl FrameWriter {
    pub(crate) fn start(&mut self, first: u64) {
        self.bytes.clear();
        self.count = 0;
        self.bytes.extend_from_slice(&MAGIC);
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&first.to_le_bytes());
        self.bytes.extend_from_slice(&[0; 8]);
    }

    /// Lengths were checked at the door; the frame's own length is checked in [`FrameWriter::finish`].
    pub(crate) fn record(&mut self, leaf: &[u8], payload: Option<&[u8]>) {
        let length = payload.map_or(NO_PAYLOAD, |payload| u32::try_from(payload.len()).unwrap_or(NO_PAYLOAD));
        self.bytes.extend_from_slice(&u16::try_from(leaf.len()).unwrap_or(u16::MAX).to_le_bytes());
        self.bytes.extend_from_slice(&length.to_le_bytes());
        self.bytes.extend_from_slice(leaf);
        self.bytes.extend_from_slice(payload.unwrap_or_default());
        self.count += 1;
    }

    pub(crate) fn finish(&mut self, note: &str) -> Result<&[u8], FrameFault> {
        self.bytes.extend_from_slice(note.as_bytes());
        let too_long = |_| FrameFault::Length(u32::MAX);
        let total = u32::try_from(self.bytes.len() + CRC_BYTES).map_err(too_long)?;
        let note_length = u32::try_from(note.len()).map_err(too_long)?;
        if total > MAX_FRAME_BYTES {
            return Err(FrameFault::Length(total));
        }
        for (at, value) in [(4, total), (16, self.count), (20, note_length)] {
            if let Some(field) = self.bytes.get_mut(at..at + 4) {
                field.copy_from_slice(&value.to_le_bytes());
            }
        }
        let crc = crc32c::crc32c(&self.bytes);
        self.bytes.extend_from_slice(&crc.to_le_bytes());
        Ok(&self.bytes)
    }
}

/// Where everything lies in a frame whose checksum and shape are right. Its checkpoint is not judged yet.
#[derive(Debug, Clone)]
pub(crate) struct Shape {
    pub(crate) first: u64,
    records: Vec<(Range<usize>, Option<Range<usize>>)>,
    note: Range<usize>,
}

impl Shape {
    /// Reads the shape of the frame that is all of `bytes`.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, FrameFault> {
        let header = Header::decode(bytes)?;
        if bytes.len() != header.length as usize {
            return Err(FrameFault::Length(header.length));
        }
        let (body, crc) = bytes.split_last_chunk::<CRC_BYTES>().ok_or(FrameFault::Length(header.length))?;
        if crc32c::crc32c(body) != u32::from_le_bytes(*crc) {
            return Err(FrameFault::Checksum);
        }
        let end = body.len();
        let mut at = HEADER_BYTES;
        let mut records = Vec::with_capacity((header.count as usize).min(body.len() / MIN_RECORD_BYTES));
        for _ in 0..header.count {
            let (leaf_length, payload_length) = lengths(body, at).ok_or(FrameFault::Shape("record table"))?;
            let leaf = at + 6..at + 6 + leaf_length;
            at = leaf.end;
            let payload = payload_length.map(|length| at..at + length);
            at = payload.as_ref().map_or(at, |range| range.end);
            if at > end || leaf.is_empty() {
                return Err(FrameFault::Shape("record lengths"));
            }
            records.push((leaf, payload));
        }
        if at + header.note_length as usize != end || header.count == 0 {
            return Err(FrameFault::Shape("lengths do not add up"));
        }
        if std::str::from_utf8(body.get(at..end).unwrap_or_default()).is_err() {
            return Err(FrameFault::Shape("checkpoint is not UTF-8"));
        }
        Ok(Self { first: header.first, records, note: at..end })
    }

    /// The checkpoint in the frame's own bytes.
    pub(crate) fn note<'a>(&self, bytes: &'a [u8]) -> &'a str {
        bytes.get(self.note.clone()).and_then(|note| std::str::from_utf8(note).ok()).unwrap_or_default()
    }

    /// The records in the frame's own bytes.
    pub(crate) fn records<'a>(&'a self, bytes: &'a [u8]) -> impl Iterator<Item = Record<'a>> {
        let bytes = |range: &Range<usize>| bytes.get(range.clone()).unwrap_or_default();
        self.records.iter().zip(self.first..).map(move |((leaf, payload), index)| Record {
            index,
            leaf: bytes(leaf),
            payload: payload.as_ref().map(bytes),
        })
    }
}

/// A frame with its own bytes.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    pub(crate) first: u64,
    bytes: Vec<u8>,
    shape: Shape,
}

impl Frame {
    pub(crate) fn decode(bytes: Vec<u8>) -> Result<Self, FrameFault> {
        let shape = Shape::read(&bytes)?;
        Ok(Self { first: shape.first, shape, bytes })
    }

    pub(crate) fn note(&self) -> &str {
        self.shape.note(&self.bytes)
    }

    pub(crate) fn next_index(&self) -> u64 {
        self.first + self.shape.records.len() as u64
    }

    pub(crate) fn length(&self) -> u64 {
        self.bytes.len() as u64
    }

    pub(crate) fn records(&self) -> impl Iterator<Item = Record<'_>> {
        self.shape.records(&self.bytes)
    }
}

fn lengths(body: &[u8], at: usize) -> Option<(usize, Option<usize>)> {
    let (leaf, rest) = body.get(at..)?.split_first_chunk::<2>()?;
    let payload = u32::from_le_bytes(*rest.first_chunk::<4>()?);
    let payload = (payload != NO_PAYLOAD).then_some(payload as usize);
    Some((usize::from(u16::from_le_bytes(*leaf)), payload))
}

/// The fixed start of a frame.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Header {
    pub(crate) length: u32,
    pub(crate) first: u64,
    pub(crate) count: u32,
    note_length: u32,
}

impl Header {
    fn decode(bytes: &[u8]) -> Result<Self, FrameFault> {
        let header = bytes.first_chunk::<HEADER_BYTES>().ok_or(FrameFault::Magic)?;
        let word =
            |at: usize| header.get(at..at + 4).and_then(|word| word.try_into().ok()).map_or(0, u32::from_le_bytes);
        if !header.starts_with(&MAGIC) {
            return Err(FrameFault::Magic);
        }
        let length = word(4);
        if !(40..=MAX_FRAME_BYTES).contains(&length) {
            return Err(FrameFault::Length(length));
        }
        let first = u64::from(word(8)) | u64::from(word(12)) << 32;
        Ok(Self { length, first, count: word(16), note_length: word(20) })
    }
}

/// What lies at an offset of a segment.
#[derive(Debug)]
pub(crate) enum Found {
    Frame(Frame),
    /// Zeros to the end of the file.
    End,
    /// Something that is neither.
    Fault(FrameFault),
}

/// Reads a segment frame by frame.
pub(crate) struct SegmentReader {
    pub(crate) path: PathBuf,
    pub(crate) offset: u64,
    pub(crate) file: Arc<dyn DiskFile>,
}

impl SegmentReader {
    pub(crate) fn open(store: &Store, first: u64) -> io::Result<Self> {
        let path = store.segment(first);
        let file = store.disk().open(&path, Mode::Read)?;
        Ok(Self { path, offset: 0, file: file.into() })
    }

    pub(crate) fn size(&self) -> io::Result<u64> {
        self.file.size()
    }

    /// Reads what lies at the offset, and steps over it if it is the frame that starts at `expected`.
    pub(crate) fn next(&mut self, expected: u64) -> io::Result<Found> {
        let found = self.frame_at(self.offset)?;
        Ok(match found {
            Ok(frame) if frame.first == expected => {
                self.offset += frame.length();
                Found::Frame(frame)
            }
            Ok(frame) => Found::Fault(FrameFault::Index { expected, found: frame.first }),
            Err(fault) => {
                if self.is_zero_from(self.offset)? {
                    Found::End
                } else {
                    Found::Fault(fault)
                }
            }
        })
    }

    /// The header at the offset, if there is a plausible one; steps over its frame without reading it.
    pub(crate) fn skip(&mut self) -> io::Result<Option<Header>> {
        let bytes = read_range(self.file.as_ref(), self.offset, HEADER_BYTES as u64)?;
        let header = Header::decode(&bytes).ok();
        self.offset += header.map_or(0, |header| u64::from(header.length));
        Ok(header)
    }

    /// The lengths of the frames that seem to follow, up to `limit` bytes but for the first; steps over them without
    /// reading them. None where no frame seems to start.
    pub(crate) fn skip_some(&mut self, limit: usize) -> io::Result<Vec<usize>> {
        let size = self.size()?;
        let (mut lengths, mut bytes) = (Vec::new(), 0);
        loop {
            let header = Header::decode(&read_range(self.file.as_ref(), self.offset, HEADER_BYTES as u64)?);
            let Ok(header) = header else { return Ok(lengths) };
            let length = header.length as usize;
            let is_full = !lengths.is_empty() && bytes + length > limit;
            if is_full || self.offset + u64::from(header.length) > size {
                return Ok(lengths);
            }
            bytes += length;
            self.offset += u64::from(header.length);
            lengths.push(length);
        }
    }

    /// The first whole frame behind the offset that starts beyond record `after`, wherever it lies.
    pub(crate) fn later_frame(&self, after: u64) -> io::Result<Option<Frame>> {
        let tail = read_range(self.file.as_ref(), self.offset, self.size()?.saturating_sub(self.offset))?;
        let starts = tail.windows(MAGIC.len()).enumerate().skip(1).filter(|(_, window)| *window == MAGIC);
        for (at, _) in starts {
            if let Ok(frame) = self.frame_at(self.offset + at as u64)?
                && frame.first > after
            {
                return Ok(Some(frame));
            }
        }
        Ok(None)
    }

    fn frame_at(&self, offset: u64) -> io::Result<Result<Frame, FrameFault>> {
        let header = match Header::decode(&read_range(self.file.as_ref(), offset, HEADER_BYTES as u64)?) {
            Ok(header) => header,
            Err(fault) => return Ok(Err(fault)),
        };
        if offset + u64::from(header.length) > self.size()? {
            return Ok(Err(FrameFault::Length(header.length)));
        }
        Ok(Frame::decode(read_range(self.file.as_ref(), offset, u64::from(header.length))?))
    }

    fn is_zero_from(&self, offset: u64) -> io::Result<bool> {
        let mut at = offset;
        loop {
            let bytes = read_range(self.file.as_ref(), at, 256 * 1024)?;
            if bytes.is_empty() {
                return Ok(true);
            }
            if bytes.iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
            at += bytes.len() as u64;
        }
    }
}

/// The first indexes of the segments in a ledger, in order. Names that are not a segment's are left out.
pub(crate) fn list(store: &Store) -> io::Result<Vec<u64>> {
    let names = store.disk().list(&store.segments())?;
    let number = |name: &String| {
        let digits = name.strip_suffix(".seg")?;
        (digits.len() == 20).then(|| digits.parse().ok()).flatten()
    };
    Ok(names.iter().filter_map(number).collect())
}
