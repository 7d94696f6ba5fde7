//! Whether a new policy lets more through than the old one: by proof, with one call for each way in which it does.
//!
//! Wider is: more runs without consent, more can run at all, an obligation that was demanded is not, or a gate that fired
//! is gone or weaker (fewer humans, others, more time). What the old rules denied because one of them erred is not known to
//! be denied still; so a rule that went must be proven not to err. It does not cover budgets, bindings and what a tool does.

use std::collections::BTreeSet;
use std::time::Instant;

use cedar_policy::{Entities, EntityUid, Policy, Request};
use cedar_policy_symcc::Env;
use countersign_kernel::policy::Sets;
use countersign_model::verdict::{GATES_MAX, Gate, OBLIGATIONS_MAX, Obligation};

use crate::counter::{Counterexample, Replayed, action, entities, replay, tell};
use crate::expr;
use crate::findings::{guarded, only, permitting};
use crate::fix::Fixed;
use crate::pairs::{Call, Pair, Side, pairs, print_of};
use crate::question::{Answer, Ask, Prover, Question};
use crate::unasked::unasked;
use crate::world;

/// How something became wider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// It runs without consent, and did not.
    Runs,
    /// It can run with consent, and could not.
    Possible,
    /// It can run without an obligation that it had.
    Obligation,
    /// It can run past a gate that it had to pass.
    Gate,
}

impl Kind {
    /// The word for programs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Runs => "runs",
            Self::Possible => "possible",
            Self::Obligation => "obligation",
            Self::Gate => "gate",
        }
    }

    /// What happened, for people.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Runs => "runs without consent now",
            Self::Possible => "can run with consent now",
            Self::Obligation => "can run without an obligation now",
            Self::Gate => "passes a weaker gate now",
        }
    }
}

/// One way in which the new policy is wider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Widening {
    /// How.
    pub kind: Kind,
    /// A call that shows it; both authorizers agree.
    pub example: Counterexample,
    /// Which rules did it, in words.
    pub because: Vec<String>,
    /// How many more kinds of calls are wider in the same way by the same rules.
    pub more: usize,
}

/// What became of a comparison.
#[derive(Clone, Debug)]
pub struct Difference {
    /// Every way in which it is wider that was found, with one example for each.
    pub widenings: Vec<Widening>,
    /// What could not be proven, with the reason.
    pub open: Vec<String>,
    /// How many kinds of calls were compared, most of them without a question.
    pub compared: usize,
    /// How many questions were asked.
    pub questions: usize,
    /// How long it took, in milliseconds.
    pub took_ms: u128,
}

impl Difference {
    /// Whether it is proven that nothing became wider.
    #[must_use]
    pub const fn is_not_wider(&self) -> bool {
        self.widenings.is_empty() && self.open.is_empty()
    }
}

/// What one question is for.
enum Shows {
    Runs,
    Possible,
    Obligation(String),
    Gate(String),
    /// A rule of the old policy that went.
    Errs(String),
}

struct Asked<'a> {
    pair: usize,
    question: Question<'a>,
    shows: Shows,
}

struct Work<'a> {
    sides: (Side<'a>, Side<'a>),
    sets: (Sets<'a>, Sets<'a>),
    pairs: Vec<Pair>,
    environments: BTreeSet<String>,
}

