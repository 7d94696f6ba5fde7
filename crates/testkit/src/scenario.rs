//! The ten scenarios that every enforcement point must pass, and the runner that plays them through any [`Door`].
//!
//! A point implements [`Door`] in `scenarios/<point>.rs` and names one test for each scenario. Every scenario looks at
//! three places: what the agent was told, what the upstream saw, and what stands in the log. It must not know protocols.
//! It does not cover what only one point has; that belongs into the point's own tests.
#![expect(clippy::unwrap_used, clippy::panic, clippy::missing_panics_doc, reason = "a scenario that fails panics")]

use std::time::{Duration, Instant};

use countersign_model::id::TicketId;
use countersign_model::record::{KillScope, Status};
use countersign_model::{Body, ReasonCode};

use crate::world::{CHANGE, DROP, GATE_MS, READ, Rules, World};

/// What an agent was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// It ran, and this is the upstream's answer. Whether a receipt came with it.
    Ran {
        /// The text of the answer.
        text: String,
        /// Whether there was a receipt; without one it was said to be unrecorded.
        receipt: bool,
    },
    /// It waits under this ticket.
    Pending(TicketId),
    /// It did not run, for the reason of this code.
    Denied(String),
    /// It was sent, and what became of it is not known.
    Unknown,
    /// It was refused before there was an action.
    Refused,
}

/// A point, as an agent sees it, with an upstream behind it that can be looked at.
pub trait Door: Sized {
    /// Opens the door on a world. Effects of before stay to be seen.
    fn open(world: &World) -> Self;
    /// The agent has this SQL run, by the upstream's tool `query`.
    fn ask(&self, world: &World, sql: &str) -> Said;
    /// The agent begins the tool `slow`, which has effects until it is stopped. Gives what waits for its answer.
    fn begin_slow(&self, world: &World) -> Box<dyn FnOnce(&World) -> Said>;
    /// The agent sends something that two readers could read differently, with this SQL in it.
    fn ask_ambiguously(&self, world: &World, sql: &str) -> Said;
    /// Every effect that the upstream has had, oldest first.
    fn effects(&self) -> Vec<String>;
    /// Closes the door and gives the effects that the upstream has had.
    fn close(self, world: &World) -> Vec<String>;
}

/// SQL that the upstream of a door runs without answering.
pub const LOST: &str = "SELECT lost FROM customers";

fn ran() -> Said {
    Said::Ran { text: "done".to_owned(), receipt: true }
}

fn kinds(world: &World) -> Vec<&'static str> {
    world.records().iter().map(|stored| stored.record.body.kind()).collect()
}

/// Records of the log but for those that a world begins with.
fn since_built(world: &World) -> Vec<&'static str> {
    kinds(world).into_iter().skip(3).collect()
}

fn outcomes(world: &World) -> Vec<(Status, u64)> {
    let outcome = |body: &Body| match body {
        Body::Outcome(outcome) => Some((outcome.status, outcome.charged)),
        _ => None,
    };
    world.records().iter().filter_map(|stored| outcome(&stored.record.body)).collect()
}

fn ticket(said: Said) -> TicketId {
    match said {
        Said::Pending(ticket) => ticket,
        other => panic!("pending was expected, not {other:?}"),
    }
}

/// What is permitted runs once, with intent, outcome and receipt.
pub fn allow<D: Door>() {
    let world = World::new();
    let door = D::open(&world);
    assert_eq!(door.ask(&world, READ), ran());
    assert_eq!(door.effects(), [READ]);
    assert_eq!(since_built(&world), ["intent", "outcome"]);
    assert_eq!(outcomes(&world), [(Status::Done, 1)]);
    door.close(&world);
}

/// What is forbidden does not run and is on record with its reason.
pub fn deny<D: Door>() {
    let world = World::new();
    let door = D::open(&world);
    assert_eq!(door.ask(&world, DROP), Said::Denied(ReasonCode::PolicyForbid.as_str().to_owned()));
    assert_eq!(door.close(&world), Vec::<String>::new());
    assert_eq!(since_built(&world), ["denial"]);
}

/// What is gated waits; the identical retry runs once after consent, and a changed call does not.
pub fn approve<D: Door>() {
    let world = World::new();
    let door = D::open(&world);
    let first = ticket(door.ask(&world, CHANGE));
    assert_eq!(ticket(door.ask(&world, CHANGE)), first, "the same call waits under the same ticket");
    world.approve(&first).unwrap();
    assert_ne!(ticket(door.ask(&world, &format!("{CHANGE} OR id = 2"))), first, "a changed call needs its own");
    assert_eq!(door.ask(&world, CHANGE), ran());
    assert_ne!(ticket(door.ask(&world, CHANGE)), first, "a consent is good for one run");
    assert_eq!(door.close(&world), [CHANGE]);
    assert_eq!(since_built(&world), ["proposal", "waiting", "consent", "proposal", "intent", "outcome", "proposal"]);
}

