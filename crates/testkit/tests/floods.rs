//! Floods of denials: an agent that is denied without end leaves a few hundred records a second, every call of it is
//! counted, and nobody else notices.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests fail the test")]

use countersign_gate::DENIALS_MAX;
use countersign_gate::call::{Answer, Call};
use countersign_model::record::Status;
use countersign_model::{Body, Caller, Principal, ReasonCode};
use countersign_testkit::world::{CHANGE, DROP, READ, Rules, World, arguments};

/// As many calls of one session as a point lets in at once.
const ABREAST: u64 = 64;

/// What became of many calls.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    /// Denied on their own merits, or parked again.
    denied: u64,
    /// Refused unasked.
    flood: u64,
    ran: u64,
}

impl Tally {
    fn add(&mut self, answer: &Answer<Vec<u8>>) {
        match answer {
            Answer::Denied { reasons, receipt } => match reasons.first().map(|reason| reason.code) {
                Some(ReasonCode::TooManyDenials) => {
                    assert!(receipt.is_none(), "a call that was only counted has no record to prove");
                    self.flood += 1;
                }
                _ => self.denied += 1,
            },
            Answer::Parked { .. } => self.denied += 1,
            Answer::Ran { .. } => self.ran += 1,
        }
    }
}

fn call(world: &World, caller: &Caller, sql: &str) -> Call {
    Call { caller: caller.clone(), ..world.framed("query", &arguments(sql)) }
}

/// Calls `count` times, as many abreast as a session may.
fn flood(world: &World, caller: &Caller, sql: &str, count: u64) -> Tally {
    let mut tally = Tally::default();
    for _ in 0..count.div_ceil(ABREAST) {
        let begun: Vec<_> = (0..ABREAST).map(|_| world.begin(call(world, caller, sql))).collect();
        begun.into_iter().for_each(|call| tally.add(&world.wait(call).unwrap()));
    }
    tally
}

/// How many calls of `principal` the records stand for as refused unasked, and how many records there are.
fn refused_on_record(world: &World, principal: &Principal) -> (u64, usize) {
    let records = world.records();
    let counts: Vec<u64> = records
        .iter()
        .filter_map(|stored| match &stored.record.body {
            Body::Refused(refused) if refused.reason.code == ReasonCode::TooManyDenials => {
                assert_eq!(refused.principal.as_ref(), Some(principal), "the wrong agent is named");
                Some(refused.count)
            }
            _ => None,
        })
        .collect();
    (counts.iter().sum(), counts.len())
}

fn runs(answer: &Answer<Vec<u8>>) -> bool {
    matches!(answer, Answer::Ran { status: Status::Done, receipt: Some(_), .. })
}

/// Floods with `sql`, and checks what is left behind.
fn check(sql: &str, prepare: impl FnOnce(&World)) {
    let world = World::under(Rules::capped(2));
    prepare(&world);
    world.tick();
    let before = world.records().len() as u64;
    let (coder, (_, other)) = (world.caller.clone(), world.token_of("other"));
    let tally = flood(&world, &coder, sql, 10_000);
    let asked = 10_000_u64.next_multiple_of(ABREAST);
    assert_eq!((tally.denied + tally.flood, tally.ran), (asked, 0), "{tally:?}");
    assert!(tally.denied > DENIALS_MAX && tally.denied <= DENIALS_MAX + ABREAST, "{tally:?}");
    // The flooded second: only the one who floods is refused, whatever it asks for.
    let refused = world.wait(world.begin(call(&world, &coder, READ))).unwrap();
    assert!(matches!(refused, Answer::Denied { ref reasons, .. } if reasons[0].code == ReasonCode::TooManyDenials));
    let served = world.wait(world.begin(call(&world, &other, READ))).unwrap();
    assert!(runs(&served), "another agent is unaffected: {served:?}");
    world.tick();
    for _ in 0..2 {
        assert!(runs(&world.call(READ)), "the second is over, and nothing is held of what was refused");
    }
    assert_eq!(refused_on_record(&world, &coder.principal), (tally.flood + 1, 1));
    let left = world.records().len() as u64 - before;
    assert!(left < 300, "{left} records for {asked} calls");
    world.gate.close().unwrap();
    let again = world.restart(world.disk.process_crash_image()).unwrap();
    assert_eq!(refused_on_record(&again, &coder.principal), (tally.flood + 1, 1), "counted once, also over a restart");
    again.gate.close().unwrap();
}

#[test]
fn ten_thousand_denied_calls_leave_few_records_and_every_one_is_counted() {
    check(DROP, |_| {});
}

#[test]
fn repeating_what_waits_is_a_flood_too() {
    check(CHANGE, |world| drop(world.call(CHANGE)));
}

#[test]
fn an_agent_that_is_allowed_is_never_taken_for_a_flood() {
    let world = World::under(Rules::capped(1_000));
    let coder = world.caller.clone();
    let tally = flood(&world, &coder, READ, 320);
    assert_eq!(tally, Tally { ran: 320, ..Tally::default() });
    // Up to the bound each denial is decided and recorded.
    for _ in 0..=DENIALS_MAX {
        assert!(matches!(world.call(DROP), Answer::Denied { receipt: Some(_), .. }));
    }
    assert!(matches!(world.call(READ), Answer::Denied { receipt: None, .. }));
    world.gate.close().unwrap();
}

#[test]
fn counts_that_cannot_be_written_are_kept_and_do_not_close_the_gate() {
    let world = World::new();
    let coder = world.caller.clone();
    let tally = flood(&world, &coder, DROP, 640);
    let disk = &world.disk;
    disk.set_capacity(Some(disk.used()));
    for _ in 0..3 {
        world.tick();
    }
    disk.set_capacity(None);
    world.wait(async { tokio::time::sleep(std::time::Duration::from_millis(50)).await });
    assert!(!world.gate.status().stalled, "a count is no reason to close");
    world.tick();
    assert!(runs(&world.call(READ)));
    world.gate.close().unwrap_or_else(|error| panic!("{error}"));
    let again = world.restart(world.disk.process_crash_image()).unwrap();
    assert_eq!(refused_on_record(&again, &coder.principal).0, tally.flood);
    again.gate.close().unwrap();
}

#[test]
fn an_upstream_that_asks_without_end_is_refused_and_the_agent_is_not() {
    let world = World::under(Rules::capped(2));
    let question = || world.wait(world.begin(world.framed("roots/list", "{}"))).unwrap();
    for _ in 0..=DENIALS_MAX {
        assert!(matches!(question(), Answer::Denied { receipt: Some(_), .. }), "denied on its own merits");
    }
    assert!(matches!(question(), Answer::Denied { receipt: None, .. }), "then unasked");
    assert!(runs(&world.call(READ)), "what an upstream asks is not the agent's doing");
    world.gate.close().unwrap();
}
