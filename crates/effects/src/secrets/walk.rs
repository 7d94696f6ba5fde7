//! The way through a JSON value: every string, every key and every number that could be one.
//!
//! A replaced number becomes a string, and a replaced key is made different from its neighbours, so what comes
//! out is canonical JSON of the same shape. It must not know what a secret looks like. The depth is that of the
//! parser, so recursion is bounded.

use std::collections::{BTreeMap, BTreeSet};

use super::names::{Named, named, secret_value};
use super::rule::Rule;
use super::scan::{Span, after_scheme, replaced, spans};
use super::{PLACE_BYTES_MAX, Redacted};
use crate::json::{Node, Value, canonical};

/// The longest key that is shown in a place.
const SHOWN_KEY_MAX: usize = 32;

pub(super) fn redacted(node: &Node, input: &[u8]) -> Option<Redacted> {
    let mut walk = Walk { input, places: Vec::new() };
    let clean = walk.node(node, None, "");
    if walk.places.is_empty() {
        return None;
    }
    walk.places.sort_unstable();
    Some(Redacted { json: canonical(&clean, input), places: walk.places })
}

struct Walk<'a> {
    input: &'a [u8],
    places: Vec<String>,
}

impl Walk<'_> {
    /// The value without its secrets. `promised` is what the name around it says.
    fn node(&mut self, node: &Node, promised: Option<Named>, place: &str) -> Node {
        let value = match &node.value {
            Value::String(text) => Value::String(self.text(text, promised, place)),
            Value::Number => self.number(node, promised, place),
            Value::Array(items) => {
                let place = format!("{place}/*");
                Value::Array(items.iter().map(|item| self.node(item, promised, &place)).collect())
            }
            Value::Object(members) => Value::Object(self.members(members, promised, place)),
            other => other.clone(),
        };
        Node { span: node.span.clone(), value }
    }

    fn text(&mut self, text: &str, promised: Option<Named>, place: &str) -> String {
        let mut found = spans(text);
        let covers = found.first().is_some_and(|span| span.at == (0..text.len()));
        if let Some(rule) = promised.filter(|_| !covers).and_then(|named| secret_value(named, text)) {
            self.note(rule, place);
            return rule.marker().to_owned();
        }
        if promised == Some(Named::Authorization)
            && let Some(span) = after_scheme(text)
        {
            found = vec![span];
        }
        self.note_all(&found, place);
        replaced(text, &found)
    }

    /// Numbers are searched for card numbers, and under the name of a password they are one.
    fn number(&mut self, node: &Node, promised: Option<Named>, place: &str) -> Value {
        const PASSWORD_DIGITS_MIN: usize = 3;
        let Some(text) = node.as_number(self.input) else {
            return Value::Number;
        };
        let found = spans(text).first().map(|span| span.rule);
        let is_password = promised == Some(Named::Password) && text.len() >= PASSWORD_DIGITS_MIN;
        match found.or(is_password.then_some(Rule::Password)) {
            Some(rule) => {
                self.note(rule, place);
                Value::String(rule.marker().to_owned())
            }
            None => Value::Number,
        }
    }

    fn members(&mut self, members: &[(String, Node)], promised: Option<Named>, place: &str) -> Vec<(String, Node)> {
        // Below the name of a password, what has a name of its own must look random to be one.
        let inherited = promised.map(|_| Named::Secret);
        let labelled = label(members).and_then(named);
        let mut taken = Taken { names: members.iter().map(|(key, _)| key.clone()).collect(), last: BTreeMap::new() };
        let mut clean = Vec::with_capacity(members.len());
        for (key, node) in members {
            let found = spans(key);
            let shown = if found.is_empty() { key.clone() } else { taken.unused(replaced(key, &found)) };
            let place = format!("{place}/{}", token(&shown));
            self.note_all(&found, &place);
            let own = named(key).or(labelled.filter(|_| key == "value")).or(inherited);
            clean.push((shown, self.node(node, own, &place)));
        }
        clean
    }

    /// Each rule once for one string: how often it fits says nothing more.
    fn note_all(&mut self, found: &[Span], place: &str) {
        let rules: BTreeSet<Rule> = found.iter().map(|span| span.rule).collect();
        for rule in rules {
            self.note(rule, place);
        }
    }

    fn note(&mut self, rule: Rule, place: &str) {
        let mut line = format!("{} {place}", rule.id());
        if line.len() > PLACE_BYTES_MAX {
            // Places are ASCII: keys of other letters are not shown.
            line.truncate(PLACE_BYTES_MAX.saturating_sub(1));
            line.push('~');
        }
        self.places.push(line);
    }
}

/// The name that `{"name": …, "value": …}` gives its value.
fn label(members: &[(String, Node)]) -> Option<&str> {
    members.iter().find(|(key, _)| key == "name" || key == "key").and_then(|(_, node)| node.as_str())
}

/// The keys of one object, old and new.
struct Taken {
    names: BTreeSet<String>,
    /// The last number given to a key.
    last: BTreeMap<String, u64>,
}

impl Taken {
    /// A key that no other member has.
    fn unused(&mut self, key: String) -> String {
        let number = self.last.entry(key.clone()).or_insert(0);
        loop {
            *number = number.saturating_add(1);
            let candidate = if *number == 1 { key.clone() } else { format!("{key}#{number}") };
            if self.names.insert(candidate.clone()) {
                return candidate;
            }
        }
    }
}

/// The part of a place for a key: itself where it looks like the name of a field, else `*`.
fn token(key: &str) -> &str {
    let is_field = key.len() <= SHOWN_KEY_MAX
        && key
            .bytes()
            .enumerate()
            .all(|(at, byte)| byte.is_ascii_alphabetic() || byte == b'_' || (at > 0 && byte == b'-'));
    if is_field && !key.is_empty() { key } else { "*" }
}
