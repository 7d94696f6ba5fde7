//! Apache Parquet: a table of calls and refusals with the columns of the index, a row each, for engines that scan columns.
//!
//! Rows wait until a group is full, so memory does not grow with the log. Text columns are dictionaries where that pays, as the
//! library decides. The file's metadata names the log, its size and its root. It must not know where the file lies.

use std::io::Write;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use countersign_model::record::{Attempt, Outcome, Refused};
use countersign_model::{Body, Principal};
use countersign_receipt::merkle::TreeHead;
use parquet::basic::Compression;
use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

use super::Line;
use crate::show::status;

#[cfg(test)]
mod tests;

/// How many rows wait for one group.
const GROUP_ROWS: usize = 65_536;

/// One value.
enum Cell {
    Number(Option<u64>),
    Text(Option<String>),
}

/// What a row is made of.
struct Row<'a> {
    line: &'a Line<'a>,
    call: Option<&'a Attempt>,
    refused: Option<&'a Refused>,
    ended: Option<(u64, &'a Outcome)>,
}

/// A column: its line in the schema, and its value in a row.
type Column = (&'static str, fn(&Row<'_>) -> Cell);

const COLUMNS: [Column; 23] = [
    ("required int64 leaf", |row| Cell::Number(Some(row.line.leaf))),
    ("required int64 at (TIMESTAMP(MILLIS,true))", |row| Cell::Number(Some(row.line.record.at.0))),
    ("optional int64 proposed_at (TIMESTAMP(MILLIS,true))", |row| {
        Cell::Number(row.call.map(|call| call.proposed_at.0))
    }),
    ("required binary kind (STRING)", |row| text(Some(row.line.record.body.kind()))),
    ("required binary verdict (STRING)", |row| text(Some(row.call.map_or("deny", |call| call.verdict.as_str())))),
    ("optional binary reason (STRING)", |row| text(row.reason())),
    ("optional binary agent (STRING)", |row| text(row.who().map(|who| who.agent.as_str()))),
    ("optional binary run (STRING)", |row| text(row.who().map(|who| who.run.as_str()))),
    ("optional binary session (STRING)", |row| text(row.who().map(|who| who.session.as_str()))),
    ("optional binary upstream (STRING)", |row| text(row.call.map(|call| call.upstream.as_str()))),
    ("optional binary tool (STRING)", |row| text(row.call.map(|call| call.tool.as_str()))),
    ("optional binary target (STRING)", |row| text(row.call.map(|call| call.target.as_str()))),
    ("optional binary environment (STRING)", |row| text(row.call.map(|call| call.environment.as_str()))),
    ("optional binary effect (STRING)", |row| text(row.call.map(|call| call.facts.effect.as_str()))),
    ("required int64 count", |row| Cell::Number(Some(row.refused.map_or(1, |refused| refused.count)))),
    ("optional binary ticket (STRING)", |row| {
        text(row.call.and_then(|call| call.ticket.as_ref()).map(|it| it.as_str()))
    }),
    ("optional int64 outcome", |row| Cell::Number(row.ended.map(|(leaf, _)| leaf))),
    ("optional binary status (STRING)", |row| text(row.status())),
    ("optional int64 rows", |row| Cell::Number(row.ended.and_then(|(_, outcome)| outcome.rows).map(|rows| rows.0))),
    ("optional int64 bytes_sent", |row| Cell::Number(row.ended.map(|(_, outcome)| outcome.bytes_sent.0))),
    ("optional int64 duration_ms", |row| Cell::Number(row.ended.map(|(_, outcome)| outcome.duration_ms))),
    ("optional int64 cost_microusd", |row| Cell::Number(row.ended.and_then(|(_, outcome)| outcome.cost_microusd))),
    ("optional int64 continues", |row| {
        Cell::Number(row.call.and_then(|call| call.continues.as_ref()).map(|continued| continued.intent.0))
    }),
];

fn text(text: Option<&str>) -> Cell {
    Cell::Text(text.map(str::to_owned))
}

impl<'a> Row<'a> {
    /// The row of a call or a refusal; other records have none.
    fn of(line: &'a Line<'a>) -> Option<Self> {
        let call = line.record.body.attempt();
        let refused = match &line.record.body {
            Body::Refused(refused) => Some(refused),
            _ => None,
        };
        let ended = line.ended.map(|(leaf, _, outcome)| (leaf, outcome));
        (call.is_some() || refused.is_some()).then_some(Self { line, call, refused, ended })
    }

