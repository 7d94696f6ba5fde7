//! Upstreams behind streamable HTTP: one link, its connections and the kill discipline on them.
//!
//! A call takes a connection first, then begins its effect, then sends: nothing stands between the epoch check and
//! the request. A stop severs the socket, so that what the kernel has not sent yet never leaves, then tells the
//! upstream with one bounded `notifications/cancelled` before the effect is dropped. Nothing is sent twice, whatever
//! the status. It must not know how a lost upstream is reached again; it does not cover resumption or redirects.

pub(in crate::mcp) mod dial;
pub(in crate::mcp) mod talk;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use countersign_gate::call::Executed;
use countersign_gate::credential::Credential;
use hyper::header::HeaderValue;
use hyper::{Method, StatusCode};
use tokio::sync::{Semaphore, broadcast};
use tokio_util::sync::CancellationToken;

use super::leave::{InFlight, Leave};
use super::link::LinkError;
use super::outbound::{self, Outbound, Reply};
use super::pipe::CANCEL_NOTE;
use crate::mcp::config::{UpstreamLimits, Url};
use crate::mcp::wire::sse::SseDecoder;
use crate::mcp::wire::{Frame, METHOD_NOT_FOUND, Message, error_frame, notification_frame, response_frame};
use dial::{Conn, Dialer};
use talk::{Answered, Heading, Listening};

/// Answers of ours to an upstream's own requests, at once.
const ASIDE_MAX: usize = 8;
/// How long the rest of an answered stream may take before its connection is given up.
const REST: Duration = Duration::from_secs(1);

/// One session with an HTTP upstream.
pub(crate) struct HttpLink {
    dialer: Arc<Dialer>,
    /// What every request carries; the credential in it opens exchanges that are not actions, and nothing else.
    heading: Mutex<Heading>,
    ids: AtomicU64,
    in_flight: Semaphore,
    aside: Arc<Semaphore>,
    closed: CancellationToken,
    limits: UpstreamLimits,
}

impl HttpLink {
    pub(crate) fn open(
        url: Url,
        credential: Option<&Credential>,
        limits: &UpstreamLimits,
    ) -> Result<Arc<Self>, LinkError> {
        let mut heading = Heading::default();
        if !heading.open_with(credential.map(Credential::as_header)) {
            return Err(LinkError::Unreachable("the credential is no possible header".to_owned()));
        }
        Ok(Arc::new(Self {
            dialer: Arc::new(Dialer::new(url, limits.connect_timeout, limits.idle)?),
            heading: Mutex::new(heading),
            ids: AtomicU64::new(1),
            in_flight: Semaphore::new(limits.in_flight_max),
            aside: Arc::new(Semaphore::new(ASIDE_MAX)),
            closed: CancellationToken::new(),
            limits: limits.clone(),
        }))
    }

    pub(crate) const fn closed(&self) -> &CancellationToken {
        &self.closed
    }

    pub(crate) fn close(&self) {
        self.closed.cancel();
        self.dialer.clear();
    }

