//! The command line: exit codes, what is said of bad input, and the demo from its start to its end.
//!
//! Every error names the thing that is wrong and what to do about it, and `--json` makes it one object.

#![expect(clippy::indexing_slicing, clippy::unwrap_used, reason = "helpers of tests fail the test")]

#[path = "cli/proofs.rs"]
mod proofs;
mod support;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign_ledger::{RealDisk, verify};
use countersign_receipt::{CoseReceipt, VerifierKey};
use serde_json::{Value, json};
use support::agent::{Agent, End};
use support::{AGENT, Installation, OWNER, PASSPHRASE, PROGRAM, Ran, Setup, pty, run};

/// Fails unless the command ended with `code` and one object whose `error` holds all of `words`.
fn check(ran: &Ran, code: i32, words: &[&str]) {
    assert_eq!(ran.code, code, "{ran:?}");
    let said = ran.json();
    assert_eq!(said["exit"], code, "{said}");
    let error = ran.error();
    for word in words {
        assert!(error.contains(word), "`{word}` is not in: {error}");
    }
}

const NEW: &str = "new passphrase for owner's key: ";
const AGAIN: &str = "the same again: ";

#[test]
fn what_clap_refuses_is_an_object_too() {
    check(&run(&["--json", "aprove"]), 2, &["aprove", "--help"]);
    check(&run(&["--json", "kill", "--agent", "a", "--run", "b"]), 2, &["--agent", "--run"]);
    check(&run(&["--json"]), 2, &[]);
    check(&run(&["--json", "log", "show", "th ree"]), 2, &["th ree", "record's index"]);
    let plain = run(&["aprove"]);
    assert_eq!((plain.code, &*plain.stdout), (2, ""), "{plain:?}");
    assert!(plain.stderr.contains("error: unrecognized subcommand 'aprove'"), "{plain:?}");
    let help = run(&["--json", "--help"]);
    assert_eq!(help.code, 0, "{help:?}");
    assert!(help.stdout.contains("Exit codes: 0 done"), "{help:?}");
}

/// As the book says it: in the installation's folder, with no `--config` at all.
#[test]
fn up_runs_in_the_folder_of_its_configuration() {
    let made = Installation::new(&Setup::lab());
    let mut up = Command::new(PROGRAM)
        .args(["--json", "up"])
        .current_dir(made.root())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(up.stdout.take().unwrap()).read_line(&mut line).unwrap();
    up.kill().unwrap();
    up.wait().unwrap();
    let said: Value = serde_json::from_str(&line).unwrap();
    assert!(said["url"].as_str().is_some_and(|url| url.ends_with("/mcp")), "{said}");
}

#[test]
fn without_an_installation_commands_say_how_to_make_one() {
    let folder = tempfile::tempdir().unwrap();
    let config = format!("--config={}", folder.path().join("countersign.yaml").display());
    let ran = |args: &[&str]| run(&[&["--json", &*config], args].concat());
    let init = "countersign init";
    check(&ran(&["up"]), 2, &["countersign.yaml", init]);
    check(&ran(&["policy", "check"]), 2, &["countersign.yaml", init]);
    check(&ran(&["log", "tail"]), 1, &["ledger", init]);
    check(&ran(&["approvals", "list"]), 1, &["admin.sock", "countersign up"]);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "something was written");
}

