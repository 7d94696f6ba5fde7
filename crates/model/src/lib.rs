//! The words of Countersign: ids, actions, facts, verdicts, reason codes and records,
//! with their one canonical encoding.
//!
//! Everything here is plain data that every other crate shares. It must not know any
//! protocol, any store, any clock or any policy; it does no I/O. It does not decide
//! anything: what a value *means* for a decision lives in `kernel`.

pub mod action;
pub mod command;
pub mod encoding;
pub mod facts;
pub mod fields;
pub mod id;
pub mod method;
pub mod narrowed;
pub mod near;
pub mod payload;
pub mod preview;
pub mod reason;
pub mod record;
pub mod unit;
pub mod verdict;

pub use action::{Action, Caller, Principal};
pub use encoding::{DecodeError, EncodeError, from_canonical, to_canonical};
pub use facts::{Certainty, Effect, Facts, SqlFacts};
pub use id::{Digest, IdError};
pub use narrowed::Narrowed;
pub use reason::{Reason, ReasonCode};
pub use record::{Body, Record};
pub use unit::{Seq, TimeMs};
pub use verdict::{Gate, Verdict};
