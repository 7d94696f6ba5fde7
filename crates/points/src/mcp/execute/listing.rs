//! The two exchanges with an upstream that come before any action: the handshake, and the listing of tools.
//!
//! A tool's manifest is the hash of the very bytes of its definition: one changed letter is another tool. It must
//! not know clients. It does not cover prompts and resources: this version does not govern them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use countersign_effects::json::Node;
use countersign_effects::names;
use countersign_model::Digest;
use countersign_model::id::ToolName;

use super::Listed;
use super::link::{Link, LinkError};
use super::outbound::{Outbound, Reply};
use crate::mcp::config::UpstreamLimits;
use crate::mcp::wire::era::{LATEST_LEGACY, is_legacy};
use crate::mcp::wire::{Era, Frame, Outcome, notification_frame, quoted, splice};

/// What an upstream answered to `initialize` or `server/discover`.
#[derive(Debug)]
pub struct Hello {
    era: Era,
    version: String,
    reply: Reply,
}

impl Hello {
    /// Reads the answer to `initialize`.
    pub(super) fn read(reply: Reply) -> Result<Self, LinkError> {
        let unreadable = |what: &str| LinkError::Unreadable(what.to_owned());
        let Outcome::Result(result) = reply.outcome() else {
            return Err(unreadable("the upstream answered `initialize` with an error"));
        };
        let version = result.get("protocolVersion").and_then(Node::as_str).unwrap_or_default().to_owned();
        if !is_legacy(&version) {
            let shown = version.escape_default();
            return Err(LinkError::Unreadable(format!("protocol version `{shown}` is not supported")));
        }
        if result.get("capabilities").is_none() {
            return Err(unreadable("`capabilities` are missing"));
        }
        Ok(Self { era: Era::Legacy, version, reply })
    }

    /// The era that it belongs to.
    #[must_use]
    pub const fn era(&self) -> Era {
        self.era
    }

    /// The agreed revision.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The upstream's result, byte for byte.
    #[must_use]
    pub fn raw(&self) -> Bytes {
        self.reply.raw()
    }

    /// The message that the nodes stand in.
    pub(crate) const fn frame(&self) -> &Frame {
        self.reply.frame()
    }

    /// The upstream's result.
    pub(crate) const fn result(&self) -> &Node {
        match self.reply.outcome() {
            Outcome::Result(node) | Outcome::Error(node) => node,
        }
    }

    /// What the upstream offers.
    pub(crate) fn capabilities(&self) -> Option<&Node> {
        self.result().get("capabilities")
    }

