//! Which rules the cases reach.
//!
//! A rule is reached where it determined an answer, was a gate that fired, or demanded an obligation. A rule that holds in
//! every case that it can see is reached in one direction only: its condition could be removed and no case would notice.

use std::collections::BTreeSet;

use super::judge::sights;
use super::mutants::Place;
use super::{Ran, Setting};

/// How far the cases reach one rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reach {
    /// Its id.
    pub rule: String,
    /// Where it stands.
    pub place: Place,
    /// In how many cases it said something that counted.
    pub reached: usize,
    /// In how many cases that it can see its condition did not hold.
    pub passed_over: usize,
}

/// How far the cases reach the rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coverage {
    /// Every rule, in the order of ids.
    pub rules: Vec<Reach>,
}

impl Coverage {
    /// Rules that no case reaches.
    pub fn unreached(&self) -> impl Iterator<Item = &Reach> {
        self.rules.iter().filter(|rule| rule.reached == 0)
    }

    /// Rules that hold in every case that they can see.
    pub fn one_way(&self) -> impl Iterator<Item = &Reach> {
        self.rules.iter().filter(|rule| rule.reached > 0 && rule.passed_over == 0)
    }

    /// Reached rules of a hundred, rounded down; 100 where there is no rule.
    #[must_use]
    pub fn percent(&self) -> usize {
        let reached = self.rules.len().saturating_sub(self.unreached().count());
        reached.saturating_mul(100).checked_div(self.rules.len()).unwrap_or(100)
    }
}

/// How far cases that ran reach the rules.
///
/// # Errors
/// A case that Cedar cannot be asked about.
pub fn coverage(ran: &[Ran<'_>], setting: &Setting<'_>) -> Result<Coverage, String> {
    let sets = setting.bundle.sets()?;
    let cases: Vec<_> = ran.iter().map(|ran| ran.case.clone()).collect();
    let sights = sights(&cases, setting)?;
    let reached: Vec<BTreeSet<&str>> = ran.iter().map(reached).collect();
    let mut rules = Vec::new();
    for policy in sets.auto.policies().chain(sets.obliging.policies()) {
        let id = policy.id().to_string();
        rules.push(Reach {
            place: Place::of(&id, setting.source),
            reached: reached.iter().filter(|all| all.contains(id.as_str())).count(),
            passed_over: sights.iter().filter(|sight| sight.sees(policy) && !sight.is_held(&id)).count(),
            rule: id,
        });
    }
    rules.sort_by(|a, b| a.rule.cmp(&b.rule));
    Ok(Coverage { rules })
}

fn reached<'a>(ran: &'a Ran<'_>) -> BTreeSet<&'a str> {
    let evaluation = &ran.evaluation;
    let named = evaluation.determining.items.iter().chain(&evaluation.obliging.items).map(String::as_str);
    named.chain(evaluation.gates.iter().map(|gate| gate.policy.as_str())).collect()
}
