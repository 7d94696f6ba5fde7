//! Answering one request: as one message, or as a stream of events once there is something to say before the answer.
//!
//! A client that takes events gets one message where the answer is the first thing to come, and events from the first
//! notification on, or once it has waited for a while, so that its connection stays alive. It must not know how an
//! answer comes to be.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use countersign_effects::json::{Limits, Node, parse};
use countersign_model::Caller;
use hyper::{Response, StatusCode};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::DropGuard;

use super::asked::Asked;
use super::body::ReplyBody;
use super::checks::Accepts;
use super::kept;
use super::pulse::Pulse;
use super::questions::{self, Outlet};
use super::refusal::json_response;
use super::work::Work;
use super::{EVENTS_QUEUE, Front, Session};
use crate::Governor;
use crate::mcp::adapt::{self, rounds::QUESTIONS};
use crate::mcp::execute::Upstream;
use crate::mcp::execute::channel::Said;
use crate::mcp::methods::{Exchange, Kind, Method, Place};
use crate::mcp::route::rename::Prefixing;
use crate::mcp::wire::era::LATEST_LEGACY;
use crate::mcp::wire::{
    Era, Frame, HEADER_MISMATCH, INTERNAL_ERROR, Id, METHOD_NOT_FOUND, MISSING_CAPABILITY, Message,
    UNSUPPORTED_VERSION, error_frame, splice, sse,
};

#[cfg(test)]
mod tests;

/// What an upstream says on a request's own stream may wait so long to be heard.
const SAID_QUEUE: usize = 32;

/// Who waits for an answer.
pub(super) struct Waiting {
    pub(super) id: Id,
    pub(super) era: Era,
    pub(super) accepts: Accepts,
    /// Cancels what is waited for when nobody waits any more.
    pub(super) guard: Option<DropGuard>,
    /// Where it gave a token for progress.
    pulse: Option<Pulse>,
    /// The session in which its stream can be gone on with.
    resumable: Option<Arc<Session>>,
}

impl Waiting {
    pub(super) fn of(asked: &Asked, guard: Option<DropGuard>) -> Self {
        // Before, a client could take the event that opens a stream for a message that is none.
        let opens = asked.mirroring.mirrors().version == Some(LATEST_LEGACY);
        let resumable = asked.session.clone().filter(|_| opens);
        let token = adapt::progress_token(&asked.params).ok().flatten();
        let pulse = token.map(|(_, token)| Pulse::new(token));
        Self { id: asked.id.clone(), era: asked.era, accepts: asked.accepts, guard, resumable, pulse }
    }

    /// The answer in one piece; as events, it is kept for a client that loses it on the way.
    fn finished(&self, frame: Vec<u8>) -> Response<ReplyBody> {
        let event = |frame: &[u8]| {
            let event = sse::encode(frame);
            self.resumable.as_ref().and_then(|session| kept::whole(session, &event)).unwrap_or(event)
        };
        finished_as(self.era, self.accepts, frame, event)
    }
}

/// What is said before an answer, on its way to the client.
pub(super) struct Stream {
    events: mpsc::Receiver<Bytes>,
    said: mpsc::Receiver<Said>,
    hearing: Hearing,
}

/// The other ends of a [`Stream`].
pub(super) struct Speaking {
    pub(super) events: mpsc::Sender<Bytes>,
    pub(super) said: mpsc::Sender<Said>,
}

/// For whom something is heard.
#[derive(Clone)]
pub(super) struct Hearing {
    /// Who says it.
    pub(super) upstream: Upstream,
    /// Whether its names get its prefix.
    pub(super) prefixed: bool,
    /// On whose account questions are.
    pub(super) caller: Caller,
    /// Where questions go; nowhere in the modern era.
    pub(super) session: Option<Arc<Session>>,
    /// The stream of the request, where it is one's.
    pub(super) stream: Option<mpsc::Sender<Bytes>>,
}

impl Stream {
    pub(super) fn open(mut hearing: Hearing) -> (Self, Speaking) {
        let (events, event_queue) = mpsc::channel(EVENTS_QUEUE);
        let (said, said_queue) = mpsc::channel(SAID_QUEUE);
        hearing.stream = Some(events.clone());
        (Self { events: event_queue, said: said_queue, hearing }, Speaking { events, said })
    }
}

