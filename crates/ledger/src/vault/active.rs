//! Keys in memory: those made ahead, and those of the scopes that were active last.
//!
//! The lock is never held across I/O. A key that somebody holds is not forgotten, whatever the bound: what it sealed may
//! not be in the log yet. While a scope is closed nothing new is sealed for it. It must not know files.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Key, PAYLOADS_MAX, Tag, VaultError};

/// How many scopes are remembered.
const SCOPES_MAX: usize = 4_096;
/// Below this many keys made ahead, more are made.
const LOW: usize = 32;

/// A key in use.
pub(super) struct ActiveKey {
    pub(super) id: u64,
    pub(super) key: Key,
    /// How many payloads it has sealed.
    pub(super) count: AtomicU64,
    /// Whoever holds it besides has not yet had the answer to the first record that the key sealed for it.
    pub(super) deciding: Arc<()>,
}

#[derive(Default)]
struct Inner {
    spare: VecDeque<(u64, Key)>,
    scopes: BTreeMap<Tag, (Arc<ActiveKey>, u64)>,
    /// Scopes by when they were used last.
    by_use: BTreeMap<u64, Tag>,
    turn: u64,
    /// Keys that have sealed as much as one may, with their scopes. Somebody may still hold them.
    worn: Vec<(Tag, Arc<ActiveKey>)>,
    /// Scopes for which nothing is sealed now.
    closed: BTreeSet<Tag>,
}

#[derive(Default)]
pub(super) struct ActiveKeys(Mutex<Inner>);

impl ActiveKeys {
    /// The scope's key, or a new one.
    pub(super) fn key(&self, tag: Tag) -> Result<Arc<ActiveKey>, VaultError> {
        let mut inner = self.inner();
        if inner.closed.contains(&tag) {
            return Err(VaultError::Closed);
        }
        let key = match inner.take(tag) {
            Some(key) if key.count.load(Ordering::Relaxed) < PAYLOADS_MAX => key,
            worn => {
                inner.worn.extend(worn.map(|key| (tag, key)));
                let (id, key) = inner.spare.pop_front().ok_or(VaultError::NoSpare)?;
                Arc::new(ActiveKey { id, key, count: AtomicU64::new(0), deciding: Arc::default() })
            }
        };
        inner.put(tag, Arc::clone(&key));
        Ok(key)
    }

    pub(super) fn close(&self, tag: Tag) {
        self.inner().closed.insert(tag);
    }

    pub(super) fn reopen(&self, tag: Tag) {
        self.inner().closed.remove(&tag);
    }

    pub(super) fn is_quiet(&self, tag: Tag) -> bool {
        let is_quiet = self.inner().of(tag).all(|key| Arc::strong_count(&key.deciding) == 1);
        // What they did before they let go is seen after this.
        fence(Ordering::Acquire);
        is_quiet
    }

    pub(super) fn retire(&self, tag: Tag) -> BTreeSet<u64> {
        let mut inner = self.inner();
        let ids = inner.of(tag).map(|key| key.id).collect();
        inner.take(tag);
        inner.worn.retain(|(of, _)| *of != tag);
        inner.closed.remove(&tag);
        ids
    }

    pub(super) fn is_low(&self) -> bool {
        self.inner().spare.len() < LOW
    }

    pub(super) fn add(&self, made: impl Iterator<Item = (u64, Key)>) {
        self.inner().spare.extend(made);
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn take(&mut self, tag: Tag) -> Option<Arc<ActiveKey>> {
        let (key, used) = self.scopes.remove(&tag)?;
        self.by_use.remove(&used);
        Some(key)
    }

    /// The keys that seal or sealed for the scope, as far as they are known.
    fn of(&self, tag: Tag) -> impl Iterator<Item = &ActiveKey> {
        let worn = self.worn.iter().filter(move |(of, _)| *of == tag).map(|(_, key)| key.as_ref());
        worn.chain(self.scopes.get(&tag).map(|(key, _)| key.as_ref()))
    }

    fn put(&mut self, tag: Tag, key: Arc<ActiveKey>) {
        self.turn += 1;
        self.by_use.insert(self.turn, tag);
        self.scopes.insert(tag, (key, self.turn));
        if self.scopes.len() > SCOPES_MAX {
            self.forget_one();
        }
    }

    /// Forgets the scope whose last use lies furthest back and that nobody holds now.
    fn forget_one(&mut self) {
        let idle = |tag: &Tag| self.scopes.get(tag).is_some_and(|(key, _)| Arc::strong_count(key) == 1);
        if let Some(tag) = self.by_use.values().find(|tag| idle(tag)).copied() {
            self.take(tag);
        }
    }
}

#[cfg(test)]
impl ActiveKeys {
    pub(super) fn len(&self) -> usize {
        self.inner().scopes.len()
    }
}
