//! `signer`: the log's key in a process of its own; and the human's order to change that key.

use std::path::Path;

use anyhow::{Context as _, Result};
use countersign_console::wire;
use countersign_ledger::{FileKeys, Peers, PrivateKeys, SignerServer, Store, take_key};
#[cfg(feature = "pkcs11")]
use countersign_ledger::{TokenKeys, TokenPlace};
use countersign_model::command::Deed;
use serde_json::json;

use crate::cli::{Pkcs11, SignerProcess};
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
    let Keys { keys, place } = keys(given, &store)?;
    let server = SignerServer::bind(&store, keys, socket, Peers::new(&given.allow_uid))?;
    let (key, size) = (server.verifier_key(), server.confirmed());
    let next = match place {
        Place::BeforeToken => "\nthis key lies in a file; `countersign log rotate-key` makes the next one in the token",
        Place::File | Place::Token => "",
    };
    context.out.result(
        &json!({"socket": socket, "key": key.to_string(), "confirmed": size, "key_in": place.word()}),
        &format!("{GOOD}signing{GOOD:#} with {key} at {}; {size} records are confirmed{next}", socket.display()),
    );
    server.serve()?;
    Ok(Exit::Done)
}

/// The keys to sign with, and where the one in force lies.
struct Keys {
    keys: Box<dyn PrivateKeys>,
    place: Place,
}

/// Where a key lies.
#[derive(Clone, Copy)]
enum Place {
    File,
    /// In a file still; the next one is made in the token.
    #[cfg_attr(not(feature = "pkcs11"), expect(dead_code, reason = "needs a token"))]
    BeforeToken,
    #[cfg_attr(not(feature = "pkcs11"), expect(dead_code, reason = "needs a token"))]
    Token,
}

impl Place {
    fn word(self) -> &'static str {
        match self {
            Self::File | Self::BeforeToken => "file",
            Self::Token => "token",
        }
    }
}

fn keys(given: &SignerProcess, store: &Store) -> Result<Keys> {
    if let Pkcs11 { module: Some(module), token: Some(token), key: Some(key), pin_file: Some(pin_file) } = &given.pkcs11
    {
        return token_keys(store, (module, token, key, pin_file));
    }
    let keys = FileKeys::load(store).with_context(|| {
        format!("there is no signer in `{}`; make one with `countersign signer --take-key`", given.dir.display())
    })?;
    Ok(Keys { keys: Box::new(keys), place: Place::File })
}

#[cfg(feature = "pkcs11")]
fn token_keys(store: &Store, (module, token, key, pin_file): (&Path, &str, &str, &Path)) -> Result<Keys> {
    let (token, key) = (token.to_owned(), key.to_owned());
    let place = TokenPlace { module: module.to_path_buf(), token, key, pin_file: pin_file.to_path_buf() };
    let keys = TokenKeys::load(store, place)?;
    let place = if keys.is_in_token() { Place::Token } else { Place::BeforeToken };
    Ok(Keys { keys: Box::new(keys), place })
}

#[cfg(not(feature = "pkcs11"))]
fn token_keys(_: &Store, _: (&Path, &str, &str, &Path)) -> Result<Keys> {
    Err(usage(
        "this program was built without PKCS#11: build one with \
         `cargo build --release -p countersign-app --features pkcs11`, or leave the `--pkcs11-…` flags out",
    ))
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
