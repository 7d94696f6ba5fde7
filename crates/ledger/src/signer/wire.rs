//! What ledger and signer say to each other over the socket: bounded messages, each with one encoding.
//!
//! A message is its length in four bytes, then a tag byte and fields: integers little-endian, texts and lists behind
//! their length. Every request has one answer, in order. Decoding hostile bytes gives an error and never more memory
//! than the message is long. It must not know what a request does.

use std::io::{self, Read, Write};

use countersign_receipt::Hash;
use countersign_receipt::merkle::TreeHead;

use crate::error::SignError;

#[cfg(test)]
mod tests;

/// The largest message, in bytes.
pub(crate) const MESSAGE_BYTES_MAX: usize = 16 * 1024;
/// The most hashes in a proof: twice the height of the largest tree, which no proof reaches.
const PROOF_MAX: usize = 128;
/// The longest text, in bytes: a verifier key or a reason.
const TEXT_BYTES_MAX: usize = 2_048;
/// Raised when a message changes its meaning; both sides must be of one build.
const VERSION: u8 = 1;

/// What the ledger asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Request {
    /// Which key, and what is confirmed.
    Hello,
    Sign {
        origin: String,
        head: TreeHead,
        proof: Vec<Hash>,
    },
    Confirm {
        head: TreeHead,
        proof: Vec<Hash>,
    },
    NextKey,
    State {
        first: u64,
        old: String,
        new: String,
    },
    Adopt {
        key: String,
        head: TreeHead,
        proof: Vec<Hash>,
    },
    ForgetNext,
    SignReceipt {
        head: TreeHead,
        proof: Vec<Hash>,
    },
}

/// What the signer answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    Hello { key: String, confirmed: TreeHead },
    Signature([u8; 64]),
    Key(String),
    Done,
    Refused(SignError),
}

impl Request {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut to = Writer::default();
        match self {
            Self::Hello => to.tag(1).tag(VERSION),
            Self::Sign { origin, head, proof } => to.tag(2).text(origin).head(head).hashes(proof),
            Self::Confirm { head, proof } => to.tag(3).head(head).hashes(proof),
            Self::NextKey => to.tag(4),
            Self::State { first, old, new } => to.tag(5).number(*first).text(old).text(new),
            Self::Adopt { key, head, proof } => to.tag(6).text(key).head(head).hashes(proof),
            Self::ForgetNext => to.tag(7),
            Self::SignReceipt { head, proof } => to.tag(8).head(head).hashes(proof),
        };
        to.0
    }

    /// `None` for anything but exactly one request.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut from = Reader(bytes);
        let request = match from.tag()? {
            1 => {
                from.tag().filter(|version| *version == VERSION)?;
                Self::Hello
            }
            2 => Self::Sign { origin: from.text()?, head: from.head()?, proof: from.hashes()? },
            3 => Self::Confirm { head: from.head()?, proof: from.hashes()? },
            4 => Self::NextKey,
            5 => Self::State { first: from.number()?, old: from.text()?, new: from.text()? },
            6 => Self::Adopt { key: from.text()?, head: from.head()?, proof: from.hashes()? },
            7 => Self::ForgetNext,
            8 => Self::SignReceipt { head: from.head()?, proof: from.hashes()? },
            _ => return None,
        };
        from.0.is_empty().then_some(request)
    }
}

