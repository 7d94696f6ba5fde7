//! What of a bundle speaks of one action, and which actions are alike.
//!
//! A rule whose scope does not name an action says nothing of it, and is left out; what is left is asked of any action. So
//! tools that the same rules see, and that no rule tells apart, are one question.

use std::collections::{BTreeMap, BTreeSet};

use cedar_policy::{EntityUid, Policy, PolicySet, Schema};
use countersign_kernel::policy::{ActionScope, Bundle};
use serde_json::json;

use crate::expr;

/// The rules that can see one action, without their scope of actions.
#[derive(Clone, Debug)]
pub(crate) struct Slice {
    pub(crate) auto: Vec<Policy>,
    pub(crate) ceiling: Vec<Policy>,
    pub(crate) obliging: Vec<Policy>,
    /// What their conditions read.
    pub(crate) reads: BTreeSet<String>,
}

/// Actions that are alike, by their names, and the rules that see them.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    /// The one that is asked about.
    pub(crate) action: EntityUid,
    pub(crate) names: Vec<String>,
    pub(crate) slice: Slice,
}

impl Slice {
    pub(crate) fn of(bundle: &Bundle, action: &EntityUid) -> Result<Self, String> {
        let sets = bundle.sets()?;
        let scope = ActionScope::of(sets.schema, action)?;
        let auto = seen(sets.auto, &scope)?;
        let ceiling = seen(sets.ceiling, &scope)?;
        let obliging = seen(sets.obliging, &scope)?;
        let mut reads = BTreeSet::new();
        for policy in auto.iter().chain(&obliging) {
            reads.extend(expr::reads(policy)?);
        }
        Ok(Self { auto, ceiling, obliging, reads })
    }

    /// The ids of all its rules.
    pub(crate) fn ids(&self) -> BTreeSet<String> {
        self.auto.iter().chain(&self.obliging).map(|policy| policy.id().to_string()).collect()
    }

    /// Whether some rule tells this action from another that the same rules see.
    pub(crate) fn tells_apart(&self) -> bool {
        ["Action", "upstream", "tool", "args"].into_iter().any(|name| self.reads.contains(name))
    }
}

fn seen(set: &PolicySet, scope: &ActionScope) -> Result<Vec<Policy>, String> {
    let mut seen: Vec<&Policy> = set.policies().filter(|policy| scope.is_seen_by(policy)).collect();
    seen.sort_by_key(|policy| policy.id().to_string());
    seen.into_iter().map(of_any_action).collect()
}

fn of_any_action(policy: &Policy) -> Result<Policy, String> {
    let mut spelled = policy.to_json().map_err(|error| error.to_string())?;
    if let Some(members) = spelled.as_object_mut() {
        members.insert("action".to_owned(), json!({"op": "All"}));
    }
    Policy::from_json(Some(policy.id().clone()), spelled).map_err(|error| error.to_string())
}

/// The actions that can be asked for, in order.
pub(crate) fn actions(schema: &Schema) -> Vec<EntityUid> {
    let mut all: Vec<EntityUid> = schema.request_envs().map(|environment| environment.action().clone()).collect();
    all.sort_by_key(ToString::to_string);
    all.dedup();
    all
}

/// All actions of a bundle, those that are alike together.
pub(crate) fn groups(bundle: &Bundle) -> Result<Vec<Group>, String> {
    let mut groups: BTreeMap<String, Group> = BTreeMap::new();
    for action in actions(bundle.sets()?.schema) {
        let name = action.id().unescaped().to_owned();
        let slice = Slice::of(bundle, &action)?;
        let own = if slice.tells_apart() { name.as_str() } else { "" };
        let key = format!("{own}\n{}", slice.ids().into_iter().collect::<Vec<_>>().join(" "));
        match groups.get_mut(&key) {
            Some(group) => group.names.push(name),
            None => drop(groups.insert(key, Group { action, names: vec![name], slice })),
        }
    }
    Ok(groups.into_values().collect())
}
