use std::collections::BTreeMap;

use countersign_model::Effect;
use countersign_model::id::{Environment, TargetId};
use expect_test::{Expect, expect};

use super::{ArgumentKind, Binding, Dialect, contradiction, facts, place, spoken, texts, with_matched};
use crate::json::{Limits, parse};

const SQL: ArgumentKind = ArgumentKind::Sql(Dialect::Sqlite);

fn binding(effect: Option<Effect>, arguments: &[(&str, ArgumentKind)]) -> Binding {
    Binding {
        target: TargetId::new("crm").unwrap(),
        environment: Environment::new("production").unwrap(),
        effect,
        arguments: arguments.iter().map(|(name, kind)| ((*name).to_owned(), *kind)).collect::<BTreeMap<_, _>>(),
        subject: None,
        labels: Default::default(),
        trusted: Vec::new(),
    }
}

fn check(binding: Option<&Binding>, arguments: &str, expected: &Expect) {
    let node = parse(arguments.as_bytes(), &Limits::default()).unwrap();
    let facts = facts(binding, &node, arguments.as_bytes());
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
        &expect!["Opaque Opaque: the binding declares no effect and no argument that has one of its own"],
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

fn of(kind: &str) -> ArgumentKind {
    kind.parse().unwrap()
}

/// A tool with an argument of every kind.
fn everything() -> Binding {
    let declared = [
        ("cmd", "shell"),
        ("files", "path"),
        ("url", "host"),
        ("to", "recipient"),
        ("cc", "recipient"),
        ("price", "amount"),
        ("fee", "amount.minor"),
        ("options.replicas", "count"),
        ("options.now", "current"),
        ("extra", "plain"),
        ("extra.path", "path"),
        ("a\\.b", "plain"),
    ]
    .map(|(name, kind)| (name, of(kind)));
    Binding { labels: ["private".to_owned()].into(), ..binding(Some(Effect::Read), &declared) }
}

fn bound(arguments: &str, expected: &Expect) {
    let node = parse(arguments.as_bytes(), &Limits::default()).unwrap();
    let facts = facts(Some(&everything()), &node, arguments.as_bytes());
    let said = facts.opaque_because.unwrap_or_else(|| {
        let bound = facts.bound.clone().unwrap_or_default();
        let lists = [bound.hosts, bound.paths, bound.recipient_domains, bound.programs].map(|list| list.join(" "));
        let numbers = [bound.amount_micros, bound.count, bound.current];
        format!("{:?} {lists:?} {} {numbers:?}", facts.effect, bound.recipients)
    });
    expected.assert_eq(&said);
    assert_eq!(facts.bound.unwrap().labels, ["private"], "labels hold for opaque calls too");
}

#[test]
fn every_kind_says_its_part() {
    bound(
        r#"{"cmd":"ls | sort","files":["/a/../b","c"],"url":"HTTPS://Example.com/x","to":"A <a@x.example>, b@y.example","cc":["c@x.example"],"price":1.5,"fee":"250","options":{"replicas":6,"now":3},"extra":{"path":"/d","else":[1]},"a.b":null}"#,
        &expect![[
            r#"Spawn ["example.com", "/b /d c", "x.example y.example", "ls sort"] 3 [Some(4000000), Some(6), Some(3)]"#
        ]],
    );
    bound(r#"{"cmd":["git","status"]}"#, &expect![[r#"Spawn ["", "", "", "git"] 0 [None, None, None]"#]]);
    bound(
        r#"{"cmd":"ls","files":null,"options":null,"to":"","cc":[]}"#,
        &expect![[r#"Spawn ["", "", "", "ls"] 0 [None, None, None]"#]],
    );
}

#[test]
fn whatever_one_parser_does_not_understand_makes_the_call_opaque() {
    bound("{}", &expect!["missing the shell argument `cmd`"]);
    bound(r#"{"cmd":null}"#, &expect!["neither a string nor a list of strings: the argument `cmd`"]);
    bound(
        r#"{"cmd":"ls","files":"/a/*"}"#,
        &expect!["a path with characters that a reader could expand or take for another kind, in the argument `files`"],
    );
    bound(r#"{"cmd":"ls","files":["/a",1]}"#, &expect!["neither a string nor a list of strings: the argument `files`"]);
    bound(
        r#"{"cmd":"ls","url":"https://a@b/"}"#,
        &expect!["a URL with user information before its host, in the argument `url`"],
    );
    bound(
        r#"{"cmd":"ls","to":[["a@x.example"]]}"#,
        &expect!["neither a string nor a list of strings: the argument `to`"],
    );
    bound(
        r#"{"cmd":"ls","price":-1}"#,
        &expect!["a number that is not spelled as plain digits, in the argument `price`"],
    );
    bound(r#"{"cmd":"ls","price":true}"#, &expect!["no number: the argument `price`"]);
    bound(r#"{"cmd":"ls","price":9223372036854,"fee":"100"}"#, &expect!["amounts larger than can be counted"]);
    bound(r#"{"cmd":"ls","options":[{"replicas":1}]}"#, &expect!["not an object: the argument `options`"]);
    bound(
        r#"{"cmd":"ls","options":{"replicas":1,"Replicas":9}}"#,
        &expect!["no binding declares the argument `options.Replicas`"],
    );
    bound(
        r#"{"cmd":"ls","options.replicas":1}"#,
        &expect![[r#"no binding declares the argument `options\\.replicas`"#]],
    );
    bound(
        r#"{"cmd":"ls","extra":{"path":"../x"}}"#,
        &expect!["a path that leads above where it begins, in the argument `extra.path`"],
    );
    bound(r#"{"cmd":"ls","extra":"../x"}"#, &expect!["not an object: the argument `extra`"]);
    let many: Vec<String> = (0..32).map(|n| format!("\"f{n}\"")).collect();
    bound(&format!(r#"{{"cmd":"ls","files":[{}]}}"#, many.join(",")), &expect!["more names than facts can hold"]);
}

#[test]
fn a_shell_text_spawns_and_nothing_else_has_an_effect_of_its_own() {
    check(Some(&binding(None, &[("cmd", of("shell"))])), r#"{"cmd":"ls"}"#, &expect!["Spawn Exact"]);
    check(
        Some(&binding(Some(Effect::Destructive), &[("cmd", of("shell"))])),
        r#"{"cmd":"ls"}"#,
        &expect!["Destructive Exact"],
    );
    for kind in ["path", "host", "recipient", "amount", "amount.minor", "count", "current", "plain"] {
        check(
            Some(&binding(None, &[("x", of(kind))])),
            "{}",
            &expect!["Opaque Opaque: the binding declares no effect and no argument that has one of its own"],
        );
        check(Some(&binding(Some(Effect::Outbound), &[("x", of(kind))])), "{}", &expect!["Outbound Exact"]);
    }
    let twice = binding(Some(Effect::Write), &[("a", of("count")), ("b", of("count"))]);
    check(Some(&twice), r#"{"a":1,"b":2}"#, &expect!["Opaque Opaque: two counts of one kind in one call"]);
}

#[test]
fn kinds_are_known_by_their_words() {
    for word in ArgumentKind::WORDS {
        assert_eq!(of(word).as_str(), word);
    }
    let error = "Shell".parse::<ArgumentKind>().unwrap_err().to_string();
    expect!["`Shell` is no kind of argument; use one of plain, sql.sqlite, shell, path, host, recipient, amount, amount.minor, count, current"].assert_eq(&error);
    let error = "sql.postgres".parse::<ArgumentKind>().unwrap_err().to_string();
    expect!["`postgres` is no dialect that is understood; the known ones are: sqlite"].assert_eq(&error);
}

#[test]
fn places_lead_where_they_say() {
    assert_eq!(place(["a", "b.c", "d\\e"]), r"a.b\.c.d\\e");
    let arguments = r#"{"a":{"b.c":["x",{"d":"y"}]},"n":1,"t":"z"}"#;
    let node = parse(arguments.as_bytes(), &Limits::default()).unwrap();
    let found: Vec<String> = texts(&node, &[]).into_iter().map(|(place, text)| format!("{place}={text}")).collect();
    assert_eq!(found, [r"a.b\.c=x", r"a.b\.c.d=y", "t=z"]);
    let check = |places: &[(&str, &str)], expected: Option<&str>| {
        let arguments = places.iter().map(|(place, kind)| ((*place).to_owned(), of(kind))).collect();
        assert_eq!(contradiction(&arguments).as_deref(), expected);
    };
    check(&[("a", "plain"), ("a.b", "path"), ("c.d", "count")], None);
    check(&[("a", "path"), ("a.b", "path")], Some("a"));
    check(&[("a..b", "path")], Some("a..b"));
    check(&[("", "path")], Some(""));
}

#[test]
fn shell_arguments_are_heard_without_their_quotes() {
    let bound = binding(None, &[("run.line", ArgumentKind::Shell), ("note", ArgumentKind::Plain)]);
    let check = |arguments: &str, expected: &[&str]| {
        let node = parse(arguments.as_bytes(), &Limits::default()).unwrap();
        let spoken = spoken(Some(&bound), &node);
        let all: Vec<String> = texts(&node, &spoken).iter().map(|(place, text)| format!("{place}={text}")).collect();
        assert_eq!(all, expected, "{arguments}");
    };
    check(r#"{"run":{"line":"'rm' x"}}"#, &["run.line='rm' x", "run.line=rm x"]);
    check(r#"{"run":{"line":["rm","-rf","/"]}}"#, &["run.line=rm", "run.line=-rf", "run.line=/", "run.line=rm -rf /"]);
    // What makes the call opaque hides nothing of the rest.
    check(r#"{"run":{"line":["rm",1,"-rf"]},"x":2}"#, &["run.line=rm", "run.line=-rf", "run.line=rm -rf"]);
    check(r#"{"run":{"line":7},"note":"'rm' x"}"#, &["note='rm' x"]);
    check(r#"{"run":[]}"#, &[]);
}

#[test]
fn matches_are_kept_within_bounds() {
    let ids = |count: usize| (0..count).map(|n| format!("p{n:02}")).collect::<std::collections::BTreeSet<_>>();
    let declared = countersign_model::Facts::declared(Effect::Read);
    assert_eq!(with_matched(declared.clone(), &ids(0)), declared);
    let full = with_matched(declared.clone(), &ids(32));
    assert_eq!((full.certainty, full.bound.unwrap().matched.len()), (countersign_model::Certainty::Exact, 32));
    let over = with_matched(declared, &ids(33));
    assert_eq!((over.certainty, over.bound.unwrap().matched.len()), (countersign_model::Certainty::Opaque, 32));
    // A rule that forbids by a pattern holds for calls that were not understood.
    let opaque = with_matched(countersign_model::Facts::opaque("x"), &ids(1));
    assert_eq!((opaque.effect, opaque.bound.unwrap().matched), (Effect::Opaque, vec!["p00".to_owned()]));
}
