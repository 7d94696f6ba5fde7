//! The two exchanges with an upstream that come before any action: the handshake, and the listing of tools.
//!
//! A tool's manifest is the hash of the very bytes of its definition: one changed letter is another tool. It must
//! not know clients. It does not cover prompts and resources: this version does not govern them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use countersign_effects::json::Node;
use countersign_effects::names;
use countersign_effects::names::neighbour::Mentions;
use countersign_model::Digest;
use countersign_model::id::ToolName;

use super::Listed;
use super::channel::ClientHello;
use super::link::{Link, LinkError};
use super::outbound::{Outbound, Reply};
use crate::mcp::config::UpstreamLimits;
use crate::mcp::wire::era::{LATEST_LEGACY, LATEST_MODERN, META_VERSION, MODERN, is_legacy};
use crate::mcp::wire::headers::{self, Annotation};
use crate::mcp::wire::{Era, Frame, Outcome, UNSUPPORTED_VERSION, notification_frame, quoted, splice};

/// What an upstream answered to `initialize` or `server/discover`.
#[derive(Debug)]
pub struct Hello {
    era: Era,
    version: String,
    reply: Reply,
}

impl Hello {
    /// Reads the answer to `initialize`, or to `server/discover`.
    pub(super) fn read(reply: Reply, era: Era) -> Result<Self, LinkError> {
        let unreadable = |what: &str| LinkError::Unreadable(what.to_owned());
        let Outcome::Result(result) = reply.outcome() else {
            return Err(unreadable("the upstream answered the handshake with an error"));
        };
        let version = match era {
            Era::Legacy => agreed(result)?,
            Era::Modern => offered(result)?,
        };
        if result.get("capabilities").is_none() {
            return Err(unreadable("`capabilities` are missing"));
        }
        Ok(Self { era, version, reply })
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

/// The revision that an answer to `initialize` settles.
fn agreed(result: &Node) -> Result<String, LinkError> {
    let version = result.get("protocolVersion").and_then(Node::as_str).unwrap_or_default();
    if is_legacy(version) {
        return Ok(version.to_owned());
    }
    Err(LinkError::Unreadable(format!("protocol version `{}` is not supported", version.escape_default())))
}

/// The newest revision of ours that an answer to `server/discover` names.
fn offered(result: &Node) -> Result<String, LinkError> {
    let versions = result.get("supportedVersions").and_then(Node::as_array).unwrap_or_default();
    let known = MODERN.iter().rev().find(|own| versions.iter().any(|version| version.as_str() == Some(own)));
    let unknown = || LinkError::Unreadable("none of its modern protocol versions is supported".to_owned());
    known.map(|version| (*version).to_owned()).ok_or_else(unknown)
}

/// Who the gateway says it is.
pub(super) fn own_info() -> String {
    format!(r#"{{"name":"countersign","version":"{}"}}"#, env!("CARGO_PKG_VERSION"))
}

/// Opens the legacy era. The gateway itself can answer nothing, so it declares the questions that `offers` holds and no
/// other: raw JSON of capabilities.
pub(super) async fn shake_hands(link: &Link, offers: &str) -> Result<Hello, LinkError> {
    let client = ClientHello {
        version: LATEST_LEGACY.to_owned(),
        capabilities: Bytes::copy_from_slice(offers.as_bytes()),
        client: own_info().into(),
        owner: None,
    };
    shake_hands_as(link, &client).await
}

/// Opens the legacy era as a client did.
pub(super) async fn shake_hands_as(link: &Link, client: &ClientHello) -> Result<Hello, LinkError> {
    let or = |raw: &Bytes, other: &str| if raw.is_empty() { other.as_bytes().to_vec() } else { raw.to_vec() };
    let version = if is_legacy(&client.version) { client.version.as_str() } else { LATEST_LEGACY };
    let params = [
        format!(r#"{{"protocolVersion":"{version}","capabilities":"#).as_bytes(),
        &or(&client.capabilities, "{}"),
        br#","clientInfo":"#,
        &or(&client.client, &own_info()),
        b"}",
    ]
    .concat();
    let reply = link.exchange(&Outbound::plain("initialize", Some(params.into())), 0).await?;
    let hello = Hello::read(reply, Era::Legacy)?;
    link.agree(Era::Legacy, hello.version());
    link.notify(notification_frame("notifications/initialized", None)).await?;
    Ok(hello)
}

/// Asks for the modern era. A server that refuses the revision and names one that is spoken here is asked once more
/// (2026-07-28, schema, `UnsupportedProtocolVersionError`).
pub(super) async fn discover(link: &Link) -> Result<Hello, LinkError> {
    let request = Outbound::plain("server/discover", Some(own_params("")));
    let mut reply = link.exchange(&request, 0).await?;
    if names_ours(&reply) {
        reply = link.exchange(&request, 0).await?;
    }
    let hello = Hello::read(reply, Era::Modern)?;
    link.agree(Era::Modern, hello.version());
    Ok(hello)
}

/// Whether a reply refuses a revision and names one that is spoken here. There is one, so it is the one that was refused.
fn names_ours(reply: &Reply) -> bool {
    let Outcome::Error(error) = reply.outcome() else { return false };
    let code = error.get("code").map(|code| code.raw(reply.frame().bytes()));
    let supported = error.get("data").and_then(|data| data.get("supported")?.as_array()).unwrap_or_default();
    code == Some(UNSUPPORTED_VERSION.to_string().as_bytes())
        && supported.iter().any(|version| version.as_str() == Some(LATEST_MODERN))
}

/// Parameters of a modern request of the gateway's own; `more` is raw members, each after a comma.
pub(super) fn own_params(more: &str) -> Bytes {
    own_params_with("{}", more)
}

/// The same with capabilities.
pub(super) fn own_params_with(capabilities: &str, more: &str) -> Bytes {
    format!(
        r#"{{"_meta":{{"{META_VERSION}":"{LATEST_MODERN}","io.modelcontextprotocol/clientCapabilities":{capabilities},"io.modelcontextprotocol/clientInfo":{}}}{more}}}"#,
        own_info(),
    )
    .into()
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
        mentions: definition.mentions,
        mirrors: definition.mirrors,
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
    mentions: Option<Arc<Mentions>>,
    mirrors: Option<Arc<[Annotation]>>,
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
    let params = |more: &str| match hello.era() {
        Era::Modern => Some(own_params(more)),
        Era::Legacy if more.is_empty() => None,
        Era::Legacy => Some(format!("{{{}}}", more.trim_start_matches(',')).into()),
    };
    let mut more = String::new();
    for _ in 0..limits.pages_max {
        let reply = link.exchange(&Outbound::plain("tools/list", params(&more)), 0).await?;
        let next = read_page(&reply, &mut tools)?;
        if tools.len() > limits.tools_max {
            return Err(LinkError::Unreadable(format!("more than {} tools", limits.tools_max)));
        }
        match next {
            Some(cursor) => more = format!(r#","cursor":{}"#, quoted(&cursor)),
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
        let mirrors = tool.get("inputSchema").map_or(Ok(Vec::new()), headers::annotations);
        if let Err(why) = &mirrors {
            tracing::warn!(tool = %name, %why, "clients without a handshake cannot call a tool");
        }
        let definition = Definition {
            raw: reply.frame().raw(tool),
            output_schema: tool.get("outputSchema").is_some(),
            flagged: signs(tool),
            mentions: Some(Mentions::of(tool)).filter(|mentions| !mentions.is_empty()).map(Arc::new),
            mirrors: mirrors.ok().map(Arc::from),
        };
        if let Some(_twice) = tools.insert(name.clone(), definition) {
            return Err(LinkError::Unreadable(format!("tool `{name}` is listed twice")));
        }
    }
    Ok(result.get("nextCursor").and_then(Node::as_str).map(str::to_owned))
}
