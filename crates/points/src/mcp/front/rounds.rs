//! Calls of more than one round: an upstream answers with questions, the client calls again with the answers
//! (2026-07-28, `basic/patterns/mrtr`).
//!
//! Handing a question over is an action of its own, decided and on record before the client sees it; one that is not allowed
//! ends the round, and nothing of the upstream's answer goes out. The call that comes again is opened from the state that the
//! client carried, and goes through the governor as a continuation. That it goes on once is the kernel's to judge. It must
//! not know what a question says. It does not cover the legacy era, where an upstream asks beside its answers.

use std::sync::Arc;

use bytes::Bytes;
use countersign_effects::json::{Limits, Node, parse};
use countersign_gate::call::{Answer, Call, Continuation};
use countersign_model::action::Point;
use countersign_model::id::UpstreamId;
use countersign_model::record::{Claimed, Status};
use countersign_model::unit::LeafIndex;
use countersign_model::{Caller, Digest, Reason, ReasonCode};
use tokio_util::sync::CancellationToken;

use super::Front;
use super::asked::Asked;
use super::given::{Given, Proposed, capabilities};
use super::questions::{flagged, is_offered};
use super::work::Work;
use crate::Governor;
use crate::mcp::adapt::rounds::{self, Carried, QUESTIONS, has_rounds, with_ahead};
use crate::mcp::adapt::{self, Form, Judged, Withheld};
use crate::mcp::execute::{Kind, Reply};
use crate::mcp::methods::{Method, as_tool};
use crate::mcp::parked::APPROVAL;
use crate::mcp::route::Params;
use crate::mcp::state::{Bound, State, StateError, open, request, seal};
use crate::mcp::wire::envelope::check_keys;
use crate::mcp::wire::splice::OURS;
use crate::mcp::wire::{Era, FrameError, INVALID_PARAMS, Outcome};

/// How long a state can be opened, in milliseconds. Longer than any gate lets a call wait: what bounds a continuation is the
/// kernel, which knows what is on record.
const STATE_MS: u64 = 31 * 24 * 60 * 60_000;
/// The most questions of one answer.
const QUESTIONS_MAX: usize = 16;

/// Which round of a call this is.
#[derive(Debug, Default)]
pub(super) struct Round {
    /// The request that states are bound to; none where no state can be.
    pub(super) request: Option<Digest>,
    /// What it goes on with; nothing in the first round.
    pub(super) state: State,
    /// The client's answers, raw, for the record and for the upstream; none where it goes on with no call.
    input: Option<Vec<u8>>,
    /// Whether the user was asked to open the approval page, and would not.
    pub(super) is_declined: bool,
}

impl Round {
    /// Which call it goes on with, and the answers that are on record for that.
    pub(super) fn continues(&self) -> (Option<Continuation>, Vec<u8>) {
        let continues = self.state.continues.map(|intent| Continuation { intent });
        (continues, self.input.clone().unwrap_or_default())
    }
}

/// One question of an upstream in an answer.
struct Question {
    key: String,
    method: &'static str,
    /// Its parameters without `_meta`, raw.
    judged: Vec<u8>,
    /// What looks wrong in it.
    flagged: Option<String>,
}

impl Question {
    fn digest(&self) -> Digest {
        let parts = [self.key.as_bytes(), self.method.as_bytes(), &self.judged];
        Digest::of("countersign question v1", &parts)
    }
}

/// On whose account an upstream asks.
pub(super) struct Asking<'a> {
    pub(super) caller: &'a Caller,
    pub(super) upstream: &'a UpstreamId,
    /// What the client said that it can do.
    pub(super) capabilities: Option<&'a Node>,
    pub(super) cancel: &'a CancellationToken,
}

fn asking(given: &Given) -> Asking<'_> {
    Asking {
        caller: &given.proposed.caller,
        upstream: &given.proposed.upstream,
        capabilities: capabilities(&given.params),
        cancel: &given.cancel,
    }
}

/// A question that does not go out, and why.
pub(super) struct Unasked {
    pub(super) question: String,
    pub(super) why: Withheld,
}

