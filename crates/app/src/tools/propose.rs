//! A proposal of bindings from the schemas of an upstream: a file for a human to complete, never more.
//!
//! What a server says of itself is a claim. So a name or a format can suggest what an argument is, for a wrong guess shows
//! when somebody reads it; but no hint of the server ever makes a tool milder than opaque without the human, and what is
//! not plain stays undeclared, which is the worst case for a call that uses it. It must not know what a kind means to
//! policy.

#[cfg(test)]
mod tests;

use countersign_effects::json::Node;
use countersign_model::id::UpstreamId;
use countersign_model::preview::visible;

use super::lock::{Definition, Lock};

/// The longest text of the server in a comment, in characters.
const QUOTE_CHARS_MAX: usize = 100;
/// The deepest nesting of objects whose members are proposed one by one.
const DEPTH_MAX: usize = 4;
/// The most arguments of one tool.
const ARGUMENTS_MAX: usize = 128;

/// What an argument could be.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Guess {
    place: String,
    /// The kind, where there is little doubt.
    kind: Option<&'static str>,
    /// Why, or what is known of it.
    note: String,
}

/// The file, as text.
pub(crate) fn bindings(upstream: &UpstreamId, now: &Lock) -> String {
    let mut out = format!(
        "# Proposed by `countersign tools bind {upstream}` from what the server says of its tools. It holds once you have read and\n\
         # completed it, written `bindings: tools/{upstream}.yaml` on the upstream, and run `countersign policy activate`.\n\
         # A call with an argument that is not declared is opaque, the worst case. Lines behind a # are yours to complete.\n\
         upstream: {}\n",
        key(upstream.as_str())
    );
    if now.tools.is_empty() {
        out.push_str("tools: {}\n");
        return out;
    }
    out.push_str("tools:\n");
    for (name, tool) in &now.tools {
        if let Some(text) = tool.text("description").filter(|text| !text.trim().is_empty()) {
            out.push_str(&format!("  # {}\n", quoted(&text)));
        }
        out.push_str(&format!("  {}:\n", key(name.as_str())));
        let guesses = arguments(tool);
        let is_judged =
            guesses.iter().any(|guess| guess.kind.is_some_and(|kind| kind == "shell" || kind.starts_with("sql.")));
        out.push_str(&effect(tool, is_judged));
        out.push_str(&declared(&guesses));
    }
    out
}

/// The line of the effect. `opaque` is what a tool is without anybody's word.
fn effect(tool: &Definition, is_judged: bool) -> String {
    let says = |hint: &str| {
        let node = tool.node().ok();
        node.as_ref().and_then(|node| node.get("annotations")?.get(hint)?.as_bool())
    };
    let choose = "choose one of read, write, outbound, spend, spawn, destructive";
    match (says("destructiveHint"), says("readOnlyHint")) {
        (Some(true), _) => "    effect: destructive  # the server says so\n".to_owned(),
        _ if is_judged => {
            "    # the effect is judged by what the argument says; `effect: …` would be the least that it does\n"
                .to_owned()
        }
        (_, Some(true)) => {
            format!("    effect: opaque  # the server says read-only; that is a claim: {choose}\n")
        }
        _ => format!("    effect: opaque  # {choose}\n"),
    }
}

fn declared(guesses: &[Guess]) -> String {
    let head = match (guesses.is_empty(), guesses.iter().any(|guess| guess.kind.is_some())) {
        (true, _) => "",
        (false, true) => "    arguments:\n",
        (false, false) => "    # arguments:\n",
    };
    let mut out = head.to_owned();
    for Guess { place, kind, note } in guesses {
        let line = match kind {
            Some(kind) => format!("      {}: {kind}  # {note}\n", key(place)),
            None => format!("      # {}: plain  # {note}\n", key(place)),
        };
        out.push_str(&line);
    }
    out
}

fn arguments(tool: &Definition) -> Vec<Guess> {
    let Ok(node) = tool.node() else { return Vec::new() };
    let mut guesses = Vec::new();
    if let Some(schema) = node.get("inputSchema") {
        let about = tool.text("description").unwrap_or_default();
        members("", schema, (&about, 0), &mut guesses);
    }
    guesses
}

fn members(above: &str, schema: &Node, (about, depth): (&str, usize), out: &mut Vec<Guess>) {
    let Some(properties) = schema.get("properties").and_then(Node::as_object) else { return };
    for (name, property) in properties.iter().filter(|(name, _)| !name.is_empty()) {
        if out.len() >= ARGUMENTS_MAX {
            return;
        }
        let escaped = name.replace('\\', "\\\\").replace('.', "\\.");
        let place = if above.is_empty() { escaped } else { format!("{above}.{escaped}") };
        let is_object = kind_of(property) == "object" && property.get("properties").is_some();
        if is_object && depth < DEPTH_MAX {
            members(&place, property, (about, depth.saturating_add(1)), out);
        } else {
            out.push(guess(place, name, property, about));
        }
    }
}

