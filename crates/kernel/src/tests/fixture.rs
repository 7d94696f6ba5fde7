//! A kernel with a clock, a log, a policy and humans around it.

use std::collections::{BTreeMap, BTreeSet};

use countersign_model::action::{Continues, Point, input_digest};
use countersign_model::command::{Command as Order, Deed, Signed, consent_message};
use countersign_model::facts::Effect;
use countersign_model::id::{
    Environment, HumanId, RunId, SessionId, TargetId, TenantId, TicketId, ToolName, UpstreamId,
};
use countersign_model::payload::Salt;
use countersign_model::record::{Attempt, Evaluation, Status};
use countersign_model::unit::{Bytes, LeafIndex};
use countersign_model::{Action, Body, Caller, Digest, Facts, Principal, Record, Seq, TimeMs};
use ed25519_dalek::{Signer, SigningKey};

use crate::kill::KillState;
use crate::policy::{AgentDef, Bundle, PolicySource, TargetDef, ToolDef};
use crate::replay::Leaf;
use crate::{BudgetRule, BudgetScope, Command, Event, Kernel, Limits, Salts, Settings};

pub(crate) const LOG: &str = "test.example/log";
pub(crate) const HOUR_MS: u64 = 3_600_000;
pub(crate) const START: TimeMs = TimeMs(1_800_000_000_000);

pub(crate) const POLICY: &str = r#"
@id("reads") permit (principal, action in Action::"call", resource) when { context.effect == "read" };
@id("changes") permit (principal in AgentGroup::"support", action in Action::"call", resource)
  when { ["write", "destructive", "spend"].contains(context.effect) };
@id("leased") permit (principal, action in Action::"call", resource)
  when { context.effect == "outbound" && context.leases.contains("outbound") };
@id("no-spend") forbid (principal, action, resource) when { context.effect == "spend" };
@id("deletes") @gate("deletes in production") @approvers("ana,ben") @timeout("15m")
forbid (principal, action, resource) when { resource.environment == "production" && context.effect == "destructive" };
@id("two-eyes") @gate("two humans") @quorum("2") @timeout("10m")
forbid (principal, action == Action::"crm/purge", resource);
@id("witnessed") @obligation("witness") permit (principal, action in Action::"call", resource)
  when { ["outbound", "destructive"].contains(context.effect) };
"#;

pub(crate) fn source() -> PolicySource {
    let target =
        |id: &str, environment: &str| TargetDef { id: id.parse().unwrap(), environment: environment.parse().unwrap() };
    let tool = |upstream: &str, tool: &str| ToolDef::named(upstream.parse().unwrap(), tool.parse().unwrap());
    PolicySource {
        policies: vec![("main.cedar".to_owned(), POLICY.to_owned())],
        agents: vec![
            AgentDef { id: "shop".parse().unwrap(), groups: vec!["support".to_owned()] },
            AgentDef { id: "guest".parse().unwrap(), groups: vec![] },
        ],
        targets: vec![target("crm", "production"), target("lab", "staging")],
        tools: vec![tool("crm", "query"), tool("crm", "purge"), tool("lab", "query")],
        patterns: vec![],
        humans: None,
    }
}

pub(crate) fn bundle() -> &'static Bundle {
    static BUNDLE: std::sync::OnceLock<Bundle> = std::sync::OnceLock::new();
    BUNDLE.get_or_init(|| Bundle::load(&source()).unwrap())
}

/// The hash that the images in files were made under; the true one changes with every word of the schema.
pub(crate) const POLICY_HASH: Digest = Digest([
    0x10, 0x7d, 0x46, 0x51, 0x75, 0x73, 0x39, 0x9f, 0x4e, 0x5d, 0x77, 0x3a, 0x9d, 0xf1, 0xa8, 0xbc, 0xd9, 0xc1, 0x71,
    0xc7, 0x80, 0x69, 0xfe, 0x24, 0x92, 0x8c, 0xbd, 0x56, 0x69, 0x5d, 0xec, 0xac,
]);

pub(crate) fn settings(budgets: Vec<BudgetRule>) -> Settings {
    Settings {
        log: LOG.to_owned(),
        version: "test".to_owned(),
        configuration: Digest([1; 32]),
        profile: "same_user".to_owned(),
        policy: POLICY_HASH,
        tenant: "acme".parse().unwrap(),
        agents: ["shop", "guest"].iter().map(|a| a.parse().unwrap()).collect(),
        budgets,
        limits: Limits::default(),
        accepted: BTreeMap::new(),
    }
}

pub(crate) fn rule(scope: BudgetScope, cap: u64) -> BudgetRule {
    BudgetRule { scope, cap, window_ms: None, agents: None }
}

pub(crate) fn key(name: &str) -> SigningKey {
    SigningKey::from_bytes(&Digest::of("test key", &[name.as_bytes()]).0)
}

