//! `subscriptions/listen`: one stream of the changes that a client asks for, of one upstream or of several
//! (2026-07-28, `basic/patterns/subscriptions`).
//!
//! Which resources may be in it is decided one by one, before the stream is opened; the kinds of lists that changed are an
//! exchange. What the client did not ask for is not passed on, whoever sends it. The first message is the acknowledgement,
//! and every message carries the client's id of the stream. It must not know how a decision is made.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use countersign_effects::json::{Limits, Node};
use countersign_gate::call::{Answer, Call};
use countersign_model::ReasonCode;
use countersign_model::action::Point;
use countersign_model::id::UpstreamId;
use countersign_model::record::{Claimed, Status};
use hyper::{Response, StatusCode};
use serde_json::{Map, Value};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_util::sync::CancellationToken;

use super::asked::Asked;
use super::body::ReplyBody;
use super::refusal::Refusal;
use super::respond::{finished, is_notification, params_of, renamed};
use super::work::Work;
use super::{EVENTS_QUEUE, Front};
use crate::Governor;
use crate::mcp::execute::channel::{Channel, Said};
use crate::mcp::execute::link::LinkError;
use crate::mcp::execute::outbound::Outbound;
use crate::mcp::execute::{Reply, Upstream};
use crate::mcp::methods::as_tool;
use crate::mcp::route::name::Named;
use crate::mcp::wire::{
    Frame, FrameError, INVALID_PARAMS, Id, Message, NOT_STARTED, Outcome, error_frame, notification_frame, quoted,
    response_frame, splice, sse,
};

/// Resources that one stream can be about.
const RESOURCES_MAX: usize = 64;
/// How long upstreams may take to acknowledge.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(10);
/// What an upstream says on a stream may wait so long to be heard.
const SAID_QUEUE: usize = 32;

const ACKNOWLEDGED: &str = "notifications/subscriptions/acknowledged";
const UPDATED: &str = "notifications/resources/updated";
const SUBSCRIPTION: &str = "io.modelcontextprotocol/subscriptionId";
/// The members of a filter that say yes or no, and what each is about.
const FLAGS: [(&str, &str); 3] = [
    ("toolsListChanged", "notifications/tools/list_changed"),
    ("promptsListChanged", "notifications/prompts/list_changed"),
    ("resourcesListChanged", "notifications/resources/list_changed"),
];

/// What a client asks to hear.
#[derive(Clone, Debug, Default)]
struct Filter {
    flags: BTreeSet<&'static str>,
    /// As the client names them.
    resources: Vec<String>,
}

impl Filter {
    fn read(node: Option<&Node>) -> Result<Self, FrameError> {
        let wrong = |detail: &str| FrameError { code: INVALID_PARAMS, ..FrameError::shape(detail) };
        let members = node.and_then(Node::as_object).ok_or_else(|| wrong("`notifications` must be an object"))?;
        let mut filter = Self::default();
        for (key, value) in members {
            if let Some((flag, _)) = FLAGS.iter().find(|(flag, _)| flag == key) {
                let wanted = value.as_bool().ok_or_else(|| wrong("a kind of notification is wanted or not"))?;
                if wanted {
                    filter.flags.insert(flag);
                }
            } else if key == "resourceSubscriptions" {
                let listed = value.as_array().ok_or_else(|| wrong("`resourceSubscriptions` must be an array"))?;
                if listed.len() > RESOURCES_MAX {
                    return Err(wrong(&format!("a stream is about at most {RESOURCES_MAX} resources")));
                }
                for uri in listed {
                    let uri = uri.as_str().ok_or_else(|| wrong("a resource is named by a string"))?;
                    filter.resources.push(uri.to_owned());
                }
            }
        }
        Ok(filter)
    }

