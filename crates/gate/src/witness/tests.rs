//! One ledger, witnesses in the same process, and couriers that misbehave.

use std::sync::atomic::{AtomicUsize, Ordering};

use countersign_ledger::witness::{Unanswered, Witness};
use countersign_ledger::{Config, Entry, Store};
use countersign_receipt::VerifierKey;
use countersign_receipt::witness::LogKey;
use tempfile::TempDir;

use super::*;

/// A witness behind a courier that can be out of order.
struct Near {
    witness: Witness,
    asked: AtomicUsize,
    down: std::sync::atomic::AtomicBool,
}

impl Courier for Near {
    fn add_checkpoint(&self, body: String) -> Replied<'_> {
        Box::pin(async move {
            self.asked.fetch_add(1, Ordering::SeqCst);
            if self.down.load(Ordering::SeqCst) {
                return Err("it is down".to_owned());
            }
            Ok(match self.witness.add_checkpoint(body.as_bytes(), 1_800_000_000) {
                Ok(line) => Reply { status: 200, media_type: None, body: line.into_bytes() },
                Err(Unanswered::Refused(refusal)) => Reply {
                    status: refusal.status(),
                    media_type: refusal.known_size().map(|_| SIZE_MEDIA_TYPE.to_owned()),
                    body: refusal.known_size().map_or_else(Vec::new, |size| format!("{size}\n").into_bytes()),
                },
                Err(Unanswered::Unkept(error)) => return Err(error),
            })
        })
    }
}

/// Answers always the same.
struct Says(Reply);

impl Courier for Says {
    fn add_checkpoint(&self, _: String) -> Replied<'_> {
        let reply = self.0.clone();
        Box::pin(async move { Ok(reply) })
    }
}

struct Rig {
    folder: TempDir,
    near: Arc<Near>,
}

impl Rig {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::real(folder.path().join("ledger"));
        let key = Ledger::create(&store, "example.com/log").unwrap();
        let near = Self::witness(&folder, "w1", key);
        Self { folder, near }
    }

    fn witness(folder: &TempDir, name: &str, key: VerifierKey) -> Arc<Near> {
        let witness =
            Witness::open(&Store::real(folder.path().join(name)), name, None, vec![LogKey::new(key)]).unwrap();
        Arc::new(Near { witness, asked: AtomicUsize::new(0), down: false.into() })
    }

    fn ledger(&self, of: &str) -> Ledger {
        Ledger::open(&Store::real(self.folder.path().join(of)), Config::default(), &mut |_| Ok(())).unwrap().0
    }

    fn port(&self) -> WitnessPort {
        let courier = Arc::clone(&self.near);
        WitnessPort { name: "w1".to_owned(), key: courier.witness.key().clone(), courier }
    }

    /// A second installation with the same key, as a backup that was put to use.
    fn copy(&self) {
        copied(&self.folder.path().join("ledger"), &self.folder.path().join("copy"));
    }
}

fn copied(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let (entry, is_dir) = entry.map(|e| (e.path(), e.file_type().unwrap().is_dir())).unwrap();
        let to = to.join(entry.file_name().unwrap());
        if is_dir {
            copied(&entry, &to);
        } else {
            std::fs::copy(&entry, to).unwrap();
        }
    }
}

fn add(ledger: &Ledger, leaf: &str) {
    ledger.append(Entry::new(leaf.as_bytes().to_vec())).wait().unwrap();
}

