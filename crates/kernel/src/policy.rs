//! Policy: Cedar, in layers, asked as a pure function.
//!
//! One source, annotations choose the layer (`reference/policy.md`): G `permit`, F `forbid`,
//! A `forbid` with `@gate`, O `permit` with `@obligation`, which stands in a set of its own and never
//! grants. `ceiling = G+F`, `auto = G+F+A`. Any error of evaluation, in any layer, denies, for
//! Cedar skips a policy that errs. It must not know budgets, kills, grants or records of the log.
//! An index stands in front of the policies: a call is asked of those whose scopes can match, in slices that are made on
//! first use. It does not cover proofs.

mod annotation;
pub mod arguments;
mod bundle;
mod index;
mod listing;
mod load;
mod near;
mod patterns;
mod reads;
mod rego;
mod request;
mod schema;
pub mod separation;
mod slice;
#[cfg(test)]
mod tests;
mod validate;
mod view;

pub use annotation::{CHANNEL_BYTES_MAX, GATE_BYTES_MAX, TIMEOUT_MS_MAX, duration_ms};
pub use bundle::Bundle;
pub use load::{PolicyLoadError, PolicyProblem};
pub use near::near_environments;
pub use patterns::{COMPILED_BYTES_MAX, PATTERN_BYTES_MAX, PATTERNS_MAX, PatternError, PatternSet};
pub use request::EvaluationRequest;
pub use validate::Validated;
pub use view::{ActionScope, Sets};

use countersign_model::Effect;
use countersign_model::id::{AgentId, Environment, HumanId, PolicyId, TargetId, ToolName, UpstreamId};

/// What a bundle is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicySource {
    /// File name and text of every policy file.
    pub policies: Vec<(String, String)>,
    /// Agents of the configuration.
    pub agents: Vec<AgentDef>,
    /// Targets of the configuration.
    pub targets: Vec<TargetDef>,
    /// Tools that are bound.
    pub tools: Vec<ToolDef>,
    /// Patterns that texts are compared with; policies name them in `context.matched`.
    pub patterns: Vec<PatternDef>,
    /// Humans whom `@approvers` may name; none means that names are not checked.
    pub humans: Option<Vec<HumanId>>,
}

/// A tool that is bound, and what is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolDef {
    /// Its upstream.
    pub upstream: UpstreamId,
    /// Its name.
    pub tool: ToolName,
    /// The least that it does, by its binding.
    pub effect: Option<Effect>,
    /// The JSON Schema of its arguments, as it was accepted: then policies can read them as `context.args`.
    pub input_schema: Option<String>,
}

impl ToolDef {
    /// A tool of which nothing but its name is known.
    #[must_use]
    pub const fn named(upstream: UpstreamId, tool: ToolName) -> Self {
        Self { upstream, tool, effect: None, input_schema: None }
    }
}

/// A pattern with a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PatternDef {
    /// Its id.
    pub id: PolicyId,
    /// How its text is read.
    pub kind: PatternKind,
    /// The text.
    pub text: String,
    /// The argument that it looks at; none means the tool's name and every text in the arguments.
    pub argument: Option<String>,
}

/// How the text of a pattern is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatternKind {
    /// The whole text.
    Exact,
    /// Its beginning.
    Prefix,
    /// `*` for any characters, `?` for one; the whole text.
    Glob,
    /// A regular expression, found anywhere.
    Regex,
}

impl PatternKind {
    /// Every kind with the word for it.
    pub const WORDS: [(&str, Self); 4] =
        [("exact", Self::Exact), ("prefix", Self::Prefix), ("glob", Self::Glob), ("regex", Self::Regex)];

    /// The kind of this word.
    #[must_use]
    pub fn of(word: &str) -> Option<Self> {
        Self::WORDS.iter().find(|(known, _)| *known == word).map(|(_, kind)| *kind)
    }

    /// The word that files, records and people use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Prefix => "prefix",
            Self::Glob => "glob",
            Self::Regex => "regex",
        }
    }
}

/// An agent and its groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentDef {
    /// Its id.
    pub id: AgentId,
    /// Groups that policies can name, as `AgentGroup::"…"`.
    pub groups: Vec<String>,
}

/// A target and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetDef {
    /// Its id.
    pub id: TargetId,
    /// Its environment.
    pub environment: Environment,
}
