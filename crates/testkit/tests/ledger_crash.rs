//! The ledger on a disk that fails or loses power at every single step: nothing acknowledged is ever lost, and what
//! recovery leaves always verifies.

#![expect(clippy::cast_possible_truncation, reason = "the numbers of these tests are small")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail the test")]

use std::sync::Arc;
use std::time::Duration;

use countersign_ledger::{
    AppendError, Config, Entry, Ledger, OUTCOME_PAYLOAD_BYTES, OpenError, PublishMode, Recovered, Store, VisitError,
    verify,
};
use countersign_receipt::TlogProof;
use countersign_testkit::disk::{FakeDisk, Fault};

const RECORDS: u64 = 9;

/// Small enough that the workload rotates, with no step that depends on time.
fn config() -> Config {
    Config {
        segment_bytes: 1_000,
        chunk_bytes: 700,
        publish: PublishMode::Inline,
        idle_sync: None,
        ..Config::default()
    }
}

fn store(disk: &FakeDisk) -> Store {
    Store::new(Arc::new(disk.clone()), "/ledger")
}

#[derive(Debug, Clone, PartialEq)]
struct Acked {
    index: u64,
    leaf: Vec<u8>,
    payload: Option<Vec<u8>>,
    proof: TlogProof,
}

fn entry(number: u64) -> Entry {
    let leaf = format!("leaf {number}").into_bytes();
    let payload = (!number.is_multiple_of(3)).then(|| vec![number as u8 + 1; 300 * number as usize]);
    Entry { leaf, payload }
}

/// Creates, appends one by one, closes. Stops at the first failure, and returns what was acknowledged until then.
fn workload(disk: &FakeDisk) -> Vec<Acked> {
    let mut acked = Vec::new();
    if Ledger::create(&store(disk), "example.com/log").is_err() {
        return acked;
    }
    let Ok((ledger, _)) = open(disk, &mut |_| {}) else { return acked };
    for number in 0..RECORDS {
        let entry = entry(number);
        if let Ok(committed) = ledger.append(entry.clone()).wait() {
            let Entry { leaf, payload } = entry;
            acked.push(Acked { index: committed.index, leaf, payload, proof: committed.proof });
        }
    }
    drop(ledger.close());
    acked
}

fn open(disk: &FakeDisk, visit: &mut dyn FnMut(Acked)) -> Result<(Ledger, Recovered), OpenError> {
    let proof = TlogProof { extra: None, index: 0, path: Vec::new(), checkpoint: String::new() };
    Ledger::open(&store(disk), config(), &mut |record| {
        let payload = record.payload.map(<[u8]>::to_vec);
        visit(Acked { index: record.index, leaf: record.leaf.to_vec(), payload, proof: proof.clone() });
        Ok::<(), VisitError>(())
    })
}

/// Opens what a crash left and checks the promise; `what` names the case.
fn check_recovers(disk: &FakeDisk, acked: &[Acked], what: &str) {
    let mut found = Vec::new();
    let (ledger, recovered) = match open(disk, &mut |record| found.push(record)) {
        Ok(opened) => opened,
        Err(OpenError::NotALedger { .. }) if acked.is_empty() => {
            Ledger::create(&store(disk), "example.com/log").unwrap_or_else(|error| panic!("{what}: {error}"));
            return;
        }
        Err(error) => panic!("{what}: {error}"),
    };
    assert_eq!(recovered.head.size, found.len() as u64, "{what}");
    for record in acked {
        let same = found
            .iter()
            .any(|other| (other.index, &other.leaf, &other.payload) == (record.index, &record.leaf, &record.payload));
        assert!(same, "{what}: record {} was acknowledged and is lost", record.index);
        record.proof.verify(&record.leaf, &ledger.verifier_key()).unwrap_or_else(|error| panic!("{what}: {error}"));
        ledger.consistency(record.index + 1).unwrap_or_else(|error| panic!("{what}: {error}"));
    }
    let next = ledger.append(Entry::new("after recovery")).wait().unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(next.index, recovered.head.size, "{what}");
    assert!(ledger.flush(Duration::from_secs(5)).unwrap(), "{what}");
    ledger.close().unwrap();
    let report = verify::walk(&store(disk), None, |_, _| {}).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(report.head.size, recovered.head.size + 1, "{what}");
    assert_eq!(report.published, Some(report.head.size), "{what}");
}

