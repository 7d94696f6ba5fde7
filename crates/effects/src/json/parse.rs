//! The reader: one pass over the bytes, recursing at most to the depth limit.
//!
//! It must not know what a key means. It does not cover output: that is `canonical`.

use std::ops::Range;

use super::{DEPTH_CEILING, JsonError, Limits, Node, Value, Wrong};

/// Objects of up to this many members look for a duplicate key by comparing all pairs.
const PAIRWISE_MAX: usize = 8;

/// Reads exactly one JSON text.
///
/// # Errors
/// Refuses whatever is not RFC 8259, whatever two readers could take differently, and whatever
/// is over the limits; the error names the byte.
pub fn parse(bytes: &[u8], limits: &Limits) -> Result<Node, JsonError> {
    let refused = |offset, what| Err(JsonError { offset, what });
    if bytes.len() > limits.bytes_max {
        let bytes_max = limits.bytes_max;
        return refused(bytes_max, Wrong::TooLong { bytes_max });
    }
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => return refused(error.valid_up_to(), Wrong::Utf8),
    };
    if text.starts_with('\u{feff}') {
        return refused(0, Wrong::ByteOrderMark);
    }
    let mut reader = Reader {
        text,
        bytes,
        at: 0,
        depth_left: limits.depth_max.min(DEPTH_CEILING),
        nodes_left: limits.nodes_max,
        limits,
    };
    reader.skip_space();
    let node = reader.value()?;
    reader.skip_space();
    if reader.at < bytes.len() {
        return refused(reader.at, Wrong::Trailing);
    }
    Ok(node)
}

