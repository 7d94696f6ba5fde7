//! Properties: what a person responsible wants to be true of every call, in a small file.
//!
//! A scope says which calls are meant: all of its lines together, one of the names on each line. Names must be known, for a
//! misspelt environment would make anything true.

use std::collections::BTreeMap;

use countersign_kernel::policy::{Bundle, PolicySource, Sets};
use countersign_model::Effect;
use countersign_model::near::hint;
use countersign_model::unit::micros;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::expr::{all, any, attribute, constant, entity, fact, has, not, texts, two};
use crate::slice::actions;

/// A file of properties.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PropertyFile {
    /// The properties.
    pub properties: Vec<Property>,
}

/// One property as it is spelled.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Property {
    /// Its name.
    pub id: String,
    /// What it says, for people.
    pub text: String,
    /// No such call runs.
    pub never: Option<Scope>,
    /// For `never`: `ever` (the default: not even with consent) or `allow` (not without consent).
    pub verdict: Option<Reach>,
    /// No such call runs without a human's consent.
    pub only_with_approval: Option<Scope>,
    /// For `only_with_approval`: at least so many humans.
    pub quorum: Option<u32>,
    /// For `only_with_approval`: nobody but these.
    pub approvers: Option<Vec<String>>,
    /// Every such call is denied: the same as `never` with `ever`.
    pub always_denied: Option<Scope>,
    /// No such call runs without a witness.
    pub always_witnessed: Option<Scope>,
    /// No such call runs without this obligation: one name with its scope.
    pub obligation: Option<BTreeMap<String, Scope>>,
}

/// How far `never` reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reach {
    /// Without consent.
    Allow,
    /// Consent or not.
    Ever,
}

/// Which calls are meant. Everything that is left out is any.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[serde(default)]
pub struct Scope {
    /// One of these agents.
    pub agents: Option<Vec<String>>,
    /// An agent in one of these groups.
    pub agents_in: Option<Vec<String>>,
    /// An agent in none of these groups.
    pub agents_outside: Option<Vec<String>>,
    /// One of these tools, as `UPSTREAM/TOOL`, or `unbound`.
    pub tools: Option<Vec<String>>,
    /// A tool of one of these upstreams.
    pub upstreams: Option<Vec<String>>,
    /// One of these targets.
    pub targets: Option<Vec<String>>,
    /// A target in one of these environments.
    pub environments: Option<Vec<String>>,
    /// One of these effects.
    pub effects: Option<Vec<String>>,
    /// What else is known of the call.
    pub when: When,
}

/// What is known of a call. A list holds where the call has one of its names.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[serde(default)]
pub struct When {
    /// Kinds of statements.
    pub kinds: Option<Vec<String>>,
    /// Tables.
    pub tables: Option<Vec<String>>,
    /// Functions.
    pub functions: Option<Vec<String>>,
    /// Programs.
    pub programs: Option<Vec<String>>,
    /// Hosts.
    pub hosts: Option<Vec<String>>,
    /// Some host is not among these.
    pub hosts_outside: Option<Vec<String>>,
    /// Domains of recipients.
    pub recipient_domains: Option<Vec<String>>,
    /// Some recipient's domain is not among these.
    pub recipient_domains_outside: Option<Vec<String>>,
    /// Patterns that match.
    pub matched: Option<Vec<String>>,
    /// Labels of the tool's results.
    pub labels: Option<Vec<String>>,
    /// Labels of the run's results so far; all of them.
    pub run_labels: Option<Vec<String>>,
    /// None of these leases is in force.
    pub leases_without: Option<Vec<String>>,
    /// Whether it was not understood.
    pub opaque: Option<bool>,
    /// Whether every change has a `WHERE`.
    pub has_where: Option<bool>,
    /// Whether it is a new pair of tools.
    pub new_pair: Option<bool>,
    /// More than this amount, as a decimal text: `"100.50"`.
    pub amount_over: Option<String>,
    /// More than this many.
    pub count_over: Option<i64>,
    /// More than this percentage of what there is.
    pub percent_of_current_over: Option<i64>,
    /// More rows spelled out.
    pub rows_over: Option<i64>,
    /// More recipients.
    pub recipients_over: Option<i64>,
    /// Deeper than this in a chain of agents.
    pub depth_over: Option<i64>,
}

/// What a property claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// No such call is allowed without consent.
    NeverAlone,
    /// No such call is allowed at all.
    Never,
    /// Where such a call can run, one of these gates fires.
    Gated(Vec<String>),
    /// Where such a call can run, one of these obligations' rules holds.
    Obliged(Vec<String>),
}

