//! A rule, whatever form it was written in, and the Cedar that it becomes.
//!
//! `allow` is a permit (G), `deny` a forbid (F), `gate` a gated forbid (A) and `require_approval` both a permit and a
//! gated forbid (G and A); obligations are permits of the set that never grants (O). It must not know YAML. It does not
//! cover whether what the rule says is wise: forms warn.

use super::est::{Draft, Entity, Expr, Head, Scope};
use super::fact::{self, Fact};
use super::known::{Known, ToolGlob};
use super::problem::Span;

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    Allow,
    Deny,
    /// What others permit waits for consent; permits nothing itself.
    Gate,
    /// May run with consent.
    RequireApproval,
    /// Only obliges.
    Oblige,
}

/// Names of a rule: any of these, or none of those.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Choice {
    pub(crate) any: Vec<String>,
    pub(crate) none: Vec<String>,
}

/// What a gate asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct GateSpec {
    pub(crate) name: Option<String>,
    pub(crate) approvers: Vec<String>,
    pub(crate) quorum: Option<u64>,
    pub(crate) timeout: Option<String>,
    pub(crate) notify: Option<String>,
}

/// An obligation and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Duty {
    pub(crate) name: &'static str,
    pub(crate) value: Option<String>,
}

/// A rule.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(crate) id: String,
    pub(crate) span: Span,
    pub(crate) description: Option<String>,
    pub(crate) agents: Choice,
    pub(crate) groups: Choice,
    /// Nothing where the rule covers all tools.
    pub(crate) tools: Option<Vec<ToolGlob>>,
    pub(crate) not_tools: Vec<ToolGlob>,
    pub(crate) environments: Choice,
    pub(crate) targets: Choice,
    pub(crate) when: Vec<Fact>,
    /// What the permit needs besides; only where a rule permits and asks.
    pub(crate) permit_when: Vec<Fact>,
    pub(crate) unless: Vec<Fact>,
    pub(crate) then: Then,
    pub(crate) gate: GateSpec,
    pub(crate) duties: Vec<Duty>,
}

impl Rule {
    pub(crate) fn new(id: String, span: Span, then: Then) -> Self {
        Self {
            id,
            span,
            description: None,
            agents: Choice::default(),
            groups: Choice::default(),
            tools: None,
            not_tools: Vec::new(),
            environments: Choice::default(),
            targets: Choice::default(),
            when: Vec::new(),
            permit_when: Vec::new(),
            unless: Vec::new(),
            then,
            gate: GateSpec::default(),
            duties: Vec::new(),
        }
    }

    /// Whether the rule says that it is about calls that were not understood, too.
    pub(crate) fn admits_opaque(&self) -> bool {
        self.when.iter().any(|fact| match fact {
            Fact::Flag { attribute: "opaque", wanted } => *wanted,
            Fact::Effects(effects) => effects.iter().any(|effect| effect == "opaque"),
            _ => false,
        })
    }

    /// Whether it can let a call run.
    pub(crate) const fn permits(&self) -> bool {
        matches!(self.then, Then::Allow | Then::RequireApproval)
    }

    /// The policies that it becomes.
    pub(crate) fn drafts(&self, known: &Known) -> Vec<Draft> {
        let mut drafts = Vec::new();
        if self.permits() {
            drafts.push(self.draft(self.id.clone(), true, known));
        }
        if self.then == Then::Deny {
            drafts.push(self.draft(self.id.clone(), false, known));
        }
        if matches!(self.then, Then::Gate | Then::RequireApproval) {
            let id = if self.then == Then::Gate { self.id.clone() } else { format!("{}.gate", self.id) };
            let mut gate = self.draft(id, false, known);
            gate.annotations.extend(self.gate.annotations(&self.id));
            drafts.push(gate);
        }
        let mut taken: Vec<&str> = Vec::new();
        for duty in &self.duties {
            let earlier = taken.iter().filter(|name| **name == duty.name).count();
            let number = if earlier == 0 { String::new() } else { format!(".{}", earlier.saturating_add(1)) };
            taken.push(duty.name);
            // It grants nothing, so what is unknown is taken for the worst as in a rule that denies.
            let mut draft = self.draft(format!("{}.obligation.{}{number}", self.id, duty.name), false, known);
            draft.permits = true;
            draft.annotations.push(("obligation", duty.name.to_owned()));
            draft.annotations.extend(duty.value.iter().map(|value| ("value", value.clone())));
            drafts.push(draft);
        }
        // Where a glob covers no tool there is nothing to say; the reader was warned.
        drafts.retain(|draft| draft.head.action != Scope::AmongActions(Vec::new()));
        drafts
    }

    /// One policy: one that lets run takes what is unknown for false, any other for true.
    fn draft(&self, id: String, lets_run: bool, known: &Known) -> Draft {
        let (principal, who) = self.principal();
        let (resource, place) = self.resource();
        let (action, tool) = self.action(known, !lets_run || self.admits_opaque());
        let guard = (lets_run && !self.admits_opaque()).then(|| Expr::fact("opaque").not());
        let mut facts = self.when.clone();
        if lets_run {
            facts.extend(self.permit_when.iter().cloned());
        }
        let when = if guard.is_some() { understood(&facts) } else { fact::all(&facts, !lets_run) };
        let conditions = who.into_iter().chain(tool).chain(place).chain(guard).chain(when);
        Draft {
            id,
            permits: lets_run,
            annotations: self.description.iter().map(|text| ("description", text.clone())).collect(),
            head: Head { principal, action, resource },
            when: Expr::all(conditions),
            unless: fact::all(&self.unless, lets_run),
        }
    }

