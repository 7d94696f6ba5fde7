//! Which definition of a tool may be called: the accepted one, or the first one.
//!
//! A server can change what a tool says after a human has looked at it. Where the configuration holds a list of accepted
//! tools for an upstream, only those are called. Where it holds none, the first definition that was ever allowed to run
//! is the accepted one, on record: a change is then noticed all the same. It knows digests only, not what changed.

use std::collections::BTreeMap;

use countersign_model::Digest;
use countersign_model::id::{ToolName, UpstreamId};
use countersign_model::record::{Accepted, AcceptedBy, Attempt};

use crate::settings::Settings;

/// The most tools of which the first definition is remembered. Beyond it a new tool needs to be accepted by name: a
/// server that makes up names without end must not fill the memory.
pub(crate) const PINS_MAX: usize = 4_096;

/// The definitions that ran, by upstream and tool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pins(pub(crate) BTreeMap<UpstreamId, BTreeMap<ToolName, Digest>>);

impl Pins {
    /// What a decision about `tool` reads; none where any definition may run, and becomes the first.
    pub(crate) fn reading(&self, settings: &Settings, upstream: &UpstreamId, tool: &ToolName) -> Option<Accepted> {
        if let Some(accepted) = settings.accepted.get(upstream) {
            return Some(Accepted { by: AcceptedBy::List, manifest: accepted.get(tool).copied() });
        }
        let pinned = self.0.get(upstream).and_then(|tools| tools.get(tool)).copied();
        let is_full = pinned.is_none() && self.count() >= PINS_MAX;
        (pinned.is_some() || is_full).then_some(Accepted { by: AcceptedBy::FirstUse, manifest: pinned })
    }

    /// An intent is on record. What a human accepted takes the place of what there was. Whether it is the first.
    pub(crate) fn apply(&mut self, attempt: &Attempt) -> bool {
        let is_listed = attempt.inputs.standing.accepted.as_ref().is_some_and(|read| read.by == AcceptedBy::List);
        let is_known = self.0.get(&attempt.upstream).is_some_and(|tools| tools.contains_key(&attempt.tool));
        if is_listed || (!is_known && self.count() < PINS_MAX) {
            self.0.entry(attempt.upstream.clone()).or_default().insert(attempt.tool.clone(), attempt.manifest);
            return !is_known;
        }
        false
    }

    /// The first intent of a tool never came to be.
    pub(crate) fn forget(&mut self, upstream: &UpstreamId, tool: &ToolName) {
        if let Some(tools) = self.0.get_mut(upstream) {
            tools.remove(tool);
            if tools.is_empty() {
                self.0.remove(upstream);
            }
        }
    }

    fn count(&self) -> usize {
        self.0.values().map(BTreeMap::len).sum()
    }
}
