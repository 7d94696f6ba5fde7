//! The file and its tables.
//!
//! Names stand once, in `word`; `record` holds their numbers, so that ten million rows stay small. Records are in the
//! order of time (a kernel's clock never goes back), so a span of time is a span of leaves and needs no index of its
//! own. Write-ahead logging lets others read while the log is followed. It does not know what a record means.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use countersign_receipt::merkle::TreeHead;
use countersign_receipt::{Frontier, Hash};
use rusqlite::{Connection, OpenFlags, OptionalExtension as _};

use crate::error::IndexError;
use crate::scrub::Owed;

/// Changes whenever the tables or their numbers do; an index of another version is made again.
const VERSION: &str = concat!("3 ", env!("CARGO_PKG_VERSION"));
/// How long a writer waits for another one.
pub(crate) const BUSY: Duration = Duration::from_secs(10);

const TABLES: &str = "
CREATE TABLE covered (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    version TEXT NOT NULL,
    generation INTEGER NOT NULL,
    full_text INTEGER NOT NULL,
    size INTEGER NOT NULL,
    subtrees BLOB NOT NULL,
    latest INTEGER NOT NULL,
    erased_before INTEGER NOT NULL,
    stale INTEGER NOT NULL,
    owes INTEGER NOT NULL
);
CREATE TABLE word (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE);
CREATE TABLE record (
    leaf INTEGER PRIMARY KEY,
    kind INTEGER NOT NULL,
    at INTEGER NOT NULL,
    verdict INTEGER,
    reason INTEGER,
    agent INTEGER,
    run INTEGER,
    session INTEGER,
    upstream INTEGER,
    tool INTEGER,
    target INTEGER,
    environment INTEGER,
    effect INTEGER,
    count INTEGER NOT NULL,
    ticket TEXT,
    human INTEGER,
    outcome INTEGER,
    status INTEGER,
    rows INTEGER,
    bytes_sent INTEGER,
    duration_ms INTEGER,
    cost_microusd INTEGER,
    continues INTEGER
);
CREATE INDEX by_agent ON record (agent) WHERE agent IS NOT NULL;
CREATE INDEX by_run ON record (run) WHERE run IS NOT NULL;
CREATE INDEX by_tool ON record (tool) WHERE tool IS NOT NULL;
CREATE INDEX by_ticket ON record (ticket) WHERE ticket IS NOT NULL;
CREATE INDEX denied_by_agent ON record (agent) WHERE verdict = 2;
CREATE INDEX denied_by_tool ON record (tool, count) WHERE verdict = 2;
CREATE INDEX denied_by_reason ON record (reason) WHERE verdict = 2;
CREATE INDEX by_status ON record (status) WHERE status > 0;
CREATE TABLE mention (
    kind INTEGER NOT NULL,
    name INTEGER NOT NULL,
    leaf INTEGER NOT NULL,
    PRIMARY KEY (kind, name, leaf)
) WITHOUT ROWID;
CREATE INDEX mention_by_leaf ON mention (leaf);
";
const TEXT: &str = "
CREATE VIRTUAL TABLE arguments USING fts5 (text, tokenize = 'unicode61');
INSERT INTO arguments (arguments, rank) VALUES ('secure-delete', 1);
";
const DROPS: &str = "
DROP TABLE IF EXISTS arguments;
DROP TABLE IF EXISTS mention;
DROP TABLE IF EXISTS record;
DROP TABLE IF EXISTS word;
DROP TABLE IF EXISTS covered;
";

/// What is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Whether arguments can be searched. They then lie readable in the index's file.
    pub full_text: bool,
}

/// An open index.
pub struct Index {
    pub(crate) connection: Connection,
    pub(crate) path: PathBuf,
    /// Numbers of words that were seen before; valid within one generation.
    pub(crate) words: HashMap<String, i64>,
    pub(crate) generation: i64,
}

impl std::fmt::Debug for Index {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Index({})", self.path.display())
    }
}

/// What the index says about itself.
#[derive(Clone, Debug)]
pub(crate) struct Covered {
    pub(crate) edge: Frontier,
    pub(crate) generation: i64,
    pub(crate) full_text: bool,
    /// The time of the newest record.
    pub(crate) latest: i64,
    /// Payloads of records below were read when every erasure below had taken effect.
    pub(crate) erased_before: u64,
    pub(crate) stale: bool,
    /// Text that was deleted may still lie in the files: see [`Index::scrub`].
    pub(crate) owes: Owed,
}

impl Index {
    /// Opens the index at `path` for feeding, and makes it empty where there is none, or one of another version or of
    /// other options. Readable by its owner only.
    ///
    /// # Errors
    /// [`IndexError`]; a damaged file can simply be removed.
    pub fn open(path: &Path, options: Options) -> Result<Self, IndexError> {
        let io = |source| IndexError::Io { path: path.to_path_buf(), source };
        OpenOptions::new().create(true).append(true).mode(0o600).open(path).map_err(io)?;
        let connection = Connection::open(path)?;
        connection.busy_timeout(BUSY)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        connection.pragma_update(None, "secure_delete", "ON")?;
        connection.pragma_update(None, "cache_size", -65_536)?;
        connection.pragma_update(None, "temp_store", "MEMORY")?;
        let mut index = Self { connection, path: path.to_path_buf(), words: HashMap::new(), generation: 0 };
        let fits = index.version()?.is_some_and(|version| version == VERSION)
            && covered(&index.connection)?.full_text == options.full_text;
        if !fits {
            index.clear(options, 0)?;
        }
        Ok(index)
    }

