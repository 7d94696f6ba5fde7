//! Each rule on small strings, and all of them on this repository.

use super::{Violation, arrows, drops, leaks, links, pages, points, purity, source};
use crate::{
    tree::Tree,
    workspace::{Crate, Workspace},
};

#[test]
fn the_repository_is_tidy() {
    let root = Workspace::root().unwrap();
    let tree = Tree::read(&root).unwrap();
    let (found, _) = super::check(&tree, &Workspace::read(&root).unwrap());
    let lines: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert!(lines.is_empty(), "\n{}\n", lines.join("\n"));
}

/// `line rule` of each violation, joined by commas.
fn told(mut found: Vec<Violation>) -> String {
    found.sort();
    let short: Vec<String> = found.iter().map(|one| format!("{} {}", one.line, one.rule)).collect();
    short.join(", ")
}

const MODULE: &str = "crates/gate/src/pipeline.rs";

fn check(body: &str, expected: &str) {
    let text = format!("//! A module.\n{body}");
    let (found, _) = source::check(&Tree::of(&[(MODULE, &text)]));
    assert_eq!(told(found), expected, "in\n{text}");
}

#[test]
fn modules_open_with_their_purpose() {
    let (found, _) = source::check(&Tree::of(&[(MODULE, "fn nothing() {}\n")]));
    assert_eq!(told(found), "1 module-doc");
    let (found, _) = source::check(&Tree::of(&[("crates/gate/tests/a.rs", "fn nothing() {}\n")]));
    assert_eq!(told(found), "");
}

#[test]
fn files_end_in_time() {
    check(&"\n".repeat(599), "");
    check(&"\n".repeat(600), "600 file-length");
}

#[test]
fn functions_end_in_time() {
    check(&format!("fn f() {{\n{}}}\n", "    g();\n".repeat(68)), "");
    check(&format!("fn f() {{\n{}}}\n", "    g();\n".repeat(69)), "2 function-length");
    check(&format!("impl A {{\n    fn f(&self) {{\n{}    }}\n}}\n", "\n".repeat(69)), "3 function-length");
    let text = format!("//! T.\nfn f() {{\n{}}}\n", "    g();\n".repeat(69));
    let (found, _) = source::check(&Tree::of(&[("crates/gate/src/pipeline/tests.rs", &text)]));
    assert_eq!(told(found), "", "tests may be long");
}

#[test]
fn five_parameters_and_self() {
    check("trait A { fn f(&self, a: A, b: A, c: A, d: A, e: A); }", "");
    check("fn f(a: A, b: A, c: A, d: A, e: A, f: A) {}", "2 parameters");
}

#[test]
fn tests_live_elsewhere() {
    check("#[cfg(test)]\nmod tests;", "");
    check("#[cfg(test)]\nmod tests {}", "3 inline-tests");
    check("#[cfg(all(test, unix))]\nmod probes {}", "3 inline-tests");
    check("mod inner {}", "");
}

#[test]
fn imports_say_what_they_take() {
    check("use crate::gate::*;\nuse super::*;", "");
    check("pub(crate) use crate::*;", "2 crate-glob");
    check("use crate::{gate::Gate, *};", "2 crate-glob");
}

#[test]
fn lints_are_not_silenced() {
    check("#![allow(dead_code)]", "2 no-allow");
    check("fn f() {\n    #[allow(unused)]\n    let a = 1;\n}", "3 no-allow");
    check("#[cfg_attr(test, allow(unused))]\nfn f() {}", "2 no-allow");
    check("#[expect(unused, reason = \"shown to allow(nothing)\")]\nfn f() {}", "");
    check("// #[allow(unused)]\nconst A: &str = \"#[allow(unused)]\";", "");
}

#[test]
fn main_stays_short() {
    let path = "crates/app/src/main.rs";
    let text = |lines: usize| format!("//! M.\n{}", "\n".repeat(lines - 1));
    assert_eq!(told(source::check(&Tree::of(&[(path, &text(59))])).0), "");
    assert_eq!(told(source::check(&Tree::of(&[(path, &text(60))])).0), "60 short-main");
}

#[test]
fn sizes_are_told_in_percent() {
    let long = format!("//! L.\nfn f() {{\n{}}}\n", "\n".repeat(997));
    let (_, sizes) = source::check(&Tree::of(&[(MODULE, &long), ("xtask/src/a.rs", &"//!\n".repeat(1_000))]));
    let expected = "of 2000 lines 0.0 % lie in files over 1000 and 49.9 % in functions over 100";
    assert_eq!(sizes.to_string(), expected);
}

fn check_drop(body: &str, exceptions: &str, expected: &str) {
    let text = format!("impl Drop for Guard {{ fn drop(&mut self) {{ {body} }} }}");
    let tree = Tree::of(&[(MODULE, &text), ("xtask/drop-exceptions.txt", exceptions)]);
    assert_eq!(told(drops::check(&tree)), expected, "for `{body}`");
}

