//! The least that a durable record costs: a hash each, one write, one signature and one sync a batch.
//!
//! One thread takes what waits the moment the previous sync returned, as the ledger does, into space that was set
//! aside before. It keeps no tree, no proofs and no mark: it is the line below which no ledger can be.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};

use anyhow::{Context as _, Result};
use aws_lc_rs::digest::{Context as Hasher, SHA256};
use aws_lc_rs::signature::Ed25519KeyPair;
use rustix::fs::FallocateFlags;
use tokio::sync::oneshot;

/// The most records of one batch, and how much space is set aside at a time: the ledger's own figures.
const BATCH_RECORDS: usize = 4_096;
const CHUNK_BYTES: u64 = 4 << 20;

struct Job {
    record: Vec<u8>,
    done: oneshot::Sender<()>,
}

/// A handle; clones write to the same file.
#[derive(Clone)]
pub(crate) struct Journal {
    queue: Sender<Job>,
}

impl Journal {
    /// Makes the file and starts its thread, which ends with the last handle.
    pub(crate) fn create(path: &Path) -> Result<Self> {
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(path)
            .with_context(|| format!("cannot create `{}`", path.display()))?;
        let key = Ed25519KeyPair::generate().context("no key could be made")?;
        let (queue, jobs) = channel();
        let mut writer = Writer { file, key, chain: [0; 32], offset: 0, allocated: 0, frame: Vec::new() };
        std::thread::Builder::new().name("journal".to_owned()).spawn(move || {
            if let Err(error) = writer.run(&jobs) {
                eprintln!("countersign-bench: the journal ended: {error:#}");
            }
        })?;
        Ok(Self { queue })
    }

    /// Returns once the record is durable.
    pub(crate) async fn append(&self, record: Vec<u8>) -> Result<()> {
        let (done, durable) = oneshot::channel();
        self.queue.send(Job { record, done }).ok().context("the journal ended")?;
        durable.await.context("a record was not written")
    }
}

struct Writer {
    file: File,
    key: Ed25519KeyPair,
    chain: [u8; 32],
    offset: u64,
    allocated: u64,
    frame: Vec<u8>,
}

impl Writer {
    fn run(&mut self, jobs: &Receiver<Job>) -> Result<()> {
        while let Ok(first) = jobs.recv() {
            let mut batch = vec![first];
            batch.extend(jobs.try_iter().take(BATCH_RECORDS - 1));
            self.commit(&batch)?;
            for job in batch {
                // Who asked may have gone.
                let _ = job.done.send(());
            }
        }
        Ok(())
    }

    fn commit(&mut self, batch: &[Job]) -> Result<()> {
        self.frame.clear();
        for Job { record, .. } in batch {
            let mut hasher = Hasher::new(&SHA256);
            hasher.update(&self.chain);
            hasher.update(record);
            self.chain.copy_from_slice(hasher.finish().as_ref());
            self.frame.extend_from_slice(&u32::try_from(record.len())?.to_be_bytes());
            self.frame.extend_from_slice(record);
        }
        self.frame.extend_from_slice(self.key.sign(&self.chain).as_ref());
        let end = self.offset + self.frame.len() as u64;
        if end > self.allocated {
            let length = end.next_multiple_of(CHUNK_BYTES);
            rustix::fs::fallocate(&self.file, FallocateFlags::empty(), 0, length)?;
            self.allocated = length;
        }
        self.file.write_all_at(&self.frame, self.offset)?;
        self.file.sync_data()?;
        self.offset = end;
        Ok(())
    }
}
