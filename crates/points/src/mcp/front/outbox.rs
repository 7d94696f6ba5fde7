//! What one session has to hear outside of its requests: events with ids, kept for a while so that a client that lost
//! its stream hears them again (2025-11-25, `basic/transports`, "Resumability and Redelivery").
//!
//! Bounded: what is oldest is forgotten first. One stream gets each event, the one that was opened last. It must not know
//! what an event says, nor who may listen.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

/// Events that are kept.
pub(crate) const EVENTS_MAX: usize = 64;
/// Bytes that are kept.
pub(crate) const BYTES_MAX: usize = 256 * 1024;

/// The events of one session.
#[derive(Default)]
pub(crate) struct Outbox {
    state: Mutex<State>,
    news: Notify,
}

#[derive(Default)]
struct State {
    /// The id of the newest event; the first is 1.
    newest: u64,
    /// The id of the newest event that a stream took.
    taken: u64,
    held: VecDeque<(u64, Bytes)>,
    bytes: usize,
    /// Open streams, oldest first.
    streams: Vec<u64>,
    opened: u64,
}

/// One stream that listens.
pub(crate) struct Listener {
    stream: u64,
    /// The id of the newest event that it has.
    after: u64,
}

impl Outbox {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an event; `false` where it is larger than what is kept in all, and nobody will hear it.
    pub(crate) fn push(&self, event: Bytes) -> bool {
        if event.len() > BYTES_MAX {
            return false;
        }
        let mut state = self.state();
        state.newest = state.newest.saturating_add(1);
        state.bytes = state.bytes.saturating_add(event.len());
        let id = state.newest;
        state.held.push_back((id, event));
        while state.held.len() > EVENTS_MAX || state.bytes > BYTES_MAX {
            let Some((_, forgotten)) = state.held.pop_front() else { break };
            state.bytes = state.bytes.saturating_sub(forgotten.len());
        }
        drop(state);
        self.news.notify_waiters();
        true
    }

    /// Whether a stream is open.
    pub(crate) fn is_heard(&self) -> bool {
        !self.state().streams.is_empty()
    }

    /// Waits until a stream is open.
    pub(crate) async fn heard(&self) {
        loop {
            let news = self.news.notified();
            tokio::pin!(news);
            news.as_mut().enable();
            if self.is_heard() {
                return;
            }
            news.await;
        }
    }

    /// Opens a stream that goes on after the event with the id `last`, or with what no stream has taken.
    pub(crate) fn listen(&self, last: Option<u64>) -> Listener {
        let mut state = self.state();
        state.opened = state.opened.saturating_add(1);
        let stream = state.opened;
        state.streams.push(stream);
        let after = last.unwrap_or(state.taken).min(state.newest);
        drop(state);
        self.news.notify_waiters();
        Listener { stream, after }
    }

    /// Closes a stream.
    pub(crate) fn leave(&self, listener: &Listener) {
        self.state().streams.retain(|stream| *stream != listener.stream);
        self.news.notify_waiters();
    }

    /// The next event of a stream, with its id.
    pub(crate) async fn next(&self, listener: &mut Listener) -> (u64, Bytes) {
        loop {
            let news = self.news.notified();
            tokio::pin!(news);
            // From here on nothing is missed, even before it is awaited.
            news.as_mut().enable();
            if let Some(event) = self.take(listener) {
                return event;
            }
            news.await;
        }
    }

    fn take(&self, listener: &mut Listener) -> Option<(u64, Bytes)> {
        let mut state = self.state();
        if state.streams.last() != Some(&listener.stream) {
            return None;
        }
        let (id, event) = state.held.iter().find(|(id, _)| *id > listener.after).cloned()?;
        listener.after = id;
        state.taken = state.taken.max(id);
        Some((id, event))
    }
}
