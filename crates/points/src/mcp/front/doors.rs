//! The doors themselves: TCP and Unix sockets, and the connections that come in by them.
//!
//! Who comes in by a Unix socket is nobody yet: identity comes from the token alone, by either door. It must not know what
//! a request says.

use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::TokioTimer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::work::Work;
use super::{Front, Server, rest};
use crate::Governor;

const HEADERS_MAX: usize = 64;
/// How long to wait after accepting a connection failed, e.g. for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Only the gateway's user and its group may connect.
const SOCKET_MODE: u32 = 0o660;

/// Where clients come in.
pub struct Doors {
    tcp: TcpListener,
    unix: Option<(UnixListener, PathBuf)>,
}

impl Doors {
    /// The address that is listened on.
    ///
    /// # Errors
    /// Where the system does not know it.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.tcp.local_addr()
    }
}

impl<G: Governor<Work>> Server<G> {
    /// Binds the configured address, and the socket where one is configured.
    ///
    /// # Errors
    /// Where either cannot be bound, or another gateway listens on the socket.
    pub async fn bind(&self) -> std::io::Result<Doors> {
        let config = &self.front.config;
        let tcp = TcpListener::bind(config.listen).await?;
        let unix = match &config.socket {
            Some(path) => Some((bind_unix(path).await?, path.clone())),
            None => None,
        };
        Ok(Doors { tcp, unix })
    }

    /// Serves until `shutdown`, then lets requests in flight end, for as long as the limits say.
    /// The upstreams stay open: close them afterwards.
    pub async fn serve(self, doors: Doors, shutdown: CancellationToken) {
        let front = self.front;
        let places = Arc::new(Semaphore::new(front.config.limits.connections_max));
        let mut connections = JoinSet::new();
        let Doors { tcp, unix } = doors;
        loop {
            while connections.try_join_next().is_some() {}
            // One place for whichever door opens next: two doors that each hold one could starve each other.
            let place = tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                place = Arc::clone(&places).acquire_owned() => match place {
                    Ok(place) => place,
                    Err(_) => break,
                },
            };
            let accepted = tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                stream = tcp_stream(&tcp) => stream.map(|stream| {
                    connections.spawn(Arc::clone(&front).connection(stream, place));
                }),
                stream = unix_stream(unix.as_ref()) => stream.map(|stream| {
                    connections.spawn(Arc::clone(&front).connection(stream, place));
                }),
            };
            if let Err(error) = accepted {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
        drop(tcp);
        if let Some((_, path)) = unix {
            // The next start takes a file that is left for one whose gateway died.
            let _ = std::fs::remove_file(path);
        }
        front.shutdown.cancel();
        let drained = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(front.config.limits.drain, drained).await.is_err() {
            tracing::warn!("connections were cut off at shutdown");
            connections.shutdown().await;
        }
    }
}

/// Binds a socket file. One that is left over is replaced; one that somebody listens on is not.
async fn bind_unix(path: &Path) -> std::io::Result<UnixListener> {
    if let Ok(found) = std::fs::symlink_metadata(path) {
        let in_use = || std::io::Error::new(std::io::ErrorKind::AddrInUse, "the socket's path is in use");
        if !found.file_type().is_socket() || tokio::net::UnixStream::connect(path).await.is_ok() {
            return Err(in_use());
        }
        std::fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(SOCKET_MODE))?;
    Ok(listener)
}

async fn tcp_stream(listener: &TcpListener) -> std::io::Result<tokio::net::TcpStream> {
    let (stream, _) = listener.accept().await?;
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection of a client is slower than it could be");
    }
    Ok(stream)
}

/// Never, where there is no socket.
async fn unix_stream(listener: Option<&(UnixListener, PathBuf)>) -> std::io::Result<tokio::net::UnixStream> {
    match listener {
        Some((listener, _)) => Ok(listener.accept().await?.0),
        None => std::future::pending().await,
    }
}

impl<G: Governor<Work>> Front<G> {
    async fn connection<S>(self: Arc<Self>, stream: S, place: OwnedSemaphorePermit)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(self.config.limits.header_read_timeout)
            .max_headers(HEADERS_MAX);
        let front = Arc::clone(&self);
        let handle = move |request| {
            let front = Arc::clone(&front);
            async move { front.handle(request).await }
        };
        let idle = self.config.limits.header_read_timeout;
        if let Err(error) = rest::serve((builder, idle), stream, handle, &self.shutdown).await {
            tracing::debug!(%error, "a connection of a client ended");
        }
        drop(place);
    }
}
