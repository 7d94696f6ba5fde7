//! A witness on a real disk: one history for each log, kept over restarts, and its own state guarded.

use countersign_receipt::merkle::Frontier;
use countersign_receipt::witness::submission;
use ed25519_dalek::{Signer as _, SigningKey};

use super::*;

const NOW: u64 = 1_800_000_000;

fn log_key() -> (SigningKey, VerifierKey) {
    key_of(5)
}

fn key_of(seed: u8) -> (SigningKey, VerifierKey) {
    let signing = SigningKey::from_bytes(&[seed; 32]);
    let key = VerifierKey::new("example.com/log", signing.verifying_key().as_bytes()).unwrap();
    (signing, key)
}

/// A signed checkpoint of `size` leaves that all say `seed`.
fn note(seed: &str, size: u64) -> String {
    note_by(seed, size, 5)
}

fn note_by(seed: &str, size: u64, by: u8) -> String {
    let (signing, key) = key_of(by);
    let mut frontier = Frontier::new();
    (0..size).for_each(|_| frontier.push(countersign_receipt::merkle::leaf_hash(seed.as_bytes())));
    let body = Checkpoint { origin: key.name().to_owned(), size, root: frontier.root() }.signed_body();
    Note::render(&body, &key, &signing.sign(body.as_bytes()).to_bytes())
}

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn open(&self) -> Result<Witness, WitnessError> {
        self.open_for(&[5])
    }

    fn open_for(&self, keys: &[u8]) -> Result<Witness, WitnessError> {
        let logs = keys.iter().map(|seed| LogKey::new(key_of(*seed).1)).collect();
        Witness::open(&Store::real(self.0.path().join("w")), "example.com/w1", None, logs)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join("w").join(name)
    }

    /// The one file of a folder.
    fn only(&self, folder: &str) -> PathBuf {
        let mut entries = std::fs::read_dir(self.path(folder)).unwrap();
        let first = entries.next().unwrap().unwrap().path();
        assert!(entries.next().is_none());
        first
    }
}

