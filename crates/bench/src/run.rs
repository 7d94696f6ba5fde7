//! One run: the parts are started, then round after round all are driven, in an order that rotates.
//!
//! It decides when and in which order, nothing else; what a figure means is `figures`'.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde::Serialize;

use crate::Plan;
use crate::driver::{Load, drive};
use crate::figures::{ARMS, Arm, Figures, Level, Round};
use crate::install::{Installation, Records, Rules};
use crate::machine::{self, Machine};
use crate::service::Service;
use crate::standing::{self, Standing};

const WARM_UP: Duration = Duration::from_millis(300);
/// Lets the idle sync of the gateway's last window pass before the disk is probed.
const SETTLE: Duration = Duration::from_millis(250);
/// The run before the first round, that shows how large records are.
const SOUNDING: Duration = Duration::from_millis(200);
/// Where a ledger lies that is never on a disk.
const MEMORY: &str = "/dev/shm";

/// What a run gave.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Measured {
    /// Where.
    pub(crate) machine: Machine,
    /// The load average before and after.
    pub(crate) load: [f64; 2],
    /// The size of records.
    pub(crate) records: Records,
    /// The most memory that the gateway held, in KiB.
    pub(crate) gateway_peak_kib: u64,
    /// What it holds and how long it takes to be up, before anything is asked of it.
    pub(crate) standing: Standing,
    /// One for each number of connections.
    pub(crate) levels: Vec<Level>,
}

/// One that is compared.
struct Running<'a> {
    arm: Arm,
    /// Where it listens, and whose processor time counts.
    metered: &'a Service,
    /// Whose tokens open it, and whose log its receipts are of; none where there is neither.
    installation: Option<&'a Installation>,
}

/// The programs.
struct Programs {
    ours: PathBuf,
    gateway: PathBuf,
}

/// Measures what `plan` says.
///
/// # Errors
/// A wrong answer, a record that is missing, or a part that failed.
pub(crate) async fn run(plan: &Plan) -> Result<Measured> {
    let programs = Programs::find(plan)?;
    let parent = plan.dir.clone().unwrap_or_else(|| programs.folder());
    std::fs::create_dir_all(&parent)?;
    let [folder, memory] = [&*parent, Path::new(MEMORY)].map(folder_in);
    let (folder, memory) = (folder?, memory?);
    let (machine, load) = (Machine::look(&parent), machine::load());
    let upstream = programs.part("the upstream", &["upstream".into()]).await?;
    let sessions = plan.connections.iter().copied().max().context("no number of connections")?;
    let (address, sessions) = (upstream.address, usize::try_from(sessions)?);
    let make = |root: PathBuf, rules| blocking(move || Installation::make(&root, address, sessions, rules));
    let plain = make(folder.path().join("installation"), Rules::default()).await?;
    let ruled = make(folder.path().join("with-rules"), Rules(usize::try_from(plan.rules)?)).await?;
    let in_memory = make(memory.path().join("installation"), Rules::default()).await?;
    let (plain, records, mut answered) = sounded(&programs, plain).await?;
    let standing = standing::measure(|| programs.gateway(&plain), &plain.tokens).await?;
    let gateway = programs.gateway(&plain).await?;
    let gateway_ruled = programs.gateway(&ruled).await?;
    let gateway_in_memory = programs.gateway(&in_memory).await?;
    let pass = programs.part("the pass-through", &["pass".into(), address.to_string()]).await?;
    let pass_sync = programs.pass_sync(address, &folder.path().join("journal"), records).await?;
    let running = [
        Running { arm: Arm::Direct, metered: &upstream, installation: None },
        Running { arm: Arm::Pass, metered: &pass, installation: None },
        Running { arm: Arm::PassSync, metered: &pass_sync, installation: None },
        Running { arm: Arm::Countersign, metered: &gateway, installation: Some(&plain) },
        Running { arm: Arm::Rules, metered: &gateway_ruled, installation: Some(&ruled) },
        Running { arm: Arm::InMemory, metered: &gateway_in_memory, installation: Some(&in_memory) },
    ];
    let (levels, more) = rounds(plan, &running, &plain).await?;
    answered += more;
    let gateway_peak_kib = gateway.peak_kib()?;
    for service in [gateway, gateway_ruled, gateway_in_memory, pass_sync, pass, upstream] {
        service.stop().await?;
    }
    let held = blocking(move || plain.records()).await?.calls;
    if held < answered {
        bail!("{answered} calls were answered, but the ledger holds {held}");
    }
    Ok(Measured { machine, load: [load, machine::load()], records, gateway_peak_kib, standing, levels })
}

