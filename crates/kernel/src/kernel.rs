//! The state machine: one event in, commands out.
//!
//! A step gives time, sweeps what ran out of it, gives the event its sequence number and takes it. Every record is
//! made from the state as it is and then applied by `State::apply`, as at recovery. What is volatile are calls
//! in flight: a process that ends loses them, and what they held is released by being forgotten.

use std::collections::BTreeMap;

use countersign_model::encoding::{Bounded, clipped};
use countersign_model::id::{Environment, HoldName, HumanId, SessionId, TenantId, TicketId, ToolName, UpstreamId};
use countersign_model::payload::ActionPayload;
use countersign_model::record::{
    BudgetReading, ClockJump, Erased, Evaluation, Expired, Gap, KeyRotated, Killed, Outcome, Pruned, Refused, Snapshot,
    Started, Status, VaultScope,
};
use countersign_model::unit::{Bytes, LeafIndex};
use countersign_model::{Body, Caller, Digest, Reason, ReasonCode, Record, Seq, TimeMs};

use crate::apply::Seen;
use crate::asked::Asked;
use crate::attempt::Draft;
use crate::consent::Answered;
use crate::event::{Command, Event, Salts};
use crate::keep::Hold;
use crate::kill::KillState;
use crate::parked::Parked;
use crate::policy::EvaluationRequest;
use crate::settings::Settings;
use crate::state::{Activation, Begin, Human, Session, State};

/// The longest note of an outcome in bytes.
const NOTE_BYTES_MAX: usize = 240;

/// The kernel.
#[derive(Clone, Debug)]
pub struct Kernel {
    pub(crate) settings: Settings,
    pub(crate) state: State,
    /// Calls that policy is being asked about.
    pub(crate) asked: Asked,
    /// Calls whose proposal is not durable yet.
    parking: BTreeMap<Seq, TicketId>,
}

