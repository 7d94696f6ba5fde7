//! Any bytes as the schema of a tool, and any bytes as its arguments: what can be read makes a schema that Cedar takes,
//! everything stays within its bounds, and nothing is allowed that is not an object with all that is required.
#![no_main]

use std::collections::BTreeMap;

use countersign_kernel::policy::arguments::{ATTRIBUTES_MAX, ArgumentTypes};
use countersign_kernel::policy::{AgentDef, Bundle, EvaluationRequest, PolicySource, TargetDef, ToolDef};
use countersign_model::TimeMs;
use countersign_model::action::Point;
use countersign_model::facts::{Effect, Facts};
use libfuzzer_sys::fuzz_target;
use serde_json::value::RawValue;

fn asked(arguments: &[u8]) -> EvaluationRequest {
    EvaluationRequest {
        agent: "a".parse().unwrap(),
        depth: 0,
        point: Point::Mcp,
        upstream: "u".parse().unwrap(),
        tool: "t".parse().unwrap(),
        target: "x".parse().unwrap(),
        environment: "e".parse().unwrap(),
        facts: Facts::declared(Effect::Write),
        leases: Vec::new(),
        token_expires: TimeMs(1),
        now: TimeMs(0),
        history: Default::default(),
        arguments: arguments.to_vec(),
    }
}

fn bundle(schema: &str) -> Bundle {
    let tool = ToolDef::named("u".parse().unwrap(), "t".parse().unwrap());
    let source = PolicySource {
        policies: vec![("a.cedar".to_owned(), "@id(\"a\") permit (principal, action, resource);".to_owned())],
        agents: vec![AgentDef { id: "a".parse().unwrap(), groups: Vec::new() }],
        targets: vec![TargetDef { id: "x".parse().unwrap(), environment: "e".parse().unwrap() }],
        tools: vec![ToolDef { input_schema: Some(schema.to_owned()), ..tool }],
        ..PolicySource::default()
    };
    Bundle::load(&source).expect("a schema that can be read makes a schema of Cedar")
}

fuzz_target!(|data: &[u8]| {
    let split = data.iter().position(|byte| *byte == 0).unwrap_or(data.len());
    let (schema, arguments) = data.split_at(split);
    let arguments = arguments.get(1..).unwrap_or_default();
    let Ok(schema) = std::str::from_utf8(schema) else { return };
    let Ok(types) = ArgumentTypes::read(schema) else { return };
    let shown = types.shown();
    assert!(shown.len() <= ATTRIBUTES_MAX && types.left_out().len() <= 4_096, "{}", types.left_out().len());
    let evaluation = bundle(schema).evaluate(&asked(arguments));
    if shown.is_empty() || arguments.is_empty() || evaluation.errors.total > 0 {
        return;
    }
    let members: BTreeMap<String, Box<RawValue>> = serde_json::from_slice(arguments).expect("allowed, so it is an object");
    for arg in shown.iter().filter(|arg| arg.required && arg.path.matches('/').count() == 1) {
        let name = arg.path.trim_start_matches('/').replace("~1", "/").replace("~0", "~");
        assert!(members.contains_key(&name), "allowed without `{name}`");
    }
});
