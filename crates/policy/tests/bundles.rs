//! What the baseline bundles answer: agents, tools, environments and effects in one reviewed file, and calls that show
//! each rule. `UPDATE_EXPECT=1` writes the file anew, for review.

#![expect(clippy::expect_used, clippy::panic, reason = "what cannot be set up fails the test")]

use std::fmt::Write as _;

use countersign_kernel::policy::{AgentDef, Bundle, EvaluationRequest, PolicySource, TargetDef, ToolDef};
use countersign_model::TimeMs;
use countersign_model::action::Point;
use countersign_model::facts::{Bound, Effect, Facts, SqlFacts};
use countersign_model::record::{Evaluation, History, Recent};
use countersign_policy::bundles;
use countersign_policy::yaml::Known;

/// Production under two spellings that are not the one word; only names of other places exempt.
const TARGETS: [(&str, &str); 4] =
    [("shop-db", "production"), ("legacy-db", "prod"), ("old-db", "Staging"), ("lab-db", "staging")];

/// What a team would have beside the bundles: everything may run, so that what a bundle takes away is seen.
const EVERYTHING: &str = "@id(\"everything\") permit (principal, action in Action::\"call\", resource);";

fn source(names: &[&str], own: &str) -> PolicySource {
    let mut source = PolicySource {
        agents: vec![AgentDef { id: "coder".parse().expect("agent"), groups: vec!["agents".to_owned()] }],
        targets: TARGETS
            .iter()
            .map(|(id, environment)| TargetDef {
                id: id.parse().expect("target"),
                environment: environment.parse().expect("environment"),
            })
            .collect(),
        tools: ["query", "call"]
            .iter()
            .map(|tool| ToolDef::named("up".parse().expect("upstream"), tool.parse().expect("tool")))
            .collect(),
        ..PolicySource::default()
    };
    let known = Known::of(&source);
    for name in names {
        let bundle = bundles::find(name).expect("a bundle");
        let compiled = bundle.compile(&known).unwrap_or_else(|problems| panic!("{problems}"));
        assert!(compiled.warnings.is_empty(), "{name}: {:?}", compiled.warnings);
        source.patterns.extend(compiled.patterns.clone());
        source.policies.push((compiled.file.clone(), compiled.cedar()));
    }
    source.policies.push(("own.cedar".to_owned(), own.to_owned()));
    source
}

fn loaded(names: &[&str], own: &str) -> Bundle {
    Bundle::load(&source(names, own)).unwrap_or_else(|error| panic!("{error}"))
}

fn call(facts: Facts) -> EvaluationRequest {
    EvaluationRequest {
        agent: "coder".parse().expect("agent"),
        depth: 0,
        point: Point::Mcp,
        upstream: "up".parse().expect("upstream"),
        tool: "call".parse().expect("tool"),
        target: "shop-db".parse().expect("target"),
        environment: "production".parse().expect("environment"),
        facts,
        leases: vec![],
        token_expires: TimeMs(3_600_000),
        now: TimeMs(0),
        history: History::default(),
        arguments: vec![],
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

fn facts(effect: Effect) -> Facts {
    if effect == Effect::Opaque { Facts::opaque("not bound") } else { Facts::declared(effect) }
}

/// Everything about the effect, tool and place of a call, as each bundle answers it: alone, and beside a permit for all.
fn matrix() -> String {
    let mut out = String::new();
    let mut sets: Vec<Vec<&str>> = bundles::ALL.iter().map(|bundle| vec![bundle.name]).collect();
    sets.push(bundles::ALL.iter().map(|bundle| bundle.name).filter(|name| *name != "read-only").collect());
    for names in sets {
        for (own, title) in [("", "alone"), (EVERYTHING, "beside a permit for everything")] {
            let bundle = loaded(&names, own);
            writeln!(out, "== {}, {title}", names.join(" + ")).expect("text");
            for (target, environment) in TARGETS {
                for tool in ["call", "unlisted"] {
                    writeln!(out, "coder, {tool} on {target} in {environment}").expect("text");
                    for effect in Effect::ALL {
                        let asked = EvaluationRequest {
                            tool: tool.parse().expect("tool"),
                            target: target.parse().expect("target"),
                            environment: environment.parse().expect("environment"),
                            ..call(facts(effect))
                        };
                        let answer = cell(&bundle.evaluate(&asked));
                        writeln!(out, "  {:<12} {answer}", effect.as_str()).expect("text");
                    }
                }
            }
        }
    }
    out
}

#[test]
fn the_matrix_is_the_reviewed_one() {
    expect_test::expect_file!["bundles_matrix.txt"].assert_eq(&matrix());
}
