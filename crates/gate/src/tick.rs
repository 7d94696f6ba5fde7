//! The tick: once a second time is told to the kernel, so that what has an end ends.
//!
//! It also compares the wall clock with the monotonic one: a large forward jump is an event.

use countersign_kernel::Event;

use crate::Gate;

/// A jump of the wall clock over this, ahead of the monotonic clock, suspends leases.
pub(crate) const CLOCK_JUMP_MS: u64 = 5 * 60_000;

/// What the clocks said at the last tick.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Anchor {
    pub(crate) wall_ms: u64,
    pub(crate) monotonic_ms: u64,
}

impl Gate {
    /// Call once a second.
    pub async fn tick(&self) {
        let now = Anchor { wall_ms: self.clock().wall().0, monotonic_ms: self.clock().monotonic_ms() };
        let by_ms = {
            let mut last = self.0.ticks.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let passed = now.monotonic_ms.saturating_sub(last.monotonic_ms);
            let shown = now.wall_ms.saturating_sub(last.wall_ms);
            *last = now;
            shown.saturating_sub(passed)
        };
        if by_ms >= CLOCK_JUMP_MS {
            self.told(Event::ClockJumped { by_ms });
        }
        self.told(Event::Tick);
        self.flush_refusals();
        self.write_stalled().await;
        self.follow_in_background();
    }
}
