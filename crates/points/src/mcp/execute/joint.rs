//! One request that several permits are for: a stream of changes goes upstream under one for each of its resources.
//!
//! They begin together, where the first byte is written next, or none of them does; what stops one stops the request, and
//! all are in flight until it ends. So a kill that covers any of them waits for it. It must not know what the request is.

#[cfg(test)]
mod tests;

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

use countersign_gate::credential::Credential;
use countersign_gate::permit::{Cut, Stop};
use countersign_model::id::UpstreamId;

use super::aftermath::Outlived;
use super::leave::{InFlight, Leave};

type Waiting<'a> = Pin<Box<dyn Future<Output = Stop> + Send + 'a>>;

/// A leave of whichever kind.
pub(crate) trait AnyLeave: Send {
    fn is_for(&self, upstream: &UpstreamId) -> bool;
    fn redacts(&self) -> bool;
    fn begin(self: Box<Self>, cut: Cut) -> Result<Box<dyn AnyInFlight>, Stop>;
    fn stopped(&self) -> Waiting<'_>;
}

impl<L: Leave> AnyLeave for L {
    fn is_for(&self, upstream: &UpstreamId) -> bool {
        Leave::upstream(self) == upstream
    }

    fn redacts(&self) -> bool {
        Leave::redacts(self)
    }

    fn begin(self: Box<Self>, cut: Cut) -> Result<Box<dyn AnyInFlight>, Stop> {
        let effect = Leave::begin(*self, cut)?;
        Ok(Box::new(effect))
    }

    fn stopped(&self) -> Waiting<'_> {
        Box::pin(Leave::stopped(self))
    }
}

/// An effect in flight of whichever kind.
pub(crate) trait AnyInFlight: Send + Sync {
    fn credential(&self) -> Option<&Credential>;
    fn stopped(&self) -> Waiting<'_>;
    fn revoked(&self) -> Waiting<'_>;
}

impl<F: InFlight> AnyInFlight for F {
    fn credential(&self) -> Option<&Credential> {
        InFlight::credential(self)
    }

    fn stopped(&self) -> Waiting<'_> {
        Box::pin(InFlight::stopped(self))
    }

    fn revoked(&self) -> Waiting<'_> {
        Box::pin(InFlight::revoked(self))
    }
}

/// Several leaves for one request; at least one.
pub(crate) struct Joint {
    upstream: UpstreamId,
    leaves: Vec<Box<dyn AnyLeave>>,
}

impl Joint {
    /// None where there is no leave at all, or one of them is for another upstream. Whoever makes it keeps what its leaves
    /// say of redaction.
    pub(crate) fn of(upstream: &UpstreamId, leaves: Vec<Box<dyn AnyLeave>>) -> Option<Self> {
        let fits = !leaves.is_empty() && leaves.iter().all(|leave| leave.is_for(upstream));
        fits.then(|| Self { upstream: upstream.clone(), leaves })
    }
}

impl Leave for Joint {
    type InFlight = Together;

    fn upstream(&self) -> &UpstreamId {
        &self.upstream
    }

    /// A stream is not held back until its end: who passes it on redacts it message by message.
    fn redacts(&self) -> bool {
        false
    }

    fn begin(self, cut: Cut) -> Result<Together, Stop> {
        // Those that began end with the error: nothing was written.
        let begun: Result<Vec<_>, Stop> = self.leaves.into_iter().map(|leave| leave.begin(cut.clone())).collect();
        begun.map(Together)
    }

    fn stopped(&self) -> impl Future<Output = Stop> + Send {
        first(self.leaves.iter().map(|leave| leave.stopped()).collect())
    }
}

impl Outlived for Joint {
    /// A stream leaves nothing behind: it ends with its effect.
    fn aftermath(&self) -> impl Future<Output = Stop> + Send + 'static {
        std::future::pending()
    }
}

/// What several leaves became.
pub(crate) struct Together(Vec<Box<dyn AnyInFlight>>);

impl InFlight for Together {
    fn credential(&self) -> Option<&Credential> {
        // All are for one upstream, which has one.
        self.0.first().and_then(|effect| effect.credential())
    }

    fn stopped(&self) -> impl Future<Output = Stop> + Send {
        first(self.0.iter().map(|effect| effect.stopped()).collect())
    }

    fn revoked(&self) -> impl Future<Output = Stop> + Send {
        first(self.0.iter().map(|effect| effect.revoked()).collect())
    }
}

/// The first that resolves.
async fn first(mut waiting: Vec<Waiting<'_>>) -> Stop {
    poll_fn(|context| {
        let stopped = waiting.iter_mut().find_map(|one| match one.as_mut().poll(context) {
            Poll::Ready(stop) => Some(stop),
            Poll::Pending => None,
        });
        stopped.map_or(Poll::Pending, Poll::Ready)
    })
    .await
}
