use countersign_model::facts::{NAME_BYTES_MAX, NAMES_MAX};
use countersign_model::{Effect, SqlFacts};
use expect_test::{Expect, expect};

use super::{FOREIGN_KINDS, KINDS, TEXT_BYTES_MAX, names, sqlite};

fn check(text: &str, expected: &Expect) {
    let shown = match sqlite(text) {
        Ok((effect, facts)) => {
            let SqlFacts { kinds, tables, functions, has_where, rows_spelled, .. } = facts;
            format!(
                "{}: {}; tables {}; functions {}; where {has_where}; rows {rows_spelled}",
                effect.as_str(),
                kinds.join(" "),
                tables.join(" "),
                functions.join(" "),
            )
        }
        Err(opaque) => format!("opaque: {opaque}"),
    };
    expected.assert_eq(&shown);
}

#[test]
fn lists_are_sorted_or_the_search_in_them_misses() {
    for list in names::lists() {
        assert!(list.is_sorted(), "{list:?}");
    }
}

#[test]
fn every_kind_is_listed_and_every_listed_kind_is_given() {
    let texts = [
        "ALTER TABLE t ADD COLUMN a INTEGER",
        "CREATE INDEX i ON t(a)",
        "CREATE TABLE t(a INTEGER)",
        "CREATE VIEW v AS SELECT a FROM t",
        "DELETE FROM t WHERE a = 1",
        "DROP INDEX i",
        "DROP TABLE t",
        "DROP VIEW v",
        "EXPLAIN SELECT a FROM t",
        "INSERT INTO t(a) VALUES (1) ON CONFLICT(a) DO UPDATE SET a = 2",
        "UPDATE t SET a = 1 WHERE a = 2",
    ];
    let given: std::collections::BTreeSet<String> =
        texts.iter().flat_map(|text| sqlite(text).unwrap().1.kinds).collect();
    assert_eq!(given.into_iter().collect::<Vec<_>>(), KINDS);

    // Each literal of the walk that is a kind, so that a new one is not forgotten.
    let walk = include_str!("walk.rs");
    let prefixes =
        ["select", "insert", "upsert", "update", "delete", "create_", "alter_", "drop_", "explain", "truncate"];
    for literal in walk.split('"').skip(1).step_by(2).filter(|text| prefixes.iter().any(|one| text.starts_with(one))) {
        assert!(KINDS.contains(&literal), "{literal}");
    }
    for text in ["TRUNCATE TABLE t", "DROP SCHEMA s", "DROP DATABASE d"] {
        assert!(sqlite(text).is_err(), "{text}");
    }
    assert!(FOREIGN_KINDS.iter().all(|kind| !KINDS.contains(kind)));
}

#[test]
fn facts_name_what_the_text_names() {
    check(
        "SELECT Upper(U.name) FROM Main.USERS u, \"Odd Name\" JOIN aux.t USING (id)",
        &expect!["read: select; tables aux.t odd name t users; functions upper; where true; rows 0"],
    );
    check(
        "INSERT INTO log SELECT * FROM users WHERE name LIKE 'a%'",
        &expect!["write: insert select; tables log users; functions like; where true; rows 0"],
    );
    check(
        "INSERT INTO t(a) VALUES (1), (2), (max(3, 4)) RETURNING (SELECT v FROM secrets)",
        &expect!["write: insert select; tables secrets t; functions max; where true; rows 3"],
    );
    check(
        "WITH old AS (SELECT id FROM users) DELETE FROM users WHERE id IN (SELECT id FROM old)",
        &expect!["destructive: delete select; tables users; functions ; where true; rows 0"],
    );
    check(
        "UPDATE users SET name = '' WHERE true",
        &expect!["destructive: update; tables users; functions ; where false; rows 0"],
    );
    check(
        "CREATE TABLE t(a INTEGER REFERENCES users(id), FOREIGN KEY (a) REFERENCES orders(id))",
        &expect!["write: create_table; tables orders t users; functions ; where true; rows 0"],
    );
    check(
        "SELECT * FROM sqlite_schema",
        &expect!["read: select; tables sqlite_master sqlite_schema; functions ; where true; rows 0"],
    );
    check("SELECT temp.t.a FROM temp.t", &expect!["read: select; tables temp.t; functions ; where true; rows 0"]);
    check(
        "EXPLAIN DELETE FROM users",
        &expect!["destructive: delete explain; tables users; functions ; where false; rows 0"],
    );
}

