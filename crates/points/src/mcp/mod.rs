//! The MCP point: a streamable HTTP server towards agents, one upstream behind it, and the pipeline between them.
//!
//! # Threats and what meets them
//! - *A crafted message that the judge and the upstream read differently*: strict reading, one message at a time, raw
//!   bytes forwarded ([`wire`]); parameters outside `name`, `arguments` and `_meta` are refused ([`adapt`]).
//! - *A call that slips past a decision or a kill*: only a permit opens an upstream, and the epoch is checked under
//!   the writer's lock or with the connection in hand, directly before the first byte ([`execute`]).
//! - *Someone else's session, a guessed session id, a browser on the same machine*: every request brings its token;
//!   protocol sessions are random and bound to the token; `Host` and `Origin` are checked ([`front`]).
//! - *A slow, greedy or hostile client or upstream*: every queue, body, line and wait has a bound ([`config`]).
//! - *An upstream that changes a tool after it was approved*: a tool's manifest hash is part of each action.
//! - *An upstream that forges a receipt*: members of `_meta` under `countersign/` are overwritten.
//!
//! # Not covered
//! The modern era (2026-07-28), a stdio front, several upstreams, prompts, resources, sampling, elicitation, tasks,
//! resumption of streams, undo, and what a tool's text does to a model. `_meta` members that the configuration does
//! not list pass to the upstream unjudged and outside the digest. It must not know policy, budgets or the ledger.

pub mod adapt;
pub mod bridge;
pub mod client;
pub mod config;
pub mod execute;
pub mod front;
pub mod guard;
pub mod parked;
pub mod state;
pub mod undo;
pub mod wire;

pub use execute::{Executor, Kind, LinkError, Reply, Survey, Upstream, UpstreamError, manifest, survey};
pub use front::Server;

/// The one method that is an action.
pub const ACTION: &str = "tools/call";

/// What an exchange that is not an action does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exchange {
    /// Answered with the upstream's own answer, its capabilities cut down to what is governed.
    Initialize,
    /// Ends the handshake; stays here.
    Initialized,
    /// Answered here.
    Ping,
    /// Passes to the upstream and back, raw, but for tools that the caller may never call: those are left out. It
    /// changes nothing and shows no more than the handshake promised.
    ToolsList,
    /// Cancels the caller's own call in flight.
    Cancelled,
    /// From upstream to client only; a client's is dropped.
    Progress,
}

/// Every exchange that is not an action, reviewed: what is not here and not [`ACTION`] is refused.
pub const EXCHANGES: [(&str, Exchange); 6] = [
    ("initialize", Exchange::Initialize),
    ("notifications/initialized", Exchange::Initialized),
    ("ping", Exchange::Ping),
    ("tools/list", Exchange::ToolsList),
    ("notifications/cancelled", Exchange::Cancelled),
    ("notifications/progress", Exchange::Progress),
];

impl Exchange {
    /// The exchange that `method` names, if it is on the list.
    #[must_use]
    pub fn of(method: &str) -> Option<Self> {
        EXCHANGES.iter().find_map(|(name, exchange)| (*name == method).then_some(*exchange))
    }
}
