//! Which definition of a tool may be called: the accepted one, or the first one.
//!
//! A server can change what a tool says after a human has looked at it. Where the configuration holds a list of accepted
//! tools for an upstream, only those are called. Where it holds none, the first definition that was ever allowed to run
//! is the accepted one, on record: a change is then noticed all the same. It knows digests only, not what changed.
//! A method of the protocol is defined by nobody who could change it: it stands on no list, is never a first use, and a
//! tool with a method's name is never the accepted one.

use std::collections::BTreeMap;

use countersign_model::Digest;
use countersign_model::id::{ToolName, UpstreamId};
use countersign_model::method;
use countersign_model::record::{Accepted, AcceptedBy, Attempt};

use crate::settings::Settings;

/// The most tools of which the first definition is remembered. Beyond it a new tool needs to be accepted by name: a
/// server that makes up names without end must not fill the memory.
pub(crate) const PINS_MAX: usize = 4_096;

/// The definitions that ran.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pins {
    /// By upstream and tool.
    pub(crate) known: BTreeMap<UpstreamId, BTreeMap<ToolName, Digest>>,
    /// Of how many live intents each rests that is on no disk yet.
    unsure: BTreeMap<(UpstreamId, ToolName), u64>,
}

impl Pins {
    /// Definitions that are all on disk.
    pub(crate) const fn of(known: BTreeMap<UpstreamId, BTreeMap<ToolName, Digest>>) -> Self {
        Self { known, unsure: BTreeMap::new() }
    }

    /// What a decision about `tool`, defined as `manifest`, reads; none where any definition may run, and becomes the first.
    pub(crate) fn reading(
        &self,
        settings: &Settings,
        (upstream, tool): (&UpstreamId, &ToolName),
        manifest: &Digest,
    ) -> Option<Accepted> {
        if method::is_method(tool) || method::is_manifest(tool, manifest) {
            return Some(Accepted { by: AcceptedBy::Method, manifest: Some(method::manifest(tool)) });
        }
        if let Some(accepted) = settings.accepted.get(upstream) {
            return Some(Accepted { by: AcceptedBy::List, manifest: accepted.get(tool).copied() });
        }
        let pinned = self.known.get(upstream).and_then(|tools| tools.get(tool)).copied();
        let is_full = pinned.is_none() && self.count() >= PINS_MAX;
        (pinned.is_some() || is_full).then_some(Accepted { by: AcceptedBy::FirstUse, manifest: pinned })
    }

    /// An intent is on record. What a human accepted takes the place of what there was. Whether it is the first.
    pub(crate) fn apply(&mut self, attempt: &Attempt) -> bool {
        if attempt.inputs.standing.accepted.as_ref().is_some_and(|read| read.by == AcceptedBy::Method) {
            return false;
        }
        let is_listed = attempt.inputs.standing.accepted.as_ref().is_some_and(|read| read.by == AcceptedBy::List);
        let is_known = self.known.get(&attempt.upstream).is_some_and(|tools| tools.contains_key(&attempt.tool));
        if is_listed || (!is_known && self.count() < PINS_MAX) {
            self.known.entry(attempt.upstream.clone()).or_default().insert(attempt.tool.clone(), attempt.manifest);
            return !is_known;
        }
        false
    }

    /// A live intent of a tool was applied, the first or a later one. Whether the tool's definition rests on it.
    pub(crate) fn lean(&mut self, tool: &(UpstreamId, ToolName), is_first: bool) -> bool {
        if is_first {
            self.unsure.insert(tool.clone(), 0);
        }
        let Some(intents) = self.unsure.get_mut(tool) else { return false };
        *intents = intents.saturating_add(1);
        true
    }

    /// An intent that a definition rests on is on disk, or may be: the definition stays.
    pub(crate) fn settle(&mut self, tool: &(UpstreamId, ToolName)) {
        self.unsure.remove(tool);
    }

    /// An intent that a definition rests on never came to be. With the last of them the definition goes.
    pub(crate) fn forget(&mut self, tool: &(UpstreamId, ToolName)) {
        let Some(intents) = self.unsure.get_mut(tool) else { return };
        *intents = intents.saturating_sub(1);
        if *intents > 0 {
            return;
        }
        self.unsure.remove(tool);
        let (upstream, tool) = tool;
        if let Some(tools) = self.known.get_mut(upstream) {
            tools.remove(tool);
            if tools.is_empty() {
                self.known.remove(upstream);
            }
        }
    }

    fn count(&self) -> usize {
        self.known.values().map(BTreeMap::len).sum()
    }
}
