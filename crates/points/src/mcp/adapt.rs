//! Between the wire and the pipeline: a `tools/call` becomes a call, an answer becomes a response.
//!
//! What an upstream answered passes byte for byte, but for the members of `_meta` that the gateway adds. What the
//! gateway says itself is a tool result that a model can read, for a protocol error would end many agents. An agent
//! sees reason codes and safe sentences; a detail only where it concerns nobody else. This module must not know
//! sockets, sessions or policy. It does not cover receipts of calls that ended in an upstream's own JSON-RPC error:
//! that error passes unchanged, and the record is in the ledger.

use std::ops::Range;

use bytes::Bytes;
use countersign_effects::json::{Node, canonical};
use countersign_effects::secrets::cleaned;
use countersign_gate::call::Answer;
use countersign_model::encoding::clipped;
use countersign_model::id::{TicketId, ToolName};
use countersign_model::record::{CLAIM_BYTES_MAX, Claimed, Status};
use countersign_model::unit::TimeMs;
use countersign_model::{Reason, ReasonCode};
use serde_json::{Map, Value, json};

use super::execute::Reply;
use super::wire::{
    Frame, FrameError, INTERNAL_ERROR, INVALID_PARAMS, Id, NOT_STARTED, OUTCOME_UNKNOWN, Outcome, error_frame,
    response_frame, splice,
};

#[cfg(test)]
mod tests;

/// The member of `_meta` with the receipt.
pub const RECEIPT: &str = "countersign/receipt";
/// The member of `_meta` that says that the outcome could not be recorded.
pub const UNRECORDED: &str = "countersign/unrecorded";
/// The member of `_meta` with the verdict, wherever the gateway answers itself.
pub const VERDICT: &str = "countersign/verdict";

/// The member of a call's `_meta` with the W3C trace context, as MCP names it.
pub const TRACE: &str = "traceparent";
/// The member of a call's `_meta` in which a caller says which step of its run this is.
pub const STEP: &str = "countersign/step";
/// The member of a call's `_meta` in which a caller says which step this one follows from.
pub const CAUSE: &str = "countersign/cause";

/// What a `tools/call` asks for.
#[derive(Clone, Debug)]
pub struct ToolCall {
    /// The tool.
    pub tool: ToolName,
    /// Raw JSON of the arguments; `{}` where there are none.
    pub arguments: Vec<u8>,
    /// The allow-listed members of `_meta`, sorted; empty where there are none.
    pub meta: Vec<u8>,
    /// Where the caller says that the call belongs. Nothing is decided on it.
    pub claimed: Claimed,
}

impl ToolCall {
    /// Reads the parameters of a `tools/call`.
    ///
    /// # Errors
    /// Refuses a missing or impossible name, arguments that are no object, and members that this version does not
    /// govern: they would reach the upstream without being part of what was judged.
    pub fn read(frame: &Frame, params: Option<&Node>, meta_allow: &[String]) -> Result<Self, FrameError> {
        let wrong = |detail: String| FrameError { code: INVALID_PARAMS, ..FrameError::shape(detail) };
        let params = params.ok_or_else(|| wrong("`tools/call` needs `params`".to_owned()))?;
        let members = params.as_object().unwrap_or_default();
        if let Some((key, _)) = members.iter().find(|(key, _)| !matches!(key.as_str(), "name" | "arguments" | "_meta"))
        {
            return Err(wrong(format!("`{}` is a parameter that this version does not govern", key.escape_default())));
        }
        let name =
            params.get("name").and_then(Node::as_str).ok_or_else(|| wrong("`name` must be a string".to_owned()))?;
        let tool = ToolName::new(name).map_err(|error| wrong(error.to_string()))?;
        let arguments = match params.get("arguments") {
            Some(arguments) if arguments.as_object().is_some() => frame.raw(arguments).to_vec(),
            Some(_) => return Err(wrong("`arguments` must be an object".to_owned())),
            None => b"{}".to_vec(),
        };
        let (meta, claimed) = match params.get("_meta") {
            Some(meta) if meta.as_object().is_some() => (listed_meta(frame, meta, meta_allow), claimed(meta)),
            Some(_) => return Err(wrong("`_meta` must be an object".to_owned())),
            None => (Vec::new(), Claimed::default()),
        };
        Ok(Self { tool, arguments, meta, claimed })
    }
}

/// Claims are read leniently, for nothing is decided on them: what is no string, or empty, is no claim.
fn claimed(meta: &Node) -> Claimed {
    let claim = |member: &str| {
        let text = meta.get(member).and_then(Node::as_str).filter(|text| !text.is_empty())?;
        // Before it is clipped: half a secret would not be known again.
        Some(clipped(&cleaned(text), CLAIM_BYTES_MAX))
    };
    Claimed { trace: claim(TRACE), step: claim(STEP), cause: claim(CAUSE) }
}

