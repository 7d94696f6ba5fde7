//! What a server says of its tools, looked at for what does not belong there: pure, deterministic, and advice.
//!
//! A model reads names, descriptions and schemas, and may obey them; a person skims them, and may not see all that is
//! there. Each [`Sign`] is one such thing, found by a documented list and no guess. A tool that shows one is held back
//! until a human has looked at it. That is all: a text without a sign is not thereby harmless, and nothing here ever
//! makes a tool milder. It must not know who is asking, what was accepted, or how a tool is reached.
//!
//! # Not covered
//! Instructions in other words or languages than [`signs`] lists, in pictures, or spread over several tools; what a tool
//! does besides what it says; letters that look alike outside of the small table in [`letters`] (Latin against Cyrillic,
//! Greek, Armenian and fullwidth forms, after Unicode TS 39).

pub mod form;
pub mod letters;
pub mod neighbour;
mod signs;

#[cfg(test)]
mod tests;

use crate::json::{Node, Value};

/// The most flags of one tool.
pub const FLAGS_MAX: usize = 16;
/// The longest place that is told, in characters.
const PLACE_CHARS_MAX: usize = 96;

/// What kind of thing was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sign {
    /// A character that turns the direction of text.
    Direction,
    /// A character that nobody sees.
    Hidden,
    /// A word that mixes Latin letters with look-alikes of other alphabets.
    LookAlike,
    /// Words that order a model about, or keep something from its user.
    Instruction,
    /// Places where secrets lie.
    Secret,
    /// A name that passes for another upstream's tool, or a text that speaks of one: see [`neighbour`].
    Shadow,
    /// An annotation that contradicts the name, or another annotation.
    Contradiction,
}

impl Sign {
    /// The stable word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Direction => "direction",
            Self::Hidden => "hidden",
            Self::LookAlike => "look_alike",
            Self::Instruction => "instruction",
            Self::Secret => "secret",
            Self::Shadow => "shadow",
            Self::Contradiction => "contradiction",
        }
    }
}

/// One thing that does not belong there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flag {
    /// Its kind.
    pub sign: Sign,
    /// Where, as a JSON pointer into the definition; empty for the tool itself.
    pub place: String,
    /// What was found, in plain words; safe to print.
    pub what: String,
}

impl std::fmt::Display for Flag {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.place.is_empty() { f.write_str(&self.what) } else { write!(f, "{}: {}", self.place, self.what) }
    }
}

/// What is wrong with a tool as its server defines it: in any text of it, keys among them, and in its annotations.
#[must_use]
pub fn of_tool(definition: &Node) -> Vec<Flag> {
    let mut out = Vec::new();
    walk("", definition, &mut out);
    out.extend(contradictions(definition));
    out.truncate(FLAGS_MAX);
    out
}

/// What is wrong with one text, such as a server's instructions.
#[must_use]
pub fn of_text(text: &str) -> Vec<Flag> {
    in_text("", text)
}

/// What a name reads like: names with the same skeleton are taken for each other. Letters that look alike are one, case
/// does not count, nor does which of `-`, `_` and `.` separates words.
#[must_use]
pub fn skeleton(name: &str) -> String {
    let visible = name.chars().filter(|c| letters::hides(*c).is_none());
    let latin = |c| letters::latin_of(c).unwrap_or(c);
    // Once more after folding: the table has most capitals, not all.
    let folded: String = visible.map(latin).flat_map(char::to_lowercase).map(latin).collect();
    let mut out = String::with_capacity(folded.len());
    for c in folded.chars() {
        match c {
            '0' => out.push('o'),
            // A capital I, a digit and a bar look like an l; so all of them are an i.
            '1' | 'l' | '|' => out.push('i'),
            'w' => out.push_str("vv"),
            'm' => out.push_str("rn"),
            '-' | '_' | '.' | ' ' | '/' => out.push('_'),
            other => out.push(other),
        }
    }
    out
}

fn walk(at: &str, node: &Node, out: &mut Vec<Flag>) {
    if out.len() >= FLAGS_MAX {
        return;
    }
    match &node.value {
        Value::String(text) => out.extend(in_text(at, text)),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(place, item)| walk(&format!("{at}/{place}"), item, out));
        }
        Value::Object(members) => {
            for (name, member) in members {
                let below = format!("{at}/{}", name.replace('~', "~0").replace('/', "~1"));
                out.extend(in_text(&below, name));
                walk(&below, member, out);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number => {}
    }
}

fn in_text(at: &str, text: &str) -> Vec<Flag> {
    let characters = letters::hidden(text).into_iter();
    let words = letters::look_alikes(text).into_iter().map(|word| {
        (Sign::LookAlike, format!("`{}` mixes letters of several alphabets that look alike", shown(&word)))
    });
    let phrases = signs::of(text).into_iter();
    let found = characters.chain(words).chain(phrases);
    found.map(|(sign, what)| Flag { sign, place: shown(at), what }).collect()
}

/// Annotations are hints of a server about itself. They are held against it, never taken for it.
fn contradictions(definition: &Node) -> Vec<Flag> {
    let says = |hint: &str| definition.get("annotations").and_then(|all| all.get(hint)).and_then(Node::as_bool);
    let is_read_only = says("readOnlyHint") == Some(true);
    let name = definition.get("name").and_then(Node::as_str).unwrap_or_default();
    let flag = |what: String| Flag { sign: Sign::Contradiction, place: "/annotations".to_owned(), what };
    let mut out = Vec::new();
    if let Some(verb) = signs::changing_verb(name).filter(|_| is_read_only) {
        out.push(flag(format!("it says that it only reads, and its name says `{verb}`")));
    }
    if is_read_only && says("destructiveHint") == Some(true) {
        out.push(flag("it says that it only reads, and that it destroys".to_owned()));
    }
    out
}

fn shown(text: &str) -> String {
    text.chars().take(PLACE_CHARS_MAX).flat_map(char::escape_default).collect()
}
