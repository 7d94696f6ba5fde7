//! Trees as text, for people.
//!
//! Cedar prints what it computes with: it writes `!(a <= b)` for `a > b`. What a person wrote is easier to read, so trees
//! are spelled here as they were meant. A whole policy is read back and compared before it is given out; where that fails
//! Cedar's own spelling is taken. It must not know what a policy is for.

use std::str::FromStr;

use cedar_policy::{PolicySet, ffi};
use serde_json::{Value, json};

use super::{est, policy_of};

/// How many characters of a line Cedar's formatter fills.
const WIDTH: usize = 100;

/// An expression.
#[must_use]
pub fn expression(tree: &Value) -> String {
    written(tree).unwrap_or_else(|| tree.to_string())
}

/// One part of a policy's scope: `principal == Agent::"a"`.
#[must_use]
pub fn scope(part: &str, constraint: &Value) -> String {
    scoped(part, constraint).unwrap_or_else(|| format!("{part} {constraint}"))
}

/// A whole policy as Cedar text that means exactly this tree, with a newline at its end.
///
/// # Errors
/// What Cedar says of a tree that is no policy.
pub fn policy(tree: &Value) -> Result<String, String> {
    let own = whole(tree).filter(|text| means(text, tree));
    let text = match own {
        Some(text) => text,
        None => policy_of(tree.clone())?.to_cedar().ok_or("it cannot be written as Cedar")?,
    };
    let formatted = formatted(&text).filter(|formatted| means(formatted, tree) || !means(&text, tree));
    Ok(formatted.unwrap_or_else(|| format!("{text}\n")))
}

/// Whether `text` is one policy with exactly this tree.
fn means(text: &str, tree: &Value) -> bool {
    let Ok(set) = PolicySet::from_str(text) else { return false };
    let mut all = set.policies();
    match (all.next(), all.next()) {
        (Some(only), None) => {
            let again = only.to_json().ok();
            // Both through Cedar's own types, so that spellings of the same tree do not differ.
            let given = policy_of(tree.clone()).ok().and_then(|policy| policy.to_json().ok());
            again.is_some() && again == given
        }
        _ => false,
    }
}

fn formatted(text: &str) -> Option<String> {
    let call = json!({"policyText": text, "lineWidth": WIDTH, "indentWidth": 2});
    let call: ffi::FormattingCall = serde_json::from_value(call).ok()?;
    let answer = serde_json::to_value(ffi::format(call)).ok()?;
    answer.get("formatted_policy")?.as_str().map(str::to_owned)
}

fn whole(tree: &Value) -> Option<String> {
    let mut text = String::new();
    let annotations = tree.get("annotations").and_then(Value::as_object);
    // The id is what people look for.
    let id = annotations.iter().filter_map(|all| all.get_key_value("id"));
    let rest = annotations.into_iter().flatten().filter(|(name, _)| *name != "id");
    for (name, value) in id.chain(rest) {
        text.push_str(&format!("@{name}({})\n", quoted(value.as_str()?)));
    }
    let parts = ["principal", "action", "resource"].map(|part| scoped(part, tree.get(part)?));
    let [Some(principal), Some(action), Some(resource)] = parts else { return None };
    text.push_str(&format!("{} ({principal}, {action}, {resource})", tree.get("effect")?.as_str()?));
    for condition in tree.get("conditions").and_then(Value::as_array).into_iter().flatten() {
        let (kind, body) = (condition.get("kind")?.as_str()?, condition.get("body")?);
        text.push_str(&format!("\n{kind} {{ {} }}", written(body)?));
    }
    text.push(';');
    Some(text)
}

