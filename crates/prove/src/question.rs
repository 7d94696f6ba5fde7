//! Questions to the solver, and the three answers that there are.
//!
//! "Holds" is said only where the solver said `unsat`, or where the symbolic compiler found a contradiction before asking.
//! Whatever goes wrong is "open", with the reason.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::str::FromStr as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use cedar_policy::{EntityTypeName, EntityUid, Policy, PolicySet, RequestEnv, Schema};
use cedar_policy_symcc::{
    CedarSymCompiler, CompiledPolicy, CompiledPolicySet, Env, ResetMode, WellFormedAsserts, disjoint_asserts,
    implies_asserts, never_errors_asserts,
};

use crate::solver::Solver;

/// How many questions are asked at once.
const AT_ONCE: usize = 2;
/// Formulas are trees, and walked by recursion.
const STACK_BYTES: usize = 64 * 1024 * 1024;

/// What asks.
#[derive(Clone, Debug)]
pub struct Prover {
    solver: Solver,
}

/// What is asked of one action.
#[derive(Clone, Debug)]
pub(crate) enum Ask {
    /// The rule never errs.
    NeverErrs(Box<Policy>),
    /// What the first rules allow, the second allow.
    Implies(Vec<Policy>, Vec<Policy>),
    /// No call is allowed by both.
    Disjoint(Vec<Policy>, Vec<Policy>),
}

/// One question.
#[derive(Clone, Debug)]
pub(crate) struct Question<'a> {
    pub(crate) schema: &'a Schema,
    pub(crate) action: EntityUid,
    pub(crate) ask: Ask,
}

/// One answer.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// For every call.
    Holds,
    /// Not for this one.
    Fails(Box<Env>),
    /// Nobody knows, for this reason.
    Open(String),
}

impl Prover {
    /// A prover with this solver.
    #[must_use]
    pub const fn new(solver: Solver) -> Self {
        Self { solver }
    }

    /// The solver.
    #[must_use]
    pub const fn solver(&self) -> &Solver {
        &self.solver
    }

    /// Answers all questions, in their order; `each` is called after each of them.
    pub(crate) fn ask(&self, questions: &[Question<'_>], each: &(dyn Fn() + Sync)) -> Vec<Answer> {
        let next = AtomicUsize::new(0);
        let answers = Mutex::new(vec![Answer::Open("it was not asked".to_owned()); questions.len()]);
        let work = || {
            while let index = next.fetch_add(1, Ordering::Relaxed)
                && let Some(question) = questions.get(index)
            {
                let asked = catch_unwind(AssertUnwindSafe(|| self.answer(question)));
                let answer = asked.unwrap_or_else(|_| Answer::Open("the symbolic compiler broke off".to_owned()));
                if let Ok(mut answers) = answers.lock()
                    && let Some(place) = answers.get_mut(index)
                {
                    *place = answer;
                }
                each();
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..AT_ONCE {
                // A thread that cannot be had leaves its questions open.
                let _ = std::thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, work);
            }
        });
        answers.into_inner().unwrap_or_default()
    }

    fn answer(&self, question: &Question<'_>) -> Answer {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let asked = runtime.map_err(|error| error.to_string()).and_then(|runtime| runtime.block_on(self.one(question)));
        match asked {
            Ok(None) => Answer::Holds,
            Ok(Some(env)) => Answer::Fails(Box::new(env)),
            Err(why) => Answer::Open(why),
        }
    }

    async fn one(&self, question: &Question<'_>) -> Result<Option<Env>, String> {
        let kind = |name: &str| EntityTypeName::from_str(name).map_err(|error| error.to_string());
        let environment = RequestEnv::new(kind("Agent")?, question.action.clone(), kind("Target")?);
        let compiled = |rules: &[Policy]| -> Result<CompiledPolicySet, String> {
            let set = PolicySet::from_policies(rules.iter().cloned()).map_err(|error| error.to_string())?;
            CompiledPolicySet::compile(&set, &environment, question.schema).map_err(|error| why(&error))
        };
        match &question.ask {
            Ask::NeverErrs(rule) => {
                let rule = CompiledPolicy::compile(rule, &environment, question.schema).map_err(|error| why(&error))?;
                self.check(&never_errors_asserts(&rule)).await
            }
            Ask::Implies(left, right) => {
                let (left, right) = (compiled(left)?, compiled(right)?);
                self.check(&implies_asserts(&left, &right)).await
            }
            Ask::Disjoint(left, right) => {
                let (left, right) = (compiled(left)?, compiled(right)?);
                self.check(&disjoint_asserts(&left, &right)).await
            }
        }
    }

    async fn check(&self, asserts: &WellFormedAsserts<'_>) -> Result<Option<Env>, String> {
        let compiler = CedarSymCompiler::new(self.solver.ask()).map_err(|error| why(&error))?;
        // Every question has a process of its own, so there is nothing to reset.
        compiler.with_reset_mode(ResetMode::Comment).check_sat(asserts).await.map_err(|error| why(&error))
    }
}

/// An error and what caused it, on one line.
fn why(error: &dyn std::error::Error) -> String {
    let mut said = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        if !said.contains(&inner.to_string()) {
            said = format!("{said}: {inner}");
        }
        cause = inner.source();
    }
    said.replace('\n', " ")
}
