//! The door for agents: streamable HTTP of both eras at `/mcp` and `/mcp/UPSTREAM`, over TCP and over a Unix socket, and
//! `/healthz`.
//!
//! It authenticates every request, keeps protocol sessions, reads bodies under limits, and hands actions to the
//! governor. What it refuses it has recorded through the governor too. It must not know policy or upstreams'
//! transports. It does not cover TLS (a proxy or a Unix user boundary does), HTTP/2, or the resumption of a request's own
//! stream before 2025-11-25.

mod act;
mod asked;
mod body;
mod checks;
mod doors;
mod exchange;
mod follow;
mod given;
mod kept;
mod legacy;
mod lodging;
mod modern;
mod neighbours;
mod outbox;
mod parked;
mod places;
mod post;
mod pulse;
mod questions;
mod refusal;
mod respond;
mod rest;
mod rounds;
mod seat;
mod session;
mod tasks;
mod waits;
mod work;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use countersign_model::action::Point;
use countersign_model::{Caller, Principal, ReasonCode};
use http_body_util::Either;
use hyper::body::Incoming;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use super::config::FrontConfig;
use super::execute::Upstream;
use super::route::{Endpoint, Endpoints};
use super::wire::Era;
use crate::Governor;
use body::{EventBody, ReplyBody};
use lodging::Lodgings;
use modern::Modern;
use neighbours::Neighbours;
use places::Places;
use refusal::{Refusal, empty_response, json_response};
use session::{Session, Sessions};
use tasks::Tasks;
use waits::Waits;

pub use doors::Doors;
pub use follow::Followed;
pub use questions::Handing;
pub use work::Work;

const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");
/// Why a stream ends with its token.
const SPENT: &str = "the token that opened this stream opens nothing any more";
/// Events that one stream may be behind.
const EVENTS_QUEUE: usize = 64;

/// The MCP front of some upstreams.
pub struct Server<G> {
    front: Arc<Front<G>>,
}

/// What all connections share.
struct Front<G> {
    config: FrontConfig,
    governor: G,
    endpoints: Endpoints,
    sessions: Sessions,
    modern: Modern,
    neighbours: Neighbours,
    lodgings: Lodgings,
    /// Whose the tasks of upstreams are.
    tasks: Tasks,
    /// The gateway's own: calls that wait for a human.
    waits: Waits,
    /// Calls that may still begin, over all sessions.
    calls: Arc<Semaphore>,
    /// Streams of changes that may still be opened, of clients without a handshake.
    follows: Arc<Semaphore>,
    /// Resources that may still be in one of them.
    followed: Places,
    /// Calls in flight, by token.
    calling: Places,
    shutdown: CancellationToken,
}

impl<G: Governor<Work>> Server<G> {
    /// A front for `upstreams`, each of which has another id, whose actions `governor` decides. Where there are several,
    /// each id must be able to stand before a name: [`super::route::is_prefix`].
    #[must_use]
    pub fn new(config: FrontConfig, governor: G, upstreams: Vec<Upstream>) -> Self {
        let sessions = Sessions::new(&config.limits);
        let calls = Arc::new(Semaphore::new(config.limits.calls_max));
        let follows = Arc::new(Semaphore::new(config.limits.follows_max));
        let followed = Places::new((config.limits.followed_max, config.limits.followed_per_caller_max));
        let calling = Places::new((config.limits.calls_max, config.limits.calls_per_caller_max));
        let (modern, shutdown) = (Modern::new(&upstreams), CancellationToken::new());
        let neighbours = Neighbours::new(&upstreams);
        let lodgings = Lodgings::new(config.limits.sessions_max, config.limits.lodging_idle);
        let endpoints = Endpoints::new(upstreams);
        let (tasks, waits) = (Tasks::default(), Waits::default());
        Self {
            front: Arc::new(Front {
                config,
                governor,
                endpoints,
                sessions,
                modern,
                neighbours,
                lodgings,
                tasks,
                waits,
                calls,
                follows,
                followed,
                calling,
                shutdown,
            }),
        }
    }
}

impl<G: Governor<Work>> Front<G> {
    async fn handle(self: Arc<Self>, request: Request<Incoming>) -> Response<ReplyBody> {
        let path = request.uri().path();
        if path == "/healthz" && request.method() == Method::GET {
            return json_response(StatusCode::OK, r#"{"status":"ok"}"#);
        }
        let Some(endpoint) = self.endpoints.of(path).cloned() else {
            return Refusal::absent(StatusCode::NOT_FOUND).into_response();
        };
        let mut principal = None;
        match self.endpoint(&endpoint, request, &mut principal).await {
            Ok(response) => response,
            Err(refusal) => self.refuse(refusal, principal).await,
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
        endpoint: &Arc<Endpoint>,
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
            return self.post(caller, endpoint, request).await;
        }
        let version = checks::single(request.headers(), &post::VERSION)?;
        if Era::of(version, "", None) == Era::Modern {
            return Err(Refusal::absent(StatusCode::METHOD_NOT_ALLOWED));
        }
        post::check_version(version, None)?;
        let session = self.session(&request, &caller, endpoint)?;
        if method == Method::GET {
            checks::acceptable(checks::accepts(request.headers()).events, "a GET must accept `text/event-stream`")?;
            return self.listen((caller, &session), request.headers());
        }
        self.sessions.close(&session);
        Ok(empty_response(StatusCode::NO_CONTENT))
    }

    /// The session that a request names, if it is the caller's.
    fn session(
        &self,
        request: &Request<Incoming>,
        caller: &Caller,
        endpoint: &Arc<Endpoint>,
    ) -> Result<Arc<Session>, Refusal> {
        let id = checks::single(request.headers(), &SESSION)?;
        let id = id.ok_or_else(|| {
            Refusal::malformed(None, "the header `mcp-session-id` is missing: open with `initialize`")
        })?;
        self.sessions.find(id, caller, endpoint).ok_or_else(|| {
            let detail = "this session is not open for this token: open a new one with `initialize`";
            Refusal::http(StatusCode::NOT_FOUND, ReasonCode::Malformed, detail)
        })
    }

    /// Resolves once nothing may be said to the caller any more, with why: a kill covers it, or its token is of no more use,
    /// which is looked at as often as a quiet stream gets a comment.
    async fn cut_off(&self, caller: &Caller) -> &'static str {
        let killed = self.governor.killed(caller);
        tokio::pin!(killed);
        loop {
            if !self.governor.stands(caller) {
                return SPENT;
            }
            tokio::select! {
                biased;
                () = &mut killed => return ReasonCode::Killed.sentence(),
                () = tokio::time::sleep(self.config.limits.keep_alive) => {}
            }
        }
    }

    /// A stream of events.
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