fn steps() -> u64 {
    let disk = FakeDisk::new();
    assert_eq!(workload(&disk).len() as u64, RECORDS);
    let segments = disk.paths().iter().filter(|path| path.extension().is_some_and(|kind| kind == "seg")).count();
    assert!(segments > 2, "the workload must rotate, it has {segments} segments");
    disk.ops()
}

#[test]
fn a_crash_at_every_step_loses_nothing_acknowledged() {
    for step in 0..steps() {
        for fault in [Fault::Crash, Fault::CrashDuring] {
            let disk = FakeDisk::new();
            disk.fault_at(step, fault);
            let acked = workload(&disk);
            assert!(disk.is_crashed(), "step {step} was not reached");
            check_recovers(&disk.process_crash_image(), &acked, &format!("{fault:?} at {step}, process"));
            for seed in 0..12 {
                check_recovers(&disk.crash_image(seed), &acked, &format!("{fault:?} at {step}, power, seed {seed}"));
            }
        }
    }
}

#[test]
fn a_crash_during_recovery_loses_nothing_either() {
    let disk = FakeDisk::new();
    let total = steps();
    disk.fault_at(total - 20, Fault::CrashDuring);
    let acked = workload(&disk);
    for seed in 0..6 {
        for step in 0..40 {
            let image = disk.crash_image(seed);
            image.fault_at(step, Fault::CrashDuring);
            if let Ok((ledger, _)) = open(&image, &mut |_| {}) {
                drop(ledger.append(Entry::new("between")).wait());
                drop(ledger.close());
            }
            for second in 0..3 {
                let what = format!("seed {seed}, second crash at {step}, seed {second}");
                check_recovers(&image.crash_image(second), &acked, &what);
            }
        }
    }
}

#[test]
fn what_recovery_keeps_survives_a_power_loss_right_after_it() {
    for step in 0..steps() {
        let disk = FakeDisk::new();
        disk.fault_at(step, Fault::Crash);
        workload(&disk);
        let image = disk.process_crash_image();
        let Ok((ledger, recovered)) = open(&image, &mut |_| {}) else { continue };
        for seed in 0..6 {
            let what = format!("crash at {step}, seed {seed}");
            let (again, found) = open(&image.crash_image(seed), &mut |_| {}).unwrap_or_else(|e| panic!("{what}: {e}"));
            assert_eq!(found.head, recovered.head, "{what}");
            again.close().unwrap();
        }
        ledger.close().unwrap();
    }
}

#[test]
fn an_error_at_every_step_loses_nothing_acknowledged() {
    for step in 0..steps() {
        for fault in [Fault::Error, Fault::ErrorButDone, Fault::Torn] {
            let disk = FakeDisk::new();
            disk.fault_at(step, fault);
            let acked = workload(&disk);
            let what = format!("{fault:?} at {step}");
            check_recovers(&disk.process_crash_image(), &acked, &what);
            check_recovers(&disk.crash_image(step), &acked, &what);
        }
    }
}

/// The first step of a kind after `from` is found by trying: the ledger must stop at it.
fn opened() -> (FakeDisk, Ledger) {
    let disk = FakeDisk::new();
    Ledger::create(&store(&disk), "example.com/log").unwrap();
    let config = Config { segment_bytes: 1 << 20, chunk_bytes: 64 << 10, ..config() };
    let (ledger, _) = Ledger::open(&store(&disk), config, &mut |_| Ok(())).unwrap();
    ledger.append(Entry::new("first")).wait().unwrap();
    assert!(ledger.flush(Duration::from_secs(5)).unwrap());
    (disk, ledger)
}

