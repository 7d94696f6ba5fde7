//! Witnesses around a running gateway: the obligation, rollback and split view, the monitor, and a foreign witness.
//!
//! Everything runs as processes over HTTP. The table of the witness's decisions is in `receipt`, its durability in
//! `ledger`; here stands that the parts hold together.

#![expect(clippy::indexing_slicing, clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod support;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use countersign_model::record::Status;
use countersign_model::{Body, Record, Verdict};
use countersign_receipt::{Note, Receipt, WitnessKey};
use serde_json::{Value, json};
use support::agent::{Agent, End};
use support::log::copied;
use support::witness::{Place, configure};
use support::{Installation, Setup, until};

/// `put` goes out into the world only when a witness has seen its record.
const POLICY: &str = r#"
@id("everything-is-possible")
permit (principal, action in Action::"call", resource);

@id("witness-first")
@obligation("witness")
permit (principal, action in Action::"call", resource)
when { context.tool == "put" };
"#;

fn setup() -> Setup {
    let mut setup = Setup::lab();
    setup.policy = POLICY.to_owned();
    setup.budgets.push("{ scope: agent, calls: 3 }".to_owned());
    setup
}

/// An installation with a witness that runs.
async fn witnessed(timeout: &str) -> (Installation, Place, support::witness::Witness) {
    let setup = setup();
    let at = Installation::new(&setup);
    let place = Place::new();
    let witness = place.up(&at).await;
    configure(&at, &setup, (&place.url(), &witness.key()), timeout);
    (at, place, witness)
}

/// The witness cosigned the checkpoint of the receipt's first leaf.
fn cosigned(receipt: &str, key: &str) {
    let receipt = Receipt::parse(receipt).unwrap();
    let note = Note::parse(&receipt.proofs[0].proof.checkpoint).unwrap();
    WitnessKey::parse(key).unwrap().verify(&note).unwrap();
}

