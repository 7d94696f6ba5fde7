//! What an upstream asks in its results (2026-07-28, `basic/patterns/mrtr`), as the questions that revisions with a handshake
//! have, and the answers to them as parameters of the request that goes on.
//!
//! It must not know who answers.

use bytes::Bytes;
use countersign_effects::json::{Node, parse};

use super::{AGAIN, wrong};
use crate::mcp::adapt::rounds::{ANSWERS, QUESTIONS, STATE};
use crate::mcp::wire::splice;
use crate::mcp::wire::{FrameError, quoted, request_frame};

/// Questions in one result.
const QUESTIONS_MAX: usize = 16;
/// The parameters that make a request the next round of an earlier one.
const ROUND: [&str; 2] = [ANSWERS, STATE];

/// What an upstream asks for before it goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    /// What is asked, by the upstream's own keys.
    pub(crate) questions: Vec<(String, Bytes)>,
    /// Raw, as it goes back.
    state: Option<String>,
}

impl Asked {
    /// What a result of the kind `input_required` asks. Each question is a whole request, under the id of its place.
    ///
    /// # Errors
    /// A result that asks nothing, or asks what is no question.
    pub(crate) fn read(input: &[u8], result: &Node) -> Result<Self, FrameError> {
        let state = result.get(STATE).map(|state| String::from_utf8_lossy(state.raw(input)).into_owned());
        let requests = match result.get(QUESTIONS) {
            None => &[][..],
            Some(requests) => requests.as_object().ok_or_else(|| wrong("`inputRequests` is no object"))?,
        };
        if requests.is_empty() && state.is_none() {
            return Err(wrong("the upstream asks for more, and does not say for what"));
        }
        if requests.len() > QUESTIONS_MAX {
            return Err(wrong("the upstream asks more questions at once than may be"));
        }
        let mut questions = Vec::new();
        for (at, (key, request)) in requests.iter().enumerate() {
            let method =
                request.get("method").and_then(Node::as_str).ok_or_else(|| wrong("a question has no method"))?;
            let params = request.get("params").map(|params| params.raw(input));
            questions.push((key.clone(), request_frame(at as u64, method, params).into()));
        }
        Ok(Self { questions, state })
    }

    /// The parameters of the next round: those of the first one, with the raw `answers` and the upstream's own state.
    ///
    /// # Errors
    /// Parameters that cannot be read.
    pub(crate) fn next(&self, params: &Bytes, answers: &[(String, Bytes)]) -> Result<Bytes, FrameError> {
        let node = parse(params, &AGAIN)?;
        let mut edits = splice::without(&node, params, &|key| ROUND.contains(&key));
        let answers: Vec<String> =
            answers.iter().map(|(key, raw)| format!("{}:{}", quoted(key), String::from_utf8_lossy(raw))).collect();
        let mut members = Vec::new();
        if !answers.is_empty() {
            members.push(format!(r#""{ANSWERS}":{{{}}}"#, answers.join(",")));
        }
        members.extend(self.state.as_ref().map(|state| format!(r#""{STATE}":{state}"#)));
        let inside = node.span.start.saturating_add(1);
        let stays = node.as_object().unwrap_or_default().iter().any(|(key, _)| !ROUND.contains(&key.as_str()));
        let comma = if stays && !members.is_empty() { "," } else { "" };
        edits.push((inside..inside, format!("{}{comma}", members.join(","))));
        edits.sort_by_key(|(span, _)| (span.start, span.end));
        Ok(splice::edited(params, &node.span, &edits).into())
    }
}
