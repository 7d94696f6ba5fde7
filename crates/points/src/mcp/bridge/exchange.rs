//! One message to the gateway, and what comes back for it: JSON or events, as lines.
//!
//! Bytes of messages pass as they are. A stream of a legacy session that breaks before the answer came is resumed where
//! the gateway gave its events ids; a call is never sent again. It must not know which other messages are in flight.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body, Incoming};
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};

use super::Shared;
use super::door::Conn;
use super::failure::Failure;
use super::mirror::{Pair, VERSION};
use crate::mcp::execute::http::talk::{self, SESSION};
use crate::mcp::execute::outbound::reading;
use crate::mcp::wire::sse::SseDecoder;
use crate::mcp::wire::{Frame, Id, Message, Outcome};

/// The longest answer, and the longest event.
pub(super) const ANSWER_BYTES_MAX: usize = 32 * 1024 * 1024;
/// The longest body of a refusal that is looked at.
const SAID_BYTES_MAX: usize = 64 * 1024;
/// How often a broken stream is taken up again, and after what pause.
const RESUMES_MAX: u32 = 5;
const RESUME_PAUSE: Duration = Duration::from_secs(1);
const LAST_EVENT: HeaderName = HeaderName::from_static("last-event-id");

/// What a legacy session is known by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Session {
    pub(super) id: Option<HeaderValue>,
    pub(super) version: Option<HeaderValue>,
}

/// One message on its way.
pub(super) struct Outgoing {
    /// Its bytes.
    pub(super) body: Bytes,
    /// The request's id; none for what has no answer.
    pub(super) id: Option<Id>,
    /// What a modern message mirrors. A legacy one carries its session.
    pub(super) mirrored: Option<Vec<Pair>>,
    /// The session that a legacy message belongs to.
    pub(super) session: Session,
}

/// How far a stream was read.
enum Read {
    Answered(Frame),
    Broke,
}

