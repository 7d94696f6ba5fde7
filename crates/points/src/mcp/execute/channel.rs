//! What one client session is towards one upstream: its exchanges, its actions, and what the upstream says to it.
//!
//! A channel speaks one era and knows the handshake of that era. Clones are handles of the same. It must not know the
//! client's transport, and it decides nothing: an action goes through it only in the hands of an `Executor`.

use std::sync::Arc;

use bytes::Bytes;
use countersign_gate::call::Executed;
use countersign_model::id::ToolName;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::leave::Leave;
use super::link::LinkError;
use super::outbound::{self, Outbound, Reply};
use super::{Hello, Listed, Upstream};
use crate::mcp::wire::{Era, Frame};

/// What an upstream says besides answers and progress.
#[derive(Debug)]
pub(crate) enum Said {
    /// A notification, raw.
    Notification(Frame),
    /// A request of the upstream to the client.
    Question(Question),
}

/// A request of the upstream to the client. One that is dropped without an answer is refused to the upstream.
#[derive(Debug)]
pub(crate) struct Question {
    frame: Frame,
    answer: oneshot::Sender<Answered>,
}

/// What a client answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answered {
    /// The raw JSON of the result.
    Result(Bytes),
    /// The raw JSON of the JSON-RPC error.
    Error(Bytes),
}

impl Question {
    /// A question, and where its answer comes out.
    pub(crate) fn new(frame: Frame) -> (Self, oneshot::Receiver<Answered>) {
        let (answer, answered) = oneshot::channel();
        (Self { frame, answer }, answered)
    }

    /// The upstream's request, under the upstream's own id.
    pub(crate) const fn frame(&self) -> &Frame {
        &self.frame
    }

    /// Answers it, once. An upstream that no longer waits does not hear it.
    pub(crate) fn answer(self, answered: Answered) {
        // Nobody may wait any more.
        let _ = self.answer.send(answered);
    }
}

/// How a client opened, as it spelled it: an upstream's session of its own is opened the same way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClientHello {
    /// The revision that the client asked for.
    pub(crate) version: String,
    /// Its raw `capabilities`.
    pub(crate) capabilities: Bytes,
    /// Its raw `clientInfo`.
    pub(crate) client: Bytes,
}

/// One client session towards one upstream.
#[derive(Clone)]
pub(crate) struct Channel {
    upstream: Upstream,
    era: Era,
    hello: Arc<Hello>,
    closed: CancellationToken,
}

impl Channel {
    pub(super) fn shared(upstream: Upstream, era: Era, hello: Arc<Hello>) -> Self {
        Self { upstream, era, hello, closed: CancellationToken::new() }
    }

    /// Towards which upstream.
    pub(crate) const fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    /// The era that is spoken on it.
    pub(crate) const fn era(&self) -> Era {
        self.era
    }

    /// The upstream's handshake on this channel.
    pub(crate) const fn hello(&self) -> &Arc<Hello> {
        &self.hello
    }

    /// What a call of `tool` on this channel is judged by: the definition that its client was shown.
    pub(crate) fn listed(&self, tool: &ToolName) -> Option<Listed> {
        self.upstream.listed(tool)
    }

    /// One exchange that is not an action. `tools/list` answers with tools that calls are judged by, or fails.
    pub(crate) async fn exchange(&self, request: &Outbound) -> Result<Reply, LinkError> {
        if request.method == "tools/list" {
            return self.upstream.list(request).await;
        }
        self.upstream.live().ok_or(LinkError::Gone)?.link.exchange(request).await
    }

    /// One `subscriptions/listen`: what comes on its stream goes to the request's `aside`, under the upstream's own
    /// subscription id. Ends with the upstream's answer, the loss of the stream, or when `ended` is cancelled by whoever
    /// the stream is for; then the upstream is told in the way of its transport.
    pub(crate) async fn listen(&self, request: &Outbound, ended: &CancellationToken) -> Result<Reply, LinkError> {
        tokio::select! {
            biased;
            () = ended.cancelled() => Err(LinkError::Gone),
            reply = self.exchange(request) => reply,
        }
    }

    /// Sends a notification of the client that is not an action.
    pub(crate) async fn notify(&self, frame: Vec<u8>) -> Result<(), LinkError> {
        self.upstream.live().ok_or(LinkError::Gone)?.link.notify(frame).await
    }

    /// Cancelled when the channel is of no more use: closed here, or lost at the upstream. Its client opens anew.
    pub(crate) const fn closed(&self) -> &CancellationToken {
        &self.closed
    }

    /// Ends it, and the upstream's session that belongs to it alone.
    pub(crate) fn close(&self) {
        self.closed.cancel();
    }

    /// Carries out one action under a leave.
    pub(super) async fn carry_out<L: Leave>(&self, leave: L, request: &Outbound) -> Executed<Reply> {
        match self.upstream.live() {
            Some(live) => live.link.call(leave, request).await,
            None => outbound::not_started("the upstream is down and is being started again"),
        }
    }
}

impl std::fmt::Debug for Channel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Channel({}, {:?})", self.upstream.id(), self.era)
    }
}
