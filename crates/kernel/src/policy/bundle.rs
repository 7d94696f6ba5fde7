//! A loaded bundle, and asking it.
//!
//! A question goes to the slice of its agent, action and target, in one immutable store of entities that all questions
//! share. It must not know how policies are read or validated (`load`, `validate`), nor what a verdict follows from the
//! answer (`judge`). An agent or a target that the bundle does not know is never asked about: it is an error, which denies.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use cedar_policy::{Authorizer, Decision, Effect, Entities, EntityUid, PolicySet, Request, Schema};
use countersign_model::encoding::{Bounded, clipped};
use countersign_model::id::{AgentId, Environment, TargetId, ToolName, UpstreamId};
use countersign_model::record::Evaluation;
use countersign_model::verdict::{GATES_MAX, Gate, OBLIGATIONS_MAX, Obligation};
use countersign_model::{Digest, Reason};

use super::EvaluationRequest;
use super::annotation::Layer;
use super::arguments::Types;
use super::index::{Index, Look};
use super::listing::Listings;
use super::patterns::PatternSet;
use super::reads::Reads;
use super::rego::Rego;
use super::schema::request;
use super::slice::{Rule, Slice, Slices};

/// A loaded policy: immutable, and asked from many threads. Clones are the same bundle.
#[derive(Clone, Debug)]
pub struct Bundle(pub(super) Arc<Loaded>);

/// What a bundle is made of.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) rules: Vec<Rule>,
    pub(super) index: Index,
    pub(super) gates: BTreeMap<String, Gate>,
    pub(super) obligations: BTreeMap<String, Obligation>,
    pub(super) schema: Schema,
    pub(super) entities: Entities,
    pub(super) agents: BTreeMap<AgentId, Known>,
    pub(super) targets: BTreeMap<TargetId, (Environment, Known)>,
    pub(super) tools: BTreeMap<UpstreamId, BTreeMap<ToolName, Known>>,
    pub(super) unbound: Known,
    pub(super) arguments: Types,
    pub(super) patterns: PatternSet,
    pub(super) rego: Option<Rego>,
    pub(super) hash: Digest,
    pub(super) slices: Slices,
    pub(super) listings: Listings,
    /// All policies in one slice, for who doubts the index.
    pub(super) whole: OnceLock<Result<Slice, String>>,
}

/// An entity that requests are about.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) number: u32,
    pub(super) uid: EntityUid,
    pub(super) look: Look,
}

/// What one request is about.
#[derive(Clone, Copy)]
pub(super) struct About<'a> {
    pub(super) agent: &'a Known,
    pub(super) action: &'a Known,
    pub(super) target: &'a Known,
}

impl About<'_> {
    pub(super) const fn place(&self) -> (u32, u32, u32) {
        (self.agent.number, self.action.number, self.target.number)
    }

    pub(super) fn uids(&self) -> (&EntityUid, &EntityUid, &EntityUid) {
        (&self.agent.uid, &self.action.uid, &self.target.uid)
    }
}

impl Bundle {
    /// Hash over everything that the bundle was made of.
    #[must_use]
    pub fn hash(&self) -> Digest {
        self.0.hash
    }

    /// Whether every question is answered in time that grows with the rules about it and no faster: Cedar has no loops.
    #[must_use]
    pub fn is_bounded(&self) -> bool {
        self.0.rego.is_none()
    }

    /// The patterns that texts of calls are compared with.
    #[must_use]
    pub fn patterns(&self) -> &PatternSet {
        &self.0.patterns
    }

    /// The ids of the policies that demand `obligation`, in order.
    pub fn demanding<'a>(&'a self, obligation: &'a Obligation) -> impl Iterator<Item = &'a str> {
        self.0.obligations.iter().filter(move |(_, demanded)| *demanded == obligation).map(|(id, _)| id.as_str())
    }

    /// Every obligation with the id of the policy that demands it, in the order of ids.
    pub fn obligations(&self) -> impl Iterator<Item = (&str, &Obligation)> {
        self.0.obligations.iter().map(|(id, obligation)| (id.as_str(), obligation))
    }

    /// Answers one question. A pure function of the request and the bundle.
    #[must_use]
    pub fn evaluate(&self, asked: &EvaluationRequest) -> Evaluation {
        let slice = |about: About<'_>| self.0.slice(about);
        self.0.answer(asked, slice).unwrap_or_else(erred)
    }

