//! Comparing what two parties saw of one log, and the evidence when the two cannot both be true.
//!
//! Two signed checkpoints of one size with two roots convict a log by themselves. For two sizes the log's tiles are asked
//! for the way from one to the other: either the published tree extends the older checkpoint, or its own tiles show
//! another root at that size, and the proof of that goes into the evidence. It must not fetch anything. It does not cover
//! which of two parties was lied to, nor, for a rollback, the order in which they looked: that is the caller's to know.

use serde::{Deserialize, Serialize};

use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::merkle::{self, Hash, HashReader, TreeHead, consistency_proof, verify_consistency};
use crate::note::{KeyError, VerifierKey};

#[cfg(test)]
mod tests;

/// The largest evidence that is read, in bytes.
pub const MAX_EVIDENCE_BYTES: usize = 1024 * 1024;

const VERSION: u32 = 1;
const MAX_PATH: usize = 126;

/// What a log did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Misbehaviour {
    /// It signed two histories.
    SplitView,
    /// It showed a smaller tree after a larger one.
    Rollback,
}

impl Misbehaviour {
    /// The word for people and machines.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SplitView => "split view",
            Self::Rollback => "rollback",
        }
    }
}

/// The proof that a log misbehaved: two checkpoints that it signed and, for two sizes, what its tiles say between them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// The log's key.
    pub key: VerifierKey,
    /// What they show.
    pub shows: Misbehaviour,
    /// One signed checkpoint, verbatim; of a rollback the one that was seen first.
    pub first: String,
    /// The other.
    pub second: String,
    /// For a split view with two sizes.
    pub fork: Option<Fork>,
}

/// The proof that the larger checkpoint's tree had another root at the smaller one's size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fork {
    /// That other root.
    pub root: Hash,
    /// The consistency proof from it to the larger checkpoint.
    pub path: Vec<Hash>,
}

/// Why evidence does not convict.
#[derive(Debug, thiserror::Error)]
pub enum EvidenceError {
    /// Not JSON of the right shape; unknown and repeated keys are refused.
    #[error("evidence is not well-formed: {0}")]
    Json(#[from] serde_json::Error),
    /// Too large, or a version that this program does not know.
    #[error(
        "evidence of `{bytes}` bytes and version `{version}` is not read: at most {MAX_EVIDENCE_BYTES} of version {VERSION}"
    )]
    Unread {
        /// Its size.
        bytes: usize,
        /// Its version.
        version: u32,
    },
    /// Its key is malformed.
    #[error("key of the evidence: {0}")]
    Key(#[from] KeyError),
    /// A checkpoint is not the log's.
    #[error("checkpoint of the evidence: {0}")]
    Checkpoint(#[from] CheckpointError),
    /// Everything is signed, and nothing contradicts.
    #[error("the two checkpoints do not show a {}: {why}", shows.as_str())]
    Unproven {
        /// What was claimed.
        shows: Misbehaviour,
        /// What is missing.
        why: String,
    },
}

/// What two checkpoints say by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compared {
    /// The same tree.
    Same,
    /// Two roots for one size.
    TwoRoots,
    /// Two sizes: the larger one's tiles must show the way.
    Sizes,
}

/// Compares two checkpoints of one log.
#[must_use]
pub fn compare(first: &TreeHead, second: &TreeHead) -> Compared {
    match (first.size == second.size, first.root == second.root) {
        (true, true) => Compared::Same,
        (true, false) => Compared::TwoRoots,
        (false, _) => Compared::Sizes,
    }
}

/// Whether tiles show that `new` extends `old`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Walked {
    /// They do.
    Extends,
    /// They show another root at the smaller size.
    Forks(Fork),
}