    fn heading(&self) -> Heading {
        self.heading.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The agreed revision goes into every header from here on, and the upstream's own stream is listened to.
    pub(crate) fn agree(self: &Arc<Self>, version: &str, changes: broadcast::Sender<Bytes>) {
        self.heading.lock().unwrap_or_else(PoisonError::into_inner).version = HeaderValue::from_str(version).ok();
        tokio::spawn(Arc::clone(self).listen(changes));
    }

    /// Carries out one action under a leave.
    pub(crate) async fn call<L: Leave>(self: &Arc<Self>, leave: L, request: &Outbound) -> Executed<Reply> {
        let Ok(_place) = self.in_flight.try_acquire() else {
            return outbound::not_started("too many requests are in flight towards the upstream");
        };
        let conn = tokio::select! {
            biased;
            stop = leave.stopped() => return outbound::not_started(stop.as_str()),
            conn = self.dialer.take() => match conn {
                Ok(conn) => conn,
                Err(error) => return outbound::not_started(&error.to_string()),
            },
        };
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        let body = Bytes::from(request.frame(id));
        let severed = conn.socket();
        let effect = match leave.begin(Arc::new(move || Conn::sever(&severed))) {
            Ok(effect) => effect,
            Err(stop) => {
                self.dialer.give_back(conn);
                return outbound::not_started(stop.as_str());
            }
        };
        let executed = self.carry(&effect, conn, id, (request, body)).await;
        drop(effect);
        executed
    }

    /// Sends the request of an effect in flight and waits for its answer.
    async fn carry<F: InFlight>(
        self: &Arc<Self>,
        effect: &F,
        mut conn: Conn,
        id: u64,
        (request, body): (&Outbound, Bytes),
    ) -> Executed<Reply> {
        let mut heading = self.heading();
        heading.credential = None;
        if !heading.open_with(effect.credential().map(Credential::as_header)) {
            return outbound::not_started("the credential is no possible header");
        }
        let (sent, socket) = (body.len(), conn.socket());
        let Ok(built) = heading.request(self.dialer.url(), Method::POST, body) else {
            return outbound::not_started("the request could not be built");
        };
        let mut begun = false;
        let aside = self.aside_of(&heading);
        let listening = self.listening(id, request, &aside);
        let answered = tokio::select! {
            biased;
            stop = effect.stopped() => Err(stop.as_str()),
            answered = async {
                begun = true;
                talk::talk(&mut conn, built, &listening).await
            } => Ok(answered),
            () = tokio::time::sleep(self.limits.call_timeout) => Err("the upstream did not answer in time"),
        };
        match answered {
            Ok(answered) => self.conclude(conn, answered, sent),
            Err(why) if !begun => outbound::not_started(why),
            Err(why) => {
                Conn::sever(&socket);
                drop(conn);
                self.note_cancelled(&heading, id, why).await;
                outbound::unknown(why, sent)
            }
        }
    }

    fn conclude(&self, conn: Conn, answered: Result<Answered, LinkError>, sent: usize) -> Executed<Reply> {
        let answered = match answered {
            Ok(answered) => answered,
            // The connection was closed before the request was handed to it.
            Err(LinkError::Unreachable(why)) => return outbound::not_started(&why),
            Err(error) => return outbound::unknown(&error.to_string(), sent),
        };
        let Answered { status, reply, rest, .. } = answered;
        self.keep(conn, rest);
        if status == StatusCode::NOT_FOUND && self.heading().session.is_some() {
            tracing::info!("the upstream ended our session; a new one is opened");
            self.close();
        }
        match reply {
            Some(reply) => outbound::answered(reply, sent),
            None if status.is_success() || status.is_server_error() => {
                outbound::unknown(&format!("the upstream gave no answer (HTTP status {})", status.as_u16()), sent)
            }
            None => outbound::failed(&format!("the upstream answered with HTTP status {}", status.as_u16()), sent),
        }
    }

    /// Uses the connection again once the rest of the answer is read, off the caller's path.
    fn keep(&self, conn: Conn, mut rest: hyper::body::Incoming) {
        let dialer = Arc::clone(&self.dialer);
        if hyper::body::Body::is_end_stream(&rest) {
            dialer.give_back(conn);
            return;
        }
        tokio::spawn(async move {
            let drained =
                tokio::time::timeout(REST, async { while let Ok(Some(_)) = talk::next_chunk(&mut rest).await {} });
            if drained.await.is_ok() {
                dialer.give_back(conn);
            }
        });
    }

    fn listening<'a>(
        &self,
        id: u64,
        request: &'a Outbound,
        aside: &'a (dyn Fn(&Frame) + Send + Sync),
    ) -> Listening<'a> {
        Listening { id, progress: request.progress.as_ref(), bytes_max: self.limits.line_bytes_max, aside }
    }

    /// One exchange that is not an action.
    pub(crate) async fn exchange(self: &Arc<Self>, request: &Outbound) -> Result<Reply, LinkError> {
        let _place = self.in_flight.try_acquire().map_err(|_| LinkError::Busy)?;
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        let heading = self.heading();
        let built = heading.request(self.dialer.url(), Method::POST, request.frame(id).into())?;
        let exchanged = tokio::time::timeout(self.limits.exchange_timeout, async {
            let mut conn = self.dialer.take().await?;
            let aside = self.aside_of(&heading);
            let answered = talk::talk(&mut conn, built, &self.listening(id, request, &aside)).await?;
            let Answered { status, session, reply, rest } = answered;
            self.keep(conn, rest);
            if status == StatusCode::NOT_FOUND && heading.session.is_some() {
                self.close();
            }
            if request.method == "initialize" {
                self.heading.lock().unwrap_or_else(PoisonError::into_inner).session = session;
            }
            reply.ok_or(LinkError::Status(status.as_u16()))
        });
        exchanged.await.unwrap_or(Err(LinkError::Timeout))
    }

    /// Sends a message that has no answer and is not an action.
    pub(crate) async fn notify(&self, frame: Vec<u8>) -> Result<(), LinkError> {
        let heading = self.heading();
        let sent = tokio::time::timeout(self.limits.exchange_timeout, self.post(&heading, frame.into()));
        sent.await.unwrap_or(Err(LinkError::Timeout))
    }

    /// Ends the session on the upstream's side, if it has one.
    pub(crate) async fn farewell(&self) {
        let heading = self.heading();
        if heading.session.is_some() {
            let told = tokio::time::timeout(REST, self.send(&heading, Method::DELETE, Bytes::new())).await;
            tracing::debug!(ok = matches!(told, Ok(Ok(()))), "ended the session with an upstream");
        }
    }

    async fn post(&self, heading: &Heading, frame: Bytes) -> Result<(), LinkError> {
        self.send(heading, Method::POST, frame).await
    }

    async fn send(&self, heading: &Heading, method: Method, frame: Bytes) -> Result<(), LinkError> {
        let built = heading.request(self.dialer.url(), method, frame)?;
        let mut conn = self.dialer.take().await?;
        let response = conn.sender.send_request(built).await.map_err(|_| LinkError::Gone)?;
        let status = response.status();
        self.keep(conn, response.into_body());
        if status.is_success() { Ok(()) } else { Err(LinkError::Status(status.as_u16())) }
    }

    async fn note_cancelled(&self, heading: &Heading, id: u64, why: &str) {
        let params = format!(r#"{{"requestId":{id},"reason":"{why}"}}"#);
        let frame = notification_frame("notifications/cancelled", Some(&params));
        let told = tokio::time::timeout(CANCEL_NOTE, self.post(heading, frame.into())).await;
        if !matches!(told, Ok(Ok(()))) {
            tracing::debug!(id, "the upstream could not be told of a cancelled request");
        }
    }

    /// Answers the upstream's own requests, which come on the stream of an answer.
    fn aside_of(self: &Arc<Self>, heading: &Heading) -> impl Fn(&Frame) + Send + Sync + 'static {
        let (link, heading) = (Arc::clone(self), heading.clone());
        move |frame: &Frame| {
            let Message::Request { id, method, .. } = frame.message() else { return };
            let answer = match method.as_str() {
                "ping" => response_frame(id, "result", b"{}"),
                _ => error_frame(Some(id), METHOD_NOT_FOUND, "this client offers no such method", None),
            };
            let Ok(place) = Arc::clone(&link.aside).try_acquire_owned() else { return };
            let (link, heading) = (Arc::clone(&link), heading.clone());
            tokio::spawn(async move {
                let told = tokio::time::timeout(REST, link.post(&heading, answer.into())).await;
                tracing::debug!(ok = matches!(told, Ok(Ok(()))), "answered a request of the upstream");
                drop(place);
            });
        }
    }

    /// Listens to the upstream's own stream until the link closes; an upstream need not offer one.
    async fn listen(self: Arc<Self>, changes: broadcast::Sender<Bytes>) {
        loop {
            let offered = tokio::select! {
                () = self.closed.cancelled() => return,
                offered = self.listen_once(&changes) => offered,
            };
            if !offered {
                return;
            }
            tokio::select! {
                () = self.closed.cancelled() => return,
                () = tokio::time::sleep(self.limits.backoff_max) => {}
            }
        }
    }

    /// One stream to its end; `false` where the upstream offers none.
    async fn listen_once(self: &Arc<Self>, changes: &broadcast::Sender<Bytes>) -> bool {
        let heading = self.heading();
        let Ok(built) = heading.request(self.dialer.url(), Method::GET, Bytes::new()) else { return false };
        let Ok(mut conn) = self.dialer.take().await else { return true };
        let Ok(response) = conn.sender.send_request(built).await else { return true };
        if !response.status().is_success() || !talk::is_events(&response) {
            return false;
        }
        let aside = self.aside_of(&heading);
        let mut body = response.into_body();
        let mut decoder = SseDecoder::new(self.limits.line_bytes_max);
        while let Ok(Some(chunk)) = talk::next_chunk(&mut body).await {
            let Ok(events) = decoder.push(&chunk) else { return true };
            for event in events {
                let Ok(frame) = Frame::read(event.data.into(), &outbound::reading(self.limits.line_bytes_max)) else {
                    continue;
                };
                match frame.message() {
                    Message::Notification { method, .. } if method == "notifications/tools/list_changed" => {
                        // No listener is no error.
                        let _ = changes.send(frame.bytes().clone());
                    }
                    _ => aside(&frame),
                }
            }
        }
        true
    }
}
