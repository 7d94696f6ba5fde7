//! Keeping an upstream up: open, shake hands, list, wait for its end, back off, again.
//!
//! Only the end of the link starts a new one; nothing in a request can. It must not know clients.

use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use tokio::sync::broadcast;
use tokio::time::Instant;

use super::http::HttpLink;
use super::link::{Link, LinkError};
use super::{Live, Shared, listing, stdio};
use crate::mcp::config::{Transport, UpstreamConfig};
use crate::mcp::guard::UpstreamState;

/// Opens the transport; nothing has been said yet.
pub(super) async fn open(config: &UpstreamConfig, changes: &broadcast::Sender<Bytes>) -> Result<Link, LinkError> {
    match &config.transport {
        Transport::Stdio(child) => {
            Ok(Link::Pipe(stdio::spawn((child, &config.guard), changes.clone(), &config.limits)?))
        }
        Transport::Http { url, credential } => {
            Ok(Link::Http(HttpLink::open(url.clone(), credential.as_ref(), &config.limits)?))
        }
    }
}

/// Shakes hands and lists, then lets calls in.
pub(super) async fn greet(shared: &Shared, link: Link) -> Result<Live, LinkError> {
    let greeted = async {
        let hello = listing::shake_hands(&link).await?;
        link.agree(hello.version(), &shared.changes);
        let tools = listing::list_tools(&link, &hello, &shared.config.limits).await?;
        Ok((hello, tools))
    };
    match greeted.await {
        Ok((hello, tools)) => {
            tracing::info!(upstream = %shared.config.id, version = hello.version(), tools = tools.len(), "up");
            *shared.tools.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(tools);
            let live = Live { link, hello: Arc::new(hello) };
            *shared.greeted.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&live.hello));
            shared.link.send_replace(Some(live.clone()));
            Ok(live)
        }
        Err(error) => {
            link.close();
            Err(error)
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

/// Waits for the link's end and opens a new one, until the upstream is shut down.
pub(super) async fn keep_up(shared: Arc<Shared>, first: Live) {
    let limits = &shared.config.limits;
    let mut live = Some(first);
    let mut wait = limits.backoff_min;
    let mut tries = Tries::of(&shared.config);
    tries.config.guard.tell(UpstreamState::Up);
    loop {
        if let Some(live) = live.take() {
            let since = Instant::now();
            let over = tokio::select! {
                () = shared.shutdown.cancelled() => true,
                () = live.link.closed().cancelled() => false,
            };
            if over {
                live.link.farewell().await;
            }
            live.link.close();
            shared.link.send_replace(None);
            if over {
                return;
            }
            tracing::warn!(upstream = %shared.config.id, "down");
            if since.elapsed() > limits.backoff_max {
                wait = limits.backoff_min;
                tries.failures = 0;
            }
            if tries.failed(None) {
                return;
            }
        }
        tokio::select! {
            () = shared.shutdown.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
        wait = wait.saturating_mul(2).min(limits.backoff_max);
        let opened = async {
            let link = open(&shared.config, &shared.changes).await?;
            greet(&shared, link).await
        };
        tokio::select! {
            () = shared.shutdown.cancelled() => return,
            opened = opened => match opened {
                Ok(new) => {
                    // Clients may hold a listing of the upstream's former life.
                    let changed = crate::mcp::wire::notification_frame("notifications/tools/list_changed", None);
                    let _ = shared.announced.send(changed.into());
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

/// Lists anew whenever the upstream says that its tools changed, then tells the clients.
pub(super) async fn follow_changes(shared: Arc<Shared>, mut changes: broadcast::Receiver<Bytes>) {
    loop {
        let change = tokio::select! {
            () = shared.shutdown.cancelled() => return,
            change = changes.recv() => match change {
                Ok(change) => change,
                Err(broadcast::error::RecvError::Lagged(_)) => continue,
                Err(broadcast::error::RecvError::Closed) => return,
            },
        };
        // A burst of changes is one change.
        while changes.try_recv().is_ok() {}
        let Some(live) = shared.link.borrow().clone() else { continue };
        match listing::list_tools(&live.link, &live.hello, &shared.config.limits).await {
            Ok(tools) => *shared.tools.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(tools),
            Err(error) => {
                // What the tools are now is not known: none is listed, so policy denies them, until the next listing.
                tracing::error!(upstream = %shared.config.id, %error, "the changed tools could not be listed");
                shared.tools.write().unwrap_or_else(PoisonError::into_inner).clone_from(&Arc::default());
            }
        }
        // No listener is no error.
        let _ = shared.announced.send(change);
    }
}
