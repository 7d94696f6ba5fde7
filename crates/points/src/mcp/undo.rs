//! Undoing an action over MCP: nothing is offered yet, and this says so.
//!
//! MCP has no undo of its own, and a tool's description is the upstream's say-so: an inverse may not be guessed from
//! it. A plan needs an operator's declaration of which tool undoes which, and such a plan would be an action like
//! any other, judged and recorded. Until such declarations exist every action is irreversible as far as this point
//! knows. It must not know policy.

use countersign_model::id::{ToolName, UpstreamId};

/// How an action could be undone. There is no way to make one in this version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {}

/// The plan that undoes a call of `tool`: none.
#[must_use]
pub const fn plan(_upstream: &UpstreamId, _tool: &ToolName) -> Option<Plan> {
    None
}
