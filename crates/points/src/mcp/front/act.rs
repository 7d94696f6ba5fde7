//! Actions: what the governor decides before anything goes upstream.
//!
//! An action runs in a task of its own. In the legacy era a client that goes away does not cancel it, only a cancellation
//! does; in the modern era closing the response stream is the cancellation. It must not know how a decision is made.

use std::sync::Arc;

use countersign_gate::call::Answer;
use countersign_model::action::Point;
use countersign_model::{Digest, Reason, ReasonCode};
use hyper::Response;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;

use super::Front;
use super::asked::Asked;
use super::body::ReplyBody;
use super::given::{Given, Proposed};
use super::refusal::Refusal;
use super::respond::{Stream, Waiting, finished, run};
use super::rounds::Round;
use super::session::Busy;
use super::work::Work;
use crate::Governor;
use crate::mcp::adapt::{self, Form, Judged, Schema};
use crate::mcp::execute::channel::Channel;
use crate::mcp::execute::{Executor, Reply};
use crate::mcp::methods::{Place, TOOLS_CALL, as_tool};
use crate::mcp::route::{Params, Target};
use crate::mcp::wire::{Era, FrameError, HEADER_MISMATCH, INVALID_PARAMS, Outcome, headers};

/// One action, read.
struct Act {
    params: Params,
    judged: Judged,
    channel: Channel,
    manifest: Option<Digest>,
    /// What looks wrong in the tool's definition.
    flagged: Option<String>,
    form: Option<Schema>,
    param_headers: Vec<(String, String)>,
    round: Round,
}

/// What an action holds until it ends.
struct Held {
    place: OwnedSemaphorePermit,
    cancel: CancellationToken,
}

impl<G: Governor<Work>> Front<G> {
    pub(super) async fn act(self: &Arc<Self>, asked: Asked, place: Place) -> Result<Response<ReplyBody>, Refusal> {
        let target = asked.endpoint.target(place, asked.params.node(), asked.params.input());
        let (at, edits) = match target.map_err(|error| asked.refused(&error))? {
            Target::One(at, edits) => (at, edits),
            Target::All => return Err(asked.refused(&nowhere(&asked.method))),
        };
        let params = asked.params.clone().under(&edits).map_err(|error| asked.refused(&error))?;
        if place == Place::Task {
            self.check_task(&asked, at, &params)?;
        }
        let judged = self.judged(&asked, &params).map_err(|error| asked.refused(&error))?;
        // Everything that can be refused as malformed is, before it counts as a call.
        asked.outbound(&params, None)?;
        let act = match self.act_on(&asked, (at, params, judged)).await {
            Ok(act) => act,
            Err(answer) => return answer,
        };
        // From here on nothing waits until the work is on its way: a client that goes away meanwhile leaves no id behind.
        match self.begin(&asked).await? {
            Ok(held) => self.acted(asked, at, act, held).await,
            Err(response) => Ok(response),
        }
    }

    fn judged(&self, asked: &Asked, params: &Params) -> Result<Judged, FrameError> {
        if asked.method == TOOLS_CALL {
            let judged = Judged::call(params, asked.era, &self.config.meta_allow)?;
            if self.config.has_method(judged.tool.as_str()) {
                let detail = "no tool can have the name of a method of the configuration";
                return Err(FrameError { code: INVALID_PARAMS, ..FrameError::shape(detail) });
            }
            return Ok(judged);
        }
        let wrong = || FrameError { code: INVALID_PARAMS, ..FrameError::shape("no record can name this method") };
        let (tool, _) = as_tool(&asked.method).ok_or_else(wrong)?;
        Judged::method(tool, params, asked.era, &self.config.meta_allow)
    }

    /// What is needed to govern it. The inner error is the answer to it.
    async fn act_on(
        self: &Arc<Self>,
        asked: &Asked,
        (at, mut params, mut judged): (usize, Params, Judged),
    ) -> Result<Act, Result<Response<ReplyBody>, Refusal>> {
        let channel = match self.channel(asked, at).await {
            Ok(channel) => channel,
            Err(none) => {
                let reason = Reason::plain(ReasonCode::UpstreamUnavailable);
                self.governor.refuse(Point::Mcp, Some(asked.caller.principal.clone()), reason).await;
                return Err(none.given(asked));
            }
        };
        let listed = if asked.method == TOOLS_CALL { channel.listed(&judged.tool) } else { None };
        let manifest = match &listed {
            Some(listed) => Some(listed.manifest),
            None if asked.method == TOOLS_CALL => None,
            None => as_tool(&asked.method).map(|(_, manifest)| manifest),
        };
        let round = self.round(asked, (channel.upstream().id(), manifest), (&mut params, &mut judged));
        let round = round.map_err(|error| Err(asked.refused(&error)))?;
        if asked.method != TOOLS_CALL {
            let param_headers = Vec::new();
            return Ok(Act { params, judged, channel, manifest, flagged: None, form: None, param_headers, round });
        }
        let declared = listed.as_ref().is_some_and(|listed| listed.output_schema);
        let form = Some(if declared { Schema::Declared } else { Schema::Free });
        let mut param_headers = Vec::new();
        if let (Era::Modern, Some(listed)) = (asked.era, &listed) {
            let arguments = (params.get("arguments"), &params.input()[..]);
            let mirrors = listed.mirrors.as_deref().ok_or_else(|| Err(asked.refused(&unmirrored())))?;
            let compared = headers::compare_params(&asked.mirroring.mirrors(), mirrors, arguments);
            compared.map_err(|detail| Err(asked.refused(&mismatch(&detail))))?;
            param_headers = headers::params(mirrors, arguments);
        }
        let upstream = channel.upstream().id();
        let flagged = listed.and_then(|listed| self.neighbours.signs(upstream, &judged.tool, &listed));
        Ok(Act { params, judged, channel, manifest, flagged, form, param_headers, round })
    }

