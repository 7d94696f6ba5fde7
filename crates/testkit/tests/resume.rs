//! A gate that starts from a snapshot goes on as one that read the whole log.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail the test")]

use countersign_gate::call::Answer;
use countersign_gate::{Gate, SnapshotRules};
use countersign_kernel::replay::{Found, Leaf, replay};
use countersign_ledger::disk::{Access, Disk, Mode};
use countersign_model::id::TicketId;
use countersign_model::record::Status;
use countersign_model::unit::LeafIndex;
use countersign_model::{Body, Digest};
use countersign_testkit::world::{CHANGE, READ, Rules, World};

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
    // The public folder may still be on its way: then it is tried again.
    while !world.gate.snapshot_if_due() {
        std::thread::yield_now();
    }
    (world, parked)
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
