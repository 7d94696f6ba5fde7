//! `log verify` of a whole ledger through the real program: what an attacker or a failing disk changed is named.

#![expect(clippy::indexing_slicing, clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod support;

use std::collections::BTreeSet;
use std::fs;

use countersign_ledger::vault::Header;
use countersign_ledger::{Config, Entry, Ledger, Store};
use countersign_model::Body;
use serde_json::json;
use support::agent::{Agent, End};
use support::forge::{Part, forge};
use support::log::copied;
use support::{Installation, Ran, Setup};

/// Bytes of the vault's header, and of each key behind it.
const HEADER_BYTES: usize = 64;
const SLOT_BYTES: usize = 32;

/// A closed log whose calls have a run's key and a subject's.
async fn lived() -> Installation {
    let tools = "{ put: { effect: outbound, arguments: { id: plain, text: plain }, subject: id } }";
    let at = Installation::new(&Setup { tools: tools.to_owned(), ..Setup::lab() });
    let gateway = at.up().await;
    let agent = Agent::connect(&gateway.url, &at.token()).await;
    for id in ["carol", "dave"] {
        assert_eq!(agent.call("put", id).await.end, End::Ran("done".to_owned()));
    }
    gateway.stop().await;
    assert_eq!(at.run(&["log", "verify"]).json()["verified"], true);
    at
}

