//! Processes that serve: each says where in one line of JSON, and ends when its standard input does.
//!
//! So none of them outlives who started it, and nothing has to be ended by hand. It must not know what they serve.

use anyhow::{Context, Result};
use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// How long one may take to end and free its port once nobody holds it any more.
const ENDING: Duration = Duration::from_secs(5);

/// One of them, for as long as it is held.
pub(super) struct Served {
    _child: Child,
    /// Where it serves, such as `http://127.0.0.1:4711/mcp`.
    pub(super) url: String,
}

/// The fixture's server, at a port that the gateway's configuration names.
pub(super) fn server(fixture: &Path, port: u16) -> Result<Served> {
    await_free(port);
    start(Command::new(fixture).args(["server", "--listen", &format!("127.0.0.1:{port}")]))
}

/// A door to `to`, which is `HOST:PORT`; it adds the token in `token` if there is one.
pub(super) fn door(fixture: &Path, to: &str, listen: u16, token: Option<&Path>) -> Result<Served> {
    await_free(listen);
    let mut command = Command::new(fixture);
    command.args(["door", "--to", to, "--listen", &format!("127.0.0.1:{listen}")]);
    if let Some(token) = token {
        command.arg("--token-file").arg(token);
    }
    start(&mut command)
}

/// Waits for who had the port before. Whoever starts next says it where that one does not end.
fn await_free(port: u16) {
    let start = Instant::now();
    while std::net::TcpListener::bind(("127.0.0.1", port)).is_err() && start.elapsed() < ENDING {
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn start(command: &mut Command) -> Result<Served> {
    let shown = format!("{command:?}");
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut child = child.with_context(|| format!("cannot start {shown}"))?;
    let url = said_url(&mut child).with_context(|| format!("{shown} does not serve"))?;
    Ok(Served { _child: child, url })
}

/// What stands under `url` in the first line that a process prints.
pub(super) fn said_url(child: &mut Child) -> Result<String> {
    let mut line = String::new();
    BufReader::new(child.stdout.take().context("no standard output")?).read_line(&mut line)?;
    let said: serde_json::Value = serde_json::from_str(&line).with_context(|| format!("it said `{}`", line.trim()))?;
    let url = said.get("url").and_then(serde_json::Value::as_str);
    url.map(str::to_owned).with_context(|| format!("it said `{}`", line.trim()))
}

/// The host and port of an `http` URL, and its path.
pub(super) fn parts(url: &str) -> Result<(&str, &str)> {
    let rest = url.strip_prefix("http://").with_context(|| format!("`{url}` is not an http URL"))?;
    Ok(match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, ""),
    })
}

/// A port that nobody has now, and that nobody is given: those that the system hands out begin at 32,768, and one of them
/// could be somebody's by the time it is used.
pub(super) fn free_port() -> Result<u16> {
    let start = u16::try_from(std::process::id() % 10_000)?;
    let mut candidates = (0..u16::MAX).map(|step| 20_000 + start.wrapping_add(step) % 10_000).take(10_000);
    let free = candidates.find(|port| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok());
    free.context("no port from 20000 to 29999 is free")
}
