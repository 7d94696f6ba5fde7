//! Sekuire's form: a list of actions, each allowed, denied or in need of approval.
//!
//! `effect: deny` forbids; `effect: allow` permits; `requires_approval` permits and gates. An `environment` narrows it to
//! targets there. Other shapes that go by the same name are refused, not guessed at.

use super::Compiling;
use super::node::{Node, Value};
use super::read::{Fields, Spoken};
use super::rule::{GateSpec, Rule, Then};

/// Reads a file of this form.
pub(crate) fn read(compiling: &mut Compiling<'_>, root: &Node) {
    let Some(fields) = compiling.reader.fields(root, "a file with `actions`", &["version", "actions"]) else { return };
    let Some(node) = fields.get("actions") else { return };
    for (index, item) in compiling.reader.items(node, "`actions`").iter().enumerate() {
        if let Some(rule) = action(compiling, item, index) {
            compiling.rules.push(rule);
        }
    }
}

fn action(compiling: &mut Compiling<'_>, node: &Node, index: usize) -> Option<Rule> {
    let keys = ["name", "environment", "effect", "requires_approval"];
    let fields = compiling.reader.fields(node, "an action", &keys)?;
    let known = compiling.known;
    let id = compiling.numbered(index);
    let reader = &mut compiling.reader;
    let Some(name) = fields.get("name") else {
        reader.fault(
            node.span,
            "the action has no `name`",
            "name a tool, such as `crm/query`, or a glob, such as `crm/*`",
        );
        return None;
    };
    let name = reader.text(name, "`name`")?;
    let then = then(compiling, fields)?;
    let mut rule = Rule::new(id, node.span, then);
    let reader = &mut compiling.reader;
    rule.tools = Some(vec![reader.tool(&name, known)]);
    rule.description = Some(name.text.clone());
    if let Some(node) = fields.get("environment") {
        rule.environments = reader.choice(node, "`environment`", Some(&known.environments));
    }
    if then == Then::RequireApproval {
        let said: Vec<Spoken> = match fields.get("requires_approval") {
            Some(node) if !matches!(node.value, Value::Bool(_)) => reader.texts(node, "`requires_approval`"),
            _ => Vec::new(),
        };
        let approvers = reader.humans(&said, known, node.span);
        rule.gate = GateSpec { name: Some(clipped(&name.text)), approvers, ..GateSpec::default() };
    }
    Some(rule)
}

/// What a gate of this name is called.
fn clipped(name: &str) -> String {
    countersign_model::encoding::clipped(&format!("{name} needs approval"), 160)
}

fn then(compiling: &mut Compiling<'_>, fields: Fields<'_>) -> Option<Then> {
    let reader = &mut compiling.reader;
    let effect = match fields.get("effect") {
        Some(node) => Some(reader.word(node, "an effect of an action", &["allow", "deny"])?),
        None => None,
    };
    let asks = match fields.get("requires_approval") {
        Some(node) => match &node.value {
            Value::Bool(asks) => *asks,
            Value::List(_) | Value::Text(_) => true,
            _ => {
                reader.fault(
                    node.span,
                    "`requires_approval` is true, false or a list of approvers",
                    "write one of them",
                );
                return None;
            }
        },
        None => false,
    };
    match (effect, asks) {
        (Some("deny"), false) => Some(Then::Deny),
        (Some("deny"), true) => {
            reader.fault(
                fields.span,
                "the action is denied and asks for approval",
                "keep one: what is denied cannot be approved",
            );
            None
        }
        (_, true) => Some(Then::RequireApproval),
        (Some(_), false) => Some(Then::Allow),
        (None, false) => {
            reader.fault(
                fields.span,
                "the action is neither allowed, denied nor approved",
                "write `effect` or `requires_approval: true`",
            );
            None
        }
    }
}
