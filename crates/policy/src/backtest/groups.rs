//! Changes, grouped and counted, in memory that does not grow with the log.
//!
//! It must not know how a change was found.

use std::collections::BTreeMap;

use countersign_model::ReasonCode;
use countersign_model::TimeMs;

use super::{Change, Direction, Found};
use crate::verdicts::runs;

/// The most groups that are kept apart; what does not fit is counted.
pub const GROUPS_MAX: usize = 1_000;
/// The most different reasons for which something is not comparable that are kept apart.
const WHYS_MAX: usize = 64;

/// What the changes of one group have in common.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GroupKey {
    /// Which way. Wider comes first.
    pub direction: Direction,
    /// The verdict of then.
    pub before: &'static str,
    /// Whether it ran with a human's consent.
    pub was_approved: bool,
    /// The new verdict.
    pub after: &'static str,
    /// Why, under the new policy.
    pub code: ReasonCode,
    /// The rules that decide it under the new policy, sorted.
    pub rules: Vec<String>,
    /// The tool, as `UPSTREAM/TOOL`.
    pub tool: String,
    /// Where.
    pub environment: String,
}

/// Changes of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// How many.
    pub count: u64,
    /// The first one's time.
    pub first: TimeMs,
    /// The last one's time.
    pub last: TimeMs,
    /// One of them: the last.
    pub example: Change,
}

/// All that a backtest found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Groups {
    /// Attempts that were looked at.
    pub judged: u64,
    /// With the same verdict.
    pub same: u64,
    /// With another.
    pub changed: u64,
    /// That would run unasked where they did not, or under less than they did.
    pub widening: u64,
    /// That ran and would not run unasked any more.
    pub stopped: u64,
    /// Denied before policy was asked, by reason.
    pub unaffected: BTreeMap<ReasonCode, u64>,
    /// Not comparable, by why.
    pub not_comparable: BTreeMap<String, u64>,
    /// The changes, wider first.
    pub groups: BTreeMap<GroupKey, Group>,
    /// Changes that found no room in `groups`.
    pub ungrouped: u64,
}

impl Groups {
    /// Takes in what was found of one attempt.
    pub fn take(&mut self, found: &Found) {
        self.judged += 1;
        match found {
            Found::Same => self.same += 1,
            Found::Unaffected(code) => *self.unaffected.entry(*code).or_default() += 1,
            Found::NotComparable(why) => {
                let is_room = self.not_comparable.len() < WHYS_MAX || self.not_comparable.contains_key(why);
                let why = if is_room { why.as_str() } else { "other reasons" };
                *self.not_comparable.entry(why.to_owned()).or_default() += 1;
            }
            Found::Changed(change) => self.changed(change),
        }
    }

    /// How many could not be compared.
    #[must_use]
    pub fn incomparable(&self) -> u64 {
        self.not_comparable.values().sum()
    }

    fn changed(&mut self, change: &Change) {
        self.changed += 1;
        self.widening += u64::from(change.is_widening());
        self.stopped += u64::from(runs(&change.before.verdict) && !runs(&change.after.verdict));
        let key = GroupKey {
            direction: change.direction,
            before: change.before.verdict.as_str(),
            was_approved: !change.approved_by.is_empty(),
            after: change.after.verdict.as_str(),
            code: change.after.reason.code,
            rules: change.after.rules.clone(),
            tool: format!("{}/{}", change.upstream, change.tool),
            environment: change.environment.to_string(),
        };
        if let Some(group) = self.groups.get_mut(&key) {
            group.count += 1;
            group.first = group.first.min(change.at);
            group.last = group.last.max(change.at);
            group.example = change.clone();
        } else if self.groups.len() < GROUPS_MAX {
            let group = Group { count: 1, first: change.at, last: change.at, example: change.clone() };
            self.groups.insert(key, group);
        } else {
            self.ungrouped += 1;
        }
    }
}
