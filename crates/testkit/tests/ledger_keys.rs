//! A change of the log's key with a crash at every step of its I/O: no size ever has two keys, nothing acknowledged is
//! lost, and the log always opens. With the key in the ledger's folder, and with a signer of its own whose disk fails.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail the test")]

#[cfg(feature = "pkcs11")]
#[path = "ledger_keys/token.rs"]
mod token;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use countersign_ledger::{
    Config, Entry, FileKeys, Ledger, OpenError, Peers, PrivateKeys, PublishMode, Rebuild, Record, RemoteSigner,
    Resumed, Signer, SignerServer, Store, VisitError, load_verifier, take_key, verify,
};
use countersign_receipt::{KeyChain, TlogProof, keys};
use countersign_testkit::disk::{FakeDisk, Fault};

fn config() -> Config {
    Config {
        segment_bytes: 6_000,
        chunk_bytes: 2_000,
        publish: PublishMode::Inline,
        idle_sync: None,
        ..Config::default()
    }
}

fn store(disk: &FakeDisk) -> Store {
    Store::new(Arc::new(disk.clone()), "/ledger")
}

fn signer_store(disk: &FakeDisk) -> Store {
    Store::new(Arc::new(disk.clone()), "/signer")
}

struct Acked {
    leaf: Vec<u8>,
    proof: TlogProof,
}

type Opened = Result<(Ledger, Vec<Vec<u8>>), OpenError>;

/// Opens the ledger, by the signer at `socket` if there is one; gives the leaves it found.
fn open(disk: &FakeDisk, socket: Option<&Path>) -> Opened {
    let mut leaves = Vec::new();
    let visit = &mut |record: countersign_ledger::Record<'_>| {
        leaves.push(record.leaf.to_vec());
        Ok(())
    };
    let (ledger, _) = match socket {
        None => Ledger::open(&store(disk), config(), visit)?,
        Some(socket) => {
            let signer = RemoteSigner::connect(socket).map_err(|error| OpenError::Signer(error.to_string()))?;
            Ledger::open_with(&store(disk), config(), Arc::new(signer) as Arc<dyn Signer>, visit)?
        }
    };
    Ok((ledger, leaves))
}

/// Changes the key; the leaf is the statement itself.
fn rotate(ledger: &Ledger, acked: &mut Vec<Acked>) -> bool {
    let Ok(key) = ledger.next_key() else { return false };
    let (tell, told) = std::sync::mpsc::channel();
    let committed = ledger.rotate(key, move |statement| {
        tell.send(statement.to_owned()).unwrap();
        statement.as_bytes().to_vec()
    });
    let Ok(committed) = committed.wait() else { return false };
    acked.push(Acked { leaf: told.recv().unwrap().into_bytes(), proof: committed.proof });
    true
}

fn append(ledger: &Ledger, text: &str, acked: &mut Vec<Acked>) {
    if let Ok(committed) = ledger.append(Entry::new(text)).wait() {
        acked.push(Acked { leaf: text.as_bytes().to_vec(), proof: committed.proof });
    }
}

/// Records, a change, records, a change, a record. Goes on after failures.
fn work(ledger: &Ledger) -> Vec<Acked> {
    let mut acked = Vec::new();
    append(ledger, "one", &mut acked);
    rotate(ledger, &mut acked);
    append(ledger, "two", &mut acked);
    append(ledger, "three", &mut acked);
    rotate(ledger, &mut acked);
    append(ledger, "four", &mut acked);
    acked
}

fn workload(disk: &FakeDisk) -> Vec<Acked> {
    if Ledger::create(&store(disk), "example.com/log").is_err() {
        return Vec::new();
    }
    let Ok((ledger, _)) = open(disk, None) else { return Vec::new() };
    let acked = work(&ledger);
    drop(ledger.close());
    acked
}

