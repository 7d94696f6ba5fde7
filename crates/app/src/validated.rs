//! The list of policies that passed strict validation, kept in a file from one load to the next.
//!
//! Only the gateway reads it, and only to load what a human has signed for: `policy check` and `policy activate` validate
//! everything, so nobody signs for a policy that was not validated on the spot. The file carries a code under a key that is
//! derived from the installation's token key; one that is missing, damaged, forged or of another version vouches for
//! nothing, and then loading takes longer. It must not know what a policy says.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use aws_lc_rs::hmac;
use countersign_kernel::policy::{Bundle, Validated};
use countersign_model::Digest;

use crate::compose::source;
use crate::config::Config;
use crate::keys::write_new;
use crate::layout::Layout;

#[cfg(test)]
mod tests;

const CODE_BYTES: usize = 32;
const DIGEST_BYTES: usize = 32;
/// More than any bundle that loads in time.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// Loads the bundle of a configuration that a human has to have signed for before anything is decided by it. What the list
/// vouches for is not validated again; then the list is of this bundle.
pub(crate) fn load(config: &Config, list: &List) -> Result<Bundle> {
    let known = list.read();
    let (bundle, validated) = Bundle::load_knowing(&source(config)?, &known)?;
    if validated != known
        && let Err(error) = list.write(&validated)
    {
        tracing::warn!(%error, "the next load validates every policy again");
    }
    Ok(bundle)
}

/// Where the list is kept.
#[derive(Clone)]
pub(crate) struct List {
    path: PathBuf,
    key: hmac::Key,
}

impl List {
    /// The list of an installation.
    pub(crate) fn of(layout: &Layout) -> Result<Self> {
        let path = layout.token_key();
        let token =
            std::fs::read(&path).with_context(|| format!("cannot read the key of tokens `{}`", path.display()))?;
        let key = Digest::of("countersign validated key v1", &[&token]);
        Ok(Self { path: layout.validated(), key: hmac::Key::new(hmac::HMAC_SHA256, &key.0) })
    }

    /// What it vouches for; nothing where it cannot be trusted.
    pub(crate) fn read(&self) -> Validated {
        let is_small = std::fs::metadata(&self.path).is_ok_and(|file| file.len() <= FILE_BYTES_MAX);
        let bytes = if is_small { std::fs::read(&self.path).unwrap_or_default() } else { Vec::new() };
        self.opened(&bytes).unwrap_or_default()
    }

    /// Keeps `validated` in the place of what there was.
    pub(crate) fn write(&self, validated: &Validated) -> Result<()> {
        let body: Vec<u8> = validated.digests().flat_map(|digest| digest.0).collect();
        let code = hmac::sign(&self.key, &body);
        let aside = self.path.with_extension("new");
        let _ = std::fs::remove_file(&aside);
        write_new(&aside, &[code.as_ref(), &body].concat())?;
        std::fs::rename(&aside, &self.path).with_context(|| format!("cannot replace `{}`", self.path.display()))
    }

    fn opened(&self, bytes: &[u8]) -> Option<Validated> {
        let (code, body) = bytes.split_at_checked(CODE_BYTES)?;
        hmac::verify(&self.key, body, code).ok()?;
        let chunks = body.chunks(DIGEST_BYTES).map(|chunk| chunk.try_into().ok().map(Digest));
        chunks.collect()
    }
}
