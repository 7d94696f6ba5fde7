//! `stdio` in front of the gateway: lines of a client become requests to the endpoint, and answers become lines.
//!
//! It is what a client spawns instead of a server. It decides nothing and holds nothing but one agent's token: every
//! message is one POST, its bytes unchanged, and whatever comes back is one line, its bytes unchanged but for raw line
//! ends between tokens. Both eras pass: a legacy client's session is kept and its stream listened to, a modern message
//! carries its mirrored headers and is cancelled by closing its stream. It must not know the gateway's insides, and no
//! permit, for it is an agent's side of the wire like [`super::client`].
//!
//! # Not covered
//! A session that the gateway forgot is opened anew with the client's own `initialize`; what the client had subscribed to
//! in it is not subscribed to again. A cancellation can overtake its request at the gateway, as over any HTTP.

mod door;
mod exchange;
mod failure;
mod mirror;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use countersign_effects::json::Node;
use hyper::header::HeaderValue;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::execute::outbound::reading;
use super::wire::envelope::Key;
use super::wire::line::{self, LineDecoder};
use super::wire::{Era, Frame, Id, Message, Outcome};
use door::Door;
use exchange::{Outgoing, Session};
use failure::Failure;
use mirror::Annotated;

pub use door::Place;

/// The longest line of a client. The gateway takes less, and says so itself.
const LINE_BYTES_MAX: usize = 16 * 1024 * 1024;
const READ_BYTES: usize = 64 * 1024;
/// Requests in flight.
const IN_FLIGHT_MAX: usize = 256;
/// Lines that wait to be written.
const LINES_QUEUE: usize = 64;
/// How long a message without an answer may take.
const ACCEPTED: Duration = Duration::from_secs(30);
/// How long saying good-bye may take.
const FAREWELL: Duration = Duration::from_secs(2);
/// The first pause before a stream is listened to again; doubles up to the longest.
const LISTEN_MIN: Duration = Duration::from_millis(500);
const LISTEN_MAX: Duration = Duration::from_secs(30);

/// Why a bridge ended before its client did.
#[derive(Debug, thiserror::Error)]
pub enum BridgeError {
    /// The token is no possible header.
    #[error("the token is no possible header: it is one line of text, as `countersign token issue` wrote it")]
    Token,
    /// The place cannot be dialled at all.
    #[error("{0}")]
    Place(String),
    /// A token must not travel in the clear.
    #[error("`{0}` is neither https nor on this machine, and the token would travel in the clear: use https")]
    Clear(String),
    /// The client sent a line that is too long, and nothing after it can be read.
    #[error("a line of the client has more than {LINE_BYTES_MAX} bytes")]
    Line,
    /// The client's pipe failed.
    #[error("the client's pipe failed: {0}")]
    Pipe(#[from] std::io::Error),
}

/// A bridge that is ready to run.
pub struct Bridge {
    shared: Arc<Shared>,
    lines: mpsc::Receiver<Bytes>,
}

/// What all tasks of a bridge share.
struct Shared {
    door: Door,
    token: HeaderValue,
    lines: mpsc::Sender<Bytes>,
    in_flight: Mutex<BTreeMap<Key, InFlight>>,
    annotated: Mutex<Annotated>,
    opened: Mutex<Opened>,
    /// Held while a session that was lost is opened anew.
    opening: tokio::sync::Mutex<()>,
    /// Cancelled when nobody reads the answers any more, or the bridge is to end.
    over: CancellationToken,
}

/// The legacy session, and how it was opened.
#[derive(Default)]
struct Opened {
    session: Session,
    hello: Option<(Id, Bytes)>,
    initialized: Option<Bytes>,
    listening: Option<CancellationToken>,
}

/// One request of the client.
#[derive(Clone)]
struct InFlight {
    era: Era,
    cancel: CancellationToken,
    /// Whether it is a stream that only its client ends.
    is_endless: bool,
}

impl Bridge {
    /// A bridge to `place` for the holder of `token`.
    ///
    /// # Errors
    /// Where the token is no header, or would travel in the clear.
    pub fn new(place: Place, token: &str) -> Result<Self, BridgeError> {
        if !place.is_private() {
            return Err(BridgeError::Clear(place.to_string()));
        }
        let mut token = HeaderValue::from_str(&format!("Bearer {}", token.trim())).map_err(|_| BridgeError::Token)?;
        token.set_sensitive(true);
        let door = Door::new(place).map_err(|failure| BridgeError::Place(failure.to_string()))?;
        let (sender, lines) = mpsc::channel(LINES_QUEUE);
        let shared = Shared {
            door,
            token,
            lines: sender,
            in_flight: Mutex::default(),
            annotated: Mutex::default(),
            opened: Mutex::default(),
            opening: tokio::sync::Mutex::default(),
            over: CancellationToken::new(),
        };
        Ok(Self { shared: Arc::new(shared), lines })
    }

