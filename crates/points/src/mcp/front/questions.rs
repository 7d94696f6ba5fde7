//! Questions of upstreams to a client: sampling, elicitation, roots.
//!
//! Handing one over is an action and goes through the governor; a client that does not offer the capability never sees
//! one. It goes out under an id of ours, its answer is taken once, from the session that was asked, within a time limit,
//! and is sent to the upstream while the permit lives, for that is what the question was permitted for. Whatever else
//! happens to it, the upstream gets an error. It must not know what a question says. It does not cover
//! the modern era, where an upstream asks in its results.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use countersign_effects::json::{Limits, Node, parse};
use countersign_effects::names::form;
use countersign_gate::call::{Answer, Call, Executed};
use countersign_model::action::Point;
use countersign_model::record::Claimed;
use countersign_model::{Caller, Reason, ReasonCode};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::session::Session;
use super::work::Work;
use crate::Governor;
use crate::mcp::adapt;
use crate::mcp::execute::channel::{Answered, Question};
use crate::mcp::execute::leave::{InFlight, Leave};
use crate::mcp::execute::outbound;
use crate::mcp::execute::{Reply, Upstream};
use crate::mcp::methods::{Method, as_tool};
use crate::mcp::wire::{DENIED, METHOD_NOT_FOUND, NOT_STARTED, PENDING};
use crate::mcp::wire::{Frame, Message, Outcome, notification_frame, quoted, request_frame};

/// Questions that may wait for one session's answers.
const PENDING_MAX: usize = 16;
/// How long a client may take to open the stream that it listens on: it opens one when its session is open already.
const LISTENING_WITHIN: Duration = Duration::from_secs(5);

/// Questions of one session that wait for answers, by our ids.
pub(crate) struct Pending {
    state: Mutex<State>,
    /// One for each question that may be decided on or wait. Taken before the decision: what finds none costs no record.
    places: Semaphore,
}

impl Default for Pending {
    fn default() -> Self {
        Self { state: Mutex::default(), places: Semaphore::new(PENDING_MAX) }
    }
}

#[derive(Default)]
struct State {
    asked: u64,
    waiting: BTreeMap<u64, oneshot::Sender<Reply>>,
}

/// What became of an answer of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Matched {
    /// It answers a question that waited.
    Now,
    /// It answers one that no longer waits.
    Late,
    /// It answers nothing that this session was asked.
    Never,
}

impl Pending {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An id for a question, and where its answer comes out.
    fn expect(&self) -> (u64, oneshot::Receiver<Reply>) {
        let mut state = self.state();
        state.asked = state.asked.saturating_add(1);
        let id = state.asked;
        let (answer, answered) = oneshot::channel();
        state.waiting.insert(id, answer);
        (id, answered)
    }

    fn forget(&self, id: u64) {
        self.state().waiting.remove(&id);
    }

    /// Takes an answer of the client.
    pub(crate) fn answer(&self, frame: Frame) -> Matched {
        let Message::Response { id: Some(id), .. } = frame.message() else { return Matched::Never };
        let Some(id) = id.as_u64() else { return Matched::Never };
        let mut state = self.state();
        let waiting = state.waiting.remove(&id);
        let was_asked = id > 0 && id <= state.asked;
        drop(state);
        match (waiting, Reply::of(frame)) {
            (Some(waiting), Some(reply)) => match waiting.send(reply) {
                Ok(()) => Matched::Now,
                Err(_) => Matched::Late,
            },
            _ if was_asked => Matched::Late,
            _ => Matched::Never,
        }
    }
}

/// Where a question goes: the stream of the request that it came up in, or else what the session hears besides.
#[derive(Clone)]
pub(crate) struct Outlet {
    pub(crate) session: Arc<Session>,
    pub(crate) stream: Option<mpsc::Sender<Bytes>>,
}

impl Outlet {
    /// Waits for a moment until there is somebody to hear a question; `false` where nobody comes.
    async fn is_heard(&self) -> bool {
        if self.stream.as_ref().is_some_and(|stream| !stream.is_closed()) {
            return true;
        }
        tokio::time::timeout(LISTENING_WITHIN, self.session.outbox.heard()).await.is_ok()
    }

    /// Sends a frame; `false` where nobody hears it.
    fn send(&self, frame: Vec<u8>) -> bool {
        let frame = Bytes::from(frame);
        if let Some(stream) = &self.stream
            && stream.try_send(frame.clone()).is_ok()
        {
            return true;
        }
        self.session.outbox.is_heard() && self.session.outbox.push(frame)
    }
}