#[test]
fn drop_has_no_logic() {
    check_drop("", "", "");
    check_drop("self.count.fetch_sub(1, Ordering::Release);", "", "");
    check_drop("self.done = true", "", "");
    check_drop("if self.open { self.file.close(); }", "", "1 plain-drop");
    check_drop("self.finish();", "", "1 plain-drop");
    check_drop("a.b(); self.c.d();", "", "1 plain-drop");
    check_drop("self.a.send(|| 1);", "", "1 plain-drop");
    let excepted = format!("# why\n{MODULE} Guard it counts down and wakes\n");
    check_drop("self.finish();", &excepted, "");
    check_drop("", &excepted, "2 plain-drop");
    check_drop("", &format!("{MODULE} Guard\n"), "1 plain-drop");
}

fn graph(edges: &[(&str, &[&str])]) -> Workspace {
    let mut workspace = Workspace::default();
    for (name, deps) in edges {
        let internal = deps.iter().map(|dep| (*dep).to_owned()).collect();
        let dir = format!("crates/{name}");
        let member = Crate { dir, internal, ..Crate::default() };
        workspace.crates.insert((*name).to_owned(), member);
    }
    workspace
}

fn check_arrows(edges: &[(&str, &[&str])], page: &str, expected: &str) {
    let workspace = graph(edges);
    let manifests: Vec<String> = edges.iter().map(|(name, _)| format!("crates/{name}/Cargo.toml")).collect();
    let mut files: Vec<(&str, &str)> =
        manifests.iter().map(|path| (path.as_str(), "[lints]\nworkspace = true\n")).collect();
    files.push(("ARCHITECTURE.md", page));
    let found = arrows::check(&Tree::of(&files), &workspace);
    let told: Vec<String> = found.iter().map(|one| format!("{}: {}", one.line, one.what)).collect();
    assert_eq!(told.join(", "), expected);
}

#[test]
fn arrows_equal_cargos() {
    let edges: &[(&str, &[&str])] = &[("model", &[]), ("kernel", &["model"])];
    check_arrows(edges, "```arrows\nmodel ->\nkernel -> model\n```\n", "");
    check_arrows(edges, "```arrows\nmodel ->\nkernel ->\n```\n", "3: Cargo says `kernel -> model`");
    check_arrows(edges, "```arrows\nkernel -> model\n```\n", "1: the line `model -> ` is missing");
    check_arrows(edges, "```arrows\nmodel ->\nkernel -> model\nold -> model\n```\n", "4: Cargo knows no crate `old`");
    check_arrows(edges, "# Page\n", "1: the page has no block that opens with ```arrows");
    let missing = arrows::check(&Tree::default(), &Workspace::default());
    assert_eq!(told(missing), "1 arrows");
}

#[test]
fn arrows_point_one_way() {
    check_arrows(
        &[("model", &["kernel"]), ("kernel", &[])],
        "```arrows\nmodel -> kernel\nkernel ->\n```",
        "1: `model` must not name `kernel`",
    );
    check_arrows(
        &[("points", &["ledger"]), ("ledger", &[])],
        "```arrows\npoints -> ledger\nledger ->\n```",
        "1: `points` must not name `ledger`",
    );
    check_arrows(&[("new", &[])], "```arrows\nnew ->\n```", "1: crate `new` has no place in the design");
}

#[test]
fn libraries_name_their_errors() {
    let mut workspace = graph(&[("gate", &[])]);
    let gate = workspace.crates.get_mut("gate").unwrap();
    gate.direct.insert("anyhow".into());
    let tree = Tree::of(&[("ARCHITECTURE.md", "```arrows\ngate ->\n```")]);
    assert_eq!(told(arrows::check(&tree, &workspace)), "1 errors, 1 lints");
}

fn check_pure(name: &str, body: &str, expected: &str) {
    let path = format!("crates/{name}/src/a.rs");
    let found = purity::check(&Tree::of(&[(&path, body)]), &graph(&[(name, &[])]));
    assert_eq!(told(found), expected, "in\n{body}");
}

#[test]
fn pure_crates_name_no_world() {
    check_pure("kernel", "use std::collections::BTreeMap;\n/// A HashMap is refused.\nconst A: &str = \"rand\";", "");
    check_pure("kernel", "use std::{io,\n fs};", "2 pure");
    check_pure("kernel", "use std::{\n net::IpAddr};", "2 pure");
    check_pure("kernel", "fn f() { m!(std::fs::read(\"a\")); }", "1 pure");
    check_pure("model", "fn f() {\n let a: HashMap<A, B>;\n}", "2 pure");
    check_pure("effects", "use std::time::{Duration, Instant};", "1 pure");
    check_pure("receipt", "fn f() -> u8 { rand::random() }", "1 pure");
    check_pure("gate", "use std::fs;", "");
    check_pure("kernel", "use model::fs;\nmod net;", "");
}

