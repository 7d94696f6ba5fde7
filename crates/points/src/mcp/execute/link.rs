//! One live connection to an upstream, whichever transport it has.
//!
//! It must not know how a connection is opened again: that is the supervisor's.

use std::sync::Arc;

use countersign_gate::call::Executed;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::audience::Member;
use super::http::HttpLink;
use super::leave::Leave;
use super::outbound::{Outbound, Reply};
use super::pipe::Pipe;
use super::sse::SseLink;
use crate::mcp::wire::{Era, FrameError};

/// Why an exchange that is not an action failed.
#[derive(Clone, Debug, thiserror::Error)]
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
    /// The upstream does not speak the era that is asked for.
    #[error("the upstream does not speak this era of the protocol")]
    OtherEra,
    /// Too many sessions are open.
    #[error("too many sessions are open at the upstream")]
    Full,
    /// The upstream's answer is too long or no message.
    #[error("the upstream's answer cannot be read: {0}")]
    Unreadable(String),
    /// What it is to be opened with cannot be sent.
    #[error("the credential is no possible header")]
    Credential,
}

impl LinkError {
    /// Whether it may be otherwise later, with nothing changed on this side.
    pub(super) const fn may_pass(&self) -> bool {
        match self {
            Self::Busy | Self::Timeout | Self::Gone | Self::Unreachable(_) | Self::Full => true,
            Self::Status(status) => *status >= 500,
            Self::Refused(_) | Self::OtherEra | Self::Unreadable(_) | Self::Credential => false,
        }
    }
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
    Sse(Arc<SseLink>),
}

impl Link {
    /// Carries out an action of the client `member`.
    pub(crate) async fn call<L: Leave>(&self, leave: L, request: (&Outbound, Member)) -> Executed<Reply> {
        match self {
            Self::Pipe(pipe) => pipe.call(leave, request).await,
            Self::Http(http) => http.call(leave, request.0).await,
            Self::Sse(sse) => sse.call(leave, request).await,
        }
    }

    pub(crate) async fn exchange(&self, request: &Outbound, member: Member) -> Result<Reply, LinkError> {
        match self {
            Self::Pipe(pipe) => pipe.exchange(request, member).await,
            Self::Http(http) => http.exchange(request).await,
            Self::Sse(sse) => sse.exchange(request, member).await,
        }
    }

    /// One stream of notifications, until the upstream or `ended` ends it.
    pub(crate) async fn listen(
        &self,
        request: (&Outbound, Member),
        ended: &CancellationToken,
    ) -> Result<Reply, LinkError> {
        match self {
            Self::Pipe(pipe) => pipe.listen(request, ended).await,
            Self::Http(http) => http.listen(request.0, ended).await,
            Self::Sse(_) => Err(LinkError::OtherEra),
        }
    }

    pub(crate) async fn notify(&self, frame: Vec<u8>) -> Result<(), LinkError> {
        match self {
            Self::Pipe(pipe) => pipe.notify(&frame).await,
            Self::Http(http) => http.notify(frame).await,
            Self::Sse(sse) => sse.notify(frame).await,
        }
    }

    /// Tells the transport what was agreed on, once the handshake is done.
    pub(crate) fn agree(&self, era: Era, version: &str) {
        match self {
            Self::Pipe(pipe) => pipe.speak(era),
            Self::Http(http) if era == Era::Legacy => http.agree(version),
            Self::Http(_) | Self::Sse(_) => {}
        }
    }

    /// Listens to what the upstream says outside of requests, where that needs a stream of its own. What comes out ends
    /// once the upstream has answered whether it offers one.
    pub(crate) fn attend(&self) -> oneshot::Receiver<()> {
        let (answered, is_answered) = oneshot::channel();
        if let Self::Http(http) = self {
            tokio::spawn(Arc::clone(http).attend(answered));
        }
        is_answered
    }

    pub(crate) fn closed(&self) -> &CancellationToken {
        match self {
            Self::Pipe(pipe) => pipe.closed(),
            Self::Http(http) => http.closed(),
            Self::Sse(sse) => sse.closed(),
        }
    }

    /// Says good-bye where the transport has a word for it.
    pub(crate) async fn farewell(&self) {
        if let Self::Http(http) = self {
            http.farewell().await;
        }
    }

    /// Whether its end is to be counted against the upstream. What becomes of a server elsewhere is never known to be
    /// anybody's doing but its own.
    pub(crate) fn is_faulty(&self) -> bool {
        match self {
            Self::Pipe(pipe) => pipe.is_faulty(),
            Self::Http(_) | Self::Sse(_) => true,
        }
    }

    pub(crate) fn close(&self) {
        match self {
            Self::Pipe(pipe) => pipe.close(),
            Self::Http(http) => http.close(),
            Self::Sse(sse) => sse.close(),
        }
    }
}
