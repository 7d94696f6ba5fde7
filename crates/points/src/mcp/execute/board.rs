//! Which requests are in flight on one link whose answers all come on one stream, and whom what comes is for.
//!
//! Ids are ours and are never used again, so a late answer is nobody's; until it has come, what is said may be about its
//! request. It must not know how bytes are written. It does not cover streamable HTTP, where every request has a stream of its own.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use countersign_effects::json::Node;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::audience::{Audience, Member};
use super::ears::{Change, Ears};
use super::late::{Late, Whose};
use super::outbound::{self, Outbound, Progress, Reply};
use super::said::{Outgoing, Pending, Questions, Said, note_of, tell};
use crate::mcp::config::UpstreamLimits;
use crate::mcp::wire::era::SUBSCRIPTION;
use crate::mcp::wire::log::Level;
use crate::mcp::wire::{Era, Frame, Id, METHOD_NOT_FOUND, Message, error_frame};

/// The requests in flight on one link.
pub(crate) struct Board {
    state: Mutex<State>,
    ids: AtomicU64,
    in_flight_max: usize,
    questions: Questions,
    audience: Arc<Audience>,
    ears: Ears,
    /// Cancelled with the link.
    closed: CancellationToken,
}

#[derive(Default)]
struct State {
    waiting: BTreeMap<u64, Waiting>,
    late: Late,
}

struct Waiting {
    answer: oneshot::Sender<Reply>,
    progress: Option<Progress>,
    aside: Option<mpsc::Sender<Said>>,
    /// Whose request it is.
    whose: Whose,
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
            state: Mutex::default(),
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
        let whose = Whose { member, owner: self.audience.owner(member) };
        let mut state = self.state();
        // A stream that stays open takes no place from the others.
        let same = state.waiting.values().filter(|other| other.listens == request.listens()).count();
        if same >= self.in_flight_max || self.closed.is_cancelled() {
            return None;
        }
        let (progress, aside) = (request.progress.clone(), request.aside.clone());
        state.waiting.insert(id, Waiting { answer, progress, aside, whose, listens: request.listens() });
        Some((id, receiver))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nobody waits for an answer any more. For a request that was never sent, or was answered.
    pub(crate) fn forget(&self, id: u64) {
        drop(self.state().waiting.remove(&id));
    }

    /// Nobody waits any more for the answer to a request that the upstream has: what it says may still be about that.
    pub(crate) fn give_up(&self, id: u64) {
        let mut state = self.state();
        if let Some(waiting) = state.waiting.remove(&id).filter(|waiting| waiting.whose.member != 0) {
            state.late.gave_up(id, waiting.whose);
        }
    }

    /// Whether a request of a client is in flight.
    pub(crate) fn serves_clients(&self) -> bool {
        self.state().waiting.values().any(|waiting| waiting.whose.member != 0)
    }

    pub(crate) fn forget_all(&self) {
        let waiting = std::mem::take(&mut self.state().waiting);
        drop(waiting);
    }

    /// Whose answer this is; the late ones are nobody's.
    fn answered(&self, frame: &Frame) -> Option<Waiting> {
        let Message::Response { id, .. } = frame.message() else { return None };
        let id = id.as_ref().and_then(Id::as_u64)?;
        let mut state = self.state();
        let waiting = state.waiting.remove(&id);
        let late = state.late.answered(id);
        let whose = waiting.as_ref().map(|waiting| &waiting.whose).or(late.as_ref());
        state.late.note(frame.message(), whose.filter(|whose| whose.member != 0));
        waiting
    }

    /// The answer to a question that was handed over; see [`Todo::Settle`].
    pub(crate) async fn settle(&self, pending: Pending) -> Option<Outgoing> {
        self.questions.settle(pending).await
    }

