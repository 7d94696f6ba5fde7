//! Dependencies against `deny.toml`, the verifier for browsers, the fuzz targets (listed, or run for a while), and the
//! long tests of the ledger and of policy.
//!
//! Advisories are not asked for: they need a network and change by the day. They belong in a scheduled job.

mod hours;

use crate::{shell, tree::Tree, wasm, workspace::Workspace};
use anyhow::{Context, Result, bail};
use std::{fs, path::Path, time::Instant};

const TARGETS: &str = "fuzz/fuzz_targets";
/// Where seeds lie, in folders named after a point or a target.
const CORPORA: [&str; 2] = ["crates/points/tests/corpus", "fuzz/corpus"];

pub(crate) fn command(fuzz_seconds: Option<u32>) -> Result<bool> {
    let root = Workspace::root()?;
    println!("== dependencies");
    install(&root, "cargo-deny", "deny")?;
    let clean = shell::cargo(&root).args(["deny", "check", "bans", "licenses", "sources"]).status()?.success();
    let agrees = wasm::command()?;
    let targets = fuzz_targets(&Tree::read(&root)?);
    println!("== fuzz targets: {}", targets.len());
    let compile =
        shell::cargo(&root).args(["check", "--quiet", "--manifest-path", "fuzz/Cargo.toml"]).status()?.success();
    for target in &targets {
        println!("  {target}: {} s so far", hours::so_far(&root, target)?);
    }
    let survived = match fuzz_seconds {
        None => true,
        Some(seconds) => fuzz(&root, &targets, seconds)?,
    };
    Ok(clean && agrees && compile && survived)
}

/// What the ledger's attackers and faults do in full: far more than fits between two commits.
const FULL: [(&str, &str); 2] = [("COUNTERSIGN_TAMPER_FLIPS", "10000"), ("COUNTERSIGN_SIMULATOR_RUNS", "10000")];

/// 10,000 flipped bits in a log of 10,000 records, and 10,000 seeded runs of the simulator.
pub(crate) fn ledger() -> Result<bool> {
    let mut tests = shell::cargo(&Workspace::root()?);
    tests.envs(FULL).args(["test", "-p", "countersign-testkit", "--test", "tamper", "--test", "simulator"]);
    Ok(tests.status()?.success())
}

/// A million random pairs of policies and a request: the index, every policy together and the reference evaluator agree.
pub(crate) fn policy() -> Result<bool> {
    let mut tests = shell::cargo(&Workspace::root()?);
    tests.env("COUNTERSIGN_POLICY_PAIRS", "1000000");
    tests.args(["test", "--release", "-p", "countersign-kernel", "--test", "indexed"]);
    Ok(tests.status()?.success())
}

fn install(root: &Path, package: &str, command: &str) -> Result<()> {
    if shell::works(shell::cargo(root).args([command, "--version"])) {
        return Ok(());
    }
    println!("installing {package}: it is missing here");
    shell::run(shell::cargo(root).args(["install", package, "--locked"]))
}

fn fuzz_targets(tree: &Tree) -> Vec<String> {
    let files = tree.children(TARGETS);
    files.iter().filter_map(|name| name.strip_suffix(".rs")).map(str::to_owned).collect()
}

/// Runs every target for `seconds` each, and reports all of them before it says whether one crashed.
fn fuzz(root: &Path, targets: &[String], seconds: u32) -> Result<bool> {
    if targets.is_empty() || !root.join("fuzz/Cargo.toml").is_file() {
        bail!("nothing to fuzz: `fuzz/Cargo.toml` or the files in `{TARGETS}` are missing");
    }
    install(root, "cargo-fuzz", "fuzz")?;
    let grown = Workspace::read(root)?.target.join("fuzz-corpus");
    let mut crashed = Vec::new();
    for target in targets {
        println!("== fuzz {target} for {seconds} s");
        let found = grown.join(target);
        fs::create_dir_all(&found).with_context(|| format!("cannot make `{}`", found.display()))?;
        let mut run = shell::cargo(root);
        // The sanitizer's flags are unstable, yet the stable compiler carries the runtime: let it take them.
        run.env("RUSTC_BOOTSTRAP", "1").args(["fuzz", "run", "--fuzz-dir", "fuzz", target]).arg(&found);
        let point = target.split('_').next().unwrap_or(target);
        let seeds = CORPORA.iter().zip([point, target]).map(|(corpus, name)| root.join(corpus).join(name));
        run.args(seeds.filter(|folder| folder.is_dir()));
        run.arg("--").arg(format!("-max_total_time={seconds}"));
        let start = Instant::now();
        if run.status()?.success() {
            // Building took part of the time; what was asked for is what ran.
            hours::add(root, target, u64::from(seconds).min(start.elapsed().as_secs()))?;
        } else {
            crashed.push(target.as_str());
        }
    }
    if crashed.is_empty() {
        println!("fuzz: {} targets, none crashed", targets.len());
    } else {
        println!("fuzz: failed: {} (inputs lie in fuzz/artifacts/)", crashed.join(", "));
    }
    Ok(crashed.is_empty())
}
