//! What the gateway reaches today, kept in the repository: whatever gets worse fails, and so does what gets better until
//! it is recorded, so that the file always says how things stand.
//!
//! The file has the sums of both arms, and each scenario in which the gateway's table is not the direct one. The sums stand
//! in the documentation too, and are written there with the file.

use super::table::{Pair, Scenario, Tables, Verdict};
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::{collections::BTreeMap, fs, path::Path};

pub(super) const FILE: &str = "crates/fixture/conformance.json";
pub(super) const PAGE: &str = "docs/conformance.md";

/// Compares with what is recorded.
pub(super) fn compare(root: &Path, tables: &Tables) -> Result<Verdict> {
    let text = fs::read_to_string(root.join(FILE)).with_context(|| format!("cannot read `{FILE}`"))?;
    let recorded = serde_json::from_str(&text).with_context(|| format!("`{FILE}` is not JSON"))?;
    Ok(verdict(&recorded, &today(tables)))
}

/// Records what is so now, unless the fixture itself fails: then there is nothing to compare the gateway with.
pub(super) fn write(root: &Path, tables: &Tables) -> Result<Verdict> {
    if let Some((role, revision, _)) = tables.pairs().find(|(.., pair)| pair.direct.sum().1 > 0) {
        bail!("{role}s, {revision}: checks fail directly, so nothing is recorded; mend the fixture, or run it again");
    }
    let now = today(tables);
    fs::write(root.join(FILE), lines(&now, 0)? + "\n").with_context(|| format!("cannot write `{FILE}`"))?;
    let page = fs::read_to_string(root.join(PAGE)).with_context(|| format!("cannot read `{PAGE}`"))?;
    fs::write(root.join(PAGE), told(&page, &now)?).with_context(|| format!("cannot write `{PAGE}`"))?;
    Ok(Verdict { differences: Vec::new(), good: "recorded", bad: "" })
}

/// The page with these sums in its rows, which open with `| servers, 2025-11-25 |` and the like.
pub(super) fn told(page: &str, now: &Value) -> Result<String> {
    let mut text = page.to_owned();
    for (role, revisions) in now.as_object().into_iter().flatten() {
        for (revision, sums) in revisions.as_object().into_iter().flatten() {
            let start = format!("| {role}s, {revision} |");
            let row = text.lines().find(|line| line.starts_with(&start));
            let row = row.with_context(|| format!("`{PAGE}` has no row `{start}`"))?.to_owned();
            let sum = |arm| sums.get(arm).and_then(Value::as_str).with_context(|| format!("no sum `{arm}`"));
            text = text.replace(&row, &format!("{start} {} | {} |", sum("direct")?, sum("gateway")?));
        }
    }
    Ok(text)
}

/// One line a scenario, so that a change shows as the lines of the scenarios that changed.
pub(super) fn lines(value: &Value, depth: usize) -> Result<String> {
    /// Role, revision, `differs`, and then a scenario.
    const SCENARIO: usize = 4;
    let Value::Object(members) = value else { return Ok(serde_json::to_string(value)?) };
    if depth == SCENARIO || members.is_empty() {
        return Ok(serde_json::to_string(value)?);
    }
    let (inner, outer) = ("  ".repeat(depth + 1), "  ".repeat(depth));
    let member = |(name, value): (&String, &Value)| Ok(format!("{inner}\"{name}\": {}", lines(value, depth + 1)?));
    let members = members.iter().map(member).collect::<Result<Vec<_>>>()?;
    Ok(format!("{{\n{}\n{outer}}}", members.join(",\n")))
}

/// Compares two such files.
pub(super) fn verdict(recorded: &Value, now: &Value) -> Verdict {
    let mut differences = Vec::new();
    compare_members(recorded, now, "", &mut differences);
    Verdict {
        differences,
        good: "both tables are the recorded ones",
        bad: "the tables are not the recorded ones; if that is meant, run `cargo xtask conformance --record`",
    }
}

/// Names the innermost members that differ.
fn compare_members(recorded: &Value, now: &Value, at: &str, differences: &mut Vec<String>) {
    let (Value::Object(one), Value::Object(other)) = (recorded, now) else {
        if recorded != now {
            differences.push(format!("{}: {recorded} is recorded, {now} is so now", at.trim_start()));
        }
        return;
    };
    for name in one.keys().chain(other.keys().filter(|name| !one.contains_key(*name))) {
        let member = |object: &serde_json::Map<String, Value>| object.get(name).cloned().unwrap_or_default();
        compare_members(&member(one), &member(other), &format!("{at} {name}"), differences);
    }
}

/// What the file would say now.
pub(super) fn today(tables: &Tables) -> Value {
    let mut roles: BTreeMap<&str, BTreeMap<&str, Value>> = BTreeMap::new();
    for (role, revision, pair) in tables.pairs() {
        roles.entry(role).or_default().insert(revision, entry(pair));
    }
    json!(roles)
}

fn entry(pair: &Pair) -> Value {
    let unequal: BTreeMap<&str, Value> =
        pair.names().into_iter().filter(|name| !pair.is_equal(name)).map(|name| (name, both(pair, name))).collect();
    json!({ "direct": sum(pair.direct.sum()), "gateway": sum(pair.gateway.sum()), "differs": unequal })
}

fn both(pair: &Pair, name: &str) -> Value {
    let counts = |one: &Scenario| sum((one.passed, one.failed));
    json!({
        "direct": pair.direct.get(name).map(counts),
        "gateway": pair.gateway.get(name).map(counts),
        "failing": pair.gateway.get(name).map(Scenario::failing),
    })
}

fn sum((passed, failed): (u64, u64)) -> String {
    format!("{passed}/{failed}")
}
