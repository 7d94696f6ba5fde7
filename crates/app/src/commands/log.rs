//! `log`: read the record, check it, hand out receipts.
//!
//! Reading asks the running gateway, or opens the ledger itself where none runs. Verification
//! asks nobody: it needs the files, or one receipt, and the log's key.

use std::io::{IsTerminal as _, Read as _, Write as _};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign_console::wire;
use countersign_gate::payload_of;
use countersign_ledger::verify;
use countersign_ledger::{Ledger, ReadOnly, Store, Vault, VisitError};
use countersign_model::Record;
use countersign_receipt::receipt::MAX_RECEIPT_BYTES;
use countersign_receipt::{KeyChain, Receipt, VerifierKey, WitnessKey};
use countersign_verifier::judge;
use serde_json::json;

use super::disclose;
use super::monitor;
use crate::admin::Admin;
use crate::cli::Log;
use crate::context::{Context, progress, when};
use crate::layout::Layout;
use crate::show::{describe, line};
use crate::terminal::{Exit, GOOD, WAIT, unverified, usage};
use crate::walk::{self, Walker};

/// How often a failed walk is repeated beside a running gateway.
const RUNNING_TRIES: usize = 5;

/// Runs the command.
pub(crate) fn run(command: Log, context: &Context) -> Result<Exit> {
    match command {
        Log::Tail { count } => tail(count, context),
        Log::Show { what, run } => match what.parse() {
            Ok(index) if !run => show(index, context),
            _ => super::runs::show(&what, context),
        },
        Log::Query(query) => super::query::run(&query, context),
        Log::Export(export) => super::export::run(&export, context),
        Log::Prune(prune) => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(super::keep::prune(prune, context))
        }
        Log::Unknown => super::unknown::run(context),
        Log::Verify { receipt: None, key, .. } => verify_ledger(key.as_deref(), context),
        Log::Verify { receipt: Some(file), key, keys, witnesses } => {
            let keys = trusted(key.as_deref(), keys.as_deref(), context)?;
            if disclose::is_one(&file) {
                return disclose::verify(&file, &keys, context);
            }
            verify_receipt(&file, (&keys, &witnesses), context)
        }
        Log::RotateKey(signer) => super::signer::rotate_key(&signer.human, context),
        Log::Monitor { a, b, key, in_order, evidence } => {
            monitor::run(&monitor::Asked { a, b, key, in_order, evidence }, context)
        }
        Log::Evidence { file, key } => monitor::check(&file, key.as_deref(), context),
        Log::Disclose(command) => disclose::run(&command, context),
        Log::Receipt { index, cose, out } => receipt(index, cose, out.as_deref(), context),
    }
}

fn tail(count: u64, context: &Context) -> Result<Exit> {
    let stored: Vec<wire::Stored> = match ask(context, |admin| async move {
        admin.get(&format!("/log?count={count}")).await
    })? {
        Some(stored) => stored,
        None => offline(context, |ledger, vault| {
            let size = ledger.head().size;
            (size.saturating_sub(count).max(ledger.minimum())..size).map(|index| read(ledger, vault, index)).collect()
        })?,
    };
    let records = stored.iter().map(|stored| Ok((stored.index, decoded(stored)?))).collect::<Result<Vec<_>>>()?;
    let values: Vec<_> = records.iter().map(|(index, record)| describe(*index, record)).collect();
    let lines: Vec<_> = records.iter().map(|(index, record)| line(*index, record)).collect();
    context.out.result(&json!({"records": values}), &lines.join("\n"));
    Ok(Exit::Done)
}