/// Compares two bundles. `begin` hears how many questions there are, `each` every answer.
///
/// # Errors
/// The rules of one of them cannot be taken apart.
pub fn diff<'a>(
    old: Side<'a>,
    new: Side<'a>,
    prover: &Prover,
    (begin, each): (&dyn Fn(usize), &(dyn Fn() + Sync)),
) -> Result<Difference, String> {
    let started = Instant::now();
    let (pairs, compared, mut open) = pairs(old, new)?;
    open.extend(unasked(old.source, new.source));
    open.extend(too_many(&pairs, old.bundle.sets()?));
    let targets = old.source.targets.iter().chain(&new.source.targets);
    let environments = targets.map(|target| target.environment.to_string()).collect();
    let work = Work { sides: (old, new), sets: (old.bundle.sets()?, new.bundle.sets()?), pairs, environments };
    let mut asked = Vec::new();
    for (index, pair) in work.pairs.iter().enumerate() {
        asked.extend(work.questions(index, pair)?);
    }
    begin(asked.len());
    let questions: Vec<Question<'_>> = asked.iter().map(|asked| asked.question.clone()).collect();
    let answers = prover.ask(&questions, each);
    let mut widenings: Vec<Widening> = Vec::new();
    for (asked, answer) in asked.iter().zip(&answers) {
        let Some(pair) = work.pairs.get(asked.pair) else { continue };
        match (answer, &asked.shows) {
            (Answer::Holds, _) => {}
            (Answer::Fails(_), Shows::Errs(id)) => open.push(format!(
                "rule `{id}` of the old policy can err: what it denied by that is not known to be denied still"
            )),
            (Answer::Fails(env), shows) => match work.shown(pair, shows, env) {
                Ok(widening) if widenings.contains(&widening) => {}
                Ok(widening) => widenings.push(widening),
                Err(why) => open.push(format!("{}: counterexample did not replay: {why}", pair.call.name())),
            },
            (Answer::Open(why), _) => open.push(format!("{}: {why}", pair.call.name())),
        }
    }
    without_doubles(&mut widenings);
    open.sort();
    open.dedup();
    Ok(Difference { widenings, open, compared, questions: questions.len(), took_ms: started.elapsed().as_millis() })
}

/// One example for each way and its rules. What runs without consent now can also run with it, and passes no gate: it is
/// told once.
fn without_doubles(widenings: &mut Vec<Widening>) {
    let runs: Vec<(String, Vec<String>)> = widenings
        .iter()
        .filter(|widening| widening.kind == Kind::Runs)
        .map(|widening| (widening.example.tool.clone(), widening.because.clone()))
        .collect();
    widenings.retain(|widening| {
        let is_told = runs.iter().any(|(tool, because)| *tool == widening.example.tool && *because == widening.because);
        !(is_told && matches!(widening.kind, Kind::Possible | Kind::Gate))
    });
    widenings.sort_by(|a, b| (a.kind, &a.because, &a.example.tool).cmp(&(b.kind, &b.because, &b.example.tool)));
    let mut told: Vec<Widening> = Vec::new();
    for widening in widenings.drain(..) {
        match told.last_mut().filter(|last| (last.kind, &last.because) == (widening.kind, &widening.because)) {
            Some(last) => last.more = last.more.saturating_add(1),
            None => told.push(widening),
        }
    }
    *widenings = told;
}

/// More gates or obligations than can be joined deny a call, and no question knows that.
fn too_many(pairs: &[Pair], old: Sets<'_>) -> Vec<String> {
    let is_over = |pair: &&Pair| {
        let gates = pair.old.auto.iter().filter(|rule| old.gates.contains_key::<str>(rule.id().as_ref()));
        gates.count() > GATES_MAX || pair.old.obliging.len() > OBLIGATIONS_MAX
    };
    let over = pairs.iter().filter(is_over);
    over.map(|pair| {
        format!("{}: the old policy has more gates or obligations than one call can join", pair.call.name())
    })
    .collect()
}

impl Call {
    /// The action whose name the call has: a tool keeps its name when it loses its binding.
    fn named(&self) -> Result<EntityUid, String> {
        self.unbound_now.as_deref().map_or_else(|| Ok(self.action.clone()), action)
    }

    fn name(&self) -> &str {
        self.unbound_now.as_deref().unwrap_or_else(|| self.action.id().unescaped())
    }
}

