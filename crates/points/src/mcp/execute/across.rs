//! Channels between a client of one era and an upstream of the other.
//!
//! The front gets a channel of its client's era; what goes over it is put into the upstream's words by [`eras`]. A modern
//! client's channel is a session with a legacy upstream, which belongs to whoever opened it: the gateway keeps one for each
//! principal and offers nothing in it, for a request without a session cannot be asked back. A legacy client's channel is
//! what the client said once, said again with every request to a modern upstream: its capabilities, its log level, and
//! one stream of what it is subscribed to.
//!
//! What a call is judged by is what the upstream lists in its own era, which passes byte for byte. It must not know the
//! client's transport.

mod aside;
mod client;
mod hub;
mod rounds;
mod stream;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;
use countersign_effects::json::{Node, parse};
use countersign_gate::call::Executed;
use countersign_model::id::ToolName;
use countersign_model::record::Status;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::channel::{Channel, ClientHello, Said};
use super::leave::Leave;
use super::link::LinkError;
use super::listing::Hello;
use super::outbound::{self, Outbound, Progress, Reply, reading};
use super::{Upstream, listing};
use crate::mcp::config::Transport;
use crate::mcp::eras;
use crate::mcp::wire::era::LATEST_LEGACY;
use crate::mcp::wire::{Era, FrameError, INVALID_PARAMS, Outcome, headers};
use client::Client;
use hub::Hub;

/// What a legacy upstream says outside of requests may wait so long to be heard.
const SAID_QUEUE: usize = 16;
/// How long what was said before an answer may take to be handed on.
const HANDING_ON: std::time::Duration = std::time::Duration::from_secs(1);

/// Which way a channel leads across.
#[derive(Clone)]
pub(super) enum Across {
    /// From a modern client to a legacy upstream.
    Back(Arc<Hub>),
    /// From a legacy client to a modern upstream.
    Forth(Arc<Client>),
}

/// A request in the upstream's words, on its way.
struct Sending {
    request: Outbound,
    /// Hands on what is said meanwhile.
    relay: Option<JoinHandle<()>>,
}

impl Sending {
    /// Ends it once everything that was said before the answer is handed on.
    async fn end(self) {
        let Self { request, relay } = self;
        drop(request);
        if let Some(relay) = relay
            && tokio::time::timeout(HANDING_ON, relay).await.is_err()
        {
            tracing::debug!("what an upstream said beside an answer was not handed on in time");
        }
    }
}

impl Upstream {
    /// A channel for a modern client to an upstream that has sessions. What it opens belongs to whoever has the channel.
    pub(super) async fn open_back(&self, client: &ClientHello) -> Result<Channel, LinkError> {
        let gateway = ClientHello {
            version: LATEST_LEGACY.to_owned(),
            capabilities: Bytes::from_static(b"{}"),
            client: listing::own_info().into(),
            owner: client.owner.clone(),
        };
        let (said, heard) = mpsc::channel(SAID_QUEUE);
        let channel = match &self.shared.config.transport {
            Transport::Stdio(_) => self.share(Era::Legacy, (said, gateway.owner))?,
            Transport::Http { .. } | Transport::Sse { .. } => self.open_to_the_end(gateway, said).await?,
        };
        let hello = channel.hello().to_modern()?;
        let hub = Arc::new(Hub::new(self.limits().sessions_max));
        tokio::spawn(hub::hear(Arc::clone(&hub), heard));
        Ok(channel.across(hello, Across::Back(hub)))
    }

    /// A channel for a legacy client to an upstream that has no sessions.
    pub(super) fn open_forth(&self, client: &ClientHello, said: mpsc::Sender<Said>) -> Result<Channel, LinkError> {
        let channel = self.share(Era::Modern, (said.clone(), client.owner.clone()))?;
        let hello = channel.hello().to_legacy((&client.version, self.id().as_str()))?;
        let client = Arc::new(Client::new(client.clone(), &channel, said));
        Ok(channel.across(hello, Across::Forth(client)))
    }
}

impl Hello {
    /// The same in the words of revisions without a handshake.
    pub(super) fn to_modern(&self) -> Result<Self, LinkError> {
        let raw = eras::hello::to_modern(self.frame().bytes(), self.result());
        Self::read(Reply::made("result", &raw)?, Era::Modern)
    }

    /// The same in the words of revisions with a handshake, for a client that asked for a revision, of the upstream with
    /// this id.
    pub(super) fn to_legacy(&self, said: (&str, &str)) -> Result<Self, LinkError> {
        let raw = eras::hello::to_legacy(self.frame().bytes(), self.result(), said);
        Self::read(Reply::made("result", &raw)?, Era::Legacy)
    }
}

impl Across {
    /// One exchange that is not an action.
    pub(super) async fn exchange(&self, channel: &Channel, request: &Outbound) -> Result<Reply, LinkError> {
        match (self, &*request.method) {
            (Self::Back(_), "server/discover") => {
                return Reply::of(channel.hello().frame().clone()).ok_or(LinkError::Gone);
            }
            (Self::Forth(client), "logging/setLevel") => return client.set_level(request.params.as_ref()),
            (Self::Forth(client), "resources/unsubscribe") => return client.unsubscribe(request),
            _ => {}
        }
        let sending = match self.said(channel, request) {
            Ok(sending) => sending,
            Err(refused) => return refusal(&refused),
        };
        let reply = channel.exchange_plain(&sending.request).await;
        sending.end().await;
        self.heard(&request.method, &reply?)
    }

