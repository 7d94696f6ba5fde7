//! The state: a fold of records, and nothing that the log could not give back.
//!
//! The fields are read by the modules that decide and written by `apply` alone, but for holds on budgets,
//! which a call in flight takes before it has a record. Memory is bounded: proposals and grants by
//! their limits, counters and sessions by the tokens that have not expired.

use std::collections::{BTreeMap, BTreeSet};

use countersign_model::id::{
    AgentId, Environment, HumanId, LeaseName, RunId, SessionId, TicketId, ToolName, UpstreamId,
};
use countersign_model::record::{ContinuationReading, Started};
use countersign_model::unit::LeafIndex;
use countersign_model::{Digest, Principal, Seq, TimeMs};
use minicbor::{Decode, Encode};

use crate::budget::Budgets;
use crate::continuation::{Continuable, Continuables};
use crate::history::Histories;
use crate::keep::Keep;
use crate::kill::KillState;
use crate::parked::{Parked, RefusedAs};
use crate::pins::Pins;
use crate::revoked::Revoked;
use crate::settings::BudgetRule;

/// A human who can sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Human {
    /// The Ed25519 public key.
    pub key: [u8; 32],
    /// Since when.
    pub enrolled: TimeMs,
}

/// A session: one token and what was attenuated from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Whose it is; absent where only its revocation is known.
    pub agent: Option<AgentId>,
    /// Its run; absent where only its revocation is known.
    pub run: Option<RunId>,
    /// When its token ends at the latest: then all about it is forgotten.
    pub expires: TimeMs,
    /// Whether it was revoked.
    pub revoked: bool,
    /// Leases by name; some may have ended.
    pub leases: BTreeMap<LeaseName, Lease>,
}

/// A right that was lent to a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Since when, over all renewals; the start of time where that was not kept.
    pub since: TimeMs,
    /// Until when.
    pub until: TimeMs,
}

/// What humans activated last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Activation {
    /// Hash of the configuration.
    pub configuration: Digest,
    /// Hash of the policy bundle.
    pub policy: Digest,
    /// Counts up by one.
    pub serial: u64,
}

/// Where a pruned log begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Begin {
    /// The first record that is kept.
    #[n(0)]
    pub minimum: LeafIndex,
    /// The digest of the state of everything before it.
    #[n(1)]
    pub state: Digest,
}

/// An intent without an outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Open {
    /// Its leaf; absent until it is durable.
    pub(crate) leaf: Option<LeafIndex>,
    /// Whether nobody carries it any more: its record failed, or the process that ran it is gone.
    pub(crate) lost: bool,
    /// The tool whose first definition rests on this intent among others, until it is durable.
    pub(crate) pinned: Option<(UpstreamId, ToolName)>,
    /// What it leaves behind if it is answered with a question; absent where an older image did not say.
    pub(crate) call: Option<Continuable>,
    /// The call that it goes on with, until it is durable.
    pub(crate) continued: Option<(LeafIndex, Continuable)>,
}

impl Open {
    /// Whether it goes on with a call that was charged.
    pub(crate) fn is_continued(&self) -> bool {
        self.call.as_ref().is_some_and(Continuable::is_continued)
    }
}

/// One process, from its start on.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(crate) struct Lifetime {
    #[n(0)]
    pub(crate) version: String,
    #[n(1)]
    pub(crate) configuration: Digest,
    #[n(2)]
    pub(crate) policy: Digest,
}

impl Lifetime {
    pub(crate) fn of(started: &Started) -> Self {
        let Started { version, configuration, policy, .. } = started;
        Self { version: version.clone(), configuration: *configuration, policy: *policy }
    }
}

