//! From a call to the record of its decision: reads the inputs, has them judged, writes down both.
//!
//! Building is separate from applying: replay builds the record that should have been, and goes on
//! from the one that was.

use countersign_model::encoding::{Bounded, clipped, fits_leaf};
use countersign_model::id::TicketId;
use countersign_model::payload::{ActionPayload, Commitment, InputPayload};
use countersign_model::preview::{preview, preview_hash};
use countersign_model::record::{
    Attempt, Continued, Evaluation, History, Inputs, Proposal, RECORD_VERSION, Standing, WaitReading, Within,
};
use countersign_model::{Action, Body, Caller, Digest, Facts, Reason, ReasonCode, Record, Seq, Verdict};

use crate::continuation::sameness;
use crate::event::Salts;
use crate::judge::{Judgement, judge, policies};
use crate::kernel::Kernel;

/// A call between its reservation and its decision.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    pub(crate) attempt: Attempt,
    pub(crate) payload: ActionPayload,
    pub(crate) nonce: Digest,
}

impl Kernel {
    /// Reads all that a call proposed now is judged by.
    pub(crate) fn draft(&self, seq: Seq, caller: &Caller, action: Action, salts: &Salts) -> Draft {
        let digest = action.digest();
        let inputs = self.inputs(caller, &action);
        let input = action.continues.as_ref().map(|continues| InputPayload::of(continues, &salts.arguments));
        let continues = action.continues.zip(input.as_ref()).map(|(continues, input)| Continued {
            intent: continues.intent,
            input: input.commitment(),
            redactions: continues.redactions,
        });
        let attempt = Attempt {
            reserved_at: seq,
            proposed_at: self.state.now,
            digest: Commitment::to(&salts.digest, &digest.0),
            arguments: Commitment::to_fields(&salts.arguments, &action.arguments, &action.meta),
            principal: action.principal,
            point: action.point,
            upstream: action.upstream,
            tool: action.tool,
            manifest: action.manifest,
            target: action.target,
            environment: action.environment,
            facts: action.facts,
            inputs,
            verdict: Verdict::Deny,
            reasons: Vec::new(),
            ticket: None,
            claimed: action.claimed,
            redactions: action.redacted.map_or_else(Bounded::default, |redacted| redacted.places),
            continues,
        };
        let payload = ActionPayload {
            digest_salt: salts.digest,
            digest,
            arguments_salt: salts.arguments,
            arguments: action.arguments,
            meta: action.meta,
            input,
        };
        let mut draft = Draft { attempt, payload, nonce: salts.nonce };
        self.refresh(&mut draft);
        draft
    }

    /// Inputs that are read once, when the call is proposed.
    fn inputs(&self, caller: &Caller, action: &Action) -> Inputs {
        let principal = &action.principal;
        let known = *principal == caller.principal
            && principal.tenant == self.settings.tenant
            && self.settings.agents.contains(&principal.agent);
        Inputs {
            policy: self.policy(),
            budgets: self.state.budgets.read(principal, self.state.now),
            frozen_until: None,
            kill_epoch: 0,
            killed: false,
            leases: self.state.leases(&principal.session),
            granted: false,
            token_expires: caller.expires,
            evaluation: None,
            standing: Standing {
                known,
                in_flight: Within { count: self.in_flight(), max: self.settings.limits.in_flight_max },
                clock_suspended: self.state.clock_doubt.is_some(),
                narrowed: caller.narrowed.clone(),
                flagged: action.flagged.as_deref().map(|signs| clipped(signs, Reason::DETAIL_BYTES_MAX)),
                ..Standing::default()
            },
            history: Some(self.history(action)),
        }
    }