fn show(index: u64, context: &Context) -> Result<Exit> {
    let stored: wire::Stored = match ask(context, |admin| async move { admin.get(&format!("/log/{index}")).await })? {
        Some(stored) => stored,
        None => offline(context, |ledger, vault| read(ledger, vault, index))?,
    };
    let record = decoded(&stored)?;
    let mut value = describe(index, &record);
    if let Some(payload) = &stored.payload
        && let Ok(payload) = countersign_model::payload::ActionPayload::decode(&STANDARD.decode(payload)?)
        && let Some(fields) = value.as_object_mut()
    {
        fields.insert("arguments".to_owned(), String::from_utf8_lossy(&payload.arguments).into());
        fields.insert("digest".to_owned(), payload.digest.hex().into());
        if let Some(input) = &payload.input {
            fields.insert("input".to_owned(), String::from_utf8_lossy(&input.json).into());
        }
    }
    let text = serde_json::to_string_pretty(&value)?;
    context.out.result(&value, &crate::terminal::visible_lines(&text));
    Ok(Exit::Done)
}

fn receipt(index: u64, cose: bool, out: Option<&Path>, context: &Context) -> Result<Exit> {
    let path = if cose { format!("/receipt/{index}/cose") } else { format!("/receipt/{index}") };
    let bytes = ask(context, |admin| async move { admin.get_bytes(&path).await })?
        .context("receipts are made by the running gateway; start it with `countersign up`")?;
    match out {
        Some(path) => {
            std::fs::write(path, &bytes).with_context(|| format!("cannot write `{}`", path.display()))?;
            context.out.result(&json!({"file": path}), &format!("receipt written to {}", path.display()));
        }
        None if cose => print_bytes(&bytes, context)?,
        None => anstream::println!("{}", String::from_utf8_lossy(&bytes)),
    }
    Ok(Exit::Done)
}

/// A COSE Receipt is no text: a terminal gets none of it, JSON gets base64.
fn print_bytes(bytes: &[u8], context: &Context) -> Result<()> {
    if context.out.json {
        context.out.result(&json!({"cose": STANDARD.encode(bytes)}), "");
        return Ok(());
    }
    let mut out = std::io::stdout();
    if out.is_terminal() {
        return Err(usage("a COSE receipt is no text; write it to a file with `--out FILE`"));
    }
    Ok(out.write_all(bytes).and_then(|()| out.flush())?)
}

fn verify_ledger(key: Option<&str>, context: &Context) -> Result<Exit> {
    must_exist(&context.layout)?;
    let key = key.map(read_key).transpose()?;
    let bar = progress(!context.out.json);
    let store = Store::real(context.layout.ledger());
    // A copy for an auditor has no vault: then payloads stay closed, the leaves alone are judged, and it is said.
    let vault = store.vault().exists().then(|| Vault::open(&store)).transpose();
    let vault = vault.map_err(|error| unverified(error.to_string()))?;
    let mut report = walked((&store, vault.as_ref()), key.as_ref(), &bar);
    // A running gateway is writing the very frame that is read last: look again before crying wolf.
    for _ in 0..RUNNING_TRIES {
        if report.is_ok() || !is_running(context) {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(200));
        report = walked((&store, vault.as_ref()), key.as_ref(), &bar);
    }
    bar.finish_and_clear();
    let report = report.map_err(|error| unverified(error.to_string()))?;
    let size = report.head.size;
    let records = match report.from {
        0 => format!("{size} records"),
        from => format!("records {from} to {size}, what came before is pruned"),
    };
    let mut lines = vec![format!("{GOOD}verified{GOOD:#}: {records}, root {}", report.head.root)];
    if vault.is_none() {
        lines.push(format!("{WAIT}payloads not checked{WAIT:#}: there is no `{}`", store.vault().display()));
    }
    if report.published.is_none() && size > 0 {
        let missing = store.checkpoint();
        lines.push(format!("{WAIT}nothing is published{WAIT:#}: there is no `{}`", missing.display()));
    }
    context.out.result(
        &json!({
            "verified": true, "from": report.from, "size": size, "root": report.head.root.to_string(),
            "confirmed": report.confirmed, "published": report.published, "payloads": payloads_word(vault.as_ref()),
        }),
        &lines.join("\n"),
    );
    Ok(Exit::Done)
}

