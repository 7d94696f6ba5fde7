//! The era without a handshake: every request says for itself what it speaks, and its headers say it again
//! (2026-07-28, `basic` and `basic/transports/streamable-http`).
//!
//! It must not know sessions: there are none. It does not cover what a method does.

use countersign_effects::json::Node;
use countersign_model::ReasonCode;
use countersign_model::id::UpstreamId;
use hyper::StatusCode;
use serde_json::json;

use super::act::mismatch;
use super::asked::Asked;
use super::given::capabilities;
use super::refusal::Refusal;
use super::seat::Seats;
use crate::mcp::adapt::hello;
use crate::mcp::execute::Upstream;
use crate::mcp::execute::channel::{Channel, ClientHello};
use crate::mcp::execute::link::LinkError;
use crate::mcp::wire::era::{LATEST_MODERN, LEGACY, MODERN, TASKS};
use crate::mcp::wire::headers::{self, Meta};
use crate::mcp::wire::{Era, FrameError, INVALID_PARAMS, MISSING_CAPABILITY, UNSUPPORTED_VERSION};

/// The channels that all requests of the modern era share: one to each upstream.
pub(super) struct Modern {
    ids: Vec<UpstreamId>,
    seats: Seats,
}

impl Modern {
    pub(super) fn new(upstreams: &[Upstream]) -> Self {
        Self {
            ids: upstreams.iter().map(|upstream| upstream.id().clone()).collect(),
            seats: Seats::shared(Era::Modern, own_hello(), upstreams),
        }
    }

    /// The channel to an upstream that all share.
    ///
    /// # Errors
    /// [`LinkError::OtherEra`] for an upstream that has sessions only, which are nothing to share.
    pub(super) async fn channel(&self, upstream: &UpstreamId) -> Result<Channel, LinkError> {
        let place = self.ids.iter().position(|id| id == upstream).ok_or(LinkError::Gone)?;
        self.seats.channel(place, drop).await
    }
}

/// What the gateway says of itself where a channel is no single client's.
pub(super) fn own_hello() -> ClientHello {
    ClientHello {
        version: LATEST_MODERN.to_owned(),
        capabilities: b"{}"[..].into(),
        client: format!(r#"{{"name":"countersign","version":"{}"}}"#, env!("CARGO_PKG_VERSION")).into(),
        owner: None,
    }
}

/// Checks what every request of this era must say, in its body and again in its headers.
///
/// # Errors
/// In this order: `_meta` is not complete, headers and body differ, the revision is not served.
pub(super) fn check(asked: &Asked) -> Result<(), Refusal> {
    let meta = Meta::read(asked.params.node())
        .map_err(|detail| asked.refused(&FrameError { code: INVALID_PARAMS, ..FrameError::shape(detail) }))?;
    let differ = |detail: &str| asked.refused(&mismatch(detail));
    if let Some(wrong) = asked.mirroring.wrong() {
        return Err(differ(wrong));
    }
    let mirrors = asked.mirroring.mirrors();
    match mirrors.version {
        None => return Err(differ("the header `mcp-protocol-version` is missing")),
        Some(version) if version != meta.version => {
            return Err(differ("the header `mcp-protocol-version` and `_meta` name different revisions"));
        }
        Some(_) => {}
    }
    if !MODERN.contains(&meta.version) {
        return Err(unsupported(asked, &hello_versions(asked)));
    }
    headers::compare(&mirrors, &asked.method, asked.params.node()).map_err(|detail| differ(&detail))
}

/// Refuses a request about a task of a client that does not say that it speaks tasks (extension
/// `io.modelcontextprotocol/tasks`). With a handshake a client need not.
pub(super) fn check_speaks_tasks(asked: &Asked) -> Result<(), Refusal> {
    let declared = Meta::read(asked.params.node()).ok().and_then(|meta| meta.capabilities.get("extensions"));
    if asked.era == Era::Legacy || declared.is_some_and(|extensions| extensions.get(TASKS).is_some()) {
        return Ok(());
    }
    let error = FrameError {
        code: MISSING_CAPABILITY,
        ..FrameError::shape(format!("this request needs the client capability `{TASKS}`, which it does not declare"))
    };
    let data = json!({ "requiredCapabilities": { "extensions": { TASKS: {} } } }).to_string();
    Err(Refusal::rpc_with(StatusCode::BAD_REQUEST, Some(&asked.id), &error, &data))
}

/// Refuses to say what a legacy upstream can do to a client that answers questions: no upstream could ask it here, and a
/// client that speaks both eras opens with a handshake, where it can be asked. One that never looks is served.
pub(super) fn check_would_be_asked(asked: &Asked) -> Result<(), Refusal> {
    let declared = capabilities(&asked.params).and_then(Node::as_object).unwrap_or_default();
    let answers = declared.iter().any(|(name, _)| ["elicitation", "roots", "sampling"].contains(&name.as_str()));
    let eras = asked.endpoint.upstream(0).map(Upstream::eras);
    if !answers || !eras.is_some_and(|eras| eras.legacy && !eras.modern) {
        return Ok(());
    }
    Err(unsupported(asked, &LEGACY.map(str::to_owned)))
}

/// What the upstream of an endpoint would say that it speaks, as far as that is served here.
fn hello_versions(asked: &Asked) -> Vec<String> {
    let only = asked.endpoint.upstream(0).filter(|_| !asked.endpoint.is_prefixed());
    let hello = only.and_then(|upstream| upstream.hello(Era::Modern));
    hello::versions(hello.as_deref())
}

fn unsupported(asked: &Asked, supported: &[String]) -> Refusal {
    let requested = asked.mirroring.mirrors().version.unwrap_or_default().to_owned();
    let error = FrameError {
        code: UNSUPPORTED_VERSION,
        reason: ReasonCode::Unsupported,
        detail: format!("this revision is not served; {} are", supported.join(", ")),
    };
    let data = json!({ "supported": supported, "requested": requested }).to_string();
    Refusal::rpc_with(StatusCode::BAD_REQUEST, Some(&asked.id), &error, &data)
}
