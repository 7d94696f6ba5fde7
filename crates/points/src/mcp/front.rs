//! The door for agents: streamable HTTP (2025-11-25, `basic/transports`) at `/mcp`, and `/healthz`.
//!
//! It authenticates every request, keeps protocol sessions, reads bodies under limits, and hands calls to the
//! governor. What it refuses it has recorded through the governor too. It must not know policy or upstreams'
//! transports. It does not cover TLS (a proxy or a Unix user boundary does), HTTP/2, or resumption of streams.

mod body;
mod call;
mod checks;
mod post;
mod refusal;
mod session;

#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use countersign_model::action::Point;
use countersign_model::{Caller, Principal, ReasonCode};
use http_body_util::Either;
use hyper::body::Incoming;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::config::FrontConfig;
use super::execute::{Executor, Upstream};
use super::wire::sse;
use crate::Governor;
use body::{EventBody, ReplyBody};
use refusal::{Refusal, empty_response, json_response};
use session::{Session, Sessions};

const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");
const HEADERS_MAX: usize = 64;
/// Events that one stream may be behind.
const EVENTS_QUEUE: usize = 64;
/// How long to wait after accepting a connection failed, e.g. for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The MCP front of one upstream.
pub struct Server<G> {
    front: Arc<Front<G>>,
}

/// What all connections share.
struct Front<G> {
    config: FrontConfig,
    governor: G,
    upstream: Upstream,
    sessions: Sessions,
    /// Calls that may still begin, over all sessions.
    calls: Arc<Semaphore>,
    shutdown: CancellationToken,
}

impl<G: Governor<Executor>> Server<G> {
    /// A front for `upstream` whose calls `governor` decides.
    #[must_use]
    pub fn new(config: FrontConfig, governor: G, upstream: Upstream) -> Self {
        let sessions = Sessions::new(&config.limits);
        let calls = Arc::new(Semaphore::new(config.limits.calls_max));
        let shutdown = CancellationToken::new();
        Self { front: Arc::new(Front { config, governor, upstream, sessions, calls, shutdown }) }
    }

    /// Binds the configured address.
    ///
    /// # Errors
    /// Where the address cannot be bound.
    pub async fn bind(&self) -> std::io::Result<TcpListener> {
        TcpListener::bind(self.front.config.listen).await
    }

