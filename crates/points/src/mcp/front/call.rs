//! Requests that reach the upstream: calls, which the governor decides, and listings, which are exchanges.
//!
//! Both run in tasks of their own: a client that goes away does not cancel what it asked for, only a cancellation
//! does. It must not know how a decision is made. It does not cover cancelling a listing: it ends by itself.

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use countersign_effects::json::Node;
use countersign_gate::call::{Answer, Call};
use countersign_model::action::Point;
use countersign_model::id::ToolName;
use countersign_model::{Caller, Reason, ReasonCode};
use hyper::{Response, StatusCode};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::body::ReplyBody;
use super::checks::Accepts;
use super::post::answer_json;
use super::refusal::Refusal;
use super::session::Busy;
use super::{EVENTS_QUEUE, Front, Session};
use crate::Governor;
use crate::mcp::ACTION;
use crate::mcp::adapt::{self, Schema, ToolCall};
use crate::mcp::execute::channel::{Channel, ClientHello};
use crate::mcp::execute::outbound::{Outbound, Progress};
use crate::mcp::execute::{Executor, LinkError, Reply, manifest};
use crate::mcp::wire::{
    Era, Frame, FrameError, INTERNAL_ERROR, Id, NOT_STARTED, Outcome, error_frame, response_frame, sse,
};

/// One request of a client in a session.
pub(super) struct Asked {
    pub(super) caller: Caller,
    pub(super) session: Arc<Session>,
    pub(super) id: Id,
    pub(super) frame: Frame,
    pub(super) params: Option<Node>,
    pub(super) accepts: Accepts,
}

impl Asked {
    fn refused(&self, error: &FrameError) -> Refusal {
        Refusal::rpc(StatusCode::BAD_REQUEST, Some(&self.id), error)
    }

    fn raw_params(&self) -> Option<Bytes> {
        self.params.as_ref().map(|params| self.frame.raw(params))
    }

    /// Where progress goes, if the client asked for it and takes events.
    fn progress(&self) -> Result<Option<(Progress, mpsc::Receiver<Bytes>)>, Refusal> {
        let token = adapt::progress_token(&self.frame, self.params.as_ref()).map_err(|error| self.refused(&error))?;
        let Some((span, token)) = token else { return Ok(None) };
        // The token is replaced in any case: two clients may have chosen the same.
        let (events, receiver) = mpsc::channel(EVENTS_QUEUE);
        Ok(Some((Progress::new(span, token, events), receiver)))
    }
}

impl<G: Governor<Executor>> Front<G> {
    pub(super) async fn call(self: &Arc<Self>, asked: Asked) -> Result<Response<ReplyBody>, Refusal> {
        let read = ToolCall::read(&asked.frame, asked.params.as_ref(), &self.config.meta_allow);
        let ToolCall { tool, arguments, meta, claimed } = read.map_err(|error| asked.refused(&error))?;
        let (progress, events) = asked.progress()?.unzip();
        let cancel = CancellationToken::new();
        let place = match self.begin(&asked, &cancel).await? {
            Ok(place) => place,
            Err(response) => return Ok(response),
        };
        let listed = self.upstream.listed(&tool);
        let declared = listed.as_ref().is_some_and(|listed| listed.output_schema);
        let schema = if declared { Schema::Declared } else { Schema::Free };
        let channel = match self.channel().await {
            Ok(channel) => channel,
            Err(error) => {
                asked.session.end(asked.id.key());
                return Ok(answer_json(
                    asked.accepts,
                    error_frame(Some(&asked.id), NOT_STARTED, &error.to_string(), None),
                ));
            }
        };
        let executor = Executor::new(channel, Outbound { progress, ..Outbound::plain(ACTION, asked.raw_params()) });
        let Asked { caller, session, id, accepts, .. } = asked;
        let call = Call {
            caller,
            point: Point::Mcp,
            upstream: self.upstream.id().clone(),
            tool,
            manifest: listed.as_ref().map(|listed| listed.manifest),
            flagged: listed.and_then(|listed| listed.flagged.map(|signs| signs.to_string())),
            arguments,
            meta,
            cancel,
            claimed,
            continues: None,
            input: Vec::new(),
        };
        let governor = self.governor.clone();
        let (key, lost) = (id.clone(), id.clone());
        let work = async move {
            let answer = governor.govern(call, Arc::new(executor)).await;
            adapt::answer(&id, answer, schema)
        };
        let done = run(work, move || {
            session.end(key.key());
            drop(place);
        });
        Ok(self.respond(accepts, &lost, events, done).await)
    }

