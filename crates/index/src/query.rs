//! Asking for records: the newest that match, and which tree the answer covers.

use countersign_model::TimeMs;
use countersign_receipt::merkle::TreeHead;
use rusqlite::params_from_iter;

use crate::error::IndexError;
use crate::filter::{Filter, first_at};
use crate::row::{COLUMNS, Row, mentions, read};
use crate::schema::{Index, covered, signed, unsigned};
use crate::words::kind_number;

/// Rows, and what they were looked for in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The tree that the index covers: what is later in the log was not looked at.
    pub covered: TreeHead,
    /// The newest that match, oldest first.
    pub rows: Vec<Row>,
    /// Whether older ones match too.
    pub more: bool,
}

impl Index {
    /// The newest `limit` records that match.
    ///
    /// # Errors
    /// [`IndexError::NoText`] where text is asked for and none is kept; else [`IndexError::Sqlite`].
    pub fn query(&self, filter: &Filter, limit: u64) -> Result<Answer, IndexError> {
        // One view of the file: what a writer adds meanwhile belongs to the next answer.
        let view = self.connection.unchecked_transaction()?;
        let head = covered(&view)?.edge.head();
        let conditions = filter.conditions(&view)?;
        if conditions.nothing {
            return Ok(Answer { covered: head, rows: Vec::new(), more: false });
        }
        let asked = limit.saturating_add(1);
        let sql = format!(
            "SELECT {COLUMNS} FROM record r WHERE {} ORDER BY r.leaf DESC LIMIT {}",
            conditions.clause(),
            signed(asked)
        );
        let mut statement = view.prepare_cached(&sql)?;
        let found = statement.query_map(params_from_iter(&conditions.values), read)?;
        let mut rows = found.collect::<Result<Vec<_>, _>>()?;
        let more = rows.len() as u64 > limit;
        if more {
            rows.pop();
        }
        for row in &mut rows {
            mentions(&view, row)?;
        }
        rows.reverse();
        Ok(Answer { covered: head, rows, more })
    }

    /// How SQLite would find the answer: one line a step.
    ///
    /// # Errors
    /// As [`Index::query`].
    pub fn plan(&self, filter: &Filter) -> Result<Vec<String>, IndexError> {
        let conditions = filter.conditions(&self.connection)?;
        let sql = format!(
            "EXPLAIN QUERY PLAN SELECT {COLUMNS} FROM record r WHERE {} ORDER BY r.leaf DESC LIMIT 100",
            conditions.clause()
        );
        let mut statement = self.connection.prepare(&sql)?;
        let steps = statement.query_map(params_from_iter(&conditions.values), |row| row.get(3))?;
        Ok(steps.collect::<Result<_, _>>()?)
    }

    /// The first record at `time` or later.
    ///
    /// # Errors
    /// [`IndexError::Sqlite`].
    pub fn first_at(&self, time: TimeMs) -> Result<u64, IndexError> {
        first_at(&self.connection, time)
    }

    /// Every leaf that belongs to a run, sorted: its calls with their outcomes, consents and expiries of its tickets,
    /// commands for its sessions, and the kills that covered it while it ran. Empty for an unknown run.
    ///
    /// # Errors
    /// [`IndexError::Sqlite`].
    pub fn leaves_of_run(&self, run: &str) -> Result<(TreeHead, Vec<u64>), IndexError> {
        let view = self.connection.unchecked_transaction()?;
        let head = covered(&view)?.edge.head();
        let Some(run) = crate::filter::word(&view, run)? else {
            return Ok((head, Vec::new()));
        };
        let [killed, commanded] = ["killed", "commanded"].map(|kind| kind_number(kind).unwrap_or(-1));
        let sql = format!(
            "WITH own AS MATERIALIZED (SELECT leaf, outcome, ticket, agent, session FROM record WHERE run = ?1) \
             SELECT leaf FROM own \
             UNION SELECT outcome FROM own WHERE outcome IS NOT NULL \
             UNION SELECT r.leaf FROM record r WHERE r.ticket IN (SELECT ticket FROM own WHERE ticket IS NOT NULL) \
             UNION SELECT r.leaf FROM record r WHERE r.leaf BETWEEN (SELECT min(leaf) FROM own) \
                AND (SELECT max(max(leaf, coalesce(outcome, 0))) FROM own) \
                AND r.kind IN ({killed}, {commanded}) \
                AND (r.session IN (SELECT session FROM own) OR (r.kind = {killed} AND r.run IS NULL \
                    AND (r.agent IS NULL OR r.agent IN (SELECT agent FROM own)))) \
             ORDER BY 1"
        );
        let mut statement = view.prepare_cached(&sql)?;
        let leaves = statement.query_map([run], |row| row.get::<_, i64>(0).map(unsigned))?;
        Ok((head, leaves.collect::<Result<_, _>>()?))
    }
}
