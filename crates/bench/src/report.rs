//! What a run found, for people and for programs.
//!
//! A level whose every round had a busy disk gets no figure; what was measured is shown, marked as raw. It must not
//! compute: `figures` does.

use std::fmt::Write as _;

use anyhow::Result;
use serde_json::json;

use crate::Plan;
use crate::figures::{Arm, Figures, PROBE_MS_MAX, Summary};
use crate::run::Measured;

/// Prints it.
pub(crate) fn print(plan: &Plan, measured: &Measured) -> Result<()> {
    let text = if plan.json { as_json(plan, measured) } else { as_text(plan, measured)? };
    println!("{text}");
    Ok(())
}

fn as_json(plan: &Plan, measured: &Measured) -> String {
    let summaries: Vec<_> = measured
        .levels
        .iter()
        .map(|level| {
            json!({
                "connections": level.connections, "summary": level.summary(), "raw": level.raw(),
            })
        })
        .collect();
    json!({ "command": command(plan), "arms": Arm::ALL, "measured": measured, "levels": summaries }).to_string()
}

fn as_text(plan: &Plan, measured: &Measured) -> Result<String> {
    let mut text = String::new();
    facts(&mut text, plan, measured)?;
    let (mut all, mut left_out) = (0, 0);
    for level in &measured.levels {
        all += level.rounds.len();
        match level.summary() {
            Some(summary) => {
                left_out += summary.left_out;
                table(&mut text, &summary, "")?;
            }
            None => {
                left_out += level.rounds.len();
                writeln!(
                    text,
                    "\n{} connections: no figure can be given, every round had a bare sync over {PROBE_MS_MAX} ms",
                    level.connections
                )?;
                table(&mut text, &level.raw(), "RAW, NOT A RESULT: ")?;
            }
        }
    }
    writeln!(text, "\nrounds left out: {left_out} of {all} (bare sync over {PROBE_MS_MAX} ms)")?;
    writeln!(text, "repeat with: {}", command(plan))?;
    Ok(text)
}

#[expect(clippy::cast_precision_loss, reason = "sizes of memory are far below 2^52")]
fn facts(text: &mut String, plan: &Plan, measured: &Measured) -> Result<()> {
    let Measured { machine, records, load: [before, after], standing, .. } = measured;
    writeln!(
        text,
        "commit {}\nmachine: {} cores, {}, Linux {}, {}; load average {before:.1} before, {after:.1} after",
        machine.commit, machine.cores, machine.processor, machine.kernel, machine.file_system
    )?;
    writeln!(
        text,
        "records of a call: intent {} + {} bytes, outcome {} + {} (leaf + payload); gateway's peak memory {} MiB",
        records.intent_leaf,
        records.intent_payload,
        records.outcome_leaf,
        records.outcome_payload,
        measured.gateway_peak_kib / 1_024
    )?;
    writeln!(
        text,
        "up in {:.0} ms; {:.1} MiB idle; {:.1} KiB a session, of {} open at once",
        standing.up_ms,
        standing.idle_kib as f64 / 1_024.0,
        standing.session_bytes as f64 / 1_024.0,
        standing.sessions
    )?;
    writeln!(
        text,
        "durable intent and outcome, policy, budgets and receipts on; {} rules about arguments in the one with rules; every \
         answer checked; {} rounds of {} s each; \
         all on loopback and on the same cores.\nmedians of rounds; a ratio is taken inside its round. CPU is that of \
         the process in the middle, for (a) of the upstream.",
        plan.rules, plan.rounds, plan.seconds
    )?;
    Ok(())
}

fn table(text: &mut String, summary: &Summary, mark: &str) -> Result<()> {
    let Summary { connections, rounds, probe_ms, .. } = summary;
    let title = format!("{mark}{connections} connections, {rounds} rounds, bare sync {probe_ms:.2} ms");
    writeln!(text, "\n{title}\n{:36}{:>12}{:>12}{:>12}{:>14}", "", "p50 us", "p99 us", "calls/s", "CPU us/call")?;
    for (arm, figures) in Arm::ALL.iter().zip(&summary.arms) {
        let Figures { p50_us, p99_us, calls_per_s, cpu_us } = figures;
        writeln!(text, "{:36}{p50_us:>12.0}{p99_us:>12.0}{calls_per_s:>12.0}{cpu_us:>14.1}", arm.title())?;
    }
    for (title, ratio) in [
        ("  over (b)", &summary.over_pass),
        ("  over (c)", &summary.over_pass_sync),
        ("  with rules, over without", &summary.rules_over_gateway),
        ("  in memory, over (b)", &summary.in_memory_over_pass),
    ] {
        let Figures { p50_us, p99_us, calls_per_s, cpu_us } = ratio;
        writeln!(text, "{title:36}{p50_us:>11.2}x{p99_us:>11.2}x{calls_per_s:>11.2}x{cpu_us:>13.2}x")?;
    }
    Ok(())
}

/// What repeats the run.
fn command(plan: &Plan) -> String {
    let connections: Vec<String> = plan.connections.iter().map(u32::to_string).collect();
    let json = if plan.json { " --json" } else { "" };
    format!(
        "cargo xtask bench mcp --rounds {} --seconds {} --connections {} --rules {}{json}",
        plan.rounds,
        plan.seconds,
        connections.join(","),
        plan.rules
    )
}
