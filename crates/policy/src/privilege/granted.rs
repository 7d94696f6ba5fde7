//! What is granted: for each agent every tool on every target that any permit could ever allow, and with which effects.
//!
//! Conditions that read nothing of the call but its effect count; those that read other facts might hold. So more may stand
//! here than can really happen, and never less. It must not know what was used.

use std::collections::BTreeSet;

use countersign_kernel::policy::{Bundle, EvaluationRequest, PolicySource};
use countersign_model::TimeMs;
use countersign_model::action::Point;
use countersign_model::facts::{Effect, Facts};
use countersign_model::id::{AgentId, ToolName};
use countersign_model::record::History;

use super::Place;
use crate::explain::{Posed, posed};
use crate::rules::{Clause, Layer, Rule, Rules, est};

/// A name that stands for all tools without a binding. What a rule says of this very name counts for nothing.
const UNBOUND: &str = "(unbound)";
/// Their action in Cedar.
const UNBOUND_ACTION: &str = "unbound";

/// Something that an agent may be allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Who.
    pub agent: AgentId,
    /// What and where.
    pub place: Place,
    /// The permits that grant it, in the order of their files.
    pub permits: Vec<String>,
    /// What such a call may do.
    pub effects: BTreeSet<Effect>,
    /// Whether a gate might ask for approval.
    pub is_gated: bool,
}

/// All that `bundle` could ever allow the agents of its source.
#[must_use]
pub fn granted((source, bundle, rules): (&PolicySource, &Bundle, &Rules), places: &[Place]) -> Vec<Grant> {
    let mut all = Vec::new();
    for agent in &source.agents {
        for place in places {
            let Some(asking) = Asking::new(bundle, &agent.id, place) else { continue };
            let tool = &asking.asked.tool;
            if bundle.may_ever(&agent.id, (&place.upstream, tool), &place.target) {
                all.extend(asking.grant(rules, agent.id.clone()));
            }
        }
    }
    all
}

/// Questions of one agent about one place, one for each effect that a call there can have.
pub(super) struct Asking<'a> {
    bundle: &'a Bundle,
    asked: EvaluationRequest,
    place: &'a Place,
    posed: Vec<(Effect, Posed<'a>)>,
}

impl<'a> Asking<'a> {
    /// None where the bundle cannot be asked about it.
    pub(super) fn new(bundle: &'a Bundle, agent: &AgentId, place: &'a Place) -> Option<Self> {
        let asked = question(agent, place)?;
        let mut all = Vec::new();
        for effect in Effect::ALL.into_iter().filter(|effect| can_be(place, *effect)) {
            let facts = match effect {
                Effect::Opaque => Facts::opaque("any call that is not understood"),
                known => Facts::declared(known),
            };
            all.push((effect, posed(bundle, &EvaluationRequest { facts, ..asked.clone() }).ok()?));
        }
        Some(Self { bundle, asked, place, posed: all })
    }

    /// The effects with which a rule might hold of a call.
    pub(super) fn may_hold(&self, rule: &Rule) -> BTreeSet<Effect> {
        let Some((_, any)) = self.posed.first() else { return BTreeSet::new() };
        let (fixed, by_effect): (Vec<_>, Vec<_>) =
            rule.clauses.iter().filter(|clause| self.is_known(clause)).partition(|clause| is_fixed(clause));
        let mut unsure = rule.clauses.iter().filter(|clause| !self.is_known(clause));
        if !fixed.iter().all(|clause| clause.holds(&any.request, any.entities))
            || !unsure.all(|clause| self.may_hold_of_some(clause))
        {
            return BTreeSet::new();
        }
        let holds = |posed: &Posed<'_>| by_effect.iter().all(|clause| clause.holds(&posed.request, posed.entities));
        self.posed.iter().filter(|(_, posed)| holds(posed)).map(|(effect, _)| *effect).collect()
    }

