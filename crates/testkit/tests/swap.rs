//! Another policy while the gateway runs: what does not load or was not signed for leaves the old one in force, no call waits
//! for a load, and no decision rests on a policy that is not in force.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "helpers of tests fail the test")]

use std::collections::BTreeSet;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use countersign_gate::call::Answer;
use countersign_gate::{Evaluate, Reload, Reloaded};
use countersign_kernel::policy::{Bundle, EvaluationRequest};
use countersign_model::command::Deed;
use countersign_model::record::Evaluation;
use countersign_model::{Body, Digest, ReasonCode};
use countersign_testkit::policy::HeldPolicy;
use countersign_testkit::world::{CHANGE, READ, Rules, World, arguments};

const CONFIGURATION: Digest = Digest([3; 32]);
const STRICT: &str = "@id(\"nothing\") forbid (principal, action, resource);";

/// What lies there: one bundle, or none. It counts how often it is read, and can be made to wait.
struct Files {
    lies: Mutex<Result<(Digest, Bundle), String>>,
    reads: Mutex<u32>,
    waits: Mutex<Option<Receiver<()>>>,
}

impl Files {
    fn with(lies: Result<(Digest, Bundle), String>) -> Arc<Self> {
        Arc::new(Self { lies: Mutex::new(lies), reads: Mutex::new(0), waits: Mutex::new(None) })
    }

    fn strict() -> Arc<Self> {
        Self::with(Ok((CONFIGURATION, World::bundle(STRICT))))
    }

    fn held(&self) -> Sender<()> {
        let (release, waits) = channel();
        *self.waits.lock().unwrap() = Some(waits);
        release
    }

    fn reads(&self) -> u32 {
        *self.reads.lock().unwrap()
    }
}

impl Reload for Files {
    fn reload(&self) -> Result<Reloaded, String> {
        *self.reads.lock().unwrap() += 1;
        if let Some(waits) = self.waits.lock().unwrap().take() {
            waits.recv_timeout(Duration::from_secs(60)).unwrap();
        }
        let (configuration, bundle) = self.lies.lock().unwrap().clone()?;
        Ok(Reloaded { configuration, policy: bundle.hash(), bundle: Arc::new(bundle) })
    }
}

fn ran(answer: &Answer<Vec<u8>>) -> bool {
    matches!(answer, Answer::Ran { .. })
}

fn is_forbidden(answer: &Answer<Vec<u8>>) -> bool {
    matches!(answer, Answer::Denied { reasons, .. } if reasons[0].code == ReasonCode::PolicyForbid)
}

/// The policies that decisions name, in the order of the log.
fn named(world: &World) -> Vec<Digest> {
    world.records().iter().filter_map(|stored| Some(stored.record.body.attempt()?.inputs.policy)).collect()
}

#[test]
fn an_accepted_policy_is_in_force_at_once_and_survives_nothing_but_its_files() {
    let files = Files::strict();
    let world = World::new().reloading(files.clone());
    let (old, new) = (world.gate.in_force().1, World::bundle(STRICT).hash());
    assert!(ran(&world.call(READ)));
    world.activate((CONFIGURATION, new), 1).unwrap();
    assert_eq!(world.gate.in_force(), (CONFIGURATION, new));
    assert!(is_forbidden(&world.call(READ)));
    assert_eq!(named(&world), [old, new]);
    // Back to the one before: it lies ready still, and is not loaded again.
    world.activate((CONFIGURATION, old), 2).unwrap();
    assert!(ran(&world.call(READ)));
    assert_eq!(files.reads(), 1);
    // Recovery folds what humans ordered; the start then runs what it was started with.
    world.activate((CONFIGURATION, new), 3).unwrap();
    let again = world.restart(world.disk.process_crash_image()).unwrap();
    assert_eq!(again.gate.in_force(), (CONFIGURATION, old));
}

