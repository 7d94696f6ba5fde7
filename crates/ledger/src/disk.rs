//! The disk as the ledger sees it: a small trait, so that tests can lose power at any step, and the real one.
//!
//! Every byte that the ledger reads or writes goes through [`Disk`]. It must not know what a file holds. It does not
//! cover retries: an error is reported once, upward, because a failed sync must never be tried again on the same file.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::{FallocateFlags, FlockOperation};

/// Who may read what is created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// The ledger's user only: files 0600, directories 0700.
    Private,
    /// Anyone may read: files 0644, directories 0755.
    Public,
}

/// How to open a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// It must exist; for reading.
    Read,
    /// It must exist; for reading and writing.
    Edit,
    /// It must not exist.
    New(Access),
    /// It is made, or emptied if it exists.
    Replace(Access),
}

/// A file system, as much of it as the ledger needs.
pub trait Disk: Send + Sync {
    /// The names in a directory, sorted.
    ///
    /// # Errors
    /// As the operating system says.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Makes a directory and its parents; an existing one is fine.
    ///
    /// # Errors
    /// As the operating system says.
    fn create_dir(&self, dir: &Path, access: Access) -> io::Result<()>;
    /// Opens a file.
    ///
    /// # Errors
    /// As the operating system says.
    fn open(&self, path: &Path, mode: Mode) -> io::Result<Box<dyn DiskFile>>;
    /// Renames a file over another, atomically.
    ///
    /// # Errors
    /// As the operating system says.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    ///
    /// # Errors
    /// As the operating system says.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Removes an empty directory.
    ///
    /// # Errors
    /// As the operating system says.
    fn remove_dir(&self, dir: &Path) -> io::Result<()>;
    /// Makes the names in a directory durable.
    ///
    /// # Errors
    /// As the operating system says.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Takes the lock file at `path` for as long as the returned value lives.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if another process holds it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>>;
}

/// An open file. Writes name their offset; there is no cursor.
pub trait DiskFile: Send + Sync {
    /// Reads at `offset`; fewer bytes than asked for only at the end of the file.
    ///
    /// # Errors
    /// As the operating system says.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;
    /// Writes all of `bytes` at `offset`.
    ///
    /// # Errors
    /// As the operating system says; some of the bytes may have been written.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Makes the file at least `length` bytes long with space set aside for all of it; new bytes read as zero.
    ///
    /// # Errors
    /// [`io::ErrorKind::StorageFull`] if there is no space.
    fn allocate(&self, length: u64) -> io::Result<()>;
    /// Returns once everything written is durable.
    ///
    /// # Errors
    /// As the operating system says. What was written is then unknown, and a second try proves nothing.
    fn sync_data(&self) -> io::Result<()>;
    /// Cuts the file.
    ///
    /// # Errors
    /// As the operating system says.
    fn truncate(&self, length: u64) -> io::Result<()>;
    /// The file's length in bytes.
    ///
    /// # Errors
    /// As the operating system says.
    fn size(&self) -> io::Result<u64>;
}

/// A held lock; dropping it releases it.
pub trait DiskLock: Send + Sync {}

/// Reads a whole file of at most `limit` bytes.
///
/// # Errors
/// As the disk says; [`io::ErrorKind::FileTooLarge`] beyond the limit.
pub fn read_file(disk: &dyn Disk, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let file = disk.open(path, Mode::Read)?;
    let size = file.size()?;
    if size > limit {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    read_range(file.as_ref(), 0, size)
}

/// Reads up to `length` bytes at `offset`; fewer only at the end of the file.
///
/// # Errors
/// As the disk says.
pub fn read_range(file: &dyn DiskFile, offset: u64, length: u64) -> io::Result<Vec<u8>> {
    let length = usize::try_from(length).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
    let mut bytes = vec![0; length];
    let count = file.read_at(offset, &mut bytes)?;
    bytes.truncate(count);
    Ok(bytes)
}

/// Writes a file whole and durably under another name, then renames it: readers see the old bytes or the new.
///
/// # Errors
/// As the disk says. The rename itself is durable only after [`Disk::sync_dir`].
pub fn replace_file(disk: &dyn Disk, path: &Path, bytes: &[u8], access: Access) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    let file = disk.open(&temporary, Mode::Replace(access))?;
    file.write_at(0, bytes)?;
    file.sync_data()?;
    disk.rename(&temporary, path)
}

/// The operating system's disk.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    }

    fn create_dir(&self, dir: &Path, access: Access) -> io::Result<()> {
        let mode = match access {
            Access::Private => 0o700,
            Access::Public => 0o755,
        };
        fs::DirBuilder::new().recursive(true).mode(mode).create(dir)
    }

    fn open(&self, path: &Path, mode: Mode) -> io::Result<Box<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        let bits = |access| if access == Access::Private { 0o600 } else { 0o644 };
        match mode {
            Mode::Read => options.read(true),
            Mode::Edit => options.read(true).write(true),
            Mode::New(access) => options.read(true).write(true).create_new(true).mode(bits(access)),
            Mode::Replace(access) => options.read(true).write(true).create(true).truncate(true).mode(bits(access)),
        };
        Ok(Box::new(RealFile(options.open(path)?)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        fs::remove_dir(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Box::new(RealLock(file)))
    }
}

struct RealFile(File);

impl DiskFile for RealFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.0.read_at(rest, offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        let size = self.size()?;
        if size >= length {
            return Ok(());
        }
        match rustix::fs::fallocate(&self.0, FallocateFlags::empty(), size, length - size) {
            Ok(()) => Ok(()),
            // Some file systems cannot set space aside; writing the zeros gives the same promise more slowly.
            Err(rustix::io::Errno::OPNOTSUPP) => self.write_zeros(size, length),
            Err(error) => Err(error.into()),
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(rustix::fs::fdatasync(&self.0)?)
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.0.set_len(length)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
}

impl RealFile {
    fn write_zeros(&self, from: u64, to: u64) -> io::Result<()> {
        let zeros = vec![0; 64 * 1024];
        let mut offset = from;
        while offset < to {
            let count = usize::try_from(to - offset).unwrap_or(usize::MAX).min(zeros.len());
            self.0.write_all_at(zeros.get(..count).unwrap_or_default(), offset)?;
            offset += count as u64;
        }
        Ok(())
    }
}

#[expect(dead_code, reason = "held for the lock that the open file carries")]
struct RealLock(File);

impl DiskLock for RealLock {}