/// A caller of agent `agent` in session `session` of run `run`.
pub(crate) fn caller(agent: &str, session: &str, run: &str) -> Caller {
    Caller {
        principal: Principal {
            tenant: TenantId::new("acme").unwrap(),
            agent: agent.parse().unwrap(),
            session: SessionId::new(session).unwrap(),
            run: RunId::new(run).unwrap(),
            depth: 0,
        },
        expires: START.saturating_add_ms(8 * HOUR_MS),
        narrowed: None,
    }
}

pub(crate) fn shop() -> Caller {
    caller("shop", "s-1", "r-1")
}

/// What `caller` wants of `crm/query` in production.
pub(crate) fn action(caller: &Caller, effect: Effect, arguments: &str) -> Action {
    Action {
        principal: caller.principal.clone(),
        point: Point::Mcp,
        upstream: UpstreamId::new("crm").unwrap(),
        tool: ToolName::new("query").unwrap(),
        manifest: Digest([7; 32]),
        target: TargetId::new("crm").unwrap(),
        environment: Environment::new("production").unwrap(),
        arguments: arguments.as_bytes().to_vec(),
        meta: Vec::new(),
        facts: Facts::declared(effect),
        claimed: Default::default(),
        redacted: None,
        continues: None,
        flagged: None,
    }
}

pub(crate) fn human(name: &str) -> HumanId {
    HumanId::new(name).unwrap()
}

/// A call that policy was asked about, with its answer.
pub(crate) type Asked = (Seq, Evaluation);

/// A kernel with a clock, a log and a policy around it.
pub(crate) struct Rig {
    pub(crate) kernel: Kernel,
    pub(crate) bundle: Bundle,
    pub(crate) now: TimeMs,
    pub(crate) log: Vec<Leaf>,
    pub(crate) refusals: Vec<String>,
    pub(crate) salt: u64,
}

impl Rig {
    pub(crate) fn new(budgets: Vec<BudgetRule>) -> Self {
        Self::with(settings(budgets))
    }

    pub(crate) fn with(settings: Settings) -> Self {
        let mut rig = Self {
            kernel: Kernel::new(settings),
            bundle: bundle().clone(),
            now: START,
            log: Vec::new(),
            refusals: Vec::new(),
            salt: 0,
        };
        rig.step(Event::Started { kill: KillState::default() });
        rig
    }

    /// With ana, ben and cleo enrolled.
    pub(crate) fn with_humans(budgets: Vec<BudgetRule>) -> Self {
        let mut rig = Self::new(budgets);
        for (signer, name) in [("ana", "ana"), ("ana", "ben"), ("ana", "cleo")] {
            let enrol = Deed::Enrol { human: human(name), key: key(name).verifying_key().to_bytes() };
            assert!(rig.order(signer, enrol), "{:?}", rig.refusals);
        }
        rig
    }

    /// Takes a step and writes what it records to the log, each call's fate untold.
    pub(crate) fn step(&mut self, event: Event) -> Vec<Command> {
        let commands = self.kernel.step(self.now, event);
        for command in &commands {
            match command {
                Command::Append { record, payload, .. } => {
                    let bytes = record.to_leaf().unwrap();
                    assert_eq!(Record::from_leaf(&bytes).as_ref(), Ok(record));
                    self.log.push(Leaf {
                        record: record.clone(),
                        leaf: LeafIndex(self.log.len() as u64),
                        leaf_hash: Digest::of("test leaf", &[&bytes]),
                        payload: payload.clone(),
                    });
                }
                Command::Refuse { reason } => self.refusals.push(reason.detail.clone().unwrap_or_default()),
                Command::Evaluate { .. } => {}
            }
        }
        commands
    }

    pub(crate) fn salts(&mut self) -> Salts {
        self.salt += 1;
        let random = |what: &str| Digest::of(what, &[&self.salt.to_be_bytes()]).0;
        Salts { digest: Salt(random("digest")), arguments: Salt(random("arguments")), nonce: Digest(random("nonce")) }
    }

    /// Proposes and says either the decision or what policy answers, not yet told.
    pub(crate) fn propose(&mut self, caller: &Caller, action: Action) -> Result<Record, Box<Asked>> {
        let mut salts = self.salts();
        // As the gate does: the salt of the call that it goes on with.
        let at = action.continues.as_ref().and_then(|continues| usize::try_from(continues.intent.0).ok());
        let before = at.and_then(|at| self.log.get(at));
        if let Some(payload) = before.and_then(|leaf| leaf.payload.as_ref()) {
            salts.digest = payload.digest_salt;
        }
        let event = Event::Proposed { caller: caller.clone(), action: Box::new(action), salts };
        match self.step(event).pop() {
            Some(Command::Append { record, .. }) => Ok(record),
            Some(Command::Evaluate { call, request, .. }) => Err(Box::new((call, self.bundle.evaluate(&request)))),
            other => panic!("neither a decision nor a question: {other:?}"),
        }
    }