    /// Answers one question by asking every policy of the bundle, whatever its scope. It must give what
    /// [`Bundle::evaluate`] gives, slowly: whoever doubts the index can compare.
    #[must_use]
    pub fn evaluate_unsliced(&self, asked: &EvaluationRequest) -> Evaluation {
        self.0.answer(asked, |_| self.0.whole().map(Kept::Own)).unwrap_or_else(erred)
    }

    /// The question in Cedar's own terms, with the entities that it is asked of: for who takes rules apart to explain
    /// them. Nothing is decided with it.
    ///
    /// # Errors
    /// Why the question cannot be asked of this bundle, for people.
    pub fn in_cedar(&self, asked: &EvaluationRequest) -> Result<(Request, &Entities), String> {
        let about = self.0.about(asked)?;
        let types = self.0.arguments.get(&asked.upstream, &asked.tool);
        Ok((request(asked, about.uids(), types, (&self.0.schema, &Reads::All))?, &self.0.entities))
    }

    /// Whether `agent` may ever call `tool` of `upstream` on `target`, with whatever arguments and facts. False only where
    /// no call could be allowed or parked: nothing permits, or something forbids without a condition. For listings; a
    /// call is always asked about with [`Bundle::evaluate`].
    #[must_use]
    pub fn may_ever(&self, agent: &AgentId, (upstream, tool): (&UpstreamId, &ToolName), target: &TargetId) -> bool {
        let (Some(agent), Some((_, target))) = (self.0.agents.get(agent), self.0.targets.get(target)) else {
            return false;
        };
        let about = About { agent, action: self.0.action(upstream, tool), target };
        self.0.listings.may(about.place(), || self.0.may_ever(about))
    }
}

/// The answer where nothing could be asked.
fn erred(error: String) -> Evaluation {
    Evaluation::unanswered([error])
}

