//! Tickets as their owner sees them: what became of a parked action, and waiting until that changes.
//!
//! Whoever may redeem a consent may ask about it: the same tenant, agent and run. To everybody else a ticket is unknown,
//! whether it is there or not. Nothing here consents or changes what consent means. What a ticket came to is
//! remembered for the last [`KNOWN_MAX`] of this process and is on no disk: after a restart a ticket that waits is known,
//! and one that was answered is unknown.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use countersign_kernel::Kernel;
use countersign_model::id::{AgentId, RunId, TenantId, TicketId};
use countersign_model::{Body, Caller, Principal, Record, TimeMs};
use tokio::sync::watch;

use crate::Gate;

/// The most tickets whose owner and end are remembered. Those that wait are fewer: the kernel bounds them.
const KNOWN_MAX: usize = 4_096;

/// How a parked action stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TicketState {
    /// It waits for consent.
    Waiting {
        /// When it lapses.
        expires: TimeMs,
        /// Names of the gates, for the caller.
        gates: Vec<String>,
    },
    /// Consent was given: the identical call runs, once.
    Consented {
        /// Until when.
        expires: TimeMs,
    },
    /// A human refused it.
    Denied,
    /// The consent was used: the action was allowed.
    Redeemed,
    /// It is over and was not used: its time ran out, a newer proposal took its place, or what it was is erased.
    Lapsed,
    /// There is none, none of this caller's, or none that is remembered.
    Unknown,
}

impl TicketState {
    /// Whether it can still become another one.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        matches!(self, Self::Waiting { .. } | Self::Consented { .. })
    }
}

/// Who may ask: what a digest covers of a principal.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Owner(TenantId, AgentId, RunId);

impl Owner {
    fn of(principal: &Principal) -> Self {
        Self(principal.tenant.clone(), principal.agent.clone(), principal.run.clone())
    }
}

/// What is remembered of one ticket.
struct Known {
    owner: Owner,
    /// How it ended, where that is more than running out of time.
    end: Option<TicketState>,
}

/// Tickets of this process.
pub(crate) struct Tickets {
    known: Mutex<Memory>,
    /// Counts up with every record that changes a ticket.
    changes: watch::Sender<u64>,
}

#[derive(Default)]
struct Memory {
    tickets: BTreeMap<TicketId, Known>,
    /// Oldest first.
    order: VecDeque<TicketId>,
}

impl Memory {
    fn remember(&mut self, ticket: &TicketId, owner: Owner) {
        if self.tickets.insert(ticket.clone(), Known { owner, end: None }).is_none() {
            self.order.push_back(ticket.clone());
        }
        if self.order.len() > KNOWN_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.tickets.remove(&oldest);
        }
    }

    fn end(&mut self, ticket: &TicketId, end: TicketState) {
        if let Some(known) = self.tickets.get_mut(ticket) {
            known.end = Some(end);
        }
    }
}

impl Tickets {
    /// Knows what waits in `kernel` already.
    pub(crate) fn of(kernel: &Kernel) -> Self {
        let mut memory = Memory::default();
        for parked in kernel.pending() {
            memory.remember(&parked.ticket, Owner::of(&parked.proposal.attempt.principal));
        }
        Self { known: Mutex::new(memory), changes: watch::Sender::new(0) }
    }

    /// Takes a record that the kernel has just decided on.
    pub(crate) fn note(&self, record: &Record) {
        {
            let mut known = self.known();
            match &record.body {
                Body::Proposal(proposal) => {
                    if let Some(ticket) = &proposal.attempt.ticket {
                        known.remember(ticket, Owner::of(&proposal.attempt.principal));
                    }
                }
                Body::Intent(attempt) => match &attempt.ticket {
                    Some(ticket) => known.end(ticket, TicketState::Redeemed),
                    None => return,
                },
                Body::Consent(consent) if !consent.approved => known.end(&consent.ticket, TicketState::Denied),
                Body::Consent(_) | Body::Expired(_) | Body::Erased(_) => {}
                _ => return,
            }
        }
        self.changes.send_modify(|changes| *changes = changes.wrapping_add(1));
    }

    /// How a ticket ended that the kernel does not know any more.
    fn ended(&self, owner: &Owner, ticket: &TicketId) -> TicketState {
        let known = self.known();
        match known.tickets.get(ticket).filter(|known| known.owner == *owner) {
            Some(known) => known.end.clone().unwrap_or(TicketState::Lapsed),
            None => TicketState::Unknown,
        }
    }

    fn known(&self) -> MutexGuard<'_, Memory> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Gate {
    /// How the parked action under `ticket` stands, for whoever may redeem it.
    #[must_use]
    pub fn ticket(&self, caller: &Caller, ticket: &TicketId) -> TicketState {
        let owner = Owner::of(&caller.principal);
        let kernel = self.kernel();
        let Some(parked) = kernel.proposal(ticket) else {
            drop(kernel);
            return self.0.tickets.ended(&owner, ticket);
        };
        if Owner::of(&parked.proposal.attempt.principal) != owner {
            return TicketState::Unknown;
        }
        match parked.granted() {
            true => TicketState::Consented { expires: parked.expires },
            false => TicketState::Waiting {
                expires: parked.expires,
                gates: parked.gates().iter().map(|gate| gate.name.clone()).collect(),
            },
        }
    }

    /// Waits until the ticket's state is no longer `known`, and gives what it is then. One that cannot change any more is
    /// given at once. It ends when the ticket lapses, at the latest; it reads no disk and holds no place in any queue, and
    /// who drops it has stopped waiting.
    pub async fn ticket_changed(&self, caller: &Caller, ticket: &TicketId, known: &TicketState) -> TicketState {
        let mut changes = self.0.tickets.changes.subscribe();
        loop {
            // Before the state is read: what comes after is another change.
            changes.borrow_and_update();
            let state = self.ticket(caller, ticket);
            if state != *known || !state.is_open() {
                return state;
            }
            if changes.changed().await.is_err() {
                return state;
            }
        }
    }
}
