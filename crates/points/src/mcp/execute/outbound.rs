//! What goes to an upstream and what comes back, whatever the transport.
//!
//! Ids towards an upstream are ours: the request's number is also its progress token, so both are unique on a
//! connection. Parameters pass byte for byte but for the token. It must not know sockets, pipes or permits.

use std::borrow::Cow;
use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use countersign_effects::json::{Limits, Node, Value, parse};
use countersign_effects::secrets;
use countersign_gate::call::Executed;
use countersign_gate::permit::Stop;
use countersign_model::record::Status;
use tokio::sync::mpsc;

use super::link::LinkError;
use super::said::Said;
use crate::mcp::adapt::TASK;
use crate::mcp::wire::{Frame, FrameError, Message, Outcome, request_frame, splice};

/// The most values in one message of an upstream.
const NODES_MAX: usize = 1_000_000;
/// The deepest nesting of a message of an upstream.
const DEPTH_MAX: usize = 128;

/// The most values in a message that is no answer, so that one which waits for a slow client holds little.
const SAID_NODES_MAX: usize = 10_000;
/// The longest notification, in bytes.
const NOTIFICATION_BYTES_MAX: usize = 256 * 1024;

/// Longer than any process lives.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// How a message of an upstream is read.
pub(crate) const fn reading(bytes_max: usize) -> Limits {
    Limits { bytes_max, depth_max: DEPTH_MAX, nodes_max: NODES_MAX }
}

/// A message of an upstream. A notification is read within narrower limits than an answer: it waits in queues, and nobody
/// asked for it.
///
/// # Errors
/// Refuses what is no message, and notifications over their limits.
pub(crate) fn read(bytes: Bytes, bytes_max: usize) -> Result<Frame, FrameError> {
    let frame = Frame::read(bytes, &reading(bytes_max))?;
    if let Message::Notification { method, .. } = frame.message()
        && (frame.bytes().len() > NOTIFICATION_BYTES_MAX || !is_small(&frame))
    {
        let shown = method.escape_default();
        let most = format!("{NOTIFICATION_BYTES_MAX} bytes and {SAID_NODES_MAX} values");
        return Err(FrameError::shape(format!("`{shown}` is too large: a notification has at most {most}")));
    }
    Ok(frame)
}

/// Whether a message that is no answer has as few values as it may have.
pub(crate) fn is_small(frame: &Frame) -> bool {
    let (Message::Request { params: Some(params), .. } | Message::Notification { params: Some(params), .. }) =
        frame.message()
    else {
        return true;
    };
    let mut left = SAID_NODES_MAX;
    fits(params, &mut left)
}

/// Takes the values of `node` from what is left; `false` where that is not enough. Ends early.
fn fits(node: &Node, left: &mut usize) -> bool {
    let Some(less) = left.checked_sub(1) else { return false };
    *left = less;
    match &node.value {
        Value::Array(items) => items.iter().all(|item| fits(item, left)),
        Value::Object(members) => members.iter().all(|(_, member)| fits(member, left)),
        Value::Null | Value::Bool(_) | Value::Number | Value::String(_) => true,
    }
}

/// What a result says it is (2026-07-28, `resultType`); without a word it is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The end of the request.
    Complete,
    /// The client is asked for more, and sends the request again with it.
    InputRequired,
    /// The upstream goes on with it as a task.
    Task,
    /// An error, or a word that no revision known here has.
    Other,
}

/// An upstream's answer to one request.
#[derive(Clone, Debug)]
pub struct Reply {
    frame: Frame,
    outcome: Outcome,
    status: Option<u16>,
}

impl Reply {
    /// The reply in `frame`, if it is a response.
    pub(crate) fn of(frame: Frame) -> Option<Self> {
        match frame.message() {
            Message::Response { outcome, .. } => {
                let outcome = outcome.clone();
                Some(Self { frame, outcome, status: None })
            }
            Message::Request { .. } | Message::Notification { .. } => None,
        }
    }

