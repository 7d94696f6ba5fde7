//! What agents did before, against a model that keeps every event, and over restarts.

use countersign_model::command::Deed;
use countersign_model::facts::{Bound, Effect, RUN_LABELS_MAX};
use countersign_model::record::{History, Recent};
use countersign_model::{Action, Caller, TimeMs};
use proptest::prelude::*;

use super::{HOSTS_MAX, Windows};
use crate::Event;
use crate::tests::fixture::*;

fn with(mut action: Action, bound: Bound) -> Action {
    action.facts.bound = Some(bound);
    action
}

fn write(caller: &Caller, bound: Bound) -> Action {
    with(action(caller, Effect::Write, "{}"), bound)
}

fn hosts(names: &[&str]) -> Bound {
    Bound { hosts: names.iter().map(|name| (*name).to_owned()).collect(), ..Bound::default() }
}

fn count(count: u64) -> Bound {
    Bound { count: Some(count), ..Bound::default() }
}

/// Calls, and says what the call was told.
fn told(rig: &mut Rig, caller: &Caller, action: Action) -> History {
    attempt(&rig.call(caller, action)).inputs.history.clone().unwrap()
}

const fn recent(minute: u64, ten_minutes: u64, hour: u64, day: u64) -> Recent {
    Recent { minute, ten_minutes, hour, day }
}

#[test]
fn a_host_is_new_to_an_agent_once_whatever_its_session() {
    let mut rig = Rig::new(vec![]);
    let other = caller("shop", "s-2", "r-2");
    let mail = Bound { recipient_domains: vec!["b.example".to_owned()], ..hosts(&["a.example"]) };
    assert_eq!(told(&mut rig, &shop(), write(&shop(), mail.clone())).new_hosts, ["a.example", "b.example"]);
    assert!(told(&mut rig, &other, write(&other, mail.clone())).new_hosts.is_empty());
    let guest = caller("guest", "s-3", "r-3");
    let read = with(action(&guest, Effect::Read, "{}"), mail);
    assert_eq!(told(&mut rig, &guest, read).new_hosts.len(), 2, "another agent");
}

#[test]
fn what_is_denied_or_parked_is_not_known() {
    let mut rig = Rig::new(vec![]);
    let delete = || with(action(&shop(), Effect::Destructive, "{}"), hosts(&["a.example"]));
    assert_eq!(words(&rig.call(&shop(), delete())), "proposal approval_required");
    let spend = with(action(&shop(), Effect::Spend, "1"), hosts(&["a.example"]));
    assert_eq!(words(&rig.call(&shop(), spend)), "denial policy_forbid");
    let read = told(&mut rig, &shop(), with(action(&shop(), Effect::Read, "{}"), hosts(&["a.example"])));
    assert_eq!((read.new_hosts.len(), read.calls, read.previous), (1, recent(0, 0, 0, 0), None));
}

#[test]
fn forgotten_hosts_are_new_again_oldest_first() {
    let mut rig = Rig::new(vec![]);
    let name = |n: usize| format!("h{n}.example");
    for n in 0..=HOSTS_MAX {
        told(&mut rig, &shop(), write(&shop(), hosts(&[&name(n)])));
    }
    assert!(told(&mut rig, &shop(), write(&shop(), hosts(&[&name(1)]))).new_hosts.is_empty());
    assert_eq!(told(&mut rig, &shop(), write(&shop(), hosts(&[&name(0)]))).new_hosts.len(), 1);
}

#[test]
fn pairs_of_tools_are_new_to_an_agent_once() {
    let mut rig = Rig::new(vec![]);
    let call = |rig: &mut Rig, caller: &Caller, tool: &str| {
        let action = Action { tool: tool.parse().unwrap(), ..action(caller, Effect::Read, "{}") };
        let history = told(rig, caller, action);
        (history.previous.unwrap_or_default(), history.new_pair)
    };
    let other = caller("shop", "s-2", "r-2");
    assert_eq!(call(&mut rig, &shop(), "query"), (String::new(), false));
    assert_eq!(call(&mut rig, &shop(), "send"), ("crm/query".to_owned(), true));
    assert_eq!(call(&mut rig, &shop(), "query"), ("crm/send".to_owned(), true));
    assert_eq!(call(&mut rig, &shop(), "send"), ("crm/query".to_owned(), false));
    // What was called last is the run's; which pairs are known is the agent's.
    assert_eq!(call(&mut rig, &other, "query"), (String::new(), false));
    assert_eq!(call(&mut rig, &other, "send"), ("crm/query".to_owned(), false));
}

