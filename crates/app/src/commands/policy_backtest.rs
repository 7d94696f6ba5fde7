//! `policy backtest`: the recorded calls decided again under another policy, and every verdict that changes.
//!
//! It asks nobody and changes nothing. What a backtest cannot say is what agents would have done next.

use std::cell::RefCell;

use anyhow::Result;
use countersign_ledger::VisitError;
use countersign_policy::backtest::{Backtest, Change, Direction, Found, Group, GroupKey, Groups, Recorded};
use countersign_receipt::merkle::TreeHead;
use serde_json::{Value, json};

use crate::cli;
use crate::context::{Context, when};
use crate::past::{Asked, Entry, Past, Recall};
use crate::terminal::{BAD, Exit, FAINT, GOOD, STRONG, WAIT, visible_lines};

/// Runs the command.
pub(crate) fn run(asked: &cli::Backtest, context: &Context) -> Result<Exit> {
    let new = Asked::new(&asked.new, &context.layout)?;
    let current = Asked::current(&context.layout)?;
    let past = Past::open((&asked.since, &asked.period), context)?;
    let mut listed = |change: &Change| {
        if asked.all {
            let line = change_value(change);
            context.out.result(&line, &change_text(change));
        }
    };
    let recall = Recall::new(&new, &current);
    let (groups, head) = again(&past, (&Backtest::new(&new.bundle, &new.rules), &recall), context, &mut listed)?;
    let mut value = summary_value(&groups);
    if let Some(fields) = value.as_object_mut() {
        fields.insert("policy".to_owned(), new.bundle.hash().hex().into());
        fields.insert("since_ms".to_owned(), past.since.0.into());
        fields.insert("size".to_owned(), head.size.into());
        fields.insert("root".to_owned(), head.root.to_string().into());
        fields.insert("payloads".to_owned(), if past.has_payloads() { "checked" } else { "absent" }.into());
    }
    let mut text = summary_text(&groups);
    if !past.has_payloads() {
        text = format!("{WAIT}without payloads{WAIT:#}: the ledger has no vault here\n{text}");
    }
    let covered =
        format!("calls since {} in the {} records of the log, root {}", when(past.since.0), head.size, head.root);
    context.out.result(&value, &format!("{text}\n{FAINT}{covered}{FAINT:#}"));
    // Who asks to be stopped by a change must not be told to go on by what nobody knows.
    let is_unknown = groups.incomparable() > 0;
    let fails = (asked.fail_on_change && (groups.changed > 0 || is_unknown))
        || (asked.fail_on_wider && (groups.widening > 0 || is_unknown));
    Ok(if fails { Exit::Failed } else { Exit::Done })
}

/// Decides the calls of a period again; `changed` hears of every verdict that changes.
pub(crate) fn again(
    past: &Past,
    by: (&Backtest<'_>, &Recall<'_>),
    context: &Context,
    changed: &mut dyn FnMut(&Change),
) -> Result<(Groups, TreeHead)> {
    let groups = RefCell::new(Groups::default());
    let mut visit = |entry: &Entry| {
        judge(entry, by, &mut |found| {
            groups.borrow_mut().take(found);
            if let Found::Changed(change) = found {
                changed(change);
            }
        });
        Ok::<(), VisitError>(())
    };
    let head = past.each(context, &mut visit)?;
    Ok((groups.into_inner(), head))
}

fn judge(entry: &Entry, (backtest, recall): (&Backtest<'_>, &Recall<'_>), found: &mut dyn FnMut(&Found)) {
    let Entry { leaf, configuration } = entry;
    let arguments = leaf.payload.as_ref().map(|payload| payload.arguments.as_slice());
    let Some(recorded) = Recorded::of((leaf.leaf, leaf.record.at), &leaf.record.body, arguments) else { return };
    let known = recall.known(recorded.attempt, (*configuration, arguments));
    found(&backtest.judge(&recorded, &known));
}

