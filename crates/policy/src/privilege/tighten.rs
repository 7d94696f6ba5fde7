//! A policy that grants no more than was used, as changes of the trees of its permits.
//!
//! Only permits change, and only by what narrows them: a scope of fewer, a condition more, or the permit removed. Forbids,
//! gates and obligations stay as they are. So nothing that was denied can become allowed; a test holds it to that. It
//! must not know files.

use std::collections::{BTreeMap, BTreeSet};

use countersign_kernel::by_policy_alone;
use countersign_kernel::policy::{Bundle, EvaluationRequest, PolicySource};
use countersign_model::id::{AgentId, TargetId};
use serde_json::{Value, json};

use super::granted::Asking;
use super::{Place, Used};
use crate::rules::{Layer, Rule, Rules, est, print};
use crate::verdicts::rank;

/// The most tools that a narrowed scope lists.
const ACTIONS_MAX: usize = 32;

/// One permit that was narrowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its id.
    pub rule: String,
    /// Its file.
    pub file: String,
    /// How, for people: `removed: it allowed nothing`, `principal == Agent::"coder"`.
    pub how: Vec<String>,
    /// Whether it is gone.
    pub is_removed: bool,
}

/// A narrowed policy.
#[derive(Clone, Debug)]
pub struct Tightened {
    /// What the new bundle is made of.
    pub source: PolicySource,
    /// The new bundle.
    pub bundle: Bundle,
    /// What changed, in the order of the files.
    pub changes: Vec<Change>,
    /// Permits that were to be narrowed and stay, with why: the narrower one would not load.
    pub kept: Vec<(String, String)>,
}

type Triple = (AgentId, String, TargetId);

/// Narrows the permits of `source` to what was used; with `only`, those alone that apply to nobody but this agent.
///
/// # Errors
/// A narrowed policy that does not load, for people.
pub fn tightened(
    (source, bundle, rules): (&PolicySource, &Bundle, &Rules),
    used: &Used<'_>,
    (places, only): (&[Place], Option<&AgentId>),
) -> Result<Tightened, String> {
    let mut narrowed = BTreeMap::new();
    for rule in rules.all.iter().filter(|rule| rule.layer == Layer::Permit) {
        let reach = reach(rule, (source, bundle), places);
        let is_of_other = |only: &AgentId| reach.iter().any(|(agent, ..)| agent != only);
        if only.is_some_and(is_of_other) {
            continue;
        }
        // What was used beside the reach is of agents and tools that the configuration has no more.
        let uses = used.by_rule.get(&rule.id).map(|used| used.places.intersection(&reach).cloned().collect());
        let uses = uses.unwrap_or_default();
        if let Some(change) = narrow(rule, source, (&reach, &uses)) {
            narrowed.insert(rule.id.clone(), change);
        }
    }
    load(source, rules, narrowed)
}

/// The unified diff from the policy files of `old` to those of `new`. What was compiled comes out as a new file of Cedar
/// beside the original: [`beside`].
#[must_use]
pub fn diff((old, rules): (&PolicySource, &Rules), new: &PolicySource) -> String {
    let mut text = String::new();
    for ((name, before), (_, after)) in old.policies.iter().zip(&new.policies) {
        if before == after {
            continue;
        }
        let (from, old_name, new_name) = match beside(rules, name) {
            Some(other) => ("", "/dev/null".to_owned(), format!("b/{other}")),
            None => (before.as_str(), format!("a/{name}"), format!("b/{name}")),
        };
        let lines = similar::TextDiff::from_lines(from, after.as_str());
        text += &lines.unified_diff().header(&old_name, &new_name).to_string();
    }
    text
}

/// The file that a narrowed policy is written to where `file` was compiled from another language; none where it was not.
#[must_use]
pub fn beside(rules: &Rules, file: &str) -> Option<String> {
    let is_compiled = rules.all.iter().any(|rule| rule.is_compiled && rule.file == file);
    is_compiled.then(|| format!("{}.cedar", file.replace(':', "-")))
}

/// Whether a call loses something by the change from `old` to `new`: what ran is asked about, or what was possible denied.
#[must_use]
pub fn loses(old: &Bundle, new: &Bundle, asked: &EvaluationRequest) -> bool {
    let verdict = |bundle: &Bundle| by_policy_alone(&bundle.evaluate(asked)).0;
    rank(&verdict(new)) < rank(&verdict(old))
}

