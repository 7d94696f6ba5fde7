//! Upstreams on the transport of 2024-11-05: a stream of events for everything that comes, and a POST for everything that
//! goes (2024-11-05, `basic/transports`, "HTTP with SSE").
//!
//! A call takes a connection first, then begins its effect, then sends. A stop severs that connection and tells the
//! upstream with one bounded `notifications/cancelled`; a cut closes the session, for the answer could come on its
//! stream. Messages go to the origin of the stream and nowhere else, whatever the upstream says. It must not know how a lost
//! upstream is reached again. It does not cover resumption: this transport has none.

#[cfg(test)]
mod tests;

use std::os::fd::OwnedFd;
use std::sync::Arc;

use bytes::Bytes;
use countersign_gate::call::Executed;
use countersign_gate::credential::Credential;
use hyper::body::Incoming;
use hyper::{Method, StatusCode};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::audience::Member;
use super::board::{Board, Todo};
use super::ears::Ears;
use super::http::Site;
use super::http::cut::Cutter;
use super::http::dial::Conn;
use super::http::talk::{self, Heading};
use super::leave::{InFlight, Leave};
use super::link::LinkError;
use super::outbound::{self, Halt, Outbound, Reply};
use super::pipe::CANCEL_NOTE;
use super::said::Outgoing;
use crate::mcp::config::Url;
use crate::mcp::wire::sse::{Event, SseDecoder};
use crate::mcp::wire::{Era, notification_frame};

/// One session: its stream, and where its messages go.
pub(crate) struct SseLink {
    site: Arc<Site>,
    endpoint: Url,
    board: Board,
    /// The socket of the stream.
    socket: Arc<OwnedFd>,
    closed: CancellationToken,
}

/// What became of a message that was sent.
enum Sent {
    Answered(Reply),
    /// The upstream's POST says no.
    Refused(StatusCode),
    Failed(LinkError),
}

impl SseLink {
    /// Opens the stream and waits until the upstream names its endpoint. Ends with `closed`.
    pub(crate) async fn open(site: &Arc<Site>, ears: &Ears, closed: CancellationToken) -> Result<Arc<Self>, LinkError> {
        let opening = Self::opened(site, ears, closed);
        tokio::time::timeout(site.limits().connect_timeout, opening).await.unwrap_or(Err(LinkError::Timeout))
    }

    async fn opened(site: &Arc<Site>, ears: &Ears, closed: CancellationToken) -> Result<Arc<Self>, LinkError> {
        let mut conn = site.dialer().take().await?;
        let built = site.heading().stream(site.dialer().url(), None)?;
        let response = conn.sender.send_request(built).await.map_err(|_| LinkError::Gone)?;
        if !response.status().is_success() || !talk::is_events(&response) {
            return Err(LinkError::Status(response.status().as_u16()));
        }
        let (mut body, mut decoder) = (response.into_body(), SseDecoder::new(site.limits().line_bytes_max));
        let (endpoint, early) = loop {
            let mut events = next(&mut body, &mut decoder).await?.into_iter();
            if let Some(event) = events.find(|event| event.name == "endpoint") {
                break (site.dialer().url().beside(&String::from_utf8_lossy(&event.data))?, events);
            }
        };
        let board = ears.board(site.limits(), closed.clone());
        let link = Arc::new(Self { site: Arc::clone(site), endpoint, board, socket: conn.socket(), closed });
        early.for_each(|event| link.take(event));
        tokio::spawn(Arc::clone(&link).read(conn, body, decoder));
        Ok(link)
    }

    pub(crate) const fn closed(&self) -> &CancellationToken {
        &self.closed
    }

    /// Ends the session: there is no other word for it than closing the stream.
    pub(crate) fn close(&self) {
        self.closed.cancel();
        Conn::sever(&self.socket);
        self.board.forget_all();
    }

    async fn read(self: Arc<Self>, conn: Conn, mut body: Incoming, mut decoder: SseDecoder) {
        loop {
            let events = tokio::select! {
                biased;
                () = self.closed.cancelled() => break,
                events = next(&mut body, &mut decoder) => events,
            };
            match events {
                Ok(events) => events.into_iter().for_each(|event| self.take(event)),
                Err(error) => {
                    tracing::info!(%error, "the stream of an upstream ended");
                    break;
                }
            }
        }
        self.close();
        drop(conn);
    }