impl<'a> Work<'a> {
    fn questions(&self, index: usize, pair: &Pair) -> Result<Vec<Asked<'a>>, String> {
        let reads = pair.old.reads.union(&pair.new.reads).cloned().collect();
        let within = world::condition(&pair.call.named()?, &self.environments, &reads);
        let ask = |ask: Ask, shows: Shows| Asked {
            pair: index,
            question: Question { schema: self.sets.1.schema, action: pair.call.action.clone(), ask },
            shows,
        };
        let can_run = only(&pair.new.ceiling, &within)?;
        let mut all = vec![
            ask(Ask::Implies(only(&pair.new.auto, &within)?, pair.old.auto.clone()), Shows::Runs),
            ask(Ask::Implies(can_run.clone(), pair.old.ceiling.clone()), Shows::Possible),
        ];
        for rule in &pair.old.obliging {
            let id = rule.id().to_string();
            let still = self.still(&pair.new.obliging, |other| self.obliges_as_much(&id, other));
            if let Some(escapes) = escapes(&can_run, rule, &still)? {
                all.push(ask(escapes, Shows::Obligation(id)));
            }
        }
        for rule in &pair.old.auto {
            let id = rule.id().to_string();
            if self.sets.0.gates.contains_key(&id) {
                let still = self.still(&pair.new.auto, |other| self.asks_as_much(&id, other));
                if let Some(escapes) = escapes(&can_run, rule, &still)? {
                    all.push(ask(escapes, Shows::Gate(id)));
                }
            }
        }
        let stays = |rule: &Policy| {
            pair.new.auto.iter().chain(&pair.new.obliging).any(|other| print_of(other) == print_of(rule))
        };
        for rule in pair.old.auto.iter().chain(&pair.old.obliging).filter(|rule| !stays(rule)) {
            let guarded = Box::new(guarded(rule, &within)?);
            all.push(ask(Ask::NeverErrs(guarded), Shows::Errs(rule.id().to_string())));
        }
        Ok(all)
    }

    fn still(&self, rules: &[Policy], is_enough: impl Fn(&str) -> bool) -> Vec<Policy> {
        rules.iter().filter(|rule| is_enough(rule.id().as_ref())).cloned().collect()
    }

    fn obliges_as_much(&self, old: &str, new: &str) -> bool {
        match (self.sets.0.obligations.get(old), self.sets.1.obligations.get(new)) {
            (Some(Obligation::MaxRows { rows: old }), Some(Obligation::MaxRows { rows: new })) => new <= old,
            (Some(Obligation::Timeout { ms: old }), Some(Obligation::Timeout { ms: new })) => new <= old,
            (Some(old), Some(new)) => old == new,
            _ => false,
        }
    }

    fn asks_as_much(&self, old: &str, new: &str) -> bool {
        match (self.sets.0.gates.get(old), self.sets.1.gates.get(new)) {
            (Some(old), Some(new)) => is_as_strict(old, new),
            _ => false,
        }
    }

    fn shown(&self, pair: &Pair, shows: &Shows, env: &Env) -> Result<Widening, String> {
        let call = &pair.call;
        let places = |moved: fn(&crate::pairs::Moved) -> Option<&Fixed>| {
            (call.agent.as_ref().map(moved), call.target.as_ref().map(moved))
        };
        let after = as_moved(env, &call.action, places(|moved| Some(&moved.after)), self.sets.1)?
            .ok_or("the call cannot be made of the new policy")?;
        let before = match &call.old_action {
            Some(action) => as_moved(env, action, places(|moved| moved.before.as_ref()), self.sets.0)?,
            None => None,
        };
        let new = replay(&after, self.sides.1.bundle)?;
        let old = before.map_or(Ok(Replayed::default()), |before| replay(&before, self.sides.0.bundle))?;
        if !new.errors.is_empty() || !old.errors.is_empty() {
            return Err("a rule errs".to_owned());
        }
        let enough = |rules: &BTreeSet<String>, is_enough: &dyn Fn(&str) -> bool| rules.iter().any(|id| is_enough(id));
        let (kind, is_shown) = match shows {
            Shows::Runs => (Kind::Runs, new.auto && !old.auto),
            Shows::Possible => (Kind::Possible, new.ceiling && !old.ceiling),
            Shows::Obligation(id) => {
                let still = enough(&new.obliging, &|other| self.obliges_as_much(id, other));
                (Kind::Obligation, new.ceiling && old.obliging.contains(id) && !still)
            }
            Shows::Gate(id) => {
                let still = enough(&new.gates, &|other| self.asks_as_much(id, other));
                (Kind::Gate, new.ceiling && old.gates.contains(id) && !still)
            }
            Shows::Errs(id) => return Err(format!("{id} errs")),
        };
        if !is_shown {
            return Err("both policies answer alike".to_owned());
        }
        let because = self.because(pair, shows, (&old, &new));
        let mut also = BTreeSet::new();
        let blamed = pair.old.auto.iter().chain(&pair.old.obliging);
        for rule in blamed.filter(|rule| because.iter().any(|why| why.contains(&format!("`{}`", rule.id())))) {
            also.extend(expr::reads(rule)?);
        }
        let mut example = tell(&after, self.sides.1.bundle, (&new.determining, &also), call.alike)?;
        if let Some(name) = &call.unbound_now {
            example.tool.clone_from(name);
        }
        Ok(Widening { kind, example, because, more: 0 })
    }

    /// Which rules did it: those that allow now and did not say so, else those that forbade and do not any more.
    fn because(&self, pair: &Pair, shows: &Shows, (old, new): (&Replayed, &Replayed)) -> Vec<String> {
        // The rules as they stand in the files: those of the pair may have been worked out for one agent.
        let find = |sets: Sets<'_>, id: &str| {
            let id = cedar_policy::PolicyId::new(id);
            sets.auto.policy(&id).or_else(|| sets.obliging.policy(&id)).map(print_of)
        };
        let said = |id: &str| match (find(self.sets.0, id), find(self.sets.1, id)) {
            (None, Some(_)) => Some(format!("rule `{id}` is new")),
            (Some(_), None) => Some(format!("rule `{id}` is gone")),
            (Some(old), Some(new)) if old != new => Some(format!("rule `{id}` changed")),
            _ => None,
        };
        if let Shows::Obligation(id) | Shows::Gate(id) = shows {
            return vec![said(id).unwrap_or_else(|| self.moved(&pair.call))];
        }
        let mut because: Vec<String> = new.determining.iter().filter_map(|id| said(id)).collect();
        if because.is_empty() {
            let denied = if old.ceiling { &old.gates } else { &old.determining };
            because = denied.iter().chain(&old.gates).filter_map(|id| said(id)).collect();
            because.sort();
            because.dedup();
        }
        if because.is_empty() { vec![self.moved(&pair.call)] } else { because }
    }

    fn moved(&self, call: &Call) -> String {
        let place = |fixed: &Fixed| match fixed.parents.iter().cloned().collect::<Vec<_>>() {
            none if none.is_empty() => "no group".to_owned(),
            some => some.join(", "),
        };
        let moved = |moved: &crate::pairs::Moved| match &moved.before {
            None => format!("`{}` is new, in {}", moved.after.id, place(&moved.after)),
            Some(before) => format!("`{}` was in {} and is in {}", before.id, place(before), place(&moved.after)),
        };
        let all: Vec<String> = [&call.agent, &call.target].into_iter().flatten().map(moved).collect();
        match (all.is_empty(), &call.old_action, &call.unbound_now) {
            (false, ..) => all.join("; "),
            (true, None, _) => "the tool is new".to_owned(),
            (true, _, Some(_)) => "the tool has no binding any more".to_owned(),
            _ => "the tool's declared effect changed".to_owned(),
        }
    }
}