/// A permit after its change; none where it is removed.
struct Narrowed {
    est: Option<Value>,
    how: Vec<String>,
}

/// Who, what and where a permit could allow at all.
fn reach(rule: &Rule, (source, bundle): (&PolicySource, &Bundle), places: &[Place]) -> BTreeSet<Triple> {
    let mut all = BTreeSet::new();
    for agent in &source.agents {
        for place in places {
            let asking = Asking::new(bundle, &agent.id, place);
            if asking.is_some_and(|asking| !asking.may_hold(rule).is_empty()) {
                all.insert((agent.id.clone(), place.action(), place.target.clone()));
            }
        }
    }
    all
}

fn narrow(
    rule: &Rule,
    source: &PolicySource,
    (reach, uses): (&BTreeSet<Triple>, &BTreeSet<Triple>),
) -> Option<Narrowed> {
    if uses.is_empty() {
        return Some(Narrowed { est: None, how: vec!["removed: it allowed nothing in the period".to_owned()] });
    }
    let mut tree = rule.est.clone();
    let mut how = Vec::new();
    for part in ["principal", "action", "resource"] {
        let of = |all: &BTreeSet<Triple>| all.iter().map(|triple| named(triple, part).to_owned()).collect();
        let (all, some): (BTreeSet<String>, BTreeSet<String>) = (of(reach), of(uses));
        if some == all {
            continue;
        }
        match part {
            "principal" => principal(&mut tree, source, &some),
            "action" => action(&mut tree, &some),
            _ => resource(&mut tree, source, &some),
        }
        if let Some(words) = said(&rule.est, &tree, part) {
            how.push(words);
        }
    }
    let last = |tree: &Value| tree.get("conditions").cloned();
    if last(&tree) != last(&rule.est) {
        how.extend(conditions(&rule.est, &tree));
    }
    (!how.is_empty()).then_some(Narrowed { est: Some(tree), how })
}

/// The one of three that a part of a scope is about.
fn named<'a>((agent, action, target): &'a Triple, part: &str) -> &'a str {
    match part {
        "principal" => agent.as_str(),
        "action" => action,
        _ => target.as_str(),
    }
}

fn principal(tree: &mut Value, source: &PolicySource, some: &BTreeSet<String>) {
    if let Some(group) = group_of(source, some) {
        // A group instead of another scope could reach further once it has new members; a condition cannot.
        if is_open(tree, "principal") {
            return est::put(tree, "principal", json!({"op": "in", "entity": {"type": "AgentGroup", "id": group}}));
        }
    }
    one_or_all_of(tree, ("principal", "Agent"), some);
}

/// A group with exactly these members, more than one.
fn group_of(source: &PolicySource, some: &BTreeSet<String>) -> Option<String> {
    let mut members: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for agent in &source.agents {
        for group in &agent.groups {
            members.entry(group).or_default().insert(agent.id.as_str());
        }
    }
    let wanted: BTreeSet<&str> = some.iter().map(String::as_str).collect();
    let exact = members.into_iter().find(|(_, of)| of.len() > 1 && *of == wanted);
    exact.map(|(group, _)| group.to_owned())
}

fn action(tree: &mut Value, some: &BTreeSet<String>) {
    let entity = |id: &String| json!({"type": "Action", "id": id});
    match some.iter().collect::<Vec<_>>().as_slice() {
        [] => {}
        [only] => est::put(tree, "action", est::scope_of_one("Action", only)),
        more if more.len() > ACTIONS_MAX => {}
        more => {
            let all: Vec<Value> = more.iter().map(|id| entity(id)).collect();
            est::put(tree, "action", json!({"op": "in", "entities": all}));
        }
    }
}

fn resource(tree: &mut Value, source: &PolicySource, some: &BTreeSet<String>) {
    let environments: BTreeSet<_> = source
        .targets
        .iter()
        .filter(|target| some.contains(target.id.as_str()))
        .map(|target| &target.environment)
        .collect();
    if let ([only], true) = (environments.iter().collect::<Vec<_>>().as_slice(), some.len() > 1) {
        let of_it = source.targets.iter().filter(|target| target.environment == ***only);
        if of_it.clone().count() == some.len() && is_open(tree, "resource") {
            let entity = json!({"type": "Environment", "id": only.as_str()});
            return est::put(tree, "resource", json!({"op": "in", "entity": entity}));
        }
    }
    one_or_all_of(tree, ("resource", "Target"), some);
}

