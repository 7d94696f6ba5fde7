use std::collections::BTreeMap;

use countersign_model::Effect;
use countersign_model::id::{Environment, TargetId};
use expect_test::{Expect, expect};

use super::{ArgumentKind, Binding, Dialect, facts};
use crate::json::{Limits, parse};

const SQL: ArgumentKind = ArgumentKind::Sql(Dialect::Sqlite);

fn binding(effect: Option<Effect>, arguments: &[(&str, ArgumentKind)]) -> Binding {
    Binding {
        target: TargetId::new("crm").unwrap(),
        environment: Environment::new("production").unwrap(),
        effect,
        arguments: arguments.iter().map(|(name, kind)| ((*name).to_owned(), *kind)).collect::<BTreeMap<_, _>>(),
        subject: None,
    }
}

fn check(binding: Option<&Binding>, arguments: &str, expected: &Expect) {
    let node = parse(arguments.as_bytes(), &Limits::default()).unwrap();
    let facts = facts(binding, &node);
    let shown = match (&facts.opaque_because, &facts.sql) {
        (Some(because), None) => format!("{:?} {:?}: {because}", facts.effect, facts.certainty),
        (None, None) => format!("{:?} {:?}", facts.effect, facts.certainty),
        (None, Some(sql)) => format!("{:?} {:?}: {sql:?}", facts.effect, facts.certainty),
        (Some(_), Some(_)) => panic!("opaque facts have no sql"),
    };
    expected.assert_eq(&shown);
}

#[test]
fn what_is_not_declared_is_opaque() {
    check(None, "{}", &expect!["Opaque Opaque: no binding declares what this tool's arguments are"]);
    let bound = binding(Some(Effect::Read), &[("query", SQL), ("note", ArgumentKind::Plain)]);
    check(
        Some(&bound),
        r#"{"query":"SELECT 1","Query":"DROP TABLE users"}"#,
        &expect!["Opaque Opaque: no binding declares the argument `Query`"],
    );
    check(
        Some(&bound),
        "{\"query\":\"SELECT 1\",\"a\u{202e}\":1}",
        &expect![[r"Opaque Opaque: no binding declares the argument `a\u{202e}`"]],
    );
    check(Some(&bound), "{}", &expect!["Opaque Opaque: missing the sql argument `query`"]);
    check(Some(&bound), r#"{"query":null}"#, &expect!["Opaque Opaque: not a string: the sql argument `query`"]);
    check(Some(&bound), r#"{"query":["SELECT 1"]}"#, &expect!["Opaque Opaque: not a string: the sql argument `query`"]);
    check(Some(&bound), "[]", &expect!["Opaque Opaque: the arguments are not an object"]);
    check(
        Some(&binding(None, &[("note", ArgumentKind::Plain)])),
        "{}",
        &expect!["Opaque Opaque: the binding declares no effect and no argument that is parsed"],
    );
    check(
        Some(&binding(Some(Effect::Opaque), &[("query", SQL)])),
        r#"{"query":"SELECT 1"}"#,
        &expect!["Opaque Opaque: declared opaque"],
    );
}

#[test]
fn a_declared_effect_holds_where_nothing_is_parsed() {
    let bound = binding(Some(Effect::Outbound), &[("to", ArgumentKind::Plain)]);
    check(Some(&bound), r#"{"to":{"any":"thing"}}"#, &expect!["Outbound Exact"]);
    check(Some(&bound), "{}", &expect!["Outbound Exact"]);
}

#[test]
fn the_effect_is_the_worst_of_the_declared_and_the_parsed() {
    let query = r#"{"query":"SELECT * FROM users"}"#;
    check(
        Some(&binding(None, &[("query", SQL)])),
        query,
        &expect![[
            r#"Read Exact: SqlFacts { dialect: "sqlite", statements: 1, kinds: ["select"], tables: ["users"], functions: [], has_where: true, rows_spelled: 0 }"#
        ]],
    );
    check(
        Some(&binding(Some(Effect::Spend), &[("query", SQL)])),
        query,
        &expect![[
            r#"Spend Exact: SqlFacts { dialect: "sqlite", statements: 1, kinds: ["select"], tables: ["users"], functions: [], has_where: true, rows_spelled: 0 }"#
        ]],
    );
    check(
        Some(&binding(Some(Effect::Read), &[("query", SQL)])),
        r#"{"query":"DROP TABLE users"}"#,
        &expect![[
            r#"Destructive Exact: SqlFacts { dialect: "sqlite", statements: 1, kinds: ["drop_table"], tables: ["users"], functions: [], has_where: true, rows_spelled: 0 }"#
        ]],
    );
}

#[test]
fn two_sql_arguments_are_judged_together() {
    let bound = binding(None, &[("after", SQL), ("before", SQL)]);
    check(
        Some(&bound),
        r#"{"before":"DELETE FROM a","after":"INSERT INTO b VALUES (lower('X')), (2)"}"#,
        &expect![[
            r#"Destructive Exact: SqlFacts { dialect: "sqlite", statements: 2, kinds: ["delete", "insert"], tables: ["a", "b"], functions: ["lower"], has_where: false, rows_spelled: 2 }"#
        ]],
    );
    check(
        Some(&bound),
        r#"{"before":"DELETE FROM a","after":"PRAGMA x"}"#,
        &expect!["Opaque Opaque: outside the statements that are understood: `PRAGMA x`"],
    );
    let many = |prefix: &str| -> String {
        let names: Vec<String> = (0..20).map(|place| format!("{prefix}{place}")).collect();
        format!("SELECT 1 FROM {}", names.join(", "))
    };
    check(
        Some(&bound),
        &format!(r#"{{"before":"{}","after":"{}"}}"#, many("a"), many("b")),
        &expect!["Opaque Opaque: more names than facts can hold"],
    );
}

#[test]
fn a_dialect_is_known_or_the_error_names_the_known() {
    assert_eq!("sqlite".parse(), Ok(Dialect::Sqlite));
    let error = "Postgres".parse::<Dialect>().unwrap_err();
    expect!["`Postgres` is no dialect that is understood; the known ones are: sqlite"].assert_eq(&error.to_string());
}
