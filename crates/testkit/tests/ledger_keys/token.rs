//! The same changes with keys in a real token, SoftHSM: what a crash leaves on the disk and in the token, tokens that go
//! away, and what is refused.

use std::path::PathBuf;

use countersign_ledger::{PrivateKeys as _, SignError, TokenKeys, TokenPlace};
use countersign_receipt::VerifierKey;
use countersign_testkit::softhsm::{PIN, SoftHsm, TOKEN, apart};
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeInfo, AttributeType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::types::AuthPin;

use super::*;

fn place(hsm: &SoftHsm, label: &str) -> TokenPlace {
    let (module, pin_file) = (hsm.module().to_path_buf(), hsm.pin_file());
    TokenPlace { module, token: TOKEN.to_owned(), key: label.to_owned(), pin_file }
}

fn load(hsm: &SoftHsm, disk: &FakeDisk, label: &str) -> Result<TokenKeys, String> {
    TokenKeys::load(&signer_store(disk), place(hsm, label)).map_err(|error| error.to_string())
}

/// A signer whose first key in the token is in force.
fn moved(hsm: &SoftHsm, label: &str) -> (FakeDisk, TokenKeys) {
    let (_, signer) = separated();
    let keys = load(hsm, &signer, label).unwrap();
    let next = keys.next().unwrap();
    keys.promote(&next).unwrap();
    assert!(keys.is_in_token());
    (signer, keys)
}

fn signs(keys: &TokenKeys) -> bool {
    keys.sign(b"text").is_ok_and(|signature| keys.verifier_key().accepts("text", &signature))
}

fn notes(disk: &FakeDisk) -> String {
    String::from_utf8(disk.bytes(Path::new("/signer/token.keys")).unwrap()).unwrap()
}

/// Notes that say this.
fn noted(disk: &FakeDisk, lines: &str) {
    disk.plant(Path::new("/signer/token.keys"), format!("countersign keys in a token, 1\n{lines}").as_bytes());
}

/// Somebody else in the same token.
struct Stranger(Session);

impl Stranger {
    fn new(hsm: &SoftHsm) -> Self {
        let module = Pkcs11::new(hsm.module()).unwrap();
        let _ = module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK));
        let labelled = |slot: &_| module.get_token_info(*slot).unwrap().label() == TOKEN;
        let slot = module.get_slots_with_initialized_token().unwrap().into_iter().find(labelled).unwrap();
        let session = module.open_rw_session(slot).unwrap();
        let _ = session.login(UserType::User, Some(&AuthPin::from(PIN)));
        Self(session)
    }

    fn objects(&self, label: &str, class: ObjectClass) -> Vec<ObjectHandle> {
        self.0.find_objects(&[Attribute::Class(class), Attribute::Label(label.as_bytes().to_vec())]).unwrap()
    }

    /// Private and public keys with this label.
    fn count(&self, label: &str) -> (usize, usize) {
        let count = |class| self.objects(label, class).len();
        (count(ObjectClass::PRIVATE_KEY), count(ObjectClass::PUBLIC_KEY))
    }

    /// Destroys all of them: a full token is a slow one.
    fn clear(&self, label: &str) {
        for class in [ObjectClass::PRIVATE_KEY, ObjectClass::PUBLIC_KEY] {
            self.objects(label, class).into_iter().for_each(|key| self.0.destroy_object(key).unwrap());
        }
    }

    fn id(&self, object: ObjectHandle) -> Attribute {
        self.0.get_attributes(object, &[AttributeType::Id]).unwrap().remove(0)
    }

    fn generate(&self, label: &str, id: Attribute, (sensitive, extractable): (bool, bool)) -> VerifierKey {
        let common = [Attribute::Token(true), Attribute::Label(label.as_bytes().to_vec()), id];
        let curve = Attribute::EcParams(b"\x06\x03\x2b\x65\x70".to_vec());
        let public = [&common[..], &[curve, Attribute::Verify(true)]].concat();
        let secrecy = [
            Attribute::Private(true),
            Attribute::Sign(true),
            Attribute::Extractable(extractable),
            Attribute::Sensitive(sensitive),
        ];
        let private = [&common[..], &secrecy].concat();
        let (made, _) = self.0.generate_key_pair(&Mechanism::EccEdwardsKeyPairGen, &public, &private).unwrap();
        let told = self.0.get_attributes(made, &[AttributeType::EcPoint]).unwrap();
        let [Attribute::EcPoint(point)] = told.as_slice() else { panic!("{told:?}") };
        VerifierKey::new("example.com/log", point.last_chunk::<32>().unwrap()).unwrap()
    }
}