    /// Serves until `shutdown`, then lets requests in flight end, for as long as the limits say.
    /// The upstream stays open: close it afterwards.
    pub async fn serve(self, listener: TcpListener, shutdown: CancellationToken) {
        let front = self.front;
        let places = Arc::new(Semaphore::new(front.config.limits.connections_max));
        let mut connections = JoinSet::new();
        loop {
            while connections.try_join_next().is_some() {}
            let accepted = tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                accepted = accept(&listener, &places) => accepted,
            };
            match accepted {
                Ok((stream, place)) => {
                    let front = Arc::clone(&front);
                    connections.spawn(async move {
                        front.connection(stream).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(listener);
        front.shutdown.cancel();
        let drained = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(front.config.limits.drain, drained).await.is_err() {
            tracing::warn!("connections were cut off at shutdown");
            connections.shutdown().await;
        }
    }
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.map_err(std::io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection of a client is slower than it could be");
    }
    Ok((stream, place))
}

impl<G: Governor<Executor>> Front<G> {
    async fn connection(self: Arc<Self>, stream: TcpStream) {
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(self.config.limits.header_read_timeout)
            .max_headers(HEADERS_MAX);
        let front = Arc::clone(&self);
        let service = service_fn(move |request| {
            let front = Arc::clone(&front);
            async move { Ok::<_, Infallible>(front.handle(request).await) }
        });
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        tokio::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = self.shutdown.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection of a client ended");
        }
    }

    async fn handle(self: Arc<Self>, request: Request<Incoming>) -> Response<ReplyBody> {
        match request.uri().path() {
            "/healthz" if request.method() == Method::GET => json_response(StatusCode::OK, r#"{"status":"ok"}"#),
            "/mcp" => {
                let mut principal = None;
                let answered = self.endpoint(request, &mut principal).await;
                match answered {
                    Ok(response) => response,
                    Err(refusal) => self.refuse(refusal, principal).await,
                }
            }
            _ => Refusal::absent(StatusCode::NOT_FOUND).into_response(),
        }
    }

    /// Records a refusal, then answers it.
    async fn refuse(&self, mut refusal: Refusal, principal: Option<Principal>) -> Response<ReplyBody> {
        if let Some(reason) = refusal.reason.take() {
            self.governor.refuse(Point::Mcp, principal, *reason).await;
        }
        refusal.into_response()
    }

    async fn endpoint(
        self: &Arc<Self>,
        request: Request<Incoming>,
        principal: &mut Option<Principal>,
    ) -> Result<Response<ReplyBody>, Refusal> {
        checks::place(&self.config, request.uri(), request.headers())?;
        let method = request.method().clone();
        if ![Method::POST, Method::GET, Method::DELETE].contains(&method) {
            return Err(Refusal::absent(StatusCode::METHOD_NOT_ALLOWED));
        }
        let token = checks::token(request.headers())?;
        let caller = self.governor.identify(token).map_err(|reason| Refusal::unauthorized(true, reason))?;
        *principal = Some(caller.principal.clone());
        if method == Method::POST {
            return self.post(caller, request).await;
        }
        let version = checks::single(request.headers(), &post::VERSION)?;
        post::check_version(version, None)?;
        let session = self.session(&request, &caller)?;
        if method == Method::GET {
            checks::acceptable(checks::accepts(request.headers()).events, "a GET must accept `text/event-stream`")?;
            return self.listen(&session);
        }
        self.sessions.close(&session);
        Ok(empty_response(StatusCode::NO_CONTENT))
    }

    /// The session that a request names, if it is the caller's.
    fn session(&self, request: &Request<Incoming>, caller: &Caller) -> Result<Arc<Session>, Refusal> {
        let id = checks::single(request.headers(), &SESSION)?;
        let id = id.ok_or_else(|| {
            Refusal::malformed(None, "the header `mcp-session-id` is missing: open with `initialize`")
        })?;
        self.sessions.find(id, &caller.principal).ok_or_else(|| {
            let detail = "this session is not open for this token: open a new one with `initialize`";
            Refusal::http(StatusCode::NOT_FOUND, ReasonCode::Malformed, detail)
        })
    }

    /// A stream of the upstream's `list_changed` notifications.
    fn listen(self: &Arc<Self>, session: &Arc<Session>) -> Result<Response<ReplyBody>, Refusal> {
        let place = Arc::clone(&session.streams).try_acquire_owned().map_err(|_| {
            let detail = "this session listens on as many streams as it may";
            Refusal::http(StatusCode::TOO_MANY_REQUESTS, ReasonCode::Overloaded, detail)
        })?;
        let (events, body) = mpsc::channel(EVENTS_QUEUE);
        let mut changes = self.upstream.changes();
        let (ended, shutdown) = (session.ended.clone(), self.shutdown.clone());
        tokio::spawn(async move {
            loop {
                let change = tokio::select! {
                    () = ended.cancelled() => break,
                    () = shutdown.cancelled() => break,
                    () = events.closed() => break,
                    change = changes.recv() => change,
                };
                match change {
                    // A client that is behind has a change to read already.
                    Ok(frame) => drop(events.try_send(sse::encode(&frame).into())),
                    Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => {}
                    Err(tokio::sync::broadcast::error::RecvError::Closed) => break,
                }
            }
            drop(place);
        });
        Ok(self.events(body))
    }

    fn events(&self, body: mpsc::Receiver<bytes::Bytes>) -> Response<ReplyBody> {
        let body = EventBody::new(body, self.config.limits.keep_alive);
        let mut response = Response::new(Either::Right(body));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
        response
    }
}
