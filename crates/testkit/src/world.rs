//! A whole gate in memory: ledger on a [`FakeDisk`], Cedar, tokens, a human with a key, a scripted upstream.
//!
//! Its methods block, because opening and closing a gate do; what must run beside the test goes onto the world's own
//! runtime. A restart takes the next process: a new gate from an image of the disk, with the clock, the entropy, the
//! upstream and the human of before. It must not know what a test is after. It does not cover the protocols of points.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a world that cannot be built fails its test")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use countersign_effects::binding::{ArgumentKind, Binding, Dialect};
use countersign_gate::admin::Carried;
use countersign_gate::call::{Answer, Call, Continuation};
use countersign_gate::catalog::{Catalog, Declared};
use countersign_gate::kill::{KillAck, KillSwitch};
use countersign_gate::view::Stored;
use countersign_gate::{Evaluate, Gate, GateError, Parts, Reload, SnapshotRules};
use countersign_kernel::identity::TokenKey;
use countersign_kernel::policy::{AgentDef, Bundle, PatternDef, PolicySource, TargetDef, ToolDef};
use countersign_kernel::{BudgetRule, BudgetScope, Event, Kernel, Limits, Retention, Settings};
use countersign_ledger::{Config, Ledger, PublishMode, Recovered, Store};
use countersign_model::action::Point;
use countersign_model::command::{Command, Deed, Signed, consent_message};
use countersign_model::id::{HumanId, TicketId};
use countersign_model::record::KillScope;
use countersign_model::unit::LeafIndex;
use countersign_model::{Caller, Digest, Effect, Reason, ReasonCode, TimeMs};
use ed25519_dalek::{Signer as _, SigningKey};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::clock::{FakeClock, FakeEntropy};
use crate::disk::FakeDisk;
use crate::upstream::ScriptedUpstream;

/// Reads run; nothing drops a table; every other SQL waits for a human; all else is not permitted.
pub const POLICY: &str = r#"
@id("reads-run")
permit (principal, action in Action::"call", resource) when { context.effect == "read" };
@id("sql-is-possible")
permit (principal, action in Action::"call", resource) when { context.tool == "query" };
@id("no-drops")
forbid (principal, action in Action::"call", resource) when { context.kinds.contains("drop_table") };
@id("changes-need-consent")
@gate("a change of the customer database")
@quorum("1")
@timeout("30m")
forbid (principal, action in Action::"call", resource) unless { context.effect == "read" };
"#;

/// How long the gate of [`POLICY`] waits for a human.
pub const GATE_MS: u64 = 30 * 60_000;
/// SQL that runs.
pub const READ: &str = "SELECT name FROM customers";
/// SQL that waits for a human.
pub const CHANGE: &str = "UPDATE customers SET name = 'x' WHERE id = 1";
/// SQL that is denied.
pub const DROP: &str = "DROP TABLE customers";

/// Nothing of a test may take longer.
const PATIENCE: Duration = Duration::from_secs(60);
const TOKEN_TTL_MS: u64 = 24 * 3_600_000;

/// What a world is set up with.
#[derive(Clone)]
pub struct Rules {
    /// The text of the one policy file.
    pub policy: String,
    /// Patterns of the policy.
    pub patterns: Vec<PatternDef>,
    /// Hard limits.
    pub budgets: Vec<BudgetRule>,
    /// The kernel's bounds.
    pub limits: Limits,
    /// How long an evaluation may take.
    pub evaluation_ms: u64,
    /// When snapshots are taken.
    pub snapshots: SnapshotRules,
    /// The ledger's bounds.
    pub ledger: Config,
}

impl Default for Rules {
    fn default() -> Self {
        // Space is set aside to the byte, so that a disk that is full is full at once.
        let ledger = Config { chunk_bytes: 1, publish: PublishMode::Inline, idle_sync: None, ..Config::default() };
        Self {
            policy: POLICY.to_owned(),
            patterns: Vec::new(),
            budgets: vec![Self::calls_per_run(100)],
            limits: Limits::default(),
            evaluation_ms: 20_000,
            ledger,
            snapshots: SnapshotRules::default(),
        }
    }
}

