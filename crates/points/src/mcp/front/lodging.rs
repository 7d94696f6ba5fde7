//! Sessions at legacy upstreams that the gateway keeps for clients without a handshake: one for each principal and
//! upstream, so that nothing of what an upstream remembers in a session reaches another principal.
//!
//! Bounded: the one that was used longest ago makes room, and one that is not used for a while ends. What is under way in
//! it goes on to its end. It must not know what goes over a channel.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use countersign_model::Principal;
use countersign_model::id::{AgentId, RunId, SessionId, TenantId, UpstreamId};
use tokio::time::Instant;

use super::modern;
use super::seat::Seats;
use super::session::spelled;
use crate::mcp::execute::Upstream;
use crate::mcp::execute::channel::{Channel, ClientHello};
use crate::mcp::execute::link::LinkError;
use crate::mcp::wire::Era;

/// Who has a session, and where: the same token, however attenuated, in the same run.
type Key = (UpstreamId, TenantId, AgentId, SessionId, RunId);

/// All of them.
pub(super) struct Lodgings {
    state: Arc<Mutex<State>>,
    max: usize,
    idle: Duration,
}

#[derive(Default)]
struct State {
    seats: BTreeMap<Key, Kept>,
    /// Counts uses.
    tick: u64,
}

struct Kept {
    seats: Arc<Seats>,
    /// The tick of its last use.
    used: u64,
}

fn locked(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Lodgings {
    /// Room for `max` sessions; one that is not used for `idle` ends.
    pub(super) fn new(max: usize, idle: Duration) -> Self {
        Self { state: Arc::default(), max, idle }
    }

    /// The channel of a principal to an upstream.
    pub(super) async fn channel(&self, principal: &Principal, upstream: &Upstream) -> Result<Channel, LinkError> {
        let Principal { tenant, agent, session, run, .. } = principal.clone();
        let key = (upstream.id().clone(), tenant, agent, session, run);
        let client = ClientHello { owner: Some(spelled(principal)), ..modern::own_hello() };
        self.seats(key, (client, upstream)).channel(0, drop).await
    }

    fn seats(&self, key: Key, (client, upstream): (ClientHello, &Upstream)) -> Arc<Seats> {
        let mut state = locked(&self.state);
        state.tick = state.tick.saturating_add(1);
        let used = state.tick;
        if let Some(kept) = state.seats.get_mut(&key) {
            kept.used = used;
            return Arc::clone(&kept.seats);
        }
        if state.seats.len() >= self.max {
            let oldest = state.seats.iter().min_by_key(|(_, kept)| kept.used).map(|(key, _)| key.clone());
            if let Some(oldest) = oldest {
                // Its channel ends with the last request that has it.
                state.seats.remove(&oldest);
            }
        }
        let seats = Arc::new(Seats::new(Era::Modern, client, std::slice::from_ref(upstream)));
        state.seats.insert(key.clone(), Kept { seats: Arc::clone(&seats), used });
        drop(state);
        tokio::spawn(expire(Arc::downgrade(&self.state), key, (used, self.idle)));
        seats
    }
}

/// Ends a session once it was not used for `idle`.
async fn expire(state: Weak<Mutex<State>>, key: Key, (mut seen, idle): (u64, Duration)) {
    loop {
        tokio::time::sleep_until(Instant::now() + idle).await;
        let Some(state) = state.upgrade() else { return };
        let mut state = locked(&state);
        match state.seats.get(&key).map(|kept| kept.used) {
            None => return,
            Some(used) if used == seen => {
                state.seats.remove(&key);
                return;
            }
            Some(used) => seen = used,
        }
    }
}
