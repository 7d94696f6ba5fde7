//! An image gives back the very state, and what follows from it; what is no image of this log is refused.

use countersign_model::command::Deed;
use countersign_model::encoding::{from_canonical, to_canonical};
use countersign_model::facts::Effect;
use countersign_model::record::{KillScope, Status, VaultScope};
use countersign_model::unit::LeafIndex;
use countersign_model::{Body, Digest, TimeMs};
use proptest::prelude::*;
use std::collections::BTreeMap;

use super::{ImageError, RestoreError, SessionImage, image_digest};
use crate::history::Histories;
use crate::replay::Leaf;
use crate::state::{Lease, Session};
use crate::tests::fixture::*;
use crate::{BudgetRule, BudgetScope, Event, Kernel, Settings};

fn restored(settings: Settings, image: &[u8], log: &[Leaf]) -> Result<Kernel, RestoreError> {
    let mut read = |leaf: LeafIndex| log.get(usize::try_from(leaf.0).ok()?).cloned();
    Kernel::restore(settings, image, &mut read)
}

fn based(settings: Settings, image: &[u8], log: &[Leaf]) -> Result<Kernel, RestoreError> {
    let mut read = |leaf: LeafIndex| log.get(usize::try_from(leaf.0).ok()?).cloned();
    Kernel::restore_base(settings, image, &mut read)
}

fn fold(kernel: &mut Kernel, log: &[Leaf]) {
    for Leaf { record, leaf, leaf_hash, payload } in log.iter().cloned() {
        kernel.step(TimeMs(0), Event::Recovered { record, leaf, leaf_hash, payload });
    }
}

#[derive(Clone, Copy, Debug)]
enum Move {
    Call { session: u8, effect: u8, arguments: u8 },
    End { nth: u8, status: u8 },
    GoOn { nth: u8, input: u8 },
    Consent { nth: u8, human: u8, approved: bool },
    Order(u8),
    Kill(u8),
    Pass { minutes: u16 },
    Jump,
    Restart,
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        6 => (0..3_u8, 0..5_u8, 0..3_u8).prop_map(|(session, effect, arguments)| Move::Call { session, effect, arguments }),
        3 => (0..4_u8, 0..6_u8).prop_map(|(nth, status)| Move::End { nth, status: status.min(4) }),
        2 => (0..4_u8, 0..2_u8).prop_map(|(nth, input)| Move::GoOn { nth, input }),
        3 => (0..3_u8, 0..3_u8, any::<bool>()).prop_map(|(nth, human, approved)| Move::Consent { nth, human, approved }),
        2 => (0..11_u8).prop_map(Move::Order),
        1 => (0..3_u8).prop_map(Move::Kill),
        2 => (1..900_u16).prop_map(|minutes| Move::Pass { minutes }),
        1 => Just(Move::Jump),
        1 => Just(Move::Restart),
    ];
    prop::collection::vec(one, 1..40)
}

fn budgets() -> Vec<BudgetRule> {
    let windowed = BudgetRule { window_ms: Some(HOUR_MS), agents: agents(&["shop"]), ..rule(BudgetScope::Agent, 9) };
    vec![rule(BudgetScope::Run, 12), windowed, rule(BudgetScope::Session, 20), rule(BudgetScope::Tenant, 60)]
}

const EFFECTS: [Effect; 5] = [Effect::Read, Effect::Write, Effect::Destructive, Effect::Spend, Effect::Outbound];
const STATUSES: [Status; 5] =
    [Status::Done, Status::Failed, Status::NotStarted, Status::Unknown, Status::InputRequired];
const PEOPLE: [&str; 3] = ["ana", "ben", "cleo"];

fn session(number: u8) -> countersign_model::Caller {
    caller(if number == 2 { "guest" } else { "shop" }, &format!("s-{number}"), &format!("r-{}", number / 2))
}