#[test]
fn calls_are_counted_by_agent_and_target_over_sessions_and_restarts() {
    let mut rig = Rig::new(vec![]);
    let other = caller("shop", "s-2", "r-2");
    told(&mut rig, &shop(), action(&shop(), Effect::Read, "1"));
    told(&mut rig, &shop(), action(&shop(), Effect::Write, "2"));
    let history = told(&mut rig, &other, action(&other, Effect::Read, "3"));
    assert_eq!((history.calls, history.changes), (recent(2, 2, 2, 2), recent(1, 1, 1, 1)));
    let elsewhere = Action {
        target: "lab".parse().unwrap(),
        environment: "staging".parse().unwrap(),
        ..action(&other, Effect::Read, "4")
    };
    assert_eq!(told(&mut rig, &other, elsewhere).calls, recent(0, 0, 0, 0));
    rig.now = rig.now.saturating_add_ms(5 * 60_000);
    rig.restart();
    let history = told(&mut rig, &other, action(&other, Effect::Read, "5"));
    assert_eq!((history.calls, history.changes), (recent(0, 3, 3, 3), recent(0, 1, 1, 1)));
}

/// Two that come together must not both find that nothing happened before.
#[test]
fn a_call_that_is_being_decided_counts_already() {
    let mut rig = Rig::new(vec![]);
    let (first, answer) = *rig.propose(&shop(), action(&shop(), Effect::Write, "1")).unwrap_err();
    let (second, other) = *rig.propose(&shop(), action(&shop(), Effect::Write, "2")).unwrap_err();
    let seen = |record: &_| attempt(record).inputs.history.clone().unwrap().changes.minute;
    assert_eq!(seen(&rig.answer(second, other)), 1);
    assert_eq!(seen(&rig.answer(first, answer)), 0);
    rig.propose(&shop(), action(&shop(), Effect::Write, "3")).unwrap_err();
    let fourth = rig.propose(&shop(), action(&shop(), Effect::Write, "4")).unwrap_err();
    assert_eq!(rig.kernel.asked.len(), 2);
    rig.step(Event::Abandoned { call: fourth.0 });
    assert_eq!(
        told(&mut rig, &shop(), action(&shop(), Effect::Read, "5")).changes.minute,
        3,
        "what was given up does not count"
    );
}

#[test]
fn growing_changes_stand_in_a_row() {
    let mut rig = Rig::new(vec![]);
    let mut scale = |effect, to: u64, minutes: u64| {
        rig.now = rig.now.saturating_add_ms(minutes * 60_000);
        let history = told(&mut rig, &shop(), with(action(&shop(), effect, "{}"), count(to)));
        (history.growing, history.previous_count)
    };
    assert_eq!(scale(Effect::Write, 2, 0), (0, None));
    assert_eq!(scale(Effect::Write, 4, 1), (2, Some(2)));
    assert_eq!(scale(Effect::Write, 8, 1), (3, Some(4)));
    assert_eq!(scale(Effect::Read, 9, 1), (0, Some(8)), "a read changes nothing");
    assert_eq!(scale(Effect::Write, 8, 1), (0, Some(8)), "not larger");
    assert_eq!(scale(Effect::Write, 9, 1), (2, Some(8)), "a new row");
    assert_eq!(scale(Effect::Write, 10, 9), (3, Some(9)));
    assert_eq!(scale(Effect::Write, 11, 11), (0, Some(10)), "too long ago");
    for n in 12..60 {
        scale(Effect::Write, n, 0);
    }
    assert_eq!(scale(Effect::Write, 60, 0).0, 33, "a long row is told as a long one");
}

/// Changes that come together grow as much as those that come one after another.
#[test]
fn changes_that_are_being_decided_stand_in_the_row() {
    let mut rig = Rig::new(vec![]);
    told(&mut rig, &shop(), with(action(&shop(), Effect::Write, "{}"), count(10)));
    let asked: Vec<_> = [20, 40, 80, 30]
        .map(|to| *rig.propose(&shop(), with(action(&shop(), Effect::Write, "{}"), count(to))).unwrap_err())
        .into();
    let growing = |record: &_| attempt(record).inputs.history.clone().unwrap().growing;
    let told: Vec<u64> = asked.into_iter().map(|(call, yes)| growing(&rig.answer(call, yes))).collect();
    assert_eq!(told, [2, 3, 4, 3]);
}