fn listed_meta(frame: &Frame, meta: &Node, allow: &[String]) -> Vec<u8> {
    let found: Vec<String> = allow
        .iter()
        .filter_map(|key| meta.get(key).map(|node| (key, node)))
        .map(|(key, node)| {
            let value = canonical(node, frame.bytes());
            format!("{}:{}", Value::from(key.as_str()), String::from_utf8_lossy(&value))
        })
        .collect();
    if found.is_empty() { Vec::new() } else { format!("{{{}}}", found.join(",")).into_bytes() }
}

/// Where a request asks for progress, relative to its parameters.
///
/// # Errors
/// Refuses a token that is neither a string nor an integer.
pub fn progress_token(frame: &Frame, params: Option<&Node>) -> Result<Option<(Range<usize>, Bytes)>, FrameError> {
    let Some(params) = params else { return Ok(None) };
    let Some(token) = params.get("_meta").and_then(|meta| meta.get("progressToken")) else { return Ok(None) };
    Id::read(token, frame.bytes()).map_err(|_| FrameError {
        code: INVALID_PARAMS,
        ..FrameError::shape("`progressToken` must be a string or an integer")
    })?;
    let base = params.span.start;
    let span = token.span.start.saturating_sub(base)..token.span.end.saturating_sub(base);
    Ok(Some((span, frame.raw(token))))
}

/// The result of a listing without the tools that `lists` says no to, by their names and the bytes of their definitions,
/// and without what no call could name. Every other byte stays as the upstream sent it; where a tool is left out, what stood between tools becomes a comma.
pub fn listing(input: &[u8], result: &Node, lists: impl Fn(&ToolName, &[u8]) -> bool) -> Vec<u8> {
    let raw = |node: &Node| input.get(node.span.clone()).unwrap_or_default();
    let listed = result.get("tools").and_then(|tools| Some((tools, tools.as_array()?)));
    let Some((tools, all)) = listed else { return raw(result).to_vec() };
    let is_kept = |node: &&Node| {
        let name = node.get("name").and_then(Node::as_str).and_then(|name| ToolName::new(name).ok());
        name.is_some_and(|name| lists(&name, raw(node)))
    };
    let kept: Vec<&Node> = all.iter().filter(is_kept).collect();
    if kept.len() == all.len() {
        return raw(result).to_vec();
    }
    let texts: Vec<&[u8]> = kept.into_iter().map(raw).collect();
    let base = result.span.start;
    let span = tools.span.start.saturating_sub(base)..tools.span.end.saturating_sub(base);
    splice::replace(raw(result), &span, &[b"[", texts.join(&b',').as_slice(), b"]"].concat())
}

/// What the client may check a result against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Schema {
    /// The tool declares no schema of its output.
    Free,
    /// The tool declares one: a client throws away a result whose `structuredContent` does not fit it.
    Declared,
}

/// The response to a call.
#[must_use]
pub fn answer(id: &Id, answer: Answer<Reply>, schema: Schema) -> Vec<u8> {
    match answer {
        Answer::Ran { status, reply: Some(reply), receipt, .. } => {
            let receipt = receipt.map(|receipt| receipt_json(receipt.to_json().ok()));
            ran(id, status, &reply, receipt.as_deref())
        }
        Answer::Ran { status, reply: None, note, receipt } => {
            let receipt = receipt.map(|receipt| receipt_json(receipt.to_json().ok()));
            lost(id, status, note.as_deref(), receipt.as_deref())
        }
        Answer::Parked { ticket, expires, gates, repeated, receipt } => {
            let parked = Parked { ticket: &ticket, expires, gates: &gates, repeated };
            parked.response(id, &receipt_json(receipt.to_json().ok()), schema)
        }
        Answer::Denied { reasons, receipt } => {
            let receipt = receipt.map(|receipt| receipt_json(receipt.to_json().ok()));
            denied(id, &reasons, receipt.as_deref(), schema)
        }
    }
}

fn receipt_json(text: Option<String>) -> String {
    text.unwrap_or_else(|| "null".to_owned())
}

fn ran(id: &Id, status: Status, reply: &Reply, receipt: Option<&str>) -> Vec<u8> {
    let added = match receipt {
        Some(receipt) => [(RECEIPT, receipt)],
        None => [(UNRECORDED, "true")],
    };
    match reply.outcome() {
        Outcome::Error(error) => response_frame(id, "error", &reply.frame().raw(error)),
        Outcome::Result(result) => match splice::with_meta(reply.frame().bytes(), result, &added) {
            Some(spliced) => response_frame(id, "result", &spliced),
            None => lost(id, status, Some("the upstream's result is no object"), receipt),
        },
    }
}

