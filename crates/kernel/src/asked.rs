//! Calls that policy is being asked about, and how many of them each agent has on each target.
//!
//! Whoever proposes while others are being decided must see them in its counts, or two calls that come together would each
//! find that nothing happened before. It must not know what policy will say.

use std::collections::BTreeMap;

use countersign_model::id::{AgentId, TargetId};
use countersign_model::record::{Attempt, Recent};
use countersign_model::{Action, Facts, Seq};

use crate::attempt::Draft;
use crate::history::is_change;

/// The calls, by the sequence number of their reservation.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    drafts: BTreeMap<Seq, Draft>,
    /// Calls, and those of them that change something.
    counts: BTreeMap<(AgentId, TargetId), (u64, u64)>,
}

impl Asked {
    pub(crate) const fn new() -> Self {
        Self { drafts: BTreeMap::new(), counts: BTreeMap::new() }
    }

    pub(crate) fn insert(&mut self, call: Seq, draft: Draft) {
        let (key, changes) = of(&draft.attempt);
        let count = self.counts.entry(key).or_default();
        *count = (count.0.saturating_add(1), count.1.saturating_add(changes));
        if let Some(before) = self.drafts.insert(call, draft) {
            self.uncount(&before.attempt);
        }
    }

    pub(crate) fn remove(&mut self, call: Seq) -> Option<Draft> {
        let draft = self.drafts.remove(&call)?;
        self.uncount(&draft.attempt);
        Some(draft)
    }

    fn uncount(&mut self, attempt: &Attempt) {
        let (key, changes) = of(attempt);
        if let Some(count) = self.counts.get_mut(&key) {
            *count = (count.0.saturating_sub(1), count.1.saturating_sub(changes));
            if count.0 == 0 {
                self.counts.remove(&key);
            }
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.drafts.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.drafts.is_empty()
    }

    /// How many changes of the action's tool on its target ask for less than it does.
    pub(crate) fn smaller(&self, action: &Action) -> u64 {
        let count = |facts: &Facts| facts.bound.as_ref().and_then(|bound| bound.count).filter(|_| is_change(facts));
        let Some(wanted) = count(&action.facts) else { return 0 };
        let is_smaller = |attempt: &Attempt| {
            attempt.principal.agent == action.principal.agent
                && (&attempt.upstream, &attempt.tool, &attempt.target)
                    == (&action.upstream, &action.tool, &action.target)
                && count(&attempt.facts).is_some_and(|asked| asked < wanted)
        };
        self.drafts.values().filter(|draft| is_smaller(&draft.attempt)).count() as u64
    }

    /// Adds the calls and changes of an agent on a target to what happened before. They are of now, so of every window.
    pub(crate) fn count_into(&self, (agent, target): (&AgentId, &TargetId), calls: &mut Recent, changes: &mut Recent) {
        if let Some((asked, changing)) = self.counts.get(&(agent.clone(), target.clone())) {
            add(calls, *asked);
            add(changes, *changing);
        }
    }
}

fn of(attempt: &Attempt) -> ((AgentId, TargetId), u64) {
    ((attempt.principal.agent.clone(), attempt.target.clone()), u64::from(is_change(&attempt.facts)))
}

const fn add(recent: &mut Recent, more: u64) {
    recent.minute = recent.minute.saturating_add(more);
    recent.ten_minutes = recent.ten_minutes.saturating_add(more);
    recent.hour = recent.hour.saturating_add(more);
    recent.day = recent.day.saturating_add(more);
}