/// A question on its way to the client, waiting for its permit.
pub struct Handing {
    outlet: Outlet,
    upstream: Upstream,
    method: &'static str,
    params: Option<Bytes>,
    within: Duration,
    question: Arc<Open>,
}

/// A question that is not answered yet.
struct Open(Mutex<Option<Question>>);

impl Open {
    fn take(&self) -> Option<Question> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Handing {
    /// Hands the question over, waits for the answer and gives it to the upstream.
    pub(crate) async fn carry_out<L: Leave>(&self, leave: L) -> Executed<Reply> {
        if leave.upstream() != self.upstream.id() {
            return outbound::not_started("the permit is for another upstream");
        }
        let pending = &self.outlet.session.questions;
        let (id, answer) = pending.expect();
        let (redacts, over) = (leave.redacts(), CancellationToken::new());
        let cut = over.clone();
        let executed = match leave.begin(Arc::new(move || cut.cancel())) {
            Ok(effect) => {
                let executed = self.ask(&effect, id, answer).await;
                let executed = if redacts { outbound::redacted(executed) } else { executed };
                self.give(&effect, executed, over).await
            }
            Err(stop) => outbound::not_started(stop.as_str()),
        };
        pending.forget(id);
        executed
    }

    /// Gives the client's answer to the upstream, whether or not the client is still there: it has answered, and a line
    /// that is cut off half-way would end a process that others share. Nothing of it is being sent when this returns.
    async fn give<F: InFlight>(
        &self,
        effect: &F,
        executed: Executed<Reply>,
        over: CancellationToken,
    ) -> Executed<Reply> {
        let Some(reply) = &executed.reply else { return executed };
        let Some(question) = self.question.take() else { return executed };
        let giving = question.deliver(answered(reply), over.clone());
        tokio::pin!(giving);
        let (stop, is_given) = tokio::select! {
            biased;
            stop = effect.revoked() => {
                over.cancel();
                (Some(stop), giving.await)
            }
            is_given = &mut giving => (None, is_given),
        };
        match stop {
            _ if is_given => executed,
            Some(stop) => outbound::unknown(stop.as_str(), usize::try_from(executed.bytes_sent).unwrap_or(usize::MAX)),
            None => Executed { note: Some("whether the upstream got the answer is not known".to_owned()), ..executed },
        }
    }

    async fn ask<F: InFlight>(&self, effect: &F, id: u64, answer: oneshot::Receiver<Reply>) -> Executed<Reply> {
        let frame = request_frame(id, self.method, self.params.as_deref());
        let sent = frame.len();
        let heard = tokio::select! {
            biased;
            stop = effect.stopped() => return outbound::not_started(stop.as_str()),
            () = self.outlet.session.ended.cancelled() => false,
            heard = self.outlet.is_heard() => heard,
        };
        if !heard || !self.outlet.send(frame) {
            return outbound::not_started("the client listens to no questions");
        }
        let why = tokio::select! {
            biased;
            stop = effect.stopped() => stop.as_str(),
            answered = answer => match answered {
                Ok(reply) => return outbound::answered(reply, sent),
                Err(_) => "the session ended before the client answered",
            },
            () = self.outlet.session.ended.cancelled() => "the session ended before the client answered",
            () = tokio::time::sleep(self.within) => "the client did not answer in time",
        };
        let params = format!(r#"{{"requestId":{id},"reason":{}}}"#, quoted(why));
        self.outlet.send(notification_frame("notifications/cancelled", Some(&params)));
        outbound::unknown(why, sent)
    }
}

impl std::fmt::Debug for Handing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Handing({}, {})", self.upstream.id(), self.method)
    }
}

/// Takes a question of `upstream` through the governor, to the client and back. Runs to its end whoever waits.
pub(crate) async fn handle<G: Governor<Work>>(
    governor: G,
    (upstream, caller): (Upstream, Caller),
    outlet: Outlet,
    question: Question,
    within: Duration,
) {
    let offered = match offered(&outlet.session, question.frame()) {
        Ok(offered) => offered,
        Err(detail) => {
            let reason = Reason::because(ReasonCode::Unsupported, &detail);
            governor.refuse(Point::Mcp, Some(caller.principal), reason).await;
            return question.answer(error(METHOD_NOT_FOUND, "this client offers no such method"));
        }
    };
    let Offered { method, params, flagged } = offered;
    let Some((tool, manifest)) = as_tool(method) else { return };
    let session = Arc::clone(&outlet.session);
    let Ok(_place) = session.questions.places.try_acquire() else {
        return question.answer(error(NOT_STARTED, "too many questions wait for this client's answers"));
    };
    let call = Call {
        caller,
        point: Point::Mcp,
        upstream: upstream.id().clone(),
        tool,
        manifest: Some(manifest),
        flagged,
        arguments: params.as_ref().map_or_else(|| b"{}".to_vec(), judged),
        meta: Vec::new(),
        cancel: outlet.session.ended.child_token(),
        claimed: Claimed::default(),
        continues: None,
        input: Vec::new(),
    };
    let cancel = call.cancel.clone();
    let withdrawn = question.withdrawn().clone();
    let question = Arc::new(Open(Mutex::new(Some(question))));
    let handing = Handing { outlet, upstream, method, params, within, question: Arc::clone(&question) };
    let governing = governor.govern(call, Arc::new(Work::Question(handing)));
    tokio::pin!(governing);
    let answer = tokio::select! {
        answer = governing.as_mut() => answer,
        () = withdrawn.cancelled() => {
            cancel.cancel();
            governing.await
        }
    };
    if let Some(question) = question.take() {
        question.answer(unanswered(answer));
    }
}

