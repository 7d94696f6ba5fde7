//! How the names of several upstreams look on one endpoint, and back.
//!
//! An upstream's id that can be a prefix has neither underscore nor plus in it, so the first one in a name ends the
//! prefix, whatever follows. Nothing is guessed: a name without a known prefix belongs to nobody. It must not know
//! which upstreams there are.

use countersign_effects::names::neighbour::BETWEEN;
use countersign_model::id::UpstreamId;

/// Between the id of an upstream and a URI.
pub(crate) const BEFORE_URI: &str = "+";
/// The longest id that can be a prefix.
pub(crate) const PREFIX_BYTES_MAX: usize = 32;

/// What kind of name it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Named {
    /// A tool, a prompt or a task.
    Name,
    /// A URI or a template of URIs.
    Uri,
}

impl Named {
    const fn between(self) -> &'static str {
        match self {
            Self::Name => BETWEEN,
            Self::Uri => BEFORE_URI,
        }
    }

    /// What stands before the names of an upstream.
    pub(crate) fn prefix(self, upstream: &UpstreamId) -> String {
        format!("{upstream}{}", self.between())
    }

    /// The prefix and the upstream's own name.
    pub(crate) fn split(self, text: &str) -> Option<(&str, &str)> {
        text.split_once(self.between())
    }
}

/// Whether an id can be a prefix: ASCII letters, digits and hyphens, at most 32 of them.
#[must_use]
pub fn is_prefix(id: &UpstreamId) -> bool {
    let text = id.as_str();
    text.len() <= PREFIX_BYTES_MAX && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}
