//! SIGKILL under load, fifty times: what was promised before a crash holds after it.
//!
//! The upstream syncs every effect before it answers, so after the last crash its file, the log and what agents were
//! told are three accounts of the same calls, and they must agree. It does not cover a disk that loses writes: the
//! page cache survives SIGKILL (`testkit/tests/ledger_crash.rs` covers power).

#![expect(clippy::indexing_slicing, clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use countersign_model::record::Status;
use countersign_model::{Body, Record};
use countersign_receipt::{Receipt, VerifierKey};
use support::agent::{Agent, End, Seen};
use support::human::Human;
use support::log::Entry;
use support::{AGENT, Dice, Installation, Setup};
use tokio::sync::Barrier;

const SEED: u64 = 0x0c0f_fee0;
const CRASHES: u64 = 50;
/// Clients of each of the two agents.
const CLIENTS: usize = 6;
/// Calls that the first agent may make: it runs out on the way.
const CAP: usize = 150;
/// The crash before which the kill is thrown, and the one after which it is lifted.
const KILLED: std::ops::Range<u64> = 20..23;
/// The run that is killed.
const RUN: &str = "night";

/// What agents were told.
#[derive(Default)]
struct Told {
    answers: Mutex<Vec<(String, Seen)>>,
}

impl Told {
    fn add(&self, call: String, seen: Seen) {
        self.answers.lock().unwrap().push((call, seen));
    }
}

