//! What a legacy upstream says on a request's stream, as a modern client may hear it: log messages only where the request
//! asked for them, and no questions, for nobody could answer them (2026-07-28, `RequestMetaObject`, `logLevel`).
//!
//! It must not know requests.

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::mcp::execute::channel::{Answered, Question, Said};
use crate::mcp::wire::log::Level;
use crate::mcp::wire::{Frame, METHOD_NOT_FOUND, Message, quoted};

/// What may wait to be handed on.
const QUEUE: usize = 32;

/// Hands on to `to` what a request that asked for `level` may hear. Ends when the given sender and its clones are gone.
pub(super) fn filtered(to: mpsc::Sender<Said>, level: Option<Level>) -> (mpsc::Sender<Said>, JoinHandle<()>) {
    let (said, mut heard) = mpsc::channel(QUEUE);
    let relay = tokio::spawn(async move {
        while let Some(said) = heard.recv().await {
            match said {
                Said::Question(question) => refuse(question),
                Said::Notification(frame) if passes(&frame, level) => {
                    if to.try_send(Said::Notification(frame)).is_err() {
                        tracing::debug!("a notification was dropped: the client is slow or gone");
                    }
                }
                Said::Notification(_) => {}
            }
        }
    });
    (said, relay)
}

fn passes(frame: &Frame, level: Option<Level>) -> bool {
    let Message::Notification { method, .. } = frame.message() else { return false };
    if method != "notifications/message" {
        return true;
    }
    level.is_some_and(|level| Level::of(frame).is_some_and(|said| said >= level))
}

/// Tells an upstream why nobody answers.
pub(super) fn refuse(question: Question) {
    let text = "the client speaks a revision without a handshake, in which it cannot be asked from here";
    question.answer(Answered::Error(format!(r#"{{"code":{METHOD_NOT_FOUND},"message":{}}}"#, quoted(text)).into()));
}
