//! What a question narrows down, as SQL with parameters.
//!
//! Names become numbers first: a name that the index has never seen matches nothing, and no text of the question is
//! ever part of the SQL. Verdicts and statuses are written out as numbers, for SQLite uses a partial index only where
//! it can see that the question implies it.

use countersign_model::{ReasonCode, TimeMs};
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension as _};

use crate::error::IndexError;
use crate::fold::Mention;
use crate::schema::{covered, signed, unsigned};
use crate::words::{StatusWord, VerdictWord, kind_number, reason_number};

/// The kinds of records that are calls, or requests that would have been.
pub const CALLS: &[&str] = &["intent", "denial", "proposal", "waiting", "refused"];

/// Which records are asked for: all that satisfy every field that is set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Kinds; empty means [`CALLS`].
    pub kinds: Vec<&'static str>,
    /// By this agent.
    pub agent: Option<String>,
    /// In this run.
    pub run: Option<String>,
    /// In this session.
    pub session: Option<String>,
    /// Of this tool.
    pub tool: Option<String>,
    /// Towards this upstream.
    pub upstream: Option<String>,
    /// In this environment.
    pub environment: Option<String>,
    /// With this verdict.
    pub verdict: Option<VerdictWord>,
    /// With this reason among its reasons.
    pub reason: Option<ReasonCode>,
    /// At this time or later.
    pub since: Option<TimeMs>,
    /// Before this time.
    pub until: Option<TimeMs>,
    /// Whose SQL names this table.
    pub table: Option<String>,
    /// That would reach this host.
    pub host: Option<String>,
    /// That this human answered, or whose consent was redeemed.
    pub approver: Option<String>,
    /// Under this ticket.
    pub ticket: Option<String>,
    /// That ended like this.
    pub status: Option<StatusWord>,
    /// Whose arguments hold all of these words.
    pub text: Option<String>,
}

/// Conditions joined by `AND`.
#[derive(Debug, Default)]
pub(crate) struct Conditions {
    pub(crate) sql: Vec<String>,
    pub(crate) values: Vec<Value>,
    /// A name that was asked for does not occur: nothing can match.
    pub(crate) nothing: bool,
}

impl Conditions {
    fn add(&mut self, sql: &str, value: impl Into<Value>) {
        self.values.push(value.into());
        self.sql.push(sql.replace('?', &format!("?{}", self.values.len())));
    }

    fn name(&mut self, connection: &Connection, sql: &str, name: Option<&str>) -> Result<(), IndexError> {
        let Some(name) = name else { return Ok(()) };
        match word(connection, name)? {
            Some(number) => self.add(sql, number),
            None => self.nothing = true,
        }
        Ok(())
    }

    pub(crate) fn clause(&self) -> String {
        if self.sql.is_empty() { "1".to_owned() } else { self.sql.join(" AND ") }
    }
}

impl Filter {
    pub(crate) fn conditions(&self, connection: &Connection) -> Result<Conditions, IndexError> {
        let mut out = Conditions::default();
        out.name(connection, "r.agent = ?", self.agent.as_deref())?;
        out.name(connection, "r.run = ?", self.run.as_deref())?;
        out.name(connection, "r.session = ?", self.session.as_deref())?;
        out.name(connection, "r.tool = ?", self.tool.as_deref())?;
        out.name(connection, "r.upstream = ?", self.upstream.as_deref())?;
        out.name(connection, "r.environment = ?", self.environment.as_deref())?;
        // Tables stand in lower case in the facts.
        let table = self.table.as_ref().map(|table| table.to_lowercase());
        let host = self.host.as_ref().map(|host| host.to_lowercase());
        let mentions = [
            (Mention::Table, table.as_deref()),
            (Mention::Host, host.as_deref()),
            (Mention::Approver, self.approver.as_deref()),
        ];
        for (kind, name) in mentions {
            let sql = format!("r.leaf IN (SELECT leaf FROM mention WHERE kind = {} AND name = ?)", kind as i64);
            out.name(connection, &sql, name)?;
        }
        if let Some(ticket) = &self.ticket {
            out.add("r.ticket = ?", ticket.clone());
        }
        if let Some(reason) = self.reason {
            self.with_reason(connection, reason, &mut out)?;
        }
        self.with_numbers(&mut out);
        self.with_time(connection, &mut out)?;
        self.with_text(connection, &mut out)?;
        Ok(out)
    }

