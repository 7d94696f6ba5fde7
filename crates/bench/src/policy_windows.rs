//! Windowed counts: what reading one costs with few events in its windows and with many.
//!
//! The counter is the kernel's own, `Windows`. Both fillings are read in turns within one run, so that a busy machine slows
//! both alike, and each reading is checked. It must not know policies.

use std::hint::black_box;
use std::time::Instant;

use anyhow::{Result, ensure};
use clap::Args;
use countersign_kernel::Windows;
use countersign_model::TimeMs;
use serde_json::json;

/// What is measured.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct WindowsPlan {
    /// Rounds, each of one batch with few events and one with many.
    #[arg(long, default_value_t = 201, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rounds: u32,
    /// Print one JSON object instead of the table.
    #[arg(long)]
    json: bool,
}

/// Events in the windows.
const FEW: u64 = 10;
/// Events in the windows.
const MANY: u64 = 3_000;
/// Readings of one batch: one alone is shorter than the clock can tell.
const BATCH: u32 = 1_000;
const DAY_MS: u64 = 86_400_000;
const NOW: TimeMs = TimeMs(1_800_000_000_000);

/// Medians in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Costs {
    /// Of one reading with [`FEW`] events.
    pub(crate) few_ns: f64,
    /// Of one reading with [`MANY`] events.
    pub(crate) many_ns: f64,
    /// Of counting one more event, with [`MANY`] there.
    pub(crate) add_ns: f64,
}

/// Measures and prints.
pub(crate) fn run(plan: WindowsPlan) -> Result<()> {
    let Costs { few_ns, many_ns, add_ns } = windows(plan.rounds)?;
    let ratio = many_ns / few_ns;
    if plan.json {
        let value = json!({
            "events": [FEW, MANY], "read_ns": [few_ns, many_ns], "ratio": ratio, "add_ns": add_ns,
            "rounds": plan.rounds, "batch": BATCH,
        });
        println!("{value}");
        return Ok(());
    }
    println!("four windows of one counter, median of {} batches of {BATCH}", plan.rounds);
    println!("  read with {FEW:>5} events   {few_ns:>8.1} ns");
    println!("  read with {MANY:>5} events   {many_ns:>8.1} ns   {ratio:.2} times");
    println!("  count one more           {add_ns:>8.1} ns");
    Ok(())
}

/// What a windowed count costs.
pub(crate) fn windows(rounds: u32) -> Result<Costs> {
    let (few, many) = (filled(FEW), filled(MANY));
    for (windows, events) in [(&few, FEW), (&many, MANY)] {
        let read = windows.read(NOW);
        ensure!(read.minute > 0 && read.day == events, "{events} events were counted as {read:?}");
    }
    let (mut few_ns, mut many_ns, mut add_ns) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        few_ns.push(batch(|| read(&few)));
        many_ns.push(batch(|| read(&many)));
        let mut more = many.clone();
        add_ns.push(batch(|| more.add(black_box(NOW))));
        ensure!(more.read(NOW).day == MANY + u64::from(BATCH), "events were lost");
    }
    Ok(Costs { few_ns: median(few_ns), many_ns: median(many_ns), add_ns: median(add_ns) })
}

/// Events evenly over the last day, the newest of them now.
fn filled(events: u64) -> Windows {
    let mut windows = Windows::default();
    for event in (0..events).rev() {
        windows.add(TimeMs(NOW.0 - event * (DAY_MS - 1) / events));
    }
    windows
}

fn read(windows: &Windows) {
    black_box(black_box(windows).read(NOW));
}

/// Nanoseconds of one call in a batch.
fn batch(mut one: impl FnMut()) -> f64 {
    let begun = Instant::now();
    (0..BATCH).for_each(|_| one());
    begun.elapsed().as_secs_f64() * 1e9 / f64::from(BATCH)
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or(f64::NAN)
}
