//! `stdio`: what an MCP client spawns in place of a server. Its standard output belongs to the protocol alone.
//!
//! It opens no key, no configuration and no ledger: a token file and the way to the gateway are all that it has.

use std::io::{Read as _, Write as _};

use anyhow::{Context as _, Result};
use countersign_points::mcp::bridge::{Bridge, Place};
use countersign_points::mcp::config::Url;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::cli::Stdio;
use crate::context::Context;
use crate::layout::Layout;
use crate::terminal::{BAD, Exit, exit_of, usage, visible_lines};
use crate::token_file;

/// What may lie between a standard stream and the bridge.
const PIPE_BYTES: usize = 64 * 1024;

/// Runs the command. What goes wrong is said on standard error, `--json` or not: the client reads the other one.
pub(crate) fn run(stdio: &Stdio, context: &Context) -> Exit {
    crate::logging::start();
    match carry(stdio, &context.layout) {
        Ok(()) => Exit::Done,
        Err(error) => {
            anstream::eprintln!("{BAD}error:{BAD:#} {}", visible_lines(&format!("{error:#}")));
            exit_of(&error)
        }
    }
}

fn carry(stdio: &Stdio, layout: &Layout) -> Result<()> {
    let token = token_file::read(&stdio.token_file)?;
    let bridge = Bridge::new(place(stdio, layout)?, &token).map_err(|error| usage(error.to_string()))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let ended = runtime.block_on(async {
        let stop = CancellationToken::new();
        let on_signal = stop.clone();
        tokio::spawn(async move {
            super::up::ended_by_signal().await;
            on_signal.cancel();
        });
        let (input, (output, written)) = (standard_input(), standard_output());
        let ended = bridge.run(input, output, stop.clone()).await;
        // What was handed over is written before the process ends, but not for a client that was told to go.
        tokio::select! {
            _ = written => {}
            () = stop.cancelled() => {}
        }
        ended
    });
    runtime.shutdown_background();
    Ok(ended?)
}

/// Standard input, read by a thread of its own: a read that nobody answers keeps no process that is told to end.
fn standard_input() -> DuplexStream {
    let (mut to, from) = tokio::io::duplex(PIPE_BYTES);
    let runtime = Handle::current();
    std::thread::spawn(move || {
        let mut chunk = vec![0; PIPE_BYTES];
        while let Ok(count) = std::io::stdin().read(&mut chunk) {
            let read = chunk.get(..count).unwrap_or_default();
            if count == 0 || runtime.block_on(to.write_all(read)).is_err() {
                return;
            }
        }
    });
    from
}

/// Standard output, and when all of it is written.
fn standard_output() -> (DuplexStream, oneshot::Receiver<()>) {
    let (to, mut from) = tokio::io::duplex(PIPE_BYTES);
    let (done, written) = oneshot::channel();
    let runtime = Handle::current();
    std::thread::spawn(move || {
        let mut chunk = vec![0; PIPE_BYTES];
        while let Ok(count) = runtime.block_on(from.read(&mut chunk)) {
            let mut out = std::io::stdout().lock();
            let all = out.write_all(chunk.get(..count).unwrap_or_default()).and_then(|()| out.flush());
            if count == 0 || all.is_err() {
                break;
            }
        }
        // Nobody may wait any more.
        let _ = done.send(());
    });
    (to, written)
}

/// Where the gateway is.
fn place(stdio: &Stdio, layout: &Layout) -> Result<Place> {
    let below = match &stdio.upstream {
        Some(name) => format!("/{}", segment(name)?),
        None => String::new(),
    };
    if let Some(path) = &stdio.socket {
        return Ok(Place::Socket { path: path.clone(), endpoint: format!("/mcp{below}") });
    }
    let url = match &stdio.url {
        Some(url) => url.clone(),
        None => std::fs::read_to_string(layout.address()).with_context(|| {
            format!(
                "no gateway of `{}` is up; start it with `countersign up`, or say where it is with `--url`",
                layout.root().display()
            )
        })?,
    };
    let url = format!("{}{below}", url.trim().trim_end_matches('/'));
    Ok(Place::Url(Url::new(&url).map_err(|error| usage(error.to_string()))?))
}

/// The name of an upstream as a part of a path.
fn segment(name: &str) -> Result<&str> {
    let is_plain = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    if !is_plain || name.starts_with('.') {
        return Err(usage(format!("`--upstream {}` is no upstream's id", name.escape_debug())));
    }
    Ok(name)
}
