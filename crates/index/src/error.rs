//! What can go wrong, in the words of the person who has to act on it.
//!
//! It must not know how a failure is shown.

use std::path::PathBuf;

use countersign_model::DecodeError;

/// Why the index could not be opened, fed or asked.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// SQLite said no.
    #[error("index: {0}; the index can be removed and is then made again from the log")]
    Sqlite(#[from] rusqlite::Error),
    /// The file could not be made.
    #[error("index `{}` cannot be made: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A file of it could not be removed.
    #[error("index `{}` cannot be removed: {source}; remove it by hand", path.display())]
    Remove {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// There is no index yet, or it is of another version of Countersign.
    #[error("there is no index of this version at `{}` yet; the running gateway makes it", path.display())]
    Absent {
        /// The file.
        path: PathBuf,
    },
    /// A leaf is no record.
    #[error("record `{leaf}`: {source}; check the log with `countersign log verify`")]
    Record {
        /// Its index in the log.
        leaf: u64,
        /// Why.
        source: DecodeError,
    },
    /// A leaf came out of order.
    #[error("the index covers {covered} records and was given record `{leaf}`")]
    Hole {
        /// How many records the index covers.
        covered: u64,
        /// What it was given.
        leaf: u64,
    },
    /// Time went back from one record to the next.
    #[error("record `{leaf}` is older than the one before it; check the log with `countersign log verify`")]
    Time {
        /// Its index in the log.
        leaf: u64,
    },
    /// The index contradicts itself.
    #[error("the index is damaged ({what}); remove it, and it is made again from the log")]
    Damaged {
        /// What is wrong.
        what: &'static str,
    },
    /// Text was asked for, and none is kept.
    #[error("arguments are not indexed; set `index: {{ full_text: true }}` in the configuration to search them")]
    NoText,
}