#[test]
fn what_is_opaque_says_why_without_quoting_raw_text() {
    check("SELECT 1; SELECT 2", &expect!["opaque: 2 statements where one is expected"]);
    check("SELECT \"fn\u{202e}\"()", &expect![[r"opaque: outside the functions that are understood: `fn\u{202e}`"]]);
    check("SELECT * FROM \"a\nb\"", &expect![[r"opaque: a name that cannot stand in facts: `a\nb`"]]);
    check(
        "SELECT 1 WHERE 1 IN secrets",
        &expect!["opaque: not understood: `sql parser error: Expected: (, found: secrets`"],
    );
    check(
        "PRAGMA user_version = 1",
        &expect!["opaque: outside the statements that are understood: `PRAGMA user_version`"],
    );
}

#[test]
fn more_names_than_facts_hold_are_opaque() {
    let tables = |count: usize| -> String {
        let names: Vec<String> = (0..count).map(|place| format!("t{place}")).collect();
        format!("SELECT 1 FROM {}", names.join(", "))
    };
    assert!(sqlite(&tables(NAMES_MAX)).is_ok());
    check(&tables(NAMES_MAX + 1), &expect!["opaque: more names than facts can hold"]);
    let long = |length: usize| format!("SELECT 1 FROM {}", "a".repeat(length));
    assert!(sqlite(&long(NAME_BYTES_MAX)).is_ok());
    assert!(sqlite(&long(NAME_BYTES_MAX + 1)).is_err());
}

/// Hostile depth neither overflows the stack of its caller nor takes long: a chain of operators
/// becomes a tree as deep as it is long, which parser and visitor survive but dropping it might not.
#[test]
fn depth_is_bounded_before_a_tree_is_built() {
    let texts = || {
        let chain = |piece: &str, count: usize| format!("SELECT 1 {}", piece.repeat(count));
        let nest = |open: &str, inner: &str, close: &str, count: usize| {
            format!("SELECT 1 FROM t WHERE {}{inner}{}", open.repeat(count), close.repeat(count))
        };
        let mut texts = Vec::new();
        for count in [10, 15, 20, 30, 31, 40, 400, 600, 990, 10_000] {
            texts.push(chain("+ 1 ", count));
            texts.push(chain("AND 1 ", count));
            texts.push(chain("COLLATE a ", count));
            texts.push(chain("IS NULL ", count));
            texts.push(chain("UNION SELECT 1 ", count));
            texts.push(chain("AT TIME ZONE 'a' ", count));
            texts.push(format!("SELECT {} 1", "- ".repeat(count)));
            texts.push(format!("SELECT {} 1", "NOT ".repeat(count)));
            texts.push(nest("(", "1", ")", count));
            texts.push(nest("(SELECT ", "1", ")", count));
            texts.push(nest("abs(", "1", ")", count));
            texts.push(nest("x IN (", "1", ")", count));
            texts.push(nest("EXISTS (SELECT ", "1", ")", count));
            texts.push(nest("CASE WHEN ", "1", " THEN 1 END", count));
            texts.push(nest("CAST(", "1", " AS INTEGER)", count));
            texts.push(nest("1 + (", "1", " + 1)", count));
            texts.push(format!("SELECT 1 FROM {}t{}", "(".repeat(count), ")".repeat(count)));
            texts.push(format!("SELECT 1 FROM {}t{}", "(SELECT 1 FROM ".repeat(count), ")".repeat(count)));
            texts.push(format!("SELECT 1 FROM {}t{}", "(t JOIN ".repeat(count), ")".repeat(count)));
            texts.push("(".repeat(count));
            texts.push(format!("SELECT {}", "(".repeat(count)));
            texts.push(format!("SELECT 1 FROM {}", "(".repeat(count)));
            texts.push(format!("SELECT 1 FROM {}", "(SELECT * FROM ".repeat(count)));
            texts.push("EXPLAIN ".repeat(count));
            texts.push("WITH a AS (".repeat(count));
        }
        texts
    };
    let worker = std::thread::Builder::new()
        .stack_size(128 * 1024)
        .spawn(move || {
            for text in texts() {
                let _ = sqlite(&text);
            }
        })
        .unwrap();
    worker.join().unwrap();
    let nested = |count: usize| format!("SELECT {}1{}", "(".repeat(count), ")".repeat(count));
    check(&nested(32), &expect!["opaque: nested or chained too deep"]);
    assert!(sqlite(&nested(15)).is_ok());
    assert!(sqlite(&format!("SELECT 1 {}", "+ 1 ".repeat(900))).is_ok());
    assert!(sqlite(&format!("SELECT 1 {}", "+ 1 ".repeat(1_100))).is_err());
}

#[test]
fn a_long_list_is_not_a_deep_one() {
    let rows = vec!["(-1, 'a', x'00')"; 5_000].join(", ");
    let (effect, facts) = sqlite(&format!("INSERT INTO t VALUES {rows}")).unwrap();
    assert_eq!((effect, facts.rows_spelled), (Effect::Write, 5_000));
    let over = format!("SELECT '{}'", "a".repeat(TEXT_BYTES_MAX));
    check(&over, &expect!["opaque: more sql than is read"]);
}

