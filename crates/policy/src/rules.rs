//! The rules of a bundle, taken apart: where each stands, its layer, its clauses, what it reads.
//!
//! A bundle answers; it does not say why not. For that its sources are read a second time, as text for people and as
//! Cedar's own tree (EST) for programs. Nothing is decided here: what a rule or a clause says of a request is asked of
//! Cedar, and whatever follows from it is confirmed on the bundle. It must not know the log.

pub mod est;
pub mod print;
mod spans;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::ops::Range;
use std::str::FromStr;

use cedar_policy::{Authorizer, Effect, Entities, Policy, PolicyId, PolicySet, Request};
use serde_json::{Value, json};

/// The layer of a rule, by its annotations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Layer {
    /// G.
    Permit,
    /// F.
    Forbid,
    /// A.
    Gate,
    /// O.
    Obligation,
}

impl Layer {
    /// The word for people and programs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Permit => "permit",
            Self::Forbid => "forbid",
            Self::Gate => "gate",
            Self::Obligation => "obligation",
        }
    }
}

/// One rule.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Its `@id`.
    pub id: String,
    /// The file that it stands in.
    pub file: String,
    /// First and last line in that file, from one.
    pub lines: (usize, usize),
    /// Its bytes in the Cedar that is loaded for that file.
    pub span: Range<usize>,
    /// Whether that Cedar was compiled from another language: then lines and text are those of the original.
    pub is_compiled: bool,
    /// Its text as it is written.
    pub text: String,
    /// Its layer.
    pub layer: Layer,
    /// Its tree, as Cedar's EST.
    pub est: Value,
    /// What it asks for, in order: the scope, then each condition.
    pub clauses: Vec<Clause>,
    policy: Policy,
}

/// Where a rule whose Cedar was compiled was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Original {
    /// First and last line, from one.
    pub lines: (usize, usize),
    /// Its text.
    pub text: String,
}

/// One thing that a rule asks for. A rule holds of a request if all its clauses do.
#[derive(Clone, Debug)]
pub struct Clause {
    /// As it is written, more or less: `context.effect == "read"`.
    pub text: String,
    /// What it reads: `context.effect`, `principal`.
    pub reads: BTreeSet<String>,
    /// Its tree, where it is a condition; the scope's clauses have none.
    pub body: Option<Value>,
    probe: Policy,
}

/// Why rules cannot be taken apart. What a bundle was loaded from can be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{file}` cannot be taken apart: {why}; check it with `countersign policy check`")]
pub struct RulesError {
    /// The file.
    pub file: String,
    /// What is wrong.
    pub why: String,
}

/// All rules of a bundle, in the order of their files.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// The rules.
    pub all: Vec<Rule>,
}

impl Rules {
    /// Reads the rules of the files of a bundle: name and text of each.
    ///
    /// # Errors
    /// [`RulesError`] for a text that no bundle can be loaded from.
    pub fn read(files: &[(String, String)]) -> Result<Self, RulesError> {
        let mut all = Vec::new();
        for (file, text) in files {
            let failed = |why: String| RulesError { file: file.clone(), why };
            let set = PolicySet::from_str(text).map_err(|error| failed(error.to_string()))?;
            for (number, span) in spans::of(text).into_iter().enumerate() {
                let id = PolicyId::new(format!("policy{number}"));
                let policy = set.policy(&id).ok_or_else(|| failed(format!("policy number {number} was not found")))?;
                all.push(Rule::new(file, (text, span), policy).map_err(failed)?);
            }
        }
        Ok(Self { all })
    }

    /// Says where the rules of a file were written, where their Cedar was compiled: `find` gives lines and text of the
    /// rule that a policy came from, by the policy's id.
    pub fn written_as(&mut self, file: &str, find: &dyn Fn(&str) -> Option<Original>) {
        for rule in self.all.iter_mut().filter(|rule| rule.file == file) {
            rule.is_compiled = true;
            if let Some(Original { lines, text }) = find(&rule.id) {
                (rule.lines, rule.text) = (lines, text);
            }
        }
    }

    /// The rule of this id.
    #[must_use]
    pub fn rule(&self, id: &str) -> Option<&Rule> {
        self.all.iter().find(|rule| rule.id == id)
    }

