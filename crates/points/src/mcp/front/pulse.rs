//! Signs of life for a client that waits: progress of ours under its own token, so that its time-out begins anew.
//!
//! Values only go up ("Progress Flow": they MUST increase). Before an upstream has said anything ours are below zero, where no
//! upstream begins; after that they are a trifle above the upstream's last, so that its next one is higher. It must not know
//! clocks or streams. It does not cover clients that give no token.

use bytes::Bytes;
use countersign_effects::json::{Limits, Node, parse};
use serde_json::Value;

use crate::mcp::wire::notification_frame;

const METHOD: &str = "notifications/progress";
/// The most signs for one request; whoever waits longer is on its own.
const BEATS_MAX: u32 = 1_000;
/// A power of two, so that every step counts.
const STEP: f64 = 1.0 / 1_024.0;
/// Of the upstream's last value: more than any reader rounds away, and even a thousand of them less than one part in a billion.
const TRIFLE: f64 = STEP * STEP * STEP * STEP;

/// The signs of life of one request.
#[derive(Debug)]
pub(super) struct Pulse {
    /// The client's token, as it spelled it.
    token: Bytes,
    /// The last value that went out.
    last: f64,
    /// Whether the upstream has said how far it is.
    is_told: bool,
    left: u32,
}

impl Pulse {
    pub(super) const fn new(token: Bytes) -> Self {
        Self { token, last: -1.0, is_told: false, left: BEATS_MAX }
    }

    /// Takes note of an event that goes out.
    pub(super) fn heard(&mut self, event: &[u8]) {
        // Most events are no progress, and those need not be read.
        if !event.windows(METHOD.len()).any(|part| part == METHOD.as_bytes()) {
            return;
        }
        let limits = Limits { bytes_max: usize::MAX, depth_max: 128, nodes_max: usize::MAX };
        let Ok(node) = parse(event, &limits) else { return };
        if node.get("method").and_then(Node::as_str) != Some(METHOD) {
            return;
        }
        let value = node.get("params").and_then(|params| params.get("progress")?.as_number(event)?.parse::<f64>().ok());
        if let Some(value) = value.filter(|value| value.is_finite() && *value > self.last) {
            (self.last, self.is_told) = (value, true);
        }
    }

    /// The next sign, as a notification; none where there were enough.
    pub(super) fn beat(&mut self) -> Option<Bytes> {
        self.left = self.left.checked_sub(1)?;
        self.last = self.last + if self.is_told { self.last.abs().max(1.0) * TRIFLE } else { STEP };
        let value = serde_json::Number::from_f64(self.last).map(Value::Number)?;
        let token = String::from_utf8_lossy(&self.token);
        let params = format!(r#"{{"progressToken":{token},"progress":{value},"message":"still waiting"}}"#);
        Some(notification_frame(METHOD, Some(&params)).into())
    }
}

#[cfg(test)]
mod tests;
