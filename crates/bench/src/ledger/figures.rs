//! Figures of the ledger: medians of rounds, and ratios that are taken inside a round. It must not know where the numbers
//! came from.

use std::time::Duration;

use serde::Serialize;

use crate::figures::{PROBE_MS_MAX, median, percentile};

/// What is measured of one of the two.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Figures {
    /// Acknowledged appends a second.
    pub(crate) appends_per_s: f64,
    /// Half of the appends were faster, in microseconds.
    pub(crate) p50_us: f64,
    /// 99 of 100 appends were faster, in microseconds.
    pub(crate) p99_us: f64,
    /// Processor time an append, in microseconds: all threads of the process, the writers' too.
    pub(crate) cpu_us: f64,
}

/// The two in one round.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Pair {
    pub(crate) ledger: Figures,
    pub(crate) plain: Figures,
}

/// One round.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Round {
    /// Median of a bare append and sync before it, in milliseconds.
    pub(crate) probe_ms: f64,
    #[serde(flatten)]
    pub(crate) pair: Pair,
}

/// All rounds at one number of writers.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Level {
    pub(crate) writers: u32,
    pub(crate) rounds: Vec<Round>,
}

/// What is shown of a level.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Summary {
    /// Rounds that are in these medians.
    pub(crate) rounds: usize,
    /// Rounds that were left out.
    pub(crate) left_out: usize,
    /// Median of the bare sync, in milliseconds.
    pub(crate) probe_ms: f64,
    /// Medians.
    #[serde(flatten)]
    pub(crate) pair: Pair,
    /// Median of the ledger's appends a second over those of the plain file.
    pub(crate) ratio: f64,
}

/// The verification of one log.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Verified {
    pub(crate) records: u64,
    /// Records of each group commit.
    pub(crate) batch: u64,
    /// Bytes of the segments.
    pub(crate) segment_bytes: u64,
    /// Bytes that a verification reads: of the segments, and of the public folder that it compares with them.
    pub(crate) read_bytes: u64,
    /// Seconds, round by round.
    pub(crate) rounds: Vec<Walk>,
}

/// One round of a verification.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Walk {
    /// Seconds of a full verification.
    pub(crate) verified_s: f64,
    /// Seconds of reading and hashing all that it reads.
    pub(crate) hashed_s: f64,
    /// Seconds of reading and hashing the segments alone.
    pub(crate) segments_hashed_s: f64,
}

/// Medians of the rounds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct WalkSummary {
    pub(crate) verified_bytes_per_s: f64,
    pub(crate) verified_records_per_s: f64,
    pub(crate) hashed_bytes_per_s: f64,
    /// Speed of the verification over that of reading and hashing the same bytes.
    pub(crate) ratio: f64,
    /// As if it read nothing but the segments.
    pub(crate) ratio_to_segments: f64,
}

impl Figures {
    #[expect(clippy::cast_precision_loss, reason = "counts of appends are far below 2^52")]
    pub(crate) fn of(sorted_ns: &[u64], window: Duration, cpu_us: u64) -> Self {
        let appends = sorted_ns.len() as f64;
        Self {
            appends_per_s: appends / window.as_secs_f64(),
            p50_us: percentile(sorted_ns, 50) as f64 / 1_000.0,
            p99_us: percentile(sorted_ns, 99) as f64 / 1_000.0,
            cpu_us: cpu_us as f64 / appends,
        }
    }

    fn medians(of: &[Self]) -> Self {
        let each = |field: fn(&Self) -> f64| median(of.iter().map(field).collect());
        Self {
            appends_per_s: each(|figures| figures.appends_per_s),
            p50_us: each(|figures| figures.p50_us),
            p99_us: each(|figures| figures.p99_us),
            cpu_us: each(|figures| figures.cpu_us),
        }
    }
}

impl Level {
    /// Medians of the rounds in which the disk was free; none where there is no such round.
    pub(crate) fn summary(&self) -> Option<Summary> {
        let kept: Vec<Round> = self.rounds.iter().filter(|round| round.probe_ms <= PROBE_MS_MAX).copied().collect();
        (!kept.is_empty()).then(|| Self::medians(&kept, self.rounds.len() - kept.len()))
    }

    /// Medians of all rounds, whatever the disk was doing.
    pub(crate) fn raw(&self) -> Summary {
        Self::medians(&self.rounds, 0)
    }

    fn medians(rounds: &[Round], left_out: usize) -> Summary {
        let of = |one: fn(&Pair) -> Figures| {
            Figures::medians(&rounds.iter().map(|round| one(&round.pair)).collect::<Vec<_>>())
        };
        let ratio = |Round { pair: Pair { ledger, plain }, .. }: &Round| ledger.appends_per_s / plain.appends_per_s;
        Summary {
            rounds: rounds.len(),
            left_out,
            probe_ms: median(rounds.iter().map(|round| round.probe_ms).collect()),
            pair: Pair { ledger: of(|pair| pair.ledger), plain: of(|pair| pair.plain) },
            ratio: median(rounds.iter().map(ratio).collect()),
        }
    }
}

impl Verified {
    #[expect(clippy::cast_precision_loss, reason = "lengths of files are far below 2^52")]
    pub(crate) fn summary(&self) -> WalkSummary {
        let each = |of: &dyn Fn(&Walk) -> f64| median(self.rounds.iter().map(of).collect());
        let (bytes, records) = (self.read_bytes as f64, self.records as f64);
        WalkSummary {
            verified_bytes_per_s: each(&|walk| bytes / walk.verified_s),
            verified_records_per_s: each(&|walk| records / walk.verified_s),
            hashed_bytes_per_s: each(&|walk| bytes / walk.hashed_s),
            ratio: each(&|walk| walk.hashed_s / walk.verified_s),
            ratio_to_segments: each(&|walk| walk.segments_hashed_s / walk.verified_s),
        }
    }
}
