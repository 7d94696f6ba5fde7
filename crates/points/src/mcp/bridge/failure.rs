//! What went wrong on the way to the gateway, as a client is told of it: a JSON-RPC error with a remedy.
//!
//! Whether something may have happened is what a client has to know most: each failure says it.

use bytes::Bytes;
use hyper::StatusCode;

use crate::mcp::wire::{INTERNAL_ERROR, Id, NOT_STARTED, OUTCOME_UNKNOWN, error_frame};

/// The longest text of the gateway that is passed on in a message, in characters.
const SAID_CHARS_MAX: usize = 400;

/// Why a request has no answer of the gateway's own.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Failure {
    /// Nothing was sent.
    #[error("the gateway cannot be reached at `{place}` ({why}); nothing was sent: start it with `countersign up`")]
    Unreachable { place: String, why: String },
    /// Sent, and the answer is lost.
    #[error(
        "the connection to the gateway broke before the answer came: it may have happened. Check before you repeat it"
    )]
    Lost,
    /// The answer cannot be read.
    #[error("the gateway's answer cannot be read ({0}): it may have happened. Check before you repeat it")]
    Unreadable(String),
    /// The gateway refused the token.
    #[error(
        "the gateway refused the token ({said}); nothing was done: put a good one into the token file and restart this client's server. Its operator issues tokens with `countersign token issue`"
    )]
    Token { said: String },
    /// The gateway no longer knows the session.
    #[error("the gateway no longer knew this session, so nothing was done; {0}")]
    Session(&'static str),
    /// It refused the request before it was a message.
    #[error("the gateway refused the request with HTTP status {status} ({said}); nothing was done")]
    Refused { status: u16, said: String },
    /// Something in front of it, or it, failed.
    #[error("the gateway failed with HTTP status {status} ({said}): it may have happened. Check before you repeat it")]
    Failed { status: u16, said: String },
    /// Too many requests are in flight here.
    #[error("too many requests are in flight; nothing was sent: try again when some were answered")]
    Busy,
    /// A JSON-RPC error of the gateway that named no request: its raw bytes, under the request's id.
    #[error("the gateway refused it: {}", String::from_utf8_lossy(.0))]
    Said(Bytes),
}

impl Failure {
    /// What an HTTP status without a message of the protocol means. `said` is the body's own text.
    pub(super) fn of_status(status: StatusCode, had_session: bool, said: &str) -> Self {
        let said: String = said.chars().take(SAID_CHARS_MAX).collect();
        match status {
            StatusCode::UNAUTHORIZED => Self::Token { said },
            StatusCode::NOT_FOUND if had_session => Self::Session("restart this client's server"),
            _ if status.is_server_error() && status != StatusCode::SERVICE_UNAVAILABLE => {
                Self::Failed { status: status.as_u16(), said }
            }
            _ if status.is_success() => Self::Unreadable(said),
            _ => Self::Refused { status: status.as_u16(), said },
        }
    }

    /// The JSON-RPC code, and the word that our own errors carry for programs.
    const fn code(&self) -> (i32, &'static str) {
        match self {
            Self::Lost | Self::Unreadable(_) | Self::Failed { .. } => (OUTCOME_UNKNOWN, "unknown"),
            Self::Said(_) => (INTERNAL_ERROR, "failed"),
            _ => (NOT_STARTED, "not_started"),
        }
    }

    /// The answer to the request `id`.
    pub(super) fn frame(&self, id: Option<&Id>) -> Vec<u8> {
        if let Self::Said(error) = self {
            let id = id.map_or("null", Id::raw);
            return [format!(r#"{{"jsonrpc":"2.0","id":{id},"error":"#).as_bytes(), error.as_ref(), b"}"].concat();
        }
        let (code, status) = self.code();
        let data = format!(r#"{{"countersign":{{"status":"{status}"}}}}"#);
        error_frame(id, code, &self.to_string(), Some(&data))
    }
}
