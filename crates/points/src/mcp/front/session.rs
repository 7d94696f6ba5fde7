//! Protocol sessions: what a client may find again by its session id, as long as it brings the same token.
//!
//! A session is no scope of budgets or kills: those count by token (see the design's words). It only holds which
//! request ids are in flight, who listens, and what it is towards upstreams. It must not know HTTP or policy.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use countersign_model::{Caller, Principal};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::kept::Kept;
use super::outbox::Outbox;
use super::questions::Pending;
use super::seat::Seats;
use crate::mcp::config::Limits;
use crate::mcp::execute::channel::Owner;
use crate::mcp::route::Endpoint;
use crate::mcp::wire::envelope::Key;

/// One protocol session.
pub(crate) struct Session {
    id: String,
    /// Who opened it; questions of upstreams are on its account.
    pub(crate) owner: Caller,
    /// Where it was opened; it can be used nowhere else.
    pub(crate) endpoint: Arc<Endpoint>,
    /// What it is towards each upstream.
    pub(crate) seats: Seats,
    /// What it has to hear outside of its requests.
    pub(crate) outbox: Outbox,
    /// Streams of its requests that it can go on with.
    pub(crate) kept: Kept,
    /// Questions that wait for its answer.
    pub(crate) questions: Pending,
    in_flight: Mutex<BTreeMap<Key, CancellationToken>>,
    in_flight_max: usize,
    /// Listening streams that may still be opened.
    pub(crate) streams: Arc<Semaphore>,
    /// Cancelled when the session is over.
    pub(crate) ended: CancellationToken,
    /// When it was used last, in microseconds since there are sessions.
    used_us: AtomicU64,
}

/// Why a request may not be in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Busy {
    /// Its id is in flight already.
    IdInUse,
    /// Too many are.
    TooMany,
}

impl Session {
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Takes a request's id; `cancel` is what a cancellation of it cancels.
    pub(crate) fn begin(&self, key: &Key, cancel: CancellationToken) -> Result<(), Busy> {
        let mut in_flight = self.in_flight.lock().unwrap_or_else(PoisonError::into_inner);
        if in_flight.contains_key(key) {
            return Err(Busy::IdInUse);
        }
        if in_flight.len() >= self.in_flight_max {
            return Err(Busy::TooMany);
        }
        in_flight.insert(key.clone(), cancel);
        Ok(())
    }

    /// Gives the id back.
    pub(crate) fn end(&self, key: &Key) {
        self.in_flight.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }

    /// Cancels a request of this session; `false` where none is in flight under that id.
    pub(crate) fn cancel(&self, key: &Key) -> bool {
        match self.in_flight.lock().unwrap_or_else(PoisonError::into_inner).get(key) {
            Some(cancel) => {
                cancel.cancel();
                true
            }
            None => false,
        }
    }

