//! What can go wrong, in the words of the person who has to act on it.
//!
//! It must not know how a failure is shown. It does not cover proofs that do not verify (`receipt` names those).

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use countersign_receipt::{ChainError, CheckpointError, Hash, KeyError};

/// Why a record was not committed. Whatever is not a [`crate::Committed`] must be treated as not having happened,
/// except [`AppendError::Failed`], after which the record may or may not be found at the next start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// Too many records wait, too many actions are open, or publication is too far behind. Nothing was written.
    #[error("ledger is overloaded: {what} is full at `{limit}`")]
    Overloaded {
        /// Which bound was met.
        what: &'static str,
        /// The bound.
        limit: u64,
    },
    /// No space could be set aside. Nothing was written; service returns by itself when there is space.
    #[error("no space left for `{}`", path.display())]
    DiskFull {
        /// The file that could not grow.
        path: PathBuf,
    },
    /// The file system takes no writes. Nothing was written whole; service returns by itself when it does again.
    #[error("`{}` cannot be written: its file system is read-only", path.display())]
    ReadOnly {
        /// The file.
        path: PathBuf,
    },
    /// The record is empty or larger than its bound.
    #[error("{what} of `{found}` bytes is not within 1 to {limit}")]
    Size {
        /// Which part.
        what: &'static str,
        /// Its size.
        found: usize,
        /// The bound.
        limit: usize,
    },
    /// The signer did not sign. Nothing was written.
    #[error("checkpoint was not signed: {0}")]
    Signer(SignError),
    /// A write or sync failed. The ledger takes nothing more until it is opened anew.
    #[error("ledger stopped: {operation} of `{}` failed: {reason}", path.display())]
    Failed {
        /// What failed.
        operation: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the operating system said.
        reason: String,
    },
    /// The ledger was closed before the record was written.
    #[error("ledger is closed")]
    Closed,
    /// The record is durable but its proof could not be built: a defect of this program.
    #[error("record `{index}` is durable, but its proof could not be built")]
    Unproved {
        /// The record's index.
        index: u64,
    },
}

/// Why a signer refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// The tree is smaller than one that was confirmed.
    #[error("size `{asked}` is below confirmed size `{confirmed}`")]
    Smaller {
        /// The size to sign.
        asked: u64,
        /// The confirmed size.
        confirmed: u64,
    },
    /// Another root was confirmed for this size.
    #[error("size `{size}` was confirmed with root `{confirmed}`, not `{asked}`")]
    SecondRoot {
        /// The size.
        size: u64,
        /// The root to sign.
        asked: Hash,
        /// The confirmed root.
        confirmed: Hash,
    },
    /// The checkpoint is of another log.
    #[error("checkpoint is of log `{found}`, not `{expected}`")]
    Origin {
        /// The checkpoint's origin.
        found: String,
        /// The signer's log.
        expected: String,
    },
    /// The tree was not shown to extend the confirmed one.
    #[error("tree of `{asked}` records is not shown to extend the confirmed one of `{confirmed}`")]
    Forked {
        /// The size to sign.
        asked: u64,
        /// The confirmed size.
        confirmed: u64,
    },
    /// The change of the key does not follow.
    #[error("key is not changed: {0}")]
    Rotation(String),
    /// The key could not be used, or the signer not be reached.
    #[error("signer failed: {0}")]
    Unavailable(String),
}

/// Why a frame could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameFault {
    /// The bytes do not start with a frame's magic.
    #[error("no frame starts here")]
    Magic,
    /// The length field is impossible, or points beyond the end of the file.
    #[error("frame length `{0}` is impossible")]
    Length(u32),
    /// The checksum is wrong.
    #[error("checksum is wrong")]
    Checksum,
    /// The checksum is right, but the contents contradict each other.
    #[error("frame contradicts itself: {0}")]
    Shape(&'static str),
    /// The frame is not the one that comes next.
    #[error("frame starts at record `{found}`, expected `{expected}`")]
    Index {
        /// The index that should come next.
        expected: u64,
        /// The frame's.
        found: u64,
    },
    /// The frame's checkpoint is malformed or not signed by the log.
    #[error("checkpoint: {0}")]
    Checkpoint(CheckpointError),
    /// The records do not lead to the checkpoint's root.
    #[error("records lead to root `{found}`, the checkpoint says `{signed}`")]
    Root {
        /// Computed.
        found: Hash,
        /// Signed.
        signed: Hash,
    },
    /// The checkpoint is of another size than the tree after the frame.
    #[error("checkpoint is of size `{signed}`, the tree has `{found}`")]
    Size {
        /// Computed.
        found: u64,
        /// Signed.
        signed: u64,
    },
}

