//! What a witness decides: one submission and what it knows of the log, to an answer. C2SP tlog-witness 1.0.0.
//!
//! [`decide`] is a pure function; whoever calls it must hold what it knows still from the question until the answer is
//! durable, or two submissions can each look right. It must not know HTTP beyond the status codes that the specification
//! ties to the answers, nor sign or store. It does not cover what else a server refuses (methods, sizes, rates).

use crate::checkpoint::{Checkpoint, parse_decimal, shortened};
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

/// A checkpoint that may be cosigned once it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
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
            Self::NotSigned { .. } => 403,
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

/// Decides on a submission. `keys` are all trusted keys; those named as the origin count. `known` is what was cosigned
/// last for this origin.
///
/// # Errors
/// [`Refusal`], with its status.
pub fn decide(submission: &Submission, keys: &[VerifierKey], known: Option<&TreeHead>) -> Result<Accepted, Refusal> {
    let Submission { old, path, note, checkpoint } = submission;
    let origin = || checkpoint.origin.clone();
    let mut trusted = keys.iter().filter(|key| key.name() == checkpoint.origin).peekable();
    if trusted.peek().is_none() {
        return Err(Refusal::UnknownLog { origin: shortened(&checkpoint.origin) });
    }
    let signer = trusted.find(|key| note.verify(key).is_ok()).ok_or_else(|| Refusal::NotSigned { origin: origin() })?;
    let new = checkpoint.head();
    if *old > new.size {
        return Err(Refusal::Malformed(format!("the proof starts at `{old}`, the checkpoint has only `{}`", new.size)));
    }
    let empty = TreeHead { size: 0, root: empty_root() };
    let last = known.unwrap_or(&empty);
    if *old != last.size {
        return Err(Refusal::Conflict { known: last.size, old: *old });
    }
    if new.size == last.size && new.root != last.root && (known.is_some() || new.size > 0) {
        return Err(Refusal::SecondRoot { known: last.size, found: new.root, cosigned: last.root });
    }
    if new.size == 0 && new.root != empty.root {
        return Err(Refusal::Inconsistent("an empty log has another root".to_owned()));
    }
    verify_consistency(last, &new, path).map_err(|error| Refusal::Inconsistent(error.to_string()))?;
    let kept = note.only(signer).map_err(|_| Refusal::NotSigned { origin: origin() })?;
    Ok(Accepted { checkpoint: checkpoint.clone(), text: note.text().to_owned(), note: kept })
}
