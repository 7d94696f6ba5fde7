//! `policy suggest`: a first policy, learned from what ran, with what it would have done to the same calls.
//!
//! It asks nobody and changes nothing but the file that it is told to write.

use anyhow::Result;
use countersign_policy::backtest::Backtest;
use countersign_policy::privilege::suggested;
use countersign_policy::rules::Rules;
use serde_json::json;

use super::policy_audit::{known_agent, observe, places, write_new};
use super::policy_backtest::{again, summary_text, summary_value};
use crate::cli;
use crate::context::Context;
use crate::past::{Asked, Past, Recall};
use crate::terminal::Exit;

/// Runs the command.
pub(crate) fn run(asked: &cli::Suggest, context: &Context) -> Result<Exit> {
    let current = Asked::current(&context.layout)?;
    let agent = asked.agent.as_deref().map(|name| known_agent(name, &current.config)).transpose()?;
    let past = Past::open((&asked.since, &asked.period), context)?;
    let places = places(&current.config);
    let observed = observe(&past, (&current, &places), context)?;
    let learned = suggested(&current.source, &observed.used, (&places, agent.as_ref()))
        .map_err(|why| anyhow::anyhow!("{why}"))?;
    let recall = Recall::new(&current, &current);
    let backtest = Backtest::new(&learned.bundle, &Rules::read(&learned.source.policies)?);
    let (groups, _) = again(&past, (&backtest, &recall), context, &mut |_| {})?;
    if let Some(file) = &asked.write {
        write_new(file, &learned.text)?;
    }
    let value = json!({
        "policy": learned.text, "permits": learned.permits, "gated": learned.gated,
        "hash": learned.bundle.hash().hex(), "file": asked.write, "backtest": summary_value(&groups),
    });
    if context.out.json {
        context.out.result(&value, "");
        return Ok(Exit::Done);
    }
    // What is learned can be redirected into a file; what is said of it cannot get into it.
    match &asked.write {
        Some(file) => anstream::eprintln!("the policy is in {}", file.display()),
        None => context.out.result(&value, &learned.text),
    }
    anstream::eprintln!(
        "{} permits, {} more behind a gate; decided again under it:\n{}",
        learned.permits,
        learned.gated,
        summary_text(&groups)
    );
    Ok(Exit::Done)
}