fn refusal(witness: &Witness, body: &str) -> Refusal {
    match witness.add_checkpoint(body.as_bytes(), NOW) {
        Err(Unanswered::Refused(refusal)) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn what_it_cosigns_verifies_and_survives_a_restart() {
    let place = Place::new();
    let witness = place.open().unwrap();
    let (first, key) = (note("a", 1), witness.key().clone());
    let line = witness.add_checkpoint(submission(0, &[], &first).as_bytes(), NOW).unwrap();
    let both = Note::parse(&format!("{first}{line}")).unwrap();
    assert_eq!(key.verify(&both).unwrap().time_s, NOW);
    both.verify(&log_key().1).unwrap();
    assert_eq!(witness.logs(), [("example.com/log".to_owned(), 1)]);
    drop(witness);
    let again = place.open().unwrap();
    assert_eq!(*again.key(), key);
    // Another history of the same size, and one that begins anew.
    assert_eq!(refusal(&again, &submission(1, &[], &note("b", 1))).status(), 409);
    assert_eq!(refusal(&again, &submission(0, &[], &note("b", 5))).known_size(), Some(1));
    // A clock that was set back says nothing older.
    let line = again.add_checkpoint(submission(1, &[], &first).as_bytes(), NOW - 500).unwrap();
    assert_eq!(key.verify(&Note::parse(&format!("{first}{line}")).unwrap()).unwrap().time_s, NOW);
}

/// The proof from one leaf to two of the same seed.
fn grown(seed: &str) -> Vec<Hash> {
    vec![countersign_receipt::merkle::leaf_hash(seed.as_bytes())]
}

#[test]
fn a_key_that_was_followed_by_another_stays_retired_over_restarts() {
    let place = Place::new();
    let witness = place.open_for(&[5, 6]).unwrap();
    assert_eq!(witness.logs(), [("example.com/log".to_owned(), 0)], "two keys are one log");
    witness.add_checkpoint(submission(0, &[], &note_by("a", 1, 6)).as_bytes(), NOW).unwrap();
    let stolen = submission(1, &grown("a"), &note_by("a", 2, 5));
    assert!(matches!(refusal(&witness, &stolen), Refusal::NotInForce { size: 2, .. }));
    drop(witness);
    let witness = place.open_for(&[5, 6]).unwrap();
    assert_eq!(refusal(&witness, &stolen).status(), 403);
    drop(witness);
    // Without the newest key nobody could tell that the other is older.
    assert!(matches!(place.open_for(&[5]), Err(WitnessError::Signer { .. })));
    assert!(matches!(place.open_for(&[5, 6, 5]), Err(WitnessError::Twice { .. })));
    // The state of a log that is not watched any more is nobody's harm, and its mark is still looked at.
    drop(place.open_for(&[]).unwrap());
    let witness = place.open_for(&[5, 6]).unwrap();
    witness.add_checkpoint(submission(1, &grown("a"), &note_by("a", 2, 6)).as_bytes(), NOW).unwrap();
}

#[test]
fn a_second_root_is_kept_as_evidence() {
    let place = Place::new();
    let witness = place.open().unwrap();
    witness.add_checkpoint(submission(0, &[], &note("a", 3)).as_bytes(), NOW).unwrap();
    let forged = note("b", 3).replace("example.com/log\n3", "example.com/log\n4");
    assert_eq!(refusal(&witness, &submission(3, &[], &forged)).status(), 403);
    assert!(!place.path("evidence").exists(), "an unsigned checkpoint convicts nobody");
    for _ in 0..20 {
        assert!(refusal(&witness, &submission(3, &[], &note("b", 3))).is_misbehaviour());
    }
    let kept: Vec<_> = std::fs::read_dir(place.path("evidence")).unwrap().map(|file| file.unwrap().path()).collect();
    assert_eq!(kept.len(), EVIDENCE_MAX);
    for path in kept {
        let evidence = Evidence::parse(&std::fs::read_to_string(path).unwrap()).unwrap();
        assert_eq!(evidence.verify().unwrap(), Misbehaviour::SplitView);
    }
}

#[test]
fn its_own_state_cannot_be_set_back_or_altered_unseen() {
    let place = Place::new();
    let witness = place.open().unwrap();
    witness.add_checkpoint(submission(0, &[], &note("a", 1)).as_bytes(), NOW).unwrap();
    let older = std::fs::read(place.only("state")).unwrap();
    let newer = note("a", 1);
    drop(witness);
    // One byte of the root.
    let state = place.only("state");
    std::fs::write(
        &state,
        String::from_utf8(older.clone()).unwrap().replacen("example.com/log\n1", "example.com/log\n2", 1),
    )
    .unwrap();
    assert!(matches!(place.open(), Err(WitnessError::Altered { .. })));
    // A checkpoint that the log signed and this witness did not.
    std::fs::write(&state, newer).unwrap();
    assert!(matches!(place.open(), Err(WitnessError::Altered { .. })));
    std::fs::remove_file(&state).unwrap();
    assert!(matches!(place.open(), Err(WitnessError::Rollback { seen: 1, found: 0, .. })));
    std::fs::write(&state, &older).unwrap();
    let witness = place.open().unwrap();
    let path = {
        let mut frontier = Frontier::new();
        frontier.push(countersign_receipt::merkle::leaf_hash(b"a"));
        vec![frontier.root()]
    };
    witness.add_checkpoint(submission(1, &path, &note("a", 2)).as_bytes(), NOW).unwrap();
    drop(witness);
    std::fs::write(&state, &older).unwrap();
    assert!(matches!(place.open(), Err(WitnessError::Rollback { seen: 2, found: 1, .. })));
}

#[test]
fn a_key_is_never_replaced_and_a_name_never_changed() {
    let place = Place::new();
    let witness = place.open().unwrap();
    assert!(matches!(place.open(), Err(WitnessError::InUse { .. })));
    witness.add_checkpoint(submission(0, &[], &note("a", 1)).as_bytes(), NOW).unwrap();
    drop(witness);
    let renamed = Witness::open(&Store::real(place.path("")), "example.com/w2", None, vec![]);
    assert!(matches!(renamed, Err(WitnessError::Key { .. })));
    std::fs::remove_file(place.path("witness.key")).unwrap();
    assert!(matches!(place.open(), Err(WitnessError::Key { .. })));
}

/// Submissions at once, half of them of another history: one history is cosigned.
#[test]
fn a_race_does_not_make_two_histories() {
    let place = Place::new();
    let witness = place.open().unwrap();
    let cosigned = std::thread::scope(|scope| {
        let tries: Vec<_> = (0..8)
            .map(|thread| {
                let witness = &witness;
                scope.spawn(move || {
                    let seed = if thread % 2 == 0 { "a" } else { "b" };
                    let body = submission(0, &[], &note(seed, 1));
                    witness.add_checkpoint(body.as_bytes(), NOW).is_ok().then_some(seed)
                })
            })
            .collect();
        tries.into_iter().filter_map(|one| one.join().unwrap()).collect::<std::collections::BTreeSet<_>>()
    });
    assert_eq!(cosigned.len(), 1);
}
