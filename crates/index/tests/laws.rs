//! For random logs and random questions the index answers what a plain walk over the records answers, and it does not
//! matter in which portions it was fed.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests fail the test")]

mod support;

use std::collections::{BTreeMap, BTreeSet};

use countersign_index::{By, CALLS, Ended, Filter, Index, Of, Options, Row, StatusWord, VerdictWord};
use countersign_model::action::Point;
use countersign_model::record::{Continued, KillScope, Killed, Refused, Status};
use countersign_model::unit::LeafIndex;
use countersign_model::{Body, Reason, ReasonCode, Record, TimeMs, Verdict};
use proptest::prelude::*;
use support::{Log, attempt, fresh, id, principal, with_tables};

const AGENTS: [&str; 3] = ["ada", "bob", "eve"];
const RUNS: [&str; 4] = ["r-1", "r-2", "r-3", "r-4"];
const TOOLS: [&str; 3] = ["query", "mail", "drop"];
const TABLES: [&str; 3] = ["orders", "users", "main.logs"];
const HUMANS: [&str; 2] = ["olga", "otto"];
const REASONS: [ReasonCode; 3] = [ReasonCode::CodeFreeze, ReasonCode::BudgetExhausted, ReasonCode::NoPermit];

/// One thing that happens; numbers choose among the names.
#[derive(Clone, Debug)]
struct Happens {
    what: u8,
    agent: usize,
    run: usize,
    tool: usize,
    pick: usize,
    number: u64,
}

const STATUSES: [Status; 5] =
    [Status::Done, Status::Failed, Status::NotStarted, Status::Unknown, Status::InputRequired];

fn happens() -> impl Strategy<Value = Happens> {
    (0..12_u8, 0..3_usize, 0..4_usize, 0..3_usize, 0..64_usize, 0..5_u64)
        .prop_map(|(what, agent, run, tool, pick, number)| Happens { what, agent, run, tool, pick, number })
}

fn log_of(all: &[Happens]) -> Log {
    let mut log = Log::default();
    let (mut open, mut parked): (Vec<u64>, Vec<(u64, String)>) = (Vec::new(), Vec::new());
    for Happens { what, agent, run, tool, pick, number } in all {
        let call = attempt(AGENTS[*agent], RUNS[*run], TOOLS[*tool]);
        let mut call = with_tables(call, &TABLES[..pick % 3]);
        if *number == 4 {
            let (intent, input) = (LeafIndex(*pick as u64), call.arguments);
            call.continues = Some(Continued { intent, input, redactions: Default::default() });
        }
        match what {
            0..=3 => open.push(log.allow(call)),
            4 | 5 if !open.is_empty() => {
                let status = STATUSES[pick % 5];
                let intent = open.remove(pick % open.len());
                log.end(intent, status, (*number > 2).then_some(*number));
            }
            6 | 7 => drop(log.deny(call, &REASONS[..=pick % 3])),
            8 => {
                let ticket = format!("t-{}", log.records.len());
                parked.push((log.park(call, &ticket), ticket));
            }
            9 if !parked.is_empty() => {
                let (leaf, ticket) = parked[pick % parked.len()].clone();
                log.consent(&ticket, leaf, HUMANS[pick % 2], *number > 1);
                if *number > 2 {
                    open.push(log.redeem(call, &ticket, &HUMANS[..=pick % 2]));
                }
            }
            10 => {
                let principal = (pick % 2 == 0).then(|| principal(AGENTS[*agent], RUNS[*run]));
                let reason = Reason::plain(ReasonCode::TokenInvalid);
                log.push(Body::Refused(Refused { point: Point::Mcp, principal, reason, count: *number + 1 }));
            }
            11 => {
                let scope = if pick % 2 == 0 { KillScope::All } else { KillScope::Run(id(RUNS[*run])) };
                log.push(Body::Killed(Killed { scope, epoch: *number, cancelled: 0, took_ms: 1 }));
            }
            _ => log.now += 1_000,
        }
    }
    log
}

/// The rows of a log, by walking over it.
fn naive(log: &Log) -> Vec<Row> {
    let mut rows: BTreeMap<u64, Row> = BTreeMap::new();
    for (leaf, record) in (0_u64..).zip(&log.records) {
        if let Body::Outcome(outcome) = &record.body {
            rows.get_mut(&outcome.intent.0).unwrap().ended = Some(Ended {
                leaf,
                status: StatusWord::of(outcome.status).as_str(),
                rows: outcome.rows.map(|rows| rows.0),
                bytes_sent: outcome.bytes_sent.0,
                duration_ms: outcome.duration_ms,
                cost_microusd: outcome.cost_microusd,
            });
            continue;
        }
        if let Body::Consent(consent) = &record.body {
            let proposal = rows.get_mut(&consent.leaf.0).unwrap();
            proposal.approvers.push(consent.human.to_string());
            proposal.approvers.sort();
            proposal.approvers.dedup();
        }
        rows.insert(leaf, row(leaf, record));
    }
    rows.into_values().collect()
}

