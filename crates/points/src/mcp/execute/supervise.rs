//! Keeping an upstream up: open, shake hands in each era, list, wait for its end, back off, again.
//!
//! Only the end of the link starts a new one; nothing in a request can. It must not know clients.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use countersign_model::id::ToolName;
use tokio::sync::{broadcast, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::ears::{Change, Ears};
use super::http::{HttpLink, Site};
use super::link::{Link, LinkError};
use super::outbound::Outbound;
use super::pipe::Pipe;
use super::said::{Said, note_of};
use super::sse::SseLink;
use super::{Leg, Listed, Live, Shared, listing, stdio};
use crate::mcp::config::{EraChoice, Transport, UpstreamConfig};
use crate::mcp::guard::UpstreamState;
use crate::mcp::wire::{Era, Frame, notification_frame};

/// Notifications on the gateway's own listening stream that may wait.
const SAID_QUEUE: usize = 16;

/// A transport on which nothing has been said yet.
pub(super) enum Opened {
    Pipe(Arc<Pipe>),
    Http(Arc<Site>),
    Sse(Arc<Site>),
}

/// Opens the transport.
pub(super) fn open(config: &UpstreamConfig, ears: &Ears) -> Result<Opened, LinkError> {
    let limits = &config.limits;
    match &config.transport {
        Transport::Stdio(child) => Ok(Opened::Pipe(stdio::spawn((child, &config.guard), ears, limits)?)),
        Transport::Http { url, credential } => Ok(Opened::Http(Site::new(url.clone(), credential.as_ref(), limits)?)),
        Transport::Sse { url, credential } => Ok(Opened::Sse(Site::new(url.clone(), credential.as_ref(), limits)?)),
    }
}

/// Shakes hands in each era that the configuration lets be spoken, and the upstream speaks.
pub(super) async fn shake(
    config: &UpstreamConfig,
    opened: Opened,
    ears: &Ears,
    closed: &CancellationToken,
) -> Result<Live, LinkError> {
    match opened {
        Opened::Pipe(pipe) => {
            let leg = shake_pipe(config, Link::Pipe(pipe)).await?;
            let (legacy, modern) = match leg.hello.era() {
                Era::Legacy => (Some(leg), None),
                Era::Modern => (None, Some(leg)),
            };
            Ok(Live { site: None, legacy, modern })
        }
        Opened::Sse(site) => {
            let link = Link::Sse(SseLink::open(&site, ears, closed.child_token()).await?);
            let legacy = Some(shake_legacy(link, "{}").await?);
            Ok(Live { site: Some(site), legacy, modern: None })
        }
        Opened::Http(site) => {
            let link = |era| Link::Http(HttpLink::new(&site, era, ears.clone(), closed.child_token()));
            let modern = match config.era {
                EraChoice::Legacy => Err(LinkError::OtherEra),
                EraChoice::Auto | EraChoice::Modern => probe(config, link(Era::Modern)).await,
            };
            let legacy = match config.era {
                EraChoice::Modern => Err(LinkError::OtherEra),
                EraChoice::Auto | EraChoice::Legacy => shake_legacy(link(Era::Legacy), "{}").await,
            };
            match (legacy, modern) {
                (Err(error), Err(_)) if config.era != EraChoice::Modern => Err(error),
                (Err(_), Err(error)) => Err(error),
                (legacy, modern) => {
                    if let Some(leg) = &legacy.as_ref().ok() {
                        drop(leg.link.attend());
                    }
                    Ok(Live { site: Some(site), legacy: legacy.ok(), modern: modern.ok() })
                }
            }
        }
    }
}

async fn probe(config: &UpstreamConfig, link: Link) -> Result<Leg, LinkError> {
    let asked = tokio::time::timeout(config.limits.probe_timeout, listing::discover(&link)).await;
    match asked.unwrap_or(Err(LinkError::Timeout)) {
        Ok(hello) => Ok(Leg { link, hello: Arc::new(hello) }),
        Err(error) => {
            link.close();
            Err(error)
        }
    }
}

async fn shake_legacy(link: Link, offers: &str) -> Result<Leg, LinkError> {
    match listing::shake_hands(&link, offers).await {
        Ok(hello) => Ok(Leg { link, hello: Arc::new(hello) }),
        Err(error) => {
            link.close();
            Err(error)
        }
    }
}

/// One process speaks one era: the modern one where it answers `server/discover`, else the one with a handshake
/// (2026-07-28, `basic/transports/stdio`, "Backward Compatibility": whichever error it answers with).
async fn shake_pipe(config: &UpstreamConfig, link: Link) -> Result<Leg, LinkError> {
    if config.era != EraChoice::Legacy {
        let asked = tokio::time::timeout(config.limits.probe_timeout, listing::discover(&link)).await;
        match asked.unwrap_or(Err(LinkError::Timeout)) {
            Ok(hello) => return Ok(Leg { link, hello: Arc::new(hello) }),
            Err(error) if config.era == EraChoice::Modern || matches!(error, LinkError::Gone) => {
                link.close();
                return Err(error);
            }
            Err(error) => tracing::debug!(%error, "an upstream does not speak the modern era"),
        }
    }
    shake_legacy(link, &config.offers()).await
}

/// Whether a process that ended may have done so because it was asked for the modern era.
pub(super) fn may_be_legacy(config: &UpstreamConfig) -> bool {
    config.era == EraChoice::Auto && matches!(config.transport, Transport::Stdio(_))
}

/// Opens, shakes hands and lists, then lets calls in. A process that ends when it is asked for the modern era is one of
/// the legacy era, and is started once more and for good as that.
pub(super) async fn raise(shared: &Arc<Shared>) -> Result<Live, LinkError> {
    let mut config = shared.config.clone();
    if shared.is_legacy_only.load(Ordering::Relaxed) {
        config.era = EraChoice::Legacy;
    }
    let opened = open(&config, &shared.ears)?;
    match greet(shared, &config, opened).await {
        Err(LinkError::Gone) if may_be_legacy(&config) => {
            config.era = EraChoice::Legacy;
            let live = greet(shared, &config, open(&config, &shared.ears)?).await?;
            shared.is_legacy_only.store(true, Ordering::Relaxed);
            Ok(live)
        }
        other => other,
    }
}

/// Shakes hands and lists, then lets calls in.
pub(super) async fn greet(shared: &Arc<Shared>, config: &UpstreamConfig, opened: Opened) -> Result<Live, LinkError> {
    let live = shake(config, opened, &shared.ears, &shared.shutdown).await?;
    let mut listed = Vec::new();
    for leg in live.legs() {
        match listing::list_tools(&leg.link, &leg.hello, &config.limits).await {
            Ok(tools) => listed.push((leg, tools)),
            Err(error) => {
                live.close();
                return Err(error);
            }
        }
    }
    for (leg, tools) in listed {
        let (era, version) = (leg.hello.era(), leg.hello.version());
        tracing::info!(upstream = %config.id, ?era, version, tools = tools.len(), "up");
        shared.learn(era, Some(&leg.hello), tools);
    }
    if let Some(leg) = &live.modern {
        tokio::spawn(listen(leg.clone(), shared.ears.clone(), config.limits.backoff_max));
    }
    shared.link.send_replace(Some(live.clone()));
    Ok(live)
}

/// Listens for changes of the tools in the modern era, for the gateway itself.
async fn listen(leg: Leg, ears: Ears, pause: std::time::Duration) {
    let tools = leg.hello.capabilities().and_then(|capabilities| capabilities.get("tools"));
    let tells = tools.and_then(|tools| tools.get("listChanged")).and_then(|flag| flag.as_bool()) == Some(true);
    let Ears::Own { changes, .. } = ears else { return };
    while tells && !leg.link.closed().is_cancelled() {
        let (said, mut heard) = mpsc::channel(SAID_QUEUE);
        let request = Outbound {
            aside: Some(said),
            ..Outbound::plain(
                "subscriptions/listen",
                Some(listing::own_params(r#","notifications":{"toolsListChanged":true}"#)),
            )
        };
        let hear = async {
            while let Some(said) = heard.recv().await {
                if let Said::Notification(frame) = said
                    && note_of(&frame) == "notifications/tools/list_changed"
                {
                    // No listener is no error.
                    let _ = changes.send(Change { era: Era::Modern, frame });
                }
            }
        };
        tokio::select! {
            ended = leg.link.listen((&request, 0), leg.link.closed()) => {
                tracing::debug!(ok = ended.is_ok(), "the gateway's listening stream ended");
            }
            () = hear => {}
        }
        tokio::select! {
            () = leg.link.closed().cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// How often an upstream has failed quickly in a row.
struct Tries<'a> {
    config: &'a UpstreamConfig,
    failures: u32,
}

impl<'a> Tries<'a> {
    const fn of(config: &'a UpstreamConfig) -> Self {
        Self { config, failures: 0 }
    }

    /// Tells of an end that is not counted: it was of our own making, or came while a client was served.
    fn excused(&self) {
        self.config.guard.tell(UpstreamState::Down { failures: self.failures, why: None });
    }

    /// Counts a failure and tells of it. Whether it was one too many: a process that ends whenever it is started is left
    /// alone, a server elsewhere comes back when it comes back, and one that was exchanged may be put back.
    fn failed(&mut self, error: Option<&LinkError>) -> bool {
        let UpstreamConfig { id, transport, limits, guard, .. } = self.config;
        let why = error.map(ToString::to_string);
        if let Some(LinkError::Refused(why)) = error {
            guard.tell(UpstreamState::Refused { why: why.clone() });
            return false;
        }
        self.failures = self.failures.saturating_add(1);
        let failures = self.failures;
        if failures < limits.failures_max || !matches!(transport, Transport::Stdio(_)) {
            guard.tell(UpstreamState::Down { failures, why });
            return false;
        }
        tracing::error!(upstream = %id, failures, "it failed too often in a row and is left alone; start the gateway again");
        guard.tell(UpstreamState::GivenUp { failures, why });
        true
    }
}

/// Waits for the link's end and opens a new one, until the upstream is shut down. The first attempt may have failed.
pub(super) async fn keep_up(shared: Arc<Shared>, first: Result<Live, LinkError>) {
    let limits = &shared.config.limits;
    let mut wait = limits.backoff_min;
    let mut tries = Tries::of(&shared.config);
    let mut live = match first {
        Ok(live) => {
            tries.config.guard.tell(UpstreamState::Up);
            Some(live)
        }
        Err(error) => {
            if tries.failed(Some(&error)) {
                return;
            }
            None
        }
    };
    loop {
        if let Some(live) = live.take() {
            let since = Instant::now();
            let over = tokio::select! {
                () = shared.shutdown.cancelled() => true,
                () = live.lost() => shared.shutdown.is_cancelled(),
            };
            if over {
                live.farewell().await;
            }
            let is_faulty = live.is_faulty();
            live.close();
            shared.link.send_replace(None);
            shared.audience.lost();
            if over {
                return;
            }
            tracing::warn!(upstream = %shared.config.id, "down");
            if since.elapsed() > limits.backoff_max {
                wait = limits.backoff_min;
                tries.failures = 0;
            }
            if !is_faulty {
                wait = limits.backoff_min;
                tries.excused();
            } else if tries.failed(None) {
                return;
            }
        }
        tokio::select! {
            () = shared.shutdown.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
        wait = wait.saturating_mul(2).min(limits.backoff_max);
        tokio::select! {
            () = shared.shutdown.cancelled() => return,
            raised = raise(&shared) => match raised {
                Ok(new) => {
                    // Clients may hold a listing of the upstream's former life.
                    announce(&shared, notification_frame("notifications/tools/list_changed", None));
                    live = Some(new);
                    tries.config.guard.tell(UpstreamState::Up);
                }
                Err(error) => {
                    tracing::warn!(upstream = %shared.config.id, %error, "still down");
                    if tries.failed(Some(&error)) {
                        return;
                    }
                }
            },
        }
    }
}

/// Tells every legacy client of the link that it shares with others.
fn announce(shared: &Shared, frame: Vec<u8>) {
    match Frame::read(frame.into(), &super::outbound::reading(usize::MAX)) {
        Ok(frame) => {
            shared.audience.tell_all(&frame);
            // No listener is no error.
            let _ = shared.announced.send(frame.bytes().clone());
        }
        Err(error) => tracing::error!(%error, "a notification could not be made"),
    }
}

/// Lists anew whenever the upstream says that its tools changed, then tells the clients.
pub(super) async fn follow_changes(shared: Arc<Shared>, mut changes: broadcast::Receiver<Change>) {
    loop {
        let mut latest = tokio::select! {
            () = shared.shutdown.cancelled() => return,
            change = changes.recv() => match change {
                Ok(change) => BTreeMap::from([(change.era, change.frame)]),
                Err(broadcast::error::RecvError::Lagged(_)) => continue,
                Err(broadcast::error::RecvError::Closed) => return,
            },
        };
        // A burst of changes is one change.
        while let Ok(change) = changes.try_recv() {
            latest.insert(change.era, change.frame);
        }
        for (era, frame) in latest {
            let Some(leg) = shared.live().and_then(|live| live.leg(era).cloned()) else { continue };
            match listing::list_tools(&leg.link, &leg.hello, &shared.config.limits).await {
                Ok(tools) => shared.learn(era, None, tools),
                Err(error) => {
                    // What the tools are now is not known: none is listed, so policy denies them, until the next listing.
                    tracing::error!(upstream = %shared.config.id, %error, "the changed tools could not be listed");
                    shared.learn(era, None, BTreeMap::<ToolName, Listed>::new());
                }
            }
            if era == Era::Legacy {
                announce(&shared, frame.bytes().to_vec());
            }
        }
    }
}

impl Shared {
    /// Takes in what a handshake and a listing said.
    fn learn(&self, era: Era, hello: Option<&Arc<super::Hello>>, tools: BTreeMap<ToolName, Listed>) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let known = known.of_mut(era);
        known.tools = Arc::new(tools);
        if let Some(hello) = hello {
            known.hello = Some(Arc::clone(hello));
        }
    }
}
