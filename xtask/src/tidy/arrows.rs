//! The edges between crates: ARCHITECTURE.md tells them as Cargo has them, and none points the wrong way.
//!
//! The page carries one fenced block, a line a crate: `gate -> effects kernel ledger model receipt`.

use super::{Violation, numbered};
use crate::{
    tree::Tree,
    workspace::{Crate, Workspace},
};
use std::collections::{BTreeMap, BTreeSet};

pub(super) const PAGE: &str = "ARCHITECTURE.md";
const FENCE: &str = "```arrows";
const REMEDY: &str = "make the block say what Cargo says, after a review of the new edge";

/// What each crate may name. An edge that is missing here is a decision about the design, not a detail.
const MAY_NAME: [(&str, &[&str]); 17] = [
    ("model", &[]),
    ("effects", &["model"]),
    ("kernel", &["model"]),
    ("policy", &["effects", "kernel", "model"]),
    ("prove", &["kernel", "model"]),
    ("receipt", &["model"]),
    ("verifier", &["model", "receipt"]),
    ("ledger", &["model", "receipt"]),
    ("index", &["model", "receipt"]),
    ("gate", &["effects", "kernel", "ledger", "model", "receipt"]),
    ("points", &["effects", "gate", "model", "receipt"]),
    ("console", &["effects", "gate", "kernel", "ledger", "model", "receipt"]),
    (
        "app",
        &[
            "console", "effects", "gate", "index", "kernel", "ledger", "model", "points", "policy", "prove", "receipt",
            "verifier",
        ],
    ),
    ("testkit", &["console", "effects", "gate", "kernel", "ledger", "model", "points", "receipt"]),
    (
        "bench",
        &["app", "console", "effects", "gate", "index", "kernel", "ledger", "model", "points", "receipt", "testkit"],
    ),
    ("fixture", &[]),
    ("xtask", &[]),
];

/// Who may depend on `anyhow`: libraries name their errors.
const ANYHOW: [&str; 4] = ["app", "bench", "fixture", "xtask"];

pub(super) fn check(tree: &Tree, workspace: &Workspace) -> Vec<Violation> {
    let mut found = told(tree, workspace);
    for (name, member) in &workspace.crates {
        found.extend(directions(name, member));
        found.extend(manners(tree, name, member));
    }
    found
}

fn directions(name: &str, member: &Crate) -> Vec<Violation> {
    let rule = MAY_NAME.iter().find(|(known, _)| *known == name);
    let Some((_, may)) = rule else {
        let what = format!("crate `{name}` has no place in the design");
        return vec![manifest(member, "arrows", what, "give it a row in xtask/src/tidy/arrows.rs, after a review")];
    };
    let wrong = member.internal.iter().filter(|dep| !may.contains(&dep.as_str()));
    wrong
        .map(|dep| {
            let remedy = "turn the edge round: pass the value in, or define the trait below";
            manifest(member, "arrows", format!("`{name}` must not name `{dep}`"), remedy)
        })
        .collect()
}

fn manners(tree: &Tree, name: &str, member: &Crate) -> Vec<Violation> {
    let mut found = Vec::new();
    if member.direct.contains("anyhow") && !ANYHOW.contains(&name) {
        let remedy = "define the error with `thiserror`";
        found.push(manifest(member, "errors", format!("`{name}` is a library and depends on anyhow"), remedy));
    }
    let text = tree.text(&format!("{}/Cargo.toml", member.dir)).unwrap_or_default();
    if !text.contains("[lints]\nworkspace = true") {
        let remedy = "write `[lints]` and under it `workspace = true`";
        found.push(manifest(member, "lints", format!("`{name}` does not take the workspace's lints"), remedy));
    }
    found
}

fn manifest(member: &Crate, rule: &'static str, what: String, remedy: &'static str) -> Violation {
    Violation { file: format!("{}/Cargo.toml", member.dir), line: 1, rule, what, remedy }
}

fn page(line: usize, what: String) -> Violation {
    Violation { file: PAGE.into(), line, rule: "arrows", what, remedy: REMEDY }
}

fn told(tree: &Tree, workspace: &Workspace) -> Vec<Violation> {
    let Some(text) = tree.text(PAGE) else {
        return vec![page(1, "the page is missing".into())];
    };
    let Some((start, lines)) = block(text) else {
        return vec![page(1, format!("the page has no block that opens with {FENCE}"))];
    };
    let mut found = Vec::new();
    let mut seen = BTreeMap::new();
    for (line, content) in lines {
        match content.split_once("->") {
            Some((name, deps)) => {
                let deps: BTreeSet<&str> = deps.split_whitespace().collect();
                if seen.insert(name.trim(), (line, deps)).is_some() {
                    found.push(page(line, format!("`{}` has two lines", name.trim())));
                }
            }
            None => found.push(page(line, format!("`{content}` is not of the form `crate -> crates`"))),
        }
    }
    for (name, member) in &workspace.crates {
        let real: BTreeSet<&str> = member.internal.iter().map(String::as_str).collect();
        let real_line = real.iter().copied().collect::<Vec<_>>().join(" ");
        match seen.remove(name.as_str()) {
            Some((_, told)) if told == real => {}
            Some((line, _)) => found.push(page(line, format!("Cargo says `{name} -> {real_line}`"))),
            None => found.push(page(start, format!("the line `{name} -> {real_line}` is missing"))),
        }
    }
    found.extend(seen.into_iter().map(|(name, (line, _))| page(line, format!("Cargo knows no crate `{name}`"))));
    found
}

/// The block's line, and what stands in it.
fn block(text: &str) -> Option<(usize, Vec<(usize, &str)>)> {
    let mut lines = numbered(text).map(|(line, content)| (line, content.trim()));
    let (start, _) = lines.find(|(_, content)| *content == FENCE)?;
    let inside = lines.take_while(|(_, content)| *content != "```");
    Some((start, inside.filter(|(_, content)| !content.is_empty()).collect()))
}
