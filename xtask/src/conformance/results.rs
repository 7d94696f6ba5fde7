//! What the suite wrote: a folder for each scenario, with every check and its status.
//!
//! It counts as the suite does: a check that succeeded has passed, one that failed has failed, and warnings, what was
//! left out and mere notes are neither.

use super::table::{Scenario, Table};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::{fs, path::Path};

/// `-2026-07-28T01-02-03-456Z`, at the end of each folder's name.
const STAMP_CHARS: usize = 25;

/// Reads all scenarios in `folder`; `prefix` stands before the name of each.
pub(super) fn read(folder: &Path, prefix: &str) -> Result<Table> {
    let mut table = Table::default();
    gather(folder, folder, prefix, &mut table)
        .with_context(|| format!("cannot read the suite's results in `{}`", folder.display()))?;
    Ok(table)
}

/// A scenario's name may hold a slash, and then lies in a folder of a folder.
fn gather(root: &Path, folder: &Path, prefix: &str, table: &mut Table) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let checks = path.join("checks.json");
        if checks.is_file() {
            let name = path.strip_prefix(root)?.to_string_lossy();
            let name = name.strip_prefix(prefix).unwrap_or(&name);
            let name = name.get(..name.len().saturating_sub(STAMP_CHARS)).unwrap_or_default();
            table.put(name, scenario(&fs::read_to_string(&checks)?)?);
        } else if path.is_dir() {
            gather(root, &path, prefix, table)?;
        }
    }
    Ok(())
}

/// Adds what broke off before it wrote anything, which the suite counts as one failure, and compares the sum with the
/// suite's own; `log` is what the suite printed.
pub(super) fn complete(table: &mut Table, log: &str) -> Result<()> {
    let summary = log.split("=== SUMMARY ===").nth(1).context("the suite printed no summary")?;
    for line in summary.lines() {
        let Some((name, "0 passed, 1 failed")) = line.trim_start_matches(['✓', '✗', ' ']).split_once(": ") else {
            continue;
        };
        broken_off(table, name)?;
    }
    let (passed, failed) = table.sum();
    let total = format!("Total: {passed} passed, {failed} failed");
    if !summary.lines().any(|line| line == total) {
        bail!("the suite's own sum is not `{total}`");
    }
    Ok(())
}

/// Counts a scenario that was run and wrote nothing as one failure.
pub(super) fn broken_off(table: &mut Table, name: &str) -> Result<()> {
    if table.get(name).is_none() {
        let mut scenario = Scenario::default();
        scenario.note("it broke off", "FAILURE")?;
        table.put(name, scenario);
    }
    Ok(())
}

/// One scenario's checks.
pub(super) fn scenario(text: &str) -> Result<Scenario> {
    let checks: Vec<Value> = serde_json::from_str(text).context("no list of checks")?;
    let mut scenario = Scenario::default();
    for check in &checks {
        let word = |key| check.get(key).and_then(Value::as_str).with_context(|| format!("a check without `{key}`"));
        scenario.note(word("id")?, word("status")?)?;
    }
    Ok(scenario)
}
