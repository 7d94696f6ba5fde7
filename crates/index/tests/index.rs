//! What the index refuses, forgets and covers.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod support;

use countersign_index::{Fed, Filter, Index, IndexError, Options, VerdictWord};
use countersign_model::record::{Erased, KillScope, Killed, Pruned, Status, VaultScope};
use countersign_model::unit::LeafIndex;
use countersign_model::{Body, Digest, ReasonCode, TimeMs};
use countersign_receipt::Frontier;
use countersign_receipt::merkle::leaf_hash;
use support::{Log, attempt, fresh, id};

fn leaves(index: &Index, filter: &Filter) -> Vec<u64> {
    index.query(filter, 100).unwrap().rows.iter().map(|row| row.leaf).collect()
}

fn erased(scope: VaultScope) -> Body {
    Body::Erased(Erased { scope, command: LeafIndex(0), keys: 1, payloads: 1, tickets: Default::default() })
}

#[test]
fn every_answer_states_the_root_of_what_was_read() {
    let mut log = Log::default();
    let intent = log.allow(attempt("ada", "r-1", "query"));
    log.end(intent, Status::Done, Some(3));
    log.deny(attempt("ada", "r-1", "drop"), &[ReasonCode::CodeFreeze]);
    let (_folder, mut index) = fresh(false);
    log.feed(&mut index, 2);
    let mut tree = Frontier::new();
    log.records.iter().for_each(|record| tree.push(leaf_hash(&record.to_leaf().unwrap())));
    assert_eq!(index.head().unwrap(), tree.head());
    assert_eq!(index.query(&Filter::default(), 1).unwrap().covered, tree.head());
}

#[test]
fn what_does_not_come_next_is_refused_and_leaves_nothing() {
    let mut log = Log::default();
    log.allow(attempt("ada", "r-1", "query"));
    log.allow(attempt("bob", "r-2", "query"));
    let (_folder, mut index) = fresh(false);
    log.feed(&mut index, 1);
    let before = index.head().unwrap();
    let leaf = log.records[0].to_leaf().unwrap();

    let mut batch = index.batch().unwrap();
    assert_eq!(batch.push(1, &leaf, None).unwrap(), Fed::Known);
    assert!(matches!(batch.push(3, &leaf, None), Err(IndexError::Hole { covered: 2, leaf: 3 })));
    assert!(matches!(batch.push(2, b"no record", None), Err(IndexError::Record { leaf: 2, .. })));
    assert!(matches!(batch.push(2, &leaf, None), Err(IndexError::Time { leaf: 2 })));
    drop(batch);

    // Names that only an abandoned batch knew are not known afterwards.
    let mut more = log.clone();
    more.allow(attempt("new", "r-new", "new"));
    let mut batch = index.batch().unwrap();
    batch.push(2, &more.records[2].to_leaf().unwrap(), None).unwrap();
    batch.abandon();
    assert_eq!(index.head().unwrap(), before);
    more.feed(&mut index, 1);
    let filter = Filter { agent: Some("new".to_owned()), ..Filter::default() };
    assert_eq!(leaves(&index, &filter), [2]);
}

#[test]
fn another_version_or_other_options_start_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("index.sqlite");
    assert!(matches!(Index::open_read_only(&path), Err(IndexError::Absent { .. })));
    let mut log = Log::default();
    log.allow(attempt("ada", "r-1", "query"));
    log.feed(&mut Index::open(&path, Options::default()).unwrap(), 1);
    assert_eq!(Index::open(&path, Options::default()).unwrap().head().unwrap().size, 1);
    assert_eq!(Index::open(&path, Options { full_text: true }).unwrap().head().unwrap().size, 0);
    let raw = rusqlite::Connection::open(&path).unwrap();
    raw.execute("UPDATE covered SET version = 'older'", []).unwrap();
    assert!(matches!(Index::open_read_only(&path), Err(IndexError::Absent { .. })));
    assert_eq!(Index::open(&path, Options { full_text: true }).unwrap().head().unwrap().size, 0);
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&path).unwrap());
    assert_eq!(mode & 0o077, 0, "others can open the index");
}

