//! Exchanges: what passes without a permit. Listings are cut down to what their caller may use; tasks pass for whom they
//! were handed to; the rest is about the caller's own session.
//!
//! An exchange changes nothing and runs to its end by itself, so nothing cancels one. It must not know how a channel
//! carries it.

use std::sync::Arc;

use countersign_effects::json::Node;
use countersign_effects::names;
use countersign_effects::names::neighbour::Mentions;
use countersign_model::id::{ToolName, UpstreamId};
use countersign_model::{Caller, ReasonCode};
use hyper::{Response, StatusCode};

use super::asked::Asked;
use super::body::ReplyBody;
use super::refusal::Refusal;
use super::respond::{Stream, Waiting, finished, run};
use super::work::Work;
use super::{Front, modern};
use crate::Governor;
use crate::mcp::adapt::list::{Merged, Page, next_cursor};
use crate::mcp::adapt::{self, hello};
use crate::mcp::execute::channel::Channel;
use crate::mcp::execute::outbound::Outbound;
use crate::mcp::execute::{LinkError, Reply, Upstream, manifest};
use crate::mcp::methods::{Listing, Place, as_tool, is_reserved};
use crate::mcp::route::cursor::{self, More};
use crate::mcp::route::rename::Prefixing;
use crate::mcp::route::{Params, Target};
use crate::mcp::wire::{
    Era, FrameError, INVALID_PARAMS, Id, NOT_STARTED, Outcome, error_frame, quoted, response_frame, splice,
};

/// Why there is no channel, as an answer to the request.
pub(super) struct NoChannel(pub(super) Vec<u8>);

impl NoChannel {
    pub(super) fn given(self, asked: &Asked) -> Result<Response<ReplyBody>, Refusal> {
        Ok(finished(asked.era, asked.accepts, self.0))
    }
}

/// One upstream that a listing of several is asked of.
struct Part {
    at: usize,
    channel: Channel,
    request: Outbound,
}

impl<G: Governor<Work>> Front<G> {
    /// A listing of one upstream, or of several as one.
    pub(super) async fn list(self: &Arc<Self>, asked: Asked, listing: Listing) -> Result<Response<ReplyBody>, Refusal> {
        if asked.endpoint.is_prefixed() {
            return self.list_all(asked, listing).await;
        }
        let is_first = asked.params.get("cursor").is_none();
        self.pass(asked, 0, move |front, passed| match passed.reply.outcome() {
            Outcome::Result(result) => {
                let page = Page { input: passed.reply.frame().bytes(), result };
                let keeps = |item: &Node| front.keeps((&passed.caller, &passed.upstream), listing, item, page.input);
                let mut page = page.alone(listing, &keeps);
                if is_first && listing == Listing::Tasks {
                    page = front.with_own_tasks(&passed.caller, page);
                }
                response_frame(&passed.id, "result", &page)
            }
            Outcome::Error(_) => response_frame(&passed.id, "error", &passed.reply.raw()),
        })
        .await
    }

    /// Whether a caller sees an item. What it may never use, and what no call could name, it does not.
    fn keeps(&self, (caller, upstream): (&Caller, &UpstreamId), listing: Listing, item: &Node, input: &[u8]) -> bool {
        match listing {
            Listing::Tools => {
                let is_method = |name: &str| is_reserved(name) || self.config.has_method(name);
                let name = item.get("name").and_then(Node::as_str).filter(|name| !is_method(name));
                let tool = name.and_then(|name| ToolName::new(name).ok());
                tool.is_some_and(|tool| {
                    let known = (&tool, manifest(item.raw(input)));
                    // What looks wrong is held back until a human accepts the very definition.
                    let is_held = self.is_flagged(upstream, &tool, item) && !self.governor.accepted(upstream, known);
                    !is_held && self.governor.lists(caller, upstream, known)
                })
            }
            Listing::Tasks => {
                let task = item.get("taskId").and_then(Node::as_str);
                task.is_some_and(|task| self.tasks.is_of(upstream, task, caller))
            }
            Listing::Prompts | Listing::Resources | Listing::Templates => as_tool(listing.serves())
                .is_some_and(|(tool, manifest)| self.governor.lists(caller, upstream, (&tool, manifest))),
        }
    }

