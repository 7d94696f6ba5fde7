//! Running cases.

use countersign_model::record::Evaluation;

use super::{Case, Setting};

/// What became of one case.
#[derive(Clone, Debug)]
pub struct Ran<'a> {
    /// The case.
    pub case: &'a Case,
    /// What the policy answered.
    pub evaluation: Evaluation,
    /// What was not as expected; nothing where the case passed.
    pub differences: Vec<String>,
}

/// Runs every case.
#[must_use]
pub fn run<'a>(cases: &'a [Case], setting: &Setting<'_>) -> Vec<Ran<'a>> {
    let ran = cases.iter().map(|case| {
        let evaluation = setting.bundle.evaluate(&case.asked);
        let differences = case.expected.differences(&evaluation);
        Ran { case, evaluation, differences }
    });
    ran.collect()
}
