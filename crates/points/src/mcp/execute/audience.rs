//! Who hears what an upstream says on a link that several clients share.
//!
//! A line of a shared pipe names no client. What could be another agent's data (a log message, a question) goes to
//! the one client that it can be about, and to nobody where that is not exactly one; see [`super::board`]. Changes
//! of listings concern everybody; an updated resource concerns who subscribed to it. It must not know transports.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::said::{Said, tell};
use crate::mcp::wire::Frame;
use crate::mcp::wire::log::Level;

/// Resources that one client may be subscribed to.
const URIS_MAX: usize = 1024;

/// A client's number; none is 0, which is the gateway itself.
pub(crate) type Member = u64;

/// A principal, in a spelling that only it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Owner(Arc<str>);

impl From<&str> for Owner {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

/// The clients of one shared link.
#[derive(Default)]
pub(crate) struct Audience {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    members: BTreeMap<Member, Ears>,
    last: Member,
    /// The level of the log that the upstream was told.
    told: Option<Level>,
}

struct Ears {
    said: mpsc::Sender<Said>,
    uris: BTreeSet<String>,
    /// What of the log it asked for.
    level: Option<Level>,
    /// Whose it is, where it is one principal's.
    owner: Option<Owner>,
    closed: CancellationToken,
}

impl Audience {
    /// An audience of one.
    pub(crate) fn of(said: mpsc::Sender<Said>, closed: CancellationToken) -> Self {
        let audience = Self::default();
        let _ = audience.join((said, None), closed, 1);
        audience
    }

    /// Adds a client; `None` where `members_max` are here already.
    pub(crate) fn join(
        &self,
        (said, owner): (mpsc::Sender<Said>, Option<Owner>),
        closed: CancellationToken,
        members_max: usize,
    ) -> Option<Member> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.members.len() >= members_max {
            return None;
        }
        inner.last = inner.last.saturating_add(1);
        let member = inner.last;
        inner.members.insert(member, Ears { said, uris: BTreeSet::new(), level: None, owner, closed });
        Some(member)
    }

    /// Removes a client; gives the resources that nobody else is subscribed to.
    pub(crate) fn leave(&self, member: Member) -> Vec<String> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(gone) = inner.members.remove(&member) else { return Vec::new() };
        gone.uris.into_iter().filter(|uri| !inner.members.values().any(|ears| ears.uris.contains(uri))).collect()
    }

    /// Where one client listens.
    pub(crate) fn ears(&self, member: Member) -> Option<mpsc::Sender<Said>> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.members.get(&member).map(|ears| ears.said.clone())
    }

    /// Whose a client is, where it is one principal's.
    pub(crate) fn owner(&self, member: Member) -> Option<Owner> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.members.get(&member).and_then(|ears| ears.owner.clone())
    }

    /// Whether the upstream was told to log as much as `level`.
    pub(crate) fn is_told(&self, level: Level) -> bool {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.told.is_some_and(|told| told <= level)
    }

    /// Notes what of the log a client hears, and what the upstream is told by now.
    pub(crate) fn listens_from(&self, member: Member, level: Level, told: Level) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.told = Some(inner.told.map_or(told, |before| before.min(told)));
        if let Some(ears) = inner.members.get_mut(&member) {
            ears.level = Some(level);
        }
    }

    /// Whether a client hears a message of the log at this level.
    pub(crate) fn hears(&self, member: Member, level: Level) -> bool {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let asked = inner.members.get(&member).and_then(|ears| ears.level);
        asked.or(inner.told.map(|_| Level::INFO)).is_none_or(|least| level >= least)
    }

    /// Tells everybody.
    pub(crate) fn tell_all(&self, frame: &Frame) {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.members.values().for_each(|ears| tell(&ears.said, frame));
    }

    /// Tells who subscribed to `uri`.
    pub(crate) fn tell_subscribers(&self, uri: &str, frame: &Frame) {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.members.values().filter(|ears| ears.uris.contains(uri)).for_each(|ears| tell(&ears.said, frame));
    }

    /// Notes a subscription that the upstream accepted; `false` where the client has as many as it may.
    pub(crate) fn subscribe(&self, member: Member, uri: &str) -> bool {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(ears) = inner.members.get_mut(&member) else { return true };
        if ears.uris.len() >= URIS_MAX && !ears.uris.contains(uri) {
            return false;
        }
        ears.uris.insert(uri.to_owned());
        true
    }

    /// Forgets a subscription; says whether somebody else still has it, so that the upstream must not hear of it.
    pub(crate) fn unsubscribe(&self, member: Member, uri: &str) -> bool {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ears) = inner.members.get_mut(&member) {
            ears.uris.remove(uri);
        }
        inner.members.values().any(|ears| ears.uris.contains(uri))
    }

    /// The link was lost, and with it every subscription. Who had one opens anew; nobody is subscribed on its behalf,
    /// for a subscription is an action.
    pub(crate) fn lost(&self) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.told = None;
        inner.members.values().filter(|ears| !ears.uris.is_empty()).for_each(|ears| ears.closed.cancel());
    }
}
