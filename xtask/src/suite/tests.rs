//! What the two runners print, and what is counted from it.

use super::counts::{self, Runner};

fn check(runner: Runner, text: &str, passed: u64, failed: u64) {
    let found = counts::of(text, runner);
    assert_eq!((found.passed, found.failed), (passed, failed), "in {text:?}");
}

#[test]
fn nextest_summaries() {
    let check = |text, passed, failed| check(Runner::Nextest, text, passed, failed);
    check("     Summary [   0.004s] 2 tests run: 2 passed, 1 skipped", 2, 0);
    check("     Summary [  61.0s] 7 tests run: 3 passed (1 slow, 1 leaky), 2 failed, 1 timed out, 1 exec failed", 3, 4);
    check("     Summary [   0.1s] 3/5 tests run: 2 passed, 1 failed, 0 skipped", 2, 1);
    check("     Summary [   0.1s] 1 test run: 1 passed, 0 skipped\n     Summary [   0.1s] 1 test run: 1 failed", 0, 1);
}

#[test]
fn a_failed_tests_output_is_not_counted_again() {
    let shown = "    test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 1 filtered out";
    let text = format!("{shown}\n     Summary [   0.2s] 27 tests run: 26 passed, 1 failed, 0 skipped\n{shown}\n");
    check(Runner::Nextest, &text, 26, 1);
}

#[test]
fn cargo_test_summaries_add_up() {
    let text = "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s\n\
                test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s\n\
                I saw a test result: ok. 9 passed; 9 failed\n";
    check(Runner::Cargo, text, 4, 2);
}
