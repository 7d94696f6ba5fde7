//! The gateway's installation for the benchmark, made as `countersign init` makes one, but without a terminal.
//!
//! The human's key lives in memory only and is gone when this returns. Policy is the template that every new
//! installation gets, with the echo tool bound as a read; budgets count, far above what a run can reach. It does not
//! know how the gateway is run.

mod rules;

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use countersign_effects::{ArgumentKind, Binding};
use countersign_gate::catalog::{Catalog, Declared};
use countersign_gate::clock::{SystemClock, SystemEntropy};
use countersign_gate::kill::KillSwitch;
use countersign_gate::{Gate, Parts};
use countersign_kernel::identity::TokenKey;
use countersign_kernel::policy::{AgentDef, Bundle, PolicySource, TargetDef};
use countersign_kernel::{BudgetRule, BudgetScope, Limits, Settings};
use countersign_ledger::{Ledger, Store};
use countersign_model::command::{Command, Deed, Signed};
use countersign_model::id::{AgentId, HumanId};
use countersign_model::{Body, Digest, Effect, Reason, Record};
use countersign_receipt::VerifierKey;
use serde::Serialize;

pub(crate) use rules::{DEFINITION, Rules};

const POLICY: &str = include_str!("../../app/src/templates/policy.cedar");
const ORIGIN: &str = "countersign.local/bench";
const AGENT: &str = "bench";
const UPSTREAM: &str = "echo";
const ENVIRONMENT: &str = "production";
const TOOL: &str = "echo";
/// The list of accepted tools, in the folder of the installation.
const LOCK: &str = "tools/echo.lock.json";
const CALLS_MAX: u64 = 1_000_000_000_000;
const DAY_MS: u64 = 24 * 60 * 60 * 1_000;

/// An installation.
pub(crate) struct Installation {
    root: PathBuf,
    rules: Rules,
    /// One for each session.
    pub(crate) tokens: Vec<String>,
    /// What receipts are verified with.
    pub(crate) log: VerifierKey,
}

/// The records of calls in a ledger: how many, and how large they are on average, in bytes.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Records {
    /// Intents and outcomes; the two are equal, or the ledger does not hold what was answered.
    pub(crate) calls: u64,
    /// Leaf of an intent.
    pub(crate) intent_leaf: u64,
    /// Payload beside it.
    pub(crate) intent_payload: u64,
    /// Leaf of an outcome.
    pub(crate) outcome_leaf: u64,
    /// Payload beside it.
    pub(crate) outcome_payload: u64,
}

impl Installation {
    /// Makes one in `root`, with tokens for `sessions` and `rules` about arguments. Blocks.
    pub(crate) fn make(root: &Path, upstream: SocketAddr, sessions: usize, rules: Rules) -> Result<Self> {
        let mut folders = fs::DirBuilder::new();
        folders.recursive(true).mode(0o700);
        folders.create(root.join("keys"))?;
        fs::write(root.join("countersign.yaml"), configuration(upstream, rules))?;
        fs::write(root.join("policy.cedar"), policy(rules))?;
        if let Some(lock) = rules.lock() {
            folders.create(root.join("tools"))?;
            fs::write(root.join(LOCK), lock)?;
        }
        let token_key = random()?;
        fs::write(root.join("keys").join("token.key"), token_key)?;
        let log = create(&root.join("ledger"))?;
        let installation = Self { root: root.to_owned(), rules, tokens: Vec::new(), log };
        let (gate, _, now) = installation.open(configuration_of(root)?, TokenKey::from_bytes(&token_key)?)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let tokens = runtime.block_on(begin(&gate, now, sessions));
        gate.close()?;
        Ok(Self { tokens: tokens?, ..installation })
    }

    /// The configuration file.
    pub(crate) fn config(&self) -> PathBuf {
        self.root.join("countersign.yaml")
    }

    /// The ledger's folder.
    pub(crate) fn ledger(&self) -> PathBuf {
        self.root.join("ledger")
    }

