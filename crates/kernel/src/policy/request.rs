//! The question that policy is asked, as owned plain data.
//!
//! It can be rebuilt from the record of the attempt, so a decision can be asked again from the log alone.

use countersign_model::TimeMs;
use countersign_model::action::Point;
use countersign_model::facts::Facts;
use countersign_model::id::{AgentId, Environment, LeaseName, TargetId, ToolName, UpstreamId};
use countersign_model::record::{Attempt, History};

/// One question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EvaluationRequest {
    /// Who.
    pub agent: AgentId,
    /// How often its token was attenuated.
    pub depth: u32,
    /// Through which door.
    pub point: Point,
    /// Towards which upstream.
    pub upstream: UpstreamId,
    /// Which tool.
    pub tool: ToolName,
    /// What it changes.
    pub target: TargetId,
    /// Where; must be what the bundle says of the target.
    pub environment: Environment,
    /// What the parsers know.
    pub facts: Facts,
    /// Leases in force, sorted.
    pub leases: Vec<LeaseName>,
    /// When the token ends.
    pub token_expires: TimeMs,
    /// When the action was proposed.
    pub now: TimeMs,
    /// What the agent did before.
    pub history: History,
    /// The canonical arguments, as the payload holds them; empty where they are not known.
    pub arguments: Vec<u8>,
}

impl EvaluationRequest {
    /// The question that was asked about this attempt with these canonical arguments.
    #[must_use]
    pub fn from_attempt(attempt: &Attempt, arguments: &[u8]) -> Self {
        Self {
            agent: attempt.principal.agent.clone(),
            depth: attempt.principal.depth,
            point: attempt.point,
            upstream: attempt.upstream.clone(),
            tool: attempt.tool.clone(),
            target: attempt.target.clone(),
            environment: attempt.environment.clone(),
            facts: attempt.facts.clone(),
            leases: attempt.inputs.leases.clone(),
            token_expires: attempt.inputs.token_expires,
            now: attempt.proposed_at,
            history: attempt.inputs.history.clone().unwrap_or_default(),
            arguments: arguments.to_vec(),
        }
    }
}
