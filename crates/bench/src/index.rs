//! `index`: how long the index takes to be made from a log of many records, how large it is, and how fast it answers.
//!
//! The records are synthetic and made in memory: agents, tools and runs of a fixed mixture, spread evenly over days, a
//! tenth of them denied. Feeding decodes and checks every leaf and computes the tree, as from a real log; reading the
//! log itself is not in the figure. Questions are asked warm, in a connection of their own, and each is checked against
//! what the mixture must give. It must not know how the index works inside.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Args;
use countersign_index::{By, Filter, Index, Of, Options, VerdictWord};
use countersign_model::action::Point;
use countersign_model::encoding::Bounded;
use countersign_model::facts::{Effect, Facts, SqlFacts};
use countersign_model::payload::{Commitment, Salt};
use countersign_model::record::{
    Attempt, BudgetReading, Claimed, Evaluation, Inputs, Outcome, RECORD_VERSION, Standing, Status,
};
use countersign_model::unit::{Bytes, LeafIndex, Rows};
use countersign_model::{Body, Digest, IdError, Principal, Reason, ReasonCode, Record, Seq, TimeMs, Verdict};
use serde_json::json;

use crate::machine::Machine;

const AGENTS: u64 = 200;
const TOOLS: u64 = 300;
const CALLS_OF_A_RUN: u64 = 20;
/// Every how many calls one is denied.
const DENIED: u64 = 10;
/// How long the whole log spans, in days.
const DAYS: u64 = 30;
const DAY_MS: u64 = 86_400_000;
const START_MS: u64 = 1_780_000_000_000;
const BATCH: u64 = 20_000;

/// What is measured.
#[derive(Clone, Debug, Args)]
pub(crate) struct IndexPlan {
    /// Records of the log; an allowed call has two of them.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(10_000..=100_000_000))]
    records: u64,
    /// How often each question is asked.
    #[arg(long, default_value_t = 21, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    times: u32,
    /// Print one JSON object instead of the table.
    #[arg(long)]
    json: bool,
    /// Where the index lies; by default beside the build.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// One question, asked many times.
struct Asked {
    question: &'static str,
    bar_ms: f64,
    rows: usize,
    best: Duration,
    median: Duration,
}

/// Makes the index, asks, prints.
pub(crate) fn run(plan: &IndexPlan) -> Result<()> {
    let beside = || std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.to_path_buf()));
    let dir = plan.dir.clone().or_else(beside).unwrap_or_else(|| PathBuf::from("."));
    let folder = tempfile::Builder::new().prefix("bench-index").tempdir_in(dir)?;
    let path = folder.path().join("index.sqlite");
    let mut index = Index::open(&path, Options::default())?;
    let mut made = Mixture::default();
    let mut feeding = Duration::ZERO;
    while made.leaf < plan.records {
        // Records are made outside of the figure.
        let from = made.leaf;
        let leaves: Vec<Vec<u8>> = (0..BATCH.min(plan.records - from))
            .map(|_| Ok(made.next(plan.records)?.to_leaf()?))
            .collect::<Result<_>>()?;
        let begun = Instant::now();
        let mut batch = index.batch()?;
        for (leaf, bytes) in (from..).zip(&leaves) {
            batch.push(leaf, bytes, None)?;
        }
        batch.commit()?;
        feeding += begun.elapsed();
        if !plan.json {
            eprint!("\r{} of {} records", made.leaf, plan.records);
        }
    }
    if !plan.json {
        eprintln!();
    }
    let bytes = index.bytes()?;
    drop(index);
    let asked = ask(&Index::open_read_only(&path)?, plan, &made)?;
    let machine = Machine::look(folder.path());
    print(plan, &machine, (feeding, bytes), &asked);
    Ok(())
}

