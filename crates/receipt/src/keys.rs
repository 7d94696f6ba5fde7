//! A log's keys over time: the statements by which an old key names the one that follows it.
//!
//! A statement is a signed note of five lines: [`HEADER`], the log's origin, the first size that the new key signs, the
//! old verifier key and the new one. Every size has exactly one key: below `first` the old one, from `first` on the new
//! one. The statements of a log, one after the other with an empty line between them, are its `log.keys` file. Whoever
//! trusts one key of the chain can follow it forward offline, and never backward. It must not know who signs or where
//! the file lies. It does not cover revoking a key that was stolen: a thief can sign a statement as well as the owner.

use std::fmt;

use crate::checkpoint::{Checkpoint, CheckpointError, parse_decimal, shortened};
use crate::note::{KeyError, Note, NoteError, VerifierKey};

#[cfg(test)]
mod tests;

/// The first line of every statement. It holds spaces, so it cannot be a log's origin: no statement is a checkpoint.
pub const HEADER: &str = "countersign log key v1";
/// The most rotations of one log.
pub const MAX_ROTATIONS: usize = 1_024;
/// The largest `log.keys`, in bytes.
pub const MAX_KEYS_BYTES: usize = 1024 * 1024;

/// Why a chain of keys was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// More than [`MAX_KEYS_BYTES`] or [`MAX_ROTATIONS`].
    #[error("the list of keys is larger than {MAX_KEYS_BYTES} bytes or {MAX_ROTATIONS} statements")]
    TooLarge,
    /// A statement is not a note, or not signed by the key that it replaces.
    #[error("key statement `{at}`: {source}")]
    Note {
        /// Which statement, from 0.
        at: usize,
        /// What is wrong.
        source: NoteError,
    },
    /// A statement has not the five lines of one.
    #[error("key statement `{at}` is not header, origin, first size, old key and new key on one line each")]
    Shape {
        /// Which statement, from 0.
        at: usize,
    },
    /// A key in a statement is malformed.
    #[error("key statement `{at}`: {source}")]
    Key {
        /// Which statement, from 0.
        at: usize,
        /// What is wrong.
        source: KeyError,
    },
    /// A statement is of another log.
    #[error("key statement `{at}` is of log `{found}`, not `{expected}`")]
    Origin {
        /// Which statement, from 0.
        at: usize,
        /// Its origin.
        found: String,
        /// The trusted key's name.
        expected: String,
    },
    /// A statement does not start with the key that the one before it names, or names no new key.
    #[error("key statement `{at}` does not follow: it replaces key {found}, the key before it is {expected}")]
    Broken {
        /// Which statement, from 0.
        at: usize,
        /// The id of the key that it replaces.
        found: String,
        /// The id of the key in force.
        expected: String,
    },
    /// A statement takes effect before the one before it, or at once.
    #[error("key statement `{at}` takes effect at size `{first}`, not after `{previous}`")]
    Order {
        /// Which statement, from 0.
        at: usize,
        /// Its first size.
        first: u64,
        /// The first size of the statement before it.
        previous: u64,
    },
    /// The trusted key is none of the chain's.
    #[error("the trusted key {id} is not among the keys of this list")]
    Stranger {
        /// Its id.
        id: String,
    },
}

/// One change of a log's key, as the old key states it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotation {
    /// The first size that the new key signs, and the old one no longer.
    pub first: u64,
    /// The key in force until then; its name is the log's origin.
    pub old: VerifierKey,
    /// The key in force from then on; of the same name.
    pub new: VerifierKey,
}

