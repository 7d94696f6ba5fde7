//! The public folder: names and contents of tiles and entry bundles, C2SP tlog-tiles.
//!
//! It must not know segments. It does not write files (`publish` does).

use countersign_receipt::Hash;

use crate::tree::{Edge, FullTile, TILE_WIDTH};

#[cfg(test)]
mod tests;

/// A file of the public folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PublicFile {
    /// Its path below `public/`.
    pub(crate) path: String,
    pub(crate) bytes: Vec<u8>,
}

/// The path of a tile of hashes; a width below 256 names a partial tile.
pub(crate) fn hash_path(level: u8, number: u64, width: u64) -> String {
    format!("tile/{level}/{}", name(number, width))
}

/// The path of a bundle of entries.
pub(crate) fn entries_path(number: u64, width: u64) -> String {
    format!("tile/entries/{}", name(number, width))
}

/// Three digits to a folder, every folder but the last marked with `x`: 1234067 is `x001/x234/067`.
fn name(number: u64, width: u64) -> String {
    let mut path = format!("{:03}", number % 1000);
    let mut rest = number / 1000;
    while rest > 0 {
        path = format!("x{:03}/{path}", rest % 1000);
        rest /= 1000;
    }
    if width < TILE_WIDTH { format!("{path}.p/{width}") } else { path }
}

/// Adds an entry to a bundle: its length in two bytes, big-endian, then itself.
pub(crate) fn push_entry(bundle: &mut Vec<u8>, leaf: &[u8]) {
    bundle.extend_from_slice(&u16::try_from(leaf.len()).unwrap_or(u16::MAX).to_be_bytes());
    bundle.extend_from_slice(leaf);
}

/// Takes a bundle apart; `None` if a length does not fit.
pub(crate) fn split_entries(bundle: &[u8]) -> Option<Vec<&[u8]>> {
    let mut rest = bundle;
    let mut entries = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk::<2>() {
        let (entry, after) = after.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        entries.push(entry);
        rest = after;
    }
    rest.is_empty().then_some(entries)
}

/// Turns leaves into public files, holding only what is not full yet.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tiler {
    pub(crate) edge: Edge,
    bundle: Vec<u8>,
}

impl Tiler {
    /// Goes on from an edge and the begun bundle that belongs to it.
    pub(crate) const fn restore(edge: Edge, bundle: Vec<u8>) -> Self {
        Self { edge, bundle }
    }

    /// The begun bundle.
    pub(crate) fn bundle(&self) -> &[u8] {
        &self.bundle
    }

    pub(crate) fn size(&self) -> u64 {
        self.edge.size()
    }

    /// Appends a leaf and reports the files that it completes.
    pub(crate) fn push(&mut self, leaf: &[u8], full: &mut Vec<PublicFile>) {
        self.push_hashed(leaf, countersign_receipt::merkle::leaf_hash(leaf), full);
    }

    /// As [`Tiler::push`], for a leaf whose hash is known.
    pub(crate) fn push_hashed(&mut self, leaf: &[u8], hash: Hash, full: &mut Vec<PublicFile>) {
        let mut tiles = Vec::new();
        self.edge.push(hash, &mut tiles);
        push_entry(&mut self.bundle, leaf);
        if self.size().is_multiple_of(TILE_WIDTH) {
            let path = entries_path(self.size() / TILE_WIDTH - 1, TILE_WIDTH);
            full.push(PublicFile { path, bytes: std::mem::take(&mut self.bundle) });
        }
        full.extend(tiles.iter().map(|FullTile { level, number, tile }| PublicFile {
            path: hash_path(*level, *number, TILE_WIDTH),
            bytes: tile.bytes(),
        }));
    }

    /// The partial files at this size.
    pub(crate) fn partial(&self) -> Vec<PublicFile> {
        let mut files = Vec::new();
        let width = self.size() % TILE_WIDTH;
        if width > 0 {
            files.push(PublicFile { path: entries_path(self.size() / TILE_WIDTH, width), bytes: self.bundle.clone() });
        }
        files.extend(self.edge.partial().map(|(level, number, tile)| {
            let bytes = tile.bytes();
            PublicFile { path: hash_path(level, number, bytes.len() as u64 / 32), bytes }
        }));
        files
    }
}
