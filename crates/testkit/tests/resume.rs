//! A gate that starts from a snapshot goes on as one that read the whole log.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail the test")]

use countersign_gate::call::Answer;
use countersign_gate::{Gate, SnapshotRules};
use countersign_kernel::replay::{Found, Leaf, replay};
use countersign_ledger::disk::{Access, Disk, Mode};
use countersign_ledger::verify;
use countersign_model::command::Deed;
use countersign_model::id::TicketId;
use countersign_model::record::Status;
use countersign_model::unit::LeafIndex;
use countersign_model::{Body, Digest};
use countersign_testkit::world::{CHANGE, READ, Rules, World, store};

fn world() -> World {
    let snapshots = SnapshotRules { every_records: 10, at_stop_records: 5 };
    World::under(Rules { snapshots, ..Rules::default() })
}

fn ticket(answer: &Answer<Vec<u8>>) -> TicketId {
    match answer {
        Answer::Parked { ticket, .. } => ticket.clone(),
        other => panic!("{other:?}"),
    }
}

/// Snapshots on record: the size of each, and where it stands.
fn snapshots(world: &World) -> Vec<(u64, u64)> {
    let records = world.records().into_iter();
    let size = |body: &Body| match body {
        Body::Snapshot(snapshot) => Some(snapshot.size),
        _ => None,
    };
    records.filter_map(|stored| Some((size(&stored.record.body)?, stored.index))).collect()
}

fn restarted(world: &World) -> World {
    world.restart(world.disk.process_crash_image()).unwrap()
}

/// Calls, some of them parked, until a snapshot is due; then takes it.
fn with_snapshot() -> (World, TicketId) {
    let world = world();
    let parked = ticket(&world.call(CHANGE));
    for _ in 0..6 {
        assert!(matches!(world.call(READ), Answer::Ran { .. }));
    }
    take_snapshot(&world);
    (world, parked)
}

fn take_snapshot(world: &World) {
    // The public folder may still be on its way: then it is tried again.
    while !world.gate.snapshot_if_due() {
        std::thread::yield_now();
    }
}

fn change_key(world: &World) {
    let key = world.wait(world.gate.next_key()).unwrap();
    world.command(Deed::RotateKey { key: key.to_string() }).unwrap();
}

/// A start from the snapshot of `size` records that holds what a start from the first record holds.
fn starts_from(world: &World, size: u64) -> World {
    let next = restarted(world);
    assert_eq!(next.recovered.from, size);
    assert_eq!(next.gate.budgets(), next.refolded().budgets());
    assert!(matches!(next.call(READ), Answer::Ran { status: Status::Done, receipt: Some(_), .. }));
    next
}

#[test]
fn a_snapshot_is_due_after_so_many_records_and_not_before() {
    let world = world();
    assert!(!world.gate.snapshot_if_due());
    assert_eq!(snapshots(&world), []);
    let (world, _) = with_snapshot();
    let [(size, leaf)] = snapshots(&world).try_into().unwrap();
    assert!(size >= 10 && size <= leaf, "{size} at {leaf}");
    assert!(!world.gate.snapshot_if_due(), "and then not at once again");
}

#[test]
fn a_crash_behind_a_snapshot_loses_nothing_and_what_waited_waits() {
    let (world, parked) = with_snapshot();
    let size = snapshots(&world)[0].0;
    world.call(READ);
    let next = restarted(&world);
    assert_eq!(next.recovered.from, size);
    let records = next.records();
    let started = records.iter().rposition(|stored| matches!(stored.record.body, Body::Started(_))).unwrap();
    assert!(started as u64 > size);
    assert_eq!(next.gate.budgets(), next.refolded().budgets());
    next.approve(&parked).unwrap();
    let answer = next.call(CHANGE);
    assert!(matches!(answer, Answer::Ran { status: Status::Done, receipt: Some(_), .. }), "{answer:?}");
    assert_eq!(next.gate.budgets(), next.refolded().budgets());
}

#[test]
fn an_orderly_stop_leaves_a_snapshot_and_stopped_is_last() {
    let world = world();
    for _ in 0..4 {
        world.call(READ);
    }
    world.gate.close().unwrap();
    let next = restarted(&world);
    let (size, leaf) = snapshots(&next)[0];
    assert_eq!((next.recovered.from, leaf), (size, size));
    assert!(matches!(next.records()[usize::try_from(leaf).unwrap() + 1].record.body, Body::Stopped));
}

