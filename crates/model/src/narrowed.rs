//! To what a token was narrowed after it was issued.
//!
//! Whoever holds a token can narrow it, without us; nobody can widen it. It says what the token says and is recorded with
//! every decision that read it. It must not know how a token is written, or which blocks were revoked.

use std::collections::BTreeSet;

use minicbor::{Decode, Encode};

use crate::facts::Effect;
use crate::id::{Digest, ToolName, UpstreamId};

/// The most names of one kind that a token may be narrowed to.
pub const NAMES_MAX: usize = 64;

/// What is left of a token's reach, over all blocks that narrowed it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Narrowed {
    /// The ids of the blocks that narrowed it, in their order. Each can be revoked, and with it all that came after.
    #[n(0)]
    pub blocks: Vec<Digest>,
    /// The tools that may be called; any where absent.
    #[n(1)]
    pub tools: Option<BTreeSet<ToolName>>,
    /// The upstreams that may be called; any where absent.
    #[n(2)]
    pub upstreams: Option<BTreeSet<UpstreamId>>,
    /// Whether nothing but reads may run.
    #[n(3)]
    pub read_only: bool,
}

impl Narrowed {
    /// Why a call is beyond it, if it is. Without an effect only names are asked, as for a listing.
    #[must_use]
    pub fn refuses(&self, (upstream, tool): (&UpstreamId, &ToolName), effect: Option<Effect>) -> Option<String> {
        if self.upstreams.as_ref().is_some_and(|upstreams| !upstreams.contains(upstream)) {
            return Some(format!("the upstream `{upstream}` is not among those that the token was narrowed to"));
        }
        if self.tools.as_ref().is_some_and(|tools| !tools.contains(tool)) {
            return Some(format!("the tool `{tool}` is not among those that the token was narrowed to"));
        }
        let effect = effect.filter(|effect| self.read_only && !effect.is_harmless())?;
        Some(format!("the token was narrowed to reads, and this is `{}`", effect.as_str()))
    }
}