#[test]
fn a_log_moves_into_a_token_and_verifies() {
    apart("token::a_log_moves_into_a_token_and_verifies", |hsm| {
        let dir = tempfile::tempdir().unwrap();
        let (ledger, signer) = separated();
        let first = load_verifier(&signer_store(&signer)).unwrap();
        let der = signer.bytes(Path::new("/signer/log.key")).unwrap();
        let keys = load(hsm, &signer, "log").unwrap();
        assert!(!keys.is_in_token());
        assert_eq!(keys.verifier_key(), first);
        let socket = dir.path().join("socket");
        assert!(serve_with(&signer, &socket, Box::new(keys)));
        let acked = served_workload(&ledger, &socket);
        assert_eq!(acked.len(), 6);
        assert_eq!(signer.holding(&der), Vec::<PathBuf>::new());
        assert!(signer.bytes(Path::new("/signer/log.key")).is_none());
        let signer = signer.process_crash_image();
        let keys = load(hsm, &signer, "log").unwrap();
        assert!(keys.is_in_token() && signs(&keys));
        // The second change has destroyed what the first one made.
        assert_eq!(Stranger::new(hsm).count("log"), (1, 1));
        let socket = dir.path().join("again");
        assert!(serve_with(&signer, &socket, Box::new(keys)));
        check(&ledger.process_crash_image(), Some(&socket), &acked, "in a token");
        // The list of keys leads to the one in the token, and says enough to write the notes anew.
        drop(load(hsm, &signer, "log").unwrap());
        let newest = notes(&signer).lines().find_map(|line| line.strip_prefix("in-force ").map(str::to_owned)).unwrap();
        noted(&signer, &format!("in-force {newest}\n"));
        assert!(signs(&load(hsm, &signer, "log").unwrap()));
    });
}

#[test]
fn a_signer_that_dies_at_every_step_finds_its_keys_again() {
    apart("token::a_signer_that_dies_at_every_step_finds_its_keys_again", |hsm| {
        let dir = tempfile::tempdir().unwrap();
        let run = |label: &str, fault: Option<(u64, Fault)>| {
            let (ledger, signer) = separated();
            if let Some((step, fault)) = fault {
                signer.fault_at(step, fault);
            }
            let socket = dir.path().join(label);
            let served = load(hsm, &signer, label).is_ok_and(|keys| serve_with(&signer, &socket, Box::new(keys)));
            let acked = if served { served_workload(&ledger, &socket) } else { Vec::new() };
            (ledger, signer, acked)
        };
        let begin = separated().1.ops();
        let (_, signer, acked) = run("whole", None);
        assert_eq!(acked.len(), 6);
        let steps = signer.ops();
        assert!(steps > begin + 20, "{begin} to {steps}");
        for step in begin..steps {
            for fault in [Fault::Crash, Fault::CrashDuring] {
                let label = format!("{step}-{fault:?}");
                let what = format!("{fault:?} of the signer at {step} of {steps}");
                let (ledger, signer, acked) = run(&label, Some((step, fault)));
                let image = if step % 2 == 0 { signer.crash_image(step) } else { signer.process_crash_image() };
                let socket = dir.path().join(format!("{label}-again"));
                let keys = load(hsm, &image, &label).unwrap_or_else(|error| panic!("{what}: {error}"));
                assert!(serve_with(&image, &socket, Box::new(keys)), "{what}: the signer does not start");
                check(&ledger.process_crash_image(), Some(&socket), &acked, &what);
                // `check` changed the key: one is in force, and no other is left over.
                let stranger = Stranger::new(hsm);
                assert_eq!(stranger.count(&label), (1, 1), "{what}");
                stranger.clear(&label);
            }
        }
    });
}

