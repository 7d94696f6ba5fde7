//! The writer's part of a change of the log's key.
//!
//! The record that carries the statement is a batch of its own: the statement names the size after it, and that size is
//! known only here. Everything else that is committed waits for the new key to be in force. It must not know what the
//! record says besides the statement. What a crash leaves is completed or undone at the next opening (`keys`).

use std::sync::Arc;

use countersign_receipt::merkle::{TreeHead, leaf_hash};
use countersign_receipt::{Note, Rotation, VerifierKey};

use crate::append::Job;
use crate::error::{AppendError, SignError};
use crate::keys::{self, Begun, Unfinished};
use crate::shared::Confirmed;
use crate::tree::BatchTiles;
use crate::writer::{Stop, Writer, stop};

/// The largest leaf that carries a statement, in bytes.
pub(crate) const ROTATION_LEAF_BYTES: usize = 8 * 1024;

/// Makes a leaf from a signed statement.
pub(crate) trait MakeLeaf: FnOnce(&str) -> Vec<u8> + Send {}

impl<F: FnOnce(&str) -> Vec<u8> + Send> MakeLeaf for F {}

/// What a record that changes the key is made with.
pub(crate) struct Rotating {
    /// The key to put in force.
    pub(crate) key: VerifierKey,
    /// Makes the leaf from the signed statement.
    pub(crate) leaf: Box<dyn MakeLeaf>,
}

impl std::fmt::Debug for Rotating {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Rotating({})", self.key)
    }
}

/// A change whose record is durable and whose key is not in force yet.
pub(crate) struct Committed {
    begun: Begun,
    head: TreeHead,
    tiles: BatchTiles,
}

impl Writer {
    /// Has the old key state the new one and makes the leaf, if this batch changes the key. Nothing is written yet.
    pub(crate) fn state(&self, jobs: &mut [Job]) -> Result<Option<Begun>, Stop> {
        let [job] = jobs else { return Ok(None) };
        let Some(Rotating { key, leaf }) = job.rotating.take() else { return Ok(None) };
        let refused = |error| Stop::Refused(AppendError::Signer(error));
        let signer = &self.shared.signer;
        let old = self.shared.confirmed().keys.newest().clone();
        let rotation = Rotation { first: self.edge.size() + 2, old, new: key };
        let signature = signer.state(&rotation).map_err(refused)?;
        let note = Note::render(&rotation.text(), &rotation.old, &signature);
        let leaf = leaf(&note);
        if leaf.is_empty() || leaf.len() > ROTATION_LEAF_BYTES {
            self.abandon();
            let (found, limit) = (leaf.len(), ROTATION_LEAF_BYTES);
            return Err(Stop::Refused(AppendError::Size { what: "leaf", found, limit }));
        }
        job.leaf_hash = leaf_hash(&leaf);
        job.entry.leaf = leaf;
        Ok(Some(Begun { note, rotation, leaf: job.leaf_hash }))
    }

    /// Gives a statement up that was not written. If the signer does not hear of it, it finds out by itself.
    pub(crate) fn abandon(&self) {
        if let Err(error) = self.shared.signer.forget_next() {
            tracing::debug!(%error, "the signer was not told that the change of the key was given up");
        }
    }

    /// Notes the change durably before its leaf is written.
    pub(crate) fn begin(&self, begun: Option<&Begun>) -> Result<(), Stop> {
        let Some(begun) = begun else { return Ok(()) };
        let store = &self.shared.store;
        keys::begin(store, begun).map_err(|error| {
            self.abandon();
            stop("write", &store.rotation(), &error)
        })
    }

    /// The leaf is durable: from here on the change is completed, before anything else is signed.
    pub(crate) fn committed(&mut self, begun: Option<Begun>, head: TreeHead, tiles: &BatchTiles) {
        let Some(begun) = begun else { return };
        self.rotating = Some(Committed { begun, head, tiles: tiles.clone() });
        if let Err(Stop::Refused(error) | Stop::Failed(error)) = self.finish_rotation() {
            tracing::warn!(%error, "the new key is on record and not in force yet");
        }
    }

    /// Completes a change that is on record.
    pub(crate) fn finish_rotation(&mut self) -> Result<(), Stop> {
        let Some(Committed { begun, head, tiles }) = &self.rotating else { return Ok(()) };
        let shared = Arc::clone(&self.shared);
        let before = shared.confirmed();
        let mut chain = before.keys.as_ref().clone();
        let history = shared.history(tiles);
        let finished = keys::finish(&shared.store, &mut chain, begun, (shared.signer.as_ref(), head, &history));
        if chain != *before.keys {
            let Confirmed { head, note, edge, .. } = before.as_ref();
            let (head, note, edge) = (*head, Arc::clone(note), edge.clone());
            shared.state().confirmed = Arc::new(Confirmed { head, note, edge, keys: Arc::new(chain) });
        }
        match finished {
            Ok(()) => {
                self.rotating = None;
                Ok(())
            }
            Err(Unfinished::Signer(error)) => Err(Stop::Refused(AppendError::Signer(error))),
            // Before the statement is in `log.keys` nothing of the new key is known to anyone; after it, it is tried again.
            Err(Unfinished::Disk(error)) => Err(Stop::Refused(AppendError::Signer(SignError::Unavailable(format!(
                "the change of the key cannot be completed: {error}"
            ))))),
        }
    }
}
