//! Open Cybersecurity Schema Framework 1.6: calls as API Activity, or as Datastore Activity where SQL is known; consents,
//! orders and kills as API Activity of the human; leases as Authorize Session. The profile `security_control` says what
//! was decided. What the schema has no place for lies under `unmapped.countersign`.

use countersign_model::command::Deed;
use countersign_model::record::{Attempt, Commanded, Consent, Killed, Refused, Status};
use countersign_model::{Body, Effect, Principal, Verdict};
use serde_json::{Map, Value, json};

use super::Line;

/// The schema that the numbers below are of.
const SCHEMA: &str = "1.6.0";
const API_ACTIVITY: u64 = 6003;
const DATASTORE_ACTIVITY: u64 = 6005;
const AUTHORIZE_SESSION: u64 = 3003;
const OTHER: u64 = 99;
const INFORMATIONAL: u64 = 1;
const MEDIUM: u64 = 3;
const HIGH: u64 = 4;
const SUCCESS: u64 = 1;
const FAILURE: u64 = 2;
const UNKNOWN: u64 = 0;
/// Dispositions of `security_control`.
const ALLOWED: u64 = 1;
const BLOCKED: u64 = 2;
const APPROVED: u64 = 8;
const DELAYED: u64 = 14;

/// The event of a record; none for records of the log's own affairs.
pub(super) fn event(line: &Line<'_>) -> Option<Value> {
    match &line.record.body {
        Body::Refused(body) => Some(refused(line, body)),
        Body::Consent(body) => Some(consent(line, body)),
        Body::Killed(body) => Some(killed(line, body)),
        Body::Commanded(body) => Some(commanded(line, body)),
        body => body.attempt().map(|attempt| call(line, attempt)),
    }
}