#[test]
fn what_a_crash_leaves_within_the_token_is_cleared() {
    apart("token::what_a_crash_leaves_within_the_token_is_cleared", |hsm| {
        let stranger = Stranger::new(hsm);
        // Half of the next key: made anew.
        for (label, class) in [("no-private", ObjectClass::PRIVATE_KEY), ("no-public", ObjectClass::PUBLIC_KEY)] {
            let (signer, keys) = moved(hsm, label);
            let before = stranger.objects(label, class);
            let next = keys.next().unwrap();
            assert_eq!(keys.next().unwrap(), next);
            let lost = stranger.objects(label, class).into_iter().find(|object| !before.contains(object)).unwrap();
            stranger.0.destroy_object(lost).unwrap();
            let keys = load(hsm, &signer.process_crash_image(), label).unwrap();
            assert!(keys.promote(&next).is_err(), "half a key was put in force");
            let again = keys.next().unwrap();
            assert_ne!(again, next);
            assert_eq!(stranger.count(label), (2, 2));
            keys.promote(&again).unwrap();
            assert!(signs(&keys));
            assert_eq!(stranger.count(label), (1, 1));
        }
        // Noted and not made.
        let (signer, keys) = moved(hsm, "noted");
        noted(&signer, &format!("in-force {}\nnext 00112233445566778899aabbccddeeff\n", keys.verifier_key()));
        let keys = load(hsm, &signer, "noted").unwrap();
        keys.promote(&keys.next().unwrap()).unwrap();
        assert!(signs(&keys));
        // In force, and the old one not destroyed, wholly or by half.
        for half in [false, true] {
            let label = format!("old-{half}");
            let (signer, keys) = moved(hsm, &label);
            let old = keys.verifier_key();
            let first = stranger.objects(&label, ObjectClass::PRIVATE_KEY);
            let next = keys.next().unwrap();
            noted(&signer, &format!("in-force {next}\nretired {old}\n"));
            assert!(keys.next().is_err(), "the key in use is not the one that is noted");
            assert!(keys.forget_next().is_err());
            if half {
                stranger.0.destroy_object(first[0]).unwrap();
            }
            let keys = load(hsm, &signer, &label).unwrap();
            assert_eq!(keys.verifier_key(), next);
            assert!(signs(&keys));
            assert_eq!(stranger.count(&label), (1, 1));
            assert!(!notes(&signer).contains("retired"));
        }
    });
}

/// The process dies at each step of a change, is started anew, and then the power fails.
#[test]
fn nothing_is_destroyed_on_the_word_of_a_file_that_may_be_lost() {
    apart("token::nothing_is_destroyed_on_the_word_of_a_file_that_may_be_lost", |hsm| {
        for from_token in [false, true] {
            let begin = |label: &str| if from_token { moved(hsm, label).0 } else { separated().1 };
            let change = |label: &str, disk: &FakeDisk| {
                let keys = load(hsm, disk, label)?;
                let next = keys.next().map_err(|error| error.to_string())?;
                keys.promote(&next).map_err(|error| error.to_string())
            };
            let whole = begin("whole");
            let first = whole.ops();
            change("whole", &whole).unwrap();
            let died = |label: &str, step| {
                let disk = begin(label);
                disk.fault_at(step, Fault::CrashDuring);
                // The last steps only clear up: their failure is not the change's.
                let _ = change(label, &disk);
                disk.process_crash_image()
            };
            for step in first..whole.ops() {
                let label = format!("{from_token}-{step}");
                let again = died(&label, step);
                let second = again.ops();
                load(hsm, &again, &label).unwrap();
                // Each in a world of its own. One seed keeps the new name that was not synced, the other the old one.
                for (second, seed) in (second..again.ops()).flat_map(|second| [0, 2].map(|seed| (second, seed))) {
                    let label = format!("{label}-{second}-{seed}");
                    let image = died(&label, step);
                    image.fault_at(second, Fault::Crash);
                    let _ = load(hsm, &image, &label);
                    let keys = load(hsm, &image.crash_image(seed), &label);
                    assert!(signs(&keys.unwrap_or_else(|error| panic!("{label}: {error}"))), "{label}");
                    Stranger::new(hsm).clear(&label);
                }
            }
        }
    });
}

