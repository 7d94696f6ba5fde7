//! Laws of the one encoding: stable, injective, and nothing else decodes.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test helper may panic")]

use countersign_model::action::{Point, Principal};
use countersign_model::command::Deed;
use countersign_model::encoding::{Bounded, LEAF_BYTES_MAX, clipped, fits_leaf, to_leaf};
use countersign_model::facts::{
    BOUND_BYTES_MAX, Bound, Effect, Facts, LABEL_BYTES_MAX, NAMES_MAX, RUN_LABELS_MAX, SQL_BYTES_MAX, SqlFacts,
};
use countersign_model::id::{AgentId, Digest, RunId, SessionId, TenantId, TicketId, ToolName};
use countersign_model::payload::{Commitment, Salt};
use countersign_model::record::{
    Attempt, BUDGETS_MAX, BudgetReading, CLAIM_BYTES_MAX, Claimed, ContinuationReading, Continued, Erased, Evaluation,
    Expired, History, Inputs, KeyRotated, Proposal, REASONS_MAX, Recent, Snapshot, Standing, VaultScope,
};
use countersign_model::unit::{LeafIndex, Seq, TimeMs};
use countersign_model::verdict::{GATES_MAX, Gate, OBLIGATIONS_MAX, Obligation};
use countersign_model::{Body, Reason, ReasonCode, Record, Verdict, from_canonical, to_canonical};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;

fn name() -> impl Strategy<Value = String> {
    "[a-z0-9._:-]{1,20}"
}

fn facts() -> impl Strategy<Value = Facts> {
    let sql = (proptest::collection::vec(name(), 0..5), 0_u32..3, any::<bool>());
    (0..Effect::ALL.len(), proptest::option::of(sql)).prop_map(|(effect, sql)| Facts {
        sql: sql.map(|(tables, statements, has_where)| SqlFacts {
            dialect: "sqlite".into(),
            statements,
            tables,
            has_where,
            ..SqlFacts::default()
        }),
        ..Facts::declared(Effect::ALL[effect])
    })
}

fn attempt() -> impl Strategy<Value = Attempt> {
    (name(), name(), facts(), any::<[u8; 32]>(), any::<(u64, u64, bool)>(), 0..ReasonCode::ALL.len()).prop_map(
        |(agent, tool, facts, salt, (seq, spent, killed), code)| Attempt {
            reserved_at: Seq(seq),
            proposed_at: TimeMs(spent),
            principal: Principal {
                tenant: TenantId::new("t").unwrap(),
                agent: AgentId::new(&agent).unwrap(),
                session: SessionId::new("s").unwrap(),
                run: RunId::new("r").unwrap(),
                depth: 0,
            },
            point: Point::Mcp,
            upstream: "crm".parse().unwrap(),
            tool: ToolName::new(&tool).unwrap(),
            manifest: Digest(salt),
            target: "crm".parse().unwrap(),
            environment: "production".parse().unwrap(),
            digest: Commitment::to(&Salt(salt), b"digest"),
            arguments: Commitment::to(&Salt(salt), tool.as_bytes()),
            facts,
            inputs: Inputs {
                policy: Digest([7; 32]),
                budgets: vec![BudgetReading { name: "calls of run r".into(), cap: 9, spent, reserved: 1 }],
                frozen_until: killed.then_some(TimeMs(5)),
                kill_epoch: seq,
                killed,
                leases: vec![],
                granted: false,
                token_expires: TimeMs(99),
                evaluation: None,
                standing: Standing::default(),
                history: None,
            },
            verdict: Verdict::Deny,
            reasons: vec![Reason::plain(ReasonCode::ALL[code])],
            ticket: None,
            claimed: Claimed { step: killed.then(|| tool.clone()), ..Claimed::default() },
            redactions: Bounded::new(killed.then(|| agent.clone())),
            continues: killed.then(|| Continued {
                intent: LeafIndex(seq),
                input: Commitment::to(&Salt(salt), agent.as_bytes()),
                redactions: spent,
            }),
        },
    )
}