    fn take(self: &Arc<Self>, event: Event) {
        if !matches!(event.name.as_str(), "" | "message") || event.data.is_empty() {
            return;
        }
        let frame = match outbound::read(event.data.into(), self.site.limits().line_bytes_max) {
            Ok(frame) => frame,
            Err(error) => {
                tracing::warn!(%error, "an event of the upstream is no message and was dropped");
                return;
            }
        };
        let Some(todo) = self.board.arrive(frame, Era::Legacy) else { return };
        let link = Arc::clone(self);
        // A refusal needs a place at once; a question has one of its own while it waits.
        let place = match &todo {
            Todo::Send(_) => match self.site.aside().try_acquire_owned() {
                Ok(place) => Some(place),
                Err(_) => return tracing::warn!("a request of the upstream was dropped: it asks too fast"),
            },
            Todo::Settle(_) => None,
        };
        tokio::spawn(async move {
            match todo {
                Todo::Send(answer) => {
                    let told = link.notify(answer).await;
                    tracing::debug!(ok = told.is_ok(), "answered a request of the upstream");
                }
                Todo::Settle(pending) => {
                    if let Some(outgoing) = link.board.settle(pending).await {
                        let is_told = link.answer(&outgoing).await;
                        tracing::debug!(ok = is_told, "answered a question of the upstream");
                        outgoing.sent(is_told);
                    }
                }
            }
            drop(place);
        });
    }

    /// Carries out one action under a leave.
    pub(crate) async fn call<L: Leave>(
        self: &Arc<Self>,
        leave: L,
        (request, member): (&Outbound, Member),
    ) -> Executed<Reply> {
        let conn = tokio::select! {
            biased;
            stop = leave.stopped() => return outbound::not_started(stop.as_str()),
            () = self.closed.cancelled() => return outbound::not_started("the upstream is gone"),
            conn = self.site.dialer().take() => match conn {
                Ok(conn) => conn,
                Err(error) => return outbound::not_started(&error.to_string()),
            },
        };
        let Some((id, answer)) = self.board.expect(request, member) else {
            return outbound::not_started("too many requests are in flight towards the upstream");
        };
        let cutter = Arc::new(Cutter::default());
        cutter.hold(&conn);
        let (cut, link) = (Arc::clone(&cutter), Arc::clone(self));
        let effect = match leave.begin(Arc::new(move || {
            cut.sever();
            link.close();
        })) {
            Ok(effect) => effect,
            Err(stop) => {
                self.board.forget(id);
                self.site.dialer().give_back(conn);
                return outbound::not_started(stop.as_str());
            }
        };
        let executed = self.carry(&effect, (conn, &cutter), request, (id, answer)).await;
        self.board.forget(id);
        drop(effect);
        executed
    }

    async fn carry<F: InFlight>(
        &self,
        effect: &F,
        (conn, cutter): (Conn, &Cutter),
        request: &Outbound,
        (id, answer): (u64, oneshot::Receiver<Reply>),
    ) -> Executed<Reply> {
        let mut heading = Heading { credential: None, ..self.site.heading() };
        if !heading.open_with(effect.credential().map(Credential::as_header)) {
            return outbound::not_started(&LinkError::Credential.to_string());
        }
        let body = Bytes::from(request.frame(id));
        let sent = body.len();
        let (mut begun, mut held) = (false, Some(conn));
        let ended = tokio::select! {
            biased;
            stop = effect.stopped() => Err(Halt::Stop(stop)),
            ended = async {
                begun = true;
                self.converse((&mut held, cutter), &heading, body, answer).await
            } => Ok(ended),
            () = tokio::time::sleep(request.patience(self.site.limits().call_timeout)) => Err(Halt::Late),
        };
        match ended {
            Ok(Sent::Answered(reply)) => outbound::answered(reply, sent),
            Ok(Sent::Refused(status)) => {
                let note = format!("the upstream answered with HTTP status {}", status.as_u16());
                if status.is_server_error() { outbound::unknown(&note, sent) } else { outbound::failed(&note, sent) }
            }
            Ok(Sent::Failed(LinkError::Unreachable(why))) => outbound::not_started(&why),
            Ok(Sent::Failed(error)) => outbound::unknown(&error.to_string(), sent),
            Err(why) if !begun => outbound::not_started(why.as_str()),
            Err(why) => {
                cutter.sever();
                drop(held);
                self.board.forget(id);
                self.note_cancelled(&heading, id, why.as_str()).await;
                outbound::halted(request, why, sent)
            }
        }
    }

