//! The gate's state: the kernel under its lock, the ledger, and what both need around them.
//!
//! One function, [`Gate::step`], feeds the kernel; it enqueues what the kernel wants recorded while
//! it still holds the lock, so the order of the log is the order of decisions. Nothing here waits
//! for a disk or a policy under that lock.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use countersign_kernel::policy::EvaluationRequest;
use countersign_kernel::{Command, Event, Kernel};
use countersign_ledger::{Entry, Ledger, Pending, Sealer, Slot, Vault};
use countersign_model::encoding::to_canonical;
use countersign_model::id::TicketId;
use countersign_model::payload::OutcomePayload;
use countersign_model::{Digest, Reason, Record, Seq, TimeMs};

use crate::catalog::Catalog;
use crate::clock::{Clock, Entropy};
use crate::identity::Identities;
use crate::kill::KillSwitch;
use crate::policies::Policies;
use crate::refuse::Refusals;
use crate::rotate::with_statement;
use crate::sealing::sealed_entry;
use crate::stalled::Stalled;

/// The gate. Clones are the same gate.
#[derive(Clone)]
pub struct Gate(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    /// Held for microseconds: never across I/O, an await or an evaluation.
    pub(crate) kernel: Mutex<Kernel>,
    pub(crate) ledger: Ledger,
    pub(crate) vault: Arc<Vault>,
    /// One erasure at a time.
    pub(crate) erasing: tokio::sync::Mutex<()>,
    /// Told when an erasure lets its scope seal again.
    pub(crate) reopened: tokio::sync::Notify,
    pub(crate) policies: Policies,
    pub(crate) catalog: Catalog,
    pub(crate) switch: Arc<KillSwitch>,
    pub(crate) identities: Identities,
    pub(crate) digest_key: crate::catalog::DigestKey,
    pub(crate) state_key: crate::continuation::StateKey,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) evaluation_ms: u64,
    pub(crate) refusals: Refusals,
    pub(crate) tickets: crate::ticket::Tickets,
    pub(crate) stalled: Stalled,
    pub(crate) next_key: crate::rotate::NextKey,
    pub(crate) challenges: crate::admin::Challenges,
    pub(crate) ticks: Mutex<crate::tick::Anchor>,
    pub(crate) snapshots: crate::snapshots::Snapshots,
    pub(crate) unknown_at_start: OnceLock<u64>,
    pub(crate) witnesses: Arc<crate::witness::Witnesses>,
}

/// A record on its way to the disk.
pub(crate) struct Recording {
    pub(crate) record: Record,
    pub(crate) leaf: Vec<u8>,
    pub(crate) pending: Pending,
}

/// What one step of the kernel asked for.
#[derive(Default)]
pub(crate) struct Step {
    /// A question about a call, and the hash of the policy to ask.
    pub(crate) evaluate: Option<(Seq, Digest, EvaluationRequest)>,
    /// The record of the call's decision.
    pub(crate) decision: Option<(Seq, Record, Vec<u8>, Pending)>,
    /// Other records, already watched: a copy of the last one's fate is here for who must wait for it.
    pub(crate) others: Vec<Recording>,
    /// Why the kernel refused an order by a human.
    pub(crate) refusal: Option<Reason>,
}

impl Gate {
    /// Feeds the kernel one event and enqueues what it wants recorded.
    pub(crate) fn step(&self, event: Event) -> Step {
        self.step_sealing(event, None)
    }

    /// The same for an event of a call, whose payload `sealer` seals.
    pub(crate) fn step_sealing(&self, event: Event, sealer: Option<&Sealer>) -> Step {
        let mut kernel = self.kernel();
        let commands = kernel.step(self.clock().wall(), event);
        let mut step = Step::default();
        for command in commands {
            self.carry_out(command, sealer, &mut step);
        }
        step
    }

    /// Tells the kernel what happened. What it records because of it is watched, not waited for.
    pub(crate) fn told(&self, event: Event) {
        let step = self.step(event);
        self.watch(step.others);
    }