fn row(leaf: u64, record: &Record) -> Row {
    let mut row = Row { leaf, at_ms: record.at.0, kind: record.body.kind(), count: 1, ..Row::default() };
    let of = |row: &mut Row, who: &countersign_model::Principal| {
        row.agent = Some(who.agent.to_string());
        row.run = Some(who.run.to_string());
        row.session = Some(who.session.to_string());
    };
    row.continues = record.body.attempt().and_then(|call| call.continues.as_ref()).map(|it| it.intent.0);
    match &record.body {
        Body::Refused(refused) => {
            row.verdict = Some("deny");
            row.reasons = vec![refused.reason.code.as_str()];
            row.count = refused.count;
            refused.principal.iter().for_each(|who| of(&mut row, who));
        }
        Body::Consent(consent) => {
            row.ticket = Some(consent.ticket.to_string());
            row.human = Some(consent.human.to_string());
        }
        Body::Killed(Killed { scope: KillScope::Run(run), .. }) => row.run = Some(run.to_string()),
        body => {
            let Some(attempt) = body.attempt() else { return row };
            of(&mut row, &attempt.principal);
            row.verdict = Some(attempt.verdict.as_str());
            row.reasons = attempt.reasons.iter().map(|reason| reason.code.as_str()).collect();
            row.reasons[1..].sort();
            row.upstream = Some(attempt.upstream.to_string());
            row.tool = Some(attempt.tool.to_string());
            row.target = Some(attempt.target.to_string());
            row.environment = Some(attempt.environment.to_string());
            row.effect = Some(attempt.facts.effect.as_str());
            row.tables = attempt.facts.sql.iter().flat_map(|sql| sql.tables.clone()).collect();
            row.ticket = attempt.ticket.as_ref().map(ToString::to_string);
            if attempt.verdict == Verdict::Allow {
                let grant = attempt.inputs.standing.grant.iter();
                row.approvers = grant.flat_map(|grant| grant.humans.iter().map(ToString::to_string)).collect();
            }
        }
    }
    row
}

fn matches(filter: &Filter, row: &Row) -> bool {
    let same = |wanted: &Option<String>, found: &Option<String>| wanted.is_none() || wanted == found;
    let kinds: &[&str] = if filter.kinds.is_empty() { CALLS } else { &filter.kinds };
    kinds.contains(&row.kind)
        && same(&filter.agent, &row.agent)
        && same(&filter.run, &row.run)
        && same(&filter.tool, &row.tool)
        && same(&filter.ticket, &row.ticket)
        && filter.verdict.is_none_or(|verdict| row.verdict == Some(verdict.as_str()))
        && filter.reason.is_none_or(|reason| row.reasons.contains(&reason.as_str()))
        && filter.since.is_none_or(|since| row.at_ms >= since.0)
        && filter.until.is_none_or(|until| row.at_ms < until.0)
        && filter.table.as_ref().is_none_or(|table| row.tables.contains(table))
        && filter.host.as_ref().is_none_or(|host| row.hosts.contains(host))
        && filter.approver.as_ref().is_none_or(|human| row.approvers.contains(human))
        && filter.status.is_none_or(|status| row.status() == Some(status.as_str()))
}

fn maybe<T: Clone + std::fmt::Debug + 'static>(all: Vec<T>) -> impl Strategy<Value = Option<T>> {
    prop_oneof![3 => Just(None), 1 => proptest::sample::select(all).prop_map(Some)]
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).chain(["nobody".to_owned()]).collect()
}

fn filters() -> impl Strategy<Value = Filter> {
    let who = (maybe(names(&AGENTS)), maybe(names(&RUNS)), maybe(names(&TOOLS)), maybe(names(&["t-3", "t-5"])));
    let what = (maybe(VerdictWord::ALL.to_vec()), maybe(REASONS.to_vec()), maybe(StatusWord::ALL.to_vec()));
    let times = proptest::option::weighted(0.3, 0..3_000_u64);
    let rest = (maybe(names(&TABLES)), maybe(names(&HUMANS)), times.clone(), times, proptest::bool::weighted(0.2));
    (who, what, rest).prop_map(|((agent, run, tool, ticket), (verdict, reason, status), rest)| {
        let (table, approver, since, until, kinds) = rest;
        let kinds = if kinds { vec!["consent", "killed", "denial"] } else { Vec::new() };
        let (since, until) = (since.map(TimeMs), until.map(TimeMs));
        Filter {
            kinds,
            agent,
            run,
            tool,
            ticket,
            verdict,
            reason,
            status,
            table,
            approver,
            since,
            until,
            ..Filter::default()
        }
    })
}