    /// Sends a message and waits for its answer, which may be on the stream before the POST is answered.
    async fn converse(
        &self,
        held: (&mut Option<Conn>, &Cutter),
        heading: &Heading,
        body: Bytes,
        mut answer: oneshot::Receiver<Reply>,
    ) -> Sent {
        let posted = tokio::select! {
            biased;
            posted = self.post(held, heading, body) => posted,
            reply = &mut answer => return reply.map_or(Sent::Failed(LinkError::Gone), Sent::Answered),
        };
        match posted {
            Ok(status) if status.is_success() => answer.await.map_or(Sent::Failed(LinkError::Gone), Sent::Answered),
            Ok(status) => Sent::Refused(status),
            Err(error) => Sent::Failed(error),
        }
    }

    /// Sends one message on a connection, which is used again if it can be.
    async fn post(
        &self,
        (held, cutter): (&mut Option<Conn>, &Cutter),
        heading: &Heading,
        body: Bytes,
    ) -> Result<StatusCode, LinkError> {
        let built = heading.request(&self.endpoint, Method::POST, body)?;
        let conn = held.as_mut().ok_or(LinkError::Gone)?;
        let response = talk::send(conn, built).await?;
        let status = response.status();
        if let Some(conn) = held.take() {
            cutter.release();
            self.site.keep(conn, response.into_body());
        }
        Ok(status)
    }

    /// One exchange that is not an action.
    pub(crate) async fn exchange(&self, request: &Outbound, member: Member) -> Result<Reply, LinkError> {
        let (id, answer) = self.board.expect(request, member).ok_or(LinkError::Busy)?;
        let exchanged = tokio::time::timeout(self.site.limits().exchange_timeout, async {
            let mut held = Some(self.site.dialer().take().await?);
            let cutter = Cutter::default();
            match self.converse((&mut held, &cutter), &self.site.heading(), request.frame(id).into(), answer).await {
                Sent::Answered(reply) => Ok(reply),
                Sent::Refused(status) => Err(LinkError::Status(status.as_u16())),
                Sent::Failed(error) => Err(error),
            }
        });
        let reply = exchanged.await.unwrap_or(Err(LinkError::Timeout));
        self.board.forget(id);
        reply
    }

    /// Sends a message that has no answer and is not an action.
    pub(crate) async fn notify(&self, frame: Vec<u8>) -> Result<(), LinkError> {
        let heading = self.site.heading();
        let sent = self.tell(&heading, frame);
        tokio::time::timeout(self.site.limits().exchange_timeout, sent).await.unwrap_or(Err(LinkError::Timeout))
    }

    /// Sends the answer to a question, unless it is over before: then its connection is severed.
    async fn answer(&self, outgoing: &Outgoing) -> bool {
        let (heading, cutter) = (self.site.heading(), Cutter::default());
        let sent = self.tell_on(&cutter, &heading, outgoing.frame.clone());
        tokio::select! {
            biased;
            () = outgoing.over.cancelled() => {
                cutter.sever();
                false
            }
            told = tokio::time::timeout(self.site.limits().exchange_timeout, sent) => matches!(told, Ok(Ok(()))),
        }
    }

    async fn tell(&self, heading: &Heading, frame: Vec<u8>) -> Result<(), LinkError> {
        self.tell_on(&Cutter::default(), heading, frame).await
    }

    async fn tell_on(&self, cutter: &Cutter, heading: &Heading, frame: Vec<u8>) -> Result<(), LinkError> {
        let conn = self.site.dialer().take().await?;
        if !cutter.hold(&conn) {
            return Err(LinkError::Gone);
        }
        let status = self.post((&mut Some(conn), cutter), heading, frame.into()).await?;
        if status.is_success() { Ok(()) } else { Err(LinkError::Status(status.as_u16())) }
    }

    async fn note_cancelled(&self, heading: &Heading, id: u64, why: &str) {
        let params = format!(r#"{{"requestId":{id},"reason":"{why}"}}"#);
        let frame = notification_frame("notifications/cancelled", Some(&params));
        let told = tokio::time::timeout(CANCEL_NOTE, self.tell(heading, frame)).await;
        if !matches!(told, Ok(Ok(()))) {
            tracing::debug!(id, "the upstream could not be told of a cancelled request");
        }
    }
}

/// The events of the next chunk.
async fn next(body: &mut Incoming, decoder: &mut SseDecoder) -> Result<Vec<Event>, LinkError> {
    let chunk = talk::next_chunk(body).await?.ok_or(LinkError::Gone)?;
    decoder.push(&chunk).map_err(|error| LinkError::Unreadable(error.to_string()))
}
