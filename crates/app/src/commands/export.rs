//! `log export`: streams the record through a format, to a file or to standard output.

use std::io::{BufWriter, Write};

use anyhow::Result;
use countersign_ledger::{Reader, Store};
use countersign_model::Record;
use countersign_receipt::merkle::TreeHead;
use serde_json::json;

use super::query::{covered_value, moment};
use crate::cli::Export;
use crate::context::{Context, wall};
use crate::export::{self, FORMATS, Format, Joiner, Line};
use crate::keys;
use crate::terminal::{Exit, unverified, usage};

/// Runs the command.
pub(crate) fn run(export: &Export, context: &Context) -> Result<Exit> {
    let format = FORMATS.into_iter().find(|(_, word)| *word == export.format).map(|(format, _)| format);
    let Some(format) = format else {
        let words = FORMATS.map(|(_, word)| word).join(", ");
        return Err(usage(format!("`{}` is no format; use one of {words}", export.format)));
    };
    is_possible(format, export)?;
    let now = wall();
    let since = export.since.as_deref().map(|text| moment(text, now)).transpose()?;
    let until = export.until.as_deref().map(|text| moment(text, now)).transpose()?;
    super::log::must_exist(&context.layout)?;
    let reader = Reader::new(&Store::real(context.layout.ledger()));
    let from = match since {
        Some(since) => super::query::open(context)?.first_at(since)?,
        None => 0,
    };
    let from = from.max(reader.minimum()?);
    let head = reader.head()?;
    let key = super::log::read_key(&context.layout.log_vkey().display().to_string())?;
    let mut joiner = Joiner::new(key.name(), until);
    let mut writer = Writer::new(format, export, (key.name(), &head))?;
    let mut failed: Option<anyhow::Error> = None;
    reader.each(from, head.size, &mut |stored| {
        let line = Record::from_leaf(stored.leaf)
            .map_err(|error| unverified(format!("record `{}`: {error}", stored.index)))
            .and_then(|record| joiner.take(stored.index, record, |line| writer.line(line)).transpose());
        failed = line.err();
        failed.is_none()
    })?;
    if let Some(error) = failed {
        return Err(error.context("the export is not complete"));
    }
    joiner.rest(|line| writer.line(line)).into_iter().collect::<Result<()>>()?;
    let lines = writer.finish()?;
    let said = format!("{lines} lines of records {from} to {} written", head.size);
    match &export.out {
        Some(path) => context.out.result(
            &json!({"file": path, "lines": lines, "covered": covered_value(&head, context)}),
            &format!("{said} to {}", path.display()),
        ),
        // Standard output holds the lines alone.
        None => anstream::eprintln!("{said}"),
    }
    Ok(Exit::Done)
}

/// Refuses what this build, or the place that it goes to, cannot take.
fn is_possible(format: Format, export: &Export) -> Result<()> {
    if format != Format::Parquet {
        return Ok(());
    }
    if !cfg!(feature = "parquet") {
        return Err(usage(
            "this program was built without Parquet; build it with `cargo build --features parquet`, or use another format",
        ));
    }
    if export.out.is_none() {
        return Err(usage("a Parquet file is no text; write it to a file with `--out FILE`"));
    }
    Ok(())
}

/// Where lines go.
enum Writer {
    Json {
        format: Format,
        out: Box<dyn Write>,
        lines: u64,
    },
    #[cfg(feature = "parquet")]
    Parquet(Box<export::parquet::Table<BufWriter<std::fs::File>>>),
}

impl Writer {
    #[cfg_attr(not(feature = "parquet"), expect(unused_variables, reason = "JSON lines name the log themselves"))]
    fn new(format: Format, export: &Export, (log, head): (&str, &TreeHead)) -> Result<Self> {
        let file = export.out.as_deref().map(keys::new_file).transpose()?.map(BufWriter::new);
        match (format, file) {
            #[cfg(feature = "parquet")]
            (Format::Parquet, Some(file)) => Ok(Self::Parquet(Box::new(export::parquet::Table::new(file, log, head)?))),
            (format, Some(file)) => Ok(Self::Json { format, out: Box::new(file), lines: 0 }),
            (format, None) => Ok(Self::Json { format, out: Box::new(BufWriter::new(std::io::stdout())), lines: 0 }),
        }
    }

    fn line(&mut self, line: &Line<'_>) -> Result<()> {
        match self {
            Self::Json { format, out, lines } => {
                if let Some(value) = export::json(*format, line) {
                    writeln!(out, "{value}")?;
                    *lines += 1;
                }
                Ok(())
            }
            #[cfg(feature = "parquet")]
            Self::Parquet(table) => table.push(line).map(drop),
        }
    }

    /// Says how many lines there are.
    fn finish(self) -> Result<u64> {
        match self {
            Self::Json { mut out, lines, .. } => {
                out.flush()?;
                Ok(lines)
            }
            #[cfg(feature = "parquet")]
            Self::Parquet(table) => {
                let (mut out, rows) = table.finish()?;
                out.flush()?;
                Ok(rows)
            }
        }
    }
}
