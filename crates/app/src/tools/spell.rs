//! JSON as it stood, in two spellings: on one line, and on many for people.
//!
//! Both keep the order of members and every number as it was spelled, so that the one line is, for most servers, the
//! very bytes that they sent. It must not know what the JSON means.

use countersign_effects::json::{Limits, Node, Value};

/// Bounds on a file of accepted tools, and on a definition in it.
pub(crate) const LIMITS: Limits = Limits { bytes_max: 64 * 1024 * 1024, depth_max: 140, nodes_max: 2_000_000 };

/// `node` without white space; `input` must be the bytes that it was parsed from.
pub(crate) fn compact(node: &Node, input: &[u8]) -> String {
    let mut out = String::new();
    write(node, input, None, &mut out);
    out
}

/// `node` on lines of its own, indented by `level` steps of two.
pub(crate) fn pretty(node: &Node, input: &[u8], level: usize) -> String {
    let mut out = String::new();
    write(node, input, Some(level), &mut out);
    out
}

/// A text as JSON has it.
pub(crate) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn write(node: &Node, input: &[u8], level: Option<usize>, out: &mut String) {
    let within = level.map(|level| level.saturating_add(1));
    match &node.value {
        Value::Null => out.push_str("null"),
        Value::Bool(truth) => out.push_str(if *truth { "true" } else { "false" }),
        Value::Number => out.push_str(node.as_number(input).unwrap_or("null")),
        Value::String(text) => out.push_str(&quoted(text)),
        Value::Array(items) => {
            out.push('[');
            for (place, item) in items.iter().enumerate() {
                separate(place, within, out);
                write(item, input, within, out);
            }
            close((items.is_empty(), ']'), level, out);
        }
        Value::Object(members) => {
            out.push('{');
            for (place, (name, member)) in members.iter().enumerate() {
                separate(place, within, out);
                out.push_str(&quoted(name));
                out.push_str(if level.is_some() { ": " } else { ":" });
                write(member, input, within, out);
            }
            close((members.is_empty(), '}'), level, out);
        }
    }
}

fn separate(place: usize, level: Option<usize>, out: &mut String) {
    if place > 0 {
        out.push(',');
    }
    line(level, out);
}

fn close((empty, bracket): (bool, char), level: Option<usize>, out: &mut String) {
    if !empty {
        line(level, out);
    }
    out.push(bracket);
}

fn line(level: Option<usize>, out: &mut String) {
    if let Some(level) = level {
        out.push('\n');
        out.extend(std::iter::repeat_n("  ", level));
    }
}