    fn who(&self) -> Option<&'a Principal> {
        self.call.map(|call| &call.principal).or(self.refused.and_then(|refused| refused.principal.as_ref()))
    }

    fn reason(&self) -> Option<&'a str> {
        let of_call = self.call.and_then(|call| call.reasons.first());
        of_call.or(self.refused.map(|refused| &refused.reason)).map(|reason| reason.code.as_str())
    }

    /// How it ended; `open` for an intent without an outcome.
    fn status(&self) -> Option<&'static str> {
        match (self.ended, &self.line.record.body) {
            (Some((_, outcome)), _) => Some(status(outcome.status)),
            (None, Body::Intent(_)) => Some("open"),
            (None, _) => None,
        }
    }
}

/// The values of one column that wait, without the missing ones, and for each row whether it has one.
#[derive(Default)]
struct Waiting {
    numbers: Vec<i64>,
    texts: Vec<ByteArray>,
    levels: Vec<i16>,
}

impl Waiting {
    fn push(&mut self, cell: Cell) -> Result<()> {
        let is_there = match cell {
            Cell::Number(number) => {
                let number = number.map(i64::try_from).transpose().context("a number does not fit a column")?;
                self.numbers.extend(number);
                number.is_some()
            }
            Cell::Text(text) => {
                let is_there = text.is_some();
                self.texts.extend(text.as_deref().map(ByteArray::from));
                is_there
            }
        };
        self.levels.push(i16::from(is_there));
        Ok(())
    }
}

/// A table that is being written.
pub(crate) struct Table<W: Write + Send> {
    writer: SerializedFileWriter<W>,
    waiting: Vec<Waiting>,
    rows: u64,
    group_rows: usize,
}

impl<W: Write + Send> Table<W> {
    /// Begins a table about the log `log`, as it is at `head`.
    ///
    /// # Errors
    /// As the writer says.
    pub(crate) fn new(out: W, log: &str, head: &TreeHead) -> Result<Self> {
        let columns: String = COLUMNS.iter().map(|(column, _)| format!("{column}; ")).collect();
        let schema = parse_message_type(&format!("message call {{ {columns} }}"))?;
        let entry = |key: &str, value: String| KeyValue::new(format!("countersign.{key}"), value);
        let metadata = [("log", log.to_owned()), ("size", head.size.to_string()), ("root", head.root.to_string())];
        let properties = WriterProperties::builder()
            .set_created_by(concat!("countersign ", env!("CARGO_PKG_VERSION")).to_owned())
            .set_compression(Compression::SNAPPY)
            .set_key_value_metadata(Some(metadata.map(|(key, value)| entry(key, value)).to_vec()))
            .build();
        let writer = SerializedFileWriter::new(out, Arc::new(schema), Arc::new(properties))?;
        let waiting = COLUMNS.iter().map(|_| Waiting::default()).collect();
        Ok(Self { writer, waiting, rows: 0, group_rows: GROUP_ROWS })
    }

    /// Adds the row of a line; gives whether it has one.
    ///
    /// # Errors
    /// As the writer says.
    pub(crate) fn push(&mut self, line: &Line<'_>) -> Result<bool> {
        let Some(row) = Row::of(line) else { return Ok(false) };
        for ((_, cell), waiting) in COLUMNS.iter().zip(&mut self.waiting) {
            waiting.push(cell(&row))?;
        }
        self.rows += 1;
        let is_full = self.waiting.first().is_some_and(|column| column.levels.len() >= self.group_rows);
        if is_full {
            self.write_group()?;
        }
        Ok(true)
    }

    fn write_group(&mut self) -> Result<()> {
        let mut group = self.writer.next_row_group()?;
        for ((schema, _), waiting) in COLUMNS.iter().zip(&mut self.waiting) {
            let Waiting { numbers, texts, levels } = std::mem::take(waiting);
            let mut column = group.next_column()?.context("the schema has fewer columns than the table")?;
            let levels = schema.starts_with("optional").then_some(levels.as_slice());
            if schema.contains(" int64 ") {
                column.typed::<Int64Type>().write_batch(&numbers, levels, None)?;
            } else {
                column.typed::<ByteArrayType>().write_batch(&texts, levels, None)?;
            }
            column.close()?;
        }
        group.close()?;
        Ok(())
    }

    /// Writes what waits and the file's end; gives the sink, and how many rows there are.
    ///
    /// # Errors
    /// As the writer says.
    pub(crate) fn finish(mut self) -> Result<(W, u64)> {
        if self.waiting.first().is_some_and(|column| !column.levels.is_empty()) {
            self.write_group()?;
        }
        Ok((self.writer.into_inner()?, self.rows))
    }
}