impl<G: Governor<Work>> Front<G> {
    /// Opens the state that a request carries, and puts what is the upstream's own in its place.
    ///
    /// # Errors
    /// One for every state that was not made here for exactly this.
    pub(super) fn round(
        &self,
        asked: &Asked,
        (upstream, manifest): (&UpstreamId, Option<Digest>),
        (params, judged): (&mut Params, &mut Judged),
    ) -> Result<Round, FrameError> {
        if asked.era != Era::Modern || !has_rounds(&asked.method) {
            return Ok(Round::default());
        }
        let carried = std::mem::take(&mut judged.carried);
        let digest = manifest.map(|manifest| request((&judged.tool, &manifest), &judged.arguments, &judged.meta));
        let Some(text) = &carried.state else {
            let ahead = carried.answers.as_ref().map(|answers| answers.to_vec());
            judged.meta = with_ahead(std::mem::take(&mut judged.meta), ahead.as_deref());
            let state = State { ahead, ..State::default() };
            return Ok(Round { request: digest, state, ..Round::default() });
        };
        let principal = &asked.caller.principal;
        let opened = self
            .governor
            .state_key()
            .zip(digest.as_ref())
            .map(|(key, request)| open(&key, &Bound { principal, upstream, request }, text, self.governor.now()));
        let state = opened.unwrap_or(Err(StateError::Invalid)).map_err(|error| invalid(&error))?;
        judged.meta = with_ahead(std::mem::take(&mut judged.meta), state.ahead.as_deref());
        let (input, answers) = answers_of(&state, &carried);
        let sent = answers.as_deref();
        *params = rounds::onwards(params.clone(), &state, sent)?;
        let is_declined = state.ticket.is_some() && declined(&carried);
        Ok(Round { request: digest, state, input, is_declined })
    }

    /// The response to an action, once the governor has answered.
    pub(super) async fn worded(self: &Arc<Self>, given: Given, answer: Answer<Reply>) -> Vec<u8> {
        let continues = answer.continuable();
        match (answer, continues) {
            (Answer::Ran { reply: Some(reply), receipt: Some(receipt), .. }, Some(intent))
                if given.round.request.is_some() && reply.kind() == Kind::InputRequired =>
            {
                let receipt = adapt::receipt_json(receipt.to_json().ok());
                self.hand_over(&given, (&reply, intent), &receipt).await
            }
            (Answer::Parked { ticket, expires, gates, repeated, receipt }, _) => {
                let receipt = adapt::receipt_json(receipt.to_json().ok());
                self.parked(given, adapt::Parked { ticket, expires, gates, repeated, receipt }).await
            }
            (Answer::Ran { status, reply: Some(reply), receipt, .. }, _)
                if given.era == Era::Modern && asks(&reply) =>
            {
                let note = "its answer asks, and is none that may";
                self.unsupported(&given.proposed.caller, note).await;
                let answer = Answer::Ran { status, reply: None, note: Some(note.to_owned()), receipt };
                adapt::answer(&given.id, answer, given.form())
            }
            (answer, _) => adapt::answer(&given.id, answer, given.form()),
        }
    }

    async fn unsupported(&self, caller: &Caller, detail: &str) {
        let reason = Reason::because(ReasonCode::Unsupported, detail);
        self.governor.refuse(Point::Mcp, Some(caller.principal.clone()), reason).await;
    }

    /// Hands an upstream's questions over, if each of them may be; else says why not.
    async fn hand_over(&self, given: &Given, (reply, intent): (&Reply, LeafIndex), receipt: &str) -> Vec<u8> {
        let withheld = |question: &str, why| adapt::withheld(&given.id, question, why, Some(receipt), given.form());
        let asked = match self.decided(&asking(given), reply, |_| false).await {
            Ok(asked) => asked,
            Err(Unasked { question, why }) => return withheld(&question, why),
        };
        let prefix = given.form().prefix;
        match self.sealed(given, (reply, intent), asked) {
            Ok(state) => rounds::asking((&given.id, reply), (&state, receipt), prefix),
            Err(error) => {
                self.governor.refuse(Point::Mcp, Some(given.proposed.caller.principal.clone()), error.reason()).await;
                withheld(rounds::STATE, Withheld::Denied(vec![error.reason()]))
            }
        }
    }

