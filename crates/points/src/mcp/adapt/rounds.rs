//! Rounds: a request that its upstream answers with questions, and the same request again with the answers
//! (2026-07-28, `basic/patterns/mrtr`).
//!
//! The upstream's state stays inside ours, and only answers to what was asked go on to it. Answers that come before there was a
//! question are part of what is judged. Pure. It must not know who decides on a question, or how state is sealed.

use bytes::Bytes;
use countersign_effects::json::{Limits, Node, canonical, parse};
use countersign_model::id::UpstreamId;

use super::{forced_private, receipt_edits, wrong};
use crate::mcp::execute::Reply;
use crate::mcp::route::Params;
use crate::mcp::route::rename::Prefixing;
use crate::mcp::state::State;
use crate::mcp::wire::envelope::check_keys;
use crate::mcp::wire::{FrameError, Id, Outcome, quoted, response_frame, splice};

/// The member with the state that a client carries.
pub(crate) const STATE: &str = "requestState";
/// The member with a client's answers.
pub(crate) const ANSWERS: &str = "inputResponses";
/// The member with an upstream's questions.
pub(crate) const QUESTIONS: &str = "inputRequests";

/// Whether a request with this method may be answered with questions, and come again.
pub(crate) fn has_rounds(method: &str) -> bool {
    matches!(method, "tools/call" | "prompts/get" | "resources/read")
}

/// Whether a result asks, or a parser could read that it does.
pub(crate) fn asks(result: &Node) -> bool {
    result.get(QUESTIONS).is_some() || check_spelling(result).is_err()
}

/// Refuses members of a result that a parser could read as what asks.
pub(crate) fn check_spelling(result: &Node) -> Result<(), FrameError> {
    check_keys(result.as_object().unwrap_or_default(), &[QUESTIONS, STATE, "resultType"])
}

/// What a request carries of the round before.
#[derive(Clone, Debug, Default)]
pub(crate) struct Carried {
    /// Our state; none where this is the first round.
    pub(crate) state: Option<String>,
    /// The client's answers, raw: an object.
    pub(crate) answers: Option<Bytes>,
}

impl Carried {
    /// Reads the two members.
    ///
    /// # Errors
    /// Refuses a state that is no string, and answers that are no object.
    pub(crate) fn read(params: &Params) -> Result<Self, FrameError> {
        let state = match params.get(STATE).map(Node::as_str) {
            Some(None) => return Err(wrong(format!("`{STATE}` must be a string"))),
            found => found.flatten().map(str::to_owned),
        };
        let answers = match params.get(ANSWERS) {
            Some(answers) if answers.as_object().is_none() => {
                return Err(wrong(format!("`{ANSWERS}` must be an object")));
            }
            found => found.map(|answers| params.slice(answers)),
        };
        Ok(Self { state, answers })
    }
}

/// What is judged of `_meta`, with answers that came ahead of any question: they belong to the action.
pub(crate) fn with_ahead(meta: Vec<u8>, ahead: Option<&[u8]>) -> Vec<u8> {
    with_member(meta, ANSWERS, ahead)
}

/// What is judged of `_meta`, with a parameter beside the arguments that belongs to the action.
pub(crate) fn with_member(meta: Vec<u8>, key: &str, raw: Option<&[u8]>) -> Vec<u8> {
    let Some(raw) = raw else { return meta };
    let plain = parse(raw, &WIDE).map_or_else(|_| raw.to_vec(), |node| canonical(&node, raw));
    match parse(&meta, &WIDE) {
        Ok(node) => splice::remade(&meta, &node, &[(key, Some(&plain))]),
        Err(_) => [format!(r#"{{"{key}":"#).as_bytes(), &plain, b"}"].concat(),
    }
}

/// What was read before, within stricter limits.
const WIDE: Limits = Limits { bytes_max: usize::MAX, depth_max: 128, nodes_max: usize::MAX };

/// The answers to what was asked, raw, and no others; none where the client sent none.
pub(crate) fn answered(carried: &Carried, asked: &[String]) -> Option<Vec<u8>> {
    let answers = carried.answers.as_ref()?;
    let node = parse(answers, &WIDE).ok()?;
    let unasked = node.as_object().unwrap_or_default().iter().filter(|(key, _)| !asked.contains(key));
    let dropped: Vec<(&str, Option<&[u8]>)> = unasked.map(|(key, _)| (key.as_str(), None)).collect();
    Some(if dropped.is_empty() { answers.to_vec() } else { splice::remade(answers, &node, &dropped) })
}

/// The parameters as the upstream gets them: with its own state, and with the answers that are for it.
///
/// # Errors
/// Where the result can no longer be read.
pub(crate) fn onwards(params: Params, state: &State, answers: Option<&[u8]>) -> Result<Params, FrameError> {
    let Some(node) = params.node() else { return Ok(params) };
    let members = [(STATE, state.upstream.as_deref()), (ANSWERS, answers)];
    let text = splice::remade(params.input(), node, &members);
    let edit = (node.span.clone(), String::from_utf8_lossy(&text).into_owned());
    params.under(&[edit])
}

/// An upstream's result that asks, as the client gets it: its questions as they are, our state, and the receipt.
pub(crate) fn asking(
    (id, reply): (&Id, &Reply),
    (state, receipt): (&str, &str),
    prefix: Option<&UpstreamId>,
) -> Vec<u8> {
    let (Outcome::Result(result) | Outcome::Error(result)) = reply.outcome();
    let mut edits = receipt_edits(result, Some(receipt), None).unwrap_or_default();
    edits.extend(forced_private(result));
    edits.extend(prefix.map(|upstream| Prefixing::of(upstream).result(result).edits()).unwrap_or_default());
    edits.push(match result.get(STATE) {
        Some(theirs) => (theirs.span.clone(), quoted(state)),
        None => {
            // Not empty: it says at least what it is.
            let start = result.span.start.saturating_add(1);
            (start..start, format!(r#""{STATE}":{},"#, quoted(state)))
        }
    });
    edits.sort_by_key(|(span, _)| span.start);
    response_frame(id, "result", &splice::edited(reply.frame().bytes(), &result.span, &edits))
}
