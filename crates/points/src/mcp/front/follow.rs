//! `subscriptions/listen`: one stream of the changes that a client asks for, of one upstream or of several
//! (2026-07-28, `basic/patterns/subscriptions`).
//!
//! Each resource in it is an action that lasts as long as the stream; the kinds of lists that changed are an exchange. What
//! the client did not ask for is not passed on, whoever sends it. The first message is the acknowledgement, and every
//! message carries the client's id of the stream. Of several upstreams each has a part of its own: one that ends is left
//! out, and what the client heard of it is said to have changed. A stream lasts no longer than its caller may hear
//! anything. It must not know how a decision is made.

mod filter;
mod part;

use std::sync::Arc;

use bytes::Bytes;
use countersign_model::ReasonCode;
use hyper::{Response, StatusCode};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::asked::Asked;
use super::body::ReplyBody;
use super::refusal::Refusal;
use super::respond::finished;
use super::work::Work;
use super::{EVENTS_QUEUE, Front, SPENT};
use crate::Governor;
use crate::mcp::eras::listen::{ACKNOWLEDGED, UPDATED};
use crate::mcp::execute::{Kind, Reply};
use crate::mcp::route::name::Named;
use crate::mcp::wire::era::SUBSCRIPTION;
use crate::mcp::wire::{
    DENIED, Frame, FrameError, Id, Message, NOT_STARTED, OUTCOME_UNKNOWN, Outcome, error_frame, notification_frame,
    quoted, response_frame, splice, sse,
};
use filter::Filter;
use part::Part;

pub use part::Followed;

/// What came before the acknowledgement of all parts, at most.
const EARLY_MAX: usize = 32;

/// What comes of a part, in the order in which it comes.
enum Came {
    Said(Bytes),
    /// What the upstream agreed to, as the client names it.
    Acknowledged(Filter),
    /// With the upstream's answer, if it gave one.
    Ended(Option<Reply>),
}

impl<G: Governor<Work>> Front<G> {
    pub(super) async fn follow(self: &Arc<Self>, asked: Asked) -> Result<Response<ReplyBody>, Refusal> {
        let filter = Filter::read(asked.params.get("notifications")).map_err(|error| asked.refused(&error))?;
        asked.outbound(&asked.params, None)?;
        let too_many =
            |asked: &Asked, detail| Err(refused(asked, StatusCode::TOO_MANY_REQUESTS, ReasonCode::Overloaded, detail));
        let Ok(place) = Arc::clone(&self.follows).try_acquire_owned() else {
            return too_many(&asked, "as many streams of changes are open as may be");
        };
        if !asked.accepts.events {
            let detail = "a stream of changes is sent as `text/event-stream`";
            return Err(refused(&asked, StatusCode::NOT_ACCEPTABLE, ReasonCode::Malformed, detail));
        }
        let (mut channels, mut missing) = (Vec::new(), None);
        for at in 0..asked.endpoint.upstreams().len() {
            match self.channel(&asked, at).await {
                Ok(channel) => channels.push((at, channel)),
                Err(none) => missing = missing.or(Some(none)),
            }
        }
        if channels.is_empty() {
            let text = ReasonCode::UpstreamUnavailable.sentence();
            let frame = error_frame(Some(&asked.id), NOT_STARTED, text, None);
            return missing.map_or_else(|| Ok(finished(asked.era, asked.accepts, frame)), |none| none.given(&asked));
        }
        let (events, body) = mpsc::channel(EVENTS_QUEUE);
        let (asked, ended) = (Arc::new(asked), CancellationToken::new());
        let part = |(number, (at, channel))| self.part(&asked, (number, at, channel), &filter, &ended);
        let parts: Vec<Part> = channels.into_iter().enumerate().filter_map(part).collect();
        let token = asked.caller.principal.session.clone();
        let count = parts.iter().map(|part| part.filter.resources.len()).sum();
        // From here on nothing waits until they are given back.
        if !self.followed.take(&token, count) {
            return too_many(&asked, "as many resources are followed as may be; end a stream or name fewer");
        }
        let (front, stream) = (Arc::clone(self), Following { asked, events, ended });
        let following = tokio::spawn(stream.run(Arc::clone(self), parts));
        tokio::spawn(async move {
            if let Err(error) = following.await {
                tracing::error!(%error, "a stream of changes failed");
            }
            front.followed.give_back(&token, count);
            drop(place);
        });
        Ok(self.events(body))
    }

