//! How grave a message of an upstream's log is (2025-11-25, `server/utilities/logging`).

use countersign_effects::json::Node;

use super::{Frame, Message};

/// How grave a message of the log is, the least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Level(usize);

impl Level {
    /// What is said where nobody asked for a level.
    pub const INFO: Self = Self(1);
    /// All names, from the most that is said to the least.
    pub const NAMES: [&'static str; 8] =
        ["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"];

    /// The level of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::NAMES.iter().position(|known| *known == name).map(Self)
    }

    /// The level of a message of the log; none where it is another message, or has none that is known.
    #[must_use]
    pub fn of(frame: &Frame) -> Option<Self> {
        match frame.message() {
            Message::Notification { method, params: Some(params) } if method == "notifications/message" => {
                Self::named(params.get("level").and_then(Node::as_str)?)
            }
            _ => None,
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES.get(self.0).copied().unwrap_or("emergency")
    }
}