    /// Reads the whole ledger, while no gateway has it open. Blocks.
    pub(crate) fn records(&self) -> Result<Records> {
        let (mut intents, mut sums) = (0_u64, Records::default());
        let (ledger, _) = Ledger::open(&Store::real(self.ledger()), Default::default(), &mut |stored| {
            let payload = stored.payload.map_or(0, <[u8]>::len) as u64;
            let leaf = stored.leaf.len() as u64;
            let record = Record::from_leaf(stored.leaf)
                .map_err(|error| countersign_ledger::VisitError::new(error.to_string()))?;
            match record.body {
                Body::Intent(_) => {
                    intents += 1;
                    sums.intent_leaf += leaf;
                    sums.intent_payload += payload;
                }
                Body::Outcome(_) => {
                    sums.calls += 1;
                    sums.outcome_leaf += leaf;
                    sums.outcome_payload += payload;
                }
                _ => {}
            }
            Ok(())
        })?;
        ledger.close()?;
        anyhow::ensure!(intents == sums.calls, "{intents} intents and {} outcomes in the ledger", sums.calls);
        let mean = |sum: u64| sum.checked_div(intents).unwrap_or(0);
        Ok(Records {
            calls: intents,
            intent_leaf: mean(sums.intent_leaf),
            intent_payload: mean(sums.intent_payload),
            outcome_leaf: mean(sums.outcome_leaf),
            outcome_payload: mean(sums.outcome_payload),
        })
    }

    /// Opens the gate as the gateway's composition root does: the two must mean the same configuration.
    fn open(&self, configuration: Digest, token_key: TokenKey) -> Result<(Gate, u64, InForce)> {
        let bundle = bundle(self.rules)?;
        let now = InForce { configuration, policy: bundle.hash() };
        let settings = settings_of(now, self.rules)?;
        let parts = Parts {
            store: Store::real(self.ledger()),
            ledger: Default::default(),
            signer: None,
            settings,
            snapshots: Default::default(),
            policy: Arc::new(bundle),
            reload: None,
            catalog: catalog()?,
            switch: Arc::new(KillSwitch::open(&self.root.join("kill.state"))?),
            token_key,
            clock: Arc::new(SystemClock::start()),
            entropy: Arc::new(SystemEntropy::new()),
            evaluation_ms: 2_000,
            witnesses: Default::default(),
        };
        let (gate, recovered) = Gate::open(parts)?;
        Ok((gate, recovered.from, now))
    }
}

/// Opens the gate of an installation once more; says from which record the log was read. Blocks.
pub(crate) fn reopen(root: &Path) -> Result<(Gate, u64)> {
    let log = countersign_ledger::load_verifier(&Store::real(root.join("ledger")))?;
    let installation = Installation { root: root.to_owned(), rules: Rules::default(), tokens: Vec::new(), log };
    let key: [u8; 32] = fs::read(root.join("keys").join("token.key"))?
        .try_into()
        .map_err(|_| anyhow::anyhow!("the key of tokens has not 32 bytes"))?;
    let (gate, from, _) = installation.open(configuration_of(root)?, TokenKey::from_bytes(&key)?)?;
    Ok((gate, from))
}

/// The kernel's settings of an installation.
pub(crate) fn settings(root: &Path) -> Result<Settings> {
    let rules = Rules::default();
    settings_of(InForce { configuration: configuration_of(root)?, policy: bundle(rules)?.hash() }, rules)
}

fn configuration_of(root: &Path) -> Result<Digest> {
    let config = fs::read(root.join("countersign.yaml"))?;
    let mut parts = vec![config.as_slice()];
    let lock = fs::read(root.join(LOCK)).ok();
    if let Some(lock) = &lock {
        parts.extend([LOCK.as_bytes(), lock]);
    }
    Ok(Digest::of("countersign configuration v1", &parts))
}

fn settings_of(now: InForce, rules: Rules) -> Result<Settings> {
    let manifests: BTreeMap<_, _> = rules.manifests()?.into_iter().collect();
    let accepted = if manifests.is_empty() { None } else { Some((UPSTREAM.parse()?, manifests)) };
    Ok(Settings {
        log: ORIGIN.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        configuration: now.configuration,
        profile: "same_user".to_owned(),
        policy: now.policy,
        tenant: "default".parse()?,
        agents: [AGENT.parse()?].into(),
        budgets: budgets(),
        limits: Limits::default(),
        accepted: accepted.into_iter().collect(),
    })
}

/// What the human accepts.
#[derive(Clone, Copy)]
struct InForce {
    configuration: Digest,
    policy: Digest,
}

fn policy(rules: Rules) -> String {
    format!("{POLICY}{}", rules.cedar())
}

