//! Start-up's part of a change of the log's key: what a crash left is completed or undone, and the signer takes up the
//! log. It must not know how a change is begun (`rotate`).

use std::sync::Arc;

use countersign_receipt::merkle::{TreeHead, leaf_hash};
use countersign_receipt::{KeyChain, VerifierKey};

use crate::error::{OpenError, SignError};
use crate::keys::{self, Begun, Unfinished};
use crate::read::ReadError;
use crate::shared::{Confirmed, Shared};
use crate::store::Store;
use crate::tree::BatchTiles;

/// A change that was begun, if one was.
pub(crate) struct Change(Option<Begun>);

impl Change {
    pub(crate) fn of(store: &Store) -> Result<Self, OpenError> {
        Ok(Self(keys::begun(store)?))
    }

    /// Whether a change was begun: then it is not known yet which key is to be in force.
    pub(crate) fn is_begun(&self) -> bool {
        self.0.is_some()
    }

    /// Refuses a log that ends before its last key came into force: the list of keys has seen more.
    pub(crate) fn judge(&self, keys: &KeyChain, head: &TreeHead) -> Result<(), OpenError> {
        let last = keys.last_first().saturating_sub(1);
        if head.size < last {
            return Err(OpenError::Rollback { found: head.size, witness: "the list of keys", seen: last });
        }
        Ok(())
    }

    /// Settles the change and has the signer go on from the tree that was found.
    pub(crate) fn settle(self, shared: &Shared) -> Result<(), OpenError> {
        let before = shared.confirmed();
        let tiles = BatchTiles::of(before.edge.clone());
        let (head, history, store) = (before.head, shared.history(&tiles), &shared.store);
        let signer = shared.signer.as_ref();
        let disk = OpenError::io("write", store.rotation());
        match &self.0 {
            Some(begun) if is_on_record(shared, begun)? => {
                let mut chain = before.keys.as_ref().clone();
                let finished = keys::finish(store, &mut chain, begun, (signer, &head, &history));
                finished.map_err(|unfinished| match unfinished {
                    Unfinished::Disk(error) => disk(error),
                    Unfinished::Signer(error) => refused(&error, &head),
                })?;
                let Confirmed { head, note, edge, .. } = before.as_ref();
                let (head, note, edge) = (*head, Arc::clone(note), edge.clone());
                shared.state().confirmed = Arc::new(Confirmed { head, note, edge, keys: Arc::new(chain) });
            }
            Some(_) => keys::clear(store).map_err(disk)?,
            None => {}
        }
        is_in_force(&signer.verifier_key(), &shared.confirmed().keys, store)?;
        signer.resume(&head, &history).map_err(|error| refused(&error, &head))
    }
}

/// Whether the log holds the record that carries the statement.
fn is_on_record(shared: &Shared, begun: &Begun) -> Result<bool, OpenError> {
    match shared.record(begun.index()) {
        Ok(record) => Ok(leaf_hash(&record.leaf) == begun.leaf),
        Err(ReadError::OutOfRange { .. }) => Ok(false),
        Err(error) => Err(OpenError::io("read", shared.store.segments())(std::io::Error::other(error))),
    }
}

/// Refuses a signer whose key is not the log's newest.
pub(crate) fn is_in_force(key: &VerifierKey, keys: &KeyChain, store: &Store) -> Result<(), OpenError> {
    if key == keys.newest() {
        return Ok(());
    }
    let reason = format!("the signer's key `{key}` is not the one that the log's keys lead to, `{}`", keys.newest());
    Err(OpenError::Key { path: store.key(), reason })
}

/// Why the signer did not take up this tree.
pub(crate) fn refused(error: &SignError, head: &TreeHead) -> OpenError {
    match error {
        SignError::Smaller { confirmed: seen, .. }
        | SignError::SecondRoot { size: seen, .. }
        | SignError::Forked { confirmed: seen, .. } => {
            OpenError::Rollback { found: head.size, witness: "the signer", seen: *seen }
        }
        other => OpenError::Signer(other.to_string()),
    }
}
