//! A small model of policies: what a scope can say, what a condition can say, and how each is written in Cedar.
//!
//! It knows nothing of Cedar's evaluation: `reference` says what the model means.

use std::fmt::Write as _;

use countersign_kernel::policy::{AgentDef, PolicySource, TargetDef, ToolDef};
use countersign_model::Effect;

/// Agents, groups, targets, environments and tools.
#[derive(Clone, Debug)]
pub(crate) struct World {
    /// Groups of each agent.
    pub(crate) agents: Vec<Vec<usize>>,
    /// The environment of each target.
    pub(crate) targets: Vec<usize>,
    /// The declared effect of each tool; tool `t` is `u{t % 2}/t{t}`.
    pub(crate) tools: Vec<Option<Effect>>,
}

pub(crate) const GROUPS: usize = 4;
pub(crate) const ENVIRONMENTS: usize = 3;

/// What a policy asks of the agent.
#[derive(Clone, Debug)]
pub(crate) enum Principal {
    Any,
    IsAgent,
    Is(usize),
    Within(usize),
    InGroup(usize),
    AgentInGroup(usize),
}

/// An action, or a group of actions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ActionName {
    Tool(usize),
    Unbound,
    Call,
    Declared(Effect),
}

/// What a policy asks of the action.
#[derive(Clone, Debug)]
pub(crate) enum Action {
    Any,
    Is(ActionName),
    In(ActionName),
    InSet(Vec<ActionName>),
}

/// What a policy asks of the target.
#[derive(Clone, Debug)]
pub(crate) enum Resource {
    Any,
    IsTarget,
    Is(usize),
    Within(usize),
    InEnvironment(usize),
    TargetInEnvironment(usize),
}

/// A number of the context.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Number {
    Statements,
    Rows,
    Depth,
    Now,
    Growing,
    CallsMinute,
    ChangesHour,
}

/// A set of the context.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Words {
    Kinds,
    Tables,
    Labels,
    Hosts,
}

/// A condition.
#[derive(Clone, Debug)]
pub(crate) enum Expr {
    Opaque,
    NewPair,
    Effect(Effect),
    Environment(usize),
    InGroup(usize),
    TargetIs(usize),
    InEnvironment(usize),
    Contains(Words, String),
    AtLeast(Number, i64),
    /// `number * factor + add > than`: overflows where the numbers are large.
    Sum(Number, (i64, i64), i64),
    /// `context has amount_micros && context.amount_micros >= n`.
    Amount(i64),
    Not(Box<Expr>),
    And(Box<Expr>, Box<Expr>),
    Or(Box<Expr>, Box<Expr>),
    If(Box<Expr>, Box<Expr>, Box<Expr>),
}

/// What a policy does.
#[derive(Clone, Debug)]
pub(crate) enum Layer {
    Permit,
    Forbid,
    Gate,
    /// The rows of `max_rows`.
    Obligation(u64),
}

/// One policy.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(crate) id: String,
    pub(crate) layer: Layer,
    pub(crate) principal: Principal,
    pub(crate) action: Action,
    pub(crate) resource: Resource,
    /// Each is a `when`, or an `unless` where it says so.
    pub(crate) conditions: Vec<(bool, Expr)>,
}

impl World {
    pub(crate) fn upstream(tool: usize) -> String {
        format!("u{}", tool % 2)
    }

    pub(crate) fn source(&self, rules: &[Rule]) -> PolicySource {
        let agents = self.agents.iter().enumerate().map(|(agent, groups)| AgentDef {
            id: format!("a{agent}").parse().unwrap(),
            groups: groups.iter().map(|group| format!("g{group}")).collect(),
        });
        // Every group and environment has somebody in it, so that every policy may name it.
        let all =
            AgentDef { id: "everywhere".parse().unwrap(), groups: (0..GROUPS).map(|g| format!("g{g}")).collect() };
        let targets = self.targets.iter().enumerate().map(|(target, place)| (format!("d{target}"), *place));
        let corners = (0..ENVIRONMENTS).map(|place| (format!("corner{place}"), place));
        PolicySource {
            policies: vec![("main.cedar".to_owned(), rules.iter().map(|rule| rule.cedar()).collect())],
            agents: agents.chain([all]).collect(),
            targets: targets
                .chain(corners)
                .map(|(id, place)| TargetDef {
                    id: id.parse().unwrap(),
                    environment: format!("e{place}").parse().unwrap(),
                })
                .collect(),
            tools: self
                .tools
                .iter()
                .enumerate()
                .map(|(tool, effect)| ToolDef {
                    effect: *effect,
                    ..ToolDef::named(Self::upstream(tool).parse().unwrap(), format!("t{tool}").parse().unwrap())
                })
                .collect(),
            ..PolicySource::default()
        }
    }
}

