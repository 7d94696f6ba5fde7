//! Cedar's expression tree as JSON (EST): taken apart and put together, never as text.
//!
//! It knows the shape of the tree and nothing of what its names mean.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

/// The one operator of a node with what it is applied to.
#[must_use]
pub fn node(tree: &Value) -> Option<(&str, &Value)> {
    let members = tree.as_object()?;
    if members.len() != 1 {
        return None;
    }
    members.iter().next().map(|(operator, of)| (operator.as_str(), of))
}

/// Left and right of a binary node.
#[must_use]
pub fn sides(of: &Value) -> Option<(&Value, &Value)> {
    Some((of.get("left")?, of.get("right")?))
}

/// The path of an attribute, such as `context.calls.minute`, or of a variable.
#[must_use]
pub fn path(tree: &Value) -> Option<String> {
    match node(tree)? {
        ("Var", name) => name.as_str().map(str::to_owned),
        ("." | "has", of) => {
            let attr = of.get("attr")?.as_str()?;
            Some(format!("{}.{attr}", path(of.get("left")?)?))
        }
        _ => None,
    }
}

/// Whatever stands there as a plain value: no entity, no set.
#[must_use]
pub fn literal(tree: &Value) -> Option<&Value> {
    match node(tree)? {
        ("Value", value) if !value.is_object() && !value.is_array() => Some(value),
        _ => None,
    }
}

/// The texts of a set of texts, however it is spelled.
#[must_use]
pub fn texts(tree: &Value) -> Option<Vec<String>> {
    let items = match node(tree)? {
        ("Set", items) => items.as_array()?.iter().map(literal).collect::<Option<Vec<_>>>()?,
        ("Value", Value::Array(items)) => items.iter().collect(),
        _ => return None,
    };
    items.into_iter().map(|item| item.as_str().map(str::to_owned)).collect()
}

/// An entity's type and id.
#[must_use]
pub fn entity(tree: &Value) -> Option<(&str, &str)> {
    let value = match node(tree) {
        Some(("Value", value)) => value.get("__entity")?,
        _ => tree,
    };
    Some((value.get("type")?.as_str()?, value.get("id")?.as_str()?))
}

/// Every path that the tree reads, the longest of each.
#[must_use]
pub fn reads(tree: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    read_into(tree, &mut found);
    found
}

fn read_into(tree: &Value, found: &mut BTreeSet<String>) {
    if let Some(path) = path(tree) {
        found.insert(path);
        return;
    }
    match tree {
        Value::Object(members) => members.values().for_each(|member| read_into(member, found)),
        Value::Array(items) => items.iter().for_each(|item| read_into(item, found)),
        _ => {}
    }
}

/// Hands every node to `visit`, the outer before the inner.
pub fn walk(tree: &Value, visit: &mut dyn FnMut(&str, &Value)) {
    if let Some((operator, of)) = node(tree) {
        visit(operator, of);
    }
    match tree {
        Value::Object(members) => members.values().for_each(|member| walk(member, visit)),
        Value::Array(items) => items.iter().for_each(|item| walk(item, visit)),
        _ => {}
    }
}

/// What must hold, each by itself, for `tree` to hold.
#[must_use]
pub fn all_of(tree: Value) -> Vec<Value> {
    match node(&tree) {
        Some(("&&", of)) => {
            let both = sides(of).map(|(left, right)| (left.clone(), right.clone()));
            both.map_or_else(|| vec![tree.clone()], |(left, right)| [all_of(left), all_of(right)].concat())
        }
        Some(("!", of)) if of.get("arg").and_then(node).is_some_and(|(operator, _)| operator == "||") => {
            none_of(of.get("arg").cloned().unwrap_or(Value::Null))
        }
        _ => vec![tree],
    }
}

/// What must hold, each by itself, for `tree` not to hold.
#[must_use]
pub fn none_of(tree: Value) -> Vec<Value> {
    match node(&tree) {
        Some(("||", of)) => {
            let both = sides(of).map(|(left, right)| (left.clone(), right.clone()));
            both.map_or_else(|| vec![not(tree.clone())], |(left, right)| [none_of(left), none_of(right)].concat())
        }
        _ => vec![not(tree)],
    }
}

fn not(tree: Value) -> Value {
    match node(&tree) {
        Some(("!", of)) if of.get("arg").is_some() => of.get("arg").cloned().unwrap_or(Value::Null),
        _ => json!({"!": {"arg": tree}}),
    }
}

/// Sets a member of an object; on anything else it does nothing.
pub fn put(tree: &mut Value, name: &str, value: Value) {
    if let Some(members) = tree.as_object_mut() {
        members.insert(name.to_owned(), value);
    }
}

/// An entity as a value in an expression.
#[must_use]
pub fn entity_value(kind: &str, id: &str) -> Value {
    json!({"Value": {"__entity": {"type": kind, "id": id}}})
}

/// A scope of exactly one entity.
#[must_use]
pub fn scope_of_one(kind: &str, id: &str) -> Value {
    json!({"op": "==", "entity": {"type": kind, "id": id}})
}

/// A set of texts in an expression.
#[must_use]
pub fn text_set<'a>(texts: impl IntoIterator<Item = &'a str>) -> Value {
    json!({"Set": texts.into_iter().map(|text| json!({"Value": text})).collect::<Vec<_>>()})
}

/// An attribute of the context.
#[must_use]
pub fn of_context(name: &str) -> Value {
    json!({".": {"left": {"Var": "context"}, "attr": name}})
}

/// A binary operator, or a method of one argument.
#[must_use]
pub fn binary(operator: &str, left: &Value, right: &Value) -> Value {
    let mut tree = Map::new();
    tree.insert(operator.to_owned(), json!({"left": left, "right": right}));
    Value::Object(tree)
}
