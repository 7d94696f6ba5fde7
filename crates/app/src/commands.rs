//! The commands: each turns words of the command line into one deed and its exit code.

pub(crate) mod approvals;
pub(crate) mod init;
pub(crate) mod log;
pub(crate) mod orders;
pub(crate) mod policy;
pub(crate) mod up;

use anyhow::Result;
use countersign_model::TimeMs;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::admin::Admin;
use crate::cli::{Cli, Command};
use crate::keys::HumanKey;
use crate::layout::Layout;
use crate::terminal::{Exit, Output, passphrase};

/// What every command needs.
pub(crate) struct Context {
    /// Where things lie.
    pub(crate) layout: Layout,
    /// Where results go.
    pub(crate) out: Output,
}

impl Context {
    /// The way to the running gateway.
    pub(crate) fn admin(&self) -> Admin {
        Admin::new(self.layout.admin_socket())
    }

    /// Opens a human's key with the passphrase typed at the terminal.
    pub(crate) fn open_key(&self, human: &str) -> Result<HumanKey> {
        let id = approvals::human(human)?;
        let path = self.layout.human_key(human);
        let phrase = passphrase(&format!("passphrase for {human}'s key: "))?;
        HumanKey::open(id, &path, &phrase)
    }
}

/// Runs what was asked for.
pub(crate) fn run(cli: Cli) -> Result<Exit> {
    let context = Context { layout: Layout::of_config(&cli.config), out: Output { json: cli.json } };
    match cli.command {
        Command::DemoUpstream { database } => {
            crate::demo::upstream::serve(&database)?;
            Ok(Exit::Done)
        }
        // No runtime, no configuration, no ledger: a kill needs none of them.
        Command::Kill(scope) => orders::kill(&scope, &context),
        Command::Log(command) => log::run(command, &context),
        Command::Init(init) => init::run(&init, context.out),
        command => runtime()?.block_on(on_runtime(command, &context)),
    }
}

async fn on_runtime(command: Command, context: &Context) -> Result<Exit> {
    match command {
        Command::Demo(demo) => crate::demo::run(demo, context.out).await,
        Command::Up => up::run(context).await,
        Command::Approvals(command) => approvals::run(command, context).await,
        Command::Policy(command) => policy::run(command, context).await,
        command => orders::run(command, context).await,
    }
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}

/// A time for people, in UTC.
pub(crate) fn when(ms: u64) -> String {
    i64::try_from(ms / 1_000)
        .ok()
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
        .and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_else(|| format!("{ms} ms after 1970"))
}

/// This machine's wall clock.
pub(crate) fn wall() -> TimeMs {
    use countersign_gate::clock::{Clock as _, SystemClock};
    SystemClock::start().wall()
}