fn scoped(part: &str, constraint: &Value) -> Option<String> {
    let named = |value: &Value| est::entity(value).map(|(kind, id)| uid(kind, id));
    match constraint.get("op")?.as_str()? {
        "All" => Some(part.to_owned()),
        "==" => Some(format!("{part} == {}", named(constraint.get("entity")?)?)),
        "in" => match constraint.get("entities").and_then(Value::as_array) {
            Some(all) => {
                let all = all.iter().map(named).collect::<Option<Vec<_>>>()?;
                Some(format!("{part} in [{}]", all.join(", ")))
            }
            None => Some(format!("{part} in {}", named(constraint.get("entity")?)?)),
        },
        "is" if constraint.get("in").is_none() => {
            Some(format!("{part} is {}", constraint.get("entity_type")?.as_str()?))
        }
        _ => None,
    }
}

fn written(tree: &Value) -> Option<String> {
    let (operator, of) = est::node(tree)?;
    match operator {
        "Value" => value(of),
        "Var" => of.as_str().map(str::to_owned),
        "Set" => Some(format!("[{}]", of.as_array()?.iter().map(written).collect::<Option<Vec<_>>>()?.join(", "))),
        "." => Some(format!("{}.{}", inner(of.get("left")?)?, name(of)?)),
        "has" => Some(format!("{} has {}", inner(of.get("left")?)?, name(of)?)),
        "!" => Some(format!("!{}", inner(of.get("arg")?)?)),
        "neg" => Some(format!("-{}", inner(of.get("arg")?)?)),
        "isEmpty" => Some(format!("{}.isEmpty()", inner(of.get("arg")?)?)),
        "contains" | "containsAll" | "containsAny" => {
            let (left, right) = est::sides(of)?;
            Some(format!("{}.{operator}({})", inner(left)?, written(right)?))
        }
        "==" | "!=" | "<" | "<=" | ">" | ">=" | "in" | "+" | "-" | "*" => {
            let (left, right) = est::sides(of)?;
            Some(format!("{} {operator} {}", inner(left)?, inner(right)?))
        }
        "&&" | "||" => {
            let (left, right) = est::sides(of)?;
            Some(format!("{} {operator} {}", joined(left, operator)?, inner(right)?))
        }
        "like" => Some(format!("{} like {}", inner(of.get("left")?)?, pattern(of.get("pattern")?)?)),
        "if-then-else" => {
            let part = |name: &str| of.get(name).and_then(inner);
            Some(format!("if {} then {} else {}", part("if")?, part("then")?, part("else")?))
        }
        _ => None,
    }
}

/// As a part of a larger expression: in parentheses where it is no single thing.
fn inner(tree: &Value) -> Option<String> {
    let text = written(tree)?;
    let is_single = matches!(
        est::node(tree)?.0,
        "Value" | "Var" | "Set" | "." | "contains" | "containsAll" | "containsAny" | "isEmpty"
    );
    Some(if is_single { text } else { format!("({text})") })
}

/// A chain of one operator needs no parentheses on its left.
fn joined(left: &Value, operator: &str) -> Option<String> {
    if est::node(left)?.0 == operator { written(left) } else { inner(left) }
}

fn name(of: &Value) -> Option<&str> {
    let name = of.get("attr")?.as_str()?;
    let is_plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && !name.bytes().next().is_none_or(|first| first.is_ascii_digit());
    is_plain.then_some(name)
}

fn value(of: &Value) -> Option<String> {
    match of {
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Number(number) => number.as_i64().map(|number| number.to_string()),
        Value::String(text) => Some(quoted(text)),
        _ => of.get("__entity").and_then(est::entity).map(|(kind, id)| uid(kind, id)),
    }
}

fn pattern(of: &Value) -> Option<String> {
    let mut text = String::new();
    for part in of.as_array()? {
        match part.get("Literal") {
            Some(literal) => text.push_str(&escaped(literal.as_str()?).replace('*', "\\*")),
            None => text.push('*'),
        }
    }
    Some(format!("\"{text}\""))
}

fn uid(kind: &str, id: &str) -> String {
    format!("{kind}::{}", quoted(id))
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", escaped(text))
}

/// As Cedar reads strings.
fn escaped(text: &str) -> String {
    text.chars().flat_map(char::escape_debug).collect::<String>().replace("\\'", "'")
}
