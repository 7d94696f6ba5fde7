//! What lies beside the configuration and belongs to it: bindings in files of their own, and lists of accepted tools.
//!
//! Both are part of what a human accepts, so their bytes go into the configuration's hash. It must not know what a
//! binding means; `config` checks it like one that stands in the configuration itself.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use countersign_model::Digest;
use countersign_model::id::{Environment, UpstreamId};

use super::{Upstream, raw};
use crate::tools::lock::Lock;

/// Files besides the configuration, as they are read.
#[derive(Default)]
pub(super) struct Beside {
    /// Name and bytes.
    files: BTreeMap<String, Vec<u8>>,
    is_skipped: bool,
}

impl Beside {
    /// No file is looked for.
    pub(super) fn nothing() -> Self {
        Self { is_skipped: true, ..Self::default() }
    }
}

/// The hash of a configuration and what belongs to it.
pub(super) fn hash(text: &str, beside: &Beside) -> Digest {
    let files = beside.files.iter().flat_map(|(name, bytes)| [name.as_bytes(), bytes.as_slice()]);
    let parts: Vec<&[u8]> = std::iter::once(text.as_bytes()).chain(files).collect();
    Digest::of("countersign configuration v1", &parts)
}

/// Adds the bindings that the upstream's own file holds to those of the configuration.
pub(super) fn add_bindings(upstream: &mut raw::Upstream, folder: &Path, beside: &mut Beside) -> Result<()> {
    let Some(name) = upstream.bindings.as_ref().filter(|_| !beside.is_skipped) else { return Ok(()) };
    let path = folder.join(name);
    let text = std::fs::read_to_string(&path).with_context(|| {
        format!(
            "cannot read the bindings `{}`; propose some with `countersign tools bind {}`",
            path.display(),
            upstream.id
        )
    })?;
    let within = || format!("in the bindings `{}`", path.display());
    let read: raw::Bindings =
        serde_saphyr::from_str(&text).map_err(|error| anyhow::anyhow!("{error}")).with_context(within)?;
    if read.upstream != upstream.id {
        bail!("{} are those of upstream `{}`, not of `{}`", within(), read.upstream, upstream.id);
    }
    for (tool, binding) in read.tools {
        if upstream.tools.insert(tool.clone(), binding).is_some() {
            bail!(
                "tool `{tool}` of upstream `{}` is bound in the configuration and in `{name}`; keep one",
                upstream.id
            );
        }
    }
    beside.files.insert(name.clone(), text.into_bytes());
    Ok(())
}

/// The list of accepted tools of an upstream, where there is one.
pub(super) fn accepted(upstream: &UpstreamId, folder: &Path, beside: &mut Beside) -> Result<Option<Lock>> {
    if beside.is_skipped {
        return Ok(None);
    }
    let Some((lock, bytes)) = Lock::load(folder, upstream)? else { return Ok(None) };
    beside.files.insert(format!("tools/{upstream}.lock.json"), bytes);
    Ok(Some(lock))
}

/// Which environments one credential may open together, and why.
pub(super) fn shared(raw: (Vec<String>, Option<String>), upstream: &UpstreamId) -> Result<BTreeSet<Environment>> {
    let (names, reason) = raw;
    if !names.is_empty() && reason.is_none_or(|reason| reason.trim().is_empty()) {
        bail!("`shared_environments` of upstream `{upstream}` needs a `reason`: say why one credential opens them all");
    }
    names.iter().map(|name| Ok(Environment::new(name)?)).collect()
}

/// Refuses a credential that opens targets of several environments where nothing says that it may.
pub(super) fn check_credentials(upstreams: &[Upstream]) -> Result<()> {
    let mut opened: BTreeMap<&str, (BTreeSet<&Environment>, Vec<&Upstream>)> = BTreeMap::new();
    for upstream in upstreams {
        if let Some(reference) = &upstream.credential_from {
            let entry = opened.entry(reference.as_str()).or_default();
            entry.0.extend(upstream.environments());
            entry.1.push(upstream);
        }
    }
    for (reference, (environments, owners)) in opened {
        let allowed = |upstream: &&Upstream| environments.iter().all(|one| upstream.shared.contains(*one));
        if environments.len() > 1 && !owners.iter().all(allowed) {
            let names: Vec<&str> = environments.iter().map(|one| one.as_str()).collect();
            let whose: Vec<String> = owners.iter().map(|upstream| format!("`{}`", upstream.id)).collect();
            bail!(
                "the credential `{reference}` of upstream {} opens targets in {}; give each environment a credential and an \
                 upstream of its own, or write `shared_environments: [{}]` and a `reason` on it",
                whose.join(" and "),
                names.join(" and "),
                names.join(", "),
            );
        }
    }
    Ok(())
}
