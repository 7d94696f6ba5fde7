//! Erasure through a whole gate: what can be read afterwards, what still proves, who may not, and crashes in between.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail the test")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use countersign_gate::call::Answer;
use countersign_gate::view::Stored;
use countersign_kernel::RetentionClass;
use countersign_kernel::replay::{Found, Leaf, replay};
use countersign_ledger::disk::{Disk as _, Mode};
use countersign_ledger::verify;
use countersign_model::command::Deed;
use countersign_model::id::TicketId;
use countersign_model::record::{Erased, VaultScope};
use countersign_model::unit::LeafIndex;
use countersign_model::{Body, Reason};
use countersign_testkit::disk::Fault;
use countersign_testkit::policy::HeldPolicy;
use countersign_testkit::upstream::Script;
use countersign_testkit::world::{CHANGE, READ, Rules, Stage, World, arguments, id, store};

const DAY_MS: u64 = 24 * 3_600_000;

/// A world whose environment may be erased at any time.
fn erasable() -> World {
    let mut stage = Stage::new(Rules::default());
    stage.retention.classes.insert(id("production"), RetentionClass { keep_days: 183, erasable: true });
    stage.build()
}

fn run_of(world: &World) -> VaultScope {
    VaultScope::Run(world.caller.principal.run.clone())
}

fn subject(world: &World, name: &str) -> VaultScope {
    VaultScope::Subject(world.gate.subject(name))
}

fn erase(world: &World, scope: VaultScope) -> Result<(u64, u64), String> {
    let carried = world.command(Deed::Erase { scope }).map_err(words)?;
    let erased = carried.erased.unwrap();
    Ok((erased.keys, erased.payloads))
}

fn words(reason: Reason) -> String {
    reason.detail.unwrap_or_default()
}

fn hold(name: &str, scope: Option<VaultScope>) -> Deed {
    Deed::Hold { name: id(name), scope }
}

fn attempts(world: &World) -> Vec<Stored> {
    world.records().into_iter().filter(|stored| stored.record.body.attempt().is_some()).collect()
}

fn ticket(answer: &Answer<Vec<u8>>) -> TicketId {
    match answer {
        Answer::Parked { ticket, .. } => ticket.clone(),
        other => panic!("{other:?}"),
    }
}

fn about(world: &World, name: &str) -> Answer<Vec<u8>> {
    let arguments = serde_json::json!({ "customer": name }).to_string();
    world.wait(world.begin(world.framed("look_up", &arguments))).unwrap()
}

fn leaves(world: &World) -> Vec<Leaf> {
    let leaf = |stored: Stored| Leaf {
        leaf: LeafIndex(stored.index),
        leaf_hash: countersign_gate::Gate::leaf_hash(&stored.leaf),
        record: stored.record,
        payload: stored.payload,
    };
    world.records().into_iter().map(leaf).collect()
}

fn erasures(world: &World) -> Vec<Erased> {
    let erased = |stored: Stored| match stored.record.body {
        Body::Erased(erased) => Some(erased),
        _ => None,
    };
    world.records().into_iter().filter_map(erased).collect()
}

#[test]
fn nothing_lies_on_the_disk_in_the_clear() {
    let world = World::new();
    assert!(matches!(world.call(READ), Answer::Ran { .. }));
    assert!(attempts(&world)[0].payload.is_some());
    let sql = world.disk.contents().into_iter().find(|(_, bytes)| contains(bytes, READ.as_bytes()));
    assert_eq!(sql.map(|(path, _)| path), None, "the statement is on the disk");
}

fn contains(bytes: &[u8], what: &[u8]) -> bool {
    bytes.windows(what.len()).any(|window| window == what)
}

