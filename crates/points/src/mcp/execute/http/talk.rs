//! One request and its answer over streamable HTTP, JSON or events (2025-11-25, `basic/transports`).
//!
//! It must not know permits or who asks. It does not cover waiting before a broken stream is resumed.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};

use super::dial::Conn;
use crate::mcp::config::Url;
use crate::mcp::execute::link::LinkError;
use crate::mcp::execute::outbound::{self, Progress, Reply, progress_id, reading};
use crate::mcp::wire::sse::SseDecoder;
use crate::mcp::wire::{Frame, Message};

/// The session header of the transport.
pub(crate) const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");
/// The header that resumes a stream.
const LAST_EVENT: HeaderName = HeaderName::from_static("last-event-id");
/// The revision header of the transport.
pub(crate) const VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");

/// The headers that every request of one link carries.
#[derive(Clone, Debug, Default)]
pub(crate) struct Heading {
    pub(crate) version: Option<HeaderValue>,
    pub(crate) session: Option<HeaderValue>,
    pub(crate) credential: Option<(HeaderName, HeaderValue)>,
    /// What one request mirrors; see `mirror`.
    pub(crate) mirrored: Vec<(HeaderName, HeaderValue)>,
}

impl Heading {
    /// Sets what opens the upstream; `false` where it is no possible header.
    pub(crate) fn open_with(&mut self, credential: Option<(&str, &str)>) -> bool {
        let Some((name, value)) = credential else { return true };
        let (Ok(name), Ok(mut value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value)) else {
            return false;
        };
        value.set_sensitive(true);
        self.credential = Some((name, value));
        true
    }

    pub(crate) fn request(&self, url: &Url, method: Method, body: Bytes) -> Result<Request<Full<Bytes>>, LinkError> {
        let mut request = Request::builder().method(method.clone()).uri(&url.path).header(HOST, &url.authority);
        request = match method {
            Method::GET => request.header(ACCEPT, "text/event-stream"),
            Method::DELETE => request,
            _ => request.header(CONTENT_TYPE, "application/json").header(ACCEPT, "application/json, text/event-stream"),
        };
        for (name, value) in [(VERSION, &self.version), (SESSION, &self.session)] {
            if let Some(value) = value {
                request = request.header(name, value);
            }
        }
        for (name, value) in &self.mirrored {
            request = request.header(name, value);
        }
        if let Some((name, value)) = &self.credential {
            request = request.header(name, value);
        }
        request.body(Full::new(body)).map_err(|error| LinkError::Unreachable(error.to_string()))
    }

    /// Opens the session's own stream, or a broken one again from where it broke.
    pub(crate) fn stream(&self, url: &Url, after: Option<&str>) -> Result<Request<Full<Bytes>>, LinkError> {
        let mut request = self.request(url, Method::GET, Bytes::new())?;
        if let Some(after) = after {
            let id = HeaderValue::from_bytes(after.as_bytes());
            let id = id.map_err(|_| LinkError::Unreadable("an event id is no possible header".to_owned()))?;
            request.headers_mut().insert(LAST_EVENT, id);
        }
        Ok(request)
    }
}

/// Where a stream broke that can be resumed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) id: String,
    /// How long the server wants to be left alone, where it says so.
    pub(crate) retry: Option<Duration>,
}

impl Mark {
    pub(crate) fn of(decoder: &SseDecoder) -> Option<Self> {
        let retry = decoder.retry_ms().map(Duration::from_millis);
        decoder.last_id().map(|id| Self { id: id.to_owned(), retry })
    }
}

/// How an answer came to be.
pub(crate) struct Answered {
    pub(crate) status: StatusCode,
    pub(crate) session: Option<HeaderValue>,
    /// The response to our request; none where the status or the stream gave none.
    pub(crate) reply: Option<Reply>,
    /// Where its stream broke before the response came.
    pub(crate) mark: Option<Mark>,
    /// What is left of the body: its connection can be used again once it was read.
    pub(crate) rest: Incoming,
}

