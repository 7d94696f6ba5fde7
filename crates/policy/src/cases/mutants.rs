//! Mutation: would some case notice if a rule were another?
//!
//! Each rule is dropped, turned round, has each of its conditions turned round, and has its principal and resource
//! widened to any. A change that no case notices survives. Only cases in which the rule holds, or the changed rule would,
//! are asked again: what says nothing before and after changes no answer. It does not cover the scope of actions,
//! parts of a condition, or a gate's approvers, quorum and timeout.

use cedar_policy::Policy;
use countersign_kernel::policy::{PolicySource, Sets};
use serde_json::{Value, json};

use super::expect::Answer;
use super::judge::{Sight, Swap, sights};
use super::{Case, Setting};

/// Where a rule stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The file; empty where it is not known.
    pub file: String,
    /// The line of its id, from one; zero where it is not known.
    pub line: usize,
}

impl Place {
    /// The first line of a file that gives the id to a rule.
    #[must_use]
    pub fn of(id: &str, source: &PolicySource) -> Self {
        let spellings = [format!("@id(\"{id}\")"), format!("id: {id}"), format!("id: \"{id}\"")];
        let found = source.policies.iter().find_map(|(file, text)| {
            let gives = |line: &str| {
                spellings.iter().any(|spelled| match line.split_once(spelled.as_str()) {
                    Some((_, rest)) => !spelled.starts_with("id:") || spelled.ends_with('"') || is_end(rest),
                    None => false,
                })
            };
            let line = text.lines().position(gives)?;
            Some(Self { file: file.clone(), line: line.saturating_add(1) })
        });
        found.unwrap_or_default()
    }
}

fn is_end(rest: &str) -> bool {
    rest.chars().next().is_none_or(|next| next.is_whitespace() || next == ',' || next == '}')
}

/// How a rule was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is not there.
    Dropped,
    /// A permit forbids, a forbid permits.
    Flipped,
    /// A gate denies for good.
    MadeFinal,
    /// A condition, counted from one, is turned round.
    Negated(usize),
    /// Any principal will do.
    AnyPrincipal,
    /// Any resource will do.
    AnyResource,
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Dropped => f.write_str("dropped"),
            Self::Flipped => f.write_str("permit and forbid exchanged"),
            Self::MadeFinal => f.write_str("the gate denies instead of asking"),
            Self::Negated(number) => write!(f, "condition {number} turned round"),
            Self::AnyPrincipal => f.write_str("any principal"),
            Self::AnyResource => f.write_str("any resource"),
        }
    }
}

/// One changed rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mutant {
    /// The rule.
    pub rule: String,
    /// Where it stands.
    pub place: Place,
    /// How it was changed.
    pub change: Change,
}

/// What the cases noticed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mutation {
    /// Changes that some case noticed.
    pub noticed: usize,
    /// Changes that no case noticed, in the order of rules.
    pub survivors: Vec<Mutant>,
    /// How much it took.
    pub tally: Tally,
}

/// How much work a mutation run was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Rules changed.
    pub rules: usize,
    /// Answers asked for.
    pub answers: usize,
}

/// Changes every rule in every way, and says which changes no case notices.
///
/// # Errors
/// A case that fails before anything is changed, or one that Cedar cannot be asked about.
pub fn mutate(cases: &[Case], setting: &Setting<'_>, mut each: impl FnMut()) -> Result<Mutation, String> {
    let sets = setting.bundle.sets()?;
    let sights = sights(cases, setting)?;
    for sight in &sights {
        agrees(sight, setting)?;
    }
    let mut all: Vec<&Policy> = sets.auto.policies().chain(sets.obliging.policies()).collect();
    all.sort_by_key(|policy| policy.id().to_string());
    let mut mutation = Mutation::default();
    for policy in all {
        mutation.tally.rules = mutation.tally.rules.saturating_add(1);
        let rule = policy.id().to_string();
        for (change, with) in changes(policy, sets)? {
            let swap = Swap { id: &rule, with: with.as_ref(), is_final: change == Change::MadeFinal };
            if is_noticed(&swap, &sights, sets, &mut mutation.tally)? {
                mutation.noticed = mutation.noticed.saturating_add(1);
            } else {
                let place = Place::of(&rule, setting.source);
                mutation.survivors.push(Mutant { rule: rule.clone(), place, change });
            }
        }
        each();
    }
    Ok(mutation)
}

