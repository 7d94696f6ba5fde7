//! What an attacker or a failing disk does to a closed log: every flipped bit, and records and frames removed, swapped,
//! doubled and cut with checksums made anew, is found and named. A flip is never taken for a torn tail.
//!
//! `COUNTERSIGN_TAMPER_FLIPS` sets how many flips of the large log are tried (`cargo xtask audit --tamper` sets 10,000).
#![expect(clippy::cast_possible_truncation, reason = "the numbers of these tests are small")]
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "helpers of tests fail the test")]

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use countersign_ledger::verify::{WalkError, walk};
use countersign_ledger::{Config, Entry, FrameFault, Ledger, OpenError, PublishMode, Store};
use countersign_testkit::disk::FakeDisk;

const DIR: &str = "/ledger";
const HEADER: usize = 24;

fn store(disk: &FakeDisk) -> Store {
    Store::new(Arc::new(disk.clone()), DIR)
}

fn path(name: &str) -> PathBuf {
    Path::new(DIR).join(name)
}

fn config(segment_bytes: u64) -> Config {
    Config { segment_bytes, chunk_bytes: 1, publish: PublishMode::Inline, idle_sync: None, ..Config::default() }
}

/// A closed log of so many records, in frames of `batch`, over several segments.
fn log(records: u64, batch: u64, segment_bytes: u64) -> FakeDisk {
    let disk = FakeDisk::new();
    Ledger::create(&store(&disk), "example.com/log").unwrap();
    more(&disk, 0..records, batch, segment_bytes);
    disk
}

fn more(disk: &FakeDisk, records: Range<u64>, batch: u64, segment_bytes: u64) {
    let (ledger, _) = Ledger::open(&store(disk), config(segment_bytes), &mut |_| Ok(())).unwrap();
    for first in records.clone().step_by(batch as usize) {
        let entry = |number: u64| match number % 4 {
            0 => Entry::with_payload(format!("leaf {number}"), format!("payload {number}")),
            _ => Entry::new(format!("leaf {number}")),
        };
        let numbers = first..(first + batch).min(records.end);
        ledger.append_together(numbers.map(entry).collect()).pop().unwrap().wait().unwrap();
    }
    assert!(ledger.flush(Duration::from_secs(20)).unwrap());
    ledger.close().unwrap();
}

/// The log of 50 records that every bit is flipped in.
fn small() -> FakeDisk {
    let disk = log(50, 8, 900);
    walk(&store(&disk), None, |_, _| {}).unwrap();
    disk
}

fn named(disk: &FakeDisk, extension: &str) -> Vec<PathBuf> {
    disk.paths().into_iter().filter(|path| path.extension().is_some_and(|kind| kind == extension)).collect()
}

fn segments(disk: &FakeDisk) -> Vec<PathBuf> {
    named(disk, "seg")
}

/// Whether the walk's complaint is the right one for a flipped bit of this file.
fn is_named(error: &WalkError, changed: &Path) -> bool {
    let name = changed.strip_prefix(DIR).unwrap().to_str().unwrap();
    match error {
        WalkError::Frame { path, .. } => path == changed,
        WalkError::Public { path, .. } => path == changed && name.starts_with("public/tile/"),
        WalkError::Mark { path, .. } => path == changed && name == "mark",
        WalkError::Checkpoint { path, .. } | WalkError::Fork { path, .. } => path == changed,
        WalkError::Key(_) => name == "log.vkey",
        _ => false,
    }
}

/// Files whose bits all mean something. The private key, the vault's keys and the lock are no part of the log, and partial
/// tiles of earlier checkpoints are no part of the newest one's tree.
fn judged(disk: &FakeDisk, size: u64) -> Vec<PathBuf> {
    let counts = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap();
        let parent = path.parent().unwrap();
        let is_partial = parent.extension().is_some_and(|kind| kind == "p");
        // Of the newest tree at that level; another one of this name may be left of an earlier tree.
        let width = if parent.to_str().unwrap().contains("/tile/1/") { size / 256 % 256 } else { size % 256 };
        !["log.key", "keys", "lock"].contains(&name) && (!is_partial || width.to_string() == name)
    };
    disk.paths().into_iter().filter(counts).collect()
}