    fn with_reason(&self, connection: &Connection, code: ReasonCode, out: &mut Conditions) -> Result<(), IndexError> {
        let first = reason_number(code).unwrap_or(-1);
        match word(connection, code.as_str())? {
            Some(later) => {
                let kind = Mention::Reason as i64;
                out.add(
                    &format!(
                        "(r.reason = {first} OR r.leaf IN (SELECT leaf FROM mention WHERE kind = {kind} AND name = ?))"
                    ),
                    later,
                );
            }
            None => out.sql.push(format!("r.reason = {first}")),
        }
        Ok(())
    }

    fn with_numbers(&self, out: &mut Conditions) {
        if let Some(verdict) = self.verdict {
            out.sql.push(format!("r.verdict = {}", verdict.number()));
        }
        match self.status {
            None => {}
            Some(StatusWord::Open) => {
                let intent = kind_number("intent").unwrap_or(-1);
                out.sql.push(format!("r.kind = {intent} AND r.outcome IS NULL"));
            }
            Some(StatusWord::Done) => out.sql.push(format!("r.status = {}", StatusWord::Done.number())),
            Some(status) => out.sql.push(format!("r.status = {} AND r.status > 0", status.number())),
        }
        // A verdict implies a call, so the common question needs no further test.
        if self.kinds.is_empty() && self.verdict.is_some() {
            return;
        }
        let kinds = if self.kinds.is_empty() { CALLS } else { &self.kinds };
        let numbers: Vec<String> = kinds.iter().filter_map(|kind| kind_number(kind)).map(|n| n.to_string()).collect();
        out.sql.push(format!("r.kind IN ({})", numbers.join(", ")));
    }

    /// Records are in the order of time, so a span of time is a span of leaves.
    fn with_time(&self, connection: &Connection, out: &mut Conditions) -> Result<(), IndexError> {
        if let Some(since) = self.since {
            out.add("r.leaf >= ?", signed(first_at(connection, since)?));
        }
        if let Some(until) = self.until {
            out.add("r.leaf < ?", signed(first_at(connection, until)?));
        }
        Ok(())
    }

    fn with_text(&self, connection: &Connection, out: &mut Conditions) -> Result<(), IndexError> {
        let Some(text) = &self.text else { return Ok(()) };
        if !covered(connection)?.full_text {
            return Err(IndexError::NoText);
        }
        // Every word is quoted: none of it is an operator.
        let words: Vec<String> =
            text.split_whitespace().map(|word| format!("\"{}\"", word.replace('"', "\"\""))).collect();
        if words.is_empty() {
            out.nothing = true;
            return Ok(());
        }
        out.add("r.leaf IN (SELECT rowid FROM arguments WHERE arguments MATCH ?)", words.join(" "));
        Ok(())
    }
}

/// The number of a word that the index knows.
pub(crate) fn word(connection: &Connection, text: &str) -> Result<Option<i64>, IndexError> {
    let mut statement = connection.prepare_cached("SELECT id FROM word WHERE text = ?1")?;
    Ok(statement.query_row([text], |row| row.get(0)).optional()?)
}

/// The first leaf at `time` or later, by halving.
pub(crate) fn first_at(connection: &Connection, time: TimeMs) -> Result<u64, IndexError> {
    let mut probe = connection.prepare_cached("SELECT leaf, at FROM record WHERE leaf >= ?1 ORDER BY leaf LIMIT 1")?;
    let (mut low, mut high) = (0, covered(connection)?.edge.size());
    while low < high {
        let middle = low.midpoint(high);
        let found = probe.query_row([signed(middle)], |row| Ok((unsigned(row.get(0)?), unsigned(row.get(1)?))));
        match found.optional()? {
            Some((leaf, at)) if at < time.0 => low = leaf.saturating_add(1),
            _ => high = middle,
        }
    }
    Ok(low)
}