impl Rotation {
    /// The text that the old key signs: five lines, each ended by a newline.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{HEADER}\n{}\n{}\n{}\n{}\n", self.old.name(), self.first, self.old, self.new)
    }

    /// Reads a signed statement and checks that the key which it replaces has signed it.
    ///
    /// # Errors
    /// [`ChainError`], naming what is wrong; `at` says which statement of a list it is.
    pub fn open(note: &str, at: usize) -> Result<Self, ChainError> {
        let note = Note::parse(note).map_err(|source| ChainError::Note { at, source })?;
        let shape = || ChainError::Shape { at };
        let lines: Vec<&str> = note.text().strip_suffix('\n').ok_or_else(shape)?.split('\n').collect();
        let [HEADER, origin, first, old, new] = lines.as_slice() else { return Err(shape()) };
        let first = parse_decimal(first).ok_or_else(shape)?;
        let key = |text: &str| VerifierKey::parse(text).map_err(|source| ChainError::Key { at, source });
        let rotation = Self { first, old: key(old)?, new: key(new)? };
        for name in [rotation.old.name(), rotation.new.name()] {
            if name != *origin {
                return Err(ChainError::Origin { at, found: shortened(name), expected: shortened(origin) });
            }
        }
        if rotation.old == rotation.new {
            let id = rotation.old.id_hex();
            return Err(ChainError::Broken { at, found: id.clone(), expected: id });
        }
        note.verify(&rotation.old).map_err(|source| ChainError::Note { at, source })?;
        Ok(rotation)
    }
}

/// One key and the first size that it signs.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Reign {
    first: u64,
    key: VerifierKey,
}

/// A trusted key and what follows from it: which key signs which size.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyChain {
    /// In order, never empty but by a defect; the first reigns from size 0.
    reigns: Vec<Reign>,
    /// The size from which on signatures follow from the trusted key.
    trusted_from: u64,
    trusted: VerifierKey,
    /// The statements, verbatim.
    notes: Vec<String>,
}

impl KeyChain {
    /// One key for every size.
    #[must_use]
    pub fn of(key: VerifierKey) -> Self {
        let reigns = vec![Reign { first: 0, key: key.clone() }];
        Self { reigns, trusted_from: 0, trusted: key, notes: Vec::new() }
    }

    /// Reads a `log.keys` file; `trusted` must be one of its keys. An empty file is a chain of the trusted key alone.
    ///
    /// # Errors
    /// [`ChainError`]: the first statement that does not hold.
    pub fn parse(trusted: VerifierKey, text: &str) -> Result<Self, ChainError> {
        if text.len() > MAX_KEYS_BYTES {
            return Err(ChainError::TooLarge);
        }
        let notes = split(text);
        let Some(first) = notes.first() else { return Ok(Self::of(trusted)) };
        let mut chain = Self::of(Rotation::open(first, 0)?.old);
        for note in &notes {
            chain.extend(note)?;
        }
        let reign = chain.reigns.iter().find(|reign| reign.key == trusted);
        let origin = chain.origin();
        if trusted.name() != origin {
            return Err(ChainError::Origin { at: 0, found: shortened(origin), expected: shortened(trusted.name()) });
        }
        let reign = reign.ok_or_else(|| ChainError::Stranger { id: trusted.id_hex() })?;
        Ok(Self { trusted_from: reign.first, trusted, ..chain.clone() })
    }

    /// Reads a `log.keys` file and trusts its first key: for whom the file itself comes from where keys come from.
    ///
    /// # Errors
    /// As [`KeyChain::parse`]; [`ChainError::Shape`] where it holds no statement.
    pub fn parse_trusted(text: &str) -> Result<Self, ChainError> {
        let first = split(text).first().map(|first| Rotation::open(first, 0)).ok_or(ChainError::Shape { at: 0 })??;
        Self::parse(first.old, text)
    }

    /// Adds a signed statement by the newest key.
    ///
    /// # Errors
    /// [`ChainError`] if it does not follow; then nothing was added.
    pub fn extend(&mut self, note: &str) -> Result<(), ChainError> {
        let at = self.notes.len();
        if at >= MAX_ROTATIONS {
            return Err(ChainError::TooLarge);
        }
        let rotation = Rotation::open(note, at)?;
        let previous = self.reigns.last().map_or(0, |reign| reign.first);
        if rotation.old != *self.newest() || self.reigns.iter().any(|reign| reign.key == rotation.new) {
            let (found, expected) = (rotation.old.id_hex(), self.newest().id_hex());
            return Err(ChainError::Broken { at, found, expected });
        }
        if rotation.first <= previous {
            return Err(ChainError::Order { at, first: rotation.first, previous });
        }
        self.reigns.push(Reign { first: rotation.first, key: rotation.new });
        self.notes.push(note.to_owned());
        Ok(())
    }

