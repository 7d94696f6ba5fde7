//! Which changes are worth trying: those that the rules themselves mention.
//!
//! Every constant of a rule is a place where a verdict may turn. The order is fixed: facts of the call first, then where it
//! acts, then who acts. It must not know what a change leads to.

use std::collections::BTreeSet;

use countersign_kernel::policy::{EvaluationRequest, PolicySource};
use countersign_model::facts::{Certainty, Effect};
use serde_json::Value;

use super::step::{Step, Trial};
use crate::rules::{Rule, Rules, est};

/// Attributes that may be absent.
const OPTIONAL: [&str; 6] = [
    "context.amount_micros",
    "context.count",
    "context.percent_of_current",
    "context.percent_of_previous",
    "context.previous_tool",
    "context.lease_minutes",
];

/// Flags that can be turned by themselves; `context.opaque` comes with an effect.
const FLAGS: [&str; 3] = ["context.has_where", "context.new_pair", "context.sql"];

/// All steps that change `asked`, in the order in which they are tried.
pub(super) fn of(rules: &Rules, source: &PolicySource, asked: &EvaluationRequest) -> Vec<Step> {
    let mut found = Found { steps: BTreeSet::new(), source, asked };
    for rule in &rules.all {
        found.rule(rule);
    }
    let trial = Trial::new(asked);
    let changes = |step: &Step| {
        let mut changed = trial.clone();
        step.apply(&mut changed);
        changed != trial
    };
    found.steps.into_iter().filter(changes).collect()
}

struct Found<'a> {
    steps: BTreeSet<Step>,
    source: &'a PolicySource,
    asked: &'a EvaluationRequest,
}

