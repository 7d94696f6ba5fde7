//! The whole ledger on a real disk: order, proofs, restarts, damage and rollback.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use countersign_ledger::{
    AppendError, Config, Entry, Ledger, OpenError, PublishMode, RealDisk, Recovered, Store, VisitError, verify,
};
use countersign_receipt::merkle::verify_consistency;
use tempfile::TempDir;

const SOON: Duration = Duration::from_secs(20);

fn small() -> Config {
    Config {
        segment_bytes: 1_500,
        chunk_bytes: 1_000,
        publish: PublishMode::Inline,
        idle_sync: None,
        ..Config::default()
    }
}

fn fresh() -> (TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::real(dir.path().join("ledger"));
    Ledger::create(&store, "example.com/log").unwrap();
    (dir, store)
}

fn open(store: &Store, config: Config) -> Result<(Ledger, Recovered, Vec<Vec<u8>>), OpenError> {
    let mut leaves = Vec::new();
    let (ledger, recovered) = Ledger::open(store, config, &mut |record| {
        leaves.push(record.leaf.to_vec());
        Ok::<(), VisitError>(())
    })?;
    Ok((ledger, recovered, leaves))
}

fn refusal(store: &Store) -> OpenError {
    open(store, small()).map(|(ledger, ..)| drop(ledger.close())).unwrap_err()
}

/// A closed ledger of a few records in several segments.
fn written(records: u64) -> (TempDir, Store) {
    let (dir, store) = fresh();
    let (ledger, ..) = open(&store, small()).unwrap();
    for number in 0..records {
        ledger.append(Entry::with_payload(format!("leaf {number}"), vec![5; 50])).wait().unwrap();
    }
    ledger.close().unwrap();
    (dir, store)
}