impl<G: Governor<Work>> Front<G> {
    /// Takes in what an upstream says: gives the notification that the client hears, and sees to questions.
    pub(super) fn hear(self: &Arc<Self>, said: Said, hearing: &Hearing) -> Option<Bytes> {
        match said {
            Said::Notification(frame) if !self.passes(&frame, hearing) => None,
            Said::Notification(frame) if hearing.prefixed => Some(renamed(&frame, hearing.upstream.id())),
            Said::Notification(frame) => Some(frame.bytes().clone()),
            Said::Question(question) => {
                // Without a session nobody could answer: dropping it refuses it to the upstream.
                let session = Arc::clone(hearing.session.as_ref()?);
                let outlet = Outlet { session, stream: hearing.stream.clone() };
                let whose = (hearing.upstream.clone(), hearing.caller.clone());
                let within = self.config.limits.question_timeout;
                tokio::spawn(questions::handle(self.governor.clone(), whose, outlet, question, within));
                None
            }
        }
    }

    /// Whether a notification of an upstream is on the list, and about no task of another's.
    fn passes(&self, frame: &Frame, hearing: &Hearing) -> bool {
        let Message::Notification { method, params } = frame.message() else { return false };
        let Some(known) = Method::of(method).filter(|known| known.kind == Kind::Exchange(Exchange::Said)) else {
            tracing::debug!(upstream = %hearing.upstream.id(), "a notification that is on no list was dropped");
            return false;
        };
        if known.place != Place::Task {
            return true;
        }
        if params.as_ref().is_some_and(|params| params.get(QUESTIONS).is_some()) {
            // The client asks for the task, and is answered once the questions in it are decided.
            return false;
        }
        let task = params.as_ref().and_then(|params| params.get("taskId")).and_then(Node::as_str).unwrap_or_default();
        self.tasks.is_of(hearing.upstream.id(), task, &hearing.caller)
    }

    /// Answers once `done` comes, after what comes before it.
    pub(super) async fn respond(
        self: &Arc<Self>,
        mut waiting: Waiting,
        stream: Option<Stream>,
        mut done: oneshot::Receiver<Vec<u8>>,
    ) -> Response<ReplyBody> {
        let Some(mut stream) = stream else {
            let frame = done.await.unwrap_or_else(|_| lost(&waiting.id));
            return waiting.finished(frame);
        };
        let quiet = tokio::time::sleep(self.config.limits.keep_alive);
        tokio::pin!(quiet);
        let first = loop {
            tokio::select! {
                biased;
                Some(event) = stream.events.recv() => break Some(event),
                Some(said) = stream.said.recv() => {
                    if let Some(event) = self.hear(said, &stream.hearing) {
                        break Some(event);
                    }
                }
                answer = &mut done => return waiting.finished(answer.unwrap_or_else(|_| lost(&waiting.id))),
                () = quiet.as_mut() => break waiting.pulse.as_mut().and_then(Pulse::beat),
            }
        };
        let (events, body) = mpsc::channel(EVENTS_QUEUE);
        let events = match &waiting.resumable {
            Some(session) => kept::keeping(session, events),
            None => events,
        };
        let pump = Arc::clone(self).pump((stream, first), (done, waiting.id), events, (waiting.guard, waiting.pulse));
        tokio::spawn(pump);
        self.events(body)
    }

    /// What is said first, then the answer, then the end of the stream. A client that goes away ends it at once.
    async fn pump(
        self: Arc<Self>,
        (mut stream, first): (Stream, Option<Bytes>),
        (mut done, id): (oneshot::Receiver<Vec<u8>>, Id),
        events: mpsc::Sender<Bytes>,
        (guard, mut pulse): (Option<DropGuard>, Option<Pulse>),
    ) {
        let mut next = first;
        let quiet = tokio::time::sleep(self.config.limits.keep_alive);
        tokio::pin!(quiet);
        loop {
            if let Some(event) = next.take() {
                if let Some(pulse) = &mut pulse {
                    pulse.heard(&event);
                }
                if events.send(sse::encode(&event).into()).await.is_err() {
                    return;
                }
                quiet.as_mut().reset(tokio::time::Instant::now() + self.config.limits.keep_alive);
            }
            tokio::select! {
                biased;
                Some(event) = stream.events.recv() => next = Some(event),
                Some(said) = stream.said.recv() => next = self.hear(said, &stream.hearing),
                answer = &mut done => {
                    // The client may have gone: then nobody needs the answer.
                    let _ = events.send(sse::encode(&answer.unwrap_or_else(|_| lost(&id))).into()).await;
                    break;
                }
                () = events.closed() => break,
                () = quiet.as_mut(), if pulse.is_some() => {
                    next = pulse.as_mut().and_then(Pulse::beat);
                    if next.is_none() {
                        pulse = None;
                    }
                }
            }
        }
        drop(guard);
    }
}

