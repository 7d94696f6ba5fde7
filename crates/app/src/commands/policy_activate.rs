//! `policy activate`: a human accepts configuration and policy, and consents to what became wider.
//!
//! What was accepted last is compared with what is to be: by proof, see `policy diff`. Where the new one is wider, or is
//! not proven not to be, the human sees each line and consents to exactly these: the digest of both hashes and of all
//! lines is signed with the acceptance. The gateway cannot run a solver and does not judge this: it takes any acceptance
//! that an enrolled human signed. The command compares, the signature binds, and the record shows what was consented to.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use anyhow::{Context as _, Result};
use countersign_console::wire;
use countersign_model::Digest;
use countersign_model::command::Signed;
use countersign_prove::Difference;
use serde_json::{Value, json};

use super::policy::{load, recorded, sign, warning_lines, warnings, write};
use super::policy_diff::{Loaded, compare, consented, json as difference_json, lines, loaded, must_be_digest};
use super::policy_prove::prover;
use crate::cli::Activate;
use crate::compose::InForce;
use crate::context::Context;
use crate::sources;
use crate::terminal::{Exit, WAIT, denied};

/// What is said where a running gateway has taken the policy.
const IN_FORCE: &str = "it is in force now";

/// How many characters of the digest are typed at a terminal.
const TYPED: usize = 8;

/// What comparing came to.
enum Compared {
    /// There is nothing to compare with, or nothing changed.
    Needless,
    /// Proven not to be wider.
    Same(Difference),
    /// Wider, or nobody knows: these lines, under this digest.
    Wider(Vec<String>, Digest, Option<Difference>),
}

/// Runs the command.
pub(crate) async fn run(command: Activate, context: &Context) -> Result<Exit> {
    let given = command.accept_wider.as_deref().map(must_be_digest).transpose()?;
    let (config, bundle) = load(&context.layout)?;
    let now = InForce { configuration: config.hash, policy: bundle.hash() };
    let warnings = warnings(&config, &bundle);
    // The acceptance that lies there says nothing: an agent of this user could have put it there, with any number in it.
    let last = recorded(context).await?;
    let serial = last.map_or(0, |last| last.serial).saturating_add(1);
    let last = last.map(|last| last.accepted);
    let new = loaded(&config, bundle)?;
    let source = new.source.clone();
    let compared = compared(&command, last.map(|last| last.policy), new, context).await?;
    let widening = match &compared {
        Compared::Needless | Compared::Same(_) => None,
        Compared::Wider(lines, digest, _) => {
            consent(lines, (*digest, given), context)?;
            Some(*digest)
        }
    };
    let key = context.open_key(&command.signer.human)?;
    sources::keep(&context.layout, (&source, &config.policies), now.policy)?;
    let signed = sign(&key, &config.origin, now, (serial, widening))?;
    let state = put_in_force(&signed, now, context).await?;
    write(&context.layout, &signed)?;
    let is_other = last.is_some_and(|last| last.configuration != now.configuration);
    let value = json!({
        "accepted": true, "serial": serial, "policy": now.policy.hex(), "warnings": warnings, "in_force": state == IN_FORCE,
        "configuration_changed": is_other, "widening": widening.map(|digest| digest.hex()), "difference": difference(&compared, last, now),
    });
    let human = &command.signer.human;
    let also = if is_other {
        "\nthe configuration changed too: bindings, budgets and upstreams are not compared, so look at them yourself"
    } else {
        ""
    };
    let wider = match &compared {
        Compared::Needless => "",
        Compared::Same(_) => ", proven not to be wider",
        Compared::Wider(..) => ", and consented to what became wider",
    };
    context.out.result(
        &value,
        &format!("accepted by {human} as number {serial}{wider}; {state}{also}{}", warning_lines(&warnings)),
    );
    Ok(Exit::Done)
}

/// Hands the acceptance to a running gateway, where only policy has changed. Says what holds now, for people.
async fn put_in_force(signed: &Signed, now: InForce, context: &Context) -> Result<&'static str> {
    match context.admin().get::<wire::Status>("/status").await {
        Ok(running) if running.configuration == now.configuration.hex() => {
            context.admin().submit(signed).await.context("the policy in force has not changed")?;
            Ok(IN_FORCE)
        }
        Ok(_) => Ok("the configuration has changed too: restart the gateway to run them"),
        Err(_) => Ok("start the gateway to run it"),
    }
}

fn difference(compared: &Compared, last: Option<InForce>, now: InForce) -> Value {
    match (compared, last) {
        (Compared::Same(difference) | Compared::Wider(_, _, Some(difference)), Some(last)) => {
            difference_json(difference, (last.policy, now.policy))
        }
        _ => Value::Null,
    }
}

async fn compared(command: &Activate, last: Option<Digest>, new: Loaded, context: &Context) -> Result<Compared> {
    let hash = new.bundle.hash();
    let Some(old) = last.filter(|old| *old != hash) else { return Ok(Compared::Needless) };
    let unknown = |why: String| {
        let lines = vec![format!("not proven not to be wider: {why}")];
        let digest = consented(old, hash, &lines);
        Compared::Wider(lines, digest, None)
    };
    let last = match sources::load(&context.layout, old) {
        Ok(kept) => Loaded::from(kept),
        Err(_) => return Ok(unknown(format!("the policy in force, {}, is not kept", old.short()))),
    };
    let prover = match prover(&command.solving) {
        Ok(prover) => prover,
        Err(_) => return Ok(unknown("there is no solver; install cvc5".to_owned())),
    };
    let difference = match compare(last, new, prover, !context.out.json).await {
        Ok(difference) => difference,
        Err(error) => return Ok(unknown(format!("{error:#}"))),
    };
    if difference.is_not_wider() {
        return Ok(Compared::Same(difference));
    }
    let lines = lines(&difference);
    let digest = consented(old, hash, &lines);
    Ok(Compared::Wider(lines, digest, Some(difference)))
}

/// A human must have seen these lines: by their digest on the command line, or at a terminal.
fn consent(lines: &[String], (digest, given): (Digest, Option<Digest>), context: &Context) -> Result<()> {
    match given {
        Some(given) if given == digest => return Ok(()),
        Some(_) => {}
        None if !context.out.json && std::io::stdin().is_terminal() => return asked(lines, digest),
        None => {}
    }
    let stale = if given.is_some() { "what became wider is not what `--accept-wider` names; " } else { "" };
    Err(denied(format!(
        "{stale}the new policy is wider than the one in force, or is not proven not to be:\n{}\nlook at each, then consent \
         with `--accept-wider {}`",
        lines.join("\n"),
        digest.hex()
    )))
}

fn asked(lines: &[String], digest: Digest) -> Result<()> {
    let typed: String = digest.hex().chars().take(TYPED).collect();
    anstream::eprintln!("{WAIT}the new policy is wider than the one in force, or is not proven not to be:{WAIT:#}");
    for line in lines {
        anstream::eprintln!("  {}", countersign_model::preview::visible(line));
    }
    anstream::eprint!("to consent to exactly this, type {typed}: ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).context("cannot read the answer")?;
    if answer.trim() == typed {
        return Ok(());
    }
    Err(denied("nobody consented, so nothing was accepted"))
}