fn everything() -> Filter {
    Filter { kinds: countersign_index::kinds().to_vec(), ..Filter::default() }
}

fn top(rows: &[Row], filter: &Filter, of: Of, by: By) -> Vec<(String, u64)> {
    let mut sums: BTreeMap<String, u64> = BTreeMap::new();
    for row in rows.iter().filter(|row| matches(filter, row)) {
        let status = row.status();
        let amount = match by {
            By::Calls => row.count,
            By::Denials => {
                if row.verdict == Some("deny") {
                    row.count
                } else {
                    0
                }
            }
            By::Approvals => u64::from(row.kind == "proposal"),
            By::Failures => u64::from(status == Some("failed")),
            By::Unknowns => u64::from(status == Some("unknown")),
            By::Rows => row.ended.as_ref().and_then(|ended| ended.rows).unwrap_or(0),
            By::Cost => row.ended.as_ref().and_then(|ended| ended.cost_microusd).unwrap_or(0),
        };
        let keys: Vec<String> = match of {
            Of::Tools => row.tool.clone().into_iter().collect(),
            Of::Agents => row.agent.clone().into_iter().collect(),
            Of::Runs => row.run.clone().into_iter().collect(),
            Of::Upstreams => row.upstream.clone().into_iter().collect(),
            Of::Targets => row.target.clone().into_iter().collect(),
            Of::Environments => row.environment.clone().into_iter().collect(),
            Of::Reasons => row.reasons.first().map(|reason| (*reason).to_owned()).into_iter().collect(),
            Of::Tables => row.tables.clone(),
            Of::Approvers => row.approvers.clone(),
        };
        for key in keys {
            *sums.entry(key).or_default() += amount;
        }
    }
    let mut lines: Vec<_> = sums.into_iter().filter(|(_, amount)| *amount > 0).collect();
    lines.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    lines
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn the_index_answers_as_a_walk_over_the_log_does(
        all in proptest::collection::vec(happens(), 0..80),
        asked in proptest::collection::vec((filters(), 1..9_u64), 12),
        ranked in proptest::collection::vec((filters(), 0..9_usize, 0..7_usize), 8),
    ) {
        let log = log_of(&all);
        let rows = naive(&log);
        let (_folder, mut index) = fresh(false);
        log.feed(&mut index, 1_000);
        prop_assert_eq!(&index.query(&everything(), 10_000).unwrap().rows, &rows);
        for (filter, limit) in asked {
            let want: Vec<&Row> = rows.iter().filter(|row| matches(&filter, row)).collect();
            let answer = index.query(&filter, limit).unwrap();
            let skipped = want.len().saturating_sub(usize::try_from(limit).unwrap());
            prop_assert_eq!(answer.rows.iter().collect::<Vec<_>>(), &want[skipped..], "{:?}", filter);
            prop_assert_eq!(answer.more, skipped > 0);
            prop_assert_eq!(answer.covered.size, log.records.len() as u64);
        }
        for (filter, of, by) in ranked {
            let (of, by) = (Of::ALL[of].0, By::ALL[by].0);
            let found = index.top(of, by, &filter, 1_000).unwrap();
            let found: Vec<_> = found.lines.into_iter().map(|line| (line.name, line.amount)).collect();
            prop_assert_eq!(found, top(&rows, &filter, of, by), "{:?} by {:?} of {:?}", of, by, filter);
        }
    }

    #[test]
    fn portions_do_not_matter(
        all in proptest::collection::vec(happens(), 1..60),
        portions in proptest::collection::vec(1..7_usize, 1..4),
    ) {
        let log = log_of(&all);
        let (_whole_folder, mut whole) = fresh(false);
        log.feed(&mut whole, 1_000);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("index.sqlite");
        for (turn, portion) in portions.iter().enumerate() {
            // Each turn goes on where the last one stopped, in a process of its own as it were.
            let mut index = Index::open(&path, Options::default()).unwrap();
            let until = (log.records.len() * (turn + 1)).div_ceil(portions.len());
            let part = Log { records: log.records[..until].to_vec(), texts: log.texts[..until].to_vec(), now: 0 };
            part.feed(&mut index, *portion);
        }
        let index = Index::open_read_only(&path).unwrap();
        prop_assert_eq!(index.head().unwrap(), whole.head().unwrap());
        prop_assert_eq!(index.query(&everything(), 10_000).unwrap(), whole.query(&everything(), 10_000).unwrap());
        for run in RUNS {
            let (_, leaves) = index.leaves_of_run(run).unwrap();
            prop_assert_eq!(&leaves, &whole.leaves_of_run(run).unwrap().1);
            prop_assert_eq!(leaves.is_empty(), !naive(&log).iter().any(|row| row.run.as_deref() == Some(run)));
            prop_assert_eq!(leaves.iter().collect::<BTreeSet<_>>().len(), leaves.len(), "a leaf twice");
        }
    }
}