    /// Carries messages until the client's input ends and its requests are answered, or until `stop`.
    ///
    /// # Errors
    /// Where the client's pipes fail, or it sends a line that is too long.
    pub async fn run<R, W>(self, mut input: R, output: W, stop: CancellationToken) -> Result<(), BridgeError>
    where
        R: AsyncRead + Send + Unpin,
        W: AsyncWrite + Send + Unpin + 'static,
    {
        let Self { shared, lines } = self;
        let mut writing = tokio::spawn(write(output, lines, shared.over.clone()));
        let mut tasks = JoinSet::new();
        let read = tokio::select! {
            () = stop.cancelled() => Ok(()),
            () = shared.over.cancelled() => Ok(()),
            read = shared.read(&mut input, &mut tasks) => read,
        };
        shared.end_endless();
        tokio::select! {
            () = stop.cancelled() => {}
            () = shared.over.cancelled() => {}
            () = async { while tasks.join_next().await.is_some() {} } => {}
        }
        tasks.shutdown().await;
        shared.leave().await;
        // The last sender goes, and with it the writer ends, once everything is written.
        drop(shared);
        let ended = tokio::select! {
            ended = &mut writing => ended,
            () = async {
                stop.cancelled().await;
                tokio::time::sleep(FAREWELL).await;
            } => {
                // A client that reads nothing any more must not keep us.
                writing.abort();
                writing.await
            }
        };
        read.and(ended.unwrap_or(Ok(())).map_err(Into::into))
    }
}

/// The only writer of the output: whole lines, one after another.
async fn write<W: AsyncWrite + Unpin>(
    mut output: W,
    mut lines: mpsc::Receiver<Bytes>,
    over: CancellationToken,
) -> std::io::Result<()> {
    while let Some(frame) = lines.recv().await {
        let written = async {
            output.write_all(&line::encode(&frame)).await?;
            output.flush().await
        };
        if let Err(error) = written.await {
            over.cancel();
            return Err(error);
        }
    }
    Ok(())
}

impl Shared {
    /// Hands a message to the writer.
    async fn say(&self, frame: &Bytes) {
        // A writer that is gone has cancelled everything.
        let _ = self.lines.send(frame.clone()).await;
    }

    async fn read<R: AsyncRead + Send + Unpin>(
        self: &Arc<Self>,
        input: &mut R,
        tasks: &mut JoinSet<()>,
    ) -> Result<(), BridgeError> {
        let mut decoder = LineDecoder::new(LINE_BYTES_MAX);
        let mut chunk = vec![0; READ_BYTES];
        loop {
            let count = input.read(&mut chunk).await?;
            if count == 0 {
                return Ok(());
            }
            let lines = decoder.push(chunk.get(..count).unwrap_or_default()).map_err(|_| BridgeError::Line)?;
            for line in lines {
                while tasks.try_join_next().is_some() {}
                self.take(line, tasks).await;
            }
        }
    }

    /// One line of the client. Messages without an answer go one after another, so that none overtakes another.
    async fn take(self: &Arc<Self>, line: Bytes, tasks: &mut JoinSet<()>) {
        let Ok(frame) = Frame::read(line.clone(), &reading(LINE_BYTES_MAX)) else {
            // The gateway says what is wrong with it, and has it on record.
            return self.post_unread(line).await;
        };
        match frame.message() {
            Message::Request { id, method, params } => {
                self.request(frame.bytes(), (id, method, params.as_ref()), tasks).await;
            }
            Message::Notification { method, params } => self.notify(&frame, method, params.as_ref()).await,
            Message::Response { .. } => self.post(line, None).await,
        }
    }

