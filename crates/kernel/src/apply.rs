//! Applying a record to the state: the one way in which it changes, live and at recovery.
//!
//! It decides nothing and refuses nothing: what is on record has happened. A proposal without its payload
//! cannot wait on, for nobody could be shown what it was.

use countersign_model::command::{Deed, Signed};
use countersign_model::id::RunId;
use countersign_model::payload::ActionPayload;
use countersign_model::record::{Attempt, Commanded, Consent, Outcome, Proposal, Status, VaultScope};
use countersign_model::unit::LeafIndex;
use countersign_model::{Body, Digest, Principal, Record, TimeMs};

use crate::continuation::Continuable;
use crate::history::Step;
use crate::kernel::charge;
use crate::kill::scope_covers;
use crate::parked::{Parked, RefusedAs};
use crate::settings::Settings;
use crate::state::{Activation, Begin, Human, Lease, Lifetime, Open, State};

/// A record with what goes with it. The leaf is known at recovery and comes later when live.
#[derive(Clone, Copy)]
pub(crate) struct Seen<'a> {
    pub(crate) record: &'a Record,
    pub(crate) payload: Option<&'a ActionPayload>,
    pub(crate) leaf: Option<(LeafIndex, Digest)>,
}

impl State {
    pub(crate) fn apply(&mut self, settings: &Settings, seen: Seen<'_>) {
        let Record { seq, at, body, .. } = seen.record;
        self.pass(*at);
        self.next = self.next.max(seq.checked_add(1).unwrap_or(*seq));
        if let Some(attempt) = body.attempt() {
            self.note_session(&attempt.principal, attempt.inputs.token_expires);
        }
        match body {
            Body::Started(started) => {
                self.kill.epoch = self.kill.epoch.max(started.kill_epoch);
                self.lifetime = Some(Lifetime::of(started));
            }
            Body::Intent(attempt) => self.apply_intent(attempt, seen),
            Body::Outcome(outcome) => self.apply_outcome(outcome),
            Body::Denial(attempt) | Body::Waiting(attempt) => self.budgets.settle(attempt.reserved_at, 0),
            Body::Proposal(proposal) => self.apply_proposal(proposal, seen),
            Body::Consent(consent) => self.apply_consent(consent),
            Body::Expired(expired) => {
                self.drop_parked(&expired.ticket);
            }
            Body::Killed(killed) => {
                self.kill.apply(killed.scope.clone(), killed.epoch);
                // A lift of the kill brings nothing back that was under way.
                self.continuables.drop_of(|who| scope_covers(&killed.scope, who));
            }
            Body::Commanded(commanded) => self.apply_command(settings, commanded),
            Body::ClockJump(jump) => {
                let before = TimeMs(self.now.0.saturating_sub(jump.by_ms));
                self.clock_doubt = Some(self.clock_doubt.map_or(before, |since| since.min(before)));
            }
            Body::Erased(erased) => {
                self.keep.erasures.remove(&erased.scope);
                if let VaultScope::Run(run) = &erased.scope {
                    self.continuables.drop_of(|who| who.run == *run);
                }
                for ticket in &erased.tickets {
                    self.drop_parked(ticket);
                }
                self.refused.retain(|_, refusal| !erased.tickets.contains(&refusal.ticket));
            }
            Body::Pruned(pruned) => {
                self.pruned = Some(Begin { minimum: pruned.minimum, state: pruned.state });
            }
            Body::Stopped | Body::Refused(_) | Body::Gap(_) | Body::Snapshot(_) | Body::KeyRotated(_) => {}
        }
    }

    fn apply_intent(&mut self, attempt: &Attempt, seen: Seen<'_>) {
        let Attempt { principal, proposed_at, .. } = attempt;
        let continued = attempt.continues.as_ref().and_then(|it| Some((it.intent, self.continuables.take(it.intent)?)));
        // The call that it goes on with was charged.
        if attempt.continues.is_none() {
            self.budgets.hold(attempt.reserved_at, principal, *proposed_at);
        }
        let is_first = self.pins.apply(attempt);
        let tool = (attempt.upstream.clone(), attempt.tool.clone());
        let pinned = (seen.leaf.is_none() && self.pins.lean(&tool, is_first)).then_some(tool);
        let continued = continued.filter(|_| seen.leaf.is_none());
        let call = Some(Continuable::of(attempt));
        let open = Open { leaf: seen.leaf.map(|(leaf, _)| leaf), lost: false, pinned, call, continued };
        self.open.insert(attempt.reserved_at, open);
        if let Some(ticket) = &attempt.ticket {
            self.drop_parked(ticket);
        }
        let step = Step::of(attempt, seen.record.seq, seen.record.at);
        match seen.leaf {
            Some(_) => self.histories.take(&step),
            None => self.histories.take_unsure(attempt.reserved_at, step),
        }
    }

