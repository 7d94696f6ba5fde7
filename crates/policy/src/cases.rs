//! Tests of policy as data: an action with its facts, and what must become of it.
//!
//! A case says as little as it needs; what it leaves out is what the bindings of the configuration say. It must not know
//! files. A case that cannot be understood is an error and never a pass: an unknown tool, agent or rule, a key that is
//! not ours, an empty list. It does not cover budgets, freezes, kills and tokens, which policy does not read.

mod coverage;
mod expect;
mod facts;
mod judge;
mod mutants;
mod raw;
mod run;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use countersign_effects::Binding;
use countersign_kernel::policy::{Bundle, EvaluationRequest, PolicySource};
use countersign_model::id::{Environment, TargetId, ToolName, UpstreamId};
use countersign_model::near::hint;

pub use coverage::{Coverage, Reach, coverage};
pub use expect::{Answer, Expected, word};
pub use mutants::{Change, Mutant, Mutation, Place, Tally, mutate};
pub use run::{Ran, run};

use crate::read::{Unread, yaml};

/// What cases are judged by.
#[derive(Clone, Copy, Debug)]
pub struct Setting<'a> {
    /// The loaded policy.
    pub bundle: &'a Bundle,
    /// What it was loaded from.
    pub source: &'a PolicySource,
    /// The upstreams of the configuration.
    pub upstreams: &'a BTreeMap<UpstreamId, Upstream>,
}

/// What a case needs to know of an upstream.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// The target of tools without a binding.
    pub target: TargetId,
    /// Its environment.
    pub environment: Environment,
    /// The bindings.
    pub tools: BTreeMap<ToolName, Binding>,
}

/// One case, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// Its file.
    pub file: String,
    /// Its line there.
    pub line: u64,
    /// Its name.
    pub name: String,
    /// What is asked.
    pub asked: EvaluationRequest,
    /// What must be answered.
    pub expected: Expected,
}

/// Reads the cases of one file.
///
/// # Errors
/// The first thing that is wrong, with its place. A file without cases is an error.
pub fn parse(file: &str, text: &str, setting: &Setting<'_>) -> Result<Vec<Case>, Unread> {
    let raw: raw::File = yaml(file, text)?;
    if raw.cases.is_empty() {
        return Err(Unread {
            file: file.to_owned(),
            line: None,
            problem: "`cases` is empty, so nothing would be tested; add a case, or remove the file".to_owned(),
        });
    }
    let mut cases: Vec<Case> = Vec::new();
    for raw in raw.cases {
        let line = raw.name.defined.line();
        let wrong = |problem: String| Unread {
            file: file.to_owned(),
            line: Some(line),
            problem: format!("in case `{}`: {problem}", raw.name.value),
        };
        if cases.iter().any(|case| case.name == raw.name.value) {
            return Err(wrong("another case of this file has the same name; rename one".to_owned()));
        }
        let asked = facts::asked(&raw, setting).map_err(wrong)?;
        let expected = expect::checked(&raw.expect, setting).map_err(wrong)?;
        cases.push(Case { file: file.to_owned(), line, name: raw.name.value, asked, expected });
    }
    Ok(cases)
}

/// An error that a name is unknown, with the known name that it is most like.
fn unknown<'a>(what: &str, name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    format!("the {what} `{name}` is not known{}; correct the name, or add it to the configuration", hint(name, known))
}
