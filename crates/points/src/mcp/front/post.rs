//! One POST: a message is read, and its method decides what it is: an exchange, an action, or refused.
//!
//! It must not know how a call is carried out.

use std::sync::Arc;

use countersign_effects::json::Limits as JsonLimits;
use countersign_model::{Caller, ReasonCode};
use hyper::body::Incoming;
use hyper::header::{CONTENT_LENGTH, HeaderName};
use hyper::{Request, Response, StatusCode};

use super::asked::Asked;
use super::body::{self, BodyError, ReplyBody};
use super::checks::{self, Mirroring};
use super::exchange::ungoverned;
use super::refusal::{Refusal, empty_response};
use super::respond::finished;
use super::work::Work;
use super::{Front, SESSION, Session, modern};
use crate::Governor;
use crate::mcp::methods::{Exchange, Kind, Method, Place};
use crate::mcp::route::{Endpoint, Params};
use crate::mcp::wire::era::is_legacy;
use crate::mcp::wire::{Era, Frame, FrameError, Id, Message, response_frame};

pub(super) const VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
/// The most values in one message of a client.
const NODES_MAX: usize = 100_000;

/// Refuses a revision without a handshake where there has to be one. A missing header means 2025-03-26.
pub(super) fn check_version(header: Option<&str>, id: Option<&Id>) -> Result<(), Refusal> {
    match header {
        Some(version) if !is_legacy(version) => {
            let shown: String = version.escape_default().take(40).collect();
            Err(Refusal::malformed(id, &format!("protocol version `{shown}` is not served in a session")))
        }
        _ => Ok(()),
    }
}

impl<G: Governor<Work>> Front<G> {
    pub(super) async fn post(
        self: &Arc<Self>,
        caller: Caller,
        endpoint: &Arc<Endpoint>,
        request: Request<Incoming>,
    ) -> Result<Response<ReplyBody>, Refusal> {
        checks::content_is_json(request.headers())?;
        let accepts = checks::accepts(request.headers());
        checks::acceptable(
            accepts.json || accepts.events,
            "the header `accept` must name `application/json` and `text/event-stream`",
        )?;
        let mirroring = Mirroring::read(request.headers());
        self.check_length(&request)?;
        // Missing is an error only for what needs a session, and the modern era has none.
        let session = checks::single(request.headers(), &SESSION)?.map(|_| self.session(&request, &caller, endpoint));
        let frame = self.read(request.into_body()).await?;
        let version = mirroring.mirrors().version;
        let (method, params) = match frame.message() {
            Message::Request { method, params, .. } | Message::Notification { method, params } => (method, params),
            Message::Response { .. } => {
                check_version(version, None)?;
                return Self::answered(session.unwrap_or_else(|| Err(no_session(None)))?.as_ref(), frame);
            }
        };
        let era = Era::of(version, method, params.as_ref());
        if !matches!(frame.message(), Message::Request { .. }) {
            return self.notified(era, version, session.transpose()?.as_ref(), &frame).await;
        }
        let (input, Message::Request { id, method, params }) = frame.into_parts() else {
            return Err(Refusal::malformed(None, "not a request"));
        };
        let params = Params::of(input, params);
        let endpoint = Arc::clone(endpoint);
        let mut asked = Asked { caller, era, endpoint, session: None, id, method, params, accepts, mirroring };
        if era == Era::Modern {
            modern::check(&asked)?;
            return self.request(asked).await;
        }
        if let Some(wrong) = asked.mirroring.wrong() {
            return Err(Refusal::malformed(Some(&asked.id), wrong));
        }
        check_version(asked.mirroring.mirrors().version, Some(&asked.id))?;
        if asked.method == "initialize" {
            return self.initialize(asked).await;
        }
        asked.session = Some(session.unwrap_or_else(|| Err(no_session(Some(&asked.id))))?);
        self.request(asked).await
    }

    /// A message without an answer.
    async fn notified(
        &self,
        era: Era,
        version: Option<&str>,
        session: Option<&Arc<Session>>,
        frame: &Frame,
    ) -> Result<Response<ReplyBody>, Refusal> {
        let Message::Notification { method, .. } = frame.message() else { return Ok(accepted()) };
        if Method::of(method).is_some_and(|method| method.kind == Kind::Action) {
            return Err(Refusal::malformed(None, "a call without an id cannot be answered, so it is not made"));
        }
        if era == Era::Modern {
            // Nothing is defined here that a client could notify.
            return Ok(accepted());
        }
        check_version(version, None)?;
        Ok(self.notice(session, frame).await)
    }

    async fn request(self: &Arc<Self>, asked: Asked) -> Result<Response<ReplyBody>, Refusal> {
        let Some(method) = Method::asked(&asked.method, asked.era) else {
            let is_listed = self.config.has_method(&asked.method);
            if !is_listed || Method::of(&asked.method).is_some() {
                return Err(ungoverned(&asked));
            }
            return self.act(asked, Place::All).await;
        };
        if method.place == Place::Task
            && let Some(answer) = self.own_task(&asked).await
        {
            return answer;
        }
        match method.kind {
            Kind::Action => self.act(asked, method.place).await,
            Kind::Question => Err(ungoverned(&asked)),
            Kind::Exchange(Exchange::List(listing)) => self.list(asked, listing).await,
            Kind::Exchange(Exchange::Ping) => {
                let frame = response_frame(&asked.id, "result", b"{}");
                Ok(finished(asked.era, asked.accepts, frame))
            }
            Kind::Exchange(Exchange::Own) => self.own(asked, method.place).await,
            Kind::Exchange(Exchange::Task) => self.task(asked).await,
            Kind::Exchange(Exchange::Hello) => self.discover(asked).await,
            Kind::Exchange(Exchange::Listen) => self.follow(asked).await,
            Kind::Exchange(
                Exchange::Initialized | Exchange::Cancelled | Exchange::Forwarded | Exchange::Progress | Exchange::Said,
            ) => Err(ungoverned(&asked)),
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
}

fn accepted() -> Response<ReplyBody> {
    empty_response(StatusCode::ACCEPTED)
}

fn no_session(id: Option<&Id>) -> Refusal {
    let detail = "the header `mcp-session-id` is missing: open with `initialize`";
    Refusal::rpc(StatusCode::BAD_REQUEST, id, &FrameError::shape(detail))
}
