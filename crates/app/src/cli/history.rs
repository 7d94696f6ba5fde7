//! What can be asked of a policy with the record at hand.

use std::path::PathBuf;

use clap::Args;

/// Which part of which log is looked at.
#[derive(Clone, Debug, Args)]
pub(crate) struct Period {
    /// Calls before this time.
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<String>,
    /// The ledger's folder; by default that of the configuration.
    #[arg(long, value_name = "DIR")]
    pub(crate) ledger: Option<PathBuf>,
    /// The log's verifier key, as text or as a file; by default the ledger's own.
    #[arg(long, value_name = "VKEY")]
    pub(crate) key: Option<String>,
}

/// `policy backtest`.
#[derive(Debug, Args)]
#[command(
    after_help = "The log is verified on the way, offline or beside a running gateway. What was denied before policy was asked\n\
    (kill, freeze, budget, a changed tool) stays as it was and is counted apart. What cannot be judged again, such as a\n\
    call whose payload was erased where its binding changed, is counted as not comparable and never as the same."
)]
pub(crate) struct Backtest {
    /// The new policy: a countersign.yaml, a folder with one, or policy files in place of those of the configuration.
    /// Without it the configuration as it is now.
    #[arg(value_name = "NEW")]
    pub(crate) new: Vec<PathBuf>,
    /// Calls at or after this time: RFC 3339, or how long ago, such as `7d`.
    #[arg(long, value_name = "TIME", default_value = "30d")]
    pub(crate) since: String,
    /// Which part of which log.
    #[command(flatten)]
    pub(crate) period: Period,
    /// List every changed verdict, not only groups of them. With `--json`, one object a line, the summary last.
    #[arg(long)]
    pub(crate) all: bool,
    /// Exit code 1 if any verdict changes, or any call cannot be compared.
    #[arg(long)]
    pub(crate) fail_on_change: bool,
    /// Exit code 1 if anything would run unasked that did not, or under less than it did, or cannot be compared.
    #[arg(long)]
    pub(crate) fail_on_wider: bool,
}

/// `policy explain`.
#[derive(Debug, Args)]
#[command(
    after_help = "RECORD is a record's index in the log, or a ticket. ACTION is a YAML or JSON file with `action:` and, where wanted,\n\
    `facts:`, `history:` and `arguments:`, as a case of `policy test` has them; or pairs, such as\n\
    agent=coder tool=db/query sql='drop table customers'."
)]
pub(crate) struct Explain {
    /// What to explain.
    #[arg(value_name = "RECORD|ACTION", required = true)]
    pub(crate) what: Vec<String>,
    /// Explain it under this policy instead: a countersign.yaml, a folder with one, or a policy file; may be repeated.
    #[arg(long, value_name = "NEW")]
    pub(crate) policy: Vec<PathBuf>,
    /// The ledger's folder; by default that of the configuration.
    #[arg(long, value_name = "DIR")]
    pub(crate) ledger: Option<PathBuf>,
}

/// `policy audit`.
#[derive(Debug, Args)]
#[command(
    after_help = "Only permits are narrowed, and only to less. The tightened policy is decided against the same calls before it is\n\
    shown. Nothing takes effect before a human applies the diff and accepts it with `countersign policy activate`."
)]
pub(crate) struct Audit {
    /// Calls at or after this time: RFC 3339, or how long ago, such as `7d`.
    #[arg(long, value_name = "TIME", default_value = "90d")]
    pub(crate) since: String,
    /// Which part of which log.
    #[command(flatten)]
    pub(crate) period: Period,
    /// Only what is about this agent; only permits that are its alone are narrowed.
    #[arg(long, value_name = "AGENT")]
    pub(crate) agent: Option<String>,
    /// A grant that was not used for so many days is unused.
    #[arg(long, value_name = "DAYS", default_value_t = 30)]
    pub(crate) unused_days: u64,
    /// Write the diff to this file, which must not exist.
    #[arg(long, value_name = "FILE")]
    pub(crate) write: Option<PathBuf>,
}

/// `policy suggest`.
#[derive(Debug, Args)]
#[command(
    after_help = "The policy goes to standard output, what it would have done to the same calls to standard error. Read every rule\n\
    before you accept it: that something was done does not make it right."
)]
pub(crate) struct Suggest {
    /// Calls at or after this time: RFC 3339, or how long ago, such as `7d`.
    #[arg(long, value_name = "TIME", default_value = "30d")]
    pub(crate) since: String,
    /// Which part of which log.
    #[command(flatten)]
    pub(crate) period: Period,
    /// Learn for this agent alone.
    #[arg(long, value_name = "AGENT")]
    pub(crate) agent: Option<String>,
    /// Write the policy to this file, which must not exist.
    #[arg(long, value_name = "FILE")]
    pub(crate) write: Option<PathBuf>,
}
