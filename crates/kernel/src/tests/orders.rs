//! Commands by humans: which count, and what they change.

use countersign_model::command::Deed;
use countersign_model::facts::Effect;
use countersign_model::id::{LeaseName, SessionId};
use countersign_model::record::KillScope;
use countersign_model::{Caller, Digest, Narrowed, TimeMs};
use ed25519_dalek::Signer;

use super::fixture::*;
use crate::{Event, KillState};

fn check(rig: &mut Rig, signer: &str, deed: Deed, why: &str) {
    let is_accepted = rig.order(signer, deed.clone());
    assert_eq!(is_accepted, why.is_empty(), "{deed:?}: {:?}", rig.refusals);
    if !is_accepted {
        let last = rig.refusals.last().unwrap();
        assert!(last.contains(why), "`{last}` does not say `{why}`");
    }
}

fn enrol(name: &str) -> Deed {
    Deed::Enrol { human: human(name), key: key(name).verifying_key().to_bytes() }
}

fn later(ms: u64) -> TimeMs {
    START.saturating_add_ms(ms)
}

#[test]
fn only_the_first_human_enrols_himself() {
    let mut rig = Rig::new(vec![]);
    check(&mut rig, "ana", enrol("ben"), "`ana` is not enrolled");
    check(&mut rig, "ana", enrol("ana"), "");
    check(&mut rig, "mallory", enrol("mallory"), "`mallory` is not enrolled");
    check(&mut rig, "ana", enrol("ana"), "enrolled already");
    let twin = Deed::Enrol { human: human("twin"), key: key("ana").verifying_key().to_bytes() };
    check(&mut rig, "ana", twin, "belongs to another human");
    let mut weak = [0; 32];
    weak[0] = 1;
    check(&mut rig, "ana", Deed::Enrol { human: human("weak"), key: weak }, "no usable");
    check(&mut rig, "ana", enrol("ben"), "");
    assert_eq!(rig.kernel.humans().count(), 2);
}

#[test]
fn the_first_enrolment_is_signed_by_the_key_it_enrols() {
    let mut rig = Rig::new(vec![]);
    let mut forged = signed("ana", enrol("ana"));
    forged.signature = key("mallory").sign(&forged.command.message().unwrap()).to_bytes().to_vec();
    rig.step(Event::Commanded { signed: forged, session: None });
    assert!(rig.refusals.last().unwrap().contains("the signature is not"));
}

#[test]
fn a_command_is_for_one_log_and_one_meaning() {
    let mut rig = Rig::with_humans(vec![]);
    let freeze = Deed::Freeze { environment: "production".parse().unwrap(), until: later(HOUR_MS) };
    let mut elsewhere = signed("ana", freeze.clone());
    elsewhere.command.log = "other.example/log".to_owned();
    elsewhere.signature = key("ana").sign(&elsewhere.command.message().unwrap()).to_bytes().to_vec();
    rig.step(Event::Commanded { signed: elsewhere, session: None });
    assert!(rig.refusals.last().unwrap().contains("is for the log"));
    let mut changed = signed("ana", freeze);
    changed.command.deed = Deed::ConfirmClock;
    rig.step(Event::Commanded { signed: changed, session: None });
    assert!(rig.refusals.last().unwrap().contains("the signature is not"));
}

#[test]
fn resume_lifts_exactly_its_scope() {
    let mut rig = Rig::with_humans(vec![]);
    let run = KillScope::Run("r-1".parse().unwrap());
    rig.step(Event::Killed { scope: run.clone(), epoch: 1, cancelled: 0, took_ms: 0 });
    rig.step(Event::Killed { scope: KillScope::All, epoch: 2, cancelled: 0, took_ms: 0 });
    check(&mut rig, "ana", Deed::Resume { scope: KillScope::Agent("shop".parse().unwrap()) }, "not killed");
    check(&mut rig, "ana", Deed::Resume { scope: KillScope::All }, "");
    let read = |rig: &mut Rig| words(&rig.call(&shop(), action(&shop(), Effect::Read, "{}")));
    assert_eq!(read(&mut rig), "denial killed");
    rig.restart();
    assert_eq!(read(&mut rig), "denial killed");
    check(&mut rig, "ana", Deed::Resume { scope: run }, "");
    assert_eq!(read(&mut rig), "intent policy_permit");
    assert_eq!(rig.kernel.kills().epoch, 2);
}

#[test]
fn the_kill_file_and_the_log_are_joined_at_start() {
    let mut rig = Rig::with_humans(vec![]);
    let mut file = KillState::default();
    file.kill(KillScope::All);
    rig.kernel = refolded(rig.kernel.settings().clone(), &rig.log);
    rig.step(Event::Started { kill: file });
    assert_eq!(words(&rig.call(&shop(), action(&shop(), Effect::Read, "{}"))), "denial killed");
    // It is on record now: a lost file does not lift it.
    rig.restart();
    assert_eq!(words(&rig.call(&shop(), action(&shop(), Effect::Read, "{}"))), "denial killed");
}

