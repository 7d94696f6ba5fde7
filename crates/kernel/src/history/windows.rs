//! Counting events in windows that slide, at a cost that does not depend on how many there were.
//!
//! Each window is cut into buckets, and a reading adds up all buckets that reach into it. So a window never counts too few;
//! what it counts too many happened within one bucket's length before it began: 5 s before a minute, 30 s before ten
//! minutes, 2 min before an hour, 30 min before a day. It must not know what is counted.

use std::collections::VecDeque;

use countersign_model::TimeMs;
use countersign_model::record::Recent;
use minicbor::{Decode, Encode};

/// One kind of event, counted in four windows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Windows {
    #[n(0)]
    minute: Ring,
    #[n(1)]
    ten_minutes: Ring,
    #[n(2)]
    hour: Ring,
    #[n(3)]
    day: Ring,
}

/// The buckets of one window, oldest first: none, or one more than the window has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
struct Ring {
    /// The number of the last one since the epoch.
    #[n(0)]
    newest: u64,
    #[n(1)]
    counts: VecDeque<u64>,
}

/// A window and the length of its buckets, in milliseconds.
#[derive(Clone, Copy)]
struct Span {
    window_ms: u64,
    bucket_ms: u64,
}

const SECOND_MS: u64 = 1_000;
const MINUTE_MS: u64 = 60 * SECOND_MS;
const HOUR_MS: u64 = 60 * MINUTE_MS;
const MINUTE: Span = Span { window_ms: MINUTE_MS, bucket_ms: 5 * SECOND_MS };
const TEN_MINUTES: Span = Span { window_ms: 10 * MINUTE_MS, bucket_ms: 30 * SECOND_MS };
const HOUR: Span = Span { window_ms: HOUR_MS, bucket_ms: 2 * MINUTE_MS };
const DAY: Span = Span { window_ms: 24 * HOUR_MS, bucket_ms: 30 * MINUTE_MS };

impl Windows {
    /// Counts one event. Times must not go back.
    pub fn add(&mut self, at: TimeMs) {
        self.minute.add(at, MINUTE);
        self.ten_minutes.add(at, TEN_MINUTES);
        self.hour.add(at, HOUR);
        self.day.add(at, DAY);
    }

    /// How many events lie in the windows that end now.
    #[must_use]
    pub fn read(&self, now: TimeMs) -> Recent {
        Recent {
            minute: self.minute.read(now, MINUTE),
            ten_minutes: self.ten_minutes.read(now, TEN_MINUTES),
            hour: self.hour.read(now, HOUR),
            day: self.day.read(now, DAY),
        }
    }

    /// Whether no window that ends at `now` or later counts anything of it.
    pub(super) fn is_over(&self, now: TimeMs) -> bool {
        self.day.read(now, DAY) == 0
    }
}

impl Ring {
    fn add(&mut self, at: TimeMs, span: Span) {
        let bucket = span.bucket(at.0);
        if self.counts.is_empty() {
            self.counts.resize(span.buckets(), 0);
            self.newest = bucket;
        }
        let passed = usize::try_from(bucket.saturating_sub(self.newest)).unwrap_or(usize::MAX);
        for _ in 0..passed.min(self.counts.len()) {
            self.counts.pop_front();
            self.counts.push_back(0);
        }
        self.newest = self.newest.max(bucket);
        if let Some(newest) = self.counts.back_mut() {
            *newest = newest.saturating_add(1);
        }
    }

    /// Looks at every bucket, however many are in use.
    fn read(&self, now: TimeMs, span: Span) -> u64 {
        let first = span.first(now);
        let numbered = self.counts.iter().rev().zip((0..=self.newest).rev());
        numbered.fold(0, |sum, (count, bucket)| if bucket >= first { sum.saturating_add(*count) } else { sum })
    }
}

impl Span {
    /// How many buckets can reach into the window: it begins and ends within one.
    fn buckets(self) -> usize {
        let whole = self.window_ms.checked_div(self.bucket_ms).unwrap_or(0);
        usize::try_from(whole).unwrap_or(usize::MAX).saturating_add(1)
    }

    /// The bucket that holds the earliest moment of the window that ends at `now`.
    const fn first(self, now: TimeMs) -> u64 {
        self.bucket(now.0.saturating_sub(self.window_ms))
    }

    const fn bucket(self, ms: u64) -> u64 {
        match ms.checked_div(self.bucket_ms) {
            Some(bucket) => bucket,
            None => 0,
        }
    }
}
