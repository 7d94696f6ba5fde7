//! Batches under load: a record that came alone is written at once, those that came in company wait for more of it, and
//! nothing else waits for them.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::sync::Arc;
use std::time::Duration;

use countersign_ledger::{Config, Entry, Ledger, Pending, PublishMode, Slot, Store};
use countersign_testkit::disk::FakeDisk;

/// Nobody waits so long for company: a test that has to does not end.
const EVER: Duration = Duration::from_secs(60 * 60);
/// What comes meanwhile comes during one sync.
const SYNC: Duration = Duration::from_millis(500);

/// A ledger with so many open actions, on a disk that takes its time and is writing a record.
fn busy(slots: usize) -> (Ledger, Vec<Slot>, Pending) {
    let disk = FakeDisk::new();
    let store = Store::new(Arc::new(disk.clone()), "/ledger");
    Ledger::create(&store, "example.com/log").unwrap();
    let config = Config { publish: PublishMode::Inline, idle_sync: None, gather: EVER, ..Config::default() };
    let (ledger, _) = Ledger::open(&store, config, &mut |_| Ok(())).unwrap();
    disk.set_sync_time(SYNC);
    let slots = (0..slots).map(|_| ledger.reserve().unwrap()).collect();
    let before = disk.ops();
    let first = ledger.append(Entry::new("first"));
    while disk.ops() == before {
        std::thread::yield_now();
    }
    (ledger, slots, first)
}

fn append(ledger: &Ledger, leaves: &[&str]) -> Vec<Pending> {
    leaves.iter().map(|leaf| ledger.append(Entry::new(*leaf))).collect()
}

/// The sizes of the trees that they were committed with.
fn sizes(pending: impl IntoIterator<Item = Pending>) -> Vec<u64> {
    pending.into_iter().map(|pending| pending.wait().unwrap().tree_size).collect()
}

#[test]
fn records_that_came_in_company_wait_for_more_of_it() {
    let (ledger, _slots, first) = busy(16);
    let mut company = append(&ledger, &["b", "c"]);
    assert_eq!(sizes([first]), [1]);
    company.extend(append(&ledger, &["d", "e"]));
    assert_eq!(sizes(company), [5; 4]);
}

#[test]
fn a_record_alone_waits_for_none() {
    let (ledger, _slots, first) = busy(16);
    let second = append(&ledger, &["b"]);
    assert_eq!((sizes([first]), sizes(second)), (vec![1], vec![2]));
}

#[test]
fn with_few_open_actions_nobody_waits() {
    let (ledger, _slots, first) = busy(8);
    let more = append(&ledger, &["b", "c"]);
    assert_eq!((sizes([first]), sizes(more)), (vec![1], vec![3; 2]));
}

#[test]
fn a_close_waits_for_none() {
    let (ledger, slots, first) = busy(16);
    let company = append(&ledger, &["b", "c"]);
    assert_eq!(sizes([first]), [1]);
    drop(slots);
    ledger.close().unwrap();
    assert_eq!(sizes(company), [3; 2]);
}
