//! Configuration: `countersign.yaml` read once into checked types; unknown keys are refused.
//!
//! A mistyped guard must not be silently off, so every key, unit and name is checked here, with
//! an error that names the key and the remedy. A credential is a reference (`env:NAME`,
//! `file:PATH`), never a value; what a child gets as `env` is literal. It does not know what any setting does to a decision.

mod front;
mod guards;
mod methods;
mod raw;
mod reach;
mod retention;
#[cfg(test)]
mod schemas;
#[cfg(test)]
mod tests;
mod tools;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use countersign_effects::binding::{ArgumentKind, Binding, contradiction};
use countersign_gate::credential::Credential;
use countersign_kernel::{BudgetRule, BudgetScope, Retention};
use countersign_model::Digest;
use countersign_model::facts::{Effect, LABEL_BYTES_MAX, RUN_LABELS_MAX};
use countersign_model::id::{AgentId, Environment, TargetId, TenantId, ToolName, UpstreamId};
use countersign_points::mcp::parked::Approvals;
use countersign_policy::yaml::Known;
use countersign_receipt::WitnessKey;

use crate::layout::Layout;
use crate::policies::Policies;
use crate::tools::lock::Lock;
use crate::web::Url;
use tools::Beside;

pub(crate) use guards::{ALGORITHM, Guards};
pub(crate) use reach::Reach;

/// A checkpoint carries at most 16 signatures, and the log's own is one.
const WITNESSES_MAX: usize = 8;

/// The most labels of one tool.
const LABELS_MAX: usize = 8;

/// The whole configuration, checked.
#[derive(Debug)]
pub(crate) struct Config {
    /// Hash of the file's bytes and of those that belong to it: bindings, and lists of accepted tools.
    pub(crate) hash: Digest,
    /// The folder of the file: relative paths start here.
    pub(crate) folder: PathBuf,
    /// The tenant.
    pub(crate) tenant: TenantId,
    /// The log's origin line.
    pub(crate) origin: String,
    /// Where agents connect.
    pub(crate) listen: SocketAddr,
    /// The Unix socket where agents connect as well.
    pub(crate) socket: Option<PathBuf>,
    /// Methods that pass besides those of the protocol, as actions.
    pub(crate) methods: Vec<String>,
    /// Extensions whose methods those are, and which clients may hear of.
    pub(crate) extensions: Vec<String>,
    /// Hosts that a `Host` header may name besides loopback.
    pub(crate) hosts: Vec<String>,
    /// Origins that a browser may come from.
    pub(crate) origins: Vec<String>,
    /// Policy files, in order.
    pub(crate) policies: Policies,
    /// Agents and their groups.
    pub(crate) agents: BTreeMap<AgentId, Vec<String>>,
    /// Upstreams, at least one.
    pub(crate) upstreams: Vec<Upstream>,
    /// Hard limits.
    pub(crate) budgets: Vec<BudgetRule>,
    /// Members of a call's `_meta` that belong to the action.
    pub(crate) meta: Vec<String>,
    /// Longest time that one call may take, in milliseconds.
    pub(crate) call_timeout_ms: u64,
    /// The socket of the signer's own process; without one the gateway signs with the ledger's own key.
    pub(crate) signer: Option<PathBuf>,
    /// How long records are kept.
    pub(crate) retention: Retention,
    /// Whether the index lets arguments be searched.
    pub(crate) full_text: bool,
    /// Who vouches for the log.
    pub(crate) witnesses: Vec<Witness>,
    /// How long a call that needs a witness waits for one, in milliseconds.
    pub(crate) witness_timeout_ms: u64,
    /// The page on which humans look at what waits, where clients may be sent to it.
    pub(crate) approvals: Option<Approvals>,
}

/// One witness, checked.
#[derive(Debug)]
pub(crate) struct Witness {
    /// Its name, for people.
    pub(crate) name: String,
    /// Where it takes submissions.
    pub(crate) url: Url,
    /// Its public key.
    pub(crate) key: WitnessKey,
}

