//! The configuration as it is spelled; `config` checks it. Unknown keys are refused.

use std::collections::BTreeMap;

use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Config {
    pub(super) version: u32,
    pub(super) tenant: String,
    pub(super) origin: String,
    pub(super) listen: String,
    pub(super) socket: Option<String>,
    #[serde(default)]
    pub(super) methods: Vec<String>,
    #[serde(default)]
    pub(super) extensions: Vec<String>,
    #[serde(default)]
    pub(super) hosts: Vec<String>,
    #[serde(default)]
    pub(super) origins: Vec<String>,
    pub(super) policy: Vec<String>,
    pub(super) agents: Vec<Agent>,
    pub(super) upstreams: Vec<Upstream>,
    #[serde(default)]
    pub(super) budgets: Vec<Budget>,
    pub(super) call_timeout: Option<String>,
    #[serde(default)]
    pub(super) meta: Vec<String>,
    #[serde(default)]
    pub(super) ledger: Ledger,
    #[serde(default)]
    pub(super) retention: Vec<Retention>,
    #[serde(default)]
    pub(super) index: Index,
    #[serde(default)]
    pub(super) witnesses: Vec<Witness>,
    pub(super) witness_timeout: Option<String>,
    #[serde(default)]
    pub(super) approvals: Approvals,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Approvals {
    pub(super) url: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ledger {
    pub(super) signer: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Index {
    #[serde(default)]
    pub(super) full_text: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Witness {
    pub(super) name: String,
    pub(super) url: String,
    pub(super) key: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Agent {
    pub(super) id: String,
    #[serde(default)]
    pub(super) groups: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Upstream {
    pub(super) id: String,
    pub(super) target: String,
    pub(super) environment: String,
    pub(super) command: Option<Vec<String>>,
    #[serde(default)]
    pub(super) env: BTreeMap<String, String>,
    pub(super) url: Option<String>,
    pub(super) transport: Option<String>,
    pub(super) era: Option<String>,
    #[serde(default)]
    pub(super) questions: Vec<String>,
    pub(super) credential: Option<Credential>,
    #[serde(default)]
    pub(super) tools: BTreeMap<String, Tool>,
    pub(super) bindings: Option<String>,
    #[serde(default)]
    pub(super) shared_environments: Vec<String>,
    pub(super) reason: Option<String>,
    pub(super) pin: Option<String>,
    #[serde(default)]
    pub(super) pin_files: BTreeMap<String, String>,
    pub(super) limits: Option<ChildLimits>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ChildLimits {
    pub(super) memory: Option<String>,
    pub(super) open_files: Option<u64>,
    pub(super) cpu_seconds: Option<u64>,
    pub(super) processes: Option<u64>,
}

/// A file of bindings.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Bindings {
    pub(super) upstream: String,
    pub(super) tools: BTreeMap<String, Tool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Credential {
    pub(super) header: String,
    pub(super) from: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tool {
    pub(super) target: Option<String>,
    pub(super) environment: Option<String>,
    pub(super) effect: Option<String>,
    #[serde(default)]
    pub(super) arguments: BTreeMap<String, String>,
    pub(super) subject: Option<String>,
    #[serde(default)]
    pub(super) labels: Vec<String>,
    #[serde(default)]
    pub(super) trusted: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Retention {
    #[serde(default)]
    pub(super) environments: Vec<String>,
    #[serde(default)]
    pub(super) default: bool,
    pub(super) keep_days: Option<u64>,
    #[serde(default)]
    pub(super) erasable: bool,
    #[serde(default)]
    pub(super) below_minimum: bool,
    pub(super) reason: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Budget {
    pub(super) scope: String,
    pub(super) calls: u64,
    pub(super) window: Option<String>,
    pub(super) agents: Option<Vec<String>>,
}
