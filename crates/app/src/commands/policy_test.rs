//! `policy test`: cases, what they reach, and what they would notice.
//!
//! Whatever cannot be read or understood is an error: no file, no case and no name is passed over.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use countersign_kernel::policy::{Bundle, PolicySource};
use countersign_model::preview::visible;
use countersign_policy::cases::{
    Case, Coverage, Mutation, Place, Ran, Setting, Upstream, coverage, mutate, parse, run as run_cases,
};
use serde_json::{Value, json};

use crate::cli::Test;
use crate::compose::source;
use crate::config::Config;
use crate::context::Context;
use crate::terminal::{BAD, Exit, FAINT, GOOD, WAIT, usage};

/// Runs the command.
pub(crate) fn run(test: &Test, context: &Context) -> Result<Exit> {
    let root = context.layout.root();
    let (config, _) = super::policy::load(&context.layout)?;
    let source = source(&config).map_err(|error| usage(format!("{error:#}")))?;
    let bundle = Bundle::load(&source)?;
    let upstreams = upstreams(&config);
    let source = as_written(&config, source);
    let setting = Setting { bundle: &bundle, source: &source, upstreams: &upstreams };
    let files = if test.files.is_empty() { own(&root.join("policy").join("tests"))? } else { test.files.clone() };
    let mut cases = Vec::new();
    for file in &files {
        let text = std::fs::read_to_string(file)
            .map_err(|error| usage(format!("cannot read the cases `{}`: {error}", file.display())))?;
        let read = parse(&file.display().to_string(), &text, &setting);
        cases.extend(read.map_err(|error| usage(error.to_string()))?);
    }
    let ran = run_cases(&cases, &setting);
    let reached = coverage(&ran, &setting).map_err(anyhow::Error::msg)?;
    let has_failed = ran.iter().any(|ran| !ran.differences.is_empty());
    let mutation = if test.mutate && !has_failed { Some(mutated(&cases, &setting, &source, context)?) } else { None };
    let is_bare = test.min_coverage.is_some_and(|least| reached.percent() < usize::from(least));
    let is_loose = test.strict && mutation.as_ref().is_some_and(|mutation| !mutation.survivors.is_empty());
    let mut text = cases_text(&ran);
    if test.coverage || is_bare {
        text.push_str(&coverage_text(&reached, test.min_coverage));
    }
    if let Some(mutation) = &mutation {
        text.push_str(&mutation_text(mutation));
    } else if test.mutate {
        text.push_str("no rule was changed: first correct what fails\n");
    }
    context.out.result(&json(&ran, &reached, mutation.as_ref()), &text);
    Ok(if has_failed || is_bare || is_loose { Exit::Failed } else { Exit::Done })
}

/// The source with the texts that people wrote, so that places of rules are theirs.
fn as_written(config: &Config, mut source: PolicySource) -> PolicySource {
    for (compiled, written) in &config.policies.compiled {
        if let Some((_, text)) = source.policies.iter_mut().find(|(file, _)| *file == compiled.file) {
            text.clone_from(written);
        }
    }
    source
}

/// The files of cases in a folder, in order.
fn own(folder: &Path) -> Result<Vec<PathBuf>> {
    let none = || {
        usage(format!(
            "there are no cases: write some in `{}`, or name a file (docs/prove.md shows the form)",
            folder.join("first.yaml").display()
        ))
    };
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(none()),
        Err(error) => return Err(error).with_context(|| format!("cannot read `{}`", folder.display())),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml") {
            files.push(path);
        }
    }
    files.sort();
    if files.is_empty() { Err(none()) } else { Ok(files) }
}

pub(super) fn upstreams(config: &Config) -> BTreeMap<countersign_model::id::UpstreamId, Upstream> {
    let upstreams = config.upstreams.iter().map(|upstream| {
        let known = Upstream {
            target: upstream.target.clone(),
            environment: upstream.environment.clone(),
            tools: upstream.tools.clone(),
        };
        (upstream.id.clone(), known)
    });
    upstreams.collect()
}

fn mutated(cases: &[Case], setting: &Setting<'_>, source: &PolicySource, context: &Context) -> Result<Mutation> {
    let rules: usize = source.policies.iter().map(|(_, text)| text.matches("@id(").count()).sum();
    let bar = super::policy_prove::bar(!context.out.json);
    bar.set_length(u64::try_from(rules).unwrap_or(u64::MAX));
    let mutation = mutate(cases, setting, || bar.inc(1)).map_err(anyhow::Error::msg);
    bar.finish_and_clear();
    mutation
}

