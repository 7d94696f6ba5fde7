//! Places of arguments: names joined by dots, a dot inside a name with a backslash before it.
//!
//! A place says which member of which object; items of an array have the array's place. It must not know
//! what kinds mean, but that shell text is heard otherwise than it is spelled.

use std::collections::BTreeMap;

use super::{ArgumentKind, Binding};
use crate::json::{Node, Value};
use crate::shell;

/// The place of the member that `names` lead to, from the arguments' object inwards.
#[must_use]
pub fn place<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().map(escaped).collect::<Vec<_>>().join(".")
}

/// The place of the member `name` of the object at `parent`, which is empty for the arguments' object.
pub(super) fn below(parent: &str, name: &str) -> String {
    if parent.is_empty() { escaped(name) } else { format!("{parent}.{}", escaped(name)) }
}

fn escaped(name: &str) -> String {
    name.replace('\\', "\\\\").replace('.', "\\.")
}

/// The names that a place is made of.
pub(super) fn names(place: &str) -> Vec<String> {
    let mut names = vec![String::new()];
    let mut chars = place.chars();
    while let Some(c) = chars.next() {
        match c {
            '.' => names.push(String::new()),
            c => {
                let c = if c == '\\' { chars.next().unwrap_or(c) } else { c };
                if let Some(name) = names.last_mut() {
                    name.push(c);
                }
            }
        }
    }
    names
}

/// The first place that is declared as a value and as an object that is looked into, or that is none because a name in it
/// is empty.
#[must_use]
pub fn contradiction(arguments: &BTreeMap<String, ArgumentKind>) -> Option<String> {
    let parts: BTreeMap<Vec<String>, &ArgumentKind> =
        arguments.iter().map(|(place, kind)| (names(place), kind)).collect();
    let is_value = |outer: &[String]| parts.get(outer).is_some_and(|kind| **kind != ArgumentKind::Plain);
    arguments.keys().find_map(|place| {
        let names = names(place);
        if names.iter().any(String::is_empty) {
            return Some(place.clone());
        }
        let outer = (1..names.len()).filter_map(|length| names.get(..length)).find(|outer| is_value(outer))?;
        Some(self::place(outer.iter().map(String::as_str)))
    })
}

/// The value at a place.
pub(super) fn at<'a>(arguments: &'a Node, place: &str) -> Option<&'a Node> {
    names(place).iter().try_fold(arguments, |node, name| node.get(name))
}

/// What patterns are compared with: every text among the arguments with its place, in the order of the bytes, and behind
/// them what is [`spoken`]. Keys and numbers are no texts.
#[must_use]
pub fn texts<'a>(arguments: &'a Node, spoken: &'a [(String, String)]) -> Vec<(String, &'a str)> {
    let mut all = Vec::new();
    collect(arguments, "", &mut all);
    all.extend(spoken.iter().map(|(place, text)| (place.clone(), text.as_str())));
    all
}

/// The shell arguments of a call as a shell hears them, with their places: quotes hide nothing there, and the words of a
/// list are one text.
#[must_use]
pub fn spoken(binding: Option<&Binding>, arguments: &Node) -> Vec<(String, String)> {
    let declared = binding.into_iter().flat_map(|binding| &binding.arguments);
    let shells = declared.filter(|(_, kind)| **kind == ArgumentKind::Shell);
    let heard = shells.filter_map(|(place, _)| Some((place, at(arguments, place)?))).flat_map(|(place, node)| {
        let all = match (node.as_str(), node.as_array()) {
            (Some(text), _) => vec![shell::spoken(text)],
            // What is no text there makes the call opaque; the rest is matched all the same.
            (None, Some(items)) => shell::spoken_words(&items.iter().filter_map(Node::as_str).collect::<Vec<_>>()),
            (None, None) => Vec::new(),
        };
        all.into_iter().map(|text| (place.clone(), text))
    });
    heard.collect()
}

/// The parser bounds the depth.
fn collect<'a>(node: &'a Node, place: &str, all: &mut Vec<(String, &'a str)>) {
    match &node.value {
        Value::String(text) => all.push((place.to_owned(), text)),
        Value::Array(items) => items.iter().for_each(|item| collect(item, place, all)),
        Value::Object(members) => {
            members.iter().for_each(|(name, member)| collect(member, &below(place, name), all));
        }
        Value::Null | Value::Bool(_) | Value::Number => {}
    }
}
