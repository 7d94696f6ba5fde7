//! What an upstream says besides answers: notifications, and questions to a client that wait for an answer.
//!
//! A question is answered once, refused where nobody takes it, and withdrawn where the upstream cancels it or the
//! request is over that it belongs to. How many wait at once is bounded, and so is how long. It must not know
//! transports: whoever hands a question over sends what [`Questions::settle`] gives.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::mcp::wire::envelope::Key;
use crate::mcp::wire::{
    Frame, INTERNAL_ERROR, INVALID_REQUEST, Id, METHOD_NOT_FOUND, Message, error_frame, response_frame,
};

/// Questions that wait at once on one link.
const QUESTIONS_MAX: usize = 64;

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
    answer: oneshot::Sender<Answered>,
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
    /// The upstream's request, under the upstream's own id.
    pub(crate) const fn frame(&self) -> &Frame {
        &self.frame
    }

    /// Resolves when the upstream no longer waits for the answer.
    pub(crate) async fn withdrawn(&mut self) {
        self.answer.closed().await;
    }

    /// Answers it, once. An upstream that no longer waits does not hear it.
    pub(crate) fn answer(self, answered: Answered) {
        // Nobody may wait any more.
        let _ = self.answer.send(answered);
    }
}

/// The questions of one link that wait for an answer.
pub(crate) struct Questions {
    pending: Mutex<BTreeMap<Key, CancellationToken>>,
    timeout: Duration,
}

/// A question that was handed over.
pub(crate) struct Pending {
    id: Id,
    answered: oneshot::Receiver<Answered>,
    withdrawn: CancellationToken,
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
        let withdrawn = scope.child_token();
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
            if pending.len() >= QUESTIONS_MAX {
                return Err(error_frame(Some(id), INTERNAL_ERROR, "too many requests wait for an answer", None));
            }
            pending.insert(id.key().clone(), withdrawn.clone());
        }
        let (answer, answered) = oneshot::channel();
        if to.try_send(Said::Question(Question { frame: frame.clone(), answer })).is_err() {
            self.forget(id.key());
            return Err(error_frame(Some(id), INTERNAL_ERROR, "the client takes no request now", None));
        }
        Ok(Pending { id: id.clone(), answered, withdrawn })
    }

    /// Waits for the answer and words it; none where nothing is to be said any more.
    pub(crate) async fn settle(&self, pending: Pending) -> Option<Vec<u8>> {
        let Pending { id, answered, withdrawn } = pending;
        let said = tokio::select! {
            biased;
            () = withdrawn.cancelled() => None,
            answered = answered => Some(match answered {
                Ok(Answered::Result(raw)) => response_frame(&id, "result", &raw),
                Ok(Answered::Error(raw)) => response_frame(&id, "error", &raw),
                Err(_) => error_frame(Some(&id), INTERNAL_ERROR, "the client did not take this request", None),
            }),
            () = tokio::time::sleep(self.timeout) => {
                Some(error_frame(Some(&id), INTERNAL_ERROR, "the client did not answer in time", None))
            }
        };
        self.forget(id.key());
        said
    }

    /// Withdraws the question that a `notifications/cancelled` of the upstream names.
    pub(crate) fn withdraw(&self, frame: &Frame) {
        let Message::Notification { params: Some(params), .. } = frame.message() else { return };
        let Some(Ok(id)) = params.get("requestId").map(|id| Id::read(id, frame.bytes())) else { return };
        let pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(withdrawn) = pending.get(id.key()) {
            withdrawn.cancel();
        }
    }

    fn forget(&self, key: &Key) {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
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
