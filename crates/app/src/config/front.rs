//! What the configuration says of the door for agents: its socket, further methods and extensions, and how several upstreams share it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use countersign_model::id::ToolName;
use countersign_points::mcp::methods::{EXTENSIONS, Method};
use countersign_points::mcp::route::is_prefix;

use super::Upstream;

/// The most upstreams of one gateway.
const UPSTREAMS_MAX: usize = 32;

/// Refuses upstreams that could not be told apart on one endpoint.
pub(super) fn check_upstreams(upstreams: &[Upstream]) -> Result<()> {
    if upstreams.is_empty() || upstreams.len() > UPSTREAMS_MAX {
        bail!("`upstreams` holds {} entries; a gateway has 1 to {UPSTREAMS_MAX}", upstreams.len());
    }
    let mut ids = BTreeSet::new();
    for upstream in upstreams {
        if !ids.insert(upstream.id.as_str()) {
            bail!("upstream `{}` is listed twice", upstream.id);
        }
        if upstreams.len() > 1 && !is_prefix(&upstream.id) {
            bail!(
                "`{}` cannot stand before names of tools; where there are several upstreams, an `id` is 1 to 32 letters, \
                 digits and hyphens",
                upstream.id
            );
        }
    }
    Ok(())
}

/// Methods that pass besides those of the protocol, as actions.
pub(super) fn checked_methods(methods: Vec<String>) -> Result<Vec<String>> {
    for method in &methods {
        ToolName::new(method).with_context(|| format!("in `methods`: `{}`", method.escape_default()))?;
        if Method::of(method).is_some() {
            bail!("`methods` lists `{method}`, which passes or is refused as the protocol has it; leave it out");
        }
    }
    Ok(methods)
}

/// Extensions of upstreams that clients hear of. A name is a prefix and a word (2026-07-28, `basic`, "`_meta`").
pub(super) fn checked_extensions(extensions: Vec<String>) -> Result<Vec<String>> {
    let is_plain = |text: &str| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
    };
    for extension in &extensions {
        if !extension.split_once('/').is_some_and(|(prefix, word)| is_plain(prefix) && is_plain(word)) {
            bail!("`extensions` lists `{}`; write `PREFIX/NAME`, as its upstream does", extension.escape_default());
        }
        if EXTENSIONS.contains(&extension.as_str()) {
            bail!("`extensions` lists `{extension}`, which passes in any case; leave it out");
        }
    }
    Ok(extensions)
}

/// The Unix socket for agents, beside the configuration unless its path is absolute.
pub(super) fn checked_socket(socket: Option<&str>, folder: &Path) -> Result<Option<PathBuf>> {
    match socket {
        None => Ok(None),
        Some("") => bail!("`socket` is empty; write the path of a Unix socket, or leave it out"),
        Some(path) => Ok(Some(folder.join(path))),
    }
}
