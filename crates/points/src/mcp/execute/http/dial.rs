//! Connections to one HTTP server: dialled, kept while idle, severed by force.
//!
//! TCP, with TLS or without, and Unix sockets. It must not know MCP, permits or credentials. It does not cover proxies,
//! redirects or HTTP/2.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustix::net::Shutdown;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use crate::mcp::config::Url;
use crate::mcp::execute::link::LinkError;

/// The most connections kept while idle.
const IDLE_MAX: usize = 256;

/// One open connection.
pub(crate) struct Conn {
    pub(crate) sender: SendRequest<Full<Bytes>>,
    socket: Arc<OwnedFd>,
    since: Instant,
}

impl Conn {
    /// Closes the socket now, from any thread. What the kernel has not sent yet is thrown away.
    pub(crate) fn sever(socket: &OwnedFd) {
        // Dissolving the association drops what is queued; where that is not possible, shutting down must do.
        if rustix::net::connect_unspec(socket).is_err() {
            tracing::debug!("a socket could not be dissolved and is shut down instead");
        }
        // A socket that is closed already is what is wanted.
        let _ = rustix::net::shutdown(socket, Shutdown::Both);
    }

    /// A second handle of the socket, to sever it by.
    pub(crate) fn socket(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.socket)
    }
}

/// Dials one server and keeps its idle connections.
pub(crate) struct Dialer {
    url: Url,
    tls: Option<TlsConnector>,
    idle: Mutex<Vec<Conn>>,
    idle_max: Duration,
    connect_timeout: Duration,
}

impl Dialer {
    pub(crate) fn new(url: Url, connect_timeout: Duration, idle_max: Duration) -> Result<Self, LinkError> {
        let tls = if url.tls { Some(tls()?) } else { None };
        Ok(Self { url, tls, idle: Mutex::new(Vec::new()), idle_max, connect_timeout })
    }

    pub(crate) const fn url(&self) -> &Url {
        &self.url
    }

    /// A connection that is ready for a request.
    pub(crate) async fn take(&self) -> Result<Conn, LinkError> {
        while let Some(mut conn) = self.pop() {
            let fresh = conn.since.elapsed() < self.idle_max;
            if fresh && !conn.sender.is_closed() && conn.sender.ready().await.is_ok() {
                return Ok(conn);
            }
        }
        tokio::time::timeout(self.connect_timeout, self.dial()).await.unwrap_or(Err(LinkError::Timeout))
    }

    /// Keeps a connection whose last answer was read to its end.
    pub(crate) fn give_back(&self, mut conn: Conn) {
        conn.since = Instant::now();
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_MAX && !conn.sender.is_closed() {
            idle.push(conn);
        }
    }

    fn pop(&self) -> Option<Conn> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    async fn dial(&self) -> Result<Conn, LinkError> {
        let unreachable = |error: std::io::Error| LinkError::Unreachable(error.to_string());
        if let Some(path) = &self.url.socket {
            let stream = UnixStream::connect(path).await.map_err(unreachable)?;
            let socket = Arc::new(stream.as_fd().try_clone_to_owned().map_err(unreachable)?);
            return Ok(Conn { sender: handshake(stream).await?, socket, since: Instant::now() });
        }
        let stream = TcpStream::connect((self.url.host.as_str(), self.url.port)).await.map_err(unreachable)?;
        stream.set_nodelay(true).map_err(unreachable)?;
        // A quiet stream whose other end is gone must not look open for ever.
        rustix::net::sockopt::set_socket_keepalive(&stream, true).map_err(|error| unreachable(error.into()))?;
        let socket = Arc::new(stream.as_fd().try_clone_to_owned().map_err(unreachable)?);
        let sender = match &self.tls {
            None => handshake(stream).await?,
            Some(tls) => {
                let name = ServerName::try_from(self.url.host.clone())
                    .map_err(|error| LinkError::Unreachable(error.to_string()))?;
                handshake(tls.connect(name, stream).await.map_err(unreachable)?).await?
            }
        };
        Ok(Conn { sender, socket, since: Instant::now() })
    }
}

pub(in crate::mcp) async fn handshake<S>(stream: S) -> Result<SendRequest<Full<Bytes>>, LinkError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| LinkError::Unreachable(error.to_string()))?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection to an upstream ended");
        }
    });
    Ok(sender)
}

pub(in crate::mcp) fn tls() -> Result<TlsConnector, LinkError> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    for error in found.errors {
        tracing::warn!(%error, "a certificate of the system could not be read");
    }
    roots.add_parsable_certificates(found.certs);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| LinkError::Unreachable(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}
