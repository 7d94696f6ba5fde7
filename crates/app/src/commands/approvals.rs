//! `approvals`: see, check and sign what waits.
//!
//! What is shown is rendered here from the proposal's own bytes, checked against the leaf that
//! will be signed: the arguments must open the leaf's commitment and the preview must have the
//! leaf's hash. A gateway that showed one thing and recorded another would be caught here.

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign_console::wire;
use countersign_model::payload::ActionPayload;
use countersign_model::preview::{preview, preview_hash};
use countersign_model::record::Proposal;
use countersign_model::{Body, Digest, Record};
use serde_json::json;

use crate::cli::Approvals;
use crate::context::{Context, when};
use crate::keys::HumanKey;
use crate::terminal::{Exit, FAINT, STRONG, WAIT, unverified, usage};

/// A proposal that was checked against its leaf.
pub(crate) struct Checked {
    /// The hash that consent signs.
    pub(crate) leaf_hash: Digest,
    /// What to show, from the bytes that were checked.
    pub(crate) preview: String,
    /// The proposal.
    pub(crate) proposal: Proposal,
}

/// Checks what the gateway says of a parked action.
pub(crate) fn check(waiting: &wire::Waiting) -> Result<Checked> {
    let broken = |what: &str| unverified(format!("ticket `{}`: {what}; do not sign it", waiting.ticket));
    let leaf = STANDARD.decode(&waiting.proposal.leaf)?;
    let record = Record::from_leaf(&leaf).map_err(|error| broken(&error.to_string()))?;
    let Body::Proposal(proposal) = record.body else {
        return Err(broken("its record is no proposal"));
    };
    let proposal = *proposal;
    if proposal.attempt.ticket.as_ref().map(ToString::to_string).as_deref() != Some(&*waiting.ticket) {
        return Err(broken("its record is of another ticket"));
    }
    let payload =
        waiting.proposal.payload.as_ref().context("its arguments have been erased, so it cannot be judged")?;
    let payload = ActionPayload::decode(&STANDARD.decode(payload)?).map_err(|error| broken(&error.to_string()))?;
    let attempt = &proposal.attempt;
    if !payload.opens_arguments(attempt) {
        return Err(broken("the arguments are not those that the leaf commits to"));
    }
    if !payload.opens_input(attempt) {
        return Err(broken("the answers are not those that the leaf commits to"));
    }
    if !payload.opens_digest(attempt) {
        return Err(broken("the digest is not the one that the leaf commits to"));
    }
    let preview = preview(&payload.action(attempt));
    if preview_hash(&preview) != proposal.preview {
        return Err(broken("the preview is not the one that the leaf commits to"));
    }
    Ok(Checked { leaf_hash: countersign_gate::Gate::leaf_hash(&leaf), preview, proposal })
}

/// Runs the command.
pub(crate) async fn run(command: Approvals, context: &Context) -> Result<Exit> {
    match command {
        Approvals::List => list(context).await,
        Approvals::Show { ticket } => show(&ticket, context).await,
        Approvals::Approve { ticket, signer } => answer(&ticket, &signer.human, true, context).await,
        Approvals::Deny { ticket, signer } => answer(&ticket, &signer.human, false, context).await,
    }
}

async fn list(context: &Context) -> Result<Exit> {
    let waiting: Vec<wire::Waiting> = context.admin().get("/approvals").await?;
    let mut lines = Vec::new();
    let mut rows = Vec::new();
    for one in &waiting {
        let checked = check(one)?;
        let attempt = &checked.proposal.attempt;
        lines.push(format!(
            "{WAIT}{}{WAIT:#}  waits until {}  {} → {} of {}  {}",
            one.ticket,
            when(one.expires_ms),
            attempt.principal.agent,
            attempt.tool,
            attempt.upstream,
            attempt.facts.effect.as_str(),
        ));
        rows.push(json!({
            "ticket": one.ticket, "expires_ms": one.expires_ms, "agent": attempt.principal.agent.as_str(),
            "run": attempt.principal.run.as_str(), "tool": attempt.tool.as_str(), "effect": attempt.facts.effect.as_str(),
        }));
    }
    if lines.is_empty() {
        lines.push("nothing waits".to_owned());
    }
    context.out.result(&json!({"waiting": rows}), &lines.join("\n"));
    Ok(if waiting.is_empty() { Exit::Done } else { Exit::Pending })
}

async fn show(ticket: &str, context: &Context) -> Result<Exit> {
    let waiting = fetch(ticket, context).await?;
    let checked = check(&waiting)?;
    let gates: Vec<_> = match &checked.proposal.attempt.verdict {
        countersign_model::Verdict::RequireApproval { gates } => gates.iter().map(|gate| gate.name.clone()).collect(),
        _ => Vec::new(),
    };
    let value = json!({
        "ticket": waiting.ticket, "expires_ms": waiting.expires_ms, "gates": gates,
        "leaf": waiting.proposal.index, "leaf_hash": checked.leaf_hash.hex(), "preview": checked.preview,
    });
    let text = format!(
        "{STRONG}{}{STRONG:#} until {}, because of: {}\n{}{FAINT}leaf {} with hash {}{FAINT:#}",
        waiting.ticket,
        when(waiting.expires_ms),
        gates.join(", "),
        checked.preview,
        waiting.proposal.index,
        checked.leaf_hash,
    );
    context.out.result(&value, &text);
    Ok(Exit::Pending)
}

async fn answer(ticket: &str, human: &str, approved: bool, context: &Context) -> Result<Exit> {
    let waiting = fetch(ticket, context).await?;
    let checked = check(&waiting)?;
    if !context.out.json {
        anstream::println!("{}", checked.preview);
    }
    let key = context.open_key(human)?;
    let status: wire::Status = context.admin().get("/status").await?;
    let recorded = submit(&key, &status.log, (ticket, &checked.leaf_hash, approved), context).await?;
    let word = if approved { "approved" } else { "denied" };
    let granted = is_granted(recorded.leaf, context).await?;
    let value = json!({"ticket": ticket, "human": human, "answer": word, "leaf": recorded.leaf, "granted": granted});
    let next = match (approved, granted) {
        (true, true) => "; the identical call now runs once",
        (true, false) => "; it waits for more consents",
        (false, _) => "",
    };
    context.out.result(&value, &format!("{ticket} {word} by {human}, on record at {}{next}", recorded.leaf));
    Ok(Exit::Done)
}

/// Whether the consent at `leaf` was the last that was needed.
async fn is_granted(leaf: u64, context: &Context) -> Result<bool> {
    let stored: wire::Stored = context.admin().get(&format!("/log/{leaf}")).await?;
    let record = Record::from_leaf(&STANDARD.decode(&stored.leaf)?)?;
    Ok(matches!(record.body, Body::Consent(consent) if consent.grant_expires.is_some()))
}

/// Signs and hands in one answer.
pub(crate) async fn submit(
    key: &HumanKey,
    log: &str,
    (ticket, leaf_hash, approved): (&str, &Digest, bool),
    context: &Context,
) -> Result<wire::Recorded> {
    let consent = wire::Consent {
        human: key.human().to_string(),
        approved,
        signature: STANDARD.encode(key.consent(log, leaf_hash, approved)),
    };
    let path = format!("/approvals/{ticket}");
    context.admin().post(&path, &consent).await
}

async fn fetch(ticket: &str, context: &Context) -> Result<wire::Waiting> {
    if !ticket.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        return Err(usage(format!("`{}` is no ticket; `approvals list` shows them", ticket.escape_debug())));
    }
    let path = format!("/approvals/{ticket}");
    context.admin().get(&path).await
}
