//! The ledger: a signed, append-only, tamper-evident log on one disk, and the only store of truth.
//!
//! A record is an opaque leaf with an opaque payload beside it. It is acknowledged only when it is durable, with a proof
//! that needs no server. The crate must not know policy, records' contents or tokio's runtime; it runs one writer thread
//! and one publisher thread. A witness of other logs lives here too ([`mod@witness`]), for it needs the same care with a
//! disk. It does not cover querying by content and retention.
//!
//! Layout of a ledger's directory: `segments/` (group commits, [`mod@segment`]), `mark` (what was confirmed), `public/`
//! (C2SP tlog-tiles for auditors), `snapshots/`, `base/` (what a pruned log begins with), `vault/` (keys of payloads,
//! [`mod@vault`]), `log.key`, `log.vkey` and `log.keys` (`keys`), `lock`.

use std::path::Path;
use std::sync::{Arc, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use countersign_receipt::merkle::TreeHead;
use countersign_receipt::{Checkpoint, CoseReceipt, KeyChain, Note, TlogProof, VerifierKey};

mod append;
mod base;
mod change;
mod config;
mod cosigned;
pub mod disk;
mod error;
mod fresh;
mod keys;
mod mark;
mod prune;
mod publish;
mod read;
mod reader;
mod rebuild;
mod recover;
mod rotate;
mod segment;
mod shared;
mod signer;
mod snapshot;
mod store;
mod tile;
pub mod tiles;
mod tree;
pub mod vault;
pub mod verify;
pub mod witness;
mod writer;

pub use append::{Committed, Entry, OUTCOME_LEAF_BYTES, OUTCOME_PAYLOAD_BYTES, Pending, Slot};
pub use base::Base;
pub use config::{Config, PublishMode};
pub use cosigned::Cosigned;
pub use disk::{Disk, RealDisk};
pub use error::{AppendError, FrameFault, OpenError, SignError, WitnessError};
pub use read::{Consistency, ReadError, StoredRecord, Tail};
pub use reader::Reader;
pub use rebuild::{Rebuild, Resumed};
pub use recover::{Cut, Recovered, VisitError};
pub use segment::{MAX_PAYLOAD_BYTES, Record};
pub use signer::{
    FileKeys, History, LocalSigner, Peers, PrivateKeys, ReadOnly, RemoteSigner, ServeError, Signer, SignerServer,
    load_verifier, take_key,
};
#[cfg(feature = "pkcs11")]
pub use signer::{TokenKeys, TokenPlace};
pub use snapshot::{Follower, MAX_SNAPSHOT_BYTES, SNAPSHOTS_KEPT, SnapshotError, delete_snapshots};
pub use store::Store;
pub use vault::{Scopes, Sealer, Vault, VaultError};

use crate::change::Change;
use crate::disk::{Access, DiskLock, Mode};
use crate::fresh::Fresh;
use crate::mark::Mark;
use crate::publish::Publisher;
use crate::rebuild::{Source, Whole};
use crate::recover::Scan;
use crate::rotate::Rotating;
use crate::segment::FrameWriter;
use crate::shared::{Confirmed, Phase, Shared};
use crate::snapshot::Origin;
use crate::writer::{Segment, Writer};

/// An open ledger; clones are the same ledger.
///
/// Call [`Ledger::close`] for a clean end. Dropping the handles does not stop the threads and does not release the lock;
/// a process that ends without closing loses nothing that was acknowledged.
#[derive(Clone)]
pub struct Ledger {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Ledger({})", self.shared.store.dir().display())
    }
}

impl Ledger {
    /// Makes an empty ledger with a new key; `origin` becomes the key's and the log's name.
    ///
    /// # Errors
    /// [`OpenError`]; nothing is overwritten if there is a ledger already.
    pub fn create(store: &Store, origin: &str) -> Result<VerifierKey, OpenError> {
        let disk = store.disk();
        let dir = store.dir();
        disk.create_dir(dir, Access::Private).map_err(OpenError::io("creation", dir))?;
        let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        disk.sync_dir(parent).map_err(OpenError::io("sync", parent))?;
        let _lock = take_lock(store)?;
        let names = disk.list(dir).map_err(OpenError::io("list", dir))?;
        let segments = store.segments();
        disk.create_dir(&segments, Access::Private).map_err(OpenError::io("creation", &segments))?;
        let empty = segment::list(store).map_err(OpenError::io("list", &segments))?.is_empty();
        if names.iter().any(|name| name == "log.key") || !empty {
            return Err(OpenError::Exists { dir: dir.to_path_buf() });
        }
        disk.create_dir(&store.public(), Access::Public).map_err(OpenError::io("creation", store.public()))?;
        let empty = TreeHead { size: 0, root: countersign_receipt::merkle::empty_root() };
        Mark::create(&store.mark_file(), &empty).map_err(OpenError::io("creation", store.mark()))?;
        vault::Vault::create(store)?;
        disk.sync_dir(dir).map_err(OpenError::io("sync", dir))?;
        let (key, der) = signer::generate(origin).map_err(|error| OpenError::Signer(error.to_string()))?;
        signer::save(store, &key, &der)?;
        Ok(key)
    }

