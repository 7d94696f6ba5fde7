//! The story in the terminal: one line an event, in colour where there is a terminal.
//!
//! With `--json` the story goes to standard error, so that standard output holds one object.

use std::time::Duration;

use anstyle::Style;

use crate::terminal::{BAD, FAINT, GOOD, Output, STRONG, WAIT};

/// Tells.
pub(crate) struct Story {
    out: Output,
}

impl Story {
    /// A story that goes where `out` says.
    pub(crate) const fn new(out: Output) -> Self {
        Self { out }
    }

    /// A heading.
    pub(crate) fn chapter(&self, text: &str) {
        self.say(&format!("\n{STRONG}{text}{STRONG:#}"));
    }

    /// Something that ran.
    pub(crate) fn allowed(&self, what: &str, result: &str) {
        self.event(GOOD, "allowed", what, result);
    }

    /// Something that may not run.
    pub(crate) fn denied(&self, what: &str, why: &str) {
        self.event(BAD, "denied", what, why);
    }

    /// Something that waits.
    pub(crate) fn parked(&self, what: &str, ticket: &str) {
        self.event(WAIT, "parked", what, ticket);
    }

    /// Something that was stopped.
    pub(crate) fn cancelled(&self, what: &str, how: &str) {
        self.event(BAD, "stopped", what, how);
    }

    /// What a human does.
    pub(crate) fn human(&self, what: &str, result: &str) {
        self.event(STRONG, "human", what, result);
    }

    /// What was checked.
    pub(crate) fn checked(&self, holds: bool, what: &str) {
        if holds {
            self.event(GOOD, "holds", what, "");
        } else {
            self.event(BAD, "BROKEN", what, "");
        }
    }

    /// Waits, with a bar where there is a terminal.
    pub(crate) async fn wait(&self, what: &str, long: Duration) {
        let steps = (long.as_millis() / 50).max(1);
        let bar = crate::context::progress(!self.out.json);
        bar.set_length(u64::try_from(steps).unwrap_or(1));
        if let Ok(style) = indicatif::ProgressStyle::with_template("  {msg} {bar:30} {eta} left") {
            bar.set_style(style);
        }
        bar.set_message(what.to_owned());
        for _ in 0..steps {
            tokio::time::sleep(Duration::from_millis(50)).await;
            bar.inc(1);
        }
        bar.finish_and_clear();
    }

    fn event(&self, style: Style, word: &str, what: &str, result: &str) {
        let result = crate::terminal::visible_lines(result);
        let result: String = result.chars().take(90).collect();
        self.say(&format!("  {style}{word:<8}{style:#} {what}  {FAINT}{result}{FAINT:#}"));
    }

    fn say(&self, line: &str) {
        if self.out.json {
            anstream::eprintln!("{line}");
        } else {
            anstream::println!("{line}");
        }
    }
}
