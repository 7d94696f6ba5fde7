//! `policy audit`: what is granted and was not used, and a policy without it as a diff to review.
//!
//! It asks nobody and changes nothing but the file that it is told to write.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result};
use countersign_effects::binding::ArgumentKind;
use countersign_kernel::policy::EvaluationRequest;
use countersign_model::id::AgentId;
use countersign_model::record::Attempt;
use countersign_model::{Body, TimeMs};
use countersign_policy::backtest::{Backtest, Groups, Known};
use countersign_policy::privilege::{
    Credential, Finding, Limits, Place, Seen, Severity, Surroundings, Tightened, Tokens, Used, beside, diff, findings,
    granted, loses, tightened,
};
use countersign_policy::rules::Rules;
use serde_json::{Value, json};

use super::policy_backtest::{again, summary_value};
use crate::cli;
use crate::config::{Config, Transport};
use crate::context::{Context, when};
use crate::past::{Asked, Entry, Past, Recall};
use crate::terminal::{BAD, Exit, FAINT, GOOD, STRONG, WAIT, usage, visible_lines};

const DAY_MS: u64 = 86_400_000;

/// Runs the command.
pub(crate) fn run(asked: &cli::Audit, context: &Context) -> Result<Exit> {
    let current = Asked::current(&context.layout)?;
    let agent = asked.agent.as_deref().map(|name| known_agent(name, &current.config)).transpose()?;
    let past = Past::open((&asked.since, &asked.period), context)?;
    let places = places(&current.config);
    let observed = observe(&past, (&current, &places), context)?;
    let Observed { used, tokens } = &observed;
    let parts = (&current.source, &current.bundle, &current.rules);
    let grants = granted(parts, &places);
    let credentials = credentials(&current.config);
    let around = Surroundings { grants: &grants, tokens, credentials: &credentials, agent: agent.as_ref() };
    let limits = Limits::usual(past.now, asked.unused_days);
    let found = findings(&current.rules, used, &around, &limits);
    let tight = if used.calls == 0 { None } else { Some(narrowed((&current, used), (&places, agent.as_ref()))?) };
    let checked = tight.as_ref().map(|tight| check(&past, (&current, tight), context)).transpose()?;
    let text_of_diff =
        tight.as_ref().map(|tight| diff((&current.source, &current.rules), &tight.source)).unwrap_or_default();
    if let Some(file) = &asked.write {
        write_new(file, &text_of_diff)?;
    }
    let changes = tight.iter().flat_map(|tight| &tight.changes);
    let compiled = changes.filter_map(|change| Some((change.file.clone(), beside(&current.rules, &change.file)?)));
    let compiled = compiled.collect();
    let audit =
        Audit { compiled, found, tight, checked, diff: text_of_diff, days: days(used), unused_days: asked.unused_days };
    context.out.result(&audit.value(used), &audit.text(used, asked.write.as_deref()));
    Ok(Exit::Done)
}

/// What one pass over the record gives.
pub(crate) struct Observed<'a> {
    pub(crate) used: Used<'a>,
    pub(crate) tokens: Tokens,
}

/// Reads the period once.
pub(crate) fn observe<'a>(
    past: &Past,
    (current, places): (&'a Asked, &[Place]),
    context: &Context,
) -> Result<Observed<'a>> {
    let mut used = Used::new(&current.bundle, &current.rules, places);
    let mut tokens = Tokens::default();
    let recall = Recall::new(current, current);
    past.each(context, &mut |entry: &Entry| {
        let record = &entry.leaf.record;
        if let Body::Commanded(commanded) = &record.body {
            tokens.take(record.at, commanded, past.since);
        }
        if record.at >= past.since {
            let asked = question(entry, &recall);
            let seen = Seen { leaf: entry.leaf.leaf, at: record.at, body: &record.body, asked: asked.as_ref() };
            used.take(&seen);
        }
        Ok(())
    })?;
    Ok(Observed { used, tokens })
}

/// The question of an attempt under the current configuration; where it cannot be read again, as it was asked.
fn question(entry: &Entry, recall: &Recall<'_>) -> Option<EvaluationRequest> {
    let attempt = entry.leaf.record.body.attempt()?;
    let arguments = entry.leaf.payload.as_ref().map(|payload| payload.arguments.as_slice());
    let again = match recall.known(attempt, (entry.configuration, arguments)) {
        Known::Again(again) => {
            Attempt { facts: again.facts, target: again.target, environment: again.environment, ..attempt.clone() }
        }
        Known::AsRecorded | Known::Missing(_) => attempt.clone(),
    };
    Some(EvaluationRequest::from_attempt(&again, arguments.unwrap_or_default()))
}

