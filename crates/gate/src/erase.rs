//! Erasing: from a human's order to destroyed keys, and what a process that ended in between left undone.
//!
//! In order: the log is read for the scope's payloads, and retention and holds are asked. Then the scope is closed: calls
//! of it wait, those that are being decided come to their record, the few new records are read, and it is asked once more.
//! The order is recorded, and the scope goes on under a new key. So exactly what lies before the order is what was asked
//! about, and what its keys are; whoever finishes later finds the same. The keys are destroyed, and that is recorded. The
//! order's durable record is the point of no return: from there on the erasure is finished, at the next start if
//! need be, and doing it twice is the same as once. Which keys a scope has is read from the log every time, so nothing that
//! is in memory or in another file has to be trusted for it.
//!
//! It must not know how keys lie on disk. It does not cover who may order it (`kernel`).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use countersign_kernel::Event;
use countersign_ledger::vault::{Header, Tag};
use countersign_ledger::{Committed, StoredRecord};
use countersign_model::action::Point;
use countersign_model::command::{Deed, Signed};
use countersign_model::id::TicketId;
use countersign_model::record::{Attempt, VaultScope};
use countersign_model::unit::LeafIndex;
use countersign_model::{Body, Reason, ReasonCode, Record};

use crate::Gate;
use crate::admin::Carried;

/// How long an erasure waits for calls of its scope that are being decided.
const DECIDING_MAX: Duration = Duration::from_secs(2);
/// How often it looks.
const LOOK: Duration = Duration::from_millis(1);

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
    keys: Keys,
    /// The last order to erase this scope that is not carried out, and the keys of what lies before it.
    order: Option<(LeafIndex, Keys)>,
}

/// Keys of one scope by their ids.
type Keys = BTreeMap<u64, Sealed>;

