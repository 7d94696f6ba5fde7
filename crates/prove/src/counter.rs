//! Counterexamples: played again on the real authorizer, and told in plain words.
//!
//! A solver's model has oddities in every field that does not matter; only what the rules that fired read is shown.

use std::collections::BTreeSet;
use std::str::FromStr as _;

use cedar_policy::{
    Authorizer, Decision, Entities, EntityId, EntityTypeName, EntityUid, EvalResult, Policy, PolicySet, Schema,
};
use cedar_policy_symcc::Env;
use countersign_kernel::policy::Bundle;
use serde_json::{Value, json};

use crate::expr;

/// A call that refutes a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counterexample {
    /// The tool, as `UPSTREAM/TOOL`, or `unbound`.
    pub tool: String,
    /// How many tools are alike for these rules, this one among them.
    pub alike: usize,
    /// The agent; none where any will do that is in these groups.
    pub agent: Option<String>,
    /// Its groups.
    pub groups: Vec<String>,
    /// The target; none where any will do that is in this environment.
    pub target: Option<String>,
    /// Its environment.
    pub environment: String,
    /// The facts that mattered, in order.
    pub facts: Vec<(String, String)>,
    /// The rules that decided.
    pub rules: Vec<String>,
}

/// What the real authorizer says of a call.
#[derive(Clone, Debug, Default)]
pub(crate) struct Replayed {
    pub(crate) auto: bool,
    pub(crate) ceiling: bool,
    /// What determined the ceiling's answer.
    pub(crate) determining: BTreeSet<String>,
    /// Gates that fired.
    pub(crate) gates: BTreeSet<String>,
    /// Rules of the layer of obligations that hold.
    pub(crate) obliging: BTreeSet<String>,
    /// Rules that erred.
    pub(crate) errors: BTreeSet<String>,
}

/// The entities of a counterexample, with the actions of the schema.
pub(crate) fn entities(env: &Env, schema: &Schema) -> Result<Entities, String> {
    let own = env.entities.iter().filter(|entity| entity.uid().type_name().to_string() != "Action").cloned();
    Entities::from_entities(own, Some(schema)).map_err(|error| error.to_string())
}

/// Asks the real sets about a counterexample.
pub(crate) fn replay(env: &Env, bundle: &Bundle) -> Result<Replayed, String> {
    let sets = bundle.sets()?;
    let entities = entities(env, sets.schema)?;
    let ask = |set: &PolicySet| {
        let response = Authorizer::new().is_authorized(&env.request, set, &entities);
        let reasons: BTreeSet<String> = response.diagnostics().reason().map(ToString::to_string).collect();
        let errors: BTreeSet<String> = response
            .diagnostics()
            .errors()
            .map(|error| match error {
                cedar_policy::AuthorizationError::PolicyEvaluationError(error) => error.policy_id().to_string(),
            })
            .collect();
        (response.decision() == Decision::Allow, reasons, errors)
    };
    let (auto, reasons, mut errors) = ask(sets.auto);
    let (ceiling, determining, more) = ask(sets.ceiling);
    let (_, obliging, of_obligations) = ask(sets.obliging);
    errors.extend(more.into_iter().chain(of_obligations));
    let gates = reasons.into_iter().filter(|id| sets.gates.contains_key(id)).collect();
    Ok(Replayed { auto, ceiling, determining, gates, obliging, errors })
}

/// Whether one rule of ours allows the call of a counterexample.
pub(crate) fn is_allowed(env: &Env, rule: &Policy, schema: &Schema) -> Result<bool, String> {
    let set = PolicySet::from_policies([rule.clone()]).map_err(|error| error.to_string())?;
    let response = Authorizer::new().is_authorized(&env.request, &set, &entities(env, schema)?);
    Ok(response.decision() == Decision::Allow)
}

/// Tells a counterexample: what `rules` of the bundle and `also` read of it.
pub(crate) fn tell(
    env: &Env,
    bundle: &Bundle,
    (rules, also): (&BTreeSet<String>, &BTreeSet<String>),
    alike: usize,
) -> Result<Counterexample, String> {
    let sets = bundle.sets()?;
    let mut names = also.clone();
    for policy in sets.auto.policies().chain(sets.obliging.policies()) {
        if rules.contains(&policy.id().to_string()) {
            names.extend(expr::reads(policy).unwrap_or_default());
        }
    }
    let id = |uid: Option<&EntityUid>| uid.map_or_else(String::new, |uid| uid.id().unescaped().to_owned());
    let known = |uid: Option<&EntityUid>| uid.filter(|uid| sets.entities.get(uid).is_some()).map(|uid| id(Some(uid)));
    let resource = env.request.resource().and_then(|uid| env.entities.get(uid));
    let environment = match resource.and_then(|entity| entity.attr("environment")) {
        Some(Ok(EvalResult::String(name))) => name,
        _ => String::new(),
    };
    let parents = env.request.principal().and_then(|uid| env.entities.ancestors(uid));
    let mut groups: Vec<String> = parents.into_iter().flatten().map(|uid| id(Some(uid))).collect();
    groups.sort();
    let context = env.request.context();
    let told = names.iter().filter_map(|name| {
        let value = context.and_then(|context| context.get(name))?;
        Some((name.clone(), value.to_string()))
    });
    Ok(Counterexample {
        tool: id(env.request.action()),
        alike,
        agent: known(env.request.principal()),
        groups,
        target: known(env.request.resource()),
        environment,
        facts: told.collect(),
        rules: rules.iter().cloned().collect(),
    })
}

impl Counterexample {
    /// The call in plain words, on one line.
    #[must_use]
    pub fn words(&self) -> String {
        let quoted = |name: &str| format!("`{name}`");
        let groups = match self.groups.as_slice() {
            [] => "in no group".to_owned(),
            groups => format!("in {}", groups.iter().map(|group| quoted(group)).collect::<Vec<_>>().join(", ")),
        };
        let agent = match &self.agent {
            Some(agent) => format!("agent {} ({groups})", quoted(agent)),
            None => format!("an agent {groups}"),
        };
        let tool = match self.tool.as_str() {
            "unbound" => "a tool without a binding".to_owned(),
            tool => quoted(tool),
        };
        let alike = match self.alike {
            0 | 1 => String::new(),
            more => format!(" (or one of {} more that the same rules see)", more.saturating_sub(1)),
        };
        let target = match &self.target {
            Some(target) => format!("target {} in {}", quoted(target), quoted(&self.environment)),
            None => format!("a target in {}", quoted(&self.environment)),
        };
        let facts: Vec<String> = self.facts.iter().map(|(name, value)| format!("{name} = {value}")).collect();
        let with = if facts.is_empty() { String::new() } else { format!(", with {}", facts.join(", ")) };
        format!("{agent} calls {tool}{alike} on {target}{with}")
    }

    /// The same for programs.
    #[must_use]
    pub fn json(&self) -> Value {
        let facts: serde_json::Map<String, Value> =
            self.facts.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
        json!({
            "tool": self.tool, "alike": self.alike, "agent": self.agent, "groups": self.groups,
            "target": self.target, "environment": self.environment, "facts": facts, "rules": self.rules,
        })
    }
}

/// The action of a tool.
pub(crate) fn action(tool: &str) -> Result<EntityUid, String> {
    let kind = EntityTypeName::from_str("Action").map_err(|error| error.to_string())?;
    Ok(EntityUid::from_type_name_and_id(kind, EntityId::new(tool)))
}
