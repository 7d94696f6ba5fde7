//! A ledger that starts from a snapshot holds what one holds that was read whole, whatever became of the snapshot's file.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail the test")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use countersign_ledger::disk::{Access, Disk, Mode, read_file};
use countersign_ledger::{
    Config, Entry, Follower, Ledger, OpenError, PublishMode, Rebuild, Record, Recovered, Resumed, Store, VisitError,
    delete_snapshots, verify,
};
use countersign_model::Digest;
use countersign_testkit::disk::{FakeDisk, Fault};

const PATIENCE: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(60);

fn config() -> Config {
    Config {
        segment_bytes: 4_000,
        chunk_bytes: 700,
        publish: PublishMode::Inline,
        idle_sync: None,
        ..Config::default()
    }
}

fn store(disk: &FakeDisk) -> Store {
    Store::new(Arc::new(disk.clone()), "/ledger")
}

/// A fold whose state depends on every leaf and on their order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Chain {
    state: Vec<u8>,
    seen: Vec<u64>,
    resumed: Option<(u64, bool)>,
}

impl Chain {
    fn take(&mut self, leaf: &[u8]) {
        self.state = Digest::of("chain", &[&self.state, leaf]).0.to_vec();
    }
}

fn committing(size: u64, state: &[u8]) -> Vec<u8> {
    format!("snapshot {size} {}", Digest::of("state", &[state])).into_bytes()
}

impl Rebuild for Chain {
    fn takes_snapshots(&self) -> bool {
        true
    }

    fn restart(&mut self) {
        *self = Self::default();
    }

    fn resume(&mut self, resumed: &Resumed<'_>) -> Result<(), VisitError> {
        // What lies below can be read, though not what lies above.
        assert!(resumed.record(0).map_or(true, |stored| stored.leaf == b"leaf 0"), "a damaged one may say so");
        assert!(resumed.record(resumed.size).is_err());
        *self = Self { state: resumed.state.to_vec(), seen: Vec::new(), resumed: Some((resumed.size, false)) };
        self.seen.clear();
        Ok(())
    }

    fn rebase(&mut self, base: &Resumed<'_>) -> Result<(), VisitError> {
        self.resume(base)
    }

    fn visit(&mut self, record: Record<'_>) -> Result<(), VisitError> {
        if let Some((size, is_recorded)) = self.resumed {
            let claimed = String::from_utf8_lossy(record.leaf).into_owned();
            let is_this = claimed.starts_with(&format!("snapshot {size} "));
            self.resumed = Some((size, is_recorded || (is_this && self.commits(size, &claimed))));
        }
        self.take(record.leaf);
        self.seen.push(record.index);
        Ok(())
    }

    fn finish(&mut self) -> Result<(), VisitError> {
        match self.resumed {
            Some((_, false)) => Err(VisitError::new("no record commits to it")),
            _ => Ok(()),
        }
    }
}

impl Chain {
    /// A commitment comes first behind its snapshot here, so the state is still that of the snapshot.
    fn commits(&self, size: u64, claimed: &str) -> bool {
        claimed.as_bytes() == committing(size, &self.state)
    }
}

fn resume(disk: &FakeDisk) -> Result<(Ledger, Recovered, Chain), OpenError> {
    let mut chain = Chain::default();
    let (ledger, recovered) = Ledger::resume(&store(disk), config(), &mut chain)?;
    Ok((ledger, recovered, chain))
}

/// The fold of the whole log, read from its first record.
fn whole(disk: &FakeDisk) -> Vec<u8> {
    let mut chain = Chain::default();
    let image = disk.process_crash_image();
    let (ledger, _) = Ledger::open(&store(&image), config(), &mut |record| chain.visit(record)).unwrap();
    ledger.close().unwrap();
    chain.state
}

fn append(ledger: &Ledger, from: u64, count: u64) -> bool {
    let pending: Vec<_> = (from..from + count).map(|n| ledger.append(Entry::new(format!("leaf {n}")))).collect();
    pending.into_iter().all(|pending| pending.wait().is_ok())
}