impl Property {
    /// What it claims, of which calls.
    ///
    /// # Errors
    /// It claims nothing, more than one thing, or names what is not known.
    pub fn checked(&self, bundle: &Bundle, source: &PolicySource) -> Result<(Claim, &Scope), String> {
        let sets = bundle.sets()?;
        let obligation = self.obligation.as_ref().map(|map| one(map)).transpose()?;
        let claims = [
            self.never.as_ref().map(|scope| match self.verdict {
                Some(Reach::Allow) => (Claim::NeverAlone, scope),
                _ => (Claim::Never, scope),
            }),
            self.only_with_approval.as_ref().map(|scope| (self.gated(sets), scope)),
            self.always_denied.as_ref().map(|scope| (Claim::Never, scope)),
            self.always_witnessed.as_ref().map(|scope| (obliged("witness", sets), scope)),
            obligation.map(|(name, scope)| (obliged(name, sets), scope)),
        ];
        let mut claims = claims.into_iter().flatten();
        let (Some((claim, scope)), None) = (claims.next(), claims.next()) else {
            return Err("write exactly one of never, only_with_approval, always_denied, always_witnessed, obligation"
                .to_owned());
        };
        if self.verdict.is_some() && self.never.is_none() {
            return Err("`verdict` belongs to `never`".to_owned());
        }
        if (self.quorum.is_some() || self.approvers.is_some()) && self.only_with_approval.is_none() {
            return Err("`quorum` and `approvers` belong to `only_with_approval`".to_owned());
        }
        if let Some(amount) = scope.when.amount_over.as_ref().filter(|_| scope.when.amount_micros().is_none()) {
            return Err(format!("`amount_over: {amount}` is no amount; write a decimal text, such as \"100.50\""));
        }
        scope.names(sets, source)?;
        Ok((claim, scope))
    }

    fn gated(&self, sets: Sets<'_>) -> Claim {
        if self.quorum.is_none() && self.approvers.is_none() {
            return Claim::NeverAlone;
        }
        let gates = sets.gates.iter().filter(|(_, gate)| {
            let enough = self.quorum.is_none_or(|quorum| gate.quorum >= quorum);
            let among = |names: &Vec<String>| {
                !gate.approvers.is_empty() && gate.approvers.iter().all(|approver| names.contains(approver))
            };
            enough && self.approvers.as_ref().is_none_or(among)
        });
        Claim::Gated(gates.map(|(id, _)| id.clone()).collect())
    }
}

fn one(map: &BTreeMap<String, Scope>) -> Result<(&str, &Scope), String> {
    const KNOWN: [&str; 7] = ["max_rows", "timeout", "witness", "redact", "undo", "sandbox", "notify"];
    match map.iter().next() {
        Some((name, scope)) if map.len() == 1 && KNOWN.contains(&name.as_str()) => Ok((name, scope)),
        Some((name, _)) if map.len() == 1 => {
            Err(format!("`{name}` is no obligation{}; known are {}", hint(name, KNOWN), KNOWN.join(", ")))
        }
        _ => Err("`obligation` names one obligation with its scope".to_owned()),
    }
}

/// The rules that demand an obligation of this name, whatever its value.
fn obliged(name: &str, sets: Sets<'_>) -> Claim {
    use countersign_model::verdict::Obligation;
    let is_meant = |obligation: &Obligation| {
        name == match obligation {
            Obligation::MaxRows { .. } => "max_rows",
            Obligation::Timeout { .. } => "timeout",
            Obligation::Witness => "witness",
            Obligation::Redact => "redact",
            Obligation::Undo => "undo",
            Obligation::Sandbox => "sandbox",
            Obligation::Notify { .. } => "notify",
        }
    };
    let rules = sets.obligations.iter().filter(|(_, obligation)| is_meant(obligation));
    Claim::Obliged(rules.map(|(id, _)| id.clone()).collect())
}

impl Scope {
    /// Every name must be known.
    fn names(&self, sets: Sets<'_>, source: &PolicySource) -> Result<(), String> {
        let tools: Vec<String> = actions(sets.schema).iter().map(|action| action.id().unescaped().to_owned()).collect();
        let upstreams = tools.iter().filter_map(|tool| tool.split_once('/')).map(|(upstream, _)| upstream);
        let groups: Vec<&str> = source.agents.iter().flat_map(|agent| &agent.groups).map(String::as_str).collect();
        let agents = source.agents.iter().map(|agent| agent.id.as_str());
        let targets = source.targets.iter().map(|target| target.id.as_str());
        let environments = source.targets.iter().map(|target| target.environment.as_str());
        known("agent", self.agents.as_deref(), &agents.collect::<Vec<_>>())?;
        known("group", self.agents_in.as_deref(), &groups)?;
        known("group", self.agents_outside.as_deref(), &groups)?;
        known("tool", self.tools.as_deref(), &tools.iter().map(String::as_str).collect::<Vec<_>>())?;
        known("upstream", self.upstreams.as_deref(), &upstreams.collect::<Vec<_>>())?;
        known("target", self.targets.as_deref(), &targets.collect::<Vec<_>>())?;
        known("environment", self.environments.as_deref(), &environments.collect::<Vec<_>>())?;
        known("effect", self.effects.as_deref(), &Effect::ALL.map(Effect::as_str))
    }

