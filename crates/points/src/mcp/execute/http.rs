//! Upstreams behind streamable HTTP: sessions, requests, and the kill discipline on their connections.
//!
//! A call takes a connection first, then begins its effect, then sends: nothing stands between the epoch check and
//! the request. A stop severs the socket, so that what the kernel has not sent yet never leaves; a legacy upstream is then
//! told with one bounded `notifications/cancelled` before the effect is dropped, for a modern one the closed stream is the
//! word. Nothing is sent twice, whatever the status: a stream that broke is resumed, which repeats nothing. It must not
//! know how a lost upstream is reached again; it does not cover redirects.

pub(in crate::mcp) mod cut;
pub(in crate::mcp) mod dial;
mod hear;
mod mirror;
mod stream;
pub(in crate::mcp) mod talk;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use countersign_gate::call::Executed;
use countersign_gate::credential::Credential;
use hyper::header::HeaderValue;
use hyper::{Method, StatusCode};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_util::sync::CancellationToken;

use super::ears::Ears;
use super::leave::{InFlight, Leave};
use super::link::LinkError;
use super::listing;
use super::outbound::{self, Halt, Outbound, Reply};
use super::pipe::CANCEL_NOTE;
use super::said::Questions;
use crate::mcp::config::{UpstreamLimits, Url};
use crate::mcp::wire::era::LATEST_MODERN;
use crate::mcp::wire::{Era, Frame, Outcome, notification_frame};
use cut::Cutter;
use dial::{Conn, Dialer};
use hear::Hearing;
use talk::{Answered, Heading, Listening};

/// Answers of ours to an upstream's own requests that are being sent at once.
const ASIDE_MAX: usize = 8;
/// How long the rest of an answered stream may take before its connection is given up.
const REST: Duration = Duration::from_secs(1);

/// One HTTP upstream: what all sessions with it share.
pub(crate) struct Site {
    dialer: Arc<Dialer>,
    /// What every request carries; the credential in it opens exchanges that are not actions, and nothing else.
    heading: Heading,
    ids: AtomicU64,
    in_flight: Semaphore,
    listening: Semaphore,
    aside: Arc<Semaphore>,
    limits: UpstreamLimits,
}

impl Site {
    pub(crate) fn new(
        url: Url,
        credential: Option<&Credential>,
        limits: &UpstreamLimits,
    ) -> Result<Arc<Self>, LinkError> {
        let mut heading = Heading::default();
        if !heading.open_with(credential.map(Credential::as_header)) {
            return Err(LinkError::Credential);
        }
        Ok(Arc::new(Self {
            dialer: Arc::new(Dialer::new(url, limits.connect_timeout, limits.idle)?),
            heading,
            ids: AtomicU64::new(1),
            in_flight: Semaphore::new(limits.in_flight_max),
            listening: Semaphore::new(limits.sessions_max),
            aside: Arc::new(Semaphore::new(ASIDE_MAX)),
            limits: limits.clone(),
        }))
    }

    pub(super) const fn dialer(&self) -> &Arc<Dialer> {
        &self.dialer
    }

    pub(super) const fn limits(&self) -> &UpstreamLimits {
        &self.limits
    }

    pub(super) fn heading(&self) -> Heading {
        self.heading.clone()
    }

    pub(super) fn aside(&self) -> Arc<Semaphore> {
        Arc::clone(&self.aside)
    }

    /// A place for one request; a stream that stays open takes none from the others.
    fn place(&self, request: &Outbound) -> Option<SemaphorePermit<'_>> {
        let places = if request.listens() { &self.listening } else { &self.in_flight };
        places.try_acquire().ok()
    }

    /// Uses a connection again once the rest of the answer is read, off the caller's path.
    pub(super) fn keep(&self, conn: Conn, mut rest: hyper::body::Incoming) {
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
}

