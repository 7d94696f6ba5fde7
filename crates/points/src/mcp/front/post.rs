//! One POST: a message is read, and its method decides what it is: an exchange, an action, or refused.
//!
//! It must not know how a call is carried out. It does not cover responses of clients: the gateway asks them nothing.

use std::sync::Arc;

use countersign_effects::json::{Limits as JsonLimits, Node};
use countersign_model::{Caller, ReasonCode};
use hyper::body::Incoming;
use hyper::header::{CONTENT_LENGTH, HeaderName, HeaderValue};
use hyper::{Request, Response, StatusCode};

use super::body::{self, BodyError, ReplyBody};
use super::call::Asked;
use super::checks::{self, Accepts};
use super::refusal::{Refusal, empty_response, json_response};
use super::{Front, SESSION, Session};
use crate::Governor;
use crate::mcp::execute::Executor;
use crate::mcp::wire::era::is_legacy;
use crate::mcp::wire::{Era, Frame, FrameError, INVALID_PARAMS, Id, Message, NOT_STARTED, error_frame, response_frame};
use crate::mcp::{ACTION, Exchange};

pub(super) const VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
/// The most values in one message of a client.
const NODES_MAX: usize = 100_000;

/// Refuses a revision that this version does not govern. A missing header means 2025-03-26, which is governed.
pub(super) fn check_version(header: Option<&str>, id: Option<&Id>) -> Result<(), Refusal> {
    match header {
        Some(version) if !is_legacy(version) => {
            let shown: String = version.escape_default().take(40).collect();
            let detail = format!("protocol version `{shown}` is not supported; {}", Era::MODERN_REFUSED);
            Err(Refusal::malformed(id, &detail))
        }
        _ => Ok(()),
    }
}

impl<G: Governor<Executor>> Front<G> {
    pub(super) async fn post(
        self: &Arc<Self>,
        caller: Caller,
        request: Request<Incoming>,
    ) -> Result<Response<ReplyBody>, Refusal> {
        checks::content_is_json(request.headers())?;
        let accepts = checks::accepts(request.headers());
        checks::acceptable(
            accepts.json || accepts.events,
            "the header `accept` must name `application/json` and `text/event-stream`",
        )?;
        let version = checks::single(request.headers(), &VERSION)?.map(str::to_owned);
        self.check_length(&request)?;
        // Missing is an error only for what needs a session.
        let session = checks::single(request.headers(), &SESSION)?.map(|_| self.session(&request, &caller));
        let frame = self.read(request.into_body()).await?;
        let method = match frame.message() {
            Message::Request { method, .. } | Message::Notification { method, .. } => method.clone(),
            Message::Response { .. } => String::new(),
        };
        let (id, params) = match frame.message() {
            Message::Request { id, params, .. } => (Some(id.clone()), params.clone()),
            Message::Notification { params, .. } => (None, params.clone()),
            Message::Response { .. } => (None, None),
        };
        if Era::of(version.as_deref(), &method, params.as_ref()) == Era::Modern {
            return Err(Refusal::ungoverned(StatusCode::BAD_REQUEST, id.as_ref(), Era::MODERN_REFUSED));
        }
        check_version(version.as_deref(), id.as_ref())?;
        let Some(id) = id else {
            let session = session.transpose()?;
            if method == ACTION {
                return Err(Refusal::malformed(None, "a call without an id cannot be answered, so it is not made"));
            }
            return Ok(notification(session.as_deref(), &method, params.as_ref(), &frame));
        };
        if Exchange::of(&method) == Some(Exchange::Initialize) {
            return self.initialize(&caller, &id, params.as_ref());
        }
        let session = session.unwrap_or_else(|| {
            Err(Refusal::malformed(Some(&id), "the header `mcp-session-id` is missing: open with `initialize`"))
        })?;
        let asked = Asked { caller, session, id, frame, params, accepts };
        self.request(&method, asked).await
    }

    async fn request(self: &Arc<Self>, method: &str, asked: Asked) -> Result<Response<ReplyBody>, Refusal> {
        match Exchange::of(method) {
            Some(Exchange::Ping) => Ok(answer_json(asked.accepts, response_frame(&asked.id, "result", b"{}"))),
            Some(Exchange::ToolsList) => self.list(asked).await,
            _ if method == ACTION => self.call(asked).await,
            _ => {
                let shown: String = method.escape_default().take(80).collect();
                let detail = format!("`{shown}` is not governed by this version, so it is not passed on");
                Err(Refusal::ungoverned(StatusCode::OK, Some(&asked.id), &detail))
            }
        }
    }

