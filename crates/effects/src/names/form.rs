//! What an upstream asks a human for in a form: not for secrets (2025-11-25 and 2026-07-28, `client/elicitation`: servers
//! must not ask for sensitive information in form mode).
//!
//! What is typed into a form goes through the client, and its model may see it. A form is taken to ask for a secret if a
//! field for free text is named like one, or if a text says so of it. It must not know who asks. It does not cover other
//! languages than English, nor questions that only lead up to a secret.

use super::{Flag, Sign, shown};
use crate::json::{Node, Value};
use crate::secrets;

/// What is asked for, in lower case.
const SECRETS: [&str; 18] = [
    "password",
    "passphrase",
    "passcode",
    "api key",
    "api-key",
    "api token",
    "access token",
    "secret key",
    "private key",
    "signing key",
    "recovery phrase",
    "recovery code",
    "seed phrase",
    "one-time code",
    "verification code",
    "security code",
    "card number",
    "client secret",
];
/// Words by which it is asked for.
const ORDERS: [&str; 14] = [
    "enter", "type", "provide", "give", "tell", "confirm", "paste", "send", "input", "supply", "share", "what is",
    "what's", "need",
];
/// How far behind such a word it may stand, in bytes.
const APART_BYTES_MAX: usize = 60;
/// How deep a form is looked into.
const DEPTH_MAX: usize = 8;

/// What is wrong with the parameters of an `elicitation/create`. Another mode than a form shows nothing.
#[must_use]
pub fn of_elicitation(params: &Node) -> Vec<Flag> {
    if params.get("mode").is_some_and(|mode| mode.as_str() != Some("form")) {
        return Vec::new();
    }
    let mut fields = Vec::new();
    if let Some(schema) = params.get("requestedSchema") {
        free_fields(schema, DEPTH_MAX, &mut fields);
    }
    let flag = |what: String| Flag { sign: Sign::Secret, place: "/requestedSchema".to_owned(), what };
    let text = |node: &Node, member: &str| node.get(member).and_then(Node::as_str).map(str::to_lowercase);
    for (name, field) in &fields {
        let is_named = secrets::is_name(name) || field.get("format").and_then(Node::as_str) == Some("password");
        let titled = text(field, "title").is_some_and(|title| secret_in(&title).is_some());
        let says = text(field, "description").is_some_and(|text| asked_in(&text).is_some());
        if is_named || titled || says {
            return vec![flag(format!("its field `{}` asks for a secret", shown(name)))];
        }
    }
    let asked = text(params, "message").filter(|_| !fields.is_empty());
    let asked = asked.as_deref().and_then(asked_in);
    asked.map(|secret| flag(format!("it asks for a secret: `{secret}`"))).into_iter().collect()
}

/// Fields that take any text, by their names.
fn free_fields<'n>(schema: &'n Node, depth: usize, out: &mut Vec<(&'n str, &'n Node)>) {
    let properties = schema.get("properties").and_then(Node::as_object).unwrap_or_default();
    for (name, field) in properties {
        let kind = field.get("type").and_then(Node::as_str);
        let is_choice = ["enum", "oneOf", "anyOf", "const"].iter().any(|member| field.get(member).is_some());
        if !is_choice && !matches!(kind, Some("boolean" | "number" | "integer" | "object" | "array")) {
            out.push((name, field));
        }
        if let (Value::Object(_), Some(below)) = (&field.value, depth.checked_sub(1)) {
            free_fields(field, below, out);
        }
    }
}

fn secret_in(lower: &str) -> Option<&'static str> {
    SECRETS.into_iter().find(|secret| lower.contains(secret))
}

/// The secret that a text in lower case asks for.
fn asked_in(lower: &str) -> Option<&'static str> {
    ORDERS.iter().find_map(|order| {
        lower.match_indices(order).find_map(|(at, _)| {
            let begins = lower.get(..at)?.chars().next_back().is_none_or(|c| !c.is_alphanumeric());
            let rest = lower.get(at.saturating_add(order.len())..).filter(|_| begins)?;
            let is_near = |secret: &&'static str| rest.find(*secret).is_some_and(|gap| gap <= APART_BYTES_MAX);
            SECRETS.into_iter().find(is_near)
        })
    })
}
