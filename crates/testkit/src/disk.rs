//! A disk in memory that can fail at any step and lose power: what the ledger's promises are tested on.
//!
//! Each file has durable bytes and the writes since its last sync; a power loss keeps, tears or loses each of those by
//! itself, as the seed says. A name made by creating, renaming or removing is durable once its directory was synced,
//! until then it may be kept or lost. Everything is deterministic. It must not know what is stored. It does not model
//! directories that get lost, faults of reading, bit rot (tests flip bytes themselves) and more than one process.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use countersign_ledger::Disk;
use countersign_ledger::disk::{DiskFile, DiskLock, Mode};

/// The unit in which a torn write is kept or lost, in bytes.
const SECTOR: usize = 512;

/// What goes wrong at one operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// An error, and nothing was done.
    Error,
    /// An error, and yet it was done. A sync then made everything durable.
    ErrorButDone,
    /// An error; a write was done by half, anything else not at all.
    Torn,
    /// The disk is full.
    Full,
    /// The process ends before the operation; every later one fails.
    Crash,
    /// The process ends during the operation: a write is done by half, anything else wholly.
    CrashDuring,
}

#[derive(Debug, Clone)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Length(usize),
}

#[derive(Debug, Clone, Default)]
struct Inode {
    bytes: Vec<u8>,
    durable: Vec<u8>,
    /// Since the last sync, in order.
    changes: Vec<Change>,
    syncs: u64,
}

#[derive(Debug, Clone, Default)]
struct State {
    names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
    dirs: BTreeSet<PathBuf>,
    inodes: BTreeMap<u64, Inode>,
    next_inode: u64,
    ops: u64,
    faults: BTreeMap<u64, Fault>,
    /// By inode.
    faults_on: BTreeMap<u64, Fault>,
    crashed: bool,
    capacity: Option<u64>,
    read_only: bool,
    sync_takes: Duration,
    locks: BTreeMap<PathBuf, Weak<()>>,
}

/// A disk in memory; clones are the same disk.
#[derive(Debug, Clone, Default)]
pub struct FakeDisk {
    state: Arc<Mutex<State>>,
}

impl FakeDisk {
    /// An empty disk without faults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many operations that change or sync something were asked for so far. Reads do not count.
    #[must_use]
    pub fn ops(&self) -> u64 {
        self.lock_state().ops
    }

    /// Plans a fault for the operation with this number; the first is 0.
    pub fn fault_at(&self, op: u64, fault: Fault) {
        self.lock_state().faults.insert(op, fault);
    }

    /// Plans a fault for the next operation on this file that changes or syncs it, whatever else goes on meanwhile.
    pub fn fault_on(&self, path: &Path, fault: Fault) {
        let mut state = self.lock_state();
        if let Some(inode) = state.names.get(path).copied() {
            state.faults_on.insert(inode, fault);
        }
    }

    /// Whether any fault is planned.
    #[must_use]
    pub fn has_faults(&self) -> bool {
        !self.lock_state().faults.is_empty()
    }

