//! Proofs about policies.
//!
//! It asks a solver that runs in a process of its own, within a time. Only an explicit "unsatisfiable" is a proof; everything
//! else reads "not proven". A counterexample counts only if the real authorizer agrees with it. It must not know how
//! policies are written or activated, and is never on the way of a call.
//!
//! A proof is about policies, for every call that the schema and [`world`](self::world) admit. It does not cover the parsers
//! that make facts, the kernel's counters, budgets, or what a binding says of a tool.

mod counter;
mod diff;
mod expr;
mod findings;
mod fix;
mod pairs;
mod property;
mod question;
mod slice;
mod solver;
#[cfg(test)]
mod tests;
mod unasked;
pub mod world;

pub use counter::Counterexample;
pub use diff::{Difference, Kind, Widening, diff};
pub use findings::{Finding, Report, Verdict, prove};
pub use pairs::Side;
pub use property::{Claim, Property, PropertyFile, Scope, When};
pub use question::Prover;
pub use solver::{Limits, Solver, SolverMissing};
