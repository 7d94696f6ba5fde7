//! Backtest: what a recorded call would have come to under another policy.
//!
//! Each recorded attempt is asked again of the new bundle, with the facts and inputs of its record, and judged twice: by
//! policy alone, and in full with the grants and queues of then. What was denied before policy was asked stays as it was.
//! What cannot be known again is not comparable, and never silently equal. It must not know how records are read, nor how
//! facts are made again from arguments: [`Known`] says what came of that.
//!
//! It does not cover what would have happened next: had a call been denied, its agent might have done something else.

mod groups;
#[cfg(test)]
mod tests;

use countersign_kernel::policy::{Bundle, EvaluationRequest};
use countersign_kernel::{before_policy, by_policy_alone, in_hindsight};
use countersign_model::facts::{Effect, Facts};
use countersign_model::id::{AgentId, Environment, HumanId, TargetId, ToolName, UpstreamId};
use countersign_model::record::Attempt;
use countersign_model::unit::LeafIndex;
use countersign_model::verdict::Verdict;
use countersign_model::{Body, Reason, ReasonCode, TimeMs};

pub use groups::{GROUPS_MAX, Group, GroupKey, Groups};

use crate::rules::Rules;
use crate::verdicts::{asks, rank, runs};

/// What the rules read of the agent's history.
const HISTORY: [&str; 9] = [
    "context.new_hosts",
    "context.run_labels",
    "context.previous_tool",
    "context.new_pair",
    "context.calls",
    "context.changes",
    "context.growing",
    "context.lease_minutes",
    "context.percent_of_previous",
];

/// One recorded attempt.
#[derive(Clone, Copy, Debug)]
pub struct Recorded<'a> {
    /// Its leaf.
    pub leaf: LeafIndex,
    /// The time of its record.
    pub at: TimeMs,
    /// The attempt.
    pub attempt: &'a Attempt,
    /// Its canonical arguments; none where they are erased.
    pub arguments: Option<&'a [u8]>,
}

impl<'a> Recorded<'a> {
    /// The attempt of a record, if it is one.
    #[must_use]
    pub fn of((leaf, at): (LeafIndex, TimeMs), body: &'a Body, arguments: Option<&'a [u8]>) -> Option<Self> {
        body.attempt().map(|attempt| Self { leaf, at, attempt, arguments })
    }
}

/// What is known of a call under the new bindings and patterns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Known {
    /// Just what its record says.
    AsRecorded,
    /// It was read again.
    Again(Box<Again>),
    /// It would have to be read again, and cannot: why, for people.
    Missing(String),
}

/// A call as the new bindings and patterns read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Again {
    /// Its facts.
    pub facts: Facts,
    /// What it changes.
    pub target: TargetId,
    /// Where.
    pub environment: Environment,
}

/// What became of one recorded attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// The same verdict.
    Same,
    /// It was denied before policy was asked, and is under any policy: with this reason.
    Unaffected(ReasonCode),
    /// Nobody can say: why, for people.
    NotComparable(String),
    /// Another verdict.
    Changed(Box<Change>),
}

/// A verdict with what decided it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ruling {
    /// With the grants, refusals and queues of then.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason,
    /// By policy alone.
    pub alone: Verdict,
    /// The rules that decided it, sorted: of layer O those that oblige.
    pub rules: Vec<String>,
}

/// Which way a verdict changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// More may run, or with less asked.
    Wider,
    /// Less may run, or with more asked.
    Narrower,
    /// Neither: other gates, other obligations.
    Other,
}

impl Direction {
    /// The word for people and programs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Wider => "wider",
            Self::Narrower => "narrower",
            Self::Other => "other",
        }
    }
}

