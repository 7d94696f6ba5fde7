//! The pure crates: what they compute is a function of what they are given, or replay is worth nothing.
//!
//! Clippy refuses some of these types by path; this check refuses the names, and the runtime below them.

use super::{Violation, is_production};
use crate::{tree::Tree, workspace::Workspace};
use proc_macro2::{Spacing, TokenStream, TokenTree};
use std::str::FromStr;
use syn::{
    ItemUse, UseTree,
    visit::{self, Visit},
};

const PURE: [&str; 6] = ["model", "effects", "kernel", "policy", "receipt", "verifier"];
const NAMES: [&str; 6] = ["SystemTime", "Instant", "HashMap", "HashSet", "rand", "getrandom"];
const STD_MODULES: [&str; 2] = ["fs", "net"];
const RUNTIME: &str = "tokio";

pub(super) fn check(tree: &Tree, workspace: &Workspace) -> Vec<Violation> {
    let mut found = Vec::new();
    for name in PURE {
        let Some(member) = workspace.crates.get(name) else {
            continue;
        };
        if member.drawn.contains(RUNTIME) {
            let file = format!("{}/Cargo.toml", member.dir);
            let what = format!("`{name}` is pure and draws in {RUNTIME}");
            let remedy = "find the edge with `cargo tree -e normal -i tokio` and cut it";
            found.push(Violation { file, line: 1, rule: "pure", what, remedy });
        }
        let sources = format!("{}/src", member.dir);
        for path in tree.under(&sources).filter(|path| is_production(path)) {
            for (line, what) in impure(tree.text(path).unwrap_or_default()) {
                let what = format!("a pure crate names `{what}`");
                let remedy = "take it as an argument; for collections, use one with an order";
                found.push(Violation { file: path.to_owned(), line, rule: "pure", what, remedy });
            }
        }
    }
    found
}

/// Lines and names. Comments and texts do not count; a file that does not parse is reported elsewhere.
fn impure(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    if let Ok(tokens) = TokenStream::from_str(text) {
        walk(tokens, &mut found);
    }
    if let Ok(file) = syn::parse_file(text) {
        let mut groups = Groups { found: Vec::new() };
        groups.visit_file(&file);
        found.append(&mut groups.found);
    }
    found
}

/// Finds the names anywhere, and `std::fs` written out, in macros too.
fn walk(tokens: TokenStream, found: &mut Vec<(usize, String)>) {
    let mut after_std = 0; // 1: `std`, 2: `std:`, 3: `std::`
    for token in tokens {
        after_std = match &token {
            TokenTree::Ident(ident) => {
                let name = ident.to_string();
                let line = ident.span().start().line;
                if NAMES.contains(&name.as_str()) {
                    found.push((line, name.clone()));
                } else if after_std == 3 && STD_MODULES.contains(&name.as_str()) {
                    found.push((line, format!("std::{name}")));
                }
                usize::from(name == "std")
            }
            TokenTree::Punct(punct) if punct.as_char() == ':' => match (after_std, punct.spacing()) {
                (1, Spacing::Joint) => 2,
                (2, _) => 3,
                _ => 0,
            },
            TokenTree::Punct(_) | TokenTree::Literal(_) => 0,
            TokenTree::Group(group) => {
                walk(group.stream(), found);
                0
            }
        };
    }
}

/// Finds `use std::{fs, net}`, which has no `std::fs` in it.
struct Groups {
    found: Vec<(usize, String)>,
}

impl<'ast> Visit<'ast> for Groups {
    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        if let UseTree::Path(path) = &item.tree
            && path.ident == "std"
            && let UseTree::Group(group) = &*path.tree
        {
            for tree in &group.items {
                let ident = match tree {
                    UseTree::Path(path) => &path.ident,
                    UseTree::Name(name) => &name.ident,
                    UseTree::Rename(rename) => &rename.ident,
                    UseTree::Glob(_) | UseTree::Group(_) => continue,
                };
                if STD_MODULES.iter().any(|module| ident == module) {
                    self.found.push((ident.span().start().line, format!("std::{ident}")));
                }
            }
        }
        visit::visit_item_use(self, item);
    }
}