fn folder_in(parent: &Path) -> Result<tempfile::TempDir> {
    let made = tempfile::Builder::new().prefix("countersign-bench-").tempdir_in(parent);
    made.with_context(|| format!("no folder can be made in `{}`", parent.display()))
}

/// A few calls through a gateway that is stopped again: how large are their records?
async fn sounded(programs: &Programs, installation: Installation) -> Result<(Installation, Records, u64)> {
    let gateway = programs.gateway(&installation).await?;
    let load = Load {
        address: gateway.address,
        tokens: installation.tokens.get(..1).unwrap_or_default(),
        warm_up: Duration::ZERO,
        window: SOUNDING,
        log: Some(&installation.log),
    };
    let answered = drive(&load, || gateway.cpu_us()).await.context("through the gateway")?.answered;
    gateway.stop().await?;
    blocking(move || {
        let records = installation.records()?;
        Ok((installation, records, answered))
    })
    .await
}

/// All rounds at all levels, and how many calls the gateway answered in them.
async fn rounds(plan: &Plan, running: &[Running<'_>; ARMS], installation: &Installation) -> Result<(Vec<Level>, u64)> {
    let mut levels: Vec<Level> =
        plan.connections.iter().map(|connections| Level { connections: *connections, rounds: Vec::new() }).collect();
    let mut answered = 0;
    for number in 0..usize::try_from(plan.rounds)? {
        for level in &mut levels {
            tokio::time::sleep(SETTLE).await;
            let probe_ms = machine::probe_ms(&installation.ledger())?;
            let mut measured = Vec::new();
            for one in running.iter().cycle().skip(number % running.len()).take(running.len()) {
                let connections = usize::try_from(level.connections)?;
                let load = Load {
                    address: one.metered.address,
                    tokens: one.installation.unwrap_or(installation).tokens.get(..connections).unwrap_or_default(),
                    warm_up: WARM_UP,
                    window: Duration::from_secs_f64(plan.seconds),
                    log: one.installation.map(|installation| &installation.log),
                };
                let driven = drive(&load, || one.metered.cpu_us()).await;
                let sample = driven.with_context(|| format!("{}, {connections} connections", one.arm.title()))?;
                if one.arm == Arm::Countersign {
                    answered += sample.answered;
                }
                measured.push((one.arm, Figures::of(&sample)));
            }
            measured.sort_by_key(|(arm, _)| *arm);
            let arms: Vec<Figures> = measured.into_iter().map(|(_, figures)| figures).collect();
            let arms = arms.try_into().map_err(|_| anyhow::anyhow!("a round without all of them"))?;
            level.rounds.push(Round { probe_ms, arms });
            eprint!("\rround {} of {}, {} connections   ", number + 1, plan.rounds, level.connections);
        }
    }
    eprintln!();
    Ok((levels, answered))
}

impl Programs {
    fn find(plan: &Plan) -> Result<Self> {
        let ours = std::env::current_exe()?;
        let gateway = plan.gateway.clone().unwrap_or_else(|| ours.with_file_name("countersign"));
        if !gateway.is_file() {
            bail!("`{}` is missing: build it with `cargo build --profile dist -p countersign-app`", gateway.display());
        }
        Ok(Self { ours, gateway })
    }

    /// Where the build lies.
    fn folder(&self) -> PathBuf {
        self.ours.parent().unwrap_or(Path::new(".")).to_owned()
    }

    async fn part(&self, name: &'static str, args: &[String]) -> Result<Service> {
        Service::start(name, &self.ours, args).await
    }

    async fn pass_sync(&self, upstream: SocketAddr, journal: &Path, records: Records) -> Result<Service> {
        let sizes = [records.intent_leaf + records.intent_payload, records.outcome_leaf + records.outcome_payload];
        let [intent, outcome] = sizes.map(|bytes| bytes.to_string());
        let args = ["pass-sync".into(), upstream.to_string(), journal.to_string_lossy().into_owned(), intent, outcome];
        self.part("the pass-through that syncs", &args).await
    }

    async fn gateway(&self, installation: &Installation) -> Result<Service> {
        let config = installation.config();
        let args = ["--json".as_ref(), "up".as_ref(), "--config".as_ref(), config.as_os_str()];
        Service::start("the gateway", &self.gateway, &args).await
    }
}

/// Runs what blocks on a thread that may.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await?
}
