//! Carrying actions out: the only code of this point that touches upstreams.
//!
//! An [`Upstream`] is one handshake, one listing and one live link, kept up by a supervisor that no request can
//! trigger. An [`Executor`] is one call that waits for its permit. What reaches an upstream without a permit are the
//! exchanges in [`crate::mcp::methods::METHODS`], and nothing else. It must not know sessions of clients or how an
//! answer is worded. Of obligations it keeps two: the time that a permit gives, which ends the effect like a
//! cancellation, and the redaction of the result. The others are kept or refused before there is a permit.

mod across;
pub(crate) mod aftermath;
mod audience;
mod board;
pub(crate) mod channel;
mod ears;
pub(crate) mod http;
pub(crate) mod joint;
mod late;
pub(crate) mod leave;
mod level;
pub(crate) mod link;
mod listing;
pub(crate) mod outbound;
mod pipe;
mod said;
mod sse;
mod stdio;
mod supervise;
mod survey;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use countersign_effects::names::neighbour::Mentions;
use countersign_gate::call::{Execute, Executed};
use countersign_gate::permit::Permit;
use countersign_model::Digest;
use countersign_model::id::{ToolName, UpstreamId};
use tokio::sync::{Semaphore, broadcast, mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::config::{Transport, UpstreamConfig, UpstreamLimits};
use crate::mcp::wire::Era;
use crate::mcp::wire::era::LATEST_LEGACY;
use crate::mcp::wire::headers::Annotation;
use aftermath::Outlived;
use audience::{Audience, Owner};
use channel::{Channel, ClientHello, Said};
use ears::{Change, Ears, Shown};
use http::{HttpLink, Site};
use leave::Leave;
use link::Link;
use outbound::{Outbound, Progress};
use sse::SseLink;

pub use link::LinkError;
pub use listing::{Hello, manifest};
pub use outbound::{Kind, Reply};
pub use survey::{Survey, survey};

/// `list_changed` notifications that a slow listener may lag behind.
const CHANGES_QUEUE: usize = 16;
/// Why a task ends at once that no agent hears of.
const WITHHELD: &str = "policy wants its result without secrets, so nobody is handed it";
/// How long a shutdown waits for the supervisor to have killed its child.
const CLOSING: Duration = Duration::from_secs(2);
/// How long an upstream may take to say whether a session has a stream of its own. One that says it with its first
/// event alone is not waited for.
const ATTENDED_WITHIN: Duration = Duration::from_millis(500);

/// One upstream, kept up. Clones are handles of the same.
#[derive(Clone)]
pub struct Upstream {
    shared: Arc<Shared>,
}

struct Shared {
    config: UpstreamConfig,
    /// The live links; none while the upstream is down.
    link: watch::Sender<Option<Live>>,
    /// What the upstream said and listed last, whether or not it is up.
    known: RwLock<Each<Known>>,
    /// The clients of a link that all share.
    audience: Arc<Audience>,
    /// Who listens to the gateway's own links.
    ears: Ears,
    /// The upstream's own `list_changed` notifications, as they come.
    changes: broadcast::Sender<Change>,
    /// The same for clients: sent once the new listing is known here, so that nobody calls what is not known yet.
    announced: broadcast::Sender<Bytes>,
    /// Sessions of clients that may still be opened.
    sessions: Arc<Semaphore>,
    /// Tasks that may still be watched over.
    watching: Arc<Semaphore>,
    /// Whether asking for the modern era ended the process.
    is_legacy_only: AtomicBool,
    shutdown: CancellationToken,
}

/// One thing for each era.
#[derive(Default)]
struct Each<T> {
    legacy: T,
    modern: T,
}

impl<T> Each<T> {
    const fn of(&self, era: Era) -> &T {
        match era {
            Era::Legacy => &self.legacy,
            Era::Modern => &self.modern,
        }
    }

    const fn of_mut(&mut self, era: Era) -> &mut T {
        match era {
            Era::Legacy => &mut self.legacy,
            Era::Modern => &mut self.modern,
        }
    }
}

/// What is known of an upstream in one era.
#[derive(Default)]
struct Known {
    hello: Option<Arc<Hello>>,
    /// Swapped whole.
    tools: Arc<BTreeMap<ToolName, Listed>>,
}

/// An upstream that is up.
#[derive(Clone)]
struct Live {
    /// Where sessions of clients are opened, over HTTP.
    site: Option<Arc<Site>>,
    legacy: Option<Leg>,
    modern: Option<Leg>,
}

/// The gateway's own link in one era, its handshake done.
#[derive(Clone)]
struct Leg {
    link: Link,
    hello: Arc<Hello>,
}

impl Live {
    const fn leg(&self, era: Era) -> Option<&Leg> {
        match era {
            Era::Legacy => self.legacy.as_ref(),
            Era::Modern => self.modern.as_ref(),
        }
    }

    fn legs(&self) -> impl Iterator<Item = &Leg> {
        self.legacy.iter().chain(&self.modern)
    }

    /// Resolves when one of its links is of no more use.
    async fn lost(&self) {
        match (&self.legacy, &self.modern) {
            (Some(legacy), Some(modern)) => tokio::select! {
                () = legacy.link.closed().cancelled() => {}
                () = modern.link.closed().cancelled() => {}
            },
            (Some(leg), None) | (None, Some(leg)) => leg.link.closed().cancelled().await,
            (None, None) => {}
        }
    }

    /// Whether one of its links ended by a fault of the upstream.
    fn is_faulty(&self) -> bool {
        self.legs().any(|leg| leg.link.closed().is_cancelled() && leg.link.is_faulty())
    }

    async fn farewell(&self) {
        for leg in self.legs() {
            leg.link.farewell().await;
        }
    }

    fn close(&self) {
        self.legs().for_each(|leg| leg.link.close());
    }
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
    /// The tools of any upstream that its definition speaks of; none where it speaks of none.
    pub(crate) mentions: Option<Arc<Mentions>>,
    /// The headers that its schema asks for; none where it asks for what cannot be.
    pub(crate) mirrors: Option<Arc<[Annotation]>>,
}

/// Which eras an upstream speaks. A client of either is served where it speaks any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Eras {
    pub(crate) legacy: bool,
    pub(crate) modern: bool,
}

