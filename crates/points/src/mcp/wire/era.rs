//! The two eras of the protocol, and which of them a message is of.
//!
//! It must not know what either era's methods do.

use countersign_effects::json::Node;

pub use super::headers::META_VERSION;

/// Revisions with the `initialize` handshake, oldest first.
pub const LEGACY: [&str; 4] = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"];
/// The revision with a handshake that is offered to upstreams.
pub const LATEST_LEGACY: &str = "2025-11-25";
/// Revisions without a handshake.
pub const MODERN: [&str; 1] = ["2026-07-28"];
/// The revision without a handshake that is offered to upstreams.
pub const LATEST_MODERN: &str = "2026-07-28";
/// What a header-less request of an HTTP client is taken to speak (2025-11-25, `basic/transports`).
pub const ASSUMED: &str = "2025-03-26";

/// The member of a notification's `_meta` that says which listening request it belongs to.
pub const SUBSCRIPTION: &str = "io.modelcontextprotocol/subscriptionId";
/// The extension for tasks (2026-07-28): its methods have names of 2025-11-25 and other meanings.
pub const TASKS: &str = "io.modelcontextprotocol/tasks";
/// The member of `_meta` that ties what is said to a task (2025-11-25, `basic/utilities/tasks`).
pub const RELATED_TASK: &str = "io.modelcontextprotocol/related-task";

const FIRST_MODERN: &str = "2026-07-28";

/// Which era a message is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Era {
    /// With a handshake.
    Legacy,
    /// Without one: each request says for itself what it speaks.
    Modern,
}

impl Era {
    /// The era of a request, from its protocol-version header, method and parameters. A modern request that forgot what
    /// makes it one is refused as such, not taken for a legacy one.
    #[must_use]
    pub fn of(header: Option<&str>, method: &str, params: Option<&Node>) -> Self {
        let tagged = params.and_then(|params| params.get("_meta")).is_some_and(|meta| meta.get(META_VERSION).is_some());
        let named = matches!(method, "server/discover" | "subscriptions/listen");
        if tagged || named || header.is_some_and(is_modern) { Self::Modern } else { Self::Legacy }
    }
}

/// Whether `version` is a revision with a handshake.
#[must_use]
pub fn is_legacy(version: &str) -> bool {
    LEGACY.contains(&version)
}

/// Whether `version` is a revision that is served here, of either era.
#[must_use]
pub fn is_served(version: &str) -> bool {
    MODERN.contains(&version) || is_legacy(version)
}

/// Whether `version` is a date from the first modern revision on.
fn is_modern(version: &str) -> bool {
    let dated = version.len() == 10 && version.bytes().all(|byte| byte == b'-' || byte.is_ascii_digit());
    dated && version >= FIRST_MODERN
}
