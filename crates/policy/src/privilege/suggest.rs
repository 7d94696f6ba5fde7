//! A first allow-list, learned from what ran in a period of observation.
//!
//! What only read or wrote and was understood is permitted again, to the same agent, tool, target and effects, and to the
//! same tables and hosts where they are few. Everything else that ran is permitted and gated: that it was done is no
//! reason to let it be done unasked. It must not know files.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use countersign_kernel::policy::{Bundle, PolicySource};
use countersign_model::facts::Effect;
use countersign_model::id::{AgentId, PolicyId, TargetId, ToolName, UpstreamId};
use serde_json::{Value, json};

use super::{Place, Use, UseKey, Used};
use crate::rules::{est, everything, print};

/// The file that a suggestion stands in.
const FILE: &str = "suggested.cedar";
const GATE: &str = "learned-gate";

/// A learned policy.
#[derive(Clone, Debug)]
pub struct Suggested {
    /// Its text, with counts as comments.
    pub text: String,
    /// What its bundle is made of.
    pub source: PolicySource,
    /// The bundle.
    pub bundle: Bundle,
    /// How many permits let calls run unasked.
    pub permits: usize,
    /// How many permits stand behind the gate.
    pub gated: usize,
}

/// What one permit is about.
type Subject<'a> = (&'a AgentId, &'a UpstreamId, &'a ToolName, &'a TargetId, bool);

/// Learns a policy for the agents of `source`, or for `only` one of them.
///
/// # Errors
/// Where nothing ran that could be learned from, or what was learned does not load; for people.
pub fn suggested(
    source: &PolicySource,
    used: &Used<'_>,
    (places, only): (&[Place], Option<&AgentId>),
) -> Result<Suggested, String> {
    let mut subjects: BTreeMap<Subject<'_>, Vec<(&UseKey, &Use)>> = BTreeMap::new();
    let is_known = |key: &UseKey| {
        source.agents.iter().any(|agent| agent.id == key.agent) && source.targets.iter().any(|def| def.id == key.target)
    };
    for (key, usage) in &used.uses {
        let is_wanted = only.is_none_or(|only| *only == key.agent) && usage.ran > 0 && is_known(key);
        if is_wanted {
            let subject = (&key.agent, &key.upstream, &key.tool, &key.target, is_mild(key.effect));
            subjects.entry(subject).or_default().push((key, usage));
        }
    }
    if subjects.is_empty() {
        return Err("nothing ran in the period that could be learned from; choose a longer `--since`".to_owned());
    }
    let bound: BTreeSet<String> = places.iter().filter(|place| place.tool.is_some()).map(Place::action).collect();
    let mut text =
        "// Learned from the record. Read every rule before you accept it: that something was done does not\n\
                    // make it right.\n"
            .to_owned();
    let mut ids = BTreeSet::new();
    let gated = subjects.keys().filter(|(.., is_mild)| !is_mild).count();
    let permits = subjects.len().saturating_sub(gated);
    for (subject, uses) in &subjects {
        let permit = permit(subject, uses, (&bound, &mut ids));
        text.push('\n');
        text += &comment(uses);
        text += &print::policy(&permit)?;
    }
    if gated > 0 {
        text += "\n// Whatever is more than a read or a write, or is not understood, waits for a human.\n";
        text += &print::policy(&gate())?;
    }
    let source = PolicySource { policies: vec![(FILE.to_owned(), text.clone())], ..source.clone() };
    let bundle = Bundle::load(&source).map_err(|error| format!("what was learned does not load: {error}"))?;
    Ok(Suggested { text, source, bundle, permits, gated })
}

const fn is_mild(effect: Effect) -> bool {
    matches!(effect, Effect::Read | Effect::Write)
}

