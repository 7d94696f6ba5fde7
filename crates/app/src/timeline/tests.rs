//! The timeline of a run that holds one of everything.

use super::{Link, Timeline, Totals, render};
use crate::sample::{call, run};

#[test]
fn a_run_reads_as_a_story() {
    let text = anstream::adapter::strip_str(&render("r-7", &Timeline::of(run()))).to_string();
    let want = include_str!("golden.txt");
    assert_eq!(text, want, "\n{text}");
}

#[test]
fn records_stand_under_what_they_belong_to() {
    let timeline = Timeline::of(run());
    let links: Vec<_> = timeline.nodes.iter().map(|node| node.link).collect();
    assert_eq!(timeline.roots, [0, 8, 9, 10, 11]);
    assert_eq!(timeline.nodes[3].children, [4, 5, 6]);
    assert_eq!((links[1], links[2], links[5]), (Some(Link::Outcome), Some(Link::Claimed), Some(Link::Ticket)));
    let totals = Totals {
        allowed: 3,
        denied: 4,
        parked: 2,
        repeated: 1,
        unknown: 1,
        open: 1,
        rows: 6,
        bytes_sent: 240,
        busy_ms: 90,
        cost_microusd: Some(1_250),
        ..Totals::default()
    };
    assert_eq!(timeline.totals, totals);
}

/// A claim can name a step that does not exist, itself, or one that comes later; none of it loses a record.
#[test]
fn wild_claims_lose_nothing() {
    let bodies = [("1", "1"), ("2", "9"), ("3", "4"), ("4", "3")];
    let records = bodies.iter().enumerate().map(|(at, (step, cause))| {
        let mut record = run().remove(0).1;
        record.body = countersign_model::Body::Intent(Box::new(call("query", step, cause)));
        (at as u64, record)
    });
    let timeline = Timeline::of(records.collect());
    assert_eq!(timeline.roots, [0, 1, 2]);
    let value = timeline.value("r-7");
    assert_eq!(value["timeline"][2]["children"][0]["claimed"]["step"], "4");
    assert_eq!(value["timeline"][2]["children"][0]["under_because"], "claimed_cause");
}

#[test]
fn a_chain_of_two_thousand_steps_is_no_deep_recursion() {
    let record = |at: u64| {
        let mut record = run().remove(0).1;
        let claimed = call("query", &at.to_string(), &at.saturating_sub(1).to_string());
        record.body = countersign_model::Body::Intent(Box::new(claimed));
        (at, record)
    };
    let timeline = Timeline::of((0..2_000).map(record).collect());
    assert_eq!(timeline.roots, [0]);
    assert!(render("r-7", &timeline).lines().count() > 2_000);
}