#[test]
fn init_writes_nothing_before_it_knows_all() {
    let folder = tempfile::tempdir().unwrap();
    let inside = folder.path().join("new");
    let root = inside.display().to_string();
    let init = ["--json", "init", &root];
    check(&run(&init), 1, &["terminal"]);
    check(&pty::run(PROGRAM.as_ref(), &init, &[(NEW, PASSPHRASE), (AGAIN, "another one")]), 2, &["differ"]);
    check(&pty::run(PROGRAM.as_ref(), &init, &[(NEW, "short"), (AGAIN, "short")]), 2, &["8 characters", "longer"]);
    check(&run(&["--json", "init", &root, "--agent", "no spaces"]), 2, &["no spaces"]);
    check(&run(&["--json", "init", &root, "--human", "../owner"]), 2, &["../owner"]);
    let long = format!("{root}/{}", "x".repeat(100));
    check(&run(&["--json", "init", &long]), 2, &["admin.sock", "107", "shorter path"]);
    assert!(!inside.exists(), "something was written");

    let ran = pty::run(PROGRAM.as_ref(), &init, &[(NEW, PASSPHRASE), (AGAIN, PASSPHRASE)]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(ran.json()["human"], OWNER);
    assert!(!ran.screen.contains(PASSPHRASE) && !ran.stdout.contains(PASSPHRASE), "the passphrase is shown");
    for secret in
        ["keys", "keys/owner.key.pem", "keys/token.key", "tokens/agent.token", "ledger/log.key", "ledger/vault/keys"]
    {
        let mode = std::os::unix::fs::MetadataExt::mode(&fs::metadata(inside.join(secret)).unwrap());
        assert_eq!(mode & 0o077, 0, "others can open `{secret}`");
    }
    let before = fs::read(inside.join("countersign.yaml")).unwrap();
    check(&run(&init), 2, &["is there already", "choose another folder"]);
    assert_eq!(fs::read(inside.join("countersign.yaml")).unwrap(), before);
}

#[test]
fn a_wrong_configuration_is_named_by_its_key() {
    let at = Installation::new(&Setup::lab());
    let good = at.read("countersign.yaml");
    assert_eq!(at.run(&["policy", "check"]).json()["acceptance_found"], true);
    let wrong = |from: &str, to: &str, words: &[&str]| {
        assert!(good.contains(from), "`{from}` is not in the configuration");
        at.write("countersign.yaml", &good.replace(from, to));
        check(&at.run(&["policy", "check"]), 2, words);
        check(&at.run(&["up"]), 2, words);
    };
    wrong("version: 1", "version: 1\ncolour: blue", &["countersign.yaml", "colour"]);
    wrong("version: 1", "version: 2", &["`version: 2` is not known", "`version: 1`"]);
    wrong("[policy.cedar]", "[gone.cedar]", &["cannot read the policy file", "gone.cedar"]);
    wrong("[policy.cedar]", "[]", &["`policy` names no file", "name at least one"]);
    wrong("127.0.0.1:0", "nowhere", &["`listen: nowhere` is no address", "such as `127.0.0.1:7411`"]);
    wrong("127.0.0.1:0", "0.0.0.0:7411", &["not a loopback address", "put a TLS proxy in front"]);
    wrong("budgets: []", "budgets: [{ scope: galaxy, calls: 1 }]", &["scope: galaxy", "use run, session, agent"]);
    wrong("budgets: []", "budgets: [{ scope: run, calls: 1, window: soon }]", &["`soon` is no duration", "`15m`"]);
    wrong("budgets: []", "budgets: [{ scope: run, calls: 1, agents: [nobody] }]", &["`nobody`", "not in `agents`"]);
    wrong("id: plain", "id: sql.oracle", &["tool `", "oracle", "sqlite"]);
    wrong("id: plain", "id: magic", &["tool `", "no kind of argument", "use one of plain"]);
    wrong("effect: read", "effect: nice", &["tool `look`", "nice"]);
    wrong("command: [", "url: \"http://localhost\"\n    command: [", &["`lab`", "either a `command`", "or a `url`"]);
    wrong("id: alpha", "id: \"al pha\"", &["agents", "al pha"]);
    at.write("countersign.yaml", &good);
    at.write("policy.cedar", "@id(\"a\") permit (principal, action, resource) when { context.efect == \"read\" };");
    check(&at.run(&["policy", "check"]), 2, &["policy.cedar", "efect"]);
    at.write("policy.cedar", "permit (");
    check(&at.run(&["policy", "check"]), 2, &["policy.cedar"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_keeps_a_gateway_from_starting_is_named() {
    let at = Installation::new(&Setup::lab());
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let listening = |upstream: &Setup, listen: &str| {
        at.configure(upstream);
        at.write("countersign.yaml", &at.read("countersign.yaml").replace("127.0.0.1:0", listen));
        at.owner(&["policy", "activate"]);
    };
    listening(&Setup::lab(), &address);
    check(&at.run(&["up"]), 1, &["cannot listen on", &address, "another gateway"]);
    listening(&Setup::command(&["./no-such-server"]), "127.0.0.1:0");
    check(&at.run(&["up"]), 1, &["upstream `lab`", "no-such-server", "does not start", "check its `command"]);
    listening(&Setup::command(&["true"]), "127.0.0.1:0");
    check(&at.run(&["up"]), 1, &["upstream `lab`", "`command: true`"]);
    listening(&Setup::url("http://127.0.0.1:1/mcp"), "127.0.0.1:0");
    check(&at.run(&["up"]), 1, &["upstream `lab`", "http://127.0.0.1:1/mcp", "check its `url"]);
    listening(&Setup::lab(), "127.0.0.1:0");

    unwritable(&at, &at.path("ledger/segments"));
    let (key, aside) = (at.path("ledger/log.key"), at.path("log.key"));
    fs::rename(&key, &aside).unwrap();
    check(&at.run(&["up"]), 1, &["holds no ledger", "log.key", "restore"]);
    fs::rename(&aside, &key).unwrap();

    let gateway = at.up().await;
    check(&at.run(&["up"]), 1, &["in use by another process", "stop that process first"]);
    // The second start must not have taken anything from the first.
    assert_eq!(at.run(&["approvals", "list"]).json(), json!({"waiting": []}));
    assert_eq!(at.run(&["kill", "--all"]).json()["recorded"], true);
    gateway.stop().await;
}

/// The folder's contents are there and it takes no file: as root only something else in its place does that.
fn unwritable(at: &Installation, folder: &Path) {
    let aside = at.path("aside");
    fs::rename(folder, &aside).unwrap();
    fs::write(folder, "").unwrap();
    check(&at.run(&["up"]), 1, &["ledger/segments", "failed"]);
    fs::remove_file(folder).unwrap();
    fs::rename(&aside, folder).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_to_a_gateway_say_what_is_wrong() {
    let at = Installation::new(&Setup::lab());
    let pass = [("passphrase for owner's key: ", PASSPHRASE)];
    let none = ["no gateway answers", "countersign up"];
    check(&at.run(&["approvals", "list"]), 1, &none);
    check(&at.run(&["approvals", "approve", "t-0000000000"]), 1, &none);
    check(&at.at_terminal(&["token", "issue", AGENT], &pass), 1, &none);
    check(&at.run(&["log", "receipt", "3"]), 1, &["running gateway", "countersign up"]);
    check(&at.run(&["log", "show", "9999"]), 1, &["`9999`", "is not in a log of"]);

    let gateway = at.up().await;
    check(&at.run(&["approvals", "show", "t-0000000000"]), 1, &["nothing waits under", "approvals list"]);
    check(&at.run(&["approvals", "show", "../x"]), 2, &["../x"]);
    check(&at.run(&["log", "show", "9999"]), 1, &["`9999`", "is not in a log of"]);
    check(&at.run(&["log", "receipt", "0"]), 1, &["`0`", "started", "log tail"]);
    check(&at.run(&["resume"]), 2, &["--all", "--agent", "exactly as it was killed"]);
    check(&at.run(&["freeze", "production", "--for", "ages"]), 2, &["`ages` is no duration", "`15m`"]);
    check(&at.run(&["token", "issue", AGENT, "--as", "nobody"]), 2, &["no key of `nobody`", "nobody.key.pem", "--as"]);
    check(&at.at_terminal(&["token", "issue", "stranger"], &pass), 3, &["`stranger`", "configuration"]);
    check(&at.at_terminal(&["resume", "--all"], &pass), 3, &["not killed"]);
    check(&at.at_terminal(&["thaw", "production"], &pass), 3, &["`production` is not frozen"]);

    let agent = Agent::connect(&gateway.url, &at.token()).await;
    let ticket = agent.call("change", "one").await.ticket();
    let listed = at.run(&["approvals", "list"]);
    assert_eq!((listed.code, &listed.json()["waiting"][0]["ticket"]), (4, &json!(ticket)));
    assert_eq!(at.run(&["approvals", "show", &ticket]).code, 4);
    at.approve(&ticket);
    let listed = at.run(&["approvals", "list"]);
    assert_eq!((listed.code, listed.json()), (0, json!({"waiting": []})), "what was answered waits no more");
    assert_eq!(agent.call("change", "one").await.end, End::Ran("done".to_owned()));
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn receipts_and_ledgers_that_do_not_verify_are_code_five() {
    let at = Installation::new(&Setup::lab());
    let other = Installation::new(&Setup::lab());
    let gateway = at.up().await;
    let agent = Agent::connect(&gateway.url, &at.token()).await;
    let receipt = agent.call("put", "one").await.receipt.unwrap();
    at.write("receipt.json", &receipt);
    at.write("garbage.json", "{\"countersign_receipt\": 1}");
    at.write("altered.json", &altered(&receipt));
    let path = |name: &str| at.path(name).display().to_string();
    let key = other.path("ledger/log.vkey").display().to_string();

    let good = at.run(&["log", "verify", &path("receipt.json")]);
    assert_eq!(good.code, 0, "{good:?}");
    let kinds: Vec<_> = good.json()["records"].as_array().unwrap().iter().map(|r| r["kind"].clone()).collect();
    assert_eq!(kinds, ["intent", "outcome"]);
    check(&at.run(&["log", "verify", &path("garbage.json")]), 5, &["garbage.json", "no receipt"]);
    check(&at.run(&["log", "verify", &path("altered.json")]), 5, &["altered.json"]);
    // Proofs hold whatever the roles say: only the records themselves can contradict them.
    for (from, to) in [("intent", "decision"), ("intent", "outcome"), ("outcome", "decision")] {
        at.write("role.json", &receipt.replacen(&format!("\"role\":\"{from}\""), &format!("\"role\":\"{to}\""), 1));
        let said = ["role.json", &format!("is a `{from}`"), "not what the receipt says"];
        check(&at.run(&["log", "verify", &path("role.json")]), 5, &said);
    }
    check(&at.run(&["log", "verify", &path("receipt.json"), "--key", &key]), 5, &["receipt.json", "is of log"]);
    cose_receipts(&at, kinds_at(&good), &key);
    disclosures(&at, &kinds_at(&good), &key);
    check(&at.run(&["log", "verify", &path("gone.json")]), 2, &["cannot read", "gone.json"]);
    check(&at.run(&["log", "verify", &path("receipt.json"), "--key", "rubbish"]), 2, &["rubbish", "verifier key"]);
    gateway.stop().await;
    assert_eq!(at.run(&["log", "verify"]).json()["verified"], true);
    check(&at.run(&["log", "verify", "--key", &key]), 5, &["ledger"]);
}

/// The indexes of what was verified, with their kinds.
fn kinds_at(verified: &Ran) -> Vec<(u64, String)> {
    let records = verified.json()["records"].as_array().unwrap().clone();
    records.iter().map(|r| (r["index"].as_u64().unwrap(), r["kind"].as_str().unwrap().to_owned())).collect()
}

/// One field of a call: shown, verified, and refused once anything is another.
fn disclosures(at: &Installation, records: &[(u64, String)], foreign: &str) {
    let path = |name: &str| at.path(name).display().to_string();
    let (intent, outcome) = (records[0].0.to_string(), records[1].0.to_string());
    let made = at.run(&["log", "disclose", &intent, "--field", "id", "--out", &path("field.json")]);
    assert_eq!((made.code, &made.json()["shown"]), (0, &json!(1)), "{made:?}");
    let good = at.run(&["log", "verify", &path("field.json")]);
    assert_eq!(
        (good.code, &good.json()["fields"]),
        (0, &json!([{"kind": "member", "name": "id", "value": "\"one\""}]))
    );
    assert_eq!(good.json()["record"]["kind"], "intent");
    let text = std::fs::read_to_string(at.path("field.json")).unwrap();
    at.write("lie.json", &text.replace("\\\"one\\\"", "\\\"two\\\""));
    check(
        &at.run(&["log", "verify", &path("lie.json")]),
        5,
        &["lie.json", "field `id` is not what the leaf commits to"],
    );
    check(&at.run(&["log", "verify", &path("field.json"), "--key", foreign]), 5, &["field.json", "is of log"]);
    at.write("cut.json", &text[..text.len() / 2]);
    check(&at.run(&["log", "verify", &path("cut.json")]), 5, &["cut.json", "not well-formed"]);
    // It holds arguments: its owner's alone, and it takes no other file's place.
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(path("field.json")).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let over = at.run(&["log", "disclose", &intent, "--all", "--out", &path("field.json")]);
    check(&over, 1, &["field.json", "not overwritten"]);
    check(&at.run(&["log", "disclose", &intent, "--field", "none"]), 1, &["no field `none`", "log show"]);
    check(&at.run(&["log", "disclose", &intent]), 2, &["--field"]);
    check(&at.run(&["log", "disclose", &outcome, "--all"]), 1, &["outcome"]);
}

/// Each record of a call as a COSE Receipt: written, verified, and refused once a byte or the key is another.
fn cose_receipts(at: &Installation, records: Vec<(u64, String)>, foreign: &str) {
    let path = |name: &str| at.path(name).display().to_string();
    for (index, kind) in records {
        let index = index.to_string();
        let file = path("receipt.cose");
        assert_eq!(at.run(&["log", "receipt", &index, "--cose", "--out", &file]).code, 0);
        let verified = at.run(&["log", "verify", &file]);
        assert_eq!(verified.code, 0, "{verified:?}");
        let said = verified.json();
        assert_eq!((&said["form"], &said["records"][0]["kind"]), (&json!("cose"), &json!(kind)));
        assert_eq!(said["records"][0]["index"].to_string(), index);
        let mut bytes = fs::read(&file).unwrap();
        let printed = at.run(&["log", "receipt", &index, "--cose"]).json()["cose"].as_str().map(str::to_owned);
        // The log may have grown between the two: the leaf, at least, is the same.
        let printed = CoseReceipt::parse(&STANDARD.decode(printed.unwrap()).unwrap()).unwrap();
        assert_eq!(printed.leaf, CoseReceipt::parse(&bytes).unwrap().leaf);
        check(&at.run(&["log", "verify", &file, "--key", foreign]), 5, &["receipt.cose", "is of key"]);
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&file, bytes).unwrap();
        check(&at.run(&["log", "verify", &file]), 5, &["receipt.cose"]);
    }
    check(&at.run(&["log", "receipt", "9999", "--cose"]), 1, &["`9999`", "is not in a log of"]);
}

/// A receipt whose first leaf says something else by one bit.
fn altered(receipt: &str) -> String {
    let mut receipt: Value = serde_json::from_str(receipt).unwrap();
    let leaf = receipt.pointer_mut("/proofs/0/leaf").unwrap();
    let mut bytes = STANDARD.decode(leaf.as_str().unwrap()).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    *leaf = STANDARD.encode(bytes).into();
    receipt.to_string()
}

/// The demo as a newcomer runs it, with what it leaves behind.
#[test]
fn the_demo_plays_to_its_end_and_its_log_verifies() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("demo");
    let ended =
        Command::new(PROGRAM).args(["--json", "demo", "--dir"]).arg(&dir).stdin(Stdio::null()).output().unwrap();
    let (stdout, stderr) = (String::from_utf8(ended.stdout).unwrap(), String::from_utf8(ended.stderr).unwrap());
    assert!(ended.status.success(), "{stdout}{stderr}");
    let tally: Value = serde_json::from_str(stdout.lines().last().unwrap()).unwrap();
    let number = |name: &str| tally[name].as_u64().unwrap();
    assert_eq!(number("rows_before") - number("rows_after"), number("rows_consented"), "{tally}");
    assert_eq!(number("rows_consented"), 12);
    assert_eq!(number("receipts"), number("receipts_verified"));
    assert!(
        number("receipts") > 0 && number("denied") > 0 && number("parked") > 0 && number("cancelled") > 0,
        "{tally}"
    );

    let vkey = dir.join("ledger/log.vkey");
    let key = VerifierKey::parse(fs::read_to_string(&vkey).unwrap().trim()).unwrap();
    verify::walk_public(&RealDisk, &dir.join("ledger/public"), &key, |_, _| ()).unwrap();
    let config = format!("--config={}", dir.join("countersign.yaml").display());
    let verified = run(&["--json", &config, "log", "verify", "--key", &vkey.display().to_string()]);
    assert_eq!((verified.code, &verified.json()["verified"]), (0, &json!(true)), "{verified:?}");
    let receipts = fs::read_dir(dir.join("receipts")).unwrap();
    for receipt in receipts.map(|entry| entry.unwrap().path().display().to_string()) {
        assert_eq!(run(&["--json", &config, "log", "verify", &receipt]).code, 0, "{receipt}");
    }
    check(&run(&["--json", "demo", "--dir", &dir.display().to_string()]), 2, &["is there already", "remove it"]);
}
