//! `signer`: the log's key in a process of its own; and the human's order to change that key.

use anyhow::{Context as _, Result};
use countersign_console::wire;
use countersign_ledger::{FileKeys, Peers, PrivateKeys, SignerServer, Store, take_key};
use countersign_model::command::Deed;
use serde_json::json;

use crate::cli::SignerProcess;
use crate::context::Context;
use crate::terminal::{Exit, GOOD, STRONG, usage};

/// Runs the command: serves until the process is ended, which loses nothing at any moment.
pub(crate) fn run(given: &SignerProcess, context: &Context) -> Result<Exit> {
    crate::logging::start();
    let store = Store::real(&given.dir);
    if let Some(ledger) = &given.take_key {
        let key = take_key(&Store::real(ledger), &store)?;
        context.out.result(
            &json!({"key": key.to_string(), "dir": given.dir}),
            &format!("{GOOD}moved{GOOD:#} the key {STRONG}{key}{STRONG:#} to {}", given.dir.display()),
        );
        return Ok(Exit::Done);
    }
    let socket = given.socket.as_deref().ok_or_else(|| usage("say where to listen: --socket PATH"))?;
    let keys: Box<dyn PrivateKeys> = Box::new(FileKeys::load(&store).with_context(|| {
        format!("there is no signer in `{}`; make one with `countersign signer --take-key`", given.dir.display())
    })?);
    let server = SignerServer::bind(&store, keys, socket, Peers::new(&given.allow_uid))?;
    let (key, size) = (server.verifier_key(), server.confirmed());
    context.out.result(
        &json!({"socket": socket, "key": key.to_string(), "confirmed": size}),
        &format!("{GOOD}signing{GOOD:#} with {key} at {}; {size} records are confirmed", socket.display()),
    );
    server.serve()?;
    Ok(Exit::Done)
}

/// Has the signer make a key, the human sign it, and the gateway put it in force.
pub(crate) fn rotate_key(human: &str, context: &Context) -> Result<Exit> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let admin = context.admin();
        let next: wire::NextKey = admin.post("/next-key", &()).await?;
        let signer = context.open_key(human)?;
        let recorded = admin.command(&signer, Deed::RotateKey { key: next.key.clone() }).await?;
        context.out.result(
            &json!({"key": next.key, "leaf": recorded.leaf, "keys": context.layout.log_keys()}),
            &format!(
                "{GOOD}changed{GOOD:#}: the log's key is now {STRONG}{}{STRONG:#}, ordered at {}\n\
                 give auditors {}; with it the key that they have leads to this one",
                next.key,
                recorded.leaf,
                context.layout.log_keys().display()
            ),
        );
        Ok(Exit::Done)
    })
}
