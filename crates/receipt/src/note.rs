//! Signed notes and their Ed25519 keys: C2SP signed-note 1.0.0, signature type 0x01.
//!
//! Parses and checks; [`Note::render`] only puts text and finished signatures together. It must not know what a text
//! means (that is [`crate::checkpoint`]) and never holds a private key. Cosignatures (type 0x04) are
//! [`crate::cosignature`]'s. Lines of unknown keys and algorithms are carried and otherwise ignored, as the specification
//! wants, so a note with an ML-DSA line beside ours still verifies.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, VerifyingKey};
use sha2::{Digest as _, Sha256};

#[cfg(test)]
mod tests;

/// The largest note that is read, in bytes.
pub const MAX_NOTE_BYTES: usize = 64 * 1024;
/// The most signatures that a note may carry.
pub const MAX_SIGNATURES: usize = 16;
/// The longest key name, in bytes.
pub const MAX_NAME_BYTES: usize = 255;

const ED25519: u8 = 0x01;

/// Why a verifier key was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Empty, too long, or holds a space, a plus sign or a control character.
    #[error("key name `{name}` must be 1 to 255 bytes without spaces, `+` and control characters")]
    Name {
        /// The name as given.
        name: String,
    },
    /// Not of the form `<name>+<8 hex digits>+<base64>`.
    #[error("verifier key `{text}` is not `<name>+<hash>+<base64>`")]
    Form {
        /// The key as given.
        text: String,
    },
    /// Another algorithm than Ed25519.
    #[error("verifier key algorithm `{algorithm}` is not Ed25519")]
    Algorithm {
        /// The algorithm byte.
        algorithm: u8,
    },
    /// Another algorithm than the Ed25519 of cosignatures.
    #[error("verifier key algorithm `{algorithm}` is not that of a witness (4, Ed25519 cosignatures)")]
    Cosigner {
        /// The algorithm byte.
        algorithm: u8,
    },
    /// The key bytes are not a point that Ed25519 accepts.
    #[error("verifier key of `{name}` is not a valid Ed25519 public key")]
    Point {
        /// The key name.
        name: String,
    },
    /// The hash in the text is not the key's.
    #[error("verifier key hash `{found}` should be `{expected}`")]
    Hash {
        /// What the text says.
        found: String,
        /// What the name and key give.
        expected: String,
    },
}

/// A named Ed25519 public key, `<name>+<hash>+<base64>` in text.
#[derive(Clone, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    /// What the key is used for: part of its id, so that one key in two roles has two ids.
    algorithm: u8,
    id: [u8; 4],
    key: VerifyingKey,
}

impl VerifierKey {
    /// Names a public key.
    ///
    /// # Errors
    /// [`KeyError`] if the name or the point is not usable. Points of small order are refused.
    pub fn new(name: &str, public: &[u8; 32]) -> Result<Self, KeyError> {
        Self::of_algorithm(ED25519, name, public)
    }

    pub(crate) fn of_algorithm(algorithm: u8, name: &str, public: &[u8; 32]) -> Result<Self, KeyError> {
        check_name(name)?;
        let point = || KeyError::Point { name: name.to_owned() };
        let key = VerifyingKey::from_bytes(public).map_err(|_| point())?;
        if key.is_weak() {
            return Err(point());
        }
        Ok(Self { name: name.to_owned(), algorithm, id: key_id(algorithm, name, public), key })
    }

