//! What a reviewer should look at, worst first.
//!
//! Each finding says what is so and what to do. It must not know how any of it was gathered.

use std::collections::{BTreeMap, BTreeSet};

use countersign_model::TimeMs;
use countersign_model::facts::Effect;
use countersign_model::id::{AgentId, Environment};

use super::{Gated, Grant, Tokens, Use, UseKey, Used};
use crate::rules::{Layer, Rules};

const DAY_MS: u64 = 86_400_000;
const PRODUCTION: &str = "production";

/// How bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Look at it today.
    High,
    /// Look at it soon.
    Medium,
    /// Tidy up.
    Low,
}

impl Severity {
    /// The word for people and programs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::High => "high",
            Self::Medium => "medium",
            Self::Low => "low",
        }
    }
}

/// One thing to look at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// How bad.
    pub severity: Severity,
    /// What kind, for programs: `grant_unused`, `gate_always_approved`, …
    pub kind: &'static str,
    /// Whom or what it is about.
    pub subject: String,
    /// What is so.
    pub says: String,
    /// What to do about it.
    pub remedy: String,
    /// The rules that it is about, if any.
    pub rules: Vec<String>,
}

/// From where on something is worth a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The moment of the audit.
    pub now: TimeMs,
    /// A grant that was not used for so long is unused.
    pub unused_days: u64,
    /// A gate with at least so many answers, all yes, is a habit.
    pub gate_answers: u64,
    /// A right that was lent at least so often is no exception any more.
    pub leases: u64,
    /// A token that lives longer than this many days is long.
    pub token_days: u64,
    /// One that lives longer than this many days might as well never end.
    pub token_days_forever: u64,
}

impl Limits {
    /// The usual ones.
    #[must_use]
    pub const fn usual(now: TimeMs, unused_days: u64) -> Self {
        Self { now, unused_days, gate_answers: 5, leases: 3, token_days: 7, token_days_forever: 90 }
    }
}

/// A credential that opens an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// What it opens, for people: ``upstream `crm` ``.
    pub name: String,
    /// The environments of what it opens.
    pub environments: BTreeSet<Environment>,
}

/// What is looked at besides rules and calls.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings<'a> {
    /// What any permit could allow.
    pub grants: &'a [Grant],
    /// Tokens and leases.
    pub tokens: &'a Tokens,
    /// Credentials of upstreams: the configuration knows no expiry of any.
    pub credentials: &'a [Credential],
    /// Only what is about this agent.
    pub agent: Option<&'a AgentId>,
}

/// All findings, worst first.
#[must_use]
pub fn findings(rules: &Rules, used: &Used<'_>, around: &Surroundings<'_>, limits: &Limits) -> Vec<Finding> {
    let mut all = Vec::new();
    unused_grants(used, around, limits, &mut all);
    shared_environments(around, &mut all);
    tokens(around, limits, &mut all);
    leases(around, limits, &mut all);
    if around.agent.is_none() {
        credentials(around.credentials, &mut all);
        gates(&used.gates, limits, &mut all);
        silent_rules(rules, used, &mut all);
    }
    all.sort();
    all
}

fn is_about(around: &Surroundings<'_>, agent: &AgentId) -> bool {
    around.agent.is_none_or(|only| only == agent)
}

/// Grants that nobody used for long enough.
fn unused_grants(used: &Used<'_>, around: &Surroundings<'_>, limits: &Limits, all: &mut Vec<Finding>) {
    let horizon = limits.now.0.saturating_sub(limits.unused_days.saturating_mul(DAY_MS));
    let bound: BTreeSet<_> = around.grants.iter().filter_map(|grant| grant.place.tool.as_ref()).collect();
    for grant in around.grants.iter().filter(|grant| is_about(around, &grant.agent)) {
        let place = &grant.place;
        let is_of = |key: &UseKey| {
            let is_tool = match &place.tool {
                Some(tool) => key.tool == *tool,
                None => !bound.contains(&key.tool),
            };
            key.agent == grant.agent && key.upstream == place.upstream && key.target == place.target && is_tool
        };
        let uses = used.uses.iter().filter(|(key, _)| is_of(key));
        let last = uses.filter_map(|(_, usage): (_, &Use)| usage.times.map(|(_, last)| last)).max();
        if last.is_some_and(|last| last.0 >= horizon) {
            continue;
        }
        let never = last.map_or_else(
            || "was never used in the period".to_owned(),
            |last| format!("was not used for {} days", limits.now.since_ms(last) / DAY_MS),
        );
        all.push(Finding {
            severity: severity_of(&grant.effects, &place.environment),
            kind: "grant_unused",
            subject: format!("{} {} in {}", grant.agent, place.name(), place.environment),
            says: format!("{} may call {} on {}, which {never}", grant.agent, place.name(), place.target),
            remedy: "narrow the permits, as the tightened policy does".to_owned(),
            rules: grant.permits.clone(),
        });
    }
}

fn severity_of(effects: &BTreeSet<Effect>, environment: &Environment) -> Severity {
    match (effects.last(), environment.as_str()) {
        (None | Some(Effect::Read), _) => Severity::Low,
        (Some(Effect::Write), place) if place != PRODUCTION => Severity::Low,
        (_, PRODUCTION) => Severity::High,
        _ => Severity::Medium,
    }
}

