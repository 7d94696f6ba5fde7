//! What looks wrong in the text of a tool, for the human who is asked to accept it.
//!
//! A tool's text is read by a model, which may obey it. What `countersign_effects::names` flags holds a tool back until it
//! is accepted; the phrases here besides are hints, which honest texts use as well, and decide nothing. A text without
//! either is not thereby harmless. It must not know what was accepted.

#[cfg(test)]
mod tests;

use countersign_effects::json::{Node, Value};
use countersign_effects::names;

/// The longest description that draws no remark, in characters.
const LONG_CHARS: usize = 4_000;

/// Phrases by which a text gives orders to a model or asks for what is none of its business, in lower case.
const PHRASES: [&str; 32] = [
    "<important>",
    "<system>",
    "always call this",
    "always use this tool",
    "api key",
    "api_key",
    "before any other tool",
    "before calling",
    "before using any",
    "credentials",
    "disregard",
    "do not inform",
    "do not mention",
    "do not show",
    "do not tell",
    "don't mention",
    "don't tell",
    "id_rsa",
    "ignore all",
    "ignore any",
    "ignore previous",
    "ignore the",
    "instead of calling",
    "must first",
    "never tell",
    "private key",
    "secretly",
    "system prompt",
    "without asking",
    "without telling",
    "you must",
    "~/.",
];

/// What looks wrong, with the place of the text as a JSON pointer.
pub(crate) fn remarks(node: &Node) -> Vec<String> {
    let mut out: Vec<String> = names::of_tool(node).iter().map(ToString::to_string).collect();
    walk("", node, &mut out);
    out
}

/// What looks wrong in one text.
pub(crate) fn in_text(text: &str) -> Vec<String> {
    let mut out: Vec<String> = names::of_text(text).iter().map(ToString::to_string).collect();
    out.extend(hints(text));
    out
}

/// What may be honest, and is worth a look.
fn hints(text: &str) -> Vec<String> {
    let mut out = Vec::new();
    let plain: String = text.to_lowercase().split_whitespace().collect::<Vec<_>>().join(" ");
    let found: Vec<&str> = PHRASES.into_iter().filter(|phrase| plain.contains(phrase)).collect();
    if !found.is_empty() {
        out.push(format!("it may be talking to the model: `{}`", found.join("`, `")));
    }
    if text.chars().count() > LONG_CHARS {
        out.push(format!("it is longer than {LONG_CHARS} characters; look at its end too"));
    }
    out
}

fn walk(at: &str, node: &Node, out: &mut Vec<String>) {
    match &node.value {
        Value::String(text) => out.extend(hints(text).into_iter().map(|what| remark(at, &what))),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(place, item)| walk(&format!("{at}/{place}"), item, out));
        }
        Value::Object(members) => {
            for (name, member) in members {
                let below = format!("{at}/{}", name.replace('~', "~0").replace('/', "~1"));
                out.extend(hints(name).into_iter().map(|what| remark(&below, &what)));
                walk(&below, member, out);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number => {}
    }
}

fn remark(at: &str, what: &str) -> String {
    format!("{}: {what}", at.escape_default())
}
