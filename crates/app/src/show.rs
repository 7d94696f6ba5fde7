//! Records for people and programs: one line, or one JSON object.
//!
//! Everything that may come from an agent is escaped before it meets a terminal.

use countersign_model::preview::visible;
use countersign_model::record::{Attempt, Status};
use countersign_model::{Body, Record};
use serde_json::{Value, json};

use crate::context::when;
use crate::terminal::{BAD, FAINT, GOOD, WAIT};

/// One line.
pub(crate) fn line(index: u64, record: &Record) -> String {
    let (style, what) = match &record.body {
        Body::Intent(attempt) => (GOOD, attempted(attempt)),
        Body::Denial(attempt) => (BAD, attempted(attempt)),
        Body::Proposal(proposal) => (WAIT, attempted(&proposal.attempt)),
        Body::Waiting(attempt) => (WAIT, attempted(attempt)),
        Body::Outcome(outcome) => (
            if outcome.status == Status::Done { GOOD } else { BAD },
            format!("of {}: {} after {} ms", outcome.intent, status(outcome.status), outcome.duration_ms),
        ),
        Body::Consent(consent) => (
            WAIT,
            format!(
                "{} by {}: {}",
                consent.ticket,
                consent.human,
                if consent.approved { "approved" } else { "denied" }
            ),
        ),
        Body::Expired(expired) => (FAINT, expired.ticket.to_string()),
        Body::Killed(killed) => (
            BAD,
            format!(
                "{}, {} cancelled in {} ms",
                countersign_gate::kill::plane::scope_words(&killed.scope),
                killed.cancelled,
                killed.took_ms
            ),
        ),
        Body::Commanded(commanded) => (WAIT, order(commanded)),
        Body::Refused(refused) => (BAD, format!("{} ×{}", refused.reason.code.as_str(), refused.count)),
        Body::Started(started) => (FAINT, format!("version {}, policy {}", started.version, started.policy.short())),
        Body::Stopped => (FAINT, String::new()),
        Body::Gap(gap) => (BAD, format!("{} bytes cut at size {}", gap.bytes, gap.size)),
        Body::ClockJump(jump) => (BAD, format!("by {} ms", jump.by_ms)),
        Body::Erased(erased) => (BAD, format!("{} payloads, {} keys destroyed", erased.payloads, erased.keys)),
        Body::Pruned(pruned) => (BAD, format!("records below {}", pruned.minimum.0)),
        Body::Snapshot(snapshot) => (FAINT, format!("of {} records", snapshot.size)),
        Body::KeyRotated(_) => (WAIT, "the log has a new key".to_owned()),
    };
    format!(
        "{index:>6} {FAINT}{}{FAINT:#} {style}{:<10}{style:#} {}",
        when(record.at.0),
        record.body.kind(),
        visible(&what)
    )
}

fn attempted(attempt: &Attempt) -> String {
    let reasons: Vec<_> = attempt.reasons.iter().map(|reason| reason.code.as_str()).collect();
    let ticket = attempt.ticket.as_ref().map_or_else(String::new, |ticket| format!(" {ticket}"));
    let continues =
        attempt.continues.as_ref().map_or_else(String::new, |continued| format!(" continues {}", continued.intent));
    format!(
        "{} {} of {} on {}: {} ({}){ticket}{continues}",
        attempt.principal.agent,
        attempt.tool,
        attempt.upstream,
        attempt.environment,
        attempt.facts.effect.as_str(),
        reasons.join(", "),
    )
}

/// A human's order in a few words.
pub(crate) fn order(commanded: &countersign_model::record::Commanded) -> String {
    use countersign_model::command::Deed;
    let command = &commanded.signed.command;
    let more = match &command.deed {
        Deed::Lease { name, until, .. } => format!(" of {name} until {}", when(until.0)),
        Deed::Freeze { environment, until } => format!(" of {environment} until {}", when(until.0)),
        Deed::Activate { widening: Some(digest), .. } => format!(" of a wider policy ({})", digest.short()),
        _ => String::new(),
    };
    format!("{}{more} by {}", deed(&command.deed), command.human)
}

/// The word for how an effect ended.
pub(crate) const fn status(status: Status) -> &'static str {
    match status {
        Status::Done => "done",
        Status::Failed => "failed",
        Status::NotStarted => "not_started",
        Status::Unknown => "unknown",
        Status::InputRequired => "input_required",
    }
}

pub(crate) const fn deed(deed: &countersign_model::command::Deed) -> &'static str {
    use countersign_model::command::Deed;
    match deed {
        Deed::Resume { .. } => "resume",
        Deed::Freeze { .. } => "freeze",
        Deed::Thaw { .. } => "thaw",
        Deed::Enrol { .. } => "enrol",
        Deed::IssueToken { .. } => "issue token",
        Deed::RevokeToken { .. } => "revoke token",
        Deed::RevokeBlock { .. } => "revoke block",
        Deed::Lease { .. } => "lease",
        Deed::Activate { .. } => "activate",
        Deed::ConfirmClock => "confirm clock",
        Deed::Erase { .. } => "erase",
        Deed::Hold { .. } => "hold",
        Deed::Release { .. } => "release",
        Deed::Prune { .. } => "prune",
        Deed::RotateKey { .. } => "rotate key",
    }
}

