//! Erasing: from a human's order to destroyed keys, and what a process that ended in between left undone.
//!
//! In order: the log is read for the scope's payloads, retention and holds are asked, the order is recorded, the keys are
//! destroyed, and that is recorded. The order's durable record is the point of no return: from there on the erasure is
//! finished, at the next start if need be, and doing it twice is the same as once. Which keys a scope has is read from
//! the log every time, so nothing that is in memory or in another file has to be trusted for it.
//!
//! It must not know how keys lie on disk. It does not cover who may order it (`kernel`).

use std::collections::BTreeSet;

use countersign_kernel::Event;
use countersign_ledger::StoredRecord;
use countersign_ledger::vault::{Header, Tag};
use countersign_model::action::Point;
use countersign_model::command::{Deed, Signed};
use countersign_model::id::TicketId;
use countersign_model::record::{Attempt, VaultScope};
use countersign_model::unit::LeafIndex;
use countersign_model::{Body, Reason, ReasonCode, Record};

use crate::Gate;
use crate::admin::Carried;

/// What an erasure destroyed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Destroyed {
    /// Keys.
    pub keys: u64,
    /// Payloads that lay under them.
    pub payloads: u64,
}

/// What the log holds of a scope, as far as it was read.
struct Survey {
    scope: VaultScope,
    tag: Tag,
    /// The first record that was not read yet.
    next: u64,
    /// Whether the records were read that a pruned log still has of what it begins behind.
    has_carried: bool,
    keys: BTreeSet<u64>,
    payloads: u64,
    tickets: BTreeSet<TicketId>,
    /// The other scopes under which the same payloads lie.
    others: BTreeSet<Tag>,
    /// The last order to erase this scope.
    order: Option<LeafIndex>,
    /// Why it may not be erased.
    kept: Option<String>,
}

impl Gate {
    /// Carries an order to erase out, in a task of its own: whoever ordered it may go away.
    pub(crate) async fn erase(&self, signed: Signed, scope: VaultScope) -> Result<Carried, Reason> {
        let gate = self.clone();
        let task = tokio::spawn(async move { gate.erase_here(signed, scope).await });
        task.await.unwrap_or_else(|_| Err(Reason::because(ReasonCode::Internal, "the erasure failed under way")))
    }

    async fn erase_here(&self, signed: Signed, scope: VaultScope) -> Result<Carried, Reason> {
        let _turn = self.0.erasing.lock().await;
        let mut survey = Survey::new(self, scope);
        // Whoever may not order it does not make us read the log.
        if self.kernel().would_count(&signed).is_ok() {
            survey = self.surveyed(survey).await?;
            if let Some(why) = self.must_stay(&survey) {
                let reason = Reason::because(ReasonCode::OrderRefused, &why);
                self.refuse(Point::Admin, None, reason.clone()).await;
                return Err(reason);
            }
        }
        let event = Event::Commanded { signed, session: None };
        let committed = self.ordered(event, |body| matches!(body, Body::Commanded(_))).await?;
        let erased = self.finish(survey).await.map_err(|why| {
            let why = format!("the erasure is ordered on record at {} and not done: {why}", committed.index);
            Reason::because(ReasonCode::LedgerUnavailable, &why)
        })?;
        Ok(Carried { leaf: committed.index, token: None, session: None, erased: Some(erased), pruned: None })
    }

    /// An order that could not be written at once is on record now.
    pub(crate) fn erase_late(&self, scope: VaultScope) {
        let gate = self.clone();
        tokio::spawn(async move {
            let _turn = gate.0.erasing.lock().await;
            let survey = Survey::new(&gate, scope);
            if let Err(error) = gate.finish(survey).await {
                tracing::error!(%error, "an erasure is ordered and not done; it is done at the next start");
            }
        });
    }

    /// Finishes what a process that ended left undone. Blocks.
    pub(crate) fn finish_erasures(&self) -> Result<(), String> {
        let left: Vec<VaultScope> = self.kernel().erasures().cloned().collect();
        for scope in left {
            let mut survey = Survey::new(self, scope);
            survey.read(self)?;
            let event = self.destroy(survey)?.1;
            for recording in self.step(event).others {
                recording.pending.wait().map_err(|error| error.to_string())?;
            }
        }
        Ok(())
    }

    async fn finish(&self, survey: Survey) -> Result<Destroyed, String> {
        // From here on nothing is sealed for the scope under a key that the reading to come does not find.
        let mut survey = survey;
        survey.keys.extend(self.vault().retire(survey.tag));
        let survey = self.surveyed(survey).await.map_err(|reason| reason.detail.unwrap_or_default())?;
        let gate = self.clone();
        let destroyed = tokio::task::spawn_blocking(move || gate.destroy(survey)).await;
        let (destroyed, event) = destroyed.map_err(|error| error.to_string())??;
        let recorded = self.ordered(event, |body| matches!(body, Body::Erased(_))).await;
        recorded.map_err(|reason| reason.detail.unwrap_or_default())?;
        Ok(destroyed)
    }

