//! The publisher: follows the confirmed log and writes tiles, bundles and the checkpoint for auditors.
//!
//! It takes what was just committed from the writer's hand, within a bound, and reads the rest back from the segments: a
//! backlog costs no memory, and publication can fail and be tried again without touching what was acknowledged. Tiles come before the checkpoint that needs them; a full tile that is
//! right is never rewritten. Tiles are not synced: recovery compares and repairs them. The checkpoint is synced and then
//! renamed, so that it is never half. It must not know the queue's order or who appends. It does not cover serving.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use crate::config::PublishMode;
use crate::cosigned::Cosigned;
use crate::disk::{Access, Mode, read_file, replace_file};
use crate::fresh::Fresh;
use crate::read::FrameCursor;
use crate::shared::{Confirmed, Phase, Shared, State};
use crate::store::Store;
use crate::tile::{PublicFile, Tiler};

const RETRY: Duration = Duration::from_millis(500);

/// Where publication stands.
pub(crate) struct Publisher {
    store: Store,
    tiler: Tiler,
    cursor: FrameCursor,
    /// Full files that are not written yet: those of one frame at most.
    pending: VecDeque<PublicFile>,
    published: u64,
    /// How many statements the public list of keys has; none is no file.
    keys: usize,
    /// The cosigned note that was published last.
    cosigned: Option<Arc<str>>,
}

impl Publisher {
    /// Goes on behind `tiler`, whose full tiles are all in place.
    pub(crate) fn new(store: &Store, tiler: Tiler) -> Self {
        let cursor = FrameCursor::new(store, tiler.size());
        let pending = VecDeque::new();
        Self { store: store.clone(), tiler, cursor, pending, published: 0, keys: 0, cosigned: None }
    }

    pub(crate) fn published(&self) -> u64 {
        self.published
    }

    /// Brings the public folder to the confirmed tree.
    ///
    /// # Errors
    /// As the disk says; call it again.
    pub(crate) fn publish(
        &mut self,
        confirmed: &Confirmed,
        cosigned: Option<&Cosigned>,
        fresh: &Fresh,
    ) -> io::Result<()> {
        self.tiles(confirmed, fresh)?;
        // The keys before the checkpoint that may need the newest of them.
        if self.keys != confirmed.keys.rotations() {
            let text = confirmed.keys.to_string();
            replace_file(self.store.disk(), &self.store.public_keys(), text.as_bytes(), Access::Public)?;
            self.keys = confirmed.keys.rotations();
        }
        let path = self.store.checkpoint();
        let note = cosigned.filter(|cosigned| cosigned.head == confirmed.head).map_or(&confirmed.note, |c| &c.note);
        replace_file(self.store.disk(), &path, note.as_bytes(), Access::Public)?;
        self.published = confirmed.head.size;
        if let Some(cosigned) = cosigned.filter(|cosigned| self.lacks(Some(cosigned))) {
            let path = self.store.witnessed();
            replace_file(self.store.disk(), &path, cosigned.note.as_bytes(), Access::Public)?;
            self.cosigned = Some(Arc::clone(&cosigned.note));
        }
        Ok(())
    }

    /// Brings the tiles and bundles there, and not yet the checkpoint.
    pub(crate) fn tiles(&mut self, confirmed: &Confirmed, fresh: &Fresh) -> io::Result<()> {
        self.write_pending()?;
        while self.tiler.size() < confirmed.head.size {
            let mut full = Vec::new();
            match fresh.take(self.tiler.size()) {
                Some(batch) => {
                    batch.leaves.iter().for_each(|(leaf, hash)| self.tiler.push_hashed(leaf, *hash, &mut full));
                }
                None => {
                    let frame = self.cursor.frame_of(self.tiler.size())?;
                    frame.records().for_each(|record| self.tiler.push(record.leaf, &mut full));
                }
            }
            self.pending.extend(full);
            self.write_pending()?;
        }
        for file in self.tiler.partial() {
            self.put(&file)?;
        }
        Ok(())
    }

    /// Whether these cosignatures are not published yet.
    fn lacks(&self, cosigned: Option<&Cosigned>) -> bool {
        cosigned.is_some_and(|cosigned| self.cosigned.as_ref() != Some(&cosigned.note))
    }

    fn write_pending(&mut self) -> io::Result<()> {
        while let Some(file) = self.pending.front() {
            self.put(file)?;
            self.remove_partial(&file.path);
            self.pending.pop_front();
        }
        Ok(())
    }

    fn put(&self, file: &PublicFile) -> io::Result<()> {
        if matches(&self.store, file) {
            return Ok(());
        }
        let disk = self.store.disk();
        let path = self.store.public().join(&file.path);
        let temporary = path.with_extension("tmp");
        let opened = match disk.open(&temporary, Mode::Replace(Access::Public)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                disk.create_dir(path.parent().unwrap_or(Path::new("")), Access::Public)?;
                disk.open(&temporary, Mode::Replace(Access::Public))
            }
            opened => opened,
        };
        opened?.write_at(0, &file.bytes)?;
        disk.rename(&temporary, &path)
    }

    /// The full tile replaces its partial ones, which tlog-tiles lets us remove. What stays behind does no harm.
    fn remove_partial(&self, path: &str) {
        let disk = self.store.disk();
        let dir = self.store.public().join(format!("{path}.p"));
        let Ok(names) = disk.list(&dir) else { return };
        let removed = names.iter().all(|name| disk.remove(&dir.join(name)).is_ok());
        if !(removed && disk.remove_dir(&dir).is_ok()) {
            tracing::debug!(path = %dir.display(), "partial tiles stay behind");
        }
    }
}

/// Whether the public folder holds exactly this file.
pub(crate) fn matches(store: &Store, file: &PublicFile) -> bool {
    let path = store.public().join(&file.path);
    read_file(store.disk(), &path, file.bytes.len() as u64).is_ok_and(|bytes| bytes == file.bytes)
}

/// The thread: until the writer is done and everything is published, or cannot be.
pub(crate) fn run(shared: &Arc<Shared>, mut publisher: Publisher) {
    let interval = match shared.config.publish {
        PublishMode::Background { interval } => interval,
        PublishMode::Inline => Duration::ZERO,
    };
    loop {
        let mut state = shared.state();
        let is_idle = |state: &State, publisher: &Publisher| {
            state.confirmed.head.size == publisher.published() && !publisher.lacks(state.cosigned.as_deref())
        };
        while is_idle(&state, &publisher) && !state.writer_done {
            state = shared.news.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let confirmed = Arc::clone(&state.confirmed);
        let cosigned = state.cosigned.clone();
        let last = state.writer_done;
        let is_done = is_idle(&state, &publisher);
        drop(state);
        if is_done {
            return;
        }
        let result = publisher.publish(&confirmed, cosigned.as_deref(), &shared.fresh);
        let mut state = shared.state();
        state.published = publisher.published();
        if state.published == state.confirmed.head.size {
            state.urgent = false;
        }
        shared.settled.notify_all();
        let pause = match result {
            Ok(()) => interval,
            Err(error) => {
                tracing::warn!(%error, "checkpoint is not published yet");
                if last {
                    return;
                }
                RETRY
            }
        };
        let rest =
            shared.news.wait_timeout_while(state, pause, |state| !state.urgent && matches!(state.phase, Phase::Open));
        drop(rest.unwrap_or_else(PoisonError::into_inner));
    }
}