/// Follows, saves, commits: as the gate does. Says whether all of it went well.
fn snapshot(ledger: &Ledger, follower: &mut Follower, chain: &mut Chain) -> bool {
    assert!(ledger.flush(PATIENCE).unwrap());
    let size = ledger.head().size;
    let is_all = follower.advance(u64::MAX, &mut |record| chain.visit(record));
    assert!(is_all.unwrap() && follower.size() == size);
    follower.save(&chain.state).is_ok()
        && ledger.append(Entry::new(committing(size, &chain.state))).wait().is_ok()
        && follower.retire().is_ok()
}

/// A closed log with a snapshot after each of `parts`, and some records behind the last.
fn written(parts: &[u64]) -> FakeDisk {
    let disk = FakeDisk::new();
    Ledger::create(&store(&disk), "example.com/log").unwrap();
    let (ledger, _, mut chain) = resume(&disk).unwrap();
    let mut follower = ledger.follower().unwrap();
    assert!(ledger.follower().is_none());
    for part in parts {
        assert!(append(&ledger, ledger.head().size, *part));
        assert!(snapshot(&ledger, &mut follower, &mut chain));
    }
    assert!(append(&ledger, ledger.head().size, 3));
    ledger.close().unwrap();
    disk.process_crash_image()
}

/// Opens and checks that nothing but the way is different; gives from where it was read.
fn check(disk: &FakeDisk, what: &str) -> u64 {
    let (from, image) = starts(disk, what);
    let report = verify::walk(&store(&image), None, |_, _| {}).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(report.published, Some(report.head.size), "{what}");
    from
}

/// Opens, checks the state, appends, closes; gives from where the log was read, and what is there afterwards.
fn starts(disk: &FakeDisk, what: &str) -> (u64, FakeDisk) {
    let expected = whole(disk);
    let image = disk.process_crash_image();
    let (ledger, recovered, chain) = resume(&image).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(chain.state, expected, "{what}");
    let size = recovered.head.size;
    assert_eq!(chain.seen, (recovered.from..size).collect::<Vec<_>>(), "{what}");
    assert!(append(&ledger, size, 5), "{what}");
    for index in [0, size / 2, size] {
        assert!(ledger.prove(index).is_ok(), "{what}: record {index}");
    }
    ledger.close().unwrap();
    assert_eq!((ledger.head().size, ledger.published()), (size + 5, size + 5), "{what}");
    (recovered.from, image)
}

fn file(size: u64) -> PathBuf {
    PathBuf::from(format!("/ledger/snapshots/{size:020}.snap"))
}

fn change(disk: &FakeDisk, path: &std::path::Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = read_file(disk, path, u64::MAX).unwrap();
    change(&mut bytes);
    let file = disk.open(path, Mode::Replace(Access::Private)).unwrap();
    file.write_at(0, &bytes).unwrap();
}