/// What every event of a class has.
fn base(line: &Line<'_>, class: u64, activity: u64, severity: u64) -> Map<String, Value> {
    let value = json!({
        "class_uid": class, "category_uid": class / 1_000, "activity_id": activity,
        "type_uid": class * 100 + activity, "severity_id": severity, "time": line.record.at.0,
        "metadata": {
            "version": SCHEMA, "profiles": ["security_control"], "log_name": line.log, "sequence": line.leaf,
            "uid": format!("{}:{}", line.log, line.leaf),
            "product": {"name": "Countersign", "vendor_name": "Countersign", "version": env!("CARGO_PKG_VERSION")},
        },
    });
    match value {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

fn with(mut fields: Map<String, Value>, more: Value) -> Value {
    if let Value::Object(more) = more {
        fields.extend(more);
    }
    Value::Object(fields)
}

fn actor(principal: &Principal) -> Value {
    json!({
        "app_name": principal.agent.as_str(), "app_uid": principal.agent.as_str(),
        "session": {"uid": principal.session.as_str(), "issuer": "countersign"},
    })
}

/// The gateway derives identity from the token and keeps no addresses, so an agent's end is its session.
fn endpoint(principal: &Principal) -> Value {
    json!({"name": principal.agent.as_str(), "uid": principal.session.as_str()})
}

fn human(name: &str) -> Value {
    json!({"user": {"name": name, "uid": name, "type_id": 1}})
}

fn call(line: &Line<'_>, attempt: &Attempt) -> Value {
    let sql = attempt.facts.sql.as_ref();
    let class = if sql.is_some() { DATASTORE_ACTIVITY } else { API_ACTIVITY };
    let (status, word) = status(line, attempt);
    let (action, disposition) = control(attempt);
    let severity = if status == SUCCESS || status == OTHER { INFORMATIONAL } else { MEDIUM };
    let fields = base(line, class, activity(class, attempt), severity);
    let mut value = with(
        fields,
        json!({
            "actor": actor(&attempt.principal), "src_endpoint": endpoint(&attempt.principal),
            "api": {
                "operation": attempt.tool.as_str(), "service": {"name": attempt.upstream.as_str()},
                "request": {"uid": format!("{}", attempt.reserved_at.0)},
            },
            "dst_endpoint": {"name": attempt.target.as_str()},
            "status_id": status, "status": word, "status_code": first_reason(attempt), "status_detail": detail(attempt),
            "action_id": action, "disposition_id": disposition,
            "policy": {
                "uid": attempt.inputs.policy.hex(),
                "name": attempt.reasons.first().map(|reason| reason.policies.items.join(", ")).unwrap_or_default(),
            },
            "message": format!("{} {} of {}: {}", attempt.principal.agent, attempt.tool, attempt.upstream, attempt.verdict.as_str()),
            "unmapped": {"countersign": unmapped(line, attempt)},
        }),
    );
    if let Some(fields) = value.as_object_mut() {
        if let Some(sql) = sql {
            fields.insert("database".to_owned(), json!({"name": attempt.target.as_str(), "type_id": 1}));
            fields.insert("type_id".to_owned(), 1.into());
            if let Some(table) = sql.tables.first() {
                fields.insert("table".to_owned(), json!({"name": table}));
            }
        }
        if let Some((_, at, outcome)) = line.ended {
            fields.insert("start_time".to_owned(), attempt.proposed_at.0.into());
            fields.insert("end_time".to_owned(), at.0.into());
            fields.insert("duration".to_owned(), outcome.duration_ms.into());
        }
    }
    value
}

fn unmapped(line: &Line<'_>, attempt: &Attempt) -> Value {
    let ended = line.ended.map(|(leaf, _, outcome)| {
        json!({
            "leaf": leaf, "rows": outcome.rows.map(|rows| rows.0), "bytes_sent": outcome.bytes_sent.0,
            "cost_microusd": outcome.cost_microusd, "note": outcome.note,
        })
    });
    json!({
        "kind": line.record.body.kind(), "verdict": attempt.verdict.as_str(), "run": attempt.principal.run.as_str(),
        "tenant": attempt.principal.tenant.as_str(), "environment": attempt.environment.as_str(),
        "effect": attempt.facts.effect.as_str(), "tables": attempt.facts.sql.as_ref().map(|sql| &sql.tables),
        "manifest": attempt.manifest.hex(), "ticket": attempt.ticket.as_ref().map(|ticket| ticket.as_str()),
        "arguments_commitment": attempt.arguments.hash.hex(), "outcome": ended,
        "claimed": {
            "trace": attempt.claimed.trace, "step": attempt.claimed.step, "cause": attempt.claimed.cause,
        },
    })
}

fn activity(class: u64, attempt: &Attempt) -> u64 {
    let is_datastore = class == DATASTORE_ACTIVITY;
    match attempt.facts.effect {
        Effect::Read if is_datastore => 4,
        Effect::Read => 2,
        Effect::Write if is_datastore => 5,
        Effect::Write => 3,
        Effect::Destructive if is_datastore => 7,
        Effect::Destructive => 4,
        Effect::Outbound | Effect::Spend | Effect::Spawn | Effect::Opaque => OTHER,
    }
}

fn status(line: &Line<'_>, attempt: &Attempt) -> (u64, &'static str) {
    match (&attempt.verdict, line.ended) {
        (Verdict::RequireApproval { .. }, _) => (OTHER, "pending"),
        (Verdict::Deny | Verdict::Defer { .. }, _) => (FAILURE, "denied"),
        (_, None) => (OTHER, "open"),
        (_, Some((_, _, outcome))) => match outcome.status {
            Status::Done => (SUCCESS, "done"),
            Status::Failed => (FAILURE, "failed"),
            Status::NotStarted => (FAILURE, "not_started"),
            Status::Unknown => (UNKNOWN, "unknown"),
            Status::InputRequired => (OTHER, "input_required"),
        },
    }
}

/// What the control did: action and disposition.
const fn control(attempt: &Attempt) -> (u64, u64) {
    match (&attempt.verdict, &attempt.ticket) {
        (Verdict::Allow | Verdict::Modify { .. }, Some(_)) => (1, APPROVED),
        (Verdict::Allow | Verdict::Modify { .. }, None) => (1, ALLOWED),
        (Verdict::RequireApproval { .. }, _) => (0, DELAYED),
        (Verdict::Deny | Verdict::Defer { .. }, _) => (2, BLOCKED),
    }
}

fn first_reason(attempt: &Attempt) -> &'static str {
    attempt.reasons.first().map_or("", |reason| reason.code.as_str())
}

fn detail(attempt: &Attempt) -> String {
    let words = attempt.reasons.iter().map(|reason| reason.detail.as_deref().unwrap_or_else(|| reason.code.sentence()));
    words.collect::<Vec<_>>().join("; ")
}

fn refused(line: &Line<'_>, refused: &Refused) -> Value {
    let (actor, endpoint) = match &refused.principal {
        Some(principal) => (actor(principal), endpoint(principal)),
        None => (json!({"app_name": "unidentified"}), json!({"name": "unidentified"})),
    };
    with(
        base(line, API_ACTIVITY, OTHER, MEDIUM),
        json!({
            "activity_name": "refuse", "actor": actor, "src_endpoint": endpoint, "count": refused.count,
            "api": {"operation": "request"}, "status_id": FAILURE, "status": "refused",
            "status_code": refused.reason.code.as_str(), "status_detail": refused.reason.code.sentence(),
            "action_id": 2, "disposition_id": BLOCKED,
        }),
    )
}

fn of_human(line: &Line<'_>, operation: &str, name: &str, severity: u64) -> Map<String, Value> {
    let fields = base(line, API_ACTIVITY, OTHER, severity);
    let more = json!({
        "activity_name": operation, "actor": human(name), "src_endpoint": {"name": "admin plane"},
        "api": {"operation": operation}, "status_id": SUCCESS, "status": "done",
    });
    match with(fields, more) {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

fn consent(line: &Line<'_>, consent: &Consent) -> Value {
    let word = if consent.approved { "approve" } else { "deny" };
    with(
        of_human(line, word, consent.human.as_str(), INFORMATIONAL),
        json!({"unmapped": {"countersign": {
            "kind": "consent", "ticket": consent.ticket.as_str(), "proposal": consent.proposal.hex(),
            "proposal_leaf": consent.leaf.0,
        }}}),
    )
}

fn killed(line: &Line<'_>, killed: &Killed) -> Value {
    // A kill needs no signature, so nobody is named.
    with(
        of_human(line, "kill", "unsigned", HIGH),
        json!({"unmapped": {"countersign": {
            "kind": "killed", "scope": countersign_gate::kill::plane::scope_words(&killed.scope),
            "epoch": killed.epoch, "cancelled": killed.cancelled, "took_ms": killed.took_ms,
        }}}),
    )
}

fn commanded(line: &Line<'_>, commanded: &Commanded) -> Value {
    let command = &commanded.signed.command;
    if let Deed::Lease { session, name, until } = &command.deed {
        return with(
            base(line, AUTHORIZE_SESSION, 1, INFORMATIONAL),
            json!({
                "actor": human(command.human.as_str()), "user": {"uid": session.as_str(), "type_id": 3},
                "session": {"uid": session.as_str(), "expiration_time": until.0}, "privileges": [name.as_str()],
                "status_id": SUCCESS, "status": "done",
            }),
        );
    }
    with(
        of_human(line, crate::show::deed(&command.deed), command.human.as_str(), INFORMATIONAL),
        json!({"unmapped": {"countersign": {
            "kind": "commanded", "session": commanded.session.as_ref().map(|session| session.as_str()),
        }}}),
    )
}