struct Reader<'a> {
    text: &'a str,
    /// The same bytes as `text`.
    bytes: &'a [u8],
    /// The next byte to read.
    at: usize,
    depth_left: usize,
    nodes_left: usize,
    limits: &'a Limits,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn refuse<T>(&self, what: Wrong) -> Result<T, JsonError> {
        Err(JsonError { offset: self.at, what })
    }

    fn unexpected<T>(&self, expected: &'static str) -> Result<T, JsonError> {
        match self.peek() {
            Some(byte) => self.refuse(Wrong::Byte { byte, expected }),
            None => self.refuse(Wrong::End),
        }
    }

    fn skip_space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    fn value(&mut self) -> Result<Node, JsonError> {
        let Some(left) = self.nodes_left.checked_sub(1) else {
            let nodes_max = self.limits.nodes_max;
            return self.refuse(Wrong::TooMany { nodes_max });
        };
        self.nodes_left = left;
        let start = self.at;
        let value = match self.peek() {
            Some(b'{') => self.nested(Self::object)?,
            Some(b'[') => self.nested(Self::array)?,
            Some(b'"') => Value::String(self.string()?),
            Some(b't') => self.word("true", Value::Bool(true))?,
            Some(b'f') => self.word("false", Value::Bool(false))?,
            Some(b'n') => self.word("null", Value::Null)?,
            Some(b'-' | b'0'..=b'9') => self.number()?,
            _ => return self.unexpected("a value"),
        };
        Ok(Node { span: start..self.at, value })
    }

    fn word(&mut self, word: &'static str, value: Value) -> Result<Value, JsonError> {
        for expected in word.bytes() {
            if self.peek() != Some(expected) {
                return self.unexpected(word);
            }
            self.at += 1;
        }
        Ok(value)
    }

    fn nested(&mut self, inner: fn(&mut Self) -> Result<Value, JsonError>) -> Result<Value, JsonError> {
        let Some(left) = self.depth_left.checked_sub(1) else {
            let depth_max = self.limits.depth_max.min(DEPTH_CEILING);
            return self.refuse(Wrong::TooDeep { depth_max });
        };
        self.depth_left = left;
        self.at += 1; // the bracket
        self.skip_space();
        let value = inner(self)?;
        self.depth_left += 1;
        Ok(value)
    }

    /// After an item: true where another follows, false where the bracket closed.
    fn another(&mut self, close: u8, expected: &'static str) -> Result<bool, JsonError> {
        self.skip_space();
        let more = match self.peek() {
            Some(b',') => true,
            Some(byte) if byte == close => false,
            _ => return self.unexpected(expected),
        };
        self.at += 1;
        if more {
            self.skip_space();
        }
        Ok(more)
    }

    fn array(&mut self) -> Result<Value, JsonError> {
        let mut items = Vec::new();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(Value::Array(items));
        }
        loop {
            items.push(self.value()?);
            if !self.another(b']', "`,` or `]`")? {
                return Ok(Value::Array(items));
            }
        }
    }

    fn object(&mut self) -> Result<Value, JsonError> {
        let mut members: Vec<(String, Node)> = Vec::new();
        let mut key_starts = Vec::new();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(Value::Object(members));
        }
        loop {
            if self.peek() != Some(b'"') {
                return self.unexpected("a key");
            }
            key_starts.push(self.at);
            let key = self.string()?;
            self.skip_space();
            if self.peek() != Some(b':') {
                return self.unexpected("`:`");
            }
            self.at += 1;
            self.skip_space();
            let node = self.value()?;
            members.push((key, node));
            if !self.another(b'}', "`,` or `}`")? {
                break;
            }
        }
        if let Some((key, index)) = duplicate(&members) {
            return Err(JsonError {
                offset: key_starts.get(index).copied().unwrap_or(self.at),
                what: Wrong::DuplicateKey { key },
            });
        }
        Ok(Value::Object(members))
    }

    fn string(&mut self) -> Result<String, JsonError> {
        self.at += 1; // the opening quote
        let mut out = String::new();
        loop {
            let run = self.at;
            while let Some(0x20..=0x21 | 0x23..=0x5b | 0x5d..=0xff) = self.peek() {
                self.at += 1;
            }
            // A run ends at an ASCII byte or at the end, so both ends are character boundaries.
            out.push_str(self.slice(run..self.at));
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(out);
                }
                Some(b'\\') => out.push(self.escape()?),
                Some(_) => return self.refuse(Wrong::Control),
                None => return self.refuse(Wrong::End),
            }
        }
    }

    fn slice(&self, span: Range<usize>) -> &str {
        self.text.get(span).unwrap_or_default()
    }

    fn escape(&mut self) -> Result<char, JsonError> {
        let start = self.at;
        self.at += 1; // the backslash
        let plain = match self.peek() {
            Some(byte @ (b'"' | b'\\' | b'/')) => char::from(byte),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode(start),
            Some(_) => return self.refuse(Wrong::Escape),
            None => return self.refuse(Wrong::End),
        };
        self.at += 1;
        Ok(plain)
    }

    /// `\uXXXX`, or a pair of them for a character beyond the basic plane.
    fn unicode(&mut self, start: usize) -> Result<char, JsonError> {
        let lone = JsonError { offset: start, what: Wrong::Surrogate };
        let first = self.hex4()?;
        if !(0xd800..=0xdfff).contains(&first) {
            return char::from_u32(first).ok_or(lone);
        }
        let pair_follows = self.bytes.get(self.at..self.at + 2) == Some(br"\u");
        if first > 0xdbff || !pair_follows {
            return Err(lone);
        }
        self.at += 1;
        let second = self.hex4()?;
        if !(0xdc00..=0xdfff).contains(&second) {
            return Err(lone);
        }
        char::from_u32(0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00)).ok_or(lone)
    }

    /// The `u` and four hexadecimal digits.
    fn hex4(&mut self) -> Result<u32, JsonError> {
        self.at += 1; // the u
        let mut unit = 0;
        for _ in 0..4 {
            let Some(byte) = self.peek() else {
                return self.refuse(Wrong::End);
            };
            let Some(digit) = char::from(byte).to_digit(16) else {
                return self.refuse(Wrong::Escape);
            };
            unit = unit * 16 + digit;
            self.at += 1;
        }
        Ok(unit)
    }

    fn number(&mut self) -> Result<Value, JsonError> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
            if matches!(self.peek(), Some(b'0'..=b'9')) {
                return self.refuse(Wrong::Number);
            }
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(Value::Number)
    }

    /// One digit or more.
    fn digits(&mut self) -> Result<(), JsonError> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        if self.at == start {
            return self.refuse(Wrong::Number);
        }
        Ok(())
    }
}

/// The first member (by place) whose key an earlier one has, with its place.
fn duplicate(members: &[(String, Node)]) -> Option<(String, usize)> {
    if members.len() <= PAIRWISE_MAX {
        return members.iter().enumerate().find_map(|(place, (key, _))| {
            let twice = members.iter().take(place).any(|(earlier, _)| earlier == key);
            twice.then(|| (key.clone(), place))
        });
    }
    let mut order: Vec<(&str, usize)> =
        members.iter().enumerate().map(|(place, (key, _))| (key.as_str(), place)).collect();
    order.sort_unstable();
    order
        .windows(2)
        .filter_map(|pair| match pair {
            [(first, _), (second, place)] if first == second => Some((*place, *second)),
            _ => None,
        })
        .min()
        .map(|(place, key)| (key.to_owned(), place))
}
