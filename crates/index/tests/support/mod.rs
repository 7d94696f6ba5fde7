//! Logs to index: made from a few plain words, without a kernel.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use countersign_index::{Index, Options};
use countersign_model::action::Point;
use countersign_model::encoding::Bounded;
use countersign_model::facts::{Effect, Facts, SqlFacts};
use countersign_model::payload::{Commitment, Salt};
use countersign_model::record::{
    Attempt, Claimed, Consent, GrantReading, Inputs, Outcome, Proposal, RECORD_VERSION, Standing, Status,
};
use countersign_model::unit::{Bytes, LeafIndex, Rows};
use countersign_model::{Body, Digest, Principal, Reason, ReasonCode, Record, Seq, TimeMs, Verdict};

/// A log as it grows.
#[derive(Clone, Default)]
pub(crate) struct Log {
    pub(crate) records: Vec<Record>,
    pub(crate) texts: Vec<Option<String>>,
    pub(crate) now: u64,
}

pub(crate) fn id<T: std::str::FromStr>(text: &str) -> T
where
    T::Err: std::fmt::Debug,
{
    text.parse().unwrap()
}

pub(crate) fn principal(agent: &str, run: &str) -> Principal {
    Principal { tenant: id("acme"), agent: id(agent), session: id(&format!("s-{run}")), run: id(run), depth: 0 }
}

/// An allowed call; change what the test is about.
pub(crate) fn attempt(agent: &str, run: &str, tool: &str) -> Attempt {
    let nothing = Commitment::to(&Salt([0; 32]), b"");
    Attempt {
        reserved_at: Seq(0),
        proposed_at: TimeMs(0),
        principal: principal(agent, run),
        point: Point::Mcp,
        upstream: id("crm"),
        tool: id(tool),
        manifest: Digest([0; 32]),
        target: id("crm-db"),
        environment: id("production"),
        digest: nothing,
        arguments: nothing,
        facts: Facts::declared(Effect::Write),
        inputs: Inputs {
            policy: Digest([1; 32]),
            budgets: Vec::new(),
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
        reasons: vec![Reason::plain(ReasonCode::PolicyPermit)],
        ticket: None,
        claimed: Claimed::default(),
        redactions: Bounded::default(),
        continues: None,
    }
}

pub(crate) fn with_tables(mut attempt: Attempt, tables: &[&str]) -> Attempt {
    let mut tables: Vec<String> = tables.iter().map(|table| (*table).to_owned()).collect();
    tables.sort();
    tables.dedup();
    attempt.facts.sql = (!tables.is_empty()).then(|| SqlFacts { tables, ..SqlFacts::default() });
    attempt
}

impl Log {
    /// Adds a record and gives its leaf.
    pub(crate) fn push(&mut self, body: Body) -> u64 {
        self.push_with(body, None)
    }

    pub(crate) fn push_with(&mut self, body: Body, text: Option<&str>) -> u64 {
        self.now += 7;
        let leaf = self.records.len() as u64;
        self.records.push(Record { version: RECORD_VERSION, seq: Seq(leaf), at: TimeMs(self.now), body });
        self.texts.push(text.map(str::to_owned));
        leaf
    }

    pub(crate) fn allow(&mut self, attempt: Attempt) -> u64 {
        self.push(Body::Intent(Box::new(attempt)))
    }

    pub(crate) fn deny(&mut self, mut attempt: Attempt, codes: &[ReasonCode]) -> u64 {
        attempt.verdict = Verdict::Deny;
        attempt.reasons = codes.iter().map(|code| Reason::plain(*code)).collect();
        self.push(Body::Denial(Box::new(attempt)))
    }

    pub(crate) fn park(&mut self, mut attempt: Attempt, ticket: &str) -> u64 {
        attempt.verdict = Verdict::RequireApproval { gates: Vec::new() };
        attempt.reasons = vec![Reason::plain(ReasonCode::Gate)];
        attempt.ticket = Some(id(ticket));
        let (preview, nonce) = (Digest([2; 32]), Digest([3; 32]));
        self.push(Body::Proposal(Box::new(Proposal { attempt, expires: TimeMs(u64::MAX), preview, nonce })))
    }

    pub(crate) fn consent(&mut self, ticket: &str, leaf: u64, human: &str, approved: bool) -> u64 {
        self.push(Body::Consent(Consent {
            ticket: id(ticket),
            proposal: Digest([4; 32]),
            leaf: LeafIndex(leaf),
            human: id(human),
            approved,
            signature: vec![0; 64],
            grant_expires: approved.then_some(TimeMs(u64::MAX)),
            key: [0; 32],
        }))
    }

    pub(crate) fn redeem(&mut self, mut attempt: Attempt, ticket: &str, humans: &[&str]) -> u64 {
        attempt.reasons = vec![Reason::plain(ReasonCode::GrantRedeemed)];
        attempt.ticket = Some(id(ticket));
        attempt.inputs.standing.grant = Some(GrantReading {
            ticket: id(ticket),
            humans: humans.iter().map(|human| id(human)).collect(),
            expires: TimeMs(u64::MAX),
            gates: Vec::new(),
        });
        self.allow(attempt)
    }

    pub(crate) fn end(&mut self, intent: u64, status: Status, rows: Option<u64>) -> u64 {
        self.push(Body::Outcome(Outcome {
            action: Seq(intent),
            intent: LeafIndex(intent),
            status,
            result: None,
            rows: rows.map(Rows),
            bytes_sent: Bytes(100),
            duration_ms: 5,
            note: None,
            charged: 1,
            cost_microusd: rows,
            undo: None,
        }))
    }

    /// Feeds what the index does not have, in batches of `batch`.
    pub(crate) fn feed(&self, index: &mut Index, batch: usize) {
        let mut next = usize::try_from(index.head().unwrap().size).unwrap();
        while next < self.records.len() {
            let mut open = index.batch().unwrap();
            for at in next..self.records.len().min(next + batch) {
                let (record, text) = self.records.get(at).zip(self.texts.get(at)).unwrap();
                let leaf = record.to_leaf().unwrap();
                open.push(at as u64, &leaf, text.as_deref().map(str::as_bytes)).unwrap();
            }
            open.commit().unwrap();
            next += batch;
        }
    }
}

/// A new index in a folder of its own.
pub(crate) fn fresh(full_text: bool) -> (tempfile::TempDir, Index) {
    let folder = tempfile::tempdir().unwrap();
    let index = Index::open(&folder.path().join("index.sqlite"), Options { full_text }).unwrap();
    (folder, index)
}

/// Not every test uses every helper; naming them here keeps the rest from looking dead.
const _: () = {
    let _ = (principal, with_tables, Log::redeem, Log::push_with, Log::park, Log::consent, Log::deny);
};