/// One upstream, checked.
#[derive(Debug)]
pub(crate) struct Upstream {
    /// Its id.
    pub(crate) id: UpstreamId,
    /// How it is reached.
    pub(crate) reach: Reach,
    /// The target of tools without a binding of their own.
    pub(crate) target: TargetId,
    /// That target's environment.
    pub(crate) environment: Environment,
    /// Bindings by tool.
    pub(crate) tools: BTreeMap<ToolName, Binding>,
    /// What opens it.
    pub(crate) credential: Option<Credential>,
    /// Where that is read from.
    pub(crate) credential_from: Option<String>,
    /// Environments that the credential may open together.
    pub(crate) shared: BTreeSet<Environment>,
    /// The tools that a human accepted, where there is such a list.
    pub(crate) accepted: Option<Lock>,
    /// What its process is held to, where it is one.
    pub(crate) guards: Guards,
}

impl Upstream {
    /// The environments of its targets.
    pub(crate) fn environments(&self) -> BTreeSet<&Environment> {
        self.tools.values().map(|binding| &binding.environment).chain([&self.environment]).collect()
    }
}

/// How an upstream is reached.
#[derive(Clone, Debug)]
pub(crate) enum Transport {
    /// A child process that speaks over its standard streams.
    Stdio {
        /// Program and arguments.
        command: Vec<String>,
        /// Its whole environment besides `PATH`.
        env: BTreeMap<String, String>,
    },
    /// A server on streamable HTTP.
    Http {
        /// Its endpoint.
        url: String,
    },
    /// A server on the transport of 2024-11-05.
    Sse {
        /// Where its stream is.
        url: String,
    },
}

impl Config {
    /// Reads and checks `path` and the policy files that it names.
    pub(crate) fn load(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| {
            format!("cannot read the configuration `{}`; make one with `countersign init`", path.display())
        })?;
        let folder = Layout::of_config(path).root().to_owned();
        Self::parse(&text, &folder).with_context(|| format!("in `{}`", path.display()))
    }

    /// The same without bindings in files of their own and without lists of accepted tools: for the commands that
    /// write these. Nothing may be decided by what comes of it.
    pub(crate) fn load_bare(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read `{}`", path.display()))?;
        let folder = Layout::of_config(path).root().to_owned();
        let bare = Beside::nothing();
        Self::checked(&text, &folder, bare).with_context(|| format!("in `{}`", path.display()))
    }

    /// Checks `text`; relative paths start at `folder`.
    pub(crate) fn parse(text: &str, folder: &Path) -> Result<Self> {
        Self::checked(text, folder, Beside::default())
    }

    fn checked(text: &str, folder: &Path, mut beside: Beside) -> Result<Self> {
        let raw: raw::Config = serde_saphyr::from_str(text).map_err(|error| anyhow::anyhow!("{error}"))?;
        if raw.version != 1 {
            bail!("`version: {}` is not known; this build reads `version: 1`", raw.version);
        }
        let checked = |upstream| checked_upstream(upstream, folder, &mut beside);
        let upstreams = raw.upstreams.into_iter().map(checked).collect::<Result<Vec<_>>>()?;
        tools::check_credentials(&upstreams)?;
        front::check_upstreams(&upstreams)?;
        let labels: BTreeSet<&String> =
            upstreams.iter().flat_map(|upstream| upstream.tools.values()).flat_map(|tool| &tool.labels).collect();
        if labels.len() > RUN_LABELS_MAX {
            bail!(
                "the tools have {} different `labels`; at most {RUN_LABELS_MAX} fit the record of a run",
                labels.len()
            );
        }
        let agents = checked_agents(raw.agents)?;
        let known = known(&agents, &upstreams);
        let policies = Policies::read(&raw.policy, folder, &known)?;
        let mut budgets = checked_budgets(raw.budgets, &agents)?;
        budgets.extend(policies.budgets.iter().cloned());
        Ok(Self {
            hash: tools::hash(text, &beside),
            folder: folder.to_owned(),
            tenant: TenantId::new(&raw.tenant).context("in `tenant`")?,
            origin: checked_origin(raw.origin)?,
            listen: checked_listen(&raw.listen)?,
            socket: front::checked_socket(raw.socket.as_deref(), folder)?,
            methods: front::checked_methods(raw.methods)?,
            extensions: front::checked_extensions(raw.extensions)?,
            hosts: raw.hosts,
            origins: raw.origins,
            meta: raw.meta,
            policies,
            budgets,
            agents,
            upstreams,
            retention: retention::checked(raw.retention)?,
            full_text: raw.index.full_text,
            call_timeout_ms: match raw.call_timeout {
                Some(text) => duration_ms(&text).context("in `call_timeout`")?,
                None => 120_000,
            },
            signer: raw.ledger.signer.map(|signer| checked_signer(&signer, folder)).transpose()?,
            witnesses: checked_witnesses(raw.witnesses)?,
            approvals: raw.approvals.url.map(|url| Approvals::new(&url)).transpose().context("in `approvals`")?,
            witness_timeout_ms: match raw.witness_timeout {
                Some(text) => duration_ms(&text).context("in `witness_timeout`")?,
                None => 10_000,
            },
        })
    }

    /// The names that policy files may use.
    pub(crate) fn known(&self) -> Known {
        known(&self.agents, &self.upstreams)
    }

    /// Every target with its environment. One target has one environment.
    pub(crate) fn targets(&self) -> Result<BTreeMap<TargetId, Environment>> {
        let mut targets = BTreeMap::new();
        for upstream in &self.upstreams {
            let own = std::iter::once((&upstream.target, &upstream.environment));
            let bound = upstream.tools.values().map(|b| (&b.target, &b.environment));
            for (target, environment) in own.chain(bound) {
                let known: &Environment = targets.entry(target.clone()).or_insert_with(|| environment.clone());
                if known != environment {
                    bail!(
                        "target `{target}` is declared in `{known}` and in `{environment}`; give the two their own names"
                    );
                }
            }
        }
        Ok(targets)
    }
}