impl Answer {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut to = Writer::default();
        match self {
            Self::Hello { key, confirmed } => to.tag(1).tag(VERSION).text(key).head(confirmed),
            Self::Signature(signature) => to.tag(2).raw(signature),
            Self::Key(key) => to.tag(3).text(key),
            Self::Done => to.tag(4),
            Self::Refused(error) => match error {
                SignError::Smaller { asked, confirmed } => to.tag(5).number(*asked).number(*confirmed),
                SignError::SecondRoot { size, asked, confirmed } => {
                    to.tag(6).number(*size).raw(asked.as_bytes()).raw(confirmed.as_bytes())
                }
                SignError::Forked { asked, confirmed } => to.tag(7).number(*asked).number(*confirmed),
                SignError::Origin { found, expected } => to.tag(8).text(found).text(expected),
                SignError::Rotation(why) => to.tag(9).text(why),
                SignError::Unavailable(why) => to.tag(10).text(why),
            },
        };
        to.0
    }

    /// `None` for anything but exactly one answer.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut from = Reader(bytes);
        let answer = match from.tag()? {
            1 => {
                from.tag().filter(|version| *version == VERSION)?;
                Self::Hello { key: from.text()?, confirmed: from.head()? }
            }
            2 => Self::Signature(from.raw()?),
            3 => Self::Key(from.text()?),
            4 => Self::Done,
            5 => Self::Refused(SignError::Smaller { asked: from.number()?, confirmed: from.number()? }),
            6 => {
                let (size, asked) = (from.number()?, Hash::new(from.raw()?));
                Self::Refused(SignError::SecondRoot { size, asked, confirmed: Hash::new(from.raw()?) })
            }
            7 => Self::Refused(SignError::Forked { asked: from.number()?, confirmed: from.number()? }),
            8 => Self::Refused(SignError::Origin { found: from.text()?, expected: from.text()? }),
            9 => Self::Refused(SignError::Rotation(from.text()?)),
            10 => Self::Refused(SignError::Unavailable(from.text()?)),
            _ => return None,
        };
        from.0.is_empty().then_some(answer)
    }
}

/// Writes one message.
pub(crate) fn send(stream: &mut impl Write, message: &[u8]) -> io::Result<()> {
    let length = u32::try_from(message.len()).ok().filter(|_| message.len() <= MESSAGE_BYTES_MAX);
    let length = length.ok_or_else(|| invalid("message is too long"))?;
    // One write: the other side need not wait for a second packet.
    let mut bytes = length.to_le_bytes().to_vec();
    bytes.extend_from_slice(message);
    stream.write_all(&bytes)
}

/// Reads one message.
pub(crate) fn receive(stream: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = usize::try_from(u32::from_le_bytes(length)).ok().filter(|length| *length <= MESSAGE_BYTES_MAX);
    let mut message = vec![0; length.ok_or_else(|| invalid("message is too long"))?];
    stream.read_exact(&mut message)?;
    Ok(message)
}

pub(crate) fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

#[derive(Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn tag(&mut self, tag: u8) -> &mut Self {
        self.raw(&[tag])
    }

    fn number(&mut self, number: u64) -> &mut Self {
        self.raw(&number.to_le_bytes())
    }

    fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// Text beyond the bound is cut: only reasons can be that long.
    fn text(&mut self, text: &str) -> &mut Self {
        let text = text.get(..text.floor_char_boundary(TEXT_BYTES_MAX)).unwrap_or_default();
        self.raw(&u16::try_from(text.len()).unwrap_or(0).to_le_bytes()).raw(text.as_bytes())
    }

    fn head(&mut self, head: &TreeHead) -> &mut Self {
        self.number(head.size).raw(head.root.as_bytes())
    }

    /// A proof beyond the bound is left out, and refused for that by the other side.
    fn hashes(&mut self, hashes: &[Hash]) -> &mut Self {
        let hashes = if hashes.len() <= PROOF_MAX { hashes } else { &[] };
        self.tag(u8::try_from(hashes.len()).unwrap_or(0));
        hashes.iter().for_each(|hash| self.0.extend_from_slice(hash.as_bytes()));
        self
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn tag(&mut self) -> Option<u8> {
        self.raw().map(|[tag]: [u8; 1]| tag)
    }

    fn number(&mut self) -> Option<u64> {
        self.raw().map(u64::from_le_bytes)
    }

    fn raw<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (found, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*found)
    }

    fn text(&mut self) -> Option<String> {
        let length = usize::from(u16::from_le_bytes(self.raw()?));
        let (text, rest) = self.0.split_at_checked(length).filter(|_| length <= TEXT_BYTES_MAX)?;
        self.0 = rest;
        Some(std::str::from_utf8(text).ok()?.to_owned())
    }

    fn head(&mut self) -> Option<TreeHead> {
        Some(TreeHead { size: self.number()?, root: Hash::new(self.raw()?) })
    }

    fn hashes(&mut self) -> Option<Vec<Hash>> {
        let count = usize::from(self.tag()?);
        (0..count).map(|_| self.raw().map(Hash::new)).collect::<Option<Vec<_>>>().filter(|_| count <= PROOF_MAX)
    }
}
