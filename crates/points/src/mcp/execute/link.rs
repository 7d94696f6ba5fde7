//! One live connection to an upstream, whichever transport it has.
//!
//! It must not know how a connection is opened again: that is the supervisor's.

use std::sync::Arc;

use bytes::Bytes;
use countersign_gate::call::Executed;
use tokio_util::sync::CancellationToken;

use super::http::HttpLink;
use super::leave::Leave;
use super::outbound::{Outbound, Reply};
use super::pipe::Pipe;
use crate::mcp::wire::FrameError;

/// Why an exchange that is not an action failed.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// Too many requests are in flight.
    #[error("too many requests are in flight towards the upstream")]
    Busy,
    /// The upstream did not answer in time.
    #[error("the upstream did not answer in time")]
    Timeout,
    /// The connection ended.
    #[error("the upstream went away")]
    Gone,
    /// The upstream could not be reached.
    #[error("the upstream could not be reached: {0}")]
    Unreachable(String),
    /// The upstream's program is not the one that was pinned; nothing was started.
    #[error("it is not started: {0}")]
    Refused(String),
    /// The upstream answered with an HTTP status that is no answer.
    #[error("the upstream answered with HTTP status {0}")]
    Status(u16),
    /// The upstream's answer is too long or no message.
    #[error("the upstream's answer cannot be read: {0}")]
    Unreadable(String),
}

impl From<FrameError> for LinkError {
    fn from(error: FrameError) -> Self {
        Self::Unreadable(error.detail)
    }
}

/// One live connection.
#[derive(Clone)]
pub(crate) enum Link {
    Pipe(Arc<Pipe>),
    Http(Arc<HttpLink>),
}

impl Link {
    pub(crate) async fn call<L: Leave>(&self, leave: L, request: &Outbound) -> Executed<Reply> {
        match self {
            Self::Pipe(pipe) => pipe.call(leave, request).await,
            Self::Http(http) => http.call(leave, request).await,
        }
    }

    pub(crate) async fn exchange(&self, request: &Outbound) -> Result<Reply, LinkError> {
        match self {
            Self::Pipe(pipe) => pipe.exchange(request).await,
            Self::Http(http) => http.exchange(request).await,
        }
    }

    pub(crate) async fn notify(&self, frame: Vec<u8>) -> Result<(), LinkError> {
        match self {
            Self::Pipe(pipe) => pipe.notify(&frame).await,
            Self::Http(http) => http.notify(frame).await,
        }
    }

    /// Tells the transport which revision was agreed on, once the handshake is done.
    pub(crate) fn agree(&self, version: &str, changes: &tokio::sync::broadcast::Sender<Bytes>) {
        if let Self::Http(http) = self {
            http.agree(version, changes.clone());
        }
    }

    pub(crate) fn closed(&self) -> &CancellationToken {
        match self {
            Self::Pipe(pipe) => pipe.closed(),
            Self::Http(http) => http.closed(),
        }
    }

    /// Says good-bye where the transport has a word for it.
    pub(crate) async fn farewell(&self) {
        if let Self::Http(http) = self {
            http.farewell().await;
        }
    }

    pub(crate) fn close(&self) {
        match self {
            Self::Pipe(pipe) => pipe.close(),
            Self::Http(http) => http.close(),
        }
    }
}