fn record() -> impl Strategy<Value = Record> {
    let body = prop_oneof![
        attempt().prop_map(|a| Body::Intent(Box::new(a))),
        attempt().prop_map(|a| Body::Denial(Box::new(a))),
        (attempt(), any::<[u8; 32]>()).prop_map(|(attempt, nonce)| Body::Proposal(Box::new(Proposal {
            attempt,
            expires: TimeMs(1),
            preview: Digest([1; 32]),
            nonce: Digest(nonce),
        }))),
        (name(), any::<bool>())
            .prop_map(|(ticket, granted)| Body::Expired(Expired { ticket: TicketId::new(&ticket).unwrap(), granted })),
        (name(), any::<bool>(), any::<u64>()).prop_map(|(run, is_run, keys)| Body::Erased(Erased {
            scope: if is_run {
                VaultScope::Run(RunId::new(&run).unwrap())
            } else {
                VaultScope::Subject(Digest([2; 32]))
            },
            command: LeafIndex(keys),
            keys,
            payloads: keys,
            tickets: vec![TicketId::new(&run).unwrap()],
        })),
        (name(), any::<u64>())
            .prop_map(|(statement, at)| Body::KeyRotated(KeyRotated { statement, command: LeafIndex(at) })),
        any::<u64>().prop_map(|size| Body::Snapshot(Snapshot { size, state: Digest([3; 32]) })),
        Just(Body::Stopped),
    ];
    (any::<u64>(), any::<u64>(), body).prop_map(|(seq, at, body)| Record {
        version: 1,
        seq: Seq(seq),
        at: TimeMs(at),
        body,
    })
}

proptest! {
    #[test]
    fn reads_back_what_it_wrote(record in record()) {
        let leaf = record.to_leaf().unwrap();
        prop_assert_eq!(Record::from_leaf(&leaf).unwrap(), record);
    }

    #[test]
    fn what_fits_a_leaf_is_what_can_be_made_one(record in record(), bytes in 65_000..66_000_usize) {
        prop_assert!(fits_leaf(&record));
        let long = "x".repeat(bytes);
        prop_assert_eq!(fits_leaf(&long), to_leaf(&long).is_ok());
    }

    #[test]
    fn two_records_never_share_an_encoding(one in record(), other in record()) {
        prop_assert_eq!(one == other, one.to_leaf().unwrap() == other.to_leaf().unwrap());
    }

    /// A changed byte is refused or another record: never a second spelling of the same one.
    #[test]
    fn a_changed_byte_never_reads_as_the_same_record(record in record(), at in any::<prop::sample::Index>(), bit in 0_u8..8) {
        let leaf = record.to_leaf().unwrap();
        let mut changed = leaf.clone();
        changed[at.index(leaf.len())] ^= 1 << bit;
        if let Ok(other) = Record::from_leaf(&changed) {
            prop_assert_ne!(other, record);
        }
    }

    #[test]
    fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = Record::from_leaf(&bytes);
    }

    #[test]
    fn clipping_keeps_a_prefix(text in ".{0,80}", max in 0_usize..60) {
        let cut = clipped(&text, max);
        prop_assert!(cut.len() <= max && text.starts_with(&cut));
    }
}

/// What was signed before a field was added must still be the bytes that were signed.
#[test]
fn an_acceptance_without_a_widening_is_spelled_as_before() {
    let deed =
        |widening| Deed::Activate { configuration: Digest([1; 32]), policy: Digest([2; 32]), serial: 3, widening };
    let digest = |byte: u8| [&[0x58, 0x20][..], &[byte; 32]].concat();
    let before = [&[0x84, 0x07][..], &digest(1), &digest(2), &[0x03]].concat();
    assert_eq!(to_canonical(&deed(None)).unwrap(), before);
    assert_eq!(from_canonical::<Deed>(&before).unwrap(), deed(None));
    let wider = deed(Some(Digest([4; 32])));
    let spelled = to_canonical(&wider).unwrap();
    assert_eq!(spelled, [&[0x85, 0x07][..], &digest(1), &digest(2), &[0x03], &digest(4)].concat());
    assert_eq!(from_canonical::<Deed>(&spelled).unwrap(), wider);
}

#[test]
fn other_spellings_are_refused() {
    let stopped = Record { version: 1, seq: Seq(1), at: TimeMs(2), body: Body::Stopped };
    let leaf = stopped.to_leaf().unwrap();
    // {0: 1, 1: 1, 2: 2, 3: [1]}: the golden bytes pin the format.
    assert_eq!(leaf, [0xa4, 0, 1, 1, 1, 2, 2, 3, 0x81, 1]);
    let spellings: [&[u8]; 5] = [
        &[0xa4, 0, 1, 1, 0x18, 1, 2, 2, 3, 0x81, 1], // a long spelling of 1
        &[0xa4, 1, 1, 0, 1, 2, 2, 3, 0x81, 1],       // keys out of order
        &[0xa5, 0, 1, 1, 1, 2, 2, 3, 0x81, 1, 9, 0], // an unknown key
        &[0xbf, 0, 1, 1, 1, 2, 2, 3, 0x81, 1, 0xff], // an indefinite map
        &[0xa4, 0, 1, 1, 1, 2, 2, 3, 0x81, 1, 0],    // a trailing byte
    ];
    for bytes in spellings {
        assert!(Record::from_leaf(bytes).is_err(), "{bytes:x?}");
    }
}