/// A change that was begun with the next key in a file ends there, although the signer has a token by now.
#[test]
fn a_change_begun_in_files_ends_in_files() {
    apart("token::a_change_begun_in_files_ends_in_files", |hsm| {
        let (_, signer) = separated();
        let next = FileKeys::load(&signer_store(&signer)).unwrap().next().unwrap();
        let keys = load(hsm, &signer, "log").unwrap();
        keys.promote(&next).unwrap();
        assert!(!keys.is_in_token() && signs(&keys));
        assert_eq!(keys.verifier_key(), next);
        // One that is given up is forgotten, wherever it lies.
        let files = FileKeys::load(&signer_store(&signer)).unwrap();
        let (given_up, in_token) = (files.next().unwrap(), keys.next().unwrap());
        keys.forget_next().unwrap();
        assert!(keys.promote(&given_up).is_err() && keys.promote(&in_token).is_err());
        assert_eq!(Stranger::new(hsm).count("log"), (0, 0));
        // And no private key stays in a file when the log moves.
        files.next().unwrap();
        keys.promote(&keys.next().unwrap()).unwrap();
        let left: Vec<_> =
            signer.paths().into_iter().filter(|path| path.extension().is_some_and(|ext| ext == "key")).collect();
        assert_eq!(left, Vec::<PathBuf>::new());
    });
}

#[test]
fn an_old_file_never_signs_again() {
    apart("token::an_old_file_never_signs_again", |hsm| {
        let (_, signer) = separated();
        let der = signer.bytes(Path::new("/signer/log.key")).unwrap();
        let keys = load(hsm, &signer, "log").unwrap();
        keys.promote(&keys.next().unwrap()).unwrap();
        // As if the crash had come before its end.
        signer.plant(Path::new("/signer/log.key"), &der);
        let refused = FileKeys::load(&signer_store(&signer)).err().unwrap().to_string();
        assert!(refused.contains("--pkcs11"), "{refused}");
        assert!(load(hsm, &signer, "log").unwrap().is_in_token());
        assert!(signer.bytes(Path::new("/signer/log.key")).is_none());
    });
}

#[test]
fn a_key_never_leaves_the_token() {
    apart("token::a_key_never_leaves_the_token", |hsm| {
        let (signer, keys) = moved(hsm, "log");
        let stranger = Stranger::new(hsm);
        let private = stranger.objects("log", ObjectClass::PRIVATE_KEY)[0];
        let info = stranger.0.get_attribute_info(private, &[AttributeType::Value]).unwrap();
        assert!(matches!(info.as_slice(), [AttributeInfo::Sensitive]), "{info:?}");
        let asked = [AttributeType::NeverExtractable, AttributeType::AlwaysSensitive, AttributeType::Local];
        let told = stranger.0.get_attributes(private, &asked).unwrap();
        let expected = [Attribute::NeverExtractable(true), Attribute::AlwaysSensitive(true), Attribute::Local(true)];
        assert_eq!(told, expected);
        // One that could be taken out is not used, whoever names it.
        for (id, secrecy) in [(7, (false, true)), (8, (true, true)), (9, (false, false))] {
            // A refusal has ended the stranger's session as well: the module is one.
            let loose = Stranger::new(hsm).generate("log", Attribute::Id(vec![id]), secrecy);
            noted(&signer, &format!("in-force {loose}\n"));
            let refused = load(hsm, &signer, "log").err().unwrap();
            assert!(refused.contains("away"), "{secrecy:?}: {refused}");
        }
        drop(keys);
    });
}

#[test]
fn a_label_alone_decides_nothing() {
    apart("token::a_label_alone_decides_nothing", |hsm| {
        let (signer, keys) = moved(hsm, "log");
        let stranger = Stranger::new(hsm);
        // A second key of the label: the first is still the one, and a change of the key leaves the stranger's alone.
        let other = stranger.generate("log", Attribute::Id(vec![7]), (true, false));
        let again = load(hsm, &signer, "log").unwrap();
        assert_eq!(again.verifier_key(), keys.verifier_key());
        assert!(signs(&again));
        again.promote(&again.next().unwrap()).unwrap();
        assert_eq!(stranger.count("log"), (2, 2));
        again.next().unwrap();
        again.forget_next().unwrap();
        assert_eq!(stranger.count("log"), (2, 2));
        // One that shares the identifier as well: nobody can say which private half is meant.
        let publics = stranger.objects("log", ObjectClass::PUBLIC_KEY);
        let ids: Vec<_> = publics.iter().map(|object| stranger.id(*object)).collect();
        let id = ids.into_iter().find(|id| *id != Attribute::Id(vec![7])).unwrap();
        stranger.generate("log", id, (true, false));
        let refused = load(hsm, &signer, "log").err().unwrap();
        assert!(refused.contains("`2` private and `2` public keys"), "{refused}");
        // Absent, or under another label.
        noted(&signer, &format!("in-force {other}\n"));
        load(hsm, &signer, "log").unwrap();
        let refused = load(hsm, &signer, "elsewhere").err().unwrap();
        assert!(refused.contains("labelled `elsewhere`") && refused.contains("`0` other"), "{refused}");
    });
}