fn order(rig: &mut Rig, which: u8) {
    let later = rig.now.saturating_add_ms(HOUR_MS);
    let environment = || "production".parse().unwrap();
    let run = || VaultScope::Run("r-1".parse().unwrap());
    let deed = match which {
        0 => Deed::Freeze { environment: environment(), until: later },
        1 => Deed::Thaw { environment: environment() },
        2 => Deed::IssueToken { agent: "shop".parse().unwrap(), run: None, ttl_ms: HOUR_MS },
        3 => Deed::RevokeToken { session: "s-1".parse().unwrap() },
        4 => Deed::Lease { session: "s-0".parse().unwrap(), name: "outbound".parse().unwrap(), until: later },
        5 => Deed::Resume { scope: KillScope::All },
        6 => Deed::Hold { name: "case".parse().unwrap(), scope: Some(run()) },
        7 => Deed::Release { name: "case".parse().unwrap() },
        8 => Deed::Erase { scope: run() },
        9 => Deed::RevokeBlock { block: countersign_model::Digest([u8::from(rig.log.len().is_multiple_of(2)); 32]) },
        _ => Deed::ConfirmClock,
    };
    rig.order("ana", deed);
}

fn play(rig: &mut Rig, one: Move) {
    match one {
        Move::Call { session: of, effect, arguments } => {
            let caller = session(of);
            let action = action(&caller, EFFECTS[usize::from(effect)], &format!("{{\"id\":{arguments}}}"));
            rig.call(&caller, action);
        }
        Move::End { nth, status } => {
            let open = rig.kernel.state.open.keys().nth(usize::from(nth)).copied();
            if let Some(call) = open {
                rig.end(call, STATUSES[usize::from(status)]);
            }
        }
        Move::GoOn { nth, input } => {
            let waits = rig.kernel.state.continuables.image().into_iter().nth(usize::from(nth));
            if let Some((leaf, call)) = waits {
                let caller =
                    caller(call.principal.agent.as_str(), call.principal.session.as_str(), call.principal.run.as_str());
                let action = rig.going_on(usize::try_from(leaf.0).unwrap(), &input.to_string());
                rig.call(&caller, action);
            }
        }
        Move::Consent { nth, human, approved } => {
            let ticket = rig.kernel.pending().nth(usize::from(nth)).map(|parked| parked.ticket.clone());
            if let Some(ticket) = ticket {
                let name = PEOPLE[usize::from(human)];
                rig.consent(&ticket, (name, name), approved);
            }
        }
        Move::Order(which) => order(rig, which),
        Move::Kill(which) => {
            let scope = match which {
                0 => KillScope::All,
                1 => KillScope::Agent("guest".parse().unwrap()),
                _ => KillScope::Run("r-0".parse().unwrap()),
            };
            let epoch = rig.kernel.kills().epoch + 1;
            rig.step(Event::Killed { scope, epoch, cancelled: 0, took_ms: 1 });
        }
        Move::Pass { minutes } => rig.now = rig.now.saturating_add_ms(u64::from(minutes) * 60_000),
        Move::Jump => {
            rig.step(Event::ClockJumped { by_ms: HOUR_MS });
        }
        Move::Restart => rig.restart(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn an_image_gives_back_the_state_and_what_follows(moves in moves(), cut in 0.0..1.0_f64, more in moves()) {
        let mut rig = Rig::with_humans(budgets());
        moves.into_iter().for_each(|one| play(&mut rig, one));
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a small length")]
        let size = (rig.log.len() as f64 * cut) as usize;
        let settings = rig.kernel.settings().clone();
        let folded = refolded(settings.clone(), &rig.log[..size]);
        let image = folded.image().unwrap();
        let mut restored = restored(settings.clone(), &image, &rig.log).unwrap();
        prop_assert_eq!(&restored.state, &folded.state);
        prop_assert_eq!(&restored.image().unwrap(), &image);
        // A pruned log begins with the same state, whatever else it could begin with.
        let based = based(settings.clone(), &image, &rig.log).unwrap();
        prop_assert_eq!(&based.state, &folded.state);
        fold(&mut restored, &rig.log[size..]);
        let whole = refolded(settings, &rig.log);
        prop_assert_eq!(&restored.state, &whole.state);
        // And the two decide alike, whatever comes.
        let mut other = Rig::with_humans(budgets());
        (other.now, other.log, other.salt) = (rig.now, rig.log.clone(), rig.salt);
        (rig.kernel, other.kernel) = (whole, restored);
        for one in more {
            play(&mut rig, one);
            play(&mut other, one);
        }
        prop_assert_eq!(rig.log.len(), other.log.len());
        for (a, b) in rig.log.iter().zip(&other.log) {
            prop_assert_eq!(&a.record, &b.record);
        }
    }
}

/// A log with something of everything that a state holds.
fn eventful() -> Rig {
    let mut rig = Rig::with_humans(budgets());
    let moves = [
        Move::Order(4),
        Move::Call { session: 0, effect: 2, arguments: 0 },
        Move::Call { session: 0, effect: 2, arguments: 1 },
        Move::Consent { nth: 0, human: 0, approved: false },
        Move::Call { session: 1, effect: 2, arguments: 2 },
        Move::Consent { nth: 0, human: 1, approved: true },
        Move::Call { session: 0, effect: 0, arguments: 0 },
        Move::Order(0),
        Move::Order(3),
        Move::Kill(1),
        Move::Jump,
    ];
    for one in moves {
        play(&mut rig, one);
    }
    rig
}

/// The same, with a call that goes on, one whose going on waits for a human, and one that could go on.
fn continued() -> Rig {
    let mut rig = eventful();
    let read = |session, arguments| Move::Call { session, effect: 0, arguments };
    let ask = |nth| Move::End { nth, status: 4 };
    let moves = [
        Move::Order(9),
        Move::Order(1),
        Move::End { nth: 0, status: 0 },
        read(0, 5),
        ask(0),
        Move::GoOn { nth: 0, input: 0 },
        read(0, 6),
        ask(1),
        Move::Call { session: 0, effect: 1, arguments: 7 },
    ];
    for one in moves {
        play(&mut rig, one);
    }
    rig
}

/// If this fails, the image or the meaning of records has changed: count `IMAGE_VERSION` up and take the new digest.
#[test]
fn the_image_of_a_known_log_is_known() {
    let rig = continued();
    let mut settings = rig.kernel.settings().clone();
    settings.version = "1".to_owned();
    let folded = refolded(settings, &rig.log);
    let state = &folded.state;
    assert!(!state.parked.is_empty() && !state.refused.is_empty() && !state.open.is_empty());
    assert!(!state.freezes.is_empty() || !state.kill.scopes.is_empty());
    assert!(!state.continuables.image().is_empty());
    assert!(state.open.values().any(|open| open.is_continued()));
    let digest = image_digest(&folded.image().unwrap()).hex();
    expect_test::expect!["814f34cdfd51141a6fa5aee69475cf6b578888bc2b70e5866510ac102698dd7c"].assert_eq(&digest);
}

/// An image as version 4 made it: the same without what it did not know.
fn of_version_4(image: &[u8]) -> Vec<u8> {
    let mut image: super::Image = from_canonical(image).unwrap();
    (image.version, image.calls, image.continuables) = (4, None, None);
    to_canonical(&image).unwrap()
}

/// Bases of version 4 are read for ever: the digest is the one that version 4 gave this very log.
#[test]
fn a_base_of_version_4_is_still_read() {
    let rig = eventful();
    let mut settings = rig.kernel.settings().clone();
    settings.version = "1".to_owned();
    let folded = refolded(settings.clone(), &rig.log);
    let image = of_version_4(&folded.image().unwrap());
    let digest = "91c62b62487828a964634da4fbad35cff5dbc49bb53d9df908c27a4ba505dfb6";
    assert_eq!(image_digest(&image).hex(), digest);
    let based = based(settings.clone(), &image, &rig.log).unwrap();
    assert_eq!(based.state, without_calls(folded.state));
    assert_eq!(restored(settings.clone(), &image, &rig.log).err(), Some(RestoreError::Version { found: 4 }));
    // One version does not pass for the other.
    let mut mixed: super::Image = from_canonical(&image).unwrap();
    mixed.version = 5;
    let mixed = to_canonical(&mixed).unwrap();
    assert!(matches!(restored(settings, &mixed, &rig.log), Err(RestoreError::Inconsistent(_))));
}

/// Of an intent that was open when an older image was made, nothing more is known.
fn without_calls(mut state: crate::state::State) -> crate::state::State {
    state.open.values_mut().for_each(|open| open.call = None);
    state
}

/// The log as version 3 wrote it: without histories, so with other hashes of leaves.
fn as_of_version_3(log: &[Leaf]) -> Vec<Leaf> {
    let mut hashes = BTreeMap::new();
    log.iter()
        .cloned()
        .map(|mut leaf| {
            match &mut leaf.record.body {
                Body::Intent(attempt) | Body::Denial(attempt) | Body::Waiting(attempt) => attempt.inputs.history = None,
                Body::Proposal(proposal) => proposal.attempt.inputs.history = None,
                Body::Consent(consent) => consent.proposal = hashes[&consent.proposal],
                _ => {}
            }
            let hash = Digest::of("test leaf", &[&leaf.record.to_leaf().unwrap()]);
            hashes.insert(leaf.leaf_hash, hash);
            Leaf { leaf_hash: hash, ..leaf }
        })
        .collect()
}

/// An image of version 3 as it may lie in the base of a pruned log, which nothing can make again: read it for ever.
/// Never replace the file; where the state has learnt more since, compare what it knew then.
#[test]
fn the_oldest_base_is_still_read() {
    let image = include_bytes!("version_3.cbor");
    let rig = eventful();
    let settings = rig.kernel.settings().clone();
    let log = as_of_version_3(&rig.log);
    let based = based(settings.clone(), image, &log).unwrap();
    let mut known = refolded(settings.clone(), &log).state;
    // What agents did before it, it does not know.
    assert!(known.histories != Histories::default());
    known.histories = Histories::default();
    // Nor the definitions that ran.
    assert!(!std::mem::take(&mut known.pins).known.is_empty());
    assert_eq!(based.state, without_calls(known));
    // As the image of a snapshot it is refused, and the log is folded anew.
    assert_eq!(restored(settings, image, &log).err(), Some(RestoreError::Version { found: 3 }));
}

/// Since when a lease is held, version 3 did not say: then it is held for ever.
#[test]
fn a_lease_without_a_beginning_is_the_oldest() {
    let ours = Lease { since: TimeMs(5), until: TimeMs(9) };
    let session = Session {
        agent: None,
        run: None,
        expires: TimeMs(9),
        revoked: false,
        leases: [("outbound".parse().unwrap(), ours)].into(),
    };
    let image = || SessionImage::from(session.clone());
    assert_eq!(image().session(4), Some(session.clone()));
    let of_version_3 = SessionImage { begun: None, ..image() }.session(3).unwrap();
    assert_eq!(of_version_3.leases.values().next(), Some(&Lease { since: TimeMs(0), until: TimeMs(9) }));
    assert_eq!(SessionImage { begun: None, ..image() }.session(4), None);
    assert_eq!(SessionImage { begun: Some(BTreeMap::new()), ..image() }.session(4), None);
    assert_eq!(image().session(3), None);
}

#[test]
fn calls_in_flight_have_no_image() {
    let mut rig = Rig::new(budgets());
    rig.propose(&shop(), action(&shop(), Effect::Read, "1")).unwrap_err();
    assert_eq!(rig.kernel.image(), Err(ImageError::InFlight));
    let mut rig = Rig::new(budgets());
    let asked = rig.propose(&shop(), action(&shop(), Effect::Read, "1")).unwrap_err();
    rig.step(Event::Evaluated { call: asked.0, evaluation: asked.1 });
    assert_eq!(rig.kernel.image(), Err(ImageError::InFlight), "an intent that is not durable");
}

#[test]
fn other_settings_refuse_where_the_fold_reads_them_and_nowhere_else() {
    let rig = eventful();
    let image = refolded(rig.kernel.settings().clone(), &rig.log).image().unwrap();
    let check = |change: &dyn Fn(&mut Settings), expected: Option<RestoreError>| {
        let mut settings = rig.kernel.settings().clone();
        change(&mut settings);
        assert_eq!(restored(settings, &image, &rig.log).err(), expected);
    };
    check(&|_| {}, None);
    check(&|s| s.budgets[0].cap += 1, Some(RestoreError::Rules));
    check(&|s| s.budgets[1].agents = None, Some(RestoreError::Rules));
    check(&|s| s.limits.token_ttl_max_ms += 1, Some(RestoreError::Rules));
    let release = RestoreError::Release { found: "test".to_owned(), ours: "next".to_owned() };
    check(&|s| s.version = "next".to_owned(), Some(release));
    check(&|s| s.log = "other".to_owned(), Some(RestoreError::Log { found: LOG.to_owned() }));
    check(&|s| s.policy = Digest([9; 32]), None);
    check(&|s| s.limits.pending_max = 1, None);
    check(&|s| s.agents.clear(), None);
}

#[test]
fn a_base_is_read_under_other_settings_and_counts_on_what_is_still_counted() {
    let rig = eventful();
    let image = refolded(rig.kernel.settings().clone(), &rig.log).image().unwrap();
    let check = |change: &dyn Fn(&mut Settings), expected: Option<RestoreError>| {
        let mut settings = rig.kernel.settings().clone();
        change(&mut settings);
        let kernel = based(settings.clone(), &image, &rig.log);
        assert_eq!(kernel.as_ref().err(), expected.as_ref());
        // The whole log under the new rules knows of every counter; the base of those that were counted before.
        kernel.ok().map(|kernel| (counters(&kernel), counters(&refolded(settings, &rig.log))))
    };
    let same = |counted: Option<(_, _)>| {
        let (ours, whole): (std::collections::BTreeMap<String, (u64, u64)>, _) = counted.unwrap();
        assert_eq!(ours, whole);
        assert!(!ours.is_empty());
    };
    same(check(&|s| s.version = "next".to_owned(), None));
    same(check(&|s| s.budgets[0].cap += 7, None));
    same(check(&|s| s.budgets.reverse(), None));
    same(check(&|s| drop(s.budgets.remove(1)), None));
    same(check(&|s| s.limits.token_ttl_max_ms += 1, None));
    let (ours, whole) = check(&|s| s.budgets[3].window_ms = Some(HOUR_MS * 1_000), None).unwrap();
    assert!(ours.len() < whole.len() && ours.iter().all(|(name, count)| whole[name] == *count), "{ours:?} {whole:?}");
    check(&|s| s.log = "other".to_owned(), Some(RestoreError::Log { found: LOG.to_owned() }));
    let pointed = Kernel::leaves_of_image(&image).unwrap();
    assert_eq!(pointed.len(), 3);
    assert!(pointed.iter().all(|(leaf, hash)| rig.log[usize::try_from(leaf.0).unwrap()].leaf_hash == *hash));
    assert!(matches!(Kernel::leaves_of_image(b"no image"), Err(RestoreError::Malformed(_))));
}

/// State and log after a change of the log behind the image.
fn behind(change: impl FnOnce(&mut Vec<Leaf>)) -> Result<Kernel, RestoreError> {
    let mut rig = eventful();
    let settings = rig.kernel.settings().clone();
    let image = refolded(settings.clone(), &rig.log).image().unwrap();
    change(&mut rig.log);
    restored(settings, &image, &rig.log)
}

fn proposal(log: &mut [Leaf], nth: usize) -> &mut Leaf {
    log.iter_mut().filter(|leaf| leaf.record.body.kind() == "proposal").nth(nth).unwrap()
}

#[test]
fn what_an_image_points_to_must_be_there() {
    let record = |result: Result<Kernel, RestoreError>| {
        assert!(matches!(result, Err(RestoreError::Record { .. })), "{result:?}");
    };
    record(behind(|log| proposal(log, 1).leaf_hash = Digest([0; 32])));
    record(behind(|log| proposal(log, 0).leaf_hash = Digest([0; 32])));
    record(behind(Vec::clear));
}

#[test]
fn an_erased_proposal_no_longer_waits_as_in_a_fold_from_the_start() {
    let erased = |log: &mut Vec<Leaf>| {
        proposal(log, 0).payload = None;
        proposal(log, 2).payload = None;
    };
    let restored = behind(erased).unwrap();
    let mut rig = eventful();
    erased(&mut rig.log);
    let whole = refolded(rig.kernel.settings().clone(), &rig.log);
    assert_eq!(restored.state, whole.state);
    assert_eq!((restored.state.parked.len(), restored.state.refused.len()), (1, 0));
}

#[test]
fn a_bent_image_is_refused_or_is_another_image() {
    let rig = continued();
    let settings = rig.kernel.settings().clone();
    let image = refolded(settings.clone(), &rig.log).image().unwrap();
    for at in 0..image.len() {
        for bit in 0..8 {
            let mut bent = image.clone();
            bent[at] ^= 1 << bit;
            assert_ne!(image_digest(&bent), image_digest(&image));
            if let Ok(kernel) = restored(settings.clone(), &bent, &rig.log) {
                assert_eq!(kernel.image().as_ref(), Ok(&bent), "byte {at} bit {bit} is read and not kept");
            }
        }
    }
}
