//! Policy files of any bytes: no panic; what compiles holds exactly its policies; what loads lets nothing run that was not
//! understood unless the text speaks of that; and what is laid out compiles to the same.
#![no_main]

use std::sync::LazyLock;

use countersign_kernel::policy::{AgentDef, Bundle, EvaluationRequest, PolicySource, TargetDef, ToolDef};
use countersign_model::TimeMs;
use countersign_model::action::Point;
use countersign_model::facts::Facts;
use countersign_model::record::History;
use countersign_policy::yaml::{Compiled, Known, compile, fmt};
use libfuzzer_sys::fuzz_target;

static SOURCE: LazyLock<PolicySource> = LazyLock::new(|| PolicySource {
    agents: vec![AgentDef { id: "shop".parse().expect("agent"), groups: vec!["agents".to_owned()] }],
    targets: vec![TargetDef {
        id: "crm".parse().expect("target"),
        environment: "production".parse().expect("environment"),
    }],
    tools: vec![ToolDef::named("crm".parse().expect("upstream"), "query".parse().expect("tool"))],
    ..PolicySource::default()
});
static KNOWN: LazyLock<Known> = LazyLock::new(|| Known::of(&SOURCE));

fn not_understood(tool: &str) -> EvaluationRequest {
    EvaluationRequest {
        agent: "shop".parse().expect("agent"),
        depth: 0,
        point: Point::Mcp,
        upstream: "crm".parse().expect("upstream"),
        tool: tool.parse().expect("tool"),
        target: "crm".parse().expect("target"),
        environment: "production".parse().expect("environment"),
        facts: Facts::opaque("not understood"),
        leases: vec![],
        token_expires: TimeMs(3_600_000),
        now: TimeMs(0),
        history: History::default(),
        arguments: vec![],
    }
}

fn texts(compiled: &Compiled) -> Vec<&str> {
    compiled.policies.iter().map(|policy| policy.cedar.as_str()).collect()
}

fuzz_target!(|text: &str| {
    let Ok(compiled) = compile("p.yaml", text, &KNOWN) else { return };
    if let Ok(laid_out) = fmt::yaml("p.yaml", text) {
        let again = compile("p.yaml", &laid_out, &KNOWN).expect("what is laid out compiles");
        assert_eq!(texts(&compiled), texts(&again));
    }
    let policies = vec![("p.yaml".to_owned(), compiled.cedar())];
    let source = PolicySource { policies, patterns: compiled.patterns.clone(), ..SOURCE.clone() };
    let Ok(bundle) = Bundle::load(&source) else { return };
    // An escape may spell the word too.
    if !text.contains("opaque") && !text.contains('\\') {
        for tool in ["query", "unlisted"] {
            let evaluation = bundle.evaluate(&not_understood(tool));
            assert!(!evaluation.auto && !evaluation.ceiling, "what was not understood may run");
        }
    }
});
