//! An action to explain, as people give it: a file in the form of a case, or pairs of words.
//!
//! It is read by the reader of cases, so that what is explained and what is tested cannot differ. It must not know files.

use countersign_kernel::policy::EvaluationRequest;
use serde_json::{Map, Value, json};

use crate::cases::{Setting, parse};
use crate::read::yaml;

/// Keys of `action:` in pairs.
const ACTION: [&str; 7] = ["agent", "tool", "target", "environment", "effect", "now", "token_minutes_left"];
/// Keys of `facts:`.
const FACTS: [&str; 17] = [
    "sql",
    "opaque",
    "hosts",
    "paths",
    "recipient_domains",
    "recipients",
    "programs",
    "amount",
    "count",
    "current",
    "matched",
    "labels",
    "kinds",
    "tables",
    "functions",
    "has_where",
    "rows_spelled",
];
/// Keys of `history:`.
const HISTORY: [&str; 6] = ["new_hosts", "previous", "new_pair", "growing", "previous_count", "lease_minutes"];
/// Keys whose values are lists, with commas between.
const LISTS: [&str; 11] = [
    "leases",
    "hosts",
    "paths",
    "recipient_domains",
    "programs",
    "matched",
    "labels",
    "kinds",
    "tables",
    "functions",
    "new_hosts",
];
/// Keys whose values are texts, whatever they look like.
const TEXTS: [&str; 9] = ["agent", "tool", "target", "environment", "effect", "now", "sql", "amount", "previous"];

/// The question of an action in a file: `action:` and, where wanted, `facts:`, `history:` and `arguments:`.
///
/// # Errors
/// What is wrong with it, and the remedy, for people.
pub fn of_file(file: &str, text: &str, setting: &Setting<'_>) -> Result<EvaluationRequest, String> {
    let value: Value = yaml(file, text).map_err(|error| error.to_string())?;
    let Value::Object(mut members) = value else {
        return Err(format!("{file}: an action is a mapping; begin with `action:`"));
    };
    if members.contains_key("cases") {
        return Err(format!("{file}: these are cases; give one of them, from `action:` on"));
    }
    // A case may be given as it stands.
    members.remove("name");
    members.remove("expect");
    asked(file, members, setting)
}

/// The question of pairs such as `agent=coder tool=db/query sql='select 1'`.
///
/// # Errors
/// What is wrong with them, and the remedy, for people.
pub fn of_pairs<'a>(
    pairs: impl IntoIterator<Item = &'a str>,
    setting: &Setting<'_>,
) -> Result<EvaluationRequest, String> {
    let mut parts: [Map<String, Value>; 4] = Default::default();
    let [action, facts, history, arguments] = &mut parts;
    for pair in pairs {
        let Some((key, text)) = pair.split_once('=') else {
            return Err(format!("`{pair}` is no pair; write KEY=VALUE, such as `tool=db/query`"));
        };
        let value = value(key, text);
        if let Some(name) = key.strip_prefix("args.") {
            arguments.insert(name.to_owned(), value);
        } else if let Some((windows @ ("calls" | "changes"), window)) = key.split_once('.') {
            let of = history.entry(windows).or_insert_with(|| json!({}));
            crate::rules::est::put(of, window, value);
        } else if key == "leases" || key == "depth" || key == "unbound" || ACTION.contains(&key) {
            action.insert(key.to_owned(), value);
        } else if FACTS.contains(&key) {
            facts.insert(key.to_owned(), value);
        } else if key == "run_labels" {
            history.insert("labels".to_owned(), list(text));
        } else if HISTORY.contains(&key) {
            history.insert(key.to_owned(), value);
        } else {
            return Err(unknown(key));
        }
    }
    whole_name(action, setting);
    let mut members = Map::new();
    for (name, part) in ["action", "facts", "history", "arguments"].into_iter().zip(parts) {
        if !part.is_empty() || name == "action" {
            members.insert(name.to_owned(), Value::Object(part));
        }
    }
    asked("action", members, setting)
}

fn unknown(key: &str) -> String {
    let known = ACTION.into_iter().chain(FACTS).chain(HISTORY).chain(["leases", "depth", "unbound", "run_labels"]);
    let hint = countersign_model::near::hint(key, known);
    format!("`{key}` is no key of an action{hint}; arguments are written `args.NAME=VALUE`")
}

fn value(key: &str, text: &str) -> Value {
    let plain = || Value::from(text);
    if LISTS.contains(&key) {
        return list(text);
    }
    if TEXTS.contains(&key) {
        return plain();
    }
    serde_json::from_str(text).unwrap_or_else(|_| plain())
}

fn list(text: &str) -> Value {
    text.split(',').map(str::trim).filter(|item| !item.is_empty()).collect::<Vec<_>>().into()
}

/// With one upstream alone its name can be left out.
fn whole_name(action: &mut Map<String, Value>, setting: &Setting<'_>) {
    let mut upstreams = setting.upstreams.keys();
    let (Some(only), None) = (upstreams.next(), upstreams.next()) else { return };
    if let Some(Value::String(tool)) = action.get_mut("tool")
        && !tool.contains('/')
    {
        *tool = format!("{only}/{tool}");
    }
}

/// Reads it as the one case of a file that expects anything.
fn asked(file: &str, mut members: Map<String, Value>, setting: &Setting<'_>) -> Result<EvaluationRequest, String> {
    members.insert("name".to_owned(), "the action".into());
    members.insert("expect".to_owned(), json!({"verdict": "deny"}));
    let text = json!({"cases": [members]}).to_string();
    // What is read here was written by us: its lines say nothing.
    let cases = parse(file, &text, setting).map_err(|error| format!("{}: {}", error.file, error.problem))?;
    let case = cases.into_iter().next();
    case.map(|case| case.asked).ok_or_else(|| format!("{file}: there is no action"))
}
