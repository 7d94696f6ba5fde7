//! Hostile bytes to facts: what an action's bytes say, in the languages that people bind arguments to.
//!
//! Every parser here is deterministic, bounded and strict: what it does not understand in full is
//! opaque, which policy treats as the worst case. Nothing here knows who is asking or what is
//! allowed; nothing does I/O, reads a clock or keeps state. It does not cover what really happens
//! when the bytes run: that is bounded by the executor, and facts are advice beside it.

pub mod amounts;
pub mod binding;
pub mod http;
pub mod json;
pub mod mail;
pub mod names;
pub mod paths;
pub mod secrets;
pub mod shell;
pub mod sql;

pub use amounts::Unit;
pub use binding::{ArgumentKind, Binding, Dialect, UnknownDialect, UnknownKind, facts};
pub use json::{JsonError, Limits, Node, Value};
pub use sql::Opaque;