/// Flips one bit and asks both who verifies and who opens; puts it back.
fn check_flip(disk: &FakeDisk, changed: &Path, good: &[u8], bit: usize) {
    let mut bad = good.to_vec();
    bad[bit / 8] ^= 1 << (bit % 8);
    disk.plant(changed, &bad);
    let error = match walk(&store(disk), None, |_, _| {}) {
        Ok(_) => panic!("bit {bit} of `{}` was not missed", changed.display()),
        Err(error) => error,
    };
    assert!(is_named(&error, changed), "bit {bit} of `{}`: {error}", changed.display());
    if changed.extension().is_some_and(|kind| kind == "seg") {
        let opened = Ledger::open(&store(disk), config(900), &mut |_| Ok(())).map(|(ledger, _)| ledger.close());
        match opened {
            Err(OpenError::Corrupt { path, .. }) => assert_eq!(path, changed),
            other => panic!("bit {bit} of `{}`: {other:?}", changed.display()),
        }
        assert_eq!(disk.bytes(changed).unwrap(), bad, "nothing may be cut");
    }
    disk.plant(changed, good);
}

/// Flips every `workers`-th bit of every file that `which` takes.
fn every_bit(which: fn(&Path) -> bool) {
    let log = small();
    const WORKERS: usize = 4;
    std::thread::scope(|scope| {
        for worker in 0..WORKERS {
            let disk = log.process_crash_image();
            scope.spawn(move || {
                for changed in judged(&disk, 50).into_iter().filter(|path| which(path)) {
                    let good = disk.bytes(&changed).unwrap();
                    for bit in (worker..good.len() * 8).step_by(WORKERS) {
                        check_flip(&disk, &changed, &good, bit);
                    }
                }
                walk(&store(&disk), None, |_, _| {}).unwrap();
            });
        }
    });
}

#[test]
fn every_flipped_bit_of_the_segments_is_found_and_never_taken_for_a_torn_tail() {
    every_bit(|path| path.extension().is_some_and(|kind| kind == "seg"));
}

#[test]
fn every_flipped_bit_of_mark_key_and_public_folder_is_found() {
    every_bit(|path| path.extension().is_none_or(|kind| kind != "seg"));
}

/// SplitMix64.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

#[test]
fn sampled_flips_in_a_log_of_ten_thousand_records_are_found() {
    let flips: u64 = std::env::var("COUNTERSIGN_TAMPER_FLIPS").map_or(60, |text| text.parse().unwrap());
    // Larger than what is verified on one thread.
    static LOG: OnceLock<FakeDisk> = OnceLock::new();
    let log = LOG.get_or_init(|| log(10_000, 100, 200_000));
    walk(&store(log), None, |_, _| {}).unwrap();
    std::thread::scope(|scope| {
        for worker in 0..2_u64 {
            let disk = log.process_crash_image();
            scope.spawn(move || {
                let mut seed = worker;
                let files: Vec<_> =
                    judged(&disk, 10_000).into_iter().map(|path| (disk.bytes(&path).unwrap(), path)).collect();
                let bits: u64 = files.iter().map(|(bytes, _)| bytes.len() as u64 * 8).sum();
                for _ in (worker..flips).step_by(2) {
                    let mut at = random(&mut seed) % bits;
                    let (good, changed) = files
                        .iter()
                        .find(|(bytes, _)| {
                            let length = bytes.len() as u64 * 8;
                            let here = at < length;
                            at -= if here { 0 } else { length };
                            here
                        })
                        .unwrap();
                    check_flip(&disk, changed, good, at as usize);
                }
            });
        }
    });
}

/// A frame taken apart as the format says, for an attacker who makes it anew.
#[derive(Clone)]
struct Forged {
    first: u64,
    records: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    note: String,
}

impl Forged {
    fn all(bytes: &[u8]) -> Vec<Self> {
        let mut frames = Vec::new();
        let mut rest = bytes;
        while rest.starts_with(b"CSF1") {
            let (frame, after) = rest.split_at(word(rest, 4));
            frames.push(Self::read(frame));
            rest = after;
        }
        frames
    }

    fn read(frame: &[u8]) -> Self {
        let (mut at, mut records) = (HEADER, Vec::new());
        for _ in 0..word(frame, 16) {
            let leaf = usize::from(u16::from_le_bytes([frame[at], frame[at + 1]]));
            let payload = (word(frame, at + 2) != u32::MAX as usize).then(|| word(frame, at + 2));
            at += 6;
            let end = at + leaf + payload.unwrap_or(0);
            records.push((frame[at..at + leaf].to_vec(), payload.map(|_| frame[at + leaf..end].to_vec())));
            at = end;
        }
        let note = String::from_utf8(frame[at..at + word(frame, 20)].to_vec()).unwrap();
        Self { first: word(frame, 8) as u64, records, note }
    }