fn segments(store: &Store) -> Vec<PathBuf> {
    let mut paths: Vec<_> =
        fs::read_dir(store.dir().join("segments")).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[test]
fn restart_keeps_records_and_refuses_a_second_opener() {
    let (_dir, store) = written(20);
    let (ledger, recovered, leaves) = open(&store, small()).unwrap();
    assert_eq!((recovered.head.size, recovered.cut, recovered.repairs_tiles), (20, None, false));
    assert_eq!(leaves[19], b"leaf 19");
    assert!(matches!(refusal(&store), OpenError::InUse { .. }));
    assert!(matches!(Ledger::create(&store, "x"), Err(OpenError::InUse { .. })));
    assert_eq!(ledger.record(7).unwrap().payload, Some(vec![5; 50]));
    assert!(ledger.record(20).is_err());
    ledger.close().unwrap();
    assert!(matches!(Ledger::create(&store, "x"), Err(OpenError::Exists { .. })));
    assert_eq!(ledger.append(Entry::new("late")).wait(), Err(AppendError::Closed));
    assert!(segments(&store).len() > 2);
}

#[test]
fn private_files_are_private() {
    use std::os::unix::fs::PermissionsExt as _;
    let (_dir, store) = written(2);
    let mode = |name: &str| fs::metadata(store.dir().join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(""), mode("segments"), mode("log.key"), mode("mark")), (0o700, 0o700, 0o600, 0o600));
    assert_eq!(fs::metadata(&segments(&store)[0]).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn many_threads_keep_order_and_every_proof_verifies() {
    let (_dir, store) = fresh();
    let config = Config { segment_bytes: 200_000, chunk_bytes: 64 << 10, ..Config::default() };
    let (ledger, ..) = open(&store, config.clone()).unwrap();
    let threads: Vec<_> = (0..16_u32)
        .map(|thread| {
            let ledger = ledger.clone();
            std::thread::spawn(move || {
                let mut last = None;
                for number in 0..25 {
                    let slot = ledger.reserve().unwrap();
                    let leaf = format!("{thread} {number} intent");
                    let intent = ledger.append_intent(&slot, Entry::new(leaf.clone())).wait().unwrap();
                    intent.proof.verify(leaf.as_bytes(), &ledger.verifier_key()).unwrap();
                    let leaf = format!("{thread} {number} outcome");
                    let outcome = ledger.append_outcome(slot, Entry::with_payload(leaf.clone(), "p")).wait().unwrap();
                    outcome.proof.verify(leaf.as_bytes(), &ledger.verifier_key()).unwrap();
                    assert!(last < Some(intent.index) && intent.index < outcome.index);
                    last = Some(outcome.index);
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let size = 16 * 25 * 2;
    assert_eq!(ledger.head().size, size);
    assert!(ledger.flush(SOON).unwrap());
    let tail: Vec<_> = ledger.tail(3).map(Result::unwrap).collect();
    assert!(tail.iter().zip(3..).all(|(record, index)| record.index == index) && tail.len() as u64 == size - 3);
    for index in (0..size).step_by(13) {
        let record = ledger.record(index).unwrap();
        ledger.prove(index).unwrap().verify(&record.leaf, &ledger.verifier_key()).unwrap();
        let consistency = ledger.consistency(index).unwrap();
        verify_consistency(&consistency.old, &consistency.new, &consistency.path).unwrap();
    }
    ledger.close().unwrap();
    let report = verify::walk(&store, None, |_, _| {}).unwrap();
    assert_eq!((report.head.size, report.confirmed, report.published), (size, size, Some(size)));
    let public = verify::walk_public(&RealDisk, &store.public(), &ledger.verifier_key(), |_, _| {}).unwrap();
    assert_eq!(public.head, report.head);
    let (ledger, recovered, _) = open(&store, config).unwrap();
    assert!(!recovered.repairs_tiles);
    ledger.close().unwrap();
}

#[test]
fn enqueue_order_is_log_order() {
    let (_dir, store) = fresh();
    let (ledger, ..) = open(&store, Config::default()).unwrap();
    let pending: Vec<_> = (0..5_000).map(|number: u64| ledger.append(Entry::new(number.to_be_bytes()))).collect();
    for (number, pending) in (0..).zip(pending) {
        let committed = pending.wait().unwrap();
        assert_eq!(committed.index, number);
        if number % 97 == 0 {
            committed.proof.verify(&number.to_be_bytes(), &ledger.verifier_key()).unwrap();
        }
    }
    ledger.close().unwrap();
    verify::walk(&store, None, |_, _| {}).unwrap();
}

#[test]
fn bounds_are_kept() {
    let (_dir, store) = fresh();
    let (ledger, ..) = open(&store, Config { slots: 2, ..small() }).unwrap();
    let size = |result: Result<_, AppendError>| matches!(result.map(|_| ()), Err(AppendError::Size { .. }));
    assert!(size(ledger.append(Entry::new("")).wait()));
    assert!(size(ledger.append(Entry::new(vec![0; 65_536])).wait()));
    assert!(size(ledger.append(Entry::with_payload("x", vec![0; (16 << 20) + 1])).wait()));
    ledger.append(Entry::with_payload(vec![0; 65_535], vec![1; 16 << 20])).wait().unwrap();
    let slots = (ledger.reserve().unwrap(), ledger.reserve().unwrap());
    assert!(matches!(ledger.reserve(), Err(AppendError::Overloaded { what: "open actions", limit: 2 })));
    drop(slots);
    drop(ledger.reserve().unwrap());
    ledger.close().unwrap();
    verify::walk(&store, None, |_, _| {}).unwrap();
}

#[test]
fn every_flipped_byte_is_found_and_never_taken_for_a_torn_tail() {
    // Small, because each byte means a verification of the whole log.
    let (dir, store) = fresh();
    let (ledger, ..) = open(&store, Config { segment_bytes: 300, ..small() }).unwrap();
    for number in 0..2 {
        ledger.append(Entry::with_payload(format!("leaf {number}"), "payload")).wait().unwrap();
    }
    ledger.close().unwrap();
    verify::walk(&store, None, |_, _| {}).unwrap();
    let copied = Store::real(dir.path().join("copy"));
    for segment in segments(&store) {
        let good = fs::read(&segment).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1 << (at % 8);
            fs::write(&segment, &bad).unwrap();
            let error = verify::walk(&store, None, |_, _| {}).unwrap_err();
            assert!(error.to_string().contains(segment.to_str().unwrap()), "byte {at}: {error}");
            assert!(error.to_string().contains("record `"), "byte {at}: {error}");
            if at % 17 == 0 {
                copy(store.dir(), copied.dir());
                let error = refusal(&copied);
                assert!(matches!(error, OpenError::Corrupt { .. }), "byte {at}: {error}");
                assert_eq!(fs::read(copied.dir().join("segments").join(segment.file_name().unwrap())).unwrap(), bad);
            }
        }
        fs::write(&segment, &good).unwrap();
    }
}

#[test]
fn a_torn_tail_above_the_mark_is_cut_and_told() {
    let (_dir, store) = written(5);
    let last = segments(&store).pop().unwrap();
    let good = fs::read(&last).unwrap();
    let torn = [good.as_slice(), b"CSF1 half a frame", &[0; 600]].concat();
    fs::write(&last, torn).unwrap();
    assert!(verify::walk(&store, None, |_, _| {}).is_err());
    let (ledger, recovered, leaves) = open(&store, small()).unwrap();
    let cut = recovered.cut.unwrap();
    assert_eq!((cut.segment, cut.at, leaves.len()), (last, good.len() as u64, 5));
    assert_eq!(ledger.append(Entry::new("gap")).wait().unwrap().index, 5);
    ledger.close().unwrap();
    verify::walk(&store, None, |_, _| {}).unwrap();
}

#[test]
fn older_copies_are_refused() {
    let (dir, store) = written(5);
    let old = dir.path().join("old");
    copy(store.dir(), &old);
    let (ledger, ..) = open(&store, small()).unwrap();
    for _ in 0..5 {
        ledger.append(Entry::new("newer")).wait().unwrap();
    }
    ledger.close().unwrap();
    let restore = |name: &str| {
        let path = store.dir().join(name);
        if path.is_dir() {
            fs::remove_dir_all(&path).unwrap();
            copy(&old.join(name), &path);
        } else {
            fs::copy(old.join(name), path).unwrap();
        }
    };
    restore("segments");
    assert!(matches!(refusal(&store), OpenError::Rollback { found: 5, witness: "the confirmed mark", seen: 10 }));
    restore("mark");
    assert!(matches!(refusal(&store), OpenError::Rollback { found: 5, witness: "the published checkpoint", seen: 10 }));
    fs::remove_file(store.dir().join("mark")).unwrap();
    assert!(matches!(refusal(&store), OpenError::Mark { state: "missing", .. }));
    fs::write(store.dir().join("mark"), [0; 8192]).unwrap();
    assert!(matches!(refusal(&store), OpenError::Mark { state: "damaged", .. }));
    restore("mark");
    fs::write(store.checkpoint(), "nonsense").unwrap();
    assert!(matches!(refusal(&store), OpenError::Checkpoint { .. }));
    restore("public");
    let (ledger, ..) = open(&store, small()).unwrap();
    ledger.close().unwrap();
}

#[test]
fn another_log_in_its_place_is_refused() {
    let (_a, store) = written(5);
    let (_b, other) = written(5);
    fs::remove_dir_all(store.dir().join("segments")).unwrap();
    copy(&other.dir().join("segments"), &store.dir().join("segments"));
    assert!(matches!(refusal(&store), OpenError::Corrupt { .. }));
    fs::copy(other.dir().join("log.vkey"), store.dir().join("log.vkey")).unwrap();
    assert!(matches!(refusal(&store), OpenError::Key { .. }));
}

#[test]
fn missing_and_wrong_tiles_are_found_and_rebuilt() {
    let (_dir, store) = fresh();
    let config = Config { segment_bytes: 20_000, ..small() };
    let (ledger, ..) = open(&store, config.clone()).unwrap();
    let pending: Vec<_> = (0..1_000).map(|number| ledger.append(Entry::new(format!("leaf {number}")))).collect();
    pending.into_iter().for_each(|pending| drop(pending.wait().unwrap()));
    ledger.close().unwrap();
    let tile = store.public().join("tile/0/001");
    let bundle = store.public().join("tile/entries/002");
    let partial = store.public().join("tile/1/000.p/3");
    let public = || verify::walk_public(&RealDisk, &store.public(), &ledger.verifier_key(), |_, _| {});
    public().unwrap();
    for (path, damage) in
        [(&tile, true), (&tile, false), (&bundle, true), (&bundle, false), (&partial, true), (&partial, false)]
    {
        let mut bytes = fs::read(path).unwrap();
        bytes[5] ^= 1;
        if damage {
            fs::write(path, bytes).unwrap()
        } else {
            fs::remove_file(path).unwrap()
        }
        assert!(public().is_err(), "{}", path.display());
        let error = verify::walk(&store, None, |_, _| {}).unwrap_err();
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
        let (ledger, ..) = open(&store, config.clone()).unwrap();
        ledger.close().unwrap();
        public().unwrap();
        verify::walk(&store, None, |_, _| {}).unwrap();
    }
}

#[tokio::test]
async fn answers_can_be_awaited() {
    let (_dir, store) = fresh();
    let (ledger, ..) = open(&store, Config::default()).unwrap();
    let committed = ledger.append(Entry::new("leaf")).await.unwrap();
    committed.proof.verify(b"leaf", &ledger.verifier_key()).unwrap();
    tokio::task::spawn_blocking(move || ledger.close()).await.unwrap().unwrap();
}