fn is_open(tree: &Value, part: &str) -> bool {
    tree.get(part).and_then(|scope| scope.get("op")).and_then(Value::as_str) == Some("All")
}

/// A scope of the only one, or a condition that lists them all.
fn one_or_all_of(tree: &mut Value, (part, kind): (&str, &str), some: &BTreeSet<String>) {
    match some.iter().collect::<Vec<_>>().as_slice() {
        [] => {}
        [only] => est::put(tree, part, est::scope_of_one(kind, only)),
        more => {
            let all: Vec<Value> = more.iter().map(|id| est::entity_value(kind, id)).collect();
            let body = est::binary("in", &json!({"Var": part}), &json!({"Set": all}));
            let mut conditions = vec![json!({"kind": "when", "body": body})];
            conditions.extend(tree.get("conditions").and_then(Value::as_array).into_iter().flatten().cloned());
            est::put(tree, "conditions", conditions.into());
        }
    }
}

fn said(before: &Value, after: &Value, part: &str) -> Option<String> {
    let (before, after) = (before.get(part)?, after.get(part)?);
    (before != after).then(|| print::scope(part, after))
}

fn conditions(before: &Value, after: &Value) -> Vec<String> {
    let of = |tree: &Value| tree.get("conditions").and_then(Value::as_array).cloned().unwrap_or_default();
    let old = of(before);
    let new = of(after).into_iter().filter(|condition| !old.contains(condition));
    new.filter_map(|condition| condition.get("body").map(print::expression)).collect()
}

/// Puts the narrowed permits into the texts and loads them. What does not load stays as it was.
fn load(source: &PolicySource, rules: &Rules, mut narrowed: BTreeMap<String, Narrowed>) -> Result<Tightened, String> {
    let mut kept = Vec::new();
    loop {
        let new = PolicySource { policies: texts(source, rules, &narrowed)?, ..source.clone() };
        match Bundle::load(&new) {
            Ok(bundle) => {
                let changes = changes(rules, &narrowed);
                return Ok(Tightened { source: new, bundle, changes, kept });
            }
            Err(error) => {
                let guilty = error.problems.iter().filter_map(|problem| {
                    let id = problem.policy.clone()?;
                    narrowed.contains_key(&id).then(|| (id, problem.problem.clone()))
                });
                let guilty: BTreeMap<String, String> = guilty.collect();
                if guilty.is_empty() {
                    return Err(format!("the tightened policy does not load: {error}"));
                }
                narrowed.retain(|id, _| !guilty.contains_key(id));
                kept.extend(guilty);
            }
        }
    }
}

fn texts(
    source: &PolicySource,
    rules: &Rules,
    narrowed: &BTreeMap<String, Narrowed>,
) -> Result<Vec<(String, String)>, String> {
    let mut policies = source.policies.clone();
    for (name, text) in &mut policies {
        // From the end, so that places before a change stay where they are.
        for rule in rules.all.iter().rev().filter(|rule| rule.file == *name) {
            let Some(change) = narrowed.get(&rule.id) else { continue };
            let new = match &change.est {
                Some(tree) => print::policy(tree)?.trim_end().to_owned(),
                None => String::new(),
            };
            let before = text.get(..rule.span.start).ok_or("a rule lies outside of its file")?;
            let mut after = text.get(rule.span.end..).ok_or("a rule lies outside of its file")?;
            if new.is_empty() {
                after = after.trim_start_matches(['\n', ' ']);
            }
            *text = format!("{before}{new}{after}");
        }
    }
    Ok(policies)
}

fn changes(rules: &Rules, narrowed: &BTreeMap<String, Narrowed>) -> Vec<Change> {
    let changed = rules.all.iter().filter_map(|rule| {
        let Narrowed { est, how } = narrowed.get(&rule.id)?;
        Some(Change { rule: rule.id.clone(), file: rule.file.clone(), how: how.clone(), is_removed: est.is_none() })
    });
    changed.collect()
}
