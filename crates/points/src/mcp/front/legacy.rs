//! The era with a handshake: sessions, their streams, and what comes in them besides requests
//! (2025-11-25, `basic/lifecycle` and `basic/transports`).
//!
//! A session has a channel of its own to each upstream, opened the way its client opened. It must not know how a request
//! is carried out.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use countersign_effects::json::Node;
use countersign_model::{Caller, ReasonCode};
use hyper::header::{HeaderName, HeaderValue};
use hyper::{HeaderMap, Response, StatusCode};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use super::asked::Asked;
use super::body::ReplyBody;
use super::exchange::NoChannel;
use super::kept;
use super::outbox::Listener;
use super::questions::Matched;
use super::refusal::{Refusal, empty_response};
use super::respond::Hearing;
use super::seat::Seats;
use super::work::Work;
use super::{EVENTS_QUEUE, Front, SESSION, Session, checks};
use crate::Governor;
use crate::mcp::adapt::hello;
use crate::mcp::execute::Upstream;
use crate::mcp::execute::channel::{Channel, ClientHello, Said};
use crate::mcp::execute::link::LinkError;
use crate::mcp::methods::{Exchange, Kind, Method};
use crate::mcp::wire::{
    Era, Frame, FrameError, INVALID_PARAMS, Id, Message, NOT_STARTED, error_frame, notification_frame, response_frame,
    sse,
};

const LAST_EVENT: HeaderName = HeaderName::from_static("last-event-id");
/// What an upstream hears of a client that does not say who it is.
const NAMELESS: &[u8] = br#"{"name":"unknown","version":"0"}"#;

impl<G: Governor<Work>> Front<G> {
    /// Opens a session, and a channel to each upstream that is up. A client that asked for another revision than the
    /// upstream agreed to sees which it is and may leave.
    pub(super) async fn initialize(self: &Arc<Self>, asked: Asked) -> Result<Response<ReplyBody>, Refusal> {
        let Some(client) = client_hello(&asked) else {
            let detail = "`initialize` needs `protocolVersion` and `capabilities`";
            let error = FrameError { code: INVALID_PARAMS, ..FrameError::shape(detail) };
            return Err(asked.refused(&error));
        };
        let version = client.version.clone();
        let seats = Seats::new(Era::Legacy, client, asked.endpoint.upstreams());
        let session = self.sessions.open(&asked.caller, (&asked.endpoint, seats), |owner| self.governor.stands(owner));
        let session = session.ok_or_else(|| {
            let detail = "too many sessions are open; close some with DELETE or try again later";
            Refusal::http(StatusCode::SERVICE_UNAVAILABLE, ReasonCode::Overloaded, detail)
        })?;
        let opened = self.open_channels(&session).await;
        let result = match (&opened[..], asked.endpoint.is_prefixed()) {
            ([], _) => {
                self.sessions.close(&session);
                return self.unpaired(&asked, None).given(&asked);
            }
            ([channel, ..], false) => {
                let said = channel.hello();
                hello::alone(said.frame().bytes(), said.result(), &self.config.extensions)
            }
            (channels, true) => {
                let hellos: Vec<_> = channels
                    .iter()
                    .map(|channel| (channel.upstream().id().clone(), Arc::clone(channel.hello())))
                    .collect();
                hello::merged(Era::Legacy, &hellos, &version)
            }
        };
        let frame = response_frame(&asked.id, "result", &result);
        let mut response = super::respond::finished(Era::Legacy, asked.accepts, frame);
        let header = HeaderValue::from_str(session.id());
        let header = header.map_err(|_| Refusal::malformed(Some(&asked.id), "the session id is no header"))?;
        response.headers_mut().insert(SESSION, header);
        Ok(response)
    }

    /// Channels to all upstreams that can be reached now, in their order.
    async fn open_channels(self: &Arc<Self>, session: &Arc<Session>) -> Vec<Channel> {
        let mut opening = JoinSet::new();
        // One that is down would only be opened in words.
        let up = |upstream: &Upstream| upstream.eras().any();
        let places = session.endpoint.upstreams().iter().enumerate().filter(|(_, upstream)| up(upstream));
        for (at, _) in places {
            let (front, session) = (Arc::clone(self), Arc::clone(session));
            opening.spawn(async move { (at, front.session_channel(&session, at).await) });
        }
        let mut opened: Vec<(usize, Channel)> =
            opening.join_all().await.into_iter().filter_map(|(at, channel)| Some((at, channel?))).collect();
        opened.sort_by_key(|(at, _)| *at);
        opened.into_iter().map(|(_, channel)| channel).collect()
    }

