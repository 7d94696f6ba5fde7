//! `policy convert`: the Cedar that a policy file in YAML becomes.

use anyhow::{Context as _, Result};
use countersign_policy::bundles;
use countersign_policy::yaml::{self, Compiled};
use serde_json::json;

use crate::cli::Convert;
use crate::config::Config;
use crate::context::Context;
use crate::keys::write_new;
use crate::policies::{drawn, is_yaml};
use crate::terminal::{Exit, usage};

/// Runs the command.
pub(crate) fn run(asked: &Convert, context: &Context) -> Result<Exit> {
    let config = Config::load(&context.layout.config()).map_err(|error| usage(drawn(&error)))?;
    let known = config.known();
    let (compiled, text) = if let Some(name) = asked.file.strip_prefix("bundle:") {
        let bundle = bundles::find(name).map_err(|error| usage(error.to_string()))?;
        (bundle.compile(&known), bundle.policy.to_owned())
    } else {
        if !is_yaml(&asked.file) {
            return Err(usage(format!("`{}` is no YAML file; only `.yaml` is converted", asked.file)));
        }
        let text = std::fs::read_to_string(&asked.file).with_context(|| format!("cannot read `{}`", asked.file))?;
        (yaml::compile(&asked.file, &text, &known), text)
    };
    let compiled = compiled.map_err(|problems| match context.out.json {
        true => usage(problems.lines()),
        false => usage(drawn(&problems.into())),
    })?;
    let cedar = compiled.cedar();
    let written = asked.write.as_ref().map(|out| {
        write_new(out, cedar.as_bytes()).with_context(|| format!("cannot write `{}`", out.display()))?;
        anyhow::Ok(out)
    });
    let written = written.transpose()?;
    if !compiled.warnings.is_empty() && !context.out.json {
        anstream::eprint!("{}", yaml::drawn(&compiled.file, &text, &compiled.warnings, false));
    }
    let shown = match written {
        Some(out) => format!("wrote {} policies to {}", compiled.policies.len(), out.display()),
        None => format!("{}{cedar}", besides(&compiled)),
    };
    context.out.result(&value(&compiled, &cedar), &shown);
    Ok(Exit::Done)
}

/// What a file says that is not Cedar, as comments.
fn besides(compiled: &Compiled) -> String {
    let patterns = compiled.patterns.iter().map(|pattern| {
        let argument = pattern.argument.as_ref().map_or_else(String::new, |name| format!(" of argument {name:?}"));
        let kind = format!("{:?}", pattern.kind).to_lowercase();
        format!("// Pattern `{}`: {kind} {:?}{argument}\n", pattern.id, pattern.text)
    });
    let budgets = compiled.budgets.iter().map(|budget| {
        let window = budget.window_ms.map_or_else(String::new, |ms| format!(" in {} s", ms / 1_000));
        let scope = format!("{:?}", budget.scope).to_lowercase();
        format!("// Budget: {} calls per {scope}{window}\n", budget.cap)
    });
    patterns.chain(budgets).collect()
}

fn value(compiled: &Compiled, cedar: &str) -> serde_json::Value {
    let policies = compiled.policies.iter().map(|policy| {
        let span = compiled.sources.get(&policy.id).copied().unwrap_or_default();
        json!({"id": policy.id, "rule": policy.rule, "line": span.line, "last_line": span.last_line, "cedar": policy.cedar})
    });
    let patterns = compiled.patterns.iter().map(|pattern| {
        json!({"id": pattern.id.as_str(), "kind": format!("{:?}", pattern.kind).to_lowercase(), "text": pattern.text,
            "argument": pattern.argument})
    });
    let warnings = compiled
        .warnings
        .iter()
        .map(|warning| json!({"line": warning.span.line, "message": warning.message, "help": warning.help}));
    json!({
        "file": compiled.file, "form": compiled.form.as_str(), "cedar": cedar, "budgets": compiled.budgets.len(),
        "policies": policies.collect::<Vec<_>>(), "patterns": patterns.collect::<Vec<_>>(),
        "warnings": warnings.collect::<Vec<_>>(),
    })
}
