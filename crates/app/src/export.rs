//! The record in formats of other tools, one line or row a call.
//!
//! An intent and its outcome become one line when the outcome comes; an intent without one is written last, as open. A
//! format is one module: for JSON one function from a [`Line`] to an object or to nothing, for Parquet a table. Exports are
//! views for tools that watch many systems: they prove nothing, and carry each record's index so that its receipt can be had.

mod ocsf;
mod otel;
#[cfg(feature = "parquet")]
pub(crate) mod parquet;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use countersign_model::record::Outcome;
use countersign_model::{Body, Record, TimeMs};
use serde_json::Value;

/// The formats by their words.
pub(crate) const FORMATS: [(Format, &str); 3] =
    [(Format::Ocsf, "ocsf"), (Format::Otel, "otel"), (Format::Parquet, "parquet")];

/// A format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// Open Cybersecurity Schema Framework.
    Ocsf,
    /// OpenTelemetry spans as OTLP JSON.
    Otel,
    /// Apache Parquet: a row a call. Only with the feature `parquet`.
    Parquet,
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

/// Joins intents with outcomes.
pub(crate) struct Joiner {
    log: String,
    until: Option<TimeMs>,
    /// Intents whose outcome has not come. Bounded by the number of calls that can be in flight.
    open: BTreeMap<u64, Record>,
}

impl Joiner {
    /// Makes lines about the log `log`, of what was recorded before `until`.
    pub(crate) fn new(log: &str, until: Option<TimeMs>) -> Self {
        Self { log: log.to_owned(), until, open: BTreeMap::new() }
    }

    /// Takes the next record; tells a line where one is complete.
    pub(crate) fn take<T>(&mut self, leaf: u64, record: Record, tell: impl FnOnce(&Line<'_>) -> T) -> Option<T> {
        if let Body::Outcome(outcome) = &record.body {
            // An intent from before the span has no line here.
            let intent = self.open.remove(&outcome.intent.0)?;
            let ended = Some((leaf, record.at, outcome));
            return Some(tell(&Line { log: &self.log, leaf: outcome.intent.0, record: &intent, ended }));
        }
        if self.until.is_some_and(|until| record.at >= until) {
            return None;
        }
        if matches!(record.body, Body::Intent(_)) {
            self.open.insert(leaf, record);
            return None;
        }
        Some(tell(&Line { log: &self.log, leaf, record: &record, ended: None }))
    }

    /// Tells the intents that have no outcome.
    pub(crate) fn rest<T>(self, mut tell: impl FnMut(&Line<'_>) -> T) -> Vec<T> {
        let Self { log, open, .. } = self;
        open.iter().map(|(leaf, record)| tell(&Line { log: &log, leaf: *leaf, record, ended: None })).collect()
    }
}

/// The line as JSON; nothing where the format has no place for the record, or is not made of JSON.
pub(crate) fn json(format: Format, line: &Line<'_>) -> Option<Value> {
    match format {
        Format::Ocsf => ocsf::event(line),
        Format::Otel => otel::export(line),
        Format::Parquet => None,
    }
}
