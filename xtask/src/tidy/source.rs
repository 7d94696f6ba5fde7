//! Rules on one source file: its size, its functions, its imports, its attributes.
//!
//! Production files carry all of them. Tests may be long, but they too take no lint silently and no glob of the crate.

use super::{Violation, is_production};
use crate::tree::Tree;
use proc_macro2::{TokenStream, TokenTree};
use std::fmt;
use syn::{
    Attribute, Block, FnArg, ImplItemFn, ItemFn, ItemMod, ItemUse, Meta, Signature, TraitItemFn, UseTree,
    visit::{self, Visit},
};

const FILE_LINES_MAX: usize = 600;
const FUNCTION_LINES_MAX: usize = 70;
const PARAMETERS_MAX: usize = 5;
const MAIN: &str = "crates/app/src/main.rs";
const MAIN_LINES_BELOW: usize = 60;
/// The two figures by which code bases are compared.
const LARGE_FILE_LINES: usize = 1_000;
const LARGE_FUNCTION_LINES: usize = 100;

/// How much of the production code lies in large files and functions.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sizes {
    pub(super) files: usize,
    lines: usize,
    in_large_files: usize,
    in_large_functions: usize,
}

impl fmt::Display for Sizes {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            to,
            "of {} lines {} lie in files over {LARGE_FILE_LINES} and {} in functions over {LARGE_FUNCTION_LINES}",
            self.lines,
            percent(self.in_large_files, self.lines),
            percent(self.in_large_functions, self.lines),
        )
    }
}

fn percent(part: usize, whole: usize) -> String {
    let tenths = part.saturating_mul(1_000).checked_div(whole).unwrap_or(0);
    format!("{}.{} %", tenths / 10, tenths % 10)
}

pub(super) fn check(tree: &Tree) -> (Vec<Violation>, Sizes) {
    let (mut found, mut sizes) = (Vec::new(), Sizes::default());
    for (path, text) in tree.texts().filter(|(path, _)| path.ends_with(".rs")) {
        let production = is_production(path);
        let mut rules = Rules { path, production, found: Vec::new(), long_functions: 0 };
        match syn::parse_file(text) {
            Ok(file) => rules.visit_file(&file),
            Err(error) if production => {
                let line = error.span().start().line;
                rules.report(line, "parses", format!("cannot be read: {error}"), "make it compile");
            }
            Err(_) => {} // a case of a compile-fail test
        }
        if production {
            let lines = text.lines().count();
            rules.whole_file(text, lines);
            sizes.files = sizes.files.saturating_add(1);
            sizes.lines = sizes.lines.saturating_add(lines);
            sizes.in_large_functions = sizes.in_large_functions.saturating_add(rules.long_functions);
            if lines > LARGE_FILE_LINES {
                sizes.in_large_files = sizes.in_large_files.saturating_add(lines);
            }
        }
        found.append(&mut rules.found);
    }
    (found, sizes)
}

struct Rules<'a> {
    path: &'a str,
    production: bool,
    found: Vec<Violation>,
    long_functions: usize,
}

