//! Two readers of one text: our SQLite lexer and `sqlparser`'s tokenizer must cut it alike.
//!
//! A comment, a string or a name that one of them ends elsewhere shows as a different token, and
//! then nothing that the parser says of the text can be trusted. Bounds on depth are checked here
//! too, before a tree is built. It must not know what a statement means.

use sqlparser::dialect::Dialect;
use sqlparser::tokenizer::{Token as Theirs, Tokenizer};

use super::Opaque;
use super::lexer::{Kind, Token};

/// The deepest nesting of parentheses.
const NESTING_MAX: usize = 32;
/// The most tokens that can stack up into one deep tree: operators bind to the left, so a chain of
/// them is as deep as it is long. A comma starts a new chain; parentheses add theirs to the outer.
const CHAIN_MAX: usize = 2_000;

/// Drops one semicolon at the end and refuses every other.
pub(super) fn one_statement(tokens: &mut Vec<Token>) -> Result<(), Opaque> {
    if tokens.last().is_some_and(|last| last.is_mark(";")) {
        tokens.pop();
    }
    if tokens.is_empty() {
        return Err(Opaque::because("no statement"));
    }
    let semicolons = tokens.iter().filter(|token| token.is_mark(";")).count();
    if semicolons > 0 {
        let because = format!("{} statements where one is expected", semicolons + 1);
        return Err(Opaque::because(&because));
    }
    Ok(())
}

/// Refuses a text whose tree could be deeper than a stack.
pub(super) fn shallow(tokens: &[Token]) -> Result<(), Opaque> {
    // Of each open level, the tokens since its last comma; and their sum.
    let mut levels = vec![0_usize];
    let mut chain = 0_usize;
    for token in tokens {
        if token.is_mark("(") {
            levels.push(0);
        } else if token.is_mark(")") && levels.len() > 1 {
            chain = chain.saturating_sub(levels.pop().unwrap_or_default());
        } else if token.is_mark(",") {
            chain = chain.saturating_sub(levels.last_mut().map(std::mem::take).unwrap_or_default());
        }
        if let Some(level) = levels.last_mut() {
            *level += 1;
            chain += 1;
        }
        if levels.len() > NESTING_MAX || chain > CHAIN_MAX {
            return Err(Opaque::because("nested or chained too deep"));
        }
    }
    Ok(())
}

/// The tokens of the other reader, if it cuts the text as `ours` does.
pub(super) fn both(ours: &[Token], dialect: &dyn Dialect, text: &str) -> Result<Vec<Theirs>, Opaque> {
    let disagree = || Opaque::because("two readers cut this text into different tokens");
    let theirs = Tokenizer::new(dialect, text)
        .tokenize()
        .map_err(|error| Opaque::naming("not understood:", &error.to_string()))?;
    let mut cut = Vec::with_capacity(ours.len());
    for token in &theirs {
        translated(token, &mut cut).ok_or_else(disagree)?;
    }
    one_statement(&mut cut)?;
    if cut == ours { Ok(theirs) } else { Err(disagree()) }
}

/// Their token in our words; none where SQLite has no such token.
fn translated(token: &Theirs, cut: &mut Vec<Token>) -> Option<()> {
    let (kind, text) = match token {
        Theirs::EOF | Theirs::Whitespace(_) => return Some(()),
        Theirs::Word(word) => match word.quote_style {
            None => (Kind::Word, word.value.to_ascii_lowercase()),
            Some('"' | '`' | '[') => (Kind::Quoted, word.value.clone()),
            Some(_) => return None,
        },
        Theirs::SingleQuotedString(value) => (Kind::Text, value.clone()),
        Theirs::Number(spelled, false) => (Kind::Number, spelled.clone()),
        Theirs::HexStringLiteral(digits) => (Kind::Blob, digits.clone()),
        Theirs::Placeholder(whole) => {
            let mut chars = whole.chars();
            cut.push(Token::new(Kind::Mark, chars.next()?.encode_utf8(&mut [0; 4])));
            if chars.as_str().is_empty() {
                return Some(());
            }
            (Kind::Word, chars.as_str().to_ascii_lowercase())
        }
        Theirs::DoubleQuotedString(_)
        | Theirs::Number(_, true)
        | Theirs::NationalStringLiteral(_)
        | Theirs::EscapedStringLiteral(_)
        | Theirs::UnicodeStringLiteral(_)
        | Theirs::DollarQuotedString(_) => return None,
        other => {
            // Operators: the same characters, however they are grouped. A literal of another
            // dialect lands here too and differs, since ours has no marks for it.
            for mark in other.to_string().chars() {
                cut.push(Token::new(Kind::Mark, mark.encode_utf8(&mut [0; 4])));
            }
            return Some(());
        }
    };
    cut.push(Token { kind, text });
    Some(())
}