    /// Opens a ledger with its own key: reads all that is kept, hands every record to `visit` in order, then serves.
    ///
    /// Whether a record commits to the base of a pruned log only who can read records can tell: [`Ledger::resume`] asks.
    ///
    /// The visitor may see records of a log that is refused at the end; what it built is to be thrown away then.
    ///
    /// # Errors
    /// [`OpenError`], naming what is wrong, where, and the remedy. Nothing was changed.
    pub fn open(
        store: &Store,
        config: Config,
        visit: &mut dyn FnMut(Record<'_>) -> Result<(), VisitError>,
    ) -> Result<(Self, Recovered), OpenError> {
        Self::open_with(store, config, own_signer(store)?, visit)
    }

    /// As [`Ledger::open`], but from the newest snapshot that holds, if there is one: what lies below it is not read.
    ///
    /// # Errors
    /// As [`Ledger::open`]. No snapshot is an error by itself: at worst the whole log is read.
    pub fn resume(store: &Store, config: Config, rebuild: &mut dyn Rebuild) -> Result<(Self, Recovered), OpenError> {
        Self::resume_with(store, config, own_signer(store)?, rebuild)
    }

    /// As [`Ledger::open`], with a signer of the caller's.
    ///
    /// # Errors
    /// As [`Ledger::open`].
    pub fn open_with(
        store: &Store,
        config: Config,
        signer: Arc<dyn Signer>,
        visit: &mut dyn FnMut(Record<'_>) -> Result<(), VisitError>,
    ) -> Result<(Self, Recovered), OpenError> {
        Self::resume_with(store, config, signer, &mut Whole(visit))
    }

    /// As [`Ledger::resume`], with a signer of the caller's.
    ///
    /// # Errors
    /// As [`Ledger::open`].
    pub fn resume_with(
        store: &Store,
        config: Config,
        signer: Arc<dyn Signer>,
        rebuild: &mut dyn Rebuild,
    ) -> Result<(Self, Recovered), OpenError> {
        let lock = take_lock(store)?;
        let keys = keys::load(store)?;
        let change = Change::of(store)?;
        if !change.is_begun() {
            change::is_in_force(&signer.verifier_key(), &keys, store)?;
        }
        let (mut mark, marked) = open_mark(store)?;
        let anchors = recover::anchors(store, &keys, marked)?;
        let scan = rebuild::scan(Source { store, keys: &keys, anchors: &anchors }, rebuild)?;
        change.judge(&keys, &scan.head)?;
        let refused = |(minimum, reason)| OpenError::Base { path: store.base(minimum), minimum, reason };
        let begin = base::begin(store).map_err(refused)?.map(|loaded| loaded.base);
        recover::settle(store, &scan)?;
        mark.write(&scan.head)
            .and_then(|()| mark.tidy(&store.mark_file()))
            .map_err(OpenError::io("write", store.mark()))?;
        let recovered = Recovered {
            head: scan.head,
            from: scan.from,
            unconfirmed: scan.head.size - marked.size,
            cut: scan.cut.clone(),
            repairs_tiles: scan.repair_from.is_some(),
        };
        let note = first_note(store, signer.as_ref(), &keys, &scan)?;
        let ledger = Self::start(store, config, signer, Start { lock, mark, scan, note, keys, change, begin })?;
        Ok((ledger, recovered))
    }

    fn start(store: &Store, config: Config, signer: Arc<dyn Signer>, start: Start) -> Result<Self, OpenError> {
        let Start { lock, mark, scan, note, keys, change, begin } = start;
        let edge = scan.tiler.edge.clone();
        let segment = open_segment(store, &scan)?;
        let (first, offset) = scan.last.unwrap_or((0, 0));
        let origin = Origin { tiler: scan.tiler.clone(), segment: first, offset };
        let synced = scan.from;
        let repairs = scan.repair_from.is_some();
        let mut publisher = Publisher::new(store, scan.repair_from.unwrap_or(scan.tiler));
        let confirmed = Confirmed { head: scan.head, note, edge: edge.clone(), keys: Arc::new(keys) };
        // The signer may want a proof, which is made of tiles.
        if repairs && let Err(error) = publisher.tiles(&confirmed, &Fresh::default()) {
            tracing::warn!(%error, "tiles are not repaired yet");
        }
        let inline = config.publish == PublishMode::Inline;
        let shared = Arc::new(Shared::new(store, config, signer, confirmed, lock));
        shared.begin_at(begin);
        change.settle(&shared)?;
        if let Err(error) = publisher.publish(&shared.confirmed(), None, &shared.fresh) {
            tracing::warn!(%error, "checkpoint is not published yet");
        }
        let cosigned = Cosigned::load(store, shared.confirmed().keys.newest());
        {
            let mut state = shared.state();
            state.published = publisher.published();
            state.cosigned = cosigned;
        }
        *shared.follower.lock().unwrap_or_else(PoisonError::into_inner) = Some((origin, synced));
        let (inner, background) = if inline { (Some(publisher), None) } else { (None, Some(publisher)) };
        let frame = FrameWriter::default();
        let writer =
            Writer { shared: Arc::clone(&shared), segment, mark, edge, frame, rotating: None, publisher: inner };
        let spawn = |name: &str, work: Box<dyn FnOnce() + Send>| {
            let thread = thread::Builder::new().name(name.to_owned()).spawn(work);
            thread.map_err(OpenError::io("start of a thread", store.dir()))
        };
        let mut threads = vec![spawn("ledger-writer", Box::new(move || writer.run()))?];
        if let Some(publisher) = background {
            let shared = Arc::clone(&shared);
            threads.push(spawn("ledger-publisher", Box::new(move || publish::run(&shared, publisher)))?);
        }
        *shared.threads.lock().unwrap_or_else(PoisonError::into_inner) = threads;
        Ok(Self { shared })
    }

    /// Takes a place for an action: its intent may then be appended, and its outcome will have room.
    ///
    /// Accounting only, no I/O. Dropping the slot gives the place back.
    ///
    /// # Errors
    /// [`AppendError::Overloaded`] if too many actions are open; [`AppendError::Failed`] and [`AppendError::Closed`].
    pub fn reserve(&self) -> Result<Slot, AppendError> {
        match &self.shared.state().phase {
            Phase::Open => {}
            Phase::Closing => return Err(AppendError::Closed),
            Phase::Failed(error) => return Err(error.clone()),
        }
        let limit = self.shared.config.slots as u64;
        match Arc::clone(&self.shared.slots).try_acquire_owned() {
            Ok(permit) => Ok(Slot { _permit: permit }),
            Err(_) => Err(AppendError::Overloaded { what: "open actions", limit }),
        }
    }

    /// Enqueues a record that promises nothing further. Never blocks; the order of calls is the order of the log.
    ///
    /// The answer is refused with [`AppendError::Overloaded`] if the queue is full.
    pub fn append(&self, entry: Entry) -> Pending {
        match entry.check(countersign_receipt::MAX_LEAF_BYTES) {
            Ok(()) => self.shared.enqueue(entry, None),
            Err(error) => Pending::refused(error),
        }
    }

    /// Enqueues records in one step: as many as fit a frame are committed together, and nothing comes between them.
    pub fn append_together(&self, entries: Vec<Entry>) -> Vec<Pending> {
        self.shared.enqueue_together(entries)
    }

    /// Enqueues an intent. It is committed only while there is room on the disk for the outcome of every open slot.
    pub fn append_intent(&self, _slot: &Slot, entry: Entry) -> Pending {
        self.append(entry)
    }

    /// Enqueues an outcome into the room that its slot holds: no full queue or full disk refuses it.
    ///
    /// The leaf is at most [`OUTCOME_LEAF_BYTES`]; a payload above [`OUTCOME_PAYLOAD_BYTES`] is stored if there is room,
    /// else left out, and [`Committed::payload_stored`] says so.
    pub fn append_outcome(&self, slot: Slot, entry: Entry) -> Pending {
        match entry.check(OUTCOME_LEAF_BYTES) {
            Ok(()) => self.shared.enqueue(entry, Some(slot)),
            Err(error) => Pending::refused(error),
        }
    }

    /// The newest durable tree.
    #[must_use]
    pub fn head(&self) -> TreeHead {
        self.shared.confirmed().head
    }

    /// The signed checkpoint of the newest durable tree.
    #[must_use]
    pub fn checkpoint(&self) -> String {
        self.shared.confirmed().note.to_string()
    }

    /// The size of the published checkpoint.
    #[must_use]
    pub fn published(&self) -> u64 {
        self.shared.state().published
    }

    /// Tells every confirmed size, the newest only: whoever is slow misses what came between.
    #[must_use]
    pub fn sizes(&self) -> tokio::sync::watch::Receiver<u64> {
        self.shared.sizes.subscribe()
    }

    /// The log's public key that is in force.
    #[must_use]
    pub fn verifier_key(&self) -> VerifierKey {
        self.shared.confirmed().keys.newest().clone()
    }

    /// The log's keys over time, from its first one on.
    #[must_use]
    pub fn keys(&self) -> Arc<KeyChain> {
        Arc::clone(&self.shared.confirmed().keys)
    }

    /// Has the signer make the key that may come next, or tells the one that it made. Blocks on the signer.
    ///
    /// # Errors
    /// [`SignError`] if it cannot, or a change is under way.
    pub fn next_key(&self) -> Result<VerifierKey, SignError> {
        self.shared.signer.next_key()
    }

    /// Enqueues the record that changes the log's key to `key`, the one that [`Ledger::next_key`] told.
    ///
    /// `leaf` makes the record from the old key's signed statement, on the writer's thread, in at most 8 KiB. It is
    /// committed under the old key; from the next commit on the new one signs.
    ///
    /// The answer is refused with [`AppendError::Signer`] if the signer does not state that key; nothing is changed then.
    pub fn rotate(&self, key: VerifierKey, leaf: impl FnOnce(&str) -> Vec<u8> + Send + 'static) -> Pending {
        let rotating = Rotating { key, leaf: Box::new(leaf) };
        let entry = Entry::new(vec![0; rotate::ROTATION_LEAF_BYTES]);
        self.shared.enqueue_rotating(entry, None, Some(rotating))
    }

    /// Why the ledger stopped, if it did.
    #[must_use]
    pub fn failure(&self) -> Option<AppendError> {
        match &self.shared.state().phase {
            Phase::Failed(error) => Some(error.clone()),
            Phase::Open | Phase::Closing => None,
        }
    }

    /// Reads a record back.
    ///
    /// # Errors
    /// [`ReadError`] if it is not confirmed or cannot be read.
    pub fn record(&self, index: u64) -> Result<StoredRecord, ReadError> {
        self.shared.record(index)
    }

    /// Records from `index` on, one frame in memory at a time.
    #[must_use]
    pub fn tail(&self, index: u64) -> Tail {
        Tail::new(Arc::clone(&self.shared), index)
    }

    /// What follows the log from where opening left it. There is one: a second time there is none.
    #[must_use]
    pub fn follower(&self) -> Option<Follower> {
        let taken = self.shared.follower.lock().unwrap_or_else(PoisonError::into_inner).take();
        taken.map(|(origin, synced)| Follower::new(Arc::clone(&self.shared), origin, synced))
    }

    /// Proves a record at the current size.
    ///
    /// # Errors
    /// [`ReadError`] if it is not confirmed or stored hashes are damaged.
    pub fn prove(&self, index: u64) -> Result<TlogProof, ReadError> {
        self.shared.prove(index)
    }

    /// Proves a record at the current size in CBOR, with a signature of its own. Asks the signer.
    ///
    /// # Errors
    /// [`ReadError`] if it is not confirmed, stored hashes are damaged, or the signer refuses.
    pub fn cose_receipt(&self, index: u64) -> Result<CoseReceipt, ReadError> {
        self.shared.cose_receipt(index)
    }

    /// Proves that the current tree extends the one of `old` records.
    ///
    /// # Errors
    /// [`ReadError`] if there never was such a tree or stored hashes are damaged.
    pub fn consistency(&self, old: u64) -> Result<Consistency, ReadError> {
        self.shared.consistency(old)
    }

    /// Blocks until all that was appended so far is answered and published, or `timeout` has passed.
    ///
    /// Returns whether everything is published.
    ///
    /// # Errors
    /// [`AppendError::Failed`] if the ledger stopped.
    pub fn flush(&self, timeout: Duration) -> Result<bool, AppendError> {
        let deadline = Instant::now() + timeout;
        let mut state = self.shared.state();
        loop {
            if let Phase::Failed(error) = &state.phase {
                return Err(error.clone());
            }
            let answered = state.waiting.is_empty() && !state.busy;
            if answered && state.published == state.confirmed.head.size {
                return Ok(true);
            }
            let Some(left) = deadline.checked_duration_since(Instant::now()) else {
                return Ok(false);
            };
            state.urgent = true;
            self.shared.news.notify_all();
            let step = left.min(Duration::from_millis(50));
            state = self.shared.settled.wait_timeout(state, step).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Writes what waits, publishes it if possible, syncs the mark, stops the threads and releases the lock.
    ///
    /// # Errors
    /// [`AppendError::Failed`] if the ledger had stopped or could not end cleanly. It is closed all the same.
    pub fn close(&self) -> Result<(), AppendError> {
        let mut state = self.shared.state();
        if matches!(state.phase, Phase::Open) {
            state.phase = Phase::Closing;
        }
        drop(state);
        self.shared.work.notify_all();
        self.shared.news.notify_all();
        let threads = std::mem::take(&mut *self.shared.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a ledger thread panicked");
            }
        }
        drop(self.shared.lock.lock().unwrap_or_else(PoisonError::into_inner).take());
        self.failure().map_or(Ok(()), Err)
    }
}

/// What recovery leaves for service to start with.
struct Start {
    lock: Box<dyn DiskLock>,
    mark: Mark,
    scan: Scan,
    note: Arc<str>,
    keys: KeyChain,
    change: Change,
    begin: Option<Arc<Base>>,
}

fn own_signer(store: &Store) -> Result<Arc<dyn Signer>, OpenError> {
    let names = match store.disk().list(store.dir()) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        names => names.map_err(OpenError::io("list", store.dir()))?,
    };
    for missing in ["log.key", "log.vkey"] {
        if !names.iter().any(|name| name == missing) {
            return Err(OpenError::NotALedger { dir: store.dir().to_path_buf(), missing });
        }
    }
    Ok(signer::shared(LocalSigner::load(store)?))
}

fn take_lock(store: &Store) -> Result<Box<dyn DiskLock>, OpenError> {
    store.disk().lock(&store.lock()).map_err(|error| match error.kind() {
        std::io::ErrorKind::WouldBlock => OpenError::InUse { dir: store.dir().to_path_buf() },
        _ => OpenError::io("lock", store.lock())(error),
    })
}

fn open_mark(store: &Store) -> Result<(Mark, TreeHead), OpenError> {
    let refused = |state| OpenError::Mark { path: store.mark(), state };
    match Mark::open(&store.mark_file()) {
        Ok(Some(found)) => Ok(found),
        Ok(None) => Err(refused("damaged")),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(refused("missing")),
        Err(error) => Err(OpenError::io("read", store.mark())(error)),
    }
}

/// The checkpoint to start with: the last frame's, or a fresh one of the empty tree.
fn first_note(store: &Store, signer: &dyn Signer, keys: &KeyChain, scan: &Scan) -> Result<Arc<str>, OpenError> {
    if let Some(note) = &scan.note {
        return Ok(Arc::clone(note));
    }
    let key = keys.newest();
    change::is_in_force(&signer.verifier_key(), keys, store)?;
    let checkpoint = Checkpoint { origin: key.name().to_owned(), size: scan.head.size, root: scan.head.root };
    let signature =
        signer.sign(&checkpoint, &signer::Beginning).map_err(|error| change::refused(&error, &scan.head))?;
    Ok(Note::render(&checkpoint.signed_body(), key, &signature).into())
}

fn open_segment(store: &Store, scan: &Scan) -> Result<Segment, OpenError> {
    let (first, offset) = scan.last.unwrap_or((0, 0));
    let path = store.segment(first);
    let mode = if scan.last.is_some() { Mode::Edit } else { Mode::New(Access::Private) };
    let file = store.disk().open(&path, mode).map_err(OpenError::io("open", &path))?;
    if scan.last.is_none() {
        let segments = store.segments();
        store.disk().sync_dir(&segments).map_err(OpenError::io("sync", segments))?;
    }
    let allocated = file.size().map_err(OpenError::io("read", &path))?;
    Ok(Segment { file, path, offset, allocated })
}
