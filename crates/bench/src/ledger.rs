//! `ledger`: acknowledged appends beside a plain file with group-committed syncs and no crypto, and verification beside
//! reading and hashing the same bytes.
//!
//! Rounds are interleaved in one run, and what is compared in a round follows directly on one another. The writers are
//! tasks of one thread that each append, wait for the acknowledgement and append again. It must not know how the ledger
//! works inside. It does not cover policy, the network and payloads.

mod append;
mod baseline;
mod figures;
mod report;
mod walk;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;
use serde::Serialize;

use self::figures::{Level, Pair, Verified};
use crate::machine::{self, Machine};

/// Lets background work of the last window end before the disk is probed.
const SETTLE: Duration = Duration::from_millis(250);

/// What is measured.
#[derive(Clone, Debug, Args)]
pub(crate) struct LedgerPlan {
    /// Rounds at each number of writers, and of the verification.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(crate) rounds: u32,
    /// How long each of the two is measured in a round, in seconds.
    #[arg(long, default_value_t = 1.0, value_parser = crate::seconds)]
    pub(crate) seconds: f64,
    /// How many writers wait at once.
    #[arg(long, value_delimiter = ',', default_values_t = [64, 512], value_parser = clap::value_parser!(u32).range(1..=16_384))]
    pub(crate) writers: Vec<u32>,
    /// Bytes of a record's leaf; it has no payload.
    #[arg(long, default_value_t = 1_024, value_parser = clap::value_parser!(u16).range(16..))]
    pub(crate) record_bytes: u16,
    /// Records of the log that is verified.
    #[arg(long, default_value_t = 300_000, value_parser = clap::value_parser!(u32).range(64..=10_000_000))]
    pub(crate) verify_records: u32,
    /// Records of each group commit of the log that is verified.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=4_096))]
    pub(crate) verify_batch: u16,
    /// Print one JSON object instead of the table.
    #[arg(long)]
    pub(crate) json: bool,
    /// Where the files lie; by default beside the build. Its disk is what is measured.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// What a run gave.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Measured {
    /// Where.
    machine: Machine,
    /// The load average before and after.
    load: [f64; 2],
    /// One for each number of writers.
    levels: Vec<Level>,
    /// The verification.
    verified: Verified,
}

/// Measures what `plan` says and prints it.
///
/// # Errors
/// A record that was not acknowledged, a proof that does not hold, or a file that failed.
pub(crate) fn run(plan: &LedgerPlan) -> Result<()> {
    let beside = std::env::current_exe()?.parent().unwrap_or(Path::new(".")).to_owned();
    let parent = plan.dir.clone().unwrap_or(beside);
    std::fs::create_dir_all(&parent)?;
    let folder = tempfile::Builder::new().prefix("countersign-bench-").tempdir_in(&parent)?;
    let (machine, before) = (Machine::look(&parent), machine::load());
    let levels = levels(plan, folder.path())?;
    let verified = walk::measure(plan, folder.path()).context("the verification")?;
    let measured = Measured { machine, load: [before, machine::load()], levels, verified };
    report::print(plan, &measured)
}

fn levels(plan: &LedgerPlan, folder: &Path) -> Result<Vec<Level>> {
    let mut levels: Vec<Level> =
        plan.writers.iter().map(|writers| Level { writers: *writers, rounds: Vec::new() }).collect();
    let window = Duration::from_secs_f64(plan.seconds);
    for number in 0..plan.rounds {
        for level in &mut levels {
            std::thread::sleep(SETTLE);
            let probe_ms = machine::probe_ms(folder)?;
            let load = append::Load { writers: level.writers, record_bytes: plan.record_bytes.into(), window };
            let at = folder.join(format!("round-{number}-{}", level.writers));
            std::fs::create_dir(&at)?;
            // Who goes first changes from round to round.
            let pair = if number % 2 == 0 {
                let ledger = append::ledger(&at, &load)?;
                Pair { ledger, plain: baseline::plain(&at, &load)? }
            } else {
                let plain = baseline::plain(&at, &load)?;
                Pair { ledger: append::ledger(&at, &load)?, plain }
            };
            // Nothing is deleted before the end: ext4 passes over inodes deleted in the last minutes one by one, so the files of
            // one round would be paid for by the next.
            level.rounds.push(figures::Round { probe_ms, pair });
            eprint!("\rround {} of {}, {} writers   ", number + 1, plan.rounds, level.writers);
        }
    }
    eprintln!();
    Ok(levels)
}
