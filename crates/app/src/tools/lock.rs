//! The list of accepted tools of one upstream: `tools/UPSTREAM.lock.json`, beside the configuration.
//!
//! It holds every definition whole, so that a person can read what was accepted and a diff shows what changed, and the
//! hash of the very bytes that the upstream sent, which is what the gateway compares. The two must agree, or the list is
//! refused: whoever edits the one by hand has accepted something else than what stands there. Its bytes are part of the
//! configuration's hash, so it counts only after a human's signature.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use countersign_effects::json::{Node, canonical, parse};
use countersign_model::Digest;
use countersign_model::id::{ToolName, UpstreamId};
use countersign_points::mcp::{Survey, manifest};

use super::spell::{self, LIMITS, compact, pretty, quoted};
use crate::layout::file_name;

/// What was accepted of one upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lock {
    /// The server, as it named itself.
    pub(crate) server: Server,
    /// The accepted tools.
    pub(crate) tools: BTreeMap<ToolName, Definition>,
}

/// What a server says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Server {
    /// Its name.
    pub(crate) name: String,
    /// Its version.
    pub(crate) version: String,
    /// What it tells the model about itself.
    pub(crate) instructions: String,
}

/// One tool, as its upstream defines it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Definition {
    /// The very bytes.
    pub(crate) raw: Vec<u8>,
}

impl Definition {
    /// What the gateway compares.
    pub(crate) fn manifest(&self) -> Digest {
        manifest(&self.raw)
    }

    /// The definition, read.
    ///
    /// # Errors
    /// Where it is no JSON that both sides read alike.
    pub(crate) fn node(&self) -> Result<Node> {
        Ok(parse(&self.raw, &LIMITS)?)
    }

    /// The member `name` of the definition on one line, where it has one.
    pub(crate) fn member(&self, name: &str) -> Option<String> {
        let node = self.node().ok()?;
        node.get(name).map(|member| compact(member, &self.raw))
    }

    /// The text of the member `name`, where it is one.
    pub(crate) fn text(&self, name: &str) -> Option<String> {
        self.node().ok()?.get(name)?.as_str().map(str::to_owned)
    }
}

/// Where the list of an upstream lies; none for an upstream whose id cannot name a file.
pub(crate) fn path(folder: &Path, upstream: &UpstreamId) -> Option<PathBuf> {
    let name = file_name(upstream.as_str()).ok()?;
    Some(folder.join("tools").join(format!("{name}.lock.json")))
}

impl Lock {
    /// What a server says now.
    pub(crate) fn of(survey: Survey) -> Self {
        let Survey { name, version, instructions, tools } = survey;
        let server = Server { name, version, instructions };
        let tools = tools.into_iter().map(|(name, raw)| (name, Definition { raw: raw.to_vec() })).collect();
        Self { server, tools }
    }

    /// The list as a file.
    ///
    /// # Errors
    /// Where a definition is no JSON that both sides read alike: such a tool cannot be shown, so it cannot be accepted.
    pub(crate) fn write(&self, upstream: &UpstreamId) -> Result<String> {
        let Server { name, version, instructions } = &self.server;
        let mut out = format!(
            "{{\n  \"version\": 1,\n  \"upstream\": {},\n  \"server\": {{\n    \"name\": {},\n    \"version\": {},\n    \
             \"instructions\": {}\n  }},\n  \"tools\": {{",
            quoted(upstream.as_str()),
            quoted(name),
            quoted(version),
            quoted(instructions),
        );
        for (place, (name, tool)) in self.tools.iter().enumerate() {
            let comma = if place > 0 { "," } else { "" };
            let node = tool.node().with_context(|| format!("the definition of tool `{name}`"))?;
            out.push_str(&format!("{comma}\n    {}: {{\n      ", quoted(name.as_str())));
            out.push_str(&format!("\"manifest\": \"{}\",\n      ", tool.manifest().hex()));
            out.push_str(&format!("\"definition\": {}", pretty(&node, &tool.raw, 3)));
            if compact(&node, &tool.raw).as_bytes() != tool.raw {
                // The bytes cannot be had from the definition, so they stand there themselves.
                out.push_str(&format!(",\n      \"spelled\": {}", quoted(&String::from_utf8_lossy(&tool.raw))));
            }
            out.push_str("\n    }");
        }
        out.push_str(if self.tools.is_empty() { "}\n}\n" } else { "\n  }\n}\n" });
        Ok(out)
    }