fn at(place: &Place) -> String {
    if place.line == 0 { String::new() } else { format!("{}:{}", place.file, place.line) }
}

fn cases_text(ran: &[Ran<'_>]) -> String {
    let mut text = String::new();
    for failed in ran.iter().filter(|ran| !ran.differences.is_empty()) {
        let case = failed.case;
        text.push_str(&format!(
            "{BAD}failed{BAD:#} {} {FAINT}{}:{}{FAINT:#}\n",
            visible(&case.name),
            case.file,
            case.line
        ));
        for difference in &failed.differences {
            text.push_str(&format!("  {}\n", visible(difference)));
        }
        let gates = failed.evaluation.gates.iter().map(|gate| gate.policy.as_str());
        let named = failed.evaluation.determining.items.iter().map(String::as_str).chain(gates).collect::<Vec<_>>();
        let by = if named.is_empty() { "no rule: nothing permits it".to_owned() } else { named.join(", ") };
        text.push_str(&format!("  decided by {by}\n"));
    }
    let failed = ran.iter().filter(|ran| !ran.differences.is_empty()).count();
    let passed = ran.len().saturating_sub(failed);
    match failed {
        0 => text.push_str(&format!("{GOOD}{passed} cases pass{GOOD:#}\n")),
        _ => text.push_str(&format!("{failed} of {} cases fail\n", ran.len())),
    }
    text
}

fn coverage_text(coverage: &Coverage, least: Option<u8>) -> String {
    let mut text = format!("{} of 100 rules are reached", coverage.percent());
    if let Some(least) = least.filter(|least| coverage.percent() < usize::from(*least)) {
        text.push_str(&format!(", fewer than {least}"));
    }
    text.push('\n');
    for reach in coverage.unreached() {
        text.push_str(&format!("{WAIT}no case reaches{WAIT:#} {} {FAINT}{}{FAINT:#}\n", reach.rule, at(&reach.place)));
    }
    for reach in coverage.one_way() {
        text.push_str(&format!("{WAIT}always holds{WAIT:#} {} {FAINT}{}{FAINT:#}\n", reach.rule, at(&reach.place)));
    }
    text
}

fn mutation_text(mutation: &Mutation) -> String {
    let all = mutation.noticed.saturating_add(mutation.survivors.len());
    let mut text = format!(
        "{} of {all} changes of {} rules are noticed ({} answers asked for)\n",
        mutation.noticed, mutation.tally.rules, mutation.tally.answers
    );
    for survivor in &mutation.survivors {
        let place = at(&survivor.place);
        text.push_str(&format!(
            "{WAIT}unnoticed{WAIT:#} {}: {} {FAINT}{place}{FAINT:#}\n",
            survivor.rule, survivor.change
        ));
    }
    text
}

fn json(ran: &[Ran<'_>], coverage: &Coverage, mutation: Option<&Mutation>) -> Value {
    let cases: Vec<Value> = ran
        .iter()
        .map(|ran| {
            json!({
                "name": ran.case.name, "file": ran.case.file, "line": ran.case.line,
                "passed": ran.differences.is_empty(), "differences": ran.differences,
                "determining": ran.evaluation.determining.items,
                "gates": ran.evaluation.gates.iter().map(|gate| gate.policy.as_str()).collect::<Vec<_>>(),
            })
        })
        .collect();
    let names = |rules: Vec<&countersign_policy::cases::Reach>| {
        rules
            .iter()
            .map(|reach| json!({"rule": reach.rule, "file": reach.place.file, "line": reach.place.line}))
            .collect::<Vec<_>>()
    };
    let survivors = mutation.map(|mutation| {
        let survivor = |m: &countersign_policy::cases::Mutant| {
            json!({"rule": m.rule, "change": m.change.to_string(), "file": m.place.file, "line": m.place.line})
        };
        json!({
            "noticed": mutation.noticed, "survivors": mutation.survivors.iter().map(survivor).collect::<Vec<_>>(),
            "rules": mutation.tally.rules, "answers": mutation.tally.answers,
        })
    });
    json!({
        "cases": cases,
        "passed": ran.iter().filter(|ran| ran.differences.is_empty()).count(),
        "failed": ran.iter().filter(|ran| !ran.differences.is_empty()).count(),
        "coverage": {
            "percent": coverage.percent(), "unreached": names(coverage.unreached().collect()),
            "one_way": names(coverage.one_way().collect()),
        },
        "mutation": survivors,
    })
}
