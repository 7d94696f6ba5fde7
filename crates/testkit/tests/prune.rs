//! Pruning through a whole gate: what is left goes on, proves and verifies as before, whatever happens on the way.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail the test")]

use std::path::{Path, PathBuf};

use countersign_gate::call::Answer;
use countersign_gate::view::Stored;
use countersign_gate::{Below, Cut, SnapshotRules, leaf_of};
use countersign_kernel::replay::{Found, Replayer};
use countersign_kernel::{BudgetRule, BudgetScope, Kernel, RetentionClass};
use countersign_ledger::disk::{Disk as _, Mode, read_file};
use countersign_ledger::{Base, Config, Ledger, OpenError, PublishMode, Reader, Vault, delete_snapshots, verify};
use countersign_model::command::Deed;
use countersign_model::id::TicketId;
use countersign_model::record::VaultScope;
use countersign_model::unit::LeafIndex;
use countersign_model::{Body, Reason};
use countersign_receipt::Receipt;
use countersign_testkit::disk::{FakeDisk, Fault};
use countersign_testkit::world::{CHANGE, DROP, READ, Rules, World, id, store};

const DAY_MS: u64 = 24 * 3_600_000;

/// Every commit begins a segment, so the log can be cut anywhere.
fn rules() -> Rules {
    let ledger =
        Config { segment_bytes: 1, chunk_bytes: 1, publish: PublishMode::Inline, idle_sync: None, ..Config::default() };
    Rules { ledger, snapshots: SnapshotRules { every_records: 1_000_000, at_stop_records: 1 }, ..Rules::default() }
}

fn ticket(answer: &Answer<Vec<u8>>) -> TicketId {
    match answer {
        Answer::Parked { ticket, .. } => ticket.clone(),
        other => panic!("{other:?}"),
    }
}

/// So many days pass; the agent gets another token.
fn pass_days(world: &mut World, days: u64) {
    world.stage.clock.advance_ms(days * DAY_MS);
    world.tick();
    (world.token, world.caller) = world.token_of("coder");
}

/// A world with records of every common kind, some of them older than any retention, `more` reads among those.
fn aged(rules: Rules, more: usize) -> World {
    let mut world = World::under(rules);
    let parked = ticket(&world.call(CHANGE));
    assert!(matches!(world.call(READ), Answer::Ran { .. }));
    assert!(matches!(world.call(DROP), Answer::Denied { .. }));
    world.approve(&parked).unwrap();
    assert!(matches!(world.call(CHANGE), Answer::Ran { .. }));
    for _ in 0..more {
        assert!(matches!(world.call(READ), Answer::Ran { .. }));
    }
    pass_days(&mut world, 200);
    for _ in 0..4 {
        assert!(matches!(world.call(READ), Answer::Ran { .. }));
    }
    world
}

fn words(reason: Reason) -> String {
    reason.detail.unwrap_or_default()
}

fn plan(world: &World, below: Below) -> Result<u64, String> {
    world.wait(world.gate.prunable(below)).unwrap().minimum
}

fn prune(world: &World, minimum: u64) -> Result<Cut, String> {
    let carried = world.command(Deed::Prune { minimum: LeafIndex(minimum) }).map_err(words)?;
    Ok(carried.pruned.unwrap())
}

/// The first record that is young, up to which everything may go.
fn young(world: &World) -> u64 {
    plan(world, Below::Age(190 * DAY_MS)).unwrap()
}

fn next_on(world: &World, image: FakeDisk) -> World {
    world.restart(image).unwrap()
}

fn restarted(world: &World) -> World {
    next_on(world, world.disk.process_crash_image())
}

fn walked(disk: &FakeDisk, what: &str) -> u64 {
    let report = verify::walk(&store(disk), None, |_, _| {}).unwrap_or_else(|error| panic!("{what}: {error}"));
    report.from
}

fn kept(world: &World, from: u64) -> Vec<Vec<u8>> {
    world.records().into_iter().filter(|stored| stored.index >= from).map(|stored| stored.leaf).collect()
}

