//! Strict JSON (RFC 8259) over bytes: one text, one reading, spans kept.
//!
//! Whatever two readers could take differently is refused: duplicate keys after unescaping, bytes
//! that are not UTF-8, a byte order mark, lone surrogates, raw control characters in strings,
//! spellings of numbers outside the grammar, nesting or size over the limits, trailing bytes.
//! A node keeps its span, so that a caller can splice or forward the very bytes that were judged;
//! a number keeps its spelling and is never turned into a float here.
//!
//! It must not know any protocol: what a field means is the caller's. It does not cover streams
//! (the caller frames) nor JSON's cousins (JSON5, NDJSON, comments).

mod canonical;
mod parse;
#[cfg(test)]
mod tests;

use std::ops::Range;

use countersign_model::ReasonCode;

pub use canonical::canonical;
pub use parse::parse;

/// Nesting that no [`Limits`] can raise: parsing and dropping a tree recurse once a level.
pub const DEPTH_CEILING: usize = 256;

/// How much JSON is read before it is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The longest text in bytes.
    pub bytes_max: usize,
    /// The deepest nesting of arrays and objects; a scalar has depth zero. At most [`DEPTH_CEILING`].
    pub depth_max: usize,
    /// The most values (scalars, arrays and objects) in one text.
    pub nodes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes_max: 4 * 1024 * 1024, depth_max: 64, nodes_max: 100_000 }
    }
}

/// One value and where it stands in the input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// The bytes of the value, without the white space around it.
    pub span: Range<usize>,
    /// What it is.
    pub value: Value,
}

/// A JSON value. A number has no content of its own: its text is the input at the node's span.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number, spelled as [`Node::raw`] gives it.
    Number,
    /// A string, unescaped.
    String(String),
    /// An array.
    Array(Vec<Node>),
    /// An object: its members in the order of the text, keys unescaped and all different.
    Object(Vec<(String, Node)>),
}

impl Node {
    /// The member `key` of an object; none where this is no object or has no such member.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Self> {
        self.as_object()?.iter().find_map(|(name, node)| (name == key).then_some(node))
    }

    /// The text of a string.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match &self.value {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// The truth of a boolean.
    #[must_use]
    pub const fn as_bool(&self) -> Option<bool> {
        match self.value {
            Value::Bool(truth) => Some(truth),
            _ => None,
        }
    }

    /// The items of an array.
    #[must_use]
    pub fn as_array(&self) -> Option<&[Self]> {
        match &self.value {
            Value::Array(items) => Some(items),
            _ => None,
        }
    }

    /// The members of an object, in the order of the text.
    #[must_use]
    pub fn as_object(&self) -> Option<&[(String, Self)]> {
        match &self.value {
            Value::Object(members) => Some(members),
            _ => None,
        }
    }

    /// Whether this is `null`.
    #[must_use]
    pub const fn is_null(&self) -> bool {
        matches!(self.value, Value::Null)
    }

    /// The spelling of a number. `input` must be the bytes that were parsed.
    #[must_use]
    pub fn as_number<'a>(&self, input: &'a [u8]) -> Option<&'a str> {
        matches!(self.value, Value::Number).then(|| std::str::from_utf8(self.raw(input)).ok()).flatten()
    }

    /// A number that is spelled as a plain integer without sign, fraction or exponent, if it fits.
    #[must_use]
    pub fn as_u64(&self, input: &[u8]) -> Option<u64> {
        self.as_number(input)?.parse().ok()
    }

    /// The bytes of this value as they stand in `input`, which must be the bytes that were parsed;
    /// of any other input, whatever lies at the span, or nothing.
    #[must_use]
    pub fn raw<'a>(&self, input: &'a [u8]) -> &'a [u8] {
        input.get(self.span.clone()).unwrap_or_default()
    }
}

/// Why bytes are refused, and at which byte.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} at byte {offset}")]
pub struct JsonError {
    /// The offset of the byte that shows it, counted from zero.
    pub offset: usize,
    /// What is wrong.
    pub what: Wrong,
}

/// What can be wrong with a JSON text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    /// Over [`Limits::bytes_max`].
    #[error("json text over {bytes_max} bytes")]
    TooLong {
        /// The limit.
        bytes_max: usize,
    },
    /// Over [`Limits::depth_max`].
    #[error("nesting over {depth_max} levels")]
    TooDeep {
        /// The limit.
        depth_max: usize,
    },
    /// Over [`Limits::nodes_max`].
    #[error("more than {nodes_max} values")]
    TooMany {
        /// The limit.
        nodes_max: usize,
    },
    /// Bytes that are not UTF-8: overlong forms, encoded surrogates, stray continuations.
    #[error("invalid utf-8")]
    Utf8,
    /// The text starts with U+FEFF.
    #[error("byte order mark")]
    ByteOrderMark,
    /// The text ended inside a value, or before one.
    #[error("unexpected end")]
    End,
    /// A byte that the grammar has no place for here.
    #[error("unexpected byte 0x{byte:02x}, expected {expected}")]
    Byte {
        /// The byte.
        byte: u8,
        /// What could have stood here.
        expected: &'static str,
    },
    /// Something after the value.
    #[error("trailing bytes")]
    Trailing,
    /// The same key twice in one object, after unescaping.
    #[error("duplicate key `{}`", shown(.key))]
    DuplicateKey {
        /// The key, unescaped.
        key: String,
    },
    /// An unescaped character below U+0020 in a string.
    #[error("control character in a string")]
    Control,
    /// A backslash before something that cannot be escaped, or a bad `\u`.
    #[error("invalid escape")]
    Escape,
    /// Half of a surrogate pair.
    #[error("lone surrogate")]
    Surrogate,
    /// A number outside the grammar: leading zero, bare point, missing digits.
    #[error("invalid number")]
    Number,
}

impl JsonError {
    /// The reason code under which such bytes are denied.
    #[must_use]
    pub const fn reason(&self) -> ReasonCode {
        match self.what {
            Wrong::TooLong { .. } => ReasonCode::Oversize,
            _ => ReasonCode::Malformed,
        }
    }
}

/// A key as an error may show it: without secrets, escaped and clipped, since it comes from the agent.
fn shown(key: &str) -> String {
    crate::secrets::cleaned(key).chars().take(40).flat_map(char::escape_default).collect()
}
