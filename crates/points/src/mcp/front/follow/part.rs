//! One upstream's part of a stream of changes.
//!
//! Each resource in it is an action, decided on its own, that lasts as long as the stream: its permit is handed to the part,
//! which opens the stream under all permits that there are and without the resources that have none. A part without
//! resources is an exchange. Its end is never lost: the upstream is told, and every action gets its outcome. It must not
//! know the other parts.

use std::sync::Arc;

use bytes::Bytes;
use countersign_effects::json::{Limits, parse};
use countersign_effects::secrets;
use countersign_gate::call::{Call, Executed};
use countersign_model::action::Point;
use countersign_model::id::UpstreamId;
use countersign_model::record::{Claimed, Status};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::filter::{Filter, RESOURCES_MAX};
use super::{ACKNOWLEDGED, Came, tagged};
use crate::Governor;
use crate::mcp::execute::channel::{Channel, Said};
use crate::mcp::execute::joint::{AnyLeave, Joint};
use crate::mcp::execute::leave::Leave;
use crate::mcp::execute::outbound::{self, Outbound};
use crate::mcp::execute::{Executor, Reply, Upstream};
use crate::mcp::front::asked::Asked;
use crate::mcp::front::respond::{is_notification, params_of, renamed};
use crate::mcp::front::work::Work;
use crate::mcp::methods::as_tool;
use crate::mcp::route::Params;
use crate::mcp::route::name::Named;
use crate::mcp::wire::{Frame, quoted, splice};

/// What an upstream says on a stream may wait so long to be heard.
const SAID_QUEUE: usize = 32;

/// One resource that waits for its permit, to be followed under it.
#[derive(Debug)]
pub struct Followed {
    upstream: UpstreamId,
    at: usize,
    joins: mpsc::Sender<Joined>,
}

/// A permit on its way to the part that needs it.
struct Joined {
    at: usize,
    leave: Box<dyn AnyLeave>,
    done: oneshot::Sender<Executed<Reply>>,
}

impl Followed {
    /// Hands the permit over, and waits for what the stream came to.
    pub(crate) async fn carry_out<L: Leave>(&self, leave: L) -> Executed<Reply> {
        if leave.upstream() != &self.upstream {
            return outbound::not_started("the permit is for another upstream");
        }
        let (done, over) = oneshot::channel();
        if self.joins.send(Joined { at: self.at, leave: Box::new(leave), done }).await.is_err() {
            return outbound::not_started("its client does not wait for the stream any more");
        }
        over.await.unwrap_or_else(|_| outbound::unknown("the gateway failed while the stream was open", 0))
    }
}

/// How the stream of a part ended.
enum Over {
    Exchange(Option<Reply>),
    Action(Executed<Reply>),
}

/// One upstream's part of a stream.
pub(super) struct Part {
    /// Its number in the stream.
    pub(super) at: usize,
    pub(super) asked: Arc<Asked>,
    pub(super) upstream: Upstream,
    pub(super) channel: Channel,
    /// With the upstream's own names.
    pub(super) filter: Filter,
    pub(super) prefixed: bool,
    /// How long the upstream may take to acknowledge.
    pub(super) patience: std::time::Duration,
    pub(super) ended: CancellationToken,
}

impl Part {
    /// Runs to its end, and says that it came to it once every outcome is on record.
    pub(super) async fn run<G: Governor<Work>>(mut self, governor: G, came: mpsc::Sender<(usize, Came)>) {
        let (mut governing, held) = self.decided(&governor).await;
        let (mut allowed, mut leaves, mut done) = (Vec::new(), Vec::new(), Vec::new());
        for joined in held {
            allowed.push(joined.at);
            leaves.push(joined.leave);
            done.push(joined.done);
        }
        let wanted = std::mem::take(&mut self.filter.resources).into_iter().enumerate();
        self.filter.resources = wanted.filter(|(at, _)| allowed.contains(at)).map(|(_, uri)| uri).collect();
        let Streamed { over, agreed, rest } = self.stream(leaves, &came).await;
        let reply = match over {
            Over::Exchange(reply) => reply,
            Over::Action(executed) => {
                for (uri, done) in self.filter.resources.iter().zip(done) {
                    // Nobody waits where the gate failed: then it has said so itself.
                    let _ = done.send(outcome(&executed, agreed.as_ref().map(|agreed| agreed.resources.contains(uri))));
                }
                executed.reply
            }
        };
        while governing.join_next().await.is_some() {}
        for event in rest.into_iter().chain([Came::Ended(reply)]) {
            // The client may have gone.
            let _ = came.send((self.at, event)).await;
        }
    }