    /// Whether something looks wrong in a tool, by itself or beside the tools of other upstreams.
    fn is_flagged(&self, upstream: &UpstreamId, tool: &ToolName, definition: &Node) -> bool {
        let beside = || self.neighbours.is_shadow(upstream, tool, Some(&Mentions::of(definition)));
        !names::of_tool(definition).is_empty() || (!self.neighbours.is_alone() && beside())
    }

    /// One page of several upstreams. One that is down, or does not know the method, is left out.
    async fn list_all(self: &Arc<Self>, asked: Asked, listing: Listing) -> Result<Response<ReplyBody>, Refusal> {
        let more = match asked.params.get("cursor").map(|cursor| cursor.as_str().and_then(cursor::read)) {
            Some(None) => return Err(asked.refused(&wrong("`cursor` is none of this gateway's"))),
            Some(Some(more)) => Some(more),
            None => None,
        };
        let Ok(place) = Arc::clone(&self.calls).try_acquire_owned() else { return Ok(overloaded(&asked)) };
        let mut parts = Vec::new();
        for (at, upstream) in asked.endpoint.upstreams().iter().enumerate() {
            let theirs = more.as_ref().map(|more| more.get(upstream.id().as_str()));
            if matches!(theirs, Some(None)) {
                continue;
            }
            let params = with_cursor(&asked.params, theirs.flatten()).map_err(|error| asked.refused(&error))?;
            let request = asked.outbound(&params, None)?;
            if let Ok(channel) = self.channel(&asked, at).await {
                parts.push(Part { at, channel, request });
            }
        }
        let front = Arc::clone(self);
        let waiting = Waiting::of(&asked, None);
        let done = run(async move { front.list_parts(asked, listing, parts).await }, move || drop(place));
        Ok(self.respond(waiting, None, done).await)
    }

    async fn list_parts(self: &Arc<Self>, asked: Asked, listing: Listing, parts: Vec<Part>) -> Vec<u8> {
        let asking: Vec<_> = parts
            .into_iter()
            .map(|Part { at, channel, request }| tokio::spawn(async move { (at, channel.exchange(&request).await) }))
            .collect();
        let (mut merged, mut more) = (Merged::new(listing), More::new());
        // In the order of the upstreams, however they answer.
        for page in asking {
            let Ok((at, Ok(reply))) = page.await else { continue };
            let (Outcome::Result(result), Some(upstream)) = (reply.outcome(), asked.endpoint.upstream(at)) else {
                continue;
            };
            let page = Page { input: reply.frame().bytes(), result };
            let keeps = |item: &Node| self.keeps((&asked.caller, upstream.id()), listing, item, page.input);
            merged.add(page, &keeps, upstream.id());
            if let Some(cursor) = next_cursor(result) {
                more.insert(upstream.id().to_string(), cursor.to_owned());
            }
        }
        let mut page = merged.result(asked.era, cursor::written(&more).as_deref());
        if listing == Listing::Tasks && asked.params.get("cursor").is_none() {
            page = self.with_own_tasks(&asked.caller, page);
        }
        response_frame(&asked.id, "result", &page)
    }

    /// An exchange about one task, if it was handed to the caller.
    pub(super) async fn task(self: &Arc<Self>, mut asked: Asked) -> Result<Response<ReplyBody>, Refusal> {
        let at = match self.narrowed(&mut asked, Place::Task)? {
            Some(at) => at,
            None => return Err(asked.refused(&wrong("`taskId` must be a string"))),
        };
        self.check_task(&asked, at, &asked.params)?;
        self.pass(asked, at, |_, passed| passed.renamed()).await
    }

