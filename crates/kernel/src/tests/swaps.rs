//! Another policy comes into force while calls run: every decision rests on exactly the one that its record names.

use countersign_model::command::Deed;
use countersign_model::facts::Effect;
use countersign_model::record::Evaluation;
use countersign_model::{Body, Digest, Record, Seq};

use super::fixture::*;
use crate::policy::{Bundle, EvaluationRequest, PolicySource};
use crate::replay::{Bundles, Found, Report, replay, replay_with};
use crate::{Command, Event};

/// Reads are forbidden, and that is all.
fn stricter() -> Bundle {
    let text = "@id(\"nothing-is-read\") forbid (principal, action, resource) when { context.effect == \"read\" };\n\
                @id(\"the-rest\") permit (principal, action, resource);";
    let policies = vec![("main.cedar".to_owned(), text.to_owned())];
    Bundle::load(&PolicySource { policies, ..source() }).unwrap()
}

fn activate(rig: &mut Rig, policy: Digest, serial: u64) -> bool {
    let configuration = rig.kernel.settings().configuration;
    rig.order("ana", Deed::Activate { configuration, policy, serial, widening: None })
}

/// Asks the bundle that the kernel names.
fn asked(rig: &Rig, new: &Bundle, (policy, request): (Digest, &EvaluationRequest)) -> Evaluation {
    if policy == new.hash() { new.evaluate(request) } else { rig.bundle.evaluate(request) }
}

fn question(rig: &mut Rig, event: Event) -> (Seq, Digest, EvaluationRequest) {
    match rig.step(event).pop() {
        Some(Command::Evaluate { call, policy, request }) => (call, policy, request),
        other => panic!("no question: {other:?}"),
    }
}

fn proposed(rig: &mut Rig, arguments: &str) -> (Seq, Digest, EvaluationRequest) {
    let salts = rig.salts();
    let action = Box::new(action(&shop(), Effect::Read, arguments));
    question(rig, Event::Proposed { caller: shop(), action, salts })
}

/// From proposal to decision, by the policies that the kernel names.
fn decided(rig: &mut Rig, new: &Bundle, arguments: &str) -> Record {
    let (call, policy, request) = proposed(rig, arguments);
    let evaluation = asked(rig, new, (policy, &request));
    rig.answer(call, evaluation)
}

/// Reads before the change, over it, and after it.
fn changed() -> (Rig, Bundle) {
    let (mut rig, new) = (Rig::with_humans(vec![]), stricter());
    let first = rig.kernel.policy();
    assert!(activate(&mut rig, first, 1), "{:?}", rig.refusals);
    assert_eq!(words(&decided(&mut rig, &new, "before")), "intent policy_permit");
    let (call, policy, request) = proposed(&mut rig, "over");
    assert_eq!(policy, first);
    let late = asked(&rig, &new, (policy, &request));
    assert!(late.auto, "the old policy allows it");
    assert!(activate(&mut rig, new.hash(), 2), "{:?}", rig.refusals);
    // What the old policy answered decides nothing any more: the new one is asked the same.
    let (again, policy, same) = question(&mut rig, Event::Evaluated { call, evaluation: late });
    assert_eq!((again, policy, same), (call, new.hash(), request.clone()));
    let evaluation = new.evaluate(&request);
    assert_eq!(words(&rig.answer(call, evaluation)), "denial policy_forbid");
    assert_eq!(words(&decided(&mut rig, &new, "after")), "denial policy_forbid");
    (rig, new)
}

#[test]
fn a_decision_names_the_policy_that_was_in_force_when_it_was_made() {
    let (rig, new) = changed();
    let named: Vec<Digest> =
        rig.log.iter().filter_map(|leaf| leaf.record.body.attempt()).map(|attempt| attempt.inputs.policy).collect();
    assert_eq!(named, [POLICY_HASH, new.hash(), new.hash()]);
    assert_eq!(rig.kernel.policy(), new.hash());
    assert_eq!(rig.kernel.in_flight(), 1, "the call that was asked twice is one call");
    // The fold says the same, and so does its image.
    let again = refolded(rig.kernel.settings().clone(), &rig.log);
    assert_eq!(again.policy(), new.hash());
}

