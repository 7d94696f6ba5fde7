//! The scenarios of clients: the suite is the server, and the fixture's client reaches it directly or through the gateway.
//!
//! The suite starts a server for each scenario, at a port of its choice, and then a command with its URL. That command is
//! this program again ([`play`]): it puts a door, or a gateway with a door on each side, between the two.

use super::{Arm, CLIENT, Run, gateway::Installation, gateway::quoted, processes, results, table::Table};
use crate::shell;
use anyhow::{Context, Result};
use std::{
    path::PathBuf,
    process::{Command, ExitStatus},
};

/// What [`play`] must know, as JSON.
const VARIABLE: &str = "COUNTERSIGN_CONFORMANCE";
/// The suite's limit for one client; the fixture's client ends by itself before.
const LIMIT_MS: &str = "60000";

/// Those of each revision that are not about authorization.
const SCENARIOS: [(&str, &[&str]); 2] = [
    (
        "2025-11-25",
        &[
            "initialize",
            "tools_call",
            "elicitation-sep1034-client-defaults",
            "sse-retry",
            "json-schema-2020-12-preservation",
        ],
    ),
    (
        "2026-07-28",
        &[
            "tools_call",
            "request-metadata",
            "sep-2322-client-request-state",
            "http-standard-headers",
            "http-custom-headers",
            "http-invalid-tool-headers",
            "json-schema-ref-no-deref",
            "json-schema-2020-12-preservation",
        ],
    ),
];

#[derive(serde::Serialize, serde::Deserialize)]
struct Play {
    fixture: PathBuf,
    /// The gateway to put between, and the folder to start it in.
    through: Option<(Installation, PathBuf)>,
}

impl Run {
    /// The table of one revision.
    pub(super) fn clients(&self, arm: Arm, revision: &str) -> Result<Table> {
        eprintln!("conformance: clients, {revision}, {}", arm.name());
        let scenarios = SCENARIOS.iter().find(|(known, _)| *known == revision).map_or(&[][..], |(_, names)| names);
        let mut table = Table::default();
        for scenario in scenarios.iter().filter(|name| self.options.wants(name)) {
            table.append(self.client(arm, revision, scenario)?);
        }
        Ok(table)
    }

    /// Where the gateway of a scenario runs. A number names it: the path of a socket has room for 107 bytes.
    fn installation_of(&self, revision: &str, scenario: &str) -> PathBuf {
        let all = SCENARIOS.iter().flat_map(|(of, names)| names.iter().map(move |name| (*of, *name)));
        let number = all.take_while(|known| *known != (revision, scenario)).count();
        self.folder.join(format!("gateway-{number}"))
    }

    fn client(&self, arm: Arm, revision: &str, scenario: &str) -> Result<Table> {
        let name = format!("{}-client-{revision}-{scenario}", arm.name());
        let folder = self.folder.join(&name);
        let through = match arm {
            Arm::Direct => None,
            Arm::Gateway => Some((self.installation.clone(), self.installation_of(revision, scenario))),
        };
        let play = serde_json::to_string(&Play { fixture: self.fixture.clone(), through })?;
        let here = std::env::current_exe()?;
        let command = format!("{} {CLIENT}", quoted(here.to_str().context("the build's folder is not UTF-8")?));
        let mut suite = Command::new(&self.suite.node);
        suite.arg(&self.suite.script).args(["client", "--command", &command, "--scenario", scenario]);
        suite.args(["--spec-version", revision, "--timeout", LIMIT_MS, "-o"]).arg(&folder).env(VARIABLE, play);
        let log = self.folder.join(format!("{name}.log"));
        shell::logged(&mut suite, &log)?;
        let mut table = if folder.is_dir() { results::read(&folder, "")? } else { Table::default() };
        results::broken_off(&mut table, scenario)?;
        if table.sum().1 > 0 {
            shell::show_end(&log)?;
        }
        Ok(table)
    }
}

/// Plays the client of one scenario: `url` is the suite's server.
pub(crate) fn play(url: &str) -> Result<bool> {
    let told = std::env::var(VARIABLE).with_context(|| format!("{VARIABLE} is not set: the suite starts this"))?;
    let play: Play = serde_json::from_str(&told)?;
    let (address, path) = processes::parts(url)?;
    let ended = match &play.through {
        None => {
            let door = processes::door(&play.fixture, address, 0, None)?;
            let (near, _) = processes::parts(&door.url)?;
            client(&play, &format!("http://{near}{path}"))?
        }
        Some((installation, folder)) => {
            let _back = processes::door(&play.fixture, address, installation.upstream, None)?;
            installation.up(folder, |url, token| {
                let (address, _) = processes::parts(url)?;
                let door = processes::door(&play.fixture, address, 0, Some(token))?;
                client(&play, &door.url)
            })?
        }
    };
    Ok(ended.success())
}

fn client(play: &Play, url: &str) -> Result<ExitStatus> {
    Command::new(&play.fixture).args(["client", url]).status().context("cannot start the client")
}
