//! Records for tests: a run that holds one of everything.

use countersign_model::action::Point;
use countersign_model::encoding::Bounded;
use countersign_model::facts::{Effect, Facts, SqlFacts};
use countersign_model::payload::{Commitment, Salt};
use countersign_model::record::{
    Attempt, BudgetReading, Claimed, Consent, Expired, GrantReading, Inputs, KillScope, Killed, Outcome, Proposal,
    RECORD_VERSION, Refused, Standing, Status,
};
use countersign_model::unit::{Bytes, LeafIndex, Rows};
use countersign_model::{Body, Digest, Gate, Principal, Reason, ReasonCode, Record, Seq, TimeMs, Verdict};

/// 2026-11-21T14:00:00Z.
pub(crate) const START: u64 = 1_795_269_600_000;
pub(crate) const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn id<T: std::str::FromStr>(text: &str) -> T
where
    T::Err: std::fmt::Debug,
{
    text.parse().unwrap()
}

/// An allowed read of run `r-7`, as step `step` after `cause`.
pub(crate) fn call(tool: &str, step: &str, cause: &str) -> Attempt {
    let claim = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    Attempt {
        reserved_at: Seq(0),
        proposed_at: TimeMs(START),
        principal: Principal { tenant: id("acme"), agent: id("coder"), session: id("s-1"), run: id("r-7"), depth: 0 },
        point: Point::Mcp,
        upstream: id("crm"),
        tool: id(tool),
        manifest: Digest([1; 32]),
        target: id("crm-db"),
        environment: id("production"),
        digest: Commitment::to(&Salt([1; 32]), b"digest"),
        arguments: Commitment::to(&Salt([2; 32]), b"arguments"),
        facts: Facts {
            sql: Some(SqlFacts { tables: vec!["orders".to_owned()], ..SqlFacts::default() }),
            ..Facts::declared(Effect::Read)
        },
        inputs: Inputs {
            policy: Digest([2; 32]),
            budgets: vec![BudgetReading { name: "calls of run r-7".to_owned(), cap: 100, spent: 3, reserved: 1 }],
            frozen_until: None,
            kill_epoch: 0,
            killed: false,
            leases: Vec::new(),
            granted: false,
            token_expires: TimeMs(u64::MAX),
            evaluation: None,
            standing: Standing::default(),
            history: None,
        },
        verdict: Verdict::Allow,
        reasons: vec![Reason::by_policies(ReasonCode::PolicyPermit, ["reads".to_owned()])],
        ticket: None,
        claimed: Claimed { trace: None, step: claim(step), cause: claim(cause) },
        redactions: Bounded::default(),
        continues: None,
    }
}

/// An outcome of the intent at `intent`.
pub(crate) fn outcome(intent: u64, status: Status) -> Body {
    Body::Outcome(Outcome {
        action: Seq(intent),
        intent: LeafIndex(intent),
        status,
        result: None,
        rows: Some(Rows(3)),
        bytes_sent: Bytes(120),
        duration_ms: 45,
        note: (status != Status::Done).then(|| "the connection ended".to_owned()),
        charged: 1,
        cost_microusd: (status == Status::Done).then_some(1_250),
        undo: None,
    })
}

fn denied(mut attempt: Attempt) -> Body {
    attempt.verdict = Verdict::Deny;
    attempt.facts = Facts::opaque("no binding");
    attempt.reasons = vec![
        Reason::because(ReasonCode::CodeFreeze, "production is frozen\u{1b}[2J"),
        Reason::by_policies(ReasonCode::PolicyForbid, ["no-drops".to_owned()]),
    ];
    Body::Denial(Box::new(attempt))
}

fn parked(mut attempt: Attempt, ticket: &str) -> Body {
    attempt.facts.effect = Effect::Destructive;
    attempt.verdict = Verdict::RequireApproval {
        gates: vec![Gate {
            policy: id("deletes"),
            name: "deletes need two eyes".to_owned(),
            approvers: vec!["alice".to_owned(), "bob".to_owned()],
            quorum: 1,
            timeout_ms: 1_800_000,
            notify: None,
        }],
    };
    attempt.reasons = vec![Reason::by_policies(ReasonCode::Gate, ["deletes".to_owned()])];
    attempt.ticket = Some(id(ticket));
    let expires = TimeMs(START + 1_800_000);
    Body::Proposal(Box::new(Proposal { attempt, expires, preview: Digest([3; 32]), nonce: Digest([4; 32]) }))
}

fn waiting(mut attempt: Attempt, ticket: &str) -> Body {
    attempt.verdict = Verdict::RequireApproval { gates: Vec::new() };
    attempt.reasons = vec![Reason::plain(ReasonCode::Waiting)];
    attempt.ticket = Some(id(ticket));
    Body::Waiting(Box::new(attempt))
}

fn redeemed(mut attempt: Attempt, ticket: &str) -> Body {
    attempt.reasons = vec![Reason::plain(ReasonCode::GrantRedeemed)];
    attempt.ticket = Some(id(ticket));
    attempt.inputs.standing.grant = Some(GrantReading {
        ticket: id(ticket),
        humans: vec![id("alice")],
        expires: TimeMs(START + 1_800_000),
        gates: vec![id("deletes")],
    });
    Body::Intent(Box::new(attempt))
}

fn consent(ticket: &str, leaf: u64) -> Body {
    Body::Consent(Consent {
        ticket: id(ticket),
        proposal: Digest([5; 32]),
        leaf: LeafIndex(leaf),
        human: id("alice"),
        approved: true,
        signature: vec![6; 64],
        grant_expires: Some(TimeMs(START + 1_800_000)),
        key: [0xab; 32],
    })
}

/// The run: leaves and records.
pub(crate) fn run() -> Vec<(u64, Record)> {
    let mut traced = call("query", "1", "");
    traced.claimed.trace = Some(TRACE.to_owned());
    let reason = Reason::plain(ReasonCode::Overloaded);
    let refused = Refused { point: Point::Mcp, principal: Some(call("x", "", "").principal), reason, count: 3 };
    let killed = Killed { scope: KillScope::Run(id("r-7")), epoch: 1, cancelled: 1, took_ms: 12 };
    let bodies = vec![
        (0, Body::Intent(Box::new(traced))),
        (50, outcome(0, Status::Done)),
        (100, denied(call("drop_all", "2", "1"))),
        (2_000, parked(call("delete", "3", "2"), "t-abc")),
        (3_000, waiting(call("delete", "3", "2"), "t-abc")),
        (60_000, consent("t-abc", 3)),
        (61_000, redeemed(call("delete", "3", "2"), "t-abc")),
        (61_100, outcome(6, Status::Unknown)),
        (70_000, parked(call("purge", "", ""), "t-def")),
        (71_000, Body::Refused(refused)),
        (72_000, Body::Intent(Box::new(call("query", "", "")))),
        (5_000_000, Body::Killed(killed)),
        (5_000_001, Body::Expired(Expired { ticket: id("t-def"), granted: false })),
    ];
    let record =
        |leaf: u64, at: u64, body| Record { version: RECORD_VERSION, seq: Seq(leaf), at: TimeMs(START + at), body };
    (0..).zip(bodies).map(|(leaf, (at, body))| (leaf, record(leaf, at, body))).collect()
}
