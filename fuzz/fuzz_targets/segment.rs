//! A segment file of any bytes, beside a valid key: start-up does not panic, and takes up no tree that the key did not
//! sign. The first byte chooses: bit 0 whether the mark knows of the honest log or of an empty one, bit 1 whether the
//! checksums of what looks like frames are mended, so that what lies behind them is reached.
#![no_main]

use std::sync::Arc;

use countersign_ledger::disk::{Access, Mode};
use countersign_ledger::{Config, Disk, Entry, Ledger, LocalSigner, PrivateKeys, PublishMode, SignError, Store, verify};
use countersign_receipt::merkle::TreeHead;
use countersign_receipt::VerifierKey;
use countersign_testkit::disk::FakeDisk;
use ed25519_dalek::{Signer as _, SigningKey};
use libfuzzer_sys::fuzz_target;

/// The records of the honest log, a frame each.
const RECORDS: u64 = 5;
const CRC_BYTES: usize = 4;

/// Keys that are the same in every process, so that a corpus keeps its worth.
struct Fixed(SigningKey, VerifierKey);

impl Fixed {
    fn new() -> Self {
        let signing = SigningKey::from_bytes(&[9; 32]);
        let key = VerifierKey::new("log", signing.verifying_key().as_bytes()).expect("a key");
        Self(signing, key)
    }
}

impl PrivateKeys for Fixed {
    fn verifier_key(&self) -> VerifierKey {
        self.1.clone()
    }

    fn sign(&self, message: &[u8]) -> Result<[u8; 64], SignError> {
        Ok(self.0.sign(message).to_bytes())
    }

    fn next(&self) -> Result<VerifierKey, SignError> {
        Err(SignError::Unavailable("there is one key".to_owned()))
    }

    fn promote(&self, _: &VerifierKey) -> Result<(), SignError> {
        Err(SignError::Unavailable("there is one key".to_owned()))
    }

    fn forget_next(&self) -> Result<(), SignError> {
        Ok(())
    }
}

struct World {
    /// The disk of an empty log, and of the honest one.
    disks: [FakeDisk; 2],
    /// Every tree that was signed.
    heads: Vec<TreeHead>,
}

impl World {
    fn new() -> Self {
        let disk = FakeDisk::new();
        let store = Store::new(Arc::new(disk.clone()), "/ledger");
        Ledger::create(&store, "log").expect("a ledger");
        let key = format!("{}\n", Fixed::new().1);
        disk.plant(std::path::Path::new("/ledger/log.vkey"), key.as_bytes());
        let empty = disk.process_crash_image();
        let ledger = open(&store).expect("it opens");
        let mut heads = vec![ledger.head()];
        for number in 0..RECORDS {
            ledger.append(Entry::with_payload(format!("leaf {number}"), vec![5; 20])).wait().expect("a record");
            heads.push(ledger.head());
        }
        ledger.close().expect("it closes");
        Self { disks: [empty, disk], heads }
    }
}

fn open(store: &Store) -> Option<Ledger> {
    let config = Config { publish: PublishMode::Inline, idle_sync: None, chunk_bytes: 256, ..Config::default() };
    Ledger::open_with(store, config, Arc::new(LocalSigner::new(Box::new(Fixed::new()))), &mut |_| Ok(())).ok().map(|(ledger, _)| ledger)
}

/// Gives every stretch that looks like a frame the checksum of its bytes.
fn mend(bytes: &mut [u8]) {
    let mut rest = bytes;
    while rest.len() >= 40 && rest.starts_with(b"CSF1") {
        let length = u32::from_le_bytes([rest[4], rest[5], rest[6], rest[7]]) as usize;
        if length < 40 || length > rest.len() {
            return;
        }
        let (frame, after) = rest.split_at_mut(length);
        let (body, crc) = frame.split_at_mut(length - CRC_BYTES);
        crc.copy_from_slice(&crc32c::crc32c(body).to_le_bytes());
        rest = after;
    }
}

thread_local! {
    static WORLD: World = World::new();
}

fuzz_target!(|bytes: &[u8]| {
    let Some((choice, segment)) = bytes.split_first() else { return };
    let mut segment = segment.to_vec();
    if choice & 2 != 0 {
        mend(&mut segment);
    }
    WORLD.with(|world| {
        let disk = world.disks[usize::from(choice & 1)].process_crash_image();
        let store = Store::new(Arc::new(disk.clone()), "/ledger");
        let path = std::path::Path::new("/ledger/segments/00000000000000000000.seg");
        let file = disk.open(path, Mode::Replace(Access::Private)).expect("a file");
        file.write_at(0, &segment).expect("room");
        if let Ok(report) = verify::walk(&store, Some(&Fixed::new().1), |_, _| ()) {
            assert!(world.heads.contains(&report.head), "{report:?}");
        }
        if let Some(ledger) = open(&store) {
            assert!(world.heads.contains(&ledger.head()), "{:?}", ledger.head());
            ledger.close().expect("what was opened can be closed");
        }
    });
});
