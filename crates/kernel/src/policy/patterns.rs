//! Patterns: every text of a call against all patterns of the policy at once.
//!
//! All patterns become regular expressions of one set, which is compiled once and takes time linear in the text, whatever
//! a pattern looks like. They match exact characters: whoever wants case to be ignored writes `(?i)`, and look-alike
//! letters are other letters. So a pattern is a guard only beside facts; it must not know what a match is good for. It
//! does not cover keys of objects and numbers.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use regex::{RegexBuilder, RegexSet, RegexSetBuilder, escape};

use super::{PatternDef, PatternKind};

/// The most patterns of one policy.
pub const PATTERNS_MAX: usize = 1_000;
/// The longest text of one pattern in bytes.
pub const PATTERN_BYTES_MAX: usize = 2_048;
/// The largest compiled form of one pattern, and the set's share for each, in bytes.
pub const COMPILED_BYTES_MAX: usize = 256 * 1024;

/// The patterns of a policy, compiled.
#[derive(Clone, Debug, Default)]
pub struct PatternSet {
    set: RegexSet,
    patterns: Vec<Pattern>,
}

#[derive(Clone, Debug)]
struct Pattern {
    id: String,
    argument: Option<String>,
}

/// Why a pattern is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PatternError {
    /// Its id.
    pub id: String,
    /// What is wrong.
    pub problem: String,
    /// What to do about it.
    pub remedy: String,
}

impl PatternSet {
    /// Compiles the patterns of a policy.
    ///
    /// # Errors
    /// Every pattern that cannot be read, is too large, or comes twice.
    pub fn load(defs: &[PatternDef]) -> Result<Self, Vec<PatternError>> {
        let mut errors = Vec::new();
        let mut seen = BTreeSet::new();
        let mut fail = |def: &PatternDef, problem: String, remedy: &str| {
            errors.push(PatternError { id: def.id.to_string(), problem, remedy: remedy.to_owned() });
        };
        for def in defs {
            if !seen.insert(&def.id) {
                fail(def, "the pattern stands there twice".to_owned(), "give each pattern an id of its own");
            }
            if def.text.len() > PATTERN_BYTES_MAX {
                let problem = format!("the pattern has {} bytes; at most {PATTERN_BYTES_MAX} are read", def.text.len());
                fail(def, problem, "split it into several");
            } else if let Err(error) = RegexBuilder::new(&expression(def)).size_limit(COMPILED_BYTES_MAX).build() {
                fail(def, format!("the pattern cannot be read: {error}"), "correct the expression, or make it smaller");
            }
        }
        if let Some(def) = defs.get(PATTERNS_MAX) {
            fail(def, format!("more than {PATTERNS_MAX} patterns"), "join some of them into one expression");
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let size = COMPILED_BYTES_MAX.saturating_mul(defs.len().max(1));
        let set = RegexSetBuilder::new(defs.iter().map(expression)).size_limit(size).build();
        let set = set.map_err(|error| {
            let problem = format!("the patterns do not compile together: {error}");
            vec![PatternError { id: String::new(), problem, remedy: "make some of them smaller".to_owned() }]
        })?;
        let patterns = defs.iter().map(|def| Pattern { id: def.id.to_string(), argument: def.argument.clone() });
        Ok(Self { set, patterns: patterns.collect() })
    }

    /// The ids of all patterns that match, sorted. `tool` is the tool as `UPSTREAM/TOOL`, `texts` are all texts of the
    /// arguments with their places, names joined by dots. A pattern with an argument looks at what lies there and below.
    #[must_use]
    pub fn matched(&self, tool: &str, texts: &[(String, &str)]) -> BTreeSet<String> {
        let mut matched = BTreeSet::new();
        if self.patterns.is_empty() {
            return matched;
        }
        let named = texts.iter().map(|(place, text)| (Some(place.as_str()), *text));
        for (place, text) in std::iter::once((None, tool)).chain(named) {
            let hits = self.set.matches(text);
            let found = hits.into_iter().filter_map(|index| self.patterns.get(index));
            matched.extend(found.filter(|pattern| pattern.looks_at(place)).map(|pattern| pattern.id.clone()));
        }
        matched
    }

    /// Whether there is no pattern at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }
}

impl Pattern {
    /// Whether it looks at the text at a place; the tool's name has none.
    fn looks_at(&self, place: Option<&str>) -> bool {
        match (&self.argument, place) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(argument), Some(place)) => {
                place.strip_prefix(argument.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            }
        }
    }
}

/// A pattern as a regular expression.
fn expression(def: &PatternDef) -> String {
    match def.kind {
        PatternKind::Exact => format!(r"\A(?:{})\z", escape(&def.text)),
        PatternKind::Prefix => format!(r"\A(?:{})", escape(&def.text)),
        PatternKind::Glob => {
            let parts = def.text.chars().map(|c| match c {
                '*' => ".*".to_owned(),
                '?' => ".".to_owned(),
                other => escape(other.encode_utf8(&mut [0; 4])),
            });
            format!(r"(?s)\A(?:{})\z", parts.collect::<String>())
        }
        PatternKind::Regex => def.text.clone(),
    }
}

/// What goes into the hash of a bundle: ids, kinds, texts and arguments, in order, none of which can run into the next.
pub(super) fn hashed(defs: &[PatternDef]) -> Vec<String> {
    let mut parts = vec![defs.len().to_string()];
    for PatternDef { id, kind, text, argument } in defs {
        let (anywhere, argument) =
            argument.as_ref().map_or(("anywhere", ""), |argument| ("argument", argument.as_str()));
        parts.extend([id.as_str(), kind.as_str(), text, anywhere, argument].map(str::to_owned));
    }
    parts
}
