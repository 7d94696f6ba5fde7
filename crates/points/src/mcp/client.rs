//! A small client of streamable HTTP, for demonstrations and tests: it opens a session and calls tools, raw.
//!
//! It is an agent's side of the wire, so it holds no upstream credential and needs no permit; nothing in the gateway
//! uses it. It must not know the gateway. It does not cover listening streams, progress, or answering a server.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use hyper::header::HeaderValue;
use hyper::{Method, StatusCode};

use super::config::{ConfigError, Url};
use super::execute::LinkError;
use super::execute::http::dial::Dialer;
use super::execute::http::talk::{self, Answered, Heading, Listening};
use super::wire::era::LATEST_LEGACY;
use super::wire::{Outcome, notification_frame, quoted, request_frame};

const CONNECT: Duration = Duration::from_secs(10);
const IDLE: Duration = Duration::from_secs(15);
const ANSWER: Duration = Duration::from_secs(330);
const ANSWER_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Why a client got no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The URL is none.
    #[error(transparent)]
    Url(#[from] ConfigError),
    /// The token is no possible header.
    #[error("the token is no possible header")]
    Token,
    /// The server could not be reached, or its answer is no message.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The server answered with a status and no message.
    #[error("the server answered with HTTP status {0}")]
    Status(u16),
}

/// A server's answer to one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Raw {
    /// The raw JSON of the result.
    Result(Vec<u8>),
    /// The raw JSON of the JSON-RPC error.
    Error(Vec<u8>),
}

impl Raw {
    /// The raw JSON, whichever it is.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Result(raw) | Self::Error(raw) => raw,
        }
    }
}

/// One session with a server.
pub struct Client {
    dialer: Dialer,
    heading: Heading,
    ids: AtomicU64,
    server: Vec<u8>,
}

impl Client {
    /// Opens a session: `initialize`, then `notifications/initialized`.
    ///
    /// # Errors
    /// Where the server cannot be reached, refuses the token, or answers with an error.
    pub async fn connect(url: &str, token: &str) -> Result<Self, ClientError> {
        let mut heading = Heading::default();
        if !heading.open_with(Some(("authorization", &format!("Bearer {token}")))) {
            return Err(ClientError::Token);
        }
        let dialer = Dialer::new(Url::new(url)?, CONNECT, IDLE)?;
        let mut client = Self { dialer, heading, ids: AtomicU64::new(0), server: Vec::new() };
        let params = format!(
            r#"{{"protocolVersion":"{LATEST_LEGACY}","capabilities":{{}},"clientInfo":{{"name":"countersign-client","version":"{}"}}}}"#,
            env!("CARGO_PKG_VERSION"),
        );
        let (answer, session) = client.ask("initialize", Some(params.as_bytes())).await?;
        let Raw::Result(server) = answer else {
            return Err(LinkError::Unreadable(String::from_utf8_lossy(answer.bytes()).into_owned()).into());
        };
        let agreed: serde_json::Value =
            serde_json::from_slice(&server).map_err(|error| LinkError::Unreadable(error.to_string()))?;
        let agreed = agreed.get("protocolVersion").and_then(serde_json::Value::as_str).unwrap_or(LATEST_LEGACY);
        client.heading.version = HeaderValue::from_str(agreed).ok();
        client.heading.session = session;
        client.server = server;
        client.notify("notifications/initialized", None).await?;
        Ok(client)
    }

    /// The raw result of `initialize`.
    #[must_use]
    pub fn server(&self) -> &[u8] {
        &self.server
    }

    /// Calls a tool; `arguments` is a raw JSON object.
    ///
    /// # Errors
    /// Where no answer came. A denial is an answer.
    pub async fn call_tool(&self, name: &str, arguments: &str) -> Result<Raw, ClientError> {
        let params = format!(r#"{{"name":{},"arguments":{arguments}}}"#, quoted(name));
        self.request("tools/call", Some(params.as_bytes())).await
    }

    /// Any request; `params` is raw JSON.
    ///
    /// # Errors
    /// Where no answer came.
    pub async fn request(&self, method: &str, params: Option<&[u8]>) -> Result<Raw, ClientError> {
        Ok(self.ask(method, params).await?.0)
    }

    /// Any notification; `params` is raw JSON.
    ///
    /// # Errors
    /// Where the server did not accept it.
    pub async fn notify(&self, method: &str, params: Option<&str>) -> Result<(), ClientError> {
        self.send(Method::POST, notification_frame(method, params).into()).await
    }

    /// Ends the session.
    ///
    /// # Errors
    /// Where the server did not accept it.
    pub async fn close(self) -> Result<(), ClientError> {
        self.send(Method::DELETE, Bytes::new()).await
    }

    async fn send(&self, method: Method, body: Bytes) -> Result<(), ClientError> {
        let built = self.heading.request(self.dialer.url(), method, body)?;
        let mut conn = self.dialer.take().await?;
        let response = conn.sender.send_request(built).await.map_err(|_| LinkError::Gone)?;
        match response.status() {
            status if status.is_success() => Ok(()),
            status => Err(ClientError::Status(status.as_u16())),
        }
    }

    async fn ask(&self, method: &str, params: Option<&[u8]>) -> Result<(Raw, Option<HeaderValue>), ClientError> {
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        let body = request_frame(id, method, params);
        let built = self.heading.request(self.dialer.url(), Method::POST, body.into())?;
        let mut conn = self.dialer.take().await?;
        let listening = Listening { id, progress: None, bytes_max: ANSWER_BYTES_MAX, aside: &|_| () };
        let answered = tokio::time::timeout(ANSWER, talk::talk(&mut conn, built, &listening));
        let Answered { status, session, reply, rest, .. } = answered.await.unwrap_or(Err(LinkError::Timeout))?;
        if hyper::body::Body::is_end_stream(&rest) {
            self.dialer.give_back(conn);
        }
        match reply {
            Some(reply) => Ok(match reply.outcome() {
                Outcome::Result(_) => (Raw::Result(reply.raw().to_vec()), session),
                Outcome::Error(_) => (Raw::Error(reply.raw().to_vec()), session),
            }),
            None if status == StatusCode::OK => Err(LinkError::Unreadable("no answer".to_owned()).into()),
            None => Err(ClientError::Status(status.as_u16())),
        }
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Client({}{})", self.dialer.url().authority, self.dialer.url().path)
    }
}
