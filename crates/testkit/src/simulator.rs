//! The simulator: plays a short story on a disk with a fault at one operation, restarts from what the disk holds, and
//! asks whether every promise was kept.
//!
//! One action runs at a time, so the same story asks the disk for the same operations in the same order, and `k` names
//! one of them. The checks go by the numbers of the invariants. It must not know how a record is written. It does not
//! cover concurrency (`tests/fold.rs`, `tests/kill.rs`) nor faults of the kill file, which lies on a real disk.
#![expect(clippy::unwrap_used, clippy::panic, clippy::missing_panics_doc, reason = "a promise that was broken panics")]

use std::collections::{BTreeMap, BTreeSet};

use countersign_gate::call::{Answer, Call};
use countersign_gate::view::Stored;
use countersign_ledger::verify;
use countersign_model::id::TicketId;
use countersign_model::record::{KillScope, Outcome, Status};
use countersign_model::unit::LeafIndex;
use countersign_model::{Body, ReasonCode};
use countersign_receipt::Receipt;

use crate::disk::{FakeDisk, Fault};
use crate::upstream::{Effect, Script, ScriptedUpstream};
use crate::world::{CHANGE, DROP, READ, World, arguments, store};

/// One step of a story.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A call that runs.
    Read,
    /// A call that runs and whose answer is lost.
    Lost,
    /// A call that is answered with a question.
    Ask,
    /// The last one that was goes on with the client's answers; a second time too.
    GoOn,
    /// A call that is denied.
    Drop,
    /// A call that waits for consent, or redeems it.
    Change,
    /// The human consents to what was parked last.
    Approve,
    /// A slow call is killed in flight, and the kill is recorded.
    Kill,
    /// A second passes.
    Tick,
}

/// Stories that together walk every path of one action.
pub const STORIES: [(&str, &[Step]); 5] = [
    ("intent and outcome", &[Step::Read, Step::Lost]),
    ("denial", &[Step::Drop, Step::Read]),
    ("consent", &[Step::Change, Step::Approve, Step::Change, Step::Change]),
    ("kill", &[Step::Kill, Step::Read]),
    ("continuation", &[Step::Ask, Step::GoOn, Step::GoOn]),
];

/// What was told to whom.
#[derive(Default)]
pub struct Trace {
    /// The case, for whoever reads a broken promise.
    what: String,
    /// Receipts that were handed out.
    receipts: Vec<Receipt>,
    /// How often the human signed a consent, whether or not it was said to count.
    signed: usize,
    /// Arguments of calls that were said to have run.
    ran: Vec<Vec<u8>>,
    /// Whether a kill was acknowledged.
    killed: bool,
    /// What was parked last.
    ticket: Option<TicketId>,
    /// The last intent that can go on, by what was said.
    asked: Option<LeafIndex>,
    /// Effects of the upstream.
    effects: Vec<Effect>,
}

/// A story played to its end.
pub struct Played {
    /// The process; none if it did not even start.
    pub world: Option<World>,
    /// What it was told.
    pub trace: Trace,
    /// Its disk.
    pub disk: FakeDisk,
}

/// A closed world to begin every run from.
pub struct Simulator {
    base: World,
}

impl Default for Simulator {
    fn default() -> Self {
        Self::new()
    }
}

impl Simulator {
    /// Builds the world that all runs begin with.
    #[must_use]
    pub fn new() -> Self {
        let base = World::new();
        base.gate.close().unwrap();
        Self { base }
    }

