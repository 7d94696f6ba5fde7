//! An agent that runs as the same user and can read and write the installation's folder plays foul.
//!
//! After every attempt nothing has reached the upstream, and the log says what was refused where the pipeline saw it.
//! What such an agent can do in the profile `same user` is not tested as if it could not: it can stop the gateway,
//! destroy files, and put the whole folder back to an older state, which only receipts kept elsewhere would show.

#![expect(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use biscuit_auth::UnverifiedBiscuit;
use biscuit_auth::builder::{BlockBuilder, fact, string};
use countersign_model::Digest;
use countersign_model::command::{Deed, Signed};
use countersign_model::record::KillScope;
use countersign_model::{Body, from_canonical, to_canonical};
use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::EncodePrivateKey as _;
use pkcs8::pkcs5::{pbes2, scrypt};
use serde_json::{Value, json};
use support::admin::{Reply, post_mcp};
use support::agent::{Agent, End};
use support::human::Human;
use support::log::copied;
use support::{Installation, OWNER, PASSPHRASE, POLICY, Setup};

const HOUR_MS: u64 = 3_600_000;
const OWN_PHRASE: &str = "my own passphrase";
const PROMPT: &str = "passphrase for owner's key: ";

/// A key that the agent made for itself, in the form of a human's.
fn own_key() -> (SigningKey, String) {
    let key = SigningKey::from_bytes(&[7; 32]);
    let params = scrypt::Params::new(4, 8, 1, 32).unwrap();
    let sealing = pbes2::Parameters::scrypt_aes256cbc(params, &[1; 16], &[2; 16]).unwrap();
    let plain = key.to_pkcs8_der().unwrap();
    let info = pkcs8::PrivateKeyInfo::try_from(plain.as_bytes()).unwrap();
    let sealed = info.encrypt_with_params(sealing, OWN_PHRASE).unwrap();
    (key, sealed.to_pem("ENCRYPTED PRIVATE KEY", pkcs8::LineEnding::LF).unwrap().to_string())
}

fn mallory(at: &Installation, name: &str) -> Human {
    Human { name: name.to_owned(), key: own_key().0, origin: at.origin.clone() }
}

fn is_refused(reply: &Reply) {
    assert!((400..500).contains(&reply.status), "{reply:?}");
    assert!(reply.body["token"].is_null(), "{reply:?}");
}

