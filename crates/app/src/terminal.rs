//! What people see: lines, colours where there is a terminal, prompts, and exit codes.
//!
//! With `--json` a command prints one object and nothing else on standard output. Prompts go to
//! the terminal itself, never to standard input or output, so a pipe can neither answer nor spy.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use countersign_model::preview::visible;

use crate::keys::PASSPHRASE_CHARS_MIN;

/// How a command ended. The numbers are documented and stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// 0: done.
    Done,
    /// 1: failed.
    Failed,
    /// 2: the command line or the configuration is wrong.
    Usage,
    /// 3: denied.
    Denied,
    /// 4: waits for consent.
    Pending,
    /// 5: a verification failed.
    Unverified,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Denied => 3,
            Exit::Pending => 4,
            Exit::Unverified => 5,
        })
    }
}

/// An error that has an exit code of its own.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Fault {
    /// The code.
    pub(crate) exit: Exit,
    /// What to say.
    pub(crate) message: String,
}

/// A usage error: exit code 2.
pub(crate) fn usage(message: impl Into<String>) -> anyhow::Error {
    Fault { exit: Exit::Usage, message: message.into() }.into()
}

/// A refusal by the gateway: exit code 3.
pub(crate) fn denied(message: impl Into<String>) -> anyhow::Error {
    Fault { exit: Exit::Denied, message: message.into() }.into()
}

/// A failed verification: exit code 5.
pub(crate) fn unverified(message: impl Into<String>) -> anyhow::Error {
    Fault { exit: Exit::Unverified, message: message.into() }.into()
}

/// The exit code of an error: its own, or 1.
pub(crate) fn exit_of(error: &anyhow::Error) -> Exit {
    error.chain().find_map(|cause| cause.downcast_ref::<Fault>()).map_or(Exit::Failed, |fault| fault.exit)
}

/// Where results go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    /// One JSON object instead of lines.
    pub(crate) json: bool,
}

impl Output {
    /// Prints a result: `value` as JSON, or `text` for people.
    pub(crate) fn result(self, value: &serde_json::Value, text: &str) {
        if self.json {
            anstream::println!("{value}");
        } else if !text.is_empty() {
            anstream::println!("{}", text.trim_end());
        }
    }

    /// Prints an error to standard error, as JSON too where that was asked for.
    pub(crate) fn error(self, error: &anyhow::Error) {
        if self.json {
            let code: u8 = exit_number(exit_of(error));
            anstream::println!("{}", serde_json::json!({"error": format!("{error:#}"), "exit": code}));
            return;
        }
        anstream::eprintln!("{BAD}error:{BAD:#} {}", visible_lines(&format!("{error:#}")));
    }
}

/// How many characters fit a line of standard output, where that is a terminal.
pub(crate) fn width() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok()?;
    (size.ws_col > 0).then(|| usize::from(size.ws_col))
}

/// Says what is wrong with the command line, or gives the help that was asked for.
pub(crate) fn misread(error: &clap::Error) -> Exit {
    // What was asked for could not be read, so neither could `--json`.
    let json = std::env::args_os().any(|argument| argument == "--json");
    if json && error.use_stderr() {
        let text = error.render().to_string();
        Output { json }.error(&usage(text.trim().trim_start_matches("error: ")));
        return Exit::Usage;
    }
    // A terminal that is gone cannot be told.
    let _ = error.print();
    if error.use_stderr() { Exit::Usage } else { Exit::Done }
}

const fn exit_number(exit: Exit) -> u8 {
    match exit {
        Exit::Done => 0,
        Exit::Failed => 1,
        Exit::Usage => 2,
        Exit::Denied => 3,
        Exit::Pending => 4,
        Exit::Unverified => 5,
    }
}

/// Text that may come from an agent, with what a terminal would obey shown as escapes; lines stay.
pub(crate) fn visible_lines(text: &str) -> String {
    text.lines().map(visible).collect::<Vec<_>>().join("\n")
}

/// Green.
pub(crate) const GOOD: anstyle::Style = anstyle::AnsiColor::Green.on_default().bold();
/// Red.
pub(crate) const BAD: anstyle::Style = anstyle::AnsiColor::Red.on_default().bold();
/// Yellow.
pub(crate) const WAIT: anstyle::Style = anstyle::AnsiColor::Yellow.on_default().bold();
/// Grey.
pub(crate) const FAINT: anstyle::Style = anstyle::Style::new().dimmed();
/// Bold.
pub(crate) const STRONG: anstyle::Style = anstyle::Style::new().bold();

/// Asks yes or no on the terminal itself, so that no pipe can answer. Anything but `y` is no.
pub(crate) fn confirm(question: &str) -> Result<bool> {
    use std::io::{BufRead as _, BufReader, Write as _};
    let mut terminal = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/tty")
        .map_err(|_| usage("there is no terminal to ask at; look at what would be accepted, then give `--yes`"))?;
    terminal.write_all(question.as_bytes())?;
    let mut answer = String::new();
    BufReader::new(terminal).read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Asks for the passphrase of `human`'s key, on the terminal.
pub(crate) fn passphrase(prompt: &str) -> Result<String> {
    rpassword::prompt_password(prompt).context(
        "a human's key is opened with a passphrase typed at a terminal, and there is none here; run this in a terminal",
    )
}

/// Asks for a new passphrase, twice.
pub(crate) fn new_passphrase(human: &str) -> Result<String> {
    let first = passphrase(&format!("new passphrase for {human}'s key: "))?;
    let second = passphrase("the same again: ")?;
    if first != second {
        return Err(usage("the two passphrases differ; nothing was written"));
    }
    if first.chars().count() < PASSPHRASE_CHARS_MIN {
        return Err(usage(format!(
            "the passphrase has fewer than {PASSPHRASE_CHARS_MIN} characters; choose a longer one; nothing was written"
        )));
    }
    Ok(first)
}