/// The second lines of defence, each without the first: what the tokens prove, whatever a tree says.
mod alone {
    use std::collections::BTreeSet;

    use sqlparser::dialect::SQLiteDialect;

    use super::super::shape::{self, Known};
    use super::super::{Opaque, agree, lexer};

    fn refused<T>(result: Result<T, Opaque>) -> String {
        result.err().map_or_else(|| "passes".to_owned(), |opaque| opaque.because)
    }

    fn with_known<T>(tables: &[&str], look: impl FnOnce(&Known<'_>) -> T) -> T {
        let (tables, none) = (tables.iter().map(|name| (*name).to_owned()).collect(), BTreeSet::new());
        look(&Known { tables: &tables, ctes: &none, types: &none })
    }

    #[test]
    fn a_call_that_the_tree_does_not_see() {
        let calls =
            |text: &str| with_known(&["t"], |known| refused(shape::calls(&lexer::tokens(text).unwrap(), known)));
        assert_eq!(calls("SELECT lower(1) FROM t(1) WHERE 1 IN (2)"), "passes");
        for text in [
            "SELECT f(1)",
            "SELECT \"F\" (1)",
            "SELECT [f]/**/(1)",
            "SELECT `f`(1)",
            "SELECT 'f'(1)",
            "SELECT \"in\"(1)",
        ] {
            assert!(calls(text).starts_with("outside the functions"), "{text}");
        }
    }

    #[test]
    fn a_table_that_the_tree_does_not_see() {
        let tables =
            |text: &str| with_known(&["t"], |known| refused(shape::tables(&lexer::tokens(text).unwrap(), known)));
        for text in [
            "SELECT a, b FROM t, main.t AS x, (t), (SELECT c, d FROM t) WHERE f IN (1, 2)",
            "SELECT a IS DISTINCT FROM b FROM t ORDER BY a, b",
            "INSERT INTO t(a, b) VALUES (1, 2) ON CONFLICT (a) DO UPDATE SET a = 1, b = 2",
            "UPDATE OR IGNORE t SET a = 1, b = 2 FROM t x WHERE a",
        ] {
            assert_eq!(tables(text), "passes", "{text}");
        }
        for text in [
            "SELECT 1 FROM u",
            "SELECT 1 FROM t, u",
            "SELECT 1 FROM t AS x, main.'U'",
            "SELECT 1 FROM (t, (u))",
            "SELECT 1 FROM t JOIN u",
            "SELECT (SELECT 1 FROM t, u) FROM t",
            "SELECT 1 FROM f(1, 2), u",
            "INSERT INTO u VALUES (1)",
            "REPLACE INTO \"u\" SELECT 1",
            "UPDATE OR REPLACE u SET a = 1",
            "DELETE FROM [u]",
            "DROP TABLE IF EXISTS u",
            "CREATE TABLE t(a REFERENCES u(id))",
            "SELECT 1 WHERE 1 IN t",
        ] {
            assert_ne!(tables(text), "passes", "{text}");
        }
    }

    #[test]
    fn a_verb_that_the_tree_does_not_see() {
        let verb = |text: &str| refused(shape::verb(&lexer::tokens(text).unwrap(), &["select"]));
        for text in [
            "SELECT 1",
            "EXPLAIN QUERY PLAN SELECT 1",
            "WITH a AS (SELECT 1), b(x) AS NOT MATERIALIZED (SELECT 2) SELECT 1",
        ] {
            assert_eq!(verb(text), "passes", "{text}");
        }
        for text in [
            "DELETE FROM t",
            "EXPLAIN DELETE FROM t",
            "WITH select AS (SELECT 1) DELETE FROM t",
            "WITH a(select) AS (SELECT 1) DELETE FROM t",
            "\"SELECT\" 1",
            "WITH a AS (SELECT 1)",
        ] {
            assert_ne!(verb(text), "passes", "{text}");
        }
    }

    #[test]
    fn a_text_that_is_cut_otherwise() {
        let both = |ours: &str, text: &str| {
            let ours = lexer::tokens(ours).unwrap();
            refused(agree::both(&ours, &SQLiteDialect {}, text))
        };
        assert_eq!(both("SELECT a, 'b'", "select A/**/,'b' -- c"), "passes");
        for text in ["SELECT a, b", "SELECT a, \"b\"", "SELECT a, 'b' || 1", "SELECT a, 'B'", "SELECT a"] {
            assert_ne!(both("SELECT a, 'b'", text), "passes", "{text}");
        }
    }
}
