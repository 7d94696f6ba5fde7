//! A log replays to itself; what was changed in it is found.

use countersign_model::command::Deed;
use countersign_model::facts::Effect;
use countersign_model::record::{Outcome, Status, VaultScope};
use countersign_model::{Body, Digest, Facts, Reason, ReasonCode, Record, Verdict};

use super::{Found, Leaf, Report, replay};
use crate::tests::fixture::*;
use crate::{BudgetScope, Event};

fn report(rig: &Rig) -> Report {
    replay(&rig.log, rig.kernel.settings(), &rig.bundle)
}

fn all_identical(rig: &Rig) {
    let report = report(rig);
    assert!(!report.lines.is_empty());
    for line in report.lines {
        assert_eq!(line.found, Found::Identical, "{line:?}");
    }
}

/// A log with every kind of decision, consents, commands, a lost intent and a restart.
fn eventful() -> Rig {
    filled(Rig::with_humans(vec![rule(BudgetScope::Run, 4), rule(BudgetScope::Tenant, 50)]))
}

fn filled(mut rig: Rig) -> Rig {
    let deletion = || action(&shop(), Effect::Destructive, "{\"id\":1}");
    let parked = ticket(&rig.call(&shop(), deletion()));
    rig.call(&shop(), deletion());
    rig.consent(&parked, ("ana", "ana"), true);
    let ran = rig.call(&shop(), deletion());
    rig.end(attempt(&ran).reserved_at, Status::Done);
    let refused = ticket(&rig.call(&shop(), deletion()));
    rig.consent(&refused, ("ben", "ben"), false);
    rig.call(&shop(), deletion());
    for effect in [Effect::Spend, Effect::Opaque, Effect::Outbound, Effect::Read] {
        rig.call(&shop(), action(&shop(), effect, "{}"));
    }
    let (call, mut late) = *rig.propose(&shop(), action(&shop(), Effect::Read, "late")).unwrap_err();
    late.timed_out = true;
    rig.answer(call, late);
    rig.restart();
    rig.now = rig.now.saturating_add_ms(HOUR_MS);
    let until = rig.now.saturating_add_ms(HOUR_MS);
    rig.order("ana", Deed::Freeze { environment: "production".parse().unwrap(), until });
    for effect in [Effect::Read, Effect::Write, Effect::Read, Effect::Read, Effect::Read] {
        rig.call(&shop(), action(&shop(), effect, "{}"));
    }
    rig.step(Event::Stopped);
    rig
}

#[test]
fn a_log_replays_to_itself() {
    let rig = eventful();
    let kinds: std::collections::BTreeSet<_> = rig.log.iter().map(|leaf| leaf.record.body.kind()).collect();
    let expected = ["commanded", "consent", "denial", "intent", "outcome", "proposal", "started", "stopped", "waiting"];
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), expected);
    all_identical(&rig);
}

#[test]
fn a_released_reservation_that_made_another_fail_is_replayed() {
    let mut rig = Rig::new(vec![rule(BudgetScope::Run, 1)]);
    let (a, answer) = *rig.propose(&shop(), action(&shop(), Effect::Destructive, "a")).unwrap_err();
    let b = rig.call(&shop(), action(&shop(), Effect::Read, "b"));
    assert_eq!(words(&b), "denial budget_exhausted");
    assert_eq!(words(&rig.answer(a, answer)), "proposal approval_required");
    assert!(is_intent(&rig.call(&shop(), action(&shop(), Effect::Read, "c"))));
    // In the log B stands before A, though A reserved first.
    rig.step(Event::Stopped);
    all_identical(&rig);
}

#[test]
fn an_abandoned_reservation_is_replayed() {
    let mut rig = Rig::new(vec![rule(BudgetScope::Run, 1)]);
    let (a, _) = *rig.propose(&shop(), action(&shop(), Effect::Read, "a")).unwrap_err();
    assert_eq!(words(&rig.call(&shop(), action(&shop(), Effect::Read, "b"))), "denial budget_exhausted");
    rig.step(Event::Abandoned { call: a });
    assert!(is_intent(&rig.call(&shop(), action(&shop(), Effect::Read, "c"))));
    rig.step(Event::Stopped);
    all_identical(&rig);
}