    /// Destroys the keys. Gives what is to be recorded.
    fn destroy(&self, survey: Survey) -> Result<(Destroyed, Event), String> {
        let Survey { scope, keys, payloads, tickets, order, .. } = survey;
        let command = order.ok_or("its order is not in the log")?;
        self.vault().destroy(&keys).map_err(|error| error.to_string())?;
        let destroyed = Destroyed { keys: keys.len() as u64, payloads };
        Ok((destroyed, Event::Erased { scope, command, keys: destroyed.keys, payloads, tickets }))
    }

    /// Reads on, on a thread that may block.
    async fn surveyed(&self, survey: Survey) -> Result<Survey, Reason> {
        let gate = self.clone();
        let read = tokio::task::spawn_blocking(move || {
            let mut survey = survey;
            survey.read(&gate).map(|()| survey)
        });
        let read = read.await.unwrap_or_else(|error| Err(error.to_string()));
        read.map_err(|why| Reason::because(ReasonCode::LedgerUnavailable, &why))
    }

    /// Why a scope's payloads may not be erased, besides what the kernel knows.
    fn must_stay(&self, survey: &Survey) -> Option<String> {
        let kernel = self.kernel();
        let held = kernel.holds().find(|(_, hold)| {
            hold.scope.as_ref().is_some_and(|scope| survey.others.contains(&self.vault().tag(scope)))
        });
        let held = held.map(|(name, _)| {
            format!(
                "some of its payloads are also covered by the hold `{name}`: nothing is erased until it is released"
            )
        });
        held.or_else(|| survey.kept.clone())
    }
}

impl Survey {
    fn new(gate: &Gate, scope: VaultScope) -> Self {
        Self {
            tag: gate.vault().tag(&scope),
            scope,
            next: gate.ledger().minimum(),
            has_carried: false,
            keys: BTreeSet::new(),
            payloads: 0,
            tickets: BTreeSet::new(),
            others: BTreeSet::new(),
            order: None,
            kept: None,
        }
    }

    /// Reads the log from where this survey ended to the newest confirmed record.
    fn read(&mut self, gate: &Gate) -> Result<(), String> {
        if !std::mem::replace(&mut self.has_carried, true)
            && let Some(base) = gate.ledger().base()
        {
            base.carried.iter().try_for_each(|stored| self.take_stored(gate, stored))?;
        }
        for stored in gate.ledger().tail(self.next) {
            let stored = stored.map_err(|error| error.to_string())?;
            self.take_stored(gate, &stored)?;
            self.next = stored.index.saturating_add(1);
        }
        Ok(())
    }

    fn take_stored(&mut self, gate: &Gate, stored: &StoredRecord) -> Result<(), String> {
        let Some(sealed) = stored.payload.as_deref() else { return self.take_bare(stored) };
        let header =
            Header::read(sealed).ok_or_else(|| format!("the payload of record `{}` is not sealed", stored.index))?;
        match header.key_of(self.tag) {
            Some(key) => self.take(gate, stored, (header, key)),
            None => Ok(()),
        }
    }

    /// A record with a payload of this scope.
    fn take(&mut self, gate: &Gate, stored: &StoredRecord, (header, key): (Header, u64)) -> Result<(), String> {
        self.keys.insert(key);
        self.payloads = self.payloads.saturating_add(1);
        self.others.extend([header.run, header.subject].into_iter().filter(|tag| *tag != self.tag));
        let record = decoded(stored)?;
        if let Some(attempt) = record.body.attempt() {
            self.take_attempt(gate, stored.index, (&record, attempt));
        }
        Ok(())
    }

    fn take_attempt(&mut self, gate: &Gate, index: u64, (record, attempt): (&Record, &Attempt)) {
        if matches!(record.body, Body::Proposal(_)) {
            self.tickets.extend(attempt.ticket.clone());
        }
        if self.kept.is_none() {
            let why = gate.retention().forbids_erasing(&attempt.environment, record.at, gate.now());
            self.kept = why.map(|why| format!("record `{index}` must stay readable: {why}"));
        }
    }

    /// A record without a payload: an order to erase, or an erasure that is done and need not be done again.
    fn take_bare(&mut self, stored: &StoredRecord) -> Result<(), String> {
        match decoded(stored)?.body {
            Body::Commanded(commanded) => {
                if matches!(&commanded.signed.command.deed, Deed::Erase { scope } if *scope == self.scope) {
                    self.order = Some(LeafIndex(stored.index));
                }
            }
            Body::Erased(erased) if erased.scope == self.scope => {
                self.keys.clear();
                self.payloads = 0;
                self.tickets.clear();
                self.others.clear();
                (self.order, self.kept) = (None, None);
            }
            _ => {}
        }
        Ok(())
    }
}

fn decoded(stored: &StoredRecord) -> Result<Record, String> {
    Record::from_leaf(&stored.leaf).map_err(|error| format!("record `{}`: {error}", stored.index))
}