    /// Reads the text form.
    ///
    /// # Errors
    /// [`KeyError`], naming the part that is wrong.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        Self::parse_algorithm(ED25519, text)
    }

    pub(crate) fn parse_algorithm(expected: u8, text: &str) -> Result<Self, KeyError> {
        let form = || KeyError::Form { text: text.chars().take(512).collect() };
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(hash), Some(data)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(form());
        };
        let bytes = STANDARD.decode(data).map_err(|_| form())?;
        let (&algorithm, public) = bytes.split_first().ok_or_else(form)?;
        if algorithm != expected {
            let is_log_wanted = expected == ED25519;
            return Err(if is_log_wanted {
                KeyError::Algorithm { algorithm }
            } else {
                KeyError::Cosigner { algorithm }
            });
        }
        let key = Self::of_algorithm(algorithm, name, public.try_into().map_err(|_| form())?)?;
        let expected = key.id_hex();
        if hash != expected {
            return Err(KeyError::Hash { found: hash.to_owned(), expected });
        }
        Ok(key)
    }

    /// The name: for a log key, the log's origin.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The first four bytes of `SHA-256(name || 0x0A || algorithm || public key)`.
    #[must_use]
    pub fn id(&self) -> [u8; 4] {
        self.id
    }

    /// The public key.
    #[must_use]
    pub fn public(&self) -> &[u8; 32] {
        self.key.as_bytes()
    }

    /// Whether `signature` is this key's over `text`, by the strict rule (no malleable or small-order forms).
    #[must_use]
    pub fn accepts(&self, text: &str, signature: &[u8; 64]) -> bool {
        self.accepts_bytes(text.as_bytes(), signature)
    }

    /// As [`VerifierKey::accepts`], over what is no text: [`crate::cose::to_be_signed`].
    #[must_use]
    pub fn accepts_bytes(&self, bytes: &[u8], signature: &[u8; 64]) -> bool {
        self.key.verify_strict(bytes, &Signature::from_bytes(signature)).is_ok()
    }

    /// [`VerifierKey::id`] in eight hexadecimal digits.
    #[must_use]
    pub fn id_hex(&self) -> String {
        hex(self.id)
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = vec![self.algorithm];
        bytes.extend_from_slice(self.public());
        write!(f, "{}+{}+{}", self.name, self.id_hex(), STANDARD.encode(bytes))
    }
}

impl fmt::Debug for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifierKey({self})")
    }
}

fn hex(id: [u8; 4]) -> String {
    format!("{:08x}", u32::from_be_bytes(id))
}

fn key_id(algorithm: u8, name: &str, public: &[u8; 32]) -> [u8; 4] {
    let digest = Sha256::new().chain_update(name).chain_update([b'\n', algorithm]).chain_update(public).finalize();
    let mut id = [0; 4];
    id.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
    id
}

fn check_name(name: &str) -> Result<(), KeyError> {
    let bad = |c: char| c.is_whitespace() || c.is_control() || c == '+';
    if name.is_empty() || name.len() > MAX_NAME_BYTES || name.contains(bad) {
        return Err(KeyError::Name { name: name.chars().take(MAX_NAME_BYTES).collect() });
    }
    Ok(())
}

/// Why a note was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// More than [`MAX_NOTE_BYTES`].
    #[error("note of `{found}` bytes is larger than {MAX_NOTE_BYTES}")]
    TooLarge {
        /// Its size.
        found: usize,
    },
    /// A control character other than the newline.
    #[error("note holds control character `{code:#04x}` at byte `{at}`")]
    Control {
        /// The character's code.
        code: u32,
        /// Its byte offset.
        at: usize,
    },
    /// No blank line between text and signatures, or no final newline.
    #[error("note has no text, blank line and signature lines, each ended by a newline")]
    Shape,
    /// A signature line is not `— <name> <base64>`.
    #[error("signature line `{line}` is not `— <name> <base64>`")]
    SignatureLine {
        /// The line.
        line: String,
    },
    /// More than [`MAX_SIGNATURES`].
    #[error("note has more than {MAX_SIGNATURES} signatures")]
    TooManySignatures,
    /// The key did not sign the note.
    #[error("note is not signed by `{name}`")]
    NotSigned {
        /// The key's name.
        name: String,
    },
    /// Another key of the same name signed the note: the log's key was changed, or this is somebody else's.
    #[error(
        "note is signed by key {found} of `{name}`, not by key {expected}: if the log's key was changed, the list of its \
             keys (`log.keys`) leads from one to the other"
    )]
    OtherKey {
        /// The key's name.
        name: String,
        /// The id of the key that signed.
        found: String,
        /// The id of the key that should have.
        expected: String,
    },
    /// A signature that claims to be the key's is wrong.
    #[error("signature of `{name}` is wrong")]
    BadSignature {
        /// The key's name.
        name: String,
    },
}

/// A note that was parsed; nothing is known of its signatures until [`Note::verify`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    text: String,
    signatures: Vec<NoteSignature>,
}

/// One signature line, of whatever algorithm: nothing is known of it but its form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NoteSignature {
    pub(crate) name: String,
    pub(crate) id: [u8; 4],
    pub(crate) bytes: Vec<u8>,
}

