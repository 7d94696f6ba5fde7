//! `log query`: which calls match, newest last, with the size of the log that the answer covers.
//!
//! Beside a running gateway the index's file is read; with none the index is first brought up to the log. A row names
//! its leaf, which `log receipt` proves. That no row is missing a proof of inclusion cannot show, and the answer says so.

mod table;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use anyhow::Result;
use countersign_index::{Answer, By, Filter, Index, IndexError, Of, Options, Ranking, Row, StatusWord, VerdictWord};
use countersign_ledger::{Reader, Store};
use countersign_model::{ReasonCode, TimeMs};
use countersign_receipt::merkle::TreeHead;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::cli::Query;
use crate::config::{duration_ms, full_text};
use crate::context::{Context, progress, wall, when};
use crate::feed;
use crate::terminal::{Exit, FAINT, usage};

/// How long an answer beside a running gateway waits for the index to come up to the log.
const FRESH_WAIT: Duration = Duration::from_secs(3);
/// What every answer says about itself.
const CAVEAT: &str =
    "each row can be proved with `countersign log receipt INDEX`; inclusion does not prove that no row is missing";

/// Runs the command.
pub(crate) fn run(query: &Query, context: &Context) -> Result<Exit> {
    let filter = filter(query, wall())?;
    let ranked = query.top.as_deref().map(|of| of_word(of).map(|of| (of, query.by.as_deref()))).transpose()?;
    let index = open(context)?;
    match ranked {
        Some((of, by)) => {
            let by = by.map_or(Ok(By::Calls), by_word)?;
            let ranking = index.top(of, by, &filter, query.limit)?;
            ranking_out(&ranking, query, context);
        }
        None if query.by.is_some() => {
            return Err(usage("`--by` says how `--top` counts; add `--top tools`, for example"));
        }
        None => answer_out(&index.query(&filter, query.limit)?, query, context),
    }
    Ok(Exit::Done)
}

/// The index, as fresh as it can be had.
pub(crate) fn open(context: &Context) -> Result<Index> {
    let path = context.layout.index();
    let reader = Reader::new(&Store::real(context.layout.ledger()));
    if super::log::is_running(context) {
        let wanted = reader.head()?.size;
        let until = Instant::now() + FRESH_WAIT;
        loop {
            let index = Index::open_read_only(&path);
            let late = Instant::now() >= until;
            match index {
                Ok(index) if late || index.head()?.size >= wanted => return Ok(index),
                Err(error) if late || !matches!(error, IndexError::Absent { .. } | IndexError::Sqlite(_)) => {
                    return Err(error.into());
                }
                _ => std::thread::sleep(Duration::from_millis(25)),
            }
        }
    }
    super::log::must_exist(&context.layout)?;
    let options = match full_text(&context.layout.config()) {
        Ok(full_text) => Options { full_text },
        // Without a readable configuration the index stays as it is.
        Err(_) => Index::open_read_only(&path).and_then(|index| index.options()).unwrap_or_default(),
    };
    let mut index = Index::open(&path, options)?;
    let bar = progress(!context.out.json);
    feed::catch_up(&mut index, &reader, &mut |done, total| {
        bar.set_length(total);
        bar.set_position(done);
        true
    })?;
    bar.finish_and_clear();
    Ok(index)
}

/// What the command line asks for, checked.
pub(crate) fn filter(query: &Query, now: TimeMs) -> Result<Filter> {
    Ok(Filter {
        kinds: query.kind.iter().map(|kind| kind_word(kind)).collect::<Result<_>>()?,
        agent: query.agent.clone(),
        run: query.run.clone(),
        session: query.session.clone(),
        tool: query.tool.clone(),
        upstream: query.upstream.clone(),
        environment: query.environment.clone(),
        verdict: query.verdict.as_deref().map(verdict_word).transpose()?,
        reason: query.reason.as_deref().map(reason_word).transpose()?,
        since: query.since.as_deref().map(|text| moment(text, now)).transpose()?,
        until: query.until.as_deref().map(|text| moment(text, now)).transpose()?,
        table: query.table.clone(),
        host: query.host.clone(),
        approver: query.approver.clone(),
        ticket: query.ticket.clone(),
        status: query.status.as_deref().map(status_word).transpose()?,
        text: query.text.clone(),
    })
}

/// A point in time: RFC 3339, or a duration before now such as `2h`.
pub(crate) fn moment(text: &str, now: TimeMs) -> Result<TimeMs> {
    if let Ok(ms) = duration_ms(text) {
        return Ok(TimeMs(now.0.saturating_sub(ms)));
    }
    let time = OffsetDateTime::parse(text, &Rfc3339).ok();
    let ms = time.and_then(|time| u64::try_from(time.unix_timestamp_nanos().div_euclid(1_000_000)).ok());
    ms.map(TimeMs).ok_or_else(|| {
        usage(format!(
            "`{text}` is no time; write one such as `2026-11-21T14:00:00Z`, or how long ago, such as `90m`, `2h` or `7d`"
        ))
    })
}

