//! Records that could not be written although what they say has happened: a consent, an expiry.
//!
//! While one is held nothing is proposed; the tick tries again until the disk takes it. So a full
//! disk cannot make the record and the kernel part ways, and service returns by itself.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use countersign_ledger::Entry;
use countersign_model::command::Deed;
use countersign_model::{Body, Record};

use crate::Gate;

/// The most records held; beyond it the gate stays closed until it is restarted.
const HELD_MAX: usize = 1_024;

#[derive(Default)]
pub(crate) struct Stalled {
    held: Mutex<VecDeque<Vec<u8>>>,
    /// Whether a record was lost for want of room: then only a restart, which refolds the log, opens the gate.
    overflowed: AtomicBool,
    turn: tokio::sync::Mutex<()>,
}

impl Stalled {
    pub(crate) fn hold(&self, leaf: Vec<u8>) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.len() < HELD_MAX {
            held.push_back(leaf);
        } else {
            self.overflowed.store(true, Ordering::SeqCst);
        }
    }

    pub(crate) fn is_any(&self) -> bool {
        self.overflowed.load(Ordering::SeqCst) || self.first().is_some()
    }

    fn first(&self) -> Option<Vec<u8>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).front().cloned()
    }

    fn written(&self) {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    }
}

impl Gate {
    /// Tries to write what is held, in order. Stops at the first that is refused again.
    pub(crate) async fn write_stalled(&self) {
        // One at a time: two would write the first twice, and forget the second.
        let _turn = self.0.stalled.turn.lock().await;
        while let Some(leaf) = self.0.stalled.first() {
            if self.ledger().append(Entry::new(leaf.clone())).await.is_err() {
                return;
            }
            self.0.stalled.written();
            self.follow_late(&leaf);
        }
    }

    /// What follows from an order once its record is durable, however late that is: the lift of a kill at the switch,
    /// the destruction of keys.
    fn follow_late(&self, leaf: &[u8]) {
        let Ok(Record { body: Body::Commanded(commanded), .. }) = Record::from_leaf(leaf) else {
            return;
        };
        match &commanded.signed.command.deed {
            Deed::Resume { scope } => {
                if let Err(error) = self.switch().lift(scope) {
                    tracing::error!(%error, "a kill was lifted on record, but not at the switch");
                }
            }
            Deed::Erase { scope } => self.erase_late(scope.clone()),
            _ => {}
        }
    }
}
