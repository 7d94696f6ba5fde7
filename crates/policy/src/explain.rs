//! Explain: why a call gets its verdict, and the nearest change that would give it another.
//!
//! The verdict is the bundle's. Which rules hold, and which clause of a rule does not, is asked of Cedar clause by clause.
//! Changes are made from what the rules themselves mention, tried in a fixed order, singly and then in pairs, and each one
//! that is reported was confirmed on the bundle. It must not know the log or the terminal.
//!
//! It does not cover what stands before policy: kill, freeze, budgets and tokens are the kernel's. Nor every change that
//! there could be: a pattern (`like`) names none, and sums are not solved.

pub mod action;
mod candidates;
mod nearest;
mod step;
#[cfg(test)]
mod tests;
mod values;

use std::collections::BTreeSet;

use cedar_policy::{Entities, Request};
use countersign_kernel::by_policy_alone;
use countersign_kernel::policy::{Bundle, EvaluationRequest, PolicySource};
use countersign_model::{Reason, ReasonCode, Verdict};

pub use nearest::{Alternative, Dropped, Search};
pub use step::Step;

use crate::rules::{Layer, Rule, Rules};

/// The most rules that are said to have almost held.
const ALMOST_MAX: usize = 5;

/// Explains what a bundle answers.
#[derive(Clone, Copy, Debug)]
pub struct Explainer<'a> {
    /// What the bundle was loaded from.
    pub source: &'a PolicySource,
    /// The bundle.
    pub bundle: &'a Bundle,
    /// Its rules, taken apart.
    pub rules: &'a Rules,
}

/// Why a call gets its verdict, by policy alone.
#[derive(Clone, Debug)]
pub struct Explanation<'a> {
    /// The verdict.
    pub verdict: Verdict,
    /// Why. Its code's sentence is all that an agent is told.
    pub reason: Reason,
    /// The rules that decided it, in the order of their files.
    pub deciding: Vec<&'a Rule>,
    /// Rules that hold as well and did not matter, such as permits beside a `forbid`.
    pub overruled: Vec<&'a Rule>,
    /// What the deciding rules read, or if there are none, what the nearest rules miss: path and value.
    pub facts: Vec<(String, String)>,
    /// Rules that almost held: one clause is missing.
    pub almost: Vec<Almost<'a>>,
    /// Changes that would give another verdict.
    pub search: Search,
}

/// A rule of which one clause does not hold.
#[derive(Clone, Debug)]
pub struct Almost<'a> {
    /// The rule.
    pub rule: &'a Rule,
    /// The clause, as it is written more or less.
    pub missing: Vec<&'a str>,
}

/// A question in Cedar's terms.
pub(crate) struct Posed<'a> {
    pub(crate) request: Request,
    pub(crate) entities: &'a Entities,
}

impl<'a> Explainer<'a> {
    /// Explains the verdict on one question.
    #[must_use]
    pub fn explain(&self, asked: &EvaluationRequest) -> Explanation<'a> {
        let evaluation = self.bundle.evaluate(asked);
        let (verdict, reason) = by_policy_alone(&evaluation);
        let Ok(posed) = posed(self.bundle, asked) else {
            return self.unposed(asked, (verdict, reason));
        };
        let holding: Vec<&Rule> =
            self.rules.all.iter().filter(|rule| rule.holds(&posed.request, posed.entities)).collect();
        let decides = decides(&verdict, &holding);
        let (deciding, overruled): (Vec<_>, Vec<_>) = holding.into_iter().partition(|rule| decides(rule.layer));
        let almost = self.almost(&posed, (&verdict, reason.code));
        let reads: BTreeSet<&str> = if deciding.is_empty() {
            almost.iter().flat_map(|near| missing_reads(near)).collect()
        } else {
            deciding.iter().flat_map(|rule| rule.reads()).collect()
        };
        let facts = reads.into_iter().map(|path| (path.to_owned(), values::shown(path, asked, &posed))).collect();
        let search = nearest::search(self, asked, &deciding);
        Explanation { verdict, reason, deciding, overruled, facts, almost, search }
    }

    /// A question that the bundle cannot even be asked, such as one about an agent that it does not know.
    fn unposed(&self, asked: &EvaluationRequest, (verdict, reason): (Verdict, Reason)) -> Explanation<'a> {
        let search = nearest::search(self, asked, &[]);
        let (deciding, overruled, facts, almost) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Explanation { verdict, reason, deciding, overruled, facts, almost, search }
    }

    fn almost(&self, posed: &Posed<'_>, (verdict, code): (&Verdict, ReasonCode)) -> Vec<Almost<'a>> {
        let matters = |rule: &&Rule| match rule.layer {
            Layer::Obligation => matches!(verdict, Verdict::Allow | Verdict::Modify { .. }),
            // What is forbidden is not allowed by one permit more.
            Layer::Permit => code == ReasonCode::NoPermit,
            Layer::Forbid | Layer::Gate => *verdict != Verdict::Deny,
        };
        let near = self.rules.all.iter().filter(matters).filter_map(|rule| {
            let missing: Vec<_> =
                rule.clauses.iter().filter(|clause| !clause.holds(&posed.request, posed.entities)).collect();
            // A guard and what it guards are one thing to a reader.
            let distinct: BTreeSet<_> = missing.iter().map(|clause| &clause.reads).collect();
            (distinct.len() == 1)
                .then(|| Almost { rule, missing: missing.into_iter().map(|clause| clause.text.as_str()).collect() })
        });
        near.take(ALMOST_MAX).collect()
    }
}

/// The question in Cedar's terms.
pub(crate) fn posed<'a>(bundle: &'a Bundle, asked: &EvaluationRequest) -> Result<Posed<'a>, String> {
    let (request, entities) = bundle.in_cedar(asked)?;
    Ok(Posed { request, entities })
}

/// Which layers decide a verdict, of the rules that hold.
fn decides(verdict: &Verdict, holding: &[&Rule]) -> impl Fn(Layer) -> bool + use<> {
    let is_forbidden = holding.iter().any(|rule| rule.layer == Layer::Forbid);
    let verdict = verdict.clone();
    move |layer| match (&verdict, layer) {
        (Verdict::Deny | Verdict::Defer { .. }, Layer::Forbid) => is_forbidden,
        (Verdict::Deny | Verdict::Defer { .. }, _) => false,
        (Verdict::RequireApproval { .. }, Layer::Gate | Layer::Permit)
        | (Verdict::Modify { .. }, Layer::Obligation | Layer::Permit)
        | (Verdict::Allow, Layer::Permit) => true,
        _ => false,
    }
}

fn missing_reads<'a>(near: &Almost<'a>) -> impl Iterator<Item = &'a str> {
    let missing = near.missing.clone();
    let clauses = near.rule.clauses.iter().filter(move |clause| missing.contains(&clause.text.as_str()));
    clauses.flat_map(|clause| clause.reads.iter().map(String::as_str))
}
