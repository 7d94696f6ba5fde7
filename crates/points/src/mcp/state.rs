//! Our `requestState`: what a client carries for us from an answer that asks to the same call with its answers.
//!
//! To a client it is one opaque text. It is authenticated (HMAC-SHA256 under a key of the installation) together with what
//! it is bound to: tenant, agent, session, run, upstream and the request itself. Those are not inside, so opening it with any
//! other of them fails like any other forgery, and there is one reason for all failures. It says nothing secret: what it
//! holds of the upstream, the client has been shown. It is opened before anything is decided, and opening it decides nothing: that a
//! call goes on once, and whether it still may, is the kernel's to judge.
//! Specification: 2026-07-28, `basic/patterns/mrtr`, server requirements 4 and 5.
//!
//! It must not know sockets or clocks: time comes in. It does not cover state of legacy clients; their sessions live here.

#[cfg(test)]
mod tests;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_effects::json::{Limits, canonical, parse};
use countersign_gate::StateKey;
use countersign_model::id::{TicketId, ToolName, UpstreamId};
use countersign_model::unit::{LeafIndex, TimeMs};
use countersign_model::{Digest, Principal, Reason, ReasonCode};

/// The most bytes of the upstream's own state, and of answers that are carried on.
pub const PART_BYTES_MAX: usize = 64 * 1024;
/// The most bytes of the names of what was asked.
pub const ASKED_BYTES_MAX: usize = 8 * 1024;
/// The longest text that is opened, in bytes: all parts and what is around them, in base64.
pub const TEXT_BYTES_MAX: usize = 280 * 1024;

const MARK: &str = "cs1.";
const MAC_BYTES: usize = 32;

/// What a client carries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// When the text is worth nothing any more. The kernel may say no earlier.
    pub expires: TimeMs,
    /// The intent of the call that was answered with a question; none where no call has run yet.
    pub continues: Option<LeafIndex>,
    /// The ticket under which the call waits; none where it does not.
    pub ticket: Option<TicketId>,
    /// The upstream's own state: the raw JSON of its `requestState`, to be sent back as it was; none where it sent none.
    pub upstream: Option<Vec<u8>>,
    /// The names of the upstream's questions that were handed over. No other answer is the upstream's to hear.
    pub asked: Vec<String>,
    /// The raw JSON of answers that the client gave already, for a call that was parked with them: a client sends only the
    /// answers to the last question.
    pub answers: Option<Vec<u8>>,
    /// The raw JSON of answers that came before there was a question. They are part of the action, so they come with it again.
    pub ahead: Option<Vec<u8>>,
}

/// What a state is good for, and for nothing else.
#[derive(Clone, Copy, Debug)]
pub struct Bound<'a> {
    /// Who was answered, from the token.
    pub principal: &'a Principal,
    /// Towards which upstream.
    pub upstream: &'a UpstreamId,
    /// The request: [`request`].
    pub request: &'a Digest,
}

/// Why there is no state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// A part is over [`PART_BYTES_MAX`], or the names of what was asked are over [`ASKED_BYTES_MAX`].
    #[error("the state that a client would have to carry has more than {PART_BYTES_MAX} bytes in a part")]
    Oversize,
    /// Not made here, changed, of another caller or request, or too old: one reason for all, for whoever tries.
    #[error("`requestState` is not one that this call was answered with, or it is too old; make the call anew")]
    Invalid,
}

impl StateError {
    /// The reason that records and agents see.
    #[must_use]
    pub fn reason(self) -> Reason {
        let code = match self {
            Self::Oversize => ReasonCode::Oversize,
            Self::Invalid => ReasonCode::ContinuationInvalid,
        };
        Reason::because(code, &self.to_string())
    }
}

/// The request that a state is bound to: its tool or method with the manifest, its arguments and the allow-listed `_meta`.
/// White space and the order of keys do not count, as in an action's digest. What cannot be read counts as it is spelled.
#[must_use]
pub fn request((tool, manifest): (&ToolName, &Digest), arguments: &[u8], meta: &[u8]) -> Digest {
    let plain = |raw: &[u8]| parse(raw, &Limits::default()).map_or_else(|_| raw.to_vec(), |node| canonical(&node, raw));
    let parts: [&[u8]; 4] = [tool.as_str().as_bytes(), &manifest.0, &plain(arguments), &plain(meta)];
    Digest::of("countersign state request v1", &parts)
}