/// One agent in production and elsewhere.
fn shared_environments(around: &Surroundings<'_>, all: &mut Vec<Finding>) {
    let mut places: BTreeMap<&AgentId, BTreeMap<&Environment, BTreeSet<&str>>> = BTreeMap::new();
    for grant in around.grants.iter().filter(|grant| is_about(around, &grant.agent)) {
        // Whoever only reads in one of them carries nothing over.
        if grant.effects.iter().any(|effect| *effect != Effect::Read) {
            let rules = places.entry(&grant.agent).or_default().entry(&grant.place.environment).or_default();
            rules.extend(grant.permits.iter().map(String::as_str));
        }
    }
    for (agent, environments) in places {
        let is_in_production = environments.keys().any(|environment| environment.as_str() == PRODUCTION);
        if environments.len() < 2 || !is_in_production {
            continue;
        }
        let names: Vec<&str> = environments.keys().map(|environment| environment.as_str()).collect();
        let rules: BTreeSet<&str> = environments.values().flatten().copied().collect();
        all.push(Finding {
            severity: Severity::High,
            kind: "agent_in_environments",
            subject: agent.to_string(),
            says: format!("{agent} may make changes in {}", names.join(" and ")),
            remedy: "give each environment an agent of its own, or forbid one of them".to_owned(),
            rules: rules.into_iter().map(str::to_owned).collect(),
        });
    }
}

fn credentials(credentials: &[Credential], all: &mut Vec<Finding>) {
    for credential in credentials {
        let names: Vec<&str> = credential.environments.iter().map(Environment::as_str).collect();
        if names.len() > 1 && names.contains(&PRODUCTION) {
            all.push(Finding {
                severity: Severity::High,
                kind: "credential_in_environments",
                subject: credential.name.clone(),
                says: format!("one credential of {} opens {}", credential.name, names.join(" and ")),
                remedy: "give each environment an upstream and a credential of its own".to_owned(),
                rules: Vec::new(),
            });
        }
        all.push(Finding {
            severity: Severity::Medium,
            kind: "credential_without_expiry",
            subject: credential.name.clone(),
            says: format!("the credential of {} has no expiry that is known here", credential.name),
            remedy: "use one that expires, and renew it where `credential: from` reads it".to_owned(),
            rules: Vec::new(),
        });
    }
}

fn tokens(around: &Surroundings<'_>, limits: &Limits, all: &mut Vec<Finding>) {
    for (session, token) in &around.tokens.tokens {
        let days = token.ttl_ms / DAY_MS;
        if token.ends() <= limits.now || days <= limits.token_days || !is_about(around, &token.agent) {
            continue;
        }
        let is_forever = days > limits.token_days_forever;
        all.push(Finding {
            severity: if is_forever { Severity::High } else { Severity::Medium },
            kind: "token_long",
            subject: format!("{} session {session}", token.agent),
            says: format!("a token of {} is good for {days} days", token.agent),
            remedy: format!("issue short ones, and end this one: `countersign token revoke {session}`"),
            rules: Vec::new(),
        });
    }
}

fn leases(around: &Surroundings<'_>, limits: &Limits, all: &mut Vec<Finding>) {
    for ((agent, name), lent) in &around.tokens.leases {
        if lent.count < limits.leases || agent.as_ref().is_some_and(|agent| !is_about(around, agent)) {
            continue;
        }
        let whom = agent.as_ref().map_or_else(|| "a session of nobody known".to_owned(), ToString::to_string);
        all.push(Finding {
            severity: Severity::Medium,
            kind: "lease_renewed",
            subject: format!("{whom} {name}"),
            says: format!("the right `{name}` was lent to {whom} {} times", lent.count),
            remedy: "grant what is always needed under a gate, or end what needs it".to_owned(),
            rules: Vec::new(),
        });
    }
}

fn gates(gates: &BTreeMap<String, Gated>, limits: &Limits, all: &mut Vec<Finding>) {
    for (gate, gated) in gates {
        let is_habit = gated.approved >= limits.gate_answers && gated.refused == 0;
        if is_habit {
            all.push(Finding {
                severity: Severity::Medium,
                kind: "gate_always_approved",
                subject: gate.clone(),
                says: format!("all {} answers at gate {gate} were yes", gated.approved),
                remedy: "narrow the gate to what anybody would refuse: a yes by habit guards nothing".to_owned(),
                rules: vec![gate.clone()],
            });
        }
    }
}

fn silent_rules(rules: &Rules, used: &Used<'_>, all: &mut Vec<Finding>) {
    for rule in rules.all.iter().filter(|rule| !used.by_rule.contains_key(&rule.id)) {
        let remedy = match rule.layer {
            Layer::Permit => "remove it, as the tightened policy does",
            // That nothing tried it is no reason to allow it.
            Layer::Forbid => "keep it if it guards against what must never be, and test it with a case",
            Layer::Gate | Layer::Obligation => "test with a case that it holds where it should",
        };
        let what = if rule.layer == Layer::Permit { "allowed nothing" } else { "held for no call" };
        all.push(Finding {
            severity: Severity::Low,
            kind: "rule_never_fired",
            subject: rule.id.clone(),
            says: format!(
                "the {} {} ({}:{}) {what} in the period",
                rule.layer.as_str(),
                rule.id,
                rule.file,
                rule.lines.0
            ),
            remedy: remedy.to_owned(),
            rules: vec![rule.id.clone()],
        });
    }
}
