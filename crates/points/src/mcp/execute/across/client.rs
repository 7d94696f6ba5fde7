//! What a legacy client said once and a modern upstream wants to hear with every request; and what its session holds
//! that such an upstream has no place for.
//!
//! It must not know sessions of the front.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use countersign_effects::json::{Node, parse};
use countersign_gate::call::Executed;
use tokio::sync::mpsc;

use super::refusal;
use super::stream::Stream;
use crate::mcp::eras;
use crate::mcp::eras::listen::{Wanted, subscribes};
use crate::mcp::eras::request::Speaker;
use crate::mcp::execute::channel::{Channel, ClientHello, Said};
use crate::mcp::execute::leave::{InFlight, Leave};
use crate::mcp::execute::link::LinkError;
use crate::mcp::execute::outbound::{self, Outbound, Reply, reading};
use crate::mcp::wire::log::Level;
use crate::mcp::wire::{FrameError, INVALID_PARAMS, METHOD_NOT_FOUND};

/// Resources that one session may be subscribed to.
const RESOURCES_MAX: usize = 1024;

/// One legacy client towards a modern upstream.
pub(crate) struct Client {
    hello: ClientHello,
    level: Mutex<Option<Level>>,
    /// Takes questions that no stream of a request takes.
    pub(super) said: mpsc::Sender<Said>,
    stream: Stream,
}

impl Client {
    /// The client that opened with `hello`. From here on it hears of the lists that changed.
    pub(super) fn new(hello: ClientHello, channel: &Channel, said: mpsc::Sender<Said>) -> Self {
        let lists = Wanted::of_all(channel.hello().capabilities());
        let hello = ClientHello {
            capabilities: eras::hello::offered(&hello.capabilities).into(),
            client: or(&hello.client),
            ..hello
        };
        let stream = Stream::open(channel, (&speaker(&hello, None), lists), said.clone());
        Self { hello, level: Mutex::default(), said, stream }
    }

    pub(super) fn speaker(&self) -> Speaker<'_> {
        speaker(&self.hello, *self.level.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// From here on every request asks for this level of the log.
    pub(super) fn set_level(&self, params: Option<&Bytes>) -> Result<Reply, LinkError> {
        let level = member(params, "level").and_then(|name| Level::named(&name));
        let Some(level) = level else { return refusal(&wrong("`level` is no level of a log")) };
        *self.level.lock().unwrap_or_else(PoisonError::into_inner) = Some(level);
        Reply::made("result", b"{}")
    }

    pub(super) fn unsubscribe(&self, request: &Outbound) -> Result<Reply, LinkError> {
        let Some(uri) = member(request.params.as_ref(), "uri") else {
            return refusal(&wrong("`uri` must be a string"));
        };
        self.stream.remove(&uri);
        Reply::made("result", b"{}")
    }

    /// Adds a resource to the session's stream, as an action.
    pub(super) async fn subscribe<L: Leave>(&self, channel: &Channel, leave: L, request: &Outbound) -> Executed<Reply> {
        let Some(uri) = member(request.params.as_ref(), "uri") else {
            return outbound::not_started("`uri` must be a string");
        };
        if !subscribes(channel.hello().capabilities()) {
            let detail = "the upstream tells of no resources that were updated".to_owned();
            let error = FrameError { code: METHOD_NOT_FOUND, ..FrameError::shape(detail) };
            return answered(refusal(&error));
        }
        let effect = match leave.begin(std::sync::Arc::new(|| ())) {
            Ok(effect) => effect,
            Err(stop) => return outbound::not_started(stop.as_str()),
        };
        let within = channel.upstream().limits().exchange_timeout;
        let added = tokio::select! {
            biased;
            stop = effect.stopped() => Err(stop.as_str()),
            added = tokio::time::timeout(within, self.stream.add(&uri, RESOURCES_MAX)) => {
                added.map_err(|_| "the upstream did not answer in time")
            }
        };
        match added {
            Ok(true) => answered(Reply::made("result", b"{}")),
            Ok(false) => {
                self.stream.remove(&uri);
                answered(refusal(&wrong("the upstream does not tell of this resource")))
            }
            Err(why) => {
                self.stream.remove(&uri);
                outbound::unknown(why, 0)
            }
        }
    }
}

fn answered(reply: Result<Reply, LinkError>) -> Executed<Reply> {
    match reply {
        Ok(reply) => outbound::answered(reply, 0),
        Err(error) => outbound::unknown(&error.to_string(), 0),
    }
}

fn speaker(hello: &ClientHello, level: Option<Level>) -> Speaker<'_> {
    Speaker { capabilities: &hello.capabilities, client: &hello.client, level }
}

/// What a client left out is an empty object.
fn or(raw: &Bytes) -> Bytes {
    if raw.is_empty() { Bytes::from_static(b"{}") } else { raw.clone() }
}

fn member(params: Option<&Bytes>, key: &str) -> Option<String> {
    let params = params?;
    parse(params, &reading(params.len())).ok()?.get(key).and_then(Node::as_str).map(str::to_owned)
}

fn wrong(detail: &str) -> FrameError {
    FrameError { code: INVALID_PARAMS, ..FrameError::shape(detail) }
}
