//! Headers that a modern message has to carry besides its body (2026-07-28, `basic/transports/streamable-http`).
//!
//! `MCP-Protocol-Version`, `Mcp-Method` and `Mcp-Name` are read from the body. `Mcp-Param-*` come from `x-mcp-header` in
//! a tool's schema, so the schemas that pass in listings are looked at. It must not know what a method does. It does not
//! cover a tool whose schema never passed here: the gateway then says which header is missing (-32020).

use std::collections::BTreeMap;

use countersign_effects::json::Node;
use hyper::header::{HeaderName, HeaderValue};

use crate::mcp::wire::headers::{self, Annotation, META_VERSION};

const METHOD: HeaderName = HeaderName::from_static(headers::METHOD);
const NAME: HeaderName = HeaderName::from_static(headers::NAME);
pub(super) const VERSION: HeaderName = HeaderName::from_static(headers::VERSION);
/// Tools whose annotations are remembered.
const TOOLS_MAX: usize = 10_000;

/// A header with its value.
pub(super) type Pair = (HeaderName, HeaderValue);

/// What the body of a modern message says that its headers have to say too.
pub(super) fn of(method: &str, params: Option<&Node>) -> Vec<Pair> {
    let meta = params.and_then(|params| params.get("_meta"));
    let version = meta.and_then(|meta| meta.get(META_VERSION)).and_then(Node::as_str);
    let name = headers::named(method, params).map(headers::encoded);
    let found = [(VERSION, version.map(str::to_owned)), (METHOD, Some(method.to_owned())), (NAME, name)];
    found.into_iter().filter_map(|(header, value)| Some((header, HeaderValue::from_str(&value?).ok()?))).collect()
}

/// Which arguments of which tools have to stand in headers.
#[derive(Default)]
pub(super) struct Annotated {
    tools: BTreeMap<String, Vec<Annotation>>,
}

impl Annotated {
    /// Looks at a result of `tools/list`.
    pub(super) fn learn(&mut self, result: &Node) {
        for tool in result.get("tools").and_then(Node::as_array).unwrap_or_default() {
            let (Some(name), Some(schema)) = (tool.get("name").and_then(Node::as_str), tool.get("inputSchema")) else {
                continue;
            };
            let mut found = Vec::new();
            annotations(schema, &mut Vec::new(), &mut found);
            if found.is_empty() {
                self.tools.remove(name);
            } else if self.tools.len() < TOOLS_MAX || self.tools.contains_key(name) {
                self.tools.insert(name.to_owned(), found);
            }
        }
    }

    /// The headers of a call with these parameters; `body` is what they were read from.
    pub(super) fn of(&self, params: Option<&Node>, body: &[u8]) -> Vec<Pair> {
        let name = params.and_then(|params| params.get("name")).and_then(Node::as_str).unwrap_or_default();
        let Some(arguments) = params.and_then(|params| params.get("arguments")) else { return Vec::new() };
        let annotated = self.tools.get(name).map(Vec::as_slice).unwrap_or_default();
        let pair = |(header, value): (String, String)| Some((header.parse().ok()?, value.parse().ok()?));
        headers::params(annotated, (Some(arguments), body)).into_iter().filter_map(pair).collect()
    }
}

/// Annotated properties that are reached through `properties` alone. A tool whose annotations are not valid is the
/// gateway's to refuse, so this is more lenient than [`headers::annotations`].
fn annotations(schema: &Node, path: &mut Vec<String>, out: &mut Vec<Annotation>) {
    if path.len() >= headers::DEPTH_MAX {
        return;
    }
    for (name, property) in schema.get("properties").and_then(Node::as_object).unwrap_or_default() {
        path.push(name.clone());
        let header = property.get(headers::ANNOTATION).and_then(Node::as_str);
        let header = header.and_then(|name| format!("{}{name}", headers::PARAM).parse::<HeaderName>().ok());
        if let Some(header) = header.filter(|_| out.len() < headers::ANNOTATIONS_MAX) {
            out.push(Annotation { header: header.as_str().to_owned(), path: path.clone() });
        }
        annotations(property, path, out);
        path.pop();
    }
}
