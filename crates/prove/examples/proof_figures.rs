//! How long proofs take with 10, 100 and 300 rules: `cargo run -p countersign-prove --example proof_figures`.

use std::error::Error;

use countersign_kernel::policy::{AgentDef, Bundle, PolicySource, TargetDef, ToolDef};
use countersign_prove::{Limits, Property, Prover, Side, Solver, diff, prove};

/// Rules of all layers, each about one of ten tools and a few facts; every fifth about every tool.
fn policy(rules: usize) -> String {
    let mut text = String::from(
        "@id(\"drops\") forbid (principal, action, resource) when { context.kinds.contains(\"drop_table\") } \
         unless { principal in AgentGroup::\"dba\" };\n",
    );
    for number in 1..rules {
        let tool = number % 10;
        let scope = if number % 5 == 0 { "action".to_owned() } else { format!("action == Action::\"crm/t{tool}\"") };
        let line = match number % 4 {
            0 => format!(
                "@id(\"g{number}\") @gate(\"g\") forbid (principal, {scope}, resource) when {{ context.rows_spelled > {number} && resource.environment == \"production\" }};\n"
            ),
            1 => format!(
                "@id(\"p{number}\") permit (principal in AgentGroup::\"team\", {scope}, resource) when {{ context.effect == \"write\" && context.tables.contains(\"t{number}\") }};\n"
            ),
            2 => format!(
                "@id(\"r{number}\") permit (principal, {scope}, resource) when {{ context.effect == \"read\" && context.depth < {number} }};\n"
            ),
            _ => format!(
                "@id(\"f{number}\") forbid (principal, {scope}, resource) when {{ context has amount_micros && context.amount_micros > {number}000000 }};\n"
            ),
        };
        text.push_str(&line);
    }
    text
}

fn source(rules: usize) -> Result<PolicySource, Box<dyn Error>> {
    let tools = (0..10).map(|number| Ok(ToolDef::named("crm".parse()?, format!("t{number}").parse()?)));
    let agent =
        |id: &str, group: &str| Ok::<_, Box<dyn Error>>(AgentDef { id: id.parse()?, groups: vec![group.to_owned()] });
    Ok(PolicySource {
        policies: vec![("p.cedar".to_owned(), policy(rules))],
        agents: vec![agent("a", "team")?, agent("b", "dba")?],
        targets: vec![TargetDef { id: "crm".parse()?, environment: "production".parse()? }],
        tools: tools.collect::<Result<_, Box<dyn Error>>>()?,
        ..PolicySource::default()
    })
}

fn main() -> Result<(), Box<dyn Error>> {
    let prover = Prover::new(Solver::find(None, Limits { time_ms: 60_000, ..Limits::default() })?);
    let quiet: (&dyn Fn(usize), &(dyn Fn() + Sync)) = (&|_| (), &|| ());
    for rules in [10, 100, 300] {
        let old = source(rules)?;
        let before = Bundle::load(&old)?;
        let property = Property {
            id: "drops".to_owned(),
            text: "no agent outside dba drops a table".to_owned(),
            never: Some(countersign_prove::Scope {
                agents_outside: Some(vec!["dba".to_owned()]),
                when: countersign_prove::When { kinds: Some(vec!["drop_table".to_owned()]), ..Default::default() },
                ..Default::default()
            }),
            ..Property::default()
        };
        let report = prove((&before, &old), &[property], &prover, quiet)?;
        let each = |took: u128, questions: usize| took / u128::try_from(questions.max(1)).unwrap_or(1);
        println!(
            "{rules} rules: prove: {} of {} proven, {} questions in {} ms, {} ms each",
            report.findings.iter().filter(|finding| finding.verdict == countersign_prove::Verdict::Proven).count(),
            report.findings.len(),
            report.questions,
            report.took_ms,
            each(report.took_ms, report.questions)
        );
        for (what, more) in [
            ("narrower", "@id(\"x\") forbid (principal, action, resource) when { context.depth > 3 };"),
            ("wider", "@id(\"x\") permit (principal, action, resource) when { context.effect == \"spawn\" };"),
        ] {
            let mut new = old.clone();
            new.policies.push(("more.cedar".to_owned(), more.to_owned()));
            let after = Bundle::load(&new)?;
            let sides = (Side { bundle: &before, source: &old }, Side { bundle: &after, source: &new });
            let found = diff(sides.0, sides.1, &prover, quiet)?;
            println!(
                "{rules} rules, one more, {what}: {} widenings, {} open, {} questions in {} ms, {} ms each",
                found.widenings.len(),
                found.open.len(),
                found.questions,
                found.took_ms,
                each(found.took_ms, found.questions)
            );
        }
    }
    Ok(())
}
