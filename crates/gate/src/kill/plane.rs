//! The kill plane: a Unix socket and a thread of its own, beside everything else.
//!
//! One line in, one line of JSON out: `kill all`, `kill agent NAME`, `kill run ID`, `status`.
//! No signature is asked for: stopping must be easy, and the socket's mode (0600) keeps other
//! users out. It needs neither the async runtime nor the ledger; recording a kill is asked for
//! after the effects have stopped, and the answer says whether it was recorded in time.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use countersign_model::record::KillScope;

use super::file::parse_scope;
use super::{KillAck, KillSwitch};

const LINE_BYTES_MAX: u64 = 512;
const TIMEOUT: Duration = Duration::from_secs(5);
const CONNECTIONS_MAX: usize = 16;

/// Told of every acknowledged kill; answers whether it is on record. Must return within its own bound.
pub type Recorder = Arc<dyn Fn(&KillAck) -> bool + Send + Sync>;

/// Listens on `path` with a thread of its own until the process ends.
///
/// # Errors
/// Where the socket cannot be made.
pub fn listen(path: &Path, switch: Arc<KillSwitch>, record: Recorder) -> std::io::Result<()> {
    let _ = std::fs::remove_file(path);
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    let open = Arc::new(AtomicUsize::new(0));
    thread::Builder::new().name("kill-plane".to_owned()).spawn(move || {
        for stream in listener.incoming().flatten() {
            if open.fetch_add(1, Ordering::SeqCst) >= CONNECTIONS_MAX {
                open.fetch_sub(1, Ordering::SeqCst);
                continue;
            }
            let (switch, record, open) = (switch.clone(), record.clone(), open.clone());
            let served = thread::Builder::new().spawn(move || {
                let _ = serve(&stream, &switch, &record);
                open.fetch_sub(1, Ordering::SeqCst);
            });
            drop(served);
        }
    })?;
    Ok(())
}

fn serve(stream: &UnixStream, switch: &KillSwitch, record: &Recorder) -> std::io::Result<()> {
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let mut line = String::new();
    BufReader::new(stream.take(LINE_BYTES_MAX)).read_line(&mut line)?;
    let answer = answer(line.trim_end(), switch, record);
    let mut stream = stream;
    writeln!(stream, "{answer}")
}

fn answer(line: &str, switch: &KillSwitch, record: &Recorder) -> serde_json::Value {
    if line == "status" {
        let state = switch.state();
        let scopes: Vec<String> = state.scopes.iter().map(scope_words).collect();
        return serde_json::json!({"epoch": state.epoch, "killed": scopes, "in_flight": switch.in_flight()});
    }
    let Some(scope) = line.strip_prefix("kill ").and_then(parse_scope) else {
        return serde_json::json!({
            "error": format!("`{}` is no order; say `kill all`, `kill agent NAME`, `kill run ID` or `status`", line.escape_debug())
        });
    };
    let ack = switch.kill(&scope);
    let recorded = record(&ack);
    ack_json(&ack, recorded)
}

/// The acknowledgement as the command line and the admin plane show it.
#[must_use]
pub fn ack_json(ack: &KillAck, recorded: bool) -> serde_json::Value {
    serde_json::json!({
        "killed": scope_words(&ack.scope),
        "epoch": ack.epoch,
        "cancelled": ack.cancelled,
        "cut": ack.cut,
        "took_ms": ack.took_ms,
        "saved": ack.unsaved.is_none(),
        "unsaved_because": ack.unsaved,
        "recorded": recorded,
    })
}

/// `all`, `agent NAME` or `run ID`.
#[must_use]
pub fn scope_words(scope: &KillScope) -> String {
    match scope {
        KillScope::All => "all".to_owned(),
        KillScope::Agent(agent) => format!("agent {agent}"),
        KillScope::Run(run) => format!("run {run}"),
    }
}