    /// The part of the upstream at a place, and what of the filter is for it.
    fn part(
        &self,
        asked: &Arc<Asked>,
        (number, at, channel): (usize, usize, crate::mcp::execute::channel::Channel),
        filter: &Filter,
        ended: &CancellationToken,
    ) -> Option<Part> {
        let own = filter.resources.iter().filter_map(|uri| own_name(asked, at, uri)).map(str::to_owned).collect();
        Some(Part {
            at: number,
            upstream: asked.endpoint.upstream(at)?.clone(),
            channel,
            filter: Filter { flags: filter.flags.clone(), resources: own },
            prefixed: asked.endpoint.prefix(at).is_some(),
            patience: self.config.limits.acknowledge_timeout,
            asked: Arc::clone(asked),
            ended: ended.child_token(),
        })
    }
}

fn refused(asked: &Asked, status: StatusCode, reason: ReasonCode, detail: &str) -> Refusal {
    Refusal::rpc(status, Some(&asked.id), &FrameError { reason, ..FrameError::shape(detail) })
}

/// A resource as the upstream at a place names it; none where it is another's.
fn own_name<'u>(asked: &Asked, at: usize, uri: &'u str) -> Option<&'u str> {
    if !asked.endpoint.is_prefixed() {
        return Some(uri);
    }
    asked.endpoint.owner(Named::Uri, uri).filter(|(owner, _)| *owner == at).map(|(_, rest)| rest)
}

/// Why a stream ends, where its parts are not the reason.
enum End {
    /// Its client went, or heard the last message.
    Gone,
    /// The gateway stops.
    Stopping,
    /// Nothing may be said to its caller any more.
    CutOff(&'static str),
}

/// One stream of changes.
struct Following {
    asked: Arc<Asked>,
    events: mpsc::Sender<Bytes>,
    ended: CancellationToken,
}

impl Following {
    /// Runs until the client goes or may hear nothing more, the gateway stops, or no part is left.
    async fn run<G: Governor<Work>>(self, front: Arc<Front<G>>, parts: Vec<Part>) {
        let (came, coming) = mpsc::channel(EVENTS_QUEUE);
        let mut running = JoinSet::new();
        let stands = || front.governor.stands(&self.asked.caller);
        let merged = Merged::new((&self, &stands), &parts);
        for part in parts {
            running.spawn(part.run(front.governor.clone(), came.clone()));
        }
        drop(came);
        // A client that does not read holds up nothing but itself.
        let end = tokio::select! {
            biased;
            why = front.cut_off(&self.asked.caller) => End::CutOff(why),
            () = front.shutdown.cancelled() => End::Stopping,
            () = self.events.closed() => End::Gone,
            end = merged.run(coming) => end,
        };
        self.ended.cancel();
        let last = match end {
            End::Gone => None,
            End::Stopping => Some(complete(&self.asked.id)),
            End::CutOff(why) => Some(error_frame(Some(&self.asked.id), DENIED, why, None)),
        };
        if let Some(last) = last {
            // One that is so far behind hears nothing more.
            let _ = self.events.try_send(sse::encode(&last).into());
        }
        // A stop of the gateway waits for the client's connection, and so for the outcomes.
        while running.join_next().await.is_some() {}
    }
}

/// The parts of a stream as its client sees them.
struct Merged<'a> {
    id: &'a Id,
    events: &'a mpsc::Sender<Bytes>,
    /// Whether the token that opened it still opens anything.
    stands: &'a (dyn Fn() -> bool + Send + Sync),
    parts: Vec<State>,
    /// Whether an upstream's own answer is the stream's: there is no other, and nothing is renamed.
    is_alone: bool,
    is_open: bool,
    /// What came from parts that have acknowledged before all have.
    early: Vec<(usize, Bytes)>,
}

#[derive(Default)]
struct State {
    agreed: Option<Filter>,
    is_over: bool,
}

impl<'a> Merged<'a> {
    fn new((stream, stands): (&'a Following, &'a (dyn Fn() -> bool + Send + Sync)), parts: &[Part]) -> Self {
        let is_alone = parts.len() == 1 && parts.first().is_some_and(|part| !part.prefixed);
        let parts = parts.iter().map(|_| State::default()).collect();
        let (id, events) = (&stream.asked.id, &stream.events);
        Self { id, events, stands, parts, is_alone, is_open: false, early: Vec::new() }
    }

