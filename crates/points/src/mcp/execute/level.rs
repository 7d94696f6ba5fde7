//! Levels of the log of a process that clients share (2025-11-25, `server/utilities/logging`).
//!
//! `logging/setLevel` would change what everybody hears, so it is about its client alone here: each hears of the log what it
//! asked for. The process is told the most that anybody asked for, and never less than `info`, which is also what a
//! client hears that asked for nothing once another has asked. It must not know whom a message of the log is for.

use std::borrow::Cow;

use countersign_effects::json::{Node, parse};

use super::audience::{Audience, Member};
use super::channel::empty_reply;
use super::link::{Link, LinkError};
use super::outbound::{Outbound, Reply, reading};
use crate::mcp::wire::{Frame, INVALID_PARAMS, Message, Outcome, error_frame};

/// From the most that is said to the least.
const LEVELS: [&str; 8] = ["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"];

/// How grave a message of the log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Level(usize);

impl Level {
    pub(crate) const INFO: Self = Self(1);

    fn named(name: &str) -> Option<Self> {
        LEVELS.iter().position(|known| *known == name).map(Self)
    }

    /// The level of a message of the log; none where it is another message, or has none that is known.
    pub(crate) fn of(frame: &Frame) -> Option<Self> {
        match frame.message() {
            Message::Notification { method, params: Some(params) } if method == "notifications/message" => {
                Self::named(params.get("level")?.as_str()?)
            }
            _ => None,
        }
    }

    fn asked(request: &Outbound) -> Option<Self> {
        let params = request.params.as_deref()?;
        let params = parse(params, &reading(params.len())).ok()?;
        Self::named(params.get("level").and_then(Node::as_str)?)
    }

    fn name(self) -> &'static str {
        LEVELS.get(self.0).copied().unwrap_or_default()
    }
}

/// Carries out a `logging/setLevel` of one of the clients that share a process.
pub(super) async fn set(
    audience: &Audience,
    (link, member): (&Link, Member),
    request: &Outbound,
) -> Result<Reply, LinkError> {
    let Some(level) = Level::asked(request) else {
        let text = format!("`level` must be one of {}", LEVELS.join(", "));
        let frame = error_frame(None, INVALID_PARAMS, &text, None);
        let limits = reading(frame.len());
        return Reply::of(Frame::read(frame.into(), &limits)?).ok_or(LinkError::Gone);
    };
    let most = level.min(Level::INFO);
    let reply = if audience.is_told(most) {
        empty_reply()?
    } else {
        let params = format!(r#"{{"level":"{}"}}"#, most.name());
        link.exchange(&Outbound::plain(Cow::Borrowed("logging/setLevel"), Some(params.into())), member).await?
    };
    if matches!(reply.outcome(), Outcome::Result(_)) {
        audience.listens_from(member, level, most);
    }
    Ok(reply)
}
