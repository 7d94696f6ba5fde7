//! Verification of a whole ledger beside reading and SHA-256-ing the same bytes, those of its segments and of the public
//! folder that they are compared with; both from the page cache and both on as many threads as there are cores.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use aws_lc_rs::digest::{Context as Hasher, SHA256};
use countersign_ledger::{Config, Entry, Ledger, Store, verify};

use super::LedgerPlan;
use super::append::record;
use super::figures::{Verified, Walk};

/// How much the baseline reads at a time.
const READ_BYTES: u64 = 1 << 20;

/// Makes a log and verifies it as often as there are rounds.
pub(crate) fn measure(plan: &LedgerPlan, folder: &Path) -> Result<Verified> {
    let store = Store::real(folder.join("verified"));
    let batch = u64::from(plan.verify_batch);
    let records = u64::from(plan.verify_records).next_multiple_of(batch);
    eprintln!("making a log of {records} records");
    make(&store, records, batch, plan.record_bytes.into())?;
    let (mut segments, mut all) = (Vec::new(), Vec::new());
    files(&store.dir().join("segments"), &mut segments)?;
    files(&store.dir().join("public"), &mut all)?;
    all.extend_from_slice(&segments);
    let bytes = |files: &[(PathBuf, u64)]| files.iter().map(|(_, length)| length).sum();
    let mut rounds = Vec::new();
    // The first of each only warms the cache.
    for number in 0..=plan.rounds {
        let begun = Instant::now();
        let report = verify::walk(&store, None, |_, _| {})?;
        let verified_s = begun.elapsed().as_secs_f64();
        if report.head.size != records {
            bail!("{} records were verified, not {records}", report.head.size);
        }
        let hashing = |files: &[(PathBuf, u64)]| -> Result<f64> {
            let begun = Instant::now();
            read_and_hash(files)?;
            Ok(begun.elapsed().as_secs_f64())
        };
        let walk = Walk { verified_s, hashed_s: hashing(&all)?, segments_hashed_s: hashing(&segments)? };
        if number > 0 {
            rounds.push(walk);
        }
        eprint!("\rverification {number} of {}   ", plan.rounds);
    }
    eprintln!();
    Ok(Verified { records, batch, segment_bytes: bytes(&segments), read_bytes: bytes(&all), rounds })
}

/// Appends so that every group commit has exactly `batch` records: the writer is held by a lock until all are there.
fn make(store: &Store, records: u64, batch: u64, bytes: usize) -> Result<()> {
    Ledger::create(store, "bench.example/log")?;
    let (ledger, _) = Ledger::open(store, Config::default(), &mut |_| Ok(()))?;
    for first in (0..records).step_by(usize::try_from(batch)?) {
        let entries = (first..first + batch).map(|number| Entry::new(record(number, bytes)));
        let pending = ledger.append_together(entries.collect());
        pending.into_iter().next_back().context("an empty batch")?.wait()?;
    }
    ledger.flush(Duration::from_secs(600))?;
    Ok(ledger.close()?)
}

/// Adds the files below a folder and their lengths, in order.
fn files(folder: &Path, found: &mut Vec<(PathBuf, u64)>) -> Result<()> {
    let mut entries = std::fs::read_dir(folder)?.collect::<std::io::Result<Vec<_>>>()?;
    entries.sort_by_key(std::fs::DirEntry::path);
    for entry in entries {
        let about = entry.metadata()?;
        if about.is_dir() {
            files(&entry.path(), found)?;
        } else {
            found.push((entry.path(), about.len()));
        }
    }
    Ok(())
}

fn read_and_hash(files: &[(PathBuf, u64)]) -> Result<()> {
    let mut pieces = Vec::new();
    for (path, length) in files {
        let file = File::open(path)?;
        for at in (0..*length).step_by(usize::try_from(READ_BYTES)?) {
            pieces.push((file.try_clone()?, at, READ_BYTES.min(length - at)));
        }
    }
    let pieces = Mutex::new(pieces.into_iter());
    let threads = std::thread::available_parallelism()?.get();
    std::thread::scope(|scope| {
        let hash = || -> Result<()> {
            let mut buffer = Vec::new();
            loop {
                let piece = pieces.lock().unwrap_or_else(PoisonError::into_inner).next();
                let Some((file, at, length)) = piece else { return Ok(()) };
                buffer.resize(usize::try_from(length)?, 0);
                file.read_exact_at(&mut buffer, at)?;
                let mut hasher = Hasher::new(&SHA256);
                hasher.update(&buffer);
                std::hint::black_box(hasher.finish());
            }
        };
        let all: Vec<_> = (0..threads).map(|_| scope.spawn(hash)).collect();
        all.into_iter().try_for_each(|thread| thread.join().ok().context("a thread failed")?)
    })
}