/// A verdict that changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The record.
    pub leaf: LeafIndex,
    /// Its time.
    pub at: TimeMs,
    /// Who.
    pub agent: AgentId,
    /// Towards which upstream.
    pub upstream: UpstreamId,
    /// Which tool.
    pub tool: ToolName,
    /// What it changes, under the new bindings.
    pub target: TargetId,
    /// Where.
    pub environment: Environment,
    /// The worst that it does, under the new bindings.
    pub effect: Effect,
    /// Then.
    pub before: Ruling,
    /// Under the new policy.
    pub after: Ruling,
    /// Which way.
    pub direction: Direction,
    /// Whose consent it ran with then.
    pub approved_by: Vec<HumanId>,
}

impl Change {
    /// Whether it would run unasked where it did not, or under less than it did.
    #[must_use]
    pub const fn is_widening(&self) -> bool {
        matches!(self.direction, Direction::Wider) && runs(&self.after.alone)
    }

    /// The verdict of then, for people: `allow`, `allow, approved by ana`.
    #[must_use]
    pub fn then(&self) -> String {
        if self.approved_by.is_empty() {
            return self.before.verdict.as_str().to_owned();
        }
        let names: Vec<&str> = self.approved_by.iter().map(HumanId::as_str).collect();
        format!("{}, approved by {}", self.before.verdict.as_str(), names.join(", "))
    }

    /// The verdict now in plain words: `would need approval (approved then by ana)`.
    #[must_use]
    pub fn would(&self) -> String {
        let words = match &self.after.verdict {
            Verdict::Allow => "would run",
            Verdict::Modify { .. } => "would run under obligations",
            Verdict::RequireApproval { .. } => "would need approval",
            Verdict::Deny => "would be denied",
            Verdict::Defer { .. } => "would be deferred",
        };
        if self.approved_by.is_empty() {
            return words.to_owned();
        }
        let names: Vec<&str> = self.approved_by.iter().map(HumanId::as_str).collect();
        let what = if runs(&self.after.alone) { "without approval; approved then by" } else { "approved then by" };
        format!("{words} ({what} {})", names.join(", "))
    }
}

/// Asks recorded attempts again.
#[derive(Clone, Copy, Debug)]
pub struct Backtest<'a> {
    bundle: &'a Bundle,
    reads_arguments: bool,
    reads_history: bool,
}

impl<'a> Backtest<'a> {
    /// Of this bundle, with these rules.
    #[must_use]
    pub fn new(bundle: &'a Bundle, rules: &Rules) -> Self {
        let reads_arguments = rules.reads_any(&["context.args"]);
        Self { bundle, reads_arguments, reads_history: rules.reads_any(&HISTORY) }
    }

    /// What becomes of one attempt under the new policy.
    #[must_use]
    pub fn judge(&self, recorded: &Recorded<'_>, known: &Known) -> Found {
        let Recorded { at, attempt, arguments, .. } = *recorded;
        let code = attempt.reasons.first().map(|reason| reason.code);
        if code == Some(ReasonCode::RecordTooLong) {
            return Found::NotComparable("its facts did not fit the record".to_owned());
        }
        if let Some(code) = unaffected(attempt, at) {
            return Found::Unaffected(code);
        }
        if self.reads_arguments && arguments.is_none() {
            return Found::NotComparable("payload erased, and a rule reads `context.args`".to_owned());
        }
        if self.reads_history && attempt.inputs.history.is_none() {
            return Found::NotComparable("its record holds no history of the agent, which a rule reads".to_owned());
        }
        let again = match known {
            Known::AsRecorded => attempt.clone(),
            Known::Again(again) if self.reads_history && again.facts != attempt.facts => {
                return Found::NotComparable(
                    "its facts are others now, and so would be the history that a rule reads".to_owned(),
                );
            }
            Known::Again(again) => Attempt {
                facts: again.facts.clone(),
                target: again.target.clone(),
                environment: again.environment.clone(),
                ..attempt.clone()
            },
            Known::Missing(why) => return Found::NotComparable(why.clone()),
        };
        let before = then(attempt);
        let after = self.now(&again, at, arguments.unwrap_or_default());
        if is_same(&before, &after) {
            return Found::Same;
        }
        Found::Changed(Box::new(change(recorded, &again, before, after)))
    }

