//! `up`: the gateway. Gate, kill plane, admin plane, the agents' door, and the tick.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use countersign_console::Console;
use countersign_gate::Gate;
use countersign_gate::kill::{KillAck, plane};
use countersign_index::Options;
use countersign_kernel::policy::Bundle;
use countersign_ledger::Recovered;
use countersign_points::mcp::config::{FrontConfig, UpstreamConfig, UpstreamLimits, Url};
use countersign_points::mcp::guard::{Ear, Guard, UpstreamState};
use countersign_points::mcp::{LinkError, Server, Upstream, UpstreamError};
use serde_json::json;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::policy;
use crate::compose::{self, InForce};
use crate::config::{self, Config, Transport};
use crate::context::Context;
use crate::feed::Feed;
use crate::guards::{self, States};
use crate::layout::Layout;
use crate::terminal::{Exit, GOOD, Output, WAIT};

/// How long the answer to a kill waits for its record: the kill itself holds already.
const RECORD_WAIT: Duration = Duration::from_millis(500);

/// Runs the command: until a signal.
pub(crate) async fn run(context: &Context) -> Result<Exit> {
    let stop = CancellationToken::new();
    let on_signal = stop.clone();
    tokio::spawn(async move {
        ended_by_signal().await;
        on_signal.cancel();
    });
    serve(&context.layout, context.out, stop).await?;
    Ok(Exit::Done)
}

pub(super) async fn ended_by_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        },
        Err(_) => {
            let _ = tokio::signal::ctrl_c().await;
        }
    }
}

/// Serves an installation until `stop`.
pub(crate) async fn serve(layout: &Layout, out: Output, stop: CancellationToken) -> Result<()> {
    crate::logging::start();
    layout.check_sockets()?;
    let (config, bundle) = policy::load_to_serve(layout)?;
    let now = InForce { configuration: config.hash, policy: bundle.hash() };
    let warnings = policy::warnings(&config, &bundle);
    let (config, gate, recovered) = opened(config, bundle, layout.clone()).await?;
    if let Some(cut) = &recovered.cut {
        anstream::eprintln!(
            "{WAIT}recovered{WAIT:#}: {} unconfirmed bytes were cut from the end of the log",
            cut.bytes
        );
    }
    let feed = Feed::start(layout, Options { full_text: config.full_text })?;
    let loaded = Loaded { config: &config, now, warnings };
    let served = serve_gate(&gate, layout, &loaded, out, stop).await;
    tokio::task::spawn_blocking(move || feed.stop()).await?;
    let closing = gate.clone();
    let closed = tokio::task::spawn_blocking(move || closing.close()).await?;
    served.and(closed.map_err(Into::into))
}

/// Opens the gate on a thread that may block: recovery reads the whole log.
async fn opened(config: Config, bundle: Bundle, layout: Layout) -> Result<(Config, Gate, Recovered)> {
    tokio::task::spawn_blocking(move || {
        let (gate, recovered) = compose::open(&config, bundle, &layout)?;
        Ok((config, gate, recovered))
    })
    .await?
}

/// What is served.
struct Loaded<'a> {
    config: &'a Config,
    now: InForce,
    /// What whoever starts it should know.
    warnings: Vec<String>,
}