    /// What the agent did before, with what is being decided right now: two calls that come together see each other.
    fn history(&self, action: &Action) -> History {
        let principal = &action.principal;
        let mut history = self.state.histories.read(action, self.state.now);
        let whose = (&principal.agent, &action.target);
        self.asked.count_into(whose, &mut history.calls, &mut history.changes);
        // Had they all run one after another, this one would have stood behind the smaller ones.
        let smaller = self.asked.smaller(action);
        if smaller > 0 {
            history.growing = history.growing.max(1).saturating_add(smaller);
        }
        history.lease_minutes = self.state.lease_minutes(&principal.session);
        history
    }

    /// Inputs that are read again when the call is decided: a kill, freeze, revocation, consent or change of policy in
    /// between counts.
    fn refresh(&self, draft: &mut Draft) {
        let Draft { attempt, payload, .. } = draft;
        let goes_on = sameness(attempt, payload);
        let continues = attempt.continues.as_ref().map(|continued| continued.intent);
        let Attempt { principal, environment, inputs, upstream, tool, manifest, .. } = attempt;
        let state = &self.state;
        let limits = &self.settings.limits;
        inputs.policy = self.policy();
        inputs.kill_epoch = state.kill.epoch;
        inputs.killed = state.kill.covers(principal);
        inputs.frozen_until = state.frozen_until(environment);
        let standing = &mut inputs.standing;
        standing.accepted = state.pins.reading(&self.settings, (upstream, tool), manifest);
        let is_cut_off = standing.narrowed.as_ref().is_some_and(|narrowed| state.revoked.any(&narrowed.blocks));
        standing.revoked = is_cut_off || self.is_revoked(&principal.session);
        standing.pending_of_agent =
            Within { count: state.pending_count(Some(&principal.agent)), max: limits.pending_per_agent_max };
        standing.pending = Within { count: state.pending_count(None), max: limits.pending_max };
        standing.waits_as = state
            .waiting(&payload.digest)
            .filter(|parked| parked.goes_on() == goes_on)
            .map(|parked| WaitReading { ticket: parked.ticket.clone(), gates: parked.gates().to_vec() });
        standing.refused_by = state.refused.get(&payload.digest).map(|refusal| refusal.human.clone());
        let grant = state.grant(&payload.digest).filter(|grant| grant.goes_on() == goes_on);
        standing.grant = grant.map(|grant| grant.reading());
        standing.continuation = continues.and_then(|intent| state.continuation(intent));
        inputs.granted = standing.grant.is_some();
    }

    /// The record of a call that needs no policy to be decided, if it does not.
    pub(crate) fn decide_at_once(&self, seq: Seq, draft: &Draft) -> Option<Record> {
        match judge(&draft.attempt, self.state.now) {
            Judgement::Ask => None,
            judgement => Some(self.decided(seq, draft.clone(), judgement)),
        }
    }

    /// The record of a call that policy has answered.
    pub(crate) fn decide(&self, seq: Seq, mut draft: Draft, evaluation: Evaluation) -> Record {
        self.refresh(&mut draft);
        draft.attempt.inputs.evaluation = Some(evaluation);
        let judgement = judge(&draft.attempt, self.state.now);
        self.decided(seq, draft, judgement)
    }

    /// The record of a call whose caller went away.
    pub(crate) fn decide_abandoned(&self, seq: Seq, mut draft: Draft) -> Record {
        self.refresh(&mut draft);
        draft.attempt.inputs.standing.abandoned = true;
        let judgement = judge(&draft.attempt, self.state.now);
        self.decided(seq, draft, judgement)
    }

