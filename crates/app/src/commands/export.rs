//! `log export`: streams the record through a format, to a file or to standard output.

use std::fs::OpenOptions;
use std::io::{BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt as _;

use anyhow::{Context as _, Result};
use countersign_ledger::{Reader, Store};
use countersign_model::Record;
use serde_json::json;

use super::query::{covered_value, moment};
use crate::cli::Export;
use crate::context::{Context, wall};
use crate::export::{Exporter, FORMATS};
use crate::terminal::{Exit, unverified, usage};

/// Runs the command.
pub(crate) fn run(export: &Export, context: &Context) -> Result<Exit> {
    let format = FORMATS.into_iter().find(|(_, word)| *word == export.format).map(|(format, _)| format);
    let Some(format) = format else {
        let words = FORMATS.map(|(_, word)| word).join(", ");
        return Err(usage(format!("`{}` is no format; use one of {words}", export.format)));
    };
    let now = wall();
    let since = export.since.as_deref().map(|text| moment(text, now)).transpose()?;
    let until = export.until.as_deref().map(|text| moment(text, now)).transpose()?;
    super::log::must_exist(&context.layout)?;
    let reader = Reader::new(&Store::real(context.layout.ledger()));
    let from = match since {
        Some(since) => super::query::open(context)?.first_at(since)?,
        None => 0,
    };
    let head = reader.head()?;
    let key = super::log::read_key(&context.layout.log_vkey().display().to_string())?;
    let mut exporter = Exporter::new(format, key.name(), until);
    let mut out = sink(export)?;
    let mut lines = 0_u64;
    let mut failed: Option<anyhow::Error> = None;
    reader.each(from, head.size, &mut |stored| {
        let line = Record::from_leaf(stored.leaf)
            .map_err(|error| unverified(format!("record `{}`: {error}", stored.index)))
            .and_then(|record| match exporter.take(stored.index, record) {
                Some(line) => {
                    lines += 1;
                    Ok(writeln!(out, "{line}")?)
                }
                None => Ok(()),
            });
        failed = line.err();
        failed.is_none()
    })?;
    if let Some(error) = failed {
        return Err(error.context("the export is not complete"));
    }
    for line in exporter.rest() {
        lines += 1;
        writeln!(out, "{line}")?;
    }
    out.flush()?;
    let said = format!("{lines} lines of records {from} to {} written", head.size);
    match &export.out {
        Some(path) => context.out.result(
            &json!({"file": path, "lines": lines, "covered": covered_value(&head)}),
            &format!("{said} to {}", path.display()),
        ),
        // Standard output holds the lines alone.
        None => anstream::eprintln!("{said}"),
    }
    Ok(Exit::Done)
}

fn sink(export: &Export) -> Result<Box<dyn Write>> {
    let Some(path) = &export.out else {
        return Ok(Box::new(BufWriter::new(std::io::stdout())));
    };
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let file = file.with_context(|| format!("cannot make `{}`; choose a name that is not taken", path.display()))?;
    Ok(Box::new(BufWriter::new(file)))
}