#[test]
fn replay_finds_the_state_of_a_snapshot_again_and_every_change_of_it() {
    let (world, _) = with_snapshot();
    world.gate.close().unwrap();
    let world = restarted(&world);
    let mut leaves: Vec<Leaf> = world
        .records()
        .into_iter()
        .map(|stored| Leaf {
            leaf: LeafIndex(stored.index),
            leaf_hash: Gate::leaf_hash(&stored.leaf),
            record: stored.record,
            payload: stored.payload,
        })
        .collect();
    let (settings, bundle) = (world.stage.settings(), &world.stage.bundle);
    let report = replay(&leaves, &settings, bundle);
    let found: Vec<_> = report.lines.iter().filter(|line| line.kind == "snapshot").collect();
    assert!(found.len() >= 2 && report.lines.iter().all(|line| line.found == Found::Identical), "{report:?}");
    for leaf in &mut leaves {
        if let Body::Snapshot(snapshot) = &mut leaf.record.body {
            snapshot.state = Digest([1; 32]);
        }
    }
    assert!(!replay(&leaves, &settings, bundle).is_clean());
}

#[test]
fn other_budgets_and_bent_files_start_from_the_first_record_with_the_same_state() {
    let (mut world, _) = with_snapshot();
    world.gate.close().unwrap();
    let image = world.disk.process_crash_image();
    for path in image.paths().into_iter().filter(|path| path.starts_with("/ledger/snapshots")) {
        let file = image.open(&path, Mode::Edit).unwrap();
        file.write_at(40, &[0xA5; 8]).unwrap();
    }
    let bent = world.restart(image).unwrap();
    assert_eq!(bent.recovered.from, 0);
    assert_eq!(bent.gate.budgets(), bent.refolded().budgets());
    world.stage.rules.budgets = vec![Rules::calls_per_run(99)];
    let other = restarted(&world);
    assert_eq!(other.recovered.from, 0);
    assert_eq!(other.gate.budgets(), other.refolded().budgets());
    assert!(other.gate.budgets().iter().all(|budget| budget.cap == 99 && budget.spent > 0));
}

#[test]
fn a_file_without_its_record_counts_for_nothing() {
    let (world, _) = with_snapshot();
    let (size, leaf) = snapshots(&world)[0];
    // A snapshot of the same log under a name of its own, which no record speaks of.
    let image = world.disk.process_crash_image();
    let path = |size: u64| format!("/ledger/snapshots/{size:020}.snap");
    let bytes = countersign_ledger::disk::read_file(&image, path(size).as_ref(), u64::MAX).unwrap();
    let file = image.open(path(leaf).as_ref(), Mode::Replace(Access::Private)).unwrap();
    file.write_at(0, &bytes).unwrap();
    assert_eq!(world.restart(image).unwrap().recovered.from, size);
}

#[test]
fn snapshots_from_before_and_after_a_change_of_the_key_are_begun_at() {
    let (world, parked) = with_snapshot();
    let before = snapshots(&world)[0].0;
    change_key(&world);
    world.call(READ);
    // The snapshot is under the first key, what is read behind it under both.
    let world = starts_from(&world, before);
    for _ in 0..6 {
        world.call(READ);
    }
    take_snapshot(&world);
    let after = snapshots(&world)[1].0;
    let rotated = world.records().iter().position(|stored| matches!(stored.record.body, Body::KeyRotated(_))).unwrap();
    assert!(before < rotated as u64 && (rotated as u64) < after);
    let world = starts_from(&world, after);
    // A second change, behind a snapshot that is itself behind the first.
    change_key(&world);
    let world = starts_from(&world, after);
    world.approve(&parked).unwrap();
    assert!(matches!(world.call(CHANGE), Answer::Ran { status: Status::Done, .. }));
    // The list of keys counts from a snapshot on as it does from the first record on.
    let keys = "/ledger/log.keys";
    let text = countersign_ledger::disk::read_file(&world.disk, keys.as_ref(), u64::MAX).unwrap();
    let half = String::from_utf8(text.clone()).unwrap().rfind(countersign_receipt::keys::HEADER).unwrap();
    for (what, left) in [("none", &text[..0]), ("the first alone", &text[..half - 1])] {
        let image = world.disk.process_crash_image();
        image.plant(keys.as_ref(), left);
        assert!(world.restart(image).is_err(), "{what} of the statements is left");
    }
    world.gate.close().unwrap();
    let report = verify::walk(&store(&world.disk), None, |_, _| {}).unwrap();
    assert_eq!(report.head.size, world.gate.status().size);
}
