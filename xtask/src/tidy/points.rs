//! Every enforcement point has the same rooms, hostile inputs, a fuzz target, and the same ten scenarios.
//!
//! A name here is a promise to the next reader: who has read one point finds his way in all of them.

use super::Violation;
use crate::tree::Tree;

const POINTS: &str = "crates/points/src";
const CORPUS: &str = "crates/points/tests/corpus";
const FUZZ: &str = "fuzz/fuzz_targets";
const SCENARIOS: &str = "crates/testkit/scenarios";
const ROOMS: [&str; 5] = ["wire", "adapt", "execute", "undo", "config"];
const TEN: [&str; 10] = [
    "allow",
    "deny",
    "approve",
    "expire",
    "budget",
    "kill",
    "malformed",
    "crash_before_intent",
    "crash_after_intent",
    "lost_reply",
];

pub(super) fn check(tree: &Tree) -> Vec<Violation> {
    let folders = tree.children(POINTS);
    folders
        .iter()
        .filter_map(|name| name.strip_suffix('/'))
        .filter(|point| *point != "tests")
        .flat_map(|point| check_point(tree, point))
        .collect()
}

fn check_point(tree: &Tree, point: &str) -> Vec<Violation> {
    let mut found = Vec::new();
    let home = format!("{POINTS}/{point}");
    let mut report = |file: &str, what: String, remedy| {
        found.push(Violation { file: file.to_owned(), line: 1, rule: "point-shape", what, remedy });
    };
    let rooms = tree.children(&home);
    if !rooms.contains("mod.rs") && !tree.exists(&format!("{home}.rs")) {
        report(&home, format!("`{point}` has no mod.rs, nor `{point}.rs` beside it"), "open the point with one");
    }
    for room in ROOMS {
        if !rooms.iter().any(|name| name.starts_with(room)) {
            let what = format!("`{point}` has no `{room}`");
            report(&home, what, "every point has wire, adapt, execute, undo and config; say in it if there is nothing");
        }
    }
    let corpus = format!("{CORPUS}/{point}");
    if !tree.exists(&corpus) {
        report(&corpus, format!("`{point}` has no corpus"), "collect hostile inputs there");
    }
    let fuzzed = tree.children(FUZZ);
    let is_own = |name: &String| name.strip_suffix(".rs").is_some_and(|name| belongs(name, point));
    if !fuzzed.iter().any(is_own) {
        report(FUZZ, format!("`{point}` has no fuzz target"), "name it after the point, or `point_part.rs`");
    }
    let file = format!("{SCENARIOS}/{point}.rs");
    let folder = format!("{SCENARIOS}/{point}");
    let mut text = tree.text(&file).unwrap_or_default().to_owned();
    tree.under(&folder).filter_map(|path| tree.text(path)).for_each(|part| text.push_str(part));
    let words: Vec<&str> = text.split(|char: char| !char.is_alphanumeric() && char != '_').collect();
    for scenario in TEN {
        if !words.contains(&scenario) {
            report(&file, format!("`{point}` lacks the scenario `{scenario}`"), "write it: all points answer all ten");
        }
    }
    found
}

fn belongs(target: &str, point: &str) -> bool {
    let rest = target.strip_prefix(point);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
}
