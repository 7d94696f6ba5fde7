//! The permit: the only value with which a point can touch the outside world.
//!
//! Its fields are private and only this crate can make one, after the intent is durable. It is not
//! `Clone`; [`Permit::begin`] consumes it, checks the kill epoch and takes the counted guard in one
//! step, and only the [`Effect`] that comes out carries the upstream's credential. A point calls
//! `begin` when it owns the socket or pipe and would write next: not before it queues.
//!
//! ```compile_fail
//! // No other crate can make a permit.
//! let permit = countersign_gate::permit::Permit {};
//! ```

use std::sync::Arc;

use countersign_model::Principal;
use countersign_model::id::UpstreamId;
use countersign_model::unit::LeafIndex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::credential::Credential;
use crate::kill::{EffectId, KillSwitch};

/// Leave to carry out one action, once.
#[derive(Debug)]
pub struct Permit {
    principal: Principal,
    upstream: UpstreamId,
    credential: Option<Credential>,
    intent: LeafIndex,
    epoch: u64,
    switch: Arc<KillSwitch>,
    cancel: CancellationToken,
    terms: Terms,
}

/// What an effect is under, by the obligations of its verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Terms {
    /// When it must have ended.
    pub(crate) deadline: Option<Instant>,
    /// Whether secrets in its result must be replaced before the agent sees it.
    pub(crate) redacts: bool,
}

/// What the gate knows when it mints a permit; made only in `pipeline`.
pub(crate) struct Minting {
    pub(crate) principal: Principal,
    pub(crate) upstream: UpstreamId,
    pub(crate) credential: Option<Credential>,
    pub(crate) intent: LeafIndex,
    pub(crate) epoch: u64,
    pub(crate) switch: Arc<KillSwitch>,
    pub(crate) cancel: CancellationToken,
    pub(crate) terms: Terms,
}

/// Why an effect may not begin, or must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The kill switch covers the caller, or did since the permit was minted.
    Killed,
    /// The caller cancelled.
    Cancelled,
    /// The time that a policy gives it is over.
    Late,
}

impl Stop {
    /// For the outcome's note.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Killed => "stopped by the kill switch",
            Self::Cancelled => "cancelled by the caller",
            Self::Late => "stopped when the time was over that policy gives it",
        }
    }
}

/// Cuts the transport of an effect by force: closes the socket, kills the child process.
/// Called from any thread, at most once, when an effect did not end in time after a kill.
pub type Cut = Arc<dyn Fn() + Send + Sync>;

impl Permit {
    pub(crate) fn mint(minting: Minting) -> Self {
        let Minting { principal, upstream, credential, intent, epoch, switch, cancel, terms } = minting;
        Self { principal, upstream, credential, intent, epoch, switch, cancel, terms }
    }

    /// The upstream that this permit is for.
    #[must_use]
    pub const fn upstream(&self) -> &UpstreamId {
        &self.upstream
    }

    /// The leaf of the durable intent.
    #[must_use]
    pub const fn intent(&self) -> LeafIndex {
        self.intent
    }

    /// Whether secrets in the result must be replaced before the agent sees it. Who does so says it in
    /// [`crate::call::Executed::redacted`]; a reply of which nobody says it is withheld.
    #[must_use]
    pub const fn redacts(&self) -> bool {
        self.terms.redacts
    }

    /// Checks the kill epoch and starts the effect, under one guard. Call it when nothing stands
    /// between you and the first byte; `cut` closes the transport by force.
    ///
    /// # Errors
    /// [`Stop`] where a kill covers the caller, or covered it since the permit was minted, the caller cancelled, or the
    /// time is over.
    pub fn begin(self, cut: Cut) -> Result<Effect, Stop> {
        if self.cancel.is_cancelled() {
            return Err(Stop::Cancelled);
        }
        if self.terms.deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return Err(Stop::Late);
        }
        let (id, killed) = self.switch.enter(&self.principal, self.epoch, cut)?;
        let deadline = self.terms.deadline;
        Ok(Effect { id, killed, cancel: self.cancel, credential: self.credential, switch: self.switch, deadline })
    }

    /// What holds for whatever the effect sets going and does not wait for.
    #[must_use]
    pub fn aftermath(&self) -> Aftermath {
        let Self { principal, epoch, switch, terms, .. } = self;
        Aftermath { principal: principal.clone(), epoch: *epoch, switch: Arc::clone(switch), deadline: terms.deadline }
    }

    /// Resolves when the effect must not begin any more: lets a point give up its place in a queue.
    pub async fn stopped(&self) -> Stop {
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => Stop::Cancelled,
            () = over(self.terms.deadline) => Stop::Late,
        }
    }
}

/// What an effect is under that has ended at this end and not at the other.
#[derive(Debug)]
pub struct Aftermath {
    principal: Principal,
    epoch: u64,
    switch: Arc<KillSwitch>,
    deadline: Option<Instant>,
}

impl Aftermath {
    /// Resolves when the other end must be told to stop: a kill covers the caller, or did since the permit was minted, or
    /// the time is over.
    pub async fn over(self) -> Stop {
        tokio::select! {
            biased;
            () = self.switch.killed(&self.principal, self.epoch) => Stop::Killed,
            () = over(self.deadline) => Stop::Late,
        }
    }
}

/// An effect in flight: counted by the kill switch from before its first byte until it is dropped.
/// A kill is acknowledged only when every effect in its scope is gone.
#[derive(Debug)]
pub struct Effect {
    id: EffectId,
    killed: CancellationToken,
    cancel: CancellationToken,
    credential: Option<Credential>,
    switch: Arc<KillSwitch>,
    deadline: Option<Instant>,
}

/// Resolves at the deadline; without one, never.
async fn over(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

impl Effect {
    /// The upstream's credential, where the configuration has one.
    #[must_use]
    pub const fn credential(&self) -> Option<&Credential> {
        self.credential.as_ref()
    }

    /// Resolves when the effect must end: stop writing, tell the upstream where it can be told, and drop this.
    pub async fn stopped(&self) -> Stop {
        tokio::select! {
            biased;
            () = self.killed.cancelled() => Stop::Killed,
            () = self.cancel.cancelled() => Stop::Cancelled,
            () = over(self.deadline) => Stop::Late,
        }
    }

    /// Like [`Effect::stopped`], but for its caller's own cancellation: resolves when a kill covers it or its time is over.
    /// For what must be finished in good order although nobody waits for it any more.
    pub async fn revoked(&self) -> Stop {
        tokio::select! {
            biased;
            () = self.killed.cancelled() => Stop::Killed,
            () = over(self.deadline) => Stop::Late,
        }
    }
}

impl Drop for Effect {
    fn drop(&mut self) {
        self.switch.leave(self.id);
    }
}
