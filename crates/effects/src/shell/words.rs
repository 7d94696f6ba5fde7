//! From text to simple commands, each a list of words with their quotes removed.
//!
//! Follows POSIX 2.3 (token recognition) and 2.2 (quoting) for the part that is understood. It must not know what any
//! word means.

use std::iter::Peekable;
use std::str::Chars;

use super::TEXT_BYTES_MAX;
use crate::sql::Opaque;

/// One word.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Word {
    /// Its text, without quotes.
    pub(super) text: String,
    /// Whether a part of it was quoted.
    pub(super) is_quoted: bool,
    /// Whether a shell would expand it by the names of files or of users.
    pub(super) expands: bool,
}

/// One simple command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Command {
    /// At least one word.
    pub(super) words: Vec<Word>,
    /// The operator behind it; empty behind the last one. The end of a line counts as `;`.
    pub(super) joint: &'static str,
}

/// The simple commands of a text; at least one.
pub(super) fn commands(text: &str) -> Result<Vec<Command>, Opaque> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(Opaque::because("more shell text than is read"));
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic() || b" \t\n".contains(&byte)) {
        return Err(Opaque::because("shell text with control characters or letters outside ASCII"));
    }
    let mut reading = Reading { chars: text.chars().peekable(), commands: Vec::new(), command: Vec::new() };
    reading.all()?;
    Ok(reading.commands)
}

struct Reading<'a> {
    chars: Peekable<Chars<'a>>,
    commands: Vec<Command>,
    command: Vec<Word>,
}

impl Reading<'_> {
    fn all(&mut self) -> Result<(), Opaque> {
        let mut needs_more = false;
        while let Some(&c) = self.chars.peek() {
            match c {
                ' ' | '\t' => {
                    self.chars.next();
                }
                '\n' | ';' | '|' | '&' => {
                    needs_more = self.operator(c, needs_more)?;
                }
                '>' => self.redirection()?,
                '<' | '(' | ')' | '#' => return Err(unknown()),
                _ => {
                    let word = self.word()?;
                    // A number right before `>` says which output is meant.
                    let is_number = !word.is_quoted && word.text.bytes().all(|byte| byte.is_ascii_digit());
                    if is_number && matches!(self.chars.peek(), Some('>' | '<')) {
                        self.redirection()?;
                    } else {
                        self.command.push(word);
                        needs_more = false;
                    }
                }
            }
        }
        if needs_more {
            return Err(Opaque::because("shell text that ends where a command must follow"));
        }
        if !self.command.is_empty() {
            self.ends("");
        }
        if self.commands.is_empty() {
            return Err(Opaque::because("shell text without a command"));
        }
        Ok(())
    }

    /// Ends a command; says whether another one must follow.
    fn operator(&mut self, c: char, needs_more: bool) -> Result<bool, Opaque> {
        self.chars.next();
        let doubled = self.chars.next_if_eq(&c).is_some();
        let (joins, joint) = match (c, doubled) {
            ('\n', _) if self.command.is_empty() => return Ok(needs_more),
            ('\n', _) | (';', false) => (false, ";"),
            ('&', true) => (true, "&&"),
            ('|', true) => (true, "||"),
            ('|', false) => (true, "|"),
            // In the background, or the end of a branch.
            _ => return Err(unknown()),
        };
        if self.command.is_empty() || matches!(self.chars.peek(), Some('&' | '|' | ';')) {
            return Err(Opaque::because("shell text with an operator where a command must stand"));
        }
        self.ends(joint);
        Ok(joins)
    }

    fn ends(&mut self, joint: &'static str) {
        self.commands.push(Command { words: std::mem::take(&mut self.command), joint });
    }

    /// Output into nothing, or into another output. Everything else touches a file.
    fn redirection(&mut self) -> Result<(), Opaque> {
        let touches = || Opaque::because("shell text with a redirection that touches a file");
        self.chars.next_if_eq(&'>').ok_or_else(touches)?;
        let appends = self.chars.next_if_eq(&'>').is_some();
        if !appends && self.chars.next_if_eq(&'&').is_some() {
            self.chars.next_if(|c| matches!(c, '1' | '2')).ok_or_else(touches)?;
            return match self.chars.peek() {
                None | Some(' ' | '\t' | '\n' | ';' | '|' | '&') => Ok(()),
                Some(_) => Err(touches()),
            };
        }
        while self.chars.next_if(|c| matches!(c, ' ' | '\t')).is_some() {}
        let is_word = self.chars.peek().is_some_and(|c| c.is_ascii_alphanumeric() || *c == '/');
        let target = if is_word { self.word()?.text } else { String::new() };
        if target == "/dev/null" { Ok(()) } else { Err(touches()) }
    }

    fn word(&mut self) -> Result<Word, Opaque> {
        let mut word = Word::default();
        while let Some(&c) = self.chars.peek() {
            match c {
                ' ' | '\t' | '\n' | ';' | '|' | '&' | '<' | '>' => break,
                '(' | ')' | '$' | '`' => return Err(unknown()),
                // A brace can be an expansion, but for a pair with nothing in it; a bang can be the history.
                '{' => {
                    self.chars.next();
                    self.chars.next_if_eq(&'}').ok_or_else(unknown)?;
                    word.text.push_str("{}");
                }
                '}' | '!' => return Err(unknown()),
                '\'' => self.single(&mut word)?,
                '"' => self.double(&mut word)?,
                '\\' => {
                    self.chars.next();
                    let escaped = self.chars.next().filter(|c| c.is_ascii_graphic() || *c == ' ');
                    word.text.push(escaped.ok_or_else(unknown)?);
                    word.is_quoted = true;
                }
                _ => {
                    word.expands |= matches!(c, '*' | '?' | '[' | '~');
                    word.text.push(c);
                    self.chars.next();
                }
            }
        }
        Ok(word)
    }

    fn single(&mut self, word: &mut Word) -> Result<(), Opaque> {
        self.chars.next();
        word.is_quoted = true;
        loop {
            match self.chars.next() {
                Some('\'') => return Ok(()),
                Some(c) => word.text.push(c),
                None => return Err(Opaque::because("shell text with an open quote")),
            }
        }
    }

    fn double(&mut self, word: &mut Word) -> Result<(), Opaque> {
        self.chars.next();
        word.is_quoted = true;
        loop {
            match self.chars.next() {
                Some('"') => return Ok(()),
                Some('$' | '`' | '!') => return Err(unknown()),
                Some('\\') => match self.chars.next() {
                    Some(c @ ('"' | '\\' | '$' | '`')) => word.text.push(c),
                    Some('\n') | None => return Err(unknown()),
                    Some(c) => word.text.extend(['\\', c]),
                },
                Some(c) => word.text.push(c),
                None => return Err(Opaque::because("shell text with an open quote")),
            }
        }
    }
}

fn unknown() -> Opaque {
    Opaque::because("shell text with substitution, grouping or another construct that is not understood")
}
