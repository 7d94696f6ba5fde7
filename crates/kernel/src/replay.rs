//! Replay: every decision of a log is made again and compared with what stands there.
//!
//! Attempts become proposals at the sequence number of their reservation and decisions at that of their record;
//! every other record is applied where it stands. Each decision is made twice: from the refolded state, and
//! from the inputs of its own record alone. The fold then goes on from what was recorded, so one difference is one
//! finding. Signatures of consents and commands are checked under every configuration: what a `started` claims exempts
//! nothing from that, and whoever decided under a configuration that no human accepted is found.
//!
//! What it cannot know: calls that were in flight when a process died left no record, so in such a lifetime a
//! recorded `reserved` or `in_flight` may be higher than the refolded one. A proposal whose append failed and that is on
//! disk all the same shows as a difference in what waits.

use std::collections::BTreeMap;

use countersign_model::command::Deed;
use countersign_model::payload::{ActionPayload, Salt};
use countersign_model::record::{AcceptedBy, Attempt, Commanded, Consent, Inputs, Outcome, Recent};
use countersign_model::unit::LeafIndex;
use countersign_model::{Body, Caller, Digest, Record, Seq, Verdict};

use crate::apply::Seen;
use crate::attempt::{Draft, did_not_fit};
use crate::consent::Answered;
use crate::event::Salts;
use crate::judge::{Judgement, judge};
use crate::kernel::{Kernel, charge};
use crate::policy::{Bundle, EvaluationRequest};
use crate::settings::Settings;
use crate::state::{Lifetime, Open};

mod stream;

#[cfg(test)]
mod tests;

pub use stream::{Replayer, WINDOW};

/// One leaf of a log.
#[derive(Clone, Debug)]
pub struct Leaf {
    /// The record.
    pub record: Record,
    /// Where it stands.
    pub leaf: LeafIndex,
    /// Its RFC 6962 leaf hash.
    pub leaf_hash: Digest,
    /// Its payload; absent where it has none or it was erased.
    pub payload: Option<ActionPayload>,
}

/// What replay found: a line for every decision, consent, command and snapshot, and for every outcome and
/// erasure that differs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// In the order of sequence numbers.
    pub lines: Vec<Line>,
}

/// What replay found of one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The record's leaf.
    pub leaf: LeafIndex,
    /// Its sequence number.
    pub seq: Seq,
    /// Its kind.
    pub kind: &'static str,
    /// What was found.
    pub found: Found,
}

/// What replay found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// The same verdict, reasons and inputs.
    Identical,
    /// Not the same.
    Differs {
        /// What, with both values, sorted by where it stands in the record.
        what: Vec<String>,
    },
    /// What it was decided on is not kept: its payload was erased, or its facts did not fit the record.
    Erased,
    /// It was decided under another configuration or policy than those given, which a human accepted. It follows from
    /// its own inputs, or is signed by whom it names; the rest was not judged again.
    Outdated,
}

impl Report {
    /// Whether nothing differs and everything was judged again. What was erased is no objection.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        !self.lines.iter().any(|line| matches!(line.found, Found::Differs { .. } | Found::Outdated))
    }
}

/// The bundles that replay may ask, by the hashes that records name them by. A log may have more than one: a human can
/// accept another policy while the gateway runs.
#[derive(Clone, Debug, Default)]
pub struct Bundles<'a>(BTreeMap<Digest, &'a Bundle>);

impl<'a> Bundles<'a> {
    /// One bundle, under the hash that `settings` name.
    #[must_use]
    pub fn one(settings: &Settings, bundle: &'a Bundle) -> Self {
        Self([(settings.policy, bundle)].into())
    }

    /// These, and one more under its own hash.
    #[must_use]
    pub fn with(mut self, bundle: &'a Bundle) -> Self {
        self.0.insert(bundle.hash(), bundle);
        self
    }

    fn of(&self, hash: &Digest) -> Option<&'a Bundle> {
        self.0.get(hash).copied()
    }
}