    /// The log's name.
    #[must_use]
    pub fn origin(&self) -> &str {
        self.trusted.name()
    }

    /// The key of the newest sizes.
    #[must_use]
    pub fn newest(&self) -> &VerifierKey {
        self.reigns.last().map_or(&self.trusted, |reign| &reign.key)
    }

    /// All keys, the oldest first, each with the first size that it signs.
    pub fn keys(&self) -> impl Iterator<Item = (u64, &VerifierKey)> {
        self.reigns.iter().map(|reign| (reign.first, &reign.key))
    }

    /// The key that signs trees of `size` records. It may be older than the trusted one: see [`KeyChain::trusts`].
    #[must_use]
    pub fn key_at(&self, size: u64) -> &VerifierKey {
        self.reigns.iter().rev().find(|reign| reign.first <= size).map_or(&self.trusted, |reign| &reign.key)
    }

    /// Whether the key of `size` is the trusted one or follows from it.
    #[must_use]
    pub fn trusts(&self, size: u64) -> bool {
        size >= self.trusted_from
    }

    /// How often the key was changed.
    #[must_use]
    pub fn rotations(&self) -> usize {
        self.notes.len()
    }

    /// The first size of the newest key.
    #[must_use]
    pub fn last_first(&self) -> u64 {
        self.reigns.last().map_or(0, |reign| reign.first)
    }

    /// The newest statement, verbatim.
    #[must_use]
    pub fn last_statement(&self) -> Option<&str> {
        self.notes.last().map(String::as_str)
    }

    /// Reads a checkpoint and checks it against the key of its size.
    ///
    /// # Errors
    /// [`CheckpointError`], naming what is wrong: a size before the trusted key's time, too.
    pub fn open(&self, note: &str) -> Result<Checkpoint, CheckpointError> {
        let checkpoint = self.open_covered(note)?;
        if !self.trusts(checkpoint.size) {
            let (size, first) = (checkpoint.size, self.trusted_from);
            return Err(CheckpointError::BeforeTrusted { size, first });
        }
        Ok(checkpoint)
    }

    /// As [`KeyChain::open`], for a reader who checks that a tree signed by a trusted key extends this one.
    ///
    /// # Errors
    /// [`CheckpointError`], naming what is wrong.
    pub fn open_covered(&self, note: &str) -> Result<Checkpoint, CheckpointError> {
        let parsed = Note::parse(note)?;
        let checkpoint = Checkpoint::parse(parsed.text());
        // What is no checkpoint has no size: the newest key then says first whether it is signed at all.
        let key = checkpoint.as_ref().map_or(self.newest(), |checkpoint| self.key_at(checkpoint.size));
        parsed.verify(key)?;
        let checkpoint = checkpoint?;
        if checkpoint.origin != key.name() {
            return Err(CheckpointError::Origin { found: checkpoint.origin, expected: key.name().to_owned() });
        }
        Ok(checkpoint)
    }
}

impl fmt::Display for KeyChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.notes.iter().enumerate().try_for_each(|(at, note)| {
            let gap = if at == 0 { "" } else { "\n" };
            write!(f, "{gap}{note}")
        })
    }
}

impl fmt::Debug for KeyChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyChain({}, {} rotations)", self.trusted, self.notes.len())
    }
}

/// Cuts a file into its notes: each starts with the header, which stands in no other line of one.
fn split(text: &str) -> Vec<String> {
    let mut notes: Vec<String> = Vec::new();
    for line in text.split_inclusive('\n') {
        match notes.last_mut() {
            Some(note) if line.trim_end_matches('\n') != HEADER => note.push_str(line),
            _ => notes.push(line.to_owned()),
        }
    }
    let last = notes.len().saturating_sub(1);
    for note in notes.iter_mut().take(last) {
        // The empty line between two statements is nobody's; a missing one is a broken list, found when it is parsed.
        if note.ends_with("\n\n") {
            note.pop();
        } else {
            note.push_str("no empty line follows");
        }
    }
    notes
}
