//! The envelope of one JSON-RPC message: who it is for, and where its parts lie in the bytes.
//!
//! Strict about what is judged (one object, one id, one method, no duplicate key, no batch), silent about what is
//! not: parameters and results stay raw. It must not know methods. It does not cover batches: they are refused.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use countersign_effects::json::{self, JsonError, Limits, Node, Value, Wrong};
use countersign_model::{Reason, ReasonCode};

use super::{INVALID_REQUEST, PARSE_ERROR};

/// The longest spelling of an id, in bytes.
pub const ID_BYTES_MAX: usize = 256;
/// The longest name of a method, in bytes.
pub const METHOD_BYTES_MAX: usize = 128;

/// A request's id: compared by value, sent back as it was spelled.
#[derive(Clone, Debug)]
pub struct Id {
    raw: String,
    key: Key,
}

/// What makes two ids the same: `1` is not `"1"`, and `"a"` is `"\u0061"`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// The digits of an integer.
    Integer(String),
    /// The characters of a string.
    Text(String),
}

impl Id {
    /// An id of a JSON value.
    ///
    /// # Errors
    /// Refuses what is neither a string nor an integer (null, fractions and exponents among them), and long ones.
    pub fn read(node: &Node, input: &[u8]) -> Result<Self, FrameError> {
        let raw = String::from_utf8_lossy(node.raw(input)).into_owned();
        if raw.len() > ID_BYTES_MAX {
            return Err(FrameError::shape(format!("an id has at most {ID_BYTES_MAX} bytes")));
        }
        let key = match &node.value {
            Value::String(text) => Key::Text(text.clone()),
            Value::Number if raw.bytes().all(|byte| byte == b'-' || byte.is_ascii_digit()) && raw != "-0" => {
                Key::Integer(raw.clone())
            }
            _ => return Err(FrameError::shape(format!("`{raw}` is no id: an id is a string or an integer"))),
        };
        Ok(Self { raw, key })
    }

    /// The id as the peer spelled it.
    #[must_use]
    pub fn raw(&self) -> &str {
        &self.raw
    }

    /// What it is compared by.
    #[must_use]
    pub const fn key(&self) -> &Key {
        &self.key
    }

    /// The id as one of ours, if it is one.
    #[must_use]
    pub fn as_u64(&self) -> Option<u64> {
        match &self.key {
            Key::Integer(digits) => digits.parse().ok(),
            Key::Text(_) => None,
        }
    }
}

impl PartialEq for Id {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl Eq for Id {}

/// What one message is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// A method with an id.
    Request {
        /// The sender's id.
        id: Id,
        /// The method.
        method: String,
        /// The parameters: an object.
        params: Option<Node>,
    },
    /// A method without an id.
    Notification {
        /// The method.
        method: String,
        /// The parameters: an object.
        params: Option<Node>,
    },
    /// An answer.
    Response {
        /// Of which request; none where the peer could not read the request.
        id: Option<Id>,
        /// What it says.
        outcome: Outcome,
    },
}

/// What an answer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The method's result.
    Result(Node),
    /// A JSON-RPC error.
    Error(Node),
}

/// One message and the bytes that it was read from. Clones share both.
#[derive(Clone, Debug)]
pub struct Frame {
    bytes: Bytes,
    message: Arc<Message>,
}

/// Why bytes are no message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct FrameError {
    /// The JSON-RPC code.
    pub code: i32,
    /// The reason for the record.
    pub reason: ReasonCode,
    /// What is wrong, for people.
    pub detail: String,
}

impl FrameError {
    pub(crate) fn shape(detail: impl fmt::Display) -> Self {
        Self { code: INVALID_REQUEST, reason: ReasonCode::Malformed, detail: detail.to_string() }
    }

    /// For the record.
    #[must_use]
    pub fn as_reason(&self) -> Reason {
        Reason::because(self.reason, &self.detail)
    }
}

impl From<JsonError> for FrameError {
    fn from(error: JsonError) -> Self {
        let code = match error.what {
            Wrong::DuplicateKey { .. } => INVALID_REQUEST,
            _ => PARSE_ERROR,
        };
        Self { code, reason: error.reason(), detail: error.to_string() }
    }
}

impl Frame {
    /// Reads one message.
    ///
    /// # Errors
    /// Refuses whatever is not strict JSON within the limits, batches, and every envelope that could be read in
    /// two ways.
    pub fn read(bytes: Bytes, limits: &Limits) -> Result<Self, FrameError> {
        let root = json::parse(&bytes, limits)?;
        let message = read_message(root, &bytes)?;
        Ok(Self { bytes, message: Arc::new(message) })
    }

    /// What it is.
    #[must_use]
    pub fn message(&self) -> &Message {
        &self.message
    }