/// Decides everything that is kept again. Says what was found, by how often.
fn replayed(world: &World) -> (usize, Vec<String>) {
    let disk = world.disk.process_crash_image();
    let vault = Vault::open(&store(&disk)).unwrap();
    let settings = world.stage.settings();
    let base = Reader::new(&store(&disk)).base().unwrap();
    let kernel = base.as_ref().map_or_else(|| Kernel::new(settings.clone()), |base| restored(world, base, &vault));
    let size = base.as_ref().map_or(0, |base| base.minimum);
    let mut replayer = Replayer::new(kernel, size, &world.stage.bundle);
    let (mut identical, mut other) = (0, Vec::new());
    let mut found = |line: countersign_kernel::replay::Line| match line.found {
        Found::Identical => identical += 1,
        found => other.push(format!("{} {}: {found:?}", line.leaf, line.kind)),
    };
    let reader = Reader::new(&store(&disk));
    let to = reader.head().unwrap().size;
    let mut feed = |stored: countersign_ledger::Record<'_>| {
        replayer.feed(leaf_of(Some(&vault), stored).unwrap(), &mut found);
        true
    };
    reader.each(size, to, &mut feed).unwrap();
    replayer.finish(&mut found);
    (identical, other)
}

fn restored(world: &World, base: &Base, vault: &Vault) -> Kernel {
    let find = |leaf: LeafIndex| base.carried.iter().find(|stored| stored.index == leaf.0);
    let mut read = |leaf| leaf_of(Some(vault), find(leaf)?.as_record()).ok();
    Kernel::restore_base(world.stage.settings(), &base.state, &mut read).unwrap()
}

fn files(disk: &FakeDisk, under: &str) -> Vec<PathBuf> {
    disk.paths().into_iter().filter(|path| path.starts_with(under)).collect()
}

/// The first record of each segment.
fn cuts(disk: &FakeDisk) -> Vec<u64> {
    let number = |path: PathBuf| path.file_stem().unwrap().to_string_lossy().parse().unwrap();
    files(disk, "/ledger/segments").into_iter().map(number).collect()
}

/// What is left holds together: files, tree, proofs, state.
fn holds_together(world: &World, minimum: u64, what: &str) {
    world.gate.snapshot_if_due();
    assert_eq!(cuts(&world.disk).first(), Some(&minimum), "{what}");
    let bases = files(&world.disk, "/ledger/base");
    assert_eq!(bases.len(), usize::from(minimum > 0), "{what}: {bases:?}");
    for leaves in ["/ledger/public/tile/entries", "/ledger/public/tile/0"] {
        let number = |path: &PathBuf| {
            let name = path.strip_prefix(leaves).unwrap().to_string_lossy()[..3].to_owned();
            name.parse::<u64>().unwrap()
        };
        let first = files(&world.disk, leaves).iter().map(number).min();
        assert_eq!(first, Some(minimum / 256), "{what}: {leaves}");
    }
    let records = world.records();
    assert_eq!(records.first().unwrap().index, minimum, "{what}");
    for Stored { index, .. } in &records {
        assert!(world.gate.cose_receipt_of(*index).is_ok(), "{what}: record {index}");
    }
}

#[test]
fn a_pruned_log_goes_on_proves_and_verifies() {
    // Enough for full bundles and for a tile of tiles to begin.
    let world = aged(Rules { budgets: vec![Rules::calls_per_run(1_000)], ..rules() }, 300);
    let intent = |stored: &&Stored| matches!(stored.record.body, Body::Intent(_));
    let before = world.records();
    let old = world.gate.receipt_of(before.iter().find(intent).unwrap().index).unwrap().to_json().unwrap();
    let minimum = young(&world);
    assert!(minimum > 600, "{minimum}");
    let twin = restarted(&world);

    let cut = prune(&world, minimum).unwrap();
    assert_eq!((cut.minimum, cut.records), (minimum, minimum));
    assert_eq!(
        kept(&world, minimum)[..before.len() - usize::try_from(minimum).unwrap()],
        kept(&twin, minimum)[..before.len() - usize::try_from(minimum).unwrap()]
    );
    holds_together(&world, minimum, "pruned");
    assert!(world.gate.stored(minimum - 1).unwrap_err().to_string().contains("is pruned"));
    assert!(world.gate.receipt_of(0).unwrap_err().to_string().contains("kept from record"));
    assert!(matches!(world.call(READ), Answer::Ran { receipt: Some(_), .. }));
    assert_eq!(world.gate.budgets().len(), twin.gate.budgets().len());
    assert_eq!(walked(&world.disk.process_crash_image(), "beside the gate"), minimum);

    // A crash, and a start without a snapshot: from the base.
    let next = restarted(&world);
    assert_eq!(next.recovered.from, minimum);
    assert_eq!(next.gate.budgets(), world.gate.budgets());
    assert!(matches!(next.call(READ), Answer::Ran { receipt: Some(_), .. }));
    next.gate.close().unwrap();
    // An orderly stop, and a start from its snapshot.
    let next = restarted(&next);
    assert!(next.recovered.from > minimum);
    holds_together(&next, minimum, "from a snapshot");
    delete_snapshots(&store(&next.disk)).unwrap();
    let next = restarted(&next);
    assert_eq!(next.recovered.from, minimum);
    holds_together(&next, minimum, "without snapshots");

    let key = countersign_ledger::load_verifier(&store(&next.disk)).unwrap();
    Receipt::parse(&old).unwrap().verify(&key).unwrap();
    let new = next.gate.receipt_of(next.records().iter().rfind(intent).unwrap().index).unwrap();
    new.verify(&key).unwrap();
    let public = verify::walk_public(&next.disk, Path::new("/ledger/public"), &key, |_, _| {}).unwrap();
    assert_eq!(public.from, minimum / 256 * 256);
    let (identical, other) = replayed(&next);
    assert!(identical >= 8 && other.is_empty(), "{identical}: {other:?}");
}