#[test]
fn freeze_and_thaw() {
    let mut rig = Rig::with_humans(vec![]);
    let freeze = |ms| Deed::Freeze { environment: "production".parse().unwrap(), until: later(ms) };
    let thaw = Deed::Thaw { environment: "production".parse().unwrap() };
    check(&mut rig, "ana", thaw.clone(), "is not frozen");
    check(&mut rig, "ana", freeze(0), "in the future");
    check(&mut rig, "ana", freeze(91 * 24 * HOUR_MS), "at most");
    check(&mut rig, "ana", freeze(HOUR_MS), "");
    let write = |rig: &mut Rig| words(&rig.call(&shop(), action(&shop(), Effect::Write, "{}")));
    assert_eq!(write(&mut rig), "denial code_freeze");
    let mut staging = action(&shop(), Effect::Write, "{}");
    (staging.target, staging.environment) = ("lab".parse().unwrap(), "staging".parse().unwrap());
    assert_eq!(words(&rig.call(&shop(), staging)), "intent policy_permit");
    check(&mut rig, "ben", thaw, "");
    assert_eq!(write(&mut rig), "intent policy_permit");
    check(&mut rig, "ana", freeze(HOUR_MS), "");
    rig.now = later(HOUR_MS - 1);
    assert_eq!(write(&mut rig), "denial code_freeze");
    rig.now = later(HOUR_MS);
    assert_eq!(write(&mut rig), "intent policy_permit");
}

#[test]
fn tokens_are_for_known_agents_and_bounded() {
    let mut rig = Rig::with_humans(vec![]);
    let issue = |agent: &str, ttl_ms| Deed::IssueToken { agent: agent.parse().unwrap(), run: None, ttl_ms };
    check(&mut rig, "ana", issue("mallory", HOUR_MS), "not in the configuration");
    check(&mut rig, "ana", issue("shop", 0), "in the future");
    check(&mut rig, "ana", issue("shop", 8 * 24 * HOUR_MS), "at most");
    check(&mut rig, "ana", issue("shop", u64::MAX), "at most");
    let missing = signed("ana", issue("shop", HOUR_MS));
    rig.step(Event::Commanded { signed: missing, session: None });
    assert!(rig.refusals.last().unwrap().contains("no session id"));
    check(&mut rig, "ana", issue("shop", HOUR_MS), "");
    check(&mut rig, "ana", issue("shop", HOUR_MS), "there already");
    assert_eq!(rig.kernel.sessions().count(), 1);
    rig.now = later(HOUR_MS);
    rig.step(Event::Tick);
    assert_eq!(rig.kernel.sessions().count(), 0);
}

#[test]
fn a_revocation_outlives_every_token_and_a_restart() {
    let mut rig = Rig::with_humans(vec![]);
    let session = SessionId::new("s-1").unwrap();
    check(&mut rig, "ana", Deed::RevokeToken { session: session.clone() }, "");
    check(&mut rig, "ana", Deed::RevokeToken { session: session.clone() }, "revoked already");
    rig.restart();
    rig.now = later(7 * 24 * HOUR_MS - 1);
    rig.step(Event::Tick);
    assert!(rig.kernel.is_revoked(&session));
    rig.now = later(7 * 24 * HOUR_MS);
    rig.step(Event::Tick);
    assert!(!rig.kernel.is_revoked(&session));
}

#[test]
fn a_block_is_revoked_and_its_parent_lives() {
    let mut rig = Rig::with_humans(vec![]);
    let (block, other) = (Digest([4; 32]), Digest([5; 32]));
    let narrowed = |blocks: &[Digest]| Caller {
        narrowed: Some(Narrowed { blocks: blocks.to_vec(), ..Narrowed::default() }),
        ..shop()
    };
    let call = |rig: &mut Rig, caller: &Caller| words(&rig.call(caller, action(caller, Effect::Read, "{}")));
    let (child, grandchild, sibling) = (narrowed(&[block]), narrowed(&[block, other]), narrowed(&[other]));
    assert_eq!(call(&mut rig, &grandchild), "intent policy_permit");
    check(&mut rig, "ana", Deed::RevokeBlock { block }, "");
    check(&mut rig, "ana", Deed::RevokeBlock { block }, "revoked already");
    for restart in [false, true] {
        if restart {
            rig.restart();
        }
        assert_eq!(call(&mut rig, &child), "denial token_invalid");
        assert_eq!(call(&mut rig, &grandchild), "denial token_invalid");
        assert_eq!(call(&mut rig, &sibling), "intent policy_permit");
        assert_eq!(call(&mut rig, &shop()), "intent policy_permit");
    }
    for line in crate::replay::replay(&rig.log, rig.kernel.settings(), &rig.bundle).lines {
        assert_eq!(line.found, crate::replay::Found::Identical, "{line:?}");
    }
    // Between reservation and decision, too.
    let (asked, evaluation) = *rig.propose(&sibling, action(&sibling, Effect::Read, "{}")).unwrap_err();
    check(&mut rig, "ana", Deed::RevokeBlock { block: other }, "");
    assert_eq!(words(&rig.answer(asked, evaluation)), "denial token_invalid");
    // It is forgotten when no token can be left.
    rig.now = later(7 * 24 * HOUR_MS - 1);
    rig.step(Event::Tick);
    assert!(rig.kernel.is_cut_off(&[block]));
    rig.now = later(7 * 24 * HOUR_MS);
    rig.step(Event::Tick);
    assert!(!rig.kernel.is_cut_off(&[block]));
}