    /// Takes the id and a place for a call. The inner error is an answer: too many are in flight.
    async fn begin(
        &self,
        asked: &Asked,
        cancel: &CancellationToken,
    ) -> Result<Result<OwnedSemaphorePermit, Response<ReplyBody>>, Refusal> {
        let place = Arc::clone(&self.calls).try_acquire_owned();
        let begun = match &place {
            Ok(_) => asked.session.begin(asked.id.key(), cancel.clone()),
            Err(_) => Err(Busy::TooMany),
        };
        match (begun, place) {
            (Ok(()), Ok(place)) => Ok(Ok(place)),
            (Err(Busy::IdInUse), _) => {
                Err(Refusal::malformed(Some(&asked.id), "a request with this id is in flight in this session"))
            }
            _ => {
                let reason = Reason::plain(ReasonCode::Overloaded);
                self.governor.refuse(Point::Mcp, Some(asked.caller.principal.clone()), reason.clone()).await;
                let answer: Answer<Reply> = Answer::Denied { reasons: vec![reason], receipt: None };
                Ok(Err(answer_json(asked.accepts, adapt::answer(&asked.id, answer, Schema::Declared))))
            }
        }
    }

    pub(super) async fn list(self: &Arc<Self>, asked: Asked) -> Result<Response<ReplyBody>, Refusal> {
        let (progress, events) = asked.progress()?.unzip();
        let Ok(place) = Arc::clone(&self.calls).try_acquire_owned() else {
            let text = ReasonCode::Overloaded.sentence();
            return Ok(answer_json(asked.accepts, error_frame(Some(&asked.id), NOT_STARTED, text, None)));
        };
        let request = Outbound { progress, ..Outbound::plain("tools/list", asked.raw_params()) };
        let (upstream, id, caller) = (self.upstream.id().clone(), asked.id.clone(), asked.caller);
        let own = self.upstream.clone();
        let channel = self.channel().await;
        let governor = self.governor.clone();
        let work = async move {
            let listed = async { channel?.exchange(&request).await };
            match listed.await {
                Ok(reply) => match reply.outcome() {
                    Outcome::Result(result) => {
                        let lists = |tool: &ToolName, definition: &[u8]| {
                            let manifest = manifest(definition);
                            let listed = own.listed(tool);
                            let is_flagged = listed.is_some_and(|listed| listed.flagged.is_some());
                            let is_held = is_flagged && !governor.accepted(&upstream, (tool, manifest));
                            !is_held && governor.lists(&caller, &upstream, (tool, manifest))
                        };
                        let listed = adapt::listing(reply.frame().bytes(), result, lists);
                        response_frame(&id, "result", &listed)
                    }
                    Outcome::Error(_) => response_frame(&id, "error", &reply.raw()),
                },
                Err(error) => error_frame(Some(&id), NOT_STARTED, &error.to_string(), None),
            }
        };
        let done = run(work, move || drop(place));
        Ok(self.respond(asked.accepts, &asked.id, events, done).await)
    }

    /// What this version speaks on: the link that all clients share.
    async fn channel(&self) -> Result<Channel, LinkError> {
        let client = ClientHello { version: String::new(), capabilities: Bytes::new(), client: Bytes::new() };
        let (said, _) = mpsc::channel(1);
        self.upstream.open(Era::Legacy, &client, said).await
    }

    /// Answers with events where progress was asked for, else with one message.
    async fn respond(
        &self,
        accepts: Accepts,
        id: &Id,
        progress: Option<mpsc::Receiver<Bytes>>,
        done: oneshot::Receiver<Vec<u8>>,
    ) -> Response<ReplyBody> {
        let lost = error_frame(Some(id), INTERNAL_ERROR, "the answer is lost; what happened is in the record", None);
        match progress {
            Some(progress) if accepts.events => {
                let (events, body) = mpsc::channel(EVENTS_QUEUE);
                tokio::spawn(pump(progress, done, events, lost));
                self.events(body)
            }
            _ => answer_json(accepts, done.await.unwrap_or(lost)),
        }
    }
}

/// Runs `work` to its end whoever still waits for it; `after` runs even where it panics.
fn run(
    work: impl Future<Output = Vec<u8>> + Send + 'static,
    after: impl FnOnce() + Send + 'static,
) -> oneshot::Receiver<Vec<u8>> {
    let (done, receiver) = oneshot::channel();
    let work = tokio::spawn(work);
    tokio::spawn(async move {
        let ended = work.await;
        after();
        match ended {
            // Nobody may wait any more: the record has it.
            Ok(frame) => drop(done.send(frame)),
            Err(error) => tracing::error!(%error, "a request ended without an answer"),
        }
    });
    receiver
}

/// Progress first, then the answer, then the end of the stream.
async fn pump(
    mut progress: mpsc::Receiver<Bytes>,
    mut done: oneshot::Receiver<Vec<u8>>,
    events: mpsc::Sender<Bytes>,
    lost: Vec<u8>,
) {
    let answer = loop {
        tokio::select! {
            biased;
            Some(event) = progress.recv() => {
                if events.send(sse::encode(&event).into()).await.is_err() {
                    return;
                }
            }
            answer = &mut done => break answer.unwrap_or(lost),
        }
    };
    while let Ok(event) = progress.try_recv() {
        if events.send(sse::encode(&event).into()).await.is_err() {
            return;
        }
    }
    // The client may have gone: then nobody needs the answer.
    let _ = events.send(sse::encode(&answer).into()).await;
}