async fn serve_gate(
    gate: &Gate,
    layout: &Layout,
    loaded: &Loaded<'_>,
    out: Output,
    stop: CancellationToken,
) -> Result<()> {
    let config = loaded.config;
    policy::enforce(gate, layout, loaded.now).await?;
    plane::listen(&layout.kill_socket(), gate.switch().clone(), recorder(gate))
        .with_context(|| format!("cannot make the kill plane `{}`", layout.kill_socket().display()))?;
    // A kill that came before the plane listened found no socket and wrote the file.
    gate.adopt_kills().await?;
    let console = Console::bind(&layout.admin_socket(), gate.clone())
        .with_context(|| format!("cannot make the admin plane `{}`", layout.admin_socket().display()))?;
    let (upstreams, down) = connected(config, gate, layout).await?;
    let warnings = [loaded.warnings.as_slice(), &down].concat();
    let server = Server::new(front(config)?, gate.clone(), upstreams.clone());
    let doors = server
        .bind()
        .await
        .with_context(|| format!("cannot listen on {}; is another gateway running there?", places(config)))?;
    let address = doors.local_addr()?;
    announce(layout, out, &address.to_string(), (gate, &warnings))?;
    let tick = tokio::spawn(ticking(gate.clone()));
    tokio::select! {
        () = server.serve(doors, stop) => {}
        ended = console.serve() => ended.context("the admin plane ended")?,
    }
    tick.abort();
    close(upstreams).await;
    for left in [layout.admin_socket(), layout.kill_socket(), layout.address(), layout.upstreams()] {
        let _ = std::fs::remove_file(left);
    }
    Ok(())
}

/// Opens every upstream, all at once, and says which are down for now. One that is does not keep the others from serving;
/// where all are, something is wrong here.
async fn connected(config: &Config, gate: &Gate, layout: &Layout) -> Result<(Vec<Upstream>, Vec<String>)> {
    let states = States::follow(gate, layout);
    let mut opening = JoinSet::new();
    for (at, configured) in config.upstreams.iter().enumerate() {
        let upstream = upstream(config, configured, Some(states.ear(&configured.id)))?;
        opening.spawn(async move { (at, Upstream::connect_or_wait(upstream).await) });
    }
    let (mut upstreams, mut down, mut failed) = (Vec::new(), Vec::new(), None);
    for (at, opened) in opening.join_all().await {
        match (opened, config.upstreams.get(at)) {
            (Ok((upstream, why)), configured) => {
                upstreams.push(upstream);
                down.extend(why.zip(configured).map(|(error, configured)| not_reached(configured, &error)));
            }
            (Err(error), Some(configured)) => {
                if let LinkError::Refused(why) = &error.source {
                    guards::record(gate, &configured.id, &UpstreamState::Refused { why: why.clone() }).await;
                }
                failed = failed.or_else(|| Some(not_reached(configured, &error)));
            }
            (Err(error), None) => failed = Some(error.into()),
        }
    }
    if !down.is_empty() && down.len() == upstreams.len() {
        failed = failed.or_else(|| down.pop());
    }
    match failed {
        None => Ok((upstreams, down.iter().map(|error| format!("{error}; it is tried again")).collect())),
        Some(error) => {
            close(upstreams).await;
            Err(error)
        }
    }
}

/// Closes upstreams, all at once.
async fn close(upstreams: Vec<Upstream>) {
    let mut closing = JoinSet::new();
    for upstream in upstreams {
        closing.spawn(async move { upstream.close().await });
    }
    closing.join_all().await;
}

/// The door for agents.
fn front(config: &Config) -> Result<FrontConfig> {
    let front = FrontConfig::new(config.listen)
        .with_hosts(&config.hosts)?
        .with_origins(&config.origins)?
        .with_methods(&config.methods)
        .with_extensions(&config.extensions)
        .with_meta_allow(&config.meta)
        .with_approvals(config.approvals.clone());
    Ok(match &config.socket {
        Some(socket) => front.with_socket(socket.clone()),
        None => front,
    })
}

/// Where agents connect, for people.
fn places(config: &Config) -> String {
    match &config.socket {
        Some(socket) => format!("`{}` and `{}`", config.listen, socket.display()),
        None => format!("`{}`", config.listen),
    }
}