    /// Whether a notification was asked for. What names no resource, or another, was not.
    fn wants(&self, frame: &Frame) -> bool {
        let Message::Notification { method, .. } = frame.message() else { return false };
        if method == UPDATED {
            // It may be about a part of what was asked for, so only that anything was is checked.
            return !self.resources.is_empty();
        }
        FLAGS.iter().any(|(flag, of)| of == method && self.flags.contains(flag))
    }

    fn to_json(&self) -> Value {
        let mut all: Map<String, Value> = self.flags.iter().map(|flag| ((*flag).to_owned(), true.into())).collect();
        if !self.resources.is_empty() {
            all.insert("resourceSubscriptions".to_owned(), self.resources.clone().into());
        }
        Value::Object(all)
    }
}

/// One upstream's part of a stream.
struct Part {
    upstream: Upstream,
    channel: Channel,
    request: Outbound,
    said: mpsc::Receiver<Said>,
    prefixed: bool,
    filter: Filter,
}

/// What comes of the parts, in the order in which it comes.
enum Came {
    Said(Bytes),
    Acknowledged(Filter),
    Ended(Result<Reply, LinkError>),
}

impl<G: Governor<Work>> Front<G> {
    pub(super) async fn follow(self: &Arc<Self>, asked: Asked) -> Result<Response<ReplyBody>, Refusal> {
        let filter = Filter::read(asked.params.get("notifications")).map_err(|error| asked.refused(&error))?;
        let place = Arc::clone(&self.follows).try_acquire_owned().map_err(|_| {
            let detail = "as many streams of changes are open as may be";
            refused(&asked, StatusCode::TOO_MANY_REQUESTS, ReasonCode::Overloaded, detail)
        })?;
        if !asked.accepts.events {
            let detail = "a stream of changes is sent as `text/event-stream`";
            return Err(refused(&asked, StatusCode::NOT_ACCEPTABLE, ReasonCode::Malformed, detail));
        }
        let mut parts = Vec::new();
        let mut missing = None;
        for at in 0..asked.endpoint.upstreams().len() {
            match self.channel(&asked, at).await {
                Ok(channel) => {
                    let own = self.permitted(&asked, at, &filter).await;
                    parts.extend(part(&asked, at, channel, own));
                }
                Err(none) => missing = missing.or(Some(none)),
            }
        }
        if parts.is_empty() {
            let text = ReasonCode::UpstreamUnavailable.sentence();
            let frame = error_frame(Some(&asked.id), NOT_STARTED, text, None);
            return missing.map_or_else(|| Ok(finished(asked.era, asked.accepts, frame)), |none| none.given(&asked));
        }
        let (events, body) = mpsc::channel(EVENTS_QUEUE);
        let (governor, caller) = (self.governor.clone(), asked.caller.clone());
        let stream = Following {
            id: asked.id.clone(),
            events,
            ended: self.shutdown.child_token(),
            stands: Box::new(move || governor.stands(&caller)),
            looked_after: self.config.limits.keep_alive,
        };
        tokio::spawn(stream.run(parts, place));
        Ok(self.events(body))
    }

    /// The part of a filter that is for the upstream at a place, without the resources that the caller may not follow.
    async fn permitted(&self, asked: &Asked, at: usize, filter: &Filter) -> Filter {
        let mut own = Filter { flags: filter.flags.clone(), resources: Vec::new() };
        for uri in &filter.resources {
            let Some(rest) = own_name(asked, at, uri) else { continue };
            if self.may_follow(asked, at, rest).await {
                own.resources.push(rest.to_owned());
            }
        }
        own
    }

