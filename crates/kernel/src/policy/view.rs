//! What a loaded bundle is made of, for those who test it and prove things about it.
//!
//! It only shows. Who reads it must not decide with it: every decision comes from [`Bundle::evaluate`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use cedar_policy::{ActionConstraint, Entities, EntityUid, Policy, PolicySet, Schema};
use countersign_model::verdict::{Gate, Obligation};

use super::{Bundle, EvaluationRequest};

/// The sets that a bundle asks, by layer, and what is known of the entities.
#[derive(Clone, Copy, Debug)]
pub struct Sets<'a> {
    /// G and F.
    pub ceiling: &'a PolicySet,
    /// G, F and A.
    pub auto: &'a PolicySet,
    /// The gates, by the ids of their policies.
    pub gates: &'a BTreeMap<String, Gate>,
    /// O.
    pub obliging: &'a PolicySet,
    /// What the policies of O demand, by their ids.
    pub obligations: &'a BTreeMap<String, Obligation>,
    /// The schema.
    pub schema: &'a Schema,
    /// Agents, groups, targets and environments.
    pub entities: &'a Entities,
}

impl Bundle {
    /// What it is made of, by layer.
    ///
    /// # Errors
    /// Its rules make no sets, which is a bug.
    pub fn sets(&self) -> Result<Sets<'_>, String> {
        static NONE: LazyLock<PolicySet> = LazyLock::new(PolicySet::new);
        let whole = self.0.whole()?;
        Ok(Sets {
            ceiling: &whole.ceiling,
            auto: whole.auto(),
            gates: &self.0.gates,
            obliging: whole.obliging.as_ref().unwrap_or(&NONE),
            obligations: &self.0.obligations,
            schema: &self.0.schema,
            entities: &self.0.entities,
        })
    }

    /// The action in Cedar of the request's tool.
    #[must_use]
    pub fn action_of(&self, asked: &EvaluationRequest) -> EntityUid {
        self.0.action(&asked.upstream, &asked.tool).uid.clone()
    }
}

/// An action with the groups that it is in: what scopes of policies can name it by.
#[derive(Clone, Debug)]
pub struct ActionScope {
    action: EntityUid,
    groups: BTreeSet<String>,
}

impl ActionScope {
    /// The scope of `action`.
    ///
    /// # Errors
    /// A schema whose actions cannot be listed.
    pub fn of(schema: &Schema, action: &EntityUid) -> Result<Self, String> {
        let actions = schema.action_entities().map_err(|error| error.to_string())?;
        let groups = actions.ancestors(action).into_iter().flatten().map(ToString::to_string).collect();
        Ok(Self { action: action.clone(), groups })
    }

    /// Whether the scope of `policy` lets it see calls of this action.
    #[must_use]
    pub fn is_seen_by(&self, policy: &Policy) -> bool {
        match policy.action_constraint() {
            ActionConstraint::Any => true,
            ActionConstraint::Eq(named) => named == self.action,
            ActionConstraint::In(named) => {
                named.iter().any(|group| *group == self.action || self.groups.contains(&group.to_string()))
            }
        }
    }
}