#[test]
fn a_run_is_told_what_it_was_shown_until_it_ends() {
    let mut rig = Rig::new(vec![]);
    let labelled =
        |names: &[&str]| Bound { labels: names.iter().map(|n| (*n).to_owned()).collect(), ..Bound::default() };
    let other = caller("shop", "s-2", "r-2");
    let mut call = |caller: &Caller, names: &[&str]| {
        told(&mut rig, caller, with(action(caller, Effect::Read, "{}"), labelled(names))).labels
    };
    assert!(call(&shop(), &["private"]).is_empty());
    assert_eq!(call(&shop(), &["web", "untrusted"]), ["private"]);
    assert_eq!(call(&shop(), &[]), ["private", "untrusted", "web"]);
    assert!(call(&other, &[]).is_empty(), "another run");
    for n in 0..RUN_LABELS_MAX {
        call(&shop(), &[&format!("a{n:02}")]);
    }
    let all = call(&shop(), &[]);
    assert_eq!(all.len(), RUN_LABELS_MAX);
    assert!(all.contains(&"private".to_owned()) && all.contains(&"untrusted".to_owned()));
    rig.now = rig.now.saturating_add_ms(9 * HOUR_MS);
    let later = Caller { expires: rig.now.saturating_add_ms(HOUR_MS), ..shop() };
    let history = told(&mut rig, &later, action(&later, Effect::Read, "{}"));
    assert_eq!((history.labels.len(), history.previous), (0, None), "the run's every token had ended");
}

#[test]
fn a_lease_is_as_old_as_its_first_day() {
    let mut rig = Rig::with_humans(vec![]);
    told(&mut rig, &shop(), action(&shop(), Effect::Read, "{}"));
    let lease = |rig: &mut Rig, name: &str| {
        let until = rig.now.saturating_add_ms(HOUR_MS);
        assert!(rig.order("ana", Deed::Lease { session: "s-1".parse().unwrap(), name: name.parse().unwrap(), until }));
    };
    let mut minutes = |pass: u64, renew: Option<&str>| {
        rig.now = rig.now.saturating_add_ms(pass * 60_000);
        renew.into_iter().for_each(|name| lease(&mut rig, name));
        told(&mut rig, &shop(), action(&shop(), Effect::Read, "{}")).lease_minutes
    };
    assert_eq!(minutes(0, None), None);
    assert_eq!(minutes(0, Some("outbound")), Some(0));
    assert_eq!(minutes(40, Some("outbound")), Some(40), "renewed");
    assert_eq!(minutes(10, Some("other")), Some(50), "the oldest");
    assert_eq!(minutes(55, None), Some(55), "the oldest ended");
    assert_eq!(minutes(10, None), None);
    assert_eq!(minutes(0, Some("outbound")), Some(0), "a new one");
}

