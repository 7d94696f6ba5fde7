//! What an upstream says besides answers: notifications, and questions to a client that wait for an answer.
//!
//! A question is answered once, refused where nobody takes it, and withdrawn where the upstream cancels it or the
//! request is over that it belongs to. How many wait at once is bounded, and so is how long, and how many bytes they
//! hold. Whoever answers under a permit waits until the answer is sent: it is a part of the effect. It must not know
//! transports: whoever hands a question over sends what [`Questions::settle`] gives.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::outbound;
use crate::mcp::wire::envelope::Key;
use crate::mcp::wire::{
    Frame, INTERNAL_ERROR, INVALID_REQUEST, Id, METHOD_NOT_FOUND, Message, error_frame, response_frame,
};

/// Questions that wait at once on one link.
const QUESTIONS_MAX: usize = 64;
/// Bytes of the questions that wait at once on one link.
const QUESTION_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What an upstream says besides answers and progress.
#[derive(Debug)]
pub(crate) enum Said {
    /// A notification, raw.
    Notification(Frame),
    /// A request of the upstream to the client.
    Question(Question),
}

/// A request of the upstream to the client. One that is dropped without an answer is refused to the upstream.
#[derive(Debug)]
pub(crate) struct Question {
    frame: Frame,
    answer: oneshot::Sender<Given>,
    gone: CancellationToken,
}

/// An answer, as it was given.
#[derive(Debug)]
struct Given {
    answered: Answered,
    over: CancellationToken,
    sent: Option<oneshot::Sender<bool>>,
}

/// What a client answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answered {
    /// The raw JSON of the result.
    Result(Bytes),
    /// The raw JSON of the JSON-RPC error.
    Error(Bytes),
}

impl Question {
    /// The question in `frame`, and where its answer comes out.
    pub(crate) fn of(frame: Frame) -> (Self, Asking) {
        let (answer, answered) = oneshot::channel();
        let gone = CancellationToken::new();
        (Self { frame, answer, gone: gone.clone() }, Asking { answered, gone: gone.drop_guard() })
    }

    /// The upstream's request, under the upstream's own id.
    pub(crate) const fn frame(&self) -> &Frame {
        &self.frame
    }

    /// Cancelled when the upstream no longer waits for the answer.
    pub(crate) const fn withdrawn(&self) -> &CancellationToken {
        &self.gone
    }

    /// Answers it, once. An upstream that no longer waits does not hear it.
    pub(crate) fn answer(self, answered: Answered) {
        // Nobody may wait any more.
        let _ = self.answer.send(Given { answered, over: CancellationToken::new(), sent: None });
    }

    /// Answers it, once, and waits until that is sent; `false` where it was not. Cancelling `over` ends the sending: when
    /// this has returned after that, no byte of the answer follows.
    pub(crate) async fn deliver(self, answered: Answered, over: CancellationToken) -> bool {
        let (sent, is_sent) = oneshot::channel();
        // Nobody may wait any more: then the other end is dropped.
        let _ = self.answer.send(Given { answered, over, sent: Some(sent) });
        is_sent.await.unwrap_or(false)
    }
}

/// The other end of a question that came in a result. Dropping it withdraws the question.
pub(crate) struct Asking {
    answered: oneshot::Receiver<Given>,
    gone: DropGuard,
}

impl Asking {
    /// The answer, once; none where nobody gives one, or it must not be sent any more.
    pub(crate) async fn answer(self) -> Option<Answered> {
        let Self { answered, gone } = self;
        let Given { answered, over, sent } = answered.await.ok()?;
        gone.disarm();
        let passes = !over.is_cancelled();
        if let Some(sent) = sent {
            // Nobody may wait any more.
            let _ = sent.send(passes);
        }
        passes.then_some(answered)
    }
}

/// What is to be sent to an upstream that asked.
pub(crate) struct Outgoing {
    pub(crate) frame: Vec<u8>,
    /// Cancelled when it must not be sent any more.
    pub(crate) over: CancellationToken,
    sent: Option<oneshot::Sender<bool>>,
}

impl Outgoing {
    fn own(frame: Vec<u8>) -> Self {
        Self { frame, over: CancellationToken::new(), sent: None }
    }

    /// Says whether it was sent, once nothing of it is being sent any more.
    pub(crate) fn sent(self, is_sent: bool) {
        if let Some(sent) = self.sent {
            // Nobody may wait any more.
            let _ = sent.send(is_sent);
        }
    }
}

/// The questions of one link that wait for an answer.
pub(crate) struct Questions {
    pending: Mutex<BTreeMap<Key, Waiting>>,
    timeout: Duration,
}

struct Waiting {
    withdrawn: CancellationToken,
    bytes: usize,
}