fn checked_origin(origin: String) -> Result<String> {
    if origin.is_empty() || origin.chars().any(|c| c.is_whitespace() || c.is_control() || c == '+') {
        bail!("`origin: {origin}` must be a name without spaces and `+`, such as `logs.example.com/agents`");
    }
    Ok(origin)
}

fn checked_signer(signer: &str, folder: &Path) -> Result<PathBuf> {
    match signer.strip_prefix("unix:") {
        Some(path) if !path.is_empty() => Ok(folder.join(path)),
        _ => bail!("`signer: {signer}` names no signer; write `unix:` and the path of its socket"),
    }
}

fn checked_listen(listen: &str) -> Result<SocketAddr> {
    let address: SocketAddr = listen
        .parse()
        .with_context(|| format!("`listen: {listen}` is no address; write one such as `127.0.0.1:7411`"))?;
    if !address.ip().is_loopback() {
        bail!(
            "`listen: {listen}` is not a loopback address; this version has no TLS of its own, so put a TLS proxy in front"
        );
    }
    Ok(address)
}

fn checked_witnesses(raw: Vec<raw::Witness>) -> Result<Vec<Witness>> {
    if raw.len() > WITNESSES_MAX {
        bail!("`witnesses` lists {}; at most {WITNESSES_MAX} fit a checkpoint", raw.len());
    }
    let mut witnesses: Vec<Witness> = Vec::new();
    for witness in raw {
        let name = witness.name;
        let within = || format!("in witness `{name}`");
        if name.is_empty() || name.chars().any(char::is_control) {
            bail!("a witness in `witnesses` has no name; give each one a name of your own");
        }
        let url = Url::parse(&witness.url).with_context(within)?;
        let key = WitnessKey::parse(&witness.key).with_context(within)?;
        if let Some(other) = witnesses.iter().find(|other| other.name == name || other.key == key) {
            bail!("`witnesses` lists `{}` twice, by its name or by its key", other.name);
        }
        witnesses.push(Witness { name, url, key });
    }
    Ok(witnesses)
}

