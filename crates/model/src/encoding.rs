//! The one canonical encoding: deterministic CBOR (RFC 8949, section 4.2.1) of our own types.
//!
//! A value has exactly one encoding, and bytes that are not that encoding are refused: decoding
//! re-encodes and compares. So an unknown key, a longer spelling of a number, a key out of order
//! and trailing bytes are all errors, whatever the CBOR library itself would let pass.
//! It does not cover JSON: that is `effects`.

use minicbor::encode::Write;
use minicbor::{Decode, Encode};

/// The largest leaf in bytes: C2SP tlog-tiles gives an entry a length of 16 bits.
pub const LEAF_BYTES_MAX: usize = 65_535;

/// Why a value cannot become a leaf.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// Over [`LEAF_BYTES_MAX`].
    #[error("a record has at most {LEAF_BYTES_MAX} bytes, this one has {bytes}")]
    TooLong {
        /// What it came to.
        bytes: usize,
    },
    /// The encoder refused; writing to memory, that is a bug.
    #[error("a record could not be encoded: {why}")]
    Encoder {
        /// What the encoder said.
        why: String,
    },
}

/// Why bytes are no value of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Not CBOR, or not of the type that was asked for.
    #[error("not a record: {why}")]
    Malformed {
        /// What the decoder said.
        why: String,
    },
    /// A second spelling of a value: unknown key, wrong order, long number, trailing bytes.
    #[error("not the canonical encoding of this record")]
    NotCanonical,
}

/// What most values take, in bytes.
const USUAL_BYTES: usize = 1_024;

/// The one encoding of `value`, with no bound on its length.
///
/// # Errors
/// Only if the encoder itself fails, which is a bug.
pub fn to_canonical<T: Encode<()>>(value: &T) -> Result<Vec<u8>, EncodeError> {
    // Most records fit: growing step by step copies each of them several times.
    let mut bytes = Vec::with_capacity(USUAL_BYTES);
    minicbor::encode(value, &mut bytes).map_err(|error| EncodeError::Encoder { why: error.to_string() })?;
    Ok(bytes)
}

/// The one encoding of `value` as a leaf.
///
/// # Errors
/// Refuses what is over [`LEAF_BYTES_MAX`].
pub fn to_leaf<T: Encode<()>>(value: &T) -> Result<Vec<u8>, EncodeError> {
    let bytes = to_canonical(value)?;
    if bytes.len() > LEAF_BYTES_MAX {
        return Err(EncodeError::TooLong { bytes: bytes.len() });
    }
    Ok(bytes)
}

/// Reads the one encoding of a value.
///
/// # Errors
/// Refuses anything that `to_canonical` would not have written.
pub fn from_canonical<T>(bytes: &[u8]) -> Result<T, DecodeError>
where
    T: Encode<()> + for<'b> Decode<'b, ()>,
{
    let value: T = minicbor::decode(bytes).map_err(|error| DecodeError::Malformed { why: error.to_string() })?;
    let mut left = Expected(bytes);
    match minicbor::encode(&value, &mut left) {
        Ok(()) if left.0.is_empty() => Ok(value),
        Err(error) if !error.is_write() => Err(DecodeError::Malformed { why: error.to_string() }),
        _ => Err(DecodeError::NotCanonical),
    }
}

/// Whether the encoding of `value` fits a leaf; nothing is kept of it.
pub fn fits_leaf<T: Encode<()>>(value: &T) -> bool {
    minicbor::encode(value, &mut Room(LEAF_BYTES_MAX)).is_ok()
}

/// What an encoding still has to write, or it is another one.
struct Expected<'b>(&'b [u8]);

impl Write for Expected<'_> {
    type Error = std::fmt::Error;

    fn write_all(&mut self, written: &[u8]) -> std::fmt::Result {
        self.0 = self.0.strip_prefix(written).ok_or(std::fmt::Error)?;
        Ok(())
    }
}

/// How many bytes an encoding may still take.
struct Room(usize);

impl Write for Room {
    type Error = std::fmt::Error;

    fn write_all(&mut self, written: &[u8]) -> std::fmt::Result {
        self.0 = self.0.checked_sub(written.len()).ok_or(std::fmt::Error)?;
        Ok(())
    }
}

/// A list of bounded length: what does not fit is counted and hashed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Bounded {
    /// The first items.
    #[n(0)]
    pub items: Vec<String>,
    /// How many there were in all.
    #[n(1)]
    pub total: u64,
    /// The hash over all items, where `items` does not hold them all.
    #[n(2)]
    pub hash: Option<crate::Digest>,
}

impl Bounded {
    /// The most items that are kept.
    pub const ITEMS_MAX: usize = 32;
    /// The most bytes of one item that are kept.
    pub const ITEM_BYTES_MAX: usize = 160;

    /// Keeps what fits and hashes the whole where something does not.
    #[must_use]
    pub fn new<I: IntoIterator<Item = String>>(all: I) -> Self {
        let all: Vec<String> = all.into_iter().collect();
        let whole = all.len() <= Self::ITEMS_MAX && all.iter().all(|item| item.len() <= Self::ITEM_BYTES_MAX);
        let hash = (!whole).then(|| {
            let parts: Vec<&[u8]> = all.iter().map(String::as_bytes).collect();
            crate::Digest::of("countersign list v1", &parts)
        });
        let items = all.iter().take(Self::ITEMS_MAX).map(|item| clipped(item, Self::ITEM_BYTES_MAX)).collect();
        Self { items, total: all.len() as u64, hash }
    }

    /// Whether every item is here in full.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.hash.is_none()
    }
}

/// `text`, cut at a character boundary to at most `bytes_max` bytes.
#[must_use]
pub fn clipped(text: &str, bytes_max: usize) -> String {
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    let mut end = bytes_max;
    while !text.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    text.get(..end).unwrap_or_default().to_owned()
}