    /// Carries out one action under a leave.
    pub(super) async fn carry_out<L: Leave>(&self, channel: &Channel, leave: L, request: &Outbound) -> Executed<Reply> {
        match (self, &*request.method) {
            (Self::Back(hub), "subscriptions/listen") => {
                return Arc::clone(hub).follow(channel, leave, request).await;
            }
            (Self::Forth(client), "resources/subscribe") => return client.subscribe(channel, leave, request).await,
            _ => {}
        }
        let sending = match self.said(channel, request) {
            Ok(sending) => sending,
            Err(refused) => return outbound::not_started(&refused.detail),
        };
        let executed = match self {
            Self::Back(_) => channel.carry_plain(leave, &sending.request).await,
            Self::Forth(client) => rounds::carry_out((channel, client), leave, &sending.request).await,
        };
        sending.end().await;
        self.done(&request.method, executed)
    }

    /// One stream of changes.
    pub(super) async fn listen(
        &self,
        channel: &Channel,
        request: &Outbound,
        ended: &CancellationToken,
    ) -> Result<Reply, LinkError> {
        match self {
            Self::Back(hub) => Arc::clone(hub).listen(channel, request, ended).await,
            Self::Forth(_) => Err(LinkError::OtherEra),
        }
    }

    /// A request in the upstream's words.
    fn said(&self, channel: &Channel, request: &Outbound) -> Result<Sending, FrameError> {
        let placed = |token: Option<std::ops::Range<usize>>| {
            let progress = request.progress.clone().zip(token);
            progress.map(|(progress, span)| Progress { span, ..progress })
        };
        match self {
            Self::Back(_) => {
                let said = eras::request::to_legacy(&request.method, request.params.as_ref())?;
                let (aside, relay) = request.aside.clone().map(|to| aside::filtered(to, said.level)).unzip();
                let progress = placed(said.token);
                let method = request.method.clone();
                let request = Outbound { method, params: said.params, progress, aside, param_headers: Vec::new() };
                Ok(Sending { request, relay })
            }
            Self::Forth(client) => {
                let said = eras::request::to_modern(&request.method, request.params.as_ref(), &client.speaker())?;
                let param_headers = param_headers(channel, request)?;
                let progress = placed(said.token);
                let request = Outbound { params: said.params, progress, param_headers, ..request.clone() };
                Ok(Sending { request, relay: None })
            }
        }
    }

    /// An answer in the client's words.
    fn heard(&self, method: &str, reply: &Reply) -> Result<Reply, LinkError> {
        let input = reply.frame().bytes();
        let made = match (self, reply.outcome()) {
            (Self::Back(_), Outcome::Result(result)) => {
                Reply::made("result", &eras::result::to_modern(method, input, result))
            }
            (Self::Back(_), Outcome::Error(error)) => {
                Reply::made("error", &eras::result::error_to_modern(input, error))
            }
            (Self::Forth(_), Outcome::Result(result)) => {
                match eras::result::to_legacy((reply.kind(), method), input, result) {
                    Ok(raw) => Reply::made("result", &raw),
                    Err(refused) => refusal(&refused),
                }
            }
            (Self::Forth(_), Outcome::Error(_)) => Ok(reply.clone()),
        }?;
        Ok(match reply.status() {
            Some(status) => made.with_status(status),
            None => made,
        })
    }

    /// What came of an action, its answer in the client's words. The record keeps what the upstream said.
    fn done(&self, method: &str, mut executed: Executed<Reply>) -> Executed<Reply> {
        let Some(reply) = executed.reply.take() else { return executed };
        match self.heard(method, &reply) {
            Ok(reply) => {
                let Executed { status, note, reply, .. } = outbound::answered(reply, 0);
                Executed { status, note: executed.note.or(note), reply, ..executed }
            }
            Err(error) => Executed { status: Status::Unknown, note: Some(error.to_string()), ..executed },
        }
    }
}

/// The headers that a tool's schema asks for; a legacy client knows nothing of them.
fn param_headers(channel: &Channel, request: &Outbound) -> Result<Vec<(String, String)>, FrameError> {
    let ("tools/call", Some(raw)) = (&*request.method, &request.params) else { return Ok(Vec::new()) };
    let params = parse(raw, &reading(raw.len()))?;
    let tool = params.get("name").and_then(Node::as_str).and_then(|name| ToolName::new(name).ok());
    let Some(listed) = tool.and_then(|tool| channel.listed(&tool)) else { return Ok(Vec::new()) };
    let mirrors = listed.mirrors.ok_or_else(|| FrameError {
        code: INVALID_PARAMS,
        ..FrameError::shape("this tool asks for headers that cannot be, so it cannot be called")
    })?;
    Ok(headers::params(&mirrors, (params.get("arguments"), raw)))
}

/// An answer that says no.
fn refusal(error: &FrameError) -> Result<Reply, LinkError> {
    Reply::made("error", &eras::result::refusal(error))
}
