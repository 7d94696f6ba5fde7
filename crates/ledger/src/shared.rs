//! What the handle, the writer and the publisher share, under one lock that is never held across I/O.
//!
//! It must not know how a frame or a tile looks. It does not cover what is the writer's alone: the open segment, the
//! mark and the tree's edge.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use countersign_receipt::merkle::{TreeHead, leaf_hash};
use countersign_receipt::{Hash, KeyChain, MAX_LEAF_BYTES};
use tokio::sync::{Semaphore, watch};

use crate::append::{Entry, Job, Pending, Slot};
use crate::base::Base;
use crate::config::Config;
use crate::cosigned::Cosigned;
use crate::disk::DiskLock;
use crate::error::AppendError;
use crate::fresh::Fresh;
use crate::read::Caches;
use crate::rotate::Rotating;
use crate::signer::Signer;
use crate::snapshot::Origin;
use crate::store::Store;
use crate::tree::Edge;

/// The newest tree that is durable.
#[derive(Debug)]
pub(crate) struct Confirmed {
    pub(crate) head: TreeHead,
    pub(crate) note: Arc<str>,
    pub(crate) edge: Edge,
    pub(crate) keys: Arc<KeyChain>,
}

/// Whether the ledger takes records.
#[derive(Debug)]
pub(crate) enum Phase {
    Open,
    /// What waits is still written.
    Closing,
    /// For good: the error that stopped it.
    Failed(AppendError),
}

/// Guarded by [`Shared::state`].
pub(crate) struct State {
    /// In the order in which callers came: this order is the log's.
    pub(crate) waiting: VecDeque<Job>,
    pub(crate) waiting_bytes: u64,
    /// With so many waiting the writer is woken, for it waits for that many; 0 where it waits for none.
    pub(crate) wanted: usize,
    /// The writer holds a batch that is not answered yet.
    pub(crate) busy: bool,
    pub(crate) writer_done: bool,
    pub(crate) phase: Phase,
    /// Written by the writer only, after sync and mark.
    pub(crate) confirmed: Arc<Confirmed>,
    /// The size of the published checkpoint.
    pub(crate) published: u64,
    /// The newest checkpoint that witnesses cosigned.
    pub(crate) cosigned: Option<Arc<Cosigned>>,
    /// Someone waits for publication: do not wait for the interval.
    pub(crate) urgent: bool,
}

/// A record at the door of the queue.
struct Arrival {
    entry: Entry,
    leaf_hash: Hash,
    slot: Option<Slot>,
    rotating: Option<Rotating>,
}

pub(crate) struct Shared {
    pub(crate) store: Store,
    pub(crate) config: Config,
    pub(crate) signer: Arc<dyn Signer>,
    pub(crate) slots: Arc<Semaphore>,
    pub(crate) caches: Caches,
    /// From the writer to the publisher.
    pub(crate) fresh: Fresh,
    state: Mutex<State>,
    /// The confirmed size, for who waits asynchronously.
    pub(crate) sizes: watch::Sender<u64>,
    /// Wakes the writer.
    pub(crate) work: Condvar,
    /// Wakes the publisher.
    pub(crate) news: Condvar,
    /// Wakes those who wait in `flush`.
    pub(crate) settled: Condvar,
    pub(crate) threads: Mutex<Vec<JoinHandle<()>>>,
    /// Where a follower begins, and up to where the public folder is durable; gone once it is taken.
    pub(crate) follower: Mutex<Option<(Origin, u64)>>,
    /// What a pruned log begins with.
    begin: Mutex<Option<Arc<Base>>>,
    /// Held until `close`, so that no second process opens the ledger.
    pub(crate) lock: Mutex<Option<Box<dyn DiskLock>>>,
}

impl Shared {
    pub(crate) fn new(
        store: &Store,
        config: Config,
        signer: Arc<dyn Signer>,
        confirmed: Confirmed,
        lock: Box<dyn DiskLock>,
    ) -> Self {
        let state = State {
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            wanted: 0,
            busy: false,
            writer_done: false,
            phase: Phase::Open,
            confirmed: Arc::new(confirmed),
            published: 0,
            cosigned: None,
            urgent: false,
        };
        Self {
            store: store.clone(),
            slots: Arc::new(Semaphore::new(config.slots.min(Semaphore::MAX_PERMITS))),
            config,
            signer,
            caches: Caches::default(),
            sizes: watch::Sender::new(state.confirmed.head.size),
            fresh: Fresh::default(),
            state: Mutex::new(state),
            work: Condvar::new(),
            news: Condvar::new(),
            settled: Condvar::new(),
            threads: Mutex::default(),
            follower: Mutex::default(),
            begin: Mutex::default(),
            lock: Mutex::new(Some(lock)),
        }
    }

