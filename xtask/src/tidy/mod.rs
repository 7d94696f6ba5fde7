//! The house rules, checked on every file: an ordinary test, so that breaking one breaks the build.
//!
//! Each rule is a function of the files and the crate graph, both read once; nothing here opens a file. A rule says
//! where it is broken and what to do about it. What the compiler and clippy already refuse is left to them.

mod arrows;
mod drops;
mod leaks;
mod links;
mod pages;
mod points;
mod purity;
mod source;
#[cfg(test)]
mod tests;

use crate::{tree::Tree, workspace::Workspace};
use anyhow::Result;
use std::fmt;

/// One broken rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Violation {
    file: String,
    line: usize,
    rule: &'static str,
    what: String,
    remedy: &'static str,
}

impl fmt::Display for Violation {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, rule, what, remedy } = self;
        write!(to, "{file}:{line}: [{rule}] {what}; {remedy}")
    }
}

/// Prints every violation and the two ratios; true when there is none.
pub(crate) fn command() -> Result<bool> {
    let root = Workspace::root()?;
    let tree = Tree::read(&root)?;
    let (violations, sizes) = check(&tree, &Workspace::read(&root)?);
    for violation in &violations {
        println!("{violation}");
    }
    println!("tidy: {} violations in {} production files; {sizes}", violations.len(), sizes.files);
    Ok(violations.is_empty())
}

fn check(tree: &Tree, workspace: &Workspace) -> (Vec<Violation>, source::Sizes) {
    let (mut found, sizes) = source::check(tree);
    found.extend(drops::check(tree));
    found.extend(arrows::check(tree, workspace));
    found.extend(purity::check(tree, workspace));
    found.extend(pages::check(tree, workspace));
    found.extend(points::check(tree));
    found.extend(leaks::check(tree));
    found.sort();
    (found, sizes)
}

/// True for code that ships or drives what ships; tests live in `tests.rs` or under `tests/`.
fn is_production(path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').collect();
    let in_sources =
        matches!(parts.as_slice(), ["xtask", "src", ..] | ["crates", _, "src", ..] | ["crates", _, "build.rs"]);
    in_sources && path.ends_with(".rs") && !parts.iter().any(|part| matches!(*part, "tests" | "tests.rs"))
}

/// Lines of a text, numbered from 1.
fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    (1..).zip(text.lines())
}
