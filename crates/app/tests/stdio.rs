//! `countersign stdio` between a real client and the real gateway: the client knows neither.

#![expect(clippy::panic, clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod support;

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use support::gateway::Gateway;
use support::{AGENT, Installation, PROGRAM, Setup};

/// The official client in Python, installed by `cargo xtask lab`; `None` only where somebody said that it may be left out.
fn client() -> Option<PathBuf> {
    if let Some(folder) = std::env::var_os("COUNTERSIGN_LAB").filter(|folder| !folder.is_empty()) {
        let program = Path::new(&folder).join("bin/python-sdk");
        assert!(program.is_file(), "no lab in `{}`: run `cargo xtask lab`", folder.display());
        return Some(program);
    }
    if std::env::var_os("COUNTERSIGN_WITHOUT_LAB").is_some_and(|set| set == "1") {
        println!("SKIPPED: there is no lab, and COUNTERSIGN_WITHOUT_LAB=1 says that this is meant");
        return None;
    }
    panic!("COUNTERSIGN_LAB is not set: run `cargo xtask lab` and set what it prints");
}

/// What the client's server is: a command, as in every client's configuration.
fn bridge(at: &Installation, gateway: &Gateway) -> Value {
    let token = at.path(&format!("tokens/{AGENT}.token"));
    json!({"command": PROGRAM, "args": ["stdio", "--token-file", token, "--url", gateway.url]})
}

fn drive(client: &Path, server: &Value, steps: &Value) -> Vec<Value> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/stdio_client.py");
    let plan = json!({"server": server, "steps": steps}).to_string();
    let ended = Command::new(client).arg(script).arg(plan).stdin(Stdio::null()).output().unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    String::from_utf8(ended.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_spawns_it_notices_nothing_but_the_governance() {
    let Some(client) = client() else { return };
    let at = Installation::new(&Setup::lab());
    let gateway = at.up().await;
    let server = bridge(&at, &gateway);
    let steps = json!([["list"], ["call", "look", "1"], ["many", "put", 20], ["call", "change", "2"], ["ping"]]);
    let seen = tokio::task::block_in_place(|| drive(&client, &server, &steps));
    assert_eq!(seen[0], json!(["change", "hold", "look", "put"]));
    assert_eq!(seen[1]["text"], "done");
    assert_eq!(seen[2], json!(vec!["done"; 20]));
    assert_eq!(seen[3]["verdict"]["verdict"], "pending");
    // A human consents; another process of the same client repeats the call, and it runs once.
    let ticket = seen[3]["verdict"]["ticket"].as_str().unwrap();
    tokio::task::block_in_place(|| at.approve(ticket));
    let seen = tokio::task::block_in_place(|| drive(&client, &server, &json!([["call", "change", "2"]])));
    assert_eq!(seen[0]["text"], "done");
    gateway.stop().await;
    assert_eq!(at.effects().iter().filter(|effect| effect.starts_with("change")).count(), 1);
    assert_eq!(at.run(&["replay"]).code, 0);
}

/// Standard output is the protocol's: whatever goes wrong before is said on standard error.
#[test]
fn it_refuses_to_start_without_a_token_of_its_own() {
    let at = Installation::new(&Setup::lab());
    let token = at.path(&format!("tokens/{AGENT}.token"));
    let run = |args: &[&str]| {
        let ran = support::run(args);
        assert_eq!(ran.stdout, "", "{ran:?}");
        (ran.code, ran.stderr)
    };
    let path = token.to_str().unwrap();
    let url = ["--url", "http://127.0.0.1:9/mcp"];
    let (code, said) = run(&["--json", "stdio", "--token-file", path, "--url", "http://gateway.example/mcp"]);
    assert!(code == 2 && said.contains("in the clear"), "{said}");
    let (code, said) = run(&["stdio", "--token-file", "/nowhere", url[0], url[1]]);
    assert!(code == 1 && said.contains("countersign token issue"), "{said}");
    std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o640)).unwrap();
    let (code, said) = run(&["--json", "stdio", "--token-file", path, url[0], url[1]]);
    assert!(code == 2 && said.contains("chmod 600"), "{said}");
    std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o600)).unwrap();
    let config = format!("--config={}/countersign.yaml", at.root().display());
    let (code, said) = run(&[&config, "stdio", "--token-file", path]);
    assert!(code == 1 && said.contains("countersign up"), "{said}");
    let (code, _) = run(&["stdio", "--token-file", path, url[0], url[1]]);
    assert_eq!(code, 0, "a client that says nothing and leaves is no failure");
}
