//! The operator's declaration of what each argument of a tool is, and the facts that follow.
//!
//! An undeclared argument is opaque; a tool's name proves nothing. It must not know how a
//! declaration is written down (that is configuration) nor what policy makes of the facts.
//! It does not cover nested arguments: a declared argument is a member of the arguments' object.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use countersign_model::facts::NAMES_MAX;
use countersign_model::id::{Environment, TargetId};
use countersign_model::{Certainty, Effect, Facts, SqlFacts};

use crate::json::{Node, canonical};
use crate::sql::{self, Opaque};

/// What the operator says of one tool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// What the tool changes.
    pub target: TargetId,
    /// Where that target stands.
    pub environment: Environment,
    /// The least that the tool does, whatever its arguments say; needed where no argument is parsed.
    pub effect: Option<Effect>,
    /// What each argument is. An argument that is not named here makes the call opaque.
    pub arguments: BTreeMap<String, ArgumentKind>,
    /// The argument that names whom or what the call is about, where one does: its payload can then be erased by that
    /// name. No fact follows from it.
    pub subject: Option<String>,
}

/// What one argument is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArgumentKind {
    /// SQL of a dialect: required, a string, and judged.
    Sql(Dialect),
    /// Data that the declared effect covers: any value, or none.
    Plain,
}

/// The SQL dialects that are understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// SQLite 3.
    Sqlite,
}

impl Dialect {
    /// The word that configuration uses.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
        }
    }
}

impl std::str::FromStr for Dialect {
    type Err = UnknownDialect;

    fn from_str(text: &str) -> Result<Self, UnknownDialect> {
        match text {
            "sqlite" => Ok(Self::Sqlite),
            _ => Err(UnknownDialect(text.to_owned())),
        }
    }
}

/// A word that names no dialect.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is no dialect that is understood; the known ones are: sqlite", .0.escape_default())]
pub struct UnknownDialect(pub String);

/// What is known of a call with these `arguments` under this `binding`.
#[must_use]
pub fn facts(binding: Option<&Binding>, arguments: &Node) -> Facts {
    let Some(binding) = binding else {
        return Facts::opaque("no binding declares what this tool's arguments are");
    };
    bound(binding, arguments).unwrap_or_else(|opaque| Facts::opaque(&opaque.because))
}

fn bound(binding: &Binding, arguments: &Node) -> Result<Facts, Opaque> {
    if binding.effect == Some(Effect::Opaque) {
        return Err(Opaque::because("declared opaque"));
    }
    let Some(members) = arguments.as_object() else {
        return Err(Opaque::because("the arguments are not an object"));
    };
    if let Some((name, _)) = members.iter().find(|(name, _)| !binding.arguments.contains_key(name)) {
        return Err(Opaque::naming("no binding declares the argument", name));
    }
    let mut judged: Option<(Effect, SqlFacts)> = None;
    for (name, kind) in &binding.arguments {
        let ArgumentKind::Sql(dialect) = kind else {
            continue;
        };
        let Some(node) = arguments.get(name) else {
            return Err(Opaque::naming("missing the sql argument", name));
        };
        let Some(text) = node.as_str() else {
            return Err(Opaque::naming("not a string: the sql argument", name));
        };
        let next = match dialect {
            Dialect::Sqlite => sql::sqlite(text)?,
        };
        judged = Some(match judged {
            Some(before) => merged(before, next)?,
            None => next,
        });
    }
    match (judged, binding.effect) {
        (Some((effect, sql)), declared) => Ok(exact(declared.map_or(effect, |least| least.max(effect)), sql)),
        (None, Some(declared)) => Ok(Facts::declared(declared)),
        (None, None) => Err(Opaque::because("the binding declares no effect and no argument that is parsed")),
    }
}

/// The name of whom or what a call is about, where its binding says which argument holds it: the text of a string, and
/// the one spelling of any other value. `input` is what `arguments` was read from.
#[must_use]
pub fn subject(binding: Option<&Binding>, arguments: &Node, input: &[u8]) -> Option<Vec<u8>> {
    let node = arguments.get(binding?.subject.as_deref()?)?;
    match node.as_str() {
        Some(text) => Some(text.as_bytes().to_vec()),
        None => Some(canonical(node, input)).filter(|spelled| spelled != b"null"),
    }
}

const fn exact(effect: Effect, sql: SqlFacts) -> Facts {
    Facts { effect, certainty: Certainty::Exact, opaque_because: None, sql: Some(sql), bound: None }
}

/// The facts of two texts of one call: every list is the union, so a policy sees all of both.
fn merged((effect_a, a): (Effect, SqlFacts), (effect_b, b): (Effect, SqlFacts)) -> Result<(Effect, SqlFacts), Opaque> {
    let dialects: BTreeSet<String> = [a.dialect, b.dialect].into();
    let overflow = || Opaque::because("more rows or statements than can be counted");
    let sql = SqlFacts {
        dialect: dialects.into_iter().collect::<Vec<_>>().join("+"),
        statements: a.statements.checked_add(b.statements).ok_or_else(overflow)?,
        kinds: united(a.kinds, b.kinds)?,
        tables: united(a.tables, b.tables)?,
        functions: united(a.functions, b.functions)?,
        has_where: a.has_where && b.has_where,
        rows_spelled: a.rows_spelled.checked_add(b.rows_spelled).ok_or_else(overflow)?,
    };
    Ok((effect_a.max(effect_b), sql))
}

fn united(a: Vec<String>, b: Vec<String>) -> Result<Vec<String>, Opaque> {
    let all: BTreeSet<String> = a.into_iter().chain(b).collect();
    if all.len() > NAMES_MAX {
        return Err(Opaque::because("more names than facts can hold"));
    }
    Ok(all.into_iter().collect())
}