fn ask(index: &Index, plan: &IndexPlan, made: &Mixture) -> Result<Vec<Asked>> {
    let middle = TimeMs(START_MS + DAYS / 2 * DAY_MS);
    let denied = Filter {
        agent: Some("agent-7".to_owned()),
        verdict: Some(VerdictWord::Deny),
        since: Some(middle),
        until: Some(TimeMs(middle.0 + DAY_MS)),
        ..Filter::default()
    };
    let run = format!("run-{}", made.calls / CALLS_OF_A_RUN / 2);
    let of_run = Filter { run: Some(run.clone()), ..Filter::default() };
    let a_day = Filter { since: Some(middle), until: Some(TimeMs(middle.0 + DAY_MS)), ..Filter::default() };
    let newest = Filter { table: Some("table-3".to_owned()), ..Filter::default() };
    let mut all = vec![
        timed(plan, "denied calls of an agent in a day", 5.0, || {
            let rows = index.query(&denied, 10_000)?.rows;
            ensure!(rows.iter().all(|row| row.agent.as_deref() == Some("agent-7") && row.verdict == Some("deny")));
            Ok(rows.len())
        })?,
        timed(plan, "all calls of a run", 5.0, || {
            let rows = index.query(&of_run, 10_000)?.rows.len();
            ensure!(rows as u64 == CALLS_OF_A_RUN, "a run has {rows} calls");
            Ok(rows)
        })?,
        timed(plan, "all leaves of a run, for its timeline", 5.0, || Ok(index.leaves_of_run(&run)?.1.len()))?,
        timed(plan, "top tools by denials", 200.0, || {
            let ranking = index.top(Of::Tools, By::Denials, &Filter::default(), 1_000_000)?;
            let sum: u64 = ranking.lines.iter().map(|line| line.amount).sum();
            ensure!(sum == made.denied, "{sum} denials of {}", made.denied);
            Ok(ranking.lines.len())
        })?,
    ];
    // Without a bar: what else people ask.
    all.push(timed(plan, "newest 50 calls on a table", f64::NAN, || Ok(index.query(&newest, 50)?.rows.len()))?);
    all.push(timed(plan, "top agents by calls in a day", f64::NAN, || {
        Ok(index.top(Of::Agents, By::Calls, &a_day, 1_000)?.lines.len())
    })?);
    Ok(all)
}

