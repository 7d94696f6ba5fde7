//! What was used: calls by agent, tool, target and effect, and which rules held, gathered record by record.
//!
//! Memory grows with what is different, never with the length of the log. It must not know what was granted.

use std::collections::{BTreeMap, BTreeSet};

use countersign_kernel::policy::{Bundle, EvaluationRequest};
use countersign_model::facts::Effect;
use countersign_model::id::{AgentId, Environment, TargetId, TicketId, ToolName, UpstreamId};
use countersign_model::record::Attempt;
use countersign_model::unit::LeafIndex;
use countersign_model::verdict::Verdict;
use countersign_model::{Body, TimeMs};

use super::Place;
use crate::explain::posed;
use crate::rules::{Layer, Rules};

/// The most names of tables or hosts that one use remembers; with more it is not narrowed by them.
pub(super) const NAMES_MAX: usize = 8;
/// The most tickets that are followed to their answer.
const TICKETS_MAX: usize = 100_000;

/// What kind of call it was.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UseKey {
    /// Who.
    pub agent: AgentId,
    /// Towards which upstream.
    pub upstream: UpstreamId,
    /// Which tool.
    pub tool: ToolName,
    /// What it changes.
    pub target: TargetId,
    /// Where.
    pub environment: Environment,
    /// The worst that it does.
    pub effect: Effect,
}

/// Calls of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Use {
    /// How many ran.
    pub ran: u64,
    /// How many were parked.
    pub parked: u64,
    /// How many were denied.
    pub denied: u64,
    /// When one ran or was parked first, and last.
    pub times: Option<(TimeMs, TimeMs)>,
    /// The tables that those which ran name; none where there were too many.
    pub tables: Option<BTreeSet<String>>,
    /// The hosts, likewise.
    pub hosts: Option<BTreeSet<String>>,
    /// Whether all that ran were SQL.
    pub is_sql: bool,
}

/// How often one rule held.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleUse {
    /// How often.
    pub count: u64,
    /// The last time.
    pub last: Option<TimeMs>,
    /// For whom, for what and where: of permits, where a call ran or was parked.
    pub places: BTreeSet<(AgentId, String, TargetId)>,
}

/// What became of calls at one gate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gated {
    /// How many were parked.
    pub parked: u64,
    /// How many a human approved.
    pub approved: u64,
    /// How many a human refused.
    pub refused: u64,
}

/// One record that is looked at.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// Its leaf.
    pub leaf: LeafIndex,
    /// Its time.
    pub at: TimeMs,
    /// What happened.
    pub body: &'a Body,
    /// The question of an attempt, as the policy that is audited is asked.
    pub asked: Option<&'a EvaluationRequest>,
}

/// All that was used.
#[derive(Clone, Debug)]
pub struct Used<'a> {
    bundle: &'a Bundle,
    rules: &'a Rules,
    /// Calls by kind.
    pub uses: BTreeMap<UseKey, Use>,
    /// Rules by id.
    pub by_rule: BTreeMap<String, RuleUse>,
    /// Gates by the id of their policy.
    pub gates: BTreeMap<String, Gated>,
    /// The first and the last time of any record that was looked at.
    pub span: Option<(TimeMs, TimeMs)>,
    /// Calls that were looked at.
    pub calls: u64,
    waiting: BTreeMap<TicketId, Vec<String>>,
    /// Which rules can hold at all, by who, what and where.
    near: BTreeMap<(AgentId, String, TargetId), Vec<usize>>,
    bound: BTreeSet<String>,
}

impl<'a> Used<'a> {
    /// Nothing yet, to be held against this bundle and these places.
    #[must_use]
    pub fn new(bundle: &'a Bundle, rules: &'a Rules, places: &[Place]) -> Self {
        Self {
            bundle,
            rules,
            uses: BTreeMap::new(),
            by_rule: BTreeMap::new(),
            gates: BTreeMap::new(),
            span: None,
            calls: 0,
            waiting: BTreeMap::new(),
            near: BTreeMap::new(),
            bound: places.iter().filter(|place| place.tool.is_some()).map(Place::action).collect(),
        }
    }

    /// Takes in one record of the period.
    pub fn take(&mut self, seen: &Seen<'_>) {
        let (first, _) = self.span.unwrap_or((seen.at, seen.at));
        self.span = Some((first.min(seen.at), seen.at));
        match seen.body {
            Body::Consent(consent) => {
                if let Some(gates) = self.waiting.get(&consent.ticket).cloned() {
                    self.answered(&gates, consent.approved && consent.grant_expires.is_some(), !consent.approved);
                    if !consent.approved || consent.grant_expires.is_some() {
                        self.waiting.remove(&consent.ticket);
                    }
                }
            }
            Body::Expired(expired) => drop(self.waiting.remove(&expired.ticket)),
            body => {
                if let Some(attempt) = body.attempt() {
                    self.attempt(seen, attempt);
                }
            }
        }
    }

