//! Percentiles, medians, ratios within a round, and rounds that are left out.

use super::{Figures, Level, Round, median, percentile};

#[test]
fn percentiles_are_values_that_occurred() {
    let hundred: Vec<u64> = (1..=100).collect();
    assert_eq!((percentile(&hundred, 50), percentile(&hundred, 99)), (50, 99));
    assert_eq!((percentile(&[7], 50), percentile(&[7], 99), percentile(&[], 50)), (7, 7, 0));
}

#[test]
fn medians() {
    assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
    assert_eq!(median(vec![4.0, 1.0]), 2.5);
    assert_eq!(median(Vec::new()), 0.0);
}

fn round(probe_ms: f64, pass: f64, ours: f64) -> Round {
    let all = |value| Figures { p50_us: value, p99_us: value, calls_per_s: value, cpu_us: value };
    Round { probe_ms, arms: [all(1.0), all(pass), all(pass * 2.0), all(ours), all(ours * 1.5), all(pass)] }
}

#[test]
fn a_ratio_is_taken_inside_each_round() {
    let rounds = vec![round(0.1, 10.0, 20.0), round(0.2, 100.0, 300.0), round(0.1, 1.0, 3.0)];
    let summary = Level { connections: 1, rounds }.summary().unwrap();
    assert_eq!(summary.over_pass.p50_us, 3.0);
    assert_eq!(summary.over_pass_sync.cpu_us, 1.5);
    assert_eq!(summary.arms[3].p50_us, 20.0);
    assert_eq!((summary.rules_over_gateway.p50_us, summary.in_memory_over_pass.p50_us), (1.5, 1.0));
}

#[test]
fn rounds_with_a_busy_disk_are_left_out() {
    let level = Level { connections: 1, rounds: vec![round(4.0, 1.0, 9.0), round(0.3, 1.0, 2.0)] };
    let summary = level.summary().unwrap();
    assert_eq!((summary.rounds, summary.left_out, summary.over_pass.p50_us), (1, 1, 2.0));
    let busy = Level { connections: 1, rounds: vec![round(0.31, 1.0, 9.0)] };
    assert!(busy.summary().is_none());
    assert_eq!(busy.raw().over_pass.p50_us, 9.0);
}