/// Why a ledger could not be created or opened. Every refusal names a remedy.
#[derive(Debug, Clone, thiserror::Error)]
pub enum OpenError {
    /// There is one already.
    #[error("`{}` already holds a ledger: open it, or choose an empty directory", dir.display())]
    Exists {
        /// The directory.
        dir: PathBuf,
    },
    /// There is none.
    #[error("`{}` holds no ledger (`{missing}` is missing): create one, or restore the file", dir.display())]
    NotALedger {
        /// The directory.
        dir: PathBuf,
        /// The missing file.
        missing: &'static str,
    },
    /// Another process has it open.
    #[error("ledger `{}` is in use by another process: stop that process first", dir.display())]
    InUse {
        /// The directory.
        dir: PathBuf,
    },
    /// The disk said no.
    #[error("{operation} of `{}` failed: {source}", path.display())]
    Io {
        /// What failed.
        operation: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the operating system said.
        source: Arc<io::Error>,
    },
    /// The private key is not usable or not that of `log.vkey`.
    #[error("key `{}` is not usable: {reason}: restore it from a backup", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The verifier key is malformed.
    #[error("verifier key: {0}")]
    VerifierKey(#[from] KeyError),
    /// The vault's key file cannot be used.
    #[error("key file of the vault `{}`: {reason}: restore its newest copy; without it no payload can be read or sealed",
            path.display())]
    Vault {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: &'static str,
    },
    /// The confirmed mark is gone or unreadable while there are records.
    #[error("confirmed mark `{}` is {state}: without it a rollback cannot be told from a fresh log: restore it from a \
             backup, or compare the log with receipts or a witness and then recreate the mark", path.display())]
    Mark {
        /// The file.
        path: PathBuf,
        /// `missing` or `damaged`.
        state: &'static str,
    },
    /// A record that was confirmed cannot be read.
    #[error("segment `{}` is damaged at byte {offset}, record `{index}` (confirmed up to {confirmed}): {fault}: \
             restore this segment from a backup or a replica; nothing was cut", path.display())]
    Corrupt {
        /// The segment.
        path: PathBuf,
        /// The byte offset of the frame.
        offset: u64,
        /// The first record that cannot be read.
        index: u64,
        /// How many records are known to have been confirmed.
        confirmed: u64,
        /// What is wrong.
        fault: FrameFault,
    },
    /// The log is pruned, and what it begins with does not hold.
    #[error("the log is kept from record `{minimum}` on, and its base `{}` does not hold: {reason}: restore base and \
             segments from one backup; nothing was changed", path.display())]
    Base {
        /// The file.
        path: PathBuf,
        /// The first record for which there is a segment, or at which the base says that the log begins.
        minimum: u64,
        /// What is wrong.
        reason: String,
    },
    /// The log is smaller than something that has seen it, or different.
    #[error(
        "log of `{found}` records was rolled back or replaced: {witness} has seen `{seen}` records: restore the \
             newest copy of the ledger; if records are really lost, start a new ledger and keep this one as evidence"
    )]
    Rollback {
        /// What the log has.
        found: u64,
        /// Which file knows better.
        witness: &'static str,
        /// What it has seen.
        seen: u64,
    },
    /// The published checkpoint cannot be read.
    #[error("published checkpoint `{}` is not valid: {source}: restore it, or find out who changed it", path.display())]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: CheckpointError,
    },
    /// The list of the log's keys does not hold.
    #[error("list of keys `{}` is not valid: {source}: restore it from a backup or from `public/log.keys`", path.display())]
    Keys {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: ChainError,
    },
    /// A signer's high-water is gone or unreadable.
    #[error("high-water `{}` is {state}: without it the signer could be made to sign a fork: restore it from a backup \
             that is not older than the log", path.display())]
    HighWater {
        /// The file.
        path: PathBuf,
        /// `missing` or `damaged`.
        state: &'static str,
    },
    /// The signer is away, or refuses this log.
    #[error("the log cannot be signed: {0}: see to the signer, then start again")]
    Signer(String),
    /// The one who rebuilds its state from the records gave up.
    #[error("record `{index}` was not accepted: {reason}")]
    Visitor {
        /// The record.
        index: u64,
        /// Why.
        reason: String,
    },
}

impl OpenError {
    pub(crate) fn io(operation: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { operation, path, source: Arc::new(source) }
    }
}

/// Why a witness does not start, or cannot keep what it would vouch for.
#[derive(Debug, Clone, thiserror::Error)]
pub enum WitnessError {
    /// Another process serves it.
    #[error("witness `{}` is in use by another process: stop that process first", dir.display())]
    InUse {
        /// The directory.
        dir: PathBuf,
    },
    /// The disk said no.
    #[error("{operation} of `{}` failed: {source}", path.display())]
    Io {
        /// What failed.
        operation: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the operating system said.
        source: Arc<io::Error>,
    },
    /// The private key is not usable.
    #[error("key `{}` is not usable: {reason}: restore it, or begin a new witness in an empty directory", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The name cannot be a key's.
    #[error("name of the witness: {0}")]
    Name(#[from] KeyError),
    /// A file of its own is not as this witness left it.
    #[error("`{}` was altered: {reason}: find out who did it; a witness that cannot trust its state must not cosign", path.display())]
    Altered {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A key was given twice.
    #[error("key {id} of `{origin}` is given twice: give each once, the oldest first, or the log's `log.keys` alone")]
    Twice {
        /// The log.
        origin: String,
        /// The key's id.
        id: String,
    },
    /// The key that signed what was cosigned last is not given, so nobody knows which keys are older.
    #[error(
        "`{}`: none of the keys given for `{origin}` signed the newest tree that was cosigned: give that key too, before \
         those that followed it, or the log's `log.keys`", path.display()
    )]
    Signer {
        /// The state.
        path: PathBuf,
        /// The log.
        origin: String,
    },
    /// Its own state was set back.
    #[error(
        "this witness was rolled back: `{}` knows {seen} records, its state only {found}: restore the newest state; if it \
         is lost, begin a new witness, with a new key, in an empty directory", path.display()
    )]
    Rollback {
        /// The mark that knows better.
        path: PathBuf,
        /// What it knows.
        seen: u64,
        /// What the state knows.
        found: u64,
    },
}

impl WitnessError {
    pub(crate) fn io(operation: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { operation, path, source: Arc::new(source) }
    }

    pub(crate) fn altered(path: PathBuf, reason: String) -> Self {
        Self::Altered { path, reason }
    }
}
