//! The scenarios of servers: the suite is the client of the fixture's server, or of the gateway before it.
//!
//! It must not know what the scenarios are: the suite has a list of what each revision requires, and of what it runs
//! besides; both are run.

use super::{Arm, REVISIONS, Run, processes, results, table::Table};
use crate::shell;
use anyhow::{Context, Result};
use std::{fs, process::Command};

impl Run {
    /// The tables of both revisions.
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
        let one = |revision| {
            eprintln!("conformance: servers, {revision}, {}", arm.name());
            let folder = self.folder.join(format!("{}-server-{revision}", arm.name()));
            let mut suite = Command::new(&self.suite.node);
            suite.arg(&self.suite.script).args(["server", "--url", url, "--requirements", revision, "-o"]).arg(&folder);
            let log = self.folder.join(format!("{}-server-{revision}.log", arm.name()));
            // It ends with 1 where a scenario fails, and that is for the table to say.
            shell::logged(&mut suite, &log)?;
            let read = || {
                let mut table = results::read(&folder, "server-")?;
                results::complete(&mut table, &fs::read_to_string(&log)?)?;
                Ok::<_, anyhow::Error>(table)
            };
            Ok((revision, read().with_context(|| format!("see `{}`", log.display()))?))
        };
        REVISIONS.into_iter().map(one).collect()
    }
}
