//! Between the wire and the pipeline: a request becomes a call, an answer becomes a response.
//!
//! What an upstream answered passes byte for byte, but for the members of `_meta` that the gateway adds and the spans
//! that it declares (`route`). What the gateway says itself to a `tools/call` is a tool result that a model can read,
//! for a protocol error would end many agents; to any other method it is a JSON-RPC error with the same data. An agent
//! sees reason codes and safe sentences; a detail only where it concerns nobody else. This module must not know
//! sockets, sessions or policy. It does not cover receipts of calls that ended in an upstream's own JSON-RPC error:
//! that error passes unchanged, and the record is in the ledger.

use std::ops::Range;

use bytes::Bytes;
use countersign_effects::json::{Node, canonical};
use countersign_effects::secrets::cleaned;
use countersign_gate::call::Answer;
use countersign_model::encoding::clipped;
use countersign_model::id::{TicketId, ToolName, UpstreamId};
use countersign_model::record::{CLAIM_BYTES_MAX, Claimed, Status};
use countersign_model::unit::TimeMs;
use countersign_model::{Reason, ReasonCode};
use serde_json::{Map, Value, json};

use super::execute::{Kind, Reply};
use super::methods::is_reserved;
use super::route::Params;
use super::route::rename::Prefixing;
use super::wire::era::RELATED_TASK;
use super::wire::splice::Edit;
use super::wire::{
    DENIED, Era, FrameError, INTERNAL_ERROR, INVALID_PARAMS, Id, NOT_STARTED, OUTCOME_UNKNOWN, Outcome, PENDING,
    error_frame, quoted, response_frame, splice,
};

pub(crate) mod hello;
pub(crate) mod list;
pub(crate) mod rounds;

#[cfg(test)]
mod tests;

use rounds::Carried;

/// The parameter that asks for a task.
pub(crate) const TASK: &str = "task";
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

/// What a request asks for, as far as it is judged.
#[derive(Clone, Debug)]
pub(crate) struct Judged {
    /// The tool; for any other method, the method's own name.
    pub(crate) tool: ToolName,
    /// Raw JSON of the arguments; `{}` where there are none.
    pub(crate) arguments: Vec<u8>,
    /// The allow-listed members of `_meta`, sorted; empty where there are none.
    pub(crate) meta: Vec<u8>,
    /// Where the caller says that the call belongs. Nothing is decided on it.
    pub(crate) claimed: Claimed,
    /// What it carries of a round before.
    pub(crate) carried: Carried,
}

fn wrong(detail: String) -> FrameError {
    FrameError { code: INVALID_PARAMS, ..FrameError::shape(detail) }
}

impl Judged {
    /// Reads the parameters of a `tools/call`.
    ///
    /// # Errors
    /// Refuses a missing or impossible name, arguments that are no object, and members that this version does not
    /// govern: they would reach the upstream without being part of what was judged.
    pub(crate) fn call(params: &Params, era: Era, meta_allow: &[String]) -> Result<Self, FrameError> {
        let node = params.node().ok_or_else(|| wrong("`tools/call` needs `params`".to_owned()))?;
        for (key, value) in node.as_object().unwrap_or_default() {
            match (key.as_str(), era) {
                ("name" | "arguments" | "_meta", _) => {}
                // The upstream may go on with it as a task, or takes no notice.
                (TASK, _) if value.as_object().is_some() => {}
                (rounds::STATE | rounds::ANSWERS, Era::Modern) => {}
                _ => {
                    let shown = key.escape_default();
                    return Err(wrong(format!("`{shown}` is a parameter that this version does not govern")));
                }
            }
        }
        let name = params.get("name").and_then(Node::as_str);
        let name = name.ok_or_else(|| wrong("`name` must be a string".to_owned()))?;
        let tool = ToolName::new(name).map_err(|error| wrong(error.to_string()))?;
        if is_reserved(name) {
            return Err(wrong(format!("`{name}` is the name of a method, so no tool can have it here")));
        }
        let arguments = match params.get("arguments") {
            Some(arguments) if arguments.as_object().is_some() => params.slice(arguments).to_vec(),
            Some(_) => return Err(wrong("`arguments` must be an object".to_owned())),
            None => b"{}".to_vec(),
        };
        let (meta, claimed) = meta_of(params, meta_allow)?;
        // Consent to a call is none to a task, which outlives it.
        let task = params.get(TASK).map(|task| params.slice(task));
        let meta = rounds::with_member(meta, TASK, task.as_deref());
        Ok(Self { tool, arguments, meta, claimed, carried: Carried::read(params)? })
    }

