//! No file tells whose machine it was written on: no absolute path into somebody's own folders.
//!
//! Secrets are not looked for here; that takes more than a list of words.

use super::{Violation, numbered};
use crate::tree::Tree;

/// Spelled apart, or this file would be the first to break its own rule.
const FOLDERS: [&str; 3] = ["root", "home", "work"];

pub(super) fn check(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    for (path, text) in tree.texts() {
        for (line, content) in numbered(text) {
            for folder in FOLDERS {
                let word = format!("/{folder}/");
                if content.match_indices(&word).any(|(at, _)| starts_path(content, at)) {
                    let what = format!("names a folder below `/{folder}`");
                    let remedy = "use a relative path, a variable, or a made-up folder such as /srv/agent";
                    found.push(Violation { file: path.to_owned(), line, rule: "leaks", what, remedy });
                }
            }
        }
    }
    found
}

/// False in the middle of a path or an address, such as `crates/…` or `example.org/…`.
fn starts_path(line: &str, at: usize) -> bool {
    let before = line.get(..at).and_then(|before| before.chars().next_back());
    !before.is_some_and(|char| char.is_alphanumeric() || matches!(char, '.' | '_' | '-' | '~' | '}'))
}