    /// Passes on what the parts say, to the last message of the stream.
    async fn run(mut self, mut coming: mpsc::Receiver<(usize, Came)>) -> End {
        let mut last = None;
        while let Some((at, came)) = coming.recv().await {
            if !(self.stands)() {
                return End::CutOff(SPENT);
            }
            let Some(part) = self.parts.get_mut(at) else { continue };
            match came {
                // Nothing comes before the acknowledgement of all.
                Came::Said(event) if !self.is_open => {
                    if self.early.len() < EARLY_MAX {
                        self.early.push((at, event));
                    }
                }
                Came::Said(event) => self.send(event).await,
                Came::Acknowledged(agreed) => part.agreed = Some(agreed),
                Came::Ended(reply) => {
                    part.is_over = true;
                    let reply = reply.filter(|reply| reply.kind() != Kind::InputRequired);
                    last = reply.filter(|_| self.is_alone || !self.is_open);
                    self.leave_out(at).await;
                }
            }
            if self.parts.iter().all(|part| part.is_over) {
                break;
            }
            self.open().await;
        }
        let frame = match last {
            Some(reply) => answer(self.id, &reply),
            None if self.is_open => complete(self.id),
            None => error_frame(Some(self.id), OUTCOME_UNKNOWN, "no upstream acknowledged the stream", None),
        };
        self.send(frame.into()).await;
        End::Gone
    }

    /// Acknowledges once every part that is not over has.
    async fn open(&mut self) {
        let waits = self.parts.iter().any(|part| !part.is_over && part.agreed.is_none());
        if self.is_open || waits {
            return;
        }
        self.is_open = true;
        let mut agreed = Filter::default();
        for part in self.parts.iter().filter(|part| !part.is_over).filter_map(|part| part.agreed.as_ref()) {
            agreed.flags.extend(&part.flags);
            agreed.resources.extend(part.resources.iter().cloned());
        }
        self.send(acknowledgement(self.id, &agreed)).await;
        for (at, event) in std::mem::take(&mut self.early) {
            if self.parts.get(at).is_some_and(|part| !part.is_over) {
                self.send(event).await;
            }
        }
    }

    /// Says of what the client heard from a part that it changed: nothing more will come of it, and the client should look
    /// again. It is not opened anew on its behalf, for to follow a resource is an action.
    async fn leave_out(&self, at: usize) {
        let Some(agreed) = self.parts.get(at).and_then(|part| part.agreed.as_ref()) else { return };
        if self.is_alone || !self.is_open {
            return;
        }
        for method in agreed.methods() {
            self.send(own_notification(self.id, method, "")).await;
        }
        for uri in &agreed.resources {
            self.send(own_notification(self.id, UPDATED, &format!(r#""uri":{},"#, quoted(uri)))).await;
        }
    }

    /// A client that went is seen elsewhere.
    async fn send(&self, frame: Bytes) {
        let _ = self.events.send(sse::encode(&frame).into()).await;
    }
}

/// The last message of a stream, as the upstream answered.
fn answer(id: &Id, reply: &Reply) -> Vec<u8> {
    match reply.outcome() {
        Outcome::Error(_) => response_frame(id, "error", &reply.raw()),
        Outcome::Result(result) => {
            let tagged = splice::with_meta(reply.frame().bytes(), result, &[(SUBSCRIPTION, id.raw())]);
            response_frame(id, "result", &tagged.unwrap_or_else(|| reply.raw().to_vec()))
        }
    }
}

/// The last message of a stream, in our own words.
fn complete(id: &Id) -> Vec<u8> {
    let result = format!(r#"{{"resultType":"complete","_meta":{{"{SUBSCRIPTION}":{}}}}}"#, id.raw());
    response_frame(id, "result", result.as_bytes())
}

/// A notification under the client's id of the stream.
fn tagged(frame: &Frame, id: &Id) -> Option<Bytes> {
    let Message::Notification { method, params } = frame.message() else { return None };
    let Some(params) = params else { return Some(own_notification(id, method, "")) };
    let edits = splice::meta_edits(params, &[(SUBSCRIPTION, id.raw())])?;
    Some(splice::edited(frame.bytes(), &(0..frame.bytes().len()), &edits).into())
}

/// A notification with these members, each with a comma behind it.
fn own_notification(id: &Id, method: &str, members: &str) -> Bytes {
    let params = format!(r#"{{{members}"_meta":{{"{SUBSCRIPTION}":{}}}}}"#, id.raw());
    notification_frame(method, Some(&params)).into()
}

fn acknowledgement(id: &Id, filter: &Filter) -> Bytes {
    own_notification(id, ACKNOWLEDGED, &format!(r#""notifications":{},"#, filter.to_json()))
}
