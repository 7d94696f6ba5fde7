//! The one stream of changes that a legacy session has at a modern upstream.
//!
//! Such a stream cannot be altered. Where the session wants to hear more or less, another one is opened, and the old one ends
//! once the new one is acknowledged, so that nothing is missed. A stream that is lost while the session is subscribed to
//! resources ends the channel: its client subscribes anew, for nobody subscribes on its behalf. It must not know who may
//! subscribe to what.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::mcp::eras::listen::{self, Wanted};
use crate::mcp::eras::request::{self, Speaker};
use crate::mcp::execute::Upstream;
use crate::mcp::execute::audience::Member;
use crate::mcp::execute::channel::{Channel, Said};
use crate::mcp::execute::outbound::{Outbound, reading};
use crate::mcp::execute::said::tell;
use crate::mcp::wire::{Era, Frame};

/// What comes on streams may wait so long to be heard.
const EVENTS_QUEUE: usize = 32;

/// What the session wants to hear.
#[derive(Clone, Default)]
struct Order {
    number: u64,
    wanted: Wanted,
}

/// What the upstream agreed to, of which order.
#[derive(Clone, Default)]
struct Agreed {
    number: u64,
    resources: BTreeSet<String>,
}

/// The handle of a session on its stream.
pub(super) struct Stream {
    orders: watch::Sender<Order>,
    agreed: watch::Receiver<Agreed>,
}

impl Stream {
    /// Opens a stream for `lists`, as the client that speaks. Ends with the channel.
    pub(super) fn open(channel: &Channel, (speaker, lists): (&Speaker<'_>, Wanted), said: mpsc::Sender<Said>) -> Self {
        let (orders, ordered) = watch::channel(Order { number: 0, wanted: lists });
        let (agree, agreed) = watch::channel(Agreed::default());
        let meta = request::made(speaker, ",\"notifications\":");
        let keeper = Keeper {
            upstream: channel.upstream().clone(),
            member: channel.member(),
            closed: channel.closed().clone(),
            pause: channel.upstream().limits().backoff_max,
            meta,
            said,
            agree,
            open: BTreeMap::new(),
        };
        tokio::spawn(keeper.keep(ordered));
        Self { orders, agreed }
    }

    /// Adds a resource; whether the upstream agreed to tell of it. `false` where there are `resources_max` already.
    pub(super) async fn add(&self, uri: &str, resources_max: usize) -> bool {
        let mut number = None;
        self.orders.send_if_modified(|order| {
            let resources = &mut order.wanted.resources;
            if resources.len() >= resources_max && !resources.contains(uri) {
                return false;
            }
            resources.insert(uri.to_owned());
            order.number = order.number.saturating_add(1);
            number = Some(order.number);
            true
        });
        let Some(number) = number else { return false };
        let mut agreed = self.agreed.clone();
        let found = agreed.wait_for(|agreed| agreed.number >= number).await;
        found.is_ok_and(|agreed| agreed.resources.contains(uri))
    }

    /// Forgets a resource.
    pub(super) fn remove(&self, uri: &str) {
        self.orders.send_if_modified(|order| {
            let known = order.wanted.resources.remove(uri);
            if known {
                order.number = order.number.saturating_add(1);
            }
            known
        });
    }
}

/// What came on a stream.
enum Came {
    Said(Frame),
    Over,
}

/// Keeps the stream open.
struct Keeper {
    upstream: Upstream,
    member: Member,
    closed: CancellationToken,
    pause: Duration,
    /// What stands before the filter in the parameters, and one brace too many.
    meta: Bytes,
    said: mpsc::Sender<Said>,
    agree: watch::Sender<Agreed>,
    /// The streams that are open, by their orders.
    open: BTreeMap<u64, CancellationToken>,
}

impl Keeper {
    async fn keep(mut self, mut orders: watch::Receiver<Order>) {
        let (events, mut coming) = mpsc::channel(EVENTS_QUEUE);
        let mut order = orders.borrow_and_update().clone();
        self.start(&order, &events);
        let again = tokio::time::sleep(Duration::ZERO);
        tokio::pin!(again);
        let mut waits = false;
        loop {
            tokio::select! {
                biased;
                () = self.closed.cancelled() => return,
                changed = orders.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    order = orders.borrow_and_update().clone();
                    waits = false;
                    self.start(&order, &events);
                }
                () = again.as_mut(), if waits => {
                    waits = false;
                    self.start(&order, &events);
                }
                Some((number, came)) = coming.recv() => match came {
                    Came::Said(frame) => self.hear(number, &frame),
                    Came::Over => {
                        self.open.remove(&number);
                        if number == order.number {
                            if self.is_lost(&order) {
                                self.closed.cancel();
                                return;
                            }
                            self.agree.send_replace(Agreed { number, resources: BTreeSet::new() });
                            again.as_mut().reset(tokio::time::Instant::now() + self.pause);
                            waits = true;
                        }
                    }
                },
            }
        }
    }