struct Offered {
    method: &'static str,
    params: Option<Bytes>,
    /// What looks wrong in it.
    flagged: Option<String>,
}

/// The question, if the client said that it takes such ones.
fn offered(session: &Session, frame: &Frame) -> Result<Offered, String> {
    let Message::Request { method, params, .. } = frame.message() else {
        return Err("an upstream's question is no request".to_owned());
    };
    let asked = Method::question(method).ok_or_else(|| {
        let shown: String = method.escape_default().take(80).collect();
        format!("an upstream asked `{shown}`, which is no question that passes")
    })?;
    let raw = &session.seats.client().capabilities;
    let declared = parse(raw, &Limits::default()).ok();
    if !declared.is_some_and(|declared| is_offered(&declared, asked.name, params.as_ref())) {
        return Err(format!("an upstream asked `{}`, which the client does not offer", asked.name));
    }
    let flagged = flagged(asked.name, params.as_ref());
    Ok(Offered { method: asked.name, params: params.as_ref().map(|params| frame.raw(params)), flagged })
}

/// What looks wrong in a question.
pub(super) fn flagged(method: &str, params: Option<&Node>) -> Option<String> {
    let signs = params.filter(|_| method == "elicitation/create").map(form::of_elicitation)?;
    Some(signs.first()?.sign.as_str().to_owned())
}

/// Whether a client with these capabilities takes such a question.
pub(super) fn is_offered(capabilities: &Node, method: &str, params: Option<&Node>) -> bool {
    let capability = match method {
        "sampling/createMessage" => "sampling",
        "elicitation/create" => "elicitation",
        _ => "roots",
    };
    capabilities.get(capability).is_some_and(|declared| takes(declared, method, params))
}

/// Whether the client takes this kind of elicitation. Without a word it takes forms (2025-11-25, `client/elicitation`).
fn takes(declared: &Node, method: &str, params: Option<&Node>) -> bool {
    let Some(members) = declared.as_object() else { return false };
    if method != "elicitation/create" {
        return true;
    }
    let mode = params.and_then(|params| params.get("mode")).map_or(Some("form"), Node::as_str);
    match mode {
        Some("form") => members.is_empty() || declared.get("form").is_some(),
        Some(mode) => declared.get(mode).is_some_and(|node| node.as_object().is_some()),
        None => false,
    }
}

/// What is judged of a question: its parameters without `_meta`.
fn judged(params: &Bytes) -> Vec<u8> {
    match parse(params, &Limits { nodes_max: usize::MAX, depth_max: 128, bytes_max: usize::MAX }) {
        Ok(node) => adapt::without_meta(&node, params),
        // It was read before, so this cannot be; what cannot be read is refused by whoever judges it.
        Err(_) => params.to_vec(),
    }
}

/// What a client answered, for the upstream.
fn answered(reply: &Reply) -> Answered {
    match reply.outcome() {
        Outcome::Result(_) => Answered::Result(reply.raw()),
        Outcome::Error(_) => Answered::Error(reply.raw()),
    }
}

/// What an upstream gets whose question was not answered.
fn unanswered(answer: Answer<Reply>) -> Answered {
    match answer {
        Answer::Ran { .. } => error(NOT_STARTED, "the client gave no answer"),
        Answer::Parked { .. } => error(PENDING, "this question waits for a human's consent; ask again later"),
        Answer::Denied { .. } => error(DENIED, "the policy here does not allow this question"),
    }
}

fn error(code: i32, message: &str) -> Answered {
    Answered::Error(format!(r#"{{"code":{code},"message":{}}}"#, quoted(message)).into())
}
