//! Going on with a call that was answered with a question: what the gate adds to it before the kernel judges it.
//!
//! The kernel compares commitments, so a continuation commits to its digest under the salt of the call that it goes on
//! with. That salt lies in the vault. Where it cannot be had (another caller's call, no call at all, erased, pruned) the
//! commitment is another one, and the kernel denies on record. It must not know a protocol, nor how a point keeps state.

use countersign_model::action::{Continues, input_digest, sealed_digest};
use countersign_model::payload::Salt;
use countersign_model::{Body, Digest, Principal, Reason, ReasonCode};

use countersign_effects::json::{self, Limits, Node};
use countersign_effects::secrets;

use crate::Gate;
use crate::call::Call;
use crate::catalog::{DigestKey, unreadable};

/// The key under which points authenticate state that a client carries. Derived from the installation's token key: the
/// same after a restart, and of no use for tokens. It does not print.
#[derive(Clone)]
pub struct StateKey([u8; 32]);

impl StateKey {
    /// The key with these bytes: for tests, and for a governor that is no gate.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub(crate) fn of(token_key: &[u8; 32]) -> Self {
        Self(Digest::of("countersign state key v1", &[token_key]).0)
    }

    /// The bytes, for the code that authenticates with them.
    #[must_use]
    pub const fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl std::fmt::Debug for StateKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StateKey(..)")
    }
}

/// The client's answers of a call, parsed; none where there are none.
pub(crate) fn answers(call: &Call, limits: &Limits) -> Result<Option<Node>, Reason> {
    if call.input.is_empty() {
        return Ok(None);
    }
    if call.continues.is_none() {
        return Err(Reason::because(ReasonCode::Malformed, "answers to a question, without the call that was asked"));
    }
    json::parse(&call.input, limits).map(Some).map_err(|error| unreadable(&error))
}

/// What a call goes on from, and with: canonical, without secrets, and with a digest over the true answers.
pub(crate) fn continues(call: &Call, answers: Option<&Node>, key: &DigestKey) -> Option<Continues> {
    let intent = call.continues.as_ref()?.intent;
    let input = answers.map_or_else(Vec::new, |node| json::canonical(node, &call.input));
    let digest = input_digest(&input);
    let Some(clean) = answers.and_then(|node| secrets::redacted(node, &call.input)) else {
        return Some(Continues { intent, input, digest, redactions: 0 });
    };
    let redactions = clean.places.len() as u64;
    Some(Continues { intent, input: clean.json, digest: sealed_digest(key.bytes(), &digest), redactions })
}

impl Gate {
    /// The salt of the digest of the call that this one goes on with, if that was the caller's own.
    pub(crate) fn continued_salt(&self, call: &Call) -> Option<Salt> {
        let stored = self.stored(call.continues.as_ref()?.intent.0).ok()?;
        let Body::Intent(attempt) = &stored.record.body else { return None };
        let of = |who: &Principal| (who.tenant.clone(), who.agent.clone(), who.run.clone());
        let is_own = of(&attempt.principal) == of(&call.caller.principal);
        stored.payload.filter(|_| is_own).map(|payload| payload.digest_salt)
    }

    /// The key under which points authenticate state that a client carries.
    #[must_use]
    pub fn state_key(&self) -> StateKey {
        self.0.state_key.clone()
    }
}
