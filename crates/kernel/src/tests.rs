//! Tests of the state machine as a whole, a file a subject.

mod accepted;
mod budgets;
mod consents;
mod continuations;
mod decisions;
pub(crate) mod fixture;
mod orders;
mod recovery;
mod swaps;
