//! How many tests passed and failed, read from what the two test runners print.
//!
//! It reads summaries only and knows no test by name.

/// Tests that ran. One that timed out or could not be started has failed; one that is ignored did not run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) passed: u64,
    pub(super) failed: u64,
}

impl Counts {
    pub(super) fn add(&mut self, other: Self) {
        self.passed = self.passed.saturating_add(other.passed);
        self.failed = self.failed.saturating_add(other.failed);
    }
}

/// Whose summaries to read. What a failed test printed is in the text too, and may look like the other runner's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Runner {
    /// One summary for the run: the last one.
    Nextest,
    /// One summary for each binary, at the start of a line.
    Cargo,
}

/// Counts what the runner says of itself.
pub(super) fn of(text: &str, runner: Runner) -> Counts {
    let mut sum = Counts::default();
    match runner {
        Runner::Nextest => {
            if let Some(summary) = text.lines().rev().find_map(nextest_summary) {
                sum.add(read(summary));
            }
        }
        Runner::Cargo => text.lines().filter_map(cargo_summary).for_each(|summary| sum.add(read(summary))),
    }
    sum
}

fn nextest_summary(line: &str) -> Option<&str> {
    let (_, rest) = line.trim_start().strip_prefix("Summary [")?.split_once(']')?;
    rest.split_once(" run: ").map(|(_, counts)| counts)
}

fn cargo_summary(line: &str) -> Option<&str> {
    line.strip_prefix("test result: ")?.split_once(". ").map(|(_, counts)| counts)
}

/// Reads `3 passed (1 slow), 2 failed, 1 timed out` and `3 passed; 2 failed; 0 ignored`.
fn read(summary: &str) -> Counts {
    let mut counts = Counts::default();
    for part in summary.split([',', ';']) {
        let Some((number, what)) = part.trim().split_once(' ') else {
            continue;
        };
        let Ok(number) = number.parse() else { continue };
        let what = what.split_once(" (").map_or(what, |(what, _)| what);
        match what {
            "passed" => counts.add(Counts { passed: number, failed: 0 }),
            "failed" | "timed out" | "exec failed" => counts.add(Counts { passed: 0, failed: number }),
            _ => {}
        }
    }
    counts
}