fn ports(port: WitnessPort, timeout_ms: u64) -> Witnessing {
    Witnessing { ports: vec![port], timeout_ms }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// What a fresh start makes of this witness.
fn check(ledger: &Ledger, port: WitnessPort) -> Result<Vec<Standing>, Trouble> {
    let runtime = runtime();
    let _inside = runtime.enter();
    let witnesses = Witnesses::new(ports(port, 0), ledger);
    match witnesses.check(ledger) {
        Ok(()) => Ok(witnesses.standings()),
        Err(GateError::Witness { trouble, .. }) => Err(trouble),
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn the_start_finds_where_the_witness_stands() {
    let rig = Rig::new();
    let ledger = rig.ledger("ledger");
    for size in [1_u64, 5] {
        while ledger.head().size < size {
            add(&ledger, "x");
        }
        let standing = check(&ledger, rig.port()).unwrap();
        assert_eq!(standing, [Standing { name: "w1".to_owned(), cosigned: size, trouble: None }]);
        // The proof of any covered record carries the cosignature.
        let proof = ledger.prove_cosigned(size - 1).unwrap().unwrap();
        proof.cosigned_by(rig.near.witness.key()).unwrap();
        proof.verify(b"x", &ledger.verifier_key()).unwrap();
        assert_eq!(ledger.prove_cosigned(size).unwrap(), None);
    }
    ledger.close().unwrap();
    // What was cosigned is published, and known again after a restart.
    let published = std::fs::read_to_string(rig.folder.path().join("ledger/public/checkpoint")).unwrap();
    assert_eq!(
        published,
        std::fs::read_to_string(rig.folder.path().join("ledger/public/checkpoint.witnessed")).unwrap()
    );
    rig.near.witness.key().verify(&Note::parse(&published).unwrap()).unwrap();
    let again = rig.ledger("ledger");
    assert_eq!(again.cosigned().unwrap().head.size, 5);
    again.close().unwrap();
}

#[test]
fn a_rollback_and_a_split_view_are_named() {
    let rig = Rig::new();
    let ledger = rig.ledger("ledger");
    add(&ledger, "one");
    ledger.close().unwrap();
    rig.copy();
    let ledger = rig.ledger("ledger");
    add(&ledger, "two");
    add(&ledger, "three");
    check(&ledger, rig.port()).unwrap();
    ledger.close().unwrap();
    let copy = rig.ledger("copy");
    assert_eq!(check(&copy, rig.port()).unwrap_err(), Trouble::Rollback { seen: 3, found: 1 });
    add(&copy, "2");
    add(&copy, "3");
    assert_eq!(check(&copy, rig.port()).unwrap_err(), Trouble::SplitView { size: 3 });
    add(&copy, "4");
    assert_eq!(check(&copy, rig.port()).unwrap_err(), Trouble::SplitView { size: 3 });
    copy.close().unwrap();
}

#[test]
fn a_witness_that_is_down_or_talks_nonsense_delays_only() {
    let rig = Rig::new();
    let ledger = rig.ledger("ledger");
    add(&ledger, "one");
    rig.near.down.store(true, Ordering::SeqCst);
    let trouble = |port| check(&ledger, port).unwrap()[0].trouble.clone().unwrap().to_string();
    assert_eq!(trouble(rig.port()), "it is down");
    let says = |status: u16, media: Option<&str>, body: &str| {
        let reply = Reply { status, media_type: media.map(str::to_owned), body: body.as_bytes().to_vec() };
        WitnessPort { courier: Arc::new(Says(reply)), ..rig.port() }
    };
    assert!(trouble(says(200, None, "")).contains("its answer is no cosignature"));
    let stolen = rig.near.witness.key().line(1, &[7; 64]);
    assert!(trouble(says(200, None, &stolen)).contains("signature of `w1` is wrong"));
    assert!(trouble(says(404, None, "")).contains("add the log's verifier key"));
    assert!(trouble(says(409, None, "7\n")).contains("without a size"));
    assert!(trouble(says(500, None, "")).contains("HTTP status 500"));
    assert_eq!(ledger.cosigned(), None, "nothing of this was a cosignature");
    ledger.close().unwrap();
}

#[test]
fn who_waits_is_served_at_once_and_who_waits_in_vain_is_told_why() {
    let rig = Rig::new();
    let runtime = runtime();
    runtime.block_on(async {
        let ledger = rig.ledger("ledger");
        let witnesses = Arc::new(Witnesses::new(ports(rig.port(), 30_000), &ledger));
        witnesses.start(&ledger);
        for leaf in 0..5 {
            ledger.append(Entry::new(b"x".to_vec())).await.unwrap();
            witnesses.witnessed(leaf).await.unwrap();
            assert!(ledger.cosigned().unwrap().head.size > leaf);
        }
        witnesses.stop();
        rig.near.down.store(true, Ordering::SeqCst);
        ledger.append(Entry::new(b"y".to_vec())).await.unwrap();
        let hasty = Arc::new(Witnesses::new(ports(rig.port(), 300), &ledger));
        hasty.start(&ledger);
        let why = hasty.witnessed(5).await.unwrap_err();
        let expected = Reason::because(ReasonCode::WitnessUnavailable, "not cosigned within 300 ms: w1: it is down");
        assert_eq!(why, expected);
        // What was cosigned before still counts, and the witness comes back by itself.
        hasty.witnessed(4).await.unwrap();
        rig.near.down.store(false, Ordering::SeqCst);
        let patient = Arc::new(Witnesses::new(ports(rig.port(), 30_000), &ledger));
        patient.start(&ledger);
        patient.witnessed(5).await.unwrap();
        hasty.stop();
        patient.stop();
        let nobody = Witnesses::new(Witnessing::default(), &ledger);
        assert_eq!(nobody.witnessed(0).await.unwrap_err().detail.unwrap(), "no witness is configured");
        ledger.close().unwrap();
    });
}

/// Two witnesses, of which one was begun anew and knows only the log that was set back.
#[test]
fn one_witness_that_has_seen_another_log_outweighs_one_that_has_not() {
    let rig = Rig::new();
    let ledger = rig.ledger("ledger");
    add(&ledger, "one");
    ledger.close().unwrap();
    rig.copy();
    let ledger = rig.ledger("ledger");
    add(&ledger, "two");
    check(&ledger, rig.port()).unwrap();
    let anew = Rig::witness(&rig.folder, "w2", ledger.verifier_key());
    ledger.close().unwrap();
    let copy = rig.ledger("copy");
    rig.near.down.store(true, Ordering::SeqCst);
    let other = WitnessPort { name: "w2".to_owned(), key: anew.witness.key().clone(), courier: Arc::clone(&anew) as _ };
    let witnesses = Witnessing { ports: vec![rig.port(), other], timeout_ms: 30_000 };
    let witnesses = Arc::new(Witnesses::new(witnesses, &copy));
    let runtime = runtime();
    let inside = runtime.enter();
    witnesses.check(&copy).unwrap();
    drop(inside);
    runtime.block_on(async {
        witnesses.start(&copy);
        witnesses.witnessed(0).await.unwrap();
        assert_eq!(witnesses.admit(), Ok(()));
        // It comes back while a call waits for a record that neither has seen.
        let waits = tokio::spawn({
            let witnesses = Arc::clone(&witnesses);
            async move { witnesses.witnessed(1_000_000).await }
        });
        rig.near.down.store(false, Ordering::SeqCst);
        let reason = waits.await.unwrap().unwrap_err();
        assert_eq!(reason.code, ReasonCode::LogContradicted);
        let said = "witness `w1`: rollback: it has seen `2` records of this log, which has only `1`";
        assert_eq!(witnesses.contradiction().unwrap(), said);
        assert_eq!(witnesses.admit(), Err(reason.clone()));
        assert_eq!(witnesses.witnessed(0).await, Err(reason), "what the other cosigned is worth nothing any more");
        // Nobody is asked to vouch for this log from now on.
        copy.append(Entry::new(b"2".to_vec())).await.unwrap();
        let asked = anew.asked.load(Ordering::SeqCst);
        let late = witnesses.witnessed(1).await;
        assert!(late.is_err());
        tokio::time::sleep(LAZY * 2).await;
        assert_eq!(anew.asked.load(Ordering::SeqCst), asked);
        witnesses.stop();
    });
    copy.close().unwrap();
}

#[test]
fn a_witness_that_forgot_proves_nothing() {
    let rig = Rig::new();
    let ledger = rig.ledger("ledger");
    add(&ledger, "one");
    check(&ledger, rig.port()).unwrap();
    // A witness with the same key and nothing in its memory.
    let reply = Reply { status: 409, media_type: Some(SIZE_MEDIA_TYPE.to_owned()), body: b"0\n".to_vec() };
    let port = WitnessPort { courier: Arc::new(Says(reply)), ..rig.port() };
    let standing = check(&ledger, port).unwrap();
    assert_eq!(standing[0].trouble, Some(Trouble::Forgot { cosigned: 1, knows: 0 }));
    ledger.close().unwrap();
}