/// Fails unless the log is refused with all of `words`.
fn refused(ran: &Ran, words: &[&str]) {
    assert_eq!(ran.code, 5, "{ran:?}");
    let error = ran.error();
    for word in words {
        assert!(error.contains(word), "`{word}` is not in: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_record_is_named_though_the_checksum_is_right() {
    let at = lived().await;
    let good = fs::read(at.segment()).unwrap();
    let sealed = |body: &Body| matches!(body, Body::Intent(_) | Body::Outcome(_));
    let records = at.records();
    let indexes = records.iter().filter(|entry| sealed(&entry.record.body)).map(|entry| entry.index);
    let indexes: Vec<_> = indexes.collect();
    assert_eq!(indexes.len(), 4);
    for index in indexes {
        for part in [Part::Payload, Part::Leaf] {
            forge(&at.segment(), index, part);
            refused(&at.run(&["log", "verify"]), &[&format!("record `{index}`"), "00000000000000000000.seg"]);
            fs::write(at.segment(), &good).unwrap();
        }
    }
    assert_eq!(at.run(&["log", "verify"]).code, 0);
    fs::rename(at.path("ledger"), at.path("elsewhere")).unwrap();
    let nowhere = at.run(&["log", "verify"]);
    assert!(nowhere.code == 1 && nowhere.error().contains("there is no ledger at"), "{nowhere:?}");
}

/// The ids of the keys that payloads of the log are sealed under.
fn keys_in_use(at: &Installation) -> BTreeSet<u64> {
    let copy = tempfile::tempdir().unwrap();
    copied(&at.path("ledger"), copy.path());
    let mut keys = BTreeSet::new();
    let visit = &mut |record: countersign_ledger::Record<'_>| {
        let headers = record.payload.and_then(Header::read);
        keys.extend(headers.into_iter().flat_map(|header| [header.run_key, header.subject_key]));
        Ok(())
    };
    Ledger::open(&Store::real(copy.path()), Config::default(), visit).unwrap().0.close().unwrap();
    keys
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_bit_of_a_key_that_is_in_use_is_found() {
    let at = lived().await;
    let (path, keys) = (at.path("ledger/vault/keys"), keys_in_use(&at));
    assert_eq!(keys.len(), 3, "one run and two subjects: {keys:?}");
    let good = fs::read(&path).unwrap();
    let verify_with_flip = |bit: usize| {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        fs::write(&path, bad).unwrap();
        let ran = at.run(&["log", "verify"]);
        fs::write(&path, &good).unwrap();
        ran
    };
    // A bit of every byte that says something: another one each time.
    for byte in 0..HEADER_BYTES {
        refused(&verify_with_flip(byte * 8 + byte % 8), &["vault/keys", "header is damaged"]);
    }
    for key in &keys {
        let slot = HEADER_BYTES + SLOT_BYTES * usize::try_from(key - 1).unwrap();
        for byte in (slot..slot + SLOT_BYTES).step_by(3) {
            refused(&verify_with_flip(byte * 8 + byte % 8), &["record `"]);
        }
    }
    // Keys that were made ahead are random and nothing was ever sealed under them: another random key is as good.
    let unused = HEADER_BYTES + SLOT_BYTES * usize::try_from(*keys.last().unwrap()).unwrap();
    assert!(unused + SLOT_BYTES <= good.len());
    assert_eq!(verify_with_flip(unused * 8).code, 0);
    fs::write(&path, &good[..HEADER_BYTES]).unwrap();
    refused(&at.run(&["log", "verify"]), &["record `"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_without_the_vault_verifies_its_leaves() {
    let at = lived().await;
    let folder = tempfile::tempdir().unwrap();
    let ledger = folder.path().join("ledger");
    copied(&at.path("ledger"), &ledger);
    fs::remove_dir_all(ledger.join("vault")).unwrap();
    let config = format!("--config={}", folder.path().join("countersign.yaml").display());
    let key = at.read("ledger/log.vkey");
    let verify = || support::run(&["--json", &config, "log", "verify", "--key", key.trim()]);
    let mut whole = at.run(&["log", "verify"]).json();
    assert_eq!(whole["payloads"], "checked");
    whole["payloads"] = json!("absent");
    assert_eq!((verify().code, verify().json()), (0, whole));
    let people = support::run(&[&config, "log", "verify", "--key", key.trim()]);
    assert!(people.stdout.contains("payloads not checked: there is no"), "{people:?}");
    let index = at.records().iter().find(|entry| matches!(entry.record.body, Body::Intent(_))).unwrap().index;
    let segment = ledger.join("segments/00000000000000000000.seg");
    let good = fs::read(&segment).unwrap();
    // Nobody can tell what a sealed payload says without its key; the leaf that commits to it is judged as ever.
    forge(&segment, index, Part::Payload);
    assert_eq!(verify().json()["verified"], json!(true));
    fs::write(&segment, &good).unwrap();
    forge(&segment, index, Part::Leaf);
    refused(&verify(), &[&format!("record `{index}`")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payload_that_was_taken_out_is_no_erasure() {
    let at = lived().await;
    let store = Store::real(at.path("ledger"));
    let kinds = |body: &Body| body.attempt().is_some();
    let intent = at.records().into_iter().find(|entry| kinds(&entry.record.body)).unwrap();
    // Whoever has the log's key can sign the same record without its payload.
    let (ledger, _) = Ledger::open(&store, Config::default(), &mut |_| Ok(())).unwrap();
    let pending = ledger.append(Entry::new(intent.record.to_leaf().unwrap()));
    let added = tokio::task::block_in_place(|| pending.wait()).unwrap().index;
    ledger.close().unwrap();
    let words = [&format!("record `{added}`"), "its payload was taken out"];
    for command in [&["log", "verify"][..], &["replay"], &["replay", "--from-snapshot"]] {
        refused(&at.run(command), &words);
    }
    fs::remove_dir_all(at.path("ledger/vault")).unwrap();
    refused(&at.run(&["log", "verify"]), &words);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destroyed_key_without_an_erasure_on_record_is_found() {
    let at = lived().await;
    let (path, keys) = (at.path("ledger/vault/keys"), keys_in_use(&at));
    let good = fs::read(&path).unwrap();
    for key in keys {
        let slot = HEADER_BYTES + SLOT_BYTES * usize::try_from(key - 1).unwrap();
        let mut bad = good.clone();
        bad[slot..slot + SLOT_BYTES].fill(0);
        fs::write(&path, bad).unwrap();
        for command in [&["log", "verify"][..], &["replay"], &["replay", "--from-snapshot"]] {
            refused(&at.run(command), &["record `", "no erasure of its run or subject is on record"]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_nothing_was_published_of_says_so_and_tiles_that_are_there_are_compared() {
    let at = Installation::new(&Setup::lab());
    let gateway = at.up().await;
    let agent = Agent::connect(&gateway.url, &at.token()).await;
    for call in 0..130 {
        agent.call("look", &call.to_string()).await;
    }
    gateway.stop().await;
    fs::remove_file(at.path("ledger/public/checkpoint")).unwrap();
    let verified = at.run(&["log", "verify"]);
    assert_eq!((verified.code, &verified.json()["published"]), (0, &json!(null)), "{verified:?}");
    let config = format!("--config={}", at.path("countersign.yaml").display());
    let people = support::run(&[&config, "log", "verify"]);
    assert!(people.stdout.contains("nothing is published: there is no"), "{people:?}");
    let tile = at.path("ledger/public/tile/0/000");
    let mut bytes = fs::read(&tile).unwrap();
    bytes[77] ^= 1;
    fs::write(&tile, bytes).unwrap();
    refused(&at.run(&["log", "verify"]), &["tile/0/000", "differs from the records"]);
    fs::remove_file(&tile).unwrap();
    assert_eq!(at.run(&["log", "verify"]).code, 0);
}
