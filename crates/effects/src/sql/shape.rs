//! What the tokens alone prove, held against what the tree says.
//!
//! The tree comes from a parser that knows many dialects and may give a word a meaning that
//! SQLite does not. So every word that SQLite could take for a verb, a call or a table must be
//! one that the tree accounts for. It must not know the tree's types.

use std::collections::BTreeSet;

use super::Opaque;
use super::lexer::{Kind, Token};
use super::names::{is_harmless_call, is_keyword, is_operator_function};

/// The names that the tree accounts for, in lower case and without their schema.
pub(super) struct Known<'a> {
    /// Tables, views and indices.
    pub(super) tables: &'a BTreeSet<String>,
    /// Common table expressions.
    pub(super) ctes: &'a BTreeSet<String>,
    /// Types of columns and casts.
    pub(super) types: &'a BTreeSet<String>,
}

impl Known<'_> {
    fn is_table(&self, name: &str) -> bool {
        self.tables.contains(name) || self.ctes.contains(name)
    }
}

fn name_of(token: &Token) -> String {
    token.text.to_ascii_lowercase()
}

/// Refuses a text whose verb, as SQLite finds it, is not one of `verbs`.
pub(super) fn verb(tokens: &[Token], verbs: &[&str]) -> Result<(), Opaque> {
    let mut rest = tokens.iter().peekable();
    if rest.next_if(|token| token.is_word("explain")).is_some()
        && rest.next_if(|token| token.is_word("query")).is_some()
    {
        rest.next_if(|token| token.is_word("plan"));
    }
    let mut first = rest.next();
    if first.is_some_and(|token| token.is_word("with")) {
        first = after_with(rest);
    }
    match first {
        Some(token) if token.kind == Kind::Word && verbs.contains(&token.text.as_str()) => Ok(()),
        Some(token) => Err(Opaque::naming("two readers see different statements; one begins with", &token.text)),
        None => Err(Opaque::because("no statement")),
    }
}

/// The verb after `WITH a AS (…), b(x) AS (…)`: what follows a closing parenthesis at the outermost
/// level and is neither a comma nor `AS`.
fn after_with<'a>(tokens: impl Iterator<Item = &'a Token>) -> Option<&'a Token> {
    let mut depth = 0_usize;
    let mut closed = false;
    for token in tokens {
        if closed && depth == 0 && !token.is_mark(",") && !token.is_word("as") {
            return Some(token);
        }
        closed = token.is_mark(")");
        if token.is_mark("(") {
            depth += 1;
        } else if closed {
            depth = depth.saturating_sub(1);
        }
    }
    None
}

/// The functions that the text can call; refuses a name before a parenthesis that is neither a
/// harmless function nor accounted for as something else.
pub(super) fn calls(tokens: &[Token], known: &Known<'_>) -> Result<BTreeSet<String>, Opaque> {
    let mut functions = BTreeSet::new();
    for (place, token) in tokens.iter().enumerate() {
        if token.kind == Kind::Word && is_operator_function(&token.text) {
            functions.insert(token.text.clone());
        }
        let next = tokens.get(place + 1);
        if token.is_mark("-") && next.is_some_and(|next| next.is_mark(">")) {
            // `->` and `->>` are functions by these names.
            functions.extend(["->".to_owned(), "->>".to_owned()]);
        }
        let before_parenthesis = next.is_some_and(|next| next.is_mark("("));
        if !before_parenthesis || !token.is_name() {
            continue;
        }
        let name = name_of(token);
        if is_harmless_call(&name) {
            functions.insert(name);
            continue;
        }
        let keyword = token.kind == Kind::Word && is_keyword(&name);
        if !keyword && !known.is_table(&name) && !known.types.contains(&name) {
            return Err(Opaque::naming("outside the functions that are understood:", &name));
        }
    }
    Ok(functions)
}

/// Words that end the list of tables after `FROM`, or begin a query where a table could stand.
const ENDS_LIST: &[&str] = &[
    "where",
    "group",
    "order",
    "having",
    "limit",
    "window",
    "union",
    "except",
    "intersect",
    "returning",
    "set",
    "select",
    "values",
    "with",
];
/// Words after which SQLite wants a table's name.
const BEFORE_TABLE: &[&str] = &["from", "join", "into", "update", "table", "references"];
/// Words that may stand between those and the name.
const BETWEEN: &[&str] = &["or", "abort", "fail", "ignore", "replace", "rollback", "if", "not", "exists"];
/// Words that make the next `FROM` or `UPDATE` something else: `IS DISTINCT FROM`, `DO UPDATE`, `ON UPDATE`.
const DISARMS: &[&str] = &["distinct", "do", "on"];

/// Refuses a name where SQLite wants a table and the tree does not see that table.
pub(super) fn tables(tokens: &[Token], known: &Known<'_>) -> Result<(), Opaque> {
    let mut scan = TableScan { listing: vec![false], wanted: false };
    let nothing = Token::new(Kind::Mark, "");
    let mut before = &nothing;
    for (place, token) in tokens.iter().enumerate() {
        let next = tokens.get(place + 1).unwrap_or(&nothing);
        if let Some(name) = scan.table_at(before, token, next)?
            && !known.is_table(&name)
        {
            return Err(Opaque::naming("two readers see different tables; one of them is", &name));
        }
        before = token;
    }
    Ok(())
}

struct TableScan {
    /// Of each open parenthesis, innermost last: whether a comma in it is followed by a table.
    listing: Vec<bool>,
    /// Whether the next name is a table's.
    wanted: bool,
}

impl TableScan {
    /// The table that `token` names, if it does.
    fn table_at(&mut self, before: &Token, token: &Token, next: &Token) -> Result<Option<String>, Opaque> {
        if token.kind == Kind::Mark {
            self.mark(token);
            return Ok(None);
        }
        let is_any = |words: &[&str]| words.iter().any(|word| token.is_word(word));
        if is_any(ENDS_LIST) {
            self.wanted = false;
            self.list(false);
        } else if self.wanted && is_any(BETWEEN) {
            // Still wanted.
        } else if self.wanted && token.is_name() {
            // In `main.t` the schema comes first.
            self.wanted = next.is_mark(".");
            return Ok((!self.wanted).then(|| name_of(token)));
        } else if token.is_word("in") && next.is_name() {
            return Err(Opaque::because("a table right after IN"));
        } else if is_any(BEFORE_TABLE) && !DISARMS.iter().any(|word| before.is_word(word)) {
            self.wanted = true;
            if is_any(&["from", "join"]) {
                self.list(true);
            }
        }
        Ok(None)
    }

    fn mark(&mut self, token: &Token) {
        if token.is_mark("(") {
            self.listing.push(self.wanted);
        } else if token.is_mark(")") {
            self.listing.pop();
            self.wanted = false;
        } else if token.is_mark(",") {
            self.wanted = self.listing.last().copied().unwrap_or_default();
        }
    }

    fn list(&mut self, listing: bool) {
        if let Some(level) = self.listing.last_mut() {
            *level = listing;
        }
    }
}
