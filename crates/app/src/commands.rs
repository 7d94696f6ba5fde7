//! The commands: each turns words of the command line into one deed and its exit code.

pub(crate) mod approvals;
mod child;
pub(crate) mod disclose;
pub(crate) mod export;
pub(crate) mod init;
pub(crate) mod keep;
pub(crate) mod log;
pub(crate) mod monitor;
pub(crate) mod orders;
pub(crate) mod policy;
mod policy_activate;
pub(crate) mod policy_audit;
pub(crate) mod policy_backtest;
pub(crate) mod policy_bundles;
pub(crate) mod policy_convert;
mod policy_diff;
pub(crate) mod policy_explain;
pub(crate) mod policy_fmt;
mod policy_prove;
pub(crate) mod policy_schema;
mod policy_separation;
pub(crate) mod policy_suggest;
mod policy_test;
pub(crate) mod query;
pub(crate) mod replay;
pub(crate) mod runs;
pub(crate) mod signer;
mod stdio;
mod token;
pub(crate) mod tools;
pub(crate) mod unknown;
pub(crate) mod up;
pub(crate) mod witness;

use anyhow::Result;

use crate::cli::{Cli, Command, Token};
use crate::context::Context;
use crate::layout::Layout;
use crate::terminal::{Exit, Output};

/// Runs what was asked for.
pub(crate) fn run(cli: Cli) -> Result<Exit> {
    let context = Context { layout: Layout::of_config(&cli.config), out: Output { json: cli.json } };
    match cli.command {
        Command::DemoUpstream { database } => {
            crate::demo::upstream::serve(&database)?;
            Ok(Exit::Done)
        }
        Command::Child(child) => match child::run(&child)? {},
        // No runtime, no configuration, no ledger: a kill needs none of them.
        Command::Kill(scope) => orders::kill(&scope, &context),
        Command::Log(command) => log::run(command, &context),
        Command::Signer(signer) => signer::run(&signer, &context),
        Command::Replay(replay) => replay::run(&replay, &context),
        Command::Init(init) => init::run(&init, context.out),
        Command::Stdio(stdio) => Ok(stdio::run(&stdio, &context)),
        Command::Token(Token::Attenuate(attenuate)) => token::attenuate(&attenuate, &context),
        Command::Token(Token::Show { file, key }) => token::show(&file, key.as_deref(), &context),
        command => runtime()?.block_on(on_runtime(command, &context)),
    }
}

async fn on_runtime(command: Command, context: &Context) -> Result<Exit> {
    match command {
        Command::Demo(demo) => crate::demo::run(demo, context.out).await,
        Command::Up => up::run(context).await,
        Command::Witness(witness) => witness::run(&witness, context.out).await,
        Command::Approvals(command) => approvals::run(command, context).await,
        Command::Erase(erase) => keep::erase(erase, context).await,
        Command::Hold(command) => keep::hold(command, context).await,
        Command::Policy(command) => policy::run(command, context).await,
        Command::Tools(command) => tools::run(command, context).await,
        command => orders::run(command, context).await,
    }
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}
