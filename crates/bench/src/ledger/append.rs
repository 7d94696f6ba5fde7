//! Writers that append, wait and append again, on whatever takes a record; and the ledger as one of those.

use std::cell::RefCell;
use std::future::Future;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use countersign_ledger::{Committed, Config, Entry, Ledger, Store};
use tokio::task::LocalSet;

use super::figures::Figures;

const WARM_UP: Duration = Duration::from_millis(200);

/// How records are appended.
pub(crate) struct Load {
    pub(crate) writers: u32,
    pub(crate) record_bytes: usize,
    /// How long it counts, after a warm-up.
    pub(crate) window: Duration,
}

/// Takes records and acknowledges them once they are durable.
pub(crate) trait Sink: 'static {
    type Acknowledged: 'static;

    fn append(&self, record: Vec<u8>) -> impl Future<Output = Result<Self::Acknowledged>>;
}

/// What the writers share, on their one thread.
struct Shared<A> {
    latencies_ns: Vec<u64>,
    last: Option<(Vec<u8>, A)>,
    counts: bool,
    stops: bool,
    next: u64,
}

/// Drives `sink`; gives the figures and one of the last acknowledgements with its record.
pub(crate) fn drive<S: Sink>(sink: S, load: &Load) -> Result<(Figures, Vec<u8>, S::Acknowledged)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let shared = Shared { latencies_ns: Vec::new(), last: None, counts: false, stops: false, next: 0 };
    let shared = Rc::new(RefCell::new(shared));
    let sink = Rc::new(sink);
    let tasks = LocalSet::new();
    let (window, cpu_us) = tasks.block_on(&runtime, async {
        let writers: Vec<_> = (0..load.writers)
            .map(|_| tokio::task::spawn_local(writer(Rc::clone(&sink), Rc::clone(&shared), load.record_bytes)))
            .collect();
        tokio::time::sleep(WARM_UP).await;
        let (begun, cpu) = (Instant::now(), cpu_us()?);
        shared.borrow_mut().counts = true;
        tokio::time::sleep(load.window).await;
        let measured = (begun.elapsed(), cpu_us()? - cpu);
        shared.borrow_mut().counts = false;
        shared.borrow_mut().stops = true;
        for writer in writers {
            writer.await??;
        }
        Ok::<_, anyhow::Error>(measured)
    })?;
    let mut shared = shared.borrow_mut();
    let (record, acknowledged) = shared.last.take().context("nothing was acknowledged")?;
    let mut latencies = std::mem::take(&mut shared.latencies_ns);
    latencies.sort_unstable();
    Ok((Figures::of(&latencies, window, cpu_us), record, acknowledged))
}

async fn writer<S: Sink>(sink: Rc<S>, shared: Rc<RefCell<Shared<S::Acknowledged>>>, bytes: usize) -> Result<()> {
    loop {
        let number = {
            let mut shared = shared.borrow_mut();
            if shared.stops {
                return Ok(());
            }
            shared.next += 1;
            shared.next
        };
        let record = record(number, bytes);
        let begun = Instant::now();
        let acknowledged = sink.append(record).await?;
        let took = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let mut shared = shared.borrow_mut();
        if shared.counts {
            shared.latencies_ns.push(took);
        }
        if shared.stops {
            shared.last = Some((self::record(number, bytes), acknowledged));
        }
    }
}

/// A record that is like no other.
pub(crate) fn record(number: u64, bytes: usize) -> Vec<u8> {
    let mut record = vec![0x5a; bytes];
    if let Some(start) = record.first_chunk_mut::<8>() {
        *start = number.to_be_bytes();
    }
    record
}

/// Processor time of all threads of this process, in microseconds.
fn cpu_us() -> Result<u64> {
    let mut nanoseconds = 0;
    for task in std::fs::read_dir("/proc/self/task")? {
        let Ok(text) = std::fs::read_to_string(task?.path().join("schedstat")) else { continue };
        let first = text.split_whitespace().next().unwrap_or_default();
        nanoseconds += first.parse::<u64>().context("this kernel does not say how long threads ran")?;
    }
    Ok(nanoseconds / 1_000)
}

struct Log(Ledger);

impl Sink for Log {
    type Acknowledged = Committed;

    async fn append(&self, record: Vec<u8>) -> Result<Committed> {
        Ok(self.0.append(Entry::new(record)).await?)
    }
}

/// Makes a ledger in `folder` and drives it.
pub(crate) fn ledger(folder: &Path, load: &Load) -> Result<Figures> {
    let store = Store::real(folder.join("ledger"));
    let key = Ledger::create(&store, "bench.example/log")?;
    let config = Config { queue_records: usize::try_from(load.writers)?.max(16_384), ..Config::default() };
    let (ledger, _) = Ledger::open(&store, config, &mut |_| Ok(()))?;
    let (figures, record, committed) = drive(Log(ledger.clone()), load)?;
    committed.proof.verify(&record, &key).context("a proof does not hold")?;
    if ledger.record(committed.index)?.leaf != record {
        bail!("record `{}` is not what was appended", committed.index);
    }
    ledger.close()?;
    Ok(figures)
}
