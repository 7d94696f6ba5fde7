//! How long a start-up takes: a log of so many records, opened whole and from a snapshot, each in a process of its own.
//!
//! The records are those of the real kernel, two a call; only policy's answer is given instead of asked for. They are
//! appended in large commits, so the log has fewer frames than one written call by call. Each opening is the gate's own, and
//! reports its time and its peak of memory. It does not measure how fast records are written.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use countersign_kernel::{Command as Asked, Event, Kernel, KillState, Salts};
use countersign_ledger::{Config, Entry, Ledger, Pending, Store};
use countersign_model::action::Point;
use countersign_model::encoding::Bounded;
use countersign_model::payload::Salt;
use countersign_model::record::{Evaluation, Status};
use countersign_model::unit::{Bytes, LeafIndex};
use countersign_model::{Action, Caller, Digest, Facts, Principal, Seq, TimeMs};
use serde::{Deserialize, Serialize};

use crate::install::{self, Installation, Rules};

/// How many records are in flight while the log is made.
const BATCH: usize = 8_192;
/// Arguments of one call, in bytes: with them a call's two records and payload come to about 1 KiB each.
const ARGUMENTS_BYTES: usize = 256;

/// What one opening took.
#[derive(Debug, Serialize, Deserialize)]
struct Opened {
    /// Records in the log.
    size: u64,
    /// The first record that was read.
    from: u64,
    /// Milliseconds until the gate was open.
    open_ms: u64,
    /// Milliseconds of the snapshot, where one was due, and of the orderly stop.
    close_ms: u64,
    /// Peak resident memory of opening, in MiB.
    peak_mib: u64,
}

/// Makes a log of `records` in `dir` and opens it twice. Blocks.
pub(crate) fn run(records: u64, dir: Option<&Path>) -> Result<()> {
    let base = dir.map_or_else(std::env::temp_dir, Path::to_path_buf);
    let folder = tempfile::tempdir_in(base)?;
    let root = folder.path().join("installation");
    Installation::make(&root, "127.0.0.1:9".parse()?, 1, Rules::default())?;
    let begun = Instant::now();
    let bytes = generate(&root, records)?;
    eprintln!("made {records} records, {} MiB, in {:.1} s", bytes >> 20, begun.elapsed().as_secs_f64());
    let mut opened = Vec::new();
    for what in ["whole log", "snapshot", "snapshot again"] {
        let one = open_in_child(&root)?;
        eprintln!(
            "{what}: records {}..{} read in {} ms, peak {} MiB; closed in {} ms",
            one.from, one.size, one.open_ms, one.peak_mib, one.close_ms
        );
        opened.push(one);
    }
    println!("{}", serde_json::json!({"records": records, "bytes": bytes, "opened": opened}));
    Ok(())
}

fn open_in_child(root: &Path) -> Result<Opened> {
    let output = Command::new(std::env::current_exe()?).arg("open").arg(root).output()?;
    if !output.status.success() {
        bail!("opening failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    serde_json::from_slice(&output.stdout).context("the child said something else")
}

/// The child: opens, reports, closes.
pub(crate) fn open(root: &Path) -> Result<()> {
    let begun = Instant::now();
    let (gate, from) = install::reopen(root)?;
    let open_ms = begun.elapsed().as_millis();
    let peak_mib = peak_kib()? >> 10;
    let size = gate.status().size;
    let closing = Instant::now();
    gate.snapshot_if_due();
    gate.close()?;
    let close_ms = closing.elapsed().as_millis();
    let milliseconds = |ms: u128| u64::try_from(ms).unwrap_or(u64::MAX);
    let opened = Opened { size, from, open_ms: milliseconds(open_ms), close_ms: milliseconds(close_ms), peak_mib };
    println!("{}", serde_json::to_string(&opened)?);
    Ok(())
}

fn peak_kib() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse()?)
}

/// Appends records of calls until the log has `records`. Gives the bytes of its segments.
fn generate(root: &Path, records: u64) -> Result<u64> {
    let store = Store::real(root.join("ledger"));
    let mut kernel = Kernel::new(install::settings(root)?);
    let (ledger, _) = Ledger::open(&store, Config::default(), &mut |stored| {
        let leaf = countersign_gate::leaf_of(None, stored)?;
        kernel.step(
            TimeMs(0),
            Event::Recovered { record: leaf.record, leaf: leaf.leaf, leaf_hash: leaf.leaf_hash, payload: leaf.payload },
        );
        Ok(())
    })?;
    let now = kernel.now();
    let caller = caller(now)?;
    let mut writing = Writing { ledger: &ledger, next: ledger.head().size, pending: Vec::new() };
    for command in kernel.step(now, Event::Started { kill: KillState::default() }) {
        writing.append(command)?;
    }
    let mut number = 0_u64;
    while writing.next < records.saturating_sub(1) {
        number += 1;
        call(&mut kernel, &mut writing, (&caller, number))?;
    }
    for command in kernel.step(now, Event::Stopped) {
        writing.append(command)?;
    }
    writing.wait()?;
    while !ledger.flush(Duration::from_secs(600))? {}
    ledger.close()?;
    let segments = std::fs::read_dir(store.dir().join("segments"))?;
    segments.map(|entry| Ok(entry?.metadata()?.len())).sum()
}