fn done() -> End {
    End::Ran("done".to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn consent_cannot_be_given_without_the_owners_passphrase() {
    let at = Installation::new(&Setup::lab());
    let gateway = at.up().await;
    let agent = Agent::connect(&gateway.url, &at.token()).await;
    let ticket = agent.call("change", "wanted").await.ticket();
    let approve = ["approvals", "approve", &ticket];

    let ran = at.run(&approve);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.error().contains("terminal"), "{}", ran.error());
    let ran = at.at_terminal(&approve, &[(PROMPT, "a wrong passphrase")]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(!ran.screen.contains("a wrong passphrase"), "a passphrase is shown: {}", ran.screen);

    // A key of its own under a name of its own, then in the owner's place.
    let (_, pem) = own_key();
    at.write("keys/mallory.key.pem", &pem);
    let as_mallory = ["approvals", "approve", &ticket, "--as", "mallory"];
    let ran = at.at_terminal(&as_mallory, &[("passphrase for mallory's key: ", OWN_PHRASE)]);
    assert_eq!(ran.code, 3, "{ran:?}");
    assert!(ran.error().contains("`mallory` is not enrolled"), "{}", ran.error());
    let kept = at.read("keys/owner.key.pem");
    at.write("keys/owner.key.pem", &pem);
    let ran = at.at_terminal(&approve, &[(PROMPT, OWN_PHRASE)]);
    assert_eq!(ran.code, 3, "{ran:?}");
    assert!(ran.error().contains("is not `owner`'s"), "{}", ran.error());
    at.write("keys/owner.key.pem", &kept);

    assert_eq!(agent.call("change", "wanted").await.ticket(), ticket);
    assert_eq!(at.effects(), Vec::<String>::new());
    at.approve(&ticket);
    assert_eq!(agent.call("change", "wanted").await.end, done());
    gateway.stop().await;
    assert_eq!(at.effects(), ["change wanted"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_counts_once_and_for_what_it_signed() {
    let at = Installation::new(&Setup::lab());
    let owner = Human::owner(&at);
    let gateway = at.up().await;
    let agent = Agent::connect(&gateway.url, &at.token()).await;
    let (one, two) = (agent.call("change", "one").await.ticket(), agent.call("change", "two").await.ticket());
    let (to_one, to_two) = (format!("/approvals/{one}"), format!("/approvals/{two}"));
    let (leaf_one, leaf_two) = (at.leaf_hash(&one), at.leaf_hash(&two));
    let consent = owner.consent(&leaf_one, true);

    is_refused(&at.post(&to_two, &consent));
    is_refused(&at.post(&to_one, &with(&consent, "approved", json!(false))));
    is_refused(&at.post(&to_one, &with(&consent, "human", json!("mallory"))));
    is_refused(&at.post(&to_one, &with(&consent, "signature", json!(""))));
    is_refused(&at.post(&to_one, &with(&consent, "force", json!(true))));
    is_refused(&at.post(&to_one, &owner.consent(&Digest([0; 32]), true)));
    is_refused(&at.post(&to_one, &mallory(&at, OWNER).consent(&leaf_one, true)));
    let of_another_log = Human { origin: "countersign.local/00000000".to_owned(), ..Human::owner(&at) };
    is_refused(&at.post(&to_one, &of_another_log.consent(&leaf_one, true)));
    for body in ["", "{}", "null", "[]", "{\"human\":", "\u{0}"] {
        is_refused(&at.admin("POST", &to_one, body.as_bytes()));
    }
    is_refused(&at.admin("POST", &to_one, &vec![b' '; 1 << 20]));
    assert_eq!(agent.call("change", "one").await.ticket(), one);
    assert_eq!(at.effects(), Vec::<String>::new());

    assert_eq!(at.post(&to_two, &owner.consent(&leaf_two, false)).status, 200);
    assert_eq!(at.post(&to_one, &consent).status, 200);
    is_refused(&at.post(&to_one, &consent));
    is_refused(&at.post(&to_two, &owner.consent(&leaf_two, true)));
    assert_eq!(agent.call("change", "one").await.end, done());
    is_refused(&at.post(&to_one, &consent));
    assert_ne!(agent.call("change", "one").await.ticket(), one);
    assert_eq!(agent.call("change", "two").await.denied(), "consent_denied");
    gateway.stop().await;
    assert_eq!(at.effects(), ["change one"]);
}

/// `value` with one member changed.
fn with(value: &Value, name: &str, to: Value) -> Value {
    let mut value = value.clone();
    value[name] = to;
    value
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_cannot_be_replayed_forged_or_left_unsigned() {
    let at = Installation::new(&Setup::lab());
    let owner = Human::owner(&at);
    let gateway = at.up().await;
    let agent = Agent::connect(&gateway.url, &at.token()).await;
    assert_eq!(at.run(&["kill", "--all"]).code, 0);
    let resume = Deed::Resume { scope: KillScope::All };

    is_refused(&mallory(&at, OWNER).order(&at, resume.clone()));
    is_refused(&mallory(&at, "mallory").order(&at, resume.clone()));
    let own = mallory(&at, "mallory");
    let enrol = Deed::Enrol { human: "mallory".parse().unwrap(), key: own.key.verifying_key().to_bytes() };
    is_refused(&own.order(&at, enrol));
    let issue = Deed::IssueToken { agent: "alpha".parse().unwrap(), run: None, ttl_ms: HOUR_MS };
    is_refused(&mallory(&at, OWNER).order(&at, issue));
    is_refused(&at.post("/command", &owner.command(Digest([9; 32]), resume.clone())));
    for body in [json!({}), json!({"signed": 5}), json!({"signed": "!"}), json!({"signed": "AAAA"}), Value::Null] {
        is_refused(&at.post("/command", &body));
    }
    let unsigned = unsigned(&owner.command(at.challenge(), resume.clone()));
    is_refused(&at.post("/command", &unsigned));
    assert_eq!(agent.call("put", "killed").await.denied(), "killed");

    // A resume is captured and used again after the next kill, as it is and under a fresh challenge.
    let captured = owner.command(at.challenge(), resume);
    assert_eq!(at.post("/command", &captured).status, 200);
    assert_eq!(at.run(&["kill", "--all"]).code, 0);
    is_refused(&at.post("/command", &captured));
    let challenge = at.challenge();
    is_refused(&at.post("/command", &altered(&captured, |signed| signed.command.challenge = challenge)));
    assert_eq!(agent.call("put", "killed").await.denied(), "killed");
    gateway.stop().await;
    assert_eq!(at.effects(), Vec::<String>::new());
    let records = at.records();
    assert!(records.iter().filter(|entry| entry.id() == "killed" && entry.reason() == "killed").count() == 2);
}

fn altered(body: &Value, alter: impl FnOnce(&mut Signed)) -> Value {
    let bytes = STANDARD.decode(body["signed"].as_str().unwrap()).unwrap();
    let mut signed: Signed = from_canonical(&bytes).unwrap();
    alter(&mut signed);
    json!({ "signed": STANDARD.encode(to_canonical(&signed).unwrap()) })
}

fn unsigned(body: &Value) -> Value {
    altered(body, |signed| signed.signature = vec![0; 64])
}

/// The gateway must refuse to serve, with `code` and these words.
async fn refuses(at: &Installation, code: i32, words: &[&str]) {
    let Err(not) = at.try_up().await else { panic!("served although it should refuse: {words:?}") };
    assert_eq!(not.code, code, "{not:?}");
    for word in words {
        assert!(not.error.contains(word), "`{word}` is not in: {}", not.error);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_human_accepted_is_not_served() {
    let capped = Setup { budgets: vec!["{ scope: agent, calls: 2 }".to_owned()], ..Setup::lab() };
    let at = Installation::new(&capped);
    let gateway = at.up().await;
    let agent = Agent::connect(&gateway.url, &at.token()).await;
    let (_, gate) = POLICY.split_once("@gate").unwrap();
    let everything = POLICY.replace(&format!("@gate{gate}"), "permit (principal, action, resource);");
    let unlimited = Setup { budgets: Vec::new(), ..Setup::lab() };
    let first = [at.read("countersign.yaml"), at.read("policy.cedar"), at.read("activation")];
    let not_accepted = ["not accepted by a human", "countersign policy activate"];

    // What is running stays what was accepted.
    at.write("policy.cedar", &everything);
    let ticket = agent.call("change", "a").await.ticket();
    gateway.stop().await;
    refuses(&at, 3, &not_accepted).await;
    at.configure(&unlimited);
    refuses(&at, 3, &not_accepted).await;
    assert_eq!(at.run(&["policy", "activate"]).code, 1, "accepted without a terminal");
    refuses(&at, 3, &not_accepted).await;

    // The owner accepts something stricter; the agent puts the older acceptance back.
    let strict = Setup { policy: POLICY.replace("== \"change\"", "!= \"look\""), ..Setup::lab() };
    at.configure(&strict);
    at.owner(&["policy", "activate"]);
    at.up().await.stop().await;
    for (name, text) in ["countersign.yaml", "policy.cedar", "activation"].iter().zip(&first) {
        at.write(name, text);
    }
    refuses(&at, 3, &["the acceptance of configuration and policy does not count", "serial"]).await;
    forged_acceptances(&at, &strict).await;

    let gateway = at.up().await;
    let agent = Agent::connect(&gateway.url, &at.token()).await;
    assert_eq!(agent.call("change", "a").await.ticket(), ticket, "what waited before waits still");
    agent.call("put", "b").await.ticket();
    gateway.stop().await;
    assert_eq!(at.effects(), Vec::<String>::new());
}

/// Forged, damaged and missing acceptances of something new; the owner can always accept it after them.
async fn forged_acceptances(at: &Installation, strict: &Setup) {
    let activation = at.path("activation");
    for serial in [3, 4, 1_000] {
        let policy = format!("{}\n// attempt {serial}\n", strict.policy);
        at.configure(&Setup { policy, budgets: strict.budgets.clone(), ..Setup::lab() });
        let hashes = at.run(&["policy", "check"]).json();
        let digest = |name: &str| hex(hashes[name].as_str().unwrap());
        let deed =
            Deed::Activate { configuration: digest("configuration"), policy: digest("policy"), serial, widening: None };
        let forged = mallory(at, OWNER).command(Digest([0; 32]), deed);
        fs::write(&activation, forged["signed"].as_str().unwrap()).unwrap();
        refuses(at, 3, &["does not count"]).await;
        at.owner(&["policy", "activate"]);
        at.up().await.stop().await;
    }
    at.configure(strict);
    fs::write(&activation, "rubbish").unwrap();
    refuses(at, 1, &["activation", "is damaged", "countersign policy activate"]).await;
    fs::remove_file(&activation).unwrap();
    refuses(at, 3, &["not accepted by a human"]).await;
    at.owner(&["policy", "activate"]);
}

fn hex(text: &str) -> Digest {
    let bytes: Vec<u8> = (0..32).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap()).collect();
    Digest(bytes.try_into().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_outlives_what_is_done_to_its_file() {
    let at = Installation::new(&Setup::lab());
    let gateway = at.up().await;
    assert_eq!(at.run(&["kill", "--agent", "alpha"]).code, 0);
    gateway.stop().await;
    let state = at.path("kill.state");
    assert!(state.exists());
    for edit in [None, Some("countersign kill v1\nepoch 99\nend\n"), Some("countersign kill v1\nepoch 0\nend\n")] {
        match edit {
            None => fs::remove_file(&state).unwrap(),
            Some(text) => fs::write(&state, text).unwrap(),
        }
        let gateway = at.up().await;
        assert_eq!(gateway.said["killed"], json!(["agent alpha"]), "{edit:?}");
        let agent = Agent::connect(&gateway.url, &at.token()).await;
        assert_eq!(agent.call("put", "killed").await.denied(), "killed");
        gateway.crash().await;
    }
    at.write("kill.state", "rubbish");
    let gateway = at.up().await;
    assert_eq!(gateway.said["killed"], json!(["all", "agent alpha"]), "damage must not resume anything");
    gateway.stop().await;
    assert_eq!(at.effects(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_that_was_cut_or_put_back_is_not_served() {
    let at = Installation::new(&Setup::lab());
    let gateway = at.up().await;
    let agent = Agent::connect(&gateway.url, &at.token()).await;
    agent.call("put", "early").await;
    gateway.stop().await;
    let kept = tempfile::tempdir().unwrap();
    let (old, new) = (kept.path().join("old"), kept.path().join("new"));
    copied(&at.path("ledger"), &old);
    let gateway = at.up().await;
    let agent = Agent::connect(&gateway.url, &at.token()).await;
    agent.call("put", "late").await;
    gateway.stop().await;
    let ledger = at.path("ledger");
    copied(&ledger, &new);

    let last = || last_segment(&ledger);
    let cut_back = ["rolled back", "confirmed mark"];
    let attacks = [
        Attack::new("cut by ten bytes", || cut(&last(), 10), &["segment", ".seg", "nothing was cut"]),
        Attack::new("cut to nothing", || cut(&last(), u64::MAX), &cut_back),
        Attack::new("removed", || fs::remove_file(last()).unwrap(), &cut_back),
        Attack::new("changed", || flip(&last()), &["segment", "is damaged", "restore this segment"]),
        Attack::new("put back", || put_back(&old, &ledger, &["segments"]), &cut_back),
        Attack::new("put back, mark and all", || put_back(&old, &ledger, &["segments", "mark"]), &["checkpoint"]),
        Attack::new("without a mark", || fs::remove_file(ledger.join("mark")).unwrap(), &["mark", "is missing"]),
    ];
    for Attack { name, strike, words } in attacks {
        strike();
        refuses(&at, 1, words).await;
        assert_eq!(at.run(&["log", "verify"]).code, 5, "{name}");
        assert_ne!(at.run(&["log", "tail"]).code, 0, "{name}");
        fs::remove_dir_all(&ledger).unwrap();
        copied(&new, &ledger);
    }
    at.up().await.stop().await;
    assert_eq!(at.run(&["log", "verify"]).code, 0);
    assert_eq!(at.effects(), ["put early", "put late"]);
}

/// What is done to a ledger, and the words with which its gateway refuses to start.
struct Attack<'a> {
    name: &'a str,
    strike: Box<dyn Fn() + 'a>,
    words: &'a [&'a str],
}

impl<'a> Attack<'a> {
    fn new(name: &'a str, strike: impl Fn() + 'a, words: &'a [&'a str]) -> Self {
        Self { name, strike: Box::new(strike), words }
    }
}

fn last_segment(ledger: &Path) -> PathBuf {
    let mut segments: Vec<_> =
        fs::read_dir(ledger.join("segments")).unwrap().map(|entry| entry.unwrap().path()).collect();
    segments.sort();
    segments.pop().unwrap()
}

/// Cuts what was written; a segment's file is longer than that.
fn cut(segment: &Path, bytes: u64) {
    let written = fs::read(segment).unwrap();
    let length = written.iter().rposition(|byte| *byte != 0).map_or(0, |at| at as u64 + 1);
    fs::OpenOptions::new().write(true).open(segment).unwrap().set_len(length.saturating_sub(bytes)).unwrap();
}

fn flip(segment: &Path) {
    let mut bytes = fs::read(segment).unwrap();
    bytes[300] ^= 1;
    fs::write(segment, bytes).unwrap();
}

fn put_back(old: &Path, ledger: &Path, names: &[&str]) {
    for name in names {
        let (from, to) = (old.join(name), ledger.join(name));
        if from.is_dir() {
            fs::remove_dir_all(&to).unwrap();
            copied(&from, &to);
        } else {
            fs::copy(from, to).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_token_of_ours_opens_the_door() {
    let at = Installation::new(&Setup { agents: vec!["beta".to_owned()], ..Setup::lab() });
    let elsewhere = Installation::new(&Setup::lab());
    let owner = Human::owner(&at);
    let gateway = at.up().await;
    let token = at.token().trim().to_owned();
    let short = owner.issue(&at, "beta", None, 1);
    let revoked = owner.issue(&at, "alpha", None, HOUR_MS);
    let session = at.get("/log?count=1")[0]["leaf"].as_str().map(session_of).unwrap();
    assert_eq!(owner.order(&at, Deed::RevokeToken { session }).status, 200);
    tokio::time::sleep(Duration::from_millis(20)).await;

    let claims = narrowed(&token, "agent", "beta");
    let forged = flipped(&token);
    let foreign = elsewhere.token().trim().to_owned();
    let headers: Vec<String> = [&*forged, &foreign, &short, &claims, &revoked, "", "null", "Bearer"]
        .iter()
        .map(|token| format!("authorization: Bearer {token}"))
        .chain(["x-api-key: 1".to_owned(), format!("authorization: Basic {token}"), format!("cookie: token={token}")])
        .collect();
    for header in &headers {
        for body in [initialize(), call("put", "door", json!({}))] {
            let reply = post_mcp(&gateway.url, &[header], &body);
            assert_eq!(reply.status, 401, "{header}: {reply:?}");
        }
    }
    let two = [format!("authorization: Bearer {forged}"), format!("authorization: Bearer {token}")];
    assert_eq!(post_mcp(&gateway.url, &[&two[0], &two[1]], &initialize()).status, 400, "two tokens");

    gateway.stop().await;
    assert_eq!(at.effects(), Vec::<String>::new());
    let records = at.records();
    let refused = |reason: &str| -> u64 {
        let of = |entry: &&support::log::Entry| entry.reason() == reason;
        records.iter().filter(of).map(|entry| if let Body::Refused(r) = &entry.record.body { r.count } else { 1 }).sum()
    };
    assert_eq!(refused("token_expired"), 2);
    assert_eq!(refused("token_invalid"), 2 * (headers.len() as u64 - 1));
}

/// The session id in the record of a token's issue.
fn session_of(leaf: &str) -> countersign_model::id::SessionId {
    let record = countersign_model::Record::from_leaf(&STANDARD.decode(leaf).unwrap()).unwrap();
    match record.body {
        Body::Commanded(commanded) => commanded.session.unwrap(),
        other => panic!("not the issue of a token: {}", other.kind()),
    }
}

/// A token with a block of its holder's own that claims a fact.
fn narrowed(token: &str, name: &str, value: &str) -> String {
    let block = BlockBuilder::new().fact(fact(name, &[string(value)])).unwrap();
    UnverifiedBiscuit::from_base64(token).unwrap().append(block).unwrap().to_base64().unwrap()
}

/// A token with one character changed in the middle.
fn flipped(token: &str) -> String {
    let middle = token.len() / 2;
    let other = if token.as_bytes()[middle] == b'A' { "B" } else { "A" };
    format!("{}{other}{}", &token[..middle], &token[middle + 1..])
}

fn initialize() -> Value {
    let params =
        json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "beta", "version": "1"}});
    json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params})
}

fn call(tool: &str, id: &str, meta: Value) -> Value {
    let params = json!({"name": tool, "arguments": {"id": id, "agent": "beta"}, "_meta": meta});
    json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params})
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_who_they_claim_to_be() {
    let policy = r#"
        @id("all") permit (principal, action in Action::"call", resource);
        @id("only-beta-looks") forbid (principal, action in Action::"call", resource)
        when { context.tool == "look" && principal != Agent::"beta" };"#;
    let setup = Setup { agents: vec!["beta".to_owned()], policy: policy.to_owned(), ..Setup::lab() };
    let at = Installation::new(&setup);
    let owner = Human::owner(&at);
    let gateway = at.up().await;
    let alpha = format!("authorization: Bearer {}", at.token().trim());
    let beta = format!("authorization: Bearer {}", owner.issue(&at, "beta", Some("r"), HOUR_MS));

    let opened = post_mcp(&gateway.url, &[&alpha, "x-agent: beta", "x-countersign-agent: beta"], &initialize());
    let session = format!("mcp-session-id: {}", opened.session.as_deref().unwrap());
    let headers = [&*alpha, &session, "x-agent: beta", "x-forwarded-user: beta", "forwarded: for=beta", "from: beta"];
    let meta = json!({"agent": "beta", "countersign/agent": "beta", "countersign/token": beta});
    for id in ["one", "two"] {
        let reply = post_mcp(&gateway.url, &headers, &call("look", id, meta.clone()));
        assert_eq!(reply.body["result"]["_meta"]["countersign/verdict"]["verdict"], "deny", "{reply:?}");
    }
    // Another's protocol session opens nothing, and nothing of it can be learnt.
    let of_beta = post_mcp(&gateway.url, &[&beta], &initialize()).session.unwrap();
    let stolen = format!("mcp-session-id: {of_beta}");
    let (theirs, none) = (
        post_mcp(&gateway.url, &[&alpha, &stolen], &call("look", "three", meta.clone())),
        post_mcp(&gateway.url, &[&alpha, "mcp-session-id: none"], &call("look", "three", meta)),
    );
    assert_eq!((theirs.status, &theirs.body), (404, &none.body), "{none:?}");
    assert_eq!(at.effects(), Vec::<String>::new());
    let reply = post_mcp(&gateway.url, &[&beta, &stolen], &call("look", "four", json!({})));
    assert_eq!(reply.body["result"]["content"][0]["text"], "done", "{reply:?}");
    gateway.stop().await;
    assert_eq!(at.effects(), ["look four"]);
    let records = at.records();
    let denied: Vec<_> = records.iter().filter(|entry| matches!(entry.record.body, Body::Denial(_))).collect();
    assert_eq!(denied.len(), 2);
    for entry in denied {
        assert_eq!(entry.record.body.attempt().unwrap().principal.agent.as_str(), "alpha");
        assert_eq!(entry.reason(), "policy_forbid");
    }
}

/// The first passphrase decides: what `init` wrote is opened by it and by nothing else.
#[test]
fn a_key_is_opened_by_its_passphrase_alone() {
    let at = Installation::new(&Setup::lab());
    let pem = at.read("keys/owner.key.pem");
    assert!(pem.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----"));
    for phrase in ["", "owner", OWN_PHRASE, &PASSPHRASE.to_uppercase()] {
        use ed25519_dalek::pkcs8::DecodePrivateKey as _;
        assert!(SigningKey::from_pkcs8_encrypted_pem(&pem, phrase).is_err(), "`{phrase}`");
    }
}