/// One session with an HTTP upstream, or all that is stateless.
pub(crate) struct HttpLink {
    site: Arc<Site>,
    era: Era,
    heading: Mutex<Heading>,
    ears: Ears,
    questions: Questions,
    closed: CancellationToken,
    /// Whether the upstream ended the session itself.
    is_lost: AtomicBool,
    /// Whether a modern upstream is being asked if it still is one.
    is_asking: AtomicBool,
}

/// One request on its way: under which id, with which headers, and where it listens.
struct Sending<'a> {
    request: &'a Outbound,
    id: u64,
    heading: &'a Heading,
    hearing: &'a Hearing,
}

impl HttpLink {
    /// A session that is not open yet, or what is stateless. Ends with `closed`.
    pub(crate) fn new(site: &Arc<Site>, era: Era, ears: Ears, closed: CancellationToken) -> Arc<Self> {
        let mut heading = site.heading.clone();
        if era == Era::Modern {
            heading.version = Some(HeaderValue::from_static(LATEST_MODERN));
        }
        Arc::new(Self {
            site: Arc::clone(site),
            era,
            heading: Mutex::new(heading),
            ears,
            questions: Questions::new(site.limits.call_timeout),
            closed,
            is_lost: AtomicBool::new(false),
            is_asking: AtomicBool::new(false),
        })
    }

    pub(crate) const fn closed(&self) -> &CancellationToken {
        &self.closed
    }

    pub(crate) fn close(&self) {
        self.closed.cancel();
    }

