//! Keeping the index up with the log: once where no gateway runs, all the time where one does.
//!
//! It reads the log's files up to what is confirmed, so the gate never waits for it, and a broken index breaks nothing
//! but questions. The root that the index computed must be the log's: an index of another log, or of one that was
//! rolled back, is thrown away and made again. It must not know what is asked.

#[cfg(test)]
mod tests;

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result};
use countersign_index::{Index, IndexError, Options};
use countersign_ledger::vault::Vault;
use countersign_ledger::{Reader, Store};
use countersign_model::payload::ActionPayload;
use countersign_receipt::merkle::TreeHead;

use crate::layout::Layout;
use crate::terminal::unverified;

/// Records of one transaction.
const BATCH: u64 = 20_000;
/// How often the running gateway looks for new records.
const EVERY: Duration = Duration::from_millis(200);

/// Hears how many records are covered, and of how many; says whether to go on.
type Watch<'a> = dyn FnMut(u64, u64) -> bool + 'a;

/// Brings `index` up to the newest confirmed record, or as far as `watch` lets it.
pub(crate) fn catch_up(index: &mut Index, reader: &Reader, watch: &mut Watch<'_>) -> Result<TreeHead> {
    let options = index.options()?;
    // Once for an index of another log, once more for text that an erasure took out with the rest.
    for _ in 0..3 {
        let covered = index.head()?;
        // Read after the index: whoever else feeds it cannot be ahead of this.
        let head = reader.head()?;
        if covered.size == 0 || covered.size < reader.minimum()? {
            clear(index, options, (reader, head))?;
        }
        if !follow(index, reader, head, watch)? {
            tracing::warn!("the index is of another log, or of one that was rolled back; it is made again");
            clear(index, options, (reader, head))?;
            continue;
        }
        if !index.is_stale()? {
            return Ok(index.head()?);
        }
        clear(index, options, (reader, head))?;
    }
    Err(unverified("the records do not lead to the confirmed root; check them with `countersign log verify`"))
}

/// Empties the index, to be fed from the first record that is kept.
fn clear(index: &mut Index, options: Options, (reader, head): (&Reader, TreeHead)) -> Result<()> {
    index.clear(options, head.size)?;
    if let Some(base) = reader.base()? {
        index.begin(base.minimum, base.subtrees.clone())?;
    }
    Ok(())
}

/// Feeds the index up to `head`. False where what it covers is not what the log holds.
fn follow(index: &mut Index, reader: &Reader, head: TreeHead, watch: &mut Watch<'_>) -> Result<bool> {
    loop {
        let covered = index.head()?;
        if covered.size > head.size {
            return Ok(false);
        }
        if covered.size == head.size {
            return Ok(covered.root == head.root);
        }
        if !watch(covered.size, head.size) {
            return Ok(true);
        }
        let mut batch = index.batch()?;
        let from = batch.next();
        let to = from.saturating_add(BATCH).min(head.size);
        // Keys are read anew each time: what was destroyed meanwhile must not be readable here.
        let vault = if batch.wants_text() { Some(Vault::open(reader.store())?) } else { None };
        let mut failed: Option<IndexError> = None;
        reader.each(from, to, &mut |record| {
            let arguments =
                vault.as_ref().zip(record.payload).and_then(|(vault, sealed)| readable(vault, sealed, record.leaf));
            failed = batch.push(record.index, record.leaf, arguments.as_deref()).err();
            failed.is_none()
        })?;
        if let Some(error) = failed {
            batch.abandon();
            return Err(error.into());
        }
        let reached = batch.head();
        if reached.size == head.size && reached.root != head.root {
            batch.abandon();
            return Ok(false);
        }
        batch.commit()?;
    }
}

/// The arguments of a sealed payload; none where it was erased, is an outcome's, or cannot be opened.
fn readable(vault: &Vault, sealed: &[u8], leaf: &[u8]) -> Option<Vec<u8>> {
    let payload = vault.unseal(sealed, leaf).ok().flatten()?;
    ActionPayload::decode(&payload).ok().map(|payload| payload.arguments)
}

/// A thread that follows the log until it is stopped.
pub(crate) struct Feed {
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

impl Feed {
    /// Starts to follow the log of an installation.
    pub(crate) fn start(layout: &Layout, options: Options) -> Result<Self> {
        let (stop, stopped) = channel();
        let layout = layout.clone();
        let thread = std::thread::Builder::new()
            .name("index".to_owned())
            .spawn(move || run(&layout, options, &stopped))
            .context("cannot start the thread that keeps the index")?;
        Ok(Self { stop, thread })
    }

    /// Stops after the batch in hand.
    pub(crate) fn stop(self) {
        drop(self.stop);
        if self.thread.join().is_err() {
            tracing::error!("the index's thread panicked");
        }
    }
}

fn run(layout: &Layout, options: Options, stopped: &Receiver<()>) {
    let reader = Reader::new(&Store::real(layout.ledger()));
    let mut index: Option<Index> = None;
    let mut said = String::new();
    let goes_on = || !matches!(stopped.try_recv(), Err(std::sync::mpsc::TryRecvError::Disconnected));
    loop {
        let opened = match index.take() {
            Some(index) => Ok(index),
            None => Index::open(&layout.index(), options).map_err(anyhow::Error::from),
        };
        let done = opened.and_then(|mut opened| {
            catch_up(&mut opened, &reader, &mut |_, _| goes_on())?;
            Ok(opened)
        });
        match done {
            Ok(opened) => {
                index = Some(opened);
                said.clear();
            }
            Err(error) => {
                let text = format!("{error:#}");
                if said != text {
                    tracing::warn!(
                        error = text,
                        "the index does not follow the log; questions are answered from what it has"
                    );
                    said = text;
                }
            }
        }
        if !matches!(stopped.recv_timeout(EVERY), Err(RecvTimeoutError::Timeout)) {
            return;
        }
    }
}