    fn principal(&self) -> (Scope, Vec<Expr>) {
        let entities = |choice: &[String], kind| choice.iter().map(|id| Entity::new(kind, id)).collect::<Vec<_>>();
        let agents = entities(&self.agents.any, "Agent");
        let groups = entities(&self.groups.any, "AgentGroup");
        let (scope, mut conditions) = match (agents.as_slice(), groups.as_slice()) {
            ([], []) => (Scope::All, Vec::new()),
            ([one], []) => (Scope::Is(one.clone()), Vec::new()),
            ([], [one]) => (Scope::In(one.clone()), Vec::new()),
            _ => (
                Scope::All,
                Vec::from_iter(Expr::any(
                    [&agents, &groups].into_iter().filter_map(|all| among(&Expr::principal(), all)),
                )),
            ),
        };
        let others = [entities(&self.agents.none, "Agent"), entities(&self.groups.none, "AgentGroup")];
        conditions.extend(others.iter().filter_map(|all| among(&Expr::principal(), all)).map(Expr::not));
        (scope, conditions)
    }

    fn resource(&self) -> (Scope, Vec<Expr>) {
        let targets: Vec<Entity> = self.targets.any.iter().map(|id| Entity::new("Target", id)).collect();
        let places: Vec<Entity> = self.environments.any.iter().map(|id| Entity::new("Environment", id)).collect();
        let mut conditions = Vec::new();
        let scope = match (targets.as_slice(), places.as_slice()) {
            ([one], _) => {
                conditions.extend(among(&Expr::resource(), &places));
                Scope::Is(one.clone())
            }
            (several, [one]) => {
                conditions.extend(among(&Expr::resource(), several));
                Scope::In(one.clone())
            }
            (several, places) => {
                conditions.extend([several, places].into_iter().filter_map(|all| among(&Expr::resource(), all)));
                Scope::All
            }
        };
        let others: Vec<Entity> = self.targets.none.iter().map(|id| Entity::new("Target", id)).collect();
        conditions.extend(among(&Expr::resource(), &others).map(Expr::not));
        if !self.environments.none.is_empty() {
            let listed = Expr::texts(self.environments.none.iter().map(String::as_str));
            conditions.push(listed.compare("contains", Expr::resource().dot("environment")).not());
        }
        (scope, conditions)
    }

    /// The actions of the head; and where tools without a binding are covered, what tells the right ones from the others.
    fn action(&self, known: &Known, unbound: bool) -> (Scope, Option<Expr>) {
        let chosen = |(upstream, tool): &(String, String)| {
            let named = self.tools.as_ref().is_none_or(|globs| globs.iter().any(|glob| glob.covers(upstream, tool)));
            named && !self.not_tools.iter().any(|glob| glob.covers(upstream, tool))
        };
        let globs = self.tools.iter().flatten().any(|glob| glob.glob);
        let mut actions: Vec<Entity> = known
            .tools
            .iter()
            .filter(|tool| chosen(tool))
            .map(|(upstream, tool)| Entity::new("Action", &format!("{upstream}/{tool}")))
            .collect();
        let wanted = match &self.tools {
            None => None,
            Some(all) => Expr::any(all.iter().filter(|glob| glob.glob).map(spelled)),
        };
        let unwanted = Expr::any(self.not_tools.iter().map(spelled)).map(Expr::not);
        match (&self.tools, unbound) {
            (None, _) => (Scope::In(Entity::new("Action", "call")), unwanted),
            (Some(_), true) if globs => {
                let bound = actions.clone();
                actions.push(Entity::new("Action", "unbound"));
                let by_name = among(&Expr::action(), &bound);
                let by_glob = Expr::all(wanted.into_iter().chain(unwanted));
                (Scope::AmongActions(actions), Expr::any(by_name.into_iter().chain(by_glob)))
            }
            (Some(_), _) => (Scope::AmongActions(actions), None),
        }
    }
}

/// The conditions of a policy that asks for an understood call anyway.
fn understood(facts: &[Fact]) -> Option<Expr> {
    Expr::all(facts.iter().map(|fact| fact.expr(false)))
}

/// `subject in [ … ]`.
fn among(subject: &Expr, entities: &[Entity]) -> Option<Expr> {
    match entities {
        [] => None,
        [one] => Some(subject.clone().compare("in", Expr::entity(one))),
        many => Some(subject.clone().compare("in", Expr::set(many.iter().map(Expr::entity)))),
    }
}

/// A tool's name and its upstream's, as the call says them.
fn spelled(glob: &ToolGlob) -> Expr {
    let part = |attribute: &str, pattern: &str| match pattern {
        "*" => None,
        text if text.contains('*') => Some(Expr::fact(attribute).like(text)),
        text => Some(Expr::fact(attribute).compare("==", Expr::text(text))),
    };
    let readings = glob
        .readings
        .iter()
        .filter_map(|(upstream, tool)| Expr::all(part("upstream", upstream).into_iter().chain(part("tool", tool))));
    // Only `*` has nothing to ask: it covers all.
    Expr::any(readings).unwrap_or_else(|| Expr::fact("tool").like("*"))
}

impl GateSpec {
    fn annotations(&self, rule: &str) -> Vec<(&'static str, String)> {
        let name = self.name.clone().unwrap_or_else(|| rule.to_owned());
        let approvers = (!self.approvers.is_empty()).then(|| self.approvers.join(","));
        let optional = [
            ("approvers", approvers),
            ("quorum", self.quorum.map(|quorum| quorum.to_string())),
            ("timeout", self.timeout.clone()),
            ("notify", self.notify.clone()),
        ];
        let given = optional.into_iter().filter_map(|(name, value)| Some((name, value?)));
        std::iter::once(("gate", name)).chain(given).collect()
    }
}
