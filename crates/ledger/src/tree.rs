//! The growing edge of the tree: for each level of tiles the one that is not full yet.
//!
//! A tile is 256 hashes and the seven rows above them, so that proofs of fresh leaves are look-ups. Full tiles leave the
//! edge and are written by `publish`; memory is a few tiles whatever the log's size. It must not know files. It does not
//! cover proofs of old leaves (`read` fetches their tiles).

use std::sync::Arc;

use countersign_receipt::merkle::{self, TreeHead, node_hash};
use countersign_receipt::{Hash, HashReader};

#[cfg(test)]
mod tests;

/// How many hashes a full tile has.
pub(crate) const TILE_WIDTH: u64 = 256;
/// How many rows of the tree one tile spans.
pub(crate) const TILE_HEIGHT: u8 = 8;

/// A hash that is not in the tiles at hand: a defect, or damaged tiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("hash {index} of level {level} is not at hand")]
pub(crate) struct Missing {
    pub(crate) level: u8,
    pub(crate) index: u64,
}

/// One tile: row 0 holds its hashes, row `r` the complete subtrees of `2^r` of them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tile {
    rows: [Vec<Hash>; TILE_HEIGHT as usize],
}

impl Tile {
    /// Adds a hash; returns the tile's own hash once it is full.
    pub(crate) fn push(&mut self, hash: Hash) -> Option<Hash> {
        let mut hash = hash;
        for row in &mut self.rows {
            row.push(hash);
            let (pairs, []) = row.as_chunks::<2>() else {
                return None;
            };
            let [left, right] = pairs.last()?;
            hash = node_hash(left, right);
        }
        Some(hash)
    }

    pub(crate) fn hash(&self, row: u8, index: u64) -> Option<Hash> {
        self.rows.get(usize::from(row))?.get(usize::try_from(index).ok()?).copied()
    }

