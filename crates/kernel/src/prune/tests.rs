//! What an order to prune is refused for, and that its record says where the log begins.

use countersign_model::command::Deed;
use countersign_model::facts::Effect;
use countersign_model::record::{Status, VaultScope};
use countersign_model::unit::LeafIndex;
use countersign_model::{Body, Digest, TimeMs};

use crate::Event;
use crate::tests::fixture::*;

fn check(rig: &mut Rig, minimum: u64, why: &str) {
    let is_accepted = rig.order("ana", Deed::Prune { minimum: LeafIndex(minimum) });
    assert_eq!(is_accepted, why.is_empty(), "{minimum}: {:?}", rig.refusals);
    assert!(
        is_accepted || rig.refusals.last().unwrap().contains(why),
        "{:?} does not say `{why}`",
        rig.refusals.last()
    );
}

/// More than there ever are: where files end is not the kernel's to know.
const ALL: u64 = 1_000;

fn size(rig: &Rig) -> u64 {
    rig.log.len() as u64
}

#[test]
fn what_is_held_or_in_doubt_is_not_pruned() {
    let mut rig = Rig::with_humans(vec![]);
    check(&mut rig, 0, "begins at record `0` already");
    let run = || VaultScope::Run("r-1".parse().unwrap());
    for scope in [None, Some(run())] {
        assert!(rig.order("ana", Deed::Hold { name: "case".parse().unwrap(), scope }));
        check(&mut rig, 1, "the hold `case` is in force");
        rig.restart();
        check(&mut rig, 1, "the hold `case` is in force");
        assert!(rig.order("ana", Deed::Release { name: "case".parse().unwrap() }));
    }
    assert!(rig.order("ana", Deed::Erase { scope: run() }));
    check(&mut rig, 1, "an erasure is ordered and not done");
    let (command, tickets) = (LeafIndex(size(&rig) - 1), Default::default());
    rig.step(Event::Erased { scope: run(), command, keys: 0, payloads: 0, tickets });
    rig.step(Event::ClockJumped { by_ms: HOUR_MS });
    check(&mut rig, 1, "the clock is in doubt");
    assert!(rig.order("ana", Deed::ConfirmClock));
    check(&mut rig, 1, "");
}

#[test]
fn what_something_live_points_to_is_not_pruned() {
    let mut rig = Rig::with_humans(vec![]);
    let begins = size(&rig);
    let parked = rig.call(&shop(), action(&shop(), Effect::Destructive, "1"));
    check(&mut rig, ALL, "it waits for consent");
    check(&mut rig, begins, "");
    assert!(rig.consent(&ticket(&parked), ("ana", "ana"), true));
    check(&mut rig, ALL, "its grant is not used");
    let intent = rig.call(&shop(), action(&shop(), Effect::Destructive, "1"));
    assert!(is_intent(&intent));
    check(&mut rig, ALL, "has no outcome yet");
    rig.end(attempt(&intent).reserved_at, Status::Done);
    let refused = rig.call(&shop(), action(&shop(), Effect::Destructive, "2"));
    assert!(rig.consent(&ticket(&refused), ("ana", "ana"), false));
    check(&mut rig, ALL, "its refusal holds");
    rig.now = rig.now.saturating_add_ms(24 * HOUR_MS);
    let end = size(&rig);
    check(&mut rig, end, "");
}

#[test]
fn the_record_says_where_the_log_begins_and_it_never_begins_earlier() {
    let mut rig = Rig::with_humans(vec![]);
    check(&mut rig, 2, "");
    assert_eq!(rig.kernel.pruned(), None, "an order alone prunes nothing");
    let (command, state) = (LeafIndex(size(&rig) - 1), Digest([4; 32]));
    rig.step(Event::Pruned { minimum: LeafIndex(2), newest: TimeMs(7), command, state });
    assert!(matches!(&rig.log.last().unwrap().record.body, Body::Pruned(pruned) if pruned.state == state));
    rig.restart();
    let begin = rig.kernel.pruned().unwrap();
    assert_eq!((begin.minimum, begin.state), (LeafIndex(2), state));
    check(&mut rig, 1, "begins at record `2` already");
    check(&mut rig, 2, "begins at record `2` already");
    check(&mut rig, 3, "");
    let image = refolded(rig.kernel.settings().clone(), &rig.log).image().unwrap();
    let read = crate::Kernel::restore(rig.kernel.settings().clone(), &image, &mut |_| None).unwrap();
    assert_eq!(read.pruned(), Some(begin));
}
