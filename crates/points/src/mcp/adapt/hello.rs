//! Handshakes as clients see them: the upstream's own, its capabilities cut down to what is governed; for several
//! upstreams, one of ours that promises what any of them offers. Pure. It must not know channels or callers.

use std::sync::Arc;

use countersign_effects::json::Node;
use countersign_model::id::UpstreamId;
use serde_json::{Map, Value, json};

use super::forced_private;
use crate::mcp::execute::Hello;
use crate::mcp::methods::EXTENSIONS;
use crate::mcp::wire::era::{self, LATEST_LEGACY, MODERN};
use crate::mcp::wire::splice::Edit;
use crate::mcp::wire::{Era, quoted, splice};

/// The capabilities of an upstream that are governed here, whole.
const GOVERNED: [&str; 6] = ["tools", "prompts", "resources", "completions", "logging", "tasks"];
/// What a client may offer that no upstream hears of: an upstream that starts tasks at a client could not be followed.
const KEPT_BACK: &str = "tasks";

/// The upstream's own result, raw but for `capabilities` and what must not be promised beyond them. `extensions` are those
/// that the operator lets pass besides.
pub(crate) fn alone(input: &[u8], result: &Node, extensions: &[String]) -> Vec<u8> {
    let mut edits: Vec<Edit> = forced_private(result).into_iter().collect();
    if let Some(capabilities) = result.get("capabilities") {
        let is_whole = |(key, node): &(String, Node)| is_governed(key, node, extensions);
        if !capabilities.as_object().unwrap_or_default().iter().all(is_whole) {
            edits.push((capabilities.span.clone(), governed(capabilities, input, extensions)));
        }
    }
    if let Some(versions) = result.get("supportedVersions") {
        edits.extend(served(versions, input));
    }
    edits.sort_by_key(|(span, _)| span.start);
    splice::edited(input, &result.span, &edits)
}

fn is_governed(key: &str, node: &Node, extensions: &[String]) -> bool {
    match key {
        "extensions" => node.as_object().unwrap_or_default().iter().all(|(name, _)| is_heard_of(name, extensions)),
        _ => GOVERNED.contains(&key),
    }
}

fn is_heard_of(extension: &str, listed: &[String]) -> bool {
    EXTENSIONS.contains(&extension) || listed.iter().any(|name| name == extension)
}

/// The governed capabilities, each as it stood.
fn governed(capabilities: &Node, input: &[u8], extensions: &[String]) -> String {
    let mut kept = Vec::new();
    for (key, node) in capabilities.as_object().unwrap_or_default() {
        if GOVERNED.contains(&key.as_str()) {
            kept.push(member(key, node.raw(input)));
        } else if key == "extensions" {
            let members = node.as_object().unwrap_or_default().iter();
            let members = members.filter(|(name, _)| is_heard_of(name, extensions));
            let inner: Vec<String> = members.map(|(name, node)| member(name, node.raw(input))).collect();
            kept.push(format!(r#""extensions":{{{}}}"#, inner.join(",")));
        }
    }
    format!("{{{}}}", kept.join(","))
}

fn member(key: &str, raw: &[u8]) -> String {
    format!("{}:{}", quoted(key), String::from_utf8_lossy(raw))
}

/// The edit that leaves out revisions that are not served here.
fn served(versions: &Node, input: &[u8]) -> Option<Edit> {
    let all = versions.as_array()?;
    let is_served = |node: &&Node| node.as_str().is_some_and(era::is_served);
    let kept: Vec<String> =
        all.iter().filter(is_served).map(|node| String::from_utf8_lossy(node.raw(input)).into_owned()).collect();
    (kept.len() < all.len()).then(|| (versions.span.clone(), format!("[{}]", kept.join(","))))
}

/// The revisions that an upstream's `server/discover` says and that are served here; the modern ones of ours where it says
/// none.
pub(crate) fn versions(hello: Option<&Hello>) -> Vec<String> {
    let said = hello.and_then(|hello| hello.result().get("supportedVersions")?.as_array());
    let said = said.unwrap_or_default().iter().filter_map(Node::as_str).filter(|version| era::is_served(version));
    let said: Vec<String> = said.map(str::to_owned).collect();
    if said.is_empty() { MODERN.iter().map(|&version| version.to_owned()).collect() } else { said }
}

/// One result for several upstreams, each with its id, in their order.
pub(crate) fn merged(era: Era, hellos: &[(UpstreamId, Arc<Hello>)], asked: &str) -> Vec<u8> {
    let mut capabilities = Value::Object(Map::new());
    let mut instructions = Vec::new();
    for (id, hello) in hellos {
        let input = hello.frame().bytes();
        // What the operator lists passes at the endpoint of its upstream alone: its methods name none.
        let kept = hello.capabilities().map(|node| governed(node, input, &[])).unwrap_or_default();
        if let Ok(kept) = serde_json::from_str(&kept) {
            unite(&mut capabilities, kept);
        }
        if let Some(text) = hello.result().get("instructions").and_then(Node::as_str) {
            instructions.push(format!("# {id}\n\n{text}"));
        }
    }
    let server = json!({ "name": "countersign", "version": env!("CARGO_PKG_VERSION") });
    let mut result = match era {
        Era::Legacy => {
            let version = if era::is_legacy(asked) { asked } else { LATEST_LEGACY };
            json!({ "protocolVersion": version, "capabilities": capabilities, "serverInfo": server })
        }
        Era::Modern => json!({
            "resultType": "complete",
            "supportedVersions": MODERN,
            "capabilities": capabilities,
            "ttlMs": 0,
            "cacheScope": "private",
            "_meta": { "io.modelcontextprotocol/serverInfo": server },
        }),
    };
    if let (false, Some(members)) = (instructions.is_empty(), result.as_object_mut()) {
        members.insert("instructions".to_owned(), instructions.join("\n\n").into());
    }
    result.to_string().into_bytes()
}

/// What either offers: objects are united, and one yes is a yes.
fn unite(all: &mut Value, more: Value) {
    match (all, more) {
        (Value::Object(all), Value::Object(more)) => {
            for (key, value) in more {
                match all.get_mut(&key) {
                    Some(known) => unite(known, value),
                    None => {
                        all.insert(key, value);
                    }
                }
            }
        }
        (Value::Bool(all), Value::Bool(more)) => *all |= more,
        _ => {}
    }
}

/// What a client offers, as an upstream may hear it.
pub(crate) fn offered(capabilities: &Node, input: &[u8]) -> Vec<u8> {
    let members = capabilities.as_object().unwrap_or_default();
    if !members.iter().any(|(key, _)| key == KEPT_BACK) {
        return capabilities.raw(input).to_vec();
    }
    let kept = members.iter().filter(|(key, _)| key != KEPT_BACK);
    let kept: Vec<String> = kept.map(|(key, node)| member(key, node.raw(input))).collect();
    format!("{{{}}}", kept.join(",")).into_bytes()
}
