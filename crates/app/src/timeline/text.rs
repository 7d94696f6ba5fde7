//! The timeline for people: one line a record, indented under what it belongs to.

use countersign_model::preview::visible;
use countersign_model::record::{Attempt, Claimed, Consent, Outcome, Proposal};
use countersign_model::{Body, TimeMs};

use super::{Link, Node, Timeline};
use crate::context::when;
use crate::show::{self, status};
use crate::terminal::{BAD, FAINT, GOOD, STRONG, WAIT};

/// Beyond this depth lines are not indented further.
const DEPTH_MAX: usize = 12;

/// The whole timeline.
pub(crate) fn render(run: &str, timeline: &Timeline) -> String {
    let start = timeline.nodes.first().map_or(TimeMs(0), |node| node.record.at);
    let mut out = format!(
        "{STRONG}run {}{STRONG:#} of agent {}, session {}\n",
        visible(run),
        listed(&timeline.agents),
        listed(&timeline.sessions)
    );
    if let (Some(first), Some(last)) = (timeline.nodes.first(), timeline.nodes.last()) {
        out.push_str(&format!(
            "{FAINT}{} to {}, {} records{FAINT:#}\n",
            when(first.record.at.0),
            when(last.record.at.0),
            timeline.nodes.len()
        ));
    }
    let is_claimed =
        |node: &Node| node.record.body.attempt().is_some_and(|attempt| attempt.claimed != Claimed::default());
    if timeline.nodes.iter().any(is_claimed) {
        out.push_str(&format!("{FAINT}~ marks what the caller claims; nothing was decided on it{FAINT:#}\n"));
    }
    out.push('\n');
    let mut next: Vec<(usize, usize)> = timeline.roots.iter().rev().map(|at| (*at, 0)).collect();
    while let Some((at, depth)) = next.pop() {
        let Some(node) = timeline.nodes.get(at) else { continue };
        out.push_str(&line(node, start, depth));
        next.extend(node.children.iter().rev().map(|child| (*child, depth + 1)));
    }
    out.push('\n');
    out.push_str(&ending(timeline));
    out
}

fn listed(names: &std::collections::BTreeSet<String>) -> String {
    let names: Vec<_> = names.iter().map(|name| visible(name)).collect();
    if names.is_empty() { "-".to_owned() } else { names.join(", ") }
}

fn line(node: &Node, start: TimeMs, depth: usize) -> String {
    let (style, word, what) = described(node);
    let since = node.record.at.since_ms(start);
    let indent = "  ".repeat(depth.min(DEPTH_MAX));
    let claim = if node.link == Some(Link::Claimed) { "~" } else { "" };
    let head = format!("{:>7} {FAINT}{:>11}{FAINT:#} ", node.leaf, elapsed(since));
    let mut out = format!("{head} {indent}{claim}{style}{word}{style:#} {}\n", visible(&what));
    for reason in
        node.record.body.attempt().into_iter().filter(|_| explains(&node.record.body)).flat_map(|a| &a.reasons)
    {
        let detail = reason.detail.as_ref().map_or_else(String::new, |detail| format!(": {detail}"));
        let policies = match reason.policies.items.join(", ") {
            names if names.is_empty() => names,
            names => format!(" [{names}]"),
        };
        let text = visible(&format!("{}{detail}{policies}", reason.code.as_str()));
        out.push_str(&format!("{:>7} {:>11}  {indent}    {FAINT}{text}{FAINT:#}\n", "", ""));
    }
    out
}

/// Whether its reasons deserve lines of their own: an allow by policy explains itself.
const fn explains(body: &Body) -> bool {
    matches!(body, Body::Denial(_) | Body::Proposal(_))
}

fn elapsed(ms: u64) -> String {
    let (seconds, millis) = (ms / 1_000, ms % 1_000);
    if seconds < 3_600 {
        return format!("+{seconds}.{millis:03}s");
    }
    format!("+{}h{:02}m{:02}s", seconds / 3_600, seconds / 60 % 60, seconds % 60)
}

fn described(node: &Node) -> (anstyle::Style, &'static str, String) {
    match &node.record.body {
        Body::Intent(attempt) => match (&attempt.ticket, node.link) {
            (Some(ticket), Some(Link::Ticket)) => {
                (GOOD, "redeemed", format!("{ticket}: the identical call came again and ran"))
            }
            (_, Some(Link::Continues)) => (GOOD, "goes on", call(attempt)),
            _ => (GOOD, "allow", call(attempt)),
        },
        Body::Denial(attempt) => (BAD, "deny", call(attempt)),
        Body::Proposal(proposal) => (WAIT, "park", parked(proposal)),
        Body::Waiting(attempt) => (WAIT, "waits", format!("the same call came again{}", claims(&attempt.claimed))),
        Body::Outcome(outcome) => ended(outcome),
        Body::Consent(consent) => answered(consent),
        Body::Expired(expired) if expired.granted => (BAD, "expired", "consented to, and not used in time".to_owned()),
        Body::Expired(_) => (BAD, "expired", "nobody consented in time".to_owned()),
        Body::Refused(refused) => {
            (BAD, "refused", format!("{} ×{}: {}", refused.reason.code.as_str(), refused.count, detail(refused)))
        }
        Body::Killed(killed) => (
            BAD,
            "kill",
            format!(
                "{}: epoch {}, {} cancelled in {} ms",
                countersign_gate::kill::plane::scope_words(&killed.scope),
                killed.epoch,
                killed.cancelled,
                killed.took_ms
            ),
        ),
        Body::Commanded(commanded) => (WAIT, "order", show::order(commanded)),
        body => (FAINT, body.kind(), String::new()),
    }
}