impl Found<'_> {
    fn rule(&mut self, rule: &Rule) {
        for part in ["principal", "action", "resource"] {
            let scope = rule.est.get(part);
            let one = scope.and_then(|scope| scope.get("entity")).into_iter();
            let many = scope.and_then(|scope| scope.get("entities")).and_then(Value::as_array).into_iter().flatten();
            one.chain(many).filter_map(est::entity).for_each(|(kind, id)| self.entity(kind, id));
        }
        for clause in &rule.clauses {
            clause.reads.iter().for_each(|path| self.read(path));
            let Some(body) = &clause.body else { continue };
            est::walk(body, &mut |operator, of| self.node(operator, of));
        }
    }

    /// What may be tried of anything that is read at all.
    fn read(&mut self, path: &str) {
        match path {
            "context.effect" | "context.opaque" => self.effects(),
            "resource.environment" => self.targets(|_| true),
            flag if FLAGS.contains(&flag) => {
                self.steps.extend([true, false].map(|to| Step::Flag(flag.to_owned(), to)));
            }
            optional if OPTIONAL.contains(&optional) => drop(self.steps.insert(Step::Absent(optional.to_owned()))),
            _ => {}
        }
    }

    /// Whoever understands a call knows its effect, and nobody knows that of an opaque one.
    fn effects(&mut self) {
        let known = Effect::ALL.into_iter().filter(|effect| *effect != Effect::Opaque);
        if self.asked.facts.certainty == Certainty::Opaque {
            self.steps.extend(known.map(Step::Understood));
        } else {
            self.steps.extend(known.map(Step::Effect));
            self.steps.insert(Step::Opaque);
        }
    }

    fn node(&mut self, operator: &str, of: &Value) {
        if let ("Value", Some((kind, id))) = (operator, of.get("__entity").and_then(est::entity)) {
            return self.entity(kind, id);
        }
        if operator == "isEmpty" {
            if let Some(path) = of.get("arg").and_then(est::path) {
                self.steps.insert(Step::Only(path, Vec::new()));
            }
            return;
        }
        let Some((left, right)) = est::sides(of) else { return };
        match (est::path(left), est::path(right)) {
            (Some(path), _) => self.compared(operator, &path, right),
            (None, Some(path)) => self.compared_to(operator, left, &path),
            (None, None) => {}
        }
    }

    /// `path OPERATOR other`.
    fn compared(&mut self, operator: &str, path: &str, other: &Value) {
        match operator {
            "contains" => {
                if let Some(item) = est::literal(other).and_then(Value::as_str) {
                    self.item(path, item);
                }
            }
            "containsAll" | "containsAny" => {
                let items = est::texts(other).unwrap_or_default();
                items.iter().for_each(|item| self.item(path, item));
            }
            "==" | "!=" => match (est::literal(other), est::texts(other)) {
                (Some(value), _) => self.value(path, value),
                (None, Some(items)) => drop(self.steps.insert(Step::Only(path.to_owned(), items))),
                (None, None) => {}
            },
            "<" | "<=" | ">" | ">=" => {
                if let Some(value) = est::literal(other) {
                    self.value(path, value);
                }
            }
            _ => {}
        }
    }

    /// `other OPERATOR path`.
    fn compared_to(&mut self, operator: &str, other: &Value, path: &str) {
        match operator {
            "contains" => {
                let values = est::texts(other).unwrap_or_default();
                values.into_iter().for_each(|value| self.value(path, &Value::String(value)));
            }
            "containsAll" => {
                if let Some(items) = est::texts(other) {
                    self.steps.insert(Step::Only(path.to_owned(), items));
                }
            }
            "containsAny" => {
                let items = est::texts(other).unwrap_or_default();
                items.iter().for_each(|item| self.item(path, item));
            }
            "==" | "!=" | "<" | "<=" | ">" | ">=" => {
                if let Some(value) = est::literal(other) {
                    self.value(path, value);
                }
            }
            _ => {}
        }
    }

    fn item(&mut self, path: &str, item: &str) {
        self.steps.insert(Step::With(path.to_owned(), item.to_owned()));
        self.steps.insert(Step::Without(path.to_owned(), item.to_owned()));
    }

    /// A value that a rule compares `path` with.
    fn value(&mut self, path: &str, value: &Value) {
        if path.starts_with("context.args.") {
            self.steps.insert(Step::Argument(path.to_owned(), value.to_string()));
        }
        if let Some(number) = value.as_i64() {
            let around = [number.checked_sub(1), Some(number), number.checked_add(1)];
            let numbers = around.into_iter().flatten().filter_map(|near| u64::try_from(near).ok());
            if path.starts_with("context.args.") {
                self.steps.extend(numbers.map(|near| Step::Argument(path.to_owned(), near.to_string())));
            } else {
                self.steps.extend(numbers.map(|near| Step::Number(path.to_owned(), near)));
            }
        }
        let Some(text) = value.as_str() else { return };
        match path {
            "context.previous_tool" => drop(self.steps.insert(Step::Previous(text.to_owned()))),
            "context.tool" => self.tools(|_, tool| tool == text),
            "context.upstream" => self.tools(|upstream, _| upstream == text),
            _ => {}
        }
    }

    fn entity(&mut self, kind: &str, id: &str) {
        match kind {
            "Environment" => self.targets(|environment| environment == id),
            "Target" => {
                let named = self.source.targets.iter().filter(|def| def.id.as_str() == id);
                self.steps.extend(named.map(|def| Step::Target(def.id.clone(), def.environment.clone())));
            }
            "Action" => self.tools(|upstream, tool| {
                id.strip_prefix(upstream).and_then(|rest| rest.strip_prefix('/')).is_some_and(|rest| rest == tool)
            }),
            "AgentGroup" => {
                let own = self.source.agents.iter().find(|agent| agent.id == self.asked.agent);
                let Some(own) = own else { return };
                let is_member = own.groups.iter().any(|group| group == id);
                let group = id.to_owned();
                self.steps.insert(if is_member { Step::Leave(group) } else { Step::Join(group) });
            }
            "Agent" => {
                let named = self.source.agents.iter().filter(|agent| agent.id.as_str() == id);
                self.steps.extend(named.map(|agent| Step::Agent(agent.id.clone())));
            }
            _ => {}
        }
    }

    /// The first target of each environment that is wanted, other than the one at hand.
    fn targets(&mut self, wanted: impl Fn(&str) -> bool) {
        let mut seen = BTreeSet::new();
        for def in &self.source.targets {
            let is_new = def.environment != self.asked.environment && seen.insert(&def.environment);
            if is_new && wanted(def.environment.as_str()) {
                self.steps.insert(Step::Target(def.id.clone(), def.environment.clone()));
            }
        }
    }

    fn tools(&mut self, wanted: impl Fn(&str, &str) -> bool) {
        let named = self.source.tools.iter().filter(|def| wanted(def.upstream.as_str(), def.tool.as_str()));
        self.steps.extend(named.map(|def| Step::Tool(def.upstream.clone(), def.tool.clone())));
    }
}
