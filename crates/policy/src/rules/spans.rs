//! Where each policy of a Cedar text begins and ends.
//!
//! Cedar numbers policies by their place and does not say where they stand. A policy ends with a semicolon, which stands
//! nowhere else but in strings and comments. It must not know what a policy says.

use std::ops::Range;

/// The bytes of each policy, from its first character to its semicolon, comments before it left out.
pub(super) fn of(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut start = None;
    let mut chars = text.char_indices().peekable();
    while let Some((at, char)) = chars.next() {
        match char {
            '/' if chars.peek().is_some_and(|(_, next)| *next == '/') => {
                while chars.next_if(|(_, next)| *next != '\n').is_some() {}
            }
            '"' => {
                start.get_or_insert(at);
                let mut is_escaped = false;
                for (_, inner) in chars.by_ref() {
                    match inner {
                        '"' if !is_escaped => break,
                        '\\' => is_escaped = !is_escaped,
                        _ => is_escaped = false,
                    }
                }
            }
            ';' => found.extend(start.take().map(|start| start..at.saturating_add(1))),
            other if other.is_whitespace() => {}
            _ => {
                start.get_or_insert(at);
            }
        }
    }
    found
}
