//! What a case expects, and whether an evaluation is that.
//!
//! `gates` and `obligations` are the whole list; `policies` must be among those that determined the answer.

use std::collections::BTreeSet;

use countersign_kernel::policy::Sets;
use countersign_model::near::hint;
use countersign_model::record::Evaluation;
use countersign_model::verdict::Obligation;

use super::{Setting, raw};

/// What must be answered. What is absent is not compared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    /// The verdict; none where only an error is expected.
    pub verdict: Option<Answer>,
    /// Rules that must be among the determining ones.
    pub policies: BTreeSet<String>,
    /// The gates that fire, all of them.
    pub gates: Option<BTreeSet<String>>,
    /// The obligations, all of them.
    pub obligations: Option<BTreeSet<Obligation>>,
    /// Whether evaluation errs; if it does not say so, an error fails the case.
    pub error: bool,
}

/// What policy alone makes of an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It runs, perhaps under obligations.
    Allow,
    /// It waits for consent.
    RequireApproval,
    /// It does not run.
    Deny,
}

impl Answer {
    /// What an evaluation comes to; an error denies.
    #[must_use]
    pub const fn of(evaluation: &Evaluation) -> Self {
        match (evaluation.errors.total, evaluation.timed_out, evaluation.auto, evaluation.ceiling) {
            (0, false, true, true) => Self::Allow,
            (0, false, false, true) => Self::RequireApproval,
            _ => Self::Deny,
        }
    }

    /// The word of records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::RequireApproval => "require_approval",
            Self::Deny => "deny",
        }
    }
}

/// Checks the names of an expectation.
pub(super) fn checked(raw: &raw::Expect, setting: &Setting<'_>) -> Result<Expected, String> {
    let sets = setting.bundle.sets()?;
    let verdict = match raw.verdict {
        Some(raw::Verdict::Allow) => Some(Answer::Allow),
        Some(raw::Verdict::RequireApproval) => Some(Answer::RequireApproval),
        Some(raw::Verdict::Deny) => Some(Answer::Deny),
        None if raw.error => None,
        None => return Err("`expect` says no `verdict`; write allow, require_approval or deny".to_owned()),
    };
    if raw.error && verdict.is_some_and(|verdict| verdict != Answer::Deny) {
        return Err("an error denies; expect `verdict: deny`, or remove `error`".to_owned());
    }
    Ok(Expected {
        verdict,
        policies: named(raw.policies.as_deref().unwrap_or_default(), &rules(sets))?,
        gates: raw
            .gates
            .as_ref()
            .map(|gates| named(gates, &sets.gates.keys().map(String::as_str).collect::<Vec<_>>()))
            .transpose()?,
        obligations: raw.obligations.as_ref().map(|all| all.iter().map(obligation).collect()).transpose()?,
        error: raw.error,
    })
}

fn rules(sets: Sets<'_>) -> Vec<&str> {
    let all = sets.auto.policies().chain(sets.obliging.policies());
    all.filter_map(|policy| policy.annotation("id")).collect()
}

fn named(names: &[String], known: &[&str]) -> Result<BTreeSet<String>, String> {
    match names.iter().find(|name| !known.contains(&name.as_str())) {
        Some(name) => Err(format!("no rule of that kind has the id `{name}`{}", hint(name, known.iter().copied()))),
        None => Ok(names.iter().cloned().collect()),
    }
}

