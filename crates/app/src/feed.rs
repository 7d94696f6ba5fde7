//! Keeping the index up with the log: once where no gateway runs, all the time where one does.
//!
//! It reads the log's files up to what is confirmed, so the gate never waits for it, and a broken index breaks nothing
//! but questions. The root that the index computed must be the log's: an index of another log, or of one that was
//! rolled back, is thrown away and made again. It must not know what is asked.

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

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
/// How long an index that holds text may fail to follow.
const PATIENCE: Duration = Duration::from_secs(60);

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
        let followed = follow(index, reader, head, watch);
        // Whatever became of the rest: text that was taken out must leave the files.
        index.scrub()?;
        if !followed? {
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
    let mut follower = Follower::new(layout, options);
    let goes_on = || !matches!(stopped.try_recv(), Err(std::sync::mpsc::TryRecvError::Disconnected));
    loop {
        follower.round(Instant::now(), &mut |_, _| goes_on());
        if !matches!(stopped.recv_timeout(EVERY), Err(RecvTimeoutError::Timeout)) {
            return;
        }
    }
}

/// Follows one log round by round, and lets no text lie where it cannot follow.
struct Follower {
    path: PathBuf,
    reader: Reader,
    options: Options,
    index: Option<Index>,
    failing: Option<Failing>,
}

struct Failing {
    since: Instant,
    said: String,
}

impl Follower {
    fn new(layout: &Layout, options: Options) -> Self {
        let reader = Reader::new(&Store::real(layout.ledger()));
        Self { path: layout.index(), reader, options, index: None, failing: None }
    }

    /// Brings the index up to the log once, at `now`.
    fn round(&mut self, now: Instant, watch: &mut Watch<'_>) {
        let opened = match self.index.take() {
            Some(index) => Ok(index),
            None => Index::open(&self.path, self.options),
        };
        let is_open = opened.is_ok();
        let done = opened.map_err(anyhow::Error::from).and_then(|mut opened| {
            catch_up(&mut opened, &self.reader, watch)?;
            Ok(opened)
        });
        match done {
            Ok(opened) => {
                self.index = Some(opened);
                self.failing = None;
            }
            Err(error) => self.failed(now, is_open, &format!("{error:#}")),
        }
    }

    /// An erasure that the index never hears of would leave its text for good. So an index with text that does not
    /// follow for long is removed, and made again without text; one that cannot be opened may hold text of before.
    fn failed(&mut self, now: Instant, is_open: bool, error: &str) {
        let failing = self.failing.get_or_insert_with(|| Failing { since: now, said: String::new() });
        if failing.said != error {
            tracing::warn!(error, "the index does not follow the log; questions are answered from what it has");
            error.clone_into(&mut failing.said);
        }
        let is_over = now.saturating_duration_since(failing.since) >= PATIENCE;
        if !is_over || (is_open && !self.options.full_text) {
            return;
        }
        match Index::remove(&self.path) {
            Ok(()) => {
                self.options.full_text = false;
                self.failing = None;
                tracing::error!(
                    error,
                    "the index did not follow the log and was removed, for erased text must not stay in it; it is made \
                     again without the text of arguments until the gateway is started anew"
                );
            }
            Err(removal) => {
                let text = format!("{error}; {removal}");
                if failing.said != text {
                    tracing::error!(error = text, "text that was erased since may still be readable in the index");
                    failing.said = text;
                }
            }
        }
    }
}
