//! OpenTelemetry: every call as a span in OTLP JSON, one `ExportTraceServiceRequest` a line.
//!
//! GenAI names are still in development and change between versions, so they and the version that they are of stand here
//! and nowhere else. Trace and parent come from the caller's claim where it is a valid `traceparent`; a run without
//! claims is a trace of its own. Ids are hashes of what they stand for: the same log gives the same spans.

use countersign_model::record::{Attempt, Status};
use countersign_model::{Body, Digest, Verdict};
use serde_json::{Value, json};

use super::Line;

/// The semantic conventions that the names below are of.
const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.41.0";
const OPERATION: &str = "gen_ai.operation.name";
const EXECUTE_TOOL: &str = "execute_tool";
const TOOL_NAME: &str = "gen_ai.tool.name";
const TOOL_TYPE: &str = "gen_ai.tool.type";
const TOOL_CALL_ID: &str = "gen_ai.tool.call.id";
const AGENT_ID: &str = "gen_ai.agent.id";
const CONVERSATION: &str = "gen_ai.conversation.id";
const ERROR_TYPE: &str = "error.type";
/// OTLP's numbers: a span inside of a process, and the two statuses.
const KIND_INTERNAL: u8 = 1;
const STATUS_OK: u8 = 1;
const STATUS_ERROR: u8 = 2;

/// The span of a call, wrapped for a collector. Records that are no call have none.
pub(super) fn export(line: &Line<'_>) -> Option<Value> {
    let attempt = line.record.body.attempt()?;
    Some(json!({"resourceSpans": [{
        "resource": {"attributes": [
            text("service.name", "countersign"),
            text("service.version", env!("CARGO_PKG_VERSION")),
            text("countersign.log", line.log),
        ]},
        "scopeSpans": [{
            "scope": {"name": "countersign", "version": env!("CARGO_PKG_VERSION")},
            "schemaUrl": SCHEMA_URL,
            "spans": [span(line, attempt)],
        }],
    }]}))
}

fn span(line: &Line<'_>, attempt: &Attempt) -> Value {
    let claimed = attempt.claimed.trace.as_deref().and_then(traceparent);
    let run = [line.log.as_bytes(), attempt.principal.run.as_str().as_bytes()];
    let trace = claimed.map_or_else(|| hashed("countersign trace v1", &run, 16), |(trace, _)| trace.to_owned());
    let id = hashed("countersign span v1", &[line.log.as_bytes(), &line.leaf.to_be_bytes()], 8);
    let end = line.ended.map_or(line.record.at, |(_, at, _)| at);
    let mut attributes = vec![
        text(OPERATION, EXECUTE_TOOL),
        text(TOOL_NAME, attempt.tool.as_str()),
        text(TOOL_TYPE, "extension"),
        text(TOOL_CALL_ID, &format!("{}:{}", line.log, line.leaf)),
        text(AGENT_ID, attempt.principal.agent.as_str()),
        text(CONVERSATION, attempt.principal.run.as_str()),
        text("countersign.verdict", attempt.verdict.as_str()),
        text("countersign.reason", attempt.reasons.first().map_or("", |reason| reason.code.as_str())),
        text("countersign.upstream", attempt.upstream.as_str()),
        text("countersign.target", attempt.target.as_str()),
        text("countersign.environment", attempt.environment.as_str()),
        text("countersign.effect", attempt.facts.effect.as_str()),
        number("countersign.leaf", line.leaf),
    ];
    if let Some(ticket) = &attempt.ticket {
        attributes.push(text("countersign.ticket", ticket.as_str()));
    }
    if let Some((leaf, _, outcome)) = line.ended {
        attributes.push(number("countersign.outcome.leaf", leaf));
        attributes.push(number("countersign.bytes_sent", outcome.bytes_sent.0));
        attributes.extend(outcome.rows.map(|rows| number("countersign.rows", rows.0)));
        attributes.extend(outcome.cost_microusd.map(|cost| number("countersign.cost_microusd", cost)));
    }
    let error = error(line, attempt);
    attributes.extend(error.map(|error| text(ERROR_TYPE, error)));
    let status = match (error, line.ended) {
        (Some(error), _) => json!({"code": STATUS_ERROR, "message": error}),
        (None, Some(_)) => json!({"code": STATUS_OK}),
        (None, None) => json!({}),
    };
    let mut span = json!({
        "traceId": trace, "spanId": id, "name": format!("{EXECUTE_TOOL} {}", attempt.tool), "kind": KIND_INTERNAL,
        "startTimeUnixNano": nanos(attempt.proposed_at.0), "endTimeUnixNano": nanos(end.0),
        "attributes": attributes, "status": status,
    });
    if let (Some((_, parent)), Some(fields)) = (claimed, span.as_object_mut()) {
        fields.insert("parentSpanId".to_owned(), parent.into());
    }
    span
}

/// Why the call has no good end; none where it has, or has no end yet.
fn error(line: &Line<'_>, attempt: &Attempt) -> Option<&'static str> {
    match (&line.record.body, line.ended) {
        (Body::Denial(_), _) => Some(attempt.reasons.first().map_or("denied", |reason| reason.code.as_str())),
        (_, Some((_, _, outcome))) => match outcome.status {
            Status::Done | Status::InputRequired => None,
            other => Some(crate::show::status(other)),
        },
        _ => None,
    }
    .filter(|_| !matches!(attempt.verdict, Verdict::RequireApproval { .. }))
}

/// Trace and parent of a W3C `traceparent` of version 00; none where the claim is not exactly one.
pub(super) fn traceparent(claim: &str) -> Option<(&str, &str)> {
    let mut parts = claim.split('-');
    let (version, trace, parent, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let is_hex = |text: &str, length: usize| {
        text.len() == length && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let is_some = |text: &str| text.bytes().any(|byte| byte != b'0');
    let fits = version == "00" && is_hex(trace, 32) && is_hex(parent, 16) && is_hex(flags, 2) && parts.next().is_none();
    (fits && is_some(trace) && is_some(parent)).then_some((trace, parent))
}

fn hashed(domain: &str, parts: &[&[u8]], bytes: usize) -> String {
    Digest::of(domain, parts).hex().chars().take(2 * bytes).collect()
}

/// 64-bit integers are strings in OTLP JSON.
fn nanos(ms: u64) -> String {
    format!("{}", u128::from(ms) * 1_000_000)
}

fn text(key: &str, value: &str) -> Value {
    json!({"key": key, "value": {"stringValue": value}})
}

fn number(key: &str, value: u64) -> Value {
    json!({"key": key, "value": {"intValue": value.to_string()}})
}