/// A proposal lapses, and so does a consent that nobody used.
pub fn expire<D: Door>() {
    let world = World::new();
    let door = D::open(&world);
    let first = ticket(door.ask(&world, CHANGE));
    world.stage.clock.advance_ms(GATE_MS);
    assert!(world.gate.waiting_under(&first).is_err() || world.gate.waiting().unwrap().len() == 1);
    world.tick();
    assert!(world.gate.waiting_under(&first).is_err(), "it lapsed");
    let second = ticket(door.ask(&world, CHANGE));
    assert_ne!(first, second);
    world.approve(&second).unwrap();
    world.stage.clock.advance_ms(world.stage.rules.limits.grant_ttl_ms);
    let third = ticket(door.ask(&world, CHANGE));
    assert_ne!(second, third, "the grant has lapsed");
    assert_eq!(door.close(&world), Vec::<String>::new());
    assert_eq!(since_built(&world), ["proposal", "expired", "proposal", "consent", "expired", "proposal"]);
}

/// The call over the limit is denied; one that waits holds none of it.
pub fn budget<D: Door>() {
    let world = World::under(Rules::capped(2));
    let door = D::open(&world);
    assert_eq!(door.ask(&world, READ), ran());
    let waiting = ticket(door.ask(&world, CHANGE));
    assert_eq!(door.ask(&world, READ), ran(), "what waits holds nothing");
    let exhausted = Said::Denied(ReasonCode::BudgetExhausted.as_str().to_owned());
    assert_eq!(door.ask(&world, READ), exhausted);
    world.approve(&waiting).unwrap();
    assert_eq!(door.ask(&world, CHANGE), exhausted, "a consent is no budget");
    assert_eq!(door.close(&world), [READ, READ]);
}

/// After the acknowledgement nothing more happens, and nothing new begins, also after a restart.
pub fn kill<D: Door>() {
    let world = World::new();
    let door = D::open(&world);
    let slow = door.begin_slow(&world);
    wait_until("the first effect", || !door.effects().is_empty());
    let ack = world.kill(&KillScope::Agent(world.caller.principal.agent.clone()));
    let at_ack = door.effects().len();
    assert_eq!((ack.cancelled, ack.unsaved.as_deref()), (1, None));
    assert_eq!(slow(&world), Said::Unknown);
    assert!(world.record_kill(&ack));
    let killed = Said::Denied(ReasonCode::Killed.as_str().to_owned());
    assert_eq!(door.ask(&world, READ), killed);
    std::thread::sleep(Duration::from_millis(30));
    // The upstream is a process: it hears of the cancellation when it reads it.
    assert!(
        door.effects().len() <= at_ack + 5,
        "{at_ack} effects at the acknowledgement, {:?} now",
        door.effects().len()
    );
    let settled = door.effects().len();
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(door.close(&world).len(), settled, "the upstream went on");
    assert_eq!(outcomes(&world), [(Status::Unknown, 1)]);
    world.gate.close().unwrap();
    let next = world.restart(world.disk.process_crash_image()).unwrap();
    let door = D::open(&next);
    assert_eq!(door.ask(&next, READ), killed);
    door.close(&next);
}

/// What two readers could read differently is refused, reaches nobody, and is on record.
pub fn malformed<D: Door>() {
    let world = World::new();
    let door = D::open(&world);
    assert_eq!(door.ask_ambiguously(&world, READ), Said::Refused);
    assert_eq!(door.close(&world), Vec::<String>::new());
    assert_eq!(since_built(&world), ["refused"]);
}

/// The process ends before the intent is on disk: nothing ran, and nothing is charged.
pub fn crash_before_intent<D: Door>() {
    let world = World::new();
    let door = D::open(&world);
    world.disk.crash();
    assert!(matches!(door.ask(&world, READ), Said::Denied(_)));
    assert_eq!(door.close(&world), Vec::<String>::new());
    for image in [world.disk.process_crash_image(), world.disk.crash_image(1)] {
        let next = world.restart(image).unwrap();
        assert_eq!(since_built(&next), ["started"]);
        assert!(next.refolded().budgets().iter().all(|budget| budget.spent == 0));
        next.gate.close().unwrap();
    }
}

/// The process ends after the intent: it comes back as `unknown`, charged, and is not tried again.
pub fn crash_after_intent<D: Door>() {
    let world = World::new();
    let door = D::open(&world);
    let slow = door.begin_slow(&world);
    wait_until("the first effect", || !door.effects().is_empty());
    world.disk.crash();
    let seen = door.close(&world).len();
    assert!(seen > 0);
    assert_ne!(slow(&world), ran());
    for image in [world.disk.process_crash_image(), world.disk.crash_image(1)] {
        let next = world.restart(image).unwrap();
        assert_eq!(since_built(&next), ["intent", "started", "outcome"]);
        assert_eq!(outcomes(&next), [(Status::Unknown, 1)]);
        let door = D::open(&next);
        assert_eq!(door.effects().len(), seen, "it was tried again");
        assert!(next.refolded().budgets().iter().all(|budget| budget.spent == 1 && budget.reserved == 0));
        door.close(&next);
        next.gate.close().unwrap();
    }
}

/// The upstream acted and its answer is lost: the agent hears that it is not known, and it is charged.
pub fn lost_reply<D: Door>() {
    let world = World::new();
    let door = D::open(&world);
    assert_eq!(door.ask(&world, LOST), Said::Unknown);
    assert_eq!(door.effects(), [LOST], "it was tried again");
    assert_eq!(since_built(&world), ["intent", "outcome"]);
    assert_eq!(outcomes(&world), [(Status::Unknown, 1)]);
    door.close(&world);
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(20), "{what} did not come");
        std::thread::sleep(Duration::from_millis(1));
    }
}