impl Kernel {
    /// A kernel that knows nothing yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self::of(settings.clone(), State::new(settings.budgets))
    }

    pub(crate) const fn of(settings: Settings, state: State) -> Self {
        Self { settings, state, asked: Asked::new(), parking: BTreeMap::new() }
    }

    /// Whether it holds calls that no record on disk speaks of.
    pub(crate) fn has_calls_in_flight(&self) -> bool {
        !self.asked.is_empty() || !self.parking.is_empty()
    }

    /// Takes one event at `now` (or at the latest time known, if that is later).
    pub fn step(&mut self, now: TimeMs, event: Event) -> Vec<Command> {
        let mut out = Vec::new();
        if let Event::Recovered { record, leaf, leaf_hash, payload } = event {
            let seen = Seen { record: &record, payload: payload.as_ref(), leaf: Some((leaf, leaf_hash)) };
            self.state.apply(&self.settings, seen);
            return out;
        }
        self.state.pass(now);
        if !matches!(event, Event::Started { .. } | Event::Gap { .. }) {
            self.sweep(&mut out);
        }
        let seq = self.take_seq();
        match event {
            Event::Proposed { .. } | Event::Evaluated { .. } | Event::Abandoned { .. } => {
                self.take_call(seq, event, &mut out);
            }
            Event::Appended { .. } | Event::AppendFailed { .. } | Event::Ended { .. } => {
                self.take_progress(seq, event, &mut out);
            }
            Event::Consented { .. } | Event::Commanded { .. } => self.take_order(seq, event, &mut out),
            other => self.take_notice(seq, other, &mut out),
        }
        out
    }

    fn take_call(&mut self, seq: Seq, event: Event, out: &mut Vec<Command>) {
        match event {
            Event::Proposed { caller, action, salts } => self.propose(seq, (&caller, *action), &salts, out),
            Event::Evaluated { call, evaluation } => {
                // A second answer to the same question, or one to a call that was abandoned, answers nothing.
                if let Some(draft) = self.asked.remove(call) {
                    self.evaluated((seq, call), draft, evaluation, out);
                }
            }
            Event::Abandoned { call } => {
                if let Some(draft) = self.asked.remove(call) {
                    let payload = draft.payload.clone();
                    let record = self.decide_abandoned(seq, draft);
                    self.append_decision(record, payload, out);
                }
            }
            _ => {}
        }
    }

    fn propose(&mut self, seq: Seq, call: (&Caller, countersign_model::Action), salts: &Salts, out: &mut Vec<Command>) {
        let draft = self.draft(seq, call.0, call.1, salts);
        if let Some(record) = self.decide_at_once(seq, &draft) {
            self.append_decision(record, draft.payload, out);
            return;
        }
        out.push(question(seq, &draft));
        self.ask(seq, draft);
    }

    /// What the policy in force answered decides; what another one answered is asked again, so that no decision rests on
    /// a policy that is no longer in force. Only a human's order changes it, so this ends.
    fn evaluated(&mut self, (seq, call): (Seq, Seq), mut draft: Draft, evaluation: Evaluation, out: &mut Vec<Command>) {
        if draft.attempt.inputs.policy != self.policy() {
            draft.attempt.inputs.policy = self.policy();
            out.push(question(call, &draft));
            self.asked.insert(call, draft);
            return;
        }
        let payload = draft.payload.clone();
        let record = self.decide(seq, draft, evaluation);
        self.append_decision(record, payload, out);
    }

    /// Reserves for a call and keeps it until policy has answered.
    pub(crate) fn ask(&mut self, seq: Seq, draft: Draft) {
        let now = self.state.now;
        self.state.note_session(&draft.attempt.principal, draft.attempt.inputs.token_expires);
        if draft.attempt.continues.is_none() {
            self.state.budgets.hold(seq, &draft.attempt.principal, now);
        }
        self.asked.insert(seq, draft);
    }

    /// Takes back a call that policy was asked about.
    pub(crate) fn answered(&mut self, call: Seq) -> Option<Draft> {
        self.asked.remove(call)
    }

    fn append_decision(&mut self, record: Record, payload: ActionPayload, out: &mut Vec<Command>) {
        let call = record.body.attempt().map(|attempt| attempt.reserved_at);
        if let (Some(call), Body::Proposal(proposal)) = (call, &record.body)
            && let Some(ticket) = proposal.attempt.ticket.clone()
        {
            self.parking.insert(call, ticket);
        }
        let seen = Seen { record: &record, payload: Some(&payload), leaf: None };
        self.state.apply(&self.settings, seen);
        out.push(Command::Append { call, record, payload: Some(payload) });
    }

    fn take_progress(&mut self, seq: Seq, event: Event, out: &mut Vec<Command>) {
        match event {
            Event::Appended { call, leaf, leaf_hash } => self.durable(call, leaf, leaf_hash),
            Event::AppendFailed { call, surely_absent } => {
                if let Some(ticket) = self.parking.remove(&call) {
                    self.state.drop_parked(&ticket);
                }
                let absent = surely_absent.then(|| self.state.open.remove(&call)).flatten();
                if let Some(open) = absent {
                    self.state.budgets.settle(call, 0);
                    self.state.histories.undo(call);
                    if let Some(tool) = open.pinned {
                        self.state.pins.forget(&tool);
                    }
                    if let Some((intent, call)) = open.continued {
                        self.state.continuables.give_back(intent, call);
                    }
                    return;
                }
                self.state.histories.settled(call);
                if let Some(open) = self.state.open.get_mut(&call) {
                    open.lost = true;
                    open.continued = None;
                    if let Some(tool) = open.pinned.take() {
                        self.state.pins.settle(&tool);
                    }
                }
            }
            Event::Ended { call, status, result, rows, bytes_sent, duration_ms, note, cost_microusd, undo } => {
                let open = self.state.open.get(&call).filter(|open| !open.lost);
                let Some((intent, is_continued)) = open.and_then(|open| Some((open.leaf?, open.is_continued()))) else {
                    return;
                };
                let outcome = Outcome {
                    action: call,
                    intent,
                    status,
                    result,
                    rows,
                    bytes_sent,
                    duration_ms,
                    note: note.map(|note| clipped(&note, NOTE_BYTES_MAX)),
                    charged: charge(status, is_continued),
                    cost_microusd,
                    undo,
                };
                self.append(seq, Body::Outcome(outcome), out);
            }
            _ => {}
        }
    }

    fn durable(&mut self, call: Seq, leaf: LeafIndex, leaf_hash: Digest) {
        self.state.histories.settled(call);
        if let Some(open) = self.state.open.get_mut(&call) {
            open.leaf = Some(leaf);
            open.continued = None;
            if let Some(tool) = open.pinned.take() {
                self.state.pins.settle(&tool);
            }
        }
        let parked = self.parking.remove(&call).and_then(|ticket| self.state.parked.get_mut(&ticket));
        if let Some(parked) = parked {
            parked.leaf = Some(leaf);
            parked.leaf_hash = Some(leaf_hash);
        }
    }

    fn take_order(&mut self, seq: Seq, event: Event, out: &mut Vec<Command>) {
        let body = match event {
            Event::Consented { ticket, human, approved, signature } => {
                let answered = Answered { ticket, human, approved, signature };
                self.consented(answered).map(Body::Consent)
            }
            Event::Commanded { signed, session } => self.commanded(signed, session).map(Body::Commanded),
            _ => return,
        };
        match body {
            Ok(body) => self.append(seq, body, out),
            Err(why) => out.push(Command::Refuse { reason: Reason::because(ReasonCode::OrderRefused, &why) }),
        }
    }

    fn take_notice(&mut self, seq: Seq, event: Event, out: &mut Vec<Command>) {
        let body = match event {
            Event::Started { kill } => return self.start(seq, &kill, out),
            Event::Killed { scope, epoch, cancelled, took_ms } => {
                Body::Killed(Killed { scope, epoch, cancelled, took_ms })
            }
            Event::Refused { point, principal, reason, count } => {
                Body::Refused(Refused { point, principal, reason, count })
            }
            Event::ClockJumped { by_ms } if by_ms >= self.settings.limits.clock_jump_ms => {
                Body::ClockJump(ClockJump { by_ms })
            }
            Event::Gap { size, bytes } => Body::Gap(Gap { size, bytes }),
            Event::Snapshot { size, state } => Body::Snapshot(Snapshot { size, state }),
            Event::Pruned { minimum, newest, command, state } => {
                Body::Pruned(Pruned { minimum, newest, command, state })
            }
            Event::KeyRotated { command } => Body::KeyRotated(KeyRotated { statement: String::new(), command }),
            Event::Erased { scope, command, keys, payloads, tickets } => {
                // What has been answered or has lapsed needs no further word.
                let is_known = |ticket: &TicketId| {
                    let is_refused = self.state.refused.values().any(|refusal| refusal.ticket == *ticket);
                    is_refused || self.state.parked.contains_key(ticket)
                };
                let tickets = tickets.into_iter().filter(is_known).collect();
                Body::Erased(Erased { scope, command, keys, payloads, tickets })
            }
            Event::Stopped => Body::Stopped,
            _ => return,
        };
        self.append(seq, body, out);
    }

    /// The end of start-up: what the file knows of kills is added, and what was in flight is unknown.
    fn start(&mut self, seq: Seq, kill: &KillState, out: &mut Vec<Command>) {
        let started = Started {
            version: self.settings.version.clone(),
            configuration: self.settings.configuration,
            policy: self.settings.policy,
            kill_epoch: kill.epoch.max(self.state.kill.epoch),
            profile: self.settings.profile.clone(),
            budgets: Bounded::new(self.settings.budgets.iter().map(|rule| rule.words())),
        };
        self.append(seq, Body::Started(Box::new(started)), out);
        for scope in kill.scopes.difference(&self.state.kill.scopes.clone()) {
            let killed = Killed { scope: scope.clone(), epoch: kill.epoch, cancelled: 0, took_ms: 0 };
            let seq = self.take_seq();
            self.append(seq, Body::Killed(killed), out);
        }
        let open: Vec<_> = self.state.open.iter().map(|(call, open)| (*call, open.leaf, open.is_continued())).collect();
        for (action, leaf, is_continued) in open {
            let Some(intent) = leaf else { continue };
            let outcome = Outcome {
                action,
                intent,
                status: Status::Unknown,
                result: None,
                rows: None,
                bytes_sent: Bytes(0),
                duration_ms: 0,
                note: Some("the gateway ended before the outcome was recorded".to_owned()),
                charged: charge(Status::Unknown, is_continued),
                cost_microusd: None,
                undo: None,
            };
            let seq = self.take_seq();
            self.append(seq, Body::Outcome(outcome), out);
        }
    }

    /// Records what ran out of time. Bounded by the bound on proposals and grants.
    fn sweep(&mut self, out: &mut Vec<Command>) {
        while let Some((ticket, granted)) = self.state.first_expired() {
            let seq = self.take_seq();
            self.append(seq, Body::Expired(Expired { ticket, granted }), out);
        }
    }

    fn append(&mut self, seq: Seq, body: Body, out: &mut Vec<Command>) {
        let record = self.record(seq, body);
        let seen = Seen { record: &record, payload: None, leaf: None };
        self.state.apply(&self.settings, seen);
        out.push(Command::Append { call: None, record, payload: None });
    }

    fn take_seq(&mut self) -> Seq {
        let seq = self.state.next;
        self.state.next = seq.checked_add(1).unwrap_or(seq);
        seq
    }
}

