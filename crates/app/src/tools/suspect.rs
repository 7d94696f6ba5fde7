//! What looks wrong in the text of a tool, for the human who is asked to accept it.
//!
//! A tool's text is read by a model, which may obey it. These are hints and nothing more: none of them decides
//! anything, and a text without a hint is not thereby harmless. It must not know what was accepted.

#[cfg(test)]
mod tests;

use countersign_effects::json::{Node, Value};

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
    let mut out = Vec::new();
    walk("", node, &mut out);
    out
}

/// What looks wrong in one text.
pub(crate) fn in_text(text: &str) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    let mut hidden: Vec<String> = text.chars().filter_map(hides).collect();
    hidden.sort();
    hidden.dedup();
    out.extend(hidden);
    if let Some(word) = text.split(|c: char| !c.is_alphanumeric()).find(|word| mixes_scripts(word)) {
        out.push(format!("`{}` mixes letters of several alphabets that look alike", word.escape_default()));
    }
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
        Value::String(text) => out.extend(in_text(text).into_iter().map(|what| remark(at, &what))),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(place, item)| walk(&format!("{at}/{place}"), item, out));
        }
        Value::Object(members) => {
            for (name, member) in members {
                let below = format!("{at}/{}", name.replace('~', "~0").replace('/', "~1"));
                out.extend(in_text(name).into_iter().map(|what| remark(&below, &what)));
                walk(&below, member, out);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number => {}
    }
}

fn remark(at: &str, what: &str) -> String {
    format!("{}: {what}", at.escape_default())
}

/// What a character that nobody sees does.
fn hides(c: char) -> Option<String> {
    let what = match c {
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' | '\u{61c}' => {
            "turns the direction of the text"
        }
        '\u{200b}'..='\u{200d}' | '\u{2060}'..='\u{2064}' | '\u{feff}' | '\u{ad}' | '\u{180e}' => "has no width",
        '\u{e0000}'..='\u{e007f}' => "is an invisible copy of a letter",
        '\u{fe00}'..='\u{fe0f}' | '\u{e0100}'..='\u{e01ef}' => "can carry hidden data",
        '\u{e000}'..='\u{f8ff}' => "has no public meaning",
        c if c.is_control() && !matches!(c, '\n' | '\r' | '\t') => "is a control character",
        _ => return None,
    };
    Some(format!("U+{:04X} {what}", u32::from(c)))
}

/// Whether a word has Latin letters beside Greek or Cyrillic ones, of which many look the same.
fn mixes_scripts(word: &str) -> bool {
    let latin = word.chars().any(|c| c.is_ascii_alphabetic());
    let other =
        word.chars().any(|c| matches!(c, '\u{370}'..='\u{3ff}' | '\u{400}'..='\u{52f}' | '\u{ff21}'..='\u{ff5a}'));
    latin && other
}
