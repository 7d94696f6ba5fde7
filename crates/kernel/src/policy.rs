//! Policy: Cedar, in layers, asked as a pure function.
//!
//! One source, annotations choose the layer (`reference/policy.md`): G `permit`, F `forbid`,
//! A `forbid` with `@gate`, O `permit` with `@obligation`, which stands in a set of its own and never
//! grants. `ceiling = G+F`, `auto = G+F+A`. Any error of evaluation, in any layer, denies, for
//! Cedar skips a policy that errs. It must not know budgets, kills, grants or records of the log.
//! It does not cover an index in front of the policies, or proofs.

mod annotation;
mod load;
mod request;
mod schema;
#[cfg(test)]
mod tests;

pub use load::{Bundle, PolicyLoadError};
pub use request::EvaluationRequest;

use countersign_model::id::{AgentId, Environment, HumanId, TargetId, ToolName, UpstreamId};

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
    pub tools: Vec<(UpstreamId, ToolName)>,
    /// Humans whom `@approvers` may name; none means that names are not checked.
    pub humans: Option<Vec<HumanId>>,
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
