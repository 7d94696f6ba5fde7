//! Carrying actions out: the only code of this point that touches upstreams.
//!
//! An [`Upstream`] is one handshake, one listing and one live link, kept up by a supervisor that no request can
//! trigger. An [`Executor`] is one call that waits for its permit. What reaches an upstream without a permit are the
//! exchanges listed in [`crate::mcp::EXCHANGES`], and nothing else. It must not know sessions of clients or how an
//! answer is worded. Of obligations it keeps two: the time that a permit gives, which ends the effect like a
//! cancellation, and the redaction of the result. The others are kept or refused before there is a permit.

pub(crate) mod channel;
pub(crate) mod http;
pub(crate) mod leave;
pub(crate) mod link;
mod listing;
pub(crate) mod outbound;
mod pipe;
mod stdio;
mod supervise;
mod survey;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use countersign_gate::call::{Execute, Executed};
use countersign_gate::permit::Permit;
use countersign_model::Digest;
use countersign_model::id::{ToolName, UpstreamId};
use tokio::sync::{broadcast, mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::config::UpstreamConfig;
use crate::mcp::wire::Era;
use channel::{Channel, ClientHello, Said};
use leave::Leave;
use link::Link;
use outbound::{Outbound, Progress};

pub use link::LinkError;
pub use listing::{Hello, manifest};
pub use outbound::{Kind, Reply};
pub use survey::{Survey, survey};

/// `list_changed` notifications that a slow listener may lag behind.
const CHANGES_QUEUE: usize = 16;
/// How long a shutdown waits for the supervisor to have killed its child.
const CLOSING: Duration = Duration::from_secs(2);

/// One upstream, kept up. Clones are handles of the same.
#[derive(Clone)]
pub struct Upstream {
    shared: Arc<Shared>,
}

struct Shared {
    config: UpstreamConfig,
    /// The live link; none while the upstream is down.
    link: watch::Sender<Option<Live>>,
    /// The last handshake, whether or not the upstream is up.
    greeted: RwLock<Option<Arc<Hello>>>,
    /// What the upstream listed last. Swapped whole.
    tools: RwLock<Arc<BTreeMap<ToolName, Listed>>>,
    /// The upstream's own `list_changed` notifications, as they come.
    changes: broadcast::Sender<Bytes>,
    /// The same for clients: sent once the new listing is known here, so that nobody calls what is not known yet.
    announced: broadcast::Sender<Bytes>,
    shutdown: CancellationToken,
}

/// A link whose handshake is done.
#[derive(Clone)]
struct Live {
    link: Link,
    hello: Arc<Hello>,
}

/// What is known of a listed tool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    /// Over the raw bytes of the tool's definition.
    pub(crate) manifest: Digest,
    /// Whether it declares a schema of its output.
    pub(crate) output_schema: bool,
    /// What looks wrong in its definition, by the words of [`countersign_effects::names::Sign`]; none where nothing does.
    pub(crate) flagged: Option<Arc<str>>,
}

/// Which eras an upstream speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Eras {
    pub(crate) legacy: bool,
    pub(crate) modern: bool,
}

/// Why an upstream could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("upstream `{upstream}`: {source}")]
pub struct UpstreamError {
    /// Which.
    pub upstream: UpstreamId,
    /// Why.
    pub source: LinkError,
}

impl Upstream {
    /// Opens the upstream, shakes hands and lists its tools; keeps it up from then on.
    ///
    /// # Errors
    /// Where the first attempt fails. Later losses are mended in the background.
    pub async fn connect(config: UpstreamConfig) -> Result<Self, UpstreamError> {
        let upstream = Self::idle(config);
        let shared = &upstream.shared;
        let opened = supervise::open(&shared.config, &shared.changes).await;
        upstream.start(opened).await
    }

    fn idle(config: UpstreamConfig) -> Self {
        let (link, _) = watch::channel(None);
        let (changes, _) = broadcast::channel(CHANGES_QUEUE);
        let (announced, _) = broadcast::channel(CHANGES_QUEUE);
        let tools = RwLock::new(Arc::new(BTreeMap::new()));
        let shutdown = CancellationToken::new();
        Self {
            shared: Arc::new(Shared { config, link, greeted: RwLock::new(None), tools, changes, announced, shutdown }),
        }
    }

    async fn start(self, opened: Result<Link, LinkError>) -> Result<Self, UpstreamError> {
        let ready = match opened {
            Ok(link) => supervise::greet(&self.shared, link).await,
            Err(error) => Err(error),
        };
        match ready {
            Ok(live) => {
                let changes = self.shared.changes.subscribe();
                tokio::spawn(supervise::keep_up(Arc::clone(&self.shared), live));
                tokio::spawn(supervise::follow_changes(Arc::clone(&self.shared), changes));
                Ok(self)
            }
            Err(source) => Err(UpstreamError { upstream: self.shared.config.id.clone(), source }),
        }
    }

    /// The upstream's id.
    #[must_use]
    pub fn id(&self) -> &UpstreamId {
        &self.shared.config.id
    }