#[test]
fn text_is_found_only_where_it_is_kept() {
    let mut log = Log::default();
    let call = |log: &mut Log, run: &str, text: &str| {
        log.push_with(Body::Intent(Box::new(attempt("ada", run, "query"))), Some(text))
    };
    call(&mut log, "r-1", r#"{"sql":"DELETE FROM orders WHERE id = 4"}"#);
    call(&mut log, "r-2", r#"{"sql":"SELECT * FROM users"}"#);
    let text = |words: &str| Filter { text: Some(words.to_owned()), ..Filter::default() };
    let (_folder, mut plain) = fresh(false);
    log.feed(&mut plain, 10);
    assert!(matches!(plain.query(&text("orders"), 1), Err(IndexError::NoText)));
    let (_folder, mut index) = fresh(true);
    log.feed(&mut index, 10);
    for (words, want) in [
        ("orders", vec![0]),
        ("delete ORDERS", vec![0]),
        ("from", vec![0, 1]),
        ("orders users", vec![]),
        // None of this is an operator, and none of it an error.
        ("orders OR users", vec![]),
        ("\"orders", vec![0]),
        ("NEAR( *", vec![]),
        ("", vec![]),
    ] {
        assert_eq!(leaves(&index, &text(words)), want, "{words}");
    }
}

#[test]
fn what_was_erased_is_not_found_any_more_nor_in_the_file() {
    let mut log = Log::default();
    for (run, secret) in [("r-1", "xylophone"), ("r-2", "zeppelin")] {
        log.push_with(Body::Intent(Box::new(attempt("ada", run, "query"))), Some(secret));
    }
    let (folder, mut index) = fresh(true);
    log.feed(&mut index, 10);
    let text = |words: &str| Filter { text: Some(words.to_owned()), ..Filter::default() };
    assert_eq!(leaves(&index, &text("xylophone")), [0]);
    log.push(erased(VaultScope::Run(id("r-1"))));
    log.feed(&mut index, 10);
    assert_eq!(leaves(&index, &text("xylophone")), [] as [u64; 0]);
    assert_eq!(leaves(&index, &text("zeppelin")), [1], "the other run's text stays");
    assert!(!index.is_stale().unwrap());
    drop(index);
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        assert!(!bytes.windows(9).any(|window| window == b"xylophone"), "the text is still in the file");
    }
}

#[test]
fn a_subjects_erasure_takes_all_text_until_it_is_read_again() {
    let mut log = Log::default();
    log.push_with(Body::Intent(Box::new(attempt("ada", "r-1", "query"))), Some("xylophone"));
    let (_folder, mut index) = fresh(true);
    log.feed(&mut index, 10);
    log.push(erased(VaultScope::Subject(Digest([9; 32]))));
    log.feed(&mut index, 10);
    let text = Filter { text: Some("xylophone".to_owned()), ..Filter::default() };
    assert_eq!(leaves(&index, &text), [] as [u64; 0]);
    assert!(index.is_stale().unwrap());
    // Fed again after the erasure took effect, the same record takes nothing away.
    index.clear(Options { full_text: true }, log.records.len() as u64).unwrap();
    log.feed(&mut index, 10);
    assert_eq!(leaves(&index, &text), [0]);
    assert!(!index.is_stale().unwrap());
}

#[test]
fn what_was_pruned_has_no_rows() {
    let mut log = Log::default();
    let first = log.allow(attempt("ada", "r-1", "query"));
    log.allow(attempt("ada", "r-2", "query"));
    log.push(Body::Pruned(Pruned {
        minimum: LeafIndex(1),
        newest: TimeMs(0),
        command: LeafIndex(0),
        state: Digest([0; 32]),
    }));
    // The outcome of a pruned intent has nowhere to go, and that is no error.
    log.end(first, Status::Done, None);
    let (_folder, mut index) = fresh(false);
    log.feed(&mut index, 10);
    assert_eq!(leaves(&index, &Filter::default()), [1]);
    assert_eq!(index.head().unwrap().size, 4);
}

#[test]
fn a_run_holds_all_that_belongs_to_it_and_nothing_else() {
    let mut log = Log::default();
    let kill = |scope| Body::Killed(Killed { scope, epoch: 1, cancelled: 0, took_ms: 1 });
    log.push(kill(KillScope::All));
    let call = log.allow(attempt("ada", "r-1", "query"));
    log.allow(attempt("bob", "r-2", "query"));
    let parked = log.park(attempt("ada", "r-1", "drop"), "t-1");
    let other = log.park(attempt("bob", "r-2", "drop"), "t-2");
    let consent = log.consent("t-1", parked, "olga", true);
    log.consent("t-2", other, "olga", false);
    let killed = log.push(kill(KillScope::Agent(id("ada"))));
    log.push(kill(KillScope::Agent(id("bob"))));
    log.push(kill(KillScope::Run(id("r-2"))));
    let end = log.end(call, Status::Unknown, None);
    log.push(kill(KillScope::All));
    let (_folder, mut index) = fresh(false);
    log.feed(&mut index, 3);
    assert_eq!(index.leaves_of_run("r-1").unwrap().1, [call, parked, consent, killed, end]);
    assert_eq!(index.leaves_of_run("r-9").unwrap().1, [] as [u64; 0]);
}

#[test]
fn common_questions_are_answered_from_an_index() {
    let mut log = Log::default();
    log.allow(attempt("ada", "r-1", "query"));
    let (_folder, mut index) = fresh(true);
    log.feed(&mut index, 1);
    let plan = |filter: Filter| index.plan(&filter).unwrap().join("; ");
    let name = |name: &str| Some(name.to_owned());
    for (filter, index) in [
        (
            Filter {
                agent: name("ada"),
                verdict: Some(VerdictWord::Deny),
                since: Some(TimeMs(1)),
                ..Filter::default()
            },
            "denied_by_agent",
        ),
        (Filter { run: name("r-1"), ..Filter::default() }, "by_run"),
        (Filter { tool: name("query"), ..Filter::default() }, "by_tool"),
        (Filter { status: Some(countersign_index::StatusWord::Unknown), ..Filter::default() }, "by_status"),
        (Filter { ticket: name("t-1"), ..Filter::default() }, "by_ticket"),
    ] {
        let plan = plan(filter);
        assert!(plan.contains(index), "wanted `{index}`: {plan}");
    }
}

/// Which files of the folder hold `word`, in whatever case.
fn holding(folder: &std::path::Path, word: &str) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let holds = |bytes: &[u8]| bytes.windows(word.len()).any(|window| window.eq_ignore_ascii_case(word.as_bytes()));
    let found = entries.filter(|entry| holds(&std::fs::read(entry.path()).unwrap()));
    found.map(|entry| entry.file_name().into_string().unwrap()).collect()
}

