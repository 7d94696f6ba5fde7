//! Checkpoints: a log's size and root at one moment, C2SP tlog-checkpoint 1.0.0.
//!
//! Our checkpoints are exactly three lines, and their origin is the name of the log's key; extension lines are refused
//! because no reader of ours would know what they promise. It must not know who signs. It does not cover cosignatures.

use crate::merkle::{Hash, TreeHead};
use crate::note::{Note, NoteError, VerifierKey};

#[cfg(test)]
mod tests;

/// Why a checkpoint was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// The note around it is wrong, or not signed by the log.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// Not exactly three lines.
    #[error("checkpoint is not origin, size and root on one line each")]
    Shape,
    /// The origin line is empty.
    #[error("checkpoint has an empty origin")]
    EmptyOrigin,
    /// The size is not a plain decimal number below 2^63.
    #[error("checkpoint size `{text}` is not a decimal number without leading zeros")]
    Size {
        /// The line.
        text: String,
    },
    /// The root is not 32 bytes of base64.
    #[error("checkpoint root `{text}` is not the base64 of 32 bytes")]
    Root {
        /// The line.
        text: String,
    },
    /// Signed by a key whose name is not the origin.
    #[error("checkpoint is of log `{found}`, not `{expected}`")]
    Origin {
        /// The origin line.
        found: String,
        /// The key's name.
        expected: String,
    },
    /// Signed by a key that was in force before the trusted one, so nothing that is trusted vouches for it.
    #[error(
        "checkpoint of size `{size}` was signed before the trusted key, which signs from size `{first}` on: \
             verify it with an older key"
    )]
    BeforeTrusted {
        /// The checkpoint's size.
        size: u64,
        /// The first size of the trusted key.
        first: u64,
    },
}

/// The size and root of one log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log's name.
    pub origin: String,
    /// How many leaves.
    pub size: u64,
    /// The root over them.
    pub root: Hash,
}

impl Checkpoint {
    /// Reads the signed text of a checkpoint.
    ///
    /// # Errors
    /// [`CheckpointError`] for anything but exactly three well-formed lines.
    pub fn parse(text: &str) -> Result<Self, CheckpointError> {
        let (checkpoint, extensions) = Self::parse_extended(text)?;
        if extensions > 0 { Err(CheckpointError::Shape) } else { Ok(checkpoint) }
    }

    /// As [`Checkpoint::parse`], for one who serves other logs than ours: extension lines are counted and left unread.
    ///
    /// # Errors
    /// [`CheckpointError`] for less than three lines, an empty line, or a malformed one.
    pub fn parse_extended(text: &str) -> Result<(Self, usize), CheckpointError> {
        let mut lines = text.strip_suffix('\n').ok_or(CheckpointError::Shape)?.split('\n');
        let (Some(origin), Some(size), Some(root)) = (lines.next(), lines.next(), lines.next()) else {
            return Err(CheckpointError::Shape);
        };
        let extensions: Vec<&str> = lines.collect();
        if extensions.iter().any(|line| line.is_empty()) {
            return Err(CheckpointError::Shape);
        }
        if origin.is_empty() {
            return Err(CheckpointError::EmptyOrigin);
        }
        let size = parse_decimal(size).ok_or_else(|| CheckpointError::Size { text: shortened(size) })?;
        let root = Hash::from_base64(root).ok_or_else(|| CheckpointError::Root { text: shortened(root) })?;
        Ok((Self { origin: origin.to_owned(), size, root }, extensions.len()))
    }

    /// Reads a signed note, checks that the log's key signed it and that the origin is the key's name.
    ///
    /// # Errors
    /// [`CheckpointError`], naming what is wrong.
    pub fn open(note: &str, key: &VerifierKey) -> Result<Self, CheckpointError> {
        let note = Note::parse(note)?;
        note.verify(key)?;
        let checkpoint = Self::parse(note.text())?;
        if checkpoint.origin != key.name() {
            return Err(CheckpointError::Origin { found: checkpoint.origin, expected: key.name().to_owned() });
        }
        Ok(checkpoint)
    }

    /// The text that is signed: three lines, each ended by a newline.
    #[must_use]
    pub fn signed_body(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, self.root)
    }

    /// Size and root without the name.
    #[must_use]
    pub fn head(&self) -> TreeHead {
        TreeHead { size: self.size, root: self.root }
    }
}

/// A decimal number below 2^63 in its one spelling: digits only, no sign, no leading zero.
pub(crate) fn parse_decimal(text: &str) -> Option<u64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    let number = if plain { text.parse::<u64>().ok()? } else { return None };
    (number < 1 << 63).then_some(number)
}

/// Input for an error message, cut and escaped so that hostile text cannot flood or command a terminal.
pub(crate) fn shortened(text: &str) -> String {
    text.chars().take(80).flat_map(char::escape_debug).collect()
}