/// The largest decision that the bounds permit still fits a leaf.
#[test]
fn the_worst_case_fits() {
    let long = "x".repeat(128);
    let list = || Bounded::new((0..200).map(|_| "p".repeat(400)));
    // Lists that share one bound are fullest where each has as many names as it may.
    let share = |names: usize, bytes: usize| vec!["x".repeat(bytes); names];
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut attempt = attempt().new_tree(&mut runner).unwrap().current();
    let gate = Gate {
        policy: long.parse().unwrap(),
        name: "g".repeat(160),
        approvers: vec![long.clone(); 8],
        quorum: u32::MAX,
        timeout_ms: u64::MAX,
        notify: Some("n".repeat(64)),
    };
    attempt.facts.sql = Some(SqlFacts {
        kinds: vec!["create_index".to_owned(); 13],
        tables: share(NAMES_MAX, SQL_BYTES_MAX / NAMES_MAX / 2),
        functions: share(NAMES_MAX, SQL_BYTES_MAX / NAMES_MAX / 2),
        ..SqlFacts::default()
    });
    attempt.facts.bound = Some(Bound {
        hosts: share(NAMES_MAX, BOUND_BYTES_MAX / NAMES_MAX),
        recipients: u64::MAX,
        amount_micros: Some(u64::MAX),
        count: Some(u64::MAX),
        current: Some(u64::MAX),
        ..Bound::default()
    });
    let recent = Recent { minute: u64::MAX, ten_minutes: u64::MAX, hour: u64::MAX, day: u64::MAX };
    attempt.inputs.history = Some(History {
        new_hosts: share(NAMES_MAX, BOUND_BYTES_MAX / NAMES_MAX),
        previous: Some("x".repeat(2 * 128 + 1)),
        new_pair: true,
        calls: recent,
        changes: recent,
        growing: u64::MAX,
        previous_count: Some(u64::MAX),
        lease_minutes: Some(u64::MAX),
        labels: share(RUN_LABELS_MAX, LABEL_BYTES_MAX),
    });
    attempt.inputs.budgets =
        vec![BudgetReading { name: "b".repeat(160), cap: u64::MAX, spent: u64::MAX, reserved: u64::MAX }; BUDGETS_MAX];
    attempt.inputs.leases = vec![long.parse().unwrap(); 16];
    attempt.inputs.evaluation = Some(Evaluation {
        ceiling: true,
        auto: false,
        determining: list(),
        gates: vec![gate.clone(); GATES_MAX],
        errors: list(),
        timed_out: false,
        obligations: vec![Obligation::Notify { channel: "n".repeat(64) }; OBLIGATIONS_MAX],
        obliging: list(),
    });
    attempt.reasons =
        vec![
            Reason { policies: Bounded::default(), ..Reason::because(ReasonCode::Gate, &"d".repeat(999)) };
            REASONS_MAX
        ];
    attempt.verdict = Verdict::RequireApproval { gates: vec![gate; GATES_MAX] };
    let claim = || Some("x".repeat(CLAIM_BYTES_MAX));
    attempt.claimed = Claimed { trace: claim(), step: claim(), cause: claim() };
    // A consent is not among it: the record of a decision that does not fit with one is a denial that does.
    attempt.inputs.standing.continuation = Some(ContinuationReading {
        principal: attempt.principal.clone(),
        digest: attempt.digest,
        until: TimeMs(u64::MAX),
        rounds: u64::MAX,
        consent: None,
    });
    attempt.continues = Some(Continued { intent: LeafIndex(u64::MAX), input: attempt.digest, redactions: u64::MAX });
    attempt.redactions = Bounded::new((0..1_000).map(|n| format!("{n}{}", "r".repeat(300))));
    let record = Record { version: 1, seq: Seq(u64::MAX), at: TimeMs(u64::MAX), body: Body::Denial(Box::new(attempt)) };
    let bytes = record.to_leaf().unwrap().len();
    assert!(bytes < LEAF_BYTES_MAX, "{bytes}");
}