    /// Refuses a task that the caller was not handed.
    pub(super) fn check_task(&self, asked: &Asked, at: usize, params: &Params) -> Result<(), Refusal> {
        modern::check_speaks_tasks(asked)?;
        let task = params.get("taskId").and_then(Node::as_str).unwrap_or_default();
        let upstream = asked.endpoint.upstream(at).map(Upstream::id);
        if upstream.is_some_and(|upstream| self.tasks.is_of(upstream, task, &asked.caller)) {
            return Ok(());
        }
        // Someone else's looks like one that never was.
        let error = FrameError {
            code: INVALID_PARAMS,
            reason: ReasonCode::Malformed,
            detail: "no task of this id was handed to this caller".to_owned(),
        };
        Err(Refusal::rpc(StatusCode::OK, Some(&asked.id), &error))
    }

    /// An exchange about the caller's own session: at one upstream, or at all that know it.
    pub(super) async fn own(self: &Arc<Self>, mut asked: Asked, place: Place) -> Result<Response<ReplyBody>, Refusal> {
        match self.narrowed(&mut asked, place)? {
            Some(at) => self.pass(asked, at, |_, passed| passed.renamed()).await,
            None => self.own_all(asked).await,
        }
    }

    async fn own_all(self: &Arc<Self>, asked: Asked) -> Result<Response<ReplyBody>, Refusal> {
        let request = asked.outbound(&asked.params, None)?;
        let Ok(place) = Arc::clone(&self.calls).try_acquire_owned() else { return Ok(overloaded(&asked)) };
        let (front, waiting) = (Arc::clone(self), Waiting::of(&asked, None));
        let done = run(async move { front.own_parts(asked, request).await }, move || drop(place));
        Ok(self.respond(waiting, None, done).await)
    }

    /// The answer of all that know it. What was begun goes on whoever waits: a process is shared.
    async fn own_parts(self: &Arc<Self>, asked: Asked, request: Outbound) -> Vec<u8> {
        let (mut done, mut refused) = (false, None);
        for at in 0..asked.endpoint.upstreams().len() {
            let Ok(channel) = self.channel(&asked, at).await else { continue };
            match channel.exchange(&request).await {
                Ok(reply) if matches!(reply.outcome(), Outcome::Result(_)) => done = true,
                Ok(reply) => refused = refused.or(Some(reply.raw())),
                Err(_) => {}
            }
        }
        match (done, refused) {
            (false, Some(error)) => response_frame(&asked.id, "error", &error),
            (false, None) => {
                error_frame(Some(&asked.id), NOT_STARTED, ReasonCode::UpstreamUnavailable.sentence(), None)
            }
            (true, _) => response_frame(&asked.id, "result", b"{}"),
        }
    }

    /// What upstreams say of themselves to a client without a handshake.
    pub(super) async fn discover(self: &Arc<Self>, asked: Asked) -> Result<Response<ReplyBody>, Refusal> {
        if !asked.endpoint.is_prefixed() {
            modern::check_would_be_asked(&asked)?;
            return self
                .pass(asked, 0, |front, passed| match passed.reply.outcome() {
                    Outcome::Result(result) => {
                        let own = hello::alone(passed.reply.frame().bytes(), result, &front.config.extensions);
                        response_frame(&passed.id, "result", &own)
                    }
                    Outcome::Error(_) => response_frame(&passed.id, "error", &passed.reply.raw()),
                })
                .await;
        }
        let mut hellos = Vec::new();
        for upstream in asked.endpoint.upstreams() {
            hellos.extend(upstream.hello(asked.era).map(|hello| (upstream.id().clone(), hello)));
        }
        if hellos.is_empty() {
            return self.unpaired(&asked, None).given(&asked);
        }
        let result = hello::merged(asked.era, &hellos, "");
        Ok(finished(asked.era, asked.accepts, response_frame(&asked.id, "result", &result)))
    }

    /// Takes the prefix out of a request; none where it is for all upstreams.
    pub(super) fn narrowed(&self, asked: &mut Asked, place: Place) -> Result<Option<usize>, Refusal> {
        let target = asked.endpoint.target(place, asked.params.node(), asked.params.input());
        match target.map_err(|error| asked.refused(&error))? {
            Target::All => Ok(None),
            Target::One(at, edits) => {
                asked.params = asked.params.clone().under(&edits).map_err(|error| asked.refused(&error))?;
                Ok(Some(at))
            }
        }
    }