struct Writing<'a> {
    ledger: &'a Ledger,
    next: u64,
    pending: Vec<Pending>,
}

impl Writing<'_> {
    /// Appends what a command wants on record, if it does; gives its leaf and leaf hash.
    fn append(&mut self, command: Asked) -> Result<Option<(LeafIndex, Digest)>> {
        let Asked::Append { record, payload, .. } = command else { return Ok(None) };
        let leaf = record.to_leaf()?;
        let hash = countersign_gate::Gate::leaf_hash(&leaf);
        let payload = payload.map(|payload| payload.encode()).transpose()?;
        self.pending.push(self.ledger.append(Entry { leaf, payload }));
        let index = self.next;
        self.next += 1;
        if self.pending.len() >= BATCH {
            self.wait()?;
        }
        Ok(Some((LeafIndex(index), hash)))
    }

    fn wait(&mut self) -> Result<()> {
        for pending in self.pending.drain(..) {
            pending.wait()?;
        }
        Ok(())
    }
}

fn caller(now: TimeMs) -> Result<Caller> {
    let principal = Principal {
        tenant: "default".parse()?,
        agent: "bench".parse()?,
        session: "s-startup".parse()?,
        run: "r-startup".parse()?,
        depth: 0,
    };
    Ok(Caller { principal, expires: now.saturating_add_ms(24 * 3_600_000), narrowed: None })
}

fn call(kernel: &mut Kernel, writing: &mut Writing<'_>, (caller, number): (&Caller, u64)) -> Result<()> {
    let now = kernel.now().saturating_add_ms(u64::from(number.is_multiple_of(16)));
    let text = format!("{number:0>ARGUMENTS_BYTES$}");
    let action = Action {
        principal: caller.principal.clone(),
        point: Point::Mcp,
        upstream: "echo".parse()?,
        tool: "echo".parse()?,
        manifest: Digest([7; 32]),
        target: "echo".parse()?,
        environment: "production".parse()?,
        arguments: serde_json::to_vec(&serde_json::json!({ "text": text }))?,
        meta: Vec::new(),
        facts: Facts::declared(countersign_model::Effect::Read),
        claimed: Default::default(),
        redacted: None,
        continues: None,
        flagged: None,
    };
    let random = |what: &str| Digest::of(what, &[&number.to_be_bytes()]).0;
    let salts = Salts { digest: Salt(random("d")), arguments: Salt(random("a")), nonce: Digest(random("n")) };
    let event = Event::Proposed { caller: caller.clone(), action: Box::new(action), salts };
    let asked = kernel.step(now, event).pop();
    let Some(Asked::Evaluate { call, .. }) = asked else { bail!("the kernel decided without policy") };
    let decided = kernel.step(now, Event::Evaluated { call, evaluation: allowed() }).pop();
    let written = writing.append(decided.context("no decision")?)?;
    let (leaf, leaf_hash) = written.context("no record")?;
    kernel.step(now, Event::Appended { call, leaf, leaf_hash });
    for command in kernel.step(now, ended(call)) {
        writing.append(command)?;
    }
    Ok(())
}

fn allowed() -> Evaluation {
    Evaluation {
        ceiling: true,
        auto: true,
        determining: Bounded::new(["reads".to_owned()]),
        gates: Vec::new(),
        errors: Bounded::default(),
        obligations: Vec::new(),
        obliging: Default::default(),
        timed_out: false,
    }
}

fn ended(call: Seq) -> Event {
    Event::Ended {
        call,
        status: Status::Done,
        result: None,
        rows: None,
        bytes_sent: Bytes(ARGUMENTS_BYTES as u64),
        duration_ms: 3,
        note: None,
        cost_microusd: None,
        undo: None,
    }
}

/// Where a log is made, and how large.
#[derive(Debug, clap::Args)]
pub(crate) struct Startup {
    /// Records of the log.
    #[arg(long, default_value_t = 1_000_000)]
    pub(crate) records: u64,
    /// Where the log lies while it is measured: about 1 KiB a record is needed there.
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
}
