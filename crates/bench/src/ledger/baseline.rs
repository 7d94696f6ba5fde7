//! The baseline: a plain file with group-committed syncs. One write and one `fdatasync` a batch, the moment the previous
//! sync returned, into space that was set aside; no hash, no signature, no tree, no proof.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use anyhow::{Context as _, Result};
use rustix::fs::FallocateFlags;
use tokio::sync::oneshot;

use super::append::{Load, Sink, drive};
use super::figures::Figures;

/// The ledger's own figures.
const BATCH_RECORDS: usize = 4_096;
const CHUNK_BYTES: u64 = 4 << 20;

#[derive(Default)]
struct Queue {
    waiting: VecDeque<(Vec<u8>, oneshot::Sender<()>)>,
    closed: bool,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    work: Condvar,
}

struct Plain(Arc<Shared>);

impl Sink for Plain {
    type Acknowledged = ();

    async fn append(&self, record: Vec<u8>) -> Result<()> {
        let (done, durable) = oneshot::channel();
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner).waiting.push_back((record, done));
        self.0.work.notify_one();
        durable.await.context("a record was not written")
    }
}

/// Makes the file in `folder` and drives it.
pub(crate) fn plain(folder: &Path, load: &Load) -> Result<Figures> {
    let file = OpenOptions::new().write(true).create_new(true).open(folder.join("plain"))?;
    let shared = Arc::new(Shared::default());
    let writer = {
        let shared = Arc::clone(&shared);
        std::thread::Builder::new().name("plain-writer".to_owned()).spawn(move || write(&file, &shared))?
    };
    let driven = drive(Plain(Arc::clone(&shared)), load);
    shared.queue.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
    shared.work.notify_one();
    writer.join().ok().context("the writer failed")??;
    Ok(driven?.0)
}

fn write(file: &File, shared: &Shared) -> Result<()> {
    let (mut offset, mut allocated) = (0, 0);
    let (mut batch, mut bytes) = (Vec::new(), Vec::new());
    loop {
        let mut queue = shared.queue.lock().unwrap_or_else(PoisonError::into_inner);
        while queue.waiting.is_empty() {
            if queue.closed {
                return Ok(());
            }
            queue = shared.work.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        let count = queue.waiting.len().min(BATCH_RECORDS);
        batch.extend(queue.waiting.drain(..count));
        drop(queue);
        bytes.clear();
        batch.iter().for_each(|(record, _)| bytes.extend_from_slice(record));
        let end = offset + bytes.len() as u64;
        if end > allocated {
            allocated = end.next_multiple_of(CHUNK_BYTES);
            rustix::fs::fallocate(file, FallocateFlags::empty(), 0, allocated)?;
        }
        file.write_all_at(&bytes, offset)?;
        file.sync_data()?;
        offset = end;
        for (_, done) in batch.drain(..) {
            // Who asked may have gone.
            let _ = done.send(());
        }
    }
}
