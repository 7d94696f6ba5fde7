//! The record in formats of other tools: one JSON object a line, one line a call.
//!
//! An intent and its outcome become one line when the outcome comes; an intent without one is written last, as open. A
//! format is one module with one function from a [`Line`] to JSON, or to nothing. Exports are views for tools that watch
//! many systems: they prove nothing, and carry each record's index so that its receipt can be had.

mod ocsf;
mod otel;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use countersign_model::record::Outcome;
use countersign_model::{Body, Record, TimeMs};
use serde_json::Value;

/// The formats by their words.
pub(crate) const FORMATS: [(Format, &str); 2] = [(Format::Ocsf, "ocsf"), (Format::Otel, "otel")];

/// A format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// Open Cybersecurity Schema Framework.
    Ocsf,
    /// OpenTelemetry spans as OTLP JSON.
    Otel,
}

/// What one line tells of.
#[derive(Debug)]
pub(crate) struct Line<'a> {
    /// The log's origin.
    pub(crate) log: &'a str,
    /// The record's index in the log.
    pub(crate) leaf: u64,
    /// The record.
    pub(crate) record: &'a Record,
    /// What became of an intent: its index in the log, its time and itself.
    pub(crate) ended: Option<(u64, TimeMs, &'a Outcome)>,
}

/// Joins intents with outcomes and writes lines.
pub(crate) struct Exporter {
    format: Format,
    log: String,
    until: Option<TimeMs>,
    /// Intents whose outcome has not come. Bounded by the number of calls that can be in flight.
    open: BTreeMap<u64, Record>,
}

impl Exporter {
    /// Writes lines of `format` about the log `log`, of what was recorded before `until`.
    pub(crate) fn new(format: Format, log: &str, until: Option<TimeMs>) -> Self {
        Self { format, log: log.to_owned(), until, open: BTreeMap::new() }
    }

    /// Takes the next record; gives a line where one is complete.
    pub(crate) fn take(&mut self, leaf: u64, record: Record) -> Option<Value> {
        if let Body::Outcome(outcome) = &record.body {
            // An intent from before the span has no line here.
            let intent = self.open.remove(&outcome.intent.0)?;
            return self.line(outcome.intent.0, &intent, Some((leaf, record.at, outcome)));
        }
        if self.until.is_some_and(|until| record.at >= until) {
            return None;
        }
        if matches!(record.body, Body::Intent(_)) {
            self.open.insert(leaf, record);
            return None;
        }
        self.line(leaf, &record, None)
    }

    /// Lines of intents that have no outcome.
    pub(crate) fn rest(mut self) -> Vec<Value> {
        let open = std::mem::take(&mut self.open);
        open.iter().filter_map(|(leaf, record)| self.line(*leaf, record, None)).collect()
    }

    fn line(&self, leaf: u64, record: &Record, ended: Option<(u64, TimeMs, &Outcome)>) -> Option<Value> {
        let line = Line { log: &self.log, leaf, record, ended };
        match self.format {
            Format::Ocsf => ocsf::event(&line),
            Format::Otel => otel::export(&line),
        }
    }
}
