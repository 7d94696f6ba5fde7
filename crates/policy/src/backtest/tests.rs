//! Backtests of made-up records: every way a verdict can change, and everything that must not pass for the same.

use countersign_model::facts::{Effect, Facts};
use countersign_model::record::Attempt;
use countersign_model::unit::LeafIndex;
use countersign_model::{Body, Reason, ReasonCode, TimeMs, Verdict};
use expect_test::{Expect, expect};

use super::{Again, Backtest, Change, Found, GROUPS_MAX, Groups, Known, Recorded};
use crate::sample::{POLICY, attempt, bundle, decided, granted, rules, sql};

fn read() -> Facts {
    sql(Effect::Read, "select", "customers")
}

fn write() -> Facts {
    sql(Effect::Write, "update", "customers")
}

fn asked(new: &str, body: &Body, known: &Known, arguments: Option<&[u8]>) -> Found {
    let bundle = bundle(new);
    let recorded = Recorded::of((LeafIndex(7), TimeMs(1_000)), body, arguments).unwrap();
    Backtest::new(&bundle, &rules(new)).judge(&recorded, known)
}

fn again(new: &str, body: &Body) -> Found {
    asked(new, body, &Known::AsRecorded, Some(b"{}"))
}

/// Decides `attempt` under [`POLICY`] and shows what another policy makes of it.
fn check(new: &str, attempt: Attempt, expected: Expect) {
    let body = decided(&bundle(POLICY), attempt);
    let shown = match again(new, &body) {
        Found::Changed(change) => {
            let Change { after, direction, .. } = change.as_ref();
            let (code, rules) = (after.reason.code.as_str(), after.rules.join(", "));
            let widening = if change.is_widening() { ", widening" } else { "" };
            format!("{} -> {} by {rules} ({code}), {}{widening}", change.then(), change.would(), direction.as_str())
        }
        other => format!("{other:?}"),
    };
    expected.assert_eq(&shown);
}

/// [`POLICY`] without the rule of this id.
fn without(id: &str) -> String {
    let rule = rules(POLICY).rule(id).unwrap().span.clone();
    format!("{}{}", &POLICY[..rule.start], &POLICY[rule.end..])
}

#[test]
fn the_same_policy_changes_nothing() {
    for attempt in [attempt("coder", read()), attempt("ops", write()), attempt("coder", write())] {
        let body = decided(&bundle(POLICY), attempt);
        assert_eq!(again(POLICY, &body), Found::Same);
    }
}

#[test]
fn each_way_a_verdict_changes() {
    let narrow = without("reads-run");
    check(&narrow, attempt("coder", read()), expect!["allow -> would be denied by  (no_permit), narrower"]);
    let ungated = without("production-changes");
    check(
        &ungated,
        attempt("ops", write()),
        expect!["require_approval -> would run by changes-are-possible (policy_permit), wider, widening"],
    );
    check(
        &without("changes-are-possible"),
        attempt("ops", write()),
        expect!["require_approval -> would be denied by  (no_permit), narrower"],
    );
    let gated_drop = without("never-drop");
    check(
        &gated_drop,
        attempt("ops", sql(Effect::Destructive, "drop_table", "customers")),
        expect!["deny -> would need approval by production-changes (approval_required), wider"],
    );
    let stricter = POLICY.replace("@timeout(\"30m\")", "@timeout(\"30m\") @quorum(\"2\")");
    check(
        &stricter,
        attempt("ops", write()),
        expect!["require_approval -> would need approval by production-changes (approval_required), other"],
    );
    let two = format!(
        "{POLICY}@id(\"second\") @gate(\"2\") forbid (principal, action, resource) unless {{ context.effect == \"read\" }};"
    );
    check(
        &two,
        attempt("ops", write()),
        expect!["require_approval -> would need approval by production-changes, second (approval_required), narrower"],
    );
    let obliged = format!("{POLICY}@id(\"o\") @obligation(\"witness\") permit (principal, action, resource);");
    check(
        &obliged,
        attempt("coder", read()),
        expect!["allow -> would run under obligations by o, reads-run (policy_permit), narrower"],
    );
}

#[test]
fn a_gate_of_another_name_asks_for_the_same() {
    let renamed = POLICY.replace("@gate(\"changes in production\")", "@gate(\"another name\") @notify(\"ops\")");
    let body = decided(&bundle(POLICY), attempt("ops", write()));
    assert_eq!(again(&renamed, &body), Found::Same);
}

#[test]
fn what_ran_by_consent_says_whose() {
    let consented = || granted(attempt("ops", write()), &["ana"], &["production-changes"]);
    assert!(matches!(decided(&bundle(POLICY), consented()), Body::Intent(_)));
    assert_eq!(again(POLICY, &decided(&bundle(POLICY), consented())), Found::Same);
    let other = POLICY.replace("production-changes", "another-gate");
    check(
        &other,
        consented(),
        expect![
            "allow, approved by ana -> would need approval (approved then by ana) by another-gate (approval_required), other"
        ],
    );
    // Nothing that was allowed is denied, and yet more runs without a human.
    check(
        &without("production-changes"),
        consented(),
        expect![
            "allow, approved by ana -> would run (without approval; approved then by ana) by changes-are-possible (policy_permit), wider, widening"
        ],
    );
}

