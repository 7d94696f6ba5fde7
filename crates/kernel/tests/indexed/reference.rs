//! What the model means: a tiny evaluator that shares no line with the engine.
//!
//! It asks every policy in turn. An error is an overflow of 64 bits, and it stops the policy that it is in.

use std::collections::BTreeSet;

use countersign_kernel::policy::EvaluationRequest;
use countersign_model::verdict::{GATES_MAX, OBLIGATIONS_MAX};

use super::model::{Action, ActionName, Expr, Layer, Number, Principal, Resource, Rule, Words, World};

/// What one request is about.
pub(crate) struct Asked {
    pub(crate) agent: usize,
    /// None where the tool has no binding.
    pub(crate) tool: Option<usize>,
    pub(crate) target: usize,
    pub(crate) request: EvaluationRequest,
}

/// What must come out.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) ceiling: bool,
    pub(crate) auto: bool,
    pub(crate) determining: BTreeSet<String>,
    pub(crate) gates: Vec<String>,
    pub(crate) errors: u64,
    pub(crate) rows: BTreeSet<u64>,
    pub(crate) obliging: BTreeSet<String>,
    /// Whether the agent may ever call the tool there.
    pub(crate) may_ever: bool,
}

struct Overflow;

pub(crate) fn answer(world: &World, rules: &[Rule], asked: &Asked) -> Answer {
    let mut erring = 0;
    let (mut permits, mut forbids) = (BTreeSet::new(), BTreeSet::new());
    let mut gates = BTreeSet::new();
    let mut found = Answer::default();
    let (mut permitted, mut banned) = (false, false);
    for rule in rules {
        if !in_scope(world, rule, asked) {
            continue;
        }
        permitted |= matches!(rule.layer, Layer::Permit);
        banned |= matches!(rule.layer, Layer::Forbid) && rule.conditions.is_empty();
        match holds(world, &rule.conditions, asked) {
            Err(Overflow) => erring += 1,
            Ok(false) => {}
            Ok(true) => match rule.layer {
                Layer::Permit => drop(permits.insert(rule.id.clone())),
                Layer::Forbid => drop(forbids.insert(rule.id.clone())),
                Layer::Gate => drop(gates.insert(rule.id.clone())),
                Layer::Obligation(rows) => {
                    found.rows.insert(rows);
                    found.obliging.insert(rule.id.clone());
                }
            },
        }
    }
    let too_many = u64::from(gates.len() > GATES_MAX) + u64::from(found.rows.len() > OBLIGATIONS_MAX);
    found.ceiling = forbids.is_empty() && !permits.is_empty();
    found.auto = found.ceiling && gates.is_empty();
    found.determining = if forbids.is_empty() { permits } else { forbids };
    found.gates = gates.into_iter().take(GATES_MAX).collect();
    found.rows = found.rows.into_iter().take(OBLIGATIONS_MAX).collect();
    found.errors = erring + too_many;
    found.may_ever = permitted && !banned;
    found
}

fn in_scope(world: &World, rule: &Rule, asked: &Asked) -> bool {
    let in_group = |group: &usize| world.agents[asked.agent].contains(group);
    let is_agent = match &rule.principal {
        Principal::Any | Principal::IsAgent => true,
        Principal::Is(agent) | Principal::Within(agent) => *agent == asked.agent,
        Principal::InGroup(group) | Principal::AgentInGroup(group) => in_group(group),
    };
    let is_action = match &rule.action {
        Action::Any => true,
        // Nothing is ever called `call`, or `declared/…`.
        Action::Is(ActionName::Call | ActionName::Declared(_)) => false,
        Action::Is(name) | Action::In(name) => names(world, name, asked.tool),
        Action::InSet(all) => all.iter().any(|name| names(world, name, asked.tool)),
    };
    let is_target = match &rule.resource {
        Resource::Any | Resource::IsTarget => true,
        Resource::Is(target) | Resource::Within(target) => *target == asked.target,
        Resource::InEnvironment(place) | Resource::TargetInEnvironment(place) => world.targets[asked.target] == *place,
    };
    is_agent && is_action && is_target
}

/// Whether a tool (or, with none, one without a binding) is this action or in it.
fn names(world: &World, name: &ActionName, tool: Option<usize>) -> bool {
    match (name, tool) {
        (ActionName::Call, _) => true,
        (ActionName::Tool(named), tool) => Some(*named) == tool,
        (ActionName::Unbound, tool) => tool.is_none(),
        (ActionName::Declared(effect), Some(tool)) => world.tools[tool] == Some(*effect),
        (ActionName::Declared(effect), None) => *effect == countersign_model::Effect::Opaque,
    }
}

fn holds(world: &World, conditions: &[(bool, Expr)], asked: &Asked) -> Result<bool, Overflow> {
    for (is_when, condition) in conditions {
        if value(world, condition, asked)? != *is_when {
            return Ok(false);
        }
    }
    Ok(true)
}

fn value(world: &World, expr: &Expr, asked: &Asked) -> Result<bool, Overflow> {
    let facts = &asked.request.facts;
    let of = |expr: &Expr| value(world, expr, asked);
    Ok(match expr {
        Expr::Opaque => facts.certainty == countersign_model::facts::Certainty::Opaque,
        Expr::NewPair => asked.request.history.new_pair,
        Expr::Effect(effect) => facts.effect == *effect,
        Expr::Environment(place) | Expr::InEnvironment(place) => world.targets[asked.target] == *place,
        Expr::InGroup(group) => world.agents[asked.agent].contains(group),
        Expr::TargetIs(target) => *target == asked.target,
        Expr::Contains(set, word) => words(*set, asked).contains(word),
        Expr::AtLeast(which, least) => number(*which, asked) >= *least,
        Expr::Sum(which, (factor, add), than) => {
            let sum = number(*which, asked).checked_mul(*factor).and_then(|product| product.checked_add(*add));
            sum.ok_or(Overflow)? > *than
        }
        Expr::Amount(least) => {
            let amount = facts.bound.as_ref().and_then(|bound| bound.amount_micros);
            amount.is_some_and(|amount| i64::try_from(amount).unwrap() >= *least)
        }
        Expr::Not(inner) => !of(inner)?,
        Expr::And(left, right) => of(left)? && of(right)?,
        Expr::Or(left, right) => of(left)? || of(right)?,
        Expr::If(test, then, other) => {
            if of(test)? {
                of(then)?
            } else {
                of(other)?
            }
        }
    })
}

fn words(which: Words, asked: &Asked) -> Vec<String> {
    let facts = &asked.request.facts;
    match which {
        Words::Kinds => facts.sql.as_ref().map_or_else(Vec::new, |sql| sql.kinds.clone()),
        Words::Tables => facts.sql.as_ref().map_or_else(Vec::new, |sql| sql.tables.clone()),
        Words::Labels => asked.request.history.labels.clone(),
        Words::Hosts => facts.bound.as_ref().map_or_else(Vec::new, |bound| bound.hosts.clone()),
    }
}

fn number(which: Number, asked: &Asked) -> i64 {
    let EvaluationRequest { facts, history, depth, now, .. } = &asked.request;
    let sql = facts.sql.as_ref();
    let number = match which {
        Number::Statements => sql.map_or(0, |sql| u64::from(sql.statements)),
        Number::Rows => sql.map_or(0, |sql| sql.rows_spelled),
        Number::Depth => u64::from(*depth),
        Number::Now => now.0,
        Number::Growing => history.growing,
        Number::CallsMinute => history.calls.minute,
        Number::ChangesHour => history.changes.hour,
    };
    i64::try_from(number).unwrap()
}
