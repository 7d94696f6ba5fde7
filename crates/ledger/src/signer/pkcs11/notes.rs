//! `token.keys`: which key of the token is in force, which one may come next, and which one is to be destroyed.
//!
//! One file, replaced whole, so that each step of a change is done or not done. What identifies a key is its public part;
//! the next one is known by its identifier alone until it is made. It must not know the token.

use std::fmt;
use std::io;

use countersign_receipt::VerifierKey;

use crate::disk::{Access, read_file, replace_file};
use crate::store::Store;

/// The first line: without it the file is a stub of one.
const HEADER: &str = "countersign keys in a token, 1";
/// More than three lines with the longest names.
const NOTES_BYTES_MAX: u64 = 8192;

/// `CKA_ID` of a key: random, so that it is never another key's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct KeyId([u8; 16]);

impl KeyId {
    pub(super) fn random() -> Result<Self, aws_lc_rs::error::Unspecified> {
        let mut bytes = [0; 16];
        aws_lc_rs::rand::fill(&mut bytes)?;
        Ok(Self(bytes))
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    fn parse(text: &str) -> Option<Self> {
        let is_plain = text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let value = u128::from_str_radix(text, 16).ok().filter(|_| is_plain)?;
        Some(Self(value.to_be_bytes()))
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

/// What is known of the keys in the token.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Notes {
    /// The key in force; `log.key` is, if there is none.
    pub(super) in_force: Option<VerifierKey>,
    /// The key that may come next. It may not be made yet, or only half of it.
    pub(super) next: Option<KeyId>,
    /// A key that was in force. It may be destroyed already.
    pub(super) retired: Option<VerifierKey>,
}

impl Notes {
    /// What is noted; nothing if there is no file.
    pub(super) fn read(store: &Store) -> io::Result<Self> {
        let bytes = match read_file(store.disk(), &store.token_notes(), NOTES_BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(error),
        };
        Self::parse(&String::from_utf8_lossy(&bytes))
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not a list of keys"))
    }

    /// Replaces the file, durably.
    pub(super) fn write(&self, store: &Store) -> io::Result<()> {
        replace_file(store.disk(), &store.token_notes(), self.to_string().as_bytes(), Access::Private)?;
        store.disk().sync_dir(store.dir())
    }

    fn parse(text: &str) -> Option<Self> {
        let mut notes = Self::default();
        for line in text.strip_prefix(HEADER)?.strip_prefix('\n')?.split_inclusive('\n') {
            let line = line.strip_suffix('\n')?;
            let (word, rest) = line.split_once(' ')?;
            let is_new = match word {
                "in-force" => notes.in_force.replace(VerifierKey::parse(rest).ok()?).is_none(),
                "next" => notes.next.replace(KeyId::parse(rest)?).is_none(),
                "retired" => notes.retired.replace(VerifierKey::parse(rest).ok()?).is_none(),
                _ => false,
            };
            if !is_new {
                return None;
            }
        }
        let is_sane = notes.retired.is_none() || notes.in_force.is_some() && notes.retired != notes.in_force;
        is_sane.then_some(notes)
    }
}

impl fmt::Display for Notes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{HEADER}")?;
        if let Some(key) = &self.in_force {
            writeln!(f, "in-force {key}")?;
        }
        if let Some(id) = &self.next {
            writeln!(f, "next {id}")?;
        }
        match &self.retired {
            Some(key) => writeln!(f, "retired {key}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
