//! `log show RUN`: a run, from the index's list of its leaves and the records themselves.

use anyhow::Result;
use countersign_ledger::{Reader, Store};
use countersign_model::Record;
use countersign_model::id::RunId;
use serde_json::Value;

use super::query::{covered_line, covered_value};
use crate::context::Context;
use crate::terminal::{Exit, FAINT, unverified, usage};
use crate::timeline::{Timeline, render};

/// Runs the command.
pub(crate) fn show(run: &str, context: &Context) -> Result<Exit> {
    let run = RunId::new(run).map_err(|error| usage(format!("{error}; give a record's index or a run's id")))?;
    let index = super::query::open(context)?;
    let (covered, leaves) = index.leaves_of_run(run.as_str())?;
    if leaves.is_empty() {
        anyhow::bail!(
            "no record of run `{run}`; list runs with `countersign log query --top runs` ({})",
            covered_line(&covered, context)
        );
    }
    let reader = Reader::new(&Store::real(context.layout.ledger()));
    let mut records = Vec::with_capacity(leaves.len());
    for leaf in leaves {
        let stored = reader.record(leaf)?;
        let record =
            Record::from_leaf(&stored.leaf).map_err(|error| unverified(format!("record `{leaf}`: {error}")))?;
        records.push((leaf, record));
    }
    let timeline = Timeline::of(records);
    let mut value = timeline.value(run.as_str());
    if let Value::Object(fields) = &mut value {
        fields.insert("covered".to_owned(), covered_value(&covered, context));
    }
    let covered = covered_line(&covered, context);
    context.out.result(&value, &format!("{}{FAINT}{covered}{FAINT:#}", render(run.as_str(), &timeline)));
    Ok(Exit::Done)
}
