//! Reading nodes into plain values, with a complaint for everything that does not fit.
//!
//! It knows types and the spelling of names, not what a policy is. Whoever reads goes on after a complaint, so that one
//! pass finds all problems; what could not be read is simply not there, and the file is refused at the end.

use super::node::{Key, Node, Value};
use super::problem::{Problem, Span, suggestion};

/// Who collects complaints and warnings.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    pub(crate) problems: Vec<Problem>,
    pub(crate) warnings: Vec<Problem>,
}

/// A text and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Spoken {
    pub(crate) text: String,
    pub(crate) span: Span,
}

/// The entries of a map whose keys are all known.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fields<'a> {
    pub(crate) span: Span,
    entries: &'a [(Key, Node)],
}

impl<'a> Fields<'a> {
    /// The value of `key`; nothing where it is missing or null.
    pub(crate) fn get(&self, key: &str) -> Option<&'a Node> {
        let found = self.entries.iter().find(|(known, _)| known.text == key);
        found.map(|(_, node)| node).filter(|node| node.value != Value::Null)
    }

    /// All entries, in the order of the file.
    pub(crate) fn all(&self) -> impl Iterator<Item = &'a (Key, Node)> + use<'a> {
        self.entries.iter()
    }
}

impl Reader {
    pub(crate) fn fault(&mut self, span: Span, message: impl Into<String>, help: impl Into<String>) {
        self.problems.push(Problem { message: message.into(), help: help.into(), span });
    }

    pub(crate) fn warn(&mut self, span: Span, message: impl Into<String>, help: impl Into<String>) {
        self.warnings.push(Problem { message: message.into(), help: help.into(), span });
    }

    fn mismatch(&mut self, node: &Node, what: &str, wanted: &str) {
        let message = format!("{what} is {wanted}, and here stands {}", node.value.kind());
        let help = match node.value {
            Value::Bool(_) | Value::Int(_) | Value::Decimal(_) | Value::Null => {
                format!("write {wanted}; text that looks like something else goes into quotes")
            }
            Value::Text(_) | Value::List(_) | Value::Map(_) => format!("write {wanted}"),
        };
        self.fault(node.span, message, help);
    }

    /// The entries of a map, each key of which is in `known`.
    pub(crate) fn fields<'a>(&mut self, node: &'a Node, what: &str, known: &[&str]) -> Option<Fields<'a>> {
        let fields = self.map(node, what)?;
        for (key, _) in fields.all().filter(|(key, _)| !known.contains(&key.text.as_str())) {
            let help = suggestion(&key.text, known.iter().copied(), &format!("known are {}", known.join(", ")));
            self.fault(key.span, format!("{what} has no key `{}`", key.text.escape_debug()), help);
        }
        Some(fields)
    }

    /// The entries of a map with any keys.
    pub(crate) fn map<'a>(&mut self, node: &'a Node, what: &str) -> Option<Fields<'a>> {
        match &node.value {
            Value::Map(entries) => Some(Fields { span: node.span, entries }),
            _ => {
                self.mismatch(node, what, "a map of keys and values");
                None
            }
        }
    }

    /// The items of a list that is not empty.
    pub(crate) fn items<'a>(&mut self, node: &'a Node, what: &str) -> &'a [Node] {
        match &node.value {
            Value::List(items) if items.is_empty() => {
                self.fault(node.span, format!("{what} is an empty list"), "list something, or leave the key out");
                items
            }
            Value::List(items) => items,
            _ => {
                self.mismatch(node, what, "a list");
                &[]
            }
        }
    }

    /// A text that is not empty.
    pub(crate) fn text(&mut self, node: &Node, what: &str) -> Option<Spoken> {
        match &node.value {
            Value::Text(text) if !text.trim().is_empty() => Some(Spoken { text: text.clone(), span: node.span }),
            Value::Text(_) => {
                self.fault(node.span, format!("{what} is empty"), "write something, or leave the key out");
                None
            }
            _ => {
                self.mismatch(node, what, "text");
                None
            }
        }
    }

    /// A list of texts; one text stands for a list of one. None may come twice.
    pub(crate) fn texts(&mut self, node: &Node, what: &str) -> Vec<Spoken> {
        if matches!(node.value, Value::Text(_)) {
            return self.text(node, what).into_iter().collect();
        }
        let mut all: Vec<Spoken> = Vec::new();
        for item in self.items(node, what) {
            let Some(text) = self.text(item, &format!("an item of {what}")) else { continue };
            if all.iter().any(|other| other.text == text.text) {
                let message = format!("`{}` stands in {what} twice", text.text.escape_debug());
                self.fault(text.span, message, "remove one of the two");
            }
            all.push(text);
        }
        all
    }

    pub(crate) fn flag(&mut self, node: &Node, what: &str) -> Option<bool> {
        match node.value {
            Value::Bool(flag) => Some(flag),
            _ => {
                self.mismatch(node, what, "true or false");
                None
            }
        }
    }

    /// A whole number that is not negative.
    pub(crate) fn count(&mut self, node: &Node, what: &str) -> Option<u64> {
        match node.value {
            Value::Int(number) if number >= 0 => u64::try_from(number).ok(),
            Value::Int(_) => {
                self.fault(node.span, format!("{what} is negative"), "write a whole number from zero");
                None
            }
            _ => {
                self.mismatch(node, what, "a whole number from zero");
                None
            }
        }
    }

    /// One of `known` words.
    pub(crate) fn word<'k>(&mut self, node: &Node, what: &str, known: &[&'k str]) -> Option<&'k str> {
        let text = self.text(node, what)?;
        self.among(&text, what, known)
    }

    pub(crate) fn among<'k>(&mut self, text: &Spoken, what: &str, known: &[&'k str]) -> Option<&'k str> {
        let found = known.iter().find(|word| **word == text.text).copied();
        if found.is_none() {
            let help = suggestion(&text.text, known.iter().copied(), &format!("write one of {}", known.join(", ")));
            self.fault(text.span, format!("`{}` is not known as {what}", text.text.escape_debug()), help);
        }
        found
    }
}