fn reseal(bytes: &mut Vec<u8>) {
    bytes.truncate(bytes.len() - 4);
    let crc = crc32c::crc32c(bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
}

#[test]
fn a_start_goes_on_from_the_newest_snapshot_and_two_are_kept() {
    for (parts, from) in
        [(vec![1], 1), (vec![20, 7], 28), (vec![255], 255), (vec![256], 256), (vec![300, 1, 700], 1_003)]
    {
        let disk = written(&parts);
        assert_eq!(check(&disk, &format!("{parts:?}")), from);
        let kept = disk.paths().into_iter().filter(|path| path.starts_with("/ledger/snapshots")).count();
        assert_eq!(kept, parts.len().min(2));
    }
}

#[test]
fn without_snapshots_the_whole_log_is_read() {
    let disk = written(&[20, 7]);
    delete_snapshots(&store(&disk)).unwrap();
    assert!(!disk.paths().iter().any(|path| path.starts_with("/ledger/snapshots")));
    assert_eq!(check(&disk, "deleted"), 0);
}

#[test]
fn a_follower_that_was_resumed_takes_the_next_snapshot() {
    let disk = written(&[300]);
    let (ledger, recovered, mut chain) = resume(&disk).unwrap();
    assert_eq!(recovered.from, 300);
    let mut follower = ledger.follower().unwrap();
    assert!(append(&ledger, 0, 400));
    assert!(snapshot(&ledger, &mut follower, &mut chain));
    ledger.close().unwrap();
    assert_eq!(check(&disk, "second"), 704);
}

#[test]
fn every_flipped_bit_of_a_snapshot_is_noticed() {
    let disk = written(&[20, 7]);
    let length = read_file(&disk, &file(28), u64::MAX).unwrap().len();
    let expected = whole(&disk);
    // One bit of every byte here; the checksum of the file knows all of them.
    for bit in (0..length).map(|byte| byte * 8 + byte % 8) {
        let image = disk.process_crash_image();
        change(&image, &file(28), |bytes| {
            if let Some(byte) = bytes.get_mut(bit / 8) {
                *byte ^= 1 << (bit % 8);
            }
        });
        let (ledger, recovered, chain) = resume(&image).unwrap();
        ledger.close().unwrap();
        assert_eq!(recovered.from, 20, "bit {bit}");
        assert_eq!(chain.state, expected, "bit {bit}");
    }
}

#[test]
fn a_file_that_was_changed_with_care_is_not_believed() {
    let base = written(&[20, 7]);
    let length = read_file(&base, &file(28), u64::MAX).unwrap().len();
    let expected = whole(&base);
    // Every byte but the magic, each with a checksum that is right again: place, tree, bundle, state.
    for at in 4..length - 4 {
        let disk = base.process_crash_image();
        change(&disk, &file(28), |bytes| {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 0x11;
            }
            reseal(bytes);
        });
        let (ledger, recovered, chain) = resume(&disk).unwrap();
        ledger.close().unwrap();
        assert_eq!(recovered.from, 20, "byte {at}");
        assert_eq!(chain.state, expected, "byte {at}");
    }
}

#[test]
fn torn_empty_misnamed_and_foreign_files_are_passed_over() {
    let foreign = read_file(&written(&[28]), &file(28), u64::MAX).unwrap();
    let older = read_file(&written(&[20, 7]), &file(20), u64::MAX).unwrap();
    for (what, bytes) in
        [("empty", Vec::new()), ("foreign", foreign.clone()), ("misnamed", older), ("long", vec![0; 9_000])]
    {
        let disk = written(&[20, 7]);
        change(&disk, &file(28), |old| *old = bytes);
        assert_eq!(check(&disk, what), 20, "{what}");
    }
    let disk = written(&[20, 7]);
    for size in [20, 28] {
        change(&disk, &file(size), |bytes| bytes.truncate(bytes.len() / 2));
    }
    assert_eq!(check(&disk, "both torn"), 0);
}

/// Appends, snapshots, appends, snapshots, until something fails.
fn workload(disk: &FakeDisk) {
    let Ok((ledger, _, mut chain)) = resume(disk) else { return };
    let mut follower = ledger.follower().unwrap();
    for part in [3, 1] {
        // One at a time: how many records share a frame must not depend on time.
        let done = (0..part).all(|_| append(&ledger, 0, 1)) && {
            let size = ledger.head().size;
            // Where publication has failed, this is all the time that it gets.
            let _ = ledger.flush(if disk.has_faults() { SHORT } else { PATIENCE });
            let advanced = follower.advance(u64::MAX, &mut |record| chain.visit(record));
            advanced.is_ok_and(|is_all| is_all)
                && follower.save(&chain.state).is_ok()
                && ledger.append(Entry::new(committing(size, &chain.state))).wait().is_ok()
                && follower.retire().is_ok()
        };
        if !done {
            break;
        }
    }
    drop(ledger.close());
}