impl Shared {
    /// A request of this method, with everything but its body.
    pub(super) fn built(
        &self,
        method: Method,
        extra: impl IntoIterator<Item = Pair>,
        body: Bytes,
    ) -> Result<Request<Full<Bytes>>, Failure> {
        let place = self.door.place();
        let is_post = method == Method::POST;
        let accept = if is_post { "application/json, text/event-stream" } else { "text/event-stream" };
        let mut request = Request::builder()
            .method(method)
            .uri(place.endpoint())
            .header(HOST, place.authority())
            .header(AUTHORIZATION, self.token.clone())
            .header(ACCEPT, accept);
        if is_post {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        for (name, value) in extra {
            request = request.header(name, value);
        }
        request.body(Full::new(body)).map_err(|error| Failure::Unreadable(error.to_string()))
    }

    /// Sends a message. The frame is the answer to the request, where it was one; what else came, went out as lines.
    pub(super) async fn exchange(&self, sent: &Outgoing) -> Result<(Option<Frame>, Session), Failure> {
        let extra = sent.mirrored.clone().unwrap_or_else(|| headers_of(&sent.session));
        let request = self.built(Method::POST, extra, sent.body.clone())?;
        let (response, conn) = self.door.send(request).await?;
        let given = Session { id: response.headers().get(SESSION).cloned(), version: None };
        let status = response.status();
        if status.is_success() && talk::is_events(&response) {
            let frame = self.streamed(sent, response, conn).await?;
            return Ok((Some(frame), given));
        }
        let mut body = response.into_body();
        let bytes = whole(&mut body, if status.is_success() { ANSWER_BYTES_MAX } else { SAID_BYTES_MAX }).await?;
        if body.is_end_stream() {
            self.door.keep(conn);
        }
        let had_session = sent.session.id.is_some() && sent.mirrored.is_none();
        Ok((read(bytes, status, sent.id.as_ref(), had_session)?, given))
    }

    /// Reads the events of an answer; takes a broken stream up again where that can be done.
    async fn streamed(&self, sent: &Outgoing, response: Response<Incoming>, conn: Conn) -> Result<Frame, Failure> {
        let mut last = None;
        let mut body = response.into_body();
        if let Read::Answered(frame) = self.events(&mut body, sent.id.as_ref(), &mut last).await? {
            if body.is_end_stream() {
                self.door.keep(conn);
            }
            return Ok(frame);
        }
        drop(conn);
        for _ in 0..RESUMES_MAX {
            let Some(event) = last.clone().filter(|_| sent.mirrored.is_none()) else { break };
            tokio::time::sleep(RESUME_PAUSE).await;
            let extra = headers_of(&sent.session).into_iter().chain([(LAST_EVENT, event)]);
            let again = self.built(Method::GET, extra, Bytes::new())?;
            let Ok((response, _conn)) = self.door.send(again).await else { continue };
            if !response.status().is_success() || !talk::is_events(&response) {
                break;
            }
            let mut body = response.into_body();
            if let Read::Answered(frame) = self.events(&mut body, sent.id.as_ref(), &mut last).await? {
                return Ok(frame);
            }
        }
        Err(Failure::Lost)
    }

    /// Reads events up to the answer to `id`, or to the end; every other message goes out as a line.
    async fn events(
        &self,
        body: &mut Incoming,
        id: Option<&Id>,
        last: &mut Option<HeaderValue>,
    ) -> Result<Read, Failure> {
        let mut decoder = SseDecoder::new(ANSWER_BYTES_MAX);
        while let Ok(Some(chunk)) = talk::next_chunk(body).await {
            for event in decoder.push(&chunk).map_err(|error| Failure::Unreadable(error.to_string()))? {
                if let Some(id) = &event.id {
                    *last = HeaderValue::from_str(id).ok();
                }
                if event.data.is_empty() {
                    continue;
                }
                let Ok(frame) = Frame::read(event.data.into(), &reading(ANSWER_BYTES_MAX)) else {
                    tracing::warn!("an event of the gateway is no message and was dropped");
                    continue;
                };
                match frame.message() {
                    Message::Response { id: found, .. } if id.is_some() && found.as_ref() == id => {
                        return Ok(Read::Answered(frame));
                    }
                    _ => self.say(frame.bytes()).await,
                }
            }
        }
        Ok(Read::Broke)
    }

    /// Listens to the session's own stream until it ends; `false` where the gateway offers none, or no longer.
    pub(super) async fn listen_once(&self, session: &Session, last: &mut Option<HeaderValue>) -> bool {
        let extra = headers_of(session).into_iter().chain(last.clone().map(|event| (LAST_EVENT, event)));
        let Ok(request) = self.built(Method::GET, extra, Bytes::new()) else { return false };
        let Ok((response, _conn)) = self.door.send(request).await else { return true };
        let status = response.status();
        if !status.is_success() || !talk::is_events(&response) {
            return status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error();
        }
        let mut body = response.into_body();
        self.events(&mut body, None, last).await.is_ok()
    }

    /// Ends the session at the gateway.
    pub(super) async fn farewell(&self, session: &Session) -> Result<(), Failure> {
        let request = self.built(Method::DELETE, headers_of(session), Bytes::new())?;
        let (response, _conn) = self.door.send(request).await?;
        match response.status() {
            status if status.is_success() => Ok(()),
            status => Err(Failure::of_status(status, true, "the session was not ended")),
        }
    }
}

fn headers_of(session: &Session) -> Vec<Pair> {
    let pairs = [(SESSION, &session.id), (VERSION, &session.version)];
    pairs.into_iter().filter_map(|(name, value)| Some((name, value.clone()?))).collect()
}

async fn whole(body: &mut Incoming, bytes_max: usize) -> Result<Bytes, Failure> {
    let mut bytes = Vec::new();
    while let Some(chunk) = talk::next_chunk(body).await.map_err(|_| Failure::Lost)? {
        if bytes.len().saturating_add(chunk.len()) > bytes_max {
            return Err(Failure::Unreadable(format!("more than {bytes_max} bytes")));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes.into())
}

/// What a body that is no stream says: the answer, nothing where none was due, or why there is none.
fn read(bytes: Bytes, status: StatusCode, id: Option<&Id>, had_session: bool) -> Result<Option<Frame>, Failure> {
    if id.is_none() && status.is_success() {
        return Ok(None);
    }
    let frame = Frame::read(bytes.clone(), &reading(ANSWER_BYTES_MAX)).ok();
    if let Some(frame) = frame {
        match frame.message() {
            Message::Response { id: found, .. } if id.is_some() && found.as_ref() == id => return Ok(Some(frame)),
            Message::Response { id: None, outcome: Outcome::Error(error) } => {
                let is_ours = status == StatusCode::UNAUTHORIZED || (status == StatusCode::NOT_FOUND && had_session);
                if is_ours || status.is_server_error() {
                    let said = error.get("message").and_then(|said| said.as_str()).unwrap_or_default();
                    return Err(Failure::of_status(status, had_session, said));
                }
                return Err(Failure::Said(frame.raw(error)));
            }
            _ => {}
        }
    }
    Err(Failure::of_status(status, had_session, &said(&bytes)))
}

/// The text of a body that is no message: its `message`, or its beginning.
fn said(bytes: &Bytes) -> String {
    let read = countersign_effects::json::parse(bytes, &reading(SAID_BYTES_MAX)).ok();
    let message = read.as_ref().and_then(|read| read.get("message")).and_then(|text| text.as_str());
    match message {
        Some(text) => text.to_owned(),
        None if bytes.is_empty() => "no answer".to_owned(),
        None => String::from_utf8_lossy(bytes).chars().take(120).flat_map(char::escape_default).collect(),
    }
}