#[test]
fn what_was_denied_before_policy_stays_denied() {
    let all = "@id(\"all\") permit (principal, action, resource);";
    let mut killed = attempt("coder", write());
    killed.inputs.killed = true;
    let body = Body::Denial(Box::new(killed));
    assert_eq!(again(all, &body), Found::Unaffected(ReasonCode::Killed));
    let mut changed = attempt("coder", write());
    changed.reasons = vec![Reason::plain(ReasonCode::ToolChanged)];
    assert_eq!(again(all, &Body::Denial(Box::new(changed))), Found::Unaffected(ReasonCode::ToolChanged));
    // A kill between question and decision: policy had answered, and it did not matter.
    let Body::Proposal(mut parked) = decided(&bundle(POLICY), attempt("ops", write())) else { unreachable!() };
    parked.attempt.inputs.killed = true;
    assert_eq!(again(all, &Body::Denial(Box::new(parked.attempt))), Found::Unaffected(ReasonCode::Killed));
}

#[test]
fn a_call_that_waited_is_asked_too() {
    let Body::Proposal(parked) = decided(&bundle(POLICY), attempt("ops", write())) else { unreachable!() };
    let mut waiting = parked.attempt;
    waiting.inputs.evaluation = None;
    waiting.reasons = vec![Reason::plain(ReasonCode::Waiting)];
    let Verdict::RequireApproval { gates } = waiting.verdict.clone() else { unreachable!() };
    let reading = countersign_model::record::WaitReading { ticket: "t-1".parse().unwrap(), gates };
    waiting.inputs.standing.waits_as = Some(reading);
    let body = Body::Waiting(Box::new(waiting));
    assert_eq!(again(POLICY, &body), Found::Same);
    let Found::Changed(change) = again(&without("production-changes"), &body) else { panic!("not changed") };
    assert!(change.is_widening());
}

#[test]
fn what_cannot_be_known_is_never_the_same() {
    let body = decided(&bundle(POLICY), attempt("coder", read()));
    let missing = Known::Missing("payload erased, and the binding changed".to_owned());
    let found = asked(POLICY, &body, &missing, None);
    assert_eq!(found, Found::NotComparable("payload erased, and the binding changed".to_owned()));

    let counts =
        format!("{POLICY}@id(\"c\") forbid (principal, action, resource) when {{ context.calls.minute > 9 }};");
    let mut old = attempt("coder", read());
    old.inputs.history = None;
    let body = decided(&bundle(POLICY), old);
    assert!(matches!(again(&counts, &body), Found::NotComparable(why) if why.contains("history")));
    assert_eq!(again(POLICY, &body), Found::Same, "no rule reads what is missing");

    let mut long = attempt("coder", Facts::opaque("the facts did not fit the record"));
    long.reasons = vec![Reason::plain(ReasonCode::RecordTooLong)];
    assert!(matches!(again(POLICY, &Body::Denial(Box::new(long))), Found::NotComparable(_)));
}

#[test]
fn facts_that_were_read_again_count() {
    let body = decided(&bundle(POLICY), attempt("ops", write()));
    let again = Again { facts: write(), target: "crm-test".parse().unwrap(), environment: "staging".parse().unwrap() };
    let Found::Changed(change) = asked(POLICY, &body, &Known::Again(Box::new(again)), Some(b"{}")) else {
        panic!("not changed")
    };
    assert_eq!((change.environment.as_str(), &change.after.verdict), ("staging", &Verdict::Allow));
    // What the agent did before would count otherwise too, and nobody counted it.
    let counts =
        format!("{POLICY}@id(\"c\") forbid (principal, action, resource) when {{ context.calls.minute > 9 }};");
    let other = Again { facts: read(), target: "crm".parse().unwrap(), environment: "production".parse().unwrap() };
    let found = asked(&counts, &body, &Known::Again(Box::new(other)), Some(b"{}"));
    assert!(matches!(&found, Found::NotComparable(why) if why.contains("history")), "{found:?}");
}

#[test]
fn an_agent_that_the_new_configuration_lacks_is_denied() {
    let mut gone = attempt("coder", read());
    gone.principal.agent = "mallory".parse().unwrap();
    gone.inputs.evaluation =
        decided(&bundle(POLICY), attempt("coder", read())).attempt().unwrap().inputs.evaluation.clone();
    (gone.verdict, gone.reasons) = (Verdict::Allow, vec![Reason::plain(ReasonCode::PolicyPermit)]);
    let Found::Changed(change) = again(POLICY, &Body::Intent(Box::new(gone))) else { panic!("not changed") };
    assert_eq!((&change.after.verdict, change.after.reason.code), (&Verdict::Deny, ReasonCode::PolicyError));
}

#[test]
fn groups_count_and_stay_bounded() {
    let mut groups = Groups::default();
    let body = decided(&bundle(POLICY), attempt("coder", read()));
    let Found::Changed(change) = again(&without("reads-run"), &body) else { panic!("not changed") };
    for number in 0..(GROUPS_MAX + 5) {
        let tool = format!("tool-{number}").parse().unwrap();
        let found = Found::Changed(Box::new(Change { tool, ..change.as_ref().clone() }));
        groups.take(&found);
        if number == 0 {
            groups.take(&found);
        }
    }
    groups.take(&Found::Unaffected(ReasonCode::Killed));
    groups.take(&Found::NotComparable("why".to_owned()));
    let total = GROUPS_MAX as u64 + 6;
    assert_eq!((groups.judged, groups.changed, groups.stopped, groups.widening), (total + 2, total, total, 0));
    assert_eq!((groups.groups.len(), groups.ungrouped, groups.incomparable()), (GROUPS_MAX, 5, 1));
    let (key, first) = groups.groups.iter().find(|(key, _)| key.tool == "db/tool-0").unwrap();
    assert_eq!((first.count, first.first, key.before, key.after), (2, TimeMs(1_000), "allow", "deny"));
}
