//! The catalog: what the operator declared of upstreams and tools, and what opens them.
//!
//! A tool that is not declared gets its upstream's target and environment and is opaque. An
//! upstream that is not declared does not exist: nothing can be called on it.

use std::collections::BTreeMap;

use countersign_effects::binding::{Binding, facts, subject};
use countersign_effects::json::{self, JsonError, Limits};
use countersign_kernel::Retention;
use countersign_model::action::Action;
use countersign_model::id::{Environment, TargetId, ToolName, UpstreamId};
use countersign_model::{Reason, ReasonCode};

use crate::call::Call;
use crate::credential::Credential;

/// One upstream of the configuration.
#[derive(Debug)]
pub struct Declared {
    /// The target of tools without a binding.
    pub target: TargetId,
    /// Its environment.
    pub environment: Environment,
    /// Bindings by tool.
    pub tools: BTreeMap<ToolName, Binding>,
    /// What opens it.
    pub credential: Option<Credential>,
}

/// All upstreams of the configuration.
#[derive(Debug, Default)]
pub struct Catalog {
    /// By id.
    pub upstreams: BTreeMap<UpstreamId, Declared>,
    /// Bounds on arguments.
    pub limits: Limits,
    /// How long records are kept, by environment.
    pub retention: Retention,
}

/// What a call stands for.
pub(crate) struct Framed {
    pub(crate) action: Action,
    /// Whom or what it is about, where its binding says so.
    pub(crate) subject: Option<Vec<u8>>,
}

impl Catalog {
    /// Makes the action that a call stands for: strict parsing, canonical form, facts, binding.
    pub(crate) fn action(&self, call: &Call) -> Result<Framed, Reason> {
        let declared = self
            .upstreams
            .get(&call.upstream)
            .ok_or_else(|| Reason::because(ReasonCode::UpstreamUnavailable, "not an upstream of the configuration"))?;
        let manifest = call.manifest.ok_or_else(|| Reason::plain(ReasonCode::UnknownTool))?;
        let arguments = json::parse(&call.arguments, &self.limits).map_err(|e| unreadable(&e))?;
        let meta = if call.meta.is_empty() {
            Vec::new()
        } else {
            let node = json::parse(&call.meta, &self.limits).map_err(|e| unreadable(&e))?;
            json::canonical(&node, &call.meta)
        };
        let binding = declared.tools.get(&call.tool);
        let subject = subject(binding, &arguments, &call.arguments);
        let action = Action {
            principal: call.caller.principal.clone(),
            point: call.point,
            upstream: call.upstream.clone(),
            tool: call.tool.clone(),
            manifest,
            target: binding.map_or(&declared.target, |b| &b.target).clone(),
            environment: binding.map_or(&declared.environment, |b| &b.environment).clone(),
            facts: facts(binding, &arguments),
            claimed: call.claimed.clone(),
            arguments: json::canonical(&arguments, &call.arguments),
            meta,
            redacted: None,
        };
        Ok(Framed { action, subject })
    }

    pub(crate) fn credential(&self, upstream: &UpstreamId) -> Option<Credential> {
        self.upstreams.get(upstream)?.credential.clone()
    }
}

fn unreadable(error: &JsonError) -> Reason {
    Reason::because(error.reason(), &error.to_string())
}