/// The question about a call, for the policy that its inputs name.
fn question(call: Seq, draft: &Draft) -> Command {
    let request = EvaluationRequest::from_attempt(&draft.attempt, &draft.payload.arguments);
    Command::Evaluate { call, policy: draft.attempt.inputs.policy, request }
}

/// What an outcome is charged: only what surely did not start is free, and what goes on with a call that was charged.
pub(crate) const fn charge(status: Status, is_continued: bool) -> u64 {
    match status {
        _ if is_continued => 0,
        Status::NotStarted => 0,
        Status::Done | Status::Failed | Status::Unknown | Status::InputRequired => 1,
    }
}

/// Views. They show the state and change nothing.
impl Kernel {
    /// The latest time that the kernel knows.
    #[must_use]
    pub const fn now(&self) -> TimeMs {
        self.state.now
    }

    /// What it was set up with.
    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The hash of the policy in force: that of the last start, or a later one that a human accepted while it ran.
    #[must_use]
    pub fn policy(&self) -> Digest {
        self.state.lifetime.as_ref().map_or(self.settings.policy, |lifetime| lifetime.policy)
    }

    /// The tenant.
    #[must_use]
    pub const fn tenant(&self) -> &TenantId {
        &self.settings.tenant
    }

    /// Proposals that wait for consent, and those that were consented to and wait for their retry, by ticket.
    pub fn pending(&self) -> impl Iterator<Item = &Parked> {
        self.state.parked.values().filter(|parked| parked.expires > self.state.now)
    }

