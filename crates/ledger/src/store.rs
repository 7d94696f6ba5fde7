//! Where a ledger lies: its disk, its directory and the names of the files in it.
//!
//! It must not know what the files hold. It does not cover the names of tiles (`tile`) and segments' contents.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::{Disk, RealDisk};
use crate::mark::MarkFile;

/// A ledger's disk and directory.
#[derive(Clone)]
pub struct Store {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Store({})", self.dir.display())
    }
}

impl Store {
    /// A ledger in `dir` on `disk`.
    pub fn new(disk: Arc<dyn Disk>, dir: impl Into<PathBuf>) -> Self {
        Self { disk, dir: dir.into() }
    }

    /// A ledger in `dir` on the real disk.
    pub fn real(dir: impl Into<PathBuf>) -> Self {
        Self::new(Arc::new(RealDisk), dir)
    }

    /// The disk.
    #[must_use]
    pub fn disk(&self) -> &dyn Disk {
        self.disk.as_ref()
    }

    /// The ledger's directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The folder to serve to auditors: C2SP tlog-tiles.
    #[must_use]
    pub fn public(&self) -> PathBuf {
        self.dir.join("public")
    }

    /// The published checkpoint.
    #[must_use]
    pub fn checkpoint(&self) -> PathBuf {
        self.public().join("checkpoint")
    }

    /// The newest published checkpoint that carries cosignatures of witnesses.
    #[must_use]
    pub fn witnessed(&self) -> PathBuf {
        self.public().join("checkpoint.witnessed")
    }

    pub(crate) fn segments(&self) -> PathBuf {
        self.dir.join("segments")
    }

    pub(crate) fn segment(&self, first: u64) -> PathBuf {
        self.segments().join(format!("{first:020}.seg"))
    }

    pub(crate) fn snapshots(&self) -> PathBuf {
        self.dir.join("snapshots")
    }

    pub(crate) fn snapshot(&self, size: u64) -> PathBuf {
        self.snapshots().join(format!("{size:020}.snap"))
    }

    pub(crate) fn bases(&self) -> PathBuf {
        self.dir.join("base")
    }

    /// The base of a log that is kept from record `minimum` on.
    #[must_use]
    pub fn base(&self, minimum: u64) -> PathBuf {
        self.bases().join(format!("{minimum:020}.base"))
    }

    pub(crate) fn mark(&self) -> PathBuf {
        self.dir.join("mark")
    }

    pub(crate) fn key(&self) -> PathBuf {
        self.dir.join("log.key")
    }

    pub(crate) fn verifier(&self) -> PathBuf {
        self.dir.join("log.vkey")
    }

    pub(crate) fn next_key(&self) -> PathBuf {
        self.dir.join("next.key")
    }

    /// The statements that lead from the first key to the one in force.
    #[must_use]
    pub fn keys(&self) -> PathBuf {
        self.dir.join("log.keys")
    }

    /// Their copy for auditors; there is none before the first change.
    #[must_use]
    pub fn public_keys(&self) -> PathBuf {
        self.public().join("log.keys")
    }

    /// A change of the key that is under way.
    pub(crate) fn rotation(&self) -> PathBuf {
        self.dir.join("rotation")
    }

    /// A signer's: the key that it stated and that is not in force yet.
    pub(crate) fn stated(&self) -> PathBuf {
        self.dir.join("stated")
    }

    /// A signer's: which keys of its token are its own, and which of them is in force.
    pub(crate) fn token_notes(&self) -> PathBuf {
        self.dir.join("token.keys")
    }

    /// The ledger's mark as a file of two slots.
    pub(crate) fn mark_file(&self) -> MarkFile<'_> {
        MarkFile { disk: self.disk(), path: self.mark() }
    }

    /// A signer's high-water, in the form of a mark.
    pub(crate) fn high_water(&self) -> MarkFile<'_> {
        MarkFile { disk: self.disk(), path: self.dir.join("high-water") }
    }

    /// The folder of the vault.
    #[must_use]
    pub fn vault(&self) -> PathBuf {
        self.dir.join("vault")
    }

    pub(crate) fn vault_keys(&self) -> PathBuf {
        self.vault().join("keys")
    }

    pub(crate) fn lock(&self) -> PathBuf {
        self.dir.join("lock")
    }
}