/// Replays a whole log from its first leaf, under the configuration and policy given.
#[must_use]
pub fn replay(leaves: &[Leaf], settings: &Settings, bundle: &Bundle) -> Report {
    replay_with(leaves, settings, Bundles::one(settings, bundle))
}

/// The same with more than one policy: each decision is asked again of the one that was in force.
#[must_use]
pub fn replay_with(leaves: &[Leaf], settings: &Settings, bundles: Bundles<'_>) -> Report {
    let mut report = Report::default();
    let mut found = |line| report.lines.push(line);
    let mut replayer = Replayer::with(Kernel::new(settings.clone()), 0, bundles);
    leaves.iter().for_each(|leaf| replayer.feed(leaf.clone(), &mut found));
    replayer.finish(&mut found);
    report.lines.sort_by_key(|line| (line.seq, line.leaf));
    report
}

struct Replay<'a> {
    kernel: Kernel,
    bundles: Bundles<'a>,
    /// Whether what is in force at this place of the log is the configuration and one of the policies given.
    is_current: bool,
    /// Whether a human accepted configuration and policy of the lifetime at hand. A later acceptance, of what the next
    /// start is to run, takes nothing from that.
    is_accepted: bool,
    /// Whether a proposal was erased: then what waited cannot be counted again.
    has_erased: bool,
}

/// What a record came to.
enum Taken {
    /// It decides nothing.
    Nothing,
    Found(Found),
    /// Calls in flight that left no record would explain it, but only if the process ended without saying so.
    Doubtful {
        /// If the process ended in an orderly way.
        clean: Found,
        /// If it did not.
        unclean: Found,
    },
}

impl<'a> Replay<'a> {
    fn new(kernel: Kernel, bundles: Bundles<'a>) -> Self {
        let mut replay = Self { kernel, bundles, is_current: false, is_accepted: false, has_erased: false };
        if let Some(lifetime) = &replay.kernel.state.lifetime {
            replay.is_current = replay.is_under(lifetime);
            // Its start lies below where this begins, which is not looked at.
            replay.is_accepted = true;
        }
        replay
    }

    /// Whether a lifetime runs under the configuration and one of the policies given.
    fn is_under(&self, lifetime: &Lifetime) -> bool {
        let settings = &self.kernel.settings;
        lifetime.configuration == settings.configuration && self.bundles.of(&lifetime.policy).is_some()
    }

    /// Whether a lifetime ran under them in this very version.
    fn is_ours(&self, lifetime: &Lifetime) -> bool {
        self.is_under(lifetime) && lifetime.version == self.kernel.settings.version
    }

    fn reserve(&mut self, leaf: &Leaf) {
        let Some(attempt) = leaf.record.body.attempt() else {
            return;
        };
        self.kernel.state.pass(attempt.proposed_at);
        let draft = self.draft(leaf, attempt);
        self.kernel.ask(attempt.reserved_at, draft);
    }

    /// The call as it was proposed; where its payload is gone, as it stands in the record.
    fn draft(&self, leaf: &Leaf, attempt: &Attempt) -> Draft {
        let nonce = match &leaf.record.body {
            Body::Proposal(proposal) => proposal.nonce,
            _ => Digest([0; 32]),
        };
        let Some(payload) = readable(leaf, attempt) else {
            let erased = ActionPayload {
                digest_salt: Salt([0; 32]),
                digest: Digest([0; 32]),
                arguments_salt: Salt([0; 32]),
                arguments: Vec::new(),
                meta: Vec::new(),
                input: None,
            };
            return Draft { attempt: attempt.clone(), payload: erased, nonce };
        };
        let caller = Caller {
            principal: attempt.principal.clone(),
            expires: attempt.inputs.token_expires,
            narrowed: attempt.inputs.standing.narrowed.clone(),
        };
        let salts = Salts { digest: payload.digest_salt, arguments: payload.arguments_salt, nonce };
        self.kernel.draft(attempt.reserved_at, &caller, payload.action(attempt), &salts)
    }

