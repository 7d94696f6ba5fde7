//! Requests of one era as the other's: what stands in their `_meta` beside the parameters. It must not know how a request
//! travels.

use std::ops::Range;

use bytes::Bytes;
use countersign_effects::json::{Node, parse};

use super::{AGAIN, unknown, wrong};
use crate::mcp::wire::era::{LATEST_MODERN, META_VERSION};
use crate::mcp::wire::headers::{META_CAPABILITIES, META_CLIENT};
use crate::mcp::wire::log::Level;
use crate::mcp::wire::splice::{self, Edit};
use crate::mcp::wire::{FrameError, quoted};

/// The member of `_meta` with the level of the log that a request asks for.
const META_LEVEL: &str = "io.modelcontextprotocol/logLevel";
/// What only requests without a handshake say.
const MODERN_META: [&str; 4] = [META_VERSION, META_CAPABILITIES, META_CLIENT, META_LEVEL];
/// What makes a request one for a task in revisions with a handshake. An upstream that was not told of tasks takes no
/// notice of it.
const LEGACY_TASK: &str = "task";

/// A request in the words of the other era.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) params: Option<Bytes>,
    /// Where the token for progress stands in the parameters.
    pub(crate) token: Option<Range<usize>>,
    /// The level of the log that it asks for.
    pub(crate) level: Option<Level>,
}

/// What a client said once that has to be said with every request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Speaker<'a> {
    /// Raw capabilities.
    pub(crate) capabilities: &'a [u8],
    /// Raw name and version.
    pub(crate) client: &'a [u8],
    /// The level that it set.
    pub(crate) level: Option<Level>,
}

/// A request without a handshake as one within a session.
///
/// # Errors
/// What revisions with a handshake have no words for.
pub(crate) fn to_legacy(method: &str, params: Option<&Bytes>) -> Result<Said, FrameError> {
    if method.starts_with("tasks/") {
        return Err(unknown(method));
    }
    let Some(raw) = params else { return Ok(Said { params: None, token: None, level: None }) };
    let node = parse(raw, &AGAIN)?;
    if ["requestState", "inputResponses"].iter().any(|key| node.get(key).is_some()) {
        return Err(wrong("the upstream speaks a revision in which it asked nothing that could be answered so"));
    }
    let level = node.get("_meta").and_then(|meta| meta.get(META_LEVEL)).and_then(Node::as_str);
    let level = level.map(|name| Level::named(name).ok_or_else(|| wrong("`logLevel` is no level"))).transpose()?;
    let edits = edits(&node, raw, &[]);
    said(splice::edited(raw, &node.span, &edits).into(), level)
}

/// A request within a session as one that says for itself who asks.
///
/// # Errors
/// What revisions without a handshake have no words for.
pub(crate) fn to_modern(method: &str, params: Option<&Bytes>, speaker: &Speaker<'_>) -> Result<Said, FrameError> {
    if method.starts_with("tasks/") {
        return Err(unknown(method));
    }
    let raw = params.cloned().unwrap_or_else(|| Bytes::from_static(b"{}"));
    let node = parse(&raw, &AGAIN)?;
    let edits = edits(&node, &raw, &own_meta(speaker));
    said(splice::edited(&raw, &node.span, &edits).into(), None)
}

/// The members of `_meta` that every request without a handshake has; raw values.
fn own_meta(speaker: &Speaker<'_>) -> Vec<(&'static str, String)> {
    let text = |raw: &[u8]| String::from_utf8_lossy(raw).into_owned();
    let mut own = vec![
        (META_VERSION, quoted(LATEST_MODERN)),
        (META_CAPABILITIES, text(speaker.capabilities)),
        (META_CLIENT, text(speaker.client)),
    ];
    own.extend(speaker.level.map(|level| (META_LEVEL, quoted(level.name()))));
    own
}

/// Parameters of a request of the client's that the gateway makes; `more` are raw members, each after a comma.
pub(crate) fn made(speaker: &Speaker<'_>, more: &str) -> Bytes {
    format!(r#"{{"_meta":{{{}}}{more}}}"#, listed(&own_meta(speaker))).into()
}

fn listed(members: &[(&str, String)]) -> String {
    members.iter().map(|(name, value)| format!("{}:{value}", quoted(name))).collect::<Vec<_>>().join(",")
}

/// The edits that take out what only one era says, and put `own` into `_meta`.
fn edits(node: &Node, input: &[u8], own: &[(&'static str, String)]) -> Vec<Edit> {
    let is_task = |key: &str| key == LEGACY_TASK;
    let mut edits = splice::without(node, input, &is_task);
    let is_own = |key: &str| MODERN_META.contains(&key);
    let inside = |node: &Node| node.span.start.saturating_add(1)..node.span.start.saturating_add(1);
    let stays = |node: &Node, drops: &dyn Fn(&str) -> bool| {
        node.as_object().unwrap_or_default().iter().any(|(key, _)| !drops(key))
    };
    let comma = |more: bool| if more { "," } else { "" };
    match node.get("_meta") {
        Some(meta) if meta.as_object().is_some() => {
            if !own.is_empty() {
                edits.push((inside(meta), format!("{}{}", listed(own), comma(stays(meta, &is_own)))));
            }
            edits.extend(splice::without(meta, input, &is_own));
        }
        Some(meta) if !own.is_empty() => edits.push((meta.span.clone(), format!("{{{}}}", listed(own)))),
        None if !own.is_empty() => {
            let text = format!(r#""_meta":{{{}}}{}"#, listed(own), comma(stays(node, &is_task)));
            edits.push((inside(node), text));
        }
        Some(_) | None => {}
    }
    // Where one is put in and another taken out at the same place, the one that is put in comes first.
    edits.sort_by_key(|(span, _)| (span.start, span.end));
    edits
}

fn said(params: Bytes, level: Option<Level>) -> Result<Said, FrameError> {
    let node = parse(&params, &AGAIN)?;
    let token = node.get("_meta").and_then(|meta| meta.get("progressToken")).map(|token| token.span.clone());
    Ok(Said { params: Some(params), token, level })
}