impl Rules {
    /// A hard limit on the calls of one run.
    #[must_use]
    pub const fn calls_per_run(cap: u64) -> BudgetRule {
        BudgetRule { scope: BudgetScope::Run, cap, window_ms: None, agents: None }
    }

    /// The default rules with this limit on the calls of one run.
    #[must_use]
    pub fn capped(cap: u64) -> Self {
        Self { budgets: vec![Self::calls_per_run(cap)], ..Self::default() }
    }
}

/// What outlives a process.
#[derive(Clone)]
pub struct Stage {
    /// Where tasks run.
    pub runtime: Arc<Runtime>,
    /// The rules.
    pub rules: Rules,
    /// How long records are kept.
    pub retention: Retention,
    /// The policy, loaded.
    pub bundle: Arc<Bundle>,
    /// What the gate asks: the bundle, or something around it.
    pub policy: Arc<dyn Evaluate>,
    /// Where another policy comes from while the gate runs.
    pub reload: Option<Arc<dyn Reload>>,
    /// The clock.
    pub clock: FakeClock,
    /// The randomness.
    pub entropy: FakeEntropy,
    /// The upstream.
    pub upstream: ScriptedUpstream,
    human: (HumanId, SigningKey),
}

const KILL_FILE: &str = "kill.state";

/// One process: a gate and all around it.
pub struct World {
    /// What a restart keeps.
    pub stage: Stage,
    /// The ledger's disk.
    pub disk: FakeDisk,
    /// The gate.
    pub gate: Gate,
    /// What the ledger found when it was opened.
    pub recovered: Recovered,
    /// The token of the agent `coder`.
    pub token: String,
    /// Who presents it.
    pub caller: Caller,
    folder: TempDir,
}

/// An id of the test's own.
///
/// # Panics
/// Where the text is none.
pub fn id<T: std::str::FromStr>(text: &str) -> T {
    text.parse().unwrap_or_else(|_| panic!("`{text}` is no id"))
}

/// A store on `disk`.
#[must_use]
pub fn store(disk: &FakeDisk) -> Store {
    Store::new(Arc::new(disk.clone()), "/ledger")
}

/// The arguments of the tool `query` for this SQL.
#[must_use]
pub fn arguments(sql: &str) -> String {
    serde_json::json!({ "sql": sql }).to_string()
}

fn source(Rules { policy, patterns, .. }: &Rules) -> PolicySource {
    PolicySource {
        policies: vec![("test.cedar".to_owned(), policy.clone())],
        agents: ["coder", "other"].map(|name| AgentDef { id: id(name), groups: Vec::new() }).to_vec(),
        targets: vec![TargetDef { id: id("crm"), environment: id("production") }],
        tools: ["query", "slow", "look_up"].map(|tool| ToolDef::named(id("crm"), id(tool))).to_vec(),
        patterns: patterns.clone(),
        humans: None,
    }
}

fn catalog() -> Catalog {
    let binding = |effect, arguments: BTreeMap<String, ArgumentKind>| Binding {
        target: id("crm"),
        environment: id("production"),
        effect,
        arguments,
        subject: None,
        labels: Default::default(),
        trusted: Vec::new(),
    };
    let sql = ("sql".to_owned(), ArgumentKind::Sql(Dialect::Sqlite));
    let plain = ("steps".to_owned(), ArgumentKind::Plain);
    let customer = ("customer".to_owned(), ArgumentKind::Plain);
    let look_up = Binding { subject: Some("customer".to_owned()), ..binding(Some(Effect::Read), [customer].into()) };
    let tools = [
        (id("query"), binding(None, [sql].into())),
        (id("slow"), binding(Some(Effect::Read), [plain].into())),
        (id("look_up"), look_up),
        (id("run"), binding(None, [("command".to_owned(), ArgumentKind::Shell)].into())),
    ];
    let declared = Declared { target: id("crm"), environment: id("production"), tools: tools.into(), credential: None };
    Catalog { upstreams: [(id("crm"), declared)].into(), ..Catalog::default() }
}

