//! `policy test` and `policy prove` as a person runs them: what they print, and how they end.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use tempfile::TempDir;

use crate::support::{Installation, PASSPHRASE, Ran, Setup, run};

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

#[test]
fn a_difference_names_the_call_and_the_rule() {
    let folder = Folder::new(POLICY);
    let narrow = folder.write(
        "narrow.cedar",
        &format!("{POLICY}@id(\"n\") forbid (principal, action, resource) when {{ context.opaque }};"),
    );
    let (narrow, here) = (narrow.to_str().unwrap(), folder.0.path().to_str().unwrap());
    let diff = |old: &str, new: &str| folder.policy(&["diff", old, new, "--time-limit", "60s"]);
    let value = said(&diff(here, narrow), 0);
    assert_eq!((&value["wider"], &value["proven_not_wider"]), (&false.into(), &true.into()), "{value}");
    let value = said(&diff(narrow, here), 1);
    let widening = &value["widenings"][0];
    assert_eq!((&widening["kind"], &widening["because"][0]), (&"runs".into(), &"rule `n` is gone".into()), "{value}");
    assert_eq!(widening["example"]["facts"]["opaque"], "true");
    // Without a solver nobody knows.
    let value = said(&folder.policy(&["diff", here, narrow, "--solver", "/bin/true"]), 5);
    assert_eq!((&value["wider"], &value["proven_not_wider"]), (&false.into(), &false.into()), "{value}");
    assert_eq!(said(&diff(here, here), 0)["questions"], 0);
    said(&diff("bundle:read-only", "bundle:read-only"), 0);
    let ran = folder.policy(&["diff", "active"]);
    assert!(ran.code != 0, "{ran:?}");
}

/// What the owner is told who accepts what is wider: exit code 3, and the digest to consent to.
fn refused(ran: &Ran) -> String {
    assert_eq!(ran.code, 3, "{ran:?}");
    ran.error().split("--accept-wider ").nth(1).unwrap().chars().take(64).collect()
}

const WIDE: &str = "permit (principal, action, resource);";

#[tokio::test(flavor = "multi_thread")]
async fn accepting_what_is_wider_takes_consent_to_exactly_that() {
    let at = Installation::new(&Setup::lab());
    at.up().await.stop().await;
    let policy = at.read("policy.cedar");
    let phrase = [("passphrase for owner's key: ", PASSPHRASE)];
    let accept = |args: &[&str]| at.at_terminal(&[&["policy", "activate"], args].concat(), &phrase);

    // Narrower: proven, and no consent is asked for.
    at.write("policy.cedar", &policy.replace("== \"change\"", "!= \"look\""));
    let narrow = said(&accept(&[]), 0);
    assert_eq!((&narrow["widening"], &narrow["difference"]["proven_not_wider"]), (&Value::Null, &true.into()));
    at.up().await.stop().await;

    // Wider: only with the digest of what became wider.
    at.write("policy.cedar", &format!("{policy}\n@id(\"oops\") {WIDE}"));
    let before = at.read("activation");
    let digest = refused(&at.run(&["policy", "activate"]));
    assert_eq!(refused(&at.run(&["policy", "activate", "--accept-wider", &"0".repeat(64)])), digest);
    assert_eq!(at.run(&["policy", "activate", "--accept-wider", "yes"]).code, 2);
    assert_eq!(at.read("activation"), before, "something was accepted");
    let wide = said(&accept(&["--accept-wider", &digest]), 0);
    assert_eq!(wide["widening"], *digest, "{wide}");
    at.up().await.stop().await;

    // The record shows it, and whoever asks later finds what it was.
    let log = at.run(&["log", "tail", "-n", "50"]).stdout;
    assert!(log.contains(&digest), "{log}");
    let (old, new) = (narrow["policy"].as_str().unwrap(), wide["policy"].as_str().unwrap());
    let value = said(&at.run(&["policy", "diff", old, new]), 1);
    assert_eq!(value["widenings"], wide["difference"]["widenings"]);
    said(&at.run(&["policy", "diff", "active", new]), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_compared_takes_consent_too() {
    let at = Installation::new(&Setup::lab());
    at.up().await.stop().await;
    let policy = at.read("policy.cedar");
    at.write("policy.cedar", &policy.replace("== \"change\"", "!= \"look\""));
    let without = refused(&at.run(&["policy", "activate", "--solver", "/nowhere/cvc5"]));
    // A solver that is none.
    refused(&at.run(&["policy", "activate", "--solver", "/bin/true"]));
    // The source of what is in force is another, or is not there.
    let active = at.run(&["policy", "diff", "active"]).json()["old"].as_str().unwrap().to_owned();
    let kept = at.path(&format!("policies/{active}.json"));
    let text = fs::read_to_string(&kept).unwrap();
    fs::write(&kept, text.replace("change", "nothing")).unwrap();
    let missing = refused(&at.run(&["policy", "activate"]));
    assert_ne!(missing, without);
    fs::remove_file(&kept).unwrap();
    assert_eq!(refused(&at.run(&["policy", "activate"])), missing);
}

#[tokio::test(flavor = "multi_thread")]
async fn budgets_of_policy_files_that_leave_more_take_consent() {
    let rules = "version: 1\nrules:\n  - { id: notes, effects: [write], when: { tables: [notes] }, then: deny }\n";
    let limits = |calls: &str| format!("{rules}budgets:\n  - {{ scope: run, calls: {calls} }}\n");
    let at = Installation::new(&Setup::lab());
    at.up().await.stop().await;
    let config = at.read("countersign.yaml").replace("policy: [policy.cedar]", "policy: [policy.cedar, limits.yaml]");
    assert!(config.contains("limits.yaml"), "{config}");
    at.write("countersign.yaml", &config);
    at.write("limits.yaml", &limits("50"));
    let phrase = [("passphrase for owner's key: ", PASSPHRASE)];
    let accept = || at.at_terminal(&["policy", "activate"], &phrase);
    // More budgets than before, the same again, and less of one: no consent.
    said(&accept(), 0);
    at.up().await.stop().await;
    assert_eq!(said(&accept(), 0)["difference"], Value::Null);
    at.up().await.stop().await;
    at.write("limits.yaml", &limits("40"));
    let active = said(&accept(), 0)["policy"].as_str().unwrap().to_owned();
    at.up().await.stop().await;

    let budget = "the budget `40 calls per run` of the old policy files went or was changed";
    let open = |expected: &str| {
        refused(&at.run(&["policy", "activate"]));
        let value = said(&at.run(&["policy", "diff", "active"]), 5);
        assert_eq!(value["not_proven"], serde_json::json!([expected]), "{value}");
    };
    at.write("limits.yaml", &limits("41"));
    open(budget);
    at.write("limits.yaml", rules);
    open(budget);
    // Who changes what was kept only takes away what to compare with, and so does a version that kept less.
    let kept = at.path(&format!("policies/{active}.json"));
    let text = fs::read_to_string(&kept).unwrap();
    let unknown = "the budgets of the old policy files are not known, so they cannot be compared";
    assert!(text.contains("calls: 40"), "{text}");
    fs::write(&kept, text.replace("calls: 40", "calls: 99")).unwrap();
    open(unknown);
    let mut older: Value = serde_json::from_str(&text).unwrap();
    older.as_object_mut().unwrap().remove("yaml").unwrap();
    fs::write(&kept, older.to_string()).unwrap();
    open(unknown);
}
