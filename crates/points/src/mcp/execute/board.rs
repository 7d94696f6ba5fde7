//! Which requests are in flight on one link whose answers all come on one stream, and whom what comes is for.
//!
//! Ids are ours and are never used again, so a late answer is nobody's. It must not know how bytes are written. It does not
//! cover streamable HTTP, where every request has a stream of its own.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use countersign_effects::json::Node;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::audience::{Audience, Member};
use super::ears::{Change, Ears};
use super::outbound::{self, Outbound, Progress, Reply};
use super::said::{Pending, Questions, Said, note_of, tell};
use crate::mcp::config::UpstreamLimits;
use crate::mcp::wire::era::SUBSCRIPTION;
use crate::mcp::wire::{Era, Frame, METHOD_NOT_FOUND, Message, error_frame};

/// The requests in flight on one link.
pub(crate) struct Board {
    waiting: Mutex<BTreeMap<u64, Waiting>>,
    ids: AtomicU64,
    in_flight_max: usize,
    questions: Questions,
    audience: Arc<Audience>,
    ears: Ears,
    /// Cancelled with the link.
    closed: CancellationToken,
}

struct Waiting {
    answer: oneshot::Sender<Reply>,
    progress: Option<Progress>,
    aside: Option<mpsc::Sender<Said>>,
    /// Whose request it is.
    member: Member,
    /// Whether it is a stream that stays open, so that nothing but what names it belongs to it.
    listens: bool,
}

/// What a link has to do about a message that came.
pub(crate) enum Todo {
    /// Send this.
    Send(Vec<u8>),
    /// Wait for the answer of a client, and send what [`Board::settle`] gives.
    Settle(Pending),
}

impl Board {
    pub(crate) fn new(limits: &UpstreamLimits, audience: Arc<Audience>, ears: Ears, closed: CancellationToken) -> Self {
        Self {
            waiting: Mutex::new(BTreeMap::new()),
            ids: AtomicU64::new(1),
            in_flight_max: limits.in_flight_max,
            questions: Questions::new(limits.call_timeout),
            audience,
            ears,
            closed,
        }
    }

    /// Takes an id and a place; `None` where too many are in flight, or the link is over.
    pub(crate) fn expect(&self, request: &Outbound, member: Member) -> Option<(u64, oneshot::Receiver<Reply>)> {
        let (answer, receiver) = oneshot::channel();
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        // A stream that stays open takes no place from the others.
        let same = waiting.values().filter(|other| other.listens == request.listens()).count();
        if same >= self.in_flight_max || self.closed.is_cancelled() {
            return None;
        }
        let (progress, aside) = (request.progress.clone(), request.aside.clone());
        waiting.insert(id, Waiting { answer, progress, aside, member, listens: request.listens() });
        Some((id, receiver))
    }

    pub(crate) fn forget(&self, id: u64) {
        drop(self.take(id));
    }

    pub(crate) fn forget_all(&self) {
        let waiting = std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        drop(waiting);
    }

    fn take(&self, id: u64) -> Option<Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&id)
    }

    /// The answer to a question that was handed over; see [`Todo::Settle`].
    pub(crate) async fn settle(&self, pending: Pending) -> Option<Vec<u8>> {
        self.questions.settle(pending).await
    }

    /// Takes what came from an upstream that speaks `era`.
    pub(crate) fn arrive(&self, frame: Frame, era: Era) -> Option<Todo> {
        match frame.message() {
            Message::Response { id, .. } => {
                let waiting = id.as_ref().and_then(|id| id.as_u64()).and_then(|id| self.take(id));
                match (waiting, Reply::of(frame)) {
                    // The caller may have gone: then nobody needs the answer.
                    (Some(waiting), Some(reply)) => drop(waiting.answer.send(reply)),
                    _ => tracing::debug!("an answer that nobody waits for was dropped"),
                }
                None
            }
            Message::Request { id, method, .. } if era == Era::Modern && method != "ping" => {
                let text = "a server does not ask requests in this revision";
                Some(Todo::Send(error_frame(Some(id), METHOD_NOT_FOUND, text, None)))
            }
            Message::Request { .. } => {
                let asked = self.questions.ask(&frame, self.speaker().as_ref(), &self.closed);
                Some(asked.map_or_else(Todo::Send, Todo::Settle))
            }
            Message::Notification { params, .. } => {
                self.note(&frame, params.as_ref(), era);
                None
            }
        }
    }

    fn note(&self, frame: &Frame, params: Option<&Node>, era: Era) {
        if let Some(listen) = params.and_then(|params| subscription(params, frame)) {
            let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(aside) = waiting.get(&listen).and_then(|waiting| waiting.aside.as_ref()) {
                tell(aside, frame);
            }
            return;
        }
        match note_of(frame) {
            "notifications/progress" => self.relay_progress(frame),
            "notifications/cancelled" => self.cancelled(frame, params, era),
            "notifications/tools/list_changed" => {
                if !self.ears.changed(Change { era, frame: frame.clone() }) {
                    self.audience.tell_all(frame);
                }
            }
            "notifications/prompts/list_changed" | "notifications/resources/list_changed" => {
                self.audience.tell_all(frame);
            }
            "notifications/resources/updated" if self.ears.client().is_none() => {
                if let Some(uri) = params.and_then(|params| params.get("uri")).and_then(Node::as_str) {
                    self.audience.tell_subscribers(uri, frame);
                }
            }
            _ => match self.speaker() {
                Some(ears) => tell(&ears, frame),
                None => tracing::debug!("a notification of the upstream was dropped: it belongs to nobody"),
            },
        }
    }

    /// An upstream takes back a question of its own, or ends a subscription of ours.
    fn cancelled(&self, frame: &Frame, params: Option<&Node>, era: Era) {
        if era == Era::Legacy {
            self.questions.withdraw(frame);
            if let Some(ears) = self.speaker() {
                tell(&ears, frame);
            }
            return;
        }
        let id = params.and_then(|params| params.get("requestId")).and_then(|id| id.as_u64(frame.bytes()));
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(id) = id.filter(|id| waiting.get(id).is_some_and(|waiting| waiting.listens)) {
            // Whoever listens sees that the stream is over.
            drop(waiting.remove(&id));
        }
    }

    /// Where the one client listens that this can be meant for: the one with requests in flight, on the stream of its
    /// request where it has one request, else on its own; without any request the only client there is, if the link is
    /// its own.
    fn speaker(&self) -> Option<mpsc::Sender<Said>> {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let mut clients = waiting.values().filter(|waiting| waiting.member != 0 && !waiting.listens);
        let Some(first) = clients.next() else {
            drop(waiting);
            return self.ears.client().cloned();
        };
        let mut alone = true;
        for other in clients {
            alone = false;
            if other.member != first.member {
                return None;
            }
        }
        match &first.aside {
            Some(aside) if alone => Some(aside.clone()),
            _ => self.audience.ears(first.member),
        }
    }

    fn relay_progress(&self, frame: &Frame) {
        let Some(id) = outbound::progress_id(frame) else { return };
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(progress) = waiting.get(&id).and_then(|waiting| waiting.progress.as_ref()) {
            progress.relay(frame);
        }
    }
}

/// The request of ours whose stream a notification belongs to (2026-07-28, `basic/patterns/subscriptions`).
fn subscription(params: &Node, frame: &Frame) -> Option<u64> {
    params.get("_meta")?.get(SUBSCRIPTION)?.as_u64(frame.bytes())
}
