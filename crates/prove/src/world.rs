//! What the kernel makes sure of in every call, so that no proof fails on a call that cannot be.
//!
//! The solver would otherwise answer with a negative number of rows, or with a target whose attribute says `production`
//! and whose parent says `staging`. Each line here is what `kernel::policy::schema` does; a test holds it against requests
//! that the kernel makes. Only what a question reads is said, which keeps questions small.

use std::collections::BTreeSet;

use cedar_policy::EntityUid;
use serde_json::{Value, json};

use crate::expr::{all, any, attribute, choice, constant, entity, fact, has, not, two};

const NUMBERS: [&str; 7] =
    ["statements", "rows_spelled", "recipients", "growing", "depth", "token_minutes_left", "now_ms"];
const NUMBERS_IF_ANY: [&str; 5] =
    ["amount_micros", "count", "percent_of_current", "percent_of_previous", "lease_minutes"];
const WINDOWS: [&str; 4] = ["minute", "ten_minutes", "hour", "day"];
const EFFECTS: [&str; 7] = ["read", "write", "outbound", "spend", "spawn", "destructive", "opaque"];
const POINTS: [&str; 8] = ["mcp", "llm", "sql", "shell", "egress", "mail", "hook", "admin"];

/// What holds of every call of `action`, as far as `read` names it.
pub(crate) fn condition(action: &EntityUid, environments: &BTreeSet<String>, read: &BTreeSet<String>) -> Value {
    let reads = |name: &str| read.contains(name);
    let mut parts: Vec<Value> = environments.iter().map(|name| placed(name)).collect();
    // A target that the configuration does not know is refused before policy is asked.
    parts.push(any(environments.iter().map(|name| stands_in(name))));
    parts.extend(NUMBERS.into_iter().filter(|name| reads(name)).map(|name| is_counted(fact(name))));
    let optional = NUMBERS_IF_ANY.into_iter().filter(|name| reads(name));
    parts.extend(optional.map(|name| choice(has(name), is_counted(fact(name)), constant(true))));
    for window in ["calls", "changes"].into_iter().filter(|name| reads(name)) {
        parts.extend(WINDOWS.into_iter().map(|length| is_counted(attribute(fact(window), length))));
    }
    if reads("effect") {
        parts.push(one_of("effect", &EFFECTS));
    }
    if reads("point") {
        parts.push(one_of("point", &POINTS));
    }
    if ["sql", "statements", "kinds", "tables", "functions", "has_where", "rows_spelled"].into_iter().any(reads) {
        parts.push(any([fact("sql"), without_sql()]));
    }
    if let Some((upstream, tool)) = action.id().unescaped().split_once('/')
        && (reads("upstream") || reads("tool"))
    {
        parts.push(two("==", fact("upstream"), constant(upstream)));
        parts.push(two("==", fact("tool"), constant(tool)));
    }
    all(parts)
}

/// A target's attribute and its parent say the same.
fn placed(environment: &str) -> Value {
    two("==", stands_in(environment), two("in", json!({"Var": "resource"}), entity("Environment", environment)))
}

fn stands_in(environment: &str) -> Value {
    two("==", attribute(json!({"Var": "resource"}), "environment"), constant(environment))
}

fn is_counted(number: Value) -> Value {
    two(">=", number, constant(0))
}

fn one_of(name: &str, words: &[&str]) -> Value {
    any(words.iter().map(|word| two("==", fact(name), constant(*word))))
}

/// A call without SQL says nothing of SQL.
fn without_sql() -> Value {
    let empty = ["kinds", "tables", "functions"].map(|name| json!({"isEmpty": {"arg": fact(name)}}));
    let none = ["statements", "rows_spelled"].map(|name| two("==", fact(name), constant(0)));
    all(empty.into_iter().chain(none).chain([not(fact("has_where"))]))
}
