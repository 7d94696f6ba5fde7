//! What a witness decides: one submission and what it knows of the log, to an answer. C2SP tlog-witness 1.0.0.
//!
//! [`decide`] is a pure function; whoever calls it must hold what it knows still from the question until the answer is
//! durable, or two submissions can each look right. It must not know HTTP beyond the status codes that the specification
//! ties to the answers, nor sign or store. It does not cover what else a server refuses (methods, sizes, rates).

use crate::checkpoint::{Checkpoint, parse_decimal, shortened};
use crate::keys::KeyChain;
use crate::merkle::{Hash, TreeHead, empty_root, verify_consistency};
use crate::note::{MAX_NOTE_BYTES, Note, VerifierKey};

#[cfg(test)]
mod tests;

/// The most lines of a consistency proof.
pub const MAX_PATH: usize = 63;
/// The largest submission, in bytes.
pub const MAX_SUBMISSION_BYTES: usize = MAX_NOTE_BYTES + 4096;
/// The media type of a 409's body.
pub const SIZE_MEDIA_TYPE: &str = "text/x.tlog.size";

/// A submission that was read: `old` line, proof, checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submission {
    old: u64,
    path: Vec<Hash>,
    note: Note,
    checkpoint: Checkpoint,
}

/// A key of a log that a witness watches, and which sizes it may sign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogKey {
    /// The key; its name is the log's origin.
    pub key: VerifierKey,
    /// The first size that it signs.
    pub from: u64,
    /// The first size that it signs no longer, where that is known.
    pub until: Option<u64>,
}

/// What a witness cosigned last for one log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// The tree.
    pub head: TreeHead,
    /// The log's key that had signed it.
    pub signer: VerifierKey,
}

/// A checkpoint that may be cosigned once it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// The log's key that signed it.
    pub signer: VerifierKey,
    /// What it says.
    pub checkpoint: Checkpoint,
    /// The text to cosign.
    pub text: String,
    /// The text with the log's own signature, and no line of anybody else: what is kept.
    pub note: String,
}

/// Why a submission is not cosigned. Each is one status of the specification.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// 400: not a submission.
    #[error("submission is malformed: {0}")]
    Malformed(String),
    /// 404: nobody told this witness to watch this log.
    #[error("log `{origin}` is not one that this witness knows")]
    UnknownLog {
        /// The origin line.
        origin: String,
    },
    /// 403: no trusted key of the log signed the checkpoint.
    #[error("checkpoint is not signed by a known key of `{origin}`")]
    NotSigned {
        /// The origin line.
        origin: String,
    },
    /// 403: it is signed by a key of the log whose time is over, or has not come.
    #[error("key {id} of `{origin}` signs no tree of `{size}` records any more, or not yet")]
    NotInForce {
        /// The origin line.
        origin: String,
        /// The key's id.
        id: String,
        /// The size submitted.
        size: u64,
    },
    /// 409: the proof starts at another size than the one that was cosigned last.
    #[error("the last size cosigned here is `{known}`, the proof starts at `{old}`")]
    Conflict {
        /// What was cosigned last; zero for nothing.
        known: u64,
        /// Where the proof starts.
        old: u64,
    },
    /// 409: a second root for the size that was cosigned last. The log is forked.
    #[error("a second root for size `{known}`: `{found}`, and `{cosigned}` was cosigned")]
    SecondRoot {
        /// The size.
        known: u64,
        /// The root submitted.
        found: Hash,
        /// The root that was cosigned.
        cosigned: Hash,
    },
    /// 422: the proof does not lead from what was cosigned to this checkpoint.
    #[error("consistency proof does not hold: {0}")]
    Inconsistent(String),
}

impl Refusal {
    /// The HTTP status that the specification names.
    #[must_use]
    pub const fn status(&self) -> u16 {
        match self {
            Self::Malformed(_) => 400,
            Self::NotSigned { .. } | Self::NotInForce { .. } => 403,
            Self::UnknownLog { .. } => 404,
            Self::Conflict { .. } | Self::SecondRoot { .. } => 409,
            Self::Inconsistent(_) => 422,
        }
    }

    /// The size that a 409 carries.
    #[must_use]
    pub const fn known_size(&self) -> Option<u64> {
        match self {
            Self::Conflict { known, .. } | Self::SecondRoot { known, .. } => Some(*known),
            _ => None,
        }
    }

    /// Whether the log signed something that an honest log never signs: worth keeping as evidence.
    #[must_use]
    pub const fn is_misbehaviour(&self) -> bool {
        matches!(self, Self::SecondRoot { .. })
    }
}

