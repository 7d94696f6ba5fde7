//! The Merkle tree of RFC 6962 section 2.1 with SHA-256: hashes, roots, inclusion and consistency proofs.
//!
//! Made for both ends: the ledger appends to a [`Frontier`] and builds proofs over a [`HashReader`]; an auditor checks
//! them with [`verify_inclusion`] and [`verify_consistency`] (RFC 9162 sections 2.1.3.2 and 2.1.4.2). It must not know
//! where hashes are stored. It does not cover checkpoints: a root is only worth what its signature is worth.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

#[cfg(test)]
mod tests;

/// A SHA-256 hash: of a leaf, of an inner node, or of a whole tree.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash([u8; 32]);

impl Hash {
    /// The length of a hash in bytes.
    pub const BYTES: usize = 32;

    /// Wraps 32 bytes that are already a hash.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Reads exactly 32 bytes; `None` for any other length.
    #[must_use]
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        Some(Self(bytes.try_into().ok()?))
    }

    /// Reads the standard padded base64 form, and only its one canonical spelling.
    #[must_use]
    pub fn from_base64(text: &str) -> Option<Self> {
        Self::from_slice(&STANDARD.decode(text).ok()?)
    }

    /// The standard padded base64 form, as in checkpoints and proofs.
    #[must_use]
    pub fn to_base64(&self) -> String {
        STANDARD.encode(self.0)
    }

    /// The lower-case hexadecimal form.
    #[must_use]
    pub fn to_hex(&self) -> String {
        format!("{self:x}")
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_base64())
    }
}

impl fmt::LowerHex for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hash({self:x})")
    }
}

/// The hash of a leaf: `SHA-256(0x00 || leaf)`.
#[must_use]
pub fn leaf_hash(leaf: &[u8]) -> Hash {
    Hash(Sha256::new().chain_update([0]).chain_update(leaf).finalize().into())
}

/// The hash of an inner node: `SHA-256(0x01 || left || right)`.
#[must_use]
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    Hash(Sha256::new().chain_update([1]).chain_update(left.0).chain_update(right.0).finalize().into())
}

/// The root of the empty tree: `SHA-256("")`.
#[must_use]
pub fn empty_root() -> Hash {
    Hash(Sha256::digest([]).into())
}

/// Why a proof does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MerkleError {
    /// The index is not below the size.
    #[error("leaf `{index}` is not in a tree of `{size}` leaves")]
    OutOfRange {
        /// The leaf asked for.
        index: u64,
        /// The size of the tree.
        size: u64,
    },
    /// The older tree is larger than the newer one.
    #[error("a tree of `{new}` leaves cannot extend one of `{old}`")]
    Shrinks {
        /// The older size.
        old: u64,
        /// The newer size.
        new: u64,
    },
    /// The path is too long or too short for these sizes.
    #[error("the path has the wrong length: `{found}` hashes")]
    PathLength {
        /// How many hashes the path has.
        found: usize,
    },
    /// The path leads to another root.
    #[error("the path leads to another root than `{root}`")]
    WrongRoot {
        /// The root that was to be reached.
        root: Hash,
    },
}

/// Checks that `leaf` is leaf number `index` of the tree of `size` leaves with `root`.
///
/// # Errors
/// [`MerkleError`], naming what does not hold.
pub fn verify_inclusion(leaf: &Hash, index: u64, size: u64, path: &[Hash], root: &Hash) -> Result<(), MerkleError> {
    if root_of_inclusion(leaf, index, size, path)? != *root {
        return Err(MerkleError::WrongRoot { root: *root });
    }
    Ok(())
}

