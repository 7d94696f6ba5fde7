//! The admin plane's routes. Each either reads, or hands a signature to the gate.

use axum::Json;
use axum::Router;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign_gate::view::{self, ViewError};
use countersign_gate::{Below, Gate, Plan};
use countersign_model::command;
use countersign_model::record::VaultScope;
use countersign_model::unit::LeafIndex;
use countersign_model::{Reason, ReasonCode, from_canonical};
use serde::Deserialize;

use crate::wire;

const BODY_BYTES_MAX: usize = 64 * 1024;
const TAIL_MAX: u64 = 1_000;

pub(crate) fn router(gate: Gate) -> Router {
    Router::new()
        .route("/status", get(status))
        .route("/approvals", get(approvals))
        .route("/approvals/{ticket}", get(approval).post(consent))
        .route("/challenge", post(challenge))
        .route("/command", post(run))
        .route("/next-key", post(next_key))
        .route("/prune-plan", post(prune_plan))
        .route("/holds", get(holds))
        .route("/subject", post(subject))
        .route("/log", get(tail))
        .route("/log/{index}", get(record))
        .route("/receipt/{index}", get(receipt))
        .route("/receipt/{index}/cose", get(cose))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(gate)
}

/// What goes wrong here, as status and body.
struct Fault(StatusCode, wire::Refusal);

impl Fault {
    fn bad(error: impl ToString) -> Self {
        Self(StatusCode::BAD_REQUEST, wire::Refusal { code: None, error: error.to_string() })
    }
}

impl From<Reason> for Fault {
    fn from(reason: Reason) -> Self {
        let error = reason.detail.unwrap_or_else(|| reason.code.sentence().to_owned());
        let code = Some(reason.code.as_str().to_owned());
        // What could not be recorded was not refused: it failed, and may be tried again.
        let status = match reason.code {
            ReasonCode::DiskFull
            | ReasonCode::LedgerUnavailable
            | ReasonCode::Overloaded
            | ReasonCode::SignerUnavailable => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::FORBIDDEN,
        };
        Self(status, wire::Refusal { code, error })
    }
}

impl From<ViewError> for Fault {
    fn from(error: ViewError) -> Self {
        let refusal = wire::Refusal { code: None, error: error.to_string() };
        Self(StatusCode::NOT_FOUND, refusal)
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        (self.0, Json(self.1)).into_response()
    }
}

type Answer<T> = Result<Json<T>, Fault>;

async fn status(State(gate): State<Gate>) -> Json<wire::Status> {
    let now = gate.status();
    let (configuration, policy) = gate.in_force();
    Json(wire::Status {
        configuration: configuration.hex(),
        policy: policy.hex(),
        log: gate.origin(),
        size: now.size,
        failure: now.failure,
        waiting: now.waiting,
        activation_policy: gate.activation().map(|activation| activation.policy.hex()),
        activation_configuration: gate.activation().map(|activation| activation.configuration.hex()),
        activation_serial: gate.activation().map_or(0, |activation| activation.serial),
        in_flight: now.in_flight,
        killed: now.killed,
        frozen: now.frozen.into_iter().map(|(name, until)| (name, until.0)).collect(),
        stalled: now.stalled,
        witnesses: now.witnesses.into_iter().map(witness).collect(),
        contradicted: now.contradicted,
    })
}

async fn approvals(State(gate): State<Gate>) -> Answer<Vec<wire::Waiting>> {
    Ok(Json(gate.waiting()?.into_iter().map(waiting).collect()))
}

async fn approval(State(gate): State<Gate>, Path(ticket): Path<String>) -> Answer<wire::Waiting> {
    let ticket = ticket.parse().map_err(Fault::bad)?;
    Ok(Json(waiting(gate.waiting_under(&ticket)?)))
}

async fn consent(
    State(gate): State<Gate>,
    Path(ticket): Path<String>,
    Json(consent): Json<wire::Consent>,
) -> Answer<wire::Recorded> {
    let ticket = ticket.parse().map_err(Fault::bad)?;
    let human = consent.human.parse().map_err(Fault::bad)?;
    let signature = STANDARD.decode(&consent.signature).map_err(Fault::bad)?;
    let leaf = gate.consent(ticket, human, consent.approved, signature).await?;
    Ok(Json(wire::Recorded { leaf, token: None, session: None, erased: None, pruned: None }))
}

async fn challenge(State(gate): State<Gate>) -> Answer<wire::Challenge> {
    let challenge = gate.challenge().ok_or_else(|| Fault::bad("no randomness to be had"))?;
    Ok(Json(wire::Challenge { challenge: STANDARD.encode(challenge.0), log: gate.origin() }))
}

