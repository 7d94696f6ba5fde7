//! Where a listing of several upstreams goes on: a place of our own for each upstream that has more.
//!
//! A client that makes up a cursor gets no further than with a cursor that it makes up for one upstream: each is handed
//! to its own upstream, which knows it or does not. It must not know what is listed.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

/// The longest cursor, in bytes.
pub(crate) const CURSOR_BYTES_MAX: usize = 64 * 1024;

/// The upstreams with more to list, each with its own cursor.
pub(crate) type More = BTreeMap<String, String>;

/// A cursor for `more`; none where nothing has more.
pub(crate) fn written(more: &More) -> Option<String> {
    if more.is_empty() {
        return None;
    }
    let text = serde_json::to_vec(more).ok()?;
    Some(BASE64_URL_SAFE_NO_PAD.encode(text))
}

/// What a cursor of ours says; none where it is not one.
pub(crate) fn read(cursor: &str) -> Option<More> {
    if cursor.len() > CURSOR_BYTES_MAX {
        return None;
    }
    let text = BASE64_URL_SAFE_NO_PAD.decode(cursor).ok()?;
    let more: More = serde_json::from_slice(&text).ok()?;
    // One spelling only, so that no two cursors mean the same.
    (!more.is_empty() && written(&more).as_deref() == Some(cursor)).then_some(more)
}
