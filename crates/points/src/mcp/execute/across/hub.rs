//! The streams of changes of one modern principal, on its session with a legacy upstream.
//!
//! In a session changes come unasked, and resources one by one where they were subscribed to. So each stream subscribes to
//! what is its own, hears what it asked for, and takes back what no other stream of this session wants when it ends. It
//! must not know who may follow what: that was decided before.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use countersign_gate::call::Executed;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::aside;
use crate::mcp::eras::listen::Wanted;
use crate::mcp::execute::channel::{Channel, Said};
use crate::mcp::execute::leave::{InFlight, Leave};
use crate::mcp::execute::link::LinkError;
use crate::mcp::execute::outbound::{self, Halt, Outbound, Reply, reading};
use crate::mcp::execute::pipe::CANCEL_NOTE;
use crate::mcp::execute::said::tell;
use crate::mcp::wire::{Frame, Outcome, quoted};

/// The open streams of one session.
pub(crate) struct Hub {
    streams: Mutex<Streams>,
    streams_max: usize,
    /// Held while subscriptions change, so that none is taken back that another stream has just asked for.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Streams {
    open: BTreeMap<u64, (Wanted, mpsc::Sender<Said>)>,
    last: u64,
}

impl Hub {
    pub(super) fn new(streams_max: usize) -> Self {
        Self { streams: Mutex::default(), streams_max, turn: tokio::sync::Mutex::default() }
    }

    fn streams(&self) -> MutexGuard<'_, Streams> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the streams that asked for it.
    fn tell(&self, frame: &Frame) {
        let streams = self.streams();
        streams.open.values().filter(|(wanted, _)| wanted.has(frame)).for_each(|(_, to)| tell(to, frame));
    }

    /// Runs one stream as an action, until it is stopped or the session is over.
    pub(super) async fn follow<L: Leave>(
        self: Arc<Self>,
        channel: &Channel,
        leave: L,
        request: &Outbound,
    ) -> Executed<Reply> {
        let ended = CancellationToken::new();
        let cut = ended.clone();
        let effect = match leave.begin(Arc::new(move || cut.cancel())) {
            Ok(effect) => effect,
            Err(stop) => return outbound::not_started(stop.as_str()),
        };
        let listening = self.listen(channel, request, &ended);
        tokio::pin!(listening);
        tokio::select! {
            biased;
            stop = effect.stopped() => {
                ended.cancel();
                // It is taken back in any case; the effect waits for that as long as for any word of a stop.
                if tokio::time::timeout(CANCEL_NOTE, listening).await.is_err() {
                    tracing::debug!("the subscriptions of a stream that was stopped are still being taken back");
                }
                outbound::halted(request, Halt::Stop(stop), 0)
            }
            _ = &mut listening => outbound::unknown("the session with the upstream is over", 0),
        }
    }

    /// Runs one stream until it is `ended`, its client is gone, or the session is over. Whatever becomes of whoever waits
    /// for it, it is taken back.
    pub(super) async fn listen(
        self: Arc<Self>,
        channel: &Channel,
        request: &Outbound,
        ended: &CancellationToken,
    ) -> Result<Reply, LinkError> {
        let to = request.aside.clone().ok_or(LinkError::Gone)?;
        let wanted = Wanted::asked(request.params.as_ref()).offered(channel.hello().capabilities());
        let (channel, ended) = (channel.clone(), ended.clone());
        let running = tokio::spawn(async move { self.run(&channel, (wanted, to), &ended).await });
        running.await.unwrap_or(Err(LinkError::Gone))
    }

    async fn run(
        &self,
        channel: &Channel,
        (wanted, to): (Wanted, mpsc::Sender<Said>),
        ended: &CancellationToken,
    ) -> Result<Reply, LinkError> {
        let turn = self.turn.lock().await;
        let number = self.join(wanted.clone(), to.clone()).ok_or(LinkError::Busy)?;
        let mut agreed = BTreeSet::new();
        for uri in wanted.resources.clone() {
            if subscribed(channel, &uri).await {
                agreed.insert(uri);
            }
        }
        drop(turn);
        let wanted = wanted.with(agreed);
        self.narrow(number, &wanted);
        let acknowledgement = wanted.acknowledgement();
        if let Ok(frame) = Frame::read(acknowledgement.into(), &reading(usize::MAX))
            && to.send(Said::Notification(frame)).await.is_ok()
        {
            tokio::select! {
                () = ended.cancelled() => {}
                () = channel.closed().cancelled() => {}
                () = to.closed() => {}
            }
        }
        let _turn = self.turn.lock().await;
        for uri in self.leave(number) {
            let request = about("resources/unsubscribe", &uri);
            if !channel.closed().is_cancelled() && channel.exchange_plain(&request).await.is_err() {
                tracing::debug!("a subscription could not be taken back");
            }
        }
        Err(LinkError::Gone)
    }

    fn join(&self, wanted: Wanted, to: mpsc::Sender<Said>) -> Option<u64> {
        let mut streams = self.streams();
        if streams.open.len() >= self.streams_max {
            return None;
        }
        streams.last = streams.last.saturating_add(1);
        let number = streams.last;
        streams.open.insert(number, (wanted, to));
        Some(number)
    }

    /// Forgets what the upstream did not agree to.
    fn narrow(&self, number: u64, agreed: &Wanted) {
        if let Some((wanted, _)) = self.streams().open.get_mut(&number) {
            *wanted = agreed.clone();
        }
    }

    /// Takes a stream out; gives the resources that no other one wants.
    fn leave(&self, number: u64) -> Vec<String> {
        let mut streams = self.streams();
        let Some((gone, _)) = streams.open.remove(&number) else { return Vec::new() };
        let wanted = |uri: &String| streams.open.values().any(|(wanted, _)| wanted.resources.contains(uri));
        gone.resources.into_iter().filter(|uri| !wanted(uri)).collect()
    }
}

async fn subscribed(channel: &Channel, uri: &str) -> bool {
    let request = about("resources/subscribe", uri);
    let reply = channel.exchange_plain(&request).await;
    let agreed = reply.is_ok_and(|reply| matches!(reply.outcome(), Outcome::Result(_)));
    if agreed {
        channel.note_subscribed(uri);
    }
    agreed
}

fn about(method: &'static str, uri: &str) -> Outbound {
    Outbound::plain(Cow::Borrowed(method), Some(format!(r#"{{"uri":{}}}"#, quoted(uri)).into()))
}

/// Listens to what the upstream says in the session outside of requests, until nothing can come any more.
pub(super) async fn hear(hub: Arc<Hub>, mut said: mpsc::Receiver<Said>) {
    while let Some(said) = said.recv().await {
        match said {
            Said::Notification(frame) => hub.tell(&frame),
            Said::Question(question) => aside::refuse(question),
        }
    }
}
