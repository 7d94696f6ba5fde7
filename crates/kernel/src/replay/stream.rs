//! Replay as a stream: leaves in the order of the log go in, lines come out, and memory does not grow with the log.
//!
//! Sequence numbers are not the order of the log: a reservation has a smaller one than the record of its decision, and
//! other records stand in between. So leaves wait in a window of [`WINDOW`] and leave it by sequence number. A call
//! whose reservation lies further back than that is reported as different, with the reason. Snapshots are
//! checked by a second fold, in the order of the log, which stays one window behind.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use countersign_model::record::Snapshot;
use countersign_model::unit::LeafIndex;
use countersign_model::{Body, Seq, TimeMs};

use super::{Bundles, Found, Leaf, Line, Replay, Taken};
use crate::event::Event;
use crate::image::image_digest;
use crate::kernel::Kernel;
use crate::policy::Bundle;

/// How many records wait for reservations that may still come.
pub const WINDOW: usize = 16_384;
/// How many findings wait until it is known whether their process ended in an orderly way.
const DOUBTS_MAX: usize = 16_384;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Reserve,
    Take,
}

/// Replays a log leaf by leaf.
pub struct Replayer<'a> {
    replay: Replay<'a>,
    waiting: BTreeMap<(Seq, Step, LeafIndex), Arc<Leaf>>,
    records: usize,
    /// Up to here everything was taken.
    taken: Seq,
    /// What counts only if the process at hand ended in an orderly way: the line, and the line otherwise.
    doubts: VecDeque<(Line, Found)>,
    shadow: Shadow,
}

/// The fold of the log in its own order, for the records of snapshots.
struct Shadow {
    kernel: Kernel,
    size: u64,
    behind: VecDeque<Arc<Leaf>>,
    has_erased: bool,
}

impl<'a> Replayer<'a> {
    /// Begins with `kernel`, the fold of the log's first `size` records, under its settings and this policy.
    #[must_use]
    pub fn new(kernel: Kernel, size: u64, bundle: &'a Bundle) -> Self {
        let bundles = Bundles::one(kernel.settings(), bundle);
        Self::with(kernel, size, bundles)
    }

    /// The same with more than one policy.
    #[must_use]
    pub fn with(kernel: Kernel, size: u64, bundles: Bundles<'a>) -> Self {
        let shadow = Shadow { kernel: kernel.clone(), size, behind: VecDeque::new(), has_erased: false };
        let taken = Seq(0);
        let replay = Replay::new(kernel, bundles);
        Self { replay, waiting: BTreeMap::new(), records: 0, taken, doubts: VecDeque::new(), shadow }
    }

    /// Takes the next leaf of the log, and gives lines that are settled.
    pub fn feed(&mut self, leaf: Leaf, found: &mut dyn FnMut(Line)) {
        let leaf = Arc::new(leaf);
        if let Some(line) = self.shadow.feed(&leaf, &self.replay) {
            found(line);
        }
        let Leaf { record, leaf: index, .. } = leaf.as_ref();
        let reserved = record.body.attempt().map(|attempt| attempt.reserved_at).filter(|seq| *seq < record.seq);
        if let Some(seq) = reserved {
            if seq < self.taken {
                found(late(&leaf));
            }
            self.waiting.insert((seq, Step::Reserve, *index), Arc::clone(&leaf));
        }
        self.waiting.insert((record.seq, Step::Take, *index), leaf);
        self.records += 1;
        while self.records > WINDOW {
            self.step(found);
        }
    }

    /// The log has ended.
    pub fn finish(mut self, found: &mut dyn FnMut(Line)) {
        while !self.waiting.is_empty() {
            self.step(found);
        }
        self.settle(false, found);
    }

    fn step(&mut self, found: &mut dyn FnMut(Line)) {
        let Some(((seq, step, index), leaf)) = self.waiting.pop_first() else { return };
        self.taken = self.taken.max(seq);
        if step == Step::Reserve {
            self.replay.reserve(&leaf);
            return;
        }
        self.records -= 1;
        match &leaf.record.body {
            Body::Stopped => self.settle(true, found),
            Body::Started(_) => self.settle(false, found),
            _ => {}
        }
        let line = |found| Line { leaf: index, seq, kind: leaf.record.body.kind(), found };
        match self.replay.take(&leaf) {
            Taken::Nothing => {}
            Taken::Found(what) => found(line(what)),
            Taken::Doubtful { clean, unclean } => {
                self.doubts.push_back((line(clean), unclean));
                if self.doubts.len() > DOUBTS_MAX
                    && let Some((line, _)) = self.doubts.pop_front()
                {
                    found(line);
                }
            }
        }
    }

    fn settle(&mut self, is_clean: bool, found: &mut dyn FnMut(Line)) {
        for (line, unclean) in self.doubts.drain(..) {
            found(if is_clean { line } else { Line { found: unclean, ..line } });
        }
    }
}

/// The reservation of this decision lies further back than the window reaches.
fn late(leaf: &Leaf) -> Line {
    let what = vec![format!("reservation: more than {WINDOW} records before its decision, which replay cannot follow")];
    let found = Found::Differs { what };
    Line { leaf: leaf.leaf, seq: leaf.record.seq, kind: leaf.record.body.kind(), found }
}

impl Shadow {
    fn feed(&mut self, leaf: &Arc<Leaf>, replay: &Replay<'_>) -> Option<Line> {
        let found = match &leaf.record.body {
            Body::Snapshot(snapshot) => Some(self.check(snapshot, replay)),
            _ => None,
        };
        self.behind.push_back(Arc::clone(leaf));
        if self.behind.len() > WINDOW {
            self.fold_one();
        }
        let kind = leaf.record.body.kind();
        found.map(|found| Line { leaf: leaf.leaf, seq: leaf.record.seq, kind, found })
    }

    fn check(&mut self, snapshot: &Snapshot, replay: &Replay<'_>) -> Found {
        while self.size < snapshot.size {
            if !self.fold_one() {
                let what = vec![format!("snapshot: of {} records, which come after it", snapshot.size)];
                return Found::Differs { what };
            }
        }
        let is_ours = self.kernel.state.lifetime.as_ref().is_some_and(|lifetime| replay.is_ours(lifetime));
        if self.size > snapshot.size || !is_ours {
            return Found::Outdated;
        }
        match self.kernel.image().map(|image| image_digest(&image)) {
            Ok(digest) if digest == snapshot.state => Found::Identical,
            _ if self.has_erased => Found::Erased,
            Ok(digest) => Found::Differs { what: vec![format!("state: recorded {}, again {digest}", snapshot.state)] },
            Err(error) => Found::Differs { what: vec![format!("state: {error}")] },
        }
    }

    fn fold_one(&mut self) -> bool {
        let Some(leaf) = self.behind.pop_front() else { return false };
        let Leaf { record, leaf, leaf_hash, payload } = leaf.as_ref().clone();
        if let Body::Proposal(proposal) = &record.body {
            let is_readable = payload.as_ref().is_some_and(|payload| payload.opens(&proposal.attempt));
            self.has_erased |= !is_readable;
        }
        self.kernel.step(TimeMs(0), Event::Recovered { record, leaf, leaf_hash, payload });
        self.size = leaf.0.saturating_add(1);
        true
    }
}
