//! How long each fuzz target has run in all, in a page of the repository that every run adds to.
//!
//! Only runs that found nothing count: a crash is mended and its input kept, and the clock goes on from there. It must not
//! know what a target does.

use anyhow::{Context, Result};
use std::{fs, path::Path};

#[cfg(test)]
mod tests;

const PAGE: &str = "fuzz/HOURS.md";

/// Seconds that `target` has run.
///
/// # Errors
/// When the page cannot be read.
pub(super) fn so_far(root: &Path, target: &str) -> Result<u64> {
    Ok(seconds(&read(root)?, target))
}

/// Adds a run of `target`.
///
/// # Errors
/// When the page cannot be read or written.
pub(super) fn add(root: &Path, target: &str, more: u64) -> Result<()> {
    let page = with(&read(root)?, target, more);
    fs::write(root.join(PAGE), page).with_context(|| format!("cannot write `{PAGE}`"))
}

fn read(root: &Path) -> Result<String> {
    fs::read_to_string(root.join(PAGE)).with_context(|| format!("cannot read `{PAGE}`"))
}

/// The row of a target: `| segment | 3600 |`.
fn row(line: &str, target: &str) -> Option<u64> {
    let (name, seconds) = line.strip_prefix("| ")?.strip_suffix(" |")?.split_once(" | ")?;
    (name == target).then(|| seconds.trim().parse().ok()).flatten()
}

fn seconds(page: &str, target: &str) -> u64 {
    page.lines().find_map(|line| row(line, target)).unwrap_or(0)
}

/// The page with `more` seconds for `target`, whose row goes to the end if it is new.
fn with(page: &str, target: &str, more: u64) -> String {
    let sum = seconds(page, target) + more;
    let new = format!("| {target} | {sum} |");
    let mut lines: Vec<&str> = page.lines().collect();
    match lines.iter_mut().find(|line| row(line, target).is_some()) {
        Some(line) => *line = &new,
        None => lines.push(&new),
    }
    lines.join("\n") + "\n"
}
