//! A look at an upstream: what it says of itself and of its tools, for a human who is to accept it.
//!
//! In the era that legacy clients see where it speaks both. Handshake and listing only, the same as the gateway's, over a connection of its own that ends with the look. It must
//! not call a tool. It does not cover prompts and resources, which are not governed and do not pass.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use countersign_effects::json::{Limits, Node, parse};
use countersign_model::id::ToolName;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use super::ears::Ears;
use super::link::LinkError;
use super::{CHANGES_QUEUE, Leg, Live, UpstreamError, listing, supervise};
use crate::mcp::config::{EraChoice, UpstreamConfig};
use crate::mcp::wire::Era;
use crate::mcp::wire::era::LATEST_LEGACY;

/// What an upstream says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survey {
    /// The server's name, as it gives it.
    pub name: String,
    /// The server's version, as it gives it.
    pub version: String,
    /// What it tells the model about itself; empty where it says nothing.
    pub instructions: String,
    /// The raw definition of every tool that can be called through the gateway.
    pub tools: BTreeMap<ToolName, Bytes>,
}

/// Opens the upstream, shakes hands, lists its tools over all pages, and leaves.
///
/// # Errors
/// Where it cannot be reached, or its answers cannot be read.
pub async fn survey(mut config: UpstreamConfig) -> Result<Survey, UpstreamError> {
    let looked = match once(&config).await {
        Err(LinkError::Gone) if supervise::may_be_legacy(&config) => {
            config.era = EraChoice::Legacy;
            once(&config).await
        }
        looked => looked,
    };
    looked.map_err(|source| UpstreamError { upstream: config.id, source })
}

async fn once(config: &UpstreamConfig) -> Result<Survey, LinkError> {
    let (changes, _) = broadcast::channel(CHANGES_QUEUE);
    let ears = Ears::Own { changes, audience: Arc::default() };
    let opened = supervise::open(config, &ears)?;
    let live = supervise::shake(config, opened, &ears, &CancellationToken::new()).await?;
    let looked = look(config, &live).await;
    live.farewell().await;
    live.close();
    looked
}

async fn look(config: &UpstreamConfig, live: &Live) -> Result<Survey, LinkError> {
    let Leg { link, hello } = live.legs().next().ok_or(LinkError::Gone)?;
    let definitions = listing::list_definitions(link, hello, &config.limits).await?;
    let tools = definitions.into_iter().map(|(name, definition)| (name, definition.raw)).collect();
    let hello = match hello.era() {
        Era::Legacy => hello.raw(),
        Era::Modern => hello.to_legacy((LATEST_LEGACY, config.id.as_str()))?.raw(),
    };
    said(&hello, tools)
}

fn said(handshake: &[u8], tools: BTreeMap<ToolName, Bytes>) -> Result<Survey, LinkError> {
    let read = parse(handshake, &Limits::default()).map_err(|error| LinkError::Unreadable(error.to_string()))?;
    let text = |node: Option<&Node>| node.and_then(Node::as_str).unwrap_or_default().to_owned();
    let server = read.get("serverInfo");
    Ok(Survey {
        name: text(server.and_then(|server| server.get("name"))),
        version: text(server.and_then(|server| server.get("version"))),
        instructions: text(read.get("instructions")),
        tools,
    })
}
