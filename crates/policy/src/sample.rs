//! Records, bundles and questions for tests.

use countersign_kernel::policy::{AgentDef, Bundle, EvaluationRequest, PolicySource, TargetDef, ToolDef};
use countersign_model::action::Point;
use countersign_model::encoding::Bounded;
use countersign_model::facts::{Effect, Facts, SqlFacts};
use countersign_model::payload::{Commitment, Salt};
use countersign_model::record::{Attempt, Claimed, GrantReading, History, Inputs, Proposal, Standing, Within};
use countersign_model::{Body, Digest, Principal, Reason, ReasonCode, Seq, TimeMs, Verdict};

use crate::rules::Rules;

/// Reads run, changes wait for ana or ben, drops never happen.
pub(crate) const POLICY: &str = r#"
@id("reads-run")
permit (principal, action in Action::"call", resource)
when { context.effect == "read" };

@id("changes-are-possible")
permit (principal in AgentGroup::"writers", action in Action::"call", resource)
when { ["write", "destructive"].contains(context.effect) };

@id("never-drop")
forbid (principal, action in Action::"call", resource)
when { context.opaque || context.kinds.contains("drop_table") };

@id("production-changes")
@gate("changes in production")
@approvers("ana, ben")
@timeout("30m")
forbid (principal, action in Action::"call", resource)
when { resource.environment == "production" }
unless { context.effect == "read" };
"#;

pub(crate) fn id<T: std::str::FromStr>(text: &str) -> T
where
    T::Err: std::fmt::Debug,
{
    text.parse().unwrap()
}

/// Two agents (`ops` may write), two databases, three tools, with this policy.
pub(crate) fn source(policy: &str) -> PolicySource {
    let tool = |name: &str, effect| ToolDef { effect, ..ToolDef::named(id("db"), id(name)) };
    PolicySource {
        policies: vec![("main.cedar".to_owned(), policy.to_owned())],
        agents: vec![
            AgentDef { id: id("coder"), groups: vec!["agents".to_owned()] },
            AgentDef { id: id("ops"), groups: vec!["agents".to_owned(), "writers".to_owned()] },
        ],
        targets: vec![
            TargetDef { id: id("crm"), environment: id("production") },
            TargetDef { id: id("crm-test"), environment: id("staging") },
        ],
        tools: vec![tool("query", None), tool("search", Some(Effect::Read)), tool("purge", Some(Effect::Destructive))],
        ..PolicySource::default()
    }
}

pub(crate) fn bundle(policy: &str) -> Bundle {
    Bundle::load(&source(policy)).unwrap()
}

pub(crate) fn rules(policy: &str) -> Rules {
    Rules::read(&source(policy).policies).unwrap()
}

/// What SQL of this kind on this table says.
pub(crate) fn sql(effect: Effect, kind: &str, table: &str) -> Facts {
    let sql = SqlFacts {
        dialect: "sqlite".to_owned(),
        statements: 1,
        kinds: vec![kind.to_owned()],
        tables: vec![table.to_owned()],
        has_where: true,
        ..SqlFacts::default()
    };
    Facts { sql: Some(sql), ..Facts::declared(effect) }
}

/// `db/query` on `crm` in production.
pub(crate) fn question(agent: &str, facts: Facts) -> EvaluationRequest {
    EvaluationRequest {
        agent: id(agent),
        depth: 0,
        point: Point::Mcp,
        upstream: id("db"),
        tool: id("query"),
        target: id("crm"),
        environment: id("production"),
        facts,
        leases: Vec::new(),
        token_expires: TimeMs(3_600_000),
        now: TimeMs(0),
        history: History::default(),
        arguments: Vec::new(),
    }
}

/// An attempt at `db/query` on `crm` in production, that nobody has decided yet.
pub(crate) fn attempt(agent: &str, facts: Facts) -> Attempt {
    let room = Within { count: 0, max: 100 };
    Attempt {
        reserved_at: Seq(1),
        proposed_at: TimeMs(1_000),
        principal: Principal { tenant: id("t"), agent: id(agent), session: id("s-1"), run: id("r-1"), depth: 0 },
        point: Point::Mcp,
        upstream: id("db"),
        tool: id("query"),
        manifest: Digest([1; 32]),
        target: id("crm"),
        environment: id("production"),
        digest: Commitment::to(&Salt([1; 32]), b"digest"),
        arguments: Commitment::to(&Salt([2; 32]), b"arguments"),
        facts,
        inputs: Inputs {
            policy: Digest([2; 32]),
            budgets: Vec::new(),
            frozen_until: None,
            kill_epoch: 0,
            killed: false,
            leases: Vec::new(),
            granted: false,
            token_expires: TimeMs(u64::MAX),
            evaluation: None,
            standing: Standing {
                known: true,
                in_flight: room,
                pending_of_agent: room,
                pending: room,
                ..Standing::default()
            },
            history: Some(History::default()),
        },
        verdict: Verdict::Deny,
        reasons: vec![Reason::plain(ReasonCode::Internal)],
        ticket: None,
        claimed: Claimed::default(),
        redactions: Bounded::default(),
        continues: None,
    }
}

/// Who consented to what these gates ask.
pub(crate) fn granted(mut attempt: Attempt, humans: &[&str], gates: &[&str]) -> Attempt {
    attempt.inputs.standing.grant = Some(GrantReading {
        ticket: id("t-1"),
        humans: humans.iter().map(|human| id(human)).collect(),
        expires: TimeMs(u64::MAX),
        gates: gates.iter().map(|gate| id(gate)).collect(),
    });
    attempt.inputs.granted = true;
    attempt
}

/// The record of an attempt as it was decided under `bundle`.
pub(crate) fn decided(bundle: &Bundle, mut attempt: Attempt) -> Body {
    let evaluation = bundle.evaluate(&EvaluationRequest::from_attempt(&attempt, b"{}"));
    assert!(evaluation.errors.total == 0, "{:?}", evaluation.errors);
    let (verdict, reason) = countersign_kernel::in_hindsight(&attempt, TimeMs(1_000), evaluation.clone());
    (attempt.inputs.evaluation, attempt.verdict, attempt.reasons) = (Some(evaluation), verdict, vec![reason]);
    match attempt.verdict {
        Verdict::Allow | Verdict::Modify { .. } => Body::Intent(Box::new(attempt)),
        Verdict::RequireApproval { .. } => Body::Proposal(Box::new(Proposal {
            attempt,
            expires: TimeMs(2_000),
            preview: Digest([3; 32]),
            nonce: Digest([4; 32]),
        })),
        _ => Body::Denial(Box::new(attempt)),
    }
}