    /// The response to an exchange, where its answer asks the client something that may not go out; none where it may pass.
    /// Only a task asks in an exchange (the extension `io.modelcontextprotocol/tasks`, "Input Required").
    pub(super) async fn undecided(&self, asked: &Asked, upstream: &UpstreamId, reply: &Reply) -> Option<Vec<u8>> {
        let is_round = reply.kind() == Kind::InputRequired;
        if !is_round && !asks(reply) {
            return None;
        }
        let form = Form { era: asked.era, tool: None, prefix: None, task: None };
        let task = asked.params.get("taskId").and_then(Node::as_str);
        let Some(task) = task.filter(|_| !is_round) else {
            let detail = format!("an upstream may ask nothing in the answer to `{}`", asked.method);
            self.unsupported(&asked.caller, &detail).await;
            return Some(adapt::withheld(&asked.id, QUESTIONS, Withheld::Unfit(detail), None, form));
        };
        // An exchange is not cancelled, and neither is what it leads to.
        let cancel = CancellationToken::new();
        let asking =
            Asking { caller: &asked.caller, upstream, capabilities: capabilities(&asked.params), cancel: &cancel };
        match self.decided(&asking, reply, |question| self.tasks.was_asked(upstream, task, question)).await {
            Ok(questions) => {
                self.tasks.asked(upstream, task, questions.into_iter().map(|(_, digest)| digest));
                None
            }
            Err(Unasked { question, why }) => Some(adapt::withheld(&asked.id, &question, why, None, form)),
        }
    }

    /// The names of the questions, each of which may go out. The first that may not ends it. What `is_known` was decided
    /// before.
    pub(super) async fn decided(
        &self,
        asking: &Asking<'_>,
        reply: &Reply,
        is_known: impl Fn(&Digest) -> bool,
    ) -> Result<Vec<(String, Digest)>, Unasked> {
        let questions = match questions(reply, asking.capabilities) {
            Ok(questions) => questions,
            Err((question, detail)) => {
                self.unsupported(asking.caller, &detail).await;
                return Err(Unasked { question, why: Withheld::Unfit(detail) });
            }
        };
        let mut asked = Vec::new();
        for question in questions {
            let digest = question.digest();
            let why = if is_known(&digest) { None } else { self.kept_back(asking, &question).await };
            if let Some(why) = why {
                return Err(Unasked { question: question.method.to_owned(), why });
            }
            asked.push((question.key, digest));
        }
        Ok(asked)
    }

    /// Takes one question through the governor; why it does not go out, if it does not.
    async fn kept_back(&self, asking: &Asking<'_>, question: &Question) -> Option<Withheld> {
        let internal = || Some(Withheld::Denied(vec![Reason::plain(ReasonCode::Internal)]));
        let Some((tool, manifest)) = as_tool(question.method) else { return internal() };
        let call = Call {
            caller: asking.caller.clone(),
            point: Point::Mcp,
            upstream: asking.upstream.clone(),
            tool,
            manifest: Some(manifest),
            flagged: question.flagged.clone(),
            arguments: question.judged.clone(),
            meta: Vec::new(),
            cancel: asking.cancel.child_token(),
            claimed: Claimed::default(),
            continues: None,
            input: Vec::new(),
        };
        let work = Arc::new(Work::Asking(asking.upstream.clone()));
        match self.governor.govern(call, work).await {
            // Only what is on record goes out.
            Answer::Ran { status: Status::Done, receipt: Some(_), .. } => None,
            Answer::Ran { .. } => internal(),
            Answer::Parked { ticket, expires, gates, .. } => Some(Withheld::Parked { ticket, expires, gates }),
            Answer::Denied { reasons, .. } => Some(Withheld::Denied(reasons)),
        }
    }

    /// The state that the client carries from an answer that asks to the call with the answers.
    fn sealed(
        &self,
        given: &Given,
        (reply, intent): (&Reply, LeafIndex),
        asked: Vec<(String, Digest)>,
    ) -> Result<String, StateError> {
        let theirs = match reply.outcome() {
            Outcome::Result(result) => result.get(rounds::STATE).map(|state| state.raw(reply.frame().bytes()).to_vec()),
            Outcome::Error(_) => None,
        };
        self.carried(
            given,
            State {
                continues: Some(intent),
                upstream: theirs,
                asked: asked.into_iter().map(|(key, _)| key).collect(),
                ahead: given.round.state.ahead.clone(),
                ..State::default()
            },
        )
    }

