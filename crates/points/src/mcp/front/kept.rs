//! Streams of requests that a client can go on with: what was said on each since it was opened, its answer last, kept for a
//! while under ids (2025-11-25, `basic/transports`, "Resumability and Redelivery").
//!
//! A call of a client with a handshake goes on when its connection breaks. What it comes to is here, for whoever comes with
//! the session and the id of the last event, instead of a second call. Bounded in streams, events and bytes: what is
//! oldest is forgotten first, and a stream whose answer was forgotten cannot be gone on with. It must not know what an
//! event says, nor who may listen.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::session::Session;
use super::{EVENTS_QUEUE, outbox};

/// Streams of one session that are kept.
pub(crate) const STREAMS_MAX: usize = 64;

/// The streams of one session.
#[derive(Default)]
pub(crate) struct Kept {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    opened: u64,
    /// Oldest first.
    streams: VecDeque<Stream>,
    bytes: usize,
}

struct Stream {
    number: u64,
    /// The number of the newest event; that of the opening is 0.
    newest: u64,
    events: VecDeque<(u64, Bytes)>,
    live: Option<Live>,
    has_ended: bool,
}

/// Where a stream is sent now.
#[derive(Clone)]
pub(crate) struct Live {
    pub(crate) to: mpsc::Sender<Bytes>,
    /// Cancelled when another connection takes the stream over.
    replaced: CancellationToken,
}

impl Live {
    fn new(to: mpsc::Sender<Bytes>) -> Self {
        Self { to, replaced: CancellationToken::new() }
    }
}

/// The event that opens a stream: an id from which a client can go on before anything was said.
fn opening(number: u64) -> Vec<u8> {
    format!("id: {number}.0\nretry: 1000\ndata: \n\n").into_bytes()
}

impl Kept {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a stream that is sent to `live`; its number, and the event that opens it. None where too many are open.
    pub(crate) fn open(&self, live: Option<mpsc::Sender<Bytes>>) -> Option<(u64, Vec<u8>)> {
        let mut state = self.state();
        if state.streams.len() >= STREAMS_MAX {
            let ended = state.streams.iter().position(|stream| stream.has_ended)?;
            state.forget(ended);
        }
        state.opened = state.opened.saturating_add(1);
        let number = state.opened;
        let live = live.map(Live::new);
        state.streams.push_back(Stream { number, newest: 0, events: VecDeque::new(), live, has_ended: false });
        Some((number, opening(number)))
    }

    /// Adds an encoded event; what to send under its id, and where.
    pub(crate) fn push(&self, number: u64, event: &[u8]) -> Option<(Bytes, Option<Live>)> {
        let mut state = self.state();
        let stream = state.streams.iter_mut().find(|stream| stream.number == number)?;
        stream.newest = stream.newest.saturating_add(1);
        let event = Bytes::from([format!("id: {number}.{}\n", stream.newest).as_bytes(), event].concat());
        stream.events.push_back((stream.newest, event.clone()));
        let live = stream.live.clone();
        state.bytes = state.bytes.saturating_add(event.len());
        state.shrink(number);
        Some((event, live))
    }

    /// Notes that a connection is gone.
    fn lose(&self, number: u64, gone: &Live) {
        let mut state = self.state();
        let stream = state.streams.iter_mut().find(|stream| stream.number == number);
        if let Some(stream) =
            stream.filter(|stream| stream.live.as_ref().is_some_and(|it| it.to.same_channel(&gone.to)))
        {
            stream.live = None;
        }
    }

    /// Ends a stream: nothing follows, and whoever is sent it sees its end.
    pub(crate) fn end(&self, number: u64) {
        let mut state = self.state();
        if let Some(stream) = state.streams.iter_mut().find(|stream| stream.number == number) {
            stream.has_ended = true;
            stream.live = None;
        }
    }

    /// Goes on with a stream after one of its events, on another connection. None where that cannot be done any more.
    pub(crate) fn resume(&self, (number, after): (u64, u64)) -> Option<mpsc::Receiver<Bytes>> {
        let mut state = self.state();
        let stream = state.streams.iter_mut().find(|stream| stream.number == number)?;
        let oldest = stream.events.front().map_or(stream.newest.saturating_add(1), |(oldest, _)| *oldest);
        if after > stream.newest || oldest > after.saturating_add(1) {
            return None;
        }
        let missed: Vec<Bytes> =
            stream.events.iter().filter(|(number, _)| *number > after).map(|(_, event)| event.clone()).collect();
        let (to, body) = mpsc::channel(missed.len().saturating_add(EVENTS_QUEUE));
        for event in missed {
            // There is room for all of them.
            let _ = to.try_send(event);
        }
        if let Some(before) = stream.live.take() {
            before.replaced.cancel();
        }
        stream.live = (!stream.has_ended).then(|| Live::new(to));
        Some(body)
    }
}

impl State {
    fn forget(&mut self, at: usize) {
        if let Some(stream) = self.streams.remove(at) {
            let bytes = stream.events.iter().map(|(_, event)| event.len()).sum();
            self.bytes = self.bytes.saturating_sub(bytes);
        }
    }

    /// Forgets what is too much: streams that ended, oldest first, then what is oldest on the stream `number`.
    fn shrink(&mut self, number: u64) {
        while self.bytes > outbox::BYTES_MAX {
            let Some(ended) = self.streams.iter().position(|stream| stream.has_ended) else { break };
            self.forget(ended);
        }
        let mut bytes = self.bytes;
        let Some(stream) = self.streams.iter_mut().find(|stream| stream.number == number) else { return };
        while stream.events.len() > outbox::EVENTS_MAX || bytes > outbox::BYTES_MAX {
            let Some((_, event)) = stream.events.pop_front() else { break };
            bytes = bytes.saturating_sub(event.len());
        }
        self.bytes = bytes;
    }
}

/// The stream and the event that `Last-Event-ID` names; none where it names none of a request's stream.
pub(crate) fn named(last: &str) -> Option<(u64, u64)> {
    let (stream, event) = last.split_once('.')?;
    Some((stream.parse().ok()?, event.parse().ok()?))
}

/// An answer in one piece, as a stream that can be gone on with; none where too many are open.
pub(crate) fn whole(session: &Session, event: &[u8]) -> Option<Vec<u8>> {
    let (number, mut text) = session.kept.open(None)?;
    let (event, _) = session.kept.push(number, event)?;
    session.kept.end(number);
    text.extend_from_slice(&event);
    Some(text)
}

/// Where to send what is said on a stream to `live`, so that it is kept and its client can go on with it. Where too many
/// are open, `live` itself.
pub(crate) fn keeping(session: &Arc<Session>, live: mpsc::Sender<Bytes>) -> mpsc::Sender<Bytes> {
    let Some((number, opening)) = session.kept.open(Some(live.clone())) else { return live };
    // It is the first, so there is room for it.
    let _ = live.try_send(opening.into());
    let (events, mut said) = mpsc::channel::<Bytes>(1);
    let session = Arc::clone(session);
    tokio::spawn(async move {
        loop {
            let event = tokio::select! {
                biased;
                () = session.ended.cancelled() => break,
                event = said.recv() => event,
            };
            let Some(event) = event else { break };
            let Some((event, live)) = session.kept.push(number, &event) else { break };
            let Some(live) = live else { continue };
            let is_gone = tokio::select! {
                biased;
                () = session.ended.cancelled() => break,
                () = live.replaced.cancelled() => false,
                sent = live.to.send(event) => sent.is_err(),
            };
            if is_gone {
                session.kept.lose(number, &live);
            }
        }
        session.kept.end(number);
    });
    events
}
