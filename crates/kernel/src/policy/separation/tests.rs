//! Which permits are found, and which say enough of where they hold.

use std::collections::BTreeSet;

use super::{Reach, spanning};
use crate::policy::{Bundle, PolicySource};
use crate::tests::fixture;

/// Permits that span, as `POLICY SEVERITY AGENTS in ENVIRONMENTS`.
fn found(policy: &str, tools: &[&str]) -> Vec<String> {
    let source = PolicySource { policies: vec![("main.cedar".to_owned(), policy.to_owned())], ..fixture::source() };
    let bundle = Bundle::load(&source).unwrap_or_else(|error| panic!("{error}"));
    let reach: BTreeSet<Reach> = tools
        .iter()
        .flat_map(|tool| [("crm", "production"), ("lab", "staging")].map(|place| (tool, place)))
        .map(|(tool, (target, environment))| Reach {
            upstream: "crm".parse().unwrap(),
            tool: tool.parse().unwrap(),
            target: target.parse().unwrap(),
            environment: environment.parse().unwrap(),
        })
        .collect();
    let (found, complete) = spanning(&source, &bundle, &reach);
    assert!(complete);
    let words = |set: &BTreeSet<String>| set.iter().cloned().collect::<Vec<_>>().join(",");
    found
        .iter()
        .map(|one| {
            let agents = one.agents.iter().map(ToString::to_string).collect();
            let places = one.environments.iter().map(ToString::to_string).collect();
            format!("{} {} {} in {}", one.policy, one.severity.as_str(), words(&agents), words(&places))
        })
        .collect()
}

fn check(policy: &str, expected: &[&str]) {
    assert_eq!(found(policy, &["query", "anything"]), expected, "{policy}");
}

#[test]
fn only_permits_that_span_and_do_not_say_so() {
    check(r#"@id("all") permit (principal, action, resource);"#, &["all high guest,shop in production,staging"]);
    check(
        r#"@id("some") permit (principal in AgentGroup::"support", action == Action::"crm/query", resource) when { context.effect == "write" };"#,
        &["some high shop in production,staging"],
    );
    for silent in [
        r#"@id("reads") permit (principal, action, resource) when { context.effect == "read" };"#,
        r#"@id("both") permit (principal, action, resource) when { ["production", "staging"].contains(resource.environment) };"#,
        r#"@id("place") permit (principal, action, resource in Environment::"staging");"#,
        r#"@id("target") permit (principal, action, resource == Target::"lab");"#,
        r#"@id("a") permit (principal, action, resource); @id("f") forbid (principal, action, resource) when { resource.environment == "production" };"#,
        r#"@id("o") @obligation("witness") permit (principal, action, resource);"#,
    ] {
        check(silent, &[]);
    }
}

#[test]
fn a_human_in_between_makes_it_milder() {
    let policy = r#"
        @id("all") permit (principal, action, resource);
        @id("gate") @gate("g") forbid (principal, action, resource) when { resource.environment == "production" };"#;
    check(policy, &["all low guest,shop in production,staging"]);
}