    /// One of them.
    #[must_use]
    pub fn proposal(&self, ticket: &TicketId) -> Option<&Parked> {
        self.state.parked.get(ticket).filter(|parked| parked.expires > self.state.now)
    }

    /// Freezes in force, with their ends.
    pub fn freezes(&self) -> impl Iterator<Item = (&Environment, TimeMs)> {
        self.state.freezes.keys().filter_map(|environment| Some((environment, self.state.frozen_until(environment)?)))
    }

    /// What is killed.
    #[must_use]
    pub const fn kills(&self) -> &KillState {
        &self.state.kill
    }

    /// Every counter.
    #[must_use]
    pub fn budgets(&self) -> Vec<BudgetReading> {
        self.state.budgets.all()
    }

    /// Calls between reservation and end.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        let running = self.state.open.values().filter(|open| !open.lost).count();
        self.asked.len().saturating_add(running) as u64
    }

    /// An enrolled human.
    #[must_use]
    pub fn human(&self, id: &HumanId) -> Option<&Human> {
        self.state.humans.get(id)
    }

    /// Everyone enrolled.
    pub fn humans(&self) -> impl Iterator<Item = (&HumanId, &Human)> {
        self.state.humans.iter()
    }

    /// Sessions whose tokens have not expired, by id.
    pub fn sessions(&self) -> impl Iterator<Item = (&SessionId, &Session)> {
        self.state.sessions.iter()
    }

    /// Whether a session was revoked.
    #[must_use]
    pub fn is_revoked(&self, session: &SessionId) -> bool {
        self.state.sessions.get(session).is_some_and(|session| session.revoked)
    }

    /// Whether one of these blocks of a token was revoked.
    #[must_use]
    pub fn is_cut_off(&self, blocks: &[Digest]) -> bool {
        self.state.revoked.any(blocks)
    }

    /// Legal holds in force.
    pub fn holds(&self) -> impl Iterator<Item = (&HoldName, &Hold)> {
        self.state.keep.holds.iter()
    }

    /// Erasures that were ordered and are not on record as done.
    pub fn erasures(&self) -> impl Iterator<Item = &VaultScope> {
        self.state.keep.erasures.iter()
    }

    /// Where the log begins, and what the record that says so commits to; none while nothing was pruned.
    #[must_use]
    pub const fn pruned(&self) -> Option<Begin> {
        self.state.pruned
    }

    /// Whether a tool may be called as its upstream defines it now. For listings; a call reads it again.
    #[must_use]
    pub fn accepts(&self, (upstream, tool): (&UpstreamId, &ToolName), manifest: Digest) -> bool {
        let reading = self.state.pins.reading(&self.settings, (upstream, tool), &manifest);
        reading.is_none_or(|accepted| accepted.manifest == Some(manifest))
    }

    /// Whether a human accepted this very definition of a tool by name.
    #[must_use]
    pub fn is_accepted(&self, (upstream, tool): (&UpstreamId, &ToolName), manifest: Digest) -> bool {
        self.settings.accepted.get(upstream).and_then(|tools| tools.get(tool)) == Some(&manifest)
    }

    /// Whether leases are suspended because the clock jumped.
    #[must_use]
    pub const fn is_clock_in_doubt(&self) -> bool {
        self.state.clock_doubt.is_some()
    }

    /// What humans activated last.
    #[must_use]
    pub const fn activation(&self) -> Option<Activation> {
        self.state.activation
    }
}