    fn answered(&mut self, gates: &[String], approved: bool, refused: bool) {
        for gate in gates {
            let gated = self.gates.entry(gate.clone()).or_default();
            gated.approved += u64::from(approved);
            gated.refused += u64::from(refused);
        }
    }

    fn attempt(&mut self, seen: &Seen<'_>, attempt: &Attempt) {
        self.calls += 1;
        let asked = seen.asked;
        let key = UseKey {
            agent: attempt.principal.agent.clone(),
            upstream: attempt.upstream.clone(),
            tool: attempt.tool.clone(),
            target: asked.map_or(&attempt.target, |asked| &asked.target).clone(),
            environment: asked.map_or(&attempt.environment, |asked| &asked.environment).clone(),
            effect: asked.map_or(attempt.facts.effect, |asked| asked.facts.effect),
        };
        let usage = self.uses.entry(key).or_default();
        match seen.body {
            Body::Intent(_) => {
                names(usage, asked);
                usage.ran += 1;
            }
            Body::Proposal(_) => usage.parked += 1,
            Body::Waiting(_) => {}
            _ => usage.denied += 1,
        }
        let is_denied = matches!(seen.body, Body::Denial(_));
        if !is_denied {
            let first = usage.times.map_or(seen.at, |(first, _)| first);
            usage.times = Some((first, seen.at));
        }
        if let (Body::Proposal(_), Verdict::RequireApproval { gates }) = (seen.body, &attempt.verdict) {
            let gates: Vec<String> = gates.iter().map(|gate| gate.policy.to_string()).collect();
            gates.iter().for_each(|gate| self.gates.entry(gate.clone()).or_default().parked += 1);
            if let Some(ticket) = attempt.ticket.clone().filter(|_| self.waiting.len() < TICKETS_MAX) {
                self.waiting.insert(ticket, gates);
            }
        }
        if let Some(asked) = asked {
            self.fired(asked, (seen.at, is_denied));
        }
    }

    /// Notes which rules hold of a question. What a denied call was permitted by is no use of a permit.
    fn fired(&mut self, asked: &EvaluationRequest, (at, is_denied): (TimeMs, bool)) {
        let Ok(posed) = posed(self.bundle, asked) else { return };
        let named = format!("{}/{}", asked.upstream, asked.tool);
        let action = if self.bound.contains(&named) { named } else { "unbound".to_owned() };
        let place = (asked.agent.clone(), action, asked.target.clone());
        let rules = self.rules;
        let near = self.near.entry(place.clone()).or_insert_with(|| {
            let may = |rule: &crate::rules::Rule| {
                let of_scope = rule.clauses.iter().filter(|clause| clause.body.is_none());
                of_scope.into_iter().all(|clause| clause.holds(&posed.request, posed.entities))
            };
            (0..).zip(&rules.all).filter(|(_, rule)| may(rule)).map(|(number, _)| number).collect()
        });
        for rule in near.iter().filter_map(|number| rules.all.get(*number)) {
            if (is_denied && rule.layer == Layer::Permit) || !rule.holds(&posed.request, posed.entities) {
                continue;
            }
            let used = self.by_rule.entry(rule.id.clone()).or_default();
            used.count += 1;
            used.last = Some(at);
            used.places.insert(place.clone());
        }
    }
}

/// Remembers what a call that ran named.
fn names(usage: &mut Use, asked: Option<&EvaluationRequest>) {
    let is_first = usage.ran == 0;
    let sql = asked.and_then(|asked| asked.facts.sql.as_ref());
    let bound = asked.and_then(|asked| asked.facts.bound.as_ref());
    usage.is_sql = (is_first || usage.is_sql) && sql.is_some();
    let join = |known: &mut Option<BTreeSet<String>>, named: Option<&[String]>| {
        let Some(named) = named else {
            *known = None;
            return;
        };
        if is_first {
            *known = Some(BTreeSet::new());
        }
        if let Some(all) = known {
            all.extend(named.iter().cloned());
            if all.len() > NAMES_MAX {
                *known = None;
            }
        }
    };
    join(&mut usage.tables, sql.map(|sql| sql.tables.as_slice()));
    join(&mut usage.hosts, bound.map(|bound| bound.hosts.as_slice()));
}