#[test]
fn a_start_runs_what_it_was_started_with() {
    let (mut rig, new) = changed();
    rig.restart();
    assert_eq!(rig.kernel.policy(), POLICY_HASH, "the files of this rig have not changed");
    let mut settings = rig.kernel.settings().clone();
    settings.policy = new.hash();
    rig.kernel = refolded(settings, &rig.log);
    rig.step(Event::Started { kill: crate::kill::KillState::default() });
    assert_eq!(rig.kernel.policy(), new.hash());
}

#[test]
fn what_does_not_count_changes_nothing() {
    let (mut rig, new) = (Rig::with_humans(vec![]), stricter());
    assert!(activate(&mut rig, POLICY_HASH, 7));
    assert!(!activate(&mut rig, new.hash(), 7), "its serial was used");
    let signed = {
        let configuration = rig.kernel.settings().configuration;
        let mut signed = signed("ana", Deed::Activate { configuration, policy: new.hash(), serial: 8, widening: None });
        signed.signature[3] ^= 1;
        signed
    };
    assert!(rig.kernel.would_count(&signed).is_err());
    assert!(matches!(rig.step(Event::Commanded { signed, session: None }).pop(), Some(Command::Refuse { .. })));
    // That of another configuration counts, for the next start.
    assert!(rig.order(
        "ana",
        Deed::Activate { configuration: Digest([9; 32]), policy: new.hash(), serial: 9, widening: None }
    ));
    assert_eq!(rig.kernel.policy(), POLICY_HASH);
}

fn found(report: &Report) -> Vec<(&'static str, &Found)> {
    report.lines.iter().filter(|line| line.kind != "commanded").map(|line| (line.kind, &line.found)).collect()
}

#[test]
fn replay_asks_the_policy_of_each_decision_again() {
    let (rig, new) = changed();
    let settings = rig.kernel.settings();
    let both = replay_with(&rig.log, settings, Bundles::one(settings, &rig.bundle).with(&new));
    assert!(both.is_clean(), "{both:?}");
    let one = replay(&rig.log, settings, &rig.bundle);
    assert_eq!(
        found(&one),
        [("intent", &Found::Identical), ("denial", &Found::Outdated), ("denial", &Found::Outdated)]
    );
    let mut later = settings.clone();
    later.policy = new.hash();
    let other = replay(&rig.log, &later, &new);
    assert_eq!(
        found(&other),
        [("intent", &Found::Outdated), ("denial", &Found::Identical), ("denial", &Found::Identical)]
    );
}

#[test]
fn a_decision_by_a_policy_that_is_not_in_force_is_found() {
    let (mut rig, new) = changed();
    let denial = rig.log.iter().rposition(|leaf| matches!(leaf.record.body, Body::Denial(_))).unwrap();
    let Body::Denial(attempt) = &mut rig.log[denial].record.body else { panic!() };
    attempt.inputs.policy = POLICY_HASH;
    let settings = rig.kernel.settings();
    let report = replay_with(&rig.log, settings, Bundles::one(settings, &rig.bundle).with(&new));
    let Found::Differs { what } = &report.lines.last().unwrap().found else { panic!("{report:?}") };
    assert!(what.iter().any(|what| what.starts_with("policy")), "{what:?}");
    // And one that was made before the change cannot claim to rest on it.
    let (mut rig, _) = changed();
    let order = rig.log.iter().rposition(|leaf| matches!(leaf.record.body, Body::Commanded(_))).unwrap();
    rig.log.remove(order);
    let settings = rig.kernel.settings();
    let report = replay_with(&rig.log, settings, Bundles::one(settings, &rig.bundle).with(&new));
    assert!(report.lines.iter().any(|line| matches!(&line.found, Found::Differs { .. })), "{report:?}");
}
