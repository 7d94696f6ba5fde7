//! The pipeline as a point sees it: who calls, what is listed, one call, a refusal, and what became of a ticket.
//!
//! The gate is the only governor of a running gateway; a scripted one stands in for it in tests. This module must
//! not know any protocol. It does not cover giving consent, kill or configuration: no point asks for those.

use std::future::Future;
use std::sync::Arc;

use countersign_gate::call::{Answer, Call, Execute};
use countersign_gate::{Gate, StateKey, TicketState};
use countersign_model::action::Point;
use countersign_model::id::{TicketId, ToolName, UpstreamId};
use countersign_model::{Caller, Digest, Principal, Reason, TimeMs};

/// Decides, records and permits the calls that a point frames.
pub trait Governor<E: Execute>: Clone + Send + Sync + 'static {
    /// Who presents this token.
    ///
    /// # Errors
    /// The reason why the token opens nothing.
    fn identify(&self, token: &str) -> Result<Caller, Reason>;

    /// Whether a token that was presented before still opens anything: a stream that was opened with it ends with it.
    fn stands(&self, caller: &Caller) -> bool;

    /// Resolves once a kill covers the caller, at once where one does. A governor without a kill switch has none.
    fn killed(&self, _caller: &Caller) -> impl Future<Output = ()> + Send {
        std::future::pending()
    }

    /// Whether the caller may ever call `tool` of `upstream` as `manifest` defines it: what it never may is not listed for
    /// it, and neither is what changed since somebody looked at it. A call is always decided on its own.
    fn lists(&self, caller: &Caller, upstream: &UpstreamId, tool: (&ToolName, Digest)) -> bool;

    /// Whether a human accepted `tool` of `upstream` by name, as `manifest` defines it: then it is listed whatever looks
    /// wrong in it. A governor that keeps no such list has accepted nothing.
    fn accepted(&self, _upstream: &UpstreamId, _tool: (&ToolName, Digest)) -> bool {
        false
    }

    /// Takes one call through the whole pipeline; `executor` runs only under a permit.
    fn govern(&self, call: Call, executor: Arc<E>) -> impl Future<Output = Answer<E::Reply>> + Send;

    /// Records a request that was refused before there was an action.
    fn refuse(&self, point: Point, principal: Option<Principal>, reason: Reason) -> impl Future<Output = ()> + Send;

    /// How the parked action under `ticket` stands, for whoever may redeem it; to others it is unknown. A governor that
    /// keeps no tickets knows none.
    fn ticket(&self, _caller: &Caller, _ticket: &TicketId) -> TicketState {
        TicketState::Unknown
    }

    /// Waits until a ticket's state is no longer `known`, until it lapses at the latest; dropping the future stops it.
    /// A state that cannot change any more is given at once.
    fn ticket_changed(
        &self,
        caller: &Caller,
        ticket: &TicketId,
        _known: &TicketState,
    ) -> impl Future<Output = TicketState> + Send {
        std::future::ready(self.ticket(caller, ticket))
    }

    /// The time by which such state is too old, in the governor's own clock, which never goes back. A governor without a
    /// clock finds everything too old.
    fn now(&self) -> TimeMs {
        TimeMs(u64::MAX)
    }

    /// The key under which this point authenticates state that a client carries; without one no call goes on.
    fn state_key(&self) -> Option<StateKey> {
        None
    }
}

impl<E: Execute> Governor<E> for Gate {
    fn identify(&self, token: &str) -> Result<Caller, Reason> {
        Self::identify(self, token)
    }

    fn stands(&self, caller: &Caller) -> bool {
        self.standing(caller).is_ok()
    }

    fn killed(&self, caller: &Caller) -> impl Future<Output = ()> + Send {
        Self::killed(self, &caller.principal)
    }

    fn lists(&self, caller: &Caller, upstream: &UpstreamId, (tool, manifest): (&ToolName, Digest)) -> bool {
        self.may_ever(caller, upstream, tool) && self.accepts((upstream, tool), manifest)
    }

    fn accepted(&self, upstream: &UpstreamId, (tool, manifest): (&ToolName, Digest)) -> bool {
        self.is_accepted((upstream, tool), manifest)
    }

    fn govern(&self, call: Call, executor: Arc<E>) -> impl Future<Output = Answer<E::Reply>> + Send {
        Self::govern(self, call, executor)
    }

    fn refuse(&self, point: Point, principal: Option<Principal>, reason: Reason) -> impl Future<Output = ()> + Send {
        Self::refuse(self, point, principal, reason)
    }

    fn ticket(&self, caller: &Caller, ticket: &TicketId) -> TicketState {
        Self::ticket(self, caller, ticket)
    }

    fn ticket_changed(
        &self,
        caller: &Caller,
        ticket: &TicketId,
        known: &TicketState,
    ) -> impl Future<Output = TicketState> + Send {
        Self::ticket_changed(self, caller, ticket, known)
    }

    fn now(&self) -> TimeMs {
        Self::now(self)
    }

    fn state_key(&self) -> Option<StateKey> {
        Some(Self::state_key(self))
    }
}