/// The type that a schema names, of an array that of its items.
fn kind_of(schema: &Node) -> &str {
    match schema.get("type").and_then(Node::as_str).unwrap_or_default() {
        "array" => schema.get("items").and_then(|items| items.get("type")).and_then(Node::as_str).unwrap_or_default(),
        other => other,
    }
}

fn guess(place: String, name: &str, schema: &Node, about: &str) -> Guess {
    let own = schema.get("description").and_then(Node::as_str).unwrap_or_default();
    let format = schema.get("format").and_then(Node::as_str).unwrap_or_default();
    let kind = kind_of(schema);
    let found = by_format(kind, format).or_else(|| by_name(kind, &words(name)));
    if is_sql(name, own, about) && kind == "string" {
        let text = format!("{own} {about}").to_lowercase();
        return match text.contains("sqlite") {
            true => Guess { place, kind: Some("sql.sqlite"), note: "SQL, by its description".to_owned() },
            false => {
                Guess { place, kind: None, note: format!("SQL? write its dialect, such as sql.sqlite; {}", said(own)) }
            }
        };
    }
    match found {
        Some((kind, note)) => Guess { place, kind: Some(kind), note: note.to_owned() },
        None => {
            let kind = if kind.is_empty() { "any type" } else { kind };
            Guess { place, kind: None, note: format!("{}; {}", quoted(kind), said(own)) }
        }
    }
}

fn said(own: &str) -> String {
    if own.trim().is_empty() { "not described".to_owned() } else { quoted(own) }
}

fn is_sql(name: &str, own: &str, about: &str) -> bool {
    let named = words(name);
    let says = |text: &str| words(text).iter().any(|word| word == "sql" || word == "sqlite");
    named.iter().any(|word| word == "sql") || (named.iter().any(|word| word == "query") && (says(own) || says(about)))
}

fn by_format(kind: &str, format: &str) -> Option<(&'static str, &'static str)> {
    match (kind, format) {
        ("string", "uri" | "url" | "hostname" | "idn-hostname" | "ipv4" | "ipv6") => Some(("host", "by its format")),
        ("string", "email" | "idn-email") => Some(("recipient", "by its format")),
        _ => None,
    }
}

fn by_name(kind: &str, words: &[String]) -> Option<(&'static str, &'static str)> {
    let last = words.last().map(String::as_str)?;
    let has = |wanted: &[&str]| words.iter().any(|word| wanted.contains(&word.as_str()));
    let is = |wanted: &[&str]| wanted.contains(&last);
    let guessed = match kind {
        "string" if is(&["command", "cmd", "shell", "script", "bash"]) => "shell",
        "string" if is(&["path", "paths", "file", "files", "filename", "filepath", "dir", "directory", "folder"]) => {
            "path"
        }
        "string" if is(&["url", "urls", "uri", "host", "hosts", "hostname", "endpoint", "webhook", "domain"]) => "host",
        "string" if is(&["to", "cc", "bcc", "recipient", "recipients", "email", "emails"]) => "recipient",
        "integer" if has(&["cents", "minor"]) => "amount.minor",
        "integer" | "number" if is(&["amount", "price", "total"]) => "amount",
        "integer" if has(&["current"]) && has(&["replicas", "count", "nodes", "instances"]) => "current",
        "integer" if is(&["replicas", "count", "nodes", "instances", "seats", "quantity"]) => "count",
        _ => return None,
    };
    Some((guessed, "by its name"))
}

/// The words of a name or a text, in lower case: `maxRows` and `max_rows` are two words.
fn words(text: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut was_small = false;
    for c in text.chars() {
        if !c.is_alphanumeric() || (c.is_uppercase() && was_small) {
            words.push(String::new());
        }
        was_small = c.is_lowercase();
        if let Some(word) = words.last_mut().filter(|_| c.is_alphanumeric()) {
            word.extend(c.to_lowercase());
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// Text of the server for a comment: one line, nothing that hides or breaks it.
fn quoted(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let short: String = line.chars().take(QUOTE_CHARS_MAX).collect();
    let more = if short.len() < line.len() { "…" } else { "" };
    format!("{}{more}", visible(&short))
}

/// A key of YAML: in quotes where it could be anything but a text.
fn key(name: &str) -> String {
    const WORDS: [&str; 10] = ["y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan"];
    let is_plain = name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
        && !WORDS.contains(&name.to_ascii_lowercase().as_str());
    if is_plain {
        return name.to_owned();
    }
    let escaped = |c: char| match c {
        '"' | '\\' => format!("\\{c}"),
        ' '..='~' => c.to_string(),
        _ => format!("\\U{:08x}", u32::from(c)),
    };
    format!("\"{}\"", name.chars().map(escaped).collect::<String>())
}
