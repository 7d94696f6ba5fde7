//! What of two bundles is compared with what: one pair of slices for each action, agent and target that can differ.
//!
//! Any agent that both know in the same groups is one question, and so is any such target; those that are new or were
//! moved are asked about by name. Pairs whose rules are word for word the same need no question.

use std::collections::BTreeMap;

use cedar_policy::{EntityUid, Policy};
use countersign_kernel::policy::{Bundle, PolicySource};
use countersign_model::Digest;

use crate::fix::{Fixed, fixed};
use crate::slice::{Slice, actions};

/// The most agents, and the most targets, that are asked about by name.
const NAMED_MAX: usize = 32;

/// A bundle with what it was loaded from.
#[derive(Clone, Copy, Debug)]
pub struct Side<'a> {
    /// The loaded bundle.
    pub bundle: &'a Bundle,
    /// Its source.
    pub source: &'a PolicySource,
}

/// An agent or a target before and after; none before where it is new.
#[derive(Clone, Debug)]
pub(crate) struct Moved {
    pub(crate) before: Option<Fixed>,
    pub(crate) after: Fixed,
}

/// Which call is compared.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// The action in the old bundle; none where it has none.
    pub(crate) old_action: Option<EntityUid>,
    /// The action in the new bundle.
    pub(crate) action: EntityUid,
    /// How many tools are alike.
    pub(crate) alike: usize,
    /// What the tool was called before it became `unbound`.
    pub(crate) unbound_now: Option<String>,
    pub(crate) agent: Option<Moved>,
    pub(crate) target: Option<Moved>,
}

/// What is compared of one kind of call.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    pub(crate) call: Call,
    pub(crate) old: Slice,
    pub(crate) new: Slice,
}

/// Agents that are new or in other groups.
pub(crate) fn moved_agents(old: &PolicySource, new: &PolicySource) -> Vec<Moved> {
    let before = |id: &str| {
        let def = old.agents.iter().find(|agent| agent.id.as_str() == id)?;
        Some(Fixed::agent(id, &def.groups))
    };
    let all = new.agents.iter().map(|agent| Moved {
        before: before(agent.id.as_str()),
        after: Fixed::agent(agent.id.as_str(), &agent.groups),
    });
    all.filter(|moved| moved.before.as_ref() != Some(&moved.after)).collect()
}

/// Targets that are new or stand elsewhere.
pub(crate) fn moved_targets(old: &PolicySource, new: &PolicySource) -> Vec<Moved> {
    let before = |id: &str| {
        let def = old.targets.iter().find(|target| target.id.as_str() == id)?;
        Some(Fixed::target(id, def.environment.as_str()))
    };
    let all = new.targets.iter().map(|target| Moved {
        before: before(target.id.as_str()),
        after: Fixed::target(target.id.as_str(), target.environment.as_str()),
    });
    all.filter(|moved| moved.before.as_ref() != Some(&moved.after)).collect()
}

/// The pairs that differ, how many there are in all, and what could not be compared.
pub(crate) fn pairs(old: Side<'_>, new: Side<'_>) -> Result<(Vec<Pair>, usize, Vec<String>), String> {
    let mut open = Vec::new();
    let agents = bounded("agents", moved_agents(old.source, new.source), &mut open);
    let targets = bounded("targets", moved_targets(old.source, new.source), &mut open);
    let (mut pairs, mut compared) = (Vec::new(), 0_usize);
    for pair in of_actions(old, new)? {
        for agent in &agents {
            for target in &targets {
                compared = compared.saturating_add(1);
                match narrowed(&pair, agent.as_ref(), target.as_ref()) {
                    Ok(pair) if is_same(&pair) => {}
                    Ok(pair) => pairs.push(pair),
                    Err(why) => open.push(why),
                }
            }
        }
    }
    open.sort();
    open.dedup();
    Ok((pairs, compared, open))
}