    /// Tells policy's answer and that the decision is durable.
    pub(crate) fn answer(&mut self, call: Seq, evaluation: Evaluation) -> Record {
        let record = match self.step(Event::Evaluated { call, evaluation }).pop() {
            Some(Command::Append { record, .. }) => record,
            other => panic!("no decision: {other:?}"),
        };
        self.durable(call);
        record
    }

    pub(crate) fn durable(&mut self, call: Seq) {
        let last = self.log.last().unwrap();
        let event = Event::Appended { call, leaf: last.leaf, leaf_hash: last.leaf_hash };
        self.step(event);
    }

    /// From proposal to durable decision.
    pub(crate) fn call(&mut self, caller: &Caller, action: Action) -> Record {
        match self.propose(caller, action) {
            Ok(record) => record,
            Err(asked) => self.answer(asked.0, asked.1),
        }
    }

    /// The same action as the one at `leaf`, going on with these answers.
    pub(crate) fn going_on(&self, leaf: usize, input: &str) -> Action {
        let before = &self.log[leaf];
        let action = before.payload.as_ref().unwrap().action(attempt(&before.record));
        let input = input.as_bytes().to_vec();
        let digest = input_digest(&input);
        let continues = Continues { intent: before.leaf, input, digest, redactions: Default::default() };
        Action { continues: Some(continues), ..action }
    }

    pub(crate) fn end(&mut self, call: Seq, status: Status) {
        self.step(ended(call, status));
    }

    pub(crate) fn order(&mut self, signer: &str, deed: Deed) -> bool {
        let signed = signed(signer, deed);
        let session = match &signed.command.deed {
            Deed::IssueToken { .. } => Some(SessionId::new("s-issued").unwrap()),
            _ => None,
        };
        let refused = self.refusals.len();
        self.step(Event::Commanded { signed, session });
        self.refusals.len() == refused
    }

    /// Answers the proposal with `signer`'s key in the name of `name`.
    pub(crate) fn consent(&mut self, ticket: &TicketId, (name, signer): (&str, &str), approved: bool) -> bool {
        let hash = self.kernel.proposal(ticket).and_then(|p| p.leaf_hash).unwrap_or(Digest([0; 32]));
        let message = consent_message(LOG, &hash, &human(name), approved);
        let signature = key(signer).sign(&message).to_bytes().to_vec();
        let event = Event::Consented { ticket: ticket.clone(), human: human(name), approved, signature };
        let refused = self.refusals.len();
        self.step(event);
        self.refusals.len() == refused
    }

    /// A new process over the same log.
    pub(crate) fn restart(&mut self) {
        self.kernel = refolded(self.kernel.settings().clone(), &self.log);
        self.step(Event::Started { kill: KillState::default() });
    }
}

pub(crate) fn refolded(settings: Settings, log: &[Leaf]) -> Kernel {
    let mut kernel = Kernel::new(settings);
    for Leaf { record, leaf, leaf_hash, payload } in log.iter().cloned() {
        let event = Event::Recovered { record, leaf, leaf_hash, payload };
        assert!(kernel.step(TimeMs(0), event).is_empty());
    }
    kernel
}

pub(crate) fn ended(call: Seq, status: Status) -> Event {
    Event::Ended {
        call,
        status,
        result: None,
        rows: None,
        bytes_sent: Bytes(0),
        duration_ms: 1,
        note: None,
        cost_microusd: None,
        undo: None,
    }
}

pub(crate) fn signed(signer: &str, deed: Deed) -> Signed {
    let command = Order { log: LOG.to_owned(), challenge: Digest([0; 32]), human: human(signer), deed };
    let signature = key(signer).sign(&command.message().unwrap()).to_bytes().to_vec();
    Signed { command, signature }
}

pub(crate) fn attempt(record: &Record) -> &Attempt {
    record.body.attempt().unwrap()
}

/// The kind of a decision with its reasons: `denial killed`.
pub(crate) fn words(record: &Record) -> String {
    let reasons: Vec<_> = attempt(record).reasons.iter().map(|r| r.code.as_str()).collect();
    format!("{} {}", record.body.kind(), reasons.join(","))
}

pub(crate) fn ticket(record: &Record) -> TicketId {
    attempt(record).ticket.clone().unwrap()
}

/// `name -> (spent, reserved)` of every counter that is not zero.
pub(crate) fn counters(kernel: &Kernel) -> BTreeMap<String, (u64, u64)> {
    kernel
        .budgets()
        .into_iter()
        .filter(|b| b.spent > 0 || b.reserved > 0)
        .map(|b| (b.name, (b.spent, b.reserved)))
        .collect()
}

pub(crate) fn is_intent(record: &Record) -> bool {
    matches!(record.body, Body::Intent(_))
}

pub(crate) fn agents(names: &[&str]) -> Option<BTreeSet<countersign_model::id::AgentId>> {
    Some(names.iter().map(|n| n.parse().unwrap()).collect())
}
