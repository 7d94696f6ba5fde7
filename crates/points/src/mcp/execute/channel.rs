//! What one client session is towards one upstream: its exchanges, its actions, and what the upstream says to it.
//!
//! A channel speaks its client's era and knows the handshake of that era; where its upstream speaks the other one, what
//! goes over it is put into other words on the way ([`super::across`]). Over a pipe it is a share of the one link that everybody
//! has; over HTTP it is a session of its own in the legacy era, and in the modern one nothing but a name, for requests are
//! stateless. Clones are handles of the same. It must not know the client's transport, and it decides nothing: an action
//! goes through it only in the hands of an `Executor`.
//!
//! Which definition of a tool a call is judged by: the one that this channel's client was shown last. That is the
//! gateway's own listing in the channel's era, which every page that is shown is compared with; where an upstream shows
//! one session other tools than another, what it showed on this channel.

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use countersign_effects::json::{self, Node};
use countersign_gate::call::Executed;
use countersign_model::id::ToolName;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::across::Across;
use super::audience::Member;
use super::ears::Shown;
use super::leave::Leave;
use super::link::{Link, LinkError};
use super::outbound::{self, Outbound, Reply, reading};
use super::{Hello, Listed, Upstream};
use crate::mcp::wire::{Era, Frame, Message, quoted};

pub(crate) use super::audience::Owner;
pub(crate) use super::said::{Answered, Question, Said};

const INITIALIZED: &str = "notifications/initialized";

/// How a client opened, as it spelled it: an upstream's session of its own is opened the same way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClientHello {
    /// The revision that the client asked for.
    pub(crate) version: String,
    /// Its raw `capabilities`.
    pub(crate) capabilities: Bytes,
    /// Its raw `clientInfo`.
    pub(crate) client: Bytes,
    /// Whose it is, in a spelling that only that principal has; none where several share it. What a process says of
    /// one's own calls is no secret to oneself.
    pub(crate) owner: Option<Owner>,
}

/// One client session towards one upstream.
#[derive(Clone)]
pub(crate) struct Channel {
    upstream: Upstream,
    /// In which the upstream is spoken to.
    era: Era,
    hello: Arc<Hello>,
    way: Way,
    /// Where the client speaks the other era.
    across: Option<Across>,
    closed: CancellationToken,
    /// Ends it when the last handle is gone.
    _guard: Arc<DropGuard>,
}

/// How a channel reaches its upstream.
#[derive(Clone)]
enum Way {
    /// Over the link that all share, as one of its clients. It outlives the link.
    Shared(Member),
    /// On a session of its own.
    Own { link: Link, shown: Arc<Shown> },
}

impl Channel {
    /// A share of the link that all have.
    pub(super) fn shared(upstream: Upstream, hello: Arc<Hello>, (member, closed): (Member, CancellationToken)) -> Self {
        Self::new(upstream, hello, Way::Shared(member), closed)
    }

    /// A session of its own.
    pub(super) fn own(upstream: Upstream, hello: Arc<Hello>, (link, shown): (Link, Arc<Shown>)) -> Self {
        let closed = link.closed().clone();
        Self::new(upstream, hello, Way::Own { link, shown }, closed)
    }

    fn new(upstream: Upstream, hello: Arc<Hello>, way: Way, closed: CancellationToken) -> Self {
        let guard = Arc::new(closed.clone().drop_guard());
        Self { upstream, era: hello.era(), hello, way, across: None, closed, _guard: guard }
    }

    /// The same for a client of the other era, which sees this handshake.
    pub(super) fn across(self, hello: Hello, across: Across) -> Self {
        Self { hello: Arc::new(hello), across: Some(across), ..self }
    }

    /// Towards which upstream.
    pub(crate) const fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    /// The upstream's handshake on this channel.
    pub(crate) const fn hello(&self) -> &Arc<Hello> {
        &self.hello
    }

    /// What a call of `tool` on this channel is judged by: the definition that its client was shown.
    pub(crate) fn listed(&self, tool: &ToolName) -> Option<Listed> {
        match &self.way {
            Way::Own { shown, .. } => shown.find(tool),
            Way::Shared(_) => None,
        }
        .or_else(|| self.upstream.listed_in(self.era, tool))
    }

    /// In which era the upstream is spoken to.
    pub(super) const fn era(&self) -> Era {
        self.era
    }

    /// Which of a shared link's clients it is.
    pub(super) const fn member(&self) -> Member {
        match &self.way {
            Way::Shared(member) => *member,
            Way::Own { .. } => 1,
        }
    }

    pub(super) fn link(&self) -> Result<(Link, Member), LinkError> {
        if self.closed.is_cancelled() {
            return Err(LinkError::Gone);
        }
        match &self.way {
            Way::Own { link, .. } => Ok((link.clone(), 1)),
            Way::Shared(member) => {
                let live = self.upstream.live().ok_or(LinkError::Gone)?;
                let Some(leg) = live.leg(self.era) else {
                    // It came back as a speaker of the other era: the client's next channel is another one.
                    self.close();
                    return Err(LinkError::OtherEra);
                };
                Ok((leg.link.clone(), *member))
            }
        }
    }

    /// One exchange that is not an action. `tools/list` answers with tools that calls are judged by, or fails.
    pub(crate) async fn exchange(&self, request: &Outbound) -> Result<Reply, LinkError> {
        match &self.across {
            Some(across) => across.exchange(self, request).await,
            None => self.exchange_plain(request).await,
        }
    }

