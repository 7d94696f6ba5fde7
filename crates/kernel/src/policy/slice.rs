//! Slices: the policies that one agent, action and target can meet, as three sets that Cedar is asked.
//!
//! A slice is a pure function of the bundle and of the three: it is made on first use and kept, and whether it was kept
//! changes no answer, only how long the answer takes. That is why what is kept may sit behind a lock in a crate that is
//! otherwise pure. What is kept has a bound, for a caller chooses tools and targets; once it is full it starts again.
//! It must not know how a slice is chosen (`index`) or asked (`bundle`).

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use cedar_policy::{Policy, PolicySet};

use super::annotation::Layer;
use super::reads::Reads;

#[cfg(test)]
mod tests;

/// The most policies that all slices kept may hold together; a policy in three slices counts three times.
const POLICIES_KEPT_MAX: usize = 131_072;
/// The most agents, actions and targets that slices are kept for.
const PLACES_KEPT_MAX: usize = 65_536;

/// One policy with its layer.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub(super) policy: Policy,
    pub(super) layer: Layer,
}

/// The sets that Cedar is asked.
#[derive(Debug, Default)]
pub(super) struct Slice {
    /// G and F.
    pub(super) ceiling: PolicySet,
    /// G, F and A; empty where there is no A, for then it is the ceiling.
    pub(super) auto: Option<PolicySet>,
    /// O: asked beside the others, and never for whether something may run. Absent where nothing obliges.
    pub(super) obliging: Option<PolicySet>,
    /// What all of them read of the context.
    pub(super) reads: Reads,
}

impl Slice {
    /// The slice of these rules.
    pub(super) fn of<'a>(rules: impl Iterator<Item = &'a Rule> + Clone) -> Result<Self, String> {
        let add = |set: &mut PolicySet, policy: &Policy| set.add(policy.clone()).map_err(|error| error.to_string());
        let reads = Reads::of(rules.clone().map(|rule| &rule.policy));
        let mut slice = Self { reads, ..Self::default() };
        let mut gated = PolicySet::new();
        let mut obliging = PolicySet::new();
        let has_gate = rules.clone().any(|rule| matches!(rule.layer, Layer::Gate(_)));
        for Rule { policy, layer } in rules {
            match layer {
                Layer::Obligation(_) => add(&mut obliging, policy)?,
                Layer::Gate(_) => add(&mut gated, policy)?,
                Layer::Rule => {
                    add(&mut slice.ceiling, policy)?;
                    if has_gate {
                        add(&mut gated, policy)?;
                    }
                }
            }
        }
        slice.auto = has_gate.then_some(gated);
        slice.obliging = (!obliging.is_empty()).then_some(obliging);
        Ok(slice)
    }

    /// The set that is asked first.
    pub(super) fn auto(&self) -> &PolicySet {
        self.auto.as_ref().unwrap_or(&self.ceiling)
    }
}

/// An agent, an action and a target, by their numbers in the bundle.
pub(super) type Place = (u32, u32, u32);

/// What is kept.
#[derive(Debug, Default)]
struct Kept {
    by_place: BTreeMap<Place, Arc<Slice>>,
    /// The same policies are the same slice, whoever meets them.
    by_members: BTreeMap<Vec<u32>, Arc<Slice>>,
    policies: usize,
}

/// Slices that were made already.
#[derive(Debug, Default)]
pub(super) struct Slices(RwLock<Kept>);

impl Slices {
    /// The slice that was kept for `place`.
    pub(super) fn kept(&self, place: Place) -> Option<Arc<Slice>> {
        // What is behind the lock is whole after every statement: a panic elsewhere leaves nothing half done.
        self.0.read().unwrap_or_else(PoisonError::into_inner).by_place.get(&place).cloned()
    }

    /// The slice of `members`, made by `make` where it is not kept, and kept for `place`.
    pub(super) fn keep<E>(
        &self,
        place: Place,
        members: Vec<u32>,
        make: impl FnOnce(&[u32]) -> Result<Slice, E>,
    ) -> Result<Arc<Slice>, E> {
        let same = self.0.read().unwrap_or_else(PoisonError::into_inner).by_members.get(&members).cloned();
        let slice = match same {
            Some(slice) => slice,
            None => Arc::new(make(&members)?),
        };
        let mut kept = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let is_full =
            kept.by_place.len() >= PLACES_KEPT_MAX || kept.policies.saturating_add(members.len()) > POLICIES_KEPT_MAX;
        if is_full {
            *kept = Kept::default();
        }
        if !kept.by_members.contains_key(&members) {
            kept.policies = kept.policies.saturating_add(members.len());
            kept.by_members.insert(members, Arc::clone(&slice));
        }
        kept.by_place.insert(place, Arc::clone(&slice));
        Ok(slice)
    }

    /// How many policies are kept, and for how many places.
    #[cfg(test)]
    pub(super) fn sizes(&self) -> (usize, usize) {
        let kept = self.0.read().unwrap();
        (kept.policies, kept.by_place.len())
    }
}
