//! The composition root: from a checked configuration to a gate, and nowhere else.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use countersign_gate::catalog::{Catalog, Declared};
use countersign_gate::clock::{SystemClock, SystemEntropy};
use countersign_gate::kill::KillSwitch;
use countersign_gate::witness::{WitnessPort, Witnessing};
use countersign_gate::{Gate, Parts, SnapshotRules};
use countersign_kernel::identity::TokenKey;
use countersign_kernel::policy::{AgentDef, Bundle, PolicySource, TargetDef, ToolDef};
use countersign_kernel::{Limits, Settings};
use countersign_ledger::{Recovered, RemoteSigner, Signer, Store};
use countersign_model::Digest;
use countersign_model::id::{ToolName, UpstreamId};

use crate::config::{Config, Upstream};
use crate::layout::Layout;
use crate::reload::Files;
use crate::web;

/// Gateway and signer belong to one user.
pub(crate) const SAME_USER: &str = "same_user";
/// The signer belongs to another user.
pub(crate) const SEPARATED: &str = "separated";
/// How long an evaluation may take before it is a denial.
const EVALUATION_MS: u64 = 2_000;

/// What the policy of a configuration is made of.
pub(crate) fn source(config: &Config) -> Result<PolicySource> {
    Ok(PolicySource {
        policies: config.policies.texts.clone(),
        agents: config.agents.iter().map(|(id, groups)| AgentDef { id: id.clone(), groups: groups.clone() }).collect(),
        targets: config.targets()?.into_iter().map(|(id, environment)| TargetDef { id, environment }).collect(),
        tools: config
            .upstreams
            .iter()
            .flat_map(|upstream| {
                upstream.tools.iter().map(|(tool, binding)| ToolDef {
                    effect: binding.effect,
                    input_schema: accepted_schema(upstream, tool),
                    ..ToolDef::named(upstream.id.clone(), tool.clone())
                })
            })
            .collect(),
        patterns: config.policies.patterns.clone(),
        humans: None,
    })
}

/// Loads the policy bundle that a configuration names.
pub(crate) fn bundle(config: &Config) -> Result<Bundle> {
    Ok(Bundle::load(&source(config)?)?)
}

/// The schema of a tool's arguments, as it was accepted.
fn accepted_schema(upstream: &Upstream, tool: &ToolName) -> Option<String> {
    upstream.accepted.as_ref()?.tools.get(tool)?.member("inputSchema")
}

/// What humans accept: configuration and policy together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InForce {
    /// Hash of the configuration.
    pub(crate) configuration: Digest,
    /// Hash of the bundle.
    pub(crate) policy: Digest,
}

/// Who signs, and what that lets the start's record promise.
fn signer(config: &Config) -> Result<(Option<Arc<dyn Signer>>, &'static str)> {
    let Some(path) = &config.signer else { return Ok((None, SAME_USER)) };
    let signer =
        RemoteSigner::connect(path).context("`ledger: signer` is not there; start it with `countersign signer`")?;
    // What counts is whose process it is, not that it is another one.
    let is_own = signer.uid() == rustix::process::geteuid().as_raw();
    Ok((Some(Arc::new(signer)), if is_own { SAME_USER } else { SEPARATED }))
}

/// Ways to the witnesses of a configuration.
fn witnessing(config: &Config) -> Result<Witnessing> {
    let ports = config.witnesses.iter().map(|witness| {
        let courier = Arc::new(web::Client::new(witness.url.clone())?);
        Ok(WitnessPort { name: witness.name.clone(), key: witness.key.clone(), courier })
    });
    Ok(Witnessing { ports: ports.collect::<Result<_>>()?, timeout_ms: config.witness_timeout_ms })
}

/// The kernel's settings under a configuration and a policy.
pub(crate) fn settings(config: &Config, policy: Digest, profile: &str) -> Settings {
    Settings {
        log: config.origin.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        configuration: config.hash,
        profile: profile.to_owned(),
        policy,
        tenant: config.tenant.clone(),
        agents: config.agents.keys().cloned().collect(),
        budgets: config.budgets.clone(),
        limits: Limits::default(),
        accepted: config.upstreams.iter().filter_map(accepted_manifests).collect(),
    }
}

/// The hashes of the tools that were accepted of an upstream, where there is such a list.
fn accepted_manifests(upstream: &Upstream) -> Option<(UpstreamId, BTreeMap<ToolName, Digest>)> {
    let tools = &upstream.accepted.as_ref()?.tools;
    Some((upstream.id.clone(), tools.iter().map(|(name, tool)| (name.clone(), tool.manifest())).collect()))
}

/// Opens the gate of an installation.
pub(crate) fn open(config: &Config, bundle: Bundle, layout: &Layout) -> Result<(Gate, Recovered)> {
    let switch = KillSwitch::open(&layout.kill())?;
    let key = std::fs::read(layout.token_key())
        .with_context(|| format!("cannot read the key of tokens `{}`", layout.token_key().display()))?;
    let key: [u8; 32] = key
        .try_into()
        .map_err(|_| anyhow::anyhow!("`{}` has not the 32 bytes of a key", layout.token_key().display()))?;
    let token_key = TokenKey::from_bytes(&key)
        .with_context(|| format!("`{}` is no key of tokens", layout.token_key().display()))?;
    crate::token_file::publish(&layout.token_public(), &token_key.public())?;
    let (signer, profile) = signer(config)?;
    let settings = settings(config, bundle.hash(), profile);
    let upstreams = config
        .upstreams
        .iter()
        .map(|upstream| {
            let declared = Declared {
                target: upstream.target.clone(),
                environment: upstream.environment.clone(),
                tools: upstream.tools.clone(),
                credential: upstream.credential.clone(),
            };
            (upstream.id.clone(), declared)
        })
        .collect();
    let parts = Parts {
        store: Store::real(layout.ledger()),
        ledger: countersign_ledger::Config::default(),
        signer,
        settings,
        snapshots: SnapshotRules::default(),
        policy: Arc::new(bundle),
        reload: Some(Arc::new(Files::of(config, layout)?)),
        catalog: Catalog { upstreams, retention: config.retention.clone(), ..Catalog::default() },
        switch: Arc::new(switch),
        token_key,
        clock: Arc::new(SystemClock::start()),
        entropy: Arc::new(SystemEntropy::new()),
        evaluation_ms: EVALUATION_MS,
        witnesses: witnessing(config)?,
    };
    Ok(Gate::open(parts)?)
}
