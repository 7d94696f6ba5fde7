//! Blocks of tokens that a human revoked: one narrowing, and all that was narrowed from it.
//!
//! Each is remembered for as long as any token can live, then it is forgotten with the tokens. It must not know what a
//! block says. A token that was revoked whole is a session's affair.

use std::collections::{BTreeMap, BTreeSet};

use countersign_model::{Digest, TimeMs};

/// The most that are remembered. Beyond it a whole token can still be revoked.
pub(crate) const REVOKED_MAX: usize = 16_384;

/// Revoked blocks, until when.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Revoked {
    blocks: BTreeMap<Digest, TimeMs>,
    by_end: BTreeSet<(TimeMs, Digest)>,
}

impl Revoked {
    /// These, from an image.
    pub(crate) fn of(blocks: BTreeMap<Digest, TimeMs>) -> Self {
        let by_end = blocks.iter().map(|(block, until)| (*until, *block)).collect();
        Self { blocks, by_end }
    }

    /// All of them, for an image.
    pub(crate) const fn known(&self) -> &BTreeMap<Digest, TimeMs> {
        &self.blocks
    }

    /// Whether one of these is revoked.
    pub(crate) fn any(&self, blocks: &[Digest]) -> bool {
        blocks.iter().any(|block| self.blocks.contains_key(block))
    }

    /// Whether no more can be remembered.
    pub(crate) fn is_full(&self) -> bool {
        self.blocks.len() >= REVOKED_MAX
    }

    /// Remembers one until `until`.
    pub(crate) fn add(&mut self, block: Digest, until: TimeMs) {
        if let Some(before) = self.blocks.insert(block, until) {
            self.by_end.remove(&(before, block));
        }
        self.by_end.insert((until, block));
    }

    /// Forgets those of which every token has ended.
    pub(crate) fn pass(&mut self, now: TimeMs) {
        while let Some((_, block)) = self.by_end.first().filter(|(until, _)| *until <= now).copied() {
            self.by_end.pop_first();
            self.blocks.remove(&block);
        }
    }
}