    /// Row 0 as it lies in a tile file.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let hashes = self.rows.first().map_or(&[][..], Vec::as_slice);
        let mut bytes = Vec::with_capacity(hashes.len() * Hash::BYTES);
        hashes.iter().for_each(|hash| bytes.extend_from_slice(hash.as_bytes()));
        bytes
    }

    /// Reads a tile file; `None` if it is not whole hashes.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut tile = Self::default();
        let (hashes, []) = bytes.as_chunks::<32>() else {
            return None;
        };
        for hash in hashes {
            tile.push(Hash::new(*hash));
        }
        Some(tile)
    }

    /// How many hashes it has.
    fn len(&self) -> u64 {
        self.rows.first().map_or(0, |row| row.len() as u64)
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A full tile and its place.
#[derive(Debug, Clone)]
pub(crate) struct FullTile {
    pub(crate) level: u8,
    pub(crate) number: u64,
    pub(crate) tile: Arc<Tile>,
}

/// The tile and the row in it that hold the complete subtree `index` of `level`.
pub(crate) fn place(level: u8, index: u64) -> (u8, u64, u8, u64) {
    let row = level % TILE_HEIGHT;
    let width = TILE_HEIGHT - row;
    (level / TILE_HEIGHT, index >> width, row, index & ((1 << width) - 1))
}

/// The tiles at the right edge, level by level. Cheap to clone: the tiles are shared until one grows.
#[derive(Debug, Clone, Default)]
pub(crate) struct Edge {
    size: u64,
    levels: Vec<Arc<Tile>>,
}

impl Edge {
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// How many levels of tiles a tree of `size` leaves has begun.
    pub(crate) fn levels_of(size: u64) -> u8 {
        let mut levels = 0;
        let mut rest = size;
        while rest > 0 {
            rest /= TILE_WIDTH;
            levels += 1;
        }
        levels
    }

    /// Row 0 of the tile at the edge of each level, as it lies in a file.
    pub(crate) fn rows(&self) -> impl Iterator<Item = Vec<u8>> {
        let levels = usize::from(Self::levels_of(self.size));
        (0..levels).map(|level| self.levels.get(level).map(|tile| tile.bytes()).unwrap_or_default())
    }

    /// The edge of a tree of `size` leaves; `None` if these tiles are not as full as they must be.
    pub(crate) fn restore(size: u64, tiles: Vec<Tile>) -> Option<Self> {
        let mut rest = size;
        for tile in &tiles {
            if tile.len() != rest % TILE_WIDTH {
                return None;
            }
            rest /= TILE_WIDTH;
        }
        (rest == 0).then(|| Self { size, levels: tiles.into_iter().map(Arc::new).collect() })
    }

    /// Appends a leaf hash and reports the tiles that it fills.
    pub(crate) fn push(&mut self, leaf: Hash, full: &mut Vec<FullTile>) {
        let mut hash = leaf;
        let mut level = 0;
        loop {
            let at = usize::from(level);
            if self.levels.len() == at {
                self.levels.push(Arc::default());
            }
            let Some(tile) = self.levels.get_mut(at) else { break };
            let Some(filled) = Arc::make_mut(tile).push(hash) else { break };
            let number = self.size >> (TILE_HEIGHT * (level + 1));
            full.push(FullTile { level, number, tile: std::mem::take(tile) });
            hash = filled;
            level += 1;
        }
        self.size += 1;
    }

    pub(crate) fn head(&self) -> Result<TreeHead, Missing> {
        let root = merkle::root(self, self.size).map_err(|error| match error {
            merkle::BuildError::Read(missing) => missing,
            merkle::BuildError::Impossible(_) => Missing { level: 0, index: self.size },
        })?;
        Ok(TreeHead { size: self.size, root })
    }

    /// The tiles that are begun: level, number, tile.
    pub(crate) fn partial(&self) -> impl Iterator<Item = (u8, u64, &Tile)> {
        (0..).zip(&self.levels).filter(|(_, tile)| !tile.is_empty()).map(|(level, tile)| {
            let number = self.size >> (TILE_HEIGHT * (level + 1));
            (level, number, tile.as_ref())
        })
    }

    fn tile(&self, level: u8, number: u64) -> Option<&Tile> {
        let shift = u32::from(TILE_HEIGHT) * (u32::from(level) + 1);
        let edge = self.size.checked_shr(shift).unwrap_or(0);
        self.levels.get(usize::from(level)).filter(|_| number == edge).map(AsRef::as_ref)
    }
}

impl HashReader for Edge {
    type Error = Missing;

    fn hash(&self, level: u8, index: u64) -> Result<Hash, Missing> {
        let (tile_level, number, row, at) = place(level, index);
        self.tile(tile_level, number).and_then(|tile| tile.hash(row, at)).ok_or(Missing { level, index })
    }
}

/// The edge after a batch, and the tiles that the batch filled: enough to prove every leaf of the batch.
#[derive(Debug, Clone)]
pub(crate) struct BatchTiles {
    pub(crate) edge: Edge,
    pub(crate) full: Vec<FullTile>,
    /// The hashes over the ragged right side of the tree, by their first leaf: all proofs of a batch share them.
    ragged: Vec<(u64, Hash)>,
}

impl BatchTiles {
    /// An edge to look hashes up in; there is no batch to prove.
    pub(crate) fn of(edge: Edge) -> Self {
        Self { edge, full: Vec::new(), ragged: Vec::new() }
    }

    /// Goes on from `edge` with the leaves of one batch.
    pub(crate) fn grow(edge: &Edge, leaves: impl Iterator<Item = Hash>) -> Result<(Self, TreeHead), Missing> {
        let mut tiles = Self::of(edge.clone());
        leaves.for_each(|leaf| tiles.edge.push(leaf, &mut tiles.full));
        let size = tiles.edge.size();
        let mut end = size;
        let mut hash: Option<Hash> = None;
        while end > 0 {
            let level = end.trailing_zeros();
            end -= 1 << level;
            let subtree = tiles.hash(u8::try_from(level).unwrap_or(u8::MAX), end >> level)?;
            let right = hash.map_or(subtree, |right| node_hash(&subtree, &right));
            tiles.ragged.push((end, right));
            hash = Some(right);
        }
        Ok((tiles, TreeHead { size, root: hash.unwrap_or_else(merkle::empty_root) }))
    }

    /// The path that proves leaf `index` of the batch (RFC 9162, 2.1.3.1), mostly look-ups.
    pub(crate) fn path(&self, index: u64) -> Result<Vec<Hash>, Missing> {
        let size = self.edge.size();
        if index >= size {
            return Err(Missing { level: 0, index });
        }
        let mut path = Vec::with_capacity((u64::BITS - size.leading_zeros()) as usize);
        let (mut low, mut high) = (0, size);
        while high - low > 1 {
            let middle = low + (1 << (u64::BITS - 1 - (high - low - 1).leading_zeros()));
            let is_left = index < middle;
            let (from, to) = if is_left { (middle, high) } else { (low, middle) };
            path.push(self.range(from, to)?);
            (low, high) = if is_left { (low, middle) } else { (middle, high) };
        }
        path.reverse();
        Ok(path)
    }

    /// A complete subtree, or the ragged rest of the tree.
    fn range(&self, low: u64, high: u64) -> Result<Hash, Missing> {
        let length = high - low;
        if length.is_power_of_two() {
            let level = length.trailing_zeros();
            return self.hash(u8::try_from(level).unwrap_or(u8::MAX), low >> level);
        }
        let ragged = self.ragged.iter().find(|(first, _)| *first == low);
        ragged.map(|(_, hash)| *hash).ok_or(Missing { level: 0, index: low })
    }
}

impl HashReader for BatchTiles {
    type Error = Missing;

    fn hash(&self, level: u8, index: u64) -> Result<Hash, Missing> {
        let (tile_level, number, row, at) = place(level, index);
        let filled = self.full.iter().find(|full| full.level == tile_level && full.number == number);
        match filled {
            Some(full) => full.tile.hash(row, at).ok_or(Missing { level, index }),
            None => self.edge.hash(level, index),
        }
    }
}
