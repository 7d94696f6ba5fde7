//! Records that could not be written although what they say has happened: a consent, an expiry.
//!
//! While one is held nothing is proposed; the tick tries again until the disk takes it. So a full
//! disk cannot make the record and the kernel part ways, and service returns by itself.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use countersign_ledger::Entry;

use crate::Gate;

/// The most records held; beyond it the gate stays closed until it is restarted.
const HELD_MAX: usize = 1_024;

#[derive(Default)]
pub(crate) struct Stalled {
    held: Mutex<VecDeque<Vec<u8>>>,
}

impl Stalled {
    pub(crate) fn hold(&self, leaf: Vec<u8>) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.len() < HELD_MAX {
            held.push_back(leaf);
        }
    }

    pub(crate) fn is_any(&self) -> bool {
        !self.held.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
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
        while let Some(leaf) = self.0.stalled.first() {
            if self.ledger().append(Entry::new(leaf)).await.is_err() {
                return;
            }
            self.0.stalled.written();
        }
    }
}
