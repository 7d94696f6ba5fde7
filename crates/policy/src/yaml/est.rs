//! Cedar's own structures, as data.
//!
//! Expressions and policies are values of Cedar's JSON policy format; Cedar turns them into text. Nothing here pastes
//! text into text, so no name and no value of a file can become anything but a string. It must not know YAML.

use cedar_policy::Policy;
use serde_json::{Map, Value, json};

/// An expression of Cedar.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Expr(Value);

/// An entity's type and id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Entity {
    pub(crate) kind: &'static str,
    pub(crate) id: String,
}

impl Entity {
    pub(crate) fn new(kind: &'static str, id: &str) -> Self {
        Self { kind, id: id.to_owned() }
    }

    fn json(&self) -> Value {
        json!({ "type": self.kind, "id": self.id })
    }
}

fn binary(operator: &str, left: Expr, right: Expr) -> Expr {
    Expr(one(operator, json!({ "left": left.0, "right": right.0 })))
}

/// An object with one member: `json!` would take the name for a literal key.
fn one(name: &str, value: Value) -> Value {
    Value::Object(Map::from_iter([(name.to_owned(), value)]))
}

impl Expr {
    pub(crate) fn principal() -> Self {
        Self(json!({ "Var": "principal" }))
    }

    pub(crate) fn action() -> Self {
        Self(json!({ "Var": "action" }))
    }

    pub(crate) fn resource() -> Self {
        Self(json!({ "Var": "resource" }))
    }

    /// `context.NAME`.
    pub(crate) fn fact(name: &str) -> Self {
        Self(json!({ "Var": "context" })).dot(name)
    }

    /// `context`.
    pub(crate) fn context() -> Self {
        Self(json!({ "Var": "context" }))
    }

    pub(crate) fn dot(self, name: &str) -> Self {
        Self(json!({ ".": { "left": self.0, "attr": name } }))
    }

    pub(crate) fn has(self, name: &str) -> Self {
        Self(json!({ "has": { "left": self.0, "attr": name } }))
    }

    pub(crate) fn text(text: &str) -> Self {
        Self(json!({ "Value": text }))
    }

    pub(crate) fn long(number: i64) -> Self {
        Self(json!({ "Value": number }))
    }

    pub(crate) fn flag(flag: bool) -> Self {
        Self(json!({ "Value": flag }))
    }

    /// `decimal("…")`.
    pub(crate) fn decimal(text: &str) -> Self {
        Self(json!({ "decimal": [{ "Value": text }] }))
    }

    pub(crate) fn entity(entity: &Entity) -> Self {
        Self(json!({ "Value": { "__entity": entity.json() } }))
    }

    pub(crate) fn set(items: impl IntoIterator<Item = Self>) -> Self {
        Self(json!({ "Set": items.into_iter().map(|item| item.0).collect::<Vec<_>>() }))
    }

    pub(crate) fn texts<'a>(items: impl IntoIterator<Item = &'a str>) -> Self {
        Self::set(items.into_iter().map(Self::text))
    }

    /// `==`, `<`, `contains` and the like.
    pub(crate) fn compare(self, operator: &str, right: Self) -> Self {
        binary(operator, self, right)
    }

    /// A method of a decimal, such as `greaterThan`.
    pub(crate) fn method(self, name: &str, argument: Self) -> Self {
        Self(one(name, json!([self.0, argument.0])))
    }

    pub(crate) fn emptiness(self) -> Self {
        Self(json!({ "isEmpty": { "arg": self.0 } }))
    }

    pub(crate) fn not(self) -> Self {
        Self(json!({ "!": { "arg": self.0 } }))
    }

    /// `if self then then else otherwise`.
    pub(crate) fn choose(self, then: Self, otherwise: Self) -> Self {
        Self(json!({ "if-then-else": { "if": self.0, "then": then.0, "else": otherwise.0 } }))
    }

    /// `like`, where `*` in `glob` stands for any characters.
    pub(crate) fn like(self, glob: &str) -> Self {
        let mut pattern: Vec<Value> = Vec::new();
        for (index, literal) in glob.split('*').enumerate() {
            if index > 0 {
                pattern.push(json!("Wildcard"));
            }
            if !literal.is_empty() {
                pattern.push(json!({ "Literal": literal }));
            }
        }
        Self(json!({ "like": { "left": self.0, "pattern": pattern } }))
    }

    /// All of them; nothing where there are none.
    pub(crate) fn all(items: impl IntoIterator<Item = Self>) -> Option<Self> {
        items.into_iter().reduce(|left, right| binary("&&", left, right))
    }

    /// Any of them; nothing where there are none.
    pub(crate) fn any(items: impl IntoIterator<Item = Self>) -> Option<Self> {
        items.into_iter().reduce(|left, right| binary("||", left, right))
    }
}

