//! Set-up, tests, tidy, benchmarks and release: `cargo xtask <command>`.
//!
//! This crate knows the repository (its folders, its manifests, its pages) and runs other programs. It must not know
//! the product: it depends on no other crate of the workspace, so it still builds when they do not.

mod audit;
mod bench;
mod conformance;
mod lab;
mod shell;
mod suite;
mod tidy;
mod tree;
mod wasm;
mod workspace;

use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask <command>

  test [--fast]           everything that must hold before a commit: lab, format, clippy, tidy, tests, doc tests
                          --fast leaves out the lab's installation, clippy and the doc tests
  tidy                    the house rules alone
  lab                     installs the pinned MCP servers and clients that tests run against, and prints where
  audit [--fuzz SECONDS]  bans, licences and sources of the dependencies; lists fuzz targets, or runs each for SECONDS
  conformance [--json] [--recorded | --record | [--stdio] [SCENARIO…]]
                          the official suite against the fixture, directly and through the gateway, side by side; ends
                          with 1 where the two differ, or with --recorded where they are not as recorded;
                          --stdio has the gateway start the fixture as a child process
  wasm                    builds the offline verifier for browsers and its page, and compares its verdicts with this machine's
  audit --ledger          10,000 flipped bits and 10,000 seeded runs of the simulator: the ledger's long tests
  audit --policy          a million random questions: the index, all policies together and a reference evaluator agree
  bench [ARGS…]           the gateway's benchmarks, built as a release is
  bench windows [ARGS…]   counts in sliding windows, with few events and with many
  bench ledger [ARGS…]    the ledger's: appends beside a plain file, verification beside reading and hashing
  bench policy [ARGS…]    policy's: decisions, loading and listings, beside Cedar without an index and beside Rego
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["test"] => suite::test(suite::Extent::Full),
        ["test", "--fast"] => suite::test(suite::Extent::Fast),
        ["tidy"] => tidy::command(),
        ["lab"] => lab::command(),
        ["audit"] => audit::command(None),
        ["audit", "--ledger"] => audit::ledger(),
        ["audit", "--policy"] => audit::policy(),
        ["audit", "--fuzz", seconds] => match seconds.parse() {
            Ok(seconds) => audit::command(Some(seconds)),
            Err(_) => {
                return misuse(&format!("`--fuzz {seconds}`: not a whole number of seconds"));
            }
        },
        ["conformance", rest @ ..] => match conformance::Options::read(rest) {
            Some(options) => conformance::command(options),
            None => return misuse(&format!("`conformance {}`: no such way to run it", rest.join(" "))),
        },
        [conformance::CLIENT, url] => conformance::play(url),
        ["wasm"] => wasm::command(),
        ["bench", rest @ ..] => bench::command(rest),
        ["help" | "--help" | "-h"] => {
            print!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        [] => return misuse("no command given"),
        _ => return misuse(&format!("`{}`: no such command", words.join(" "))),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn misuse(complaint: &str) -> ExitCode {
    eprintln!("xtask: {complaint}\n\n{USAGE}");
    ExitCode::from(2)
}