    /// A reply of the gateway's own, whose `member` is raw JSON: `result` or `error`.
    ///
    /// # Errors
    /// What is no message then.
    pub(crate) fn made(member: &str, raw: &[u8]) -> Result<Self, LinkError> {
        let head = format!(r#"{{"jsonrpc":"2.0","id":0,"{member}":"#);
        let frame = Frame::read([head.as_bytes(), raw, b"}"].concat().into(), &reading(usize::MAX))?;
        Self::of(frame).ok_or_else(|| LinkError::Unreadable("it is no answer".to_owned()))
    }

    /// The whole message.
    #[must_use]
    pub const fn frame(&self) -> &Frame {
        &self.frame
    }

    /// The reply that came with an HTTP status.
    pub(crate) const fn with_status(mut self, status: u16) -> Self {
        self.status = Some(status);
        self
    }

    /// The HTTP status that it came with, over HTTP.
    #[must_use]
    pub const fn status(&self) -> Option<u16> {
        self.status
    }

    /// What it says.
    #[must_use]
    pub const fn outcome(&self) -> &Outcome {
        &self.outcome
    }

    /// Which kind of result it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        let Outcome::Result(result) = &self.outcome else { return Kind::Other };
        // With a handshake a task is known by its member alone.
        let is_task = || result.get("task").is_some_and(|task| task.get("taskId").is_some());
        match result.get("resultType").map(|word| word.as_str()) {
            None if is_task() => Kind::Task,
            None | Some(Some("complete")) => Kind::Complete,
            Some(Some("input_required")) => Kind::InputRequired,
            Some(Some("task")) => Kind::Task,
            Some(_) => Kind::Other,
        }
    }

    /// The reply without secrets in its result or error; none where it cannot be read again.
    pub(crate) fn redacted(self) -> Option<Self> {
        let (Outcome::Result(node) | Outcome::Error(node)) = &self.outcome;
        let Some(clean) = secrets::redacted(node, self.frame.bytes()) else {
            return Some(self);
        };
        let bytes = splice::replace(self.frame.bytes(), &node.span, &clean.json);
        // A marker can be longer than what it stands for.
        let clean = Self::of(Frame::read(bytes.into(), &reading(usize::MAX)).ok()?)?;
        Some(Self { status: self.status, ..clean })
    }

    /// The raw bytes of the result or the error.
    #[must_use]
    pub fn raw(&self) -> Bytes {
        match &self.outcome {
            Outcome::Result(node) | Outcome::Error(node) => self.frame.raw(node),
        }
    }
}

/// Where the progress of one request goes.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    /// The client's token, as it spelled it.
    pub(crate) token: Bytes,
    /// Where its token stands in the parameters.
    pub(crate) span: Range<usize>,
    /// Whether nothing is handed on: what an upstream says meanwhile may hold what its result may not.
    pub(crate) is_muted: bool,
    /// The client's stream. Bounded: what does not fit is dropped, for a slow client may not hold up an upstream.
    pub(crate) events: mpsc::Sender<Bytes>,
}

impl Progress {
    /// Progress under the client's `token`, which stands at `span` of the parameters.
    pub(crate) const fn new(span: Range<usize>, token: Bytes, events: mpsc::Sender<Bytes>) -> Self {
        Self { token, span, is_muted: false, events }
    }

    /// Hands on a `notifications/progress` of the upstream, under the client's own token.
    pub(crate) fn relay(&self, frame: &Frame) {
        if self.is_muted {
            return;
        }
        let Message::Notification { params: Some(params), .. } = frame.message() else { return };
        let Some(token) = params.get("progressToken") else { return };
        let event = splice::replace(frame.bytes(), &token.span, &self.token);
        if self.events.try_send(event.into()).is_err() {
            tracing::debug!("a progress notification was dropped: the client is slow or gone");
        }
    }
}

/// One request towards an upstream.
#[derive(Clone, Debug)]
pub(crate) struct Outbound {
    pub(crate) method: Cow<'static, str>,
    /// Raw JSON of the parameters: an object.
    pub(crate) params: Option<Bytes>,
    pub(crate) progress: Option<Progress>,
    /// Takes what the upstream says on this request's own stream. Bounded: what does not fit is dropped.
    pub(crate) aside: Option<mpsc::Sender<Said>>,
    /// The `Mcp-Param-*` headers of a modern request, names and values as the client sent them.
    pub(crate) param_headers: Vec<(String, String)>,
}

impl Outbound {
    pub(crate) fn plain(method: impl Into<Cow<'static, str>>, params: Option<Bytes>) -> Self {
        Self { method: method.into(), params, progress: None, aside: None, param_headers: Vec::new() }
    }

    /// Whether its answer is a stream that stays open until its client ends it.
    pub(crate) fn listens(&self) -> bool {
        self.method == "subscriptions/listen"
    }