/// Whom or what a policy's head names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    All,
    Is(Entity),
    In(Entity),
    AmongActions(Vec<Entity>),
}

impl Scope {
    fn json(&self) -> Value {
        match self {
            Self::All => json!({ "op": "All" }),
            Self::Is(entity) => json!({ "op": "==", "entity": entity.json() }),
            Self::In(entity) => json!({ "op": "in", "entity": entity.json() }),
            Self::AmongActions(actions) => {
                json!({ "op": "in", "entities": actions.iter().map(Entity::json).collect::<Vec<_>>() })
            }
        }
    }
}

/// The head of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) principal: Scope,
    pub(crate) action: Scope,
    pub(crate) resource: Scope,
}

/// One policy.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    pub(crate) id: String,
    pub(crate) permits: bool,
    /// Annotations besides the id, in order.
    pub(crate) annotations: Vec<(&'static str, String)>,
    pub(crate) head: Head,
    pub(crate) when: Option<Expr>,
    pub(crate) unless: Option<Expr>,
}

impl Draft {
    /// The policy in Cedar's words, by Cedar's own printer.
    pub(crate) fn cedar(&self) -> Result<String, String> {
        let conditions = [("when", &self.when), ("unless", &self.unless)];
        let conditions: Vec<Value> = conditions
            .into_iter()
            .filter_map(|(kind, body)| body.as_ref().map(|body| json!({ "kind": kind, "body": body.0 })))
            .collect();
        let annotations = std::iter::once(("id".to_owned(), self.id.clone()))
            .chain(self.annotations.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        let annotations: Map<String, Value> = annotations.map(|(name, value)| (name, Value::String(value))).collect();
        let policy = json!({
            "effect": if self.permits { "permit" } else { "forbid" },
            "principal": self.head.principal.json(),
            "action": self.head.action.json(),
            "resource": self.head.resource.json(),
            "conditions": conditions,
            "annotations": annotations,
        });
        let policy = Policy::from_json(None, policy).map_err(|error| error.to_string())?;
        policy.to_cedar().ok_or_else(|| "it has slots".to_owned())
    }
}

/// Cedar's text in Cedar's own layout.
///
/// # Errors
/// What Cedar says of a text that it cannot read.
pub(crate) fn formatted(text: &str) -> Result<String, String> {
    let call = json!({ "policyText": text, "lineWidth": 120, "indentWidth": 2 });
    let answer = cedar_policy::ffi::format_json(call).map_err(|error| error.to_string())?;
    match answer.get("formatted_policy").or_else(|| answer.get("formattedPolicy")).and_then(Value::as_str) {
        Some(text) => Ok(text.to_owned()),
        None => Err(complaints(&answer)),
    }
}

fn complaints(answer: &Value) -> String {
    let errors = answer.get("errors").and_then(Value::as_array);
    let messages = errors.into_iter().flatten().filter_map(|error| error.get("message").and_then(Value::as_str));
    messages.collect::<Vec<_>>().join(", ")
}