/// A folder in memory where there is one: only the kill file lies in it.
fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.unwrap()
}

impl Stage {
    /// A stage under these rules.
    ///
    /// # Panics
    /// Where the policy does not load.
    #[must_use]
    pub fn new(rules: Rules) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let bundle = Arc::new(Bundle::load(&source(&rules)).unwrap());
        Self {
            runtime: Arc::new(runtime),
            rules,
            retention: Retention::default(),
            policy: bundle.clone(),
            reload: None,
            bundle,
            clock: FakeClock::new(),
            entropy: FakeEntropy::new(1),
            upstream: ScriptedUpstream::new(),
            human: (id("alice"), SigningKey::from_bytes(&[7; 32])),
        }
    }

    /// The kernel's settings.
    #[must_use]
    pub fn settings(&self) -> Settings {
        Settings {
            log: "example.com/log".to_owned(),
            version: "test".to_owned(),
            configuration: Digest([3; 32]),
            profile: "same_user".to_owned(),
            policy: self.bundle.hash(),
            tenant: id("acme"),
            agents: [id("coder"), id("other")].into(),
            budgets: self.rules.budgets.clone(),
            limits: self.rules.limits,
            accepted: BTreeMap::new(),
        }
    }

    /// Opens a gate on `disk` with the kill file in `folder`.
    ///
    /// # Errors
    /// Where it does not open.
    pub fn open(&self, disk: &FakeDisk, folder: &Path) -> Result<(Gate, Recovered), GateError> {
        Gate::open(Parts {
            store: store(disk),
            ledger: self.rules.ledger.clone(),
            signer: None,
            settings: self.settings(),
            snapshots: self.rules.snapshots,
            policy: self.policy.clone(),
            reload: self.reload.clone(),
            catalog: Catalog { retention: self.retention.clone(), ..catalog() },
            switch: Arc::new(KillSwitch::open(&folder.join(KILL_FILE)).unwrap()),
            token_key: TokenKey::from_bytes(&[9; 32]).unwrap(),
            clock: Arc::new(self.clock.clone()),
            entropy: Arc::new(self.entropy.clone()),
            evaluation_ms: self.rules.evaluation_ms,
            witnesses: Default::default(),
        })
    }

    /// Builds the world for the first time: an empty ledger, the human enrolled, a token issued.
    ///
    /// # Panics
    /// Where any of it fails.
    #[must_use]
    pub fn build(self) -> World {
        let (disk, folder) = (FakeDisk::new(), folder());
        Ledger::create(&store(&disk), &self.settings().log).unwrap();
        let (gate, recovered) = self.open(&disk, folder.path()).unwrap();
        let enrol = Deed::Enrol { human: self.human.0.clone(), key: self.human.1.verifying_key().to_bytes() };
        self.command(&gate, enrol).unwrap();
        let (token, caller) = self.token(&gate, "coder");
        World { stage: self, disk, gate, recovered, token, caller, folder }
    }

    fn token(&self, gate: &Gate, agent: &str) -> (String, Caller) {
        let deed = Deed::IssueToken { agent: id(agent), run: None, ttl_ms: TOKEN_TTL_MS };
        let token = self.command(gate, deed).unwrap().token.unwrap();
        let caller = gate.identify(&token).unwrap();
        (token, caller)
    }

    fn command(&self, gate: &Gate, deed: Deed) -> Result<Carried, Reason> {
        self.signed_by(&self.human.1, gate, deed)
    }

    fn signed_by(&self, key: &SigningKey, gate: &Gate, deed: Deed) -> Result<Carried, Reason> {
        let human = &self.human.0;
        let challenge = gate.challenge().unwrap();
        let command = Command { log: gate.origin(), challenge, human: human.clone(), deed };
        let signature = key.sign(&command.message().unwrap()).to_bytes().to_vec();
        self.runtime.block_on(gate.command(Signed { command, signature }))
    }
}

