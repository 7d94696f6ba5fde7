//! A policy with something in every layer.

use countersign_kernel::policy::{AgentDef, Bundle, PolicySource, TargetDef, ToolDef};

pub(super) const POLICY: &str = r#"
@id("reads") permit (principal, action in Action::"call", resource) when { context.effect == "read" };
@id("changes") permit (principal in AgentGroup::"support", action in Action::"call", resource)
  when { ["write", "destructive", "spend"].contains(context.effect) };
@id("no-spend") forbid (principal, action, resource) when { context.effect == "spend" };
@id("no-drops") forbid (principal, action, resource) when { context.opaque || context.kinds.contains("drop_table") }
  unless { principal in AgentGroup::"support" };
@id("deletes") @gate("deletes in production") @approvers("ana,ben") @timeout("15m")
forbid (principal, action, resource) when { resource in Environment::"production" && context.effect == "destructive" };
@id("two-eyes") @gate("two humans") @quorum("2") @timeout("10m")
forbid (principal, action == Action::"crm/purge", resource);
@id("witnessed") @obligation("witness") permit (principal, action in Action::"call", resource)
  when { ["outbound", "destructive"].contains(context.effect) };
"#;

pub(super) fn source(policy: &str) -> PolicySource {
    let target =
        |id: &str, environment: &str| TargetDef { id: id.parse().unwrap(), environment: environment.parse().unwrap() };
    let tool = |upstream: &str, tool: &str| ToolDef::named(upstream.parse().unwrap(), tool.parse().unwrap());
    PolicySource {
        policies: vec![("main.cedar".to_owned(), policy.to_owned())],
        agents: vec![
            AgentDef { id: "shop".parse().unwrap(), groups: vec!["support".to_owned()] },
            AgentDef { id: "guest".parse().unwrap(), groups: vec![] },
        ],
        targets: vec![target("crm", "production"), target("lab", "staging")],
        tools: vec![tool("crm", "query"), tool("crm", "purge"), tool("lab", "query")],
        ..PolicySource::default()
    }
}

pub(super) fn loaded(policy: &str) -> (PolicySource, Bundle) {
    let source = source(policy);
    let bundle = Bundle::load(&source).unwrap_or_else(|error| panic!("{error}"));
    (source, bundle)
}