/// The response where the upstream's answer is not there.
fn lost(id: &Id, status: Status, note: Option<&str>, receipt: Option<&str>) -> Vec<u8> {
    let (code, word, sentence) = match status {
        Status::NotStarted => (NOT_STARTED, "not_started", "Not run: nothing was sent to the upstream."),
        Status::Failed => (INTERNAL_ERROR, "failed", "The upstream refused this call."),
        Status::Done => (OUTCOME_UNKNOWN, "done", "Done, but the upstream's answer is lost. Do not repeat it."),
        Status::InputRequired => (
            OUTCOME_UNKNOWN,
            "input_required",
            "The upstream asks for more, but its question is lost. Make the call anew.",
        ),
        Status::Unknown => (
            OUTCOME_UNKNOWN,
            "unknown",
            "Sent to the upstream, outcome unknown: it may have happened. Check before you repeat it.",
        ),
    };
    let message = note.map_or_else(|| sentence.to_owned(), |note| format!("{sentence} ({note})"));
    let added = match receipt {
        Some(receipt) => format!(r#""{RECEIPT}":{receipt}"#),
        None => format!(r#""{UNRECORDED}":true"#),
    };
    let data = format!(r#"{{"countersign":{{"status":"{word}"}},{added}}}"#);
    error_frame(Some(id), code, &message, Some(&data))
}

struct Parked<'a> {
    ticket: &'a TicketId,
    expires: TimeMs,
    gates: &'a [String],
    repeated: bool,
}

impl Parked<'_> {
    fn response(&self, id: &Id, receipt: &str, schema: Schema) -> Vec<u8> {
        let ticket = self.ticket;
        let gates = if self.gates.is_empty() { String::new() } else { format!(" ({})", self.gates.join(", ")) };
        let still = if self.repeated { "still " } else { "" };
        let text = format!(
            "Not run yet: this call {still}waits for a human's consent{gates}, ticket {ticket}. Nothing has happened. \
             Go on with other work, and send the identical call again later: once a human has consented, the \
             identical call runs, once. A changed call needs a consent of its own."
        );
        let verdict = json!({
            "verdict": "pending",
            "ticket": ticket.as_str(),
            "expires_ms": self.expires.0,
            "gates": self.gates,
            "repeated": self.repeated,
        });
        // A client that checks a declared schema accepts a result without structured content only as an error.
        let own = Own { text, verdict, error: schema == Schema::Declared };
        own.response(id, Some(receipt), schema)
    }
}

fn denied(id: &Id, reasons: &[Reason], receipt: Option<&str>, schema: Schema) -> Vec<u8> {
    let mut text = "Denied by Countersign; nothing has happened.".to_owned();
    let mut listed = Vec::new();
    for reason in reasons {
        let sentence = reason.code.sentence();
        let mut entry = json!({ "code": reason.code.as_str(), "sentence": sentence });
        text.push(' ');
        text.push_str(sentence);
        if let (Some(detail), Some(entry)) = (shown_detail(reason), entry.as_object_mut()) {
            text.push_str(&format!(" ({detail})"));
            entry.insert("detail".to_owned(), detail.into());
        }
        listed.push(entry);
    }
    let own = Own { text, verdict: json!({ "verdict": "deny", "reasons": listed }), error: true };
    own.response(id, receipt, schema)
}

/// A detail may quote a policy or another principal; only these concern the caller alone.
fn shown_detail(reason: &Reason) -> Option<&str> {
    match reason.code {
        ReasonCode::BudgetExhausted | ReasonCode::CodeFreeze | ReasonCode::Malformed | ReasonCode::Oversize => {
            reason.detail.as_deref()
        }
        _ => None,
    }
}

/// A tool result of the gateway's own.
struct Own {
    text: String,
    verdict: Value,
    error: bool,
}

impl Own {
    fn response(self, id: &Id, receipt: Option<&str>, schema: Schema) -> Vec<u8> {
        let mut result = Map::new();
        result.insert("content".to_owned(), json!([{ "type": "text", "text": self.text }]));
        result.insert("isError".to_owned(), self.error.into());
        if schema == Schema::Free {
            // Some clients show a model this alone and not the text: so it holds the text too.
            let structured = json!({ "message": self.text, "countersign": self.verdict });
            result.insert("structuredContent".to_owned(), structured);
        }
        let mut body = Value::Object(result).to_string();
        let receipt = receipt.unwrap_or("null");
        body.pop();
        body.push_str(&format!(r#","_meta":{{"{VERDICT}":{},"{RECEIPT}":{receipt}}}}}"#, self.verdict));
        response_frame(id, "result", body.as_bytes())
    }
}
