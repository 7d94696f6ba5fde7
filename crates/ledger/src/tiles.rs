//! Reading published tiles from outside of the ledger: a folder, a web server, whatever hands out bytes by path.
//!
//! C2SP tlog-tiles. A partial tile that is gone has become a full one, so the full one is asked then. What is read is
//! believed by nobody: whoever builds proofs from it checks them against a signed root. It must not know how bytes are
//! fetched. It does not cover entry bundles.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;

use countersign_receipt::{Hash, HashReader};

use crate::tile::hash_path;
use crate::tree::{TILE_WIDTH, Tile, place};

/// The tiles of a tree of one size.
pub struct TileReader<F> {
    size: u64,
    fetch: F,
    read: RefCell<BTreeMap<(u8, u64), Tile>>,
}

impl<F: Fn(&str) -> io::Result<Vec<u8>>> TileReader<F> {
    /// Reads tiles of the tree of `size` leaves through `fetch`, which gets paths such as `tile/0/x001/067`.
    pub const fn new(size: u64, fetch: F) -> Self {
        Self { size, fetch, read: RefCell::new(BTreeMap::new()) }
    }

    fn tile(&self, level: u8, number: u64) -> io::Result<Tile> {
        let hashes = self.size.checked_shr(8 * u32::from(level)).unwrap_or(0);
        let width = hashes.saturating_sub(number.saturating_mul(TILE_WIDTH)).min(TILE_WIDTH);
        let full = || (self.fetch)(&hash_path(level, number, TILE_WIDTH));
        let bytes = match (self.fetch)(&hash_path(level, number, width)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && width < TILE_WIDTH => full()?,
            read => read?,
        };
        let wanted = usize::try_from(width.saturating_mul(32)).unwrap_or(usize::MAX);
        let tile = bytes.get(..wanted).and_then(Tile::from_bytes);
        tile.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a tile is too short"))
    }
}

impl<F: Fn(&str) -> io::Result<Vec<u8>>> HashReader for TileReader<F> {
    type Error = io::Error;

    fn hash(&self, level: u8, index: u64) -> io::Result<Hash> {
        let (tile_level, number, row, at) = place(level, index);
        let missing = || io::Error::new(io::ErrorKind::InvalidData, "a tile is too short");
        if let Some(tile) = self.read.borrow().get(&(tile_level, number)) {
            return tile.hash(row, at).ok_or_else(missing);
        }
        let tile = self.tile(tile_level, number)?;
        let hash = tile.hash(row, at);
        self.read.borrow_mut().insert((tile_level, number), tile);
        hash.ok_or_else(missing)
    }
}