#[test]
fn what_waited_where_the_log_begins_is_carried_and_replays() {
    let mut world = World::under(rules());
    let parked = ticket(&world.call(CHANGE));
    let refused = ticket(&world.call("UPDATE customers SET name = 'y' WHERE id = 2"));
    world.answer(&refused, false).unwrap();
    let minimum = world.records().len() as u64;
    // Of these the log still speaks, of what they are about it does not.
    world.approve(&parked).unwrap();
    assert!(matches!(world.call(CHANGE), Answer::Ran { .. }));
    let again = "UPDATE customers SET name = 'y' WHERE id = 2";
    assert!(matches!(world.call(again), Answer::Denied { .. }));
    pass_days(&mut world, 200);
    assert!(matches!(world.call(READ), Answer::Ran { .. }));
    let whole = replayed(&world);
    assert_eq!(whole.1, Vec::<String>::new());
    prune(&world, minimum).unwrap();
    let base = Reader::new(&store(&world.disk)).base().unwrap().unwrap();
    assert_eq!(base.carried.len(), 2);
    let next = restarted(&world);
    holds_together(&next, minimum, "carried");
    assert_eq!(replayed(&next).1, Vec::<String>::new());
    // Whoever erases reaches what is carried, too.
    let run = VaultScope::Run(
        next.records().iter().find_map(|s| s.record.body.attempt().map(|a| a.principal.run.clone())).unwrap(),
    );
    next.stage.clock.advance_ms(200 * DAY_MS);
    let erased = next.command(Deed::Erase { scope: run }).map_err(words).unwrap().erased.unwrap();
    assert!(erased.payloads >= 4, "{erased:?}");
    let vault = Vault::open(&store(&next.disk)).unwrap();
    for stored in &base.carried {
        assert_eq!(vault.unseal(stored.payload.as_ref().unwrap(), &stored.leaf), Ok(None));
    }
    let next = restarted(&next);
    // And it can be pruned again, from that base. What waited then does no more.
    let minimum = plan(&next, Below::Age(190 * DAY_MS)).unwrap();
    prune(&next, minimum).unwrap();
    let base = Reader::new(&store(&next.disk)).base().unwrap().unwrap();
    assert_eq!((base.minimum, base.carried.len()), (minimum, 0));
    holds_together(&restarted(&next), minimum, "again");
}

/// The error of a start, which must be one.
fn refused(world: &World, image: FakeDisk, what: &str) -> String {
    match world.restart(image) {
        Ok(_) => panic!("{what}: it starts"),
        Err(error) => error.to_string(),
    }
}