fn announce(layout: &Layout, out: Output, address: &str, (gate, warnings): (&Gate, &[String])) -> Result<()> {
    let url = format!("http://{address}/mcp");
    std::fs::write(layout.address(), &url).with_context(|| format!("cannot write `{}`", layout.address().display()))?;
    let status = gate.status();
    let profile = gate.profile();
    let promise = match profile.as_str() {
        compose::SEPARATED => "separated (the log's key is another user's: this user cannot sign another history)",
        _ => {
            "same user (an agent of this user cannot forge consent, but could tamper with files; keep receipts elsewhere)"
        }
    };
    let killed = if status.killed.is_empty() {
        String::new()
    } else {
        format!("\n{WAIT}killed{WAIT:#}: {} (lift it with `countersign resume`)", status.killed.join(", "))
    };
    let unknown = gate.unknown_at_start();
    let left_open = if unknown == 0 {
        String::new()
    } else {
        format!(
            "\n{WAIT}unknown{WAIT:#}: the outcome of {unknown} actions is not known; `countersign log unknown` lists them"
        )
    };
    out.result(
        &json!({
            "url": url,
            "log": gate.origin(),
            "size": status.size,
            "unknown": unknown,
            "killed": status.killed,
            "profile": profile,
            "warnings": warnings,
        }),
        &format!(
            "{GOOD}up{GOOD:#} at {url}, log {} with {} records\n\
             profile: {promise}{killed}{left_open}{}",
            gate.origin(),
            status.size,
            policy::warning_lines(warnings)
        ),
    );
    Ok(())
}

/// How an upstream is reached.
pub(super) fn upstream(config: &Config, upstream: &config::Upstream, ear: Option<Ear>) -> Result<UpstreamConfig> {
    let id = upstream.id.clone();
    let limits =
        UpstreamLimits { call_timeout: Duration::from_millis(config.call_timeout_ms), ..UpstreamLimits::default() };
    let made = match &upstream.reach.transport {
        Transport::Stdio { command, env } => {
            let (program, arguments) = command.split_first().context("an empty `command`")?;
            let env = env.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
            let folder = std::path::absolute(&config.folder)?;
            // What is compared with a pin is what is started: the file, not a name to be looked up once more.
            let program = in_folder(program, &folder);
            let program = if upstream.guards.program.is_some() { guards::found(program) } else { program };
            let guard = guards::guard(upstream, &program, ear);
            UpstreamConfig::stdio(id, program, arguments.to_vec(), env, Some(folder))?.with_guard(guard)
        }
        Transport::Http { url } => {
            let guard = Guard { ear, ..Guard::default() };
            UpstreamConfig::http(id, Url::new(url)?, upstream.credential.clone()).with_guard(guard)
        }
        Transport::Sse { url } => {
            let guard = Guard { ear, ..Guard::default() };
            UpstreamConfig::sse(id, Url::new(url)?, upstream.credential.clone()).with_guard(guard)
        }
    };
    Ok(made.with_era(upstream.reach.era).with_questions(&upstream.reach.questions).with_limits(limits))
}

/// What the operator has to look at.
pub(super) fn not_reached(upstream: &config::Upstream, error: &UpstreamError) -> anyhow::Error {
    let way = match &upstream.reach.transport {
        Transport::Stdio { command, .. } => format!("its `command: {}`", command.join(" ")),
        Transport::Http { url } | Transport::Sse { url } => format!("its `url: {url}`"),
    };
    anyhow::anyhow!("{error}; check {way} under `upstreams`")
}

/// `./server` means beside the configuration; a bare name is looked up in `PATH`.
fn in_folder(program: &str, folder: &Path) -> std::path::PathBuf {
    if program.contains('/') { folder.join(program) } else { program.into() }
}

/// Tells the gate of every kill and waits a bounded time for the record.
fn recorder(gate: &Gate) -> plane::Recorder {
    let gate = gate.clone();
    let runtime = tokio::runtime::Handle::current();
    Arc::new(move |ack: &KillAck| {
        let (tell, told) = std::sync::mpsc::channel();
        let (gate, ack) = (gate.clone(), ack.clone());
        runtime.spawn(async move {
            let _ = tell.send(gate.record_kill(&ack).await);
        });
        told.recv_timeout(RECORD_WAIT).unwrap_or(false)
    })
}

async fn ticking(gate: Gate) {
    let mut every = tokio::time::interval(Duration::from_secs(1));
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        gate.tick().await;
    }
}
