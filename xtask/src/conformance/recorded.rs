//! What the gateway reaches today, kept in the repository: whatever gets worse fails, and so does what gets better until
//! it is recorded, so that the file always says how things stand.
//!
//! The file has the sums of both arms, and each scenario in which the gateway's table is not the direct one.

use super::table::{Pair, Scenario, Tables, Verdict};
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::{collections::BTreeMap, fs, path::Path};

const FILE: &str = "crates/fixture/conformance.json";

/// Compares with what is recorded.
pub(super) fn compare(root: &Path, tables: &Tables) -> Result<Verdict> {
    let text = fs::read_to_string(root.join(FILE)).with_context(|| format!("cannot read `{FILE}`"))?;
    let recorded = serde_json::from_str(&text).with_context(|| format!("`{FILE}` is not JSON"))?;
    Ok(verdict(&recorded, &today(tables)))
}

/// Records what is so now.
pub(super) fn write(root: &Path, tables: &Tables) -> Result<Verdict> {
    let text = format!("{}\n", serde_json::to_string_pretty(&today(tables))?);
    fs::write(root.join(FILE), text).with_context(|| format!("cannot write `{FILE}`"))?;
    Ok(Verdict { differences: Vec::new(), good: "recorded", bad: "" })
}

fn verdict(recorded: &Value, now: &Value) -> Verdict {
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

fn today(tables: &Tables) -> Value {
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
