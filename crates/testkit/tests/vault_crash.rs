//! The vault on a disk that fails: what was acknowledged can be read, what was erased cannot, after any crash.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail the test")]

use std::collections::BTreeSet;
use std::sync::Arc;

use countersign_ledger::vault::Header;
use countersign_ledger::{Config, Entry, Ledger, PublishMode, Scopes, Store, StoredRecord, Vault, VaultError};
use countersign_model::record::VaultScope;
use countersign_testkit::disk::{FakeDisk, Fault};

const RUNS: [&str; 3] = ["r-0", "r-1", "r-2"];
const ERASED: &str = "r-1";

fn store(disk: &FakeDisk) -> Store {
    Store::new(Arc::new(disk.clone()), "/ledger")
}

fn config() -> Config {
    Config { chunk_bytes: 1, publish: PublishMode::Inline, idle_sync: None, ..Config::default() }
}

/// How far the process came.
#[derive(Default)]
struct Done {
    /// Index, run and payload of what was acknowledged.
    acked: Vec<(u64, &'static str, Vec<u8>)>,
    /// The first record that was appended after the erasure was asked for.
    asked: Option<u64>,
    is_erased: bool,
}

/// Seals and appends for three runs, erases one of them in the middle, and goes on. Stops at the first error.
fn workload(disk: &FakeDisk) -> Done {
    let mut done = Done::default();
    let _ = work(disk, &mut done);
    done
}

fn work(disk: &FakeDisk, done: &mut Done) -> Option<()> {
    Ledger::create(&store(disk), "example.com/log").ok()?;
    let vault = Vault::open(&store(disk)).ok()?;
    let (ledger, _) = Ledger::open(&store(disk), config(), &mut |_| Ok(())).ok()?;
    vault.refill().ok()?;
    for round in 0..4_u8 {
        if round == 2 {
            done.asked = Some(ledger.head().size);
            let tag = vault.tag(&VaultScope::Run(ERASED.parse().unwrap()));
            let stored: Vec<StoredRecord> = ledger.tail(0).collect::<Result<_, _>>().ok()?;
            let sealed = stored.iter().filter_map(|stored| stored.payload.as_deref());
            let mut keys: BTreeSet<u64> = sealed.filter_map(|sealed| Header::read(sealed)?.key_of(tag)).collect();
            keys.extend(vault.retire(tag));
            vault.destroy(&keys).ok()?;
            done.is_erased = true;
        }
        for run in RUNS {
            let sealer = vault.sealer(&Scopes { run: run.parse().unwrap(), subject: None }).ok()?;
            let (leaf, payload) = (format!("leaf {round} of {run}"), vec![round; 700]);
            let sealed = sealer.seal(&payload, leaf.as_bytes()).ok()?;
            let committed = ledger.append(Entry::with_payload(leaf, sealed)).wait().ok()?;
            done.acked.push((committed.index, run, payload));
        }
    }
    ledger.close().ok()
}

fn check(image: &FakeDisk, done: &Done, what: &str) {
    if done.acked.is_empty() {
        return;
    }
    let vault = Vault::open(&store(image)).unwrap_or_else(|error| panic!("{what}: {error}"));
    let (ledger, _) = Ledger::open(&store(image), config(), &mut |_| Ok(())).unwrap_or_else(|e| panic!("{what}: {e}"));
    for (index, run, payload) in &done.acked {
        let stored = ledger.record(*index).unwrap();
        let read = vault.unseal(&stored.payload.unwrap(), &stored.leaf);
        let is_asked = *run == ERASED && done.asked.is_some_and(|asked| *index < asked);
        match read {
            Ok(None) => assert!(is_asked, "{what}: record {index} of {run} is gone"),
            Ok(Some(read)) => {
                assert_eq!(read, *payload, "{what}: record {index}");
                assert!(!(is_asked && done.is_erased), "{what}: record {index} of {run} came back");
            }
            // Half of the zeros are on the disk: it cannot be read, and was not to be.
            Err(error) => {
                assert!(is_asked && !done.is_erased && error == VaultError::Damaged, "{what}: {index} {error}")
            }
        }
    }
    // Nothing that is made from here on meets a key of before.
    let key_of = |stored: Result<StoredRecord, _>| Header::read(&stored.unwrap().payload.unwrap()).unwrap().run_key;
    let used: BTreeSet<u64> = ledger.tail(0).map(key_of).collect();
    vault.refill().unwrap_or_else(|error| panic!("{what}: {error}"));
    let sealer = vault.sealer(&Scopes { run: "r-9".parse().unwrap(), subject: None }).unwrap();
    let sealed = sealer.seal(b"after", b"leaf").unwrap();
    assert!(!used.contains(&Header::read(&sealed).unwrap().run_key), "{what}: a key was used twice");
    assert_eq!(vault.unseal(&sealed, b"leaf"), Ok(Some(b"after".to_vec())), "{what}");
    ledger.close().unwrap();
}

fn steps() -> u64 {
    let disk = FakeDisk::new();
    let done = workload(&disk);
    assert!(done.is_erased && done.acked.len() == 12);
    disk.ops()
}

#[test]
fn a_crash_at_every_step_keeps_what_was_acknowledged_and_only_that() {
    for step in 0..steps() {
        for fault in [Fault::Crash, Fault::CrashDuring] {
            let disk = FakeDisk::new();
            disk.fault_at(step, fault);
            let done = workload(&disk);
            check(&disk.process_crash_image(), &done, &format!("{fault:?} at {step}"));
            for seed in 0..2 {
                check(&disk.crash_image(seed), &done, &format!("{fault:?} at {step}, power, seed {seed}"));
            }
        }
    }
}

#[test]
fn an_error_at_every_step_keeps_it_too() {
    for step in 0..steps() {
        for fault in [Fault::Error, Fault::ErrorButDone, Fault::Torn, Fault::Full] {
            let disk = FakeDisk::new();
            disk.fault_at(step, fault);
            let done = workload(&disk);
            check(&disk.process_crash_image(), &done, &format!("{fault:?} at {step}"));
            check(&disk.crash_image(step), &done, &format!("{fault:?} at {step}, power"));
        }
    }
}

#[test]
fn after_a_failed_write_or_sync_no_key_is_made_and_none_destroyed() {
    for fault in [Fault::Error, Fault::ErrorButDone, Fault::Torn] {
        let disk = FakeDisk::new();
        Ledger::create(&store(&disk), "example.com/log").unwrap();
        let vault = Vault::open(&store(&disk)).unwrap();
        // Space, then the write, then its sync.
        disk.fault_at(disk.ops() + 2, fault);
        assert!(matches!(vault.refill(), Err(VaultError::Io { operation: "sync", .. })), "{fault:?}");
        assert_eq!(vault.refill(), Err(VaultError::Stopped));
        assert_eq!(vault.destroy(&BTreeSet::from([1])), Err(VaultError::Stopped));
    }
}

#[test]
fn a_full_disk_makes_no_keys_and_clears() {
    let disk = FakeDisk::new();
    Ledger::create(&store(&disk), "example.com/log").unwrap();
    let vault = Vault::open(&store(&disk)).unwrap();
    disk.set_capacity(Some(disk.used()));
    assert!(matches!(vault.refill(), Err(VaultError::Io { is_full: true, .. })));
    disk.set_capacity(None);
    vault.refill().unwrap();
    assert!(vault.sealer(&Scopes { run: "r-1".parse().unwrap(), subject: None }).is_ok());
}
