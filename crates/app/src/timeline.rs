//! A run as a timeline: its records as a tree, in the order in which they were decided.
//!
//! An outcome stands under its intent, and a call that goes on with it; consents, repeats, expiry and redemption stand under their proposal; a call whose
//! caller says that it follows from an earlier step stands under that step. The last is a claim, and is shown as one:
//! nothing was decided on it. It must not know where records come from or how they are printed.

#[cfg(test)]
mod tests;
mod text;

use std::collections::{BTreeMap, BTreeSet};

use countersign_model::record::{Attempt, BudgetReading, Status};
use countersign_model::{Body, Record};
use serde_json::{Value, json};

use crate::show::describe;

pub(crate) use text::render;

/// Why a record stands under another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    /// It is the outcome of that intent.
    Outcome,
    /// It belongs to that proposal's ticket.
    Ticket,
    /// It goes on with that call.
    Continues,
    /// Its caller says that it follows from that call.
    Claimed,
}

/// One record of a run.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) leaf: u64,
    pub(crate) record: Record,
    /// Why it stands under its parent; none where it has none.
    pub(crate) link: Option<Link>,
    /// Places in [`Timeline::nodes`], in the order of the log.
    pub(crate) children: Vec<usize>,
}

/// Sums over a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) allowed: u64,
    pub(crate) denied: u64,
    pub(crate) parked: u64,
    pub(crate) repeated: u64,
    pub(crate) failed: u64,
    pub(crate) unknown: u64,
    pub(crate) open: u64,
    pub(crate) rows: u64,
    pub(crate) bytes_sent: u64,
    pub(crate) busy_ms: u64,
    /// None where no outcome names a cost.
    pub(crate) cost_microusd: Option<u64>,
}

/// A run.
#[derive(Debug, Default)]
pub(crate) struct Timeline {
    pub(crate) nodes: Vec<Node>,
    /// Nodes without a parent.
    pub(crate) roots: Vec<usize>,
    pub(crate) agents: BTreeSet<String>,
    pub(crate) sessions: BTreeSet<String>,
    pub(crate) totals: Totals,
    /// Budgets as the last call read them, before it was counted.
    pub(crate) budgets: Vec<BudgetReading>,
}

/// Where a later record finds what it belongs to.
#[derive(Default)]
struct Known {
    intents: BTreeMap<u64, usize>,
    tickets: BTreeMap<String, usize>,
    steps: BTreeMap<String, usize>,
}

impl Timeline {
    /// The timeline of `records`, which are in the order of the log.
    pub(crate) fn of(records: Vec<(u64, Record)>) -> Self {
        let mut out = Self::default();
        let mut known = Known::default();
        for (leaf, record) in records {
            let at = out.nodes.len();
            let parent = known.parent(&record);
            known.learn(at, leaf, &record);
            out.count(&record);
            let link = parent.map(|(_, link)| link);
            let above = parent.and_then(|(above, _)| out.nodes.get_mut(above));
            match above {
                Some(above) => above.children.push(at),
                None => out.roots.push(at),
            }
            out.nodes.push(Node { leaf, record, link, children: Vec::new() });
        }
        out
    }

    fn count(&mut self, record: &Record) {
        let totals = &mut self.totals;
        match &record.body {
            Body::Intent(_) => {
                totals.allowed += 1;
                totals.open += 1;
            }
            Body::Denial(_) => totals.denied += 1,
            Body::Refused(refused) => totals.denied = totals.denied.saturating_add(refused.count),
            Body::Proposal(_) => totals.parked += 1,
            Body::Waiting(_) => totals.repeated += 1,
            Body::Outcome(outcome) => {
                totals.open = totals.open.saturating_sub(1);
                totals.failed += u64::from(outcome.status == Status::Failed);
                totals.unknown += u64::from(outcome.status == Status::Unknown);
                totals.rows = totals.rows.saturating_add(outcome.rows.map_or(0, |rows| rows.0));
                totals.bytes_sent = totals.bytes_sent.saturating_add(outcome.bytes_sent.0);
                totals.busy_ms = totals.busy_ms.saturating_add(outcome.duration_ms);
                if let Some(cost) = outcome.cost_microusd {
                    totals.cost_microusd = Some(totals.cost_microusd.unwrap_or(0).saturating_add(cost));
                }
            }
            _ => {}
        }
        if let Some(attempt) = record.body.attempt() {
            self.agents.insert(attempt.principal.agent.to_string());
            self.sessions.insert(attempt.principal.session.to_string());
            self.budgets.clone_from(&attempt.inputs.budgets);
        }
    }

