//! What seals, what opens it again, and what must not.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use countersign_model::id::RunId;
use countersign_model::payload::{OutcomePayload, Salt, UndoPayload};
use countersign_model::record::VaultScope;
use proptest::prelude::*;
use tempfile::TempDir;

use super::{Header, OVERHEAD_BYTES, PAYLOADS_MAX, Scopes, Vault, VaultError};
use crate::error::OpenError;
use crate::{OUTCOME_PAYLOAD_BYTES, Store};

fn vault() -> (TempDir, Store, Vault) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::real(dir.path());
    Vault::create(&store).unwrap();
    let vault = Vault::open(&store).unwrap();
    vault.refill().unwrap();
    (dir, store, vault)
}

fn run(name: &str) -> Scopes {
    Scopes { run: RunId::new(name).unwrap(), subject: None }
}

fn about(vault: &Vault, run_name: &str, subject: &str) -> Scopes {
    Scopes { subject: Some(vault.subject(subject.as_bytes())), ..run(run_name) }
}

fn destroy(vault: &Vault, scope: &VaultScope, sealed: &[&[u8]]) {
    let tag = vault.tag(scope);
    let of = |sealed: &&[u8]| Header::read(sealed).unwrap().key_of(tag);
    let keys: BTreeSet<u64> = sealed.iter().filter_map(of).chain(vault.retire(tag)).collect();
    vault.destroy(&keys).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn what_is_sealed_opens_beside_its_leaf_alone(
        payload in proptest::collection::vec(any::<u8>(), 0..2_000),
        leaf in proptest::collection::vec(any::<u8>(), 1..200),
        has_subject: bool,
        flip in any::<prop::sample::Index>(),
        bit in 0..8_u32,
    ) {
        let (_dir, _, vault) = vault();
        let scopes = if has_subject { about(&vault, "r-1", "alice") } else { run("r-1") };
        let sealed = vault.sealer(&scopes).unwrap().seal(&payload, &leaf).unwrap();
        prop_assert_eq!(sealed.len(), payload.len() + OVERHEAD_BYTES);
        prop_assert_eq!(vault.unseal(&sealed, &leaf), Ok(Some(payload)));
        let other: Vec<u8> = leaf.iter().copied().chain([0]).collect();
        prop_assert_eq!(vault.unseal(&sealed, &other), Err(VaultError::Damaged));
        let mut changed = sealed;
        let at = flip.index(changed.len());
        changed[at] ^= 1 << bit;
        let opened = vault.unseal(&changed, &leaf);
        prop_assert!(matches!(opened, Err(VaultError::Damaged | VaultError::NotSealed | VaultError::NoKey(_))), "{opened:?}");
    }
}

#[test]
fn every_payload_has_a_nonce_of_its_own() {
    let (_dir, _, vault) = vault();
    let sealers = [vault.sealer(&run("r-1")).unwrap(), vault.sealer(&run("r-1")).unwrap()];
    let of_subject = vault.sealer(&about(&vault, "r-1", "alice")).unwrap();
    let mut seen = BTreeSet::new();
    for sealer in sealers.iter().chain([&of_subject]) {
        for _ in 0..50 {
            let header = Header::read(&sealer.seal(b"the same", b"leaf").unwrap()).unwrap();
            assert!(seen.insert((header.run_key, header.counter)), "{header:?}");
        }
    }
}

#[test]
fn destroying_a_run_leaves_other_runs_and_says_erased() {
    let (_dir, store, vault) = vault();
    let one = vault.sealer(&run("r-1")).unwrap().seal(b"one", b"leaf").unwrap();
    let two = vault.sealer(&run("r-2")).unwrap().seal(b"two", b"leaf").unwrap();
    let scope = VaultScope::Run("r-1".parse().unwrap());
    destroy(&vault, &scope, &[&one, &two]);
    // Twice is the same as once.
    destroy(&vault, &scope, &[&one, &two]);
    let again = Vault::open(&store).unwrap();
    for vault in [&vault, &again] {
        assert_eq!(vault.unseal(&one, b"leaf"), Ok(None));
        assert_eq!(vault.unseal(&two, b"leaf"), Ok(Some(b"two".to_vec())));
    }
    // The run goes on under another key.
    let later = vault.sealer(&run("r-1")).unwrap().seal(b"later", b"leaf").unwrap();
    assert_eq!(vault.unseal(&later, b"leaf"), Ok(Some(b"later".to_vec())));
}

#[test]
fn a_payload_of_a_run_and_a_subject_goes_with_either() {
    for by_subject in [false, true] {
        let (_dir, _, vault) = vault();
        let seal = |scopes: &Scopes| vault.sealer(scopes).unwrap().seal(b"x", b"leaf").unwrap();
        let both = seal(&about(&vault, "r-1", "alice"));
        let same_run = seal(&about(&vault, "r-1", "bob"));
        let bare = seal(&run("r-1"));
        let same_subject = seal(&about(&vault, "r-2", "alice"));
        let all = [&both[..], &same_run, &bare, &same_subject];
        let scope = if by_subject {
            VaultScope::Subject(vault.subject(b"alice"))
        } else {
            VaultScope::Run("r-1".parse().unwrap())
        };
        destroy(&vault, &scope, &all);
        let is_open = |sealed: &[u8]| vault.unseal(sealed, b"leaf").unwrap().is_some();
        let open: Vec<bool> = all.iter().map(|sealed| is_open(sealed)).collect();
        assert_eq!(open, [false, by_subject, by_subject, !by_subject], "by subject: {by_subject}");
    }
}