    /// The state. A panic elsewhere cannot leave it half-changed: every change is a few plain assignments.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn confirmed(&self) -> Arc<Confirmed> {
        Arc::clone(&self.state().confirmed)
    }

    /// What a pruned log begins with.
    pub(crate) fn base(&self) -> Option<Arc<Base>> {
        self.begin.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn begin_at(&self, base: Option<Arc<Base>>) {
        *self.begin.lock().unwrap_or_else(PoisonError::into_inner) = base;
    }

    /// The first record that is kept.
    pub(crate) fn minimum(&self) -> u64 {
        self.base().map_or(0, |base| base.minimum)
    }

    /// Open actions whose outcome is not in a batch yet.
    pub(crate) fn open_slots(&self) -> u64 {
        (self.config.slots.min(Semaphore::MAX_PERMITS) - self.slots.available_permits()) as u64
    }

    pub(crate) fn enqueue(&self, entry: Entry, slot: Option<Slot>) -> Pending {
        self.enqueue_rotating(entry, slot, None)
    }

    pub(crate) fn enqueue_rotating(&self, entry: Entry, slot: Option<Slot>, rotating: Option<Rotating>) -> Pending {
        let job = Arrival { leaf_hash: leaf_hash(&entry.leaf), entry, slot, rotating };
        let mut state = self.state();
        let pending = self.queue(&mut state, job);
        let is_awaited = [1, state.wanted].contains(&state.waiting.len());
        drop(state);
        // The writer sleeps only while nothing waits, or too little.
        if is_awaited {
            self.work.notify_one();
        }
        pending
    }

    pub(crate) fn enqueue_together(&self, entries: Vec<Entry>) -> Vec<Pending> {
        let arrival = |entry: Entry| Arrival { leaf_hash: leaf_hash(&entry.leaf), entry, slot: None, rotating: None };
        let arrivals: Vec<_> = entries.into_iter().map(arrival).collect();
        let mut state = self.state();
        let checked = |arrival: Arrival| match arrival.entry.check(MAX_LEAF_BYTES) {
            Ok(()) => self.queue(&mut state, arrival),
            Err(error) => Pending::refused(error),
        };
        let pending = arrivals.into_iter().map(checked).collect();
        drop(state);
        self.work.notify_one();
        pending
    }

    fn queue(&self, state: &mut State, arrival: Arrival) -> Pending {
        let Arrival { mut entry, leaf_hash, slot, rotating } = arrival;
        let mut payload_stored = true;
        match &state.phase {
            Phase::Open => {}
            Phase::Closing => return Pending::refused(AppendError::Closed),
            Phase::Failed(error) => return Pending::refused(error.clone()),
        }
        if slot.is_none() {
            if let Err(error) = self.admit(state, entry.room()) {
                return Pending::refused(error);
            }
        } else if state.waiting_bytes + entry.room() > self.config.queue_bytes {
            payload_stored = !entry.drop_optional_payload();
        }
        let (answer, pending) = Pending::new();
        state.waiting_bytes += entry.room();
        state.waiting.push_back(Job { entry, leaf_hash, slot, payload_stored, rotating, answer });
        pending
    }

    fn admit(&self, state: &State, room: u64) -> Result<(), AppendError> {
        let full = |what, limit| Err(AppendError::Overloaded { what, limit });
        let config = &self.config;
        if state.waiting.len() >= config.queue_records {
            return full("queue", config.queue_records as u64);
        }
        // One record always fits, however small the bound.
        if !state.waiting.is_empty() && state.waiting_bytes + room > config.queue_bytes {
            return full("queue bytes", config.queue_bytes);
        }
        if state.confirmed.head.size.saturating_sub(state.published) >= config.max_unpublished {
            return full("publication backlog", config.max_unpublished);
        }
        Ok(())
    }
}