    /// Plays `story` on a copy of the base's disk that `plan` has put faults on. `between` runs before each step;
    /// `what` names the case.
    pub fn play(
        &self,
        what: &str,
        story: &[Step],
        plan: impl FnOnce(&FakeDisk),
        between: impl Fn(usize, &World),
    ) -> Played {
        let disk = self.base.disk.process_crash_image();
        plan(&disk);
        let mut trace = Trace { what: what.to_owned(), ..Trace::default() };
        let Ok(mut world) = self.base.restart(disk.clone()) else {
            return Played { world: None, trace, disk };
        };
        world.stage.upstream = ScriptedUpstream::new();
        for (at, step) in story.iter().enumerate() {
            between(at, &world);
            take(&world, *step, &mut trace);
        }
        between(story.len(), &world);
        drop(world.gate.close());
        trace.effects = world.upstream().effects();
        Played { world: Some(world), trace, disk }
    }

    /// Restarts from `image` and checks every promise; `what` names the case.
    pub fn check(&self, played: &Played, image: FakeDisk, what: &str) {
        let before = played.world.as_ref().unwrap_or(&self.base);
        let mut next = before.restart(image).unwrap_or_else(|error| panic!("{what}: no restart: {error}"));
        next.stage.upstream = ScriptedUpstream::new();
        let trace = &played.trace;
        check_log(&next, trace, what);
        let probe = next.call(READ);
        if trace.killed {
            assert!(denied_for(&probe, ReasonCode::Killed), "{what}: (6) after a kill and a restart: {probe:?}");
        } else {
            assert!(matches!(probe, Answer::Ran { status: Status::Done, receipt: Some(_), .. }), "{what}: {probe:?}");
        }
        // Whatever consent is left may be used up once, and no second time.
        let change = arguments(CHANGE);
        for _ in 0..2 {
            drop(next.call(CHANGE));
        }
        let ran = count(&trace.effects, change.as_bytes()) + next.upstream().count_of(change.as_bytes());
        assert!(ran <= trace.signed, "{what}: (5) {ran} runs on {} consents", trace.signed);
        next.gate.close().unwrap_or_else(|error| panic!("{what}: {error}"));
        let disk = next.disk.process_crash_image();
        verify::walk(&store(&disk), None, |_, _| {}).unwrap_or_else(|error| panic!("{what}: (12) {error}"));
        let again = next.restart(disk).unwrap_or_else(|error| panic!("{what}: no second restart: {error}"));
        outcomes(&again.records(), what);
        drop(again.gate.close());
    }
}

fn count(effects: &[Effect], bytes: &[u8]) -> usize {
    effects.iter().filter(|effect| effect.bytes == bytes).count()
}

fn denied_for(answer: &Answer<Vec<u8>>, code: ReasonCode) -> bool {
    matches!(answer, Answer::Denied { reasons, .. } if reasons.first().is_some_and(|reason| reason.code == code))
}