fn permit(
    (agent, upstream, tool, target, is_mild): &Subject<'_>,
    uses: &[(&UseKey, &Use)],
    (bound, ids): (&BTreeSet<String>, &mut BTreeSet<String>),
) -> Value {
    let named = format!("{upstream}/{tool}");
    let is_bound = bound.contains(&named);
    let mut tree = everything();
    est::put(&mut tree, "principal", est::scope_of_one("Agent", agent.as_str()));
    est::put(&mut tree, "action", est::scope_of_one("Action", if is_bound { &named } else { "unbound" }));
    est::put(&mut tree, "resource", est::scope_of_one("Target", target.as_str()));
    let mut all = Vec::new();
    if !is_bound {
        for (name, value) in [("upstream", upstream.as_str()), ("tool", tool.as_str())] {
            all.push(est::binary("==", &est::of_context(name), &json!({"Value": value})));
        }
    }
    let effects: BTreeSet<&str> = uses.iter().map(|(key, _)| key.effect.as_str()).collect();
    all.push(match effects.iter().collect::<Vec<_>>().as_slice() {
        [only] => est::binary("==", &est::of_context("effect"), &json!({"Value": only})),
        _ => est::binary("contains", &est::text_set(effects.iter().copied()), &est::of_context("effect")),
    });
    if *is_mild {
        all.push(json!({"!": {"arg": est::of_context("opaque")}}));
        all.extend(uses.iter().all(|(_, usage)| usage.is_sql).then(|| est::of_context("sql")));
        all.extend(names(uses, |usage| usage.tables.as_ref()).map(|tables| within(&tables, "tables")));
        all.extend(names(uses, |usage| usage.hosts.as_ref()).map(|hosts| within(&hosts, "hosts")));
    }
    let bodies = all.into_iter().reduce(|left, right| est::binary("&&", &left, &right));
    est::put(&mut tree, "conditions", bodies.map_or_else(|| json!([]), |body| json!([{"kind": "when", "body": body}])));
    let mild = if *is_mild { "" } else { "-gated" };
    est::put(&mut tree, "annotations", json!({"id": id(&format!("{agent}-{named}-{target}{mild}"), ids)}));
    tree
}

/// An id that no other rule has, and that fits.
fn id(wanted: &str, ids: &mut BTreeSet<String>) -> String {
    let wanted = if PolicyId::new(wanted).is_ok() { wanted.to_owned() } else { format!("learned-{}", ids.len()) };
    let mut found = wanted.clone();
    let mut number = 2;
    while !ids.insert(found.clone()) {
        found = format!("{wanted}-{number}");
        number += 1;
    }
    found
}

/// The names that all of these calls stayed within, where they are few.
fn names(uses: &[(&UseKey, &Use)], of: fn(&Use) -> Option<&BTreeSet<String>>) -> Option<BTreeSet<String>> {
    let all: Option<Vec<_>> = uses.iter().map(|(_, usage)| of(usage)).collect();
    let all: BTreeSet<String> = all?.into_iter().flatten().cloned().collect();
    (!all.is_empty() && all.len() <= super::used::NAMES_MAX).then_some(all)
}

fn within(names: &BTreeSet<String>, attribute: &str) -> Value {
    est::binary("containsAll", &est::text_set(names.iter().map(String::as_str)), &est::of_context(attribute))
}

fn comment(uses: &[(&UseKey, &Use)]) -> String {
    let mut text = String::new();
    for (key, usage) in uses {
        // Writing to a `String` cannot fail.
        let _ = writeln!(
            text,
            "// {} ran as {} in {}; {} waited for approval, {} were denied",
            usage.ran,
            key.effect.as_str(),
            key.environment,
            usage.parked,
            usage.denied
        );
    }
    text
}

fn gate() -> Value {
    let mut tree = everything();
    est::put(&mut tree, "effect", "forbid".into());
    est::put(&mut tree, "action", json!({"op": "in", "entity": {"type": "Action", "id": "call"}}));
    let mild = est::binary("contains", &est::text_set(["read", "write"]), &est::of_context("effect"));
    let understood = json!({"!": {"arg": est::of_context("opaque")}});
    let body = est::binary("&&", &mild, &understood);
    est::put(&mut tree, "conditions", json!([{"kind": "unless", "body": body}]));
    est::put(&mut tree, "annotations", json!({"id": GATE, "gate": "more than a read or a write"}));
    tree
}