impl Rules<'_> {
    fn report(&mut self, line: usize, rule: &'static str, what: String, remedy: &'static str) {
        self.found.push(Violation { file: self.path.to_owned(), line, rule, what, remedy });
    }

    fn whole_file(&mut self, text: &str, lines: usize) {
        if !text.starts_with("//!") {
            let remedy = "open with `//!`: what it is for, what it must not know, what it does not cover";
            self.report(1, "module-doc", "the module says nothing about itself".into(), remedy);
        }
        if lines > FILE_LINES_MAX {
            let what = format!("{lines} lines, at most {FILE_LINES_MAX}");
            self.report(FILE_LINES_MAX, "file-length", what, "split it where two subjects meet");
        }
        if self.path == MAIN && lines >= MAIN_LINES_BELOW {
            let what = format!("{lines} lines, fewer than {MAIN_LINES_BELOW} allowed");
            self.report(MAIN_LINES_BELOW, "short-main", what, "move it into the module that it belongs to");
        }
    }

    fn function(&mut self, signature: &Signature, block: Option<&Block>) {
        if !self.production {
            return;
        }
        let line = signature.fn_token.span.start().line;
        let name = &signature.ident;
        let parameters = signature.inputs.iter().filter(|input| matches!(input, FnArg::Typed(_))).count();
        if parameters > PARAMETERS_MAX {
            let what = format!("`{name}` takes {parameters} parameters, at most {PARAMETERS_MAX}");
            self.report(line, "parameters", what, "give those that travel together a type");
        }
        let Some(block) = block else { return };
        let last = block.brace_token.span.close().end().line;
        let lines = last.saturating_sub(line).saturating_add(1);
        if lines > FUNCTION_LINES_MAX {
            let what = format!("`{name}` has {lines} lines, at most {FUNCTION_LINES_MAX}");
            self.report(line, "function-length", what, "name its parts and call them");
        }
        if lines > LARGE_FUNCTION_LINES {
            self.long_functions = self.long_functions.saturating_add(lines);
        }
    }
}

impl<'ast> Visit<'ast> for Rules<'_> {
    fn visit_item_fn(&mut self, item: &'ast ItemFn) {
        self.function(&item.sig, Some(&item.block));
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast ImplItemFn) {
        self.function(&item.sig, Some(&item.block));
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast TraitItemFn) {
        self.function(&item.sig, item.default.as_ref());
        visit::visit_trait_item_fn(self, item);
    }

    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        let for_tests = item.attrs.iter().any(|attribute| attribute.path().is_ident("cfg") && names_test(attribute));
        if self.production && item.content.is_some() && (for_tests || item.ident == "tests") {
            let what = format!("`{}` holds tests inside a production file", item.ident);
            let remedy = "move them into a sibling `tests.rs` and leave `mod tests;`";
            self.report(item.mod_token.span.start().line, "inline-tests", what, remedy);
        }
        visit::visit_item_mod(self, item);
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        if let UseTree::Path(path) = &item.tree
            && path.ident == "crate"
            && is_glob(&path.tree)
        {
            let line = item.use_token.span.start().line;
            self.report(line, "crate-glob", "imports the whole crate".into(), "name what is used");
        }
        visit::visit_item_use(self, item);
    }

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        if silences(attribute) {
            let line = attribute.pound_token.span.start().line;
            let remedy = "mend what the lint says, or use `#[expect(…, reason = \"…\")]`";
            self.report(line, "no-allow", "a lint is switched off".into(), remedy);
        }
        visit::visit_attribute(self, attribute);
    }
}

fn is_glob(tree: &UseTree) -> bool {
    match tree {
        UseTree::Glob(_) => true,
        UseTree::Group(group) => group.items.iter().any(is_glob),
        UseTree::Path(_) | UseTree::Name(_) | UseTree::Rename(_) => false,
    }
}

fn silences(attribute: &Attribute) -> bool {
    if attribute.path().is_ident("allow") {
        return true;
    }
    match &attribute.meta {
        Meta::List(list) if list.path.is_ident("cfg_attr") => names(&list.tokens, "allow"),
        Meta::List(_) | Meta::Path(_) | Meta::NameValue(_) => false,
    }
}

fn names_test(attribute: &Attribute) -> bool {
    match &attribute.meta {
        Meta::List(list) => names(&list.tokens, "test"),
        Meta::Path(_) | Meta::NameValue(_) => false,
    }
}

fn names(tokens: &TokenStream, name: &str) -> bool {
    tokens.clone().into_iter().any(|token| match token {
        TokenTree::Ident(ident) => ident == name,
        TokenTree::Group(group) => names(&group.stream(), name),
        TokenTree::Punct(_) | TokenTree::Literal(_) => false,
    })
}