fn take(world: &World, step: Step, trace: &mut Trace) {
    match step {
        Step::Read => drop(told(world, READ, trace)),
        Step::Ask => {
            world.upstream().plays(Script::Ask);
            trace.asked = told(world, READ, trace).continuable();
            world.upstream().plays(Script::Answer);
        }
        Step::GoOn => {
            if let Some(intent) = trace.asked {
                drop(answered(world, world.going_on(READ, intent), READ, trace));
            }
        }
        Step::Drop => drop(told(world, DROP, trace)),
        Step::Change => drop(told(world, CHANGE, trace)),
        Step::Lost => {
            world.upstream().plays(Script::LoseReply);
            drop(told(world, READ, trace));
            world.upstream().plays(Script::Answer);
        }
        Step::Approve => {
            if let Some(ticket) = trace.ticket.take() {
                trace.signed += 1;
                drop(world.approve(&ticket));
            }
        }
        Step::Kill => {
            world.upstream().plays(Script::Slow);
            let slow = world.begin_slow();
            let ack = world.kill(&KillScope::Agent(world.caller.principal.agent.clone()));
            let written = world.upstream().bytes_written();
            let answer = world.wait(slow).unwrap();
            // One thing at a time: the outcome is in the log before the kill is.
            world.record_kill(&ack);
            assert_eq!(world.upstream().bytes_written(), written, "{}: (6) a late byte", trace.what);
            world.upstream().plays(Script::Answer);
            trace.killed = true;
            note(&answer, br#"{"steps":100}"#, trace);
        }
        Step::Tick => world.tick(),
    }
}

/// Calls, and checks at once that the answer says what happened.
fn told(world: &World, sql: &str, trace: &mut Trace) -> Answer<Vec<u8>> {
    answered(world, world.framed("query", &arguments(sql)), sql, trace)
}

fn answered(world: &World, call: Call, sql: &str, trace: &mut Trace) -> Answer<Vec<u8>> {
    let before = world.upstream().effects().len();
    let answer = world.wait(world.begin(call)).unwrap();
    let effects = world.upstream().effects().len() - before;
    let said = match &answer {
        Answer::Ran { status, .. } => usize::from(*status != Status::NotStarted),
        Answer::Parked { .. } | Answer::Denied { .. } => 0,
    };
    assert_eq!(effects, said, "{}: (3) effects beside the answer {answer:?}", trace.what);
    let is_denied = matches!(answer, Answer::Denied { .. });
    assert!(is_denied || sql != DROP, "{}: (3) {answer:?}", trace.what);
    note(&answer, arguments(sql).as_bytes(), trace);
    answer
}

fn note(answer: &Answer<Vec<u8>>, bytes: &[u8], trace: &mut Trace) {
    match answer {
        Answer::Ran { receipt, .. } => {
            trace.ran.push(bytes.to_vec());
            trace.receipts.extend(receipt.clone());
        }
        Answer::Parked { ticket, receipt, .. } => {
            trace.ticket = Some(ticket.clone());
            trace.receipts.push(receipt.clone());
        }
        Answer::Denied { receipt, .. } => trace.receipts.extend(receipt.clone()),
    }
}

fn check_log(next: &World, trace: &Trace, what: &str) {
    let records = next.records();
    for effect in &trace.effects {
        let intent = usize::try_from(effect.intent.0).ok().and_then(|index| records.get(index));
        let is_its = intent.is_some_and(|stored| is_intent_of(stored, &effect.bytes));
        assert!(is_its, "{what}: (1) an effect without its intent at {:?}", effect.intent);
    }
    for bytes in &trace.ran {
        let said = trace.ran.iter().filter(|other| *other == bytes).count();
        let intents = records.iter().filter(|stored| is_intent_of(stored, bytes)).count();
        assert!(intents >= said, "{what}: (3) {said} calls were said to have run, {intents} intents stand in the log");
    }
    check_grants(&records, what);
    let going_on = check_continuations(&records, what);
    let closed = outcomes(&records, what);
    let charged: u64 = closed.values().map(|outcome| outcome.charged).sum();
    let budgets = next.refolded().budgets();
    for budget in &budgets {
        assert!(budget.spent + budget.reserved <= budget.cap, "{what}: (4) {budget:?}");
        assert_eq!((budget.spent, budget.reserved), (charged, 0), "{what}: (4) {budget:?}");
    }
    // What goes on was charged with the call that it goes on with.
    let begun = trace.effects.iter().filter(|effect| !going_on.contains(&effect.intent.0)).count() as u64;
    assert!(charged >= begun, "{what}: (4) {charged} charged, {begun} effects");
    assert_eq!(budgets.len(), usize::from(charged > 0), "{what}: (4) no counter");
    let vkey = countersign_ledger::load_verifier(&store(&next.disk)).unwrap();
    for receipt in &trace.receipts {
        let verified = receipt.verify(&vkey).unwrap_or_else(|error| panic!("{what}: (12) {error}"));
        for (leaf, proof) in verified.leaves.iter().zip(&receipt.proofs) {
            let kept = usize::try_from(leaf.index).ok().and_then(|index| records.get(index));
            assert!(kept.is_some_and(|stored| stored.leaf == proof.leaf), "{what}: (12) leaf {} is lost", leaf.index);
        }
    }
}

/// (5) Who redeems a grant stands behind the consent that gave it, and alone.
fn check_grants(records: &[Stored], what: &str) {
    let mut granted = BTreeSet::new();
    for stored in records {
        match &stored.record.body {
            Body::Consent(consent) if consent.grant_expires.is_some() => {
                granted.insert(consent.ticket.clone());
            }
            Body::Intent(attempt) => {
                let is_covered = attempt.ticket.as_ref().is_none_or(|ticket| granted.remove(ticket));
                assert!(is_covered, "{what}: (5) the intent {} redeems what nobody granted", stored.index);
            }
            _ => {}
        }
    }
}

/// (5) A call goes on once, after its outcome asked, as the same action of the same caller. Gives the intents that go on.
fn check_continuations(records: &[Stored], what: &str) -> BTreeSet<u64> {
    let (mut asked, mut going_on) = (BTreeMap::new(), BTreeSet::new());
    for stored in records {
        match &stored.record.body {
            Body::Outcome(outcome) if outcome.status == Status::InputRequired => {
                let intent = usize::try_from(outcome.intent.0).ok().and_then(|index| records.get(index)).unwrap();
                let attempt = intent.record.body.attempt().unwrap();
                asked.insert(outcome.intent, (attempt.principal.clone(), attempt.digest));
            }
            Body::Intent(attempt) => {
                let Some(continued) = &attempt.continues else { continue };
                let before = asked.remove(&continued.intent);
                let same = Some((attempt.principal.clone(), attempt.digest));
                assert_eq!(before, same, "{what}: (5) the intent {} goes on with nothing", stored.index);
                going_on.insert(stored.index);
            }
            _ => {}
        }
    }
    going_on
}

fn is_intent_of(stored: &Stored, bytes: &[u8]) -> bool {
    let arguments = stored.payload.as_ref().map(|payload| payload.arguments.as_slice());
    matches!(stored.record.body, Body::Intent(_)) && arguments == Some(bytes)
}

/// (7) Every intent has exactly one outcome, and what recovery closed is unknown and charged. By intent.
fn outcomes(records: &[Stored], what: &str) -> BTreeMap<u64, Outcome> {
    let mut closed = BTreeMap::new();
    let mut started = 0;
    for stored in records {
        match &stored.record.body {
            Body::Started(_) => started = stored.index,
            Body::Outcome(outcome) => {
                let twice = closed.insert(outcome.intent.0, outcome.clone());
                assert!(twice.is_none(), "{what}: (7) a second outcome of the intent {}", outcome.intent);
                let is_late = outcome.intent.0 < started;
                let intent = usize::try_from(outcome.intent.0).ok().and_then(|index| records.get(index));
                let goes_on = intent.and_then(|it| it.record.body.attempt()).is_some_and(|it| it.continues.is_some());
                let is_unknown = (outcome.status, outcome.charged) == (Status::Unknown, u64::from(!goes_on));
                assert!(!is_late || is_unknown, "{what}: (7) recovery closed an intent with {outcome:?}");
            }
            _ => {}
        }
    }
    let is_intent = |stored: &&Stored| matches!(stored.record.body, Body::Intent(_));
    for intent in records.iter().filter(is_intent) {
        assert!(closed.contains_key(&intent.index), "{what}: (7) the intent {} has no outcome", intent.index);
    }
    closed
}

/// Plays every story with `fault` at every operation, and hands each run to `check`. Gives how many runs there were.
pub fn at_every_step(simulator: &Simulator, fault: Fault, check: impl Fn(&Played, &str)) -> u64 {
    let mut runs = 0;
    for (name, story) in STORIES {
        for k in 0.. {
            let what = format!("{name}, {fault:?} at {k}");
            let played = simulator.play(&what, story, |disk| disk.fault_at(k, fault), |_, _| {});
            runs += 1;
            check(&played, &what);
            let is_over = played.world.is_some() && played.disk.ops() <= k;
            if is_over {
                break;
            }
        }
    }
    runs
}