impl World {
    /// A world under the default rules.
    #[must_use]
    pub fn new() -> Self {
        Self::under(Rules::default())
    }

    /// A world under these rules.
    #[must_use]
    pub fn under(rules: Rules) -> Self {
        Stage::new(rules).build()
    }

    /// The same world with something else in place of its policy; the gate is closed and opened again for it.
    ///
    /// # Panics
    /// Where the gate does not close or open.
    #[must_use]
    pub fn asking(mut self, policy: Arc<dyn Evaluate>) -> Self {
        self.gate.close().unwrap();
        self.stage.policy = policy;
        self.restart(self.disk.process_crash_image()).unwrap()
    }

    /// The same world that takes other policies from `reload`; the gate is closed and opened again for it.
    ///
    /// # Panics
    /// Where the gate does not close or open.
    #[must_use]
    pub fn reloading(mut self, reload: Arc<dyn Reload>) -> Self {
        self.gate.close().unwrap();
        self.stage.reload = Some(reload);
        self.restart(self.disk.process_crash_image()).unwrap()
    }

    /// Accepts a policy under the configuration at hand, or under another one.
    ///
    /// # Errors
    /// Why it was refused.
    pub fn activate(&self, (configuration, policy): (Digest, Digest), serial: u64) -> Result<Carried, Reason> {
        self.command(Deed::Activate { configuration, policy, serial, widening: None })
    }

    /// A bundle for this world with another policy.
    ///
    /// # Panics
    /// Where it does not load.
    #[must_use]
    pub fn bundle(policy: &str) -> Bundle {
        Bundle::load(&source(&Rules { policy: policy.to_owned(), ..Rules::default() })).unwrap()
    }

    /// The next process on `image`, with a copy of the kill file.
    ///
    /// # Errors
    /// Where the gate does not open.
    ///
    /// # Panics
    /// Where the kill file cannot be copied.
    pub fn restart(&self, image: FakeDisk) -> Result<Self, GateError> {
        let folder = folder();
        let (old, new) = (self.folder.path().join("kill.state"), folder.path().join("kill.state"));
        if old.exists() {
            std::fs::copy(old, new).unwrap();
        }
        let (gate, recovered) = self.stage.open(&image, folder.path())?;
        let (token, caller) = (self.token.clone(), self.caller.clone());
        Ok(Self { stage: self.stage.clone(), disk: image, gate, recovered, token, caller, folder })
    }

    /// The upstream.
    #[must_use]
    pub fn upstream(&self) -> &ScriptedUpstream {
        &self.stage.upstream
    }

    /// Waits for what runs on the world's runtime.
    ///
    /// # Panics
    /// Where it takes longer than a minute.
    pub fn wait<T>(&self, work: impl Future<Output = T>) -> T {
        let timed = async { tokio::time::timeout(PATIENCE, work).await };
        self.stage.runtime.block_on(timed).unwrap_or_else(|_| panic!("nothing came within {PATIENCE:?}"))
    }

    /// A call of the agent, framed as a point would.
    #[must_use]
    pub fn framed(&self, tool: &str, arguments: &str) -> Call {
        Call {
            flagged: None,
            caller: self.caller.clone(),
            point: Point::Mcp,
            upstream: id("crm"),
            tool: id(tool),
            manifest: Some(Digest([5; 32])),
            arguments: arguments.as_bytes().to_vec(),
            meta: Vec::new(),
            cancel: CancellationToken::new(),
            claimed: Default::default(),
            continues: None,
            input: Vec::new(),
        }
    }

    /// The call of the tool `query` with this SQL, going on with the call at `intent`.
    #[must_use]
    pub fn going_on(&self, sql: &str, intent: LeafIndex) -> Call {
        let input = br#"{"name": {"action": "accept", "content": {"name": "x"}}}"#.to_vec();
        Call { continues: Some(Continuation { intent }), input, ..self.framed("query", &arguments(sql)) }
    }

