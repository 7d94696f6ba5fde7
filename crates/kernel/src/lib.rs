//! The kernel: the pure state machine that decides what may take effect.
//!
//! [`Kernel::step`] takes time and one [`Event`] and gives back [`Command`]s. Its state is a fold of
//! records: a step makes a [`countersign_model::Record`] and applies it through the very function that
//! recovery uses. It does no I/O, reads no clock, uses no randomness and iterates nothing unordered.
//! It must not know files, sockets, protocols or tokio. Policy is evaluated outside of a step, by
//! [`policy::Bundle::evaluate`], as a pure function of a request that the record can rebuild.
//!
//! It does not cover deferral (the type exists, nothing makes it yet), nor units of budgets other than calls.

mod apply;
mod asked;
mod attempt;
mod budget;
mod consent;
mod continuation;
mod event;
mod history;
pub mod identity;
pub mod image;
mod judge;
mod keep;
mod kernel;
pub mod kill;
mod order;
mod parked;
mod pins;
pub mod policy;
mod prune;
pub mod replay;
mod retention;
mod revoked;
mod settings;
mod state;
#[cfg(test)]
mod tests;

pub use event::{Command, Event, Salts};
pub use history::Windows;
pub use judge::{before_policy, by_policy_alone, in_hindsight};
pub use keep::Hold;
pub use kernel::Kernel;
pub use kill::KillState;
pub use parked::Parked;
pub use retention::{KEEP_DAYS_MIN, Retention, RetentionClass};
pub use settings::{BudgetRule, BudgetScope, Limits, Settings};
pub use state::{Activation, Begin, Human, Lease, Session};
