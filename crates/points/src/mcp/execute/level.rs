//! Levels of the log of a process that clients share (2025-11-25, `server/utilities/logging`).
//!
//! `logging/setLevel` would change what everybody hears, so it is about its client alone here: each hears of the log what it
//! asked for. The process is told the most that anybody asked for, and never less than `info`, which is also what a
//! client hears that asked for nothing once another has asked. It must not know whom a message of the log is for.

use std::borrow::Cow;

use countersign_effects::json::{Node, parse};

use super::audience::{Audience, Member};
use super::link::{Link, LinkError};
use super::outbound::{Outbound, Reply, reading};
use crate::mcp::wire::log::Level;
use crate::mcp::wire::{Frame, INVALID_PARAMS, Outcome, error_frame};

fn asked(request: &Outbound) -> Option<Level> {
    let params = request.params.as_deref()?;
    let params = parse(params, &reading(params.len())).ok()?;
    Level::named(params.get("level").and_then(Node::as_str)?)
}

/// Carries out a `logging/setLevel` of one of the clients that share a process.
pub(super) async fn set(
    audience: &Audience,
    (link, member): (&Link, Member),
    request: &Outbound,
) -> Result<Reply, LinkError> {
    let Some(level) = asked(request) else {
        let text = format!("`level` must be one of {}", Level::NAMES.join(", "));
        let frame = error_frame(None, INVALID_PARAMS, &text, None);
        let limits = reading(frame.len());
        return Reply::of(Frame::read(frame.into(), &limits)?).ok_or(LinkError::Gone);
    };
    let most = level.min(Level::INFO);
    let reply = if audience.is_told(most) {
        Reply::made("result", b"{}")?
    } else {
        let params = format!(r#"{{"level":"{}"}}"#, most.name());
        link.exchange(&Outbound::plain(Cow::Borrowed("logging/setLevel"), Some(params.into())), member).await?
    };
    if matches!(reply.outcome(), Outcome::Result(_)) {
        audience.listens_from(member, level, most);
    }
    Ok(reply)
}
