//! What the front answers when it does not go on: a status, a body that says why, and a reason for the record.
//!
//! It must not know how a refusal is recorded.

use bytes::Bytes;
use countersign_model::{Reason, ReasonCode};
use http_body_util::{Either, Full};
use hyper::header::{ALLOW, CONNECTION, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use hyper::{Response, StatusCode};
use serde_json::json;

use super::body::ReplyBody;
use crate::mcp::wire::{FrameError, INVALID_REQUEST, Id, METHOD_NOT_FOUND, error_frame};

/// One refusal.
#[derive(Debug)]
pub(crate) struct Refusal {
    status: StatusCode,
    body: Vec<u8>,
    header: Option<(hyper::header::HeaderName, &'static str)>,
    /// For the record; boxed, for refusals travel in results. None where nothing was proposed: a path that does not exist.
    pub(crate) reason: Option<Box<Reason>>,
}

impl Refusal {
    /// A JSON-RPC error under an HTTP status.
    pub(crate) fn rpc(status: StatusCode, id: Option<&Id>, error: &FrameError) -> Self {
        Self {
            status,
            body: error_frame(id, error.code, &error.detail, None),
            header: None,
            reason: Some(Box::new(error.as_reason())),
        }
    }

    /// A JSON-RPC error with data, under an HTTP status.
    pub(crate) fn rpc_with(status: StatusCode, id: Option<&Id>, error: &FrameError, data: &str) -> Self {
        Self { body: error_frame(id, error.code, &error.detail, Some(data)), ..Self::rpc(status, id, error) }
    }

    /// A message that cannot be read or judged.
    pub(crate) fn malformed(id: Option<&Id>, detail: &str) -> Self {
        Self::rpc(StatusCode::BAD_REQUEST, id, &FrameError::shape(detail))
    }

    /// A method that this version does not govern.
    pub(crate) fn ungoverned(status: StatusCode, id: Option<&Id>, detail: &str) -> Self {
        let error = FrameError { code: METHOD_NOT_FOUND, reason: ReasonCode::Unsupported, detail: detail.to_owned() };
        Self::rpc(status, id, &error)
    }

    /// An HTTP status without a message to answer.
    pub(crate) fn http(status: StatusCode, code: ReasonCode, detail: &str) -> Self {
        let error = FrameError { code: INVALID_REQUEST, reason: code, detail: detail.to_owned() };
        Self::rpc(status, None, &error)
    }

    /// No token, or one that opens nothing.
    pub(crate) fn unauthorized(presented: bool, reason: Reason) -> Self {
        let body = json!({
            "error": "unauthorized",
            "code": reason.code.as_str(),
            "message": reason.code.sentence(),
            "remedy": "send the header `Authorization: Bearer <token>` with an agent's token of this gateway; \
                       its operator issues tokens",
        });
        let challenge = if presented {
            r#"Bearer realm="countersign", error="invalid_token""#
        } else {
            r#"Bearer realm="countersign""#
        };
        Self {
            status: StatusCode::UNAUTHORIZED,
            body: body.to_string().into_bytes(),
            header: Some((WWW_AUTHENTICATE, challenge)),
            reason: Some(Box::new(reason)),
        }
    }

    /// A path or method that is not there; nothing to record.
    pub(crate) fn absent(status: StatusCode) -> Self {
        let allowed = (status == StatusCode::METHOD_NOT_ALLOWED).then_some((ALLOW, "POST, GET, DELETE"));
        let body =
            json!({ "error": status.canonical_reason(), "message": "the endpoints are `/mcp` and `/mcp/UPSTREAM`" });
        Self { status, body: body.to_string().into_bytes(), header: allowed, reason: None }
    }

    /// The answer. A connection whose request was not read to its end closes.
    pub(crate) fn into_response(self) -> Response<ReplyBody> {
        let unread = matches!(self.status, StatusCode::PAYLOAD_TOO_LARGE | StatusCode::REQUEST_TIMEOUT);
        let mut response = json_response(self.status, self.body);
        if let Some((name, value)) = self.header {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        if unread {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// A JSON body.
pub(crate) fn json_response(status: StatusCode, body: impl Into<Bytes>) -> Response<ReplyBody> {
    let mut response = Response::new(Either::Left(Full::new(body.into())));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// No body.
pub(crate) fn empty_response(status: StatusCode) -> Response<ReplyBody> {
    let mut response = Response::new(Either::Left(Full::default()));
    *response.status_mut() = status;
    response
}