    /// Whether it asks the upstream to go on with it as a task.
    pub(crate) fn asks_for_task(&self) -> bool {
        let params = self.params.as_deref().map(|params| parse(params, &reading(params.len())));
        params.is_some_and(|read| read.is_ok_and(|params| params.get(TASK).is_some()))
    }

    /// How long an action waits for its answer.
    pub(crate) fn patience(&self, call_timeout: Duration) -> Duration {
        if self.listens() { FOREVER } else { call_timeout }
    }

    /// The message under our id.
    pub(crate) fn frame(&self, id: u64) -> Vec<u8> {
        match (&self.params, &self.progress) {
            (Some(params), Some(progress)) => {
                let params = splice::replace(params, &progress.span, id.to_string().as_bytes());
                request_frame(id, &self.method, Some(&params))
            }
            (params, _) => request_frame(id, &self.method, params.as_deref()),
        }
    }
}

/// The id that a progress notification is about, if it is one of ours.
pub(crate) fn progress_id(frame: &Frame) -> Option<u64> {
    match frame.message() {
        Message::Notification { method, params: Some(params) } if method == "notifications/progress" => {
            params.get("progressToken")?.as_u64(frame.bytes())
        }
        _ => None,
    }
}

/// Why a request that was sent is not waited for any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Halt {
    Stop(Stop),
    Late,
}

impl Halt {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Stop(stop) => stop.as_str(),
            Self::Late => "the upstream did not answer in time",
        }
    }
}

/// A request that was sent was halted. A stream that its client ended did what it was opened for.
pub(crate) fn halted(request: &Outbound, halt: Halt, bytes_sent: usize) -> Executed<Reply> {
    if request.listens() && halt == Halt::Stop(Stop::Cancelled) {
        return ended(Status::Done, "the stream was open until its client ended it", bytes_sent);
    }
    unknown(halt.as_str(), bytes_sent)
}

/// Nothing went upstream.
pub(crate) fn not_started(note: &str) -> Executed<Reply> {
    ended(Status::NotStarted, note, 0)
}

/// Something went upstream, and no answer came.
pub(crate) fn unknown(note: &str, bytes_sent: usize) -> Executed<Reply> {
    ended(Status::Unknown, note, bytes_sent)
}

/// The upstream refused without an answer of its own.
pub(crate) fn failed(note: &str, bytes_sent: usize) -> Executed<Reply> {
    ended(Status::Failed, note, bytes_sent)
}

fn ended(status: Status, note: &str, bytes_sent: usize) -> Executed<Reply> {
    Executed {
        status,
        result: Vec::new(),
        rows: None,
        bytes_sent: bytes_sent as u64,
        note: Some(note.to_owned()),
        cost_microusd: None,
        undo: None,
        redacted: false,
        reply: None,
    }
}

/// What goes back to the agent, without secrets. The record commits to what the upstream said; it is not that. A task is
/// handed to nobody: what it comes to would not be redacted.
pub(crate) fn redacted(executed: Executed<Reply>) -> Executed<Reply> {
    let reply = executed.reply.filter(|reply| reply.kind() != Kind::Task).and_then(Reply::redacted);
    Executed { redacted: true, reply, ..executed }
}

/// The upstream answered.
pub(crate) fn answered(reply: Reply, bytes_sent: usize) -> Executed<Reply> {
    let (status, note) = match reply.outcome() {
        Outcome::Error(_) => (Status::Failed, Some("the upstream answered with a JSON-RPC error")),
        Outcome::Result(result) if result.as_object().is_none() => {
            (Status::Unknown, Some("the upstream's result is no object"))
        }
        Outcome::Result(_) if reply.kind() == Kind::InputRequired => (Status::InputRequired, None),
        Outcome::Result(_) if reply.kind() == Kind::Task => {
            (Status::Unknown, Some("the upstream goes on with it as a task, whose end is on no record"))
        }
        Outcome::Result(result) => match result.get("isError").and_then(|flag| flag.as_bool()) {
            Some(true) => (Status::Failed, Some("the upstream's result says that it is an error")),
            _ => (Status::Done, None),
        },
    };
    Executed {
        status,
        result: reply.raw().to_vec(),
        rows: None,
        bytes_sent: bytes_sent as u64,
        note: note.map(str::to_owned),
        // MCP names neither.
        cost_microusd: None,
        undo: None,
        redacted: false,
        reply: Some(reply),
    }
}