    /// Whether a tool is meant.
    pub(crate) fn means(&self, tool: &str) -> bool {
        let upstream = tool.split_once('/').map_or("", |(upstream, _)| upstream);
        let is_among = |names: &Option<Vec<String>>, name: &str| {
            names.as_ref().is_none_or(|names| names.iter().any(|known| known == name))
        };
        is_among(&self.tools, tool) && is_among(&self.upstreams, upstream)
    }

    /// The rest of it as a condition.
    pub(crate) fn condition(&self) -> Value {
        let principal = || json!({"Var": "principal"});
        let resource = || json!({"Var": "resource"});
        let groups = |names: &Vec<String>| one_of(names, |name| two("in", principal(), entity("AgentGroup", name)));
        let is_agent = |name: &str| two("==", principal(), entity("Agent", name));
        let is_target = |name: &str| two("==", resource(), entity("Target", name));
        let stands_in = |name: &str| two("==", attribute(resource(), "environment"), constant(name));
        let has_effect = |name: &str| two("==", fact("effect"), constant(name));
        let parts = [
            self.agents.as_ref().map(|names| one_of(names, is_agent)),
            self.agents_in.as_ref().map(groups),
            self.agents_outside.as_ref().map(|names| not(groups(names))),
            self.targets.as_ref().map(|names| one_of(names, is_target)),
            self.environments.as_ref().map(|names| one_of(names, stands_in)),
            self.effects.as_ref().map(|names| one_of(names, has_effect)),
        ];
        let mut parts: Vec<Value> = parts.into_iter().flatten().collect();
        parts.extend(self.when.conditions());
        all(parts)
    }
}

impl When {
    fn amount_micros(&self) -> Option<i64> {
        i64::try_from(micros(self.amount_over.as_deref()?)?).ok()
    }

    fn conditions(&self) -> Vec<Value> {
        let mut parts = Vec::new();
        let some = [
            ("kinds", &self.kinds),
            ("tables", &self.tables),
            ("functions", &self.functions),
            ("programs", &self.programs),
            ("hosts", &self.hosts),
            ("recipient_domains", &self.recipient_domains),
            ("matched", &self.matched),
            ("labels", &self.labels),
        ];
        parts.extend(with(&some, |name, names| two("containsAny", fact(name), texts(names))));
        let outside = [("hosts", &self.hosts_outside), ("recipient_domains", &self.recipient_domains_outside)];
        parts.extend(with(&outside, |name, names| not(two("containsAll", texts(names), fact(name)))));
        let every = [("run_labels", &self.run_labels)];
        parts.extend(with(&every, |name, names| two("containsAll", fact(name), texts(names))));
        let without = [("leases", &self.leases_without)];
        parts.extend(with(&without, |name, names| not(two("containsAny", fact(name), texts(names)))));
        let flags = [("opaque", self.opaque), ("has_where", self.has_where), ("new_pair", self.new_pair)];
        let flags = flags.into_iter().filter_map(|(name, flag)| Some(two("==", fact(name), constant(flag?))));
        parts.extend(flags);
        let optional = [
            ("amount_micros", self.amount_micros()),
            ("count", self.count_over),
            ("percent_of_current", self.percent_of_current_over),
        ];
        let optional = optional
            .into_iter()
            .filter_map(|(name, over)| Some(two("&&", has(name), two(">", fact(name), constant(over?)))));
        parts.extend(optional);
        let numbers =
            [("rows_spelled", self.rows_over), ("recipients", self.recipients_over), ("depth", self.depth_over)];
        parts.extend(numbers.into_iter().filter_map(|(name, over)| Some(two(">", fact(name), constant(over?)))));
        parts
    }
}

fn one_of(names: &[String], condition: impl Fn(&str) -> Value) -> Value {
    any(names.iter().map(|name| condition(name)))
}

fn with(lists: &[(&str, &Option<Vec<String>>)], make: impl Fn(&str, &[String]) -> Value) -> Vec<Value> {
    lists.iter().filter_map(|(name, names)| names.as_deref().map(|names| make(name, names))).collect()
}

fn known(what: &str, names: Option<&[String]>, known: &[&str]) -> Result<(), String> {
    match names {
        Some([]) => Err(format!("an empty list of {what}s means no call; leave it out to mean any")),
        Some(names) => match names.iter().find(|name| !known.contains(&name.as_str())) {
            Some(name) => Err(format!("the {what} `{name}` is not known{}", hint(name, known.iter().copied()))),
            None => Ok(()),
        },
        None => Ok(()),
    }
}
