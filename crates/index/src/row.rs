//! One row of an answer: a record, and what became of it.

use rusqlite::Connection;

use crate::error::IndexError;
use crate::fold::Mention;
use crate::schema::unsigned;
use crate::words::{StatusWord, VerdictWord, effect_word, kind_word, reason_word};

/// A record as the index knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// Its index in the log.
    pub leaf: u64,
    /// When, in milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// What kind of record: `intent`, `denial`, …
    pub kind: &'static str,
    /// The verdict of a call; `deny` for a refused request.
    pub verdict: Option<&'static str>,
    /// Reason codes, most important first.
    pub reasons: Vec<&'static str>,
    /// The agent.
    pub agent: Option<String>,
    /// The run.
    pub run: Option<String>,
    /// The session.
    pub session: Option<String>,
    /// The upstream.
    pub upstream: Option<String>,
    /// The tool.
    pub tool: Option<String>,
    /// What it changes.
    pub target: Option<String>,
    /// Where.
    pub environment: Option<String>,
    /// The worst that it does.
    pub effect: Option<&'static str>,
    /// Tables that its SQL names, sorted.
    pub tables: Vec<String>,
    /// Hosts that it would reach, sorted. No fact of this version names one.
    pub hosts: Vec<String>,
    /// Humans who answered its proposal or whose consent it redeemed, sorted.
    pub approvers: Vec<String>,
    /// The ticket.
    pub ticket: Option<String>,
    /// How many alike it stands for.
    pub count: u64,
    /// The human behind a consent or command.
    pub human: Option<String>,
    /// The intent of the call that it says that it continues.
    pub continues: Option<u64>,
    /// What became of an allowed call.
    pub ended: Option<Ended>,
}

/// What became of an allowed call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// The outcome's index in the log.
    pub leaf: u64,
    /// How it ended.
    pub status: &'static str,
    /// Rows touched.
    pub rows: Option<u64>,
    /// Bytes sent upstream.
    pub bytes_sent: u64,
    /// Milliseconds from permit to end.
    pub duration_ms: u64,
    /// What it cost, in millionths of a dollar.
    pub cost_microusd: Option<u64>,
}

impl Row {
    /// The word for how it ended; `open` for an intent without an outcome.
    #[must_use]
    pub fn status(&self) -> Option<&'static str> {
        match (&self.ended, self.kind) {
            (Some(ended), _) => Some(ended.status),
            (None, "intent") => Some(StatusWord::Open.as_str()),
            (None, _) => None,
        }
    }
}

/// The columns of a row, for [`read`].
pub(crate) const COLUMNS: &str = "r.leaf, r.at, r.kind, r.verdict, r.reason, \
    (SELECT text FROM word WHERE id = r.agent), (SELECT text FROM word WHERE id = r.run), \
    (SELECT text FROM word WHERE id = r.session), (SELECT text FROM word WHERE id = r.upstream), \
    (SELECT text FROM word WHERE id = r.tool), (SELECT text FROM word WHERE id = r.target), \
    (SELECT text FROM word WHERE id = r.environment), r.effect, r.ticket, r.count, \
    (SELECT text FROM word WHERE id = r.human), r.outcome, r.status, r.rows, r.bytes_sent, r.duration_ms, r.cost_microusd, \
    r.continues";

/// Reads a row whose columns are [`COLUMNS`].
pub(crate) fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Row> {
    let outcome: Option<i64> = row.get(16)?;
    let ended = match outcome {
        None => None,
        Some(leaf) => Some(Ended {
            leaf: unsigned(leaf),
            status: StatusWord::from_number(row.get(17)?).map_or("", StatusWord::as_str),
            rows: row.get::<_, Option<i64>>(18)?.map(unsigned),
            bytes_sent: unsigned(row.get(19)?),
            duration_ms: unsigned(row.get(20)?),
            cost_microusd: row.get::<_, Option<i64>>(21)?.map(unsigned),
        }),
    };
    Ok(Row {
        leaf: unsigned(row.get(0)?),
        at_ms: unsigned(row.get(1)?),
        kind: kind_word(row.get(2)?).unwrap_or(""),
        verdict: row.get::<_, Option<i64>>(3)?.and_then(VerdictWord::from_number).map(VerdictWord::as_str),
        reasons: row.get::<_, Option<i64>>(4)?.and_then(reason_word).into_iter().collect(),
        agent: row.get(5)?,
        run: row.get(6)?,
        session: row.get(7)?,
        upstream: row.get(8)?,
        tool: row.get(9)?,
        target: row.get(10)?,
        environment: row.get(11)?,
        effect: row.get::<_, Option<i64>>(12)?.and_then(effect_word),
        ticket: row.get(13)?,
        count: unsigned(row.get(14)?),
        human: row.get(15)?,
        continues: row.get::<_, Option<i64>>(22)?.map(unsigned),
        ended,
        ..Row::default()
    })
}

/// Puts in what a row mentions.
pub(crate) fn mentions(connection: &Connection, row: &mut Row) -> Result<(), IndexError> {
    let sql =
        "SELECT m.kind, w.text FROM mention m JOIN word w ON w.id = m.name WHERE m.leaf = ?1 ORDER BY m.kind, w.text";
    let mut statement = connection.prepare_cached(sql)?;
    let found = statement.query_map([crate::schema::signed(row.leaf)], |found| {
        Ok((found.get::<_, i64>(0)?, found.get::<_, String>(1)?))
    })?;
    for found in found {
        let (kind, text) = found?;
        match kind {
            kind if kind == Mention::Table as i64 => row.tables.push(text),
            kind if kind == Mention::Host as i64 => row.hosts.push(text),
            kind if kind == Mention::Approver as i64 => row.approvers.push(text),
            _ => row
                .reasons
                .extend(countersign_model::ReasonCode::ALL.iter().map(|code| code.as_str()).find(|code| *code == text)),
        }
    }
    Ok(())
}
