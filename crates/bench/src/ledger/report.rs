//! What a run on the ledger found, for people and for programs.
//!
//! A level whose every round had a busy disk gets no figure; what was measured is shown, marked as raw. It must not
//! compute: `figures` does.

use std::fmt::Write as _;

use anyhow::Result;
use serde_json::json;

use super::figures::{Figures, Level, Pair, Summary, Verified};
use super::{LedgerPlan, Measured};
use crate::figures::PROBE_MS_MAX;

/// Prints it.
pub(crate) fn print(plan: &LedgerPlan, measured: &Measured) -> Result<()> {
    let text = if plan.json { as_json(plan, measured) } else { as_text(plan, measured)? };
    println!("{text}");
    Ok(())
}

fn as_json(plan: &LedgerPlan, measured: &Measured) -> String {
    let level = |level: &Level| json!({ "writers": level.writers, "summary": level.summary(), "raw": level.raw() });
    let levels: Vec<_> = measured.levels.iter().map(level).collect();
    json!({
        "command": command(plan), "record_bytes": plan.record_bytes, "measured": measured, "levels": levels,
        "verification": measured.verified.summary(),
    })
    .to_string()
}

fn as_text(plan: &LedgerPlan, measured: &Measured) -> Result<String> {
    let Measured { machine, load: [before, after], levels, verified } = measured;
    let mut text = String::new();
    writeln!(
        text,
        "commit {}\nmachine: {} cores, {}, Linux {}, {}; load average {before:.1} before, {after:.1} after",
        machine.commit, machine.cores, machine.processor, machine.kernel, machine.file_system
    )?;
    writeln!(
        text,
        "records of {} bytes; {} rounds of {} s each; every append acknowledged after its sync, with its proof.\n\
         medians of rounds; a ratio is taken inside its round. CPU is that of the whole process, writers included.",
        plan.record_bytes, plan.rounds, plan.seconds
    )?;
    let (mut all, mut left_out) = (0, 0);
    for level in levels {
        all += level.rounds.len();
        let summary = level.summary();
        left_out += summary.as_ref().map_or(level.rounds.len(), |summary| summary.left_out);
        match summary {
            Some(summary) => table(&mut text, level.writers, &summary, "")?,
            None => {
                let none = "no figure can be given, every round had a bare sync over";
                writeln!(text, "\n{} writers: {none} {PROBE_MS_MAX} ms", level.writers)?;
                table(&mut text, level.writers, &level.raw(), "RAW, NOT A RESULT: ")?;
            }
        }
    }
    writeln!(text, "\nrounds left out: {left_out} of {all} (bare sync over {PROBE_MS_MAX} ms)")?;
    verification(&mut text, verified)?;
    writeln!(text, "repeat with: {}", command(plan))?;
    Ok(text)
}

fn table(text: &mut String, writers: u32, summary: &Summary, mark: &str) -> Result<()> {
    let Summary { rounds, probe_ms, pair: Pair { ledger, plain }, ratio, .. } = summary;
    let title = format!("{mark}{writers} writers, {rounds} rounds, bare sync {probe_ms:.2} ms");
    writeln!(text, "\n{title}\n{:36}{:>12}{:>12}{:>12}{:>14}", "", "appends/s", "p50 us", "p99 us", "CPU us/append")?;
    for (title, figures) in [("plain file, group-committed syncs", plain), ("ledger", ledger)] {
        let Figures { appends_per_s, p50_us, p99_us, cpu_us } = figures;
        writeln!(text, "{title:36}{appends_per_s:>12.0}{p50_us:>12.0}{p99_us:>12.0}{cpu_us:>14.2}")?;
    }
    writeln!(text, "{:36}{ratio:>11.2}x", "  ledger over plain file")?;
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "lengths of files are far below 2^52")]
fn verification(text: &mut String, verified: &Verified) -> Result<()> {
    let Verified { records, batch, segment_bytes, read_bytes, rounds } = verified;
    let summary = verified.summary();
    let mebibytes = |bytes: f64| bytes / f64::from(1 << 20);
    writeln!(
        text,
        "\nverification of {records} records in batches of {batch}: {:.0} MiB of segments and public folder, {:.0} MiB of \
         them segments; {} rounds, from the page cache",
        mebibytes(*read_bytes as f64),
        mebibytes(*segment_bytes as f64),
        rounds.len()
    )?;
    let speed = mebibytes(summary.hashed_bytes_per_s);
    writeln!(text, "{:44}{speed:>8.0} MiB/s", "read and SHA-256 the same bytes, all cores")?;
    let (speed, records) = (mebibytes(summary.verified_bytes_per_s), summary.verified_records_per_s);
    writeln!(text, "{:44}{speed:>8.0} MiB/s, {records:.0} records/s", "full verification, all cores")?;
    writeln!(text, "{:44}{:>8.2}x", "  verification over read and hash", summary.ratio)?;
    writeln!(text, "{:44}{:>8.2}x", "  over read and hash of the segments alone", summary.ratio_to_segments)?;
    Ok(())
}

/// What repeats the run.
fn command(plan: &LedgerPlan) -> String {
    let writers: Vec<String> = plan.writers.iter().map(u32::to_string).collect();
    let json = if plan.json { " --json" } else { "" };
    format!(
        "cargo xtask bench ledger --rounds {} --seconds {} --writers {} --record-bytes {} --verify-records {} \
         --verify-batch {}{json}",
        plan.rounds,
        plan.seconds,
        writers.join(","),
        plan.record_bytes,
        plan.verify_records,
        plan.verify_batch
    )
}