/// A reservation that left no record, in a process that ended as `is_clean` says.
fn unrecorded(is_clean: bool) -> Report {
    let mut rig = Rig::new(vec![rule(BudgetScope::Run, 1)]);
    rig.propose(&shop(), action(&shop(), Effect::Read, "a")).unwrap_err();
    rig.call(&shop(), action(&shop(), Effect::Read, "b"));
    if is_clean {
        rig.step(Event::Stopped);
    }
    rig.restart();
    report(&rig)
}

#[test]
fn only_a_crash_explains_a_reservation_without_a_record() {
    assert!(unrecorded(false).is_clean());
    assert!(!unrecorded(true).is_clean());
}

/// Changes one leaf and says what replay makes of it.
fn tampered(kind: &str, nth: usize, change: impl FnOnce(&mut Leaf)) -> Found {
    let mut rig = eventful();
    let at = rig.log.iter().enumerate().filter(|(_, l)| l.record.body.kind() == kind).nth(nth).unwrap().0;
    change(&mut rig.log[at]);
    let line = report(&rig).lines.into_iter().find(|line| line.leaf.0 == at as u64).unwrap();
    line.found
}

fn differs(found: &Found, what: &str) {
    match found {
        Found::Differs { what: all } if all.iter().any(|one| one.starts_with(what)) => {}
        other => panic!("`{what}` is not what differs: {other:?}"),
    }
}

#[test]
fn what_was_changed_is_found() {
    let verdict = tampered("denial", 1, |leaf| {
        let Body::Denial(attempt) = leaf.record.body.clone() else { panic!() };
        let mut attempt = attempt;
        attempt.verdict = Verdict::Allow;
        leaf.record.body = Body::Intent(attempt);
    });
    differs(&verdict, "judged kind");
    differs(&verdict, "kind");
    differs(
        &tampered("intent", 1, |leaf| {
            let Body::Intent(attempt) = &mut leaf.record.body else { panic!() };
            attempt.inputs.budgets[0].spent = 0;
        }),
        "budgets",
    );
    differs(
        &tampered("intent", 1, |leaf| {
            let Body::Intent(attempt) = &mut leaf.record.body else { panic!() };
            attempt.inputs.evaluation.as_mut().unwrap().determining.items = vec!["other".to_owned()];
        }),
        "evaluation",
    );
    let freed = tampered("intent", 0, |leaf| {
        let Body::Intent(attempt) = &mut leaf.record.body else { panic!() };
        assert!(matches!(attempt.verdict, Verdict::Modify { .. }), "{:?}", attempt.verdict);
        attempt.inputs.evaluation.as_mut().unwrap().obligations.clear();
    });
    differs(&freed, "judged verdict");
    differs(&freed, "evaluation");
    differs(
        &tampered("consent", 0, |leaf| {
            let Body::Consent(consent) = &mut leaf.record.body else { panic!() };
            consent.signature[5] ^= 1;
        }),
        "the signature is not",
    );
    differs(
        &tampered("commanded", 3, |leaf| {
            let Body::Commanded(commanded) = &mut leaf.record.body else { panic!() };
            commanded.signed.command.deed = Deed::ConfirmClock;
        }),
        "the signature is not",
    );
}

#[test]
fn an_erased_payload_is_no_difference() {
    assert_eq!(tampered("intent", 1, |leaf| leaf.payload = None), Found::Erased);
    // One that was swapped for another is.
    let swapped = tampered("intent", 1, |leaf| leaf.payload.as_mut().unwrap().arguments = b"{}{}".to_vec());
    differs(&swapped, "payload");
    let mut rig = eventful();
    for leaf in &mut rig.log {
        leaf.payload = None;
    }
    assert!(report(&rig).is_clean());
}

