//! The text cut into tokens exactly as SQLite cuts it (`sqlite3GetToken` in `tokenize.c`).
//!
//! It refuses what SQLite accepts but nobody needs: characters beyond ASCII outside quotes, NUL
//! anywhere, vertical tabs, TCL variables, a comment or quote without its end. It must not know
//! grammar. Operators come out one character at a time: only where words, names and literals
//! begin and end matters here.

use super::Opaque;

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A bare word: keyword or name, in lower case.
    Word,
    /// A name in double quotes, backticks or brackets, without them.
    Quoted,
    /// A string literal, unescaped. SQLite takes one for a name where only a name can stand.
    Text,
    /// A number as spelled.
    Number,
    /// The digits of `x'…'` or `0x…`; `sqlparser` does not tell the two apart.
    Blob,
    /// One character of an operator or of punctuation.
    Mark,
}

/// One token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) text: String,
}

impl Token {
    pub(super) fn new(kind: Kind, text: &str) -> Self {
        Self { kind, text: text.to_owned() }
    }

    /// Whether it is this bare word (in lower case).
    pub(super) fn is_word(&self, word: &str) -> bool {
        self.kind == Kind::Word && self.text == word
    }

    /// Whether it is this character.
    pub(super) fn is_mark(&self, mark: &str) -> bool {
        self.kind == Kind::Mark && self.text == mark
    }

    /// Whether SQLite could take it for a name: bare, quoted, or a string.
    pub(super) const fn is_name(&self) -> bool {
        matches!(self.kind, Kind::Word | Kind::Quoted | Kind::Text)
    }
}

/// All tokens of `text`, without white space and comments.
pub(super) fn tokens(text: &str) -> Result<Vec<Token>, Opaque> {
    if text.contains('\0') {
        return Err(Opaque::because("a nul character ends the text for some readers"));
    }
    let mut lexer = Lexer { text, at: 0, out: Vec::new() };
    while lexer.next()? {}
    Ok(lexer.out)
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
    out: Vec<Token>,
}