#[test]
fn pure_crates_draw_in_no_runtime() {
    let mut workspace = graph(&[("kernel", &[])]);
    workspace.crates.get_mut("kernel").unwrap().drawn.insert("tokio".into());
    assert_eq!(told(purity::check(&Tree::default(), &workspace)), "1 pure");
}

#[test]
fn links_are_found() {
    let page =
        "a [b](c.md) and [`D::e`](../f.rs#L9)\n```\n[no](no.md)\n```\n`[no](no.md)` [g](https://example.org/a)\n";
    let found = links::of(page);
    let short: Vec<_> = found.iter().map(|link| (link.line, link.text, link.path())).collect();
    assert_eq!(short, [(1, "b", Some("c.md")), (1, "`D::e`", Some("../f.rs")), (5, "g", None)]);
    assert_eq!(links::resolve("docs/a.md", "../crates/./x"), Some("crates/x".into()));
    assert_eq!(links::resolve("a.md", "../x"), None);
}

fn check_page(page: &str, expected: &str) {
    let source = "//! Gate.\npub(crate) struct Gate;\nimpl Gate { fn admit(&self) {} }\nenum State { Open }\n";
    let page = format!("{page}\n| [`gate`](crates/gate) | the pipeline |\n");
    let files = [("ARCHITECTURE.md", page.as_str()), ("crates/gate/src/pipeline.rs", source)];
    let found = pages::check(&Tree::of(&files), &graph(&[("gate", &[])]));
    assert_eq!(told(found), expected, "in\n{page}");
}

#[test]
fn the_architecture_page_names_what_exists() {
    check_page("[`Gate::admit`](crates/gate/src/pipeline.rs)", "");
    check_page("[`pipeline::admit()`](crates/gate/src/pipeline.rs)", "");
    check_page("[`pipeline`](crates/gate/src/pipeline.rs) [`State::Open`](crates/gate/src/pipeline.rs)", "");
    check_page("[the pipeline](crates/gate/src/pipeline.rs)", "");
    check_page("[`refuse`](crates/gate/src/pipeline.rs)", "1 links");
    check_page("[`Door::admit`](crates/gate/src/pipeline.rs)", "1 links");
    check_page("[the pipeline](crates/gate/src/lost.rs)", "1 links");
    check_page("[the pipeline](crates/gate/src/pipeline.rs#L2)", "1 links");
    check_page("| [`door`](crates/door) |", "1 crate-list, 1 links");
    let found = pages::check(&Tree::of(&[("ARCHITECTURE.md", "")]), &graph(&[("gate", &[])]));
    assert_eq!(told(found), "1 crate-list");
    let found = pages::check(&Tree::of(&[("docs/a.md", "[a](b.md)")]), &Workspace::default());
    assert_eq!(told(found), "1 links");
}

#[test]
fn points_have_one_shape() {
    let ten = "mod allow; deny approve expire budget kill malformed crash_before_intent crash_after_intent lost_reply";
    let files = [
        ("crates/points/src/lib.rs", ""),
        ("crates/points/src/mcp/mod.rs", ""),
        ("crates/points/src/mcp/wire.rs", ""),
        ("crates/points/src/mcp/adapt/mod.rs", ""),
        ("crates/points/src/mcp/execute.rs", ""),
        ("crates/points/src/mcp/undo.rs", ""),
        ("crates/points/src/mcp/config.rs", ""),
        ("crates/points/tests/corpus/mcp/a.json", ""),
        ("fuzz/fuzz_targets/mcp_frame.rs", ""),
        ("crates/testkit/scenarios/mcp.rs", ten),
    ];
    assert_eq!(told(points::check(&Tree::of(&files))), "");
    for absent in 1..files.len() {
        let mut rest = files.to_vec();
        rest.remove(absent);
        assert_ne!(told(points::check(&Tree::of(&rest))), "", "without {:?}", files[absent]);
    }
}

#[test]
fn no_machine_is_named() {
    for folder in ["root", "home", "work"] {
        for line in [format!("/{folder}/x"), format!("see \"/{folder}/a\"")] {
            assert_eq!(told(leaks::check(&Tree::of(&[("a.md", &line)]))), "1 leaks", "in {line:?}");
        }
        for line in [format!("crates/{folder}/a"), format!("example.org/{folder}/a"), format!("~/{folder}/a")] {
            assert_eq!(told(leaks::check(&Tree::of(&[("a.md", &line)]))), "", "in {line:?}");
        }
    }
}
