//! `log unknown`: actions whose outcome is not known, for a human to look into.
//!
//! An intent without an outcome becomes `unknown` at the next start; a call that was cut off on the way is `unknown` at
//! once. Nothing is retried, so somebody has to look at the target. It reads the files and asks nobody.

use std::collections::BTreeMap;

use anyhow::Result;
use countersign_ledger::verify;
use countersign_ledger::{Record as Stored, Store, VisitError};
use countersign_model::record::{Attempt, Status};
use countersign_model::{Body, Record};
use serde_json::{Value, json};

use super::log::{is_running, must_exist};
use crate::context::{Context, progress, when};
use crate::terminal::{Exit, GOOD, WAIT, unverified, visible_lines};
use crate::walk::{self, Walker};

/// How often a failed walk is repeated beside a running gateway.
const TRIES: usize = 5;

/// Runs the command.
pub(crate) fn run(context: &Context) -> Result<Exit> {
    must_exist(&context.layout)?;
    let mut found = collect(context);
    for _ in 0..TRIES {
        if found.is_ok() || !is_running(context) {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(200));
        found = collect(context);
    }
    let found = found.map_err(|error| unverified(error.to_string()))?;
    let lines: Vec<String> = found.iter().map(Unknown::line).collect();
    let text = if lines.is_empty() {
        format!("{GOOD}none{GOOD:#}: the outcome of every intent is known")
    } else {
        format!(
            "{WAIT}{} unknown{WAIT:#}: look at each target; nothing was retried\n{}",
            lines.len(),
            visible_lines(&lines.join("\n"))
        )
    };
    context.out.result(&json!({"unknown": found.iter().map(Unknown::value).collect::<Vec<_>>()}), &text);
    Ok(Exit::Done)
}

struct Unknown {
    intent: u64,
    outcome: u64,
    /// None where the intent is pruned.
    attempt: Option<Attempt>,
    recorded: u64,
    note: Option<String>,
}

fn collect(context: &Context) -> Result<Vec<Unknown>, verify::WalkError> {
    let bar = progress(!context.out.json);
    let mut open: BTreeMap<u64, Attempt> = BTreeMap::new();
    let mut found = Vec::new();
    let mut visit = |stored: Stored<'_>| {
        let record = Record::from_leaf(stored.leaf).map_err(|error| VisitError::new(error.to_string()))?;
        match record.body {
            Body::Intent(attempt) => {
                open.insert(stored.index, *attempt);
            }
            Body::Outcome(outcome) => {
                let attempt = open.remove(&outcome.intent.0);
                if outcome.status == Status::Unknown {
                    found.push(Unknown {
                        intent: outcome.intent.0,
                        outcome: stored.index,
                        attempt,
                        recorded: record.at.0,
                        note: outcome.note,
                    });
                }
            }
            _ => {}
        }
        Ok(())
    };
    let walker = Walker { vault: None, begin: &mut |_| Ok(()), visit: &mut visit };
    let walked = walk::walk(&Store::real(context.layout.ledger()), None, walker, |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    });
    bar.finish_and_clear();
    walked.map(|_| found)
}

impl Unknown {
    fn value(&self) -> Value {
        let Self { intent, outcome, attempt, recorded, note } = self;
        let Some(attempt) = attempt else {
            return json!({
                "intent": intent, "outcome": outcome, "pruned": true, "recorded_ms": recorded, "note": note,
            });
        };
        json!({
            "intent": intent, "outcome": outcome, "pruned": false, "agent": attempt.principal.agent.as_str(),
            "run": attempt.principal.run.as_str(), "upstream": attempt.upstream.as_str(),
            "tool": attempt.tool.as_str(), "target": attempt.target.as_str(),
            "environment": attempt.environment.as_str(), "proposed_ms": attempt.proposed_at.0,
            "recorded_ms": recorded, "note": note,
        })
    }

    fn line(&self) -> String {
        let Self { intent, outcome, attempt, recorded, note } = self;
        let Some(attempt) = attempt else {
            return format!("{} intent {intent}, outcome {outcome}: the intent is pruned", when(*recorded));
        };
        format!(
            "{} intent {intent}, outcome {outcome}: {}/{} on {} ({}) by {}, run {}{}",
            when(attempt.proposed_at.0),
            attempt.upstream,
            attempt.tool,
            attempt.target,
            attempt.environment,
            attempt.principal.agent,
            attempt.principal.run,
            note.as_deref().map_or_else(String::new, |note| format!(": {note}")),
        )
    }
}
