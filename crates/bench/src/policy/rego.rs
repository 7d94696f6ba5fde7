//! The same rules in Rego, answered by regorus's bytecode machine from the same facts.
//!
//! What it is handed is made from the request directly, without Cedar. It answers whether a call runs and whether it may
//! be approved; reasons, gates and obligations it only collects.

use anyhow::{Context as _, Result};
use countersign_kernel::policy::EvaluationRequest;
use countersign_model::facts::{Certainty, SqlFacts};
use regorus::languages::rego::compiler::Compiler;
use regorus::rvm::vm::RegoVM;
use regorus::{Engine, Rc, Value};
use serde_json::json;

use super::workload::{Rule, Size, UPSTREAM, rules};

const RULE: &str = "data.bench.decision";
const HEAD: &str = "package bench\n\
    decision := {\"permits\": permits, \"forbids\": forbids, \"gates\": gates, \"obliging\": obliging}\n";

/// The machine with the program of one bundle.
pub(super) struct Machine {
    size: Size,
    vm: RegoVM,
}

impl Machine {
    /// The machine for the rules of `size`.
    pub(super) fn of(size: Size) -> Result<Self> {
        let text: String = std::iter::once(HEAD.to_owned()).chain(rules(size).map(written)).collect();
        let mut engine = Engine::new();
        engine.add_policy("bench.rego".to_owned(), text)?;
        let rule: Rc<str> = RULE.into();
        let compiled = engine.compile_with_entrypoint(&rule)?;
        let program = Compiler::compile_from_policy(&compiled, &[RULE])?;
        let mut vm = RegoVM::new();
        vm.load_program(program);
        Ok(Self { size, vm })
    }

    /// Whether it runs, and whether it may be approved.
    pub(super) fn ask(&mut self, asked: &EvaluationRequest) -> Result<(bool, bool)> {
        self.vm.set_input(Value::from_json_str(&input(self.size, asked)?)?);
        let said = self.vm.execute()?;
        let said = said.as_object()?;
        let any = |name: &str| -> Result<bool> {
            let set = said.get(&Value::from(name)).with_context(|| format!("`{name}` is missing"))?;
            Ok(!set.as_set()?.is_empty())
        };
        let ceiling = any("permits")? && !any("forbids")?;
        any("obliging")?;
        Ok((ceiling && !any("gates")?, ceiling))
    }
}

fn input(size: Size, asked: &EvaluationRequest) -> Result<String> {
    let none = SqlFacts::default();
    let sql = asked.facts.sql.as_ref().unwrap_or(&none);
    let bound = asked.facts.bound.clone().unwrap_or_default();
    let agent: usize = asked.agent.as_str().trim_start_matches('a').parse()?;
    let mut context = json!({
        "effect": asked.facts.effect.as_str(),
        "opaque": asked.facts.certainty == Certainty::Opaque,
        "sql": asked.facts.sql.is_some(),
        "kinds": sql.kinds, "tables": sql.tables, "functions": sql.functions,
        "has_where": sql.has_where, "rows_spelled": sql.rows_spelled, "statements": sql.statements,
        "hosts": bound.hosts,
        "depth": asked.depth,
        "calls": { "minute": asked.history.calls.minute },
        "token_minutes_left": asked.token_expires.since_ms(asked.now) / 60_000,
    });
    if let (Some(amount), Some(fields)) = (bound.amount_micros, context.as_object_mut()) {
        fields.insert("amount_micros".to_owned(), amount.into());
    }
    let groups = [size.group_of_agent(agent), "everybody".to_owned()];
    let asked = json!({
        "groups": groups, "action": format!("{}/{}", asked.upstream, asked.tool),
        "environment": asked.environment.as_str(), "context": context,
    });
    Ok(asked.to_string())
}

fn written(rule: Rule) -> String {
    let Rule { number, tool, group, shape } = rule;
    let bound = rule.bound();
    let of = format!("\"g{group}\" in input.groups");
    let context = "input.context";
    let one = |set: &str, who: &str, condition: &str| {
        let who = if who.is_empty() { String::new() } else { format!("{who}; ") };
        format!("{set} contains \"p{number}\" if {{ input.action == \"{UPSTREAM}/t{tool}\"; {who}{condition} }}\n")
    };
    match shape {
        0 => one("permits", &of, &format!("{context}.effect == \"read\"")),
        1 => one("permits", "", &format!("{context}.rows_spelled < {bound}; {context}.has_where")),
        2 => one("permits", &of, &format!("\"insert\" in {context}.kinds; not {context}.opaque")),
        3 => one("forbids", "", &format!("\"secrets\" in {context}.tables")),
        4 => {
            let busy = one("forbids", &of, &format!("{context}.calls.minute > {bound}00"));
            busy + &one("forbids", &of, &format!("{context}.depth > {bound}"))
        }
        5 => one("gates", "", &format!("input.environment == \"production\"; {context}.effect == \"destructive\"")),
        6 => one("gates", &of, &format!("{context}.amount_micros > {bound}000000")),
        7 => one("obliging", "", &format!("{context}.effect == \"read\"; {context}.sql")),
        8 => one("permits", "", &format!("\"api.example.com\" in {context}.hosts")),
        _ => one("forbids", &of, &format!("not {context}.token_minutes_left > 1")),
    }
}
