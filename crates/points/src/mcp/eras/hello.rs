//! Handshakes of one era as the other's. It must not know what of them is governed: that is `adapt::hello`.

use countersign_effects::json::{Node, parse};

use super::{AGAIN, SERVER};
use crate::mcp::wire::era::{self, LATEST_LEGACY, MODERN, TASKS};
use crate::mcp::wire::{quoted, splice};

/// The result of `server/discover` of an upstream that answered `initialize` with `hello`.
pub(crate) fn to_modern(input: &[u8], hello: &Node) -> Vec<u8> {
    let agreed = hello.get("protocolVersion").and_then(Node::as_str).filter(|version| era::is_legacy(version));
    let versions: Vec<String> = MODERN.into_iter().chain(agreed).map(quoted).collect();
    let mut members = vec![
        r#""resultType":"complete""#.to_owned(),
        format!(r#""supportedVersions":[{}]"#, versions.join(",")),
        format!(r#""capabilities":{}"#, capabilities(input, hello)),
        r#""ttlMs":0,"cacheScope":"private""#.to_owned(),
    ];
    members.extend(hello.get("instructions").map(|node| format!(r#""instructions":{}"#, text(node, input))));
    members.extend(hello.get("serverInfo").map(|node| format!(r#""_meta":{{"{SERVER}":{}}}"#, text(node, input))));
    format!("{{{}}}", members.join(",")).into_bytes()
}

/// The result of `initialize`, for a client that asked for the revision `asked`, of the upstream `id` that answered
/// `server/discover` with `hello`.
pub(crate) fn to_legacy(input: &[u8], hello: &Node, (asked, id): (&str, &str)) -> Vec<u8> {
    let version = if era::is_legacy(asked) { asked } else { LATEST_LEGACY };
    let server = hello.get("_meta").and_then(|meta| meta.get(SERVER)).or_else(|| hello.get("serverInfo"));
    let server = server.filter(|server| server.as_object().is_some()).map(|server| text(server, input));
    let server = server.unwrap_or_else(|| format!(r#"{{"name":{},"version":"0"}}"#, quoted(id)));
    let mut members = vec![
        format!(r#""protocolVersion":{}"#, quoted(version)),
        format!(r#""capabilities":{}"#, capabilities(input, hello)),
        format!(r#""serverInfo":{server}"#),
    ];
    members.extend(hello.get("instructions").map(|node| format!(r#""instructions":{}"#, text(node, input))));
    format!("{{{}}}", members.join(",")).into_bytes()
}

/// What a legacy client offers, raw, as a modern upstream may hear it; nothing where it cannot be read.
pub(crate) fn offered(capabilities: &[u8]) -> String {
    parse(capabilities, &AGAIN).map_or_else(|_| "{}".to_owned(), |all| without_tasks(capabilities, &all))
}

/// What the upstream offers, but for tasks.
fn capabilities(input: &[u8], hello: &Node) -> String {
    hello.get("capabilities").map_or_else(|| "{}".to_owned(), |all| without_tasks(input, all))
}

fn without_tasks(input: &[u8], all: &Node) -> String {
    let mut edits = splice::without(all, input, &|key| key == "tasks");
    if let Some(extensions) = all.get("extensions") {
        edits.extend(splice::without(extensions, input, &|key| key == TASKS));
    }
    edits.sort_by_key(|(span, _)| span.start);
    String::from_utf8_lossy(&splice::edited(input, &all.span, &edits)).into_owned()
}

fn text(node: &Node, input: &[u8]) -> String {
    String::from_utf8_lossy(node.raw(input)).into_owned()
}