/// Whether passing `new` takes at least what passing `old` took.
fn is_as_strict(old: &Gate, new: &Gate) -> bool {
    let among = old.approvers.is_empty()
        || (!new.approvers.is_empty() && new.approvers.iter().all(|name| old.approvers.contains(name)));
    new.quorum >= old.quorum && new.timeout_ms <= old.timeout_ms && among
}

/// Whether some call can run, for which `rule` holds and none of `still` does; nothing to ask where that is plain.
fn escapes(can_run: &[Policy], rule: &Policy, still: &[Policy]) -> Result<Option<Ask>, String> {
    let condition = |rule: &Policy| {
        let spelled = rule.to_json().map_err(|error| error.to_string())?;
        Ok::<_, String>(["principal", "resource", "conditions"].map(|part| spelled.get(part).cloned()))
    };
    let own = condition(rule)?;
    for other in still {
        if condition(other)? == own {
            return Ok(None);
        }
    }
    let mut rules = can_run.to_vec();
    for other in still {
        rules.push(forbidding(other)?);
    }
    Ok(Some(Ask::Disjoint(rules, vec![permitting(rule)?])))
}

/// A rule as a forbid, under a name that no rule has.
fn forbidding(rule: &Policy) -> Result<Policy, String> {
    let mut spelled = rule.to_json().map_err(|error| error.to_string())?;
    if let Some(members) = spelled.as_object_mut() {
        members.insert("effect".to_owned(), "forbid".into());
    }
    // Ids of rules hold no space.
    let id = cedar_policy::PolicyId::new(format!("still {}", rule.id()));
    Policy::from_json(Some(id), spelled).map_err(|error| error.to_string())
}

