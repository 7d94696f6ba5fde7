//! Which task was handed to whom: nobody asks for another's.
//!
//! Kept in memory and bounded; what is forgotten, or was handed out before a restart, can no longer be asked for. It
//! must not know what a task does.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use countersign_model::id::UpstreamId;
use countersign_model::{Caller, Digest};

use super::session::opens_to;

/// Tasks that are remembered.
const TASKS_MAX: usize = 10_000;
/// The longest id of a task.
const ID_BYTES_MAX: usize = 512;

/// Questions of one task that are remembered as decided; what is not is decided again.
const ASKED_MAX: usize = 64;

/// An upstream and its own id of a task.
type Key = (UpstreamId, String);

/// All tasks that were handed out.
#[derive(Default)]
pub(crate) struct Tasks {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// None where an upstream gave one id to two.
    owners: BTreeMap<Key, Option<Caller>>,
    /// Questions in tasks that were decided and may be shown again.
    asked: BTreeMap<Key, BTreeSet<Digest>>,
    order: VecDeque<Key>,
}

impl Tasks {
    /// Remembers whose a task is. An id that an upstream hands to two, after a restart or on purpose, is nobody's.
    pub(crate) fn own(&self, upstream: &UpstreamId, task: &str, owner: &Caller) {
        if task.len() > ID_BYTES_MAX {
            return;
        }
        let mut state = self.state();
        let key = (upstream.clone(), task.to_owned());
        if let Some(known) = state.owners.get_mut(&key) {
            *known = known.take().filter(|known| known == owner);
            return;
        }
        while state.owners.len() >= TASKS_MAX {
            let Some(oldest) = state.order.pop_front() else { break };
            state.owners.remove(&oldest);
            state.asked.remove(&oldest);
        }
        state.order.push_back(key.clone());
        state.owners.insert(key, Some(owner.clone()));
    }

    /// Whether `caller` was handed this task.
    pub(crate) fn is_of(&self, upstream: &UpstreamId, task: &str, caller: &Caller) -> bool {
        let state = self.state();
        let owner = state.owners.get(&(upstream.clone(), task.to_owned())).and_then(Option::as_ref);
        owner.is_some_and(|owner| opens_to(owner, caller))
    }

    /// Whether a question in a task was decided before: a client that asks for it again is no new one to ask.
    pub(crate) fn was_asked(&self, upstream: &UpstreamId, task: &str, question: &Digest) -> bool {
        let state = self.state();
        state.asked.get(&(upstream.clone(), task.to_owned())).is_some_and(|asked| asked.contains(question))
    }

    /// Remembers which questions in a task were decided.
    pub(crate) fn asked(&self, upstream: &UpstreamId, task: &str, questions: impl IntoIterator<Item = Digest>) {
        let mut state = self.state();
        let key = (upstream.clone(), task.to_owned());
        if !state.owners.contains_key(&key) {
            return;
        }
        let asked = state.asked.entry(key).or_default();
        for question in questions {
            if asked.len() < ASKED_MAX {
                asked.insert(question);
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