/// Two agents' tokens, and the one of the run that is killed.
struct Tokens {
    capped: String,
    free: String,
    run: String,
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_promised_before_a_crash_holds_after_it() {
    let mut setup = Setup::lab();
    setup.agents.push("beta".to_owned());
    setup.budgets.push(format!("{{ scope: agent, calls: {CAP}, agents: [{AGENT}] }}"));
    let at = Arc::new(Installation::new(&setup));
    let human = Human::owner(&at);
    let gateway = at.up().await;
    let day = 24 * 60 * 60 * 1_000;
    let tokens = Tokens {
        capped: at.token(),
        free: human.issue(&at, "beta", None, day),
        run: human.issue(&at, "beta", Some(RUN), day),
    };
    gateway.crash().await;
    let told = Arc::new(Told::default());
    let mut dice = Dice(SEED);
    for crash in 0..CRASHES {
        one_life(&at, (&human, &tokens), &told, (crash, dice.between(5, 150))).await;
    }
    let gateway = at.up().await;
    gateway.stop().await;
    at.upstreams_ended();
    let verified = at.run(&["log", "verify"]);
    assert_eq!(verified.code, 0, "{verified:?}");
    let records = at.records();
    let intents = intents(&records);
    every_effect_has_its_intent(&at.effects(), &intents);
    every_consent_is_redeemed_at_most_once(&records);
    every_intent_has_one_outcome(&records);
    the_cap_was_never_exceeded(&records, &at.effects());
    let answers = std::mem::take(&mut *told.answers.lock().unwrap());
    answers_are_true(&answers, &at.effects());
    receipts_still_hold(&at, &records, &answers);
}

/// One life of the gateway: up, under load for a while, killed.
async fn one_life(
    at: &Arc<Installation>,
    (human, tokens): (&Human, &Tokens),
    told: &Arc<Told>,
    (crash, after_ms): (u64, u64),
) {
    let gateway = at.up().await;
    let granted = consented(at, human);
    let start = Arc::new(Barrier::new(2 * CLIENTS + 1));
    let mut clients = Vec::new();
    for client in 0..2 * CLIENTS {
        let token = if client < CLIENTS { &tokens.capped } else { &tokens.free };
        let agent = Agent::connect(&gateway.url, token).await;
        let (told, start, granted) = (told.clone(), start.clone(), granted.clone());
        clients.push(tokio::spawn(async move {
            start.wait().await;
            load(&agent, (crash, client), granted.as_deref(), &told).await;
        }));
    }
    if KILLED.contains(&crash) {
        kill_holds(at, &gateway.url, tokens, crash).await;
    }
    if crash == KILLED.end {
        assert_eq!(gateway.said["killed"], serde_json::json!([format!("run {RUN}")]));
        resumed_with_a_signature(at, &gateway.url, tokens).await;
    }
    start.wait().await;
    tokio::time::sleep(Duration::from_millis(after_ms)).await;
    gateway.crash().await;
    for client in clients {
        client.await.unwrap();
    }
}

/// Calls until the gateway is gone.
async fn load(agent: &Agent, (crash, client): (u64, usize), granted: Option<&str>, told: &Told) {
    for turn in 0_usize.. {
        let name = format!("{crash}-{client}-{turn}");
        let (tool, id) = match (turn, granted) {
            // Many ask for what was consented to once.
            (0, Some(granted)) => ("change", granted.to_owned()),
            _ if (turn + client) % 6 == 5 => ("change", name),
            _ => ("put", name),
        };
        let Ok(seen) = agent.try_call(tool, &id).await else { return };
        told.add(format!("{tool} {id}"), seen);
    }
}

/// Has the human consent to one thing that waits since an earlier life; gives its id.
fn consented(at: &Installation, human: &Human) -> Option<String> {
    let waiting = at.get("/approvals");
    let ticket = waiting.as_array().unwrap().first()?["ticket"].as_str().unwrap().to_owned();
    let shown = at.run(&["approvals", "show", &ticket]).json();
    let preview = shown["preview"].as_str().unwrap().to_owned();
    let reply = human.approve(at, &ticket);
    assert_eq!(reply.status, 200, "{reply:?}");
    let (_, rest) = preview.split_once("\"id\"").unwrap();
    Some(rest.split('"').nth(1).unwrap().to_owned())
}

async fn kill_holds(at: &Installation, url: &str, tokens: &Tokens, crash: u64) {
    if crash == KILLED.start {
        assert_eq!(at.run(&["kill", "--run", RUN]).code, 0);
    }
    let agent = Agent::connect(url, &tokens.run).await;
    assert_eq!(agent.call("put", &format!("killed-{crash}")).await.denied(), "killed");
}

async fn resumed_with_a_signature(at: &Installation, url: &str, tokens: &Tokens) {
    let agent = Agent::connect(url, &tokens.run).await;
    assert_ne!(at.run(&["resume", "--run", RUN]).code, 0, "resumed without a terminal");
    assert_eq!(agent.call("put", "killed-still").await.denied(), "killed");
    at.owner(&["resume", "--run", RUN]);
    assert_eq!(agent.call("put", "resumed").await.end, End::Ran("done".to_owned()));
}

/// `TOOL ID` of every intent, and how often it is there.
fn intents(records: &[Entry]) -> BTreeMap<String, usize> {
    let mut intents = BTreeMap::new();
    for entry in records {
        if let Body::Intent(attempt) = &entry.record.body {
            *intents.entry(format!("{} {}", attempt.tool, entry.id())).or_default() += 1;
        }
    }
    intents
}

fn every_effect_has_its_intent(effects: &[String], intents: &BTreeMap<String, usize>) {
    let mut counted: BTreeMap<&str, usize> = BTreeMap::new();
    for effect in effects {
        *counted.entry(effect).or_default() += 1;
    }
    for (effect, count) in counted {
        let intended = intents.get(effect).copied().unwrap_or_default();
        assert!(count <= intended, "`{effect}` happened {count} times under {intended} intents");
        // Every id is called once, but for those that were consented to: there the grants count.
        assert!(count == 1 || effect.starts_with("change "), "`{effect}` happened {count} times");
    }
}

/// A call behind a gate runs under a consent of its own, however many ask at once and whatever a crash cut off.
fn every_consent_is_redeemed_at_most_once(records: &[Entry]) {
    let mut granted = BTreeSet::new();
    let mut redeemed = 0;
    for entry in records {
        match &entry.record.body {
            Body::Consent(consent) => assert!(granted.insert(consent.ticket.clone()), "{} twice", consent.ticket),
            Body::Intent(attempt) if attempt.tool.as_str() == "change" => {
                let ticket = attempt.ticket.as_ref().unwrap();
                assert!(granted.remove(ticket), "intent `{}` has no consent to itself", entry.index);
                redeemed += 1;
            }
            _ => {}
        }
    }
    println!("{redeemed} consents were redeemed, {} were not", granted.len());
    assert!(redeemed > 0, "no consent was ever redeemed");
}

/// Intents that a crash cut off are closed as unknown at the next start, before anything else is decided.
fn every_intent_has_one_outcome(records: &[Entry]) {
    let mut open = BTreeSet::new();
    let mut cut_off = BTreeSet::new();
    let mut unknown = 0;
    for entry in records {
        match &entry.record.body {
            Body::Intent(_) => {
                assert!(cut_off.is_empty(), "{cut_off:?} are open while `{}` is decided", entry.index);
                open.insert(entry.index);
            }
            Body::Started(_) => cut_off.append(&mut open),
            Body::Outcome(outcome) if cut_off.remove(&outcome.intent.0) => {
                assert_eq!(outcome.status, Status::Unknown, "outcome `{}` of another life", entry.index);
                assert_eq!(outcome.charged, 1, "an unknown outcome keeps its charge");
                unknown += 1;
            }
            Body::Outcome(outcome) => {
                assert!(open.remove(&outcome.intent.0), "`{}` is a second outcome", entry.index);
            }
            _ => {}
        }
    }
    assert!(open.is_empty() && cut_off.is_empty(), "{open:?} and {cut_off:?} have no outcome");
    assert!(unknown > 0, "no crash met a call under way");
    println!("{unknown} calls were under way in a crash");
}

fn the_cap_was_never_exceeded(records: &[Entry], effects: &[String]) {
    let of_capped =
        |entry: &&Entry| entry.record.body.attempt().is_some_and(|attempt| attempt.principal.agent.as_str() == AGENT);
    let mut ran = BTreeSet::new();
    let mut refused = 0;
    for entry in records.iter().filter(of_capped) {
        for budget in &entry.record.body.attempt().unwrap().inputs.budgets {
            assert!(budget.spent + budget.reserved <= budget.cap, "record `{}`: {budget:?}", entry.index);
        }
        match &entry.record.body {
            Body::Intent(attempt) => drop(ran.insert(format!("{} {}", attempt.tool, entry.id()))),
            Body::Denial(_) if entry.reason() == "budget_exhausted" => refused += 1,
            _ => {}
        }
    }
    let seen = effects.iter().filter(|effect| ran.contains(*effect)).count();
    println!("{seen} effects under a cap of {CAP}, {} intents, {refused} refused", ran.len());
    assert!(seen <= CAP, "{seen} effects under a cap of {CAP}");
    assert!(refused > 0, "the cap was never reached");
}

fn answers_are_true(answers: &[(String, Seen)], effects: &[String]) {
    let effects: BTreeSet<&str> = effects.iter().map(String::as_str).collect();
    let ran: BTreeSet<&str> = of_end(answers, |end| matches!(end, End::Ran(_) | End::Failed(_)));
    for (call, seen) in answers {
        match &seen.end {
            End::Ran(_) => assert!(effects.contains(&**call), "`{call}` was answered and did not happen"),
            // The same change is asked for by others and in later lives.
            End::Parked(_) => assert!(call.starts_with("change "), "`{call}` was parked"),
            End::Denied(_) if call.starts_with("change ") => {}
            End::Denied(_) => assert!(!effects.contains(&**call), "`{call}` was denied and happened"),
            End::Failed(_) => {}
        }
    }
    let parked = of_end(answers, |end| matches!(end, End::Parked(_)));
    println!("{} answers: {} calls ran, {} were parked", answers.len(), ran.len(), parked.len());
    assert!(!parked.is_empty() && ran.len() > 100, "too little load to say anything");
}

fn of_end(answers: &[(String, Seen)], is: fn(&End) -> bool) -> BTreeSet<&str> {
    answers.iter().filter(|(_, seen)| is(&seen.end)).map(|(call, _)| call.as_str()).collect()
}

/// Every receipt that was handed out verifies, and the log still says at its place what the receipt says.
fn receipts_still_hold(at: &Installation, records: &[Entry], answers: &[(String, Seen)]) {
    let key = VerifierKey::parse(at.read("ledger/log.vkey").trim()).unwrap();
    let receipts: Vec<&str> = answers.iter().filter_map(|(_, seen)| seen.receipt.as_deref()).collect();
    assert!(receipts.len() > 100, "{} receipts", receipts.len());
    for text in &receipts {
        let receipt = Receipt::parse(text).unwrap();
        let verified = receipt.verify(&key).unwrap();
        for (proof, leaf) in receipt.proofs.iter().zip(&verified.leaves) {
            let entry = &records[usize::try_from(leaf.index).unwrap()];
            assert_eq!(entry.record, Record::from_leaf(&proof.leaf).unwrap(), "record `{}` was replaced", leaf.index);
        }
    }
    println!("{} receipts hold", receipts.len());
}
