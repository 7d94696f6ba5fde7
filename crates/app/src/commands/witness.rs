//! `witness`: the HTTP shell around [`countersign_ledger::witness`], C2SP tlog-witness `add-checkpoint`.
//!
//! It turns a request into bytes and an answer into a status; the decision and its durability are the ledger's. It does
//! not cover TLS, rates or bastions: a proxy in front does.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use countersign_ledger::Store;
use countersign_ledger::witness::{Unanswered, Witness};
use countersign_receipt::keys::HEADER;
use countersign_receipt::witness::{LogKey, MAX_SUBMISSION_BYTES, SIZE_MEDIA_TYPE};
use countersign_receipt::{KeyChain, WitnessKey};
use serde_json::json;
use tokio::net::TcpListener;

use super::log::{read_key, text_or_file};
use super::up::ended_by_signal;
use crate::cli;
use crate::context::wall;
use crate::terminal::{Exit, GOOD, Output, usage};

/// The name of a witness that nobody named.
const NAME: &str = "countersign.local/witness";
/// How long a body may take to come.
const BODY: Duration = Duration::from_secs(10);

/// Runs the command: until a signal.
pub(crate) async fn run(asked: &cli::Witness, out: Output) -> Result<Exit> {
    crate::logging::start();
    let logs = asked.logs.iter().map(|given| read_log(given)).collect::<Result<Vec<_>>>()?.concat();
    let name = match &asked.name {
        Some(name) => name.clone(),
        None => known_name(&asked.dir)?.unwrap_or_else(|| NAME.to_owned()),
    };
    let witness = Arc::new(Witness::open(&Store::real(&asked.dir), &name, asked.marks.as_deref(), logs)?);
    let listener = TcpListener::bind(asked.listen)
        .await
        .with_context(|| format!("cannot listen on `{}`; is another witness running there?", asked.listen))?;
    let url = format!("http://{}", listener.local_addr()?);
    let key = witness.key().to_string();
    let logs = witness.logs();
    let lines: Vec<_> = logs.iter().map(|(origin, size)| format!("  {origin}: {size} records cosigned")).collect();
    let values: Vec<_> = logs.iter().map(|(origin, size)| json!({"origin": origin, "size": size})).collect();
    out.result(
        &json!({"url": url, "key": key, "logs": values}),
        &format!("{GOOD}witness{GOOD:#} at {url}\nkey: {key}\nlogs:\n{}", lines.join("\n")),
    );
    let router = Router::new().route("/add-checkpoint", post(add_checkpoint)).with_state(witness);
    axum::serve(listener, router).with_graceful_shutdown(ended_by_signal()).await?;
    Ok(Exit::Done)
}

/// A verifier key, or a log's list of them. Who gives a list trusts its first key, and so all that follow from it.
fn read_log(given: &str) -> Result<Vec<LogKey>> {
    let text = text_or_file(given)?;
    if !text.starts_with(HEADER) {
        return Ok(vec![LogKey::new(read_key(given)?)]);
    }
    let chain =
        KeyChain::parse_trusted(&text).map_err(|error| usage(format!("`{given}` is no list of keys: {error}")))?;
    Ok(LogKey::of_chain(&chain))
}

/// The name under which it was started before.
fn known_name(dir: &Path) -> Result<Option<String>> {
    let path = dir.join("witness.vkey");
    if !path.exists() {
        return Ok(None);
    }
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
    let key = WitnessKey::parse(text.trim()).with_context(|| format!("in `{}`", path.display()))?;
    Ok(Some(key.name().to_owned()))
}

async fn add_checkpoint(State(witness): State<Arc<Witness>>, body: Body) -> Response {
    let read = tokio::time::timeout(BODY, axum::body::to_bytes(body, MAX_SUBMISSION_BYTES)).await;
    let Ok(Ok(body)) = read else {
        let why = format!("the body did not come within {} s and {MAX_SUBMISSION_BYTES} bytes\n", BODY.as_secs());
        return (StatusCode::BAD_REQUEST, why).into_response();
    };
    let now_s = wall().0 / 1_000;
    let answered = tokio::task::spawn_blocking(move || witness.add_checkpoint(&body, now_s)).await;
    match answered {
        Ok(Ok(line)) => (StatusCode::OK, line).into_response(),
        Ok(Err(Unanswered::Refused(refusal))) => {
            tracing::info!(%refusal, "not cosigned");
            let status = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::BAD_REQUEST);
            match refusal.known_size() {
                Some(size) => (status, [(header::CONTENT_TYPE, SIZE_MEDIA_TYPE)], format!("{size}\n")).into_response(),
                None => (status, format!("{refusal}\n")).into_response(),
            }
        }
        Ok(Err(Unanswered::Unkept(error))) => {
            tracing::error!(%error, "not cosigned");
            (StatusCode::SERVICE_UNAVAILABLE, "this witness cannot keep its state\n").into_response()
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