/// Everything that can be called by the configuration.
pub(crate) fn places(config: &Config) -> Vec<Place> {
    let mut all = Vec::new();
    for upstream in &config.upstreams {
        all.extend(upstream.tools.iter().map(|(tool, binding)| Place {
            upstream: upstream.id.clone(),
            tool: Some(tool.clone()),
            target: binding.target.clone(),
            environment: binding.environment.clone(),
            effect: binding.effect,
            is_parsed: binding.arguments.values().any(|kind| *kind != ArgumentKind::Plain),
        }));
        all.push(Place {
            upstream: upstream.id.clone(),
            tool: None,
            target: upstream.target.clone(),
            environment: upstream.environment.clone(),
            effect: None,
            is_parsed: false,
        });
    }
    all
}

/// What opens upstreams: a credential, or what a child process is given as its environment.
fn credentials(config: &Config) -> Vec<Credential> {
    let with_any = config.upstreams.iter().filter(|upstream| {
        let has_env = matches!(&upstream.reach.transport, Transport::Stdio { env, .. } if !env.is_empty());
        upstream.credential.is_some() || has_env
    });
    let all = with_any.map(|upstream| {
        let own = std::iter::once(upstream.environment.clone());
        let environments = own.chain(upstream.tools.values().map(|binding| binding.environment.clone())).collect();
        Credential { name: format!("upstream `{}`", upstream.id), environments }
    });
    all.collect()
}

/// An agent of the configuration.
pub(crate) fn known_agent(name: &str, config: &Config) -> Result<AgentId> {
    let known = config.agents.keys().find(|id| id.as_str() == name).cloned();
    known.ok_or_else(|| {
        let names: Vec<&str> = config.agents.keys().map(AgentId::as_str).collect();
        usage(format!("`{name}` is no agent of the configuration; it has {}", names.join(", ")))
    })
}

/// Writes a file that must not exist yet.
pub(crate) fn write_new(file: &Path, text: &str) -> Result<()> {
    if file.exists() {
        anyhow::bail!("`{}` exists and is not overwritten; name another file", file.display());
    }
    std::fs::write(file, text).with_context(|| format!("cannot write `{}`", file.display()))
}

