//! The switch by itself: scopes, epochs, draining, cutting, and its file.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use countersign_kernel::kill::KillState;
use countersign_model::Principal;
use countersign_model::record::KillScope;

use super::file::{parse, render};
use super::{EffectId, KillSwitch};
use crate::permit::{Cut, Stop};

fn principal(agent: &str, run: &str) -> Principal {
    Principal {
        tenant: "t".parse().unwrap(),
        agent: agent.parse().unwrap(),
        session: "s".parse().unwrap(),
        run: run.parse().unwrap(),
        depth: 0,
    }
}

fn no_cut() -> Cut {
    Arc::new(|| {})
}

fn switch() -> (tempfile::TempDir, Arc<KillSwitch>) {
    let folder = tempfile::tempdir().unwrap();
    let switch = KillSwitch::open(&folder.path().join("kill.state")).unwrap();
    (folder, Arc::new(switch))
}

/// Effects that leave as soon as they are told to.
fn obedient(switch: &Arc<KillSwitch>, who: &Principal) -> std::thread::JoinHandle<()> {
    let (id, killed) = switch.enter(who, switch.epoch(), no_cut()).unwrap();
    let switch = switch.clone();
    std::thread::spawn(move || {
        while !killed.is_cancelled() {
            std::thread::sleep(Duration::from_millis(1));
        }
        switch.leave(id);
    })
}

#[test]
fn a_kill_waits_until_its_scope_is_empty_and_nothing_enters_after() {
    let (_folder, switch) = switch();
    let (one, other) = (principal("a", "r1"), principal("b", "r2"));
    let tasks: Vec<_> = (0..50).map(|_| obedient(&switch, &one)).collect();
    let (kept, _) = switch.enter(&other, switch.epoch(), no_cut()).unwrap();
    let ack = switch.kill(&KillScope::Agent("a".parse().unwrap()));
    assert_eq!((ack.cancelled, ack.cut, ack.epoch), (50, 0, 1));
    assert_eq!(switch.in_flight(), 1, "the other agent's effect goes on");
    assert_eq!(switch.enter(&one, switch.epoch(), no_cut()).unwrap_err(), Stop::Killed);
    assert!(switch.enter(&other, switch.epoch(), no_cut()).is_ok());
    switch.leave(kept);
    for task in tasks {
        task.join().unwrap();
    }
}

#[test]
fn a_permit_minted_before_a_kill_is_stale_even_after_it_was_lifted() {
    let (_folder, switch) = switch();
    let who = principal("a", "r1");
    let minted = switch.epoch();
    let scope = KillScope::Run("r1".parse().unwrap());
    switch.kill(&scope);
    switch.lift(&scope).unwrap();
    assert_eq!(switch.enter(&who, minted, no_cut()).unwrap_err(), Stop::Killed);
    assert!(switch.enter(&who, switch.epoch(), no_cut()).is_ok());
    // Somebody else's kill makes nobody else's permit stale.
    let minted = switch.epoch();
    switch.kill(&scope);
    assert!(switch.enter(&principal("a", "r2"), minted, no_cut()).is_ok());
}

#[test]
fn what_does_not_leave_is_cut() {
    let (_folder, switch) = switch();
    let cuts = Arc::new(AtomicUsize::new(0));
    let counted = cuts.clone();
    let cut: Cut = Arc::new(move || {
        counted.fetch_add(1, Ordering::SeqCst);
    });
    let _stuck: (EffectId, _) = switch.enter(&principal("a", "r"), 0, cut).unwrap();
    let ack = switch.kill(&KillScope::All);
    assert_eq!((ack.cancelled, ack.cut, cuts.load(Ordering::SeqCst)), (1, 1, 1));
}

#[test]
fn the_state_outlives_the_process_and_damage_resumes_nothing() {
    let (folder, switch) = switch();
    switch.kill(&KillScope::Run("r1".parse().unwrap()));
    let path = folder.path().join("kill.state");
    assert_eq!(KillSwitch::open(&path).unwrap().state(), switch.state());
    let text = std::fs::read_to_string(&path).unwrap();
    for damaged in [&text[..text.len() - 2], "", "epoch 0\nend\n", &text.replace("run r1", "run"), "\u{fffd}"] {
        std::fs::write(&path, damaged).unwrap();
        let state = KillSwitch::open(&path).unwrap().state();
        assert!(state.scopes.contains(&KillScope::All), "{damaged:?}");
    }
}

#[test]
fn a_kill_that_cannot_be_saved_still_holds_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gone").join("kill.state");
    let switch = KillSwitch::open(&path).unwrap();
    let ack = switch.kill(&KillScope::All);
    assert!(ack.unsaved.unwrap().contains("kill.state"));
    assert_eq!(switch.enter(&principal("a", "r"), switch.epoch(), no_cut()).unwrap_err(), Stop::Killed);
}

#[test]
fn the_file_reads_back() {
    let mut state = KillState::default();
    for scope in [KillScope::All, KillScope::Agent("a".parse().unwrap()), KillScope::Run("r".parse().unwrap())] {
        state.kill(scope);
        assert_eq!(parse(&render(&state)), Some(state.clone()));
    }
}
