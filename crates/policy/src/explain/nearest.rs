//! The nearest changes that give another verdict: single ones first, then pairs, each confirmed on a real bundle.
//!
//! It must not know how changes are found or made.

use std::collections::{BTreeMap, BTreeSet};

use countersign_kernel::by_policy_alone;
use countersign_kernel::policy::{Bundle, EvaluationRequest, PolicySource};
use countersign_model::record::Evaluation;
use countersign_model::{ReasonCode, Verdict};

use super::Explainer;
use super::candidates;
use super::step::{Step, Trial};
use crate::rules::Rule;
use crate::verdicts::{asks, rank};

/// The most changes that are reported.
const FOUND_MAX: usize = 5;
/// The most questions that one search asks.
const ASKED_MAX: usize = 20_000;
/// Above so many rules no bundle is loaded for the sake of an explanation.
const RULES_MAX: usize = 1_000;
/// The most bundles with other groups that one search loads.
const BUNDLES_MAX: usize = 16;

/// What a search for other verdicts found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Search {
    /// Changes that give another verdict, the nearest first. All are single changes, or all are pairs.
    pub found: Vec<Alternative>,
    /// What becomes of the call without each rule that decided it.
    pub dropped: Vec<Dropped>,
    /// How many changes were tried.
    pub tried: usize,
    /// Whether it ended before all pairs were tried.
    pub is_cut_short: bool,
}

/// A change that gives another verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alternative {
    /// The change: one step or two.
    pub steps: Vec<Step>,
    /// The verdict with it.
    pub verdict: Verdict,
    /// Why.
    pub code: ReasonCode,
    /// The rules that decide then.
    pub rules: Vec<String>,
}

/// A policy with one rule less.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// The rule's id.
    pub rule: String,
    /// The verdict without it.
    pub verdict: Verdict,
    /// Why.
    pub code: ReasonCode,
}

/// Searches for changes of `asked` and of the policy.
pub(super) fn search(explainer: &Explainer<'_>, asked: &EvaluationRequest, deciding: &[&Rule]) -> Search {
    let Explainer { source, bundle, rules } = *explainer;
    let mut steps = candidates::of(rules, source, asked);
    nearer_first(&mut steps, bundle, asked);
    let mut searching = Searching {
        source,
        bundle,
        others: BTreeMap::new(),
        loads: rules.all.len() <= RULES_MAX,
        now: by_policy_alone(&bundle.evaluate(asked)).0,
        tried: 0,
    };
    let singles = steps.iter().map(|step| vec![step]);
    let mut found: Vec<Alternative> = singles.filter_map(|steps| searching.try_all(asked, &steps)).collect();
    let mut is_cut_short = false;
    if found.is_empty() {
        for (at, first) in steps.iter().enumerate() {
            if searching.tried >= ASKED_MAX {
                is_cut_short = true;
                break;
            }
            let pairs = steps.iter().skip(at.saturating_add(1)).map(|second| vec![first, second]);
            found.extend(pairs.filter_map(|steps| searching.try_all(asked, &steps)));
        }
    }
    let up = rank(&searching.now) < 3;
    // Who is refused wants to know what would run; who may, what would not.
    found.sort_by_key(|other| if up { 3 - rank(&other.verdict) } else { rank(&other.verdict) });
    // One effect or number that turns it is enough; the nearest stands first.
    let mut said = BTreeSet::new();
    found
        .retain(|other| said.insert((other.steps.iter().map(Step::subject).collect::<Vec<_>>(), rank(&other.verdict))));
    found.truncate(FOUND_MAX);
    let dropped = searching.dropped(asked, deciding);
    Search { found, dropped, tried: searching.tried, is_cut_short }
}

/// Of numbers of one path, those nearest to what it is come first.
fn nearer_first(steps: &mut [Step], bundle: &Bundle, asked: &EvaluationRequest) {
    let Ok(posed) = super::posed(bundle, asked) else { return };
    let distance = |path: &str, number: u64| {
        let is = super::values::shown(path, asked, &posed).parse::<i64>().unwrap_or(0);
        i128::from(number).abs_diff(i128::from(is))
    };
    steps.sort_by_cached_key(|step| match step {
        Step::Number(path, number) => (step.rank(), path.clone(), distance(path, *number)),
        _ => (step.rank(), String::new(), 0),
    });
}

struct Searching<'a> {
    source: &'a PolicySource,
    bundle: &'a Bundle,
    /// Bundles under which the agent is in other groups; none where such a one cannot be loaded.
    others: BTreeMap<(Vec<String>, Vec<String>), Option<Bundle>>,
    loads: bool,
    now: Verdict,
    tried: usize,
}

impl Searching<'_> {
    /// The verdict with all of these steps, if it is another.
    fn try_all(&mut self, asked: &EvaluationRequest, steps: &[&Step]) -> Option<Alternative> {
        let mut trial = Trial::new(asked);
        steps.iter().for_each(|step| step.apply(&mut trial));
        self.tried += 1;
        let evaluation = if trial.has_other_groups() {
            self.with_groups(&trial)?.evaluate(&trial.asked)
        } else {
            self.bundle.evaluate(&trial.asked)
        };
        let (verdict, code, rules) = answer(&evaluation)?;
        let is_other = asks(&verdict) != asks(&self.now);
        is_other.then(|| Alternative { steps: steps.iter().copied().cloned().collect(), verdict, code, rules })
    }

    fn with_groups(&mut self, trial: &Trial) -> Option<&Bundle> {
        let key = (trial.joins.iter().cloned().collect(), trial.leaves.iter().cloned().collect());
        if !self.others.contains_key(&key) {
            if !self.loads || self.others.len() >= BUNDLES_MAX {
                return None;
            }
            let mut source = self.source.clone();
            for agent in source.agents.iter_mut().filter(|agent| agent.id == trial.asked.agent) {
                agent.groups.retain(|group| !trial.leaves.contains(group));
                agent.groups.extend(trial.joins.iter().cloned());
            }
            self.others.insert(key.clone(), Bundle::load(&source).ok());
        }
        self.others.get(&key)?.as_ref()
    }

    /// The verdict without each rule that decided. A bundle that does not load without one says nothing.
    fn dropped(&self, asked: &EvaluationRequest, deciding: &[&Rule]) -> Vec<Dropped> {
        let rules = deciding.iter().filter(|_| self.loads).take(FOUND_MAX);
        let dropped = rules.filter_map(|rule| {
            let mut source = self.source.clone();
            for (_, text) in source.policies.iter_mut().filter(|(file, _)| *file == rule.file) {
                let before = text.get(..rule.span.start)?;
                let after = text.get(rule.span.end..)?;
                *text = format!("{before}{after}");
            }
            let evaluation = Bundle::load(&source).ok()?.evaluate(asked);
            let (verdict, reason) = by_policy_alone(&evaluation);
            Some(Dropped { rule: rule.id.clone(), verdict, code: reason.code })
        });
        dropped.collect()
    }
}

/// What a question came to. An error of evaluation is no verdict that anybody wants to reach.
fn answer(evaluation: &Evaluation) -> Option<(Verdict, ReasonCode, Vec<String>)> {
    let (verdict, reason) = by_policy_alone(evaluation);
    if matches!(reason.code, ReasonCode::PolicyError | ReasonCode::EvaluationTimeout) {
        return None;
    }
    Some((verdict, reason.code, reason.policies.items))
}