impl Submission {
    /// Reads a request body.
    ///
    /// # Errors
    /// [`Refusal::Malformed`], naming the line.
    pub fn parse(body: &[u8]) -> Result<Self, Refusal> {
        let malformed = |why: String| Refusal::Malformed(why);
        if body.len() > MAX_SUBMISSION_BYTES {
            return Err(malformed(format!("{} bytes are more than {MAX_SUBMISSION_BYTES}", body.len())));
        }
        let text = std::str::from_utf8(body).map_err(|_| malformed("it is not UTF-8".to_owned()))?;
        let (head, note) = text.split_once("\n\n").ok_or_else(|| malformed("it has no empty line".to_owned()))?;
        let mut lines = head.split('\n');
        let first = lines.next().unwrap_or_default();
        let old = first.strip_prefix("old ").and_then(parse_decimal);
        let old = old.ok_or_else(|| malformed(format!("line `{}` is not `old <number>`", shortened(first))))?;
        let mut path = Vec::new();
        for line in lines {
            if path.len() == MAX_PATH {
                return Err(malformed(format!("the proof has more than {MAX_PATH} lines")));
            }
            let hash = Hash::from_base64(line);
            path.push(hash.ok_or_else(|| malformed(format!("line `{}` is not a hash in base64", shortened(line))))?);
        }
        let note = Note::parse(note).map_err(|error| malformed(error.to_string()))?;
        let (checkpoint, _) = Checkpoint::parse_extended(note.text()).map_err(|error| malformed(error.to_string()))?;
        Ok(Self { old, path, note, checkpoint })
    }

    /// The checkpoint with `key`'s signature alone; `None` where `key` did not sign it.
    #[must_use]
    pub fn signed_by(&self, key: &VerifierKey) -> Option<String> {
        self.note.only(key).ok()
    }

    /// The log's origin: what the witness looks up before it decides.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.checkpoint.origin
    }
}

/// The body of a request: proof `path` from `old` to the signed checkpoint `note`.
#[must_use]
pub fn submission(old: u64, path: &[Hash], note: &str) -> String {
    let path: String = path.iter().map(|hash| format!("{hash}\n")).collect();
    format!("old {old}\n{path}\n{note}")
}

impl LogKey {
    /// A key of which nothing more is known than that the log has or had it.
    #[must_use]
    pub const fn new(key: VerifierKey) -> Self {
        Self { key, from: 0, until: None }
    }

    /// The keys of a log's list, the oldest first, each with the sizes that it signs.
    #[must_use]
    pub fn of_chain(chain: &KeyChain) -> Vec<Self> {
        let firsts: Vec<_> = chain.keys().collect();
        let untils = firsts.iter().skip(1).map(|(first, _)| Some(*first)).chain([None]);
        firsts.iter().zip(untils).map(|((from, key), until)| Self { key: (*key).clone(), from: *from, until }).collect()
    }

    fn signs(&self, size: u64) -> bool {
        self.from <= size && self.until.is_none_or(|until| size < until)
    }
}

/// Decides on a submission. `keys` are all keys of all logs, those of one log the oldest first; those named as the origin
/// count. `known` is what was cosigned last for this origin.
///
/// A log never goes back to an older key: once a tree under a newer one was cosigned, who has the older one, its thief
/// above all, gets nothing any more. That is asked last, so that a log that was set back or forked is told so.
///
/// # Errors
/// [`Refusal`], with its status.
pub fn decide(submission: &Submission, keys: &[LogKey], known: Option<&Known>) -> Result<Accepted, Refusal> {
    let Submission { old, path, note, checkpoint } = submission;
    let origin = || checkpoint.origin.clone();
    let trusted: Vec<_> = keys.iter().filter(|key| key.key.name() == checkpoint.origin).collect();
    if trusted.is_empty() {
        return Err(Refusal::UnknownLog { origin: shortened(&checkpoint.origin) });
    }
    // The newest, where several signed.
    let at = trusted.iter().rposition(|key| note.verify(&key.key).is_ok());
    let (at, signer) =
        at.and_then(|at| Some((at, *trusted.get(at)?))).ok_or_else(|| Refusal::NotSigned { origin: origin() })?;
    let new = checkpoint.head();
    extends(known.map(|known| &known.head), *old, &new, path)?;
    let position = |signer: &VerifierKey| trusted.iter().rposition(|key| key.key == *signer);
    let is_newest = known.is_none_or(|known| position(&known.signer).is_some_and(|last| last <= at));
    if !is_newest || !signer.signs(new.size) {
        return Err(Refusal::NotInForce { origin: origin(), id: signer.key.id_hex(), size: new.size });
    }
    let kept = note.only(&signer.key).map_err(|_| Refusal::NotSigned { origin: origin() })?;
    let signer = signer.key.clone();
    Ok(Accepted { signer, checkpoint: checkpoint.clone(), text: note.text().to_owned(), note: kept })
}

/// Whether `new` extends what was cosigned last, as the proof from `old` says.
fn extends(known: Option<&TreeHead>, old: u64, new: &TreeHead, path: &[Hash]) -> Result<(), Refusal> {
    if old > new.size {
        return Err(Refusal::Malformed(format!("the proof starts at `{old}`, the checkpoint has only `{}`", new.size)));
    }
    let empty = TreeHead { size: 0, root: empty_root() };
    let last = known.unwrap_or(&empty);
    if old != last.size {
        return Err(Refusal::Conflict { known: last.size, old });
    }
    if new.size == last.size && new.root != last.root && (known.is_some() || new.size > 0) {
        return Err(Refusal::SecondRoot { known: last.size, found: new.root, cosigned: last.root });
    }
    if new.size == 0 && new.root != empty.root {
        return Err(Refusal::Inconsistent("an empty log has another root".to_owned()));
    }
    verify_consistency(last, new, path).map_err(|error| Refusal::Inconsistent(error.to_string()))
}
