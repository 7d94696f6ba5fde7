//! Pruning: a log that is kept from some record on, as C2SP tlog-tiles has it with its minimum index.
//!
//! First everything is written that the rest of the log needs to stand without what goes: the base, and durably those
//! public tiles that could not be made again. Then, once a record commits to the base, whole segments go, and of the
//! public folder the bundles and leaf tiles that are wholly below the minimum; tiles of higher levels stay, so every proof
//! between records and trees at or above it can still be made. Deleting twice is deleting once: a start after a crash
//! does it again. It must not know what records say, so not whether something may go.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use countersign_receipt::HashReader as _;
use countersign_receipt::merkle::node_hash;

use crate::Ledger;
use crate::base::{self, Base};
use crate::disk::{Disk, Mode, read_file};
use crate::read::{PublishedHashes, ReadError, StoredRecord};
use crate::segment;
use crate::snapshot::{self, Follower, Origin, SnapshotError};
use crate::store::Store;
use crate::tile::{Tiler, hash_path};
use crate::tree::{Edge, TILE_HEIGHT, TILE_WIDTH, Tile};

impl Ledger {
    /// The first record that is kept.
    #[must_use]
    pub fn minimum(&self) -> u64 {
        self.shared.minimum()
    }

    /// What a pruned log begins with.
    #[must_use]
    pub fn base(&self) -> Option<Arc<Base>> {
        self.shared.base()
    }

    /// Where the log can be cut: the first record of each segment, the first of which is the first that is on disk.
    ///
    /// # Errors
    /// As the disk says.
    pub fn cuts(&self) -> Result<Vec<u64>, ReadError> {
        Ok(segment::list(&self.shared.store)?)
    }

    /// What follows the log from the first record that is kept, and what the log begins with.
    ///
    /// # Errors
    /// As the disk says.
    pub fn refollow(&self) -> Result<(Follower, Option<Arc<Base>>), ReadError> {
        let damaged = |(_, what): (u64, String)| io::Error::new(io::ErrorKind::InvalidData, what);
        let loaded = base::begin(&self.shared.store).map_err(damaged)?;
        let whole = (Origin { tiler: Tiler::default(), segment: 0, offset: 0 }, None);
        let (origin, base) = loaded.map_or(whole, |loaded| (loaded.origin, Some(loaded.base)));
        let synced = origin.tiler.size();
        Ok((Follower::new(Arc::clone(&self.shared), origin, synced), base))
    }

    /// The base of a log that begins at record `minimum`, whether or not it does yet.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    pub fn base_at(&self, minimum: u64) -> Result<Arc<Base>, String> {
        base::load(&self.shared.store, minimum).map(|loaded| loaded.base)
    }

    /// Deletes what lies before record `minimum`, whose base is durable and on record. Does nothing that is done already.
    /// Whatever follows the log must be past it.
    ///
    /// # Errors
    /// Why the base does not hold, then nothing was deleted; or as the disk says: call it again, or start again.
    pub fn prune(&self, minimum: u64) -> io::Result<()> {
        let store = &self.shared.store;
        let invalid = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
        let base = base::load(store, minimum).map_err(invalid)?.base;
        let firsts = segment::list(store)?;
        if !firsts.contains(&minimum) {
            return Err(invalid(format!("no segment begins with record `{minimum}`")));
        }
        self.shared.begin_at(Some(base));
        snapshot::remove_below(store, minimum)?;
        for first in firsts.into_iter().filter(|first| *first < minimum) {
            store.disk().remove(&store.segment(first))?;
            // One after the other, so that what a power loss leaves has no hole.
            store.disk().sync_dir(&store.segments())?;
        }
        sweep(store, minimum)?;
        base::remove_others(store, Some(minimum))
    }

    /// Removes every base that no record commits to: all of them, or all but that of record `kept`.
    ///
    /// # Errors
    /// As the disk says.
    pub fn forget_bases(&self, kept: Option<u64>) -> io::Result<()> {
        base::remove_others(&self.shared.store, kept)
    }
}

impl Follower {
    /// Writes the base of a log that begins where this follower stands, at the first record of a segment. `state` is the
    /// fold of all before it, `carried` the records that it points to.
    ///
    /// It counts only once a later record commits to the state, and nothing is deleted here.
    ///
    /// # Errors
    /// [`SnapshotError`]; the log is not affected.
    pub fn save_base(&mut self, state: &[u8], carried: &[StoredRecord]) -> Result<(), SnapshotError> {
        let size = self.size();
        let published = self.shared.state().published;
        if published < size {
            return Err(SnapshotError::Unpublished { published, size });
        }
        let store = &self.shared.store;
        let origin = Origin { tiler: self.origin.tiler.clone(), segment: size, offset: 0 };
        let public = store.public();
        let mut last = public.clone();
        let mut sync = |path: &Path| {
            store.disk().open(path, Mode::Read)?.sync_data()?;
            sync_dirs(store.disk(), &public, path, &mut last)
        };
        for_kept_tiles(store.disk(), &public, &origin.tiler.edge, &mut sync)
            .map_err(|(path, source)| SnapshotError::Io { path, source })?;
        // The published checkpoint must not fall back to one that is smaller than what is kept.
        store.disk().sync_dir(&public).map_err(|source| SnapshotError::Io { path: public.clone(), source })?;
        base::save(store, &origin, state, carried)
    }
}

