//! The examples of the book compile, load, and lie in the layout that `policy fmt` gives.

#![expect(clippy::expect_used, reason = "what cannot be set up fails the test")]

use countersign_kernel::policy::{AgentDef, Bundle, PolicySource, TargetDef, ToolDef};
use countersign_policy::yaml::{Form, Known, compile, fmt};

const PAGES: [(&str, &str); 5] = [
    ("policy.md", include_str!("../../../docs/policy.md")),
    ("yaml.md", include_str!("../../../docs/yaml.md")),
    ("sekuire.md", include_str!("../../../docs/sekuire.md")),
    ("expacti.md", include_str!("../../../docs/expacti.md")),
    ("bundles.md", include_str!("../../../docs/bundles.md")),
];

fn source() -> PolicySource {
    let tool =
        |upstream: &str, tool: &str| ToolDef::named(upstream.parse().expect("upstream"), tool.parse().expect("tool"));
    let target = |id: &str, environment: &str| TargetDef {
        id: id.parse().expect("target"),
        environment: environment.parse().expect("environment"),
    };
    PolicySource {
        agents: vec![AgentDef {
            id: "shop".parse().expect("agent"),
            groups: vec!["agents".to_owned(), "dbas".to_owned()],
        }],
        targets: vec![target("crm", "production"), target("lab", "staging")],
        tools: vec![tool("crm", "query"), tool("crm", "send_mail"), tool("k8s", "scale"), tool("tools", "query")],
        ..PolicySource::default()
    }
}

/// The blocks of `language` on a page.
fn blocks<'a>(page: &'a str, language: &str) -> Vec<&'a str> {
    let opening = format!("```{language}\n");
    page.split(opening.as_str()).skip(1).map(|rest| rest.split("```").next().unwrap_or("")).collect()
}

fn is_policy(block: &str) -> bool {
    ["version: 1\n", "actions:\n", "rules:\n"].iter().any(|start| block.starts_with(start))
}

#[test]
fn examples_in_yaml_compile_and_load() {
    let source = source();
    let mut forms = Vec::new();
    for (page, text) in PAGES {
        for block in blocks(text, "yaml").into_iter().filter(|block| is_policy(block)) {
            let compiled = compile(page, block, &Known::of(&source)).unwrap_or_else(|problems| panic!("{problems}"));
            let policies = vec![(page.to_owned(), compiled.cedar())];
            let source = PolicySource { policies, patterns: compiled.patterns.clone(), ..source.clone() };
            Bundle::load(&source).unwrap_or_else(|error| panic!("{page}: {error}"));
            fmt::yaml(page, block).unwrap_or_else(|problems| panic!("{problems}"));
            forms.push(compiled.form);
        }
    }
    for form in [Form::Short, Form::Sekuire, Form::Expacti] {
        assert!(forms.contains(&form), "no example is in the form {}", form.as_str());
    }
}

#[test]
fn examples_in_cedar_load_together() {
    let (_, page) = PAGES[0];
    let all = blocks(page, "cedar").join("\n");
    assert!(all.contains("@gate"), "{all}");
    let source = PolicySource { policies: vec![("policy.md".to_owned(), all)], ..source() };
    Bundle::load(&source).unwrap_or_else(|error| panic!("{error}"));
}

/// What `init` writes has to compile for an installation of which nothing is known yet.
#[test]
fn the_policy_of_a_new_installation_compiles_without_warnings() {
    let text = include_str!("../../app/src/templates/policy.yaml");
    let compiled = compile("policy.yaml", text, &Known::default()).unwrap_or_else(|problems| panic!("{problems}"));
    assert!(compiled.warnings.is_empty(), "{:?}", compiled.warnings);
    assert_eq!(fmt::yaml("policy.yaml", text).unwrap_or_else(|problems| panic!("{problems}")), text);
}