    /// Takes the following of one resource through the governor.
    async fn may_follow(&self, asked: &Asked, at: usize, uri: &str) -> bool {
        let (Some(upstream), Some((tool, manifest))) = (asked.endpoint.upstream(at), as_tool("resources/subscribe"))
        else {
            return false;
        };
        let call = Call {
            caller: asked.caller.clone(),
            point: Point::Mcp,
            upstream: upstream.id().clone(),
            tool,
            manifest: Some(manifest),
            flagged: None,
            arguments: format!(r#"{{"uri":{}}}"#, quoted(uri)).into_bytes(),
            meta: Vec::new(),
            cancel: CancellationToken::new(),
            claimed: Claimed::default(),
            continues: None,
            input: Vec::new(),
        };
        let answer = self.governor.govern(call, Arc::new(Work::Follow(upstream.id().clone()))).await;
        matches!(answer, Answer::Ran { status: Status::Done, .. })
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

/// One upstream's part of a stream, and the request that opens it: the client's own `_meta`, and what is left of its
/// filter.
fn part(asked: &Asked, at: usize, channel: Channel, filter: Filter) -> Option<Part> {
    let meta = asked.params.get("_meta").map(|meta| asked.params.slice(meta))?;
    let wanted = filter.to_json().to_string();
    let params = [br#"{"_meta":"#, meta.as_ref(), br#","notifications":"#, wanted.as_bytes(), b"}"];
    let (aside, said) = mpsc::channel(SAID_QUEUE);
    let request =
        Outbound { aside: Some(aside), ..Outbound::plain("subscriptions/listen", Some(params.concat().into())) };
    let prefixed = asked.endpoint.prefix(at).is_some();
    Some(Part { upstream: asked.endpoint.upstream(at)?.clone(), channel, request, said, prefixed, filter })
}

/// One stream of changes.
struct Following {
    id: Id,
    events: mpsc::Sender<Bytes>,
    ended: CancellationToken,
    /// Whether the token that opened it still opens anything; asked before each event, and after this time without one.
    stands: Box<dyn Fn() -> bool + Send + Sync>,
    looked_after: Duration,
}

impl Following {
    /// Runs until the client goes, its token is no more, the gateway stops, or an upstream's part ends: then the client opens
    /// it anew.
    async fn run(self, parts: Vec<Part>, place: OwnedSemaphorePermit) {
        let (came, mut coming) = mpsc::channel(EVENTS_QUEUE);
        let (all, is_alone) = (parts.len(), parts.len() == 1 && parts.first().is_some_and(|part| !part.prefixed));
        for part in parts {
            tokio::spawn(listen(part, self.id.clone(), came.clone(), self.ended.clone()));
        }
        drop(came);
        let late = tokio::time::sleep(ACKNOWLEDGED_WITHIN);
        tokio::pin!(late);
        let (mut acknowledged, mut heard, mut early) = (0_usize, Filter::default(), Vec::new());
        let mut is_open = false;
        loop {
            let came = tokio::select! {
                () = self.events.closed() => break,
                () = self.ended.cancelled() => {
                    self.conclude(None).await;
                    break;
                }
                () = &mut late, if !is_open => break,
                () = tokio::time::sleep(self.looked_after) => {
                    if (self.stands)() { continue } else { break }
                }
                came = coming.recv() => came,
            };
            if !(self.stands)() {
                break;
            }
            match came {
                Some(Came::Acknowledged(filter)) => {
                    acknowledged = acknowledged.saturating_add(1);
                    heard.flags.extend(filter.flags);
                    heard.resources.extend(filter.resources);
                    if acknowledged == all {
                        is_open = self.send(acknowledgement(&self.id, &heard)).await;
                        for event in std::mem::take(&mut early) {
                            self.send(event).await;
                        }
                    }
                }
                // Nothing comes before the acknowledgement of all.
                Some(Came::Said(event)) if !is_open => {
                    if early.len() < SAID_QUEUE {
                        early.push(event);
                    }
                }
                Some(Came::Said(event)) => drop(self.send(event).await),
                Some(Came::Ended(ended)) => {
                    self.conclude(ended.ok().filter(|_| is_alone || !is_open)).await;
                    break;
                }
                None => break,
            }
        }
        self.ended.cancel();
        drop(place);
    }

    async fn send(&self, frame: Bytes) -> bool {
        self.events.send(sse::encode(&frame).into()).await.is_ok()
    }

    /// The last message: what the upstream answered, or an end of our own.
    async fn conclude(&self, reply: Option<Reply>) {
        let id = self.id.raw();
        let frame = match reply.as_ref().map(|reply| (reply, reply.outcome())) {
            Some((reply, Outcome::Error(_))) => response_frame(&self.id, "error", &reply.raw()),
            Some((reply, Outcome::Result(result))) => {
                let tagged = splice::with_meta(reply.frame().bytes(), result, &[(SUBSCRIPTION, id)]);
                response_frame(&self.id, "result", &tagged.unwrap_or_else(|| reply.raw().to_vec()))
            }
            None => {
                let result = format!(r#"{{"resultType":"complete","_meta":{{"{SUBSCRIPTION}":{id}}}}}"#);
                response_frame(&self.id, "result", result.as_bytes())
            }
        };
        self.send(frame.into()).await;
    }
}

/// One upstream's part, to its end.
async fn listen(part: Part, id: Id, came: mpsc::Sender<Came>, ended: CancellationToken) {
    let Part { upstream, channel, request, mut said, prefixed, filter } = part;
    let prefix = prefixed.then(|| upstream.id());
    let listening = channel.listen(&request, &ended);
    tokio::pin!(listening);
    loop {
        let event = tokio::select! {
            biased;
            Some(said) = said.recv() => match said {
                Said::Notification(frame) => heard(&frame, &filter, &id, prefix),
                // An upstream asks in its results only; dropping it refuses it.
                Said::Question(_) => None,
            },
            reply = &mut listening => {
                let _ = came.send(Came::Ended(reply)).await;
                return;
            }
        };
        if let Some(event) = event
            && came.send(event).await.is_err()
        {
            return;
        }
    }
}

/// What a notification of an upstream is for the client; none where it did not ask for it.
fn heard(frame: &Frame, filter: &Filter, id: &Id, prefix: Option<&UpstreamId>) -> Option<Came> {
    if is_notification(frame, ACKNOWLEDGED) {
        let agreed = Filter::read(params_of(frame).and_then(|params| params.get("notifications"))).ok()?;
        let resources = agreed.resources.into_iter().filter(|uri| filter.resources.contains(uri));
        let shown =
            resources.map(|uri| prefix.map_or_else(|| uri.clone(), |id| format!("{}{uri}", Named::Uri.prefix(id))));
        let flags = agreed.flags.intersection(&filter.flags).copied().collect();
        return Some(Came::Acknowledged(Filter { flags, resources: shown.collect() }));
    }
    if !filter.wants(frame) {
        return None;
    }
    let frame = match prefix {
        Some(upstream) => Frame::read(renamed(frame, upstream), &reading()).ok()?,
        None => frame.clone(),
    };
    tagged(&frame, id).map(Came::Said)
}

fn reading() -> Limits {
    Limits { bytes_max: usize::MAX, depth_max: 128, nodes_max: usize::MAX }
}

/// A notification under the client's id of the stream.
fn tagged(frame: &Frame, id: &Id) -> Option<Bytes> {
    let Message::Notification { method, params } = frame.message() else { return None };
    let Some(params) = params else {
        let params = format!(r#"{{"_meta":{{"{SUBSCRIPTION}":{}}}}}"#, id.raw());
        return Some(notification_frame(method, Some(&params)).into());
    };
    let edits = splice::meta_edits(params, &[(SUBSCRIPTION, id.raw())])?;
    Some(splice::edited(frame.bytes(), &(0..frame.bytes().len()), &edits).into())
}

fn acknowledgement(id: &Id, filter: &Filter) -> Bytes {
    let params = format!(r#"{{"_meta":{{"{SUBSCRIPTION}":{}}},"notifications":{}}}"#, id.raw(), filter.to_json());
    notification_frame(ACKNOWLEDGED, Some(&params)).into()
}
