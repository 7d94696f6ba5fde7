//! YAML files of ours, read strictly: what is not known is refused where it stands.
//!
//! It must not know what a file means.

use countersign_model::near::hint;
use serde::de::DeserializeOwned;

/// A file that cannot be read, with the place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}{}: {problem}", self.place())]
pub struct Unread {
    /// The file.
    pub file: String,
    /// Its line, where one is known.
    pub line: Option<u64>,
    /// What is wrong, and the remedy where one is known.
    pub problem: String,
}

impl Unread {
    fn place(&self) -> String {
        self.line.map_or_else(String::new, |line| format!(":{line}"))
    }
}

/// Reads `text` of `file`.
///
/// # Errors
/// What is wrong with it, and where. A mistyped key is answered with the one that it is most like.
pub fn yaml<T: DeserializeOwned>(file: &str, text: &str) -> Result<T, Unread> {
    serde_saphyr::from_str(text).map_err(|error| {
        let line = error.location().map(|location| location.line());
        Unread { file: file.to_owned(), line, problem: problem(&error) }
    })
}

fn problem(error: &serde_saphyr::Error) -> String {
    let unknown = |what: &str, word: &str, expected: &[&str]| {
        let near = hint(word, expected.iter().copied());
        format!("`{word}` is no {what} here{near}; known are {}", expected.join(", "))
    };
    match error.without_snippet() {
        serde_saphyr::Error::SerdeUnknownField { field, expected, .. } => unknown("key", field, expected),
        serde_saphyr::Error::SerdeUnknownVariant { variant, expected, .. } => unknown("word", variant, expected),
        other => other.to_string().lines().next().unwrap_or_default().to_owned(),
    }
}
