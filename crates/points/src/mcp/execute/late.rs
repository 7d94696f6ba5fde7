//! Whom a shared process may still say something about although nobody waits: calls that were given up before they were
//! answered, and tasks that go on.
//!
//! What comes unasked could be about any of them, so each counts like a request in flight: a call until its late answer, a
//! task until it says that it has ended, both until the link is over. Bounded; where more is unsettled than can be
//! remembered, nothing is anybody's any more. It must not know how bytes are read. It does not cover a process that
//! speaks of a call which it has answered.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use countersign_effects::json::Node;

use super::audience::{Member, Owner};
use crate::mcp::wire::era::RELATED_TASK;
use crate::mcp::wire::{Message, Outcome};

/// Calls, and tasks, that are remembered.
const LATE_MAX: usize = 1024;
/// The longest id of a task that is remembered.
const TASK_BYTES_MAX: usize = 512;
/// What tells how a task stands.
const STATUS: [&str; 2] = ["notifications/tasks/status", "notifications/tasks"];
const ENDED: [&str; 3] = ["completed", "failed", "cancelled"];

/// Whose something is: a client, and the principal that has it where one alone does.
#[derive(Clone, Debug)]
pub(crate) struct Whose {
    pub(crate) member: Member,
    pub(crate) owner: Option<Owner>,
}

impl Whose {
    /// Whether what is said of one may be heard by the other.
    pub(crate) fn is_one(&self, other: &Self) -> bool {
        self.member == other.member || (self.owner.is_some() && self.owner == other.owner)
    }
}

/// What is not settled on one link.
#[derive(Default)]
pub(crate) struct Late {
    calls: BTreeMap<u64, Whose>,
    tasks: BTreeMap<String, Whose>,
    is_full: bool,
}

impl Late {
    /// A call of this client was given up before it was answered.
    pub(crate) fn gave_up(&mut self, id: u64, whose: Whose) {
        if self.calls.len() < LATE_MAX {
            self.calls.insert(id, whose);
        } else {
            self.is_full = true;
        }
    }

    /// The call under this id was answered after all; whose it was.
    pub(crate) fn answered(&mut self, id: u64) -> Option<Whose> {
        self.calls.remove(&id)
    }

    /// Takes note of a task that an answer to a client, or a notification, begins or ends.
    pub(crate) fn note(&mut self, message: &Message, whose: Option<&Whose>) {
        match (task(message), whose) {
            (Some((task, true)), _) => drop(self.tasks.remove(task)),
            (Some((task, false)), Some(whose)) if !self.tasks.contains_key(task) => {
                if task.len() <= TASK_BYTES_MAX && self.tasks.len() < LATE_MAX {
                    self.tasks.insert(task.to_owned(), whose.clone());
                } else {
                    self.is_full = true;
                }
            }
            _ => {}
        }
    }

    /// Whether more is unsettled than is remembered.
    pub(crate) const fn is_full(&self) -> bool {
        self.is_full
    }

    /// Whose all of it is.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Whose> {
        self.calls.values().chain(self.tasks.values())
    }
}

/// The task that a message begins (`false`) or ends (`true`).
fn task(message: &Message) -> Option<(&str, bool)> {
    match message {
        Message::Response { outcome: Outcome::Result(result), .. } => {
            if let Some(task) = result.get("_meta").and_then(|meta| meta.get(RELATED_TASK)).and_then(id) {
                return Some((task, true));
            }
            let is_handed = result.get("resultType").and_then(Node::as_str) == Some("task");
            let is_begun = is_handed || result.get("task").is_some();
            let task = result.get("task").unwrap_or(result);
            let has_ended = has_ended(task);
            Some((id(task)?, has_ended)).filter(|_| has_ended || is_begun)
        }
        Message::Notification { method, params: Some(params) } if STATUS.contains(&method.as_str()) => {
            Some((id(params)?, true)).filter(|_| has_ended(params))
        }
        Message::Response { .. } | Message::Notification { .. } | Message::Request { .. } => None,
    }
}

fn id(node: &Node) -> Option<&str> {
    node.get("taskId")?.as_str()
}

fn has_ended(node: &Node) -> bool {
    node.get("status").and_then(Node::as_str).is_some_and(|word| ENDED.contains(&word))
}