    /// The upstream's result, raw but for `capabilities`, which is cut down to the `tools` member as it stood.
    #[must_use]
    pub fn governed(&self) -> Bytes {
        let Some(capabilities) = self.capabilities() else { return self.raw() };
        let kept = match capabilities.get("tools") {
            Some(tools) => [br#"{"tools":"#, self.frame().raw(tools).as_ref(), b"}"].concat(),
            None => b"{}".to_vec(),
        };
        let base = self.result().span.start;
        let span = capabilities.span.start.saturating_sub(base)..capabilities.span.end.saturating_sub(base);
        splice::replace(&self.raw(), &span, &kept).into()
    }

    /// Whether the upstream has tools.
    #[must_use]
    pub fn has_tools(&self) -> bool {
        self.capabilities().is_some_and(|capabilities| capabilities.get("tools").is_some())
    }
}

/// Opens the protocol. We declare no capability, so the upstream may ask us for nothing but `ping`.
pub(super) async fn shake_hands(link: &Link) -> Result<Hello, LinkError> {
    let params = format!(
        r#"{{"protocolVersion":"{LATEST_LEGACY}","capabilities":{{}},"clientInfo":{{"name":"countersign","version":"{}"}}}}"#,
        env!("CARGO_PKG_VERSION"),
    );
    let reply = link.exchange(&Outbound::plain("initialize", Some(params.into()))).await?;
    let hello = Hello::read(reply)?;
    link.notify(notification_frame("notifications/initialized", None)).await?;
    Ok(hello)
}

/// Every tool with what is known of it.
pub(super) async fn list_tools(
    link: &Link,
    hello: &Hello,
    limits: &UpstreamLimits,
) -> Result<BTreeMap<ToolName, Listed>, LinkError> {
    Ok(listed(list_definitions(link, hello, limits).await?))
}

/// The tools of one page; none where it is an error.
pub(super) fn shown(page: &Reply) -> Result<BTreeMap<ToolName, Listed>, LinkError> {
    let mut definitions = BTreeMap::new();
    if matches!(page.outcome(), Outcome::Result(_)) {
        read_page(page, &mut definitions)?;
    }
    Ok(listed(definitions))
}

fn listed(definitions: BTreeMap<ToolName, Definition>) -> BTreeMap<ToolName, Listed> {
    let known = |definition: Definition| Listed {
        manifest: manifest(&definition.raw),
        output_schema: definition.output_schema,
        flagged: definition.flagged,
    };
    definitions.into_iter().map(|(name, definition)| (name, known(definition))).collect()
}

/// The hash of the very bytes of a tool's definition: what is on record, and what a human accepts.
#[must_use]
pub fn manifest(definition: &[u8]) -> Digest {
    Digest::of("countersign tool v1", &[definition])
}

/// A tool as its upstream defines it.
pub(super) struct Definition {
    pub(super) raw: Bytes,
    output_schema: bool,
    flagged: Option<Arc<str>>,
}

/// Lists every page. A name that comes twice makes the whole listing unreadable: which of two definitions a call
/// would mean is not ours to guess. A tool whose name no call can carry is left out.
pub(super) async fn list_definitions(
    link: &Link,
    hello: &Hello,
    limits: &UpstreamLimits,
) -> Result<BTreeMap<ToolName, Definition>, LinkError> {
    let mut tools = BTreeMap::new();
    if !hello.has_tools() {
        return Ok(tools);
    }
    let mut params = None;
    for _ in 0..limits.pages_max {
        let reply = link.exchange(&Outbound::plain("tools/list", params.take())).await?;
        let next = read_page(&reply, &mut tools)?;
        if tools.len() > limits.tools_max {
            return Err(LinkError::Unreadable(format!("more than {} tools", limits.tools_max)));
        }
        match next {
            Some(cursor) => params = Some(format!(r#"{{"cursor":{}}}"#, quoted(&cursor)).into()),
            None => return Ok(tools),
        }
    }
    Err(LinkError::Unreadable(format!("more than {} pages of tools", limits.pages_max)))
}

/// What looks wrong in a definition, in our own words alone: they are told to agents.
fn signs(definition: &Node) -> Option<Arc<str>> {
    let signs: BTreeSet<&str> = names::of_tool(definition).iter().map(|flag| flag.sign.as_str()).collect();
    (!signs.is_empty()).then(|| signs.into_iter().collect::<Vec<_>>().join(", ").into())
}

fn read_page(reply: &Reply, tools: &mut BTreeMap<ToolName, Definition>) -> Result<Option<String>, LinkError> {
    let unreadable = |what: &str| LinkError::Unreadable(what.to_owned());
    let Outcome::Result(result) = reply.outcome() else {
        return Err(unreadable("the upstream answered `tools/list` with an error"));
    };
    let listed = result.get("tools").and_then(Node::as_array).ok_or_else(|| unreadable("`tools` is no array"))?;
    for tool in listed {
        let name = tool.get("name").and_then(Node::as_str).ok_or_else(|| unreadable("a tool has no name"))?;
        let name = match ToolName::new(name) {
            Ok(name) => name,
            Err(error) => {
                tracing::warn!(%error, "a tool of the upstream cannot be called through the gateway");
                continue;
            }
        };
        let output_schema = tool.get("outputSchema").is_some();
        let definition = Definition { raw: reply.frame().raw(tool), output_schema, flagged: signs(tool) };
        if let Some(_twice) = tools.insert(name.clone(), definition) {
            return Err(LinkError::Unreadable(format!("tool `{name}` is listed twice")));
        }
    }
    Ok(result.get("nextCursor").and_then(Node::as_str).map(str::to_owned))
}