/// A record that surely never got to disk leaves no trace, whatever came between.
#[test]
fn an_intent_that_was_not_written_did_not_happen() {
    let rig = || Rig::new(vec![]);
    let first = || write(&shop(), Bound { labels: vec!["private".to_owned()], ..hosts(&["a.example"]) });
    let other = caller("shop", "s-2", "r-2");
    let decide = |rig: &mut Rig, caller: &Caller, action: Action| {
        let (call, evaluation) = *rig.propose(caller, action).unwrap_err();
        rig.step(Event::Evaluated { call, evaluation });
        (call, rig.log.len() - 1)
    };
    let durable = |rig: &mut Rig, (call, at): (countersign_model::Seq, usize)| {
        let (leaf, leaf_hash) = (rig.log[at].leaf, rig.log[at].leaf_hash);
        rig.step(Event::Appended { call, leaf, leaf_hash });
    };
    let mut failed = rig();
    let lost = decide(&mut failed, &shop(), first());
    let kept = decide(&mut failed, &other, write(&other, hosts(&["b.example"])));
    let last = decide(&mut failed, &shop(), write(&shop(), count(3)));
    durable(&mut failed, kept);
    assert!(!failed.kernel.state.histories.unsure.steps.is_empty());
    failed.step(Event::AppendFailed { call: lost.0, surely_absent: true });
    durable(&mut failed, last);
    // The same without the first, as a fold finds it.
    failed.log.remove(lost.1);
    let folded = refolded(failed.kernel.settings().clone(), &failed.log);
    assert_eq!(failed.kernel.state.histories, folded.state.histories);
    // What may be on disk stays counted.
    let mut doubtful = rig();
    let lost = decide(&mut doubtful, &shop(), first());
    doubtful.step(Event::AppendFailed { call: lost.0, surely_absent: false });
    let folded = refolded(doubtful.kernel.settings().clone(), &doubtful.log);
    assert_eq!(doubtful.kernel.state.histories, folded.state.histories);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A window never counts too few, and too many only from just before it.
    #[test]
    fn windows_count_what_is_in_them(steps in prop::collection::vec(0_u64..4_000_000, 0..120), wait in 0_u64..90_000_000) {
        let mut windows = Windows::default();
        let mut now = START;
        let mut events = Vec::new();
        for step in steps {
            // Mostly close together, sometimes far apart.
            now = now.saturating_add_ms(if step % 3 == 0 { step } else { step % 9_000 });
            windows.add(now);
            events.push(now);
        }
        now = now.saturating_add_ms(wait);
        let read = windows.read(now);
        let within = |ms: u64| events.iter().filter(|at| now.since_ms(**at) <= ms).count() as u64;
        for (found, window, bucket) in [
            (read.minute, 60_000, 5_000),
            (read.ten_minutes, 600_000, 30_000),
            (read.hour, 3_600_000, 120_000),
            (read.day, 86_400_000, 1_800_000),
        ] {
            prop_assert!((within(window)..=within(window + bucket)).contains(&found), "{found} {window} {events:?}");
        }
        prop_assert_eq!(windows.is_over(now), read.day == 0);
    }

    /// Whatever fails to be written and in whatever order the disk answers, what is left is the fold of the log.
    #[test]
    fn what_is_left_is_the_fold_of_the_log(calls in prop::collection::vec((0..2_u8, 0..3_u8, 0..4_u64, any::<bool>()), 1..20), order in any::<u64>()) {
        let mut rig = Rig::new(vec![]);
        let callers = [caller("shop", "s-1", "r-1"), caller("shop", "s-2", "r-2")];
        let mut open = Vec::new();
        let mut lost = Vec::new();
        for (at, (who, host, number, is_kept)) in calls.into_iter().enumerate() {
            let caller = &callers[usize::from(who)];
            let name = format!("h{host}");
            let bound = Bound { count: Some(number), labels: vec![name.clone()], ..hosts(&[&name]) };
            let tool = format!("t{host}").parse().unwrap();
            let action = Action { tool, ..write(caller, bound) };
            let (call, evaluation) = *rig.propose(caller, action).unwrap_err();
            rig.step(Event::Evaluated { call, evaluation });
            open.push((call, rig.log.len() - 1, is_kept));
            // Some answers come late, and not in their order.
            if (order >> (at % 64)) & 1 == 1 {
                let (call, index, is_kept) = open.swap_remove(0);
                answer(&mut rig, &mut lost, (call, index, is_kept));
            }
        }
        for one in open.into_iter().rev() {
            answer(&mut rig, &mut lost, one);
        }
        let kept: Vec<_> = rig.log.iter().enumerate().filter(|(at, _)| !lost.contains(at)).map(|(_, leaf)| leaf.clone()).collect();
        let folded = refolded(rig.kernel.settings().clone(), &kept);
        prop_assert_eq!(&rig.kernel.state.histories, &folded.state.histories);
    }
}

fn answer(rig: &mut Rig, lost: &mut Vec<usize>, (call, index, is_kept): (countersign_model::Seq, usize, bool)) {
    if is_kept {
        let (leaf, leaf_hash) = (rig.log[index].leaf, rig.log[index].leaf_hash);
        rig.step(Event::Appended { call, leaf, leaf_hash });
    } else {
        lost.push(index);
        rig.step(Event::AppendFailed { call, surely_absent: true });
    }
}

#[test]
fn time_is_what_it_was_when_it_is_read_again() {
    let mut windows = Windows::default();
    assert_eq!(windows.read(TimeMs(0)), Recent::default());
    windows.add(TimeMs(0));
    assert_eq!(windows.read(TimeMs(0)), recent(1, 1, 1, 1));
    assert_eq!(windows.read(TimeMs(60_000)), recent(1, 1, 1, 1));
    assert_eq!(windows.read(TimeMs(65_000)), recent(0, 1, 1, 1));
    assert_eq!(windows.read(TimeMs(u64::MAX)), Recent::default());
}
