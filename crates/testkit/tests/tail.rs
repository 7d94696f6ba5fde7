//! Following the log over a disk that fails: the error comes once, and it is the end.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::path::Path;
use std::sync::Arc;

use countersign_ledger::{Config, Entry, Ledger, PublishMode, ReadError, Store};
use countersign_testkit::disk::FakeDisk;

const SEGMENT: &str = "/ledger/segments/00000000000000000000.seg";
/// More than there can be.
const MANY: usize = 100;

/// Reads from `from` until the end: the indexes, and the error where one came last.
fn read(ledger: &Ledger, from: u64) -> (Vec<u64>, Option<ReadError>) {
    let mut tail = ledger.tail(from);
    let mut found: Vec<_> = tail.by_ref().take(MANY).collect();
    assert!(found.len() < MANY, "it does not end");
    assert!(tail.next().is_none(), "and it stays so");
    let error = found.pop_if(|last| last.is_err()).map(Result::unwrap_err);
    (found.into_iter().map(|stored| stored.unwrap().index).collect(), error)
}

#[test]
fn an_error_ends_the_tail_and_another_one_goes_on() {
    let disk = FakeDisk::new();
    let store = Store::new(Arc::new(disk.clone()), "/ledger");
    Ledger::create(&store, "example.com/log").unwrap();
    let config = Config { publish: PublishMode::Inline, idle_sync: None, ..Config::default() };
    let (ledger, _) = Ledger::open(&store, config, &mut |_| Ok(())).unwrap();
    // A frame each.
    (0..6).for_each(|number| assert!(ledger.append(Entry::new(format!("leaf {number}"))).wait().is_ok()));
    // Without an error `None` is no end.
    let mut waiting = ledger.tail(6);
    assert!(waiting.next().is_none());
    ledger.append(Entry::new("leaf 6")).wait().unwrap();
    assert_eq!(waiting.next().unwrap().unwrap().index, 6);

    let good = disk.bytes(Path::new(SEGMENT)).unwrap();
    let place = good.windows(6).position(|bytes| bytes == b"leaf 3").unwrap();
    let mut bad = good.clone();
    bad.get_mut(place).unwrap().clone_from(&b'L');
    disk.plant(Path::new(SEGMENT), &bad);
    let (found, error) = read(&ledger, 0);
    assert_eq!(found, [0, 1, 2]);
    assert!(error.unwrap().to_string().contains("record `3`"));

    let mut waiting = ledger.tail(3);
    assert!(waiting.next().unwrap().is_err());
    disk.plant(Path::new(SEGMENT), &good);
    assert!(waiting.next().is_none(), "nobody knows where it stands");
    let (found, error) = read(&ledger, 3);
    assert_eq!((found.as_slice(), error.is_none()), ([3, 4, 5, 6].as_slice(), true));

    disk.snatch(Path::new(SEGMENT));
    let (found, error) = read(&ledger, 0);
    assert!(found.is_empty() && error.is_some());
}
