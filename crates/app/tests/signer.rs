//! The signer as a process: it is killed, stopped and started anew while a gateway runs, and changes its key.

#![expect(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod support;
#[path = "signer/token.rs"]
mod token;

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use support::agent::{Agent, End};
use support::{Installation, PROGRAM, Setup};

/// A signer; dropping it kills it.
struct Signer {
    child: Child,
    said: Value,
}

impl Signer {
    fn start(at: &Installation) -> Self {
        Self::spawn(&mut Self::command(at))
    }

    fn command(at: &Installation) -> Command {
        let mut command = Command::new(PROGRAM);
        command.args(["--json", "signer", "--dir"]).arg(at.path("signer")).arg("--socket").arg(at.path("signer.sock"));
        command
    }

    fn spawn(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { said: serde_json::from_str(&line).unwrap(), child }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap(), signal).unwrap();
    }
}

impl Drop for Signer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn separated() -> Installation {
    let setup = Setup::lab();
    let at = Installation::new(&setup);
    let (dir, ledger) = (at.path("signer"), at.path("ledger"));
    let args = ["--json", "signer", "--dir", dir.to_str().unwrap(), "--take-key", ledger.to_str().unwrap()];
    let moved = support::run(&args);
    assert_eq!(moved.code, 0, "{moved:?}");
    assert_eq!(moved.json()["key"], at.read("ledger/log.vkey").trim());
    assert!(!at.path("ledger/log.key").exists());
    assert_ne!(support::run(&args).code, 0, "a key cannot be taken twice");
    let config = at.read("countersign.yaml");
    at.write("countersign.yaml", &format!("{config}ledger: {{ signer: \"unix:signer.sock\" }}\n"));
    at.owner(&["policy", "activate"]);
    at
}

/// Calls until it is let in again.
async fn served_again(agent: &Agent, id: &str) -> String {
    for turn in 0..200 {
        let seen = agent.call("put", &format!("{id}-{turn}")).await;
        if matches!(seen.end, End::Ran(_)) {
            return seen.receipt.unwrap();
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("service does not return");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_or_stopped_signer_denies_and_its_return_serves() {
    let at = separated();
    let refused = at.try_up().await.err().unwrap();
    assert!(refused.code == 1 && refused.error.contains("countersign signer"), "{refused:?}");
    let mut signer = Signer::start(&at);
    let gateway = at.up().await;
    // One user owns both here, and the gateway does not pretend anything else.
    assert_eq!(gateway.said["profile"], "same_user");
    let agent = Agent::connect(&gateway.url, &at.token()).await;
    served_again(&agent, "before").await;
    for turn in 0..3 {
        drop(signer);
        let seen = agent.call("put", &format!("dead-{turn}")).await;
        assert_eq!(seen.denied(), "signer_unavailable");
        signer = Signer::start(&at);
        assert!(signer.said["confirmed"].as_u64().unwrap() > 3, "{:?}", signer.said);
        served_again(&agent, &format!("back-{turn}")).await;
    }
    signer.signal(Signal::STOP);
    assert_eq!(agent.call("put", "slow").await.denied(), "signer_unavailable");
    signer.signal(Signal::CONT);
    served_again(&agent, "awake").await;
    gateway.crash().await;
    let gateway = at.up().await;
    gateway.stop().await;
    at.upstreams_ended();
    drop(signer);
    // Reading needs no signer.
    let verified = at.run(&["log", "verify"]);
    assert_eq!(verified.code, 0, "{verified:?}");
    assert_eq!(at.run(&["log", "tail"]).code, 0);
    let refused: Vec<_> = at.effects().into_iter().filter(|id| id.contains("dead") || id.contains("slow")).collect();
    assert!(refused.is_empty(), "ran without a signed intent: {refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_key_is_followed_by_whoever_has_the_list() {
    let at = separated();
    let signer = Signer::start(&at);
    let gateway = at.up().await;
    let agent = Agent::connect(&gateway.url, &at.token()).await;
    at.write("old.json", &served_again(&agent, "old").await);
    let changed = at.owner(&["log", "rotate-key"]);
    assert_ne!(changed["key"], signer.said["key"]);
    at.write("new.json", &served_again(&agent, "new").await);
    gateway.stop().await;
    at.upstreams_ended();
    drop(signer);
    assert_eq!(Signer::start(&at).said["key"], changed["key"]);
    let old = at.path("ledger/log.vkey").display().to_string();
    let keys = at.path("ledger/public/log.keys").display().to_string();
    let verify = |receipt: &str, more: &[&str]| {
        let file = at.path(receipt).display().to_string();
        at.run(&[&["log", "verify", file.as_str()], more].concat())
    };
    let new = changed["key"].as_str().unwrap();
    for (receipt, more, code) in [
        ("old.json", vec!["--key", old.as_str()], 0),
        ("old.json", vec!["--key", &old, "--keys", &keys], 0),
        ("new.json", vec!["--key", &old, "--keys", &keys], 0),
        ("new.json", vec!["--key", new], 0),
        ("new.json", vec![], 0),
        ("new.json", vec!["--key", &old], 5),
        ("old.json", vec!["--key", new], 5),
    ] {
        let ran = verify(receipt, &more);
        assert_eq!(ran.code, code, "{receipt} {more:?}: {ran:?}");
    }
    let without = verify("new.json", &["--key", &old]);
    assert!(without.error().contains("log.keys"), "{without:?}");
    assert_eq!(at.run(&["log", "verify", "--key", &old]).code, 0);
    let tail = at.run(&["log", "tail", "-n", "50"]).json();
    let kinds: Vec<_> = tail["records"].as_array().unwrap().iter().map(|record| record["kind"].clone()).collect();
    assert!(kinds.iter().any(|kind| kind == "key_rotated"), "{kinds:?}");
}