    /// Opens the index at `path` for questions only.
    ///
    /// # Errors
    /// [`IndexError::Absent`] where there is none of this version.
    pub fn open_read_only(path: &Path) -> Result<Self, IndexError> {
        let absent = || IndexError::Absent { path: path.to_path_buf() };
        if !path.exists() {
            return Err(absent());
        }
        let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        connection.busy_timeout(BUSY)?;
        let index = Self { connection, path: path.to_path_buf(), words: HashMap::new(), generation: 0 };
        if index.version()?.is_none_or(|version| version != VERSION) {
            return Err(absent());
        }
        Ok(index)
    }

    /// Empties the index, to be fed from the first record on. `log_size` is the size of the log by now: payloads of
    /// records below it are read after every erasure below it.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn clear(&mut self, options: Options, log_size: u64) -> Result<(), IndexError> {
        let transaction = self.connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        let generation = match has_table(&transaction, "covered")? {
            true => {
                transaction.query_row("SELECT generation FROM covered", [], |row| row.get::<_, i64>(0)).optional()?
            }
            false => None,
        };
        transaction.execute_batch(DROPS)?;
        transaction.execute_batch(TABLES)?;
        if options.full_text {
            transaction.execute_batch(TEXT)?;
        }
        transaction.execute(
            "INSERT INTO covered VALUES (1, ?1, ?2, ?3, 0, x'', 0, ?4, 0, 1)",
            (VERSION, generation.unwrap_or(0).saturating_add(1), options.full_text, signed(log_size)),
        )?;
        transaction.commit()?;
        self.words.clear();
        // Where a reader is in the way it stays owed.
        self.scrub().map(drop)
    }

    /// Lets an empty index begin behind the first `size` records, over which `subtrees` are the roots of the complete
    /// subtrees, largest first: those of a log that was pruned. That the tree is right shows in the root at the end.
    ///
    /// # Errors
    /// [`IndexError::Damaged`] where the two do not fit, or the index is not empty.
    pub fn begin(&mut self, size: u64, subtrees: Vec<Hash>) -> Result<(), IndexError> {
        let mut covered = covered(&self.connection)?;
        let edge = Frontier::restore(size, subtrees).filter(|_| covered.edge.size() == 0);
        covered.edge = edge.ok_or(IndexError::Damaged { what: "it cannot begin there" })?;
        cover(&self.connection, &covered)
    }

    /// The tree that the index covers: how many records, and the root over them as computed from what was read.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn head(&self) -> Result<TreeHead, IndexError> {
        Ok(covered(&self.connection)?.edge.head())
    }

    /// Whether arguments can be searched.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn options(&self) -> Result<Options, IndexError> {
        Ok(Options { full_text: covered(&self.connection)?.full_text })
    }

    /// Whether text had to be dropped that is still readable: clear the index and feed it again.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn is_stale(&self) -> Result<bool, IndexError> {
        Ok(covered(&self.connection)?.stale)
    }

    /// Bytes of the index's file, without its write-ahead log.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn bytes(&self) -> Result<u64, IndexError> {
        let pragma = |name: &str| self.connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        Ok(unsigned(pragma("page_count")?).saturating_mul(unsigned(pragma("page_size")?)))
    }

    /// The version of the tables, where there are any.
    fn version(&self) -> Result<Option<String>, IndexError> {
        if !has_table(&self.connection, "covered")? {
            return Ok(None);
        }
        Ok(self.connection.query_row("SELECT version FROM covered", [], |row| row.get(0)).optional()?)
    }
}

fn has_table(connection: &Connection, name: &str) -> Result<bool, IndexError> {
    let sql = "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = ?1";
    Ok(connection.query_row(sql, [name], |row| row.get::<_, i64>(0))? > 0)
}

pub(crate) fn covered(connection: &Connection) -> Result<Covered, IndexError> {
    let sql = "SELECT generation, full_text, size, subtrees, latest, erased_before, stale, owes FROM covered";
    let mut statement = connection.prepare_cached(sql)?;
    let (size, subtrees, mut found) = statement.query_row([], |row| {
        let found = Covered {
            edge: Frontier::new(),
            generation: row.get(0)?,
            full_text: row.get(1)?,
            latest: row.get(4)?,
            erased_before: unsigned(row.get(5)?),
            stale: row.get(6)?,
            owes: Owed::from_number(row.get(7)?),
        };
        Ok((unsigned(row.get(2)?), row.get::<_, Vec<u8>>(3)?, found))
    })?;
    let hashes: Option<Vec<Hash>> = subtrees.chunks(32).map(Hash::from_slice).collect();
    found.edge = hashes
        .and_then(|hashes| Frontier::restore(size, hashes))
        .ok_or(IndexError::Damaged { what: "its tree does not fit its size" })?;
    Ok(found)
}

pub(crate) fn cover(connection: &Connection, covered: &Covered) -> Result<(), IndexError> {
    let subtrees: Vec<u8> = covered.edge.subtrees().iter().flat_map(|hash| *hash.as_bytes()).collect();
    connection
        .prepare_cached("UPDATE covered SET size = ?1, subtrees = ?2, latest = ?3, stale = ?4, owes = ?5")?
        .execute((signed(covered.edge.size()), subtrees, covered.latest, covered.stale, covered.owes as i64))?;
    Ok(())
}

/// SQLite's integers have a sign; what does not fit stops at the largest.
pub(crate) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(crate) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