    async fn request(
        self: &Arc<Self>,
        body: &Bytes,
        (id, method, params): (&Id, &str, Option<&Node>),
        tasks: &mut JoinSet<()>,
    ) {
        let era = Era::of(None, method, params);
        let mirrored = (era == Era::Modern).then(|| {
            let annotated = self.annotated.lock().unwrap_or_else(PoisonError::into_inner);
            let more = if method == "tools/call" { annotated.of(params, body) } else { Vec::new() };
            mirror::of(method, params).into_iter().chain(more).collect()
        });
        let session = self.session();
        let sent = Outgoing { body: body.clone(), id: Some(id.clone()), mirrored, session };
        if era != Era::Modern && method == "initialize" {
            // Nothing else can be sent before there is a session.
            return self.open(sent).await;
        }
        let cancel = CancellationToken::new();
        let known = InFlight { era, cancel: cancel.clone(), is_endless: method == "subscriptions/listen" };
        if !self.begin(id, known) {
            return self.say(&Failure::Busy.frame(Some(id)).into()).await;
        }
        let (shared, id, is_listing) = (Arc::clone(self), id.clone(), method == "tools/list");
        tasks.spawn(async move {
            tokio::select! {
                biased;
                () = cancel.cancelled() => {}
                () = shared.answer(&sent, is_listing) => {}
            }
            shared.in_flight.lock().unwrap_or_else(PoisonError::into_inner).remove(id.key());
        });
    }

    /// Takes a place for a request; `false` where there is none. An id that is in flight already keeps its first owner:
    /// the gateway refuses the second.
    fn begin(&self, id: &Id, known: InFlight) -> bool {
        let mut in_flight = self.in_flight.lock().unwrap_or_else(PoisonError::into_inner);
        if in_flight.len() >= IN_FLIGHT_MAX {
            return false;
        }
        in_flight.entry(id.key().clone()).or_insert(known);
        true
    }

    /// Sends a request and says its answer, or why there is none.
    async fn answer(self: &Arc<Self>, sent: &Outgoing, is_listing: bool) {
        match self.exchange(sent).await {
            Ok((Some(frame), _)) => {
                if let (true, Message::Response { outcome: Outcome::Result(result), .. }) =
                    (is_listing, frame.message())
                {
                    self.annotated.lock().unwrap_or_else(PoisonError::into_inner).learn(result);
                }
                self.say(frame.bytes()).await;
            }
            Ok((None, _)) => self.say(&Failure::Lost.frame(sent.id.as_ref()).into()).await,
            Err(Failure::Session(_)) => {
                let what = if self.open_again(&sent.session).await {
                    "a new one was opened: send it again"
                } else {
                    "and no new one could be opened: restart this client's server"
                };
                self.say(&Failure::Session(what).frame(sent.id.as_ref()).into()).await;
            }
            Err(failure) => {
                tracing::warn!("{failure}");
                self.say(&failure.frame(sent.id.as_ref()).into()).await;
            }
        }
    }

    /// The client's handshake of the legacy era.
    async fn open(self: &Arc<Self>, sent: Outgoing) {
        self.forget();
        let sent = Outgoing { session: Session::default(), ..sent };
        match self.exchange(&sent).await {
            Ok((Some(frame), given)) => {
                let version = agreed(&frame);
                if version.is_some() {
                    let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
                    opened.session = Session { version, ..given };
                    opened.hello = sent.id.map(|id| (id, sent.body));
                }
                self.say(frame.bytes()).await;
            }
            Ok((None, _)) => self.say(&Failure::Lost.frame(sent.id.as_ref()).into()).await,
            Err(failure) => {
                tracing::warn!("{failure}");
                self.say(&failure.frame(sent.id.as_ref()).into()).await;
            }
        }
    }

    /// Opens a session anew in place of `lost`, with the client's own words. Whether there is one that is not `lost`.
    async fn open_again(self: &Arc<Self>, lost: &Session) -> bool {
        let _turn = self.opening.lock().await;
        if self.session() != *lost {
            return true;
        }
        let (hello, initialized) = {
            let opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
            (opened.hello.clone(), opened.initialized.clone())
        };
        let (Some((id, body)), Some(initialized)) = (hello, initialized) else { return false };
        let sent = Outgoing { body, id: Some(id), mirrored: None, session: Session::default() };
        let Ok((Some(frame), given)) = self.exchange(&sent).await else { return false };
        let session = Session { version: agreed(&frame), ..given };
        if session.version.is_none() || session.version != lost.version {
            return false;
        }
        self.opened.lock().unwrap_or_else(PoisonError::into_inner).session = session;
        tracing::warn!("the gateway had forgotten this session; a new one was opened");
        self.post(initialized, None).await;
        self.listen();
        true
    }