    /// Reads the list of `upstream` below `folder`, where there is one, with the bytes of the file.
    ///
    /// # Errors
    /// Where the file cannot be read, or does not agree with itself.
    pub(crate) fn load(folder: &Path, upstream: &UpstreamId) -> Result<Option<(Self, Vec<u8>)>> {
        let Some(path) = path(folder, upstream) else { return Ok(None) };
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("cannot read `{}`", path.display())),
        };
        let lock = Self::parse(&bytes, upstream).with_context(|| {
            format!(
                "in `{}`: the list of accepted tools was changed by hand or is damaged; write it anew with `countersign tools accept {upstream}`",
                path.display()
            )
        })?;
        Ok(Some((lock, bytes)))
    }

    /// Reads a list, and checks that definitions and hashes agree.
    pub(crate) fn parse(bytes: &[u8], upstream: &UpstreamId) -> Result<Self> {
        let root = parse(bytes, &LIMITS)?;
        only(&root, &["version", "upstream", "server", "tools"])?;
        if root.get("version").and_then(|version| version.as_u64(bytes)) != Some(1) {
            bail!("its version is not known; this build reads version 1");
        }
        let named = text(&root, "upstream")?;
        if named != upstream.as_str() {
            bail!("it is the list of upstream `{}`", named.escape_debug());
        }
        let server = root.get("server").context("it names no server")?;
        only(server, &["name", "version", "instructions"])?;
        let server = Server {
            name: text(server, "name")?,
            version: text(server, "version")?,
            instructions: text(server, "instructions")?,
        };
        let tools = root.get("tools").and_then(Node::as_object).context("`tools` is no object")?;
        let tools = tools
            .iter()
            .map(|(name, entry)| {
                let tool = definition(name, entry, bytes).with_context(|| format!("tool `{}`", name.escape_debug()))?;
                Ok((ToolName::new(name)?, tool))
            })
            .collect::<Result<_>>()?;
        Ok(Self { server, tools })
    }
}

fn definition(name: &str, entry: &Node, bytes: &[u8]) -> Result<Definition> {
    only(entry, &["manifest", "definition", "spelled"])?;
    let shown = entry.get("definition").context("it has no definition")?;
    let raw = match entry.get("spelled") {
        Some(spelled) => spelled.as_str().context("`spelled` is no text")?.to_owned(),
        None => spell::compact(shown, bytes),
    };
    let tool = Definition { raw: raw.into_bytes() };
    let node = tool.node().context("`spelled` cannot be read")?;
    if canonical(&node, &tool.raw) != canonical(shown, bytes) {
        bail!("its definition is not what its bytes say");
    }
    if text(entry, "manifest")? != tool.manifest().hex() {
        bail!("its manifest is not the hash of its definition");
    }
    if node.get("name").and_then(Node::as_str) != Some(name) {
        bail!("its definition names another tool");
    }
    Ok(tool)
}

fn only(node: &Node, known: &[&str]) -> Result<()> {
    let members = node.as_object().context("no object")?;
    match members.iter().find(|(name, _)| !known.contains(&name.as_str())) {
        Some((name, _)) => bail!("`{}` is not known here", name.escape_debug()),
        None => Ok(()),
    }
}

fn text(node: &Node, name: &str) -> Result<String> {
    Ok(node.get(name).and_then(Node::as_str).with_context(|| format!("`{name}` is missing or no text"))?.to_owned())
}
