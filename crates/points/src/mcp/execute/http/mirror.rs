//! The headers that mirror a modern request (2026-07-28, `basic/transports/streamable-http`, "Request Metadata").
//!
//! They are made from the body that is sent, so they cannot say anything else. It must not know connections. It does not
//! cover which arguments a tool's schema asks to be mirrored: whoever made the request gives those.

#[cfg(test)]
mod tests;

use countersign_effects::json;
use hyper::header::{HeaderName, HeaderValue};

use crate::mcp::execute::link::LinkError;
use crate::mcp::execute::outbound::{Outbound, reading};
use crate::mcp::wire::headers::{self, META_VERSION, PARAM, encoded, named};

const METHOD: HeaderName = HeaderName::from_static(headers::METHOD);
const NAME: HeaderName = HeaderName::from_static(headers::NAME);

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

fn plain(text: &str) -> Result<HeaderValue, LinkError> {
    HeaderValue::from_str(text).map_err(|_| impossible(text))
}

fn impossible(what: &str) -> LinkError {
    let shown: String = what.escape_default().take(80).collect();
    LinkError::Unreachable(format!("`{shown}` is no possible header"))
}
