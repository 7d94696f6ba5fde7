//! The confirmed mark: the size and root up to which records were acknowledged.
//!
//! Two slots, written in turn and a page apart, so that a torn write can lose the newer one at most. The mark is written
//! after every sync of the log and before any acknowledgement, but it is itself synced only at rotation, when the writer
//! is idle and at a clean close. So a crash of the process never loses it. After a power loss it may be older than the
//! last acknowledgement; that loses no record (those were synced), it only means that damage which strikes the last
//! frames at the same moment would look like a torn tail. It must not know segments. It does not cover a mark that
//! someone with write access rolls back together with the log: receipts and witnesses do.

use std::io;
use std::path::PathBuf;

use countersign_receipt::Hash;
use countersign_receipt::merkle::TreeHead;

use crate::disk::{Access, Disk, DiskFile, Mode, read_range};

#[cfg(test)]
mod tests;

const MAGIC: [u8; 4] = *b"CSM1";
const SLOT_STRIDE: u64 = 4096;
const SLOT_BYTES: usize = 56;

/// Where a mark lies: the ledger's own, or the high-water of a signer.
pub(crate) struct MarkFile<'a> {
    pub(crate) disk: &'a dyn Disk,
    pub(crate) path: PathBuf,
}

impl MarkFile<'_> {
    pub(crate) fn path(&self) -> PathBuf {
        self.path.clone()
    }
}

/// The open mark file.
pub(crate) struct Mark {
    file: Box<dyn DiskFile>,
    turn: u64,
    synced: bool,
}

impl Mark {
    /// Makes the mark of an empty log and syncs it.
    pub(crate) fn create(at: &MarkFile<'_>, head: &TreeHead) -> io::Result<()> {
        let file = at.disk.open(&at.path, Mode::Replace(Access::Private))?;
        let mut mark = Self { file, turn: 0, synced: true };
        mark.file.allocate(2 * SLOT_STRIDE)?;
        mark.write(head)?;
        mark.write(head)?;
        mark.sync()
    }

    /// Opens the mark for writing; `None` if no slot is whole.
    pub(crate) fn open(at: &MarkFile<'_>) -> io::Result<Option<(Self, TreeHead)>> {
        let file = at.disk.open(&at.path, Mode::Edit)?;
        let found = newest(file.as_ref())?;
        Ok(found.map(|(turn, head)| (Self { file, turn: turn + 1, synced: false }, head)))
    }

    /// Reads the mark only; `None` if no slot is whole.
    pub(crate) fn read(at: &MarkFile<'_>) -> io::Result<Option<TreeHead>> {
        let file = at.disk.open(&at.path, Mode::Read)?;
        Ok(newest(file.as_ref())?.map(|(_, head)| head))
    }

    /// Reads the mark only, and judges every bit of it: the newest head and the one before it; `None` if anything is not
    /// as this program writes it. One torn slot is damage here, although the ledger opens with the other.
    pub(crate) fn judge(at: &MarkFile<'_>) -> io::Result<Option<[TreeHead; 2]>> {
        let file = at.disk.open(&at.path, Mode::Read)?;
        let bytes = read_range(file.as_ref(), 0, 2 * SLOT_STRIDE + 1)?;
        let slot = |bytes: &[u8]| {
            let (slot, rest) = bytes.split_at_checked(SLOT_BYTES)?;
            decode(slot).filter(|_| rest.iter().all(|byte| *byte == 0))
        };
        let read = |bytes: &[u8]| {
            let (even, odd) = bytes.split_at_checked(usize::try_from(SLOT_STRIDE).ok()?)?;
            if odd.len() != even.len() {
                return None;
            }
            let ((even_turn, even), (odd_turn, odd)) = (slot(even)?, slot(odd)?);
            let in_turn =
                even_turn.is_multiple_of(2) && !odd_turn.is_multiple_of(2) && even_turn.abs_diff(odd_turn) == 1;
            in_turn.then_some(if odd_turn > even_turn { [odd, even] } else { [even, odd] })
        };
        Ok(read(&bytes))
    }

    /// Makes what lies beside the slots zeros again. The slots need no such care: each write goes into the older one.
    pub(crate) fn tidy(&mut self, at: &MarkFile<'_>) -> io::Result<()> {
        if Self::judge(at)?.is_none() {
            let zeros = vec![0; usize::try_from(SLOT_STRIDE).map_err(io::Error::other)? - SLOT_BYTES];
            for slot in [0, SLOT_STRIDE] {
                self.file.write_at(slot + SLOT_BYTES as u64, &zeros)?;
            }
            self.file.truncate(2 * SLOT_STRIDE)?;
            self.synced = false;
        }
        self.sync()
    }

    pub(crate) fn write(&mut self, head: &TreeHead) -> io::Result<()> {
        self.file.write_at((self.turn % 2) * SLOT_STRIDE, &encode(self.turn, head))?;
        self.turn += 1;
        self.synced = false;
        Ok(())
    }

    pub(crate) fn sync(&mut self) -> io::Result<()> {
        if !self.synced {
            self.file.sync_data()?;
            self.synced = true;
        }
        Ok(())
    }

    pub(crate) fn is_synced(&self) -> bool {
        self.synced
    }
}

fn encode(turn: u64, head: &TreeHead) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(SLOT_BYTES);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&turn.to_le_bytes());
    bytes.extend_from_slice(&head.size.to_le_bytes());
    bytes.extend_from_slice(head.root.as_bytes());
    let crc = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Option<(u64, TreeHead)> {
    let (body, crc) = bytes.split_last_chunk::<4>()?;
    if bytes.len() != SLOT_BYTES || crc32c::crc32c(body) != u32::from_le_bytes(*crc) {
        return None;
    }
    let (turn, rest) = body.strip_prefix(&MAGIC)?.split_first_chunk::<8>()?;
    let (size, root) = rest.split_first_chunk::<8>()?;
    let head = TreeHead { size: u64::from_le_bytes(*size), root: Hash::from_slice(root)? };
    Some((u64::from_le_bytes(*turn), head))
}

fn newest(file: &dyn DiskFile) -> io::Result<Option<(u64, TreeHead)>> {
    let mut newest: Option<(u64, TreeHead)> = None;
    for slot in [0, SLOT_STRIDE] {
        let found = decode(&read_range(file, slot, SLOT_BYTES as u64)?);
        if let Some((turn, head)) = found
            && newest.is_none_or(|(other, _)| turn > other)
        {
            newest = Some((turn, head));
        }
    }
    Ok(newest)
}
