//! `policy explain`: why a call gets its verdict, and the nearest change that would give it another.
//!
//! A call of the record is explained with the facts of then; what was decided before policy is said first. It asks nobody
//! and changes nothing.

mod text;

use anyhow::{Context as _, Result};
use countersign_gate::leaf_of;
use countersign_index::Filter;
use countersign_kernel::before_policy;
use countersign_kernel::policy::EvaluationRequest;
use countersign_kernel::replay::Leaf;
use countersign_ledger::{Reader, Store, Vault};
use countersign_model::record::Attempt;
use countersign_model::{Body, Reason, ReasonCode, Verdict};
use countersign_policy::backtest::Known;
use countersign_policy::cases::Setting;
use countersign_policy::explain::{Almost, Alternative, Explainer, Explanation, action};
use countersign_policy::rules::Rule;
use serde_json::{Value, json};

use crate::cli;
use crate::commands::log::is_there;
use crate::context::{Context, when};
use crate::past::{Asked, Recall};
use crate::terminal::{Exit, unverified, usage};

/// What is explained, and where it comes from.
pub(crate) struct Subject {
    /// The question.
    pub(crate) asked: EvaluationRequest,
    /// The record, where it is one.
    pub(crate) record: Option<Then>,
}

/// What stands on record.
pub(crate) struct Then {
    /// Its index.
    pub(crate) index: u64,
    /// Its time.
    pub(crate) at_ms: u64,
    /// Its kind.
    pub(crate) kind: &'static str,
    /// The attempt.
    pub(crate) attempt: Attempt,
    /// Why it was denied before policy was asked, if it was.
    pub(crate) before_policy: Option<ReasonCode>,
    /// Whether it was decided under the policy that explains it.
    pub(crate) is_same_policy: bool,
    /// What is to be known of the facts: none if they are those of the record.
    pub(crate) note: Option<String>,
}

/// Runs the command.
pub(crate) fn run(asked: &cli::Explain, context: &Context) -> Result<Exit> {
    let policy = Asked::new(&asked.policy, &context.layout)?;
    let subject = subject(asked, &policy, context)?;
    let explainer = Explainer { source: &policy.source, bundle: &policy.bundle, rules: &policy.rules };
    let explanation = explainer.explain(&subject.asked);
    context.out.result(&value(&subject, &explanation), &text::text(&subject, &explanation));
    Ok(Exit::Done)
}

fn subject(asked: &cli::Explain, policy: &Asked, context: &Context) -> Result<Subject> {
    let upstreams = super::policy_test::upstreams(&policy.config);
    let setting = Setting { bundle: &policy.bundle, source: &policy.source, upstreams: &upstreams };
    let of = |asked| Subject { asked, record: None };
    let [only] = asked.what.as_slice() else {
        return action::of_pairs(asked.what.iter().map(String::as_str), &setting).map(of).map_err(usage);
    };
    if let Ok(index) = only.parse() {
        return recorded(index, (asked, policy), context);
    }
    if let Ok(text) = std::fs::read_to_string(only) {
        return action::of_file(only, &text, &setting).map(of).map_err(usage);
    }
    if only.starts_with("t-") {
        return recorded(of_ticket(only, context)?, (asked, policy), context);
    }
    if only.contains('=') {
        return action::of_pairs([only.as_str()], &setting).map(of).map_err(usage);
    }
    Err(usage(format!(
        "`{only}` is no record's index, no ticket and no file that can be read; `countersign log query` lists records"
    )))
}

/// The record under a ticket: the proposal, or whatever stands there last.
fn of_ticket(ticket: &str, context: &Context) -> Result<u64> {
    let filter = Filter { ticket: Some(ticket.to_owned()), ..Filter::default() };
    let answer = super::query::open(context)?.query(&filter, 1_000)?;
    let proposal = answer.rows.iter().find(|row| row.kind == "proposal");
    let row = proposal.or_else(|| answer.rows.last()).with_context(|| {
        format!("no call of ticket `{ticket}` is on record; `countersign approvals list` names those that wait")
    })?;
    Ok(row.leaf)
}

