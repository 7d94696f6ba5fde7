//! What is read of the suite's results, when two tables are the same, and when they are as recorded.

use super::{
    Aim, Arm, Options,
    recorded::{FILE, PAGE, lines, today, told, verdict, write},
    results, servers,
    table::{Scenario, Table, Tables},
};
use crate::workspace::Workspace;
use serde_json::json;

fn scenario(checks: &[(&str, &str)]) -> Scenario {
    let list: Vec<_> = checks.iter().map(|(id, status)| json!({ "id": id, "status": status })).collect();
    results::scenario(&json!(list).to_string()).unwrap()
}

fn table(name: &str, checks: &[(&str, &str)]) -> Table {
    let mut table = Table::default();
    table.put(name, scenario(checks));
    table
}

fn tables(role: &'static str, direct: &[(&str, &str)], gateway: &[(&str, &str)]) -> Tables {
    let mut tables = Tables::default();
    tables.put(role, "2026-07-28", Arm::Direct, table("ping", direct));
    tables.put(role, "2026-07-28", Arm::Gateway, table("ping", gateway));
    tables
}

#[test]
fn checks_are_counted_as_the_suite_counts_them() {
    let one = scenario(&[("a", "SUCCESS"), ("a", "FAILURE"), ("b", "WARNING"), ("c", "SKIPPED"), ("d", "INFO")]);
    assert_eq!((one.passed, one.failed), (1, 1));
    assert_eq!(one.failing().into_iter().collect::<Vec<_>>(), ["a"]);
    assert!(results::scenario(r#"[{"id":"a","status":"PERHAPS"}]"#).is_err());
    assert!(results::scenario(r#"[{"status":"SUCCESS"}]"#).is_err());
}

#[test]
fn what_broke_off_is_one_failure_and_the_sum_is_the_suites_own() {
    let log = "\n=== SUMMARY ===\n✓ ping: 2 passed, 0 failed\n✗ gone: 0 passed, 1 failed\n\nTotal: 2 passed, 1 failed\n\n  ✗ gone (x)";
    let mut read = table("ping", &[("a", "SUCCESS"), ("b", "SUCCESS")]);
    results::complete(&mut read, log).unwrap();
    assert_eq!(read.sum(), (2, 1));
    let mut short = table("ping", &[("a", "SUCCESS")]);
    let error = results::complete(&mut short, log).unwrap_err().to_string();
    assert!(error.contains("Total: 1 passed, 1 failed"), "{error}");
    assert!(results::complete(&mut short, "nothing").is_err());
}

#[test]
fn two_tables_are_the_same_only_if_every_check_is() {
    let check = |role, direct: &[_], gateway: &[_], same| {
        let verdict = tables(role, direct, gateway).verdict();
        assert_eq!(verdict.holds(), same, "{role}: {direct:?} {gateway:?}: {:?}", verdict.differences);
    };
    let good = [("a", "SUCCESS"), ("b", "FAILURE")];
    check("server", &good, &good, true);
    check("server", &good, &[("a", "FAILURE"), ("b", "SUCCESS")], false);
    check("server", &good, &[("a", "SUCCESS"), ("b", "WARNING")], false);
    check("server", &[("a", "SUCCESS")], &[("a", "SUCCESS"), ("a", "SUCCESS")], false);
    check("client", &[("a", "SUCCESS")], &[("a", "SUCCESS"), ("a", "SUCCESS")], true);
    check("client", &[("a", "SUCCESS")], &[("a", "SUCCESS"), ("a", "FAILURE")], false);
    check("server", &good, &[], false);
    let mut half = Tables::default();
    half.put("server", "2026-07-28", Arm::Direct, table("ping", &good));
    assert!(!half.verdict().holds(), "an arm that did not run is no equal one");
}

#[test]
fn what_gets_worse_or_better_is_named() {
    let before = today(&tables("server", &[("a", "SUCCESS"), ("b", "SUCCESS")], &[("a", "SUCCESS"), ("b", "FAILURE")]));
    let written = lines(&before, 0).unwrap();
    let again: serde_json::Value = serde_json::from_str(&written).unwrap();
    assert!(verdict(&again, &before).holds(), "{written}");
    // The order of members is that of the build: a feature of another package can change it.
    let line = |line: &str| line.starts_with("        \"ping\": {\"direct\":\"2/0\",") && line.ends_with('}');
    assert!(written.lines().any(line), "a line for each scenario: {written}");
    for now in [
        [("a", "SUCCESS"), ("b", "SUCCESS")],
        [("a", "FAILURE"), ("b", "FAILURE")],
        [("a", "FAILURE"), ("b", "SUCCESS")],
    ] {
        let now = today(&tables("server", &[("a", "SUCCESS"), ("b", "SUCCESS")], &now));
        let found = verdict(&before, &now);
        assert!(!found.holds());
        assert!(found.differences.iter().all(|line| line.starts_with("server 2026-07-28 ")), "{:?}", found.differences);
    }
}

#[test]
fn nothing_is_recorded_while_the_fixture_fails() {
    let failing = tables("server", &[("a", "FAILURE")], &[("a", "SUCCESS")]);
    let folder = std::path::Path::new("no such folder");
    let error = write(folder, &failing).unwrap_err().to_string();
    assert!(error.contains("checks fail directly"), "{error}");
}

#[test]
fn the_page_tells_the_recorded_sums() {
    let root = Workspace::root().unwrap();
    let recorded = std::fs::read_to_string(root.join(FILE)).unwrap();
    let page = std::fs::read_to_string(root.join(PAGE)).unwrap();
    let right = told(&page, &serde_json::from_str(&recorded).unwrap()).unwrap();
    assert_eq!(page, right, "run `cargo xtask conformance --record`");
}

#[test]
fn what_is_recorded_is_everything() {
    let read = |words: &str| Options::read(&words.split_whitespace().collect::<Vec<_>>());
    assert_eq!(read("--recorded --json"), Some(Options { json: true, ..Options::all(Aim::Recorded) }));
    let some = Options { stdio: true, only: vec!["ping".into(), "caching".into()], ..Options::all(Aim::Equal) };
    assert_eq!(read("ping --stdio caching"), Some(some));
    for words in ["--record --recorded", "--record ping", "--recorded --stdio", "--fast"] {
        assert_eq!(read(words), None, "{words}");
    }
}

#[test]
fn the_suites_list_names_servers_and_clients() {
    let list = "Required (2 scenarios):\n\nServer scenarios (x):\n  - ping\n\nClient scenarios (x):\n  - tools_call\n\nNot scored:\n  extension (2):\n    - tasks-x [server]\n    - auth/y [client]\n";
    assert_eq!(servers::listed(list).collect::<Vec<_>>(), ["ping", "tasks-x"]);
}