/// What a reader of an answer listens for.
pub(crate) struct Listening<'a> {
    pub(crate) id: u64,
    pub(crate) progress: Option<&'a Progress>,
    pub(crate) bytes_max: usize,
    /// Takes every message on a stream that is not the answer.
    pub(crate) aside: &'a (dyn Fn(&Frame) + Send + Sync),
}

/// Sends a request and reads until its answer is there.
pub(crate) async fn talk(
    conn: &mut Conn,
    request: Request<Full<Bytes>>,
    listening: &Listening<'_>,
) -> Result<Answered, LinkError> {
    let response = send(conn, request).await?;
    let status = response.status();
    let session = response.headers().get(SESSION).cloned();
    let events = is_events(&response);
    let mut body = response.into_body();
    let (reply, mark) =
        if events { read_events(&mut body, listening).await? } else { (read_json(&mut body, listening).await?, None) };
    let reply = reply.map(|reply| reply.with_status(status.as_u16()));
    Ok(Answered { status, session, reply, mark, rest: body })
}

/// Sends a request and waits for the head of its response.
pub(crate) async fn send(conn: &mut Conn, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, LinkError> {
    conn.sender.try_send_request(request).await.map_err(|mut error| match error.take_message() {
        // The request came back whole: not a byte of it was written.
        Some(_) => LinkError::Unreachable("the connection was closed before the request was written".to_owned()),
        None => LinkError::Gone,
    })
}

pub(crate) fn is_events(response: &Response<Incoming>) -> bool {
    let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("text/event-stream")
}

/// One chunk of a body; `None` at its end.
pub(crate) async fn next_chunk(body: &mut Incoming) -> Result<Option<Bytes>, LinkError> {
    loop {
        match body.frame().await {
            None => return Ok(None),
            Some(Err(_)) => return Err(LinkError::Gone),
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

async fn read_json(body: &mut Incoming, listening: &Listening<'_>) -> Result<Option<Reply>, LinkError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = next_chunk(body).await? {
        if bytes.len().saturating_add(chunk.len()) > listening.bytes_max {
            return Err(LinkError::Unreadable(format!("more than {} bytes", listening.bytes_max)));
        }
        bytes.extend_from_slice(&chunk);
    }
    // A body that is no message (a 202, an HTML page of a proxy) is no answer; the status says what it is.
    let frame = Frame::read(bytes.into(), &reading(listening.bytes_max)).ok();
    Ok(frame.and_then(|frame| own_reply(frame, listening.id)))
}

/// The response on a stream, or where the stream ended without one.
async fn read_events(
    body: &mut Incoming,
    listening: &Listening<'_>,
) -> Result<(Option<Reply>, Option<Mark>), LinkError> {
    let mut decoder = SseDecoder::new(listening.bytes_max);
    loop {
        let chunk = match (next_chunk(body).await, Mark::of(&decoder)) {
            (Ok(Some(chunk)), _) => chunk,
            (Ok(None), mark) => return Ok((None, mark)),
            (Err(_), Some(mark)) => return Ok((None, Some(mark))),
            (Err(error), None) => return Err(error),
        };
        let events = decoder.push(&chunk).map_err(|error| LinkError::Unreadable(error.to_string()))?;
        for event in events {
            if event.data.is_empty() {
                continue;
            }
            let Ok(frame) = outbound::read(event.data.into(), listening.bytes_max) else {
                tracing::warn!("an event of the upstream is no message and was dropped");
                continue;
            };
            match frame.message() {
                Message::Response { .. } => {
                    if let Some(reply) = own_reply(frame, listening.id) {
                        return Ok((Some(reply), None));
                    }
                }
                Message::Notification { .. } if progress_id(&frame) == Some(listening.id) => {
                    if let Some(progress) = listening.progress {
                        progress.relay(&frame);
                    }
                }
                Message::Request { .. } | Message::Notification { .. } => (listening.aside)(&frame),
            }
        }
    }
}

/// The reply in `frame`, if it answers our request: by its id, or without one, as an error about an unreadable request.
fn own_reply(frame: Frame, id: u64) -> Option<Reply> {
    match frame.message() {
        Message::Response { id: Some(found), .. } if found.as_u64() != Some(id) => None,
        _ => Reply::of(frame),
    }
}
