//! Time and randomness that the test decides: a clock that stands still until it is moved, and seeded bytes.
//!
//! It must not know who reads them. It does not cover timeouts of the runtime: those run on real time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use countersign_gate::clock::{Clock, Entropy};
use countersign_model::{Digest, TimeMs};

/// Where a fresh [`FakeClock`] stands: 2026-01-01, UTC.
pub const BEGIN: TimeMs = TimeMs(1_767_225_600_000);

/// A clock that stands still; clones are the same clock.
#[derive(Clone, Debug)]
pub struct FakeClock {
    wall_ms: Arc<AtomicU64>,
    monotonic_ms: Arc<AtomicU64>,
}

impl Default for FakeClock {
    fn default() -> Self {
        Self { wall_ms: Arc::new(AtomicU64::new(BEGIN.0)), monotonic_ms: Arc::default() }
    }
}

impl FakeClock {
    /// A clock at [`BEGIN`].
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets time pass.
    pub fn advance_ms(&self, by_ms: u64) {
        self.wall_ms.fetch_add(by_ms, Ordering::SeqCst);
        self.monotonic_ms.fetch_add(by_ms, Ordering::SeqCst);
    }

    /// Sets the wall clock, as somebody with rights on the machine could; forward or back.
    pub fn set_wall(&self, to: TimeMs) {
        self.wall_ms.store(to.0, Ordering::SeqCst);
    }
}

impl Clock for FakeClock {
    fn wall(&self) -> TimeMs {
        TimeMs(self.wall_ms.load(Ordering::SeqCst))
    }

    fn monotonic_ms(&self) -> u64 {
        self.monotonic_ms.load(Ordering::SeqCst)
    }
}

/// Bytes that follow from a seed and how many were asked for before; clones are the same source.
#[derive(Clone, Debug)]
pub struct FakeEntropy {
    seed: u64,
    given: Arc<AtomicU64>,
    fails: Arc<AtomicBool>,
}

impl FakeEntropy {
    /// The source of this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { seed, given: Arc::default(), fails: Arc::default() }
    }

    /// Whether there is no randomness to be had from now on.
    pub fn fail(&self, fails: bool) {
        self.fails.store(fails, Ordering::SeqCst);
    }
}

impl Entropy for FakeEntropy {
    fn bytes(&self) -> Option<[u8; 32]> {
        if self.fails.load(Ordering::SeqCst) {
            return None;
        }
        let number = self.given.fetch_add(1, Ordering::SeqCst);
        Some(Digest::of("testkit entropy", &[&self.seed.to_be_bytes(), &number.to_be_bytes()]).0)
    }
}