/// A change for programs.
pub(crate) fn change_value(change: &Change) -> Value {
    json!({
        "index": change.leaf.0, "at": when(change.at.0), "at_ms": change.at.0, "agent": change.agent.as_str(),
        "upstream": change.upstream.as_str(), "tool": change.tool.as_str(), "target": change.target.as_str(),
        "environment": change.environment.as_str(), "effect": change.effect.as_str(),
        "then": change.before.verdict.as_str(), "then_by_policy": change.before.alone.as_str(),
        "then_reason": change.before.reason.code.as_str(), "then_rules": change.before.rules,
        "would": change.after.verdict.as_str(), "would_by_policy": change.after.alone.as_str(),
        "reason": change.after.reason.code.as_str(), "detail": change.after.reason.detail, "rules": change.after.rules,
        "direction": change.direction.as_str(), "widening": change.is_widening(),
        "approved_by": change.approved_by.iter().map(ToString::to_string).collect::<Vec<_>>(), "words": change.would(),
    })
}

fn change_text(change: &Change) -> String {
    visible_lines(&format!(
        "{:>6} {} {} {}/{} in {}: {} → {}",
        change.leaf.0,
        when(change.at.0),
        change.agent,
        change.upstream,
        change.tool,
        change.environment,
        change.then(),
        change.would(),
    ))
}

/// What a backtest found, for programs.
pub(crate) fn summary_value(groups: &Groups) -> Value {
    let unaffected: serde_json::Map<String, Value> =
        groups.unaffected.iter().map(|(code, count)| (code.as_str().to_owned(), (*count).into())).collect();
    json!({
        "judged": groups.judged, "same": groups.same, "changed": groups.changed, "widening": groups.widening,
        "stopped": groups.stopped, "decided_before_policy": unaffected, "not_comparable": groups.not_comparable,
        "groups": groups.groups.iter().map(group_value).collect::<Vec<_>>(), "ungrouped": groups.ungrouped,
    })
}

fn group_value((key, group): (&GroupKey, &Group)) -> Value {
    json!({
        "direction": key.direction.as_str(), "then": key.before, "was_approved": key.was_approved, "would": key.after,
        "reason": key.code.as_str(), "rules": key.rules, "tool": key.tool, "environment": key.environment,
        "count": group.count, "first_ms": group.first.0, "last_ms": group.last.0,
        "example": change_value(&group.example),
    })
}

/// What a backtest found, for people.
pub(crate) fn summary_text(groups: &Groups) -> String {
    let mut lines = Vec::new();
    let mut last = None;
    for (key, group) in &groups.groups {
        if last != Some(key.direction) {
            last = Some(key.direction);
            let style = if key.direction == Direction::Wider { BAD } else { WAIT };
            lines.push(format!("{style}{}{style:#}", key.direction.as_str()));
        }
        lines.extend(group_lines(key, group));
    }
    if groups.ungrouped > 0 {
        lines.push(format!("… and {} changes in more groups; `--all` lists each", groups.ungrouped));
    }
    for (why, count) in &groups.not_comparable {
        lines.push(format!("{WAIT}not comparable{WAIT:#}: {count} × {}", visible_lines(why)));
    }
    let unaffected: u64 = groups.unaffected.values().sum();
    if unaffected > 0 {
        let each: Vec<_> = groups.unaffected.iter().map(|(code, count)| format!("{} {count}", code.as_str())).collect();
        lines.push(format!("denied before policy, as under any: {unaffected} ({})", each.join(", ")));
    }
    let word = match (groups.changed, groups.incomparable()) {
        (0, 0) => format!("{GOOD}no verdict changes{GOOD:#}"),
        (0, _) => format!("{WAIT}no verdict is known to change{WAIT:#}"),
        (changed, _) => format!("{STRONG}{changed} verdicts change{STRONG:#}, {} of them wider", groups.widening),
    };
    lines.push(format!(
        "{word}: {} calls, {} the same, {} not comparable",
        groups.judged,
        groups.same,
        groups.incomparable()
    ));
    lines.join("\n")
}

fn group_lines(key: &GroupKey, group: &Group) -> Vec<String> {
    let approved = if key.was_approved { ", approved" } else { "" };
    let by = if key.rules.is_empty() { String::new() } else { format!(" by {}", key.rules.join(", ")) };
    let span = if group.count == 1 {
        when(group.first.0)
    } else {
        format!("{} to {}", when(group.first.0), when(group.last.0))
    };
    let example = &group.example;
    let lines = [
        format!("{:>6} × {}{approved} → {}: {} in {}", group.count, key.before, key.after, key.tool, key.environment),
        format!("         {}{by}", key.code.as_str()),
        format!("         {span}"),
        format!("         such as record {} by {}: it {}", example.leaf.0, example.agent, example.would()),
    ];
    lines.iter().map(|line| visible_lines(line)).collect()
}