    fn is_idle(&self) -> bool {
        self.in_flight.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Whether nothing was asked in it since `before_us`, and nobody listens.
    fn is_left(&self, before_us: u64) -> bool {
        self.used_us.load(Ordering::Relaxed) < before_us && self.is_idle() && !self.outbox.is_heard()
    }

    fn is_of(&self, caller: &Principal) -> bool {
        is_same(&self.owner.principal, caller)
    }
}

/// Whether both bring the same token, however attenuated, for the same run.
pub(crate) fn is_same(one: &Principal, other: &Principal) -> bool {
    (&one.tenant, &one.agent, &one.session, &one.run) == (&other.tenant, &other.agent, &other.session, &other.run)
}

/// Whether what is `owner`'s may be used by `caller`: with the same token, or with one that this was narrowed from. What a
/// token was narrowed to opens nothing of the wider one.
pub(crate) fn opens_to(owner: &Caller, caller: &Caller) -> bool {
    is_same(&owner.principal, &caller.principal) && owner.blocks().starts_with(caller.blocks())
}

/// A principal, spelled like those alone for which [`is_same`] holds.
pub(crate) fn spelled(principal: &Principal) -> Owner {
    let Principal { tenant, agent, session, run, .. } = principal;
    // No id has a line end in it.
    format!("{tenant}\n{agent}\n{session}\n{run}").as_str().into()
}

/// All protocol sessions. Bounded in all and for each caller.
pub(crate) struct Sessions {
    open: Mutex<BTreeMap<String, Arc<Session>>>,
    since: Instant,
    idle_max: Duration,
    sessions_max: usize,
    per_caller_max: usize,
    calls_max: usize,
    streams_max: usize,
}

impl Sessions {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            open: Mutex::new(BTreeMap::new()),
            since: Instant::now(),
            idle_max: limits.session_idle,
            sessions_max: limits.sessions_max,
            per_caller_max: limits.sessions_per_caller_max,
            calls_max: limits.calls_per_session_max,
            streams_max: limits.streams_per_session_max,
        }
    }

    /// Opens a session for `owner`. A caller at its bound loses its own idle session that was used longest ago, never
    /// someone else's, unless that one's token does not stand any more, or nobody has used it for long. `None` where there
    /// is no room or no randomness.
    pub(crate) fn open(
        &self,
        owner: &Caller,
        (endpoint, seats): (&Arc<Endpoint>, Seats),
        stands: impl Fn(&Caller) -> bool,
    ) -> Option<Arc<Session>> {
        let id = random_id()?;
        self.forget_left(stands);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let own = open.values().filter(|session| session.is_of(&owner.principal));
        if own.clone().count() >= self.per_caller_max || open.len() >= self.sessions_max {
            let oldest =
                own.filter(|session| session.is_idle()).min_by_key(|session| session.used_us.load(Ordering::Relaxed));
            let oldest = oldest.map(|session| session.id.clone())?;
            if let Some(session) = open.remove(&oldest) {
                session.ended.cancel();
            }
        }
        let session = Arc::new(Session {
            id: id.clone(),
            owner: owner.clone(),
            endpoint: Arc::clone(endpoint),
            seats,
            outbox: Outbox::default(),
            kept: Kept::default(),
            questions: Pending::default(),
            in_flight: Mutex::new(BTreeMap::new()),
            in_flight_max: self.calls_max,
            streams: Arc::new(Semaphore::new(self.streams_max)),
            ended: CancellationToken::new(),
            used_us: AtomicU64::new(self.now_us()),
        });
        open.insert(id, Arc::clone(&session));
        Some(session)
    }

    /// The session `id` of `caller` at this endpoint. Someone else's, and one of another endpoint, look like one that
    /// never was.
    pub(crate) fn find(&self, id: &str, caller: &Caller, endpoint: &Arc<Endpoint>) -> Option<Arc<Session>> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let here =
            |session: &&Arc<Session>| opens_to(&session.owner, caller) && Arc::ptr_eq(&session.endpoint, endpoint);
        let session = open.get(id).filter(here)?;
        session.used_us.store(self.now_us(), Ordering::Relaxed);
        Some(Arc::clone(session))
    }

    /// Ends what nobody can use any more, or nobody does.
    fn forget_left(&self, stands: impl Fn(&Caller) -> bool) {
        let before_us = self.now_us().saturating_sub(u64::try_from(self.idle_max.as_micros()).unwrap_or(u64::MAX));
        let all: Vec<_> = self.open.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        for session in all.iter().filter(|session| session.is_left(before_us) || !stands(&session.owner)) {
            self.close(session);
        }
    }

    fn now_us(&self) -> u64 {
        u64::try_from(self.since.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Ends a session: its listening streams close, its calls go on, and its channels close behind them.
    pub(crate) fn close(&self, session: &Session) {
        session.ended.cancel();
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&session.id);
    }
}

/// 128 random bits in hexadecimal.
pub(super) fn random_id() -> Option<String> {
    let mut bytes = [0; 16];
    rustls::crypto::aws_lc_rs::default_provider().secure_random.fill(&mut bytes).ok()?;
    Some(bytes.iter().fold(String::with_capacity(32), |mut text, byte| {
        // Writing to a `String` cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    }))
}