/// The fold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) now: TimeMs,
    pub(crate) next: Seq,
    pub(crate) budgets: Budgets,
    pub(crate) parked: BTreeMap<TicketId, Parked>,
    /// At most one for a digest: a new proposal takes the place of what there was.
    pub(crate) parked_by_digest: BTreeMap<Digest, TicketId>,
    pub(crate) refused: BTreeMap<Digest, RefusedAs>,
    pub(crate) open: BTreeMap<Seq, Open>,
    pub(crate) kill: KillState,
    pub(crate) freezes: BTreeMap<Environment, TimeMs>,
    pub(crate) humans: BTreeMap<HumanId, Human>,
    pub(crate) sessions: BTreeMap<SessionId, Session>,
    sessions_by_end: BTreeSet<(TimeMs, SessionId)>,
    runs: BTreeMap<RunId, BTreeSet<SessionId>>,
    pub(crate) activation: Option<Activation>,
    /// The last start on record, with the policy that is in force now.
    pub(crate) lifetime: Option<Lifetime>,
    /// Since when the clock is in doubt: leases do not hold, and freezes that held then go on.
    pub(crate) clock_doubt: Option<TimeMs>,
    pub(crate) keep: Keep,
    pub(crate) pruned: Option<Begin>,
    /// Definitions of tools that ran.
    pub(crate) pins: Pins,
    pub(crate) histories: Histories,
    /// Calls that were answered with a question.
    pub(crate) continuables: Continuables,
    /// Narrowings of tokens that were revoked.
    pub(crate) revoked: Revoked,
}

impl State {
    pub(crate) fn new(rules: Vec<BudgetRule>) -> Self {
        Self { budgets: Budgets::new(rules), ..Self::default() }
    }

    /// Which sessions each run has.
    pub(crate) const fn runs(&self) -> &BTreeMap<RunId, BTreeSet<SessionId>> {
        &self.runs
    }

    /// Takes sessions and runs from an image.
    pub(crate) fn restore_sessions(
        &mut self,
        sessions: BTreeMap<SessionId, Session>,
        runs: BTreeMap<RunId, BTreeSet<SessionId>>,
    ) {
        self.sessions_by_end = sessions.iter().map(|(id, session)| (session.expires, id.clone())).collect();
        self.sessions = sessions;
        self.runs = runs;
    }

    /// Time goes on, never back, and what can never be read again is dropped.
    ///
    /// Counters of a session without a window go when its token has expired: no call of that session can
    /// be admitted any more. Counters of a run go with the last of its known sessions; only a human can issue
    /// another token for that run, and then it counts from zero.
    pub(crate) fn pass(&mut self, now: TimeMs) {
        self.now = self.now.max(now);
        self.budgets.drop_past_windows(self.now);
        while let Some((_, id)) = self.sessions_by_end.first().filter(|(end, _)| *end <= self.now).cloned() {
            self.sessions_by_end.pop_first();
            self.forget_session(&id);
        }
        let now = self.now;
        let parked = &self.parked;
        self.continuables.pass(now, |intent| held(parked, intent));
        self.revoked.pass(now);
        self.refused.retain(|_, refusal| refusal.expires > now);
    }

    fn forget_session(&mut self, id: &SessionId) {
        self.budgets.drop_session(id);
        let run = self.sessions.remove(id).and_then(|session| session.run);
        let Some(run) = run else { return };
        if let Some(sessions) = self.runs.get_mut(&run) {
            sessions.remove(id);
            if sessions.is_empty() {
                self.runs.remove(&run);
                self.budgets.drop_run(&run);
                self.histories.forget_run(&run);
            }
        }
    }

    /// Notes a session that is alive until `expires`.
    pub(crate) fn note_session(&mut self, principal: &Principal, expires: TimeMs) {
        if expires <= self.now {
            return;
        }
        let session = self.session_until(&principal.session, expires);
        session.agent = Some(principal.agent.clone());
        session.run = Some(principal.run.clone());
        self.runs.entry(principal.run.clone()).or_default().insert(principal.session.clone());
    }

