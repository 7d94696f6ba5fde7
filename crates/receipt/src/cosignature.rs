//! Cosignatures: a witness's timestamped statement about a checkpoint, C2SP tlog-cosignature 1.0.1, Ed25519 (type 0x04).
//!
//! What a witness signs is not the note but `cosignature/v1`, the time and the note's text, so a cosignature cannot be
//! taken for a log's signature. It must not hold a private key or read a clock: time and signature come in. It does not
//! cover ML-DSA-44 (type 0x06); such keys are refused by name and such lines in notes are carried unread.

use std::fmt;

use crate::note::{KeyError, Note, NoteError, NoteSignature, VerifierKey};

#[cfg(test)]
mod tests;

/// The algorithm byte of Ed25519 cosignatures.
const ED25519_COSIGNATURE: u8 = 0x04;
const SIGNATURE_BYTES: usize = 64;

/// The public key of a witness, `<name>+<hash>+<base64>` in text with algorithm byte 0x04.
///
/// A type of its own: the same 32 bytes as a log's key have another id and sign other messages.
#[derive(Clone, PartialEq, Eq)]
pub struct WitnessKey(VerifierKey);

/// A cosignature that was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cosigned {
    /// When the witness signed, in seconds since the Unix epoch, by its own clock.
    pub time_s: u64,
    /// The signature line as it stands in a note, with its newline.
    pub line: String,
}

impl WitnessKey {
    /// Names a public key.
    ///
    /// # Errors
    /// [`KeyError`] if the name or the point is not usable.
    pub fn new(name: &str, public: &[u8; 32]) -> Result<Self, KeyError> {
        VerifierKey::of_algorithm(ED25519_COSIGNATURE, name, public).map(Self)
    }

    /// Reads the text form.
    ///
    /// # Errors
    /// [`KeyError`], naming the part that is wrong.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        VerifierKey::parse_algorithm(ED25519_COSIGNATURE, text).map(Self)
    }

    /// The witness's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.name()
    }

    /// The key's id, as signature lines begin with it.
    #[must_use]
    pub fn id(&self) -> [u8; 4] {
        self.0.id()
    }

    /// The public key.
    #[must_use]
    pub fn public(&self) -> &[u8; 32] {
        self.0.public()
    }

    /// Checks that this witness cosigned the note. Of several cosignatures the newest counts; a wrong one refuses all.
    ///
    /// # Errors
    /// [`NoteError::NotSigned`], or [`NoteError::BadSignature`] if any line that claims to be this key's is wrong.
    pub fn verify(&self, note: &Note) -> Result<Cosigned, NoteError> {
        let name = || self.name().to_owned();
        let mut newest: Option<Cosigned> = None;
        for line in note.lines_of(&self.0) {
            let time_s = self.time_of(note.text(), line).ok_or_else(|| NoteError::BadSignature { name: name() })?;
            if newest.as_ref().is_none_or(|other| time_s > other.time_s) {
                newest = Some(Cosigned { time_s, line: line.line() });
            }
        }
        newest.ok_or_else(|| NoteError::NotSigned { name: name() })
    }

    /// Reads a witness's answer (signature lines) to the checkpoint with this text. Lines of other keys are ignored.
    ///
    /// # Errors
    /// As [`Note::parse`] and [`WitnessKey::verify`].
    pub fn accept(&self, text: &str, answer: &str) -> Result<Cosigned, NoteError> {
        let note = Note::parse(&format!("{text}\n{answer}"))?;
        // An answer with a blank line would move the border between text and signatures.
        if note.text() != text {
            return Err(NoteError::Shape);
        }
        self.verify(&note)
    }

    /// The line for a finished signature over [`message`].
    #[must_use]
    pub fn line(&self, time_s: u64, signature: &[u8; SIGNATURE_BYTES]) -> String {
        let bytes = [time_s.to_be_bytes().as_slice(), signature].concat();
        NoteSignature::by(&self.0, &bytes).line()
    }

    fn time_of(&self, text: &str, line: &NoteSignature) -> Option<u64> {
        let (time, signature) = line.bytes.split_first_chunk::<8>()?;
        let time_s = u64::from_be_bytes(*time);
        let signature: &[u8; SIGNATURE_BYTES] = signature.try_into().ok()?;
        let in_range = i64::try_from(time_s).is_ok();
        (in_range && self.0.accepts(&message(time_s, text), signature)).then_some(time_s)
    }
}

/// What a witness signs at `time_s` about the checkpoint with this text.
#[must_use]
pub fn message(time_s: u64, text: &str) -> String {
    format!("cosignature/v1\ntime {time_s}\n{text}")
}

impl fmt::Display for WitnessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for WitnessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WitnessKey({self})")
    }
}