fn checked_agents(raw: Vec<raw::Agent>) -> Result<BTreeMap<AgentId, Vec<String>>> {
    let mut agents = BTreeMap::new();
    for agent in raw {
        let id = AgentId::new(&agent.id).context("in `agents`")?;
        for group in &agent.groups {
            AgentId::new(group).with_context(|| format!("in the groups of agent `{id}`"))?;
        }
        if agents.insert(id.clone(), agent.groups).is_some() {
            bail!("agent `{id}` is listed twice");
        }
    }
    if agents.is_empty() {
        bail!("`agents` is empty; list at least one agent, for nobody else can get a token");
    }
    Ok(agents)
}

/// The names that policy files may use.
fn known(agents: &BTreeMap<AgentId, Vec<String>>, upstreams: &[Upstream]) -> Known {
    let places = upstreams.iter().flat_map(|upstream| {
        let bound = upstream.tools.values().map(|binding| (&binding.target, &binding.environment));
        std::iter::once((&upstream.target, &upstream.environment)).chain(bound)
    });
    let (targets, environments) = places.map(|(target, place)| (target.to_string(), place.to_string())).unzip();
    let tools = upstreams.iter().flat_map(|upstream| upstream.tools.keys().map(move |tool| (&upstream.id, tool)));
    Known {
        tools: tools.map(|(upstream, tool)| (upstream.to_string(), tool.to_string())).collect(),
        agents: agents.keys().map(ToString::to_string).collect(),
        groups: agents.values().flatten().cloned().collect(),
        targets,
        environments,
        humans: None,
    }
}

fn checked_upstream(mut raw: raw::Upstream, folder: &Path, beside: &mut Beside) -> Result<Upstream> {
    let id = UpstreamId::new(&raw.id).context("in `upstreams`")?;
    tools::add_bindings(&mut raw, folder, beside)?;
    let accepted = tools::accepted(&id, folder, beside)?;
    let within = || format!("in upstream `{id}`");
    let guards = guards::checked(&raw, folder).with_context(within)?;
    let target = TargetId::new(&raw.target).with_context(within)?;
    let environment = Environment::new(&raw.environment).with_context(within)?;
    let reach = reach::checked(&mut raw, &id)?;
    let credential_from = raw.credential.as_ref().map(|credential| credential.from.clone());
    let shared = tools::shared((raw.shared_environments, raw.reason), &id)?;
    let credential = match (raw.credential, &reach.transport) {
        (None, _) => None,
        (Some(credential), Transport::Http { .. } | Transport::Sse { .. }) => {
            Some(resolved(&credential, folder).with_context(within)?)
        }
        (Some(_), Transport::Stdio { .. }) => {
            bail!("upstream `{id}` is a child process; give it secrets through `env`, not `credential`")
        }
    };
    let tools = raw
        .tools
        .into_iter()
        .map(|(name, tool)| {
            let name = ToolName::new(&name).with_context(within)?;
            let binding = checked_binding(methods::with_parameters(&name, tool), &target, &environment)
                .with_context(|| format!("in tool `{name}` of upstream `{id}`"))?;
            Ok((name, binding))
        })
        .collect::<Result<_>>()?;
    Ok(Upstream { id, reach, target, environment, tools, credential, credential_from, shared, accepted, guards })
}

fn checked_binding(raw: raw::Tool, target: &TargetId, environment: &Environment) -> Result<Binding> {
    let arguments: BTreeMap<String, ArgumentKind> = raw
        .arguments
        .into_iter()
        .map(|(name, kind)| {
            let kind = kind.parse().with_context(|| format!("in argument `{name}: {kind}`"))?;
            Ok((name, kind))
        })
        .collect::<Result<_>>()?;
    if let Some(place) = contradiction(&arguments) {
        bail!(
            "argument `{place}` has an empty name, or is declared as a value and as an object too; declare either it or what lies in it, and write a dot inside a name as `\\.`"
        );
    }
    if let Some(name) = raw.subject.as_ref().filter(|name| !arguments.contains_key(*name)) {
        bail!("`subject: {name}` is not among the tool's `arguments`; declare it there, as `plain`");
    }
    Ok(Binding {
        target: raw.target.map_or_else(|| Ok(target.clone()), |t| TargetId::new(&t))?,
        environment: raw.environment.map_or_else(|| Ok(environment.clone()), |e| Environment::new(&e))?,
        effect: raw.effect.map(|e| e.parse::<Effect>()).transpose()?,
        arguments,
        subject: raw.subject,
        labels: checked_labels(raw.labels)?,
        trusted: raw.trusted,
    })
}