    /// Begins a call and does not wait for it.
    pub fn begin(&self, call: Call) -> JoinHandle<Answer<Vec<u8>>> {
        let (gate, executor) = (self.gate.clone(), Arc::new(self.upstream().call(&call.arguments)));
        self.stage.runtime.spawn(async move { gate.govern(call, executor).await })
    }

    /// Calls the tool `query` with this SQL.
    ///
    /// # Panics
    /// Where the gate itself panics.
    pub fn call(&self, sql: &str) -> Answer<Vec<u8>> {
        self.wait(self.begin(self.framed("query", &arguments(sql)))).unwrap()
    }

    /// Begins a call of the tool `slow` and waits until it has begun to write.
    ///
    /// # Panics
    /// Where it does not begin.
    pub fn begin_slow(&self) -> JoinHandle<Answer<Vec<u8>>> {
        let before = self.upstream().effects().len();
        let call = self.begin(self.framed("slow", r#"{"steps":100}"#));
        self.wait(async {
            while self.upstream().effects().len() == before && !call.is_finished() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        call
    }

    /// A token of its own for an agent.
    #[must_use]
    pub fn token_of(&self, agent: &str) -> (String, Caller) {
        self.stage.token(&self.gate, agent)
    }

    /// A command signed by the human.
    ///
    /// # Errors
    /// Why it was refused.
    pub fn command(&self, deed: Deed) -> Result<Carried, Reason> {
        self.stage.command(&self.gate, deed)
    }

    /// The same command under a key that is not the human's.
    ///
    /// # Errors
    /// Why it was refused.
    pub fn forged(&self, deed: Deed) -> Result<Carried, Reason> {
        self.stage.signed_by(&SigningKey::from_bytes(&[8; 32]), &self.gate, deed)
    }

    /// The file that keeps the kill state.
    #[must_use]
    pub fn kill_file(&self) -> PathBuf {
        self.folder.path().join(KILL_FILE)
    }

    /// The human consents to what waits under `ticket`. Gives the leaf of the consent.
    ///
    /// # Errors
    /// Why it does not count.
    pub fn approve(&self, ticket: &TicketId) -> Result<u64, Reason> {
        self.answer(ticket, true)
    }

    /// The human answers what waits under `ticket`.
    ///
    /// # Errors
    /// Why it does not count, or why it cannot be shown.
    pub fn answer(&self, ticket: &TicketId, approved: bool) -> Result<u64, Reason> {
        let (human, key) = &self.stage.human;
        let waiting = self.gate.waiting_under(ticket);
        let proposal = waiting.map_err(|error| Reason::because(ReasonCode::Internal, &error.to_string()))?.proposal;
        let message = consent_message(&self.gate.origin(), &Gate::leaf_hash(&proposal.leaf), human, approved);
        let signature = key.sign(&message).to_bytes().to_vec();
        self.wait(self.gate.consent(ticket.clone(), human.clone(), approved, signature))
    }

    /// Kills, as the kill plane does. The kill is on no record yet.
    #[must_use]
    pub fn kill(&self, scope: &KillScope) -> KillAck {
        self.gate.switch().kill(scope)
    }

    /// Records a kill. Gives whether it is on record.
    pub fn record_kill(&self, ack: &KillAck) -> bool {
        self.wait(self.gate.record_kill(ack))
    }

    /// A second passes.
    pub fn tick(&self) {
        self.stage.clock.advance_ms(1_000);
        self.wait(self.gate.tick());
    }

    /// The whole log.
    ///
    /// # Panics
    /// Where it cannot be read.
    #[must_use]
    pub fn records(&self) -> Vec<Stored> {
        self.gate.tail(u64::MAX).unwrap()
    }

    /// A kernel refolded from the log alone.
    #[must_use]
    pub fn refolded(&self) -> Kernel {
        let mut kernel = Kernel::new(self.stage.settings());
        for Stored { index, leaf, record, payload } in self.records() {
            let (leaf, leaf_hash) = (LeafIndex(index), Gate::leaf_hash(&leaf));
            kernel.step(TimeMs(0), Event::Recovered { record, leaf, leaf_hash, payload });
        }
        kernel
    }
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}