async fn next_key(State(gate): State<Gate>) -> Answer<wire::NextKey> {
    let key = gate.next_key().await?;
    Ok(Json(wire::NextKey { key: key.to_string() }))
}

async fn run(State(gate): State<Gate>, Json(body): Json<wire::Signed>) -> Answer<wire::Recorded> {
    let bytes = STANDARD.decode(&body.signed).map_err(Fault::bad)?;
    let signed: command::Signed = from_canonical(&bytes).map_err(Fault::bad)?;
    let carried = gate.command(signed).await?;
    Ok(Json(wire::Recorded {
        leaf: carried.leaf,
        token: carried.token,
        session: carried.session.map(|session| session.to_string()),
        erased: carried.erased.map(|erased| wire::Erased { keys: erased.keys, payloads: erased.payloads }),
        pruned: carried.pruned.map(|cut| wire::Pruned {
            minimum: cut.minimum,
            records: cut.records,
            newest_ms: cut.newest.0,
        }),
    }))
}

async fn prune_plan(State(gate): State<Gate>, Json(asked): Json<wire::PruneBelow>) -> Answer<wire::PrunePlan> {
    let below = match (asked.index, asked.older_than_ms) {
        (Some(index), None) => Below::Index(LeafIndex(index)),
        (None, Some(ms)) => Below::Age(ms),
        _ => return Err(Fault::bad("say either below which record, or how old")),
    };
    let Plan { begins, minimum } = gate.prunable(below).await?;
    let (minimum, why) = match minimum {
        Ok(minimum) => (Some(minimum), None),
        Err(why) => (None, Some(why)),
    };
    Ok(Json(wire::PrunePlan { begins, minimum, why }))
}

async fn subject(State(gate): State<Gate>, Json(subject): Json<wire::Subject>) -> Json<wire::SubjectHash> {
    Json(wire::SubjectHash { hash: STANDARD.encode(gate.subject(&subject.name).0) })
}

async fn holds(State(gate): State<Gate>) -> Json<Vec<wire::Hold>> {
    let mut holds = Vec::new();
    for (name, hold) in gate.holds() {
        let (run, subject) = match hold.scope {
            Some(VaultScope::Run(run)) => (Some(run.to_string()), None),
            Some(VaultScope::Subject(hash)) => (None, Some(hash.hex())),
            None => (None, None),
        };
        let (since_ms, human) = (hold.since.0, hold.human.to_string());
        holds.push(wire::Hold { name: name.to_string(), run, subject, since_ms, human });
    }
    Json(holds)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Count {
    count: u64,
}

async fn tail(State(gate): State<Gate>, Query(Count { count }): Query<Count>) -> Answer<Vec<wire::Stored>> {
    let records = gate.tail(count.min(TAIL_MAX))?;
    Ok(Json(records.iter().map(stored).collect()))
}

async fn record(State(gate): State<Gate>, Path(index): Path<u64>) -> Answer<wire::Stored> {
    Ok(Json(stored(&gate.stored(index)?)))
}

async fn receipt(State(gate): State<Gate>, Path(index): Path<u64>) -> Result<String, Fault> {
    gate.receipt_of(index)?.to_json().map_err(Fault::bad)
}

/// Bytes that are no text; the signer may be another process, so this waits where waiting is allowed.
async fn cose(State(gate): State<Gate>, Path(index): Path<u64>) -> Result<Vec<u8>, Fault> {
    let made = tokio::task::spawn_blocking(move || gate.cose_receipt_of(index));
    Ok(made.await.map_err(Fault::bad)??.encode())
}

fn witness(standing: countersign_gate::witness::Standing) -> wire::Witness {
    let trouble = standing.trouble.map(|trouble| trouble.to_string());
    wire::Witness { name: standing.name, cosigned: standing.cosigned, trouble }
}

fn waiting(waiting: view::Waiting) -> wire::Waiting {
    wire::Waiting {
        ticket: waiting.ticket.to_string(),
        expires_ms: waiting.expires.0,
        proposal: stored(&waiting.proposal),
    }
}

fn stored(stored: &view::Stored) -> wire::Stored {
    wire::Stored {
        index: stored.index,
        leaf: STANDARD.encode(&stored.leaf),
        payload: stored.payload.as_ref().and_then(|payload| payload.encode().ok()).map(|bytes| STANDARD.encode(bytes)),
    }
}