    /// Reads the parameters of any other action: all of them are its arguments, but for `_meta` and for what is carried
    /// from round to round.
    ///
    /// # Errors
    /// Refuses a `_meta` that is no object, and what is carried where there are no rounds.
    pub(crate) fn method(tool: ToolName, params: &Params, era: Era, meta_allow: &[String]) -> Result<Self, FrameError> {
        let (meta, claimed) = meta_of(params, meta_allow)?;
        let mut judged = Self { tool, arguments: b"{}".to_vec(), meta, claimed, carried: Carried::default() };
        let mut left_out = vec!["_meta"];
        if era == Era::Modern && rounds::has_rounds(judged.tool.as_str()) {
            judged.carried = Carried::read(params)?;
            left_out.extend([rounds::STATE, rounds::ANSWERS]);
        } else if judged.tool.as_str() != "tasks/update" {
            let carried = [rounds::STATE, rounds::ANSWERS].into_iter().find(|key| params.get(key).is_some());
            if let Some(key) = carried {
                return Err(wrong(format!(
                    "`{key}` goes on with an earlier request, and `{}` has no rounds",
                    judged.tool
                )));
            }
        }
        if let Some(node) = params.node() {
            judged.arguments = without(node, params.input(), &left_out);
        }
        Ok(judged)
    }
}

/// The object `node` without its `_meta`, raw but for its keys.
pub(crate) fn without_meta(node: &Node, input: &[u8]) -> Vec<u8> {
    without(node, input, &["_meta"])
}

fn without(node: &Node, input: &[u8], left_out: &[&str]) -> Vec<u8> {
    let members = node.as_object().unwrap_or_default().iter().filter(|(key, _)| !left_out.contains(&key.as_str()));
    let texts: Vec<Vec<u8>> =
        members.map(|(key, value)| [quoted(key).as_bytes(), b":", value.raw(input)].concat()).collect();
    [b"{", texts.join(&b',').as_slice(), b"}"].concat()
}

fn meta_of(params: &Params, allow: &[String]) -> Result<(Vec<u8>, Claimed), FrameError> {
    match params.get("_meta") {
        Some(meta) if meta.as_object().is_some() => Ok((listed_meta(params.input(), meta, allow), claimed(meta))),
        Some(_) => Err(wrong("`_meta` must be an object".to_owned())),
        None => Ok((Vec::new(), Claimed::default())),
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

fn listed_meta(input: &[u8], meta: &Node, allow: &[String]) -> Vec<u8> {
    let found: Vec<String> = allow
        .iter()
        .filter_map(|key| meta.get(key).map(|node| (key, node)))
        .map(|(key, node)| {
            let value = canonical(node, input);
            format!("{}:{}", Value::from(key.as_str()), String::from_utf8_lossy(&value))
        })
        .collect();
    if found.is_empty() { Vec::new() } else { format!("{{{}}}", found.join(",")).into_bytes() }
}

/// Where a request asks for progress, relative to its parameters.
///
/// # Errors
/// Refuses a token that is neither a string nor an integer.
pub(crate) fn progress_token(params: &Params) -> Result<Option<(Range<usize>, Bytes)>, FrameError> {
    let Some(node) = params.node() else { return Ok(None) };
    let Some(token) = node.get("_meta").and_then(|meta| meta.get("progressToken")) else { return Ok(None) };
    Id::read(token, params.input()).map_err(|_| wrong("`progressToken` must be a string or an integer".to_owned()))?;
    let base = node.span.start;
    let span = token.span.start.saturating_sub(base)..token.span.end.saturating_sub(base);
    Ok(Some((span, params.slice(token))))
}

/// What the client may check a result against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Schema {
    /// The tool declares no schema of its output.
    Free,
    /// The tool declares one: a client throws away a result whose `structuredContent` does not fit it.
    Declared,
}

/// In which form an answer is given.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Form<'a> {
    /// In which era the client speaks.
    pub(crate) era: Era,
    /// What a tool result is checked against; none where it is no `tools/call`.
    pub(crate) tool: Option<Schema>,
    /// Whose prefix names in the answer get.
    pub(crate) prefix: Option<&'a UpstreamId>,
    /// Which of the gateway's own tasks a tool result is tied to, as raw JSON for [`RELATED_TASK`].
    pub(crate) task: Option<&'a str>,
}