    /// Passes a request to one upstream and what comes back to the client, in the words of `worded`.
    async fn pass(
        self: &Arc<Self>,
        asked: Asked,
        at: usize,
        worded: impl FnOnce(&Self, Passed) -> Vec<u8> + Send + 'static,
    ) -> Result<Response<ReplyBody>, Refusal> {
        asked.outbound(&asked.params, None)?;
        let Ok(place) = Arc::clone(&self.calls).try_acquire_owned() else { return Ok(overloaded(&asked)) };
        let channel = match self.channel(&asked, at).await {
            Ok(channel) => channel,
            Err(none) => return none.given(&asked),
        };
        let opened = asked.accepts.events.then(|| asked.hearing(at).map(Stream::open)).flatten();
        let (stream, speaking) = opened.unzip();
        let mut request = asked.outbound(&asked.params, speaking.as_ref().map(|speaking| &speaking.events))?;
        request.aside = speaking.map(|speaking| speaking.said);
        let waiting = Waiting::of(&asked, None);
        let front = Arc::clone(self);
        let work = async move {
            let upstream = channel.upstream().id().clone();
            match channel.exchange(&request).await {
                Ok(reply) => {
                    if let Some(withheld) = front.undecided(&asked, &upstream, &reply).await {
                        return withheld;
                    }
                    let prefix = asked.endpoint.prefix(at).cloned();
                    worded(&front, Passed { id: asked.id, caller: asked.caller, upstream, prefix, reply })
                }
                Err(error) => lost(&asked.id, &upstream, &error),
            }
        };
        let done = run(work, move || drop(place));
        Ok(self.respond(waiting, stream, done).await)
    }
}

/// What came back from an upstream, and for whom.
struct Passed {
    id: Id,
    caller: Caller,
    upstream: UpstreamId,
    prefix: Option<UpstreamId>,
    reply: Reply,
}

impl Passed {
    /// The answer, raw but for prefixes.
    fn renamed(self) -> Vec<u8> {
        let input = self.reply.frame().bytes();
        match self.reply.outcome() {
            Outcome::Error(error) => {
                let error = adapt::rename_error(input, error, self.prefix.as_ref());
                response_frame(&self.id, "error", &error)
            }
            Outcome::Result(result) => {
                let edits = self.prefix.as_ref().map(|upstream| Prefixing::of(upstream).result(result).edits());
                let result = splice::edited(input, &result.span, &edits.unwrap_or_default());
                response_frame(&self.id, "result", &result)
            }
        }
    }
}

fn wrong(detail: &str) -> FrameError {
    FrameError { code: INVALID_PARAMS, ..FrameError::shape(detail) }
}

fn lost(id: &Id, upstream: &UpstreamId, error: &LinkError) -> Vec<u8> {
    error_frame(Some(id), NOT_STARTED, &format!("upstream `{upstream}`: {error}"), None)
}

fn overloaded(asked: &Asked) -> Response<ReplyBody> {
    let text = ReasonCode::Overloaded.sentence();
    finished(asked.era, asked.accepts, error_frame(Some(&asked.id), NOT_STARTED, text, None))
}

/// The parameters of a listing with an upstream's own cursor instead of ours.
fn with_cursor(params: &Params, cursor: Option<&String>) -> Result<Params, FrameError> {
    match (params.get("cursor"), cursor) {
        (Some(ours), Some(theirs)) => params.clone().under(&[(ours.span.clone(), quoted(theirs))]),
        _ => Ok(params.clone()),
    }
}

/// Refuses a method that is not here.
pub(super) fn ungoverned(asked: &Asked) -> Refusal {
    let shown: String = asked.method.escape_default().take(80).collect();
    let detail = format!("`{shown}` is not governed by this version, so it is not passed on");
    let status = match asked.era {
        Era::Legacy => StatusCode::OK,
        Era::Modern => StatusCode::NOT_FOUND,
    };
    Refusal::ungoverned(status, Some(&asked.id), &detail)
}
