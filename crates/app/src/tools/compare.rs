//! What differs between what was accepted and what an upstream says now: by tool, and within a tool by JSON pointer.
//!
//! Every byte counts for the gateway; here the differences are put so that a person sees what they mean. It must not
//! judge them: `suspect` points at what looks wrong.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use countersign_effects::json::{Node, Value};
use countersign_model::id::ToolName;
use similar::{ChangeTag, TextDiff};

use super::lock::{Definition, Lock};
use super::spell::compact;

/// The most differences of one tool that are shown; beyond it there is one more line that says so.
const CHANGES_MAX: usize = 200;

/// What became of a tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// It is what was accepted.
    Accepted,
    /// Its definition is another one.
    Changed,
    /// It was not accepted.
    New,
    /// The upstream no longer lists it.
    Gone,
}

impl State {
    /// The word for it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Changed => "changed",
            Self::New => "new",
            Self::Gone => "gone",
        }
    }
}

/// One tool, then and now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Compared {
    /// Its name.
    pub(crate) tool: ToolName,
    /// What became of it.
    pub(crate) state: State,
    /// What differs, where it changed.
    pub(crate) changes: Vec<Change>,
}

/// One difference: values as JSON on one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    /// Where, as a JSON pointer into the definition.
    pub(crate) pointer: String,
    /// What was accepted; none where there was nothing.
    pub(crate) was: Option<String>,
    /// What stands there now; none where there is nothing.
    pub(crate) now: Option<String>,
}

/// Every tool of either side, sorted by name.
pub(crate) fn tools(accepted: &Lock, now: &Lock) -> Vec<Compared> {
    let names: BTreeSet<&ToolName> = accepted.tools.keys().chain(now.tools.keys()).collect();
    let compared = names.into_iter().filter_map(|name| {
        let (state, changes) = match (accepted.tools.get(name), now.tools.get(name)) {
            (Some(was), Some(is)) if was.raw == is.raw => (State::Accepted, Vec::new()),
            (Some(was), Some(is)) => (State::Changed, definitions(was, is)),
            (None, Some(_)) => (State::New, Vec::new()),
            (Some(_), None) => (State::Gone, Vec::new()),
            (None, None) => return None,
        };
        Some(Compared { tool: name.clone(), state, changes })
    });
    compared.collect()
}

/// What differs in what the server says of itself.
pub(crate) fn server(accepted: &Lock, now: &Lock) -> Vec<Change> {
    let (was, is) = (&accepted.server, &now.server);
    let parts = [
        ("/name", &was.name, &is.name),
        ("/version", &was.version, &is.version),
        ("/instructions", &was.instructions, &is.instructions),
    ];
    let differing = parts.into_iter().filter(|(_, was, is)| was != is);
    let text = |text: &String| Some(super::spell::quoted(text));
    differing.map(|(at, was, is)| Change { pointer: at.to_owned(), was: text(was), now: text(is) }).collect()
}

fn definitions(was: &Definition, is: &Definition) -> Vec<Change> {
    let mut changes = Vec::new();
    if let (Ok(a), Ok(b)) = (was.node(), is.node()) {
        differences("", (&a, &was.raw), (&b, &is.raw), &mut changes);
    }
    if changes.is_empty() {
        // The gateway compares bytes, for it is bytes that a client gets.
        let spelling = |what: &str| Some(super::spell::quoted(what));
        let (was, now) =
            (spelling("the same values"), spelling("in another order, or with other white space or escapes"));
        changes.push(Change { pointer: String::new(), was, now });
    }
    changes
}

fn differences(at: &str, was: (&Node, &[u8]), is: (&Node, &[u8]), out: &mut Vec<Change>) {
    if out.len() > CHANGES_MAX {
        return;
    }
    if out.len() == CHANGES_MAX {
        out.push(Change { pointer: at.to_owned(), was: None, now: Some("\"… and more from here on\"".to_owned()) });
        return;
    }
    match (&was.0.value, &is.0.value) {
        (Value::Object(before), Value::Object(after)) => {
            let names: BTreeSet<&String> = before.iter().chain(after).map(|(name, _)| name).collect();
            for name in names {
                let pointer = format!("{at}/{}", name.replace('~', "~0").replace('/', "~1"));
                pair(&pointer, (was.0.get(name), was.1), (is.0.get(name), is.1), out);
            }
        }
        (Value::Array(before), Value::Array(after)) => {
            for place in 0..before.len().max(after.len()) {
                pair(&format!("{at}/{place}"), (before.get(place), was.1), (after.get(place), is.1), out);
            }
        }
        _ => {
            let (before, after) = (compact(was.0, was.1), compact(is.0, is.1));
            if before != after {
                out.push(Change { pointer: at.to_owned(), was: Some(before), now: Some(after) });
            }
        }
    }
}

fn pair(at: &str, was: (Option<&Node>, &[u8]), is: (Option<&Node>, &[u8]), out: &mut Vec<Change>) {
    match (was.0, is.0) {
        (Some(before), Some(after)) => differences(at, (before, was.1), (after, is.1), out),
        (before, after) => out.push(Change {
            pointer: at.to_owned(),
            was: before.map(|node| compact(node, was.1)),
            now: after.map(|node| compact(node, is.1)),
        }),
    }
}

impl Change {
    /// The difference as lines: long texts word by word, everything else as it was and as it is.
    pub(crate) fn lines(&self) -> Vec<String> {
        match (self.text_of(self.was.as_ref()), self.text_of(self.now.as_ref())) {
            (Some(was), Some(now)) if was.contains(' ') && now.contains(' ') => vec![words(&was, &now)],
            _ => [("-", &self.was), ("+", &self.now)]
                .into_iter()
                .filter_map(|(sign, value)| Some(format!("{sign} {}", value.as_ref()?)))
                .collect(),
        }
    }

    fn text_of(&self, value: Option<&String>) -> Option<String> {
        serde_json::from_str(value?).ok()
    }
}

/// Two texts as one: what was removed in `[-…-]`, what was added in `{+…+}`.
fn words(was: &str, now: &str) -> String {
    let diff = TextDiff::from_words(was, now);
    let mut out = String::new();
    let mut open: Option<ChangeTag> = None;
    for change in diff.iter_all_changes() {
        let tag = Some(change.tag()).filter(|tag| *tag != ChangeTag::Equal);
        if tag != open {
            out.push_str(mark(open, false));
            out.push_str(mark(tag, true));
            open = tag;
        }
        out.push_str(change.value());
    }
    out.push_str(mark(open, false));
    out
}

const fn mark(tag: Option<ChangeTag>, begins: bool) -> &'static str {
    match (tag, begins) {
        (Some(ChangeTag::Delete), true) => "[-",
        (Some(ChangeTag::Delete), false) => "-]",
        (Some(ChangeTag::Insert), true) => "{+",
        (Some(ChangeTag::Insert), false) => "+}",
        _ => "",
    }
}
