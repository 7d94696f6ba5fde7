//! Each upstream's tools beside those of the others: which one passes for another's, or speaks of one.
//!
//! Whatever endpoint a tool is called at, it is judged beside all upstreams: a client may have them side by side too. What
//! upstreams list is looked at again when a listing changes, and not before. It must not know what was accepted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use countersign_effects::names::Sign;
use countersign_effects::names::neighbour::{Mentions, Neighbour};
use countersign_model::id::{ToolName, UpstreamId};

use crate::mcp::execute::{Listed, Upstream};
use crate::mcp::wire::Era;

/// All upstreams of a front.
pub(super) struct Neighbours {
    each: Vec<(Upstream, Mutex<Option<Seen>>)>,
}

/// An upstream's tools of both eras, as they were looked at last.
struct Seen {
    tools: [Arc<BTreeMap<ToolName, Listed>>; 2],
    neighbour: Arc<Neighbour>,
}

impl Neighbours {
    pub(super) fn new(upstreams: &[Upstream]) -> Self {
        Self { each: upstreams.iter().map(|upstream| (upstream.clone(), Mutex::new(None))).collect() }
    }

    /// The signs of a tool of the upstream `of`: those of its own definition, and whether it shadows another's tool. None
    /// where there is none.
    pub(super) fn signs(&self, of: &UpstreamId, tool: &ToolName, listed: &Listed) -> Option<String> {
        let own = listed.flagged.as_deref();
        if !self.is_shadow(of, tool, listed.mentions.as_deref()) {
            return own.map(str::to_owned);
        }
        let signs: BTreeSet<&str> =
            own.into_iter().flat_map(|own| own.split(", ")).chain([Sign::Shadow.as_str()]).collect();
        Some(signs.into_iter().collect::<Vec<_>>().join(", "))
    }

    /// Whether a tool of the upstream `of` passes for a tool of another, or speaks of one.
    pub(super) fn is_shadow(&self, of: &UpstreamId, tool: &ToolName, mentions: Option<&Mentions>) -> bool {
        let none = Mentions::default();
        let mentions = mentions.unwrap_or(&none);
        let mut others = self.each.iter().filter(|(upstream, _)| upstream.id() != of);
        others.any(|(upstream, seen)| neighbour(upstream, seen).shadowed(tool.as_str(), mentions).is_some())
    }

    /// Whether there is anybody to be taken for.
    pub(super) const fn is_alone(&self) -> bool {
        self.each.len() < 2
    }
}

/// An upstream's tools as they are now.
fn neighbour(upstream: &Upstream, seen: &Mutex<Option<Seen>>) -> Arc<Neighbour> {
    let tools = [upstream.tools(Era::Legacy), upstream.tools(Era::Modern)];
    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    let is_same = |seen: &&mut Seen| seen.tools.iter().zip(&tools).all(|(one, other)| Arc::ptr_eq(one, other));
    if let Some(seen) = seen.as_mut().filter(is_same) {
        return Arc::clone(&seen.neighbour);
    }
    let names: BTreeSet<&str> = tools.iter().flat_map(|tools| tools.keys()).map(ToolName::as_str).collect();
    let neighbour = Arc::new(Neighbour::new(upstream.id().as_str(), names));
    *seen = Some(Seen { tools, neighbour: Arc::clone(&neighbour) });
    neighbour
}
