//! What keeps environments apart, in `policy check`: permits that span them, and processes that hold the keys of several.
//!
//! One credential for several environments is refused when the configuration is read. What is found here is well formed
//! and may be meant; so it is a warning, with a severity.

use std::collections::BTreeSet;

use anyhow::Result;
use countersign_kernel::policy::Bundle;
use countersign_kernel::policy::separation::{QUESTIONS_MAX, Reach, Spanning, spanning};
use countersign_model::id::ToolName;
use serde_json::{Value, json};

use crate::compose;
use crate::config::{Config, Upstream};

/// One finding.
pub(super) struct Finding {
    severity: &'static str,
    policy: Option<String>,
    agents: Vec<String>,
    environments: Vec<String>,
    message: String,
}

/// Everything that is found.
pub(super) fn findings(config: &Config, bundle: &Bundle) -> Result<Vec<Finding>> {
    let (found, complete) = spanning(&compose::source(config)?, bundle, &reach(config)?);
    let mut findings: Vec<Finding> = found.into_iter().map(of_permit).collect();
    if !complete {
        findings.push(Finding {
            severity: "low",
            policy: None,
            agents: Vec::new(),
            environments: Vec::new(),
            message: format!(
                "there are too many agents and tools: only the first {QUESTIONS_MAX} questions were asked"
            ),
        });
    }
    findings.extend(config.upstreams.iter().filter_map(of_process));
    Ok(findings)
}

/// Every tool on its target, and for each upstream a tool that no binding names.
fn reach(config: &Config) -> Result<BTreeSet<Reach>> {
    let other = ToolName::new("any-other-tool")?;
    let reach = config.upstreams.iter().flat_map(|upstream| {
        let one = |tool: &ToolName, target: &_, environment: &_| Reach {
            upstream: upstream.id.clone(),
            tool: tool.clone(),
            target: Clone::clone(target),
            environment: Clone::clone(environment),
        };
        let bound = upstream.tools.iter().map(move |(tool, binding)| one(tool, &binding.target, &binding.environment));
        bound.chain([one(&other, &upstream.target, &upstream.environment)]).collect::<Vec<_>>()
    });
    Ok(reach.collect())
}

fn of_permit(found: Spanning) -> Finding {
    let Spanning { policy, severity, agents, environments } = found;
    let agents: Vec<String> = agents.iter().map(ToString::to_string).collect();
    let environments: Vec<String> = environments.iter().map(ToString::to_string).collect();
    let message = format!(
        "policy `{policy}` lets {} act in {} and names none of them; say where it holds, such as `resource in \
         Environment::\"{}\"`",
        agents.join(", "),
        environments.join(" and "),
        environments.last().map_or("staging", String::as_str),
    );
    Finding { severity: severity.as_str(), policy: Some(policy), agents, environments, message }
}

/// A child process holds whatever keys it has for all of its tools.
fn of_process(upstream: &Upstream) -> Option<Finding> {
    let environments = upstream.environments();
    let is_shared = environments.iter().all(|one| upstream.shared.contains(*one));
    if environments.len() < 2 || is_shared || upstream.credential_from.is_some() {
        return None;
    }
    let environments: Vec<String> = environments.into_iter().map(ToString::to_string).collect();
    let message = format!(
        "upstream `{}` reaches {} with whatever keys it has; give each environment an upstream of its own, or write \
         `shared_environments: [{}]` and a `reason` on it",
        upstream.id,
        environments.join(" and "),
        environments.join(", ")
    );
    Some(Finding { severity: "medium", policy: None, agents: Vec::new(), environments, message })
}

impl Finding {
    pub(super) fn json(&self) -> Value {
        let Self { severity, policy, agents, environments, message } = self;
        json!({
            "severity": severity, "policy": policy, "agents": agents, "environments": environments, "message": message,
        })
    }

    /// For people.
    pub(super) fn line(&self) -> String {
        format!("{}: {}", self.severity, self.message)
    }
}
