//! How long mutation of 1,000 rules takes with 200 cases: build it with
//! `cargo build -p countersign-policy --example mutation_figures`, then run it under `time`, for this crate reads no clock.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;

use countersign_kernel::policy::{AgentDef, Bundle, PolicySource, TargetDef, ToolDef};
use countersign_policy::cases::{Setting, Upstream, mutate, parse};

fn main() -> Result<(), Box<dyn Error>> {
    let mut policy = String::new();
    for number in 0..500 {
        let tool = number % 50;
        writeln!(
            policy,
            "@id(\"p{number}\") permit (principal, action == Action::\"crm/t{tool}\", resource) when {{ context.rows_spelled == {number} }};"
        )?;
        writeln!(
            policy,
            "@id(\"f{number}\") forbid (principal, action in Action::\"call\", resource) when {{ context.rows_spelled == {number} && context.depth > 2 }};"
        )?;
    }
    let mut cases = String::from("cases:\n");
    for number in 0..200 {
        let tool = number % 50;
        writeln!(
            cases,
            "  - {{ name: c{number}, action: {{ agent: a, tool: crm/t{tool} }}, facts: {{ rows_spelled: {number} }}, expect: {{ verdict: allow }} }}"
        )?;
    }
    let tools = (0..50).map(|number| Ok(ToolDef::named("crm".parse()?, format!("t{number}").parse()?)));
    let source = PolicySource {
        policies: vec![("p.cedar".to_owned(), policy)],
        agents: vec![AgentDef { id: "a".parse()?, groups: vec![] }],
        targets: vec![TargetDef { id: "crm".parse()?, environment: "production".parse()? }],
        tools: tools.collect::<Result<_, Box<dyn Error>>>()?,
        ..PolicySource::default()
    };
    let bundle = Bundle::load(&source)?;
    let crm = Upstream { target: "crm".parse()?, environment: "production".parse()?, tools: BTreeMap::new() };
    let upstreams = BTreeMap::from([("crm".parse()?, crm)]);
    let setting = Setting { bundle: &bundle, source: &source, upstreams: &upstreams };
    let cases = parse("cases.yaml", &cases, &setting)?;
    let found = mutate(&cases, &setting, || ())?;
    println!(
        "1,000 rules, {} cases: {} changes, {} answers, {} noticed",
        cases.len(),
        found.noticed + found.survivors.len(),
        found.tally.answers,
        found.noticed
    );
    Ok(())
}
