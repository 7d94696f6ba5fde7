//! Expressions of Cedar, in the structure that Cedar itself reads and writes: nothing is pasted as text.

use std::collections::BTreeSet;

use cedar_policy::{Policy, PolicyId};
use serde_json::{Value, json};

/// A word of the context.
pub(crate) fn fact(name: &str) -> Value {
    attribute(json!({"Var": "context"}), name)
}

/// An attribute of something.
pub(crate) fn attribute(of: Value, name: &str) -> Value {
    json!({".": {"left": of, "attr": name}})
}

/// Whether the context has a word.
pub(crate) fn has(name: &str) -> Value {
    json!({"has": {"left": {"Var": "context"}, "attr": name}})
}

/// A constant.
pub(crate) fn constant(value: impl Into<Value>) -> Value {
    let value: Value = value.into();
    json!({"Value": value})
}

/// An entity.
pub(crate) fn entity(kind: &str, id: &str) -> Value {
    json!({"Value": {"__entity": {"type": kind, "id": id}}})
}

/// An operation on two.
pub(crate) fn two(operation: &str, left: Value, right: Value) -> Value {
    json!({operation: {"left": left, "right": right}})
}

/// One or the other.
pub(crate) fn choice(condition: Value, then: Value, otherwise: Value) -> Value {
    json!({"if-then-else": {"if": condition, "then": then, "else": otherwise}})
}

/// Not.
pub(crate) fn not(what: Value) -> Value {
    json!({"!": {"arg": what}})
}

/// All of them; true of none.
pub(crate) fn all(parts: impl IntoIterator<Item = Value>) -> Value {
    joined("&&", parts.into_iter().collect()).unwrap_or_else(|| constant(true))
}

/// One of them; false of none.
pub(crate) fn any(parts: impl IntoIterator<Item = Value>) -> Value {
    joined("||", parts.into_iter().collect()).unwrap_or_else(|| constant(false))
}

/// A balanced tree, for whoever reads it does so by recursion.
fn joined(operation: &str, mut parts: Vec<Value>) -> Option<Value> {
    while parts.len() > 1 {
        let mut pairs = parts.into_iter();
        let mut next = Vec::new();
        while let Some(left) = pairs.next() {
            next.push(match pairs.next() {
                Some(right) => two(operation, left, right),
                None => left,
            });
        }
        parts = next;
    }
    parts.pop()
}

/// A set of texts.
pub(crate) fn texts(all: &[String]) -> Value {
    json!({"Set": all.iter().map(|text| constant(text.as_str())).collect::<Vec<_>>()})
}

/// `permit` or `forbid` everything `when` the condition holds.
pub(crate) fn policy(id: &str, effect: &str, condition: &Value) -> Result<Policy, String> {
    let any = json!({"op": "All"});
    let spelled = json!({
        "effect": effect, "principal": any, "action": any, "resource": any,
        "conditions": [{"kind": "when", "body": condition}],
    });
    Policy::from_json(Some(PolicyId::new(id)), spelled).map_err(|error| error.to_string())
}

/// The names of attributes that an expression reads, and `Action` where it names an action.
pub(crate) fn read(value: &Value, into: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            for (key, inner) in members {
                match (key.as_str(), inner) {
                    ("attr", Value::String(name)) => drop(into.insert(name.clone())),
                    ("type", Value::String(kind)) if kind == "Action" => drop(into.insert(kind.clone())),
                    ("Var", Value::String(name)) if name == "action" => drop(into.insert("Action".to_owned())),
                    // `has` may name a path.
                    ("attr", Value::Array(names)) => {
                        into.extend(names.iter().filter_map(Value::as_str).map(str::to_owned));
                    }
                    _ => read(inner, into),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| read(item, into)),
        _ => {}
    }
}

/// What a policy's conditions read.
pub(crate) fn reads(policy: &Policy) -> Result<BTreeSet<String>, String> {
    let spelled = policy.to_json().map_err(|error| error.to_string())?;
    let mut names = BTreeSet::new();
    if let Some(conditions) = spelled.get("conditions") {
        read(conditions, &mut names);
    }
    Ok(names)
}