/// Syncs the directories between a file and the public folder, unless they are those of the file before.
fn sync_dirs(disk: &dyn Disk, public: &Path, path: &Path, last: &mut PathBuf) -> io::Result<()> {
    let dir = path.parent().unwrap_or(public);
    if *last != dir {
        dir.ancestors().take_while(|dir| dir.starts_with(public)).try_for_each(|dir| disk.sync_dir(dir))?;
        *last = dir.to_path_buf();
    }
    Ok(())
}

/// Checks those full tiles that stay although all that lies under them is pruned, from the edge downwards, and hands each
/// to `each`. They are what no start can make again.
pub(crate) fn for_kept_tiles(
    disk: &dyn Disk,
    public: &Path,
    edge: &Edge,
    each: &mut dyn FnMut(&Path) -> io::Result<()>,
) -> Result<(), (PathBuf, io::Error)> {
    let hashes = PublishedHashes { disk, public, edge };
    for level in (1..Edge::levels_of(edge.size())).rev() {
        let above = TILE_HEIGHT * (level + 1);
        for number in 0..edge.size() >> above {
            let path = public.join(hash_path(level, number, TILE_WIDTH));
            let mut check = || {
                let bytes = read_file(disk, &path, 32 * TILE_WIDTH)?;
                let tile = Tile::from_bytes(&bytes).unwrap_or_default();
                let halves = tile.hash(TILE_HEIGHT - 1, 0).zip(tile.hash(TILE_HEIGHT - 1, 1));
                let found = halves.map(|(left, right)| node_hash(&left, &right));
                if found != Some(hashes.hash(above, number)?) {
                    let what = "differs from what the records after it lead to";
                    return Err(io::Error::new(io::ErrorKind::InvalidData, what));
                }
                each(&path)
            };
            check().map_err(|error| (path.clone(), error))?;
        }
    }
    Ok(())
}

/// Bundles of entries, and tiles of their hashes: what goes with the records.
const LEAVES: [&str; 2] = ["tile/entries", "tile/0"];

/// Removes bundles and leaf tiles that are wholly below `minimum`.
fn sweep(store: &Store, minimum: u64) -> io::Result<()> {
    let disk = store.disk();
    for root in LEAVES {
        let mut folder = Folder { disk, limit: minimum / TILE_WIDTH, found: Vec::new(), entered: Vec::new() };
        folder.read(&store.public().join(root), 0)?;
        for (_, path, is_partial) in &folder.found {
            if *is_partial {
                disk.list(path)?.iter().try_for_each(|name| disk.remove(&path.join(name)))?;
                disk.remove_dir(path)?;
            } else {
                disk.remove(path)?;
            }
        }
        for dir in folder.entered {
            if disk.list(&dir)?.is_empty() {
                disk.remove_dir(&dir)?;
            }
        }
    }
    Ok(())
}

/// The number of the first bundle of entries, or of the first tile of their hashes, that a public folder has.
pub(crate) fn first_bundle(disk: &dyn Disk, public: &Path) -> io::Result<Option<u64>> {
    let mut folder = Folder { disk, limit: u64::MAX, found: Vec::new(), entered: Vec::new() };
    LEAVES.iter().try_for_each(|root| folder.read(&public.join(root), 0))?;
    Ok(folder.found.iter().map(|(number, ..)| *number).min())
}

/// Files of one kind in the public folder, by number.
struct Folder<'a> {
    disk: &'a dyn Disk,
    /// Numbers from here on are not looked for.
    limit: u64,
    /// Number, path, and whether it is a folder of partial ones.
    found: Vec<(u64, PathBuf, bool)>,
    /// The directories that were read for it, inner ones first.
    entered: Vec<PathBuf>,
}

impl Folder<'_> {
    /// Reads a directory whose names go on from the digits that `prefix` stands for.
    fn read(&mut self, dir: &Path, prefix: u64) -> io::Result<()> {
        let names = match self.disk.list(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            names => names?,
        };
        for name in names {
            let (digits, is_partial) = name.strip_suffix(".p").map_or((name.as_str(), false), |digits| (digits, true));
            let (digits, is_folder) = digits.strip_prefix('x').map_or((digits, false), |digits| (digits, true));
            let number = (digits.len() == 3).then(|| digits.parse::<u64>().ok()).flatten();
            let Some(number) = number.map(|number| prefix.saturating_mul(1000).saturating_add(number)) else {
                continue;
            };
            let path = dir.join(&name);
            if is_folder && number.saturating_mul(1000) < self.limit {
                self.read(&path, number)?;
                self.entered.push(path);
            } else if !is_folder && number < self.limit {
                self.found.push((number, path, is_partial));
            }
        }
        Ok(())
    }
}
