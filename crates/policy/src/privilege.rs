//! Least privilege: what is granted against what was used, and a policy that grants no more than that.
//!
//! One pass over the record feeds [`Used`]; [`granted`] says what any permit could ever allow; [`findings`] holds the two
//! against each other; [`tightened`] narrows permits to what was used; [`suggested`] learns a first policy from the record
//! alone. It must not know how records are read, nor files. Nothing here takes effect: people review what comes out, and
//! a human accepts it.
//!
//! It does not cover rights outside of our policy, such as what an upstream's credential opens.

mod findings;
mod granted;
mod suggest;
#[cfg(test)]
mod tests;
mod tighten;
mod tokens;
mod used;

use countersign_model::facts::Effect;
use countersign_model::id::{Environment, TargetId, ToolName, UpstreamId};

pub use findings::{Credential, Finding, Limits, Severity, Surroundings, findings};
pub use granted::{Grant, granted};
pub use suggest::{Suggested, suggested};
pub use tighten::{Change, Tightened, beside, diff, loses, tightened};
pub use tokens::{Leased, Token, Tokens};
pub use used::{Gated, RuleUse, Seen, Use, UseKey, Used};

/// Something that can be called, by the configuration: a bound tool, or whatever else its upstream lists.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Its upstream.
    pub upstream: UpstreamId,
    /// The tool; none stands for all tools without a binding.
    pub tool: Option<ToolName>,
    /// What it changes.
    pub target: TargetId,
    /// Where.
    pub environment: Environment,
    /// The least that it does, by its binding.
    pub effect: Option<Effect>,
    /// Whether any argument is parsed, so that a call may turn out to do more.
    pub is_parsed: bool,
}

impl Place {
    /// Its name for people and programs.
    #[must_use]
    pub fn name(&self) -> String {
        match &self.tool {
            Some(tool) => format!("{}/{tool}", self.upstream),
            None => format!("{}/(unbound)", self.upstream),
        }
    }

    /// Its action in Cedar.
    #[must_use]
    pub fn action(&self) -> String {
        match &self.tool {
            Some(tool) => format!("{}/{tool}", self.upstream),
            None => "unbound".to_owned(),
        }
    }
}