fn chosen<T: Copy>(what: &str, text: &str, all: impl Iterator<Item = (T, &'static str)> + Clone) -> Result<T> {
    all.clone().find(|(_, word)| *word == text).map(|(found, _)| found).ok_or_else(|| {
        let words: Vec<_> = all.map(|(_, word)| word).collect();
        usage(format!("`{text}` is no {what}; use one of {}", words.join(", ")))
    })
}

fn verdict_word(text: &str) -> Result<VerdictWord> {
    chosen("verdict", text, VerdictWord::ALL.into_iter().map(|verdict| (verdict, verdict.as_str())))
}

fn status_word(text: &str) -> Result<StatusWord> {
    chosen("status", text, StatusWord::ALL.into_iter().map(|status| (status, status.as_str())))
}

fn reason_word(text: &str) -> Result<ReasonCode> {
    chosen("reason", text, ReasonCode::ALL.iter().map(|code| (*code, code.as_str())))
}

fn kind_word(text: &str) -> Result<&'static str> {
    // An outcome completes the row of its intent.
    let kinds = countersign_index::kinds().iter().filter(|kind| **kind != "outcome");
    chosen("kind of record", text, kinds.map(|kind| (*kind, *kind)))
}

fn of_word(text: &str) -> Result<Of> {
    chosen("thing to rank", text, Of::ALL.into_iter())
}

fn by_word(text: &str) -> Result<By> {
    chosen("measure", text, By::ALL.into_iter())
}

/// The first record that is kept, where that can be said.
fn begins(context: &Context) -> u64 {
    Reader::new(&Store::real(context.layout.ledger())).minimum().unwrap_or(0)
}

/// What an answer covers, for programs.
pub(crate) fn covered_value(covered: &TreeHead, context: &Context) -> Value {
    json!({"from": begins(context), "size": covered.size, "root": covered.root.to_string()})
}

/// What an answer covers, for people.
pub(crate) fn covered_line(covered: &TreeHead, context: &Context) -> String {
    let log = Reader::new(&Store::real(context.layout.ledger())).head().map_or(covered.size, |head| head.size);
    let behind = match log.saturating_sub(covered.size) {
        0 => String::new(),
        behind => format!("; {behind} newer records are not covered yet"),
    };
    let records = match begins(context) {
        0 => format!("the first {} records", covered.size),
        from => format!("records {from} to {}, what came before is pruned", covered.size),
    };
    format!("covers {records}, root {}{behind}", covered.root)
}

fn answer_out(answer: &Answer, query: &Query, context: &Context) {
    let more =
        if answer.more { format!("; older ones match too, raise `--limit {}`", query.limit) } else { String::new() };
    let covered = covered_line(&answer.covered, context);
    if query.csv && !context.out.json {
        anstream::eprintln!("{covered}{more}; {CAVEAT}");
        context.out.result(&Value::Null, &table::csv(&answer.rows));
        return;
    }
    let rows: Vec<Value> = answer.rows.iter().map(row_value).collect();
    let value = json!({"covered": covered_value(&answer.covered, context), "complete": !answer.more, "rows": rows, "note": CAVEAT});
    let text = format!(
        "{}{FAINT}{} rows{more}; {covered}\n{CAVEAT}{FAINT:#}",
        table::rows(&answer.rows, crate::terminal::width()),
        answer.rows.len()
    );
    context.out.result(&value, &text);
}

fn ranking_out(ranking: &Ranking, query: &Query, context: &Context) {
    let (of, by) = (query.top.as_deref().unwrap_or_default(), query.by.as_deref().unwrap_or("calls"));
    let covered = covered_line(&ranking.covered, context);
    if query.csv && !context.out.json {
        anstream::eprintln!("{covered}");
        context.out.result(&Value::Null, &table::ranking_csv(ranking, of, by));
        return;
    }
    let lines: Vec<Value> =
        ranking.lines.iter().map(|line| json!({"name": line.name, "amount": line.amount})).collect();
    let value = json!({"covered": covered_value(&ranking.covered, context), "top": of, "by": by, "lines": lines});
    let text = format!("{}{FAINT}{covered}{FAINT:#}", table::ranking(ranking, of, by));
    context.out.result(&value, &text);
}

/// A row for programs.
pub(crate) fn row_value(row: &Row) -> Value {
    let ended = row.ended.as_ref().map(|ended| {
        json!({
            "index": ended.leaf, "rows": ended.rows, "bytes_sent": ended.bytes_sent,
            "duration_ms": ended.duration_ms, "cost_microusd": ended.cost_microusd,
        })
    });
    json!({
        "index": row.leaf, "at": when(row.at_ms), "at_ms": row.at_ms, "kind": row.kind, "verdict": row.verdict,
        "reasons": row.reasons, "agent": row.agent, "run": row.run, "session": row.session, "upstream": row.upstream,
        "tool": row.tool, "target": row.target, "environment": row.environment, "effect": row.effect,
        "tables": row.tables, "hosts": row.hosts, "approvers": row.approvers, "ticket": row.ticket,
        "count": row.count, "human": row.human, "continues": row.continues, "status": row.status(), "outcome": ended,
    })
}
