//! Counting: which tools, agents or reasons lead by denials, failures, rows or cost.

use countersign_receipt::merkle::TreeHead;
use rusqlite::params_from_iter;

use crate::error::IndexError;
use crate::filter::Filter;
use crate::fold::Mention;
use crate::schema::{Index, covered, signed, unsigned};
use crate::words::{StatusWord, VerdictWord, kind_number, reason_word};

/// What is ranked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    /// Tools.
    Tools,
    /// Agents.
    Agents,
    /// Runs.
    Runs,
    /// Upstreams.
    Upstreams,
    /// Targets.
    Targets,
    /// Environments.
    Environments,
    /// Reasons, by the first of each call.
    Reasons,
    /// Tables that SQL names.
    Tables,
    /// Humans who answered.
    Approvers,
}

/// By what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// Calls proposed, whatever became of them.
    Calls,
    /// Calls denied and requests refused.
    Denials,
    /// Calls parked for consent.
    Approvals,
    /// Calls that failed.
    Failures,
    /// Calls of which nobody knows what happened.
    Unknowns,
    /// Rows touched.
    Rows,
    /// Cost in millionths of a dollar.
    Cost,
}

impl Of {
    /// Every one, with its word.
    pub const ALL: [(Self, &'static str); 9] = [
        (Self::Tools, "tools"),
        (Self::Agents, "agents"),
        (Self::Runs, "runs"),
        (Self::Upstreams, "upstreams"),
        (Self::Targets, "targets"),
        (Self::Environments, "environments"),
        (Self::Reasons, "reasons"),
        (Self::Tables, "tables"),
        (Self::Approvers, "approvers"),
    ];

    const fn column(self) -> Result<&'static str, Mention> {
        match self {
            Self::Tools => Ok("r.tool"),
            Self::Agents => Ok("r.agent"),
            Self::Runs => Ok("r.run"),
            Self::Upstreams => Ok("r.upstream"),
            Self::Targets => Ok("r.target"),
            Self::Environments => Ok("r.environment"),
            Self::Reasons => Ok("r.reason"),
            Self::Tables => Err(Mention::Table),
            Self::Approvers => Err(Mention::Approver),
        }
    }
}

impl By {
    /// Every one, with its word.
    pub const ALL: [(Self, &'static str); 7] = [
        (Self::Calls, "calls"),
        (Self::Denials, "denials"),
        (Self::Approvals, "approvals"),
        (Self::Failures, "failures"),
        (Self::Unknowns, "unknowns"),
        (Self::Rows, "rows"),
        (Self::Cost, "cost"),
    ];

    const fn sum(self) -> &'static str {
        match self {
            Self::Rows => "sum(r.rows)",
            Self::Cost => "sum(r.cost_microusd)",
            _ => "sum(r.count)",
        }
    }

    /// What is counted at all. It narrows the question further and never replaces a part of it.
    fn condition(self) -> Option<String> {
        // The second half lets SQLite see that the partial index will do.
        let ended = |status: StatusWord| Some(format!("r.status = {} AND r.status > 0", status.number()));
        match self {
            Self::Calls => None,
            Self::Denials => Some(format!("r.verdict = {}", VerdictWord::Deny.number())),
            Self::Approvals => Some(format!("r.kind = {}", kind_number("proposal").unwrap_or(-1))),
            Self::Failures => ended(StatusWord::Failed),
            Self::Unknowns => ended(StatusWord::Unknown),
            Self::Rows => Some("r.rows IS NOT NULL".to_owned()),
            Self::Cost => Some("r.cost_microusd IS NOT NULL".to_owned()),
        }
    }
}

/// One line of a ranking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ranked {
    /// Which tool, agent, …
    pub name: String,
    /// How many, or how much.
    pub amount: u64,
}

/// A ranking, and what it was counted over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ranking {
    /// The tree that the index covers.
    pub covered: TreeHead,
    /// The largest first; equal ones by name.
    pub lines: Vec<Ranked>,
}

impl Index {
    /// The `limit` leaders among what matches.
    ///
    /// # Errors
    /// As [`Index::query`].
    pub fn top(&self, of: Of, by: By, filter: &Filter, limit: u64) -> Result<Ranking, IndexError> {
        let view = self.connection.unchecked_transaction()?;
        let head = covered(&view)?.edge.head();
        // Denials are calls by their verdict: without a test of the kind the answer is in the partial index alone.
        let filter = match by {
            By::Denials if filter.verdict.is_none() && filter.kinds.is_empty() => {
                Filter { verdict: Some(VerdictWord::Deny), ..filter.clone() }
            }
            _ => filter.clone(),
        };
        let mut conditions = filter.conditions(&view)?;
        if conditions.nothing {
            return Ok(Ranking { covered: head, lines: Vec::new() });
        }
        conditions.sql.extend(by.condition());
        let sql = match of.column() {
            Ok(column) => {
                format!(
                    "SELECT {column}, {} FROM record r WHERE {column} IS NOT NULL AND {} GROUP BY 1",
                    by.sum(),
                    conditions.clause()
                )
            }
            Err(mention) => format!(
                "SELECT m.name, {} FROM mention m JOIN record r ON r.leaf = m.leaf WHERE m.kind = {} AND {} GROUP BY 1",
                by.sum(),
                mention as i64,
                conditions.clause()
            ),
        };
        let name = if of == Of::Reasons { "t.n" } else { "(SELECT text FROM word WHERE id = t.n)" };
        let sql = format!("WITH t (n, amount) AS ({sql}) SELECT {name}, t.amount FROM t ORDER BY 2 DESC");
        let mut statement = view.prepare_cached(&sql)?;
        let mut rows = statement.query(params_from_iter(&conditions.values))?;
        let mut lines = Vec::new();
        while let Some(row) = rows.next()? {
            let name = match of {
                Of::Reasons => reason_word(row.get(0)?).unwrap_or_default().to_owned(),
                _ => row.get(0)?,
            };
            lines.push(Ranked { name, amount: unsigned(row.get(1)?) });
        }
        lines.retain(|line| line.amount > 0);
        lines.sort_by(|a, b| b.amount.cmp(&a.amount).then_with(|| a.name.cmp(&b.name)));
        lines.truncate(usize::try_from(signed(limit)).unwrap_or(usize::MAX));
        Ok(Ranking { covered: head, lines })
    }
}
