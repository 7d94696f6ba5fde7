//! One era's messages as the other's, for a client and an upstream that do not speak the same one.
//!
//! Only the envelope changes: members of `_meta` and of results that one era has and the other has not, handshakes, and
//! filters of streams. Arguments, contents and definitions pass byte for byte, so what was judged is what is sent. What one
//! era cannot say in the other is refused in words. Pure: it must not know channels, callers or the record.
//! Specification: schema 2025-11-25 and schema 2026-07-28.
//!
//! # Not covered
//! Tasks, which the eras tell apart in more than their envelope; and the questions of a legacy upstream to a modern
//! client, which has no stream on which it could be asked.

pub(crate) mod hello;
pub(crate) mod input;
pub(crate) mod listen;
pub(crate) mod request;
pub(crate) mod result;

#[cfg(test)]
mod tests;

use countersign_effects::json::{DEPTH_CEILING, Limits};

use super::wire::{FrameError, INVALID_PARAMS, METHOD_NOT_FOUND};

/// How what was read before within limits is read again.
const AGAIN: Limits = Limits { bytes_max: usize::MAX, depth_max: DEPTH_CEILING, nodes_max: usize::MAX };

/// The member of `_meta` of every modern result with the server's name and version.
const SERVER: &str = "io.modelcontextprotocol/serverInfo";

/// A request that has no words in the other era.
fn unknown(method: &str) -> FrameError {
    let shown: String = method.escape_default().take(80).collect();
    let detail = format!("`{shown}` cannot be said in the era that the upstream speaks");
    FrameError { code: METHOD_NOT_FOUND, reason: countersign_model::ReasonCode::Unsupported, detail }
}

fn wrong(detail: &str) -> FrameError {
    FrameError { code: INVALID_PARAMS, ..FrameError::shape(detail) }
}