    async fn notify(self: &Arc<Self>, frame: &Frame, method: &str, params: Option<&Node>) {
        if method == "notifications/cancelled" {
            let id = params.and_then(|params| params.get("requestId"));
            let id = id.and_then(|id| Id::read(id, frame.bytes()).ok());
            let in_flight = self.in_flight.lock().unwrap_or_else(PoisonError::into_inner);
            let known = id.and_then(|id| in_flight.get(id.key()).cloned());
            drop(in_flight);
            if let Some(known) = known.filter(|known| known.era == Era::Modern) {
                known.cancel.cancel();
                return;
            }
        }
        if Era::of(None, method, params) == Era::Modern {
            return self.post(frame.bytes().clone(), Some(mirror::of(method, params))).await;
        }
        if self.session() == Session::default() && method == "notifications/cancelled" {
            return;
        }
        self.post(frame.bytes().clone(), None).await;
        if method == "notifications/initialized" {
            self.opened.lock().unwrap_or_else(PoisonError::into_inner).initialized = Some(frame.bytes().clone());
            self.listen();
        }
    }

    /// Sends a message that has no answer.
    async fn post(&self, body: Bytes, mirrored: Option<Vec<mirror::Pair>>) {
        let sent = Outgoing { body, id: None, mirrored, session: self.session() };
        match tokio::time::timeout(ACCEPTED, self.exchange(&sent)).await {
            Ok(Ok(_)) => {}
            Ok(Err(failure)) => tracing::warn!("a message without an answer was not taken: {failure}"),
            Err(_) => tracing::warn!("a message without an answer was not taken in time"),
        }
    }

    /// Sends a line that is no message; what the gateway says of it names no request.
    async fn post_unread(&self, body: Bytes) {
        let sent = Outgoing { body, id: None, mirrored: None, session: self.session() };
        let refused = tokio::time::timeout(ACCEPTED, self.exchange(&sent)).await.unwrap_or(Err(Failure::Lost));
        if let Err(failure) = refused {
            self.say(&failure.frame(None).into()).await;
        }
    }

    /// Listens to the session's own stream, instead of that of a session before.
    fn listen(self: &Arc<Self>) {
        let token = self.over.child_token();
        let session = {
            let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(before) = opened.listening.replace(token.clone()) {
                before.cancel();
            }
            opened.session.clone()
        };
        if session.id.is_none() {
            return;
        }
        let shared = Arc::downgrade(self);
        tokio::spawn(async move {
            let (mut last, mut pause) = (None, LISTEN_MIN);
            loop {
                let Some(shared) = shared.upgrade() else { return };
                let since = tokio::time::Instant::now();
                let offered = tokio::select! {
                    () = token.cancelled() => return,
                    offered = shared.listen_once(&session, &mut last) => offered,
                };
                drop(shared);
                if !offered {
                    return;
                }
                pause = if since.elapsed() > LISTEN_MAX { LISTEN_MIN } else { pause.saturating_mul(2).min(LISTEN_MAX) };
                tokio::select! {
                    () = token.cancelled() => return,
                    () = tokio::time::sleep(pause) => {}
                }
            }
        });
    }

    fn session(&self) -> Session {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner).session.clone()
    }

    /// A new handshake begins a new session; the one before is left to the gateway.
    fn forget(&self) {
        let before = std::mem::take(&mut *self.opened.lock().unwrap_or_else(PoisonError::into_inner));
        if let Some(listening) = before.listening {
            listening.cancel();
        }
    }

    /// The client has said its last word: what only it could have ended, ends.
    fn end_endless(&self) {
        let in_flight = self.in_flight.lock().unwrap_or_else(PoisonError::into_inner);
        in_flight.values().filter(|known| known.is_endless).for_each(|known| known.cancel.cancel());
    }

    async fn leave(&self) {
        let session = self.session();
        self.forget();
        if session.id.is_some() {
            let told: Pin<Box<_>> = Box::pin(self.farewell(&session));
            let ended = tokio::time::timeout(FAREWELL, told).await;
            tracing::debug!(ok = matches!(ended, Ok(Ok(()))), "ended the session");
        }
    }
}

/// The revision that an answer to `initialize` agrees to.
fn agreed(frame: &Frame) -> Option<HeaderValue> {
    let Message::Response { outcome: Outcome::Result(result), .. } = frame.message() else { return None };
    let version = result.get("protocolVersion").and_then(Node::as_str)?;
    HeaderValue::from_str(version).ok()
}

impl std::fmt::Debug for Bridge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Bridge({})", self.shared.door.place())
    }
}
