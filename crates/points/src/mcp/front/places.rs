//! How many of something may be in flight at once, in all and of each token, so that none takes the room of others.
//!
//! It must not know of what.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use countersign_model::id::SessionId;

/// Places, in all and of each token.
pub(super) struct Places {
    taken: Mutex<Taken>,
    all_max: usize,
    each_max: usize,
}

#[derive(Default)]
struct Taken {
    all: usize,
    each: BTreeMap<SessionId, usize>,
}

impl Places {
    pub(super) fn new((all_max, each_max): (usize, usize)) -> Self {
        Self { taken: Mutex::default(), all_max, each_max }
    }

    /// Takes `count` places for a token, or none at all.
    pub(super) fn take(&self, token: &SessionId, count: usize) -> bool {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let own = taken.each.get(token).copied().unwrap_or_default();
        let fits = |taken: usize, max: usize| taken.checked_add(count).is_some_and(|sum| sum <= max);
        if !fits(taken.all, self.all_max) || !fits(own, self.each_max) {
            return false;
        }
        taken.all = taken.all.saturating_add(count);
        if count > 0 {
            taken.each.insert(token.clone(), own.saturating_add(count));
        }
        true
    }

    /// Gives back what was taken.
    pub(super) fn give_back(&self, token: &SessionId, count: usize) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.all = taken.all.saturating_sub(count);
        let left = taken.each.get(token).map(|own| own.saturating_sub(count));
        match left {
            Some(0) => drop(taken.each.remove(token)),
            Some(left) => drop(taken.each.insert(token.clone(), left)),
            None => {}
        }
    }
}