    /// Takes the following of every resource through the governor. Those that are allowed hand their permits over, in the
    /// order of the resources; they are governed until the stream has ended.
    async fn decided<G: Governor<Work>>(&self, governor: &G) -> (JoinSet<usize>, Vec<Joined>) {
        let (joins, mut joining) = mpsc::channel(RESOURCES_MAX);
        let (mut governing, mut held) = (JoinSet::new(), Vec::<Joined>::new());
        for (at, uri) in self.filter.resources.iter().enumerate() {
            let Some(call) = self.call(uri) else { continue };
            let followed = Followed { upstream: self.upstream.id().clone(), at, joins: joins.clone() };
            let governor = governor.clone();
            governing.spawn(async move {
                governor.govern(call, Arc::new(Work::Follow(followed))).await;
                at
            });
        }
        let mut undecided = governing.len();
        while undecided > 0 {
            tokio::select! {
                biased;
                Some(joined) = joining.recv() => {
                    held.push(joined);
                    undecided = undecided.saturating_sub(1);
                }
                Some(refused) = governing.join_next() => {
                    let known = held.len();
                    // One that has its permit ends before the stream only where the gate failed.
                    held.retain(|joined| refused.as_ref().ok() != Some(&joined.at));
                    if held.len() == known {
                        undecided = undecided.saturating_sub(1);
                    }
                }
            }
        }
        held.sort_by_key(|joined| joined.at);
        (governing, held)
    }

