//! `log disclose`, and `log verify` of what it wrote: some fields of one call for an auditor, and nothing else.
//!
//! Making one asks the running gateway for record, payload and proof; the payload does not leave this machine but
//! for the fields that were named. Checking one asks nobody.

use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign_console::wire;
use countersign_model::payload::ActionPayload;
use countersign_model::preview::visible;
use countersign_receipt::disclosure::{MAX_DISCLOSURE_BYTES, ShownField};
use countersign_receipt::{Choice, Disclosure, KeyChain, Receipt};
use serde_json::json;

use super::log::ask;
use crate::cli::Disclose;
use crate::context::Context;
use crate::show::{describe, line};
use crate::terminal::{Exit, GOOD, STRONG, unverified, usage};

/// How much of a file says whether it is a disclosure.
const HEAD_BYTES: u64 = 64;

/// Makes a disclosure.
pub(crate) fn run(command: &Disclose, context: &Context) -> Result<Exit> {
    let Disclose { index, field, all, out } = command;
    let asked = ask(context, |admin| async move {
        let stored: wire::Stored = admin.get(&format!("/log/{index}")).await?;
        let receipt = admin.get_bytes(&format!("/receipt/{index}")).await?;
        Ok((stored, String::from_utf8_lossy(&receipt).into_owned()))
    })?;
    let (stored, receipt) = asked.context("proofs are made by the running gateway; start it with `countersign up`")?;
    let leaf = STANDARD.decode(&stored.leaf)?;
    let Some(payload) = &stored.payload else {
        bail!("the arguments of record `{index}` are not kept or were erased, so nothing of them can be disclosed");
    };
    let payload = ActionPayload::decode(&STANDARD.decode(payload)?)
        .map_err(|error| unverified(format!("record `{index}`: {error}")))?;
    let receipt = Receipt::parse(&receipt)?;
    let proof = receipt.proofs.into_iter().find(|proof| proof.leaf == leaf).map(|proof| proof.proof);
    let proof = proof.with_context(|| format!("the gateway proved another record than `{index}`"))?;
    let choice = if *all { Choice::All } else { Choice::Members(field) };
    let disclosure = Disclosure::make((&receipt.log, &leaf, proof), &payload, choice)
        .with_context(|| format!("record `{index}`"))?;
    let text = disclosure.to_json()?;
    match out {
        Some(path) => {
            crate::keys::write_new(path, format!("{text}\n").as_bytes())?;
            let (shown, of) = (disclosure.fields.len(), disclosure.commitments.len());
            let value = json!({"file": path, "shown": shown, "fields": of});
            context.out.result(&value, &format!("{shown} of {of} fields written to {}", path.display()));
        }
        None => anstream::println!("{text}"),
    }
    Ok(Exit::Done)
}

/// Whether a file says of itself that it is a disclosure. One that cannot be read is not.
pub(crate) fn is_one(file: &Path) -> bool {
    let mut head = Vec::new();
    let read = std::fs::File::open(file).and_then(|opened| opened.take(HEAD_BYTES).read_to_end(&mut head));
    read.is_ok() && Disclosure::is_one(&String::from_utf8_lossy(&head))
}

/// Checks a disclosure and prints what it shows.
pub(crate) fn verify(file: &Path, keys: &KeyChain, context: &Context) -> Result<Exit> {
    let mut bytes = Vec::new();
    std::fs::File::open(file)
        .and_then(|opened| opened.take(MAX_DISCLOSURE_BYTES as u64 + 1).read_to_end(&mut bytes))
        .map_err(|error| usage(format!("cannot read `{}`: {error}", file.display())))?;
    let refused = |error: &dyn std::fmt::Display| unverified(format!("`{}`: {error}", file.display()));
    let text = String::from_utf8(bytes).map_err(|_| refused(&"not UTF-8"))?;
    let disclosure = Disclosure::parse(&text).map_err(|error| refused(&error))?;
    let verified = disclosure.verify_with(keys).map_err(|error| refused(&error))?;
    let mut lines =
        vec![format!("{GOOD}verified{GOOD:#} against log {}", verified.origin), line(verified.index, &verified.record)];
    lines.extend(disclosure.fields.iter().map(|field| {
        let name = words(field);
        format!("{STRONG}{}{STRONG:#}: {}", visible(&name), visible(&field.value))
    }));
    lines.push(format!("{} more fields are not shown", verified.hidden));
    let fields: Vec<_> = disclosure
        .fields
        .iter()
        .map(|field| json!({"kind": field.kind.as_str(), "name": field.name, "value": field.value}))
        .collect();
    let value = json!({
        "verified": true, "log": verified.origin, "record": describe(verified.index, &verified.record),
        "fields": fields, "hidden": verified.hidden,
    });
    context.out.result(&value, &lines.join("\n"));
    Ok(Exit::Done)
}

fn words(field: &ShownField) -> String {
    use countersign_model::fields::FieldKind;
    match field.kind {
        FieldKind::Member => field.name.clone(),
        FieldKind::Whole => "the arguments".to_owned(),
        FieldKind::Meta => "_meta".to_owned(),
    }
}
