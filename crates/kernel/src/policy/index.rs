//! The index: which policies can speak about an agent, an action and a target, by their scopes alone.
//!
//! A scope that names an entity can match only requests about that entity or about something inside it. So a policy is
//! filed under what its scope names, and a request looks under itself, under all that it is in, and under "anything".
//! What is found is a superset of what matches: Cedar still asks every scope again. Whatever this module cannot classify
//! is filed under "anything", and so stands in every slice. It must not know layers, contexts or conditions.

use std::collections::{BTreeMap, BTreeSet};

use cedar_policy::{ActionConstraint, Entities, EntityUid, Policy, PrincipalConstraint, ResourceConstraint};

/// What a scope names, as a number; nothing stands for anything.
type Name = Option<u32>;

/// Policies by what their scopes name.
#[derive(Debug, Default)]
pub(super) struct Index {
    names: BTreeMap<EntityUid, u32>,
    filed: BTreeMap<(Name, Name, Name), Vec<u32>>,
}

/// Where a request looks: under itself, under what it is in, and under anything.
#[derive(Clone, Debug, Default)]
pub(super) struct Look(Vec<Name>);

impl Index {
    /// Files `policies` under their places in the list.
    pub(super) fn of<'a>(policies: impl IntoIterator<Item = &'a Policy>) -> Self {
        let mut index = Self::default();
        for (place, policy) in (0_u32..).zip(policies) {
            let principal = index.name(principal(&policy.principal_constraint()));
            let resource = index.name(resource(&policy.resource_constraint()));
            for action in index.actions(&policy.action_constraint()) {
                index.filed.entry((principal, action, resource)).or_default().push(place);
            }
        }
        index
    }

    /// Where to look for what is said of `uid`.
    pub(super) fn look(&self, uid: &EntityUid, entities: &Entities) -> Look {
        let above = entities.ancestors(uid).into_iter().flatten();
        let named = std::iter::once(uid).chain(above).filter_map(|uid| self.names.get(uid));
        Look(std::iter::once(None).chain(named.map(|name| Some(*name))).collect())
    }

    /// The places of all policies whose scopes can match, in order.
    pub(super) fn matching(&self, (agent, action, target): (&Look, &Look, &Look)) -> Vec<u32> {
        let mut places = BTreeSet::new();
        for principal in &agent.0 {
            for action in &action.0 {
                for resource in &target.0 {
                    places.extend(self.filed.get(&(*principal, *action, *resource)).into_iter().flatten());
                }
            }
        }
        places.into_iter().collect()
    }

    fn name(&mut self, uid: Option<&EntityUid>) -> Name {
        let uid = uid?;
        let next = u32::try_from(self.names.len()).ok()?;
        Some(*self.names.entry(uid.clone()).or_insert(next))
    }

    fn actions(&mut self, scope: &ActionConstraint) -> BTreeSet<Name> {
        match scope {
            ActionConstraint::Any => [None].into(),
            ActionConstraint::Eq(uid) => [self.name(Some(uid))].into(),
            // Nothing is in an empty list; should that ever read otherwise, such a policy must not be lost.
            ActionConstraint::In(uids) if uids.is_empty() => [None].into(),
            ActionConstraint::In(uids) => uids.iter().map(|uid| self.name(Some(uid))).collect(),
        }
    }
}

/// The entity that a scope is about. That a policy asks for a type narrows nothing here.
const fn principal(scope: &PrincipalConstraint) -> Option<&EntityUid> {
    match scope {
        PrincipalConstraint::Any | PrincipalConstraint::Is(_) => None,
        PrincipalConstraint::In(uid) | PrincipalConstraint::Eq(uid) | PrincipalConstraint::IsIn(_, uid) => Some(uid),
    }
}

const fn resource(scope: &ResourceConstraint) -> Option<&EntityUid> {
    match scope {
        ResourceConstraint::Any | ResourceConstraint::Is(_) => None,
        ResourceConstraint::In(uid) | ResourceConstraint::Eq(uid) | ResourceConstraint::IsIn(_, uid) => Some(uid),
    }
}