    /// Takes what came from an upstream that speaks `era`.
    pub(crate) fn arrive(&self, frame: Frame, era: Era) -> Option<Todo> {
        match frame.message() {
            Message::Response { .. } => {
                match (self.answered(&frame), Reply::of(frame)) {
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
                let to = self.speaker().map(|(_, ears)| ears);
                let asked = self.questions.ask(&frame, to.as_ref(), &self.closed);
                Some(asked.map_or_else(Todo::Send, Todo::Settle))
            }
            Message::Notification { params, .. } => {
                self.note(&frame, params.as_ref(), era);
                // Last, for what tells of the end of a task is its client's.
                self.state().late.note(frame.message(), None);
                None
            }
        }
    }

    fn note(&self, frame: &Frame, params: Option<&Node>, era: Era) {
        if let Some(listen) = params.and_then(|params| subscription(params, frame)) {
            let state = self.state();
            if let Some(aside) = state.waiting.get(&listen).and_then(|waiting| waiting.aside.as_ref()) {
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
            _ => self.tell_one(frame),
        }
    }

    /// Tells the one client that it can be meant for, if it wants to hear it.
    fn tell_one(&self, frame: &Frame) {
        match self.speaker() {
            Some((member, _)) if Level::of(frame).is_some_and(|level| !self.audience.hears(member, level)) => {
                tracing::debug!("a message of the log was dropped: its client asked for graver ones");
            }
            Some((_, ears)) => tell(&ears, frame),
            None => tracing::debug!("a notification of the upstream was dropped: it belongs to nobody"),
        }
    }

    /// An upstream takes back a question of its own, or ends a subscription of ours.
    fn cancelled(&self, frame: &Frame, params: Option<&Node>, era: Era) {
        if era == Era::Legacy {
            self.questions.withdraw(frame);
            if let Some((_, ears)) = self.speaker() {
                tell(&ears, frame);
            }
            return;
        }
        let id = params.and_then(|params| params.get("requestId")).and_then(|id| id.as_u64(frame.bytes()));
        let waiting = &mut self.state().waiting;
        if let Some(id) = id.filter(|id| waiting.get(id).is_some_and(|waiting| waiting.listens)) {
            // Whoever listens sees that the stream is over.
            drop(waiting.remove(&id));
        }
    }

    /// The one client that this can be meant for, and where it listens: the one with requests in flight, with calls that
    /// were given up, or with tasks; on the stream of its request where it has that alone, else on its own. Without any, the
    /// only client there is, if the link is its own.
    fn speaker(&self) -> Option<(Member, mpsc::Sender<Said>)> {
        let state = self.state();
        let mut clients =
            state.waiting.values().filter(|waiting| waiting.whose.member != 0 && !waiting.listens).peekable();
        // All that was given up on a link of one client's own is that client's.
        let late: Vec<&Whose> = state.late.all().filter(|_| self.ears.client().is_none()).collect();
        let Some(first) = clients.peek().map(|waiting| &waiting.whose).or_else(|| late.first().copied()) else {
            drop(state);
            return self.ears.client().map(|ears| (1, ears.clone()));
        };
        let member = first.member;
        let is_full = state.late.is_full() && self.ears.client().is_none();
        if is_full || late.iter().any(|whose| !whose.is_one(first)) {
            return None;
        }
        // Where several share a client's number, one stream can be another's than what was given up.
        let is_shared = first.owner.is_none();
        let (mut aside, mut count) = (None, if is_shared { late.len() } else { 0 });
        for waiting in clients {
            if waiting.whose.member != member {
                return None;
            }
            aside = waiting.aside.clone();
            count = count.saturating_add(1);
        }
        let ears = aside.filter(|_| count == 1);
        drop(state);
        Some((member, ears.or_else(|| self.audience.ears(member))?))
    }

    fn relay_progress(&self, frame: &Frame) {
        let Some(id) = outbound::progress_id(frame) else { return };
        let state = self.state();
        if let Some(progress) = state.waiting.get(&id).and_then(|waiting| waiting.progress.as_ref()) {
            progress.relay(frame);
        }
    }
}

/// The request of ours whose stream a notification belongs to (2026-07-28, `basic/patterns/subscriptions`).
fn subscription(params: &Node, frame: &Frame) -> Option<u64> {
    params.get("_meta")?.get(SUBSCRIPTION)?.as_u64(frame.bytes())
}