    fn now(&self, attempt: &Attempt, at: TimeMs, arguments: &[u8]) -> Ruling {
        let evaluation = self.bundle.evaluate(&EvaluationRequest::from_attempt(attempt, arguments));
        let (alone, _) = by_policy_alone(&evaluation);
        let obliging = evaluation.obliging.items.clone();
        let (verdict, reason) = in_hindsight(attempt, at, evaluation);
        let rules = deciding(&alone, &reason, obliging);
        Ruling { verdict, reason, alone, rules }
    }
}

/// Why an attempt was denied before policy could matter, if it was.
fn unaffected(attempt: &Attempt, at: TimeMs) -> Option<ReasonCode> {
    if let Some(reason) = before_policy(attempt, at) {
        return Some(reason.code);
    }
    let is_denied = attempt.verdict == Verdict::Deny && attempt.inputs.evaluation.is_none();
    is_denied.then(|| attempt.reasons.first().map_or(ReasonCode::Internal, |reason| reason.code))
}

/// As it was decided.
fn then(attempt: &Attempt) -> Ruling {
    let verdict = attempt.verdict.clone();
    let reason = attempt.reasons.first().cloned().unwrap_or_else(|| Reason::plain(ReasonCode::Internal));
    // A call that waited already was not asked of policy again.
    let (alone, obliging) = match &attempt.inputs.evaluation {
        Some(evaluation) => (by_policy_alone(evaluation).0, evaluation.obliging.items.clone()),
        None => (verdict.clone(), Vec::new()),
    };
    let rules = deciding(&alone, &reason, obliging);
    Ruling { verdict, reason, alone, rules }
}

fn deciding(alone: &Verdict, reason: &Reason, obliging: Vec<String>) -> Vec<String> {
    let mut rules = reason.policies.items.clone();
    match alone {
        Verdict::RequireApproval { gates } => rules.extend(gates.iter().map(|gate| gate.policy.to_string())),
        Verdict::Modify { .. } => rules.extend(obliging),
        _ => {}
    }
    rules.sort();
    rules.dedup();
    rules
}

fn is_same(before: &Ruling, after: &Ruling) -> bool {
    rank(&before.verdict) == rank(&after.verdict) && asks(&before.alone) == asks(&after.alone)
}

fn direction(before: &Verdict, after: &Verdict) -> Direction {
    let ((old_rank, old), (new_rank, new)) = (asks(before), asks(after));
    match new_rank.cmp(&old_rank) {
        std::cmp::Ordering::Greater => Direction::Wider,
        std::cmp::Ordering::Less => Direction::Narrower,
        std::cmp::Ordering::Equal if new.iter().all(|asked| old.contains(asked)) && new.len() < old.len() => {
            Direction::Wider
        }
        std::cmp::Ordering::Equal if old.iter().all(|asked| new.contains(asked)) && old.len() < new.len() => {
            Direction::Narrower
        }
        std::cmp::Ordering::Equal => Direction::Other,
    }
}

fn change(recorded: &Recorded<'_>, again: &Attempt, before: Ruling, after: Ruling) -> Change {
    let attempt = recorded.attempt;
    let grant = attempt.inputs.standing.grant.as_ref();
    let redeemed = grant.filter(|_| before.reason.code == ReasonCode::GrantRedeemed);
    Change {
        leaf: recorded.leaf,
        at: recorded.at,
        agent: attempt.principal.agent.clone(),
        upstream: attempt.upstream.clone(),
        tool: attempt.tool.clone(),
        target: again.target.clone(),
        environment: again.environment.clone(),
        effect: again.facts.effect,
        direction: direction(&before.alone, &after.alone),
        approved_by: redeemed.map_or_else(Vec::new, |grant| grant.humans.clone()),
        before,
        after,
    }
}