#[test]
fn a_crash_or_fault_at_any_step_leaves_a_log_that_starts_right() {
    // The first snapshot of the workload is the first one that has full tiles below it.
    let base = written(&[251]);
    let clean = base.process_crash_image();
    workload(&clean);
    assert_eq!(check(&clean, "clean"), 260);
    let mut resumed = 0;
    for fault in [Fault::Crash, Fault::CrashDuring, Fault::Error, Fault::ErrorButDone] {
        for k in 0..clean.ops() {
            let disk = base.process_crash_image();
            disk.fault_at(k, fault);
            workload(&disk);
            for (name, image) in [("process", disk.process_crash_image()), ("power", disk.crash_image(k))] {
                let what = format!("{fault:?} at {k}, {name}");
                // A walk checks every signature, which takes long: at some steps it does.
                let from = if k.is_multiple_of(16) { check(&image, &what) } else { starts(&image, &what).0 };
                resumed += u64::from(from > 0);
            }
        }
    }
    assert!(resumed > 50, "starts from snapshots: {resumed}");
}

#[test]
fn a_mark_and_a_checkpoint_from_before_the_snapshot_are_proved_right_or_refused() {
    let disk = FakeDisk::new();
    Ledger::create(&store(&disk), "example.com/log").unwrap();
    let (ledger, _, mut chain) = resume(&disk).unwrap();
    let mut follower = ledger.follower().unwrap();
    assert!(append(&ledger, 0, 600));
    let (mark, checkpoint) = (PathBuf::from("/ledger/mark"), PathBuf::from("/ledger/public/checkpoint"));
    let old: Vec<_> = [&mark, &checkpoint].map(|path| read_file(&disk, path, u64::MAX).unwrap()).into();
    assert!(append(&ledger, 600, 500));
    assert!(snapshot(&ledger, &mut follower, &mut chain));
    ledger.close().unwrap();
    for (path, bytes) in [&mark, &checkpoint].into_iter().zip(old) {
        change(&disk, path, |now| *now = bytes);
    }
    assert_eq!(check(&disk, "older mark and checkpoint"), 1_100);
    // Where a tile that the proof needs is gone, the whole log is read, and the tile made again.
    let image = disk.process_crash_image();
    image.remove(&PathBuf::from("/ledger/public/tile/0/002")).unwrap();
    assert_eq!(check(&image, "without a tile"), 0);
}

#[test]
fn what_is_refused_without_a_snapshot_is_refused_with_one() {
    let old = written(&[20, 7]);
    // Rolled back: the segments of an older copy under the mark and snapshots of the newer.
    let disk = old.process_crash_image();
    workload(&disk);
    let newer = disk.process_crash_image();
    for path in newer.paths().into_iter().filter(|path| path.starts_with("/ledger/segments")) {
        match read_file(&old, &path, u64::MAX) {
            Ok(bytes) => change(&newer, &path, |now| *now = bytes),
            Err(_) => newer.remove(&path).unwrap(),
        }
    }
    let error = resume(&newer).map(drop).unwrap_err();
    assert!(matches!(error, OpenError::Rollback { .. }), "{error}");
    // Damage behind the snapshot.
    let disk = written(&[20, 7]);
    let last = disk.paths().into_iter().rfind(|path| path.extension().is_some_and(|e| e == "seg")).unwrap();
    let bytes = read_file(&disk, &last, u64::MAX).unwrap().len();
    for at in (bytes - 200)..bytes {
        let image = disk.process_crash_image();
        change(&image, &last, |bytes| {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 4;
            }
        });
        let error = resume(&image).map(drop).unwrap_err();
        assert!(matches!(error, OpenError::Corrupt { .. }), "byte {at}: {error}");
    }
}

#[test]
fn damage_before_the_snapshot_does_not_stop_a_start_and_is_found_by_a_walk() {
    let disk = written(&[60, 7]);
    let first = PathBuf::from("/ledger/segments/00000000000000000000.seg");
    change(&disk, &first, |bytes| {
        if let Some(byte) = bytes.get_mut(60) {
            *byte ^= 4;
        }
    });
    let error = verify::walk(&store(&disk), None, |_, _| {}).unwrap_err();
    assert!(matches!(error, verify::WalkError::Frame { .. }), "{error}");
    let (ledger, recovered, _) = resume(&disk).unwrap();
    assert_eq!(recovered.from, 68);
    ledger.close().unwrap();
}