#[test]
fn another_policy_or_configuration_is_outdated_not_different() {
    let rig = accepted();
    let report = replay(&rig.log, &later(&rig), &rig.bundle);
    let at = |line: &super::Line| rig.log[usize::try_from(line.leaf.0).unwrap()].record.body.clone();
    for line in &report.lines {
        // Whom a human enrols or what he accepts follows under every configuration.
        let rests_on_none = matches!(&at(line), Body::Commanded(commanded)
            if matches!(commanded.signed.command.deed, Deed::Enrol { .. } | Deed::Activate { .. }));
        let expected = if rests_on_none { Found::Identical } else { Found::Outdated };
        assert_eq!(line.found, expected, "{line:?}");
    }
    assert!(!report.is_clean(), "what was not judged again is not clean");
}

/// A configuration that comes after the log's.
fn later(rig: &Rig) -> crate::Settings {
    let mut settings = rig.kernel.settings().clone();
    settings.configuration = Digest([9; 32]);
    settings.budgets.clear();
    settings.agents.clear();
    settings.limits.grant_ttl_ms += 1;
    settings.limits.freeze_max_ms = 0;
    settings
}

/// The eventful log, whose configuration and policy a human accepted before the first decision.
fn accepted() -> Rig {
    let mut rig = Rig::with_humans(vec![rule(BudgetScope::Run, 4), rule(BudgetScope::Tenant, 50)]);
    let settings = rig.kernel.settings().clone();
    let deed =
        Deed::Activate { configuration: settings.configuration, policy: settings.policy, serial: 1, widening: None };
    assert!(rig.order("ana", deed), "{:?}", rig.refusals);
    filled(rig)
}

#[test]
fn an_unheard_of_configuration_exempts_nothing() {
    let forged = |rig: &mut Rig| {
        for leaf in &mut rig.log {
            if let Body::Started(started) = &mut leaf.record.body {
                started.configuration = Digest([8; 32]);
            }
        }
    };
    // With an acceptance of another on record, and without any.
    for mut rig in [accepted(), eventful()] {
        forged(&mut rig);
        let report = report(&rig);
        let decisions = report.lines.iter().filter(|line| !["consent", "commanded"].contains(&line.kind));
        assert!(decisions.clone().count() > 5);
        decisions.for_each(|line| differs(&line.found, "configuration: no human accepted"));
    }
}

#[test]
fn signatures_are_checked_under_every_configuration() {
    let mut rig = accepted();
    for leaf in &mut rig.log {
        match &mut leaf.record.body {
            Body::Consent(consent) => consent.signature = vec![0; 64],
            Body::Commanded(commanded) => commanded.signed.signature = vec![0; 64],
            _ => {}
        }
    }
    let report = replay(&rig.log, &later(&rig), &rig.bundle);
    let signed: Vec<_> = report.lines.iter().filter(|line| ["consent", "commanded"].contains(&line.kind)).collect();
    assert!(signed.iter().any(|line| line.kind == "consent") && signed.len() > 4, "{signed:?}");
    signed.into_iter().for_each(|line| differs(&line.found, "the signature is not"));
}

#[test]
fn an_erased_proposal_takes_no_signature_with_it() {
    let mut rig = eventful();
    for leaf in &mut rig.log {
        leaf.payload = None;
        if let Body::Consent(consent) = &mut leaf.record.body {
            consent.signature = vec![0; 64];
        }
    }
    let lines = report(&rig).lines;
    let consents: Vec<_> = lines.iter().filter(|line| line.kind == "consent").collect();
    assert_eq!(consents.len(), 2);
    consents.into_iter().for_each(|line| differs(&line.found, "the signature is not"));
}