impl Note {
    /// Splits a note into text and signatures.
    ///
    /// # Errors
    /// [`NoteError`] for anything that is not exactly a signed note within the limits.
    pub fn parse(note: &str) -> Result<Self, NoteError> {
        if note.len() > MAX_NOTE_BYTES {
            return Err(NoteError::TooLarge { found: note.len() });
        }
        if let Some((at, c)) = note.char_indices().find(|(_, c)| c.is_control() && *c != '\n') {
            return Err(NoteError::Control { code: u32::from(c), at });
        }
        let (text, lines) = note.rsplit_once("\n\n").ok_or(NoteError::Shape)?;
        let lines = lines.strip_suffix('\n').ok_or(NoteError::Shape)?;
        if text.is_empty() || lines.is_empty() {
            return Err(NoteError::Shape);
        }
        let mut signatures = Vec::new();
        for line in lines.split('\n') {
            if signatures.len() == MAX_SIGNATURES {
                return Err(NoteError::TooManySignatures);
            }
            signatures.push(
                NoteSignature::parse(line)
                    .ok_or_else(|| NoteError::SignatureLine { line: line.chars().take(256).collect() })?,
            );
        }
        Ok(Self { text: format!("{text}\n"), signatures })
    }

    /// The signed text, ending with a newline.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Checks that `key` signed the text. Lines of other keys are ignored.
    ///
    /// # Errors
    /// [`NoteError::NotSigned`], [`NoteError::OtherKey`] or, if any line that claims to be this key's is wrong, [`NoteError::BadSignature`].
    pub fn verify(&self, key: &VerifierKey) -> Result<(), NoteError> {
        let name = || key.name().to_owned();
        let mut signed = false;
        for line in self.lines_of(key) {
            let signature = line.bytes.as_slice().try_into().map_err(|_| NoteError::BadSignature { name: name() })?;
            if !key.accepts(&self.text, signature) {
                return Err(NoteError::BadSignature { name: name() });
            }
            signed = true;
        }
        if signed {
            return Ok(());
        }
        Err(match self.signatures.iter().find(|line| line.name == key.name) {
            Some(other) => NoteError::OtherKey { name: name(), found: hex(other.id), expected: key.id_hex() },
            None => NoteError::NotSigned { name: name() },
        })
    }

    /// The lines that claim to be `key`'s.
    pub(crate) fn lines_of<'a>(&'a self, key: &'a VerifierKey) -> impl Iterator<Item = &'a NoteSignature> {
        self.signatures.iter().filter(|line| line.name == key.name && line.id == key.id)
    }

    /// Renders `text` (which ends with a newline) with one finished signature of `key`.
    #[must_use]
    pub fn render(text: &str, key: &VerifierKey, signature: &[u8; 64]) -> String {
        format!("{text}\n{}", NoteSignature::by(key, signature).line())
    }

    /// The text with only the lines that `key` signed: what a reader keeps of a note that strangers added lines to.
    ///
    /// # Errors
    /// As [`Note::verify`].
    pub fn only(&self, key: &VerifierKey) -> Result<String, NoteError> {
        self.verify(key)?;
        Ok(format!("{}\n{}", self.text, self.lines_of(key).map(NoteSignature::line).collect::<String>()))
    }
}

impl NoteSignature {
    /// A finished signature of `key`.
    pub(crate) fn by(key: &VerifierKey, bytes: &[u8]) -> Self {
        Self { name: key.name.clone(), id: key.id, bytes: bytes.to_vec() }
    }

    /// The line as it stands in a note, with its newline.
    pub(crate) fn line(&self) -> String {
        let bytes = [self.id.as_slice(), &self.bytes].concat();
        format!("— {} {}\n", self.name, STANDARD.encode(bytes))
    }

    fn parse(line: &str) -> Option<Self> {
        let (name, data) = line.strip_prefix("— ")?.split_once(' ')?;
        check_name(name).ok()?;
        let bytes = STANDARD.decode(data).ok()?;
        let (id, bytes) = bytes.split_first_chunk::<4>()?;
        if bytes.is_empty() {
            return None;
        }
        Some(Self { name: name.to_owned(), id: *id, bytes: bytes.to_vec() })
    }
}