fn configuration(upstream: SocketAddr, rules: Rules) -> String {
    let tools = rules.bindings();
    format!(
        "version: 1\ntenant: default\norigin: {ORIGIN}\nlisten: 127.0.0.1:0\npolicy: [policy.cedar]\n\
         agents:\n  - {{ id: {AGENT}, groups: [agents] }}\n\
         upstreams:\n  - id: {UPSTREAM}\n    target: {UPSTREAM}\n    environment: {ENVIRONMENT}\n    \
         url: http://{upstream}/mcp\n    tools: {{ {tools} }}\n\
         budgets:\n  - {{ scope: run, calls: {CALLS_MAX} }}\n  - {{ scope: agent, calls: {CALLS_MAX}, window: 1d }}\n"
    )
}

fn budgets() -> Vec<BudgetRule> {
    let rule = |scope, window_ms| BudgetRule { scope, cap: CALLS_MAX, window_ms, agents: None };
    vec![rule(BudgetScope::Run, None), rule(BudgetScope::Agent, Some(DAY_MS))]
}

fn bundle(rules: Rules) -> Result<Bundle> {
    let source = PolicySource {
        policies: vec![("policy.cedar".to_owned(), policy(rules))],
        agents: vec![AgentDef { id: AGENT.parse()?, groups: vec!["agents".to_owned()] }],
        targets: vec![TargetDef { id: UPSTREAM.parse()?, environment: ENVIRONMENT.parse()? }],
        tools: rules.tools()?,
        patterns: Vec::new(),
        humans: None,
    };
    Ok(Bundle::load(&source)?)
}

fn catalog() -> Result<Catalog> {
    let binding = Binding {
        target: UPSTREAM.parse()?,
        environment: ENVIRONMENT.parse()?,
        effect: Some(Effect::Read),
        arguments: BTreeMap::from([("text".to_owned(), ArgumentKind::Plain)]),
        subject: None,
        labels: Default::default(),
        trusted: Vec::new(),
    };
    let declared = Declared {
        target: UPSTREAM.parse()?,
        environment: ENVIRONMENT.parse()?,
        tools: BTreeMap::from([(TOOL.parse()?, binding)]),
        credential: None,
    };
    Ok(Catalog { upstreams: BTreeMap::from([(UPSTREAM.parse()?, declared)]), ..Catalog::default() })
}

fn create(ledger: &Path) -> Result<VerifierKey> {
    Ledger::create(&Store::real(ledger), ORIGIN).context("the ledger could not be made")
}

/// The first records: the human, the acceptance, the tokens.
async fn begin(gate: &Gate, now: InForce, sessions: usize) -> Result<Vec<String>> {
    let human = Human { id: "owner".parse()?, key: Ed25519KeyPair::from_seed_unchecked(&random()?)? };
    let public = human.key.public_key().as_ref().try_into()?;
    human.command(gate, Deed::Enrol { human: human.id.clone(), key: public }).await?;
    let InForce { configuration, policy } = now;
    human.command(gate, Deed::Activate { configuration, policy, serial: 1, widening: None }).await?;
    let agent: AgentId = AGENT.parse()?;
    let mut tokens = Vec::new();
    for _ in 0..sessions {
        let deed = Deed::IssueToken { agent: agent.clone(), run: None, ttl_ms: DAY_MS };
        tokens.push(human.command(gate, deed).await?.context("no token was issued")?);
    }
    Ok(tokens)
}

struct Human {
    id: HumanId,
    key: Ed25519KeyPair,
}

impl Human {
    async fn command(&self, gate: &Gate, deed: Deed) -> Result<Option<String>> {
        // An acceptance carries a serial instead of a challenge.
        let challenge = match deed {
            Deed::Activate { .. } => Digest([0; 32]),
            _ => gate.challenge().context("no randomness to be had")?,
        };
        let command = Command { log: ORIGIN.to_owned(), challenge, human: self.id.clone(), deed };
        let signature = self.key.sign(&command.message()?).as_ref().to_vec();
        let carried = gate.command(Signed { command, signature }).await.map_err(refused)?;
        Ok(carried.token)
    }
}

fn refused(reason: Reason) -> anyhow::Error {
    anyhow::anyhow!("a command was refused: {}", reason.detail.unwrap_or_else(|| reason.code.sentence().to_owned()))
}

fn random() -> Result<[u8; 32]> {
    let mut bytes = [0; 32];
    SystemRandom::new().fill(&mut bytes).context("the operating system gave no randomness")?;
    Ok(bytes)
}
