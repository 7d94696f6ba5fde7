//! The way to the gateway: a URL or a Unix socket, dialled, and kept while idle.
//!
//! A request that was handed to a connection which had closed before is handed to a fresh one: not a byte of it was
//! written. Nothing else is sent twice. It must not know messages. It does not cover proxies, redirects or HTTP/2.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper::{Request, Response};
use rustls::pki_types::ServerName;
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use super::failure::Failure;
use crate::mcp::config::Url;
use crate::mcp::execute::http::dial;

/// The most connections that are kept while idle.
const IDLE_MAX: usize = 32;
/// How long an idle connection is kept; the gateway closes it after 30 s.
const IDLE: Duration = Duration::from_secs(15);
const CONNECT: Duration = Duration::from_secs(10);
const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// Where the gateway listens for agents.
#[derive(Clone, Debug)]
pub enum Place {
    /// On TCP.
    Url(Url),
    /// On a Unix socket.
    Socket {
        /// The socket.
        path: PathBuf,
        /// The endpoint there, such as `/mcp`.
        endpoint: String,
    },
}

impl Place {
    /// Whether a token may travel there: over TLS, or without leaving this machine.
    #[must_use]
    pub fn is_private(&self) -> bool {
        match self {
            Self::Url(url) => url.tls || LOOPBACK.contains(&url.host.as_str()),
            Self::Socket { .. } => true,
        }
    }

    pub(super) fn authority(&self) -> &str {
        match self {
            Self::Url(url) => &url.authority,
            Self::Socket { .. } => "localhost",
        }
    }

    pub(super) fn endpoint(&self) -> &str {
        match self {
            Self::Url(url) => &url.path,
            Self::Socket { endpoint, .. } => endpoint,
        }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Url(url) => {
                let scheme = if url.tls { "https" } else { "http" };
                write!(f, "{scheme}://{}{}", url.authority, url.path)
            }
            Self::Socket { path, endpoint } => write!(f, "{} ({endpoint})", path.display()),
        }
    }
}

/// A connection that can be given back once its answer was read.
pub(super) struct Conn {
    sender: SendRequest<Full<Bytes>>,
    since: Instant,
}

/// Dials the gateway and keeps idle connections.
pub(super) struct Door {
    place: Place,
    tls: Option<TlsConnector>,
    idle: Mutex<Vec<Conn>>,
}

impl Door {
    pub(super) fn new(place: Place) -> Result<Self, Failure> {
        let is_tls = matches!(&place, Place::Url(url) if url.tls);
        let tls = if is_tls { Some(dial::tls().map_err(|error| unreachable(&place, &error))?) } else { None };
        Ok(Self { place, tls, idle: Mutex::default() })
    }

    pub(super) const fn place(&self) -> &Place {
        &self.place
    }

    /// Sends one request and waits for the head of its answer.
    pub(super) async fn send(&self, request: Request<Full<Bytes>>) -> Result<(Response<Incoming>, Conn), Failure> {
        let mut request = request;
        while let Some(mut conn) = self.idle() {
            match conn.sender.try_send_request(request).await {
                Ok(response) => return Ok((response, conn)),
                Err(mut error) => match error.take_message() {
                    // It came back whole: the gateway had closed this connection.
                    Some(unsent) => request = unsent,
                    None => return Err(Failure::Lost),
                },
            }
        }
        let dialled = tokio::time::timeout(CONNECT, self.dial()).await;
        let mut conn = dialled.unwrap_or_else(|_| Err(self.unreachable("it did not answer in time")))?;
        match conn.sender.try_send_request(request).await {
            Ok(response) => Ok((response, conn)),
            Err(mut error) => match error.take_message() {
                Some(_) => Err(self.unreachable("it closed the connection")),
                None => Err(Failure::Lost),
            },
        }
    }

    /// Keeps a connection whose answer was read to its end.
    pub(super) fn keep(&self, mut conn: Conn) {
        conn.since = Instant::now();
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_MAX && !conn.sender.is_closed() {
            idle.push(conn);
        }
    }

    fn idle(&self) -> Option<Conn> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|conn| conn.since.elapsed() < IDLE && !conn.sender.is_closed());
        idle.pop()
    }

    async fn dial(&self) -> Result<Conn, Failure> {
        let cannot = |error: &dyn std::fmt::Display| self.unreachable(&error.to_string());
        let sender = match &self.place {
            Place::Socket { path, .. } => {
                let stream = UnixStream::connect(path).await.map_err(|error| cannot(&error))?;
                dial::handshake(stream).await
            }
            Place::Url(url) => {
                let stream = TcpStream::connect((url.host.as_str(), url.port)).await.map_err(|error| cannot(&error))?;
                stream.set_nodelay(true).map_err(|error| cannot(&error))?;
                match &self.tls {
                    None => dial::handshake(stream).await,
                    Some(tls) => {
                        let name = ServerName::try_from(url.host.clone()).map_err(|error| cannot(&error))?;
                        dial::handshake(tls.connect(name, stream).await.map_err(|error| cannot(&error))?).await
                    }
                }
            }
        };
        Ok(Conn { sender: sender.map_err(|error| cannot(&error))?, since: Instant::now() })
    }

    fn unreachable(&self, why: &str) -> Failure {
        unreachable(&self.place, &why)
    }
}

fn unreachable(place: &Place, why: &dyn std::fmt::Display) -> Failure {
    Failure::Unreachable { place: place.to_string(), why: why.to_string() }
}
