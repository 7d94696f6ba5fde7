//! Leave to act, as the transports see it: the gate's permit, and in tests a scripted one.
//!
//! Outside tests [`Permit`] is the only leave and [`Effect`] the only effect in flight: keep it so. The traits
//! exist because only the gate can mint a permit, and the kill discipline must be testable here, byte by byte.

use std::future::Future;

use countersign_gate::credential::Credential;
use countersign_gate::permit::{Cut, Effect, Permit, Stop};
use countersign_model::id::UpstreamId;

/// Leave to carry out one action, once. See [`Permit`].
pub(crate) trait Leave: Send + 'static {
    /// What it becomes when it begins.
    type InFlight: InFlight;

    fn upstream(&self) -> &UpstreamId;
    fn redacts(&self) -> bool;
    fn begin(self, cut: Cut) -> Result<Self::InFlight, Stop>;
    fn stopped(&self) -> impl Future<Output = Stop> + Send;
}

/// An effect in flight, until it is dropped. See [`Effect`].
pub(crate) trait InFlight: Send + Sync + 'static {
    fn credential(&self) -> Option<&Credential>;
    fn stopped(&self) -> impl Future<Output = Stop> + Send;
    fn revoked(&self) -> impl Future<Output = Stop> + Send;
}

impl Leave for Permit {
    type InFlight = Effect;

    fn upstream(&self) -> &UpstreamId {
        Self::upstream(self)
    }

    fn redacts(&self) -> bool {
        Self::redacts(self)
    }

    fn begin(self, cut: Cut) -> Result<Effect, Stop> {
        Self::begin(self, cut)
    }

    fn stopped(&self) -> impl Future<Output = Stop> + Send {
        Self::stopped(self)
    }
}

impl InFlight for Effect {
    fn credential(&self) -> Option<&Credential> {
        Self::credential(self)
    }

    fn stopped(&self) -> impl Future<Output = Stop> + Send {
        Self::stopped(self)
    }

    fn revoked(&self) -> impl Future<Output = Stop> + Send {
        Self::revoked(self)
    }
}