fn narrowed((current, used): (&Asked, &Used<'_>), only: (&[Place], Option<&AgentId>)) -> Result<Tightened> {
    tightened((&current.source, &current.bundle, &current.rules), used, only).map_err(|why| anyhow::anyhow!("{why}"))
}

/// What the tightened policy does to the calls of the period.
struct Checked {
    /// Against what was recorded.
    groups: Groups,
    /// Calls that lose something against the current policy.
    lost: u64,
}

fn check(past: &Past, (current, tight): (&Asked, &Tightened), context: &Context) -> Result<Checked> {
    let recall = Recall::new(current, current);
    let backtest = Backtest::new(&tight.bundle, &Rules::read(&tight.source.policies)?);
    let (groups, _) = again(past, (&backtest, &recall), context, &mut |_| {})?;
    let mut lost = 0;
    past.each(context, &mut |entry: &Entry| {
        let was_used = !matches!(entry.leaf.record.body, Body::Denial(_));
        if let Some(asked) = question(entry, &recall).filter(|_| was_used) {
            lost += u64::from(loses(&current.bundle, &tight.bundle, &asked));
        }
        Ok(())
    })?;
    Ok(Checked { groups, lost })
}

fn counted(days: u64) -> String {
    if days == 1 { "1 day".to_owned() } else { format!("{days} days") }
}

fn days(used: &Used<'_>) -> u64 {
    used.span.map_or(0, |(first, last): (TimeMs, TimeMs)| last.since_ms(first).div_ceil(DAY_MS))
}

struct Audit {
    /// Files that are not written in Cedar, with those that would stand in their place.
    compiled: BTreeMap<String, String>,
    found: Vec<Finding>,
    tight: Option<Tightened>,
    checked: Option<Checked>,
    diff: String,
    days: u64,
    unused_days: u64,
}

impl Audit {
    fn value(&self, used: &Used<'_>) -> Value {
        let changes = self.tight.iter().flat_map(|tight| &tight.changes).map(
            |change| json!({"rule": change.rule, "file": change.file, "removed": change.is_removed, "how": change.how}),
        );
        let kept = self.tight.iter().flat_map(|tight| &tight.kept);
        json!({
            "calls": used.calls, "days_covered": self.days,
            "from_ms": used.span.map(|(first, _)| first.0), "to_ms": used.span.map(|(_, last)| last.0),
            "findings": self.found.iter().map(finding_value).collect::<Vec<_>>(),
            "tightened": self.tight.as_ref().map(|tight| json!({
                "policy": tight.bundle.hash().hex(), "changes": changes.collect::<Vec<_>>(), "diff": self.diff,
                "written_beside": self.compiled,
                "kept": kept.map(|(rule, why)| json!({"rule": rule, "why": why})).collect::<Vec<_>>(),
                "lost": self.checked.as_ref().map(|checked| checked.lost),
                "backtest": self.checked.as_ref().map(|checked| summary_value(&checked.groups)),
            })),
        })
    }

    fn text(&self, used: &Used<'_>, written: Option<&Path>) -> String {
        let mut lines = Vec::new();
        let mut last = None;
        for finding in &self.found {
            if last != Some(finding.severity) {
                last = Some(finding.severity);
                lines.push(styled(finding.severity));
            }
            lines.push(visible_lines(&format!("  {}", finding.says)));
            let rules =
                if finding.rules.is_empty() { String::new() } else { format!(" ({})", finding.rules.join(", ")) };
            lines.push(format!("{FAINT}      {}{}{FAINT:#}", finding.remedy, visible_lines(&rules)));
        }
        if self.found.is_empty() {
            lines.push(format!("{GOOD}nothing to look at{GOOD:#}"));
        }
        lines.extend(self.tight_lines());
        if let Some(file) = written {
            lines.push(format!("the diff is in {}; look at it, then apply it with `patch -p1`", file.display()));
        }
        let span =
            used.span.map_or_else(String::new, |(first, last)| format!(", {} to {}", when(first.0), when(last.0)));
        lines.push(format!("{FAINT}{} calls in {}{span}{FAINT:#}", used.calls, counted(self.days)));
        if self.days < self.unused_days {
            lines.push(format!(
                "{WAIT}short{WAIT:#}: the record covers {}, and `--unused-days` asks for {}: what happens more rarely is not in it",
                counted(self.days),
                self.unused_days
            ));
        }
        lines.join("\n")
    }

    fn tight_lines(&self) -> Vec<String> {
        let (Some(tight), Some(checked)) = (&self.tight, &self.checked) else {
            return vec![format!("{WAIT}no tightened policy{WAIT:#}: no call is on record in the period")];
        };
        if tight.changes.is_empty() {
            return vec!["every permit was used to its full width; there is nothing to tighten".to_owned()];
        }
        let mut lines = vec![format!("{STRONG}tightened policy{STRONG:#}")];
        for change in &tight.changes {
            lines.push(visible_lines(&format!("  {}: {}", change.rule, change.how.join("; "))));
        }
        for (rule, why) in &tight.kept {
            lines.push(visible_lines(&format!("  {rule} stays as it is: narrowed it would not load: {why}")));
        }
        lines.push(visible_lines(&self.diff));
        for (file, other) in &self.compiled {
            lines.push(format!(
                "{WAIT}{file} is no Cedar{WAIT:#}: what it becomes stands in {other}, to be named in its place under `policy:`; \
                 patterns and budgets of {file} do not come along"
            ));
        }
        lines.push(match checked.lost {
            0 => format!(
                "{GOOD}nothing that was used would be denied{GOOD:#} or asked about: decided again over {} calls",
                checked.groups.judged
            ),
            lost => format!("{BAD}{lost} calls that were used would be denied or asked about{BAD:#}; do not apply it"),
        });
        lines
    }
}

fn styled(severity: Severity) -> String {
    let style = match severity {
        Severity::High => BAD,
        Severity::Medium => WAIT,
        Severity::Low => STRONG,
    };
    format!("{style}{}{style:#}", severity.as_str())
}

fn finding_value(finding: &Finding) -> Value {
    json!({
        "severity": finding.severity.as_str(), "kind": finding.kind, "subject": finding.subject, "says": finding.says,
        "remedy": finding.remedy, "rules": finding.rules,
    })
}
