//! The headers that mirror a modern request (2026-07-28, `basic/transports/streamable-http`, "Request Metadata").
//!
//! They are made from the body that is sent, so they cannot say anything else. It must not know connections. It does not
//! cover which arguments a tool's schema asks to be mirrored: whoever made the request gives those.

#[cfg(test)]
mod tests;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use countersign_effects::json::{self, Node};
use hyper::header::{HeaderName, HeaderValue};

use crate::mcp::execute::link::LinkError;
use crate::mcp::execute::outbound::{Outbound, reading};
use crate::mcp::wire::era::META_VERSION;

const METHOD: HeaderName = HeaderName::from_static("mcp-method");
const NAME: HeaderName = HeaderName::from_static("mcp-name");
const PARAM: &str = "mcp-param-";
const OPEN: &str = "=?base64?";
const CLOSE: &str = "?=";

/// What one request says in its headers.
#[derive(Debug)]
pub(crate) struct Mirrored {
    pub(crate) version: HeaderValue,
    pub(crate) others: Vec<(HeaderName, HeaderValue)>,
}

/// The headers of `request`; `version` is its revision where its `_meta` names none.
pub(crate) fn mirrored(request: &Outbound, version: &str) -> Result<Mirrored, LinkError> {
    let params = request.params.as_deref().map(|raw| json::parse(raw, &reading(usize::MAX))).transpose();
    let params = params.map_err(|error| impossible(&error.to_string()))?;
    let params = params.as_ref();
    let own = params.and_then(|params| params.get("_meta")?.get(META_VERSION)?.as_str());
    let mut others = vec![(METHOD, plain(&request.method)?)];
    if let Some(name) = named(&request.method, params) {
        others.push((NAME, plain(&encoded(name))?));
    }
    for (name, value) in &request.param_headers {
        let name: HeaderName = name.parse().map_err(|_| impossible(name))?;
        if !name.as_str().starts_with(PARAM) {
            return Err(impossible(name.as_str()));
        }
        others.push((name, plain(value)?));
    }
    Ok(Mirrored { version: plain(own.unwrap_or(version))?, others })
}

/// What `Mcp-Name` mirrors.
fn named<'a>(method: &str, params: Option<&'a Node>) -> Option<&'a str> {
    let member = match method {
        "tools/call" | "prompts/get" => "name",
        "resources/read" => "uri",
        // Extension `io.modelcontextprotocol/tasks`.
        "tasks/get" | "tasks/update" | "tasks/cancel" => "taskId",
        _ => return None,
    };
    params?.get(member)?.as_str()
}

/// What cannot stand in a header as it is travels as base64 between marks.
fn encoded(text: &str) -> String {
    let edge = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    let bytes = text.as_bytes();
    let is_marked = text.starts_with(OPEN) && text.ends_with(CLOSE);
    let is_bare = bytes.iter().all(|byte| matches!(byte, b' '..=b'~'));
    if is_bare && !edge(bytes.first()) && !edge(bytes.last()) && !is_marked {
        text.to_owned()
    } else {
        format!("{OPEN}{}{CLOSE}", BASE64_STANDARD.encode(text))
    }
}

fn plain(text: &str) -> Result<HeaderValue, LinkError> {
    HeaderValue::from_str(text).map_err(|_| impossible(text))
}

fn impossible(what: &str) -> LinkError {
    let shown: String = what.escape_default().take(80).collect();
    LinkError::Unreachable(format!("`{shown}` is no possible header"))
}