/// What a tool's results may be labelled. Labels of all tools of a run must fit one record.
fn checked_labels(raw: Vec<String>) -> Result<BTreeSet<String>> {
    if raw.len() > LABELS_MAX {
        bail!("`labels` lists {}; at most {LABELS_MAX} fit a tool", raw.len());
    }
    let is_word = |label: &str| {
        (1..=LABEL_BYTES_MAX).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte))
    };
    for label in &raw {
        if !is_word(label) {
            bail!("label `{label}` is no word; use lower-case letters, digits, `-` and `_`, at most {LABEL_BYTES_MAX}");
        }
    }
    Ok(raw.into_iter().collect())
}

fn resolved(raw: &raw::Credential, folder: &Path) -> Result<Credential> {
    let value = match raw.from.split_once(':') {
        Some(("env", name)) => std::env::var(name)
            .with_context(|| format!("`credential` reads the variable `{name}`, which is not set"))?,
        Some(("file", path)) => std::fs::read_to_string(folder.join(path))
            .with_context(|| format!("`credential` reads the file `{path}`"))?,
        _ => bail!("`from: {}` is no reference; write `env:NAME` or `file:PATH`", raw.from),
    };
    Ok(Credential::header(&raw.header, value.trim()))
}

fn checked_budgets(raw: Vec<raw::Budget>, agents: &BTreeMap<AgentId, Vec<String>>) -> Result<Vec<BudgetRule>> {
    raw.into_iter()
        .map(|budget| {
            let scope = match budget.scope.as_str() {
                "run" => BudgetScope::Run,
                "session" => BudgetScope::Session,
                "agent" => BudgetScope::Agent,
                "tenant" => BudgetScope::Tenant,
                other => bail!("`scope: {other}` is no scope of a budget; use run, session, agent or tenant"),
            };
            let only = budget
                .agents
                .map(|names| {
                    names
                        .iter()
                        .map(|name| {
                            let id = AgentId::new(name)?;
                            if !agents.contains_key(&id) {
                                bail!("a budget names agent `{id}`, which is not in `agents`");
                            }
                            Ok(id)
                        })
                        .collect::<Result<BTreeSet<_>>>()
                })
                .transpose()?;
            Ok(BudgetRule {
                scope,
                cap: budget.calls,
                window_ms: budget.window.map(|w| duration_ms(&w)).transpose()?,
                agents: only,
            })
        })
        .collect()
}

/// Whether the configuration at `path` lets arguments be searched; needs neither its secrets nor its policy files.
pub(crate) fn full_text(path: &Path) -> Result<bool> {
    let raw: raw::Config =
        serde_saphyr::from_str(&std::fs::read_to_string(path)?).map_err(|e| anyhow::anyhow!("{e}"))?;
    Ok(raw.index.full_text)
}

/// Reads `90s`, `15m`, `2h` or `7d`.
pub(crate) fn duration_ms(text: &str) -> Result<u64> {
    let explain = || format!("`{text}` is no duration; write a number and s, m, h or d, such as `15m`");
    let (number, unit_ms) = ["ms", "s", "m", "h", "d"]
        .iter()
        .zip([1_u64, 1_000, 60_000, 3_600_000, 86_400_000])
        .find_map(|(unit, ms)| {
            let number = text.strip_suffix(unit)?;
            number.bytes().all(|b| b.is_ascii_digit()).then_some((number, ms))
        })
        .with_context(explain)?;
    let number: u64 = number.parse().with_context(explain)?;
    number.checked_mul(unit_ms).filter(|ms| *ms > 0).with_context(explain)
}