#[test]
fn an_acceptance_behind_the_start_counts_and_a_later_one_takes_nothing() {
    let mut rig = accepted();
    let mut settings = rig.kernel.settings().clone();
    settings.configuration = Digest([4; 32]);
    // A start under another configuration, accepted behind it, as after every edit; then one for the time to come.
    rig.kernel = refolded(settings.clone(), &rig.log);
    rig.step(Event::Started { kill: crate::kill::KillState::default() });
    for (serial, configuration) in [(2, settings.configuration), (3, Digest([5; 32]))] {
        let deed = Deed::Activate { configuration, policy: settings.policy, serial, widening: None };
        assert!(rig.order("ana", deed), "{:?}", rig.refusals);
    }
    rig.call(&shop(), action(&shop(), Effect::Read, "{}"));
    rig.step(Event::Stopped);
    for settings in [settings, later(&rig)] {
        let lines = replay(&rig.log, &settings, &rig.bundle).lines;
        assert!(!lines.iter().any(|line| matches!(line.found, Found::Differs { .. })), "{lines:?}");
    }
}

#[test]
fn a_policy_that_the_start_does_not_name_is_found() {
    let found = tampered("intent", 1, |leaf| {
        let Body::Intent(attempt) = &mut leaf.record.body else { panic!() };
        attempt.inputs.policy = Digest([3; 32]);
    });
    differs(&found, "policy");
    let mut rig = eventful();
    rig.log.retain(|leaf| !matches!(leaf.record.body, Body::Started(_)));
    let report = report(&rig);
    let intent = report.lines.iter().find(|line| line.kind == "intent").unwrap();
    differs(&intent.found, "start: no start");
}

#[test]
fn the_state_of_a_snapshot_is_found_again() {
    for is_right in [true, false] {
        let mut rig = eventful();
        let folded = crate::tests::fixture::refolded(rig.kernel.settings().clone(), &rig.log);
        let image = folded.image().unwrap();
        let state = if is_right { crate::image::image_digest(&image) } else { Digest([1; 32]) };
        let size = rig.log.len() as u64;
        // Between the state and its record there may be others.
        rig.call(&shop(), action(&shop(), Effect::Read, "later"));
        rig.step(Event::Snapshot { size, state });
        rig.step(Event::Stopped);
        let report = report(&rig);
        assert_eq!(report.is_clean(), is_right, "{report:?}");
        assert_eq!(report.lines.iter().filter(|line| line.kind == "snapshot").count(), 1);
    }
}

#[test]
fn a_replay_from_the_middle_says_what_one_from_the_start_says() {
    let rig = eventful();
    let whole = report(&rig);
    let settings = rig.kernel.settings();
    for size in 1..rig.log.len() {
        let kernel = crate::tests::fixture::refolded(settings.clone(), &rig.log[..size]);
        let mut lines = Vec::new();
        let mut replayer = super::Replayer::new(kernel, size as u64, &rig.bundle);
        rig.log[size..].iter().for_each(|leaf| replayer.feed(leaf.clone(), &mut |line| lines.push(line)));
        replayer.finish(&mut |line| lines.push(line));
        let expected: Vec<_> = whole.lines.iter().filter(|line| line.leaf.0 >= size as u64).cloned().collect();
        lines.sort_by_key(|line| (line.seq, line.leaf));
        assert_eq!(lines, expected, "from {size}");
    }
}

#[test]
fn only_the_denial_of_what_did_not_fit_is_exempt() {
    let too_long = || vec![Reason::plain(ReasonCode::RecordTooLong)];
    let honest = |leaf: &mut Leaf| {
        let Body::Denial(attempt) = &mut leaf.record.body else { panic!() };
        attempt.reasons = too_long();
        attempt.facts = Facts::opaque("the facts did not fit the record");
        (attempt.inputs.evaluation, attempt.ticket) = (None, None);
        (attempt.inputs.standing.waits_as, attempt.inputs.standing.grant) = (None, None);
    };
    assert_eq!(tampered("denial", 1, honest), Found::Erased);
    let check = |kind: &str, change: &dyn Fn(&mut Body)| {
        let found = tampered(kind, 1, |leaf| {
            if kind == "denial" {
                honest(leaf);
            }
            change(&mut leaf.record.body);
        });
        differs(&found, "judged");
    };
    let of = |body: &mut Body| match body {
        Body::Intent(attempt) | Body::Denial(attempt) => attempt.clone(),
        other => panic!("{other:?}"),
    };
    check("denial", &|body| *body = Body::Intent(of(body)));
    check("denial", &|body| {
        let mut attempt = of(body);
        attempt.reasons.push(Reason::plain(ReasonCode::Killed));
        *body = Body::Denial(attempt);
    });
    check("denial", &|body| {
        let mut attempt = of(body);
        attempt.facts = Facts::declared(Effect::Read);
        *body = Body::Denial(attempt);
    });
    check("intent", &|body| {
        let mut attempt = of(body);
        attempt.reasons = too_long();
        *body = Body::Intent(attempt);
    });
}