    /// Whether something was lost that the session counts on.
    fn is_lost(&self, order: &Order) -> bool {
        let agreed = self.agree.borrow();
        agreed.number == order.number && !agreed.resources.is_empty()
    }

    /// Opens a stream for an order; none where nothing is wanted.
    fn start(&mut self, order: &Order, events: &mpsc::Sender<(u64, Came)>) {
        if order.wanted.is_empty() {
            std::mem::take(&mut self.open).into_values().for_each(|ended| ended.cancel());
            self.agree.send_replace(Agreed { number: order.number, resources: BTreeSet::new() });
            return;
        }
        let ended = self.closed.child_token();
        self.open.insert(order.number, ended.clone());
        let filter = order.wanted.filter();
        let head = self.meta.strip_suffix(b"}").unwrap_or_default();
        let params = Bytes::from([head, filter.as_bytes(), b"}"].concat());
        let (upstream, member, number) = (self.upstream.clone(), self.member, order.number);
        tokio::spawn(run((upstream, member), params, (number, events.clone()), ended));
    }

    fn hear(&mut self, number: u64, frame: &Frame) {
        if let Some(agreed) = Wanted::acknowledged(frame) {
            let newer = self.open.split_off(&number);
            std::mem::replace(&mut self.open, newer).into_values().for_each(|ended| ended.cancel());
            self.agree.send_replace(Agreed { number, resources: agreed.resources });
            return;
        }
        match Frame::read(listen::to_legacy(frame).into(), &reading(usize::MAX)) {
            Ok(frame) => tell(&self.said, &frame),
            Err(error) => tracing::error!(%error, "a notification could not be put into other words"),
        }
    }
}

/// One stream, to its end.
async fn run(
    (upstream, member): (Upstream, Member),
    params: Bytes,
    (number, events): (u64, mpsc::Sender<(u64, Came)>),
    ended: CancellationToken,
) {
    if let Some(leg) = upstream.live().and_then(|live| live.leg(Era::Modern).cloned()) {
        let (aside, mut said) = mpsc::channel(EVENTS_QUEUE);
        let request = Outbound { aside: Some(aside), ..Outbound::plain("subscriptions/listen", Some(params)) };
        let listening = leg.link.listen((&request, member), &ended);
        tokio::pin!(listening);
        loop {
            tokio::select! {
                biased;
                Some(heard) = said.recv() => {
                    // An upstream asks in its results only; dropping a question refuses it.
                    if let Said::Notification(frame) = heard
                        && events.send((number, Came::Said(frame))).await.is_err()
                    {
                        ended.cancel();
                    }
                }
                reply = &mut listening => {
                    tracing::debug!(ok = reply.is_ok(), "a session's stream at an upstream ended");
                    break;
                }
            }
        }
    }
    // Nobody listens any more where the channel is over.
    let _ = events.send((number, Came::Over)).await;
}