    /// The same in the upstream's own words.
    pub(super) async fn exchange_plain(&self, request: &Outbound) -> Result<Reply, LinkError> {
        let (link, member) = self.link()?;
        if let (Way::Shared(_), "resources/unsubscribe", Some(uri)) = (&self.way, &*request.method, uri_of(request))
            && self.upstream.audience().unsubscribe(member, &uri)
        {
            // Another client still wants to hear of it, over the same link.
            return Reply::made("result", b"{}");
        }
        if let (Link::Pipe(_), "logging/setLevel") = (&link, &*request.method) {
            return super::level::set(self.upstream.audience(), (&link, member), request).await;
        }
        let reply = link.exchange(request, member).await?;
        if request.method == "tools/list" {
            return self.judged(reply).await;
        }
        Ok(reply)
    }

    /// A page of tools, once every tool on it is known here as it stands there.
    async fn judged(&self, page: Reply) -> Result<Reply, LinkError> {
        let tools = super::listing::shown(&page)?;
        if self.knows(&tools) {
            return Ok(page);
        }
        // The upstream changed its tools and did not say so. What a client is shown must be what calls are judged by.
        self.upstream.list_again(self.era).await?;
        if self.knows(&tools) {
            return Ok(page);
        }
        match &self.way {
            Way::Own { shown, .. } if shown.add(tools, self.upstream.limits().tools_max) => Ok(page),
            _ => Err(LinkError::Unreadable("its tools are not the same in one listing and the next".to_owned())),
        }
    }

    fn knows(&self, tools: &BTreeMap<ToolName, Listed>) -> bool {
        tools.iter().all(|(name, listed)| self.listed(name).as_ref() == Some(listed))
    }

    /// One `subscriptions/listen`: what comes on its stream goes to the request's `aside`, under the upstream's own
    /// subscription id. Ends with the upstream's answer, the loss of the stream, or when `ended` is cancelled by whoever
    /// the stream is for; then the upstream is told in the way of its transport.
    pub(crate) async fn listen(&self, request: &Outbound, ended: &CancellationToken) -> Result<Reply, LinkError> {
        if let Some(across) = &self.across {
            return across.listen(self, request, ended).await;
        }
        let (link, member) = self.link()?;
        if self.era == Era::Legacy {
            return Err(LinkError::OtherEra);
        }
        link.listen((request, member), ended).await
    }

    /// Sends a notification of the client that is not an action. The end of the handshake is the gateway's own word and
    /// was said.
    pub(crate) async fn notify(&self, frame: Vec<u8>) -> Result<(), LinkError> {
        let read = Frame::read(frame.clone().into(), &reading(frame.len()))?;
        if matches!(read.message(), Message::Notification { method, .. } if method == INITIALIZED) {
            return Ok(());
        }
        if self.across.is_some() {
            // Of what a client may notify (roots that changed), the other era has nothing.
            return Ok(());
        }
        self.link()?.0.notify(frame).await
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
        match &self.across {
            Some(across) => across.carry_out(self, leave, request).await,
            None => self.carry_plain(leave, request).await,
        }
    }

    /// The same in the upstream's own words.
    pub(super) async fn carry_plain<L: Leave>(&self, leave: L, request: &Outbound) -> Executed<Reply> {
        let (link, member) = match self.link() {
            Ok(found) => found,
            Err(LinkError::OtherEra) => return outbound::not_started("the upstream does not speak this era any more"),
            Err(_) if self.closed.is_cancelled() => {
                return outbound::not_started("the session with the upstream is over");
            }
            Err(_) => return outbound::not_started("the upstream is down and is being started again"),
        };
        let executed = link.call(leave, (request, member)).await;
        self.note_subscription(request, &executed);
        executed
    }

    fn note_subscription(&self, request: &Outbound, executed: &Executed<Reply>) {
        if executed.status == countersign_model::record::Status::Done
            && request.method == "resources/subscribe"
            && let Some(uri) = uri_of(request)
        {
            self.note_subscribed(&uri);
        }
    }

    /// Remembers that this client hears of a resource on a link that is shared.
    pub(super) fn note_subscribed(&self, uri: &str) {
        if let Way::Shared(member) = &self.way
            && !self.upstream.audience().subscribe(*member, uri)
        {
            tracing::warn!("a client is subscribed to more resources than it may hear of");
        }
    }
}

fn uri_of(request: &Outbound) -> Option<String> {
    let params = request.params.as_deref()?;
    let params = json::parse(params, &reading(params.len())).ok()?;
    params.get("uri").and_then(Node::as_str).map(str::to_owned)
}

/// Takes a client off a link that is shared once its channel is over, and ends the subscriptions that nobody else has.
pub(super) async fn leave(upstream: Upstream, era: Era, member: Member, closed: CancellationToken) {
    closed.cancelled().await;
    for uri in upstream.audience().leave(member) {
        let Some(leg) = upstream.live().and_then(|live| live.leg(era).cloned()) else { return };
        let params = format!(r#"{{"uri":{}}}"#, quoted(&uri));
        let request = Outbound::plain(Cow::Borrowed("resources/unsubscribe"), Some(params.into()));
        if leg.link.exchange(&request, 0).await.is_err() {
            tracing::debug!("a subscription of a client that left could not be ended");
        }
    }
}

/// Says good-bye on a session of its own once its channel is over.
pub(super) async fn part(link: Link, place: tokio::sync::OwnedSemaphorePermit) {
    link.closed().cancelled().await;
    link.farewell().await;
    link.close();
    drop(place);
}

impl std::fmt::Debug for Channel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Channel({}, {:?})", self.upstream.id(), self.era)
    }
}