    /// Whether any rule reads something below one of these paths.
    #[must_use]
    pub fn reads_any(&self, paths: &[&str]) -> bool {
        let below = |read: &str, path: &&str| {
            read.strip_prefix(*path).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        let mut reads = self.all.iter().flat_map(|rule| rule.clauses.iter()).flat_map(|clause| clause.reads.iter());
        reads.any(|read| paths.iter().any(|path| below(read, path)))
    }
}

impl Rule {
    fn new(file: &str, (text, span): (&str, Range<usize>), policy: &Policy) -> Result<Self, String> {
        let est = policy.to_json().map_err(|error| error.to_string())?;
        let id = policy.annotation("id").unwrap_or("without an id").to_owned();
        let layer = match policy.effect() {
            _ if policy.annotation("obligation").is_some() => Layer::Obligation,
            Effect::Permit => Layer::Permit,
            Effect::Forbid if policy.annotation("gate").is_some() => Layer::Gate,
            Effect::Forbid => Layer::Forbid,
        };
        let line = |end: usize| text.bytes().take(end).filter(|byte| *byte == b'\n').count().saturating_add(1);
        Ok(Self {
            file: file.to_owned(),
            lines: (line(span.start), line(span.end)),
            text: text.get(span.clone()).unwrap_or_default().to_owned(),
            span,
            is_compiled: false,
            layer,
            clauses: clauses(&est)?,
            policy: policy.new_id(PolicyId::new(&id)),
            est,
            id,
        })
    }

    /// Whether Cedar says that this rule holds of a request. An error of evaluation is no.
    #[must_use]
    pub fn holds(&self, request: &Request, entities: &Entities) -> bool {
        satisfied(&self.policy, request, entities)
    }

    /// All that it reads.
    #[must_use]
    pub fn reads(&self) -> BTreeSet<&str> {
        self.clauses.iter().flat_map(|clause| clause.reads.iter().map(String::as_str)).collect()
    }
}

impl Clause {
    /// Whether Cedar says that this clause holds of a request. An error of evaluation is no.
    #[must_use]
    pub fn holds(&self, request: &Request, entities: &Entities) -> bool {
        satisfied(&self.probe, request, entities)
    }

    fn of_scope(est: &Value, part: &str) -> Result<Self, String> {
        let mut bare = everything();
        let constraint = est.get(part).cloned().unwrap_or(Value::Null);
        let text = print::scope(part, &constraint);
        est::put(&mut bare, part, constraint);
        Ok(Self { text, reads: [part.to_owned()].into(), body: None, probe: policy_of(bare)? })
    }

    fn of_condition(body: Value) -> Result<Self, String> {
        let mut bare = everything();
        est::put(&mut bare, "conditions", json!([{"kind": "when", "body": &body}]));
        let probe = policy_of(bare)?;
        Ok(Self { text: print::expression(&body), reads: est::reads(&body), body: Some(body), probe })
    }
}

/// What must hold for the rule of this tree to hold.
fn clauses(est: &Value) -> Result<Vec<Clause>, String> {
    let mut all = Vec::new();
    for part in ["principal", "action", "resource"] {
        if est.get(part).and_then(|scope| scope.get("op")).and_then(Value::as_str) != Some("All") {
            all.push(Clause::of_scope(est, part)?);
        }
    }
    for condition in est.get("conditions").and_then(Value::as_array).into_iter().flatten() {
        let body = condition.get("body").cloned().unwrap_or(Value::Null);
        let is_unless = condition.get("kind").and_then(Value::as_str) == Some("unless");
        for part in if is_unless { est::none_of(body) } else { est::all_of(body) } {
            all.push(Clause::of_condition(part)?);
        }
    }
    Ok(all)
}

/// A permit of everything, as a tree.
#[must_use]
pub fn everything() -> Value {
    let any = json!({"op": "All"});
    json!({"effect": "permit", "principal": any, "action": any, "resource": any, "conditions": []})
}

/// The policy of a tree.
///
/// # Errors
/// What Cedar says of a tree that is none.
pub fn policy_of(est: Value) -> Result<Policy, String> {
    Policy::from_json(Some(PolicyId::new("rule")), est).map_err(|error| error.to_string())
}

fn satisfied(policy: &Policy, request: &Request, entities: &Entities) -> bool {
    let mut alone = PolicySet::new();
    if alone.add(policy.clone()).is_err() {
        return false;
    }
    let response = Authorizer::new().is_authorized(request, &alone, entities);
    response.diagnostics().reason().next().is_some()
}
