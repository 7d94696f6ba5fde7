//! Decisions: each engine's time for one question, round by round.

use std::time::Instant;

use anyhow::{Result, ensure};
use countersign_kernel::policy::{Bundle, EvaluationRequest};
use serde::Serialize;

use super::PolicyPlan;
use super::workload::{Size, request, source};
use crate::figures::{median, percentile};

/// Questions that an engine without an index is asked, times the number of its policies.
const UNSLICED_WORK: usize = 400_000;
/// How many policies there are where Rego is asked too.
#[cfg(feature = "rego")]
const REGO_POLICIES: usize = 1_000;

/// The median and the worst hundredth of one engine in one round, in microseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Figures {
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
}

/// What one round gave at one number of policies.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Round {
    /// Countersign.
    pub(super) sliced: Figures,
    /// Cedar, asked about all policies.
    pub(super) unsliced: Figures,
    /// Regorus's bytecode machine, with the same rules and the same facts.
    pub(super) rego: Option<Figures>,
}

/// All rounds at one number of policies.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Level {
    pub(super) policies: u32,
    /// The first question about an agent, a tool and a target: its slice has to be made.
    pub(super) first: Figures,
    pub(super) rounds: Vec<Round>,
}

struct Arm {
    size: Size,
    bundle: Bundle,
    questions: Vec<EvaluationRequest>,
    #[cfg(feature = "rego")]
    rego: Option<super::rego::Machine>,
}

/// Measures all numbers of policies, round after round.
pub(super) fn measure(plan: &PolicyPlan) -> Result<Vec<Level>> {
    let mut arms = Vec::new();
    let mut levels = Vec::new();
    for policies in &plan.policies {
        eprint!("\rloading {policies} policies        ");
        let arm = Arm::of(usize::try_from(*policies)?, plan.questions)?;
        let first = timed(&arm.questions, |question| drop(arm.bundle.evaluate(question)));
        levels.push(Level { policies: *policies, first, rounds: Vec::new() });
        arms.push(arm);
    }
    for number in 0..plan.rounds {
        for (arm, level) in arms.iter_mut().zip(&mut levels) {
            eprint!("\rround {} of {}, {} policies        ", number + 1, plan.rounds, level.policies);
            level.rounds.push(arm.round()?);
        }
    }
    eprintln!();
    Ok(levels)
}

impl Arm {
    fn of(policies: usize, questions: u32) -> Result<Self> {
        let size = Size::of(policies);
        let bundle = Bundle::load(&source(size, |_| false)?)?;
        let questions = (0..usize::try_from(questions)?).map(|number| request(size, number)).collect::<Result<_>>()?;
        #[cfg(feature = "rego")]
        let rego = (policies == REGO_POLICIES).then(|| super::rego::Machine::of(size)).transpose()?;
        Ok(Self {
            size,
            bundle,
            questions,
            #[cfg(feature = "rego")]
            rego,
        })
    }

    fn round(&mut self) -> Result<Round> {
        let sliced = timed(&self.questions, |question| drop(self.bundle.evaluate(question)));
        let few = (UNSLICED_WORK / self.size.policies).clamp(20, self.questions.len());
        // Spread over all tools, so that neither engine sees only the first ones.
        let step = self.questions.len() / few;
        let spread: Vec<EvaluationRequest> = self.questions.iter().step_by(step.max(1)).take(few).cloned().collect();
        let unsliced = timed(&spread, |question| drop(self.bundle.evaluate_unsliced(question)));
        for question in &spread {
            let (one, other) = (self.bundle.evaluate(question), self.bundle.evaluate_unsliced(question));
            ensure!(one == other, "the index answers something else: {one:?}, {other:?}");
        }
        #[cfg(feature = "rego")]
        let rego = match &mut self.rego {
            Some(machine) => {
                let figures = timed(&spread, |question| drop(machine.ask(question)));
                for question in &spread {
                    let (ours, theirs) = (self.bundle.evaluate(question), machine.ask(question)?);
                    ensure!((ours.auto, ours.ceiling) == theirs, "Rego answers {theirs:?} to {question:?}");
                }
                Some(figures)
            }
            None => None,
        };
        #[cfg(not(feature = "rego"))]
        let rego = None;
        Ok(Round { sliced, unsliced, rego })
    }
}

fn timed(questions: &[EvaluationRequest], mut ask: impl FnMut(&EvaluationRequest)) -> Figures {
    let mut took_ns: Vec<u64> = questions
        .iter()
        .map(|question| {
            let begun = Instant::now();
            ask(question);
            u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX)
        })
        .collect();
    took_ns.sort_unstable();
    Figures { p50_us: micros(percentile(&took_ns, 50)), p99_us: micros(percentile(&took_ns, 99)) }
}

#[expect(clippy::cast_precision_loss, reason = "times of one question are far below 2^52 ns")]
fn micros(ns: u64) -> f64 {
    ns as f64 / 1_000.0
}

impl Level {
    /// The median over the rounds of what `of` says of one.
    pub(super) fn each(&self, of: impl Fn(&Round) -> f64) -> f64 {
        median(self.rounds.iter().map(of).collect())
    }
}

/// The median over the rounds of a ratio between two numbers of policies.
pub(super) fn ratio(upper: &Level, lower: &Level) -> f64 {
    let pairs = upper.rounds.iter().zip(&lower.rounds);
    median(pairs.map(|(upper, lower)| upper.sliced.p50_us / lower.sliced.p50_us).collect())
}
