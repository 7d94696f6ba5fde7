//! The pipeline: from a framed call to a receipt, and the only code that can mint a `Permit`.
//!
//! Knows how identity, facts, decision, record and effect follow on one another; knows no
//! protocol. Every point goes through [`Gate::govern`]; a second path would be a bug. It does not
//! decide (`kernel`), parse (`effects`) or store (`ledger`).

pub mod admin;
pub mod call;
pub mod catalog;
pub mod clock;
mod continuation;
pub mod credential;
mod erase;
mod identity;
pub mod kill;
mod open;
pub mod permit;
mod pipeline;
mod policies;
mod prune;
mod refuse;
mod rotate;
mod sealing;
mod snapshots;
mod stalled;
mod state;
mod tick;
pub mod ticket;
pub mod view;
pub mod witness;

pub use self::continuation::StateKey;
pub use self::erase::Destroyed;
pub use self::open::{GateError, Parts};
pub use self::pipeline::unenforced;
pub use self::policies::{Evaluate, Reload, Reloaded};
pub use self::prune::{Below, Cut, Plan};
pub use self::refuse::DENIALS_MAX;
pub use self::sealing::payload_of;
pub use self::snapshots::{SnapshotRules, leaf_of};
pub use self::state::Gate;
pub use self::ticket::TicketState;
