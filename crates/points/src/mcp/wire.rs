//! MCP on the wire, without any I/O: frames, ids, eras, event streams, lines and splices over raw bytes.
//!
//! It reads the envelope and keeps the bytes: nothing is re-serialised, so what passes, passes unchanged. It must
//! not know sessions, callers, upstreams or sockets. It does not cover what a method means: that is `adapt`.
//! Specification: modelcontextprotocol.io 2025-11-25, `basic` and `basic/transports`; JSON-RPC 2.0.

pub mod envelope;
pub mod era;
pub mod headers;
pub mod line;
pub mod log;
pub mod splice;
pub mod sse;

pub use envelope::{Frame, FrameError, Id, Message, Outcome};
pub use era::Era;

#[cfg(test)]
mod tests;

/// JSON-RPC: the bytes are not JSON.
pub const PARSE_ERROR: i32 = -32700;
/// JSON-RPC: the JSON is not a request.
pub const INVALID_REQUEST: i32 = -32600;
/// JSON-RPC: no such method here.
pub const METHOD_NOT_FOUND: i32 = -32601;
/// JSON-RPC: the parameters do not fit the method.
pub const INVALID_PARAMS: i32 = -32602;
/// JSON-RPC: something went wrong on this side.
pub const INTERNAL_ERROR: i32 = -32603;
/// Ours: the upstream could not be reached, so nothing was sent.
pub const NOT_STARTED: i32 = -32010;
/// Ours: the action was sent and its outcome is not known.
pub const OUTCOME_UNKNOWN: i32 = -32011;
/// Ours: policy does not allow it, and nothing happened.
pub const DENIED: i32 = -32012;
/// Ours: it waits for a human's consent, and nothing happened.
pub const PENDING: i32 = -32013;
/// Headers and body differ (2026-07-28, schema, `HEADER_MISMATCH`).
pub const HEADER_MISMATCH: i32 = -32020;
/// The client does not declare a capability that is needed (2026-07-28, schema, `MISSING_REQUIRED_CLIENT_CAPABILITY`).
pub const MISSING_CAPABILITY: i32 = -32021;
/// The revision is not served (2026-07-28, schema, `UNSUPPORTED_PROTOCOL_VERSION`).
pub const UNSUPPORTED_VERSION: i32 = -32022;

/// A JSON string literal of `text`.
#[must_use]
pub fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A JSON-RPC error response. `data` is raw JSON.
#[must_use]
pub fn error_frame(id: Option<&Id>, code: i32, message: &str, data: Option<&str>) -> Vec<u8> {
    let id = id.map_or("null", Id::raw);
    let data = data.map(|data| format!(r#","data":{data}"#)).unwrap_or_default();
    let message = quoted(message);
    format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":{code},"message":{message}{data}}}}}"#).into_bytes()
}

/// A JSON-RPC response whose member `result` or `error` is raw JSON.
#[must_use]
pub fn response_frame(id: &Id, member: &str, raw: &[u8]) -> Vec<u8> {
    let head = format!(r#"{{"jsonrpc":"2.0","id":{},"{member}":"#, id.raw());
    [head.as_bytes(), raw, b"}"].concat()
}

/// A JSON-RPC request of ours towards an upstream.
#[must_use]
pub fn request_frame(id: u64, method: &str, params: Option<&[u8]>) -> Vec<u8> {
    let head = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":{}"#, quoted(method));
    match params {
        Some(params) => [head.as_bytes(), br#","params":"#, params, b"}"].concat(),
        None => [head.as_bytes(), b"}"].concat(),
    }
}

/// A JSON-RPC notification. `params` is raw JSON.
#[must_use]
pub fn notification_frame(method: &str, params: Option<&str>) -> Vec<u8> {
    let params = params.map(|params| format!(r#","params":{params}"#)).unwrap_or_default();
    format!(r#"{{"jsonrpc":"2.0","method":{}{params}}}"#, quoted(method)).into_bytes()
}
