//! A child process that listens: started, waited for until it says where, metered, and ended.
//!
//! Its processor time is that of the whole process tree, threads that have ended included. It must not know what the
//! child does.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

const START: Duration = Duration::from_secs(60);
const STOP: Duration = Duration::from_secs(60);
/// Linux reports processor time to programs in hundredths of a second, whatever its own tick is (`times(2)`, USER_HZ).
const TICK_US: u64 = 10_000;

#[derive(Deserialize)]
struct Announced {
    url: String,
}

/// A running child; it is killed with this value.
pub(crate) struct Service {
    name: &'static str,
    child: Child,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// Kept open: a child that writes more must not fail.
    _out: Lines<BufReader<ChildStdout>>,
}

impl Service {
    /// Starts `program` and waits until it says in one line of JSON where it listens.
    pub(crate) async fn start<A: AsRef<OsStr>>(name: &'static str, program: &Path, args: &[A]) -> Result<Self> {
        let mut child = Command::new(program)
            .args(args)
            // Held open: a part of ours ends when this does.
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {name}, `{}`", program.display()))?;
        let mut out = BufReader::new(child.stdout.take().context("a child without output")?).lines();
        let line = tokio::time::timeout(START, out.next_line())
            .await
            .with_context(|| format!("{name} did not come up in time"))??
            .with_context(|| format!("{name} ended before it was up"))?;
        let said: Announced = serde_json::from_str(&line).with_context(|| format!("{name} said `{line}`"))?;
        let address = said.url.strip_prefix("http://").and_then(|rest| rest.strip_suffix("/mcp"));
        let address = address.with_context(|| format!("{name} listens on `{}`", said.url))?.parse()?;
        Ok(Self { name, child, address, _out: out })
    }

    /// Processor time so far of the child and all its descendants, in microseconds.
    pub(crate) fn cpu_us(&self) -> Result<u64> {
        Ok(tree_ticks(self.pid()?)? * TICK_US)
    }

    /// The most memory that the child has held, in KiB.
    pub(crate) fn peak_kib(&self) -> Result<u64> {
        self.status_kib("VmHWM:")
    }

    /// The memory that the child holds, in KiB.
    pub(crate) fn resident_kib(&self) -> Result<u64> {
        self.status_kib("VmRSS:")
    }

    fn status_kib(&self, name: &str) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()?))?;
        let line = status.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("no `{name}`"))?;
        Ok(line.trim().trim_end_matches("kB").trim_end().parse()?)
    }

    /// Ends it in an orderly way and waits.
    pub(crate) async fn stop(mut self) -> Result<()> {
        drop(self.child.stdin.take());
        let pid = i32::try_from(self.pid()?).ok().and_then(Pid::from_raw).context("no process id")?;
        // A part of ours may have ended by itself already.
        let _ = kill_process(pid, Signal::TERM);
        let status = tokio::time::timeout(STOP, self.child.wait())
            .await
            .with_context(|| format!("{} did not stop in time", self.name))??;
        // The parts that hold nothing may die of the signal; the gateway catches it.
        if !status.success() && status.code().is_some() {
            bail!("{} ended with {status}", self.name);
        }
        Ok(())
    }

    fn pid(&self) -> Result<u32> {
        self.child.id().with_context(|| format!("{} has ended", self.name))
    }
}

/// User and system time of a process, of its ended children, and of its living ones (`proc(5)`).
fn tree_ticks(pid: u32) -> Result<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, after_name) = stat.rsplit_once(')').context("an unknown form of `stat`")?;
    // utime, stime, cutime and cstime are fields 14 to 17; the state, field 3, is the first here.
    let own: Vec<u64> = after_name.split_whitespace().skip(11).take(4).map(str::parse).collect::<Result<_, _>>()?;
    let mut ticks = own.iter().sum();
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread may end between the listing and the reading.
        let children = std::fs::read_to_string(task?.path().join("children")).unwrap_or_default();
        for child in children.split_whitespace() {
            ticks += tree_ticks(child.parse()?).unwrap_or(0);
        }
    }
    Ok(ticks)
}
