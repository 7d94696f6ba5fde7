//! Figures: from latencies to percentiles, from rounds to medians, and ratios within a round.
//!
//! A ratio is taken inside each round and then its median over the rounds, because what disturbs one of the four in a
//! round mostly disturbs the others too. It must not know where the numbers came from.

#[cfg(test)]
mod tests;

use serde::Serialize;

use crate::driver::Sample;

/// A round counts only where a bare sync took no longer than this, in milliseconds: beyond it the disk is not free.
pub(crate) const PROBE_MS_MAX: f64 = 0.3;

/// How many are compared.
pub(crate) const ARMS: usize = 6;

/// Who is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Arm {
    /// Driver to upstream.
    Direct,
    /// Through a hop without logic.
    Pass,
    /// Through a hop that parses and syncs two records.
    PassSync,
    /// Through the gateway.
    Countersign,
    /// Through the gateway, with thousands of rules about arguments.
    Rules,
    /// Through the gateway, with its ledger in memory.
    InMemory,
}

impl Arm {
    /// All, in the order in which they are shown.
    pub(crate) const ALL: [Self; ARMS] =
        [Self::Direct, Self::Pass, Self::PassSync, Self::Countersign, Self::Rules, Self::InMemory];

    /// What it is, for people.
    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Direct => "(a) direct",
            Self::Pass => "(b) bare pass-through",
            Self::PassSync => "(c) pass-through, parsed, 2 syncs",
            Self::Countersign => "countersign",
            Self::Rules => "countersign, rules on arguments",
            Self::InMemory => "countersign, ledger in memory",
        }
    }
}

/// What is measured of one arm.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Figures {
    /// Half of the calls were faster, in microseconds.
    pub(crate) p50_us: f64,
    /// 99 of 100 calls were faster, in microseconds.
    pub(crate) p99_us: f64,
    /// Calls a second.
    pub(crate) calls_per_s: f64,
    /// Processor time a call, in microseconds: of the process tree in the middle, for `direct` of the upstream.
    pub(crate) cpu_us: f64,
}

/// One round at one number of connections.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Round {
    /// Median of a bare append and sync before it, in milliseconds.
    pub(crate) probe_ms: f64,
    /// One for each arm, in the order of [`Arm::ALL`].
    pub(crate) arms: [Figures; ARMS],
}

/// All rounds at one number of connections.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Level {
    /// How many connections.
    pub(crate) connections: u32,
    /// As they were measured.
    pub(crate) rounds: Vec<Round>,
}

/// What is shown of a level.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Summary {
    /// How many connections.
    pub(crate) connections: u32,
    /// Rounds that are in these medians.
    pub(crate) rounds: usize,
    /// Rounds that were left out.
    pub(crate) left_out: usize,
    /// Median of the bare sync over the rounds that are in, in milliseconds.
    pub(crate) probe_ms: f64,
    /// Medians, in the order of [`Arm::ALL`].
    pub(crate) arms: [Figures; ARMS],
    /// The gateway over the bare pass-through.
    pub(crate) over_pass: Figures,
    /// The gateway over the pass-through that parses and syncs.
    pub(crate) over_pass_sync: Figures,
    /// The gateway with its rules over the gateway.
    pub(crate) rules_over_gateway: Figures,
    /// The gateway with its ledger in memory over the bare pass-through.
    pub(crate) in_memory_over_pass: Figures,
}

impl Figures {
    /// The figures of one window.
    #[expect(clippy::cast_precision_loss, reason = "counts of calls are far below 2^52")]
    pub(crate) fn of(sample: &Sample) -> Self {
        let calls = sample.latencies_ns.len() as f64;
        Self {
            p50_us: percentile(&sample.latencies_ns, 50) as f64 / 1_000.0,
            p99_us: percentile(&sample.latencies_ns, 99) as f64 / 1_000.0,
            calls_per_s: calls / sample.window.as_secs_f64(),
            cpu_us: sample.cpu_us as f64 / calls,
        }
    }

    fn over(&self, base: &Self) -> Self {
        Self {
            p50_us: self.p50_us / base.p50_us,
            p99_us: self.p99_us / base.p99_us,
            calls_per_s: self.calls_per_s / base.calls_per_s,
            cpu_us: self.cpu_us / base.cpu_us,
        }
    }

    fn medians(of: &[Self]) -> Self {
        let each = |field: fn(&Self) -> f64| median(of.iter().map(field).collect());
        Self {
            p50_us: each(|figures| figures.p50_us),
            p99_us: each(|figures| figures.p99_us),
            calls_per_s: each(|figures| figures.calls_per_s),
            cpu_us: each(|figures| figures.cpu_us),
        }
    }
}

impl Round {
    fn of(&self, arm: Arm) -> &Figures {
        let [direct, pass, pass_sync, gateway, rules, in_memory] = &self.arms;
        match arm {
            Arm::Direct => direct,
            Arm::Pass => pass,
            Arm::PassSync => pass_sync,
            Arm::Countersign => gateway,
            Arm::Rules => rules,
            Arm::InMemory => in_memory,
        }
    }

    /// Whether the disk was free.
    pub(crate) fn counts(&self) -> bool {
        self.probe_ms <= PROBE_MS_MAX
    }
}

impl Level {
    /// Medians of the rounds that count; none where no round does.
    pub(crate) fn summary(&self) -> Option<Summary> {
        let kept: Vec<&Round> = self.rounds.iter().filter(|round| round.counts()).collect();
        let left_out = self.rounds.len() - kept.len();
        (!kept.is_empty()).then(|| self.medians(&kept, left_out))
    }

    /// Medians of all rounds, whatever the disk was doing.
    pub(crate) fn raw(&self) -> Summary {
        self.medians(&self.rounds.iter().collect::<Vec<_>>(), 0)
    }

    fn medians(&self, rounds: &[&Round], left_out: usize) -> Summary {
        let over = |(upper, base): (Arm, Arm)| {
            let ratios: Vec<Figures> = rounds.iter().map(|round| round.of(upper).over(round.of(base))).collect();
            Figures::medians(&ratios)
        };
        let each = |arm: Arm| Figures::medians(&rounds.iter().map(|round| *round.of(arm)).collect::<Vec<_>>());
        Summary {
            connections: self.connections,
            rounds: rounds.len(),
            left_out,
            probe_ms: median(rounds.iter().map(|round| round.probe_ms).collect()),
            arms: Arm::ALL.map(each),
            over_pass: over((Arm::Countersign, Arm::Pass)),
            over_pass_sync: over((Arm::Countersign, Arm::PassSync)),
            rules_over_gateway: over((Arm::Rules, Arm::Countersign)),
            in_memory_over_pass: over((Arm::InMemory, Arm::Pass)),
        }
    }
}

/// The smallest value that `hundredths` of 100 values do not exceed; 0 where there are none.
pub(crate) fn percentile(sorted: &[u64], hundredths: usize) -> u64 {
    let rank = (sorted.len() * hundredths).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0)
}

/// The middle value, or the mean of the two in the middle; 0 where there are none.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    match (values.get(half), half.checked_sub(1).and_then(|below| values.get(below))) {
        (Some(middle), Some(below)) if values.len().is_multiple_of(2) => f64::midpoint(*middle, *below),
        (Some(middle), _) => *middle,
        (None, _) => 0.0,
    }
}