#[test]
fn what_an_outcome_closes_and_charges_is_checked() {
    let check = |what: &str, change: fn(&mut Outcome)| {
        differs(
            &tampered("outcome", 0, |leaf| {
                let Body::Outcome(outcome) = &mut leaf.record.body else { panic!() };
                change(outcome);
            }),
            what,
        );
    };
    check("charged", |outcome| outcome.charged = 0);
    check("charged", |outcome| outcome.charged = 2);
    check("charged", |outcome| outcome.status = Status::NotStarted);
    check("intent", |outcome| outcome.intent.0 += 1);
    check("action", |outcome| outcome.action.0 += 1);
    // One call, two outcomes.
    let mut rig = eventful();
    let first = rig.log.iter().find(|leaf| leaf.record.body.kind() == "outcome").unwrap().clone();
    let last = rig.log.last().unwrap().record.seq.0;
    let again = Record { seq: countersign_model::Seq(last + 1), ..first.record };
    rig.log.push(Leaf { record: again, leaf: countersign_model::unit::LeafIndex(rig.log.len() as u64), ..first });
    differs(&report(&rig).lines.last().unwrap().found, "action");
}

#[test]
fn an_erasure_that_nobody_ordered_is_found() {
    for is_ordered in [true, false] {
        let mut rig = eventful();
        let scope = VaultScope::Run("r-1".parse().unwrap());
        if is_ordered {
            assert!(rig.order("ana", Deed::Erase { scope: scope.clone() }), "{:?}", rig.refusals);
        }
        let command = countersign_model::unit::LeafIndex(0);
        rig.step(Event::Erased { scope, command, keys: 1, payloads: 1, tickets: Default::default() });
        let report = report(&rig);
        assert_eq!(report.is_clean(), is_ordered, "{report:?}");
        if !is_ordered {
            differs(&report.lines.last().unwrap().found, "scope");
        }
    }
}

/// A decision that read the arguments is made again from the payload; without it nothing is claimed.
#[test]
fn arguments_that_policy_read_are_replayed_or_erased() {
    let mut source = source();
    source.policies[0].1.push_str(
        "@id(\"small\") forbid (principal, action == Action::\"crm/query\", resource) when { context has args && context.args.n > 5 };",
    );
    let schema = r#"{"type":"object","properties":{"n":{"type":"integer"}},"required":["n"]}"#;
    source.tools[0].input_schema = Some(schema.to_owned());
    let mut rig = Rig::new(vec![rule(BudgetScope::Run, 9)]);
    rig.bundle = crate::policy::Bundle::load(&source).unwrap();
    let mut said = Vec::new();
    for arguments in [r#"{"n":5}"#, r#"{"n":6}"#, r#"{"n":"6"}"#, "{}"] {
        said.push(words(&rig.call(&shop(), action(&shop(), Effect::Read, arguments))));
    }
    assert_eq!(said, ["intent policy_permit", "denial policy_forbid", "denial policy_error", "denial policy_error"]);
    rig.step(Event::Stopped);
    all_identical(&rig);
    rig.log.iter_mut().for_each(|leaf| leaf.payload = None);
    for line in report(&rig).lines {
        assert_eq!(line.found, Found::Erased, "{line:?}");
    }
}
