//! Budgets: exact counters of what is spent for good and what is held for calls in flight.
//!
//! A call is held in every budget that applies, before policy is asked, and the hold is either released
//! or turned into spending; so `spent + reserved <= cap` needs no correction afterwards. It must not know
//! why a call was held. Which counters exist follows from the records and the rules alone: after a change of
//! rules the whole log is counted anew.

use std::collections::BTreeMap;

use countersign_model::id::{RunId, SessionId};
use countersign_model::record::{BUDGETS_MAX, BudgetReading};
use countersign_model::{Principal, Seq, TimeMs};
use minicbor::{Decode, Encode};

use crate::settings::{BudgetRule, BudgetScope};

/// One counter: the order puts the windows of a rule beside each other, oldest first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    rule: usize,
    window: u64,
    scope: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counter {
    spent: u64,
    reserved: u64,
}

/// All counters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Budgets {
    rules: Vec<BudgetRule>,
    counters: BTreeMap<Key, Counter>,
    held: BTreeMap<Seq, Vec<Key>>,
}

/// Counters and holds as an image has them. What the rules are is said elsewhere.
#[derive(Default, Encode, Decode)]
#[cbor(map)]
pub(crate) struct BudgetsImage {
    #[n(0)]
    counters: Vec<CounterImage>,
    #[n(1)]
    held: BTreeMap<Seq, Vec<KeyImage>>,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct CounterImage {
    #[n(0)]
    key: KeyImage,
    #[n(1)]
    spent: u64,
    #[n(2)]
    reserved: u64,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct KeyImage {
    #[n(0)]
    rule: u64,
    #[n(1)]
    window: u64,
    #[n(2)]
    scope: String,
}

impl KeyImage {
    fn of(key: &Key) -> Self {
        Self { rule: key.rule as u64, window: key.window, scope: key.scope.clone() }
    }

    /// The key, where there is such a rule.
    fn key(self, rules: usize) -> Option<Key> {
        let rule = usize::try_from(self.rule).ok().filter(|rule| *rule < rules)?;
        Some(Key { rule, window: self.window, scope: self.scope })
    }
}

impl Budgets {
    /// Counters and holds, in order.
    pub(crate) fn image(&self) -> BudgetsImage {
        let counter = |(key, counter): (&Key, &Counter)| CounterImage {
            key: KeyImage::of(key),
            spent: counter.spent,
            reserved: counter.reserved,
        };
        let held = |(call, keys): (&Seq, &Vec<Key>)| (*call, keys.iter().map(KeyImage::of).collect());
        BudgetsImage {
            counters: self.counters.iter().map(counter).collect(),
            held: self.held.iter().map(held).collect(),
        }
    }

    /// As [`Budgets::restore`], from an image that was made under rules that counted `counted`. What a rule of now counts
    /// as well goes on; what nobody counted then begins at nothing.
    pub(crate) fn adopt(&mut self, image: BudgetsImage, counted: &[String]) -> Result<(), &'static str> {
        let ours: Vec<String> = self.rules.iter().map(BudgetRule::counts).collect();
        let same = |key: &Key| {
            let words = counted.get(key.rule);
            let (window, scope) = (key.window, key.scope.clone());
            let rules = ours.iter().enumerate().filter(move |(_, ours)| Some(*ours) == words);
            rules.map(move |(rule, _)| Key { rule, window, scope: scope.clone() })
        };
        let mut theirs = Self { rules: Vec::new(), ..Self::default() };
        theirs.fill(image, counted.len())?;
        for (key, counter) in &theirs.counters {
            self.counters.extend(same(key).map(|key| (key, *counter)));
        }
        for (call, keys) in &theirs.held {
            self.held.insert(*call, keys.iter().flat_map(same).collect());
        }
        Ok(())
    }

    /// Takes counters and holds from an image that was made under the same rules.
    pub(crate) fn restore(&mut self, image: BudgetsImage) -> Result<(), &'static str> {
        self.fill(image, self.rules.len())
    }