    fn write(&self) -> Vec<u8> {
        let mut bytes = [b"CSF1".as_slice(), &[0; 4], &self.first.to_le_bytes(), &[0; 8]].concat();
        for (leaf, payload) in &self.records {
            bytes.extend_from_slice(&(leaf.len() as u16).to_le_bytes());
            bytes.extend_from_slice(&payload.as_ref().map_or(u32::MAX, |payload| payload.len() as u32).to_le_bytes());
            bytes.extend_from_slice(leaf);
            bytes.extend_from_slice(payload.as_deref().unwrap_or_default());
        }
        bytes.extend_from_slice(self.note.as_bytes());
        let (total, count, note) = (bytes.len() + 4, self.records.len(), self.note.len());
        for (at, value) in [(4, total), (16, count), (20, note)] {
            bytes[at..at + 4].copy_from_slice(&(value as u32).to_le_bytes());
        }
        let crc = crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes
    }
}

fn word(bytes: &[u8], at: usize) -> usize {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize
}

/// CRC32C, bit by bit: a second opinion on what the ledger computes.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0x82F6_3B78 * (crc & 1)))
    })
}

/// Numbers frames so that none seems to be missing.
fn renumbered(mut frames: Vec<Forged>) -> Vec<Forged> {
    let mut next = frames.first().map_or(0, |frame| frame.first);
    for frame in &mut frames {
        frame.first = next;
        next += frame.records.len() as u64;
    }
    frames
}

type Change = fn(&mut Vec<Forged>);
type IsRight = fn(&FrameFault) -> bool;

/// Changes the frames of one segment; says what verifier and opener think of it.
fn forged(segment: usize, change: Change) -> (WalkError, OpenError) {
    let disk = log(50, 8, 900);
    let path = segments(&disk)[segment].clone();
    let bytes = disk.bytes(&path).unwrap();
    let mut frames = Forged::all(&bytes);
    assert!(frames.len() > 2, "segment {segment} must have frames to play with, it has {}", frames.len());
    assert_eq!(frames.iter().flat_map(Forged::write).collect::<Vec<_>>(), bytes, "the forger must know the format");
    change(&mut frames);
    disk.plant(&path, &frames.iter().flat_map(Forged::write).collect::<Vec<_>>());
    let walked = walk(&store(&disk), None, |_, _| {}).unwrap_err();
    let opened = Ledger::open(&store(&disk), config(900), &mut |_| Ok(()));
    let opened = opened.map(|(ledger, recovered)| (ledger.close(), recovered)).unwrap_err();
    (walked, opened)
}

fn check_forged(what: &str, change: Change, is_right: IsRight) {
    let (walked, opened) = forged(0, change);
    assert!(matches!(&walked, WalkError::Frame { fault, .. } if is_right(fault)), "{what}: {walked}");
    assert!(matches!(&opened, OpenError::Corrupt { fault, .. } if is_right(fault)), "{what}: {opened}");
}

#[test]
fn records_and_frames_that_were_moved_are_found_though_the_checksums_are_right() {
    let root = |fault: &FrameFault| matches!(fault, FrameFault::Root { .. });
    let size = |fault: &FrameFault| matches!(fault, FrameFault::Size { .. });
    let index = |fault: &FrameFault| matches!(fault, FrameFault::Index { .. });
    let cases: [(&str, Change, IsRight); 13] = [
        ("a leaf is changed", |frames| frames[1].records[0].0[0] ^= 1, root),
        ("a record is removed", |frames| drop(frames[1].records.remove(3)), size),
        ("the first record is removed", |frames| drop(frames[0].records.remove(0)), size),
        ("two records are swapped", |frames| frames[1].records.swap(1, 2), root),
        (
            "a record is doubled",
            |frames| {
                let twin = frames[1].records[1].clone();
                frames[1].records.insert(2, twin);
            },
            size,
        ),
        ("a record takes the place of another", |frames| frames[1].records[2] = frames[1].records[1].clone(), root),
        ("a frame is removed", |frames| drop(frames.remove(1)), index),
        (
            "a frame is removed, the rest renumbered",
            |frames| {
                frames.remove(1);
                *frames = renumbered(frames.clone());
            },
            size,
        ),
        ("two frames are swapped", |frames| frames.swap(1, 2), index),
        (
            "two frames are swapped and renumbered",
            |frames| {
                frames.swap(1, 2);
                *frames = renumbered(frames.clone());
            },
            size,
        ),
        (
            "a frame is doubled",
            |frames| {
                let twin = frames[1].clone();
                frames.insert(1, twin);
            },
            index,
        ),
        (
            "a frame is doubled and renumbered",
            |frames| {
                frames.insert(1, frames[1].clone());
                *frames = renumbered(frames.clone());
            },
            size,
        ),
        ("a checkpoint is that of another frame", |frames| frames[1].note = frames[0].note.clone(), size),
    ];
    for (what, change, is_right) in cases {
        check_forged(what, change, is_right);
    }
}

