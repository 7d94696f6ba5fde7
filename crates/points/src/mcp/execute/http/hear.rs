//! What comes on the streams of one HTTP session besides answers, and whom it is for.
//!
//! What comes on a request's own stream belongs to that request; what comes on the session's stream, to the client that
//! has the session. Answers to questions go out as long as the request lives that the question came with and the permit
//! under which it was answered, and not a byte later. It must not know how answers to our requests are read.

use std::sync::Arc;
use std::time::Duration;

use hyper::Method;
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::HttpLink;
use super::cut::Cutter;
use super::talk::Heading;
use crate::mcp::execute::ears::Change;
use crate::mcp::execute::said::{Said, note_of, tell};
use crate::mcp::wire::{Era, Frame, Message};

/// How long an answer of ours to an upstream's own request may take to be sent.
const SENDING: Duration = Duration::from_secs(1);

/// Listens to one stream.
pub(super) struct Hearing {
    link: Arc<HttpLink>,
    /// What opens the upstream for answers on this stream.
    heading: Heading,
    aside: Option<mpsc::Sender<Said>>,
    /// Cancelled when the request is over that the stream is of.
    scope: CancellationToken,
    guard: DropGuard,
    /// Cancelled where nothing may be sent any more.
    quiet: CancellationToken,
    /// Every task that may still send something holds one.
    busy: mpsc::Sender<()>,
    idle: mpsc::Receiver<()>,
}

impl Hearing {
    pub(super) fn new(link: &Arc<HttpLink>, heading: Heading, aside: Option<mpsc::Sender<Said>>) -> Self {
        let (busy, idle) = mpsc::channel(1);
        let scope = link.closed.child_token();
        let guard = scope.clone().drop_guard();
        let quiet = link.closed.child_token();
        Self { link: Arc::clone(link), heading, aside, scope, guard, quiet, busy, idle }
    }

    /// Takes a message that is no answer to us.
    pub(super) fn hear(&self, frame: &Frame) {
        match frame.message() {
            Message::Response { .. } => tracing::debug!("an answer that nobody waits for was dropped"),
            Message::Request { .. } if self.link.era == Era::Modern => {
                // There is no way to answer one in this revision.
                tracing::warn!("a request of the upstream was dropped: a server does not ask in this revision");
            }
            Message::Request { .. } => self.asked(frame),
            Message::Notification { .. } => self.noted(frame),
        }
    }

    /// Ends it with its request: questions of this stream are not answered any more.
    pub(super) fn end(self) {
        drop(self.guard);
    }

    /// Ends it where the request was stopped: what was being sent has ended when this returns, and nothing follows.
    pub(super) async fn silence(self) {
        let Self { guard, quiet, busy, mut idle, .. } = self;
        quiet.cancel();
        drop((guard, busy));
        // Ends when the last task has let go.
        while idle.recv().await.is_some() {}
    }

    fn noted(&self, frame: &Frame) {
        let change = || Change { era: self.link.era, frame: frame.clone() };
        match note_of(frame) {
            // On a stream of its own the gateway lists them first; what a client's stream says, that client hears.
            "notifications/tools/list_changed" if self.link.ears.changed(change()) && self.aside.is_none() => return,
            "notifications/cancelled" => self.link.questions.withdraw(frame),
            _ => {}
        }
        match self.aside.as_ref().or_else(|| self.link.ears.client()) {
            Some(to) => tell(to, frame),
            None => tracing::debug!("a notification of the upstream was dropped: it belongs to nobody"),
        }
    }

    fn asked(&self, frame: &Frame) {
        let to = self.aside.as_ref().or_else(|| self.link.ears.client());
        let asked = self.link.questions.ask(frame, to, &self.scope);
        let places = Arc::clone(&self.link.site.aside);
        let (link, heading, busy) = (Arc::clone(&self.link), self.heading.clone(), self.busy.clone());
        let (scope, quiet) = (self.scope.clone(), self.quiet.clone());
        match asked {
            Ok(pending) => drop(tokio::spawn(async move {
                if let Some(outgoing) = link.questions.settle(pending).await {
                    let place = tokio::select! {
                        biased;
                        () = scope.cancelled() => None,
                        () = outgoing.over.cancelled() => None,
                        place = places.acquire_owned() => place.ok(),
                    };
                    let is_sent = !scope.is_cancelled()
                        && send(&link, &heading, (&quiet, &outgoing.over), outgoing.frame.clone()).await;
                    outgoing.sent(is_sent);
                    drop(place);
                }
                drop(busy);
            })),
            Err(answer) => match places.try_acquire_owned() {
                Ok(place) => drop(tokio::spawn(async move {
                    send(&link, &heading, (&quiet, &quiet), answer).await;
                    drop((place, busy));
                })),
                Err(_) => tracing::warn!("a request of the upstream was dropped: it asks faster than it is answered"),
            },
        }
    }
}

/// Sends an answer of ours, unless it must not be sent any more before that: then its connection is severed.
async fn send(
    link: &Arc<HttpLink>,
    heading: &Heading,
    (quiet, over): (&CancellationToken, &CancellationToken),
    answer: Vec<u8>,
) -> bool {
    let cutter = Cutter::default();
    let sent = link.send(heading, Method::POST, answer.into(), &cutter);
    let told = tokio::select! {
        biased;
        () = quiet.cancelled() => None,
        () = over.cancelled() => None,
        told = tokio::time::timeout(SENDING, sent) => Some(matches!(told, Ok(Ok(())))),
    };
    if told.is_none() {
        cutter.sever();
    }
    tracing::debug!(ok = told, "answered a request of the upstream");
    told.unwrap_or(false)
}