/// A call of the record, with the configuration under which it was decided if that is still in force.
fn recorded(index: u64, (asked, policy): (&cli::Explain, &Asked), context: &Context) -> Result<Subject> {
    let ledger = asked.ledger.clone().unwrap_or_else(|| context.layout.ledger());
    is_there(&ledger)?;
    let store = Store::real(ledger);
    let vault = store.vault().exists().then(|| Vault::open(&store)).transpose()?;
    let reader = Reader::new(&store);
    let stored = reader.record(index).map_err(|error| usage(error.to_string()))?;
    let leaf = leaf_of(vault.as_ref(), stored.as_record()).map_err(|error| unverified(error.to_string()))?;
    let Leaf { record, payload, .. } = leaf;
    let Some(attempt) = record.body.attempt() else {
        return Err(usage(format!(
            "record `{index}` is of kind `{}` and decides nothing; name an intent, denial, proposal or waiting call, \
             such as `countersign log query` lists",
            record.body.kind()
        )));
    };
    let current = Asked::current(&context.layout)?;
    let arguments = payload.as_ref().map(|payload| payload.arguments.as_slice());
    let is_same_policy = attempt.inputs.policy == policy.bundle.hash();
    // Decided under this very policy, so its facts are those that the policy was asked about.
    let known = if is_same_policy {
        Known::AsRecorded
    } else {
        Recall::new(policy, &current).known(attempt, (None, arguments))
    };
    let (attempt_again, note) = match known {
        Known::AsRecorded => (attempt.clone(), None),
        Known::Again(again) => {
            let note = (again.facts != attempt.facts).then(|| "facts were read again, under other bindings".to_owned());
            let attempt =
                Attempt { facts: again.facts, target: again.target, environment: again.environment, ..attempt.clone() };
            (attempt, note)
        }
        Known::Missing(why) => (attempt.clone(), Some(format!("with the facts of the record: {why}"))),
    };
    let asked = EvaluationRequest::from_attempt(&attempt_again, arguments.unwrap_or_default());
    let then = Then {
        index,
        at_ms: record.at.0,
        kind: record.body.kind(),
        before_policy: denied_before(attempt, &record.body, record.at),
        attempt: attempt.clone(),
        is_same_policy,
        note,
    };
    Ok(Subject { asked, record: Some(then) })
}

fn denied_before(attempt: &Attempt, body: &Body, at: countersign_model::TimeMs) -> Option<ReasonCode> {
    let unasked = matches!(body, Body::Denial(_)) && attempt.inputs.evaluation.is_none();
    let first = || attempt.reasons.first().map(|reason| reason.code);
    before_policy(attempt, at).map(|reason| reason.code).or_else(|| unasked.then(first).flatten())
}

/// What an agent is told: of a call on record that was denied before policy, what it was told then.
fn to_agent(subject: &Subject, (verdict, reason): (&Verdict, &Reason)) -> String {
    if let Some(code) = subject.record.as_ref().and_then(|then| then.before_policy) {
        return code.sentence().to_owned();
    }
    match verdict {
        Verdict::Allow | Verdict::Modify { .. } => "nothing: the call runs".to_owned(),
        _ => reason.code.sentence().to_owned(),
    }
}

fn value(subject: &Subject, explanation: &Explanation<'_>) -> Value {
    let Explanation { verdict, reason, deciding, overruled, facts, almost, search } = explanation;
    let facts: serde_json::Map<String, Value> =
        facts.iter().map(|(path, value)| (path.clone(), value.as_str().into())).collect();
    json!({
        "record": subject.record.as_ref().map(then_value), "call": call_value(&subject.asked),
        "verdict": verdict.as_str(), "reason": reason.code.as_str(), "detail": reason.detail,
        "to_agent": to_agent(subject, (verdict, reason)),
        "deciding": deciding.iter().map(|rule| rule_value(rule)).collect::<Vec<_>>(),
        "overruled": overruled.iter().map(|rule| rule_value(rule)).collect::<Vec<_>>(),
        "facts": facts, "almost": almost.iter().map(almost_value).collect::<Vec<_>>(),
        "nearest": search.found.iter().map(alternative_value).collect::<Vec<_>>(),
        "without": search.dropped.iter().map(|dropped| json!({
            "rule": dropped.rule, "verdict": dropped.verdict.as_str(), "reason": dropped.code.as_str(),
        })).collect::<Vec<_>>(),
        "tried": search.tried, "cut_short": search.is_cut_short,
    })
}

fn then_value(then: &Then) -> Value {
    let attempt = &then.attempt;
    json!({
        "index": then.index, "at": when(then.at_ms), "at_ms": then.at_ms, "kind": then.kind,
        "verdict": attempt.verdict.as_str(),
        "reasons": attempt.reasons.iter().map(|reason| reason.code.as_str()).collect::<Vec<_>>(),
        "detail": attempt.reasons.first().and_then(|reason| reason.detail.as_deref()),
        "ticket": attempt.ticket.as_ref().map(ToString::to_string),
        "decided_before_policy": then.before_policy.map(ReasonCode::as_str),
        "same_policy": then.is_same_policy, "note": then.note,
    })
}

fn call_value(asked: &EvaluationRequest) -> Value {
    json!({
        "agent": asked.agent.as_str(), "upstream": asked.upstream.as_str(), "tool": asked.tool.as_str(),
        "target": asked.target.as_str(), "environment": asked.environment.as_str(),
        "effect": asked.facts.effect.as_str(),
    })
}

fn rule_value(rule: &Rule) -> Value {
    json!({
        "id": rule.id, "layer": rule.layer.as_str(), "file": rule.file, "first_line": rule.lines.0,
        "last_line": rule.lines.1, "text": rule.text,
    })
}

fn almost_value(near: &Almost<'_>) -> Value {
    json!({
        "rule": near.rule.id, "layer": near.rule.layer.as_str(), "file": near.rule.file,
        "first_line": near.rule.lines.0, "missing": near.missing,
    })
}

fn alternative_value(other: &Alternative) -> Value {
    json!({
        "if": other.steps.iter().map(countersign_policy::explain::Step::words).collect::<Vec<_>>(),
        "verdict": other.verdict.as_str(), "reason": other.code.as_str(), "rules": other.rules,
    })
}