    /// Bounds the bytes of all files together; `None` takes the bound away.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.lock_state().capacity = bytes;
    }

    /// Makes the file system read-only, or writable again. Files that are open stay so.
    pub fn set_read_only(&self, read_only: bool) {
        self.lock_state().read_only = read_only;
    }

    /// How long every sync of a file takes from now on.
    pub fn set_sync_time(&self, takes: Duration) {
        self.lock_state().sync_takes = takes;
    }

    /// The bytes of all files together.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.lock_state().used()
    }

    /// Ends the process: every operation fails from now on.
    pub fn crash(&self) {
        self.lock_state().crashed = true;
    }

    /// Whether a planned crash has happened.
    #[must_use]
    pub fn is_crashed(&self) -> bool {
        self.lock_state().crashed
    }

    /// What the next process finds after a crash of the last one: everything that was written.
    #[must_use]
    pub fn process_crash_image(&self) -> Self {
        let mut state = self.lock_state().clone();
        state.reset();
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// What the machine finds after a power loss: what was synced, and of the rest what the seed leaves.
    #[must_use]
    pub fn crash_image(&self, seed: u64) -> Self {
        let mut state = self.lock_state().clone();
        let mut random = Random(seed);
        state.reset();
        let paths: BTreeSet<PathBuf> = state.names.keys().chain(state.durable_names.keys()).cloned().collect();
        let mut names = BTreeMap::new();
        for path in paths {
            let (new, old) = (state.names.get(&path), state.durable_names.get(&path));
            let kept = if new != old && random.below(2) == 0 { old } else { new };
            names.extend(kept.map(|inode| (path, *inode)));
        }
        for inode in state.inodes.values_mut() {
            inode.lose_power(&mut random);
        }
        state.durable_names.clone_from(&names);
        state.names = names;
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// The bytes of a file; none if there is no such file.
    #[must_use]
    pub fn bytes(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.lock_state();
        state.names.get(path).and_then(|inode| state.inodes.get(inode)).map(|inode| inode.bytes.clone())
    }

    /// Puts a file there, behind the back of who uses the disk; it is durable at once.
    pub fn plant(&self, path: &Path, bytes: &[u8]) {
        let mut state = self.lock_state();
        let id = state.next_inode;
        state.next_inode += 1;
        state
            .inodes
            .insert(id, Inode { bytes: bytes.to_vec(), durable: bytes.to_vec(), changes: Vec::new(), syncs: 0 });
        state.names.insert(path.to_path_buf(), id);
        state.durable_names.insert(path.to_path_buf(), id);
        let dirs: Vec<_> = path.ancestors().skip(1).map(Path::to_path_buf).collect();
        state.dirs.extend(dirs);
    }

    /// Takes a file away, behind the back of who uses the disk.
    pub fn snatch(&self, path: &Path) {
        let mut state = self.lock_state();
        state.names.remove(path);
        state.durable_names.remove(path);
    }

    /// The paths of all files, sorted.
    #[must_use]
    pub fn paths(&self) -> Vec<PathBuf> {
        self.lock_state().names.keys().cloned().collect()
    }

    /// The bytes of all files, by path.
    #[must_use]
    pub fn contents(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let state = self.lock_state();
        let bytes = |(path, inode): (&PathBuf, &u64)| Some((path.clone(), state.inodes.get(inode)?.bytes.clone()));
        state.names.iter().filter_map(bytes).collect()
    }

    /// How often a file was synced.
    #[must_use]
    pub fn syncs(&self, path: &Path) -> u64 {
        let state = self.lock_state();
        state.names.get(path).and_then(|inode| state.inodes.get(inode)).map_or(0, |inode| inode.syncs)
    }

    /// The paths of all files in which these bytes stand, sorted.
    #[must_use]
    pub fn holding(&self, bytes: &[u8]) -> Vec<PathBuf> {
        let state = self.lock_state();
        let holds = |inode: &u64| {
            state.inodes.get(inode).is_some_and(|inode| inode.bytes.windows(bytes.len().max(1)).any(|at| at == bytes))
        };
        state.names.iter().filter(|(_, inode)| holds(inode)).map(|(path, _)| path.clone()).collect()
    }

    fn lock_state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether and how an operation is to be done.
enum Turn {
    Whole,
    /// Do it, then fail.
    WholeThenFail,
    HalfThenFail,
    Not(io::Error),
}

impl State {
    fn reset(&mut self) {
        self.faults.clear();
        self.faults_on.clear();
        self.locks.clear();
        self.crashed = false;
        self.ops = 0;
    }

    fn used(&self) -> u64 {
        self.names.values().filter_map(|inode| self.inodes.get(inode)).map(|inode| inode.bytes.len() as u64).sum()
    }

    fn check_alive(&self) -> io::Result<()> {
        if self.crashed { Err(io::Error::other("injected: the process has ended")) } else { Ok(()) }
    }

    /// The next operation is one on this file.
    fn aim_at(&mut self, inode: u64) -> &mut Self {
        if let Some(fault) = self.faults_on.remove(&inode) {
            self.faults.insert(self.ops, fault);
        }
        self
    }

    fn turn(&mut self) -> Turn {
        if let Err(error) = self.check_alive() {
            return Turn::Not(error);
        }
        if self.read_only {
            return Turn::Not(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        let fault = self.faults.get(&self.ops).copied();
        self.ops += 1;
        match fault {
            None => Turn::Whole,
            Some(Fault::Error) => Turn::Not(injected()),
            Some(Fault::ErrorButDone) => Turn::WholeThenFail,
            Some(Fault::Torn) => Turn::HalfThenFail,
            Some(Fault::Full) => Turn::Not(io::ErrorKind::StorageFull.into()),
            Some(Fault::Crash) => {
                self.crashed = true;
                Turn::Not(injected())
            }
            Some(Fault::CrashDuring) => {
                self.crashed = true;
                Turn::HalfThenFail
            }
        }
    }

    /// Runs a change that can only be done wholly or not at all.
    fn change(&mut self, change: impl FnOnce(&mut Self) -> io::Result<()>) -> io::Result<()> {
        match self.turn() {
            Turn::Whole => change(self),
            Turn::Not(error) => Err(error),
            Turn::WholeThenFail => change(self).and(Err(injected())),
            Turn::HalfThenFail => {
                if self.crashed {
                    change(self)?;
                }
                Err(injected())
            }
        }
    }

    fn inode(&mut self, id: u64) -> io::Result<&mut Inode> {
        self.inodes.get_mut(&id).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn grow_to(&mut self, id: u64, length: usize) -> io::Result<()> {
        let grown = length.saturating_sub(self.inode(id)?.bytes.len()) as u64;
        if grown > 0 && self.capacity.is_some_and(|capacity| self.used() + grown > capacity) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    fn make(&mut self, path: &Path, empties: bool) -> io::Result<u64> {
        if let Some(id) = self.names.get(path).copied() {
            if empties {
                self.inode(id)?.apply(Change::Length(0));
            }
            return Ok(id);
        }
        if !path.parent().is_some_and(|parent| self.dirs.contains(parent)) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let id = self.next_inode;
        self.next_inode += 1;
        self.inodes.insert(id, Inode::default());
        self.names.insert(path.to_path_buf(), id);
        Ok(id)
    }
}

impl Inode {
    fn apply(&mut self, change: Change) {
        change.apply_to(&mut self.bytes);
        self.changes.push(change);
    }

    fn sync(&mut self) {
        self.syncs += 1;
        for change in self.changes.drain(..) {
            change.apply_to(&mut self.durable);
        }
    }

    fn lose_power(&mut self, random: &mut Random) {
        for change in std::mem::take(&mut self.changes) {
            match (random.below(3), change) {
                (0, _) => {}
                (1, Change::Write { offset, bytes }) => tear(&mut self.durable, offset, &bytes, random),
                (_, change) => change.apply_to(&mut self.durable),
            }
        }
        self.bytes.clone_from(&self.durable);
    }
}

impl Change {
    fn apply_to(&self, to: &mut Vec<u8>) {
        match self {
            Self::Length(length) => to.resize(*length, 0),
            Self::Write { offset, bytes } => {
                let end = offset + bytes.len();
                if to.len() < end {
                    to.resize(end, 0);
                }
                if let Some(place) = to.get_mut(*offset..end) {
                    place.copy_from_slice(bytes);
                }
            }
        }
    }
}

/// Keeps some sectors of a write, not necessarily the first ones.
fn tear(to: &mut Vec<u8>, offset: usize, bytes: &[u8], random: &mut Random) {
    let mut at = offset;
    let mut rest = bytes;
    while !rest.is_empty() {
        let (now, later) = rest.split_at(rest.len().min(SECTOR - at % SECTOR));
        if random.below(2) == 0 {
            Change::Write { offset: at, bytes: now.to_vec() }.apply_to(to);
        }
        at += now.len();
        rest = later;
    }
}

fn injected() -> io::Error {
    io::Error::other("injected")
}

/// SplitMix64: small, seeded, the same everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % bound
    }
}

impl Disk for FakeDisk {
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let state = self.lock_state();
        state.check_alive()?;
        if !state.dirs.contains(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let paths = state.names.keys().chain(&state.dirs).filter(|path| path.parent() == Some(dir));
        let names: BTreeSet<String> =
            paths.filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned())).collect();
        Ok(names.into_iter().collect())
    }

    fn create_dir(&self, dir: &Path, _access: countersign_ledger::disk::Access) -> io::Result<()> {
        self.lock_state().change(|state| {
            state.dirs.extend(dir.ancestors().map(Path::to_path_buf));
            Ok(())
        })
    }

    fn open(&self, path: &Path, mode: Mode) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.lock_state();
        state.check_alive()?;
        let exists = state.names.get(path).copied();
        match (mode, exists) {
            (Mode::Read | Mode::Edit, None) => return Err(io::ErrorKind::NotFound.into()),
            (Mode::New(_), Some(_)) => return Err(io::ErrorKind::AlreadyExists.into()),
            (Mode::Read | Mode::Edit, Some(_)) => {}
            (Mode::New(_) | Mode::Replace(_), _) => state.change(|state| state.make(path, true).map(drop))?,
        }
        let inode = state.names.get(path).copied().ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(FakeFile { disk: self.clone(), inode }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.lock_state().change(|state| {
            let inode = state.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
            state.names.insert(to.to_path_buf(), inode);
            Ok(())
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.lock_state()
            .change(|state| state.names.remove(path).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into()))
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        self.lock_state().change(|state| {
            state.dirs.remove(dir);
            Ok(())
        })
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.lock_state().change(|state| {
            state.durable_names.retain(|path, _| path.parent() != Some(dir));
            let synced = state.names.iter().filter(|(path, _)| path.parent() == Some(dir));
            let synced: Vec<_> = synced.map(|(path, inode)| (path.clone(), *inode)).collect();
            state.durable_names.extend(synced);
            Ok(())
        })
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        let mut state = self.lock_state();
        state.check_alive()?;
        if state.locks.get(path).is_some_and(|lock| lock.strong_count() > 0) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let lock = Arc::new(());
        state.locks.insert(path.to_path_buf(), Arc::downgrade(&lock));
        Ok(Box::new(FakeLock { _held: lock }))
    }
}

struct FakeLock {
    _held: Arc<()>,
}

impl DiskLock for FakeLock {}

struct FakeFile {
    disk: FakeDisk,
    inode: u64,
}

impl DiskFile for FakeFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut state = self.disk.lock_state();
        state.check_alive()?;
        let bytes = &state.inode(self.inode)?.bytes;
        let rest = usize::try_from(offset).ok().and_then(|offset| bytes.get(offset..)).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
        Ok(count)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.disk.lock_state();
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        let half = bytes.get(..bytes.len() / 2).unwrap_or_default();
        let (part, result) = match state.aim_at(self.inode).turn() {
            Turn::Whole => (bytes, Ok(())),
            Turn::Not(error) => return Err(error),
            Turn::WholeThenFail => (bytes, Err(injected())),
            Turn::HalfThenFail => (half, Err(injected())),
        };
        state.grow_to(self.inode, offset + part.len())?;
        state.inode(self.inode)?.apply(Change::Write { offset, bytes: part.to_vec() });
        result
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        let length = usize::try_from(length).map_err(io::Error::other)?;
        self.disk.lock_state().aim_at(self.inode).change(|state| {
            state.grow_to(self.inode, length)?;
            let inode = state.inode(self.inode)?;
            if inode.bytes.len() < length {
                inode.apply(Change::Length(length));
            }
            Ok(())
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        let takes = self.disk.lock_state().sync_takes;
        std::thread::sleep(takes);
        self.disk.lock_state().aim_at(self.inode).change(|state| {
            state.inode(self.inode)?.sync();
            Ok(())
        })
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        let length = usize::try_from(length).map_err(io::Error::other)?;
        self.disk.lock_state().aim_at(self.inode).change(|state| {
            state.inode(self.inode)?.apply(Change::Length(length));
            Ok(())
        })
    }

    fn size(&self) -> io::Result<u64> {
        let mut state = self.disk.lock_state();
        state.check_alive()?;
        Ok(state.inode(self.inode)?.bytes.len() as u64)
    }
}