/// Opens what a crash left, checks the promises, and changes the key once more.
fn check(disk: &FakeDisk, socket: Option<&Path>, acked: &[Acked], what: &str) {
    let opened = open(disk, socket);
    if matches!(&opened, Err(OpenError::NotALedger { .. })) && acked.is_empty() {
        return;
    }
    let (ledger, leaves) = opened.unwrap_or_else(|error| panic!("{what}: {error}"));
    for Acked { leaf, proof } in acked {
        assert!(leaves.contains(leaf), "{what}: an acknowledged record is lost");
        let found = ledger.keys().open(&proof.checkpoint).unwrap_or_else(|error| panic!("{what}: {error}"));
        proof.verify_hash_with(&countersign_receipt::merkle::leaf_hash(leaf), &ledger.keys()).unwrap();
        ledger.consistency(found.size).unwrap_or_else(|error| panic!("{what}: {error}"));
    }
    // A statement is in the log exactly if its key came into force.
    let is_statement = |leaf: &&Vec<u8>| leaf.starts_with(keys::HEADER.as_bytes());
    let stated: Vec<_> = leaves.iter().filter(is_statement).map(|leaf| String::from_utf8_lossy(leaf)).collect();
    assert_eq!(stated.join("\n"), ledger.keys().to_string(), "{what}");
    let mut more = Vec::new();
    append(&ledger, "after recovery", &mut more);
    assert!(rotate(&ledger, &mut more), "{what}: the key cannot be changed any more");
    append(&ledger, "with the new key", &mut more);
    assert_eq!(more.len(), 3, "{what}");
    assert!(ledger.flush(Duration::from_secs(5)).unwrap(), "{what}");
    ledger.close().unwrap();
    let report = verify::walk(&store(disk), None, |_, _| {}).unwrap_or_else(|error| panic!("{what}: {error}"));
    let first = load_verifier(&store(disk)).unwrap();
    let public = verify::walk_public(store(disk).disk(), &store(disk).public(), &first, |_, _| {});
    assert_eq!(public.unwrap_or_else(|error| panic!("{what}: {error}")).head, report.head, "{what}");
}

#[test]
fn a_crash_at_every_step_of_a_change_leaves_one_key_for_each_size() {
    let disk = FakeDisk::new();
    assert_eq!(workload(&disk).len(), 6);
    let steps = disk.ops();
    for step in 0..steps {
        for fault in [Fault::Crash, Fault::CrashDuring, Fault::Error, Fault::ErrorButDone] {
            let disk = FakeDisk::new();
            disk.fault_at(step, fault);
            let acked = workload(&disk);
            check(&disk.process_crash_image(), None, &acked, &format!("{fault:?} at {step} of {steps}, process"));
            for seed in 0..4 {
                let what = format!("{fault:?} at {step} of {steps}, power, seed {seed}");
                check(&disk.crash_image(seed), None, &acked, &what);
            }
        }
    }
}

/// A signer on `disk`, served by a thread as long as its disk lasts.
fn serve(disk: &FakeDisk, socket: &Path) -> bool {
    FileKeys::load(&signer_store(disk)).is_ok_and(|keys| serve_with(disk, socket, Box::new(keys)))
}

fn serve_with(disk: &FakeDisk, socket: &Path, keys: Box<dyn PrivateKeys>) -> bool {
    let Ok(server) = SignerServer::bind(&signer_store(disk), keys, socket, Peers::new(&[])) else { return false };
    std::thread::spawn(move || drop(server.serve()));
    true
}

/// A ledger whose key was given to a signer on a disk of its own.
fn separated() -> (FakeDisk, FakeDisk) {
    let (ledger, signer) = (FakeDisk::new(), FakeDisk::new());
    Ledger::create(&store(&ledger), "example.com/log").unwrap();
    take_key(&store(&ledger), &signer_store(&signer)).unwrap();
    (ledger, signer)
}

fn separated_workload(ledger: &FakeDisk, signer: &FakeDisk, socket: &Path) -> Vec<Acked> {
    if serve(signer, socket) { served_workload(ledger, socket) } else { Vec::new() }
}

fn served_workload(ledger: &FakeDisk, socket: &Path) -> Vec<Acked> {
    let Ok((ledger, _)) = open(ledger, Some(socket)) else { return Vec::new() };
    let acked = work(&ledger);
    drop(ledger.close());
    acked
}

#[test]
fn a_signer_that_dies_at_every_step_loses_nothing_and_signs_no_fork() {
    let dir = tempfile::tempdir().unwrap();
    let (ledger, signer) = separated();
    let begin = signer.ops();
    assert_eq!(separated_workload(&ledger, &signer, &dir.path().join("all")).len(), 6);
    let steps = signer.ops();
    assert!(steps > begin + 10, "{begin} to {steps}");
    for step in begin..steps {
        for fault in [Fault::Crash, Fault::CrashDuring] {
            let (ledger, signer) = separated();
            signer.fault_at(step, fault);
            let acked = separated_workload(&ledger, &signer, &dir.path().join(format!("{step}-{fault:?}")));
            let images = [("process", signer.process_crash_image()), ("power", signer.crash_image(step))];
            for (kind, image) in images {
                let what = format!("{fault:?} of the signer at {step} of {steps}, {kind}");
                let socket = dir.path().join(format!("{step}-{fault:?}-{kind}"));
                assert!(serve(&image, &socket), "{what}: the signer does not start");
                check(&ledger.process_crash_image(), Some(&socket), &acked, &what);
            }
        }
    }
}