fn ran(end: &End) -> bool {
    matches!(end, End::Ran(_))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_obliged_call_runs_only_when_a_witness_has_seen_its_record() {
    let (at, place, witness) = witnessed("2s").await;
    let key = witness.key();
    let gateway = at.up().await;
    let agent = Agent::connect(&gateway.url, &at.token()).await;

    let up = agent.call("put", "first").await;
    assert!(ran(&up.end), "{up:?}");
    let receipt = up.receipt.unwrap();
    at.verified(&receipt);
    cosigned(&receipt, &key);
    at.write("receipt.json", &receipt);
    let file = at.path("receipt.json").display().to_string();
    let checked = at.run(&["log", "verify", &file, "--witness", &key]);
    assert_eq!(
        (checked.code, &checked.json()["cosigned"][0]["witness"]),
        (0, &json!("witness.test/w1")),
        "{checked:?}"
    );

    witness.down().await;
    for id in ["second", "third", "fourth"] {
        let down = agent.call("put", id).await;
        assert_eq!(down.denied(), "witness_unavailable", "{id}");
        let leaves = at.verified(&down.receipt.unwrap());
        let [Record { body: Body::Intent(intent), .. }, Record { body: Body::Outcome(outcome), .. }] = &leaves[..]
        else {
            panic!("an intent and an outcome: {leaves:?}");
        };
        assert!(matches!(intent.verdict, Verdict::Modify { .. }));
        assert_eq!((outcome.status, outcome.charged), (Status::NotStarted, 0));
    }
    // What nobody obliges goes on; and three denials cost nothing, or this would be the fifth call of three.
    assert!(ran(&agent.call("look", "meanwhile").await.end));
    let status = at.get("/status");
    assert!(status["witnesses"][0]["trouble"].is_string(), "{status}");

    let _witness = place.up(&at).await;
    until("the witness is asked again", &mut || at.get("/status")["witnesses"][0]["trouble"].is_null());
    let again = agent.call("put", "fifth").await;
    assert!(ran(&again.end), "{again:?}");
    assert_eq!(agent.call("look", "over").await.denied(), "budget_exhausted");
    assert_eq!(at.effects(), ["put first", "look meanwhile", "put fifth"]);
    gateway.stop().await;
    let published = at.read("ledger/public/checkpoint.witnessed");
    WitnessKey::parse(&key).unwrap().verify(&Note::parse(&published).unwrap()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_witness_that_nobody_configured_is_warned_of_before_calls_are_denied() {
    let setup = setup();
    let at = Installation::new(&setup);
    let checked = at.run(&["policy", "check"]);
    assert_eq!(checked.code, 0, "it is no error: {checked:?}");
    let warnings = checked.json()["warnings"].clone();
    let [warning] = warnings.as_array().unwrap().as_slice() else { panic!("{checked:?}") };
    for words in ["`witness-first`", "is denied", "`witnesses:`"] {
        assert!(warning.as_str().unwrap().contains(words), "{warning}");
    }
    let config = format!("--config={}", at.path("countersign.yaml").display());
    let people = support::run(&[&config, "policy", "check"]);
    assert!(people.stdout.contains("warning: policy `witness-first`"), "{people:?}");
    assert_eq!(at.owner(&["policy", "activate"])["warnings"], warnings);
    let gateway = at.up().await;
    assert_eq!(gateway.said["warnings"], warnings);
    let agent = Agent::connect(&gateway.url, &at.token()).await;
    assert_eq!(agent.call("put", "never").await.denied(), "witness_unavailable");
    gateway.stop().await;

    let (witnessed, _place, _witness) = witnessed("1s").await;
    assert_eq!(witnessed.run(&["policy", "check"]).json()["warnings"], json!([]));
    at.configure(&Setup::lab());
    assert_eq!(at.run(&["policy", "check"]).json()["warnings"], json!([]), "nothing demands one");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_wins_over_the_wait_for_a_witness() {
    let (at, _place, witness) = witnessed("60s").await;
    let gateway = at.up().await;
    let agent = Agent::connect(&gateway.url, &at.token()).await;
    witness.down().await;
    let call = tokio::spawn(async move { agent.call("put", "waits").await });
    let killed = tokio::task::block_in_place(|| {
        until("the call waits", &mut || at.get("/status")["size"].as_u64() > gateway.said["size"].as_u64());
        at.run(&["kill", "--all"])
    });
    assert_eq!(killed.code, 0, "{killed:?}");
    let waited = call.await.unwrap();
    assert!(!ran(&waited.end), "{waited:?}");
    assert!(at.effects().is_empty());
    gateway.stop().await;
    let records = at.records();
    let outcomes = records.iter().filter_map(|entry| match &entry.record.body {
        Body::Outcome(outcome) => Some(outcome.status),
        _ => None,
    });
    assert_eq!(outcomes.collect::<Vec<_>>(), [Status::NotStarted]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_witness_an_obliged_call_is_denied() {
    let at = Installation::new(&setup());
    let gateway = at.up().await;
    let agent = Agent::connect(&gateway.url, &at.token()).await;
    assert_eq!(agent.call("put", "x").await.denied(), "witness_unavailable");
    assert!(at.effects().is_empty());
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_and_a_split_view_refuse_the_start_by_name() {
    let (at, _place, _witness) = witnessed("10s").await;
    let backup = tempfile::tempdir().unwrap();
    let restored = |from: &str| {
        std::fs::remove_dir_all(at.path("ledger")).unwrap();
        copied(&backup.path().join(from), &at.path("ledger"));
    };
    copied(&at.path("ledger"), &backup.path().join("old"));
    let gateway = at.up().await;
    let agent = Agent::connect(&gateway.url, &at.token()).await;
    assert!(ran(&agent.call("put", "one").await.end));
    gateway.stop().await;
    copied(&at.path("ledger"), &backup.path().join("new"));

    restored("old");
    for _ in 0..3 {
        let refused = at.try_up().await.err().unwrap();
        assert_eq!(refused.code, 1);
        assert!(refused.error.contains("witness `w1`: rollback: it has seen"), "{}", refused.error);
    }

    // The same log, gone another way for longer than the witness has seen: without the witness nobody would notice.
    let honest = at.read("countersign.yaml");
    at.write("countersign.yaml", honest.split("witnesses:").next().unwrap());
    at.owner(&["policy", "activate"]);
    for _ in 0..8 {
        at.up().await.stop().await;
    }
    copied(&at.path("ledger"), &backup.path().join("fork"));
    at.write("countersign.yaml", &honest);
    let refused = at.try_up().await.err().unwrap();
    assert!(refused.error.contains("witness `w1`: split view"), "{}", refused.error);

    monitored(&at, backup.path());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_that_a_witness_finds_only_later_stops_every_call() {
    let (at, place, witness) = witnessed("10s").await;
    let backup = tempfile::tempdir().unwrap();
    copied(&at.path("ledger"), &backup.path().join("old"));
    let gateway = at.up().await;
    let agent = Agent::connect(&gateway.url, &at.token()).await;
    for id in ["one", "two", "three"] {
        assert!(ran(&agent.call("put", id).await.end));
    }
    gateway.stop().await;
    std::fs::remove_dir_all(at.path("ledger")).unwrap();
    copied(&backup.path().join("old"), &at.path("ledger"));

    witness.down().await;
    let gateway = at.up().await;
    let agent = Agent::connect(&gateway.url, &at.token()).await;
    assert!(ran(&agent.call("look", "before").await.end), "what nobody obliges goes on while it is away");
    assert_eq!(at.get("/status")["contradicted"], Value::Null);
    let _witness = place.up(&at).await;
    until("the witness is asked", &mut || at.get("/status")["contradicted"].is_string());
    let said = at.get("/status");
    let why = said["contradicted"].as_str().unwrap();
    assert!(why.starts_with("witness `w1`: rollback: it has seen") || why.contains("split view"), "{why}");
    let size = at.get("/status")["size"].clone();
    for tool in ["look", "put", "change"] {
        let denied = agent.call(tool, "after").await;
        assert_eq!(denied.denied(), "log_contradicted", "{tool}");
        assert!(denied.receipt.is_none(), "such a log does not grow");
    }
    assert_eq!(at.get("/status")["size"], size);
    assert_eq!(at.effects(), ["put one", "put two", "put three", "look before"]);
    gateway.stop().await;
    let refused = at.try_up().await.err().unwrap();
    assert!(refused.error.contains("witness `w1`: "), "{}", refused.error);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_witness_follows_a_change_of_the_logs_key_and_refuses_the_old_one() {
    let (at, place, witness) = witnessed("2s").await;
    let gateway = at.up().await;
    let agent = Agent::connect(&gateway.url, &at.token()).await;
    at.owner(&["log", "rotate-key"]);
    assert_eq!(agent.call("put", "untold").await.denied(), "witness_unavailable");
    let trouble = at.get("/status")["witnesses"][0]["trouble"].to_string();
    assert!(trouble.contains("`log.keys`"), "{trouble}");
    witness.down().await;
    let witness = place.up_for(&at.path("ledger/log.keys")).await;
    assert_eq!(witness.said["logs"].as_array().unwrap().len(), 1, "{}", witness.said);
    until("the witness is asked again", &mut || at.get("/status")["witnesses"][0]["trouble"].is_null());
    assert!(ran(&agent.call("put", "told").await.end));
    gateway.stop().await;
    witness.down().await;
    // Without the newest key it could not tell old from new.
    let old = at.path("ledger/log.vkey").display().to_string();
    let dir = place.path().display().to_string();
    let refused =
        at.run(&["witness", "--dir", &dir, "--name", "witness.test/w1", "--listen", "127.0.0.1:0", "--log", &old]);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.error().contains("give that key too"), "{refused:?}");
}

/// Two installations of one key that went two ways, seen by two parties.
fn monitored(at: &Installation, backup: &Path) {
    let public = |of: &str| backup.join(of).join("public").display().to_string();
    let evidence = at.path("evidence.json").display().to_string();
    let key = backup.join("new/log.vkey").display().to_string();
    let monitor = |a: &str, b: &str, more: &[&str]| {
        let args = ["log", "monitor", "--a", a, "--b", b, "--key", &key, "--evidence", &evidence];
        at.run(&[&args[..], more].concat())
    };
    let check = || at.run(&["log", "evidence", &evidence, "--key", &key]);

    let grown = monitor(&public("old"), &public("new"), &["--in-order"]);
    assert_eq!((grown.code, &grown.json()["found"]), (0, &json!("consistent")), "{grown:?}");
    assert_eq!(monitor(&public("new"), &public("old"), &[]).code, 0, "nobody said which came first");
    assert!(!Path::new(&evidence).exists());

    let back = monitor(&public("new"), &public("old"), &["--in-order"]);
    assert_eq!(back.code, 5, "{back:?}");
    assert!(back.error().starts_with("rollback: "), "{back:?}");
    assert_eq!(check().json()["shows"], "rollback");

    let split = monitor(&public("new"), &public("fork"), &[]);
    assert_eq!(split.code, 5, "{split:?}");
    assert!(split.error().starts_with("split view: "), "{split:?}");
    assert_eq!(check().json()["shows"], "split_view");
    let text = std::fs::read_to_string(&evidence).unwrap();
    std::fs::write(&evidence, text.replace("split_view", "rollback")).unwrap();
    assert_eq!(check().code, 5);
}

/// A witness that others wrote cosigns our checkpoints, and we check what it says.
#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_witness_cosigns_and_finds_a_rollback() {
    let Some(program) = foreign() else { return };
    let setup = setup();
    let at = Installation::new(&setup);
    let foreign = Foreign::start(&program, &at);
    configure(&at, &setup, (&foreign.url, &foreign.key), "20s");
    copied(&at.path("ledger"), &at.path("old"));
    let gateway = at.up().await;
    let agent = Agent::connect(&gateway.url, &at.token()).await;
    for id in ["one", "two"] {
        let call = agent.call("put", id).await;
        assert!(ran(&call.end), "{call:?}");
        cosigned(&call.receipt.unwrap(), &foreign.key);
    }
    gateway.stop().await;
    std::fs::rename(at.path("ledger"), at.path("newest")).unwrap();
    copied(&at.path("old"), &at.path("ledger"));
    let refused = at.try_up().await.err().unwrap();
    assert!(refused.error.contains("witness `w1`: rollback"), "{}", refused.error);
}

/// `aics-witness` of the lab; `None` only where somebody said that it may be left out.
fn foreign() -> Option<PathBuf> {
    if std::env::var_os("COUNTERSIGN_WITHOUT_WITNESS").is_some_and(|set| set == "1") {
        println!("SKIPPED: COUNTERSIGN_WITHOUT_WITNESS=1 says that no foreign witness is to be had here");
        return None;
    }
    let lab = std::env::var_os("COUNTERSIGN_LAB").filter(|folder| !folder.is_empty());
    if lab.is_none() && std::env::var_os("COUNTERSIGN_WITHOUT_LAB").is_some_and(|set| set == "1") {
        println!("SKIPPED: there is no lab, and COUNTERSIGN_WITHOUT_LAB=1 says that this is meant");
        return None;
    }
    assert!(lab.is_some(), "COUNTERSIGN_LAB is not set: run `cargo xtask lab` and set what it prints");
    let program = Path::new(&lab?).join("bin/aics-witness");
    assert!(
        program.is_file(),
        "no `aics-witness` in the lab: it needs Python 3.12 or later; install one and run `cargo xtask lab`, or set \
         COUNTERSIGN_WITHOUT_WITNESS=1 to leave this test out"
    );
    Some(program)
}

struct Foreign {
    child: Child,
    url: String,
    key: String,
    _folder: tempfile::TempDir,
}

impl Foreign {
    fn start(program: &Path, at: &Installation) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let listen = free.local_addr().unwrap().to_string();
        drop(free);
        let run = |args: &[&str]| {
            let done = Command::new(program).current_dir(folder.path()).args(args).output().unwrap();
            assert!(done.status.success(), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
            String::from_utf8(done.stdout).unwrap()
        };
        run(&["init", "--name", "foreign.test/w1", "--listen", &listen]);
        run(&["add-log", "--origin", &at.origin, "--vkey", at.read("ledger/log.vkey").trim()]);
        let status: Value = serde_json::from_str(&run(&["status", "--json"])).unwrap();
        let key = status["witness"]["vkey"].as_str().unwrap().to_owned();
        let child = Command::new(program)
            .current_dir(folder.path())
            .arg("serve")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let witness = Self { child, url: format!("http://{listen}"), key, _folder: folder };
        until("the witness listens", &mut || {
            std::thread::sleep(Duration::from_millis(50));
            std::net::TcpStream::connect(&listen).is_ok()
        });
        witness
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
