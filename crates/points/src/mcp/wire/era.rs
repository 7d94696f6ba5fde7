//! The two eras of the protocol, and which of them a message is of.
//!
//! This version governs the legacy era (an `initialize` handshake, up to 2025-11-25). A message of the modern era
//! is recognised and refused with a text that says so; the code is not -32022, so that a client of both eras falls
//! back to `initialize`. It must not know what either era's methods do.

use countersign_effects::json::Node;

/// Revisions with the `initialize` handshake, oldest first.
pub const LEGACY: [&str; 4] = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"];
/// The revision that is offered to upstreams.
pub const LATEST_LEGACY: &str = "2025-11-25";
/// What a header-less request of an HTTP client is taken to speak (2025-11-25, `basic/transports`).
pub const ASSUMED: &str = "2025-03-26";

/// The member of `_meta` with a request's revision.
pub const META_VERSION: &str = "io.modelcontextprotocol/protocolVersion";
/// The member of a notification's `_meta` that says which listening request it belongs to.
pub const SUBSCRIPTION: &str = "io.modelcontextprotocol/subscriptionId";
/// Revisions without a handshake that are spoken, oldest first.
pub const MODERN: [&str; 1] = ["2026-07-28"];
/// The modern revision that is offered to upstreams.
pub const LATEST_MODERN: &str = "2026-07-28";
const FIRST_MODERN: &str = "2026-07-28";

/// Which era a message is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Era {
    /// With a handshake; governed.
    Legacy,
    /// Without one; not governed by this version.
    Modern,
}

impl Era {
    /// The era of a request, from its protocol-version header, method and parameters.
    #[must_use]
    pub fn of(header: Option<&str>, method: &str, params: Option<&Node>) -> Self {
        let tagged = params.and_then(|params| params.get("_meta")).is_some_and(|meta| meta.get(META_VERSION).is_some());
        if tagged || method == "server/discover" || header.is_some_and(is_modern) { Self::Modern } else { Self::Legacy }
    }

    /// Why a message of the modern era is refused.
    pub const MODERN_REFUSED: &str = "this gateway governs MCP revisions 2024-11-05 to 2025-11-25 only: \
         open with `initialize` and protocol version 2025-11-25";
}

/// Whether `version` is a revision with a handshake.
#[must_use]
pub fn is_legacy(version: &str) -> bool {
    LEGACY.contains(&version)
}

/// Whether `version` is a date from the first modern revision on.
fn is_modern(version: &str) -> bool {
    let dated = version.len() == 10 && version.bytes().all(|byte| byte == b'-' || byte.is_ascii_digit());
    dated && version >= FIRST_MODERN
}