/// The call of a counterexample as it is for the agent and target that are asked about by name; nothing where one of them
/// is not known there.
fn as_moved(
    env: &Env,
    action: &EntityUid,
    (agent, target): (Option<Option<&Fixed>>, Option<Option<&Fixed>>),
    sets: Sets<'_>,
) -> Result<Option<Env>, String> {
    let known = |fixed: Option<Option<&Fixed>>, any: Option<&EntityUid>| match fixed {
        Some(None) => Ok(None),
        Some(Some(fixed)) => {
            let found = sets.entities.iter().find(|entity| {
                let uid = entity.uid();
                uid.type_name().to_string() == fixed.kind && uid.id().unescaped() == fixed.id
            });
            found.map(|entity| Some(entity.uid())).ok_or_else(|| format!("`{}` is not known", fixed.id))
        }
        None => Ok(any.cloned()),
    };
    let Some(principal) = known(agent, env.request.principal())? else { return Ok(None) };
    let Some(resource) = known(target, env.request.resource())? else { return Ok(None) };
    let context = env.request.context().cloned().ok_or("the counterexample has no context")?;
    let request = Request::new(principal.clone(), action.clone(), resource.clone(), context, None)
        .map_err(|error| error.to_string())?;
    // What is asked about by name stands as the configuration has it, everything else as the solver made it.
    let named = [agent.and(Some(&principal)), target.and(Some(&resource))];
    let is_named = |uid: &EntityUid| named.iter().flatten().any(|name| *name == uid);
    let made = entities(env, sets.schema)?;
    let real = sets.entities.iter().filter(|entity| is_named(&entity.uid()));
    let parents = sets.entities.iter().filter(|entity| {
        let kind = entity.uid().type_name().to_string();
        kind == "AgentGroup" || kind == "Environment"
    });
    let mut all: Vec<cedar_policy::Entity> = real.cloned().collect();
    for entity in made.iter().chain(parents) {
        let is_action = entity.uid().type_name().to_string() == "Action";
        if !is_action && all.iter().all(|other| other.uid() != entity.uid()) {
            all.push(entity.clone());
        }
    }
    let entities = Entities::from_entities(all, Some(sets.schema)).map_err(|error| error.to_string())?;
    Ok(Some(Env { request, entities }))
}
