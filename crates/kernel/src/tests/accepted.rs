//! Which definition of a tool may be called: the listed one, or the first one.

use std::collections::BTreeMap;

use countersign_model::facts::Effect;
use countersign_model::record::{AcceptedBy, Status};
use countersign_model::{Action, Digest, method};

use super::fixture::*;
use crate::pins::{PINS_MAX, Pins};
use crate::replay::replay;
use crate::{BudgetScope, Event};

const FIRST: Digest = Digest([7; 32]);
const OTHER: Digest = Digest([8; 32]);

/// A read through `crm/TOOL` as its upstream defines it now.
fn defined(tool: &str, manifest: Digest) -> Action {
    Action { tool: tool.parse().unwrap(), manifest, ..action(&shop(), Effect::Read, "{}") }
}

/// A rig with one limit, under a list of accepted tools if there is one.
fn rig(accepted: Option<&[(&str, Digest)]>) -> Rig {
    let mut settings = settings(vec![rule(BudgetScope::Run, 100)]);
    if let Some(accepted) = accepted {
        let tools: BTreeMap<_, _> = accepted.iter().map(|(tool, hash)| (tool.parse().unwrap(), *hash)).collect();
        settings.accepted = [("crm".parse().unwrap(), tools)].into();
    }
    Rig::with(settings)
}

/// Calls and says the decision with its detail.
fn call(rig: &mut Rig, action: Action) -> String {
    let record = rig.call(&shop(), action);
    let detail = attempt(&record).reasons[0].detail.clone().unwrap_or_default();
    format!("{} {detail}", words(&record)).trim_end().to_owned()
}

fn all_identical(rig: &Rig) {
    for line in replay(&rig.log, rig.kernel.settings(), &rig.bundle).lines {
        assert_eq!(line.found, crate::replay::Found::Identical, "{line:?}");
    }
}

#[test]
fn what_looks_wrong_is_held_back_until_somebody_accepts_it_by_name() {
    let flagged = || Action { flagged: Some("instruction".to_owned()), ..defined("query", FIRST) };
    let mut rig = rig(None);
    assert_eq!(call(&mut rig, flagged()), "denial tool_flagged instruction");
    // Having run before is no acceptance.
    assert_eq!(call(&mut rig, defined("query", FIRST)), "intent policy_permit");
    assert_eq!(call(&mut rig, flagged()), "denial tool_flagged instruction");
    all_identical(&rig);
    let mut listed = self::rig(Some(&[("query", FIRST)]));
    assert_eq!(call(&mut listed, flagged()), "intent policy_permit");
    let other = Action { manifest: OTHER, ..flagged() };
    assert!(call(&mut listed, other).starts_with("denial tool_changed"));
    all_identical(&listed);
}

#[test]
fn a_list_decides_alone() {
    let mut rig = rig(Some(&[("query", FIRST)]));
    assert_eq!(call(&mut rig, defined("query", FIRST)), "intent policy_permit");
    let changed = "denial tool_changed its definition is not the accepted one, 070707070707";
    assert_eq!(call(&mut rig, defined("query", OTHER)), changed);
    assert_eq!(call(&mut rig, defined("query", FIRST)), "intent policy_permit");
    let none = "denial tool_changed the upstream has accepted tools, and this is none of them";
    assert_eq!(call(&mut rig, defined("purge", FIRST)), none);
    let accepts =
        |tool: &str, manifest| rig.kernel.accepts((&"crm".parse().unwrap(), &tool.parse().unwrap()), manifest);
    assert_eq!([accepts("query", FIRST), accepts("query", OTHER), accepts("purge", FIRST)], [true, false, false]);
    rig.step(Event::Stopped);
    all_identical(&rig);
}

#[test]
fn without_a_list_the_first_that_ran_counts_also_after_a_restart() {
    let mut rig = rig(None);
    // What was denied or parked is not what ran.
    let parked = Action { facts: countersign_model::Facts::declared(Effect::Destructive), ..defined("query", OTHER) };
    assert_eq!(call(&mut rig, parked), "proposal approval_required");
    assert_eq!(call(&mut rig, defined("query", FIRST)), "intent policy_permit");
    let changed = "denial tool_changed its definition is not the one that ran first, 070707070707";
    assert_eq!(call(&mut rig, defined("query", OTHER)), changed);
    assert_eq!(call(&mut rig, defined("look", OTHER)), "intent policy_permit", "another tool has a first of its own");
    rig.restart();
    assert_eq!(call(&mut rig, defined("query", OTHER)), changed);
    assert_eq!(call(&mut rig, defined("query", FIRST)), "intent policy_permit");
    rig.step(Event::Stopped);
    all_identical(&rig);
}

/// The second of two calls is read again when it is decided.
#[test]
fn two_definitions_cannot_both_be_first() {
    let mut rig = rig(None);
    let (a, yes) = *rig.propose(&shop(), defined("query", FIRST)).unwrap_err();
    let (b, also) = *rig.propose(&shop(), defined("query", OTHER)).unwrap_err();
    assert_eq!(words(&rig.answer(b, also)), "intent policy_permit");
    assert_eq!(words(&rig.answer(a, yes)), "denial tool_changed");
    rig.step(Event::Stopped);
    all_identical(&rig);
}

