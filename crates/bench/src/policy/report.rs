//! What a run on policy found, for people and for programs. It holds no bar; the bars stand in the documentation.

use std::fmt::Write as _;

use anyhow::Result;
use serde_json::json;

use super::decide::{Level, ratio};
use super::load::{Listing, Loading};
use super::{Measured, PolicyPlan};
use crate::figures::median;

/// Prints it.
pub(super) fn print(plan: &PolicyPlan, measured: &Measured) -> Result<()> {
    let text = if plan.json { as_json(measured) } else { as_text(plan, measured)? };
    println!("{text}");
    Ok(())
}

fn as_json(measured: &Measured) -> String {
    let decisions: Vec<_> = measured.decisions.iter().map(|level| summary(level, measured.decisions.first())).collect();
    json!({ "measured": measured, "decisions": decisions }).to_string()
}

fn summary(level: &Level, least: Option<&Level>) -> serde_json::Value {
    json!({
        "policies": level.policies,
        "sliced_p50_us": level.each(|round| round.sliced.p50_us),
        "unsliced_p50_us": level.each(|round| round.unsliced.p50_us),
        "unsliced_over_sliced": gain(level),
        "rego_over_sliced": rego(level),
        "over_least": least.map(|least| ratio(level, least)),
    })
}

fn gain(level: &Level) -> f64 {
    level.each(|round| round.unsliced.p50_us / round.sliced.p50_us)
}

fn rego(level: &Level) -> Option<f64> {
    let has = level.rounds.iter().all(|round| round.rego.is_some());
    has.then(|| level.each(|round| round.rego.map_or(0.0, |rego| rego.p50_us) / round.sliced.p50_us))
}

fn as_text(plan: &PolicyPlan, measured: &Measured) -> Result<String> {
    let Measured { machine, load: [before, after], decisions, loading, listing } = measured;
    let mut text = String::new();
    writeln!(
        text,
        "commit {}\nmachine: {} cores, {}, Linux {}; load average {before:.1} before, {after:.1} after",
        machine.commit, machine.cores, machine.processor, machine.kernel
    )?;
    writeln!(
        text,
        "{} rounds of {} questions; each meets ten policies. Microseconds; medians of rounds, ratios taken inside a round.\n",
        plan.rounds, plan.questions
    )?;
    writeln!(
        text,
        "{:>9} {:>10} {:>10} {:>11} {:>12} {:>12} {:>12} {:>12}",
        "policies", "p50", "p99", "first p50", "over least", "all, p50", "all/sliced", "rego/sliced"
    )?;
    for level in decisions {
        let over = decisions.first().map_or(1.0, |least| ratio(level, least));
        writeln!(
            text,
            "{:>9} {:>10.1} {:>10.1} {:>11.1} {over:>12.2} {:>12.1} {:>12.1} {:>12}",
            level.policies,
            level.each(|round| round.sliced.p50_us),
            level.each(|round| round.sliced.p99_us),
            level.first.p50_us,
            level.each(|round| round.unsliced.p50_us),
            gain(level),
            rego(level).map_or_else(|| "-".to_owned(), |gain| format!("{gain:.1}")),
        )?;
    }
    let seconds = |of: fn(&Loading) -> f64| median(loading.iter().map(of).collect());
    writeln!(
        text,
        "\nloading 10,000 policies, 500 tools: {:.2} s cold, {:.2} s known, {:.2} s with 100 changed",
        seconds(|one| one.cold_s),
        seconds(|one| one.known_s),
        seconds(|one| one.swap_s)
    )?;
    let millis = |of: fn(&Listing) -> f64| median(listing.iter().map(of).collect());
    write!(
        text,
        "listing 1,000 tools among 10,000 policies: {:.2} ms the first time, {:.2} ms after that",
        millis(|one| one.first_ms),
        millis(|one| one.later_ms)
    )?;
    Ok(text)
}
