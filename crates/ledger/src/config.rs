//! The ledger's bounds, with defaults that suit one machine.
//!
//! It must not know where the numbers were written down. It does not cover format limits, which are constants.

use std::time::Duration;

/// Who publishes tiles and checkpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublishMode {
    /// A thread of its own, off the path of acknowledgements; at most one checkpoint in `interval`.
    Background {
        /// The least time between two published checkpoints.
        interval: Duration,
    },
    /// The writer itself, after each batch was acknowledged: for tests that count steps.
    Inline,
}

/// The ledger's bounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// A segment is closed once it is this long, in bytes.
    pub segment_bytes: u64,
    /// How much space is set aside at a time, in bytes.
    pub chunk_bytes: u64,
    /// How many records may wait to be written.
    pub queue_records: usize,
    /// How many bytes of them.
    pub queue_bytes: u64,
    /// How many actions may be open, each with room set aside for its outcome.
    pub slots: usize,
    /// How many records may be committed and not yet published.
    pub max_unpublished: u64,
    /// Who publishes.
    pub publish: PublishMode,
    /// How long a batch waits for more records at most, where they come faster than syncs and many actions are open.
    pub gather: Duration,
    /// After how long without work the mark is synced; never, if `None`.
    pub idle_sync: Option<Duration>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            chunk_bytes: 4 << 20,
            queue_records: 16_384,
            queue_bytes: 128 << 20,
            slots: 4_096,
            max_unpublished: 1 << 20,
            // Each publication replaces a few small files. More of them in a minute make every new file dear on ext4, which
            // passes over inodes deleted in the last minutes one by one.
            publish: PublishMode::Background { interval: Duration::from_secs(1) },
            gather: Duration::from_millis(2),
            idle_sync: Some(Duration::from_millis(100)),
        }
    }
}