/// The way in which mutants are judged must be that of the engine, and the case must pass.
fn agrees(sight: &Sight<'_>, setting: &Setting<'_>) -> Result<(), String> {
    let case = sight.case;
    let truth = setting.bundle.evaluate(&case.asked);
    if !case.expected.differences(&truth).is_empty() {
        return Err(format!(
            "case `{}` fails already; correct it before asking what the cases would notice",
            case.name
        ));
    }
    let ours = sight.answer(setting.bundle.sets()?, None)?;
    let same = Answer::of(&ours) == Answer::of(&truth)
        && (ours.determining, ours.gates, ours.obligations) == (truth.determining, truth.gates, truth.obligations)
        && (ours.errors.total == 0) == (truth.errors.total == 0);
    if same { Ok(()) } else { Err(format!("case `{}` is answered in two ways; this is a bug", case.name)) }
}

fn is_noticed(swap: &Swap<'_>, sights: &[Sight<'_>], sets: Sets<'_>, tally: &mut Tally) -> Result<bool, String> {
    for sight in sights {
        let after = swap.with.map_or(Ok(false), |policy| sight.holds(policy, sets))?;
        if !sight.is_held(swap.id) && !after {
            continue;
        }
        tally.answers = tally.answers.saturating_add(1);
        let with = swap.with.filter(|_| after);
        let answer = sight.answer(sets, Some(&Swap { id: swap.id, with, is_final: swap.is_final }))?;
        if !sight.case.expected.differences(&answer).is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Every change of one rule, with the rule that it becomes.
fn changes(policy: &Policy, sets: Sets<'_>) -> Result<Vec<(Change, Option<Policy>)>, String> {
    let id = policy.id().to_string();
    let spelled = policy.to_json().map_err(|error| error.to_string())?;
    let again =
        |value: Value| Policy::from_json(Some(policy.id().clone()), value).map(Some).map_err(|error| error.to_string());
    let mut all = vec![(Change::Dropped, None)];
    if sets.gates.contains_key(&id) {
        all.push((Change::MadeFinal, Some(policy.clone())));
    } else if !sets.obligations.contains_key(&id) {
        let mut flipped = spelled.clone();
        let effect = if flipped.get("effect") == Some(&json!("permit")) { "forbid" } else { "permit" };
        set(&mut flipped, "effect", json!(effect));
        all.push((Change::Flipped, again(flipped)?));
    }
    for (scope, change) in [("principal", Change::AnyPrincipal), ("resource", Change::AnyResource)] {
        if spelled.pointer(&format!("/{scope}/op")) != Some(&json!("All")) {
            let mut widened = spelled.clone();
            set(&mut widened, scope, json!({"op": "All"}));
            all.push((change, again(widened)?));
        }
    }
    let conditions = spelled.get("conditions").and_then(Value::as_array).map_or(0, Vec::len);
    for number in 0..conditions {
        let mut negated = spelled.clone();
        if let Some(condition) = negated.pointer_mut(&format!("/conditions/{number}")) {
            let kind = if condition.get("kind") == Some(&json!("when")) { "unless" } else { "when" };
            set(condition, "kind", json!(kind));
        }
        all.push((Change::Negated(number.saturating_add(1)), again(negated)?));
    }
    Ok(all)
}

fn set(object: &mut Value, key: &str, value: Value) {
    if let Some(members) = object.as_object_mut() {
        members.insert(key.to_owned(), value);
    }
}
