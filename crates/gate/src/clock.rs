//! Time and randomness as inputs: the gate reads both here and nowhere else.
//!
//! The kernel gets time as an argument, so tests and the simulator put their own clock in place.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use countersign_model::{Digest, TimeMs};

/// Reads time.
pub trait Clock: Send + Sync + 'static {
    /// The wall clock, which people and other programs may set.
    fn wall(&self) -> TimeMs;
    /// Milliseconds since some fixed moment; never set by anybody.
    fn monotonic_ms(&self) -> u64;
}

/// Gives randomness.
pub trait Entropy: Send + Sync + 'static {
    /// 32 unpredictable bytes, or `None` where there are none to be had: then nothing may run.
    fn bytes(&self) -> Option<[u8; 32]>;
}

/// The machine's clock.
#[derive(Debug)]
pub struct SystemClock {
    begun: Instant,
}

impl SystemClock {
    /// Starts its monotonic side at zero.
    #[must_use]
    pub fn start() -> Self {
        Self { begun: Instant::now() }
    }
}

impl Clock for SystemClock {
    fn wall(&self) -> TimeMs {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        TimeMs(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    fn monotonic_ms(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// The operating system's randomness.
#[derive(Debug)]
pub struct SystemEntropy(SystemRandom);

impl SystemEntropy {
    /// A source.
    #[must_use]
    pub fn new() -> Self {
        Self(SystemRandom::new())
    }
}

impl Default for SystemEntropy {
    fn default() -> Self {
        Self::new()
    }
}

impl Entropy for SystemEntropy {
    fn bytes(&self) -> Option<[u8; 32]> {
        let mut bytes = [0; 32];
        self.0.fill(&mut bytes).ok()?;
        Some(bytes)
    }
}

/// Random digest, for nonces and challenges.
pub(crate) fn nonce(entropy: &dyn Entropy) -> Option<Digest> {
    entropy.bytes().map(Digest)
}
