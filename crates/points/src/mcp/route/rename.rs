//! Names of one upstream put into, and taken out of, the messages that pass, as edits of declared spans.
//!
//! Every place that holds a name, a URI or a task id is listed here; no other byte changes. Pure. It must not know
//! which upstreams there are. It does not cover names inside free text, which no program reads as a name.

use countersign_effects::json::{Node, Value};
use countersign_model::id::UpstreamId;

use super::name::Named;
use crate::mcp::methods::Listing;
use crate::mcp::wire::era::RELATED_TASK;
use crate::mcp::wire::quoted;
use crate::mcp::wire::splice::Edit;

/// Collects the edits that put an upstream's prefix before its names.
pub(crate) struct Prefixing<'a> {
    upstream: &'a UpstreamId,
    edits: Vec<Edit>,
}

impl<'a> Prefixing<'a> {
    pub(crate) const fn of(upstream: &'a UpstreamId) -> Self {
        Self { upstream, edits: Vec::new() }
    }

    /// The edits, in the order of the text.
    pub(crate) fn edits(mut self) -> Vec<Edit> {
        self.edits.sort_by_key(|(span, _)| span.start);
        self.edits
    }

    fn put(&mut self, kind: Named, node: Option<&Node>) {
        let Some(node) = node.filter(|node| node.as_str().is_some()) else { return };
        // Directly after the quotation mark: an id needs no escaping.
        let inside = node.span.start.saturating_add(1);
        self.edits.push((inside..inside, kind.prefix(self.upstream)));
    }

    /// One item of a listing.
    pub(crate) fn item(mut self, listing: Listing, item: &Node) -> Self {
        match listing {
            Listing::Tools | Listing::Prompts => self.put(Named::Name, item.get("name")),
            Listing::Resources => self.put(Named::Uri, item.get("uri")),
            Listing::Templates => self.put(Named::Uri, item.get("uriTemplate")),
            Listing::Tasks => self.put(Named::Name, item.get("taskId")),
        }
        self
    }

    /// The result of anything that is no listing: contents, messages, tasks.
    pub(crate) fn result(mut self, result: &Node) -> Self {
        self.result_within(result);
        self
    }

    fn result_within(&mut self, result: &Node) {
        for block in listed(result.get("content")) {
            self.block(block);
        }
        for contents in listed(result.get("contents")) {
            self.put(Named::Uri, contents.get("uri"));
        }
        for message in listed(result.get("messages")) {
            match message.get("content") {
                Some(content) if content.as_object().is_some() => self.block(content),
                content => listed(content).iter().for_each(|block| self.block(block)),
            }
        }
        self.put(Named::Name, result.get("taskId"));
        self.put(Named::Name, result.get("task").and_then(|task| task.get("taskId")));
        self.related(result);
        // A finished task holds the result of its call.
        if let (Some(_), Some(inner)) = (result.get("taskId"), result.get("result")) {
            self.result_within(inner);
        }
    }

    fn block(&mut self, block: &Node) {
        match block.get("type").and_then(Node::as_str) {
            Some("resource_link") => self.put(Named::Uri, block.get("uri")),
            Some("resource") => self.put(Named::Uri, block.get("resource").and_then(|resource| resource.get("uri"))),
            _ => {}
        }
    }

    /// The error of anything: a resource that was not found is named in it.
    pub(crate) fn error(mut self, error: &Node) -> Self {
        self.put(Named::Uri, error.get("data").and_then(|data| data.get("uri")));
        self
    }

    /// A notification of the upstream.
    pub(crate) fn notification(mut self, method: &str, params: Option<&Node>) -> Self {
        let Some(params) = params else { return self };
        match method {
            "notifications/resources/updated" => self.put(Named::Uri, params.get("uri")),
            "notifications/tasks/status" | "notifications/tasks" => {
                self.put(Named::Name, params.get("taskId"));
                if let Some(result) = params.get("result") {
                    self.result_within(result);
                }
            }
            _ => {}
        }
        self.related(params);
        self
    }

    fn related(&mut self, node: &Node) {
        let task = node.get("_meta").and_then(|meta| meta.get(RELATED_TASK)).and_then(|related| related.get("taskId"));
        self.put(Named::Name, task);
    }
}

/// The edit that replaces a name by what stands behind its prefix. Where the prefix is spelled plainly, only it is cut.
pub(crate) fn without_prefix(node: &Node, input: &[u8], rest: &str) -> Option<Edit> {
    let text = node.as_str()?;
    let prefix = text.strip_suffix(rest)?;
    let inside = node.span.start.saturating_add(1);
    let end = inside.saturating_add(prefix.len());
    if input.get(inside..end) == Some(prefix.as_bytes()) {
        return Some((inside..end, String::new()));
    }
    Some((node.span.clone(), quoted(rest)))
}

/// Where a request's `_meta` names a task.
pub(crate) fn related_task(params: &Node) -> Option<&Node> {
    params.get("_meta")?.get(RELATED_TASK)?.get("taskId")
}

fn listed(node: Option<&Node>) -> &[Node] {
    match node.map(|node| &node.value) {
        Some(Value::Array(items)) => items,
        _ => &[],
    }
}
