//! Tables: what passed and failed, scenario by scenario, directly and through the gateway, and whether that is the same.

use super::Arm;
use anyhow::{Result, bail};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

/// What the suite says of one scenario.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Scenario {
    pub(super) passed: u64,
    pub(super) failed: u64,
    /// The worst that was said of each check. One that is made for every request may be made more often behind a gateway,
    /// which shakes hands for itself.
    worst: BTreeMap<String, Status>,
}

/// From best to worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Status {
    Skipped,
    Passed,
    Warned,
    Failed,
}

impl Scenario {
    /// Counts one check.
    pub(super) fn note(&mut self, id: &str, status: &str) -> Result<()> {
        let status = match status {
            "SUCCESS" => Status::Passed,
            "FAILURE" => Status::Failed,
            "WARNING" => Status::Warned,
            "SKIPPED" => Status::Skipped,
            "INFO" => return Ok(()),
            other => bail!("a check is `{other}`, which is not known"),
        };
        self.passed += u64::from(status == Status::Passed);
        self.failed += u64::from(status == Status::Failed);
        let worst = self.worst.entry(id.to_owned()).or_insert(status);
        *worst = (*worst).max(status);
        Ok(())
    }

    /// The checks that failed.
    pub(super) fn failing(&self) -> BTreeSet<&str> {
        self.worst.iter().filter(|(_, status)| **status == Status::Failed).map(|(id, _)| id.as_str()).collect()
    }

    fn json(&self) -> Value {
        json!({ "passed": self.passed, "failed": self.failed, "failing": self.failing() })
    }
}

/// One arm of one revision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Table(BTreeMap<String, Scenario>);

impl Table {
    pub(super) fn put(&mut self, name: &str, scenario: Scenario) {
        self.0.insert(name.to_owned(), scenario);
    }

    pub(super) fn append(&mut self, mut other: Self) {
        self.0.append(&mut other.0);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn get(&self, name: &str) -> Option<&Scenario> {
        self.0.get(name)
    }

    pub(super) fn sum(&self) -> (u64, u64) {
        self.0.values().fold((0, 0), |(passed, failed), one| (passed + one.passed, failed + one.failed))
    }
}

/// Both arms of one revision of servers or clients.
#[derive(Clone, Debug, Default)]
pub(super) struct Pair {
    pub(super) direct: Table,
    pub(super) gateway: Table,
    /// Whether the number of checks counts too, not only the worst of each.
    counted: bool,
}

impl Pair {
    pub(super) fn names(&self) -> BTreeSet<&str> {
        self.direct.0.keys().chain(self.gateway.0.keys()).map(String::as_str).collect()
    }

    /// Whether the suite says the same of both arms.
    pub(super) fn is_equal(&self, name: &str) -> bool {
        match (self.direct.get(name), self.gateway.get(name)) {
            (Some(direct), Some(gateway)) => {
                let counts = |one: &Scenario| (one.passed, one.failed);
                direct.worst == gateway.worst && (!self.counted || counts(direct) == counts(gateway))
            }
            _ => false,
        }
    }
}

/// Everything.
#[derive(Clone, Debug, Default)]
pub(super) struct Tables(BTreeMap<(&'static str, String), Pair>);

impl Tables {
    /// Puts one in, if anything was run; `role` is `server` or `client`.
    pub(super) fn put(&mut self, role: &'static str, revision: &str, arm: Arm, table: Table) {
        if table.is_empty() {
            return;
        }
        let pair = self.0.entry((role, revision.to_owned())).or_default();
        pair.counted = role == "server";
        match arm {
            Arm::Direct => pair.direct = table,
            Arm::Gateway => pair.gateway = table,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Role, revision and both arms.
    pub(super) fn pairs(&self) -> impl Iterator<Item = (&'static str, &str, &Pair)> {
        self.0.iter().map(|((role, revision), pair)| (*role, revision.as_str(), pair))
    }

    /// Whether the gateway's table is the direct one.
    pub(super) fn verdict(&self) -> Verdict {
        let mut differences = Vec::new();
        for (role, revision, pair) in self.pairs() {
            for name in pair.names().into_iter().filter(|name| !pair.is_equal(name)) {
                let (direct, gateway) = (shown(pair.direct.get(name)), shown(pair.gateway.get(name)));
                differences.push(format!("{role} {revision} {name}: {direct} directly, {gateway} through the gateway"));
            }
        }
        Verdict {
            differences,
            good: "the gateway's tables are the direct ones",
            bad: "the gateway's tables are not the direct ones",
        }
    }

    pub(super) fn json(&self) -> Value {
        let arm = |table: &Table| {
            let (passed, failed) = table.sum();
            let scenarios: BTreeMap<&str, Value> =
                table.0.iter().map(|(name, one)| (name.as_str(), one.json())).collect();
            json!({ "passed": passed, "failed": failed, "scenarios": scenarios })
        };
        let mut roles: BTreeMap<&str, BTreeMap<&str, Value>> = BTreeMap::new();
        for (role, revision, pair) in self.pairs() {
            let both = json!({ "direct": arm(&pair.direct), "gateway": arm(&pair.gateway) });
            roles.entry(role).or_default().insert(revision, both);
        }
        json!(roles)
    }
}

impl fmt::Display for Tables {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (role, revision, pair) in self.pairs() {
            writeln!(
                to,
                "\n{:<50} {:>12} {:>12}",
                format!("{role}s, {revision} (passed/failed)"),
                "direct",
                "gateway"
            )?;
            for name in pair.names() {
                let mark = if pair.is_equal(name) { "" } else { "  differs" };
                let (direct, gateway) = (shown(pair.direct.get(name)), shown(pair.gateway.get(name)));
                writeln!(to, "{name:<50} {direct:>12} {gateway:>12}{mark}")?;
            }
            let sum = |table: &Table| format!("{}/{}", table.sum().0, table.sum().1);
            writeln!(to, "{:<50} {:>12} {:>12}", "sum", sum(&pair.direct), sum(&pair.gateway))?;
        }
        Ok(())
    }
}

fn shown(scenario: Option<&Scenario>) -> String {
    scenario.map_or_else(|| "did not run".to_owned(), |one| format!("{}/{}", one.passed, one.failed))
}

/// What is not as it should be, and what that means.
#[derive(Debug)]
pub(super) struct Verdict {
    pub(super) differences: Vec<String>,
    pub(super) good: &'static str,
    pub(super) bad: &'static str,
}

impl Verdict {
    pub(super) fn holds(&self) -> bool {
        self.differences.is_empty()
    }

    pub(super) fn sentence(&self) -> &'static str {
        if self.holds() { self.good } else { self.bad }
    }
}