impl Eras {
    /// Whether it is up.
    pub(crate) const fn any(self) -> bool {
        self.legacy || self.modern
    }
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
        let raised = supervise::raise(&upstream.shared).await;
        upstream.up(raised)
    }

    /// The same, but a server elsewhere that is down for now is tried again in the background, as one that was lost is; the
    /// error beside it says why it is not up.
    ///
    /// # Errors
    /// Where trying again would not help: a program of this machine that does not start, or a server that is none.
    pub async fn connect_or_wait(config: UpstreamConfig) -> Result<(Self, Option<UpstreamError>), UpstreamError> {
        let upstream = Self::idle(config);
        match supervise::raise(&upstream.shared).await {
            Err(source) if upstream.may_come_up(&source) => {
                let error = UpstreamError { upstream: upstream.id().clone(), source: source.clone() };
                upstream.keep_up(Err(source));
                Ok((upstream, Some(error)))
            }
            raised => Ok((upstream.up(raised)?, None)),
        }
    }

    fn may_come_up(&self, error: &LinkError) -> bool {
        let is_elsewhere = !matches!(self.shared.config.transport, Transport::Stdio(_));
        is_elsewhere && error.may_pass()
    }

    fn idle(config: UpstreamConfig) -> Self {
        let (link, _) = watch::channel(None);
        let (changes, _) = broadcast::channel(CHANGES_QUEUE);
        let (announced, _) = broadcast::channel(CHANGES_QUEUE);
        let audience = Arc::new(Audience::default());
        let shared = Shared {
            ears: Ears::Own { changes: changes.clone(), audience: Arc::clone(&audience) },
            sessions: Arc::new(Semaphore::new(config.limits.sessions_max)),
            watching: Arc::new(Semaphore::new(aftermath::WATCHED_MAX)),
            config,
            link,
            known: RwLock::default(),
            audience,
            changes,
            announced,
            is_legacy_only: AtomicBool::new(false),
            shutdown: CancellationToken::new(),
        };
        Self { shared: Arc::new(shared) }
    }

    fn up(self, raised: Result<Live, LinkError>) -> Result<Self, UpstreamError> {
        match raised {
            Ok(live) => {
                self.keep_up(Ok(live));
                Ok(self)
            }
            Err(source) => Err(UpstreamError { upstream: self.shared.config.id.clone(), source }),
        }
    }

    fn keep_up(&self, first: Result<Live, LinkError>) {
        let changes = self.shared.changes.subscribe();
        tokio::spawn(supervise::keep_up(Arc::clone(&self.shared), first));
        tokio::spawn(supervise::follow_changes(Arc::clone(&self.shared), changes));
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

    /// Every listed tool with its manifest, sorted by name; that of the legacy era where they differ.
    #[must_use]
    pub fn manifests(&self) -> Vec<(ToolName, Digest)> {
        let mut tools = (*self.shared.tools(Era::Modern)).clone();
        tools.extend(self.shared.tools(Era::Legacy).iter().map(|(name, listed)| (name.clone(), listed.clone())));
        tools.into_iter().map(|(name, listed)| (name, listed.manifest)).collect()
    }

    /// What is known of a tool in either era. What a call is judged by is [`Channel::listed`].
    pub(crate) fn listed(&self, tool: &ToolName) -> Option<Listed> {
        self.listed_in(Era::Legacy, tool).or_else(|| self.listed_in(Era::Modern, tool))
    }

    /// Its tools as the gateway was shown them last. Swapped whole, so the same list is the same pointer.
    pub(crate) fn tools(&self, era: Era) -> Arc<BTreeMap<ToolName, Listed>> {
        self.shared.tools(era)
    }

    fn listed_in(&self, era: Era, tool: &ToolName) -> Option<Listed> {
        self.shared.tools(era).get(tool).cloned()
    }

    /// Which eras it speaks; neither while it is down.
    pub(crate) fn eras(&self) -> Eras {
        let live = self.live();
        let speaks = |era| live.as_ref().is_some_and(|live| live.leg(era).is_some());
        Eras { legacy: speaks(Era::Legacy), modern: speaks(Era::Modern) }
    }

    /// The gateway's own handshake with the upstream as a client of `era` sees it; `None` while it is down.
    pub(crate) fn hello(&self, era: Era) -> Option<Arc<Hello>> {
        let live = self.live()?;
        if let Some(leg) = live.leg(era) {
            return Some(Arc::clone(&leg.hello));
        }
        let other = live.legs().next()?;
        let hello = match era {
            Era::Legacy => other.hello.to_legacy((LATEST_LEGACY, self.id().as_str())),
            Era::Modern => other.hello.to_modern(),
        };
        hello.ok().map(Arc::new)
    }

    /// Opens what one client session is towards this upstream. `said` takes what the upstream says to that session.
    ///
    /// A channel is of its client's era, whichever the upstream speaks: where they differ it is one across.
    ///
    /// A channel on a link that is shared outlives the link: it goes on once the upstream is up again, but for one that
    /// was subscribed to resources, which is over. One on a session of its own is over with the session.
    pub(crate) async fn open(
        &self,
        era: Era,
        client: &ClientHello,
        said: mpsc::Sender<Said>,
    ) -> Result<Channel, LinkError> {
        match (era, self.spoken(era)?, &self.shared.config.transport) {
            (Era::Legacy, Era::Modern, _) => self.open_forth(client, said),
            (Era::Modern, Era::Legacy, _) => self.open_back(client).await,
            (_, Era::Legacy, Transport::Http { .. } | Transport::Sse { .. }) => {
                self.open_to_the_end(client.clone(), said).await
            }
            (_, spoken, _) => self.share(spoken, (said, client.owner.clone())),
        }
    }

    /// Opens a session whoever waits for it: its client may go away, and then it is opened to the end, and ended in good
    /// order.
    async fn open_to_the_end(&self, client: ClientHello, said: mpsc::Sender<Said>) -> Result<Channel, LinkError> {
        let upstream = self.clone();
        let opening = tokio::spawn(async move { upstream.open_own(&client, said).await });
        opening.await.unwrap_or(Err(LinkError::Gone))
    }

    /// The era in which the upstream is spoken to for a client of `era`: that one, if it speaks it. While it is down, as
    /// it spoke last.
    fn spoken(&self, era: Era) -> Result<Era, LinkError> {
        let other = match era {
            Era::Legacy => Era::Modern,
            Era::Modern => Era::Legacy,
        };
        let known = self.shared.known.read().unwrap_or_else(PoisonError::into_inner);
        let live = self.live();
        let speaks = |era: Era| match &live {
            Some(live) => live.leg(era).is_some(),
            None => known.of(era).hello.is_some(),
        };
        [era, other].into_iter().find(|era| speaks(*era)).ok_or(LinkError::Gone)
    }

    /// A share of the link that all have who speak `era`, if the upstream does.
    pub(crate) fn share(&self, era: Era, said: (mpsc::Sender<Said>, Option<Owner>)) -> Result<Channel, LinkError> {
        if self.spoken(era)? != era {
            return Err(LinkError::OtherEra);
        }
        let known = self.shared.known.read().unwrap_or_else(PoisonError::into_inner);
        let hello = known.of(era).hello.clone().ok_or(LinkError::Gone)?;
        drop(known);
        let closed = self.shared.shutdown.child_token();
        if !matches!(self.shared.config.transport, Transport::Stdio(_)) {
            return Ok(Channel::shared(self.clone(), hello, (0, closed)));
        }
        let members_max = self.limits().sessions_max;
        let member = self.shared.audience.join(said, closed.clone(), members_max).ok_or(LinkError::Full)?;
        tokio::spawn(channel::leave(self.clone(), era, member, closed.clone()));
        Ok(Channel::shared(self.clone(), hello, (member, closed)))
    }

    /// A session of the client's own, opened as the client opened its own with us.
    async fn open_own(&self, client: &ClientHello, said: mpsc::Sender<Said>) -> Result<Channel, LinkError> {
        let live = self.live().ok_or(LinkError::Gone)?;
        let (Some(site), Some(leg)) = (live.site, live.legacy) else { return Err(LinkError::OtherEra) };
        let place = Arc::clone(&self.shared.sessions).try_acquire_owned().map_err(|_| LinkError::Full)?;
        let shown = Arc::new(Shown::default());
        let ears = Ears::Client { said, shown: Arc::clone(&shown) };
        let closed = self.shared.shutdown.child_token();
        let link = match leg.link {
            Link::Sse(_) => Link::Sse(SseLink::open(&site, &ears, closed).await?),
            Link::Http(_) | Link::Pipe(_) => Link::Http(HttpLink::new(&site, Era::Legacy, ears, closed)),
        };
        let shaken = listing::shake_hands_as(&link, client).await;
        tokio::spawn(channel::part(link.clone(), place));
        match shaken {
            Ok(hello) => {
                // What a call makes the upstream say may come on that stream: then it has to be there.
                let _ = tokio::time::timeout(ATTENDED_WITHIN, link.attend()).await;
                Ok(Channel::own(self.clone(), Arc::new(hello), (link, shown)))
            }
            Err(error) => {
                link.close();
                Err(error)
            }
        }
    }

    fn live(&self) -> Option<Live> {
        self.shared.link.borrow().clone()
    }

    fn limits(&self) -> &UpstreamLimits {
        &self.shared.config.limits
    }

    fn watching(&self) -> Arc<Semaphore> {
        Arc::clone(&self.shared.watching)
    }

    /// The gateway's own link in an era.
    fn own_link(&self, era: Era) -> Option<Link> {
        self.live()?.leg(era).map(|leg| leg.link.clone())
    }

    fn audience(&self) -> &Audience {
        &self.shared.audience
    }

    /// Listens to changes of the listing, as raw `list_changed` notifications.
    #[cfg(test)]
    pub(crate) fn changes(&self) -> broadcast::Receiver<Bytes> {
        self.shared.announced.subscribe()
    }

    /// Lists the tools again on the gateway's own link.
    async fn list_again(&self, era: Era) -> Result<(), LinkError> {
        let live = self.live().ok_or(LinkError::Gone)?;
        let leg = live.leg(era).ok_or(LinkError::OtherEra)?;
        let tools = listing::list_tools(&leg.link, &leg.hello, self.limits()).await?;
        self.shared.known.write().unwrap_or_else(PoisonError::into_inner).of_mut(era).tools = Arc::new(tools);
        Ok(())
    }

    /// Ends the upstream. A child is killed with its whole group, and its calls in flight end as unknown; calls over
    /// HTTP run to their end, for their sockets are their own.
    pub async fn close(&self) {
        self.shared.shutdown.cancel();
        let mut link = self.shared.link.subscribe();
        let down = async {
            while link.borrow_and_update().is_some() {
                if link.changed().await.is_err() {
                    break;
                }
            }
        };
        let down = tokio::time::timeout(CLOSING, down).await;
        let all = u32::try_from(self.limits().sessions_max).unwrap_or(u32::MAX);
        let parted = tokio::time::timeout(CLOSING, self.shared.sessions.acquire_many(all)).await;
        if down.is_err() || parted.is_err() {
            tracing::error!(upstream = %self.id(), "an upstream did not end in time");
        }
    }
}

