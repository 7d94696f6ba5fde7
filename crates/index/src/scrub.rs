//! Text that was taken out of the tables must leave the files, too.
//!
//! Deleting overwrites pages (`secure_delete`, of SQLite and of FTS5), and two places keep words all the same. FTS5 may
//! keep the first word of a page as the key that leads to it, so its nodes are made anew from the text that is left. And
//! the write-ahead log holds pages as they were before, until a checkpoint cuts it off; a question that is still being
//! answered holds that up. What is owed is kept in the index itself, in the transaction that took the text out, so
//! neither a reader nor a crash can make it forgotten. It must not know why text was taken out. It does not cover what a
//! file system or a disk keeps of bytes that were overwritten or cut off.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior};

use crate::error::IndexError;
use crate::schema::{BUSY, Index, covered};

/// How long one try waits for readers; who follows the log comes back soon enough.
const READERS: Duration = Duration::from_millis(500);

/// What is still to be done before deleted text is out of the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owed {
    Nothing = 0,
    /// The write-ahead log is to be cut off.
    Cut = 1,
    /// The nodes of the searched text are to be made anew first.
    Words = 2,
}

impl Owed {
    /// What is not known is owed in full.
    pub(crate) const fn from_number(number: i64) -> Self {
        match number {
            0 => Self::Nothing,
            1 => Self::Cut,
            _ => Self::Words,
        }
    }
}

impl Index {
    /// Removes the index at `path` with all its files, whatever is in them. An [`Index`] that is still open on them is
    /// of no use any more.
    ///
    /// # Errors
    /// [`IndexError::Remove`]; where there is none, nothing is wrong.
    pub fn remove(path: &Path) -> Result<(), IndexError> {
        // The write-ahead log first: alone it would be nobody's.
        for end in ["-wal", "-shm", ""] {
            let mut name = path.as_os_str().to_owned();
            name.push(end);
            match std::fs::remove_file(&name) {
                Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                    return Err(IndexError::Remove { path: name.into(), source });
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Takes text that was deleted out of the index's files, where that is still owed. False while a reader is in the
    /// way: call it again. Takes time in proportion to the text that is left.
    ///
    /// # Errors
    /// [`IndexError`]; then it is still owed.
    pub fn scrub(&mut self) -> Result<bool, IndexError> {
        let found = covered(&self.connection)?;
        if found.owes == Owed::Nothing {
            return Ok(true);
        }
        if found.owes == Owed::Words {
            let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            if found.full_text {
                transaction.execute("INSERT INTO arguments (arguments) VALUES ('rebuild')", [])?;
            }
            transaction.execute("UPDATE covered SET owes = ?1", [Owed::Cut as i64])?;
            transaction.commit()?;
        }
        self.connection.busy_timeout(READERS)?;
        let cut = cut(&self.connection);
        self.connection.busy_timeout(BUSY)?;
        if cut? {
            self.connection.execute("UPDATE covered SET owes = ?1", [Owed::Nothing as i64])?;
            return Ok(true);
        }
        Ok(false)
    }
}

/// Whether all of the write-ahead log is in the file now, and the log empty.
fn cut(connection: &Connection) -> Result<bool, IndexError> {
    let busy: i64 = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
    Ok(busy == 0)
}
