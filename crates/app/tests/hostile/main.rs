//! The hostile kit: servers and clients that play foul in every way that we know of, each against the real program.
//!
//! Every case says what is tried, how it is answered, and which reason stands in the record afterwards. Nothing that was
//! refused has reached an upstream. What a model does with text that it is shown is not a case: no gateway can refuse it.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "helpers of tests fail the test")]

mod clients;
mod mirrors;
mod neighbours;
mod questions;
mod servers;
mod sessions;
#[path = "../support/mod.rs"]
mod support;
mod web;
mod wire;