    /// One JSON object.
    pub(crate) fn value(&self, run: &str) -> Value {
        let totals = &self.totals;
        let budgets: Vec<_> = self
            .budgets
            .iter()
            .map(|b| json!({"name": b.name, "cap": b.cap, "spent": b.spent, "reserved": b.reserved}))
            .collect();
        json!({
            "run": run, "agents": self.agents, "sessions": self.sessions,
            "timeline": self.roots.iter().filter_map(|at| self.node(*at)).collect::<Vec<_>>(),
            "totals": {
                "allowed": totals.allowed, "denied": totals.denied, "parked": totals.parked,
                "repeated": totals.repeated, "failed": totals.failed, "unknown": totals.unknown, "open": totals.open,
                "rows": totals.rows, "bytes_sent": totals.bytes_sent, "busy_ms": totals.busy_ms,
                "cost_microusd": totals.cost_microusd,
            },
            "budgets_before_last_call": budgets,
        })
    }

    /// A node with what stands under it. The depth is bounded by the number of steps of a run that a caller chains.
    fn node(&self, at: usize) -> Option<Value> {
        // Children come later in the log than their parent, so values can be made from the last to the first.
        let mut made: BTreeMap<usize, Value> = BTreeMap::new();
        let mut wanted = vec![at];
        let mut order = Vec::new();
        while let Some(next) = wanted.pop() {
            order.push(next);
            wanted.extend(self.nodes.get(next).into_iter().flat_map(|node| &node.children));
        }
        for at in order.into_iter().rev() {
            let Some(node) = self.nodes.get(at) else { continue };
            let mut value = describe(node.leaf, &node.record);
            let children: Vec<Value> = node.children.iter().filter_map(|child| made.remove(child)).collect();
            if let Some(fields) = value.as_object_mut() {
                let under = node.link.map(|link| match link {
                    Link::Outcome => "outcome",
                    Link::Ticket => "ticket",
                    Link::Continues => "continues",
                    Link::Claimed => "claimed_cause",
                });
                fields.insert("under_because".to_owned(), under.into());
                fields.insert("children".to_owned(), children.into());
            }
            made.insert(at, value);
        }
        made.remove(&at)
    }
}

impl Known {
    fn parent(&self, record: &Record) -> Option<(usize, Link)> {
        let ticket = |ticket: &str| self.tickets.get(ticket).map(|at| (*at, Link::Ticket));
        match &record.body {
            Body::Outcome(outcome) => self.intents.get(&outcome.intent.0).map(|at| (*at, Link::Outcome)),
            Body::Consent(consent) => ticket(consent.ticket.as_str()),
            Body::Expired(expired) => ticket(expired.ticket.as_str()),
            Body::Intent(attempt) | Body::Waiting(attempt) => {
                attempt.ticket.as_ref().and_then(|name| ticket(name.as_str())).or_else(|| self.after(attempt))
            }
            Body::Denial(attempt) => self.after(attempt),
            Body::Proposal(proposal) => self.after(&proposal.attempt),
            _ => None,
        }
    }

    /// What a call goes on with, or says that it follows from.
    fn after(&self, attempt: &Attempt) -> Option<(usize, Link)> {
        let continued = attempt.continues.as_ref().and_then(|continued| self.intents.get(&continued.intent.0));
        continued.map(|at| (*at, Link::Continues)).or_else(|| self.claimed(attempt))
    }

    fn claimed(&self, attempt: &Attempt) -> Option<(usize, Link)> {
        let cause = attempt.claimed.cause.as_ref()?;
        self.steps.get(cause).map(|at| (*at, Link::Claimed))
    }

    fn learn(&mut self, at: usize, leaf: u64, record: &Record) {
        if matches!(record.body, Body::Intent(_)) {
            self.intents.insert(leaf, at);
        }
        if let Body::Proposal(proposal) = &record.body
            && let Some(ticket) = &proposal.attempt.ticket
        {
            self.tickets.insert(ticket.to_string(), at);
        }
        if let Some(step) = record.body.attempt().and_then(|attempt| attempt.claimed.step.clone()) {
            self.steps.insert(step, at);
        }
    }
}