    /// The session's channel to the upstream at a place; none where it cannot be reached now.
    async fn session_channel(self: &Arc<Self>, session: &Arc<Session>, at: usize) -> Option<Channel> {
        let upstream = session.endpoint.upstream(at)?.clone();
        let hearing = Hearing {
            upstream: upstream.clone(),
            prefixed: session.endpoint.prefix(at).is_some(),
            caller: session.owner.clone(),
            session: Some(Arc::clone(session)),
            stream: None,
        };
        let listen = |said| drop(tokio::spawn(Arc::clone(self).ears(said, hearing)));
        match session.seats.channel(at, listen).await {
            Ok(channel) => Some(channel),
            Err(error) => {
                tracing::info!(upstream = %upstream.id(), %error, "a client's session with an upstream did not open");
                None
            }
        }
    }

    /// Listens to what an upstream says outside of requests, for as long as the session lasts, and the session no longer
    /// than the token that opened it: what it hears is on that token's account.
    async fn ears(self: Arc<Self>, mut said: mpsc::Receiver<Said>, hearing: Hearing) {
        let Some(session) = hearing.session.clone() else { return };
        let mut looks = tokio::time::interval(self.config.limits.keep_alive.max(Duration::from_millis(1)));
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let heard = tokio::select! {
                biased;
                () = session.ended.cancelled() => break,
                _ = looks.tick() => {
                    if !self.governor.stands(&session.owner) {
                        self.sessions.close(&session);
                    }
                    continue;
                }
                heard = said.recv() => heard,
            };
            let Some(heard) = heard else { return };
            if let Some(event) = self.hear(heard, &hearing)
                && !session.outbox.push(event)
            {
                tracing::debug!("a notification was dropped: it is larger than what is kept for a client");
            }
        }
        session.seats.close().await;
    }

    /// The channel for a request to the upstream at a place.
    pub(super) async fn channel(self: &Arc<Self>, asked: &Asked, at: usize) -> Result<Channel, NoChannel> {
        let channel = match (&asked.session, asked.endpoint.upstream(at)) {
            (Some(session), Some(_)) => self.session_channel(session, at).await,
            // What is not about a request is heard by the streams that ask for it.
            (None, Some(upstream)) => match self.modern.channel(upstream.id()).await {
                // A session with it is nobody's but one principal's.
                Err(LinkError::OtherEra) => self.lodgings.channel(&asked.caller.principal, upstream).await.ok(),
                shared => shared.ok(),
            },
            _ => None,
        };
        channel.ok_or_else(|| self.unpaired(asked, Some(at)))
    }

    /// Why there is no way to the upstream at a place, or to any.
    pub(super) fn unpaired(&self, asked: &Asked, at: Option<usize>) -> NoChannel {
        let upstreams = asked.endpoint.upstreams();
        let concerned: Vec<_> = match at.and_then(|at| upstreams.get(at)) {
            Some(upstream) => vec![upstream],
            None => upstreams.iter().collect(),
        };
        let names: Vec<String> = concerned.iter().map(|upstream| format!("`{}`", upstream.id())).collect();
        let text = format!("{} ({})", ReasonCode::UpstreamUnavailable.sentence(), names.join(", "));
        NoChannel(error_frame(Some(&asked.id), NOT_STARTED, &text, None))
    }

    /// A message without an answer. What is not on the list is dropped: it has no id to be refused under.
    pub(super) async fn notice(&self, session: Option<&Arc<Session>>, frame: &Frame) -> Response<ReplyBody> {
        let accepted = empty_response(StatusCode::ACCEPTED);
        let (Message::Notification { method, params }, Some(session)) = (frame.message(), session) else {
            return accepted;
        };
        match Method::of(method).map(|method| method.kind) {
            Some(Kind::Exchange(Exchange::Cancelled)) => {
                let id = params.as_ref().and_then(|params| params.get("requestId"));
                let id = id.and_then(|id| Id::read(id, frame.bytes()).ok());
                let known = id.is_some_and(|id| session.cancel(id.key()));
                tracing::debug!(known, "a client cancelled a request");
            }
            Some(Kind::Exchange(Exchange::Forwarded)) => self.forward(session, method).await,
            _ => {}
        }
        accepted
    }

    /// Tells the session's upstreams, in our own words: nothing of a client's goes there unjudged. A client that leaves
    /// meanwhile does not end a write half way.
    async fn forward(&self, session: &Arc<Session>, method: &str) {
        let Ok(place) = Arc::clone(&self.calls).try_acquire_owned() else { return };
        let (session, frame) = (Arc::clone(session), notification_frame(method, None));
        let told = tokio::spawn(async move {
            session.seats.tell(&frame).await;
            drop(place);
        });
        let told = told.await.is_ok();
        tracing::debug!(told, method, "a client's notification went on");
    }

    /// An answer of the client to a question.
    pub(super) fn answered(session: &Session, frame: Frame) -> Result<Response<ReplyBody>, Refusal> {
        match session.questions.answer(frame) {
            // One that comes too late is no fault of the client's.
            Matched::Now | Matched::Late => Ok(empty_response(StatusCode::ACCEPTED)),
            Matched::Never => Err(Refusal::malformed(None, "this session was asked nothing under this id")),
        }
    }

    /// A stream of what the session hears outside of its requests, from the event that the client names, or from what no
    /// stream has taken. It ends with the session, and when nothing may be said to the caller any more.
    pub(super) fn listen(
        self: &Arc<Self>,
        (caller, session): (Caller, &Arc<Session>),
        headers: &HeaderMap,
    ) -> Result<Response<ReplyBody>, Refusal> {
        let last = checks::single(headers, &LAST_EVENT)?;
        if let Some(event) = last.and_then(kept::named) {
            // It ends with the answer, so it takes no place from the streams that stay open.
            let body = session.kept.resume(event);
            let gone = || Refusal::malformed(None, "what came after the event in `last-event-id` is not kept here");
            return body.map(|body| self.events(body)).ok_or_else(gone);
        }
        let last = match last.map(str::parse::<u64>) {
            None => None,
            Some(Ok(id)) => Some(id),
            Some(Err(_)) => return Err(Refusal::malformed(None, "`last-event-id` is none of this session's")),
        };
        let place = Arc::clone(&session.streams).try_acquire_owned().map_err(|_| {
            let detail = "this session listens on as many streams as it may";
            Refusal::http(StatusCode::TOO_MANY_REQUESTS, ReasonCode::Overloaded, detail)
        })?;
        let (events, body) = mpsc::channel(EVENTS_QUEUE);
        let (session, front) = (Arc::clone(session), Arc::clone(self));
        let mut listener = session.outbox.listen(last);
        tokio::spawn(async move {
            // A client that does not read holds up nothing but itself.
            tokio::select! {
                biased;
                why = front.cut_off(&caller) => tracing::info!(why, "a stream of a client was ended"),
                () = session.ended.cancelled() => {}
                () = front.shutdown.cancelled() => {}
                () = events.closed() => {}
                () = pass_on(&session, (&mut listener, &events), || front.governor.stands(&caller)) => {}
            }
            session.outbox.leave(&listener);
            drop(place);
        });
        Ok(self.events(body))
    }
}

/// Passes on what a session hears, until its client goes or its token no longer stands.
async fn pass_on(
    session: &Session,
    (listener, events): (&mut Listener, &mpsc::Sender<Bytes>),
    stands: impl Fn() -> bool + Send,
) {
    let mut heard = events.try_send(Bytes::from_static(sse::RETRY)).is_ok();
    while heard {
        let (id, event) = session.outbox.next(listener).await;
        heard = stands() && events.send(sse::encode_under(Some(id), &event).into()).await.is_ok();
    }
}

/// How a client opened; none where something that must be there is not.
fn client_hello(asked: &Asked) -> Option<ClientHello> {
    let version = asked.params.get("protocolVersion").and_then(Node::as_str)?.to_owned();
    let capabilities = asked.params.get("capabilities").filter(|node| node.as_object().is_some())?;
    let client = asked.params.get("clientInfo").filter(|node| node.as_object().is_some());
    let client = client.map_or_else(|| NAMELESS.to_vec(), |node| asked.params.slice(node).to_vec());
    Some(ClientHello {
        version,
        capabilities: hello::offered(capabilities, asked.params.input()).into(),
        client: client.into(),
        owner: Some(super::session::spelled(&asked.caller.principal)),
    })
}