    fn take(&mut self, leaf: &Leaf) -> Taken {
        let record = &leaf.record;
        self.kernel.state.pass(record.at);
        if let Body::Started(started) = &record.body {
            self.is_current = self.is_under(&Lifetime::of(started));
            self.is_accepted = false;
        }
        let taken = match &record.body {
            Body::Consent(consent) => Taken::Found(self.consent(consent)),
            Body::Commanded(commanded) => Taken::Found(self.command(commanded)),
            Body::Outcome(outcome) => self.outcome(outcome),
            // What was never ordered explains no missing payload.
            Body::Erased(erased) if !self.kernel.state.keep.erasures.contains(&erased.scope) => {
                Taken::Found(Found::Differs { what: vec!["scope: no order to erase it is on record".to_owned()] })
            }
            body => body.attempt().map_or(Taken::Nothing, |attempt| self.attempt(leaf, attempt)),
        };
        let seen = Seen { record, payload: leaf.payload.as_ref(), leaf: Some((leaf.leaf, leaf.leaf_hash)) };
        self.kernel.state.apply(&self.kernel.settings, seen);
        // A start is on record before what it runs is accepted, so an acceptance behind it counts too.
        // An acceptance may have put another policy in force.
        let state = &self.kernel.state;
        self.is_current = state.lifetime.as_ref().is_some_and(|lifetime| self.is_under(lifetime));
        self.is_accepted |= state.activation.zip(state.lifetime.as_ref()).is_some_and(|(accepted, lifetime)| {
            (accepted.configuration, accepted.policy) == (lifetime.configuration, lifetime.policy)
        });
        taken
    }

    fn consent(&self, consent: &Consent) -> Found {
        if self.has_erased && self.kernel.proposal(&consent.ticket).is_none() {
            return found(self.kernel.is_signed_consent(consent), Found::Erased);
        }
        let mut again = self.kernel.consented(Answered {
            ticket: consent.ticket.clone(),
            human: consent.human.clone(),
            approved: consent.approved,
            signature: consent.signature.clone(),
        });
        // How long a grant lasts is the configuration's to say; whether it is one follows from the record.
        if let (false, Ok(again)) = (self.is_current, &mut again) {
            again.grant_expires = again.grant_expires.and(consent.grant_expires);
        }
        let judged = if self.is_current { Found::Identical } else { Found::Outdated };
        found(is_same(again.as_ref(), consent, "consent"), judged)
    }

    fn command(&self, commanded: &Commanded) -> Found {
        let Commanded { signed, session } = commanded;
        let rests_on_configuration = matches!(
            signed.command.deed,
            Deed::Freeze { .. } | Deed::IssueToken { .. } | Deed::Lease { .. } | Deed::Prune { .. }
        );
        if rests_on_configuration && !self.is_current {
            return found(self.kernel.is_signed_command(signed), Found::Outdated);
        }
        let again = self.kernel.commanded(signed.clone(), session.clone());
        found(is_same(again.as_ref(), commanded, "command"), Found::Identical)
    }

    /// An outcome decides nothing; what it closes and what it charges follow all the same.
    fn outcome(&self, outcome: &Outcome) -> Taken {
        let mut what = Differences::default();
        let open = self.kernel.state.open.get(&outcome.action);
        match open.and_then(|open| open.leaf) {
            Some(intent) => what.compare("intent", &outcome.intent, &intent),
            None => what.0.push(format!("action: no intent of `{}` waits for an outcome", outcome.action)),
        }
        what.compare("charged", &outcome.charged, &charge(outcome.status, open.is_some_and(Open::is_continued)));
        if what.0.is_empty() { Taken::Nothing } else { Taken::Found(Found::Differs { what: what.0 }) }
    }

