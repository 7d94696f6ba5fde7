//! `policy test` and `policy prove` as a person runs them: what they print, and how they end.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use tempfile::TempDir;

use crate::support::{Ran, run};

const CONFIG: &str = r#"
version: 1
tenant: default
origin: countersign.local/test
listen: 127.0.0.1:7411
policy: [policy.cedar]
agents: [{ id: shop, groups: [agents, dba] }, { id: bot, groups: [agents] }]
upstreams:
  - id: tools
    target: crm
    environment: production
    command: [nothing]
    tools:
      query: { arguments: { sql: sql.sqlite } }
      lab: { target: lab, environment: staging, arguments: { sql: sql.sqlite } }
"#;

const POLICY: &str = include_str!("../../src/templates/policy.cedar");

const CASES: &str = r#"
cases:
  - name: a read runs
    action: { agent: bot, tool: tools/query }
    facts: { sql: SELECT name FROM customers }
    expect: { verdict: allow }
  - name: a change asks
    action: { agent: bot, tool: tools/query }
    arguments: { sql: "DELETE FROM customers WHERE id = 1" }
    expect: { verdict: require_approval, gates: [changes-need-consent] }
"#;

/// A folder with a configuration; no keys and no log are needed.
struct Folder(TempDir);

impl Folder {
    fn new(policy: &str) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        folder.write("countersign.yaml", CONFIG);
        folder.write("policy.cedar", policy);
        folder
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    fn policy(&self, args: &[&str]) -> Ran {
        let config = format!("--config={}", self.0.path().join("countersign.yaml").display());
        run(&[&["--json", &*config, "policy"], args].concat())
    }
}

/// Runs it, expects the exit code and gives what was said.
fn said(ran: &Ran, code: i32) -> Value {
    assert_eq!(ran.code, code, "{ran:?}");
    ran.json()
}

#[test]
fn cases_pass_and_say_what_they_miss() {
    let folder = Folder::new(POLICY);
    folder.write("policy/tests/first.yaml", CASES);
    let value = said(&folder.policy(&["test", "--mutate"]), 0);
    assert_eq!((&value["passed"], &value["failed"]), (&2.into(), &0.into()), "{value}");
    assert_eq!(value["coverage"]["unreached"][0]["rule"], "never-drop");
    let survivor = &value["mutation"]["survivors"][0];
    assert_eq!((&survivor["rule"], &survivor["change"]), (&"never-drop".into(), &"dropped".into()), "{value}");
    assert_eq!(survivor["file"], "policy.cedar");
    said(&folder.policy(&["test", "--mutate", "--strict"]), 1);
    said(&folder.policy(&["test", "--min-coverage", "75"]), 0);
    said(&folder.policy(&["test", "--min-coverage", "76"]), 1);
}

#[test]
fn a_case_that_fails_says_why() {
    let folder = Folder::new(POLICY);
    let file = folder.write("wrong.yaml", &CASES.replace("require_approval", "deny"));
    let value = said(&folder.policy(&["test", file.to_str().unwrap()]), 1);
    let failed = &value["cases"][1];
    assert_eq!(failed["differences"][0], "expected deny, got require_approval", "{value}");
    assert_eq!(failed["determining"][0], "changes-are-possible");
}

#[test]
fn cases_that_cannot_be_read_are_no_pass() {
    let folder = Folder::new(POLICY);
    let check = |ran: &Ran, words: &str| {
        assert_eq!(ran.code, 2, "{ran:?}");
        assert!(ran.error().contains(words), "{ran:?}");
    };
    check(&folder.policy(&["test"]), "there are no cases");
    check(&folder.policy(&["test", "nowhere.yaml"]), "cannot read the cases `nowhere.yaml`");
    let file = folder.write("policy/tests/a.yaml", "cases: []");
    check(&folder.policy(&["test"]), "`cases` is empty");
    folder.write("policy/tests/a.yaml", &CASES.replace("agent: bot", "agent: bott"));
    check(&folder.policy(&["test"]), "did you mean `bot`");
    check(&folder.policy(&["test", file.to_str().unwrap()]), "did you mean `bot`");
}

const PROPERTIES: &str = r#"
properties:
  - id: outsiders
    text: no agent outside dba ever drops a table in production
    never: { agents_outside: [dba], environments: [production], when: { kinds: [drop_table] } }
"#;

#[test]
fn what_is_true_is_proven() {
    let folder = Folder::new(POLICY);
    folder.write("policy/properties.yaml", PROPERTIES);
    let value = said(&folder.policy(&["prove", "--time-limit", "60s"]), 0);
    assert_eq!(value["proven"], true, "{value}");
    let property = value["findings"].as_array().unwrap().iter().find(|finding| finding["id"] == "outsiders").unwrap();
    assert_eq!((&property["verdict"], &property["kind"]), (&"proven".into(), &"property".into()));
}

#[test]
fn what_is_not_true_comes_with_a_call() {
    let careless = POLICY.replace("context.kinds.contains(\"drop_table\")", "context.kinds.contains(\"drop\")");
    let folder = Folder::new(&careless);
    let file = folder.write("p.yaml", PROPERTIES);
    let value = said(&folder.policy(&["prove", "--property", file.to_str().unwrap(), "--time-limit", "60s"]), 5);
    let property = value["findings"].as_array().unwrap().iter().find(|finding| finding["id"] == "outsiders").unwrap();
    assert_eq!(property["verdict"], "refuted", "{value}");
    assert_eq!(property["counterexample"]["facts"]["kinds"], "[\"drop_table\"]");
    assert_eq!(property["counterexample"]["rules"][0], "changes-are-possible");
}

#[test]
fn without_a_solver_nothing_is_proven() {
    let folder = Folder::new(POLICY);
    let ran = folder.policy(&["prove", "--solver", "/nowhere/cvc5"]);
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.error().contains("apt-get install cvc5"), "{ran:?}");
    // A program that is no solver.
    let value = said(&folder.policy(&["prove", "--solver", "/bin/true"]), 5);
    assert_eq!(value["proven"], false);
    let file = folder.write("p.yaml", &PROPERTIES.replace("[production]", "[prodution]"));
    let ran = folder.policy(&["prove", "--property", file.to_str().unwrap()]);
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.error().contains("did you mean `production`"), "{ran:?}");
}