#[test]
fn a_checkpoint_with_another_signature_is_found() {
    let change: Change = |frames| {
        let last = frames.last_mut().unwrap();
        // The first digit behind the key's id in the signature line.
        let at = last.note.len() - 20;
        let digit = if last.note.as_bytes()[at] == b'A' { "B" } else { "A" };
        last.note.replace_range(at..=at, digit);
    };
    let checkpoint = |fault: &FrameFault| matches!(fault, FrameFault::Checkpoint(_));
    check_forged("the signature of a segment's last frame", change, checkpoint);
    let (walked, _) = forged(1, change);
    assert!(matches!(&walked, WalkError::Frame { fault, .. } if checkpoint(fault)), "{walked}");
}

#[test]
fn a_cut_tail_is_a_rollback_or_damage_and_never_a_torn_write() {
    let good = small();
    let last = segments(&good).pop().unwrap();
    let bytes = good.bytes(&last).unwrap();
    let ends: Vec<usize> = Forged::all(&bytes).iter().map(|frame| frame.write().len()).collect();
    for cut in 0..bytes.len() {
        let disk = good.process_crash_image();
        disk.plant(&last, &bytes[..cut]);
        let boundary = (0..=ends.len()).any(|count| ends[..count].iter().sum::<usize>() == cut);
        let walked = walk(&store(&disk), None, |_, _| {}).unwrap_err();
        let opened = Ledger::open(&store(&disk), config(900), &mut |_| Ok(())).map(drop).unwrap_err();
        if boundary {
            assert!(matches!(walked, WalkError::Mark { .. }), "cut at {cut}: {walked}");
            assert!(matches!(opened, OpenError::Rollback { .. }), "cut at {cut}: {opened}");
        } else {
            assert!(matches!(walked, WalkError::Frame { .. }), "cut at {cut}: {walked}");
            assert!(matches!(opened, OpenError::Corrupt { .. }), "cut at {cut}: {opened}");
        }
        assert_eq!(disk.bytes(&last).unwrap().len(), cut, "nothing more is cut");
    }
    let disk = good.process_crash_image();
    disk.snatch(&last);
    assert!(matches!(walk(&store(&disk), None, |_, _| {}), Err(WalkError::Mark { .. })));
    assert!(matches!(
        Ledger::open(&store(&disk), config(900), &mut |_| Ok(())).map(drop),
        Err(OpenError::Rollback { .. })
    ));
    let disk = good.process_crash_image();
    disk.snatch(&segments(&disk)[1]);
    assert!(matches!(walk(&store(&disk), None, |_, _| {}), Err(WalkError::Frame { .. })));
    assert!(matches!(
        Ledger::open(&store(&disk), config(900), &mut |_| Ok(())).map(drop),
        Err(OpenError::Corrupt { .. })
    ));
}

/// Puts files of `old` that `which` takes in place of the newer ones.
fn restored(old: &FakeDisk, new: &FakeDisk, which: fn(&str) -> bool) -> FakeDisk {
    let disk = new.process_crash_image();
    let taken = |path: &PathBuf| which(path.strip_prefix(DIR).unwrap().to_str().unwrap());
    disk.paths().iter().filter(|path| taken(path)).for_each(|path| disk.snatch(path));
    for path in old.paths().iter().filter(|path| taken(path)) {
        disk.plant(path, &old.bytes(path).unwrap());
    }
    disk
}

#[test]
fn an_older_copy_is_refused_by_whatever_is_newer() {
    let old = small();
    let new = old.process_crash_image();
    more(&new, 50..70, 8, 900);
    let open =
        |disk: &FakeDisk| Ledger::open(&store(disk), config(900), &mut |_| Ok(())).map(|(ledger, _)| ledger.close());
    let check = |disk: &FakeDisk, knows: &str| {
        match open(disk) {
            Err(OpenError::Rollback { found: 50, witness, seen: 70 }) => assert_eq!(witness, knows),
            other => panic!("{knows}: {other:?}"),
        }
        assert!(walk(&store(disk), None, |_, _| {}).is_err(), "{knows}");
    };
    check(&restored(&old, &new, |name| name.starts_with("segments/")), "the confirmed mark");
    check(&restored(&old, &new, |name| !name.starts_with("public/")), "the published checkpoint");
    // Everything old: nothing on this disk knows better. A checkpoint kept elsewhere does.
    let whole = restored(&old, &new, |_| true);
    walk(&store(&whole), None, |_, _| {}).unwrap();
    let kept = new.bytes(&path("public/checkpoint")).unwrap();
    whole.plant(&path("public/checkpoint"), &kept);
    assert!(matches!(walk(&store(&whole), None, |_, _| {}), Err(WalkError::Fork { seen: 70, found: 50, .. })));
    check(&whole, "the published checkpoint");
}
