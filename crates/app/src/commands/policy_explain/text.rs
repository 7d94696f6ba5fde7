//! An explanation for people, in lines that fit a terminal.

use countersign_model::{ReasonCode, Verdict};
use countersign_policy::explain::{Explanation, Step};
use countersign_policy::rules::Rule;

use super::{Subject, Then, to_agent};
use crate::context::when;
use crate::terminal::{BAD, FAINT, GOOD, STRONG, WAIT, visible_lines};

/// How many lines of one rule are quoted.
const QUOTED_MAX: usize = 14;

pub(super) fn text(subject: &Subject, explanation: &Explanation<'_>) -> String {
    let mut lines = Vec::new();
    if let Some(then) = &subject.record {
        lines.extend(then_lines(then));
    }
    let asked = &subject.asked;
    lines.push(safe(&format!(
        "{} calls {}/{} on {} in {}: {}",
        asked.agent,
        asked.upstream,
        asked.tool,
        asked.target,
        asked.environment,
        asked.facts.effect.as_str()
    )));
    let Explanation { verdict, reason, deciding, overruled, facts, almost, search } = explanation;
    lines.push(format!("policy says {}: {}", styled(verdict), reason.code.as_str()));
    lines.push(format!("{STRONG}to the agent{STRONG:#}  {}", to_agent(subject, (verdict, reason))));
    lines.push(format!("{STRONG}to you{STRONG:#}"));
    if let Some(detail) = &reason.detail {
        lines.push(safe(&format!("  {detail}")));
    }
    for rule in deciding {
        lines.extend(quoted(rule));
    }
    if deciding.is_empty() && reason.code == ReasonCode::NoPermit {
        lines.push("  no rule permits it".to_owned());
    }
    if !overruled.is_empty() {
        let ids: Vec<_> = overruled.iter().map(|rule| format!("{} ({})", rule.id, rule.layer.as_str())).collect();
        lines.push(safe(&format!("  which overrules {}", ids.join(", "))));
    }
    section(&mut lines, "facts that mattered", facts.iter().map(|(path, value)| format!("{path} = {value}")));
    section(
        &mut lines,
        "rules that almost hold",
        almost.iter().map(|near| format!("{} lacks {}", place(near.rule), near.missing.join(" and "))),
    );
    let mut nearest: Vec<String> = search.found.iter().map(|other| other_line(&other.steps, &other.verdict)).collect();
    if nearest.is_empty() {
        let more = if search.is_cut_short { "; not all pairs were tried" } else { "" };
        nearest.push(format!("none found among {} changes that the rules mention{more}", search.tried));
    }
    section(&mut lines, "nearest change", nearest.into_iter());
    section(
        &mut lines,
        "without a rule",
        search.dropped.iter().map(|dropped| {
            let verdict = dropped.verdict.as_str();
            format!("without {}: {verdict} ({})", dropped.rule, dropped.code.as_str())
        }),
    );
    lines.join("\n")
}

fn then_lines(then: &Then) -> Vec<String> {
    let attempt = &then.attempt;
    let reasons: Vec<_> = attempt.reasons.iter().map(|reason| reason.code.as_str()).collect();
    let mut lines = vec![safe(&format!(
        "record {} of {}: {} ({})",
        then.index,
        when(then.at_ms),
        attempt.verdict.as_str(),
        reasons.join(", ")
    ))];
    if let Some(code) = then.before_policy {
        lines.push(format!("{WAIT}decided before policy{WAIT:#}: {}", code.sentence()));
        if let Some(detail) = attempt.reasons.first().and_then(|reason| reason.detail.as_deref()) {
            lines.push(safe(&format!("  {detail}")));
        }
        lines.push("what follows is what policy alone would have said".to_owned());
    }
    if !then.is_same_policy {
        lines.push(format!("{WAIT}decided under another policy{WAIT:#}; explained under this one"));
    }
    lines.extend(then.note.iter().map(|note| format!("{WAIT}note{WAIT:#}: {}", safe(note))));
    lines
}

fn styled(verdict: &Verdict) -> String {
    let style = match verdict {
        Verdict::Allow | Verdict::Modify { .. } => GOOD,
        Verdict::RequireApproval { .. } => WAIT,
        Verdict::Deny | Verdict::Defer { .. } => BAD,
    };
    format!("{style}{}{style:#}", verdict.as_str())
}

fn place(rule: &Rule) -> String {
    format!("{} ({}:{})", rule.id, rule.file, rule.lines.0)
}

fn quoted(rule: &Rule) -> Vec<String> {
    let (first, last) = rule.lines;
    let mut lines = vec![safe(&format!("  {} {}, {}:{first}-{last}", rule.layer.as_str(), rule.id, rule.file))];
    for (number, line) in (first..).zip(rule.text.lines()).take(QUOTED_MAX) {
        lines.push(format!("{FAINT}{number:>6} |{FAINT:#} {}", safe(line)));
    }
    if rule.text.lines().count() > QUOTED_MAX {
        lines.push(format!("{FAINT}       …{FAINT:#}"));
    }
    lines
}

fn section(lines: &mut Vec<String>, title: &str, items: impl Iterator<Item = String>) {
    let items: Vec<String> = items.map(|item| format!("  {}", safe(&item))).collect();
    if !items.is_empty() {
        lines.push(format!("{STRONG}{title}{STRONG:#}"));
        lines.extend(items);
    }
}

fn other_line(steps: &[Step], verdict: &Verdict) -> String {
    let words: Vec<_> = steps.iter().map(Step::words).collect();
    format!("if {}: {}", words.join(", and "), verdict.as_str())
}

fn safe(text: &str) -> String {
    visible_lines(text)
}
