//! One request and its answer over streamable HTTP, JSON or events (2025-11-25, `basic/transports`).
//!
//! It must not know permits or who asks. It does not cover resuming a stream: an answer whose stream broke is lost.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};

use super::dial::Conn;
use crate::mcp::config::Url;
use crate::mcp::execute::link::LinkError;
use crate::mcp::execute::outbound::{Progress, Reply, progress_id, reading};
use crate::mcp::wire::sse::SseDecoder;
use crate::mcp::wire::{Frame, Message};

/// The session header of the transport.
pub(crate) const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");
/// The revision header of the transport.
pub(crate) const VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");

/// The headers that every request of one link carries.
#[derive(Clone, Debug, Default)]
pub(crate) struct Heading {
    pub(crate) version: Option<HeaderValue>,
    pub(crate) session: Option<HeaderValue>,
    pub(crate) credential: Option<(HeaderName, HeaderValue)>,
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
        if let Some((name, value)) = &self.credential {
            request = request.header(name, value);
        }
        request.body(Full::new(body)).map_err(|error| LinkError::Unreachable(error.to_string()))
    }
}

/// How an answer came to be.
pub(crate) struct Answered {
    pub(crate) status: StatusCode,
    pub(crate) session: Option<HeaderValue>,
    /// The response to our request; none where the status or the stream gave none.
    pub(crate) reply: Option<Reply>,
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
    let response = conn.sender.try_send_request(request).await.map_err(|mut error| match error.take_message() {
        // The request came back whole: not a byte of it was written.
        Some(_) => LinkError::Unreachable("the connection was closed before the request was written".to_owned()),
        None => LinkError::Gone,
    })?;
    let status = response.status();
    let session = response.headers().get(SESSION).cloned();
    let events = is_events(&response);
    let mut body = response.into_body();
    let reply = if events { read_events(&mut body, listening).await? } else { read_json(&mut body, listening).await? };
    Ok(Answered { status, session, reply, rest: body })
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

async fn read_events(body: &mut Incoming, listening: &Listening<'_>) -> Result<Option<Reply>, LinkError> {
    let mut decoder = SseDecoder::new(listening.bytes_max);
    while let Some(chunk) = next_chunk(body).await? {
        let events = decoder.push(&chunk).map_err(|error| LinkError::Unreadable(error.to_string()))?;
        for event in events {
            let Ok(frame) = Frame::read(event.data.into(), &reading(listening.bytes_max)) else {
                tracing::warn!("an event of the upstream is no message and was dropped");
                continue;
            };
            match frame.message() {
                Message::Response { .. } => {
                    if let Some(reply) = own_reply(frame, listening.id) {
                        return Ok(Some(reply));
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
    Ok(None)
}

/// The reply in `frame`, if it answers our request: by its id, or without one, as an error about an unreadable request.
fn own_reply(frame: Frame, id: u64) -> Option<Reply> {
    match frame.message() {
        Message::Response { id: Some(found), .. } if found.as_u64() != Some(id) => None,
        _ => Reply::of(frame),
    }
}
