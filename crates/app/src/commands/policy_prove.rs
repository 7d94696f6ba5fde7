//! `policy prove`: what is true of every call.

use std::path::Path;

use anyhow::{Context as _, Result};
use countersign_model::preview::visible;
use countersign_policy::read::yaml;
use countersign_prove::{Finding, Limits, Property, PropertyFile, Prover, Report, Solver, Verdict, prove};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::cli::{Prove, Solving};
use crate::compose::source;
use crate::config::duration_ms;
use crate::context::Context;
use crate::terminal::{BAD, Exit, FAINT, GOOD, WAIT, usage};

/// Rules are trees, and whoever walks them does so by recursion.
const STACK_BYTES: usize = 64 * 1024 * 1024;

/// Runs the command.
pub(crate) async fn run(command: Prove, context: &Context) -> Result<Exit> {
    let prover = prover(&command.solving)?;
    let (config, bundle) = super::policy::load(&context.layout)?;
    let source = source(&config)?;
    let properties = properties(&command, context.layout.root())?;
    let bar = bar(!context.out.json);
    let shown = bar.clone();
    let report = on_large_stack(move || {
        let begin = |all: usize| bar.set_length(u64::try_from(all).unwrap_or(u64::MAX));
        prove((&bundle, &source), &properties, &prover, (&begin, &|| bar.inc(1)))
    })
    .await?
    .map_err(usage)?;
    shown.finish_and_clear();
    context.out.result(&json(&report), &text(&report));
    Ok(if report.is_proven() { Exit::Done } else { Exit::Unverified })
}

/// The prover that the options name.
pub(super) fn prover(solving: &Solving) -> Result<Prover> {
    let time_ms = duration_ms(&solving.time_limit).map_err(|error| usage(format!("in `--time-limit`: {error}")))?;
    let limits = Limits { time_ms, ..Limits::default() };
    let solver = Solver::find(solving.solver.as_deref(), limits).map_err(|error| usage(error.to_string()))?;
    Ok(Prover::new(solver))
}

/// Does long work on a thread of its own.
pub(super) async fn on_large_stack<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let (done, result) = tokio::sync::oneshot::channel();
    let work = move || {
        // Nobody waits any more only where the command is over.
        let _ = done.send(work());
    };
    std::thread::Builder::new().stack_size(STACK_BYTES).spawn(work)?;
    result.await.context("the work broke off")
}

fn properties(command: &Prove, root: &Path) -> Result<Vec<Property>> {
    let own = root.join("policy").join("properties.yaml");
    let files = match command.properties.as_slice() {
        [] if own.exists() => vec![own],
        files => files.to_vec(),
    };
    let mut all: Vec<Property> = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file)
            .map_err(|error| usage(format!("cannot read the properties `{}`: {error}", file.display())))?;
        let read: PropertyFile = yaml(&file.display().to_string(), &text).map_err(|error| usage(error.to_string()))?;
        if read.properties.is_empty() {
            return Err(usage(format!("`{}` states no property; state one, or remove the file", file.display())));
        }
        for property in read.properties {
            if all.iter().any(|other| other.id == property.id) {
                return Err(usage(format!("two properties are called `{}`; rename one", property.id)));
            }
            all.push(property);
        }
    }
    Ok(all)
}

/// A bar that counts questions, where there is a terminal to show it.
pub(super) fn bar(shown: bool) -> ProgressBar {
    if !shown {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos} of {len}, {eta} left") {
        bar.set_style(style);
    }
    bar
}

fn text(report: &Report) -> String {
    let mut text: String = report.findings.iter().map(line).collect();
    let proven = report.findings.iter().filter(|finding| finding.verdict == Verdict::Proven).count();
    text.push_str(&format!(
        "{proven} of {} are proven, by {} questions in {} ms\n",
        report.findings.len(),
        report.questions,
        report.took_ms
    ));
    text
}

fn line(finding: &Finding) -> String {
    let claim = visible(&finding.text);
    let name =
        if finding.kind == "property" { format!(" {FAINT}{}{FAINT:#}", visible(&finding.id)) } else { String::new() };
    match &finding.verdict {
        Verdict::Proven => format!("{GOOD}proven{GOOD:#}      {claim}{name}\n"),
        Verdict::Refuted(counterexample) => {
            let by = match counterexample.rules.as_slice() {
                [] => String::new(),
                rules => format!("\n            decided by {}", rules.join(", ")),
            };
            format!("{BAD}refuted{BAD:#}     {claim}{name}\n            {}{by}\n", visible(&counterexample.words()))
        }
        Verdict::Absent(why) => format!("{BAD}refuted{BAD:#}     {claim}{name}\n            {why}\n"),
        Verdict::NotProven(reasons) => {
            let reasons: String = reasons.iter().map(|why| format!("            {}\n", visible(why))).collect();
            format!("{WAIT}not proven{WAIT:#}  {claim}{name}\n{reasons}")
        }
    }
}

fn json(report: &Report) -> Value {
    let finding = |finding: &Finding| {
        let (verdict, more) = match &finding.verdict {
            Verdict::Proven => ("proven", json!({})),
            Verdict::Refuted(example) => {
                ("refuted", json!({"counterexample": example.json(), "words": example.words()}))
            }
            Verdict::Absent(why) => ("refuted", json!({"why": [why]})),
            Verdict::NotProven(why) => ("not_proven", json!({"why": why})),
        };
        let mut value = json!({
            "id": finding.id, "kind": finding.kind, "claim": finding.text, "verdict": verdict,
            "questions": finding.questions,
        });
        if let (Some(value), Value::Object(more)) = (value.as_object_mut(), more) {
            value.extend(more);
        }
        value
    };
    json!({
        "proven": report.is_proven(), "questions": report.questions, "took_ms": u64::try_from(report.took_ms).unwrap_or(u64::MAX),
        "findings": report.findings.iter().map(finding).collect::<Vec<_>>(),
    })
}
