//! The operator's declaration of what each argument of a tool is, and the facts that follow.
//!
//! An undeclared argument is opaque; a tool's name proves nothing. It must not know how a
//! declaration is written down (that is configuration) nor what policy makes of the facts.
//! It does not cover members of objects that lie in arrays: those can only be declared as a whole.

mod judge;
mod place;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use countersign_model::Effect;
use countersign_model::id::{Environment, TargetId};

use crate::amounts::Unit;
use crate::json::{Node, canonical};

pub use judge::{facts, with_matched};
pub use place::{contradiction, place, spoken, texts};

pub(crate) use judge::opaque;

/// What the operator says of one tool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// What the tool changes.
    pub target: TargetId,
    /// Where that target stands.
    pub environment: Environment,
    /// The least that the tool does, whatever its arguments say; needed where no argument is parsed.
    pub effect: Option<Effect>,
    /// What each argument is, by its [`place`]. An argument that is not named here makes the call opaque.
    pub arguments: BTreeMap<String, ArgumentKind>,
    /// The argument that names whom or what the call is about, where one does: its payload can then be erased by that
    /// name. No fact follows from it.
    pub subject: Option<String>,
    /// What the tool's results are: `private`, `untrusted` or a word of the operator's.
    pub labels: BTreeSet<String>,
    /// Fields of the tool's results that are trusted. No fact follows from it yet.
    pub trusted: Vec<String>,
}

/// What one argument is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ArgumentKind {
    /// SQL of a dialect: required, a string, and judged.
    Sql(Dialect),
    /// Shell text, or a list of words: required, and judged.
    Shell,
    /// A path, or a list of them.
    Path,
    /// A host, a URL, or a list of them.
    Host,
    /// E-mail addresses: a text of one or more, or a list.
    Recipient,
    /// An amount of money: a number, or a text that spells one.
    Amount(Unit),
    /// How many of something are asked for.
    Count,
    /// How many there are now, by the call's own word.
    Current,
    /// Data that the declared effect covers: any value, or none.
    Plain,
}

impl ArgumentKind {
    /// The words that configuration uses, in the order in which people should meet them.
    pub const WORDS: [&'static str; 10] =
        ["plain", "sql.sqlite", "shell", "path", "host", "recipient", "amount", "amount.minor", "count", "current"];

    /// The word that configuration uses.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sql(Dialect::Sqlite) => "sql.sqlite",
            Self::Shell => "shell",
            Self::Path => "path",
            Self::Host => "host",
            Self::Recipient => "recipient",
            Self::Amount(Unit::Whole) => "amount",
            Self::Amount(Unit::Minor) => "amount.minor",
            Self::Count => "count",
            Self::Current => "current",
            Self::Plain => "plain",
        }
    }
}

impl std::str::FromStr for ArgumentKind {
    type Err = UnknownKind;

    fn from_str(text: &str) -> Result<Self, UnknownKind> {
        Ok(match text {
            "shell" => Self::Shell,
            "path" => Self::Path,
            "host" => Self::Host,
            "recipient" => Self::Recipient,
            "amount" => Self::Amount(Unit::Whole),
            "amount.minor" => Self::Amount(Unit::Minor),
            "count" => Self::Count,
            "current" => Self::Current,
            "plain" => Self::Plain,
            other => match other.strip_prefix("sql.") {
                Some(dialect) => Self::Sql(dialect.parse()?),
                None => return Err(UnknownKind::Word(other.to_owned())),
            },
        })
    }
}

/// A word that names no kind of argument.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnknownKind {
    /// No kind at all.
    #[error("`{}` is no kind of argument; use one of {}", .0.escape_default(), ArgumentKind::WORDS.join(", "))]
    Word(String),
    /// SQL of a dialect that is not read.
    #[error(transparent)]
    Dialect(#[from] UnknownDialect),
}

/// The SQL dialects that are understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
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

/// The name of whom or what a call is about, where its binding says which argument holds it: the text of a string, and
/// the one spelling of any other value. `input` is what `arguments` was read from.
#[must_use]
pub fn subject(binding: Option<&Binding>, arguments: &Node, input: &[u8]) -> Option<Vec<u8>> {
    let node = place::at(arguments, binding?.subject.as_deref()?)?;
    match node.as_str() {
        Some(text) => Some(text.as_bytes().to_vec()),
        None => Some(canonical(node, input)).filter(|spelled| spelled != b"null"),
    }
}