#[test]
fn a_ledger_that_dies_at_every_step_of_a_change_settles_it_with_its_signer() {
    let dir = tempfile::tempdir().unwrap();
    let (ledger, signer) = separated();
    let begin = ledger.ops();
    separated_workload(&ledger, &signer, &dir.path().join("all"));
    for step in begin..ledger.ops() {
        let (ledger, signer) = separated();
        ledger.fault_at(step, Fault::CrashDuring);
        let acked = separated_workload(&ledger, &signer, &dir.path().join(format!("{step}")));
        let socket = dir.path().join(format!("{step}-again"));
        assert!(serve(&signer.process_crash_image(), &socket), "step {step}");
        check(&ledger.crash_image(step), Some(&socket), &acked, &format!("ledger at {step}"));
    }
}

#[test]
fn an_older_ledger_is_refused_by_its_signer() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, signer) = separated();
    let socket = dir.path().join("signer");
    assert!(serve(&signer, &socket));
    let older = disk.process_crash_image();
    let (ledger, _) = open(&disk, Some(&socket)).unwrap();
    ledger.append(Entry::new("seen by the signer")).wait().unwrap();
    ledger.append(Entry::new("and this one")).wait().unwrap();
    ledger.close().unwrap();
    // Hangs up: a signer has one client at a time.
    drop(ledger);
    // Mark, segments and published checkpoint all agree with each other; only the signer knows better.
    let refused = open(&older, Some(&socket)).map(|(ledger, _)| drop(ledger.close())).unwrap_err();
    assert!(matches!(refused, OpenError::Rollback { witness: "the signer", found: 0, .. }), "{refused}");
    open(&disk, Some(&socket)).unwrap().0.close().unwrap();
}

#[test]
fn forged_and_rolled_back_lists_of_keys_are_refused() {
    let disk = FakeDisk::new();
    workload(&disk);
    let (files, first) = (store(&disk), load_verifier(&store(&disk)).unwrap());
    let good = countersign_ledger::disk::read_file(&disk, &files.keys(), 1 << 20).unwrap();
    let text = String::from_utf8(good).unwrap();
    let second = text.rfind(keys::HEADER).unwrap();
    let write = |disk: &FakeDisk, text: &str| {
        countersign_ledger::disk::replace_file(
            disk,
            &files.keys(),
            text.as_bytes(),
            countersign_ledger::disk::Access::Public,
        )
        .unwrap();
    };
    KeyChain::parse(first, &text).unwrap();
    for (what, forged) in [
        ("the newest statement is gone", text[..second - 1].to_owned()),
        ("the first one is gone", text[second..].to_owned()),
        ("all are gone", String::new()),
        ("another size", text.replacen("\n3\n", "\n4\n", 1)),
        ("a signature", text.replacen("— ", "— x", 1)),
    ] {
        let image = disk.process_crash_image();
        write(&image, &forged);
        assert!(verify::walk(&store(&image), None, |_, _| {}).is_err(), "{what}");
        let opened = open(&image, None).map(|(ledger, _)| drop(ledger.close()));
        assert!(opened.is_err(), "{what}: opened");
        write(&image, &text);
        open(&image, None).unwrap().0.close().unwrap();
    }
}

/// Reads the whole log and remembers nothing.
struct Ignoring;

impl Rebuild for Ignoring {
    fn takes_snapshots(&self) -> bool {
        false
    }

    fn restart(&mut self) {}

    fn resume(&mut self, _: &Resumed<'_>) -> Result<(), VisitError> {
        Ok(())
    }

    fn rebase(&mut self, _: &Resumed<'_>) -> Result<(), VisitError> {
        Ok(())
    }

    fn visit(&mut self, _: Record<'_>) -> Result<(), VisitError> {
        Ok(())
    }

    fn finish(&mut self) -> Result<(), VisitError> {
        Ok(())
    }
}

#[test]
fn any_key_of_the_list_vouches_for_segments_that_older_ones_signed() {
    let disk = FakeDisk::new();
    let files = store(&disk);
    Ledger::create(&files, "example.com/log").unwrap();
    let small = Config { segment_bytes: 900, chunk_bytes: 1, ..config() };
    let (ledger, _) = Ledger::open(&files, small, &mut |_| Ok(())).unwrap();
    let mut acked = Vec::new();
    for text in 0..20 {
        append(&ledger, &text.to_string(), &mut acked);
        assert!(text != 12 || rotate(&ledger, &mut acked));
    }
    assert!(ledger.flush(Duration::from_secs(5)).unwrap());
    ledger.close().unwrap();
    let segments = disk.paths().into_iter().filter(|path| path.extension().is_some_and(|kind| kind == "seg"));
    assert!(segments.count() > 3);
    let (first, newest) = (load_verifier(&files).unwrap(), ledger.keys().newest().clone());
    for key in [&first, &newest] {
        let report = verify::walk(&files, Some(key), |_, _| {}).unwrap();
        assert_eq!(verify::resume(&files, Some(key), &mut Ignoring).unwrap(), (0, report.head), "{key}");
    }
}