    /// Tells the kernel how an effect ended; its outcome goes into the room set aside for it.
    pub(crate) fn step_outcome(
        &self,
        event: Event,
        slot: Slot,
        (payload, sealer): (Option<&OutcomePayload>, &Sealer),
    ) -> Option<(Vec<u8>, Pending)> {
        let mut kernel = self.kernel();
        let commands = kernel.step(self.clock().wall(), event);
        let mut slot = Some(slot);
        let mut outcome = None;
        let mut step = Step::default();
        for command in commands {
            match (command, slot.take()) {
                (Command::Append { record, .. }, Some(room))
                    if matches!(record.body, countersign_model::Body::Outcome(_)) =>
                {
                    let leaf = record.to_leaf().unwrap_or_default();
                    let payload = payload.and_then(|payload| to_canonical(payload).ok());
                    // An outcome must be recorded; one whose payload cannot be sealed goes without.
                    let payload = payload.and_then(|bytes| sealer.seal(&bytes, &leaf).ok());
                    let entry = Entry { leaf: leaf.clone(), payload };
                    outcome = Some((leaf, self.ledger().append_outcome(room, entry)));
                }
                (command, room) => {
                    slot = room;
                    self.carry_out(command, Some(sealer), &mut step);
                }
            }
        }
        drop(kernel);
        self.watch(step.others);
        outcome
    }

    fn carry_out(&self, command: Command, sealer: Option<&Sealer>, step: &mut Step) {
        match command {
            Command::Evaluate { call, policy, request } => step.evaluate = Some((call, policy, request)),
            Command::Refuse { reason } => step.refusal = Some(reason),
            Command::Append { call, record, payload } => {
                self.0.tickets.note(&record);
                // A leaf that cannot be encoded is empty, and the ledger refuses an empty leaf: fail closed.
                let leaf = record.to_leaf().unwrap_or_default();
                let pending = match self.rotating(&record) {
                    Some(key) => self.ledger().rotate(key, with_statement(record.clone())),
                    None => self.ledger().append(sealed_entry(sealer, &leaf, payload.as_ref())),
                };
                match call {
                    Some(call) => step.decision = Some((call, record, leaf, pending)),
                    None => step.others.push(Recording { record, leaf, pending }),
                }
            }
        }
    }

    /// Watches records that nobody waits for: one that is lost stalls the gate until it is written.
    pub(crate) fn watch(&self, others: Vec<Recording>) {
        if !others.is_empty() {
            let gate = self.clone();
            tokio::spawn(async move { gate.stand_by(others).await });
        }
    }

    /// The same for who can wait until it is known what became of them.
    pub(crate) async fn stand_by(&self, others: Vec<Recording>) {
        for Recording { leaf, pending, .. } in others {
            if pending.await.is_err() {
                self.0.stalled.hold(leaf);
            }
        }
    }

    pub(crate) fn kernel(&self) -> MutexGuard<'_, Kernel> {
        // The kernel does not panic (its crate denies what could); if it did, its state is still a fold of events.
        self.0.kernel.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn ledger(&self) -> &Ledger {
        &self.0.ledger
    }

    pub(crate) fn catalog(&self) -> &Catalog {
        &self.0.catalog
    }

    pub(crate) fn clock(&self) -> &dyn Clock {
        self.0.clock.as_ref()
    }

    pub(crate) fn entropy(&self) -> &dyn Entropy {
        self.0.entropy.as_ref()
    }

    pub(crate) fn evaluation_ms(&self) -> u64 {
        self.0.evaluation_ms
    }

    /// The kill switch.
    #[must_use]
    pub fn switch(&self) -> &Arc<KillSwitch> {
        &self.0.switch
    }

    /// When a pending proposal lapses; the start of time where it does not wait any more.
    pub(crate) fn proposal_expires(&self, ticket: &TicketId) -> TimeMs {
        self.kernel().proposal(ticket).map_or(TimeMs(0), |pending| pending.expires)
    }
}