/// Whether payloads were checked, as JSON says it.
pub(super) fn payloads_word(vault: Option<&Vault>) -> &'static str {
    if vault.is_some() { "checked" } else { "absent" }
}

fn walked(
    (store, vault): (&Store, Option<&Vault>),
    key: Option<&VerifierKey>,
    bar: &indicatif::ProgressBar,
) -> Result<verify::Report, verify::WalkError> {
    let walker = Walker { vault, begin: &mut |_| Ok(()), visit: &mut |_| Ok(()) };
    walk::walk(store, key, walker, |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    })
}

/// The keys that a receipt may be signed by: those that follow from the one given, or from the installation's first.
fn trusted(key: Option<&str>, keys: Option<&Path>, context: &Context) -> Result<KeyChain> {
    let own_keys = context.layout.log_keys();
    let trusted = log_key(key, context)?;
    let keys = keys.or_else(|| key.is_none().then_some(own_keys.as_path()).filter(|keys| keys.exists()));
    let Some(path) = keys else { return Ok(KeyChain::of(trusted)) };
    let text =
        std::fs::read_to_string(path).map_err(|error| usage(format!("cannot read `{}`: {error}", path.display())))?;
    KeyChain::parse(trusted, &text).map_err(|error| unverified(format!("`{}`: {error}", path.display())))
}

fn verify_receipt(file: &Path, (keys, witnesses): (&KeyChain, &[String]), context: &Context) -> Result<Exit> {
    let witnesses = witnesses.iter().map(|given| read_witness_key(given)).collect::<Result<Vec<_>>>()?;
    let bytes = read_receipt(file)?;
    let verdict = judge(&bytes, keys).map_err(|error| unverified(format!("`{}`: {error}", file.display())))?;
    let records = &verdict.records;
    let values: Vec<_> = records.iter().map(|proved| describe(proved.index, &proved.record)).collect();
    let mut lines = vec![format!("{GOOD}verified{GOOD:#} against log {}", verdict.log)];
    lines.extend(records.iter().map(|proved| line(proved.index, &proved.record)));
    let mut cosigned = Vec::new();
    for witness in &witnesses {
        let time_s =
            cosigned_at(&bytes, witness).map_err(|error| unverified(format!("`{}`: {error}", file.display())))?;
        lines.push(format!("cosigned by {} at {}", witness.name(), when(time_s.saturating_mul(1_000))));
        cosigned.push(json!({"witness": witness.name(), "time_s": time_s}));
    }
    let form = verdict.form.as_str();
    context.out.result(
        &json!({"verified": true, "form": form, "log": verdict.log, "records": values, "cosigned": cosigned}),
        &lines.join("\n"),
    );
    Ok(Exit::Done)
}

/// The file, at most one byte more of it than any receipt has: what is larger is then refused by name.
fn read_receipt(file: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(file)
        .and_then(|opened| opened.take(MAX_RECEIPT_BYTES as u64 + 1).read_to_end(&mut bytes))
        .map_err(|error| usage(format!("cannot read `{}`: {error}", file.display())))?;
    Ok(bytes)
}

/// When a witness cosigned what decided the call: the first leaf. The outcome comes later, and often before its own
/// cosignature.
fn cosigned_at(receipt: &[u8], witness: &WitnessKey) -> Result<u64> {
    let text =
        std::str::from_utf8(receipt).context("a receipt in CBOR carries no cosignatures; ask for the JSON form")?;
    let receipt = Receipt::parse(text)?;
    let first = receipt.proofs.first().context("the receipt has no proofs")?;
    Ok(first.proof.cosigned_by(witness)?.time_s)
}

/// The log's key as given, or the installation's own.
pub(super) fn log_key(given: Option<&str>, context: &Context) -> Result<VerifierKey> {
    match given {
        Some(key) => read_key(key),
        None => read_key(&context.layout.log_vkey().display().to_string()),
    }
}

