//! Policy in YAML on the command line: what is loaded, what is shown, what is refused.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

const CONFIG: &str = "
version: 1
tenant: acme
origin: countersign.local/acme
listen: 127.0.0.1:7411
policy: [bundle:database, policy.yaml]
agents: [{id: coder, groups: [coders]}]
upstreams:
  - {id: crm, target: crm, environment: production, command: [sqlite-server], tools: {query: {arguments: {sql: sql.sqlite}}}}
";

const POLICY: &str = "\
version: 1

patterns:
  notes: { prefix: INSERT INTO notes }

rules:
  # Notes are harmless.
  - { id: notes, tools: [crm/query], effects: [write], when: { tables: [notes] }, then: allow }
  - { id: raw, when: { matched: [notes] }, then: allow }

budgets:
  - { scope: run, calls: 5, window: 1h }
";

/// A folder with a configuration and a policy.
fn folder(policy: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("countersign.yaml"), CONFIG).unwrap();
    fs::write(folder.path().join("policy.yaml"), policy).unwrap();
    folder
}

/// What a command said and how it ended.
#[derive(Debug)]
struct Ran {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Ran {
    fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap()
    }
}

fn policy(folder: &Path, words: &[&str]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
    let ran = command.arg("--config").arg(folder.join("countersign.yaml")).arg("policy").args(words).output().unwrap();
    Ran {
        code: ran.status.code().unwrap(),
        stdout: String::from_utf8(ran.stdout).unwrap(),
        stderr: String::from_utf8(ran.stderr).unwrap(),
    }
}

fn check(folder: &Path) -> Value {
    let ran = policy(folder, &["check", "--json"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    ran.json()
}

#[test]
fn what_is_loaded_is_what_convert_shows() {
    let made = folder(POLICY);
    let file = made.path().join("policy.yaml").display().to_string();
    let shown = policy(made.path(), &["convert", &file]);
    assert_eq!(shown.code, 0, "{shown:?}");
    assert!(shown.stdout.contains("@id(\"notes\")\npermit ("), "{shown:?}");
    assert!(shown.stdout.contains("// Pattern `notes`: prefix \"INSERT INTO notes\""), "{shown:?}");
    assert!(shown.stdout.contains("// Budget: 5 calls per run in 3600 s"), "{shown:?}");
    assert!(shown.stderr.contains("raw text is the only guard"), "{shown:?}");
    let out = made.path().join("notes.cedar");
    let written = policy(made.path(), &["convert", &file, "--write", &out.display().to_string()]);
    assert_eq!(written.code, 0, "{written:?}");
    assert!(shown.stdout.ends_with(&fs::read_to_string(&out).unwrap()));
    let again = policy(made.path(), &["convert", &file, "--write", &out.display().to_string()]);
    assert_eq!(again.code, 1, "{again:?}");
}

#[test]
fn every_byte_of_the_file_is_in_the_hash() {
    let made = folder(POLICY);
    let before = check(made.path());
    assert_eq!(before["warnings"].as_array().unwrap().len(), 1, "{before}");
    // A comment changes no policy, and yet it is what a human accepts.
    fs::write(made.path().join("policy.yaml"), POLICY.replace("harmless", "harmful")).unwrap();
    let after = check(made.path());
    assert_eq!(before["configuration"], after["configuration"]);
    assert_ne!(before["policy"], after["policy"]);
}

#[test]
fn what_is_wrong_is_shown_where_it_is() {
    let made = folder(
        &POLICY.replace("crm/query", "crm/qury").replace("then: allow }\n  - { id: raw", "then: alow }\n  - { id: raw"),
    );
    let ran = policy(made.path(), &["check"]);
    assert_eq!(ran.code, 2, "{ran:?}");
    for words in ["policy.yaml:8:", "no tool `crm/qury` is bound", "did you mean `crm/query`?", "did you mean `allow`?"]
    {
        assert!(ran.stderr.contains(words), "`{words}` is not in: {}", ran.stderr);
    }
    fs::write(made.path().join("countersign.yaml"), CONFIG.replace("bundle:database", "bundle:databse")).unwrap();
    let ran = policy(made.path(), &["check", "--json"]);
    assert_eq!(
        (ran.code, ran.json()["error"].as_str().unwrap().contains("did you mean `database`?")),
        (2, true),
        "{ran:?}"
    );
}

#[test]
fn files_are_laid_out_and_bundles_and_schemas_shown() {
    let made = folder(POLICY);
    let file = made.path().join("policy.yaml");
    let name = file.display().to_string();
    assert_eq!(policy(made.path(), &["fmt", "--check", &name]).code, 0);
    fs::write(&file, POLICY.replace("id: notes, tools: [crm/query]", "tools: [crm/query], id: notes")).unwrap();
    assert_eq!(policy(made.path(), &["fmt", "--check", &name]).code, 1);
    assert_eq!(policy(made.path(), &["fmt", &name]).code, 0);
    assert_eq!(fs::read_to_string(&file).unwrap(), POLICY);
    for kind in ["policy", "bindings", "cases", "properties", "config"] {
        assert!(policy(made.path(), &["schema", kind, "--json"]).json().is_object());
    }
    assert_eq!(policy(made.path(), &["schema", "polcy"]).code, 2);
    let listed = policy(made.path(), &["bundles", "list", "--json"]).json();
    for bundle in listed["bundles"].as_array().unwrap() {
        let shown = policy(made.path(), &["bundles", "show", bundle["name"].as_str().unwrap()]);
        assert!(shown.code == 0 && shown.stdout.contains("then: "), "{shown:?}");
    }
}
