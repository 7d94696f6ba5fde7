//! The checks by which a token is narrowed: how they are written, and how they are read.
//!
//! | check | what is left |
//! |---|---|
//! | `check if time($t), $t < 2026-01-01T00:00:00Z` (or `<=`) | it ends earlier |
//! | `check if tool($t), {"query", "look"}.contains($t)` | these tools, by their own names |
//! | `check if upstream($u), {"crm"}.contains($u)` | these upstreams |
//! | `check if effect($e), {"read"}.contains($e)` | nothing but reads |
//!
//! Several narrow further: what is left is what all of them leave. A set may be written as an array. It must not know
//! signatures, times of day or callers.

use std::collections::BTreeSet;

use biscuit_auth::builder::{
    Binary, BlockBuilder, Check, CheckKind, Expression, Op, Predicate, Rule, Term, date, pred, set, string, var,
};
use countersign_model::id::{IdError, ToolName, UpstreamId};
use countersign_model::narrowed::NAMES_MAX;
use countersign_model::{Effect, Narrowed, TimeMs};

use super::{Narrowing, TokenError};

/// One limit that a block sets.
pub(super) enum Limit {
    /// It is over from this time on.
    Ends(TimeMs),
    Tools(BTreeSet<ToolName>),
    Upstreams(BTreeSet<UpstreamId>),
    Reads,
}

/// The checks that say `narrowing`.
pub(super) fn checks(narrowing: &Narrowing) -> Vec<Check> {
    let Narrowing { until, tools, upstreams, read_only } = narrowing;
    let names = |names: Vec<&str>| (!names.is_empty()).then(|| set(names.into_iter().map(string).collect()));
    let until = until.map(|until| {
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_millis(until.0);
        check("time", vec![Op::Value(var("time")), Op::Value(date(&time)), Op::Binary(Binary::LessThan)])
    });
    let among = |name: &str, names: Option<Term>| {
        let ops = |names| vec![Op::Value(names), Op::Value(var(name)), Op::Binary(Binary::Contains)];
        names.map(|names| check(name, ops(names)))
    };
    let reads = read_only.then(|| vec![Effect::Read.as_str()]).unwrap_or_default();
    let checks = [
        until,
        among("tool", names(tools.iter().map(ToolName::as_str).collect())),
        among("upstream", names(upstreams.iter().map(UpstreamId::as_str).collect())),
        among("effect", names(reads)),
    ];
    checks.into_iter().flatten().collect()
}

fn check(name: &str, ops: Vec<Op>) -> Check {
    let none: [Term; 0] = [];
    let rule = Rule::new(pred("query", &none), vec![pred(name, &[var(name)])], vec![Expression { ops }], vec![]);
    Check { queries: vec![rule], kind: CheckKind::One }
}

/// The limits of a later block, each as it is written.
pub(super) fn limits(block: &BlockBuilder) -> Result<Vec<(String, Limit)>, TokenError> {
    let unknown = |what: &dyn std::fmt::Display| TokenError::Attenuation(what.to_string());
    if let Some(fact) = block.facts.first() {
        return Err(unknown(fact));
    }
    if let Some(rule) = block.rules.first() {
        return Err(unknown(rule));
    }
    if !block.scopes.is_empty() {
        return Err(unknown(&"a scope of trust"));
    }
    let read = |check: &Check| {
        let limit = limit(check).ok_or_else(|| unknown(check))?;
        Ok((check.to_string(), limit))
    };
    block.checks.iter().map(read).collect()
}

/// Takes a limit in. The time from which on it is over, where it is one of time.
pub(super) fn apply(limit: Limit, narrowed: &mut Narrowed) -> Option<TimeMs> {
    match limit {
        Limit::Ends(time) => return Some(time),
        Limit::Tools(names) => narrow(&mut narrowed.tools, names),
        Limit::Upstreams(names) => narrow(&mut narrowed.upstreams, names),
        Limit::Reads => narrowed.read_only = true,
    }
    None
}

fn narrow<T: Ord>(left: &mut Option<BTreeSet<T>>, names: BTreeSet<T>) {
    match left {
        None => *left = Some(names),
        Some(left) => left.retain(|name| names.contains(name)),
    }
}

/// What one check means; nothing for any that is not listed above.
fn limit(check: &Check) -> Option<Limit> {
    let ([query], CheckKind::One) = (check.queries.as_slice(), &check.kind) else {
        return None;
    };
    let ([fact], [expression], true) = (query.body.as_slice(), query.expressions.as_slice(), query.scopes.is_empty())
    else {
        return None;
    };
    let Predicate { name, terms } = fact;
    let [Term::Variable(bound)] = terms.as_slice() else {
        return None;
    };
    match (name.as_str(), expression.ops.as_slice()) {
        ("time", [Op::Value(Term::Variable(used)), Op::Value(Term::Date(seconds)), Op::Binary(relation)])
            if used == bound =>
        {
            ends(*seconds, relation).map(Limit::Ends)
        }
        (_, [Op::Value(names), Op::Value(Term::Variable(used)), Op::Binary(Binary::Contains)]) if used == bound => {
            among(name, &texts(names)?)
        }
        _ => None,
    }
}

fn ends(seconds: u64, relation: &Binary) -> Option<TimeMs> {
    let from_ms = seconds.checked_mul(1_000)?;
    match relation {
        Binary::LessThan => Some(TimeMs(from_ms)),
        Binary::LessOrEqual => Some(TimeMs(from_ms.checked_add(1)?)),
        _ => None,
    }
}

fn among(name: &str, texts: &[&str]) -> Option<Limit> {
    match name {
        "tool" => ids(texts, ToolName::new).map(Limit::Tools),
        "upstream" => ids(texts, UpstreamId::new).map(Limit::Upstreams),
        "effect" if texts == [Effect::Read.as_str()] => Some(Limit::Reads),
        _ => None,
    }
}

fn ids<T: Ord>(texts: &[&str], id: impl Fn(&str) -> Result<T, IdError>) -> Option<BTreeSet<T>> {
    texts.iter().map(|text| id(text).ok()).collect()
}

/// The texts of a set or an array, if it holds texts alone and not too many.
fn texts(term: &Term) -> Option<Vec<&str>> {
    let texts: Option<Vec<&str>> = match term {
        Term::Set(terms) => terms.iter().map(text).collect(),
        Term::Array(terms) => terms.iter().map(text).collect(),
        _ => None,
    };
    texts.filter(|texts| texts.len() <= NAMES_MAX)
}

fn text(term: &Term) -> Option<&str> {
    match term {
        Term::Str(text) => Some(text),
        _ => None,
    }
}