#[test]
fn a_call_that_the_old_policy_was_asked_about_is_decided_by_the_new_one() {
    let files = Files::strict();
    let world = World::new().reloading(files);
    let held = Arc::new(HeldPolicy::new(world.stage.bundle.clone()));
    let world = world.asking(held.clone());
    held.hold(true);
    let call = world.begin(world.framed("query", &arguments(CHANGE)));
    held.wait_for(1);
    let new = World::bundle(STRICT).hash();
    world.activate((CONFIGURATION, new), 1).unwrap();
    held.hold(false);
    let answer = world.wait(call).unwrap();
    assert!(is_forbidden(&answer), "{answer:?}");
    assert_eq!(named(&world), [new]);
    assert!(world.upstream().effects().is_empty());
}

#[test]
fn no_call_waits_for_a_load() {
    let files = Files::strict();
    let world = World::new().reloading(files.clone());
    let release = files.held();
    let new = World::bundle(STRICT).hash();
    std::thread::scope(|scope| {
        let activation = scope.spawn(|| world.activate((CONFIGURATION, new), 1));
        while files.reads() == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        // It is being loaded, and the old one answers.
        assert!(ran(&world.call(READ)));
        assert!(!activation.is_finished());
        release.send(()).unwrap();
        activation.join().unwrap().unwrap();
    });
    assert!(is_forbidden(&world.call(READ)));
}

#[test]
fn what_cannot_be_loaded_or_was_not_signed_for_changes_nothing() {
    let new = World::bundle(STRICT).hash();
    let refused = |files: Arc<Files>, what: (Digest, Digest), why: &str| {
        let world = World::new().reloading(files);
        let before = world.gate.in_force();
        let reason = world.activate(what, 1).unwrap_err();
        assert_eq!(reason.code, ReasonCode::OrderRefused);
        let detail = reason.detail.unwrap();
        assert!(detail.contains(why), "{detail}");
        assert_eq!(world.gate.in_force(), before);
        assert!(ran(&world.call(READ)));
        let refusals = world.records().iter().filter(|stored| matches!(stored.record.body, Body::Refused(_))).count();
        assert_eq!(refusals, 1, "somebody tried, and that is on record");
    };
    refused(Files::with(Err("main.cedar: line 3 cannot be read".to_owned())), (CONFIGURATION, new), "line 3");
    refused(Files::strict(), (CONFIGURATION, Digest([4; 32])), "was signed for; look at what changed");
    let moved = Files::with(Ok((Digest([5; 32]), World::bundle(STRICT))));
    refused(moved, (CONFIGURATION, new), "the configuration has changed");
    // Without a source there is nothing to load from.
    let world = World::new();
    let reason = world.activate((CONFIGURATION, new), 1).unwrap_err();
    assert!(reason.detail.unwrap().contains("restart it"));
}

#[test]
fn nothing_is_loaded_for_whoever_only_opens_the_socket() {
    let files = Files::strict();
    let world = World::new().reloading(files.clone());
    let (configuration, policy) = (CONFIGURATION, World::bundle(STRICT).hash());
    world.forged(Deed::Activate { configuration, policy, serial: 1, widening: None }).unwrap_err();
    world.activate((configuration, world.gate.in_force().1), 5).unwrap();
    world.activate((configuration, policy), 5).unwrap_err();
    assert_eq!(files.reads(), 0);
    assert!(ran(&world.call(READ)));
    // Of another configuration it counts for the next start, and is not loaded now.
    world.activate((Digest([6; 32]), policy), 6).unwrap();
    assert_eq!(files.reads(), 0);
    assert!(ran(&world.call(READ)));
}

/// An engine that needs no thread of its own, and fails.
struct Broken;

impl Evaluate for Broken {
    fn evaluate(&self, _: &EvaluationRequest) -> Evaluation {
        panic!("a failure of the engine")
    }

    fn is_bounded(&self) -> bool {
        true
    }

    fn matched(&self, _: &str, _: &[(String, &str)]) -> BTreeSet<String> {
        BTreeSet::new()
    }
}

#[test]
fn an_engine_that_fails_on_the_spot_denies_on_record() {
    let world = World::under(Rules::capped(2)).asking(Arc::new(Broken));
    for _ in 0..3 {
        let Answer::Denied { reasons, receipt } = world.call(READ) else { panic!("it ran") };
        assert_eq!((reasons[0].code, receipt.is_some()), (ReasonCode::PolicyError, true), "and holds no budget");
    }
    world.gate.close().unwrap();
}
