//! Permits that let one agent change things in several environments without saying so.
//!
//! A permit for everything is easily written while there is one environment, and covers the next one when it comes. So the
//! bundle is asked: for every agent and everything that can be reached, may it act there? Where one and the same permit
//! answers yes in two environments and names neither, a human should look. It asks about calls without facts other than
//! their effect, so what it finds is so, and permits that depend on more facts than that are not found. It must not know
//! what is to be done about it.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use cedar_policy::PolicySet;
use countersign_model::TimeMs;
use countersign_model::action::Point;
use countersign_model::facts::{Effect, Facts};
use countersign_model::id::{AgentId, Environment, TargetId, ToolName, UpstreamId};
use serde_json::Value;

use super::{Bundle, EvaluationRequest, PolicySource};

/// The most questions that are asked.
pub const QUESTIONS_MAX: usize = 20_000;

/// Something that can be reached.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reach {
    /// Through this upstream.
    pub upstream: UpstreamId,
    /// By this tool.
    pub tool: ToolName,
    /// On this target.
    pub target: TargetId,
    /// There.
    pub environment: Environment,
}

/// A permit that spans environments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spanning {
    /// The permit's id.
    pub policy: String,
    /// How bad that is.
    pub severity: Severity,
    /// Whom it lets act.
    pub agents: BTreeSet<AgentId>,
    /// Where.
    pub environments: BTreeSet<Environment>,
}

/// How bad something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// A human is asked, in all of them or in all but one.
    Low,
    /// No human is asked, and none of the environments is called production.
    Medium,
    /// No human is asked, and one of the environments is called production.
    High,
}

impl Severity {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }
}

/// Permits that span environments, by id; and whether everything was asked.
#[must_use]
pub fn spanning(source: &PolicySource, bundle: &Bundle, reach: &BTreeSet<Reach>) -> (Vec<Spanning>, bool) {
    let environments: BTreeSet<&Environment> = reach.iter().map(|one| &one.environment).collect();
    if environments.len() < 2 {
        return (Vec::new(), true);
    }
    let silent = silent_permits(source);
    let mut found: BTreeMap<(String, AgentId), Where> = BTreeMap::new();
    let mut asked = 0_usize;
    for agent in &source.agents {
        for (one, effect) in reach.iter().flat_map(|one| ACTING.iter().map(move |effect| (one, *effect))) {
            if asked == QUESTIONS_MAX {
                return (grouped(found), false);
            }
            asked = asked.saturating_add(1);
            let evaluation = bundle.evaluate(&question(&agent.id, one, effect));
            if !evaluation.ceiling || evaluation.errors.total > 0 {
                continue;
            }
            for policy in evaluation.determining.items.iter().filter(|policy| silent.contains(*policy)) {
                let places = found.entry((policy.clone(), agent.id.clone())).or_default();
                places.possible.insert(one.environment.clone());
                if evaluation.auto {
                    places.unasked.insert(one.environment.clone());
                }
            }
        }
    }
    (grouped(found), true)
}

const ACTING: [Effect; 6] =
    [Effect::Write, Effect::Outbound, Effect::Spend, Effect::Spawn, Effect::Destructive, Effect::Opaque];

/// Where one agent may act by one permit.
#[derive(Default)]
struct Where {
    possible: BTreeSet<Environment>,
    unasked: BTreeSet<Environment>,
}

fn grouped(found: BTreeMap<(String, AgentId), Where>) -> Vec<Spanning> {
    let mut grouped: BTreeMap<(String, Severity, BTreeSet<Environment>), BTreeSet<AgentId>> = BTreeMap::new();
    for ((policy, agent), places) in found {
        let (severity, environments) = match (places.unasked.len(), places.possible.len()) {
            (2.., _) if places.unasked.iter().any(is_production) => (Severity::High, places.unasked),
            (2.., _) => (Severity::Medium, places.unasked),
            (_, 2..) => (Severity::Low, places.possible),
            _ => continue,
        };
        grouped.entry((policy, severity, environments)).or_default().insert(agent);
    }
    let found = grouped.into_iter();
    found
        .map(|((policy, severity, environments), agents)| Spanning { policy, severity, agents, environments })
        .collect()
}

/// Whether an environment sounds like production. A name decides nothing but how loud the warning is.
fn is_production(environment: &Environment) -> bool {
    let name = environment.as_str().to_ascii_lowercase();
    name.starts_with("prod") || name == "live"
}

fn question(agent: &AgentId, reach: &Reach, effect: Effect) -> EvaluationRequest {
    let facts = match effect {
        Effect::Opaque => Facts::opaque("asked about in general"),
        effect => Facts::declared(effect),
    };
    EvaluationRequest {
        agent: agent.clone(),
        depth: 0,
        point: Point::Mcp,
        upstream: reach.upstream.clone(),
        tool: reach.tool.clone(),
        target: reach.target.clone(),
        environment: reach.environment.clone(),
        facts,
        leases: Vec::new(),
        token_expires: TimeMs(3_600_000),
        now: TimeMs(0),
        history: Default::default(),
        arguments: Vec::new(),
    }
}

/// The ids of permits that name no environment: neither one as such, nor a target, nor where a target stands.
fn silent_permits(source: &PolicySource) -> BTreeSet<String> {
    let sets = source.policies.iter().filter_map(|(_, text)| PolicySet::from_str(text).ok());
    let mut silent = BTreeSet::new();
    for set in sets {
        for policy in set.policies() {
            let id = policy.annotation("id").map(str::to_owned);
            // What cannot be read is not claimed to be silent.
            let names = policy.to_json().map_or(true, |json| names_environment(&json));
            silent.extend(id.filter(|_| !names && policy.effect() == cedar_policy::Effect::Permit));
        }
    }
    silent
}

fn names_environment(json: &Value) -> bool {
    match json {
        Value::Object(members) => members.iter().any(|(name, value)| {
            let is_place = name == "type" && [Some("Environment"), Some("Target")].contains(&value.as_str());
            let is_attribute = name == "attr" && value == "environment";
            is_place || is_attribute || names_environment(value)
        }),
        Value::Array(items) => items.iter().any(names_environment),
        _ => false,
    }
}