    /// SHA-256 over the raw definition of a tool, as the upstream listed it last; `None` for a tool it never listed.
    #[must_use]
    pub fn manifest(&self, tool: &ToolName) -> Option<Digest> {
        self.listed(tool).map(|listed| listed.manifest)
    }

    /// Every listed tool with its manifest, sorted by name.
    #[must_use]
    pub fn manifests(&self) -> Vec<(ToolName, Digest)> {
        let tools = Arc::clone(&self.shared.tools.read().unwrap_or_else(PoisonError::into_inner));
        tools.iter().map(|(name, listed)| (name.clone(), listed.manifest)).collect()
    }

    pub(crate) fn listed(&self, tool: &ToolName) -> Option<Listed> {
        self.shared.tools.read().unwrap_or_else(PoisonError::into_inner).get(tool).cloned()
    }

    /// Which eras it speaks; neither while it is down.
    pub(crate) fn eras(&self) -> Eras {
        Eras { legacy: self.shared.link.borrow().is_some(), modern: false }
    }

    /// The gateway's own handshake with the upstream in `era`; `None` while it is down or where it speaks no such era.
    pub(crate) fn hello(&self, era: Era) -> Option<Arc<Hello>> {
        self.live().filter(|live| live.hello.era() == era).map(|live| live.hello)
    }

    /// Opens what one client session is towards this upstream. `said` takes what the upstream says to that session.
    ///
    /// A channel on a link that is shared outlives the link: it goes on once the upstream is up again.
    pub(crate) async fn open(
        &self,
        era: Era,
        _client: &ClientHello,
        _said: mpsc::Sender<Said>,
    ) -> Result<Channel, LinkError> {
        let greeted = self.shared.greeted.read().unwrap_or_else(PoisonError::into_inner).clone();
        let hello = greeted.filter(|hello| hello.era() == era).ok_or(LinkError::Gone)?;
        Ok(Channel::shared(self.clone(), era, hello))
    }

    fn live(&self) -> Option<Live> {
        self.shared.link.borrow().clone()
    }

    /// Listens to changes of the listing, as raw `list_changed` notifications.
    pub(crate) fn changes(&self) -> broadcast::Receiver<Bytes> {
        self.shared.announced.subscribe()
    }

    /// One page of tools, raw: an exchange that is not an action.
    async fn list(&self, request: &Outbound) -> Result<Reply, LinkError> {
        let live = self.live().ok_or(LinkError::Gone)?;
        let reply = live.link.exchange(request).await?;
        if self.knows(&reply)? {
            return Ok(reply);
        }
        // The upstream changed its tools and did not say so. What a client is shown must be what calls are judged by.
        let tools = listing::list_tools(&live.link, &live.hello, &self.shared.config.limits).await?;
        *self.shared.tools.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(tools);
        if self.knows(&reply)? {
            return Ok(reply);
        }
        Err(LinkError::Unreadable("its tools are not the same in one listing and the next".to_owned()))
    }

    /// Whether every tool of a page is defined as it was listed last. A page that is an error has none.
    fn knows(&self, page: &Reply) -> Result<bool, LinkError> {
        let known = Arc::clone(&self.shared.tools.read().unwrap_or_else(PoisonError::into_inner));
        let shown = listing::shown(page)?;
        Ok(shown.iter().all(|(name, listed)| known.get(name) == Some(listed)))
    }

    /// Ends the upstream. A child is killed with its whole group, and its calls in flight end as unknown; calls over
    /// HTTP run to their end, for their sockets are their own.
    pub async fn close(&self) {
        self.shared.shutdown.cancel();
        let mut link = self.shared.link.subscribe();
        let down = tokio::time::timeout(CLOSING, link.wait_for(Option::is_none)).await;
        if down.is_err() {
            tracing::error!(upstream = %self.id(), "an upstream did not end in time");
        }
    }
}

impl std::fmt::Debug for Upstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Upstream({})", self.id())
    }
}

/// One action that waits for its permit.
#[derive(Debug)]
pub struct Executor {
    channel: Channel,
    request: Outbound,
}

impl Executor {
    /// The action that `request` is, on `channel`.
    pub(crate) const fn new(channel: Channel, request: Outbound) -> Self {
        Self { channel, request }
    }

    pub(crate) async fn carry_out<L: Leave>(&self, leave: L) -> Executed<Reply> {
        if leave.upstream() != self.channel.upstream().id() {
            return outbound::not_started("the permit is for another upstream");
        }
        if !leave.redacts() {
            return self.channel.carry_out(leave, &self.request).await;
        }
        // What an upstream says meanwhile may hold what its result may not.
        let progress = self.request.progress.clone().map(|progress| Progress { is_muted: true, ..progress });
        let request = Outbound { progress, aside: None, ..self.request.clone() };
        outbound::redacted(self.channel.carry_out(leave, &request).await)
    }
}

impl Execute for Executor {
    type Reply = Reply;

    fn execute(&self, permit: Permit) -> impl Future<Output = Executed<Reply>> + Send {
        self.carry_out(permit)
    }
}
