//! Endpoints: which upstreams a client reaches, and under which names.
//!
//! `/mcp/UPSTREAM` is that one upstream, and nothing is renamed. `/mcp` is all of them; where there are several, names
//! carry the upstream's id as a prefix. It must not know channels, callers or sessions. It does not cover eras.

pub(crate) mod cursor;
pub(crate) mod name;
pub(crate) mod rename;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use countersign_effects::json::{DEPTH_CEILING, Limits, Node, parse};
use countersign_model::id::UpstreamId;

use super::execute::Upstream;
use super::methods::Place;
use super::wire::splice::{self, Edit};
use super::wire::{FrameError, INVALID_PARAMS};
use name::Named;

pub use name::is_prefix;

/// One endpoint. Its upstreams are in the order of their ids.
pub(crate) struct Endpoint {
    upstreams: Vec<Upstream>,
    /// Whether names carry a prefix.
    prefixed: bool,
}

/// Whom a request is for.
#[derive(Debug)]
pub(crate) enum Target {
    /// One upstream, by its place, under the edits that take its prefix away.
    One(usize, Vec<Edit>),
    /// All of them.
    All,
}

/// Parameters of a message, and the bytes that they stand in. Clones are handles of the same.
#[derive(Clone, Debug)]
pub(crate) struct Params {
    input: Bytes,
    node: Option<Arc<Node>>,
}

impl Params {
    pub(crate) fn of(input: Bytes, node: Option<Node>) -> Self {
        Self { input, node: node.map(Arc::new) }
    }

    pub(crate) fn node(&self) -> Option<&Node> {
        self.node.as_deref()
    }

    pub(crate) const fn input(&self) -> &Bytes {
        &self.input
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        self.node.as_ref()?.get(key)
    }

    /// The bytes of one of their nodes, without copying.
    pub(crate) fn slice(&self, node: &Node) -> Bytes {
        if node.span.end <= self.input.len() && node.span.start <= node.span.end {
            self.input.slice(node.span.clone())
        } else {
            Bytes::new()
        }
    }

    /// Their raw JSON.
    pub(crate) fn raw(&self) -> Option<Bytes> {
        self.node.as_ref().map(|node| self.slice(node))
    }

    /// The same under edits, which stand in the order of the text. Read again, for all places have moved.
    ///
    /// # Errors
    /// Where the result can no longer be read; an edit of ours makes no text longer that was within the limits.
    pub(crate) fn under(self, edits: &[Edit]) -> Result<Self, FrameError> {
        let Some(node) = self.node.as_ref().filter(|_| !edits.is_empty()) else { return Ok(self) };
        let input = Bytes::from(splice::edited(&self.input, &node.span, edits));
        let limits = Limits { bytes_max: usize::MAX, depth_max: DEPTH_CEILING, nodes_max: usize::MAX };
        let node = parse(&input, &limits)?;
        Ok(Self { input, node: Some(Arc::new(node)) })
    }
}

impl Endpoint {
    pub(crate) fn upstreams(&self) -> &[Upstream] {
        &self.upstreams
    }

    pub(crate) fn upstream(&self, at: usize) -> Option<&Upstream> {
        self.upstreams.get(at)
    }

    /// What names of the upstream at a place begin with; none where they stay as they are.
    pub(crate) fn prefix(&self, at: usize) -> Option<&UpstreamId> {
        self.upstreams.get(at).filter(|_| self.prefixed).map(Upstream::id)
    }

    pub(crate) const fn is_prefixed(&self) -> bool {
        self.prefixed
    }

    /// Whom a request with these parameters is for.
    ///
    /// # Errors
    /// A name that belongs to no upstream of this endpoint, or a place without a name.
    pub(crate) fn target(&self, place: Place, params: Option<&Node>, input: &[u8]) -> Result<Target, FrameError> {
        if !self.prefixed {
            return Ok(Target::One(0, Vec::new()));
        }
        let Some((kind, node)) = named(place, params)? else { return Ok(Target::All) };
        let text = node.as_str().unwrap_or_default();
        let (at, rest) = self.owner(kind, text).ok_or_else(|| unknown(text))?;
        let mut edits = Vec::new();
        edits.extend(rename::without_prefix(node, input, rest));
        // A task that is named beside belongs to the same upstream, or the request is for nobody.
        if let Some(related) = params.and_then(rename::related_task) {
            let text = related.as_str().unwrap_or_default();
            let (other, rest) = self.owner(Named::Name, text).ok_or_else(|| unknown(text))?;
            if other != at {
                return Err(unknown(text));
            }
            edits.extend(rename::without_prefix(related, input, rest));
        }
        edits.sort_by_key(|(span, _)| span.start);
        Ok(Target::One(at, edits))
    }

    /// The upstream that a prefixed name belongs to, and its own name for it.
    pub(crate) fn owner<'t>(&self, kind: Named, text: &'t str) -> Option<(usize, &'t str)> {
        let (id, rest) = kind.split(text)?;
        let at = self.upstreams.iter().position(|upstream| upstream.id().as_str() == id)?;
        Some((at, rest))
    }
}

/// The node with the name of the upstream; none where the request is for all of them.
fn named(place: Place, params: Option<&Node>) -> Result<Option<(Named, &Node)>, FrameError> {
    let member = |name: &str| params.and_then(|params| params.get(name)).filter(|node| node.as_str().is_some());
    let found = match place {
        Place::Here | Place::All | Place::Cursor => return Ok(None),
        Place::Name => member("name").map(|node| (Named::Name, node)),
        Place::Uri => member("uri").map(|node| (Named::Uri, node)),
        Place::Task => member("taskId").map(|node| (Named::Name, node)),
        Place::Ref => params.and_then(|params| params.get("ref")).and_then(|about| {
            let text = |name: &str| about.get(name).filter(|node| node.as_str().is_some());
            text("uri").map(|node| (Named::Uri, node)).or_else(|| text("name").map(|node| (Named::Name, node)))
        }),
    };
    found.map(Some).ok_or_else(|| FrameError {
        code: INVALID_PARAMS,
        ..FrameError::shape("the parameters do not say which upstream this is for")
    })
}

fn unknown(text: &str) -> FrameError {
    let shown: String = text.escape_default().take(80).collect();
    FrameError { code: INVALID_PARAMS, ..FrameError::shape(format!("`{shown}` is no name of an upstream behind here")) }
}

/// All endpoints of a front.
pub(crate) struct Endpoints {
    all: Arc<Endpoint>,
    each: BTreeMap<String, Arc<Endpoint>>,
}

impl Endpoints {
    /// Endpoints over these upstreams, each of which has another id.
    pub(crate) fn new(mut upstreams: Vec<Upstream>) -> Self {
        upstreams.sort_by(|one, other| one.id().cmp(other.id()));
        let each = upstreams.iter().map(|upstream| {
            let alone = Endpoint { upstreams: vec![upstream.clone()], prefixed: false };
            (upstream.id().to_string(), Arc::new(alone))
        });
        let each: BTreeMap<String, Arc<Endpoint>> = each.collect();
        let all = match each.values().next() {
            Some(only) if each.len() == 1 => Arc::clone(only),
            _ => Arc::new(Endpoint { upstreams, prefixed: true }),
        };
        Self { all, each }
    }

    /// The endpoint of a path.
    pub(crate) fn of(&self, path: &str) -> Option<&Arc<Endpoint>> {
        match path.strip_prefix("/mcp")? {
            "" => Some(&self.all),
            rest => self.each.get(rest.strip_prefix('/')?),
        }
    }
}