    /// Whether a clause that is not known might hold. Only of what it says of the names of unbound tools more is known:
    /// a name that is bound is none of theirs.
    fn may_hold_of_some(&self, clause: &Clause) -> bool {
        let (Some(body), true) = (&clause.body, clause.reads.contains("context.tool")) else { return true };
        let is_of_more = |read: &String| {
            read.starts_with("context")
                && !["context.tool", "context.upstream", "context.effect"].contains(&read.as_str())
        };
        let mut names = vec![UNBOUND.to_owned()];
        let mut has_pattern = false;
        est::walk(body, &mut |operator, of| match operator {
            "like" => has_pattern = true,
            "Value" => names.extend(of.as_str().map(str::to_owned)),
            _ => {}
        });
        if self.place.tool.is_some() || has_pattern || clause.reads.iter().any(is_of_more) {
            return true;
        }
        let tools = names.iter().filter_map(|name| ToolName::new(name).ok());
        tools.map(|tool| EvaluationRequest { tool, ..self.asked.clone() }).any(|asked| {
            let is_unbound = self.bundle.action_of(&asked).id().unescaped() == UNBOUND_ACTION;
            is_unbound && posed(self.bundle, &asked).is_ok_and(|posed| clause.holds(&posed.request, posed.entities))
        })
    }

    fn grant(&self, rules: &Rules, agent: AgentId) -> Option<Grant> {
        let of = |layer: Layer| rules.all.iter().filter(move |rule| rule.layer == layer);
        let surely = |rule: &&Rule| rule.clauses.iter().all(|clause| self.is_known(clause));
        let forbidden: BTreeSet<Effect> =
            of(Layer::Forbid).filter(surely).flat_map(|rule| self.may_hold(rule)).collect();
        let mut permits = Vec::new();
        let mut effects = BTreeSet::new();
        for rule in of(Layer::Permit) {
            let allowed: BTreeSet<Effect> = self.may_hold(rule).difference(&forbidden).copied().collect();
            if !allowed.is_empty() {
                permits.push(rule.id.clone());
                effects.extend(allowed);
            }
        }
        let is_gated = of(Layer::Gate).any(|rule| !self.may_hold(rule).is_disjoint(&effects));
        (!permits.is_empty()).then(|| Grant { agent, place: self.place.clone(), permits, effects, is_gated })
    }

    /// Whether a clause says the same of every call at this place that has one effect.
    fn is_known(&self, clause: &Clause) -> bool {
        let is_of_tool = |read: &str| read == "context.tool" && self.place.tool.is_none();
        clause.reads.iter().all(|read| match read.as_str() {
            "context.effect" => true,
            read if is_of_tool(read) => false,
            "context.tool" | "context.upstream" => true,
            read => !read.starts_with("context"),
        })
    }
}

/// Whether a call at this place can have this effect. What is not understood is opaque anywhere; without a parsed
/// argument the binding's word is all there is, and with one it is the least.
fn can_be(place: &Place, effect: Effect) -> bool {
    match (&place.tool, place.effect) {
        _ if effect == Effect::Opaque => true,
        (None, _) => false,
        (Some(_), Some(least)) if place.is_parsed => effect >= least,
        (Some(_), Some(declared)) => effect == declared,
        (Some(_), None) => place.is_parsed,
    }
}

fn is_fixed(clause: &Clause) -> bool {
    !clause.reads.contains("context.effect")
}

/// A question of this agent about this place, with nothing known of the call.
fn question(agent: &AgentId, place: &Place) -> Option<EvaluationRequest> {
    let tool = place.tool.clone().or_else(|| ToolName::new(UNBOUND).ok())?;
    Some(EvaluationRequest {
        agent: agent.clone(),
        depth: 0,
        point: Point::Mcp,
        upstream: place.upstream.clone(),
        tool,
        target: place.target.clone(),
        environment: place.environment.clone(),
        facts: Facts::opaque("nothing is known"),
        leases: Vec::new(),
        token_expires: TimeMs(0),
        now: TimeMs(0),
        history: History::default(),
        arguments: Vec::new(),
    })
}