    /// An outcome that is not this intent's closes nothing: at the next start the call is unknown, and charged. None gives
    /// back more than its status does.
    fn apply_outcome(&mut self, outcome: &Outcome) {
        let Outcome { action, intent, status, charged, .. } = outcome;
        let is_its = self.open.get(action).is_some_and(|open| open.leaf.is_none_or(|leaf| leaf == *intent));
        if !is_its {
            return;
        }
        let Some(open) = self.open.remove(action) else { return };
        // Of a continuation nothing is held.
        self.budgets.settle(*action, charge(*status, open.is_continued()).max(*charged));
        let waits = open.call.filter(|call| *status == Status::InputRequired && !self.kill.covers(&call.principal));
        if let Some(call) = waits {
            self.continuables.open(*intent, call, self.now);
        }
    }

    fn apply_proposal(&mut self, proposal: &Proposal, seen: Seen<'_>) {
        self.budgets.settle(proposal.attempt.reserved_at, 0);
        let Some(payload) = seen.payload.filter(|payload| payload.opens(&proposal.attempt)) else {
            return;
        };
        let Some(ticket) = proposal.attempt.ticket.clone() else {
            return;
        };
        // A new proposal takes the place of what there was for the same action.
        if let Some(old) = self.parked_by_digest.insert(payload.digest, ticket.clone()) {
            self.parked.remove(&old);
        }
        let parked = Parked {
            ticket: ticket.clone(),
            proposal: proposal.clone(),
            payload: payload.clone(),
            expires: proposal.expires,
            leaf: seen.leaf.map(|(leaf, _)| leaf),
            leaf_hash: seen.leaf.map(|(_, hash)| hash),
            consents: Default::default(),
            is_granted: false,
        };
        self.parked.insert(ticket, parked);
    }

    fn apply_consent(&mut self, consent: &Consent) {
        if !consent.approved {
            if let Some(parked) = self.drop_parked(&consent.ticket) {
                let refusal = RefusedAs {
                    ticket: consent.ticket.clone(),
                    human: consent.human.clone(),
                    expires: parked.expires,
                    leaf: consent.leaf,
                    leaf_hash: consent.proposal,
                };
                self.refused.insert(parked.payload.digest, refusal);
            }
            return;
        }
        let Some(parked) = self.parked.get_mut(&consent.ticket) else {
            return;
        };
        parked.consents.insert(consent.human.clone());
        if let Some(expires) = consent.grant_expires {
            parked.is_granted = true;
            parked.expires = expires;
        }
    }

    fn apply_command(&mut self, settings: &Settings, commanded: &Commanded) {
        let Signed { command, .. } = &commanded.signed;
        let now = self.now;
        match &command.deed {
            Deed::Resume { scope } => {
                self.kill.lift(scope);
            }
            Deed::Freeze { environment, until } => {
                self.freezes.insert(environment.clone(), *until);
            }
            Deed::Thaw { environment } => {
                self.freezes.remove(environment);
            }
            Deed::Enrol { human, key } => {
                let enrolled = Human { key: *key, enrolled: now };
                self.humans.insert(human.clone(), enrolled);
            }
            Deed::IssueToken { agent, run, ttl_ms } => {
                let Some(session) = &commanded.session else { return };
                // The run of a token that names none is its session.
                let Some(run) = run.clone().or_else(|| RunId::new(session.as_str()).ok()) else {
                    return;
                };
                let principal = Principal {
                    tenant: settings.tenant.clone(),
                    agent: agent.clone(),
                    session: session.clone(),
                    run,
                    depth: 0,
                };
                self.note_session(&principal, now.saturating_add_ms(*ttl_ms));
            }
            Deed::RevokeToken { session } => {
                // No token lives longer than this, whether its issue is on record or not.
                let forgotten = now.saturating_add_ms(settings.limits.token_ttl_max_ms);
                self.session_until(session, forgotten).revoked = true;
            }
            Deed::RevokeBlock { block } => {
                self.revoked.add(*block, now.saturating_add_ms(settings.limits.token_ttl_max_ms));
            }
            Deed::Lease { session, name, until } => {
                if let Some(session) = self.sessions.get_mut(session) {
                    session.leases.retain(|_, lease| lease.until > now);
                    // A lease that is renewed goes on: what was borrowed long ago stays borrowed long ago.
                    let since = session.leases.get(name).map_or(now, |lease| lease.since);
                    session.leases.insert(name.clone(), Lease { since, until: *until });
                }
            }
            Deed::Activate { configuration, policy, serial, .. } => {
                self.activation = Some(Activation { configuration: *configuration, policy: *policy, serial: *serial });
                // An acceptance of the running configuration is in force at once; one of another is for the next start.
                if let Some(lifetime) =
                    self.lifetime.as_mut().filter(|lifetime| lifetime.configuration == *configuration)
                {
                    lifetime.policy = *policy;
                }
            }
            Deed::ConfirmClock => self.clock_doubt = None,
            deed @ (Deed::Erase { .. } | Deed::Hold { .. } | Deed::Release { .. }) => {
                self.keep.apply(deed, &command.human, now);
            }
            Deed::Prune { .. } | Deed::RotateKey { .. } => {}
        }
    }
}