    async fn acted(
        self: &Arc<Self>,
        asked: Asked,
        at: usize,
        act: Act,
        Held { place, cancel }: Held,
    ) -> Result<Response<ReplyBody>, Refusal> {
        let Act { params, judged, channel, manifest, flagged, form, param_headers, round } = act;
        let opened = asked.accepts.events.then(|| asked.hearing(at).map(Stream::open)).flatten();
        let (stream, speaking) = opened.unzip();
        let outbound = asked.outbound(&params, speaking.as_ref().map(|speaking| &speaking.events));
        let mut request = outbound.inspect_err(|_| self.end(&asked))?;
        request.param_headers = param_headers;
        request.aside = speaking.map(|speaking| speaking.said);
        let (continues, input) = round.continues();
        let Judged { tool, arguments, meta, claimed, .. } = judged;
        let proposed = Proposed {
            caller: asked.caller.clone(),
            upstream: channel.upstream().id().clone(),
            tool,
            manifest,
            flagged,
            arguments,
            meta,
            claimed,
            continues,
            input,
        };
        let given = Given {
            id: asked.id.clone(),
            era: asked.era,
            method: asked.method.clone(),
            session: asked.session.clone(),
            prefixed: asked.endpoint.prefix(at).is_some(),
            tool: form,
            params: asked.params.clone(),
            round,
            cancel: cancel.clone(),
            proposed,
            channel,
            request,
        };
        let guard = (asked.era == Era::Modern).then(|| cancel.drop_guard());
        let waiting = Waiting::of(&asked, guard);
        let (front, ending) = (Arc::clone(self), Arc::clone(self));
        let work = async move { front.carried_out(given).await };
        let done = run(work, move || {
            ending.end(&asked);
            drop(place);
        });
        Ok(self.respond(waiting, stream, done).await)
    }

    /// Takes an action through the governor, and words its answer.
    async fn carried_out(self: &Arc<Self>, given: Given) -> Vec<u8> {
        self.await_consent(&given).await;
        let work = Work::Action(Executor::new(given.channel.clone(), given.request.clone()));
        let answer = self.governor.govern(given.proposed.clone().call(given.cancel.clone()), Arc::new(work)).await;
        self.remember(&answer, &given.proposed);
        self.worded(given, answer).await
    }

    /// Gives a request's id back to its session, and its place to its token.
    fn end(&self, asked: &Asked) {
        if let Some(session) = &asked.session {
            session.end(asked.id.key());
        }
        self.calling.give_back(&asked.caller.principal.session, 1);
    }

    /// Remembers whose the task in an answer is.
    pub(super) fn remember(&self, answer: &Answer<Reply>, proposed: &Proposed) {
        let Answer::Ran { reply: Some(reply), .. } = answer else { return };
        let Outcome::Result(result) = reply.outcome() else { return };
        let task = result.get("task").unwrap_or(result).get("taskId").and_then(|id| id.as_str());
        if let Some(task) = task {
            self.tasks.own(&proposed.upstream, task, &proposed.caller);
        }
    }

    /// Takes the id and a place for a call. The inner error is an answer: too many are in flight.
    async fn begin(&self, asked: &Asked) -> Result<Result<Held, Response<ReplyBody>>, Refusal> {
        let cancel = CancellationToken::new();
        let place = Arc::clone(&self.calls).try_acquire_owned();
        let begun = match &place {
            Ok(_) if self.calling.take(&asked.caller.principal.session, 1) => {
                let begun = asked.session.as_ref().map(|session| session.begin(asked.id.key(), cancel.clone()));
                begun.unwrap_or(Ok(())).inspect_err(|_| self.calling.give_back(&asked.caller.principal.session, 1))
            }
            _ => Err(Busy::TooMany),
        };
        match (begun, place) {
            (Ok(()), Ok(place)) => Ok(Ok(Held { place, cancel })),
            (Err(Busy::IdInUse), _) => {
                Err(Refusal::malformed(Some(&asked.id), "a request with this id is in flight in this session"))
            }
            _ => {
                let reason = Reason::plain(ReasonCode::Overloaded);
                self.governor.refuse(Point::Mcp, Some(asked.caller.principal.clone()), reason.clone()).await;
                let answer: Answer<Reply> = Answer::Denied { reasons: vec![reason], receipt: None };
                let tool = (asked.method == TOOLS_CALL).then_some(Schema::Declared);
                let form = Form { era: asked.era, tool, prefix: None, task: None };
                Ok(Err(finished(asked.era, asked.accepts, adapt::answer(&asked.id, answer, form))))
            }
        }
    }
}

fn nowhere(method: &str) -> FrameError {
    let shown: String = method.escape_default().take(80).collect();
    let detail = format!("`{shown}` does not say which upstream it is for: use the endpoint `/mcp/UPSTREAM`");
    FrameError { code: INVALID_PARAMS, ..FrameError::shape(detail) }
}

pub(super) fn mismatch(detail: &str) -> FrameError {
    FrameError { code: HEADER_MISMATCH, ..FrameError::shape(detail) }
}

fn unmirrored() -> FrameError {
    let detail = "this tool asks for headers that cannot be, so it cannot be called without a handshake";
    FrameError { code: INVALID_PARAMS, ..FrameError::shape(detail) }
}
