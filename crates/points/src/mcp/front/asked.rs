//! One request of a client, read and with everything known that its headers and its session say.
//!
//! It must not know what its method does.

use std::sync::Arc;

use bytes::Bytes;
use countersign_model::Caller;
use hyper::StatusCode;
use tokio::sync::mpsc;

use super::Session;
use super::checks::{Accepts, Mirroring};
use super::refusal::Refusal;
use super::respond::Hearing;
use crate::mcp::adapt;
use crate::mcp::execute::outbound::{Outbound, Progress};
use crate::mcp::route::{Endpoint, Params};
use crate::mcp::wire::{Era, FrameError, Id};

/// One request.
pub(super) struct Asked {
    pub(super) caller: Caller,
    pub(super) era: Era,
    pub(super) endpoint: Arc<Endpoint>,
    /// The session that it comes in; none in the modern era.
    pub(super) session: Option<Arc<Session>>,
    pub(super) id: Id,
    pub(super) method: String,
    pub(super) params: Params,
    pub(super) accepts: Accepts,
    /// The headers that mirror its body, in the modern era.
    pub(super) mirroring: Mirroring,
}

impl Asked {
    pub(super) fn refused(&self, error: &FrameError) -> Refusal {
        Refusal::rpc(StatusCode::BAD_REQUEST, Some(&self.id), error)
    }

    /// The request as it goes upstream with these parameters. Progress goes to `events`; its token is replaced in any
    /// case, for two clients may have chosen the same.
    pub(super) fn outbound(&self, params: &Params, events: Option<&mpsc::Sender<Bytes>>) -> Result<Outbound, Refusal> {
        let token = adapt::progress_token(params).map_err(|error| self.refused(&error))?;
        let progress = token.map(|(span, token)| {
            let events = events.cloned().unwrap_or_else(|| mpsc::channel(1).0);
            Progress::new(span, token, events)
        });
        Ok(Outbound { progress, ..Outbound::plain(self.method.clone(), params.raw()) })
    }

    /// For whom what the upstream at a place says is heard.
    pub(super) fn hearing(&self, at: usize) -> Option<Hearing> {
        Some(Hearing {
            upstream: self.endpoint.upstream(at)?.clone(),
            prefixed: self.endpoint.prefix(at).is_some(),
            caller: self.caller.clone(),
            session: self.session.clone(),
            stream: None,
        })
    }
}