/// The root of the tree of `size` leaves in which `leaf` is number `index`, as `path` has it.
///
/// It proves nothing until the root is compared with one that is signed.
///
/// # Errors
/// [`MerkleError`] if there is no such leaf, or the path has the wrong length.
pub fn root_of_inclusion(leaf: &Hash, index: u64, size: u64, path: &[Hash]) -> Result<Hash, MerkleError> {
    if index >= size {
        return Err(MerkleError::OutOfRange { index, size });
    }
    let wrong_length = MerkleError::PathLength { found: path.len() };
    let (mut node, mut last) = (index, size - 1);
    let mut hash = *leaf;
    for sibling in path {
        if last == 0 {
            return Err(wrong_length);
        }
        if node & 1 == 1 || node == last {
            hash = node_hash(sibling, &hash);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    if last == 0 { Ok(hash) } else { Err(wrong_length) }
}

/// One size of a log and its root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TreeHead {
    /// How many leaves.
    pub size: u64,
    /// The root over them.
    pub root: Hash,
}

/// Checks that the tree `new` extends the tree `old` without changing it.
///
/// # Errors
/// [`MerkleError`], naming what does not hold.
pub fn verify_consistency(old: &TreeHead, new: &TreeHead, path: &[Hash]) -> Result<(), MerkleError> {
    if old.size > new.size {
        return Err(MerkleError::Shrinks { old: old.size, new: new.size });
    }
    let wrong_length = MerkleError::PathLength { found: path.len() };
    let wrong_root = |head: &TreeHead| MerkleError::WrongRoot { root: head.root };
    if old.size == 0 || old.size == new.size {
        let start = if old.size == 0 { empty_root() } else { new.root };
        return match (path.is_empty(), start == old.root) {
            (false, _) => Err(wrong_length),
            (true, false) => Err(wrong_root(old)),
            (true, true) => Ok(()),
        };
    }
    let (mut node, mut last) = (old.size - 1, new.size - 1);
    while node & 1 == 1 {
        node >>= 1;
        last >>= 1;
    }
    let mut rest = path.iter();
    let seed = if old.size.is_power_of_two() { old.root } else { *rest.next().ok_or(wrong_length)? };
    let (mut old_hash, mut new_hash) = (seed, seed);
    for sibling in rest {
        if last == 0 {
            return Err(wrong_length);
        }
        if node & 1 == 1 || node == last {
            old_hash = node_hash(sibling, &old_hash);
            new_hash = node_hash(sibling, &new_hash);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            new_hash = node_hash(&new_hash, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    if last != 0 {
        return Err(wrong_length);
    }
    if old_hash != old.root {
        return Err(wrong_root(old));
    }
    if new_hash != new.root {
        return Err(wrong_root(new));
    }
    Ok(())
}

/// The right edge of a growing tree: one hash for each set bit of its size, largest subtree first.
///
/// Constant memory (at most 64 hashes), so a whole log can be checked without holding it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Frontier {
    size: u64,
    subtrees: Vec<Hash>,
}

impl Frontier {
    /// The empty tree.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The edge of a tree of `size` leaves, from what [`Frontier::subtrees`] gave; none where the two do not fit.
    #[must_use]
    pub fn restore(size: u64, subtrees: Vec<Hash>) -> Option<Self> {
        (subtrees.len() as u64 == u64::from(size.count_ones())).then_some(Self { size, subtrees })
    }

    /// The roots of the complete subtrees, largest first: all that is needed to go on from here.
    #[must_use]
    pub fn subtrees(&self) -> &[Hash] {
        &self.subtrees
    }

    /// How many leaves were pushed.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Appends the hash of one leaf.
    pub fn push(&mut self, leaf: Hash) {
        let mut hash = leaf;
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.subtrees.pop() {
                hash = node_hash(&left, &hash);
            }
        }
        self.subtrees.push(hash);
        self.size += 1;
    }

    /// The root over everything pushed so far.
    #[must_use]
    pub fn root(&self) -> Hash {
        let mut right_to_left = self.subtrees.iter().rev();
        let Some(&last) = right_to_left.next() else {
            return empty_root();
        };
        right_to_left.fold(last, |right, left| node_hash(left, &right))
    }

    /// Size and root together.
    #[must_use]
    pub fn head(&self) -> TreeHead {
        TreeHead { size: self.size, root: self.root() }
    }
}

/// Where proof building finds the hashes of complete subtrees.
pub trait HashReader {
    /// Why a hash could not be had.
    type Error;

    /// The hash over the `2^level` leaves that start at `index * 2^level`. Asked only for complete subtrees.
    ///
    /// # Errors
    /// Whatever the store says.
    fn hash(&self, level: u8, index: u64) -> Result<Hash, Self::Error>;
}

/// Why a proof could not be built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BuildError<E> {
    /// There is no such proof.
    #[error(transparent)]
    Impossible(MerkleError),
    /// A hash could not be read.
    #[error("a hash could not be read")]
    Read(#[source] E),
}

/// The path that proves leaf `index` in the tree of `size` leaves, from the leaf's sibling upward.
///
/// # Errors
/// [`BuildError`] if the leaf is not in the tree or a hash cannot be read.
pub fn inclusion_proof<R: HashReader>(reader: &R, index: u64, size: u64) -> Result<Vec<Hash>, BuildError<R::Error>> {
    if index >= size {
        return Err(BuildError::Impossible(MerkleError::OutOfRange { index, size }));
    }
    let (mut low, mut high) = (0, size);
    let mut path = Vec::new();
    while high - low > 1 {
        let middle = low + left_size(high - low);
        if index < middle {
            path.push(range_hash(reader, middle, high)?);
            high = middle;
        } else {
            path.push(range_hash(reader, low, middle)?);
            low = middle;
        }
    }
    path.reverse();
    Ok(path)
}

/// The path that proves that the tree of `new` leaves extends the one of `old` leaves.
///
/// # Errors
/// [`BuildError`] if `old > new` or a hash cannot be read.
pub fn consistency_proof<R: HashReader>(reader: &R, old: u64, new: u64) -> Result<Vec<Hash>, BuildError<R::Error>> {
    if old > new {
        return Err(BuildError::Impossible(MerkleError::Shrinks { old, new }));
    }
    if old == 0 {
        return Ok(Vec::new());
    }
    let (mut low, mut high) = (0, new);
    let mut path = Vec::new();
    // While nothing was cut off on the left, the verifier knows the hash at the end: it is the old root.
    let mut known = true;
    while old != high {
        let middle = low + left_size(high - low);
        if old <= middle {
            path.push(range_hash(reader, middle, high)?);
            high = middle;
        } else {
            path.push(range_hash(reader, low, middle)?);
            low = middle;
            known = false;
        }
    }
    if !known {
        path.push(range_hash(reader, low, high)?);
    }
    path.reverse();
    Ok(path)
}

/// The root of the first `size` leaves.
///
/// # Errors
/// Whatever the reader says.
pub fn root<R: HashReader>(reader: &R, size: u64) -> Result<Hash, BuildError<R::Error>> {
    if size == 0 { Ok(empty_root()) } else { range_hash(reader, 0, size) }
}

/// The largest power of two below `size`, which is at least 2.
fn left_size(size: u64) -> u64 {
    1 << (63 - (size - 1).leading_zeros())
}

/// The hash over leaves `low..high`, where `low` is a multiple of a power of two not below the length.
fn range_hash<R: HashReader>(reader: &R, low: u64, high: u64) -> Result<Hash, BuildError<R::Error>> {
    let mut end = high;
    let mut hash: Option<Hash> = None;
    while end > low {
        let level = (end - low).trailing_zeros();
        let start = end - (1 << level);
        let subtree = reader.hash(u8::try_from(level).unwrap_or(u8::MAX), start >> level).map_err(BuildError::Read)?;
        hash = Some(hash.map_or(subtree, |right| node_hash(&subtree, &right)));
        end = start;
    }
    Ok(hash.unwrap_or_else(empty_root))
}