fn timed(plan: &IndexPlan, question: &'static str, bar_ms: f64, ask: impl Fn() -> Result<usize>) -> Result<Asked> {
    let mut times = Vec::new();
    let mut rows = 0;
    for _ in 0..plan.times {
        let begun = Instant::now();
        rows = ask()?;
        times.push(begun.elapsed());
    }
    times.sort();
    let at = |at: usize| times.get(at).copied().unwrap_or_default();
    Ok(Asked { question, bar_ms, rows, best: at(0), median: at(times.len() / 2) })
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

fn print(plan: &IndexPlan, machine: &Machine, (feeding, bytes): (Duration, u64), asked: &[Asked]) {
    let per_record_us = feeding.as_secs_f64() * 1e6 / plan.records as f64;
    if plan.json {
        let questions: Vec<_> = asked
            .iter()
            .map(|asked| {
                let bar = asked.bar_ms.is_finite().then_some(asked.bar_ms);
                json!({
                    "question": asked.question, "rows": asked.rows, "best_ms": ms(asked.best),
                    "median_ms": ms(asked.median), "bar_ms": bar,
                })
            })
            .collect();
        println!(
            "{}",
            json!({
                "machine": machine, "records": plan.records, "times": plan.times, "build_s": feeding.as_secs_f64(),
                "build_us_per_record": per_record_us, "index_bytes": bytes, "questions": questions,
            })
        );
        return;
    }
    println!(
        "{} records: built in {:.1} s ({per_record_us:.1} us a record), {:.1} MB ({:.0} bytes a record)",
        plan.records,
        feeding.as_secs_f64(),
        bytes as f64 / 1e6,
        bytes as f64 / plan.records as f64
    );
    println!("{:<40} {:>8} {:>10} {:>10} {:>8}", "question", "rows", "best ms", "median ms", "bar ms");
    for Asked { question, bar_ms, rows, best, median } in asked {
        let bar = if bar_ms.is_finite() { format!("{bar_ms:.0}") } else { "-".to_owned() };
        println!("{question:<40} {rows:>8} {:>10.2} {:>10.2} {bar:>8}", ms(*best), ms(*median));
    }
}

/// The log: calls in order of time, each outcome right behind its intent.
#[derive(Default)]
struct Mixture {
    leaf: u64,
    calls: u64,
    denied: u64,
    /// The intent whose outcome comes next.
    open: Option<u64>,
}

impl Mixture {
    fn next(&mut self, records: u64) -> Result<Record> {
        let leaf = self.leaf;
        self.leaf += 1;
        let at = TimeMs(START_MS + DAYS * DAY_MS / records.max(1) * leaf);
        let body = match self.open.take() {
            Some(intent) => Body::Outcome(outcome(intent)),
            None => self.call(leaf)?,
        };
        Ok(Record { version: RECORD_VERSION, seq: Seq(leaf), at, body })
    }

    fn call(&mut self, leaf: u64) -> Result<Body> {
        let call = self.calls;
        self.calls += 1;
        let mut attempt = attempt(call, leaf)?;
        // Spread over agents and tools alike, and the same in every run of the benchmark.
        if !scattered(call).is_multiple_of(DENIED) {
            self.open = Some(leaf);
            return Ok(Body::Intent(Box::new(attempt)));
        }
        self.denied += 1;
        attempt.verdict = Verdict::Deny;
        attempt.reasons = vec![Reason::by_policies(ReasonCode::PolicyForbid, ["no-drops".to_owned()])];
        Ok(Body::Denial(Box::new(attempt)))
    }
}

/// A number that looks as if drawn, the same for the same `number` (SplitMix64).
fn scattered(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn outcome(intent: u64) -> Outcome {
    Outcome {
        action: Seq(intent),
        intent: LeafIndex(intent),
        status: if scattered(intent).is_multiple_of(50) { Status::Failed } else { Status::Done },
        result: Some(Commitment::to(&Salt([3; 32]), &intent.to_be_bytes())),
        rows: Some(Rows(scattered(intent) % 100)),
        bytes_sent: Bytes(300),
        duration_ms: scattered(intent) % 400,
        note: None,
        charged: 1,
        cost_microusd: None,
        undo: None,
    }
}

fn name<T: std::str::FromStr<Err = IdError>>(text: &str) -> Result<T> {
    Ok(text.parse()?)
}

fn attempt(call: u64, leaf: u64) -> Result<Attempt> {
    let run = call / CALLS_OF_A_RUN;
    let hash = |part: u8| Commitment::to(&Salt([part; 32]), &leaf.to_be_bytes());
    Ok(Attempt {
        reserved_at: Seq(leaf),
        proposed_at: TimeMs(START_MS),
        principal: Principal {
            tenant: name("acme")?,
            agent: name(&format!("agent-{}", run % AGENTS))?,
            session: name(&format!("session-{}", run / 10))?,
            run: name(&format!("run-{run}"))?,
            depth: 0,
        },
        point: Point::Mcp,
        upstream: name("crm")?,
        tool: name(&format!("tool-{}", scattered(call ^ 0x55) % TOOLS))?,
        manifest: Digest([5; 32]),
        target: name("crm-db")?,
        environment: name("production")?,
        digest: hash(1),
        arguments: hash(2),
        facts: Facts {
            sql: Some(SqlFacts {
                dialect: "sqlite".to_owned(),
                statements: 1,
                kinds: vec!["select".to_owned()],
                tables: vec![format!("table-{}", scattered(call ^ 0xaa) % 40)],
                functions: Vec::new(),
                has_where: true,
                rows_spelled: 0,
            }),
            ..Facts::declared(Effect::Read)
        },
        inputs: Inputs {
            policy: Digest([6; 32]),
            budgets: vec![BudgetReading { name: format!("calls of run run-{run}"), cap: 100, spent: 3, reserved: 1 }],
            frozen_until: None,
            kill_epoch: 0,
            killed: false,
            leases: Vec::new(),
            granted: false,
            token_expires: TimeMs(u64::MAX),
            evaluation: Some(Evaluation {
                ceiling: true,
                auto: true,
                determining: Bounded::new(["agents-read".to_owned()]),
                gates: Vec::new(),
                obligations: Vec::new(),
                obliging: Bounded::default(),
                errors: Bounded::default(),
                timed_out: false,
            }),
            standing: Standing { known: true, ..Standing::default() },
            history: None,
        },
        verdict: Verdict::Allow,
        reasons: vec![Reason::by_policies(ReasonCode::PolicyPermit, ["agents-read".to_owned()])],
        ticket: None,
        claimed: Claimed::default(),
        redactions: Bounded::default(),
        continues: None,
    })
}
