//! `log unknown`: actions whose outcome is not known, for a human to look into.
//!
//! An intent without an outcome becomes `unknown` at the next start; a call that was cut off on the way is `unknown` at
//! once. Until that start, and for a call in flight, there is no outcome on record: those are listed too. Nothing is
//! retried, so somebody has to look at the target. It reads the files and asks nobody.

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
    // Asked after the walk: a gateway that starts meanwhile may still be about to write them.
    let open = if is_running(context) { "no outcome on record, or still in flight" } else { "no outcome on record" };
    let lines: Vec<String> = found.iter().map(|unknown| unknown.line(open)).collect();
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
    /// None where the intent is pruned.
    attempt: Option<Attempt>,
    outcome: Option<Recorded>,
}

/// The outcome, where one is on record.
struct Recorded {
    index: u64,
    at_ms: u64,
    note: Option<String>,
}

fn collect(context: &Context) -> Result<Vec<Unknown>, verify::WalkError> {
    let bar = progress(!context.out.json);
    let mut seen = Seen::default();
    let mut visit = |stored: Stored<'_>| {
        let record = Record::from_leaf(stored.leaf).map_err(|error| VisitError::new(error.to_string()))?;
        seen.take(stored.index, record);
        Ok(())
    };
    let walker = Walker { vault: None, begin: &mut |_| Ok(()), visit: &mut visit };
    let walked = walk::walk(&Store::real(context.layout.ledger()), None, walker, |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    });
    bar.finish_and_clear();
    walked.map(|_| seen.finish())
}

/// What was read so far.
#[derive(Default)]
struct Seen {
    open: BTreeMap<u64, Attempt>,
    found: Vec<Unknown>,
}

impl Seen {
    fn take(&mut self, index: u64, record: Record) {
        match record.body {
            Body::Intent(attempt) => {
                self.open.insert(index, *attempt);
            }
            Body::Outcome(outcome) => {
                let attempt = self.open.remove(&outcome.intent.0);
                if outcome.status == Status::Unknown {
                    let recorded = Recorded { index, at_ms: record.at.0, note: outcome.note };
                    self.found.push(Unknown { intent: outcome.intent.0, attempt, outcome: Some(recorded) });
                }
            }
            _ => {}
        }
    }

    fn finish(self) -> Vec<Unknown> {
        let Self { open, mut found } = self;
        let unended = |(intent, attempt)| Unknown { intent, attempt: Some(attempt), outcome: None };
        found.extend(open.into_iter().map(unended));
        found
    }
}

impl Unknown {
    fn value(&self) -> Value {
        let Self { intent, outcome, attempt } = self;
        let (index, at_ms, note) = match outcome {
            Some(Recorded { index, at_ms, note }) => (Some(index), Some(at_ms), note.as_ref()),
            None => (None, None, None),
        };
        let Some(attempt) = attempt else {
            return json!({"intent": intent, "outcome": index, "pruned": true, "recorded_ms": at_ms, "note": note});
        };
        json!({
            "intent": intent, "outcome": index, "pruned": false, "agent": attempt.principal.agent.as_str(),
            "run": attempt.principal.run.as_str(), "upstream": attempt.upstream.as_str(),
            "tool": attempt.tool.as_str(), "target": attempt.target.as_str(),
            "environment": attempt.environment.as_str(), "proposed_ms": attempt.proposed_at.0,
            "recorded_ms": at_ms, "note": note,
        })
    }

    /// For people; `open` says what it means that there is no outcome.
    fn line(&self, open: &str) -> String {
        let Self { intent, outcome, attempt } = self;
        let ended = outcome.as_ref().map_or_else(|| open.to_owned(), |outcome| format!("outcome {}", outcome.index));
        let Some(attempt) = attempt else {
            let at_ms = outcome.as_ref().map_or(0, |outcome| outcome.at_ms);
            return format!("{} intent {intent}, {ended}: the intent is pruned", when(at_ms));
        };
        let note = outcome.as_ref().and_then(|outcome| outcome.note.as_deref());
        format!(
            "{} intent {intent}, {ended}: {}/{} on {} ({}) by {}, run {}{}",
            when(attempt.proposed_at.0),
            attempt.upstream,
            attempt.tool,
            attempt.target,
            attempt.environment,
            attempt.principal.agent,
            attempt.principal.run,
            note.map_or_else(String::new, |note| format!(": {note}")),
        )
    }
}
