//! No logic in `Drop`: what runs where nobody looks must be one plain call or assignment on a field.
//!
//! Reviewed exceptions stand in a list that can only shrink: an entry that is not needed any more fails as well.

use super::{Violation, is_production, numbered};
use crate::tree::Tree;
use std::collections::{BTreeMap, BTreeSet};
use syn::{Block, Expr, ImplItem, ItemImpl, Stmt, Type, visit::Visit};

const LIST: &str = "xtask/drop-exceptions.txt";

pub(super) fn check(tree: &Tree) -> Vec<Violation> {
    let mut excepted = BTreeMap::new();
    let mut found = Vec::new();
    for (line, entry) in numbered(tree.text(LIST).unwrap_or_default()) {
        let mut words = entry.split_whitespace();
        match (words.next(), words.next(), words.next()) {
            (None, ..) => {}
            (Some(first), ..) if first.starts_with('#') => {}
            (Some(path), Some(name), Some(_reason)) => {
                excepted.insert((path.to_owned(), name.to_owned()), line);
            }
            _ => found.push(listed(line, "not `path Type reason`".into(), "write all three")),
        }
    }
    let mut used = BTreeSet::new();
    for (path, text) in tree.texts().filter(|(path, _)| is_production(path)) {
        let Ok(file) = syn::parse_file(text) else {
            continue;
        };
        let mut search = Search { found: Vec::new() };
        search.visit_file(&file);
        for (name, line) in search.found {
            let key = (path.to_owned(), name);
            if excepted.contains_key(&key) {
                used.insert(key);
                continue;
            }
            let what = format!("`Drop` of `{}` has logic", key.1);
            let remedy = "give the type a method that ends it, or list it in xtask/drop-exceptions.txt with a reason";
            found.push(Violation { file: key.0, line, rule: "plain-drop", what, remedy });
        }
    }
    for ((path, name), line) in excepted {
        if !used.contains(&(path.clone(), name.clone())) {
            found.push(listed(line, format!("`{path} {name}` needs no exception"), "remove the line"));
        }
    }
    found
}

fn listed(line: usize, what: String, remedy: &'static str) -> Violation {
    Violation { file: LIST.into(), line, rule: "plain-drop", what, remedy }
}

struct Search {
    found: Vec<(String, usize)>,
}

impl<'ast> Visit<'ast> for Search {
    fn visit_item_impl(&mut self, item: &'ast ItemImpl) {
        let is_drop = item.trait_.as_ref().and_then(|(_, path, _)| path.segments.last());
        if is_drop.is_some_and(|segment| segment.ident == "Drop") && !item.items.iter().all(is_plain) {
            self.found.push((type_name(&item.self_ty), item.impl_token.span.start().line));
        }
        syn::visit::visit_item_impl(self, item);
    }
}

fn type_name(of: &Type) -> String {
    match of {
        Type::Path(path) => path.path.segments.last().map_or_else(String::new, |last| last.ident.to_string()),
        _ => String::new(),
    }
}

fn is_plain(item: &ImplItem) -> bool {
    match item {
        ImplItem::Fn(function) => is_plain_block(&function.block),
        _ => true,
    }
}

fn is_plain_block(block: &Block) -> bool {
    match block.stmts.as_slice() {
        [] => true,
        [Stmt::Expr(expression, _)] => match expression {
            Expr::Assign(assign) => is_value(&assign.left) && is_value(&assign.right),
            call => is_value(call),
        },
        _ => false,
    }
}

/// Fields, literals, paths, and method calls on fields: never on `self` whole, which would hide the logic one step away.
fn is_value(expression: &Expr) -> bool {
    match expression {
        Expr::Path(_) | Expr::Lit(_) => true,
        Expr::Field(field) => is_value(&field.base),
        Expr::Reference(reference) => is_value(&reference.expr),
        Expr::MethodCall(call) => {
            !matches!(&*call.receiver, Expr::Path(_)) && is_value(&call.receiver) && call.args.iter().all(is_value)
        }
        _ => false,
    }
}