    fn attempt(&mut self, leaf: &Leaf, recorded: &Attempt) -> Taken {
        let asked = self.kernel.answered(recorded.reserved_at);
        let mut what = self.not_accepted(recorded);
        let did_not_fit = did_not_fit(&leaf.record.body);
        if !did_not_fit {
            // Its own inputs alone must give what it says, whatever else is known.
            what.extend(judged_again(&leaf.record, recorded));
        }
        if readable(leaf, recorded).is_none() {
            self.has_erased = true;
            if leaf.payload.is_some() {
                let what = vec!["payload: it is not the one that the record commits to".to_owned()];
                return Taken::Found(Found::Differs { what });
            }
            return Taken::Found(differing(what, Found::Erased));
        }
        if did_not_fit {
            return Taken::Found(differing(what, Found::Erased));
        }
        if !self.is_current {
            return Taken::Found(differing(what, Found::Outdated));
        }
        let draft = asked.unwrap_or_else(|| self.draft(leaf, recorded));
        let clean = self.compared_again(leaf, draft.clone(), recorded, what.clone());
        if clean == Found::Identical {
            return Taken::Found(clean);
        }
        let mut forgiven = draft;
        forgive(&mut forgiven.attempt.inputs, &recorded.inputs);
        Taken::Doubtful { clean, unclean: self.compared_again(leaf, forgiven, recorded, what) }
    }

    /// What is wrong with whom or what it was decided under.
    fn not_accepted(&self, recorded: &Attempt) -> Vec<String> {
        let mut what = Differences::default();
        let Some(lifetime) = &self.kernel.state.lifetime else {
            return vec!["start: no start is on record before it".to_owned()];
        };
        what.compare("policy", &recorded.inputs.policy, &lifetime.policy);
        // What was given vouches for itself as long as nobody ever accepted another.
        let vouched = self.is_current && self.kernel.state.activation.is_none();
        if !self.is_accepted && !vouched {
            let Lifetime { configuration, policy, .. } = lifetime;
            what.0.push(format!("configuration: no human accepted `{configuration}` with policy `{policy}` on record"));
        }
        what.0
    }

    fn compared_again(&self, leaf: &Leaf, draft: Draft, recorded: &Attempt, mut what: Vec<String>) -> Found {
        match self.decide(leaf, draft, recorded) {
            Some(again) => what.extend(self.differences(&leaf.record, &again)),
            None => what.push("decision: policy was not asked, and nothing else decides it".to_owned()),
        }
        differing(what, Found::Identical)
    }

    fn decide(&self, leaf: &Leaf, draft: Draft, recorded: &Attempt) -> Option<Record> {
        let seq = leaf.record.seq;
        match &recorded.inputs.evaluation {
            _ if recorded.inputs.standing.abandoned => Some(self.kernel.decide_abandoned(seq, draft)),
            None => self.kernel.decide_at_once(seq, &draft),
            // That an evaluation took too long is an event; it cannot be asked again.
            Some(late) if late.timed_out => Some(self.kernel.decide(seq, draft, late.clone())),
            Some(_) => {
                let request = EvaluationRequest::from_attempt(&draft.attempt, &draft.payload.arguments);
                let evaluation = self.bundles.of(&self.kernel.policy())?.evaluate(&request);
                Some(self.kernel.decide(seq, draft, evaluation))
            }
        }
    }

    fn differences(&self, recorded: &Record, again: &Record) -> Vec<String> {
        let mut what = Differences::default();
        what.compare("kind", &recorded.body.kind(), &again.body.kind());
        what.compare("at", &recorded.at, &again.at);
        if let (Some(a), Some(b)) = (recorded.body.attempt(), again.body.attempt()) {
            what.compare("verdict", &a.verdict, &b.verdict);
            what.compare("reasons", &a.reasons, &b.reasons);
            what.compare("ticket", &a.ticket, &b.ticket);
            let (mut a, mut b) = (a.inputs.clone(), b.inputs.clone());
            if self.has_erased {
                b.standing.pending = a.standing.pending;
                b.standing.pending_of_agent = a.standing.pending_of_agent;
            }
            what.compare("evaluation", &a.evaluation.take(), &b.evaluation.take());
            what.compare("budgets", &a.budgets, &b.budgets);
            what.compare("standing", &a.standing, &b.standing);
            what.compare("history", &a.history.take(), &b.history.take());
            what.compare("inputs", &a, &b);
        }
        if let (Body::Proposal(a), Body::Proposal(b)) = (&recorded.body, &again.body) {
            what.compare("preview", &a.preview, &b.preview);
            what.compare("expires", &a.expires, &b.expires);
        }
        what.0
    }
}