/// What one key sealed.
#[derive(Clone, Default)]
struct Sealed {
    payloads: u64,
    tickets: BTreeSet<TicketId>,
    /// The other scopes under which the same payloads lie.
    others: BTreeSet<Tag>,
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
        let counts = self.kernel().would_count(&signed);
        // Whoever may not order it does not make us read the log.
        let permitted = match counts {
            Ok(()) => self.permitted(Survey::new(self, scope)).await?,
            Err(why) => Err(why),
        };
        let survey = match permitted {
            Ok(survey) => survey,
            Err(why) => return Err(self.refused(&why).await),
        };
        let (survey, committed) = self.order(survey, signed).await?;
        let erased = self.finish(survey).await.map_err(|why| {
            let why = format!("the erasure is ordered on record at {} and not done: {why}", committed.index);
            Reason::because(ReasonCode::LedgerUnavailable, &why)
        })?;
        Ok(Carried { leaf: committed.index, token: None, session: None, erased: Some(erased), pruned: None })
    }

    /// Puts the order on record while nothing new of the scope can come on record. The survey then holds exactly what lies
    /// before it.
    async fn order(&self, survey: Survey, signed: Signed) -> Result<(Survey, Committed), Reason> {
        let tag = survey.tag;
        self.vault().close(tag);
        let mut survey = match self.settled(survey).await {
            Ok(survey) => survey,
            Err(reason) => {
                self.vault().reopen(tag);
                self.0.reopened.notify_waiters();
                return Err(reason);
            }
        };
        let event = Event::Commanded { signed, session: None };
        let committed = match self.ordered(event, |body| matches!(body, Body::Commanded(_))).await {
            Ok(committed) => committed,
            Err(reason) => {
                self.left_unordered(&survey);
                return Err(reason);
            }
        };
        // One that is not in the log sealed nothing that is.
        for key in self.go_on(tag) {
            survey.keys.entry(key).or_default();
        }
        survey.order = Some((LeafIndex(committed.index), std::mem::take(&mut survey.keys)));
        Ok((survey, committed))
    }

    /// Waits until what is being decided of a closed scope is on record, and asks again whether it may be erased.
    async fn settled(&self, survey: Survey) -> Result<Survey, Reason> {
        let quiet = async {
            while !self.vault().is_quiet(survey.tag) {
                tokio::time::sleep(LOOK).await;
            }
        };
        if tokio::time::timeout(DECIDING_MAX, quiet).await.is_err() {
            let why = "calls that it covers are still being decided: nothing was erased; try again";
            return Err(self.refused(why).await);
        }
        match self.permitted(survey).await? {
            Ok(survey) => Ok(survey),
            Err(why) => Err(self.refused(&why).await),
        }
    }

    /// The order could not be written. Once it counts it will be, as soon as the disk takes it: until then the scope stays
    /// closed, for nothing new of it may come before the order.
    fn left_unordered(&self, survey: &Survey) {
        let counts = self.kernel().erasures().any(|left| *left == survey.scope);
        if !(counts && self.0.stalled.is_any()) {
            self.go_on(survey.tag);
        }
    }

    /// Lets the scope go on under a new key; gives those that it had.
    fn go_on(&self, tag: Tag) -> BTreeSet<u64> {
        let retired = self.vault().retire(tag);
        self.0.reopened.notify_waiters();
        retired
    }

    async fn refused(&self, why: &str) -> Reason {
        let reason = Reason::because(ReasonCode::OrderRefused, why);
        self.refuse(Point::Admin, None, reason.clone()).await;
        reason
    }

    /// An order that could not be written at once is on record now. Its scope is closed still.
    pub(crate) fn erase_late(&self, scope: VaultScope) {
        let gate = self.clone();
        tokio::spawn(async move {
            let _turn = gate.0.erasing.lock().await;
            let survey = Survey::new(&gate, scope);
            gate.go_on(survey.tag);
            let finished = match gate.surveyed(survey).await {
                Ok(survey) => gate.finish(survey).await,
                Err(reason) => Err(reason.detail.unwrap_or_default()),
            };
            if let Err(error) = finished {
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
        let gate = self.clone();
        let destroyed = tokio::task::spawn_blocking(move || gate.destroy(survey)).await;
        let (destroyed, event) = destroyed.map_err(|error| error.to_string())??;
        let recorded = self.ordered(event, |body| matches!(body, Body::Erased(_))).await;
        recorded.map_err(|reason| reason.detail.unwrap_or_default())?;
        Ok(destroyed)
    }

    /// Destroys the keys of what lies before the order. Gives what is to be recorded.
    fn destroy(&self, survey: Survey) -> Result<(Destroyed, Event), String> {
        let Survey { scope, order, .. } = survey;
        let (command, keys) = order.ok_or("its order is not in the log")?;
        self.vault().destroy(&keys.keys().copied().collect()).map_err(|error| error.to_string())?;
        let payloads = keys.values().map(|sealed| sealed.payloads).sum();
        let destroyed = Destroyed { keys: keys.len() as u64, payloads };
        let tickets = keys.into_values().flat_map(|sealed| sealed.tickets).collect();
        Ok((destroyed, Event::Erased { scope, command, keys: destroyed.keys, payloads, tickets }))
    }

    /// Reads on and asks whether all that was read may be erased; the inner error says why not.
    async fn permitted(&self, survey: Survey) -> Result<Result<Survey, String>, Reason> {
        let survey = self.surveyed(survey).await?;
        Ok(self.must_stay(&survey).map_or(Ok(survey), Err))
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
        let is_other = |tag: &Tag| survey.keys.values().any(|sealed| sealed.others.contains(tag));
        let kernel = self.kernel();
        let held = kernel
            .holds()
            .find(|(_, hold)| hold.scope.as_ref().is_some_and(|scope| is_other(&self.vault().tag(scope))));
        let held = held.map(|(name, _)| {
            format!(
                "some of its payloads are also covered by the hold `{name}`: nothing is erased until it is released"
            )
        });
        held.or_else(|| survey.keys.values().find_map(|sealed| sealed.kept.clone()))
    }
}

impl Survey {
    fn new(gate: &Gate, scope: VaultScope) -> Self {
        Self {
            tag: gate.vault().tag(&scope),
            scope,
            next: gate.ledger().minimum(),
            has_carried: false,
            keys: Keys::new(),
            order: None,
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
        let record = decoded(stored)?;
        let tag = self.tag;
        let sealed = self.keys.entry(key).or_default();
        sealed.payloads = sealed.payloads.saturating_add(1);
        sealed.others.extend([header.run, header.subject].into_iter().filter(|other| *other != tag));
        if let Some(attempt) = record.body.attempt() {
            sealed.take_attempt(gate, stored.index, (&record, attempt));
        }
        Ok(())
    }

    /// A record without a payload: an order to erase, or an erasure that is done and need not be done again. What lies
    /// between the two was sealed under other keys, but for what calls of before had still to say.
    fn take_bare(&mut self, stored: &StoredRecord) -> Result<(), String> {
        match decoded(stored)?.body {
            Body::Commanded(commanded) => {
                if matches!(&commanded.signed.command.deed, Deed::Erase { scope } if *scope == self.scope) {
                    self.order = Some((LeafIndex(stored.index), self.keys.clone()));
                }
            }
            Body::Erased(erased) if erased.scope == self.scope => {
                if let Some((_, gone)) = self.order.take() {
                    self.keys.retain(|key, _| !gone.contains_key(key));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

impl Sealed {
    fn take_attempt(&mut self, gate: &Gate, index: u64, (record, attempt): (&Record, &Attempt)) {
        if matches!(record.body, Body::Proposal(_)) {
            self.tickets.extend(attempt.ticket.clone());
        }
        if self.kept.is_none() {
            let why = gate.retention().forbids_erasing(&attempt.environment, record.at, gate.now());
            self.kept = why.map(|why| format!("record `{index}` must stay readable: {why}"));
        }
    }
}

fn decoded(stored: &StoredRecord) -> Result<Record, String> {
    Record::from_leaf(&stored.leaf).map_err(|error| format!("record `{}`: {error}", stored.index))
}