const fn in_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// The byte `ahead` of here; NUL (which the text does not hold) at the end, as in SQLite.
    fn byte(&self, ahead: usize) -> u8 {
        self.text.as_bytes().get(self.at + ahead).copied().unwrap_or(0)
    }

    fn push(&mut self, kind: Kind, text: &str) {
        self.out.push(Token::new(kind, text));
    }

    /// The run of bytes from `ahead` on that satisfy `test`; moves past it.
    fn run(&mut self, ahead: usize, test: impl Fn(u8) -> bool) -> &'a str {
        let tail = self.rest().get(ahead..).unwrap_or_default();
        let end = tail.bytes().position(|byte| !test(byte)).unwrap_or(tail.len());
        self.at += ahead + end;
        tail.get(..end).unwrap_or_default()
    }

    /// Cuts one token; false at the end.
    fn next(&mut self) -> Result<bool, Opaque> {
        match (self.byte(0), self.byte(1)) {
            (0, _) => return Ok(false),
            (b' ' | b'\t' | b'\n' | b'\x0c' | b'\r', _) => self.at += 1,
            (b'-', b'-') => {
                self.run(0, |byte| byte != b'\n');
            }
            (b'/', b'*') => self.block_comment()?,
            (b'\'', _) => self.quoted(Kind::Text, '\'')?,
            (b'"', _) => self.quoted(Kind::Quoted, '"')?,
            (b'`', _) => self.quoted(Kind::Quoted, '`')?,
            (b'[', _) => self.bracketed()?,
            (b'x' | b'X', b'\'') => self.blob()?,
            (b'0'..=b'9', _) | (b'.', b'0'..=b'9') => self.number()?,
            (b'?', _) => {
                let digits = self.run(1, |byte| byte.is_ascii_digit());
                self.variable("?", digits);
            }
            (b':' | b'@' | b'$', _) => self.named_variable()?,
            (b'!', b'=') => self.not_equal(),
            (
                byte @ (b'(' | b')' | b',' | b';' | b'.' | b'+' | b'-' | b'*' | b'/' | b'%' | b'=' | b'<' | b'>' | b'|'
                | b'&' | b'~'),
                _,
            ) => {
                self.at += 1;
                self.push(Kind::Mark, char::from(byte).encode_utf8(&mut [0; 4]));
            }
            (b'a'..=b'z' | b'A'..=b'Z' | b'_', _) => {
                let word = self.run(0, in_word);
                self.push(Kind::Word, &word.to_ascii_lowercase());
            }
            _ => {
                let what: String = self.rest().chars().take(1).collect();
                return Err(Opaque::naming("outside quotes, the character", &what));
            }
        }
        Ok(true)
    }

    /// `!=` comes out as `<>`: to SQLite they are one token, and the other reader shows it so.
    fn not_equal(&mut self) {
        self.at += 2;
        self.push(Kind::Mark, "<");
        self.push(Kind::Mark, ">");
    }

    fn block_comment(&mut self) -> Result<(), Opaque> {
        // SQLite looks for the end from the third byte on, so `/*/` does not close itself.
        let tail = self.rest().get(2..).unwrap_or_default();
        let Some(end) = tail.find("*/") else {
            return Err(Opaque::because("a comment without its end"));
        };
        self.at += end + 4;
        Ok(())
    }

    fn quoted(&mut self, kind: Kind, quote: char) -> Result<(), Opaque> {
        let mut value = String::new();
        let mut chars = self.rest().char_indices().skip(1).peekable();
        while let Some((place, c)) = chars.next() {
            if c != quote {
                value.push(c);
            } else if chars.next_if(|(_, after)| *after == quote).is_some() {
                value.push(quote);
            } else {
                self.at += place + 1;
                self.push(kind, &value);
                return Ok(());
            }
        }
        Err(Opaque::because("a quote without its end"))
    }

    fn bracketed(&mut self) -> Result<(), Opaque> {
        let name = self.run(1, |byte| byte != b']');
        if self.byte(0) != b']' {
            return Err(Opaque::because("a bracket without its end"));
        }
        self.at += 1;
        self.push(Kind::Quoted, name);
        Ok(())
    }

    fn blob(&mut self) -> Result<(), Opaque> {
        let digits = self.run(2, |byte| byte.is_ascii_hexdigit());
        if self.byte(0) != b'\'' || !digits.len().is_multiple_of(2) {
            return Err(Opaque::because("a malformed blob literal"));
        }
        self.at += 1;
        self.push(Kind::Blob, digits);
        Ok(())
    }

    fn number(&mut self) -> Result<(), Opaque> {
        let start = self.at;
        let mut kind = Kind::Number;
        let mut spelled = "";
        let digit = |byte: u8| byte.is_ascii_digit() || byte == b'_';
        if self.byte(0) == b'0' && matches!(self.byte(1), b'x' | b'X') && self.byte(2).is_ascii_hexdigit() {
            kind = Kind::Blob;
            spelled = self.run(2, |byte| byte.is_ascii_hexdigit());
        } else {
            self.run(0, digit);
            if self.byte(0) == b'.' {
                self.run(1, digit);
            }
            let signed = matches!(self.byte(1), b'+' | b'-');
            if matches!(self.byte(0), b'e' | b'E') && self.byte(1 + usize::from(signed)).is_ascii_digit() {
                self.run(1 + usize::from(signed), digit);
            }
        }
        if kind == Kind::Number {
            spelled = self.text.get(start..self.at).unwrap_or_default();
        }
        if in_word(self.byte(0)) || self.byte(0) == b'$' || !self.byte(0).is_ascii() {
            return Err(Opaque::naming("a word grown together with the number", spelled));
        }
        self.push(kind, spelled);
        Ok(())
    }

    fn named_variable(&mut self) -> Result<(), Opaque> {
        let sigil = self.rest().get(..1).unwrap_or_default();
        let name = self.run(1, in_word);
        // `$a(…)` and `$a::b` are one variable to SQLite; nobody needs them.
        if name.is_empty() || matches!(self.byte(0), b'(' | b':' | b'$') || !self.byte(0).is_ascii() {
            return Err(Opaque::naming("a variable outside the plain form:", sigil));
        }
        self.variable(sigil, name);
        Ok(())
    }

    fn variable(&mut self, sigil: &str, name: &str) {
        self.push(Kind::Mark, sigil);
        if !name.is_empty() {
            self.push(Kind::Word, &name.to_ascii_lowercase());
        }
    }
}
