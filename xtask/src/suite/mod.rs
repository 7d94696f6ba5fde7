//! `cargo xtask test`: every step runs, every failure is counted, and the last line is the sum.
//!
//! A step that runs no tests counts as one failure when it fails and as nothing when it holds, so the number of tests
//! passed is the number of tests, not of steps.

mod counts;
#[cfg(test)]
mod tests;

use self::counts::{Counts, Runner};
use crate::{conformance, lab, shell, tidy, workspace::Workspace};
use anyhow::{Result, bail};
use std::{
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

/// What the default build leaves out is on for all that is compiled here, so that there is one set of artifacts and not two.
/// Clippy reads the default build as well.
const FEATURES: &str =
    "--features=countersign-app/pkcs11,countersign-app/parquet,countersign-app/rego,countersign-testkit/pkcs11";

/// How much of the suite to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// What a commit needs.
    Full,
    /// What fits between two edits: no installation, no clippy, no doc tests.
    Fast,
}

struct Step {
    name: &'static str,
    took: Duration,
    held: bool,
    counts: Counts,
}

pub(crate) fn test(extent: Extent) -> Result<bool> {
    let root = Workspace::root()?;
    let full = extent == Extent::Full;
    let mut suite = Suite { root, extent, lab: None, steps: Vec::new() };
    if full {
        suite.step("lab", Suite::prepare_lab);
    } else {
        suite.lab = lab::ready(&suite.root);
    }
    suite.step("format", |suite| {
        suite.component("fmt", "rustfmt")?;
        suite.cargo_holds(&["fmt", "--all", "--check"])
    });
    if full {
        suite.step("clippy", |suite| {
            suite.component("clippy", "clippy")?;
            suite.cargo_holds(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])?;
            suite.cargo_holds(&["clippy", "--workspace", "--all-targets", FEATURES, "--", "-D", "warnings"])
        });
    }
    suite.step("tidy", |_| held(tidy::command()?));
    suite.step("tests", Suite::tests);
    if full && suite.lab.is_some() {
        // The programs are those that the tests have just built and run.
        suite.step("conformance", |suite| {
            let options = conformance::Options::all(conformance::Aim::Recorded);
            held(conformance::built(&suite.root, options)?)
        });
    }
    if full {
        suite.step("doc tests", |suite| {
            suite.counted(Runner::Cargo, &["test", "--doc", "--workspace", FEATURES, "--no-fail-fast"])
        });
    }
    Ok(suite.report())
}

struct Suite {
    root: PathBuf,
    extent: Extent,
    lab: Option<PathBuf>,
    steps: Vec<Step>,
}

impl Suite {
    /// Runs one step, prints its time, and goes on whatever comes of it.
    fn step(&mut self, name: &'static str, run: impl FnOnce(&mut Self) -> Result<Counts>) {
        println!("\n== {name}");
        let start = Instant::now();
        let result = run(self);
        let took = start.elapsed();
        let (held, counts) = match result {
            Ok(counts) => (counts.failed == 0, counts),
            Err(error) => {
                eprintln!("{name}: {error:#}");
                (false, Counts { passed: 0, failed: 1 })
            }
        };
        println!("== {name}: {} in {:.1} s", word(held), took.as_secs_f64());
        self.steps.push(Step { name, took, held, counts });
    }

    fn prepare_lab(&mut self) -> Result<Counts> {
        let lab = lab::ensure(&self.root)?;
        println!("{}={}", lab::VARIABLE, lab.display());
        self.lab = Some(lab);
        Ok(Counts::default())
    }

    /// A toolchain of the minimal profile lacks some of its own commands; rustup can add them.
    fn component(&self, command: &str, component: &str) -> Result<()> {
        if shell::works(shell::cargo(&self.root).args([command, "--version"])) {
            return Ok(());
        }
        println!("adding the toolchain's component {component}: it is missing here");
        shell::run(Command::new("rustup").current_dir(&self.root).args(["component", "add", component]))
    }

    fn tests(&mut self) -> Result<Counts> {
        if shell::works(shell::cargo(&self.root).args(["nextest", "--version"])) {
            self.counted(
                Runner::Nextest,
                &["nextest", "run", "--workspace", FEATURES, "--no-fail-fast", "--no-tests=pass"],
            )
        } else {
            println!("cargo-nextest is missing here: running `cargo test`");
            self.counted(
                Runner::Cargo,
                &["test", "--workspace", FEATURES, "--lib", "--bins", "--tests", "--examples", "--no-fail-fast"],
            )
        }
    }

    fn cargo_holds(&self, args: &[&str]) -> Result<Counts> {
        held(shell::cargo(&self.root).args(args).status()?.success())
    }

    /// A runner that ends badly without naming a failed test (it did not compile, it was killed) is one failure.
    fn counted(&self, runner: Runner, args: &[&str]) -> Result<Counts> {
        let mut command = shell::cargo(&self.root);
        command.args(args);
        match &self.lab {
            Some(lab) => command.env(lab::VARIABLE, lab),
            None => command.env_remove(lab::VARIABLE),
        };
        if self.lab.is_none() && self.extent == Extent::Fast {
            println!("there is no lab: tests against other people's servers are left out (`cargo xtask lab`)");
            command.env(lab::LEFT_OUT, "1");
        } else {
            command.env_remove(lab::LEFT_OUT);
        }
        let (ended_well, text) = shell::echo(&mut command)?;
        let mut counts = counts::of(&text, runner);
        if !ended_well && counts.failed == 0 {
            counts.failed = 1;
        }
        Ok(counts)
    }

    fn report(&self) -> bool {
        println!("\n{:<12} {:>8} {:>9} {:>8} {:>8}", "step", "result", "seconds", "passed", "failed");
        let mut sum = Counts::default();
        for step in &self.steps {
            let Counts { passed, failed } = step.counts;
            let seconds = step.took.as_secs_f64();
            println!("{:<12} {:>8} {seconds:>9.1} {passed:>8} {failed:>8}", step.name, word(step.held));
            sum.add(step.counts);
        }
        println!("{} passed, {} failed", sum.passed, sum.failed);
        sum.failed == 0
    }
}

fn held(held: bool) -> Result<Counts> {
    if !held {
        bail!("see above");
    }
    Ok(Counts::default())
}

fn word(held: bool) -> &'static str {
    if held { "ok" } else { "FAILED" }
}
