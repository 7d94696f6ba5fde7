//! SQL to facts: one SQLite statement, read by two readers that must agree.
//!
//! The danger is a text that our parser and the database read differently. So the text is first
//! cut into tokens exactly as SQLite cuts it (`lexer`); `sqlparser` cuts it again, and where the
//! two differ in one token the text is opaque (`agree`). The tree is then walked whole (`walk`),
//! and what the tree says is held against the tokens: the verb, every name before a parenthesis
//! and every name where a table stands must be accounted for (`shape`). Only a positive list of
//! statements and functions has an effect (`effect`, `names`); everything else is opaque.
//!
//! It must not know the schema: a view or a trigger hides what lies below it, and a constraint may
//! cascade. It does not cover those, nor other dialects, nor what the database really does: that is
//! counted by the executor.

mod agree;
mod effect;
mod kinds;
mod lexer;
mod names;
mod shape;
#[cfg(test)]
mod tests;
mod walk;

use std::collections::BTreeSet;

use countersign_model::facts::{NAME_BYTES_MAX, NAMES_MAX};
use countersign_model::{Effect, SqlFacts};
use sqlparser::ast::Statement;
use sqlparser::dialect::SQLiteDialect;
use sqlparser::parser::Parser;

pub use self::kinds::{FOREIGN_KINDS, KINDS};
use self::shape::Known;
use self::walk::Found;

/// The longest text that is read; SQLite itself stops at 1,000,000 bytes.
pub const TEXT_BYTES_MAX: usize = 256 * 1024;

/// The stack on which a text is parsed, walked and dropped; the bounds in `agree` keep within it.
const STACK_BYTES: usize = 8 * 1024 * 1024;

/// Why a text could not be judged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{because}")]
pub struct Opaque {
    /// In plain words; what comes from the agent is escaped.
    pub because: String,
}

impl Opaque {
    pub(crate) fn because(because: &str) -> Self {
        Self { because: because.to_owned() }
    }

    /// A reason that names something of the agent's, escaped and clipped.
    pub(crate) fn naming(what: &str, name: &str) -> Self {
        let shown: String = name.chars().take(80).flat_map(char::escape_default).collect();
        Self { because: format!("{what} `{shown}`") }
    }
}

/// Judges a text that holds one SQLite statement.
///
/// # Errors
/// Whatever is not understood in full is opaque: a second statement, a statement or function
/// outside the positive lists, a text that two readers could take differently, more names than
/// facts can hold.
pub fn sqlite(text: &str) -> Result<(Effect, SqlFacts), Opaque> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(Opaque::because("more sql than is read"));
    }
    // sqlparser grows its stack when less than 128 KiB is left, yet one turn of its recursion takes
    // more than that in a debug build. So nothing is left to the caller's stack.
    stacker::grow(STACK_BYTES, || on_own_stack(text))
}

fn on_own_stack(text: &str) -> Result<(Effect, SqlFacts), Opaque> {
    let mut tokens = lexer::tokens(text)?;
    agree::one_statement(&mut tokens)?;
    agree::shallow(&tokens)?;
    let dialect = SQLiteDialect {};
    let theirs = agree::both(&tokens, &dialect, text)?;
    let statement = only(
        Parser::new(&dialect)
            .with_tokens(theirs)
            .parse_statements()
            .map_err(|error| Opaque::naming("not understood:", &error.to_string()))?,
    )?;
    let found = Found::of(&statement)?;
    let judged = effect::of(&statement)?;
    // SQLite has no statement that writes inside another; a parser of many dialects has.
    if found.writers > usize::from(!judged.effect.is_harmless()) {
        return Err(Opaque::because("a statement that writes inside another"));
    }
    shape::verb(&tokens, judged.verbs)?;
    let known = Known { tables: &found.bare_tables, ctes: &found.ctes, types: &found.types };
    let mut functions = shape::calls(&tokens, &known)?;
    shape::tables(&tokens, &known)?;
    functions.extend(found.functions);
    let tables = names::checked_tables(found.tables, judged.effect)?;
    let facts = SqlFacts {
        dialect: "sqlite".to_owned(),
        statements: 1,
        kinds: bounded(found.kinds)?,
        tables: bounded(tables)?,
        functions: bounded(functions)?,
        has_where: found.has_where,
        rows_spelled: found.rows_spelled,
    };
    Ok((judged.effect, facts))
}

fn only(statements: Vec<Statement>) -> Result<Statement, Opaque> {
    match <[Statement; 1]>::try_from(statements) {
        Ok([statement]) => Ok(statement),
        Err(others) => Err(Opaque::because(&format!("{} statements where one is expected", others.len()))),
    }
}

/// A sorted list within the bounds of the model: policy never judges half a list.
fn bounded(names: BTreeSet<String>) -> Result<Vec<String>, Opaque> {
    if names.len() > NAMES_MAX {
        return Err(Opaque::because("more names than facts can hold"));
    }
    if let Some(long) = names.iter().find(|name| name.len() > NAME_BYTES_MAX) {
        return Err(Opaque::naming("a name longer than facts can hold:", long));
    }
    Ok(names.into_iter().collect())
}