#[test]
fn what_is_not_to_be_had_is_named() {
    apart("token::what_is_not_to_be_had_is_named", |hsm| {
        let (signer, _) = moved(hsm, "log");
        let check = |change: &dyn Fn(&mut TokenPlace), expected: &str| {
            let mut place = place(hsm, "log");
            change(&mut place);
            let refused = TokenKeys::load(&signer_store(&signer), place).err().unwrap().to_string();
            assert!(refused.contains(expected), "{refused}");
        };
        check(&|place| place.token = "absent".to_owned(), &format!("shows `{TOKEN}`"));
        check(&|place| place.module = PathBuf::from("/absent.so"), "/absent.so");
        check(&|place| place.pin_file = PathBuf::from("/absent-pin"), "/absent-pin");
        // A log that never had a token, and a token that is not there: heard at the start.
        let (_, fresh) = separated();
        let mut absent = place(hsm, "log");
        absent.token = "absent".to_owned();
        assert!(TokenKeys::load(&signer_store(&fresh), absent).is_err());
        // With neither a file nor a note there is no key.
        fresh.snatch(Path::new("/signer/log.key"));
        assert!(load(hsm, &fresh, "log").is_err());
        noted(&fresh, "nonsense\n");
        assert!(load(hsm, &fresh, "log").is_err());
        hsm.add_token("twin");
        hsm.add_token("twin");
        let _ = Pkcs11::new(hsm.module()).unwrap().finalize();
        check(&|place| place.token = "twin".to_owned(), "`2` tokens");
    });
}

#[test]
fn a_refused_pin_is_not_tried_again() {
    apart("token::a_refused_pin_is_not_tried_again", |hsm| {
        let (signer, keys) = moved(hsm, "log");
        hsm.write_pin("99999");
        lose_sessions(hsm);
        assert!(keys.sign(b"text").is_err());
        let refused = keys.sign(b"text").unwrap_err().to_string();
        assert!(refused.contains("PinIncorrect"), "{refused}");
        assert!(load(hsm, &signer, "log").err().unwrap().contains("PinIncorrect"));
        hsm.write_pin(PIN);
        for _ in 0..3 {
            let refused = keys.sign(b"text").unwrap_err().to_string();
            assert!(refused.contains("refused the PIN before"), "{refused}");
        }
        assert!(signs(&load(hsm, &signer, "log").unwrap()));
    });
}

/// As if the token had been taken out and put back: sessions of old are not known any more.
fn lose_sessions(hsm: &SoftHsm) {
    Pkcs11::new(hsm.module()).unwrap().finalize().unwrap();
}

#[test]
fn a_token_that_comes_back_signs_again() {
    apart("token::a_token_that_comes_back_signs_again", |hsm| {
        let (_, keys) = moved(hsm, "log");
        for _ in 0..3 {
            lose_sessions(hsm);
            assert!(matches!(keys.sign(b"text"), Err(SignError::Unavailable(_))));
            assert!(signs(&keys));
        }
        // Another user of the module begins it anew: the handle of old is stale, and not the module.
        lose_sessions(hsm);
        let module = Pkcs11::new(hsm.module()).unwrap();
        module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)).unwrap();
        assert!(matches!(keys.sign(b"text"), Err(SignError::Unavailable(_))));
        assert!(signs(&keys));
        let away = hsm.tokens().with_extension("away");
        std::fs::rename(hsm.tokens(), &away).unwrap();
        lose_sessions(hsm);
        for _ in 0..3 {
            assert!(matches!(keys.sign(b"text"), Err(SignError::Unavailable(_))));
            assert!(matches!(keys.next(), Err(SignError::Unavailable(_))));
        }
        std::fs::rename(&away, hsm.tokens()).unwrap();
        assert!(signs(&keys));
        keys.promote(&keys.next().unwrap()).unwrap();
        assert!(signs(&keys));
    });
}