#[test]
fn a_failed_sync_stops_service_even_if_the_data_landed() {
    for fault in [Fault::Error, Fault::ErrorButDone] {
        let (disk, ledger) = opened();
        // The write of the frame is next, its sync follows.
        disk.fault_at(disk.ops() + 1, fault);
        let error = ledger.append(Entry::new("second")).wait().unwrap_err();
        assert!(matches!(error, AppendError::Failed { operation: "sync", .. }), "{error}");
        assert_eq!(ledger.append(Entry::new("third")).wait().unwrap_err(), error);
        assert_eq!(ledger.reserve().map(drop).unwrap_err(), error);
        assert_eq!(ledger.head().size, 1);
        assert_eq!(ledger.close().unwrap_err(), error);
        let (again, recovered) = open(&disk, &mut |_| {}).unwrap();
        assert_eq!((recovered.head.size, recovered.unconfirmed), (2, 1), "the write itself had landed");
        again.close().unwrap();
        verify::walk(&store(&disk), None, |_, _| {}).unwrap();
    }
}

#[test]
fn a_full_disk_refuses_intents_takes_outcomes_and_clears() {
    let (disk, ledger) = opened();
    let slots: Vec<_> = (0..8).map(|_| ledger.reserve().unwrap()).collect();
    for slot in &slots {
        ledger.append_intent(slot, Entry::new("intent")).wait().unwrap();
    }
    disk.set_capacity(Some(disk.used()));
    let refused = loop {
        if let Err(error) = ledger.append(Entry::with_payload("filler", vec![1; 9_000])).wait() {
            break error;
        }
    };
    assert!(matches!(refused, AppendError::DiskFull { .. }), "{refused}");
    let mut slots = slots.into_iter();
    let big = Entry::with_payload("large outcome", vec![7; OUTCOME_PAYLOAD_BYTES + 100_000]);
    let committed = ledger.append_outcome(slots.next().unwrap(), big).wait().unwrap();
    assert!(!committed.payload_stored);
    for slot in slots {
        let outcome = Entry::with_payload(vec![3; 8 * 1024], vec![7; OUTCOME_PAYLOAD_BYTES]);
        assert!(ledger.append_outcome(slot, outcome).wait().unwrap().payload_stored);
    }
    assert!(ledger.failure().is_none());
    assert!(!ledger.flush(Duration::from_millis(50)).unwrap(), "publication has no space");
    disk.set_capacity(None);
    ledger.append(Entry::new("space again")).wait().unwrap();
    assert!(ledger.flush(Duration::from_secs(5)).unwrap());
    ledger.close().unwrap();
    verify::walk(&store(&disk), None, |_, _| {}).unwrap();
}

#[test]
fn a_disk_that_is_full_at_rotation_goes_on_in_the_old_segment() {
    let disk = FakeDisk::new();
    Ledger::create(&store(&disk), "example.com/log").unwrap();
    let config = Config { segment_bytes: 500, chunk_bytes: 8_000, ..config() };
    let (ledger, _) = Ledger::open(&store(&disk), config, &mut |_| Ok(())).unwrap();
    for _ in 0..3 {
        ledger.append(Entry::with_payload("x", vec![1; 200])).wait().unwrap();
    }
    disk.set_capacity(Some(disk.used() + 2_000));
    ledger.append(Entry::new("y")).wait().unwrap();
    disk.set_capacity(None);
    ledger.append(Entry::new("z")).wait().unwrap();
    ledger.close().unwrap();
    verify::walk(&store(&disk), None, |_, _| {}).unwrap();
}

#[test]
fn backlog_of_publication_is_bounded() {
    let disk = FakeDisk::new();
    Ledger::create(&store(&disk), "example.com/log").unwrap();
    let config = Config { max_unpublished: 5, chunk_bytes: 64 << 10, segment_bytes: 1 << 20, ..config() };
    let (ledger, _) = Ledger::open(&store(&disk), config, &mut |_| Ok(())).unwrap();
    ledger.append(Entry::new("0")).wait().unwrap();
    assert!(ledger.flush(Duration::from_secs(5)).unwrap());
    disk.set_capacity(Some(disk.used()));
    let results: Vec<_> = (0..7).map(|_| ledger.append(Entry::new("x")).wait().map(drop)).collect();
    let refused = Err(AppendError::Overloaded { what: "publication backlog", limit: 5 });
    assert!(results[..5].iter().all(Result::is_ok), "{results:?}");
    assert_eq!(results[6], refused);
    let slot = ledger.reserve().unwrap();
    ledger.append_outcome(slot, Entry::new("outcome")).wait().unwrap();
    disk.set_capacity(None);
    ledger.close().unwrap();
    verify::walk(&store(&disk), None, |_, _| {}).unwrap();
}
