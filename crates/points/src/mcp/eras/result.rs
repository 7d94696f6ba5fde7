//! Results and errors of one era as the other's. It must not know what a result holds.

use countersign_effects::json::Node;
use countersign_model::ReasonCode;

use super::{SERVER, unknown};
use crate::mcp::execute::Kind;
use crate::mcp::wire::splice::{self, Edit};
use crate::mcp::wire::{FrameError, INTERNAL_ERROR, INVALID_PARAMS, quoted};

/// The member that says which kind of result it is.
const KIND: &str = "resultType";
/// The members that say how long it stays fresh, and for whom.
const CACHING: [&str; 2] = ["ttlMs", "cacheScope"];
/// The results that have them (2026-07-28, schema, `CacheableResult`), but for that of `server/discover`.
const CACHED: [&str; 5] =
    ["tools/list", "prompts/list", "resources/list", "resources/templates/list", "resources/read"];
/// No such resource (up to 2025-11-25); from 2026-07-28 on it is [`INVALID_PARAMS`].
const NO_RESOURCE: &str = "-32002";
/// The user has to open a page first (2025-11-25 only).
const OPEN_PAGE: &str = "-32042";

/// The result of `method` as revisions without a handshake have it. A legacy upstream's own members of these names mean
/// nothing in its era, so they get our values.
pub(crate) fn to_modern(method: &str, input: &[u8], result: &Node) -> Vec<u8> {
    let Some(members) = result.as_object() else { return result.raw(input).to_vec() };
    let mut wanted = vec![(KIND, r#""complete""#)];
    if CACHED.contains(&method) {
        wanted.extend([(CACHING[0], "0"), (CACHING[1], r#""private""#)]);
    }
    let mut edits: Vec<Edit> = Vec::new();
    let mut missing = Vec::new();
    for (name, value) in wanted {
        match result.get(name) {
            Some(found) => edits.push((found.span.clone(), value.to_owned())),
            None => missing.push(format!("{}:{value}", quoted(name))),
        }
    }
    if !missing.is_empty() {
        let inside = result.span.start.saturating_add(1);
        let comma = if members.is_empty() { "" } else { "," };
        edits.push((inside..inside, format!("{}{comma}", missing.join(","))));
    }
    edits.sort_by_key(|(span, _)| span.start);
    splice::edited(input, &result.span, &edits)
}

/// A result as revisions with a handshake have it.
///
/// # Errors
/// Where it is not the end of the request, which has no words there.
pub(crate) fn to_legacy((kind, method): (Kind, &str), input: &[u8], result: &Node) -> Result<Vec<u8>, FrameError> {
    match kind {
        Kind::Complete => {}
        Kind::InputRequired => {
            let detail = "the upstream asks for more than this client can be asked in its revision";
            return Err(FrameError {
                code: INTERNAL_ERROR,
                reason: ReasonCode::Unsupported,
                detail: detail.to_owned(),
            });
        }
        Kind::Task | Kind::Other => return Err(FrameError { code: INTERNAL_ERROR, ..unknown(method) }),
    }
    let meta = result.get("_meta").filter(|meta| meta.get(SERVER).is_some());
    let members = meta.and_then(Node::as_object).unwrap_or_default();
    let mut edits = splice::without(result, input, &|key| {
        key == KIND || CACHING.contains(&key) || (key == "_meta" && members.len() == 1)
    });
    if let Some(meta) = meta.filter(|_| members.len() > 1) {
        edits.extend(splice::without(meta, input, &|key| key == SERVER));
        edits.sort_by_key(|(span, _)| span.start);
    }
    Ok(splice::edited(input, &result.span, &edits))
}

/// A legacy error as revisions without a handshake have it.
pub(crate) fn error_to_modern(input: &[u8], error: &Node) -> Vec<u8> {
    let code = error.get("code");
    match code.map(|code| code.raw(input)) {
        Some(raw) if raw == NO_RESOURCE.as_bytes() => {
            let edits = code.map(|code| (code.span.clone(), INVALID_PARAMS.to_string()));
            splice::edited(input, &error.span, edits.as_slice())
        }
        Some(raw) if raw == OPEN_PAGE.as_bytes() => {
            let text = "the upstream wants a page to be opened first, which it can only ask in a session";
            refusal(&FrameError { code: INTERNAL_ERROR, ..FrameError::shape(text) })
        }
        _ => error.raw(input).to_vec(),
    }
}

/// The raw JSON-RPC error of what could not be said.
pub(crate) fn refusal(error: &FrameError) -> Vec<u8> {
    format!(r#"{{"code":{},"message":{}}}"#, error.code, quoted(&error.detail)).into_bytes()
}
