//! The written pages: their links lead somewhere, and ARCHITECTURE.md names what the code really has.
//!
//! A link of that page whose text is code, such as `Gate::admit`, must find that definition in the file it points to.

use super::{Violation, arrows, links};
use crate::{tree::Tree, workspace::Workspace};
use proc_macro2::{TokenStream, TokenTree};
use std::{collections::BTreeSet, str::FromStr};
use syn::{
    Variant,
    visit::{self, Visit},
};

const KEYWORDS: [&str; 9] = ["const", "enum", "fn", "macro_rules", "mod", "static", "struct", "trait", "type"];

pub(super) fn check(tree: &Tree, workspace: &Workspace) -> Vec<Violation> {
    let mut found = Vec::new();
    for (page, text) in tree.texts().filter(|(path, _)| path.ends_with(".md")) {
        for link in links::of(text) {
            let report = |what, remedy| Violation { file: page.into(), line: link.line, rule: "links", what, remedy };
            let Some(path) = link.path() else { continue };
            let target = links::resolve(page, path).filter(|target| tree.exists(target));
            let Some(target) = target else {
                found.push(report(format!("`{path}` does not exist"), "mend the link or remove it"));
                continue;
            };
            if page != arrows::PAGE {
                continue;
            }
            if link.names_line() {
                found.push(report(format!("`{}` names a line", link.target), "link the file and name the definition"));
            }
            if let Some(names) = link.identifiers()
                && !is_told_by_path(&names, &target)
                && let Some(source) = tree.text(&target).filter(|_| target.ends_with(".rs"))
                && let Some(name) = undefined(&names, source)
            {
                found.push(report(format!("`{target}` does not define `{name}`"), "name what the code has"));
            }
        }
    }
    found.extend(crate_list(tree, workspace));
    found
}

/// A module or a crate is defined by where its file lies.
fn is_told_by_path(names: &[&str], target: &str) -> bool {
    let mut parts = target.rsplit('/').filter(|part| !matches!(*part, "mod.rs" | "lib.rs" | "main.rs" | "src"));
    let last = parts.next().map(|part| part.strip_suffix(".rs").unwrap_or(part));
    names.last().copied() == last
}

fn undefined<'a>(names: &[&'a str], source: &str) -> Option<&'a str> {
    let mut defined = Defined(BTreeSet::new());
    if let Ok(tokens) = TokenStream::from_str(source) {
        defined.tokens(tokens);
    }
    if let Ok(file) = syn::parse_file(source) {
        defined.visit_file(&file);
    }
    // Of a path, the item and the type it belongs to must be there; modules above them lie in other files.
    let last_two = names.iter().rev().take(2).rev();
    let is_module_path = |name: &str| names.len() > 1 && name.starts_with(char::is_lowercase);
    let last = names.last().copied();
    last_two.copied().find(|name| !defined.0.contains(*name) && (Some(*name) == last || !is_module_path(name)))
}

struct Defined(BTreeSet<String>);

impl Defined {
    fn tokens(&mut self, tokens: TokenStream) {
        let mut after_keyword = false;
        for token in tokens {
            match token {
                TokenTree::Ident(ident) => {
                    let name = ident.to_string();
                    let is_keyword = KEYWORDS.contains(&name.as_str());
                    // An implementation block makes its type at home here: `impl Gate { … }`.
                    let is_impl = name == "impl";
                    if after_keyword && !is_keyword {
                        self.0.insert(name);
                    }
                    after_keyword = is_keyword || is_impl;
                }
                TokenTree::Group(group) => {
                    after_keyword = false;
                    self.tokens(group.stream());
                }
                TokenTree::Punct(punct) => after_keyword = after_keyword && punct.as_char() == '!',
                TokenTree::Literal(_) => after_keyword = false,
            }
        }
    }
}

impl<'ast> Visit<'ast> for Defined {
    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        if let syn::Type::Path(of) = &*item.self_ty
            && let Some(last) = of.path.segments.last()
        {
            self.0.insert(last.ident.to_string());
        }
        visit::visit_item_impl(self, item);
    }

    fn visit_variant(&mut self, variant: &'ast Variant) {
        self.0.insert(variant.ident.to_string());
        visit::visit_variant(self, variant);
    }
}

/// A table of the page has one row a crate, and its first cell is the link: ``| [`gate`](crates/gate) | …``.
fn crate_list(tree: &Tree, workspace: &Workspace) -> Vec<Violation> {
    let Some(text) = tree.text(arrows::PAGE) else {
        return Vec::new();
    };
    let mut missing: BTreeSet<&String> = workspace.crates.keys().collect();
    let mut found = Vec::new();
    let report = |line, what| {
        let remedy = "give each crate one row that opens with | [`name`](folder) |";
        Violation { file: arrows::PAGE.into(), line, rule: "crate-list", what, remedy }
    };
    let rows: BTreeSet<usize> = super::numbered(text)
        .filter(|(_, content)| content.trim_start().starts_with("| [`"))
        .map(|(line, _)| line)
        .collect();
    let mut seen = BTreeSet::new();
    for link in links::of(text).into_iter().filter(|link| rows.contains(&link.line)) {
        if !seen.insert(link.line) {
            continue; // only the first cell of a row
        }
        let name = link.text.trim_matches('`').to_owned();
        let folder = link.target.trim_end_matches('/');
        let is_crate_row = folder == "xtask" || (folder.starts_with("crates/") && folder.matches('/').count() == 1);
        match workspace.crates.get(&name) {
            Some(member) if member.dir == folder => {
                missing.remove(&name);
            }
            _ if is_crate_row => found.push(report(link.line, format!("Cargo knows no crate `{name}` in `{folder}`"))),
            _ => {}
        }
    }
    found.extend(missing.into_iter().map(|name| report(1, format!("no row for crate `{name}`"))));
    found
}