/// The text that a client carries.
///
/// # Errors
/// [`StateError::Oversize`].
pub fn seal(key: &StateKey, bound: &Bound<'_>, state: &State) -> Result<String, StateError> {
    let parts = [&state.upstream, &state.answers, &state.ahead];
    let is_long = parts.into_iter().flatten().any(|part| part.len() > PART_BYTES_MAX);
    if is_long || names(&state.asked).is_some_and(|names| names.len() > ASKED_BYTES_MAX) {
        return Err(StateError::Oversize);
    }
    let mut body = encoded(state);
    let mac = hmac::sign(&mac_key(key), &message(&body, bound).0);
    body.extend_from_slice(mac.as_ref());
    Ok(format!("{MARK}{}", URL_SAFE_NO_PAD.encode(body)))
}

/// What a text carries, if it was made here for exactly this and is not too old at `now`.
///
/// # Errors
/// [`StateError::Invalid`], whatever is wrong.
pub fn open(key: &StateKey, bound: &Bound<'_>, text: &str, now: TimeMs) -> Result<State, StateError> {
    opened(key, bound, text).filter(|state| now < state.expires).ok_or(StateError::Invalid)
}

fn opened(key: &StateKey, bound: &Bound<'_>, text: &str) -> Option<State> {
    if text.len() > TEXT_BYTES_MAX {
        return None;
    }
    let bytes = URL_SAFE_NO_PAD.decode(text.strip_prefix(MARK)?).ok()?;
    let (body, mac) = bytes.split_at_checked(bytes.len().checked_sub(MAC_BYTES)?)?;
    // In constant time, and before a byte of it is read.
    hmac::verify(&mac_key(key), &message(body, bound).0, mac).ok()?;
    let state = decoded(body)?;
    (encoded(&state) == body).then_some(state)
}

fn mac_key(key: &StateKey) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, key.expose())
}

/// What is authenticated: no two bodies or bounds give the same.
fn message(body: &[u8], bound: &Bound<'_>) -> Digest {
    let Bound { principal, upstream, request } = bound;
    let parts: [&[u8]; 7] = [
        body,
        principal.tenant.as_str().as_bytes(),
        principal.agent.as_str().as_bytes(),
        principal.session.as_str().as_bytes(),
        principal.run.as_str().as_bytes(),
        upstream.as_str().as_bytes(),
        &request.0,
    ];
    Digest::of("countersign request state v1", &parts)
}

/// The names of questions as one part; none where nothing was asked.
fn names(asked: &[String]) -> Option<Vec<u8>> {
    (!asked.is_empty()).then(|| serde_json::Value::from(asked).to_string().into_bytes())
}

/// Seven parts, each preceded by its length plus one as four big-endian bytes, or by zero where it is not there.
fn encoded(state: &State) -> Vec<u8> {
    let continues = state.continues.map(|leaf| leaf.0.to_be_bytes().to_vec());
    let ticket = state.ticket.as_ref().map(|ticket| ticket.as_str().as_bytes().to_vec());
    let parts = [
        Some(state.expires.0.to_be_bytes().to_vec()),
        continues,
        ticket,
        state.upstream.clone(),
        names(&state.asked),
        state.answers.clone(),
        state.ahead.clone(),
    ];
    let mut out = Vec::new();
    for part in parts {
        let length =
            part.as_ref().map_or(0, |part| u32::try_from(part.len()).unwrap_or(u32::MAX - 1).saturating_add(1));
        out.extend_from_slice(&length.to_be_bytes());
        out.extend(part.into_iter().flatten());
    }
    out
}

fn decoded(body: &[u8]) -> Option<State> {
    let mut rest = body;
    let number = |part: Vec<u8>| Some(u64::from_be_bytes(part.try_into().ok()?));
    let expires = TimeMs(number(part(&mut rest)??)?);
    let continues = match part(&mut rest)? {
        Some(leaf) => Some(LeafIndex(number(leaf)?)),
        None => None,
    };
    let ticket = match part(&mut rest)? {
        Some(ticket) => Some(std::str::from_utf8(&ticket).ok()?.parse().ok()?),
        None => None,
    };
    let upstream = part(&mut rest)?;
    let asked = match part(&mut rest)? {
        Some(names) => serde_json::from_slice(&names).ok()?,
        None => Vec::new(),
    };
    let (answers, ahead) = (part(&mut rest)?, part(&mut rest)?);
    rest.is_empty().then_some(State { expires, continues, ticket, upstream, asked, answers, ahead })
}

/// The next part; the outer none where there is none to be read.
fn part(rest: &mut &[u8]) -> Option<Option<Vec<u8>>> {
    let (length, after) = rest.split_first_chunk::<4>()?;
    let Some(length) = usize::try_from(u32::from_be_bytes(*length)).ok()?.checked_sub(1) else {
        *rest = after;
        return Some(None);
    };
    let (part, after) = after.split_at_checked(length)?;
    *rest = after;
    Some(Some(part.to_vec()))
}