#[test]
fn no_key_outlives_its_process() {
    let (_dir, store, vault) = vault();
    let header = |vault: &Vault| Header::read(&vault.sealer(&run("r-1")).unwrap().seal(b"", b"leaf").unwrap()).unwrap();
    let first = header(&vault);
    let again = Vault::open(&store).unwrap();
    assert!(matches!(again.sealer(&run("r-1")), Err(VaultError::NoSpare)), "spare keys of before are not used");
    again.refill().unwrap();
    assert!(header(&again).run_key > first.run_key + 32, "they are behind all that was made ahead");
}

#[test]
fn memory_is_bounded_by_scopes_that_nobody_uses() {
    let (_dir, _, vault) = vault();
    let held = vault.sealer(&run("held")).unwrap();
    let sealed = held.seal(b"x", b"leaf").unwrap();
    for number in 0..5_000 {
        if vault.is_low() {
            vault.refill().unwrap();
        }
        vault.sealer(&run(&format!("r-{number}"))).unwrap();
    }
    assert_eq!(vault.active.len(), 4_096);
    let key = Header::read(&sealed).unwrap().run_key;
    assert_eq!(vault.retire(vault.tag(&VaultScope::Run("held".parse().unwrap()))), [key].into(), "it is still held");
}

/// What an erasure counts on: nobody begins, whoever began is known, and a key that is worn is not forgotten.
#[test]
fn a_closed_scope_seals_nothing_new_until_it_goes_on_under_another_key() {
    let (_dir, _, vault) = vault();
    let tag = |name: &str| vault.tag(&VaultScope::Run(name.parse().unwrap()));
    let mut began = vault.sealer(&run("r-1")).unwrap();
    let mut about = vault.sealer(&about(&vault, "r-2", "alice")).unwrap();
    let alice = vault.tag(&VaultScope::Subject(vault.subject(b"alice")));
    vault.active.key(tag("r-1")).unwrap().count.store(PAYLOADS_MAX, Ordering::Relaxed);
    let after = vault.sealer(&run("r-1")).unwrap();
    for tag in [tag("r-1"), alice] {
        vault.close(tag);
        assert!(!vault.is_quiet(tag), "somebody is being decided");
    }
    assert!(vault.is_quiet(tag("r-3")));
    assert_eq!(vault.sealer(&run("r-1")).unwrap_err(), VaultError::Closed);
    assert_eq!(vault.sealer(&self::about(&vault, "r-3", "alice")).unwrap_err(), VaultError::Closed);
    assert!(vault.sealer(&run("r-2")).is_ok());
    assert!(began.seal(b"x", b"leaf").is_ok(), "who began goes on");
    about.decided();
    assert!(vault.is_quiet(alice));
    drop(after);
    assert!(!vault.is_quiet(tag("r-1")), "the first key is held still");
    began.decided();
    assert!(vault.is_quiet(tag("r-1")));
    vault.reopen(alice);
    assert_eq!(
        vault.sealer(&self::about(&vault, "r-2", "alice")).unwrap().header.subject_key,
        about.header.subject_key
    );
    assert_eq!(vault.retire(tag("r-1")).len(), 2);
    assert!(vault.retire(tag("r-1")).is_empty());
    assert_ne!(vault.sealer(&run("r-1")).unwrap().header.run_key, began.header.run_key);
}

#[test]
fn another_ledgers_vault_knows_nothing() {
    let (_dir, _, vault) = vault();
    let (_other_dir, _, other) = self::vault();
    let sealed = vault.sealer(&run("r-1")).unwrap().seal(b"x", b"leaf").unwrap();
    assert_eq!(other.unseal(&sealed, b"leaf"), Err(VaultError::Damaged));
    assert_ne!(vault.subject(b"alice"), other.subject(b"alice"));
    assert_eq!(vault.unseal(b"plain", b"leaf"), Err(VaultError::NotSealed));
}

#[test]
fn an_old_copy_of_the_key_file_is_not_taken_for_an_erasure() {
    let (dir, store, vault) = vault();
    let sealed = vault.sealer(&run("r-1")).unwrap().seal(b"x", b"leaf").unwrap();
    let path = dir.path().join("vault/keys");
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..64]).unwrap();
    let old = Vault::open(&store).unwrap();
    assert_eq!(old.unseal(&sealed, b"leaf"), Err(VaultError::NoKey(1)));
    std::fs::write(&path, [&bytes[..20], b"?", &bytes[21..]].concat()).unwrap();
    assert!(matches!(Vault::open(&store), Err(OpenError::Vault { .. })));
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(Vault::open(&store), Err(OpenError::Vault { .. })));
}

#[test]
fn the_key_file_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let (dir, ..) = vault();
    let mode = |path: &str| std::fs::metadata(dir.path().join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("vault"), mode("vault/keys")), (0o700, 0o600));
}

#[test]
fn a_sealed_outcome_fits_the_room_that_is_set_aside() {
    let (_dir, _, vault) = vault();
    let undo = UndoPayload { salt: Salt([2; 32]), handle: vec![3; 16 * 1024] };
    let salt = OutcomePayload { result_salt: Salt([1; 32]), undo: Some(undo) };
    let plain = countersign_model::to_canonical(&salt).unwrap();
    let sealed = vault.sealer(&run("r-1")).unwrap().seal(&plain, b"leaf").unwrap();
    assert!(sealed.len() <= OUTCOME_PAYLOAD_BYTES, "{}", sealed.len());
}
