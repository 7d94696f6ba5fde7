//! Consent: whether a human's signature on a proposal counts, and what it makes of the proposal.
//!
//! The signature is over the proposal's leaf hash, so it is for one action of one log. Agents cannot
//! consent: their keys are not enrolled, and only an enrolled human can enrol.

use countersign_model::command::consent_message;
use countersign_model::id::{HumanId, TicketId};
use countersign_model::record::Consent;
use ed25519_dalek::{Signature, VerifyingKey};

use crate::kernel::Kernel;
use crate::parked::{may_pass, passes};

/// A human's answer, as it came.
pub(crate) struct Answered {
    pub(crate) ticket: TicketId,
    pub(crate) human: HumanId,
    pub(crate) approved: bool,
    pub(crate) signature: Vec<u8>,
}

impl Kernel {
    /// The record of a consent that counts.
    ///
    /// # Errors
    /// Why it does not, for the human.
    pub(crate) fn consented(&self, answered: Answered) -> Result<Consent, String> {
        let Answered { ticket, human, approved, signature } = answered;
        if approved && self.erasures().next().is_some() {
            return Err("an erasure is under way; try again when it is done".to_owned());
        }
        let parked = self
            .state
            .parked
            .get(&ticket)
            .filter(|parked| parked.expires > self.state.now && !parked.is_granted)
            .ok_or_else(|| {
                format!("nothing waits under the ticket `{ticket}`: it lapsed, was answered, or never was")
            })?;
        let (leaf, leaf_hash) = parked
            .leaf
            .zip(parked.leaf_hash)
            .ok_or_else(|| format!("the proposal `{ticket}` is not yet on disk; try again"))?;
        let key = self.human_key(&human)?;
        let message = consent_message(&self.settings.log, &leaf_hash, &human, approved);
        if !is_signed(&key, &message, &signature) {
            return Err(not_signed(&human, &ticket));
        }
        if !parked.gates().iter().any(|gate| may_pass(gate, &human)) {
            return Err(format!("`{human}` is no approver of the gates of `{ticket}`"));
        }
        if approved && parked.consents.contains(&human) {
            return Err(format!("`{human}` has consented to `{ticket}` already"));
        }
        let consents = || parked.consents.iter().chain(std::iter::once(&human));
        let is_enough = approved && parked.gates().iter().all(|gate| passes(gate, consents()));
        let ttl_ms = self.settings.limits.grant_ttl_ms;
        Ok(Consent {
            grant_expires: is_enough.then(|| self.state.now.saturating_add_ms(ttl_ms)),
            proposal: leaf_hash,
            leaf,
            ticket,
            human,
            approved,
            signature,
            key,
        })
    }

    /// Whether a consent on record is signed by whom it names, over the proposal that it names. For one whose proposal
    /// cannot be read any more.
    ///
    /// # Errors
    /// That it is not, for people.
    pub(crate) fn is_signed_consent(&self, consent: &Consent) -> Result<(), String> {
        let Consent { ticket, human, approved, signature, key, proposal, .. } = consent;
        let message = consent_message(&self.settings.log, proposal, human, *approved);
        if self.human_key(human)? != *key || !is_signed(key, &message, signature) {
            return Err(not_signed(human, ticket));
        }
        Ok(())
    }

    fn human_key(&self, human: &HumanId) -> Result<[u8; 32], String> {
        self.state.humans.get(human).map(|enrolled| enrolled.key).ok_or_else(|| format!("`{human}` is not enrolled"))
    }
}

fn not_signed(human: &HumanId, ticket: &TicketId) -> String {
    format!("the signature is not `{human}`'s over this answer to the proposal `{ticket}`")
}

/// Whether `signature` is `key`'s over `message`, by the strict rules that leave no second reading.
pub(crate) fn is_signed(key: &[u8; 32], message: &[u8], signature: &[u8]) -> bool {
    let (Ok(key), Ok(signature)) = (VerifyingKey::from_bytes(key), Signature::from_slice(signature)) else {
        return false;
    };
    !key.is_weak() && key.verify_strict(message, &signature).is_ok()
}
