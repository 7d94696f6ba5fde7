//! What must be kept, and what was ordered to be destroyed: legal holds and erasures.
//!
//! Both are folds of records. A hold forbids to erase what it covers, whatever retention says; it ends only
//! by a human's order. An erasure is ordered first, carried out by the gate, and done once its own record is written;
//! until then nobody can consent, because nobody knows what can still be shown, and nothing new is held, because
//! it may be gone already. It must not know keys or payloads, so
//! that a run's payloads may lie under a held subject is the gate's to see.

use std::collections::{BTreeMap, BTreeSet};

use countersign_model::TimeMs;
use countersign_model::command::Deed;
use countersign_model::id::{HoldName, HumanId};
use countersign_model::record::VaultScope;

#[cfg(test)]
mod tests;

/// The most holds at a time.
const HOLDS_MAX: usize = 1_024;

/// A legal hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// Whose payloads and records are kept; everything if absent.
    pub scope: Option<VaultScope>,
    /// Since when.
    pub since: TimeMs,
    /// Who ordered it.
    pub human: HumanId,
}

/// Holds and erasures that are not done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Keep {
    pub(crate) holds: BTreeMap<HoldName, Hold>,
    pub(crate) erasures: BTreeSet<VaultScope>,
}

impl Keep {
    /// Whether an order about keeping counts.
    pub(crate) fn is_meant(&self, deed: &Deed) -> Result<(), String> {
        match deed {
            Deed::Erase { scope } => {
                let covers = |hold: &&Hold| hold.scope.as_ref().is_none_or(|held| held == scope);
                self.is_free(covers, "erased")
            }
            Deed::Hold { name, .. } if self.holds.contains_key(name) => {
                Err(format!("there is a hold `{name}` already; release it first, or give this one another name"))
            }
            Deed::Hold { .. } if !self.erasures.is_empty() => Err(self.unfinished()),
            Deed::Hold { .. } if self.holds.len() >= HOLDS_MAX => {
                Err(format!("there are at most {HOLDS_MAX} holds at a time"))
            }
            Deed::Release { name } if !self.holds.contains_key(name) => Err(format!("there is no hold `{name}`")),
            _ => Ok(()),
        }
    }

    /// What a hold would promise to keep may be destroyed at any moment.
    fn unfinished(&self) -> String {
        let named = self.erasures.first().map_or_else(String::new, |scope| match scope {
            VaultScope::Run(run) => format!(" of the run `{run}`"),
            VaultScope::Subject(subject) => format!(" of the subject with the hash `{}`", subject.hex()),
        });
        format!(
            "the erasure{named} is ordered and not done, so nothing can be held; try again, after a restart if need be"
        )
    }

    fn is_free(&self, covers: impl Fn(&&Hold) -> bool, what: &str) -> Result<(), String> {
        match self.holds.iter().find(|(_, hold)| covers(hold)) {
            None => Ok(()),
            Some((name, _)) => Err(format!("the hold `{name}` covers it: nothing is {what} until it is released")),
        }
    }

    pub(crate) fn apply(&mut self, deed: &Deed, human: &HumanId, now: TimeMs) {
        match deed {
            Deed::Erase { scope } => {
                self.erasures.insert(scope.clone());
            }
            Deed::Hold { name, scope } => {
                let hold = Hold { scope: scope.clone(), since: now, human: human.clone() };
                self.holds.insert(name.clone(), hold);
            }
            Deed::Release { name } => {
                self.holds.remove(name);
            }
            _ => {}
        }
    }
}