fn obligation(raw: &raw::Obligation) -> Result<Obligation, String> {
    let (name, value) = match raw {
        raw::Obligation::Plain(name) => (name.as_str(), None),
        raw::Obligation::Valued(map) => match map.iter().next() {
            Some((name, value)) if map.len() == 1 => (name.as_str(), Some(value)),
            _ => return Err("an obligation is one word, or one word with its value: `{max_rows: 100}`".to_owned()),
        },
    };
    let text = value.map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned));
    match (name, text.as_deref()) {
        ("witness", None) => Ok(Obligation::Witness),
        ("redact", None) => Ok(Obligation::Redact),
        ("undo", None) => Ok(Obligation::Undo),
        ("sandbox", None) => Ok(Obligation::Sandbox),
        ("max_rows", Some(rows)) => rows
            .parse()
            .map(|rows| Obligation::MaxRows { rows })
            .map_err(|_| format!("`max_rows: {rows}` is no number")),
        ("timeout", Some(limit)) => milliseconds(limit).map(|ms| Obligation::Timeout { ms }),
        ("notify", Some(channel)) => Ok(Obligation::Notify { channel: channel.to_owned() }),
        _ => {
            let known = ["witness", "redact", "undo", "sandbox", "max_rows", "timeout", "notify"];
            Err(format!(
                "`{name}` is no obligation{}; write witness, redact, undo, sandbox, `{{max_rows: 100}}`, `{{timeout: 30s}}` or \
                 `{{notify: ops}}`",
                hint(name, known)
            ))
        }
    }
}

fn milliseconds(limit: &str) -> Result<u64, String> {
    let units = [('s', 1_000_u64), ('m', 60_000), ('h', 3_600_000), ('d', 86_400_000)];
    units
        .iter()
        .find_map(|(unit, ms)| limit.strip_suffix(*unit)?.parse::<u64>().ok()?.checked_mul(*ms))
        .ok_or_else(|| format!("`timeout: {limit}` is no duration; write such as `30s`"))
}

/// An obligation in the words of cases.
#[must_use]
pub fn word(obligation: &Obligation) -> String {
    match obligation {
        Obligation::MaxRows { rows } => format!("max_rows {rows}"),
        Obligation::Witness => "witness".to_owned(),
        Obligation::Timeout { ms } => format!("timeout {ms} ms"),
        Obligation::Redact => "redact".to_owned(),
        Obligation::Undo => "undo".to_owned(),
        Obligation::Sandbox => "sandbox".to_owned(),
        Obligation::Notify { channel } => format!("notify {channel}"),
    }
}

impl Expected {
    /// What of `evaluation` is not as expected, in words; nothing where all of it is.
    #[must_use]
    pub fn differences(&self, evaluation: &Evaluation) -> Vec<String> {
        let mut all = Vec::new();
        let answer = Answer::of(evaluation);
        if let Some(verdict) = self.verdict.filter(|verdict| *verdict != answer) {
            all.push(format!("expected {}, got {}", verdict.as_str(), answer.as_str()));
        }
        match (self.error, evaluation.errors.total) {
            (true, 0) => all.push("expected an error, got none".to_owned()),
            (false, 1..) => all.push(format!("evaluation erred: {}", evaluation.errors.items.join("; "))),
            _ => {}
        }
        let determining: BTreeSet<&String> = evaluation.determining.items.iter().collect();
        let absent: Vec<&str> =
            self.policies.iter().filter(|id| !determining.contains(id)).map(String::as_str).collect();
        if !absent.is_empty() {
            all.push(format!("not among the determining rules: {}", absent.join(", ")));
        }
        let gates: BTreeSet<String> = evaluation.gates.iter().map(|gate| gate.policy.to_string()).collect();
        if let Some(expected) = self.gates.as_ref().filter(|expected| **expected != gates) {
            all.push(format!("expected the gates {}, got {}", listed(expected), listed(&gates)));
        }
        let obligations: BTreeSet<Obligation> = evaluation.obligations.iter().cloned().collect();
        if let Some(expected) = self.obligations.as_ref().filter(|expected| **expected != obligations) {
            let words = |all: &BTreeSet<Obligation>| all.iter().map(word).collect();
            all.push(format!(
                "expected the obligations {}, got {}",
                listed(&words(expected)),
                listed(&words(&obligations))
            ));
        }
        all
    }
}

fn listed(all: &BTreeSet<String>) -> String {
    if all.is_empty() {
        return "none".to_owned();
    }
    all.iter().cloned().collect::<Vec<_>>().join(", ")
}
