//! The MCP point: a server of both eras of the protocol towards agents, upstreams behind it, and the pipeline between.
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
//! - *An upstream that questions the client*: handing a question over is an action; answers come from the asked session
//!   alone, once ([`front`]).
//! - *Headers that say other than the body*: compared, refused, and made anew towards upstreams ([`wire::headers`]).
//! - *A client that carries state and changes it, or another's*: state is sealed and bound to caller, upstream and request, and
//!   the kernel lets a call go on once ([`state`]).
//! - *A client that answers for the human*: opening a page, accepting it, or asking for a task consents to nothing
//!   ([`parked`]).
//!
//! # Not covered
//! Undo, and what a tool's text does to a model. `_meta` members that the configuration does not list pass to the upstream
//! unjudged and outside the digest. It must not know policy, budgets or the ledger.

pub mod adapt;
pub mod bridge;
pub mod client;
pub mod config;
mod eras;
pub mod execute;
pub mod front;
pub mod guard;
pub mod methods;
pub mod parked;
pub mod route;
pub mod state;
pub mod undo;
pub mod wire;

pub use execute::{Executor, Kind, LinkError, Reply, Survey, Upstream, UpstreamError, manifest, survey};
pub use front::{Server, Work};