    /// The text that the client carries, good for the same call of the same caller alone.
    pub(super) fn carried(&self, given: &Given, state: State) -> Result<String, StateError> {
        let (Some(key), Some(request)) = (self.governor.state_key(), &given.round.request) else {
            return Err(StateError::Invalid);
        };
        let Proposed { caller, upstream, .. } = &given.proposed;
        let expires = self.governor.now().saturating_add_ms(STATE_MS);
        seal(&key, &Bound { principal: &caller.principal, upstream, request }, &State { expires, ..state })
    }
}

/// Whether an answer asks, or could be read so.
fn asks(reply: &Reply) -> bool {
    matches!(reply.outcome(), Outcome::Result(result) if rounds::asks(result))
}

/// Whether the user would not open the approval page. Whatever it says, it is no consent.
fn declined(carried: &Carried) -> bool {
    let answers = carried.answers.as_ref().and_then(|answers| parse(answers, &Limits::default()).ok());
    let action = answers.as_ref().and_then(|answers| answers.get(APPROVAL)?.get("action")?.as_str());
    action.is_some_and(|action| action != "accept")
}

fn invalid(error: &StateError) -> FrameError {
    let reason = error.reason();
    FrameError { code: INVALID_PARAMS, reason: reason.code, detail: error.to_string() }
}

/// The answers that are on record, and those that go upstream. What a call was parked with comes from the state, for the client
/// was asked about the consent since.
fn answers_of(state: &State, carried: &Carried) -> (Option<Vec<u8>>, Option<Vec<u8>>) {
    match (state.continues, &state.ticket) {
        (Some(_), None) => {
            let answers = rounds::answered(carried, &state.asked);
            (answers.clone(), answers)
        }
        (Some(_), Some(_)) => (state.answers.clone(), state.answers.clone()),
        (None, _) => (None, state.ahead.clone()),
    }
}

/// The questions of an answer, if all of them are such as the client takes; else the first that is not, and why.
fn questions(reply: &Reply, capabilities: Option<&Node>) -> Result<Vec<Question>, (String, String)> {
    let input: &Bytes = reply.frame().bytes();
    let (Outcome::Result(result) | Outcome::Error(result)) = reply.outcome();
    let wrong = |question: &str, detail: &str| (question.to_owned(), detail.to_owned());
    let misspelled = |question: &str, error: FrameError| (question.to_owned(), error.detail);
    rounds::check_spelling(result).map_err(|error| misspelled(QUESTIONS, error))?;
    let Some(asked) = result.get(QUESTIONS) else { return Ok(Vec::new()) };
    let asked = asked.as_object().ok_or_else(|| wrong(QUESTIONS, "an upstream's questions are no object"))?;
    if asked.len() > QUESTIONS_MAX {
        return Err(wrong(QUESTIONS, "an upstream asks too much at once"));
    }
    let mut questions = Vec::new();
    for (key, question) in asked {
        let shown: String =
            question.get("method").and_then(Node::as_str).unwrap_or_default().escape_default().take(80).collect();
        let method = question.get("method").and_then(Node::as_str).and_then(Method::question);
        let method = method
            .ok_or_else(|| (shown.clone(), format!("an upstream asked `{shown}`, which is no question that passes")))?;
        let members = question.as_object().unwrap_or_default();
        check_keys(members, &["method", "params"]).map_err(|error| misspelled(method.name, error))?;
        if key.starts_with(OURS) {
            return Err(wrong(method.name, "an upstream asked under a name that is the gateway's"));
        }
        let params = question.get("params");
        if !capabilities.is_some_and(|all| is_offered(all, method.name, params)) {
            return Err((shown.clone(), format!("an upstream asked `{shown}`, which the client does not offer")));
        }
        let judged = match params {
            Some(params) if params.as_object().is_some() => adapt::without_meta(params, input),
            Some(_) => return Err(wrong(method.name, "the parameters of an upstream's question are no object")),
            None => b"{}".to_vec(),
        };
        let flagged = flagged(method.name, params);
        questions.push(Question { key: key.clone(), method: method.name, judged, flagged });
    }
    Ok(questions)
}