/// Any, and each that moved.
fn bounded(what: &str, moved: Vec<Moved>, open: &mut Vec<String>) -> Vec<Option<Moved>> {
    if moved.len() > NAMED_MAX {
        open.push(format!("{} {what} are new or moved; at most {NAMED_MAX} are compared at once", moved.len()));
    }
    std::iter::once(None).chain(moved.into_iter().take(NAMED_MAX).map(Some)).collect()
}

/// One pair for all actions that are alike, for any agent and any target.
fn of_actions(old: Side<'_>, new: Side<'_>) -> Result<Vec<Pair>, String> {
    let before = actions(old.bundle.sets()?.schema);
    let after = actions(new.bundle.sets()?.schema);
    let unbound = crate::counter::action("unbound")?;
    let gone = before.iter().filter(|action| !after.contains(action));
    let stay = after.iter().map(|action| (before.contains(action).then(|| action.clone()), action.clone(), None));
    let gone = gone.map(|action| (Some(action.clone()), unbound.clone(), Some(action.id().unescaped().to_owned())));
    let mut groups: BTreeMap<String, Pair> = BTreeMap::new();
    for (old_action, action, unbound_now) in stay.chain(gone) {
        let slice_old = match &old_action {
            Some(action) => Slice::of(old.bundle, action)?,
            None => Slice::none(),
        };
        let slice_new = Slice::of(new.bundle, &action)?;
        let is_own = slice_old.tells_apart() || slice_new.tells_apart();
        let own = if is_own { old_action.as_ref().unwrap_or(&action).to_string() } else { String::new() };
        let is_new = old_action.is_none();
        let key = format!("{own}\n{is_new}\n{}\n{}", print(&slice_old)?, print(&slice_new)?);
        let call = Call { old_action, action, alike: 1, unbound_now, agent: None, target: None };
        match groups.get_mut(&key) {
            Some(group) => group.call.alike = group.call.alike.saturating_add(1),
            None => drop(groups.insert(key, Pair { call, old: slice_old, new: slice_new })),
        }
    }
    Ok(groups.into_values().collect())
}

fn narrowed(pair: &Pair, agent: Option<&Moved>, target: Option<&Moved>) -> Result<Pair, String> {
    let mut pair = pair.clone();
    for moved in [agent, target].into_iter().flatten() {
        pair.new = pair.new.fixed(&moved.after)?;
        pair.old = match &moved.before {
            Some(before) => pair.old.fixed(before)?,
            // Nobody knew it, so nothing was allowed.
            None => Slice::none(),
        };
    }
    pair.call.agent = agent.cloned();
    pair.call.target = target.cloned();
    Ok(pair)
}

fn is_same(pair: &Pair) -> bool {
    match (print(&pair.old), print(&pair.new)) {
        (Ok(old), Ok(new)) => old == new,
        _ => false,
    }
}

impl Slice {
    /// A slice that allows nothing.
    pub(crate) fn none() -> Self {
        Self { auto: Vec::new(), ceiling: Vec::new(), obliging: Vec::new(), reads: std::collections::BTreeSet::new() }
    }

    fn fixed(&self, which: &Fixed) -> Result<Self, String> {
        let rules = |rules: &[Policy]| -> Result<Vec<Policy>, String> {
            rules.iter().filter_map(|rule| fixed(rule, which).transpose()).collect()
        };
        Ok(Self {
            auto: rules(&self.auto)?,
            ceiling: rules(&self.ceiling)?,
            obliging: rules(&self.obliging)?,
            reads: self.reads.clone(),
        })
    }
}

/// A rule word for word, its annotations too.
pub(crate) fn print_of(rule: &Policy) -> Result<String, String> {
    rule.to_json().map(|spelled| spelled.to_string()).map_err(|error| error.to_string())
}

fn print(slice: &Slice) -> Result<String, String> {
    let mut parts = Vec::new();
    for (layer, rules) in [("auto", &slice.auto), ("ceiling", &slice.ceiling), ("obliging", &slice.obliging)] {
        for rule in rules {
            parts.push(format!("{layer} {} {}", rule.id(), print_of(rule)?));
        }
    }
    let parts: Vec<&[u8]> = parts.iter().map(String::as_bytes).collect();
    Ok(Digest::of("countersign slice v1", &parts).hex())
}