/// Text of many words: it fills pages, spills over and makes interior nodes of the searched index.
fn long_text(secret: &str, seed: u64) -> String {
    let scattered = |at: u64| (seed * 7_919 + at).wrapping_mul(2_654_435_761) % (1 << 32);
    let word = |at: u64| format!("{:08x}{secret}{at} ", scattered(at));
    (0..2_000).map(word).collect()
}

#[test]
fn erased_text_leaves_every_file_while_the_index_stays_open() {
    let mut log = Log::default();
    for (seed, run) in ["r-1", "r-2", "r-1", "r-2", "r-3"].iter().enumerate() {
        let secret = if *run == "r-1" { "xylophone" } else { "zeppelin" };
        let call = Body::Intent(Box::new(attempt("ada", run, "query")));
        log.push_with(call, Some(&long_text(secret, seed as u64)));
    }
    let (folder, mut index) = fresh(true);
    log.feed(&mut index, 2);
    assert!(!holding(folder.path(), "xylophone").is_empty(), "nothing to erase");
    log.push(erased(VaultScope::Run(id("r-1"))));
    log.feed(&mut index, 10);
    assert!(index.scrub().unwrap());
    assert_eq!(holding(folder.path(), "xylophone"), [] as [String; 0]);
    assert!(!holding(folder.path(), "zeppelin").is_empty(), "the others' text stays");
    log.push(erased(VaultScope::Subject(Digest([9; 32]))));
    log.feed(&mut index, 10);
    assert!(index.scrub().unwrap());
    assert_eq!(holding(folder.path(), "zeppelin"), [] as [String; 0]);
}

