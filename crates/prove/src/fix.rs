//! Rules about one agent or one target, with everything worked out that is known of them.
//!
//! A question is about any agent. Where a configuration moves one into another group, the rules stay as they are and that
//! agent may do more; so it is asked about by name. What a rule says of it becomes true or false here; a rule that says
//! something else of it cannot be worked out, and then nothing is proven.

use std::collections::BTreeSet;

use cedar_policy::Policy;
use serde_json::{Value, json};

use crate::expr::constant;

/// An agent or a target that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fixed {
    /// `principal` or `resource`.
    pub(crate) variable: &'static str,
    /// Its type.
    pub(crate) kind: &'static str,
    pub(crate) id: String,
    /// What it is in: groups, or its environment.
    pub(crate) parents: BTreeSet<String>,
}

impl Fixed {
    pub(crate) fn agent(id: &str, groups: &[String]) -> Self {
        Self { variable: "principal", kind: "Agent", id: id.to_owned(), parents: groups.iter().cloned().collect() }
    }

    pub(crate) fn target(id: &str, environment: &str) -> Self {
        let parents = BTreeSet::from([environment.to_owned()]);
        Self { variable: "resource", kind: "Target", id: id.to_owned(), parents }
    }

    /// Whether it is this entity, or in it.
    fn is_in(&self, entity: &Value) -> bool {
        let word = |name: &str| entity.get(name).and_then(Value::as_str).unwrap_or_default();
        match word("type") {
            kind if kind == self.kind => word("id") == self.id,
            "AgentGroup" | "Environment" => self.parents.contains(word("id")),
            _ => false,
        }
    }
}

/// The rule as it is for `fixed`; nothing where its scope does not name it.
pub(crate) fn fixed(rule: &Policy, fixed: &Fixed) -> Result<Option<Policy>, String> {
    let mut spelled = rule.to_json().map_err(|error| error.to_string())?;
    let scope = spelled.get(fixed.variable).cloned().unwrap_or_default();
    let entity = scope.get("entity").or_else(|| scope.pointer("/in/entity"));
    let is_named = match scope.get("op").and_then(Value::as_str) {
        Some("All") => true,
        Some("==") => {
            entity.is_some_and(|entity| entity.get("type") == Some(&json!(fixed.kind)) && fixed.is_in(entity))
        }
        Some("in") => entity.is_some_and(|entity| fixed.is_in(entity)),
        Some("is") => {
            scope.get("entity_type") == Some(&json!(fixed.kind)) && entity.is_none_or(|entity| fixed.is_in(entity))
        }
        _ => return Err(format!("the scope of rule `{}` is of an unknown kind", rule.id())),
    };
    if !is_named {
        return Ok(None);
    }
    if let Some(members) = spelled.as_object_mut() {
        members.insert(fixed.variable.to_owned(), json!({"op": "All"}));
        if let Some(conditions) = members.get_mut("conditions") {
            work_out(conditions, fixed);
            if mentions(conditions, fixed.variable) {
                return Err(format!("rule `{}` says of the {} what cannot be worked out", rule.id(), fixed.variable));
            }
        }
    }
    Policy::from_json(Some(rule.id().clone()), spelled).map(Some).map_err(|error| error.to_string())
}

fn work_out(value: &mut Value, fixed: &Fixed) {
    if let Some(known) = known(value, fixed) {
        *value = known;
        return;
    }
    match value {
        Value::Object(members) => members.values_mut().for_each(|inner| work_out(inner, fixed)),
        Value::Array(items) => items.iter_mut().for_each(|item| work_out(item, fixed)),
        _ => {}
    }
}

/// What an expression is, where it is about `fixed` alone.
fn known(value: &Value, fixed: &Fixed) -> Option<Value> {
    let variable = json!({"Var": fixed.variable});
    let is_variable = |side: Option<&Value>| side == Some(&variable);
    let (operation, sides) = value.as_object().filter(|members| members.len() == 1)?.iter().next()?;
    let (left, right) = (sides.get("left"), sides.get("right"));
    match operation.as_str() {
        "in" if is_variable(left) => among(right?, fixed).map(constant),
        "==" if is_variable(left) => entity(right?).map(|entity| constant(fixed.is(entity))),
        "==" if is_variable(right) => entity(left?).map(|entity| constant(fixed.is(entity))),
        "!=" if is_variable(left) => entity(right?).map(|entity| constant(!fixed.is(entity))),
        "!=" if is_variable(right) => entity(left?).map(|entity| constant(!fixed.is(entity))),
        "." if is_variable(left) && fixed.kind == "Target" && sides.get("attr") == Some(&json!("environment")) => {
            fixed.parents.iter().next().map(|environment| constant(environment.as_str()))
        }
        _ => None,
    }
}

impl Fixed {
    fn is(&self, entity: &Value) -> bool {
        entity.get("type") == Some(&json!(self.kind)) && self.is_in(entity)
    }
}

fn entity(value: &Value) -> Option<&Value> {
    value.pointer("/Value/__entity")
}

fn among(right: &Value, fixed: &Fixed) -> Option<bool> {
    if let Some(entity) = entity(right) {
        return Some(fixed.is_in(entity));
    }
    let items = right.get("Set")?.as_array()?;
    let mut found = false;
    for item in items {
        found |= fixed.is_in(entity(item)?);
    }
    Some(found)
}

fn mentions(value: &Value, variable: &str) -> bool {
    match value {
        Value::Object(members) => {
            members.get("Var") == Some(&json!(variable)) || members.values().any(|inner| mentions(inner, variable))
        }
        Value::Array(items) => items.iter().any(|item| mentions(item, variable)),
        _ => false,
    }
}
