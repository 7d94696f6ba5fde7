//! Headers that a modern message has to carry besides its body (2026-07-28, `basic/transports/streamable-http`).
//!
//! `MCP-Protocol-Version`, `Mcp-Method` and `Mcp-Name` are read from the body. `Mcp-Param-*` come from `x-mcp-header` in
//! a tool's schema, so the schemas that pass in listings are looked at. It must not know what a method does. It does not
//! cover a tool whose schema never passed here: the gateway then says which header is missing (-32020).

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign_effects::json::{Node, Value};
use hyper::header::{HeaderName, HeaderValue};

const META_VERSION: &str = "io.modelcontextprotocol/protocolVersion";
const METHOD: HeaderName = HeaderName::from_static("mcp-method");
const NAME: HeaderName = HeaderName::from_static("mcp-name");
pub(super) const VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
const ANNOTATION: &str = "x-mcp-header";
const PARAM: &str = "mcp-param-";
/// Tools whose annotations are remembered.
const TOOLS_MAX: usize = 10_000;
/// Annotations of one tool.
const PARAMS_MAX: usize = 32;
/// The deepest annotated property.
const DEPTH_MAX: usize = 16;

/// A header with its value.
pub(super) type Pair = (HeaderName, HeaderValue);

/// What the body of a modern message says that its headers have to say too.
pub(super) fn of(method: &str, params: Option<&Node>) -> Vec<Pair> {
    let meta = params.and_then(|params| params.get("_meta"));
    let version = meta.and_then(|meta| meta.get(META_VERSION)).and_then(Node::as_str);
    let named = match method {
        "tools/call" | "prompts/get" => Some("name"),
        "resources/read" => Some("uri"),
        _ => None,
    };
    let name = named.and_then(|member| params?.get(member)).and_then(Node::as_str);
    let version = version.and_then(|version| HeaderValue::from_str(version).ok());
    let found = [(VERSION, version), (METHOD, HeaderValue::from_str(method).ok()), (NAME, name.and_then(encoded))];
    found.into_iter().filter_map(|(header, value)| Some((header, value?))).collect()
}

/// A text as a header's value: as it is where it can stand so, else in base64 between marks.
fn encoded(text: &str) -> Option<HeaderValue> {
    let is_plain = text.bytes().all(|byte| byte == b'\t' || (b' '..=b'~').contains(&byte));
    let is_marked = text.starts_with("=?base64?") && text.ends_with("?=");
    if is_plain && !is_marked && text.trim() == text {
        return HeaderValue::from_str(text).ok();
    }
    HeaderValue::from_str(&format!("=?base64?{}?=", STANDARD.encode(text))).ok()
}

/// Which arguments of which tools have to stand in headers.
#[derive(Default)]
pub(super) struct Annotated {
    tools: BTreeMap<String, Vec<(Vec<String>, HeaderName)>>,
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
        let value = |path: &[String]| {
            let found = path.iter().try_fold(arguments, |node, name| node.get(name))?;
            match &found.value {
                Value::String(text) => encoded(text),
                Value::Number | Value::Bool(_) => HeaderValue::from_bytes(found.raw(body)).ok(),
                Value::Null | Value::Array(_) | Value::Object(_) => None,
            }
        };
        annotated.iter().filter_map(|(path, header)| Some((header.clone(), value(path)?))).collect()
    }
}

/// Annotated properties that are reached through `properties` alone.
fn annotations(schema: &Node, path: &mut Vec<String>, out: &mut Vec<(Vec<String>, HeaderName)>) {
    if path.len() >= DEPTH_MAX {
        return;
    }
    for (name, property) in schema.get("properties").and_then(Node::as_object).unwrap_or_default() {
        path.push(name.clone());
        let header = property.get(ANNOTATION).and_then(Node::as_str);
        let header = header.and_then(|name| HeaderName::from_bytes(format!("{PARAM}{name}").as_bytes()).ok());
        if let Some(header) = header.filter(|_| out.len() < PARAMS_MAX) {
            out.push((path.clone(), header));
        }
        annotations(property, path, out);
        path.pop();
    }
}