/// Why tiles show nothing.
#[derive(Debug, thiserror::Error)]
pub enum WalkError<E> {
    /// A tile could not be had.
    #[error("a tile could not be read")]
    Read(#[source] E),
    /// The tiles are not those of the checkpoint that they came with.
    #[error("the tiles do not lead to the signed root of `{size}` records: {why}")]
    Tiles {
        /// The checkpoint's size.
        size: u64,
        /// What does not hold.
        why: String,
    },
}

/// Walks the larger tree's tiles from `old` to `new`.
///
/// # Errors
/// [`WalkError`] if a tile is missing, or the tiles are not of `new` at all: then nothing is known.
pub fn walk<R: HashReader>(tiles: &R, old: &TreeHead, new: &TreeHead) -> Result<Walked, WalkError<R::Error>> {
    let failed = |error| match error {
        merkle::BuildError::Read(error) => WalkError::Read(error),
        merkle::BuildError::Impossible(why) => WalkError::Tiles { size: new.size, why: why.to_string() },
    };
    let root = merkle::root(tiles, old.size).map_err(failed)?;
    let path = consistency_proof(tiles, old.size, new.size).map_err(failed)?;
    let shown = TreeHead { size: old.size, root };
    verify_consistency(&shown, new, &path)
        .map_err(|error| WalkError::Tiles { size: new.size, why: error.to_string() })?;
    Ok(if root == old.root { Walked::Extends } else { Walked::Forks(Fork { root, path }) })
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    countersign_evidence: u32,
    shows: Misbehaviour,
    key: String,
    first: String,
    second: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fork: Option<WireFork>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireFork {
    root: String,
    path: Vec<String>,
}

impl Evidence {
    /// Reads the JSON form.
    ///
    /// # Errors
    /// [`EvidenceError`], naming the part that is wrong.
    pub fn parse(text: &str) -> Result<Self, EvidenceError> {
        if text.len() > MAX_EVIDENCE_BYTES {
            return Err(EvidenceError::Unread { bytes: text.len(), version: VERSION });
        }
        let wire: Wire = serde_json::from_str(text)?;
        if wire.countersign_evidence != VERSION {
            return Err(EvidenceError::Unread { bytes: text.len(), version: wire.countersign_evidence });
        }
        let unproven = |why: &str| EvidenceError::Unproven { shows: wire.shows, why: why.to_owned() };
        let hash = |text: &String| Hash::from_base64(text).ok_or_else(|| unproven("a hash of the fork is malformed"));
        let fork = match &wire.fork {
            None => None,
            Some(fork) if fork.path.len() > MAX_PATH => return Err(unproven("the path of the fork is too long")),
            Some(fork) => {
                let path = fork.path.iter().map(hash).collect::<Result<_, _>>()?;
                Some(Fork { root: hash(&fork.root)?, path })
            }
        };
        let key = VerifierKey::parse(&wire.key)?;
        Ok(Self { key, shows: wire.shows, first: wire.first, second: wire.second, fork })
    }

    /// The JSON form, for people to read and keep.
    ///
    /// # Errors
    /// [`EvidenceError::Json`] if the text cannot be written, which memory alone could cause.
    pub fn to_json(&self) -> Result<String, EvidenceError> {
        let fork = self.fork.as_ref().map(|fork| WireFork {
            root: fork.root.to_string(),
            path: fork.path.iter().map(ToString::to_string).collect(),
        });
        let wire = Wire {
            countersign_evidence: VERSION,
            shows: self.shows,
            key: self.key.to_string(),
            first: self.first.clone(),
            second: self.second.clone(),
            fork,
        };
        Ok(serde_json::to_string_pretty(&wire)? + "\n")
    }

    /// Checks that the log signed both checkpoints and that they show what is claimed. Of a rollback it proves that both
    /// were signed; that the larger came first is the word of who kept it.
    ///
    /// # Errors
    /// [`EvidenceError`], naming what does not hold.
    pub fn verify(&self) -> Result<Misbehaviour, EvidenceError> {
        let first = Checkpoint::open(&self.first, &self.key)?.head();
        let second = Checkpoint::open(&self.second, &self.key)?.head();
        let unproven = |why: &str| Err(EvidenceError::Unproven { shows: self.shows, why: why.to_owned() });
        match (self.shows, compare(&first, &second), &self.fork) {
            (Misbehaviour::SplitView, Compared::TwoRoots, None) => Ok(self.shows),
            (Misbehaviour::SplitView, Compared::Sizes, Some(fork)) => {
                let (old, new) = if first.size < second.size { (first, second) } else { (second, first) };
                let shown = TreeHead { size: old.size, root: fork.root };
                if fork.root == old.root {
                    return unproven("the fork has the root that it should have");
                }
                match verify_consistency(&shown, &new, &fork.path) {
                    Ok(()) => Ok(self.shows),
                    Err(error) => unproven(&error.to_string()),
                }
            }
            (Misbehaviour::Rollback, Compared::Sizes, None) if second.size < first.size => Ok(self.shows),
            _ => unproven("their sizes and roots do not contradict"),
        }
    }
}