#[test]
fn interior_nodes_keep_no_erased_word() {
    for count in [300, 450, 500, 620, 800, 1_500] {
        let mut log = Log::default();
        let mut say = |run: &str, prefix: &str, count: u64| {
            let text: String = (0..count).map(|at| format!("{prefix}{at:05} ")).collect();
            log.push_with(Body::Intent(Box::new(attempt("ada", run, "query"))), Some(&text));
        };
        say("r-2", "before", 333);
        say("r-1", "xylophone", count);
        say("r-2", "zeppelin", 333);
        let (folder, mut index) = fresh(true);
        log.feed(&mut index, 10);
        log.push(erased(VaultScope::Run(id("r-1"))));
        log.feed(&mut index, 10);
        assert!(index.scrub().unwrap());
        assert_eq!(holding(folder.path(), "xylophone"), [] as [String; 0], "{count} words");
    }
}

#[test]
fn a_reader_in_the_way_only_delays_and_nobody_forgets() {
    let mut log = Log::default();
    log.push_with(Body::Intent(Box::new(attempt("ada", "r-1", "query"))), Some("xylophone"));
    let (folder, mut index) = fresh(true);
    log.feed(&mut index, 10);
    let path = folder.path().join("index.sqlite");
    let mut reader = rusqlite::Connection::open(&path).unwrap();
    let view = reader.transaction().unwrap();
    let rows = |view: &rusqlite::Transaction<'_>| {
        view.query_row("SELECT count(*) FROM arguments", [], |row| row.get::<_, i64>(0)).unwrap()
    };
    assert_eq!(rows(&view), 1);
    log.push(erased(VaultScope::Run(id("r-1"))));
    log.feed(&mut index, 10);
    assert!(!index.scrub().unwrap(), "the reader still sees what was there");
    assert!(!index.scrub().unwrap());
    assert_eq!(rows(&view), 1);
    assert!(!holding(folder.path(), "xylophone").is_empty());
    drop(view);
    // A start later it is still owed; the reader's connection keeps the write-ahead log alive.
    drop(index);
    let mut index = Index::open(&path, Options { full_text: true }).unwrap();
    assert!(!holding(folder.path(), "xylophone").is_empty());
    assert!(index.scrub().unwrap());
    assert_eq!(holding(folder.path(), "xylophone"), [] as [String; 0]);
}

#[test]
fn an_index_that_is_cleared_keeps_no_text() {
    let mut log = Log::default();
    log.push_with(Body::Intent(Box::new(attempt("ada", "r-1", "query"))), Some("xylophone"));
    let (folder, mut index) = fresh(true);
    log.feed(&mut index, 10);
    index.clear(Options::default(), 0).unwrap();
    assert_eq!(holding(folder.path(), "xylophone"), [] as [String; 0]);
}

#[test]
fn a_removed_index_leaves_no_file() {
    let mut log = Log::default();
    log.push_with(Body::Intent(Box::new(attempt("ada", "r-1", "query"))), Some("xylophone"));
    let (folder, mut index) = fresh(true);
    log.feed(&mut index, 10);
    let path = folder.path().join("index.sqlite");
    Index::remove(&path).unwrap();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    Index::remove(&path).unwrap();
}
