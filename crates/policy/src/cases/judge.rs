//! What a changed policy would answer, without loading it.
//!
//! Mutations ask thousands of times about sets that differ in one rule, and most rules say nothing of most cases. A rule
//! whose condition does not hold can be left out of the question; so each case keeps the few that hold. It is no second
//! engine: on the rules as they are it must agree with `Bundle::evaluate`, and `mutate` refuses to go on where it does not.

use std::collections::{BTreeMap, BTreeSet};

use cedar_policy::{Authorizer, Decision, Policy, PolicySet, Request};
use countersign_kernel::policy::{ActionScope, Sets};
use countersign_model::encoding::Bounded;
use countersign_model::record::Evaluation;
use countersign_model::verdict::{GATES_MAX, OBLIGATIONS_MAX};

use super::{Case, Setting};

/// One case with the rules that say something of it.
pub(super) struct Sight<'a> {
    pub(super) case: &'a Case,
    request: Request,
    scope: ActionScope,
    /// The rules whose conditions hold, or err, by their ids.
    holding: BTreeMap<String, Policy>,
}

/// One rule, and what stands in its place.
pub(super) struct Swap<'p> {
    pub(super) id: &'p str,
    pub(super) with: Option<&'p Policy>,
    /// It is no gate any more.
    pub(super) is_final: bool,
}

/// All cases, each with what holds.
pub(super) fn sights<'a>(cases: &'a [Case], setting: &Setting<'_>) -> Result<Vec<Sight<'a>>, String> {
    let sets = setting.bundle.sets()?;
    let mut scopes: BTreeMap<String, ActionScope> = BTreeMap::new();
    let mut all = Vec::new();
    for case in cases {
        let action = setting.bundle.action_of(&case.asked);
        let scope = match scopes.get(&action.to_string()) {
            Some(scope) => scope.clone(),
            None => ActionScope::of(sets.schema, &action)?,
        };
        scopes.insert(action.to_string(), scope.clone());
        let request = setting.bundle.in_cedar(&case.asked)?.0;
        let mut sight = Sight { case, request, scope, holding: BTreeMap::new() };
        for policy in sets.auto.policies().chain(sets.obliging.policies()) {
            if sight.holds(policy, sets)? {
                sight.holding.insert(policy.id().to_string(), policy.clone());
            }
        }
        all.push(sight);
    }
    Ok(all)
}

impl Sight<'_> {
    /// Whether the rule can see the case, and its condition holds here, or errs.
    pub(super) fn holds(&self, policy: &Policy, sets: Sets<'_>) -> Result<bool, String> {
        if !self.sees(policy) {
            return Ok(false);
        }
        let said = self.ask([policy.clone()], sets)?;
        Ok(!said.reasons.is_empty() || !said.errors.is_empty())
    }

    /// Whether the rule's scope names the case's action.
    pub(super) fn sees(&self, policy: &Policy) -> bool {
        self.scope.is_seen_by(policy)
    }

    /// Whether the rule of this id holds as it stands.
    pub(super) fn is_held(&self, id: &str) -> bool {
        self.holding.contains_key(id)
    }

    /// The answer with one rule swapped.
    pub(super) fn answer(&self, sets: Sets<'_>, swap: Option<&Swap<'_>>) -> Result<Evaluation, String> {
        let is_gate =
            |id: &str| sets.gates.contains_key(id) && !swap.is_some_and(|swap| swap.is_final && swap.id == id);
        let mut rules = self.holding.clone();
        if let Some(swap) = swap {
            rules.remove(swap.id);
            rules.extend(swap.with.map(|policy| (swap.id.to_owned(), policy.clone())));
        }
        let layer = |wanted: fn(bool, bool) -> bool| {
            let some = rules.iter().filter(|(id, _)| wanted(sets.obligations.contains_key(*id), is_gate(id)));
            some.map(|(_, policy)| policy.clone()).collect::<Vec<_>>()
        };
        let auto = self.ask(layer(|obliges, _| !obliges), sets)?;
        let ceiling = self.ask(layer(|obliges, gates| !obliges && !gates), sets)?;
        let obliging = self.ask(layer(|obliges, _| obliges), sets)?;
        let gates: Vec<_> =
            auto.reasons.iter().filter(|id| is_gate(id)).filter_map(|id| sets.gates.get(id)).cloned().collect();
        let obligations: BTreeSet<_> =
            obliging.reasons.iter().filter_map(|id| sets.obligations.get(id)).cloned().collect();
        let mut errors: BTreeSet<String> = [&auto, &ceiling, &obliging].iter().flat_map(|a| a.errors.clone()).collect();
        if gates.len() > GATES_MAX || obligations.len() > OBLIGATIONS_MAX {
            errors.insert("more gates or obligations than can be joined".to_owned());
        }
        Ok(Evaluation {
            ceiling: ceiling.allows,
            auto: auto.allows,
            determining: Bounded::new(ceiling.reasons),
            gates: gates.into_iter().take(GATES_MAX).collect(),
            errors: Bounded::new(errors),
            timed_out: false,
            obligations: obligations.into_iter().take(OBLIGATIONS_MAX).collect(),
            obliging: Bounded::new(obliging.reasons),
        })
    }

    fn ask(&self, rules: impl IntoIterator<Item = Policy>, sets: Sets<'_>) -> Result<Said, String> {
        let set = PolicySet::from_policies(rules).map_err(|error| error.to_string())?;
        let response = Authorizer::new().is_authorized(&self.request, &set, sets.entities);
        Ok(Said {
            allows: response.decision() == Decision::Allow,
            reasons: response.diagnostics().reason().map(ToString::to_string).collect(),
            errors: response.diagnostics().errors().map(ToString::to_string).collect(),
        })
    }
}

struct Said {
    allows: bool,
    reasons: BTreeSet<String>,
    errors: BTreeSet<String>,
}