/// A verifier key given as text or as the name of a file that holds it.
pub(crate) fn read_key(given: &str) -> Result<VerifierKey> {
    VerifierKey::parse(text_or_file(given)?.trim())
        .map_err(|error| usage(format!("`{given}` is neither a file nor a verifier key: {error}")))
}

/// The same for a witness's key.
fn read_witness_key(given: &str) -> Result<WitnessKey> {
    WitnessKey::parse(text_or_file(given)?.trim())
        .map_err(|error| usage(format!("`{given}` is neither a file nor a witness's key: {error}")))
}

/// A text, or what the file of that name holds.
pub(crate) fn text_or_file(given: &str) -> Result<String> {
    if Path::new(given).exists() {
        return std::fs::read_to_string(given).with_context(|| format!("cannot read `{given}`"));
    }
    Ok(given.to_owned())
}

/// Asks the running gateway; `None` where none runs.
pub(crate) fn ask<T, F>(context: &Context, question: impl FnOnce(Admin) -> F) -> Result<Option<T>>
where
    F: Future<Output = Result<T>>,
{
    if !is_running(context) {
        return Ok(None);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(question(context.admin())).map(Some)
}

pub(crate) fn is_running(context: &Context) -> bool {
    std::os::unix::net::UnixStream::connect(context.layout.admin_socket()).is_ok()
}

/// Opens the ledger for reading while no gateway runs.
fn offline<T>(context: &Context, read: impl FnOnce(&Ledger, &Vault) -> Result<T>) -> Result<T> {
    let vault = Vault::open(&intact(&context.layout)?)?;
    let ledger = opened(&context.layout, &mut |_| Ok(()))?;
    let found = read(&ledger, &vault);
    ledger.close()?;
    found
}

/// Hands every record to `visit` while no gateway runs.
pub(crate) fn each_offline(layout: &Layout, mut visit: impl FnMut(&Record)) -> Result<()> {
    let ledger = opened(layout, &mut |stored| {
        visit(&Record::from_leaf(stored.leaf)?);
        Ok(())
    })?;
    Ok(ledger.close()?)
}

/// Opens the ledger to read it. Nobody signs, so a key that is out of reach is not missed.
fn opened(
    layout: &Layout,
    visit: &mut dyn FnMut(countersign_ledger::Record<'_>) -> Result<(), VisitError>,
) -> Result<Ledger> {
    let store = intact(layout)?;
    let signer = Arc::new(ReadOnly::load(&store)?);
    Ok(Ledger::open_with(&store, countersign_ledger::Config::default(), signer, visit)?.0)
}

/// Refuses an installation without a ledger.
pub(crate) fn must_exist(layout: &Layout) -> Result<()> {
    is_there(&layout.ledger())
}

/// Refuses a folder that is not there: that is no verdict on a record.
pub(crate) fn is_there(ledger: &Path) -> Result<()> {
    if !ledger.exists() {
        bail!("there is no ledger at `{}`; make one with `countersign init`", ledger.display());
    }
    Ok(())
}

/// A ledger that opening would not change: recovery is the gateway's, which records what it cuts.
fn intact(layout: &Layout) -> Result<Store> {
    must_exist(layout)?;
    let store = Store::real(layout.ledger());
    walk::check(&store).map_err(|error| {
        unverified(format!("{error}; if the gateway was cut off, `countersign up` recovers and records what it cut"))
    })?;
    Ok(store)
}

fn read(ledger: &Ledger, vault: &Vault, index: u64) -> Result<wire::Stored> {
    let stored = ledger.record(index)?;
    let payload = payload_of(vault, &stored).with_context(|| format!("record `{index}`"))?;
    Ok(wire::Stored {
        index,
        leaf: STANDARD.encode(&stored.leaf),
        payload: payload.map(|payload| STANDARD.encode(payload)),
    })
}

fn decoded(stored: &wire::Stored) -> Result<Record> {
    Record::from_leaf(&STANDARD.decode(&stored.leaf)?)
        .map_err(|error| unverified(format!("record `{}`: {error}", stored.index)))
}