fn detail(refused: &countersign_model::record::Refused) -> String {
    refused.reason.detail.clone().unwrap_or_else(|| refused.reason.code.sentence().to_owned())
}

fn call(attempt: &Attempt) -> String {
    let tables = attempt.facts.sql.as_ref().map(|sql| sql.tables.join(", ")).unwrap_or_default();
    let tables = if tables.is_empty() { tables } else { format!(" ({tables})") };
    format!(
        "{} of {} on {} in {}: {}{tables}{}",
        attempt.tool,
        attempt.upstream,
        attempt.target,
        attempt.environment,
        attempt.facts.effect.as_str(),
        claims(&attempt.claimed)
    )
}

fn claims(claimed: &Claimed) -> String {
    let step = claimed.step.as_ref().map(|step| format!(" ~step {step}"));
    let cause = claimed.cause.as_ref().map(|cause| format!(" ~after {cause}"));
    let trace = claimed.trace.as_ref().map(|trace| format!(" ~trace {trace}"));
    [step, cause, trace].into_iter().flatten().collect()
}

fn parked(proposal: &Proposal) -> String {
    let attempt = &proposal.attempt;
    let gates: Vec<String> = match &attempt.verdict {
        countersign_model::Verdict::RequireApproval { gates } => gates
            .iter()
            .map(|gate| {
                let who = if gate.approvers.is_empty() { "any human".to_owned() } else { gate.approvers.join(", ") };
                format!("{} ({} of {who})", gate.name, gate.quorum)
            })
            .collect(),
        _ => Vec::new(),
    };
    let ticket = attempt.ticket.as_ref().map_or("", |ticket| ticket.as_str());
    format!("{}; waits as {ticket} for {} until {}", call(attempt), gates.join(", "), when(proposal.expires.0))
}

fn answered(consent: &Consent) -> (anstyle::Style, &'static str, String) {
    let key: String = consent.key.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    let who = format!("by {} (key {key}…)", consent.human);
    match (consent.approved, consent.grant_expires) {
        (false, _) => (BAD, "denied", who),
        (true, Some(until)) => (GOOD, "approved", format!("{who}; the grant holds until {}", when(until.0))),
        (true, None) => (WAIT, "approved", format!("{who}; more consents are needed")),
    }
}

fn ended(outcome: &Outcome) -> (anstyle::Style, &'static str, String) {
    let rows = outcome.rows.map(|rows| format!(", {rows} rows")).unwrap_or_default();
    let cost = outcome.cost_microusd.map(|cost| format!(", {}", dollars(cost))).unwrap_or_default();
    let undo = if outcome.undo.is_some() { ", can be undone" } else { "" };
    let note = outcome.note.as_ref().map(|note| format!(": {note}")).unwrap_or_default();
    let style = match outcome.status {
        countersign_model::record::Status::Done => GOOD,
        countersign_model::record::Status::NotStarted | countersign_model::record::Status::InputRequired => WAIT,
        _ => BAD,
    };
    let what = format!("after {} ms{rows}, {} bytes sent{cost}{undo}{note}", outcome.duration_ms, outcome.bytes_sent);
    (style, status(outcome.status), what)
}

fn dollars(microusd: u64) -> String {
    format!("${}.{:06}", microusd / 1_000_000, microusd % 1_000_000)
}

fn ending(timeline: &Timeline) -> String {
    let totals = &timeline.totals;
    let cost = totals.cost_microusd.map_or_else(|| "no cost named".to_owned(), dollars);
    let mut out = format!(
        "{} allowed ({} failed, {} unknown, {} open), {} denied, {} parked, {} repeated while waiting\n\
         {} rows, {} bytes sent, {} ms of effects, {cost}\n",
        totals.allowed,
        totals.failed,
        totals.unknown,
        totals.open,
        totals.denied,
        totals.parked,
        totals.repeated,
        totals.rows,
        totals.bytes_sent,
        totals.busy_ms
    );
    for budget in &timeline.budgets {
        out.push_str(&format!(
            "before the last call: {}: {} spent and {} in flight of {}\n",
            visible(&budget.name),
            budget.spent,
            budget.reserved,
            budget.cap
        ));
    }
    out
}