fn reseal(bytes: &mut Vec<u8>) {
    bytes.truncate(bytes.len() - 4);
    let crc = crc32c::crc32c(bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
}

fn base_file(minimum: u64) -> PathBuf {
    PathBuf::from(format!("/ledger/base/{minimum:020}.base"))
}

#[test]
fn a_base_that_no_record_commits_to_refuses_the_start() {
    let world = aged(rules(), 0);
    let minimum = young(&world);
    world.gate.close().unwrap();
    let unpruned = world.disk.process_crash_image();
    let world = restarted(&world);
    prune(&world, minimum).unwrap();
    // Also where there is a snapshot, which needs no base to go on from.
    world.gate.close().unwrap();
    let pruned = world.disk.process_crash_image();
    let genuine = pruned.bytes(&base_file(minimum)).unwrap();
    let without_snapshots = |image: &FakeDisk| {
        let image = image.process_crash_image();
        delete_snapshots(&store(&image)).unwrap();
        image
    };

    // Somebody deletes the beginning of a log and makes a base that fits: no record speaks of it.
    let forged = unpruned.process_crash_image();
    for first in cuts(&forged).into_iter().filter(|first| *first < minimum) {
        forged.snatch(Path::new(&format!("/ledger/segments/{first:020}.seg")));
    }
    assert!(refused(&world, without_snapshots(&forged), "no base").contains("its base"));
    forged.plant(&base_file(minimum), &genuine);
    let why = refused(&world, without_snapshots(&forged), "forged, without snapshots");
    assert!(why.contains("no record of the log commits to it") && why.contains(".base"), "{why}");
    let why = refused(&world, forged.process_crash_image(), "forged");
    assert!(why.contains("no record of it says that it was pruned"), "{why}");

    // Somebody bends the base of a log that was pruned.
    for (name, image) in [("snapshot", pruned.process_crash_image()), ("none", without_snapshots(&pruned))] {
        image.snatch(&base_file(minimum));
        let why = refused(&world, image, name);
        assert!(why.contains("its base") && why.contains("it is missing"), "{name}: {why}");
    }
    for at in (0..genuine.len()).step_by(7) {
        for sealed in [false, true] {
            let mut bytes = genuine.clone();
            bytes[at] ^= 1 << (at % 8);
            if sealed && at < genuine.len() - 4 {
                reseal(&mut bytes);
            }
            let image = without_snapshots(&pruned);
            image.plant(&base_file(minimum), &bytes);
            let why = refused(&world, image, &format!("byte {at}"));
            assert!(why.contains("its base") && why.contains(".base"), "byte {at}: {why}");
        }
    }
    // More is gone than was pruned.
    let image = pruned.process_crash_image();
    image.snatch(Path::new(&format!("/ledger/segments/{minimum:020}.seg")));
    assert!(refused(&world, image, "more is gone").contains("its base"));
    assert!(world.restart(without_snapshots(&pruned)).is_ok());
}

#[test]
fn a_base_without_its_record_counts_for_nothing() {
    let world = aged(rules(), 0);
    let minimum = young(&world);
    world.gate.close().unwrap();
    let unpruned = world.disk.process_crash_image();
    let world = restarted(&world);
    prune(&world, minimum).unwrap();
    let bytes = world.disk.bytes(&base_file(minimum)).unwrap();
    for keeps_snapshots in [true, false] {
        let image = unpruned.process_crash_image();
        if !keeps_snapshots {
            delete_snapshots(&store(&image)).unwrap();
        }
        image.plant(&base_file(minimum), &bytes);
        image.plant(&base_file(minimum + 1), b"torn");
        let next = next_on(&world, image);
        holds_together(&next, 0, "removed");
    }
}

#[test]
fn orders_to_prune_are_refused_for_what_they_would_take() {
    let mut world = World::under(rules());
    assert!(matches!(world.call(READ), Answer::Ran { .. }));
    let why = |world: &World, minimum| prune(world, minimum).unwrap_err();
    assert!(plan(&world, Below::Age(DAY_MS)).unwrap_err().contains("does not lie below record 0"));
    assert!(plan(&world, Below::Index(LeafIndex(0))).unwrap_err().contains("only whole segments go"));
    let minimum = plan(&world, Below::Index(LeafIndex(4))).unwrap();
    assert_eq!(minimum, 4);
    let refused = why(&world, minimum);
    assert!(refused.contains("record `0` must be kept") && refused.contains("for 183 more days"), "{refused}");
    // What a class says counts for what is of it, and for no other record.
    world.stage.retention.rest = RetentionClass { keep_days: 1, erasable: false };
    world.stage.clock.advance_ms(DAY_MS);
    world.gate.close().unwrap();
    world = restarted(&world);
    let refused = why(&world, world.records().len() as u64 - 1);
    assert!(!refused.contains("record `0`") && refused.contains("must be kept"), "{refused}");
    world.stage.retention.classes.insert(id("production"), RetentionClass { keep_days: 300, erasable: true });
    pass_days(&mut world, 200);
    world.gate.close().unwrap();
    world = restarted(&world);
    let refused = why(&world, plan(&world, Below::Age(2 * DAY_MS)).unwrap());
    assert!(refused.contains("it is of `production`"), "{refused}");

    assert!(why(&world, 100_000).contains("no segment begins with record `100000`"));
    assert!(words(world.forged(Deed::Prune { minimum: LeafIndex(3) }).unwrap_err()).contains("the signature is not"));
    let hold = |scope| Deed::Hold { name: id("case-9"), scope };
    for scope in [None, Some(VaultScope::Run(world.caller.principal.run.clone()))] {
        world.command(hold(scope)).unwrap();
        assert!(why(&world, 3).contains("the hold `case-9` is in force"));
        world.command(Deed::Release { name: id("case-9") }).unwrap();
    }
    let waiting = ticket(&world.call(CHANGE));
    let later = world.records().len() as u64;
    assert!(matches!(world.call(READ), Answer::Ran { .. }));
    assert!(why(&world, later).contains(waiting.as_str()));
    assert!(prune(&world, 3).is_ok(), "what waits lies above");
    assert!(why(&world, 3).contains("begins at record `3` already"));
    // Every refusal is on record.
    let refusals = world.records().iter().filter(|stored| matches!(stored.record.body, Body::Refused(_))).count();
    assert!(refusals >= 2, "{refusals}");
}

#[test]
fn budgets_that_change_after_a_pruning_count_on_or_from_its_minimum() {
    let agent = BudgetRule { scope: BudgetScope::Agent, cap: 500, window_ms: None, agents: None };
    let mut world = aged(Rules { budgets: vec![agent.clone()], ..rules() }, 3);
    let spent = |world: &World| world.gate.budgets().iter().map(|b| (b.name.clone(), b.spent)).collect::<Vec<_>>();
    let calls = spent(&world)[0].1;
    assert_eq!(calls, 9);
    let minimum = young(&world);
    prune(&world, minimum).unwrap();
    world.gate.close().unwrap();
    let tenant = BudgetRule { scope: BudgetScope::Tenant, ..agent.clone() };
    world.stage.rules.budgets = vec![tenant, BudgetRule { cap: 400, ..agent }];
    let next = restarted(&world);
    assert_eq!(next.recovered.from, minimum);
    let counted = spent(&next);
    assert!(counted.iter().any(|(name, spent)| name.contains("agent coder") && *spent == calls), "{counted:?}");
    assert!(counted.iter().any(|(name, spent)| name.contains("tenant acme") && *spent == 4), "{counted:?}");
}

#[test]
fn a_start_that_meets_other_damage_names_it_and_not_the_base() {
    let world = aged(rules(), 0);
    let minimum = young(&world);
    prune(&world, minimum).unwrap();
    world.gate.close().unwrap();
    let image = world.disk.process_crash_image();
    delete_snapshots(&store(&image)).unwrap();
    let middle = *cuts(&image).get(2).unwrap();
    let path = PathBuf::from(format!("/ledger/segments/{middle:020}.seg"));
    let mut bytes = read_file(&image, &path, u64::MAX).unwrap();
    bytes[50] ^= 4;
    image.open(&path, Mode::Edit).unwrap().write_at(0, &bytes).unwrap();
    let opened = Ledger::open(&store(&image), rules().ledger, &mut |_| Ok(())).map(drop).unwrap_err();
    assert!(matches!(opened, OpenError::Corrupt { .. }), "{opened}");
    assert!(refused(&world, image, "damage").contains("is damaged at byte"));
}

#[test]
fn a_crash_at_any_step_ends_before_the_pruning_or_behind_it() {
    let base = aged(rules(), 2);
    let minimum = young(&base);
    base.gate.close().unwrap();
    let image = base.disk.process_crash_image();
    let (mut step, mut finished, mut undone) = (0, 0, 0);
    loop {
        let world = next_on(&base, image.process_crash_image());
        let before = kept(&world, minimum);
        let fault =
            [Fault::Crash, Fault::CrashDuring, Fault::Error, Fault::ErrorButDone][usize::try_from(step % 4).unwrap()];
        world.disk.fault_at(world.disk.ops() + step / 4, fault);
        let answer = prune(&world, minimum);
        let images = [world.disk.process_crash_image(), world.disk.crash_image(step)];
        for (seed, image) in images.into_iter().enumerate() {
            let what = format!("{fault:?} at {}, {seed}: {answer:?}", step / 4);
            let next = world.restart(image).unwrap_or_else(|error| panic!("{what}: {error}"));
            let is_pruned = next.records().iter().any(|stored| matches!(stored.record.body, Body::Pruned(_)));
            assert!(is_pruned || answer.is_err(), "{what}");
            holds_together(&next, if is_pruned { minimum } else { 0 }, &what);
            assert_eq!(kept(&next, minimum)[..before.len()], before, "{what}");
            assert!(matches!(next.call(READ), Answer::Ran { receipt: Some(_), .. }), "{what}");
            next.gate.close().unwrap();
            assert_eq!(walked(&next.disk, &what), if is_pruned { minimum } else { 0 }, "{what}");
            *(if is_pruned && answer.is_err() { &mut finished } else { &mut undone }) += 1;
        }
        if step % 4 == 0 && !world.disk.is_crashed() {
            assert!(answer.is_ok(), "{answer:?}");
            break;
        }
        step += 1;
    }
    assert!(finished > 20 && undone > 20, "{step} steps: {finished} finished later, {undone} undone");
}
