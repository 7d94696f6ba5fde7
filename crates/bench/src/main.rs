//! The benchmark: the gateway beside its baselines, interleaved in one run, every answer checked; the ledger alone
//! beside a plain file (`ledger`); and policy beside itself without an index (`policy`).
//!
//! One binary plays every part but the gateway's own, which is the real `countersign` as a child process: the driver,
//! the echo upstream, and the two pass-throughs that the gateway is compared with. It holds no bar: it exits with 1
//! only where an answer was wrong or the ledger does not hold what was answered.

mod driver;
mod figures;
mod index;
mod install;
mod journal;
mod ledger;
mod machine;
mod pass;
mod policy;
mod policy_windows;
mod report;
mod run;
mod serve;
mod service;
mod standing;
mod startup;
mod upstream;
mod wire;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

/// The gateway's speed beside its baselines.
#[derive(Debug, Parser)]
#[command(name = "countersign-bench", args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(flatten)]
    plan: Plan,
    #[command(subcommand)]
    role: Option<Role>,
}

/// What is measured.
#[derive(Clone, Debug, Args)]
pub(crate) struct Plan {
    /// Rounds at each number of connections.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rounds: u32,
    /// How long each of the six is measured in a round, in seconds.
    #[arg(long, default_value_t = 1.0, value_parser = seconds)]
    seconds: f64,
    /// How many connections call at once.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 16, 128], value_parser = clap::value_parser!(u32).range(1..=512))]
    connections: Vec<u32>,
    /// How many rules about arguments the gateway with rules has.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rules: u32,
    /// Print one JSON object instead of the table.
    #[arg(long)]
    json: bool,
    /// The `countersign` to measure; by default the one beside this program.
    #[arg(long, value_name = "FILE")]
    gateway: Option<PathBuf>,
    /// Where the ledger lies while it is measured; by default beside the build. Its disk is what is measured.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// What else there is to measure, and the parts that child processes play.
#[derive(Debug, Subcommand)]
enum Role {
    /// The gateway beside its baselines: what is measured where nothing else is named.
    Mcp(Plan),
    /// The index: made from a log of many records, and asked.
    Index(index::IndexPlan),
    /// The ledger alone, beside a plain file.
    Ledger(ledger::LedgerPlan),
    /// Counts in windows: what reading one costs with few events and with many.
    Windows(policy_windows::WindowsPlan),
    /// Policy: decisions, loading and listings.
    Policy(policy::PolicyPlan),
    /// Measure how long a start-up takes on a long log, whole and from a snapshot.
    Startup(startup::Startup),
    /// Open the gate of an installation once and say how long it took.
    #[command(hide = true)]
    Open {
        /// Its folder.
        root: PathBuf,
    },
    /// The echo server.
    #[command(hide = true)]
    Upstream,
    /// The bare pass-through.
    #[command(hide = true)]
    Pass {
        /// Where the upstream listens.
        upstream: SocketAddr,
    },
    /// The pass-through that parses, and syncs two records a call.
    #[command(hide = true)]
    PassSync {
        /// Where the upstream listens.
        upstream: SocketAddr,
        /// The journal to make.
        journal: PathBuf,
        /// Bytes of the record before a call.
        intent: usize,
        /// Bytes of the record after it.
        outcome: usize,
    },
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.05..=600.0).contains(&seconds) => Ok(seconds),
        _ => Err("must be a number between 0.05 and 600".to_owned()),
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match play(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("countersign-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn play(cli: Cli) -> Result<()> {
    match &cli.role {
        Some(Role::Index(plan)) => return index::run(plan),
        Some(Role::Ledger(plan)) => return ledger::run(plan),
        Some(Role::Windows(plan)) => return policy_windows::run(*plan),
        Some(Role::Policy(plan)) => return policy::run(plan),
        Some(Role::Startup(asked)) => return startup::run(asked.records, asked.dir.as_deref()),
        Some(Role::Open { root }) => return startup::open(root),
        _ => {}
    }
    // Every part is one thread, as the baselines of the reference are; the gateway has its own runtime.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match cli.role {
            Some(Role::Upstream) => upstream::serve().await,
            Some(Role::Pass { upstream }) => pass::serve(upstream, None).await,
            Some(Role::PassSync { upstream, journal, intent, outcome }) => {
                let records = pass::Records { journal: journal::Journal::create(&journal)?, intent, outcome };
                pass::serve(upstream, Some(records)).await
            }
            Some(
                Role::Index(_)
                | Role::Ledger(_)
                | Role::Policy(_)
                | Role::Startup(_)
                | Role::Windows(_)
                | Role::Open { .. },
            ) => anyhow::bail!("this is measured without a runtime of its own"),
            Some(Role::Mcp(plan)) => beside_baselines(&plan).await,
            None => beside_baselines(&cli.plan).await,
        }
    })
}

async fn beside_baselines(plan: &Plan) -> Result<()> {
    let measured = run::run(plan).await?;
    report::print(plan, &measured)
}
