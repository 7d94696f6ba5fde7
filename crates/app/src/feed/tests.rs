//! The index follows its log, and notices another log and one that was rolled back.

use countersign_index::{Filter, Index, Options};
use countersign_ledger::vault::{Scopes, Vault};
use countersign_ledger::{Config, Entry, Ledger, Reader, Store};
use countersign_model::payload::{ActionPayload, Salt};
use countersign_model::{Digest, Record};

use std::time::{Duration, Instant};

use super::{Follower, PATIENCE, catch_up};
use crate::layout::Layout;
use crate::sample::run;

/// A closed ledger of the first `count` records of the sample, whose arguments are `word`.
fn ledger(dir: &std::path::Path, records: &[(u64, Record)], word: &str) -> Store {
    let store = Store::real(dir);
    if !dir.exists() {
        Ledger::create(&store, "example.com/log").unwrap();
    }
    let (ledger, _) = Ledger::open(&store, Config::default(), &mut |_| Ok(())).unwrap();
    let vault = Vault::open(&store).unwrap();
    vault.refill().unwrap();
    for (_, record) in records {
        let payload = ActionPayload {
            digest_salt: Salt([0; 32]),
            digest: Digest([0; 32]),
            arguments_salt: Salt([0; 32]),
            arguments: word.as_bytes().to_vec(),
            meta: Vec::new(),
            input: None,
        };
        let leaf = record.to_leaf().unwrap();
        let payload = record.body.attempt().map(|attempt| {
            let scopes = Scopes { run: attempt.principal.run.clone(), subject: None };
            vault.sealer(&scopes).unwrap().seal(&payload.encode().unwrap(), &leaf).unwrap()
        });
        ledger.append(Entry { leaf, payload }).wait().unwrap();
    }
    ledger.close().unwrap();
    store
}

fn follow(index: &mut Index, store: &Store) -> u64 {
    catch_up(index, &Reader::new(store), &mut |_, _| true).unwrap().size
}

fn found(index: &Index, words: &str) -> usize {
    index.query(&Filter { text: Some(words.to_owned()), ..Filter::default() }, 100).unwrap().rows.len()
}

fn check_replaced(replacement: &[(u64, Record)], word: &str) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("index.sqlite");
    let mut index = Index::open(&path, Options { full_text: true }).unwrap();
    let first = ledger(&folder.path().join("first"), &run()[..8], "first");
    assert_eq!(follow(&mut index, &first), 8);
    assert_eq!(found(&index, "first"), 5);
    let second = ledger(&folder.path().join("second"), replacement, word);
    let size = replacement.len() as u64;
    assert_eq!(follow(&mut index, &second), size);
    let head = Reader::new(&second).head().unwrap();
    assert_eq!(index.head().unwrap(), head);
    assert_eq!(found(&index, "first"), 0, "rows of another log");
    assert!(found(&index, word) > 0);
}

#[test]
fn it_goes_on_where_it_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let mut index = Index::open(&folder.path().join("index.sqlite"), Options::default()).unwrap();
    let dir = folder.path().join("ledger");
    let all = run();
    for range in [0..3, 3..3, 3..10, 10..13] {
        let store = ledger(&dir, &all[range.clone()], "x");
        assert_eq!(follow(&mut index, &store), range.end as u64);
        assert_eq!(index.head().unwrap(), Reader::new(&store).head().unwrap());
    }
    let leaves = index.leaves_of_run("r-7").unwrap().1;
    assert_eq!(leaves, (0..13).collect::<Vec<_>>());
}

#[test]
fn another_log_is_noticed_whatever_its_size() {
    let mut other = run();
    other[0].1.at.0 -= 1;
    check_replaced(&other[..8], "same size");
    check_replaced(&other, "longer");
}

#[test]
fn a_log_that_was_rolled_back_is_noticed() {
    check_replaced(&run()[..5], "shorter");
}

#[test]
fn who_watches_can_stop_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut index = Index::open(&folder.path().join("index.sqlite"), Options::default()).unwrap();
    let store = ledger(&folder.path().join("ledger"), &run(), "x");
    assert_eq!(catch_up(&mut index, &Reader::new(&store), &mut |_, _| false).unwrap().size, 0);
    assert_eq!(follow(&mut index, &store), 13);
}

/// Whether any file that begins as the index's does holds `word`.
fn holds(folder: &std::path::Path, word: &str) -> bool {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
    let mut bytes = files.map(|path| std::fs::read(path).unwrap());
    bytes.any(|bytes| bytes.windows(word.len()).any(|window| window == word.as_bytes()))
}

/// A follower of a log that it has read once, and that cannot be read any more.
fn cut_off(folder: &std::path::Path, options: Options) -> Follower {
    let layout = Layout::of_config(&folder.join("countersign.yaml"));
    ledger(&layout.ledger(), &run(), "xylophone");
    let mut follower = Follower::new(&layout, options);
    follower.round(Instant::now(), &mut |_, _| true);
    assert!(follower.failing.is_none());
    std::fs::rename(layout.ledger(), folder.join("away")).unwrap();
    follower
}

#[test]
fn an_index_with_text_that_cannot_follow_is_removed_and_made_again_without() {
    let folder = tempfile::tempdir().unwrap();
    let mut follower = cut_off(folder.path(), Options { full_text: true });
    let start = Instant::now();
    for late in [0, 1, 59] {
        follower.round(start + Duration::from_secs(late), &mut |_, _| true);
        assert!(holds(folder.path(), "xylophone"), "a short failure costs nothing");
    }
    follower.round(start + PATIENCE, &mut |_, _| true);
    assert!(!holds(folder.path(), "xylophone"));
    std::fs::rename(folder.path().join("away"), folder.path().join("ledger")).unwrap();
    follower.round(start + PATIENCE, &mut |_, _| true);
    let index = follower.index.as_ref().unwrap();
    assert_eq!(index.head().unwrap().size, 13);
    assert_eq!(index.options().unwrap(), Options::default());
    assert!(!holds(folder.path(), "xylophone"), "not before the next start");
}

#[test]
fn an_index_without_text_that_cannot_follow_stays() {
    let folder = tempfile::tempdir().unwrap();
    let mut follower = cut_off(folder.path(), Options::default());
    let start = Instant::now();
    for late in [Duration::ZERO, PATIENCE * 2] {
        follower.round(start + late, &mut |_, _| true);
    }
    assert_eq!(Index::open_read_only(&follower.path).unwrap().head().unwrap().size, 13);
}

#[test]
fn an_index_that_cannot_be_opened_is_removed_for_what_it_may_hold() {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::of_config(&folder.path().join("countersign.yaml"));
    ledger(&layout.ledger(), &run(), "x");
    std::fs::write(layout.index(), "xylophone ".repeat(1_000)).unwrap();
    let mut follower = Follower::new(&layout, Options::default());
    let start = Instant::now();
    for late in [Duration::ZERO, PATIENCE, PATIENCE] {
        follower.round(start + late, &mut |_, _| true);
    }
    assert_eq!(follower.index.as_ref().unwrap().head().unwrap().size, 13);
    assert!(!holds(folder.path(), "xylophone"));
}
