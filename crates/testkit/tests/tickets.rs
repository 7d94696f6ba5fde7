//! What the owner of a ticket is told of it, and that nobody else is told anything.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail the test")]

use countersign_gate::TicketState;
use countersign_gate::call::Answer;
use countersign_model::id::TicketId;
use countersign_model::{Caller, TimeMs};
use countersign_testkit::world::{CHANGE, GATE_MS, World, id};

fn parked(world: &World) -> (TicketId, TimeMs) {
    match world.call(CHANGE) {
        Answer::Parked { ticket, expires, .. } => (ticket, expires),
        other => panic!("{other:?}"),
    }
}

/// What the caller is told when it waits for the ticket to change, while `happens`.
fn told(world: &World, ticket: &TicketId, happens: impl FnOnce()) -> TicketState {
    let known = world.gate.ticket(&world.caller, ticket);
    let (gate, caller, of) = (world.gate.clone(), world.caller.clone(), ticket.clone());
    let waiting = world.stage.runtime.spawn(async move { gate.ticket_changed(&caller, &of, &known).await });
    happens();
    world.wait(waiting).unwrap()
}

#[test]
fn a_ticket_waits_is_consented_to_and_is_redeemed() {
    let world = World::new();
    let (ticket, expires) = parked(&world);
    let gates = vec!["a change of the customer database".to_owned()];
    assert_eq!(world.gate.ticket(&world.caller, &ticket), TicketState::Waiting { expires, gates });
    let consented = told(&world, &ticket, || assert!(world.approve(&ticket).is_ok()));
    assert!(matches!(consented, TicketState::Consented { .. }), "{consented:?}");
    assert_eq!(world.gate.ticket(&world.caller, &ticket), consented);
    let redeemed = told(&world, &ticket, || assert!(matches!(world.call(CHANGE), Answer::Ran { .. })));
    assert_eq!(redeemed, TicketState::Redeemed);
    // What cannot change any more is told at once.
    assert_eq!(told(&world, &ticket, || {}), TicketState::Redeemed);
}

#[test]
fn a_ticket_is_refused_or_lapses() {
    let world = World::new();
    let (ticket, _) = parked(&world);
    assert_eq!(told(&world, &ticket, || assert!(world.answer(&ticket, false).is_ok())), TicketState::Denied);
    let world = World::new();
    let (ticket, _) = parked(&world);
    let lapsed = told(&world, &ticket, || {
        world.stage.clock.advance_ms(GATE_MS);
        world.tick();
    });
    assert_eq!(lapsed, TicketState::Lapsed);
    // A consent that nobody used lapses too.
    let (ticket, _) = parked(&world);
    world.approve(&ticket).unwrap();
    world.stage.clock.advance_ms(world.stage.rules.limits.grant_ttl_ms);
    world.tick();
    assert_eq!(world.gate.ticket(&world.caller, &ticket), TicketState::Lapsed);
}

#[test]
fn a_ticket_is_its_owners_alone() {
    let world = World::new();
    let (ticket, _) = parked(&world);
    let as_other = |change: fn(&mut Caller)| {
        let mut other = world.caller.clone();
        change(&mut other);
        world.gate.ticket(&other, &ticket)
    };
    let strangers: [fn(&mut Caller); 3] = [
        |caller| caller.principal.agent = id("other"),
        |caller| caller.principal.run = id("r-other"),
        |caller| caller.principal.tenant = id("other"),
    ];
    let ask = |world: &World| {
        for change in strangers {
            assert_eq!(as_other(change), TicketState::Unknown);
        }
        // Another token for the same run may redeem it, and may ask.
        assert_eq!(as_other(|caller| caller.principal.session = id("s-2")), world.gate.ticket(&world.caller, &ticket));
    };
    ask(&world);
    world.answer(&ticket, false).unwrap();
    ask(&world);
    let nobodys = world.gate.ticket(&world.caller, &id("t-nothing"));
    assert_eq!(nobodys, TicketState::Unknown);
}

#[test]
fn what_waits_is_known_after_a_restart_and_what_was_answered_is_not() {
    let world = World::new();
    let (waits, expires) = parked(&world);
    world.gate.close().unwrap();
    let next = world.restart(world.disk.process_crash_image()).unwrap();
    let state = next.gate.ticket(&next.caller, &waits);
    assert!(matches!(&state, TicketState::Waiting { expires: until, .. } if *until == expires), "{state:?}");
    assert_eq!(told(&next, &waits, || assert!(next.answer(&waits, false).is_ok())), TicketState::Denied);
    next.gate.close().unwrap();
    let last = next.restart(next.disk.process_crash_image()).unwrap();
    assert_eq!(last.gate.ticket(&last.caller, &waits), TicketState::Unknown);
}