    fn heading(&self) -> Heading {
        self.heading.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The agreed revision goes into every header from here on.
    pub(crate) fn agree(&self, version: &str) {
        self.heading.lock().unwrap_or_else(PoisonError::into_inner).version = HeaderValue::from_str(version).ok();
    }

    /// The headers of one request: what a modern one mirrors comes from its body.
    fn heading_of(&self, request: &Outbound) -> Result<Heading, LinkError> {
        let heading = self.heading();
        if self.era == Era::Legacy {
            return Ok(heading);
        }
        let mirrored = mirror::mirrored(request, LATEST_MODERN)?;
        Ok(Heading { version: Some(mirrored.version), mirrored: mirrored.others, ..heading })
    }

    /// Carries out one action under a leave.
    pub(crate) async fn call<L: Leave>(self: &Arc<Self>, leave: L, request: &Outbound) -> Executed<Reply> {
        let heading = match self.heading_of(request) {
            Ok(heading) => heading,
            Err(error) => return outbound::not_started(&error.to_string()),
        };
        let Some(_place) = self.site.place(request) else {
            return outbound::not_started("too many requests are in flight towards the upstream");
        };
        let conn = tokio::select! {
            biased;
            stop = leave.stopped() => return outbound::not_started(stop.as_str()),
            () = self.closed.cancelled() => return outbound::not_started("the session with the upstream is over"),
            conn = self.site.dialer.take() => match conn {
                Ok(conn) => conn,
                Err(error) => return outbound::not_started(&error.to_string()),
            },
        };
        let cutter = Arc::new(Cutter::default());
        cutter.hold(&conn);
        let cut = Arc::clone(&cutter);
        let effect = match leave.begin(Arc::new(move || cut.sever())) {
            Ok(effect) => effect,
            Err(stop) => {
                self.site.dialer.give_back(conn);
                return outbound::not_started(stop.as_str());
            }
        };
        let executed = self.carry(&effect, (conn, &cutter), request, heading).await;
        drop(effect);
        executed
    }

    /// Sends the request of an effect in flight and waits for its answer. Nothing of it is being sent when it returns.
    async fn carry<F: InFlight>(
        self: &Arc<Self>,
        effect: &F,
        (conn, cutter): (Conn, &Cutter),
        request: &Outbound,
        mut heading: Heading,
    ) -> Executed<Reply> {
        heading.credential = None;
        if !heading.open_with(effect.credential().map(Credential::as_header)) {
            return outbound::not_started(&LinkError::Credential.to_string());
        }
        let id = self.site.ids.fetch_add(1, Ordering::Relaxed);
        let body = Bytes::from(request.frame(id));
        let sent = body.len();
        let hearing = Hearing::new(self, Heading { mirrored: Vec::new(), ..heading.clone() }, request.aside.clone());
        let (mut begun, mut held) = (false, Some(conn));
        let sending = Sending { request, id, heading: &heading, hearing: &hearing };
        let answered = tokio::select! {
            biased;
            stop = effect.stopped() => Err(Halt::Stop(stop)),
            answered = async {
                begun = true;
                self.converse(&sending, body, &mut held, cutter).await
            } => Ok(answered),
            () = tokio::time::sleep(request.patience(self.site.limits.call_timeout)) => Err(Halt::Late),
        };
        match answered {
            Ok(answered) => {
                hearing.end();
                cutter.release();
                self.conclude(held, answered, sent)
            }
            Err(why) if !begun => outbound::not_started(why.as_str()),
            Err(why) => {
                cutter.sever();
                drop(held);
                hearing.silence().await;
                self.note_cancelled(&heading, id, why.as_str()).await;
                outbound::halted(request, why, sent)
            }
        }
    }

    fn conclude(
        self: &Arc<Self>,
        conn: Option<Conn>,
        answered: Result<Answered, LinkError>,
        sent: usize,
    ) -> Executed<Reply> {
        let answered = match answered {
            Ok(answered) => answered,
            // The connection was closed before the request was handed to it.
            Err(LinkError::Unreachable(why)) => return outbound::not_started(&why),
            Err(error) => return outbound::unknown(&error.to_string(), sent),
        };
        let Answered { status, reply, rest, .. } = answered;
        if let Some(conn) = conn {
            self.site.keep(conn, rest);
        }
        self.look(status, reply.as_ref());
        match reply {
            Some(reply) => outbound::answered(reply, sent),
            None if status.is_success() || status.is_server_error() => {
                outbound::unknown(&format!("the upstream gave no answer (HTTP status {})", status.as_u16()), sent)
            }
            None => outbound::failed(&format!("the upstream answered with HTTP status {}", status.as_u16()), sent),
        }
    }

    /// Sees from an answer that the upstream ended the session, or may speak this era no more.
    fn look(self: &Arc<Self>, status: StatusCode, reply: Option<&Reply>) {
        let is_bare = reply.is_none() && [StatusCode::NOT_FOUND, StatusCode::METHOD_NOT_ALLOWED].contains(&status);
        match self.era {
            Era::Legacy if status == StatusCode::NOT_FOUND && self.heading().session.is_some() => {
                tracing::info!("the upstream ended our session");
                self.lose();
            }
            Era::Modern if is_bare && !self.is_asking.swap(true, Ordering::Relaxed) => {
                tokio::spawn(Arc::clone(self).ask_again());
            }
            Era::Legacy | Era::Modern => {}
        }
    }

    /// What all clients share is not given up for what one of them brought about: the upstream is asked itself.
    async fn ask_again(self: Arc<Self>) {
        let request = Outbound::plain("server/discover", Some(listing::own_params("")));
        let asked = self.exchange(&request).await;
        let refuses = match &asked {
            Ok(reply) => matches!(reply.outcome(), Outcome::Error(_)),
            Err(error) => matches!(error, LinkError::Status(_)),
        };
        if refuses {
            tracing::info!("the upstream does not speak the modern era any more");
            self.lose();
        }
        self.is_asking.store(false, Ordering::Relaxed);
    }

    fn lose(&self) {
        self.is_lost.store(true, Ordering::Relaxed);
        self.close();
    }

    fn listening<'a>(&self, sending: &Sending<'a>, aside: &'a (dyn Fn(&Frame) + Send + Sync)) -> Listening<'a> {
        Listening {
            id: sending.id,
            progress: sending.request.progress.as_ref(),
            bytes_max: self.site.limits.line_bytes_max,
            aside,
        }
    }

    /// One exchange that is not an action.
    pub(crate) async fn exchange(self: &Arc<Self>, request: &Outbound) -> Result<Reply, LinkError> {
        let within = self.site.limits.exchange_timeout;
        tokio::time::timeout(within, self.ask(request)).await.unwrap_or(Err(LinkError::Timeout))
    }

    /// One stream of notifications, until the upstream or `ended` ends it: by closing the connection.
    pub(crate) async fn listen(
        self: &Arc<Self>,
        request: &Outbound,
        ended: &CancellationToken,
    ) -> Result<Reply, LinkError> {
        tokio::select! {
            biased;
            () = ended.cancelled() => Err(LinkError::Gone),
            () = self.closed.cancelled() => Err(LinkError::Gone),
            reply = self.ask(request) => reply,
        }
    }

    async fn ask(self: &Arc<Self>, request: &Outbound) -> Result<Reply, LinkError> {
        let _place = self.site.place(request).ok_or(LinkError::Busy)?;
        let heading = self.heading_of(request)?;
        let id = self.site.ids.fetch_add(1, Ordering::Relaxed);
        let bare = Heading { mirrored: Vec::new(), ..heading.clone() };
        let hearing = Hearing::new(self, bare, request.aside.clone());
        let sending = Sending { request, id, heading: &heading, hearing: &hearing };
        let mut held = Some(self.site.dialer.take().await?);
        let answered = self.converse(&sending, request.frame(id).into(), &mut held, &Cutter::default()).await?;
        let Answered { status, session, reply, rest, .. } = answered;
        if let Some(conn) = held {
            self.site.keep(conn, rest);
        }
        self.look(status, reply.as_ref());
        if request.method == "initialize" {
            self.heading.lock().unwrap_or_else(PoisonError::into_inner).session = session;
        }
        hearing.end();
        reply.ok_or(LinkError::Status(status.as_u16()))
    }

    /// Sends a message that has no answer and is not an action.
    pub(crate) async fn notify(&self, frame: Vec<u8>) -> Result<(), LinkError> {
        let heading = self.heading();
        let sent = tokio::time::timeout(self.site.limits.exchange_timeout, self.post(&heading, frame.into()));
        sent.await.unwrap_or(Err(LinkError::Timeout))
    }

    /// Ends the session on the upstream's side, if it has one.
    pub(crate) async fn farewell(&self) {
        let heading = self.heading();
        if heading.session.is_some() && !self.is_lost.load(Ordering::Relaxed) {
            let told =
                tokio::time::timeout(REST, self.send(&heading, Method::DELETE, Bytes::new(), &Cutter::default())).await;
            tracing::debug!(ok = matches!(told, Ok(Ok(()))), "ended the session with an upstream");
        }
    }

    async fn post(&self, heading: &Heading, frame: Bytes) -> Result<(), LinkError> {
        self.send(heading, Method::POST, frame, &Cutter::default()).await
    }

    async fn send(&self, heading: &Heading, method: Method, frame: Bytes, cutter: &Cutter) -> Result<(), LinkError> {
        let built = heading.request(self.site.dialer.url(), method, frame)?;
        let mut conn = self.site.dialer.take().await?;
        if !cutter.hold(&conn) {
            return Err(LinkError::Gone);
        }
        let response = conn.sender.send_request(built).await.map_err(|_| LinkError::Gone)?;
        let status = response.status();
        cutter.release();
        self.site.keep(conn, response.into_body());
        if status.is_success() { Ok(()) } else { Err(LinkError::Status(status.as_u16())) }
    }

    /// A legacy upstream is told; to a modern one the closed stream said it.
    async fn note_cancelled(&self, heading: &Heading, id: u64, why: &str) {
        if self.era == Era::Modern {
            return;
        }
        let params = format!(r#"{{"requestId":{id},"reason":"{why}"}}"#);
        let frame = notification_frame("notifications/cancelled", Some(&params));
        let told = tokio::time::timeout(CANCEL_NOTE, self.post(heading, frame.into())).await;
        if !matches!(told, Ok(Ok(()))) {
            tracing::debug!(id, "the upstream could not be told of a cancelled request");
        }
    }
}