#[derive(Default)]
struct Differences(Vec<String>);

impl Differences {
    fn compare<T: PartialEq + std::fmt::Debug>(&mut self, name: &str, recorded: &T, again: &T) {
        if recorded != again {
            self.0.push(format!("{name}: recorded {recorded:?}, again {again:?}"));
        }
    }
}

fn is_same<T: PartialEq>(again: Result<&T, &String>, recorded: &T, what: &str) -> Result<(), String> {
    match again {
        Ok(again) if again == recorded => Ok(()),
        Ok(_) => Err(format!("the {what} means something else")),
        Err(why) => Err(why.clone()),
    }
}

/// Different, with the reason, if it does not hold.
fn found(holds: Result<(), String>, otherwise: Found) -> Found {
    differing(holds.err().into_iter().collect(), otherwise)
}

/// Different, if anything differs.
fn differing(what: Vec<String>, otherwise: Found) -> Found {
    if what.is_empty() { otherwise } else { Found::Differs { what } }
}

fn readable<'a>(leaf: &'a Leaf, attempt: &Attempt) -> Option<&'a ActionPayload> {
    leaf.payload.as_ref().filter(|payload| payload.opens(attempt))
}

/// Takes over counts of calls in flight where calls may have left no record.
fn forgive(again: &mut Inputs, recorded: &Inputs) {
    let is_higher = recorded.standing.in_flight.count >= again.standing.in_flight.count;
    if is_higher {
        again.standing.in_flight.count = recorded.standing.in_flight.count;
    }
    // An intent that was surely never written had made its tool's definition the accepted one for a moment.
    let first_use = recorded.standing.accepted.as_ref().filter(|accepted| accepted.by == AcceptedBy::FirstUse);
    if let (None, Some(_)) = (&again.standing.accepted, first_use) {
        again.standing.accepted = recorded.standing.accepted.clone();
    }
    for (again, recorded) in again.budgets.iter_mut().zip(&recorded.budgets) {
        again.reserved = again.reserved.max(recorded.reserved);
    }
    if let (Some(again), Some(recorded)) = (&mut again.history, &recorded.history) {
        higher(&mut again.calls, &recorded.calls);
        higher(&mut again.changes, &recorded.changes);
        again.growing = again.growing.max(recorded.growing);
    }
}

/// The higher of two readings, window by window.
fn higher(again: &mut Recent, recorded: &Recent) {
    again.minute = again.minute.max(recorded.minute);
    again.ten_minutes = again.ten_minutes.max(recorded.ten_minutes);
    again.hour = again.hour.max(recorded.hour);
    again.day = again.day.max(recorded.day);
}

/// What the attempt's own inputs do not give.
fn judged_again(record: &Record, attempt: &Attempt) -> Vec<String> {
    let mut what = Differences::default();
    let (kind, verdict, code) = match judge(attempt, record.at) {
        Judgement::Ask => ("none", Verdict::Deny, None),
        Judgement::Allow { reason, ticket, verdict } => {
            what.compare("judged ticket", &attempt.ticket, &ticket);
            ("intent", verdict, Some(reason))
        }
        Judgement::Park { gates } => ("proposal", Verdict::RequireApproval { gates }, None),
        Judgement::Wait { ticket, gates } => {
            what.compare("judged ticket", &attempt.ticket, &Some(ticket));
            ("waiting", Verdict::RequireApproval { gates }, None)
        }
        Judgement::Deny { reason } => ("denial", Verdict::Deny, Some(reason)),
    };
    what.compare("judged kind", &record.body.kind(), &kind);
    what.compare("judged verdict", &attempt.verdict, &verdict);
    if let Some(reason) = code {
        what.compare("judged reasons", &attempt.reasons, &vec![reason]);
    }
    what.0
}