    fn call(&self, uri: &str) -> Option<Call> {
        let (tool, manifest) = as_tool("resources/subscribe")?;
        Some(Call {
            caller: self.asked.caller.clone(),
            point: Point::Mcp,
            upstream: self.upstream.id().clone(),
            tool,
            manifest: Some(manifest),
            flagged: None,
            arguments: format!(r#"{{"uri":{}}}"#, quoted(uri)).into_bytes(),
            meta: Vec::new(),
            cancel: self.ended.clone(),
            claimed: Claimed::default(),
            continues: None,
            input: Vec::new(),
        })
    }

    /// Opens the stream and passes on what comes on it, until it is over.
    async fn stream(&self, leaves: Vec<Box<dyn AnyLeave>>, came: &mpsc::Sender<(usize, Came)>) -> Streamed {
        let redacts = leaves.iter().any(|leave| leave.redacts());
        let (aside, mut said) = mpsc::channel(SAID_QUEUE);
        let carrying = self.carry(leaves, (aside, redacts));
        let late = tokio::time::sleep(self.patience);
        tokio::pin!(carrying, late);
        let (mut agreed, mut next, mut is_late) = (None, None, false);
        let over = loop {
            tokio::select! {
                // The end first: a kill waits for it, whatever the client takes.
                biased;
                over = &mut carrying => break over,
                () = &mut late, if agreed.is_none() && !is_late => {
                    is_late = true;
                    self.ended.cancel();
                }
                place = came.reserve(), if next.is_some() => match (place, next.take()) {
                    (Ok(place), Some(event)) => place.send((self.at, event)),
                    _ => self.ended.cancel(),
                },
                Some(said) = said.recv(), if next.is_none() => next = self.hear(said, &mut agreed, redacts),
            }
        };
        let mut rest: Vec<Came> = next.into_iter().collect();
        while let Ok(said) = said.try_recv() {
            rest.extend(self.hear(said, &mut agreed, redacts));
        }
        Streamed { over, agreed, rest }
    }

    async fn carry(&self, leaves: Vec<Box<dyn AnyLeave>>, (aside, redacts): (mpsc::Sender<Said>, bool)) -> Over {
        let is_action = !leaves.is_empty();
        let Some(request) = self.request(aside) else {
            return Over::Action(outbound::not_started("the request cannot be made"));
        };
        let Some(joint) = Joint::of(self.upstream.id(), leaves) else {
            if is_action {
                return Over::Action(outbound::not_started("the permits are for another upstream"));
            }
            if self.ended.is_cancelled() {
                return Over::Exchange(None);
            }
            return Over::Exchange(self.channel.listen(&request, &self.ended).await.ok());
        };
        let executed = Executor::new(self.channel.clone(), request).carry_out(joint).await;
        Over::Action(if redacts { outbound::redacted(executed) } else { executed })
    }

    /// The request that opens the stream: the client's own `_meta`, and what is left of its filter.
    fn request(&self, aside: mpsc::Sender<Said>) -> Option<Outbound> {
        let meta = self.asked.params.get("_meta").map(|meta| self.asked.params.slice(meta))?;
        let wanted = self.filter.to_json().to_string();
        let params: Bytes =
            [br#"{"_meta":"#, meta.as_ref(), br#","notifications":"#, wanted.as_bytes(), b"}"].concat().into();
        let node = parse(&params, &reading()).ok()?;
        let request = self.asked.outbound(&Params::of(params, Some(node)), None).ok()?;
        Some(Outbound { aside: Some(aside), ..request })
    }

    /// What an upstream says is for the client; none where it did not ask for it, or before the acknowledgement.
    fn hear(&self, said: Said, agreed: &mut Option<Filter>, redacts: bool) -> Option<Came> {
        // An upstream asks in its results only; dropping a question refuses it.
        let Said::Notification(frame) = said else { return None };
        if is_notification(&frame, ACKNOWLEDGED) {
            let own = self.agreed(&frame).filter(|_| agreed.is_none())?;
            *agreed = Some(own.clone());
            let resources = own.resources.iter().map(|uri| self.shown(uri)).collect();
            return Some(Came::Acknowledged(Filter { resources, ..own }));
        }
        if agreed.is_none() || !self.filter.wants(&frame) {
            return None;
        }
        let frame = if redacts { redacted(frame)? } else { frame };
        let frame =
            if self.prefixed { Frame::read(renamed(&frame, self.upstream.id()), &reading()).ok()? } else { frame };
        tagged(&frame, &self.asked.id).map(Came::Said)
    }

    /// What of its filter the upstream agrees to, with its own names.
    fn agreed(&self, frame: &Frame) -> Option<Filter> {
        let said = Filter::read(params_of(frame).and_then(|params| params.get("notifications"))).ok()?;
        let resources = said.resources.into_iter().filter(|uri| self.filter.resources.contains(uri)).collect();
        Some(Filter { flags: said.flags.intersection(&self.filter.flags).copied().collect(), resources })
    }

    /// A resource as the client names it.
    fn shown(&self, uri: &str) -> String {
        if self.prefixed { format!("{}{uri}", Named::Uri.prefix(self.upstream.id())) } else { uri.to_owned() }
    }
}

/// What came of a stream.
struct Streamed {
    over: Over,
    /// What the upstream agreed to; none where it did not acknowledge.
    agreed: Option<Filter>,
    /// What it said last.
    rest: Vec<Came>,
}

/// What the stream came to for one of its resources.
fn outcome(stream: &Executed<Reply>, agreed: Option<bool>) -> Executed<Reply> {
    let (status, note) = match (stream.status, agreed) {
        (Status::NotStarted, _) | (_, Some(true)) => (stream.status, stream.note.as_deref()),
        (_, Some(false)) => (Status::Failed, Some("the upstream did not agree to follow it")),
        // An answer ended it; without one nobody knows what the upstream did.
        (Status::Done, None) if !stream.result.is_empty() => {
            (Status::Failed, Some("the upstream ended it unacknowledged"))
        }
        (Status::Done, None) => (Status::Unknown, Some("it was ended before the upstream acknowledged it")),
        (_, None) => (stream.status, stream.note.as_deref()),
    };
    Executed {
        status,
        note: note.map(str::to_owned),
        result: stream.result.clone(),
        bytes_sent: stream.bytes_sent,
        redacted: stream.redacted,
        ..outbound::not_started("")
    }
}

/// A notification without secrets; none where it cannot be read again.
fn redacted(frame: Frame) -> Option<Frame> {
    let clean = params_of(&frame).and_then(|params| {
        let clean = secrets::redacted(params, frame.bytes())?;
        Some(splice::replace(frame.bytes(), &params.span, &clean.json))
    });
    match clean {
        Some(bytes) => Frame::read(bytes.into(), &reading()).ok(),
        None => Some(frame),
    }
}

const fn reading() -> Limits {
    Limits { bytes_max: usize::MAX, depth_max: 128, nodes_max: usize::MAX }
}