impl Shared {
    fn tools(&self, era: Era) -> Arc<BTreeMap<ToolName, Listed>> {
        Arc::clone(&self.known.read().unwrap_or_else(PoisonError::into_inner).of(era).tools)
    }

    fn live(&self) -> Option<Live> {
        self.link.borrow().clone()
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

    pub(crate) async fn carry_out<L: Outlived>(&self, leave: L) -> Executed<Reply> {
        if leave.upstream() != self.channel.upstream().id() {
            return outbound::not_started("the permit is for another upstream");
        }
        let over = leave.aftermath();
        let redacts = leave.redacts();
        let executed = self.carried_out(leave, redacts).await;
        let over = async move { if redacts { WITHHELD } else { over.await.as_str() } };
        aftermath::watch(&self.channel, executed.reply.as_ref(), over);
        if redacts { outbound::redacted(executed) } else { executed }
    }

    async fn carried_out<L: Leave>(&self, leave: L, redacts: bool) -> Executed<Reply> {
        if !redacts {
            return self.channel.carry_out(leave, &self.request).await;
        }
        if self.request.asks_for_task() {
            return outbound::not_started("policy wants the answer without secrets, and a task's comes past it");
        }
        // What an upstream says meanwhile may hold what its result may not.
        let progress = self.request.progress.clone().map(|progress| Progress { is_muted: true, ..progress });
        let request = Outbound { progress, aside: None, ..self.request.clone() };
        self.channel.carry_out(leave, &request).await
    }
}

impl Execute for Executor {
    type Reply = Reply;

    fn execute(&self, permit: Permit) -> impl Future<Output = Executed<Reply>> + Send {
        self.carry_out(permit)
    }
}
