//! The clear part of a sealed payload: which keys open it, and the marks by which a scope's payloads are found.
//!
//! Magic, id of the run's key, id of the subject's key (0: none), counter, mark of the run, mark of the subject (zeros:
//! none); integers little-endian. It must not know keys.

use countersign_model::Digest;

const MAGIC: [u8; 4] = *b"CSV1";
const TAG_BYTES: usize = 16;
const HEADER_BYTES: usize = 4 + 3 * 8 + 2 * TAG_BYTES;
/// The authentication tag of AES-256-GCM.
const SEAL_BYTES: usize = 16;

/// How many bytes longer a payload is once it is sealed.
pub const OVERHEAD_BYTES: usize = HEADER_BYTES + SEAL_BYTES;

/// A scope's mark: the first half of its keyed hash. Who has not the vault's secret cannot tell whose it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tag([u8; TAG_BYTES]);

impl Tag {
    pub(crate) fn of(digest: &Digest) -> Self {
        Self(digest.0.first_chunk().copied().unwrap_or_default())
    }
}

/// What a sealed payload says of itself in the clear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The run's key.
    pub run_key: u64,
    /// The subject's key; 0 where it has no subject.
    pub subject_key: u64,
    /// Which payload of the run's key this is: the nonce.
    pub(crate) counter: u64,
    /// The run's mark.
    pub run: Tag,
    /// The subject's mark; zeros where it has no subject.
    pub subject: Tag,
}

impl Header {
    /// Reads the header of a sealed payload; `None` if it is none.
    #[must_use]
    pub fn read(sealed: &[u8]) -> Option<Self> {
        Self::split(sealed).map(|(header, ..)| header)
    }

    /// The key that this payload has in the scope with this mark.
    #[must_use]
    pub fn key_of(&self, tag: Tag) -> Option<u64> {
        if self.run == tag {
            return Some(self.run_key);
        }
        (self.subject_key != 0 && self.subject == tag).then_some(self.subject_key)
    }

    /// The header, its bytes and what follows.
    pub(crate) fn split(sealed: &[u8]) -> Option<(Self, &[u8], &[u8])> {
        let (head, body) = sealed.split_at_checked(HEADER_BYTES)?;
        let (run_key, rest) = head.strip_prefix(&MAGIC)?.split_first_chunk()?;
        let (subject_key, rest) = rest.split_first_chunk()?;
        let (counter, rest) = rest.split_first_chunk()?;
        let (run, rest) = rest.split_first_chunk()?;
        let header = Self {
            run_key: u64::from_le_bytes(*run_key),
            subject_key: u64::from_le_bytes(*subject_key),
            counter: u64::from_le_bytes(*counter),
            run: Tag(*run),
            subject: Tag(*rest.first_chunk()?),
        };
        Some((header, head, body))
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES);
        bytes.extend_from_slice(&MAGIC);
        for number in [self.run_key, self.subject_key, self.counter] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(&self.run.0);
        bytes.extend_from_slice(&self.subject.0);
        bytes
    }
}