/// One JSON object.
pub(crate) fn describe(index: u64, record: &Record) -> Value {
    let mut value = json!({"index": index, "seq": record.seq.0, "at_ms": record.at.0, "kind": record.body.kind()});
    let more = match &record.body {
        Body::Outcome(outcome) => json!({
            "intent": outcome.intent.0, "status": status(outcome.status), "rows": outcome.rows.map(|rows| rows.0),
            "bytes_sent": outcome.bytes_sent.0, "duration_ms": outcome.duration_ms, "note": outcome.note, "charged": outcome.charged,
            "cost_microusd": outcome.cost_microusd, "result_commitment": outcome.result.map(|result| result.hash.hex()),
            "result_bytes": outcome.result.map(|result| result.bytes.0),
            "undo_commitment": outcome.undo.map(|undo| undo.hash.hex()),
        }),
        Body::Consent(consent) => json!({
            "ticket": consent.ticket.as_str(), "human": consent.human.as_str(), "approved": consent.approved,
            "proposal": consent.proposal.hex(), "leaf": consent.leaf.0, "key": hex(&consent.key),
            "signature": hex(&consent.signature), "grant_expires_ms": consent.grant_expires.map(|until| until.0),
        }),
        Body::Expired(expired) => json!({"ticket": expired.ticket.as_str(), "granted": expired.granted}),
        Body::Killed(killed) => json!({
            "scope": countersign_gate::kill::plane::scope_words(&killed.scope), "epoch": killed.epoch,
            "cancelled": killed.cancelled, "took_ms": killed.took_ms,
        }),
        Body::Commanded(commanded) => json!({
            "deed": deed(&commanded.signed.command.deed), "human": commanded.signed.command.human.as_str(),
            "session": commanded.session.as_ref().map(|session| session.as_str()),
            "widening": match &commanded.signed.command.deed {
                countersign_model::command::Deed::Activate { widening, .. } => widening.map(|digest| digest.hex()),
                _ => None,
            },
        }),
        Body::Refused(refused) => json!({
            "reason": refused.reason.code.as_str(), "detail": refused.reason.detail, "count": refused.count,
            "agent": refused.principal.as_ref().map(|principal| principal.agent.as_str()),
        }),
        Body::Started(started) => json!({
            "version": started.version, "configuration": started.configuration.hex(), "policy": started.policy.hex(),
            "kill_epoch": started.kill_epoch, "profile": started.profile, "budgets": started.budgets.items,
        }),
        Body::Gap(gap) => json!({"size": gap.size, "bytes": gap.bytes.0}),
        Body::ClockJump(jump) => json!({"by_ms": jump.by_ms}),
        Body::Erased(erased) => {
            json!({"keys": erased.keys, "payloads": erased.payloads, "command": erased.command.0})
        }
        Body::Pruned(pruned) => {
            json!({
                "minimum": pruned.minimum.0, "newest_ms": pruned.newest.0, "command": pruned.command.0,
                "state": pruned.state.hex(),
            })
        }
        Body::Snapshot(snapshot) => json!({"size": snapshot.size, "state": snapshot.state.hex()}),
        Body::KeyRotated(rotated) => json!({"statement": rotated.statement, "command": rotated.command.0}),
        Body::Stopped => json!({}),
        body => body.attempt().map_or_else(|| json!({}), attempt),
    };
    if let (Some(value), Value::Object(more)) = (value.as_object_mut(), more) {
        value.extend(more);
    }
    value
}

fn attempt(attempt: &Attempt) -> Value {
    let reasons: Vec<_> = attempt
        .reasons
        .iter()
        .map(|reason| json!({"code": reason.code.as_str(), "sentence": reason.code.sentence(), "detail": reason.detail, "policies": reason.policies.items}))
        .collect();
    let sql = attempt.facts.sql.as_ref().map(|sql| {
        json!({"kinds": sql.kinds, "tables": sql.tables, "functions": sql.functions, "has_where": sql.has_where, "statements": sql.statements})
    });
    let budgets: Vec<_> = attempt
        .inputs
        .budgets
        .iter()
        .map(|budget| json!({"name": budget.name, "cap": budget.cap, "spent": budget.spent, "reserved": budget.reserved}))
        .collect();
    json!({
        "verdict": attempt.verdict.as_str(), "reasons": reasons, "agent": attempt.principal.agent.as_str(),
        "run": attempt.principal.run.as_str(), "session": attempt.principal.session.as_str(), "depth": attempt.principal.depth,
        "upstream": attempt.upstream.as_str(), "tool": attempt.tool.as_str(), "target": attempt.target.as_str(),
        "environment": attempt.environment.as_str(), "effect": attempt.facts.effect.as_str(),
        "opaque_because": attempt.facts.opaque_because, "sql": sql, "budgets": budgets,
        "policy": attempt.inputs.policy.hex(), "kill_epoch": attempt.inputs.kill_epoch,
        "ticket": attempt.ticket.as_ref().map(|ticket| ticket.as_str()), "reserved_at": attempt.reserved_at.0,
        "manifest": attempt.manifest.hex(), "arguments_commitment": attempt.arguments.hash.hex(),
        "digest_commitment": attempt.digest.hash.hex(), "determining": attempt.inputs.evaluation.as_ref().map(|e| &e.determining.items),
        "leases": attempt.inputs.leases.iter().map(|lease| lease.as_str()).collect::<Vec<_>>(),
        "claimed": {
            "trace": attempt.claimed.trace, "step": attempt.claimed.step, "cause": attempt.claimed.cause,
        },
        "continues": attempt.continues.as_ref().map(|continued| json!({
            "intent": continued.intent.0, "input_commitment": continued.input.hash.hex(),
            "redactions": continued.redactions,
        })),
        "redactions": attempt.redactions.items, "redactions_total": attempt.redactions.total,
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
