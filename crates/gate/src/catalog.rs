//! The catalog: what the operator declared of upstreams and tools, and what opens them.
//!
//! A tool that is not declared gets its upstream's target and environment and is opaque. An
//! upstream that is not declared does not exist: nothing can be called on it. Secrets end here: the
//! digest covers the true bytes, and what goes on from here into the kernel and the record is redacted.

use std::collections::BTreeMap;

use countersign_effects::binding::{Binding, facts, spoken, subject, texts, with_matched};
use countersign_effects::json::{self, JsonError, Limits, Node};
use countersign_effects::secrets::{self, cleaned};
use countersign_kernel::Retention;
use countersign_model::action::{Action, Redacted, sealed_digest};
use countersign_model::encoding::{Bounded, clipped};
use countersign_model::id::{Environment, TargetId, ToolName, UpstreamId};
use countersign_model::record::{CLAIM_BYTES_MAX, Claimed};
use countersign_model::{Digest, Reason, ReasonCode};

use crate::call::Call;
use crate::continuation::{answers, continues};
use crate::credential::Credential;
use crate::policies::Evaluate;

/// The place under which patterns of a policy see a client's answers to a question.
const ANSWERS: &str = "inputResponses";

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

/// The key of digests of actions with secrets; whoever has it could try guesses against such a digest.
pub(crate) struct DigestKey(Digest);

impl DigestKey {
    /// Derived from the token key: that one is of this installation, secret, and the same after a restart.
    pub(crate) fn of(token_key: &[u8; 32]) -> Self {
        Self(Digest::of("countersign digest key v1", &[token_key]))
    }

    pub(crate) const fn bytes(&self) -> &[u8; 32] {
        &self.0.0
    }
}

impl Catalog {
    /// Makes the action that a call stands for: strict parsing, canonical form, facts, binding; then its digest is
    /// made and its secrets are replaced.
    /// Patterns of `policy` are compared with the true texts; that they match says no more of a secret than the operator asked.
    pub(crate) fn action(&self, call: &Call, key: &DigestKey, policy: &dyn Evaluate) -> Result<Framed, Reason> {
        let declared = self
            .upstreams
            .get(&call.upstream)
            .ok_or_else(|| Reason::because(ReasonCode::UpstreamUnavailable, "not an upstream of the configuration"))?;
        let manifest = call.manifest.ok_or_else(|| Reason::plain(ReasonCode::UnknownTool))?;
        let arguments = json::parse(&call.arguments, &self.limits).map_err(|e| unreadable(&e))?;
        let meta = if call.meta.is_empty() {
            None
        } else {
            Some(json::parse(&call.meta, &self.limits).map_err(|e| unreadable(&e))?)
        };
        let answers = answers(call, &self.limits)?;
        let binding = declared.tools.get(&call.tool);
        let subject = subject(binding, &arguments, &call.arguments);
        let mut action = Action {
            principal: call.caller.principal.clone(),
            point: call.point,
            upstream: call.upstream.clone(),
            tool: call.tool.clone(),
            manifest,
            target: binding.map_or(&declared.target, |b| &b.target).clone(),
            environment: binding.map_or(&declared.environment, |b| &b.environment).clone(),
            facts: facts(binding, &arguments, &call.arguments),
            claimed: clean_claims(&call.claimed),
            arguments: json::canonical(&arguments, &call.arguments),
            meta: meta.as_ref().map_or_else(Vec::new, |node| json::canonical(node, &call.meta)),
            redacted: None,
            continues: continues(call, answers.as_ref(), key),
            flagged: call.flagged.clone(),
        };
        self.redact(&mut action, (&arguments, meta.as_ref(), binding), (call, key));
        let spoken = spoken(binding, &arguments);
        let mut said = texts(&arguments, &spoken);
        // Those that came ahead of any question stand in `meta`: they are part of the action.
        let ahead = meta.as_ref().and_then(|meta| meta.get(ANSWERS));
        let answered = answers.iter().chain(ahead).flat_map(|node| texts(node, &[]));
        said.extend(answered.map(|(place, text)| (format!("{ANSWERS}.{place}"), text)));
        let matched = policy.matched(&format!("{}/{}", call.upstream, call.tool), &said);
        action.facts = with_matched(action.facts, &matched);
        Ok(Framed { action, subject })
    }

    /// Replaces the secrets of an action. The retry of a call finds the same ones, so it has the same digest.
    fn redact(
        &self,
        action: &mut Action,
        (arguments, meta, binding): (&Node, Option<&Node>, Option<&Binding>),
        (call, key): (&Call, &DigestKey),
    ) {
        let in_arguments = secrets::redacted(arguments, &call.arguments);
        let in_meta = meta.and_then(|node| secrets::redacted(node, &call.meta));
        if in_arguments.is_none() && in_meta.is_none() {
            return;
        }
        let digest = sealed_digest(key.bytes(), &action.digest());
        let mut places = Vec::new();
        if let Some(clean) = in_arguments {
            let truth = action.facts.clone();
            action.facts = secrets::recordable(binding, truth, &clean.json, &self.limits);
            action.arguments = clean.json;
            places.extend(clean.places);
        }
        if let Some(clean) = in_meta {
            action.meta = clean.json;
            places.extend(clean.places.into_iter().map(|place| place.replacen(" /", " _meta/", 1)));
        }
        places.sort_unstable();
        action.redacted = Some(Redacted { digest, places: Bounded::new(places) });
    }

    /// What a tool changes; none where the upstream is not declared.
    pub(crate) fn target(&self, upstream: &UpstreamId, tool: &ToolName) -> Option<&TargetId> {
        let declared = self.upstreams.get(upstream)?;
        Some(declared.tools.get(tool).map_or(&declared.target, |binding| &binding.target))
    }

    pub(crate) fn credential(&self, upstream: &UpstreamId) -> Option<Credential> {
        self.upstreams.get(upstream)?.credential.clone()
    }
}

/// Claims without secrets. They are in no digest, so they must not change one: these redactions are not listed.
fn clean_claims(claimed: &Claimed) -> Claimed {
    let clean = |claim: &Option<String>| claim.as_deref().map(|text| clipped(&cleaned(text), CLAIM_BYTES_MAX));
    Claimed { trace: clean(&claimed.trace), step: clean(&claimed.step), cause: clean(&claimed.cause) }
}

/// A reason as it may be recorded. The agent gets it as it is: what it quotes is the agent's own.
pub(crate) fn recordable(reason: &Reason) -> Reason {
    let detail = reason.detail.as_deref().map(|text| clipped(&cleaned(text), Reason::DETAIL_BYTES_MAX));
    Reason { detail, ..reason.clone() }
}

pub(crate) fn unreadable(error: &JsonError) -> Reason {
    Reason::because(error.reason(), &error.to_string())
}