impl Rule {
    fn cedar(&self) -> String {
        let mut text = format!("@id(\"{}\") ", self.id);
        let effect = match self.layer {
            Layer::Permit => "permit",
            Layer::Forbid => "forbid",
            Layer::Gate => {
                text.push_str("@gate(\"somebody looks\") ");
                "forbid"
            }
            Layer::Obligation(rows) => {
                write!(text, "@obligation(\"max_rows\") @value(\"{rows}\") ").unwrap();
                "permit"
            }
        };
        let Self { principal, action, resource, .. } = self;
        write!(text, "{effect} ({}, {}, {})", principal.cedar(), action.cedar(), resource.cedar()).unwrap();
        for (is_when, condition) in &self.conditions {
            write!(text, " {} {{ {} }}", if *is_when { "when" } else { "unless" }, condition.cedar()).unwrap();
        }
        text.push_str(";\n");
        text
    }
}

impl Principal {
    fn cedar(&self) -> String {
        match self {
            Self::Any => "principal".to_owned(),
            Self::IsAgent => "principal is Agent".to_owned(),
            Self::Is(agent) => format!("principal == Agent::\"a{agent}\""),
            Self::Within(agent) => format!("principal in Agent::\"a{agent}\""),
            Self::InGroup(group) => format!("principal in AgentGroup::\"g{group}\""),
            Self::AgentInGroup(group) => format!("principal is Agent in AgentGroup::\"g{group}\""),
        }
    }
}

impl ActionName {
    fn cedar(&self) -> String {
        match self {
            Self::Tool(tool) => format!("Action::\"{}/t{tool}\"", World::upstream(*tool)),
            Self::Unbound => "Action::\"unbound\"".to_owned(),
            Self::Call => "Action::\"call\"".to_owned(),
            Self::Declared(effect) => format!("Action::\"declared/{}\"", effect.as_str()),
        }
    }
}

impl Action {
    fn cedar(&self) -> String {
        match self {
            Self::Any => "action".to_owned(),
            Self::Is(name) => format!("action == {}", name.cedar()),
            Self::In(name) => format!("action in {}", name.cedar()),
            Self::InSet(names) => {
                format!("action in [{}]", names.iter().map(ActionName::cedar).collect::<Vec<_>>().join(", "))
            }
        }
    }
}

impl Resource {
    fn cedar(&self) -> String {
        match self {
            Self::Any => "resource".to_owned(),
            Self::IsTarget => "resource is Target".to_owned(),
            Self::Is(target) => format!("resource == Target::\"d{target}\""),
            Self::Within(target) => format!("resource in Target::\"d{target}\""),
            Self::InEnvironment(place) => format!("resource in Environment::\"e{place}\""),
            Self::TargetInEnvironment(place) => format!("resource is Target in Environment::\"e{place}\""),
        }
    }
}

impl Number {
    fn cedar(self) -> &'static str {
        match self {
            Self::Statements => "context.statements",
            Self::Rows => "context.rows_spelled",
            Self::Depth => "context.depth",
            Self::Now => "context.now_ms",
            Self::Growing => "context.growing",
            Self::CallsMinute => "context.calls.minute",
            Self::ChangesHour => "context.changes.hour",
        }
    }
}

impl Words {
    fn cedar(self) -> &'static str {
        match self {
            Self::Kinds => "context.kinds",
            Self::Tables => "context.tables",
            Self::Labels => "context.run_labels",
            Self::Hosts => "context.hosts",
        }
    }
}

impl Expr {
    fn cedar(&self) -> String {
        match self {
            Self::Opaque => "context.opaque".to_owned(),
            Self::NewPair => "context.new_pair".to_owned(),
            Self::Effect(effect) => format!("context.effect == \"{}\"", effect.as_str()),
            Self::Environment(place) => format!("resource.environment == \"e{place}\""),
            Self::InGroup(group) => format!("principal in AgentGroup::\"g{group}\""),
            Self::TargetIs(target) => format!("resource == Target::\"d{target}\""),
            Self::InEnvironment(place) => format!("resource in Environment::\"e{place}\""),
            Self::Contains(words, word) => format!("{}.contains(\"{word}\")", words.cedar()),
            Self::AtLeast(number, least) => format!("{} >= {least}", number.cedar()),
            Self::Sum(number, (factor, add), than) => format!("{} * {factor} + {add} > {than}", number.cedar()),
            Self::Amount(least) => format!("(context has amount_micros && context.amount_micros >= {least})"),
            Self::Not(inner) => format!("!({})", inner.cedar()),
            Self::And(left, right) => format!("(({}) && ({}))", left.cedar(), right.cedar()),
            Self::Or(left, right) => format!("(({}) || ({}))", left.cedar(), right.cedar()),
            Self::If(test, then, other) => {
                format!("(if ({}) then ({}) else ({}))", test.cedar(), then.cedar(), other.cedar())
            }
        }
    }
}
