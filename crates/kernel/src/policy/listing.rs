//! What listings found before: whether an agent may ever call a tool on a target.
//!
//! It is kept beside the bundle that it follows from, so it is of that bundle and of no other. Whether it was kept changes
//! no answer. It must not know how the answer is found.

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};

use super::slice::Place;

/// The most answers that are kept; then it starts again.
const KEPT_MAX: usize = 262_144;

/// Answers that were given already.
#[derive(Debug, Default)]
pub(super) struct Listings(RwLock<BTreeMap<Place, bool>>);

impl Listings {
    /// The answer for `place`, found by `find` where it is not kept.
    pub(super) fn may(&self, place: Place, find: impl FnOnce() -> bool) -> bool {
        if let Some(may) = self.0.read().unwrap_or_else(PoisonError::into_inner).get(&place) {
            return *may;
        }
        let may = find();
        let mut kept = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= KEPT_MAX {
            kept.clear();
        }
        kept.insert(place, may);
        may
    }
}