    /// The bytes.
    #[must_use]
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Its bytes and what it is, without copying either where this is the only one.
    #[must_use]
    pub fn into_parts(self) -> (Bytes, Message) {
        (self.bytes, Arc::unwrap_or_clone(self.message))
    }

    /// The bytes of one of its nodes, without copying.
    #[must_use]
    pub fn raw(&self, node: &Node) -> Bytes {
        if node.span.end <= self.bytes.len() && node.span.start <= node.span.end {
            self.bytes.slice(node.span.clone())
        } else {
            Bytes::new()
        }
    }
}

/// The members that say what a message is.
const ENVELOPE: [&str; 6] = ["jsonrpc", "id", "method", "params", "result", "error"];
/// The parameters that say what it is about, in any method.
const PARAMS: [&str; 10] =
    ["name", "arguments", "uri", "ref", "cursor", "taskId", "task", "requestState", "inputResponses", "_meta"];

/// Refuses a key that some parsers take for another: they fold its case as Unicode does, or end it at a NUL. What they
/// would read is not what was judged.
pub(crate) fn check_keys(members: &[(String, Node)], known: &[&str]) -> Result<(), FrameError> {
    let folded = |text: &str| -> String {
        let letters = text.chars().filter(|letter| *letter != '\0');
        letters
            .map(|letter| match letter {
                // The two letters beyond ASCII that fold to one in it.
                '\u{17f}' => 's',
                '\u{212a}' => 'k',
                other => other.to_ascii_lowercase(),
            })
            .collect()
    };
    for (key, _) in members.iter().filter(|(key, _)| !known.contains(&key.as_str())) {
        let read = folded(key);
        if let Some(like) = known.iter().find(|known| known.eq_ignore_ascii_case(&read)) {
            let shown: String = key.escape_default().take(40).collect();
            return Err(FrameError::shape(format!(
                "`{shown}` could be read as `{like}`: spell it so, or leave it out"
            )));
        }
    }
    Ok(())
}

/// The members of the envelope that say what a message is.
#[derive(Default)]
struct Members {
    version: Option<Node>,
    id: Option<Node>,
    method: Option<Node>,
    params: Option<Node>,
    result: Option<Node>,
    error: Option<Node>,
}

fn read_message(root: Node, input: &[u8]) -> Result<Message, FrameError> {
    let listed = match root.value {
        Value::Object(members) => members,
        Value::Array(_) => return Err(FrameError::shape("batches are not accepted: send one message at a time")),
        _ => return Err(FrameError::shape("a message is a JSON object")),
    };
    check_keys(&listed, &ENVELOPE)?;
    let mut members = Members::default();
    for (key, node) in listed {
        match key.as_str() {
            "jsonrpc" => members.version = Some(node),
            "id" => members.id = Some(node),
            "method" => members.method = Some(node),
            "params" => members.params = Some(node),
            "result" => members.result = Some(node),
            "error" => members.error = Some(node),
            _ => {}
        }
    }
    if members.version.as_ref().and_then(Node::as_str) != Some("2.0") {
        return Err(FrameError::shape("`jsonrpc` must be \"2.0\""));
    }
    match members {
        Members { method: Some(method), params, id, result: None, error: None, .. } => {
            read_call(&method, params, id, input)
        }
        Members { method: None, params: None, id: Some(id), result, error, .. } => {
            read_answer(&id, result, error, input)
        }
        _ => Err(FrameError::shape("a message is a request, a notification or one response, not a mixture")),
    }
}

fn read_call(method: &Node, params: Option<Node>, id: Option<Node>, input: &[u8]) -> Result<Message, FrameError> {
    let method = match method.as_str() {
        Some(name) if !name.is_empty() && name.len() <= METHOD_BYTES_MAX => name.to_owned(),
        _ => return Err(FrameError::shape(format!("`method` is a string of 1 to {METHOD_BYTES_MAX} bytes"))),
    };
    if let Some(params) = &params {
        check_keys(params.as_object().ok_or_else(|| FrameError::shape("`params` must be an object"))?, &PARAMS)?;
    }
    match id {
        Some(id) => Ok(Message::Request { id: Id::read(&id, input)?, method, params }),
        None => Ok(Message::Notification { method, params }),
    }
}

fn read_answer(id: &Node, result: Option<Node>, error: Option<Node>, input: &[u8]) -> Result<Message, FrameError> {
    let (outcome, failed) = match (result, error) {
        (Some(result), None) => (Outcome::Result(result), false),
        (None, Some(error)) if error.as_object().is_some() => (Outcome::Error(error), true),
        _ => return Err(FrameError::shape("a response has either a `result` or an `error` object")),
    };
    let id = if failed && id.is_null() { None } else { Some(Id::read(id, input)?) };
    Ok(Message::Response { id, outcome })
}
