//! The scenarios of servers: the suite is the client of the fixture's server, or of the gateway before it.
//!
//! It must not know what the scenarios are: the suite has a list of what each revision requires, and of what it runs
//! besides; both are run.

use super::{Arm, REVISIONS, Run, processes, results, table::Table};
use crate::shell;
use anyhow::{Context, Result};
use std::{fs, process::Command};

/// Scenarios of an extension that no revision's list names; they are run at the last revision.
const SKILLS: [&str; 3] = ["sep-2640-skills-directory", "sep-2640-skills-enumeration", "sep-2640-skills-manifest"];
const SKILLS_TABLE: &str = "skills extension";

impl Run {
    /// The tables of both revisions, and one for skills.
    pub(super) fn servers(&self, arm: Arm) -> Result<Vec<(&'static str, Table)>> {
        let server = processes::server(&self.fixture, self.installation.upstream)?;
        let (address, _) = processes::parts(&server.url)?;
        match arm {
            Arm::Direct => {
                let door = processes::door(&self.fixture, address, self.installation.front, None)?;
                self.ask(arm, &door.url)
            }
            Arm::Gateway => self.installation.up(&self.folder.join("gateway-servers"), |url, token| {
                let (address, _) = processes::parts(url)?;
                let door = processes::door(&self.fixture, address, self.installation.front, Some(token))?;
                self.ask(arm, &door.url)
            }),
        }
    }

    fn ask(&self, arm: Arm, url: &str) -> Result<Vec<(&'static str, Table)>> {
        let mut tables = Vec::new();
        for revision in REVISIONS {
            eprintln!("conformance: servers, {revision}, {}", arm.name());
            let name = format!("{}-server-{revision}", arm.name());
            let table = match self.options.only.is_empty() {
                true => self.ask_all(&name, url, revision)?,
                false => self.ask_some(&name, url, revision)?,
            };
            tables.push((revision, table));
        }
        let [_, last] = REVISIONS;
        tables.push((SKILLS_TABLE, self.ask_for(&format!("{}-server-skills", arm.name()), url, last, SKILLS)?));
        Ok(tables)
    }

    /// What the revision's list names.
    fn ask_all(&self, name: &str, url: &str, revision: &str) -> Result<Table> {
        let mut table = Table::default();
        let log = self.run(name, &["server", "--url", url, "--requirements", revision], &mut table)?;
        results::complete(&mut table, &log)
            .with_context(|| format!("see `{name}.log` in `{}`", self.folder.display()))?;
        Ok(table)
    }

    /// What of it was asked for.
    fn ask_some(&self, name: &str, url: &str, revision: &str) -> Result<Table> {
        let list = ["list", "--server", "--requirements", revision];
        let list = shell::capture(Command::new(&self.suite.node).arg(&self.suite.script).args(list))?;
        self.ask_for(name, url, revision, listed(&list))
    }

    /// Those of `scenarios` that are wanted, one by one.
    fn ask_for<'a>(
        &self,
        name: &str,
        url: &str,
        revision: &str,
        scenarios: impl IntoIterator<Item = &'a str>,
    ) -> Result<Table> {
        let mut table = Table::default();
        for scenario in scenarios.into_iter().filter(|scenario| self.options.wants(scenario)) {
            let args = ["server", "--url", url, "--scenario", scenario, "--spec-version", revision, "--force"];
            self.run(&format!("{name}-{scenario}"), &args, &mut table)?;
            results::broken_off(&mut table, scenario)?;
        }
        Ok(table)
    }

    /// Runs the suite and reads what it wrote; returns what it printed. It ends with 1 where a scenario fails, and that is
    /// for the table to say.
    fn run(&self, name: &str, args: &[&str], table: &mut Table) -> Result<String> {
        let (folder, log) = (self.folder.join(name), self.folder.join(format!("{name}.log")));
        let mut suite = Command::new(&self.suite.node);
        suite.arg(&self.suite.script).args(args).arg("-o").arg(&folder);
        shell::logged(&mut suite, &log)?;
        if folder.is_dir() {
            table.append(results::read(&folder, "server-")?);
        }
        fs::read_to_string(&log).with_context(|| format!("cannot read `{}`", log.display()))
    }
}

/// The servers' scenarios in what the suite lists: headings tell whose scenarios follow, and where both follow, brackets do.
pub(super) fn listed(text: &str) -> impl Iterator<Item = &str> {
    let mut are_servers = true;
    text.lines().filter_map(move |line| {
        let Some(name) = line.trim_start().strip_prefix("- ") else {
            if !line.trim().is_empty() {
                are_servers = !line.starts_with("Client scenarios");
            }
            return None;
        };
        (are_servers && !name.ends_with("[client]")).then(|| name.trim_end_matches(" [server]"))
    })
}