/// A list that is gone again leaves behind what it let run, not what ran before it.
#[test]
fn what_was_accepted_takes_the_place_of_what_ran_first() {
    let mut rig = rig(None);
    call(&mut rig, defined("query", FIRST));
    let mut listed = rig.kernel.settings().clone();
    listed.accepted = [("crm".parse().unwrap(), [("query".parse().unwrap(), OTHER)].into())].into();
    let unlisted = rig.kernel.settings().clone();
    rig.kernel = refolded(listed, &rig.log);
    assert_eq!(call(&mut rig, defined("query", OTHER)), "intent policy_permit");
    rig.kernel = refolded(unlisted, &rig.log);
    assert_eq!(call(&mut rig, defined("query", OTHER)), "intent policy_permit");
    assert!(call(&mut rig, defined("query", FIRST)).starts_with("denial tool_changed"));
}

/// An intent that was surely never written was no first use.
#[test]
fn an_intent_that_never_was_pins_nothing() {
    let mut rig = rig(None);
    let (a, yes) = *rig.propose(&shop(), defined("query", OTHER)).unwrap_err();
    rig.step(Event::Evaluated { call: a, evaluation: yes });
    rig.log.pop();
    rig.step(Event::AppendFailed { call: a, surely_absent: true });
    assert_eq!(call(&mut rig, defined("query", FIRST)), "intent policy_permit");
    assert_eq!(rig.kernel.state.pins, refolded(rig.kernel.settings().clone(), &rig.log).state.pins);
    rig.end(attempt(&rig.log.last().unwrap().record.clone()).reserved_at, Status::Done);
}

/// While another intent of the tool rests on the same definition, or is on disk, a failed one takes nothing back.
#[test]
fn a_failed_first_use_leaves_the_definition_to_a_later_one() {
    for is_told_first in [true, false] {
        let mut rig = rig(None);
        let (a, yes) = *rig.propose(&shop(), defined("query", FIRST)).unwrap_err();
        rig.step(Event::Evaluated { call: a, evaluation: yes });
        rig.log.pop();
        let fail = |rig: &mut Rig| rig.step(Event::AppendFailed { call: a, surely_absent: true });
        let (b, yes) = *rig.propose(&shop(), defined("query", FIRST)).unwrap_err();
        if is_told_first {
            rig.step(Event::Evaluated { call: b, evaluation: yes });
            fail(&mut rig);
        } else {
            rig.answer(b, yes);
            fail(&mut rig);
        }
        let refused = call(&mut rig, defined("query", OTHER));
        assert!(refused.starts_with("denial tool_changed"), "{refused}");
    }
}

#[test]
fn invented_names_do_not_fill_the_memory() {
    let mut rig = rig(None);
    let last = rig.call(&shop(), defined("query", FIRST));
    let tools = (0..PINS_MAX).map(|n| (format!("tool-{n}").parse().unwrap(), FIRST)).collect();
    rig.kernel.state.pins = Pins::of([("crm".parse().unwrap(), tools)].into());
    let mut again = attempt(&last).clone();
    assert!(!rig.kernel.state.pins.apply(&again));
    let refused = "denial tool_changed too many tools ran for another to be remembered; accept it by name";
    assert_eq!(call(&mut rig, defined("query", FIRST)), refused);
    assert_eq!(call(&mut rig, defined("tool-3", FIRST)), "intent policy_permit");
    // What a human accepted is remembered all the same.
    again.inputs.standing.accepted =
        Some(countersign_model::record::Accepted { by: AcceptedBy::List, manifest: Some(FIRST) });
    assert!(rig.kernel.state.pins.apply(&again));
}

/// Reading a resource of `crm`, as the point frames it.
fn reading_a_resource() -> Action {
    let tool = "resources/read".parse().unwrap();
    Action { manifest: method::manifest(&tool), tool, ..action(&shop(), Effect::Read, r#"{"uri":"file:///a"}"#) }
}

/// A list of accepted tools says nothing of methods, and a method is no first use.
#[test]
fn a_method_stands_on_no_list_and_is_pinned_by_nobody() {
    for accepted in [None, Some([].as_slice()), Some([("resources/read", FIRST)].as_slice())] {
        let mut rig = rig(accepted);
        assert_eq!(call(&mut rig, reading_a_resource()), "intent policy_permit");
        assert!(rig.kernel.state.pins.known.is_empty());
        let read = attempt(&rig.log.last().unwrap().record).inputs.standing.accepted.clone().unwrap();
        assert_eq!(read.by, AcceptedBy::Method);
        // Nobody but the protocol defines it, whatever an upstream lists under its name and whoever accepted that.
        let refused = "denial tool_changed its name is that of a method, which no tool may have";
        assert_eq!(call(&mut rig, defined("resources/read", FIRST)), refused);
        let tool = "resources/read".parse().unwrap();
        let accepts = |manifest| rig.kernel.accepts((&"crm".parse().unwrap(), &tool), manifest);
        assert_eq!([accepts(method::manifest(&tool)), accepts(FIRST)], [true, false]);
        rig.step(Event::Stopped);
        all_identical(&rig);
    }
}

/// A method that only a configuration lists is known by its manifest, and a tool of the same name stays a tool.
#[test]
fn a_method_of_the_configuration_is_no_tool_of_its_name() {
    let tool: countersign_model::id::ToolName = "vendor/do".parse().unwrap();
    let own = Action { manifest: method::manifest(&tool), ..defined("vendor/do", FIRST) };
    let mut rig = rig(None);
    assert_eq!(call(&mut rig, own.clone()), "intent policy_permit");
    assert_eq!(call(&mut rig, defined("vendor/do", FIRST)), "intent policy_permit");
    assert_eq!(call(&mut rig, own), "intent policy_permit");
    let changed = "denial tool_changed its definition is not the one that ran first, 070707070707";
    assert_eq!(call(&mut rig, defined("vendor/do", OTHER)), changed);
    rig.restart();
    assert_eq!(call(&mut rig, defined("vendor/do", OTHER)), changed);
    rig.step(Event::Stopped);
    all_identical(&rig);
}
