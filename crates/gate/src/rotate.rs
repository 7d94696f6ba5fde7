//! The change of the log's key: a human orders it, the ledger carries it out, and both are on record.
//!
//! The signer makes the new key before the order, so that the human signs which key it is. The order's record comes
//! first and the change's after it; a change that fails leaves the order without effect, and it is given again. It must
//! not know how keys are kept. It does not cover what a crash leaves of a change: the ledger settles that.

use std::sync::{Mutex, PoisonError};

use countersign_kernel::Event;
use countersign_ledger::SignError;
use countersign_model::action::Point;
use countersign_model::command::Deed;
use countersign_model::unit::LeafIndex;
use countersign_model::{Body, Reason, ReasonCode, Record};
use countersign_receipt::VerifierKey;

use crate::Gate;
use crate::pipeline::why_unwritten;
use crate::state::Recording;

/// The key of the order that is carried out.
#[derive(Default)]
pub(crate) struct NextKey {
    key: Mutex<Option<VerifierKey>>,
    pub(crate) turn: tokio::sync::Mutex<()>,
}

impl Gate {
    /// Has the signer make the key that may come next, or tells the one that it made: what an order must name.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn next_key(&self) -> Result<VerifierKey, Reason> {
        let ledger = self.ledger().clone();
        let made = tokio::task::spawn_blocking(move || ledger.next_key()).await;
        let made = made.map_err(|error| Reason::because(ReasonCode::Internal, &error.to_string()))?;
        made.map_err(|error| match error {
            SignError::Rotation(_) => Reason::because(ReasonCode::OrderRefused, &error.to_string()),
            error => Reason::because(ReasonCode::SignerUnavailable, &error.to_string()),
        })
    }

    /// Refuses an order for another key than the one that was made for it.
    pub(crate) async fn is_next_key(&self, deed: &Deed) -> Result<(), Reason> {
        let Deed::RotateKey { key } = deed else { return Ok(()) };
        let next = self.next_key().await?;
        if next.to_string() == *key {
            return Ok(());
        }
        let reason =
            Reason::because(ReasonCode::OrderRefused, "the key is not the one that the signer made; ask again");
        self.refuse(Point::Admin, None, reason.clone()).await;
        Err(reason)
    }

    /// Changes the key, as the command at leaf `command` says. Returns once the change is on record.
    pub(crate) async fn rotate(&self, command: u64) -> Result<(), Reason> {
        let _turn = self.0.next_key.turn.lock().await;
        let key = self.next_key().await?;
        *self.0.next_key.key.lock().unwrap_or_else(PoisonError::into_inner) = Some(key);
        let step = self.step(Event::KeyRotated { command: LeafIndex(command) });
        *self.0.next_key.key.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let is_ours = |body: &Body| matches!(body, Body::KeyRotated(_));
        let (ours, others): (Vec<Recording>, Vec<Recording>) =
            step.others.into_iter().partition(|recording| is_ours(&recording.record.body));
        self.watch(others);
        for recording in ours {
            // Not held until it can be written, as other records are: its statement is of this very moment.
            recording.pending.await.map_err(|error| why_unwritten(&error))?;
        }
        Ok(())
    }

    /// The key that this record puts in force, if it is one that does.
    pub(crate) fn rotating(&self, record: &Record) -> Option<VerifierKey> {
        if !matches!(record.body, Body::KeyRotated(_)) {
            return None;
        }
        self.0.next_key.key.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Makes the record's leaf once its statement is known. A leaf that cannot be encoded is empty, and refused.
pub(crate) fn with_statement(mut record: Record) -> impl FnOnce(&str) -> Vec<u8> + Send + 'static {
    move |statement| {
        if let Body::KeyRotated(rotated) = &mut record.body {
            statement.clone_into(&mut rotated.statement);
        }
        record.to_leaf().unwrap_or_default()
    }
}