    fn fill(&mut self, image: BudgetsImage, rules: usize) -> Result<(), &'static str> {
        let wrong = "a counter belongs to no budget";
        for CounterImage { key, spent, reserved } in image.counters {
            let key = key.key(rules).ok_or(wrong)?;
            if self.counters.last_key_value().is_some_and(|(last, _)| *last >= key) {
                return Err("counters are not in order");
            }
            self.counters.insert(key, Counter { spent, reserved });
        }
        for (call, keys) in image.held {
            let keys = keys.into_iter().map(|key| key.key(rules)).collect::<Option<_>>().ok_or(wrong)?;
            self.held.insert(call, keys);
        }
        Ok(())
    }

    pub(crate) fn new(rules: Vec<BudgetRule>) -> Self {
        Self { rules, ..Self::default() }
    }

    /// What a call of `principal` at `at` reads. One more than [`BUDGETS_MAX`] says that too many apply.
    pub(crate) fn read(&self, principal: &Principal, at: TimeMs) -> Vec<BudgetReading> {
        self.keys(principal, at)
            .into_iter()
            .take(BUDGETS_MAX.saturating_add(1))
            .filter_map(|key| {
                let counter = self.counters.get(&key).copied().unwrap_or_default();
                self.reading(&key, counter)
            })
            .collect()
    }

    /// Holds one call. Holding a held call again changes nothing: live, the hold comes before its intent;
    /// at recovery, the intent is all there is.
    pub(crate) fn hold(&mut self, call: Seq, principal: &Principal, at: TimeMs) {
        if self.held.contains_key(&call) {
            return;
        }
        let keys = self.keys(principal, at);
        for key in &keys {
            let counter = self.counters.entry(key.clone()).or_default();
            counter.reserved = counter.reserved.saturating_add(1);
        }
        self.held.insert(call, keys);
    }

    /// Ends the hold of a call and charges `charged` in each of its budgets.
    pub(crate) fn settle(&mut self, call: Seq, charged: u64) {
        for key in self.held.remove(&call).unwrap_or_default() {
            // A counter that is gone belonged to a window or token that has ended: nothing can read it again.
            if let Some(counter) = self.counters.get_mut(&key) {
                counter.reserved = counter.reserved.saturating_sub(1);
                counter.spent = counter.spent.saturating_add(charged);
            }
        }
    }

    /// Drops counters of windows that have ended: time does not go back, so none of them is read again.
    pub(crate) fn drop_past_windows(&mut self, now: TimeMs) {
        for (rule, window_ms) in self.rules.iter().enumerate().filter_map(|(i, r)| Some((i, r.window_ms?))) {
            let first = |window| Key { rule, window, scope: String::new() };
            let current = first(window_of(now, window_ms));
            while let Some(past) = self.counters.range(first(0)..current.clone()).next().map(|(k, _)| k.clone()) {
                self.counters.remove(&past);
            }
        }
    }

    /// Drops the windowless counters of a session whose token has ended.
    pub(crate) fn drop_session(&mut self, session: &SessionId) {
        self.drop_scope(BudgetScope::Session, session.as_str());
    }

    /// Drops the windowless counters of a run whose every token has ended.
    pub(crate) fn drop_run(&mut self, run: &RunId) {
        self.drop_scope(BudgetScope::Run, run.as_str());
    }

    fn drop_scope(&mut self, scope: BudgetScope, name: &str) {
        for (rule, _) in self.rules.iter().enumerate().filter(|(_, r)| r.scope == scope && r.window_ms.is_none()) {
            self.counters.remove(&Key { rule, window: 0, scope: name.to_owned() });
        }
    }

    /// Every counter, as people read it.
    pub(crate) fn all(&self) -> Vec<BudgetReading> {
        self.counters.iter().filter_map(|(key, counter)| self.reading(key, *counter)).collect()
    }

    fn reading(&self, key: &Key, counter: Counter) -> Option<BudgetReading> {
        let rule = self.rules.get(key.rule)?;
        let window = rule.window_ms.map_or_else(String::new, |ms| format!(" from {}", key.window.saturating_mul(ms)));
        Some(BudgetReading {
            name: format!("calls of {} {}{window}", rule.scope.as_str(), key.scope),
            cap: rule.cap,
            spent: counter.spent,
            reserved: counter.reserved,
        })
    }

    fn keys(&self, principal: &Principal, at: TimeMs) -> Vec<Key> {
        self.rules
            .iter()
            .enumerate()
            .filter(|(_, rule)| rule.agents.as_ref().is_none_or(|agents| agents.contains(&principal.agent)))
            .map(|(index, rule)| Key {
                rule: index,
                window: rule.window_ms.map_or(0, |ms| window_of(at, ms)),
                scope: match rule.scope {
                    BudgetScope::Run => principal.run.as_str(),
                    BudgetScope::Session => principal.session.as_str(),
                    BudgetScope::Agent => principal.agent.as_str(),
                    BudgetScope::Tenant => principal.tenant.as_str(),
                }
                .to_owned(),
            })
            .collect()
    }
}

/// The window that `at` lies in. A window of no length is read as one that never ends: the stricter reading.
const fn window_of(at: TimeMs, window_ms: u64) -> u64 {
    match at.0.checked_div(window_ms) {
        Some(window) => window,
        None => 0,
    }
}