#[test]
fn the_first_action_of_a_run_costs_two_syncs_like_any_other() {
    let world = World::new();
    let syncs = || {
        let paths = world.disk.paths().into_iter();
        let ours = paths.filter(|path| path.ends_with("vault/keys") || path.extension().is_some_and(|e| e == "seg"));
        ours.map(|path| world.disk.syncs(&path)).sum::<u64>()
    };
    for _ in 0..20 {
        let (_, caller) = world.token_of("coder");
        let before = syncs();
        let mut call = world.framed("query", r#"{"sql":"SELECT 1"}"#);
        call.caller = caller;
        assert!(matches!(world.wait(world.begin(call)).unwrap(), Answer::Ran { .. }));
        assert_eq!(syncs() - before, 2, "intent and outcome");
    }
}

#[test]
fn an_erased_run_cannot_be_read_and_still_proves() {
    let world = erasable();
    let Answer::Ran { receipt: Some(receipt), .. } = world.call(READ) else { panic!("it did not run") };
    let (_, other) = world.token_of("other");
    let mut call = world.framed("query", r#"{"sql":"SELECT 1"}"#);
    call.caller = other;
    assert!(matches!(world.wait(world.begin(call)).unwrap(), Answer::Ran { .. }));
    assert_eq!(erase(&world, run_of(&world)).unwrap(), (1, 2));
    for world in [&world, &world.restart(world.disk.crash_image(1)).unwrap()] {
        let found = attempts(world);
        assert_eq!(found[0].payload, None, "it was erased");
        assert!(found[1].payload.is_some(), "another run was not");
        assert_eq!(world.gate.receipt_of(found[0].index).unwrap().proofs.len(), 2);
        assert_eq!(erasures(world)[0].payloads, 2);
        assert_eq!(world.refolded().erasures().count(), 0);
    }
    let key = countersign_ledger::load_verifier(&store(&world.disk)).unwrap();
    receipt.verify(&key).unwrap();
    world.gate.receipt_of(attempts(&world)[0].index).unwrap().verify(&key).unwrap();
    let report = replay(&leaves(&world), &world.stage.settings(), &world.stage.bundle);
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(report.lines.iter().filter(|line| line.found == Found::Erased).count(), 1, "{report:?}");
    // The run goes on, and can be erased again.
    assert!(matches!(world.call(READ), Answer::Ran { .. }));
    assert_eq!(erase(&world, run_of(&world)).unwrap(), (1, 2));
    world.gate.close().unwrap();
    verify::walk(&store(&world.disk), None, |_, _| {}).unwrap();
}

#[test]
fn a_subject_is_erased_over_all_runs_and_its_name_is_in_no_file() {
    let world = erasable();
    let (_, second) = world.token_of("other");
    assert!(matches!(about(&world, "carol"), Answer::Ran { .. }));
    assert!(matches!(about(&world, "bob"), Answer::Ran { .. }));
    let mut call = world.framed("look_up", r#"{"customer":"carol"}"#);
    call.caller = second;
    assert!(matches!(world.wait(world.begin(call)).unwrap(), Answer::Ran { .. }));
    assert_eq!(erase(&world, subject(&world, "nobody")).unwrap(), (0, 0));
    assert_eq!(erase(&world, subject(&world, "carol")).unwrap(), (1, 4));
    let readable: Vec<bool> = attempts(&world).iter().map(|stored| stored.payload.is_some()).collect();
    assert_eq!(readable, [false, true, false]);
    let named =
        world.disk.contents().into_iter().find(|(_, bytes)| contains(bytes, b"carol") || contains(bytes, b"bob"));
    assert_eq!(named.map(|(path, _)| path), None);
}

#[test]
fn a_parked_proposal_that_is_erased_can_no_longer_be_approved() {
    for by_crash in [false, true] {
        let world = erasable();
        let waiting = ticket(&world.call(CHANGE));
        assert_eq!(erase(&world, run_of(&world)).unwrap(), (1, 1));
        let world = if by_crash { world.restart(world.disk.crash_image(3)).unwrap() } else { world };
        assert!(world.approve(&waiting).is_err());
        assert_eq!(world.gate.status().waiting, 0);
        assert_eq!(erasures(&world)[0].tickets, std::slice::from_ref(&waiting));
        assert_eq!(world.refolded().pending().count(), 0);
        // The same call waits anew, under another ticket.
        assert_ne!(ticket(&world.call(CHANGE)), waiting);
    }
}

/// Whatever destroyed the key: what nobody can be shown nobody can consent to.
#[test]
fn a_proposal_whose_key_is_gone_cannot_be_approved() {
    let world = erasable();
    let waiting = ticket(&world.call(CHANGE));
    let keys = world.disk.open(&store(&world.disk).vault().join("keys"), Mode::Edit).unwrap();
    keys.write_at(64, &[0; 64 * 32]).unwrap();
    let why = words(world.approve(&waiting).unwrap_err());
    assert!(why.contains("is erased: nobody can be shown"), "{why}");
    assert!(world.answer(&waiting, false).is_ok(), "it can be refused");
}

#[test]
fn a_call_under_way_ends_on_record_and_its_run_goes_on() {
    let world = erasable();
    world.upstream().plays(Script::Slow);
    let slow = world.begin_slow();
    assert_eq!(erase(&world, run_of(&world)).unwrap(), (1, 1));
    world.upstream().release();
    assert!(matches!(world.wait(slow).unwrap(), Answer::Ran { receipt: Some(_), .. }));
    world.upstream().plays(Script::Answer);
    assert!(matches!(world.call(READ), Answer::Ran { .. }));
    let found = attempts(&world);
    assert_eq!((found[0].payload.is_some(), found[1].payload.is_some()), (false, true));
    // What the call under way left behind lies under the key that is gone.
    assert_eq!(erase(&world, run_of(&world)).unwrap().1, 3);
}

#[test]
fn a_grant_goes_with_its_payload() {
    let world = erasable();
    let waiting = ticket(&world.call(CHANGE));
    world.approve(&waiting).unwrap();
    erase(&world, run_of(&world)).unwrap();
    assert!(matches!(world.call(CHANGE), Answer::Parked { repeated: false, .. }), "the grant was not redeemed");
}

#[test]
fn holds_forbid_erasing_what_they_cover() {
    let world = erasable();
    assert!(matches!(about(&world, "bob"), Answer::Ran { .. }));
    let refused = |scope: VaultScope| erase(&world, scope).unwrap_err();
    world.command(hold("case-1", None)).unwrap();
    assert!(words(world.command(hold("case-1", None)).unwrap_err()).contains("already"));
    assert!(refused(run_of(&world)).contains("the hold `case-1` covers it"));
    world.command(Deed::Release { name: id("case-1") }).unwrap();
    assert!(words(world.command(Deed::Release { name: id("case-1") }).unwrap_err()).contains("there is no hold"));
    // A held subject's payload lies under the run, too; and the other way round.
    world.command(hold("case-2", Some(subject(&world, "bob")))).unwrap();
    assert!(refused(run_of(&world)).contains("also covered by the hold `case-2`"));
    world.command(Deed::Release { name: id("case-2") }).unwrap();
    world.command(hold("case-3", Some(run_of(&world)))).unwrap();
    assert!(refused(subject(&world, "bob")).contains("also covered by the hold `case-3`"));
    assert_eq!(erase(&world, subject(&world, "nobody")).unwrap(), (0, 0));
    // It outlives the process, and what it covers can be read.
    let world = world.restart(world.disk.crash_image(5)).unwrap();
    assert_eq!(world.gate.holds().len(), 1);
    assert!(erase(&world, run_of(&world)).unwrap_err().contains("case-3"));
    assert!(attempts(&world)[0].payload.is_some());
    world.command(Deed::Release { name: id("case-3") }).unwrap();
    assert_eq!(erase(&world, run_of(&world)).unwrap(), (1, 2));
}

#[test]
fn retention_forbids_erasing_until_it_is_over() {
    let world = World::new();
    assert!(matches!(world.call(READ), Answer::Ran { .. }));
    let why = erase(&world, run_of(&world)).unwrap_err();
    assert!(why.contains("keeps it for 183 more days and is not `erasable`"), "{why}");
    assert!(attempts(&world)[0].payload.is_some());
    world.stage.clock.advance_ms(183 * DAY_MS);
    assert_eq!(erase(&world, run_of(&world)).unwrap(), (1, 2));
}

#[test]
fn only_a_humans_signature_erases() {
    let world = erasable();
    assert!(matches!(world.call(READ), Answer::Ran { .. }));
    let why = words(world.forged(Deed::Erase { scope: run_of(&world) }).unwrap_err());
    assert!(why.contains("the signature is not"), "{why}");
    assert!(attempts(&world)[0].payload.is_some());
}

/// Every step of I/O of one erasure, cut off there.
#[test]
fn an_erasure_that_was_cut_off_is_finished_at_the_next_start_or_never_began() {
    let (mut step, mut finished) = (0, 0);
    loop {
        let world = erasable();
        assert!(matches!(world.call(READ), Answer::Ran { .. }));
        let waiting = ticket(&world.call(CHANGE));
        world.disk.fault_at(world.disk.ops() + step, if step % 2 == 0 { Fault::Crash } else { Fault::CrashDuring });
        let answer = erase(&world, run_of(&world));
        for seed in 0..4 {
            let what = format!("cut at {step}, seed {seed}: {answer:?}");
            let next = world.restart(world.disk.crash_image(seed)).unwrap_or_else(|error| panic!("{what}: {error}"));
            let is_ordered = next.records().iter().any(|stored| is_erase(&stored.record.body));
            let readable = attempts(&next).iter().filter(|stored| stored.payload.is_some()).count();
            assert_eq!(readable, if is_ordered { 0 } else { 2 }, "{what}");
            let done = erasures(&next);
            assert_eq!(done.len(), usize::from(is_ordered), "{what}");
            assert!(done.iter().all(|erased| (erased.keys, erased.payloads) == (1, 3)), "{what}: {done:?}");
            assert_eq!(next.gate.status().waiting, usize::from(!is_ordered), "{what}");
            assert_eq!(next.approve(&waiting).is_ok(), !is_ordered, "{what}");
            assert!(is_ordered || answer.is_err(), "{what}");
            next.gate.close().unwrap();
            verify::walk(&store(&next.disk), None, |_, _| {}).unwrap();
            finished += usize::from(is_ordered && answer.is_err());
        }
        if !world.disk.is_crashed() {
            assert_eq!(answer, Ok((1, 3)));
            break;
        }
        step += 1;
    }
    assert!(step >= 6 && finished > 0, "{step} steps, {finished} finished later");
}

fn is_erase(body: &Body) -> bool {
    matches!(body, Body::Commanded(c) if matches!(c.signed.command.deed, Deed::Erase { .. }))
}

/// The human's order is on record, the keys cannot be destroyed: it says so, nobody can consent, and a restart ends it.
#[test]
fn keys_that_cannot_be_destroyed_leave_the_erasure_ordered() {
    let mut met = 0;
    for step in 0..60 {
        let world = erasable();
        assert!(matches!(world.call(READ), Answer::Ran { .. }));
        let waiting = ticket(&world.call(CHANGE));
        world.disk.fault_at(world.disk.ops() + step, Fault::Error);
        let Err(why) = erase(&world, run_of(&world)) else { continue };
        if why.contains("vault/keys") {
            met += 1;
            assert!(why.contains("is ordered on record at") && why.contains("not done"), "{why}");
            let refused = words(world.approve(&waiting).unwrap_err());
            assert!(refused.contains("an erasure is under way") || refused.contains("is erased"), "{refused}");
        }
        let next = world.restart(world.disk.process_crash_image()).unwrap();
        let is_ordered = next.records().iter().any(|stored| is_erase(&stored.record.body));
        assert_eq!(erasures(&next).len(), usize::from(is_ordered), "{step}");
        assert!(attempts(&next).iter().all(|stored| stored.payload.is_none() == is_ordered), "{step}");
    }
    assert!(met > 0, "the zeros were never what failed");
}

fn readable(world: &World) -> Vec<bool> {
    attempts(world).iter().map(|stored| stored.payload.is_some()).collect()
}

/// A world whose policy can be held back.
fn held(world: World) -> (World, HeldPolicy) {
    let policy = HeldPolicy::new(world.stage.bundle.clone());
    let world = world.asking(Arc::new(policy.clone()));
    (world, policy)
}

/// What is being decided when an erasure is ordered may have to stay: nobody knows before it is decided.
#[test]
fn nothing_is_erased_while_a_call_of_it_is_being_decided() {
    for is_erasable in [false, true] {
        let (world, policy) = held(if is_erasable { erasable() } else { World::new() });
        policy.hold(true);
        let deciding = world.begin(world.framed("query", &arguments(CHANGE)));
        policy.wait_for(1);
        for _ in 0..2 {
            let why = erase(&world, run_of(&world)).unwrap_err();
            assert!(why.contains("still being decided: nothing was erased"), "{why}");
        }
        assert!(matches!(about(&world, "bob"), Answer::Ran { .. }), "the run goes on");
        policy.hold(false);
        ticket(&world.wait(deciding).unwrap());
        assert_eq!(readable(&world), [true, true]);
        assert!(!world.records().iter().any(|stored| is_erase(&stored.record.body)), "no order counted");
        match erase(&world, run_of(&world)) {
            Ok(erased) => assert!(is_erasable && erased == (1, 3), "{erased:?}"),
            Err(why) => assert!(!is_erasable && why.contains("is not `erasable`"), "{why}"),
        }
        assert_eq!(readable(&world), [!is_erasable; 2]);
    }
}

/// However it falls out: what came on record before the order is gone, what came after it stays, and a hold or a class that
/// forbids it is asked about all of it.
#[test]
fn exactly_what_lies_before_the_order_is_erased_while_the_run_goes_on() {
    for is_erasable in [true, false] {
        for _ in 0..12 {
            let world = if is_erasable { erasable() } else { World::new() };
            let stop = AtomicBool::new(false);
            let erased = std::thread::scope(|scope| {
                for _ in 0..3 {
                    scope.spawn(|| {
                        while !stop.load(Ordering::SeqCst) {
                            world.call(READ);
                        }
                    });
                }
                let erased = erase(&world, run_of(&world));
                stop.store(true, Ordering::SeqCst);
                erased
            });
            world.tick();
            assert!(matches!(world.call(READ), Answer::Ran { .. }));
            let order = world.records().into_iter().find(|stored| is_erase(&stored.record.body));
            assert_eq!(order.is_some(), erased.is_ok(), "{erased:?}");
            let order = order.map_or(0, |order| order.index);
            for world in [&world, &world.restart(world.disk.process_crash_image()).unwrap()] {
                for attempt in attempts(world) {
                    let (index, at) = (attempt.index, attempt.payload.is_some());
                    assert_eq!(at, index > order, "record {index}, ordered at {order}: {erased:?}");
                    assert!(at || is_erasable, "record {index} had to stay");
                }
            }
        }
    }
}

/// An erasure whose zeros could not be written.
fn unfinished() -> World {
    let world = erasable();
    assert!(matches!(world.call(READ), Answer::Ran { .. }));
    world.disk.fault_on(&store(&world.disk).vault().join("keys"), Fault::Error);
    let why = erase(&world, run_of(&world)).unwrap_err();
    assert!(why.contains("is ordered on record at") && why.contains("vault/keys"), "{why}");
    world
}

#[test]
fn a_restart_finishes_an_erasure_and_leaves_what_came_after_its_order() {
    let world = unfinished();
    assert!(matches!(world.call(READ), Answer::Ran { .. }));
    let world = world.restart(world.disk.process_crash_image()).unwrap();
    assert_eq!(readable(&world), [false, true]);
    assert_eq!((erasures(&world)[0].keys, erasures(&world)[0].payloads), (1, 2));
    // And the erasure after it takes what that one left, and only that.
    assert_eq!(erase(&world, run_of(&world)).unwrap(), (1, 2));
    assert_eq!(readable(&world), [false, false]);
}

#[test]
fn nothing_can_be_held_while_an_erasure_is_not_done() {
    let world = unfinished();
    for scope in [None, Some(run_of(&world)), Some(subject(&world, "bob"))] {
        let why = words(world.command(hold("case-9", scope)).unwrap_err());
        let run = world.caller.principal.run.as_str();
        assert!(why.contains(&format!("the erasure of the run `{run}` is ordered and not done")), "{why}");
    }
    let world = world.restart(world.disk.process_crash_image()).unwrap();
    assert!(world.gate.holds().is_empty());
    world.command(hold("case-9", None)).unwrap();
    assert!(erase(&world, run_of(&world)).unwrap_err().contains("case-9"));
}

/// The disk takes nothing when the order is to be written: it is carried out once it does, on what lies before it.
#[test]
fn an_order_that_is_written_late_erases_what_lies_before_it() {
    let world = erasable();
    assert!(matches!(world.call(READ), Answer::Ran { .. }));
    world.disk.set_read_only(true);
    erase(&world, run_of(&world)).unwrap_err();
    assert!(world.command(hold("case-9", None)).is_err());
    assert!(matches!(world.call(READ), Answer::Denied { .. }));
    world.disk.set_read_only(false);
    world.tick();
    assert!(matches!(world.call(READ), Answer::Ran { .. }), "the run goes on");
    world.wait(async {
        while world.gate.tail(u64::MAX).unwrap().iter().all(|stored| !matches!(stored.record.body, Body::Erased(_))) {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    });
    assert_eq!(readable(&world), [false, true]);
    assert_eq!((erasures(&world)[0].keys, erasures(&world)[0].payloads), (1, 2));
    world.command(hold("case-9", None)).unwrap();
}
