//! The headers that mirror a modern request (2026-07-28, `basic/transports/streamable-http`, "Request Metadata").
//!
//! They are made from the body that is sent, so they cannot say anything else. It must not know connections. It does not
//! cover which arguments a tool's schema asks to be mirrored: whoever made the request gives those.

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_travel_in_headers() {
        for (text, wanted) in [
            ("us-west1", "us-west1"),
            ("", ""),
            ("Hello, 世界", "=?base64?SGVsbG8sIOS4lueVjA==?="),
            (" padded ", "=?base64?IHBhZGRlZCA=?="),
            ("line1\nline2", "=?base64?bGluZTEKbGluZTI=?="),
            ("=?base64?literal?=", "=?base64?PT9iYXNlNjQ/bGl0ZXJhbD89?="),
        ] {
            assert_eq!(encoded(text), wanted, "{text}");
        }
    }

    fn shown(request: &Outbound) -> Result<String, String> {
        let made = mirrored(request, "2026-07-28").map_err(|error| error.to_string())?;
        let others: Vec<String> =
            made.others.iter().map(|(name, value)| format!("{name}={}", value.to_str().unwrap())).collect();
        Ok(format!("{} {}", made.version.to_str().unwrap(), others.join(" ")))
    }

    #[test]
    fn headers_say_what_the_body_says() {
        let of = |method: &'static str, params: &str| Outbound::plain(method, Some(params.to_owned().into()));
        for (request, wanted) in [
            (of("tools/call", r#"{"name":"a"}"#), "2026-07-28 mcp-method=tools/call mcp-name=a"),
            (
                of(
                    "resources/read",
                    r#"{"uri":"f:/é","_meta":{"io.modelcontextprotocol/protocolVersion":"2027-01-01"}}"#,
                ),
                "2027-01-01 mcp-method=resources/read mcp-name==?base64?Zjovw6k=?=",
            ),
            (of("tools/list", r#"{"name":"a"}"#), "2026-07-28 mcp-method=tools/list"),
            (Outbound::plain("server/discover", None), "2026-07-28 mcp-method=server/discover"),
        ] {
            assert_eq!(shown(&request).unwrap(), wanted);
        }
        let mut with = of("tools/call", r#"{"name":"a"}"#);
        with.param_headers = vec![("Mcp-Param-Region".to_owned(), "eu".to_owned())];
        assert_eq!(shown(&with).unwrap(), "2026-07-28 mcp-method=tools/call mcp-name=a mcp-param-region=eu");
        for (name, value) in [("authorization", "x"), ("mcp-param-a", "x\r\ny: z"), ("mcp param", "x")] {
            with.param_headers = vec![(name.to_owned(), value.to_owned())];
            assert!(shown(&with).is_err(), "{name}");
        }
    }
}