fn lease(name: &str, until: TimeMs) -> Deed {
    Deed::Lease { session: SessionId::new("s-1").unwrap(), name: LeaseName::new(name).unwrap(), until }
}

fn outbound(rig: &mut Rig) -> String {
    words(&rig.call(&shop(), action(&shop(), Effect::Outbound, "{}")))
}

#[test]
fn a_lease_lends_a_right_until_it_ends() {
    let mut rig = Rig::with_humans(vec![]);
    check(&mut rig, "ana", lease("outbound", later(HOUR_MS)), "is not known");
    assert_eq!(outbound(&mut rig), "denial no_permit");
    check(&mut rig, "ana", lease("outbound", later(0)), "in the future");
    check(&mut rig, "ana", lease("outbound", later(25 * HOUR_MS)), "at most");
    check(&mut rig, "ana", lease("outbound", later(HOUR_MS)), "");
    assert_eq!(outbound(&mut rig), "intent policy_permit");
    let other = caller("shop", "s-2", "r-1");
    let record = rig.call(&other, action(&other, Effect::Outbound, "{}"));
    assert_eq!(words(&record), "denial no_permit");
    rig.now = later(HOUR_MS);
    assert_eq!(outbound(&mut rig), "denial no_permit");
}

#[test]
fn leases_are_bounded() {
    let mut rig = Rig::with_humans(vec![]);
    outbound(&mut rig);
    for index in 0..16 {
        check(&mut rig, "ana", lease(&format!("l-{index}"), later(HOUR_MS)), "");
    }
    check(&mut rig, "ana", lease("one-more", later(HOUR_MS)), "at most 16");
    check(&mut rig, "ana", lease("l-3", later(2 * HOUR_MS)), "");
    rig.now = later(HOUR_MS);
    check(&mut rig, "ana", lease("one-more", later(2 * HOUR_MS)), "");
}

#[test]
fn a_clock_jump_suspends_leases_and_does_not_end_freezes() {
    let mut rig = Rig::with_humans(vec![]);
    outbound(&mut rig);
    check(&mut rig, "ana", lease("outbound", later(20 * HOUR_MS)), "");
    let freeze = Deed::Freeze { environment: "staging".parse().unwrap(), until: later(HOUR_MS) };
    check(&mut rig, "ana", freeze, "");
    check(&mut rig, "ana", Deed::ConfirmClock, "not in doubt");
    rig.step(Event::ClockJumped { by_ms: 1_000 });
    assert_eq!(outbound(&mut rig), "intent policy_permit", "a small jump is none");
    rig.now = later(2 * HOUR_MS);
    rig.step(Event::ClockJumped { by_ms: 2 * HOUR_MS });
    assert_eq!(outbound(&mut rig), "denial no_permit");
    let mut staging = action(&shop(), Effect::Write, "{}");
    (staging.target, staging.environment) = ("lab".parse().unwrap(), "staging".parse().unwrap());
    assert_eq!(words(&rig.call(&shop(), staging.clone())), "denial code_freeze");
    rig.restart();
    assert_eq!(outbound(&mut rig), "denial no_permit");
    check(&mut rig, "ben", Deed::ConfirmClock, "");
    assert_eq!(outbound(&mut rig), "intent policy_permit");
    assert_eq!(words(&rig.call(&shop(), staging)), "intent policy_permit");
}

#[test]
fn activations_only_go_forward() {
    let mut rig = Rig::with_humans(vec![]);
    let activate =
        |serial| Deed::Activate { configuration: Digest([1; 32]), policy: Digest([2; 32]), serial, widening: None };
    check(&mut rig, "ana", activate(0), "serial");
    check(&mut rig, "ana", activate(1), "");
    check(&mut rig, "ana", activate(1), "serial");
    rig.restart();
    check(&mut rig, "ana", activate(1), "serial");
    // One that was signed and never used leaves a gap.
    check(&mut rig, "ana", activate(3), "");
    check(&mut rig, "ana", activate(2), "serial");
    assert_eq!(rig.kernel.activation().unwrap().serial, 3);
}