    /// The session, remembered at least until `expires`.
    pub(crate) fn session_until(&mut self, id: &SessionId, expires: TimeMs) -> &mut Session {
        let session = self.sessions.entry(id.clone()).or_insert_with(|| Session {
            agent: None,
            run: None,
            expires: TimeMs(0),
            revoked: false,
            leases: BTreeMap::new(),
        });
        if expires > session.expires {
            self.sessions_by_end.remove(&(session.expires, id.clone()));
            self.sessions_by_end.insert((expires, id.clone()));
            session.expires = expires;
        }
        session
    }

    /// Until when `environment` is frozen, if it is.
    ///
    /// While the clock is in doubt a freeze that held before the jump goes on: a jump must not end it.
    pub(crate) fn frozen_until(&self, environment: &Environment) -> Option<TimeMs> {
        let since = self.clock_doubt.unwrap_or(self.now).min(self.now);
        self.freezes.get(environment).copied().filter(|until| *until > since)
    }

    /// Leases of a session that hold now, sorted; none while the clock is in doubt.
    pub(crate) fn leases(&self, session: &SessionId) -> Vec<LeaseName> {
        if self.clock_doubt.is_some() {
            return Vec::new();
        }
        self.sessions.get(session).map_or_else(Vec::new, |session| {
            session.leases.iter().filter(|(_, lease)| lease.until > self.now).map(|(name, _)| name.clone()).collect()
        })
    }

    /// Whole minutes since the oldest lease that holds now began.
    pub(crate) fn lease_minutes(&self, session: &SessionId) -> Option<u64> {
        let leases = self.sessions.get(session).filter(|_| self.clock_doubt.is_none())?.leases.values();
        let since = leases.filter(|lease| lease.until > self.now).map(|lease| lease.since).min()?;
        Some(self.now.since_ms(since) / 60_000)
    }

    /// The proposal under which an action waits.
    pub(crate) fn waiting(&self, digest: &Digest) -> Option<&Parked> {
        self.parked_as(digest).filter(|parked| !parked.is_granted)
    }

    /// The call at `intent`, where it waits to be continued.
    pub(crate) fn continuation(&self, intent: LeafIndex) -> Option<ContinuationReading> {
        self.continuables.reading(intent, held(&self.parked, intent))
    }

    /// The unused grant for an action.
    pub(crate) fn grant(&self, digest: &Digest) -> Option<&Parked> {
        self.parked_as(digest).filter(|parked| parked.is_granted)
    }

    fn parked_as(&self, digest: &Digest) -> Option<&Parked> {
        let parked = self.parked.get(self.parked_by_digest.get(digest)?)?;
        (parked.expires > self.now).then_some(parked)
    }

    /// Proposals and grants, of one agent or of all.
    pub(crate) fn pending_count(&self, agent: Option<&AgentId>) -> u64 {
        let of = |owner: &AgentId| agent.is_none_or(|agent| agent == owner);
        self.parked.values().filter(|parked| of(&parked.proposal.attempt.principal.agent)).count() as u64
    }

    /// The first proposal or grant that has run out of time, and whether it was consented to.
    pub(crate) fn first_expired(&self) -> Option<(TicketId, bool)> {
        self.parked
            .values()
            .find(|parked| parked.expires <= self.now)
            .map(|parked| (parked.ticket.clone(), parked.is_granted))
    }

    pub(crate) fn drop_parked(&mut self, ticket: &TicketId) -> Option<Parked> {
        let parked = self.parked.remove(ticket)?;
        if self.parked_by_digest.get(&parked.payload.digest) == Some(ticket) {
            self.parked_by_digest.remove(&parked.payload.digest);
        }
        Some(parked)
    }
}

/// Until when a human is asked whether the call at `intent` goes on, or has consented that it does.
fn held(parked: &BTreeMap<TicketId, Parked>, intent: LeafIndex) -> Option<TimeMs> {
    let goes_on = |parked: &&Parked| parked.goes_on().is_some_and(|(of, _)| of == intent);
    parked.values().filter(goes_on).map(|parked| parked.expires).max()
}