    fn decided(&self, seq: Seq, draft: Draft, judgement: Judgement) -> Record {
        let Draft { mut attempt, payload, nonce } = draft;
        let body = match judgement {
            // With an answer there is always a decision; a denial is the safe reading of "always".
            Judgement::Ask => {
                let reason = Reason::because(ReasonCode::Internal, "an answered call was not decided");
                Body::Denial(Box::new(denial(attempt, reason)))
            }
            Judgement::Deny { reason } => Body::Denial(Box::new(denial(attempt, reason))),
            Judgement::Allow { reason, ticket, verdict } => {
                attempt.verdict = verdict;
                attempt.reasons = vec![reason];
                attempt.ticket = ticket;
                Body::Intent(Box::new(attempt))
            }
            Judgement::Wait { ticket, gates } => {
                attempt.verdict = Verdict::RequireApproval { gates };
                attempt.reasons = vec![Reason::plain(ReasonCode::Waiting)];
                attempt.ticket = Some(ticket);
                Body::Waiting(Box::new(attempt))
            }
            Judgement::Park { gates } => {
                let timeout_ms = gates.iter().map(|gate| gate.timeout_ms).min().unwrap_or(0);
                attempt.ticket = self.unused_ticket(&payload.digest, &nonce, attempt.reserved_at);
                attempt.reasons = vec![Reason::by_policies(ReasonCode::Gate, policies(&gates))];
                attempt.verdict = Verdict::RequireApproval { gates };
                Body::Proposal(Box::new(Proposal {
                    expires: self.state.now.saturating_add_ms(timeout_ms),
                    preview: preview_hash(&preview(&payload.action(&attempt))),
                    nonce,
                    attempt,
                }))
            }
        };
        within_bounds(self.record(seq, body))
    }

    /// A record of now.
    pub(crate) fn record(&self, seq: Seq, body: Body) -> Record {
        Record { version: RECORD_VERSION, seq, at: self.state.now, body }
    }

    fn unused_ticket(&self, digest: &Digest, nonce: &Digest, call: Seq) -> Option<TicketId> {
        (0_u64..)
            .filter_map(|attempt| ticket(digest, nonce, (call, attempt)))
            .find(|ticket| !self.state.parked.contains_key(ticket))
    }
}

pub(crate) fn denial(mut attempt: Attempt, reason: Reason) -> Attempt {
    attempt.verdict = Verdict::Deny;
    attempt.reasons = vec![reason];
    attempt.ticket = None;
    attempt
}

/// A record that does not fit its leaf becomes a denial that does.
fn within_bounds(record: Record) -> Record {
    if fits_leaf(&record) {
        return record;
    }
    let Some(attempt) = record.body.attempt() else {
        return record;
    };
    let mut attempt = denial(attempt.clone(), Reason::plain(ReasonCode::RecordTooLong));
    attempt.facts = Facts::opaque(DID_NOT_FIT);
    attempt.inputs.evaluation = None;
    attempt.inputs.standing.waits_as = None;
    attempt.inputs.standing.grant = None;
    attempt.inputs.standing.continuation = None;
    Record { body: Body::Denial(Box::new(attempt)), ..record }
}

/// Whether a decision is one that [`within_bounds`] made: what it was decided on is not in it.
pub(crate) fn did_not_fit(body: &Body) -> bool {
    let Body::Denial(attempt) = body else { return false };
    let Inputs { evaluation, standing, .. } = &attempt.inputs;
    attempt.verdict == Verdict::Deny
        && attempt.reasons == [Reason::plain(ReasonCode::RecordTooLong)]
        && attempt.ticket.is_none()
        && attempt.facts == Facts::opaque(DID_NOT_FIT)
        && evaluation.is_none()
        && standing.waits_as.is_none()
        && standing.grant.is_none()
        && standing.continuation.is_none()
}

const DID_NOT_FIT: &str = "the facts did not fit the record";
const TICKET_CHARS: usize = 10;
/// Crockford's base32: no letter that is taken for a digit.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

fn ticket(digest: &Digest, nonce: &Digest, (call, again): (Seq, u64)) -> Option<TicketId> {
    let parts: [&[u8]; 4] = [&digest.0, &nonce.0, &call.0.to_be_bytes(), &again.to_be_bytes()];
    let hash = Digest::of("countersign ticket v1", &parts);
    let chars = hash
        .0
        .iter()
        .take(TICKET_CHARS)
        .filter_map(|byte| ALPHABET.get(usize::from(byte & 31)).copied().map(char::from));
    TicketId::new(&format!("t-{}", chars.collect::<String>())).ok()
}
