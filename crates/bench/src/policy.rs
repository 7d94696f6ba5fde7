//! `policy`: what a decision costs at growing numbers of policies, what loading costs, and what a listing costs.
//!
//! A decision is the whole way from a question as the kernel asks it to an evaluation as the record holds it: the typed
//! context, the check against the schema, the slice, Cedar, sorted reasons. How many policies a call meets is held at ten.
//! In each round every engine answers the same questions at every number, one after the other, and the answers are
//! compared; a ratio is taken inside a round. It must not know how policy works inside. It does not cover the pipeline
//! around a decision: the other benchmarks do.

mod decide;
mod load;
#[cfg(feature = "rego")]
mod rego;
mod report;
mod workload;

use std::path::Path;

use anyhow::Result;
use clap::Args;
use serde::Serialize;

use crate::machine::{self, Machine};

/// What is measured.
#[derive(Clone, Debug, Args)]
pub(crate) struct PolicyPlan {
    /// Rounds of decisions; loading and listing are repeated three times.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rounds: u32,
    /// How many policies there are.
    #[arg(long, value_delimiter = ',', default_values_t = [10, 100, 1_000, 10_000], value_parser = clap::value_parser!(u32).range(10..=100_000))]
    policies: Vec<u32>,
    /// Questions in one round at each number.
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(100..=1_000_000))]
    questions: u32,
    /// Print one JSON object instead of the table.
    #[arg(long)]
    json: bool,
}

/// What a run gave.
#[derive(Clone, Debug, Serialize)]
struct Measured {
    machine: Machine,
    /// The load average before and after.
    load: [f64; 2],
    /// One for each number of policies.
    decisions: Vec<decide::Level>,
    loading: Vec<load::Loading>,
    listing: Vec<load::Listing>,
}

/// Measures what `plan` says and prints it.
///
/// # Errors
/// An answer that differs between two engines, or a bundle that does not load.
pub(crate) fn run(plan: &PolicyPlan) -> Result<()> {
    let (machine, before) = (Machine::look(Path::new(".")), machine::load());
    let decisions = decide::measure(plan)?;
    let (loading, listing) = load::measure()?;
    let measured = Measured { machine, load: [before, machine::load()], decisions, loading, listing };
    report::print(plan, &measured)
}