impl Loaded {
    pub(super) fn about(&self, asked: &EvaluationRequest) -> Result<About<'_>, String> {
        let EvaluationRequest { agent, target, environment, .. } = asked;
        let known = self.agents.get(agent).ok_or_else(|| format!("the agent `{agent}` is not known to the policy"))?;
        let (place, target) = match self.targets.get(target) {
            None => return Err(format!("the target `{target}` is not known to the policy")),
            Some((place, known)) => (place, known),
        };
        if place != environment {
            return Err(format!("the target `{}` is in `{place}`, not in `{environment}`", asked.target));
        }
        Ok(About { agent: known, action: self.action(&asked.upstream, &asked.tool), target })
    }

    pub(super) fn action(&self, upstream: &UpstreamId, tool: &ToolName) -> &Known {
        self.tools.get(upstream).and_then(|tools| tools.get(tool)).unwrap_or(&self.unbound)
    }

    fn matching(&self, about: About<'_>) -> Vec<u32> {
        self.index.matching((&about.agent.look, &about.action.look, &about.target.look))
    }

    fn slice(&self, about: About<'_>) -> Result<Kept<'_>, String> {
        if let Some(slice) = self.slices.kept(about.place()) {
            return Ok(Kept::Shared(slice));
        }
        let make = |members: &[u32]| Slice::of(members.iter().filter_map(|place| self.rule(*place)));
        let made = self.slices.keep(about.place(), self.matching(about), make);
        made.map(Kept::Shared)
    }

    /// All policies. For who doubts what a slice reads, as for who doubts the index, it reads everything.
    pub(super) fn whole(&self) -> Result<&Slice, String> {
        let make = || Ok(Slice { reads: Reads::All, ..Slice::of(self.rules.iter())? });
        self.whole.get_or_init(make).as_ref().map_err(Clone::clone)
    }

    fn rule(&self, place: u32) -> Option<&Rule> {
        self.rules.get(usize::try_from(place).ok()?)
    }

    fn answer<'a>(
        &'a self,
        asked: &EvaluationRequest,
        slice: impl FnOnce(About<'a>) -> Result<Kept<'a>, String>,
    ) -> Result<Evaluation, String> {
        let about = self.about(asked)?;
        let types = self.arguments.get(&asked.upstream, &asked.tool);
        let slice = slice(about)?;
        let slice = slice.get();
        // Rego is handed all that there is.
        let reads = if self.rego.is_some() { &Reads::All } else { &slice.reads };
        let request = request(asked, about.uids(), types, (&self.schema, reads))?;
        let ask = |policies: &PolicySet| self.ask(&request, policies);
        let auto = ask(slice.auto());
        // What `auto` allows no forbid of either layer touched, so `ceiling` gives the same answer for the same reasons.
        let ceiling = match &slice.auto {
            Some(_) if !auto.allows => ask(&slice.ceiling),
            _ => auto.clone(),
        };
        let gates: Vec<Gate> = auto.reasons.iter().filter_map(|id| self.gates.get(id)).cloned().collect();
        let obliging = slice.obliging.as_ref().map(ask).unwrap_or_default();
        let obligations: BTreeSet<Obligation> =
            obliging.reasons.iter().filter_map(|id| self.obligations.get(id)).cloned().collect();
        // An obligation that errs might have been the one that matters.
        let errors = [&auto, &ceiling, &obliging].into_iter().flat_map(|answer| answer.errors.iter().cloned());
        let mut errors: BTreeSet<String> = errors.collect();
        if obligations.len() > OBLIGATIONS_MAX {
            errors.insert(format!("more than {OBLIGATIONS_MAX} obligations fired"));
        }
        if gates.len() > GATES_MAX {
            errors.insert(format!("{} gates fired; at most {GATES_MAX} can be joined", gates.len()));
        }
        let (auto, ceiling) = self.beside(&request, (auto, ceiling), &mut errors);
        Ok(Evaluation {
            ceiling: ceiling.allows,
            auto: auto.allows,
            determining: Bounded::new(ceiling.reasons),
            gates: gates.into_iter().take(GATES_MAX).collect(),
            errors: Bounded::new(errors),
            timed_out: false,
            obligations: obligations.into_iter().take(OBLIGATIONS_MAX).collect(),
            obliging: Bounded::new(obliging.reasons),
        })
    }

    /// What Rego forbids is forbidden, whatever Cedar allows; nothing else changes.
    fn beside(&self, request: &Request, said: (Answer, Answer), errors: &mut BTreeSet<String>) -> (Answer, Answer) {
        let denials = match self.rego.as_ref().map(|rego| rego.denials(request, &self.entities)) {
            None => return said,
            Some(Ok(denials)) if denials.is_empty() => return said,
            Some(Ok(denials)) => denials,
            Some(Err(error)) => {
                errors.insert(error);
                return said;
            }
        };
        let (auto, ceiling) = said;
        // What permits is no reason for a denial; what forbids beside it is.
        let before = if ceiling.allows { BTreeSet::new() } else { ceiling.reasons };
        let reasons = before.into_iter().chain(denials).collect();
        (Answer { allows: false, ..auto }, Answer { allows: false, reasons, ..ceiling })
    }

    fn ask(&self, request: &Request, policies: &PolicySet) -> Answer {
        Answer::of(&Authorizer::new().is_authorized(request, policies, &self.entities))
    }

    fn may_ever(&self, about: About<'_>) -> bool {
        let matching = self.matching(about);
        let mut rules = matching.iter().filter_map(|place| self.rule(*place));
        let mut permits = false;
        let is_forbidden = rules.any(|rule| match (&rule.layer, rule.policy.effect()) {
            (Layer::Rule, Effect::Permit) => {
                permits = true;
                false
            }
            (Layer::Rule, Effect::Forbid) => !rule.policy.has_non_scope_constraint(),
            _ => false,
        });
        permits && !is_forbidden
    }
}

/// A slice, wherever it is kept.
enum Kept<'a> {
    Shared(Arc<Slice>),
    Own(&'a Slice),
}

impl Kept<'_> {
    fn get(&self) -> &Slice {
        match self {
            Self::Shared(slice) => slice,
            Self::Own(slice) => slice,
        }
    }
}

/// What Cedar said, in order.
#[derive(Clone, Default)]
struct Answer {
    allows: bool,
    reasons: BTreeSet<String>,
    errors: BTreeSet<String>,
}

impl Answer {
    fn of(response: &cedar_policy::Response) -> Self {
        let diagnostics = response.diagnostics();
        Self {
            allows: response.decision() == Decision::Allow,
            reasons: diagnostics.reason().map(ToString::to_string).collect(),
            errors: diagnostics.errors().map(|error| clipped(&error.to_string(), Reason::DETAIL_BYTES_MAX)).collect(),
        }
    }
}
