//! Retention: how long records are kept, and whether what they commit to may be erased before.
//!
//! A class belongs to an environment. Erasing takes payloads, and leaves record, commitment and proof: a class that is
//! `erasable` allows it at any time, any other only once its time is over, which counts from the record's own. It must
//! not know where settings come from. A record itself may be pruned once its class's time is over, erasable or not; one without
//! an environment (a start, an order) has the class of those that are not named.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use countersign_model::TimeMs;
use countersign_model::id::Environment;

const DAY_MS: u64 = 24 * 3_600_000;

/// The least that a class keeps records unless it says why not, in days: six months of the longest kind (EU AI Act,
/// articles 19 and 26).
pub const KEEP_DAYS_MIN: u64 = 183;

/// How records of some environments are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetentionClass {
    /// How long, in days.
    pub keep_days: u64,
    /// Whether payloads may be erased before that.
    pub erasable: bool,
}

impl Default for RetentionClass {
    fn default() -> Self {
        Self { keep_days: KEEP_DAYS_MIN, erasable: false }
    }
}

/// Retention of every environment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Classes by environment; others have the class of the rest.
    pub classes: BTreeMap<Environment, RetentionClass>,
    /// The class of environments that are not named, and of records that have none.
    pub rest: RetentionClass,
}

impl Retention {
    /// Why payloads of a record of `at` may not be erased at `now`, if they may not.
    #[must_use]
    pub fn forbids_erasing(&self, environment: &Environment, at: TimeMs, now: TimeMs) -> Option<String> {
        let class = self.class(environment);
        let until = at.saturating_add_ms(class.keep_days.saturating_mul(DAY_MS));
        if class.erasable || until <= now {
            return None;
        }
        let days = until.since_ms(now).div_ceil(DAY_MS);
        Some(format!("it is of `{environment}`, whose retention keeps it for {days} more days and is not `erasable`"))
    }

    /// Why a record of `at` may not be pruned at `now`, if it may not.
    #[must_use]
    pub fn forbids_pruning(&self, environment: Option<&Environment>, at: TimeMs, now: TimeMs) -> Option<String> {
        let class = environment.map_or(&self.rest, |environment| self.class(environment));
        let until = at.saturating_add_ms(class.keep_days.saturating_mul(DAY_MS));
        if until <= now {
            return None;
        }
        let days = until.since_ms(now).div_ceil(DAY_MS);
        let whose = environment.map_or_else(|| "it has no environment".to_owned(), |name| format!("it is of `{name}`"));
        Some(format!("{whose}, and retention keeps it for {days} more days"))
    }

    fn class(&self, environment: &Environment) -> &RetentionClass {
        self.classes.get(environment).unwrap_or(&self.rest)
    }
}