/// A question that was handed over.
pub(crate) struct Pending {
    id: Id,
    answered: oneshot::Receiver<Given>,
    withdrawn: CancellationToken,
    /// What whoever has the question sees of that. An answer that is being sent is not taken back by the end of what the
    /// question belongs to, which it may bring about.
    gone: CancellationToken,
}

impl Questions {
    pub(crate) const fn new(timeout: Duration) -> Self {
        Self { pending: Mutex::new(BTreeMap::new()), timeout }
    }

    /// Hands the request in `frame` to `to`, as long as `scope` is not cancelled.
    ///
    /// # Errors
    /// What to answer at once: an answer to `ping`, or a refusal.
    pub(crate) fn ask(
        &self,
        frame: &Frame,
        to: Option<&mpsc::Sender<Said>>,
        scope: &CancellationToken,
    ) -> Result<Pending, Vec<u8>> {
        let Message::Request { id, method, .. } = frame.message() else {
            return Err(error_frame(None, INVALID_REQUEST, "not a request", None));
        };
        if method == "ping" {
            return Err(response_frame(id, "result", b"{}"));
        }
        let Some(to) = to.filter(|to| !to.is_closed()) else {
            return Err(error_frame(Some(id), METHOD_NOT_FOUND, "no client is here to take this request", None));
        };
        if !outbound::is_small(frame) {
            return Err(error_frame(Some(id), INVALID_REQUEST, "a request has too many values", None));
        }
        let withdrawn = scope.child_token();
        let bytes = frame.bytes().len();
        {
            let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
            if pending.contains_key(id.key()) {
                return Err(error_frame(
                    Some(id),
                    INVALID_REQUEST,
                    "a request with this id waits for its answer",
                    None,
                ));
            }
            let held = pending.values().map(|waiting| waiting.bytes).fold(bytes, usize::saturating_add);
            if pending.len() >= QUESTIONS_MAX || held > QUESTION_BYTES_MAX {
                return Err(error_frame(Some(id), INTERNAL_ERROR, "too many requests wait for an answer", None));
            }
            pending.insert(id.key().clone(), Waiting { withdrawn: withdrawn.clone(), bytes });
        }
        let (answer, answered) = oneshot::channel();
        let gone = CancellationToken::new();
        let question = Question { frame: frame.clone(), answer, gone: gone.clone() };
        if to.try_send(Said::Question(question)).is_err() {
            self.forget(id.key());
            return Err(error_frame(Some(id), INTERNAL_ERROR, "the client takes no request now", None));
        }
        Ok(Pending { id: id.clone(), answered, withdrawn, gone })
    }

    /// Waits for the answer and words it; none where nothing is to be said any more.
    pub(crate) async fn settle(&self, pending: Pending) -> Option<Outgoing> {
        let Pending { id, answered, withdrawn, gone } = pending;
        let outgoing = tokio::select! {
            biased;
            () = withdrawn.cancelled() => {
                gone.cancel();
                None
            }
            answered = answered => Some(match answered {
                Ok(Given { answered, over, sent }) => {
                    let (member, raw) = match &answered {
                        Answered::Result(raw) => ("result", raw),
                        Answered::Error(raw) => ("error", raw),
                    };
                    Outgoing { frame: response_frame(&id, member, raw), over, sent }
                }
                Err(_) => Outgoing::own(refusal(&id, "the client did not take this request")),
            }),
            () = tokio::time::sleep(self.timeout) => {
                gone.cancel();
                Some(Outgoing::own(refusal(&id, "the client did not answer in time")))
            }
        };
        self.forget(id.key());
        outgoing
    }

    /// Withdraws the question that a `notifications/cancelled` of the upstream names.
    pub(crate) fn withdraw(&self, frame: &Frame) {
        let Message::Notification { params: Some(params), .. } = frame.message() else { return };
        let Some(Ok(id)) = params.get("requestId").map(|id| Id::read(id, frame.bytes())) else { return };
        let pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(waiting) = pending.get(id.key()) {
            waiting.withdrawn.cancel();
        }
    }

    fn forget(&self, key: &Key) {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

fn refusal(id: &Id, text: &str) -> Vec<u8> {
    error_frame(Some(id), INTERNAL_ERROR, text, None)
}

/// The method of a notification; empty for any other message.
pub(crate) fn note_of(frame: &Frame) -> &str {
    match frame.message() {
        Message::Notification { method, .. } => method,
        Message::Request { .. } | Message::Response { .. } => "",
    }
}

/// Hands a notification over. What does not fit is dropped: a slow client may not hold up an upstream.
pub(crate) fn tell(to: &mpsc::Sender<Said>, frame: &Frame) {
    if to.try_send(Said::Notification(frame.clone())).is_err() {
        tracing::debug!("a notification was dropped: the client is slow or gone");
    }
}