    fn check_length(&self, request: &Request<Incoming>) -> Result<(), Refusal> {
        let length = checks::single(request.headers(), &CONTENT_LENGTH)?.and_then(|length| length.parse::<u64>().ok());
        match length {
            Some(length) if length > self.config.limits.body_bytes_max as u64 => Err(self.too_large()),
            _ => Ok(()),
        }
    }

    fn too_large(&self) -> Refusal {
        let detail = format!("a body has at most {} bytes", self.config.limits.body_bytes_max);
        Refusal::http(StatusCode::PAYLOAD_TOO_LARGE, ReasonCode::Oversize, &detail)
    }

    async fn read(&self, body: Incoming) -> Result<Frame, Refusal> {
        let limits = &self.config.limits;
        let bytes = match body::read(body, limits.body_bytes_max, limits.body_read_timeout).await {
            Ok(bytes) => bytes,
            Err(BodyError::TooLarge) => return Err(self.too_large()),
            Err(BodyError::TooSlow) => {
                let detail = "the body did not arrive in time";
                return Err(Refusal::http(StatusCode::REQUEST_TIMEOUT, ReasonCode::Malformed, detail));
            }
            Err(BodyError::Broken) => return Err(Refusal::malformed(None, "the body broke off")),
        };
        let reading =
            JsonLimits { bytes_max: limits.body_bytes_max, depth_max: limits.depth_max, nodes_max: NODES_MAX };
        Frame::read(bytes, &reading).map_err(|error| Refusal::rpc(StatusCode::BAD_REQUEST, None, &error))
    }

    /// Answers with the upstream's own handshake, and opens a session. A client that asked for another revision than
    /// the upstream agreed to sees which it is and may leave (2025-11-25, `basic/lifecycle`).
    fn initialize(&self, caller: &Caller, id: &Id, params: Option<&Node>) -> Result<Response<ReplyBody>, Refusal> {
        let asked = params.and_then(|params| params.get("protocolVersion")).and_then(Node::as_str);
        let capabilities = params.and_then(|params| params.get("capabilities")).and_then(Node::as_object);
        if asked.is_none() || capabilities.is_none() {
            let detail = "`initialize` needs `protocolVersion` and `capabilities`";
            let error = FrameError { code: INVALID_PARAMS, ..FrameError::shape(detail) };
            return Err(Refusal::rpc(StatusCode::BAD_REQUEST, Some(id), &error));
        }
        let Some(hello) = self.upstream.hello(Era::Legacy) else {
            let text = ReasonCode::UpstreamUnavailable.sentence();
            return Ok(json_response(StatusCode::OK, error_frame(Some(id), NOT_STARTED, text, None)));
        };
        let session = self.sessions.open(&caller.principal).ok_or_else(|| {
            let detail = "too many sessions are open; close some with DELETE or try again later";
            Refusal::http(StatusCode::SERVICE_UNAVAILABLE, ReasonCode::Overloaded, detail)
        })?;
        let mut response = json_response(StatusCode::OK, response_frame(id, "result", &hello.governed()));
        let header = HeaderValue::from_str(session.id());
        let header = header.map_err(|_| Refusal::malformed(Some(id), "the session id is no header"))?;
        response.headers_mut().insert(SESSION, header);
        Ok(response)
    }
}

/// A message without an answer. What is not on the list is dropped: it has no id to be refused under.
fn notification(session: Option<&Session>, method: &str, params: Option<&Node>, frame: &Frame) -> Response<ReplyBody> {
    let cancelled = Exchange::of(method) == Some(Exchange::Cancelled);
    let id = params.and_then(|params| params.get("requestId"));
    if let (true, Some(session), Some(id)) = (cancelled, session, id) {
        let known = Id::read(id, frame.bytes()).is_ok_and(|id| session.cancel(id.key()));
        tracing::debug!(known, "a client cancelled a request");
    }
    empty_response(StatusCode::ACCEPTED)
}

/// An answer at once, as JSON wherever the client takes it.
pub(super) fn answer_json(accepts: Accepts, frame: Vec<u8>) -> Response<ReplyBody> {
    if accepts.json {
        return json_response(StatusCode::OK, frame);
    }
    let mut response = json_response(StatusCode::OK, crate::mcp::wire::sse::encode(&frame));
    let kind = HeaderValue::from_static("text/event-stream");
    response.headers_mut().insert(hyper::header::CONTENT_TYPE, kind);
    response
}
