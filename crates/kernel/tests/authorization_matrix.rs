//! The whole authorization matrix of a small bundle, as one reviewed file.
//!
//! Every agent, tool, target and effect, and what policy says to it. A change of the engine, the schema or the
//! layering shows as a change of `authorization_matrix.txt`; `UPDATE_EXPECT=1` writes it anew, for review.

#![expect(clippy::expect_used, reason = "what cannot be set up fails the test")]

use std::fmt::Write as _;

use countersign_kernel::policy::{AgentDef, Bundle, EvaluationRequest, PolicySource, TargetDef, ToolDef};
use countersign_model::TimeMs;
use countersign_model::action::Point;
use countersign_model::facts::{Effect, Facts};
use countersign_model::record::{Evaluation, History};

const POLICY: &str = r#"
@id("anyone-reads")
permit (principal, action in Action::"call", resource) when { context.effect == "read" };

@id("support-changes")
permit (principal in AgentGroup::"support", action in Action::"call", resource)
when { ["write", "destructive", "spend"].contains(context.effect) };

@id("admins-do-all")
permit (principal in AgentGroup::"admins", action, resource);

@id("nobody-spends-in-production")
forbid (principal, action, resource == Target::"shop-db") when { context.effect == "spend" };

@id("interns-only-read")
forbid (principal == Agent::"intern", action, resource) unless { context.effect == "read" };

@id("destructive-in-production")
@gate("destructive change in production") @approvers("ana,ben") @timeout("15m")
forbid (principal, action, resource)
when { resource.environment == "production" && ["destructive", "opaque"].contains(context.effect) };

@id("unbound-tools")
@gate("a tool that nobody has bound")
forbid (principal, action == Action::"unbound", resource);
"#;

fn source() -> PolicySource {
    let agent = |id: &str, groups: &[&str]| AgentDef {
        id: id.parse().expect("agent"),
        groups: groups.iter().map(ToString::to_string).collect(),
    };
    let target = |id: &str, environment: &str| TargetDef {
        id: id.parse().expect("target"),
        environment: environment.parse().expect("environment"),
    };
    PolicySource {
        policies: vec![("matrix.cedar".to_owned(), POLICY.to_owned())],
        agents: vec![
            agent("admin", &["admins"]),
            agent("helper", &["support"]),
            agent("intern", &["support"]),
            agent("visitor", &[]),
        ],
        targets: vec![target("shop-db", "production"), target("lab-db", "staging")],
        tools: vec![ToolDef::named("db".parse().expect("upstream"), "query".parse().expect("tool"))],
        patterns: vec![],
        humans: None,
    }
}

fn cell(evaluation: &Evaluation) -> String {
    if evaluation.errors.total > 0 {
        return "ERROR".to_owned();
    }
    match (evaluation.auto, evaluation.ceiling) {
        (true, _) => "allow".to_owned(),
        (false, true) => {
            let gates: Vec<_> = evaluation.gates.iter().map(|gate| gate.policy.as_str()).collect();
            format!("approve at {}", gates.join(" + "))
        }
        (false, false) if evaluation.determining.total > 0 => {
            format!("deny by {}", evaluation.determining.items.join(" + "))
        }
        (false, false) => "deny".to_owned(),
    }
}

fn matrix(bundle: &Bundle) -> String {
    let mut out = String::new();
    for agent in ["admin", "helper", "intern", "visitor", "stranger"] {
        for (target, environment) in [("shop-db", "production"), ("lab-db", "staging"), ("shop-db", "staging")] {
            for tool in ["query", "unlisted"] {
                writeln!(out, "{agent}, {tool} on {target} in {environment}").expect("text");
                for effect in Effect::ALL {
                    let facts = match effect {
                        Effect::Opaque => Facts::opaque("not bound"),
                        effect => Facts::declared(effect),
                    };
                    let evaluation = bundle.evaluate(&EvaluationRequest {
                        agent: agent.parse().expect("agent"),
                        depth: 0,
                        point: Point::Mcp,
                        upstream: "db".parse().expect("upstream"),
                        tool: tool.parse().expect("tool"),
                        target: target.parse().expect("target"),
                        environment: environment.parse().expect("environment"),
                        facts,
                        leases: vec![],
                        token_expires: TimeMs(3_600_000),
                        now: TimeMs(0),
                        history: History::default(),
                        arguments: vec![],
                    });
                    writeln!(out, "  {:<12} {}", effect.as_str(), cell(&evaluation)).expect("text");
                }
            }
        }
    }
    out
}

#[test]
fn the_matrix_is_the_reviewed_one() {
    let bundle = Bundle::load(&source()).expect("the bundle loads");
    expect_test::expect_file!["authorization_matrix.txt"].assert_eq(&matrix(&bundle));
}