/// What is said where work ended without an answer.
fn lost(id: &Id) -> Vec<u8> {
    error_frame(Some(id), INTERNAL_ERROR, "the answer is lost; what happened is in the record", None)
}

/// A notification with its upstream's prefix before its names.
pub(super) fn renamed(frame: &Frame, upstream: &countersign_model::id::UpstreamId) -> Bytes {
    let Message::Notification { method, params } = frame.message() else { return frame.bytes().clone() };
    let edits = Prefixing::of(upstream).notification(method, params.as_ref()).edits();
    splice::edited(frame.bytes(), &(0..frame.bytes().len()), &edits).into()
}

/// Runs `work` to its end whoever still waits for it; `after` runs even where it panics, and before anybody is answered.
pub(super) fn run(
    work: impl Future<Output = Vec<u8>> + Send + 'static,
    after: impl FnOnce() + Send + 'static,
) -> oneshot::Receiver<Vec<u8>> {
    let (done, receiver) = oneshot::channel();
    // Boxed: a task's future is moved several times, and these are large.
    let mut work = Box::pin(work);
    tokio::spawn(async move {
        let ended = poll_fn(|context| {
            let polled = catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(context)));
            polled.map_or_else(|_| Poll::Ready(None), |poll| poll.map(Some))
        });
        let frame = ended.await;
        after();
        match frame {
            // Nobody may wait any more: the record has it.
            Some(frame) => drop(done.send(frame)),
            None => tracing::error!("a request ended without an answer"),
        }
    });
    receiver
}

/// An answer in one piece, as JSON wherever the client takes it and does not name events first. What is no success is JSON.
pub(super) fn finished(era: Era, accepts: Accepts, frame: Vec<u8>) -> Response<ReplyBody> {
    finished_as(era, accepts, frame, sse::encode)
}

fn finished_as(
    era: Era,
    accepts: Accepts,
    frame: Vec<u8>,
    event: impl FnOnce(&[u8]) -> Vec<u8>,
) -> Response<ReplyBody> {
    let status = if era == Era::Modern { status_of(&frame) } else { StatusCode::OK };
    if accepts.json && !(accepts.events_first && status == StatusCode::OK) {
        return json_response(status, frame);
    }
    let mut response = json_response(status, event(&frame));
    let kind = hyper::header::HeaderValue::from_static("text/event-stream");
    response.headers_mut().insert(hyper::header::CONTENT_TYPE, kind);
    response
}

/// The status of an answer of the modern era (2026-07-28, `basic/transports/streamable-http` and the schema's errors).
fn status_of(frame: &[u8]) -> StatusCode {
    let limits = Limits { bytes_max: usize::MAX, depth_max: 128, nodes_max: usize::MAX };
    // Results, which may be long, are not read again.
    let head = frame.get(..frame.len().min(512)).unwrap_or_default();
    if !head.windows(8).any(|part| part == b"\"error\":") {
        return StatusCode::OK;
    }
    let code = parse(frame, &limits).ok().and_then(|node| {
        let code = node.get("error")?.get("code")?.as_number(frame)?.parse::<i32>();
        code.ok()
    });
    match code {
        Some(METHOD_NOT_FOUND) => StatusCode::NOT_FOUND,
        Some(HEADER_MISMATCH | MISSING_CAPABILITY | UNSUPPORTED_VERSION) => StatusCode::BAD_REQUEST,
        _ => StatusCode::OK,
    }
}

/// Whether a notification is of this method.
pub(super) fn is_notification(frame: &Frame, wanted: &str) -> bool {
    matches!(frame.message(), Message::Notification { method, .. } if method == wanted)
}

/// The parameters of a notification.
pub(super) fn params_of(frame: &Frame) -> Option<&Node> {
    match frame.message() {
        Message::Notification { params, .. } => params.as_ref(),
        Message::Request { .. } | Message::Response { .. } => None,
    }
}
