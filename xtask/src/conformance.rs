//! `cargo xtask conformance`: the official suite against the fixture, directly and through the gateway, side by side.
//!
//! Both arms go through the same door, which adds the gateway's token in one of them and nothing in the other. What is
//! compared is what the suite itself says of each scenario. The scenarios of clients run the other way round: the suite
//! is the server, and the fixture's client reaches it directly or through the gateway. Not run are the suite's scenarios
//! of authorization: a gateway is a resource server of its own and passes no client's authorization on.

mod clients;
mod gateway;
mod processes;
mod recorded;
mod results;
mod servers;
mod table;
#[cfg(test)]
mod tests;

use crate::{
    lab::conformance::{self as lab, Suite},
    shell,
    workspace::Workspace,
};
use anyhow::{Context, Result, bail};
use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use gateway::Installation;
use table::{Tables, Verdict};

/// The word that has this program be the client of a scenario, as the suite starts it.
pub(crate) const CLIENT: &str = "conformance-client";

const REVISIONS: [&str; 2] = ["2025-11-25", "2026-07-28"];

/// What decides how it ends, and what it writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Aim {
    /// The gateway's table is the direct one.
    Equal,
    /// The gateway's table is the recorded one.
    Recorded,
    /// The recorded table becomes what it is now.
    Record,
}

/// What is run, and what comes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) aim: Aim,
    pub(crate) json: bool,
    /// The fixture is the gateway's child process. Clients are left out: the suite's servers speak HTTP.
    pub(crate) stdio: bool,
    /// Scenarios by name; all if there are none.
    pub(crate) only: Vec<String>,
}

impl Options {
    /// Everything, over HTTP.
    pub(crate) fn all(aim: Aim) -> Self {
        Self { aim, json: false, stdio: false, only: Vec::new() }
    }

    /// What the words after `conformance` ask for; `None` if they contradict each other. What is recorded is everything.
    pub(crate) fn read(words: &[&str]) -> Option<Self> {
        let mut options = Self::all(Aim::Equal);
        for word in words {
            match *word {
                "--recorded" if options.aim == Aim::Equal => options.aim = Aim::Recorded,
                "--record" if options.aim == Aim::Equal => options.aim = Aim::Record,
                "--json" => options.json = true,
                "--stdio" => options.stdio = true,
                name if !name.starts_with('-') => options.only.push(name.to_owned()),
                _ => return None,
            }
        }
        let is_all = !options.stdio && options.only.is_empty();
        (is_all || options.aim == Aim::Equal).then_some(options)
    }

    fn wants(&self, scenario: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|name| name == scenario)
    }
}

/// Which of the two ways a scenario goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Arm {
    Direct,
    Gateway,
}

/// All that a run needs to find.
struct Run {
    suite: Suite,
    fixture: PathBuf,
    installation: Installation,
    options: Options,
    /// Below the build's folder; made anew for each run, and kept for who wants to know why something failed.
    folder: PathBuf,
}

/// Builds, installs, runs, compares and prints; true if the aim is reached.
pub(crate) fn command(options: Options) -> Result<bool> {
    let root = Workspace::root()?;
    for package in ["countersign-app", "countersign-fixture"] {
        shell::run(shell::cargo(&root).args(["build", "--bins", "-p", package]))?;
    }
    built(&root, options)
}

/// As [`command`], with the programs that are there already.
pub(crate) fn built(root: &Path, options: Options) -> Result<bool> {
    let start = Instant::now();
    let target = Workspace::read(root)?.target;
    let run = Run::prepare(root, &target, options)?;
    let tables = run.all()?;
    let verdict = match run.options.aim {
        Aim::Equal => tables.verdict(),
        Aim::Recorded => recorded::compare(root, &tables)?,
        Aim::Record => recorded::write(root, &tables)?,
    };
    print(&run, &tables, &verdict)?;
    if !run.options.json {
        println!("{:.0} s; what the suite wrote: {}", start.elapsed().as_secs_f64(), run.folder.display());
    }
    Ok(verdict.holds())
}

impl Run {
    fn prepare(root: &Path, target: &Path, options: Options) -> Result<Self> {
        let suite = lab::ensure(root)?;
        let folder = target.join("conformance");
        if folder.exists() {
            fs::remove_dir_all(&folder).with_context(|| format!("cannot remove `{}`", folder.display()))?;
        }
        fs::create_dir_all(&folder)?;
        let programs = target.join("debug");
        let fixture = programs.join("countersign-fixture");
        let child = options.stdio.then_some(fixture.as_path());
        let installation = Installation::make(&programs.join("countersign"), &folder.join("template"), child)?;
        Ok(Self { suite, fixture, installation, options, folder })
    }

    fn all(&self) -> Result<Tables> {
        let mut tables = Tables::default();
        for arm in [Arm::Direct, Arm::Gateway] {
            for (revision, table) in self.servers(arm)? {
                tables.put("server", revision, arm, table);
            }
            if !self.options.stdio {
                for revision in REVISIONS {
                    tables.put("client", revision, arm, self.clients(arm, revision)?);
                }
            }
        }
        if tables.is_empty() {
            bail!("no scenario is called `{}`", self.options.only.join("` or `"));
        }
        Ok(tables)
    }
}

impl Arm {
    fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Gateway => "gateway",
        }
    }
}

fn print(run: &Run, tables: &Tables, verdict: &Verdict) -> Result<()> {
    if run.options.json {
        let shown = serde_json::json!({
            "suite": run.suite.version, "tables": tables.json(), "holds": verdict.holds(), "differs": verdict.differences,
        });
        println!("{}", serde_json::to_string(&shown)?);
        return Ok(());
    }
    print!("{tables}");
    println!("\nsuite {}", run.suite.version);
    for difference in &verdict.differences {
        println!("  {difference}");
    }
    println!("{}", verdict.sentence());
    Ok(())
}

pub(crate) use clients::play;