/// The response to an action.
#[must_use]
pub(crate) fn answer(id: &Id, answer: Answer<Reply>, form: Form<'_>) -> Vec<u8> {
    match answer {
        Answer::Ran { status, reply: Some(reply), receipt, .. } => {
            let receipt = receipt.map(|receipt| receipt_json(receipt.to_json().ok()));
            ran(id, status, &reply, (receipt.as_deref(), form))
        }
        Answer::Ran { status, reply: None, note, receipt } => {
            let receipt = receipt.map(|receipt| receipt_json(receipt.to_json().ok()));
            lost(id, status, note.as_deref(), receipt.as_deref())
        }
        Answer::Parked { ticket, expires, gates, repeated, receipt } => {
            let receipt = receipt_json(receipt.to_json().ok());
            Parked { ticket, expires, gates, repeated, receipt }.response(id, form)
        }
        Answer::Denied { reasons, receipt } => {
            let receipt = receipt.map(|receipt| receipt_json(receipt.to_json().ok()));
            denied(id, &reasons, receipt.as_deref(), form)
        }
    }
}

pub(crate) fn receipt_json(text: Option<String>) -> String {
    text.unwrap_or_else(|| "null".to_owned())
}

fn ran(id: &Id, status: Status, reply: &Reply, (receipt, form): (Option<&str>, Form<'_>)) -> Vec<u8> {
    let result = match reply.outcome() {
        Outcome::Error(error) => {
            return response_frame(id, "error", &rename_error(reply.frame().bytes(), error, form.prefix));
        }
        Outcome::Result(result) => result,
    };
    if reply.kind() == Kind::InputRequired {
        // Whoever hands its questions over words it otherwise: what comes here would go out undecided.
        return lost(id, Status::InputRequired, None, receipt);
    }
    let Some(mut edits) = receipt_edits(result, receipt, form.task) else {
        return lost(id, status, Some("the upstream's result is no object"), receipt);
    };
    edits.extend(forced_private(result));
    if let Some(upstream) = form.prefix {
        edits.extend(Prefixing::of(upstream).result(result).edits());
    }
    edits.sort_by_key(|(span, _)| span.start);
    response_frame(id, "result", &splice::edited(reply.frame().bytes(), &result.span, &edits))
}

/// The edits that put the receipt, or that there is none, into a result.
fn receipt_edits(result: &Node, receipt: Option<&str>, task: Option<&str>) -> Option<Vec<Edit>> {
    let receipt = receipt.map_or((UNRECORDED, "true"), |receipt| (RECEIPT, receipt));
    let members: Vec<(&str, &str)> = [receipt].into_iter().chain(task.map(|task| (RELATED_TASK, task))).collect();
    splice::meta_edits(result, &members)
}

/// An upstream's error, with the prefix before a resource that it names.
pub(crate) fn rename_error(input: &[u8], error: &Node, prefix: Option<&UpstreamId>) -> Vec<u8> {
    let edits = prefix.map(|upstream| Prefixing::of(upstream).error(error).edits()).unwrap_or_default();
    splice::edited(input, &error.span, &edits)
}

/// The edit that keeps a result out of caches that others share: what one caller may see, another may not.
pub(crate) fn forced_private(result: &Node) -> Option<Edit> {
    let scope = result.get("cacheScope")?;
    (scope.as_str() != Some("private")).then(|| (scope.span.clone(), r#""private""#.to_owned()))
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

/// A call that waits for consent.
#[derive(Clone, Debug)]
pub(crate) struct Parked {
    pub(crate) ticket: TicketId,
    pub(crate) expires: TimeMs,
    pub(crate) gates: Vec<String>,
    pub(crate) repeated: bool,
    /// As raw JSON.
    pub(crate) receipt: String,
}

impl Parked {
    /// What programs read, wherever the gateway says that a call waits.
    pub(crate) fn verdict(&self) -> Value {
        json!({
            "verdict": "pending",
            "ticket": self.ticket.as_str(),
            "expires_ms": self.expires.0,
            "gates": self.gates,
            "repeated": self.repeated,
        })
    }

    /// The ticket, in words of the gateway's own.
    pub(crate) fn response(&self, id: &Id, form: Form<'_>) -> Vec<u8> {
        let ticket = &self.ticket;
        let gates = if self.gates.is_empty() { String::new() } else { format!(" ({})", self.gates.join(", ")) };
        let still = if self.repeated { "still " } else { "" };
        let text = format!(
            "Not run yet: this call {still}waits for a human's consent{gates}, ticket {ticket}. Nothing has happened. \
             Go on with other work, and send the identical call again later: once a human has consented, the \
             identical call runs, once. A changed call needs a consent of its own."
        );
        let verdict = self.verdict();
        // A client that checks a declared schema accepts a result without structured content only as an error.
        let own = Own { text, verdict, code: PENDING, error: form.tool == Some(Schema::Declared) };
        own.response(id, Some(&self.receipt), form)
    }
}

fn denied(id: &Id, reasons: &[Reason], receipt: Option<&str>, form: Form<'_>) -> Vec<u8> {
    let (sentences, listed) = worded(reasons);
    let text = format!("Denied by Countersign; nothing has happened.{sentences}");
    let own = Own { text, verdict: json!({ "verdict": "deny", "reasons": listed }), code: DENIED, error: true };
    own.response(id, receipt, form)
}

/// Reasons as sentences, each after a space, and as data.
fn worded(reasons: &[Reason]) -> (String, Vec<Value>) {
    let (mut text, mut listed) = (String::new(), Vec::new());
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
    (text, listed)
}

/// Why a question of an upstream is not handed over.
#[derive(Debug)]
pub(crate) enum Withheld {
    /// It may not be.
    Denied(Vec<Reason>),
    /// No client could be asked so, or not this one: in our own words.
    Unfit(String),
    /// A human is asked first.
    Parked { ticket: TicketId, expires: TimeMs, gates: Vec<String> },
}

/// The response to an action that its upstream answered with a question which is not handed over. The call has begun at the
/// upstream and does not go on; its receipt says so.
#[must_use]
pub(crate) fn withheld(id: &Id, question: &str, why: Withheld, receipt: Option<&str>, form: Form<'_>) -> Vec<u8> {
    let begun = "The upstream asks for more before it goes on, and its question is not handed over";
    let (text, mut verdict, code) = match why {
        Withheld::Denied(reasons) => {
            let (sentences, listed) = worded(&reasons);
            let text = format!("{begun}.{sentences} The call goes no further.");
            (text, json!({ "verdict": "deny", "reasons": listed }), DENIED)
        }
        Withheld::Unfit(detail) => {
            let reason = json!({ "code": ReasonCode::Unsupported.as_str(), "sentence": detail });
            let text = format!("{begun}: {detail}. The call goes no further.");
            (text, json!({ "verdict": "deny", "reasons": [reason] }), DENIED)
        }
        Withheld::Parked { ticket, expires, gates } => {
            let text = format!(
                "{begun} yet: that waits for a human's consent, ticket {ticket}. The call goes no further. Make it anew once \
                 a human has consented: the same question is handed over then, once."
            );
            let verdict = json!({
                "verdict": "pending", "ticket": ticket.as_str(), "expires_ms": expires.0, "gates": gates,
            });
            (text, verdict, PENDING)
        }
    };
    if let Some(verdict) = verdict.as_object_mut() {
        verdict.insert("status".to_owned(), "input_required".into());
        verdict.insert("question".to_owned(), question.into());
    }
    Own { text, verdict, code, error: true }.response(id, receipt, form)
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

/// What the gateway says itself.
struct Own {
    text: String,
    verdict: Value,
    /// The code of the error, where it is one.
    code: i32,
    error: bool,
}

impl Own {
    fn response(self, id: &Id, receipt: Option<&str>, form: Form<'_>) -> Vec<u8> {
        let receipt = receipt.unwrap_or("null");
        let Some(schema) = form.tool else {
            let data = format!(r#"{{"countersign":{},"{RECEIPT}":{receipt}}}"#, self.verdict);
            return error_frame(Some(id), self.code, &self.text, Some(&data));
        };
        let mut result = Map::new();
        if form.era == Era::Modern {
            result.insert("resultType".to_owned(), "complete".into());
        }
        result.insert("content".to_owned(), json!([{ "type": "text", "text": self.text }]));
        result.insert("isError".to_owned(), self.error.into());
        if schema == Schema::Free {
            // Some clients show a model this alone and not the text: so it holds the text too.
            let structured = json!({ "message": self.text, "countersign": self.verdict });
            result.insert("structuredContent".to_owned(), structured);
        }
        let mut body = Value::Object(result).to_string();
        body.pop();
        let task = form.task.map(|task| format!(r#","{RELATED_TASK}":{task}"#)).unwrap_or_default();
        body.push_str(&format!(r#","_meta":{{"{VERDICT}":{},"{RECEIPT}":{receipt}{task}}}}}"#, self.verdict));
        response_frame(id, "result", body.as_bytes())
    }
}
