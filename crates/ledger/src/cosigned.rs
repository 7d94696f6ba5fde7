//! The newest checkpoint that a witness cosigned: kept, published beside the newest, and used for proofs.
//!
//! Cosignatures come later than what they are about, so the newest checkpoint mostly has none; `public/checkpoint` carries
//! them as soon as it is the one that they are about, and `public/checkpoint.witnessed` always does. Losing the file loses
//! no promise: witnesses remember. It must not know who witnesses are: whoever hands a line in has checked it.

use std::sync::Arc;

use countersign_receipt::merkle::{TreeHead, inclusion_proof, verify_inclusion};
use countersign_receipt::{Checkpoint, HashReader as _, Note, TlogProof, VerifierKey};

use crate::Ledger;
use crate::disk::read_file;
use crate::read::{LogHashes, ReadError, build_error};
use crate::shared::Shared;
use crate::store::Store;

/// A checkpoint of the log with at least one cosignature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cosigned {
    /// Its size and root.
    pub head: TreeHead,
    /// The log's signature and the cosignatures, newest of each witness.
    pub note: Arc<str>,
}

impl Cosigned {
    /// Reads what an earlier process kept. Whatever is wrong with it, there is none then: it is a convenience.
    pub(crate) fn load(store: &Store, key: &VerifierKey) -> Option<Arc<Self>> {
        let limit = countersign_receipt::note::MAX_NOTE_BYTES as u64;
        let bytes = read_file(store.disk(), &store.witnessed(), limit).ok()?;
        let text = String::from_utf8(bytes).ok()?;
        let head = Checkpoint::open(&text, key).ok()?.head();
        Some(Arc::new(Self { head, note: text.into() }))
    }
}

/// The note with one more line. A line with the same beginning up to the signature is of the same key: it is replaced.
fn with_line(note: &str, line: &str) -> String {
    let is_same = |other: &str| key_of(other).is_some() && key_of(other) == key_of(line);
    let Some((text, lines)) = note.rsplit_once("\n\n") else {
        return format!("{note}{line}");
    };
    let kept: String = lines.split_inclusive('\n').filter(|other| !is_same(other)).collect();
    format!("{text}\n\n{kept}{line}")
}

/// Name and the base64 of the key's id: 4 bytes are 5 characters and a bit, so 5 of them.
fn key_of(line: &str) -> Option<(&str, &str)> {
    let (name, data) = line.strip_prefix("— ")?.split_once(' ')?;
    Some((name, data.get(..5)?))
}

impl Ledger {
    /// The newest checkpoint that carries cosignatures.
    #[must_use]
    pub fn cosigned(&self) -> Option<Arc<Cosigned>> {
        self.shared.state().cosigned.clone()
    }

    /// Keeps a cosignature over `checkpoint`, one of this log's own: a signature line that the caller has checked.
    ///
    /// An older checkpoint than the newest cosigned one is not kept. Publication follows in the background.
    pub fn keep_cosignature(&self, checkpoint: &str, line: &str) {
        let Ok(checkpoint_head) = Checkpoint::open(checkpoint, &self.verifier_key()).map(|found| found.head()) else {
            return;
        };
        let mut state = self.shared.state();
        let note = match &state.cosigned {
            Some(known) if known.head.size > checkpoint_head.size => return,
            Some(known) if known.head == checkpoint_head => with_line(&known.note, line),
            _ => with_line(checkpoint, line),
        };
        if Note::parse(&note).is_err() {
            return;
        }
        state.cosigned = Some(Arc::new(Cosigned { head: checkpoint_head, note: note.into() }));
        drop(state);
        self.shared.news.notify_one();
    }

    /// Proves a record under the newest cosigned checkpoint; `None` where that does not cover it yet.
    ///
    /// # Errors
    /// [`ReadError`] if stored hashes are damaged or do not lead to the cosigned root.
    pub fn prove_cosigned(&self, index: u64) -> Result<Option<TlogProof>, ReadError> {
        match self.cosigned().filter(|cosigned| cosigned.head.size > index) {
            Some(cosigned) => self.shared.prove_under(index, &cosigned).map(Some),
            None => Ok(None),
        }
    }
}

impl Shared {
    fn prove_under(&self, index: u64, cosigned: &Cosigned) -> Result<TlogProof, ReadError> {
        let confirmed = self.confirmed();
        let TreeHead { size, root } = cosigned.head;
        if size > confirmed.head.size {
            return Err(ReadError::OutOfRange { index: size, size: confirmed.head.size });
        }
        let hashes = LogHashes { shared: self, confirmed: &confirmed };
        let path = inclusion_proof(&hashes, index, size).map_err(build_error)?;
        let leaf = hashes.hash(0, index)?;
        verify_inclusion(&leaf, index, size, &path, &root).map_err(ReadError::Tiles)?;
        Ok(TlogProof { extra: None, index, path, checkpoint: cosigned.note.to_string() })
    }
}
